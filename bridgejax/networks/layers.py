"""The layers that the networks share, and how their kernels start.

W_ij ~ N(0, 1 / fan_in)                     keeps the variance of what passes through (LeCun et al. 1998)
film(u, e) = (1 + a(e)) u + b(e)            feature-wise modulation (Perez et al. 2018, arXiv 1709.07871)
normalise(u) = (u - mean) / std * s + b     over space and the channels of a group (Wu and He 2018, arXiv 1803.08494)
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from bridgejax._types import DType

Array = jax.Array


def lecun_normal(key: Array, shape: Sequence[int], dtype: DType = jnp.float32) -> Array:
    """Normal numbers of variance 1 / fan_in, fan_in being the product of all sizes but the last.

    Drawn flat and then reshaped: the same numbers, but XLA's CPU compiler takes seconds over random bits of rank 4
    (2 to 9 s of CPU for a kernel of (3, 3, 8, 16)) and a fraction of one over a vector, and a network has many kernels.

    Args:
        key: random key.
        shape: shape of the kernel, (..., inputs, outputs).
        dtype: type of the kernel.

    Returns:
        The kernel.
    """
    scale = 1 / math.sqrt(math.prod(shape[:-1]))
    drawn = jax.random.normal(key, (math.prod(shape),), jnp.promote_types(dtype, jnp.float32))
    return (scale * drawn).reshape(shape).astype(dtype)


zero = nnx.initializers.zeros_init()

linear = functools.partial(nnx.Linear, kernel_init=lecun_normal)
"""W x + b over the last axis."""

conv = functools.partial(nnx.Conv, kernel_size=(3, 3), padding=1, kernel_init=lecun_normal)
"""3x3 convolution of images (..., H, W, C), padded by one pixel."""


conv_time = functools.partial(nnx.Conv, kernel_size=(5,), padding=2, kernel_init=lecun_normal)
"""Convolution over the five nearest times of (..., H, C), padded by two."""


class Film(nnx.Module):
    """Feature-wise modulation (1 + a(e)) u + b(e) over the last axis of u, a and b linear and zero at the start.

    Args:
        embedding: length of e.
        channels: size of u's last axis.
        dtype: computing precision.
        rngs: random streams of the initial parameters.
    """

    def __init__(self, embedding: int, channels: int, *, dtype: DType, rngs: nnx.Rngs):
        self.linear = linear(embedding, 2 * channels, kernel_init=zero, dtype=dtype, rngs=rngs)

    def __call__(self, u: Array, e: Array) -> Array:
        """u modulated, of u's shape."""
        scale, shift = jnp.split(self.linear(e), 2)
        return (1 + scale) * u + shift


def group_norm(channels: int, *, dtype: DType, rngs: nnx.Rngs) -> nnx.GroupNorm:
    """A group normalisation with the most groups, up to 32, that divide the channels and hold four or more each.

    To be called through `normalise` (Wu and He 2018, arXiv 1803.08494).
    """
    groups = max(g for g in range(1, min(32, max(1, channels // 4)) + 1) if channels % g == 0)
    return nnx.GroupNorm(channels, num_groups=groups, dtype=dtype, rngs=rngs)


def normalise(norm: nnx.GroupNorm, x: Array) -> Array:
    """`norm` of one sample (H, W, C) or (H, C): mean and variance over all but the channels, of each group."""
    return norm(x[None])[0]
