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
import functools
import math
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from bridgejax._types import Batch, Data, MethodState, PyTree, StepFn
from bridgejax.processes._keys import check_one_key, streams
from bridgejax.training._feed import Feed, as_source, batches_from
from bridgejax.training._recorder import Recorder, Report, RunDirectory, as_report
from bridgejax.training.hosts import Hosts, here
from bridgejax.training.identity import data_digest, versions
from bridgejax.training.interrupts import Interrupted, stop_requests
from bridgejax.training.locks import locked
from bridgejax.training.method import Method
from bridgejax.training.progress import Progress, wanted
from bridgejax.training.sharding import auto_mesh, own, settled
from bridgejax.training.watchdogs import ParameterWatch


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
    best: str | None = None,
    resume: bool | str = True,
    progress: bool | None = None,
) -> PyTree:
    """Run a method for ``steps`` updates, from the start or from where its run directory stands.

    Args:
        method: what to train.
        data: an array or pytree of arrays with one leading axis (shuffled batches are drawn from it),
            ``data.Snapshots`` (whose neighbours are paired by optimal transport), an object with ``batch(step)``
            (``data.Batches``, ``data.Pairs``), a function ``step -> batch``, a ``grain.MapDataset`` of batches, the
            rows of a Hugging Face ``datasets.Dataset``, or an iterable of batches (a torch DataLoader, ``tf.data``; see
            ``data.Passes``). A batch must be a pure function of its step, or the run does not resume exactly: other
            iterables start a new pass, with a warning. ``init`` and ``refresh`` are given it as it is.
        key: one threefry key; everything random follows from it.
        steps: total number of updates, those of earlier calls on the directory included.
        batch_size: rows per update; needed for arrays, otherwise checked when given.
        refresh_every: steps per round, for a method with ``refresh``.
        mesh: devices to spread the batch over, all its axes. The state is copied to each; an axis named "fsdp" cuts
            its arrays of 1024 numbers and more into shards instead, for models that fill a device. Results agree with
            one device to float tolerance, and a run may go on, or be sampled, on another mesh or none.
        directory: run directory for ``metrics.jsonl`` and ``checkpoints/``; None: nothing is written.
        callbacks: called with an ``Info`` at every line of the metrics. One that raises ends the training.
        checkpoint_every: steps between checkpoints; None: one a minute, with the next line of the metrics. One is
            always made at the end and when interrupted. The others are written, of a copy on the host, while the
            training goes on; what went wrong is raised with the next line of the metrics.
        log_every: steps per line of the metrics.
        keep: how many checkpoints stay, the newest.
        best: a metric: the checkpoint with its lowest value, as a mean over the steps of its line, stays too; see
            ``checkpoints.best``.
        resume: False refuses a directory that has checkpoints, instead of going on from the newest; "anyway" goes on
            with other data, or with another loss, of the same shapes, which is refused otherwise.
        progress: whether to show a bar (lines, without tqdm) on stderr; None: at a terminal or in a notebook.

    Returns:
        The state after ``steps`` updates (or the one found, when it is already past them).

    Raises:
        ValueError: an argument out of range, batches that do not fit, a method that changes its state's structure, or
            a directory with checkpoints of another key, batch size, refresh_every, data, structure of the state or
            program of a step. Other learning rates and numbers in a loss go on from there, and so do data that are
            made as they are asked for (functions, iterables), which cannot be compared. One sentence each.
        InUse: another process, or thread, writes in the directory.
        NonFiniteLoss, LossExplosion, NonFiniteParameters: names the step; the last good checkpoint is kept.
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
    if best is not None and not isinstance(best, str):
        raise ValueError(f"best must be the name of a metric or None, got {best!r}")
    if mesh is not None and not isinstance(mesh, Mesh):
        raise ValueError(f"mesh must be a jax.sharding.Mesh, got {type(mesh).__name__}; see jax.make_mesh")
    if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
        raise ValueError(f"callbacks must be a sequence of functions of an Info, got {callbacks!r}")
    if resume not in (True, False, "anyway"):
        raise ValueError(f"resume must be True, False or 'anyway', got {resume!r:.60}")
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
    feed = Feed(as_source(data, batch_size, data_key), batch_size, mesh)
    settings = {"key": jax.random.key_data(key).tolist(), "batch_size": feed.size, "refresh_every": refresh_every}
    if directory is not None:
        settings |= {"data": data_digest(data), "versions": versions()}
    place = None if directory is None else pathlib.Path(directory)
    hosts = Hosts(mesh)
    hosts.check_same(settings | {"steps": steps, "log_every": log_every, "checkpoint_every": checkpoint_every})
    run = RunDirectory(place, keep, settings, ParameterWatch(method, place), anyway=resume == "anyway", best=best)
    run.open(resume=bool(resume))

    lock = contextlib.nullcontext() if place is None or not hosts.first else locked(place)  # the first holds it for all
    with lock, run, stop_requests() as request:
        state, step_key = own((method.init(init_key, data), step_key), mesh)
        state, start = run.restore(state, mesh)
        done, stopped, advance = start, False, _compiled(method.step)
        recorder = Recorder(run.directory, start, hosts)
        bar = Progress(start, steps, shown=shown)
        with contextlib.closing(bar), contextlib.closing(batches_from(feed, start, steps)) as stream:
            for batch in stream:
                if refresh_every is not None and done and done % refresh_every == 0:
                    try:
                        state = _refreshed(method, state, jax.random.fold_in(refresh_key, done), data, mesh)
                    except Diverged as stop:
                        run.save(done, own(stop.state, mesh), {})
                        raise
                with contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh):
                    if done == start:
                        traced = _check_step(advance, state, step_key, batch)
                        run.check_program(traced, 1 if mesh is None else dict(mesh.shape))
                    state, report = advance(state, step_key, np.int32(done), batch)
                done += 1
                recorder.add(done, report)
                bar.step(done)
                due = checkpoint_every is not None and done % checkpoint_every == 0
                if not (due or done == steps or done % log_every == 0 or (request and not hosts.several)):
                    continue
                line, speed = recorder.flush()  # raises where the loss went wrong: nothing is saved before this
                stopped, old = hosts.agree(bool(request), checkpoint_every is None and run.old())
                if due or stopped or done == steps or old:
                    run.save(done, state, line, meanwhile=not (stopped or done == steps))
                run.look()
                info = Info(done, steps, line, speed, _eta(steps - done, speed), functools.partial(own, state, mesh))
                bar.line(done, line, speed, info.eta)
                try:
                    for callback in callbacks:
                        callback(info)
                except KeyboardInterrupt:  # raised by the callback itself: no signal was caught
                    request.asked = True
                if stopped or (request and not hosts.several):
                    stopped = True
                    run.save(done, state, line)
                    break
    if stopped:
        raise Interrupted(done, run.directory, state, request.number)
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

    def advance(state: MethodState, key: Array, index: Array, batch: Batch) -> tuple[MethodState, Report]:
        state, metrics = step(state, jax.random.fold_in(key, index), batch)
        return settled(jax.tree.map(_strongly_typed, state)), as_report(metrics)

    return jax.jit(advance, donate_argnums=0)


def _strongly_typed(leaf: Array) -> Array:
    """A leaf as ``own`` made it, so that the next call finds the program compiled."""
    if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
        return leaf
    return jnp.asarray(leaf, jnp.result_type(leaf))


def _check_step(advance: Any, state: MethodState, key: Array, batch: Batch) -> Any:
    """The step as it is traced, which the call that follows reuses; raise unless it keeps its state's structure."""
    traced = advance.trace(state, key, np.int32(0), batch)
    _check_same("step", state, traced.out_info[0])
    return traced


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
    before = here(state)  # a refresh knows no mesh: every process makes the same
    after = own(method.refresh(before, key, data), mesh)  # may share leaves with the state, which the step donates
    _check_same("refresh", state, after)
    return after


def _eta(left: int, speed: float) -> float:
    return 0.0 if left == 0 else left / speed if speed > 0 else math.inf


def _check_counts(**counts: int | None) -> None:
    for name, value in counts.items():
        if value is not None and (not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1):
            raise ValueError(f"{name} must be an integer >= 1, got {value!r}")
