"""The main job: one command from nothing to a picture of digits, timed.

    python experiments/digits.py            three runs of `bridgejax train` (seeds 0, 1, 2), each within three minutes
    python experiments/digits.py --smoke    one run of 50 steps

Every run is a fresh process, so imports and compilation count. Budget: 10 minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from results import cores, save

ROOT = Path(__file__).resolve().parents[1]
NAMES = {
    "frechet_features": "digits: Frechet distance in classifier features",
    "c2st": "digits: classifier two-sample test, accuracy",
    "sliced_w2": "digits: sliced W2",
    "class_agreement": "digits: class asked for is the class seen",
}


def one(seed: int, steps: int, directory: Path) -> tuple[float, dict]:
    """Seconds of the whole process, and its report."""
    command = [sys.executable, "-m", "bridgejax", "train", "--seed", str(seed), "--out", str(directory)]
    began = time.perf_counter()
    subprocess.run([*command, *(["--steps", str(steps)] if steps else [])], check=True)
    return time.perf_counter() - began, json.loads((directory / "report.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true")
    smoke = parser.parse_args().smoke
    with tempfile.TemporaryDirectory() as folder:
        runs = [one(seed, 50 if smoke else 0, Path(folder) / str(seed)) for seed in ((0,) if smoke else (0, 1, 2))]
        if not smoke:  # the picture in the README
            shutil.copy(Path(folder) / "0" / "samples.png", ROOT / "docs" / "digits.png")
    seconds = [run[0] for run in runs]
    cost = f"{len(runs)} runs, {max(seconds):.0f} s the slowest, {cores()}"
    rows = [
        {
            "claim": "main job: `bridgejax train` with no flag, seconds from start to report (bar: 180)",
            "source": "this repository",
            "published": None,
            "ours": round(float(np.median(seconds)), 1),
            "spread": [round(s, 1) for s in seconds],
            "met": max(seconds) < 180,
        }
    ]
    for name, words in NAMES.items():
        metrics = [report["metrics"][name] for _, report in runs]
        rows.append(
            {
                "claim": f"{words} (n = {metrics[0]['n']})",
                "source": "this repository",
                "published": None,
                "ours": round(float(np.median([m["value"] for m in metrics])), 4),
                "spread": [round(m["value"], 4) for m in metrics],
                "floor": round(float(np.mean([m["floor"] for m in metrics])), 4),
            }
        )
    common = {"cost": cost, "command": "python experiments/digits.py", "budget": "10 min"}
    save("digits", [{**row, **common} for row in rows], smoke=smoke)


if __name__ == "__main__":
    main()
