"""Bridges to a point: they end there, their marginals solve their SDE, mixtures project to their data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridgejax.bridges import pin, x_bridges
from bridgejax.processes import schedules
from bridgejax.processes._keys import keys
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


TIMES = jnp.linspace(0.02, 0.95, 32)


@jax.jit
@jax.vmap
def rates(t):
    """For every bridge: d mean/dt less the drift there, d variance/dt less 2 (db/dz) variance + g^2, and scales."""
    found = {}
    for name, bridge in BRIDGES.items():
        moments = lambda t, bridge=bridge: (bridge.marginal(t, X)[0], bridge.marginal(t, X)[1] ** 2)  # noqa: E731
        (mean, variance), (d_mean, d_variance) = jax.jvp(moments, (t,), (jnp.ones_like(t),))
        drift = lambda z, bridge=bridge: bridge.drift(t, z, X)  # noqa: E731
        b, slope = jax.jvp(drift, (mean,), (jnp.array([1.0, 0.0]),))
        grown = 2.0 * slope[0] * variance, bridge.sde(X).diffusion(t, mean, None) ** 2
        found[name] = (d_mean, b), (d_variance, sum(grown)), grown[1] - grown[0]
    return found


def test_marginals_solve_the_moment_equations_of_the_sde():
    """d mean/dt = b(t, mean), d variance/dt = 2 (db/dz) variance + g^2, from the right start to x."""
    found = jax.tree.map(np.asarray, rates(TIMES))
    for name, ((d_mean, b), (d_variance, grown), scale) in found.items():
        np.testing.assert_allclose(d_mean, b, rtol=1e-3, atol=1e-3, err_msg=name)
        assert np.all(np.abs(d_variance - grown) < 1e-4 * scale + 1e-4), name
    for name in ("pinned", "forced"):
        mean, std = BRIDGES[name].marginal(0.0, X)
        np.testing.assert_allclose(mean, [-0.5, 2.0], rtol=1e-6)
        np.testing.assert_allclose(std, 0.3, rtol=1e-6)
    for name, schedule in (("smld", schedules.ve(0.05, 3.0)), ("ddpm", schedules.vp(0.5, 6.0))):
        mean, std = BRIDGES[name].marginal(0.0, X)
        np.testing.assert_allclose(mean, schedule.alpha(1.0) * X, rtol=1e-5)
        np.testing.assert_allclose(std, schedule.sigma(1.0), rtol=1e-5)


@pytest.mark.parametrize("name", BRIDGES)
def test_every_construction_lands_on_x(name, key):
    bridge = BRIDGES[name]
    mean, std = bridge.marginal(1.0, X)
    np.testing.assert_allclose(mean, X, atol=1e-6)
    assert float(std) < 1e-3
    z = bridge.draw(key, 0.9, X)
    for sde in (bridge.sde(X), x_bridges.added(bridge, push).sde(X)):
        np.testing.assert_allclose(sde.terminal_kernel.sample(key, 0.9, 1.0, z, None), X, atol=1e-6)


def test_an_extra_drift_ends_at_x_without_landing(key):
    """Euler's last state misses x by O(sqrt(step)), with another law on the way."""
    begin = np.asarray(jax.vmap(BRIDGES["forced"].start, (0, None))(keys(key, 500), X))
    misses, half = [], []
    for bridge in (BRIDGES["forced"], x_bridges.added(BRIDGES["forced"], push)):
        drift = jax.jit(jax.vmap(bridge.sde(X).drift, (None, 0, None)))
        for n in (50, 800):
            z, random = begin, np.random.default_rng(n)
            for k in range(n):
                t = np.float32(k / n)
                z = z + np.asarray(drift(t, z, None)) / n + noise(t) * random.normal(size=z.shape) / np.sqrt(n)
                z = z.astype(np.float32)
                if k == n // 2:
                    half.append(z.mean(0))
            misses.append(np.sqrt(np.mean((z - np.asarray(X)) ** 2)))
    for coarse, fine in (misses[:2], misses[2:]):
        assert 0.4 < np.log(coarse / fine) / np.log(16.0) < 0.75, misses
    assert np.abs(half[1] - half[3]).max() > 0.1


def test_forced_at_the_right_rate_is_pinned():
    begin = jnp.array([-0.5, 2.0])
    forced = x_bridges.forced(hyperbolic, one, begin, 0.3)
    want = x_bridges.pinned(schedules.brownian(1.0), begin, 0.3)
    t = jnp.array([0.0, 0.3, 0.9, 0.999])
    both = jax.jit(lambda t: [(b.drift(t, begin, X), *b.marginal(t, X)) for b in (forced, want)])
    for got, truth in zip(*jax.vmap(both)(t), strict=True):
        np.testing.assert_allclose(got, truth, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        want.drift(0.3, begin, X), pin(schedules.brownian(1.0), X).drift(0.3, begin, None), rtol=1e-6
    )


@jax.jit
def projected(z, t):
    """For every bridge: the projection's drift, and what Bayes' rule makes it from."""
    return {
        name: (
            x_bridges.projection(bridge, POINTS, WEIGHTS).drift(t, z, None),
            jax.vmap(lambda x, bridge=bridge: (bridge.drift(t, z, x), *bridge.marginal(t, x)))(POINTS),
        )
        for name, bridge in BRIDGES.items()
    }


@pytest.mark.slow
def test_projection_is_the_expected_drift():
    """By Bayes' rule in float64; of reversals it is the score, s* = -f z + g^2 grad log p by differentiation."""
    z, t = jnp.array([0.4, -0.2]), jnp.array([0.05, 0.4, 0.8])
    found = jax.tree.map(np.float64, jax.vmap(projected, (None, 0))(z, t))
    for name, (drifts, (parts, means, stds)) in found.items():
        logs = np.log(WEIGHTS) - 0.5 * np.sum((np.float64(z) - means) ** 2, -1) / stds**2 - 2.0 * np.log(stds)
        chances = np.exp(logs - logs.max(1, keepdims=True))
        want = np.einsum("tk,tkd->td", chances / chances.sum(1, keepdims=True), parts)
        np.testing.assert_allclose(drifts, want, rtol=1e-4, atol=1e-4, err_msg=name)
        assert np.ptp(parts, axis=1).min() > 0.05

    for name, schedule in (("smld", schedules.ve(0.05, 3.0)), ("ddpm", schedules.vp(0.5, 6.0))):

        def log_p(z, t, schedule=schedule):
            gaps = jnp.sum((z - schedule.alpha(t) * POINTS) ** 2, axis=1) / schedule.variance(0.0, t)
            return jax.scipy.special.logsumexp(jnp.log(jnp.float32(WEIGHTS)) - 0.5 * gaps)

        want = jax.vmap(lambda t, f=log_p, s=schedule: s.diffusion_squared(t) * jax.grad(f)(z, t) - s.rate(t) * z)(
            1.0 - t
        )
        np.testing.assert_allclose(found[name][0], want, rtol=2e-4, atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_projection_from_one_point_ends_with_the_weights_of_the_data(key):
    """At t = 0 the densities say nothing of the end, and every datum counts by its weight."""
    n, begin = 8000, jnp.array([0.3, 0.0])
    sde = x_bridges.projection(x_bridges.pinned(schedules.ou(0.8, 1.1), begin), POINTS, WEIGHTS)
    x = np.asarray(simulate_batch(sde, keys(key, n), jnp.broadcast_to(begin, (n, 2)), grids.uniform(96)))
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
