"""A small U-Net for images (H, W, C) of any size.

    stem      3x3 convolution, C -> w_0
    down      at each level but the lowest: residual blocks (kept for the way up), then a stride-2 convolution
    lowest    residual blocks, self-attention over the pixels, residual blocks
    up        project, repeat every pixel 2x2, crop to the size kept, concatenate, residual blocks
    head      group norm, silu, 3x3 convolution w_0 -> C, zero at the start

    residual block    x + conv(silu(film(norm conv(silu(norm x)), e)))

Sizes. A stride-2 convolution padded by one pixel takes n to ceil(n/2) and looks from pixel 2i for every n, odd or
even; the way up doubles and crops the one pixel too many. So 7x9 goes 7x9 -> 4x5 -> 2x3 and comes back as 7x9, with
nothing resized, padded away or interpolated.

Group normalisation is called on x[None]. A layer given one (H, W, C) image takes its first axis for a batch and
normalises every row of pixels by itself, without an error.
"""

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from bridgejax._types import Args, DType, State, Time
from bridgejax.networks._checks import check_dtype, check_sample, check_shape, check_size, check_sizes, wide
from bridgejax.networks.attention import attend
from bridgejax.networks.embedding import Embedding
from bridgejax.networks.layers import Film, conv, group_norm, linear, normalise, zero

Array = jax.Array


class UNet(nnx.Module):
    """U-Net F(t, x, args) for images, with feature-wise modulation by time and condition.

    The shape of Ho, Jain and Abbeel (2020, arXiv 2006.11239) after Ronneberger et al. (2015, arXiv 1505.04597),
    with adaptive group normalisation (Dhariwal and Nichol 2021, arXiv 2105.05233), kept small: attention only at
    the lowest level and a projection before the upsampling, where pixels are fewest. There is no dropout: a call
    takes no random key. F starts as zero; parameters are float32.

    `jax.vmap` over samples compiles to the same batched convolutions as a batched network.

    Args:
        shape: (H, W, C) of one image; any sizes whose smaller side is at least 2**(levels - 1).
        outputs: shape of F, (H, W, ...); None is x's.
        width: channels at full resolution.
        multipliers: channels of each level in units of width, the finest first; their number is the number of levels.
        blocks: residual blocks per level and direction, at least 1.
        attention: heads of the self-attention at the lowest level, 0 for none; must divide that level's channels.
        num_classes: number of classes K; then args is a label in 0..K, K (or None) the null class.
        cond_dim: size of a float condition; then args is a float array of that many numbers, None zeros.
        embedding: length of the time-and-condition vector; None is 4 * width, at most 256.
        time_features: number of Fourier features of the time, even.
        time_scale: times are multiplied by it; 1 suits clocks of about one to ten units.
        dtype: computing precision ("bfloat16", jnp.float32, ...). Parameters, statistics of the normalisations, the
            embedding, the last convolution and the output stay float32 or wider.
        rngs: random streams of the initial parameters, `nnx.Rngs(seed)`.

    Raises:
        ValueError: the shape is not (H, W, C) or too small for so many levels, attention does not divide the
            channels, or a size or the dtype cannot be used.

    (Ronneberger, Fischer & Brox 2015, U-Net: convolutional networks for biomedical image segmentation, arXiv
    1505.04597.)

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> from flax import nnx
        >>> make = lambda: bj.networks.UNet((8, 8, 1), width=8, multipliers=(1, 2), rngs=nnx.Rngs(0))
        >>> nnx.eval_shape(make).shape
        (8, 8, 1)
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        outputs: Sequence[int] | None = None,
        width: int = 32,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 1,
        attention: int = 1,
        num_classes: int | None = None,
        cond_dim: int | None = None,
        embedding: int | None = None,
        time_features: int = 64,
        time_scale: float = 1.0,
        dtype: DType = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.shape = check_shape(shape)
        self.num_classes = num_classes
        self.dtype = check_dtype(dtype)
        width = check_size("width", width)
        blocks = check_size("blocks", blocks)
        heads = check_size("attention", attention, 0)
        widths = tuple(width * factor for factor in check_sizes("multipliers", multipliers))
        _check_image(self.shape, len(widths))
        length = check_size("embedding", min(4 * width, 256) if embedding is None else embedding)
        if heads and widths[-1] % heads:
            raise ValueError(
                f"attention = {attention} heads do not divide the {widths[-1]} channels of the lowest level "
                "(width times its last multiplier); choose a divisor, or 0 for no attention."
            )

        def block(inputs: int, outputs: int) -> ResidualBlock:
            return ResidualBlock(inputs, outputs, length, dtype=self.dtype, rngs=rngs)

        self.embedding = Embedding(
            length,
            num_classes=num_classes,
            cond_dim=cond_dim,
            time_features=time_features,
            time_scale=time_scale,
            rngs=rngs,
        )
        channels = self.shape[-1]
        self.stem = conv(channels, width, dtype=self.dtype, rngs=rngs)
        self.down = nnx.List([])
        self.shrink = nnx.List([])
        self.grow = nnx.List([])
        self.up = nnx.List([])
        inputs = width
        for fine, coarse in itertools.pairwise(widths):
            self.down.append(nnx.List([block(inputs if i == 0 else fine, fine) for i in range(blocks)]))
            self.shrink.append(
                conv(fine, fine, strides=2, dtype=self.dtype, rngs=rngs),
            )
            self.grow.append(linear(coarse, fine, dtype=self.dtype, rngs=rngs))
            self.up.append(nnx.List([block(2 * fine, fine) for _ in range(blocks)]))
            inputs = fine
        lowest = widths[-1]
        self.before = nnx.List([block(inputs if i == 0 else lowest, lowest) for i in range(blocks)])
        self.attention = Attention(lowest, heads, dtype=self.dtype, rngs=rngs) if heads else None
        self.after = nnx.List([block(lowest, lowest) for _ in range(blocks)])
        self.norm = group_norm(widths[0], dtype=self.dtype, rngs=rngs)
        self.outputs = self.shape if outputs is None else check_shape(outputs)
        if self.outputs[:2] != self.shape[:2]:
            raise ValueError(
                f"outputs = {self.outputs}: expected {self.shape[:2]} first, the image's height and width."
            )
        self.head = conv(widths[0], math.prod(self.outputs[2:]), kernel_init=zero, rngs=rngs)

    def __call__(self, t: Time, x: State, args: Args = None) -> Array:
        """F(t, x, args) for one image.

        Args:
            t: time, shape ().
            x: image (H, W, C), floating.
            args: label, float array or None.

        Returns:
            An array of x's shape, or ``outputs``, float32 or wider.

        Raises:
            ValueError: t, x or args is not what this network was built for.
        """
        x = check_sample(x, self.shape)
        e = self.embedding(t, args)
        h = self.stem(x.astype(self.dtype))
        kept = []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            for block in blocks:
                h = block(h, e)
                kept.append(h)
            h = shrink(h)
        for block in self.before:
            h = block(h, e)
        if self.attention is not None:
            h = self.attention(h)
        for block in self.after:
            h = block(h, e)
        for blocks, grow in zip(reversed(self.up), reversed(self.grow), strict=True):
            h = double(grow(h), kept[-1].shape)
            for block in blocks:
                h = block(jnp.concatenate([h, kept.pop()], axis=-1), e)
        h = nnx.silu(normalise(self.norm, h)).astype(wide(self.dtype))
        return self.head(h).reshape(self.outputs).astype(wide(x.dtype))


class ResidualBlock(nnx.Module):
    """x + conv(silu(film(norm conv(silu(norm x)), e))), x projected where the channels change.

    Pre-activation (He et al. 2016, arXiv 1603.05027).

    Args:
        inputs: channels of x.
        outputs: channels of the result.
        embedding: length of e.
        dtype: computing precision.
        rngs: random streams of the initial parameters.
    """

    def __init__(self, inputs: int, outputs: int, embedding: int, *, dtype: DType, rngs: nnx.Rngs):
        self.norm1 = group_norm(inputs, dtype=dtype, rngs=rngs)
        self.conv1 = conv(inputs, outputs, dtype=dtype, rngs=rngs)
        self.norm2 = group_norm(outputs, dtype=dtype, rngs=rngs)
        self.film = Film(embedding, outputs, dtype=dtype, rngs=rngs)
        self.conv2 = conv(outputs, outputs, dtype=dtype, rngs=rngs)
        self.project = None if inputs == outputs else linear(inputs, outputs, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, e: Array) -> Array:
        """The image after this block, shape (H, W, outputs)."""
        h = self.conv1(nnx.silu(normalise(self.norm1, x)))
        h = self.conv2(nnx.silu(self.film(normalise(self.norm2, h), e)))
        return h + (x if self.project is None else self.project(x))


class Attention(nnx.Module):
    """x + W_out softmax(q kᵀ / sqrt(d)) v over the pixels of one image (Vaswani et al. 2017, arXiv 1706.03762).

    W_out is zero at the start. Positions come from the convolutions around it, which see the padding.

    Args:
        channels: channels of x.
        heads: number of heads, a divisor of channels.
        dtype: computing precision; the softmax is float32 or wider.
        rngs: random streams of the initial parameters.
    """

    def __init__(self, channels: int, heads: int, *, dtype: DType, rngs: nnx.Rngs):
        self.heads = heads
        self.norm = group_norm(channels, dtype=dtype, rngs=rngs)
        # No bias on q, k, v: softmax does not see a key's bias, a parameter that could never learn.
        self.qkv = linear(channels, 3 * channels, use_bias=False, dtype=dtype, rngs=rngs)
        self.out = linear(channels, channels, kernel_init=zero, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """The image with every pixel told about every other, of x's shape."""
        qkv = self.qkv(normalise(self.norm, x)).reshape(-1, 3 * x.shape[-1])
        q, k, v = jnp.split(qkv, 3, axis=-1)
        mixed = attend(q, k, v, self.heads)
        return x + self.out(mixed.reshape(x.shape))


def double(x: Array, like: tuple[int, ...]) -> Array:
    """Every pixel of x (h, w, C) repeated 2x2, cropped to the height and width of `like`."""
    return jnp.repeat(jnp.repeat(x, 2, axis=0), 2, axis=1)[: like[0], : like[1]]


def _check_image(shape: tuple[int, ...], levels: int) -> None:
    if levels < 1:
        raise ValueError("multipliers = (): expected at least one, the channels of the finest level.")
    if len(shape) != 3:
        hint = (
            f"grey images are (H, W, 1), so add the channel axis: shape={(*shape, 1)}"
            if len(shape) == 2
            else "use an MLP for samples that are not images"
        )
        raise ValueError(f"shape = {shape}: a U-Net takes one image (H, W, C), of rank 3; {hint}.")
    smallest, needed = min(shape[:2]), 2 ** (levels - 1)
    if smallest < needed:
        most = int(math.log2(smallest)) + 1
        raise ValueError(
            f"shape = {shape}: {levels} levels halve the image {levels - 1} times and need {needed} pixels on its "
            f"smaller side, which has {smallest}; pass at most {most} multipliers, or use an MLP."
        )
