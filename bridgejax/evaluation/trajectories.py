"""Pictures of what moves: series beside real ones, and bridges with the paths they take."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bridgejax.evaluation import _figures as figures
from bridgejax.evaluation._image_grids import strips
from bridgejax.evaluation.arrays import flat
from bridgejax.evaluation.draws import Samples

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINES = 12  # series drawn of each side
_CHANNELS = 4


def series(
    path: str | os.PathLike[str],
    samples: Samples,
    real: Samples,
    *,
    channels: Sequence[str] = (),
    times: Samples | None = None,
) -> pathlib.Path:
    """Series: generated and real side by side on the same axes, one row of panels for each channel.

    Twelve series of each side as lines, over the band that holds nine in ten at every time and the median.

    Args:
        path: PNG file to write.
        samples: ``[n, T]`` or ``[n, T, C]``; the first 4 channels are drawn.
        real: ``[m, T]`` or ``[m, T, C]``, or several such arrays by their titles.
        channels: names of the channels.
        times: ``[T]``, the horizontal axis; by default 0, 1, ...

    Returns:
        The path.

    Raises:
        ValueError: for other shapes, NaN or infinity.
    """
    sides = [("GENERATED", samples, figures.GENERATED), *figures.reals(real)]
    sides = [(title, _series(x, title.lower()), colour) for title, x, colour in sides]
    shape = sides[-1][1].shape[1:]
    for title, x, _ in sides:
        if x.shape[1:] != shape:
            raise ValueError(f"{title.lower()} has series of shape {x.shape[1:]}; expected {shape}, as the real ones")
    times = np.arange(shape[0]) if times is None else np.asarray(times, np.float64)
    if times.shape != shape[:1]:
        raise ValueError(f"times has shape {times.shape}; expected one for each of the {shape[0]} values of a series")
    rows = min(_CHANNELS, shape[1])
    figure = figures.new_figure(4.4 * len(sides), 1.0 + 2.2 * rows)
    grid = figure.subplots(rows, len(sides), sharex=True, sharey="row", squeeze=False)
    for c in range(rows):
        low, high = figures.limits(np.concatenate([x[..., c].ravel() for _, x, _ in sides[1:]]))
        for axes, (title, x, colour) in zip(grid[c], sides, strict=True):
            band = np.quantile(x[..., c], [0.05, 0.5, 0.95], axis=0)
            axes.fill_between(times, band[0], band[2], color=colour, alpha=0.15, linewidth=0)
            axes.plot(times, x[:_LINES, :, c].T, color=colour, linewidth=0.8, alpha=0.6)
            axes.plot(times, band[1], color=colour, linewidth=2.4)
            axes.set_xlim(times[0], times[-1])
            axes.set_ylim(low, high)
            axes.grid(alpha=0.2)
            if c == 0:
                text = f"{title} ({len(x)})"
                axes.set_title(text, fontsize=figures.fits(text, 370, 13), fontweight="bold", color=colour)
        if rows > 1 or channels:
            grid[c][0].set_ylabel(str(channels[c]) if c < len(channels) else f"channel {c + 1}", fontsize=10)
    for axes in grid[-1]:
        axes.set_xlabel("time", fontsize=10)
    figure.tight_layout()
    return figures.save(figure, path)


def _series(x: Samples, name: str) -> np.ndarray:
    x = np.asarray(x)
    if x.ndim not in (2, 3):
        raise ValueError(f"{name} has shape {x.shape}; expected series [n, T] or [n, T, C]")
    flat(x, name)
    return x.reshape(*x.shape[:2], -1).astype(np.float64)


def bridge(
    path: str | os.PathLike[str],
    source: Samples,
    target: Samples,
    forward: Samples,
    backward: Samples | None = None,
    *,
    times: Samples | None = None,
) -> pathlib.Path:
    """A bridge with the paths it takes, from source to target, and back where it runs back.

    In the plane: both clouds, and paths from a ring where they start to a dot where they end. On the line: paths over
    time. Images: each row one path, at six times.

    Args:
        path: PNG file to write.
        source: ``[n, ...]``, rows of the source.
        target: ``[m, ...]``, rows of the target.
        forward: ``[k, T, ...]``, states of k paths at T times, from source to target.
        backward: ``[k, T', ...]``, from target to source, or None.
        times: ``[T]`` of the forward paths, on the transport clock; by default even in [0, 1].

    Returns:
        The path.

    Raises:
        ValueError: for other shapes, NaN or infinity, states that are neither points of one or two numbers nor images.
    """
    ways = [("SOURCE TO TARGET", np.asarray(forward), False)]
    if backward is not None:
        ways.append(("TARGET BACK TO SOURCE", np.asarray(backward), True))
    shape = np.shape(target)[1:]
    for title, x, _ in ways:
        if x.ndim != 2 + len(shape) or x.shape[2:] != shape:
            raise ValueError(f"paths ({title.lower()}) have shape {x.shape}; expected [k, T, *{shape}], as the target")
        flat(x, "paths")
    source, target = (np.asarray(x, np.float64) for x in (source, target))
    if len(shape) == 3:
        return _filmstrips(path, target, ways)
    if shape not in ((1,), (2,)):
        raise ValueError(f"target has rows of shape {shape}; paths are drawn of one or two numbers and of images")
    figure = figures.new_figure(5.0 * len(ways), 5.6)
    panels = figure.subplots(1, len(ways), squeeze=False)[0]
    for axes, (title, x, backward) in zip(panels, ways, strict=True):
        if shape == (2,):
            _plane(axes, figures.some(source, 1500), figures.some(target, 1500), x, backward=backward)
        else:
            _line(axes, source, target, x, None if backward else times, backward=backward)
        axes.set_title(f"{title} ({len(x)} paths)", fontsize=12, fontweight="bold")
    marks = {text: mark for axes in panels for mark, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    legend = figure.legend(
        marks.values(),
        marks.keys(),
        loc="lower center",
        ncols=len(marks),
        frameon=False,
        fontsize=10,
        handletextpad=0.2,
    )
    for mark in filter(None, legend.legend_handles):
        mark.set(alpha=1.0, sizes=[30])
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    return figures.save(figure, path)


def _plane(axes: Axes, source: np.ndarray, target: np.ndarray, x: np.ndarray, *, backward: bool) -> None:
    low, high = figures.square(*figures.limits(np.concatenate([source, target, x.reshape(-1, 2)])))
    axes.scatter(*source.T, s=5, c=figures.SOURCE, alpha=0.25, linewidths=0, label="source")
    axes.scatter(*target.T, s=5, c=figures.REAL, alpha=0.25, linewidths=0, label="target")
    for one in x:
        axes.plot(*one.T, color=figures.GENERATED, linewidth=0.9, alpha=0.55)
    _marks(axes, x[:, 0], x[:, -1], backward=backward)
    figures.frame(axes, low, high)


def _line(axes: Axes, source: np.ndarray, target: np.ndarray, x: np.ndarray, times: Samples, *, backward: bool) -> None:
    times = np.linspace(0, 1, x.shape[1]) if times is None else np.asarray(times, np.float64)
    axes.plot(times, x[..., 0].T, color=figures.GENERATED, linewidth=0.8, alpha=0.5)
    start, end = (np.stack([np.full(len(x), times[k]), x[:, k, 0]], axis=1) for k in (0, -1))
    _marks(axes, start, end, backward=backward)
    low, high = figures.limits(np.concatenate([source.ravel(), target.ravel()]))
    axes.set_ylim(float(low), float(high))
    axes.set_xlabel("time", fontsize=10)
    axes.grid(alpha=0.2)


def _marks(axes: Axes, start: np.ndarray, end: np.ndarray, *, backward: bool) -> None:
    """A ring where a path starts, in the colour of that end, and a dot where it ends, in that of what is generated."""
    colour, label = (figures.REAL, "start (target)") if backward else (figures.SOURCE, "start (source)")
    axes.scatter(*start.T, s=26, facecolors="white", edgecolors=colour, linewidths=1.3, zorder=3, label=label)
    axes.scatter(*end.T, s=20, c=figures.GENERATED, zorder=3, linewidths=0, label="end (generated)")


def _filmstrips(
    path: str | os.PathLike[str], target: np.ndarray, ways: Sequence[tuple[str, np.ndarray, bool]]
) -> pathlib.Path:
    """Rows of images over time, one grid for each way."""
    rows, columns = min(8, *(len(x) for _, x, _ in ways)), 6
    films = []
    for title, x, _ in ways:
        at = np.linspace(0, x.shape[1] - 1, columns).round().astype(int)
        films.append((title, x[:rows][:, at]))
    return strips(path, films, float(target.min()), float(target.max()))
