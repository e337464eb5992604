"""Readers: one file or folder -> numbers, and one clear sentence for everything that can be wrong with it.

    .npy     one array
    .npz     the array ``x`` (or the only one that is not labels), labels in ``y`` or ``labels``
    .csv     rows of numbers parted by commas, semicolons or tabs; an optional header; lines that begin with # are
    .tsv     skipped (``data.tables``)
    folder   8-bit png/jpg images of one size, or brought to one; the names of subfolders are the classes

Nothing is ever unpickled. Every reader raises FileNotFoundError for what is not there, PermissionError for
what may not be read, and ValueError for the rest.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bridgejax.data.arrays import Dataset, from_array
from bridgejax.data.named import IMAGE_SUFFIXES, SUFFIXES, TEXTS, expected, mode_of
from bridgejax.data.reading import Reading, size
from bridgejax.data.tables import filled, read_csv


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
        if suffix in TEXTS:
            _only(path, f"a {suffix} file", reading, ("label_column", "columns", "missing", "header", "kind"))
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
    arrays: dict[str, np.ndarray] = {}
    try:
        with open(path, "rb") as file:  # np.load leaves a file open when it is damaged
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                arrays["x"] = content
            else:
                with content:
                    arrays = {name: content[name] for name in content.files}
    except PermissionError:
        raise
    except Exception as error:  # a damaged archive surfaces as almost any type: zip, zlib, header syntax, memory
        if "allow_pickle" in str(error):
            why = "it is no NumPy file, or holds Python objects (dtype object), which are never unpickled"
        else:
            why = f"it is damaged or no NumPy file ({type(error).__name__}: {error!s:.120})"
        raise ValueError(f"{path} cannot be read: {why}; write it with np.save or np.savez") from None
    # Archive members that are no arrays come back as bytes.
    arrays = {name: a for name, a in arrays.items() if isinstance(a, np.ndarray)}

    labelled = [name for name in ("y", "labels") if name in arrays]
    if len(labelled) == 2:
        raise ValueError(f"{path} holds both 'y' and 'labels'; expected the labels under one of these names")
    others = [name for name in arrays if name not in labelled]
    if "x" not in arrays and len(others) != 1:
        found = ", ".join(repr(name) for name in arrays) or "nothing"
        raise ValueError(f"{path} holds {found}; expected the samples under the name 'x' (labels under 'y')")
    x = arrays["x" if "x" in arrays else others[0]]
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
    in the order of their names. Grey stays grey when all are; else all become RGB. Alpha is dropped, the
    camera's orientation tag is obeyed, hidden files and files of other types are skipped. Sizes that differ are
    brought to one by ``reading.resize`` and ``reading.crop``.
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
    pictures, grey = [], True
    for file, _ in files:
        pixels, is_grey = _decode(Image, file, scale, cut)
        grey = grey and is_grey
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
    return from_array(x, labels, name=str(folder), value_range=(0.0, 255.0), kind=reading.kind)


def _images_in(folder: Path) -> list[Path]:
    return [
        entry
        for entry in sorted(folder.iterdir())
        if entry.suffix.lower() in IMAGE_SUFFIXES and not entry.name.startswith(".") and entry.is_file()
    ]


def _decode(Image, file: Path, scale: tuple[int, ...], cut: tuple[int, ...]) -> tuple[np.ndarray, bool]:
    """Pixels ``[h, w, 3]`` as uint8, resized and cropped, and whether the file is grey."""
    from PIL import ImageOps

    try:
        with Image.open(file) as picture:
            mode = picture.mode
            if mode[0] in "IF":
                raise ValueError(f"mode {mode} has more than 8 bits a channel; save it with 8")
            upright = ImageOps.exif_transpose(picture)
            whole = upright.convert("RGB")
            if scale:
                whole = whole.resize(_scaled(whole.size, scale), Image.Resampling.BICUBIC)
            pixels = np.asarray(whole)
    except PermissionError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, DecompressionBombError, ...
        raise ValueError(f"{file} is no readable image ({type(error).__name__}: {error!s:.120})") from None
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


def _scaled(old: tuple[int, int], scale: tuple[int, ...]) -> tuple[int, int]:
    """Width and height after ``resize``: of the shorter side alone, the longer follows."""
    if len(scale) == 2:
        return scale[1], scale[0]
    width, height = (max(scale[0], round(side * scale[0] / min(old))) for side in old)
    return width, height
