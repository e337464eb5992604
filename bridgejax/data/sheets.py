"""The cells of a table, before it is said what they mean: a .csv or .tsv file as text, a .parquet file as it is typed.

    text      pyarrow parses rows into columns of text; a cell is a number, a missing value (empty, NA, n/a, nan, null,
              none, ?) or words. The separator is the first of tab, semicolon and comma that the first row holds; lines
              that begin with # are left out
    parquet   columns of numbers are read as numbers, columns of text as text; null is missing

A column is parsed when it is asked for. The csv module of Python, which is much slower, is used for one thing: to find
the line that a message names.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bridgejax._summary import summary
from bridgejax.data.memory import PARTS, check_memory
from bridgejax.data.reading import MARKS, Reading

MISSING = ("", "na", "n/a", "nan", "null", "none", "?")
_MOST_COLUMNS = 2**16
_PER_CELL = 40  # bytes: its place in the text, its number, the number while it is standardised, what it is
_PER_COLUMN = 12_000  # bytes
LONGEST = 256  # characters of a name or a label
_COMMENT = re.compile(rb"(?:\A|(?<=[\r\n]))(?:#[^\r\n]*| +)(?:\r\n|\r|\n|\Z)")
_NUMBER = r"(?i)^[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf|infinity|nan)$"


def arrow() -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.compute.

    Raises:
        ImportError: they are not installed.
    """
    try:
        import pyarrow
        import pyarrow.compute
    except ImportError:
        raise ImportError("a table (.csv, .tsv, .parquet) needs pyarrow: pip install 'bridgejax[run]'") from None
    return pyarrow, pyarrow.compute


class Cells(NamedTuple):
    """One column.

    Attributes:
        values: float64, NaN where a cell holds no number.
        number: where it holds one; "nan" and "inf" are numbers.
        missing: where it holds nothing, or a word for it.
        empty: where it holds nothing at all.
        words: the cells as text (a pyarrow array); None of numbers that are numbers in the file.
    """

    values: np.ndarray
    number: np.ndarray
    missing: np.ndarray
    empty: np.ndarray
    words: Any

    __repr__ = summary

    def holds(self, cell: str) -> bool:
        """Whether one of the cells is this text."""
        _, pc = arrow()
        return self.words is not None and bool(pc.any(pc.equal(self.words, cell)).as_py())

    def cell(self, row: int) -> str:
        """One cell as text."""
        return f"{self.values[row]:.17g}" if self.words is None else self.words[row].as_py()


class Sheet(NamedTuple):
    """The rows of a file.

    Attributes:
        path: of the file.
        names: of the columns; empty where there are none, or where ``first`` may hold them.
        first: of text the first row, which is none of ``rows`` until it is said what it is.
        width: how many columns.
        rows: how many rows.
        column: ``column(k)``, the cells of a column.
        where: ``where(row)``, the place of a row in the file, in words.
    """

    path: Path
    names: tuple[str, ...]
    first: tuple[str, ...]
    width: int
    rows: int
    column: Callable[[int], Cells]
    where: Callable[[int], str]

    __repr__ = summary

    def named(self) -> Sheet:
        """The first row names the columns.

        Raises:
            ValueError: a name as long as a text.
        """
        longest = max(self.first, key=len)
        if len(longest) > LONGEST:
            raise ValueError(
                f"{self.path}: {self.where(-1)} names a column by {len(longest)} characters ({longest[:40]!r}...); "
                f"expected at most {LONGEST}: is a quote not closed?"
            )
        return self._replace(names=self.first, first=())

    def with_first(self, reading: Reading) -> Sheet:
        """The first row is one of the rows."""
        pa, _ = arrow()

        def column(k: int) -> Cells:
            one, rest = _of_text(pa.chunked_array([[self.first[k]]]), reading), self.column(k)
            flags = [np.concatenate(pair) for pair in zip(one[:-1], rest[:-1], strict=True)]
            return Cells(flags[0], flags[1], flags[2], flags[3], pa.concat_arrays([one.words, rest.words]))

        return self._replace(
            names=(), first=(), rows=self.rows + 1, column=column, where=lambda row: self.where(row - 1)
        )


def read_sheet(path: Path, reading: Reading) -> Sheet:
    """The cells of a table.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: a file that is none, ragged rows, another encoding than UTF-8, more memory than may be used.
    """
    return _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_text(path, reading)


def is_missing(cell: str) -> bool:
    """Whether a cell holds no value."""
    return cell.lower() in MISSING


def categories(cells: Cells, lost: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """A column of text as indices (NaN where ``lost``) of its distinct texts, and these in alphabetical order."""
    pa, pc = arrow()
    if cells.words is None:
        raise ValueError("cells must hold text, got numbers")
    encoded = pc.dictionary_encode(pc.if_else(pa.array(lost), None, cells.words))
    words = encoded.dictionary.to_pylist()
    texts = tuple(sorted(words))
    places = np.empty(len(words))
    places[sorted(range(len(words)), key=words.__getitem__)] = np.arange(len(words))
    codes = pc.fill_null(encoded.indices, 0).to_numpy(zero_copy_only=False)
    return np.where(lost, np.nan, places[codes]), texts


# text -----------------------------------------------------------------------------------------------------------------


def _read_text(path: Path, reading: Reading) -> Sheet:
    """Rows of text."""
    pa, _ = arrow()
    from pyarrow import csv as parser

    size = path.stat().st_size
    check_memory(4 * size, f"{path} is a table of {size} bytes")
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    starts = _starts(data)
    if np.any(np.isin(np.frombuffer(data, np.uint8)[starts], (ord("#"), ord(" ")))):
        data = _COMMENT.sub(b"", data)
        starts = _starts(data)
    separator, first = _first(path, data)
    count = data.count(separator.encode()) + len(starts)
    need = 4 * size + _PER_CELL * count + _PER_COLUMN * len(first)
    check_memory(need, f"{path} is a table of {size} bytes, up to {count} cells in {len(first)} columns")
    if len(first) > _MOST_COLUMNS:
        raise ValueError(f"{path} has {len(first)} columns, too many for a table as text; write it with np.save (.npy)")
    names = [str(k) for k in range(len(first))]
    # a row must fit into a block, and where there are quotes it may have many lines
    longest = len(data) if b'"' in data else int(np.diff(starts, append=len(data)).max(initial=0))
    try:
        table = None if not first else parser.read_csv(
            pa.BufferReader(data),
            parser.ReadOptions(column_names=names, block_size=min(max(2**20, 64 * longest), 2**31 - 1)),
            parser.ParseOptions(delimiter=separator, newlines_in_values=b'"' in data),
            parser.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
        )  # fmt: skip
    except pa.ArrowInvalid as error:
        raise ValueError(_what_is_wrong(path, data, separator, str(error))) from None
    known: dict[int, Cells] = {}

    def column(k: int) -> Cells:
        if k not in known:
            known[k] = _of_text(table.column(k).slice(1), reading)  # pyright: ignore[reportOptionalMemberAccess]
        return known[k]

    def where(row: int) -> str:
        try:
            return f"line {next(itertools.islice(_rows(path, separator), row + 1, None))[0]}"
        except (csv.Error, StopIteration):
            return f"row {row + 2}"

    words = tuple(cell.strip() for cell in first)
    return Sheet(path, (), words, len(first), 0 if table is None else table.num_rows - 1, column, where)


def _starts(data: bytes) -> np.ndarray:
    """Where lines begin."""
    view = np.frombuffer(data, np.uint8)
    starts = np.flatnonzero((view == 10) | (view == 13)) + 1
    return np.concatenate([[0], starts[starts < len(data)]]) if data else starts


def _first(path: Path, data: bytes) -> tuple[str, list[str]]:
    """The separator, and the first row; none of an empty file."""
    end = re.search(rb"[^\r\n]+", data)
    start = b"" if end is None else end[0]
    separator = next((c for c in "\t;," if c.encode() in start), ",")
    try:
        with io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline="") as file:
            rows = csv.reader(file, delimiter=separator)
            return separator, next((cells for cells in rows if cells), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(_what_is_wrong(path, data, separator, str(error))) from None


def _rows(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Lines and cells of the rows as Python's csv module reads them."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        lines = enumerate(file, start=1)
        kept = [(line, text) for line, text in lines if not text.startswith("#") and text.strip(" \r\n")]
    reader = csv.reader((text for _, text in kept), delimiter=separator)
    for cells in reader:
        if cells:
            yield kept[reader.line_num - 1][0], cells


def _what_is_wrong(path: Path, data: bytes, separator: str, said: str) -> str:
    """Why a file cannot be parsed, by its line."""
    try:
        data.decode()
        rows = _rows(path, separator)
        begin, first = next(rows)
        for line, cells in rows:
            if len(cells) != len(first):
                return f"{path} is ragged: line {line} has {len(cells)} cells, line {begin} has {len(first)}"
    except UnicodeDecodeError as error:
        return f"{path} is no UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
    except (csv.Error, StopIteration):
        pass
    return f"{path} is no readable csv file ({' '.join(said.split())[:120]})"


def _of_text(column: Any, reading: Reading) -> Cells:
    """What cells of text hold."""
    pa, pc = arrow()
    column = column.combine_chunks()
    if (reading.decimal, reading.thousands) == ("point", "none"):
        with contextlib.suppress(pa.ArrowInvalid):  # one of them is no number
            values = pc.cast(column, pa.float64())
            if values.null_count == 0 and not pc.any(pc.is_nan(values)).as_py():
                none = np.zeros(len(values), bool)
                return Cells(values.to_numpy(), ~none, none, none, column)
    words = pc.utf8_trim_whitespace(pc.fill_null(column, ""))
    missing = pc.is_in(pc.utf8_lower(words), value_set=pa.array(MISSING))
    plain = pc.if_else(missing, None, _with_points(words, reading))
    try:
        number, values = pc.invert(missing), pc.cast(plain, pa.float64())
    except pa.ArrowInvalid:
        number = pc.fill_null(pc.match_substring_regex(plain, _NUMBER), False)
        values = pc.cast(pc.if_else(number, plain, None), pa.float64())
    number, missing, empty = (x.to_numpy(zero_copy_only=False) for x in (number, missing, pc.equal(words, "")))
    return Cells(pc.fill_null(values, np.nan).to_numpy(zero_copy_only=False), number, missing, empty, words)


def _with_points(words: Any, reading: Reading) -> Any:
    """Numbers as they are written with a decimal point and no marks of thousands; null of what is none."""
    _, pc = arrow()
    point, mark = (re.escape(MARKS[name]) for name in (reading.decimal, reading.thousands))
    if mark:
        grouped = rf"^[+-]?\d{{1,3}}(?:{mark}\d{{3}})+(?:{point}\d*)?$"
        bare = pc.replace_substring(words, MARKS[reading.thousands], "")
        words = pc.if_else(pc.match_substring_regex(words, grouped), bare, words)
    if reading.decimal == "comma":
        dotted = pc.match_substring(words, ".")
        words = pc.if_else(dotted, "-", pc.replace_substring(words, ",", "."))  # a dash is no number
    return words


# parquet --------------------------------------------------------------------------------------------------------------


def _read_parquet(path: Path) -> Sheet:
    """Columns as they are typed."""
    pa, _ = arrow()
    from pyarrow import parquet

    with reading_parquet(path), parquet.ParquetFile(path) as file:
        about, schema = file.metadata, file.schema_arrow
        names, rows = tuple(schema.names), about.num_rows
        unpacked = sum(about.row_group(k).total_byte_size for k in range(about.num_row_groups))
        texts = [f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    need = 2 * unpacked + _PER_CELL * rows * len(names)
    check_memory(need, f"{path} declares {rows} rows of {len(names)} columns", PARTS)
    known: dict[int, Cells] = {}

    def column(k: int) -> Cells:
        if k not in known:
            known[k] = _typed(path, names[k], rows, texts)
        return known[k]

    return Sheet(path, names, (), len(names), rows, column, lambda row: f"row {row + 1}")


@contextlib.contextmanager
def reading_parquet(path: Path) -> Iterator[None]:
    """Whatever a damaged file raises as a ``ValueError`` that names it."""
    try:
        yield
    except PermissionError:
        raise
    except Exception as error:  # thrift, thrown as almost any type
        said = " ".join(str(error).split())[:120]
        what = f"is damaged or no parquet file ({type(error).__name__}: {said})"
        raise ValueError(f"{path} {what}; write it again") from None


def _typed(path: Path, name: str, rows: int, texts: list[str]) -> Cells:
    """A column of numbers, of truth values, or of text."""
    pa, pc = arrow()
    from pyarrow import parquet

    # as a dictionary: a word that stands a million times is in memory once
    with reading_parquet(path), parquet.ParquetFile(path, read_dictionary=texts) as file:
        column = file.read(columns=[name]).column(name)
    kind = column.type
    if (pa.types.is_dictionary(kind) and pa.types.is_string(kind.value_type)) or pa.types.is_large_string(kind):
        longest = max((pc.max(pc.binary_length(c.dictionary)).as_py() or 0 for c in column.chunks), default=0)
        check_memory(rows * (longest + _PER_CELL), f"{path}: column {name!r} holds texts of up to {longest} bytes")
        return _of_text(pc.cast(column, pa.string()), Reading())
    if pa.types.is_decimal(kind) or (pa.types.is_integer(kind) and kind.bit_width == 64):
        return _of_text(pc.cast(column, pa.string()), Reading())  # whole numbers that float64 may not hold
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise ValueError(
            f"{path}: column {name!r} holds {kind}; expected numbers or text: leave it out (--columns says which are "
            "read), or save it as a number"
        )
    plain = pc.cast(column, pa.int8()) if pa.types.is_boolean(kind) else column
    values = pc.fill_null(pc.cast(plain, pa.float64()), np.nan).to_numpy()
    missing = np.isnan(values)
    return Cells(values, ~missing, missing, missing, None)
