"""Tables: a .csv, .tsv or .parquet file read into numbers, categories and classes, and samples written as text again.

A cell is a number, a missing value or text (``data.sheets``). A column whose other cells are numbers may hold no text;
where text is allowed a column of text becomes the index of its distinct texts in alphabetical order.
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bridgejax._summary import summary
from bridgejax.data.arrays import MOST_WHOLE, Dataset, from_array, too_whole
from bridgejax.data.reading import Reading
from bridgejax.data.sheets import LONGEST, Sheet, categories, is_missing, read_sheet

_HEADER_HINT = "say which: header='yes' or 'no' (--header yes, --header no)"
_LONG = 1e9  # whole numbers from here on are rarely measured


def _number(cell: str) -> float | None:
    """The number in a cell, or None. Python's ``1_000`` is text here."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


# the header -----------------------------------------------------------------------------------------------------------


def _doubtful(sheet: Sheet, *, text: bool) -> str:
    """Why the first row could be a header although it has numbers, or a row although it has none; else empty."""
    with np.errstate(all="ignore"):  # infinite cells, which are refused later
        return _doubt(sheet, text=text)


def _doubt(sheet: Sheet, *, text: bool) -> str:
    first, width = sheet.first, sheet.width
    head = np.array([math.nan if (v := _number(cell)) is None else v for cell in first])
    if np.isnan(head).all():
        again = [cell for k, cell in enumerate(first) if text and cell and sheet.column(k).holds(cell)]
        return f"{again[0]!r} occurs again below it" if again else ""
    if np.isnan(head).any():
        if sheet.rows < 2:
            return ""
        below = [np.isnan(v) and np.isfinite(sheet.column(k).values).all() for k, v in enumerate(head)]
        column = int(np.argmax(below))
        return f"{first[column]!r} stands above numbers only" if any(below) and not is_missing(first[column]) else ""
    if not np.isfinite(head).all() or sheet.rows < 5:
        return ""
    body = np.stack([sheet.column(k).values for k in range(width)], axis=1)
    whole = np.array_equal(head, np.rint(head))
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


def _header(sheet: Sheet, reading: Reading, *, text: bool) -> Sheet:
    """The rows with the names of their columns, or with none."""
    first = sheet.first
    if not first:
        return sheet
    if reading.header == "no":
        return sheet.with_first(reading)
    why = _doubtful(sheet, text=text) if reading.header == "auto" else ""
    if why:
        shown = ", ".join(first[:6]) + ", ..." * (len(first) > 6)
        raise ValueError(
            f"{sheet.path}: {sheet.where(-1)} ({shown:.80}) may be a header or a row, as {why}; {_HEADER_HINT}"
        )
    named = any(first) and all(_number(cell) is None for cell in first)
    return sheet.named() if named or reading.header == "yes" else sheet.with_first(reading)


# columns --------------------------------------------------------------------------------------------------------------


def _column(sheet: Sheet, k: int, name: str, reading: Reading, *, text: bool) -> tuple[np.ndarray, tuple[str, ...]]:
    """A column as numbers (NaN where a value is missing), and the names of its categories where it holds text.

    Raises:
        ValueError: one sentence that says where in the file it is wrong.
    """
    cells, refuse = sheet.column(k), reading.missing == "refuse"

    def wrong(row: int, what: str) -> ValueError:
        return ValueError(f"{sheet.path}: {sheet.where(row)}, column {name} {what}")

    worded = ~cells.number & ~cells.missing
    is_text = bool(worded.any())
    if is_text and not text:
        row = int(np.argmax(worded))
        raise wrong(row, f"holds {cells.cell(row)[:40]!r}, which is not a number; {_hint(cells.cell(row))}")
    lost = cells.empty if is_text and refuse else cells.missing
    if refuse and lost.any():
        row = int(np.argmax(lost))
        cell = cells.cell(row)
        what = "is empty, which" if not cell else f"holds {cell[:40]!r}, which"
        kind = "is not a finite number" if cell.lower() == "nan" else "is not a number"
        raise wrong(row, f"{what} {kind}; missing='drop' leaves such rows out, 'impute' fills them (--missing drop)")
    if lost.all():
        raise ValueError(f"{sheet.path}: column {name} holds no value at all; leave it out")
    if is_text:
        return categories(cells, lost)
    bad = ~lost & ~np.isfinite(cells.values)
    if bad.any():
        row = int(np.argmax(bad))
        raise wrong(row, f"holds {cells.cell(row)[:40]!r}, which is not a finite number; expected numbers everywhere")
    for row in np.flatnonzero(np.abs(cells.values) >= MOST_WHOLE).tolist():
        cell = cells.cell(row)
        if cell.lstrip("+-").isdecimal() and int(cell) != float(cells.values[row]):
            raise wrong(row, too_whole(int(cell)))
    return np.where(lost, np.nan, cells.values), ()


def _hint(cell: str) -> str:
    """What may be meant by a cell that is no number."""
    if re.fullmatch(r"[+-]?[\d.,' ]*\d", cell) and re.search(r"\d", cell):
        return (
            "a decimal comma is read with decimal='comma' (--decimal comma), marks of thousands with --thousands "
            "comma, point, space or apostrophe"
        )
    return (
        "expected numbers everywhere (method constrained takes text columns too; --label-column takes one that holds "
        "classes, --columns says which are read)"
    )


def _uncounted(sheet: Sheet, values: dict[int, np.ndarray], shown: Sequence[str]) -> tuple[str, ...]:
    """What is said of columns that number the rows or name them, and would be learnt as measurements."""
    said = []
    for k, v in values.items():
        why = _names_rows(v)
        if why:
            others = f", for example --columns {others_of(k + 1, [j + 1 for j in values])}" if len(values) > 1 else ""
            said.append(f"column {shown[k]} of {sheet.path} {why}: it is learnt as numbers unless left out{others}")
    return tuple(said)


def _names_rows(v: np.ndarray) -> str:
    """Why a column seems to name its rows; else empty."""
    if len(v) < 10 or not np.array_equal(v, np.rint(v)):
        return ""
    if np.all(np.diff(v) == 1.0):
        return f"counts {text_of(v[0])}, {text_of(v[1])}, ..., {text_of(v[-1])}, as an index of rows does"
    if np.min(np.abs(v)) >= _LONG and len(np.unique(v)) == len(v):
        digits = len(f"{np.max(np.abs(v)):.0f}")
        return f"holds {len(v)} different whole numbers of up to {digits} digits, as identifiers or times in seconds do"
    return ""


def others_of(number: int, numbers: Sequence[int]) -> str:
    """The numbers of the other columns as ``--columns`` takes them: 1-4,6."""
    parts: list[list[int]] = []
    for other in numbers:
        if other == number:
            continue
        if parts and parts[-1][-1] + 1 == other:
            parts[-1].append(other)
        else:
            parts.append([other])
    return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)


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
    """A table as columns of numbers, missing values not yet filled; ``only``: those of these places."""
    sheet = _header(read_sheet(path, reading), reading, text=text)
    columns, width = sheet.names, sheet.width
    if not sheet.rows:
        raise ValueError(f"{path} has 0 rows{' under its header' if columns else ''}; expected at least 2 samples")
    shown = [repr(name) for name in columns] or [str(k + 1) for k in range(width)]
    at = None if not reading.label_column else _label_at(path, columns, width, reading.label_column, what)
    kept = _kept(path, columns, width, reading.columns, at) if only is None else list(only)
    if not kept:
        raise ValueError(f"{path} has no column beside {what} {reading.label_column!r}; expected at least one")
    _check_names(path, columns, kept if at is None else [*kept, at])
    read = {k: _column(sheet, k, shown[k], reading, text=text) for k in kept}
    notes = _uncounted(sheet, {k: v for k, (v, texts) in read.items() if not texts}, shown)
    values = np.stack([read[k][0] for k in kept], axis=1)
    labels = None
    if at is not None:
        labels, known = _labels(sheet, at, shown[at], what, reading)
        values = values[known]
        if not known.all():
            kind = what.removeprefix("the ").removesuffix("s")
            notes += (f"{int((~known).sum())} of {len(known)} rows of {path} have no {kind}: left out",)
    names = tuple(columns[k] for k in kept) if columns else ()
    texts = {j: read[k][1] for j, k in enumerate(kept) if read[k][1]}
    place = ("", 0) if at is None else (columns[at] if columns else "", at)
    return Table(values, names, texts, tuple(k + 1 for k in kept), labels, place, notes)


def _labels(sheet: Sheet, at: int, name: str, what: str, reading: Reading) -> tuple[np.ndarray, np.ndarray]:
    """The column told apart, of the rows that have it, as numbers or text; and which these are."""
    cells = sheet.column(at)
    known = ~cells.missing
    if not known.all() and reading.missing == "refuse":
        kind = what.removeprefix("the ").removesuffix("s")
        raise ValueError(
            f"{sheet.path}: {sheet.where(int(np.argmin(known)))} has no {kind} in column {name}; missing='drop' leaves "
            "such rows out (--missing drop)"
        )
    if cells.number[known].all():
        return cells.values[known], known
    words = [cells.cell(row) for row in np.flatnonzero(known).tolist()]
    longest = max(words, key=len)
    if len(longest) > LONGEST:
        raise ValueError(
            f"{sheet.path}: column {name} holds a text of {len(longest)} characters ({longest[:40]!r}...), too long "
            f"for {what}; expected at most {LONGEST}"
        )
    return np.array(words), known


def _check_names(path: Path, names: tuple[str, ...], used: Sequence[int]) -> None:
    """Raise where two columns that are used have one name."""
    seen: dict[str, int] = {}
    for k in used if names else ():
        if names[k] in seen:
            raise ValueError(
                f"{path} has two columns named {names[k]!r}, {seen[names[k]] + 1} and {k + 1}: rename one, or say by "
                "their numbers which are read (--columns 1,3-5)"
            )
        seen[names[k]] = k


def open_table(path: Path, reading: Reading) -> Sheet:
    """The cells of a table, and the names of its columns."""
    return _header(read_sheet(path, reading), reading, text=True)


def read_csv(path: Path, reading: Reading | None = None, *, text: bool = False) -> Dataset:
    """Rows of a table; with ``text`` columns may hold text, which is read as categories. See ``Reading``."""
    reading = reading or Reading()
    table = read_table(path, reading, text=text)
    values, labels, notes = table.values, table.labels, table.notes
    if reading.missing != "refuse":
        values, rows, said = filled(values, reading.missing, str(path), table.names, table.texts)
        notes, labels = notes + said, None if labels is None else labels[rows]
    dataset = from_array(values, labels, name=str(path), columns=table.names, kind=reading.kind)
    return dataclasses.replace(dataset, texts=table.texts, notes=notes, label_column=table.place)


def listed(names: Sequence[str], most: int = 20) -> str:
    """The names, or the first of many."""
    return ", ".join(map(repr, names[:most])) + f", ... ({len(names)} in all)" * (len(names) > most)


def _label_at(path: Path, columns: tuple[str, ...], width: int, name: str, what: str) -> int:
    """The index of the column of labels, or of what else is told apart from the others."""
    if columns.count(name) > 1:
        raise ValueError(f"{path} has {columns.count(name)} columns named {name!r}; rename that of {what}")
    if name in columns:
        return columns.index(name)
    if not columns and name.isdecimal() and 1 <= int(name) <= width:
        return int(name) - 1
    there = listed(columns) if columns else f"{width}, without a header: name one by its number, from 1"
    near = difflib.get_close_matches(name, columns, n=1)
    hint = f"did you mean {near[0]!r}? Its" if near else "its"
    raise ValueError(f"{path} has no column {name!r:.100} for {what}; {hint} columns: {there}")


def _kept(path: Path, names: tuple[str, ...], width: int, asked: str, labels: int | None) -> list[int]:
    """The indices of the columns to read, in order: those asked for, or all but that of the labels."""
    if not asked:
        return [k for k in range(width) if k != labels]
    kept: list[int] = []
    for text in (part.strip() for part in asked.split(",")):
        first, dash, last = (part.strip() for part in text.partition("-"))
        numbers = (first, last) if dash else (text, text)
        if names.count(text) > 1:
            raise ValueError(f"{path} has {names.count(text)} columns named {text!r}; name it by its number, from 1")
        if text in names:
            kept.append(names.index(text))
        elif all(number.isdecimal() for number in numbers) and 1 <= int(numbers[0]) <= int(numbers[1]) <= width:
            kept.extend(range(int(numbers[0]) - 1, int(numbers[1])))
        else:
            there = f"{listed(names)}, or numbers" if names else f"numbers from 1 to {width}, as in 3-9"
            raise ValueError(f"{path} has no column {text!r:.100} (columns {asked!r:.100}); its columns: {there}")
    if len(set(kept)) < len(kept) or labels in kept:
        raise ValueError(
            f"columns {asked!r:.100} names a column of {path} twice, or that of the labels; name each once"
        )
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
