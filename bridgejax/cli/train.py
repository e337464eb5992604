"""``bridgejax train``: read, build, fit, report."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from bridgejax._types import Data
from bridgejax.cli.results import SAMPLES, check_num, report_run
from bridgejax.cli.train_words import RunOptions, Train, distributed_words, mesh_axes
from bridgejax.methods._setup import DataSpec, Trained
from bridgejax.runs import load
from bridgejax.runs.build import build
from bridgejax.runs.config import Config
from bridgejax.runs.data import RunData, load_run_data, make_batches
from bridgejax.runs.directory import read_spec, write_config
from bridgejax.runs.record import CHECKPOINTS, config_of, is_same, located, read_config
from bridgejax.training import fit, latest_step
from bridgejax.training.identity import check_identity, check_same_data
from bridgejax.training.locks import locked

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


def _mesh(run: RunOptions, batch_size: int) -> Mesh | None:
    """The devices that were asked for; None for one."""
    there = jax.device_count()
    if run.distributed and not run.mesh:
        return Mesh(np.asarray(jax.devices()), ("data",))
    if run.mesh:
        axes = mesh_axes(run.mesh)
        count = math.prod(axes.values())
        if count > there:
            raise ValueError(
                f"mesh {run.mesh!r} needs {count} devices, and JAX finds {there} here; pass axes whose product is at "
                f"most {there} (of CPUs: XLA_FLAGS=--xla_force_host_platform_device_count={count})"
            )
        return Mesh(np.asarray(jax.devices()[:count]).reshape(*axes.values()), tuple(axes))
    devices = run.devices
    if devices is not None and not 1 <= devices <= there:
        raise ValueError(f"devices must lie between 1 and {there}, got {devices}")
    count = devices or max(d for d in range(1, there + 1) if batch_size % d == 0)
    return None if count == 1 else Mesh(np.asarray(jax.devices()[:count]), ("data",))


def train(command: Train) -> None:
    """Read the data, build the method, fit it, and report on what it draws."""
    if command.run.distributed:
        _connect(command.run.distributed)
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
    batches, mesh = make_batches(data, config), _mesh(run, config.training.batch_size)
    first = jax.process_index() == 0  # of several processes, the one that writes and speaks
    with locked(directory) if first else contextlib.nullcontext():
        _check_same(command, spec, batches)
        if first:
            typed = None if command.record is None else config_of(command.record)
            write_config(directory, config, spec, steps, typed=typed)  # only now: what is refused leaves nothing behind
            _announce(command, data, steps)
        fit(
            method,
            batches,
            jax.random.key(config.seed),
            steps=steps,
            batch_size=config.training.batch_size,
            refresh_every=_round(config, steps),
            mesh=mesh,
            directory=directory,
            best=run.best or None,
            resume="anyway" if run.resume == "anyway" else True,
            progress=first,
        )
        trained = load(directory)  # by all processes together
        if run.distributed:
            jax.distributed.shutdown()
        if first:
            report_run(trained, directory, data, run.num or SAMPLES[data.train.kind], 1, ("samples", "report"))


def _connect(words: str) -> None:
    """Find the other processes of the run, which have started or will within five minutes."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # of CPUs; accelerators have their own
    try:
        # A process that fails waits so many seconds for the others before it leaves; then they end too.
        jax.distributed.initialize(**distributed_words(words), shutdown_timeout_seconds=10)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"distributed {words}: the processes of the run did not find each other ({reason}); "
            "auto needs SLURM, Open MPI, a TPU pod or Kubernetes, or JAX_COORDINATOR_ADDRESS; else give "
            "HOST:PORT,PROCESSES,PROCESS"
        ) from error


def _check_same(command: Train, spec: DataSpec, batches: Data) -> None:
    """Raise where the run that is there learnt from other data, or from the same in other units."""
    if command.record is None or command.run.resume == "anyway":
        return
    check_same_data(command.directory, batches)
    was = read_spec(command.directory, command.record)
    there, here = ({"data": f"{s.shift} {s.scale}"} for s in (was, spec))
    check_identity(command.directory, there, here, ("data",))


def _announce(command: Train, data: RunData, steps: int) -> None:
    """Say what is learnt, and what was done in reading it."""
    where = f"{'training' if command.record is None else 'resuming'} {command.config.method} on {data.train.name}"
    what = "rows" if data.inputs is not None else f"samples of shape {data.train.shape}"
    print(f"{where}: {len(data.train)} {what}, {steps} steps -> {command.directory}")
    for note in (*data.train.notes, *(data.source.notes if data.source is not None else ())):
        print(f"  {note}")
    if data.train.kind == "series":
        times, channels = data.train.shape
        print(f"  series of {times} times and {channels} channel(s) (columns without an order: --kind table)")
    if data.encoding is not None:
        print(f"  {data.encoding}\n  (other kinds: --domain 'column=kind,...')")


def _round(config: Config, steps: int) -> int | None:
    """Updates of a round; None for methods without."""
    return (getattr(config.training, "steps_per_round", None) or max(1, steps // 10)) if config.spec.in_rounds else None
