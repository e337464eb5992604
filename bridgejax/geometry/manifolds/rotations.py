"""Rotations of space: matrices, unit quaternions (scalar last), rotation vectors.

    quaternion       (x, y, z, w) = (sin(a/2) axis, cos(a/2)),  q and -q are one rotation
    rotation vector  angle axis, at most pi long
    matrix           1 + (sin a / a) K + ((1 - cos a) / a^2) K^2,  K the cross product with the vector (Rodrigues)

A quaternion is read off a matrix by the largest of its four squared entries (Shepperd 1978), so that nothing small is
divided by; that also gives the rotation vector all its digits up to an angle of pi. Leading axes are kept.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from bridgejax._checks import as_real, check_finite
from bridgejax._numerics import TINY, as_wide
from bridgejax._types import Numbers
from bridgejax.geometry.manifolds._series import sinc_root, versine_root
from bridgejax.geometry.manifolds._unitary import mm, polished


def _check(value: Numbers, name: str, shape: tuple[int, ...]) -> Array:
    value = as_wide(as_real(value, name))
    if value.ndim < len(shape) or value.shape[value.ndim - len(shape) :] != shape:
        raise ValueError(f"{name} must have last axes {shape}, got shape {value.shape}")
    check_finite(**{name: value})
    return value


def skew_of(vector: Array) -> Array:
    """The matrix K with K u = vector x u."""
    x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
    zero = jnp.zeros_like(x)
    rows = ((zero, -z, y), (z, zero, -x), (-y, x, zero))
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def exponential(k: Array) -> Array:
    """Rodrigues' formula for a skew 3 x 3 matrix."""
    square = (0.5 * jnp.sum(k**2, axis=(-2, -1)))[..., None, None]
    return jnp.eye(3, dtype=k.dtype) + sinc_root(square) * k + versine_root(square) * mm(k, k)


def from_vector(vector: Numbers) -> Array:
    """The rotation by |vector| about its direction.

    Args:
        vector: rotation vectors in radians, (..., 3).

    Returns:
        Matrices (..., 3, 3).

    Raises:
        ValueError: another last axis, or numbers that are not finite.
    """
    return polished(exponential(skew_of(_check(vector, "vector", (3,)))))


def to_vector(matrix: Numbers) -> Array:
    """The rotation vector of a rotation matrix, at most pi long; one of two at pi.

    Args:
        matrix: (..., 3, 3).

    Returns:
        Rotation vectors in radians, (..., 3).

    Raises:
        ValueError: other last axes, or numbers that are not finite.
    """
    q = to_quaternion(matrix)
    q = jnp.where(q[..., 3:] < 0, -q, q)
    v, w = q[..., :3], q[..., 3:]
    square = jnp.sum(v**2, axis=-1, keepdims=True)
    some = square > TINY
    sine = jnp.sqrt(jnp.where(some, square, 1.0))
    return v * jnp.where(some, 2.0 * jnp.arctan2(sine, jnp.where(some, w, 1.0)) / sine, 2.0)


def from_quaternion(q: Numbers) -> Array:
    """The rotation matrix of a quaternion (x, y, z, w), scalar last; its length does not matter.

    Args:
        q: (..., 4).

    Returns:
        Matrices (..., 3, 3).

    Raises:
        ValueError: a quaternion of norm 0, another last axis, or numbers that are not finite.
    """
    q = _check(q, "q", (4,))
    if not isinstance(q, Tracer) and not np.all(np.any(np.asarray(q) != 0, axis=-1)):
        raise ValueError("q holds a quaternion of norm 0, which is no rotation; the identity is (0, 0, 0, 1)")
    scale = jnp.max(jnp.abs(q), axis=-1, keepdims=True)
    q = q / jnp.where(scale > 0, scale, 1.0)
    square = jnp.sum(q**2, axis=-1, keepdims=True)
    q = q / jnp.sqrt(jnp.where(square > 0, square, 1.0))
    k, w = skew_of(q[..., :3]), q[..., 3][..., None, None]
    return jnp.eye(3, dtype=q.dtype) + 2.0 * w * k + 2.0 * mm(k, k)


def to_quaternion(matrix: Numbers) -> Array:
    """The unit quaternion (x, y, z, w), scalar last, of a rotation matrix; its sign is that of its largest entry.

    Args:
        matrix: (..., 3, 3).

    Returns:
        (..., 4).

    Raises:
        ValueError: other last axes, or numbers that are not finite.
    """
    m = _check(matrix, "matrix", (3, 3))
    if m.ndim > 2:
        flat = jax.vmap(to_quaternion)(m.reshape(-1, 3, 3))
        return flat.reshape(*m.shape[:-2], 4)
    xx, yy, zz = m[0, 0], m[1, 1], m[2, 2]
    x, y, z = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]  # 4 w times the vector part
    xy, yz, zx = m[0, 1] + m[1, 0], m[1, 2] + m[2, 1], m[2, 0] + m[0, 2]
    squares = jnp.stack([1.0 + xx - yy - zz, 1.0 - xx + yy - zz, 1.0 - xx - yy + zz, 1.0 + xx + yy + zz])
    rows = jnp.stack(
        [
            jnp.stack([squares[0], xy, zx, x]),
            jnp.stack([xy, squares[1], yz, y]),
            jnp.stack([zx, yz, squares[2], z]),
            jnp.stack([x, y, z, squares[3]]),
        ]
    )
    q = rows[jnp.argmax(squares)]
    return q / jnp.sqrt(jnp.maximum(jnp.sum(q**2), TINY))
