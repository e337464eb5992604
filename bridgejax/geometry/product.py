"""Products of domains: blocks of a vector, each in a set of its own and independent of the others given the mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._checks import describe
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax.geometry._domain import Domain


@partial(register_dataclass, data_fields=("parts",), meta_fields=("sizes",))
@dataclass(frozen=True)
class Product:
    """One domain for each block of coordinates of a vector, in order: a table's columns, for example.

    Args:
        parts: the domains.
        sizes: length of each block (static); they add up to the length of the state.

    Raises:
        ValueError: another number of sizes than of domains, or a size below 1.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> both = bj.domains.Product([bj.domains.HalfLine(), bj.domains.Sphere()], [1, 2])
        >>> [round(x, 4) for x in both.snap(jnp.array([-1.0, 3.0, 4.0])).tolist()]
        [0.0, 0.6, 0.8]
    """

    parts: Sequence[Domain]
    sizes: Sequence[int]

    __repr__ = summary

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        if not isinstance(self.sizes, Sequence):
            raise ValueError(f"sizes must be a sequence of integers, got {describe(self.sizes)}")
        object.__setattr__(self, "sizes", tuple(self.sizes))
        if len(self.parts) != len(self.sizes) or not all(isinstance(n, int) and n >= 1 for n in self.sizes):
            raise ValueError(
                f"sizes must hold one positive integer for each of the {len(self.parts)} domains, got {self.sizes}"
            )

    def _blocks(self, x: Array) -> list[Array]:
        if x.shape != (sum(self.sizes),):
            raise ValueError(f"this Product has vectors of length {sum(self.sizes)}, got shape {x.shape}")
        return jnp.split(x, np.cumsum(self.sizes)[:-1].tolist())

    def contains(self, x: Array) -> Array:
        """Whether every block lies in its domain."""
        return jnp.all(jnp.stack([d.contains(b) for d, b in zip(self.parts, self._blocks(x), strict=True)]))

    def snap(self, x: Array) -> Array:
        """Every block to its domain."""
        return jnp.concatenate([d.snap(b) for d, b in zip(self.parts, self._blocks(x), strict=True)])

    def expectation(self, mean: Array, variance: Array) -> Array:
        """Block by block."""
        blocks = zip(self.parts, self._blocks(mean), strict=True)
        return jnp.concatenate([d.expectation(b, variance) for d, b in blocks])

    def sample(self, key: Array, mean: Array, variance: Array) -> Array:
        """Block by block, independently."""
        keys = jax.random.split(key, len(self.parts))
        blocks = zip(self.parts, keys, self._blocks(mean), strict=True)
        return jnp.concatenate([d.sample(k, b, variance) for d, k, b in blocks])

    def log_prob(self, y: Array, mean: Array, variance: Array) -> Array:
        """Sum over the blocks."""
        blocks = zip(self.parts, self._blocks(y), self._blocks(mean), strict=True)
        return sum((d.log_prob(a, b, variance) for d, a, b in blocks), start=jnp.zeros(()))
