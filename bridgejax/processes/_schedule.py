"""A noise schedule x_t = alpha(t) x0 + sigma(t) eps by its exact transitions, and the linear SDE with these marginals.

Every schedule starts at clean data, alpha(0) = 1 and sigma(0) = 0, and is given by

    x_t | x_s ~ N(scale(s, t) x_s, variance(s, t) I),      alpha(t) = scale(0, t),   sigma(t)^2 = variance(0, t).

Storing the *increment* (s, t) rather than two end values is what keeps small steps exact: variance(s, t) is an
``expm1`` or a factored difference, never sigma_t^2 - scale^2 sigma_s^2. The SDE follows by differentiation,

    dx = f(t) x dt + g(t) dW,     f = d log alpha / dt,     g^2(t) = d variance(s, t) / dt at s = t.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial

from bridgejax._checks import as_real, as_reals, check_broadcasts
from bridgejax._numerics import (
    as_time,
    as_wide,
    dtype_of,
    linear_combination,
    normal_like,
    normal_log_prob,
    safe_divide,
    safe_log,
    safe_sqrt,
)
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Args, State, Time
from bridgejax.processes.sde import SDE, Kernel, bind, check_end


@partial(
    register_dataclass,
    data_fields=("scale_fn", "variance_fn", "log_alpha_fn"),
    meta_fields=("T", "zero_terminal_snr"),
)
@dataclass(frozen=True)
class Schedule:
    """x_t = alpha(t) x0 + sigma(t) eps on the noising clock [0, T]; data at 0.

    Args:
        scale_fn: ``scale(s, t) = alpha(t) / alpha(s)`` for s <= t.
        variance_fn: ``variance(s, t)`` of x_t given x_s, accurate for t close to s; zero at s = t.
        log_alpha_fn: ``log alpha(t)``, finite on all of [0, T].
        T: end of the clock (static).
        zero_terminal_snr: alpha(T) = 0, so that the SDE's coefficients are infinite at T (static).

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> ou = bj.Schedule(
        ...     lambda s, t: jnp.exp(s - t), lambda s, t: -jnp.expm1(2.0 * (s - t)), lambda t: -t, T=3.0
        ... )
        >>> print(round(float(ou.alpha(1.0)), 4), round(float(ou.sigma(1.0) ** 2), 4))  # 1/e, 1 - 1/e^2
        0.3679 0.8647
    """

    scale_fn: Callable[[Array, Array], Array]
    variance_fn: Callable[[Array, Array], Array]
    log_alpha_fn: Callable[[Array], Array]
    T: float = 1.0
    zero_terminal_snr: bool = False

    __repr__ = summary

    def __post_init__(self) -> None:
        object.__setattr__(self, "T", check_end(self.T))
        for name in ("scale_fn", "variance_fn", "log_alpha_fn"):
            object.__setattr__(self, name, bind(getattr(self, name), name))

    def scale(self, s: Time, t: Time) -> Array:
        """alpha(t) / alpha(s)."""
        return self.scale_fn(as_time(s), as_time(t))

    def variance(self, s: Time, t: Time) -> Array:
        """Variance of x_t given x_s."""
        return self.variance_fn(as_time(s), as_time(t))

    def alpha(self, t: Time) -> Array:
        """Signal scale: x_t = alpha x0 + sigma eps."""
        return self.scale(0.0, t)

    def sigma(self, t: Time) -> Array:
        """Noise scale. Its gradient at 0 is set to 0, whatever the true one is (often infinite)."""
        return safe_sqrt(self.variance(0.0, t))

    def log_alpha(self, t: Time) -> Array:
        """Log of alpha."""
        return self.log_alpha_fn(as_time(t))

    def log_snr(self, t: Time) -> Array:
        """log(alpha^2 / sigma^2), finite also at t = 0 (sigma^2 is floored at 1e-30)."""
        return 2.0 * self.log_alpha(t) - safe_log(self.variance(0.0, t))

    def rate(self, t: Time) -> Array:
        """f(t) = d log alpha / dt, the linear drift."""
        return jax.grad(self.log_alpha_fn)(as_time(t))

    def diffusion_squared(self, t: Time) -> Array:
        """g(t)^2 = d variance(s, t) / dt at s = t."""
        t = as_time(t)
        return jax.grad(self.variance_fn, argnums=1)(t, t)

    def diffusion(self, t: Time) -> Array:
        """g(t)."""
        return safe_sqrt(self.diffusion_squared(t))

    def alpha_dot(self, t: Time) -> Array:
        """d alpha / dt."""
        return jax.grad(self.scale_fn, argnums=1)(jnp.zeros_like(as_time(t)), as_time(t))

    def dlog_sigma(self, t: Time) -> Array:
        """d log sigma / dt; 0 at t = 0, where it is infinite."""
        t = as_time(t)
        value, slope = jax.value_and_grad(self.variance_fn, argnums=1)(jnp.zeros_like(t), t)
        return safe_divide(0.5 * slope, value)


def check_schedule(schedule: object, name: str = "schedule") -> None:
    """Raise a ``ValueError`` unless ``schedule`` is a Schedule."""
    if not isinstance(schedule, Schedule):
        raise ValueError(f"{name} must be a Schedule, got {type(schedule).__name__}; see bridgejax.schedules")


def is_concrete(*values: object) -> bool:
    """Whether these can be looked at now."""
    return not any(isinstance(v, Tracer) for v in values)


def transition(schedule: Schedule, s: Time, t: Time) -> tuple[Array, Array]:
    """``(scale, variance)`` of the exact law q(x_t | x_s) = N(scale x_s, variance I), for s <= t.

    Args:
        schedule: a Schedule.
        s: the earlier time, on the noising clock.
        t: the later time.

    Returns:
        Two numbers, or arrays shaped like the times.

    Example:
        >>> import bridgejax as bj
        >>> scale, variance = bj.transition(bj.schedules.brownian(2.0), 0.0, 0.5)
        >>> print(scale, variance)                                         # sigma^2 (t - s) = 4 / 2
        1.0 2.0
    """
    check_schedule(schedule)
    s, t = as_real(s, "s"), as_real(t, "t")
    if is_concrete(s, t):
        first, last, slack = np.asarray(s, np.float64), np.asarray(t, np.float64), 1e-6 * schedule.T
        if not np.all((first >= -slack) & (first <= last) & (last <= schedule.T + slack)):
            raise ValueError(f"s and t must be times with 0 <= s <= t <= T = {schedule.T:g}, got {s} and {t}")
    return schedule.scale(s, t), schedule.variance(s, t)


Center: TypeAlias = State | Callable[[Args], State]
"""The level that ``noising`` pulls to: a number, a state, or a function of a sample's condition."""


def _center(center: Center, x: State, args: Args) -> State:
    """The level the noising process pulls to, shaped like x."""
    value = center(args) if callable(center) else center
    if jax.tree.structure(value) != jax.tree.structure(x):
        value = jax.tree.map(lambda leaf: value, x)
    for v, leaf in zip(jax.tree.leaves(value), jax.tree.leaves(x), strict=False):
        check_broadcasts(v, leaf, "center")
    return jax.tree.map(lambda v, leaf: jnp.broadcast_to(jnp.asarray(v, dtype_of(leaf)), leaf.shape), value, x)


def _noising_drift(schedule: Schedule, center: Center, t: Array, x: State, args: Args) -> State:
    f = schedule.rate(t)
    return linear_combination((f, x), (-f, _center(center, x, args)))


def schedule_diffusion(schedule: Schedule, t: Array, x: State, args: Args) -> Array:
    """g(t), as the diffusion of an SDE on the schedule's own clock."""
    return schedule.diffusion(t)


def _transition_sample(
    schedule: Schedule, center: Center, key: Array, t: Array, u: Array, x: State, args: Args
) -> State:
    scale, variance = transition(schedule, t, u)
    return linear_combination(
        (scale, x), (1.0 - scale, _center(center, x, args)), (safe_sqrt(variance), normal_like(key, x))
    )


def gaussian_log_prob(y: State, mean: State, variance: Array) -> Array:
    """log N(y; mean, variance I), summed over all leaves; nan where the variance is 0: there is no density."""
    positive = variance > 0
    variance = jnp.where(positive, variance, 1.0)
    terms = jax.tree.map(lambda a, m: jnp.sum(normal_log_prob(as_wide(a), m, variance)), y, mean)
    return jnp.where(positive, sum(jax.tree.leaves(terms), start=jnp.zeros(())), jnp.nan)


def _transition_log_prob(
    schedule: Schedule, center: Center, t: Array, u: Array, x: State, y: State, args: Args
) -> Array:
    scale, variance = transition(schedule, t, u)
    return gaussian_log_prob(y, linear_combination((scale, x), (1.0 - scale, _center(center, x, args))), variance)


def noising(schedule: Schedule, center: Center = 0.0) -> SDE:
    """The SDE of a schedule: dx = f(t) (x - center) dt + g(t) dW on the noising clock, data at 0.

    Its last interval is exact (``terminal_kernel``), so ``simulate`` with ``ts=[0, T]`` draws from q(x_T | x_0) in one
    step; the law of every step is known (``kernel``), so ``sample`` and the path weights are exact on any grid.

    Args:
        schedule: a Schedule.
        center: level it pulls to: a number, an array or pytree like x, or a function ``center(args)``, for example
            the known degraded input (the OUVE SDE of speech enhancement, Richter et al. 2023, arXiv 2208.05830).

    Returns:
        An SDE with additive noise.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> x = jnp.ones(3)                                                # data
        >>> bj.simulate(bj.noising(bj.schedules.vp()), jax.random.key(0), x, jnp.array([0.0, 1.0])).shape
        (3,)
    """
    check_schedule(schedule)
    center = bind(center, "center") if callable(center) else as_reals(center, "center", finite=True)
    law = Kernel(
        Partial(_transition_sample, schedule, center), Partial(_transition_log_prob, schedule, center), schedule.T
    )
    return SDE(
        Partial(_noising_drift, schedule, center),
        Partial(schedule_diffusion, schedule),
        schedule.T,
        terminal_kernel=law,
        kernel=law,
    )
