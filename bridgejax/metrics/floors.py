"""The floor of a metric: what it says of two samples of the *same* law at the same n.

    floor = mean over draws of metric(real, real'),       real and real' disjoint samples of size n

No distance between finite samples is zero, so a model's distance means something only beside this number: a
perfect model sits at the floor, not at zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bridgejax._summary import summary
from bridgejax._types import Batch
from bridgejax.metrics.points import count, numbers

Metric = Callable[[Any, Any], float]
Sampler = Callable[[int, int], Any]


class Floor(NamedTuple):
    """Real-versus-real distances.

    Attributes:
        mean: mean over draws.
        std: sample standard deviation over draws (0 for a single draw).
        values: float64 ``[draws]``.
        n: points in each of the two samples.
    """

    mean: float
    std: float
    values: np.ndarray
    n: int

    __repr__ = summary


def floor(metric: Metric, real: Batch, *, n: int, draws: int = 20, seed: int = 0) -> Floor:
    """Mean and spread of ``metric`` between two real samples of n points.

    With an array, each draw splits off two disjoint sets of n rows without replacement. Draws of one array
    share its rows, so they are not independent of each other: ``std / sqrt(draws)`` understates the error of
    the mean when 2 n is near the number of rows. With a sampler every draw is fresh.

    Args:
        metric: ``(x, y) -> float``.
        real: an array ``[N, ...]`` with N >= 2 n, or a sampler ``(seed, n) -> [n, ...]``, such as
            ``functools.partial(toys.sample, "moons")``.
        n: points in each sample, >= 1.
        draws: number of pairs, >= 1.
        seed: a non-negative integer.

    Returns:
        A ``Floor``.

    Raises:
        ValueError: for too few rows, bad numbers, or a sampler that returns another number of points.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> x = np.random.default_rng(0).normal(size=(200, 2))
        >>> floor = bj.metrics.floor(bj.metrics.wasserstein2, x, n=50)
        >>> 0.1 < floor.mean < 1.0, floor.n  # what 50 real rows are from 50 others
        (True, 50)
    """
    n, draws, seed = count(n, "n", 1), count(draws, "draws", 1), count(seed, "seed")
    if not callable(metric):
        raise ValueError(f"metric must be a function (x, y) -> float, got {type(metric).__name__}")
    pairs = _fresh(real, n, draws, seed) if callable(real) else _halves(numbers(real, "real"), n, draws, seed)
    values = np.array([metric(a, b) for a, b in pairs], np.float64)
    return Floor(float(values.mean()), float(values.std(ddof=1)) if draws > 1 else 0.0, values, n)


def _halves(real: np.ndarray, n: int, draws: int, seed: int):
    rows = len(real) if real.ndim else 0
    if rows < 2 * n:
        raise ValueError(
            f"real has {rows} rows, but two disjoint samples of n = {n} need {2 * n}; use n <= {rows // 2} "
            "or give a sampler"
        )
    for child in np.random.SeedSequence(seed).spawn(draws):
        order = np.random.Generator(np.random.Philox(child)).permutation(rows)
        yield real[order[:n]], real[order[n : 2 * n]]


def _fresh(sampler: Sampler, n: int, draws: int, seed: int):
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(2 * draws, np.uint32)]
    for a, b in zip(seeds[::2], seeds[1::2], strict=True):
        pair = sampler(a, n), sampler(b, n)
        for sample in pair:
            if len(sample) != n:
                raise ValueError(f"real, a sampler, returned {len(sample)} points when asked for {n}")
        yield pair
