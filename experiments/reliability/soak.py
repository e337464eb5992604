"""A long run of training and of sampling: does it slow down, and does its memory grow?

Two processes of their own, one core each. One trains a small score network and writes what a run directory holds: a
line of metrics every tenth step and a checkpoint every 1500 steps, about ten seconds: many more than a user asks for.
The other draws samples by the reverse SDE, a new key each time. Every minute a process notes its steps a second of
processor time, of all its threads and of the kernel, and what it has in memory. The first two minutes are left out:
they compile and fill caches. Afterwards the metrics are read, and cut as a run that goes on cuts them.

    python experiments/reliability/soak.py
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from study import Record, Study, Table, record

STUDY = Study(
    "soak",
    topic="Reliability",
    question="Does a long run slow down, and does its memory grow?",
    answer="Neither training, with its metrics and checkpoints, nor sampling lost speed, sampling did not grow, and a "
    "file of metrics is read and cut one line at a time. Training grew: a process that makes a checkpoint every ten "
    "seconds keeps a little more memory after each.",
    brief="Flat speed; flat memory but for many checkpoints.",
    budget="31 minutes on two cores",
    missed=(
        (
            {"what": "training"},
            "It is no object of Python's, whose number stays the same, and without checkpoints it hardly grows: a "
            "checkpoint is written by many threads, and the C library keeps pieces of memory for every thread that "
            "asked for some. Saves alone, by one thread for all of them, grow by half of what they do with a thread "
            "for each, and hardly with `MALLOC_ARENA_MAX=2` in the environment (tried by hand): set it for a run of "
            "weeks.",
        ),
    ),
    tables=(
        Table(
            metric="speed at the end, beside the beginning",
            rows=("what",),
            title="Speed",
            text="Steps (of training) or batches (of sampling) a second of processor time: the median of the last five "
            "minutes, divided by that of the first five after the two that are left out.",
            also=("minutes", "slowest minute", "steps"),
        ),
        Table(
            metric="growth in the second half, MB",
            rows=("what",),
            title="Memory",
            text="Resident memory: the median of the last five minutes less that of the five in the middle, and of "
            "those in the middle less that of the first five.",
            also=("minutes", "in the first half", "MB resident"),
        ),
        Table(
            metric="MB taken",
            rows=("what",),
            title="The file of metrics",
            text="The most that Python took while the file that the training wrote was gone through line by line, and "
            "while it was cut to its first half.",
            also=("lines", "MB of text"),
        ),
    ),
)

LEFT_OUT = 2  # minutes at the beginning
WINDOW = 5  # minutes that a median is of


def resident() -> float:
    """MB of this process in memory."""
    text = pathlib.Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("VmRSS"))


class Notes:
    """One line on stdout a minute (or what ``unit`` says): steps, processor seconds, MB. From the first step on."""

    def __init__(self, seconds: float, unit: float) -> None:
        self.seconds, self.unit, self.end = seconds, unit, 0.0

    def add(self, steps: int) -> bool:
        """Count steps; whether the time is over."""
        now = time.monotonic()
        if not self.end:
            self.end, self.next, self.steps, self.cost = now + self.seconds, now + self.unit, 0, time.process_time()
            return False
        self.steps += steps
        if now >= self.next:
            cost = time.process_time()
            print(json.dumps([self.steps, cost - self.cost, resident()]), flush=True)
            self.next, self.steps, self.cost = now + self.unit, 0, cost
        return now >= self.end


class _Over(Exception):
    """The time is over."""


def _problem() -> Any:
    import numpy as np

    import bridgejax as bj

    rows = np.random.default_rng(0).standard_normal((4096, 2)).astype(np.float32)
    return bj.methods.edm(shape=(2,)), rows


def train(seconds: float, unit: float, directory: str) -> None:
    """Train until the time is over."""
    import jax

    import bridgejax as bj

    notes, (method, rows) = Notes(seconds, unit), _problem()

    def look(info: Any) -> None:
        if notes.add(EVERY):
            raise _Over

    options: dict[str, Any] = {
        "batch_size": 128,
        "log_every": EVERY,
        "checkpoint_every": 150 * EVERY,
        "callbacks": [look],
        "progress": False,
    }
    try:
        bj.fit(method, rows, jax.random.key(0), steps=10**9, directory=directory, **options)
    except _Over:
        pass


def draw(seconds: float, unit: float, directory: str) -> None:
    """Draw samples until the time is over."""
    import jax

    import bridgejax as bj

    notes, (method, rows) = Notes(seconds, unit), _problem()
    process = method.process(method.init(jax.random.key(0), rows))
    for count in range(10**9):
        jax.block_until_ready(bj.sample(process, jax.random.split(jax.random.key(count), 256)))
        if notes.add(1):
            return


EVERY = 10  # steps a line of metrics


def soak(options: argparse.Namespace) -> Iterator[Record]:
    """Both processes at once, then the file that the first one left."""
    minutes, unit = (8, 0.5) if options.smoke else (30, 60.0)
    here = pathlib.Path(__file__).resolve()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    with tempfile.TemporaryDirectory() as directory:
        running = {}
        for at, what in enumerate(("train", "draw")):
            call = f"import soak; soak.{what}({minutes * unit}, {unit}, {directory!r})"
            pinned = f"import os; os.sched_setaffinity(0, {{{cores[at % len(cores)]}}}); " if cores else ""
            command = [sys.executable, "-c", pinned + call]
            running[what] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=here.parent)
        for what, process in running.items():
            text, _ = process.communicate()
            if process.returncode != 0:
                raise RuntimeError(f"{what} ended with {process.returncode}")
            name = {"train": "training", "draw": "sampling"}[what]
            yield from _told(name, [json.loads(line) for line in text.splitlines()], minutes)
        yield from _metrics(directory)


def _told(name: str, notes: list[list[float]], minutes: int) -> Iterator[Record]:
    kept = notes[LEFT_OUT:]
    width = min(WINDOW, max(1, len(kept) // 2))
    speeds, sizes = [steps / cost for steps, cost, _ in kept], [size for *_, size in kept]
    first, last = statistics.median(speeds[:width]), statistics.median(speeds[-width:])
    case = {"what": name}
    also: dict[str, Any] = {"minutes": minutes, "steps": int(sum(steps for steps, *_ in notes))}
    spread = [speed / first for speed in speeds]
    also["slowest minute"] = min(spread)
    yield record(
        "speed at the end, beside the beginning",
        last / first,
        case,
        spread=spread,
        bar="at least 0.95",
        met=last / first >= 0.95,
        **also,
    )
    middle = statistics.median(sizes[(len(sizes) - width) // 2 :][:width])
    growth = statistics.median(sizes[-width:]) - middle
    spread = [size - sizes[0] for size in sizes]
    early = middle - statistics.median(sizes[:width])
    also = {"minutes": minutes, "in the first half": early, "MB resident": statistics.median(sizes[-width:])}
    yield record("growth in the second half, MB", growth, case, spread=spread, bar="at most 5", met=growth <= 5, **also)


def _metrics(directory: str) -> Iterator[Record]:
    from bridgejax.training import records

    size, lines = (pathlib.Path(directory) / records.FILE).stat().st_size / 2**20, 0

    def count() -> None:
        nonlocal lines
        lines = sum(1 for _ in records.lines(directory))

    for what, action in (("read", count), ("cut", lambda: records.truncate(directory, lines * EVERY // 2))):
        tracemalloc.start()
        action()
        most = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        also: dict[str, Any] = {"lines": lines, "MB of text": size}
        yield record("MB taken", most, {"what": what}, bar="at most 1", met=most <= 1, **also)


if __name__ == "__main__":
    STUDY.run(__doc__, {"soak": soak})
