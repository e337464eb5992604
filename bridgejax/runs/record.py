"""``config.json`` of a run directory: what was asked for, where its data lie, the number of steps. Read without JAX."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from bridgejax.runs.config import Config, from_record

if TYPE_CHECKING:
    from bridgejax._types import Json

FORMAT = 2
CONFIG = "config.json"
CHECKPOINTS = "checkpoints"
ENDS = ("data", "source", "target")


def is_run(directory: str | Path) -> bool:
    """Whether there is a run."""
    return (Path(directory) / CONFIG).is_file()


def read_config(directory: str | Path) -> Json:
    """The record in ``config.json``.

    Raises:
        FileNotFoundError: no run there.
        ValueError: a file that is not a run's configuration, or one of another version of bridgejax.
    """
    path = Path(directory) / CONFIG
    if not path.is_file():
        folder = Path(directory) / CHECKPOINTS
        own = folder.is_dir() and any(folder.iterdir())
        remedy = f'; it has checkpoints of fit: load("{Path(directory)}", method) reads them' if own else ""
        raise FileNotFoundError(f"{Path(directory)} is not a run directory: it has no {CONFIG}{remedy}")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a run's configuration ({error})") from error
    missing = sorted({"config", "data_spec", "steps"} - set(record)) if isinstance(record, dict) else ["everything"]
    if missing:
        raise ValueError(f"{path} is not a run's configuration: it lacks {', '.join(missing)}")
    if record.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format {record.get('format')!r}, and this version of bridgejax reads format {FORMAT}: use the "
            "version that wrote it, or train again"
        )
    return record


def config_of(record: Json) -> Config:
    """The Config of a record, as it was typed.

    Raises:
        ValueError: settings that this version does not know.
    """
    try:
        return from_record(record["config"])
    except ValueError as error:
        raise ValueError(f"{CONFIG} does not fit this version of bridgejax: {error}") from error


# where the data lie -------------------------------------------------------------------------------------------------


def is_same(one: str, other: str) -> bool:
    """Whether two names of data are one: of a set that is drawn, or of a file."""
    return one == other or (bool(one and other) and os.path.realpath(one) == os.path.realpath(other))


def relative_paths(config: Config, directory: Path) -> dict[str, str]:
    """Where the files among the ends lie, seen from the run directory: found from any folder, and no absolute path."""
    here, named = os.path.realpath(directory), dataclasses.asdict(config.data)
    files = {end: os.path.realpath(named[end]) for end in ENDS if named.get(end) and os.path.exists(named[end])}
    return {end: os.path.relpath(path, here) for end, path in files.items()}


def located(record: Json, directory: Path) -> Config:
    """The Config of a run with its data as they can be read from here: as typed, where that is the same file."""
    config, found = config_of(record), {}
    for end, path in record.get("paths", {}).items():
        there = os.path.normpath(os.path.join(os.path.realpath(directory), path))
        typed = getattr(config.data, end)
        found[end] = typed if is_same(typed, there) else there
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **found))


def check_data(record: Json, config: Config) -> None:
    """Raise a ``FileNotFoundError`` where a located run's data are no longer there."""
    for end in record.get("paths", ()):
        path = getattr(config.data, end)
        if not Path(path).exists():
            raise FileNotFoundError(
                f"the {end} of this run, {getattr(config_of(record).data, end)}, is no longer at {path}: a run keeps "
                "where its data lie, seen from its directory, not the data; move both together (sample --start FILE "
                "takes other rows)"
            )
