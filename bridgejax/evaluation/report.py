"""``evaluate``: how good are these samples? Every number beside its floor, what it says of real data against real data.

    value   mean over model draws k of    metric(samples_k, held-out_k)       up to 5 disjoint sets of n samples
    floor   mean over draws k of          metric(real_k, held-out_k)          20 sets of n real rows

A perfect model sits at the floor, not at zero. A model that has memorised its training rows sits there too, and is
told by the nearest-neighbour rows (``bridgejax.evaluation.memorisation``).

    points   energy distance, W2, sliced W2, MMD            in the unit given, so that published values compare
    table    the same without W2, Frechet distance, C2ST    columns standardised on the training rows
    image    Frechet distance of classifier features and of principal components, C2ST, sliced W2
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import operator
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from bridgejax import metrics
from bridgejax.evaluation import features
from bridgejax.evaluation.arrays import flat, generator
from bridgejax.evaluation.c2st import c2st, c2st_accuracy
from bridgejax.evaluation.features import FeatureMap
from bridgejax.evaluation.memorisation import copying

Kind = Literal["points", "table", "image"]
Sampler = Callable[[int, int], Any]

_LEAST_ROWS = 10
_MOST_ROWS = {"points": 4000, "table": 2000, "image": 2000}
_W2_ROWS = 2000
_C2ST_ROWS = 1000
_COPYING_ROWS = 2000


def save_json(values: dict[str, Any], path: str | os.PathLike[str]) -> pathlib.Path:
    """Write a report; the file is replaced whole, never half-written."""
    path = pathlib.Path(path)
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n")
    os.replace(beside, path)
    return path


@dataclasses.dataclass(frozen=True)
class Metric:
    """One line of a report.

    Attributes:
        value: mean over the model draws.
        std: standard deviation over the model draws; None for a single draw.
        draws: number of model draws.
        floor: the same metric for real data in the place of samples, mean over draws.
        floor_std: standard deviation over those draws.
        floor_draws: their number.
        n: rows on either side.
        what: the formula in words.
        better: ``"lower"``, ``"higher"``, or the number that a perfect model gets.
        details: what else is known, JSON values.
    """

    value: float
    std: float | None
    draws: int
    floor: float
    floor_std: float
    floor_draws: int
    n: int
    what: str
    better: str
    details: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """value / floor, for distances (``better == "lower"``) with a positive floor; else None."""
        return self.value / self.floor if self.better == "lower" and self.floor > 0 else None


@dataclasses.dataclass(frozen=True)
class Report:
    """What ``evaluate`` found. ``str(report)`` is the table.

    Attributes:
        kind: ``"points"``, ``"table"`` or ``"image"``.
        metrics: name -> ``Metric``, in the order of the table.
        floor: how the floor was drawn.
        features: what the Frechet distances look at.
        num_samples: rows given, or drawn from a sampler.
        num_train: training rows.
        num_holdout: held-out rows given, or None for a sampler.
        seed: of subsets, directions and the classifier.
        classes: shares of the classes in samples and held-out rows, by the classifier; None without labels.
        source: what is known of the start points of a bridge; None without them.
        bridge: which end is which, the noise and its units, sentences under "words"; None without a bridge.
        notes: what limits these numbers.
    """

    kind: Kind
    metrics: dict[str, Metric]
    floor: str
    features: str
    num_samples: int
    num_train: int
    num_holdout: int | None
    seed: int
    classes: dict[str, Any] | None = None
    source: dict[str, Any] | None = None
    bridge: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON values only; each metric also has its ``ratio``."""
        out = dataclasses.asdict(self)
        out["notes"] = list(self.notes)
        for name, metric in self.metrics.items():
            out["metrics"][name]["ratio"] = metric.ratio
        return out

    def save(self, path: str | os.PathLike[str]) -> pathlib.Path:
        """Write ``to_dict`` as JSON, see ``save_json``."""
        return save_json(self.to_dict(), path)

    def table(self) -> str:
        """The report for a terminal, at most 100 columns."""
        rows = [("metric", "value", "real vs real", "ratio", "n", "best")]
        for name, m in self.metrics.items():
            best = m.better if m.better in ("lower", "higher") else f"= {m.better}"
            ratio = "" if m.ratio is None else f"{m.ratio:.2f}"
            rows.append((name, _spread(m.value, m.std), _spread(m.floor, m.floor_std), ratio, str(m.n), best))
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        lines = [
            "  ".join(
                cell.ljust(w) if k in (0, 5) else cell.rjust(w)
                for k, (cell, w) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        lines.insert(1, "  ".join("-" * w for w in widths))
        lines.append(f"real vs real: {self.floor}")
        if self.classes is not None:
            lines.append(_class_line(self.classes))
        lines.extend(self.notes)
        if self.bridge is not None:
            lines.extend(_bridge_lines(self.bridge))
        return "\n".join(_wrapped(lines))

    def __str__(self) -> str:
        return self.table()


def _bridge_lines(bridge: dict[str, Any]) -> list[str]:
    lines = list(bridge.get("words", ()))
    if "rmse_to_own_target" in bridge:
        own, other = bridge["rmse_to_own_target"], bridge["rmse_between_targets"]
        lines.append(f"root mean squared distance to its own target {own:.4g} (of one target to another {other:.4g})")
    return lines


def _spread(mean: float, std: float | None) -> str:
    """Four digits, and the spread to the same place."""
    places = max(0, 3 - (math.floor(math.log10(abs(mean))) if mean else 0))
    places = min(places, 6)
    return f"{mean:.{places}f}" if std is None else f"{mean:.{places}f} ± {std:.{places}f}"


def _class_line(classes: dict[str, Any]) -> str:
    shares = zip(classes["names"], classes["samples"], classes["real"], strict=True)
    if len(classes["names"]) > 20:
        return f"classes: {len(classes['names'])}, shares in report.json"
    return "share of each class, samples (real): " + ", ".join(f"{c} {s:.0%} ({r:.0%})" for c, s, r in shares)


def _wrapped(lines: Sequence[str], width: int = 100) -> list[str]:
    import textwrap

    return [part for line in lines for part in textwrap.wrap(line, width, subsequent_indent="  ") or [""]]


class _Comparison(NamedTuple):
    """A metric to run: ``measure(x, y)`` on flattened rows, of which at most ``most`` are used."""

    measure: Callable[[np.ndarray, np.ndarray], float]
    what: str
    better: str
    most: int


class _Draws(NamedTuple):
    """Where the rows come from, all flattened."""

    model: list[np.ndarray]
    reference: Callable[[int], np.ndarray]
    real: Callable[[int], np.ndarray]
    floor: str


def evaluate(
    samples: Any,
    real_train: Any,
    real_holdout: Any,
    *,
    kind: Kind | None = None,
    labels: Any = None,
    sample_labels: Any = None,
    classes: Sequence[str] = (),
    source: Any = None,
    starts: Any = None,
    n: int | None = None,
    draws: int = 20,
    seed: int = 0,
) -> Report:
    """Compare samples with real data that the model has not seen, and that with real data.

    n, the rows on either side of a comparison, is what samples, training and held-out rows all have, at most 4,000
    points or 2,000 images or table rows (2,000 for the exact W2, 1,000 for the C2ST). More samples than n give up to
    5 draws. All arrays must be in one unit.

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
        source: for a bridge, any sample ``[k, *shape]`` of the source law.
        starts: for a bridge, where the samples started, row by row ``[m, *shape]``.
        n: fewer rows than would be used.
        draws: number of floor draws, >= 1.
        seed: a non-negative integer.

    Returns:
        A ``Report``.

    Raises:
        ValueError: for no or fewer than 10 rows, NaN or infinity, different shapes, labels that do not fit.
    """
    kind, seed, draws = _kind(kind, real_train), _integer(seed, "seed", 0), _integer(draws, "draws", 1)
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

    def rows(x: Any, name: str) -> np.ndarray:
        return (flat(x, name, dim) - shift) / scale

    train = rows(train, "real_train")
    if not callable(samples):
        samples = rows(samples, "samples")
    if not callable(real_holdout):
        real_holdout = rows(real_holdout, "real_holdout")
    n = _rows_each(samples, train, real_holdout, kind, n)
    plan = _draw(samples, train, real_holdout, rows, n, draws, seed)
    first = plan.reference(0)
    known = _Known() if kind == "points" else _labels(labels, sample_labels, classes, train, real_holdout, samples)

    source = None if source is None else rows(source, "source")
    starts = None if starts is None else rows(starts, "starts")
    moved = _source(source, starts, samples, plan)

    maps = _feature_maps(kind, train, known, seed)
    found: dict[str, Metric] = {}
    for name, comparison in _comparisons(kind, maps, train, first, seed).items():
        found[name] = _measure(comparison, plan, n, draws)
    pooled = samples if not callable(samples) else np.concatenate(plan.model)
    if "c2st" in found:
        test = c2st(plan.model[0], first, max_points=_C2ST_ROWS, seed=seed)
        details = {"first_draw_accuracy": test.accuracy, "std_error": test.std_error, "p_value": test.p_value}
        found["c2st"] = dataclasses.replace(found["c2st"], details=details | {"rows_judged": test.n})
    notes: list[str] = []
    if kind != "points":
        found |= _copying(pooled, train, first if callable(real_holdout) else real_holdout, draws, seed)

    shares = None
    classifier = maps.get("frechet_features")
    if classifier is not None:
        held = first if callable(real_holdout) else real_holdout
        shares = _class_shares(classifier, pooled, held, known.names)
        if known.holdout is not None:
            right = np.mean(_predicted(classifier, held) == known.holdout)
            shares["classifier_accuracy"] = float(right)
            if known.samples is not None:
                found["class_agreement"] = _agreement(classifier, pooled, known.samples, float(right), len(held))
    elif sample_labels is not None:
        notes.append("sample_labels were not used: without labels of the training rows there is no classifier")
    for name, mapping in maps.items():
        if n <= 2 * mapping.dim and name in found:
            notes.append(
                f"{name}: n = {n} is small for covariances of {mapping.dim} features; read it as a ratio to its floor"
            )

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
    )


# what is asked ------------------------------------------------------------------------------------------------------


def _kind(kind: Any, real_train: Any) -> Kind:
    if callable(real_train):
        raise ValueError(
            "real_train must be an array: the rows the model was trained on; only real_holdout may be drawn"
        )
    if kind is None:
        shape = np.shape(real_train)
        return "image" if len(shape) >= 3 else "points" if math.prod(shape[1:]) <= 3 else "table"
    if kind not in _MOST_ROWS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, _MOST_ROWS))}, got {kind!r}")
    return kind


def _integer(value: Any, name: str, least: int) -> int:
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")
    return number


def _rows_each(samples: Any, train: np.ndarray, holdout: Any, kind: Kind, n: int | None) -> int:
    """The rows on either side of a comparison."""
    most = _MOST_ROWS[kind]
    if n is not None:
        most = min(most, _integer(n, "n", _LEAST_ROWS))
    for name, array in (("samples", samples), ("real_train", train), ("real_holdout", holdout)):
        if callable(array):
            continue
        if len(array) < _LEAST_ROWS:
            raise ValueError(f"{name} has {len(array)} rows; at least {_LEAST_ROWS} are needed to measure anything")
        most = min(most, len(array))
    return most


class _Known(NamedTuple):
    """Checked classes of the rows, where they are known."""

    train: np.ndarray | None = None
    holdout: np.ndarray | None = None
    samples: np.ndarray | None = None
    names: tuple[str, ...] = ()


def _labels(labels: Any, asked: Any, names: Sequence[str], train: np.ndarray, holdout: Any, samples: Any) -> _Known:
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


# where the rows come from -------------------------------------------------------------------------------------------


def _draw(
    samples: Any, train: np.ndarray, holdout: Any, rows: Callable[[Any, str], np.ndarray], n: int, draws: int, seed: int
) -> _Draws:
    def fresh(sampler: Sampler, name: str, stream: int, k: int) -> np.ndarray:
        x = rows(sampler(int(generator(seed, stream, k).integers(2**31)), n), name)
        if len(x) != n:
            raise ValueError(f"{name}, a sampler, returned {len(x)} rows when asked for {n}")
        return x

    if callable(samples):
        model = [fresh(samples, "samples", 10, k) for k in range(5)]
    else:
        order = generator(seed, 10).permutation(len(samples))
        model = [samples[order[k * n : (k + 1) * n]] for k in range(min(5, len(samples) // n))]

    if callable(holdout):
        # Cached: every metric and every model draw meets the same held-out draws.
        reference = functools.cache(lambda k: fresh(holdout, "real_holdout", 11, k))
        real = functools.cache(lambda k: fresh(holdout, "real_holdout", 12, k))
        return _Draws(model, reference, real, f"{draws} pairs of fresh real samples, n = {n} each")

    def subset(array: np.ndarray, stream: int, k: int) -> np.ndarray:
        return array if len(array) == n else array[generator(seed, stream, k).permutation(len(array))[:n]]

    whole = len(holdout) == n
    against = f"the {n} held-out rows" if whole else f"{n} random ones of the {len(holdout)} held-out rows"
    of = f"all {n} training rows" if len(train) == n else f"{n} random ones of the {len(train)} training rows"
    text = f"mean of {draws} draws of {of} against {against} (fewer where n is less)"
    return _Draws(model, lambda k: subset(holdout, 11, k), lambda k: subset(train, 12, k), text)


def _measure(comparison: _Comparison, plan: _Draws, n: int, draws: int) -> Metric:
    n = min(n, comparison.most)
    values = [comparison.measure(x[:n], plan.reference(k)[:n]) for k, x in enumerate(plan.model)]
    floors = [comparison.measure(plan.real(k)[:n], plan.reference(k)[:n]) for k in range(draws)]
    return _metric(values, floors, n, comparison.what, comparison.better)


def _metric(values: Sequence[float], floors: Any, n: int, what: str, better: str) -> Metric:
    floors = np.asarray(floors, np.float64)
    return Metric(
        value=float(np.mean(values)),
        std=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        draws=len(values),
        floor=float(floors.mean()),
        floor_std=float(floors.std(ddof=1)) if len(floors) > 1 else 0.0,
        floor_draws=len(floors),
        n=n,
        what=what,
        better=better,
    )


# what is measured ---------------------------------------------------------------------------------------------------


def _feature_maps(kind: Kind, train: np.ndarray, known: _Known, seed: int) -> dict[str, FeatureMap]:
    """Name of the Frechet distance -> where it is taken."""
    maps: dict[str, FeatureMap] = {}
    if kind == "points":
        return maps
    if known.train is not None and len(np.unique(known.train)) > 1:
        num = len(known.names)
        maps["frechet_features"] = features.classifier_features(train, known.train, num_classes=num, seed=seed)
    maps["frechet_pca"] = features.pca_features(train)
    return maps


def _comparisons(
    kind: Kind, maps: dict[str, FeatureMap], train: np.ndarray, reference: np.ndarray, seed: int
) -> dict[str, _Comparison]:
    every = _MOST_ROWS[kind]
    out: dict[str, _Comparison] = {}
    if kind != "image":
        what = "squared energy distance 2 E|X-Y| - E|X-X'| - E|Y-Y'|, V-statistic"
        out["energy"] = _Comparison(metrics.energy_distance, what, "lower", every)
    if kind == "points":
        what = "exact 2-Wasserstein distance by optimal assignment, root taken"
        out["w2"] = _Comparison(metrics.wasserstein2, what, "lower", _W2_ROWS)
    for name, mapping in maps.items():
        what = f"squared Frechet distance of Gaussians fitted to {mapping.what}"
        out[name] = _Comparison(_in_features(mapping), what, "lower", every)
    if kind != "points":
        what = "accuracy of a cross-validated kernel classifier that tells samples from real rows"
        test = functools.partial(c2st_accuracy, max_points=_C2ST_ROWS, seed=seed)
        out["c2st"] = _Comparison(test, what, "0.5", _C2ST_ROWS)
    for mapping in maps.values():
        if mapping.predict is not None:
            what = "total variation between the class shares of both sides, as the classifier sees them"
            out["class_shares"] = _Comparison(_in_classes(mapping), what, "lower", every)
    what = "sliced 2-Wasserstein distance, 512 random directions, root taken"
    out["sliced_w2"] = _Comparison(functools.partial(metrics.sliced_wasserstein2, seed=seed), what, "lower", every)
    if kind != "image":
        # One bandwidth for samples and floor, or they would not compare.
        width = _bandwidth(train[: len(reference)], reference)
        what = f"squared maximum mean discrepancy, Gaussian kernel, bandwidth {width:.3g} (median), V-statistic"
        out["mmd"] = _Comparison(functools.partial(metrics.mmd, bandwidths=width), what, "lower", _W2_ROWS)
    return out


def _bandwidth(x: np.ndarray, y: np.ndarray) -> float:
    try:
        return metrics.median_bandwidth(x, y)
    except ValueError:  # more than half of the rows coincide: any scale of the data will do
        return float(np.concatenate([x, y]).std()) or 1.0


def _in_features(mapping: FeatureMap) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda x, y: metrics.frechet(mapping.features(x), mapping.features(y))


def _in_classes(mapping: FeatureMap) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda x, y: float(np.abs(_histogram(mapping, x) - _histogram(mapping, y)).sum() / 2)


_COPYING_WORDS = {
    "closer_to_train": ("share of (sample, held-out row) pairs with the sample nearer to the training rows", "0.5"),
    "near_copies": ("share of samples as near to a training row as the nearest 5 % of held-out rows", "0.05"),
    "prefers_train": ("share of samples with a nearer row among training than among equally many held-out rows", "0.5"),
}


def _copying(samples: np.ndarray, train: np.ndarray, holdout: np.ndarray, draws: int, seed: int) -> dict[str, Metric]:
    some = samples[generator(seed, 13).permutation(len(samples))[:_COPYING_ROWS]]
    found = copying(some, train, holdout, draws=draws, seed=seed)
    out = {}
    for name, result in found.items():
        what, better = _COPYING_WORDS[name]
        what += f"; floor: the same for {result.floor_n} training rows taken out, resampled"
        out[name] = _metric([result.value], result.floor, len(some), what, better)
    return out


def _predicted(mapping: FeatureMap, x: np.ndarray) -> np.ndarray:
    assert mapping.predict is not None
    return mapping.predict(x)


def _histogram(mapping: FeatureMap, x: np.ndarray) -> np.ndarray:
    return np.bincount(_predicted(mapping, x), minlength=mapping.num_classes) / len(x)


def _class_shares(mapping: FeatureMap, samples: np.ndarray, real: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    shares = [_histogram(mapping, x).tolist() for x in (samples, real)]
    return {"names": list(names), "samples": shares[0], "real": shares[1]}


def _agreement(mapping: FeatureMap, samples: np.ndarray, asked: np.ndarray, accuracy: float, held: int) -> Metric:
    return Metric(
        value=float(np.mean(_predicted(mapping, samples) == asked)),
        std=None,
        draws=1,
        floor=accuracy,
        floor_std=math.sqrt(accuracy * (1 - accuracy) / held),
        floor_draws=1,
        n=len(samples),
        what="share of samples that the classifier gives the class asked for; floor: its accuracy on held-out rows",
        better="higher",
    )


def _source(source: np.ndarray | None, starts: np.ndarray | None, samples: Any, plan: _Draws) -> dict[str, Any] | None:
    """How far the source is from the target, and how far the bridge moved each point."""
    out: dict[str, Any] = {}
    if source is None:
        source = starts
    if source is not None:
        reference = plan.reference(0)
        n = min(len(source), len(reference), _W2_ROWS)
        out["rows"] = len(source)
        out["energy_to_target"] = metrics.energy_distance(source[:n], reference[:n])
        out["w2_to_target"] = metrics.wasserstein2(source[:n], reference[:n])
        out["n"] = n
    if starts is not None:
        if callable(samples) or len(samples) != len(starts):
            raise ValueError(f"starts has {len(starts)} rows; expected an array of as many samples, row by row")
        out["mean_squared_move"] = float(np.mean(np.sum((samples - starts) ** 2, axis=1)))
    return out or None
