"""The two-sample test: the closed form is cross-validation, chance is chance, and known corruptions are seen."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from bridgejax import data
from bridgejax.evaluation import c2st, c2st_accuracy
from bridgejax.evaluation._c2st import _LEAST_SCALE, _RIDGE, _prepare
from bridgejax.evaluation.arrays import generator


@pytest.fixture(scope="module")
def digits():
    train, holdout = data.split(data.load("digits"), 0.2, 0)
    order = np.random.default_rng(0).permutation(len(train))
    return train.x[order[:359]], holdout.x


def test_closed_form_is_refitting_without_each_fold():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 3)), rng.standard_normal((40, 3)) + 0.5
    folds, seed = 4, 3
    inverse, labels, parts = _prepare(x, y, folds, 1000, seed)
    # The rows in the order of the function, from its own stream.
    order = generator(seed, 1)
    z = np.concatenate([x[order.permutation(40)], y[order.permutation(40)]])
    scale = z.std(axis=0)
    z = (z - z.mean(axis=0)) / np.maximum(scale, _LEAST_SCALE * np.sqrt(np.mean(scale**2)))
    kernel = np.exp(-cdist(z, z) / np.median(cdist(z, z)))
    np.testing.assert_allclose(inverse, np.linalg.inv(kernel + _RIDGE * np.eye(80)), rtol=1e-6, atol=1e-9)
    hits = 0
    for part in parts:
        rest = np.setdiff1d(np.arange(80), part)
        weights = np.linalg.solve(kernel[np.ix_(rest, rest)] + _RIDGE * np.eye(len(rest)), labels[rest])
        hits += np.sum(kernel[np.ix_(part, rest)] @ weights * labels[part] > 0)
    assert sorted(np.concatenate(parts)) == list(range(80))
    assert all(labels[part].sum() == 0 for part in parts)
    assert c2st_accuracy(x, y, folds=folds, seed=seed) == hits / 80


def test_calibrated_on_one_law():
    """Mean 1/2, spread as stated, p-values no smaller than they should be: 5 standard errors of 80 replicates."""
    rng = np.random.default_rng(1)
    found = [c2st(*rng.standard_normal((2, 50, 4)), permutations=99, seed=k) for k in range(80)]
    accuracy = np.array([r.accuracy for r in found])
    spread = np.array([r.std_error for r in found])
    p = np.array([r.p_value for r in found])
    assert abs(accuracy.mean() - 0.5) < 5 * accuracy.std(ddof=1) / np.sqrt(80)
    # The standard deviation of a standard deviation from 80 values is its 1/sqrt(160) part.
    assert abs(accuracy.std(ddof=1) / spread.mean() - 1) < 5 / np.sqrt(160)
    inside = np.mean(np.abs(accuracy - 0.5) <= 1.96 * spread)
    assert abs(inside - 0.95) < 5 * np.sqrt(0.95 * 0.05 / 80)
    for level in (0.05, 0.2, 0.5):
        assert np.mean(p <= level) < level + 5 * np.sqrt(level * (1 - level) / 80)
    assert np.mean(p > 0.5) > 0.25  # and not all near 0 or 1


def test_real_digits_are_told_from_no_real_digits(digits):
    """Real against real over splits: within 1.96 of the stated standard error of 1/2 about as often as it should be."""
    pool = np.concatenate(digits)
    found = []
    for k in range(25):
        rows = np.random.default_rng(k).permutation(len(pool))
        found.append(c2st(pool[rows[:150]], pool[rows[150:300]], permutations=99, seed=k))
    z = np.array([(r.accuracy - 0.5) / r.std_error for r in found])
    assert np.sum(np.abs(z) > 1.96) <= 6  # binomial(25, 0.05): P(more than 6) < 2e-4
    assert abs(z.mean()) < 5 / np.sqrt(25)


@pytest.mark.parametrize(
    ("corrupt", "least"),
    [
        (lambda x, rng: x + 0.2 * rng.standard_normal(x.shape), 0.9),
        (lambda x, rng: x + 0.1 * rng.standard_normal(x.shape), 0.85),
        (lambda x, rng: np.clip(x + 0.2 * rng.standard_normal(x.shape), -1, 1), 0.9),
        (lambda x, rng: np.stack([gaussian_filter(a[..., 0], 0.5)[..., None] for a in x]), 0.95),
        (lambda x, rng: (x + x[rng.permutation(len(x))]) / 2, 0.85),
    ],
    ids=["noise 0.2", "noise 0.1", "clipped noise 0.2", "blur", "two digits mixed"],
)
def test_sees_corruption(digits, corrupt, least):
    real, holdout = digits
    result = c2st(corrupt(real, np.random.default_rng(0)), holdout, permutations=99)
    assert result.accuracy > least
    assert result.p_value == 0.01  # no permutation comes near
    assert result.n == 2 * min(len(real), len(holdout))


def test_a_missed_constant_is_no_giveaway(digits):
    """A corner pixel is -1 in every digit; being off by 1e-3 there must not decide the test."""
    real, holdout = digits
    off = real.copy()
    off[:, :, 0] += 1e-3 * np.random.default_rng(0).standard_normal(off[:, :, 0].shape)
    assert c2st(off, holdout, permutations=99).p_value > 0.01


@pytest.mark.fast
def test_sizes_subsets_and_seed():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((300, 2)), rng.standard_normal((50, 2)) + 4
    result = c2st(x, y, permutations=49)
    assert (result.n, result.p_value) == (100, 0.02)
    assert result.accuracy > 0.95
    assert c2st(x, y, max_points=20, permutations=49).n == 40
    assert c2st_accuracy(x, y, seed=5) == c2st(x, y, seed=5, permutations=1).accuracy
    assert c2st(x, y[:, :1].repeat(2, axis=1) * 0, permutations=9).accuracy > 0.9  # a point mass
    constant = c2st(np.ones((20, 3)), np.ones((20, 3)), permutations=9)  # nothing to tell apart, no division by zero
    assert (constant.accuracy, constant.p_value) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("x", "y", "options", "words"),
    [
        (np.zeros((0, 2)), np.zeros((50, 2)), {}, "x is empty"),
        (np.zeros((50, 2)), np.full((50, 2), np.nan), {}, "y has NaN or infinity in 50 of 50 rows"),
        (np.zeros((50, 2)), np.zeros((50, 3)), {}, "y has 3 numbers per sample, expected 2"),
        (np.zeros((5, 2)), np.zeros((50, 2)), {}, "5 folds need at least 10"),
        (np.zeros((50, 2)), np.zeros((50, 2)), {"folds": 1}, "folds must be an integer >= 2"),
        (np.zeros((50, 2)), np.zeros((50, 2)), {"permutations": 0}, "permutations must be an integer >= 1"),
        (np.array([["a"]] * 50), np.zeros((50, 1)), {}, "expected real numbers"),
    ],
)
def test_bad_input(x, y, options, words):
    with pytest.raises(ValueError, match=words):
        c2st(x, y, **options)


def test_the_least_p_value_is_one_over_one_more_than_the_permutations():
    random = np.random.default_rng(0)
    found = c2st(random.normal(size=(20, 2)), random.normal(size=(20, 2)) + 50.0, permutations=99)
    assert found.accuracy == 1.0
    assert found.p_value == pytest.approx(1 / 100)


def test_rows_that_say_nothing_are_coin_tosses():
    """All rows alike: every prediction is 0, half a hit."""
    assert c2st(np.ones((10, 2)), np.ones((10, 2)), permutations=9).accuracy == 0.5
