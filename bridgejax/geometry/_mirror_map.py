"""What every mirror map has, and what the maps share: the protocol, rounding, and a basis of the plane sum z = 0."""

from __future__ import annotations

from typing import Protocol

import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._checks import check_number, describe
from bridgejax._summary import summary

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


def check_mirror(mirror: object) -> None:
    """Raise a ``ValueError`` unless ``mirror`` has the functions of a mirror map."""
    missing = [name for name in ("to_dual", "to_primal", "log_det", "depth") if not hasattr(mirror, name)]
    if missing:
        raise ValueError(
            f"mirror must be a mirror map (bridgejax.mirrors), got {describe(mirror)} without {missing[0]}"
        )


def check_margin(margin: float) -> None:
    check_number(margin=margin)
    if not 0.0 <= margin < 1.0:
        raise ValueError(f"margin must be in [0, 1), the share of the set's centre in every point, got {margin:g}")


def tolerance(x: Array) -> Array:
    return jnp.asarray(_SLACK * jnp.finfo(x.dtype).eps, jnp.finfo(x.dtype).dtype)


class ConvexSet:
    """What the sets share."""

    __repr__ = summary

    def depth(self, x: Array) -> Array:
        """How far inside x lies, a scalar: 0 on the boundary, negative outside; nan off the plane of the set."""
        raise NotImplementedError

    def contains(self, x: Array) -> Array:
        """Whether x lies in the set (its boundary included), one boolean."""
        return self.depth(x) >= -tolerance(x)


def sum_zero_basis(n: int) -> np.ndarray:
    """An orthonormal basis of sum z = 0 in R^n, shape (n, n - 1): Helmert's."""
    k = np.arange(1, n)
    columns = np.where(np.arange(n)[:, None] < k, 1.0, 0.0)
    columns[k, k - 1] = -k
    return columns / np.sqrt(k * (k + 1.0))
