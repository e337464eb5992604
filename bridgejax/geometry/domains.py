"""Sets that a bridge may end in, and the Gaussian restricted to each of them.

A domain Omega gives, for Y ~ N(mean, variance I) (one number ``variance``),

    expectation   E[Y | Y in Omega]
    sample        a draw of Y given Y in Omega, exactly in Omega
    log_prob      log P(Y = y | Y in Omega): a density, or a probability where Omega is finite
    contains      whether x lies in Omega
    snap          the point of Omega next to x

which is all that ``bridgejax.constrain`` needs. A user's own domain is an object with these methods.

    Reals         no constraint
    Box           [low, high] in every coordinate, either end may be infinite
    HalfLine      [low, inf)
    IntegerGrid   low, low + spacing, ..., high in every coordinate           w_k ~ exp(-(y_k - mean)^2 / 2 variance)
    Categorical   one-hot vectors along the last axis
    FinitePoints  the rows of a table
    Sphere        |x| = 1                                        E = A_d(k) mean/|mean|, k = |mean|/variance
    Product       one of these for each block of coordinates

Sums over levels are softmaxes. Moments of the truncated normal are Gauss-Legendre sums over the part of the interval
that carries the mass, relative to its mode: no difference of distribution functions, so they hold to float32 rounding
for any mean and any variance, also 1e4 standard deviations outside the box and for boxes far narrower than the noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

TINY = 1e-20  # of variances: 1e4 squared over it is still a float32
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(48)


class Domain(Protocol):
    """What ``bridgejax.constrain`` asks of a set."""

    def contains(self, x: Array) -> Array:
        """Whether x lies in the set, one boolean."""
        ...

    def snap(self, x: Array) -> Array:
        """The nearest point of the set."""
        ...

    def expectation(self, mean: Array, variance: Array) -> Array:
        """E[Y | Y in the set], Y ~ N(mean, variance I)."""
        ...

    def sample(self, key: Array, mean: Array, variance: Array) -> Array:
        """A draw of Y given that it is in the set."""
        ...

    def log_prob(self, y: Array, mean: Array, variance: Array) -> Array:
        """log density (or probability) of Y = y given that Y is in the set."""
        ...


def _floored(variance: Any) -> Array:
    return jnp.maximum(jnp.asarray(variance), TINY)


def _log_normal(y: Array, mean: Array, variance: Array) -> Array:
    return -0.5 * (y - mean) ** 2 / variance - 0.5 * jnp.log(2.0 * math.pi * variance)


# intervals ----------------------------------------------------------------------------------------------------------


@partial(jax.tree_util.register_dataclass, data_fields=(), meta_fields=())
@dataclass(frozen=True)
class Reals:
    """All of space: no constraint."""

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
        return jnp.sum(_log_normal(y, mean, _floored(variance)))


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
def _truncated_mean(low: Array, high: Array, mean: Array, variance: Array) -> Array:
    """E[Y | low <= Y <= high]; its derivatives are moments too, so no derivative of the nodes is needed."""
    mode, step, weights = _weighed(low, high, mean, variance)
    return mode + jnp.sum(weights * step, axis=-1)


@_truncated_mean.defjvp
def _truncated_mean_jvp(primals: Any, tangents: Any) -> Any:
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
        return jnp.clip(_truncated_mean(low, high, mean, _floored(variance).astype(mean.dtype)), low, high)

    def sample(self, key: Array, mean: Array, variance: Array) -> Array:
        """By the inverse distribution function, on the side where it is small.

        A mean more than 12 standard deviations outside draws from the exponential that the tail is there, within 1 %.
        """
        low, high = self._ends(mean)
        sd = jnp.sqrt(_floored(variance))
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
        variance = _floored(variance)
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


# finite sets --------------------------------------------------------------------------------------------------------


def _logits(costs: Array, variance: Any) -> Array:
    """-(cost - least cost) / variance along the last axis, never below -1e4; exactly 0 for the cheapest.

    The cheapest is named by its index: compilers may round a cost differently where it is compared and where it is
    subtracted, and a rounding error over a tiny variance is a large logit.
    """
    cheapest = jnp.argmin(costs, axis=-1, keepdims=True)
    gaps = costs - jnp.take_along_axis(costs, cheapest, axis=-1)
    others = jnp.arange(costs.shape[-1]) != cheapest
    return -jnp.where(others, jnp.clip(jnp.maximum(gaps, 0.0) / _floored(variance), 0.0, 1e4), 0.0)


@partial(jax.tree_util.register_dataclass, data_fields=("levels",), meta_fields=())
@dataclass(frozen=True)
class Levels:
    """The same finite set of numbers in every coordinate; made by ``IntegerGrid``.

    Args:
        levels: (L,), increasing.
    """

    levels: Array

    def _logits(self, mean: Array, variance: Array) -> Array:
        levels = self.levels.astype(mean.dtype)
        return _logits(levels * (0.5 * levels - mean[..., None]), variance)

    def _index(self, x: Array) -> Array:
        return jnp.argmin(jnp.abs(x[..., None] - self.levels), axis=-1)

    def contains(self, x: Array) -> Array:
        """Whether every coordinate is a level, exactly."""
        return jnp.all(jnp.any(x[..., None] == self.levels.astype(x.dtype), axis=-1))

    def snap(self, x: Array) -> Array:
        """The nearest level of every coordinate."""
        return self.levels.astype(x.dtype)[self._index(x)]

    def expectation(self, mean: Array, variance: Array) -> Array:
        """Softmax-weighted mean of the levels."""
        return jax.nn.softmax(self._logits(mean, variance), axis=-1) @ self.levels.astype(mean.dtype)

    def sample(self, key: Array, mean: Array, variance: Array) -> Array:
        """A categorical draw in every coordinate."""
        return self.levels.astype(mean.dtype)[jax.random.categorical(key, self._logits(mean, variance), axis=-1)]

    def log_prob(self, y: Array, mean: Array, variance: Array) -> Array:
        """Sum of the coordinates' log probabilities; -inf off the levels."""
        logs = jax.nn.log_softmax(self._logits(mean, variance), axis=-1)
        chosen = jnp.take_along_axis(logs, self._index(y)[..., None], axis=-1)
        return jnp.where(self.contains(y), jnp.sum(chosen), -jnp.inf)


def IntegerGrid(low: float, high: float, spacing: float = 1.0) -> Levels:
    """low, low + spacing, ..., high in every coordinate: grey levels, counts, ratings.

    Raises:
        ValueError: spacing not positive, or high not a whole number of spacings above low.
    """
    if not spacing > 0 or not low < high:
        raise ValueError(f"low must lie below high and spacing be positive, got {low}, {high} and {spacing}")
    count = (high - low) / spacing
    if abs(count - round(count)) > 1e-6 * max(1.0, count):
        raise ValueError(f"high = {high} must be low = {low} plus a whole number of spacings of {spacing}")
    return Levels(jnp.asarray(low + spacing * np.arange(round(count) + 1), jnp.float32))


@partial(jax.tree_util.register_dataclass, data_fields=("points",), meta_fields=())
@dataclass(frozen=True)
class FinitePoints:
    """The rows of a table.

    Args:
        points: (K, *shape), one point of the domain in every row.
    """

    points: Array

    def __post_init__(self) -> None:
        if hasattr(self.points, "ndim") and (self.points.ndim < 1 or self.points.shape[0] == 0):
            raise ValueError(f"points must have shape (K, *shape) with K >= 1, got {self.points.shape}")

    def _logits(self, mean: Array, variance: Array) -> Array:
        points = self.points.reshape(self.points.shape[0], -1).astype(mean.dtype)
        return _logits(0.5 * jnp.sum(points**2, axis=1) - points @ mean.reshape(-1), variance)

    def contains(self, x: Array) -> Array:
        """Whether x is one of the points, exactly."""
        return jnp.any(jnp.all((self.points == x).reshape(self.points.shape[0], -1), axis=1))

    def snap(self, x: Array) -> Array:
        """The nearest point."""
        return self.points[jnp.argmax(self._logits(x, jnp.ones(())))].astype(x.dtype)

    def expectation(self, mean: Array, variance: Array) -> Array:
        """Softmax-weighted mean of the points."""
        weights = jax.nn.softmax(self._logits(mean, variance))
        return jnp.tensordot(weights, self.points, 1).astype(mean.dtype)

    def sample(self, key: Array, mean: Array, variance: Array) -> Array:
        """A categorical draw."""
        return self.points[jax.random.categorical(key, self._logits(mean, variance))].astype(mean.dtype)

    def log_prob(self, y: Array, mean: Array, variance: Array) -> Array:
        """Log probability of the point; -inf off the points."""
        logs = jax.nn.log_softmax(self._logits(mean, variance))
        return jnp.where(self.contains(y), logs[jnp.argmax(self._logits(y, jnp.ones(())))], -jnp.inf)


@partial(jax.tree_util.register_dataclass, data_fields=(), meta_fields=("count",))
@dataclass(frozen=True)
class Categorical:
    """One-hot vectors of length ``count`` along the last axis: one category per location.

    Given a state (..., K), every location draws its own category: P(k) ~ exp(mean_k / variance).
    """

    count: int

    def __post_init__(self) -> None:
        if not isinstance(self.count, int) or self.count < 2:
            raise ValueError(f"count must be an integer >= 2, the number of categories, got {self.count!r}")

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
        return jax.nn.one_hot(jnp.argmax(x, axis=-1), self.count, dtype=x.dtype)

    def expectation(self, mean: Array, variance: Array) -> Array:
        """Softmax of mean / variance: |mean - e_k|^2 differs from -2 mean_k by what is common."""
        self._check(mean)
        return jax.nn.softmax(_logits(-mean, variance), axis=-1)

    def sample(self, key: Array, mean: Array, variance: Array) -> Array:
        """A categorical draw at every location."""
        self._check(mean)
        drawn = jax.random.categorical(key, _logits(-mean, variance), axis=-1)
        return jax.nn.one_hot(drawn, self.count, dtype=mean.dtype)

    def log_prob(self, y: Array, mean: Array, variance: Array) -> Array:
        """Sum over locations of the log probabilities; -inf off the one-hot vectors."""
        logs = jax.nn.log_softmax(_logits(-mean, variance), axis=-1)
        return jnp.where(self.contains(y), jnp.sum(jnp.where(y == 1, logs, 0.0)), -jnp.inf)


# the sphere ---------------------------------------------------------------------------------------------------------


_LARGE = 20.0  # kappa - d from where the expansion is used


def _ratio_over_kappa(d: int, kappa: Array) -> Array:
    """A_d(kappa) / kappa = 1/(d + k^2/(d + 2 + k^2/(d + 4 + ...))), 40 levels: smooth at 0."""
    square = kappa**2
    below = jnp.full_like(kappa, d + 80.0)
    for k in range(39, -1, -1):
        below = d + 2.0 * k + square / below
    return 1.0 / below


def _ratio_far(d: int, kappa: Array) -> Array:
    n, inverse = d - 1.0, 1.0 / kappa
    return 1.0 - 0.5 * n * inverse + n * (d - 3.0) / 8.0 * inverse**2 * (1.0 + inverse)


def bessel_ratio(d: int, kappa: Array) -> Array:
    """A_d(kappa) = I_{d/2}(kappa) / I_{d/2-1}(kappa), the mean of cos(angle) of von Mises-Fisher on the sphere in R^d.

    Gauss's continued fraction below kappa = 20 + d; beyond, four terms of the expansion in 1 / kappa (Mardia & Jupp
    2000, appendix 1). Within 2e-5 in float32.
    """
    switch = _LARGE + d
    near = jnp.minimum(kappa, switch)
    return jnp.where(kappa < switch, near * _ratio_over_kappa(d, near), _ratio_far(d, jnp.maximum(kappa, switch)))


@partial(jax.tree_util.register_dataclass, data_fields=(), meta_fields=())
@dataclass(frozen=True)
class Sphere:
    """|x| = 1 in R^d, d >= 2. The normal restricted to it is von Mises-Fisher, kappa = |mean| / variance."""

    def contains(self, x: Array) -> Array:
        """Whether |x| = 1 to rounding."""
        return jnp.abs(jnp.sum(x**2) - 1.0) < 32.0 * jnp.finfo(x.dtype).eps

    def snap(self, x: Array) -> Array:
        """x / |x|; the first axis for x = 0."""
        norm = jnp.sqrt(jnp.sum(x**2))
        return jnp.where(norm > 0, x / jnp.where(norm > 0, norm, 1.0), jnp.zeros_like(x).at[0].set(1.0))

    def _direction(self, mean: Array, variance: Array) -> tuple[Array, Array]:
        square = jnp.sum(mean**2)
        norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
        direction = jnp.where(norm > 0, mean / jnp.where(norm > 0, norm, 1.0), 0.0)
        return direction, jnp.minimum(norm / _floored(variance), 1e15)

    def expectation(self, mean: Array, variance: Array) -> Array:
        """A_d(kappa) times the direction of the mean."""
        d, (direction, kappa) = mean.shape[0], self._direction(mean, variance)
        near = kappa < _LARGE + d
        scaled = mean / jnp.where(near, _floored(variance), 1.0)  # kappa times the direction, smooth at 0
        inner = scaled * _ratio_over_kappa(d, jnp.where(near, kappa, 0.0))
        return jnp.where(near, inner, direction * _ratio_far(d, jnp.where(near, _LARGE + d, kappa)))

    def sample(self, key: Array, mean: Array, variance: Array) -> Array:
        """Wood's rejection sampler (1994) for the cosine, a uniform direction across it."""
        d = mean.shape[0]
        direction, kappa = self._direction(mean, variance)
        cosine_key, across_key = jax.random.split(key)
        n = d - 1.0
        b = n / (jnp.sqrt(4.0 * kappa**2 + n**2) + 2.0 * kappa)
        x0 = (1.0 - b) / (1.0 + b)
        c = kappa * x0 + n * jnp.log1p(-(x0**2) + TINY)

        def propose(carry: Any) -> Any:
            k, i, _, _ = carry
            beta_key, uniform_key = jax.random.split(jax.random.fold_in(k, i))
            z = jax.random.beta(beta_key, 0.5 * n, 0.5 * n, dtype=mean.dtype)
            # 1 - w directly: near 1 the cosine itself has no digits left
            gap = 2.0 * b * z / (1.0 - (1.0 - b) * z)
            w = 1.0 - gap
            log_ratio = kappa * w + n * jnp.log1p(-x0 * w) - c
            return k, i + 1, gap, jnp.log(jax.random.uniform(uniform_key, (), mean.dtype)) < log_ratio

        start = (cosine_key, jnp.zeros((), jnp.int32), jnp.ones((), mean.dtype), jnp.zeros((), bool))
        gap = jax.lax.while_loop(lambda carry: ~carry[3] & (carry[1] < 1000), propose, start)[2]
        pole = jnp.where(kappa > 0, direction, jnp.zeros_like(mean).at[0].set(1.0))
        noise = jax.random.normal(across_key, mean.shape, mean.dtype)
        across = noise - jnp.dot(noise, pole) * pole
        y = (1.0 - gap) * pole + jnp.sqrt(jnp.maximum(gap * (2.0 - gap), 0.0)) * across / jnp.sqrt(jnp.sum(across**2))
        return y / jnp.sqrt(jnp.sum(y**2))

    def log_prob(self, y: Array, mean: Array, variance: Array) -> Array:
        """von Mises-Fisher with respect to the surface measure; for d = 3 (others need log I_nu).

        Raises:
            ValueError: another dimension.
        """
        if mean.shape[0] != 3:
            raise ValueError(f"the density on the sphere is given for d = 3, got d = {mean.shape[0]}")
        direction, kappa = self._direction(mean, variance)
        safe = jnp.maximum(kappa, 1e-6)
        # log kappa / (2 pi (e^k - e^-k)) + kappa cos, all relative to cos = 1
        gap = 0.5 * jnp.sum((y - direction) ** 2)
        log_norm = jnp.log(safe) - math.log(2.0 * math.pi) - jnp.log(-jnp.expm1(-2.0 * safe))
        return jnp.where(kappa > 1e-6, log_norm - kappa * gap, -math.log(4.0 * math.pi))


# products -----------------------------------------------------------------------------------------------------------


@partial(jax.tree_util.register_dataclass, data_fields=("domains",), meta_fields=("sizes",))
@dataclass(frozen=True)
class Product:
    """One domain for each block of coordinates of a vector, in order: a table's columns, for example.

    Args:
        domains: the domains.
        sizes: length of each block (static); they add up to the length of the state.

    Raises:
        ValueError: another number of sizes than of domains, or a size below 1.
    """

    domains: Sequence[Any]
    sizes: Sequence[int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "domains", tuple(self.domains))
        object.__setattr__(self, "sizes", tuple(self.sizes))
        if len(self.domains) != len(self.sizes) or not all(isinstance(n, int) and n >= 1 for n in self.sizes):
            raise ValueError(
                f"Product needs one positive size for each of its {len(self.domains)} domains, got {self.sizes}"
            )

    def _blocks(self, x: Array) -> list[Array]:
        if x.shape != (sum(self.sizes),):
            raise ValueError(f"this Product has vectors of length {sum(self.sizes)}, got shape {x.shape}")
        return jnp.split(x, np.cumsum(self.sizes)[:-1].tolist())

    def contains(self, x: Array) -> Array:
        """Whether every block lies in its domain."""
        return jnp.all(jnp.stack([d.contains(b) for d, b in zip(self.domains, self._blocks(x), strict=True)]))

    def snap(self, x: Array) -> Array:
        """Every block to its domain."""
        return jnp.concatenate([d.snap(b) for d, b in zip(self.domains, self._blocks(x), strict=True)])

    def expectation(self, mean: Array, variance: Array) -> Array:
        """Block by block."""
        blocks = zip(self.domains, self._blocks(mean), strict=True)
        return jnp.concatenate([d.expectation(b, variance) for d, b in blocks])

    def sample(self, key: Array, mean: Array, variance: Array) -> Array:
        """Block by block, independently."""
        keys = jax.random.split(key, len(self.domains))
        blocks = zip(self.domains, keys, self._blocks(mean), strict=True)
        return jnp.concatenate([d.sample(k, b, variance) for d, k, b in blocks])

    def log_prob(self, y: Array, mean: Array, variance: Array) -> Array:
        """Sum over the blocks."""
        blocks = zip(self.domains, self._blocks(y), self._blocks(mean), strict=True)
        return sum((d.log_prob(a, b, variance) for d, a, b in blocks), start=jnp.zeros(()))
