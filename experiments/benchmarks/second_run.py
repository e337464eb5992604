"""What a run of the command line costs beside its updates, and how much of it the kept programs save.

    python experiments/benchmarks/second_run.py            results/second_run.json
    python experiments/benchmarks/second_run.py --smoke

``bridgejax train --steps 100`` on the digits, its samples and its report: without a cache, with an empty one, and with
what a run before left. The three follow each other in every round; processor seconds of the process and its threads,
as ratios to the run without a cache in the same round.
"""

from __future__ import annotations

import os
import pathlib
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import harness
import numpy as np
from harness import Pick, Study, Table

STUDY = Study(
    "second_run",
    topic="Solvers and speed",
    question="What does keeping compiled programs save the second run of the command line?",
    answer="Two fifths of what a short run costs: nearly all of its compilation. What is left is importing JAX, the "
    "updates, the samples and the report. Writing the programs costs the first run nothing that is seen.",
    brief="Two fifths of a short run: nearly all compilation.",
    budget="10 minutes on one core",
    picks=(Pick("processor time over a run's without a cache", {"cache": "of a run before"}, "time ratio"),),
    tables=(
        Table(
            ("processor time over a run's without a cache", "programs kept"),
            rows=("cache",),
            title="bridgejax train --steps 100",
            text="Mean over rounds of the ratio in each.",
        ),
    ),
    one_core=True,
)


def spent(words: list[str], cache: pathlib.Path) -> float:
    """Processor seconds of the command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    subprocess.run(
        [sys.executable, "-m", "bridgejax", *words], env=env | {"BRIDGEJAX_CACHE": str(cache)}, check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def runs(options: Any) -> Iterator[dict[str, Any]]:
    """The three runs of every round."""
    ratios: dict[str, list[float]] = {"empty": [], "of a run before": []}
    count = 0
    for _ in range(1 if options.smoke else 5):
        with tempfile.TemporaryDirectory() as folder:
            at = pathlib.Path(folder)
            words = ["train", "--steps", "5" if options.smoke else "100", "--num", "64"]
            none = spent([*words, "--no-cache", "--out", str(at / "none")], at / "cache")
            for name in ratios:
                ratios[name].append(spent([*words, "--out", str(at / name)], at / "cache") / none)
            count = sum(file.is_file() for file in (at / "cache").rglob("*-cache"))
    for name, found in ratios.items():
        error = float(np.std(found, ddof=1) / np.sqrt(len(found))) if len(found) > 1 else None
        yield harness.study.record(
            "processor time over a run's without a cache", float(np.mean(found)), {"cache": name}, spread=found,
            n=len(found), standard_error=error,
        )  # fmt: skip
    yield harness.study.record("programs kept", count, {"cache": "of a run before"})


if __name__ == "__main__":
    STUDY.run(__doc__, {"runs": runs})
