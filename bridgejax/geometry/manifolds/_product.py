"""Products of manifolds: a point is a tuple of points, and everything is done part by part."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._numerics import safe_sqrt
from bridgejax._summary import summary
from bridgejax._types import State
from bridgejax.geometry.manifolds._manifold import Manifold


@dataclass(frozen=True, init=False)
class Product(Manifold):
    """The product of manifolds, with the sum of their metrics; points and tangent vectors are tuples.

    Args:
        parts: the manifolds, one argument each.

    Raises:
        ValueError: no manifold, or something else among them.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> both = bj.manifolds.Product(bj.manifolds.Torus(1), bj.manifolds.Sphere(2))
        >>> both.dim, both.shape
        (3, ((1,), (3,)))
    """

    parts: tuple[Manifold, ...]

    __repr__ = summary

    def __init__(self, *parts: Manifold) -> None:
        if not parts or not all(isinstance(part, Manifold) for part in parts):
            raise ValueError(f"Product takes manifolds, as in Product(Sphere(2), Torus(3)), got {parts!r}")
        object.__setattr__(self, "parts", tuple(parts))

    def _each(self, name: str, *points: State) -> tuple[State, ...]:
        for point in points:
            if not isinstance(point, tuple | list) or len(point) != len(self.parts):
                raise ValueError(f"a point of {self!r} is a tuple of {len(self.parts)} points, one of each part")
        return tuple(getattr(part, name)(*pieces) for part, *pieces in zip(self.parts, *points, strict=True))

    @property
    def shape(self) -> tuple[State, ...]:
        """The shapes of the parts' points."""
        return tuple(part.shape for part in self.parts)

    @property
    def dim(self) -> int:
        """Sum of the dimensions."""
        return sum(part.dim for part in self.parts)

    def defect(self, x: State) -> Array:
        """The worst of the parts'."""
        return jnp.max(jnp.stack(self._each("defect", x)))

    def contains(self, x: State) -> Array:
        """Whether every part is a point of its manifold."""
        return jnp.all(jnp.stack(self._each("contains", x)))

    def project(self, x: State) -> State:
        """Part by part, as all that follow."""
        return self._each("project", x)

    def to_tangent(self, x: State, v: State) -> State:
        """Part by part."""
        return self._each("to_tangent", x, v)

    def exp(self, x: State, v: State) -> State:
        """Part by part."""
        return self._each("exp", x, v)

    def log(self, x: State, y: State) -> State:
        """Part by part."""
        return self._each("log", x, y)

    def inner(self, x: State, u: State, v: State) -> Array:
        """Sum of the parts'."""
        return sum(self._each("inner", x, u, v), start=jnp.zeros(()))

    def distance(self, x: State, y: State) -> Array:
        """The root of the sum of the parts' squares."""
        return safe_sqrt(sum((d**2 for d in self._each("distance", x, y)), start=jnp.zeros(())))

    def tangent_noise(self, x: State, w: State) -> State:
        """Part by part."""
        return self._each("tangent_noise", x, w)

    def gradient(self, x: State, euclidean: State) -> State:
        """Part by part."""
        return self._each("gradient", x, euclidean)

    def uniform(self, key: Array) -> State:
        """Independent uniform parts."""
        keys = jax.random.split(key, len(self.parts))
        return tuple(part.uniform(k) for part, k in zip(self.parts, keys, strict=True))

    @property
    def log_volume(self) -> float:
        """Sum of the parts'."""
        return float(np.sum([part.log_volume for part in self.parts]))

    def ricci(self, x: State, v: State) -> State:
        """Part by part."""
        return self._each("ricci", x, v)

    def features(self, x: State) -> Array:
        """The parts' features in a row."""
        return jnp.concatenate(self._each("features", x))

    def check(self, x: State, name: str = "x") -> State:
        """Part by part.

        Raises:
            ValueError: no tuple of as many parts, or a part that its manifold refuses.
        """
        if not isinstance(x, tuple | list) or len(x) != len(self.parts):
            raise ValueError(f"{name} must be a tuple of {len(self.parts)} points, one of each part of {self!r}")
        return tuple(part.check(p, f"{name}[{i}]") for i, (part, p) in enumerate(zip(self.parts, x, strict=True)))


jax.tree_util.register_pytree_node(Product, lambda product: ((), product.parts), lambda parts, _: Product(*parts))
