"""``bridgejax predict``: what a run of a table with a target says of new rows, in the data's units."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np

from bridgejax.cli.arguments import Predict
from bridgejax.cli.results import say
from bridgejax.cli.supervised import occurring, prediction_columns, save_columns
from bridgejax.data.supervised import read_rows
from bridgejax.data.tables import text_of
from bridgejax.evaluation import evaluate_predictions
from bridgejax.runs import load as load_run
from bridgejax.runs.directory import read_spec
from bridgejax.runs.predictions import target_indices
from bridgejax.runs.record import config_of, read_config


def predict(command: Predict) -> None:
    """Read the rows, predict, write a table beside them, and measure where the target is there too."""
    directory, record = Path(command.run), read_config(command.run)
    config, spec = config_of(record), read_spec(directory, record)
    assert spec.inputs is not None
    path = Path(command.data).expanduser()
    reading = dataclasses.replace(config.reading, columns="")
    if command.missing:
        reading = dataclasses.replace(reading, missing=command.missing)
    rows, truth, notes = read_rows(path, spec.inputs, spec.target, reading)
    known = None
    if truth is not None:
        known = target_indices(truth, spec.classes) if spec.classes else np.asarray(truth, np.float64)
    levels = () if spec.classes else command.levels()
    run = load_run(directory)
    for note in notes:
        print(f"  {note}")
    say(f"predicting {len(rows)} rows, by {command.draws} draws ...")
    said = run.predict(jax.random.key(command.seed), rows, truth, draws=command.draws, quantiles=levels)
    columns = [
        (
            name,
            [
                cell if isinstance(cell, str) else "" if cell is None or cell != cell else text_of(cell)
                for cell in column
            ],
        )
        for name, column in zip(spec.inputs.names, rows.T, strict=True)
    ]
    if truth is not None:
        columns.append((spec.target, [v if isinstance(v, str) else text_of(v) for v in truth.tolist()]))
    columns += prediction_columns(said, spec.target, spec.classes, levels)
    out = Path(command.out) if command.out else directory / f"predictions-{path.stem}.csv"
    out.parent.mkdir(parents=True, exist_ok=True)
    save_columns(out, columns)
    again, _ = occurring(np.asarray(spec.source), spec.inputs.encode(rows))
    if known is not None and len(known) > 1:
        found = evaluate_predictions(
            {config.method: said}, known, classes=spec.classes, repeated=again, target=spec.target
        )
        print(found.table())
    elif again.any():
        print(f"  {int(again.sum())} of {len(rows)} rows have the inputs of a training row")
    print(f"{len(rows)} rows predicted\n  {out}")
