"""Fidelity and variety apart: is every sample where data are, and is every part of the data sampled?

With B(a) the ball around a whose radius is the distance from a to its k-th nearest other row of its own sample,

    precision   share of the samples that lie in some B(r), r real        falls with samples where no data are
    recall      share of the real rows that lie in some B(s), s sampled   falls with data that are not sampled
    density     mean over the samples of #{r: s in B(r)} / k              1 for the law itself; above: too concentrated
    coverage    share of the real rows r with a sample in B(r)            1 - 2^-k for the law itself at equal sizes

Precision and recall: Kynkaanniemi et al. 2019, "Improved precision and recall metric for assessing generative models"
(arXiv 1904.06991), k = 3. Density and coverage: Naeem et al. 2020, "Reliable fidelity and diversity metrics for
generative models" (arXiv 2002.09797), k = 5: an outlier among the real rows has a large ball, which raises precision,
and an outlier among the samples raises recall, while density and coverage look at balls of real rows by their number.

None of them is 1 for two samples of one law, so print each beside its ``floor``. Balls are closed.
"""

from __future__ import annotations

import numpy as np

from bridgejax._types import Batch
from bridgejax.metrics.points import count, two_samples

_BLOCK = 2**22  # distances held at once
_TREE = 16  # dimensions above which a tree looks at every row anyway
_ROUNDING = 1 + 1e-12  # a row at the radius itself lies inside, however its distance was summed


def precision(x: Batch, real: Batch, k: int = 3) -> float:
    """Share of samples within reach of the data: in the k-th-neighbour ball of at least one real row.

    O(n m d) time by blocks, O((n + m) d) memory. Kynkaanniemi et al. 2019.

    Args:
        x: ``[n, ...]``, samples, flattened to points.
        real: ``[m, ...]``, m > k.
        k: which neighbour sets the radius.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: for different dimensions, too few rows, NaN or infinity.

    (Kynkaanniemi et al. 2019, Improved precision and recall metric for assessing generative models, arXiv
    1904.06991.)

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> x, y = np.random.default_rng(0).normal(size=(2, 200, 2))
        >>> bj.metrics.precision(x + 9.0, y), bj.metrics.precision(x, y) > 0.8
        (0.0, True)
    """
    x, real, k = _checked(x, real, k, ("x", "real"))
    return _share_inside(x, real, kth_distances(real, real, k + 1))


def recall(x: Batch, real: Batch, k: int = 3) -> float:
    """Share of real rows within reach of the samples: ``precision`` with the roles exchanged.

    Args:
        x: ``[n, ...]``, samples, n > k.
        real: ``[m, ...]``.
        k: which neighbour sets the radius.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: as ``precision``.

    (Kynkaanniemi et al. 2019, Improved precision and recall metric for assessing generative models, arXiv
    1904.06991.)

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> x, y = np.random.default_rng(0).normal(size=(2, 200, 2))
        >>> bj.metrics.recall(0.01 * x, y) < 0.2                                     # samples that are all alike
        True
    """
    real, x, k = _checked(real, x, k, ("real", "x"))
    return _share_inside(real, x, kth_distances(x, x, k + 1))


def density(x: Batch, real: Batch, k: int = 5) -> float:
    """Mean number of real rows in whose k-th-neighbour ball a sample lies, over k.

    O(n m d) time by blocks, O((n + m) d) memory. Naeem et al. 2020.

    Args:
        x: ``[n, ...]``, samples, flattened to points.
        real: ``[m, ...]``, m > k.
        k: which neighbour sets the radius.

    Returns:
        A number >= 0, about 1 for samples of the law itself.

    Raises:
        ValueError: as ``precision``.

    (Naeem et al. 2020, Reliable fidelity and diversity metrics for generative models, arXiv 2002.09797.)

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> x, y = np.random.default_rng(0).normal(size=(2, 200, 2))
        >>> 0.7 < bj.metrics.density(x, y) < 1.3, bj.metrics.density(x + 9.0, y)
        (True, 0.0)
    """
    x, real, k = _checked(x, real, k, ("x", "real"))
    radii = kth_distances(real, real, k + 1)
    return sum(int(inside.sum()) for inside in _inside(x, real, radii)) / (k * len(x))


def coverage(x: Batch, real: Batch, k: int = 5) -> float:
    """Share of real rows with a sample in their k-th-neighbour ball.

    O((n + m) log n) time in up to 16 dimensions, O(n m d) by blocks above, O((n + m) d) memory. Naeem et al. 2020.

    Args:
        x: ``[n, ...]``, samples, flattened to points.
        real: ``[m, ...]``, m > k.
        k: which neighbour sets the radius.

    Returns:
        A number in [0, 1]; for n = m samples of the law itself about 1 - 2^-k.

    Raises:
        ValueError: as ``precision``.

    (Naeem et al. 2020, Reliable fidelity and diversity metrics for generative models, arXiv 2002.09797.)

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> x, y = np.random.default_rng(0).normal(size=(2, 200, 2))
        >>> bj.metrics.coverage(x, y) > 0.8, bj.metrics.coverage(x + 9.0, y)
        (True, 0.0)
    """
    x, real, k = _checked(x, real, k, ("x", "real"))
    radii = kth_distances(real, real, k + 1)
    return float(np.mean(kth_distances(real, x, 1) <= radii * _ROUNDING))


def kth_distances(x: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """Distance ``[n]`` of each ``x [n, d]`` to its k-th nearest of ``rows [m, d]``; a row of both counts as its own."""
    from scipy.spatial import KDTree  # not at import, which is slow
    from scipy.spatial.distance import cdist

    if x.shape[1] <= _TREE:
        return np.asarray(KDTree(rows).query(x, k=[k])[0])[:, 0]  # pyright: ignore[reportArgumentType]
    step, found = max(1, _BLOCK // len(rows)), np.empty(len(x))
    for start in range(0, len(x), step):
        found[start : start + step] = np.partition(cdist(x[start : start + step], rows), k - 1, axis=1)[:, k - 1]
    return found


def nearest_other(x: np.ndarray) -> np.ndarray:
    """Index ``[n]`` of the nearest other row of ``x [n, d]``, n >= 2."""
    from scipy.spatial import KDTree
    from scipy.spatial.distance import cdist

    own = np.arange(len(x))
    if x.shape[1] <= _TREE:
        near = np.asarray(KDTree(x).query(x, k=2)[1])
        return np.where(near[:, 0] == own, near[:, 1], near[:, 0])  # of coinciding rows either may come first
    step, found = max(1, _BLOCK // len(x)), []
    for start in range(0, len(x), step):
        distance = cdist(x[start : start + step], x)
        distance[np.arange(len(distance)), own[start : start + step]] = np.inf
        found.append(np.argmin(distance, axis=1))
    return np.concatenate(found)


def _checked(x: Batch, centres: Batch, k: int, names: tuple[str, str]) -> tuple[np.ndarray, np.ndarray, int]:
    x, centres = two_samples(x, centres, names)
    k = count(k, "k", 1)
    if len(centres) <= k:
        raise ValueError(
            f"{names[1]} has {len(centres)} rows; a {k}-th neighbour needs at least {k + 1}: give more, or less k"
        )
    return x, centres, k


def _inside(x: np.ndarray, centres: np.ndarray, radii: np.ndarray):
    """Blocks ``[b, m]``: which of x lie in which ball."""
    from scipy.spatial.distance import cdist

    step = max(1, _BLOCK // len(centres))
    for start in range(0, len(x), step):
        yield cdist(x[start : start + step], centres) <= radii * _ROUNDING


def _share_inside(x: np.ndarray, centres: np.ndarray, radii: np.ndarray) -> float:
    return sum(int(inside.any(axis=1).sum()) for inside in _inside(x, centres, radii)) / len(x)
