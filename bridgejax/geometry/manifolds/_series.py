"""Functions of an angle that are smooth in its square, which is what a squared length gives without a root.

sinc_root(s) = sin(sqrt s) / sqrt s,      versine_root(s) = (1 - cos(sqrt s)) / s,      cos_root(s) = cos(sqrt s)
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

_SMALL = 1e-2  # the next term of the series is below 3e-18 of the first


def sinc_root(s: Array) -> Array:
    """sin(sqrt s) / sqrt s, for s >= 0."""
    small = s < _SMALL
    root = jnp.sqrt(jnp.where(small, 1.0, s))
    t = jnp.where(small, s, 0.0)
    series = 1.0 - t / 6.0 * (1.0 - t / 20.0 * (1.0 - t / 42.0 * (1.0 - t / 72.0)))
    return jnp.where(small, series, jnp.sin(root) / root)


def versine_root(s: Array) -> Array:
    """(1 - cos(sqrt s)) / s = (sin(sqrt s / 2) / (sqrt s / 2))^2 / 2, for s >= 0."""
    return 0.5 * sinc_root(0.25 * s) ** 2


def cos_root(s: Array) -> Array:
    """cos(sqrt s), for s >= 0."""
    return 1.0 - s * versine_root(s)
