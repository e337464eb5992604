"""Predictions against the truth, and whether their probabilities are what they say."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bridgejax._types import Json
from bridgejax.evaluation._figures import GENERATED, REALS, fits, new_figure, save
from bridgejax.evaluation.arrays import generator
from bridgejax.evaluation.predictive import Forecast, PredictionReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS = 1000
_MOST_CLASSES = 12  # that a table of counts has room for


def predictions(
    path: str | os.PathLike[str],
    report: PredictionReport,
    said: Forecast,
    truth: np.ndarray,
    ends: np.ndarray | None = None,
    *,
    repeated: np.ndarray | None = None,
) -> pathlib.Path:
    """Two panels: what is predicted over the truth, and the calibration of all models of a report.

    Numbers: means with their central 90 % intervals, at most 1,000 rows; the share of rows inside the central interval
    of every probability, with the band in which it lies 19 times of 20 where the probabilities are right. Classes: how
    many rows of a class are predicted as which; how often the likeliest class is right, by its probability.

    Args:
        path: PNG file to write.
        report: of ``evaluate_predictions``; its first model is the one that is drawn.
        said: what that model says.
        truth: (n,), in the data's units, or indices of classes.
        ends: (2, n), of numbers the ends of the intervals.
        repeated: (n,), True for rows whose inputs occur among the training rows: drawn hollow.

    Returns:
        The path.
    """
    figure = new_figure(10.4, 5.0)
    left, right = figure.subplots(1, 2)
    if report.classes:
        _counts(left, np.asarray(said.probabilities), truth, report.classes)
    else:
        _against(left, said, truth, ends, np.zeros(len(truth), bool) if repeated is None else repeated)
        left.set_xlabel(f"{report.target}, true")
        left.set_ylabel(f"{report.target}, predicted")
    _calibration(right, report)
    title = f"{report.target}: {next(iter(report.scores))}, {report.rows} held-out rows"
    figure.suptitle(title, fontsize=fits(title, 900, 13), fontweight="bold", color=GENERATED)
    figure.tight_layout()
    return save(figure, path)


def _against(axes: Axes, said: Forecast, truth: np.ndarray, ends: np.ndarray | None, repeated: np.ndarray) -> None:
    mean = np.asarray(said.mean)
    rows = np.sort(generator(0, 52).permutation(len(truth))[:_POINTS])
    if ends is not None:
        beyond = np.abs(np.asarray(ends)[:, rows] - mean[rows])
        axes.errorbar(
            truth[rows], mean[rows], beyond, fmt="none", ecolor=GENERATED, elinewidth=0.8, alpha=0.35, zorder=1
        )
    for again, face, label in ((False, GENERATED, ""), (True, "white", "inputs occur in training rows")):
        some = rows[repeated[rows] == again]
        if len(some):
            axes.scatter(
                truth[some], mean[some], s=14, facecolors=face, edgecolors=GENERATED, linewidths=0.8, label=label,
                zorder=2,
            )  # fmt: skip
    low, high = (float(f(truth)) for f in (np.min, np.max))
    room = 0.05 * (high - low)
    axes.plot([low - room, high + room], [low - room, high + room], color=REALS[0], linewidth=1.0, zorder=0)
    if repeated.any():
        axes.legend(fontsize=8, frameon=False)
    axes.set_title("mean and 90 % interval", fontsize=10)
    axes.grid(alpha=0.2)


def _counts(axes: Axes, probabilities: np.ndarray, truth: np.ndarray, classes: Sequence[str]) -> None:
    count = len(classes)
    counts = np.zeros((count, count), int)
    np.add.at(counts, (truth.astype(int), np.argmax(probabilities, axis=1)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    if count <= _MOST_CLASSES:
        names = [name if len(name) <= 12 else name[:11] + "." for name in classes]
        axes.set_xticks(range(count), names, rotation=45 if max(map(len, names)) > 3 else 0, fontsize=8)
        axes.set_yticks(range(count), names, fontsize=8)
        for i, j in np.ndindex(count, count):
            if counts[i, j]:
                axes.text(
                    j, i, str(counts[i, j]), ha="center", va="center", fontsize=9,
                    color="white" if shares[i, j] > 0.5 else REALS[0],
                )  # fmt: skip
    axes.set_xlabel("likeliest class")
    axes.set_ylabel("true class")
    axes.set_title("rows; colour: share of the true class", fontsize=10)


def _calibration(axes: Axes, report: PredictionReport) -> None:
    colours = (GENERATED, *REALS[1:], REALS[0])
    for k, (name, found) in enumerate(report.calibration.items()):
        style: Json = {"color": colours[k % len(colours)], "linewidth": 1.8 if k == 0 else 1.0, "label": name}
        sizes = np.clip(400.0 * np.asarray(found["rows"]) / report.rows, 8, 120) if report.classes else 0
        axes.plot(found["nominal"], found["observed"], **style)
        if report.classes:
            axes.scatter(found["nominal"], found["observed"], s=sizes, color=style["color"], alpha=0.6)
    nominal = np.linspace(0.0, 1.0, 101)
    if not report.classes:
        spread = 2.0 * np.sqrt(nominal * (1.0 - nominal) / report.rows)
        axes.fill_between(nominal, nominal - spread, nominal + spread, color=REALS[0], alpha=0.12, linewidth=0)
    axes.plot(nominal, nominal, color=REALS[0], linewidth=0.8, linestyle="--")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_box_aspect(1)
    axes.grid(alpha=0.2)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    words = ("probability of the likeliest class", "share in which it is right") if report.classes else None
    x, y = words or ("probability of a central interval", "share of rows inside")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title("calibration", fontsize=10)
