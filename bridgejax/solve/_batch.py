"""Many samples: the same numbers for any batch size, micro-batch and device count.

Each sample has its own key, and what it becomes depends on that key alone: bit for bit where the drift is elementwise.
Matrix kernels may add in another order for another number of rows, so with a network samples agree to rounding (about
1e-7 a step in float32). Programs are padded to at least 64 rows, below which such differences are the rule.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from bridgejax._checks import check_count, check_nonnegative, check_number
from bridgejax._types import Args, Numbers, PyTree, State
from bridgejax.bridges._density import Density
from bridgejax.processes._keys import check_key, streams
from bridgejax.processes.sde import SDE, Process, check_process
from bridgejax.solve._accepted import check_grid, check_solver, check_start, check_times
from bridgejax.solve._simulate import _run, combine_solver, partition_solver
from bridgejax.solve.kernels import walk_steps

Trees: TypeAlias = tuple[PyTree, ...]
MIN_BATCH = 64  # below this, matrix kernels may round differently (measured on CPU)


def auto_mesh(mesh: Mesh) -> Mesh:
    """The same devices with Auto axes: ``vmap`` over per-sample keys fails on Explicit ones."""
    return Mesh(mesh.devices, mesh.axis_names)


def put(leaf: Array | np.ndarray, sharding: Sharding) -> Array:
    """An array on the devices of a sharding. Those of other processes get their part from these, with the same array.

    ``jax.device_put`` onto devices of several processes compares the whole array between them, and refuses keys.
    """
    if sharding.is_fully_addressable or (isinstance(leaf, Array) and not leaf.is_fully_addressable):
        return jax.device_put(leaf, sharding)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(put(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf))
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def _onto(mesh: Mesh | None, tree: PyTree) -> PyTree:
    """With a mesh: a copy on each of its devices of every array that was put on others, as fitted parameters are."""
    if mesh is None:
        return tree
    mesh = auto_mesh(mesh)

    def move(leaf: Array) -> PyTree:
        if not isinstance(leaf, Array) or isinstance(leaf, Tracer) or not leaf.committed:
            return leaf
        home = leaf.sharding.mesh if isinstance(leaf.sharding, NamedSharding) else None
        there = isinstance(home, Mesh) and tuple(home.devices.flat) == tuple(mesh.devices.flat)
        return leaf if there else put(leaf, NamedSharding(mesh, PartitionSpec()))

    return jax.tree.map(move, tree)


def _pad(tree: PyTree, size: int) -> PyTree:
    """Repeat the first row until the leading axis is ``size``."""

    def pad(leaf: Array) -> Array:
        return jnp.concatenate([leaf, jnp.broadcast_to(leaf[:1], (size - leaf.shape[0], *leaf.shape[1:]))])

    return jax.tree.map(lambda leaf: leaf if leaf.shape[0] == size else pad(leaf), tree)


def map_samples(
    f: Callable[[PyTree, PyTree], PyTree],
    shared: PyTree,
    mapped: PyTree,
    num: int,
    *,
    micro_batch: int | None = None,
    mesh: Mesh | None = None,
) -> PyTree:
    """``f(shared, one sample of mapped)`` over the leading axis of ``mapped``: vmap, in micro-batches, on a mesh.

    Args:
        f: a function of one sample.
        shared: pytree of arrays common to all samples.
        mapped: pytree of arrays with leading axis ``num``.
        num: number of samples.
        micro_batch: samples per program and device; None: all of them.
        mesh: devices to spread the samples over (all axes).
    """
    devices = 1 if mesh is None else mesh.devices.size
    per_device = -(-num // devices)
    chunk = max(MIN_BATCH, per_device if micro_batch is None else min(micro_batch, per_device))
    chunks = -(-per_device // chunk)
    padded = _pad(mapped, devices * chunks * chunk)

    def local(shared: PyTree, mapped: PyTree) -> PyTree:
        one = jax.vmap(f, (None, 0))
        if chunks == 1:
            return one(shared, mapped)
        split = jax.tree.map(lambda leaf: leaf.reshape(chunks, chunk, *leaf.shape[1:]), mapped)
        out = jax.lax.map(lambda rows: one(shared, rows), split)
        return jax.tree.map(lambda leaf: leaf.reshape(chunks * chunk, *leaf.shape[2:]), out)

    if mesh is not None:
        mesh = auto_mesh(mesh)
        rows = PartitionSpec(mesh.axis_names)
        # diffrax's Runge-Kutta loops do not pass the replication check
        local = jax.shard_map(local, mesh=mesh, in_specs=(PartitionSpec(), rows), out_specs=rows, check_vma=False)
    out = local(shared, padded)
    return jax.tree.map(lambda leaf: leaf[:num], out)


def _take(axes: tuple[int | None, ...], trees: Trees) -> tuple[Trees, Trees]:
    """Semilinear into shared trees and trees mapped over axis 0; None in the place of the other kind."""
    shared = tuple(tree if axis is None else None for axis, tree in zip(axes, trees, strict=True))
    mapped = tuple(None if axis is None else tree for axis, tree in zip(axes, trees, strict=True))
    return shared, mapped


def _check_leading(name: str, tree: PyTree, num: int) -> None:
    for leaf in jax.tree.leaves(tree):
        if jnp.ndim(leaf) == 0 or jnp.shape(leaf)[0] != num:
            raise ValueError(
                f"{name} must have one row per key ({num}), got shape {jnp.shape(leaf)}; axes=None shares it instead"
            )


def check_batch(
    keys: Array,
    trees: Trees,
    names: tuple[str, ...],
    axes: tuple[int | None, ...],
    micro: int | None,
    mesh: Mesh | None,
) -> tuple[Array, int]:
    """Keys and their number; raise a ``ValueError`` for a batch whose parts do not fit."""
    keys = check_key(keys, "keys")
    if keys.ndim != 1 or keys.shape[0] == 0:
        raise ValueError(f"keys must be an array of keys, one per sample, got shape {keys.shape}; see bridgejax.keys")
    if len(axes) != len(trees) or any(axis is not None and (type(axis) is not int or axis) for axis in axes):
        raise ValueError(f"axes must hold 0 or None for each of {names}, got {axes}")
    if micro is not None:
        check_count("micro_batch", micro)
    if mesh is not None and not isinstance(mesh, Mesh):
        raise ValueError(f"mesh must be a jax.sharding.Mesh, got {type(mesh).__name__}; see jax.make_mesh")
    for axis, name, tree in zip(axes, names, trees, strict=True):
        if axis == 0:
            _check_leading(name, tree, keys.shape[0])
    return keys, keys.shape[0]


@partial(jax.jit, static_argnames=("static", "axes", "reaches_end", "num", "micro_batch", "mesh"))
def _simulate_batch(
    sde: SDE,
    keys: Array,
    x0s: State,
    ts: Array,
    args: Args,
    dynamic: PyTree,
    static: PyTree,
    *,
    axes: tuple[int | None, ...],
    reaches_end: bool | None,
    num: int,
    micro_batch: int | None,
    mesh: Mesh | None,
) -> PyTree:
    shared, mapped = _take(axes, (sde, x0s, args))

    def one(common: PyTree, sample: PyTree) -> PyTree:
        (sde_c, x0_c, args_c), ts, dynamic = common
        key, (sde_m, x0_m, args_m) = sample
        sde, x0, args = (c if m is None else m for c, m in ((sde_c, sde_m), (x0_c, x0_m), (args_c, args_m)))
        return _run(sde, key, x0, ts, args, combine_solver(dynamic, static), reaches_end=reaches_end, save=False)[0]

    return map_samples(one, (shared, ts, dynamic), (keys, mapped), num, micro_batch=micro_batch, mesh=mesh)


def simulate_batch(
    sde: SDE,
    keys: Array,
    x0s: State,
    ts: Numbers,
    args: Args = None,
    *,
    axes: tuple[int | None, int | None, int | None] = (None, 0, 0),
    solver: dfx.AbstractSolver | None = None,
    micro_batch: int | None = None,
    mesh: Mesh | None = None,
) -> PyTree:
    """``simulate`` for many samples, one key each.

    Args:
        sde: the SDE; a batch of SDEs (made by ``vmap``) with ``axes[0] = 0``.
        keys: array of keys, one per sample: ``bridgejax.keys(key, num)``.
        x0s: start states with a leading axis of samples.
        ts: the common grid, as in ``simulate``.
        args: conditions with a leading axis, or None.
        axes: 0 (one per sample) or None (shared) for ``sde``, ``x0s``, ``args``.
        solver: as in ``simulate``.
        micro_batch: samples per program; smaller needs less memory and gives the same numbers.
        mesh: ``jax.sharding.Mesh`` to spread the samples over, wherever the arrays are; the same numbers again.

    Returns:
        Last states, leading axis ``len(keys)``.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> sde = bj.SDE(lambda t, x, args: -x, lambda t, x, args: 1.0)
        >>> keys = bj.keys(jax.random.key(0), 5)
        >>> bj.simulate_batch(sde, keys, jnp.zeros((5, 2)), bj.grids.uniform(10)).shape
        (5, 2)
        >>> bj.simulate_batch(sde, keys, jnp.zeros(2), bj.grids.uniform(10), axes=(None, None, 0)).shape
        (5, 2)
    """
    times, reaches_end = check_grid(sde, ts)
    axes = tuple(axes) if isinstance(axes, list | tuple) else (axes,)  # pyright: ignore[reportAssignmentType]
    x0s = check_start(sde, x0s, "x0s")
    keys, num = check_batch(keys, (sde, x0s, args), ("sde", "x0s", "args"), axes, micro_batch, mesh)
    dynamic, static = partition_solver(check_solver(sde, solver))
    sde, keys, x0s, times, args, dynamic = _onto(mesh, (sde, keys, x0s, times, args, dynamic))
    return _simulate_batch(
        sde,
        keys,
        x0s,
        times,
        args,
        dynamic,
        static,
        axes=axes,
        reaches_end=reaches_end,
        num=num,
        micro_batch=micro_batch,
        mesh=mesh,
    )


# sampling a process -------------------------------------------------------------------------------------------------


def _resume_grid(ts: Array, t: float) -> Array:
    """The part of the grid after ``t``, beginning at ``t``."""
    if isinstance(ts, Tracer):
        raise ValueError("sampling from a time t needs a concrete grid; call sample outside jit, or use simulate_batch")
    later = ts[ts > t]
    if later.size == 0:
        raise ValueError(f"t = {t:g} is not before the end of the process's grid, {float(ts[-1]):g}")
    return jnp.concatenate([jnp.asarray([t], ts.dtype), later])


@partial(jax.jit, static_argnames=("static", "reaches_end", "num", "micro_batch", "mesh", "forward"))
def _sample(
    process: Process,
    sde: SDE,
    keys: Array,
    x: State,
    ts: Array,
    args: Args,
    dynamic: PyTree,
    static: PyTree,
    *,
    reaches_end: bool | None,
    num: int,
    micro_batch: int | None,
    mesh: Mesh | None,
    forward: bool,
) -> PyTree:
    def one(common: PyTree, sample: PyTree) -> PyTree:
        (process, sde), ts, dynamic = common
        key, x, args = sample
        start_key, run_key, decode_key = streams(key, "process", 3)
        x = process.start(start_key, args) if x is None else x
        solver = combine_solver(dynamic, static)
        if solver is None:
            x = walk_steps(sde.kernel, run_key, x, ts, args)[0]
        else:
            x = _run(sde, run_key, x, ts, args, solver, reaches_end=reaches_end, save=False)[0]
        return process.decode(decode_key, x, args) if forward else x

    shared = ((process, sde), ts, dynamic)
    return map_samples(one, shared, (keys, x, args), num, micro_batch=micro_batch, mesh=mesh)


def sample(
    process: Process,
    keys: Array,
    args: Args = None,
    *,
    x: State = None,
    t: float = 0.0,
    direction: str = "forward",
    ts: Numbers | None = None,
    solver: dfx.AbstractSolver | None = None,
    micro_batch: int | None = None,
    mesh: Mesh | None = None,
) -> PyTree:
    """Samples of a Process: data, one per key.

    Sample i depends on ``keys[i]`` (and ``args[i]``, ``x[i]``) only, not on the batch, the micro-batch or the mesh.

    Args:
        process: what was learnt or built.
        keys: array of keys; ``bridgejax.keys(key, num, start)`` continues an earlier run.
        args: conditions with a leading axis (class labels, observations, ...), or None.
        x: start states with a leading axis instead of draws from ``process.start``: partly noised data at time
            ``t``, source points of a bridge, or data for ``direction="backward"``; in the model's units, as all states
            are before ``decode`` (``Run.sample`` and ``Run.encode`` take the data's).
        t: where on the clock ``x`` stands.
        direction: "forward" ends at data; "backward" runs ``process.backward`` from ``x``.
        ts: another grid (quality against speed); default the process's own.
        solver: as in ``simulate``.
        micro_batch: samples per program.
        mesh: devices to spread the samples over, wherever the process was fitted.

    Returns:
        Finished samples (forward) or states (backward), leading axis ``len(keys)``.

    Raises:
        ValueError: unknown direction, a backward run of a process without ``backward`` or without ``x``, t without x.

    Example:
        >>> import jax, bridgejax as bj
        >>> schedule, data = bj.schedules.vp(), bj.mixtures.gaussian_mixture([[-2.0], [2.0]], 0.1)
        >>> sde = bj.reverse(schedule, denoiser=bj.mixtures.mixture_denoiser(data, schedule))
        >>> process = bj.Process(bj.starts.normal((1,)), sde, bj.grids.log_snr(50, schedule), bj.noising(schedule))
        >>> x = bj.sample(process, bj.keys(jax.random.key(0), 256))
        >>> x.shape, bool(abs(abs(x).mean() - 2.0) < 0.2)
        ((256, 1), True)
        >>> bj.sample(process, bj.keys(jax.random.key(1), 256), x=x, direction="backward").shape
        (256, 1)
    """
    if isinstance(process, Density):
        raise ValueError(
            "process must be a Process, got a Density, which has no SDE of its own; sample it with mcmc.annealed, a "
            "weighted product with feynman_kac too, and several models at once with superpose"
        )
    check_process(process)
    check_number(t=t)
    check_nonnegative(t=t)
    if direction not in ("forward", "backward"):
        raise ValueError(f"direction must be 'forward' or 'backward', got {direction!r}")
    if t != 0.0 and x is None:
        raise ValueError("t says where on the clock x stands: pass x as well")
    grid = process.ts if ts is None else ts
    sde = process.dynamics
    if direction == "backward":
        if process.backward is None:
            raise ValueError("this process has no backward: it runs in one direction only")
        if x is None:
            raise ValueError("direction='backward' starts at data: pass x")
        sde = process.backward
        grid = sde.T - check_times(process.dynamics.T, grid)[0][::-1] if ts is None else grid
    times, reaches_end = check_grid(sde, grid)
    if t != 0.0:
        times, reaches_end = check_grid(sde, _resume_grid(times, t))
    x = None if x is None else check_start(sde, x, "x")
    keys, num = check_batch(keys, (x, args), ("x", "args"), (0, 0), micro_batch, mesh)
    args = jax.tree.map(jnp.asarray, args)
    steps = solver is None and sde.kernel is not None
    if steps and x is not None:
        first = jax.tree.map(lambda leaf: leaf[0], args)
        drawn, given = (jax.tree.structure(v) for v in (jax.eval_shape(process.start, keys[0], first), x))
        if drawn != given:
            raise ValueError(f"x must hold states of this process, {drawn} of arrays, got {given}")
    dynamic, static = partition_solver(None if steps else check_solver(sde, solver))
    process, sde, keys, x, times, args, dynamic = _onto(mesh, (process, sde, keys, x, times, args, dynamic))
    return _sample(
        process,
        sde,
        keys,
        x,
        times,
        args,
        dynamic,
        static,
        reaches_end=reaches_end,
        num=num,
        micro_batch=micro_batch,
        mesh=mesh,
        forward=direction == "forward",
    )
