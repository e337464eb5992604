"""The Gaussian on the simplex against closed forms (K = 2), quadrature in float64 (K = 3) and Dirichlet's (no pull)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from bridgejax.bridges import constrain
from bridgejax.geometry.domains import Simplex
from bridgejax.processes import schedules
from bridgejax.processes.keys import keys
from bridgejax.solve import grids, simulate_batch

VARIANCES = np.float32([1e-6, 1e-3, 0.03, 0.2, 1.0, 30.0, 1e6])


@jax.jit
def both(y, mean, variances):
    """Expectation and log density at y for every variance."""
    domain = Simplex(mean.shape[0])
    f = jax.vmap(lambda v: (domain.expectation(mean, v), domain.log_prob(y, mean, v)))
    return f(variances)


def on_the_segment(mean, variance):
    """The law of y_1 for K = 2: a truncated normal."""
    centre, sd = (mean[0] - mean[1] + 1) / 2, np.sqrt(variance / 2)
    return scipy.stats.truncnorm(-centre / sd, (1 - centre) / sd, loc=centre, scale=sd)


@pytest.mark.parametrize("mean", [(0.3, 0.1), (5.0, -3.0), (-2.0, 2.5), (0.9, 0.2)])
def test_two_categories_are_a_truncated_normal(mean):
    mean, y = np.float32(mean), np.float32([0.625, 0.375])
    got, logs = both(y, mean, VARIANCES)
    for k, v in enumerate(VARIANCES.astype(float)):
        truth = on_the_segment(mean.astype(float), v)
        with np.errstate(all="ignore"):  # SciPy's unused skewness
            np.testing.assert_allclose(got[k, 0], truth.mean(), atol=2e-6)
        want = truth.logpdf(y[0])
        np.testing.assert_allclose(logs[k], want, atol=5e-6 + 1e-6 * abs(want))


def by_quadrature(mean, variance, y):
    """Mean and log density of the first two coordinates for K = 3, and the covariance."""
    nodes, w = np.polynomial.legendre.leggauss(160)
    gap = mean - max((np.sort(mean)[::-1].cumsum() - 1)[i] / (i + 1) for i in range(3))
    p, reach = np.maximum(gap, 0), 9 * np.sqrt(variance)
    low, high = max(0, p[0] - reach), min(1, p[0] + reach)
    first = low + (high - low) * (1 + nodes) / 2
    below = np.maximum(0, p[1] - reach)
    above = np.maximum(np.minimum(1 - first, p[1] + reach), below)
    second = below + (above - below)[:, None] * (1 + nodes) / 2
    area = (high - low) / 2 * w[:, None] * (above - below)[:, None] / 2 * w
    points = np.stack([np.broadcast_to(first[:, None], second.shape), second, 1 - first[:, None] - second])
    logs = -0.5 * np.sum((points - mean[:, None, None]) ** 2, axis=0) / variance
    mass = np.exp(logs - logs.max()) * area
    total = mass.sum()
    law = mass / total
    average = np.einsum("kij,ij->k", points, law)
    centred = points - average[:, None, None]
    log_prob = -0.5 * np.sum((y - mean) ** 2) / variance - np.log(total) - logs.max()
    return average, np.einsum("kij,lij->kl", centred, centred * law), log_prob


MEANS = [(1.5, 0.9, -0.3), (0.0, -0.7, 3.0), (-2.0, 2.5, 2.4), (0.3, 0.1, 0.2)]


@pytest.mark.parametrize("mean", MEANS)
def test_three_categories_against_quadrature(mean):
    mean, y = np.float32(mean), np.float32([0.5, 0.125, 0.375])
    got, logs = both(y, mean, VARIANCES[1:])
    for k, v in enumerate(VARIANCES[1:].astype(float)):
        average, _, want = by_quadrature(mean.astype(float), v, y.astype(float))
        np.testing.assert_allclose(got[k], average, atol=2e-6)
        np.testing.assert_allclose(logs[k], want, atol=1e-5 + 2e-6 * abs(want))


@jax.jit
def slopes(y, mean, variance):
    domain = Simplex(3)
    return jax.jacfwd(domain.expectation, (0, 1))(mean, variance), jax.grad(domain.log_prob, (1, 2))(y, mean, variance)


@pytest.mark.parametrize("variance", [1e-3, 0.05, 0.6, 40.0])
@pytest.mark.parametrize("mean", MEANS[:2])
def test_derivatives(mean, variance):
    """dE/dmean is the covariance over the variance; the others by differences of the quadrature."""
    mean, v, y = np.float32(mean), float(np.float32(variance)), np.array([0.5, 0.125, 0.375])
    (by_mean, by_variance), (log_mean, log_variance) = slopes(np.float32(y), mean, np.float32(variance))
    wide = mean.astype(float)
    average, covariance, _ = by_quadrature(wide, v, y)
    np.testing.assert_allclose(by_mean, covariance / v, atol=1e-5)
    up, down = by_quadrature(wide, v * 1.001, y), by_quadrature(wide, v * 0.999, y)
    want = (up[0] - down[0]) / (0.002 * v)
    np.testing.assert_allclose(by_variance, want, atol=2e-5 / min(v, 1.0) ** 0.5 + 1e-4 * np.abs(want).max())
    np.testing.assert_allclose(log_mean, (y - average) / v, atol=1e-5 / min(v, 1.0), rtol=1e-5)
    np.testing.assert_allclose(log_variance, (up[2] - down[2]) / (0.002 * v), rtol=2e-4, atol=1e-4)


@jax.jit
def draws(many, means, variance):
    domain = Simplex(means.shape[-1])
    x = jax.vmap(lambda k: domain.sample(k, means, variance))(many)
    return x, jax.vmap(domain.contains)(x), domain.expectation(means, variance)


@pytest.mark.parametrize("variance", [1e-4, 0.03, 0.5, 50.0])
def test_draws(variance, key):
    """Two locations with three categories: their means, covariance, and the law of the first entry."""
    n, means = 8000, jnp.float32(MEANS[:2])
    x, inside, want = draws(keys(key, n), means, jnp.float32(variance))
    assert bool(jnp.all(inside))
    x = np.asarray(x, np.float64)
    error = x.std(0) / np.sqrt(n)
    assert np.all(np.abs(x.mean(0) - want) < 5 * error + 1e-6)
    for k, mean in enumerate(np.asarray(means, np.float64)):
        _, covariance, _ = by_quadrature(mean, float(np.float32(variance)), np.ones(3) / 3)
        centred = x[:, k] - x[:, k].mean(0)
        products = np.einsum("ni,nj->nij", centred, centred)
        assert np.all(np.abs(products.mean(0) - covariance) < 5 * products.std(0) / np.sqrt(n) + 1e-9)


def test_stable_at_every_scale(key):
    """From no noise, where it is the projection, to far too much, for sixteen categories."""
    domain = Simplex(16)
    nearest = domain.snap(jnp.zeros(16))

    @jax.jit
    def f(m, v):
        slope, average = jax.jacfwd(lambda m, v: (domain.expectation(m, v),) * 2, (0, 1), has_aux=True)(m, v)
        return average, domain.snap(m), *slope

    for scale in (0.0, 1.0, 1e4):
        mean = scale * jax.random.normal(key, (16,))
        for variance in (0.0, 1e-12, 1e-3, 1.0, 1e6):
            average, nearest, *slope = f(mean, jnp.float32(variance))
            assert all(np.all(np.isfinite(s)) for s in (average, *slope)), (scale, variance)
            if variance <= 1e-12:
                np.testing.assert_allclose(average, nearest, atol=1e-5)
            if variance == 1e6 and scale <= 1.0:  # no pull: uniform
                np.testing.assert_allclose(average, 1.0 / 16, atol=1e-6)
    assert bool(domain.contains(nearest))
    assert not bool(domain.contains(nearest + 1e-5))
    assert not bool(domain.contains(jnp.zeros(16).at[0].set(1.5).at[1].set(-0.5)))


def wild(t, x, args):
    return 20.0 * jnp.sin(7.0 * x)


def test_bridges_end_on_the_simplex_whatever_the_drift(key):
    sde = constrain(schedules.brownian(1.0), Simplex(4), wild)
    x = simulate_batch(sde, keys(key, 1000), jnp.zeros((1000, 4)), grids.uniform(8))
    assert int(jnp.sum(~jax.vmap(Simplex(4).contains)(x))) == 0


def test_bad_input():
    with pytest.raises(ValueError, match="count must be an integer >= 2"):
        Simplex(1)
    with pytest.raises(ValueError, match="a last axis of 3, got shape"):
        Simplex(3).expectation(jnp.ones(4), 1.0)
