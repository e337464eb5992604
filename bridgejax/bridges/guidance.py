"""Guidance: bend what a model predicts.

    classifier-free   D_w(t, x, c) = D(t, x, null) + w (D(t, x, c) - D(t, x, null))

(Ho & Salimans 2022, arXiv 2207.12598.)

w = 1 is the conditional model, w = 0 the unconditional one, w > 1 overshoots. Linear in the prediction, so it may be
applied to a denoiser, a score or a velocity alike. The guided field is in general no diffusion's score: it sharpens,
it does not sample p(x | c)^w.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from jax.tree_util import Partial

from bridgejax.processes.numerics import axpy
from bridgejax.processes.sde import check_callable


def _classifier_free(f: Any, scale: Any, null: Any, t: Array, x: Any, args: Any) -> Any:
    if args is None:
        return f(t, x, None)
    null = jax.tree.map(lambda n, leaf: jax.numpy.asarray(n, leaf.dtype), null, args)
    return axpy((1.0 - scale, f(t, x, null)), (scale, f(t, x, args)))


def classifier_free(f: Callable[..., Any], scale: float, null: Any) -> Callable[..., Any]:
    """``f(t, x, args)`` (denoiser, score or velocity) guided by its own unconditional value.

    Args:
        f: conditional prediction trained with condition dropout.
        scale: w above.
        null: the condition that stands for none, shaped like ``args``.
    """
    return Partial(_classifier_free, check_callable(f, "f", "f(t, x, args)"), scale, null)
