"""What the commands do: read, build, fit, sample, measure, draw, say where the files are."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from bridgejax.cli import composition, pictures
from bridgejax.cli.arguments import Evaluate, List, Sample, Train
from bridgejax.cli.ends import LEAST_ROWS, Ends, in_any_order, make_batches, read_ends
from bridgejax.data import NAMES, Dataset, Reading, load
from bridgejax.data.tables import text_of, write_csv
from bridgejax.evaluation import plots, report
from bridgejax.methods import bridge_recipes, recipes, runs, trained
from bridgejax.processes import Process, keys
from bridgejax.training import fit, latest_step
from bridgejax.training.fit import CHECKPOINTS

ENDS = ("data", "source", "target")
STEPS = {"points": 8000, "table": 8000, "series": 4000, "image": 5000}
SAMPLES = {"points": 4000, "table": 4000, "series": 1000, "image": 360}


# train --------------------------------------------------------------------------------------------------------------


def _relative(named: dict[str, Any], directory: Path) -> dict[str, str]:
    """Where the files among the ends lie, seen from the run directory: found from any folder, and no absolute path."""
    here = os.path.realpath(directory)
    files = {end: os.path.realpath(named[end]) for end in ENDS if named[end] and named[end] not in NAMES}
    return {end: os.path.relpath(path, here) for end, path in files.items()}


def _paths(record: dict[str, Any], directory: Path) -> dict[str, str]:
    """The ends of a run as they can be read from here: as they were typed, where that is the same file."""
    found = {end: record[end] for end in ENDS}
    for end, path in record.get("paths", {}).items():
        there = os.path.normpath(os.path.join(os.path.realpath(directory), path))
        found[end] = record[end] if _is_same(record[end], there) else there
    return found


def _is_same(one: str, other: str) -> bool:
    """Whether two names of data are one: of a set that is drawn, or of a file."""
    return one == other or (bool(one and other) and os.path.realpath(one) == os.path.realpath(other))


def _resolve(command: Train, directory: Path) -> tuple[Train, bool]:
    """The command with an existing run's settings filled in; whether there is such a run.

    Raises:
        ValueError: a setting given that differs from the run's.
    """
    if not (directory / "config.json").exists():
        if directory.exists() and any(directory.iterdir()):
            raise ValueError(f"{directory} exists and is not a run directory; choose another --out")
        return command, False
    record = runs.read_config(directory)
    given, default = dataclasses.asdict(command.config), recipes.Config()
    recorded = dataclasses.asdict(recipes.settle(runs.read_run_config(record)))
    differing = [
        f"{name} {recorded.get(name)!r} (now {value!r})"
        for name, value in given.items()
        if value != getattr(default, name) and value != recorded.get(name)
    ]
    paths = _paths(record, directory)
    for name in ENDS:
        value = getattr(command, name)
        if value != getattr(Train(), name) and not _is_same(value, paths[name]):
            differing.append(f"{name} {record[name]!r} (now {value!r})")
    reading = _reading(record)
    for name in command.reading.given():
        if getattr(command.reading, name) != getattr(reading, name):
            differing.append(f"{name} {getattr(reading, name)!r} (now {getattr(command.reading, name)!r})")
    if differing:
        raise ValueError(
            f"{directory} holds a run with {', '.join(differing)}; choose another --out, or resume it with --out alone"
        )
    return dataclasses.replace(
        command,
        **paths,
        steps=command.steps or record["steps"],
        config=runs.read_run_config(record),
        reading=reading,
    ), True


def _reading(record: dict[str, Any]) -> Reading:
    """How a run's files were read."""
    return Reading(**record.get("reading", {}))


def _check_num(num: int) -> None:
    if num and num < LEAST_ROWS:
        raise ValueError(f"num must be at least {LEAST_ROWS}, the samples that can be measured (0: by kind), got {num}")


def _initial(command: Train) -> Process:
    """The process of the run to start from, which must have run between the same ends."""
    first = command.config.initial
    record = runs.read_config(first)
    for end in ("source", "target"):
        if not _is_same(getattr(command, end), _paths(record, Path(first))[end]):
            raise ValueError(
                f"initial run {first} has {end} {record[end]!r}, and this one {getattr(command, end)!r}; "
                "give a run between the same ends, in the same order"
            )
    return runs.load(first).process


def _mesh(devices: int, batch_size: int) -> Mesh | None:
    if devices < 0 or devices > jax.device_count():
        raise ValueError(f"devices must lie between 0 and {jax.device_count()}, got {devices}")
    count = devices or max(d for d in range(1, jax.device_count() + 1) if batch_size % d == 0)
    return None if count == 1 else Mesh(np.asarray(jax.devices()[:count]), ("data",))


def train(command: Train) -> None:
    """``bridgejax train``."""
    ends = (command.source, command.target) if command.source else (command.data,)
    chosen = command.config.method or ("bridge_matching" if command.source else "diffusion")
    name = "-".join(Path(end).stem for end in (*ends, chosen))
    directory = Path(command.out or Path("runs") / name)
    command, existing = _resolve(command, directory)
    config = recipes.settle(command.config if existing else dataclasses.replace(command.config, method=chosen))
    if command.steps < 0:
        raise ValueError(f"steps must be positive, got {command.steps}")
    _check_num(command.num)
    ends = read_ends(command.data, command.source, command.target, config, command.reading)
    steps = command.steps or STEPS[ends.train.kind]
    rounds = config.method in bridge_recipes.ROUNDS
    if rounds:
        config = dataclasses.replace(config, steps_per_round=config.steps_per_round or max(1, steps // 10))
    spec = ends.spec(config)
    fresh = latest_step(directory / CHECKPOINTS) is None
    initial = _initial(command) if config.initial and fresh else None
    method = recipes.build(config, spec, steps=steps, initial=initial, given=() if existing else None)
    about: dict[str, Any] = {end: getattr(command, end) for end in ENDS}
    about |= {"paths": _relative(about, directory), "reading": dataclasses.asdict(command.reading), "steps": steps}
    if existing:  # as they were named then, whatever folder they are found from now
        about |= {end: runs.read_config(directory)[end] for end in ENDS}
    batches, mesh = make_batches(ends, config), _mesh(command.devices, config.batch_size)
    runs.write_config(directory, config, spec, about)  # only now: what is refused leaves nothing behind
    where = f"{'resuming' if existing else 'training'} {config.method} on {ends.train.name}"
    print(f"{where}: {len(ends.train)} samples of shape {ends.train.shape}, {steps} steps -> {directory}")
    for note in (*ends.train.notes, *(ends.source.notes if ends.source is not None else ())):
        print(f"  {note}")
    if ends.train.kind == "series":
        times, channels = ends.train.shape
        print(f"  series of {times} times and {channels} channel(s) (columns without an order: --kind table)")
    if ends.encoding is not None:
        print(f"  {ends.encoding}\n  (other kinds: --domain 'column=kind,...')")
    fit(
        method,
        batches,
        jax.random.key(config.seed),
        steps=steps,
        batch_size=config.batch_size,
        refresh_every=config.steps_per_round if rounds else None,
        mesh=mesh,
        directory=directory,
        progress=True,
    )
    finish(directory, ends, command.num or SAMPLES[ends.train.kind], 1, ("samples", "report"))


def say(text: str) -> None:
    """One line on stderr, so that what a command prints stays its result."""
    print(text, file=sys.stderr, flush=True)


def finish(directory: Path, ends: Ends, num: int, seed: int, names: tuple[str, str]) -> None:
    """Sample, measure, draw, and say where everything is; both ways where the Process runs both.

    Args:
        directory: of the run.
        ends: its data.
        num: how many samples.
        seed: of the samples.
        names: of the files with samples, and of the report, without their endings.
    """
    name, report_name = names
    run, record = runs.load(directory), runs.read_config(directory)
    spec = runs.read_spec(directory, record)
    config = recipes.settle(recipes.Config(**run.config))
    start = _held_starts(ends, config, "forward", num)
    labels = _labels(ends.train, num)
    say(f"sampling {num} ...")
    samples = _sampled(run, seed, num, labels, start)
    files = {kind: directory / f"{name}.{kind}" for kind in ("png", "npz", "csv")}
    _save_samples(files["npz"], samples, labels, run.classes)
    if _is_table(spec, config, record):
        _save_table(files["csv"], samples, labels, spec)
    holdout, train = ends.holdout, ends.train
    say("measuring, and the same of real rows for the floors ...")
    result = report.evaluate(
        samples,
        train.values,
        holdout.values,
        kind=_measured(train),
        labels=None if train.labels is None else (train.labels, holdout.labels),
        sample_labels=labels,
        classes=train.classes,
        columns=train.columns,
        source=None if ends.source is None else ends.source.values,
        starts=start,
        seed=seed,
    )
    if ends.source is not None:
        about = _about(ends, config, back=run.process.back is not None)
        about |= bridge_recipes.rounds(run.state, about["words"])
        if start is not None:
            about |= _pair_errors(samples, _cycled(holdout, num))
            result = dataclasses.replace(result, notes=(*result.notes, _MATES))
        result = dataclasses.replace(result, bridge=about)
    result.save(directory / f"{report_name}.json")
    pictures.beside(files["png"], samples, labels, holdout, ends.source)
    drawn = directory / ("paths.png" if name == "samples" else f"{name}-paths.png")
    if ends.source is not None:
        held = {"forward": start, "backward": _held_starts(ends, config, "backward", num)}
        starts = {way: None if rows is None else train.standardise(rows) for way, rows in held.items()}
        bare = dataclasses.replace(run.process, finish=run.last)
        pictures.paths(drawn, bare, ends, config, starts, partial(_given, config, ends), seed)
    plots.loss_curve(directory / "loss.png", directory / "metrics.jsonl")
    print(result.table())
    if run.process.back is not None and ends.source_holdout is not None:
        _finish_backward(directory, run, ends, config, num, seed, names)
    made = (*files.values(), drawn, directory / "loss.png", directory / f"{report_name}.json")
    for path in (*made, *(path.with_stem(f"{path.stem}-backward") for path in made)):
        if path.exists():
            print(f"  {path}")


_MATES = "samples start at the mates of the held-out rows they are compared with: distances may lie below their floors"


def _finish_backward(
    directory: Path, run: runs.Run, ends: Ends, config: recipes.Config, num: int, seed: int, names: tuple[str, str]
) -> None:
    """The way back, from held-out targets, against held-out sources."""
    train, holdout = ends.source, ends.source_holdout
    assert train is not None
    assert holdout is not None
    start = _held_starts(ends, config, "backward", num)
    say(f"sampling {num} on the way back, and measuring ...")
    samples = _sampled(run, seed, num, None, start, direction="backward")
    name, report_name = (f"{name}-backward" for name in names)
    _save_samples(directory / f"{name}.npz", samples, None, ())
    result = report.evaluate(samples, train.values, holdout.values, kind=_measured(train), starts=start, seed=seed)
    if config.coupling == "paired":
        result = dataclasses.replace(result, notes=(*result.notes, _MATES))
    result.save(directory / f"{report_name}.json")
    pictures.beside(directory / f"{name}.png", samples, None, holdout, ends.holdout)
    print(f"backward, from {ends.train.name} (target) to {train.name} (source):\n{result.table()}")


def _about(ends: Ends, config: recipes.Config, *, back: bool) -> dict[str, Any]:
    assert ends.source is not None
    return bridge_recipes.describe(config, ends.train, ends.source.name, ends.train.name, back=back)


def _cycled(dataset: Dataset, num: int) -> np.ndarray:
    """``num`` rows in turn, in the data's own units."""
    return in_any_order(dataset.values)[np.arange(num) % len(dataset)]


def _pair_errors(samples: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Root mean squared distance of samples to their own targets, beside that of targets to one another's."""
    rmse = [float(np.sqrt(np.mean((a - truth) ** 2))) for a in (samples, np.roll(truth, 1, axis=0))]
    return {"rmse_to_own_target": rmse[0], "rmse_between_targets": rmse[1]}


def _held_starts(ends: Ends, config: recipes.Config, direction: str, num: int) -> np.ndarray | None:
    """Held-out rows to start from, in turn, in the data's units; None where the Process has a start law of its own."""
    if direction == "forward" and config.coupling != "paired":
        return None
    if direction == "forward" and config.method not in bridge_recipes.BRIDGES:
        return None
    held = ends.source_holdout if direction == "forward" else ends.holdout
    return None if held is None else _cycled(held, num)


def _labels(train: Dataset, num: int) -> np.ndarray | None:
    """Classes in turn, for class-conditional data."""
    return None if train.labels is None else np.arange(num, dtype=np.int32) % train.num_classes


def _sampled(
    run: runs.Run, seed: int, num: int, labels: Any, start: np.ndarray | None = None, direction: str = "forward"
) -> np.ndarray:
    """Samples in the data's units, from ``start`` in the same; ``labels`` are indices of the run's classes."""
    every, names = keys(jax.random.key(seed), num), None
    if labels is not None:
        names = [run.classes[k] for k in labels]
    if direction == "backward":
        drawn = run.encode(every, start, names, micro_batch=1024)
    else:
        drawn = run.sample(every, names, x=start, micro_batch=1024)
    samples = np.asarray(drawn)
    bad = ~np.isfinite(samples.reshape(num, -1)).all(axis=1)
    if bad.any():
        raise ArithmeticError(f"{bad.sum()} of {num} samples are not finite; use more sampler steps or train longer")
    return samples


def _conditioned(config: recipes.Config) -> bool:
    """Whether a sample's condition is the row it starts from."""
    bridge = bridge_recipes.BRIDGES.get(config.method)
    return bridge is not None and bridge.paired


def _given(config: recipes.Config, ends: Ends, start: np.ndarray | None, num: int) -> Any:
    return start if _conditioned(config) else _labels(ends.train, num)


def _save_samples(path: Path, samples: np.ndarray, labels: Any, classes: tuple[str, ...]) -> None:
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


def _is_table(spec: recipes.DataSpec, config: recipes.Config, record: dict[str, Any]) -> bool:
    """Whether samples are written as text too: a table of typed columns, or data that came as text."""
    if config.method == "constrained":
        return spec.encoding is not None and bool(spec.encoding.columns) and len(spec.encoding.shape) == 1
    return Path(record["target"] or record["data"]).suffix.lower() == ".csv"


def _save_table(path: Path, samples: np.ndarray, labels: Any, spec: recipes.DataSpec) -> None:
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


def _out(text: str, default: Path) -> Path:
    """The .npz file that --out names; the picture and the table beside it have its name.

    Raises:
        ValueError: a folder, or a name that ends like a file of another type.
    """
    path = Path(text) if text else default
    if path.is_dir():
        raise ValueError(f"out {text!r} is a folder; name a file in it, such as {path / 'samples.npz'}")
    if path.suffix.lower() not in ("", ".npz", ".png", ".csv"):
        raise ValueError(
            f"out {text!r} ends in {path.suffix!r}; samples are written as .npz (a table as .csv too) and a picture as "
            ".png: use one of these endings, or none"
        )
    return path.with_suffix(".npz")


# sample, evaluate, list ---------------------------------------------------------------------------------------------


def _chosen(command: Sample, classes: tuple[str, ...]) -> np.ndarray | None:
    """The class of every sample, an index: of the label asked for, or all in turn; None without classes."""
    if command.label:
        return trained.indices(command.label, classes, command.num)
    return np.arange(command.num, dtype=np.int32) % len(classes) if classes else None


def _composed(command: Sample) -> None:
    """Samples of several runs combined."""
    path = _out(command.out, Path(f"composed-{command.seed}.npz"))
    samples, labels, first = composition.sample(
        command.compose, command.num, command.seed, partial(_chosen, command), command.corrector, command.steps
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    _save_samples(path, samples, labels, first.run.classes)
    print(f"{len(samples)} samples of shape {samples.shape[1:]}\n  {path}")
    ends = _ends_of(first.record, Path(first.path))
    if ends is not None:
        others = {}
        for run in composition.runs_in(command.compose):
            its = _ends_of(runs.read_config(run), Path(run))
            if its is not None:
                others[run if Path(run).name in others else Path(run).name] = its.holdout.values
        pictures.beside(path.with_suffix(".png"), samples, labels, ends.holdout, None, others)
        print(f"  {path.with_suffix('.png')}")


def sample(command: Sample) -> None:
    """``bridgejax sample``."""
    if command.num < 1:
        raise ValueError(f"num must be positive, got {command.num}")
    if bool(command.run) == bool(command.compose):
        raise ValueError("sample takes a run directory or --compose 'product(runs/a, runs/b)', one of the two")
    if command.compose:
        return _composed(command)
    directory = Path(command.run)
    record = runs.read_config(directory)
    changed: dict[str, Any] = {
        name: value
        for name, value in (
            ("guidance", command.guidance),
            ("sample_steps", command.steps),
            ("sampler", command.sampler),
        )
        if value
    }
    config, ahead = recipes.settle(runs.read_run_config(record)), command.direction == "forward"
    path = _out(command.out, directory / f"samples{'' if ahead else '-backward'}-{command.seed}.npz")
    spec = runs.read_spec(directory, record)
    table = ahead and _is_table(spec, config, record)
    if command.out.lower().endswith(".csv") and not table:
        raise ValueError(
            f"out {command.out!r}: this run's samples are no table read from a .csv file; use .npz or .png"
        )
    start = _asked_starts(command, record, config)
    run = runs.load(directory, **changed)
    if command.direction == "backward" and run.process.back is None:
        raise ValueError(f"method {config.method!r} has no way back; use --direction forward")
    labels = _chosen(command, run.classes)
    say(f"sampling {command.num} ...")
    samples = _sampled(run, command.seed, command.num, labels, start, command.direction)
    path.parent.mkdir(parents=True, exist_ok=True)
    _save_samples(path, samples, labels, run.classes)
    print(f"{command.num} samples of shape {samples.shape[1:]}\n  {path}")
    if table:
        _save_table(path.with_suffix(".csv"), samples, labels, spec)
        print(f"  {path.with_suffix('.csv')}")
    ends = _ends_of(record, directory)
    if ends is not None:
        real, other = (ends.holdout, ends.source) if ahead else (ends.source, ends.holdout)
        assert real is not None
        pictures.beside(path.with_suffix(".png"), samples, labels, real, other)
        print(f"  {path.with_suffix('.png')}")


def _asked_starts(command: Sample, record: dict[str, Any], config: recipes.Config) -> Any:
    """Rows to start from, in the data's units; None: the Process's own start law.

    Raises:
        ValueError: a direction or start rows that do not fit the run.
    """
    recipes.nearest(command.direction, ("forward", "backward"), "direction")
    if config.method not in recipes.TWO_ENDED:
        if command.start or command.direction == "backward":
            raise ValueError(f"method {config.method!r} starts from noise; leave --start and --direction out")
        return None
    if command.start:
        reading = {} if command.start in NAMES else dataclasses.asdict(_reading(record))
        given, shape = load(command.start, **reading), tuple(record["data_spec"]["shape"])
        if given.shape != shape:
            raise ValueError(f"start {command.start!r} has samples of shape {given.shape}, this run {shape}")
        return given.values[np.arange(command.num) % len(given)]
    paired = config.method in bridge_recipes.BRIDGES and config.coupling == "paired"
    if command.direction == "forward" and not paired:
        return None
    return _held_starts(_recorded_ends(record, Path(command.run)), config, command.direction, command.num)


def _recorded_ends(record: dict[str, Any], directory: Path) -> Ends:
    config, paths = recipes.settle(runs.read_run_config(record)), _paths(record, directory)
    for end in record.get("paths", ()):
        if not Path(paths[end]).exists():
            raise FileNotFoundError(
                f"the {end} of this run, {record[end]}, is no longer at {paths[end]}: a run keeps where its data lie, "
                "seen from its directory, not the data; move both together (sample --start FILE takes other rows)"
            )
    return read_ends(paths["data"], paths["source"], paths["target"], config, _reading(record))


def _ends_of(record: dict[str, Any], directory: Path) -> Ends | None:
    """The run's data, or None where they are no longer there."""
    try:
        return _recorded_ends(record, directory)
    except FileNotFoundError as error:
        print(f"no picture beside the data: {error}")
        return None


def evaluate(command: Evaluate) -> None:
    """``bridgejax evaluate``."""
    directory = Path(command.run)
    record = runs.read_config(directory)
    _check_num(command.num)
    ends = _recorded_ends(record, directory)
    name = f"evaluation-{command.seed}"
    finish(directory, ends, command.num or SAMPLES[ends.train.kind], command.seed, (name, name))


def listing(command: List) -> None:
    """``bridgejax list``."""
    print("methods")
    for name, (_, words) in recipes.BUILDERS.items():
        print(f"  {name:16} {words}")
    print("data\n  " + ", ".join(NAMES) + "; or a .npy, .npz or .csv file, or a folder of images")
    print("schedules\n  " + ", ".join(recipes.SCHEDULES))
    root = Path(command.runs)
    found = sorted(path.parent for path in root.glob("*/config.json")) if root.is_dir() else []
    print(f"runs in {root}" if found else f"no runs in {root}")
    for directory in found:
        record = runs.read_config(directory)
        ends = f"{record['source']} -> {record['target']}" if record["source"] else record["data"]
        done = latest_step(directory / CHECKPOINTS)
        print(f"  {directory.name:28} {record['config']['method']:16} {ends:28} {done or 0} of {record['steps']} steps")


RUN: dict[type, Callable[[Any], None]] = {Train: train, Sample: sample, Evaluate: evaluate, List: listing}
