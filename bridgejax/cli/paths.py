"""A look at the runs and files that a command names, before JAX is imported: what is missing is said at once."""

from __future__ import annotations

from pathlib import Path

from bridgejax.cli.arguments import Evaluate, Explain, Sample
from bridgejax.cli.expression import CORRECTORS, runs_in
from bridgejax.cli.train_words import Train
from bridgejax.data.named import check_source
from bridgejax.runs.config import OnManifold
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
    elif isinstance(command, Evaluate | Explain):
        record = read_config(command.run)
        check_data(record, located(record, Path(command.run)))
        if isinstance(command, Explain):
            _check_explain(command)
    elif isinstance(command, Sample) and command.compose and not command.run:
        nearest(command.corrector, CORRECTORS, "corrector")
        for run in runs_in(command.compose):
            config_of(read_config(run))
    elif isinstance(command, Sample) and command.run and not command.compose:
        config_of(read_config(command.run))
        if command.start:
            check_source(command.start)


def _check_explain(command: Explain) -> None:
    if command.num < 2:
        raise ValueError(f"num must be at least 2, the paths that can be compared, got {command.num}")
    if command.modes < 1:
        raise ValueError(f"modes must be positive, got {command.modes}")
    if command.seed < 0:
        raise ValueError(f"seed must be 0 or more, got {command.seed}")


def _check_train(command: Train) -> None:
    if isinstance(command.config.data, OnManifold):
        command.config.data.check(command.config.method)
    for end in ENDS:
        name = getattr(command.config.data, end, "")
        if name:
            check_source(name)
    initial = getattr(command.config.options, "initial", "")
    if initial:
        read_config(initial)
