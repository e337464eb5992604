"""Start laws of a Process: ``start(key, args) -> x``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from bridgejax.processes.numerics import normal_like


def _normal(mean: Any, scale: Any, key: Array, args: Any) -> Array:
    return mean + scale * normal_like(key, mean)


def normal(shape: tuple[int, ...], scale: Any = 1.0, mean: Any = 0.0) -> Callable[[Array, Any], Array]:
    """N(mean, scale^2 I) of the given shape."""
    return Partial(_normal, jnp.broadcast_to(jnp.asarray(mean, jnp.float32), shape), scale)


def _row(points: Any, key: Array, args: Any) -> Any:
    rows = jax.tree.leaves(points)[0].shape[0]
    i = jax.random.randint(key, (), 0, rows)
    return jax.tree.map(lambda leaf: leaf[i], points)


def rows(points: Any) -> Callable[[Array, Any], Any]:
    """A uniformly drawn row of ``points``, an array or pytree with a leading axis."""
    points = jax.tree.map(jnp.asarray, points)
    if not jax.tree.leaves(points) or jax.tree.leaves(points)[0].shape[0] == 0:
        raise ValueError("points to start from must have at least one row")
    return Partial(_row, points)


def _given(key: Array, args: Any) -> Any:
    return args


def given() -> Callable[[Array, Any], Any]:
    """Start at the sample's own condition: ``args`` is the start state (paired translation)."""
    return Partial(_given)
