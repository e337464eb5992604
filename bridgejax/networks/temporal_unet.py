"""A U-Net over time for trajectories (H, D) of any horizon H.

    down      at each level: residual temporal blocks (the last kept for the way up), then a stride-2 convolution
    lowest    residual temporal blocks
    up        repeat every time twice, crop to the horizon kept, convolve, concatenate, residual temporal blocks
    head      mish(norm conv h), then a projection w_0 -> D, zero at the start

    residual temporal block    W x + mish(norm conv(film(mish(norm conv x), e)))      conv over five times

After Janner, Du, Tenenbaum and Levine (2022, arXiv 2205.09991; Diffuser). Nothing but convolutions over time: beside
the statistics of the normalisations an output sees a window of some hundred times, which is what lets a planner stitch
parts of different trajectories together, and one set of weights serves any horizon. Three things differ: the diffusion
time modulates scale and shift and not shift alone, the upsampling is a repetition and a convolution instead of a
transposed convolution, and the lowest level has as many blocks as the others and not twice as many.

Horizons. A stride-2 convolution of kernel 3 padded by one takes H to ceil(H/2), for every H; the way up doubles and
crops the one time too many. So 7 goes 7 -> 4 -> 2 and comes back as 7, without padding.
"""

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from bridgejax._types import Args, DType, State, Time
from bridgejax.networks._checks import check_dtype, check_sample, check_shape, check_size, check_sizes, wide
from bridgejax.networks.embedding import Embedding
from bridgejax.networks.layers import Film, conv_time, group_norm, linear, normalise, zero

Array = jax.Array


class TemporalUNet(nnx.Module):
    """U-Net F(t, x, args) over the time axis of one trajectory, with modulation by (diffusion) time and condition.

    F starts as zero; parameters are float32 and none depends on H.

    Args:
        shape: (H, D), horizon and numbers per time (states and actions, side by side). H is a hint, held to nowhere:
            a call takes any horizon of at least 2**(levels - 1).
        outputs: shape of F, (H, ...), for the same any H; None is x's.
        width: channels at full resolution.
        multipliers: channels of each level in units of width, the finest first; their number is the number of levels.
        blocks: residual temporal blocks per level and direction, at least 1.
        num_classes: number of classes K; then args is a label in 0..K, K (or None) the null class.
        cond_dim: size of a float condition (a return, a start state, ...); then args is a float array of that many
            numbers, None zeros.
        embedding: length of the time-and-condition vector; None is 4 * width, at most 256.
        time_features: number of Fourier features of the diffusion time, even.
        time_scale: diffusion times are multiplied by it; 1 suits clocks of about one to ten units.
        dtype: computing precision ("bfloat16", jnp.float32, ...). Parameters, statistics of the normalisations, the
            embedding, the last layer and the output stay float32 or wider.
        rngs: random streams of the initial parameters, `nnx.Rngs(seed)`.

    Raises:
        ValueError: the shape is not (H, D) or H too short for so many levels, or a size or the dtype cannot be used.

    (Janner et al. 2022, Planning with diffusion for flexible behavior synthesis, arXiv 2205.09991.)

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> from flax import nnx
        >>> make = lambda: bj.networks.TemporalUNet((16, 3), width=8, rngs=nnx.Rngs(0))
        >>> nnx.eval_shape(make).shape
        (16, 3)
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        outputs: Sequence[int] | None = None,
        width: int = 32,
        multipliers: Sequence[int] = (1, 2, 4, 8),
        blocks: int = 2,
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
        widths = tuple(width * factor for factor in check_sizes("multipliers", multipliers))
        if not widths:
            raise ValueError("multipliers = (): expected at least one, the channels of the finest level.")
        self.shortest = 2 ** (len(widths) - 1)
        if len(self.shape) != 2:
            raise ValueError(f"shape = {self.shape}: a trajectory is H times of D numbers, (H, D), of rank 2.")
        _check_horizon(self.shape[0], self.shortest)
        length = check_size("embedding", min(4 * width, 256) if embedding is None else embedding)

        def level(inputs: int, outputs: int) -> nnx.List:
            sizes = (inputs, *(outputs for _ in range(blocks - 1)))
            return nnx.List([TemporalBlock(n, outputs, length, dtype=self.dtype, rngs=rngs) for n in sizes])

        self.embedding = Embedding(
            length,
            num_classes=num_classes,
            cond_dim=cond_dim,
            time_features=time_features,
            time_scale=time_scale,
            rngs=rngs,
        )
        self.down = nnx.List([])
        self.shrink = nnx.List([])
        self.grow = nnx.List([])
        self.up = nnx.List([])
        inputs = self.shape[1]
        for fine, coarse in itertools.pairwise(widths):
            self.down.append(level(inputs, fine))
            self.shrink.append(
                conv_time(fine, fine, kernel_size=(3,), strides=2, padding=1, dtype=self.dtype, rngs=rngs)
            )
            self.grow.append(conv_time(coarse, fine, kernel_size=(3,), padding=1, dtype=self.dtype, rngs=rngs))
            self.up.append(level(2 * fine, fine))
            inputs = fine
        self.lowest = level(inputs, widths[-1])
        self.conv = conv_time(widths[0], widths[0], dtype=self.dtype, rngs=rngs)
        self.norm = group_norm(widths[0], dtype=self.dtype, rngs=rngs)
        outputs = self.shape if outputs is None else check_shape(outputs)
        if outputs[:1] != self.shape[:1]:
            raise ValueError(f"outputs = {outputs}: expected {self.shape[:1]} first, the trajectory's horizon.")
        self.outputs = outputs[1:]
        self.head = linear(widths[0], math.prod(self.outputs), kernel_init=zero, rngs=rngs)

    def __call__(self, t: Time, x: State, args: Args = None) -> Array:
        """F(t, x, args) for one trajectory.

        Args:
            t: diffusion time, shape ().
            x: trajectory (H, D) for any H of at least 2**(levels - 1), floating.
            args: label, float array or None.

        Returns:
            An array of x's shape, or ``outputs`` with x's horizon, float32 or wider.

        Raises:
            ValueError: t, x or args is not what this network was built for.
        """
        x = check_trajectory(x, self.shape[1], self.shortest)
        e = self.embedding(t, args)
        h = x.astype(self.dtype)
        kept = []
        for level, shrink in zip(self.down, self.shrink, strict=True):
            for block in level:
                h = block(h, e)
            kept.append(h)
            h = shrink(h)
        for block in self.lowest:
            h = block(h, e)
        for level, grow in zip(reversed(self.up), reversed(self.grow), strict=True):
            skip = kept.pop()
            h = grow(jnp.repeat(h, 2, axis=0)[: len(skip)])
            h = jnp.concatenate([h, skip], axis=-1)
            for block in level:
                h = block(h, e)
        h = jax.nn.mish(normalise(self.norm, self.conv(h))).astype(wide(self.dtype))
        return self.head(h).reshape(len(x), *self.outputs).astype(wide(x.dtype))


class TemporalBlock(nnx.Module):
    """W x + mish(norm conv(film(mish(norm conv x), e))), W the identity where the channels stay.

    Args:
        inputs: channels of x.
        outputs: channels of the result.
        embedding: length of e.
        dtype: computing precision.
        rngs: random streams of the initial parameters.
    """

    def __init__(self, inputs: int, outputs: int, embedding: int, *, dtype: DType, rngs: nnx.Rngs):
        self.conv1 = conv_time(inputs, outputs, dtype=dtype, rngs=rngs)
        self.norm1 = group_norm(outputs, dtype=dtype, rngs=rngs)
        self.film = Film(embedding, outputs, dtype=dtype, rngs=rngs)
        self.conv2 = conv_time(outputs, outputs, dtype=dtype, rngs=rngs)
        self.norm2 = group_norm(outputs, dtype=dtype, rngs=rngs)
        self.project = None if inputs == outputs else linear(inputs, outputs, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, e: Array) -> Array:
        """The trajectory after this block, shape (H, outputs)."""
        h = self.film(jax.nn.mish(normalise(self.norm1, self.conv1(x))), e)
        h = jax.nn.mish(normalise(self.norm2, self.conv2(h)))
        return h + (x if self.project is None else self.project(x))


def check_trajectory(x: State, dim: int, shortest: int) -> Array:
    """The trajectory as an array (H, dim), floating, H at least `shortest`.

    Raises:
        ValueError: another rank or dimension, a shorter horizon, or integers.
    """
    x = jnp.asarray(x)
    if x.ndim != 2:
        remedy = "one call sees one trajectory, so map it over the batch with jax.vmap" if x.ndim == 3 else "reshape it"
        raise ValueError(f"x has shape {x.shape}, but this network takes trajectories (H, {dim}): {remedy}.")
    _check_horizon(x.shape[0], shortest)
    return check_sample(x, (x.shape[0], dim))


def _check_horizon(horizon: int, shortest: int) -> None:
    if horizon < shortest:
        raise ValueError(
            f"horizon H = {horizon}: {shortest.bit_length()} levels halve the time axis {shortest.bit_length() - 1} "
            f"times and need H of at least {shortest}; pass at most {horizon.bit_length()} multipliers."
        )
