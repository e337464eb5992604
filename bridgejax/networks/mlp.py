"""A residual multilayer perceptron for samples of any shape.

    e   = embedding(t, args)                                  when, and of which class or given what
    h_0 = W_in x + b_in                                       x flattened
    h_i = h_{i-1} + V_i silu(U_i film_i(h_{i-1}, e))          i = 1..depth
    F   = W_out film_out(h_depth, e) + b_out                  W_out = b_out = 0 at the start

    film(u, e) = (1 + a(e)) u + b(e),    a and b linear in e and zero at the start

Nothing is normalised. The last modulation acts on the bare residual stream: F then holds a path that is linear in x
with a gain set by t, which is what noise prediction needs far from the data, where a normalised stream could only
saturate. And a layer normalisation before a block would leave it the direction of W_in x alone, at one length: with it
the ends of a bridge to eight Gaussians on a circle were a ring, and the error of E[x_1 | x_t] was half as large again.
In 64 dimensions there was no difference.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from bridgejax._types import Args, DType, State, Time
from bridgejax.networks._checks import check_dtype, check_sample, check_shape, check_size, size_of, wide
from bridgejax.networks.embedding import Embedding
from bridgejax.networks.layers import Film, linear, zero

Array = jax.Array


class MLP(nnx.Module):
    """Residual MLP F(t, x, args) with feature-wise modulation by time and condition.

    F starts as zero. Each block is two matrices behind a modulation whose scale and shift are read off the
    embedding (FiLM: Perez et al. 2018, arXiv 1709.07871; zero at the start: Peebles and Xie 2023,
    arXiv 2212.09748). Parameters are float32; about depth (2 width² + 2 width embedding) of them.

    Args:
        shape: shape of one sample, of any rank; () is a scalar. It is flattened inside.
        outputs: shape of F; None is x's.
        width: size of the residual stream, at least 2.
        depth: number of residual blocks, 0 or more.
        num_classes: number of classes K; then args is a label in 0..K, K (or None) the null class.
        cond_dim: size of a float condition; then args is a float array of that many numbers, None zeros.
        embedding: length of the time-and-condition vector; None is min(width, 128).
        time_features: number of Fourier features of the time, even.
        time_scale: times are multiplied by it; 1 suits clocks of about one to ten units.
        dtype: computing precision ("bfloat16", jnp.float32, ...). Parameters, the embedding, the last layer and the
            output stay float32 or wider.
        rngs: random streams of the initial parameters, `nnx.Rngs(seed)`.

    Raises:
        ValueError: a size, the shape or the dtype cannot be used; it says which and what to write.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> from flax import nnx
        >>> network = bj.networks.MLP((2,), width=8, depth=1, rngs=nnx.Rngs(0))
        >>> network(0.5, jnp.zeros(2), None).shape
        (2,)
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        outputs: Sequence[int] | None = None,
        width: int = 256,
        depth: int = 4,
        num_classes: int | None = None,
        cond_dim: int | None = None,
        embedding: int | None = None,
        time_features: int = 64,
        time_scale: float = 1.0,
        dtype: DType = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.shape = check_shape(shape)
        self.width = check_size("width", width, 2)
        self.depth = check_size("depth", depth, 0)
        self.num_classes = num_classes
        self.dtype = check_dtype(dtype)
        length = check_size("embedding", min(width, 128) if embedding is None else embedding)
        size = size_of(self.shape)
        self.embedding = Embedding(
            length,
            num_classes=num_classes,
            cond_dim=cond_dim,
            time_features=time_features,
            time_scale=time_scale,
            rngs=rngs,
        )
        self.first = linear(size, width, dtype=self.dtype, rngs=rngs)
        self.blocks = nnx.List([Block(width, length, dtype=self.dtype, rngs=rngs) for _ in range(depth)])
        self.film = Film(length, width, dtype=self.dtype, rngs=rngs)
        self.outputs = self.shape if outputs is None else check_shape(outputs)
        self.last = linear(width, size_of(self.outputs), kernel_init=zero, rngs=rngs)

    def __call__(self, t: Time, x: State, args: Args = None) -> Array:
        """F(t, x, args) for one sample.

        Args:
            t: time, shape ().
            x: sample of the network's shape, floating.
            args: label, float array or None.

        Returns:
            An array of x's shape, or ``outputs``, float32 or wider.

        Raises:
            ValueError: t, x or args is not what this network was built for.
        """
        x = check_sample(x, self.shape)
        e = self.embedding(t, args)
        h = self.first(x.reshape(-1))
        for block in self.blocks:
            h = block(h, e)
        return self.last(self.film(h, e).astype(wide(self.dtype))).reshape(self.outputs).astype(wide(x.dtype))


class Block(nnx.Module):
    """h + V silu(U film(h, e)): one residual block of a stream of `width` numbers.

    Args:
        width: size of the stream.
        embedding: length of e.
        dtype: computing precision.
        rngs: random streams of the initial parameters.
    """

    def __init__(self, width: int, embedding: int, *, dtype: DType, rngs: nnx.Rngs):
        self.film = Film(embedding, width, dtype=dtype, rngs=rngs)
        self.up = linear(width, width, dtype=dtype, rngs=rngs)
        self.down = linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, h: Array, e: Array) -> Array:
        """The stream after this block, shape (width,)."""
        return h + self.down(nnx.silu(self.up(self.film(h, e))))
