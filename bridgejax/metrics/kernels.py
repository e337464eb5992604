"""Squared distances that are means of pairwise quantities: energy distance and maximum mean discrepancy.

    energy^2(x, y) = 2 E|X - Y| - E|X - X'| - E|Y - Y'|
    MMD^2(x, y)    = E k(X, X') + E k(Y, Y') - 2 E k(X, Y),       k(a, b) = mean_s exp(-|a - b|^2 / (2 s^2))

Both are V-statistics: every expectation is the mean over *all* pairs of the two empirical laws, a point with
itself included. So they are exact for the empirical laws, never negative, zero for x = y, and biased upwards
by O(1/n): for two samples of n of one law, energy^2 has mean E|X - X'| * 2/n and MMD^2 has (1 - E k(X, X')) *
2/n.

Energy: Szekely & Rizzo 2013. MMD: Gretton et al. 2012.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bridgejax._types import Batch
from bridgejax.metrics.points import numbers, two_samples

_ROWS = 512  # rows of a block of the distance matrix; a block is held, never the matrix
_MEDIAN_POINTS = 2000


def _between(x: np.ndarray, y: np.ndarray, of_squared: Callable[[np.ndarray], np.ndarray]) -> float:
    """Sum over all pairs (i, j) of of_squared(|x_i - y_j|^2), block by block."""
    from scipy.spatial.distance import cdist

    columns = max(1, len(y) // 4096 + 1)
    return sum(
        float(of_squared(cdist(x[start : start + _ROWS], part, "sqeuclidean")).sum())
        for start in range(0, len(x), _ROWS)
        for part in np.array_split(y, columns)
    )


def _within(x: np.ndarray, of_squared: Callable[[np.ndarray], np.ndarray]) -> float:
    """The same for all pairs (i, j) of one sample, every block above the diagonal counted for its mirror image."""
    total = 0.0
    for start in range(0, len(x), _ROWS):
        rows = x[start : start + _ROWS]
        total += _between(rows, rows, of_squared)
        if start + _ROWS < len(x):
            total += 2 * _between(rows, x[start + _ROWS :], of_squared)
    return total


def energy_distance(x: Batch, y: Batch) -> float:
    """Squared energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'| (V-statistic), in the unit of the data.

    Zero if and only if the two laws are equal; for two point masses at distance r it is 2 r. Computed by
    blocks: O(n m d) time, O(n d) memory, sizes may differ.

    Args:
        x: ``[n, ...]``, flattened to points.
        y: ``[m, ...]``.

    Returns:
        The squared distance, >= 0.

    Raises:
        ValueError: for different dimensions, no points, NaN or infinity.

    (Szekely & Rizzo 2013, Energy statistics: a class of statistics based on distances, JSPI 143.)

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> round(bj.metrics.energy_distance([[0.0]], [[3.0]]), 6)
        6.0
    """
    x, y = two_samples(x, y)
    n, m = len(x), len(y)
    cross = _between(x, y, np.sqrt) / (n * m)
    # Non-negative in exact arithmetic; what is left below zero is rounding.
    return max(2 * cross - _within(x, np.sqrt) / n**2 - _within(y, np.sqrt) / m**2, 0.0)


def median_bandwidth(x: Batch, y: Batch) -> float:
    """The median distance between two different points of the pooled sample (Gretton et al. 2012, section 8).

    Of more than 2,000 pooled points, 2,000 evenly spaced ones are used.

    Raises:
        ValueError: as ``energy_distance``, or when more than half of the distances are zero.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> bj.metrics.median_bandwidth([[0.0]], [[3.0]])
        3.0
    """
    from scipy.spatial.distance import pdist

    pooled = np.concatenate(two_samples(x, y))
    keep = np.linspace(0, len(pooled) - 1, min(len(pooled), _MEDIAN_POINTS)).round().astype(int)
    median = float(np.median(pdist(pooled[keep])))
    if median <= 0:
        raise ValueError(
            "bandwidths is None, but more than half of the pooled points coincide and the median distance is 0; "
            "give bandwidths"
        )
    return median


def mmd(x: Batch, y: Batch, bandwidths: float | Sequence[float] | None = None) -> float:
    """Squared maximum mean discrepancy of the Gaussian kernel (V-statistic), without unit, at most 2.

    k(a, b) = mean over s of exp(-|a - b|^2 / (2 s^2)). Computed by blocks: O(n m d) time, O(n d) memory,
    sizes may differ.

    Args:
        x: ``[n, ...]``, flattened to points.
        y: ``[m, ...]``.
        bandwidths: s, one or several, in the unit of the data. By default the median distance of the pooled
            sample; that depends on both samples, so give fixed bandwidths to compare several models by their
            values.

    Returns:
        The squared discrepancy, >= 0.

    Raises:
        ValueError: for different dimensions, no points, NaN or infinity, bandwidths that are not positive.

    (Gretton et al. 2012, A kernel two-sample test, JMLR 13.)

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> x, y = np.random.default_rng(0).normal(size=(2, 200, 2))
        >>> bj.metrics.mmd(x, y) < bj.metrics.mmd(x, y + 1.0)
        True
    """
    x, y = two_samples(x, y)
    widths = np.atleast_1d(numbers(median_bandwidth(x, y) if bandwidths is None else bandwidths, "bandwidths"))
    if widths.ndim != 1 or not widths.size or not np.isfinite(widths).all() or (widths <= 0).any():
        raise ValueError(f"bandwidths must be positive finite numbers, got {np.ravel(widths).tolist()}")

    def kernel(squared: np.ndarray) -> np.ndarray:
        return np.mean([np.exp(squared / (-2 * s**2)) for s in widths], axis=0)

    n, m = len(x), len(y)
    within = _within(x, kernel) / n**2 + _within(y, kernel) / m**2
    return max(within - 2 * _between(x, y, kernel) / (n * m), 0.0)
