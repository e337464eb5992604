"""A table with a target: what its columns become as inputs of a model, and the column that is predicted.

    numbers       (value - mean) / deviation, both of the training rows
    categories    of C texts C columns, 1 where a row has the text and 0 elsewhere (of two texts one column), scaled too
    missing       the lower median of the training rows, or their commonest text, where that was asked for

A target of text, or of two values, is classes; one of other numbers is numbers, where nothing is said. Both the scales
and the texts are those of the training rows: what is held out is not looked at.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from bridgejax._summary import summary
from bridgejax._types import Json, Numbers
from bridgejax.data.reading import Reading
from bridgejax.data.tables import Table, filled, listed, open_table, others_of, read_table, text_of

Task = Literal["auto", "regression", "classes"]
_FEW = 20  # whole numbers that may be grades


@dataclass(frozen=True, eq=False)
class Inputs:
    """How the columns of a table become the inputs of a model.

    Args:
        names: of the columns, or their numbers from 1 where the file has no header.
        texts: of every column its categories; () of numbers.
        fill: what stands in for a missing value in every column; () where none may be missing.
        shift: subtracted from every input, (d,).
        scale: inputs are divided by it, (d,).
    """

    names: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]
    fill: tuple[float, ...]
    shift: np.ndarray
    scale: np.ndarray

    __repr__ = summary

    def encode(self, rows: Numbers) -> np.ndarray:
        """Rows of the table, (n, columns), as inputs of the model, float32 (n, d).

        Categories are their texts (an array of objects or of text), or indices of ``texts``.

        Raises:
            ValueError: another number of columns, a category that was not learnt, a value that is missing or no number.
        """
        return ((self.unscaled(self.numbers(rows)) - self.shift) / self.scale).astype(np.float32)

    def numbers(self, rows: Any, *, strict: bool = True) -> np.ndarray:
        """Rows with categories as indices, float64; one that was not learnt is -1 unless ``strict``."""
        given = np.asarray(rows)
        if given.ndim != 2 or given.shape[1] != len(self.names):
            raise ValueError(
                f"rows must have shape (n, {len(self.names)}), the columns {', '.join(self.names[:12])}"
                f"{', ...' * (len(self.names) > 12)}, got {given.shape}"
            )
        columns = [_indices(given[:, k], *told, strict=strict) for k, told in enumerate(self._told())]
        values = np.stack(columns, axis=1)
        if self.fill:
            values = np.where(np.isnan(values), self.fill, values)
        good = np.isfinite(values)
        if not good.all():
            row, k = np.argwhere(~good)[0]
            raise ValueError(
                f"row {row} has {values[row, k]} in column {self.names[k]!r}; leave such rows out (--missing drop)"
            )
        return values

    def _told(self) -> list[tuple[str, tuple[str, ...]]]:
        return list(zip(self.names, self.texts, strict=True))

    def unscaled(self, values: np.ndarray) -> np.ndarray:
        """The inputs, one column for a number and one for every category (one of two), not yet scaled."""
        parts = []
        for column, texts in zip(values.T, self.texts, strict=True):
            shown = range(1, 2) if len(texts) == 2 else range(len(texts))
            parts += [column[:, None]] if not texts else [(column == k)[:, None] for k in shown]
        return np.concatenate(parts, axis=1).astype(np.float64)

    def record(self) -> Json:
        """JSON values, from which ``from_record`` makes it again."""
        return {
            "names": list(self.names),
            "texts": [list(texts) for texts in self.texts],
            "fill": list(self.fill),
            "shift": self.shift.tolist(),
            "scale": self.scale.tolist(),
        }


def from_record(record: Json) -> Inputs:
    """The inverse of ``Inputs.record``."""
    texts = tuple(map(tuple, record["texts"]))
    shift, scale = (np.asarray(record[name], np.float64) for name in ("shift", "scale"))
    return Inputs(tuple(record["names"]), texts, tuple(record["fill"]), shift, scale)


def _indices(cells: np.ndarray, name: str, texts: tuple[str, ...], *, strict: bool) -> np.ndarray:
    """A column as numbers."""
    if not texts or cells.dtype.kind in "biuf":
        try:
            found = cells.astype(np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"column {name!r} holds numbers, and a row has something else; see run.inputs") from None
        known = np.isnan(found) | np.isin(found, np.arange(len(texts)))
        if texts and strict and not known.all():
            raise ValueError(f"column {name!r} has categories 0 .. {len(texts) - 1}, got {found[~known][0]:g}")
        return found
    places = {text: float(k) for k, text in enumerate(texts)}
    found = np.array([np.nan if cell is None or cell != cell else places.get(str(cell), -1.0) for cell in cells])
    if strict and np.any(found < 0):
        cell = str(cells[int(np.argmax(found < 0))])
        near = difflib.get_close_matches(cell, texts, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f": {', '.join(texts[:12])}{', ...' * (len(texts) > 12)}"
        raise ValueError(f"column {name!r} holds {cell!r}, which no training row has{hint}")
    return found


# reading --------------------------------------------------------------------------------------------------------------


class Supervised(NamedTuple):
    """A table with its target, before it is split.

    Attributes:
        rows: the input columns as they are, (n, columns), of objects where some hold text.
        names: of these columns.
        target: float64 (n,), of classes their indices.
        classes: names of the classes; empty of numbers.
        name: of the column of the target.
        notes: what was done in reading.
    """

    rows: np.ndarray
    names: tuple[str, ...]
    target: np.ndarray
    classes: tuple[str, ...]
    name: str
    notes: tuple[str, ...]

    __repr__ = summary


def _cells(table: Table) -> np.ndarray:
    """Columns as they are: numbers, and text as text (None where it is missing)."""
    if not table.texts:
        return table.values
    cells = table.values.astype(object)
    for k, texts in table.texts.items():
        cells[:, k] = [None if np.isnan(v) else texts[int(v)] for v in table.values[:, k]]
    return cells


def _names(table: Table) -> tuple[str, ...]:
    return table.names or tuple(map(str, table.numbers))


def read_supervised(path: Path, target: str, reading: Reading, task: Task = "auto") -> Supervised:
    """A table as text with one column that is to be predicted.

    Args:
        path: a .csv, .tsv or .parquet file.
        target: the column that is predicted, by its name or its number from 1.
        reading: how the file is read; ``columns`` are the inputs.
        task: "regression" (numbers), "classes", or "auto".

    Raises:
        ValueError: no such column, missing values, a constant column, a column of texts that are nearly all different,
            a target of one value, or one that does not go with the task.
    """
    how = dataclasses.replace(reading, label_column=target, kind="auto")
    table = read_table(path, how, text=True, what="the target")
    labels, notes = table.labels, table.notes
    assert labels is not None
    if reading.missing == "drop":
        values, rows, said = filled(table.values, "drop", str(path), table.names, table.texts)
        table, labels, notes = table._replace(values=values), labels[rows], notes + said
    name = table.place[0] or str(table.place[1] + 1)
    found, classes, said = _target(labels, name, str(path), task)
    _check_columns(table, path)
    return Supervised(_cells(table), _names(table), found, classes, name, (*notes, *said))


def _target(
    labels: np.ndarray, name: str, file: str, task: Task
) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """The target as numbers, the names of its classes, and how it was read."""
    distinct, indices = np.unique(labels, return_inverse=True)
    if len(distinct) < 2:
        raise ValueError(
            f"{file}: target {name!r} is {distinct[0]} in all {len(labels)} rows: there is nothing to predict; name "
            "another column (--predict)"
        )
    numbers = labels.dtype.kind == "f"
    if numbers and not np.isfinite(labels).all():
        raise ValueError(f"{file}: target {name!r} has values that are not finite; leave such rows out")
    if task == "regression" and not numbers:
        word = next(text for text in distinct.tolist() if not _is_number(text))
        raise ValueError(f"{file}: target {name!r} holds {word!r}, which is not a number; use --task classes")
    whole = numbers and np.array_equal(distinct, np.rint(distinct))
    if task == "regression" or (task == "auto" and numbers and len(distinct) > 2):
        few = f", {len(distinct)} whole numbers (--task classes takes them for classes)" if whole else ""
        few = few if len(distinct) <= _FEW else ""
        return labels.astype(np.float64), (), (f"predicts {name}: numbers{few}",)
    if len(distinct) > len(labels) // 2:
        raise ValueError(
            f"{file}: target {name!r} has {len(distinct)} different values in {len(labels)} rows, too many for classes"
            + ("; use --task regression" if numbers else "; name another column (--predict)")
        )
    names = tuple(f"{v:g}" for v in distinct) if numbers else tuple(distinct.tolist())
    shown = ", ".join(names[:12]) + ", ..." * (len(names) > 12)
    return indices.reshape(-1).astype(np.float64), names, (f"predicts {name}: {len(names)} classes ({shown})",)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_columns(table: Table, path: Path) -> None:
    """Raise for an input that says nothing: one value in all rows, or texts that are nearly all different."""
    for k, name in enumerate(_names(table)):
        column, texts = table.values[:, k], table.texts.get(k, ())
        if len(np.unique(column[~np.isnan(column)])) < 2:
            raise ValueError(
                f"{path}: column {name!r} has one value in all rows, of which nothing can be learnt; leave it out: "
                f"--columns {others_of(table.numbers[k], table.numbers)}"
            )
        if len(texts) > len(column) // 2:
            raise ValueError(
                f"{path}: column {name!r} holds {len(texts)} different texts in {len(column)} rows, of which nothing "
                f"can be learnt; leave it out: --columns {others_of(table.numbers[k], table.numbers)}"
            )


def learn_inputs(rows: np.ndarray, names: Sequence[str], *, impute: bool) -> Inputs:
    """How these training rows become inputs.

    Raises:
        ValueError: a column with one value in all of them.
    """
    texts, fill, columns = [], [], []
    for column in rows.T:
        known = np.array([cell is not None and cell == cell for cell in column])
        told = [cell for cell in column[known] if isinstance(cell, str)]
        texts.append(tuple(sorted(set(told))))
        codes = np.full(len(column), np.nan)
        codes[known] = [texts[-1].index(c) for c in told] if told else column[known].astype(np.float64)
        ordered = np.sort(codes[known])
        middle = ordered[(len(ordered) - 1) // 2] if len(ordered) else np.nan
        fill.append(float(np.argmax(np.bincount(ordered.astype(int)))) if told else float(middle))
        columns.append(np.where(np.isnan(codes), fill[-1], codes))
    bare = Inputs(tuple(names), tuple(texts), tuple(fill) if impute else (), np.zeros(1), np.ones(1))
    values = np.stack(columns, axis=1)
    for k, name in enumerate(names):
        if not np.ptp(values[:, k]) > 0:
            raise ValueError(
                f"column {name!r} has one value in all training rows, of which nothing can be learnt; leave it out "
                "(--columns says which are read), or give another --seed for another split"
            )
    x = bare.unscaled(values)
    return Inputs(bare.names, bare.texts, bare.fill, x.mean(axis=0), x.std(axis=0))


def read_rows(
    path: Path, inputs: Inputs, target: str, reading: Reading
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """New rows of the columns that were learnt, the target where the file has it (numbers or text), and notes.

    Raises:
        ValueError: a column that is not there, missing values.
    """
    sheet = open_table(path, reading)
    columns, width = sheet.names, sheet.width
    has_target = target in columns if columns else target.isdecimal() and width > len(inputs.names)
    if has_target:
        at = columns.index(target) if columns else int(target) - 1
        has_target = at < width and not sheet.column(at).missing.all()
    if columns:
        for name in inputs.names:
            if name not in columns:
                near = difflib.get_close_matches(name, columns, n=1)
                hint = f"; did you rename it {near[0]!r}?" if near else ""
                raise ValueError(
                    f"{path} has no column {name!r}, which the run learnt from{hint} Its columns: {listed(columns)}"
                )
        only = [columns.index(name) for name in inputs.names]
    elif not has_target and width == len(inputs.names):
        only = list(range(width))
    else:
        only = [int(name) - 1 if name.isdecimal() else width for name in inputs.names]
        if max(only) >= width:
            raise ValueError(
                f"{path} has {width} columns without a header, and the run learnt from columns "
                f"{', '.join(inputs.names)}; give the file such a header, or all of these columns"
            )
    how = dataclasses.replace(reading, label_column=target if has_target else "", columns="")
    table = read_table(path, how, text=True, what="the target", only=only)
    labels, notes = table.labels, table.notes
    if reading.missing == "drop":
        values, rows, said = filled(table.values, "drop", str(path), table.names, table.texts)
        table, notes = table._replace(values=values), notes + said
        labels = None if labels is None else labels[rows]
    rows = _cells(table)
    if any(inputs.texts):  # categories that look like numbers are no indices of categories
        rows = rows.astype(object)
        for k, texts in enumerate(inputs.texts):
            if texts and k not in table.texts:
                rows[:, k] = [None if np.isnan(v) else text_of(v) for v in table.values[:, k]]
    return rows, labels, notes
