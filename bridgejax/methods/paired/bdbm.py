"""BDBM: one network that translates both ways.

    x_t = (1 - t) x_0 + t x_1 + sigma sqrt(t (1 - t)) eps
    given x_t and one end, drawn by a coin, regress on the residual to the other one:
    (x_1 - x_t) / sqrt(1 - t) where the source is known, (x_0 - x_t) / sqrt(t) where the target is
    sample from either end, by the reversal of Brownian motion (paired.py)

(Bidirectional diffusion bridge models, 2025, arXiv 2502.09655, who regress on x_0 + x_1 or on the noise: near the end
what is left is the small difference of large numbers there.)
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import check_shape
from bridgejax._numerics import as_time, linear_combination, normal_like, safe_sqrt
from bridgejax._types import Args, Decoder, Field, Network, Numbers, Params, Scalar, State
from bridgejax.bridges import interpolants
from bridgejax.bridges._reverse import reverse
from bridgejax.methods._arguments import PAIRED, TRAINING, NetworkLike, documented
from bridgejax.methods._ends import check_sigma
from bridgejax.methods._setup import Setup
from bridgejax.methods._spec import noise
from bridgejax.methods.paired import BDBM
from bridgejax.methods.paired.augmented_bridge import paired_method, plan
from bridgejax.networks import functional, or_mlp
from bridgejax.objectives._matching import check_functions, squared_error
from bridgejax.objectives.times import TimeSampler
from bridgejax.processes import SDE, schedules
from bridgejax.processes._keys import streams
from bridgejax.training import Method


def _context(known: State, side: Scalar) -> Array:
    """What the network is shown beside x_t: an end, and which one, (2, *shape)."""
    return jnp.stack([known, jnp.broadcast_to(2.0 * side - 1.0, jnp.shape(known)).astype(known.dtype)])


def _other_end(side: Scalar, network: Field, t: Array, x: State, args: Args) -> State:
    """The end across from the known one, args (side 0: the source); t on the noising clock, 0 at the end sought."""
    clock = side * t + (1.0 - side) * (1.0 - t)
    return linear_combination((1.0, x), (safe_sqrt(as_time(t)), network(clock, x, _context(args, side))))


@documented(PAIRED, TRAINING)
def bdbm(
    network: NetworkLike | None = None,
    *,
    shape: tuple[int, ...],
    sigma: float = 0.5,
    time_sampler: TimeSampler | None = None,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = 0.999,
    accumulate: int = 1,
    ts: Numbers | None = None,
    decode: Decoder | None = None,
) -> Method:
    """Bidirectional diffusion bridge: one network translates both ways.

        x_t = (1 - t) x_0 + t x_1 + sigma sqrt(t (1 - t)) eps;  one end, drawn by a coin, is the context
        regress on (x_1 - x_t) / sqrt(1 - t) or (x_0 - x_t) / sqrt(t), the residual to the other one

    Args:
        network: a flax.nnx module or ``(apply, params)`` (None: ``networks.or_mlp``); its clock runs from source (0)
            to target (1). Its ``args`` have shape (2, *shape): the known end, and a row of -1 (it is the source) or
            +1 (the target), so ``MLP(shape, cond_dim=2 * size)``.
        sigma: noise of the bridge per square root of unit time, in units of the data.
        decode: ``decode(key, x, args)``, applied to forward samples.

    Returns:
        A Method whose data are dictionaries ``source``, ``target``: ``data.Pairs(..., coupling=couplings.paired)``.
        Forward ``sample(process, keys, sources)``; back ``sample(process, keys, targets, x=targets,
        direction="backward")``.

    Raises:
        ValueError: sigma not positive, independent pairs; at trace time rows of another shape.

    Example:
        >>> import bridgejax as bj, jax, jax.numpy as jnp
        >>> method = bj.methods.bdbm(shape=(2,))
        >>> state = jax.eval_shape(method.init, jax.random.key(0), None)
        >>> draw = lambda state, key: bj.sample(method.process(state), bj.keys(key, 5), jnp.zeros((5, 2)))
        >>> jax.eval_shape(draw, state, jax.random.key(1)).shape  # once fitted: draw(state, key)
        (5, 2)
    """
    check_sigma(sigma)
    shape = check_shape(shape)
    network = or_mlp(network, shape, seen=(2, *shape))
    apply = network.apply
    check_functions(apply, time_sampler, None)
    path, schedule = interpolants.brownian(sigma), schedules.brownian(sigma)
    grid, sampler = plan(100, schedule, ts, time_sampler, noising=False)

    def one(params: Params, keys: Array, t: Array, x0: Array, x1: Array) -> Array:
        side = jax.random.bernoulli(keys[0]).astype(x0.dtype)
        x = path(t, x0, x1, normal_like(keys[1], x0))
        known, sought = jnp.where(side == 0, x0, x1), jnp.where(side == 0, x1, x0)
        left = (sought - x) / jnp.sqrt(jnp.where(side == 0, 1.0 - t, t))
        return squared_error(apply(params, t, x, _context(known, side)), left)

    def loss(params: Params, keys: Array, source: Array, target: Array) -> tuple[Array, dict[str, Array]]:
        parts = streams(keys, "loss", 3)
        losses = jax.vmap(one, (None, 0, 0, 0, 0))(params, parts[:, 1:], sampler(parts[:, 0]), source, target)
        return jnp.mean(losses), {}

    def sdes(params: Params) -> tuple[SDE, SDE]:
        ahead, backward = (Partial(_other_end, side, Partial(apply, params)) for side in (0.0, 1.0))
        return reverse(schedule, denoiser=ahead), reverse(schedule, denoiser=backward)

    return paired_method(shape, network, loss, sdes, grid, (optimizer, ema, accumulate, decode))


def _with_context(apply: Network, params: Params, t: Array, x: Array, args: Array) -> Array:
    """The state, the known end and which one it is."""
    return apply(params, t, jnp.concatenate([x, args[0], args[1]], axis=-1), None)


def build(options: BDBM, setup: Setup) -> Method:
    """``bdbm`` by its options."""
    apply, params = functional(setup.network(views=3))
    network = partial(_with_context, apply), params
    return bdbm(network, shape=setup.data.shape, sigma=noise("bdbm", options), **setup.common())
