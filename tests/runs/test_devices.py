"""Every method of the library takes the same steps and draws the same samples on one device and on eight."""

import jax
import numpy as np
import pytest
from every_method import NAMES, draw, problem, run
from jax.sharding import Mesh

PROCESSES = ("deep_gp", "dsvi", "ddvi", "dbvi")  # Gaussian ones
QUICK = ("edm", "dsbm", "pis")  # one of one set, one in rounds, one of a density; the others are slow


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_one_device_and_eight_agree(name, tmp_path):
    """Losses of five steps (rounds of two), samples of both states on both.

    A sum over rows in another order moves a loss by some units of 6e-8. Adam divides gradients by their size, those
    that are nothing but rounding too: hence the room for samples, of order 1. Covariances of inducing inputs have a
    condition of 1e5 and more, by which rounding grows: Gaussian processes are compared in float64.
    """
    with jax.enable_x64(name in PROCESSES):
        compare(name, tmp_path)


def compare(name, tmp_path):
    made, mesh = problem(name, tmp_path), Mesh(np.array(jax.devices()[:8]), ("data",))
    (alone, losses), (spread, others) = run(made), run(made, mesh=mesh)
    np.testing.assert_allclose(others, losses, rtol=5e-6, atol=1e-6)
    assert all(len(leaf.devices()) == 8 for leaf in jax.tree.leaves(spread))
    expected = draw(made, alone)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(expected))
    for found in (draw(made, spread, mesh=mesh), draw(made, spread), draw(made, alone, mesh=mesh)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=3e-5, atol=3e-5), found, expected)
