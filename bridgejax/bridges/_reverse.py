"""Time reversal, on a clock that runs forward.

For dx = b dt + G dW with marginals p_t and Sigma = G G^T, put s = T - t. Then (Anderson 1982)

    reverse           dx = [-b + Sigma grad log p_t + div Sigma] ds + G dW
    probability flow  dx = [-b + (Sigma grad log p_t + div Sigma) / 2] ds

start at p_T, end at p_0 = data and share every marginal; div Sigma vanishes for additive noise. (Song et al. 2021,
arXiv 2011.13456.)

For a Schedule and a denoiser D(t, x) = E[x0 | x_t = x], grad log p_t = (alpha D - x) / sigma^2, and the coefficients
are combined before anything overflows: with r = d log sigma / dt and f = d log alpha / dt,

    reverse           [(f - 2 r) x + 2 (r - f) alpha D] ds + g dW
    probability flow  [-r x - (alpha' - alpha r) D] ds

The velocity is finite at T even where alpha(T) = 0. With D frozen over an interval both are linear and have exact
laws; the last one, into clean data, is a point mass at D. That is their ``terminal_kernel``, so nothing is evaluated at
t = 0.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from bridgejax._checks import check_like
from bridgejax._numerics import linear_combination, safe_divide
from bridgejax._types import Args, DiffusionFn, Field, NoiseFactor, State
from bridgejax.processes._schedule import Schedule
from bridgejax.processes.noise import check_additive, covariance_times
from bridgejax.processes.sde import SDE, Kernel, Semilinear, check_callable

# any SDE, given its score -------------------------------------------------------------------------------------------


def _covariance_divergence(sde: SDE, t: Array, x: State, args: Args) -> State:
    """(div Sigma)_i = sum_j d Sigma_ij / d x_j by forward-mode differentiation of Sigma(x) e_j along e_j."""
    flat, unravel = ravel_pytree(x)
    assert sde.diffusion is not None
    diffusion = sde.diffusion

    def column(direction: Array) -> Array:
        def action(point: Array) -> Array:
            state = unravel(point)
            return ravel_pytree(covariance_times(diffusion(t, state, args), unravel(direction)))[0]

        return jax.jvp(action, (flat,), (direction,))[1]

    return unravel(jnp.sum(jax.vmap(column)(jnp.eye(flat.size, dtype=flat.dtype)), axis=0))


def _sde_reverse_drift(sde: SDE, score: Field, share: float, s: Array, x: State, args: Args) -> State:
    t = sde.T - s
    drift = linear_combination((-1.0, sde.drift(t, x, args)))
    if sde.diffusion is None:
        return drift
    g = sde.diffusion(t, x, args)
    if sde.manifold is not None and not (jax.tree.structure(g) == jax.tree.structure(0.0) and jnp.shape(g) == ()):
        raise ValueError("on a manifold reverse and probability_flow need the diffusion to be one number, g(t)")
    pull = covariance_times(g, check_like(score(t, x, args), x, "score"))
    if sde.noise == "additive" and any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(x)):
        check_additive(sde.diffusion, t, x, args)
    if sde.noise == "state":
        pull = linear_combination((1.0, pull), (1.0, _covariance_divergence(sde, t, x, args)))
    return linear_combination((1.0, drift), (share, pull))


def _reversed_diffusion(sde: SDE, s: Array, x: State, args: Args) -> NoiseFactor:
    assert sde.diffusion is not None
    return sde.diffusion(sde.T - s, x, args)


# a schedule, given its score or denoiser -----------------------------------------------------------------------------


def _denoiser_from_score(schedule: Schedule, score: Field, t: Array, x: State, args: Args) -> State:
    """Tweedie: E[x0 | x_t] = (x + sigma^2 score) / alpha.

    Where alpha vanishes the score says nothing about the data; it is read 2^-10 of the clock before, an error of the
    same size in the first step only.
    """
    if schedule.zero_terminal_snr:
        t = jnp.minimum(t, schedule.T * (1.0 - 2.0**-10))
    shifted = linear_combination((1.0, x), (schedule.variance(0.0, t), check_like(score(t, x, args), x, "score")))
    return linear_combination((safe_divide(1.0, schedule.alpha(t)), shifted))


def _schedule_reverse_drift(semilinear: Semilinear, s: Array, x: State, args: Args) -> State:
    schedule, denoiser = semilinear
    t = schedule.T - s
    f, r = schedule.rate(t), schedule.dlog_sigma(t)
    return linear_combination(
        (f - 2.0 * r, x), (2.0 * (r - f) * schedule.alpha(t), check_like(denoiser(t, x, args), x, "denoiser"))
    )


def _schedule_flow_drift(semilinear: Semilinear, s: Array, x: State, args: Args) -> State:
    schedule, denoiser = semilinear
    t = schedule.T - s
    r = schedule.dlog_sigma(t)
    denoised = check_like(denoiser(t, x, args), x, "denoiser")
    return linear_combination((-r, x), (schedule.alpha(t) * r - schedule.alpha_dot(t), denoised))


def _schedule_score_drift(schedule: Schedule, score: Field, share: float, s: Array, x: State, args: Args) -> State:
    t = schedule.T - s
    found = check_like(score(t, x, args), x, "score")
    return linear_combination((-schedule.rate(t), x), (share * schedule.diffusion_squared(t), found))


def _schedule_diffusion(schedule: Schedule, s: Array, x: State, args: Args) -> Array:
    return schedule.diffusion(schedule.T - s)


def _denoised_state(semilinear: Semilinear, key: Array, s: Array, u: Array, x: State, args: Args) -> State:
    """With D frozen, the law of x at clean data is a point mass at D."""
    return check_like(semilinear.denoiser(semilinear.schedule.T - s, x, args), x, "denoiser")


def _split(schedule: Schedule, score: Field | None, denoiser: Field | None) -> Semilinear:
    if denoiser is None:
        score = check_callable(score, "score", "score(t, x, args) on the noising clock")
        return Semilinear(schedule, Partial(_denoiser_from_score, schedule, score))
    return Semilinear(schedule, check_callable(denoiser, "denoiser", "denoiser(t, x, args) on the noising clock"))


def _check(sde: object, score: Field | None, denoiser: Field | None) -> None:
    if not isinstance(sde, SDE | Schedule):
        raise ValueError(f"sde_or_schedule must be an SDE or a Schedule, got {type(sde).__name__}")
    if (score is None) == (denoiser is None):
        raise ValueError("pass exactly one of score and denoiser")
    if denoiser is not None and isinstance(sde, SDE):
        raise ValueError("denoiser needs a Schedule, which says how x0 and x_t are related; for an SDE pass its score")
    if isinstance(sde, SDE) and sde.manifold is not None and sde.noise == "state":
        raise ValueError("on a manifold reverse and probability_flow need noise that does not depend on x, g(t)")


def _bent(
    schedule: Schedule,
    score: Field | None,
    denoiser: Field | None,
    share: float,
    combined: Callable[..., State],
    diffusion: DiffusionFn | None,
) -> SDE:
    semilinear = _split(schedule, score, denoiser)
    if (
        score is None or schedule.zero_terminal_snr
    ):  # f and g are infinite where alpha = 0; combined with D they are not
        drift = Partial(combined, semilinear)
    else:
        bound = check_callable(score, "score", "score(t, x, args)")
        drift = Partial(_schedule_score_drift, schedule, bound, share)
    return SDE(
        drift,
        diffusion,
        schedule.T,
        terminal_kernel=Kernel(Partial(_denoised_state, semilinear), T=schedule.T),
        semilinear=semilinear,
    )


def reverse(
    sde_or_schedule: SDE | Schedule,
    score: Field | None = None,
    *,
    denoiser: Field | None = None,
) -> SDE:
    """The time reversal, as a new SDE on the clock s = T - t that starts at the prior and ends at data.

    Args:
        sde_or_schedule: what ran from data to noise. Noise that depends on x ("state") adds div Sigma.
        score: ``score(t, x, args) = grad log p_t(x)``, shaped like x, with t on the noising clock; on a manifold the
            Riemannian gradient (``manifold.gradient`` of that in coordinates).
        denoiser: ``E[x0 | x_t = x]`` instead of the score (Schedules only); better conditioned at both ends.

    Returns:
        An SDE. Made from a Schedule it carries ``semilinear`` (for exponential solvers) and ``terminal_kernel`` (the
        last interval ends at the denoised state; ``dataclasses.replace(sde, terminal_kernel=None)`` steps it like any
        other).

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> vp = bj.schedules.vp()
        >>> back = bj.reverse(vp, denoiser=lambda t, x, args: jnp.full_like(x, 2.0))             # all data at 2
        >>> print(bj.simulate(back, jax.random.key(0), jnp.zeros(1), bj.grids.log_snr(10, vp)))
        [2.]

    Raises:
        ValueError: neither or both of score and denoiser, or a denoiser for an SDE.
    """
    _check(sde_or_schedule, score, denoiser)
    if isinstance(sde_or_schedule, Schedule):
        diffusion = Partial(_schedule_diffusion, sde_or_schedule)
        return _bent(sde_or_schedule, score, denoiser, 1.0, _schedule_reverse_drift, diffusion)
    sde = sde_or_schedule
    score = check_callable(score, "score", "score(t, x, args)")
    diffusion = None if sde.diffusion is None else Partial(_reversed_diffusion, sde)
    drift = Partial(_sde_reverse_drift, sde, score, 1.0)
    return SDE(drift, diffusion, sde.T, sde.noise, manifold=sde.manifold)


def probability_flow(
    sde_or_schedule: SDE | Schedule,
    score: Field | None = None,
    *,
    denoiser: Field | None = None,
) -> SDE:
    """The ODE (``diffusion=None``) with the marginals of ``reverse``, on the same clock s = T - t.

    Args:
        sde_or_schedule: as for ``reverse``.
        score: as there.
        denoiser: as there.

    Returns:
        An SDE without noise; clock, ``semilinear``, ``terminal_kernel`` and errors as for ``reverse``.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> flow = bj.probability_flow(bj.schedules.vp(), denoiser=lambda t, x, args: 0.0 * x)   # all data at 0
        >>> flow.diffusion is None
        True
    """
    _check(sde_or_schedule, score, denoiser)
    if isinstance(sde_or_schedule, Schedule):
        return _bent(sde_or_schedule, score, denoiser, 0.5, _schedule_flow_drift, None)
    score = check_callable(score, "score", "score(t, x, args)")
    drift = Partial(_sde_reverse_drift, sde_or_schedule, score, 0.5)
    return SDE(drift, None, sde_or_schedule.T, manifold=sde_or_schedule.manifold)
