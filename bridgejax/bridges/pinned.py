"""Conditioning a linear process on its end: Doob's transform with h = p(x_T = x1 | x_t), in closed form.

For a schedule with x_u | x_t ~ N(S_tu x_t, V_tu I) the pinned law of x_u given x_t and x_T = x1 is Gaussian,

    mean = S_tu x_t V_uT / V_tT + S_uT x1 V_tu / V_tT,      variance = V_tu V_uT / V_tT,

a combination of exact increments that is x1 itself at u = T. For a matrix-valued LinearSDE with
x_u | x_t ~ N(P_tu x_t + m_tu, V_tu) =: N(mu, V_tu),

    drift    A x + b + L L^T P_tT^T V_tT^-1 (x1 - P_tT x - m_tT)
    mean     mu + K (x1 - P_uT mu - m_uT),      K = V_tu P_uT^T V_tT^-1
    cov      (1 - K P_uT) V_tu (1 - K P_uT)^T + K V_uT K^T            (Joseph's form: nothing cancels)

and a draw is made from one of the unconditioned pair (x_u', x_T'): x_u' + K (x1 - x_T').
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import as_reals, check_like
from bridgejax._numerics import dtype_of, linear_combination, normal_like, safe_divide, safe_sqrt
from bridgejax._types import Args, State
from bridgejax.processes._schedule import Schedule, gaussian_log_prob, schedule_diffusion
from bridgejax.processes.linear import (
    Gaussian,
    LinearSDE,
    check_vector,
    gaussian_draw,
    gaussian_solve,
    gaussian_vector_log_prob,
    linear_diffusion,
)
from bridgejax.processes.sde import SDE, Kernel

# a schedule ---------------------------------------------------------------------------------------------------------


def _pinned_drift(schedule: Schedule, x1: State, t: Array, x: State, args: Args) -> State:
    check_like(x1, x, "x1")
    scale, variance = schedule.scale(t, schedule.T), schedule.variance(t, schedule.T)
    pull = safe_divide(schedule.diffusion_squared(t) * scale, variance)
    return linear_combination((schedule.rate(t) - pull * scale, x), (pull, x1))


def _pinned_law(schedule: Schedule, x1: State, t: Array, u: Array, x: State) -> tuple[State, Array]:
    check_like(x1, x, "x1")
    near, far = schedule.variance(t, u), schedule.variance(u, schedule.T)
    total = schedule.variance(t, schedule.T)
    to_go, gone = safe_divide(far, total), safe_divide(near, total)
    mean = linear_combination((schedule.scale(t, u) * to_go, x), (schedule.scale(u, schedule.T) * gone, x1))
    return mean, near * to_go


def _pinned_sample(schedule: Schedule, x1: State, key: Array, t: Array, u: Array, x: State, args: Args) -> State:
    mean, variance = _pinned_law(schedule, x1, t, u, x)
    # S_TT V_tT / V_tT is 1 only up to rounding, and the end point is exact: take it as it is
    at_end = jnp.asarray(u) >= schedule.T
    drawn = linear_combination((1.0, mean), (safe_sqrt(variance), normal_like(key, x)))
    return jax.tree.map(lambda a, b: jnp.where(at_end, jnp.asarray(a, b.dtype), b), x1, drawn)


def _pinned_log_prob(schedule: Schedule, x1: State, t: Array, u: Array, x: State, y: State, args: Args) -> Array:
    return gaussian_log_prob(y, *_pinned_law(schedule, x1, t, u, x))


# a matrix-valued linear SDE -----------------------------------------------------------------------------------------


def _linear_drift(linear: LinearSDE, x1: Array, t: Array, x: Array, args: Args) -> Array:
    check_vector(linear, x)
    A, b, L = linear.coefficients(t)
    phi, shift, cov = linear.transition(t, linear.T)
    pull = L @ (L.T @ (phi.T @ gaussian_solve(cov, x1 - phi @ x - shift)))
    return (A @ x + b + pull).astype(dtype_of(x))


def _gain(linear: LinearSDE, t: Array, u: Array) -> tuple[Gaussian, Gaussian, Array]:
    """The transitions t -> u and u -> T, and K."""
    near, far = linear.transition(t, u), linear.transition(u, linear.T)
    total = far.phi @ near.cov @ far.phi.T + far.cov
    return near, far, jax.vmap(lambda row: gaussian_solve(total, row))(near.cov @ far.phi.T)


def _linear_sample(linear: LinearSDE, x1: Array, key: Array, t: Array, u: Array, x: Array, args: Args) -> Array:
    near, far, gain = _gain(linear, t, u)
    key, rest = jax.random.split(key)
    middle = near.phi @ x + near.shift + gaussian_draw(key, near.cov)
    end = far.phi @ middle + far.shift + gaussian_draw(rest, far.cov)
    drawn = middle + gain @ (x1 - end)
    return jnp.where(jnp.asarray(u) >= linear.T, x1, drawn).astype(dtype_of(x))


def _linear_log_prob(linear: LinearSDE, x1: Array, t: Array, u: Array, x: Array, y: Array, args: Args) -> Array:
    near, far, gain = _gain(linear, t, u)
    mean = near.phi @ x + near.shift
    mean = mean + gain @ (x1 - far.phi @ mean - far.shift)
    left = jnp.eye(x.size, dtype=near.cov.dtype) - gain @ far.phi
    log_prob = gaussian_vector_log_prob(y, mean, left @ near.cov @ left.T + gain @ far.cov @ gain.T)
    return jnp.where(jnp.asarray(u) >= linear.T, jnp.nan, log_prob)


def pin(process: Schedule | LinearSDE, x1: State) -> SDE:
    """The process's SDE conditioned to be at ``x1`` at time T: exact, and ending at x1 exactly.

    ``simulate`` with ``ts=[0, T]`` returns x1; ``sde.terminal_kernel`` is the exact law of any later state given an
    earlier one. ``vmap(pin, (None, 0))`` is a batch of bridges in one trace.

    Args:
        process: a Schedule (scalar coefficients) or a LinearSDE (matrices).
        x1: end point, shaped like x.

    Returns:
        An SDE that ends at ``x1``.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> bridge = bj.pin(bj.schedules.brownian(1.0), jnp.array([3.0]))
        >>> float(bj.simulate(bridge, jax.random.key(0), jnp.zeros(1), bj.grids.uniform(10))[0])
        3.0

    Raises:
        ValueError: for an SDE, because conditioning a nonlinear SDE has no closed form (``guide`` does it by weighted
            paths); an end point of another shape.
    """
    if isinstance(process, SDE):
        raise ValueError(
            "pin is exact for linear processes only, got an SDE; use guide(sde, Observation(T, x1)), whose paths have "
            "weights, or doob with your own grad log h"
        )
    x1 = as_reals(x1, "x1", finite=True)
    if isinstance(process, LinearSDE):
        check_vector(process, x1, "x1")
        terminal = Kernel(Partial(_linear_sample, process, x1), Partial(_linear_log_prob, process, x1), process.T)
        return SDE(
            Partial(_linear_drift, process, x1), Partial(linear_diffusion, process), process.T, terminal_kernel=terminal
        )
    if not isinstance(process, Schedule):
        raise ValueError(f"process must be a Schedule or a LinearSDE to pin, got {type(process).__name__}")
    terminal = Kernel(Partial(_pinned_sample, process, x1), Partial(_pinned_log_prob, process, x1), process.T)
    return SDE(
        Partial(_pinned_drift, process, x1), Partial(schedule_diffusion, process), process.T, terminal_kernel=terminal
    )
