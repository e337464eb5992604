import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bridgejax.bridges import interpolants
from bridgejax.objectives import matching, times, weightings
from bridgejax.processes import keys, schedules

N = 4000


@pytest.fixture(scope="module")
def many():
    return keys(jax.random.key(3), N)


def test_uniform_is_uniform_and_a_function_of_each_key(many):
    draw = times.uniform(0.1, 0.9)
    t = np.asarray(draw(many))
    assert t.min() >= 0.1
    assert t.max() <= 0.9
    # Kolmogorov-Smirnov at five standard errors: P(sqrt(n) D > 2.6) is about 3e-6
    assert np.sqrt(N) * stats.kstest(t, stats.uniform(0.1, 0.8).cdf).statistic < 2.6
    np.testing.assert_array_equal(np.asarray(draw(many[5:9])), t[5:9])


def test_low_discrepancy_is_an_even_grid_with_a_uniform_shift(many):
    draw = jax.jit(times.low_discrepancy(2.0, 4.0))
    t = np.sort(np.asarray(draw(many[:50])))
    gaps = np.diff(np.append(t, t[0] + 2.0))
    np.testing.assert_allclose(gaps, 2.0 / 50, rtol=1e-3)
    first = np.asarray(jax.vmap(lambda key: draw(keys(key, 4))[0])(many[:1000]))
    assert np.sqrt(1000) * stats.kstest(first, stats.uniform(2.0, 2.0).cdf).statistic < 2.6


def test_low_discrepancy_lowers_the_variance_of_a_mean(many):
    def spread(draw):
        means = jax.vmap(lambda key: jnp.mean(draw(keys(key, 32)) ** 2))(many[:200])
        return float(jnp.var(means))

    # independent draws: (1/5 - 1/9)/B; the shifted grid: the mean of t^2 moves by (B-1)/B times the shift in [0, 1/B).
    # A variance of 200 uniform values has a relative standard error of sqrt(0.8 / 200), of others at most sqrt(2 / 200)
    grid, independent = spread(times.low_discrepancy(0.0, 1.0)), spread(times.uniform(0.0, 1.0))
    assert abs(grid / ((31 / 32) ** 2 / 12 / 32**2) - 1) < 5 * np.sqrt(0.8 / 200)
    assert abs(independent / ((1 / 5 - 1 / 9) / 32) - 1) < 5 * np.sqrt(2 / 200)


def test_log_normal_and_logit_normal_laws(many):
    log_sigma = np.log(np.asarray(times.log_normal(-1.2, 1.2, 1e-8, 1e8)(many)))
    assert np.sqrt(N) * stats.kstest(log_sigma, stats.norm(-1.2, 1.2).cdf).statistic < 2.6
    t = np.asarray(times.logit_normal(0.5, 0.8, 1e-9, 3.0)(many), np.float64) / 3.0
    assert np.sqrt(N) * stats.kstest(np.log(t / (1 - t)), stats.norm(0.5, 0.8).cdf).statistic < 2.6


@pytest.mark.parametrize("make", [times.uniform, times.low_discrepancy])
def test_an_empty_range_is_refused(make):
    with pytest.raises(ValueError, match="low must be below high"):
        make(1.0, 1.0)


# importance -----------------------------------------------------------------------------------------------------------


def test_importance_has_the_density_it_was_given(many):
    """p(t) = 2 t on [0, 1], and 1/t on [0.01, 1] of a ve-like schedule's g^2/sigma^2, by Kolmogorov and Smirnov."""
    t = np.asarray(jax.jit(times.importance(lambda t: t, 0.0, 1.0))(many))
    assert np.sqrt(N) * stats.kstest(t, lambda u: u**2).statistic < 2.6
    t = np.asarray(times.importance(schedules.karras(80.0), 0.01)(many))
    assert t.min() >= 0.01
    assert t.max() <= 80.0
    assert np.sqrt(N) * stats.kstest(t, stats.loguniform(0.01, 80.0).cdf).statistic < 2.6
    # the correction is one over (high - low) times the density, up to the width of a cell (a relative 1e-2)
    sampler = times.importance(schedules.karras(80.0), 0.01)
    density = 1 / (t * np.log(8000.0))
    np.testing.assert_allclose(jax.vmap(sampler.correction)(t) * density * (80.0 - 0.01), 1.0, rtol=0.02)


@pytest.mark.parametrize("cells", [1, 7, 1024])
def test_importance_keeps_the_mean_whatever_its_table(many, cells):
    """However coarse the table, the density drawn is the one corrected for."""
    sampler = times.importance(lambda t: t**2 + 0.01, 0.2, 2.0, num=cells)
    t = sampler(many)
    value = np.asarray(jnp.sin(3 * t) * jax.vmap(sampler.correction)(t), np.float64)
    truth = (np.cos(0.6) - np.cos(6.0)) / 3 / 1.8
    assert abs(value.mean() - truth) < 5 * value.std() / np.sqrt(N)


def test_likelihood_weighting_is_estimated_alike_and_with_less_variance():
    """The same weighted loss from uniform and from importance times, with a twelfth of the variance."""
    n, schedule = 20_000, schedules.vp()
    path, weight = interpolants.diffusion(schedule), weightings.weight(schedule, "eps", "likelihood")
    x = np.float32(np.random.default_rng(0).standard_normal((n, 1, 2)))
    rows = keys(jax.random.key(1), n)[:, None]

    def apply(params, t, x, args):  # some network
        return 0.4 * x

    def parts(sampler):
        loss = matching(path, apply, "eps", times=sampler, weight=weight)
        return np.asarray(jax.jit(jax.vmap(lambda k, x: loss(None, k, x)[0]))(rows, x), np.float64)

    even, drawn = parts(times.uniform(1e-3, 1.0)), parts(times.importance(schedule))
    difference, error = even.mean() - drawn.mean(), np.sqrt((even.var() + drawn.var()) / n)
    assert error < 0.05 * drawn.mean()
    assert abs(difference) < 5 * error
    assert drawn.var() < even.var() / 8


def test_importance_is_a_pytree_that_any_sampler_drives(many):
    sampler = times.importance(schedules.cosine(), draw=times.low_discrepancy(0.0, 1.0))
    t = np.sort(np.asarray(jax.jit(lambda s, k: s(k))(sampler, many[:64])))
    place = np.interp(t, np.asarray(sampler.quantiles), np.linspace(0, 1, 1025))
    np.testing.assert_allclose(np.diff(place), 1 / 64, atol=1e-4)
    assert times.correction(times.uniform()) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(density=lambda t: -t), "density must be one finite number >= 0"),
        (dict(density=lambda t: 0 * t), "not zero everywhere"),
        (dict(density=lambda t: 1 / t, low=0.0), "density must be one finite number"),
        (dict(density=lambda t: jnp.stack([t, t])), r"got shape \(2,\)"),
        (dict(density=3.0), "density must be a Schedule or a function"),
        (dict(density=schedules.vp(), low=0.0), r"low and high must lie in \(0, T = 1\]"),
        (dict(density=schedules.vp(), high=2.0), r"low and high must lie in \(0, T = 1\]"),
        (dict(density=schedules.vp(), low=0.5, high=0.5), "low must be below high"),
        (dict(density=schedules.vp(), num=0), "num, the number of cells"),
        (dict(density=schedules.vp(), draw=0.5), "draw must be a time sampler"),
        (
            dict(density=lambda t: jnp.ones_like(t), low=1.0, high=1.0 + 100 * float(jnp.finfo(float).eps)),
            "use a smaller num",
        ),
    ],
)
def test_importance_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        times.importance(**arguments)


def test_along_a_grid(many):
    """Every step of the grid is met equally often, evenly over the batch."""
    ts = np.array([0.0, 0.5, 0.8, 0.9])
    t = np.asarray(jax.jit(times.along(ts))(many))
    counts = np.histogram(t, ts)[0]
    assert np.all(np.abs(counts - len(t) / 3) <= 1)
    with pytest.raises(ValueError, match="two increasing times"):
        times.along([0.5, 0.5])


def test_the_defaults_of_edm_and_of_the_logit_normal():
    """log t ~ N(-1.2, 1.2^2), and logit t ~ N(0, 1): within what 4096 draws tell, ends clipped."""
    some = keys(jax.random.key(3), 4096)
    logs = np.log(np.asarray(times.log_normal()(some), np.float64))
    assert abs(logs.mean() + 1.2) < 5 * 1.2 / 64
    assert abs(logs.std() / 1.2 - 1) < 5 / np.sqrt(2 * 4096)
    t = np.asarray(times.logit_normal()(some), np.float64)
    logits = np.log(t / (1 - t))
    assert abs(logits.mean()) < 5 / 64
    assert abs(logits.std() - 1) < 5 / np.sqrt(2 * 4096)
