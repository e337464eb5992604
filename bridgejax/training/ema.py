"""Exponential moving average of the parameters, with warm-up.

    e_0 = p_0,      e_{n+1} = d_n e_n + (1 - d_n) p_{n+1},      d_n = min(decay, (1 + n) / (10 + n))

The warm-up forgets the random start quickly: after n updates about the last 10 % of them carry the average, until d_n
reaches ``decay`` at n = (10 decay - 1) / (1 - decay), 8,990 for 0.999. The rule is that of TensorFlow's
``ExponentialMovingAverage(num_updates)``.

The average is kept in float32 or wider: in bfloat16 a step of (1 - 0.999) (p - e) is rounded away.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from bridgejax._numerics import copies
from bridgejax._types import Params

__all__ = ["effective_decay", "like", "start", "update"]


def __dir__() -> list[str]:
    return __all__


def _inexact(leaf: Array) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def check_decay(ema: object) -> None:
    """Raise a ``ValueError`` unless ``ema`` is a decay between 0 and 1, or None for no average."""
    if ema is not None and not (isinstance(ema, float | int) and 0.0 < ema < 1.0):
        raise ValueError(f"ema must be a decay between 0 and 1, got {ema!r}; pass None for no average")


def start(params: Params) -> Params:
    """e_0: a copy of ``params``, its floating leaves in float32 or wider."""

    def wide(leaf: Array) -> Array:
        return jnp.asarray(leaf, jnp.promote_types(leaf.dtype, jnp.float32) if _inexact(leaf) else leaf.dtype)

    leaves, structure = jax.tree.flatten(params)
    return structure.unflatten(copies([wide(leaf) for leaf in leaves]))


def effective_decay(decay: float, count: int | Array) -> Array:
    """d_n for n = ``count`` updates made before this one: a float32 scalar."""
    n = jnp.asarray(count, jnp.float32)
    return jnp.minimum(jnp.float32(decay), (1.0 + n) / (10.0 + n))


def update(average: Params, params: Params, decay: float, count: int | Array) -> Params:
    """e_{n+1} from e_n = ``average`` and p_{n+1} = ``params``; ``count`` is n. Integer leaves follow ``params``."""
    d = effective_decay(decay, count)

    def blend(e: Array, p: Array) -> Array:
        return e + (1.0 - d).astype(e.dtype) * (p.astype(e.dtype) - e) if _inexact(p) else p

    return jax.tree.map(blend, average, params)


def like(average: Params, params: Params) -> Params:
    """The average in the dtypes of ``params``, ready to take their place."""
    return jax.tree.map(lambda e, p: e.astype(p.dtype), average, params)
