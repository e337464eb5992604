"""A picture of what a diffusion model does between noise and data."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from bridgejax._types import Json
from bridgejax.evaluation import _figures as figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#b8860b", "#1f5fbf", "#2e7d4f", "#a0522d")


def explanation(path: str | os.PathLike[str], found: Json) -> pathlib.Path:
    """Four panels: explained share by noise level, dimension of the paths, emergence against variance, and kicks.

    Args:
        path: PNG file to write.
        found: what ``bridgejax explain`` writes into explain.json.

    Returns:
        The path.
    """
    figure = figures.new_figure(11.0, 8.4)
    panels: Any = figure.subplots(2, 2)
    _explained(panels[0, 0], found)
    _dimension(panels[0, 1], found)
    _emergence(panels[1, 0], found)
    _kicks(panels[1, 1], found)
    for axes in panels.ravel():
        axes.grid(alpha=0.2)
    figure.tight_layout()
    return figures.save(figure, path)


def _explained(axes: Axes, found: Json) -> None:
    for (name, shares), colour in zip(found["explained"].items(), _COLOURS, strict=False):
        axes.plot(found["levels"], shares, color=colour, marker="o", markersize=4, linewidth=1.8, label=name)
    axes.set_xscale("log")
    axes.set_ylim(-0.25, 1.05)
    axes.set_xlabel("noise level sigma / alpha")
    axes.set_title("Share of the learnt score explained", fontsize=12, fontweight="bold")
    axes.legend(frameon=False, loc="lower right")


def _dimension(axes: Axes, found: Json) -> None:
    for k, (name, shares) in enumerate(found["trajectory"].items()):
        left = 1.0 - np.minimum(np.asarray(shares, np.float64), 1.0 - 1e-8)
        where = np.arange(1, len(left) + 1) + 0.36 * (k - 0.5)
        axes.bar(where, left, width=0.34, color=(figures.GENERATED, figures.REAL)[k], label=name)
    axes.set_yscale("log")
    axes.set_xticks(np.arange(1, len(found["trajectory"]["model"]) + 1))
    axes.set_xlabel("principal components of a path")
    axes.set_title("Variance of a path that is left", fontsize=12, fontweight="bold")
    axes.legend(frameon=False)


def _emergence(axes: Axes, found: Json) -> None:
    variances, exact = found["variances"], found["emergence"]["gaussian"]
    axes.plot(variances, exact, color=figures.REAL, linewidth=1.5, label="Gaussian, sqrt(3 variance)")
    known = [(v, s) for v, s in zip(variances, found["emergence"]["model"], strict=True) if s is not None]
    if known:
        axes.scatter(*zip(*known, strict=True), color=figures.GENERATED, zorder=3, label="model")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        for which in (axis.set_major_formatter, axis.set_minor_formatter):
            which(lambda value, _: f"{value:g}")
    axes.set_xlabel("variance of the principal feature")
    axes.set_title("Noise level at which half has emerged", fontsize=12, fontweight="bold")
    axes.legend(frameon=False)


def _kicks(axes: Axes, found: Json) -> None:
    kicks = found["kicks"]
    for k, colour in zip(range(len(kicks["levels"])), _COLOURS, strict=False):
        axes.plot(kicks["variances"], kicks["gaussian"][k], color=colour, linewidth=1.5)
        label = f"kicked at level {kicks['levels'][k]:.3g}"
        axes.scatter(kicks["variances"], kicks["model"][k], color=colour, zorder=3, label=label)
    axes.set_xlabel("variance along the kick")
    axes.set_title("Share of a kick that is left (lines: Gaussian)", fontsize=12, fontweight="bold")
    axes.legend(frameon=False)
