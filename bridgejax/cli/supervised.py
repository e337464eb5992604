"""The end of ``train`` and ``evaluate`` for a table with a target: held-out rows predicted, measured, drawn.

Beside the run stand models that cost seconds: a sparse Gaussian process (of classes the one-layer model, trained here),
a linear one, and one that does not look at the inputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from bridgejax.data.tables import text_of, write_csv
from bridgejax.evaluation import Forecast, PredictionReport, baselines, evaluate_predictions, plots
from bridgejax.gp import bernoulli, softmax
from bridgejax.methods import deep_gp, predict
from bridgejax.runs import Run
from bridgejax.runs.config import Config
from bridgejax.runs.data import RunData
from bridgejax.runs.predictions import predicted_at
from bridgejax.training import adam, fit

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_SPARSE = 64  # inducing inputs of the sparse model, unless the run says how many it has
_UPDATES = 800  # of the one-layer model of classes
_DIGITS = 6  # of what is written, which draws are not as precise as


def repeats(data: RunData) -> tuple[np.ndarray, int]:
    """Which held-out rows have inputs that occur among the training rows, and how many of these the same target."""
    assert data.source is not None
    assert data.source_holdout is not None
    again, seen = occurring(data.source.x, data.source_holdout.x)
    of = zip(seen, data.holdout.values[:, 0], strict=True)
    return again, sum(float(y) in data.train.values[rows, 0] for rows, y in of if rows)


def occurring(train: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, list[list[int]]]:
    """Whether each row of x is a row of ``train``, and which rows it is."""
    places: dict[bytes, list[int]] = {}
    for k, row in enumerate(np.ascontiguousarray(train, np.float32)):
        places.setdefault(row.tobytes(), []).append(k)
    seen = [places.get(row.tobytes(), []) for row in np.ascontiguousarray(x, np.float32)]
    return np.array([bool(rows) for rows in seen], bool), seen


def _others(data: RunData, inducing: int) -> tuple[dict[str, Forecast], list[str]]:
    """What simpler models say of the held-out rows, by their names, and remarks."""
    assert data.source is not None
    assert data.source_holdout is not None
    x, at = data.source.x, data.source_holdout.x
    y, truth, classes = data.train.x[:, 0], data.holdout.values[:, 0], data.train.num_classes
    units = float(data.train.shift[0]), float(data.train.scale[0])
    if classes:
        sparse, rows = _sparse_classes(x, y, at, classes, min(inducing, len(np.unique(x, axis=0)))), len(x)
    else:
        sparse, rows = baselines.sparse_gp(x, y, at, truth, *units, inducing)
    said = {
        "sparse GP": sparse,
        "linear": baselines.linear(x, y, at, truth, *units, classes),
        "constant": baselines.constant(y, truth, *units, classes),
    }
    of = "" if rows == len(x) else f", of {rows} training rows"
    words = f"sparse GP: one layer, {min(inducing, len(x))} inducing inputs{of}; linear: all inputs; constant: none"
    return said, [words]


def _sparse_classes(x: np.ndarray, y: np.ndarray, at: np.ndarray, classes: int, inducing: int) -> Forecast:
    likelihood = bernoulli() if classes == 2 else softmax(classes)
    how = adam(1e-2, clip=10.0, steps=_UPDATES)
    method = deep_gp(x, y, posterior="full", layers=1, inducing=inducing, likelihood=likelihood, optimizer=how)
    batch = {"source": x, "target": y[:, None]}
    state = fit(method, batch, jax.random.key(0), steps=_UPDATES, batch_size=min(256, len(x)), progress=False)
    said = predict(method.process(state), jax.random.key(1), at, draws=64)
    return Forecast(probabilities=np.asarray(said.probabilities, np.float64))


def report_predictions(
    run: Run, config: Config, data: RunData, directory: Path, draws: int, seed: int, names: tuple[str, str]
) -> PredictionReport:
    """Predict the held-out rows, measure, draw, and leave the files ``NAME.csv``, ``NAME.png`` and ``REPORT.json``."""
    assert data.source_holdout is not None
    name, report_name = names
    truth, x = data.holdout.values[:, 0], data.source_holdout.x
    said = predicted_at(run, jax.random.key(seed), x, truth, draws, QUANTILES)
    again, same = repeats(data)
    others, notes = _others(data, getattr(config.options, "inducing", None) or _SPARSE)
    if again.any():
        notes.append(
            f"the inputs of {int(again.sum())} held-out rows occur among the training rows, of {same} with the same "
            "target"
        )
    found = evaluate_predictions(
        {config.method: said, **others},
        truth,
        classes=run.classes,
        repeated=again,
        target=data.holdout.columns[0],
        notes=notes,
    )
    if any(gain["nats"] < -2 * gain["error"] for gain in found.gains.values()):
        hint = (
            "a simpler model predicts better: train longer (--steps), with more inducing inputs (--inducing), or use it"
        )
        found = dataclasses.replace(found, notes=(hint, *found.notes))
    found.save(directory / f"{report_name}.json")
    target = data.holdout.columns[0]
    shown = [run.classes[int(y)] for y in truth] if run.classes else [text_of(y) for y in truth]
    columns = [("true " + target, shown), *prediction_columns(said, target, run.classes, QUANTILES)]
    save_columns(directory / f"{name}.csv", columns)
    ends = None if said.quantiles is None else said.quantiles[[0, -1]]
    plots.predictions(directory / f"{name}.png", found, said, truth, ends, repeated=again)
    return found


def prediction_columns(
    said: Forecast, target: str, classes: Sequence[str], levels: Sequence[float]
) -> list[tuple[str, list[str]]]:
    """Names and texts of what was predicted."""
    if said.probabilities is not None:
        best = [str(classes[k]) for k in np.argmax(said.probabilities, axis=1)]
        shares = [(f"P({c})", _texts(said.probabilities[:, k])) for k, c in enumerate(classes)]
        return [(f"{target} likeliest", best), *shares]
    assert said.mean is not None
    assert said.deviation is not None
    found = [(f"{target} mean", _texts(said.mean)), (f"{target} sd", _texts(said.deviation))]
    if said.quantiles is not None:
        found += [(f"{target} {100 * p:g}%", _texts(q)) for p, q in zip(levels, said.quantiles, strict=True)]
    return found


def _texts(values: np.ndarray) -> list[str]:
    return [f"{v:.{_DIGITS}g}" for v in values]


def save_columns(path: Path, columns: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Columns of text under their names."""
    write_csv(path, list(zip(*(texts for _, texts in columns), strict=True)), [name for name, _ in columns])
