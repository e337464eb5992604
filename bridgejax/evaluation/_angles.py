"""Angles in pairs, as in a Ramachandran plot, and rotations by their vectors: generated above, real below."""

from __future__ import annotations

import math
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bridgejax._types import Numbers
from bridgejax.evaluation._figures import GENERATED, fits, new_figure, reals, save, some
from bridgejax.evaluation.arrays import flat

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS = 6
_CROWD = 1000  # points from which a panel shows how many there are in each cell
_CELLS = 72  # along a side: 5 degrees
_POINTS = 4000


def angle_pairs(
    path: str | os.PathLike[str],
    samples: Numbers,
    real: Any,
    *,
    columns: Sequence[str] = (),
    unit: str = "degrees",
    positive: bool = False,
) -> pathlib.Path:
    """Each angle against the next, generated above and real below; of one angle its histogram.

    The panels are squares of a full turn, whose opposite sides are one, and show equally many of each side: how many
    lie in each cell of 5 degrees, on a logarithmic scale, or the points where there are fewer than 1,000. At most 6
    pairs are shown.

    Args:
        path: PNG file to write.
        samples: angles (n, d).
        real: angles (m, d), or several such arrays by their titles.
        columns: names of the angles.
        unit: degrees or radians, of all angles.
        positive: whether they run from 0 to a full turn, not from minus to plus half a turn.

    Returns:
        The path.

    Raises:
        ValueError: different dimensions, NaN or infinity.
    """
    x = flat(samples, "samples")
    d = x.shape[1]
    sides = [("GENERATED", x, GENERATED)]
    sides += [(title, flat(rows, "real", d), colour) for title, rows, colour in reals(real)]
    names = [*columns[:d], *(f"angle {k + 1}" for k in range(len(columns), d))]
    turn = 360.0 if unit == "degrees" else 2.0 * math.pi
    low = 0.0 if positive else -0.5 * turn
    if d == 1:
        return _one_angle(path, sides, names[0], low, turn, unit)
    pairs = [(k, k + 1) for k in range(min(d - 1, _PANELS))]
    figure = new_figure(max(2.6 * len(pairs) + 0.6, 4.6), 2.75 * len(sides) + 0.5)
    grid = figure.subplots(len(sides), len(pairs), squeeze=False)
    shown = min(len(rows) for _, rows, _ in sides)
    for i, (title, rows, colour) in enumerate(sides):
        rows = some(rows, shown)
        for j, (a, b) in enumerate(pairs):
            axes = grid[i][j]
            _pair(axes, rows[:, [a, b]], colour, low, turn, crowd=shown >= _CROWD)
            _turn_ticks(axes, low, turn, unit)
            axes.set_xlabel(names[a] if i == len(sides) - 1 else "", fontsize=9)
            axes.set_ylabel(names[b], fontsize=9)
        _side_title(grid[i][0], f"{title} ({shown})", colour)
    figure.tight_layout()
    return save(figure, path)


def rotations(path: str | os.PathLike[str], samples: Numbers, real: Any) -> pathlib.Path:
    """Rotation vectors in degrees, two coordinates at a time, and the angles of the rotations.

    A rotation by an angle about an axis is the point at that distance from the middle in the direction of the axis; the
    circle is half a turn, where opposite points are one rotation.

    Args:
        path: PNG file to write.
        samples: rotation vectors in radians (n, 3), at most pi long.
        real: the same (m, 3), or several such arrays by their titles.

    Returns:
        The path.

    Raises:
        ValueError: other shapes, NaN or infinity.
    """
    sides = [("GENERATED", np.rad2deg(flat(samples, "samples", 3)), GENERATED)]
    sides += [(title, np.rad2deg(flat(rows, "real", 3)), colour) for title, rows, colour in reals(real)]
    figure = new_figure(12.4, 3.0 * len(sides) + 0.4)
    grid = figure.subplots(len(sides), 4, squeeze=False)
    shown = min(_POINTS, *(len(rows) for _, rows, _ in sides))
    bins = np.linspace(0.0, 180.0, 37)
    around = np.linspace(0.0, 2.0 * math.pi, 200)
    for i, (title, rows, colour) in enumerate(sides):
        for axes, (a, b) in zip(grid[i], ((0, 1), (1, 2), (0, 2)), strict=False):
            points = some(rows, shown)
            axes.plot(180.0 * np.cos(around), 180.0 * np.sin(around), color="#999999", linewidth=0.8)
            size = float(np.clip(8_000 / shown, 2.0, 12.0))
            axes.scatter(points[:, a], points[:, b], s=size, c=colour, alpha=0.5, linewidths=0)
            _turn_ticks(axes, -180.0, 360.0, "degrees", room=8.0)
            axes.set_xlabel(f"rotation vector {'xyz'[a]}", fontsize=9)
            axes.set_ylabel(f"rotation vector {'xyz'[b]}", fontsize=9)
        axes = grid[i][3]
        axes.hist(np.linalg.norm(rows, axis=1), bins.tolist(), density=True, color=colour, alpha=0.7)
        a = np.linspace(0.0, 180.0, 200)
        axes.plot(a, (1.0 - np.cos(np.deg2rad(a))) / 180.0, color="#999999", linewidth=1.0, label="uniform rotations")
        axes.set_xlabel("angle of rotation", fontsize=9)
        axes.set_yticks([])
        axes.set_xticks([0, 90, 180], ["0°", "90°", "180°"], fontsize=7)
        axes.set_box_aspect(1)
        axes.legend(fontsize=7, frameon=False)
        _side_title(grid[i][0], f"{title} ({shown})", colour)
    figure.tight_layout()
    return save(figure, path)


def _pair(axes: Axes, x: np.ndarray, colour: str, low: float, turn: float, *, crowd: bool) -> None:
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    if crowd:
        edges = np.linspace(low, low + turn, _CELLS + 1)
        counts = np.histogram2d(x[:, 0], x[:, 1], bins=(edges, edges))[0].T
        shades = LinearSegmentedColormap.from_list("side", ["#e8edf5" if colour == GENERATED else "#ececec", colour])
        share = np.where(counts > 0, counts / len(x), np.nan)
        axes.pcolormesh(edges, edges, share, cmap=shades, norm=LogNorm(1e-4, 1e-2, clip=True))
        return
    points = some(x, _POINTS)
    size = float(np.clip(6_000 / len(points), 3.0, 14.0))
    axes.scatter(points[:, 0], points[:, 1], s=size, c=colour, alpha=0.5, linewidths=0)


def _one_angle(path: Any, sides: Any, name: str, low: float, turn: float, unit: str) -> pathlib.Path:
    figure = new_figure(6.0, 4.0)
    axes = figure.subplots()
    crowd = min(len(rows) for _, rows, _ in sides) >= _CROWD
    edges = np.linspace(low, low + turn, (_CELLS if crowd else _CELLS // 3) + 1).tolist()
    for k, (title, rows, colour) in enumerate(sides):
        if k == 0:
            axes.hist(rows[:, 0], edges, density=True, color=colour, histtype="step", linewidth=1.8, label=title)
        else:
            axes.hist(rows[:, 0], edges, density=True, color=colour, alpha=0.35, label=title)
    axes.set_xticks(*_marks(low, turn, unit))
    axes.set_xlim(low, low + turn)
    axes.set_yticks([])
    axes.set_xlabel(name)
    axes.legend(frameon=False)
    figure.tight_layout(rect=(0.0, 0.0, 0.97, 1.0))  # room for the last mark
    return save(figure, path)


def _marks(low: float, turn: float, unit: str) -> tuple[np.ndarray, list[str]]:
    """Where a full turn is marked, and how."""
    at = low + turn * np.arange(5) / 4.0
    if unit == "degrees":
        return at, [f"{v:.0f}°" for v in at]
    return at, [f"{v / math.pi:g}π".replace("1π", "π") if v else "0" for v in at]


def _turn_ticks(axes: Axes, low: float, turn: float, unit: str, room: float = 0.0) -> None:
    """A square panel of a full turn either way."""
    at, names = _marks(low, turn, unit)
    axes.set_xticks(at, names, fontsize=7)
    axes.set_yticks(at, names, fontsize=7)
    axes.set_xlim(low - room, low + turn + room)
    axes.set_ylim(low - room, low + turn + room)
    axes.set_box_aspect(1)
    axes.grid(alpha=0.2)


def _side_title(axes: Axes, text: str, colour: str) -> None:
    axes.set_title(text, fontsize=fits(text, 250, 12), fontweight="bold", color=colour, loc="left")
