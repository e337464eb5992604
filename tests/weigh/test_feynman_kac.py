"""Feynman-Kac populations against closed forms, systematic resampling, and superposition's tracked densities."""

import importlib
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from bridgejax.bridges import compose, reverse
from bridgejax.processes import schedules
from bridgejax.processes._keys import keys
from bridgejax.processes.mixtures import gaussian_mixture, mixture_score
from bridgejax.solve import grids, simulate_batch, solvers
from bridgejax.weigh import feynman_kac, mcmc, superpose, weights

superposing = importlib.import_module("bridgejax.weigh._superpose")  # the package has the function of that name
VP = schedules.vp()
RUNS = 16


def mixture_log(law, schedule, t, x, args):
    return law.diffuse(schedule, t).log_prob(x)


def gaussian(mean, variance, energy=True):
    law = gaussian_mixture(jnp.array(mean), variance)
    log_density = Partial(mixture_log, law, VP) if energy else None
    return compose.density(VP, law.means.shape[1:], log_density=log_density, score=mixture_score(law, VP))


@partial(jax.jit, static_argnames=("num", "rule", "move"))
def populations(density, ts, num, rule, move):
    def one(key):
        sizes = None if move is None else 0.5
        found = feynman_kac(density, key, num, ts, weights=rule, move=move, step_sizes=sizes)
        w, x = jnp.exp(found.log_weights) / num, found.x[:, 0]
        mean = jnp.sum(w * x)
        return found.log_z, mean, jnp.sum(w * (x - mean) ** 2)

    return jax.vmap(one)(keys(jax.random.key(1), RUNS))


def check(density, ts, num, truth, rule="exact", move=None, bias=0.0):
    """log Z, mean and variance of 16 populations within 5 s.e.; Z is unbiased, its log is not, so Z is averaged."""
    z, mean, variance = (np.asarray(v, np.float64) for v in populations(density, ts, num, rule, move))
    value = z.max() + np.log(np.mean(np.exp(z - z.max())))
    error = np.std(np.exp(z - value), ddof=1) / np.sqrt(RUNS)
    assert error < 0.1
    assert abs(value - truth[0]) < 5 * error + bias, (value, error, truth)
    for found, true in ((mean, truth[1]), (variance, truth[2])):
        error = found.std(ddof=1) / np.sqrt(RUNS)
        assert error < 0.05
        assert abs(found.mean() - true) < 5 * error + bias, (found.mean(), error, true)


def closed(*factors):
    """log of the integral, mean and variance of prod N(x; m, v)^b."""
    precision = sum(b / v for _, v, b in factors)
    shift = sum(b * m / v for m, v, b in factors)
    log = sum(-0.5 * b * (math.log(2 * math.pi * v) + m**2 / v) for m, v, b in factors)
    log += 0.5 * shift**2 / precision + 0.5 * math.log(2 * math.pi / precision)
    return log, shift / precision, 1 / precision


CASES = {"product": (1.0, 1.0), "guidance": (2.0, -1.0), "powers": (1.5, 0.5)}


def composed(exponents, energy=True):
    parts = (gaussian([[1.0]], 0.5, energy), gaussian([[-1.0]], 1.0, energy))
    return compose.product(*parts, exponents=exponents)


@pytest.mark.parametrize("case", CASES)
def test_exact_weights_give_log_z_with_few_steps(case):
    """N(1, 1/2)^a N(-1, 1)^b in 24 steps."""
    a, b = CASES[case]
    check(composed((a, b)), grids.log_snr(24, VP), 2048, closed((1.0, 0.5, a), (-1.0, 1.0, b)))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["product", "guidance"])
def test_rates_give_the_ratio_of_normalising_constants_from_scores(case):
    """Z at T is that of N(0, 1)^(a + b); 100 steps, moves by the line integral; bias of the step below 0.02."""
    a, b = CASES[case]
    log, mean, variance = closed((1.0, 0.5, a), (-1.0, 1.0, b))
    truth = log - closed((0.0, 1.0, a + b))[0], mean, variance
    check(composed((a, b), energy=False), grids.uniform(100), 1024, truth, "rate", mcmc.hmc(nodes=2), 0.02)


@pytest.mark.slow
def test_summed_scores_end_at_one_over_two_n_minus_one():
    """1/3 against the product's 1/2, which the weights restore."""
    n = 4096
    experts = compose.product(gaussian([[1.0]], 1.0), gaussian([[-0.5]], 1.0))
    sde, ts = reverse(VP, experts), grids.uniform(300)
    x = simulate_batch(sde, keys(jax.random.key(0), n), jnp.zeros((n, 1)), ts, solver=solvers.Euler())
    assert abs(float(np.var(x)) - 1 / 3) < 5 / 3 * math.sqrt(2 / n) + 0.005
    check(experts, grids.log_snr(24, VP), 2048, closed((1.0, 1.0, 1.0), (-0.5, 1.0, 1.0)))


def beyond(limit, t, x, args):
    return jnp.where(x[0] > limit, jnp.nan, -0.5 * jnp.sum(x**2))


def slope(t, x, args):
    return -x


def test_what_is_no_weight_is_excluded_and_counted():
    density = compose.density(VP, (1,), log_density=Partial(beyond, 1.0), score=slope)
    found = feynman_kac(density, jax.random.key(0), 512, grids.log_snr(10, VP))
    w = np.exp(np.asarray(found.log_weights))
    assert int(found.refused) > 0
    assert np.all(np.asarray(found.x)[w > 0] <= 1.0)
    assert np.isclose(w.mean(), 1.0, atol=1e-4)
    with pytest.raises(ValueError, match=r"all 512 particles ended with weight zero \(\d+ weights were nan"):
        feynman_kac(compose.density(VP, (1,), log_density=Partial(beyond, -99.0), score=slope),
                    jax.random.key(0), 512, grids.log_snr(10, VP))  # fmt: skip


def test_what_feynman_kac_refuses():
    ts, key, a = grids.uniform(4), jax.random.key(0), gaussian([[0.0]], 1.0)
    scores = gaussian([[0.0]], 1.0, False)
    for density, options, words in (
        (compose.product(a, exponents=[-1.0]), {}, "exponents that sum to more than 0"),
        (scores, {"weights": "exact"}, "weights='exact' needs log_density"),
        (a, {"weights": "both"}, "weights must be None or one of"),
        (a, {"threshold": 2.0}, "threshold must lie in"),
        (a, {"move": mcmc.hmc()}, "move needs step_sizes"),
        (a, {"move": "hmc"}, "move must be made by mcmc"),
        (compose.density(schedules.rectified(), (1,), score=slope), {}, "without signal at T"),
        (slope, {}, "density must be a Density"),
    ):
        with pytest.raises(ValueError, match=words):
            feynman_kac(density, key, 8, ts, **options)


def test_systematic_resampling_is_the_floor_or_the_ceiling():
    log_w = jnp.log(jnp.array([0.0, 0.5, 0.1, 0.25, 0.15, 0.0]))
    rows = jax.jit(jax.vmap(weights.systematic, (0, None)))(keys(jax.random.key(0), 4096), log_w)
    counts = np.stack([np.bincount(r, minlength=6) for r in np.asarray(rows)])
    expected = 6 * np.exp(np.asarray(log_w))
    assert np.all((counts >= np.floor(expected)) & (counts <= np.ceil(expected)))
    error = np.sqrt(0.25 / 4096)
    assert np.all(np.abs(counts.mean(axis=0) - expected) < 5 * error)


# superposition ------------------------------------------------------------------------------------------------------


LEFT, RIGHT = [[-2.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, -1.0]]


@pytest.mark.slow
def test_a_tracked_density_is_the_density():
    """Ito's formula with Euler steps: the error is unbiased to the first order and falls like sqrt(dt)."""
    law = gaussian_mixture(jnp.array(LEFT), 0.2)
    spread = {}
    for steps in (100, 400):
        ts = grids.uniform(steps, 0.999)
        found = superpose([gaussian(LEFT, 0.2, False)], keys(jax.random.key(0), 2048), ts, mode="or")
        gap = np.asarray(found.log_q[:, 0] - jax.vmap(law.diffuse(VP, 0.001).log_prob)(found.x), np.float64)
        spread[steps] = gap.std()
        assert abs(gap.mean()) < 5 * gap.std() / np.sqrt(2048) + 0.05
    assert spread[400] < 0.65 * spread[100] < 1.0


def test_or_is_the_mixture_and_and_keeps_the_densities_equal():
    parts = [gaussian(LEFT, 0.2, False), gaussian(RIGHT, 0.3, False)]
    n, ts = 4096, grids.uniform(200, 0.9995)
    whole = gaussian_mixture(jnp.array(LEFT + RIGHT), jnp.array([0.2, 0.2, 0.3, 0.3]))
    found = np.asarray(superpose(parts, keys(jax.random.key(0), n), ts, mode="or").x, np.float64)
    errors = np.sqrt(np.diag(whole.cov()) / n)
    assert np.all(np.abs(found.mean(axis=0) - whole.mean()) < 5 * errors)
    squares = np.square(found).mean(axis=0), np.square(found).std(axis=0) / math.sqrt(n)
    assert np.all(np.abs(squares[0] - np.diag(whole.cov())) < 5 * squares[1] + 0.02)
    both = superpose(parts, keys(jax.random.key(0), n), ts, mode="and")
    assert np.all(np.isfinite(both.x))
    np.testing.assert_allclose(both.log_q[:, 0], both.log_q[:, 1], atol=1e-3)
    for words, options in (
        ("mode must be one of", {"mode": "xor"}),
        ("bias must have shape", {"mode": "or", "bias": 1.0}),
    ):
        with pytest.raises(ValueError, match=words):
            superpose(parts, keys(jax.random.key(0), 2), ts, **options)


def far(t, x, args):
    """A likelihood that is not the diffused one, exp(-(1 - x)^2) at clean data and 1 at T."""
    return -(1.0 - t) * jnp.sum((1.0 - x) ** 2)


def test_a_tilted_density_is_weighed_exactly():
    """N(-1, 1) sqrt(h), h = exp(-(1 - x)^2): log Z, mean and variance at clean data."""
    density = compose.tilted(gaussian([[-1.0]], 1.0), far, 0.5)
    log_z, mean, variance = closed((-1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    log_z += 0.5 * math.log(2 * math.pi)  # sqrt(h) is no density
    check(density, grids.log_snr(24, VP), 2048, (log_z, mean, variance))


def test_a_tilted_density_is_refused_where_a_diffused_one_is_supposed():
    scores = compose.tilted(gaussian([[-1.0]], 1.0, False), far)
    assert not scores.has_energy
    with pytest.raises(ValueError, match="tilted one is none; use 'exact'"):
        feynman_kac(compose.product(scores, scores), jax.random.key(0), 8, grids.log_snr(4, VP))
    with pytest.raises(ValueError, match="a tilted one is none"):
        superpose([scores, scores], keys(jax.random.key(0), 2), grids.log_snr(4, VP), mode="or")


def test_a_tracked_density_of_a_stationary_law():
    """N(0, I) stays itself under vp: what is tracked along a path is its density at the end, up to Ito's error."""
    parts = [gaussian([[0.0, 0.0]], 1.0, False)]
    found = superpose(parts, keys(jax.random.key(3), 256), grids.uniform(100, 0.99), mode="or")
    x = np.asarray(found.x, np.float64)
    gap = np.asarray(found.log_q[:, 0]) + 0.5 * np.sum(x**2, axis=1) + math.log(2 * math.pi)
    assert abs(gap.mean()) < 5 * gap.std() / 16 + 0.05
    assert gap.std() < 2.0


def test_rate_weights_of_a_power_in_two_dimensions():
    """N(0, I)^1.5: its integral is the same at every level, and its variance is 2/3 where the plain path's is 1/2."""
    density = compose.power(gaussian([[0.0, 0.0]], 1.0, False), 1.5)
    check(density, grids.uniform(50), 512, (0.0, 0.0, 2 / 3), "rate", None, 0.02)


def test_the_shares_of_and_give_every_model_an_equal_change():
    """They sum to 1, and g^2 h <push, s_i> + g <dW, s_i> - g^2 h |s_i|^2 / 2 is the same for all i."""
    scores, noise, scale = *np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32), 0.3
    shares = np.asarray(superposing._balanced(jnp.asarray(scores), jnp.asarray(noise[0]), jnp.float32(scale)))
    np.testing.assert_allclose(shares.sum(), 1.0, rtol=1e-4)
    move = scale**2 * shares @ scores + scale * noise[0]
    changes = scores @ move - 0.5 * scale**2 * np.sum(scores**2, axis=1)
    np.testing.assert_allclose(changes, changes[0], atol=1e-4)


def test_a_bias_is_the_log_weight_of_a_model():
    """Two modes apart, weights 0.2 and 0.8: so many samples end at either."""
    parts, n = [gaussian([[-2.0]], 0.1, False), gaussian([[2.0]], 0.1, False)], 1024
    found = superpose(
        parts, keys(jax.random.key(5), n), grids.uniform(60, 0.99), mode="or", bias=jnp.log(jnp.array([0.2, 0.8]))
    )
    assert abs(float((found.x > 0).mean()) - 0.8) < 5 * math.sqrt(0.16 / n)


def positive_only(t, x, args):
    return jnp.where(x[0] > 0, 0.0, -jnp.inf)


@pytest.mark.parametrize(("steps", "paired"), [(2, False), (50, False), (50, True)])
def test_a_constraint_counts_at_the_end_only(steps, paired):
    """Half of N(0, 1), and half of N(0, 1)^2 = N(0, 1/2) / sqrt(4 pi): paths that pass the hole and return are kept."""
    normal = gaussian([[0.0]], 1.0)
    half = compose.tilted(normal, positive_only)
    density = compose.product(half, normal) if paired else half
    log_z, mean, _ = populations(density, grids.uniform(steps), 2048, "exact", None)
    z, truth = np.exp(np.asarray(log_z)), 0.5 / np.sqrt(4 * np.pi) if paired else 0.5
    error = z.std(ddof=1) / np.sqrt(RUNS)
    assert error < 0.05 * truth
    assert abs(z.mean() - truth) < 5 * error
    expected = np.sqrt((1 if paired else 2) / np.pi)
    assert abs(mean.mean() - expected) < 5 * np.std(mean, ddof=1) / np.sqrt(RUNS) + 2e-3


def test_passable_leaves_the_last_level_and_all_that_has_no_holes():
    normal = gaussian([[0.5]], 1.0)
    label = compose.conditioned(compose.tilted(normal, positive_only), jnp.array(1))
    for density in (label, compose.product(label, normal), compose.mixture(label, label)):
        way = compose.passable(density, 0.2)
        out, inside = jnp.array([-1.0]), jnp.array([1.0])
        assert float(way.log_density(0.2, out)) == -np.inf
        assert np.isfinite(float(way.log_density(0.3, out)))
        assert float(way.log_density(0.3, inside)) == pytest.approx(float(density.log_density(0.3, inside)), rel=1e-6)
    untilted = compose.mixture(normal, normal)
    assert compose.passable(untilted, 0.2) is untilted


def steep(t, x, args):
    return -x / (1.0 + 1.7**2 * t)


def test_populations_start_with_the_noise_of_their_schedule():
    """N(0, sigma(T)^2 I), and over the sum of the exponents for a power; after a step of next to no length."""
    schedule, ts, n = schedules.brownian(1.7), jnp.array([0.0, 1e-3]), 2048
    part = compose.density(schedule, (2,), score=steep)
    x = {
        1.0: superpose([part], keys(jax.random.key(6), n), ts, mode="or").x,
        1.5: feynman_kac(compose.power(part, 1.5), jax.random.key(7), n, ts, threshold=0.0).x,
    }
    for mass, found in x.items():
        assert abs(float(found.var()) * mass / 1.7**2 - 1) < 5 * math.sqrt(2 / (2 * n)) + 2e-3
