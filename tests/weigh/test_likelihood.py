"""log p against closed forms: a Gaussian and a mixture, to 1e-4 nats."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridgejax.bridges import probability_flow, reverse
from bridgejax.processes import SDE, Process, noising, schedules, starts
from bridgejax.processes._keys import keys
from bridgejax.processes.mixtures import gaussian_mixture, mixture_denoiser, mixture_score
from bridgejax.solve import grids
from bridgejax.weigh import bits_per_dim, log_prob

MIXTURE = gaussian_mixture(
    [[-1.5, 0.5], [1.0, -0.5]], [[[0.5, 0.2], [0.2, 0.4]], [[0.3, -0.1], [-0.1, 0.6]]], [0.3, 0.7]
)
GAUSSIAN = gaussian_mixture([[0.4, -0.2]], 0.5)
XS = jnp.array([[0.0, 0.0], [1.2, -0.8], [-1.5, 1.0], [3.0, 2.0]])
ALL = {
    "vp": schedules.vp(),
    "brownian": schedules.brownian(1.5),
    "rectified": schedules.rectified(),
    "karras": schedules.karras(20.0),
}


def process_of(law, schedule, make=probability_flow, end=True):
    """The exact flow of ``law``, started from its exact noised law: nothing is learnt, so nothing is approximate."""
    start = law.diffuse(schedule, schedule.T)
    sde = make(schedule, denoiser=mixture_denoiser(law, schedule))
    return Process(start, sde, grids.uniform(10, schedule.T), noising(schedule))


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_mixture_to_1e_4_nats(name, key):
    process = process_of(MIXTURE, ALL[name])
    got = jax.jit(jax.vmap(lambda x: log_prob(process, key, x)))(XS)
    assert got.kind == "exact"
    want = jax.vmap(MIXTURE.log_prob)(XS)
    # the third digit of the tail's density is float32's own; 1e-4 elsewhere
    np.testing.assert_allclose(got.value, want, atol=1e-4, rtol=2e-5)


@pytest.mark.slow
def test_gaussian_to_1e_4_nats_from_sde_and_score(key):
    """A reverse SDE is read as its flow; a score serves like a denoiser."""
    schedule = schedules.vp()
    want = jax.vmap(GAUSSIAN.log_prob)(XS)
    by_sde = process_of(GAUSSIAN, schedule, reverse)
    flow = probability_flow(schedule, mixture_score(GAUSSIAN, schedule))
    by_score = Process(GAUSSIAN.diffuse(schedule, 1.0), flow, grids.uniform(5))
    for process in (by_sde, by_score):
        got = jax.vmap(lambda x, p=process: log_prob(p, key, x))(XS)
        np.testing.assert_allclose(got.value, want, atol=1e-4, rtol=2e-5)


def test_any_flow(key):
    """A user's linear ODE dx = a x ds from N(0, 1): x_T = e^a x_0, so log p is known."""
    process = Process(starts.normal((3,)), SDE(lambda t, x, args: 0.7 * x), grids.uniform(5))
    x = jnp.array([0.5, -1.0, 2.0])
    got = log_prob(process, key, x)
    z = x * math.exp(-0.7)
    want = jnp.sum(-0.5 * z**2 - 0.5 * math.log(2 * math.pi) - 0.7)
    np.testing.assert_allclose(got.value, want, atol=1e-4)
    fixed = log_prob(process, key, x, ts=grids.uniform(50))
    np.testing.assert_allclose(fixed.value, want, atol=1e-3)


def test_hutchinson_is_unbiased(key):
    process = process_of(MIXTURE, schedules.vp())
    x = XS[1]
    grid = jnp.concatenate([jnp.array([1e-5]), grids.uniform(60)[1:]])
    exact = log_prob(process, key, x, ts=grid, divergence="exact").value
    n = 512
    found = jax.jit(jax.vmap(lambda k: log_prob(process, k, x, ts=grid, divergence="hutchinson")))(keys(key, n))
    assert found.kind == "hutchinson"
    error = float(jnp.std(found.value)) / math.sqrt(n)
    assert error > 0
    assert abs(float(jnp.mean(found.value)) - float(exact)) < 5 * error + 1e-4


def test_many_coordinates_use_hutchinson(key):
    process = Process(starts.normal((10, 10)), SDE(lambda t, x, args: -0.5 * x), grids.uniform(5))
    got = log_prob(process, key, jnp.ones((10, 10)))
    assert got.kind == "hutchinson"
    # the Jacobian is a multiple of the identity, so one probe is exact
    z = jnp.ones(100) * math.exp(0.5)
    want = jnp.sum(-0.5 * z**2 - 0.5 * math.log(2 * math.pi) + 0.5)
    np.testing.assert_allclose(got.value, want, rtol=1e-4)


def test_bits_per_dim():
    """Uniform on [0, 256) with bins of width 1: exactly 8 bits; in units of [-1, 1] with bins of 2/256 the same."""
    np.testing.assert_allclose(bits_per_dim(-3 * math.log(256.0), 3), 8.0, rtol=1e-6)
    np.testing.assert_allclose(bits_per_dim(-3 * math.log(2.0), 3, bin_width=2 / 256), 8.0, rtol=1e-6)


GOOD = process_of(GAUSSIAN, schedules.vp())
BAD = {
    "process": (lambda k: log_prob(3.0, k, XS[0]), "must be a Process"),
    "start": (lambda k: log_prob(Process(starts.empirical(XS), GOOD.dynamics, GOOD.ts), k, XS[0]), "has no log_prob"),
    "divergence": (lambda k: log_prob(GOOD, k, XS[0], divergence="guess"), "divergence must be one of"),
    "noise": (
        lambda k: log_prob(Process(GOOD.start, SDE(lambda t, x, args: x, lambda t, x, args: 1.0), GOOD.ts), k, XS[0]),
        "log_prob needs a flow",
    ),
    "key": (lambda k: log_prob(GOOD, 3, XS[0]), "key"),
    "size": (lambda k: bits_per_dim(1.0, 0), "size must be an integer >= 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, key):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call(key)


def test_the_tail_of_a_rectified_gaussian(key):
    """Eight deviations out log p changes by 1e-2 over 1e-4 of the clock: the solve begins far closer to the data."""
    law, x = gaussian_mixture([[0.0]], 1.0), jnp.array([8.0])
    got = log_prob(process_of(law, schedules.rectified()), key, x)
    np.testing.assert_allclose(got.value, law.log_prob(x), atol=2e-3)
