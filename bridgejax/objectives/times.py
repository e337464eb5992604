"""How training times are drawn: a TimeSampler maps one key per sample to one time per sample.

    uniform            t ~ U[low, high]
    low_discrepancy    t_i = low + (high - low) ((u + i/B) mod 1)   one u for the batch        Kingma et al. 2021
    logit_normal       t = high sigmoid(m + s z)                    mass in the middle         Esser et al. 2024
    log_normal         t = exp(m + s z)                             EDM, where t is sigma      Karras et al. 2022

Each keeps its density positive on the whole interval, so the minimiser is the same; only the variance of the gradient
and the weight on each noise level change (and can be undone by the loss's own weighting).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

TimeSampler = Callable[[Array], Array]


def _check_range(low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f"low must be below high, got low = {low}, high = {high}")


def _uniform(low: Any, high: Any, keys: Array) -> Array:
    return jax.vmap(lambda key: jax.random.uniform(key, minval=low, maxval=high))(keys)


def uniform(low: float = 1e-3, high: float = 1.0) -> TimeSampler:
    """t uniform on [low, high], independently for every sample."""
    _check_range(low, high)
    return Partial(_uniform, low, high)


def _low_discrepancy(low: Any, high: Any, keys: Array) -> Array:
    shift = jax.random.uniform(keys[0])
    return low + (high - low) * jnp.mod(shift + jnp.arange(keys.shape[0]) / keys.shape[0], 1.0)


def low_discrepancy(low: float = 1e-3, high: float = 1.0) -> TimeSampler:
    """One uniform shift of an even grid over the batch: every t is uniform, the batch mean varies far less.

    The grid belongs to the batch that one program sees: with accumulated micro-batches each has its own.
    Kingma, Salimans, Poole & Ho 2021, arXiv 2107.00630.
    """
    _check_range(low, high)
    return Partial(_low_discrepancy, low, high)


def _logit_normal(mean: Any, std: Any, low: Any, high: Any, keys: Array) -> Array:
    z = jax.vmap(jax.random.normal)(keys)
    return jnp.clip(high * jax.nn.sigmoid(mean + std * z), low, high)


def logit_normal(mean: float = 0.0, std: float = 1.0, low: float = 1e-3, high: float = 1.0) -> TimeSampler:
    """T sigmoid(mean + std z), clipped to [low, high]. Esser et al. 2024, arXiv 2403.03206."""
    _check_range(low, high)
    return Partial(_logit_normal, mean, std, low, high)


def _log_normal(mean: Any, std: Any, low: Any, high: Any, keys: Array) -> Array:
    z = jax.vmap(jax.random.normal)(keys)
    return jnp.clip(jnp.exp(mean + std * z), low, high)


def log_normal(mean: float = -1.2, std: float = 1.2, low: float = 2e-3, high: float = 80.0) -> TimeSampler:
    """EDM's noise levels, exp(mean + std z), clipped to [low, high]. Karras et al. 2022, arXiv 2206.00364."""
    _check_range(low, high)
    return Partial(_log_normal, mean, std, low, high)
