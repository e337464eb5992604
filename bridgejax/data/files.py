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

import dataclasses
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from bridgejax.data.archives import headers, read_arrays
from bridgejax.data.arrays import Dataset, from_array
from bridgejax.data.images import read_images
from bridgejax.data.named import IMAGE_SUFFIXES, SUFFIXES, TABLES, TEXTS, expected, mode_of
from bridgejax.data.reading import Reading
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
