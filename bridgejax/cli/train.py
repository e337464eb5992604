"""``bridgejax train``: read, build, fit, report."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from bridgejax.cli.results import SAMPLES, check_num, report_run
from bridgejax.cli.train_words import Train
from bridgejax.methods._setup import Trained
from bridgejax.runs import load
from bridgejax.runs.build import build
from bridgejax.runs.config import Config
from bridgejax.runs.data import load_run_data, make_batches
from bridgejax.runs.directory import write_config
from bridgejax.runs.record import CHECKPOINTS, config_of, is_same, located, read_config
from bridgejax.training import fit, latest_step

STEPS = {"points": 8000, "table": 8000, "series": 4000, "image": 5000, "manifold": 4000, "target": 2000}


def _initial(config: Config) -> Trained | None:
    """The run to start from, which must have run between the same ends; None where none was named."""
    first = getattr(config.options, "initial", "")
    if not first:
        return None
    other = located(read_config(first), Path(first))
    for end in ("source", "target"):
        one, two = getattr(other.data, end, ""), getattr(config.data, end)
        if not is_same(one, two):
            raise ValueError(
                f"initial run {first} has {end} {one!r}, and this one {two!r}; give a run between the same ends, in "
                "the same order"
            )
    return Trained(other.options, load(first).params)


def _mesh(devices: int | None, batch_size: int) -> Mesh | None:
    if devices is not None and not 1 <= devices <= jax.device_count():
        raise ValueError(f"devices must lie between 1 and {jax.device_count()}, got {devices}")
    count = devices or max(d for d in range(1, jax.device_count() + 1) if batch_size % d == 0)
    return None if count == 1 else Mesh(np.asarray(jax.devices()[:count]), ("data",))


def train(command: Train) -> None:
    """Read the data, build the method, fit it, and report on what it draws."""
    config, directory, run = command.config, command.directory, command.run
    if run.steps is not None and run.steps < 1:
        raise ValueError(f"steps must be positive, got {run.steps}")
    check_num(run.num)
    data = load_run_data(config)
    usual = STEPS[data.train.kind] if config.spec.fitted else 1
    planned = usual if command.record is None else command.record["steps"]
    steps = run.steps or planned
    spec = data.spec(config)
    fresh = latest_step(directory / CHECKPOINTS) is None
    method = build(config, spec, steps=steps, initial=_initial(config) if fresh else None)
    batches, mesh = make_batches(data, config), _mesh(run.devices, config.training.batch_size)
    typed = None if command.record is None else config_of(command.record)
    write_config(directory, config, spec, steps, typed=typed)  # only now: what is refused leaves nothing behind
    where = f"{'training' if command.record is None else 'resuming'} {config.method} on {data.train.name}"
    what = "rows" if data.inputs is not None else f"samples of shape {data.train.shape}"
    print(f"{where}: {len(data.train)} {what}, {steps} steps -> {directory}")
    for note in (*data.train.notes, *(data.source.notes if data.source is not None else ())):
        print(f"  {note}")
    if data.train.kind == "series":
        times, channels = data.train.shape
        print(f"  series of {times} times and {channels} channel(s) (columns without an order: --kind table)")
    if data.encoding is not None:
        print(f"  {data.encoding}\n  (other kinds: --domain 'column=kind,...')")
    fit(
        method,
        batches,
        jax.random.key(config.seed),
        steps=steps,
        batch_size=config.training.batch_size,
        refresh_every=_round(config, steps),
        mesh=mesh,
        directory=directory,
        progress=True,
    )
    report_run(directory, data, run.num or SAMPLES[data.train.kind], 1, ("samples", "report"))


def _round(config: Config, steps: int) -> int | None:
    """Updates of a round; None for methods without."""
    return (getattr(config.training, "steps_per_round", None) or max(1, steps // 10)) if config.spec.in_rounds else None
