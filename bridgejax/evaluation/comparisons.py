"""What is measured, by kind of data, and the same of real rows in the place of samples."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from bridgejax import metrics
from bridgejax._summary import summary
from bridgejax._types import Json
from bridgejax.evaluation import features
from bridgejax.evaluation._c2st import PERMUTATIONS, c2st, c2st_accuracy
from bridgejax.evaluation.arrays import generator
from bridgejax.evaluation.draws import MOST_ROWS, Draws, Samples
from bridgejax.evaluation.features import FeatureMap
from bridgejax.evaluation.memorisation import NEAR, copying, train_preference
from bridgejax.evaluation.records import Kind, Metric

_W2_ROWS = 1000
_C2ST_ROWS = 1000
_COPYING_ROWS = 2000
LEAST_DRAWS = 10  # of a floor whose spread is judged by
_NEIGHBOURS = 5  # of the balls of precision and coverage


class Comparison(NamedTuple):
    """A metric to run: ``measure(x, y)`` on flattened rows, of which at most ``most`` are used."""

    measure: Callable[[np.ndarray, np.ndarray], float]
    what: str
    better: str
    most: int

    __repr__ = summary


def measure(comparison: Comparison, plan: Draws, n: int, draws: int) -> Metric:
    """Samples against held-out rows, and real rows against held-out rows."""
    n = min(n, comparison.most)
    values = [comparison.measure(x[:n], plan.reference(k)[:n]) for k, x in enumerate(plan.model)]
    floors = [comparison.measure(plan.real(k)[:n], plan.reference(k)[:n]) for k in range(draws)]
    found = _metric(values, floors, n, comparison.what, comparison.better)
    if draws >= LEAST_DRAWS and n < plan.taken:  # all rows in every draw: no spread to judge by
        # Floor draws of n of N rows: their own spread is short by 1 - n/N, and they share the deviation of the N rows.
        share = n / plan.taken
        fresh = found.floor_std / math.sqrt(1 - share)
        error = fresh * math.sqrt(1 / len(values) + share + (1 - share) / draws)
        least = 1 / n if comparison.better == "higher" else 0.0  # of a share: one row
        found = dataclasses.replace(found, error=max(error, least))
    return found


def tell_apart(plan: Draws, n: int, seed: int) -> Metric:
    """The C2ST; its floor is that of the same rows with their labels permuted, which costs no further fit."""
    n = min(n, _C2ST_ROWS)
    first = c2st(plan.model[0], plan.reference(0), max_points=n, seed=seed)
    rest = [c2st_accuracy(x, plan.reference(k), max_points=n, seed=seed) for k, x in enumerate(plan.model) if k]
    values = [first.accuracy, *rest]
    return Metric(
        value=float(np.mean(values)),
        std=float(np.std(values, ddof=1)) if rest else None,
        draws=len(values),
        floor=0.5,
        floor_std=first.std_error,
        floor_draws=PERMUTATIONS,
        n=n,
        what="accuracy of a cross-validated kernel classifier of samples and real rows; floor: labels permuted",
        better="0.5",
        error=first.std_error / math.sqrt(len(values)),
        details={
            "first_draw_accuracy": first.accuracy,
            "std_error": first.std_error,
            "p_value": first.p_value,
            "rows_judged": first.n,
        },
    )


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


def feature_maps(
    kind: Kind, train: np.ndarray, train_labels: np.ndarray | None, num: int, seed: int
) -> dict[str, FeatureMap]:
    """Name of the Frechet distance -> where it is taken."""
    maps: dict[str, FeatureMap] = {}
    if kind == "points":
        return maps
    if train_labels is not None and len(np.unique(train_labels)) > 1:
        maps["frechet_features"] = features.classifier_features(train, train_labels, num_classes=num, seed=seed)
    maps["frechet_pca"] = features.pca_features(train)
    return maps


def comparisons(
    kind: Kind, maps: dict[str, FeatureMap], train: np.ndarray, reference: np.ndarray, seed: int
) -> dict[str, Comparison]:
    """Name -> what is measured, for flattened rows of one kind."""
    every = MOST_ROWS[kind]
    out: dict[str, Comparison] = {}
    if kind != "image":
        what = "squared energy distance 2 E|X-Y| - E|X-X'| - E|Y-Y'|, V-statistic"
        out["energy"] = Comparison(metrics.energy_distance, what, "lower", every)
    if kind == "points":
        what = "exact 2-Wasserstein distance by optimal assignment, root taken"
        out["w2"] = Comparison(metrics.wasserstein2, what, "lower", _W2_ROWS)
    for name, mapping in maps.items():
        what = f"squared Frechet distance of Gaussians fitted to {mapping.what}"
        out[name] = Comparison(_in_features(mapping), what, "lower", every)
    for mapping in maps.values():
        if mapping.predict is not None:
            what = "total variation between the class shares of both sides, as the classifier sees them"
            out["class_shares"] = Comparison(_in_classes(mapping), what, "lower", every)
    what = "sliced 2-Wasserstein distance, 512 random directions, root taken"
    out["sliced_w2"] = Comparison(functools.partial(metrics.sliced_wasserstein2, seed=seed), what, "lower", every)
    space = next(iter(maps.values())) if kind == "image" else None
    where = "" if space is None else f", in the space of {space.what}"
    for name, function, what in (
        ("precision", metrics.precision, "samples in reach of a held-out row"),
        ("coverage", metrics.coverage, "held-out rows in whose reach a sample lies"),
    ):
        what = f"share of {what}: its ball to the {_NEIGHBOURS}th nearest other{where}"
        out[name] = Comparison(_in_space(function, space), what, "higher", every)
    if kind != "image":
        # One bandwidth for samples and floor, or they would not compare.
        width = _bandwidth(train[: len(reference)], reference)
        what = f"squared maximum mean discrepancy, Gaussian kernel, bandwidth {width:.3g} (median), V-statistic"
        out["mmd"] = Comparison(functools.partial(metrics.mmd, bandwidths=width), what, "lower", _W2_ROWS)
    return out


def _bandwidth(x: np.ndarray, y: np.ndarray) -> float:
    try:
        return metrics.median_bandwidth(x, y)
    except ValueError:  # more than half of the rows coincide: any scale of the data will do
        return float(np.concatenate([x, y]).std()) or 1.0


def _in_features(mapping: FeatureMap) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda x, y: metrics.frechet(mapping.features(x), mapping.features(y))


def _in_space(function: Callable[..., float], space: FeatureMap | None) -> Callable[[np.ndarray, np.ndarray], float]:
    if space is None:
        return functools.partial(function, k=_NEIGHBOURS)
    return lambda x, y: function(space.features(x), space.features(y), k=_NEIGHBOURS)


def _in_classes(mapping: FeatureMap) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda x, y: float(np.abs(_histogram(mapping, x) - _histogram(mapping, y)).sum() / 2)


_COPYING_WORDS = {
    "closer_to_train": ("share of (sample, held-out row) pairs with the sample nearer to the training rows", "0.5"),
    "near_copies": ("share of samples as near to a training row as the nearest 5 % of held-out rows", "0.05"),
    "prefers_train": ("share of samples with a nearer row among training than among equally many held-out rows", "0.5"),
}


def copied(samples: np.ndarray, train: np.ndarray, holdout: np.ndarray, draws: int, seed: int) -> dict[str, Metric]:
    """The rows on memorisation, see ``memorisation``."""
    some = samples[generator(seed, 13).permutation(len(samples))[:_COPYING_ROWS]]
    found = copying(some, train, holdout, draws=draws, seed=seed)
    preference = train_preference(some, train, holdout)
    out = {}
    for name, result in found.items():
        what, better = _COPYING_WORDS[name]
        what += f"; floor: the same for {result.floor_n} training rows taken out, resampled"
        out[name] = _metric([result.value], result.floor, len(some), what, better)
        if draws >= LEAST_DRAWS:
            # the floor's own rows, and the held-out rows that both are compared with, are finite samples too
            variance = max(len(some) * out[name].floor_std ** 2, NEAR * (1 - NEAR))
            error = math.sqrt(variance * (1 / len(some) + 1 / result.floor_n + 1 / len(holdout)))
            out[name] = dataclasses.replace(out[name], error=error)
    out["near_copies"].details["z_train_against_holdout"] = preference
    return out


def predicted(mapping: FeatureMap, x: np.ndarray) -> np.ndarray:
    """Classes ``[n]`` by the classifier behind a feature map."""
    assert mapping.predict is not None
    return mapping.predict(x)


def _histogram(mapping: FeatureMap, x: np.ndarray) -> np.ndarray:
    return np.bincount(predicted(mapping, x), minlength=mapping.num_classes) / len(x)


def class_shares(mapping: FeatureMap, samples: np.ndarray, real: np.ndarray, names: Sequence[str]) -> Json:
    """The names of the classes and their shares on both sides, as the classifier sees them."""
    shares = [_histogram(mapping, x).tolist() for x in (samples, real)]
    return {"names": list(names), "samples": shares[0], "real": shares[1]}


def agreement(mapping: FeatureMap, samples: np.ndarray, asked: np.ndarray, accuracy: float, held: int) -> Metric:
    """How often the classifier finds the class that was asked for."""
    return Metric(
        value=float(np.mean(predicted(mapping, samples) == asked)),
        std=None,
        draws=1,
        floor=accuracy,
        floor_std=math.sqrt(accuracy * (1 - accuracy) / held),
        error=math.sqrt(max(accuracy * (1 - accuracy), 1 / held) * (1 / held + 1 / len(samples))),
        floor_draws=1,
        n=len(samples),
        what="share of samples that the classifier gives the class asked for; floor: its accuracy on held-out rows",
        better="higher",
    )


def source(source: np.ndarray | None, starts: np.ndarray | None, samples: Samples, plan: Draws) -> Json | None:
    """How far the source is from the target, and how far the bridge moved each point."""
    out: Json = {}
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
