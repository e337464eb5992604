"""Does a model copy its training rows? Nearest neighbours of samples s, training rows T and held-out rows H.

    closer_to_train   P(d(s, T) < d(h, T)),  s a sample, h a held-out row          fresh data 0.5    copies 1
    near_copies       P(d(s, T) <= q),  q the 5 % quantile of d(h, T)              fresh data 0.05   copies 1
    prefers_train     P(d(s, T') < d(s, H')),  |T'| = |H'|                         fresh data 0.5    copies above

d(a, B) is the Euclidean distance to the nearest row of B; ties count a half. The first is the statistic of Meehan,
Chaudhuri & Dasgupta 2020 (arXiv 2004.05675). Samples that are smoother than the data lie nearer to everything, and the
first two rise although nothing is copied; the third does not, since it compares one sample with two sets of one law.

    memorised         P(d1(s) < d2(s) / 3),  d1, d2 to the two nearest rows of T      fresh data about 3^-d
    agree             P(d(s, s') < d(s, T), d(s', T')),  s, s' from the same noise of two models, T, T' disjoint
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bridgejax._checks import check_number
from bridgejax._summary import summary
from bridgejax._types import Numbers
from bridgejax.evaluation.arrays import flat, generator

NEAR = 0.05
COPY = 1 / 3  # of d1/d2, below which a sample is a copy
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


# copies by the ratio of two distances, and two models of two halves --------------------------------------------------


class Memorised(NamedTuple):
    """Which samples are copies of one training row, and how many held-out rows would pass for such.

    Attributes:
        fraction: of the samples that have d1/d2 below the threshold.
        control: the same of held-out rows.
        z: by how many standard errors the first is above the second.
        ratio: d1/d2 of every sample, float64 ``[n]``; 0 where d2 is.
        nearest: the two nearest training rows of every sample, int64 ``[n, 2]``.
        distances: how far these are, float64 ``[n, 2]``.
        control_distances: the same of held-out rows ``[h, 2]``.
    """

    fraction: float
    control: float
    z: float
    ratio: np.ndarray
    nearest: np.ndarray
    distances: np.ndarray
    control_distances: np.ndarray

    __repr__ = summary


def nearest_two(x: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices and distances ``[n, 2]`` of the two nearest of ``rows [m, d]``, m >= 2, to each ``x [n, d]``."""
    centre = rows.mean(axis=0)
    x, rows = x - centre, rows - centre
    lengths = np.sum(rows**2, axis=1)
    step = max(1, _BLOCK // len(rows))
    index, distances = np.empty((len(x), 2), np.int64), np.empty((len(x), 2))
    for start in range(0, len(x), step):
        block = x[start : start + step]
        # a few candidates by expanded squares, whose order is then that of the distances themselves
        found = lengths - 2 * block @ rows.T
        few = min(4, len(rows))
        near = np.argpartition(found, few - 1, axis=1)[:, :few]
        exact = np.linalg.norm(block[:, None] - rows[near], axis=-1)
        order = np.argsort(exact, axis=1, kind="stable")[:, :2]
        index[start : start + step] = np.take_along_axis(near, order, 1)
        distances[start : start + step] = np.take_along_axis(exact, order, 1)
    return index, distances


def _ratio(distances: np.ndarray) -> np.ndarray:
    near, far = distances.T
    return np.where(far > 0, near / np.where(far > 0, far, 1.0), 0.0)


def memorised(samples: Numbers, train: Numbers, holdout: Numbers, *, threshold: float = COPY) -> Memorised:
    """The memorisation fraction: samples much nearer to one training row than to the next, d1/d2 < 1/3.

    Rows that are no copies have d1/d2 < r with probability r^d where the data fill d dimensions evenly: one in nine in
    the plane, none in a hundred of d = 5. So the fraction is read beside that of held-out rows. Rows that stand twice
    among the training rows count once. All arrays must be in one unit.

    Args:
        samples: ``[n, *shape]``.
        train: ``[m, *shape]``, rows the model was trained on, two different ones at least.
        holdout: ``[h, *shape]``, rows of the same law it was not trained on.
        threshold: of d1/d2, in (0, 1].

    Returns:
        A ``Memorised``; ``nearest`` are indices of ``train``.

    Raises:
        ValueError: other shapes, numbers that are not finite, fewer than two different training rows, a threshold out
            of range.

    Example:
        >>> import numpy as np
        >>> from bridgejax.evaluation import memorised
        >>> train, holdout = np.random.default_rng(0).normal(size=(2, 100, 8))
        >>> memorised(train + 1e-3, train, holdout).fraction, memorised(holdout, train, holdout).fraction
        (1.0, 0.0)
    """
    rows = flat(train, "train")
    held, x = (flat(array, name, rows.shape[1]) for array, name in ((holdout, "holdout"), (samples, "samples")))
    check_number(threshold=threshold)
    if not 0.0 < threshold <= 1.0:
        raise ValueError(f"threshold must lie in (0, 1], a bound of d1/d2, got {threshold}")
    distinct, first = np.unique(rows, axis=0, return_index=True)
    if len(distinct) < 2:
        raise ValueError(f"train must hold two different rows at least, got {len(distinct)}")
    index, distances = nearest_two(x, distinct)
    control = nearest_two(held, distinct)[1]
    ratio = _ratio(distances)
    share, other = float(np.mean(ratio < threshold)), float(np.mean(_ratio(control) < threshold))
    # a share of 0 or 1 among a few is no proof: one more of each kind
    p, q = (np.sum(ratio < threshold) + 1) / (len(x) + 2), (np.sum(_ratio(control) < threshold) + 1) / (len(held) + 2)
    error = np.sqrt(p * (1 - p) / len(x) + q * (1 - q) / len(held))
    return Memorised(share, other, float((share - other) / error), ratio, first[index], distances, control)


class TwoHalves(NamedTuple):
    """Two models that learnt disjoint halves of the data, drawn from the same noise.

    Attributes:
        agree: share of pairs that are nearer to each other than either is to its own nearest training row.
        correlation: of the two outputs, coordinates less the mean of the rows, the median over pairs.
        between: distance of the two outputs of a pair, float64 ``[n]``.
        to_own: distance of each to its nearest training row, its own model's, ``[n, 2]``.
        unrelated: distance of outputs of different noise, ``[n]``.
    """

    agree: float
    correlation: float
    between: np.ndarray
    to_own: np.ndarray
    unrelated: np.ndarray

    __repr__ = summary


def two_halves(one: Numbers, other: Numbers, one_rows: Numbers, other_rows: Numbers) -> TwoHalves:
    """Whether two models of disjoint halves of the data have learnt one law: do they draw the same from the same noise?

    Models that return their rows have none in common, and their outputs are as far apart as those of unrelated noise.
    Models that have learnt the law agree better with each other than with anything they were shown (Kadkhodaie, Guth,
    Simoncelli & Mallat 2023, "Generalization in diffusion models arises from geometry-adaptive harmonic
    representations", arXiv 2310.02557).

    Args:
        one: ``[n, *shape]``, outputs of the first model: ``bj.sample`` with keys, of a probability flow.
        other: outputs of the second with the same keys, in the same unit.
        one_rows: ``[m, *shape]``, training rows of the first.
        other_rows: of the second, none of them among the first's.

    Returns:
        A ``TwoHalves``.

    Raises:
        ValueError: fewer than two pairs, other shapes, numbers that are not finite, or rows most of which are in both.

    Example:
        >>> import jax, numpy as np, bridgejax as bj
        >>> halves, keys = np.random.default_rng(0).normal(size=(2, 50, 4)), bj.keys(jax.random.key(1), 20)
        >>> def drawn(rows):
        ...     method = bj.methods.closed_form(bj.schedules.cosine(), rows=rows)
        ...     return bj.sample(method.process(method.init(jax.random.key(0), None)), keys)
        >>> bj.evaluation.two_halves(drawn(halves[0]), drawn(halves[1]), *halves).agree         # each returns its rows
        0.0
    """
    rows = flat(one_rows, "one_rows"), flat(other_rows, "other_rows")
    d = rows[0].shape[1]
    if rows[1].shape[1] != d:
        raise ValueError(f"other_rows must have {d} numbers a row, as one_rows, got {rows[1].shape[1]}")
    x, y = flat(one, "one", d), flat(other, "other", d)
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(
            f"one and other must hold two pairs at least, drawn with the same keys, got {len(x)} and {len(y)}"
        )
    distinct = [np.unique(part, axis=0) for part in rows]
    shared = sum(map(len, distinct)) - len(np.unique(np.concatenate(distinct), axis=0))
    if 2 * shared > min(map(len, distinct)):  # a few rows may stand twice in the data
        raise ValueError(f"other_rows must be other rows than one_rows, but {shared} stand in both")
    between = np.linalg.norm(x - y, axis=1)
    to_own = np.stack([nearest(x, rows[0]), nearest(y, rows[1])], axis=1)
    centre = np.concatenate(rows).mean(axis=0)
    a, b = x - centre, y - centre
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    correlation = np.sum(a * b, axis=1) / np.where(lengths > 0, lengths, 1.0)
    return TwoHalves(
        float(np.mean(between < to_own.min(axis=1))),
        float(np.median(correlation)),
        between,
        to_own,
        np.linalg.norm(x - np.roll(y, 1, axis=0), axis=1),
    )
