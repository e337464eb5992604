"""This build beside the one before the house was rebuilt: what starting, running and testing cost.

    start   processor time of a fresh interpreter: import, import and use of three names, the help of two commands
    run     simulate and a training step, the same benchmark file in either build
    suite   processor time of the same test files, from an empty compilation cache

    python experiments/benchmarks/builds.py --build FOLDER      FOLDER: git worktree add FOLDER 0943fa5

start: medians of interleaved rounds (--pairs) beside an A/A control; the ratio is of processor time, and that of the
clock stands beside it. run: one process holds each build and answers by turns (see harness.py). suite: both builds at
once, each in one process on a core of its own, with a compilation cache of its own; every sixth file that both have.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import harness
import numpy as np
import study
from harness import Pick, Study, Table

STUDY = Study(
    "builds",
    topic="Solvers and speed",
    question="What did rebuilding the house do to the time of starting, running and testing it?",
    answer="Importing and asking for help no longer pay for JAX: a hundredth to a fifteenth of what they took. Who "
    "uses names pays for them, a quarter less than before. simulate and a training step take what they took; two "
    "processes of one build may differ by a tenth, from one run to the next. The same test files take a seventh "
    "less, not half.",
    brief="Starting is nearly free, running is as it was, tests take a seventh less.",
    budget="Twelve minutes on two cores, and ten for the tests",
    floor="the build before against itself",
    picks=(Pick("processor time over the build before", {"candidate": "import and three names"}, "import and use"),),
    missed=(
        (
            {"metric": "processor seconds of tests"},
            "These files compile longer than they compute, and have as many tests as before; fewer optimisations of "
            "the compiler, which is what was saved, do not halve that.",
        ),
    ),
    tables=(
        Table(
            "processor time over the build before",
            rows=("candidate",),
            title="A fresh interpreter",
            text="Median (quartiles) of interleaved rounds.",
            also=("clock_ratio", "seconds_before", "rounds"),
        ),
        Table(
            "time over the baseline's",
            rows=("baseline", "candidate"),
            title="Running",
            text="The same benchmark file in either build, by turns.",
            also=("ms", "baseline_ms"),
        ),
        Table(
            "processor seconds of tests",
            rows=("build",),
            also=("tests", "files"),
            text="Every sixth of the test files that both builds have, without slow tests, every program compiled "
            "anew.",
        ),
    ),
)
HERE = pathlib.Path(__file__).resolve().parents[2]


def tree(build: pathlib.Path, **also: str) -> dict[str, str]:
    """The environment in which a build's own package is imported."""
    return {**os.environ, "PYTHONPATH": str(build), **also}


# start --------------------------------------------------------------------------------------------------------------

USES = "import bridgejax as bj; bj.schedules.vp(); bj.simulate; bj.fit"
STARTS = {
    "import": ("-c", "import bridgejax"),
    "import and three names": ("-c", USES),
    "bridgejax --help": ("-m", "bridgejax", "--help"),
    "bridgejax train --help": ("-m", "bridgejax", "train", "--help"),
}


def spent(build: pathlib.Path, words: tuple[str, ...]) -> tuple[float, float]:
    """Seconds of the processor and of the clock of a fresh interpreter."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=build, env=tree(build), check=True, stdout=subprocess.DEVNULL)
    clock, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, clock


def start(options: argparse.Namespace) -> Iterator[Any]:
    """Both builds and the old one again, in turns."""
    for name, words in STARTS.items():
        began, found = time.perf_counter(), []
        for _ in range(1 + harness.rounds(options)):
            found.append([spent(build, words) for build in (options.build, HERE, options.build)])
        seconds = np.array(found[1:])  # the first round warms the disk
        ratios = seconds[:, 1] / seconds[:, 0]
        low, middle, high = percentiles(ratios[:, 0])
        control = seconds[:, 2] / seconds[:, 0]
        yield study.record(
            "processor time over the build before", middle, {"candidate": name}, spread=[low, high],
            floor=percentiles(control[:, 0])[1], clock_ratio=percentiles(ratios[:, 1])[1],
            seconds_before=percentiles(seconds[:, 0, 0])[1], rounds=len(seconds), began=began,
        )  # fmt: skip


def percentiles(values: Any) -> list[float]:
    """Quartiles and median, to four digits."""
    return [float(f"{q:.4g}") for q in np.percentile(values, [25, 50, 75])]


# run ----------------------------------------------------------------------------------------------------------------

HOST = """
import sys, jax
sys.path.insert(0, "experiments/benchmarks")
import problems, simulate, training
def stepping():
    batches = [training.data().batch(i) for i in range(100)]
    return training.running(*training.ours(), batches)
def simulating():
    p = problems.toy()
    return simulate.timed(problems.ours(p.sde, simulate.solvers.Euler()), p)
made = {}
for line in sys.stdin:
    name = line.strip()
    if name not in made:
        made[name] = {"training step": stepping, "simulate": simulating}[name]()
    jax.block_until_ready(made[name]())
    print("done", flush=True)
"""


class Host:
    """A process that holds a build and runs what it is told."""

    def __init__(self, build: pathlib.Path):
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOST], cwd=build, env=tree(build), text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )  # fmt: skip

    def call(self, name: str) -> None:
        """Run it and wait."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        if self.process.stdout.readline() != "done\n":
            raise RuntimeError(f"a build could not run {name}")


def run(options: argparse.Namespace) -> Iterator[Any]:
    """Both builds by turns, each in its own process."""
    before, now = Host(options.build), Host(HERE)
    try:
        for name in ("simulate", "training step"):

            def turn(host: Host, name: str = name) -> Callable[[], None]:
                return lambda: host.call(name)

            rows = harness.compare(turn(before), {name: turn(now)}, pairs=harness.rounds(options), at_least=0.2)
            for found in harness.record({"baseline": "the build before"}, rows):
                for key in ("processor_ratio", "processor_control"):  # of this process, which only waits
                    del found["also"][key]
                yield found
    finally:
        for host in (before, now):
            host.process.kill()
            host.process.wait()


# suite --------------------------------------------------------------------------------------------------------------


def tested(build: pathlib.Path, files: list[str], cache: str, core: int) -> tuple[float, int]:
    """Processor seconds of these files' tests, in one process on one core, and how many passed."""
    words = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", *files]
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(
            words, cwd=build, env=tree(build, BRIDGEJAX_TEST_CACHE=cache), stdout=told, stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)  # of this child alone
        process.returncode = os.waitstatus_to_exitcode(status)
        told.seek(0)
        said = told.read()
    if process.returncode:
        print(said[-2000:], file=sys.stderr, flush=True)
    passed = re.search(r"(\d+) passed", said)
    return usage.ru_utime + usage.ru_stime, int(passed[1]) if passed else 0


def suite(options: argparse.Namespace) -> Iterator[Any]:
    """The same files of both builds at once, each build on a core of its own."""
    builds, cores = {"before": options.build, "now": HERE}, sorted(os.sched_getaffinity(0))
    began = time.perf_counter()
    every = [{str(p.relative_to(build)) for p in (build / "tests").rglob("test_*.py")} for build in builds.values()]
    files = sorted(every[0] & every[1])[:: options.every]

    def all_of(name: str, core: int) -> tuple[float, int]:
        with tempfile.TemporaryDirectory() as cache:
            return tested(builds[name], files[: 1 if options.smoke else None], cache, core)

    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(builds, pool.map(all_of, builds, (cores[0], cores[-1])), strict=True))
    half = found["now"][0] <= 0.5 * found["before"][0]
    for name, (seconds, passed) in found.items():
        bar: dict[str, Any] = {"bar": "at most half of those before", "met": half} if name == "now" else {}
        yield study.record(
            "processor seconds of tests", round(seconds, 1), {"build": name}, tests=passed, files=len(files),
            began=began, **bar,
        )  # fmt: skip


def more(parser: argparse.ArgumentParser) -> None:
    """The folder of the other build."""
    harness.options(parser)
    parser.add_argument("--every", type=int, default=6, help="of the test files that both builds have, take so manieth")
    parser.add_argument("--build", type=pathlib.Path, default=HERE, help="a checkout of the build before")


if __name__ == "__main__":
    STUDY.run(__doc__, {"start": start, "run": run, "suite": suite}, more, environment=harness.environment)
