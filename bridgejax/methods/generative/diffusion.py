"""Diffusion models: learn E[x0 | x_t] along a noising schedule, sample its reversal.

    train     x_t = alpha x0 + sigma eps,   || net(t, x_t, c) - q ||^2  with q = x0, eps, score or velocity
    sample    reverse SDE, or probability flow, of the same schedule, from N(0, (alpha(T)^2 s^2 + sigma(T)^2) I)

with s^2 the variance of the data: exact for data N(0, s^2 I) whatever signal the schedule keeps at T, and near for all
where it keeps little.

Any schedule goes with any prediction and any weighting (Song et al. 2021, arXiv 2011.13456; Kingma & Gao 2023, arXiv
2303.00848). Class conditioning is learnt together with the unconditional law by dropping the condition, so the same
network is guided without a classifier (Ho & Salimans 2022, arXiv 2207.12598).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial

from bridgejax._checks import check_number, check_shape
from bridgejax._numerics import linear_combination
from bridgejax._types import Args, Decoder, Field, Numbers, Params, Scalar, StartLaw, State
from bridgejax.bridges import guidance, interpolants
from bridgejax.bridges._reverse import probability_flow, reverse
from bridgejax.bridges.predictions import convert
from bridgejax.methods._arguments import CLASSES, TRAINING, NetworkLike, arguments, check_guidance, documented
from bridgejax.methods._setup import Setup
from bridgejax.methods.generative import EDM, Diffusion
from bridgejax.networks import edm_precondition, or_mlp
from bridgejax.objectives import matching, times, weightings
from bridgejax.objectives.times import TimeSampler
from bridgejax.processes import SDE, Process, Schedule, noising, schedules, starts
from bridgejax.processes._schedule import check_schedule
from bridgejax.solve import grids
from bridgejax.training import Method, adam, gradient_method

SAMPLERS = ("ode", "sde")
_SIGNAL = 0.1  # alpha(T)^2 s^2 / sigma(T)^2 from where samples of data that are not Gaussian may show their start


def _encode_drift(flow: SDE, t: Array, x: State, args: Args) -> State:
    return linear_combination((-1.0, flow.drift(flow.T - t, x, args)))


def encoding(flow: SDE) -> SDE:
    """A probability flow walked backwards, from data to noise, on the noising clock."""
    return SDE(Partial(_encode_drift, flow), None, flow.T)


def reversal(
    schedule: Schedule, denoiser: Field, start: StartLaw, grid: Array, sampler: str, decode: Decoder | None
) -> Process:
    """The Process of a denoiser: the probability flow or the reverse SDE from ``start``, with the way back to noise."""
    if sampler == "ode":
        sde = probability_flow(schedule, denoiser=denoiser)
        backward = encoding(sde)
    else:
        sde, backward = reverse(schedule, denoiser=denoiser), noising(schedule)
    return Process(start, sde, grid, backward) if decode is None else Process(start, sde, grid, backward, decode)


def guided_denoiser(schedule: Schedule, network: Field, predict: str, guidance_scale: float, null: Args) -> Field:
    """E[x0 | x_t] of a network that predicts x0, eps, score or velocity, with classifier-free guidance."""
    denoiser = convert(schedule, network, predict, "x0")
    return denoiser if guidance_scale == 1.0 else guidance.classifier_free(denoiser, guidance_scale, null)


def sampling_grid(schedule: Schedule, sampler: str, ts: Numbers | None) -> Array:
    """``ts``, or 40 steps (ode) or 200 (sde) even in log SNR."""
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler must be one of {SAMPLERS}, got {sampler!r}")
    return grids.log_snr(40 if sampler == "ode" else 200, schedule) if ts is None else jnp.asarray(ts)


def end_deviation(schedule: Schedule, sigma_data: Scalar) -> Array:
    """The deviation of x_T for data of deviation ``sigma_data``; warns where much of it is the data."""
    signal, noise, both = _at_end(schedule, sigma_data)
    if not isinstance(both, Tracer) and float(signal) > _SIGNAL * float(noise):
        warnings.warn(
            f"the schedule keeps signal at T: alpha(T)^2 sigma_data^2 = {signal:.3g} beside sigma(T)^2 = {noise:.3g}. "
            "Samples start from a Gaussian of their sum, which is the law at T of data N(0, sigma_data^2 I) only; for "
            "others use a schedule that ends in noise (a larger sigma or T, or schedules.cosine)",
            stacklevel=3,
        )
    return both


@jax.jit
def _at_end(schedule: Schedule, sigma_data: Scalar) -> tuple[Array, Array, Array]:
    """Variance at T of the data's part, of the noise, and the deviation of both."""
    signal = (schedule.alpha(schedule.T) * sigma_data) ** 2
    noise = schedule.variance(0.0, schedule.T)
    return signal, noise, jnp.sqrt(signal + noise)


@documented(TRAINING, CLASSES)
def diffusion(
    schedule: Schedule,
    network: NetworkLike | None = None,
    *,
    shape: tuple[int, ...],
    predict: str = "eps",
    weighting: str | None = None,
    time_sampler: TimeSampler | None = None,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = 0.999,
    accumulate: int = 1,
    sampler: str = "ode",
    ts: Numbers | None = None,
    null: Args = None,
    condition_dropout: float = 0.0,
    guidance_scale: float = 1.0,
    decode: Decoder | None = None,
    sigma_data: float = 1.0,
) -> Method:
    """A diffusion model as a Method.

    Args:
        schedule: noise schedule; its clock is the noising clock of the network. Where it keeps signal at T
            (alpha(T)^2 sigma_data^2 above a tenth of sigma(T)^2) a warning says that the start is a Gaussian fit.
        network: a flax.nnx module or ``(apply, params)`` (None: ``networks.or_mlp``) with ``apply(params, t, x,
            args)``.
        shape: shape of one sample.
        predict: what the network's output means: x0, eps, score or velocity.
        weighting: see ``objectives.weightings``; None: weight 1 on the network's output.
        time_sampler: see ``objectives.times``; default uniform on [1e-3 T, T].
        sampler: "ode" (probability flow) or "sde" (reverse SDE).
        ts: grid of the process; default 40 steps (ode) or 200 (sde) even in log SNR.
        sigma_data: standard deviation of the data, for the start and the "edm" weighting.

    Returns:
        A Method whose data are arrays ``(n, *shape)`` or dictionaries ``x``, ``label``.

    Raises:
        ValueError: an unknown prediction, weighting or sampler.

    Example:
        >>> import bridgejax as bj, jax
        >>> method = bj.methods.diffusion(bj.schedules.cosine(), shape=(2,))
        >>> state = jax.eval_shape(method.init, jax.random.key(0), None)
        >>> draw = lambda state, key: bj.sample(method.process(state), bj.keys(key, 5))
        >>> jax.eval_shape(draw, state, jax.random.key(1)).shape  # once fitted: draw(state, key)
        (5, 2)
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler must be one of {SAMPLERS}, got {sampler!r}")
    check_guidance(guidance_scale, null)
    check_schedule(schedule)
    apply, params = or_mlp(network, shape, null=null, time_scale=1.0 / schedule.T)
    weight = weightings.weight(schedule, predict, weighting, sigma_data)
    loss = matching(
        interpolants.diffusion(schedule),
        apply,
        predict,
        times=time_sampler,
        weight=weight,
        condition_dropout=condition_dropout,
        null=null,
    )
    check_shape(shape)
    grid = sampling_grid(schedule, sampler, ts)
    start = starts.normal(shape, end_deviation(schedule, sigma_data))

    def process(params: Params) -> Process:
        denoiser = guided_denoiser(schedule, Partial(apply, params), predict, guidance_scale, null)
        return reversal(schedule, denoiser, start, grid, sampler, decode)

    optimizer = adam(schedule="constant") if optimizer is None else optimizer
    return gradient_method(loss, process, optimizer, ema, accumulate, params=params)


@documented(arguments(diffusion.__doc__ or ""))
def edm(
    network: NetworkLike | None = None,
    *,
    shape: tuple[int, ...],
    sigma_data: float = 0.5,
    sigma_max: float = 80.0,
    time_sampler: TimeSampler | None = None,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = 0.999,
    accumulate: int = 1,
    sampler: str = "ode",
    ts: Numbers | None = None,
    null: Args = None,
    condition_dropout: float = 0.0,
    guidance_scale: float = 1.0,
    decode: Decoder | None = None,
) -> Method:
    """EDM: the Karras schedule, preconditioning, weighting, noise levels and grid (2022, arXiv 2206.00364).

    Args:
        network: raw network F; it is preconditioned here.
        shape: shape of one sample.
        sigma_data: standard deviation of the data.
        sigma_max: largest noise level, T.
        time_sampler: training times, see ``objectives.times``; None: log-normal noise levels up to sigma_max.
        ts: grid of the process; None: EDM's, 18 steps.

    Returns:
        A Method whose data are arrays ``(n, *shape)`` or dictionaries ``x``, ``label``.

    Raises:
        ValueError: an unknown sampler, guidance without ``null``, options of ``gradient_method`` out of range.

    Example:
        >>> import bridgejax as bj, jax
        >>> method = bj.methods.edm(shape=(2,))
        >>> state = jax.eval_shape(method.init, jax.random.key(0), None)
        >>> draw = lambda state, key: bj.sample(method.process(state), bj.keys(key, 5))
        >>> jax.eval_shape(draw, state, jax.random.key(1)).shape  # once fitted: draw(state, key)
        (5, 2)
    """
    check_number(sigma_max=sigma_max)
    apply, params = or_mlp(network, check_shape(shape), null=null)
    return diffusion(
        schedules.karras(sigma_max),
        (edm_precondition(apply, sigma_data), params),
        shape=shape,
        predict="x0",
        weighting="edm",
        time_sampler=times.log_normal(high=sigma_max) if time_sampler is None else time_sampler,
        optimizer=optimizer,
        ema=ema,
        accumulate=accumulate,
        sampler=sampler,
        ts=grids.karras(18, sigma_max=sigma_max) if ts is None else ts,
        null=null,
        condition_dropout=condition_dropout,
        guidance_scale=guidance_scale,
        decode=decode,
        sigma_data=sigma_data,
    )


# by name --------------------------------------------------------------------------------------------------------------

SCHEDULES: dict[str, Callable[[], Schedule]] = {  # with parameters that end in noise for standardised data
    "cosine": schedules.cosine,
    "vp": schedules.vp,
    "sub_vp": schedules.sub_vp,
    "ve": schedules.ve,
    "rectified": schedules.rectified,
    "karras": schedules.karras,
    "brownian": lambda: schedules.brownian(10.0),
    "ou": lambda: schedules.ou(T=4.0),
}


def build(options: Diffusion, setup: Setup) -> Method:
    """``diffusion`` by its options."""
    schedule = SCHEDULES[options.schedule]()
    steps = options.sample_steps or (40 if options.sampler == "ode" else 200)
    return diffusion(
        schedule,
        setup.network(clock=schedule.T),
        shape=setup.data.shape,
        # bounded at both ends where the velocity is; eps at alpha = 0 would be an error divided by nothing
        predict=options.predict or ("velocity" if options.schedule in ("cosine", "rectified") else "eps"),
        weighting=options.weighting,
        time_sampler=times.low_discrepancy(1e-3 * schedule.T, schedule.T),
        sampler=options.sampler,
        ts=grids.log_snr(steps, schedule),
        sigma_data=setup.data.deviation,
        **setup.classes(options),
        **setup.common(),
    )


def build_edm(options: EDM, setup: Setup) -> Method:
    """``edm`` by its options."""
    return edm(
        setup.network(),
        shape=setup.data.shape,
        sampler=options.sampler,
        ts=grids.karras(options.sample_steps or 18),
        sigma_data=setup.data.deviation,
        **setup.classes(options),
        **setup.common(),
    )
