"""Where the rows of a comparison come from: samples, held-out rows, and real rows in the place of samples."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from bridgejax._summary import summary
from bridgejax._types import Numbers
from bridgejax.evaluation.arrays import generator

Samples: TypeAlias = Any
"""Rows of samples: an array, or a function ``draw(seed, n)`` that makes them; of data, also several sets by name."""
Sampler = Callable[[int, int], Numbers]

LEAST_ROWS = 10
MOST_ROWS = {"points": 4000, "table": 2000, "image": 2000}
_MOST_OF_TRAIN = 0.8  # of the training rows in one floor draw, or the draws would all be the same


class Draws(NamedTuple):
    """Where the rows come from, all flattened.

    ``taken`` is the number of rows that floor draws are taken from without replacement, infinite where they are fresh.
    """

    model: list[np.ndarray]
    reference: Callable[[int], np.ndarray]
    real: Callable[[int], np.ndarray]
    floor: str
    taken: float

    __repr__ = summary


def integer(value: Any, name: str, least: int) -> int:
    """An integer of at least ``least``, or one sentence."""
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")
    return number


def rows_each(samples: Samples, train: np.ndarray, holdout: Samples, kind: str, n: int | None) -> int:
    """The rows on either side of a comparison; fewer than the training rows, or every floor draw would be the same."""
    most = MOST_ROWS[kind]
    if n is not None:
        most = min(most, integer(n, "n", LEAST_ROWS))
    for name, array in (("samples", samples), ("real_train", train), ("real_holdout", holdout)):
        if callable(array):
            continue
        if len(array) < LEAST_ROWS:
            raise ValueError(f"{name} has {len(array)} rows; at least {LEAST_ROWS} are needed to measure anything")
        most = min(most, len(array))
    return most if callable(holdout) else min(most, max(LEAST_ROWS, int(_MOST_OF_TRAIN * len(train))))


def draw(
    samples: Samples,
    train: np.ndarray,
    holdout: Samples,
    rows: Callable[[Numbers, str], np.ndarray],
    n: int,
    draws: int,
    seed: int,
) -> Draws:
    """The plan: up to 5 sets of n samples, and sets of n held-out and of n real rows by number."""

    def fresh(sampler: Callable[..., Samples], name: str, stream: int, k: int) -> np.ndarray:
        x = rows(sampler(int(generator(seed, stream, k).integers(2**31)), n), name)
        if len(x) != n:
            raise ValueError(f"{name}, a sampler, returned {len(x)} rows when asked for {n}")
        return x

    if callable(samples):
        model = [fresh(samples, "samples", 10, k) for k in range(5)]
    else:
        order = generator(seed, 10).permutation(len(samples))
        model = [samples[order[k * n : (k + 1) * n]] for k in range(min(5, len(samples) // n))]

    if callable(holdout):
        # Cached: every metric and every model draw meets the same held-out draws.
        reference = functools.cache(lambda k: fresh(holdout, "real_holdout", 11, k))
        real = functools.cache(lambda k: fresh(holdout, "real_holdout", 12, k))
        return Draws(model, reference, real, f"{draws} pairs of fresh real samples, n = {n} each", float("inf"))

    def subset(array: np.ndarray, stream: int, k: int) -> np.ndarray:
        return array if len(array) == n else array[generator(seed, stream, k).permutation(len(array))[:n]]

    whole = len(holdout) == n
    against = f"the {n} held-out rows" if whole else f"{n} random ones of the {len(holdout)} held-out rows"
    of = f"{n} random ones of the {len(train)} training rows"
    text = f"mean of {draws} draws of {of} against {against} (fewer where n is less)"
    return Draws(model, lambda k: subset(holdout, 11, k), lambda k: subset(train, 12, k), text, len(train))
