"""A network for sets of points (N, D): permuting the points permutes the outputs, and N may change from call to call.

    h_0 = W_in x                                      on every point alike
    h_i = mixer_i(h_{i-1}, e)                         i = 1..depth: attention among the points, see ``attention``
    F   = W_out film_out(h_depth, e) + b_out          zero at the start

Nothing here knows a point's place in the list, so F(P x) = P F(x) for every permutation P, to rounding. After Lee et
al. (2019, arXiv 1810.00825): with inducing points the cost is linear in N. The blocks are the adaLN-zero blocks of
Peebles and Xie (2023, arXiv 2212.09748), which is where the time comes in.

Sets of unequal size ride in one batch padded to one N, with ``Present(mask, condition)`` for args: absent points are
seen by nobody, and their outputs are zero.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from bridgejax._summary import summary
from bridgejax._types import Args, DType, Mask, State, Time
from bridgejax.networks._checks import check_dtype, check_sample, check_shape, check_size, wide
from bridgejax.networks.attention import Mixer, check_heads
from bridgejax.networks.embedding import Embedding
from bridgejax.networks.layers import Film, linear, zero

Array = jax.Array


class Present(NamedTuple):
    """args of a SetTransformer whose sets have absent points.

    Attributes:
        mask: booleans of shape (N,), True where a point is there.
        condition: what args is otherwise: label, float array or None.
    """

    mask: Mask
    condition: Any = None

    __repr__ = summary


class SetTransformer(nnx.Module):
    """Permutation-equivariant F(t, x, args) for point sets, with adaptive normalisation by time and condition.

    F starts as zero; parameters are float32, about depth (12 width² + 6 width embedding) of them.

    Args:
        shape: (N, D), N points of D numbers. N is a hint, held to nowhere: a call takes any N of at least 1.
        width: channels of a point inside.
        depth: number of blocks, 0 or more; without any a point does not see the others.
        heads: attention heads, a divisor of width.
        expansion: inner width of the blocks' perceptrons in units of width.
        inducing: number M of inducing points; 0: every point attends to every other. From some hundred points on,
            M of 16 to 64 is cheaper.
        num_classes: number of classes K; then args is a label in 0..K, K (or None) the null class.
        cond_dim: size of a float condition; then args is a float array of that many numbers, None zeros.
        embedding: length of the time-and-condition vector; None is min(width, 128).
        time_features: number of Fourier features of the time, even.
        time_scale: times are multiplied by it; 1 suits clocks of about one to ten units.
        dtype: computing precision ("bfloat16", jnp.float32, ...). Parameters, statistics of the normalisations, the
            softmax, the embedding, the last layer and the output stay float32 or wider.
        rngs: random streams of the initial parameters, `nnx.Rngs(seed)`.

    Raises:
        ValueError: the shape is not (N, D), heads do not divide the width, or a size or the dtype cannot be used.

    (Lee et al. 2019, Set transformer: a framework for attention-based permutation-invariant neural networks, arXiv
    1810.00825.)

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> from flax import nnx
        >>> make = lambda: bj.networks.SetTransformer((16, 3), width=16, depth=1, heads=2, rngs=nnx.Rngs(0))
        >>> nnx.eval_shape(make).shape
        (16, 3)
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        expansion: int = 4,
        inducing: int = 0,
        num_classes: int | None = None,
        cond_dim: int | None = None,
        embedding: int | None = None,
        time_features: int = 64,
        time_scale: float = 1.0,
        dtype: DType = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.shape = check_shape(shape)
        if len(self.shape) != 2:
            raise ValueError(f"shape = {self.shape}: a set is N points of D numbers, (N, D), of rank 2.")
        self.num_classes = num_classes
        self.dtype = check_dtype(dtype)
        width = check_size("width", width, 2)
        heads = check_heads(heads, width)
        inducing = check_size("inducing", inducing, 0)
        expansion = check_size("expansion", expansion)
        length = check_size("embedding", min(width, 128) if embedding is None else embedding)
        self.embedding = Embedding(
            length,
            num_classes=num_classes,
            cond_dim=cond_dim,
            time_features=time_features,
            time_scale=time_scale,
            rngs=rngs,
        )
        self.first = linear(self.shape[1], width, dtype=self.dtype, rngs=rngs)
        self.blocks = nnx.List(
            [
                Mixer(width, heads, length, expansion=expansion, inducing=inducing, dtype=self.dtype, rngs=rngs)
                for _ in range(check_size("depth", depth, 0))
            ]
        )
        self.film = Film(length, width, dtype=self.dtype, rngs=rngs)
        self.last = linear(width, self.shape[1], kernel_init=zero, rngs=rngs)

    def __call__(self, t: Time, x: State, args: Args = None) -> Array:
        """F(t, x, args) for one set.

        Args:
            t: time, shape ().
            x: points (N, D) for any N, floating.
            args: label, float array or None; or `Present(mask, condition)`.

        Returns:
            An array of x's shape, float32 or wider; zero at absent points.

        Raises:
            ValueError: t, x, args or the mask is not what this network was built for.
        """
        mask, args = (args.mask, args.condition) if isinstance(args, Present) else (None, args)
        x = check_points(x, self.shape[1])
        if mask is not None:
            mask = check_mask(mask, len(x))
            x = jnp.where(mask[:, None], x, 0)  # what stands in an absent point's place, NaN perhaps, is nobody's
        e = self.embedding(t, args)
        h = self.first(x)
        for block in self.blocks:
            h = block(h, e, mask)
        out = self.last(self.film(h, e).astype(wide(self.dtype))).astype(wide(x.dtype))
        return out if mask is None else jnp.where(mask[:, None], out, 0)


def check_points(x: State, dim: int) -> Array:
    """The points as an array (N, dim), floating, N at least 1.

    Raises:
        ValueError: another rank or dimension, no points, or integers.
    """
    x = jnp.asarray(x)
    if x.ndim == 2 and x.shape[0] >= 1:
        return check_sample(x, (x.shape[0], dim))
    remedy = "one call sees one set, so map it over the batch with jax.vmap" if x.ndim == 3 else "reshape it"
    raise ValueError(f"x has shape {x.shape}, but this network takes N >= 1 points of {dim} numbers: {remedy}.")


def check_mask(mask: Mask, num: int) -> Array:
    """The mask as booleans of shape (num,).

    Raises:
        ValueError: another shape, or numbers that are no booleans.
    """
    mask = jnp.asarray(mask)
    if mask.shape != (num,) or mask.dtype != jnp.bool_:
        raise ValueError(
            f"mask has shape {mask.shape} and dtype {mask.dtype}, expected one boolean per point, shape ({num},)."
        )
    return mask
