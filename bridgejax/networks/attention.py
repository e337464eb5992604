"""Attention, written once: over the pixels of a U-Net, the tokens of a transformer, the points of a set.

    attend(q, k, v) = softmax(q k^T / sqrt(d)) v      by heads of d = C / heads channels (Vaswani et al. 2017)

    Mixer     x + g1 attention(m1(x, e)),   then   x + g2 W2 gelu(W1 m2(x, e))
              m(x, e) = (1 + a(e)) norm x + b(e),     a, b and the gates g linear in e and zero at the start

The second is the adaLN-zero block of Peebles and Xie (2023, arXiv 2212.09748): the identity at the start, whatever the
inner layers are, so that depth costs nothing to begin with. norm is layer normalisation without parameters.

With a mask, absent tokens are seen by none. The softmax is float32 or wider whatever the computing precision.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from bridgejax._types import DType
from bridgejax.networks._checks import check_size
from bridgejax.networks.layers import linear, zero

Array = jax.Array


def attend(q: Array, k: Array, v: Array, heads: int, mask: Array | None = None) -> Array:
    """softmax(q kᵀ / sqrt(d)) v, by heads.

    Args:
        q: queries, shape (L, C).
        k: keys, shape (M, C).
        v: values, shape (M, C).
        heads: number of heads, a divisor of C.
        mask: which of the M are there, booleans of shape (M,); None: all.

    Returns:
        Shape (L, C). Where the mask has nobody, the mean of all values: the caller leaves it out.
    """
    by_head = [u.reshape(u.shape[0], heads, -1) for u in (q, k, v)]
    seen = None if mask is None else mask[None, None, None, :]
    return jax.nn.dot_product_attention(*by_head, mask=seen).reshape(q.shape)


def check_heads(heads: int, width: int) -> int:
    """The number of heads, if it divides the width.

    Raises:
        ValueError: it is no positive integer, or does not divide.
    """
    heads = check_size("heads", heads)
    if width % heads:
        raise ValueError(f"heads = {heads} do not divide width = {width}: choose a divisor of the width.")
    return heads


class Attention(nnx.Module):
    """W_out attend(W_q x, W_k y, W_v y): every token of x is told what those of y are. y = x is self-attention.

    Args:
        width: channels C of x and y.
        heads: number of heads, a divisor of C.
        dtype: computing precision.
        rngs: random streams of the initial parameters.
    """

    def __init__(self, width: int, heads: int, *, dtype: DType, rngs: nnx.Rngs):
        self.heads = heads
        # No bias on q, k, v: softmax does not see a key's bias, a parameter that could never learn.
        self.query = linear(width, width, use_bias=False, dtype=dtype, rngs=rngs)
        self.keys = linear(width, width, use_bias=False, dtype=dtype, rngs=rngs)
        self.values = linear(width, width, use_bias=False, dtype=dtype, rngs=rngs)
        self.out = linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, y: Array, mask: Array | None = None) -> Array:
        """Shape (L, C) for x (L, C), y (M, C) and the mask (M,) of those of y that are there."""
        return self.out(attend(self.query(x), self.keys(y), self.values(y), self.heads, mask))


class Modulation(nnx.Module):
    """((1 + a(e)) norm x + b(e), g(e)), a, b and the gate g linear in e and zero at the start.

    Args:
        embedding: length of e.
        width: channels C of x.
        dtype: computing precision; the normalisation's statistics are float32 or wider.
        rngs: random streams of the initial parameters.
    """

    def __init__(self, embedding: int, width: int, *, dtype: DType, rngs: nnx.Rngs):
        self.norm = nnx.LayerNorm(width, use_bias=False, use_scale=False, dtype=dtype, rngs=rngs)
        self.linear = linear(embedding, 3 * width, kernel_init=zero, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, e: Array) -> tuple[Array, Array]:
        """The modulated tokens (L, C), and the gate (C,)."""
        scale, shift, gate = jnp.split(self.linear(e), 3)
        return (1 + scale) * self.norm(x) + shift, gate


class Mixer(nnx.Module):
    """The adaLN-zero block: attention among the tokens, then a two-layer perceptron on each, both gated.

    With inducing points I (M of them, learnt) the tokens talk through them, x to I' = I + attention(I, x) and back,
    attention(x, I'), in O(L M) and not O(L²) (Lee et al. 2019, arXiv 1810.00825, without its own perceptrons).

    Args:
        width: channels C of a token.
        heads: number of heads, a divisor of C.
        embedding: length of e.
        expansion: inner width of the perceptron in units of C.
        inducing: number of inducing points, 0 for attention of every token to every other.
        dtype: computing precision.
        rngs: random streams of the initial parameters.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        embedding: int,
        *,
        expansion: int = 4,
        inducing: int = 0,
        dtype: DType,
        rngs: nnx.Rngs,
    ):
        self.first = Modulation(embedding, width, dtype=dtype, rngs=rngs)
        self.points = nnx.Param(_points(rngs, inducing, width)) if inducing else None
        self.gather = Attention(width, heads, dtype=dtype, rngs=rngs) if inducing else None
        self.attention = Attention(width, heads, dtype=dtype, rngs=rngs)
        self.second = Modulation(embedding, width, dtype=dtype, rngs=rngs)
        self.up = linear(width, expansion * width, dtype=dtype, rngs=rngs)
        self.down = linear(expansion * width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, e: Array, mask: Array | None = None) -> Array:
        """The tokens after this block, shape (L, C); e (embedding,), mask (L,) of the tokens that are there."""
        h, gate = self.first(x, e)
        if self.points is None or self.gather is None:
            mixed = self.attention(h, h, mask)
        else:
            points = self.points[...].astype(h.dtype)
            mixed = self.attention(h, points + self.gather(points, h, mask))
        x = x + gate * mixed
        h, gate = self.second(x, e)
        return x + gate * self.down(nnx.gelu(self.up(h)))


def _points(rngs: nnx.Rngs, num: int, width: int) -> Array:
    return jax.random.normal(rngs.params(), (num * width,), jnp.float32).reshape(num, width)
