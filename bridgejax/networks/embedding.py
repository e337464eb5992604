"""How a network is told the time and the condition: Fourier features, then one small embedding.

    phi(t) = (cos w_1 t, ..., cos w_m t, sin w_1 t, ..., sin w_m t),     w_k log-spaced from w_low to w_high
    e(t, c) = silu(W_2 silu(W_1 phi(s t) + condition(c) + b_1) + b_2)

The frequencies are log-spaced and not drawn at random. Evenly spread over octaves, they resolve a schedule that
moves by decades near its ends; they are the same for every seed; and, being a formula of two numbers, they are no
array at all: nothing can train them, cast them, average them or lose them on the way through a checkpoint.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer

from bridgejax._types import Args, Time
from bridgejax.networks._checks import check_array, check_positive, check_rngs, check_size, check_time
from bridgejax.networks.layers import linear

Array = jax.Array


def fourier_features(t: Time, num: int = 64, *, low: float = 0.5, high: float = 64.0) -> Array:
    """Fourier features of one time, phi(t) = (cos w_k t, sin w_k t) for k = 1..num/2.

    w_k = low (high/low)^((k-1)/(num/2-1)) in radians per unit of time. Two times closer than 2 pi / low are told
    apart (12.6 units by default) and details down to about 1/high are seen. Computed in float32 or wider whatever
    dtype t has: a bfloat16 clock has 500 ticks in a unit interval (Tancik et al. 2020, arXiv 2006.10739).

    Args:
        t: time, shape ().
        num: number of features, even, at least 4.
        low: lowest angular frequency, positive.
        high: highest angular frequency, above low.

    Returns:
        Features in [-1, 1], shape (num,), dtype float32 or wider.

    Raises:
        ValueError: t is not a scalar, num is odd or below 4, or not 0 < low < high < inf.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> bj.networks.fourier_features(0.5, 8).shape
        (8,)
    """
    if check_size("num", num, 4) % 2:
        raise ValueError(f"num = {num}: expected an even number, one cosine and one sine per frequency.")
    low, high = check_positive("low", low), check_positive("high", high)
    if not low < high:
        raise ValueError(f"low = {low}, high = {high}: expected 0 < low < high < inf.")
    t = check_time(t)
    # Made by numpy in float64 and rounded once, so that every device and every program sees the same frequencies.
    frequencies = jnp.asarray(np.geomspace(low, high, num // 2), t.dtype)
    angle = t * frequencies
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)])


class Embedding(nnx.Module):
    """e(t, args): one vector that says when and, for a conditional network, of which class or given what.

    `args` is the sample's own condition, one of

    - None: no condition, the null class;
    - with `num_classes = K`: an integer label in 0..K, shape (), where K is the null class that classifier-free
      guidance trains and subtracts (Ho and Salimans 2022, arXiv 2207.12598). None means K. A label outside 0..K is
      an error when its value is known and gives NaN when it is traced, never another class;
    - with `cond_dim = d`: a float array of d numbers in any shape (an observation, an end point). None means zeros.

    It is computed in float32 whatever precision the network has: it costs next to nothing and carries the clock.

    Args:
        size: length of e.
        num_classes: number of classes K, or None.
        cond_dim: size d of the condition, or None; not together with num_classes.
        time_features: number of Fourier features, even.
        time_scale: s > 0; times are multiplied by it. Choose it so that s t runs over about one to ten units.
        rngs: random streams for the initial parameters.

    Raises:
        ValueError: a size is not a positive integer, time_scale is not positive, or both conditions are asked for.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> from flax import nnx
        >>> embedding = bj.networks.Embedding(8, rngs=nnx.Rngs(0))
        >>> embedding(0.5, None).shape
        (8,)
    """

    def __init__(
        self,
        size: int,
        *,
        num_classes: int | None = None,
        cond_dim: int | None = None,
        time_features: int = 64,
        time_scale: float = 1.0,
        rngs: nnx.Rngs,
    ):
        if num_classes is not None and cond_dim is not None:
            raise ValueError(
                f"num_classes = {num_classes} and cond_dim = {cond_dim}: expected one of them, as args is one label "
                "or one float array; append a one-hot class to the condition instead."
            )
        check_positive("time_scale", time_scale)
        check_rngs(rngs)
        check_size("size", size)
        if check_size("time_features", time_features, 4) % 2:
            raise ValueError(f"time_features = {time_features}: expected an even number, a cosine and a sine each.")
        self.num_classes = None if num_classes is None else check_size("num_classes", num_classes)
        self.cond_dim = None if cond_dim is None else check_size("cond_dim", cond_dim)
        self.time_features = int(time_features)
        self.time_scale = float(time_scale)
        self.first = linear(self.time_features, size, rngs=rngs)
        self.second = linear(size, size, rngs=rngs)
        self.classes = None if self.num_classes is None else _class_table(self.num_classes + 1, size, rngs)
        self.condition = None if self.cond_dim is None else linear(self.cond_dim, size, use_bias=False, rngs=rngs)

    def __call__(self, t: Time, args: Args = None) -> Array:
        """The embedding, shape (size,), float32 or wider.

        Args:
            t: time, shape ().
            args: label, float array or None, as the class says.

        Raises:
            ValueError: t is not a scalar, or args is not what this network was built for.
        """
        hidden = self.first(fourier_features(self.time_scale * check_time(t), self.time_features))
        if self.classes is not None:
            hidden = hidden + _class_row(self.classes[...], args)
        elif self.condition is not None:
            if args is not None:
                hidden = hidden + self.condition(self._vector(args))
        elif args is not None:
            raise ValueError(
                f"args = {_describe(args)}, but this network takes no condition, expected None: build it with "
                "num_classes= or cond_dim=."
            )
        return nnx.silu(self.second(nnx.silu(hidden)))

    def _vector(self, args: Args) -> Array:
        value = check_array("args", args)
        if value.size != self.cond_dim or not jnp.issubdtype(value.dtype, jnp.floating):
            raise ValueError(
                f"args = {_describe(args)}, expected a float array of {self.cond_dim} numbers (cond_dim) or None."
            )
        return value.reshape(-1).astype(jnp.promote_types(value.dtype, jnp.float32))


def _class_table(rows: int, size: int, rngs: nnx.Rngs) -> nnx.Param:
    # Its spread is that of the time's own part of the sum: W_1 keeps the features' mean square, one half.
    return nnx.Param(math.sqrt(0.5) * jax.random.normal(rngs.params(), (rows * size,), jnp.float32).reshape(rows, size))


def _class_row(table: Array, args: Args) -> Array:
    last = table.shape[0] - 1
    label = check_array("args", last if args is None else args)
    if label.shape != () or not jnp.issubdtype(label.dtype, jnp.integer):
        raise ValueError(
            f"args = {_describe(args)}, expected one integer class label in 0..{last} ({last} or None is the null "
            "class): convert with jnp.int32(label), and map over a batch with jax.vmap."
        )
    if not isinstance(label, Tracer) and not 0 <= int(label) <= last:
        raise ValueError(
            f"args = {int(label)}: expected a class label in 0..{last} ({last} or None is the null class)."
        )
    # A traced label cannot raise; NaN is what the watch on the loss sees, a clamped class is what nobody sees.
    return table.at[label].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)


def _describe(args: Args) -> str:
    if hasattr(args, "shape") and hasattr(args, "dtype"):
        return f"an array of shape {args.shape} and dtype {args.dtype}"
    return repr(args)
