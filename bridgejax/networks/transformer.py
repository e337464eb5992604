"""A small transformer over tokens (L, D), or over the patches of an image (H, W, C).

    tokens    patches of p^k numbers times C, zero-padded to whole patches      k = 1: sequences, 2: images, 3: volumes
    h_0 = W_in tokens + positions
    h_i = mixer_i(h_{i-1}, e)                                                   i = 1..depth, see ``attention``
    F   = W_out film_out(h_depth, e) + b_out                                    zero at the start; cut back, cropped

After Peebles and Xie (2023, arXiv 2212.09748; DiT with adaLN-zero). One thing differs: the last modulation acts on the
bare residual stream and not on a normalised one, as in the MLP here and for its reason: F keeps a path that is linear
in x with a gain set by t, which noise prediction needs far from the data.

Positions are sines and cosines of the patch's place, width/k numbers per axis (Vaswani et al. 2017, arXiv 1706.03762),
made by a formula and therefore no parameters; or learnt ones.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bridgejax._types import Args, DType, State, Time
from bridgejax.networks._checks import check_dtype, check_sample, check_shape, check_size, wide
from bridgejax.networks.attention import Mixer, check_heads
from bridgejax.networks.embedding import Embedding
from bridgejax.networks.layers import Film, linear, zero

Array = jax.Array

POSITIONS = ("sincos", "learnt")


class Transformer(nnx.Module):
    """Transformer F(t, x, args) with adaptive layer normalisation by time and condition.

    F starts as zero; parameters are float32, about depth (12 width² + 6 width embedding) of them. Attention costs the
    square of the number of tokens: (L / patch), or (H / patch)(W / patch).

    Args:
        shape: shape of one sample, its last axis the channels: (L, D) or (H, W, C), any sizes.
        patch: side of a patch; 1: every token or pixel is one. Sizes it does not divide are padded and cropped.
        width: channels of a token inside.
        depth: number of blocks, 0 or more.
        heads: attention heads, a divisor of width.
        expansion: inner width of the blocks' perceptrons in units of width.
        positions: "sincos" or "learnt".
        num_classes: number of classes K; then args is a label in 0..K, K (or None) the null class.
        cond_dim: size of a float condition; then args is a float array of that many numbers, None zeros.
        embedding: length of the time-and-condition vector; None is min(width, 128).
        time_features: number of Fourier features of the time, even.
        time_scale: times are multiplied by it; 1 suits clocks of about one to ten units.
        dtype: computing precision ("bfloat16", jnp.float32, ...). Parameters, statistics of the normalisations, the
            softmax, the embedding, the last layer and the output stay float32 or wider.
        rngs: random streams of the initial parameters, `nnx.Rngs(seed)`.

    Raises:
        ValueError: the shape has no channel axis, heads do not divide the width, positions are of no kind known here,
            or a size or the dtype cannot be used.

    (Peebles & Xie 2023, Scalable diffusion models with transformers, arXiv 2212.09748.)

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> from flax import nnx
        >>> make = lambda: bj.networks.Transformer((8, 8, 1), width=16, depth=1, heads=2, rngs=nnx.Rngs(0))
        >>> nnx.eval_shape(make).shape
        (8, 8, 1)
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        patch: int = 1,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        expansion: int = 4,
        positions: str = "sincos",
        num_classes: int | None = None,
        cond_dim: int | None = None,
        embedding: int | None = None,
        time_features: int = 64,
        time_scale: float = 1.0,
        dtype: DType = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.shape = check_shape(shape)
        if len(self.shape) < 2:
            raise ValueError(
                f"shape = {self.shape}: a transformer takes tokens (L, D) or an image (H, W, C), channels last; use an "
                "MLP for vectors."
            )
        if positions not in POSITIONS:
            raise ValueError(f"positions = {positions!r}: expected one of {POSITIONS}.")
        self.patch = check_size("patch", patch)
        self.num_classes = num_classes
        self.dtype = check_dtype(dtype)
        width = check_size("width", width, 2)
        heads = check_heads(heads, width)
        expansion = check_size("expansion", expansion)
        length = check_size("embedding", min(width, 128) if embedding is None else embedding)
        self.width = width
        self.grid = tuple(-(-size // self.patch) for size in self.shape[:-1])
        inside = self.patch ** len(self.grid) * self.shape[-1]
        self.embedding = Embedding(
            length,
            num_classes=num_classes,
            cond_dim=cond_dim,
            time_features=time_features,
            time_scale=time_scale,
            rngs=rngs,
        )
        self.first = linear(inside, width, dtype=self.dtype, rngs=rngs)
        self.positions = None if positions == "sincos" else _learnt(rngs, math.prod(self.grid), width)
        self.blocks = nnx.List(
            [
                Mixer(width, heads, length, expansion=expansion, dtype=self.dtype, rngs=rngs)
                for _ in range(check_size("depth", depth, 0))
            ]
        )
        self.film = Film(length, width, dtype=self.dtype, rngs=rngs)
        self.last = linear(width, inside, kernel_init=zero, rngs=rngs)

    def __call__(self, t: Time, x: State, args: Args = None) -> Array:
        """F(t, x, args) for one sample.

        Args:
            t: time, shape ().
            x: sample of the network's shape, floating.
            args: label, float array or None.

        Returns:
            An array of x's shape, float32 or wider.

        Raises:
            ValueError: t, x or args is not what this network was built for.
        """
        x = check_sample(x, self.shape)
        e = self.embedding(t, args)
        places = sincos(self.grid, self.width) if self.positions is None else self.positions[...]
        h = self.first(to_patches(x, self.patch))
        h = h + places.astype(h.dtype)
        for block in self.blocks:
            h = block(h, e)
        out = self.last(self.film(h, e).astype(wide(self.dtype)))
        return from_patches(out, self.patch, self.shape).astype(wide(x.dtype))


def to_patches(x: Array, patch: int) -> Array:
    """x (n_1, ..., n_k, C) as tokens, one per patch of side `patch`, padded by zeros at the far ends.

    Returns:
        Shape (prod ceil(n_i / patch), patch^k C), patches and what is in them in row-major order.
    """
    *sizes, channels = x.shape
    grid = [-(-size // patch) for size in sizes]
    x = jnp.pad(x, [*((0, n * patch - size) for n, size in zip(grid, sizes, strict=True)), (0, 0)])
    k = len(grid)
    x = x.reshape([part for n in grid for part in (n, patch)] + [channels])
    order = [*range(0, 2 * k, 2), *range(1, 2 * k, 2), 2 * k]
    return x.transpose(order).reshape(math.prod(grid), patch**k * channels)


def from_patches(tokens: Array, patch: int, shape: tuple[int, ...]) -> Array:
    """The array of this shape whose patches are the tokens: the inverse of `to_patches`, padding cropped."""
    *sizes, channels = shape
    grid = [-(-size // patch) for size in sizes]
    k = len(grid)
    x = tokens.reshape([*grid, *([patch] * k), channels])
    order = [axis for i in range(k) for axis in (i, k + i)] + [2 * k]
    x = x.transpose(order).reshape([*(n * patch for n in grid), channels])
    return x[tuple(slice(size) for size in sizes)]


def sincos(grid: Sequence[int], width: int) -> Array:
    """Where each patch of a grid stands: sines and cosines, shape (prod grid, width), float32.

    Axis by axis cos(w_j i), sin(w_j i) with w_j = 10000^(-j/m), j = 0..m-1, m = width / 2k; what is left of a width
    that 2k does not divide is zero. Made by numpy in float64, so that every device sees the same numbers.
    """
    k = len(grid)
    half = width // (2 * k)
    frequencies = 10_000.0 ** -(np.arange(half) / max(half, 1))
    places = np.stack(np.meshgrid(*(np.arange(n) for n in grid), indexing="ij"), axis=-1).reshape(-1, k)
    angles = places[:, :, None] * frequencies
    features = np.concatenate([np.cos(angles), np.sin(angles)], axis=-1).reshape(len(places), -1)
    return jnp.asarray(np.pad(features, ((0, 0), (0, width - features.shape[1]))), jnp.float32)


def _learnt(rngs: nnx.Rngs, tokens: int, width: int) -> nnx.Param:
    # spread as the sines and cosines are: their mean square is one half
    drawn = jax.random.normal(rngs.params(), (tokens * width,), jnp.float32)
    return nnx.Param(math.sqrt(0.5) * drawn.reshape(tokens, width))
