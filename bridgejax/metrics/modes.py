"""Mode coverage: how many of the target's known modes a sample reaches, and how evenly.

With responsibilities r_ni = P(mode i | x_n), or a one-hot nearest mode, and their mean share s_i = mean_n r_ni,

    coverage          = share of the modes i with s_i >= least * w_i
    entropic coverage = -sum_i s_i log s_i / log k

where w are the target's mode weights (1/k each by default). The entropic one is 1 for equal shares and 0 for a
collapse to one mode; for a target with unequal weights compare it with that of the weights themselves.
"""

from __future__ import annotations

import numpy as np

from bridgejax._types import Numbers
from bridgejax.metrics.points import numbers, points, real


def mode_shares(assignments: Numbers) -> np.ndarray:
    """The mean share of every mode, float64 ``[k]``.

    Args:
        assignments: ``[n, k]``: each row the probabilities of the modes given one sample, summing to 1.

    Raises:
        ValueError: another shape, fewer than 2 modes, negative numbers, or rows that do not sum to 1.
    """
    assignments = numbers(assignments, "assignments")
    if assignments.ndim != 2 or assignments.shape[1] < 2:
        raise ValueError(f"assignments must have shape [n, k] with k >= 2 modes, got {assignments.shape}")
    rows = points(assignments, "assignments")
    sums = rows.sum(axis=1)
    if rows.min() < 0 or not np.allclose(sums, 1.0, atol=1e-3):
        raise ValueError(
            f"assignments must be probabilities that sum to 1 in each row, got sums from {sums.min():g} to "
            f"{sums.max():g} and a least entry of {rows.min():g}"
        )
    return (rows / sums[:, None]).mean(axis=0)


def mode_coverage(assignments: Numbers, *, least: float = 0.1, weights: Numbers | None = None) -> float:
    """Share of the modes that get at least ``least`` times their own weight, in [0, 1].

    Args:
        assignments: ``[n, k]``, as in ``mode_shares``.
        least: the share of its weight at which a mode counts as reached, in (0, 1].
        weights: ``[k]``, the target's mode weights; equal by default.

    Raises:
        ValueError: as ``mode_shares``; least outside (0, 1]; weights that are no probabilities.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> bj.metrics.mode_coverage([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        1.0
    """
    shares = mode_shares(assignments)
    if not 0 < real(least, "least") <= 1:
        raise ValueError(f"least must lie in (0, 1], got {least}")
    k = shares.size
    weights = np.full(k, 1.0 / k) if weights is None else numbers(weights, "weights")
    if weights.shape != (k,) or not (weights > 0).all() or not np.isclose(weights.sum(), 1.0, atol=1e-3):
        raise ValueError(f"weights must be {k} positive numbers that sum to 1, got shape {weights.shape}")
    return float(np.mean(shares >= least * weights))


def entropic_mode_coverage(assignments: Numbers) -> float:
    """Entropy of the mode shares over log k, in [0, 1]: 1 for equal shares, 0 for a collapse to one mode.

    Biased downwards by about (k - 1) / (2 n log k) for n samples of a covering model.

    Args:
        assignments: ``[n, k]``, as in ``mode_shares``.

    Raises:
        ValueError: as ``mode_shares``.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> round(bj.metrics.entropic_mode_coverage([[1.0, 0.0], [0.0, 1.0]]), 6)    # both modes, equally often
        1.0
    """
    shares = mode_shares(assignments)
    seen = shares[shares > 0]
    return min(max(float(-np.sum(seen * np.log(seen)) / np.log(shares.size)), 0.0), 1.0)
