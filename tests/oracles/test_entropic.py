"""Entropic pairs: the plan against quadrature and the benchmark's formulas, the bridge against the plan."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridgejax.metrics import conditional_bw2_uvp, entropic_mode_coverage
from bridgejax.oracles import entropic_pair, random_entropic_pair
from bridgejax.processes._keys import keys
from bridgejax.processes.mixtures import gaussian_mixture
from bridgejax.solve import grids, simulate_batch

RNG = np.random.default_rng(4)
EPSILON = 0.6


def gaussian(x, mean, cov):
    gap = x - mean
    log = -0.5 * gap @ jnp.linalg.solve(cov, gap) - 0.5 * jnp.linalg.slogdet(2 * jnp.pi * cov)[1]
    return jnp.exp(log)


def problem(d=3, k=3):
    """A pair of full covariances and unequal weights; float64 when x64 is on."""
    raw = np.random.default_rng(1)
    a = raw.normal(size=(k, d, d))
    covs = a @ np.swapaxes(a, 1, 2) / d + 0.2 * np.eye(d)
    means, weights = 2 * raw.normal(size=(k, d)), np.array([0.2, 0.5, 0.3])[:k]
    potential = gaussian_mixture(jnp.asarray(means), covs, weights)
    source = gaussian_mixture(jnp.asarray(raw.normal(size=(2, d))), 0.5, [0.3, 0.7])
    return entropic_pair(source, potential, EPSILON), means, covs, weights


@pytest.mark.fast
def test_the_plan_on_the_line():
    """plan(y | x) ~ phi(y) exp(-(x - y)^2 / (2 epsilon)), normalised by quadrature."""
    with jax.enable_x64(True):
        potential = gaussian_mixture(jnp.array([[-1.0], [1.5]]), jnp.array([[0.3], [0.1]]), [0.3, 0.7])
        pair = entropic_pair(gaussian_mixture(jnp.zeros((1, 1)), 1.0), potential, EPSILON)
        y = np.linspace(-6, 6, 4001)
        x = -2.0
        parts = [w * np.exp(-0.5 * (y - m) ** 2 / v) / np.sqrt(v) for w, m, v in ((0.3, -1, 0.3), (0.7, 1.5, 0.1))]
        density = sum(parts) * np.exp(-0.5 * (x - y) ** 2 / EPSILON)
        density /= density.sum() * (y[1] - y[0])
        logs = jax.jit(jax.vmap(lambda p, x, y: p.conditional(0.0, x).log_prob(y), (None, None, 0)))
        got = np.exp(np.asarray(logs(pair, jnp.array([x]), y[:, None])))
        np.testing.assert_allclose(got, density, rtol=1e-8, atol=1e-12)


def test_the_benchmark_s_formulas():
    """Lambda_k, its means and its weights, by matrix inverses."""
    with jax.enable_x64(True):
        pair, means, covs, weights = problem()
        x = RNG.normal(size=3)
        law = jax.jit(lambda p, x: p.conditional(0.0, x))(pair, x)
        inverse = np.linalg.inv
        lambdas = inverse(np.eye(3) / EPSILON + inverse(covs))
        centres = np.stack([L @ (x / EPSILON + inverse(c) @ m) for L, c, m in zip(lambdas, covs, means)])
        w = np.array([a * float(gaussian(x, m, c + EPSILON * np.eye(3))) for a, c, m in zip(weights, covs, means)])
        w /= w.sum()
        np.testing.assert_allclose(law.means, centres, rtol=1e-9)
        np.testing.assert_allclose(jnp.exp(law.log_weights), w, rtol=1e-9)
        spread = np.einsum("k,ki,kj->ij", w, centres - w @ centres, centres - w @ centres)
        np.testing.assert_allclose(law.mean(), w @ centres, rtol=1e-9)
        np.testing.assert_allclose(law.cov(), np.einsum("k,kij->ij", w, lambdas) + spread, rtol=1e-8)


@pytest.mark.parametrize("t", [0.0, 0.4, 0.95])
def test_the_drift_is_the_conditional_mean_and_lightsb(t):
    """Three forms: epsilon grad log phi, (E[x1 | x] - x) / (1 - t), and LightSB's with its A_k and h_k.

    LightSB's k-th term is alpha_k N(r_k; 0, epsilon S_k) int exp(h_k . y - y . A_k y / 2) dy.
    """
    with jax.enable_x64(True):
        pair, means, covs, weights = problem()
        x = jnp.asarray(RNG.normal(size=3))
        eye = jnp.eye(3)
        S = [np.linalg.inv(np.eye(3) / EPSILON + np.linalg.inv(c)) / EPSILON for c in covs]
        r = [EPSILON * s @ np.linalg.inv(c) @ m for s, c, m in zip(S, covs, means)]
        alpha = [w * gaussian(jnp.zeros(3), m, c + EPSILON * eye) for w, m, c in zip(weights, means, covs)]

        def potential(x):
            total = 0.0
            for a, s, m in zip(alpha, S, r):
                A = t / (EPSILON * (1 - t)) * eye + np.linalg.inv(s) / EPSILON
                h = x / (EPSILON * (1 - t)) + np.linalg.inv(s) @ m / EPSILON
                integral = jnp.exp(0.5 * h @ jnp.linalg.solve(A, h) - 0.5 * jnp.linalg.slogdet(A)[1])
                total += a * gaussian(m, jnp.zeros(3), EPSILON * s) * integral
            return jnp.log(total * gaussian(x, jnp.zeros(3), EPSILON * (1 - t) * eye))

        drift = pair.drift(t, x)
        np.testing.assert_allclose(drift, EPSILON * jax.grad(potential)(x), rtol=1e-8)
        np.testing.assert_allclose(drift, (pair.conditional(t, x).mean() - x) / (1 - t), rtol=1e-7)


def test_transitions_compose():
    """Chapman-Kolmogorov for the means: E[x1 | x_0] = E[E[x1 | x_u] | x_0], by Gauss-Hermite on the line."""
    with jax.enable_x64(True):
        potential = gaussian_mixture(jnp.array([[-1.0], [1.5]]), jnp.array([[0.3], [0.1]]), [0.3, 0.7])
        pair = entropic_pair(gaussian_mixture(jnp.zeros((1, 1)), 1.0), potential, EPSILON)
        x, u = jnp.array([0.4]), 0.35
        nodes, weights = np.polynomial.hermite_e.hermegauss(60)
        law = pair.conditional(0.0, x, u)
        points = law.means[:, 0, None] + jnp.sqrt(law.variances[:, 0, None]) * nodes
        inner = jax.vmap(jax.vmap(lambda y: pair.conditional(u, y[None]).mean()[0]))(points)
        got = jnp.sum(jnp.exp(law.log_weights)[:, None] * inner * weights) / weights.sum()
        np.testing.assert_allclose(got, pair.conditional(0.0, x).mean()[0], rtol=1e-7)


def test_the_simulated_plan():
    """Paths from 16 starts, 1024 each, 64 Euler steps and an exact last one: cBW2-UVP against its floor.

    The score of a perfect model is positive; the floor is the score of exact conditional draws of the same size.
    """
    pair, *_ = problem()
    x0s = jax.vmap(pair.source.sample)(keys(jax.random.key(0), 16))

    def moments(x):
        law = pair.conditional(0.0, x)
        return law.mean(), law.cov()

    means, covs = jax.jit(jax.vmap(moments))(x0s)
    starts, n = jnp.repeat(x0s, 1024, axis=0), 16 * 1024
    walked = simulate_batch(pair.sde(), keys(jax.random.key(1), n), starts, grids.uniform(64))
    exact = simulate_batch(pair.sde(), keys(jax.random.key(2), n), starts, [0.0, 1.0])  # one step: the plan itself
    score, floor = (conditional_bw2_uvp(x.reshape(16, 1024, 3), means, covs) for x in (walked, exact))
    blind = conditional_bw2_uvp(jnp.roll(exact, 1024, axis=0).reshape(16, 1024, 3), means, covs)
    assert floor < 0.5  # per cent: 25 (d + 5) / n = 0.2 for one Gaussian, less for a part of the total variance
    assert score < 3 * floor
    assert blind > 10 * score  # the plan of another start


@pytest.mark.parametrize("dim", [2, 64])
def test_random_pairs_use_their_components(dim):
    pair = random_entropic_pair(jax.random.key(3), dim, components=4)
    draws = keys(jax.random.key(4), 256)

    def draw(key):
        x0, x1 = pair.sample(key)
        return x0, x1, jnp.exp(pair.conditional(0.0, x0).log_weights), pair.log_prob(x0, x1)

    x0, x1, shares, logs = jax.jit(jax.vmap(draw))(draws)
    assert entropic_mode_coverage(shares) > 0.5
    assert x0.shape == x1.shape == (256, dim)
    assert bool(jnp.all(jnp.isfinite(logs)))


def test_values_and_gradients_are_finite_at_both_ends():
    pair, *_ = problem()
    x = jnp.array([30.0, -20.0, 5.0])  # far from every component
    both = jax.jit(lambda pair, t, x: (pair.drift(t, x), jax.jacobian(pair.drift, argnums=(0, 1))(t, x)))
    for t in (0.0, 1.0):
        chex.assert_tree_all_finite(both(pair, t, x))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: entropic_pair(3, m, 1.0), "must be a GaussianMixture"),
        (lambda m: entropic_pair(m, gaussian_mixture(jnp.zeros((1, 3)), 1.0), 1.0), "one space"),
        (lambda m: entropic_pair(m, m, 0.0), "epsilon must be positive"),
        (lambda m: random_entropic_pair(jax.random.key(0), 0), "dim must be an integer >= 1"),
        (lambda m: random_entropic_pair(jax.random.key(0), 2, components=0), "components must be an integer >= 1"),
    ],
)
def test_what_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call(gaussian_mixture(jnp.zeros((1, 2)), 1.0))


def test_the_spectrum_of_random_pairs():
    values = np.asarray(random_entropic_pair(jax.random.key(3), 256, components=2).potential.variances)
    np.testing.assert_array_equal(values[0], values[1])
    assert 0.25 <= values.min() < 0.26
    assert 0.95 < values.max() <= 1.0
