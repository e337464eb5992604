"""Every toy against the law that the top of toys.py states: moments, supports and weights, 5 standard errors."""

import jax
import numpy as np
import pytest
from scipy.integrate import quad

from bridgejax.data import toys

N = 20_000


def close(values, expected):
    """The mean of independent values within 5 standard errors, themselves small against the values' spread."""
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    np.testing.assert_array_less(np.abs(values.mean(axis=0) - expected), 5 * error)


@pytest.mark.parametrize("name", toys.NAMES)
def test_a_stream_is_fixed_by_name_and_seed_and_not_by_n(name):
    x = toys.sample(name, 3, 1000)
    assert x.shape == (1000, 2)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, toys.sample(name, 3, 1000))
    np.testing.assert_array_equal(x[:7], toys.sample(name, 3, 7))
    assert len(np.unique(np.concatenate([x, toys.sample(name, 4, 1000)]), axis=0)) == 2000


def test_two_laws_drawn_with_one_seed_are_independent():
    draws = [toys.sample(name, 0, N) for name in toys.NAMES]
    columns = np.concatenate(draws, axis=1).T
    correlation = np.corrcoef(columns)
    across = [correlation[i, j] for i in range(12) for j in range(12) if i // 2 < j // 2]
    assert np.abs(across).max() < 5 / np.sqrt(N)


def test_a_jax_key_is_a_seed():
    x = toys.sample("moons", jax.random.key(1), 10)
    np.testing.assert_array_equal(x, toys.sample("moons", jax.random.key(1), 10))
    assert not np.array_equal(x, toys.sample("moons", jax.random.key(2), 10))


@pytest.mark.fast
def test_moons_are_two_arcs_blurred_along_the_diagonal_only():
    """One uniform number on both coordinates: p - u (1, 1) lies on an arc for some u in [0, 0.2]."""
    p = (toys.sample("moons", 0, N).astype(float) + 1) / 3
    close(p, [0.6, 0.35])
    on = []
    for centre, side in (((0.0, 0.0), 1), ((1.0, 0.5), -1)):
        q = p - np.array(centre)
        s, c = q.sum(axis=1), (q**2).sum(axis=1) - 1
        for sign in (-1, 1):
            u = (s + sign * np.sqrt(np.maximum(s**2 - 2 * c, 0))) / 2
            exact = np.abs(((q - u[:, None]) ** 2).sum(axis=1) - 1) < 1e-5
            on.append(exact & (u > -1e-5) & (u < 0.2 + 1e-5) & (side * (q[:, 1] - u) > -1e-5))
    assert np.any(on, axis=0).all()
    outer = on[0] | on[1]
    assert outer.mean() == pytest.approx(0.5, abs=0.1)  # a few points lie on both


def test_eight_gaussians_have_radius_5_and_the_covariance_of_torchcfm():
    x = toys.sample("8gaussians", 0, N).astype(float)
    k = np.round(np.arctan2(x[:, 1], x[:, 0]) / (np.pi / 4)).astype(int) % 8
    np.testing.assert_allclose(np.bincount(k, minlength=8), N / 8, atol=5 * np.sqrt(N * 7) / 8)
    # Modes are 3.4 deviations from their borders; 0.2 % of the points are counted with the neighbour.
    r = x - 5 * np.stack([np.cos(k * np.pi / 4), np.sin(k * np.pi / 4)], axis=1)
    close(r, [0.0, 0.0])
    assert (r**2).mean() == pytest.approx(np.sqrt(0.1), rel=0.03)
    assert (r[:, 0] * r[:, 1]).mean() == pytest.approx(0.0, abs=5 * np.sqrt(0.1 / N))


def test_checkerboard_fills_eight_squares_evenly():
    x = toys.sample("checkerboard", 0, N)
    cell = np.floor(x / 2).astype(int) + 2
    assert cell.min() == 0
    assert cell.max() == 3
    kinds, counts = np.unique(cell, axis=0, return_counts=True)
    assert len(kinds) == 8
    assert set(kinds.sum(axis=1) % 2) == {0}
    np.testing.assert_allclose(counts, N / 8, atol=5 * np.sqrt(N * 7) / 8)
    close((x / 2) % 1, [0.5, 0.5])


def test_swissroll_radius():
    a, b = 1.5 * np.pi, 4.5 * np.pi
    x = toys.sample("swissroll", 0, N).astype(float)
    close(25 * (x**2).sum(axis=1), (b**3 - a**3) / (3 * (b - a)) + 2)


def test_pinwheel_has_five_equal_arms():
    x = toys.sample("pinwheel", 0, N).astype(float)
    close((x**2).sum(axis=1), 4 * 1.1)
    z = x[:, 0] + 1j * x[:, 1]
    for power in (1, 2, 3, 4):  # a fivefold law has no moment of lower order
        close(np.stack([(z**power).real, (z**power).imag], axis=1), [0.0, 0.0])
    # z = 2 (u + i v) exp(-i a): in z^5 the arm drops out of a, and what is left is an integral over u and v.
    node, weight = np.polynomial.hermite_e.hermegauss(60)
    u, v = 1 + 0.3 * node[:, None], 0.1 * node[None, :]
    fifth = 32 * (u + 1j * v) ** 5 * np.exp(-1.25j * np.exp(u))
    exact = (weight @ fifth @ weight) / (2 * np.pi)
    close(np.stack([(z**5).real, (z**5).imag], axis=1), [exact.real, exact.imag])
    assert np.abs(exact) > 10 * np.std(z**5) / np.sqrt(N)


def test_spirals_are_point_symmetric_with_the_right_radius():
    x = toys.sample("spirals", 0, 200_000).astype(float)  # so many that twice the noise would show
    close(x, [0.0, 0.0])

    def radius2(p):
        r = 3 * np.pi * np.sqrt(p)
        return r**2 + 0.5 * r * (np.sin(r) - np.cos(r)) + 1 / 6

    close((x**2).sum(axis=1), quad(radius2, 0, 1)[0] / 9 + 0.02)


@pytest.mark.parametrize(
    ("name", "seed", "n", "words"),
    [
        ("moon", 0, 5, "did you mean 'moons'"),
        ("zzz", 0, 5, "There are: moons"),
        ("moons", -1, 5, "seed"),
        ("moons", 0.5, 5, "seed"),
        ("moons", 0, 0, "n must"),
        ("moons", 0, 2.5, "n must"),
        ("moons", 0, True, "n must"),
    ],
)
def test_bad_arguments(name, seed, n, words):
    with pytest.raises(ValueError, match=words):
        toys.sample(name, seed, n)


def test_a_key_array_is_refused():
    with pytest.raises(ValueError, match="one key"):
        toys.sample("moons", jax.random.split(jax.random.key(0)), 5)
