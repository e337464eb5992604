"""Diffusions with known transition densities, and the bridges between two of their states.

    Brownian    dx = sigma dW                           N(x0, sigma^2 t)
    OU          dx = -beta x dt + sigma dW              N(e^(-beta t) x0, sigma^2 (1 - e^(-2 beta t)) / (2 beta))
    CIR         dx = kappa (theta - x) dt + sigma sqrt(x) dW,  x > 0      (Cox, Ingersoll & Ross 1985)
                2 c x_t ~ noncentral chi^2(4 kappa theta / sigma^2, 2 c e^(-kappa t) x0),
                c = 2 kappa / (sigma^2 (1 - e^(-kappa t)))
    radial OU   dx = (theta / x - beta x) dt + sigma dW,  x > 0           x^2 is CIR with kappa = 2 beta,
                kappa theta_CIR = 2 theta + sigma^2, sigma_CIR = 2 sigma

With u = c e^(-kappa t) x0, v = c x and q = 2 kappa theta / sigma^2 - 1 the CIR density is

    log p = log c - u - v + q log v - log Gamma(q + 1) + log 0F1(; q + 1; u v),     I_q(z) = (z/2)^q 0F1 / Gamma(q + 1),

written with 0F1 instead of the Bessel function, so that a start at 0 is no special case. With s = sqrt(q^2 + 4 u v):

    s < 30    the power series of 0F1, 48 terms, all positive; relative error below 1e-15
    s >= 30   Debye's uniform expansion in 1/s with 8 correction terms; relative error below 1e-11 (DLMF 10.41.3)

for q > -1. In the second case e^(-u - v) and e^(2 sqrt(uv)) meet as -(sqrt u - sqrt v)^2, so that float32 keeps
its digits at short times, where both are enormous.

The law at time s of the diffusion held at x0 at 0 and at x1 at t is, whatever the diffusion,

    p(x_s = x | x0, x1) = p_s(x0, x) p_(t-s)(x, x1) / p_t(x0, x1)                            (``bridge_log_prob``)
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.scipy.special import gammaln
from jax.tree_util import Partial

from bridgejax._checks import as_real, check_positive
from bridgejax._numerics import as_time, normal_log_prob, safe_log, safe_sqrt
from bridgejax._types import Args, Numbers, Scalar, Time
from bridgejax.processes.sde import SDE, check_callable

__all__ = [
    "bridge_log_prob",
    "brownian_bridge",
    "brownian_log_prob",
    "cir",
    "cir_log_prob",
    "log_bessel_i",
    "ou_bridge",
    "ou_log_prob",
    "radial_ou",
    "radial_ou_log_prob",
]


def __dir__() -> list[str]:
    return __all__


_SWITCH = 30.0
_TERMS = 48


def _real(**values: Numbers) -> list[Array]:
    return [as_time(as_real(value, name) * 1.0) for name, value in values.items()]


def _check_between(s: Time, t: Time) -> None:
    """Raise for a concrete time s that lies beyond the ends 0 and t of a bridge."""
    if isinstance(s, Tracer) or isinstance(t, Tracer):
        return
    if not np.all((np.asarray(s) >= 0) & (np.asarray(s) <= np.asarray(t))):
        raise ValueError(f"s must lie in [0, t] = [0, {t}], got {s}")


# Brownian motion and OU -------------------------------------------------------------------------------------------


def brownian_log_prob(t: Time, x0: Numbers, x: Numbers, sigma: Scalar = 1.0) -> Array:
    """log density of x_t at x, for dx = sigma dW from x0. Elementwise over broadcast arrays.

    Raises:
        ValueError: t or sigma not positive.
    """
    check_positive(t=t, sigma=sigma)
    t, x0, x, sigma = _real(t=t, x0=x0, x=x, sigma=sigma)
    return normal_log_prob(x, x0, sigma**2 * t)


def brownian_bridge(s: Time, t: Time, x0: Numbers, x1: Numbers, sigma: Scalar = 1.0) -> tuple[Array, Array]:
    """Mean and variance at s of Brownian motion from x0 at 0 to x1 at t, 0 <= s <= t.

    Raises:
        ValueError: t or sigma not positive.

    Example:
        >>> import bridgejax as bj
        >>> mean, variance = bj.oracles.diffusions.brownian_bridge(0.5, 1.0, 0.0, 1.0)
        >>> float(mean), float(variance)
        (0.5, 0.25)
    """
    check_positive(t=t, sigma=sigma)
    s, t, x0, x1, sigma = _real(s=s, t=t, x0=x0, x1=x1, sigma=sigma)
    _check_between(s, t)
    return ((t - s) * x0 + s * x1) / t, sigma**2 * s * (t - s) / t


def ou_log_prob(t: Time, x0: Numbers, x: Numbers, beta: Scalar = 1.0, sigma: Scalar = 1.0) -> Array:
    """log density of x_t at x, for dx = -beta x dt + sigma dW from x0. Elementwise over broadcast arrays.

    Raises:
        ValueError: t, beta or sigma not positive.
    """
    check_positive(t=t, beta=beta, sigma=sigma)
    t, x0, x, beta, sigma = _real(t=t, x0=x0, x=x, beta=beta, sigma=sigma)
    return normal_log_prob(x, jnp.exp(-beta * t) * x0, -(sigma**2) / (2.0 * beta) * jnp.expm1(-2.0 * beta * t))


def _sinh_ratio(a: Array, b: Array) -> Array:
    """sinh(a) / sinh(b) for 0 <= a <= b, without overflow."""
    return jnp.exp(a - b) * jnp.expm1(-2.0 * a) / jnp.expm1(-2.0 * b)


def ou_bridge(
    s: Time, t: Time, x0: Numbers, x1: Numbers, beta: Scalar = 1.0, sigma: Scalar = 1.0
) -> tuple[Array, Array]:
    """Mean and variance at s of the OU process from x0 at 0 to x1 at t, 0 <= s <= t.

    mean = (x0 sinh beta(t - s) + x1 sinh beta s) / sinh beta t,
    variance = sigma^2 sinh(beta s) sinh(beta (t - s)) / (beta sinh beta t).

    Raises:
        ValueError: t, beta or sigma not positive.

    Example:
        >>> import bridgejax as bj
        >>> mean, variance = bj.oracles.diffusions.ou_bridge(0.5, 1.0, 0.0, 1.0)
        >>> round(float(mean), 4), round(float(variance), 4)
        (0.4434, 0.2311)
    """
    check_positive(t=t, beta=beta, sigma=sigma)
    s, t, x0, x1, beta, sigma = _real(s=s, t=t, x0=x0, x1=x1, beta=beta, sigma=sigma)
    _check_between(s, t)
    to_go, gone = _sinh_ratio(beta * (t - s), beta * t), _sinh_ratio(beta * s, beta * t)
    # sinh(a) sinh(b - a) / sinh(b) with the first factor as (1 - e^-2a) e^a / 2, its e^a met by the ratio's e^-a
    variance = sigma**2 / beta * -0.5 * jnp.expm1(-2.0 * beta * s) * jnp.expm1(-2.0 * beta * (t - s))
    return x0 * to_go + x1 * gone, variance / jnp.expm1(-2.0 * beta * t)


# the Bessel function ----------------------------------------------------------------------------------------------


def _debye_polynomials(count: int) -> np.ndarray:
    """Rows k = 1...count: coefficients c of U_k(p) = p^k sum_j c_j p^(2j).

    U_(k+1)(p) = p^2 (1 - p^2) U_k'(p) / 2 + (1/8) int_0^p (1 - 5 t^2) U_k(t) dt (DLMF 10.41.9), in exact fractions.
    """
    table = np.zeros((count, count + 1))
    current = {0: Fraction(1)}
    for k in range(1, count + 1):
        following: dict[int, Fraction] = {}
        for power, c in current.items():
            for shift, factor in (
                (1, Fraction(power, 2) + Fraction(1, 8 * (power + 1))),
                (3, -Fraction(power, 2) - Fraction(5, 8 * (power + 3))),
            ):
                following[power + shift] = following.get(power + shift, Fraction(0)) + c * factor
        current = following
        for power, c in current.items():
            table[k - 1, (power - k) // 2] = float(c)
    return table


_DEBYE = _debye_polynomials(8)


def _log_series(b: Array, y: Array) -> Array:
    """log 0F1(; b; y), y >= 0, by Horner's rule from the last term: 1 + y/(1 b) (1 + y/(2 (b + 1)) (1 + ...))."""

    def term(i: Array, total: Array) -> Array:
        k = _TERMS - jnp.asarray(i, y.dtype)
        return 1.0 + y / (k * (b + k - 1.0)) * total

    return jnp.log(jax.lax.fori_loop(0, _TERMS, term, jnp.ones_like(y)))


def _log_debye(b: Array, z: Array) -> Array:
    """log 0F1(; b; z^2/4) - z for s = sqrt((b - 1)^2 + z^2) large."""
    q = b - 1.0
    s = jnp.sqrt(q**2 + z**2)
    p2, correction = (q / s) ** 2, jnp.zeros_like(s)
    for row in _DEBYE[::-1]:  # sum_k U_k(p) / q^k, whose p^k is (q/s)^k: a series in 1/s
        inner = jnp.zeros_like(s)
        for c in row[::-1]:
            inner = inner * p2 + float(c)
        correction = (correction + inner) / s
    leading = q**2 / (s + z) - q * jnp.log(0.5 * (q + s)) + gammaln(b)  # s - z = q^2 / (s + z)
    return leading - 0.5 * jnp.log(2.0 * jnp.pi * s) + jnp.log1p(correction)


def _log_0f1(b: Array, u: Array, v: Array) -> Array:
    """log 0F1(; b; u v) - u - v for u, v >= 0, each branch at arguments at which it is finite."""
    y = u * v
    large = (b - 1.0) ** 2 + 4.0 * y >= _SWITCH**2
    small = _log_series(jnp.where(large, 1.0, b), jnp.where(large, 0.0, y)) - u - v
    root_u, root_v = (safe_sqrt(jnp.where(large, w, 1.0)) for w in (u, v))
    far = _log_debye(jnp.where(large, b, _SWITCH), 2.0 * root_u * root_v)
    return jnp.where(large, far - (root_u - root_v) ** 2, small)


def log_bessel_i(order: Scalar, z: Array) -> Array:
    """log I_order(z), the modified Bessel function of the first kind, for real order > -1 and z >= 0.

    Elementwise and differentiable in both; -infinity is replaced by about -69 order at z = 0 (z is floored at 1e-30).
    Relative error of I: 1e-11 in float64; in float32 that of rounding log I.

    Raises:
        ValueError: order <= -1 or z < 0.
    """
    order, z = _real(order=order, z=z)
    if not isinstance(order, Tracer) and not np.all(np.asarray(order) > -1):
        raise ValueError(f"order must exceed -1, got {order}")
    if not isinstance(z, Tracer) and not np.all(np.asarray(z) >= 0):
        raise ValueError(f"z must be >= 0, got {z}")
    return _log_bessel_i(order, z)


@jax.jit
def _log_bessel_i(order: Array, z: Array) -> Array:
    half = 0.5 * z
    return order * safe_log(half) - gammaln(order + 1.0) + _log_0f1(order + 1.0, half, half) + z


# CIR and radial OU ------------------------------------------------------------------------------------------------


def cir_log_prob(
    t: Time, x0: Numbers, x: Numbers, kappa: Scalar = 1.0, theta: Scalar = 1.0, sigma: Scalar = 1.0
) -> Array:
    """log density of x_t at x > 0, for dx = kappa (theta - x) dt + sigma sqrt(x) dW from x0 >= 0.

    For 2 kappa theta < sigma^2 the process touches 0 and is reflected there. Elementwise, differentiable in all
    arguments.

    Raises:
        ValueError: t, kappa, theta or sigma not positive.
    """
    check_positive(t=t, kappa=kappa, theta=theta, sigma=sigma)
    return _cir_log_prob(*_real(t=t, x0=x0, x=x, kappa=kappa, theta=theta, sigma=sigma))


@jax.jit
def _cir_log_prob(t: Array, x0: Array, x: Array, kappa: Array, theta: Array, sigma: Array) -> Array:
    c = -2.0 * kappa / (sigma**2 * jnp.expm1(-kappa * t))
    b = 2.0 * kappa * theta / sigma**2
    u, v = c * jnp.exp(-kappa * t) * x0, c * x
    return jnp.log(c) + (b - 1.0) * safe_log(v) - gammaln(b) + _log_0f1(*jnp.broadcast_arrays(b, u, v))


def radial_ou_log_prob(
    t: Time, x0: Numbers, x: Numbers, theta: Scalar = 1.0, beta: Scalar = 1.0, sigma: Scalar = 1.0
) -> Array:
    """log density of x_t at x > 0, for dx = (theta / x - beta x) dt + sigma dW from x0 >= 0.

    Its square is CIR. For theta = (d - 1) sigma^2 / 2 it is the norm of an OU process in d dimensions.

    Raises:
        ValueError: t, theta, beta or sigma not positive.
    """
    check_positive(t=t, theta=theta, beta=beta, sigma=sigma)
    t, x0, x, theta, beta, sigma = _real(t=t, x0=x0, x=x, theta=theta, beta=beta, sigma=sigma)
    level = (2.0 * theta + sigma**2) / (2.0 * beta)
    return cir_log_prob(t, x0**2, x**2, 2.0 * beta, level, 2.0 * sigma) + jnp.log(2.0 * x)


def _cir_drift(kappa: Scalar, theta: Scalar, t: Array, x: Array, args: Args) -> Array:
    return kappa * (theta - x)


def _cir_diffusion(sigma: Scalar, t: Array, x: Array, args: Args) -> Array:
    return sigma * safe_sqrt(x)


def cir(kappa: Scalar = 1.0, theta: Scalar = 1.0, sigma: Scalar = 1.0, T: float = 1.0) -> SDE:
    """The SDE of ``cir_log_prob``. Elementwise; a step below 0 finds no noise there and drifts back.

    Raises:
        ValueError: kappa, theta or sigma not positive.
    """
    check_positive(kappa=kappa, theta=theta, sigma=sigma)
    return SDE(Partial(_cir_drift, kappa, theta), Partial(_cir_diffusion, sigma), T, "state")


def _radial_drift(theta: Scalar, beta: Scalar, t: Array, x: Array, args: Args) -> Array:
    return theta / x - beta * x


def _constant(sigma: Scalar, t: Array, x: Array, args: Args) -> Scalar:
    return sigma


def radial_ou(theta: Scalar = 1.0, beta: Scalar = 1.0, sigma: Scalar = 1.0, T: float = 1.0) -> SDE:
    """The SDE of ``radial_ou_log_prob``. Its drift is infinite at 0, which for 2 theta >= sigma^2 is never reached.

    Raises:
        ValueError: theta, beta or sigma not positive.
    """
    check_positive(theta=theta, beta=beta, sigma=sigma)
    return SDE(Partial(_radial_drift, theta, beta), Partial(_constant, sigma), T)


# bridges ----------------------------------------------------------------------------------------------------------


def bridge_log_prob(
    transition_log_prob: Callable[[Time, Numbers, Numbers], Array],
    s: Time,
    t: Time,
    x0: Numbers,
    x: Numbers,
    x1: Numbers,
) -> Array:
    """log density at x of x_s given x_0 = x0 and x_t = x1: log p_s(x0, x) + log p_(t-s)(x, x1) - log p_t(x0, x1).

    Args:
        transition_log_prob: ``transition_log_prob(t, x0, x)`` of a time-homogeneous Markov process, such as
            ``jax.tree_util.Partial(cir_log_prob, kappa=2.0)``.
        s: time inside (0, t).
        t: time of the second end.
        x0: state at 0.
        x: where the density is asked for.
        x1: state at t.

    Raises:
        ValueError: s outside (0, t).
    """
    transition_log_prob = check_callable(transition_log_prob, "transition_log_prob", "transition_log_prob(t, x0, x)")
    s, t, x0, x, x1 = _real(s=s, t=t, x0=x0, x=x, x1=x1)
    if (
        not isinstance(s, Tracer)
        and not isinstance(t, Tracer)
        and not np.all((np.asarray(s) > 0) & (s < np.asarray(t)))
    ):
        raise ValueError(f"s must lie inside (0, t) = (0, {t}), got {s}")
    p = transition_log_prob
    return p(s, x0, x) + p(t - s, x, x1) - p(t, x0, x1)
