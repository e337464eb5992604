"""Annealed Markov chain Monte Carlo: chains through the noise levels of a composed density, from noise to data.

    for t = T, ..., 0:    [x <- a step of the reverse SDE with the composed score;]    x <- n moves that leave p_t be

The reverse SDE with composed scores ends at another law than the composition's, however fine its steps; a chain at the
last level ends at that level's law, however rough the levels before it, if it moves enough. The last level is therefore
best the clean density itself (t = 0): the noise left at the level before it would widen every sample. (Du et al. 2023,
Reduce, reuse, recycle.)

Step sizes are tuned per level by a pilot population (``tune``) and then held fixed, so the chains proper leave each
level's law exactly invariant, and each depends on its own key alone.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from bridgejax._checks import check_count, check_number, check_positive
from bridgejax._numerics import dtype_of, linear_combination, normal_like, safe_divide
from bridgejax._summary import summary
from bridgejax._types import Args, Numbers, PyTree, Scalar
from bridgejax.bridges._density import Density, check_density
from bridgejax.processes._keys import check_one_key, streams
from bridgejax.processes._keys import keys as make_keys
from bridgejax.processes._schedule import Schedule
from bridgejax.solve._accepted import check_times
from bridgejax.solve._batch import check_batch, map_samples
from bridgejax.weigh.mcmc.moves import Chain, Move, Outcome, check_move, check_sizes, hmc, several, start_chain, step

# one level ----------------------------------------------------------------------------------------------------------


def at_level(density: Density, move: Move, t: Array, args: Args) -> tuple[PyTree, PyTree]:
    """``score(x)`` and ``log_density(x)`` (None where a line integral stands for it) of one level."""
    energies = density.has_energy and (move.adjusted and move.difference in (None, "energy"))
    log_density = (lambda x: density.log_density(t, x, args)) if energies else None
    return lambda x: density.score(t, x, args), log_density


def moves_at(
    density: Density, move: Move, t: Array, args: Args, key: Array, x: Array, v: Array, size: Array, count: int
) -> tuple[Chain, Outcome]:
    """``count`` moves of one chain at level t. The outcome is summed over them."""
    score, log_density = at_level(density, move, t, args)
    return several(move, score, log_density, key, x, v, size, count)


# between levels -----------------------------------------------------------------------------------------------------


def ancestral_mean(schedule: Schedule, t: Array, u: Array, x: Array, score: Array) -> tuple[Array, Array]:
    """Mean of x_u given x_t for u < t, (x_t + v s)/a with a = alpha_t/alpha_u and v = var(x_t | x_u); and v."""
    a, v = schedule.scale(u, t), schedule.variance(u, t)
    return ((x + v * score) / a).astype(dtype_of(x)), v


def _reverse_step(density: Density, key: Array, t: Array, u: Array, x: Array, args: Args) -> Array:
    """A step of the reverse SDE with the composed score: DDPM's, without noise where it ends at clean data."""
    schedule = density.schedule
    mean, v = ancestral_mean(schedule, t, u, x, density.score(t, x, args))
    left = safe_divide(schedule.variance(0.0, u), schedule.variance(0.0, t))
    return linear_combination((1.0, mean), (jnp.sqrt(v * left), normal_like(key, x)))


# annealing ------------------------------------------------------------------------------------------------------------


class Annealed(NamedTuple):
    """What annealed chains gave.

    Attributes:
        x: last states, (n, *shape).
        valid: where the last level's density (or score) is finite at x, (n,); leave the others out.
        acceptance: mean acceptance probability at every level, (levels,); of unadjusted moves, what it would have been.
        step_sizes: leapfrog steps used, (levels,).
        refused: proposals refused because the density was not finite there, over all chains.
        evaluations: scores (and as many log densities or fewer) evaluated by a chain, the pilot's left out.
    """

    x: Array
    valid: Array
    acceptance: Array
    step_sizes: Array
    refused: Array
    evaluations: int

    __repr__ = summary


def check_levels(density: Density, ts: Numbers, move: Move | None) -> Array:
    """``ts`` as levels of a density's clock.

    Raises:
        ValueError: no density, no move (None is none), one that asks for an energy there is not, or a wrong grid.
    """
    check_density(density)
    check_move(move)
    if move is not None and move.difference == "energy" and not density.has_energy:
        raise ValueError("move asks for difference='energy', and this density has only a score; use 'line' or 'path'")
    return check_times(density.schedule.T, ts)[0]


def _start(schedule: Schedule, s: Array, key: Array, like: PyTree) -> Array:
    return linear_combination((schedule.sigma(schedule.T - s), normal_like(key, like)))


@partial(jax.jit, static_argnames=("move", "transitions", "reverse_steps", "num", "micro_batch"))
def _annealed(
    density: Density, keys: Array, ts: Array, args: Args, sizes: Array, *,
    move: Move, transitions: int, reverse_steps: bool, num: int, micro_batch: int | None,
) -> PyTree:  # fmt: skip
    like, T = jax.ShapeDtypeStruct(density.shape, ts.dtype), density.schedule.T
    before = jnp.concatenate([ts[:1], ts[:-1]])

    def one(density: Density, sample: PyTree) -> PyTree:
        key, args = sample
        start_key, run_key, momentum_key = streams(key, "annealed", 3)

        def level(carry: PyTree, inputs: PyTree) -> PyTree:
            (x, v), (k, s_before, s, size) = carry, inputs
            step_key, move_key = jax.random.split(jax.random.fold_in(run_key, k))
            if reverse_steps:
                moved = _reverse_step(density, step_key, T - s_before, T - s, x, args)
                x = jnp.where(k > 0, moved, x)
            chain, outcome = moves_at(density, move, T - s, args, move_key, x, v, size, transitions)
            return (chain.x, chain.v), outcome

        x = _start(density.schedule, ts[0], start_key, like)
        rows = (jnp.arange(ts.shape[0], dtype=jnp.uint32), before, ts, sizes)
        (x, _), outcome = jax.lax.scan(level, (x, normal_like(momentum_key, like)), rows)
        last = density.log_density(T - ts[-1], x, args) if density.has_energy else density.score(T - ts[-1], x, args)
        return x, jnp.all(jnp.isfinite(last)), outcome

    x, valid, outcome = map_samples(one, density, (keys, args), num, micro_batch=micro_batch)
    return x, valid, jnp.mean(outcome.acceptance, axis=0) / transitions, jnp.sum(outcome.refused)


def annealed(
    density: Density,
    keys: Array,
    ts: Numbers,
    args: Args = None,
    *,
    move: Move | None = None,
    transitions: int = 10,
    step_sizes: Numbers | None = None,
    reverse_steps: bool = False,
    micro_batch: int | None = None,
) -> Annealed:
    """Markov chains through the noise levels of a (composed) density, from noise to data.

    Args:
        density: what to sample at every level.
        keys: array of keys, one per chain; a chain depends on its key alone.
        ts: levels on the generative clock s = T - t, increasing. All are visited, the first and the last included: let
            the last be T where the density is known of clean data, else the least noise it was trained on.
        args: conditions with a leading axis, or None.
        move: default ``hmc()``.
        transitions: moves at every level.
        step_sizes: leapfrog step at every level, (levels,) or one number; None: tuned by ``tune`` with its defaults.
        reverse_steps: whether a step of the reverse SDE with the composed score leads from a level to the next.
        micro_batch: chains per program.

    Returns:
        Annealed chains, leading axis ``len(keys)``.

    Raises:
        ValueError: a grid outside the clock, step sizes that do not fit, no chain at a point of finite density.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> schedule = bj.schedules.vp()
        >>> ts = bj.grids.log_snr(50, schedule)
        >>> def model(mean, variance):                                         # a trained one in practice, here exact
        ...     data = bj.mixtures.gaussian_mixture([[mean]], variance)
        ...     sde = bj.reverse(schedule, denoiser=bj.mixtures.mixture_denoiser(data, schedule))
        ...     return bj.compose.model(bj.Process(bj.starts.normal((1,)), sde, ts))
        >>> density = model(0.0, 1.0)
        >>> found = bj.mcmc.annealed(density, bj.keys(jax.random.key(0), 64), ts[:-1], transitions=2)
        >>> found.x.shape, bool(found.valid.all())
        ((64, 1), True)
    """
    move = hmc() if move is None else move
    times = check_levels(density, ts, move)
    keys, num = check_batch(keys, (args,), ("args",), (0,), micro_batch, None)
    check_count("transitions", transitions)
    args = jax.tree.map(jnp.asarray, args)
    if step_sizes is None:
        step_sizes = tune(density, jax.random.key(0), times, args, move=move)
    sizes = check_sizes(move, step_sizes, times.shape[0])
    x, valid, acceptance, refused = _annealed(
        density, keys, times, args, sizes, move=move, transitions=transitions, reverse_steps=bool(reverse_steps),
        num=num, micro_batch=micro_batch,
    )  # fmt: skip
    if not isinstance(valid, Tracer) and not bool(jnp.any(valid)):
        raise ValueError(
            f"none of the {num} chains ends where the density is finite ({int(refused)} proposals refused): its "
            "log_density or score is nan or infinite around the start, N(0, sigma(T)^2 I); check them there"
        )
    extra = move.nodes - 2 if move.adjusted and (move.difference or "line") == "line" and not density.has_energy else 0
    evaluations = times.shape[0] * (1 + transitions * (move.leapfrogs + extra) + bool(reverse_steps))
    return Annealed(x, valid, acceptance, sizes, refused, evaluations)


@partial(jax.jit, static_argnames=("move", "transitions", "num"))
def _tuned(
    density: Density,
    key: Array,
    ts: Array,
    args: Args,
    target: Scalar,
    size: Scalar,
    *,
    move: Move,
    transitions: int,
    num: int,
) -> Array:
    like, T = jax.ShapeDtypeStruct(density.shape, ts.dtype), density.schedule.T
    adjusted = Move(move.leapfrogs, move.persistence, True, move.difference, move.nodes)

    def level(carry: PyTree, s: Array) -> PyTree:
        x, v, log_size, key = carry

        def turn(carry: PyTree, k: Array) -> PyTree:
            chains, log_size, key = carry
            key, own = jax.random.split(key)

            def one(key: Array, chain: Chain, args: Args) -> tuple[Chain, Outcome]:
                score, log_density = at_level(density, adjusted, T - s, args)
                return step(adjusted, score, log_density, key, chain, jnp.exp(log_size))

            chains, outcome = jax.vmap(one)(make_keys(own, num), chains, args)
            gain = 1.5 / jnp.sqrt(k) * (jnp.mean(outcome.acceptance) - target)
            log_size = linear_combination((1.0, log_size), (1.0, gain))
            return (chains, log_size, key), log_size

        def begin(x: Array, v: Array, args: Args) -> Chain:
            return start_chain(*at_level(density, adjusted, T - s, args), x, v)

        begun = (jax.vmap(begin)(x, v, args), log_size, key)
        (chains, log_size, key), sizes = jax.lax.scan(turn, begun, jnp.arange(1.0, transitions + 1.0))
        log_size = jnp.mean(sizes[transitions // 2 :])
        return (chains.x, chains.v, log_size, key), jnp.exp(log_size)

    start_key, momentum_key, run_key = streams(key, "tune", 3)
    x = jax.vmap(lambda key: _start(density.schedule, ts[0], key, like))(make_keys(start_key, num))
    v = jax.vmap(lambda key: normal_like(key, like))(make_keys(momentum_key, num))
    first = jnp.log(size * density.schedule.sigma(T - ts[0])).astype(ts.dtype)
    return jax.lax.scan(level, (x, v, first, run_key), ts)[1]


def tune(
    density: Density,
    key: Array,
    ts: Numbers,
    args: Args = None,
    *,
    move: Move | None = None,
    target: float = 0.8,
    transitions: int = 20,
    chains: int = 64,
    size: float = 0.5,
) -> Array:
    """Leapfrog step sizes at which moves are accepted with probability ``target``, at every level.

    A pilot population, adjusted whatever ``move`` is, changes the log of the step by 1.5 (mean acceptance - target) /
    sqrt(k) after its k-th move at a level (Robbins & Monro 1951); the mean over the level's second half is the answer,
    and where the next level starts. The population shares its step, so this is no one-key-per-sample computation.

    Args:
        density: as for ``annealed``.
        key: of the pilot.
        ts: the levels.
        args: conditions with a leading axis; the pilot takes its first rows.
        move: default ``hmc()``.
        target: acceptance wanted, in (0, 1): 0.57 is efficient for mala, 0.65 to 0.9 for hmc; unadjusted moves are
            biased the less the higher it is.
        transitions: moves at every level.
        chains: size of the pilot.
        size: first step, in units of sigma at the first level.

    Returns:
        (levels,), positive.

    Raises:
        ValueError: a target outside (0, 1).

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> schedule = bj.schedules.vp()
        >>> ts = bj.grids.log_snr(50, schedule)
        >>> def model(mean, variance):                                         # a trained one in practice, here exact
        ...     data = bj.mixtures.gaussian_mixture([[mean]], variance)
        ...     sde = bj.reverse(schedule, denoiser=bj.mixtures.mixture_denoiser(data, schedule))
        ...     return bj.compose.model(bj.Process(bj.starts.normal((1,)), sde, ts))
        >>> density = model(0.0, 1.0)
        >>> sizes = bj.mcmc.tune(density, jax.random.key(0), ts[:-1])
        >>> sizes.shape, bool((sizes > 0).all())
        ((50,), True)
    """
    move = hmc() if move is None else move
    times = check_levels(density, ts, move)
    check_number(target=target, size=size)
    check_positive(size=size)
    if not 0.0 < target < 1.0:
        raise ValueError(f"target must lie in (0, 1), the acceptance wanted, got {target}")
    num = check_count("chains", chains)
    if jax.tree.leaves(args):
        num = min(num, min(np.shape(leaf)[0] for leaf in jax.tree.leaves(args)))
        args = jax.tree.map(lambda leaf: jnp.asarray(leaf)[:num], args)
    count = check_count("transitions", transitions, 2)
    return _tuned(density, check_one_key(key), times, args, target, size, move=move, transitions=count, num=num)
