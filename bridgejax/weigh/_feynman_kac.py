"""Feynman-Kac correctors: a weighted population that follows a composed density exactly.

For noising dx = f x dt + g dW, factors q_i,t that it diffuses, and p_t ~ prod_i q_i,t^b_i with S = sum_i b_i s_i, run

    dx = (-f x + g^2 S) d tau + g dW,       d log w = [(sum b_i - 1) d f + (g^2/2) (|S|^2 - sum_i b_i |s_i|^2)] d tau

on the generative clock (d coordinates). Weighted averages are those of p_t, and mean(w) is Z_t/Z_T with Z_t the
integral of prod_i q_i,t^b_i. A power b has the weight (b - 1)(d f + g^2 b |s|^2 / 2), two factors d f + g^2 <s_1, s_2>,
guidance of scale c (g^2/2) c (c - 1) |s_1 - s_2|^2. (Skreta et al. 2025, Feynman-Kac correctors.)

A step from t to u is Gaussian, F: x_u ~ N((x_t + k v S)/a, v I) with a = alpha_t/alpha_u and v = var(x_t | x_u). With
weights="rate" k = 1, the integrals of f and g^2 over it are log a and v/a to second order, and that of the squares is
trapezoidal. Where the factors have log densities, weights="exact" is exact for any number of steps and any k,

    w *= p_u(x_u) q(x_t | x_u) / (p_t(x_t) F(x_u | x_t)),      E[w] = int prod_i q_i,0^b_i,

q being the noising kernel; k = (B + 1)/(2B), B = sum b, follows the law of equal Gaussian factors, of variance 1/B,
where k = 1 ends at 1/(2B - 1), with tails too light to be weighed into place. p_t must be positive wherever
paths pass: a tilt that is zero somewhere counts at the last level only. The start N(0, sigma^2/B I) is weighed too, so
log Z is absolute where the factors are normalised, not a ratio. Moves that leave p_u invariant may follow each step:
they change no weight, and for scores alone they are what keeps the variance of log Z small.

When the effective sample size falls below a share of n the population is resampled systematically, and the log of its
mean weight goes into log Z. Particles interact: one depends on the others and their number; one key serves all.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer

from bridgejax._checks import check_count, check_number
from bridgejax._numerics import linear_combination, normal_like
from bridgejax._types import Args, Numbers, PyTree, Scalar
from bridgejax.bridges._density import Density
from bridgejax.bridges.compose import passable
from bridgejax.processes._keys import check_one_key, streams
from bridgejax.processes._schedule import gaussian_log_prob
from bridgejax.weigh._population import Population, check_alive, collect, new_tally, population
from bridgejax.weigh.mcmc.annealing import ancestral_mean, check_levels, moves_at
from bridgejax.weigh.mcmc.moves import Move, check_sizes

RULES = ("exact", "rate")


def _scores(density: Density, t: Array, x: Array, args: Args) -> tuple[Array, Array]:
    """S and |S|^2 - sum_i b_i |s_i|^2."""
    parts, b = density.factors()
    scores = jnp.stack([q.score(t, x, args) for q in parts])
    total = jnp.tensordot(b, scores, 1)
    return total, jnp.sum(total**2) - jnp.sum(b * jnp.sum(scores**2, axis=tuple(range(1, scores.ndim))))


@partial(jax.jit, static_argnames=("num", "move", "transitions", "exact"))
def _run(
    density: Density, key: Array, ts: Array, args: Args, sizes: Array, threshold: Scalar, *,
    num: int, move: Move | None, transitions: int, exact: bool,
) -> Population:  # fmt: skip
    schedule, shape = density.schedule, density.shape
    T, mass = schedule.T, jnp.sum(density.factors()[1])
    if exact:
        density = passable(density, T - ts[-1] + 1e-6 * T)
    spread = schedule.variance(0.0, T - ts[0]) / mass
    pull = 0.5 + 0.5 / mass if exact else 1.0

    def begin(key: Array) -> tuple[Array, Array, Array]:
        x_key, v_key = jax.random.split(key)
        like = jax.ShapeDtypeStruct(shape, ts.dtype)
        x = linear_combination((jnp.sqrt(spread), normal_like(x_key, like)))
        log_p = density.log_density(T - ts[0], x, args) if exact else jnp.zeros(())
        weight = log_p - gaussian_log_prob(x, jnp.zeros(shape), spread) if exact else jnp.zeros(())
        return x, normal_like(v_key, like), weight

    def advance(key: Array, x: Array, v: Array, s: Array, r: Array, size: Array) -> tuple[Array, Array, Array]:
        """One particle from time s to r, on the generative clock, and the weight it gains."""
        t, u = T - s, T - r
        noise_key, move_key = jax.random.split(key)
        score, squares = _scores(density, t, x, args)
        mean, variance = ancestral_mean(schedule, t, u, x, pull * score)
        y = linear_combination((1.0, mean), (jnp.sqrt(variance), normal_like(noise_key, x)))
        if exact:
            back = gaussian_log_prob(x, schedule.scale(u, t) * y, variance) - gaussian_log_prob(y, mean, variance)
            gain = density.log_density(u, y, args) - density.log_density(t, x, args) + back
        else:
            a = schedule.scale(u, t)
            squares = 0.5 * (squares + jnp.where(u > 1e-6 * T, _scores(density, u, y, args)[1], squares))
            gain = (mass - 1.0) * x.size * jnp.log(a) + 0.5 * (variance / a) * squares
        if move is not None:
            chain, _ = moves_at(density, move, u, args, move_key, y, v, size, transitions)
            y, v = chain.x, chain.v
        return y, v, gain

    def turn(carry: PyTree, inputs: PyTree) -> tuple[PyTree, PyTree]:
        s, r, size, key = inputs
        (x, v), tally = carry
        step_key, choice_key = jax.random.split(key)
        x, v, gain = jax.vmap(advance, (0, 0, 0, None, None, None))(jax.random.split(step_key, num), x, v, s, r, size)
        return collect((x, v), tally, gain, choice_key, threshold)

    start_key, first_key, run_key = streams(key, "feynman_kac", 3)
    x, v, weight = jax.vmap(begin)(jax.random.split(start_key, num))
    carry, _ = collect((x, v), new_tally(num), weight, first_key, threshold)
    rows = (ts[:-1], ts[1:], sizes[1:], jax.random.split(run_key, ts.shape[0] - 1))
    ((x, _), tally), history = jax.lax.scan(turn, carry, rows)
    return population(x, tally, history)


def feynman_kac(
    density: Density,
    key: Array,
    num: int,
    ts: Numbers,
    args: Args = None,
    *,
    weights: str | None = None,
    threshold: float = 0.5,
    move: Move | None = None,
    transitions: int = 1,
    step_sizes: Numbers | None = None,
) -> Population:
    """Samples of a composed density, and its log Z, by weights and resampling.

    Args:
        density: a weighted product (product, power, negation, guidance); factors must be diffused densities, and with
            "exact" weights may be tilted ones. Exponents must sum to more than 0.
        key: one key for the whole population.
        num: n, particles.
        ts: grid on the generative clock, from 0 (noise) to at most T. Close to T "rate" weights need small steps: end
            where sigma is a small share of the finest detail, or use "exact".
        args: one condition for all particles, or None.
        weights: "exact" or "rate" (see above); None: exact where every factor has a log density. Energies learnt from
            scores know little of the relative mass of regions apart, and "exact" takes what two levels disagree on for
            weight: where that collapses the population, as in experiments/compose_digits.py, "rate" is steadier.
        threshold: effective sample size, as a share of n, below which to resample; 0: never.
        move: moves at every level after the step, for example ``mcmc.hmc()``; None: none.
        transitions: how many of them.
        step_sizes: their leapfrog steps, (len(ts),) from ``mcmc.tune``, or one number.

    Returns:
        A Population.

    Raises:
        ValueError: exponents that do not sum to more than 0, "rate" weights of a tilted density, a schedule without
            signal left at T, moves without step sizes, or a population whose weights are all zero.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> schedule = bj.schedules.vp()
        >>> ts = bj.grids.log_snr(50, schedule)
        >>> def model(mean, variance):                                         # a trained one in practice, here exact
        ...     data = bj.mixtures.gaussian_mixture([[mean]], variance)
        ...     sde = bj.reverse(schedule, denoiser=bj.mixtures.mixture_denoiser(data, schedule))
        ...     return bj.compose.model(bj.Process(bj.starts.normal((1,)), sde, ts))
        >>> both = bj.compose.product(model(-1.0, 1.0), model(1.0, 1.0))      # N(0, 1/2)
        >>> found = bj.feynman_kac(both, jax.random.key(0), 1024, ts[:-1])
        >>> x, w = found.x[:, 0], jnp.exp(found.log_weights)
        >>> bool(abs(jnp.mean(w * x**2) - 0.5) < 0.15)
        True
    """
    times = check_levels(density, ts, move)
    check_number(threshold=threshold)
    num, transitions = check_count("num", num), check_count("transitions", transitions)
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"threshold must lie in [0, 1], a share of the population, got {threshold}")
    if weights is not None and (not isinstance(weights, str) or weights not in RULES):
        raise ValueError(f"weights must be None or one of {RULES}, got {weights!r}")
    if weights == "exact" and not density.has_energy:
        raise ValueError("weights='exact' needs log_density of every factor, and one has only a score; use 'rate'")
    rule = weights or ("exact" if density.has_energy else "rate")
    if rule == "rate" and not all(q.diffused for q in density.factors()[0]):
        raise ValueError(
            "weights='rate' needs factors that are diffused densities, and a tilted one is none; use 'exact'"
        )
    total = jnp.sum(density.factors()[1])
    if not isinstance(total, Tracer) and float(total) <= 0.0:
        raise ValueError(f"density must have exponents that sum to more than 0 to have a mass, got {float(total):g}")
    if density.schedule.zero_terminal_snr:
        raise ValueError(
            "density has a schedule without signal at T, where a step has no finite scale; use cosine or vp"
        )
    sizes = check_sizes(move, step_sizes, times.shape[0])
    args = jax.tree.map(jnp.asarray, args)
    found = _run(
        density, check_one_key(key), times, args, sizes, threshold,
        num=num, move=move, transitions=transitions, exact=rule == "exact",
    )  # fmt: skip
    return check_alive(found, num, "density")
