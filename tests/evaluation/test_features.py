"""Feature maps: what they keep, what they do not depend on, and that a classifier learns its classes."""

import numpy as np
import pytest

from bridgejax import data
from bridgejax.data.arrays import take
from bridgejax.evaluation import classifier_features, identity_features, pca_features
from bridgejax.metrics import frechet


@pytest.fixture(scope="module")
def digits():
    """1,079 training rows, as many as in test_report.py, so that one compiled training serves both."""
    train, holdout = data.split(data.load("digits"), 0.2, 0)
    return take(train, np.arange(1079)), holdout


@pytest.fixture(scope="module")
def mapping(digits):
    return classifier_features(digits[0].x, digits[0].labels, num_classes=10)


def test_classifier_knows_held_out_digits(digits, mapping):
    train, holdout = digits
    predicted = mapping.predict(holdout.x)
    assert predicted.dtype == np.int32
    assert np.mean(predicted == holdout.labels) > 0.96
    features = mapping.features(train.x)
    assert features.shape == (len(train), mapping.dim)
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(features.std(axis=0), 1, rtol=1e-6)
    assert (mapping.name, mapping.num_classes) == ("classifier", 10)


def test_classifier_depends_on_neither_unit_nor_batch(digits, mapping):
    train, holdout = digits
    raw = classifier_features(train.destandardise(train.x), train.labels, num_classes=10)
    x = holdout.x[:50]
    np.testing.assert_allclose(raw.features(train.destandardise(x)), mapping.features(x), atol=2e-2)
    one_by_one = np.concatenate([mapping.features(x[k : k + 1]) for k in range(5)])
    np.testing.assert_allclose(one_by_one, mapping.features(x)[:5], atol=1e-4)


def test_classifier_is_a_function_of_its_seed(digits, mapping):
    train, holdout = digits
    same = classifier_features(train.x, train.labels, num_classes=10)
    other = classifier_features(train.x, train.labels, num_classes=10, seed=1)
    np.testing.assert_array_equal(same.features(holdout.x), mapping.features(holdout.x))
    assert np.abs(other.features(holdout.x) - mapping.features(holdout.x)).max() > 0.1


def test_frechet_in_features(digits, mapping):
    """Symmetric, blind to the order of rows, zero on itself; training and held-out rows are as near as two sets of
    training rows (the classifier has not learnt its rows by heart), noise and one missing class are far."""
    x, y = mapping.features(digits[0].x), mapping.features(digits[1].x)
    n = len(y)
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(x)) for _ in range(10)]
    seen = np.array([frechet(x[o[:n]], x[o[n : 2 * n]]) for o in orders])
    unseen = np.array([frechet(x[o[:n]], y) for o in orders])
    assert 0.6 < unseen.mean() / seen.mean() < 1.6
    assert frechet(y, y[::-1]) < 1e-6
    assert frechet(x[:n], y) == pytest.approx(frechet(y, x[:n]), rel=1e-6)
    noise = mapping.features(rng.uniform(-1, 1, digits[1].x.shape))
    assert frechet(noise, y) > 10 * unseen.mean()
    ones = x[digits[0].labels == 1]
    assert frechet(ones, y) > 10 * unseen.mean()


def test_wide_samples_go_through_principal_components():
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    x = rng.standard_normal((120, 33, 33, 1)) + labels[:, None, None, None]
    mapping = classifier_features(x, labels)
    fresh = rng.standard_normal((100, 33, 33, 1)) + labels[:100, None, None, None]
    assert np.mean(mapping.predict(fresh) == labels[:100]) > 0.95


def test_principal_components():
    rng = np.random.default_rng(0)
    scales = np.array([5.0, 3.0, 1.0, 0.1])
    turn = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    x = (rng.standard_normal((500, 4)) * scales) @ turn + 7
    y = (rng.standard_normal((300, 4)) * scales) @ turn + 8
    full = pca_features(x)
    assert full.dim == 4
    assert "all of their variance" in full.what
    assert frechet(full.features(x), full.features(y)) == pytest.approx(frechet(x, y), rel=1e-8)
    two = pca_features(x, max_dim=2)
    assert two.features(y).shape == (300, 2)
    spread = two.features(x).std(axis=0)
    np.testing.assert_allclose(spread, scales[:2], rtol=5 / np.sqrt(2 * 500))
    assert f"{(25 + 9) / 35.01:.0%}"[:2] in two.what
    assert pca_features(rng.standard_normal((30, 8, 8, 1))).dim == 3  # one direction for ten rows


def test_identity():
    mapping = identity_features(np.zeros((5, 2)))
    np.testing.assert_array_equal(mapping.features(np.ones((3, 2), np.float32)), np.ones((3, 2)))
    assert (mapping.name, mapping.dim, mapping.predict) == ("identity", 2, None)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: pca_features(np.zeros((1, 2))), "x has 1 row"),
        (lambda: pca_features(np.array([[np.inf, 0.0], [0.0, 0.0]])), "x has NaN or infinity in 1 of 2 rows"),
        (lambda: pca_features(np.zeros((20, 3))).features(np.zeros((4, 2))), "y has 2 numbers per sample, expected 3"),
        (lambda: identity_features(np.zeros((0, 3))), "x is empty"),
        (lambda: classifier_features(np.zeros((4, 2)), [0, 1, 0]), "expected one whole number per row, shape \\(4,\\)"),
        (lambda: classifier_features(np.zeros((2, 2)), [0.0, 1.0]), "expected one whole number per row"),
        (lambda: classifier_features(np.zeros((2, 2)), [0, 3], num_classes=3), "labels runs from 0 to 3"),
        (lambda: classifier_features(np.zeros((2, 2)), [-1, 1]), "labels runs from -1 to 1"),
        (lambda: classifier_features(np.zeros((2, 2)), [1, 1]), "a single class"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
