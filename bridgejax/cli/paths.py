"""A look at the runs and files that a command names, before JAX is imported: what is missing is said at once."""

from __future__ import annotations

from pathlib import Path

from bridgejax.cli.arguments import Enhance, Evaluate, Explain, Export, Predict, Sample
from bridgejax.cli.expression import CORRECTORS, runs_in
from bridgejax.cli.train_words import Train
from bridgejax.data.named import TABLES, check_source
from bridgejax.runs.config import OnManifold, WithTarget
from bridgejax.runs.record import ENDS, check_data, config_of, located, read_config
from bridgejax.runs.registry import nearest


def check_paths(command: object) -> None:
    """Raise for a run directory that is none, and for data that are not there.

    Raises:
        FileNotFoundError: a directory that is no run, a path where nothing is.
        ValueError: a directory of another version, a name that is neither a data set nor a path.
    """
    if isinstance(command, Train):
        _check_train(command)
    elif isinstance(command, Predict):
        _check_predict(command)
    elif isinstance(command, Enhance):
        _check_enhance(command)
    elif isinstance(command, Evaluate | Explain):
        record = read_config(command.run)
        config = config_of(record)
        if isinstance(command, Evaluate) and config.spec.supervised and (command.memorisation or command.other_half):
            raise ValueError(
                f"method {config.method!r} draws no rows that could be copies; leave --memorisation, --other-half out"
            )
        check_data(record, located(record, Path(command.run)))
        if isinstance(command, Explain):
            _check_explain(command)
    elif isinstance(command, Export):
        config_of(read_config(command.run))
    elif isinstance(command, Sample) and command.compose and not command.run:
        nearest(command.corrector, CORRECTORS, "corrector")
        for run in runs_in(command.compose):
            config_of(read_config(run))
    elif isinstance(command, Sample) and command.run and not command.compose:
        config = config_of(read_config(command.run))
        if config.spec.supervised:
            raise ValueError(
                f"method {config.method!r} predicts a target given the other columns of a row: bridgejax predict "
                f"{command.run} --data FILE.csv"
            )
        if command.start:
            check_source(command.start)


def _check_enhance(command: Enhance) -> None:
    if not Path(command.noisy).is_file():
        raise FileNotFoundError(f"there is no file {command.noisy}")
    if not (Path(command.run) / "enhancer.json").is_file():
        raise FileNotFoundError(
            f"{command.run} holds no enhancer (enhancer.json); train one by "
            "bridgejax.applications.speech.train_enhancer and save_enhancer"
        )
    for name in (command.noisy, command.out):
        if name and not name.lower().endswith(".wav"):
            raise ValueError(f"enhance reads and writes wav files, got {name!r}; convert it first")
    if command.steps is not None and command.steps < 1:
        raise ValueError(f"steps must be positive, got {command.steps}")
    if command.seed < 0:
        raise ValueError(f"seed must be 0 or more, got {command.seed}")


def _check_predict(command: Predict) -> None:
    config = config_of(read_config(command.run))
    if not config.spec.supervised:
        raise ValueError(
            f"method {config.method!r} has no target to predict: bridgejax sample {command.run} draws from it"
        )
    if not command.data:
        raise ValueError(f"predict needs a file of rows, --data FILE.csv, with the columns of {config.data.data}")
    check_source(command.data)
    if not command.data.lower().endswith(TABLES):
        raise ValueError(f"predict reads a table, a {TABLES[0]} file, got {command.data!r}")
    if command.draws < 2:
        raise ValueError(f"draws must be at least 2, got {command.draws}")
    if command.seed < 0:
        raise ValueError(f"seed must be 0 or more, got {command.seed}")
    command.levels()


def _check_explain(command: Explain) -> None:
    if command.num < 2:
        raise ValueError(f"num must be at least 2, the paths that can be compared, got {command.num}")
    if command.modes < 1:
        raise ValueError(f"modes must be positive, got {command.modes}")
    if command.seed < 0:
        raise ValueError(f"seed must be 0 or more, got {command.seed}")


def _check_train(command: Train) -> None:
    if isinstance(command.config.data, OnManifold | WithTarget):
        command.config.data.check(command.config.method)
    for end in ENDS:
        name = getattr(command.config.data, end, "")
        if name:
            check_source(name)
    initial = getattr(command.config.options, "initial", "")
    if initial:
        read_config(initial)
