"""Solvers of our own, beside diffrax's: every one is a diffrax ``AbstractSolver``.

For an SDE made from a Schedule, between noising times t > u with D = D(t, x_t) frozen (h = half the gain in log SNR):

    exponential Euler, ODE (DDIM)      x_u = (sigma_u/sigma_t) x_t + alpha_u (1 - e^-h) D
    exponential Euler, SDE (SEEDS-1)   x_u = (sigma_u/sigma_t) e^-h x_t + alpha_u (1 - e^-2h) D
                                             + sigma_u sqrt(1 - e^-2h) z
    DPM-Solver++(2M), ODE              DDIM with (1 + 1/2r) D_i - (1/2r) D_(i-1) for D,   r = h_(i-1) / h_i

The SDE form is DDPM's posterior q(x_u | x_t, x_0 = D). 1 - e^-2h = V_ut / sigma_t^2 is taken from the schedule's exact
increment V_ut, so that nothing cancels on fine grids and clean data (sigma_u = 0) needs no special case. Song, Meng &
Ermon 2021, arXiv 2010.02502 (DDIM); Gonzalez et al. 2023, arXiv 2305.14267 (SEEDS); Lu et al. 2022, arXiv 2211.01095
(DPM-Solver++).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import diffrax as dfx
import jax
import jax.numpy as jnp
from diffrax import Euler as Euler
from jax import Array

from bridgejax.processes.numerics import axpy, safe_divide, safe_sqrt
from bridgejax.processes.schedules import Schedule
from bridgejax.solve.terms import split_of

_OK = dfx.RESULTS.successful


class Heun(dfx.AbstractStratonovichSolver):
    """Two-stage Heun: x' = x + (F(t, x) + F(t', x + F(t, x))) / 2, with F = drift dt + G dW.

    Order 2 for ODEs. For SDEs it converges to the Stratonovich solution, the same as Ito for additive noise; noise
    that depends on x is refused. Unlike diffrax's table-driven one its gradient costs no more than written by hand.
    """

    term_structure: ClassVar = dfx.AbstractTerm
    interpolation_cls: ClassVar[Callable[..., dfx.LocalLinearInterpolation]] = dfx.LocalLinearInterpolation

    def order(self, terms: Any) -> int:
        """Order for ODEs."""
        return 2

    def strong_order(self, terms: Any) -> float:
        """Strong order for SDEs (1 for additive or commutative noise)."""
        return 0.5

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> None:
        """No state."""
        return None

    def step(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any) -> Any:
        """One step."""
        control = terms.contr(t0, t1)
        first = terms.vf_prod(t0, y0, args, control)
        second = terms.vf_prod(t1, axpy((1.0, y0), (1.0, first)), args, control)
        y1 = axpy((1.0, y0), (0.5, first), (0.5, second))
        return y1, None, dict(y0=y0, y1=y1), None, _OK

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        """The vector field."""
        return terms.vf(t0, y0, args)


class AbstractExponential(dfx.AbstractItoSolver):
    """A solver that needs ``sde.split``: the schedule is integrated exactly, only the denoiser is approximated."""

    term_structure: ClassVar = dfx.AbstractTerm
    interpolation_cls: ClassVar[Callable[..., dfx.LocalLinearInterpolation]] = dfx.LocalLinearInterpolation

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        """The vector field."""
        return terms.vf(t0, y0, args)


def _step_coefficients(schedule: Schedule, t: Array, u: Array) -> tuple[Array, Array, Array]:
    """``(sigma_u / sigma_t, e^-h, 1 - e^-2h)`` for noising times t > u, without cancellation."""
    sigma_ratio = safe_divide(schedule.sigma(u), schedule.sigma(t))
    decay = schedule.scale(u, t) * sigma_ratio
    gain = safe_divide(schedule.variance(u, t), schedule.variance(0.0, t))
    return sigma_ratio, decay, gain


def half_log_snr_gain(schedule: Schedule, t: Array, u: Array) -> Array:
    """h = (log SNR(u) - log SNR(t)) / 2 > 0."""
    return 0.5 * (schedule.log_snr(u) - schedule.log_snr(t))


class ExponentialEuler(AbstractExponential):
    """DDIM for a probability flow, SEEDS-1 (the ancestral posterior) for a reverse SDE. Order 1, weak order 1."""

    def order(self, terms: Any) -> int:
        """Order for ODEs."""
        return 1

    def strong_order(self, terms: Any) -> float:
        """Strong order for SDEs."""
        return 1.0

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> None:
        """No state."""
        return None

    def step(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any) -> Any:
        """One step."""
        schedule, denoiser = split_of(terms)
        t, u = schedule.T - t0, schedule.T - t1
        ratio, decay, gain = _step_coefficients(schedule, t, u)
        denoised = denoiser(t, y0, args)
        if isinstance(terms, dfx.MultiTerm):
            z = axpy((safe_divide(1.0, safe_sqrt(t1 - t0)), terms.terms[1].contr(t0, t1)))
            spread = schedule.sigma(u) * safe_sqrt(gain)
            y1 = axpy((ratio * decay, y0), (schedule.alpha(u) * gain, denoised), (spread, z))
        else:
            y1 = axpy((ratio, y0), (schedule.alpha(u) * gain / (1.0 + decay), denoised))
        return y1, None, dict(y0=y0, y1=y1), None, _OK


class DPMSolverPP2M(AbstractExponential):
    """DPM-Solver++(2M): second order for probability flows, one evaluation a step.

    The first step is DDIM; so is one into clean data (which the SDE's ``land`` takes where it has one).
    """

    def order(self, terms: Any) -> int:
        """Order for ODEs."""
        return 2

    def strong_order(self, terms: Any) -> None:
        """An ODE solver."""
        return None

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> Any:
        """The last denoised state and its step; none yet (h = infinity makes its weight 0)."""
        return jax.tree.map(jnp.zeros_like, y0), jnp.full_like(jnp.asarray(t0), jnp.inf)

    def step(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any) -> Any:
        """One step."""
        schedule, denoiser = split_of(terms)
        t, u = schedule.T - t0, schedule.T - t1
        ratio, decay, gain = _step_coefficients(schedule, t, u)
        previous, previous_h = solver_state
        h = half_log_snr_gain(schedule, t, u)
        denoised = denoiser(t, y0, args)
        # clean data are infinitely far in log SNR: the step that ends there is DDIM
        slope = jnp.where(schedule.variance(0.0, u) > 0.0, 0.5 * h / previous_h, 0.0)
        extrapolated = axpy((1.0 + slope, denoised), (-slope, previous))
        y1 = axpy((ratio, y0), (schedule.alpha(u) * gain / (1.0 + decay), extrapolated))
        return y1, None, dict(y0=y0, y1=y1), (denoised, h), _OK
