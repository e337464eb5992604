"""Points in the plane and columns of tables: scatters, and the law of every column and of every pair."""

from __future__ import annotations

import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bridgejax._types import Json
from bridgejax.evaluation._figures import GENERATED, SOURCE, fits, frame, limits, new_figure, reals, save, some, square
from bridgejax.evaluation.arrays import flat, generator
from bridgejax.evaluation.draws import Samples

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS = 4000
_MOST_BARS = 12  # values of a column that is drawn as bars


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
