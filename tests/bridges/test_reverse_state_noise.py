"""Reversal of noise that depends on x, against the density on a grid: the law at the end, and what div Sigma is for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from bridgejax.bridges import probability_flow, reverse
from bridgejax.oracles import grid
from bridgejax.processes import SDE
from bridgejax.processes._keys import keys
from bridgejax.processes.mixtures import gaussian_mixture
from bridgejax.solve import grids, simulate_batch

N = 8192
LAW = gaussian_mixture([[-1.2], [0.9]], [0.1, 0.05], [0.35, 0.65])


def drift(t, x, args):
    return -0.5 * x + 0.3 * jnp.cos(x)


def noise(t, x, args):
    return 0.7 + 0.4 * jnp.tanh(x)


SDE_ = SDE(drift, noise, noise="state")


@pytest.fixture(scope="module")
def truth():
    """Cells, times, and the density of x_t from the mixture, on 101 times."""
    xs = grid.cells(-7.0, 7.0, 1400)
    p0 = jnp.exp(jax.vmap(lambda x: LAW.log_prob(x[None]))(xs))
    ts = jnp.linspace(0.0, 1.0, 101)
    return xs, ts, grid.forward(SDE_, p0, xs, ts, substeps=4)


def start_draws(xs, p, key):
    """Draws of the law on the grid, by its inverse distribution function."""
    total = jnp.cumsum(p) / jnp.sum(p)
    u = jax.vmap(jax.random.uniform)(keys(key, N, 5 * N))
    return jnp.interp(u, total, xs + 0.5 * (xs[1] - xs[0]))


def moments(x):
    return np.array([np.mean(x), np.mean(x**2), np.mean(x < 0.0)])


def run(sde, truth, key):
    xs, _, p = truth
    # the score is steep at clean data: the grid is refined towards it, and it ends just before
    ts = grids.quadratic(200)[:-1]
    return np.asarray(simulate_batch(sde, keys(key, N), start_draws(xs, p[-1], key), ts))


@pytest.mark.parametrize("make", [reverse, probability_flow])
def test_the_end_is_the_start_law(make, truth, key):
    xs, ts, p = truth
    score = grid.grad_log_h(xs, ts, p)
    x = run(make(SDE_, score), truth, key)
    mean, second = float(LAW.mean()[0]), float(LAW.cov()[0, 0] + LAW.mean()[0] ** 2)
    want = np.array([mean, second, 0.35])  # 0 lies 3.8 and 4 standard deviations from the modes
    errors = np.array([x.std(), (x**2).std(), np.sqrt(0.35 * 0.65)]) / np.sqrt(N)
    assert np.all(np.abs(moments(x) - want) < 5 * errors + 0.015), (moments(x), want)


def without_divergence(right, s, x, args):
    return right.drift(s, x, args) - jax.grad(lambda x: noise(1.0 - s, x, args) ** 2)(x)


def test_without_the_divergence_it_is_not(truth, key):
    """The same reversal without div Sigma: off by more than ten standard errors."""
    xs, ts, p = truth
    right = reverse(SDE_, grid.grad_log_h(xs, ts, p))
    x = run(dataclasses.replace(right, drift=Partial(without_divergence, right)), truth, key)
    assert abs(x.mean() - float(LAW.mean()[0])) > 10 * x.std() / np.sqrt(N) + 0.015


@pytest.mark.parametrize("make", [reverse, probability_flow])
def test_a_noise_wrongly_declared_additive_is_refused(make, truth, key):
    xs, ts, p = truth
    with pytest.raises(ValueError, match=r"depends on x, and its SDE says noise='additive'"):
        run(make(dataclasses.replace(SDE_, noise="additive"), grid.grad_log_h(xs, ts, p)), truth, key)
