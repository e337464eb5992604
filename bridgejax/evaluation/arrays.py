"""What every evaluation does first: samples as finite float64 rows ``[n, d]``, checked in one sentence."""

from __future__ import annotations

import numpy as np

from bridgejax._types import Numbers


def flat(x: Numbers, name: str, dim: int | None = None) -> np.ndarray:
    """``[n, *shape]`` -> float64 ``[n, d]``.

    Args:
        x: real numbers, first axis the samples.
        name: the argument's name, for the message.
        dim: d where it is known.

    Raises:
        ValueError: no numbers, no rows, NaN or infinity, another d.
    """
    x = np.asarray(x)
    # bfloat16 and the float8 types of JAX arrays have kind 'V' in NumPy, and convert.
    if x.dtype.kind not in "biufV" or x.dtype.names is not None:
        raise ValueError(f"{name} has dtype {x.dtype}; expected real numbers")
    if x.ndim == 0 or x.size == 0:
        raise ValueError(f"{name} is empty (shape {x.shape}); expected [n, ...] with at least one sample")
    x = x.reshape(len(x), -1).astype(np.float64)
    if dim is not None and x.shape[1] != dim:
        raise ValueError(f"{name} has {x.shape[1]} numbers per sample, expected {dim}")
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{name} has NaN or infinity in {int((~finite).sum())} of {len(x)} rows, first in row "
            f"{int(np.argmin(finite))}; the model has diverged or the data is damaged: look at it before measuring"
        )
    return x


def generator(seed: int, *stream: int) -> np.random.Generator:
    """The independent generator of one (seed, stream)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *stream])))
