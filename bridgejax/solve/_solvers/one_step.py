"""Solvers of our own, beside diffrax's: every one is a diffrax ``AbstractSolver``.

For an SDE made from a Schedule, between noising times t > u with D = D(t, x_t) frozen (h = half the gain in log SNR):

    exponential Euler    x_u = (sigma_u/sigma_t) e^(-eta h) x_t + alpha_u (1 - e^(-(1+eta) h)) D
                               + sigma_u sqrt(1 - e^(-2 eta h)) z

eta = 0, or an ODE: DDIM. eta = 1: DDPM's posterior q(x_u | x_t, x_0 = D), SEEDS-1. It is the exact solution for a
frozen D, so two half-steps are one full step, in law and (with z from one Brownian path in the SNR clock alpha^2 /
sigma^2) path by path. 1 - e^-2h = V_ut / sigma_t^2 is taken from the schedule's exact increment V_ut, so that nothing
cancels on fine grids and clean data (sigma_u = 0) needs no special case. The multistep solvers are in multistep.py.

Predictor-corrector: the same step, then one of Langevin at the level reached, eps = 2 (r sigma_u)^2 with r the
signal-to-noise ratio of its step:  x + 2 r^2 (alpha_u D(u, x) - x) + 2 r sigma_u z'.

Song, Meng & Ermon 2021, arXiv 2010.02502 (DDIM); Gonzalez et al. 2023, arXiv 2305.14267 (SEEDS); Lu et al. 2022, arXiv
2211.01095 (eta); Song et al. 2021, arXiv 2011.13456 (predictor-corrector).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import diffrax as dfx
import jax.numpy as jnp
from diffrax import Euler as Euler
from jax import Array

from bridgejax._numerics import linear_combination, safe_divide, safe_sqrt
from bridgejax._types import Args, PyTree, State
from bridgejax.processes._schedule import Schedule
from bridgejax.solve._solvers.terms import BoolLike, StepResult, Terms, semilinear_of

_OK = dfx.RESULTS.successful


class Heun(dfx.AbstractStratonovichSolver):
    """Two-stage Heun: x' = x + (F(t, x) + F(t', x + F(t, x))) / 2, with F = drift dt + G dW.

    Order 2 for ODEs. For SDEs it converges to the Stratonovich solution, the same as Ito for additive noise; noise
    that depends on x is refused. Unlike diffrax's table-driven one its gradient costs no more than written by hand.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> ode = bj.SDE(lambda t, x, args: -x)
        >>> x = bj.simulate(ode, jax.random.key(0), jnp.ones(1), bj.grids.uniform(100), solver=bj.solvers.Heun())
        >>> bool(abs(x[0] - jnp.exp(-1.0)) < 1e-4)
        True
    """

    term_structure: ClassVar = dfx.AbstractTerm
    interpolation_cls: ClassVar[Callable[..., dfx.LocalLinearInterpolation]] = dfx.LocalLinearInterpolation

    def order(self, terms: Terms) -> int:
        """Order for ODEs."""
        return 2

    def strong_order(self, terms: Terms) -> float:
        """Strong order for SDEs (1 for additive or commutative noise)."""
        return 0.5

    def init(self, terms: Terms, t0: Array, t1: Array, y0: State, args: Args) -> None:
        """No state."""
        return None

    def step(
        self, terms: Terms, t0: Array, t1: Array, y0: State, args: Args, solver_state: PyTree, made_jump: BoolLike
    ) -> StepResult:
        """One step."""
        control = terms.contr(t0, t1)
        first = terms.vf_prod(t0, y0, args, control)
        second = terms.vf_prod(t1, linear_combination((1.0, y0), (1.0, first)), args, control)
        y1 = linear_combination((1.0, y0), (0.5, first), (0.5, second))
        return y1, None, dict(y0=y0, y1=y1), None, _OK

    def func(self, terms: Terms, t0: Array, y0: State, args: Args) -> State:
        """The vector field."""
        return terms.vf(t0, y0, args)


class AbstractExponential(dfx.AbstractItoSolver):
    """A solver that needs ``sde.semilinear``: the schedule is integrated exactly, only the denoiser is approximated."""

    term_structure: ClassVar = dfx.AbstractTerm
    interpolation_cls: ClassVar[Callable[..., dfx.LocalLinearInterpolation]] = dfx.LocalLinearInterpolation
    takes_ode: ClassVar[bool] = True
    takes_sde: ClassVar[bool] = True

    def func(self, terms: Terms, t0: Array, y0: State, args: Args) -> State:
        """The vector field."""
        return terms.vf(t0, y0, args)


def step_coefficients(schedule: Schedule, t: Array, u: Array) -> tuple[Array, Array, Array]:
    """``(sigma_u / sigma_t, e^-h, 1 - e^-2h)`` for noising times t > u, without cancellation."""
    sigma_ratio = safe_divide(schedule.sigma(u), schedule.sigma(t))
    decay = schedule.scale(u, t) * sigma_ratio
    gain = safe_divide(schedule.variance(u, t), schedule.variance(0.0, t))
    return sigma_ratio, decay, gain


def half_log_snr_gain(schedule: Schedule, t: Array, u: Array) -> Array:
    """h = (log SNR(u) - log SNR(t)) / 2 > 0."""
    return 0.5 * (schedule.log_snr(u) - schedule.log_snr(t))


def exponential_step(
    schedule: Schedule, t: Array, u: Array, x: State, denoised: State, z: State | None, eta: float
) -> State:
    """The step above; ``z`` standard normal, or None for eta = 0."""
    ratio, decay, gain = step_coefficients(schedule, t, u)
    alpha = schedule.alpha(u)
    if z is None or eta == 0.0:
        return linear_combination((ratio, x), (alpha * gain / (1.0 + decay), denoised))
    if eta == 1.0:
        return linear_combination(
            (ratio * decay, x), (alpha * gain, denoised), (schedule.sigma(u) * safe_sqrt(gain), z)
        )
    log_decay = 0.5 * jnp.log1p(-jnp.minimum(gain, 1.0 - 2.0**-24))  # -h, from the exact increment
    pull, spread = -jnp.expm1((1.0 + eta) * log_decay), safe_sqrt(-jnp.expm1(2.0 * eta * log_decay))
    return linear_combination(
        (ratio * jnp.exp(eta * log_decay), x), (alpha * pull, denoised), (schedule.sigma(u) * spread, z)
    )


def standard_noise(terms: Terms, t0: Array, t1: Array) -> State:
    """The step's Brownian increment as a standard normal; None for an ODE."""
    if not isinstance(terms, dfx.MultiTerm):
        return None
    return linear_combination((safe_divide(1.0, safe_sqrt(t1 - t0)), terms.terms[1].contr(t0, t1)))


def check_eta(eta: float) -> None:
    """Raise a ``ValueError`` unless eta is a number >= 0 (static)."""
    if isinstance(eta, bool) or not isinstance(eta, int | float) or not 0.0 <= eta < math.inf:
        raise ValueError(f"eta, the share of the reverse SDE's noise, must be a Python number >= 0, got {eta!r}")


class ExponentialEuler(AbstractExponential):
    """DDIM for a probability flow; for a reverse SDE its noise is scaled by ``eta``. Order 1, weak order 1.

    Args:
        eta: 1 is the ancestral posterior (SEEDS-1), 0 is DDIM, between and above keep the marginals too.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> schedule, data = bj.schedules.vp(), bj.mixtures.gaussian_mixture([[-2.0], [2.0]], 0.1)
        >>> sde = bj.reverse(schedule, denoiser=bj.mixtures.mixture_denoiser(data, schedule))
        >>> ts = bj.grids.log_snr(20, schedule)
        >>> x = bj.simulate(sde, jax.random.key(0), jnp.array([0.5]), ts, solver=bj.solvers.ExponentialEuler())
        >>> bool(abs(abs(x[0]) - 2.0) < 1.0)
        True
    """

    eta: float = 1.0

    def __check_init__(self) -> None:
        """Refuse an eta that is no number."""
        check_eta(self.eta)

    def order(self, terms: Terms) -> int:
        """Order for ODEs."""
        return 1

    def strong_order(self, terms: Terms) -> float:
        """Strong order for SDEs."""
        return 1.0

    def init(self, terms: Terms, t0: Array, t1: Array, y0: State, args: Args) -> None:
        """No state."""
        return None

    def step(
        self, terms: Terms, t0: Array, t1: Array, y0: State, args: Args, solver_state: PyTree, made_jump: BoolLike
    ) -> StepResult:
        """One step."""
        schedule, denoiser = semilinear_of(terms)
        t, u = schedule.T - t0, schedule.T - t1
        y1 = exponential_step(schedule, t, u, y0, denoiser(t, y0, args), standard_noise(terms, t0, t1), self.eta)
        return y1, None, dict(y0=y0, y1=y1), None, _OK


class PredictorCorrector(AbstractExponential):
    """An exponential Euler step of the reverse SDE, then one Langevin step at the level reached. Two evaluations.

    The corrector's noise is the space-time Levy area of the step, which is independent of its increment.

    Args:
        snr: r above, the size of the Langevin step.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> schedule, data = bj.schedules.vp(), bj.mixtures.gaussian_mixture([[-2.0], [2.0]], 0.1)
        >>> sde = bj.reverse(schedule, denoiser=bj.mixtures.mixture_denoiser(data, schedule))
        >>> ts = bj.grids.log_snr(20, schedule)
        >>> x = bj.simulate(sde, jax.random.key(0), jnp.array([0.5]), ts, solver=bj.solvers.PredictorCorrector())
        >>> bool(abs(abs(x[0]) - 2.0) < 1.0)
        True
    """

    snr: float = 0.16
    takes_ode: ClassVar[bool] = False
    minimal_levy_area: ClassVar[Any] = dfx.AbstractSpaceTimeLevyArea

    def __check_init__(self) -> None:
        """Refuse a step that is not positive."""
        if isinstance(self.snr, bool) or not isinstance(self.snr, int | float) or not 0.0 < self.snr < math.inf:
            raise ValueError(f"snr must be a positive Python number, got {self.snr!r}")

    def order(self, terms: Terms) -> int:
        """Order for ODEs."""
        return 1

    def strong_order(self, terms: Terms) -> None:
        """Weak order 1 up to the corrector's own bias, which is of order snr^2."""
        return None

    def init(self, terms: Terms, t0: Array, t1: Array, y0: State, args: Args) -> None:
        """No state."""
        return None

    def step(
        self, terms: Terms, t0: Array, t1: Array, y0: State, args: Args, solver_state: PyTree, made_jump: BoolLike
    ) -> StepResult:
        """One step."""
        schedule, denoiser = semilinear_of(terms)
        t, u = schedule.T - t0, schedule.T - t1
        path = terms.terms[1].contr(t0, t1, use_levy=True)
        per_root = safe_divide(1.0, safe_sqrt(t1 - t0))
        z, z_corrector = (
            linear_combination((per_root, path.W)),
            linear_combination((math.sqrt(12.0) * per_root, path.H)),
        )
        predicted = exponential_step(schedule, t, u, y0, denoiser(t, y0, args), z, 1.0)
        pull = 2.0 * self.snr**2
        y1 = linear_combination(
            (1.0 - pull, predicted),
            (pull * schedule.alpha(u), denoiser(u, predicted, args)),
            (2.0 * self.snr * schedule.sigma(u), z_corrector),
        )
        return y1, None, dict(y0=y0, y1=y1), None, _OK
