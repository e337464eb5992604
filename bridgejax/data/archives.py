"""NumPy's files by their headers: what arrays there are and how large, before one of them is read.

    .npy    magic, version, length of the header, the header {"descr": "<f4", "shape": (20, 2), ...}, the numbers
    .npz    a zip archive of these

Of an archive only the members that are asked for are unpacked, and no more of each than its header declares. Refused:
what is shorter or longer than that, a header longer than NumPy writes, two members of one name, Python objects.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from bridgejax._summary import summary
from bridgejax.data.memory import PARTS, check_memory

_MAGIC = b"\x93NUMPY"
_LONGEST = 10_000  # bytes of a header, as NumPy itself has it
_WORKING = 24  # bytes beside each number while it is checked and standardised
_WRITE = "write it with np.save or np.savez"


class Header(NamedTuple):
    """What a file says of its array.

    Attributes:
        shape: of the array.
        dtype: of its numbers.
        size: bytes of header and numbers together.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    size: int

    __repr__ = summary

    def need(self) -> int:
        """Bytes that it takes to read and to standardise."""
        return math.prod(self.shape) * (self.dtype.itemsize + _WORKING)

    def __str__(self) -> str:
        return f"an array of shape {self.shape} and dtype {self.dtype}"


class _Refused(ValueError):
    """One of the sentences below, not a surprise of the libraries."""


@contextlib.contextmanager
def _in_a_sentence(path: Path) -> Iterator[None]:
    """Whatever a damaged file raises as a ``ValueError`` that names it."""
    try:
        yield
    except (PermissionError, FileNotFoundError):
        raise
    except _Refused as error:
        raise ValueError(f"{path} {error}") from None
    except Exception as error:  # a damaged archive surfaces as almost any type: zip, zlib, header syntax, memory
        why = f"it is damaged or no NumPy file ({type(error).__name__}: {error!s:.120})"
        raise ValueError(f"{path} cannot be read: {why}; {_WRITE}") from None


def _no_array() -> _Refused:
    why = "it is no NumPy file, or holds Python objects (dtype object), which are never unpickled"
    return _Refused(f"cannot be read: {why}; {_WRITE}")


def _header(file: IO[bytes], size: int, what: str) -> Header:
    """The header of an array in a file of ``size`` bytes; the file then stands before its numbers."""
    start = file.read(8)
    if start[:6] != _MAGIC or len(start) < 8:
        raise _no_array()
    width, form = (2, "<H") if start[6] == 1 else (4, "<I")
    length = struct.unpack(form, file.read(width))[0]
    if length > _LONGEST:
        raise _Refused(f"cannot be read: {what} has a header of {length} bytes, where NumPy writes a hundred; {_WRITE}")
    file.seek(0)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise _Refused(f"cannot be read: {what} has named fields (format {version}); save a plain array; {_WRITE}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise _no_array()
    if any(side < 0 for side in shape):
        raise _Refused(f"cannot be read: {what} has the shape {shape}; {_WRITE}")
    whole = file.tell() + math.prod(shape) * dtype.itemsize
    if size < whole:
        raise _Refused(f"is cut short: {what} has {size} bytes, and its header declares {whole}; copy it again")
    if size > whole:
        raise _Refused(
            f"has {size - whole} bytes after its array, which nobody would read: of several arrays in one file make a "
            ".npz file with np.savez"
        )
    return Header(shape, dtype, whole)


def headers(path: Path) -> dict[str, Header]:
    """The arrays in a .npz archive by their names, or that of a .npy file as ``x``; nothing but headers is read.

    Raises:
        ValueError: a damaged file, one of Python objects, one with bytes after its array, two members of one name.
    """
    with _in_a_sentence(path), open(path, "rb") as file:
        if not file.read(4).startswith(b"PK"):
            file.seek(0)
            return {"x": _header(file, os.fstat(file.fileno()).st_size, "it")}
        with zipfile.ZipFile(file) as archive:
            return {name: header for name, (_, header) in _members(archive).items()}


def _members(archive: zipfile.ZipFile) -> dict[str, tuple[zipfile.ZipInfo, Header]]:
    found: dict[str, tuple[zipfile.ZipInfo, Header]] = {}
    seen: set[str] = set()
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name in seen:
            raise _Refused(f"holds two arrays named {name!r}: it cannot be said which is meant; {_WRITE}")
        seen.add(name)
        with archive.open(info) as member:
            if member.read(6) == _MAGIC:
                member.seek(0)
                found[name] = info, _header(member, info.file_size, f"its member {name!r}")
    return found


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """These arrays of a .npz archive, or ``x`` of a .npy file, which together fit into the memory that may be used.

    Raises:
        ValueError: more memory than may be used, and what ``headers`` raises.
    """
    held = headers(path)
    need = sum(held[name].need() for name in names)
    check_memory(need, f"{path} holds {' and '.join(f'{name} ({held[name]})' for name in names)}", PARTS)
    with _in_a_sentence(path), open(path, "rb") as file:
        if not file.read(4).startswith(b"PK"):
            file.seek(0)
            return {"x": np.lib.format.read_array(file, allow_pickle=False)}
        arrays = {}
        with zipfile.ZipFile(file) as archive:
            infos = _members(archive)
            for name in names:
                with archive.open(infos[name][0]) as member:
                    arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
        return arrays
