"""Start laws of a Process: ``start(key, args) -> x``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import as_real, as_reals, check_broadcasts, check_finite, check_nonnegative, check_shape
from bridgejax._numerics import as_wide, linear_combination, normal_like
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Args, Batch, Scalar, StartLaw, State
from bridgejax.geometry.manifolds import Manifold
from bridgejax.processes._schedule import gaussian_log_prob

__all__ = [
    "Normal",
    "Uniform",
    "condition",
    "empirical",
    "normal",
    "point",
    "uniform",
]


def __dir__() -> list[str]:
    return __all__


@partial(register_dataclass, data_fields=("mean", "scale"), meta_fields=())
@dataclass(frozen=True)
class Normal:
    """N(mean, scale^2 I), a start law that has a density."""

    mean: State
    scale: Scalar

    __repr__ = summary

    def __call__(self, key: Array, args: Args = None) -> State:
        """A draw."""
        return linear_combination((1.0, self.mean), (self.scale, normal_like(key, self.mean)))

    def log_prob(self, x: State, args: Args = None) -> Array:
        """Its log density."""
        return gaussian_log_prob(x, self.mean, jnp.square(self.scale))


def normal(shape: tuple[int, ...], scale: Scalar = 1.0, mean: State = 0.0) -> Normal:
    """N(mean, scale^2 I) of the given shape.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> start = bj.starts.normal((2,), scale=3.0)
        >>> start(jax.random.key(0), None).shape, round(float(start.log_prob(jnp.zeros(2), None)), 3)
        ((2,), -4.035)
    """
    shape = check_shape(shape)
    mean = as_wide(as_real(mean, "mean"))
    check_broadcasts(mean, np.broadcast_to(0.0, shape), "mean")
    check_finite(mean=mean)
    check_nonnegative(scale=scale)
    if jnp.ndim(scale) != 0:
        raise ValueError(f"scale must be one number, the standard deviation of all, got shape {jnp.shape(scale)}")
    return Normal(jnp.broadcast_to(mean, shape), scale)


@partial(register_dataclass, data_fields=("manifold",), meta_fields=())
@dataclass(frozen=True)
class Uniform:
    """The uniform law of a manifold: Haar measure on a group."""

    manifold: Manifold

    __repr__ = summary

    def __call__(self, key: Array, args: Args = None) -> State:
        """A draw."""
        return self.manifold.uniform(key)

    def log_prob(self, x: State, args: Args = None) -> Array:
        """Its log density with respect to the volume of the manifold, -log_volume everywhere."""
        return jnp.asarray(-self.manifold.log_volume, jnp.result_type(float))


def uniform(manifold: Manifold) -> Uniform:
    """The uniform law of a compact manifold, where Brownian motion ends up.

    Args:
        manifold: one of ``bridgejax.manifolds``.

    Returns:
        A start law with a density.

    Raises:
        ValueError: no manifold, or one of infinite volume.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> start = bj.starts.uniform(bj.manifolds.Torus(2))
        >>> start(jax.random.key(0), None).shape, round(float(start.log_prob(jnp.zeros(2))), 3)      # -2 log(2 pi)
        ((2,), -3.676)
    """
    if not isinstance(manifold, Manifold):
        raise ValueError(f"manifold must be one of bridgejax.manifolds, got {type(manifold).__name__}")
    if not np.isfinite(manifold.log_volume):
        raise ValueError(f"manifold must have a finite volume, got {manifold!r}; start from starts.normal on R^d")
    return Uniform(manifold)


def _row(points: Batch, key: Array, args: Args) -> State:
    rows = jax.tree.leaves(points)[0].shape[0]
    i = jax.random.randint(key, (), 0, rows)
    return jax.tree.map(lambda leaf: leaf[i], points)


def empirical(points: Batch) -> StartLaw:
    """A uniformly drawn row of ``points``, an array or pytree with a leading axis.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> print(bj.starts.empirical(jnp.array([[1.0, 2.0]]))(jax.random.key(0), None))   # a row, drawn at random
        [1. 2.]
    """
    points = as_reals(points, "points")
    counts = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(points)}
    if len(counts) > 1 or 0 in counts:
        raise ValueError(
            f"points to start from must have at least one row, the same number in all, got {sorted(counts)}"
        )
    return Partial(_row, points)


def _point(x: State, key: Array, args: Args) -> State:
    return x


def point(x: State) -> StartLaw:
    """Always the same state ``x``, an array or pytree.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> print(bj.starts.point(jnp.array([1.0, 2.0]))(jax.random.key(0), None))
        [1. 2.]
    """
    return Partial(_point, as_reals(x, "x"))


def _condition(key: Array, args: Args) -> State:
    return args


def condition() -> StartLaw:
    """Start at the sample's own condition: ``args`` is the start state (paired translation).

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> print(bj.starts.condition()(jax.random.key(0), jnp.array([1.0])))        # the sample's own args
        [1.]
    """
    return Partial(_condition)
