"""Restricted Gaussians against numerical truths in float64: moments, densities, draws, and the extremes of float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from bridgejax.geometry import domains
from bridgejax.processes._keys import keys

N, FEW = 40_000, 4_000
POINTS = jnp.array([[0.0, 1.0], [1.5, -0.5], [-1.0, -1.0], [0.3, 0.2]])
MIXED = domains.Product(
    [domains.Reals(), domains.Box(-1.0, 0.5), domains.IntegerGrid(0, 4), domains.Categorical(3), domains.HalfLine(0.0)],
    [2, 1, 2, 3, 1],
)


def truncated(mean, sd, low, high):
    return scipy.stats.truncnorm((low - mean) / sd, (high - mean) / sd, loc=mean, scale=sd)


@pytest.mark.parametrize("mean", [-30.0, -1.0, 0.2, 0.65, 0.9, 3.0, 50.0])
@pytest.mark.parametrize("sd", [1e-3, 0.05, 0.5, 10.0])
def test_box_moments(mean, sd):
    box = domains.Box(0.3, 1.0)
    got = float(box.expectation(jnp.float32([mean]), jnp.float32(sd**2))[0])
    with np.errstate(all="ignore"):
        want = truncated(np.float64(np.float32(mean)), sd, np.float32(0.3), 1.0).mean()
    far = max(0.3 - mean, mean - 1.0) / sd
    if far > 30:  # SciPy has no digits left there; the tail is exponential of this scale
        gap = sd * (1.0 / far - 2.0 / far**3)
        want = (0.3 + gap) if mean < 0.3 else (1.0 - gap)
    # rounding of the ends, and the tail formula's next term
    assert abs(got - want) < 2e-6 + (10.0 * sd / far**5 if far > 30 else 0.0)


def test_box_density_integrates_and_matches():
    box = domains.Box(0.3, 1.0)
    ys = jnp.linspace(0.3, 1.0, 2001)
    for mean, sd in ((0.2, 0.3), (2.0, 0.1), (0.6, 5.0)):
        logs = jax.vmap(lambda y, m=mean, s=sd: box.log_prob(y[None], jnp.float32([m]), jnp.float32(s**2)))(ys)
        np.testing.assert_allclose(jnp.trapezoid(jnp.exp(logs), ys), 1.0, atol=3e-4)
        want = truncated(mean, sd, 0.3, 1.0).logpdf(np.asarray(ys[5:-5]))
        np.testing.assert_allclose(logs[5:-5], want, atol=2e-3 + 2e-5 * np.abs(want).max())
    assert box.log_prob(jnp.float32([1.1]), jnp.float32([0.5]), jnp.float32(1.0)) == -jnp.inf


@pytest.mark.parametrize(("mean", "sd"), [(0.2, 0.3), (2.0, 0.2), (-4.0, 0.5), (0.6, 5.0), (9.0, 0.5)])
def test_box_draws(mean, sd, key):
    box = domains.Box(0.3, 1.0)
    draws = jax.jit(jax.vmap(lambda k: box.sample(k, jnp.float32([mean]), jnp.float32(sd**2))))(keys(key, N))
    assert bool(jnp.all(jax.jit(jax.vmap(box.contains))(draws)))
    u = np.asarray(draws)[:, 0].astype(np.float64)
    if (mean - 1.0) / sd > 12:
        assert (
            scipy.stats.kstest(gap_distribution((1.0 - u) / sd, (mean - 1.0) / sd, 0.7 / sd), "uniform").pvalue > 1e-6
        )
    else:
        # Kolmogorov-Smirnov, 5-sigma-like level
        assert scipy.stats.kstest(u, truncated(mean, sd, np.float32(0.3), 1.0).cdf).pvalue > 1e-6


def gap_distribution(gap, beyond, width):
    """P(Z - beyond <= gap | beyond <= Z <= beyond + width), in float64 logarithms."""
    log = [scipy.special.log_ndtr(-(beyond + g)) for g in (0.0, gap, width)]
    return np.expm1(log[1] - log[0]) / np.expm1(log[2] - log[0])


@pytest.mark.parametrize("side", [1.0, -1.0])
@pytest.mark.parametrize("sd", [1.0, 1e-3])
def test_box_draws_any_number_of_deviations_outside(side, sd, key):
    """Half-lines and boxes whose mean is 0 to 1e4 deviations beyond the wall, by Kolmogorov and Smirnov."""
    beyond = np.float32([0.0, 5.0, 7.99, 8.01, 9.3, 10.0, 12.0, 30.0, 1e4])
    width = np.float32([np.inf, 1.0, 0.02, 1e-4])
    cases = [(b, w) for b in beyond for w in width]
    means, widths = side * -sd * np.float32([b for b, _ in cases]), sd * np.float32([w for _, w in cases])
    box = domains.Box(0.0, jnp.asarray(widths)) if side > 0 else domains.Box(jnp.asarray(-widths), 0.0)
    draw = jax.jit(jax.vmap(lambda k: box.sample(k, jnp.asarray(means), jnp.float32(sd) ** 2)))
    gaps = np.abs(np.asarray(draw(keys(key, FEW)), np.float64)) / np.float32(sd)
    for k, (b, w) in enumerate(cases):
        u = gap_distribution(gaps[:, k], np.float64(b), min(np.float64(w), 60.0))
        assert scipy.stats.kstest(u, "uniform").pvalue > 1e-6, (b, w)
        assert len(np.unique(gaps[:, k])) > 0.9 * FEW
    slope = jax.grad(lambda m, v: jnp.sum(box.sample(key, m, v)), (0, 1))(jnp.asarray(means), jnp.float32(sd) ** 2)
    assert all(np.isfinite(g).all() for g in slope)


@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize(
    "domain",
    [domains.Simplex(3), domains.Sphere(), domains.IntegerGrid(-1, 2), domains.HalfLine()],
    ids=type,
)
def test_draws_far_outside_have_the_mean_that_is_computed(domain, scale, key):
    mean, variance = scale * jnp.float32([-1.0, 0.4, 0.2]), jnp.float32(0.5)
    draws = jax.jit(jax.vmap(lambda k: domain.sample(k, mean, variance)))(keys(key, FEW))
    draws = np.asarray(draws, np.float64)
    error = 5 * draws.std(axis=0) / np.sqrt(FEW) + 1e-6
    assert (np.abs(draws.mean(axis=0) - np.asarray(domain.expectation(mean, variance))) < error).all()


def test_half_lines_and_free_coordinates():
    line = domains.HalfLine(0.0)
    for mean, sd in ((-3.0, 0.5), (0.0, 1.0), (4.0, 0.1), (-200.0, 1.0)):
        want = truncated(mean, sd, 0.0, np.inf).mean() if mean > -100 else 1.0 / 200.0
        got = line.expectation(jnp.float32([mean]), jnp.float32(sd**2))[0]
        np.testing.assert_allclose(got, want, rtol=2e-4 if mean < -100 else 2e-5)
    both = domains.Box(jnp.array([0.0, -jnp.inf]), jnp.array([jnp.inf, jnp.inf]))
    got = both.expectation(jnp.float32([-1.0, -1.0]), jnp.float32(0.25))
    np.testing.assert_allclose(got, [truncated(-1.0, 0.5, 0.0, np.inf).mean(), -1.0], rtol=1e-5)


@pytest.mark.parametrize(
    "domain", [domains.FinitePoints(POINTS), domains.IntegerGrid(-1, 2), domains.Categorical(2)], ids=type
)
def test_finite_sets(domain, key):
    """Expectation, draws and probabilities are those of the enumerated set."""
    mean, variance = jnp.array([0.4, -0.2]), jnp.float32(0.6)
    if isinstance(domain, domains.FinitePoints):
        table = np.asarray(POINTS)
    elif isinstance(domain, domains.Categorical):
        table = np.eye(2)
    else:
        table = np.stack(np.meshgrid(np.arange(-1, 3.0), np.arange(-1, 3.0)), axis=-1).reshape(-1, 2)
    logits = -0.5 * ((table - np.asarray(mean)) ** 2).sum(1) / 0.6
    weights = scipy.special.softmax(logits)
    np.testing.assert_allclose(domain.expectation(mean, variance), weights @ table, atol=1e-6)
    got = jax.jit(jax.vmap(lambda y: domain.log_prob(y, mean, variance)))(jnp.float32(table))
    np.testing.assert_allclose(np.exp(got), weights, rtol=1e-5)
    draws = np.asarray(jax.jit(jax.vmap(lambda k: domain.sample(k, mean, variance)))(keys(key, N)))
    assert bool(jnp.all(jax.jit(jax.vmap(domain.contains))(draws)))
    counts = (draws[:, None, :] == table[None]).all(-1).mean(0)
    assert np.all(np.abs(counts - weights) < 5 * np.sqrt(weights * (1 - weights) / N) + 1e-9)


def test_finite_sets_far_from_zero_keep_their_digits(key):
    """Points at an offset, and many levels: differences first, against float64."""
    rng = np.random.default_rng(0)
    points = (1e4 + rng.normal(size=(50, 3))).astype(np.float32)
    table = domains.FinitePoints(jnp.asarray(points))
    x = (1e4 + rng.normal(size=(200, 3))).astype(np.float32)
    gaps = ((points[None].astype(np.float64) - x[:, None]) ** 2).sum(-1)
    np.testing.assert_array_equal(jax.vmap(table.snap)(x), points[gaps.argmin(1)])
    weights = scipy.special.softmax(-gaps / (2 * 0.1), axis=1)
    want = weights @ points.astype(np.float64)
    np.testing.assert_allclose(jax.vmap(lambda m: table.expectation(m, jnp.float32(0.1)))(x), want, atol=4e-3)
    logs = jax.vmap(lambda m: table.log_prob(jnp.asarray(points[7]), m, jnp.float32(0.1)))(x)
    np.testing.assert_allclose(logs, np.log(weights[:, 7]), rtol=1e-4, atol=1e-4)

    grid, mean = domains.IntegerGrid(0, 65535), jnp.full(200, 50_000.25, jnp.float32)
    levels = np.arange(49_900, 50_100)
    mass = scipy.special.softmax(-0.5 * (levels - 50_000.25) ** 2)
    drawn = np.asarray(grid.sample(key, mean, jnp.float32(1.0)), np.float64)
    assert abs(drawn.mean() - levels @ mass) < 5 / np.sqrt(200)
    assert abs(drawn.std() - 1.0) < 5 / np.sqrt(400)
    np.testing.assert_allclose(grid.expectation(mean[:1], jnp.float32(0.04))[0], 50_000.0019, atol=4e-3)
    log = grid.log_prob(jnp.full(1, 50_001.0), mean[:1], jnp.float32(1.0))
    np.testing.assert_allclose(log, np.log(mass[101]), rtol=1e-5)


def test_the_mean_of_a_thousand_levels_is_that_of_all_of_them():
    # above 512 levels only the nearest are looked at, or an integral: float64 softmaxes over all, means in and outside
    domain = domains.IntegerGrid(-1.0, 4.0, 0.005)
    levels = np.asarray(domain.levels, np.float64)
    mean = np.float32([-30.0, -1.2, -1.0, -0.99, 0.3, 1.2345, 3.98, 4.0, 4.01, 12.0])
    expectation = jax.jit(domain.expectation)
    for sd in (1e-4, 0.01, 0.039, 0.041, 0.1, 1.5):
        costs = (levels - mean[:, None].astype(np.float64)) ** 2 / (2 * sd**2)
        weights = np.exp(costs.min(axis=1, keepdims=True) - costs)
        wanted = (weights @ levels) / weights.sum(axis=1)
        got = np.asarray(expectation(jnp.asarray(mean), jnp.float32(sd**2)))
        assert np.abs(got - wanted).max() < 2e-3 * sd + 2e-5
    slope = jax.jit(jax.grad(lambda m: domain.expectation(m, jnp.float32(0.01))))(jnp.float32(0.3))
    assert float(slope) == pytest.approx(1.0, abs=1e-3)


def bessel_ratio_in_float64(d, kappa):
    if 3.0 * kappa > d:
        return scipy.special.ive(d / 2, kappa) / scipy.special.ive(d / 2 - 1, kappa)
    below = d + 400.0
    for k in range(199, -1, -1):
        below = d + 2.0 * k + kappa**2 / below
    return kappa / below


@pytest.mark.parametrize("d", [2, 3, 8, 30, 100, 1000])
def test_bessel_ratio(d):
    kappas = [1e-3, 0.5, 5.0, 22.0, 24.0, 60.0, 119.9, 120.1, 199.9, 200.1, 300.0, 1019.0, 1021.0, 1e4, 1e5, 1e6]
    kappas = np.asarray(np.float32(kappas), np.float64)
    want = np.array([bessel_ratio_in_float64(d, kappa) for kappa in kappas])
    value_and_slope = jax.jit(jax.vmap(jax.value_and_grad(lambda kappa: domains.bessel_ratio(d, kappa))))
    value, slope = value_and_slope(jnp.asarray(kappas, jnp.float32))
    np.testing.assert_allclose(value, want, rtol=1e-6)
    np.testing.assert_allclose(slope, 1.0 - want**2 - (d - 1) * want / kappas, rtol=2e-3)  # Riccati's equation


@pytest.mark.parametrize("d", [3, 100])
def test_derivatives_of_the_mean_on_the_sphere(d):
    """By the mean and the variance, next to 0, at the seams and far out: A_d (kappa) times the direction in float64."""
    for length, variance in ((0.0, 1.0), (1e-3, 1.0), (1.0, 1 / 60), (1.0, 1 / 119), (1.0, 1 / 201), (2.0, 1e-6)):
        mean = jnp.zeros(d).at[1].set(length)
        slope, by_variance = jax.jacrev(domains.Sphere().expectation, (0, 1))(mean, jnp.float32(variance))
        kappa = length / float(np.float32(variance))
        ratio = bessel_ratio_in_float64(d, kappa)
        along = 1 - ratio**2 - (d - 1) * (ratio / kappa if kappa else 1 / d)
        across = ratio / length if length else 1 / (d * variance)
        np.testing.assert_allclose(slope[0, 0], across, rtol=1e-5)
        np.testing.assert_allclose(slope[1, 1], along / variance, rtol=2e-3, atol=1e-6 * across)
        np.testing.assert_allclose(by_variance[1], -along * kappa / variance, rtol=2e-3)


@pytest.mark.parametrize("d", [2, 3, 8])
@pytest.mark.parametrize("kappa", [0.5, 20.0, 1e4])
def test_sphere(d, kappa, key):
    sphere, n = domains.Sphere(), 10_000
    mean = jnp.zeros(d).at[1].set(2.0)
    variance = jnp.float32(2.0 / kappa)
    draws = jax.jit(jax.vmap(lambda k: sphere.sample(k, mean, variance)))(keys(key, n))
    assert bool(jnp.all(jax.jit(jax.vmap(sphere.contains))(draws)))
    want = np.asarray(sphere.expectation(mean, variance))
    np.testing.assert_allclose(
        want[1], scipy.special.ive(d / 2, kappa) / scipy.special.ive(d / 2 - 1, kappa), rtol=1e-6
    )
    x = np.asarray(draws, np.float64)
    assert np.all(np.abs(x.mean(0) - want) < 5 * x.std(0) / np.sqrt(n) + 1e-6)


def test_density_on_the_two_sphere():
    """Integrates to one over the surface, by quadrature in the cosine."""
    sphere, mean = domains.Sphere(), jnp.array([0.0, 0.0, 1.0])
    cosines = jnp.linspace(-1.0, 1.0, 4001)
    points = jnp.stack([jnp.sqrt(1 - cosines**2), jnp.zeros(4001), cosines], axis=1)
    for variance in (0.1, 1.0, 1e8):
        logs = jax.vmap(lambda y, v=variance: sphere.log_prob(y, mean, jnp.float32(v)))(points)
        np.testing.assert_allclose(2 * np.pi * jnp.trapezoid(jnp.exp(logs), cosines), 1.0, rtol=1e-4)


def test_product(key):
    mean = jnp.array([0.1, -2.0, 0.9, 1.2, 3.9, 0.2, 0.5, 0.1, -0.4])
    draws = jax.jit(jax.vmap(lambda k: MIXED.sample(k, mean, jnp.float32(0.3))))(keys(key, 4000))
    assert draws.shape == (4000, 9)
    assert bool(jnp.all(jax.jit(jax.vmap(MIXED.contains))(draws)))
    want = jax.jit(MIXED.expectation)(mean, jnp.float32(0.3))
    x = np.asarray(draws)
    assert np.all(np.abs(x.mean(0) - want) < 5 * x.std(0) / np.sqrt(4000) + 1e-6)

    def parts(y):
        return sum(d.log_prob(a, b, 0.3) for d, a, b in zip(MIXED.parts, MIXED._blocks(y), MIXED._blocks(mean)))

    whole = jax.jit(lambda y: MIXED.log_prob(y, mean, 0.3))(draws[0])
    np.testing.assert_allclose(whole, jax.jit(parts)(draws[0]), rtol=1e-6)
    assert not bool(MIXED.contains(mean))
    assert bool(MIXED.contains(MIXED.snap(mean)))


EVERY = {
    "reals": (domains.Reals(), (3,)),
    "box": (domains.Box(-1.0, 0.5), (3,)),
    "half": (domains.HalfLine(), (3,)),
    "grid": (domains.IntegerGrid(0, 16), (4, 4, 1)),
    "categorical": (domains.Categorical(4), (3, 3, 4)),
    "points": (domains.FinitePoints(POINTS), (2,)),
    "sphere": (domains.Sphere(), (3,)),
    "product": (MIXED, (9,)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_finite_values_and_gradients_at_every_scale(name, key):
    """From no variance at all to far too much, near and far from the set: nothing overflows in float32."""
    domain, shape = EVERY[name]
    f = jax.jit(lambda m, v: domain.expectation(m, v))
    slope = jax.jit(jax.jacfwd(lambda m, v: jnp.sum(domain.expectation(m, v) ** 2)))
    draw = jax.jit(lambda k, m, v: domain.contains(domain.sample(k, m, v)))
    for scale in (0.0, 1.0, 1e4):
        mean = scale * jax.random.normal(key, shape)
        for variance in (0.0, 1e-12, 1e-3, 1.0, 1e6):
            v = jnp.float32(variance)
            assert np.all(np.isfinite(f(mean, v))), (scale, variance)
            assert np.all(np.isfinite(slope(mean, v))), (scale, variance)
            assert bool(draw(key, mean, v)), (scale, variance)
    assert domain.expectation(jnp.ones(shape, jnp.bfloat16), jnp.float32(0.5)).shape == shape


BAD = {
    "box": (lambda: domains.Box(1.0, 1.0), "low must lie below high"),
    "grid": (lambda: domains.IntegerGrid(0, 2.5), "whole number of spacings"),
    "spacing": (lambda: domains.IntegerGrid(0, 2, -1.0), "spacing be positive"),
    "categories": (lambda: domains.Categorical(1), "count must be an integer >= 2"),
    "last axis": (lambda: domains.Categorical(3).snap(jnp.ones(2)), "last axis of 3"),
    "points": (lambda: domains.FinitePoints(jnp.zeros((0, 2))), "K >= 1"),
    "sizes": (lambda: domains.Product([domains.Reals()], [1, 2]), "one positive integer for each of the 1 domains"),
    "vector": (lambda: MIXED.contains(jnp.ones(3)), "vectors of length 9"),
    "sphere": (lambda: domains.Sphere().log_prob(jnp.ones(2), jnp.ones(2), 1.0), "given for d = 3"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("domain", "low", "high"),
    [
        (domains.Box(0.3, 1.0), 0.3, 1.0),
        (domains.HalfLine(0.3), 0.3, np.inf),
        (domains.IntegerGrid(0.0, 1.0, 1 / 1024), -1 / 2048, 1 + 1 / 2048),  # as the integral over its cells
    ],
    ids=["box", "half", "levels"],
)
def test_derivatives_of_the_mean(domain, low, high):
    """dE/dmean and dE/dvariance against differences of SciPy's truncated normal, in float64."""
    slopes = jax.jit(jax.vmap(jax.grad(lambda m, v: domain.expectation(m[None], v)[0], (0, 1))))
    cases = [(m, v) for m in (-0.4, 0.5, 0.9, 1.6) for v in (0.02, 0.3)]

    def mean(m, v):
        return truncated(m, np.sqrt(v), low, high).mean()

    found = np.stack(slopes(*jnp.asarray(cases, jnp.float32).T), axis=1)
    h = 1e-5
    want = [[(mean(m + h, v) - mean(m - h, v)) / 2 / h, (mean(m, v + h) - mean(m, v - h)) / 2 / h] for m, v in cases]
    np.testing.assert_allclose(found, want, rtol=5e-3, atol=2e-4)
