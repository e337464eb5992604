"""Floors: disjoint or fresh samples of the right size, the closed-form mean, and a fall with n."""

import functools

import numpy as np
import pytest

from bridgejax.data import toys
from bridgejax.metrics import Floor, energy_distance, floor, sliced_wasserstein2, wasserstein2


def normal(seed, n):
    return np.random.default_rng(seed).normal(size=n)


@pytest.mark.fast
def test_an_array_is_split_into_disjoint_rows():
    seen = []

    def look(x, y):
        assert x.shape == y.shape == (8, 1)
        rows = np.concatenate([x, y]).ravel()
        assert len(set(rows)) == 16
        seen.append(tuple(rows))
        return float(len(seen))

    f = floor(look, np.arange(20)[:, None], n=8, draws=5)
    assert len(set(seen)) == 5
    assert {row for rows in seen for row in rows} == set(range(20))
    assert isinstance(f, Floor)
    np.testing.assert_array_equal(f.values, [1, 2, 3, 4, 5])
    assert (f.mean, f.std, f.n) == (3.0, np.std([1, 2, 3, 4, 5], ddof=1), 8)


def test_a_sampler_is_asked_for_fresh_samples():
    seeds = []

    def sampler(seed, n):
        seeds.append(seed)
        return normal(seed, n)

    floor(energy_distance, sampler, n=5, draws=7)
    assert len(set(seeds)) == 14


def test_a_floor_is_a_function_of_its_seed():
    for real in (normal, normal(0, 50)):
        a, b, c = (floor(energy_distance, real, n=20, draws=3, seed=seed) for seed in (1, 1, 2))
        np.testing.assert_array_equal(a.values, b.values)
        assert not np.array_equal(a.values, c.values)


@pytest.mark.parametrize("n", [50, 400])
def test_the_energy_floor_has_the_closed_form(n):
    """(2/n) E|X - X'| = (2/n) (2/sqrt(pi)) for N(0, 1), both from a sampler and from rows of an array."""
    exact, draws = 4 / (n * np.sqrt(np.pi)), 200
    fresh = floor(energy_distance, normal, n=n, draws=draws)
    error = fresh.std / np.sqrt(draws)
    assert error < 0.1 * exact
    assert fresh.mean == pytest.approx(exact, abs=5 * error)
    rows = floor(energy_distance, normal(7, 40 * n), n=n, draws=draws)  # the rows' own E|X - X'| is within 5 %
    assert rows.mean == pytest.approx(exact, abs=5 * error + 0.05 * exact)


@pytest.mark.parametrize("metric", [wasserstein2, sliced_wasserstein2, energy_distance])
def test_floors_fall_with_n(metric):
    sampler = functools.partial(toys.sample, "moons")
    small, large = (floor(metric, sampler, n=n, draws=40) for n in (40, 400))
    gap = 5 * np.hypot(small.std, large.std) / np.sqrt(40)
    assert large.mean + gap < small.mean


def test_a_single_draw_has_no_spread():
    assert floor(energy_distance, normal, n=5, draws=1).std == 0.0


@pytest.mark.parametrize(
    ("real", "arguments", "words"),
    [
        (np.zeros((19, 2)), {"n": 10}, "19 rows, but two disjoint samples of n = 10 need 20; use n <= 9"),
        (np.float64(3.0), {"n": 10}, "0 rows"),
        (normal, {"n": 0}, "n must be >= 1"),
        (normal, {"n": 2.5}, "n must be a non-negative integer"),
        (normal, {"n": 5, "draws": 0}, "draws must be >= 1"),
        (normal, {"n": 5, "seed": -1}, "seed must be"),
        (lambda seed, n: np.zeros(n + 1), {"n": 5}, "returned 6 points when asked for 5"),
    ],
)
def test_bad_floors(real, arguments, words):
    with pytest.raises(ValueError, match=words):
        floor(energy_distance, real, **arguments)
