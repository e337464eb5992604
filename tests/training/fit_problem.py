"""A small regression with per-sample noise, shared by the tests of fit and by the processes that they kill."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from bridgejax.training import adam, gradient_method

B, D, N = 32, 3, 200


def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, D)).astype(np.float32)
    return {"x": x, "y": (x @ np.array([1.0, -2.0, 0.5]) + 3).astype(np.float32)}


def loss(params, keys, batch):
    noise = jax.vmap(jax.random.normal)(keys)
    hidden = jnp.tanh(batch["x"] @ params["w1"] + params["b1"])
    error = hidden @ params["w2"] - batch["y"] - 0.1 * noise
    return jnp.mean(error**2), {"mae": jnp.mean(jnp.abs(error))}


def parameters():
    k1, k2 = jax.random.split(jax.random.key(7))
    return {
        "w1": jax.random.normal(k1, (D, 8)) / D**0.5,
        "b1": jnp.zeros(8),
        "w2": jax.random.normal(k2, (8,)) / 8**0.5,
    }


@functools.cache  # the same functions: compiled once for all tests
def method(accumulate=1, loss=loss, ema=0.99):
    return gradient_method(loss, lambda p: p, adam(0.01, schedule="constant"), ema, accumulate, params=parameters())
