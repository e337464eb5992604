"""Sets of points, and sets of such sets: how shapes are compared.

Chamfer     C(x, y) = mean_i min_j |x_i - y_j|^2 + mean_j min_i |x_i - y_j|^2
1-NN        share of elements whose nearest other element comes from their own set: 0.5 where the two sets are draws of
            one law, 1 where they can be told apart; of points, by Euclidean distance (Lopez-Paz & Oquab 2017,
            "Revisiting classifier two-sample tests", arXiv 1610.06545), or of clouds, by Chamfer distance (Yang et al.
            2019, "PointFlow", arXiv 1906.12320)
unevenness  sd / mean of the distances from every point to its nearest other one: 0 on a lattice, about 0.52 for
            independent uniform points in the plane and 0.36 in space
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bridgejax._types import Batch
from bridgejax.metrics.neighbours import nearest_other
from bridgejax.metrics.points import numbers, points, two_samples


def chamfer(x: Batch, y: Batch) -> float:
    """Chamfer distance of two clouds, squared lengths. O((n + m) log(n + m)) time for small d, O((n + m) d) memory.

    Args:
        x: one cloud of n points, ``[n, d]``.
        y: another of m points, ``[m, d]``.

    Returns:
        The distance, >= 0, in squared units of the data.

    Raises:
        ValueError: clouds that are not finite arrays of one dimension d.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> bj.metrics.chamfer([[0.0], [1.0]], [[0.0], [1.0]])
        0.0
    """
    x, y = two_samples(x, y)
    return _chamfer(x, _tree(x), y, _tree(y))


def _tree(x: np.ndarray) -> Any:
    from scipy.spatial import KDTree  # not at import, which is slow

    return KDTree(x)


def _chamfer(x: np.ndarray, at_x: Any, y: np.ndarray, at_y: Any) -> float:
    return float(np.mean(at_y.query(x)[0] ** 2) + np.mean(at_x.query(y)[0] ** 2))


def one_nn_accuracy(x: Batch, y: Batch) -> float:
    """Accuracy of telling each element's set by its nearest other element; 0.5 is perfect, copies of x in y give less.

    Arrays of rank 2 are two samples of points, compared by Euclidean distance in O((n + m) log(n + m)) time for small d
    (by blocks above 16 dimensions). Arrays of rank 3 are two sets of clouds, compared by Chamfer distance, which needs
    every pair: O((n + m)^2 p log p) time for clouds of p points, about a second for 2 x 100 clouds of 100 points.

    Args:
        x: points ``[n, d]``, or clouds ``[n, points, d]``; as many as y for 0.5 to be perfect.
        y: points ``[m, d]``, or clouds ``[m, points', d]``.

    Returns:
        The share, in [0, 1].

    Raises:
        ValueError: another rank, fewer than two elements on either side, elements of different dimension.

    (Lopez-Paz & Oquab 2017, Revisiting classifier two-sample tests, arXiv 1610.06545.)

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> x, y = np.random.default_rng(0).normal(size=(2, 200, 2))
        >>> bj.metrics.one_nn_accuracy(x, x + 9.0), abs(bj.metrics.one_nn_accuracy(x, y) - 0.5) < 0.15
        (1.0, True)
    """
    x, y = numbers(x, "x"), numbers(y, "y")
    if x.ndim != y.ndim or x.ndim not in (2, 3):
        raise ValueError(
            "x and y must both be points [n, d] or both be clouds [n, points, d], got shapes "
            f"{x.shape} and {y.shape}; reshape images to points with x.reshape(len(x), -1)"
        )
    n, m = len(x), len(y)
    if n < 2 or m < 2:
        raise ValueError(f"x and y must have at least two elements each, got {n} and {m}")
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(f"x and y must be of one dimension, got {x.shape[-1]} and {y.shape[-1]}")
    side = np.repeat([0, 1], [n, m])
    if x.ndim == 2:
        return float(np.mean(side[nearest_other(np.concatenate(two_samples(x, y)))] == side))
    clouds = [points(cloud, "a cloud") for sets in (x, y) for cloud in sets]
    trees = [_tree(c) for c in clouds]
    distance = np.full((n + m, n + m), np.inf)
    for i in range(n + m):
        for j in range(i):
            distance[i, j] = distance[j, i] = _chamfer(clouds[i], trees[i], clouds[j], trees[j])
    return float(np.mean(side[np.argmin(distance, axis=1)] == side))


def unevenness(x: Batch) -> float:
    """Sd over mean of the distances to the nearest other point of a cloud; 0: perfectly even.

    O(n log n) time for small d, O(n d) memory.

    Args:
        x: one cloud of n points, ``[n, d]``, n >= 2.

    Returns:
        The ratio, >= 0; infinity where no two points differ.

    Raises:
        ValueError: one point, NaN or infinity.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> bj.metrics.unevenness(np.arange(9.0)[:, None])                           # evenly spaced
        0.0
    """
    x = points(x, "x")
    if len(x) < 2:
        raise ValueError("unevenness needs two points")
    nearest = _tree(x).query(x, k=2)[0][:, 1]
    mean = nearest.mean()
    return float(nearest.std() / mean) if mean > 0 else float("inf")
