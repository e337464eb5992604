"""Finite data: against mixtures of points, dense NumPy and differentiation, paths that land, and two known times."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bridgejax as bj
from bridgejax.oracles import collapse_time, empirical_law, estimate_collapse_time, speciation_time
from bridgejax.oracles.regimes import _crossing, _excess
from bridgejax.processes._keys import keys

OU, VP, VE = bj.schedules.ou(T=5.0), bj.schedules.vp(), bj.schedules.karras()
RNG = np.random.default_rng(3)
POINTS = RNG.normal(size=(23, 2, 3))
WEIGHTS = RNG.uniform(0.2, 1.0, 23)


def values(law, schedule, t, x):
    """All that the law says at one state."""
    given = schedule, t, x
    return law.denoise(*given), law.score(*given), law.log_prob(*given), law.weights(*given)


all_values = jax.jit(values)


def dense(points, weights, alpha, variance, x):
    """The formulas in NumPy, in float64 and all at once."""
    flat = np.asarray(points, np.float64).reshape(len(points), -1)
    offsets = np.asarray(x, np.float64).reshape(-1) - alpha * flat
    logs = np.log(weights / np.sum(weights)) - np.sum(offsets**2, 1) / (2 * variance)
    top = logs.max()
    w = np.exp(logs - top)
    log_prob = top + np.log(w.sum()) - flat.shape[1] / 2 * np.log(2 * np.pi * variance)
    w /= w.sum()
    return (w @ flat).reshape(x.shape), (-w @ offsets / variance).reshape(x.shape), log_prob, w


@pytest.mark.fast
@pytest.mark.parametrize("block", [1, 5, 23, None])
@pytest.mark.parametrize("name", ["vp", "ou", "karras", "rectified"])
def test_a_mixture_of_points(name, block):
    """float32, whatever the blocks are: 23 = 4 * 5 + 3, so that the last block reaches back."""
    schedule = getattr(bj.schedules, name)()
    law, mixture = empirical_law(POINTS, WEIGHTS, block=block), bj.mixtures.gaussian_mixture(POINTS, 0.0, WEIGHTS)
    x = jnp.asarray(RNG.normal(size=(2, 3)), jnp.float32)
    for share in (0.1, 0.5):
        t = share * schedule.T
        noised = mixture.diffuse(schedule, t)
        denoised, score, log_prob, weights = all_values(law, schedule, t, x)
        close = dict(rtol=1e-5, atol=1e-5)
        chex.assert_trees_all_close(denoised, bj.mixtures.mixture_denoiser(mixture, schedule)(t, x, None), **close)
        chex.assert_trees_all_close(score, noised.score(x), **close)
        chex.assert_trees_all_close(log_prob, noised.log_prob(x), **close)
        chex.assert_trees_all_close(weights, noised.responsibilities(x), **close)
        chex.assert_trees_all_close(jnp.sum(weights), 1.0, rtol=1e-6)


@pytest.mark.parametrize("t", [1e-3, 0.05, 0.9])
def test_dense_formulas_and_the_score_by_differences_in_float64(t):
    with jax.enable_x64(True):
        law, x = empirical_law(POINTS, WEIGHTS, block=4), POINTS[3] + 0.02
        found = all_values(law, OU, t, jnp.asarray(x))
        chex.assert_type(found, float)
        assert all(part.dtype == jnp.float64 for part in found)
        want = dense(POINTS, WEIGHTS, np.exp(-t), -np.expm1(-2 * t), x)
        chex.assert_trees_all_close(found, want, rtol=1e-9, atol=1e-12)
        h = 1e-6 * np.sqrt(t)
        log_prob = jax.jit(law.log_prob)
        for index in np.ndindex(x.shape):
            step = np.zeros(x.shape)
            step[index] = h
            slope = (log_prob(OU, t, x + step) - log_prob(OU, t, x - step)) / (2 * h)
            np.testing.assert_allclose(found[1][index], slope, rtol=1e-6, atol=1e-6)
        by_jax = jax.grad(law.log_prob, argnums=2)(OU, t, jnp.asarray(x))
        chex.assert_trees_all_close(found[1], by_jax, rtol=1e-9)


@pytest.mark.parametrize("x64", [False, True])
def test_data_far_from_zero(x64):
    """Points a few units apart, 1e4 from 0: nothing is lost but the rounding of x and of the points themselves."""
    with jax.enable_x64(x64):
        points = (1e4 + np.arange(12.0).reshape(6, 2) ** 1.3).astype(np.float64 if x64 else np.float32)
        law = empirical_law(points, block=4)
        x = jnp.asarray(points[2] + 0.5, points.dtype)
        sigma = 2.0
        found = all_values(law, VE, sigma, x)
        chex.assert_tree_all_finite(found)
        want = dense(points, np.ones(6), 1.0, sigma**2, np.asarray(x))
        # squares of 1e4 in float32 are off by 8, and exponents by 1
        chex.assert_trees_all_close(found[1:], want[1:], rtol=1e-12 if x64 else 2e-5, atol=1e-13 if x64 else 1e-6)
        np.testing.assert_allclose(found[0], want[0], rtol=2 * float(np.finfo(points.dtype).eps))


def test_states_keep_their_dtype_and_take_whole_numbers():
    law = empirical_law(POINTS[:, 0])
    assert law.denoise(VP, 0.3, jnp.zeros(3, jnp.bfloat16)).dtype == jnp.bfloat16
    assert law.score(VP, 0.3, jnp.zeros(3, jnp.bfloat16)).dtype == jnp.bfloat16
    assert law.denoise(VP, 0.3, jnp.zeros(3, int)).dtype == jnp.result_type(float)
    assert empirical_law([[0, 255], [3, 4]]).points.dtype == jnp.result_type(float)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_values_and_gradients_at_the_ends_of_time_and_far_away(x64, offset):
    """In x, in t and in the points: at clean data, one rounding above it, at T, and 1e4 from every point."""
    with jax.enable_x64(x64):
        law = empirical_law(POINTS[:, 0], block=4)
        x = jnp.asarray(POINTS[5, 0] + offset, law.points.dtype)

        def total(law, t, x):
            return jnp.sum(law.denoise(OU, t, x) ** 2) + jnp.sum(law.weights(OU, t, x) ** 2)

        slopes = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2), allow_int=True))
        for t in (0.0, 1e-12, 1e-6, 1e-2, 5.0):
            chex.assert_tree_all_finite(slopes(law, jnp.asarray(t, law.points.dtype), x))
            chex.assert_tree_all_finite(all_values(law, OU, t, x)[:2])
        near = np.argmin(np.sum((POINTS[:, 0] - np.asarray(x)) ** 2, 1))
        denoised, score, log_prob, weights = all_values(law, OU, 0.0, x)
        chex.assert_trees_all_close(denoised, jnp.asarray(POINTS[near, 0], x.dtype), rtol=1e-6)
        assert float(weights[near]) == 1.0
        assert np.all(score == 0)
        assert np.isnan(log_prob)


def test_points_that_coincide_share_their_weight_at_clean_data():
    law = empirical_law([[0.0], [1.0], [1.0]], [1.0, 1.0, 3.0])
    np.testing.assert_allclose(law.weights(VP, 0.0, jnp.array([0.9])), [0.0, 0.25, 0.75], rtol=1e-6)


def temporary(program):
    memory = program.memory_analysis()
    assert memory is not None
    return memory.temp_size_in_bytes


@pytest.mark.optimised
def test_no_array_of_points_times_states_times_dimensions():
    n, batch, d = 4096, 64, 64
    law = empirical_law(jnp.asarray(RNG.normal(size=(n, d)), jnp.float32))
    many = jax.jit(jax.vmap(law.denoise, (None, None, 0))).lower(VP, 0.3, jnp.zeros((batch, d), jnp.float32)).compile()
    assert temporary(many) < 4 * n * batch * d / 50
    slope = jax.grad(lambda x: jnp.sum(jax.vmap(law.denoise, (None, None, 0))(VP, 0.3, x)))
    back = jax.jit(slope).lower(jnp.zeros((batch, d), jnp.float32)).compile()
    assert temporary(back) < 4 * n * batch * d / 4  # of a block of 512 points


# where paths land -------------------------------------------------------------------------------------------------

FEW = np.array([[1.0, 0.0], [-0.6, 0.9], [-0.4, -1.1], [2.0, 1.5]], np.float32)
SHARES = np.array([1.0, 2.0, 2.0, 1.0])


def ends(make, count, steps):
    """Ends of paths from one state at T = 1, and the weights there."""
    schedule = bj.schedules.ou(T=1.0)
    law = empirical_law(FEW, SHARES)
    x = jnp.array([0.3, 0.1])
    back, grid = make(schedule, denoiser=law.denoiser(schedule)), bj.grids.log_snr(steps, schedule)
    starts = jnp.broadcast_to(x, (count, 2)) if make is bj.reverse else 1.5 * jax.random.normal(KEY, (count, 2))
    found = bj.simulate_batch(back, keys(KEY, count), starts, grid)
    distances = np.linalg.norm(np.asarray(found)[:, None] - FEW, axis=-1)
    return distances, np.asarray(law.weights(schedule, 1.0, x))


KEY = jax.random.key(11)


def test_reverse_paths_land_with_the_weights_at_their_start():
    count = 4000
    distances, weights = ends(bj.reverse, count, 400)  # a bias of 0.3 s.e.; 3 with 100 steps
    assert distances.min(axis=1).max() < 1e-3
    shares = np.mean(distances.argmin(axis=1)[:, None] == np.arange(4), axis=0)
    assert weights.max() < 0.5
    error = np.sqrt(weights * (1 - weights) / count)
    np.testing.assert_array_less(np.abs(shares - weights), 5 * error)


def test_every_probability_flow_ends_on_a_point():
    distances, _ = ends(bj.probability_flow, 500, 100)
    assert distances.min(axis=1).max() < 1e-3
    assert len(set(distances.argmin(axis=1))) == 4


def test_a_fixed_start_is_the_bridge_of_ou():
    """One point: the law of x_s given x_0 and x_t by the schedule's transitions (DDPM's posterior) is that of sinh."""
    with jax.enable_x64(True):
        s, t, x0, x = 0.4, 1.3, 0.7, -1.1
        near, far, total = OU.variance(0.0, s), OU.variance(s, t), OU.variance(0.0, t)
        mean = (OU.scale(0.0, s) * far * x0 + OU.scale(s, t) * near * x) / total
        want = bj.oracles.diffusions.ou_bridge(s, t, x0, x, sigma=2.0**0.5)
        chex.assert_trees_all_close((mean, near * far / total), want, rtol=1e-12)
        # and the mean of a reverse step with the law's score: x_t + sigma_ts^2 score, over the scale
        law = empirical_law([[x0]])
        score = law.score(OU, t, jnp.array([x]))[0]
        chex.assert_trees_all_close((x + far * score) / OU.scale(s, t), want[0], rtol=1e-12)


@pytest.mark.parametrize("way", ["reverse", "pin"])
def test_the_bridge_is_walked_both_ways(way):
    """From x at T back to the one point by the exact reversal, and from it to x by conditioning: one law in between."""
    count, s, x0, x = 4000, 0.4, 0.7, -1.1
    schedule = bj.schedules.ou(T=1.3)
    law, drawn = empirical_law([[x0]]), keys(KEY, count)
    if way == "pin":
        kernel = bj.pin(schedule, jnp.array([x])).terminal_kernel
        between = jax.vmap(lambda key: kernel.sample(key, jnp.array(0.0), jnp.array(s), jnp.array([x0]), None))(drawn)
    else:  # one step, whose law is exact for a denoiser that is constant
        back, ts = bj.reverse(schedule, denoiser=law.denoiser(schedule)), jnp.array([0.0, 1.3 - s, 1.3])
        walk = jax.jit(jax.vmap(lambda key: bj.simulate_path(back, key, jnp.array([x]), ts).xs[1:]))
        between, end = jnp.moveaxis(walk(drawn), 1, 0)
        np.testing.assert_allclose(end, x0, atol=1e-5)
    between = np.asarray(between, np.float64)
    mean, variance = bj.oracles.diffusions.ou_bridge(s, 1.3, x0, x, sigma=2.0**0.5)
    assert abs(between.mean() - mean) < 5 * np.sqrt(variance / count)
    assert abs(between.var() / variance - 1) < 5 * np.sqrt(2 / count)


# two times --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [OU, VP, VE])
def test_two_points_are_one_mode_above_the_speciation_time_and_two_below(schedule):
    with jax.enable_x64(True):
        law = empirical_law([[-1.5], [1.5]])
        t = speciation_time(schedule, law)
        assert t == pytest.approx(speciation_time(schedule, 2.25), rel=1e-9)

        def bend(t):
            slope = jax.grad(lambda x: law.score(schedule, t, x)[0])
            return float(slope(jnp.zeros(1))[0]) * float(schedule.variance(0.0, t))

        assert bend(1.001 * t) < -1e-4
        assert bend(0.999 * t) > 1e-4
        assert abs(bend(t)) < 1e-6


def test_speciation_is_at_the_first_principal_component():
    with jax.enable_x64(True):
        cov = np.array([[5.0, 2.0], [2.0, 3.0]])
        want = 0.5 * np.log1p(4 + np.sqrt(5.0))  # eigenvalues 4 +- sqrt 5
        assert speciation_time(OU, cov) == pytest.approx(want, rel=1e-9)
        points = np.random.default_rng(0).normal(size=(40, 3)) * [1.0, 3.0, 0.5]
        weights = np.arange(1.0, 41.0)
        top = np.linalg.eigvalsh(np.cov(points.T, aweights=weights, ddof=0)).max()
        for rows in (points, np.hstack([points, np.zeros((40, 60))])):  # fewer and more numbers than points
            assert speciation_time(OU, empirical_law(rows, weights)) == pytest.approx(0.5 * np.log1p(top), rel=1e-9)


@pytest.mark.parametrize(("n", "d", "spread"), [(1000, 20, 1.0), (2, 1, 3.0), (4096, 16, 0.2), (10**6, 3000, 1.0)])
def test_collapse_of_isotropic_gaussians(n, d, spread):
    """OU: log(1 + lambda / (n^(2/d) - 1)) / 2; variance exploding: sigma^2 = lambda / (n^(2/d) - 1)."""
    with jax.enable_x64(True):
        room = spread / np.expm1(2 * np.log(n) / d)
        assert collapse_time(OU, np.full(d, spread), n) == pytest.approx(0.5 * np.log1p(room), rel=1e-9)
        if room < VE.T**2:
            assert collapse_time(VE, np.full(d, spread), n) == pytest.approx(np.sqrt(room), rel=1e-9)


def test_collapse_of_a_spectrum_is_where_the_information_is_log_n():
    with jax.enable_x64(True):
        spectrum = 4.0 ** -np.arange(12.0)
        t = collapse_time(OU, spectrum, 500)
        assert 0.5 * np.sum(np.log1p(spectrum / np.expm1(2 * t))) == pytest.approx(np.log(500), rel=1e-9)
        turned = np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))[0]
        assert collapse_time(OU, (turned * spectrum) @ turned.T, 500) == pytest.approx(t, rel=1e-7)
        padded = np.append(spectrum, np.zeros(5))  # directions without variance tell nothing
        assert collapse_time(OU, padded, 500) == pytest.approx(t, rel=1e-9)


@pytest.mark.parametrize("variances", [np.ones(20), 4.0 ** -np.arange(12.0)])
def test_collapse_by_monte_carlo_is_that_of_the_closed_form(variances):
    law = bj.mixtures.gaussian_mixture(np.zeros((1, len(variances))), variances[None])
    found = estimate_collapse_time(jax.random.key(2), OU, law, n=1000, draws=2048)
    want = collapse_time(OU, variances, 1000)
    assert abs(found.time - want) < 5 * found.error
    assert 0 < found.error < 0.03 * want


def test_the_error_of_a_collapse_time_is_its_spread_over_keys():
    """200 keys: a standard deviation of 200 has a relative standard error of 1 / sqrt(398), five of which are 0.25."""
    law = bj.mixtures.gaussian_mixture(np.zeros((1, 8)), 1.0)
    many = jax.vmap(lambda a, b: _crossing(law, a, b, np.log(100), 0.0, 256))
    log_snr, error, left = jax.jit(many)(*(jax.random.split(jax.random.key(k), 200) for k in (5, 6)))
    assert abs(np.std(log_snr, ddof=1) / np.mean(error) - 1) < 0.25
    assert np.all(left > 0)
    # in time: log u = -2 t - log(1 - e^(-2 t)) has the slope -2 / (1 - e^(-2 t))
    found = estimate_collapse_time(KEY, OU, law, n=100, draws=256)
    assert 2 * found.error / -np.expm1(-2 * found.time) == pytest.approx(np.mean(error), rel=0.25)


def test_collapse_of_normal_points_is_beyond_that_of_their_law_by_what_help_says():
    law = empirical_law(np.random.default_rng(0).normal(size=(1000, 20)))
    found, want = estimate_collapse_time(KEY, OU, law, draws=512), collapse_time(OU, np.ones(20), 1000)
    assert abs(found.time - 1.08 * want) < 5 * found.error
    assert found.time > want + 2 * found.error


def test_collapse_of_data_is_where_points_have_even_odds_against_all_others():
    """Draws of one point's log odds against dense NumPy; their mean is 0 at the time found, with draws of our own."""
    points = np.random.default_rng(8).normal(size=(200, 10)) * 3 + 50.0
    law = empirical_law(points, np.linspace(1, 2, 200), block=64)
    found = estimate_collapse_time(jax.random.key(3), OU, law, draws=512)
    alpha, variance = np.exp(-found.time), -np.expm1(-2 * found.time)
    rng, odds = np.random.default_rng(4), []
    w = np.linspace(1, 2, 200) / np.linspace(1, 2, 200).sum()
    for i in rng.choice(200, 2000, p=w):
        x = alpha * points[i] + np.sqrt(variance) * rng.normal(size=10)
        logs = np.log(w) - np.sum((x - alpha * points) ** 2, 1) / (2 * variance)
        others = np.delete(logs, i)
        odds.append(logs[i] - others.max() - np.log(np.sum(np.exp(others - others.max()))))
    slope = np.std(odds) / np.sqrt(512) / found.error  # of the mean odds in time, as the error has it
    error = np.hypot(np.std(odds) / np.sqrt(2000), slope * found.error)
    assert abs(np.mean(odds)) < 5 * error
    # moved by 5 errors of time and more the odds are no longer even
    one = jax.jit(jax.vmap(_excess, (None, None, 0, 0)))
    log_snr = np.log(alpha**2 / variance)
    two = [jax.random.split(jax.random.key(k), 2000) for k in (6, 7)]
    assert np.mean(one(law, log_snr + 0.7, *two)) > 5 * error
    assert np.mean(one(law, log_snr - 0.7, *two)) < -5 * error


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: estimate_collapse_time(KEY, OU, empirical_law([[1.0]])), "law must have at least two points"),
        (lambda: estimate_collapse_time(KEY, OU, empirical_law([[1.0], [1.0]])), "law must have a positive eigenvalue"),
        (lambda: estimate_collapse_time(KEY, OU, empirical_law([[1.0], [1.0], [2.0], [2.0]])), "law holds points that"),
        (lambda: estimate_collapse_time(KEY, OU, empirical_law(FEW), n=4), "n must be None"),
        (lambda: estimate_collapse_time(KEY, OU, bj.mixtures.gaussian_mixture([[1.0]]), 4), "law must have a positive"),
        (lambda: estimate_collapse_time(KEY, OU, bj.mixtures.gaussian_mixture([[1.0]], 1.0)), "n must say"),
        (lambda: collapse_time(OU, 1.0), "n must say"),
        (lambda: collapse_time(OU, empirical_law([[1.0]])), "n must be an integer >= 2"),
        (lambda: collapse_time(OU, empirical_law([[1.0], [1.0]])), "covariance must have a positive eigenvalue"),
        (lambda: speciation_time(OU, 1e6), "schedule ends at"),
        (lambda: collapse_time(bj.schedules.ou(T=0.1), np.ones(20), 1000), "schedule ends at"),
        (lambda: jax.jit(lambda c: speciation_time(OU, c))(1.0), "covariance must be concrete"),
        (lambda: jax.jit(lambda c: collapse_time(OU, c))(empirical_law(FEW)), "covariance must be concrete"),
    ],
)
def test_what_has_no_time_says_so(call, words):
    with pytest.raises(ValueError, match=words):
        call()
