"""The one training loop.

    for i in start, ..., steps - 1:
        every refresh_every steps (i > 0):   state <- refresh(state, fold_in(refresh_key, i), data)
        state, metrics <- step(state, fold_in(step_key, i), batch(i))

Batch i and every key depend on i alone, so a run that stops anywhere and goes on from a checkpoint is the run that
never stopped, bit for bit on the same devices. The step is compiled once; the loop hands it NumPy batches, made in a
thread where that takes time, and reads nothing back for ``log_every`` steps, so the devices do not wait for the host. A
state is saved only after the losses that led to it were seen to be finite.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import pathlib
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bridgejax._types import Batch, Data, DType, MethodState, PyTree, Shape, StepFn
from bridgejax.data import Batches, Passes, prefetch
from bridgejax.processes._keys import check_one_key, streams
from bridgejax.training import checkpoints, records
from bridgejax.training.interrupts import Interrupted, stop_requests
from bridgejax.training.method import Method, rows
from bridgejax.training.progress import Progress, wanted
from bridgejax.training.sharding import auto_mesh, context_axes, over_rows, own

CHECKPOINTS = "checkpoints"
WATCHED = ("loss", "grad_norm")  # metrics that must stay finite
SECONDS_BETWEEN_CHECKPOINTS = 60.0
IN_FLIGHT = 8  # steps handed to the devices and not yet done; each holds its batch in memory
HANDING_OVER = 1e-4  # seconds that a batch from another thread costs this one


class Source(Protocol):
    """Where batches come from."""

    def batch(self, step: int, /) -> Batch:
        """The batch of that step, a pure function of it."""
        ...


class Info(NamedTuple):
    """What a callback is given, at every line of the metrics.

    Attributes:
        step: updates made.
        steps: updates asked for.
        metrics: means over the steps since the last line, Python floats.
        steps_per_second: over the same steps; 0 when there was nothing to time yet.
        eta: seconds left at that speed.
        state: ``state()`` copies the state. Call it within the callback: the next step takes the buffers back.
    """

    step: int
    steps: int
    metrics: dict[str, float]
    steps_per_second: float
    eta: float
    state: Callable[[], MethodState]


class NonFiniteLoss(FloatingPointError):
    """The loss, or the norm of its gradient, is not finite.

    Attributes:
        step: the first step (counted from 1) that it happened at.
        metric: "loss" or "grad_norm".
        value: what it was.
        checkpoint: step of the last good checkpoint, or None.
    """

    def __init__(self, step: int, metric: str, value: float, directory: pathlib.Path | None) -> None:
        good = None if directory is None else checkpoints.latest_step(directory / CHECKPOINTS)
        kept = "no checkpoint was saved before" if good is None else f"the last good checkpoint, step {good}, is kept"
        if good is not None:
            kept += f" in {directory}"
        super().__init__(
            f"{metric} is {value} at step {step}; {kept}. "
            "Lower the learning rate, clip gradients or check the scale of the data"
        )
        self.step, self.metric, self.value, self.checkpoint = step, metric, value, good


class Diverged(FloatingPointError):
    """What the rounds of a method simulate no longer comes near the data; raised by a method's ``refresh``.

    Attributes:
        state: the state to go on from, of the last good round; in a run directory it is the newest checkpoint.
    """

    def __init__(self, message: str, state: MethodState) -> None:
        super().__init__(message)
        self.state = state


def fit(
    method: Method,
    data: Data,
    key: Array,
    *,
    steps: int,
    batch_size: int | None = None,
    refresh_every: int | None = None,
    mesh: Mesh | None = None,
    directory: str | os.PathLike[str] | None = None,
    callbacks: Sequence[Callable[[Info], object]] = (),
    checkpoint_every: int | None = None,
    log_every: int = 50,
    keep: int = 3,
    resume: bool = True,
    progress: bool | None = None,
) -> PyTree:
    """Run a method for ``steps`` updates, from the start or from where its run directory stands.

    Args:
        method: what to train.
        data: an array or pytree of arrays with one leading axis (shuffled batches are drawn from it), an object with
            ``batch(step)`` (``data.Batches``, ``data.Pairs``), a function ``step -> batch``, or an iterable of batches
            (a torch DataLoader; see ``data.Passes``). A batch must be a pure function of its step, or the run does not
            resume exactly: an iterable starts a new pass. ``init`` and ``refresh`` are given it as it is.
        key: one threefry key; everything random follows from it.
        steps: total number of updates, those of earlier calls on the directory included.
        batch_size: rows per update; needed for arrays, otherwise checked when given.
        refresh_every: steps per round, for a method with ``refresh``.
        mesh: devices to spread the batch over (all its axes; the state is copied to each). Results agree with one
            device to float tolerance.
        directory: run directory for ``metrics.jsonl`` and ``checkpoints/``; None: nothing is written.
        callbacks: called with an ``Info`` at every line of the metrics. One that raises ends the training.
        checkpoint_every: steps between checkpoints; None: one a minute, with the next line of the metrics. One is
            always made at the end and when interrupted.
        log_every: steps per line of the metrics.
        keep: how many checkpoints stay.
        resume: False refuses a directory that has checkpoints, instead of going on from the newest.
        progress: whether to show a bar (lines, without tqdm) on stderr; None: at a terminal or in a notebook.

    Returns:
        The state after ``steps`` updates (or the one found, when it is already past them).

    Raises:
        ValueError: an argument out of range, batches that do not fit, a method that changes its state's structure, or
            a directory with checkpoints of another key, batch size, refresh_every or structure of the state. Nothing
            else is compared: other data, losses or learning rates go on from there. One sentence each.
        NonFiniteLoss: names the step; the last good checkpoint is kept.
        Diverged: by a method with rounds; the state of the last good round is saved.
        Interrupted: after Ctrl-C or SIGTERM, once the step under way is saved. Main thread only.
        PermissionError, CheckpointError: the directory cannot be written or read.

    Example:
        >>> import jax, jax.numpy as jnp, numpy as np, optax, bridgejax as bj
        >>> def loss(params, keys, batch):
        ...     return jnp.mean((batch - params) ** 2), {}
        >>> def process(params):
        ...     sde = bj.SDE(lambda t, x, args: 0.0 * x)
        ...     return bj.Process(jax.tree_util.Partial(lambda mean, key, args: mean, params), sde, bj.grids.uniform(1))
        >>> method = bj.gradient_method(loss, process, optax.sgd(0.1), params=jnp.zeros(1))
        >>> data = np.full((100, 1), 3.0, np.float32)
        >>> state = bj.fit(method, data, jax.random.key(0), steps=100, batch_size=10)
        >>> bool(abs(method.params(state)[0] - 3.0) < 1e-3)
        True
    """
    key = check_one_key(key)
    if not all(callable(getattr(method, name, None)) for name in ("init", "step", "process")):
        raise ValueError(f"method must be a Method with init, step and process, got {type(method).__name__}")
    if steps is None or log_every is None or keep is None:  # the other counts may be None
        name = "steps" if steps is None else "log_every" if log_every is None else "keep"
        raise ValueError(f"{name} must be an integer >= 1, got None")
    if mesh is not None and not isinstance(mesh, Mesh):
        raise ValueError(f"mesh must be a jax.sharding.Mesh, got {type(mesh).__name__}; see jax.make_mesh")
    if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
        raise ValueError(f"callbacks must be a sequence of functions of an Info, got {callbacks!r}")
    if directory is not None and not isinstance(directory, str | os.PathLike):
        raise ValueError(f"directory must be a path or None, got {type(directory).__name__}")
    _check_counts(
        steps=steps,
        batch_size=batch_size,
        refresh_every=refresh_every,
        checkpoint_every=checkpoint_every,
        log_every=log_every,
        keep=keep,
    )
    if (method.refresh is None) != (refresh_every is None):
        raise ValueError(
            "refresh_every is given, but the method has no refresh"
            if method.refresh is None
            else "the method works in rounds: pass refresh_every, the number of steps of each"
        )
    shown = wanted(progress)
    mesh = None if mesh is None else auto_mesh(mesh)
    init_key, step_key, refresh_key, data_key = streams(key, "fit", 4)
    feed = _Feed(_batches(data, batch_size, data_key), batch_size, mesh)
    settings = {"key": jax.random.key_data(key).tolist(), "batch_size": feed.size, "refresh_every": refresh_every}
    run = _Run(None if directory is None else pathlib.Path(directory), keep, settings)
    run.open(resume=resume)

    with stop_requests() as request:
        state, step_key = own((method.init(init_key, data), step_key), mesh)
        state, start = run.restore(state, mesh)
        done, advance, recorder = start, _compiled(method.step), _Recorder(run.directory, start)
        bar = Progress(start, steps, shown=shown)
        with contextlib.closing(bar), contextlib.closing(_stream(feed, start, steps)) as stream:
            for batch in stream:
                if refresh_every is not None and done and done % refresh_every == 0:
                    try:
                        state = _refreshed(method, state, jax.random.fold_in(refresh_key, done), data, mesh)
                    except Diverged as stop:
                        run.save(done, stop.state)
                        raise
                with contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh):
                    if done == start:
                        _check_step(advance, state, step_key, batch)
                    state, report = advance(state, step_key, np.int32(done), batch)
                done += 1
                recorder.add(done, report)
                bar.step(done)
                due = checkpoint_every is not None and done % checkpoint_every == 0
                if not (request or due or done == steps or done % log_every == 0):
                    continue
                line, speed = recorder.flush()  # raises NonFiniteLoss: nothing is saved before this
                if due or request or done == steps or (checkpoint_every is None and run.old()):
                    run.save(done, state)
                info = Info(done, steps, line, speed, _eta(steps - done, speed), functools.partial(own, state, mesh))
                bar.line(done, line, speed, info.eta)
                try:
                    for callback in callbacks:
                        callback(info)
                except KeyboardInterrupt:  # raised by the callback itself: no signal was caught
                    request.asked = True
                if request:
                    run.save(done, state)
                    break
    if request:
        raise Interrupted(done, run.directory, state)
    return state


def _compiled(step: StepFn) -> Callable[..., Any]:
    try:
        hash(step)
    except TypeError:  # a callable that holds arrays: nothing to remember it by
        return _stepper.__wrapped__(step)
    return _stepper(step)


@functools.lru_cache(maxsize=8)
def _stepper(step: StepFn) -> Callable[..., Any]:
    """The compiled step: (state, key, i, batch) -> (state, report), state donated.

    Remembered by the method's step, so that a second ``fit`` with the same method does not trace again. Eight are kept:
    a sweep over methods does not keep all their parameters.
    """

    def advance(state: MethodState, key: Array, index: Array, batch: Batch) -> tuple[MethodState, _Report]:
        state, metrics = step(state, jax.random.fold_in(key, index), batch)
        return jax.tree.map(_settled, state), _report(metrics)

    return jax.jit(advance, donate_argnums=0)


@functools.partial(jax.tree_util.register_dataclass, data_fields=("values",), meta_fields=("names",))
@dataclasses.dataclass(frozen=True)
class _Report:
    """The metrics of a step as one array: fetching ten scalars takes ten times as long."""

    names: tuple[str, ...]
    values: Array


def _report(metrics: object) -> _Report:
    if not isinstance(metrics, dict):
        raise ValueError(
            f"step must return (state, dictionary of metrics), got metrics of type {type(metrics).__name__}"
        )
    for name, metric in metrics.items():
        if jnp.shape(metric) != ():
            raise ValueError(f"metric {name!r} of step must be a scalar, got shape {jnp.shape(metric)}")
    return _Report(tuple(metrics), jnp.array([jnp.asarray(metric, jnp.float32) for metric in metrics.values()]))


def _settled(leaf: Array) -> Array:
    """A leaf as ``own`` made it, so that the next call finds the program compiled: strongly typed and replicated."""
    if not jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
        leaf = jnp.asarray(leaf, jnp.result_type(leaf))
    return jax.lax.with_sharding_constraint(leaf, PartitionSpec()) if context_axes()[0] else leaf


def _check_step(advance: Any, state: MethodState, key: Array, batch: Batch) -> None:
    """Raise unless the step keeps its state's structure. The call that follows reuses this trace."""
    after, _ = advance.eval_shape(state, key, np.int32(0), batch)
    _check_same("step", state, after)


def _check_same(name: str, before: PyTree, after: PyTree) -> None:
    old, new = ({p: (x.dtype, x.shape) for p, x in jax.tree_util.tree_leaves_with_path(t)} for t in (before, after))
    for path in [*old, *new]:
        if old.get(path) != new.get(path):
            was, now = (f"{d[path][0]}{list(d[path][1])}" if path in d else "absent" for d in (old, new))
            where = jax.tree_util.keystr(path)
            raise ValueError(f"{name} of the method must keep the state as it is, but leaf {where} was {was}, is {now}")
    if jax.tree.structure(before) != jax.tree.structure(after):
        raise ValueError(f"{name} of the method must return a state of the structure it was given")


def _refreshed(method: Method, state: MethodState, key: Array, data: Data, mesh: Mesh | None) -> MethodState:
    assert method.refresh is not None  # fit has checked it
    after = own(method.refresh(state, key, data), mesh)  # may share leaves with the state, which the step donates
    _check_same("refresh", state, after)
    return after


def _eta(left: int, speed: float) -> float:
    return 0.0 if left == 0 else left / speed if speed > 0 else math.inf


def _check_counts(**counts: int | None) -> None:
    for name, value in counts.items():
        if value is not None and (not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1):
            raise ValueError(f"{name} must be an integer >= 1, got {value!r}")


def _batches(data: Data, batch_size: int | None, key: Array) -> Source:
    """An object with ``batch(step)``, whatever form the data came in."""
    if hasattr(data, "batch"):
        return data
    if callable(data):
        return _Function(data)
    if hasattr(data, "__next__") or _is_loader(data):
        return Passes(data)
    for path, leaf in jax.tree_util.tree_leaves_with_path(data):
        if not isinstance(leaf, (np.ndarray, Array)) or leaf.dtype.kind in "OSU":
            kind = f"an array of {leaf.dtype}" if isinstance(leaf, np.ndarray) else type(leaf).__name__
            raise ValueError(
                f"data{jax.tree_util.keystr(path)} is {kind}; data must be a numeric array, a pytree of them, "
                "an object with batch(step), a function of the step or an iterable of batches (a torch tensor: "
                ".numpy(); a torch Dataset: a DataLoader of it)"
            )
    if not jax.tree.leaves(data):
        raise ValueError(f"data holds no arrays, got {type(data).__name__}; expected a pytree of arrays")
    size = rows(data)
    if batch_size is None:
        raise ValueError("batch_size is needed to draw batches from arrays; pass the number of rows per update")
    if batch_size > size:
        raise ValueError(
            f"batch_size={batch_size} is larger than the data, {size} rows; pass at most {size}, "
            "or data.Batches(data, batch_size), which repeats rows within a batch"
        )
    return Batches(data, batch_size, seed=int(np.asarray(jax.random.key_data(key)).ravel()[-1]))


def _is_loader(data: Data) -> bool:
    """Whether to go through it for its batches: an iterable that is no pytree of arrays, no array and no text."""
    leaf = jax.tree.structure(data) == jax.tree.structure(0)
    return leaf and hasattr(data, "__iter__") and not hasattr(data, "dtype") and not isinstance(data, str | bytes)


class _Function(NamedTuple):
    make: Callable[[int], Batch]

    def batch(self, step: int) -> Batch:
        return self.make(step)


class _Feed:
    """Batches checked against the first one and put on the mesh; may run in the prefetching thread."""

    def __init__(self, batches: Source, batch_size: int | None, mesh: Mesh | None) -> None:
        self.size = getattr(batches, "batch_size", None) if batch_size is None else batch_size
        self._batches, self._first = batches, None
        self._sharding: NamedSharding | None = None if mesh is None else over_rows(mesh)
        self._devices = 1 if mesh is None else mesh.size
        if self.size is not None and self.size % self._devices:
            raise ValueError(self._uneven(self.size))

    def _uneven(self, size: int) -> str:
        return f"batch_size={size} does not divide over {self._devices} devices; pass a multiple of {self._devices}"

    def batch(self, step: int) -> Batch:
        batch = self._batches.batch(step)
        for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
            if not hasattr(leaf, "dtype") or not hasattr(leaf, "shape"):
                raise ValueError(
                    f"batch{jax.tree_util.keystr(path)} of the data is a {type(leaf).__name__}; expected arrays"
                )
        shape = [(path, np.shape(x), x.dtype) for path, x in jax.tree_util.tree_leaves_with_path(batch)]
        if self._first is None:
            size = rows(batch)
            if self.size is not None and size != self.size:
                raise ValueError(f"batch_size={self.size}, but batch {step} of the data has {size} rows")
            if size % self._devices:
                raise ValueError(self._uneven(size))
            self._first = shape
        elif shape != self._first:
            raise ValueError(
                f"batch {step} differs from the first in its leaves, shapes or dtypes, which would compile the step "
                f"again: {_shapes(shape)}, expected {_shapes(self._first)}"
            )
        return batch if self._sharding is None else jax.device_put(batch, self._sharding)


def _shapes(leaves: list[tuple[PyTree, Shape, DType]]) -> str:
    return ", ".join(f"batch{jax.tree_util.keystr(path)} {dtype}{list(shape)}" for path, shape, dtype in leaves)


def _stream(feed: _Feed, start: int, steps: int) -> Generator[Batch]:
    """The batches start, ..., steps - 1: from a thread, unless making one is quicker than handing one over."""
    first, cost = [], math.inf
    for step in range(start, min(start + 2, steps)):  # two: the first may fill caches
        began = time.perf_counter()
        first.append(feed.batch(step))
        cost = min(cost, time.perf_counter() - began)
    yield from first
    at = start + len(first)
    yield from map(feed.batch, range(at, steps)) if cost < HANDING_OVER else prefetch(feed, at, steps)


class _Recorder:
    """Metrics on their way from the devices to callbacks and metrics.jsonl."""

    def __init__(self, directory: pathlib.Path | None, start: int) -> None:
        self._directory, self._pending = directory, []
        lines = [] if directory is None else records.truncate(directory, start)
        self._before = max((line.get("seconds") or 0.0 for line in lines), default=0.0)
        self._began = time.perf_counter()
        self._clock: float | None = None
        self._timed = 0

    def add(self, step: int, report: _Report) -> None:
        """Take note of a step's metrics without waiting for them; wait for those of ``IN_FLIGHT`` steps before."""
        self._pending.append((step, report))
        if len(self._pending) > IN_FLIGHT:
            self._pending[-1 - IN_FLIGHT][1].values.block_until_ready()
        if self._clock is None:  # the first step compiles, and is not timed
            self._clock = time.perf_counter()
        else:
            self._timed += 1

    def flush(self) -> tuple[dict[str, float], float]:
        """Means and speed since the last flush, written as one line; raises at the first step that is not finite."""
        steps, names = [step for step, _ in self._pending], self._pending[0][1].names
        values = np.stack(jax.device_get([report.values for _, report in self._pending])).astype(np.float64)
        watched = [names.index(name) for name in WATCHED if name in names]
        bad = np.argwhere(~np.isfinite(values[:, watched]))
        if len(bad):
            row, column = bad[0][0], watched[bad[0][1]]
            raise NonFiniteLoss(steps[row], names[column], float(values[row, column]), self._directory)
        means = dict(zip(names, values.mean(axis=0).tolist(), strict=True))
        now = time.perf_counter()
        speed = self._timed / max(now - (self._clock or now), 1e-9) if self._timed else 0.0
        self._pending, self._clock, self._timed = [], now, 0
        if self._directory is not None:
            seconds = self._before + now - self._began
            line = {"seconds": round(seconds, 3), "steps_per_second": round(speed, 3)}
            records.append(self._directory, {"step": steps[-1], **means, **line})
        return means, speed


class _Run:
    """A run directory, or none."""

    def __init__(self, directory: pathlib.Path | None, keep: int, settings: dict[str, Any]) -> None:
        self.directory, self._keep, self._settings = directory, keep, settings
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
        """The newest intact state and its step; ``state`` itself and 0 when the directory is new."""
        if self.directory is None or checkpoints.latest_step(self.directory / CHECKPOINTS) is None:
            return state, 0
        step, saved, settings = checkpoints.restore(self.directory / CHECKPOINTS, state)
        for name, value in self._settings.items():
            if name in settings and settings[name] != value:
                raise ValueError(
                    f"{self.directory} is a run with another {name}: {settings[name]} there, {value} here; "
                    "pass the same to go on exactly, or choose another directory"
                )
        self._saved_step = step
        return own(saved, mesh), step

    def old(self) -> bool:
        """Whether the last checkpoint was long ago."""
        return time.monotonic() - self._saved_when >= SECONDS_BETWEEN_CHECKPOINTS

    def save(self, step: int, state: MethodState) -> None:
        """Save the state, once per step."""
        if self.directory is None or step == self._saved_step:
            return
        checkpoints.save(self.directory / CHECKPOINTS, step, state, keep=self._keep, metadata=self._settings)
        self._saved_step, self._saved_when = step, time.monotonic()
