"""The divergence of a field at one state, and what implicit score matching makes of it.

    div v = trace of dv/dx          exact: one Jacobian-vector product per coordinate;  z . (dv/dx) z: one, signs z
    energy(s) = |s|^2 / 2 + div s,  E_p energy(s) = E_p |s - grad log p|^2 / 2 - E_p |grad log p|^2 / 2

(Hyvarinen 2005.) The energy is the loss of ``objectives.implicit`` and, times g^2, the running cost of a diffusion's
path bound, ``log_prob(kind="bound")``.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from bridgejax._numerics import cast_like
from bridgejax._types import State
from bridgejax.geometry.manifolds import Manifold

DIVERGENCES = ("exact", "hutchinson", "sliced")


def divergence(
    velocity: Callable[[State], State], x: State, probe: State = None, manifold: Manifold | None = None
) -> tuple[State, Array]:
    """``(v(x), div v(x))``: exact, or Hutchinson's estimate with ``probe``; on a manifold for a tangent field v."""
    if probe is not None:
        probe = cast_like(probe, x)
        probe = probe if manifold is None else manifold.to_tangent(x, probe)
        value, tangent = jax.jvp(velocity, (x,), (probe,))
        products = jax.tree.map(lambda a, b: jnp.sum(a * b), probe, tangent)
        return value, sum(jax.tree.leaves(products), start=jnp.zeros(()))
    flat, unravel = ravel_pytree(x)

    def column(direction: Array) -> Array:
        along = unravel(direction) if manifold is None else manifold.to_tangent(x, unravel(direction))
        moved = jax.jvp(velocity, (x,), (along,))[1]
        return ravel_pytree(moved)[0] @ ravel_pytree(along)[0]

    return velocity(x), jnp.sum(jax.vmap(column)(jnp.eye(flat.size, dtype=flat.dtype)))


def _signs(key: Array, probes: int, size: int) -> Array:
    return jax.random.rademacher(key, (probes, size), jnp.float32)


def energy(
    score: Callable[[State], State], x: State, divergence: str, key: Array | None = None, probes: int = 1
) -> Array:
    """|s(x)|^2 / 2 + div s(x) of one sample, exactly or without bias.

    Args:
        score: ``score(x)``, shaped like x.
        x: an array or a pytree of them, taken to float32 at least.
        divergence: "exact", "hutchinson" or "sliced", as in the head of ``objectives._implicit``.
        key: random key of the probes; "exact" takes none.
        probes: directions averaged, at least 1.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: a score that is not shaped like x.
    """
    x = jax.tree.map(lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)), x)
    flat, unravel = ravel_pytree(x)

    def along(v: Array) -> Array:
        out = score(unravel(v))
        found, wanted = (jax.tree.map(jnp.shape, tree) for tree in (out, x))
        if found != wanted:
            raise ValueError(f"apply returned the shapes {found}; a score has those of its sample, {wanted}")
        return ravel_pytree(out)[0].astype(flat.dtype)

    value, derivative = jax.linearize(along, flat)
    if divergence == "exact":
        trace = jnp.trace(jax.vmap(derivative)(jnp.eye(flat.size, dtype=flat.dtype)))
        return 0.5 * jnp.vdot(value, value) + trace
    assert key is not None
    v = _signs(key, probes, flat.size).astype(flat.dtype)
    trace = jnp.mean(jnp.sum(v * jax.vmap(derivative)(v), axis=-1))
    square = jnp.vdot(value, value) if divergence == "hutchinson" else jnp.mean((v @ value) ** 2)
    return 0.5 * square + trace
