"""Precision, recall, density and coverage: by hand, by a brute-force reading of the formulas, and on laws known."""

import numpy as np
import pytest

from bridgejax import metrics
from bridgejax.metrics import coverage, density, precision, recall

RANDOM = np.random.default_rng(0)


@pytest.mark.fast
def test_by_hand_on_the_line():
    """Real rows 0, 1, 3 with k = 1 have radii 1, 1, 2: balls [-1, 1], [0, 2], [1, 5], closed."""
    real = [0.0, 1.0, 3.0]
    assert precision([-1.0, -1.01, 1.5, 5.0, 5.01], real, k=1) == 3 / 5
    assert density([-1.0, 1.0, 1.5, 6.0], real, k=1) == (1 + 3 + 2 + 0) / 4
    assert coverage([-0.5], real, k=1) == 1 / 3
    assert coverage([1.0], real, k=1) == 1.0
    assert coverage([9.0], real, k=1) == 0.0
    # samples 0, 1 with k = 1 have radius 1 each: balls [-1, 1], [0, 2]; 3 is out of reach
    assert recall([0.0, 1.0], real, k=1) == 2 / 3


@pytest.mark.parametrize("d", [2, 20])  # by a tree, by blocks
def test_they_are_the_formulas(d):
    x, real = RANDOM.normal(size=(60, d)) + 0.5, RANDOM.normal(size=(70, d))
    x[:5], real[:4] = real[10:15], real[4]  # samples on real rows, real rows that coincide
    for k in (1, 3, 5):
        apart = np.linalg.norm(x[:, None] - real[None], axis=-1)
        radii = [np.sort(np.linalg.norm(a[:, None] - a[None], axis=-1), axis=1)[:, k] for a in (x, real)]
        inside = apart <= radii[1] * (1 + 1e-9)
        assert precision(x, real, k) == pytest.approx(inside.any(1).mean())
        assert density(x, real, k) == pytest.approx(inside.sum() / (k * 60))
        assert coverage(x, real, k) == pytest.approx(inside.any(0).mean())
        assert recall(x, real, k) == pytest.approx((apart <= radii[0][:, None] * (1 + 1e-9)).any(0).mean())


@pytest.mark.parametrize("d", [2, 20])
def test_of_one_law_coverage_is_known(d):
    """The k nearest of a real row among 2n - 1 others are all real with probability nearly 2^-k, whatever the law."""
    n, k = 2000, 3
    x, real = RANDOM.normal(size=(n, d)), RANDOM.normal(size=(n, d))
    p = 1 - 2.0**-k
    # rows share neighbours: at most a few times the binomial variance
    assert coverage(x, real, k) == pytest.approx(p, abs=5 * np.sqrt(3 * p * (1 - p) / n))
    if d == 2:
        assert density(x, real, k) == pytest.approx(1.0, abs=0.05)


def test_strays_and_a_missing_half_show_in_one_number_each():
    """Strays lower precision by their share; a missing half lowers recall and coverage by a half, and precision not."""
    n = 1000
    x, real = RANDOM.uniform(size=(2, n, 2))
    stray = x.copy()
    stray[:50] += 10.0
    assert precision(stray, real) == pytest.approx(precision(x[50:], real) * 0.95, abs=1e-12)
    assert recall(stray, real) > recall(x, real) - 0.05
    half, left = x[x[:, 0] < 0.5], real[:, 0] < 0.5
    assert precision(half, real) > 0.9
    for measure in (recall, coverage):
        floor = measure(x, real)
        assert measure(half, real) == pytest.approx(floor * left.mean(), abs=0.06)


@pytest.mark.fast
@pytest.mark.parametrize("measure", [precision, recall, density, coverage])
def test_bad_input(measure):
    x = RANDOM.normal(size=(5, 2))
    for arguments, words in (
        ((x, x, 5), "has 5 rows; a 5-th neighbour needs at least 6"),
        ((x, x, 0), "k must be >= 1"),
        ((x, x, 1.5), "k must be a non-negative integer"),
        ((x, x[:, :1]), "points of one dimension"),
        ((x * np.nan, x), "NaN or infinity"),
    ):
        with pytest.raises(ValueError, match=words):
            measure(*arguments)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["precision", "recall", "density", "coverage", "energy_distance", "mmd", "one_nn_accuracy"]
)
def test_no_metric_holds_the_matrix_of_all_pairs(name):
    """At n = 20,000 that would be 3.2 GB; blocks hold less than 0.4."""
    import tracemalloc

    x, y = RANDOM.normal(size=(2, 20_000, 20))
    tracemalloc.start()
    getattr(metrics, name)(x, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.4e9
