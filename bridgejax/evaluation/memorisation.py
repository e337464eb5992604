"""Does a model copy its training rows? Nearest neighbours of samples s, training rows T and held-out rows H.

    closer_to_train   P(d(s, T) < d(h, T)),  s a sample, h a held-out row          fresh data 0.5    copies 1
    near_copies       P(d(s, T) <= q),  q the 5 % quantile of d(h, T)              fresh data 0.05   copies 1
    prefers_train     P(d(s, T') < d(s, H')),  |T'| = |H'|                         fresh data 0.5    copies above

d(a, B) is the Euclidean distance to the nearest row of B; ties count a half. The first is the statistic of Meehan,
Chaudhuri & Dasgupta 2020 (arXiv 2004.05675). Samples that are smoother than the data lie nearer to everything, and the
first two rise although nothing is copied; the third does not, since it compares one sample with two sets of one law.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bridgejax._summary import summary
from bridgejax.evaluation.arrays import generator

NEAR = 0.05
_SUBSETS = 5  # sets T' averaged over
_BLOCK = 2**23  # distances held at once


class Copying(NamedTuple):
    """Values of one statistic: of the samples, and of real rows in their place.

    Attributes:
        value: of the samples.
        floor: float64 ``[draws]``, of training rows that were taken out of T.
        floor_n: how many these are.
    """

    value: float
    floor: np.ndarray
    floor_n: int

    __repr__ = summary


def nearest(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Euclidean distance ``[n]`` of each ``x [n, d]`` to the nearest of ``rows [m, d]``, by blocks of one product."""
    centre = rows.mean(axis=0)
    x, rows = x - centre, rows - centre
    lengths = np.sum(rows**2, axis=1)
    step = max(1, _BLOCK // len(rows))
    found = np.empty(len(x))
    for start in range(0, len(x), step):
        block = x[start : start + step]
        index = np.argmin(lengths - 2 * block @ rows.T, axis=1)
        # Expanded squares pick the neighbour; its distance is taken without their cancellation.
        found[start : start + step] = np.linalg.norm(block - rows[index], axis=1)
    return found


def _share_below(a: np.ndarray, b: np.ndarray) -> float:
    """P(a < b) + P(a = b)/2 over all pairs."""
    b = np.sort(b)
    below, upto = np.searchsorted(b, a, side="left"), np.searchsorted(b, a, side="right")
    return float(np.mean(1 - (below + upto) / (2 * len(b))))


def _preference(x: np.ndarray, train: np.ndarray, holdout: np.ndarray) -> np.ndarray:
    """For each x: the share of equally large sets T' that hold a nearer row than H', float64 ``[n]``."""
    size = min(len(train), len(holdout))
    other = nearest(x, holdout[:size])
    chunks = min(_SUBSETS, len(train) // size)
    near = [nearest(x, train[k * size : (k + 1) * size]) for k in range(chunks)]
    return np.mean([(d < other) + 0.5 * (d == other) for d in near], axis=0)


def train_preference(samples: np.ndarray, train: np.ndarray, holdout: np.ndarray) -> float:
    """By how many standard errors training rows have more samples within q (of ``near_copies``) than held-out rows.

    z = (mean_T c - mean_H c) / sqrt(var_T c / |T| + var_H c / |H|),  c the share of samples within q of a row. Rows of
    one law that the model has not seen have c of one law, however smooth its samples are.

    Args:
        samples: ``[n, d]``.
        train: ``[m, d]``.
        holdout: ``[h, d]``.
    """
    radius = np.quantile(nearest(holdout, train), NEAR)
    (a, b), sizes = [_shares_within(rows, samples, radius) for rows in (train, holdout)], (len(train), len(holdout))
    # a count of zero everywhere among a few held-out rows is no proof: at least one sample at one of them
    least = (1 / len(samples)) ** 2 / len(holdout)
    error = np.sqrt(a.var() / sizes[0] + max(b.var(), least) / sizes[1])
    return float((a.mean() - b.mean()) / error)


def _shares_within(rows: np.ndarray, samples: np.ndarray, radius: float) -> np.ndarray:
    from scipy.spatial.distance import cdist

    step = max(1, _BLOCK // len(samples))
    parts = (cdist(rows[k : k + step], samples) <= radius for k in range(0, len(rows), step))
    return np.concatenate([part.mean(axis=1) for part in parts])


def copying(
    samples: np.ndarray, train: np.ndarray, holdout: np.ndarray, *, draws: int = 20, seed: int = 0
) -> dict[str, Copying]:
    """The three statistics, each beside its values for real rows.

    For the floor, half of the training rows (at most 4 n) leave T, and each draw takes n of them, with replacement, in
    the place of the samples: the spread over draws is then that of n independent rows.

    Args:
        samples: ``[n, d]``.
        train: ``[m, d]``, m >= 4.
        holdout: ``[h, d]``.
        draws: number of floor draws, >= 1.
        seed: a non-negative integer.

    Returns:
        ``closer_to_train``, ``near_copies``, ``prefers_train``.
    """
    rng = generator(seed, 3)
    train = train[rng.permutation(len(train))]
    out = min(len(train) // 2, 4 * len(samples))
    pool, kept = train[:out], train[out:]
    picks = [rng.integers(out, size=len(samples)) for _ in range(draws)]

    def statistics(near_x: np.ndarray, near_holdout: np.ndarray, preference: np.ndarray) -> tuple[float, float, float]:
        share = float(np.mean(near_x <= np.quantile(near_holdout, NEAR)))
        return _share_below(near_x, near_holdout), share, float(preference.mean())

    values = statistics(nearest(samples, train), nearest(holdout, train), _preference(samples, train, holdout))
    near_pool, near_holdout = nearest(pool, kept), nearest(holdout, kept)
    preference = _preference(pool, kept, holdout)
    floors = np.array([statistics(near_pool[rows], near_holdout, preference[rows]) for rows in picks])
    names = ("closer_to_train", "near_copies", "prefers_train")
    return {name: Copying(value, floors[:, k], out) for k, (name, value) in enumerate(zip(names, values, strict=True))}
