"""Rows in files that together do not fit into memory; ``batch(step)`` is a pure function of (seed, step).

    chunk     what is read at once: a row group of a .parquet file, a .npz file, 16 MB of a .npy file
    window    W chunks, whose rows are shuffled among each other; one is in memory

    epoch e:    c = permutation of the chunks from (seed, e)
                window w = rows of c[wW], ..., c[wW + W - 1], in a permutation from (seed, e, w)
                line_e = window 0, window 1, ...

Batch ``step`` is the stretch [step B, (step + 1) B) of line_0, line_1, ..., as in ``data.Batches``: every row once an
epoch, and a run that goes on reads one window to stand where it stood. The shuffle is as good as W chunks are alike:
rows that lie in their files in an order of their own (by date, by class) want a larger window, or to be written anew.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bridgejax._summary import summary
from bridgejax._types import Batch
from bridgejax.data.archives import headers, read_arrays
from bridgejax.data.batches import _CHUNKS, _WITHIN, _generator, _integer
from bridgejax.data.memory import check_memory
from bridgejax.data.named import mode_of
from bridgejax.data.sheets import arrow, reading_parquet

SUFFIXES = (".npy", ".npz", ".parquet")
_CHUNK = 2**24  # bytes of a .npy file that are read at once


class Chunk(NamedTuple):
    """What is read at once.

    Attributes:
        path: of its file.
        at: its first row in a .npy file, the number of its row group in a .parquet file.
        rows: how many it has.
        size: bytes in memory.
    """

    path: Path
    at: int
    rows: int
    size: int

    __repr__ = summary


class Shards:
    """Shuffled batches of .npy, .npz or .parquet files that need not fit into memory.

    A batch of .npy files, and of .npz files that hold one array, is an array ``[B, ...]``; otherwise a dictionary of
    them by the names of arrays or columns. dtypes are those of the files. A column of lists of one length is a matrix.

    Args:
        paths: a file, a folder of files of one kind, or a list of files.
        batch_size: B >= 1; may exceed the number of rows, and then a batch wraps around.
        seed: a non-negative integer.
        window: W >= 1, how many chunks are shuffled among each other; so many, and one more, are in memory.
        columns: names of the arrays or columns to read; all by default.
        convert: ``batch -> batch``, for example ``lambda b: {"x": (b["x"] - mean) / deviation}``.

    Raises:
        ValueError: files of several kinds or none, that differ in their columns, shapes or dtypes, with missing values
            or text in a column that is read; windows beyond the memory that may be used (``data.load(max_memory=)``).
        FileNotFoundError: a path where nothing is.
        ImportError: .parquet files without pyarrow.

    Example:
        >>> import numpy as np, pathlib, tempfile, bridgejax as bj
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for k in range(3):
        ...     np.save(folder / f"part{k}.npy", np.arange(8.0).reshape(4, 2) + 8 * k)
        >>> shards = bj.data.Shards(folder, batch_size=6)
        >>> len(shards), shards.batch(0).shape                                       # a pure function of the step
        (12, (6, 2))
    """

    __repr__ = summary

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        batch_size: int,
        seed: int = 0,
        *,
        window: int = 8,
        columns: Sequence[str] | None = None,
        convert: Callable[[Any], Any] | None = None,
    ) -> None:
        self.batch_size = _integer(batch_size, "batch_size", 1)
        self.seed, self.window = _integer(seed, "seed", 0), _integer(window, "window", 1)
        named = isinstance(columns, list | tuple) and columns and all(isinstance(name, str) for name in columns)
        if columns is not None and not named:
            raise ValueError(f"columns must be a list of names or None, got {columns!r:.60}")
        if convert is not None and not callable(convert):
            raise ValueError(f"convert must be a function of a batch, got {type(convert).__name__}")
        files = _files(paths)
        look, self._read = _KINDS[files[0].suffix.lower()]
        self._columns, self._convert = columns, convert or (lambda batch: batch)
        self._chunks, self._form = [], None
        for file in files:
            chunks, form = look(file, columns)
            self._chunks += chunks
            self._same(form, file)
        self._form = None  # from here on of what is read: the length of a list stands in no footer
        self.n = sum(chunk.rows for chunk in self._chunks)
        if self.n == 0:
            raise ValueError(f"{files[0]} {'and the files beside it hold' if files[1:] else 'holds'} 0 rows")
        most = sum(sorted((chunk.size for chunk in self._chunks), reverse=True)[: self.window + 1])
        remedy = "write smaller files or row groups, or lower window"
        check_memory(most, f"a window of {self.window} parts of {files[0]} and the files beside it", remedy)
        self._sizes = np.array([chunk.rows for chunk in self._chunks])
        self._order = functools.lru_cache(maxsize=2)(self._ordered)  # memos of pure functions, as is the window held
        self._held: tuple[Any, dict[str, np.ndarray]] = None, {}

    def __len__(self) -> int:
        return self.n

    def batch(self, step: int) -> Batch:
        """Batch ``step`` (>= 0): leaves ``[B, ...]``, NumPy."""
        start = _integer(step, "step", 0) * self.batch_size
        parts, stop = [], start + self.batch_size
        while start < stop:
            epoch, row = divmod(start, self.n)
            _, edges = self._order(epoch)
            w = int(np.searchsorted(edges, row, side="right")) - 1
            taken = min(stop - start, int(edges[w + 1]) - row)
            low = row - int(edges[w])
            parts.append({name: x[low : low + taken].copy() for name, x in self._window(epoch, w).items()})
            start += taken
        batch = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return self._convert(batch[""] if list(batch) == [""] else batch)

    def _ordered(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The chunks of an epoch in their order, and where in its line the windows begin and the last one ends."""
        order = _generator(self.seed, epoch, _CHUNKS).permutation(len(self._chunks))
        ends = np.cumsum(self._sizes[order])
        return order, np.concatenate([[0], ends[self.window - 1 : -1 : self.window], ends[-1:]])

    def _window(self, epoch: int, w: int) -> dict[str, np.ndarray]:
        if self._held[0] != (epoch, w):
            self._held = None, {}  # let go of it before the next is read
            self._held = (epoch, w), self._shuffled(epoch, w)
        return self._held[1]

    def _shuffled(self, epoch: int, w: int) -> dict[str, np.ndarray]:
        """The rows of a window, every chunk copied to its places as soon as it is read."""
        order, edges = self._order(epoch)
        places = _generator(self.seed, epoch, _WITHIN, w).permutation(int(edges[w + 1] - edges[w]))
        window, at = {}, 0
        for c in order[w * self.window : (w + 1) * self.window]:
            chunk = self._chunks[c]
            columns = self._read(chunk, self._columns)
            self._same(_form(columns), chunk.path)
            if not window:
                window = {name: np.empty((len(places), *x.shape[1:]), x.dtype) for name, x in columns.items()}
            for name, x in columns.items():
                window[name][places[at : at + chunk.rows]] = x
            at += chunk.rows
        return window

    def _same(self, form: dict[str, str], path: Path) -> None:
        """Raise unless the columns are those of the file that was looked at first."""
        first, at = self._form = self._form or (form, path)
        if form != first:
            raise ValueError(f"{path} holds rows of {_told(form)}, and {at} of {_told(first)}; expected the same")


def _form(columns: dict[str, Any]) -> dict[str, str]:
    return {name: f"{x.dtype}{list(x.shape[1:])}" for name, x in columns.items()}


def _told(form: dict[str, str]) -> str:
    return ", ".join(f"{name} {kind}".strip() for name, kind in form.items())


def _files(paths: Any) -> list[Path]:
    """The files that are meant, in the order of their names."""
    given = list(paths) if isinstance(paths, list | tuple) else [paths]
    if not given or not all(isinstance(path, str | os.PathLike) for path in given):
        raise ValueError(f"paths must be a file, a folder or a list of files, got {paths!r:.60}")
    files = []
    for path in map(Path, given):
        mode_of(path)
        files += sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
    kinds = sorted({file.suffix.lower() for file in files})
    if len(kinds) != 1 or kinds[0] not in SUFFIXES:
        found = f"files of the kinds {', '.join(kinds)}" if kinds else "no such files"
        raise ValueError(f"{given[0]} holds {found}; expected {', '.join(SUFFIXES)} files, all of one kind")
    return files


def _chosen(path: Path, held: Sequence[str], columns: Sequence[str] | None) -> list[str]:
    """The names to read."""
    for name in columns or ():
        if name not in held:
            raise ValueError(f"{path} has no column {name!r}; it has {', '.join(held)}")
    return list(held if columns is None else columns)


# NumPy's files ------------------------------------------------------------------------------------------------------


def _look_numpy(path: Path, columns: Sequence[str] | None) -> tuple[list[Chunk], dict[str, str]]:
    """Chunks and columns of a .npy or .npz file, by its headers."""
    held = headers(path)
    names = _chosen(path, list(held), columns)
    for name in names:
        if not held[name].shape or held[name].dtype.kind not in "biufc":
            raise ValueError(f"{path} holds {held[name]}; expected numbers whose first axis counts the rows")
    (rows,) = lengths if len(lengths := {held[name].shape[0] for name in names}) == 1 else (-1,)
    if rows < 0:
        raise ValueError(f"{path} holds {' and '.join(f'{n} ({held[n]})' for n in names)}; expected rows of one number")
    size = sum(math.prod(held[name].shape[1:]) * held[name].dtype.itemsize for name in names)
    at_once = max(1, _CHUNK // max(size, 1)) if path.suffix.lower() == ".npy" else max(rows, 1)
    starts = range(0, rows, at_once)
    chunks = [Chunk(path, at, min(at_once, rows - at), min(at_once, rows - at) * size) for at in starts]
    named = {name if len(names) > 1 else "": held[name] for name in names}
    return chunks, {name: f"{x.dtype}{list(x.shape[1:])}" for name, x in named.items()}


def _read_numpy(chunk: Chunk, columns: Sequence[str] | None) -> dict[str, np.ndarray]:
    if chunk.path.suffix.lower() == ".npy":
        # mapped for this once: pages that stay mapped count as memory of the process
        return {"": np.array(np.load(chunk.path, mmap_mode="r", allow_pickle=False)[chunk.at : chunk.at + chunk.rows])}
    arrays = read_arrays(chunk.path, _chosen(chunk.path, list(headers(chunk.path)), columns))
    return arrays if len(arrays) > 1 else {"": next(iter(arrays.values()))}


# parquet ------------------------------------------------------------------------------------------------------------


def _look_parquet(path: Path, columns: Sequence[str] | None) -> tuple[list[Chunk], dict[str, str]]:
    """Chunks and columns of a .parquet file, by its footer."""
    pa, _ = arrow()
    from pyarrow import parquet

    with reading_parquet(path), parquet.ParquetFile(path) as file:
        about, schema = file.metadata, file.schema_arrow
    names = _chosen(path, schema.names, columns)
    form = {name: str(schema.field(name).type) for name in names}
    for name in names:
        kind = schema.field(name).type
        inner = kind.value_type if _is_list(kind) else kind
        if not (pa.types.is_integer(inner) or pa.types.is_floating(inner) or pa.types.is_boolean(inner)):
            raise ValueError(
                f"{path}: column {name!r} holds {kind}; expected numbers, or lists of them: say which columns "
                "are read, columns=[...]"
            )
    groups = [about.row_group(k) for k in range(about.num_row_groups)]
    return [Chunk(path, k, g.num_rows, g.total_byte_size) for k, g in enumerate(groups) if g.num_rows], form


def _read_parquet(chunk: Chunk, columns: Sequence[str] | None) -> dict[str, np.ndarray]:
    from pyarrow import parquet

    with reading_parquet(chunk.path), parquet.ParquetFile(chunk.path) as file:
        table = file.read_row_group(chunk.at, columns=None if columns is None else list(columns))
    return {name: _column(table.column(name), name, chunk) for name in _chosen(chunk.path, table.column_names, columns)}


def _column(column: Any, name: str, chunk: Chunk) -> np.ndarray:
    """Numbers ``[rows]``, or lists of one length ``[rows, length]``."""
    where, column = f"{chunk.path}, row group {chunk.at}: column {name!r}", column.combine_chunks()
    inner = column.flatten() if _is_list(column.type) else column
    if column.null_count or inner.null_count:
        raise ValueError(f"{where} has {column.null_count or inner.null_count} missing values; fill or drop them")
    numbers = inner.to_numpy(zero_copy_only=False)
    if inner is column:
        return numbers
    lengths = np.unique(column.value_lengths().to_numpy(zero_copy_only=False))
    if len(lengths) != 1:
        raise ValueError(f"{where} has lists of {lengths[0]} to {lengths[-1]} numbers; expected lists of one length")
    return numbers.reshape(chunk.rows, lengths[0])


def _is_list(kind: Any) -> bool:
    pa, _ = arrow()
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


_KINDS = {
    ".npy": (_look_numpy, _read_numpy),
    ".npz": (_look_numpy, _read_numpy),
    ".parquet": (_look_parquet, _read_parquet),
}
