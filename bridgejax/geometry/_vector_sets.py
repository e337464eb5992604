"""Mirror maps of sets of vectors: boxes, positive numbers, probabilities and balls."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from bridgejax._checks import check_count, check_finite, check_positive, is_real
from bridgejax._pytrees import register_dataclass
from bridgejax._types import Scalar, Shape
from bridgejax.geometry._mirror_map import ConvexSet, check_margin, sum_zero_basis, tolerance
from bridgejax.geometry.intervals import check_below


@partial(register_dataclass, data_fields=("low", "high"), meta_fields=("margin",))
@dataclass(frozen=True, repr=False)
class Box(ConvexSet):
    """low < x < high in every coordinate, both ends finite.

    phi = sum (x - low) log(x - low) + (high - x) log(high - x), the gaps in widths of the box, times the width.

    Args:
        low: lower ends, a number or an array that broadcasts to a point.
        high: upper ends.
        margin: share of the centre that every point is given, for data on the boundary (pixels of 0 and 255).

    Raises:
        ValueError: ends that are not finite or not in order, a margin outside [0, 1).

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> box = bj.mirrors.Box(0.0, 4.0)
        >>> print(box.to_dual(jnp.array([1.0, 2.0])), box.to_primal(jnp.zeros(2)))
        [-1.0986123  0.       ] [2. 2.]
    """

    low: Scalar
    high: Scalar
    margin: float = 0.0

    def __post_init__(self) -> None:
        check_margin(self.margin)
        check_below(self.low, self.high)
        for name, end in (("low", self.low), ("high", self.high)):
            if is_real(end):
                check_finite(**{name: end})

    def _gaps(self, x: Array) -> tuple[Array, Array]:
        """(x - low) and (high - x), in widths of the box, after the margin."""
        width = jnp.asarray(self.high) - jnp.asarray(self.low)
        m = self.margin
        return (1.0 - m) * (x - self.low) / width + 0.5 * m, (1.0 - m) * (self.high - x) / width + 0.5 * m

    def potential(self, x: Array) -> Array:
        """sum (x - low) log(x - low) + (high - x) log(high - x), the gaps in widths of the box, times the width."""
        below, above = self._gaps(x)
        width = (jnp.asarray(self.high) - self.low) / (1.0 - self.margin)
        return jnp.sum(width * (below * jnp.log(below) + above * jnp.log(above)))

    def to_dual(self, x: Array) -> Array:
        """log (x - low) / (high - x)."""
        below, above = self._gaps(x)
        return jnp.log(below) - jnp.log(above)

    def to_primal(self, z: Array) -> Array:
        """low + (high - low) sigmoid(z)."""
        return jnp.clip(self.low + (jnp.asarray(self.high) - self.low) * jax.nn.sigmoid(z), self.low, self.high)

    def log_det(self, z: Array) -> Array:
        """- sum log (high - low) s (1 - s), s = sigmoid(z)."""
        width = jnp.log(jnp.asarray(self.high) - self.low)
        return jnp.sum(jax.nn.softplus(z) + jax.nn.softplus(-z) - width)

    def depth(self, x: Array) -> Array:
        """The least distance to an end, in widths of the box."""
        width = jnp.asarray(self.high) - self.low
        return jnp.min(jnp.minimum(x - self.low, self.high - x) / width)


@partial(register_dataclass, data_fields=(), meta_fields=())
@dataclass(frozen=True, repr=False)
class Positive(ConvexSet):
    """x > 0 in every coordinate: phi = sum x log x - x, z = log x.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> print(bj.mirrors.Positive().to_primal(jnp.array([0.0, -1.0])))
        [1.         0.36787945]
    """

    def potential(self, x: Array) -> Array:
        """sum x log x - x."""
        return jnp.sum(x * jnp.log(x) - x)

    def to_dual(self, x: Array) -> Array:
        """log x."""
        return jnp.log(x)

    def to_primal(self, z: Array) -> Array:
        """exp z."""
        return jnp.exp(z)

    def log_det(self, z: Array) -> Array:
        """- sum z."""
        return -jnp.sum(z)

    def depth(self, x: Array) -> Array:
        """The least coordinate."""
        return jnp.min(x)


@partial(register_dataclass, data_fields=(), meta_fields=("count", "margin"))
@dataclass(frozen=True, repr=False)
class Simplex(ConvexSet):
    """Probabilities x > 0, sum x = 1, shape (K,): phi = sum x log x, z in R^(K - 1) the isometric log ratio.

    Args:
        count: K, how many probabilities, >= 2.
        margin: share of the centre that every point is given, for probabilities of 0.

    Raises:
        ValueError: count below 2, a margin outside [0, 1).

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> print(bj.mirrors.Simplex(3).to_primal(jnp.zeros(2)))
        [0.33333334 0.33333334 0.33333334]
    """

    count: int
    margin: float = 0.0

    def __post_init__(self) -> None:
        check_count("count", self.count, 2)
        check_margin(self.margin)

    @property
    def dual_shape(self) -> Shape:
        """(K - 1,)."""
        return (self.count - 1,)

    def _inside(self, x: Array) -> Array:
        return (1.0 - self.margin) * x + self.margin / self.count

    def potential(self, x: Array) -> Array:
        """sum x log x."""
        x = self._inside(x)
        return jnp.sum(x * jnp.log(x)) / (1.0 - self.margin)

    def to_dual(self, x: Array) -> Array:
        """V' log x."""
        return jnp.log(self._inside(x)) @ jnp.asarray(sum_zero_basis(self.count), x.dtype)

    def to_primal(self, z: Array) -> Array:
        """softmax(V z)."""
        return jax.nn.softmax(jnp.asarray(sum_zero_basis(self.count), z.dtype) @ z)

    def log_det(self, z: Array) -> Array:
        """- log K - sum log x."""
        return -math.log(self.count) - jnp.sum(jax.nn.log_softmax(jnp.asarray(sum_zero_basis(self.count), z.dtype) @ z))

    def depth(self, x: Array) -> Array:
        """The least probability; nan where they do not sum to 1."""
        return jnp.where(jnp.abs(jnp.sum(x) - 1.0) <= tolerance(x), jnp.min(x), jnp.nan)


@partial(register_dataclass, data_fields=("radius",), meta_fields=("margin",))
@dataclass(frozen=True, repr=False)
class Ball(ConvexSet):
    """|x| < radius: phi = - radius sqrt(1 - |u|^2), z = u / sqrt(1 - |u|^2), u = x / radius.

    Args:
        radius: positive.
        margin: share of the centre that every point is given, for points of norm ``radius``.

    Raises:
        ValueError: a radius that is not positive, a margin outside [0, 1).

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> print(bj.mirrors.Ball().to_dual(jnp.array([0.6, 0.0])))
        [0.75 0.  ]
    """

    radius: Scalar = 1.0
    margin: float = 0.0

    def __post_init__(self) -> None:
        check_margin(self.margin)
        if is_real(self.radius):
            check_positive(radius=self.radius)

    def _unit(self, x: Array) -> tuple[Array, Array]:
        """u and sqrt(1 - |u|^2)."""
        u = (1.0 - self.margin) * x / self.radius
        return u, jnp.sqrt(1.0 - jnp.sum(u**2))

    def potential(self, x: Array) -> Array:
        """- radius sqrt(1 - |u|^2)."""
        return -self.radius * self._unit(x)[1] / (1.0 - self.margin)

    def to_dual(self, x: Array) -> Array:
        """u / sqrt(1 - |u|^2)."""
        u, root = self._unit(x)
        return u / root

    def to_primal(self, z: Array) -> Array:
        """radius z / sqrt(1 + |z|^2)."""
        return self.radius * z / jnp.sqrt(1.0 + jnp.sum(z**2))

    def log_det(self, z: Array) -> Array:
        """(d / 2 + 1) log(1 + |z|^2) - d log radius."""
        return (0.5 * z.size + 1.0) * jnp.log1p(jnp.sum(z**2)) - z.size * jnp.log(self.radius)

    def depth(self, x: Array) -> Array:
        """1 - |x| / radius."""
        return 1.0 - jnp.sqrt(jnp.sum(x**2)) / self.radius
