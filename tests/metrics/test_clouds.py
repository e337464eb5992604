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
    with pytest.raises(ValueError, match="two clouds on either side"):
        one_nn_accuracy(clouds[:1], clouds)


@pytest.mark.fast
def test_unevenness():
    lattice = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), -1).reshape(-1, 2)
    assert unevenness(lattice) == 0.0
    # a torus has no edge; here the edge moves the planar value (4/pi - 1)^(1/2) = 0.523 by a few per cent
    assert unevenness(RANDOM.uniform(size=(20_000, 2))) == pytest.approx(np.sqrt(4 / np.pi - 1), abs=0.02)
    with pytest.raises(ValueError, match="two points"):
        unevenness(np.zeros((1, 2)))
