"""Tables as text: a .csv file read into numbers, categories and classes, and samples written as one again.

A cell is a number, a missing value (empty, NA, n/a, nan, null, none, ?) or text. A column whose other cells are numbers
may hold no text; where text is allowed a column of text becomes the index of its distinct texts in alphabetical order.
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bridgejax._summary import summary
from bridgejax.data.arrays import MOST_WHOLE, Dataset, from_array, too_whole
from bridgejax.data.reading import Reading

MISSING = ("", "na", "n/a", "nan", "null", "none", "?")
_HEADER_HINT = "say which: header='yes' or 'no' (--header yes, --header no)"


class _Grid(NamedTuple):
    """The cells of a file: rows of one length, and the lines they are on."""

    rows: list[list[str]]
    lines: list[int]


def _number(cell: str) -> float | None:
    """The number in a cell, or None. Python's ``1_000`` is text here."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def is_missing(cell: str) -> bool:
    """Whether a cell holds no value."""
    return cell.lower() in MISSING


def _grid(path: Path) -> _Grid:
    """The separator is the first of tab, semicolon and comma that the first row holds; lines that begin with # are left
    out.
    """
    rows: list[list[str]] = []
    lines: list[int] = []
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
            if rows and len(cells) != len(rows[0]):
                raise ValueError(
                    f"{path} is ragged: line {line} has {len(cells)} cells, line {lines[0]} has {len(rows[0])}"
                )
            rows.append(cells)
            lines.append(line)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{path} is no readable csv file ({error})") from None
    return _Grid(rows, lines)


# the header -----------------------------------------------------------------------------------------------------------


def _doubtful(first: list[str], rest: list[list[str]], *, text: bool) -> str:
    """Why the first row could be a header although it has numbers, or a row although it has none; else empty."""
    with np.errstate(all="ignore"):  # infinite cells, which are refused later
        return _doubt(first, rest, text=text)


def _doubt(first: list[str], rest: list[list[str]], *, text: bool) -> str:
    numbers = np.array([[math.nan if (v := _number(c)) is None else v for c in row] for row in (first, *rest)])
    head, body = numbers[0], numbers[1:]
    if np.isnan(head).all():
        again = [cell for k, cell in enumerate(first) if text and cell and any(row[k] == cell for row in rest)]
        return f"{again[0]!r} occurs again below it" if again else ""
    if np.isnan(head).any():
        below = np.isfinite(body).all(axis=0) & np.isnan(head) & (len(rest) > 1)
        column = int(np.argmax(below))
        return f"{first[column]!r} stands above numbers only" if below.any() and not is_missing(first[column]) else ""
    if not np.isfinite(head).all() or len(rest) < 5:
        return ""
    whole, width = np.array_equal(head, np.rint(head)), len(first)
    counts = width >= 3 and np.all(np.diff(head) == 1.0) and (width >= 4 or head[0] in (0.0, 1.0))
    if counts and np.mean(np.all(np.diff(body, axis=1) == 1.0, axis=1)) < 0.5:
        return f"it counts {first[0]}, {first[1]}, ..., {first[-1]}, as names of columns do"
    low, high = (np.where(np.isnan(body), far, body) for far in (math.inf, -math.inf))
    low, high = low.min(axis=0), high.max(axis=0)
    if width >= 2 and np.all(np.maximum(low - head, head - high) > high - low):
        return "it is far from all other rows in every column"
    if whole and body.size >= 50 and not np.any(body == np.rint(body)):
        return "its numbers are whole and no other is"
    return ""


def _header(path: Path, grid: _Grid, reading: Reading, *, text: bool) -> tuple[tuple[str, ...], _Grid]:
    """The names of the columns (empty: none), and the rows under them."""
    if not grid.rows or reading.header == "no":
        return (), grid
    first, rest = grid.rows[0], grid.rows[1:]
    why = _doubtful(first, rest, text=text) if reading.header == "auto" else ""
    if why:
        shown = ", ".join(first[:6]) + ", ..." * (len(first) > 6)
        raise ValueError(
            f"{path}: line {grid.lines[0]} ({shown:.80}) may be a header or a row, as {why}; {_HEADER_HINT}"
        )
    named = any(first) and all(_number(cell) is None for cell in first)
    if not named and reading.header == "auto":
        return (), grid
    return tuple(first), _Grid(rest, grid.lines[1:])


# columns --------------------------------------------------------------------------------------------------------------


class _Cells(NamedTuple):
    """One column: its numbers (NaN where a value is missing) and, of a column of text, the names of its categories."""

    values: np.ndarray
    texts: tuple[str, ...] = ()


def _column(path: Path, cells: list[str], grid: _Grid, name: str, reading: Reading, *, text: bool) -> _Cells:
    """A column's cells as numbers, or one sentence that says where in the file it is wrong."""

    def wrong(row: int, what: str) -> ValueError:
        return ValueError(f"{path}: line {grid.lines[row]}, column {name} {what}")

    refuse = reading.missing == "refuse"
    numbers = [_number(cell) for cell in cells]
    worded = [
        cell != "" and number is None and not is_missing(cell) for cell, number in zip(cells, numbers, strict=True)
    ]
    is_text = any(worded)
    if is_text and not text:
        row = worded.index(True)
        hint = (
            "(method constrained takes text columns too; --label-column takes one that holds classes, --columns "
            "says which are read)"
        )
        raise wrong(row, f"holds {cells[row][:40]!r}, which is not a number; expected numbers everywhere {hint}")
    lost = [cell == "" or (is_missing(cell) and not (is_text and refuse)) for cell in cells]
    if refuse and any(lost):
        row = lost.index(True)
        what = "is empty, which" if not cells[row] else f"holds {cells[row][:40]!r}, which"
        kind = "is not a number" if numbers[row] is None else "is not a finite number"
        raise wrong(row, f"{what} {kind}; missing='drop' leaves such rows out, 'impute' fills them (--missing drop)")
    if all(lost):
        raise ValueError(f"{path}: column {name} holds no value at all; leave it out")
    if is_text:
        texts = tuple(sorted({cell for cell, gone in zip(cells, lost, strict=True) if not gone}))
        index = {word: float(k) for k, word in enumerate(texts)}
        return _Cells(np.array([math.nan if gone else index[c] for c, gone in zip(cells, lost, strict=True)]), texts)
    for row, (cell, number, gone) in enumerate(zip(cells, numbers, lost, strict=True)):
        if not gone and not math.isfinite(number or 0.0):
            raise wrong(row, f"holds {cell[:40]!r}, which is not a finite number; expected numbers everywhere")
        if not gone and abs(number or 0.0) >= MOST_WHOLE and cell.lstrip("+-").isdecimal() and int(cell) != number:
            raise wrong(row, too_whole(int(cell)))
    return _Cells(np.array([math.nan if gone else v for v, gone in zip(numbers, lost, strict=True)], np.float64))


def filled(
    values: np.ndarray, how: str, what: str, names: Sequence[str] = (), texts: dict[int, tuple[str, ...]] | None = None
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """What becomes of missing values (NaN): (values, rows that stay, what was done in words).

    Args:
        values: (n, columns), or arrays (n, ...), which can only be dropped.
        how: "drop" or "impute".
        what: the file, for messages.
        names: of the columns.
        texts: columns that hold indices of text.
    """
    gone = np.isnan(values)
    bad = np.any(gone.reshape(len(values), -1), axis=1)
    rows = np.arange(len(values))
    if not bad.any():
        return values, rows, ()
    if how == "drop":
        rows = np.flatnonzero(~bad)
        return values[rows], rows, (f"{int(bad.sum())} of {len(bad)} rows of {what} have missing values: left out",)
    if values.ndim != 2:
        raise ValueError(
            f"missing='impute' fills the columns of a table, and {what} holds arrays of shape {values.shape[1:]}; drop "
            "such samples (--missing drop)"
        )
    values, said = values.copy(), []
    for k in np.flatnonzero(gone.any(axis=0)):
        known = np.sort(values[~gone[:, k], k])
        if not len(known):
            raise ValueError(f"{what}: column {k + 1} holds no value at all; leave it out")
        words, name = (texts or {}).get(int(k), ()), names[int(k)] if len(names) else f"column {k + 1}"
        # the lower median is one of the values: a column of whole numbers stays one
        value = float(np.argmax(np.bincount(known.astype(int)))) if words else known[(len(known) - 1) // 2]
        values[gone[:, k], k] = value
        shown = words[int(value)] if words else text_of(value)
        said.append(f"{name} with {shown} ({int(gone[:, k].sum())})")
    note = f"{int(gone.sum())} missing values of {what} are filled: {', '.join(said[:8])}{', ...' * (len(said) > 8)}"
    return values, rows, (note,)


class Table(NamedTuple):
    """What a file holds: columns as numbers, NaN where a value is missing, and one column told apart as it is.

    Attributes:
        values: (n, columns); of a column of text the indices of its texts.
        names: of the columns; empty without a header.
        texts: of columns of text, by their place.
        numbers: where the columns stand in the file, from 1.
        labels: the column told apart, numbers or text, or None.
        place: its name and place.
        notes: what was left out.
    """

    values: np.ndarray
    names: tuple[str, ...]
    texts: dict[int, tuple[str, ...]]
    numbers: tuple[int, ...]
    labels: np.ndarray | None
    place: tuple[str, int]
    notes: tuple[str, ...]

    __repr__ = summary


def read_table(
    path: Path, reading: Reading, *, text: bool = False, what: str = "the labels", only: Sequence[int] | None = None
) -> Table:
    """A file of text as columns of numbers, missing values not yet filled; ``only``: those of these places."""
    grid = _grid(path)
    columns, grid = _header(path, grid, reading, text=text)
    if not grid.rows:
        raise ValueError(f"{path} has 0 rows{' under its header' if columns else ''}; expected at least 2 samples")
    cells = [list(column) for column in zip(*grid.rows, strict=True)]
    shown = [repr(name) for name in columns] or [str(k + 1) for k in range(len(cells))]
    at = None if not reading.label_column else _label_at(path, columns, len(cells), reading.label_column, what)
    kept = _kept(path, columns, len(cells), reading.columns, at) if only is None else list(only)
    if not kept:
        raise ValueError(f"{path} has no column beside {what} {reading.label_column!r}; expected at least one")
    read = {k: _column(path, cells[k], grid, shown[k], reading, text=text) for k in kept}
    notes: tuple[str, ...] = ()
    labels = None if at is None else np.array(cells[at])
    values = np.stack([read[k].values for k in kept], axis=1)
    if labels is not None:
        known = np.array([not is_missing(cell) for cell in labels])
        kind = what.removeprefix("the ").removesuffix("s")
        if not known.all() and reading.missing == "refuse":
            line = grid.lines[int(np.argmin(known))]
            raise ValueError(
                f"{path}: line {line} has no {kind} in column {shown[at or 0]}; missing='drop' leaves such rows out "
                "(--missing drop)"
            )
        if not known.all():
            notes += (f"{int((~known).sum())} of {len(known)} rows of {path} have no {kind}: left out",)
            values, labels = values[known], labels[known]
        if all(_number(cell) is not None for cell in labels.tolist()):
            labels = labels.astype(np.float64)
    names = tuple(columns[k] for k in kept) if columns else ()
    texts = {j: read[k].texts for j, k in enumerate(kept) if read[k].texts}
    place = ("", 0) if at is None else (columns[at] if columns else "", at)
    return Table(values, names, texts, tuple(k + 1 for k in kept), labels, place, notes)


def cells_of(path: Path, reading: Reading) -> tuple[tuple[str, ...], int, list[list[str]]]:
    """The names of the columns of a file (empty: none), how many it has, and the rows as they are."""
    grid = _grid(path)
    columns, grid = _header(path, grid, reading, text=True)
    return columns, len(columns) or (len(grid.rows[0]) if grid.rows else 0), grid.rows


def read_csv(path: Path, reading: Reading | None = None, *, text: bool = False) -> Dataset:
    """Rows of numbers; with ``text`` columns may hold text, which is read as categories. See ``Reading``."""
    reading = reading or Reading()
    table = read_table(path, reading, text=text)
    values, labels, notes = table.values, table.labels, table.notes
    if reading.missing != "refuse":
        values, rows, said = filled(values, reading.missing, str(path), table.names, table.texts)
        notes, labels = notes + said, None if labels is None else labels[rows]
    dataset = from_array(values, labels, name=str(path), columns=table.names, kind=reading.kind)
    return dataclasses.replace(dataset, texts=table.texts, notes=notes, label_column=table.place)


def _label_at(path: Path, columns: tuple[str, ...], width: int, name: str, what: str) -> int:
    """The index of the column of labels, or of what else is told apart from the others."""
    if name in columns:
        return columns.index(name)
    if not columns and name.isdecimal() and 1 <= int(name) <= width:
        return int(name) - 1
    there = ", ".join(map(repr, columns)) if columns else f"{width}, without a header: name one by its number, from 1"
    near = difflib.get_close_matches(name, columns, n=1)
    hint = f"did you mean {near[0]!r}? Its" if near else "its"
    raise ValueError(f"{path} has no column {name!r} for {what}; {hint} columns: {there}")


def _kept(path: Path, names: tuple[str, ...], width: int, asked: str, labels: int | None) -> list[int]:
    """The indices of the columns to read, in order: those asked for, or all but that of the labels."""
    if not asked:
        return [k for k in range(width) if k != labels]
    kept: list[int] = []
    for text in (part.strip() for part in asked.split(",")):
        first, dash, last = (part.strip() for part in text.partition("-"))
        numbers = (first, last) if dash else (text, text)
        if text in names:
            kept.append(names.index(text))
        elif all(number.isdecimal() for number in numbers) and 1 <= int(numbers[0]) <= int(numbers[1]) <= width:
            kept.extend(range(int(numbers[0]) - 1, int(numbers[1])))
        else:
            there = f"{', '.join(map(repr, names))}, or numbers" if names else f"numbers from 1 to {width}, as in 3-9"
            raise ValueError(f"{path} has no column {text!r} (columns {asked!r}); its columns: {there}")
    if len(set(kept)) < len(kept) or labels in kept:
        raise ValueError(f"columns {asked!r} names a column of {path} twice, or that of the labels; name each once")
    return kept


# writing --------------------------------------------------------------------------------------------------------------


def text_of(v: Any) -> str:
    """The shortest text that reads back as v, in v's own precision; whole numbers without a point."""
    return str(int(v)) if abs(v) < 1e16 and v == int(v) else str(v)


def write_csv(
    path: Path, rows: Sequence[Sequence[str]], columns: Sequence[str] = (), labels: Sequence[str] | None = None,
    label_column: tuple[str, int] = ("", 0),
) -> None:  # fmt: skip
    """Rows of text under the names of their columns (none: no header), labels in the column they were read from."""
    name, at = label_column

    def whole(row: Sequence[str], label: str) -> list[str]:
        return list(row) if labels is None else [*row[:at], label, *row[at:]]

    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if columns:
            writer.writerow(whole(columns, name))
        writer.writerows(whole(row, label) for row, label in zip(rows, labels or [""] * len(rows), strict=True))
