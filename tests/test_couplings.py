"""Couplings: permutations, optimal where they claim it, independent where they claim that."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bridgejax import couplings

RNG = np.random.default_rng(0)
NUMBERS = st.floats(-100, 100, allow_subnormal=False)
BATCHES = hnp.arrays(float, st.tuples(st.just(2), st.integers(1, 6), st.integers(1, 3)), elements=NUMBERS)
ALL = [couplings.independent, couplings.paired, couplings.exact_ot]


def cost(x0, x1, i, j):
    return ((x0[i] - x1[j]) ** 2).sum()


@pytest.mark.fast
@pytest.mark.parametrize("coupling", ALL)
@pytest.mark.parametrize("size", [1, 2, 33])
def test_every_sample_is_used_once(coupling, size):
    i, j = coupling(np.random.default_rng(0), RNG.normal(size=(size, 4, 4, 1)), RNG.normal(size=(size, 4, 4, 1)))
    np.testing.assert_array_equal(i, np.arange(size))
    np.testing.assert_array_equal(np.sort(j), np.arange(size))
    assert i.dtype.kind == j.dtype.kind == "i"


@given(BATCHES)
@settings(max_examples=60, deadline=None)
def test_exact_ot_is_the_best_of_all_permutations(pair):
    x0, x1 = pair
    i, j = couplings.exact_ot(np.random.default_rng(0), x0, x1)
    best = min(cost(x0, x1, i, list(p)) for p in itertools.permutations(range(len(x0))))
    assert cost(x0, x1, i, j) == pytest.approx(best, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("size", [2, 64, 256])
def test_exact_ot_costs_no_more_than_any_other_coupling(size):
    x0, x1 = RNG.normal(size=(size, 3)), RNG.normal(2.0, 1.0, (size, 3))
    optimal = cost(x0, x1, *couplings.exact_ot(RNG, x0, x1))
    for _ in range(20):
        assert optimal <= cost(x0, x1, *couplings.independent(RNG, x0, x1)) + 1e-9
    assert optimal <= cost(x0, x1, *couplings.paired(RNG, x0, x1)) + 1e-9


def test_exact_ot_on_the_line_is_sorting():
    x0, x1 = RNG.normal(size=100), RNG.exponential(size=100)
    pi = couplings.assignment(x0, x1)
    np.testing.assert_array_equal(x1[pi][np.argsort(x0)], np.sort(x1))


def test_exact_ot_undoes_a_shuffle_even_far_from_the_origin():
    """Differences keep 1e-3 apart at 1e6; |x|^2 + |y|^2 - 2 x.y in float64 would lose it."""
    x = 1e6 + 1e-3 * np.arange(50.0)[:, None] * [1.0, -1.0]
    shuffle = RNG.permutation(50)
    np.testing.assert_array_equal(shuffle[couplings.assignment(x, x[shuffle])], np.arange(50))


def test_exact_ot_takes_device_arrays():
    x0, x1 = RNG.normal(size=(2, 20, 3)).astype(np.float32)
    np.testing.assert_array_equal(couplings.assignment(jnp.asarray(x0), jnp.asarray(x1)), couplings.assignment(x0, x1))


def test_independent_is_uniform_over_partners():
    """Every partner 1 time in B, whatever the values; counts within 5 standard deviations."""
    size, draws = 6, 3000
    x = np.arange(size)
    counts = np.zeros((size, size))
    rng = np.random.default_rng(1)
    for _ in range(draws):
        i, j = couplings.independent(rng, x, x)
        counts[i, j] += 1
    np.testing.assert_allclose(counts, draws / size, atol=5 * np.sqrt(draws * (size - 1)) / size)


def test_independent_depends_on_its_generator_only():
    x, y = RNG.normal(size=(2, 20, 2))
    a = couplings.independent(np.random.default_rng(3), x, y)[1]
    np.testing.assert_array_equal(a, couplings.independent(np.random.default_rng(3), y, x)[1])
    assert not np.array_equal(a, couplings.independent(np.random.default_rng(4), x, y)[1])


def test_only_paired_asks_for_aligned_rows():
    assert [getattr(coupling, "aligned", False) for coupling in ALL] == [False, True, False]


@pytest.mark.parametrize("coupling", ALL)
@pytest.mark.parametrize(
    ("x0", "x1", "words"),
    [
        (np.zeros((3, 2)), np.zeros((4, 2)), "one batch size, got 3 and 4"),
        (np.zeros((0, 2)), np.zeros((0, 2)), "empty batches"),
        (np.float64(1.0), np.zeros((4, 2)), "x0 is a single number"),
    ],
)
def test_bad_batches(coupling, x0, x1, words):
    with pytest.raises(ValueError, match=words):
        coupling(RNG, x0, x1)


def test_bad_values_for_a_cost():
    with pytest.raises(ValueError, match="samples of one size .* got 2 and 3 numbers"):
        couplings.exact_ot(RNG, np.zeros((4, 2)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match="x1 holds NaN"):
        couplings.exact_ot(RNG, np.zeros((4, 2)), np.full((4, 2), np.inf))


def test_a_plan_far_from_convergence_says_so():
    rng = np.random.default_rng(0)
    x0, x1 = rng.normal(size=(2, 64, 2))
    with pytest.warns(RuntimeWarning, match="a row of the plan is off by"):
        plan = couplings.sinkhorn(x0, x1 + 5.0, 1e-4, iterations=20)
    assert np.abs(64 * plan.sum(axis=1) - 1.0).max() > 0.1
