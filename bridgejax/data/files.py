"""Readers: one file or folder -> numbers, and one clear sentence for everything that can be wrong with it.

    .npy     one array
    .npz     the array ``x`` (or the only one that is not labels), labels in ``y`` or ``labels``
    .csv     rows of numbers parted by commas, semicolons or tabs; an optional header; lines that begin with #
    are skipped folder   8-bit png/jpg images of one size; the names of subfolders are the classes

Nothing is ever unpickled. Every reader raises FileNotFoundError for what is not there, PermissionError for
what may not be read, and ValueError for the rest.
"""

from __future__ import annotations

import csv
import dataclasses
import math
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np

from bridgejax.data.arrays import Dataset, from_array

SUFFIXES: tuple[str, ...] = (".npy", ".npz", ".csv")
IMAGE_SUFFIXES: tuple[str, ...] = (".png", ".jpg", ".jpeg")


def read(path: Path, *, text: bool = False) -> Dataset:
    """The data set in a file or a folder of images, by what the path names; ``text``: .csv columns may hold text.

    Raises:
        FileNotFoundError: nothing is there.
        PermissionError: it may not be read.
        ValueError: it is of no known type, or what it holds is not a data set.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{path} does not exist; expected a {_expected()}") from None
    except PermissionError:
        raise PermissionError(f"{path} may not be read: permission denied; check it and its folder") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path!s:.200} is no usable path ({error}); expected a {_expected()}") from None
    try:
        if stat.S_ISDIR(mode):
            return read_images(path)
        if not stat.S_ISREG(mode):
            raise ValueError(f"{path} is neither a file nor a folder; expected a {_expected()}")
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            hint = "; for images give the folder that holds them" if suffix in IMAGE_SUFFIXES else ""
            raise ValueError(f"{path} has the type {suffix or '(none)'!r}; expected a {_expected()}{hint}")
        with open(path, "rb"):
            pass
        if os.path.getsize(path) == 0:
            raise ValueError(f"{path} is empty; expected a {_expected()}")
        return read_csv(path, text=text) if suffix == ".csv" else read_numpy(path)
    except PermissionError as error:
        where = error.filename or path
        raise PermissionError(f"{where} may not be read: permission denied; check its mode and its owner") from None


def _expected() -> str:
    return f"{', '.join(SUFFIXES)} file or a folder of png/jpg images"


def read_numpy(path: Path) -> Dataset:
    """A ``.npy`` array, or the arrays ``x`` and ``y`` (or ``labels``) of a ``.npz`` archive; never unpickles."""
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
    return from_array(x, arrays[labelled[0]] if labelled else None, name=str(path))


def _number(cell: str) -> float | None:
    """The number in a cell, or None. Python's ``1_000`` is text here."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def read_csv(path: Path, *, text: bool = False) -> Dataset:
    """Rows of numbers. The first row is a header when none of its cells is a number.

    The separator is the first of tab, semicolon and comma that the first row holds. With ``text`` a column that holds
    text becomes the index of its distinct texts in alphabetical order, and the first row is a header all the same.
    """
    columns: tuple[str, ...] = ()
    rows: list[list[Any]] = []
    width = first = 0
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            kept = [(line, text) for line, text in enumerate(file, start=1) if not text.startswith("#")]
        start = next((text for _, text in kept if text.strip()), "")
        reader = csv.reader((text for _, text in kept), delimiter=next((c for c in "\t;," if c in start), ","))
        for cells in reader:
            line = kept[reader.line_num - 1][0]
            cells = [cell.strip() for cell in cells]
            if cells in ([], [""]):
                continue
            if not width:
                width, first = len(cells), line
                if any(cells) and all(_number(cell) is None for cell in cells):
                    columns = tuple(cells)
                    continue
            rows.append(_row(cells, path, line, width, first, columns, text=text))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{path} is no readable csv file ({error})") from None
    if not rows:
        raise ValueError(f"{path} has 0 rows{' under its header' if columns else ''}; expected at least 2 samples")
    texts: dict[int, tuple[str, ...]] = {}
    for k in range(width):
        if any(isinstance(row[k], str) for row in rows):
            words = [row[k] if isinstance(row[k], str) else f"{row[k]:g}" for row in rows]
            texts[k] = tuple(sorted(set(words)))
            index = {word: i for i, word in enumerate(texts[k])}
            for row, word in zip(rows, words, strict=True):
                row[k] = index[word]
    dataset = from_array(np.array(rows, dtype=np.float64), name=str(path), columns=columns)
    return dataclasses.replace(dataset, texts=texts)


def _row(
    cells: list[str], path: Path, line: int, width: int, first: int, columns: tuple[str, ...], *, text: bool
) -> list[Any]:
    """One row as numbers (and text, where allowed), or one sentence that says where in the file it is wrong."""
    if len(cells) != width:
        raise ValueError(f"{path} is ragged: line {line} has {len(cells)} cells, line {first} has {width}")
    values: list[Any] = []
    for at, cell in enumerate(cells):
        value = _number(cell)
        if value is None and text and cell:
            values.append(cell)
            continue
        if value is not None and math.isfinite(value):
            values.append(value)
            continue
        column = f"column {columns[at]!r}" if columns else f"column {at + 1}"
        what = "is empty" if not cell else f"holds {cell[:40]!r}"
        kind = "is not a finite number" if value is not None else "is not a number"
        hint = "" if text or not cell else " (--method constrained takes text columns too)"
        raise ValueError(f"{path}: line {line}, {column} {what}, which {kind}; expected numbers everywhere{hint}")
    return values


def read_images(folder: Path) -> Dataset:
    """A folder of 8-bit images of one size, values 0 to 255 taken to [-1, 1].

    Images lie in the folder itself (no labels) or in subfolders (one class each), never both. They are read
    in the order of their names. Grey stays grey when all are; else all become RGB. Alpha is dropped, the
    camera's orientation tag is obeyed, hidden files and files of other types are skipped.
    """
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
    pictures, grey = [], True
    for file, _ in files:
        pixels, is_grey = _decode(Image, file)
        grey = grey and is_grey
        if pictures and pixels.shape != pictures[0].shape:
            (h, w, _), (h0, w0, _) = pixels.shape, pictures[0].shape
            raise ValueError(
                f"{folder} holds images of different sizes: {file.name} is {h} x {w}, {files[0][0].name} is {h0} x {w0}"
                " (height x width); resize them to one size"
            )
        pictures.append(pixels)
    x = np.stack(pictures)
    labels = np.array([name for _, name in files]) if below else None
    return from_array(x[..., :1] if grey else x, labels, name=str(folder), value_range=(0.0, 255.0))


def _images_in(folder: Path) -> list[Path]:
    return [
        entry
        for entry in sorted(folder.iterdir())
        if entry.suffix.lower() in IMAGE_SUFFIXES and not entry.name.startswith(".") and entry.is_file()
    ]


def _decode(Image, file: Path) -> tuple[np.ndarray, bool]:
    """Pixels ``[h, w, 3]`` as uint8, and whether the file is grey."""
    from PIL import ImageOps

    try:
        with Image.open(file) as picture:
            mode = picture.mode
            if mode[0] in "IF":
                raise ValueError(f"mode {mode} has more than 8 bits a channel; save it with 8")
            upright = ImageOps.exif_transpose(picture)
            return np.asarray(upright.convert("RGB")), mode in ("1", "L", "LA")
    except PermissionError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, DecompressionBombError, ...
        raise ValueError(f"{file} is no readable image ({type(error).__name__}: {error!s:.120})") from None
