"""The main job: one command from nothing to a picture of digits, timed.

    python experiments/digits.py            three runs of `bridgejax train` (seeds 0, 1, 2), each within three minutes
    python experiments/digits.py --smoke    one run of 50 steps

Every run is a fresh process, so imports and compilation count. Budget: 10 minutes on two cores.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from study import Pick, Study, Table, record

STUDY = Study(
    "digits",
    topic="Generating",
    question="How good are digits from one command with no flag?",
    answer="Within three minutes to digits that score as well as real ones in Frechet and sliced distance; a "
    "classifier still tells some of them from real ones.",
    brief="Near real ones, within three minutes.",
    budget="10 minutes on two cores",
    picks=(Pick("Frechet distance in classifier features", label="Frechet distance"),),
    tables=(
        Table(
            rows=("command",),
            columns="metric",
            metric=("seconds from start to report",),
            title="One run, from the start of the process to its report",
        ),
        Table(
            (
                "Frechet distance in classifier features",
                "classifier two-sample test, accuracy",
                "sliced W2",
                "class asked for is the class seen",
            ),
            rows=("metric",),
            columns="command",
            title="Samples against held-out digits",
            text="Medians of three runs, each with its own seed (smallest to largest).",
        ),
    ),
    pictures=("digits",),
    timed=("part",),
)
LIMIT = 180
ROOT = Path(__file__).resolve().parents[1]
NAMES = {
    "frechet_features": "Frechet distance in classifier features",
    "c2st": "classifier two-sample test, accuracy",
    "sliced_w2": "sliced W2",
    "class_agreement": "class asked for is the class seen",
}


def one(seed: int, steps: int, directory: Path) -> tuple[float, dict]:
    """Seconds of the whole process, and its report."""
    command = [sys.executable, "-m", "bridgejax", "train", "--seed", str(seed), "--out", str(directory)]
    began = time.perf_counter()
    subprocess.run([*command, *(["--steps", str(steps)] if steps else [])], check=True)
    return time.perf_counter() - began, json.loads((directory / "report.json").read_text())


def runs(options: Any) -> Iterator[Any]:
    """Three runs, or a short one."""
    case, seeds = {"command": "bridgejax train"}, (0,) if options.smoke else (0, 1, 2)
    with tempfile.TemporaryDirectory() as folder:
        found = [one(seed, 50 if options.smoke else 0, Path(folder) / str(seed)) for seed in seeds]
        if not options.smoke:  # the picture in the README
            shutil.copy(Path(folder) / "0" / "samples.png", ROOT / "docs" / "digits.png")
    seconds = [s for s, _ in found]
    yield record(
        "seconds from start to report",
        round(float(np.median(seconds)), 1),
        case,
        spread=[round(s, 1) for s in seconds],
        bar=f"every run below {LIMIT}",
        met=max(seconds) < LIMIT,
        seconds=sum(seconds),
    )
    for name, words in NAMES.items():
        metrics = [report["metrics"][name] for _, report in found]
        yield record(
            words,
            round(float(np.median([m["value"] for m in metrics])), 4),
            case,
            spread=[round(m["value"], 4) for m in metrics],
            floor=round(float(np.mean([m["floor"] for m in metrics])), 4),
            n=metrics[0]["n"],
        )


if __name__ == "__main__":
    STUDY.run(__doc__, {"digits": runs})
