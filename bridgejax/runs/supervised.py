"""A run's table with a target: its halves, their inputs, and what is said of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from bridgejax.data import Dataset, split
from bridgejax.data.arrays import from_array, take
from bridgejax.data.supervised import Inputs, Supervised, learn_inputs, read_supervised
from bridgejax.runs.config import Config


def load_supervised(config: Config, least: int) -> tuple[Dataset, Dataset, Dataset, Dataset, Inputs]:
    """The target of the training and of the held-out rows, their inputs, and how these are made.

    Args:
        config: of the run.
        least: rows that either half must have.

    Raises:
        ValueError: no such column, one of one value, missing values, too few rows.
    """
    said, reading = config.data, config.reading
    said.check(config.method)
    if reading.label_column:
        raise ValueError("label_column names the classes of samples; the column to predict is --predict")
    path = Path(said.data).expanduser()
    table = read_supervised(path, said.predict, reading, said.task)
    n = len(table.target)
    if n < 2 * least:
        raise ValueError(
            f"{said.data} has {n} rows, too few to learn and to judge from: expected at least {2 * least}, "
            f"{least} to train on and {least} held out"
        )
    halves = split(from_array(np.arange(n), kind="table"), max(0.2, least / n), config.seed)
    train, held = (half.values[:, 0].astype(int) for half in halves)
    inputs = learn_inputs(table.rows[train], table.names, impute=reading.missing == "impute")
    y, classes, kind = table.target[:, None], table.classes, "target"
    shift, scale = y[train].mean(axis=0), y[train].std(axis=0)
    if not scale[0] > 0:
        raise ValueError(
            f"{said.data}: target {table.name!r} has one value in all {len(train)} training rows; give another --seed "
            "for another split, or more rows"
        )
    if classes:
        shift, scale = np.zeros(1), np.ones(1)
    whole = Dataset(((y - shift) / scale).astype(np.float32), None, said.data, kind, shift, scale, classes, raw=y)
    whole = dataclasses.replace(whole, columns=(table.name,), notes=(*table.notes, *_told(table, inputs, train, held)))
    # an unknown category of a held-out row is none of those that are known
    numbers = inputs.numbers(table.rows, strict=False)
    x = ((inputs.unscaled(numbers) - inputs.shift) / inputs.scale).astype(np.float32)
    ones = np.ones(x.shape[1])
    rows = Dataset(x, None, f"inputs of {said.data}", "table", 0 * ones, ones, columns=inputs.names, raw=numbers)
    return take(whole, train), take(whole, held), take(rows, train), take(rows, held), inputs


def _told(table: Supervised, inputs: Inputs, train: np.ndarray, held: np.ndarray) -> list[str]:
    """What a reader must know of the split and of the scales."""
    texts = [name for name, told in zip(inputs.names, inputs.texts, strict=True) if told]
    words = [
        f"from {len(inputs.names)} columns as {len(inputs.shift)} inputs"
        + (f", {', '.join(texts)} as categories" if texts else "")
        + f"; {len(train)} rows to train on, {len(held)} held out"
    ]
    if table.classes:
        words.append("inputs are scaled by the training rows")
        lost = [c for k, c in enumerate(table.classes) if not np.any(table.target[train] == k)]
        if lost:
            words.append(f"no training row is of class {', '.join(lost)}")
    else:
        spread = float(table.target[train].std())
        words.append(
            f"inputs and target are scaled by the training rows (1 is {spread:.4g} of {table.name}); whatever is "
            "reported is in the data's units"
        )
    columns = inputs.numbers(table.rows[held], strict=False).T
    for name, told, column in zip(inputs.names, inputs.texts, columns, strict=True):
        if told and np.any(column < 0):
            words.append(f"{int(np.sum(column < 0))} held-out rows have a {name} that no training row has")
    return words
