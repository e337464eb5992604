"""Conditioning on known coordinates: their clean values replace them in the input, and the output is masked there.

    hold F      (t, x, args) -> (1 - m) F(t, m v + (1 - m) x)         m the mask, v = value(args)

In training the output is constant where m = 1, so the loss has no gradient there (its value keeps a constant), and what
is learnt elsewhere is the conditional mean given the free coordinates of x_t and all of v:

    argmin_F E |(1 - m) (q - F)|^2  =  E[q | (1 - m) x_t, v],

so that ``guidance.hold`` samples the law of the free coordinates given the held ones, with no approximation but the
network's and the solver's. The start and the goal of a plan (Janner et al. 2022, arXiv 2205.09991), known pixels of an
image, known columns of a table: any Method takes the pair that this returns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from bridgejax._summary import summary
from bridgejax._types import Args, Mask, Params, PyTree, State
from bridgejax.networks.pure import Apply, functional


@dataclass(frozen=True)
class HoldApply:
    """``apply(params, t, x, args)`` of a network with held coordinates; equal for equal networks, masks, functions."""

    network: Apply
    value: Callable[[Args], State]
    condition: Callable[[Args], Args] | None
    identity: Any  # of the mask, which is compared by value
    mask: Mask = field(compare=False, repr=False)

    __repr__ = summary

    def __call__(self, params: Params, t: Array, x: State, args: Args = None) -> State:
        """(1 - m) F(t, m v + (1 - m) x), shaped like x."""
        value = self.value(args)
        for name, tree in (("mask", self.mask), ("what value(args) returns", value)):
            if jax.tree.structure(tree) != jax.tree.structure(x) or _shapes(tree) != _shapes(x):
                raise ValueError(f"{name} must be shaped like x, {_shapes(x)}, got {_shapes(tree)}")
        told = None if self.condition is None else self.condition(args)
        seen = jax.tree.map(lambda m, v, leaf: jnp.where(m, jnp.asarray(v, leaf.dtype), leaf), self.mask, value, x)
        out = self.network(params, t, seen, told)
        return jax.tree.map(lambda m, leaf: jnp.where(m, jnp.zeros_like(leaf), leaf), self.mask, out)


def hold(
    network: Any, mask: Mask, value: Callable[[Args], State], condition: Callable[[Args], Args] | None = None
) -> tuple[HoldApply, Params]:
    """A network that sees ``value(args)`` where ``mask`` is True, predicts 0 there, and is not trained there.

    Args:
        network: a flax.nnx module or ``(apply, params)``.
        mask: booleans shaped like one sample x, True where coordinates are known. Not traced.
        value: ``value(args)``, shaped like x: what is known, read off the sample's own condition. A module-level
            function; only its coordinates under the mask are used.
        condition: ``condition(args)``, what the network itself is told; None: nothing, its args are None.

    Returns:
        ``(apply, params)``, for any Method whose network is given ``args`` (``i2sb(..., conditional=True)``, batches
        with ``args`` for ``diffusion``). Sample from ``guidance.hold(process.dynamics, mask, value)``.

    Raises:
        ValueError: a mask that is not boolean, value or condition no functions; at trace time another shape.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> network = lambda params, t, x, args: x, None
        >>> apply, params = bj.networks.hold(network, jnp.array([True, False]), lambda args: args)
        >>> print(apply(params, 0.5, jnp.ones(2), jnp.array([7.0, 7.0])))            # nothing is said of what is known
        [0. 1.]
    """
    apply, params = functional(network)
    leaves, treedef = jax.tree.flatten(mask)
    if not leaves or any(isinstance(m, Tracer) or np.asarray(m).dtype != bool for m in leaves):
        raise ValueError("mask must hold concrete booleans shaped like x, True where coordinates are known")
    for name, function in (("value", value), ("condition", condition)):
        if not callable(function) and not (name == "condition" and function is None):
            raise ValueError(f"{name} must be a function {name}(args), got {type(function).__name__}")
    mask = jax.tree.map(np.array, mask)
    identity = (treedef, tuple((np.shape(m), np.asarray(m).tobytes()) for m in leaves))
    return HoldApply(apply, value, condition, identity, mask), params


def _shapes(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.shape, tree)
