"""One key per sample, one stream per role.

    stream(key, role)       fold_in(key, c),             c = 2^31 + 2^16 r for the r-th role of the table below
    streams(key, role, n)   fold_in(key, c + i),         i < n <= 2^16
    keys(key, n)            fold_in(stream(key, "samples"), i),  i the global index of the sample

``jax.random.split(key, n)`` is ``fold_in(key, i)``, i < n, and so is what ``nnx.Rngs(seed)`` hands out: whatever draws
by bare indices shares its keys with whatever else does. Here a function that is given a key first folds in the constant
of its role, so that one seed may serve them all, and the caller's own ``split`` beside them. What draws within a
role (a step, a block of noise, a sample) then counts by bare indices, on a key that nothing else uses.

Sample i of a run depends on its key alone, whatever batch or device it is computed in. Only threefry keys are accepted:
under ``vmap`` the rbg generators draw from one key for the whole batch, so a sample would depend on its neighbours.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._checks import check_count, describe, is_real

_FIRST, _WIDTH = 1 << 31, 1 << 16  # beyond the indices of any split; room for the parts of a role

# Who draws, and what. The order decides every number that is drawn from a seed: append, never insert.
ROLES = {
    role: _FIRST + _WIDTH * index
    for index, role in enumerate(
        (
            "samples",  # keys: one per sample
            "process",  # sample, weighted_samples: start, steps, decoding
            "noise",  # simulate: Brownian increments
            "levy",  # simulate: their space-time Levy areas
            "terminal",  # simulate: the last interval
            "steps",  # kernels.walk
            "fit",  # fit: state, updates, rounds, order of the data
            "init",  # Method.init
            "step",  # Method.step
            "refresh",  # Method.refresh
            "loss",  # a loss: time, noise, dropout, probes
            "log_prob",  # log_prob: probes, and the times of a bound
            "mixture",  # GaussianMixture.sample
            "target",  # Target.sample
            "velocity",  # targets.with_velocity
            "plan",  # EntropicPair.sample
            "problem",  # oracles made at random
            "smc",
            "feynman_kac",
            "superpose",
            "annealed",
            "tune",
            "pcn",
            "resampling",  # weights.systematic
            "evaluation",  # evaluate_sampler
            "collapse",  # estimate_collapse_time
            "explanation",  # explained_score
            "adversary",  # truncated: noise of the data, noise that is generated from, dropout
            "copilot",  # applications.autonomy: an episode, noise of an action, its reversal
            "evolution",  # applications.evolution: training populations, candidates
            "speech",  # applications.speech: first parameters, mixtures
        )
    )
}


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


def _fold(key: Array, data: int | Array) -> Array:
    """``fold_in``, of each key of an array."""
    fold = jax.random.fold_in
    for _ in range(key.ndim):
        fold = jax.vmap(fold, (0, None))
    return fold(key, data)


def stream(key: Array, role: str) -> Array:
    """The key of a role, for one key or for each of an array.

    Args:
        key: what the caller was given, used for nothing else but streams.
        role: one of ``ROLES``.
    """
    return _fold(check_key(key), ROLES[role])


def streams(key: Array, role: str, num: int) -> Array:
    """``num`` keys of a role, on a new last axis; the first is ``stream(key, role)``.

    Args:
        key: what the caller was given, one key or an array.
        role: one of ``ROLES``.
        num: how many, at most 2^16; for more, or for indices that are traced, fold them into the ``stream``.
    """
    if num > _WIDTH:
        raise ValueError(f"num must be at most {_WIDTH}, the parts of a role, got {num}; split the stream")
    constants = jnp.uint32(ROLES[role]) + jnp.arange(num, dtype=jnp.uint32)
    return jax.vmap(_fold, (None, 0), -1)(check_key(key), constants)


def keys(key: Array, num: int, start: int = 0) -> Array:
    """``num`` keys, one per sample: ``fold_in(stream(key, "samples"), i)`` for i = start, ..., start + num - 1.

    They are not those of ``jax.random.split(key, num)``, which you may use beside them.

    Args:
        key: one threefry key.
        num: how many (static).
        start: global index of the first sample, so that samples 0...9 and then 10...19 are the samples 0...19.

    Returns:
        A key array of shape ``(num,)``.

    Example:
        >>> import jax, bridgejax as bj
        >>> ten = bj.keys(jax.random.key(0), 10)
        >>> bool((bj.keys(jax.random.key(0), 4, start=6) == ten[6:]).all())
        True
    """
    num = check_count("num", num, 0)
    if not (is_real(start) and np.ndim(start) == 0 and jnp.issubdtype(jnp.result_type(start), jnp.integer)):
        raise ValueError(f"start must be an integer, got {describe(start)}")
    if isinstance(start, int | np.integer) and not 0 <= start <= 2**32 - num:
        raise ValueError(f"start must lie in [0, 2^32 - num], got {start}")
    indices = jnp.asarray(start, jnp.uint32) + jnp.arange(num, dtype=jnp.uint32)
    return jax.vmap(jax.random.fold_in, (None, 0))(stream(check_one_key(key), "samples"), indices)
