"""Change one line of the package at a time, and see whether the tests notice.

    python tests/mutants/run.py                      every mutant of table.py
    python tests/mutants/run.py --room solve         those of one room
    python tests/mutants/run.py --only inpaint mcmc  those whose sentence or file holds one of the words
    python tests/mutants/run.py --unchanged          the named tests on the package as it is: all must pass

A mutant is caught where one of its tests fails; where all pass it survived, and a test is missing. The original must be
found in its file exactly once: a table that no longer fits the package is an error, before anything runs. Every mutant
is run in a copy, in a fork of a process that has the outside libraries imported already.
"""

import argparse
import importlib
import os
import pathlib
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence

from table import MUTANTS, Mutant

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMIT = 900  # seconds for one mutant
OPTIONS = (
    "-x -q -n 0 -p no:cacheprovider -o addopts= -rf --no-header --tb=line -W ignore::pytest.PytestAssertRewriteWarning"
)
STATES = {0: "SURVIVED", 1: "caught"}


def room(mutant: Mutant) -> str:
    """``solve`` for bridgejax/solve/kernels.py, ``couplings`` for bridgejax/couplings.py."""
    return pathlib.PurePath(mutant.file).parts[1].removesuffix(".py")


def changed(mutants: Sequence[Mutant]) -> dict[Mutant, str]:
    """The text of each file with its change.

    Raises:
        ValueError: an original that is not in its file exactly once, or a change that is none.
    """
    texts, stale = {}, []
    for mutant in mutants:
        text = (ROOT / mutant.file).read_text() if (ROOT / mutant.file).exists() else ""
        if (count := text.count(mutant.original)) != 1 or mutant.original == mutant.changed:
            stale.append(f"{mutant.file}: {mutant.original!r} occurs {count} times, and must once and be changed")
        texts[mutant] = text.replace(mutant.original, mutant.changed)
    if stale:
        raise ValueError("the table does not fit the package:\n" + "\n".join(stale))
    return texts


def run_tests(copy: pathlib.Path, tests: str, slow: bool, log: pathlib.Path) -> int:
    """Exit status of pytest in a fork, -1 where it took too long."""
    if (child := os.fork()) == 0:
        status = 70
        try:
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
            os.dup2(1, 2)
            os.chdir(copy)
            sys.path[0], sys.dont_write_bytecode = str(copy), True
            marks = [] if slow else ["-m", "not slow"]
            status = int(importlib.import_module("pytest").main([*OPTIONS.split(), *marks, *shlex.split(tests)]))
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(status)
    end = time.monotonic() + LIMIT
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return -1
        time.sleep(0.05)
    return os.waitstatus_to_exitcode(done[1])


def main() -> int:
    """Run what was asked for; 1 where a mutant survived or its tests did not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], help="words of a mutant's sentence or file")
    parser.add_argument("--room", help="a folder of the package")
    parser.add_argument("--unchanged", action="store_true", help="run the named tests on the package as it is")
    options = parser.parse_args()
    texts = changed(MUTANTS)
    chosen = [m for m in MUTANTS if any(w.lower() in f"{m.what} {m.file}".lower() for w in options.only)]
    chosen = [m for m in chosen if options.room in (None, room(m))]
    os.environ.setdefault("MPLBACKEND", "agg")
    for name in ("jax", "numpy", "scipy.stats", "diffrax", "flax.nnx", "optax", "pytest", "hypothesis"):
        importlib.import_module(name)  # no backend yet: a process with one cannot fork
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy, log = pathlib.Path(folder) / "copy", pathlib.Path(folder) / "log"
        for name in ("bridgejax", "tests", "experiments"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, copy / name)
        if options.unchanged:
            for tests, slow in dict.fromkeys((m.tests, m.slow) for m in chosen):
                failed += (status := run_tests(copy, tests, slow, log)) != 0
                print(f"{'passed' if status == 0 else log.read_text()[-2000:]}  {tests}", flush=True)
            return int(failed > 0)
        for mutant in chosen:
            path, begun = copy / mutant.file, time.monotonic()
            original = path.read_text()
            path.write_text(texts[mutant])
            status = run_tests(copy, mutant.tests, mutant.slow, log)
            path.write_text(original)
            found = re.search(r"^FAILED (\S+)", said := log.read_text(), re.MULTILINE)
            by = found[1] if found else mutant.tests if status == 0 else said[-1000:]
            state = STATES.get(status, f"ERROR {status}")
            failed += state != "caught"
            print(f"{state:8} {time.monotonic() - begun:4.0f} s  {mutant.what}  [{mutant.file}]  {by}", flush=True)
    print(f"{len(chosen) - failed} of {len(chosen)} mutants caught")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
