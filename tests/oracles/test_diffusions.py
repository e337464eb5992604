"""Transition densities against published numbers and SciPy; bridges against quadrature and simulation."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from bridgejax.oracles import diffusions
from bridgejax.processes import noising, schedules
from bridgejax.processes._keys import keys
from bridgejax.solve import grids, simulate_batch

_RULE = np.polynomial.legendre.leggauss(400)
X, W = 5.0 * (_RULE[0] + 1.0), 5.0 * _RULE[1]  # Gauss-Legendre on [0, 10]
CIR = {"kappa": 2.0, "theta": 1.3, "sigma": 0.7}


@pytest.mark.fast
def test_reference_values():
    """OU beta = 2, T = 1, 1 -> 1; radial OU theta = 4, t = 1: the five digits of the literature's examples."""
    np.testing.assert_allclose(diffusions.ou_log_prob(1.0, 1.0, 1.0, 2.0), -1.73974, atol=2e-5)
    np.testing.assert_allclose(diffusions.ou_bridge(0.5, 1.0, 1.0, 1.0, 2.0), (0.64805, 0.19040), atol=1e-5)
    got = diffusions.radial_ou_log_prob(1.0, jnp.array([1.5, 1.5, 3.0]), jnp.array([1.0, 2.5, 4.0]), 4.0)
    np.testing.assert_allclose(got, [-2.52513, -0.81677, -5.66302], atol=2e-5)


@pytest.mark.parametrize("order", [-0.9, -0.5, 0.0, 0.3, 2.0, 7.5, 29.0, 31.0, 200.0])
def test_log_bessel_in_float64(order):
    z = np.geomspace(1e-6, 650.0, 400)  # SciPy's iv overflows at 700
    with jax.enable_x64(True):
        got = np.asarray(diffusions.log_bessel_i(order, z))
    with np.errstate(divide="ignore"):
        exact = np.log(scipy.special.ive(order, z)) + z
    seen = np.isfinite(exact) & (exact > -600)  # where SciPy has not underflowed
    assert seen.sum() > 60
    np.testing.assert_allclose(got[seen], exact[seen], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("order", [-0.5, 0.0, 3.0, 40.0])
def test_log_bessel_in_float32(order):
    z = np.geomspace(1e-2, 500.0, 400).astype(np.float32)
    got = np.asarray(diffusions.log_bessel_i(order, z))
    with jax.enable_x64(True):
        exact = np.asarray(diffusions.log_bessel_i(order, np.float64(z)))
    np.testing.assert_allclose(got, exact, rtol=3e-6, atol=2e-4 if order == 40.0 else 2e-5)


def test_the_slope_of_log_bessel_is_the_recurrence():
    """I' = I_(order + 1) + order I / z, on both sides of the switch."""
    with jax.enable_x64(True):
        order, z = jnp.array([0.5, 2.0, 2.0, 35.0, 0.0]), jnp.array([3.0, 29.0, 31.0, 4.0, 500.0])
        slope = jax.jit(jax.vmap(jax.grad(diffusions.log_bessel_i, argnums=1)))(order, z)
        ratio = jnp.exp(diffusions.log_bessel_i(order + 1, z) - diffusions.log_bessel_i(order, z))
        np.testing.assert_allclose(slope, ratio + order / z, rtol=1e-9)


def cir_exact(t, x0, x, kappa, theta, sigma):
    c = 2 * kappa / (sigma**2 * (1 - np.exp(-kappa * t)))
    return np.log(2 * c) + scipy.stats.ncx2.logpdf(
        2 * c * x, 4 * kappa * theta / sigma**2, 2 * c * x0 * np.exp(-kappa * t)
    )


@pytest.mark.parametrize(
    ("t", "x0", "parameters"),
    [
        (1.0, 0.7, CIR),
        (0.1, 0.7, CIR),
        (0.5, 2.0, {"kappa": 0.3, "theta": 0.2, "sigma": 0.9}),  # touches 0: order -0.85
        (1.0, 1e-8, CIR),
        (3.0, 5.0, {"kappa": 1.0, "theta": 4.0, "sigma": 0.4}),  # order 49: Debye for every x
    ],
)
def test_cir_is_a_noncentral_chi_square(t, x0, parameters):
    x = np.linspace(0.05, 3.0, 400)
    exact = cir_exact(t, x0, x, **parameters)
    near = exact > exact.max() - 300
    with jax.enable_x64(True):
        got = np.asarray(diffusions.cir_log_prob(t, x0, x, **parameters))
    np.testing.assert_allclose(got[near], exact[near], rtol=1e-8, atol=1e-8)


def test_cir_keeps_its_digits_at_short_times_in_float32():
    """t = 1e-4: u and v are near 3e4, and only the difference of their roots counts. c x to rounding 6e-8."""
    x0, t = 0.9, 1e-4
    x = np.float32(x0 + np.sqrt(t) * 0.7 * np.linspace(-4, 4, 400))
    got = np.asarray(diffusions.cir_log_prob(t, x0, x, **CIR))
    with jax.enable_x64(True):
        exact = np.asarray(diffusions.cir_log_prob(t, np.float64(np.float32(x0)), np.float64(x), **CIR))
    np.testing.assert_allclose(got, exact, atol=0.02)  # the whole range of the log density here is 8


@pytest.mark.parametrize("x0", [0.0, 0.5])
def test_cir_integrates_to_one_and_has_its_mean(x0):
    with jax.enable_x64(True):
        density = np.exp(np.asarray(diffusions.cir_log_prob(0.8, x0, X, **CIR)))
    np.testing.assert_allclose(np.sum(W * density), 1.0, rtol=1e-6)
    np.testing.assert_allclose(np.sum(W * X * density), 1.3 + np.exp(-1.6) * (x0 - 1.3), rtol=1e-6)


def test_radial_ou_is_the_norm_of_ou():
    """theta = (d - 1) sigma^2 / 2, d = 3: the mean square is that of three OU coordinates."""
    beta, sigma, t, x0 = 0.7, 1.3, 0.9, 0.8
    with jax.enable_x64(True):
        p = np.exp(np.asarray(diffusions.radial_ou_log_prob(t, x0, X, sigma**2, beta, sigma)))
    np.testing.assert_allclose(np.sum(W * p), 1.0, rtol=1e-8)
    exact = np.exp(-2 * beta * t) * x0**2 + 3 * sigma**2 / (2 * beta) * (1 - np.exp(-2 * beta * t))
    np.testing.assert_allclose(np.sum(W * p * X**2), exact, rtol=1e-8)


def test_ou_agrees_with_its_schedule():
    law = noising(schedules.ou(1.3, 0.8, T=2.0)).terminal_kernel
    np.testing.assert_allclose(
        diffusions.ou_log_prob(0.6, 0.4, -0.2, 1.3, 0.8),
        law.log_prob(0.0, 0.6, jnp.float32(0.4), jnp.float32(-0.2), None),
        rtol=1e-5,
    )


@pytest.mark.parametrize("beta", [1e-3, 1.0, 200.0])
def test_the_ou_bridge_is_the_product_of_transitions(beta):
    """Moments of bridge_log_prob, from its slope and curvature in float64; beta = 200 would overflow a sinh."""
    with jax.enable_x64(True):
        log_prob = partial(diffusions.ou_log_prob, beta=beta, sigma=0.8)
        s, t, x0, x1 = 0.7, 2.0, 0.4, -1.1
        mean, variance = diffusions.ou_bridge(s, t, x0, x1, beta, 0.8)

        def density(x):
            return diffusions.bridge_log_prob(log_prob, s, t, x0, x, x1)

        np.testing.assert_allclose(jax.grad(jax.grad(density))(mean), -1 / variance, rtol=1e-8)
        np.testing.assert_allclose(jax.grad(density)(mean) * np.sqrt(variance), 0.0, atol=1e-8)
        np.testing.assert_allclose(density(mean), -0.5 * np.log(2 * np.pi * variance), rtol=1e-7)


def test_the_brownian_bridge():
    mean, variance = diffusions.brownian_bridge(0.3, 2.0, 1.0, -1.0, 0.5)
    np.testing.assert_allclose((mean, variance), ((1.7 - 0.3) / 2, 0.25 * 0.3 * 1.7 / 2), rtol=1e-6)
    log_prob = partial(diffusions.brownian_log_prob, sigma=0.5)
    got = diffusions.bridge_log_prob(log_prob, 0.3, 2.0, 1.0, 0.9, -1.0)
    np.testing.assert_allclose(got, scipy.stats.norm.logpdf(0.9, mean, np.sqrt(variance)), rtol=1e-5)


@pytest.mark.parametrize(
    "log_prob",
    [partial(diffusions.cir_log_prob, **CIR), partial(diffusions.radial_ou_log_prob, theta=4.0)],
    ids=["cir", "radial_ou"],
)
def test_bridges_are_normalised(log_prob):
    """Chapman-Kolmogorov: the bridge density integrates to one at every interior time."""
    with jax.enable_x64(True):
        for s in (0.1, 0.5, 0.9):
            density = np.exp(np.asarray(diffusions.bridge_log_prob(log_prob, s, 1.0, 1.5, X, 2.5)))
            np.testing.assert_allclose(np.sum(W * density), 1.0, rtol=1e-8)


@pytest.mark.parametrize(
    ("sde", "log_prob"),
    [
        (diffusions.cir(**CIR), partial(diffusions.cir_log_prob, **CIR)),
        (diffusions.radial_ou(2.0, 1.0, 0.6), partial(diffusions.radial_ou_log_prob, theta=2.0, beta=1.0, sigma=0.6)),
    ],
    ids=["cir", "radial_ou"],
)
def test_the_densities_are_those_of_the_sdes(sde, log_prob):
    """Simulated cells' shares; n = 4096, 5 standard errors plus the change on halving the step."""
    n, x0 = 4096, 0.8
    edges = np.array([0.0, 0.6, 0.9, 1.2, 1.6, 8.0])
    counts = []
    for steps in (64, 32):
        x = np.asarray(simulate_batch(sde, keys(jax.random.key(5), n), jnp.full(n, x0), grids.uniform(steps)))
        counts.append(np.histogram(x, edges)[0] / n)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    x = 0.5 * (edges[1:, None] - edges[:-1, None]) * (nodes + 1) + edges[:-1, None]
    density = np.exp(np.asarray(log_prob(1.0, x0, x), np.float64))
    exact = 0.5 * np.diff(edges) * (density @ weights)
    errors = np.sqrt(exact * (1 - exact) / n)
    np.testing.assert_array_less(np.abs(counts[0] - exact), 5 * errors + np.abs(counts[0] - counts[1]))


def test_values_and_gradients_are_finite_in_float32():
    x = jnp.array([1e-6, 1e-2, 1.0, 30.0])
    t, x0, x = (a.ravel() for a in jnp.meshgrid(jnp.array([1e-3, 1.0, 50.0]), jnp.array([0.0, 1e-6, 1.0, 30.0]), x))
    for f in (diffusions.cir_log_prob, diffusions.radial_ou_log_prob):
        chex.assert_tree_all_finite(jax.jit(jax.vmap(jax.value_and_grad(f, argnums=(0, 1, 2))))(t, x0, x))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: diffusions.cir_log_prob(0.0, 1.0, 1.0), "t must be positive"),
        (lambda: diffusions.cir(sigma=-1.0), "sigma must be positive"),
        (lambda: diffusions.ou_bridge(0.5, 1.0, 0.0, 0.0, beta=0.0), "beta must be positive"),
        (lambda: diffusions.log_bessel_i(-1.0, 1.0), "order must exceed -1"),
        (lambda: diffusions.log_bessel_i(0.0, -1.0), "z must be >= 0"),
        (lambda: diffusions.bridge_log_prob(diffusions.ou_log_prob, 1.0, 1.0, 0.0, 0.0, 0.0), "s must lie inside"),
    ],
)
def test_what_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
