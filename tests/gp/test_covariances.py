"""Covariances against scikit-learn's, and gradients where points coincide."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.gaussian_process import kernels

from bridgejax import gp

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(7, 3)), RNG.normal(size=(5, 3))
LENGTH = np.array([0.5, 1.0, 2.0])
SAME = {
    "rbf": (gp.rbf, kernels.RBF(LENGTH)),
    "matern32": (gp.matern32, kernels.Matern(LENGTH, nu=1.5)),
    "matern52": (gp.matern52, kernels.Matern(LENGTH, nu=2.5)),
}


@pytest.mark.parametrize("name", SAME)
def test_the_covariances_of_scikit_learn(name):
    ours, theirs = SAME[name]
    np.testing.assert_allclose(gp.gram(ours(LENGTH, 2.0), X, Y), 2.0 * theirs(X, Y), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", SAME)
def test_gradients_where_points_coincide(name):
    covariance = SAME[name][0](LENGTH)
    grads = jax.grad(covariance.apply, (0, 1))(covariance.params, jnp.asarray(X[0]), jnp.asarray(X[0]))
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(grads))
    np.testing.assert_allclose(grads[1], 0.0)  # k is largest there
    np.testing.assert_allclose(grads[0]["log_variance"], 1.0, rtol=1e-6)


def test_sums_and_products():
    one, two = gp.rbf(LENGTH), gp.matern32(1.5, 3.0)
    a, b = gp.gram(one, X), gp.gram(two, X)
    np.testing.assert_allclose(gp.gram(gp.add(one, two), X), a + b, rtol=1e-6)
    np.testing.assert_allclose(gp.gram(gp.multiply(one, two), X), a * b, rtol=1e-5)
