"""Start laws of a Process: ``start(key, args) -> x``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from bridgejax.processes.numerics import axpy, normal_like
from bridgejax.processes.schedules import gaussian_log_prob


@partial(jax.tree_util.register_dataclass, data_fields=("mean", "scale"), meta_fields=())
@dataclass(frozen=True)
class Normal:
    """N(mean, scale^2 I), a start law that has a density."""

    mean: Any
    scale: Any

    def __call__(self, key: Array, args: Any = None) -> Any:
        """A draw."""
        return axpy((1.0, self.mean), (self.scale, normal_like(key, self.mean)))

    def log_prob(self, x: Any, args: Any = None) -> Array:
        """Its log density."""
        return gaussian_log_prob(x, self.mean, jnp.square(self.scale))


def normal(shape: tuple[int, ...], scale: Any = 1.0, mean: Any = 0.0) -> Normal:
    """N(mean, scale^2 I) of the given shape."""
    return Normal(jnp.broadcast_to(jnp.asarray(mean, jnp.float32), shape), scale)


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
