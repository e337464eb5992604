"""What a person should conclude from a report: sentences by rules that use its floors and their spread only.

Every metric was also taken of real rows in the place of samples: its floor. With e the standard error of
(value - floor) where both are of one law (``Metric.error``),

    z = (value - floor) / e        of a share or an accuracy, turned so that more is worse
    z = 2 floor (sqrt(value / floor) - 1) / e        of a distance, whose root has the more even spread

Beyond z = 4 is a finding; all else is not mentioned. Then

    grade      like real        nothing below is found
               unlike real      a distance is that of fewer than 100 real rows, or a classifier is right in 3 of 4 cases
               close to real    something is found, and neither of these
    rows       a squared distance between two real samples is proportional to 1/n' + 1/n, so one that is r times its
               floor is that of n' = n / (2 r - 1) real rows: a size that does not depend on n
    strays     precision beyond: the share 1 - value / floor of the samples lies where no data are
    missing    coverage beyond: the share 1 - value / floor of the data has no sample near
    copies     near_copies beyond, and training rows have more samples that near than held-out rows (beyond too): the
               second is what a model that is smoother than its data does not show
    column     mean or standard deviation of a column beyond, the worst of them

Where a share is not beyond, its bound is said: the estimate and two standard errors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

BEYOND = 4.0
_ROWS = 100  # below which a distance is large
_TELLS = 0.75  # accuracy from which a classifier tells samples from real rows
_SQUARED = ("energy", "mmd", "frechet_features", "frechet_pca")
_ROOTED = ("sliced_w2", "class_shares")  # their squares are proportional to 1/n' + 1/n
_OTHERS = ("w2",)  # by n in no simple way
_WORDS = {
    "energy": "energy distance",
    "mmd": "MMD",
    "frechet_features": "Frechet distance of classifier features",
    "frechet_pca": "Frechet distance of principal components",
    "sliced_w2": "sliced W2",
    "class_shares": "shares of the classes",
    "w2": "W2",
}


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The conclusion of a report.

    Attributes:
        grade: ``"like real"``, ``"close to real"`` or ``"unlike real"``; None where the floors have too few draws
            to judge by their spread.
        told_apart_by: names of the metrics beyond their floors.
        real_rows: the least n' of the distances beyond their floors; None where none is.
        strays: share of samples where no data are, 0 where not beyond; None where not measured.
        missing: share of the data without samples, likewise.
        copies: whether training rows are copied; None where not measured.
        words: sentences.
    """

    grade: str | None
    told_apart_by: tuple[str, ...]
    real_rows: int | None
    strays: float | None
    missing: float | None
    copies: bool | None
    words: tuple[str, ...]


def conclude(metrics: Mapping[str, Any], column: Column | None = None) -> Verdict:
    """The verdict on metrics, name -> ``records.Metric``.

    Args:
        metrics: of ``evaluate``.
        column: the worst column, where there are columns.
    """
    if any(m.z is None for m in metrics.values()):
        return Verdict(
            None,
            (),
            None,
            None,
            None,
            None,
            ("no verdict: floors of fewer than 10 draws, or of the same rows each, have no spread to judge by",),
        )
    compared = [name for name in metrics if name in (*_SQUARED, *_ROOTED, *_OTHERS, "c2st")]
    beyond = [name for name in compared if metrics[name].z > BEYOND]
    sizes = {name: _real_rows(metrics[name], name) for name in beyond if name in (*_SQUARED, *_ROOTED)}
    tells = "c2st" in beyond and metrics["c2st"].value >= _TELLS
    rows = min(sizes.values(), default=None)
    strays, of_strays = _share(metrics.get("precision"), "strays (no data near)", "no strays")
    missing, of_missing = _share(metrics.get("coverage"), "of the data missing (no sample near)", "nothing missing")
    grade = "like real"
    if beyond or column is not None or strays or missing:
        grade = "unlike real" if tells or (rows is not None and rows < _ROWS) else "close to real"
    words = [_first(grade, metrics, beyond, sizes), *of_strays, *of_missing]
    if column is not None:
        words.append(str(column))
    copies = None
    near = metrics.get("near_copies")
    if near is not None:
        copies = near.z > BEYOND and near.details["z_train_against_holdout"] > BEYOND
        how = f"{near.value:.0%} of the samples lie as near to a training row as {near.floor:.0%} of real rows do"
        words.append(f"copies rows: yes ({how})" if copies else "copies rows: no")
    return Verdict(grade, tuple(beyond), rows, strays, missing, copies, tuple(words))


def _first(grade: str, metrics: Mapping[str, Any], beyond: Sequence[str], sizes: Mapping[str, int]) -> str:
    n = max(m.n for m in metrics.values())
    if not beyond:
        return f"{grade} ({n} samples: every distance at its floor)"
    clauses = []
    if sizes:
        name = min(sizes, key=sizes.__getitem__)
        ratio, size = metrics[name].ratio, sizes[name]
        as_far = f": as far from the data as {size} real rows" if size > 1 else ""
        clauses.append(f"{_WORDS[name]} {ratio:.3g} times its floor{as_far}")
    elif "w2" in beyond:
        clauses.append(f"W2 {metrics['w2'].ratio:.3g} times its floor")
    if "c2st" in beyond:
        clauses.append(f"a classifier is right in {metrics['c2st'].value:.0%} of cases")
    return f"{grade} ({'; '.join(clauses)})"


def _real_rows(metric: Any, name: str) -> int:
    """N' of a distance above its floor."""
    ratio = np.inf if metric.ratio is None else metric.ratio ** (1 if name in _SQUARED else 2)
    return max(1, round(metric.n / (2 * ratio - 1)))


def _share(metric: Any, what: str, none: str) -> tuple[float | None, list[str]]:
    """The share lost from the floor, and what to say of it."""
    if metric is None:
        return None, []
    if metric.floor <= 0:
        return 0.0, []
    lost, error = 1 - metric.value / metric.floor, metric.error / metric.floor
    if metric.z > BEYOND:
        return lost, [f"about {_percent(lost)} {what}"]
    return 0.0, [f"{none} seen (at most {_percent(max(lost, 0.0) + 2 * error)})"]


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


@dataclasses.dataclass(frozen=True)
class Column:
    """A column whose mean or standard deviation differs.

    Attributes:
        name: of the column.
        shift: difference of the means, in standard deviations of the real column.
        spread: ratio of the standard deviations.
        z_shift: of the first, in standard errors.
        z_spread: of the logarithm of the second.
    """

    name: str
    shift: float
    spread: float
    z_shift: float
    z_spread: float

    def __str__(self) -> str:
        if abs(self.z_shift) >= abs(self.z_spread):
            return f"{self.name}: mean off by {self.shift:+.2g} standard deviations"
        return f"{self.name}: standard deviation {self.spread:.2g} times the real one"


def worst_column(samples: np.ndarray, real: np.ndarray, names: Sequence[str] = ()) -> Column | None:
    """The column whose mean or standard deviation is most standard errors off; None where none is beyond.

    With n samples, m real rows and kurtosis k, the standard errors are s sqrt(1/n + 1/m) of the difference of the means
    and sqrt((k - 1) / 4 (1/n + 1/m)) of the logarithm of the ratio of the standard deviations.

    Args:
        samples: ``[n, d]``.
        real: ``[m, d]``.
        names: of the columns; "column 1" and so on.
    """
    mean, std = real.mean(axis=0), real.std(axis=0)
    moves = std > 0
    safe = np.where(moves, std, 1.0)
    kurtosis = np.mean(((real - mean) / safe) ** 4, axis=0)
    share = 1 / len(samples) + 1 / len(real)
    shift, spread = (samples.mean(axis=0) - mean) / safe, samples.std(axis=0) / safe
    z_shift = shift / np.sqrt(share)
    error = np.sqrt(np.maximum(kurtosis - 1, 0.5) / 4 * share)
    z_spread = np.log(np.maximum(spread, 1e-9)) / error
    z = np.where(moves, np.maximum(np.abs(z_shift), np.abs(z_spread)), 0.0)
    k = int(np.argmax(z))
    if z[k] <= BEYOND:
        return None
    name = str(names[k]) if k < len(names) else f"column {k + 1}"
    return Column(name, float(shift[k]), float(spread[k]), float(z_shift[k]), float(z_spread[k]))
