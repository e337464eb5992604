"""Images side by side: generated and real, as mosaics on one scale of grey or colour."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bridgejax.evaluation._figures import DPI, GENERATED, fits, new_figure, reals, save
from bridgejax.evaluation.arrays import flat
from bridgejax.evaluation.draws import Samples

if TYPE_CHECKING:
    pass

# Between images: no grey, so that it is never taken for a stroke, and the side's own tint.
_GENERATED_LINE, _REAL_LINE = (48, 84, 145), (92, 86, 76)
_CELL = 54  # screen pixels per image, about


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
    figure = new_figure(w_all / DPI, h_all / DPI)
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
