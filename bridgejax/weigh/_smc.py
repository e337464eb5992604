"""Sequential Monte Carlo with learnt proposals: the weights of a process, gathered step by step and resampled.

    w *= gamma_u(x_u) B(x_t | x_u) / (gamma_t(x_t) F(x_u | x_t)),      gamma_0 = p_0,  gamma_T = rho

The product is the weight of ``log_weights`` whatever the gamma are in between, so E[Z estimate] = Z with and without
resampling; the closer they are to the marginals of the process, the better a resampled population knows what lies
ahead. They must be positive wherever a path passes that ends in the support of rho, or its end is lost: by default

    gamma_t ~ p_0^(1 - t/T) rho^(t/T),        with c p_0 in the place of rho where rho = 0,

c the mean of rho / p_0 over draws of p_0 of their own, so that a hole of the target weighs as much there as its mean
does, whatever the scale of rho. Where the population is looked at, after each step or at the ends
of longer pieces of the path, it is resampled if it must, and moved by kernels that leave gamma_u as it is. A move
breaks the path, so a process trained with the sub-trajectory loss should be resampled and moved at the ends of its
sub-trajectories only. (Del Moral, Doucet & Jasra 2006; with learnt F and B: Chen et al. 2025, arXiv 2412.07081.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from bridgejax._checks import check_count, check_number
from bridgejax._numerics import cast_like, normal_like
from bridgejax._types import LogDensity, Numbers, PyTree, Scalar, State
from bridgejax.processes._keys import check_one_key, streams
from bridgejax.processes.sde import Kernel, Process, check_callable
from bridgejax.weigh._path_weights import kernels_of
from bridgejax.weigh._population import Population, check_alive, collect, new_tally, population
from bridgejax.weigh.mcmc.moves import Move, check_move, check_sizes, several

Level = Callable[[Array, State], Array]  # (t, x) -> log gamma_t(x) up to a constant


class _Geometric(NamedTuple):
    """The default path of densities; ``level`` and ``gain`` are the mean log p_0 and log c of the formula above."""

    start: Any  # a StartLaw with a ``log_prob``
    log_density: LogDensity
    T: float
    level: Array
    gain: Array

    def __call__(self, t: Array, x: State) -> Array:
        """Its log density; where the start law has a hole, at the law's mean level."""
        log_p, log_rho = self.start.log_prob(x), self.log_density(x)
        log_p = jnp.where(log_p == -jnp.inf, self.level, log_p)
        log_rho = jnp.where(log_rho == -jnp.inf, log_p + self.gain, log_rho)
        return (1.0 - t / self.T) * log_p + (t / self.T) * log_rho


def _geometric(process: Process, log_density: LogDensity, key: Array, num: int) -> _Geometric:
    start = process.start
    x = jax.vmap(start, (0, None))(jax.random.split(key, num), None)
    log_p = jax.vmap(start.log_prob)(x)  # pyright: ignore
    ratio = jax.vmap(log_density)(x) - log_p
    ratio = jnp.where(jnp.isnan(ratio) | (ratio == jnp.inf), -jnp.inf, ratio)
    mean = jax.nn.logsumexp(ratio) - jnp.log(num)
    return _Geometric(start, log_density, process.dynamics.T, jnp.mean(log_p), jnp.where(jnp.isfinite(mean), mean, 0.0))


@partial(jax.jit, static_argnames=("num", "move", "transitions"))
def _run(
    process: Process,
    forward: Kernel,
    backward: Kernel,
    log_density: LogDensity,
    on_the_way: Level | None,
    key: Array,
    threshold: Scalar,
    sizes: Array,
    *,
    num: int,
    move: Move | None,
    transitions: int,
    pieces: int,
) -> Population:
    T, ts, steps = process.dynamics.T, process.ts, jnp.arange(process.ts.shape[0] - 1)
    start_key, run_key, pilot_key = streams(key, "smc", 3)
    if on_the_way is None:
        on_the_way = _geometric(process, log_density, pilot_key, num)
    piece = (jnp.append(steps, steps.size) * pieces) // steps.size

    def gamma(t: Array, x: State) -> Array:
        """gamma_0 = p_0 and gamma_T = rho exactly; ``on_the_way`` in between."""
        ahead = jnp.where(t >= ts[-1], log_density(x), on_the_way(t, x))
        return jnp.where(t <= ts[0], process.start.log_prob(x), ahead)  # pyright: ignore

    def advance(key: Array, x: State, t: Array, u: Array) -> tuple[State, Array]:
        y = cast_like(forward.sample(key, t, u, x, None), x)
        ratio = backward.log_prob(T - u, T - t, y, x, None) - forward.log_prob(t, u, x, y, None)  # pyright: ignore
        return y, gamma(u, y) - gamma(t, x) + ratio

    def moved(u: Array, size: Array, key: Array, x: State) -> State:
        def one(key: Array, x: Array) -> Array:
            velocity_key, chain_key = jax.random.split(key)
            level, v = partial(gamma, u), normal_like(velocity_key, x)
            return several(move, jax.grad(level), level, chain_key, x, v, size, transitions)[0].x  # pyright: ignore

        return jax.vmap(one)(jax.random.split(key, num), x)

    def turn(carry: PyTree, inputs: PyTree) -> tuple[PyTree, PyTree]:
        (x, tally), (t, u, size, last, key) = carry, inputs
        step_key, choice_key, move_key = jax.random.split(key, 3)
        x, gain = jax.vmap(advance, (0, 0, None, None))(jax.random.split(step_key, num), x, t, u)
        (x, tally), seen = collect(x, tally, gain, choice_key, jnp.where(last, threshold, 0.0))
        if move is not None:
            x = jax.lax.cond(last, partial(moved, u, size, move_key), lambda x: x, x)
        return (x, tally), seen

    x = jax.vmap(process.start, (0, None))(jax.random.split(start_key, num), None)
    rows = (ts[:-1], ts[1:], sizes, piece[1:] > piece[:-1], jax.random.split(run_key, steps.size))
    (x, tally), history = jax.lax.scan(turn, (x, new_tally(num)), rows)
    return population(x, tally, history)


def smc(
    process: Process,
    key: Array,
    num: int,
    log_density: LogDensity,
    *,
    on_the_way: Level | None = None,
    threshold: float = 0.5,
    move: Move | None = None,
    transitions: int = 1,
    step_sizes: Numbers | None = None,
    pieces: int | None = None,
    forward: Kernel | None = None,
    backward: Kernel | None = None,
) -> Population:
    """A resampled population of a process, and its log Z.

    Args:
        process: start law with a ``log_prob``, SDE and its ``backward``, as ``weighted_samples`` takes it.
        key: one key for the whole population: particles interact.
        num: n, particles.
        log_density: ``log_density(x)``, log rho of one sample.
        on_the_way: ``on_the_way(t, x)``, log gamma_t up to a constant each, finite wherever paths pass; None: the
            geometric path.
        threshold: effective sample size, as a share of n, below which to resample; 0: never.
        move: moves of every particle where the population is looked at, after the resampling, for example
            ``mcmc.hmc()``; None: none. ``log_density`` and ``on_the_way`` then need a gradient, and states are arrays.
        transitions: how many of them.
        step_sizes: their leapfrog steps, one number or one for each step of the grid.
        pieces: that the path is cut into; the population is resampled and moved at their ends only, as many as the
            process was trained with (the option of that name of ``cmcd``). None: after every step.
        forward: kernel to simulate with, see ``weighted_samples``.
        backward: kernel back.

    Returns:
        A Population; ``x[weights.systematic(key, log_weights)]`` are samples of equal weight.

    Raises:
        ValueError: a process that cannot be weighed, a threshold outside [0, 1], a move by scores alone or without
            step sizes, more pieces than steps, a population without weight.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> start, schedule = bj.starts.normal((1,)), bj.schedules.ou()
        >>> rho = lambda x: -0.5 * jnp.sum(x**2)                               # Z = sqrt(2 pi)
        >>> data = bj.mixtures.gaussian_mixture([[0.0]], 1.0)
        >>> sampler = bj.reverse(schedule, denoiser=bj.mixtures.mixture_denoiser(data, schedule))
        >>> process = bj.Process(start, sampler, bj.grids.uniform(8, 0.9), bj.noising(schedule))
        >>> found = bj.smc(process, jax.random.key(0), 128, rho)
        >>> found.x.shape, bool(abs(found.log_z - 0.5 * jnp.log(2 * jnp.pi)) < 0.1)
        ((128, 1), True)
    """
    forward, backward = kernels_of(process, forward, backward)
    log_density = check_callable(log_density, "log_density", "log_density(x)")
    num = check_count("num", num)
    check_number(threshold=threshold)
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"threshold must lie in [0, 1], a share of the population, got {threshold}")
    check_move(move)
    sizes = check_sizes(move, step_sizes, process.ts.shape[0] - 1)
    transitions, steps = check_count("transitions", transitions), process.ts.shape[0] - 1
    pieces = steps if pieces is None else check_count("pieces", pieces)
    if pieces > steps:
        raise ValueError(f"pieces must be at most the number of steps, {steps}, got {pieces}")
    if move is not None and move.difference in ("line", "path"):
        raise ValueError(f"move has difference={move.difference!r}, and here the density is known; use 'energy'")
    if on_the_way is not None:
        on_the_way = check_callable(on_the_way, "on_the_way", "on_the_way(t, x)")
    found = _run(
        process, forward, backward, log_density, on_the_way, check_one_key(key), threshold, sizes,
        num=num, move=move, transitions=transitions, pieces=pieces,
    )  # fmt: skip
    return check_alive(found, num, "log_density")
