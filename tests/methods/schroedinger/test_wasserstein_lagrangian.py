"""Wasserstein Lagrangian flows: the saddle's gradients, its value at the truth, and a cost that bends a path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bridgejax as bj
from bridgejax.methods.schroedinger._snapshots import check_clock
from bridgejax.methods.schroedinger.wasserstein_lagrangian import _loss

N = 4000
CLOCK = check_clock([1.0, 3.0])
OMEGA = 0.6  # of the harmonic energy V = -omega^2 x^2 / 2, taken as a cost + omega^2 x^2 / 2


def rows(mean0, mean1, seed=0, deviation=0.5):
    """Pairs that keep their place: y = x + mean1 - mean0."""
    z = deviation * np.random.default_rng(seed).normal(size=(1, N, 1)).astype(np.float32)
    times = {"start": np.full(N, 1.0, np.float32), "end": np.full(N, 3.0, np.float32)}
    ends = {"source": mean0 + z[0], "target": mean1 + z[0]}
    return {**ends, **times, "weight": np.full(N, 2.0, np.float32)}


def linear(params, u, x, args):
    return params * x[0]


def bump(params, u, ends, args):
    """A path's detour, the same for all pairs."""
    return params * jnp.ones(1)


def value(params, batch, cost=None, noise=0.0):
    loss = _loss((linear, bump), (1,), CLOCK, noise, "exact", cost, params, bj.keys(jax.random.key(0), N), batch)
    return loss[0]


def test_optimal_transport_is_the_saddle():
    """A translation by 1.2 in 2 units of time: s = 0.6 x, a straight path, and -S = -1.2^2 / (2 * 2)."""
    batch, truth = rows(0.3, 1.5), {"potential": jnp.asarray(0.6), "path": jnp.zeros(())}
    found, slope = jax.jit(jax.value_and_grad(value))(truth, batch)
    assert abs(found + 0.36) < 1e-5  # along the paths there is nothing random
    assert abs(slope["potential"]) < 1e-5
    assert abs(slope["path"]) < 5 * 0.6 * np.sqrt(1 / 3 / N)  # its velocity is (1 - 2 u) / 2 of the detour


def test_the_path_goes_up_where_the_potential_goes_down():
    """With a cost w^2 x^2 / 2 a path is worth a detour to the side of 0: gradient descent lessens the action by it."""
    cost = lambda t, x: 0.5 * OMEGA**2 * jnp.sum(x**2)  # noqa: E731
    batch = rows(1.0, 1.0)
    held = {"potential": jnp.zeros(()), "path": jnp.zeros(())}
    slope = jax.jit(lambda p: jax.grad(value)(p, batch, cost))(held)["path"]
    # d/da int w^2 E x^2 / 2 dt = w^2 mean int u (1 - u) dt = w^2 2 / 6, the gradient of S; descent steps against it
    assert abs(slope - OMEGA**2 * 2 / 6) < 0.02
    action = -float(value({**held, "path": held["path"] - 0.1 * slope}, batch, cost))
    assert action < -float(value(held, batch, cost))


def test_noise_adds_the_laplacian():
    """With s = x^2 / 2 at every time: half of noise^2 times the duration, beside what there is without."""
    square = lambda params, u, x, args: params * 0.5 * x[0] ** 2  # noqa: E731
    batch, params = rows(0.0, 0.0), {"potential": jnp.ones(()), "path": jnp.zeros(())}

    def at(noise):
        loss = _loss((square, bump), (1,), CLOCK, noise, "exact", None, params, bj.keys(jax.random.key(0), N), batch)
        return float(loss[0])

    # the bridge's variance noise^2 u (1 - u) 2, of integral noise^2 4 / 6, beside noise^2 / 2 * 2
    noise = 0.5
    assert abs(at(noise) - at(0.0) - noise**2 * (1.0 + 1.0 / 3.0)) < 0.03


@pytest.mark.slow
def test_a_harmonic_cost_bends_the_path_as_in_closed_form():
    """From around 1 to around 1 in 2 units, cost x^2 / 2: the mean is cosh(t - 1) / cosh(1)."""
    data = bj.data.Snapshots([0.0, 2.0], [1.0 + 0.3 * np.random.default_rng(k).normal(size=(400, 1)) for k in range(2)])
    small = {"outputs": (1,), "width": 32, "depth": 2}
    potential, path = (bj.networks.MLP((size,), rngs=nnx.Rngs(size), **small) for size in (1, 2))
    method = bj.methods.wasserstein_lagrangian(
        potential, path, shape=(1,), times=data.times, source=data.arrays[0],
        cost=lambda t, x: 0.5 * jnp.sum(x**2), path_rate=1.0, ema=0.99,
    )  # fmt: skip
    state = bj.fit(method, data, jax.random.key(0), steps=800, batch_size=128)
    x = np.asarray(bj.sample(bj.stop(method.process(state), 1.0), bj.keys(jax.random.key(1), 500)))
    assert abs(x.mean() - 1 / np.cosh(1.0)) < 0.08


BAD = {
    "cost": (dict(cost=3.0), "cost must be a function"),
    "rate": (dict(path_rate=0.0), "path_rate must be positive"),
    "shape": (dict(shape=()), "shape must have an axis"),
    "times": (dict(times=[0.0]), "times must be at least two finite times"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    changes, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        bj.methods.wasserstein_lagrangian(**{"shape": (2,), **changes})
