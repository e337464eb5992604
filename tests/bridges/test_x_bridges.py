"""Bridges to a point: they end there, their marginals are those of simulation, mixtures project to their data."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridgejax.bridges import pin, x_bridges
from bridgejax.processes import schedules
from bridgejax.processes.keys import keys
from bridgejax.solve import grids, simulate_batch

X = jnp.array([1.3, -0.4])
POINTS = jnp.array([[0.0, 1.0], [1.5, -0.5], [-1.0, -1.0], [0.3, 0.2]])
WEIGHTS = np.array([0.1, 0.2, 0.55, 0.15])


def pull(t):
    return (1.5 + t) / (1.0 - t)


def hyperbolic(t):
    return 1.0 / (1.0 - t)


def noise(t):
    return 0.6 + 0.4 * t


def one(t):
    return 1.0


def push(t, z, x):
    return 2.0 * jnp.sin(3.0 * z) + x


BRIDGES = {
    "pinned": x_bridges.pinned(schedules.ou(0.8, 1.1), jnp.array([-0.5, 2.0]), 0.3),
    "smld": x_bridges.reversal(schedules.ve(0.05, 3.0)),
    "ddpm": x_bridges.reversal(schedules.vp(0.5, 6.0)),
    "forced": x_bridges.forced(pull, noise, jnp.array([-0.5, 2.0]), 0.3),
}


def starts(bridge, many, x):
    return jax.vmap(bridge.start, (0, None))(many, x)


@pytest.mark.parametrize("name", BRIDGES)
def test_marginals_are_those_of_simulation(name, key):
    """Mean and standard deviation at t = 0.7, bias of Euler's 70 steps by halving them."""
    bridge, n = BRIDGES[name], 8000
    begin = starts(bridge, keys(key, n, n), X)
    fine, coarse = (
        np.asarray(simulate_batch(bridge.sde(X), keys(key, n), begin, grids.uniform(k, 0.7))) for k in (140, 70)
    )
    mean, std = bridge.marginal(0.7, X)
    bias = np.abs(fine.mean(0) - coarse.mean(0)), np.abs(fine.std(0) - coarse.std(0))
    assert np.all(np.maximum(*bias) < 0.05)
    assert np.all(np.abs(fine.mean(0) - mean) < 5 * float(std) / np.sqrt(n) + 2 * bias[0])
    assert np.all(np.abs(fine.std(0) - std) < 5 * float(std) / np.sqrt(2 * n) + 2 * bias[1])
    at_end = bridge.marginal(1.0, X)
    np.testing.assert_allclose(at_end[0], X, atol=1e-6)
    assert float(at_end[1]) < 1e-3


@pytest.mark.parametrize("name", [*BRIDGES, "added"])
def test_every_construction_ends_at_x(name, key):
    """Exactly with its landing; without, within O(sqrt(step))."""
    bridge = BRIDGES["forced" if name == "added" else name]
    begin = starts(bridge, keys(key, 500, 500), X)
    sde = (x_bridges.added(bridge, push) if name == "added" else bridge).sde(X)
    landed = simulate_batch(sde, keys(key, 500), begin, grids.uniform(25))
    np.testing.assert_allclose(landed, jnp.broadcast_to(X, (500, 2)), atol=1e-6)
    bare = dataclasses.replace(sde, land=None, split=None)
    misses = []
    for n in (50, 800):
        x = np.asarray(simulate_batch(bare, keys(key, 500), begin, grids.uniform(n)))
        misses.append(np.sqrt(np.mean((x - np.asarray(X)) ** 2)))
    rate = np.log(misses[0] / misses[1]) / np.log(16.0)
    assert 0.4 < rate < 0.75, (misses, rate)


def test_forced_at_the_right_rate_is_pinned():
    begin = jnp.array([-0.5, 2.0])
    forced = x_bridges.forced(hyperbolic, one, begin, 0.3)
    want = x_bridges.pinned(schedules.brownian(1.0), begin, 0.3)
    for t in (0.0, 0.3, 0.9, 0.999):
        np.testing.assert_allclose(
            forced.drift(t, begin, X), pin(schedules.brownian(1.0), X).drift(t, begin, None), rtol=1e-5
        )
        for got, truth in zip(forced.marginal(t, X), want.marginal(t, X)):
            np.testing.assert_allclose(got, truth, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["smld", "ddpm"])
def test_reversal_recovers_the_score(name):
    """Of a mixture of reversals: s* = -f z + g^2 grad log p, with the score by differentiating the density."""
    schedule = schedules.ve(0.05, 3.0) if name == "smld" else schedules.vp(0.5, 6.0)
    drift = x_bridges.projection(BRIDGES[name], POINTS, WEIGHTS).drift

    def log_p(z, t):
        gaps = jnp.sum((z - schedule.alpha(t) * POINTS) ** 2, axis=1) / schedule.variance(0.0, t)
        return jax.scipy.special.logsumexp(jnp.log(jnp.float32(WEIGHTS)) - 0.5 * gaps)

    z = jnp.array([0.4, -0.2])
    for t in (0.2, 0.6, 0.95):
        score = (drift(1.0 - t, z, None) + schedule.rate(t) * z) / schedule.diffusion_squared(t)
        np.testing.assert_allclose(score, jax.grad(log_p)(z, t), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", BRIDGES)
def test_projection_is_the_best_regression_and_ends_in_the_data(name, key):
    """b - s* is orthogonal to functions of Z_t, and the projection ends with the weights of the data."""
    bridge, n = BRIDGES[name], 8000
    sde = x_bridges.projection(bridge, POINTS, WEIGHTS)

    @jax.jit
    def draws(k):
        pick, time, draw = jax.random.split(k, 3)
        x = POINTS[jax.random.categorical(pick, jnp.log(jnp.float32(WEIGHTS)))]
        t = 0.9 * jax.random.uniform(time)
        z = bridge.draw(draw, t, x)
        gap = bridge.drift(t, z, x) - sde.drift(t, z, None)
        return bridge.start(draw, x), jnp.stack([gap, gap * z, gap * jnp.sin(3.0 * z[::-1]), gap * t])

    begin, products = jax.vmap(draws)(keys(key, n))
    products = np.asarray(products, np.float64)
    assert np.all(np.abs(products.mean(0)) < 5 * products.std(0) / np.sqrt(n))
    assert np.all(products.std(0) > 0.05)
    x = np.asarray(simulate_batch(sde, keys(key, n, n), begin, grids.uniform(150)))
    hits = np.all(x[:, None] == np.asarray(POINTS)[None], axis=-1)
    assert np.all(hits.sum(1) == 1)
    assert np.all(np.abs(hits.mean(0) - WEIGHTS) < 5 * np.sqrt(WEIGHTS * (1 - WEIGHTS) / n) + 0.006)


def minus(t):
    return t - 0.5


BAD = {
    "schedule": (lambda: x_bridges.pinned(3), "must be a Schedule"),
    "std": (lambda: x_bridges.pinned(schedules.brownian(), 0.0, -1.0), "start_std must be >= 0"),
    "start": (lambda: x_bridges.pinned(schedules.brownian(), jnp.ones(3)).start(jax.random.key(0), X), "start must be"),
    "nan": (lambda: x_bridges.pinned(schedules.brownian(), jnp.nan), "start holds numbers that are not finite"),
    "alpha": (lambda: x_bridges.forced(minus, one), "alpha must be positive"),
    "sigma": (lambda: x_bridges.forced(pull, minus), "sigma must be positive"),
    "no function": (lambda: x_bridges.forced(1.0, one), "alpha must be a function"),
    "bridge": (lambda: x_bridges.added(3, push), "bridge must be an XBridge"),
    "f": (lambda: x_bridges.added(BRIDGES["ddpm"], 3.0), "f must be a function"),
    "marginal": (lambda: x_bridges.added(BRIDGES["ddpm"], push).draw(jax.random.key(0), 0.5, X), "no closed marginal"),
    "projection": (lambda: x_bridges.projection(x_bridges.added(BRIDGES["ddpm"], push), POINTS), "needs the marginals"),
    "weights": (lambda: x_bridges.projection(BRIDGES["ddpm"], POINTS, [1.0, 2.0]), "weights must have shape"),
    "negative": (
        lambda: x_bridges.projection(BRIDGES["ddpm"], POINTS, [1.0, 2.0, -1.0, 1.0]),
        "weights must be positive",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()
