"""Frechet distance against closed forms that need no matrix root: diagonal, commuting, 2 x 2, singular."""

import numpy as np
import pytest

from bridgejax.metrics import floor, frechet, frechet_gaussian

RNG = np.random.default_rng(0)


def spd(d, rank=None):
    a = RNG.normal(size=(d, rank or d))
    return a @ a.T


def rotation(d):
    return np.linalg.qr(RNG.normal(size=(d, d)))[0]


@pytest.mark.fast
@pytest.mark.parametrize("d", [1, 3, 20])
def test_commuting_covariances(d):
    """|m|^2 + sum_i (a_i - b_i)^2 for standard deviations a, b along shared axes."""
    a, b, m, q = RNG.uniform(0.1, 3, d), RNG.uniform(0.1, 3, d), RNG.normal(size=d), rotation(d)
    value = frechet_gaussian(np.zeros(d), q * a**2 @ q.T, m, q * b**2 @ q.T)
    assert value == pytest.approx(m @ m + np.sum((a - b) ** 2), rel=1e-9)


def test_any_two_covariances_of_the_plane():
    """tr (C1 C2)^(1/2) = sqrt(tr C1 C2 + 2 sqrt(det C1 C2)) for 2 x 2: no eigenvectors needed."""
    for _ in range(20):
        c1, c2 = spd(2), spd(2)
        product = c1 @ c2
        cross = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(c1) * np.linalg.det(c2)))
        exact = np.trace(c1) + np.trace(c2) - 2 * cross
        assert frechet_gaussian([0, 0], c1, [0, 0], c2) == pytest.approx(exact, rel=1e-7, abs=1e-9)


def test_singular_covariances():
    """Two lines at an angle t: N(0, u u') and N(0, v v') are at distance^2 1 + 1 - 2 |cos t|."""
    u, v = np.array([1.0, 0.0, 0.0]), np.array([np.cos(0.4), np.sin(0.4), 0.0])
    value = frechet_gaussian(np.zeros(3), np.outer(u, u), np.zeros(3), np.outer(v, v))
    assert value == pytest.approx(2 - 2 * np.cos(0.4), abs=1e-7)
    assert frechet_gaussian(np.zeros(3), np.zeros((3, 3)), np.ones(3), spd(3, 1) * 0) == pytest.approx(3.0)


def test_a_distance():
    d = 6
    m1, m2, c1, c2, q = RNG.normal(size=d), RNG.normal(size=d), spd(d), spd(d, 3), rotation(d)
    value = frechet_gaussian(m1, c1, m2, c2)
    assert frechet_gaussian(m2, c2, m1, c1) == pytest.approx(value, rel=1e-6)
    assert frechet_gaussian(q @ m1, q @ c1 @ q.T, q @ m2, q @ c2 @ q.T) == pytest.approx(value, rel=1e-6)
    assert frechet_gaussian(2 * m1, 4 * c1, 2 * m2, 4 * c2) == pytest.approx(4 * value, rel=1e-6)
    assert frechet_gaussian(m1, c1, m1, c1) == pytest.approx(0.0, abs=1e-9 * np.trace(c1))


def test_samples_are_fitted_by_mean_and_unbiased_covariance():
    x, y = RNG.normal(size=(30, 4)), RNG.normal(1.0, 2.0, (50, 4))
    exact = frechet_gaussian(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))
    assert frechet(x, y) == pytest.approx(exact, rel=1e-12)
    assert frechet(x.reshape(30, 2, 2), y.reshape(50, 2, 2)) == pytest.approx(exact, rel=1e-12)
    assert frechet(x[:, 0], y[:, 0]) == pytest.approx(
        (x[:, 0].mean() - y[:, 0].mean()) ** 2 + (x[:, 0].std(ddof=1) - y[:, 0].std(ddof=1)) ** 2, rel=1e-9
    )
    assert isinstance(frechet(x, y), float)


def test_the_floor_falls_like_1_over_n():
    """On the line E F = 2/n (means) + 1/n (deviations) to leading order, for N(0, 1)."""

    def normal(seed, n):
        return np.random.default_rng(seed).normal(size=n)

    for n in (100, 1600):
        f = floor(frechet, normal, n=n, draws=400)
        error = f.std / np.sqrt(400)
        assert error < 0.1 * f.mean
        assert f.mean == pytest.approx(3 / n, abs=5 * error + 3 / n**2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([0, 0], np.eye(2), [0, 0, 0], np.eye(3)), r"mean2 must be finite with shape \(2,\)"),
        (([0, 0], np.eye(3), [0, 0], np.eye(2)), r"cov1 must be finite with shape \(2, 2\)"),
        (([0, 0], np.eye(2), [0, np.nan], np.eye(2)), "mean2 must be finite"),
        (([0, 0], np.eye(2), [0, 0], np.array([[1.0, 0.5], [0.0, 1.0]])), "cov2 must be symmetric"),
    ],
)
def test_bad_moments(arguments, words):
    with pytest.raises(ValueError, match=words):
        frechet_gaussian(*arguments)


def test_bad_fits():
    with pytest.raises(ValueError, match="y has 1 point; a covariance needs at least 2"):
        frechet(np.zeros((3, 2)), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="one dimension"):
        frechet(np.zeros((3, 2)), np.zeros((3, 1)))
