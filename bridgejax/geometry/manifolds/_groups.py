"""The groups SO(n), U(n) and SU(n), with their bi-invariant metrics.

    tangent at x       x A, A skew-Hermitian                      exp_x(x A) = x e^A,   log_x(y) = x log(x* y)
    metric             SO(n): -tr(A B)/2     U(n), SU(n): -Re tr(A B)
    Haar measure       QR of a normal matrix, the diagonal of R made positive; SO(n): one column turned; SU(n): the
                       phase of the determinant spread over all columns (Mezzadri 2007, arXiv math-ph/0609050)
    volume             SO(n): prod_(k=1)^(n-1) |S^k|      U(n): (2 pi)^(n(n+1)/2) / prod_(k<n) k!
                       SU(n): that of U(n) times sqrt n / 2 pi
    Ricci              SO(n): (n - 2)/2                 U(n), SU(n): n/2 on what has no trace

Unitary matrices are real arrays of shape (2, n, n), real part and imaginary part, as every state of an SDE is real.
Every step ends with one Newton step towards the group, so rounding does not add up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from bridgejax._checks import check_count
from bridgejax._numerics import as_wide
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Numbers, State
from bridgejax.geometry.manifolds import rotations
from bridgejax.geometry.manifolds._manifold import Manifold
from bridgejax.geometry.manifolds._unitary import dagger, exponential, logarithm, mm, polar, polished, skew
from bridgejax.geometry.manifolds._vectors import Sphere


def real_pair(u: Numbers) -> Array:
    """A complex array (..., n, n) as a real one (..., 2, n, n), real part and imaginary part.

    Args:
        u: complex (or real) matrices.

    Returns:
        The pair, float32 for complex64.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> bj.manifolds.real_pair(jnp.array([[1.0 + 2.0j]])).ravel().tolist()
        [1.0, 2.0]
    """
    u = jnp.asarray(u)
    return jnp.stack([jnp.real(u), jnp.imag(u)], axis=-3)


def complex_of(x: Numbers) -> Array:
    """A real array (..., 2, n, n) as complex matrices (..., n, n): the inverse of ``real_pair``.

    Args:
        x: real part and imaginary part on the third axis from the end.

    Returns:
        Complex matrices.

    Raises:
        ValueError: another shape.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> print(bj.manifolds.complex_of(jnp.ones((2, 1, 1))))
        [[1.+1.j]]
    """
    x = as_wide(x)
    if x.ndim < 3 or x.shape[-3] != 2:
        raise ValueError(f"x must have shape (..., 2, n, n), real part and imaginary part, got {x.shape}")
    return jax.lax.complex(x[..., 0, :, :], x[..., 1, :, :])


class _Group(Manifold):
    """Matrices x of a group, through ``_matrix`` (coordinates to matrix) and ``_point`` (back)."""

    n: int
    group: ClassVar[str]

    def _matrix(self, x: Array) -> Array:
        return as_wide(self._one(x))

    def _point(self, matrix: Array, like: Array) -> Array:
        return matrix.astype(jnp.asarray(like).dtype)

    def _algebra(self, a: Array) -> Array:
        """The nearest element of the Lie algebra."""
        a = skew(a)
        if self.group == "SU":
            a = a - jnp.trace(a) / self.n * jnp.eye(self.n, dtype=a.dtype)
        return a

    def defect(self, x: Array) -> Array:
        """The largest entry of x* x - 1, or of det x - 1 where that must be 1."""
        x = self._matrix(x)
        found = jnp.max(jnp.abs(mm(dagger(x), x) - jnp.eye(self.n, dtype=x.dtype)))
        return jnp.maximum(found, jnp.abs(jnp.linalg.det(x) - 1.0)) if self.group != "U" else found

    def project(self, x: Array) -> Array:
        """The polar factor, nearest in the sum of squares."""
        return self._point(polar(self._matrix(x), self.group), x)

    def to_tangent(self, x: Array, v: Array) -> Array:
        """x A, A the skew part of x* v."""
        matrix = self._matrix(x)
        return self._point(mm(matrix, self._algebra(mm(dagger(matrix), self._matrix(v)))), v)

    def exp(self, x: Array, v: Array) -> Array:
        """x e^A for v = x A."""
        matrix = self._matrix(x)
        a = self._algebra(mm(dagger(matrix), self._matrix(v)))
        return self._point(self._clean(mm(matrix, self._exponential(a))), x)

    def log(self, x: Array, y: Array) -> Array:
        """The logarithm of x* y, at x."""
        matrix = self._matrix(x)
        return self._point(mm(matrix, self._logarithm(mm(dagger(matrix), self._matrix(y)))), y)

    def uniform(self, key: Array) -> Array:
        """Haar measure."""
        w = self._matrix(jax.random.normal(key, self.shape))
        q, r = jnp.linalg.qr(w)
        diagonal = jnp.diagonal(r)
        return self._haar(q * (diagonal / jnp.abs(diagonal)))

    def _haar(self, u: Array) -> Array:
        return self._point(u, jnp.zeros((), jnp.real(u).dtype))

    def _clean(self, u: Array) -> Array:
        return polished(u)

    def _exponential(self, a: Array) -> Array:
        return exponential(a)

    def _logarithm(self, q: Array) -> Array:
        return logarithm(q, self.group)


@partial(register_dataclass, data_fields=(), meta_fields=("n",))
@dataclass(frozen=True)
class SO(_Group):
    """Rotations of R^n: (n, n) matrices x with x^T x = 1 and det x = 1; a rotation by an angle is at that distance.

    n = 2 and 3 in closed form (Rodrigues' formula and unit quaternions).

    Args:
        n: at least 2.

    Raises:
        ValueError: n below 2.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> so3 = bj.manifolds.SO(3)
        >>> so3.dim, float(so3.distance(jnp.eye(3), jnp.eye(3)))
        (3, 0.0)
    """

    n: int
    metric: ClassVar[float] = 0.5
    group: ClassVar[str] = "SO"

    __repr__ = summary

    def __post_init__(self) -> None:
        check_count("n", self.n, 2)

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, n)."""
        return (self.n, self.n)

    @property
    def dim(self) -> int:
        """n (n - 1) / 2."""
        return self.n * (self.n - 1) // 2

    def _complaint(self, x: Array, defect: float) -> str:
        if jnp.linalg.det(x) < 0:
            return "its determinant is negative, a reflection; exchange two columns, or take manifold.project(x)"
        return super()._complaint(x, defect)

    def _exponential(self, a: Array) -> Array:
        if self.n == 2:
            cosine, sine = jnp.cos(a[1, 0]), jnp.sin(a[1, 0])
            return jnp.stack([jnp.stack([cosine, -sine]), jnp.stack([sine, cosine])])
        return rotations.exponential(a) if self.n == 3 else exponential(a)

    def _logarithm(self, q: Array) -> Array:
        if self.n == 2:
            angle = jnp.arctan2(q[1, 0] - q[0, 1], q[0, 0] + q[1, 1])
            return angle * jnp.array([[0.0, -1.0], [1.0, 0.0]], q.dtype)
        return rotations.skew_of(rotations.to_vector(q)) if self.n == 3 else logarithm(q, "SO")

    def _haar(self, u: Array) -> Array:
        sign = jnp.where(jnp.linalg.det(u) < 0, -1.0, 1.0).astype(u.dtype)
        return u.at[:, 0].multiply(sign)

    @property
    def log_volume(self) -> float:
        """Sum of log |S^k|, k = 1, ..., n - 1: that of SO(3) is log 8 pi^2."""
        return sum(Sphere(k).log_volume for k in range(1, self.n))

    def ricci(self, x: Array, v: Array) -> Array:
        """(n - 2)/2 v."""
        return 0.5 * (self.n - 2.0) * v


class _Unitary(_Group):
    """What U(n) and SU(n) share: coordinates are pairs of real matrices."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(2, n, n)."""
        return (2, self.n, self.n)

    def _matrix(self, x: Array) -> Array:
        return complex_of(super()._matrix(x))

    def _point(self, matrix: Array, like: Array) -> Array:
        return real_pair(matrix).astype(jnp.asarray(like).dtype)

    def _of_complex(self, x: State) -> str:
        return "; pass the pair of its real and imaginary part, manifolds.real_pair(x)"

    def ricci(self, x: Array, v: Array) -> Array:
        """n/2 of the part of v without trace."""
        matrix = self._matrix(x)
        trace = jnp.trace(mm(dagger(matrix), self._matrix(v))) / self.n
        return 0.5 * self.n * (v - self._point(trace * matrix, v))


@partial(register_dataclass, data_fields=(), meta_fields=("n",))
@dataclass(frozen=True)
class U(_Unitary):
    """Unitary n x n matrices, as real arrays (2, n, n), with the metric Re tr u* v.

    Args:
        n: at least 1.

    Raises:
        ValueError: n below 1.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> bj.manifolds.U(2).shape, bj.manifolds.U(2).dim                           # real part and imaginary part
        ((2, 2, 2), 4)
    """

    n: int
    group: ClassVar[str] = "U"

    __repr__ = summary

    def __post_init__(self) -> None:
        check_count("n", self.n)

    @property
    def dim(self) -> int:
        """n^2."""
        return self.n**2

    @property
    def log_volume(self) -> float:
        """log of (2 pi)^(n (n + 1)/2) / (1! 2! ... (n - 1)!)."""
        return 0.5 * self.n * (self.n + 1) * math.log(2.0 * math.pi) - sum(math.lgamma(k + 1) for k in range(self.n))


@partial(register_dataclass, data_fields=(), meta_fields=("n",))
@dataclass(frozen=True)
class SU(_Unitary):
    """Unitary n x n matrices of determinant 1, as real arrays (2, n, n), with the metric Re tr u* v.

    SU(2) is the sphere S^3 of radius sqrt 2.

    Args:
        n: at least 2.

    Raises:
        ValueError: n below 2.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> bj.manifolds.SU(2).shape, bj.manifolds.SU(2).dim
        ((2, 2, 2), 3)
    """

    n: int
    group: ClassVar[str] = "SU"

    __repr__ = summary

    def __post_init__(self) -> None:
        check_count("n", self.n, 2)

    @property
    def dim(self) -> int:
        """n^2 - 1."""
        return self.n**2 - 1

    def project(self, x: Array) -> Array:
        """The polar factor with the phase of its determinant spread evenly: nearest of all for a multiple of a unitary.

        For other matrices it is near the nearest.
        """
        return self._point(self._unphased(polar(self._matrix(x), "SU")), x)

    def _unphased(self, u: Array) -> Array:
        return u * jnp.exp(-1j * jnp.angle(jnp.linalg.det(u)) / self.n).astype(u.dtype)

    def _clean(self, u: Array) -> Array:
        return self._unphased(polished(u))

    def _haar(self, u: Array) -> Array:
        return super()._haar(self._unphased(u))

    @property
    def log_volume(self) -> float:
        """That of U(n) plus log(sqrt n / 2 pi)."""
        return U(self.n).log_volume + 0.5 * math.log(self.n) - math.log(2.0 * math.pi)
