"""metrics.jsonl: what a run reported, one JSON object a line, each step at most once.

    {"step": 100, "loss": 0.71, "grad_norm": 1.3, "seconds": 4.2, "steps_per_second": 24.6}

A line holds the mean of every metric over the steps since the line before. On resume the lines past the checkpoint are
cut, so a run that was stopped reads like one that was not.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any

from bridgejax._checks import check_count, check_path

__all__ = ["append", "read", "truncate"]


def __dir__() -> list[str]:
    return __all__


FILE = "metrics.jsonl"


def read(directory: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """All lines of a run directory's metrics, in order; empty when there are none. A broken line ends the file."""
    try:
        text = (check_path("directory", directory) / FILE).read_text(errors="replace")
    except FileNotFoundError:
        return []
    lines = []
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except ValueError:  # the run was killed while it wrote this line
            break
        if not isinstance(record, dict) or "step" not in record:
            break
        lines.append(record)
    return lines


def truncate(directory: str | os.PathLike[str], step: int) -> list[dict[str, Any]]:
    """Keep the lines up to ``step``; return them. The file is replaced whole, never half-written."""
    path = check_path("directory", directory) / FILE
    check_count("step", step, 0)
    kept = [line for line in read(directory) if line["step"] <= step]
    if path.exists():
        beside = path.with_suffix(".tmp")
        beside.write_text("".join(json.dumps(line) + "\n" for line in kept))
        os.replace(beside, path)
    return kept


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
