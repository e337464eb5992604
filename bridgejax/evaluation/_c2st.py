"""The classifier two-sample test: can a classifier tell real from generated?

    t = (1/2n) sum_i 1[ sign f_{-k(i)}(z_i) = y_i ],      z = x u y (n rows each), labels -1 and +1

(Lopez-Paz & Oquab 2017, arXiv 1610.06545). 0.5: indistinguishable to this classifier; 1: always told apart.
Row i is judged by f_{-k(i)}, fitted without the fold k(i) that holds it, so every row is a test row once.

The classifier is least squares on a Laplacian kernel, f = sum_j a_j K(., z_j), K(u, v) = exp(-|u - v| / h), h the
median distance, (K + lambda I) a = y. With A = (K + lambda I)^-1 the residuals of fold F, fitted without F, are
(A_FF)^-1 (A y)_F, so one inverse gives all folds, and, as A knows no labels, also every permutation of them.

Why this one: of nearest neighbours, logistic regression, Gaussian and Laplacian kernels and a support vector
machine it saw the most corruptions of 359 digits, in 0.1 s. Accuracy against held-out digits, mean of 4: Gaussian
noise of standard deviation 0.2: 0.97 (5 neighbours 0.50, logistic regression 0.51), noise 0.1: 0.93, Gaussian blur
of half a pixel 1.00, mean of two neighbouring digits 0.61, a Gaussian fitted to the data 0.83, one per class 0.66;
real against real 0.50.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bridgejax._checks import check_count
from bridgejax._summary import summary
from bridgejax._types import Numbers
from bridgejax.evaluation.arrays import flat, generator

PERMUTATIONS = 499
_RIDGE = 0.1
# Coordinates are divided by their standard deviation, but by no less than this share of the typical one: a pixel
# that is constant in the data is then no give-away when a model misses the constant by a rounding.
_LEAST_SCALE = 0.1
_NO_OPINION = 1e-9


class C2ST(NamedTuple):
    """Outcome of a classifier two-sample test.

    Attributes:
        accuracy: share of held-out rows told apart correctly; 0.5 is chance.
        n: rows judged, both samples together.
        std_error: standard deviation of the accuracy when both samples have one law, measured on permuted labels.
            Folds share their training rows, so it is above the binomial 0.5 / sqrt(n), by a quarter on digits.
        p_value: share of permutations (the identity among them) that reach the accuracy; small means told apart.
    """

    accuracy: float
    n: int
    std_error: float
    p_value: float

    __repr__ = summary


def c2st_accuracy(x: Numbers, y: Numbers, *, folds: int = 5, max_points: int = 1000, seed: int = 0) -> float:
    """The accuracy of ``c2st`` alone.

    Args and errors: as ``c2st``.

    (Lopez-Paz & Oquab 2017, Revisiting classifier two-sample tests, arXiv 1610.06545.)

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> x, y = np.random.default_rng(0).normal(size=(2, 200, 2))
        >>> bj.evaluation.c2st_accuracy(x, y + 3.0) > 0.9, abs(bj.evaluation.c2st_accuracy(x, y) - 0.5) < 0.15
        (True, True)
    """
    inverse, labels, parts = _prepare(x, y, folds, max_points, seed)
    return float(_accuracies(inverse, labels[:, None], parts)[0])


def c2st(
    x: Numbers, y: Numbers, *, folds: int = 5, max_points: int = 1000, permutations: int = PERMUTATIONS, seed: int = 0
) -> C2ST:
    """Classifier two-sample test by a kernel classifier, cross-validated, with a permutation p-value.

    Both samples give equally many rows, the larger one a random subset, so that chance is 1/2. Permutations are
    drawn within the folds, under which the test is exact: with both samples of one law P(p <= a) <= a. O(N^3 +
    N^2 permutations) time and O(N^2) memory in N = 2 min(n, m, max_points).

    Args:
        x: ``[n, ...]``, flattened to points.
        y: ``[m, ...]``, of the same dimension; min(n, m) >= 2 folds.
        folds: number of folds, >= 2.
        max_points: the most rows used of each sample.
        permutations: number of random relabellings, >= 1.
        seed: draws the subset, the folds and the permutations; a non-negative integer.

    Returns:
        A ``C2ST``.

    Raises:
        ValueError: for different dimensions, too few rows, NaN or infinity, bad numbers.

    (Lopez-Paz & Oquab 2017, Revisiting classifier two-sample tests, arXiv 1610.06545.)

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> x, y = np.random.default_rng(0).normal(size=(2, 200, 2))
        >>> found = bj.evaluation.c2st(x, y + 3.0, permutations=49)
        >>> found.accuracy > 0.9, found.p_value
        (True, 0.02)
    """
    check_count("permutations", permutations)
    inverse, labels, parts = _prepare(x, y, folds, max_points, seed)
    rng = generator(seed, 2)
    shuffled = np.empty((len(labels), permutations))
    for part in parts:
        shuffled[part] = rng.permuted(np.tile(labels[part, None], (1, permutations)), axis=0)
    accuracy = float(_accuracies(inverse, labels[:, None], parts)[0])
    null = _accuracies(inverse, shuffled, parts)
    # Accuracies are multiples of 1/(2 N): compare as such, not up to rounding.
    reached = int(np.sum(np.rint(null * 2 * len(labels)) >= np.rint(accuracy * 2 * len(labels))))
    spread = float(np.sqrt(np.mean((null - 0.5) ** 2)))
    return C2ST(accuracy, len(labels), spread, (1 + reached) / (1 + permutations))


def _prepare(
    x: Numbers, y: Numbers, folds: int, max_points: int, seed: int
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """(K + lambda I)^-1 ``[N, N]``, the labels ``[N]`` and the rows of each fold, both classes alike in each."""
    from scipy.spatial.distance import cdist

    x = flat(x, "x")
    y = flat(y, "y", x.shape[1])
    check_count("folds", folds, 2)
    check_count("max_points", max_points, 2 * folds)
    check_count("seed", seed, 0)
    n = min(len(x), len(y), max_points)
    if n < 2 * folds:
        raise ValueError(f"x and y give {n} rows each; {folds} folds need at least {2 * folds}")
    rng = generator(seed, 1)
    z = np.concatenate([x[rng.permutation(len(x))[:n]], y[rng.permutation(len(y))[:n]]])
    labels = np.repeat([-1.0, 1.0], n)
    # The subsets are in random order already, so every folds-th row is a random fold.
    parts = [np.concatenate([np.arange(k, n, folds), np.arange(n + k, 2 * n, folds)]) for k in range(folds)]

    scale = z.std(axis=0)
    typical = np.sqrt(np.mean(scale**2))
    z = (z - z.mean(axis=0)) / np.maximum(scale, _LEAST_SCALE * typical) if typical > 0 else z * 0
    distance = cdist(z, z)
    width = np.median(distance)
    kernel = np.exp(-distance / (width if width > 0 else 1.0))
    return np.linalg.inv(kernel + _RIDGE * np.eye(2 * n)), labels, parts


def _accuracies(inverse: np.ndarray, labels: np.ndarray, parts: list[np.ndarray]) -> np.ndarray:
    """Cross-validated accuracy ``[P]`` of each column of labels ``[N, P]``."""
    weights = inverse @ labels
    hits = np.zeros(labels.shape[1])
    for part in parts:
        left_out = labels[part] - np.linalg.solve(inverse[np.ix_(part, part)], weights[part])
        margin = left_out * labels[part]
        # A prediction that is zero up to rounding is a coin toss: half a hit.
        hits += np.sum(margin > _NO_OPINION, axis=0) + 0.5 * np.sum(np.abs(margin) <= _NO_OPINION, axis=0)
    return hits / len(labels)
