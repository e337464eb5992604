"""Simple models against closed forms."""

import numpy as np
import pytest

from bridgejax.evaluation import baselines, evaluate_predictions

RNG = np.random.default_rng(3)
N, SHIFT, SCALE = 2000, 5.0, 3.0
W = np.array([1.0, -2.0, 0.5])
X, AT = (RNG.normal(size=(N, 3)).astype(np.float32) for _ in range(2))
NOISE = 0.4


def targets(f):
    return f + NOISE * RNG.normal(size=len(f))


def test_least_squares_finds_a_linear_law_in_the_units_of_the_data():
    y, truth = targets(X @ W), targets(AT @ W)
    said = baselines.linear(X, y, AT, truth * SCALE + SHIFT, SHIFT, SCALE)
    np.testing.assert_allclose(said.mean, AT @ W * SCALE + SHIFT, atol=5 * SCALE * NOISE * 4 / np.sqrt(N))
    np.testing.assert_allclose(said.deviation, NOISE * SCALE, rtol=5 / np.sqrt(2 * N))
    scores = evaluate_predictions({"linear": said}, truth * SCALE + SHIFT).scores["linear"]
    assert abs(scores["nll"] - 0.5 * np.log(2 * np.pi * np.e * (NOISE * SCALE) ** 2)) < 5 * scores["nll_error"]
    twice = baselines.linear(np.hstack([X, X]), y, np.hstack([AT, AT]), truth * SCALE + SHIFT, SHIFT, SCALE)
    np.testing.assert_allclose(twice.mean, said.mean, rtol=1e-4)  # columns that depend on one another


def test_logistic_regression_finds_the_law_of_the_classes():
    p = 1 / (1 + np.exp(-(X @ W)))
    y, at = RNG.random(N) < p, 1 / (1 + np.exp(-(AT @ W)))
    said = baselines.linear(X, y.astype(float), AT, np.zeros(N), 0.0, 1.0, classes=2)
    np.testing.assert_allclose(said.probabilities.sum(axis=1), 1.0, rtol=1e-5)
    assert np.sqrt(np.mean((said.probabilities[:, 1] - at) ** 2)) < 0.03


def test_the_constant_model_knows_the_mean_or_the_shares():
    y = RNG.normal(size=50)
    said = baselines.constant(y, np.array([SHIFT]), SHIFT, SCALE)
    np.testing.assert_allclose(said.mean, y.mean() * SCALE + SHIFT)
    np.testing.assert_allclose(said.deviation, y.std() * SCALE)
    shares = baselines.constant(np.array([0, 0, 1]), np.zeros(2), 0.0, 1.0, classes=3).probabilities
    np.testing.assert_allclose(shares, np.tile([3 / 6, 2 / 6, 1 / 6], (2, 1)))


@pytest.mark.optimised
def test_a_sparse_gaussian_process_finds_a_smooth_function_and_its_noise():
    x, at = (RNG.uniform(-2, 2, (300, 1)).astype(np.float32) for _ in range(2))
    y, truth = targets(np.sin(2 * x[:, 0])), targets(np.sin(2 * at[:, 0]))
    said, rows = baselines.sparse_gp(x, y, at, truth * SCALE + SHIFT, SHIFT, SCALE, inducing=15)
    assert rows == 300
    error = np.sqrt(np.mean((said.mean - (np.sin(2 * at[:, 0]) * SCALE + SHIFT)) ** 2))
    assert error < 3 * SCALE * NOISE * np.sqrt(8 / 300)  # 8 numbers, say, are fitted to 300
    np.testing.assert_allclose(said.deviation.mean(), NOISE * SCALE, rtol=0.2)
    scores = evaluate_predictions({"sparse GP": said}, truth * SCALE + SHIFT).scores["sparse GP"]
    assert abs(scores["inside_90"] - 0.9) < 5 * np.sqrt(0.09 / 300)
