"""Finite sets: grids of levels, one-hot vectors and tables of points, restricted Gaussians that are softmaxes.

    P(Y = y_k) ~ exp(-|y_k - mean|^2 / (2 variance) + tilt_k)

Costs are those beside the nearest point y_0, (y_k - y_0) . ((y_k + y_0)/2 - mean): differences first, so that neither
an offset of the set nor its size beside its spacing costs digits, and nothing overflows as the variance vanishes.
``tilt`` is optional, for ``Levels`` and ``Categorical`` another one in every coordinate or location, and what a bridge
to weighted points learns: the log ratio of the law that is wanted to the reference's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._checks import check_number
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Scalar
from bridgejax.geometry._domain import dtype_of, floored, in_float32
from bridgejax.geometry.intervals import truncated_mean

_MANY = 512  # levels: from here on expectations look at the nearest, or at the integral
_WINDOW = 128  # spacings


def _logits(costs: Array, variance: Scalar) -> Array:
    """-(cost - least cost) / variance along the last axis, never below -1e4; exactly 0 for the cheapest.

    The cheapest is named by its index: compilers may round a cost differently where it is compared and where it is
    subtracted, and a rounding error over a tiny variance is a large logit.
    """
    cheapest = jnp.argmin(costs, axis=-1, keepdims=True)
    gaps = costs - jnp.take_along_axis(costs, cheapest, axis=-1)
    others = jnp.arange(costs.shape[-1]) != cheapest
    return -jnp.where(others, jnp.clip(jnp.maximum(gaps, 0.0) / floored(variance), 0.0, 1e4), 0.0)


def _level_costs(levels: Array, mean: Array) -> Array:
    """Half the squared distance of every level to the mean, less that of the nearest: (..., L)."""
    nearest = jnp.argmin(jnp.abs(levels - mean[..., None]), axis=-1)
    pivot = jnp.take_along_axis(jnp.broadcast_to(levels, (*mean.shape, levels.shape[-1])), nearest[..., None], axis=-1)
    return (levels - pivot) * (0.5 * (levels - pivot) + (pivot - mean[..., None]))


def _tilted(logits: Array, tilt: Array | None) -> Array:
    return logits if tilt is None else logits + jnp.asarray(tilt, logits.dtype)


def _of_many(levels: Array, mean: Array, variance: Array) -> Array:
    """The mean of many evenly spaced levels: of the nearest 129, or of the truncated normal that they sample.

    The weights fall off within sd, or variance / distance for a mean outside. Up to 8 spacings the window holds all but
    1e-7 of the mass; beyond, the midpoint rule errs by spacing^2 / (24 sd^2) < 7e-4 of the mass at an edge, and not at
    all inside.
    """
    low, high, count = levels[0], levels[-1], levels.shape[0]
    spacing, variance = (high - low) / (count - 1), floored(variance)
    first = jnp.clip(jnp.rint((mean - low) / spacing).astype(jnp.int32) - _WINDOW // 2, 0, count - _WINDOW - 1)
    near = levels[first[..., None] + jnp.arange(_WINDOW + 1)]
    weights = jax.nn.softmax(_logits(_level_costs(near, mean), variance), axis=-1)
    outside = jnp.maximum(jnp.maximum(low - mean, mean - high), 0.0)
    reach = jnp.sqrt(variance) / jnp.maximum(1.0, outside / jnp.sqrt(variance))
    smooth = truncated_mean(low - 0.5 * spacing, high + 0.5 * spacing, mean, jnp.asarray(variance, mean.dtype))
    return jnp.where(reach > 8.0 * spacing, jnp.clip(smooth, low, high), jnp.sum(weights * near, axis=-1))


@partial(register_dataclass, data_fields=("levels",), meta_fields=())
@dataclass(frozen=True)
class Levels:
    """The same finite set of numbers in every coordinate; made by ``IntegerGrid``.

    Args:
        levels: (L,), increasing in equal steps.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> levels = bj.domains.Levels(jnp.array([0.0, 1.0, 4.0]))
        >>> print(levels.snap(jnp.array([0.4, 3.0])))
        [0. 4.]
        >>> print(levels.expectation(jnp.array([0.5]), 0.1))                         # 0 and 1 are equally far
        [0.5]
    """

    levels: Array

    __repr__ = summary

    def tilt_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the tilt of a state of this shape: (*shape, L)."""
        return (*shape, self.levels.shape[0])

    def _logits(self, mean: Array, variance: Array, tilt: Array | None = None) -> Array:
        levels = self.levels.astype(dtype_of(mean))
        return _tilted(_logits(_level_costs(levels, mean), variance), tilt)

    def _index(self, x: Array) -> Array:
        return jnp.argmin(jnp.abs(x[..., None] - self.levels), axis=-1)

    def contains(self, x: Array) -> Array:
        """Whether every coordinate is a level, exactly."""
        return jnp.all(jnp.any(x[..., None] == self.levels.astype(dtype_of(x)), axis=-1))

    def snap(self, x: Array) -> Array:
        """The nearest level of every coordinate."""
        return self.levels.astype(dtype_of(x))[self._index(x)]

    @in_float32
    def expectation(self, mean: Array, variance: Array, tilt: Array | None = None) -> Array:
        """Softmax-weighted mean of the levels."""
        if tilt is None and self.levels.shape[0] >= _MANY:
            return _of_many(self.levels.astype(mean.dtype), mean, variance)
        return jax.nn.softmax(self._logits(mean, variance, tilt), axis=-1) @ self.levels.astype(mean.dtype)

    @in_float32
    def sample(self, key: Array, mean: Array, variance: Array, tilt: Array | None = None) -> Array:
        """A categorical draw in every coordinate."""
        return self.levels.astype(mean.dtype)[jax.random.categorical(key, self._logits(mean, variance, tilt), axis=-1)]

    def log_prob(self, y: Array, mean: Array, variance: Array, tilt: Array | None = None) -> Array:
        """Sum of the coordinates' log probabilities; -inf off the levels."""
        logs = jax.nn.log_softmax(self._logits(mean, variance, tilt), axis=-1)
        chosen = jnp.take_along_axis(logs, self._index(y)[..., None], axis=-1)
        return jnp.where(self.contains(y), jnp.sum(chosen), -jnp.inf)


def IntegerGrid(low: float, high: float, spacing: float = 1.0) -> Levels:
    """low, low + spacing, ..., high in every coordinate: grey levels, counts, ratings.

    Raises:
        ValueError: spacing not positive, or high not a whole number of spacings above low.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> print(bj.domains.IntegerGrid(0, 255).snap(jnp.array([-3.0, 17.2])))
        [ 0. 17.]
    """
    check_number(low=low, high=high, spacing=spacing)
    if not spacing > 0 or not low < high:
        raise ValueError(f"low must lie below high and spacing be positive, got {low}, {high} and {spacing}")
    count = (high - low) / spacing
    if abs(count - round(count)) > 1e-6 * max(1.0, count):
        raise ValueError(f"high = {high} must be low = {low} plus a whole number of spacings of {spacing}")
    return Levels(jnp.asarray(low + spacing * np.arange(round(count) + 1), jnp.result_type(float)))


@partial(register_dataclass, data_fields=("points",), meta_fields=())
@dataclass(frozen=True)
class FinitePoints:
    """The rows of a table.

    Args:
        points: (K, *shape), one point of the domain in every row.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> points = bj.domains.FinitePoints(jnp.array([[0.0, 0.0], [1.0, 1.0]]))
        >>> print(points.snap(jnp.array([0.9, 0.4])))
        [1. 1.]
    """

    points: Array

    __repr__ = summary

    def __post_init__(self) -> None:
        if isinstance(self.points, np.ndarray):
            object.__setattr__(self, "points", jnp.asarray(self.points))
        if hasattr(self.points, "ndim") and (self.points.ndim < 1 or self.points.shape[0] == 0):
            raise ValueError(f"points must have shape (K, *shape) with K >= 1, got {self.points.shape}")

    def tilt_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the tilt: (K,)."""
        return (self.points.shape[0],)

    def _logits(self, mean: Array, variance: Array, tilt: Array | None = None) -> Array:
        points, mean = self.points.reshape(self.points.shape[0], -1).astype(dtype_of(mean)), mean.reshape(-1)
        pivot = points[self._nearest(mean)]
        costs = jnp.sum((points - pivot) * (0.5 * (points - pivot) + (pivot - mean)), axis=1)
        return _tilted(_logits(costs, variance), tilt)

    def _nearest(self, x: Array) -> Array:
        gaps = self.points.reshape(self.points.shape[0], -1).astype(dtype_of(x)) - x.reshape(-1)
        return jnp.argmin(jnp.sum(gaps**2, axis=1))

    def contains(self, x: Array) -> Array:
        """Whether x is one of the points, exactly."""
        return jnp.any(jnp.all((self.points.astype(dtype_of(x)) == x).reshape(self.points.shape[0], -1), axis=1))

    def snap(self, x: Array) -> Array:
        """The nearest point."""
        return self.points[self._nearest(x)].astype(dtype_of(x))

    @in_float32
    def expectation(self, mean: Array, variance: Array, tilt: Array | None = None) -> Array:
        """Softmax-weighted mean of the points."""
        weights = jax.nn.softmax(self._logits(mean, variance, tilt))
        return jnp.tensordot(weights, self.points, 1).astype(mean.dtype)

    @in_float32
    def sample(self, key: Array, mean: Array, variance: Array, tilt: Array | None = None) -> Array:
        """A categorical draw."""
        return self.points[jax.random.categorical(key, self._logits(mean, variance, tilt))].astype(mean.dtype)

    def log_prob(self, y: Array, mean: Array, variance: Array, tilt: Array | None = None) -> Array:
        """Log probability of the point; -inf off the points."""
        logs = jax.nn.log_softmax(self._logits(mean, variance, tilt))
        return jnp.where(self.contains(y), logs[self._nearest(y)], -jnp.inf)


@partial(register_dataclass, data_fields=(), meta_fields=("count",))
@dataclass(frozen=True)
class Categorical:
    """One-hot vectors of length ``count`` along the last axis: one category per location.

    Given a state (..., K), every location draws its own category: P(k) ~ exp(mean_k / variance).

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> x = jnp.array([[0.2, 0.5, 0.3]])                                         # one location, three categories
        >>> print(bj.domains.Categorical(3).snap(x))
        [[0. 1. 0.]]
    """

    count: int

    __repr__ = summary

    def __post_init__(self) -> None:
        if not isinstance(self.count, int) or self.count < 2:
            raise ValueError(f"count must be an integer >= 2, the number of categories, got {self.count!r}")

    def tilt_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the tilt of a state of this shape: the same."""
        return shape

    def _logits(self, mean: Array, variance: Array, tilt: Array | None = None) -> Array:
        return _tilted(_logits(-mean, variance), tilt)

    def _check(self, x: Array) -> None:
        if x.shape[-1:] != (self.count,):
            raise ValueError(f"a Categorical({self.count}) state has a last axis of {self.count}, got shape {x.shape}")

    def contains(self, x: Array) -> Array:
        """Whether every location is a one-hot vector, exactly."""
        self._check(x)
        return jnp.all((x == 0) | (x == 1)) & jnp.all(jnp.sum(x, axis=-1) == 1)

    def snap(self, x: Array) -> Array:
        """The largest entry of every location."""
        self._check(x)
        return jax.nn.one_hot(jnp.argmax(x, axis=-1), self.count, dtype=dtype_of(x))

    @in_float32
    def expectation(self, mean: Array, variance: Array, tilt: Array | None = None) -> Array:
        """Softmax of mean / variance: |mean - e_k|^2 differs from -2 mean_k by what is common."""
        self._check(mean)
        return jax.nn.softmax(self._logits(mean, variance, tilt), axis=-1)

    @in_float32
    def sample(self, key: Array, mean: Array, variance: Array, tilt: Array | None = None) -> Array:
        """A categorical draw at every location."""
        self._check(mean)
        drawn = jax.random.categorical(key, self._logits(mean, variance, tilt), axis=-1)
        return jax.nn.one_hot(drawn, self.count, dtype=mean.dtype)

    def log_prob(self, y: Array, mean: Array, variance: Array, tilt: Array | None = None) -> Array:
        """Sum over locations of the log probabilities; -inf off the one-hot vectors."""
        logs = jax.nn.log_softmax(self._logits(mean, variance, tilt), axis=-1)
        return jnp.where(self.contains(y), jnp.sum(jnp.where(y == 1, logs, 0.0)), -jnp.inf)
