"""Pictures that show at a glance whether a model works: generated beside real, on one scale.

Every function writes one PNG and returns its path. Matplotlib is imported when a picture is drawn, and its global state
(pyplot, the backend) is never touched, so that pictures can be drawn in a thread, without a display, or in a notebook.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bridgejax.evaluation.arrays import flat, generator
from bridgejax.evaluation.draws import Samples
from bridgejax.evaluation.records import Json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GENERATED, REAL, SOURCE = "#1f5fbf", "#3a3a3a", "#b8860b"
REALS = (REAL, "#a0522d", "#2e7d4f", "#6a4c93")  # where there are several
# Between images: no grey, so that it is never taken for a stroke, and the side's own tint.
_GENERATED_LINE, _REAL_LINE = (48, 84, 145), (92, 86, 76)
_DPI = 100
_CELL = 54  # screen pixels per image, about
_POINTS = 4000
_MOST_BARS = 12  # values of a column that is drawn as bars


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of width x height inches at 100 pixels per inch."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("pictures need matplotlib: pip install 'bridgejax[run]'") from None
    return Figure(figsize=(width, height), dpi=_DPI, facecolor="white")


def save(figure: Figure, path: str | os.PathLike[str]) -> pathlib.Path:
    """Write the figure; the file is replaced whole, never half-written."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".tmp")
    figure.savefig(beside, format="png", dpi=_DPI)
    os.replace(beside, path)
    return path


def reals(real: Samples, name: str = "real") -> list[tuple[str, Any, str]]:
    """Title, rows and colour of each real side: one array, or a mapping from titles to arrays."""
    if not isinstance(real, Mapping):
        return [("REAL", real, REAL)]
    if not real:
        raise ValueError(f"{name} is an empty mapping; expected titles and arrays")
    return [(str(title), rows, REALS[k % len(REALS)]) for k, (title, rows) in enumerate(real.items())]


# images -------------------------------------------------------------------------------------------------------------


def image_grid(
    path: str | os.PathLike[str],
    samples: Samples,
    real: Samples,
    *,
    labels: Samples | None = None,
    real_labels: Samples | None = None,
    columns: int = 10,
    rows: int = 8,
) -> pathlib.Path:
    """Generated images on the left, real ones to the right of them, each pixel a crisp square.

    The scale of grey and colour is that of the real images; generated values beyond it are clipped. With labels on
    both sides column k holds class k (the first ``columns`` classes that both have); else images come in the order
    given. There are as many rows, and columns, as all sides fill.

    Args:
        path: PNG file to write.
        samples: ``[n, h, w, c]`` or ``[n, h, w]``, c in 1 to 4 (2 shows the first channel, 4 drops the last).
        real: ``[m, h, w, c]``, in the same unit; or several such arrays by their titles.
        labels: class of each sample ``[n]``, or None.
        real_labels: class of each real image ``[m]``, or None; not with several real arrays.
        columns: images in a row, on either side.
        rows: the most rows.

    Returns:
        The path.

    Raises:
        ValueError: for other shapes, no images, NaN or infinity.
    """
    given = [("GENERATED", _images(samples, "samples"), GENERATED)]
    given += [(title, _images(x, "real"), colour) for title, x, colour in reals(real)]
    images = [x for _, x, _ in given]
    shape = images[-1].shape[1:]
    if any(x.shape[1:] != shape for x in images):
        raise ValueError(f"samples and real must be images of one shape, got {[x.shape[1:] for x in images]}")
    if labels is not None and real_labels is not None and len(images) == 2:
        order = _by_class(images, (labels, real_labels), columns, rows)
    else:
        wide = min(columns, *map(len, images))
        tall = min(rows, *(len(x) // wide for x in images))
        order = [np.arange(tall * wide).reshape(tall, wide)] * len(images)

    low = min(float(x.min()) for x in images[1:])
    high = max(float(x.max()) for x in images[1:])
    zoom = max(1, round(_CELL / max(shape[:2])))
    lines = [_GENERATED_LINE, *[_REAL_LINE] * (len(images) - 1)]
    mosaics = [_mosaic(x[k], zoom, low, high, line) for x, k, line in zip(images, order, lines, strict=True)]

    return _side_by_side(path, [(text, m, colour) for (text, _, colour), m in zip(given, mosaics, strict=True)])


def _side_by_side(path: str | os.PathLike[str], mosaics: Sequence[tuple[str, np.ndarray, str]]) -> pathlib.Path:
    """Mosaics of one size, pixel for pixel, under their titles."""
    gap, head, margin = 46, 44, 16
    h, w = mosaics[0][1].shape[:2]
    each = max(w, 150)  # a title needs its room
    w_all, h_all = len(mosaics) * each + (len(mosaics) - 1) * gap + 2 * margin, h + head + margin
    figure = new_figure(w_all / _DPI, h_all / _DPI)
    for k, (text, mosaic, colour) in enumerate(mosaics):
        left = margin + k * (each + gap) + (each - w) / 2
        axes = figure.add_axes((left / w_all, margin / h_all, w / w_all, h / h_all))
        axes.imshow(mosaic, interpolation="nearest", aspect="auto")
        axes.set_title(text, fontsize=fits(text, each, 16), fontweight="bold", color=colour, pad=8)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set(color=colour, linewidth=3)
    return save(figure, path)


def strips(
    path: str | os.PathLike[str], grids: Sequence[tuple[str, np.ndarray]], low: float, high: float
) -> pathlib.Path:
    """Grids of images side by side under their titles.

    Args:
        path: PNG file to write.
        grids: title and images ``[rows, columns, h, w, c]`` of each.
        low: value drawn black.
        high: value drawn white.
    """
    zoom = max(1, round(_CELL / max(grids[0][1].shape[2:4])))
    kept = [x[..., :1] if x.shape[-1] <= 2 else x[..., :3] for _, x in grids]
    mosaics = [_mosaic(x, zoom, low, high, _GENERATED_LINE) for x in kept]
    return _side_by_side(path, [(title, m, GENERATED) for (title, _), m in zip(grids, mosaics, strict=True)])


def fits(text: str, pixels: float, most: float) -> float:
    """The size of bold letters, at most ``most``, at which ``text`` takes at most so many pixels."""
    return min(most, 1.15 * pixels / max(len(text), 1))


def _by_class(images: Sequence[np.ndarray], labels: Sequence[Any], columns: int, rows: int) -> list[np.ndarray]:
    """Indices ``[rows, columns]`` of each side: column k the first images of the k-th class that both have."""
    found = []
    for x, classes, name in zip(images, labels, ("labels", "real_labels"), strict=True):
        classes = np.asarray(classes)
        if classes.shape != (len(x),):
            raise ValueError(f"{name} has shape {classes.shape}; expected one class per image, ({len(x)},)")
        found.append({k: np.flatnonzero(classes == k) for k in np.unique(classes)})
    both = sorted(set(found[0]) & set(found[1]))[:columns]
    if not both:
        raise ValueError("labels and real_labels have no class in common")
    tall = min(rows, *(len(side[k]) for side in found for k in both))
    return [np.stack([side[k][:tall] for k in both], axis=1) for side in found]


def _images(x: Samples, name: str) -> np.ndarray:
    x = np.asarray(x)
    flat(x, name)
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4 or not 1 <= x.shape[3] <= 4:
        raise ValueError(f"{name} has shape {x.shape}; expected images [n, h, w, c] with 1 to 4 channels, or [n, h, w]")
    return x[..., :1] if x.shape[3] <= 2 else x[..., :3]


def _mosaic(images: np.ndarray, zoom: int, low: float, high: float, colour: tuple[int, int, int]) -> np.ndarray:
    """``[rows, columns, h, w, c]`` as uint8 ``[H, W, 3]``, each magnified by a whole number, lines between them."""
    tall, wide, height, width, _ = images.shape
    h, w, line = height * zoom, width * zoom, 4
    out = np.full((tall * (h + line) + line, wide * (w + line) + line, 3), np.array(colour, np.uint8))
    grey = np.clip((images.astype(np.float64) - low) / ((high - low) or 1.0), 0, 1)
    pixels = np.broadcast_to(np.rint(255 * grey).astype(np.uint8), (*images.shape[:4], 3))
    pixels = pixels.repeat(zoom, axis=2).repeat(zoom, axis=3)
    for r in range(tall):
        for c in range(wide):
            y, x = line + r * (h + line), line + c * (w + line)
            out[y : y + h, x : x + w] = pixels[r, c]
    return out


# points and tables --------------------------------------------------------------------------------------------------


def scatter(
    path: str | os.PathLike[str],
    samples: Samples,
    real: Samples,
    source: Samples | None = None,
    *,
    columns: Sequence[str] = (),
) -> pathlib.Path:
    """Points in the plane: (the source,) generated and real side by side, on the same axes, equally many of each.

    The axes are those of the real points (and the source) and 15 % beyond, with one unit for both coordinates where
    their ranges are within a factor of 3; points outside are counted in the title. At most 4,000 points are shown of
    each.

    Args:
        path: PNG file to write.
        samples: ``[n, 2]``.
        real: ``[m, 2]``, or several such arrays by their titles.
        source: ``[k, 2]``, where a bridge starts, or None.
        columns: names of the two columns.

    Returns:
        The path.

    Raises:
        ValueError: for other shapes, NaN or infinity.
    """
    panels = [("GENERATED", samples, GENERATED), *reals(real)]
    if source is not None:
        panels.insert(0, ("SOURCE", source, SOURCE))
    clouds = [(text, _columns(x, text.lower(), 2), colour) for text, x, colour in panels]
    shown = min(_POINTS, *(len(x) for _, x, _ in clouds))
    low, high = square(*limits(np.concatenate([x for text, x, _ in clouds if text != "GENERATED"])))
    figure = new_figure(4.4 * len(clouds), 4.7 + 0.3 * bool(columns))
    grid = figure.subplots(1, len(clouds), sharex=True, sharey=True, squeeze=False)[0]
    size = float(np.clip(14_000 / shown, 3.5, 16))
    for axes, (text, x, colour) in zip(grid, clouds, strict=True):
        x = some(x, shown)
        axes.scatter(x[:, 0], x[:, 1], s=size, c=colour, alpha=0.55, linewidths=0)
        outside = int(np.sum((x < low) | (x > high), axis=1).astype(bool).sum())
        beyond = f", {outside} outside" if outside else ""
        title = f"{text} ({shown}{beyond})"
        axes.set_title(title, fontsize=fits(title, 370, 13), fontweight="bold", color=colour)
        frame(axes, low, high, columns if axes is grid[0] else columns[:1])
    figure.tight_layout()
    return save(figure, path)


def frame(axes: Axes, low: np.ndarray, high: np.ndarray, columns: Sequence[str] = ()) -> None:
    """A square panel of the plane."""
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.set_box_aspect(1)
    axes.grid(alpha=0.2)
    for name, label in zip(columns, (axes.set_xlabel, axes.set_ylabel), strict=False):
        label(name, fontsize=10)


def marginals(
    path: str | os.PathLike[str],
    samples: Samples,
    real: Samples,
    *,
    columns: Sequence[str] = (),
    texts: Mapping[int, Sequence[str]] | None = None,
    most: int = 4,
) -> pathlib.Path:
    """The law of the first few columns on the diagonal; every pair below it real, above it generated.

    A column of at most 12 whole numbers (categories among them) is drawn as bars, one for each value, and its points in
    the pairs are spread within the value's own band; a column of more whole numbers has bins of whole width.

    Args:
        path: PNG file to write.
        samples: ``[n, ...]``, flattened to points.
        real: ``[m, ...]``, or several such arrays by their titles.
        columns: names of the columns.
        texts: of columns that hold categories, their names by number of the column; values are then 0, 1, ...
        most: the most columns shown.

    Returns:
        The path.

    Raises:
        ValueError: for different dimensions, NaN or infinity.
    """
    first, *others = reals(real)
    truths = [(first[0], flat(first[1], "real"), first[2])]
    width = truths[0][1].shape[1]
    truths += [(title, flat(x, "real", width), colour) for title, x, colour in others]
    samples = flat(samples, "samples", width)
    d = min(most, width)
    every = np.concatenate([x[:, :d] for _, x, _ in truths])
    names = [*columns[:d], *(f"column {k + 1}" for k in range(len(columns), d))]
    axis = [_axis(every[:, k], (texts or {}).get(k, ())) for k in range(d)]
    shown = min(2000, len(samples), *(len(x) for _, x, _ in truths))
    above = [(_spread_out(some(samples[:, :d], shown), axis), GENERATED)]
    below = [(_spread_out(some(x[:, :d], shown), axis), colour) for _, x, colour in truths]
    side = max(2.3 * d, 4.2)
    figure = new_figure(side, side + 0.5)
    grid = figure.subplots(d, d, squeeze=False)
    for i in range(d):
        for j in range(d):
            axes = grid[i][j]
            if i == j:
                _bars(axes, [(x[:, i], colour) for _, x, colour in truths], samples[:, i], axis[i])
                axes.set_yticks([])
            else:
                for x, colour in above if j > i else below:
                    axes.scatter(x[:, j], x[:, i], s=2.5, c=colour, alpha=0.5, linewidths=0)
                axes.set_ylim(*axis[i].ends)
                if (i, j) == (0, d - 1):  # the first panel of this row has no such axis
                    axes.yaxis.tick_right()
                _ticks(axes, axis[i], "y", show=j == 0 or (i, j) == (0, d - 1))
            axes.set_xlim(*axis[j].ends)
            _ticks(axes, axis[j], "x", show=i == d - 1)
            axes.tick_params(labelsize=7)
            if i == d - 1:
                axes.set_xlabel(names[j], fontsize=9)
            if j == 0 and d > 1:
                axes.set_ylabel(names[i], fontsize=9)
    titles = [(f"GENERATED{' (above)' * (d > 1)}", GENERATED)]
    titles += [(f"{title}{' (below)' * (d > 1)}", colour) for title, _, colour in truths]
    room = 100 * side / len(titles)
    for k, (title, colour) in enumerate(titles):
        where = (k + 0.5) / len(titles)
        size = fits(title, room, 13)
        figure.text(where, 0.985, title, ha="center", va="top", fontsize=size, fontweight="bold", color=colour)
    figure.align_ylabels()
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.32 / (side + 0.5)))
    return save(figure, path)


class _Axis(NamedTuple):
    """How a column is drawn: bin edges, ends of the axis, the values (and their names) where it has few."""

    edges: np.ndarray
    ends: tuple[float, float]
    values: np.ndarray | None = None
    texts: tuple[str, ...] = ()


def _axis(v: np.ndarray, texts: Sequence[str]) -> _Axis:
    low, high = (float(end) for end in limits(v))
    distinct = np.arange(len(texts), dtype=float) if texts else np.unique(v)
    whole = bool(np.array_equal(distinct, np.rint(distinct)))
    if whole and (len(distinct) <= _MOST_BARS or texts) and np.ptp(distinct) <= 5 * len(distinct):
        edges = np.arange(distinct[0] - 0.5, distinct[-1] + 1)
        return _Axis(edges, (float(edges[0] - 0.2), float(edges[-1] + 0.2)), distinct, tuple(texts))
    if whole:
        step = max(1, math.ceil((high - low) / 40))
        return _Axis(np.arange(math.floor(low) - 0.5, high + step, step), (low, high))
    return _Axis(np.linspace(low, high, 41), (low, high))


def _spread_out(x: np.ndarray, axis: Sequence[_Axis]) -> np.ndarray:
    """Points of a column of few values moved within the band of their value, so that they do not hide one another."""
    few = np.array([a.values is not None for a in axis])
    return x + few * generator(0, 21).uniform(-0.3, 0.3, x.shape)


def _bars(axes: Axes, reals: Sequence[tuple[np.ndarray, str]], samples: np.ndarray, axis: _Axis) -> None:
    """The law of one column: histograms, or beside each value one bar for each side."""
    sides = [*reals, (samples, GENERATED)]
    if axis.values is not None:
        width = 0.84 / len(sides)
        for k, (v, colour) in enumerate(sides):
            shares = [np.mean(np.abs(v - value) < 0.5) for value in axis.values]
            at = axis.values + (k - (len(sides) - 1) / 2) * width
            axes.bar(at, shares, width, color=colour, alpha=0.9 if colour == GENERATED else 0.6)
        return
    for v, colour in reals:
        axes.hist(v, axis.edges.tolist(), density=True, color=colour, alpha=0.35)
    if np.any((samples >= axis.edges[0]) & (samples <= axis.edges[-1])):  # else a density of nothing, 0 / 0
        axes.hist(samples, axis.edges.tolist(), density=True, color=GENERATED, histtype="step", linewidth=1.8)


def _ticks(axes: Axes, axis: _Axis, which: str, *, show: bool) -> None:
    """Names of categories, shortened; none inside the grid."""
    if not show:
        hidden: Json = {"labelbottom": False} if which == "x" else {"labelleft": False, "labelright": False}
        axes.tick_params(**hidden)
    elif axis.values is not None:
        texts = axis.texts or tuple(f"{v:g}" for v in axis.values)
        short = [text if len(text) <= 9 else text[:8] + "." for text in texts]
        turned = which == "x" and sum(map(len, short)) > 18
        keep = slice(None, None, math.ceil(len(short) / 12))
        place = axes.set_xticks if which == "x" else axes.set_yticks
        place(
            axis.values[keep],
            short[keep],
            rotation=60 if turned else 0,
            ha="right" if turned or which == "y" else "center",
        )


def _columns(x: Samples, name: str, d: int) -> np.ndarray:
    x = flat(x, name)
    if x.shape[1] != d:
        raise ValueError(f"{name} has points of {x.shape[1]} numbers; expected {d}: draw others with marginals")
    return x


def some(x: np.ndarray, n: int) -> np.ndarray:
    """At most n random rows."""
    return x if len(x) <= n else x[generator(0, 20).permutation(len(x))[:n]]


def limits(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The range of each column and 15 % beyond, without the outermost 1 in 1,000 points on either side."""
    low, high = np.quantile(x, [0.001, 0.999], axis=0)
    spread = np.where(high > low, high - low, 1.0)
    return low - 0.15 * spread, high + 0.15 * spread


def square(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
