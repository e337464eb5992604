"""Boxes, half-lines and all of space: the normal and the truncated normal, coordinate by coordinate.

Moments of the truncated normal are Gauss-Legendre sums over the part of the interval that carries the mass, relative
to its mode: no difference of distribution functions, so they hold to float32 rounding for any mean and any variance,
also 1e4 standard deviations outside the box and for boxes far narrower than the noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._summary import summary
from bridgejax.geometry.domain import TINY, floored, log_normal

_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(48)


@partial(jax.tree_util.register_dataclass, data_fields=(), meta_fields=())
@dataclass(frozen=True)
class Reals:
    """All of space: no constraint."""

    __repr__ = summary

    def contains(self, x: Array) -> Array:
        """Whether x is finite."""
        return jnp.all(jnp.isfinite(x))

    def snap(self, x: Array) -> Array:
        """x."""
        return x

    def expectation(self, mean: Array, variance: Array) -> Array:
        """The mean."""
        return mean

    def sample(self, key: Array, mean: Array, variance: Array) -> Array:
        """A normal draw."""
        return mean + jnp.sqrt(jnp.maximum(variance, 0.0)) * jax.random.normal(key, mean.shape, mean.dtype)

    def log_prob(self, y: Array, mean: Array, variance: Array) -> Array:
        """The normal's."""
        return jnp.sum(log_normal(y, mean, floored(variance)))


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
def truncated_mean_jvp(primals: Any, tangents: Any) -> Any:
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


@partial(jax.tree_util.register_dataclass, data_fields=("low", "high"), meta_fields=())
@dataclass(frozen=True)
class Box:
    """[low, high] in every coordinate.

    Args:
        low: a number or an array like the state; may be -inf.
        high: likewise; may be inf.

    Raises:
        ValueError: low not below high.
    """

    low: Any
    high: Any

    __repr__ = summary

    def __post_init__(self) -> None:
        _check_below(self.low, self.high)

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

    def expectation(self, mean: Array, variance: Array) -> Array:
        """Mean of the truncated normal."""
        low, high = self._ends(mean)
        return jnp.clip(truncated_mean(low, high, mean, floored(variance).astype(mean.dtype)), low, high)

    def sample(self, key: Array, mean: Array, variance: Array) -> Array:
        """By the inverse distribution function, on the side where it is small.

        A mean more than 12 standard deviations outside draws from the exponential that the tail is there, within 1 %.
        """
        low, high = self._ends(mean)
        sd = jnp.sqrt(floored(variance))
        u = jax.random.uniform(key, mean.shape, mean.dtype, minval=jnp.finfo(mean.dtype).tiny)
        a, b = (low - mean) / sd, (high - mean) / sd
        flip = a + b > 0  # the interval's centre is right of the mean: use the upper tail
        a, b = jnp.where(flip, -b, a), jnp.where(flip, -a, b)
        limit = 12.0
        near = b > -limit
        p, q = jax.scipy.special.ndtr(a), jax.scipy.special.ndtr(jnp.where(near, b, 0.0))
        z = jax.scipy.special.ndtri(jnp.clip(p + u * (q - p), TINY, 1.0 - 2.0**-24))
        rate = jnp.where(near, 1.0, -b)
        gap = -jnp.log1p(-u * -jnp.expm1(-rate * jnp.where(near, 1.0, b - a))) / rate
        z = jnp.clip(jnp.where(near, z, b - gap), a, b)
        return jnp.clip(mean + sd * jnp.where(flip, -z, z), low, high)

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


def HalfLine(low: Any = 0.0) -> Box:
    """[low, inf) in every coordinate."""
    return Box(low, jnp.inf)


def _check_below(low: Any, high: Any) -> None:
    values = [v for v in (low, high) if isinstance(v, int | float | np.ndarray | np.number)]
    if len(values) == 2 and not np.all(np.asarray(low) < np.asarray(high)):
        raise ValueError(f"low must lie below high, got {low} and {high}")
