"""Boxes, half-lines and all of space: the normal and the truncated normal, coordinate by coordinate.

Moments of the truncated normal are Gauss-Legendre sums over the part of the interval that carries the mass, relative
to its mode: no difference of distribution functions, so they hold to float32 rounding for any mean and any variance,
also 1e4 standard deviations outside the box and for boxes far narrower than the noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._checks import as_real
from bridgejax._numerics import normal_log_prob
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import PyTree
from bridgejax.geometry._domain import TINY, floored, in_float32

_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(48)


@partial(register_dataclass, data_fields=(), meta_fields=())
@dataclass(frozen=True)
class Reals:
    """All of space: no constraint.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> print(bj.domains.Reals().expectation(jnp.array([0.5, 9.0]), 0.01))
        [0.5 9. ]
    """

    __repr__ = summary

    def contains(self, x: Array) -> Array:
        """Whether x is finite."""
        return jnp.all(jnp.isfinite(x))

    def snap(self, x: Array) -> Array:
        """x."""
        return x

    @in_float32
    def expectation(self, mean: Array, variance: Array) -> Array:
        """The mean."""
        return mean

    @in_float32
    def sample(self, key: Array, mean: Array, variance: Array) -> Array:
        """A normal draw."""
        return mean + jnp.sqrt(jnp.maximum(variance, 0.0)) * jax.random.normal(key, mean.shape, mean.dtype)

    def log_prob(self, y: Array, mean: Array, variance: Array) -> Array:
        """The normal's."""
        return jnp.sum(normal_log_prob(y, mean, floored(variance)))


def _interval(low: Array, high: Array, mean: Array, variance: Array) -> tuple[Array, Array, Array]:
    """Nodes around the mode of the truncated normal, their quadrature weights, and the log density there.

    Returns ``(steps, weights, exponents)`` with a last axis of nodes; steps and exponents are relative to the mode,
    because near it float32 has no room for a narrow law.
    """
    sd = jnp.sqrt(variance)
    mode = jnp.clip(mean, low, high)
    # outside the box the density falls like exp(-|mode - mean| |y - mode| / variance)
    reach = jnp.minimum(9.0 * sd, 25.0 * variance / jnp.maximum(jnp.abs(mode - mean), TINY))
    begin, end = jnp.maximum(low - mode, -reach), jnp.minimum(high - mode, reach)
    half = 0.5 * (end - begin)[..., None]
    step = begin[..., None] + half * (1.0 + jnp.asarray(_NODES, mean.dtype))
    exponents = -step * (step + 2.0 * (mode - mean)[..., None]) / (2.0 * variance)
    return step, half * jnp.asarray(_NODE_WEIGHTS, mean.dtype), exponents


def _weighed(low: Array, high: Array, mean: Array, variance: Array) -> tuple[Array, Array, Array]:
    """Mode, steps from it, and their normalised weights."""
    step, weights, exponents = _interval(low, high, mean, variance)
    mass = weights * jnp.exp(exponents)
    total = jnp.sum(mass, axis=-1, keepdims=True)
    return jnp.clip(mean, low, high), step, jnp.where(total > 0, mass / jnp.where(total > 0, total, 1.0), 0.0)


@jax.custom_jvp
def truncated_mean(low: Array, high: Array, mean: Array, variance: Array) -> Array:
    """E[Y | low <= Y <= high]; its derivatives are moments too, so no derivative of the nodes is needed."""
    mode, step, weights = _weighed(low, high, mean, variance)
    return mode + jnp.sum(weights * step, axis=-1)


@truncated_mean.defjvp
def truncated_mean_jvp(primals: PyTree, tangents: PyTree) -> PyTree:
    """d E / d mean = Var / variance, d E / d variance = Cov(Y, (Y - mean)^2) / (2 variance^2); the ends are fixed."""
    low, high, mean, variance = primals
    _, _, d_mean, d_variance = tangents
    mode, step, weights = _weighed(low, high, mean, variance)
    offset = jnp.sum(weights * step, axis=-1)
    centred = step - offset[..., None]
    relative = (step + (mode - mean)[..., None]) / jnp.sqrt(variance)
    by_mean = jnp.sum(weights * centred**2, axis=-1) / variance
    by_variance = 0.5 * jnp.sum(weights * centred * relative**2, axis=-1) / variance
    return mode + offset, by_mean * d_mean + by_variance * d_variance


_FAR = 8.0  # deviations outside from where the tail's expansion is used: it errs by 1e-5 there
_PANEL = np.polynomial.legendre.leggauss(8)


def _log_mills_correction(x: Array) -> Array:
    """log(x R(x)) for the Mills ratio R(x) = (1 - Phi(x)) / phi(x), x >= 8."""
    y = 1.0 / x**2
    return jnp.log1p(-y * (1.0 - y * (3.0 - y * (15.0 - 105.0 * y))))


def _tail_gap(u: Array, beyond: Array, width: Array) -> Array:
    """The inverse for beyond >= 8: log Q(g) = log(1 - u (1 - Q(width))) with Q the law of what is left, Q(0) = 1.

    -log Q(g) = beyond g + g^2/2 + log R(beyond) - log R(beyond + g): no small number is ever formed.
    """
    at_end = _log_mills_correction(beyond)

    def exponent(g: Array) -> Array:
        return g * (beyond + 0.5 * g) + jnp.log1p(g / beyond) + at_end - _log_mills_correction(beyond + g)

    wanted = -jnp.log1p(u * jnp.expm1(-exponent(width)))
    g = 2.0 * wanted / (jnp.sqrt(beyond**2 + 2.0 * wanted) + beyond)
    for _ in range(3):  # Newton's steps; the derivative is the hazard 1 / R
        hazard = (beyond + g) * jnp.exp(-_log_mills_correction(beyond + g))
        g = jnp.clip(g - (exponent(g) - wanted) / hazard, 0.0, width)
    return g


def _narrow_gap(u: Array, beyond: Array, width: Array) -> Array:
    """The inverse where the density changes little over the interval: Newton's steps on a sum of 8 nodes."""
    nodes, weights = (jnp.asarray(v, u.dtype) for v in (0.5 + 0.5 * _PANEL[0], 0.5 * _PANEL[1]))

    def mass(g: Array) -> Array:
        at = g[..., None] * nodes
        return g * (jnp.exp(-at * (beyond[..., None] + 0.5 * at)) @ weights)

    wanted, g = u * mass(width), u * width
    for _ in range(3):
        g = jnp.clip(g - (mass(g) - wanted) * jnp.exp(g * (beyond + 0.5 * g)), 0.0, width)
    return g


def _gap(u: Array, beyond: Array, width: Array) -> Array:
    """g in [0, width] with distribution function u, density ~ exp(-beyond g - g^2/2): a standard normal, truncated.

    Args:
        u: in (0, 1).
        beyond: how far the normal's mean lies outside the end that g counts from; negative inside.
        width: of the interval, in deviations.
    """
    # the distribution function itself serves only where the interval holds several of its roundings
    narrow = width * (1.0 + jnp.abs(beyond)) < 0.5
    far = (beyond >= _FAR) & ~narrow
    near = ~(narrow | far)
    tail = _tail_gap(u, jnp.where(far, beyond, _FAR), jnp.where(far, width, 1.0))
    thin = _narrow_gap(u, jnp.where(narrow, beyond, 0.0), jnp.where(narrow, width, 0.25))
    end, span = jnp.where(near, beyond, 0.0), jnp.where(near, width, 1.0)
    below, above = jax.scipy.special.ndtr(-end - span), jax.scipy.special.ndtr(-end)
    share = jnp.clip(below + (1.0 - u) * (above - below), jnp.finfo(u.dtype).tiny, 1.0 - jnp.finfo(u.dtype).epsneg)
    body = jnp.clip(-end - jax.scipy.special.ndtri(share), 0.0, span)
    return jnp.where(far, tail, jnp.where(narrow, thin, body))


@partial(register_dataclass, data_fields=("low", "high"), meta_fields=())
@dataclass(frozen=True)
class Box:
    """[low, high] in every coordinate.

    Args:
        low: a number or an array like the state; may be -inf.
        high: likewise; may be inf.

    Raises:
        ValueError: low not below high.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> box = bj.domains.Box(0.0, 1.0)
        >>> [round(x, 3) for x in box.expectation(jnp.array([0.5, 9.0]), 0.01).tolist()]  # restricted Gaussians
        [0.5, 0.999]
        >>> print(box.snap(jnp.array([0.5, 9.0])))
        [0.5 1. ]
    """

    low: float | Array
    high: float | Array

    __repr__ = summary

    def __post_init__(self) -> None:
        check_below(self.low, self.high)

    def contains(self, x: Array) -> Array:
        """low <= x <= high everywhere."""
        return jnp.all((x >= self.low) & (x <= self.high))

    def snap(self, x: Array) -> Array:
        """x clipped."""
        return jnp.clip(x, self.low, self.high)

    def _ends(self, mean: Array) -> tuple[Array, Array]:
        """The ends like the mean; infinite ones become very large, which the nodes never reach."""
        big = jnp.finfo(mean.dtype).max / 8
        low, high = (jnp.clip(jnp.asarray(v, mean.dtype), -big, big) for v in (self.low, self.high))
        return jnp.broadcast_to(low, mean.shape), jnp.broadcast_to(high, mean.shape)

    @in_float32
    def expectation(self, mean: Array, variance: Array) -> Array:
        """Mean of the truncated normal."""
        low, high = self._ends(mean)
        return jnp.clip(truncated_mean(low, high, mean, floored(variance).astype(mean.dtype)), low, high)

    @in_float32
    def sample(self, key: Array, mean: Array, variance: Array) -> Array:
        """By the inverse distribution function, as a distance from the end that is nearest to the mean's side."""
        dtype, wide = mean.dtype, jnp.promote_types(mean.dtype, jnp.float32)
        mean = mean.astype(wide)
        low, high = self._ends(mean)
        sd = jnp.sqrt(floored(variance)).astype(wide)
        # 40 deviations from the mode there is nothing, and ends stay numbers
        left = jnp.maximum(low, jnp.minimum(high, mean) - 40.0 * sd)
        right = jnp.minimum(high, jnp.maximum(low, mean) + 40.0 * sd)
        flip = (left - mean) + (right - mean) > 0  # the interval's centre is right of the mean
        beyond = jnp.where(flip, left - mean, mean - right) / sd
        u = jax.random.uniform(key, mean.shape, wide, minval=jnp.finfo(wide).tiny)
        gap = sd * _gap(u, beyond, (right - left) / sd)
        return jnp.clip(jnp.where(flip, left + gap, right - gap), low, high).astype(dtype)

    def log_prob(self, y: Array, mean: Array, variance: Array) -> Array:
        """Density of the truncated normal; -inf outside."""
        low, high = self._ends(mean)
        variance = floored(variance)
        _, weights, exponents = _interval(low, high, mean, variance)
        mode = jnp.clip(mean, low, high)
        log_total = jnp.log(jnp.maximum(jnp.sum(weights * jnp.exp(exponents), axis=-1), TINY))
        step = y - mode
        density = -step * (step + 2.0 * (mode - mean)) / (2.0 * variance) - log_total
        return jnp.where(self.contains(y), jnp.sum(density), -jnp.inf)


def HalfLine(low: float | Array = 0.0) -> Box:
    """[low, inf) in every coordinate.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> print(bj.domains.HalfLine().snap(jnp.array([-1.0, 2.0])))
        [0. 2.]
    """
    as_real(low, "low")
    return Box(low, jnp.inf)


def check_below(low: float | Array, high: float | Array) -> None:
    """Raise unless ``low`` lies below ``high`` everywhere, where both are concrete numbers."""
    values = [v for v in (low, high) if isinstance(v, int | float | np.ndarray | np.number)]
    if len(values) == 2 and not np.all(np.asarray(low) < np.asarray(high)):
        raise ValueError(f"low must lie below high, got {low} and {high}")
