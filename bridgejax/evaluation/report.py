"""``evaluate``: how good are these samples? Every number beside its floor, what it says of real data against real data.

    value   mean over model draws k of    metric(samples_k, held-out_k)       up to 5 disjoint sets of n samples
    floor   mean over draws k of          metric(real_k, held-out_k)          20 sets of n real rows

A perfect model sits at the floor, not at zero. A model that has memorised its training rows sits there too, and is
told by the nearest-neighbour rows (``bridgejax.evaluation.memorisation``).

    points   energy distance, W2, sliced W2, MMD            in the unit given, so that published values compare
    table    the same without W2, Frechet distance, C2ST    columns standardised on the training rows
    image    Frechet distance of classifier features and of principal components, C2ST, sliced W2
    all      precision and coverage                         of images in the first feature space

Distances do not tell strays from small errors everywhere, nor copies from fresh draws; precision, coverage and the
nearest-neighbour rows do. What follows from all of them is the verdict (``bridgejax.evaluation.verdict``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bridgejax.evaluation import comparisons, features
from bridgejax.evaluation.arrays import flat
from bridgejax.evaluation.draws import MOST_ROWS, Samples, draw, integer, rows_each
from bridgejax.evaluation.records import Kind, Metric, Report
from bridgejax.evaluation.verdict import conclude, worst_column


def evaluate(
    samples: Samples,
    real_train: Samples,
    real_holdout: Samples,
    *,
    kind: Kind | None = None,
    labels: Samples | None = None,
    sample_labels: Samples | None = None,
    classes: Sequence[str] = (),
    columns: Sequence[str] = (),
    source: Samples | None = None,
    starts: Samples | None = None,
    n: int | None = None,
    draws: int = 20,
    seed: int = 0,
    memorisation: bool = True,
) -> Report:
    """Compare samples with real data that the model has not seen, and that with real data.

    n, the rows on either side of a comparison, is what samples, training and held-out rows all have, at most 4,000
    points or 2,000 images or table rows (1,000 for the exact W2 and the C2ST) and, unless held-out rows are fresh, four
    fifths of the training rows. More samples than n give up to 5 draws. All arrays must be in one unit.
    ``report.verdict`` says in words what to conclude, by the rules of ``bridgejax.evaluation.verdict``.

    Args:
        samples: ``[m, *shape]``, or a sampler ``(seed, n) -> [n, *shape]`` of fresh ones.
        real_train: ``[N, *shape]``, the rows the model was trained on.
        real_holdout: ``[H, *shape]``, rows of the same law that it was not trained on, or a sampler of fresh ones;
            with a sampler both sides of the floor are fresh.
        kind: ``"points"``, ``"table"`` or ``"image"``; by default from the shape: rank 3 and 4 are images, vectors of
            at most 3 numbers points.
        labels: classes of the training rows ``[N]``, or a pair (of the training rows, of the held-out rows). Ignored
            for points.
        sample_labels: the class asked for each sample ``[m]``, whole numbers as in ``labels``.
        classes: names of the classes.
        columns: names of the columns of points or of a table, for the verdict.
        source: for a bridge, any sample ``[k, *shape]`` of the source law.
        starts: for a bridge, where the samples started, row by row ``[m, *shape]``.
        n: fewer rows than would be used.
        draws: number of floor draws, >= 1; with fewer than 10 there is no verdict.
        seed: a non-negative integer.
        memorisation: whether ``real_train`` was trained on, and copies of its rows are looked for.

    Returns:
        A ``Report``.

    Raises:
        ValueError: for no or fewer than 10 rows, NaN or infinity, different shapes, labels that do not fit.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> samples, train, holdout = np.random.default_rng(0).normal(size=(3, 60, 2))
        >>> report = bj.evaluation.evaluate(samples, train, holdout)
        >>> report.num_samples, "sliced_w2" in report.metrics
        (60, True)
    """
    kind, seed, draws = _kind(kind, real_train), integer(seed, "seed", 0), integer(draws, "draws", 1)
    train = flat(real_train, "real_train")
    dim = train.shape[1]
    shape = np.shape(real_train)[1:]
    for name, array in (("samples", samples), ("real_holdout", real_holdout), ("source", source), ("starts", starts)):
        if array is not None and not callable(array) and np.shape(array)[1:] != shape:
            raise ValueError(f"{name} has shape {np.shape(array)}; expected [n, *{shape}], as real_train")

    if kind == "table":
        # Columns of a table have units of their own; a distance across them needs one.
        shift, scale = train.mean(axis=0), train.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)
    else:
        shift, scale = np.zeros(dim), np.ones(dim)

    def rows(x: Samples, name: str) -> np.ndarray:
        return (flat(x, name, dim) - shift) / scale

    train = rows(train, "real_train")
    if not callable(samples):
        samples = rows(samples, "samples")
    if not callable(real_holdout):
        real_holdout = rows(real_holdout, "real_holdout")
    n = rows_each(samples, train, real_holdout, kind, n)
    plan = draw(samples, train, real_holdout, rows, n, draws, seed)
    first = plan.reference(0)
    known = _Known() if kind == "points" else _labels(labels, sample_labels, classes, train, real_holdout, samples)

    source = None if source is None else rows(source, "source")
    starts = None if starts is None else rows(starts, "starts")
    moved = comparisons.source(source, starts, samples, plan)

    maps = comparisons.feature_maps(kind, train, known.train, len(known.names), seed)
    found: dict[str, Metric] = {}
    for name, comparison in comparisons.comparisons(kind, maps, train, first, seed).items():
        found[name] = comparisons.measure(comparison, plan, n, draws)
    if kind != "points":
        found["c2st"] = comparisons.tell_apart(plan, n, seed)
    pooled = samples if not callable(samples) else np.concatenate(plan.model)
    notes: list[str] = []
    held = first if callable(real_holdout) else real_holdout
    if memorisation:
        found |= comparisons.copied(pooled, train, held, draws, seed)

    shares = None
    classifier = maps.get("frechet_features")
    if classifier is not None:
        shares = comparisons.class_shares(classifier, pooled, held, known.names)
        if known.holdout is not None:
            right = np.mean(comparisons.predicted(classifier, held) == known.holdout)
            shares["classifier_accuracy"] = float(right)
            if known.samples is not None:
                found["class_agreement"] = comparisons.agreement(
                    classifier, pooled, known.samples, float(right), len(held)
                )
    elif sample_labels is not None:
        notes.append("sample_labels were not used: without labels of the training rows there is no classifier")
    for name, mapping in maps.items():
        if n <= 2 * mapping.dim and name in found:
            notes.append(
                f"{name}: n = {n} is small for covariances of {mapping.dim} features; read it as a ratio to its floor"
            )

    column = None if kind == "image" else worst_column(pooled, np.concatenate([train, held]), columns)
    return Report(
        kind=kind,
        metrics=found,
        floor=plan.floor,
        features="; ".join(f"{name}: {mapping.what}" for name, mapping in maps.items()) or "none",
        num_samples=len(pooled),
        num_train=len(train),
        num_holdout=None if callable(real_holdout) else len(real_holdout),
        seed=seed,
        classes=shares,
        source=moved,
        notes=tuple(notes),
        verdict=conclude(found, column),
    )


# what is asked ------------------------------------------------------------------------------------------------------


def _kind(kind: Any, real_train: Samples) -> Kind:
    if callable(real_train):
        raise ValueError(
            "real_train must be an array: the rows the model was trained on; only real_holdout may be drawn"
        )
    if kind is None:
        shape = np.shape(real_train)
        return "image" if len(shape) >= 3 else "points" if math.prod(shape[1:]) <= 3 else "table"
    if kind not in MOST_ROWS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, MOST_ROWS))}, got {kind!r}")
    return kind


class _Known(NamedTuple):
    """Checked classes of the rows, where they are known."""

    train: np.ndarray | None = None
    holdout: np.ndarray | None = None
    samples: np.ndarray | None = None
    names: tuple[str, ...] = ()


def _labels(
    labels: Samples, asked: Samples, names: Sequence[str], train: np.ndarray, holdout: Samples, samples: Samples
) -> _Known:
    in_train, in_holdout = labels if isinstance(labels, tuple) else (labels, None)
    if in_train is None:
        return _Known()
    in_train = features.class_indices(in_train, len(train), "labels")
    num = int(in_train.max()) + 1
    if callable(holdout):  # the classes of fresh draws are not known
        in_holdout = None
    elif in_holdout is not None:
        in_holdout = features.class_indices(in_holdout, len(holdout), "labels of the held-out rows")
        num = max(num, int(in_holdout.max()) + 1)
    num = max(num, len(names))
    if names and len(names) < num:
        raise ValueError(f"classes has {len(names)} names, but the labels have {num} classes")
    if asked is not None:
        if callable(samples):
            raise ValueError("sample_labels go with an array of samples, row by row; samples is a sampler")
        asked = features.class_indices(asked, len(samples), "sample_labels", num)
    return _Known(in_train, in_holdout, asked, tuple(map(str, names)) or tuple(map(str, range(num))))
