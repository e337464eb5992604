"""One way to write down what an experiment found, so that the table in README.md can be made from it.

A result is one claim:

    claim      what is measured, with n and the bar if there is one                      required, text
    ours       the number (or a short text) that our code got                            required
    command    what reproduces it, from the root of the repository                       required, text
    source     where the published number is from, or "this repository"                  text
    published  the published number, or None
    unit       of ours, published and floor                                              text
    floor      the same measure for real data against real data, or None                 number
    spread     ours in every repetition                                                  list of numbers
    met        whether the bar was met, where there is one                               true, false or None
    cost       what it took: steps, seconds, cores                                       text
    budget     what it may take                                                          text
    notes      what a reader must know to compare                                        text

More fields are allowed and kept. ``results/NAME.json`` holds one result or a list of them. A benchmark writes
{"claim", "records": [...]} instead, each record with ``case``, ``candidate``, ``ratio`` and ``control``.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
from typing import Any

DIRECTORY = pathlib.Path(__file__).resolve().parent / "results"

_TEXT = ("claim", "command", "source", "unit", "cost", "budget", "notes")
_VALUES = ("ours", "published", "floor")
_REQUIRED = ("claim", "ours", "command")
_RECORD = ("case", "candidate", "ratio", "control")


def cores() -> str:
    """What this run has, for ``cost``: "2 CPU cores"."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{count} CPU core" + "s" * (count > 1)


def check(row: Any, where: str) -> dict[str, Any]:
    """The row, if it is a result.

    Raises:
        ValueError: naming the field that is missing or of another type.
    """
    if not isinstance(row, dict):
        raise ValueError(f"{where} is a {type(row).__name__}; expected an object with {', '.join(_REQUIRED)}")
    for field in _REQUIRED:
        if row.get(field) in (None, ""):
            raise ValueError(f"{where} has no {field!r}; every result needs {', '.join(_REQUIRED)}")
    for field in _TEXT:
        if not isinstance(row.get(field, ""), str | None):
            raise ValueError(f"{where}: {field} must be text, got {row[field]!r}")
    for field in _VALUES:
        value = row.get(field)
        if not isinstance(value, str | int | float | None) or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"{where}: {field} must be a finite number, a text or null, got {value!r}")
    spread = row.get("spread") or []
    if not isinstance(spread, list) or not all(isinstance(v, int | float) and math.isfinite(v) for v in spread):
        raise ValueError(f"{where}: spread must be a list of finite numbers, got {spread!r}")
    if row.get("met") not in (None, True, False):
        raise ValueError(f"{where}: met must be true, false or null, got {row['met']!r}")
    return row


def check_record(record: Any, where: str) -> dict[str, Any]:
    """The record, if it is one of a benchmark.

    Raises:
        ValueError: naming the field that is missing.
    """
    missing = [field for field in _RECORD if not isinstance(record, dict) or field not in record]
    if missing:
        raise ValueError(f"{where} has no {missing[0]!r}; a benchmark record needs {', '.join(_RECORD)}")
    return record


def save(name: str, rows: dict[str, Any] | list[dict[str, Any]], *, smoke: bool = False) -> pathlib.Path | None:
    """Check results, print them, and write ``results/NAME.json``; a smoke run writes nothing.

    Args:
        name: of the file, without suffix.
        rows: one result or several.
        smoke: check and print only.

    Returns:
        The file, or None.

    Raises:
        ValueError: a row that is no result.
    """
    listed = rows if isinstance(rows, list) else [rows]
    if not listed:
        raise ValueError(f"{name} has no results to save")
    for k, row in enumerate(listed):
        check(row, f"{name}[{k}]")
        floor = "" if row.get("floor") is None else f"  (real vs real: {row['floor']})"
        print(f"{row['claim']}: {row['ours']}{floor}", flush=True)
    text = json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if smoke:
        return None
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    path, beside = DIRECTORY / f"{name}.json", DIRECTORY / f"{name}.json.tmp"
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
    return path


def read(path: pathlib.Path) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The results in a file, and its benchmark report ({"claim", "records"}) where it holds one.

    Raises:
        ValueError: a file that holds neither, naming the file and the field.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name} is no JSON: {error}") from None
    if isinstance(content, dict) and "records" in content:
        if not isinstance(content["records"], list) or not isinstance(content.get("claim"), str):
            raise ValueError(f"{path.name}: a benchmark holds a text 'claim' and a list 'records'")
        for k, record in enumerate(content["records"]):
            check_record(record, f"{path.name}: records[{k}]")
        return [], content
    listed = content if isinstance(content, list) else [content]
    return [check(row, f"{path.name}[{k}]") for k, row in enumerate(listed)], None
