import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bridgejax.objectives import times
from bridgejax.processes import keys

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
