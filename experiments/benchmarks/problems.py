"""The problems the solver benchmarks share, each as a bridgejax SDE and as code written by hand.

    toy    dx = -theta x dt + sigma dW, d = 2, 4096 samples x 100 steps        (bound by random numbers)
    mlp    dx = f(t, x) dt + dW, f an MLP 3-128-128-2, 1024 samples x 100 steps   (bound by matrix products)

The hand-written code is what a careful user writes in plain JAX, under the same key policy as the library: one key
per sample, all normals of a sample drawn up front and scaled before the scan, ``vmap`` over samples. Nothing is
shared between samples, no block structure, no checks, no landing, no pytrees: only the loop.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

import bridgejax.processes as processes
from bridgejax.processes import SDE, keys
from bridgejax.solve import simulate


class Problem(NamedTuple):
    """Drift ``drift(params, t, x, args)``, unit-shaped constants, and the sizes."""

    name: str
    drift: Callable[..., Array]
    params: Any
    sigma: float
    keys: Array
    x0s: Array
    ts: Array

    def sde(self, params: Any) -> SDE:
        """The SDE at ``params``; fresh on every call, as in a user's loss."""
        return SDE(Partial(self.drift, params), Partial(_constant, self.sigma))


def _constant(sigma: float, t: Array, x: Array, args: Any) -> Any:
    return sigma


def ou_drift(params: dict[str, Array], t: Array, x: Array, args: Any) -> Array:
    """-theta x."""
    return -params["theta"] * x


def mlp_drift(params: list[tuple[Array, Array]], t: Array, x: Array, args: Any) -> Array:
    """An MLP of (t, x) with SiLU."""
    h = jnp.concatenate([jnp.reshape(t, (1,)), x])
    for w, b in params[:-1]:
        h = jax.nn.silu(h @ w + b)
    w, b = params[-1]
    return h @ w + b


def mlp_params(sizes: tuple[int, ...], seed: int = 0) -> list[tuple[Array, Array]]:
    """He-scaled weights and zero biases."""
    rng = np.random.default_rng(seed)
    return [
        (jnp.asarray(rng.normal(size=(m, n)) / np.sqrt(m), jnp.float32), jnp.zeros(n))
        for m, n in itertools.pairwise(sizes)
    ]


def _starts(num: int, seed: int) -> tuple[Array, Array]:
    return keys(jax.random.key(seed), num), jnp.asarray(np.random.default_rng(seed).normal(size=(num, 2)), jnp.float32)


def toy(num: int = 4096, steps: int = 100) -> Problem:
    """Two-dimensional Ornstein-Uhlenbeck."""
    return Problem(
        "toy", ou_drift, {"theta": jnp.float32(1.0)}, 0.7, *_starts(num, 1), jnp.linspace(0.0, 1.0, steps + 1)
    )


def mlp(num: int = 1024, steps: int = 100, width: int = 128) -> Problem:
    """A small network as drift."""
    params = mlp_params((3, width, width, 2))
    return Problem("mlp", mlp_drift, params, 1.0, *_starts(num, 2), jnp.linspace(0.0, 1.0, steps + 1))


Run = Callable[..., Array]  # f(params, keys, x0s, ts) -> x_T


def ours(make: Callable[[Any], SDE], solver: Any = None) -> Run:
    """vmap(simulate) as a function of the parameters."""

    def run(params: Any, keys: Array, x0s: Array, ts: Array) -> Array:
        sde = make(params)
        return jax.vmap(lambda key, x0: simulate(sde, key, x0, ts, solver=solver))(keys, x0s)

    return run


def squares(run: Run) -> Run:
    """The gradient of the sum of squares of x_T with respect to the parameters."""
    return jax.grad(lambda *arguments: jnp.sum(run(*arguments) ** 2))


# written by hand ----------------------------------------------------------------------------------------------------

Step = Callable[..., Array]  # step(problem, params, t0, t1, x, w, h)


def euler_step(p: Problem, params: Any, t0: Array, t1: Array, x: Array, w: Array, h: Any) -> Array:
    """x + f dt + sigma W."""
    return x + p.drift(params, t0, x, None) * (t1 - t0) + p.sigma * w


def heun_step(p: Problem, params: Any, t0: Array, t1: Array, x: Array, w: Array, h: Any) -> Array:
    """Average of the drift at both ends of an Euler step."""
    dt, noise = t1 - t0, p.sigma * w
    first = p.drift(params, t0, x, None) * dt
    second = p.drift(params, t1, x + first + noise, None) * dt
    return x + 0.5 * (first + second) + noise


def sea_step(p: Problem, params: Any, t0: Array, t1: Array, x: Array, w: Array, h: Any) -> Array:
    """Shifted Euler: the drift at x + sigma (W/2 + H)."""
    return x + p.drift(params, t0, x + p.sigma * (0.5 * w + h), None) * (t1 - t0) + p.sigma * w


def shark_step(p: Problem, params: Any, t0: Array, t1: Array, x: Array, w: Array, h: Any) -> Array:
    """Shifted additive-noise Runge-Kutta, two stages."""
    dt = t1 - t0
    first = p.drift(params, t0, x + p.sigma * h, None) * dt
    c = 5.0 / 6.0
    second = p.drift(params, t0 + c * dt, x + c * first + p.sigma * (c * w + h), None) * dt
    return x + 0.4 * first + 0.6 * second + p.sigma * w


def by_hand(
    p: Problem, step: Step, *, levy: bool = False, remat: bool = False, ode: bool = False
) -> Callable[..., Array]:
    """``f(params, keys, x0s, ts) -> x_T``: a scan over the step, its noise up front, vmapped over samples."""

    def one(params: Any, key: Array, x0: Array, ts: Array) -> Array:
        steps, dts = ts.shape[0] - 1, ts[1:] - ts[:-1]
        root = jnp.sqrt(dts)[:, None]
        w = h = None
        if levy:
            w_key, h_key = jax.random.split(key)
            w = root * jax.random.normal(w_key, (steps, *x0.shape))
            h = root / np.sqrt(12.0) * jax.random.normal(h_key, (steps, *x0.shape))
        elif not ode:
            w = root * jax.random.normal(key, (steps, *x0.shape))

        def body(x: Array, interval: Any) -> tuple[Array, None]:
            t0, t1, w, h = interval
            return step(p, params, t0, t1, x, w, h), None

        if remat:
            body = jax.checkpoint(body, prevent_cse=False)
        return jax.lax.scan(body, x0, (ts[:-1], ts[1:], w, h))[0]

    return jax.vmap(one, (None, 0, 0, None))


# the reverse of a schedule, for exponential solvers -------------------------------------------------------------------


def ancestral_by_hand(p: Problem, schedule: processes.Schedule, *, remat: bool = False) -> Callable[..., Array]:
    """DDPM's posterior mean and noise with D = the network; coefficients as arrays before the loop, last step to D."""

    def one(params: Any, key: Array, x0: Array, ts: Array) -> Array:
        t, u = schedule.T - ts[:-2], schedule.T - ts[1:-1]
        a, b, s = _posterior(schedule, t, u)
        noise = s[:, None] * jax.random.normal(key, (ts.shape[0] - 2, *x0.shape))

        def body(x: Array, row: Any) -> tuple[Array, None]:
            t, a, b, noise = row
            return a * x + b * p.drift(params, t, x, None) + noise, None

        if remat:
            body = jax.checkpoint(body, prevent_cse=False)
        x = jax.lax.scan(body, x0, (t, a, b, noise))[0]
        return p.drift(params, schedule.T - ts[-2], x, None)

    return jax.vmap(one, (None, 0, 0, None))


def _posterior(schedule: processes.Schedule, t: Array, u: Array) -> tuple[Array, Array, Array]:
    """q(x_u | x_t, x_0) = N(a x_t + b x_0, s^2)."""

    def at(t: Array, u: Array) -> tuple[Array, Array, Array]:
        scale, step, before, after = (
            schedule.scale(u, t),
            schedule.variance(u, t),
            schedule.variance(0.0, u),
            schedule.variance(0.0, t),
        )
        return scale * before / after, schedule.alpha(u) * step / after, jnp.sqrt(before * step / after)

    return jax.vmap(at)(t, u)


def dpm2m_by_hand(p: Problem, schedule: processes.Schedule, *, remat: bool = False) -> Callable[..., Array]:
    """DPM-Solver++(2M) with D = the network; coefficients as arrays before the loop, last step to D."""

    def coefficients(t: Array, u: Array) -> tuple[Array, Array, Array]:
        ratio = schedule.sigma(u) / schedule.sigma(t)
        h = 0.5 * (schedule.log_snr(u) - schedule.log_snr(t))
        return ratio, -schedule.alpha(u) * jnp.expm1(-h), h

    def one(params: Any, key: Array, x0: Array, ts: Array) -> Array:
        t, u = schedule.T - ts[:-2], schedule.T - ts[1:-1]
        ratio, gain, h = jax.vmap(coefficients)(t, u)
        slope = jnp.concatenate([jnp.zeros(1), 0.5 * h[1:] / h[:-1]])

        def body(carry: tuple[Array, Array], row: Any) -> tuple[tuple[Array, Array], None]:
            x, previous = carry
            t, ratio, gain, slope = row
            denoised = p.drift(params, t, x, None)
            return (ratio * x + gain * ((1.0 + slope) * denoised - slope * previous), denoised), None

        if remat:
            body = jax.checkpoint(body, prevent_cse=False)
        x, _ = jax.lax.scan(body, (x0, jnp.zeros_like(x0)), (t, ratio, gain, slope))[0]
        return p.drift(params, schedule.T - ts[-2], x, None)

    return jax.vmap(one, (None, 0, 0, None))
