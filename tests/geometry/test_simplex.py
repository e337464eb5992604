"""The Gaussian on the simplex against closed forms (K = 2), quadrature in float64 (K = 3) and the uniform law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from bridgejax.bridges import constrain
from bridgejax.geometry.domains import Simplex
from bridgejax.processes import schedules
from bridgejax.processes._keys import keys
from bridgejax.solve import grids, simulate

VARIANCES = np.float32([1e-3, 0.03, 0.2, 1.0, 30.0, 1e6])
MEANS = np.float32([(1.5, 0.9, -0.3), (0.0, -0.7, 3.0), (-2.0, 2.5, 2.4), (0.3, 0.1, 0.2)])
Y = np.float32([0.5, 0.125, 0.375])


def by_quadrature(mean, variance, y=Y):
    """Mean and covariance for K = 3, and the log density of the first two coordinates at y."""
    mean, variance, y = np.float64(mean), float(variance), np.float64(y)
    nodes, w = np.polynomial.legendre.leggauss(80)
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


ALONG = np.float32([1.0, -0.5, 0.25])


@jax.jit
@jax.vmap
def everything(mean, variance):
    """Expectation and log density, and their derivatives along (ALONG, variance)."""
    f = lambda mean, v: (Simplex(3).expectation(mean, v), Simplex(3).log_prob(Y, mean, v))  # noqa: E731
    return jax.jvp(f, (mean, variance), (jnp.asarray(ALONG), variance))


def test_three_categories_against_quadrature():
    """Values and derivatives: dE/dmean is the covariance over the variance, in the variance by differences."""
    means, variances = np.repeat(MEANS, len(VARIANCES), axis=0), np.tile(VARIANCES, len(MEANS))
    (averages, logs), (slopes, log_slopes) = jax.tree.map(np.asarray, everything(means, variances))
    for k, (mean, v) in enumerate(zip(means, variances.astype(float), strict=True)):
        average, covariance, want = by_quadrature(mean, v)
        np.testing.assert_allclose(averages[k], average, atol=2e-6)
        np.testing.assert_allclose(logs[k], want, atol=1e-5 + 2e-6 * abs(want))
        if v < 1e6:
            up, down = by_quadrature(mean, v * 1.001), by_quadrature(mean, v * 0.999)
            rate = covariance @ ALONG / v + (up[0] - down[0]) / 0.002
            np.testing.assert_allclose(slopes[k], rate, atol=2e-5, rtol=1e-4)
            rate = (Y - average) @ ALONG / v + (up[2] - down[2]) / 0.002
            np.testing.assert_allclose(log_slopes[k], rate, atol=1e-4, rtol=1e-4)


def test_stable_at_every_scale(key):
    """Finite from no noise, where the mean is the projection, to far too much."""
    scales, variances = np.meshgrid([0.0, 1.0, 1e4], [0.0, 1e-12, 1e-3, 1.0, 1e6], indexing="ij")
    means = np.float32(scales.reshape(-1, 1) * np.asarray(jax.random.normal(key, (3,))))
    pad = -len(means) % (len(MEANS) * len(VARIANCES))  # the program of the test above, not another
    means, v = np.pad(means, ((0, pad), (0, 0))), np.pad(np.float32(variances.reshape(-1)), (0, pad))
    (averages, _), (slopes, _) = jax.tree.map(np.asarray, everything(means, v))
    assert np.all(np.isfinite(averages))
    assert np.all(np.isfinite(slopes))
    nearest = np.asarray(Simplex(3).snap(jnp.asarray(means)))
    np.testing.assert_allclose(averages[v <= 1e-12], nearest[v <= 1e-12], atol=1e-5)
    np.testing.assert_allclose(averages[(v == 1e6) & (np.abs(means).max(1) < 10)], 1.0 / 3.0, atol=1e-6)
    contains = Simplex(3).contains
    assert all(bool(contains(jnp.asarray(y))) for y in nearest[:3])
    assert not bool(contains(jnp.asarray(nearest[0] + 1e-5)))
    assert not bool(contains(jnp.array([1.5, -0.5, 0.0])))


@pytest.mark.slow
def test_sixteen_categories(key):
    """Two that matter are a truncated normal; without pull the law is uniform, without noise the projection."""
    two = np.float32([(0.3, 0.1), (5.0, -3.0), (-2.0, 2.5), (0.9, 0.2)])
    means = np.concatenate([np.pad(two, ((0, 0), (0, 14)), constant_values=-1e7), np.zeros((1, 16), np.float32)])
    variances = np.float32([1e-6, 1e-3, 0.03, 0.2, 1.0, 1e6])
    got = jax.jit(jax.vmap(jax.vmap(Simplex(16).expectation, (None, 0)), (0, None)))(means, variances)
    centre = (two[:, :1].astype(float) - two[:, 1:] + 1) / 2
    sd = np.sqrt(variances[:5].astype(float) / 2)
    with np.errstate(all="ignore"):  # SciPy's unused skewness
        want = scipy.stats.truncnorm(-centre / sd, (1 - centre) / sd, loc=centre, scale=sd).mean()
    np.testing.assert_allclose(got[:4, :5, 0], want, atol=5e-6)
    np.testing.assert_allclose(got[4], 1.0 / 16, atol=2e-6)


@jax.jit
def draws(many, mean, variance):
    x = jax.vmap(lambda k: Simplex(3).sample(k, mean, variance))(many)
    return x, jnp.all(jax.vmap(Simplex(3).contains)(x))


@pytest.mark.slow
def test_draws(key):
    """Their mean and covariance; and none outside however far the mean lies."""
    n = 8000
    for mean, variance in zip(MEANS[[0, 1, 3, 0, 1]], (1e-4, 0.03, 0.5, 0.5, 50.0), strict=True):
        x, inside = draws(keys(key, n), mean, jnp.float32(variance))
        assert bool(inside)
        x = np.asarray(x, np.float64)
        average, covariance, _ = by_quadrature(mean, np.float32(variance))
        assert np.all(np.abs(x.mean(0) - average) < 5 * x.std(0) / np.sqrt(n) + 1e-6)
        centred = x - x.mean(0)
        products = np.einsum("ni,nj->nij", centred, centred)
        assert np.all(np.abs(products.mean(0) - covariance) < 5 * products.std(0) / np.sqrt(n) + 1e-9)
    for scale in (20.0, 1e4):
        assert bool(draws(keys(key, n), jnp.float32([scale, -scale, 0.3 * scale]), jnp.float32(0.03))[1])


def test_a_bridge_takes_two_locations(key):
    sde = constrain(schedules.brownian(1.0), Simplex(3), lambda t, x, args: 20.0 * jnp.sin(7.0 * x))
    x = jax.eval_shape(lambda k: simulate(sde, k, jnp.zeros((2, 3)), grids.uniform(8)), key)
    assert x.shape == (2, 3)


def test_bad_input():
    with pytest.raises(ValueError, match="count must be an integer >= 2"):
        Simplex(1)
    with pytest.raises(ValueError, match="a last axis of 3, got shape"):
        Simplex(3).expectation(jnp.ones(4), 1.0)
