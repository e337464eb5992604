"""What a set that a bridge may end in has to know, and what every set here shares."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Protocol

import jax.numpy as jnp
from jax import Array

from bridgejax._types import DType, Scalar

TINY = 1e-20  # of variances: 1e4 squared over it is still a float32


class Domain(Protocol):
    """What ``bridgejax.constrain`` asks of a set: these methods, of a class that is a pytree.

    ``mean``, ``x`` and ``y`` are one point of any shape that the set takes, ``variance`` is one number.
    """

    def contains(self, x: Array) -> Array:
        """Whether x lies in the set, one boolean."""
        ...

    def snap(self, x: Array) -> Array:
        """The nearest point of the set."""
        ...

    def expectation(self, mean: Array, variance: Array) -> Array:
        """E[Y | Y in the set], Y ~ N(mean, variance I)."""
        ...

    def sample(self, key: Array, mean: Array, variance: Array) -> Array:
        """A draw of Y given that it is in the set."""
        ...

    def log_prob(self, y: Array, mean: Array, variance: Array) -> Array:
        """log density (or probability) of Y = y given that Y is in the set."""
        ...


def dtype_of(x: Array) -> DType:
    """The dtype of a point next to x: its own, or JAX's default float for whole numbers."""
    return x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.result_type(float)


def in_float32(method: Callable[..., Array]) -> Callable[..., Array]:
    """``expectation`` or ``sample`` computed in float32 at least, variance too, and given in the dtype of the mean.

    A number drawn in bfloat16 is one of a few hundred, and a softmax of bfloat16 logits forgets what is unlikely.
    """
    place = 1 if method.__name__ == "sample" else 0

    @functools.wraps(method)
    def call(self: Domain, *args: Array) -> Array:
        before, mean, variance, more = args[:place], jnp.asarray(args[place]), args[place + 1], args[place + 2 :]
        dtype = dtype_of(mean)
        wide = jnp.promote_types(dtype, jnp.float32)
        found = method(self, *before, mean.astype(wide), jnp.asarray(variance, wide), *more)
        return found.astype(dtype)

    return call


def floored(variance: Scalar) -> Array:
    """The variance, at least ``TINY``."""
    return jnp.maximum(jnp.asarray(variance), TINY)
