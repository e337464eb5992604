"""Energy distance and MMD: point masses, the line, Gaussians with their exact bias, and the formula without blocks."""

import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import foldnorm

from bridgejax.metrics import energy_distance, median_bandwidth, mmd

RNG = np.random.default_rng(0)
NUMBERS = st.floats(-100, 100, allow_subnormal=False)


def distances(x, y):
    return np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1))


# --- energy distance --------------------------------------------------------------------------------------------


@pytest.mark.fast
@pytest.mark.parametrize("r", [0.0, 0.5, 7.0])
def test_energy_of_two_point_masses_is_twice_their_distance(r):
    x, y = np.zeros((4, 3)), np.tile([0.0, 0.6 * r, 0.8 * r], (9, 1))
    assert energy_distance(x, y) == pytest.approx(2 * r, rel=1e-12)


@given(hnp.arrays(float, st.integers(1, 30), elements=NUMBERS), hnp.arrays(float, st.integers(1, 30), elements=NUMBERS))
@settings(max_examples=60, deadline=None)
def test_energy_on_the_line_is_twice_the_cramer_distance(x, y):
    """energy^2 = 2 int (F - G)^2, exactly, for the two empirical distribution functions."""
    ends = np.sort(np.concatenate([x, y]))
    f, g = (np.searchsorted(np.sort(s), ends[:-1], side="right") / len(s) for s in (x, y))
    assert energy_distance(x, y) == pytest.approx(2 * np.sum((f - g) ** 2 * np.diff(ends)), rel=1e-9, abs=1e-9)


def test_energy_of_gaussians_with_the_bias_of_the_v_statistic():
    """E value = truth + E|X - X'|/n + E|Y - Y'|/m, the mean of independent replicates within 5 standard errors."""
    n, m, shift, scale, replicates = 60, 40, 1.0, 2.0, 400

    def absolute(mean, variance):
        deviation = np.sqrt(variance)
        return foldnorm.mean(mean / deviation, scale=deviation)

    xx, yy = absolute(0, 2), absolute(0, 2 * scale**2)
    truth = 2 * absolute(shift, 1 + scale**2) - xx - yy
    rng = np.random.default_rng(1)
    values = [energy_distance(rng.normal(size=n), shift + scale * rng.normal(size=m)) for _ in range(replicates)]
    error = np.std(values, ddof=1) / np.sqrt(replicates)
    assert error < 0.05 * truth
    assert np.mean(values) == pytest.approx(truth + xx / n + yy / m, abs=5 * error)
    assert 5 * error < xx / n + yy / m  # the test sees the bias


@pytest.mark.parametrize(("n", "m", "d"), [(1, 1, 1), (513, 1200, 2), (1025, 7, 5), (3, 4500, 2)])
def test_energy_by_blocks_is_the_formula(n, m, d):
    x, y = RNG.normal(size=(n, d)), RNG.normal(1.0, 2.0, (m, d))
    within = distances(x, x).mean() + (distances(y, y).mean() if m < 4000 else _chunked_mean(y))
    assert energy_distance(x, y) == pytest.approx(2 * distances(x, y).mean() - within, rel=1e-9)


def _chunked_mean(y):
    return np.mean([distances(part, y).mean() for part in np.array_split(y, 20)])


def test_energy_of_a_sample_with_itself_is_zero_and_never_negative():
    x = RNG.normal(size=(700, 3)) + 1e4
    assert energy_distance(x, x) == pytest.approx(0.0, abs=1e-12)
    assert energy_distance(x, x[RNG.permutation(700)]) >= 0.0


def test_energy_is_symmetric_homogeneous_and_flattens():
    x, y = RNG.normal(size=(30, 4)), RNG.normal(1.0, 1.0, (40, 4))
    value = energy_distance(x, y)
    assert isinstance(value, float)
    assert energy_distance(y, x) == pytest.approx(value, rel=1e-12)
    assert energy_distance(3 * x, 3 * y) == pytest.approx(3 * value, rel=1e-12)
    assert energy_distance(x.reshape(30, 2, 2), y.reshape(40, 2, 2)) == value
    assert energy_distance(jnp.asarray(x), jnp.asarray(y, jnp.float32)) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("metric", [energy_distance, mmd])
def test_the_matrix_of_all_pairs_is_never_held(metric):
    x, y = RNG.normal(size=(2, 5000, 2))
    tracemalloc.start()
    metric(x, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # one matrix of 10,000 pooled points or 5000 x 5000 takes 200 MB and more


def test_bfloat16_samples():
    x = jnp.arange(8.0, dtype=jnp.bfloat16)[:, None]
    assert energy_distance(x, x + 8) == pytest.approx(energy_distance(np.arange(8.0), np.arange(8.0) + 8))


# --- MMD --------------------------------------------------------------------------------------------------------


@pytest.mark.fast
@pytest.mark.parametrize(("r", "widths"), [(0.0, 1.0), (1.5, 2.0), (1.5, [0.5, 1.0, 4.0])])
def test_mmd_of_two_point_masses(r, widths):
    x, y = np.zeros((4, 2)), np.tile([0.6 * r, 0.8 * r], (9, 1))
    exact = np.mean([2 - 2 * np.exp(-(r**2) / (2 * s**2)) for s in np.atleast_1d(widths)])
    assert mmd(x, y, widths) == pytest.approx(exact, rel=1e-12)


def test_mmd_of_gaussians_with_the_bias_of_the_v_statistic():
    """E k for X - Y ~ N(a, v I) is (s^2/(s^2 + v))^(d/2) exp(-|a|^2 / (2 (s^2 + v))); a point with itself counts 1."""
    n, m, d, s, a, replicates = 60, 40, 3, 1.3, np.array([1.0, 0.0, 0.5]), 400

    def mean_kernel(offset, v):
        return (s**2 / (s**2 + v)) ** (d / 2) * np.exp(-(offset @ offset) / (2 * (s**2 + v)))

    xx, yy, xy = mean_kernel(0 * a, 2), mean_kernel(0 * a, 2 * 0.25), mean_kernel(a, 1.25)
    truth = xx + yy - 2 * xy
    bias = (1 - xx) / n + (1 - yy) / m
    rng = np.random.default_rng(1)
    values = [mmd(rng.normal(size=(n, d)), a + 0.5 * rng.normal(size=(m, d)), s) for _ in range(replicates)]
    error = np.std(values, ddof=1) / np.sqrt(replicates)
    assert error < 0.05 * truth
    assert np.mean(values) == pytest.approx(truth + bias, abs=5 * error)
    assert 5 * error < bias


def test_mmd_by_blocks_is_the_formula():
    x, y, s = RNG.normal(size=(600, 2)), RNG.normal(1.0, 1.0, (1100, 2)), 0.8
    xx, yy, xy = (np.exp(-(distances(a, b) ** 2) / (2 * s**2)).mean() for a, b in ((x, x), (y, y), (x, y)))
    assert mmd(x, y, s) == pytest.approx(xx + yy - 2 * xy, rel=1e-9)


def test_mmd_median_heuristic():
    x, y = np.array([0.0, 1.0]), np.array([3.0])  # distances 1, 2, 3
    assert median_bandwidth(x, y) == 2.0
    assert mmd(x, y) == mmd(x, y, 2.0)
    big, other = RNG.normal(size=(3000, 2)), RNG.normal(size=(2000, 2))
    # X - X' ~ N(0, 2 I): |X - X'|^2 / 2 is chi-square with 2 degrees of freedom, of median 2 log 2.
    assert median_bandwidth(big, other) == pytest.approx(np.sqrt(4 * np.log(2)), rel=0.05)


def test_mmd_is_unit_free_and_bounded():
    x, y = RNG.normal(size=(30, 2)), RNG.normal(2.0, 1.0, (40, 2))
    assert mmd(5 * x, 5 * y) == pytest.approx(mmd(x, y), rel=1e-9)
    assert mmd(x, x) == pytest.approx(0.0, abs=1e-12)
    assert mmd(np.zeros((1, 1)), np.full((1, 1), 1e3), 1.0) == pytest.approx(2.0)


@pytest.mark.parametrize("widths", [0.0, -1.0, np.nan, np.inf, [], [1.0, 0.0], [[1.0]]])
def test_bad_bandwidths(widths):
    with pytest.raises(ValueError, match="bandwidths must be positive"):
        mmd(np.zeros((3, 2)), np.ones((3, 2)), widths)


def test_coinciding_points_have_no_median_bandwidth():
    with pytest.raises(ValueError, match="give bandwidths"):
        mmd(np.zeros((30, 2)), np.zeros((30, 2)))


@pytest.mark.parametrize("metric", [energy_distance, mmd])
def test_bad_pairwise_samples(metric):
    with pytest.raises(ValueError, match="one dimension, got 2 and 3"):
        metric(np.zeros((3, 2)), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="x has NaN"):
        metric(np.full((3, 2), np.nan), np.zeros((3, 2)))
