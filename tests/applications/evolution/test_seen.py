"""What a population tells of a variable, against cases where that is known."""

import numpy as np
import pytest

pytest.importorskip("pymoo")

from scipy.special import softmax  # noqa: E402
from scipy.stats import norm  # noqa: E402
from sklearn.metrics import mutual_info_score  # noqa: E402

from bridgejax.applications.evolution._seen import (  # noqa: E402
    ENTROPY,
    FEATURES,
    GRID,
    Seen,
    attention,
    preferences,
    scores,
    simplex,
)


def test_scores_are_of_ranks():
    f = np.array([[3.0, 1e9], [1.0, 5.0], [2.0, 7.0]])
    ranks, r = scores(f)
    np.testing.assert_allclose(ranks, [[5 / 6, 5 / 6], [1 / 6, 1 / 6], [0.5, 0.5]])
    np.testing.assert_allclose(r, norm.ppf(ranks), atol=1e-12)


def test_the_curves_are_the_posterior_mean_of_an_additive_model():
    """Solved densely with the kernel that is written out, of the noise that fits best."""
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, (40, 5))
    f = np.stack([np.abs(x - 0.3).sum(1), x[:, 0] + 0.1 * random.normal(size=40)], 1)
    seen = Seen(x, f)
    kernel = sum(1 - np.abs(x[:, i, None] - x[None, :, i]) / 2 for i in range(5)) / 5
    for j in range(2):
        noise = 10.0 ** seen.noise[j]
        alpha = np.linalg.solve(kernel + noise * np.eye(40), scores(f)[1][:, j])
        for i in range(5):
            curve = np.array([np.sum(alpha * (1 - np.abs(u - x[:, i]) / 2)) / 5 for u in GRID])
            np.testing.assert_allclose(seen.curves[j, i], np.sqrt(5) * (curve - curve.mean()), atol=1e-4)


def test_curves_show_where_the_optimum_is():
    random = np.random.default_rng(1)
    x, center = random.uniform(-1, 1, (300, 12)), random.uniform(-0.8, 0.8, 12)
    f = np.abs(x - center).sum(1)
    seen = Seen(x, np.stack([f, 2 * f], 1))
    assert np.abs(GRID[np.argmin(seen.curves[0], -1)] - center).max() < 0.3
    assert seen.noise[0] <= np.log10(0.05)
    blind = Seen(x, random.normal(size=(300, 2)))
    assert blind.noise.min() > seen.noise[0]
    assert np.abs(blind.curves).max() < 0.5 * np.abs(seen.curves).max()


def test_attention_finds_the_variable_that_matters():
    random = np.random.default_rng(2)
    x = random.uniform(-1, 1, (400, 6))
    a = attention(x, np.stack([x[:, 3], -x[:, 3]], 1))
    np.testing.assert_allclose(a.sum(), 1.0)
    assert np.argmax(a) == 3
    bins = (10 * (x + 1)).astype(int), (np.argsort(np.argsort(x[:, 3])) + 0.5) / 20
    told = [2 * mutual_info_score(column, bins[1].astype(int)) for column in bins[0].T]
    np.testing.assert_allclose(a, softmax(told), rtol=1e-4)


def test_conditions():
    random = np.random.default_rng(3)
    x = random.uniform(-1, 1, (60, 7))
    f = np.stack([x[:, 0], 5 - x[:, 0] + np.abs(x[:, 1:]).sum(1)], 1)
    seen, w = Seen(x, f), simplex(5, 2, random)
    told, b = seen.told(w), len(GRID)
    assert told.shape == (5, 7, FEATURES)
    assert told.dtype == np.float32
    assert np.all(np.isfinite(told))
    np.testing.assert_allclose(told[0, :, :b], seen.curves[0], atol=1e-6)  # w = (0, 1): the best f_1
    np.testing.assert_allclose(told[-1, :, :b], seen.curves[1], atol=1e-6)
    np.testing.assert_allclose(told[0, :, b : 2 * b], seen.curves[1], atol=1e-6)
    np.testing.assert_allclose(told[2, :, ENTROPY], 7 * attention(x, f), rtol=1e-5)
    best = told[0, :, 3 * b + 2]
    assert best[0] < np.quantile(x[:, 0], 0.1)
    np.testing.assert_allclose(told[..., -3], seen.noise.mean(), rtol=1e-5)
    np.testing.assert_allclose(told[..., -2], np.log(60 / 7), rtol=1e-5)
    three = Seen(x, np.stack([*f.T, x[:, 2]], 1)).told(simplex(6, 3, random))
    assert three.shape == (6, 7, FEATURES)


def test_preferences():
    front = np.array([[0.0, 4.0], [0.5, 2.0], [1.0, 0.0]])
    np.testing.assert_allclose(preferences(front), [[0, 1], [0.5, 0.5], [1, 0]], atol=1e-5)
    for m, count in ((2, 1), (2, 7), (3, 2), (3, 9)):
        w = simplex(count, m, np.random.default_rng(0))
        assert w.shape == (count, m)
        np.testing.assert_allclose(w.sum(1), 1.0)
        assert w.min() >= 0
