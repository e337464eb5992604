"""What every picture is made with: colours, an empty figure, its file, its limits."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bridgejax.evaluation.arrays import generator
from bridgejax.evaluation.draws import Samples

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GENERATED, REAL, SOURCE = "#1f5fbf", "#3a3a3a", "#b8860b"
REALS = (REAL, "#a0522d", "#2e7d4f", "#6a4c93")  # where there are several
DPI = 100


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of width x height inches at 100 pixels per inch."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("pictures need matplotlib: pip install 'bridgejax[run]'") from None
    return Figure(figsize=(width, height), dpi=DPI, facecolor="white")


def save(figure: Figure, path: str | os.PathLike[str]) -> pathlib.Path:
    """Write the figure; the file is replaced whole, never half-written."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".tmp")
    figure.savefig(beside, format="png", dpi=DPI)
    os.replace(beside, path)
    return path


def reals(real: Samples, name: str = "real") -> list[tuple[str, Any, str]]:
    """Title, rows and colour of each real side: one array, or a mapping from titles to arrays."""
    if not isinstance(real, Mapping):
        return [("REAL", real, REAL)]
    if not real:
        raise ValueError(f"{name} is an empty mapping; expected titles and arrays")
    return [(str(title), rows, REALS[k % len(REALS)]) for k, (title, rows) in enumerate(real.items())]


def fits(text: str, pixels: float, most: float) -> float:
    """The size of bold letters, at most ``most``, at which ``text`` takes at most so many pixels."""
    return min(most, 1.15 * pixels / max(len(text), 1))


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


def frame(axes: Axes, low: np.ndarray, high: np.ndarray, columns: Sequence[str] = ()) -> None:
    """A square panel of the plane."""
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.set_box_aspect(1)
    axes.grid(alpha=0.2)
    for name, label in zip(columns, (axes.set_xlabel, axes.set_ylabel), strict=False):
        label(name, fontsize=10)
