"""Arithmetic whose values *and gradients* stay finite at the ends of time, on states that may be pytrees.

A single ``where`` keeps the value finite but not the gradient (0 * inf = nan in the untaken branch), hence the
double ``where``: the argument is made harmless before the function sees it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from bridgejax._types import DType, Numbers, PyTree, Scalar, State

TINY = 1e-30  # far below any variance a float32 schedule resolves, far above the smallest normal number
FAR = 800.0  # exp(-800) = 0 in float64
NONE = -1e30  # log of a weight that is none, finite in float32


def as_time(t: Numbers) -> Array:
    """``t`` as an array of at least float32: bfloat16 has 8 bits, and 1,001 times collapse to 507.

    A Python number takes the precision of what it meets (in JAX's words it stays weakly typed).
    """
    t = jnp.asarray(t)
    if not jnp.issubdtype(t.dtype, jnp.floating):
        t = 1.0 * t
    return t if t.weak_type else t.astype(jnp.promote_types(t.dtype, jnp.float32))


def dtype_of(x: PyTree) -> DType:
    """The dtype of what is computed from a state: its own, or JAX's default float for whole numbers (pixels)."""
    dtype = jax.dtypes.canonicalize_dtype(x.dtype) if hasattr(x, "dtype") else jnp.result_type(x)
    return dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float)


def as_wide(x: Numbers) -> Array:
    """``x`` as an array of at least float32; whole numbers in JAX's default, float64 under ``jax_enable_x64``."""
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(dtype_of(x), jnp.float32))


def cast_like(tree: PyTree, like: PyTree) -> PyTree:
    """``tree`` with each leaf in the dtype of that of ``like``: what a loop carries stays what it was."""
    return jax.tree.map(lambda new, old: jnp.asarray(new, jnp.result_type(old)), tree, like)


def on_device(x: PyTree) -> Array:
    """``jnp.asarray(x)``; of a NumPy array without the program that it compiles for every shape (jax 0.10)."""
    if not isinstance(x, np.ndarray):
        return jnp.asarray(x)
    dtype = jnp.result_type(x)
    return jnp.asarray(x.astype(dtype, copy=False), dtype)


def copies(leaves: Sequence[Array]) -> list[Array]:
    """The arrays in buffers of their own, on the devices they are on; one program where these are the same.

    ``jnp.copy`` compiles a program for every shape.
    """
    places = {None if isinstance(leaf, Tracer) else frozenset(leaf.sharding.device_set) for leaf in leaves}
    return [jnp.copy(leaf) for leaf in leaves] if None in places or len(places) > 1 else _copies(list(leaves))


@jax.jit
def _copies(leaves: list[Array]) -> list[Array]:
    return [jnp.copy(leaf) for leaf in leaves]


def safe_sqrt(v: Array) -> Array:
    """sqrt(v) where v > 0, else 0 with gradient 0."""
    positive = v > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, v, 1.0)), 0.0)


def safe_divide(a: Scalar, b: Array) -> Array:
    """a / b where b != 0, else 0 with gradient 0."""
    nonzero = b != 0
    return jnp.where(nonzero, a / jnp.where(nonzero, b, 1.0), 0.0)


def safe_log(v: Array, floor: float = TINY) -> Array:
    """log(max(v, floor)), with gradient 0 below the floor."""
    above = v > floor
    return jnp.log(jnp.where(above, v, floor))


def penalty(beyond: Array, variance: Array) -> Array:
    """-beyond / (2 variance) for beyond >= 0, also at variance 0 and beyond infinity; finite in value and gradient."""
    positive = variance > TINY
    near = beyond <= 2.0 * FAR * jnp.where(positive, variance, 0.0)
    sigma = jnp.sqrt(jnp.where(positive, variance, 1.0))  # divided by twice: 1 / variance^2 is beyond float32
    return jnp.where(near, -0.5 * (jnp.where(near, beyond, 0.0) / sigma) / sigma, NONE)


def gaussian_log_density(squared: Scalar, log_det: Scalar, dim: Scalar = 1.0) -> Array:
    """log N(y; m, C) = -[(y - m)' C^-1 (y - m) + log det C + d log(2 pi)] / 2, the one place where it is written out.

    Args:
        squared: the squared Mahalanobis distance (y - m)' C^-1 (y - m).
        log_det: log det C.
        dim: d.
    """
    return -0.5 * jnp.asarray(squared + log_det + dim * math.log(2.0 * math.pi))


def normal_log_prob(y: Array, mean: Scalar, variance: Scalar) -> Array:
    """log N(y; mean, variance), elementwise."""
    return gaussian_log_density((y - mean) ** 2 / variance, jnp.log(variance))


def linear_combination(*terms: tuple[Scalar, State]) -> State:
    """Sum of ``scalar * state`` over the terms, leaf by leaf, in the first state's dtype (``dtype_of``)."""
    scalars, states = zip(*terms, strict=True)

    def combine(*leaves: Array) -> Array:
        total = sum(a * v for a, v in zip(scalars, leaves, strict=True))
        return jnp.asarray(total, dtype_of(leaves[0]))

    return jax.tree.map(combine, *states)


def normal_like(key: Array, x: State) -> State:
    """Standard normal noise of the shapes and dtypes of ``x`` (arrays or structs), drawn in float32 at least."""
    leaves, treedef = jax.tree.flatten(x)
    subkeys = [key] if len(leaves) == 1 else list(jax.random.split(key, len(leaves)))

    def draw(k: Array, leaf: Array) -> Array:
        # drawn flat: the same numbers, and XLA's CPU compiler takes several times longer over shapes of rank 3 and 4
        dtype = dtype_of(leaf)
        wide = jnp.promote_types(dtype, jnp.float32)
        return jax.random.normal(k, (math.prod(leaf.shape),), wide).reshape(leaf.shape).astype(dtype)

    return jax.tree.unflatten(treedef, [draw(k, leaf) for k, leaf in zip(subkeys, leaves, strict=True)])
