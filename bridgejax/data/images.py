"""Folders of images: read whole, or decoded batch by batch.

Nothing is decoded that declares more pixels than the memory that may be used (``data.memory``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bridgejax._summary import summary
from bridgejax._types import Batch
from bridgejax.data.arrays import Dataset, from_array
from bridgejax.data.batches import Batches
from bridgejax.data.memory import check_memory
from bridgejax.data.named import IMAGE_SUFFIXES, mode_of
from bridgejax.data.reading import Reading, size

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")  # decoded by pillow itself; others start programs
_GREY = ("1", "L", "LA")
_PER_PIXEL = 48  # bytes of three channels, as bytes twice and as float32 three times
_DECODING = 24  # bytes of a pixel while one file is decoded, turned upright and made RGB
_FEWER = "keep fewer, or smaller ones (--resize 64 shrinks those that fit one by one)"


def read_images(folder: Path, reading: Reading | None = None) -> Dataset:
    """A folder of 8-bit images of one size, values 0 to 255 taken to [-1, 1].

    Images lie in the folder itself (no labels) or in subfolders (one class each), never both. They are read
    in the order of their names. Grey stays grey when all are; else all become RGB. Alpha is dropped, which a
    note says, more than 8 bits a channel are refused, the camera's orientation tag is obeyed, hidden files and files of
    other types are skipped. Sizes that differ are brought to one by ``reading.resize`` and ``reading.crop``.
    """
    reading = reading or Reading()
    files = _files(folder)
    scale, cut = size(reading.resize, "resize"), size(reading.crop, "crop")
    pictures, grey, notes = [], True, _Notes()
    for file, _ in files:
        pixels, is_grey = _decode(file, scale, cut, notes)
        grey = grey and is_grey
        if not pictures:  # the others are of its size, or refused
            what = f"{folder} holds {len(files)} images of {pixels.shape[0]} x {pixels.shape[1]} pixels"
            check_memory(len(files) * pixels.shape[0] * pixels.shape[1] * _PER_PIXEL, what, _FEWER)
        if pictures:
            _check_size(folder, file, pixels, files[0][0], pictures[0], scale)
        pictures.append(pixels)
    x = np.stack(pictures)
    labels = None if files[0][1] is None else np.array([name for _, name in files])
    x = x[..., :1] if grey else x
    dataset = from_array(x, labels, name=str(folder), value_range=(0.0, 255.0), kind=reading.kind)
    return dataclasses.replace(dataset, notes=notes.said(folder, len(files)))


class Images:
    """Shuffled batches of a folder of images that need not fit into memory: each is decoded when its batch is made.

    Args:
        folder: 8-bit PNG or JPEG files, in the folder itself or in subfolders, one for every class. What is said of
            them in ``data.load`` holds: grey stays grey when all files are, alpha is dropped, hidden files are skipped.
        batch_size: B >= 1; may exceed the number of images, and then a batch wraps around.
        seed: a non-negative integer.
        resize: as in ``data.Reading``: 64 is the shorter side, "48x64" height and width.
        crop: the middle of them after that.
        convert: ``batch -> batch``, for example augmentation; it is given the batch below.

    A batch is ``[B, h, w, c]``, float32 in [-1, 1]; with subfolders it is ``{"x": that, "label": [B]}``, the index of
    the class in ``classes``. ``batch(step)`` is a pure function of (seed, step), in the order of ``data.Batches``.

    Raises:
        ValueError: a folder without images, or with images beside subfolders; a file that is no readable image; when a
            batch is made, images of different sizes.
        FileNotFoundError: a path where nothing is.
        ImportError: pillow is not installed.

    Example:
        >>> import numpy as np, pathlib, tempfile, bridgejax as bj
        >>> from PIL import Image
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for k in range(5):
        ...     Image.fromarray(np.full((4, 6), 50 * k, np.uint8)).save(folder / f"{k}.png")
        >>> images = bj.data.Images(folder, batch_size=3)
        >>> len(images), images.batch(0).shape                                       # a pure function of the step
        (5, (3, 4, 6, 1))
    """

    __repr__ = summary

    def __init__(
        self,
        folder: str | os.PathLike[str],
        batch_size: int,
        seed: int = 0,
        *,
        resize: int | str | tuple[int, int] = "",
        crop: int | str | tuple[int, int] = "",
        convert: Callable[[Any], Any] | None = None,
    ) -> None:
        if not isinstance(folder, str | os.PathLike):
            raise ValueError(f"folder must be a path, got {type(folder).__name__}")
        if convert is not None and not callable(convert):
            raise ValueError(f"convert must be a function of a batch, got {type(convert).__name__}")
        path = self._folder = Path(folder)
        if not stat.S_ISDIR(mode_of(path)):
            raise ValueError(f"{path} is no folder; expected one that holds images")
        how = Reading(resize=resize, crop=crop)  # pyright: ignore[reportArgumentType]
        self._scale, self._cut = size(how.resize, "resize"), size(how.crop, "crop")
        found = _files(path)
        self._paths, names = [file for file, _ in found], [name for _, name in found]
        self.classes = tuple(sorted({name for name in names if name is not None}))
        self._labels = np.array([self.classes.index(name) for name in names if name is not None], np.int32)
        self._rows, self._convert = Batches(np.arange(len(found)), batch_size, seed), convert or (lambda batch: batch)
        self.batch_size, self.seed = self._rows.batch_size, self._rows.seed
        self._channels = 1 if all([_is_grey(file) for file in self._paths]) else 3  # of all files: each must be one
        self._first, _ = self._pixels(0)

    def __len__(self) -> int:
        return len(self._paths)

    def batch(self, step: int) -> Batch:
        """Batch ``step`` (>= 0), NumPy."""
        rows = self._rows.rows(step)
        x = np.empty((len(rows), *self._first.shape[:2], self._channels), np.float32)
        for place, row in enumerate(rows):
            pixels, file = self._pixels(row)
            _check_size(self._folder, file, pixels, self._paths[0], self._first, self._scale)
            x[place] = pixels[..., : self._channels]
        x = x * np.float32(2 / 255) - np.float32(1)
        return self._convert({"x": x, "label": self._labels[rows]} if self.classes else x)

    def _pixels(self, row: int) -> tuple[np.ndarray, Path]:
        file = self._paths[row]
        return _decode(file, self._scale, self._cut, _Notes())[0], file


def _files(folder: Path) -> list[tuple[Path, str | None]]:
    """The images of a folder in the order of their names, each with the name of its subfolder, None without them."""
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith((".", "__"))]
    here = [entry for entry in entries if entry.suffix.lower() in IMAGE_SUFFIXES and entry.is_file()]
    below = [entry for entry in entries if entry.is_dir()]
    if here and below:
        raise ValueError(
            f"{folder} holds images ({here[0].name}, ...) and subfolders ({below[0].name}, ...); expected images only, "
            "or one subfolder per class"
        )
    groups = {entry.name: _images_in(entry) for entry in below} if below else {None: here}
    bare = [name for name, files in groups.items() if not files]
    if bare:
        where = folder / (bare[0] or "")
        raise ValueError(f"{where} holds no images; expected {', '.join(IMAGE_SUFFIXES)} files in it")

    return [(file, name) for name, group in groups.items() for file in group]


def _check_size(
    folder: Path, file: Path, pixels: np.ndarray, first: Path, like: np.ndarray, scale: tuple[int, ...]
) -> None:
    """Raise unless an image is as large as the first one."""
    if pixels.shape == like.shape:
        return
    (h, w, _), (h0, w0, _) = pixels.shape, like.shape
    side = min(h, w, h0, w0) if not scale else scale[0]
    raise ValueError(
        f"{folder} holds images of different sizes: {file.name} is {h} x {w}, {first.name} is {h0} x {w0}"
        f" (height x width{', resized' if scale else ''}); bring them to one size, for example with "
        f"resize={side}, crop={side} (--resize {side} --crop {side})"
    )


def _images_in(folder: Path) -> list[Path]:
    return [
        entry
        for entry in sorted(folder.iterdir())
        if entry.suffix.lower() in IMAGE_SUFFIXES and not entry.name.startswith(".") and entry.is_file()
    ]


@dataclasses.dataclass
class _Notes:
    """What was left out of images."""

    alpha: int = 0
    frames: int = 0

    def said(self, folder: Path, num: int) -> tuple[str, ...]:
        lost = [
            (self.alpha, "a transparency (alpha), which is dropped: their colours are taken as they are under it"),
            (self.frames, "several frames, of which the first is taken"),
        ]
        return tuple(f"{count} of {num} images of {folder} have {what}" for count, what in lost if count)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise ImportError("a folder of images needs pillow: pip install 'bridgejax[run]'") from None
    return Image


def _opened(file: Path) -> Any:
    """The image, of which nothing is decoded yet."""
    image = _pillow()
    with _in_a_sentence(file), warnings.catch_warnings():
        warnings.simplefilter("ignore", image.DecompressionBombWarning)  # the limit on memory says it instead
        return image.open(file, formats=_FORMATS)


def _is_grey(file: Path) -> bool:
    with _opened(file) as picture:
        return picture.mode in _GREY


def _decode(file: Path, scale: tuple[int, ...], cut: tuple[int, ...], notes: _Notes) -> tuple[np.ndarray, bool]:
    """Pixels ``[h, w, 3]`` as uint8, resized and cropped, and whether the file is grey."""
    image = _pillow()
    from PIL import ImageOps

    with _opened(file) as picture:
        width, height = picture.size  # as declared: nothing is decoded yet
        check_memory(width * height * _DECODING, f"{file} declares {height} x {width} pixels", _FEWER)
        with _in_a_sentence(file):
            mode = picture.mode
            if mode[0] in "IF" or _is_deep(file):
                raise ValueError("it has more than 8 bits a channel, which would be cut to 8; save it with 8")
            notes.alpha += mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
            notes.frames += bool(getattr(picture, "is_animated", False))
            upright = ImageOps.exif_transpose(picture)
            whole = upright.convert("RGB")
            if scale:
                whole = whole.resize(_scaled(whole.size, scale), image.Resampling.BICUBIC)
            pixels = np.asarray(whole)
    if cut:
        (h, w), (height, width) = pixels.shape[:2], (cut[0], cut[-1])
        if h < height or w < width:
            raise ValueError(
                f"{file} is {h} x {w} (height x width), too small for crop {height}x{width}; crop less, or resize "
                f"first (--resize {max(height, width)})"
            )
        top, left = (h - height) // 2, (w - width) // 2
        pixels = pixels[top : top + height, left : left + width]
    return pixels, mode in _GREY


@contextlib.contextmanager
def _in_a_sentence(file: Path) -> Iterator[None]:
    """Whatever a decoder raises as a ``ValueError`` that names the file."""
    try:
        yield
    except PermissionError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, DecompressionBombError, ...
        raise ValueError(f"{file} is no readable image ({type(error).__name__}: {error!s:.120})") from None


def _is_deep(file: Path) -> bool:
    """Whether a PNG declares 16 bits a channel, of which pillow keeps 8 of colours without a word."""
    with open(file, "rb") as stream:
        start = stream.read(25)
    return start[:8] == b"\x89PNG\r\n\x1a\n" and start[24:] == b"\x10"


def _scaled(old: tuple[int, int], scale: tuple[int, ...]) -> tuple[int, int]:
    """Width and height after ``resize``: of the shorter side alone, the longer follows."""
    if len(scale) == 2:
        return scale[1], scale[0]
    width, height = (max(scale[0], round(side * scale[0] / min(old))) for side in old)
    return width, height
