"""Places on a globe: the model's density, its samples and real rows, in Mollweide's equal-area projection."""

from __future__ import annotations

import os
import pathlib
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from bridgejax._types import Numbers
from bridgejax.evaluation._figures import GENERATED, REAL, fits, new_figure, reals, save, some
from bridgejax.evaluation.arrays import flat
from bridgejax.geometry.manifolds import earth

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST = 3000  # points of a panel
_EDGE = 15.0  # degrees on either side of the meridian where the map is cut
_PACIFIC = 150.0  # the other meridian that a map may have in its middle
_BREAK = 32767  # between two coastlines


def globe(
    path: str | os.PathLike[str],
    samples: Numbers,
    real: Any,
    density: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    *,
    of: str = "model",
) -> pathlib.Path:
    """Samples and real rows on two maps, below a map of a density where one is given.

    Maps are in Mollweide's projection, in which equal areas are equal: a density looks as dense as it is. The map is
    centred on 0 or on 150 degrees east, whichever cuts it where fewer of the real rows are. Coastlines: Natural Earth,
    1 : 110,000,000, public domain.

    Args:
        path: PNG file to write.
        samples: unit vectors (n, 3), z to the north, x to 0 N 0 E.
        real: the same (m, 3), or several such arrays by their titles.
        density: latitudes (k,), longitudes (l,) in degrees, and on their grid (k, l) the density over that of the
            uniform law; None: the map is left out.
        of: what it is the density of.

    Returns:
        The path.

    Raises:
        ValueError: other shapes, NaN or infinity.
    """
    x = flat(samples, "samples", 3)
    truths = [(title, flat(rows, "real", 3), colour) for title, rows, colour in reals(real)]
    centre = _centre(np.concatenate([rows for _, rows, _ in truths]))
    panels = [("GENERATED", x, GENERATED), *truths]
    tall = density is not None
    figure = new_figure(5.6 * len(panels), (5.6 if tall else 0.0) + 3.5)
    heights = [5.6, 3.5] if tall else [3.5]
    grid = figure.add_gridspec(len(heights), len(panels), height_ratios=heights)
    if density is not None:
        _density_map(figure, grid[0, :], density, of, centre, truths[0][1])
    shown = min(_MOST, *(len(rows) for _, rows, _ in panels))
    for k, (title, rows, colour) in enumerate(panels):
        axes = _map(figure, grid[len(heights) - 1, k], centre, small=True)
        longitude, latitude = _place(some(rows, shown), centre)
        size = float(np.clip(9_000 / shown, 2.0, 14.0))
        axes.scatter(longitude, latitude, s=size, c=colour, alpha=0.6, linewidths=0, zorder=3)
        text = f"{title} ({shown} of {len(rows)})" if shown < len(rows) else f"{title} ({shown})"
        axes.set_title(text, fontsize=fits(text, 470, 13), fontweight="bold", color=colour, pad=12)
    figure.tight_layout()
    return save(figure, path)


def _density_map(figure: Figure, where: Any, density: Any, of: str, centre: float, rows: np.ndarray) -> None:
    """The density in colours, on a scale of powers of ten, with real rows as dots."""
    from matplotlib.colors import LogNorm

    latitudes, longitudes, values = (np.asarray(part, np.float64) for part in density)
    axes = _map(figure, where, centre, small=False)
    moved = _around(longitudes - centre)
    order = np.argsort(moved)
    most = max(10.0, float(np.quantile(values, 0.999)))
    least = 10.0 ** max(-2.0, np.floor(np.log10(most)) - 3.0)
    shown = axes.pcolormesh(
        np.deg2rad(moved[order]),
        np.deg2rad(latitudes),
        np.clip(values[:, order], least, most),
        norm=LogNorm(least, most),
        cmap="YlOrRd",
        shading="gouraud",
        rasterized=True,
        zorder=0,
    )
    places = some(rows, _MOST)
    longitude, latitude = _place(places, centre)
    axes.scatter(longitude, latitude, s=float(np.clip(4_000 / len(places), 1.2, 10.0)), c=REAL, linewidths=0, zorder=3)
    bar = figure.colorbar(shown, ax=axes, orientation="horizontal", fraction=0.045, pad=0.06, aspect=45, extend="both")
    bar.set_label(f"density of the {of} over the uniform density", fontsize=10)
    text = f"DENSITY OF THE {of.upper()}, and {len(places)} held-out rows"
    axes.set_title(text, fontsize=14, fontweight="bold", color=GENERATED, pad=14)


def _map(figure: Figure, where: Any, centre: float, *, small: bool) -> Any:
    """An empty map with coastlines and a grid of 30 by 60 degrees."""
    from matplotlib.patheffects import withStroke

    axes = figure.add_subplot(where, projection="mollweide")
    axes.plot(*coastlines(centre), color="#7a8a99", linewidth=0.5 if small else 0.8, zorder=2)
    along = np.arange(-120, 121, 60)
    axes.set_xticks(np.deg2rad(along), [_east(centre + x) for x in along], fontsize=7 if small else 8, color="#333333")
    for text in axes.get_xticklabels():  # they stand on the equator, over what is drawn there
        text.set_path_effects([withStroke(linewidth=2.0, foreground="white")])
    up = np.arange(-60, 61, 30)
    names = [f"{abs(y)}°{'N' if y > 0 else 'S' if y < 0 else ''}" for y in up]
    axes.set_yticks(np.deg2rad(up), names, fontsize=7 if small else 8, color="#555555")
    axes.grid(color="#bbbbbb", linewidth=0.4, zorder=1)
    return axes


def _east(longitude: float) -> str:
    turned = round(float(_around(np.asarray(longitude))))
    return f"{abs(turned)}°{'' if turned in (0, -180, 180) else 'E' if turned > 0 else 'W'}"


def _around(longitude: np.ndarray) -> np.ndarray:
    """The same in [-180, 180)."""
    return np.mod(longitude + 180.0, 360.0) - 180.0


def _degrees(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of unit vectors."""
    latitude, longitude = earth.to_degrees(x)
    return np.asarray(longitude), np.asarray(latitude)


def _place(x: np.ndarray, centre: float) -> tuple[np.ndarray, np.ndarray]:
    """Where unit vectors are on the map, radians from its middle."""
    longitude, latitude = _degrees(x)
    return np.deg2rad(_around(longitude - centre)), np.deg2rad(latitude)


def _centre(x: np.ndarray) -> float:
    """The meridian in the middle of the map."""
    longitude = _degrees(x)[0]
    cut = {middle: np.mean(np.abs(_around(longitude - middle - 180.0)) < _EDGE) for middle in (0.0, _PACIFIC)}
    return 0.0 if cut[0.0] <= cut[_PACIFIC] else _PACIFIC


def coastlines(centre: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of the coasts in radians from the middle of the map, NaN where a line is lifted."""
    with resources.files("bridgejax.evaluation").joinpath("coastlines.npz").open("rb") as file:
        points = np.load(file, allow_pickle=False)["lon_lat"]
    lifted = points[:, 0] == _BREAK
    longitude, latitude = _around(points[:, 0] / 10.0 - centre), points[:, 1] / 10.0
    longitude = np.where(lifted, np.nan, longitude)
    jump = np.flatnonzero(np.abs(np.diff(longitude)) > 180.0) + 1  # over the edge of the map
    longitude = np.insert(longitude, jump, np.nan)
    latitude = np.insert(np.where(lifted, np.nan, latitude), jump, np.nan)
    return np.deg2rad(longitude), np.deg2rad(latitude)
