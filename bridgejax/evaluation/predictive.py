"""How good are predictions of rows that the model has not seen, beside those of simpler models?

    numbers    RMSE; NLL, the mean of -log p(y), in nats a row; the share of rows inside central intervals
    classes    accuracy; NLL; Brier score, the mean of sum_c (p_c - [y = c])^2; calibration error of the likeliest class

All are in the units of the data: a density of y changes with its unit, so that NLL in centimetres is log 100 above that
in metres. Errors are standard errors over rows. Two models are compared row by row, and differ where the mean of the
difference of their log densities is more than two of its standard errors from 0.

A row whose inputs occur among the training rows as well is no test of prediction: the scores are taken again without.
"""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bridgejax._checks import as_real
from bridgejax._summary import summary
from bridgejax._types import Json, Numbers
from bridgejax.evaluation.records import _wrapped, save_json

LEVELS = (0.5, 0.8, 0.9, 0.95)
_CURVE = tuple(np.round(np.linspace(0.05, 0.95, 19), 2).tolist())  # of the calibration curve of numbers
_BINS = 10  # of the reliability of classes
_FEWEST = 20  # rows that say something of 90 % intervals
_FEW = 60  # different values at which a density can grow spikes


class Forecast(NamedTuple):
    """What a model says of n rows, in the data's units; None where it does not apply or was not asked for.

    Attributes:
        mean: of the target, (n,); of classes None.
        deviation: its standard deviation, noise included, (n,).
        log_prob: log density (of classes: probability) of the true target, (n,), in nats.
        cdf: probability of a target at most the true one, (n,).
        probabilities: of every class, (n, classes).
        quantiles: of the target, (levels, n).

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> said = bj.evaluation.Forecast(probabilities=np.array([[0.9, 0.1], [0.2, 0.8]]))
        >>> said.probabilities.shape
        (2, 2)
    """

    mean: np.ndarray | None = None
    deviation: np.ndarray | None = None
    log_prob: np.ndarray | None = None
    cdf: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    quantiles: np.ndarray | None = None

    __repr__ = summary


@dataclass(frozen=True)
class PredictionReport:
    """What ``evaluate_predictions`` found. ``str(report)`` is the table.

    Attributes:
        target: name of what is predicted.
        classes: their names; empty of numbers.
        rows: how many were predicted.
        repeated: how many of them have inputs that occur among the training rows.
        scores: model -> score -> value, of all rows; errors beside them as ``rmse_error``.
        scores_without: the same without the repeated rows; None where there is none.
        gains: other model -> nats a row by which the first is better, and ``error``.
        calibration: model -> ``nominal`` and ``observed`` shares (and ``rows`` of every bin of classes).
        words: what to conclude.
        notes: what limits these numbers.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> said = bj.evaluation.Forecast(probabilities=np.array([[0.9, 0.1], [0.2, 0.8]]))
        >>> report = bj.evaluation.evaluate_predictions({"model": said}, [0, 1], classes=("no", "yes"))
        >>> report.scores["model"]["accuracy"]
        1.0
    """

    target: str
    classes: tuple[str, ...]
    rows: int
    repeated: int
    scores: dict[str, Json]
    scores_without: dict[str, Json] | None
    gains: dict[str, Json]
    calibration: dict[str, Json]
    words: tuple[str, ...]
    notes: tuple[str, ...] = ()

    __repr__ = summary

    def to_dict(self) -> Json:
        """JSON values."""
        found = dataclasses.asdict(self)
        return found | {name: list(found[name]) for name in ("classes", "words", "notes")}

    def save(self, path: str | os.PathLike[str]) -> pathlib.Path:
        """Write ``to_dict`` as JSON, see ``save_json``."""
        return save_json(self.to_dict(), path)

    def table(self) -> str:
        """The report for a terminal: the verdict, then the scores."""
        lines = [f"VERDICT: {'; '.join(self.words)}", ""] if self.words else []
        kind = f"{len(self.classes)} classes" if self.classes else "in its own units"
        lines = [*_wrapped(lines), f"{self.target}, {kind}: {self.rows} rows", *_rows(self.scores)]
        if self.scores_without is not None:
            lines.append(f"without {self.repeated} rows whose inputs occur among the training rows as well:")
            lines += _rows(self.scores_without)
        inside = "in p: share of the rows in the central interval of that probability; mean sd: of what is predicted"
        return "\n".join((*lines, *_wrapped((*(() if self.classes else (inside,)), *self.notes))))

    def __str__(self) -> str:
        return self.table()


_TITLES = {
    "rmse": "RMSE", "accuracy": "accuracy", "nll": "NLL, nats a row", "deviation": "mean sd", "brier": "Brier",
    "calibration_error": "calib. error", **{f"inside_{round(100 * level)}": f"in {level:.0%}" for level in LEVELS},
}  # fmt: skip


def _rows(scores: dict[str, Json]) -> list[str]:
    names = [name for name in next(iter(scores.values())) if not name.endswith("_error") or name in _TITLES]
    names = [name for name in names if name in _TITLES]
    cells = [["model", *(_TITLES[name] for name in names)]]
    for model, found in scores.items():
        errors = (found.get(f"{name}_error") for name in names)
        cells.append([model, *(_shown(n, found[n], e) for n, e in zip(names, errors, strict=True))])
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    lines = ["  ".join(c.ljust(w) if not k else c.rjust(w) for k, (c, w) in enumerate(zip(r, widths, strict=True)))
             for r in cells]  # fmt: skip
    return [lines[0], "  ".join("-" * w for w in widths), *lines[1:]]


def _shown(name: str, value: float, error: float | None) -> str:
    if name.startswith("inside_"):
        return f"{value:.1%}"
    places = 3 if name != "rmse" and name != "deviation" else max(0, 3 - math.floor(math.log10(value or 1.0)))
    places = min(places, 6)
    return f"{value:.{places}f}" + ("" if error is None else f" ± {error:.{places}f}")


# what is measured -----------------------------------------------------------------------------------------------------


def evaluate_predictions(
    models: Mapping[str, Forecast],
    truth: Numbers,
    *,
    classes: Sequence[str] = (),
    repeated: Numbers | None = None,
    target: str = "target",
    notes: Sequence[str] = (),
) -> PredictionReport:
    """Compare predictions of a model with the truth, and with those of others of the same rows.

    Args:
        models: what each says, by its name; the first is the one that is judged.
        truth: (n,), in the data's units; of classes their indices.
        classes: their names; empty: the target is numbers.
        repeated: (n,), True for rows whose inputs occur among the training rows.
        target: its name.
        notes: sentences that go with the numbers.

    Returns:
        A ``PredictionReport``.

    Raises:
        ValueError: fewer than 2 rows, forecasts that lack a part or have another number of rows, indices of classes out
            of range, probabilities that do not sum to 1.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> y = np.array([0.0, 1.0, 2.0])
        >>> said = bj.evaluation.Forecast(y + 0.1, np.ones(3), -0.5 * np.full(3, 0.01) - 0.919, np.full(3, 0.46))
        >>> round(bj.evaluation.evaluate_predictions({"model": said}, y).scores["model"]["rmse"], 3)
        0.1
    """
    if not models:
        raise ValueError("models is empty; expected at least one, the one that is judged, by its name")
    y = np.asarray(as_real(truth, "truth"), np.float64)
    if y.ndim != 1 or len(y) < 2 or not np.isfinite(y).all():
        raise ValueError(f"truth must be at least 2 finite numbers, shape (n,), got shape {y.shape}")
    classes = tuple(map(str, classes))
    if classes and not np.isin(y, np.arange(len(classes))).all():
        raise ValueError(f"truth must be indices 0 .. {len(classes) - 1} of the {len(classes)} classes")
    again = np.zeros(len(y), bool) if repeated is None else np.asarray(repeated)
    if again.shape != y.shape or again.dtype != bool:
        raise ValueError(f"repeated must be {len(y)} booleans, one for each row, got {again.dtype} {again.shape}")
    for name, said in models.items():
        _check(name, said, len(y), len(classes))
    count = int(again.sum())
    few = len(y) - count < 2
    first, *others = models
    logs = {name: _log_prob(said, y) for name, said in models.items()}
    gains = {name: _gain(logs[first] - logs[name]) for name in others}
    calibration = {name: _calibration(said, y) for name, said in models.items()}
    notes = list(notes)
    distinct = len(np.unique(y))
    if not classes and distinct <= min(_FEW, len(y) // 2):
        notes.append(
            f"{target} has {distinct} different values here: a density can grow spikes at such, so read NLL with care"
        )
    if count and few:
        notes.append(f"{count} rows have inputs that occur among the training rows: too few are left without")
    return PredictionReport(
        target=target,
        classes=classes,
        rows=len(y),
        repeated=count,
        scores={name: _scores(said, y) for name, said in models.items()},
        scores_without=None if not count or few else {
            name: _scores(_taken(said, ~again), y[~again]) for name, said in models.items()
        },
        gains=gains,
        calibration=calibration,
        words=tuple(_words(first, gains, models[first], y)),
        notes=tuple(notes),
    )  # fmt: skip


def _check(name: str, said: Forecast, rows: int, classes: int) -> None:
    parts = {"probabilities": (rows, classes)} if classes else dict.fromkeys(Forecast._fields[:4], (rows,))
    for part, shape in parts.items():
        value = getattr(said, part, None)
        if value is None or np.shape(value) != shape or not np.isfinite(np.asarray(value)).all():
            got = "None" if value is None else f"shape {np.shape(value)}"
            raise ValueError(f"{part} of model {name!r} must be finite numbers of shape {shape}, got {got}")
    if classes:
        p = np.asarray(said.probabilities)
        if np.any(p < 0) or np.abs(p.sum(axis=1) - 1.0).max() > 1e-3:
            raise ValueError(f"probabilities of model {name!r} must be at least 0 and sum to 1 in every row")


def _taken(said: Forecast, rows: np.ndarray) -> Forecast:
    scored = said._replace(quantiles=None)  # which have their rows in the second axis
    return Forecast(*(None if part is None else np.asarray(part)[rows] for part in scored))


def _log_prob(said: Forecast, y: np.ndarray) -> np.ndarray:
    if said.probabilities is None:
        return np.asarray(said.log_prob, np.float64)
    own = np.asarray(said.probabilities, np.float64)[np.arange(len(y)), y.astype(int)]
    return np.log(np.maximum(own, np.finfo(np.float32).tiny))


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else float("nan")


def _gain(differences: np.ndarray) -> Json:
    return {"nats": float(differences.mean()), "error": _error(differences)}


def inside(said: Forecast, level: float) -> np.ndarray:
    """Whether every truth lies in the central interval of that probability."""
    return np.abs(np.asarray(said.cdf) - 0.5) <= 0.5 * level


def _scores(said: Forecast, y: np.ndarray) -> Json:
    logs = -_log_prob(said, y)
    nll = {"nll": float(logs.mean()), "nll_error": _error(logs)}
    if said.probabilities is not None:
        p = np.asarray(said.probabilities, np.float64)
        right = (np.argmax(p, axis=1) == y).astype(float)
        truth = np.eye(p.shape[1])[y.astype(int)]
        brier = np.sum((p - truth) ** 2, axis=1)
        reliability = _calibration(said, y)
        shares = np.asarray(reliability["rows"]) / len(y)
        gap = np.abs(np.asarray(reliability["observed"]) - np.asarray(reliability["nominal"]))
        return {
            "accuracy": float(right.mean()), "accuracy_error": _error(right), **nll,
            "brier": float(brier.mean()), "brier_error": _error(brier),
            "calibration_error": float(np.sum(shares * gap)),
        }  # fmt: skip
    squares = (np.asarray(said.mean) - y) ** 2
    rmse = math.sqrt(squares.mean())
    found: Json = {"rmse": rmse, "rmse_error": _error(squares) / (2 * rmse) if rmse > 0 else 0.0, **nll}
    found["deviation"] = float(np.mean(np.asarray(said.deviation)))
    return found | {f"inside_{round(100 * level)}": float(inside(said, level).mean()) for level in LEVELS}


def _calibration(said: Forecast, y: np.ndarray) -> Json:
    """Of numbers the shares of rows in central intervals; of classes how often the likeliest is right, by its share."""
    if said.probabilities is None:
        return {"nominal": list(_CURVE), "observed": [float(inside(said, level).mean()) for level in _CURVE]}
    p = np.asarray(said.probabilities, np.float64)
    top, right = p.max(axis=1), np.argmax(p, axis=1) == y
    bins = np.minimum((top * _BINS).astype(int), _BINS - 1)
    held = [bins == k for k in range(_BINS) if np.any(bins == k)]
    return {
        "nominal": [float(top[rows].mean()) for rows in held],
        "observed": [float(right[rows].mean()) for rows in held],
        "rows": [int(rows.sum()) for rows in held],
    }


def _by(name: str, gain: Json) -> str:
    return f"{name} ({gain['nats']:+.3f} ± {gain['error']:.3f})"


def _words(first: str, gains: dict[str, Json], said: Forecast, y: np.ndarray) -> list[str]:
    words = [
        f"{first} {verb} {', '.join(parts)}"
        for verb, parts in (
            ("is better, in nats a row, than", [_by(n, g) for n, g in gains.items() if g["nats"] > 2 * g["error"]]),
            ("is worse, in nats a row, than", [_by(n, g) for n, g in gains.items() if -g["nats"] > 2 * g["error"]]),
            ("cannot be told from", [_by(n, g) for n, g in gains.items() if abs(g["nats"]) <= 2 * g["error"]]),
        )
        if parts
    ]
    if said.probabilities is not None or len(y) < _FEWEST:
        return words
    level = 0.9
    share, spread = float(inside(said, level).mean()), 2 * math.sqrt(level * (1 - level) / len(y))
    low, high = level - spread, min(level + spread, 1.0)
    judged = "as wide as they should be" if low <= share <= high else "too narrow" if share < low else "too wide"
    return [*words, f"its 90 % intervals hold {share:.1%} of the rows ({low:.1%} to {high:.1%} expected): {judged}"]
