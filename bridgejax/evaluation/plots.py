"""Pictures that show at a glance whether a model works: generated beside real, on one scale.

Every function writes one PNG and returns its path. Matplotlib is imported when a picture is drawn, and its global state
(pyplot, the backend) is never touched, so that pictures can be drawn in a thread, without a display, or in a notebook.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from bridgejax.evaluation.arrays import flat, generator

_GENERATED, _REAL, _SOURCE = "#1f5fbf", "#3a3a3a", "#b8860b"
# Between images: no grey, so that it is never taken for a stroke, and the side's own tint.
_GENERATED_LINE, _REAL_LINE = (48, 84, 145), (92, 86, 76)
_DPI = 100
_CELL = 54  # screen pixels per image, about
_POINTS = 4000


def _figure(width: float, height: float) -> Any:
    """An empty figure of width x height inches at 100 pixels per inch."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("pictures need matplotlib: pip install 'bridgejax[run]'") from None
    return Figure(figsize=(width, height), dpi=_DPI, facecolor="white")


def _save(figure: Any, path: str | os.PathLike[str]) -> pathlib.Path:
    """Write the figure; the file is replaced whole, never half-written."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".tmp")
    figure.savefig(beside, format="png", dpi=_DPI)
    os.replace(beside, path)
    return path


# images -------------------------------------------------------------------------------------------------------------


def image_grid(
    path: str | os.PathLike[str],
    samples: Any,
    real: Any,
    *,
    labels: Any = None,
    real_labels: Any = None,
    columns: int = 10,
    rows: int = 8,
) -> pathlib.Path:
    """Generated images on the left, real ones on the right, each pixel a crisp square.

    The scale of grey and colour is that of the real images; generated values beyond it are clipped. With labels on
    both sides column k holds class k (the first ``columns`` classes); else images come in the order given.

    Args:
        path: PNG file to write.
        samples: ``[n, h, w, c]`` or ``[n, h, w]``, c in 1 to 4 (2 shows the first channel, 4 drops the last).
        real: ``[m, h, w, c]``, in the same unit.
        labels: class of each sample ``[n]``, or None.
        real_labels: class of each real image ``[m]``, or None.
        columns: images in a row, on either side.
        rows: the most rows.

    Returns:
        The path.

    Raises:
        ValueError: for other shapes, no images, NaN or infinity.
    """
    samples, real = _images(samples, "samples"), _images(real, "real")
    if samples.shape[1:] != real.shape[1:]:
        raise ValueError(f"samples and real must be images of one shape, got {samples.shape[1:]} and {real.shape[1:]}")
    by_class = labels is not None and real_labels is not None
    sides = []
    for x, classes, name in ((samples, labels, "labels"), (real, real_labels, "real_labels")):
        if by_class:
            classes = np.asarray(classes)
            if classes.shape != (len(x),):
                raise ValueError(f"{name} has shape {classes.shape}; expected one class per image, ({len(x)},)")
            order = [np.flatnonzero(classes == k)[:rows] for k in range(min(columns, int(classes.max()) + 1))]
            sides.append([[x[c[r]] if r < len(c) else None for c in order] for r in range(max(map(len, order)))])
        else:
            sides.append([list(x[r : r + columns]) for r in range(0, min(len(x), rows * columns), columns)])

    low, high = float(real.min()), float(real.max())
    height, width, channels = real.shape[1:]
    zoom = max(1, round(_CELL / max(height, width)))
    wide = max(len(line) for side in sides for line in side)
    tall = max(len(side) for side in sides)
    shape = (height, width, channels)
    mosaics = [
        _mosaic(side, tall, wide, shape, zoom, low, high, line)
        for side, line in zip(sides, (_GENERATED_LINE, _REAL_LINE), strict=True)
    ]

    gap, head, margin = 46, 44, 16
    h, w = mosaics[0].shape[:2]
    w_all, h_all = max(2 * w + gap + 2 * margin, 360), h + head + margin
    figure = _figure(w_all / _DPI, h_all / _DPI)
    texts = ("GENERATED", "REAL")
    for k, (mosaic, text, colour) in enumerate(zip(mosaics, texts, (_GENERATED, _REAL), strict=True)):
        left = (w_all - 2 * w - gap) / 2 + k * (w + gap)
        axes = figure.add_axes((left / w_all, margin / h_all, w / w_all, h / h_all))
        axes.imshow(mosaic, interpolation="nearest", aspect="auto")
        axes.set_title(text, fontsize=16, fontweight="bold", color=colour, pad=8)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set(color=colour, linewidth=3)
    return _save(figure, path)


def _images(x: Any, name: str) -> np.ndarray:
    x = np.asarray(x)
    flat(x, name)
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4 or not 1 <= x.shape[3] <= 4:
        raise ValueError(f"{name} has shape {x.shape}; expected images [n, h, w, c] with 1 to 4 channels, or [n, h, w]")
    return x[..., :1] if x.shape[3] <= 2 else x[..., :3]


def _mosaic(
    grid: list[list[Any]],
    tall: int,
    wide: int,
    shape: tuple[int, int, int],
    zoom: int,
    low: float,
    high: float,
    colour: tuple[int, int, int],
) -> np.ndarray:
    """uint8 ``[H, W, 3]``, every image magnified by a whole number, lines of one colour between them."""
    height, width, _ = shape
    h, w, line = height * zoom, width * zoom, 4
    out = np.full((tall * (h + line) + line, wide * (w + line) + line, 3), np.array(colour, np.uint8))
    for r in range(tall):
        for c in range(wide):
            image = grid[r][c] if r < len(grid) and c < len(grid[r]) else None
            y, x = line + r * (h + line), line + c * (w + line)
            if image is None:
                out[y : y + h, x : x + w] = 255
                continue
            grey = np.clip((np.asarray(image, np.float64) - low) / ((high - low) or 1.0), 0, 1)
            pixels = np.broadcast_to(np.rint(255 * grey).astype(np.uint8), (height, width, 3))
            out[y : y + h, x : x + w] = pixels.repeat(zoom, axis=0).repeat(zoom, axis=1)
    return out


# points and tables --------------------------------------------------------------------------------------------------


def scatter(path: str | os.PathLike[str], samples: Any, real: Any, source: Any = None) -> pathlib.Path:
    """Points in the plane: (the source,) generated and real side by side, on the same axes, equally many of each.

    The axes are those of the real points (and the source) and 15 % beyond, with one unit for both coordinates where
    their ranges are within a factor of 3; points outside are counted in the title. At most 4,000 points are shown of
    each.

    Args:
        path: PNG file to write.
        samples: ``[n, 2]``.
        real: ``[m, 2]``.
        source: ``[k, 2]``, where a bridge starts, or None.

    Returns:
        The path.

    Raises:
        ValueError: for other shapes, NaN or infinity.
    """
    panels = [("GENERATED", samples, _GENERATED), ("REAL", real, _REAL)]
    if source is not None:
        panels.insert(0, ("SOURCE", source, _SOURCE))
    clouds = [(text, _columns(x, text.lower(), 2), colour) for text, x, colour in panels]
    shown = min(_POINTS, *(len(x) for _, x, _ in clouds))
    target = clouds[-1][1] if source is None else np.concatenate([clouds[-1][1], clouds[0][1]])
    low, high = _square(*_limits(target))
    figure = _figure(4.4 * len(clouds), 4.7)
    grid = figure.subplots(1, len(clouds), sharex=True, sharey=True, squeeze=False)[0]
    size = float(np.clip(14_000 / shown, 3.5, 16))
    for axes, (text, x, colour) in zip(grid, clouds, strict=True):
        x = _some(x, shown)
        axes.scatter(x[:, 0], x[:, 1], s=size, c=colour, alpha=0.55, linewidths=0)
        outside = int(np.sum((x < low) | (x > high), axis=1).astype(bool).sum())
        beyond = f", {outside} outside" if outside else ""
        axes.set_title(f"{text} ({shown}{beyond})", fontsize=13, fontweight="bold", color=colour)
        axes.set_xlim(low[0], high[0])
        axes.set_ylim(low[1], high[1])
        axes.set_box_aspect(1)
        axes.grid(alpha=0.2)
    figure.tight_layout()
    return _save(figure, path)


def marginals(
    path: str | os.PathLike[str], samples: Any, real: Any, *, columns: Sequence[str] = (), most: int = 4
) -> pathlib.Path:
    """Histograms of the first few columns on the diagonal; every pair below it real, above it generated.

    Args:
        path: PNG file to write.
        samples: ``[n, ...]``, flattened to points.
        real: ``[m, ...]``.
        columns: names of the columns.
        most: the most columns shown.

    Returns:
        The path.

    Raises:
        ValueError: for different dimensions, NaN or infinity.
    """
    real = flat(real, "real")
    samples = flat(samples, "samples", real.shape[1])
    d = min(most, real.shape[1])
    names = [*columns, *(f"column {k + 1}" for k in range(len(columns), d))]
    low, high = _limits(real[:, :d])
    shown = min(2000, len(samples), len(real))
    a, b = _some(samples[:, :d], shown), _some(real[:, :d], shown)
    side = max(2.3 * d, 4.2)
    figure = _figure(side, side + 0.5)
    grid = figure.subplots(d, d, squeeze=False)
    for i in range(d):
        for j in range(d):
            axes = grid[i][j]
            if i == j:
                bins = np.linspace(low[i], high[i], 41)
                axes.hist(real[:, i], bins, density=True, color=_REAL, alpha=0.35)
                if np.any((samples[:, i] >= bins[0]) & (samples[:, i] <= bins[-1])):  # else a density of nothing, 0 / 0
                    axes.hist(samples[:, i], bins, density=True, color=_GENERATED, histtype="step", linewidth=1.8)
                axes.set_yticks([])
            else:
                x, colour = (a, _GENERATED) if j > i else (b, _REAL)
                axes.scatter(x[:, j], x[:, i], s=2.5, c=colour, alpha=0.5, linewidths=0)
                axes.set_ylim(low[i], high[i])
            axes.set_xlim(low[j], high[j])
            axes.tick_params(labelsize=7)
            if i == d - 1:
                axes.set_xlabel(names[j], fontsize=9)
            if j == 0 and d > 1:
                axes.set_ylabel(names[i], fontsize=9)
    where = " (above)", " (below)"
    figure.suptitle(f"GENERATED{where[0] * (d > 1)}", x=0.27, fontsize=13, fontweight="bold", color=_GENERATED)
    figure.text(
        0.73, 0.98, f"REAL{where[1] * (d > 1)}", ha="center", va="top", fontsize=13, fontweight="bold", color=_REAL
    )
    figure.tight_layout()
    return _save(figure, path)


def _columns(x: Any, name: str, d: int) -> np.ndarray:
    x = flat(x, name)
    if x.shape[1] != d:
        raise ValueError(f"{name} has points of {x.shape[1]} numbers; expected {d}: draw others with marginals")
    return x


def _some(x: np.ndarray, n: int) -> np.ndarray:
    return x if len(x) == n else x[generator(0, 20).permutation(len(x))[:n]]


def _limits(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The range of each column and 15 % beyond, without the outermost 1 in 1,000 points on either side."""
    low, high = np.quantile(x, [0.001, 0.999], axis=0)
    spread = np.where(high > low, high - low, 1.0)
    return low - 0.15 * spread, high + 0.15 * spread


def _square(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One range for both coordinates, unless they look like different units."""
    spread = high - low
    if spread.max() < 3 * spread.min():
        middle, spread = (low + high) / 2, spread.max()
        return middle - spread / 2, middle + spread / 2
    return low, high


# training -----------------------------------------------------------------------------------------------------------


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
    figure = _figure(7.2, 4.2)
    axes = figure.subplots()
    axes.set_xlabel("step")
    axes.set_ylabel(metric)
    if not len(values):
        axes.text(0.5, 0.5, f"no {metric} recorded", ha="center", va="center", transform=axes.transAxes, fontsize=14)
        axes.set_xticks([])
        axes.set_yticks([])
        return _save(figure, path)

    few = len(values) < 10
    label = "recorded" if len(values) > 1 else "the only value recorded"
    axes.plot(steps, values, color=_GENERATED, alpha=0.9 if few else 0.3, linewidth=1, marker="o" if few else None)
    axes.lines[-1].set_label(label)
    if not few:
        smooth = _running_mean(values, max(2, len(values) // 20))
        axes.plot(steps, smooth, color=_GENERATED, linewidth=2.2, label=f"running mean, {smooth[-1]:.4g} at the end")
    if values.min() > 0 and values.max() > 5 * values.min():
        axes.set_yscale("log")
        for which in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            which(lambda value, _: f"{value:g}")
    axes.set_title(f"{metric} to step {int(steps[-1])}", fontsize=12)
    axes.grid(alpha=0.25, which="both")
    axes.legend(frameon=False)
    figure.tight_layout()
    return _save(figure, path)


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
