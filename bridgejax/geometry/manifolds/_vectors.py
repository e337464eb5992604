"""Manifolds whose points are vectors: R^d, angles and unit vectors.

    torus    exp_x(v) = x + v mod 2 pi
    sphere   exp_x(v) = cos|v| x + (sin|v| / |v|) v,      log_x(y) = (theta / sin theta) (y - cos theta x)

(Absil, Mahony & Sepulchre 2008, Optimization Algorithms on Matrix Manifolds.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from bridgejax._checks import check_count
from bridgejax._numerics import TINY, dtype_of, safe_sqrt
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax.geometry.manifolds._manifold import Manifold
from bridgejax.geometry.manifolds._series import cos_root, sinc_root


@partial(register_dataclass, data_fields=(), meta_fields=("d",))
@dataclass(frozen=True)
class Euclidean(Manifold):
    """R^d.

    Args:
        d: dimension.

    Raises:
        ValueError: d below 1.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> print(bj.manifolds.Euclidean(2).exp(jnp.zeros(2), jnp.ones(2)))
        [1. 1.]
    """

    d: int

    __repr__ = summary

    def __post_init__(self) -> None:
        check_count("d", self.d)

    @property
    def shape(self) -> tuple[int, ...]:
        """(d,)."""
        return (self.d,)

    @property
    def dim(self) -> int:
        """d."""
        return self.d

    def defect(self, x: Array) -> Array:
        """0."""
        return jnp.zeros((), dtype_of(x))

    def project(self, x: Array) -> Array:
        """x."""
        return x

    def to_tangent(self, x: Array, v: Array) -> Array:
        """v."""
        return v

    def exp(self, x: Array, v: Array) -> Array:
        """x + v."""
        return x + v

    def log(self, x: Array, y: Array) -> Array:
        """y - x."""
        return y - x

    def uniform(self, key: Array) -> Array:
        """There is none.

        Raises:
            ValueError: always.
        """
        raise ValueError("R^d has no uniform law; start from bridgejax.starts.normal")

    @property
    def log_volume(self) -> float:
        """Infinite."""
        return math.inf

    def ricci(self, x: Array, v: Array) -> Array:
        """0."""
        return jnp.zeros_like(v)


@partial(register_dataclass, data_fields=(), meta_fields=("d",))
@dataclass(frozen=True)
class Torus(Manifold):
    """d angles in radians, each in [-pi, pi]; volume (2 pi)^d.

    Args:
        d: number of angles.

    Raises:
        ValueError: d below 1.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> torus = bj.manifolds.Torus(1)
        >>> round(float(torus.distance(jnp.array([3.0]), jnp.array([-3.0]))), 4)     # 2 pi - 6
        0.2832
    """

    d: int

    __repr__ = summary

    def __post_init__(self) -> None:
        check_count("d", self.d)

    @property
    def shape(self) -> tuple[int, ...]:
        """(d,)."""
        return (self.d,)

    @property
    def dim(self) -> int:
        """d."""
        return self.d

    def defect(self, x: Array) -> Array:
        """How far the angle of greatest size lies beyond pi."""
        return jnp.maximum(jnp.max(jnp.abs(self._one(x))) - math.pi, 0.0)

    def _complaint(self, x: Array, defect: float) -> str:
        return (
            f"it holds an angle beyond pi by {defect:.3g}; wrap radians with manifold.project(x), "
            "turn degrees into radians with jnp.deg2rad(x) first"
        )

    def project(self, x: Array) -> Array:
        """The same angles in [-pi, pi]."""
        return jnp.clip(x - 2.0 * math.pi * jnp.round(x / (2.0 * math.pi)), -math.pi, math.pi)

    def to_tangent(self, x: Array, v: Array) -> Array:
        """v."""
        return v

    def exp(self, x: Array, v: Array) -> Array:
        """x + v, wrapped."""
        return self.project(x + v)

    def log(self, x: Array, y: Array) -> Array:
        """y - x, wrapped."""
        return self.project(y - x)

    def uniform(self, key: Array) -> Array:
        """Independent uniform angles."""
        return jax.random.uniform(key, self.shape, minval=-math.pi, maxval=math.pi)

    @property
    def log_volume(self) -> float:
        """d log 2 pi."""
        return self.d * math.log(2.0 * math.pi)

    def ricci(self, x: Array, v: Array) -> Array:
        """0: a torus is flat."""
        return jnp.zeros_like(v)

    def features(self, x: Array) -> Array:
        """cos x, sin x: (2 d,)."""
        return jnp.concatenate([jnp.cos(x), jnp.sin(x)], axis=-1)


@partial(register_dataclass, data_fields=(), meta_fields=("d",))
@dataclass(frozen=True)
class Sphere(Manifold):
    """Unit vectors of R^(d + 1), with the angle as distance.

    Args:
        d: dimension of the sphere: 2 for the surface of a ball.

    Raises:
        ValueError: d below 1.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> sphere = bj.manifolds.Sphere(2)
        >>> north, east = jnp.array([0.0, 0.0, 1.0]), jnp.array([1.0, 0.0, 0.0])
        >>> round(float(sphere.distance(north, east)), 4)                            # pi / 2
        1.5708
    """

    d: int

    __repr__ = summary

    def __post_init__(self) -> None:
        check_count("d", self.d)

    @property
    def shape(self) -> tuple[int, ...]:
        """(d + 1,)."""
        return (self.d + 1,)

    @property
    def dim(self) -> int:
        """d."""
        return self.d

    def defect(self, x: Array) -> Array:
        """| |x| - 1 |."""
        return jnp.abs(safe_sqrt(jnp.sum(self._one(x) ** 2)) - 1.0)

    def project(self, x: Array) -> Array:
        """x / |x|; the last axis for x = 0."""
        scale = jnp.max(jnp.abs(self._one(x)))  # so that no square under- or overflows
        some = scale > 0
        x = jnp.where(some, x / jnp.where(some, scale, 1.0), jnp.zeros_like(x).at[-1].set(1.0))
        return x / jnp.sqrt(jnp.sum(x**2))

    def to_tangent(self, x: Array, v: Array) -> Array:
        """v - (x.v) x."""
        return v - jnp.sum(self._one(x) * v) * x

    def exp(self, x: Array, v: Array) -> Array:
        """The great circle."""
        v = self.to_tangent(x, v)
        square = jnp.sum(v**2)
        return self.project(cos_root(square) * x + sinc_root(square) * v)

    def log(self, x: Array, y: Array) -> Array:
        """Along the great circle; from the antipode along a coordinate axis."""
        cosine = jnp.sum(x * y)
        across = self.to_tangent(x, y - jnp.where(cosine < 0, -1.0, 1.0) * x)  # difference first, for its digits
        square = jnp.sum(across**2)
        some = square > TINY
        sine = jnp.sqrt(jnp.where(some, square, 1.0))
        along = jnp.where(some, jnp.arctan2(sine, cosine) / sine, 1.0) * across
        axis = self.to_tangent(x, jnp.zeros_like(x).at[jnp.argmin(jnp.abs(x))].set(1.0))
        return jnp.where(some | (cosine > 0), along, math.pi * axis / jnp.sqrt(jnp.sum(axis**2)))

    def distance(self, x: Array, y: Array) -> Array:
        """The angle, 2 atan2(|x - y|, |x + y|)."""
        x, y = self._one(x), self._one(y)
        near, far = safe_sqrt(jnp.sum((x - y) ** 2)), safe_sqrt(jnp.sum((x + y) ** 2))
        return 2.0 * jnp.arctan2(near, far)

    def uniform(self, key: Array) -> Array:
        """A normal vector over its length."""
        return self.project(jax.random.normal(key, self.shape))

    @property
    def log_volume(self) -> float:
        """log of 2 pi^((d + 1)/2) / Gamma((d + 1)/2)."""
        half = 0.5 * (self.d + 1)
        return math.log(2.0) + half * math.log(math.pi) - math.lgamma(half)

    def ricci(self, x: Array, v: Array) -> Array:
        """(d - 1) v."""
        return (self.d - 1.0) * v
