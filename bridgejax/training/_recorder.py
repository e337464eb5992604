"""What a training run leaves behind: its metrics as lines, its states as checkpoints, in a run directory or nowhere."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import pathlib
import time
import warnings
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from bridgejax._pytrees import register_dataclass
from bridgejax._types import MethodState
from bridgejax.training import checkpoints, records
from bridgejax.training.background import Saver
from bridgejax.training.hosts import Hosts, here
from bridgejax.training.identity import check_identity, program_digest
from bridgejax.training.sharding import own
from bridgejax.training.watchdogs import CHECKPOINTS, WATCHED, LossWatch, NonFiniteLoss, ParameterWatch

SECONDS_BETWEEN_CHECKPOINTS = 60.0
IN_FLIGHT = 8  # steps handed to the devices and not yet done; each holds its batch in memory


@functools.partial(register_dataclass, data_fields=("values",), meta_fields=("names",))
@dataclasses.dataclass(frozen=True)
class Report:
    """The metrics of a step as one array: fetching ten scalars takes ten times as long."""

    names: tuple[str, ...]
    values: Array


def as_report(metrics: object) -> Report:
    """The Report of the dictionary of metrics that a step returned."""
    if not isinstance(metrics, dict):
        raise ValueError(
            f"step must return (state, dictionary of metrics), got metrics of type {type(metrics).__name__}"
        )
    for name, metric in metrics.items():
        if jnp.shape(metric) != ():
            raise ValueError(f"metric {name!r} of step must be a scalar, got shape {jnp.shape(metric)}")
    return Report(tuple(metrics), jnp.array([jnp.asarray(metric, jnp.float32) for metric in metrics.values()]))


class Recorder:
    """Metrics on their way from the devices to callbacks and metrics.jsonl."""

    def __init__(self, directory: pathlib.Path | None, start: int, hosts: Hosts) -> None:
        self._directory, self._pending, self._writes = directory, [], hosts.first
        if directory is not None and hosts.first:
            records.truncate(directory, start)
        hosts.wait()
        self._watch, self._before = LossWatch(directory), 0.0
        for line in () if directory is None else records.lines(directory):  # of the run that goes on
            self._watch.note(line.get("loss"))
            self._before = max(self._before, line.get("seconds") or 0.0)
        self._began = time.perf_counter()
        self._clock: float | None = None
        self._timed = 0

    def add(self, step: int, report: Report) -> None:
        """Take note of a step's metrics without waiting for them; wait for those of ``IN_FLIGHT`` steps before."""
        self._pending.append((step, report))
        if len(self._pending) > IN_FLIGHT:
            self._pending[-1 - IN_FLIGHT][1].values.block_until_ready()
        if self._clock is None:  # the first step compiles, and is not timed
            self._clock = time.perf_counter()
        else:
            self._timed += 1

    def flush(self) -> tuple[dict[str, float], float]:
        """Means and speed since the last flush, written as one line.

        Raises:
            NonFiniteLoss, LossExplosion: at the first step that is not finite; of the mean loss.
        """
        steps, names = [step for step, _ in self._pending], self._pending[0][1].names
        values = np.stack(jax.device_get(here([report.values for _, report in self._pending]))).astype(np.float64)
        watched = [names.index(name) for name in WATCHED if name in names]
        bad = np.argwhere(~np.isfinite(values[:, watched]))
        if len(bad):
            row, column = bad[0][0], watched[bad[0][1]]
            raise NonFiniteLoss(steps[row], names[column], float(values[row, column]), self._directory)
        means = dict(zip(names, values.mean(axis=0).tolist(), strict=True))
        self._watch.look(steps[-1], means.get("loss"))
        now = time.perf_counter()
        speed = self._timed / max(now - (self._clock or now), 1e-9) if self._timed else 0.0
        self._pending, self._clock, self._timed = [], now, 0
        if self._directory is not None and self._writes:
            seconds = self._before + now - self._began
            line = {"seconds": round(seconds, 3), "steps_per_second": round(speed, 3)}
            records.append(self._directory, {"step": steps[-1], **means, **line})
        return means, speed


def _copied(state: MethodState) -> MethodState:
    """The state in the memory of the host, which no later step takes back; keys, which NumPy cannot hold, stay."""

    def copied(leaf: Any) -> Any:
        if not isinstance(leaf, Array):
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(jnp.array(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        return np.array(jax.device_get(leaf))

    return jax.tree.map(copied, state)


class RunDirectory:
    """A run directory, or none."""

    def __init__(
        self,
        directory: pathlib.Path | None,
        keep: int,
        settings: dict[str, Any],
        watch: ParameterWatch,
        *,
        anyway: bool = False,
        best: str | None = None,
    ) -> None:
        self.directory, self._keep, self._settings, self._anyway = directory, keep, settings, anyway
        self._watch, self._metric = watch, best
        self._best: tuple[float, int] | None = None  # lowest value of that metric, and its checkpoint
        self._found: dict[str, Any] = {}
        self._place = pathlib.Path(os.path.abspath(directory or ".")) / CHECKPOINTS
        self._saver = Saver(self._place)
        self._saved_step, self._saved_when = 0, time.monotonic()

    def open(self, *, resume: bool) -> None:
        """Make the directory and see that it can be written, before any work is done."""
        if self.directory is None:
            return
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with open(self.directory / records.FILE, "a"):
                pass
            found = checkpoints.latest_step(self.directory / CHECKPOINTS)
        except PermissionError as error:
            raise PermissionError(f"no permission to write in {self.directory}; choose another directory") from error
        except OSError as error:
            raise checkpoints.CheckpointError(f"cannot use {self.directory} as a directory: {error}") from error
        if found is not None and not resume:
            raise ValueError(
                f"resume=False, but {self.directory} has checkpoints up to step {found}; "
                "pass resume=True to go on from there, or another directory"
            )

    def restore(self, state: MethodState, mesh: Mesh | None) -> tuple[MethodState, int]:
        """The newest intact state and its step; ``state`` itself and 0 when the directory is new.

        Raises:
            ValueError: a run with another key, batch size or round; of other data, unless ``anyway``.
        """
        self._watch.begin(state)
        if self.directory is None or checkpoints.latest_step(self.directory / CHECKPOINTS) is None:
            return state, 0
        step, saved, settings = checkpoints.restore(self.directory / CHECKPOINTS, state)
        for name in ("key", "batch_size", "refresh_every"):
            if name in settings and settings[name] != self._settings[name]:
                raise ValueError(
                    f"{self.directory} is a run with another {name}: {settings[name]} there, {self._settings[name]} "
                    "here; pass the same to go on exactly, or choose another directory"
                )
        check_identity(self.directory, settings, self._settings, ("data",), anyway=self._anyway)
        self._found, self._saved_step = settings, step
        if self._metric is not None:
            self._best = checkpoints.best(self.directory / CHECKPOINTS, self._metric)
        return own(saved, mesh), step

    def check_program(self, traced: Any, devices: int | dict[str, int]) -> None:
        """Take note of what the steps compute, on these axes of a mesh.

        Raises:
            ValueError: the run that is there computed something else, on such devices, unless ``anyway``.
        """
        if self.directory is None:
            return
        here, there = self._settings, self._found
        here |= {"program": program_digest(traced), "devices": devices}
        if there.get("versions", here["versions"]) != here["versions"]:
            warnings.warn(
                f"{self.directory} was begun with {there['versions']} and goes on with {here['versions']}: not bit for "
                "bit the run that never stopped, and whether the method is the same cannot be compared",
                stacklevel=3,
            )
        elif there.get("devices") == devices:
            check_identity(self.directory, there, here, ("program",), anyway=self._anyway)

    def old(self) -> bool:
        """Whether the last checkpoint was long ago."""
        return time.monotonic() - self._saved_when >= SECONDS_BETWEEN_CHECKPOINTS

    def save(self, step: int, state: MethodState, metrics: dict[str, float], *, meanwhile: bool = False) -> None:
        """Save the state, once per step, with the line of the metrics that ends there.

        Args:
            step: updates made.
            state: after them.
            metrics: of that line.
            meanwhile: a copy of the state is written while the caller goes on; not in a job of several processes,
                which write together.

        Raises:
            NonFiniteParameters: instead, with or without a directory.
            CheckpointError: of this save, or of the one before, which went on meanwhile.
        """
        self._watch.look(step, state)
        if self.directory is None or step == self._saved_step:
            return
        spared = () if self._metric is None else self._spared(step, metrics)
        custom = {**self._settings, "metrics": {k: v for k, v in metrics.items() if math.isfinite(v)}}
        meanwhile = meanwhile and jax.process_count() == 1
        state = _copied(state) if meanwhile else state
        write = functools.partial(
            checkpoints.save, self._place, step, state, keep=self._keep, spared=spared, metadata=custom
        )
        if meanwhile:
            self._saver.begin(write)
        else:
            self._saver.settle()
            write()
        self._saved_step, self._saved_when = step, time.monotonic()

    def look(self) -> None:
        """Raise what went wrong with a save that is done by now."""
        self._saver.settle(at_once=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for the save under way; what else has gone wrong comes before its error."""
        with contextlib.nullcontext() if kind is None else contextlib.suppress(checkpoints.CheckpointError):
            self._saver.close()

    def _spared(self, step: int, metrics: dict[str, float]) -> tuple[int, ...]:
        """The checkpoint of the lowest value so far, which may be this one."""
        assert self._metric is not None
        if metrics and self._metric not in metrics:
            raise ValueError(f"best must be a metric of this method, {', '.join(metrics)}, got {self._metric!r}")
        value = metrics.get(self._metric, math.inf)
        if self._best is None or value < self._best[0]:
            self._best = value, step
        return (self._best[1],)
