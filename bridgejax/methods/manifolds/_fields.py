"""What the methods of this wing share: networks that are tangent fields, losses in the metric, Brownian motion."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from bridgejax._numerics import linear_combination
from bridgejax._types import Args, Batch, Field, Key, Scalar, State
from bridgejax.geometry.manifolds import Euclidean, Manifold, Product, Torus
from bridgejax.methods._arguments import NetworkLike
from bridgejax.networks import Functional, or_mlp
from bridgejax.objectives._matching import unpack


def check_manifold(manifold: Any) -> None:
    """Raise a ``ValueError`` unless it is a manifold of finite volume, which a uniform start needs."""
    if not isinstance(manifold, Manifold):
        raise ValueError(f"manifold must be one of bridgejax.manifolds, got {type(manifold).__name__}")
    if not math.isfinite(manifold.log_volume):
        raise ValueError(f"manifold must have a finite volume, got {manifold!r}; in R^d: methods.diffusion")


def point_like(manifold: Manifold) -> State:
    """Zeros shaped like a point."""
    if isinstance(manifold, Product):
        return tuple(map(point_like, manifold.parts))
    return jnp.zeros(manifold.shape)


def field_network(manifold: Manifold, network: NetworkLike | None, clock: float = 1.0) -> Functional:
    """The network of a tangent field: from ``manifold.features(x)`` to as many numbers as a point has."""
    like = point_like(manifold)
    features = jax.eval_shape(manifold.features, like).shape
    return or_mlp(network, features, outputs=(ravel_pytree(like)[0].size,), time_scale=1.0 / clock)


def field(manifold: Manifold, network: Field, t: Array, x: State, args: Args) -> State:
    """The tangent vector at x that the network says."""
    unravel = ravel_pytree(x)[1]
    return manifold.to_tangent(x, unravel(jnp.ravel(network(t, manifold.features(x), args))))


def square(manifold: Manifold, x: State, u: State, v: State | None = None) -> Array:
    """|u - v|^2 at x over the dimension."""
    gap = u if v is None else linear_combination((1.0, u), (-1.0, v))
    return manifold.inner(x, gap, gap) / manifold.dim


def points(manifold: Manifold, batch: Batch) -> tuple[State, Args]:
    """Points and conditions of a batch; its shapes and, where concrete, its points are checked."""
    x, other, args = unpack(batch)
    if other is not None:
        raise ValueError("batch has source and target; a method of one set on a manifold takes x")
    return manifold.check(x, "batch"), args


def brownian_step(manifold: Manifold, key: Key, x: State, variance: Scalar) -> State:
    """A step of Brownian motion of this variance, shortened by the curvature to be of weak order 2."""
    v = manifold.tangent_normal(key, x)
    root = jnp.sqrt(jnp.maximum(variance, 0.0))
    return manifold.exp(x, linear_combination((root, v), (-root * variance / 12.0, manifold.ricci(x, v))))


def is_flat(manifold: Manifold) -> bool:
    """Whether one step of Brownian motion is exact however long it is."""
    parts = manifold.parts if isinstance(manifold, Product) else (manifold,)
    return all(isinstance(part, Torus | Euclidean) for part in parts)


def brownian_walk(manifold: Manifold, key: Key, x: State, variance: Scalar, steps: int) -> State:
    """Brownian motion from x after time ``variance``, in ``steps`` equal steps; in one where the manifold is flat."""
    if is_flat(manifold):
        return brownian_step(manifold, key, x, variance)

    def step(x: State, k: Key) -> tuple[State, None]:
        return brownian_step(manifold, k, x, variance / steps), None

    return jax.lax.scan(step, x, jax.random.split(key, steps))[0]


def still(t: Scalar, x: State, args: Args) -> State:
    """No drift."""
    return jax.tree.map(jnp.zeros_like, x)
