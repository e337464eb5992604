"""Copies of the training rows are told from fresh rows, and from rows that are merely smooth."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from bridgejax.evaluation import memorised, two_halves
from bridgejax.evaluation.memorisation import _preference, _share_below, copying, nearest, nearest_two


def draw(seed, n, d=8):
    return np.random.default_rng(seed).standard_normal((n, d))


def test_nearest_is_the_smallest_distance(monkeypatch):
    monkeypatch.setattr("bridgejax.evaluation.memorisation._BLOCK", 100)
    x, rows = draw(0, 57) + 1000, draw(1, 31) + 1000
    np.testing.assert_allclose(nearest(x, rows), cdist(x, rows).min(axis=1), rtol=1e-10)
    assert nearest(rows, rows).max() == 0  # an exact copy is at distance 0, not at a rounding


@pytest.mark.fast
def test_share_below_counts_pairs():
    a, b = np.array([1.0, 2.0, 2.0]), np.array([2.0, 0.0, 5.0, 2.0])
    pairs = a[:, None] - b[None]
    assert _share_below(a, b) == pytest.approx(np.mean(pairs < 0) + np.mean(pairs == 0) / 2)


def test_fresh_rows_sit_at_the_floor():
    """Mean of 20 independent problems, 5 standard errors."""
    found = [copying(draw(3 * k, 100), draw(3 * k + 1, 400), draw(3 * k + 2, 100), seed=k) for k in range(20)]
    for name, ideal in (("closer_to_train", 0.5), ("near_copies", 0.05), ("prefers_train", 0.5)):
        values = np.array([f[name].value for f in found])
        floors = np.array([f[name].floor.mean() for f in found])
        error = values.std(ddof=1) / np.sqrt(20)
        assert error < 0.02
        # The 5 % quantile of 100 rows is itself known to a row or so.
        slack = 0.01 if name == "near_copies" else 0.0
        assert abs(values.mean() - ideal) < 5 * error + slack
        assert abs(floors.mean() - ideal) < 5 * floors.std(ddof=1) / np.sqrt(20) + slack


def test_copies_are_found():
    train, holdout = draw(0, 1600), draw(1, 400)
    found = copying(train[:800] + 1e-3, train, holdout)
    assert found["closer_to_train"].value == 1
    assert found["near_copies"].value == 1
    # A quarter of the copied rows lies in each of the four sets T', the others have no preference.
    prefers = found["prefers_train"]
    assert abs(prefers.value - (0.25 + 0.75 * 0.5)) < 5 * 0.5 / np.sqrt(800)
    assert prefers.value > prefers.floor.mean() + 4 * prefers.floor.std()
    mixed = copying(np.concatenate([draw(2, 80), train[:20]]), train, holdout)["near_copies"]
    assert mixed.value > 0.2 > mixed.floor.mean() + 5 * mixed.floor.std()  # a fifth copied


def test_smooth_rows_are_near_everything_and_prefer_nothing():
    found = copying(0.5 * draw(2, 200), draw(0, 400), draw(1, 100))
    assert found["closer_to_train"].value > 0.8
    assert abs(found["prefers_train"].value - 0.5) < 5 * 0.5 / np.sqrt(200)


def test_duplicates_in_the_data_are_in_the_floor():
    pool = np.repeat(draw(0, 60), 10, axis=0)
    order = np.random.default_rng(1).permutation(len(pool))
    found = copying(pool[order[:100]], pool[order[100:500]], pool[order[500:]])
    for name in ("closer_to_train", "near_copies", "prefers_train"):
        assert abs(found[name].value - found[name].floor.mean()) < 0.1


def test_rows_of_both_sets_are_preferred_by_half():
    rows = np.random.default_rng(0).normal(size=(20, 2))
    np.testing.assert_array_equal(_preference(rows + 0.01, rows, rows), 0.5)


def test_the_floor_takes_half_of_the_training_rows_at_most_four_for_a_sample():
    random = np.random.default_rng(0)
    train, holdout = random.normal(size=(40, 2)), random.normal(size=(10, 2))
    for n, out in ((10, 20), (3, 12)):
        found = copying(random.normal(size=(n, 2)), train, holdout, draws=2)
        assert {one.floor_n for one in found.values()} == {out}


# the ratio of two distances, and two halves -----------------------------------------------------------------------


def test_the_two_nearest_rows_by_all_distances(monkeypatch):
    monkeypatch.setattr("bridgejax.evaluation.memorisation._BLOCK", 100)
    x, rows = draw(0, 57) + 1000, draw(1, 31) + 1000
    every = cdist(x, rows)
    index, distances = nearest_two(x, rows)
    np.testing.assert_array_equal(index, np.argsort(every, axis=1)[:, :2])
    np.testing.assert_allclose(distances, np.sort(every, axis=1)[:, :2], rtol=1e-10)
    assert nearest_two(rows, rows)[1][:, 0].max() == 0


@pytest.mark.parametrize("d", [1, 2, 3])
def test_fresh_rows_are_taken_for_copies_with_probability_three_to_the_minus_d(d):
    """Even density, samples away from its edge: (d1/d2)^d is uniform."""
    rng = np.random.default_rng(d)
    rows, samples, held = rng.uniform(size=(8000, d)), rng.uniform(0.3, 0.7, (4000, d)), rng.uniform(size=(2000, d))
    found = memorised(samples, rows, held)
    assert abs(found.fraction - 3.0**-d) < 5 * np.sqrt(3.0**-d / 4000)
    assert abs(np.mean(found.ratio**d) - 0.5) < 5 / np.sqrt(12 * 4000)
    assert abs(memorised(samples, rows, held, threshold=1.0).fraction - 1) < 1e-9
    assert abs(found.z) < 5


def test_copies_are_copies_and_rows_that_stand_twice_count_once():
    train, held = draw(0, 400), draw(1, 100)
    for rows in (train, np.concatenate([train, train])):
        found = memorised(rows[:100] + 1e-3, rows, held)
        assert (found.fraction, found.control) == (1.0, 0.0)
        assert found.z > 10
        np.testing.assert_array_equal(rows[found.nearest[:, 0]], rows[:100])
        assert not np.any(np.all(rows[found.nearest[:, 1]] == rows[:100], axis=1))
    same = memorised(held, train, held)
    assert same.fraction == same.control
    assert same.z == 0


def test_two_models_that_agree_and_two_that_copy():
    rows = draw(0, 400).reshape(2, 200, 2, 4)
    fresh = draw(1, 50).reshape(50, 2, 4)
    found = two_halves(fresh, fresh + 1e-3, *rows)
    assert found.agree == 1
    assert found.correlation > 0.999
    np.testing.assert_allclose(found.between, 1e-3 * np.sqrt(8), rtol=1e-6)
    np.testing.assert_allclose(found.to_own[:, 1], cdist((fresh + 1e-3).reshape(50, 8), rows[1].reshape(200, 8)).min(1))
    np.testing.assert_allclose(found.unrelated[0], np.linalg.norm(fresh[0] - fresh[-1] - 1e-3))
    copies = two_halves(rows[0][:50], rows[1][:50], *rows)
    assert copies.agree == 0
    assert abs(copies.correlation) < 5 * 1.26 / np.sqrt(8 * 50)  # a median is 1.26 times less sharp than a mean


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: memorised(x, x[:1], x), "train must hold two different rows at least, got 1"),
        (lambda x: memorised(x, np.ones((5, 8)), x), "train must hold two different rows at least, got 1"),
        (lambda x: memorised(x, x, x[:, :3]), "holdout has 3 numbers per sample, expected 8"),
        (lambda x: memorised(x, x, x, threshold=0.0), "threshold must lie in"),
        (lambda x: two_halves(x, x[:4], x[:5], x[5:]), "drawn with the same keys, got 9 and 4"),
        (lambda x: two_halves(x, x, x, x), "other_rows must be other rows than one_rows, but 9 stand in both"),
        (lambda x: two_halves(x, x, x[:5], x[5:, :2]), "other_rows must have 8 numbers a row"),
    ],
)
def test_what_cannot_be_compared_says_so(call, words):
    with pytest.raises(ValueError, match=words):
        call(draw(0, 9))
