"""Chamfer distances by hand, 1-NN accuracy at both of its ends, evenness of a lattice."""

import numpy as np
import pytest

from bridgejax.metrics import chamfer, one_nn_accuracy, unevenness

RANDOM = np.random.default_rng(0)


@pytest.mark.fast
def test_chamfer_by_hand():
    x, y = np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 1.0]])
    assert chamfer(x, y) == pytest.approx((1.0 + 2.0) / 2 + 1.0)
    assert chamfer(x, x) == 0.0
    with pytest.raises(ValueError, match="of one dimension"):
        chamfer(x, np.zeros((2, 3)))


def test_one_nn_accuracy_at_its_ends():
    """Draws of one law within 5 s.e. of 1/2 (neighbours are mutual: twice the variance), shifted ones at 1."""
    n = 150
    centre = RANDOM.normal(size=(2 * n, 1, 2))
    clouds = centre + 0.1 * RANDOM.normal(size=(2 * n, 10, 2))
    assert abs(one_nn_accuracy(clouds[:n], clouds[n:]) - 0.5) < 5 * 0.5 * np.sqrt(2.0 / (2 * n))
    assert one_nn_accuracy(clouds[:20], clouds[n : n + 20] + 100.0) == 1.0
    with pytest.raises(ValueError, match="at least two elements each"):
        one_nn_accuracy(clouds[:1], clouds)


@pytest.mark.fast
def test_unevenness():
    lattice = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), -1).reshape(-1, 2)
    assert unevenness(lattice) == 0.0
    # a torus has no edge; here the edge moves the planar value (4/pi - 1)^(1/2) = 0.523 by a few per cent
    assert unevenness(RANDOM.uniform(size=(20_000, 2))) == pytest.approx(np.sqrt(4 / np.pi - 1), abs=0.02)
    with pytest.raises(ValueError, match="two points"):
        unevenness(np.zeros((1, 2)))


@pytest.mark.parametrize("d", [2, 20])
def test_one_nn_accuracy_of_points(d):
    """Rank 2 means points: by hand, chance for one law, 1 for laws apart, and quick where every pair would be slow."""
    assert one_nn_accuracy([[0.0], [1.0]], [[0.4], [5.0]]) == 0.0
    assert one_nn_accuracy([[0.0], [1.0]], [[5.0], [5.5]]) == 1.0
    n = 2000
    x, y = RANDOM.normal(size=(2, n, d))
    assert one_nn_accuracy(x, y) == pytest.approx(0.5, abs=5 * 0.5 * np.sqrt(2.0 / (2 * n)))
    assert one_nn_accuracy(x, y + 100.0) == 1.0


@pytest.mark.fast
def test_one_nn_accuracy_says_what_it_takes():
    x = np.zeros((3, 2))
    for arguments, words in (
        (
            (x, x[None]),
            r"both be points \[n, d\] or both be clouds \[n, points, d\], got shapes \(3, 2\) and \(1, 3, 2\)",
        ),
        ((np.zeros(3), np.zeros(3)), "both be points"),
        ((np.zeros((3, 8, 8, 1)),) * 2, "both be points"),
        ((x, np.zeros((3, 1))), "of one dimension, got 2 and 1"),
        ((x[:1], x), "at least two elements each"),
    ):
        with pytest.raises(ValueError, match=words):
            one_nn_accuracy(*arguments)
