"""One key per sample: sample i of a run uses fold_in(key, i), whatever batch or device it is computed in.

Only threefry keys are accepted. Under ``vmap`` the rbg generators draw from one key for the whole batch, so a
sample would depend on its neighbours.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax.processes.checks import check_count, describe, is_real


def check_key(key: Array, name: str = "key") -> Array:
    """Return ``key`` as a typed threefry key (array), or raise.

    Raw ``uint32`` keys from ``jax.random.PRNGKey`` are wrapped.

    Raises:
        ValueError: when ``key`` is no key, or not threefry.
    """
    dtype = getattr(key, "dtype", None)
    if dtype is None:
        raise ValueError(f"{name} must be a JAX random key, got {type(key).__name__}; pass jax.random.key(seed)")
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        if "threefry" not in str(jax.random.key_impl(key)):
            raise ValueError(
                f"{name} uses the generator {jax.random.key_impl(key)}, but one key per sample needs threefry "
                "(vmap over other generators mixes samples); pass jax.random.key(seed, impl='threefry2x32')"
            )
        return key
    if dtype == jnp.uint32 and key.ndim >= 1 and key.shape[-1] == 2:
        return jax.random.wrap_key_data(key, impl="threefry2x32")
    raise ValueError(
        f"{name} must be a JAX random key, got an array of {dtype} and shape {jnp.shape(key)}; "
        "pass jax.random.key(seed)"
    )


def check_one_key(key: Array, name: str = "key") -> Array:
    """``check_key`` of a single key.

    Raises:
        ValueError: also for an array of keys.
    """
    key = check_key(key, name)
    if key.ndim != 0:
        raise ValueError(f"{name} must be one key, got an array of shape {key.shape}; pass jax.random.key(seed)")
    return key


def keys(key: Array, num: int, start: int = 0) -> Array:
    """``num`` keys, one per sample: ``fold_in(key, i)`` for i = start, ..., start + num - 1.

    Args:
        key: one threefry key.
        num: how many (static).
        start: global index of the first sample, so that samples 0...9 and then 10...19 are the samples 0...19.

    Returns:
        A key array of shape ``(num,)``.
    """
    num = check_count("num", num, 0)
    if not (is_real(start) and np.ndim(start) == 0 and jnp.issubdtype(jnp.result_type(start), jnp.integer)):
        raise ValueError(f"start must be an integer, got {describe(start)}")
    if isinstance(start, int | np.integer) and not 0 <= start <= 2**32 - num:
        raise ValueError(f"start must lie in [0, 2^32 - num], got {start}")
    indices = jnp.asarray(start, jnp.uint32) + jnp.arange(num, dtype=jnp.uint32)
    return jax.vmap(jax.random.fold_in, (None, 0))(check_one_key(key), indices)
