"""Interpolants: the Gaussian path between two ends that every matching loss regresses on,

    x_t = a(t) x0 + b(t) x1 + c(t) eps,   eps ~ N(0, I),   0 <= t <= T.

    name            clock      x0, x1                 a                     b                       c^2
    diffusion       noising    data, -                alpha                 -                       sigma^2
    bridge          noising    data, known end        alpha_t V_tT / V_0T   S_tT V_0t / V_0T        V_0t V_tT / V_0T
    brownian        transport  source, target         1 - t                 t                       sigma^2 t (1 - t)
    linear          transport  source, target         1 - t                 t                       -
    trigonometric   transport  source, target         cos(pi t/2)           sin(pi t/2)             -

S_st and V_st are the scale and variance of the reference's x_t given x_s. ``bridge`` is the reference of a schedule
conditioned on both ends (Zhou et al. 2024, arXiv 2309.16948); ``brownian`` with sigma = 0 is ``linear`` (Tong et al.
2024, arXiv 2302.00482 and 2307.03672); ``trigonometric``: Albergo & Vanden-Eijnden 2023, arXiv 2209.15571.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import as_real, as_reals, check_like, check_number, check_positive
from bridgejax._numerics import as_time, linear_combination, safe_sqrt
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Scalar, State, Time, TimeFn
from bridgejax.processes._schedule import Schedule, check_schedule
from bridgejax.processes.sde import bind, check_callable, check_end

__all__ = [
    "Interpolant",
    "bridge",
    "brownian",
    "diffusion",
    "linear",
    "trigonometric",
]


def __dir__() -> list[str]:
    return __all__


@partial(register_dataclass, data_fields=("a", "b", "c", "reference"), meta_fields=("T",))
@dataclass(frozen=True)
class Interpolant:
    """x_t = a(t) x0 + b(t) x1 + c(t) eps.

    Args:
        a: coefficient of x0, a function of t.
        b: coefficient of x1; None: the path has no second end.
        c: coefficient of the noise; None: a path without noise.
        T: end of its clock (static).
        reference: g(t)^2 of the SDE of which this is the bridge, where there is one. It is the noise that
            ``predictions.solve`` assumes for a drift when none is given.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> path = bj.Interpolant(lambda t: 1.0 - t, lambda t: t, lambda t: 2.0 * t * (1.0 - t))
        >>> x0, x1, eps = jnp.array([0.0]), jnp.array([4.0]), jnp.array([1.0])
        >>> path(0.25, x0, x1, eps).tolist()  # 0.25 * 4 + 2 * 0.25 * 0.75
        [1.375]
    """

    a: TimeFn
    b: TimeFn | None = None
    c: TimeFn | None = None
    T: float = 1.0
    reference: TimeFn | None = None

    __repr__ = summary

    def __post_init__(self) -> None:
        object.__setattr__(self, "T", check_end(self.T))
        for name in ("a", "b", "c", "reference"):
            object.__setattr__(self, name, bind(getattr(self, name), name))

    def __call__(self, t: Time, x0: State, x1: State = None, eps: State = None) -> State:
        """x_t. ``x1`` and ``eps`` may be left out only where their coefficient is absent."""
        t = as_time(as_real(t, "t"))
        return linear_combination(*((coefficient(t), value) for coefficient, value in self._terms(x0, x1, eps)))

    def velocity(self, t: Time, x0: State, x1: State = None, eps: State = None) -> State:
        """d x_t / dt at fixed x0, x1, eps: what velocity matching regresses on."""
        t = as_time(as_real(t, "t"))
        return linear_combination(
            *((jax.grad(coefficient)(t), value) for coefficient, value in self._terms(x0, x1, eps))
        )

    def _terms(self, x0: State, x1: State, eps: State) -> list[tuple[TimeFn, State]]:
        """Coefficients that the path has, with what they multiply."""
        x0 = as_reals(x0, "x0")
        terms = [(check_callable(self.a, "a", "a(t)"), x0)]
        for name, coefficient, value in (("x1", self.b, x1), ("eps", self.c, eps)):
            if coefficient is not None:
                if value is None:
                    raise ValueError(f"this interpolant needs {name}")
                value = check_like(as_reals(value, name), x0, name, "x0")
                terms.append((check_callable(coefficient, name, f"of t that multiplies {name}"), value))
        return terms

    def reversed(self) -> Interpolant:
        """The same path walked the other way: its x0 is this one's x1, its clock T - t.

        Raises:
            ValueError: for a path with one end only.
        """
        if self.b is None:
            raise ValueError("this interpolant has no x1 to start from; bridgejax.reverse reverses its SDE instead")
        c = None if self.c is None else Partial(_backwards, self.c, self.T)
        reference = None if self.reference is None else Partial(_backwards, self.reference, self.T)
        return Interpolant(
            Partial(_backwards, self.b, self.T), Partial(_backwards, self.a, self.T), c, self.T, reference
        )


def _backwards(f: TimeFn, T: float, t: Array) -> Array:
    return f(T - t)


# the family ---------------------------------------------------------------------------------------------------------


def _alpha(schedule: Schedule, t: Array) -> Array:
    return schedule.alpha(t)


def _sigma(schedule: Schedule, t: Array) -> Array:
    return schedule.sigma(t)


def diffusion(schedule: Schedule) -> Interpolant:
    """x_t = alpha(t) x0 + sigma(t) eps on the noising clock.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> path = bj.interpolants.diffusion(bj.schedules.vp())
        >>> path(0.5, jnp.ones(2), eps=jnp.zeros(2)).shape                           # alpha x0 + sigma eps
        (2,)
    """
    check_schedule(schedule)
    return Interpolant(Partial(_alpha, schedule), None, Partial(_sigma, schedule), schedule.T, Partial(_g2, schedule))


def _g2(schedule: Schedule, t: Array) -> Array:
    return schedule.diffusion_squared(t)


def _bridge_a(schedule: Schedule, t: Array) -> Array:
    return schedule.alpha(t) * schedule.variance(t, schedule.T) / schedule.variance(0.0, schedule.T)


def _bridge_b(schedule: Schedule, t: Array) -> Array:
    end = schedule.T
    return schedule.scale(t, end) * schedule.variance(0.0, t) / schedule.variance(0.0, end)


def _bridge_c(schedule: Schedule, t: Array) -> Array:
    end = schedule.T
    return safe_sqrt(schedule.variance(0.0, t) * schedule.variance(t, end) / schedule.variance(0.0, end))


def bridge(schedule: Schedule) -> Interpolant:
    """The schedule's SDE pinned at both ends, on the noising clock: x0 data, x1 the known end.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> path = bj.interpolants.bridge(bj.schedules.brownian())
        >>> print(path(0.25, jnp.zeros(1), jnp.ones(1), jnp.zeros(1)))
        [0.25]
    """
    check_schedule(schedule)
    return Interpolant(
        Partial(_bridge_a, schedule),
        Partial(_bridge_b, schedule),
        Partial(_bridge_c, schedule),
        schedule.T,
        Partial(_g2, schedule),
    )


def _one_minus(t: Array) -> Array:
    return 1.0 - t


def _itself(t: Array) -> Array:
    return t


def _brownian_c(sigma: Scalar, t: Array) -> Array:
    return sigma * safe_sqrt(t * (1.0 - t))


def _constant(value: State, t: Array) -> Array:
    return jnp.full_like(t, 1.0) * value


def brownian(sigma: float = 1.0) -> Interpolant:
    """Brownian bridge from x0 (source) to x1 (target) on [0, 1].

    Args:
        sigma: noise per square root of unit time; the entropic epsilon of the matching Schroedinger bridge (cost
            |x - y|^2 / 2) is sigma^2.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> path = bj.interpolants.brownian(2.0)
        >>> round(float(path(0.25, jnp.zeros(1), jnp.ones(1), jnp.ones(1))[0]), 4)   # 1/4 + 2 sqrt(3/16)
        1.116
    """
    check_number(sigma=sigma)
    check_positive(sigma=sigma)
    return Interpolant(_one_minus, _itself, Partial(_brownian_c, sigma), 1.0, Partial(_constant, sigma**2))


def linear() -> Interpolant:
    """Straight line from x0 (source) to x1 (target) on [0, 1], without noise.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> print(bj.interpolants.linear()(0.25, jnp.zeros(1), jnp.ones(1)))
        [0.25]
    """
    return Interpolant(_one_minus, _itself)


def _cos(t: Array) -> Array:
    return jnp.cos(0.5 * jnp.pi * t)


def _sin(t: Array) -> Array:
    return jnp.sin(0.5 * jnp.pi * t)


def trigonometric() -> Interpolant:
    """cos(pi t/2) x0 + sin(pi t/2) x1 on [0, 1]: keeps the variance of independent ends of equal variance.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> round(float(bj.interpolants.trigonometric()(0.5, jnp.zeros(1), jnp.ones(1))[0]), 4)
        0.7071
    """
    return Interpolant(_cos, _sin)
