"""Denoising diffusion bridges: diffusion models between the two ends of a pair, for any schedule.

On the noising clock, target at 0 and source y at T, the reference conditioned on both ends is

    x_t = a x_0 + b y + c eps,     a = alpha_t (1 - r),   b = r alpha_T^-1 alpha_t,   c^2 = sigma_t^2 (1 - r)

with r = SNR_T / SNR_t; a^2 / c^2 = SNR_t - SNR_T is what x_t tells of x_0 beside y. The denoiser is

    D(t, x, y) = k_skip x + k_out F(log(c / a) / 4, k_in x, y) ~ E[x_0 | x_t = x, y],     loss  |D - x_0|^2 / k_out^2

    v      = a^2 s_0^2 + b^2 s_1^2 + 2 a b rho s_0 s_1 + c^2                    variance of x_t
    k_in   = 1 / sqrt(v),   k_skip = (a s_0^2 + b rho s_0 s_1) / v               best linear guess of x_0 from x_t alone
    k_out  = sqrt((b^2 (1 - rho^2) s_1^2 + c^2) s_0^2 / v)                       its error: F's target has variance one

for ends of standard deviations s_0 (target), s_1 (source) and correlation rho (Zhou et al. 2024, arXiv 2309.16948, who
tell the network log(t) / 4; with SNR_T -> 0 these are EDM's coefficients). Samplers:

    "sde"   the reference's reversal with D for its denoiser, from y
    "ode"   dx = -E[d x_t / dt | x_t, y] ds. A flow cannot leave a point in more than one direction, so its first step
            is a draw a D + b y + c eps, early enough that D is still the same (Zheng et al. 2024, arXiv 2405.15885)
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import check_number, check_positive, check_shape
from bridgejax._numerics import as_time, linear_combination, normal_like, safe_sqrt
from bridgejax._types import Args, Decoder, Field, Numbers, Params, Scalar, StartLaw, State
from bridgejax.bridges import interpolants
from bridgejax.bridges._reverse import reverse
from bridgejax.bridges.interpolants import Interpolant
from bridgejax.bridges.predictions import solve
from bridgejax.methods._arguments import PAIRED, TRAINING, NetworkLike, documented
from bridgejax.methods._setup import Setup
from bridgejax.methods.paired import DDBM
from bridgejax.methods.paired.augmented_bridge import KINDS, beside_source, end_conditioned, paired_method, plan
from bridgejax.networks import or_mlp
from bridgejax.networks.preconditioning import Coefficients
from bridgejax.objectives import matching
from bridgejax.objectives.times import TimeSampler
from bridgejax.processes import SDE, Kernel, Schedule, schedules
from bridgejax.training import Method

_WIDEST = 10.0  # |log(c / a)| is held below this, as in networks.preconditioning

Spread = tuple[Scalar, Scalar, Scalar]  # deviations of target and source, correlation

# preconditioning ------------------------------------------------------------------------------------------------------


def pair_coefficients(schedule: Schedule, t: Array, spread: Spread = (1.0, 1.0, 0.5)) -> Coefficients:
    """k_skip, k_out, k_in and the noise level told to the network, see the head of this file.

    Args:
        schedule: the reference.
        t: time on the noising clock.
        spread: standard deviations of target and source, in units of x, and their correlation per component.

    Returns:
        Four numbers, finite at both ends of time.
    """
    path, (s0, s1, rho) = interpolants.bridge(schedule), spread
    assert path.b is not None
    assert path.c is not None
    a, b, c = path.a(t), path.b(t), path.c(t)
    total = (a * s0 + b * rho * s1) ** 2 + (1.0 - rho**2) * (b * s1) ** 2 + c**2
    error = safe_sqrt((1.0 - rho**2) * (b * s1) ** 2 + c**2) * s0
    noise = -0.5 * jnp.clip(end_conditioned(schedule).log_snr(t), -2.0 * _WIDEST, 2.0 * _WIDEST)
    return Coefficients(
        skip=s0 * (a * s0 + b * rho * s1) / total,
        out=error / jnp.sqrt(total),
        input=1.0 / jnp.sqrt(total),
        noise=noise / 4,
    )


def _denoised(schedule: Schedule, spread: Spread, network: Field, t: Array, x: State, args: Args) -> State:
    k = pair_coefficients(schedule, t, spread)
    return linear_combination((k.skip, x), (k.out, network(k.noise, k.input * x, args)))


def _weight(schedule: Schedule, spread: Spread, t: Array) -> Array:
    return 1.0 / pair_coefficients(schedule, t, spread).out ** 2


# the ODE --------------------------------------------------------------------------------------------------------------


def _flow(path: Interpolant, denoiser: Field, s: Array, x: State, args: Args) -> State:
    t = path.T - s
    return linear_combination((-1.0, solve(t, x, path, {"x0": denoiser(t, x, args), "x1": args}, "velocity")))


def _terminal_sample(T: float, denoiser: Field, key: Array, s: Array, u: Array, x: State, args: Args) -> State:
    return denoiser(T - s, x, args)


def _leave(path: Interpolant, denoiser: Field, source: StartLaw, s: Array, key: Array, args: Args) -> State:
    """The state at s, one step from the source."""
    y = source(key, args)
    return path(path.T - s, denoiser(as_time(path.T), y, y), y, normal_like(key, y))


# the method -----------------------------------------------------------------------------------------------------------


def _check(schedule: Schedule | str, sampler: str, spread: Spread) -> Schedule:
    named = {"vp": lambda: schedules.vp(0.1, 2.1), "ve": schedules.karras}
    if isinstance(schedule, str) and schedule in named:
        schedule = named[schedule]()
    if not isinstance(schedule, Schedule):
        raise ValueError(f"schedule must be 've', 'vp' or a Schedule, got {schedule!r}")
    if schedule.zero_terminal_snr:
        raise ValueError(
            "schedule has no signal left at T, so its bridges would forget the source; use one with alpha > 0"
        )
    if sampler not in KINDS:
        raise ValueError(f"sampler must be one of {KINDS}, got {sampler!r}")
    check_number(sigma_target=spread[0], sigma_source=spread[1], correlation=spread[2])
    check_positive(sigma_target=spread[0], sigma_source=spread[1])
    if not abs(spread[2]) < 1.0:
        raise ValueError(f"correlation must lie between -1 and 1, got {spread[2]}")
    return schedule


@documented(PAIRED, TRAINING)
def ddbm(
    network: NetworkLike | None = None,
    *,
    shape: tuple[int, ...],
    schedule: Schedule | str = "vp",
    sigma_target: float = 1.0,
    sigma_source: float = 1.0,
    correlation: float = 0.5,
    sampler: str = "sde",
    time_sampler: TimeSampler | None = None,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = 0.999,
    accumulate: int = 1,
    ts: Numbers | None = None,
    decode: Decoder | None = None,
) -> Method:
    """A denoising diffusion bridge model (DDBM): the target's law given its source.

    Args:
        network: raw network F, a flax.nnx module or ``(apply, params)``; preconditioned here. Its time is
            log(c / a) / 4, its ``args`` are the source (``MLP(shape, cond_dim=size)``).
        schedule: "vp" (``schedules.vp(0.1, 2.1)``), "ve" (``schedules.karras(80)``) or any Schedule with signal left
            at T.
        sigma_target: standard deviation of the targets per component, in units of the data.
        sigma_source: that of the sources.
        correlation: between source and target, per component; 0 is safe.
        sampler: "sde" or "ode".
        time_sampler: see ``objectives.times``, on the noising clock; default spread as the sampler's steps.
        ts: grid of the process from 0 (source) to T; default 100 (sde) or 80 (ode) steps even in log(a^2 / c^2) from
            -6 to 10. The first step of the ODE is its draw.

    Returns:
        A Method whose data are dictionaries ``source``, ``target``: ``data.Pairs(..., coupling=couplings.paired)``.
        Its Process starts at its ``args``: ``sample(process, keys, sources)``.

    Raises:
        ValueError: an unknown schedule or sampler, a standard deviation or correlation out of range, independent pairs;
            at trace time rows of another shape.

    Example:
        >>> import bridgejax as bj, jax, jax.numpy as jnp
        >>> method = bj.methods.ddbm(shape=(2,))
        >>> state = jax.eval_shape(method.init, jax.random.key(0), None)
        >>> draw = lambda state, key: bj.sample(method.process(state), bj.keys(key, 5), jnp.zeros((5, 2)))
        >>> jax.eval_shape(draw, state, jax.random.key(1)).shape  # once fitted: draw(state, key)
        (5, 2)
    """
    spread = (sigma_target, sigma_source, correlation)
    schedule = _check(schedule, sampler, spread)
    network = or_mlp(network, check_shape(shape), seen=shape)
    apply = network.apply
    path, T = interpolants.bridge(schedule), schedule.T
    grid, time_sampler = plan(100 if sampler == "sde" else 80, schedule, ts, time_sampler, noising=True)
    if sampler == "ode" and len(grid) < 3:
        raise ValueError("ts must have at least two steps for the ODE: the first is a draw")

    def denoiser(params: Params) -> Partial:
        return Partial(_denoised, schedule, spread, Partial(apply, params))

    def denoise(params: Params, t: Array, x: State, args: Args) -> State:
        return denoiser(params)(t, x, args)

    match = matching(path, denoise, "x0", times=time_sampler, weight=Partial(_weight, schedule, spread))

    def loss(params: Params, keys: Array, source: Array, target: Array) -> tuple[Array, dict[str, Array]]:
        return match(params, keys, {"source": target, "target": source, "args": source})

    def sdes(params: Params) -> tuple[SDE, None]:
        if sampler == "sde":
            return reverse(schedule, denoiser=denoiser(params)), None
        terminal = Kernel(Partial(_terminal_sample, T, denoiser(params)), T=T)
        return SDE(Partial(_flow, path, denoiser(params)), None, T, terminal_kernel=terminal), None

    def leave(params: Params, source: StartLaw) -> Partial:
        return Partial(_leave, path, denoiser(params), Partial(source), grid[1])

    options, start = (optimizer, ema, accumulate, decode), leave if sampler == "ode" else None
    return paired_method(shape, network, loss, sdes, grid if start is None else grid[1:], options, start)


def build(options: DDBM, setup: Setup) -> Method:
    """``ddbm`` by its options."""
    return ddbm(
        beside_source(setup),
        shape=setup.data.shape,
        schedule=options.schedule,
        sigma_target=setup.data.deviation,
        sigma_source=max(float(np.std(np.asarray(setup.data.source))), 1e-3),
        correlation=0.0,  # safe for any pairs: it only scales the network's input and output
        sampler=options.sampler,
        ts=options.sample_steps,
        **setup.common(),
    )
