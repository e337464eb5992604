"""The loss over training, from the metrics that ``fit`` wrote."""

from __future__ import annotations

import json
import math
import os
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from bridgejax.evaluation._figures import GENERATED, new_figure, save

if TYPE_CHECKING:
    pass


def loss_curve(path: str | os.PathLike[str], metrics: str | os.PathLike[str], *, metric: str = "loss") -> pathlib.Path:
    """The loss of a run against its step: each recorded value, and their running mean.

    The mean runs over the tenth of the run around each step, so it does not lag behind. The axis is logarithmic when
    the values are positive and span more than a factor 5. Broken lines, and lines without a finite value, are left out.

    Args:
        path: PNG file to write.
        metrics: the run's ``metrics.jsonl``, one JSON object with ``step`` and ``loss`` per line.
        metric: which number to draw.

    Returns:
        The path; with nothing recorded the picture says so.

    Raises:
        FileNotFoundError: no such file.
    """
    steps, values = _history(metrics, metric)
    figure = new_figure(7.2, 4.2)
    axes = figure.subplots()
    axes.set_xlabel("step")
    axes.set_ylabel(metric)
    if not len(values):
        axes.text(0.5, 0.5, f"no {metric} recorded", ha="center", va="center", transform=axes.transAxes, fontsize=14)
        axes.set_xticks([])
        axes.set_yticks([])
        return save(figure, path)

    few = len(values) < 10
    label = "recorded" if len(values) > 1 else "the only value recorded"
    axes.plot(steps, values, color=GENERATED, alpha=0.9 if few else 0.3, linewidth=1, marker="o" if few else None)
    axes.lines[-1].set_label(label)
    if not few:
        smooth = _running_mean(values, max(2, len(values) // 20))
        axes.plot(steps, smooth, color=GENERATED, linewidth=2.2, label=f"running mean, {smooth[-1]:.4g} at the end")
    if values.min() > 0 and values.max() > 5 * values.min():
        axes.set_yscale("log")
        for which in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            which(lambda value, _: f"{value:g}")
    axes.set_title(f"{metric} to step {int(steps[-1])}", fontsize=12)
    axes.grid(alpha=0.25, which="both")
    axes.legend(frameon=False)
    figure.tight_layout()
    return save(figure, path)


def _history(metrics: str | os.PathLike[str], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and finite values, in the order of the steps; a step recorded twice counts with its last value."""
    found: dict[int, float] = {}
    for line in pathlib.Path(metrics).read_text().splitlines():
        try:
            record = json.loads(line)
        except ValueError:  # the run was killed while it wrote this line
            continue
        if not isinstance(record, dict):
            continue
        step, value = (_finite(record.get(name)) for name in ("step", metric))
        if step is not None and value is not None:
            found[int(step)] = value
    steps = sorted(found)
    return np.array(steps, np.float64), np.array([found[step] for step in steps], np.float64)


def _finite(value: Any) -> float | None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) else None


def _running_mean(values: np.ndarray, half: int) -> np.ndarray:
    """Mean of the values at most ``half`` places away, of fewer at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    # At the start, where a loss falls fastest, the window stays symmetric; at the end it keeps its past.
    start, stop = np.maximum(at - half, 0), np.minimum(at + np.minimum(half, at) + 1, len(values))
    return (sums[stop] - sums[start]) / (stop - start)
