"""Mirror maps: convex sets as flat spaces, where every method runs, and back into the set exactly.

A strictly convex potential phi whose slope is infinite at the boundary makes a set and R^k one and the same:

    z = grad phi(x)                        dual coordinates: k real numbers, all of R^k
    x = grad phi*(z)                       the inverse: always inside the set
    p_x(x) = p_z(z) |det d z / d x|        densities on the set, in orthonormal coordinates of its plane

(Liu, Chen, Theodorou & Tao 2023, arXiv 2310.01236; Nemirovski & Yudin 1983 for the name.) A model learnt on z has no
invalid sample: nothing is rejected, clipped or projected.

    Box(low, high)       entropy of both gaps           z = log (x - low) / (high - x)
    Positive()           x log x - x                    z = log x
    Simplex(count)       sum x log x                    z = V' log x, V an orthonormal basis of sum z = 0
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

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._checks import check_finite, describe, is_real
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Batch
from bridgejax.geometry._matrix_sets import DensityMatrix, PositiveDefinite
from bridgejax.geometry._mirror_map import MirrorMap, check_mirror, tolerance
from bridgejax.geometry._vector_sets import Ball, Box, Positive, Simplex

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


@partial(register_dataclass, data_fields=("mirror", "shift", "scale"), meta_fields=())
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

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> rows = np.exp(np.random.default_rng(0).normal(3.0, 2.0, size=(100, 1)))
        >>> mirror = bj.mirrors.standardised(bj.mirrors.Positive(), rows)
        >>> round(float(mirror.scale), 1)                                            # of the logarithms
        1.9
    """
    points = check_points(mirror, points)
    dual = np.asarray(jax.vmap(mirror.to_dual)(points), np.float64)
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

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> bj.mirrors.check_points(bj.mirrors.Positive(), np.array([[1.0, 2.0]])).shape
        (1, 2)
    """
    check_mirror(mirror)
    if not (is_real(points) or np.iscomplexobj(points)):
        raise ValueError(f"{name} must be an array of numbers, one row for each point, got {describe(points)}")
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
    slack = float(tolerance(points))
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
