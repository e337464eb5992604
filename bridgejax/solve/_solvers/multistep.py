"""Multistep solvers for an SDE made from a Schedule: one evaluation of the denoiser a step, the last ones reused.

In the half log SNR lambda the solution over a step h is exact but for D,

    x_u = (sigma_u/sigma_t) x_t + alpha_u int_0^h e^(tau - h) D(lambda_t + tau) d tau,

and D is replaced by the polynomial through the nodes 0, c_1, c_2, ... (offsets in lambda; past ones negative). With
M_k = int_0^h e^(tau - h) tau^k d tau:  M_0 = 1 - e^-h,  M_1 = h - M_0,  M_2 = h^2 - 2 M_1, the weight of the node a,
beside 0 and b, is (M_2 - b M_1) / (a (a - b)), written in 1/a and 1/b so that a node not yet there (1/a = 0) has none.

    DPM-Solver++(2M)   nodes 0, -h'; M_1 = h M_0 / 2, which agrees to that order; with noise eta as exponential Euler
    DPM-Solver++(3M)   nodes 0, -h', -h'-h''; third order
    UniPC-2            predict with 0, -h'; once D is known at the predicted state, correct that step with the node +h
                       as well, at no further evaluation; third order. Coefficients exact ("UniPC_v" in the paper)

First steps use the nodes there are, and a step into clean data is DDIM. Lu et al. 2022, arXiv 2211.01095; Zhao et al.
2023, arXiv 2302.04867.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import diffrax as dfx
import jax
import jax.numpy as jnp
from jax import Array

from bridgejax._numerics import linear_combination, safe_divide
from bridgejax._types import Args, PyTree, State
from bridgejax.processes._schedule import Schedule
from bridgejax.solve._solvers.one_step import (
    AbstractExponential,
    check_eta,
    exponential_step,
    half_log_snr_gain,
    standard_noise,
    step_coefficients,
)
from bridgejax.solve._solvers.terms import BoolLike, StepResult, Terms, semilinear_of

_OK = dfx.RESULTS.successful


class DPMSolverPP2M(AbstractExponential):
    """DPM-Solver++(2M): second order for probability flows; for a reverse SDE the 2M-SDE form with noise ``eta``.

    Args:
        eta: as in ``ExponentialEuler``; only for an SDE.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> schedule, data = bj.schedules.vp(), bj.mixtures.gaussian_mixture([[-2.0], [2.0]], 0.1)
        >>> flow = bj.probability_flow(schedule, denoiser=bj.mixtures.mixture_denoiser(data, schedule))
        >>> ts = bj.grids.log_snr(20, schedule)
        >>> x = bj.simulate(flow, jax.random.key(0), jnp.array([0.5]), ts, solver=bj.solvers.DPMSolverPP2M())
        >>> bool(abs(abs(x[0]) - 2.0) < 1.0)
        True
    """

    eta: float = 1.0

    def __check_init__(self) -> None:
        """Refuse an eta that is no number."""
        check_eta(self.eta)

    def order(self, terms: Terms) -> int:
        """Order for ODEs."""
        return 2

    def strong_order(self, terms: Terms) -> float:
        """Strong order for SDEs."""
        return 1.0

    def init(self, terms: Terms, t0: Array, t1: Array, y0: State, args: Args) -> State:
        """The last denoised state and its step; none yet (h = infinity makes its weight 0)."""
        return jax.tree.map(jnp.zeros_like, y0), jnp.full_like(jnp.asarray(t0), jnp.inf)

    def step(
        self, terms: Terms, t0: Array, t1: Array, y0: State, args: Args, solver_state: PyTree, made_jump: BoolLike
    ) -> StepResult:
        """One step."""
        schedule, denoiser = semilinear_of(terms)
        t, u = schedule.T - t0, schedule.T - t1
        previous, previous_h = solver_state
        h = half_log_snr_gain(schedule, t, u)
        denoised = denoiser(t, y0, args)
        # clean data are infinitely far in log SNR: the step that ends there is DDIM
        slope = jnp.where(schedule.variance(0.0, u) > 0.0, 0.5 * h / previous_h, 0.0)
        extrapolated = linear_combination((1.0 + slope, denoised), (-slope, previous))
        y1 = exponential_step(schedule, t, u, y0, extrapolated, standard_noise(terms, t0, t1), self.eta)
        return y1, None, dict(y0=y0, y1=y1), (denoised, h), _OK


def _node_weights(schedule: Schedule, t: Array, u: Array, ia: Array, ib: Array) -> tuple[Array, Array, Array]:
    """Weights of D at offsets 0, a, b (given as 1/a, 1/b) over the step t -> u; DDIM into clean data."""
    _, decay, gain = step_coefficients(schedule, t, u)
    clean = schedule.variance(0.0, u) <= 0.0
    h = jnp.where(clean, 0.0, half_log_snr_gain(schedule, t, u))
    m0 = gain / (1.0 + decay)  # 1 - e^-h
    m1 = jnp.where(clean, 0.0, h - m0)
    m2 = jnp.where(clean, 0.0, h**2 - 2.0 * m1)
    wa = safe_divide(ia**2 * (m2 * ib - m1), ib - ia)
    wb = safe_divide(ib**2 * (m2 * ia - m1), ia - ib)
    return m0 - wa - wb, wa, wb


class _Past(NamedTuple):
    """Denoised states of the last two steps and the inverses of their offsets from the present one (0: not there)."""

    first: State
    second: State
    inverse_first: Array
    inverse_second: Array

    def after(self, denoised: State, h: Array) -> _Past:
        """The past as seen one step ``h`` later."""
        return _Past(denoised, self.first, -1.0 / h, self.inverse_first / (1.0 - h * self.inverse_first))


def _no_past(y0: State, t0: Array) -> _Past:
    nothing, zero = jax.tree.map(jnp.zeros_like, y0), jnp.zeros_like(jnp.asarray(t0))
    return _Past(nothing, nothing, zero, zero)


class _State(NamedTuple):
    past: _Past
    before: State  # state that the last step began at
    t_before: Array  # and its time; -1 where there was no last step
    count: Array  # steps taken


def _corrected(schedule: Schedule, denoiser_here: State, t: Array, y0: State, state: _State) -> State:
    """The last step once more, with D at its end as a node too."""
    past, before, t_before, _ = state
    begun = t_before >= 0.0
    s = jnp.where(begun, schedule.T - t_before, schedule.T)
    t = jnp.where(begun, t, 0.5 * schedule.T)  # any step at all, where there was none
    h = half_log_snr_gain(schedule, s, t)
    # the past is as seen from t, its first entry D at s; seen from s, D here is at +h
    ia = safe_divide(past.inverse_second, 1.0 + h * past.inverse_second)
    w0, wa, wb = _node_weights(schedule, s, t, 1.0 / h, ia)
    ratio, alpha = step_coefficients(schedule, s, t)[0], schedule.alpha(t)
    x = linear_combination(
        (ratio, before), (alpha * w0, past.first), (alpha * wa, denoiser_here), (alpha * wb, past.second)
    )
    return jax.tree.map(lambda new, old: jnp.where(begun, new, old), x, y0)


class _ThirdOrder(AbstractExponential):
    """Predict from the past, correct the last step with the present: all of the time, or the first step only."""

    takes_sde: ClassVar[bool] = False
    nodes: ClassVar[int]
    corrects_all: ClassVar[bool]

    def order(self, terms: Terms) -> int:
        """Order for ODEs."""
        return 3

    def strong_order(self, terms: Terms) -> None:
        """An ODE solver."""
        return None

    def init(self, terms: Terms, t0: Array, t1: Array, y0: State, args: Args) -> _State:
        """No past yet."""
        return _State(_no_past(y0, t0), y0, jnp.full_like(jnp.asarray(t0), -1.0), jnp.zeros((), jnp.int32))

    def step(
        self, terms: Terms, t0: Array, t1: Array, y0: State, args: Args, solver_state: PyTree, made_jump: BoolLike
    ) -> StepResult:
        """One step."""
        schedule, denoiser = semilinear_of(terms)
        t, u = schedule.T - t0, schedule.T - t1
        past, count = solver_state.past, solver_state.count
        denoised = denoiser(t, y0, args)
        x = _corrected(schedule, denoised, t, y0, solver_state)
        if not self.corrects_all:
            x = jax.tree.map(lambda new, old: jnp.where(count == 1, new, old), x, y0)
        ib = past.inverse_second if self.nodes == 3 else jnp.zeros_like(past.inverse_second)
        w0, wa, wb = _node_weights(schedule, t, u, past.inverse_first, ib)
        ratio, alpha = step_coefficients(schedule, t, u)[0], schedule.alpha(u)
        y1 = linear_combination((ratio, x), (alpha * w0, denoised), (alpha * wa, past.first), (alpha * wb, past.second))
        state = _State(past.after(denoised, half_log_snr_gain(schedule, t, u)), x, t0, count + 1)
        return y1, None, dict(y0=y0, y1=y1), state, _OK


class DPMSolverPP3M(_ThirdOrder):
    """DPM-Solver++(3M): third order for probability flows, one evaluation a step.

    Its first step is corrected like UniPC's, without which the start-up error would be of second order (2.6 measured).

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> schedule, data = bj.schedules.vp(), bj.mixtures.gaussian_mixture([[-2.0], [2.0]], 0.1)
        >>> flow = bj.probability_flow(schedule, denoiser=bj.mixtures.mixture_denoiser(data, schedule))
        >>> ts = bj.grids.log_snr(20, schedule)
        >>> x = bj.simulate(flow, jax.random.key(0), jnp.array([0.5]), ts, solver=bj.solvers.DPMSolverPP3M())
        >>> bool(abs(abs(x[0]) - 2.0) < 1.0)
        True
    """

    nodes: ClassVar[int] = 3
    corrects_all: ClassVar[bool] = False


class UniPC(_ThirdOrder):
    """UniPC-2: a second-order predictor whose next evaluation also corrects it. Third order, one evaluation a step.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> schedule, data = bj.schedules.vp(), bj.mixtures.gaussian_mixture([[-2.0], [2.0]], 0.1)
        >>> flow = bj.probability_flow(schedule, denoiser=bj.mixtures.mixture_denoiser(data, schedule))
        >>> ts = bj.grids.log_snr(20, schedule)
        >>> x = bj.simulate(flow, jax.random.key(0), jnp.array([0.5]), ts, solver=bj.solvers.UniPC())
        >>> bool(abs(abs(x[0]) - 2.0) < 1.0)
        True
    """

    nodes: ClassVar[int] = 2
    corrects_all: ClassVar[bool] = True
