"""What a checkpoint costs the training that goes on meanwhile.

A network of three layers of 1024 with Adam and an average (50 MB of state) is trained with a checkpoint every so many
steps: as ``fit`` writes them, of a copy and in a thread; and as ``fit`` wrote them before, where the next step waited
for the disk (``checkpoints.save`` in its callback). Both stand beside the same steps without checkpoints, by turns; a
share of 1 would be checkpoints for nothing. The network computes on one core and the other is free to write, as the
host of an accelerator is; with one core for both, only the time that the disk takes could be saved.

    python experiments/reliability/saves.py
"""

from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from study import Record, Study, Table, record

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

STUDY = Study(
    "saves",
    topic="Reliability",
    question="What does a checkpoint cost the training that goes on meanwhile?",
    answer="Less than one that is waited for, and not nothing: a third of the cost is gone. What is left is the copy, "
    "the look for parameters that are not finite, and a save that shares the machine with the steps.",
    brief="A third less than one that is waited for.",
    budget="5 minutes on two cores",
    tables=(
        Table(
            metric="steps a second, beside none",
            rows=("checkpoints",),
            title="Checkpoints while training",
            text="Steps a second on the clock as a share of those without checkpoints, the median of the turns; A/A is "
            "a run without checkpoints against another. A save that takes longer than the steps to the next one is "
            "waited for.",
            also=("A/A", "steps between", "MB"),
        ),
    ),
)

WIDTH = 1024


def _method(width: int) -> Any:
    import jax
    import jax.numpy as jnp
    import optax

    import bridgejax as bj

    layers = [jax.random.normal(key, (width, width)) / width**0.5 for key in jax.random.split(jax.random.key(0), 3)]

    def loss(params: Any, keys: Any, batch: Any) -> Any:
        hidden = batch
        for layer in params[:-1]:
            hidden = jnp.tanh(hidden @ layer)
        return jnp.mean((hidden @ params[-1] - batch) ** 2), {}

    return bj.gradient_method(loss, lambda p: p, optax.adam(1e-3), params=layers, ema=0.999)


def seconds(method: Any, rows: Any, between: int, saves: int, how: str) -> float:
    """Seconds a step of a run, from its first checkpoint to its last but one."""
    import jax

    import bridgejax as bj

    clock: list[float] = []
    with tempfile.TemporaryDirectory() as directory:

        def look(info: Any) -> None:
            if info.step % between == 0:
                clock.append(time.perf_counter())
                if how == "waited for":
                    bj.training.save(os.path.join(directory, "beside"), info.step, info.state())

        options: dict[str, Any] = {"callbacks": [look], "log_every": between, "batch_size": 128, "progress": False}
        if how == "meanwhile":
            options |= {"directory": directory, "checkpoint_every": between}
        bj.fit(method, rows, jax.random.key(0), steps=(saves + 2) * between, **options)
    return (clock[saves] - clock[0]) / (saves * between)


def measured(options: argparse.Namespace) -> Iterator[Record]:
    """By turns: none, waited for, meanwhile, none again."""
    import jax
    import numpy as np

    width, between, saves, turns = (64, 4, 2, 1) if options.smoke else (WIDTH, 40, 4, 7)
    rows = np.random.default_rng(0).standard_normal((4096, width)).astype(np.float32)
    method = _method(width)
    found: dict[str, list[float]] = {"none": [], "waited for": [], "meanwhile": [], "none again": []}
    for _ in range(turns + 1):
        for how, times in found.items():
            times.append(seconds(method, rows, between, saves, how))
    shares = {how: [a / b for a, b in zip(found["none"][1:], found[how][1:], strict=True)] for how in found}
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(method.init(jax.random.key(0), rows))) / 2**20
    also = {"A/A": statistics.median(shares["none again"]), "steps between": between, "MB": size}
    for how in ("waited for", "meanwhile"):
        yield record(
            "steps a second, beside none",
            statistics.median(shares[how]),
            {"checkpoints": how},
            spread=shares[how],
            **also,
        )


if __name__ == "__main__":
    STUDY.run(__doc__, {"measured": measured})
