"""The end of ``train`` and ``evaluate``: a run is sampled, measured and drawn, and files are left in its directory.

``report_run`` does all of it, from the run as it lies on disk; ``sampled`` and ``save_samples`` serve ``sample`` too.
"""

from __future__ import annotations

import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bridgejax._types import Json
from bridgejax.cli import on_manifold, pictures, supervised
from bridgejax.data import Dataset
from bridgejax.data.named import TABLES
from bridgejax.data.tables import text_of, write_csv
from bridgejax.evaluation import plots, report
from bridgejax.methods._setup import DataSpec
from bridgejax.processes import keys
from bridgejax.runs import Run
from bridgejax.runs.about import describe, rounds
from bridgejax.runs.config import Config, from_record
from bridgejax.runs.data import LEAST_ROWS, RunData, in_turn, starts_of
from bridgejax.runs.directory import read_spec
from bridgejax.runs.record import read_config

SAMPLES = {"points": 4000, "table": 4000, "series": 1000, "image": 360, "manifold": 4000, "target": 256}


def say(text: str) -> None:
    """One line on stderr, so that what a command prints stays its result."""
    print(text, file=sys.stderr, flush=True)


def check_num(num: int | None) -> None:
    """Raise a ``ValueError`` for too few samples to be measured."""
    if num is not None and num < LEAST_ROWS:
        raise ValueError(f"num must be at least {LEAST_ROWS}, the samples that can be measured, got {num}")


def report_run(run: Run, directory: Path, data: RunData, num: int, seed: int, names: tuple[str, str]) -> None:
    """Sample, measure, draw, and say where everything is; both ways where the Process runs both.

    Args:
        run: as it lies on disk.
        directory: of the run.
        data: its data.
        num: how many samples.
        seed: of the samples.
        names: of the files with samples, and of the report, without their endings.
    """
    name, report_name = names
    spec = read_spec(directory, read_config(directory))
    config = from_record(run.config)
    if data.inputs is not None:
        _finish_predictions(run, config, data, directory, num, seed, names)
        return
    start = starts_of(data, config, "forward", num)
    labels = labels_in_turn(data.train, num)
    say(f"sampling {num} ...")
    samples = sampled(run, seed, num, labels, start)
    files = {kind: directory / f"{name}.{kind}" for kind in ("png", "npz", "csv")}
    save_samples(files["npz"], samples, labels, run.classes)
    if is_table(spec, config):
        save_table(files["csv"], samples, labels, spec)
    holdout, train = data.holdout, data.train
    say("measuring, and the same of real rows for the floors ...")
    if data.coordinates is not None:
        result = on_manifold.evaluated(run, data, samples, seed)
    else:
        result = report.evaluate(
            samples,
            train.values,
            holdout.values,
            kind=_measured(train),
            labels=None if train.labels is None else (train.labels, holdout.labels),
            sample_labels=labels,
            classes=train.classes,
            columns=train.columns,
            source=None if data.source is None else data.source.values,
            starts=start,
            seed=seed,
        )
    if data.source is not None:
        about = describe(config, train, data.source.name, train.name, backward=run.process.backward is not None)
        about |= rounds(run.state, about["words"])
        if start is not None:
            about |= _pair_errors(samples, in_turn(holdout, num))
            result = dataclasses.replace(result, notes=(*result.notes, _PAIRS))
        result = dataclasses.replace(result, bridge=about)
    result.save(directory / f"{report_name}.json")
    if data.coordinates is None:
        pictures.beside(files["png"], samples, labels, holdout, data.source)
    else:
        density = on_manifold.density_map(run, data.coordinates, samples)
        of = "model" if on_manifold.has_density(run) else "samples"
        pictures.points(files["png"], samples, holdout, data.coordinates, density=density, of=of)
    drawn = directory / ("paths.png" if name == "samples" else f"{name}-paths.png")
    if data.source is not None:
        held = {"forward": start, "backward": starts_of(data, config, "backward", num)}
        starts = {way: None if rows is None else train.standardise(rows) for way, rows in held.items()}
        bare = dataclasses.replace(run.process, decode=run.last)
        pictures.paths(drawn, bare, data, config, starts, partial(_given, config, data), seed)
    plots.loss_curve(directory / "loss.png", directory / "metrics.jsonl")
    print(result.table())
    if run.process.backward is not None and data.source_holdout is not None:
        _finish_backward(directory, run, data, config, num, seed, names)
    made = (*files.values(), drawn, directory / "loss.png", directory / f"{report_name}.json")
    for path in (*made, *(path.with_stem(f"{path.stem}-backward") for path in made)):
        if path.exists():
            print(f"  {path}")


def _finish_predictions(
    run: Run, config: Config, data: RunData, directory: Path, draws: int, seed: int, names: tuple[str, str]
) -> None:
    """Of a table with a target: predictions of its held-out rows."""
    say(f"predicting {len(data.holdout)} held-out rows by {draws} draws, and by simpler models ...")
    name = "predictions" if names[0] == "samples" else names[0]
    found = supervised.report_predictions(run, config, data, directory, draws, seed, (name, names[1]))
    plots.loss_curve(directory / "loss.png", directory / "metrics.jsonl")
    print(found.table())
    for path in (f"{name}.csv", f"{name}.png", "loss.png", f"{names[1]}.json"):
        if (directory / path).exists():
            print(f"  {directory / path}")


_PAIRS = "samples start at the mates of the held-out rows they are compared with: distances may lie below their floors"


def _finish_backward(
    directory: Path, run: Run, data: RunData, config: Config, num: int, seed: int, names: tuple[str, str]
) -> None:
    """Target to source, from held-out targets, compared with held-out sources."""
    train, holdout = data.source, data.source_holdout
    assert train is not None
    assert holdout is not None
    start = starts_of(data, config, "backward", num)
    say(f"sampling {num} backward, and measuring ...")
    samples = sampled(run, seed, num, None, start, direction="backward")
    name, report_name = (f"{name}-backward" for name in names)
    save_samples(directory / f"{name}.npz", samples, None, ())
    result = report.evaluate(samples, train.values, holdout.values, kind=_measured(train), starts=start, seed=seed)
    if config.spec.paired:
        result = dataclasses.replace(result, notes=(*result.notes, _PAIRS))
    result.save(directory / f"{report_name}.json")
    pictures.beside(directory / f"{name}.png", samples, None, holdout, data.holdout)
    print(f"backward, from {data.train.name} (target) to {train.name} (source):\n{result.table()}")


def _pair_errors(samples: np.ndarray, truth: np.ndarray) -> Json:
    """Root mean squared distance of samples to their own targets, beside that of targets to one another's."""
    rmse = [float(np.sqrt(np.mean((a - truth) ** 2))) for a in (samples, np.roll(truth, 1, axis=0))]
    return {"rmse_to_own_target": rmse[0], "rmse_between_targets": rmse[1]}


def labels_in_turn(train: Dataset, num: int) -> np.ndarray | None:
    """Classes in turn, for class-conditional data."""
    return None if train.labels is None else np.arange(num, dtype=np.int32) % train.num_classes


def _given(config: Config, data: RunData, start: np.ndarray | None, num: int) -> np.ndarray | None:
    return start if config.spec.paired else labels_in_turn(data.train, num)


def sampled(
    run: Run,
    seed: int,
    num: int,
    labels: np.ndarray | None,
    start: np.ndarray | None = None,
    direction: str = "forward",
) -> np.ndarray:
    """Samples in the data's units, from ``start`` in the same; ``labels`` are indices of the run's classes."""
    every, names = keys(jax.random.key(seed), num), None
    if labels is not None:
        names = [run.classes[k] for k in labels]
    if direction == "backward":
        assert start is not None
        drawn = run.encode(every, start, names, micro_batch=1024)
    else:
        drawn = run.sample(every, names, x=start, micro_batch=1024)
    samples = np.asarray(drawn)
    bad = ~np.isfinite(samples.reshape(num, -1)).all(axis=1)
    if bad.any():
        raise ArithmeticError(f"{bad.sum()} of {num} samples are not finite; use more sampler steps or train longer")
    return samples


def save_samples(path: Path, samples: np.ndarray, labels: np.ndarray | None, classes: tuple[str, ...]) -> None:
    """Samples and, as the data name them, their labels: numbers where all classes are whole numbers."""
    if labels is None:
        np.savez(path, x=samples)
        return
    names = np.asarray(classes)
    whole = all(name.removeprefix("-").isdecimal() for name in classes)
    np.savez(path, x=samples, y=(names.astype(np.int64) if whole else names)[np.asarray(labels)])


def _measured(dataset: Dataset) -> Any:
    """The kind that a report knows: the numbers of a series are columns."""
    return "table" if dataset.kind == "series" else dataset.kind


def is_table(spec: DataSpec, config: Config) -> bool:
    """Whether samples are written as text too: a table of typed columns, or data that came as text."""
    if config.spec.encoded:
        return spec.encoding is not None and bool(spec.encoding.columns) and len(spec.encoding.shape) == 1
    named = getattr(config.data, "target", "") or getattr(config.data, "data", "")
    return Path(named).suffix.lower() in TABLES


def save_table(path: Path, samples: np.ndarray, labels: np.ndarray | None, spec: DataSpec) -> None:
    """Samples as text under the names of their columns: classes by name, numbers with the decimals of the data."""
    if spec.encoding is not None and len(spec.encoding.shape) == 1:
        columns, rows = [c.name for c in spec.encoding.columns], spec.encoding.texts_of(samples)
    else:
        flat, columns = samples.reshape(len(samples), -1), spec.columns
        places = spec.decimals or (None,) * flat.shape[1]
        parts = [v if d is None else np.round(v, d) for v, d in zip(flat.T, places, strict=True)]
        rows = [[text_of(v) for v in row] for row in zip(*parts, strict=True)]
    names = None if labels is None else [spec.classes[k] for k in labels]
    write_csv(path, rows, columns, names, spec.label_column)
