"""Readers: one file or folder -> numbers, and one clear sentence for everything that can be wrong with it.

    .npy     one array
    .npz     the array ``x`` (or the only one that is not labels), labels in ``y`` or ``labels``
    .csv     rows of numbers parted by commas, semicolons or tabs; an optional header; lines that begin with # are
    .tsv     skipped (``data.tables``)
    .parquet a table whose columns have names and types
    folder   8-bit png/jpg images of one size, or brought to one; the names of subfolders are the classes

Nothing is ever unpickled, and nothing read that declares more than may be used (``data.memory``). Every reader raises
FileNotFoundError for what is not there, PermissionError for what may not be read, and ValueError for the rest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bridgejax.data.archives import headers, read_arrays
from bridgejax.data.arrays import Dataset, from_array
from bridgejax.data.memory import check_memory
from bridgejax.data.named import IMAGE_SUFFIXES, SUFFIXES, TABLES, TEXTS, expected, mode_of
from bridgejax.data.reading import Reading, size
from bridgejax.data.tables import filled, read_csv

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")  # decoded by pillow itself; others start programs
_PER_PIXEL = 48  # bytes of three channels, as bytes twice and as float32 three times
_DECODING = 24  # bytes of a pixel while one file is decoded, turned upright and made RGB
_FEWER = "keep fewer, or smaller ones (--resize 64 shrinks those that fit one by one)"


def read(path: Path, reading: Reading | None = None, *, text: bool = False) -> Dataset:
    """The data set in a file or a folder of images, by what the path names; ``text``: .csv columns may hold text.

    Raises:
        FileNotFoundError: nothing is there.
        PermissionError: it may not be read.
        ValueError: it is of no known type, or what it holds is not a data set.
    """
    reading = reading or Reading()
    mode = mode_of(path)
    try:
        if stat.S_ISDIR(mode):
            _only(path, "a folder of images", reading, ("resize", "crop", "kind"))
            return read_images(path, reading)
        if not stat.S_ISREG(mode):
            raise ValueError(f"{path} is neither a file nor a folder; expected a {expected()}")
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            hint = "; for images give the folder that holds them" if suffix in IMAGE_SUFFIXES else ""
            raise ValueError(f"{path} has the type {suffix or '(none)'!r}; expected a {expected()}{hint}")
        with open(path, "rb"):
            pass
        if os.path.getsize(path) == 0:
            raise ValueError(f"{path} is empty; expected a {expected()}")
        if suffix in TABLES:
            of_text = ("header", "decimal", "thousands") if suffix in TEXTS else ()
            _only(path, f"a {suffix} file", reading, ("label_column", "columns", "missing", *of_text, "kind"))
            return read_csv(path, reading, text=text)
        _only(path, f"a {suffix} file", reading, ("missing", "kind"))
        return read_numpy(path, reading)
    except PermissionError as error:
        where = error.filename or path
        raise PermissionError(f"{where} may not be read: permission denied; check its mode and its owner") from None


def _only(path: Path, what: str, reading: Reading, takes: Sequence[str]) -> None:
    """Raise for what was said of a file that has no such thing."""
    for name in reading.given():
        if name not in takes:
            flag = name.replace("_", "-")
            raise ValueError(f"{path} is {what}, which has no {name} (--{flag}); it takes {', '.join(takes)}")


def read_numpy(path: Path, reading: Reading | None = None) -> Dataset:
    """A ``.npy`` array, or the arrays ``x`` and ``y`` (or ``labels``) of a ``.npz`` archive; never unpickles."""
    reading = reading or Reading()
    held = headers(path)
    labelled = [name for name in ("y", "labels") if name in held]
    if len(labelled) == 2:
        raise ValueError(f"{path} holds both 'y' and 'labels'; expected the labels under one of these names")
    others = [name for name in held if name not in labelled]
    if "x" not in held and len(others) != 1:
        found = ", ".join(repr(name) for name in held) or "nothing"
        raise ValueError(f"{path} holds {found}; expected the samples under the name 'x' (labels under 'y')")
    samples = "x" if "x" in held else others[0]
    arrays = read_arrays(path, [samples, *labelled])
    x = arrays[samples]
    labels, notes = arrays[labelled[0]] if labelled else None, ()
    if reading.missing != "refuse" and x.dtype.kind == "f" and x.ndim > 0:
        x, rows, notes = filled(x[:, None] if x.ndim == 1 else x, reading.missing, str(path))
        labels = labels[rows] if labels is not None and len(labels) > rows.max(initial=-1) else labels
    try:
        return dataclasses.replace(from_array(x, labels, name=str(path), kind=reading.kind), notes=notes)
    except ValueError as error:
        if "NaN" not in str(error) or reading.missing != "refuse":
            raise
        raise ValueError(f"{error}: missing='drop' leaves rows with NaN out, 'impute' fills them (--missing)") from None


def read_images(folder: Path, reading: Reading | None = None) -> Dataset:
    """A folder of 8-bit images of one size, values 0 to 255 taken to [-1, 1].

    Images lie in the folder itself (no labels) or in subfolders (one class each), never both. They are read
    in the order of their names. Grey stays grey when all are; else all become RGB. Alpha is dropped, which a
    note says, more than 8 bits a channel are refused, the camera's orientation tag is obeyed, hidden files and files of
    other types are skipped. Sizes that differ are brought to one by ``reading.resize`` and ``reading.crop``.
    """
    reading = reading or Reading()
    try:
        from PIL import Image
    except ImportError:
        raise ImportError("a folder of images needs pillow: pip install 'bridgejax[run]'") from None

    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith((".", "__"))]
    here = [entry for entry in entries if entry.suffix.lower() in IMAGE_SUFFIXES and entry.is_file()]
    below = [entry for entry in entries if entry.is_dir()]
    if here and below:
        raise ValueError(
            f"{folder} holds images ({here[0].name}, ...) and subfolders ({below[0].name}, ...); expected images only, "
            "or one subfolder per class"
        )
    groups = {entry.name: _images_in(entry) for entry in below} if below else {"": here}
    bare = [name for name, files in groups.items() if not files]
    if bare:
        where = folder / bare[0]
        raise ValueError(f"{where} holds no images; expected {', '.join(IMAGE_SUFFIXES)} files in it")

    files = [(file, name) for name, group in groups.items() for file in group]
    scale, cut = size(reading.resize, "resize"), size(reading.crop, "crop")
    pictures, grey, notes = [], True, _Notes()
    for file, _ in files:
        pixels, is_grey = _decode(Image, file, scale, cut, notes)
        grey = grey and is_grey
        if not pictures:  # the others are of its size, or refused
            what = f"{folder} holds {len(files)} images of {pixels.shape[0]} x {pixels.shape[1]} pixels"
            check_memory(len(files) * pixels.shape[0] * pixels.shape[1] * _PER_PIXEL, what, _FEWER)
        if pictures and pixels.shape != pictures[0].shape:
            (h, w, _), (h0, w0, _) = pixels.shape, pictures[0].shape
            side = min(h, w, h0, w0) if not scale else scale[0]
            raise ValueError(
                f"{folder} holds images of different sizes: {file.name} is {h} x {w}, {files[0][0].name} is {h0} x {w0}"
                f" (height x width{', resized' if scale else ''}); bring them to one size, for example with "
                f"resize={side}, crop={side} (--resize {side} --crop {side})"
            )
        pictures.append(pixels)
    x = np.stack(pictures)
    labels = np.array([name for _, name in files]) if below else None
    x = x[..., :1] if grey else x
    dataset = from_array(x, labels, name=str(folder), value_range=(0.0, 255.0), kind=reading.kind)
    return dataclasses.replace(dataset, notes=notes.said(folder, len(files)))


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


def _decode(Image, file: Path, scale: tuple[int, ...], cut: tuple[int, ...], notes: _Notes) -> tuple[np.ndarray, bool]:
    """Pixels ``[h, w, 3]`` as uint8, resized and cropped, and whether the file is grey."""
    from PIL import ImageOps

    with _in_a_sentence(file), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit on memory says it instead
        picture = Image.open(file, formats=_FORMATS)
    with picture:
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
                whole = whole.resize(_scaled(whole.size, scale), Image.Resampling.BICUBIC)
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
    return pixels, mode in ("1", "L", "LA")


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
