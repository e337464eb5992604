"""A lower bound of log p(x) of a reverse SDE, whatever its score: the action of the paths that noise x.

Put V = -log p_(T-r) for the marginals of the forward SDE dX = f dt + g dW. Its equation (``hjb_residual``) is the
Hamilton-Jacobi-Bellman equation of the least action E[int |u|^2 / 2 + div f dr - log p_data(Y_T)], whose optimum is
u = g grad log p. With any other u = g s, on forward paths (Huang, Lim & Courville 2021, arXiv 2106.02808; Song et al.
2021, arXiv 2101.09258; Premkumar 2023, arXiv 2310.04490)

    -log p(x) <= E[ int_0^T g^2 (|s|^2 / 2 + div s) - div f dt - log pi(X_T) | X_0 = x ],

an equality where s is the score of p; elsewhere the excess is E[int g^2 |s - grad log p|^2 / 2 dt], the divergence of
path laws. X_t is Gaussian given x, so every term is drawn at its own time without simulation.

Times. g^2 dt = -sigma^2 d lambda with lambda = log(alpha^2 / sigma^2). Each draw has one time in each of K cells of
equal mass of the density sigmoid(lambda / 2) on [lambda(T), lambda(t_min)], which falls as the integrand does at high
noise.

Control. For data N(0, I) all is known: s_0 = -x / v with v = alpha^2 + sigma^2, and the action is -log N(x; 0, I) with
no error. So what is drawn is the difference to it, which takes away the divergent ends and most of the noise:

    -log p(x) <= E[int sigma^2 (energy(s) - energy(s_0)) d lambda + log N(X_T; 0, v_T I) - log pi(X_T)] - log N(x; 0, I)

The last step. A denoiser near clean data, where s = (alpha D - x) / sigma^2 is a difference of near numbers, is not
asked: below t_min the model is the Gaussian step x_0 | x_t ~ N(D(t, x_t), sigma^2 / alpha^2 I), which adds exactly

    E[ sigma^2 energy(s) ] - d log alpha   at t_min,

so the bound stays one, of that model, for every t_min; as t_min goes to 0 it is that of the SDE (for the exact score
the two differ by terms of order sigma^4 at t_min).
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from bridgejax._checks import check_like
from bridgejax._numerics import as_wide, cast_like, normal_log_prob, safe_divide
from bridgejax._types import Args, State, Time
from bridgejax.processes._keys import streams
from bridgejax.processes._schedule import Schedule
from bridgejax.processes.sde import Process
from bridgejax.weigh._divergence import energy

CELLS = 16  # times of one draw


def _mass(log_snr: Array) -> Array:
    """int sigmoid(lambda / 2) d lambda up to here."""
    return 2.0 * jax.nn.softplus(0.5 * log_snr)


def _inverse_mass(mass: Array) -> Array:
    half = 0.5 * mass
    return 2.0 * (half + jnp.log(-jnp.expm1(-half)))


def _time_of(schedule: Schedule, log_snr: Array) -> Array:
    """The times at which the schedule has these log SNRs, by bisection."""
    at = jax.vmap(schedule.log_snr)

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        above = at(middle) > log_snr
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    start = jnp.zeros_like(log_snr), jnp.full_like(log_snr, schedule.T)
    low, high = jax.lax.fori_loop(0, 40, halve, start)
    return jax.lax.stop_gradient(0.5 * (low + high))


def _drawn_times(schedule: Schedule, t_min: Array, key: Array) -> tuple[Array, Array]:
    """One time in every cell, and what its term counts, 1 / (K density)."""
    low, high = _mass(schedule.log_snr(schedule.T)), _mass(schedule.log_snr(t_min))
    share = (jnp.arange(CELLS) + jax.random.uniform(key, (CELLS,), low.dtype)) / CELLS
    log_snr = _inverse_mass(low + share * (high - low))
    return _time_of(schedule, log_snr), (high - low) / CELLS / jax.nn.sigmoid(0.5 * log_snr)


def _one(process: Process, x: State, args: Args, t_min: Array, divergence: str, key: Array) -> Array:
    """An unbiased draw of the action, an upper bound of -log p(x)."""
    assert process.dynamics.semilinear is not None
    schedule, denoiser = process.dynamics.semilinear
    time_key, noise_key, probe_key = jax.random.split(key, 3)
    wide = jax.tree.map(as_wide, x)
    flat, unravel = ravel_pytree(wide)
    size = flat.size

    def level(t: Array) -> tuple[Array, Array, Array]:  # alpha, sigma^2 and the variance of the control
        alpha, variance = schedule.alpha(t), schedule.variance(0.0, t)
        return alpha, variance, alpha**2 + variance

    def noised(t: Array, eps: Array) -> Array:
        alpha, variance, _ = level(t)
        return alpha * flat + jnp.sqrt(variance) * eps

    def excess(t: Array, eps: Array, key: Array) -> Array:
        """sigma^2 (energy(s) - energy(s_0)) at x_t."""
        alpha, variance, total = level(t)

        def score(y: Array) -> Array:
            state = cast_like(unravel(y), x)
            found = ravel_pytree(jax.tree.map(as_wide, check_like(denoiser(t, state, args), x, "denoiser")))[0]
            return (alpha * found - y) / variance

        y = noised(t, eps)
        plain = 0.5 * jnp.sum(y**2) / total**2 - size / total
        return variance * (energy(score, y, divergence, key) - plain)

    drawn, weight = _drawn_times(schedule, t_min, time_key)
    ts = jnp.append(t_min.astype(drawn.dtype), drawn)
    eps = jax.random.normal(noise_key, (CELLS + 2, size), jnp.promote_types(flat.dtype, ts.dtype))
    gaps = jax.vmap(excess)(ts, eps[:-1], jax.random.split(probe_key, CELLS + 1))
    alpha, variance, total = level(t_min)
    square = alpha**2 * jnp.sum(flat**2) + size * variance  # E |x_t|^2 at t_min
    first = -size * normal_log_prob(jnp.zeros(()), 0.0, total) + 0.5 * square / total
    first += variance * (0.5 * square / total**2 - size / total) - size * schedule.log_alpha(t_min)
    end = noised(jnp.asarray(schedule.T, ts.dtype), eps[-1])
    prior = jnp.sum(normal_log_prob(end, 0.0, level(jnp.asarray(schedule.T, ts.dtype))[2]))
    last = prior - process.start.log_prob(cast_like(unravel(end), x), args)  # pyright: ignore
    return first + gaps[0] + jnp.sum(weight * gaps[1:]) + last


@partial(jax.jit, static_argnames=("divergence", "samples"))
def path_bound(
    process: Process, key: Array, x: State, args: Args, t_min: Time, *, divergence: str, samples: int
) -> tuple[Array, Array]:
    """``(lower bound of log p(x), its standard error)`` from ``samples`` independent draws of ``CELLS`` times each."""
    t_min = jnp.asarray(t_min, jnp.result_type(float))
    drawn = jax.lax.map(partial(_one, process, x, args, t_min, divergence), streams(key, "log_prob", samples))
    return -jnp.mean(drawn), safe_divide(jnp.std(drawn, ddof=1), jnp.sqrt(jnp.asarray(samples, drawn.dtype)))
