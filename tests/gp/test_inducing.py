"""Sparse Gaussian processes against exact ones of scikit-learn and dense algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor, kernels

from bridgejax import gp
from bridgejax.gp.covariances import pairwise
from bridgejax.gp.inducing import Normal, features, regression

RNG = np.random.default_rng(1)
X = np.sort(RNG.uniform(-3.0, 3.0, 60))[:, None]
Y = np.sin(2.0 * X[:, 0]) + 0.2 * RNG.normal(size=60)
NOISE = 0.2


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def test_the_evidence_of_scikit_learn(x64):
    kernel = 1.5 * kernels.RBF(0.7) + kernels.WhiteKernel(NOISE**2)
    theirs = GaussianProcessRegressor(kernel, optimizer=None, alpha=0.0).fit(X, Y).log_marginal_likelihood_value_
    np.testing.assert_allclose(gp.log_marginal(gp.rbf(0.7, 1.5), X, Y, NOISE), theirs, rtol=1e-9)


def test_the_evidence_in_float32():
    with jax.enable_x64(True):
        wide = float(gp.log_marginal(gp.rbf(0.7, 1.5), X, Y, NOISE))
    assert abs(float(gp.log_marginal(gp.rbf(0.7, 1.5), X, Y, NOISE)) - wide) < 1e-2


def test_a_matrix_beyond_float32_is_said():
    """60 inputs within 1.4 lengths: the least eigenvalues of their rbf matrix are far below a rounding."""
    with pytest.raises(ValueError, match="noise=1e-05 is not positive definite in float32 at these 60 inputs"):
        gp.log_marginal(gp.rbf(5.0), X, Y, 1e-5)
    with jax.enable_x64(True):
        assert np.isfinite(gp.log_marginal(gp.rbf(5.0), X, Y, 1e-5))


def test_the_collapsed_bound_is_the_evidence_with_every_row_inducing(x64):
    exact = gp.log_marginal(gp.matern32(0.7), X, Y, NOISE)
    np.testing.assert_allclose(gp.collapsed_bound(gp.matern32(0.7), X, X, Y, NOISE), exact, atol=1e-6)


def test_the_collapsed_bound_of_dense_algebra(x64):
    k, z = gp.rbf(0.7, 1.5), X[::6]
    cross, inner = np.asarray(gp.gram(k, z, X)), np.asarray(gp.gram(k, z))
    q = cross.T @ np.linalg.solve(inner + 1e-12 * np.eye(len(z)), cross)
    dense = q + NOISE**2 * np.eye(len(X))
    expected = -0.5 * (Y @ np.linalg.solve(dense, Y) + np.linalg.slogdet(2 * np.pi * dense)[1])
    expected -= np.trace(np.asarray(gp.gram(k, X)) - q) / (2 * NOISE**2)
    np.testing.assert_allclose(gp.collapsed_bound(k, z, X, Y, NOISE), expected, rtol=1e-6)


def test_the_largest_bound_over_gaussian_laws_is_the_collapsed_one(x64):
    """The best q(v) is N(B^-1 A y / s^2, B^-1), B = I + A A^T / s^2; its bound is of the terms of ``Normal``."""
    k, z = gp.rbf(0.7, 1.5), jnp.asarray(X[::6])
    lower = gp.root(pairwise(*k, z, z)).lower
    a, rest = features(*k, z, lower, jnp.asarray(X))
    inner = jnp.eye(len(z)) + a @ a.T / NOISE**2
    law = Normal((jnp.linalg.solve(inner, a @ Y) / NOISE**2)[:, None], jnp.linalg.cholesky(jnp.linalg.inv(inner))[None])
    mean, variance = a.T @ law.mean, rest[:, None] + law.spread(a)
    one = gp.gaussian(NOISE)
    data = jax.vmap(lambda y, m, v: one.expected(one.params, y, m, v, None))(Y[:, None], mean, variance)
    bound = jnp.sum(data) - law.kl()
    np.testing.assert_allclose(bound, gp.collapsed_bound(k, z, X, Y, NOISE), rtol=1e-9)


@pytest.mark.parametrize("shape", ["diagonal", "lower"])
def test_a_normal_law_of_values(shape, key):
    """Spread and KL against its dense covariance, and draws against both."""
    m, d = 4, 2
    scale = (
        RNG.uniform(0.5, 1.5, (m, d)) if shape == "diagonal" else np.tril(RNG.normal(size=(d, m, m))) + 2 * np.eye(m)
    )
    law = Normal(jnp.asarray(RNG.normal(size=(m, d))), jnp.asarray(scale))
    roots = [np.diag(scale[:, j]) if shape == "diagonal" else scale[j] for j in range(d)]
    a = RNG.normal(size=(m, 3))
    expected = np.stack([np.diag(a.T @ root @ root.T @ a) for root in roots], axis=1)
    np.testing.assert_allclose(law.spread(jnp.asarray(a)), expected, rtol=1e-5)
    kl = sum(
        0.5 * (np.trace(root @ root.T) + law.mean[:, j] @ law.mean[:, j] - m - np.linalg.slogdet(root @ root.T)[1])
        for j, root in enumerate(roots)
    )
    np.testing.assert_allclose(law.kl(), kl, rtol=1e-5)
    draws = jax.vmap(law.draw)(jax.random.normal(key, (20_000, m, d)))
    for j, root in enumerate(roots):
        cov = np.cov(np.asarray(draws[:, :, j]).T)
        size = np.sqrt(np.outer(np.diag(root @ root.T), np.diag(root @ root.T)))
        np.testing.assert_allclose((cov - root @ root.T) / size, 0.0, atol=5 * np.sqrt(2 / 20_000))


def test_jitter_is_raised_until_the_root_is_finite():
    ones = jnp.ones((50, 50))
    found = gp.root(ones)
    assert bool(jnp.all(jnp.isfinite(found.lower)))
    indefinite = gp.root(ones - 0.01 * jnp.eye(50))
    assert float(indefinite.jitter) >= 0.01
    assert bool(jnp.all(jnp.isfinite(indefinite.lower)))


def test_gradients_of_the_bound_in_float32():
    def bound(params):
        return gp.collapsed_bound(gp.Covariance(gp.rbf().apply, params), X[::6], X, Y, NOISE)

    params = gp.rbf(0.7, 1.5).params
    grads = jax.grad(bound)(params)
    with jax.enable_x64(True):
        wide = jax.grad(bound)(jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), params))
    for name, value in wide.items():
        np.testing.assert_allclose(grads[name], value, rtol=2e-2)


def test_many_rows_of_little_noise_in_float32():
    # B has a condition of 1e10, of which float32 holds no Cholesky factor
    rng = np.random.default_rng(0)
    a, noise = rng.normal(size=(4, 20_000)) * np.array([[1.0], [0.3], [0.01], [1e-5]]), 1e-3
    y = a.T @ np.array([1.0, -2.0, 0.5, 0.0]) + noise * rng.normal(size=20_000)
    a32, y32 = jnp.asarray(a, jnp.float32), jnp.asarray(y, jnp.float32)
    a, y = np.asarray(a32, np.float64), np.asarray(y32, np.float64)
    b = np.eye(4) + a @ a.T / noise**2
    mean = np.linalg.solve(b, a @ y) / noise**2
    found = regression(a32, y32, noise)
    log_det = 2.0 * float(jnp.sum(jnp.log(jnp.abs(jnp.diagonal(found.lower)))))
    np.testing.assert_allclose(log_det, np.linalg.slogdet(b)[1], rtol=1e-5)
    np.testing.assert_allclose(np.linalg.solve(found.lower.T, found.projected), mean, rtol=1e-3, atol=1e-4)
    left = (np.sum((y - a.T @ mean) ** 2) / noise**2) + np.sum(mean**2)
    np.testing.assert_allclose(found.left, left, rtol=1e-2)  # y is rounded to 1e-7 of 2: a ten-thousandth of the noise
    slope = jax.grad(lambda s: regression(a32, y32, s).left)(jnp.float32(noise))
    np.testing.assert_allclose(slope, -2.0 * np.sum((y - a.T @ mean) ** 2) / noise**3, rtol=1e-2)


def test_targets_that_are_all_0_leave_finite_gradients():
    a = jnp.asarray(np.random.default_rng(0).normal(size=(3, 20)), jnp.float32)
    grads = jax.grad(lambda a, y: regression(a, y, 0.1).left, (0, 1))(a, jnp.zeros(20))
    assert all(bool(jnp.isfinite(g).all()) for g in grads)
