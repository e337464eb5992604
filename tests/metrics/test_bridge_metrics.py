"""Unexplained variance percentages and mode coverage against values known by hand."""

import numpy as np
import pytest

from bridgejax.metrics import bw2_uvp, conditional_bw2_uvp, entropic_mode_coverage, mode_coverage

RNG = np.random.default_rng(2)


def exact_moments(n, mean, cov):
    """Points whose sample mean and unbiased covariance are these, to rounding."""
    x = RNG.normal(size=(n, len(mean)))
    x = x - x.mean(0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T
    return mean + x @ np.linalg.cholesky(cov).T


COV = np.array([[2.0, 0.5], [0.5, 1.0]])


@pytest.mark.fast
def test_bw2_uvp_by_hand():
    x = exact_moments(50, np.array([1.0, 2.0]), COV)
    assert bw2_uvp(x, [1.0, 2.0], COV) == pytest.approx(0.0, abs=1e-6)
    assert bw2_uvp(x, [0.0, 2.0], COV) == pytest.approx(100 / 3)  # |m1 - m2|^2 = 1 over tr C = 3
    assert bw2_uvp(x, [1.0, 2.0], 4 * COV) == pytest.approx(25.0)  # (1 - 2)^2 tr C / (4 tr C)
    assert bw2_uvp(np.ones((5, 2)), [1.0, 1.0], COV) == pytest.approx(100.0)  # a point mass at the mean


@pytest.mark.parametrize("d", [1, 4])
def test_the_score_of_a_perfect_model(d):
    """25 (d + 5) / n to leading order; the next is smaller by 1/n, times constants of the order of d."""
    n, draws = 400, 300
    values = [bw2_uvp(RNG.normal(size=(n, d)), np.zeros(d), np.eye(d)) for _ in range(draws)]
    error = np.std(values) / np.sqrt(draws)
    exact = 25 * (d + 5) / n
    assert error < 0.1 * exact
    assert np.mean(values) == pytest.approx(exact, abs=5 * error + 4 * d * exact / n)


def test_the_conditional_one_sees_the_coupling():
    """x1 = x0 + noise and its independent copy have one marginal law; only the conditional score tells them apart."""
    x0 = RNG.normal(size=60)
    means, covs = np.stack([x0, 0 * x0], 1), np.tile(np.diag([0.5, 1.5]), (60, 1, 1))
    right = np.stack([exact_moments(40, m, c) for m, c in zip(means, covs)])
    assert conditional_bw2_uvp(right, means, covs) == pytest.approx(0.0, abs=1e-6)
    marginal = np.diag([0.5 + x0.var(), 1.5])
    blind = np.stack([exact_moments(40, np.array([x0.mean(), 0.0]), marginal) for _ in x0])
    each = [(m[0] - x0.mean()) ** 2 + (np.sqrt(0.5 + x0.var()) - np.sqrt(0.5)) ** 2 for m in means]
    assert conditional_bw2_uvp(blind, means, covs) == pytest.approx(100 * np.mean(each) / np.trace(marginal))
    assert conditional_bw2_uvp(blind, means, covs, 1.0) == pytest.approx(100 * np.mean(each))
    assert conditional_bw2_uvp(blind.reshape(60, 40, 2, 1), means, covs, 1.0) == pytest.approx(100 * np.mean(each))


@pytest.mark.fast
def test_mode_coverage_by_hand():
    even = np.eye(4)[[0, 1, 2, 3] * 5]
    assert mode_coverage(even) == entropic_mode_coverage(even) == 1.0
    one = np.eye(4)[[2] * 10]
    assert (mode_coverage(one), entropic_mode_coverage(one)) == (0.25, 0.0)
    half = np.eye(4)[[0, 1] * 10]
    assert (mode_coverage(half), entropic_mode_coverage(half)) == (0.5, pytest.approx(0.5))
    assert mode_coverage(np.full((3, 4), 0.25)) == 1.0


def test_a_rare_mode_counts_by_its_weight():
    sample = np.eye(2)[[0] * 97 + [1] * 3]
    assert mode_coverage(sample) == 0.5  # 0.03 is below a tenth of 1/2
    assert mode_coverage(sample, weights=[0.95, 0.05]) == 1.0
    assert mode_coverage(sample, least=0.05) == 1.0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bw2_uvp(np.zeros((1, 2)), [0, 0], COV), "x has 1 point"),
        (lambda: bw2_uvp(np.zeros((3, 2)), [0, 0], 0 * COV), "the trace of cov must be positive"),
        (lambda: bw2_uvp(np.zeros((3, 2)), [0, 0, 0], np.eye(3)), "mean and cov must have shapes"),
        (lambda: conditional_bw2_uvp(np.zeros((2, 3, 2)), np.zeros((2, 2)), np.eye(2)), "means and covs"),
        (lambda: conditional_bw2_uvp(np.zeros((3, 3, 2)), np.zeros((1, 2)), COV[None]), "samples must hold 1 sets"),
        (lambda: conditional_bw2_uvp(np.zeros((1, 1, 2)), np.zeros((1, 2)), COV[None]), "samples has 1 point"),
        (lambda: conditional_bw2_uvp(np.zeros((1, 3, 2)), np.zeros((1, 2)), COV[None], -1.0), "total_variance must be"),
        (lambda: mode_coverage(np.ones(3)), r"shape \[n, k\]"),
        (lambda: mode_coverage(np.ones((3, 2))), "sum to 1"),
        (lambda: mode_coverage(np.eye(2), least=0.0), r"least must lie in \(0, 1\]"),
        (lambda: mode_coverage(np.eye(2), weights=[0.5, 0.6]), "weights must be 2 positive"),
        (lambda: entropic_mode_coverage([[1.5, -0.5]]), "least entry of -0.5"),
    ],
)
def test_what_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
