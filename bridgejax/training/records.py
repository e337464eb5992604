"""metrics.jsonl: what a run reported, one JSON object a line, each step at most once.

    {"step": 100, "loss": 0.71, "grad_norm": 1.3, "seconds": 4.2, "steps_per_second": 24.6}

A line holds the mean of every metric over the steps since the line before. On resume the lines past the checkpoint are
cut, so a run that was stopped reads like one that was not.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from bridgejax._checks import check_count, check_path

__all__ = ["append", "lines", "read", "truncate"]


def __dir__() -> list[str]:
    return __all__


FILE = "metrics.jsonl"


def lines(directory: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The lines of a run directory's metrics one by one, in order; none when there are none. A broken line ends it."""
    path = check_path("directory", directory) / FILE
    return _lines(path)


def _lines(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    with contextlib.suppress(FileNotFoundError), open(path, errors="replace") as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:  # the run was killed while it wrote this line
                return
            if not isinstance(record, dict) or "step" not in record:
                return
            yield record


def read(directory: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """All ``lines`` of a run directory's metrics."""
    return list(lines(directory))


def truncate(directory: str | os.PathLike[str], step: int) -> None:
    """Keep the lines up to ``step``. The file is replaced whole, never half-written."""
    path = check_path("directory", directory) / FILE
    check_count("step", step, 0)
    if path.exists():
        beside = path.with_suffix(".tmp")
        with open(beside, "w") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines(directory) if line["step"] <= step)
        os.replace(beside, path)


def append(directory: str | os.PathLike[str], line: dict[str, Any]) -> None:
    """Add one line. A metric that is not finite is written as null: NaN is not JSON.

    Raises:
        OSError: the disk is full, or may not be written, or the directory is gone; names the file.
    """
    path = check_path("directory", directory) / FILE
    clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
    try:
        with open(path, "a") as file:
            file.write(json.dumps(clean) + "\n")
    except OSError as error:  # when a write fails Python does not say of what
        remedy = (
            "see whether the directory is there, may be written and has room; the same call then goes on from what is"
        )
        raise type(error)(f"could not write {path}: {error.strerror}; {remedy} saved") from error
