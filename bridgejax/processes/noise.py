"""What a diffusion does to a vector: G w and Sigma v = G G^T v, for the three forms a diffusion may have.

scalar      the same for all of the state
diagonal    an array or pytree like the state
dense       a lineax operator, perhaps rectangular: w has the shape of its input, the noise
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import lineax
from jax import Array

from bridgejax._checks import check_spread, shapes
from bridgejax._numerics import linear_combination
from bridgejax._types import Args, DiffusionFn, NoiseFactor, State


def times_noise(g: NoiseFactor, w: State) -> State:
    """G w, shaped like the state; in the dtype of w."""
    if isinstance(g, lineax.AbstractLinearOperator):
        return g.mv(w)
    if jax.tree.structure(g) == jax.tree.structure(w):
        return jax.tree.map(lambda a, b: jnp.asarray(a * b, b.dtype), g, w)
    return linear_combination((g, w))


def covariance_times(g: NoiseFactor, v: State) -> State:
    """Sigma v, shaped like the state."""
    if isinstance(g, lineax.AbstractLinearOperator):
        return g.mv(g.T.mv(v))
    if jax.tree.structure(g) == jax.tree.structure(v):
        return jax.tree.map(lambda a, b: a**2 * b, g, v)
    return jax.tree.map(lambda leaf: g**2 * leaf, v)


def constant(g: NoiseFactor, t: Array, x: State, args: Args) -> NoiseFactor:
    """The diffusion g whatever the state, as ``Partial(constant, g)``."""
    return jnp.asarray(g)


def check_diffusion(g: NoiseFactor, x: State) -> None:
    """Raise a ``ValueError`` unless ``g``, the diffusion at x, is a number, shaped like x or an operator onto it."""
    if isinstance(g, lineax.AbstractLinearOperator):
        if shapes(g.out_structure()) != shapes(x):
            raise ValueError(
                f"diffusion must be an operator onto x, {shapes(x)}, got one onto {shapes(g.out_structure())}"
            )
    elif not (jax.tree.structure(g) == jax.tree.structure(0.0) and jnp.shape(g) == ()):
        check_spread(g, x, "diffusion")


def check_additive(diffusion: DiffusionFn, t: Array, x: State, args: Args) -> None:
    """Raise a ``ValueError`` if the diffusion reads x, which noise="additive" says it does not.

    ``vmap`` knows: what it returns for a batch of x alone is a batch too only where x was read. It is traced, not run,
    and errs on one side: ``0 * x`` reads x as well.
    """
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *jnp.shape(leaf)), jnp.result_type(leaf)), x)

    def numbers(x: State) -> list[Any]:  # an operator holds functions too
        return [leaf for leaf in jax.tree.leaves(diffusion(t, x, args)) if isinstance(leaf, Array | float | int)]

    try:
        jax.eval_shape(jax.vmap(numbers, out_axes=None), one)
    except ValueError as error:
        if "out_axes" in str(error):
            raise ValueError(
                "the diffusion depends on x, and its SDE says noise='additive': make it with SDE(..., noise='state'), "
                "or take only the shape of x, as jnp.ones_like(x) does and 0 * x does not"
            ) from None
