"""What methods that work in rounds share: two networks, the regressions that fit them, and when a round is accepted.

    accept_round      a round is begun only if what the last one learnt comes near the data
    Regression     an update of a least-squares fit: a step of an optax optimizer, or the exact minimiser on the batch
    Pair           a network for each direction

A network that is linear in its parameters makes the loss L(p) = L(q) + g (p - q) + (p - q) H (p - q) / 2, a quadratic,
so one Newton step p = q - H^-1 g from anywhere solves the regression: ``optimizer="exact"``. It turns iterative methods
into recursions whose truth is known, and is all the training there is where features are few (linear drifts between
Gaussians).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from bridgejax._checks import check_count, check_number, check_positive
from bridgejax._summary import summary
from bridgejax._types import MethodState, Params, PyTree, Scalar
from bridgejax.methods._ends import check_sigma
from bridgejax.training import Diverged, adam
from bridgejax.training import ema as averaging
from bridgejax.training.method import averaged, global_norm
from bridgejax.training.optimizers import in_float32

_CACHED = 1 << 25  # numbers that the caches of a round may hold
PATIENCE = 3  # rejections in a row that may end a training
_RIDGE = 1e-6  # of the Hessian's mean diagonal: parameters that the batch says nothing about stay where they are


def check_rounds(sigma: Scalar, cache: int, max_marginal_error: float) -> None:
    """Raise a ``ValueError`` unless ``sigma`` and ``max_marginal_error`` are positive numbers and ``cache`` a count."""
    check_sigma(sigma)
    check_count("cache", cache)
    check_number(max_marginal_error=max_marginal_error)
    check_positive(max_marginal_error=max_marginal_error)


def marginal_error(x: Array, truth: Array, begin: Array) -> Array:
    """How far the means and standard deviations of two samples are apart, over the second's spread; 0 for equal laws.

    sqrt(sum_i (m_i - m'_i)^2 + (s_i - s'_i)^2) / sqrt(sum_i s'_i^2), over coordinates i; about sqrt(2 / n) by chance.
    The spread is taken to be a hundredth of what lies between ``truth`` and ``begin``, where paths began, at the least.
    """
    moved = (x.mean(axis=0) - truth.mean(axis=0)) ** 2 + (x.std(axis=0) - truth.std(axis=0)) ** 2
    way = jnp.sum((truth.mean(axis=0) - begin.mean(axis=0)) ** 2 + begin.var(axis=0))
    error = jnp.sqrt(jnp.sum(moved) / jnp.maximum(jnp.sum(truth.var(axis=0)), 1e-4 * way + 1e-12))
    return error.astype(float)  # JAX's default, as it is when training begins, whatever the data are


def within(error: Array, max_marginal_error: float) -> Array:
    """Whether the simulated ends of a round are near the data."""
    return jnp.isfinite(error) & (error <= max_marginal_error)


def accept_round(
    samples: tuple[Array, Array, Array],
    max_marginal_error: float,
    new: Callable[[], MethodState],
    state: MethodState,
    learn: Regression,
    ema: float | None,
) -> MethodState:
    """The state of the new round, if the paths simulated for it end near the data; else the old one goes on.

    Args:
        samples: where paths end, the data that they should end at, and where they began.
        max_marginal_error: how far they may end from the data.
        new: makes the new state.
        state: the old one, with ``round``, ``rejected``, ``marginal_error``, ``nets`` and ``accepted``.
        learn: the regression, to start anew with.
        ema: its average.

    Raises:
        Diverged: the third rejection in a row, no closer than the second, and twice as far as paths that stand still.
            Its state has the networks of the last good refresh, and of their optimizers nothing.
    """
    error, unmoved_error = marginal_error(*samples), marginal_error(samples[2], *samples[1:])
    if bool(within(error, max_marginal_error)):
        return new()._replace(rejected=jnp.zeros((), jnp.int32), marginal_error=error, accepted=state.nets.both())
    lost = not (
        error < state.marginal_error or error < 2.0 * unmoved_error
    )  # a way that is merely learnt slowly is not lost
    if lost and int(state.rejected) + 1 >= PATIENCE:
        ahead, backward = (jax.tree.map(lambda leaf, d=d: leaf[d], state.accepted) for d in (0, 1))
        nets = start_pair(learn, ahead, backward, ema)
        raise Diverged(
            f"after round {int(state.round)} simulated paths end {float(error):.3g} standard deviations from the data "
            f"(max_marginal_error = {max_marginal_error:g}), the third time in a row and no closer; training has "
            "stopped, with the networks of the last good round. Lower the learning rate, or give a round more updates",
            state._replace(nets=nets, rejected=jnp.zeros((), jnp.int32)),
        )
    return state._replace(rejected=state.rejected + 1, marginal_error=error)


def cache_size(shape: tuple[int, ...], states: int) -> int:
    """Paths to simulate in a round, each of so many states of a shape: fewer for images."""
    return int(np.clip(_CACHED // (states * math.prod(shape)), 256, 4096))


# the regression -----------------------------------------------------------------------------------------------------


class Regression(NamedTuple):
    """``init(params) -> state`` and ``update(loss, params, state) -> (params, state, value, gradient)``."""

    init: Callable[[Params], PyTree]
    update: Callable[..., tuple[Params, PyTree, Array, Params]]

    __repr__ = summary


def _newton(
    loss: Callable[[Params], Array], params: Params, state: MethodState
) -> tuple[Params, PyTree, Array, Params]:
    flat, unravel = ravel_pytree(params)
    value, gradient = jax.value_and_grad(lambda p: loss(unravel(p)))(flat)
    hessian = jax.hessian(lambda p: loss(unravel(p)))(flat)
    ridge = _RIDGE * jnp.trace(hessian) / flat.size
    step = jnp.linalg.solve(hessian + ridge * jnp.eye(flat.size, dtype=flat.dtype), gradient)
    return unravel(flat - step), state, value, unravel(gradient)


def check_average(optimizer: optax.GradientTransformation | str | None, ema: float | None) -> float | None:
    """The decay, or None for exact regressions, which have nothing to average; raise for one out of range."""
    averaging.check_decay(ema)
    return None if isinstance(optimizer, str) and optimizer == "exact" else ema


def regression(optimizer: optax.GradientTransformation | str | None) -> Regression:
    """A regression by an optax transformation (None: Adam at 1e-3, gradients clipped to norm 1), or by "exact".

    Raises:
        ValueError: neither.
    """
    if isinstance(optimizer, str) and optimizer == "exact":
        return Regression(lambda params: (), _newton)
    optimizer = adam(schedule="constant") if optimizer is None else optimizer
    if isinstance(optimizer, str) or not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise ValueError(f"optimizer must be an optax transformation or 'exact', got {optimizer!r}; see optax.adam")
    chosen = in_float32(optimizer)

    def update(
        loss: Callable[[Params], Array], params: Params, state: MethodState
    ) -> tuple[Params, PyTree, Array, Params]:
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
    params: Params
    opt_state: PyTree
    ema: Params

    __repr__ = summary

    def of(self, direction: int | Array) -> Params:
        """Parameters to simulate a direction with, averaged where there is an average."""
        return jax.tree.map(lambda leaf: leaf[direction], self.both())

    def both(self) -> Params:
        """Those of both directions, with a leading axis."""
        return averaged(self)

    def by_name(self) -> dict[str, Params]:
        """Those of each direction: "forward", source to target, and "backward"."""
        return {"forward": self.of(0), "backward": self.of(1)}


def params_of(state: MethodState) -> dict[str, Params]:
    """``params`` of a Method whose states have a Pair ``nets``."""
    return state.nets.by_name()


def start_pair(learn: Regression, forward: Params, backward: Params, ema: float | None) -> Pair:
    """Two networks from their parameters."""
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), forward, backward)
    average = None if ema is None else averaging.start(both)
    return Pair(jnp.zeros(2, jnp.int32), both, jax.vmap(learn.init)(both), average)


def update_pair(
    learn: Regression, pair: Pair, direction: int | Array, loss: Callable[[Params], Array], ema: float | None
) -> tuple[Pair, dict[str, Array]]:
    """One update of the network of a direction, which may be traced; the pair, and "loss" and "grad_norm"."""

    def put(tree: PyTree, new: PyTree) -> Any:
        return jax.tree.map(lambda leaf, one: leaf.at[direction].set(one), tree, new)

    params, opt_state, average = jax.tree.map(lambda leaf: leaf[direction], (pair.params, pair.opt_state, pair.ema))
    params, opt_state, value, gradient = learn.update(loss, params, opt_state)
    if ema is not None:
        average = averaging.update(average, params, ema, pair.counts[direction])
    new = Pair(pair.counts.at[direction].add(1), *map(put, pair[1:], (params, opt_state, average)))
    return new, {"loss": value, "grad_norm": global_norm(gradient)}
