"""What every metric does first: two samples as float64 points ``[n, d]`` of one dimension, checked."""

from __future__ import annotations

from typing import Any

import numpy as np


def points(x: Any, name: str) -> np.ndarray:
    """``[n, ...]`` flattened to float64 ``[n, d]``; ``[n]`` is n points on the line.

    Raises:
        ValueError: no numbers, no rows, NaN or infinity.
    """
    x = np.asarray(x)
    # bfloat16 and the float8 types of JAX arrays have kind 'V' in NumPy, and convert.
    if x.dtype.kind not in "biufV" or x.dtype.names is not None:
        raise ValueError(f"{name} has dtype {x.dtype}; expected real numbers")
    if x.ndim == 0 or x.size == 0:
        raise ValueError(f"{name} has shape {x.shape}; expected [n, d] with at least one point")
    x = x.reshape(len(x), -1).astype(np.float64)
    if not np.isfinite(x).all():
        bad = ~np.isfinite(x).all(axis=1)
        raise ValueError(
            f"{name} has NaN or infinity in {int(bad.sum())} of {len(x)} points, first in row {int(bad.argmax())}; "
            "look at the samples before measuring them"
        )
    return x


def two_samples(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both samples as points of one dimension.

    Raises:
        ValueError: as ``points``, or for different dimensions.
    """
    x, y = points(x, "x"), points(y, "y")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x and y must be points of one dimension, got {x.shape[1]} and {y.shape[1]} numbers each")
    return x, y
