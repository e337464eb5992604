"""Adam with what training a diffusion model wants around it: warm-up, decay, clipping.

    g   <- g min(1, clip / |g|)                                          global norm over all parameters
    lr_n = lr (n + 1) / (warmup + 1)                                     n < warmup
           lr (final + (1 - final) (1 + cos(pi s)) / 2)                  cosine,  s = (n - warmup) / (steps - warmup)
           lr (final + (1 - final) (1 - s))                              linear
           lr                                                            constant

Adam: Kingma & Ba 2015 (arXiv 1412.6980); decoupled weight decay: Loshchilov & Hutter 2019 (arXiv 1711.05101), cosine
decay by the same 2017 (arXiv 1608.03983).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from bridgejax._checks import check_count, check_nonnegative, check_number, check_positive
from bridgejax._summary import summary
from bridgejax._types import Params, PyTree

__all__ = ["adam", "in_float32", "learning_rate"]


def __dir__() -> list[str]:
    return __all__


SCHEDULES = ("cosine", "linear", "constant")


def learning_rate(
    lr: float, *, steps: int | None = None, warmup: int = 0, schedule: str = "cosine", final: float = 0.0
) -> optax.Schedule:
    """The learning rate lr_n as an optax schedule.

    Args:
        lr: peak learning rate, > 0.
        steps: total number of updates, warm-up included; needed by "cosine" and "linear", which hold ``final`` after.
        warmup: updates of linear warm-up, 0 <= warmup < steps.
        schedule: "cosine", "linear" or "constant".
        final: last learning rate as a share of ``lr``, in [0, 1].

    Raises:
        ValueError: a number out of its range, or an unknown schedule.
    """
    check_number(lr=lr)
    check_positive(lr=lr)
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {SCHEDULES}, got {schedule!r}")
    if schedule != "constant" and steps is None:
        raise ValueError(f"steps is needed by the {schedule} schedule; pass the number of updates, or 'constant'")
    if steps is not None:
        check_count("steps", steps)
    if check_count("warmup", warmup, 0) and (steps is not None and warmup >= steps):
        raise ValueError(f"warmup must be at least 0 and below steps={steps}, got {warmup}")
    check_number(final=final)
    if not 0.0 <= final <= 1.0:
        raise ValueError(f"final must be within [0, 1], got {final}")
    if schedule == "cosine" and steps is not None:
        after = optax.cosine_decay_schedule(lr, steps - warmup, alpha=final)
    elif schedule == "linear" and steps is not None:
        after = optax.linear_schedule(lr, lr * final, steps - warmup)
    else:
        after = optax.constant_schedule(lr)
    if warmup == 0:
        return after
    # Starts at lr / (warmup + 1), not at 0: no update is wasted.
    return optax.join_schedules([optax.linear_schedule(lr / (warmup + 1), lr, warmup), after], [warmup])


def adam(
    lr: float = 1e-3,
    *,
    steps: int | None = None,
    warmup: int = 0,
    schedule: str = "cosine",
    clip: float | None = 1.0,
    weight_decay: float = 0.0,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    final: float = 0.0,
) -> optax.GradientTransformation:
    """Clip, then Adam (AdamW for ``weight_decay`` > 0) with a warmed-up, decaying learning rate.

    Args:
        lr: peak learning rate.
        steps: total number of updates; see ``learning_rate``.
        warmup: updates of linear warm-up.
        schedule: "cosine", "linear" or "constant".
        clip: largest global norm of the gradient; None: no clipping.
        weight_decay: decoupled, >= 0, per unit of learning rate.
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: added to the root of the second moment.
        final: last learning rate as a share of ``lr``.

    Raises:
        ValueError: a number out of its range, or an unknown schedule.
    """
    if clip is not None:
        check_number(clip=clip)
        check_positive(clip=clip)
    check_number(weight_decay=weight_decay, b1=b1, b2=b2, eps=eps)
    check_nonnegative(weight_decay=weight_decay, eps=eps)
    if not (0.0 <= b1 < 1.0 and 0.0 <= b2 < 1.0):
        raise ValueError(f"b1 and b2 must be within [0, 1), got {b1} and {b2}")
    rate = learning_rate(lr, steps=steps, warmup=warmup, schedule=schedule, final=final)
    if weight_decay > 0:
        core = optax.adamw(rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)
    else:
        core = optax.adam(rate, b1=b1, b2=b2, eps=eps)
    return core if clip is None else optax.chain(optax.clip_by_global_norm(clip), core)


# narrow parameters ----------------------------------------------------------------------------------------------------


class Master(NamedTuple):
    """State of ``in_float32`` for narrow parameters: the optimizer's own, and the parameters as they really are."""

    inner: PyTree
    params: Params

    __repr__ = summary


def _narrow(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype.itemsize < 4


def _widened(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if _narrow(leaf) else leaf, tree)


def in_float32(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """``optimizer`` with all it remembers in float32 at least, and a float32 copy of bfloat16 and float16 parameters.

    In bfloat16 0.999 is 1, so a second moment never forgets, and p + u is p where u < |p| / 512; in float16 Adam's
    1e-8 is 0, and a zero gradient makes 0 / 0. What is trained is the copy; the parameters are its rounding. Where no
    parameter is narrow, the state is the optimizer's own (Micikevicius et al. 2018, arXiv 1710.03740).
    """
    if not isinstance(optimizer, optax.GradientTransformation):
        raise ValueError(f"optimizer must be an optax GradientTransformation, got {type(optimizer).__name__}")
    optimizer = optax.with_extra_args_support(optimizer)

    def init(params: Params) -> PyTree:
        if not any(map(_narrow, jax.tree.leaves(params))):
            return optimizer.init(params)
        wide = _widened(params)
        return Master(optimizer.init(wide), wide)

    def update(updates: PyTree, state: PyTree, params: Params = None, **extra_args: PyTree) -> tuple[PyTree, PyTree]:
        if not isinstance(state, Master):
            return optimizer.update(updates, state, params, **extra_args)
        steps, inner = optimizer.update(_widened(updates), state.inner, state.params, **extra_args)
        new = optax.apply_updates(state.params, steps)
        back = jax.tree.map(lambda p, old: p - old.astype(p.dtype), new, params)
        return back, Master(inner, new)

    return optax.GradientTransformationExtraArgs(init, update)
