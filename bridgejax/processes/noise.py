"""What a diffusion does to a vector: G w and Sigma v = G G^T v, for the three forms a diffusion may have.

scalar      the same for all of the state
diagonal    an array or pytree like the state
dense       a lineax operator, perhaps rectangular: w has the shape of its input, the noise
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import lineax

from bridgejax.processes.numerics import axpy


def times_noise(g: Any, w: Any) -> Any:
    """G w, shaped like the state; in the dtype of w."""
    if isinstance(g, lineax.AbstractLinearOperator):
        return g.mv(w)
    if jax.tree.structure(g) == jax.tree.structure(w):
        return jax.tree.map(lambda a, b: jnp.asarray(a * b, b.dtype), g, w)
    return axpy((g, w))


def covariance_times(g: Any, v: Any) -> Any:
    """Sigma v, shaped like the state."""
    if isinstance(g, lineax.AbstractLinearOperator):
        return g.mv(g.T.mv(v))
    if jax.tree.structure(g) == jax.tree.structure(v):
        return jax.tree.map(lambda a, b: a**2 * b, g, v)
    return jax.tree.map(lambda leaf: g**2 * leaf, v)
