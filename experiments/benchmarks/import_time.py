"""How long ``import bridgejax`` takes, against importing what it stands on.

Claim: <= 1.2 x the time of ``import jax, flax.nnx, optax, diffrax`` in a fresh interpreter (medians of >= 20
interleaved rounds beside an A/A control; see harness.py). That nothing from an extra is pulled in is tested, not timed
(tests/benchmarks/test_import.py).

    python experiments/benchmarks/import_time.py
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import harness
from harness import Pick, Study, Table

STUDY = Study(
    "import_time",
    topic="Solvers and speed",
    question="How long does import bridgejax take?",
    answer="A little more than importing JAX, Flax, Optax and diffrax, which it needs anyway.",
    brief="A little more than what it stands on.",
    budget="2 minutes on two cores",
    floor="baseline against itself",
    picks=(Pick("time over the baseline's", label="time ratio"),),
    tables=(
        Table(
            rows=("baseline", "candidate"),
            title="Time of a fresh interpreter",
            text="Median (quartiles) of interleaved rounds.",
            also=("processor_ratio", "ms", "baseline_ms", "rounds"),
        ),
    ),
)


def importing(what: str) -> Callable[[], None]:
    """A fresh interpreter that imports it and ends."""
    return lambda: subprocess.run([sys.executable, "-c", f"import {what}"], check=True) and None


def imports(options: Any) -> list[Any]:
    """Compare."""
    pairs = harness.rounds(options)
    rows = harness.compare(
        importing("jax, flax.nnx, optax, diffrax"), {"import bridgejax": importing("bridgejax")}, pairs=pairs
    )
    return harness.record({"baseline": "what it stands on"}, rows, at_most={"import bridgejax": 1.2})


if __name__ == "__main__":
    STUDY.run(__doc__, {"import": imports}, harness.options, environment=harness.environment)
