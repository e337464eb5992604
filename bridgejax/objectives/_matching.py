"""Matching: regress a network on a quantity of the path, at a random time on it.

    L(theta) = E_t E_(x0, x1, eps) w(t) || net_theta(t, x_t) - q(t, x0, x1, eps) ||^2,   x_t = a x0 + b x1 + c eps.

The squared error's minimiser is E[q | x_t]: for q = eps denoising score matching (Vincent 2011; Ho et al. 2020, arXiv
2006.11239), for q = velocity flow matching (Lipman et al. 2023, arXiv 2210.02747), for q = x1 or the bridge's drift
bridge matching, the Markov projection of the mixture of bridges (Peluchetti 2022; Shi et al. 2023, arXiv 2303.16852;
Liu et al. 2022, arXiv 2208.14699). All are this one function; what differs is the interpolant and the name of q.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from bridgejax._checks import check_like, check_number
from bridgejax._numerics import as_wide, linear_combination, normal_like, safe_divide
from bridgejax._types import Args, Batch, Loss, Metrics, Network, Params, State
from bridgejax.bridges import predictions
from bridgejax.bridges.interpolants import Interpolant
from bridgejax.objectives.times import TimeSampler, correction, uniform
from bridgejax.processes._keys import streams


def unpack(batch: Batch) -> tuple[Batch, Batch, Batch]:
    """``(x0, x1, args)`` of a batch.

    A batch is an array (data alone) or a dictionary with ``x`` (data), or ``source`` and ``target``, and perhaps
    ``label`` or ``args`` (the samples' conditions).
    """
    if not isinstance(batch, dict):
        return batch, None, None
    args = batch.get("args", batch.get("label"))
    if "x" in batch:
        return batch["x"], None, args
    if "source" in batch and "target" in batch:
        return batch["source"], batch["target"], args
    raise ValueError(f"a batch has x, or source and target (and label or args), got {sorted(batch)}")


def ends(interpolant: Interpolant | None, batch: Batch) -> tuple[Batch, Batch, Batch]:
    """``(x0, x1, args)`` of a batch, if it has the ends that the path needs (None: the data themselves).

    Raises:
        ValueError: one end where the path has two, or two where it has one.
    """
    x0, x1, args = unpack(batch)
    two_ended = interpolant is not None and interpolant.b is not None
    if (x1 is not None) != two_ended:
        wanted = "source and target" if two_ended else "x (data alone)"
        raise ValueError(f"this path needs batches with {wanted}")
    return x0, x1, args


def default_times(interpolant: Interpolant) -> TimeSampler:
    """Uniform on [1e-3 T, T], and for two-ended paths on [1e-3 T, (1 - 1e-3) T]."""
    return uniform(1e-3 * interpolant.T, interpolant.T * (1.0 if interpolant.b is None else 1.0 - 1e-3))


def time_weight(times: TimeSampler, weight: Callable[[Array], Array] | None) -> Callable[[Array], Array] | None:
    """w(t), times the correction of a sampler that has one (``times.importance``); None is 1."""
    undo = correction(times)
    if undo is None or weight is None:
        return undo or weight
    return lambda t: weight(t) * undo(t)


def check_functions(apply: object, times: object, weight: object) -> None:
    """Raise a ``ValueError`` unless the network is a function, and the time sampler and the weight are, or None."""
    signatures = {"apply": "apply(params, t, x, args)", "times": "times(keys), or None", "weight": "weight(t), or None"}
    for (name, signature), f in zip(signatures.items(), (apply, times, weight), strict=True):
        if not callable(f) and (f is not None or name == "apply"):
            raise ValueError(f"{name} must be a function {signature}, got {type(f).__name__}")


def check_dropout(condition_dropout: float, null: Args) -> None:
    """Raise a ``ValueError`` unless the share lies in [0, 1) and has a null condition to go with it."""
    check_number(condition_dropout=condition_dropout)
    if not 0.0 <= condition_dropout < 1.0:
        raise ValueError(f"condition_dropout must lie in [0, 1), got {condition_dropout}")
    if condition_dropout > 0 and null is None:
        raise ValueError("condition_dropout needs null, the condition that stands for none")


def target(interpolant: Interpolant, predict: str, t: Array, x0: State, x1: State, eps: State) -> State:
    """The quantity ``predict`` of the path drawn by (x0, x1, eps) at time t."""
    if predict in ("x0", "x1", "eps"):
        return {"x0": x0, "x1": x1, "eps": eps}[predict]
    if predict == "velocity":
        return interpolant.velocity(t, x0, x1, eps)
    if predict == "score" and interpolant.c is not None:
        return linear_combination((-safe_divide(1.0, interpolant.c(t)), eps))
    known = {"residual": {"x1": x1}, "drift": {"x1": x1}, "backward_drift": {"x0": x0}}
    if predict in known and (predict == "residual" or interpolant.reference is not None):
        return predictions.solve(t, interpolant(t, x0, x1, eps), interpolant, known[predict], predict)
    raise ValueError(
        f"predict={predict!r} is no quantity of this path; it has x0, x1, residual, eps, score, velocity, drift"
    )


def squared_error(a: State, b: State) -> Array:
    """Mean over all coordinates of (a - b)^2, in float32 at least."""
    check_like(a, b, "what apply returns", "its target")
    terms = [
        jnp.sum((as_wide(x) - as_wide(y)) ** 2) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    ]
    return sum(terms, start=jnp.zeros(())) / sum(leaf.size for leaf in jax.tree.leaves(b))


def drop_condition(key: Array, args: Args, rate: float, null: Args) -> Args:
    """``null`` in place of ``args`` with probability ``rate`` (classifier-free guidance learns both laws at once)."""
    dropped = jax.random.bernoulli(key, rate)
    return jax.tree.map(lambda n, leaf: jnp.where(dropped, jnp.asarray(n, leaf.dtype), leaf), null, args)


def matching(
    interpolant: Interpolant,
    apply: Network,
    predict: str,
    *,
    times: TimeSampler | None = None,
    weight: Callable[[Array], Array] | None = None,
    condition_dropout: float = 0.0,
    null: Args = None,
) -> Loss:
    """The matching loss of ``apply(params, t, x, args)`` as ``loss(params, keys, batch) -> (mean, metrics)``.

    Args:
        interpolant: the path.
        apply: the network, for one sample.
        predict: what it predicts: x0, x1, eps, score, velocity, drift, backward_drift or residual.
        times: how t is drawn; default uniform on [1e-3 T, T], and for two-ended paths on [1e-3 T, (1 - 1e-3) T].
        weight: w(t); default 1. ``times.importance`` adds its own correction, so that w keeps its meaning.
        condition_dropout: share of samples that see ``null`` instead of their condition.
        null: the empty condition, shaped like ``args`` of one sample.

    Returns:
        A function of ``params``, ``keys`` (one per sample) and a batch (see ``unpack``). Sample i's part of the loss
        depends on ``keys[i]`` alone, up to a stratified time sampler's common shift.

    Raises:
        ValueError: a batch without the ends that the path needs; an unknown ``predict``.
    """
    if not isinstance(interpolant, Interpolant):
        raise ValueError(f"interpolant must be an Interpolant, got {type(interpolant).__name__}")
    check_functions(apply, times, weight)
    if not isinstance(predict, str) or predict not in predictions.QUANTITIES:
        raise ValueError(f"predict must be one of {predictions.QUANTITIES}, got {predict!r}")
    check_dropout(condition_dropout, null)
    times = default_times(interpolant) if times is None else times
    weight = time_weight(times, weight)

    noisy, dropping = interpolant.c is not None, condition_dropout > 0
    draws = 1 + noisy + dropping  # random things a sample needs: its time, and perhaps eps and the dropout

    def one(params: Params, spare: Array, t: Array, x0: State, x1: State, args: Args) -> Array:
        eps = normal_like(spare[0], x0) if noisy else None
        x = interpolant(t, x0, x1, eps)
        if args is not None and dropping:
            args = drop_condition(spare[-1], args, condition_dropout, null)
        error = squared_error(apply(params, t, x, args), target(interpolant, predict, t, x0, x1, eps))
        return error if weight is None else weight(t) * error

    def loss(params: Params, keys: Array, batch: Batch) -> tuple[Array, Metrics]:
        x0, x1, args = ends(interpolant, batch)
        # a derivation of keys costs a small network some hundredths of its step: one, or none
        parts = keys[:, None] if draws == 1 else streams(keys, "loss", draws)
        losses = jax.vmap(one, (None, 0, 0, 0, 0, 0))(params, parts[:, 1:], times(parts[:, 0]), x0, x1, args)
        return jnp.mean(losses), {}

    return loss
