"""``bridgejax sample``: draw from a run, or from several composed."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bridgejax.bridges import teleport
from bridgejax.cli import composition, pictures
from bridgejax.cli.arguments import Sample
from bridgejax.cli.explain import check_explains
from bridgejax.cli.expression import runs_in
from bridgejax.cli.results import is_table, sampled, save_samples, save_table, say
from bridgejax.data import NAMES, load
from bridgejax.oracles import fit_gaussian
from bridgejax.runs import Run
from bridgejax.runs import load as load_run
from bridgejax.runs.config import Config, from_record
from bridgejax.runs.data import RunData, load_run_data, starts_of
from bridgejax.runs.directory import read_spec
from bridgejax.runs.record import check_data, located, read_config
from bridgejax.runs.registry import nearest
from bridgejax.runs.run import indices
from bridgejax.solve.grids import _noise_levels

if TYPE_CHECKING:
    from bridgejax._types import Json


def _chosen(command: Sample, classes: tuple[str, ...]) -> np.ndarray | None:
    """The class of every sample, an index: of the label asked for, or all in turn; None without classes."""
    if command.label:
        return indices(command.label, classes, command.num)
    return np.arange(command.num, dtype=np.int32) % len(classes) if classes else None


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


def _composed(command: Sample) -> None:
    """Samples of several runs combined."""
    path = _out(command.out, Path(f"composed-{command.seed}.npz"))
    samples, labels, first = composition.sample(
        command.compose, command.num, command.seed, partial(_chosen, command), command.corrector, command.steps or 0
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_samples(path, samples, labels, first.run.classes)
    print(f"{len(samples)} samples of shape {samples.shape[1:]}\n  {path}")
    data = _data_of(first.record, Path(first.path))
    if data is not None:
        others = {}
        for run in runs_in(command.compose):
            its = _data_of(read_config(run), Path(run))
            if its is not None:
                others[run if Path(run).name in others else Path(run).name] = its.holdout.values
        picture = path.with_suffix(".png")
        if data.coordinates is None:
            pictures.beside(picture, samples, labels, data.holdout, None, others)
        else:
            pictures.points(picture, samples, data.holdout, data.coordinates, others=others)
        print(f"  {path.with_suffix('.png')}")


def sample(command: Sample) -> None:
    """``bridgejax sample``."""
    if command.num < 1:
        raise ValueError(f"num must be positive, got {command.num}")
    if command.teleport and (command.compose or command.start or command.direction == "backward"):
        raise ValueError("teleport skips the first steps from noise; leave --compose, --start and --direction out")
    if bool(command.run) == bool(command.compose):
        raise ValueError("sample takes a run directory or --compose 'product(runs/a, runs/b)', one of the two")
    if command.compose:
        return _composed(command)
    directory = Path(command.run)
    record = read_config(directory)
    changed: Json = {
        name: value
        for name, value in (
            ("guidance", command.guidance),
            ("sample_steps", command.steps),
            ("sampler", command.sampler),
        )
        if value is not None
    }
    config, ahead = located(record, directory), command.direction == "forward"
    path = _out(command.out, directory / f"samples{'' if ahead else '-backward'}-{command.seed}.npz")
    spec = read_spec(directory, record)
    table = ahead and is_table(spec, config)
    if command.out.lower().endswith(".csv") and not table:
        raise ValueError(
            f"out {command.out!r}: this run's samples are no table read from a .csv file; use .npz or .png"
        )
    start = _asked_starts(command, record, config)
    run = load_run(directory, **changed)
    if command.teleport:
        run = _teleported(run, record, directory)
    if command.direction == "backward" and run.process.backward is None:
        raise ValueError(f"method {config.method!r} has no backward process; use --direction forward")
    labels = _chosen(command, run.classes)
    say(f"sampling {command.num} ...")
    samples = sampled(run, command.seed, command.num, labels, start, command.direction)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_samples(path, samples, labels, run.classes)
    print(f"{command.num} samples of shape {samples.shape[1:]}\n  {path}")
    if table:
        save_table(path.with_suffix(".csv"), samples, labels, spec)
        print(f"  {path.with_suffix('.csv')}")
    data = _data_of(record, directory)
    if data is not None:
        real, other = (data.holdout, data.source) if ahead else (data.source, data.holdout)
        assert real is not None
        if data.coordinates is None:
            pictures.beside(path.with_suffix(".png"), samples, labels, real, other)
        else:
            pictures.points(path.with_suffix(".png"), samples, real, data.coordinates)
        print(f"  {path.with_suffix('.png')}")


def _teleported(run: Run, record: Json, directory: Path) -> Run:
    """The run without the steps in which its training data look Gaussian; says how many these are.

    Raises:
        ValueError: a run without a denoiser on a noise schedule, guidance, and what ``teleport`` refuses.
    """
    config = from_record(run.config)
    check_explains(run, config.method)
    if getattr(config.options, "guidance", 1.0) != 1.0:
        raise ValueError("teleport skips steps that guidance would change; leave --teleport out, or give --guidance 1")
    told = located(record, directory)
    check_data(record, told)
    train = load_run_data(told).train
    law = fit_gaussian(run.to_model(train.values), labels=train.labels)
    fast = teleport(run.process, law)
    assert run.process.dynamics.semilinear is not None
    before, after = len(run.process.ts) - 1, len(fast.ts) - 1
    level = float(_noise_levels(run.process.dynamics.semilinear.schedule, fast.dynamics.T))
    saved = f"{before - after} of {before} evaluations saved for each sample"
    print(f"teleported to noise level {level:.3g} by the Gaussian of {len(train)} training rows: {saved}")
    return run._replace(process=fast)


def _asked_starts(command: Sample, record: Json, config: Config) -> np.ndarray | None:
    """Rows to start from, in the data's units; None: the Process's own start law.

    Raises:
        ValueError: a direction or start rows that do not fit the run.
    """
    nearest(command.direction, ("forward", "backward"), "direction")
    if not getattr(config.data, "source", ""):
        if command.start or command.direction == "backward":
            raise ValueError(f"method {config.method!r} starts from noise; leave --start and --direction out")
        return None
    if command.start:
        reading = {} if command.start in NAMES else dataclasses.asdict(config.reading)
        given, shape = load(command.start, **reading), tuple(record["data_spec"]["shape"])
        if given.shape != shape:
            raise ValueError(f"start {command.start!r} has samples of shape {given.shape}, this run {shape}")
        return given.values[np.arange(command.num) % len(given)]
    if command.direction == "forward" and not config.spec.paired:
        return None
    check_data(record, config)
    return starts_of(load_run_data(config), config, command.direction, command.num)


def _data_of(record: Json, directory: Path) -> RunData | None:
    """The run's data, or None where they are no longer there."""
    config = located(record, directory)
    try:
        check_data(record, config)
        return load_run_data(config)
    except FileNotFoundError as error:
        print(f"no picture beside the data: {error}")
        return None
