"""Discrete diffusion as a baseline: D3PM with uniform and absorbing transitions.

    q(x_t | x_(t-1)) = (1 - b_t) [x_t = x_(t-1)] + b_t pi(x_t),    a_t = prod (1 - b_s),    t = 1..T, every coordinate
    p(x_(t-1) | x_t) ~ q(x_t | x_(t-1)) sum_k q(x_(t-1) | x_0 = k) p_k(x_t, t)      the network gives the logits of p_k
    loss  KL(q(x_(t-1) | x_t, x_0) || p(x_(t-1) | x_t)) - 0.001 log p_(x_0)(x_t, t)

pi is uniform over the K categories, or all mass on one more category, the mask (Austin, Johnson, Ho, Tarlow & van den
Berg 2021, arXiv 2107.03006; a_t = cos^2 for uniform, linear for absorbing, the hybrid loss of their section 3.4). Not a
part of the library, which serves discrete data by bridges; here so that those have something to be measured against.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

KINDS = ("uniform", "absorbing")


def kept(kind: str, steps: int) -> Array:
    """a_0 = 1, ..., a_T = 0: the share of coordinates that have not jumped."""
    s = jnp.arange(steps + 1) / steps
    if kind == "absorbing":
        return 1.0 - s
    return jnp.clip(jnp.cos((s + 0.008) / 1.008 * jnp.pi / 2) / jnp.cos(0.008 / 1.008 * jnp.pi / 2), 0.0, 1.0) ** 2


def stationary(kind: str, k: int) -> Array:
    """pi over the categories, the mask last where there is one."""
    return jnp.full(k, 1.0 / k) if kind == "uniform" else jnp.zeros(k + 1).at[k].set(1.0)


def step_back(kind: str, a: Array, t: Array, x: Array, p: Array) -> Array:
    """log p(x_(t-1) | x_t = x) over the categories, (..., K or K + 1), for the law p (..., K) of x_0."""
    k = p.shape[-1]
    pi = stationary(kind, k)
    p = jnp.pad(p, [(0, 0)] * (p.ndim - 1) + [(0, len(pi) - k)])
    before = a[t - 1] * p + (1.0 - a[t - 1]) * pi
    stay = a[t] / a[t - 1]
    jump = stay * jax.nn.one_hot(x, len(pi)) + (1.0 - stay) * pi[x][..., None]
    return jax.nn.log_softmax(jnp.log(jnp.maximum(before * jump, 1e-30)), axis=-1)


def train(
    kind: str,
    apply: Any,
    params: Any,
    data: np.ndarray,
    k: int,
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    updates: int,
    batch: int,
    ema: float = 0.999,
    seed: int = 0,
) -> Any:
    """Averaged parameters of ``apply(params, t / T, x) -> logits (..., K)`` on category indices ``data`` (n, ...)."""
    a, rows = kept(kind, steps), jnp.asarray(data)
    pi = stationary(kind, k)

    def one(params: Any, key: Array, x0: Array) -> Array:
        when, jump, new = jax.random.split(key, 3)
        t = jax.random.randint(when, (), 1, steps + 1)
        noise = jax.random.categorical(new, jnp.log(pi), shape=x0.shape)
        x = jnp.where(jax.random.uniform(jump, x0.shape) < a[t], x0, noise)
        logits = apply(params, t / steps, x)
        truth = step_back(kind, a, t, x, jax.nn.one_hot(x0, k))
        guess = step_back(kind, a, t, x, jax.nn.softmax(logits, axis=-1))
        gap = jnp.sum(jnp.exp(truth) * (truth - guess), axis=-1)
        cross = -jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), x0[..., None], axis=-1)[..., 0]
        return jnp.mean(gap + 1e-3 * cross)

    @jax.jit
    def update(carry: Any, key: Array) -> tuple[Any, Array]:
        params, average, state = carry
        pick, draw = jax.random.split(key)
        x0 = rows[jax.random.randint(pick, (batch,), 0, len(rows))]
        keys = jax.random.split(draw, batch)
        value, grads = jax.value_and_grad(lambda p: jnp.mean(jax.vmap(one, (None, 0, 0))(p, keys, x0)))(params)
        moves, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, moves)
        average = jax.tree.map(lambda m, p: ema * m + (1 - ema) * p, average, params)
        return (params, average, state), value

    carry = (params, params, optimizer.init(params))
    for key in jax.random.split(jax.random.key(seed), updates):
        carry, _ = update(carry, key)
    return carry[1]


@partial(jax.jit, static_argnames=("kind", "apply", "shape", "k", "steps"))
def sample(kind: str, apply: Any, params: Any, keys: Array, shape: tuple[int, ...], k: int, steps: int) -> Array:
    """Category indices (len(keys), *shape); the last step is drawn from the network's law of x_0."""
    a, pi = kept(kind, steps), stationary(kind, k)

    def one(key: Array) -> Array:
        first, rest = jax.random.split(key)

        def back(x: Array, step: tuple[Array, Array]) -> tuple[Array, None]:
            t, key = step
            p = jax.nn.softmax(apply(params, t / steps, x), axis=-1)
            return jax.random.categorical(key, step_back(kind, a, t, x, p)), None

        x = jax.random.categorical(first, jnp.log(pi), shape=shape)
        return jax.lax.scan(back, x, (jnp.arange(steps, 0, -1), jax.random.split(rest, steps)))[0]

    return jax.vmap(one)(keys)
