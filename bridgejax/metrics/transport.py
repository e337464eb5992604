"""Wasserstein distances between two samples.

For two samples of n points each an optimal plan is a permutation (Birkhoff), and on the line it is sorting:

    W2(x, y)^2 = min_pi (1/n) sum_i |x_i - y_pi(i)|^2
    W2(x, y)^2 = int_0^1 (F^-1(q) - G^-1(q))^2 dq                    d = 1, any two sizes
    SW2(x, y)^2 = E_theta W2(theta . x, theta . y)^2                 theta uniform on the unit sphere

All are distances, *not* squared, in the unit of the data.
"""

from __future__ import annotations

import numpy as np

from bridgejax._types import Batch
from bridgejax.metrics.points import count, two_samples

_BLOCK = 2**22  # numbers held at once
_MOST = 10_000  # points of an assignment: a minute or two, and 0.8 GB


def wasserstein2(x: Batch, y: Batch) -> float:
    """Exact 2-Wasserstein distance W2 (square root taken), cost the squared Euclidean distance.

    On the line by sorting: O(n log n) time, any two sizes. Else solved as an assignment problem by SciPy's shortest
    augmenting paths (Crouse 2016): O(n^3) time, O(n^2) memory, on one core about 1 s at n = 2,000 and 6 s at 4,000.
    More than 10,000 points are refused.

    The empirical distance is biased upwards: for two samples of one law it is not 0 but falls like n^(-1/d)
    for d > 4 (Fournier & Guillin 2015), so print it beside its ``floor``.

    Args:
        x: ``[n, ...]``, flattened to points; ``[n]`` is n points on the line.
        y: ``[n, ...]``, as many points (on the line ``[m]``).

    Returns:
        W2 >= 0.

    Raises:
        ValueError: for different sizes or dimensions, no points, too many, NaN or infinity.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> round(bj.metrics.wasserstein2([[0.0], [1.0]], [[3.0], [4.0]]), 6)        # every point moves by 3
        3.0
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    x, y = two_samples(x, y)
    if x.shape[1] == 1:
        i, j, weight = _quantile_gaps(len(x), len(y))
        return float(np.sqrt((np.sort(x[:, 0])[i] - np.sort(y[:, 0])[j]) ** 2 @ weight))
    if len(x) != len(y):
        raise ValueError(f"x and y must have equally many points, got {len(x)} and {len(y)}; subsample the larger one")
    if len(x) > _MOST:
        raise ValueError(
            f"x and y have {len(x)} points; exact assignment takes n^3 time and {8e-9 * len(x) ** 2:.1f} GB here: give "
            f"at most {_MOST} random ones, or use sliced_wasserstein2 or energy_distance"
        )
    cost = cdist(x, y, "sqeuclidean")
    rows, columns = linear_sum_assignment(cost)
    return float(np.sqrt(cost[rows, columns].mean()))


def _quantile_gaps(n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The intervals on which both empirical quantile functions are constant: index into x, index into y, length.

    In units of 1/(n m), so that the ends i/n and j/m are compared as integers.
    """
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    starts = np.concatenate([[0], ends[:-1]])
    return starts // m, starts // n, (ends - starts) / (n * m)


def sliced_wasserstein2(x: Batch, y: Batch, num_projections: int = 512, seed: int = 0) -> float:
    """Sliced 2-Wasserstein distance SW2 (square root taken), sizes may differ (Rabin et al. 2012; Bonneel et al. 2015).

    The mean over directions is a Monte-Carlo mean over ``num_projections`` directions that depend on the seed
    and d only, so two calls compare like with like. O(P n (d + log n)) time. For a translation by v, SW2 =
    |v| / sqrt(d).

    Args:
        x: ``[n, ...]``, flattened to points.
        y: ``[m, ...]``.
        num_projections: number of directions P.
        seed: a non-negative integer.

    Returns:
        SW2 >= 0.

    Raises:
        ValueError: for different dimensions, no points, NaN or infinity, no projections.

    (Bonneel et al. 2015, Sliced and Radon Wasserstein barycenters of measures, JMIV 51.)

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> round(bj.metrics.sliced_wasserstein2([[0.0], [1.0]], [[3.0], [4.0]]), 6)
        3.0
    """
    x, y = two_samples(x, y)
    num_projections, seed = count(num_projections, "num_projections", 1), count(seed, "seed")
    theta = np.random.Generator(np.random.Philox(seed)).standard_normal((num_projections, x.shape[1]))
    theta /= np.linalg.norm(theta, axis=1, keepdims=True)
    i, j, weight = _quantile_gaps(len(x), len(y))
    block = max(1, _BLOCK // len(weight))
    total = 0.0
    for start in range(0, num_projections, block):
        direction = theta[start : start + block]
        a = np.sort(direction @ x.T, axis=1)[:, i]
        b = np.sort(direction @ y.T, axis=1)[:, j]
        total += float(np.sum((a - b) ** 2 @ weight))
    return float(np.sqrt(total / num_projections))
