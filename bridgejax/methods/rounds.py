"""What methods between two data sets share: the ends, and the regressions of methods that work in rounds.

    draw_ends      n rows of source and target, from whatever form the data come in
    keep_good      a round is begun only if what the last one learnt comes near the data
    Regression     an update of a least-squares fit: a step of an optax optimizer, or the exact minimiser on the batch
    Pair           a network for each direction

A network that is linear in its parameters makes the loss L(p) = L(q) + g (p - q) + (p - q) H (p - q) / 2, a quadratic,
so one Newton step p = q - H^-1 g from anywhere solves the regression: ``optimizer="exact"``. It turns iterative methods
into recursions whose truth is known, and is all the training there is where features are few (linear drifts between
Gaussians).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from bridgejax._summary import summary
from bridgejax.objectives.matching import unpack
from bridgejax.processes import starts
from bridgejax.processes.checks import as_real, check_count, check_finite, check_number, check_positive
from bridgejax.processes.numerics import as_wide, dtype_of
from bridgejax.solve.simulate import check_times
from bridgejax.training import Diverged, adam
from bridgejax.training import ema as averaging
from bridgejax.training.method import global_norm
from bridgejax.training.optimizers import in_float32

PATIENCE = 3  # refusals in a row that may end a training
_SLACK = 1e-5  # of a grid's times
_RIDGE = 1e-6  # of the Hessian's mean diagonal: parameters that the batch says nothing about stay where they are


# the ends -----------------------------------------------------------------------------------------------------------


def start_law(source: Any, shape: Any) -> tuple[tuple[int, ...], Any]:
    """The shape of a sample, and the law that a process starts from: rows of ``source``; None: standard normal.

    Raises:
        ValueError: what is no shape, or rows of another one or with numbers that are not finite.
    """
    normal = starts.normal(shape)
    shape = normal.mean.shape
    if source is None:
        return shape, normal
    points = as_wide(as_real(source, "source"))
    check_finite(source=points)
    if points.shape[1:] != shape:
        raise ValueError(f"source must have rows of shape {shape}, that of a sample, got {points.shape[1:]}")
    return shape, starts.rows(points)


def whole_grid(ts: Any, default: Array, *, symmetric: bool = False) -> Array:
    """``ts``, or the default, as a grid of the clock from one end's data (0) to the other's (1).

    Raises:
        ValueError: times that do not increase from 0 to 1; ``symmetric``: a grid that is another one read backwards.
    """
    if ts is None:
        return default
    grid, _ = check_times(1.0, ts)
    if not isinstance(grid, Tracer):
        host = np.asarray(grid, np.float64)
        if max(abs(host[0]), abs(host[-1] - 1.0)) > _SLACK:
            raise ValueError(f"ts must run from 0 to 1, from source to target, got {host[0]:g} to {host[-1]:g}")
        if symmetric and np.max(np.abs(host + host[::-1] - 1.0)) > _SLACK:
            raise ValueError(
                "ts must be symmetric, ts[k] = 1 - ts[N - k]: a direction learns at the times that the other visits; "
                "use grids.uniform or grids.two_sided"
            )
    return grid


def check_ends(batch: Any, shape: tuple[int, ...], what: str = "a batch") -> tuple[Array, Array]:
    """``(x0, x1)`` of a batch with source and target rows of one shape; whole numbers as floating ones.

    Raises:
        ValueError: data alone, or rows of another shape.
    """
    x0, x1, args = unpack(batch)
    if x1 is None:
        raise ValueError(f"{what} needs source and target (data.Pairs makes such batches), got data alone")
    if args is not None:
        raise ValueError(f"{what} has labels, and this method learns one bridge without condition; leave them out")
    for name, x in (("source", x0), ("target", x1)):
        if jnp.shape(x)[1:] != shape:
            raise ValueError(
                f"{what} has {name} rows of shape {jnp.shape(x)[1:]}, and this method was made for {shape}; "
                "source and target must have one dimension"
            )
    return jnp.asarray(x0, dtype_of(x0)), jnp.asarray(x1, dtype_of(x1))


def gather(data: Any, random: np.random.Generator, num: int, read: Callable[[Any], Any]) -> Any:
    """At least ``num`` rows from batches, as ``read`` takes them from each; None where ``data`` has no batches.

    Args:
        data: an object with ``batch(step)``, a function of the step, or arrays.
        random: decides at which step to begin.
        num: how many rows.
        read: what of a batch to keep, arrays with a leading axis.
    """
    get = getattr(data, "batch", data if callable(data) else None)
    if get is None:
        return None
    parts, found, step = [], 0, int(random.integers(2**20))
    while found < num:
        parts.append(read(get(step)))
        found, step = found + len(jax.tree.leaves(parts[-1])[0]), step + 1
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def draw_ends(data: Any, key: Array, num: int, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """``num`` rows of source and of target.

    Args:
        data: arrays ``{"source", "target"}`` (rows are then drawn independently), an object with ``batch(step)``
            (its batches, coupling included), or a function of the step.
        key: decides which rows.
        num: how many.
        shape: shape of a row.

    Raises:
        ValueError: as ``check_ends``, and for rows that are not finite.
    """
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    rows = gather(data, random, num, lambda batch: check_ends(batch, shape))
    if rows is None:
        x0, x1 = (np.asarray(x) for x in check_ends(data, shape, "data"))
        rows = tuple(x[random.integers(len(x), size=num)] for x in (x0, x1))
    check_finite(source=rows[0][:num], target=rows[1][:num])
    return jnp.asarray(rows[0][:num]), jnp.asarray(rows[1][:num])


def check_sigma(sigma: Any) -> None:
    """Raise a ``ValueError`` unless ``sigma`` is a positive number."""
    check_number(sigma=sigma)
    check_positive(sigma=sigma)


def check_rounds(sigma: Any, cache: Any, max_gap: Any) -> None:
    """Raise a ``ValueError`` unless ``sigma`` and ``max_gap`` are positive numbers and ``cache`` a count."""
    check_sigma(sigma)
    check_count("cache", cache)
    check_number(max_gap=max_gap)
    check_positive(max_gap=max_gap)


def relative_gap(x: Array, truth: Array, begin: Array) -> Array:
    """How far the means and standard deviations of two samples are apart, over the second's spread; 0 for equal laws.

    sqrt(sum_i (m_i - m'_i)^2 + (s_i - s'_i)^2) / sqrt(sum_i s'_i^2), over coordinates i; about sqrt(2 / n) by chance.
    The spread is taken to be a hundredth of what lies between ``truth`` and ``begin``, where paths began, at the least.
    """
    moved = (x.mean(axis=0) - truth.mean(axis=0)) ** 2 + (x.std(axis=0) - truth.std(axis=0)) ** 2
    way = jnp.sum((truth.mean(axis=0) - begin.mean(axis=0)) ** 2 + begin.var(axis=0))
    return jnp.sqrt(jnp.sum(moved) / jnp.maximum(jnp.sum(truth.var(axis=0)), 1e-4 * way + 1e-12))


def near(gap: Array, max_gap: float) -> Array:
    """Whether the simulated ends of a round are near the data."""
    return jnp.isfinite(gap) & (gap <= max_gap)


def keep_good(
    ends: tuple[Array, Array, Array],
    max_gap: float,
    new: Callable[[], Any],
    state: Any,
    learn: Regression,
    ema: float | None,
) -> Any:
    """The state of the new round, if the paths simulated for it end near the data; else the old one goes on.

    Args:
        ends: where paths end, the data that they should end at, and where they began.
        max_gap: how far they may end from the data.
        new: makes the new state.
        state: the old one, with ``round``, ``refused``, ``gap``, ``nets`` and ``kept``.
        learn: the regression, to start anew with.
        ema: its average.

    Raises:
        Diverged: the third refusal in a row, no closer than the second, and twice as far as paths that stand still.
            Its state has the networks of the last good refresh, and of their optimizers nothing.
    """
    gap, still = relative_gap(*ends), relative_gap(ends[2], *ends[1:])
    if bool(near(gap, max_gap)):
        return new()._replace(refused=jnp.zeros((), jnp.int32), gap=gap, kept=state.nets.both())
    lost = not (gap < state.gap or gap < 2.0 * still)  # a way that is merely learnt slowly is not lost
    if lost and int(state.refused) + 1 >= PATIENCE:
        ahead, back = (jax.tree.map(lambda leaf, d=d: leaf[d], state.kept) for d in (0, 1))
        nets = start_pair(learn, ahead, back, ema)
        raise Diverged(
            f"after round {int(state.round)} simulated paths end {float(gap):.3g} standard deviations from the data "
            f"(max_gap = {max_gap:g}), the third time in a row and no closer; training has stopped, with the networks "
            "of the last good round. Lower the learning rate, or give a round more updates",
            state._replace(nets=nets, refused=jnp.zeros((), jnp.int32)),
        )
    return state._replace(refused=state.refused + 1, gap=gap)


# the regression -----------------------------------------------------------------------------------------------------


class Regression(NamedTuple):
    """``init(params) -> state`` and ``update(loss, params, state) -> (params, state, value, gradient)``."""

    init: Callable[[Any], Any]
    update: Callable[..., tuple[Any, Any, Array, Any]]

    __repr__ = summary


def _newton(loss: Callable[[Any], Array], params: Any, state: Any) -> tuple[Any, Any, Array, Any]:
    flat, unravel = ravel_pytree(params)
    value, gradient = jax.value_and_grad(lambda p: loss(unravel(p)))(flat)
    hessian = jax.hessian(lambda p: loss(unravel(p)))(flat)
    ridge = _RIDGE * jnp.trace(hessian) / flat.size
    step = jnp.linalg.solve(hessian + ridge * jnp.eye(flat.size, dtype=flat.dtype), gradient)
    return unravel(flat - step), state, value, unravel(gradient)


def check_average(optimizer: Any, ema: float | None) -> float | None:
    """The decay, or None for exact regressions, which have nothing to average; raise for one out of range."""
    averaging.check_decay(ema)
    return None if isinstance(optimizer, str) and optimizer == "exact" else ema


def regression(optimizer: Any) -> Regression:
    """A regression by an optax transformation (None: Adam at 1e-3, gradients clipped to norm 1), or by "exact".

    Raises:
        ValueError: neither.
    """
    if isinstance(optimizer, str) and optimizer == "exact":
        return Regression(lambda params: (), _newton)
    optimizer = adam(schedule="constant") if optimizer is None else optimizer
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise ValueError(f"optimizer must be an optax transformation or 'exact', got {optimizer!r}; see optax.adam")
    chosen = in_float32(optimizer)

    def update(loss: Callable[[Any], Array], params: Any, state: Any) -> tuple[Any, Any, Array, Any]:
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = chosen.update(gradient, state, params, value=value)
        return optax.apply_updates(params, updates), state, value, gradient

    return Regression(chosen.init, update)


# two networks -------------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    """Two networks, one for each direction; leaves have a leading axis: 0 forward, 1 backward.

    Attributes:
        counts: updates of each.
        params: of both.
        opt_state: of both.
        ema: moving averages in float32, or None.
    """

    counts: Array
    params: Any
    opt_state: Any
    ema: Any

    __repr__ = summary

    def of(self, direction: Any) -> Any:
        """Parameters to simulate a direction with, averaged where there is an average."""
        return jax.tree.map(lambda leaf: leaf[direction], self.both())

    def both(self) -> Any:
        """Those of both directions, with a leading axis."""
        return self.params if self.ema is None else averaging.like(self.ema, self.params)


def start_pair(learn: Regression, forward: Any, backward: Any, ema: float | None) -> Pair:
    """Two networks from their parameters."""
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), forward, backward)
    average = None if ema is None else averaging.start(both)
    return Pair(jnp.zeros(2, jnp.int32), both, jax.vmap(learn.init)(both), average)


def update_pair(
    learn: Regression, pair: Pair, direction: Any, loss: Callable[[Any], Array], ema: float | None
) -> tuple[Pair, dict[str, Array]]:
    """One update of the network of a direction, which may be traced; the pair, and "loss" and "grad_norm"."""

    def put(tree: Any, new: Any) -> Any:
        return jax.tree.map(lambda leaf, one: leaf.at[direction].set(one), tree, new)

    params, opt_state, average = jax.tree.map(lambda leaf: leaf[direction], (pair.params, pair.opt_state, pair.ema))
    params, opt_state, value, gradient = learn.update(loss, params, opt_state)
    if ema is not None:
        average = averaging.update(average, params, ema, pair.counts[direction])
    new = Pair(pair.counts.at[direction].add(1), *map(put, pair[1:], (params, opt_state, average)))
    return new, {"loss": value, "grad_norm": global_norm(gradient)}
