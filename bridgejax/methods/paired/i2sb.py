"""I2SB: from a degraded source to its target along a Brownian bridge in a clock that is slow at both ends.

    x_t = (1 - m) target + m source + c eps,     m = sigma_t^2 / sigma^2,   c^2 = sigma_t^2 (1 - m),   target at t = 0
    regress on (x_t - target) / sigma_t
    step to u < t by the law of x_u given x_t and the predicted target: the reversal of Brownian motion (paired.py)

and without noise, kind="ode": x_t = (1 - m) target + m source. (Liu et al. 2023, arXiv 2302.05872.)
"""

from __future__ import annotations

import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import check_shape
from bridgejax._numerics import linear_combination
from bridgejax._types import Args, Decoder, Field, Numbers, Params, Scalar, State
from bridgejax.bridges import interpolants
from bridgejax.bridges._reverse import reverse
from bridgejax.bridges._transport import transport
from bridgejax.bridges.interpolants import Interpolant
from bridgejax.methods._arguments import PAIRED, TRAINING, NetworkLike, documented
from bridgejax.methods._ends import check_sigma
from bridgejax.methods._setup import Setup
from bridgejax.methods._spec import noise
from bridgejax.methods.paired import I2SB
from bridgejax.methods.paired.augmented_bridge import KINDS, beside_source, flipped, paired_method, plan
from bridgejax.networks import or_mlp
from bridgejax.objectives import matching
from bridgejax.objectives.times import TimeSampler
from bridgejax.processes import SDE, Schedule
from bridgejax.training import Method


def _cubes(s: Array, t: Array) -> Array:
    """4 (t^3 - s^3), factored: nothing cancels for t close to s."""
    return 4.0 * (t - s) * (t * t + t * s + s * s)


def _symmetric_variance(sigma: Scalar, s: Array, t: Array) -> Array:
    """Integral of 12 sigma^2 min(t, 1 - t)^2 from s to t."""
    first = _cubes(jnp.minimum(s, 0.5), jnp.minimum(t, 0.5))
    return sigma**2 * (first + _cubes(1.0 - jnp.maximum(t, 0.5), 1.0 - jnp.maximum(s, 0.5)))


def _one(s: Array, t: Array) -> Array:
    return jnp.ones_like(s * t)


def symmetric(sigma: float = 1.0) -> Schedule:
    """Brownian motion in I2SB's clock, slow at both ends: beta(t) = 12 sigma^2 min(t, 1 - t)^2, in all sigma^2."""
    check_sigma(sigma)
    return Schedule(Partial(_one), Partial(_symmetric_variance, sigma), Partial(jnp.zeros_like))


def _clean(schedule: Schedule, network: Field, t: Array, x: State, args: Args) -> State:
    """x - sigma_t network."""
    return linear_combination((1.0, x), (-schedule.sigma(t), network(t, x, args)))


def _blind(network: Field, t: Array, x: State, args: Args) -> State:
    return network(t, x, None)


def _inverse_variance(schedule: Schedule, t: Array) -> Array:
    return 1.0 / schedule.variance(0.0, t)


@documented(PAIRED, TRAINING)
def i2sb(
    network: NetworkLike | None = None,
    *,
    shape: tuple[int, ...],
    sigma: float = 0.5,
    kind: str = "sde",
    conditional: bool = False,
    time_sampler: TimeSampler | None = None,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = 0.999,
    accumulate: int = 1,
    ts: Numbers | None = None,
    decode: Decoder | None = None,
) -> Method:
    """Image-to-image Schroedinger bridge (I2SB): the denoiser's error from a degraded source, in the reference's units.

        x_t = (1 - m) target + m source + c eps,   m = sigma_t^2 / sigma^2,   c^2 = sigma_t^2 (1 - m)
        regress on (x_t - target) / sigma_t;  step to u < t by the posterior of x_u given x_t and the predicted target

    Args:
        network: a flax.nnx module or ``(apply, params)`` (None: ``networks.or_mlp``); its clock is the noising one,
            target (0) to source (1). Its ``args`` are None, or the source where ``conditional``.
        sigma: standard deviation of the reference over its whole clock (``symmetric``), in units of the data.
        kind: "sde"; "ode": the limit without noise, x_t = (1 - m) target + m source. Given the source there is then
            nothing left to draw, and the conditional ODE ends at E[target | source].
        conditional: whether the network sees the source. Without it the learnt process keeps the marginals, not the
            pairs, as plain bridge matching does.

    Returns:
        A Method whose data are dictionaries ``source``, ``target``: ``data.Pairs(..., coupling=couplings.paired)``.
        Its Process starts at its ``args``: ``sample(process, keys, sources)``.

    Raises:
        ValueError: sigma not positive, an unknown kind, independent pairs; at trace time rows of another shape.

    Example:
        >>> import bridgejax as bj, jax, jax.numpy as jnp
        >>> method = bj.methods.i2sb(shape=(2,))
        >>> state = jax.eval_shape(method.init, jax.random.key(0), None)
        >>> draw = lambda state, key: bj.sample(method.process(state), bj.keys(key, 5), jnp.zeros((5, 2)))
        >>> jax.eval_shape(draw, state, jax.random.key(1)).shape  # once fitted: draw(state, key)
        (5, 2)
    """
    network = or_mlp(network, check_shape(shape), seen=shape)
    apply = network.apply
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
    schedule = symmetric(sigma)
    path = interpolants.bridge(schedule)
    path = Interpolant(path.a, path.b) if kind == "ode" else path

    def denoiser(params: Params) -> Partial:
        bound = Partial(apply, params)
        return Partial(_clean, schedule, bound if conditional else Partial(_blind, bound))

    def clean(params: Params, t: Array, x: State, args: Args) -> State:
        return denoiser(params)(t, x, args)

    grid, sampler = plan(100, schedule, ts, time_sampler, noising=True)
    match = matching(path, clean, "x0", times=sampler, weight=Partial(_inverse_variance, schedule))

    def loss(params: Params, keys: Array, source: Array, target: Array) -> tuple[Array, dict[str, Array]]:
        return match(params, keys, {"source": target, "target": source, "args": source})

    def sdes(params: Params) -> tuple[SDE, None]:
        if kind == "sde":
            return reverse(schedule, denoiser=denoiser(params)), None
        return transport(path.reversed(), Partial(flipped, denoiser(params)), "x1"), None

    return paired_method(shape, network, loss, sdes, grid, (optimizer, ema, accumulate, decode))


def build(options: I2SB, setup: Setup) -> Method:
    """``i2sb`` by its options."""
    return i2sb(
        beside_source(setup),
        shape=setup.data.shape,
        sigma=noise("i2sb", options),
        kind=options.sampler,
        conditional=True,
        ts=options.sample_steps,
        **setup.common(),
    )
