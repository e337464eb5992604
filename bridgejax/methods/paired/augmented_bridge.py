"""Bridges for data that come in pairs: they learn the law of the target given the source, not the two marginals alone.

    bridge     x_t between source and target: the reference conditioned on both, data.Pairs with couplings.paired
    learn      D(t, x, source) = E[target | x_t = x, source]
    sample     from the source itself, by the reference's reversal with D in the denoiser's place

The last line is Doob's: seen from the source, a bridge's drift is a function of x_t and its other end alone, the
same as in a diffusion model; what is new is where it starts and what D is shown. Without the source (plain bridge
matching, I2SB as published) the process is the Markov projection: both marginals are right, the pairs are forgotten
(De Bortoli et al. 2023, arXiv 2311.06978).

With the noising clock's 0 at the target, x_t = a x_0 + b y + c eps, and x_t - b y is a diffusion of its own (``held``)
of signal-to-noise ratio a^2 / c^2 = SNR_t - SNR_T: nothing at the source, everything at the target. Steps even in its
logarithm make all references the same sampler. The default solver is of first order: its 100
steps miss conditional covariances by more than the sampling error of 4,096 draws, those of
``solver=DPMSolverPP2M(eta=1.0)`` do not (experiments/paired.py).

    augmented_bridge   here: a Brownian bridge, the network predicts the target (or the drift)
    i2sb.py            a slow-fast-slow clock, the network predicts the target's error; a limit without noise
    bdbm.py            one network for both directions
    ddbm.py            any schedule, preconditioned
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import Partial

from bridgejax import couplings
from bridgejax._checks import check_count, check_shape, describe, is_real
from bridgejax._numerics import safe_divide, safe_log
from bridgejax._summary import summary
from bridgejax._types import (
    Args,
    Batch,
    Data,
    Decoder,
    Field,
    MethodState,
    Metrics,
    Network,
    Numbers,
    Params,
    PyTree,
    Shape,
    StartLaw,
    State,
)
from bridgejax.bridges import interpolants
from bridgejax.bridges._reverse import reverse
from bridgejax.bridges.predictions import convert
from bridgejax.methods._arguments import PAIRED, TRAINING, NetworkLike, documented
from bridgejax.methods._ends import check_ends, check_sigma
from bridgejax.methods._setup import Setup
from bridgejax.methods._spec import noise
from bridgejax.methods.paired import AugmentedBridge
from bridgejax.networks import Functional, functional, or_mlp
from bridgejax.objectives import matching, times
from bridgejax.objectives.times import TimeSampler
from bridgejax.processes import SDE, Process, Schedule, schedules, starts
from bridgejax.solve import grids
from bridgejax.solve._accepted import check_times
from bridgejax.training import Method, adam, gradient_method

KINDS = ("sde", "ode")

# what paired methods share --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SourcePoint:
    """Start at the sample's own condition, a source point of this shape."""

    shape: tuple[int, ...]

    __repr__ = summary

    def __call__(self, key: Array, args: Args) -> State:
        """The source."""
        if not is_real(args) or jnp.shape(args) != self.shape:
            raise ValueError(
                f"args must be source points, each of shape {self.shape}, where this process starts; "
                f"got {describe(args)}"
            )
        return args


def check_pairs(data: Data) -> None:
    """Raise a ``ValueError`` for data whose pairs are drawn at random: there is no law given the source to learn."""
    coupling = getattr(data, "coupling", couplings.paired)
    if coupling is None or coupling is couplings.independent:
        raise ValueError(
            "data has independently drawn pairs, and a paired bridge learns the target given its source; pass "
            "coupling=couplings.paired to data.Pairs (or use bridge_matching)"
        )


def paired_method(
    shape: Shape,
    network: Functional,
    loss: Callable[..., tuple[Array, Metrics]],
    sdes: Callable[[Params], tuple[SDE, SDE | None]],
    grid: Array,
    options: tuple[optax.GradientTransformation | None, float | None, int, Decoder | None],
    start: Callable[[Params, PyTree], StartLaw] | None = None,
) -> Method:
    """A Method of ``loss(params, keys, source, target)`` and ``sdes(params)``.

    Args:
        shape: of a sample.
        network: as a pair.
        loss: the mean over the batch, and metrics.
        sdes: the SDE from source to target, and the one back or None.
        grid: of the process.
        options: optimizer, ema, accumulate, decode.
        start: ``start(params, source_point)``, a start law made of the one at the source point; None: that one.
    """
    optimizer, ema, accumulate, decode = options
    shape = starts.normal(shape).mean.shape  # refuses what is no shape
    source_point = SourcePoint(shape)

    def on_pairs(params: Params, keys: Array, batch: Batch) -> tuple[Array, dict[str, Array]]:
        return loss(params, keys, *check_ends(batch, shape))

    def process(params: Params) -> Process:
        sde, backward = sdes(params)
        begin = source_point if start is None else start(params, source_point)
        return Process(begin, sde, grid, backward) if decode is None else Process(begin, sde, grid, backward, decode)

    optimizer = adam(schedule="constant") if optimizer is None else optimizer
    method = gradient_method(on_pairs, process, optimizer, ema, accumulate, params=network.params)

    def init(key: Array, data: Data) -> MethodState:
        check_pairs(data)
        return method.init(key, data)

    return method._replace(init=init)


def end_conditioned(schedule: Schedule) -> Schedule:
    """The schedule conditioned to end at 0: x_t - b y of its bridge to y, with alpha = a, sigma = c."""
    scale, variance, log_alpha = (
        Partial(f, schedule) for f in (_end_conditioned_scale, _end_conditioned_variance, _end_conditioned_log_alpha)
    )
    return Schedule(scale, variance, log_alpha, schedule.T, zero_terminal_snr=True)


def _left(schedule: Schedule, s: Array, t: Array) -> Array:
    return safe_divide(schedule.variance(t, schedule.T), schedule.variance(s, schedule.T))


def _end_conditioned_scale(schedule: Schedule, s: Array, t: Array) -> Array:
    return schedule.scale(s, t) * _left(schedule, s, t)


def _end_conditioned_variance(schedule: Schedule, s: Array, t: Array) -> Array:
    return schedule.variance(s, t) * _left(schedule, s, t)


def _end_conditioned_log_alpha(schedule: Schedule, t: Array) -> Array:
    return schedule.log_alpha(t) + safe_log(_left(schedule, jnp.zeros_like(t), t))


def steps(num: int, schedule: Schedule) -> Array:
    """Grid from the source, even in what x_t tells of the target beside the source, log(a^2 / c^2) from -6 to 10.

    Before it lies 0.2 % of the information on data of unit variance, and 5e-5 of their variance is left after it.
    """
    return grids.log_snr(num, end_conditioned(schedule), log_snr_min=-6.0)


def plan(
    num: int, schedule: Schedule, ts: Numbers | None, sampler: TimeSampler | None, *, noising: bool
) -> tuple[Array, TimeSampler]:
    """The grid and the times of training; the default of either is ``steps``.

    Args:
        num: steps by default.
        schedule: the reference.
        ts: a grid, or a number of steps; None: ``num``.
        sampler: times of training; None: along ``num`` steps.
        noising: whether the times are on the noising clock.
    """
    if sampler is None:
        default = steps(num, schedule)
        sampler = times.along(((schedule.T - default)[::-1] if noising else default)[1:-1])
    if ts is None or isinstance(ts, int):
        return steps(num if ts is None else check_count("ts", ts, 2), schedule), sampler
    return check_times(schedule.T, ts)[0], sampler


def flipped(predict: Field, t: Array, x: State, args: Args) -> State:
    """A function of the transport clock on the noising clock of a reference with T = 1."""
    return predict(1.0 - t, x, args)


# augmented bridge matching --------------------------------------------------------------------------------------------


@documented(PAIRED, TRAINING)
def augmented_bridge(
    network: NetworkLike | None = None,
    *,
    shape: tuple[int, ...],
    sigma: float = 0.5,
    predict: str = "residual",
    time_sampler: TimeSampler | None = None,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = 0.999,
    accumulate: int = 1,
    ts: Numbers | None = None,
    decode: Decoder | None = None,
) -> Method:
    """Brownian-bridge matching whose network also sees the start: it keeps the coupling of the pairs.

    Args:
        network: a flax.nnx module or ``(apply, params)`` (None: ``networks.or_mlp``); its clock runs from source (0)
            to target (1) and its ``args`` are the source (``MLP(shape, cond_dim=size)``).
        sigma: noise of the bridge per square root of unit time, in units of the data.
        predict: "residual" (target less state, over sqrt(1 - t)), "x1" (the target) or "drift".

    Returns:
        A Method whose data are dictionaries ``source``, ``target``: ``data.Pairs(..., coupling=couplings.paired)``.
        Its Process starts at its ``args``: ``sample(process, keys, sources)``.

    Raises:
        ValueError: sigma not positive, another prediction, independent pairs; at trace time rows of another shape.

    Example:
        >>> import bridgejax as bj, jax, jax.numpy as jnp
        >>> method = bj.methods.augmented_bridge(shape=(2,))
        >>> state = jax.eval_shape(method.init, jax.random.key(0), None)
        >>> draw = lambda state, key: bj.sample(method.process(state), bj.keys(key, 5), jnp.zeros((5, 2)))
        >>> jax.eval_shape(draw, state, jax.random.key(1)).shape  # once fitted: draw(state, key)
        (5, 2)
    """
    check_sigma(sigma)
    network = or_mlp(network, check_shape(shape), seen=shape)
    apply = network.apply
    if predict not in ("x1", "residual", "drift"):
        raise ValueError(f"predict must be 'x1', 'residual' or 'drift', got {predict!r}")
    path, schedule = interpolants.brownian(sigma), schedules.brownian(sigma)
    grid, sampler = plan(100, schedule, ts, time_sampler, noising=False)
    match = matching(path, apply, predict, times=sampler)

    def loss(params: Params, keys: Array, source: Array, target: Array) -> tuple[Array, dict[str, Array]]:
        return match(params, keys, {"source": source, "target": target, "args": source})

    def sdes(params: Params) -> tuple[SDE, None]:
        end = convert(path, Partial(apply, params), predict, "x1")
        return reverse(schedule, denoiser=Partial(flipped, end)), None

    return paired_method(shape, network, loss, sdes, grid, (optimizer, ema, accumulate, decode))


# by name --------------------------------------------------------------------------------------------------------------


def _beside(apply: Network, params: Params, t: Array, x: Array, args: Array) -> Array:
    """The state and its source, channel by channel: a U-Net sees which pixel belongs to which."""
    return apply(params, t, jnp.concatenate([x, args], axis=-1), None)


def beside_source(setup: Setup) -> tuple[Network, Params]:
    """The network that was asked for, shown the state and its source."""
    apply, params = functional(setup.network(views=2))
    return partial(_beside, apply), params


def build(options: AugmentedBridge, setup: Setup) -> Method:
    """``augmented_bridge`` by its options."""
    return augmented_bridge(
        beside_source(setup),
        shape=setup.data.shape,
        sigma=noise("augmented_bridge", options),
        predict=options.predict,
        ts=options.sample_steps,
        **setup.common(),
    )
