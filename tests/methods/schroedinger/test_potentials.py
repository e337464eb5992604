"""Mixture potentials: against quadrature of their definition, against the entropic oracle, and their reversal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridgejax.methods.schroedinger._potentials import (
    Potential,
    bridge,
    cayley,
    conditional,
    drift,
    log_potential,
    reversal,
)
from bridgejax.oracles import entropic_pair
from bridgejax.processes.mixtures import gaussian_mixture

RNG = np.random.default_rng(0)
EPSILON = 0.7


def potential(d=3, k=4, turned=False):
    """S_k below and above 1: the plan is proper, a potential of the reference alone would not be."""
    raw = np.random.default_rng(2)
    parts = (jnp.asarray(v) for v in (raw.normal(size=k), raw.normal(size=(k, d)), raw.normal(size=(k, d))))
    return Potential(*parts, cayley(jnp.asarray(raw.normal(size=(k, d, d)))) if turned else None)


def test_the_plan_and_the_drift_by_quadrature():
    """On the line: pi(y | x) ~ exp(x y / epsilon) v(y); the drift from phi_t, the kernel on e^(y^2/2eps) v."""
    with jax.enable_x64(True):
        p, x, t = potential(1, 3), 0.4, 0.3
        y = np.linspace(-30, 30, 20001)
        S, r = np.exp(p.log_s[:, 0]), np.asarray(p.r[:, 0])
        terms = -0.5 * (y[:, None] - r) ** 2 / (EPSILON * S) - 0.5 * np.log(S)
        log_v = np.log(np.sum(np.exp(terms + np.asarray(p.log_alpha)), axis=1) + 1e-300)
        density = np.exp(x * y / EPSILON + log_v)
        density /= density.sum() * (y[1] - y[0])
        law = jax.jit(conditional)(p, EPSILON, 0.0, jnp.array([x]))
        got = np.exp(jax.vmap(law.log_prob)(jnp.asarray(y)[:, None]))
        np.testing.assert_allclose(got, density, rtol=1e-8, atol=1e-12)
        weight = np.exp(-0.5 * (y - x) ** 2 / (EPSILON * (1 - t)) + 0.5 * y**2 / EPSILON + log_v)
        want = (np.sum(weight * y) / np.sum(weight) - x) / (1 - t)
        np.testing.assert_allclose(drift(p, EPSILON, t, jnp.array([x]))[0], want, rtol=1e-9)


@pytest.mark.parametrize("turned", [False, True])
def test_the_drift_is_the_gradient(turned):
    with jax.enable_x64(True):
        p, x, ts = potential(turned=turned), jnp.asarray(RNG.normal(size=3)), jnp.array([0.0, 0.6, 1.0])
        ours, ahead = jax.jit(jax.vmap(lambda t: (drift(p, EPSILON, t, x), conditional(p, EPSILON, t, x).mean())))(ts)
        want = jax.jit(jax.vmap(lambda t: EPSILON * jax.grad(log_potential, 3)(p, EPSILON, t, x)))(ts)
        np.testing.assert_allclose(ours, want, rtol=1e-10)
        np.testing.assert_allclose(ours[:2], (ahead[:2] - x) / (1 - ts[:2, None]), rtol=1e-10)


def test_the_entropic_pair_is_a_special_case():
    """epsilon S = Lambda, r = Lambda C^-1 m, alpha = a N(0; m, C + epsilon)."""
    with jax.enable_x64(True):
        m, C, a = RNG.normal(size=(3, 2)), RNG.uniform(0.2, 2.0, (3, 2)), np.array([0.2, 0.5, 0.3])
        pair = entropic_pair(gaussian_mixture(jnp.zeros((1, 2)), 1.0), gaussian_mixture(m, C, a), EPSILON)
        lam = 1 / (1 / EPSILON + 1 / C)
        spread = C + EPSILON
        logs = np.log(a) - 0.5 * np.sum(m**2 / spread + np.log(spread), axis=1)
        p = Potential(jnp.asarray(logs), jnp.asarray(lam * m / C), jnp.asarray(np.log(lam / EPSILON)))
        for t, u in ((0.0, 1.0), (0.3, 0.8)):
            x = jnp.asarray(RNG.normal(size=2))
            ours, truth = conditional(p, EPSILON, t, x, u), pair.conditional(t, x, u)
            for name in ("log_weights", "means", "variances"):
                np.testing.assert_allclose(getattr(ours, name), getattr(truth, name), rtol=1e-10)
        np.testing.assert_allclose(bridge(p, EPSILON).drift(0.3, x, None), pair.drift(0.3, x), rtol=1e-10)


def test_the_entropic_pair_is_a_special_case_with_full_covariances():
    """The same with matrices: the law of a later state has the true means, covariances and densities."""
    with jax.enable_x64(True):
        m, a, spectrum = RNG.normal(size=(2, 3)), np.array([0.3, 0.7]), RNG.uniform(0.2, 2.0, (2, 3))
        turns = np.linalg.qr(RNG.normal(size=(2, 3, 3)))[0]
        C = np.einsum("kij,kj,klj->kil", turns, spectrum, turns)
        pair = entropic_pair(gaussian_mixture(jnp.zeros((1, 3)), 1.0), gaussian_mixture(m, C, a), EPSILON)
        lam, spread = 1 / (1 / EPSILON + 1 / spectrum), C + EPSILON * np.eye(3)
        logs = np.log(a) - 0.5 * np.einsum("ki,kij,kj->k", m, np.linalg.inv(spread), m)
        logs -= 0.5 * np.linalg.slogdet(spread)[1]
        r = np.einsum("kij,kj,klj,kl->ki", turns, lam / spectrum, turns, m)
        p = Potential(*(jnp.asarray(v) for v in (logs, r, np.log(lam / EPSILON), turns)))
        x, y = jnp.asarray(RNG.normal(size=(2, 3)))
        ours, truth = conditional(p, EPSILON, 0.3, x, 0.8), pair.conditional(0.3, x, 0.8)
        np.testing.assert_allclose(ours.mean(), truth.mean(), rtol=1e-10)
        np.testing.assert_allclose(ours.cov(), truth.cov(), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(ours.log_prob(y), truth.log_prob(y), rtol=1e-9)
        np.testing.assert_allclose(drift(p, EPSILON, 0.3, x), pair.drift(0.3, x), rtol=1e-9)


def test_cayley_turns_without_stretching():
    turns = cayley(jnp.asarray(RNG.normal(size=(2, 5, 5)), jnp.float32))
    np.testing.assert_allclose(turns @ jnp.swapaxes(turns, 1, 2), np.broadcast_to(np.eye(5), (2, 5, 5)), atol=1e-5)
    assert np.abs(turns - np.eye(5)).max() > 0.5
    np.testing.assert_array_equal(cayley(jnp.zeros((1, 4, 4)))[0], np.eye(4))


@pytest.mark.slow
def test_the_reversal_of_an_empirical_source():
    """forward + backward drift = epsilon grad log p_t, and the first step back is Bayes' rule."""
    with jax.enable_x64(True):
        p, source, t = potential(2), jnp.asarray(RNG.normal(size=(5, 2))), 0.4
        back, x = reversal(p, EPSILON, source), jnp.asarray(RNG.normal(size=2))

        def log_p(x):
            logs = jax.vmap(lambda x0: conditional(p, EPSILON, 0.0, x0, t).log_prob(x))(source)
            return jax.nn.logsumexp(logs)

        total, want = jax.jit(
            lambda x: (drift(p, EPSILON, t, x) + back.drift(1 - t, x, None), EPSILON * jax.grad(log_p)(x))
        )(x)
        np.testing.assert_allclose(total, want, rtol=1e-9)

        given = jax.jit(jax.vmap(lambda x0: conditional(p, EPSILON, 0.0, x0).log_prob(x)))(source)
        given = jax.nn.softmax(given)
        n = 2000
        draw = jax.jit(jax.vmap(lambda key: back.terminal_kernel.sample(key, 0.0, 1.0, x, None)))
        rows = draw(jax.random.split(jax.random.key(0), n))
        shares = np.all(np.asarray(rows)[:, None] == np.asarray(source), axis=-1).mean(0)
        np.testing.assert_allclose(shares.sum(), 1.0)  # every landing is a row, exactly
        assert np.all(np.abs(shares - given) < 5 * np.sqrt(given * (1 - given) / n) + 1e-9)


def test_the_first_step_back_weighs_the_rows_by_bayes():
    """P(x_0 = row | x_1 = x) ~ pi(x | row), the plan's own normalised densities; the drift is their mean less x."""
    p, source, x = potential(2), jnp.asarray(RNG.normal(size=(5, 2)), jnp.float32), jnp.array([0.6, -0.9])
    p = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), p)
    given = jax.nn.softmax(jax.vmap(lambda x0: conditional(p, EPSILON, 0.0, x0).log_prob(x))(source))
    np.testing.assert_allclose(reversal(p, EPSILON, source).drift(0.0, x, None), given @ source - x, rtol=1e-4)


def test_a_step_back_short_of_the_start_has_the_spread_of_a_bridge():
    """From one row the law of x_u is the Brownian bridge's: x_0 + (u/t) (x_t - x_0), variance epsilon u (1 - u/t)."""
    p = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), potential(2))
    row, x, n = jnp.array([[0.3, -0.2]]), jnp.array([0.6, -0.9]), 4096
    land = reversal(p, EPSILON, row).terminal_kernel
    drawn = jax.vmap(lambda key: land.sample(key, 0.2, 0.7, x, None))(jax.random.split(jax.random.key(0), n))
    variance = EPSILON * 0.3 * (1 - 0.3 / 0.8)
    mean = row[0] + 0.3 / 0.8 * (x - row[0])
    assert np.all(np.abs(drawn.mean(0) - mean) < 5 * np.sqrt(variance / n))
    assert np.all(np.abs(drawn.var(0) / variance - 1) < 5 * np.sqrt(2 / n))
