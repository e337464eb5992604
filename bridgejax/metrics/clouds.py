"""Sets of points, and sets of such sets: how shapes are compared.

Chamfer     C(x, y) = mean_i min_j |x_i - y_j|^2 + mean_j min_i |x_i - y_j|^2
1-NN        the share of clouds whose nearest other cloud comes from their own set: 0.5 where the two sets are draws
of one law, 1 where they can be told apart (Lopez-Paz & Oquab 2017; Yang et al. 2019, arXiv 1906.12320)
unevenness  sd / mean of the distances from every point to its nearest other one: 0 on a lattice, about 0.52 for
independent uniform points in the plane and 0.36 in space
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bridgejax.metrics.points import points, two_samples


def chamfer(x: Any, y: Any) -> float:
    """Chamfer distance of two clouds, squared lengths.

    Args:
        x: (n, d).
        y: (m, d).

    Raises:
        ValueError: clouds that are not finite arrays of one dimension d.
    """
    x, y = two_samples(x, y)
    return _chamfer(x, _tree(x), y, _tree(y))


def _tree(x: np.ndarray) -> Any:
    from scipy.spatial import KDTree  # not at import, which is slow

    return KDTree(x)


def _chamfer(x: np.ndarray, at_x: Any, y: np.ndarray, at_y: Any) -> float:
    return float(np.mean(at_y.query(x)[0] ** 2) + np.mean(at_x.query(y)[0] ** 2))


def one_nn_accuracy(x: Any, y: Any) -> float:
    """Accuracy of telling each cloud's set by its nearest other cloud, in Chamfer distance; 0.5 is perfect.

    Args:
        x: (n, points, d), as many clouds as y for 0.5 to be perfect.
        y: (m, points, d).

    Raises:
        ValueError: fewer than two clouds on either side, or clouds of different dimension.
    """
    clouds = [points(c, "a cloud") for side in (x, y) for c in np.asarray(side)]
    n, m = len(x), len(y)
    if n < 2 or m < 2:
        raise ValueError(f"one_nn_accuracy needs two clouds on either side, got {n} and {m}")
    if len({c.shape[1] for c in clouds}) > 1:
        raise ValueError("x and y must have clouds of one dimension")
    trees = [_tree(c) for c in clouds]
    distance = np.full((n + m, n + m), np.inf)
    for i in range(n + m):
        for j in range(i):
            distance[i, j] = distance[j, i] = _chamfer(clouds[i], trees[i], clouds[j], trees[j])
    side = np.repeat([0, 1], [n, m])
    return float(np.mean(side[np.argmin(distance, axis=1)] == side))


def unevenness(x: Any) -> float:
    """Sd over mean of the distances to the nearest other point of a cloud; 0: perfectly even.

    Args:
        x: (n, d), n at least 2.
    """
    x = points(x, "x")
    if len(x) < 2:
        raise ValueError("unevenness needs two points")
    nearest = _tree(x).query(x, k=2)[0][:, 1]
    mean = nearest.mean()
    return float(nearest.std() / mean) if mean > 0 else float("inf")
