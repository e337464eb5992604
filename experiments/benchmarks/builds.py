"""Did the rebuild of the package cost speed? The build before it against this checkout, interleaved in one run.

    start       fresh interpreters: import bridgejax, the same and three of its functions (what a program needs: names
                are loaded at first use), bridgejax --help, bridgejax train --help
    run         simulate on the toy and the network problem, forward and gradient, and 100 steps of training: each build
                in a process of its own that has compiled them, asked in turns
    suite       the README's test command, each build once: processor seconds of all processes

    python experiments/benchmarks/builds.py                      start and run; results/builds.json
    python experiments/benchmarks/builds.py --only suite         an hour on two cores

The build before is a commit of this repository, checked out beside this one for as long as the run lasts. Ratios are
medians of >= 20 rounds beside an A/A control (see harness.py). A suite is run once, so that its ratio has no control.
"""

from __future__ import annotations

import argparse
import atexit
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from typing import Any

import harness
import study
from harness import Pick, Study, Table

STUDY = Study(
    "builds",
    topic="Solvers and speed",
    question="Did the rebuild of the package cost speed?",
    answer="No: importing it and its help take less than before, simulating and training as long as before within the "
    "control.",
    brief="No.",
    budget="15 minutes on two cores, and an hour for the suite",
    floor="baseline against itself",
    picks=(Pick("time over the baseline's", {"what": "train --help"}, "time ratio of train --help"),),
    tables=(
        Table(
            rows=("what", "candidate"),
            where={"part": "start"},
            title="Fresh interpreters",
            text="Median (quartiles) of interleaved rounds; the baseline is the build before the rebuild.",
            also=("processor_ratio", "processor_control", "ms", "baseline_ms"),
        ),
        Table(
            rows=("what", "candidate"),
            where={"part": "run"},
            title="Compiled programs",
            also=("ms", "baseline_ms", "control_quartiles"),
        ),
        Table(
            ("processor seconds", "processor seconds over the baseline's", "tests", "seconds a test"),
            rows=("build",),
            where={"part": "suite"},
            title="The test suite",
            text="The README's command, one run of each build.",
        ),
    ),
)
BEFORE = "0943fa5"  # the last commit before "The house rebuilt"
HERE = pathlib.Path(__file__).resolve().parents[2]
STARTS = {
    "import bridgejax": ["-c", "import bridgejax"],
    "import and use": ["-c", "import bridgejax as bj; bj.simulate, bj.fit, bj.methods.diffusion"],
    "--help": ["-m", "bridgejax", "--help"],
    "train --help": ["-m", "bridgejax", "train", "--help"],
}
RUNS = ("simulate, toy", "gradient, toy", "simulate, network", "gradient, network", "100 training steps")
BUILDS = ("before", "now")


@cache
def checkout(build: str) -> pathlib.Path:
    """Where a build stands; the one before is checked out until the program ends."""
    if build == "now":
        return HERE
    tree = pathlib.Path(tempfile.mkdtemp(prefix="bridgejax-")) / "before"
    subprocess.run(["git", "-C", HERE, "worktree", "add", "--detach", "-q", tree, BEFORE], check=True)
    atexit.register(subprocess.run, ["git", "-C", HERE, "worktree", "remove", "--force", tree], check=True)
    return tree


def environment(build: str) -> dict[str, str]:
    """In which this build, and no other, is imported."""
    return {**os.environ, "PYTHONPATH": str(checkout(build))}


# fresh interpreters -----------------------------------------------------------------------------------------------


def starting(build: str, words: list[str]) -> Callable[[], None]:
    """A fresh interpreter that does this and ends."""
    command = [sys.executable, *words]

    def run() -> None:
        subprocess.run(command, check=True, env=environment(build), cwd=checkout(build), stdout=subprocess.DEVNULL)

    return run


def start(options: argparse.Namespace) -> list[study.Record]:
    """Import and help."""
    records = []
    for what, words in list(STARTS.items())[: 1 if options.smoke else None]:
        before, now = (starting(build, words) for build in BUILDS)
        rows = harness.compare(before, {"now": now}, pairs=harness.rounds(options))
        records += harness.record({"what": what}, rows)
    return records


# compiled programs ------------------------------------------------------------------------------------------------


def programs() -> dict[str, Callable[[], Any]]:
    """The compiled programs of the build that is imported here."""
    import problems
    import simulate
    import training

    from bridgejax.solve import solvers

    found: dict[str, Callable[[], Any]] = {}
    for name, problem in (("toy", problems.toy()), ("network", problems.mlp())):
        run = problems.ours(problem.sde, solvers.Euler())
        found[f"simulate, {name}"] = simulate.timed(run, problem)
        found[f"gradient, {name}"] = simulate.timed(problems.squares(run), problem)
    batches = [training.data().batch(i) for i in range(100)]
    found["100 training steps"] = training.running(*training.ours(), batches)
    return found


def serve() -> None:
    """A build's process: runs the program whose name it reads, and answers when the result is there."""
    import bridgejax

    build = pathlib.Path(os.environ["PYTHONPATH"])
    if build not in pathlib.Path(bridgejax.__file__).parents:
        raise SystemExit(f"bridgejax of another build was imported: {bridgejax.__file__}")
    sys.path.insert(0, str(build / "experiments" / "benchmarks"))
    known = programs()
    for line in sys.stdin:
        harness.block(known[line.strip()]())
        print("done", flush=True)


def asking(process: subprocess.Popen[str], what: str) -> Callable[[], None]:
    """Has the process run a program."""
    assert process.stdin is not None
    assert process.stdout is not None
    asks, answers = process.stdin, process.stdout

    def run() -> None:
        print(what, file=asks, flush=True)
        if answers.readline() != "done\n":
            raise RuntimeError(f"{what}: the process of a build ended")

    return run


def compiled(options: argparse.Namespace) -> list[study.Record]:
    """Simulating and training."""
    command = [sys.executable, __file__, "--serve"]
    before, now = (
        subprocess.Popen(command, env=environment(build), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for build in BUILDS
    )
    try:
        records = []
        for what in RUNS[:1] if options.smoke else RUNS:
            rows = harness.compare(
                asking(before, what), {"now": asking(now, what)}, pairs=harness.rounds(options), at_least=0.1
            )
            records += [
                {**row, "also": {k: v for k, v in row["also"].items() if "processor" not in k}}
                for row in harness.record({"what": what}, rows)
            ]
        return records
    finally:
        for process in (before, now):
            process.kill()


# the suite ----------------------------------------------------------------------------------------------------------


def processor() -> float:
    """Processor seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def suite(options: argparse.Namespace) -> list[study.Record]:
    """Each build's own tests, as its README has them run."""
    records: list[study.Record] = []
    known = {row["case"]["build"]: row["value"] for row in options.kept if row["metric"] == "processor seconds"}
    for build in options.build:
        began = processor()
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-q"],
            env=environment(build),
            cwd=checkout(build),
            capture_output=True,
            text=True,
        )
        took = processor() - began
        print(ran.stdout[-2000:])
        tests = sum(int(n) for n in re.findall(r"(\d+) (?:passed|failed)", ran.stdout))
        known[build] = took
        case = {"build": build}
        records.append(study.record("processor seconds", took, case))
        records += [study.record("tests", tests, case), study.record("seconds a test", took / tests, case)]
        if build == "now" and "before" in known:
            ratio = took / known["before"]
            records.append(
                study.record("processor seconds over the baseline's", ratio, case, bar="at most 0.5", met=ratio <= 0.5)
            )
    return records


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which suite."""
    harness.options(parser)
    parser.add_argument("--build", nargs="+", choices=BUILDS, default=BUILDS, help="whose suite to run (default: both)")


if __name__ == "__main__":
    if "--serve" in sys.argv:
        serve()
    else:
        parts = {"start": start, "run": compiled, "suite": suite}
        STUDY.run(__doc__, parts, arguments, smoke=("start", "run"), environment=harness.environment)
