"""Mirror maps: convex sets as flat spaces, where every method runs, and back into the set exactly.

A strictly convex potential phi whose slope is infinite at the boundary makes a set and R^k one and the same:

    z = grad phi(x)                        dual coordinates: k real numbers, all of R^k
    x = grad phi*(z)                       the inverse: always inside the set
    p_x(x) = p_z(z) |det d z / d x|        densities on the set, in orthonormal coordinates of its plane

(Liu, Chen, Theodorou & Tao 2023, arXiv 2310.01236; Nemirovski & Yudin 1983 for the name.) A model learnt on z has no
invalid sample: nothing is rejected, clipped or projected.

    Box(low, high)       entropy of both gaps           z = log (x - low) / (high - x)
    Positive()           x log x - x                    z = log x
    Simplex(n)           sum x log x                    z = V' log x, V an orthonormal basis of sum z = 0
    Ball(radius)         - sqrt(1 - |u|^2)              z = u / sqrt(1 - |u|^2), u = x / radius
    PositiveDefinite(n)  tr (X log X - X)               z = log X in an orthonormal basis of symmetric matrices
    DensityMatrix(n)     tr R log R (von Neumann)       z = log R in one of traceless Hermitian matrices: x is a Gibbs
                                                        state exp(Z) / tr exp(Z)

Each has ``to_dual(x)``, ``to_primal(z)``, ``log_det(z)`` = log |det dz/dx| at the point of z, ``potential(x)``,
``contains(x)`` and ``depth(x)``, how far inside: 0 on the boundary. One point each, no batch axis. ``standardised``
scales the dual coordinates by those of data; ``methods.mirrored`` runs a Method on them.

On the boundary (a probability of 0, a pure state) z is infinite. ``margin`` mixes every point with the set's centre
before it is mapped: x (1 - margin) + centre margin; samples are then within the margin of where they belong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._checks import check_count, check_finite, check_number, check_positive, is_real
from bridgejax._summary import summary
from bridgejax._types import Batch, Scalar, Shape
from bridgejax.geometry._spectral import adjoint, exp_hermitian, hermitian_part, log_det_of_log, log_positive
from bridgejax.geometry.intervals import check_below

__all__ = [
    "Ball",
    "Box",
    "DensityMatrix",
    "MirrorMap",
    "Positive",
    "PositiveDefinite",
    "Simplex",
    "Standardised",
    "check_points",
    "standardised",
]

_SLACK = 64.0  # roundings by which a point may miss the plane of its set


class MirrorMap(Protocol):
    """A set with a mirror map."""

    def potential(self, x: Array) -> Array:
        """phi(x), a scalar."""
        ...

    def to_dual(self, x: Array) -> Array:
        """grad phi(x), in orthonormal coordinates."""
        ...

    def to_primal(self, z: Array) -> Array:
        """The point whose dual is z, inside the set."""
        ...

    def log_det(self, z: Array) -> Array:
        """log |det dz / dx| at the point of z, a scalar."""
        ...

    def depth(self, x: Array) -> Array:
        """How far inside x lies, a scalar: 0 on the boundary, negative outside; nan off the plane of the set."""
        ...

    def contains(self, x: Array) -> Array:
        """Whether x lies in the set (its boundary included), one boolean."""
        ...


def _check_margin(margin: float) -> None:
    check_number(margin=margin)
    if not 0.0 <= margin < 1.0:
        raise ValueError(f"margin must be in [0, 1), the share of the set's centre in every point, got {margin:g}")


def _tolerance(x: Array) -> Array:
    return jnp.asarray(_SLACK * jnp.finfo(x.dtype).eps, jnp.finfo(x.dtype).dtype)


class _Set:
    """What the sets share."""

    __repr__ = summary

    def depth(self, x: Array) -> Array:
        """How far inside x lies, a scalar: 0 on the boundary, negative outside; nan off the plane of the set."""
        raise NotImplementedError

    def contains(self, x: Array) -> Array:
        """Whether x lies in the set (its boundary included), one boolean."""
        return self.depth(x) >= -_tolerance(x)


@partial(jax.tree_util.register_dataclass, data_fields=("low", "high"), meta_fields=("margin",))
@dataclass(frozen=True, repr=False)
class Box(_Set):
    """low < x < high in every coordinate, both ends finite.

    phi = sum (x - low) log(x - low) + (high - x) log(high - x), the gaps in widths of the box, times the width.

    Args:
        low: lower ends, a number or an array that broadcasts to a point.
        high: upper ends.
        margin: share of the centre that every point is given, for data on the boundary (pixels of 0 and 255).

    Raises:
        ValueError: ends that are not finite or not in order, a margin outside [0, 1).

    >>> box = Box(0.0, 4.0)
    >>> print(box.to_dual(jax.numpy.array([1.0, 2.0])), box.to_primal(jax.numpy.zeros(2)))
    [-1.0986123  0.       ] [2. 2.]
    """

    low: Scalar
    high: Scalar
    margin: float = 0.0

    def __post_init__(self) -> None:
        _check_margin(self.margin)
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


@partial(jax.tree_util.register_dataclass, data_fields=(), meta_fields=())
@dataclass(frozen=True, repr=False)
class Positive(_Set):
    """x > 0 in every coordinate: phi = sum x log x - x, z = log x.

    >>> print(Positive().to_primal(jax.numpy.array([0.0, -1.0])))
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


def _plane(n: int) -> np.ndarray:
    """An orthonormal basis of sum z = 0 in R^n, shape (n, n - 1): Helmert's."""
    k = np.arange(1, n)
    columns = np.where(np.arange(n)[:, None] < k, 1.0, 0.0)
    columns[k, k - 1] = -k
    return columns / np.sqrt(k * (k + 1.0))


@partial(jax.tree_util.register_dataclass, data_fields=(), meta_fields=("n", "margin"))
@dataclass(frozen=True, repr=False)
class Simplex(_Set):
    """Probabilities x > 0, sum x = 1, shape (n,): phi = sum x log x, z in R^(n - 1) the isometric log ratio.

    Args:
        n: how many, >= 2.
        margin: share of the centre that every point is given, for probabilities of 0.

    Raises:
        ValueError: n below 2, a margin outside [0, 1).

    >>> print(Simplex(3).to_primal(jax.numpy.zeros(2)))
    [0.33333334 0.33333334 0.33333334]
    """

    n: int
    margin: float = 0.0

    def __post_init__(self) -> None:
        check_count("n", self.n, 2)
        _check_margin(self.margin)

    @property
    def dual_shape(self) -> Shape:
        """(n - 1,)."""
        return (self.n - 1,)

    def _inside(self, x: Array) -> Array:
        return (1.0 - self.margin) * x + self.margin / self.n

    def potential(self, x: Array) -> Array:
        """sum x log x."""
        x = self._inside(x)
        return jnp.sum(x * jnp.log(x)) / (1.0 - self.margin)

    def to_dual(self, x: Array) -> Array:
        """V' log x."""
        return jnp.log(self._inside(x)) @ jnp.asarray(_plane(self.n), x.dtype)

    def to_primal(self, z: Array) -> Array:
        """softmax(V z)."""
        return jax.nn.softmax(jnp.asarray(_plane(self.n), z.dtype) @ z)

    def log_det(self, z: Array) -> Array:
        """- log n - sum log x."""
        return -math.log(self.n) - jnp.sum(jax.nn.log_softmax(jnp.asarray(_plane(self.n), z.dtype) @ z))

    def depth(self, x: Array) -> Array:
        """The least probability; nan where they do not sum to 1."""
        return jnp.where(jnp.abs(jnp.sum(x) - 1.0) <= _tolerance(x), jnp.min(x), jnp.nan)


@partial(jax.tree_util.register_dataclass, data_fields=("radius",), meta_fields=("margin",))
@dataclass(frozen=True, repr=False)
class Ball(_Set):
    """|x| < radius: phi = - radius sqrt(1 - |u|^2), z = u / sqrt(1 - |u|^2), u = x / radius.

    Args:
        radius: positive.
        margin: share of the centre that every point is given, for points of norm ``radius``.

    Raises:
        ValueError: a radius that is not positive, a margin outside [0, 1).

    >>> print(Ball().to_dual(jax.numpy.array([0.6, 0.0])))
    [0.75 0.  ]
    """

    radius: Scalar = 1.0
    margin: float = 0.0

    def __post_init__(self) -> None:
        _check_margin(self.margin)
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


def _off_diagonal(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.triu_indices(n, 1)


def _coordinates(a: Array, diagonal: Array) -> Array:
    """Orthonormal coordinates of a Hermitian matrix: the diagonal's, then sqrt(2) of what is above, Re and Im."""
    above = math.sqrt(2.0) * a[_off_diagonal(a.shape[0])]
    parts = [diagonal, above.real, above.imag] if jnp.iscomplexobj(a) else [diagonal, above]
    return jnp.concatenate(parts)


def _matrix(z: Array, n: int, diagonal: Array, *, complex_entries: bool) -> Array:
    """The Hermitian (or symmetric) matrix of a diagonal and the coordinates ``z`` of what is above it."""
    pairs = n * (n - 1) // 2
    above = z / math.sqrt(2.0)
    above = jax.lax.complex(above[:pairs], above[pairs:]) if complex_entries else above
    upper = jnp.zeros((n, n), above.dtype).at[_off_diagonal(n)].set(above)
    return upper + adjoint(upper) + jnp.diag(diagonal).astype(above.dtype)


@partial(jax.tree_util.register_dataclass, data_fields=(), meta_fields=("n",))
@dataclass(frozen=True, repr=False)
class PositiveDefinite(_Set):
    """Symmetric matrices with positive eigenvalues, shape (n, n): phi = tr (X log X - X), z = log X in R^(n(n+1)/2).

    Args:
        n: rows, >= 1.

    Raises:
        ValueError: n below 1.

    >>> print(PositiveDefinite(2).to_dual(jax.numpy.eye(2)))
    [0. 0. 0.]
    """

    n: int

    def __post_init__(self) -> None:
        check_count("n", self.n, 1)

    @property
    def dual_shape(self) -> Shape:
        """(n (n + 1) / 2,)."""
        return (self.n * (self.n + 1) // 2,)

    def potential(self, x: Array) -> Array:
        """tr (X log X - X)."""
        return jnp.trace(x @ log_positive(x) - x)

    def to_dual(self, x: Array) -> Array:
        """log X: its diagonal, then sqrt(2) times what is above it."""
        log = log_positive(hermitian_part(x))
        return _coordinates(log, jnp.diagonal(log))

    def _log(self, z: Array) -> Array:
        return _matrix(z[self.n :], self.n, z[: self.n], complex_entries=False)

    def to_primal(self, z: Array) -> Array:
        """exp Z."""
        return exp_hermitian(self._log(z))

    def log_det(self, z: Array) -> Array:
        """- sum l + sum over pairs of log (l_i - l_j) / (e^l_i - e^l_j), l the eigenvalues of Z."""
        return log_det_of_log(jnp.linalg.eigvalsh(self._log(z)), complex_entries=False)

    def depth(self, x: Array) -> Array:
        """The least eigenvalue over the largest; nan where X is not symmetric."""
        values = jnp.linalg.eigvalsh(hermitian_part(x))
        return jnp.where(_is_hermitian(x), values[0] / jnp.max(jnp.abs(values)), jnp.nan)


def _is_hermitian(x: Array) -> Array:
    return jnp.max(jnp.abs(x - adjoint(x))) <= _tolerance(x) * jnp.max(jnp.abs(x))


@partial(jax.tree_util.register_dataclass, data_fields=(), meta_fields=("n", "margin"))
@dataclass(frozen=True, repr=False)
class DensityMatrix(_Set):
    """States of a quantum system of n levels: Hermitian, positive, trace one, complex, shape (n, n).

    phi = tr R log R, minus the von Neumann entropy; z in R^(n^2 - 1) are the coordinates of the traceless part Z of
    log R, so that x is the Gibbs state of the Hamiltonian -Z.

    Args:
        n: levels, >= 2; 2^k for k qubits.
        margin: share of the maximally mixed state that every state is given (a depolarising channel), for pure states
            and others without full rank, whose logarithm is infinite.

    Raises:
        ValueError: n below 2, a margin outside [0, 1).

    >>> print(DensityMatrix(2).to_primal(jax.numpy.zeros(3)).real)
    [[0.5 0. ]
     [0.  0.5]]
    """

    n: int
    margin: float = 0.0

    def __post_init__(self) -> None:
        check_count("n", self.n, 2)
        _check_margin(self.margin)

    @property
    def dual_shape(self) -> Shape:
        """(n^2 - 1,)."""
        return (self.n**2 - 1,)

    def _inside(self, x: Array) -> Array:
        mixed = jnp.eye(self.n, dtype=x.dtype) / self.n
        return hermitian_part((1.0 - self.margin) * x + self.margin * mixed)

    def potential(self, x: Array) -> Array:
        """tr R log R."""
        x = self._inside(x)
        return jnp.trace(x @ log_positive(x)).real / (1.0 - self.margin)

    def to_dual(self, x: Array) -> Array:
        """log R in an orthonormal basis of traceless Hermitian matrices: n - 1 diagonal ones, then Re and Im pairs."""
        x = x.astype(jnp.result_type(x, jnp.complex64))
        log = log_positive(self._inside(x))
        diagonal = jnp.diagonal(log).real
        return _coordinates(log, diagonal @ jnp.asarray(_plane(self.n), diagonal.dtype))

    def _log(self, z: Array) -> Array:
        """Z, the traceless part of log R."""
        diagonal = jnp.asarray(_plane(self.n), z.dtype) @ z[: self.n - 1]
        return _matrix(z[self.n - 1 :], self.n, diagonal, complex_entries=True)

    def to_primal(self, z: Array) -> Array:
        """exp Z / tr exp Z.

        No eigenvalue is below 4 n roundings, so that none is negative as stored; the trace is 1 to rounding.
        """
        log = self._log(z)
        # less the largest eigenvalue, which cancels in R, so that nothing overflows
        largest = jax.lax.stop_gradient(jnp.linalg.eigvalsh(log)[-1])
        weights = exp_hermitian(log - largest * jnp.eye(self.n, dtype=log.dtype))
        floor = 4.0 * self.n * jnp.finfo(z.dtype).eps
        r = weights / jnp.trace(weights).real
        return (1.0 - self.n * floor) * r + floor * jnp.eye(self.n, dtype=r.dtype)

    def log_det(self, z: Array) -> Array:
        """- log n - sum l + 2 sum over pairs of log (l_i - l_j) / (e^l_i - e^l_j), l = log of the eigenvalues of R."""
        logs = jax.nn.log_softmax(jnp.linalg.eigvalsh(self._log(z)))
        return log_det_of_log(logs, complex_entries=True) - math.log(self.n)

    def depth(self, x: Array) -> Array:
        """The least eigenvalue; nan where the matrix is not Hermitian or its trace is not 1."""
        trace = jnp.abs(jnp.trace(x) - 1.0) <= _tolerance(x)
        return jnp.where(_is_hermitian(x) & trace, jnp.linalg.eigvalsh(hermitian_part(x))[0], jnp.nan)


@partial(jax.tree_util.register_dataclass, data_fields=("mirror", "shift", "scale"), meta_fields=())
@dataclass(frozen=True, repr=False)
class Standardised:
    """A mirror map with dual coordinates (z - shift) / scale: what ``standardised`` makes.

    Args:
        mirror: the mirror map.
        shift: subtracted from its dual coordinates.
        scale: what they are divided by, positive.
    """

    mirror: MirrorMap
    shift: Array
    scale: Array

    __repr__ = summary

    def to_dual(self, x: Array) -> Array:
        """(z - shift) / scale."""
        return (self.mirror.to_dual(x) - self.shift) / self.scale

    def to_primal(self, z: Array) -> Array:
        """The point of shift + scale z."""
        return self.mirror.to_primal(self.shift + self.scale * z)

    def log_det(self, z: Array) -> Array:
        """That of the mirror map less sum log scale."""
        z = self.shift + self.scale * z
        return self.mirror.log_det(z) - jnp.sum(jnp.log(jnp.broadcast_to(self.scale, z.shape)))

    def depth(self, x: Array) -> Array:
        """As the mirror map's."""
        return self.mirror.depth(x)

    def contains(self, x: Array) -> Array:
        """As the mirror map's."""
        return self.mirror.contains(x)


def standardised(mirror: MirrorMap, points: Batch) -> Standardised:
    """The mirror map with dual coordinates of mean 0 and one common deviation 1, by data.

    Args:
        mirror: the mirror map.
        points: rows in the set, at least two.

    Returns:
        The same set, with z replaced by (z - mean) / s, the mean coordinate by coordinate and s one number.

    Raises:
        ValueError: points outside the set or on its boundary; all of them equal.
    """
    dual = np.asarray(jax.vmap(mirror.to_dual)(check_points(mirror, points)), np.float64)
    mean, deviation = dual.mean(0), dual.std(0)
    spread = float(np.sqrt(np.mean(deviation**2)))
    if not spread > 0:
        raise ValueError(f"points have no spread in dual coordinates; got {len(dual)} equal rows")
    return Standardised(mirror, jnp.asarray(mean), jnp.asarray(spread))


def _is_matrix_set(mirror: object) -> bool:
    """Whether depths are eigenvalues, which are known to rounding only."""
    return isinstance(mirror, PositiveDefinite | DensityMatrix)


def check_points(mirror: MirrorMap, points: Batch, name: str = "points") -> Array:
    """Rows inside the set of a mirror map, as an array.

    Args:
        mirror: the mirror map.
        points: rows.
        name: of the argument, for the error.

    Raises:
        ValueError: rows outside the set, off its plane or on its boundary, with the remedy.
    """
    points = jnp.asarray(points)
    if not jnp.issubdtype(points.dtype, jnp.inexact):
        points = points.astype(jnp.result_type(float))
    check_finite(**{name: points})
    depth = np.asarray(jax.vmap(mirror.depth)(points))
    kind = repr(mirror).splitlines()[0]
    off = np.isnan(depth)
    if off.any():
        raise ValueError(
            f"row {int(np.argmax(off))} of {name} is not a point of {kind}: wrong sum, trace or symmetry; "
            "divide by the sum or trace, or take the Hermitian part, if the data mean that"
        )
    row, least = int(np.argmin(depth)), float(depth.min())
    inner = getattr(mirror, "mirror", mirror)
    slack = float(_tolerance(points))
    resolved = points.shape[-1] * float(jnp.finfo(points.dtype).eps) if _is_matrix_set(inner) else 0.0
    if least < -slack:
        raise ValueError(f"row {row} of {name} lies outside {kind}, by {-least:.3g}")
    if least <= resolved and not getattr(inner, "margin", 0.0):
        remedy = (
            f"; {type(inner).__name__}(..., margin=1e-3) moves every point inside" if hasattr(inner, "margin") else ""
        )
        raise ValueError(
            f"row {row} of {name} lies on the boundary of {kind}, where the mirror map is infinite{remedy}"
        )
    return points


def __dir__() -> list[str]:
    return __all__
