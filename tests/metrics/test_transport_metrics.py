"""W2 and SW2 against sorting, brute force, translations and Gaussians."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bridgejax.metrics import floor, sliced_wasserstein2, wasserstein2

RNG = np.random.default_rng(0)
NUMBERS = st.floats(-100, 100, allow_subnormal=False)


@given(hnp.arrays(float, st.tuples(st.just(2), st.integers(1, 6), st.integers(1, 3)), elements=NUMBERS))
@settings(max_examples=60, deadline=None)
def test_w2_is_the_best_of_all_permutations(pair):
    x, y = pair
    best = min(((x - y[list(p)]) ** 2).sum(axis=1).mean() for p in itertools.permutations(range(len(x))))
    assert wasserstein2(x, y) ** 2 == pytest.approx(best, rel=1e-9, abs=1e-12)


@pytest.mark.fast
def test_w2_on_the_line_is_sorting():
    x, y = RNG.normal(size=300), RNG.exponential(size=300)
    exact = np.sqrt(np.mean((np.sort(x) - np.sort(y)) ** 2))
    assert wasserstein2(x, y) == pytest.approx(exact, rel=1e-12)
    assert sliced_wasserstein2(x, y, 3) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_w2_of_a_translation_is_its_length(offset):
    """For any law; a large common offset cancels in differences, not in |x|^2 + |y|^2 - 2 x.y."""
    x = RNG.normal(size=(200, 3)) * [1.0, 5.0, 0.2] + offset
    assert wasserstein2(x, x + [3.0, 0.0, -4.0]) == pytest.approx(5.0, rel=1e-8)
    assert wasserstein2(x, x[RNG.permutation(200)]) == 0.0


def test_w2_is_symmetric_homogeneous_and_flattens():
    x, y = RNG.normal(size=(2, 50, 4))
    w = wasserstein2(x, y)
    assert wasserstein2(y, x) == pytest.approx(w, rel=1e-12)
    assert wasserstein2(3 * x, 3 * y) == pytest.approx(3 * w, rel=1e-12)
    assert wasserstein2(x.reshape(50, 2, 2), y.reshape(50, 2, 2, 1)) == w
    assert wasserstein2(jnp.asarray(x), jnp.asarray(y)) == pytest.approx(w, rel=1e-5)
    assert isinstance(w, float)


def _gaussians(n, seed):
    """N(0, I) and N((4, 0), R diag(9, 1/4) R'), whose W2^2 is 16 + (3 - 1)^2 + (1/2 - 1)^2 for any rotation R."""
    rng = np.random.default_rng(seed)
    c, s = np.cos(0.7), np.sin(0.7)
    return rng.normal(size=(n, 2)), [4.0, 0.0] + (rng.normal(size=(n, 2)) * [3.0, 0.5]) @ [[c, s], [-s, c]]


def test_w2_of_gaussians():
    """|W2(x, y) - W2| <= W2(x, its law) + W2(y, its law), each below the floor of that law at this n."""
    n, exact = 500, np.sqrt(16 + 4 + 0.25)
    values = [wasserstein2(*_gaussians(n, seed)) for seed in range(10)]
    error = np.std(values, ddof=1) / np.sqrt(10)
    bias = sum(floor(wasserstein2, lambda seed, n, k=k: _gaussians(n, seed)[k], n=n, draws=5).mean for k in (0, 1))
    assert error < 0.02 * exact
    assert bias < 0.25 * exact
    assert -5 * error < np.mean(values) - exact < bias + 5 * error


def test_w2_floor_of_the_uniform_law():
    """E W2^2 = 1/(3 (n + 1)) for two samples of U(0, 1): twice the mean variance of the order statistics."""

    def squared(x, y):
        return wasserstein2(x, y) ** 2

    for n in (1, 5, 60):
        f = floor(squared, lambda seed, n: np.random.default_rng(seed).random(n), n=n, draws=2000)
        error = f.std / np.sqrt(2000)
        assert error < 0.04 * f.mean
        assert f.mean == pytest.approx(1 / (3 * (n + 1)), abs=5 * error)


@pytest.mark.parametrize("d", [2, 5, 40])
def test_sw2_of_a_translation(d):
    """SW2^2 = E (theta . v)^2 = |v|^2 / d, a mean over P directions with variance 2 (d-1) / (d^2 (d+2)) |v|^4 / P."""
    x, v, projections = RNG.normal(size=(60, d)), RNG.normal(size=d), 4000
    square = v @ v
    error = square * np.sqrt(2 * (d - 1) / (d**2 * (d + 2)) / projections)
    value = sliced_wasserstein2(x, x + v, projections) ** 2
    assert error < 0.05 * square / d
    assert value == pytest.approx(square / d, abs=5 * error)


def test_sw2_of_isotropic_gaussians():
    """Every projection is N(0, 1) against N(0, s^2): SW2 = |1 - s|, up to the sampling floors."""

    def normal(seed, n):
        return np.random.default_rng(seed).normal(size=(n, 3))

    n, scale = 4000, 2.5
    values = [sliced_wasserstein2(normal(2 * k, n), scale * normal(2 * k + 1, n), 100) for k in range(8)]
    error = np.std(values, ddof=1) / np.sqrt(8)
    noise = floor(sliced_wasserstein2, normal, n=n, draws=8).mean
    assert error < 0.02
    assert abs(np.mean(values) - 1.5) < 5 * error + (1 + scale) * noise
    assert noise < 0.05


@pytest.mark.parametrize(("a", "b"), [(1, 3), (2, 5), (7, 4), (6, 6)])
def test_sw2_of_different_sizes_sees_only_the_laws(a, b):
    x, y = RNG.normal(size=(12, 3)), RNG.normal(size=(10, 3))
    same = sliced_wasserstein2(x, y, 50)
    assert sliced_wasserstein2(np.repeat(x, a, 0), np.repeat(y, b, 0), 50) == pytest.approx(same, rel=1e-12)
    equal = sliced_wasserstein2(np.repeat(x, 5, 0), np.repeat(y, 6, 0), 50)
    assert equal == pytest.approx(same, rel=1e-12)


def test_sw2_by_blocks_and_by_seed(monkeypatch):
    x, y = RNG.normal(size=(2, 40, 3))
    whole = sliced_wasserstein2(x, y, 64, seed=1)
    assert sliced_wasserstein2(x, y, 64, seed=2) != whole
    monkeypatch.setattr("bridgejax.metrics.transport._BLOCK", 100)
    assert sliced_wasserstein2(x, y, 64, seed=1) == pytest.approx(whole, rel=1e-12)


def test_sw2_is_below_w2():
    x, y = _gaussians(300, 0)
    assert 0 < sliced_wasserstein2(x, y) < wasserstein2(x, y)


@pytest.mark.parametrize("metric", [wasserstein2, sliced_wasserstein2])
@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.zeros((3, 2)), np.zeros((3, 3)), "one dimension, got 2 and 3"),
        (np.zeros((0, 2)), np.zeros((3, 2)), r"x has shape \(0, 2\)"),
        (np.zeros((3, 2)), np.float64(1.0), "y has shape"),
        (
            np.zeros((3, 2)),
            np.array([[0, 1], [np.nan, 1], [np.inf, 2]]),
            "y has NaN or infinity in 2 of 3 points, first in row 1",
        ),
        (np.array(["a"]), np.zeros(1), "x has dtype"),
        (np.zeros((3, 2)), np.zeros((3, 2), complex), "y has dtype"),
    ],
)
def test_bad_samples(metric, x, y, words):
    with pytest.raises(ValueError, match=words):
        metric(x, y)


def test_bad_numbers():
    with pytest.raises(ValueError, match="equally many points, got 3 and 4"):
        wasserstein2(np.zeros((3, 2)), np.zeros((4, 2)))
    for projections in (0, -1, True):
        with pytest.raises(ValueError, match="num_projections"):
            sliced_wasserstein2(np.zeros((3, 2)), np.zeros((3, 2)), projections)


def test_on_the_line_w2_sorts_and_elsewhere_too_many_points_are_refused():
    """n = 100,000 on the line is a sort; the closed form of two normals is |m1 - m2| joined with |s1 - s2|."""
    rng = np.random.default_rng(0)
    n = 100_000
    x, y = rng.normal(size=n), 1.0 + 2.0 * rng.normal(size=n // 2)
    assert wasserstein2(x, y) == pytest.approx(np.sqrt(2.0), abs=0.05)
    small, other = rng.normal(size=(2, 40, 1))
    padded = [
        np.concatenate([a, np.zeros((40, 1))], axis=1) for a in (small, other)
    ]  # the assignment of the same points
    assert wasserstein2(small, other) == pytest.approx(wasserstein2(*padded), rel=1e-12)
    with pytest.raises(ValueError, match="20000 points; exact assignment takes .* 3.2 GB"):
        wasserstein2(np.zeros((20_000, 2)), np.zeros((20_000, 2)))


def test_sw2_on_the_line_is_w2_for_any_directions():
    """Unit vectors of the line are +-1."""
    x, y = np.random.default_rng(0).normal(size=(2, 50)) * [[1.0], [3.0]]
    assert sliced_wasserstein2(x, y, num_projections=3) == pytest.approx(wasserstein2(x, y), rel=1e-12)
