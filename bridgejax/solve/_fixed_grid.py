"""One ``lax.scan`` over a fixed grid: the solver's own step, with noise drawn in blocks.

The noise of a step is G sqrt(dt) z with z drawn in blocks of 32 steps, block j from ``fold_in(stream(key, "noise"),
j)``. A small state draws all blocks up front, a large one streams them; the numbers are the same, so a sample depends
on its key and its grid and on nothing else. The step is rematerialised, so a gradient stores the states and no
intermediate of the network; the noise is scaled outside that body.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._numerics import cast_like, normal_like
from bridgejax._types import Args, PyTree, State
from bridgejax.processes._keys import stream
from bridgejax.processes.sde import SDE
from bridgejax.solve._accepted import unwrapped
from bridgejax.solve._solvers.geodesic import GeodesicMidpoint
from bridgejax.solve._solvers.one_step import PredictorCorrector
from bridgejax.solve._solvers.tableaus import unrolled_rk_step
from bridgejax.solve._solvers.terms import StepIncrement, make_terms, noise_structure

BLOCK = 32
# Numbers of noise per sample up to which all blocks are drawn at once, whatever the batch, which must not show in a
# sample: 20,000 samples then hold 0.6 GiB at most. More are as fast streamed, but the step is compiled twice.
_UP_FRONT = 1 << 11


# noise ----------------------------------------------------------------------------------------------------------------


def _block(block_key: Array, like: PyTree, size: int) -> PyTree:
    """Standard normals of the first ``size`` steps of a block.

    Threefry numbers are a function of key and index, so a shorter block is the beginning of a full one.
    """
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape), leaf.dtype), like)
    return normal_like(block_key, shapes)


def draw_noise(key: Array, like: PyTree, count: int) -> PyTree:
    """Standard normals for ``count`` steps at once, leading axis ``count``: blocks of 32, the last one shorter."""
    whole, rest = divmod(count, BLOCK)
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(whole + bool(rest), dtype=jnp.uint32))
    parts = []
    if whole:
        blocks = jax.vmap(lambda k: _block(k, like, BLOCK))(keys[:whole])
        parts.append(jax.tree.map(lambda leaf: leaf.reshape(whole * BLOCK, *leaf.shape[2:]), blocks))
    if rest:
        parts.append(_block(keys[whole], like, rest))
    return parts[0] if len(parts) == 1 else jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def _scaled(z: PyTree, variances: Array) -> PyTree:
    root = jnp.sqrt(variances)

    def scale(leaf: Array) -> Array:
        return (root.reshape(-1, *(1,) * (leaf.ndim - 1)) * leaf).astype(leaf.dtype)

    return jax.tree.map(scale, z)


# the scan -------------------------------------------------------------------------------------------------------------


def _scan_grid(
    step: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    carry: PyTree,
    key: Array,
    ts: Array,
    like: PyTree,
    *,
    levy: bool,
) -> tuple[PyTree, PyTree]:
    """Scan ``step`` over the intervals of ``ts`` with their noise, drawn at once or block by block."""
    count = ts.shape[0] - 1

    def with_noise(ts: Array, draw: Callable[[Array], PyTree]) -> tuple[PyTree, ...]:
        dts = ts[1:] - ts[:-1]
        return ts[:-1], ts[1:], _scaled(draw(noise_key), dts), (_scaled(draw(levy_key), dts / 12.0) if levy else None)

    if like is None:
        return jax.lax.scan(step, carry, (ts[:-1], ts[1:], None, None))
    noise_key, levy_key = stream(key, "noise"), (stream(key, "levy") if levy else key)
    numbers = count * sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(like))
    if numbers <= _UP_FRONT or count <= BLOCK:
        return jax.lax.scan(step, carry, with_noise(ts, lambda k: draw_noise(k, like, count)))

    def run_block(carry: PyTree, j: Array | int, size: int = BLOCK) -> tuple[PyTree, PyTree]:
        times = jax.lax.dynamic_slice_in_dim(ts, j * BLOCK, size + 1)
        return jax.lax.scan(step, carry, with_noise(times, lambda k: _block(jax.random.fold_in(k, j), like, size)))

    whole, rest = divmod(count, BLOCK)
    # rematerialised as a block too: the gradient draws the noise again instead of storing it
    streamed = jax.checkpoint(run_block, prevent_cse=False)
    carry, saved = jax.lax.scan(streamed, carry, jnp.arange(whole, dtype=jnp.int32))
    saved = jax.tree.map(lambda leaf: leaf.reshape(whole * BLOCK, *leaf.shape[2:]), saved)
    if rest:
        carry, last = run_block(carry, whole, rest)
        saved = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), saved, last)
    return carry, saved


def _differentiable(solver: dfx.AbstractSolver) -> dfx.AbstractSolver:
    """Choose, for an implicit Runge-Kutta solver, the loop over stages that a scan can differentiate cheaply."""
    inner = unwrapped(solver)
    if not isinstance(inner, dfx.AbstractRungeKutta) or inner.scan_kind is not None:
        return solver
    return eqx.tree_at(lambda s: unwrapped(s).scan_kind, solver, "bounded", is_leaf=lambda leaf: leaf is None)


def solve_grid(
    sde: SDE, key: Array, x0: State, ts: Array, args: Args, solver: dfx.AbstractSolver, *, save: bool
) -> tuple[PyTree, PyTree]:
    """Every interval of ``ts`` by the solver. Returns the last state and, where saved, all later states and noise."""
    like = noise_structure(sde, ts[0], x0, args)
    levy = isinstance(solver, dfx.AbstractSRK | PredictorCorrector | GeodesicMidpoint)
    stages = unrolled_rk_step(solver)
    solver = _differentiable(solver)

    def one_step(x: State, memory: PyTree, t0: Array, t1: Array, w: PyTree, h: PyTree) -> tuple[PyTree, PyTree]:
        terms = make_terms(sde, StepIncrement(t0, t1, w, h))
        if stages is None:
            y, _, _, state, _ = solver.step(terms, t0, t1, x, args, memory, False)
        else:
            y, state = stages(terms, t0, t1, x, args), memory
        return cast_like((y, state), (x, memory))

    one_step = jax.checkpoint(one_step, prevent_cse=False)

    def step(carry: PyTree, interval: PyTree) -> tuple[PyTree, PyTree]:
        t0, t1, w, h = interval
        x, state = carry
        carry = one_step(x, state, t0, t1, w, h)
        return carry, ((carry[0], w) if save else None)

    nothing = None if like is None else jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
    terms = make_terms(sde, StepIncrement(ts[0], ts[1], nothing, nothing if levy else None))
    stateless = stages is not None and isinstance(solver, dfx.AbstractERK)  # init of the others checks the noise
    carry = (x0, None if stateless else solver.init(terms, ts[0], ts[1], x0, args))
    (x, _), saved = _scan_grid(step, carry, key, ts, like, levy=levy)
    return x, saved
