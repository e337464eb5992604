"""What methods between two data sets share: the ends, and the regressions of methods that work in rounds.

    draw_ends      n rows of source and target, from whatever form the data come in
    Regression     an update of a least-squares fit: a step of an optax optimizer, or the exact minimiser on the batch

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
from jax.flatten_util import ravel_pytree

from bridgejax.networks import functional
from bridgejax.objectives.matching import unpack
from bridgejax.processes.checks import check_number, check_positive
from bridgejax.training import adam

_RIDGE = 1e-6  # of the Hessian's mean diagonal: parameters that the batch says nothing about stay where they are


# the ends -----------------------------------------------------------------------------------------------------------


def check_ends(batch: Any, shape: tuple[int, ...], what: str = "a batch") -> tuple[Array, Array]:
    """``(x0, x1)`` of a batch with source and target rows of one shape.

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
    return x0, x1


def draw_ends(data: Any, key: Array, num: int, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """``num`` rows of source and of target.

    Args:
        data: arrays ``{"source", "target"}`` (rows are then drawn independently), an object with ``batch(step)``
            (its batches, coupling included), or a function of the step.
        key: decides which rows.
        num: how many.
        shape: shape of a row.
    """
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    get = getattr(data, "batch", data if callable(data) else None)
    if get is None:
        x0, x1 = check_ends(data, shape, "data")
        return tuple(jnp.asarray(np.asarray(x)[random.integers(len(x), size=num)]) for x in (x0, x1))  # pyright: ignore
    parts, found, step = [], 0, int(random.integers(2**20))
    while found < num:
        parts.append(check_ends(get(step), shape))
        found, step = found + len(parts[-1][0]), step + 1
    return tuple(jnp.asarray(np.concatenate(rows)[:num]) for rows in zip(*parts, strict=True))  # pyright: ignore


def check_sigma(sigma: Any) -> None:
    """Raise a ``ValueError`` unless ``sigma`` is a positive number."""
    check_number(sigma=sigma)
    check_positive(sigma=sigma)


def network_pair(network: Any) -> tuple[Any, Any]:
    """``(apply, params)``, see ``networks.functional``; raise a ``ValueError`` for none."""
    if network is None:
        raise ValueError("network is needed: a flax.nnx module or (apply, params)")
    return functional(network)


def relative_gap(x: Array, truth: Array) -> Array:
    """How far the means and standard deviations of two samples are apart, over the second's spread; 0 for equal laws.

    sqrt(sum_i (m_i - m'_i)^2 + (s_i - s'_i)^2) / sqrt(sum_i s'_i^2), over coordinates i; about sqrt(2 / n) by chance.
    """
    moved = (x.mean(axis=0) - truth.mean(axis=0)) ** 2 + (x.std(axis=0) - truth.std(axis=0)) ** 2
    return jnp.sqrt(jnp.sum(moved) / jnp.maximum(jnp.sum(truth.var(axis=0)), 1e-12))


# the regression -----------------------------------------------------------------------------------------------------


class Regression(NamedTuple):
    """``init(params) -> state`` and ``update(loss, params, state) -> (params, state, value, gradient)``."""

    init: Callable[[Any], Any]
    update: Callable[..., tuple[Any, Any, Array, Any]]


def _newton(loss: Callable[[Any], Array], params: Any, state: Any) -> tuple[Any, Any, Array, Any]:
    flat, unravel = ravel_pytree(params)
    value, gradient = jax.value_and_grad(lambda p: loss(unravel(p)))(flat)
    hessian = jax.hessian(lambda p: loss(unravel(p)))(flat)
    ridge = _RIDGE * jnp.trace(hessian) / flat.size
    step = jnp.linalg.solve(hessian + ridge * jnp.eye(flat.size, dtype=flat.dtype), gradient)
    return unravel(flat - step), state, value, unravel(gradient)


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
    chosen = optax.with_extra_args_support(optimizer)

    def update(loss: Callable[[Any], Array], params: Any, state: Any) -> tuple[Any, Any, Array, Any]:
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = chosen.update(gradient, state, params, value=value)
        return optax.apply_updates(params, updates), state, value, gradient

    return Regression(chosen.init, update)
