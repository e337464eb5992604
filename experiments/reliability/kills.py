"""Runs that are killed at random moments and go on: is anything lost?

A life of a run ends with SIGKILL at a random moment: while it starts, restores, compiles, steps, begins a round or
saves (a checkpoint every second update; "in a save" counts those whose save was cut short). The next life goes on in
the same directory. When a run has come to its end, its last checkpoint and its metrics are compared with those of a run
that was never stopped.

    taskset -c 0 python experiments/reliability/kills.py --kills 102
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from study import Record, Study, Table, record

METHODS = {
    "edm": "noise to rows",
    "i2sb": "pairs",
    "lightsb": "no network",
    "riemannian_flow": "on a manifold",
    "dsbm": "in rounds",
    "pis, replay": "a density, in rounds, with a replay buffer",
}
LINES = 10  # a run is this many checkpoints long

STUDY = Study(
    "kills",
    topic="Reliability",
    question="Is a run that was killed and went on the run that never stopped?",
    answer="Bit for bit: no kill left a checkpoint that could not be read, and every run ended in the state and with "
    "the metrics of the run that was never stopped.",
    brief="Bit for bit, whatever the moment.",
    budget="40 minutes on one core that is shared with other work",
    tables=(
        Table(
            metric=("unreadable or failed", "runs that differ"),
            rows=("method", "what"),
            title="After kill -9",
            text="How many lives could not go on, and how many finished runs differ in a bit of the state or a metric, "
            "of so many kills and finished runs.",
            also=("kills", "runs", "in a save"),
        ),
    ),
)


class Lives:
    """The process that forks a life for every job."""

    def __init__(self, folder: pathlib.Path, cache: str) -> None:
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PYTHONWARNINGS": "ignore"}
        here = pathlib.Path(__file__).with_name("lives.py")
        self.log = open(folder / "log.txt", "w")
        self._process = subprocess.Popen(
            [sys.executable, str(here), cache],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=environment,
        )

    def live(self, job: dict[str, object], lines: int | None, wait: float) -> int:
        """One life; killed ``wait`` seconds after so many lines of metrics. The status it ended with, as of wait(2)."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        child, seen = 0, 0
        for line in iter(self._process.stdout.readline, ""):
            word, _, number = line.strip().partition(" ")
            if word == "done":
                return int(number)
            if word == "pid":
                child = int(number)
            else:
                seen += 1
            if lines is not None and seen == lines:
                time.sleep(wait)
                with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                    os.kill(child, signal.SIGKILL)
                lines = None
        raise RuntimeError(f"the process that forks has ended; see {self.log.name}")

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self.log.close()


def _in_a_save(directory: pathlib.Path) -> bool:
    """Whether a save was under way: what it had written so far is still there."""
    place = directory / "checkpoints"
    names = [path.name for path in place.iterdir()] if place.is_dir() else []
    return any(not name.isdecimal() for name in names) or any(
        name.isdecimal() and not (place / name / "SHA256SUMS").exists() for name in names
    )


def _killed(name: str, kills: int, rng: random.Random, folder: pathlib.Path, lives: Lives) -> Iterator[Record]:
    """Runs of one method until so many lives were killed, each run to its end."""
    began, steps = time.perf_counter(), 2 * LINES
    whole = {"method": name, "directory": str(folder / "whole"), "steps": steps}
    if lives.live(whole, None, 0.0):
        raise RuntimeError(f"{name} does not train; see {lives.log.name}")
    done = failed = differ = runs = saving = 0
    while done < kills:
        directory = folder / f"run{runs}"
        job = {**whole, "directory": str(directory)}
        while True:
            last = done >= kills
            lines = None if last else rng.choice((0, 1, 1, 2, 3))
            status = lives.live(job, lines, rng.uniform(0.0, 2.0 if lines == 0 else 0.15))
            if os.WIFSIGNALED(status):
                done, saving = done + 1, saving + _in_a_save(directory)
                continue
            failed += status != 0
            break
        runs += 1
        differ += lives.live({**job, "beside": whole["directory"]}, None, 0.0) != 0
    case = {"method": name, "what": METHODS[name]}
    counts = {"kills": done, "runs": runs, "in a save": saving}
    yield record("unreadable or failed", failed, case, bar="none", met=failed == 0, n=done, began=began, **counts)
    yield record("runs that differ", differ, case, bar="none", met=differ == 0, n=runs)


def killed(options: argparse.Namespace) -> Iterator[Record]:
    """Kill every method an equal number of times."""
    names = ("lightsb",) if options.smoke else tuple(METHODS)
    each = 2 if options.smoke else -(-options.kills // len(names))
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        lives = Lives(folder, options.cache or str(folder / "cache"))
        try:
            for index, name in enumerate(names):
                place = folder / str(index)
                place.mkdir()
                yield from _killed(name, each, random.Random(f"{options.seed} {name}"), place, lives)
        finally:
            lives.close()
            print((folder / "log.txt").read_text()[-4000:], file=sys.stderr, end="")


def options(parser: argparse.ArgumentParser) -> None:
    """Of this script."""
    parser.add_argument("--kills", type=int, default=102, help="of all methods together")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--cache", default="", help="a folder of compiled programs, to keep them")


if __name__ == "__main__":
    STUDY.run(__doc__, {"killed": killed}, options)
