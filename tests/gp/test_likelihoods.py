"""Expected and predictive log likelihoods against Monte Carlo over f, and draws against densities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridgejax import gp

MEAN, VARIANCE = jnp.array([0.4]), jnp.array([0.7])
CASES = {
    "gaussian": (gp.gaussian(0.5), jnp.array([0.9])),
    "student_t": (gp.student_t(0.5, 4.0), jnp.array([0.9])),
    "bernoulli": (gp.bernoulli(), jnp.array([1.0])),
    "softmax": (gp.softmax(3), jnp.array(1)),
}


def log_prob(name, y, f):
    likelihood, _ = CASES[name]
    return likelihood.expected(likelihood.params, y, f, jnp.zeros_like(f), jnp.zeros_like(f))


@pytest.mark.parametrize("name", CASES)
def test_averages_over_f(name, key):
    likelihood, y = CASES[name]
    size = 3 if name == "softmax" else 1
    mean, variance = jnp.resize(jnp.array([0.4, -0.2, 0.1]), size), jnp.resize(VARIANCE, size)
    noise = jax.random.normal(key, (20_000, size))
    logs = jax.vmap(lambda e: log_prob(name, y, mean + jnp.sqrt(variance) * e))(noise)
    averaged = jax.vmap(lambda e: likelihood.expected(likelihood.params, y, mean, variance, e))(noise)
    error = 5 * float(jnp.std(logs)) / np.sqrt(len(logs))
    assert abs(float(jnp.mean(averaged) - jnp.mean(logs))) < max(error, 1e-6)
    densities = jnp.exp(logs)
    predicted = jnp.exp(jax.vmap(lambda e: likelihood.predictive(likelihood.params, y, mean, variance, e))(noise))
    error = 5 * float(jnp.std(densities)) / np.sqrt(len(logs))
    assert abs(float(jnp.mean(predicted) - jnp.mean(densities))) < max(error, 1e-6)


@pytest.mark.parametrize("name", ["bernoulli", "softmax"])
def test_classes_are_drawn_as_often_as_they_are_likely(name, key):
    likelihood, _ = CASES[name]
    f = jnp.array([0.4]) if name == "bernoulli" else jnp.array([0.4, -0.2, 0.1])
    drawn = jax.vmap(lambda k: likelihood.draw(likelihood.params, k, f))(jax.random.split(key, 20_000))
    for label in range(2 if name == "bernoulli" else 3):
        share = float(jnp.mean(drawn == label))
        y = jnp.full(f.shape, float(label)) if name == "bernoulli" else jnp.array(label)
        p = float(jnp.exp(log_prob(name, y, f)))
        assert abs(share - p) < 5 * np.sqrt(p * (1 - p) / 20_000)


@pytest.mark.parametrize("name", ["gaussian", "student_t"])
def test_the_noise_and_the_cdf_are_those_of_the_draws(name, key):
    likelihood, _ = CASES[name]
    one, two = jax.random.split(key)
    f = 0.4 + jnp.sqrt(0.7) * jax.random.normal(one, (20_000, 1))
    draw = jax.vmap(lambda k, f: likelihood.draw(likelihood.params, k, f))
    drawn = draw(jax.random.split(two, 20_000), f)
    for y in (-1.5, 0.0, 0.6, 2.0):
        p = float(likelihood.cdf(likelihood.params, jnp.array([y]), MEAN, VARIANCE)[0])
        assert abs(float(jnp.mean(drawn <= y)) - p) < 5 * np.sqrt(p * (1 - p) / 20_000)
    ends = likelihood.cdf(likelihood.params, jnp.array([-1e4, 1e4]), jnp.zeros(2), jnp.ones(2))
    np.testing.assert_allclose(ends, [0.0, 1.0], atol=1e-6)
    squares = (drawn - f) ** 2
    if name == "student_t":  # of infinite fourth moment: a law with one
        likelihood = gp.student_t(0.5, 12.0)
        squares = (likelihood.draw(likelihood.params, two, f) - f) ** 2
    error = 5 * float(jnp.std(squares)) / np.sqrt(20_000)
    assert abs(float(jnp.mean(squares) - likelihood.noise(likelihood.params))) < error


def test_a_heavy_tail_has_no_variance_and_classes_have_no_noise():
    heavy = gp.student_t(0.5, 2.0)
    assert float(heavy.noise(heavy.params)) == np.inf
    assert gp.softmax(3).noise is None is gp.bernoulli().noise


@pytest.mark.parametrize("name", ["gaussian", "student_t"])
def test_targets_are_drawn_by_the_density(name, key):
    """The share within s of f against the integral of the density."""
    likelihood, _ = CASES[name]
    f, s = jnp.array([0.4]), 0.5
    drawn = jax.vmap(lambda k: likelihood.draw(likelihood.params, k, f))(jax.random.split(key, 20_000))
    grid = jnp.linspace(-s, s, 2001)
    density = jnp.exp(jax.vmap(lambda d: log_prob(name, f + d, f))(grid))
    p = float(jnp.trapezoid(density, grid))
    share = float(jnp.mean(jnp.abs(drawn - f) < s))
    assert abs(share - p) < 5 * np.sqrt(p * (1 - p) / 20_000)
