"""What every metric does first: two samples as float64 points ``[n, d]`` of one dimension, checked."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from bridgejax._types import Batch


def points(x: Batch, name: str) -> np.ndarray:
    """``[n, ...]`` flattened to float64 ``[n, d]``; ``[n]`` is n points on the line.

    Raises:
        ValueError: no numbers, no rows, NaN or infinity.
    """
    try:
        x = np.asarray(x)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is no array of numbers; expected [n, d]") from error
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


def two_samples(x: Batch, y: Batch, names: tuple[str, str] = ("x", "y")) -> tuple[np.ndarray, np.ndarray]:
    """Both samples as points of one dimension.

    Raises:
        ValueError: as ``points``, or for different dimensions.
    """
    x, y = points(x, names[0]), points(y, names[1])
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"{names[0]} and {names[1]} must be points of one dimension, got {x.shape[1]} and {y.shape[1]} numbers each"
        )
    return x, y


def numbers(x: Batch, name: str) -> np.ndarray:
    """A float64 array of real numbers, of any shape.

    Raises:
        ValueError: no real numbers.
    """
    try:
        array = np.asarray(x)
    except (TypeError, ValueError):
        array = np.asarray(None)
    if array.dtype.kind not in "biufV" or array.dtype.names is not None:
        raise ValueError(f"{name} must be an array of real numbers, got {type(x).__name__} of dtype {array.dtype}")
    return array.astype(np.float64)


def count(value: Any, name: str, minimum: int = 0) -> int:
    """An integer of at least ``minimum``.

    Raises:
        ValueError: another thing.
    """
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = -1
    if number < 0:
        raise ValueError(f"{name} must be a non-negative integer, got {value!r}")
    if number < minimum:
        raise ValueError(f"{name} must be >= {minimum}, got {value}")
    return number


def real(value: Any, name: str) -> float:
    """One finite real number.

    Raises:
        ValueError: another thing.
    """
    found = numbers(value, name)
    if found.ndim != 0 or np.asarray(value).dtype.kind == "b" or not np.isfinite(found):
        raise ValueError(f"{name} must be a finite real number, got {value!r}")
    return float(found)
