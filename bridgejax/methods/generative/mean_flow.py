"""MeanFlow: learn the average velocity between two times, and go from noise to data in one step, or a few.

    z_t = (1 - t) x + t eps,    v(t, z) = E[eps - x | z_t = z],    dz/dt = v,       data at t = 0
    u(r, t, z_t) = (1/(t - r)) int_r^t v(s, z_s) ds,    so that    z_r = z_t - (t - r) u(r, t, z_t)

Differentiating (t - r) u along the flow gives an identity that needs no integral,

    u = v - (t - r) (v . grad_z u + d_t u),

and the loss regresses the network on its right side, with eps - x in place of v and the network's own derivative, one
Jacobian-vector product, held:

    || net(t, [z, t - r], c) - stop(eps - x - (t - r) d net(t, [z, t - r])[(1, eps - x, 1)]) ||^2.

For a share 1 - ``apart`` of the rows r = t, where this is flow matching. (Geng, Deng, Bai, Kolter & He 2025, Mean flows
for one-step generative modeling, arXiv 2505.13447.) Their weight 1/(|error|^2 + 0.001)^p is ``robust`` = p. It depends
on the sample's own error, so that for p > 0 the minimiser is no longer the mean but a robust one, which in high
dimension, where |error|^2 hardly varies, is the same.

The second time is shown as an array t - r beside the sample, along the last axis, so that any network takes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import check_like, check_nonnegative, check_number, check_shape
from bridgejax._numerics import as_wide, linear_combination, normal_like
from bridgejax._types import Args, Batch, Decoder, Field, Loss, Metrics, Network, Numbers, Params, State
from bridgejax.methods._arguments import TRAINING, NetworkLike, documented
from bridgejax.methods._setup import Setup
from bridgejax.methods.generative import MeanFlow
from bridgejax.methods.generative.diffusion import encoding
from bridgejax.networks import or_mlp
from bridgejax.objectives import times
from bridgejax.objectives._matching import unpack
from bridgejax.objectives.times import TimeSampler
from bridgejax.processes import SDE, Kernel, Process, starts
from bridgejax.processes._keys import streams
from bridgejax.solve import grids
from bridgejax.training import Method, adam, gradient_method

_STEPS = 2
_FLOOR = 1e-3  # of the squared error in the robust weight


def _average(net: Field, r: Array, t: Array, z: State, args: Args) -> State:
    """u(r, t, z)."""
    shown = jnp.concatenate([z, jnp.broadcast_to(t - r, z.shape).astype(z.dtype)], axis=-1)
    return check_like(net(t, shown, args), z, "what the network returns", "a sample")


@dataclass(frozen=True)
class _Objective:
    apply: Network
    apart: float
    robust: float

    def __call__(self, params: Params, key: Array, r: Array, t: Array, x: State, args: Args) -> tuple[Array, Array]:
        """The loss of one sample, and its squared error per coordinate."""
        eps = normal_like(key, x)
        z, v = linear_combination((1.0 - t, x), (t, eps)), linear_combination((1.0, eps), (-1.0, x))
        net, moving = partial(self.apply, params), ((z, t), (v, jnp.ones_like(t)))
        u, slope = jax.jvp(lambda z, t: _average(net, r, t, z, args), *moving)
        target = jax.lax.stop_gradient(linear_combination((1.0, v), (r - t, slope)))
        error = jnp.sum((as_wide(u) - as_wide(target)) ** 2)
        weight = jax.lax.stop_gradient((error + _FLOOR) ** -self.robust) if self.robust else 1.0 / x.size
        return weight * error, error / x.size


def _loss(one: _Objective, draw: TimeSampler, params: Params, keys: Array, batch: Batch) -> tuple[Array, Metrics]:
    x, x1, args = unpack(batch)
    if x1 is not None:
        raise ValueError("mean_flow runs from noise: give batches with x (data alone), not source and target")
    parts = streams(keys, "loss", 4)
    first, second = draw(parts[:, 0]), draw(parts[:, 1])
    t = jnp.maximum(first, second)
    apart = jax.vmap(lambda key: jax.random.bernoulli(key, one.apart))(parts[:, 2])
    r = jnp.where(apart, jnp.minimum(first, second), t)
    losses, errors = jax.vmap(one, (None, 0, 0, 0, 0, 0))(params, parts[:, 3], r, t, x, args)
    return jnp.mean(losses), {"error": jnp.mean(errors)}


# the process, on the clock s = 1 - t ----------------------------------------------------------------------------------


def _drift(net: Field, s: Array, x: State, args: Args) -> State:
    """-v, the velocity at an instant."""
    return linear_combination((-1.0, _average(net, 1.0 - s, 1.0 - s, x, args)))


def _move(net: Field, key: Array, s: Array, u: Array, x: State, args: Args) -> State:
    """One step of any length by the average velocity."""
    return linear_combination((1.0, x), (s - u, _average(net, 1.0 - u, 1.0 - s, x, args)))


@documented(TRAINING)
def mean_flow(
    network: NetworkLike | None = None,
    *,
    shape: tuple[int, ...],
    apart: float = 0.25,
    robust: float = 0.0,
    time_sampler: TimeSampler | None = None,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = 0.999,
    accumulate: int = 1,
    ts: Numbers | None = None,
    null: int | None = None,
    decode: Decoder | None = None,
) -> Method:
    """MeanFlow as a Method: one network, samples in one evaluation or a few.

    A step of the process is exact for the exact network, however long, so ``ts`` has as many steps as evaluations are
    to be spent: ``bj.sample(process, keys, ts=bj.grids.uniform(1))``. Densities and backward runs use the velocity at
    an instant, and so does a solver that is named. (Geng, Deng, Bai, Kolter & He 2025, Mean flows for one-step
    generative modeling, arXiv 2505.13447.)

    Args:
        network: a flax.nnx module or ``(apply, params)`` (None: ``networks.or_mlp``) with ``apply(params, t, x,
            args)``, t in [0, 1] with noise at 1; x is the sample and an array of t - r beside it along the last axis,
            which is twice as long; it returns an array of the sample's shape, and has second derivatives (no relu).
        shape: shape of one sample, of one axis at least.
        apart: share of samples that are trained on two times, in [0, 1]; the others are flow matching.
        robust: p of the weight 1/(|error|^2 + 0.001)^p, >= 0; 0: mean squares, whose minimiser is the average velocity.
        time_sampler: of both times, see ``objectives.times``; default logit-normal with mean -0.4.
        ts: grid of the process on the clock from noise (0) to data (1); default 2 even steps.
        null: number of classes, for the network that is made where none is given.

    Returns:
        A Method whose data are arrays ``(n, *shape)`` or dictionaries ``x``, ``label``. Metrics: "loss", "grad_norm"
        and "error", the squared error per coordinate.

    Raises:
        ValueError: a share or a weight out of range, a shape without axes, options of ``gradient_method``.

    Example:
        >>> import bridgejax as bj, jax
        >>> method = bj.methods.mean_flow(shape=(2,))
        >>> state = jax.eval_shape(method.init, jax.random.key(0), None)
        >>> draw = lambda state, key: bj.sample(method.process(state), bj.keys(key, 5), ts=bj.grids.uniform(1))
        >>> jax.eval_shape(draw, state, jax.random.key(1)).shape  # once fitted: draw(state, key)
        (5, 2)
    """
    shape = check_shape(shape)
    if not shape:
        raise ValueError("shape must have an axis, along which the second time is shown, got (); use (1,)")
    check_number(apart=apart, robust=robust)
    check_nonnegative(robust=robust)
    if not 0.0 <= apart <= 1.0:
        raise ValueError(f"apart must be a share in [0, 1], got {apart}")
    if time_sampler is not None and not callable(time_sampler):
        raise ValueError(f"time_sampler must be a function of keys, got {type(time_sampler).__name__}")
    apply, params = or_mlp(network, (*shape[:-1], 2 * shape[-1]), outputs=shape, null=null)
    draw = times.logit_normal(-0.4, 1.0) if time_sampler is None else time_sampler
    loss: Loss = partial(_loss, _Objective(apply, float(apart), float(robust)), draw)
    start, grid = starts.normal(shape), grids.uniform(_STEPS) if ts is None else jnp.asarray(ts)

    def process(params: Params) -> Process:
        net = Partial(apply, params)
        backward = encoding(SDE(Partial(_drift, net)))
        flow = SDE(Partial(_drift, net), kernel=Kernel(Partial(_move, net)))
        return Process(start, flow, grid, backward) if decode is None else Process(start, flow, grid, backward, decode)

    optimizer = adam(schedule="constant") if optimizer is None else optimizer
    return gradient_method(loss, process, optimizer, ema, accumulate, params=params)


def build(options: MeanFlow, setup: Setup) -> Method:
    """``mean_flow`` by its options."""
    return mean_flow(
        setup.network(views=2),
        shape=setup.data.shape,
        apart=options.apart,
        robust=options.robust,
        ts=grids.uniform(options.sample_steps or _STEPS),
        null=setup.null,
        **setup.common(),
    )
