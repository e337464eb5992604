"""Superposition of diffusion models by tracking their densities along the path (SuperDiff).

    dx = (-f x + g^2 sum_i k_i s_i) d tau + g dW,     sum_i k_i = 1, on the generative clock tau,
    d log q_i = <dx, s_i> + [d f + <f x - (g^2/2) s_i, s_i>] d tau

The second line is Ito's formula with the Fokker-Planck equation of q_i put in: no divergence of a network is taken. It
holds for any drift, but only with noise of amplitude exactly g.

    "or"     k = softmax(log q + bias):  the reverse SDE of the mixture, as far as the tracked log q are right
    "and"    k such that all d log q_i are equal in every step, noise included: a linear system; where two scores agree
             along the step there is nothing to choose, and k stays as near to 1/n as the equations allow

"and" follows paths equally likely under every model. It is a heuristic, not the product: ``feynman_kac`` samples that.
(Skreta, Atanackovic, Bose, Tong & Neklyudov 2025, The superposition of diffusion models.)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from bridgejax._checks import as_real, check_finite
from bridgejax._numerics import as_wide, linear_combination, normal_like
from bridgejax._summary import summary
from bridgejax._types import Args, Numbers, PyTree
from bridgejax.bridges._density import Density
from bridgejax.bridges.compose import check_parts
from bridgejax.processes._keys import streams
from bridgejax.processes._schedule import gaussian_log_prob
from bridgejax.solve._accepted import check_times
from bridgejax.solve._batch import check_batch, map_samples

MODES = ("or", "and")


class Superposed(NamedTuple):
    """Samples of a superposition.

    Attributes:
        x: last states, (n, *shape).
        log_q: tracked log density of every model at x, (n, models).
    """

    x: Array
    log_q: Array

    __repr__ = summary


def _balanced(scores: Array, noise: Array, scale: Array) -> Array:
    """k nearest to 1/n with sum 1 and equal d log q_i: G k = c for the differences to the first model."""
    n = scores.shape[0]
    flat = scores.reshape(n, -1)
    gaps = flat[1:] - flat[:1]
    even = jnp.full(n, 1.0 / n)
    # g^2 h sum_j k_j <s_j, s_i - s_1> + g <dW, s_i - s_1> - g^2 h (|s_i|^2 - |s_1|^2) / 2 = 0, over g^2 h
    right = 0.5 * (jnp.sum(flat[1:] ** 2, axis=1) - jnp.sum(flat[0] ** 2)) - gaps @ noise.ravel() / scale
    matrix = jnp.concatenate([gaps @ flat.T, jnp.ones((1, n))])
    residual = jnp.concatenate([right, jnp.ones(1)]) - matrix @ even
    return even + jnp.linalg.pinv(matrix, rtol=1e-5) @ residual


@partial(jax.jit, static_argnames=("mode", "num", "micro_batch"))
def _superposed(
    parts: tuple[Density, ...], keys: Array, ts: Array, args: Args, bias: Array, *,
    mode: str, num: int, micro_batch: int | None,
) -> Superposed:  # fmt: skip
    schedule, shape = parts[0].schedule, parts[0].shape
    T = schedule.T

    def one(shared: PyTree, sample: PyTree) -> tuple[Array, Array]:
        (parts, bias), (key, args) = shared, sample
        start_key, run_key = streams(key, "superpose", 2)

        def turn(carry: PyTree, inputs: PyTree) -> PyTree:
            (x, log_q), (k, s, r) = carry, inputs
            t, u = T - s, T - r
            a, v = schedule.scale(u, t), schedule.variance(u, t)
            rate, noise_sq = -jnp.log(a), v / a  # int of -f and of g^2 over the step
            scores = jnp.stack([q.score(t, x, args) for q in parts])
            z = normal_like(jax.random.fold_in(run_key, k), x)
            scale = jnp.sqrt(noise_sq)
            shares = jax.nn.softmax(log_q + bias) if mode == "or" else _balanced(scores, z, scale)
            push = jnp.tensordot(shares, scores, 1)
            # <dx, s_i> + <f x, s_i>: the linear drift cancels
            move = noise_sq * push + scale * z
            dots = jnp.sum((scores * move).reshape(len(parts), -1), axis=1)
            squares = jnp.sum((scores**2).reshape(len(parts), -1), axis=1)
            log_q = log_q + dots - 0.5 * noise_sq * squares - x.size * rate
            return (linear_combination((1.0 / a, x), (v / a, push), (jnp.sqrt(v), z)), log_q), None

        z = normal_like(start_key, jax.ShapeDtypeStruct(shape, ts.dtype))
        x = linear_combination((schedule.sigma(T - ts[0]), z))
        log_q = jnp.full(len(parts), gaussian_log_prob(x, jnp.zeros(shape), schedule.variance(0.0, T - ts[0])))
        rows = (jnp.arange(ts.shape[0] - 1, dtype=jnp.uint32), ts[:-1], ts[1:])
        return jax.lax.scan(turn, (x, log_q), rows)[0]

    return Superposed(*map_samples(one, (parts, bias), (keys, args), num, micro_batch=micro_batch))


def superpose(
    parts: Sequence[Density],
    keys: Array,
    ts: Numbers,
    args: Args = None,
    *,
    mode: str,
    bias: Numbers | None = None,
    micro_batch: int | None = None,
) -> Superposed:
    """Samples of a superposition of diffusion models, which needs their scores alone.

    Args:
        parts: a sequence of diffused densities of one schedule and shape, see ``compose.model`` and ``density``.
        keys: array of keys, one per sample; a sample depends on its key alone.
        ts: grid on the generative clock, from noise to at most T; steps are Euler steps.
        args: conditions with a leading axis, or None.
        mode: "or" (mixture) or "and" (equal densities).
        bias: of mode "or", added to the log densities: log weights of the mixture; default equal.
        micro_batch: samples per program.

    Returns:
        Superposed samples and their tracked log densities.

    Raises:
        ValueError: an unknown mode, parts that do not fit each other, or a schedule without signal at T.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> schedule = bj.schedules.vp()
        >>> ts = bj.grids.log_snr(50, schedule)
        >>> def model(mean, variance):                                         # a trained one in practice, here exact
        ...     data = bj.mixtures.gaussian_mixture([[mean]], variance)
        ...     sde = bj.reverse(schedule, denoiser=bj.mixtures.mixture_denoiser(data, schedule))
        ...     return bj.compose.model(bj.Process(bj.starts.normal((1,)), sde, ts))
        >>> parts = [model(-2.0, 0.1), model(2.0, 0.1)]
        >>> found = bj.superpose(parts, bj.keys(jax.random.key(0), 64), ts[:-1], mode="or")   # the mixture of both
        >>> found.x.shape, found.log_q.shape
        ((64, 1), (64, 2))
    """
    if not isinstance(parts, list | tuple):
        raise ValueError(f"parts must be a list or tuple of Density, got {type(parts).__name__}")
    parts = check_parts(tuple(parts))
    if not all(f.diffused for q in parts for f in q.factors()[0]):
        raise ValueError("parts must be diffused densities, whose change along a path is known; a tilted one is none")
    if not isinstance(mode, str) or mode not in MODES:
        raise ValueError(f"mode must be one of {MODES}, got {mode!r}")
    if parts[0].schedule.zero_terminal_snr:
        raise ValueError("parts have a schedule without signal at T, so a step has no finite scale; use vp")
    bias = jnp.zeros(len(parts)) if bias is None else as_wide(as_real(bias, "bias"))
    if bias.shape != (len(parts),):
        raise ValueError(f"bias must have shape ({len(parts)},), one number for each part, got {bias.shape}")
    check_finite(bias=bias)
    times = check_times(parts[0].schedule.T, ts)[0]
    keys, num = check_batch(keys, (args,), ("args",), (0,), micro_batch, None)
    args = jax.tree.map(jnp.asarray, args)
    return _superposed(parts, keys, times, args, bias, mode=mode, num=num, micro_batch=micro_batch)
