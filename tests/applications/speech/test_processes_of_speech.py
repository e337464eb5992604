"""The processes against Gaussian sounds with a linear degradation, where the law of the clean one is known.

x ~ N(0, S),  y = H x + N(0, N):   x | y ~ N(m y, V),   m = H S / (H^2 S + N),   V = S N / (H^2 S + N)
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import bridgejax as bj
from bridgejax.applications.speech import Given, about_centre, bridge_from, exploding, ouve

S, H, N = 0.09, 0.8, 0.04
GAIN, V = H * S / (H**2 * S + N), S * N / (H**2 * S + N)
SHAPE, NUM, Y = (5, 4, 2), 600, 0.7


def test_ouve_is_the_published_law_in_each_part():
    """Richter et al. 2023, equations of mean and variance; a complex number has the sum of two parts."""
    schedule, gamma, low, log = ouve(), 1.5, 0.05, np.log(10.0)
    for t in (0.03, 0.4, 1.0):
        published = low**2 * log / (gamma + log) * (np.exp(2 * log * t) - np.exp(-2 * gamma * t))
        assert float(2 * schedule.variance(0.0, t)) == pytest.approx(published, rel=1e-5)
        assert float(schedule.alpha(t)) == pytest.approx(np.exp(-gamma * t), rel=1e-6)
        noise = low * 10.0**t * np.sqrt(2 * log)  # g(t) of the papers, of a complex number
        assert float(schedule.diffusion(t)) == pytest.approx(noise / np.sqrt(2), rel=1e-4)
        assert float(schedule.rate(t)) == pytest.approx(-gamma, rel=1e-5)


def test_the_bridges_reference_is_the_published_one():
    schedule, c, k = exploding(), 0.4, 2.6
    for t in (0.1, 1.0):
        assert float(2 * schedule.variance(0.0, t)) == pytest.approx(c * (k ** (2 * t) - 1) / (2 * np.log(k)), rel=1e-5)
        assert float(2 * schedule.diffusion_squared(t)) == pytest.approx(c * k ** (2 * t), rel=1e-4)


def test_the_schedule_about_a_centre_is_the_noising_sde_with_it():
    """X_1 given X_0: mean C + exp(-gamma) (X_0 - C)."""
    sde = bj.noising(ouve(), center=lambda args: args)
    clean, noisy = np.full((4000, 2), 1.0, np.float32), np.full((4000, 2), 3.0, np.float32)
    found = bj.simulate_batch(sde, bj.keys(jax.random.key(0), 4000), clean, [0.0, 1.0], noisy)
    spread = np.sqrt(float(ouve().variance(0.0, 1.0)))
    assert abs(float(found.mean()) - (3.0 - 2.0 * np.exp(-1.5))) < 5 * spread / np.sqrt(8000)
    assert abs(float(found.std()) / spread - 1.0) < 5 / np.sqrt(2 * 8000)


def of_residual(schedule, t, x, args):
    """E[X - C | X_t - C = x], C = Y."""
    alpha, mean = schedule.alpha(t), (GAIN - 1.0) * args.noisy
    return mean + alpha * V / (alpha**2 * V + schedule.variance(0.0, t)) * (x - alpha * mean)


def of_bridge(schedule, t, x, args):
    """E[X | X_t = x, Y], the bridge from the centre."""
    r = schedule.variance(0.0, t) / schedule.variance(0.0, 1.0)
    mean, noise = GAIN * args.noisy, r * schedule.variance(0.0, 1.0)  # one factor 1 - r taken out
    gap = x - (1.0 - r) * mean - r * args.centre
    return mean + V / ((1.0 - r) * V + noise) * gap


def drawn(process, centre=Y):
    noisy = jnp.full((NUM, *SHAPE), Y)
    return np.asarray(bj.sample(process, bj.keys(jax.random.key(1), NUM), Given(noisy, jnp.full_like(noisy, centre))))


def agrees(found, mean, variance, steps_off=0.03):
    """Mean and variance to 5 standard errors and the error of the steps."""
    n = found.size
    assert abs(found.mean() - mean) < 5 * np.sqrt(variance / n) + steps_off * np.sqrt(variance)
    assert abs(found.var() / variance - 1.0) < 5 * np.sqrt(2 / n) + steps_off


@pytest.mark.parametrize("sampler", ["sde", "ode"])
def test_noise_about_the_noisy_sound_ends_at_the_posterior_but_for_its_start(sampler):
    """The published start C + sigma Z leaves out exp(-gamma) (X - C); what is left of that is known."""
    schedule = ouve()
    alpha, noise = float(schedule.alpha(1.0)), float(schedule.variance(0.0, 1.0))
    total, mean = alpha**2 * V + noise, (GAIN - 1.0) * Y
    share = alpha * V / total if sampler == "sde" else np.sqrt(V / total)
    variance = V * noise / total + share**2 * noise if sampler == "sde" else share**2 * noise
    found = drawn(about_centre(schedule, Partial(of_residual, schedule), 120, sampler))
    agrees(found, Y + mean - share * alpha * mean, variance)


@pytest.mark.parametrize("centre", [Y, 0.5])
def test_a_bridge_ends_at_the_posterior_wherever_it_starts(centre):
    schedule = exploding()
    agrees(drawn(bridge_from(schedule, Partial(of_bridge, schedule), 120), centre), GAIN * Y, V)


def test_a_bridge_of_one_step_is_the_predictor():
    schedule = exploding()
    assert np.allclose(drawn(bridge_from(schedule, Partial(of_bridge, schedule), 1)), GAIN * Y, atol=1e-6)


def test_few_steps_lose_variance():
    schedule = exploding()
    spread = [drawn(bridge_from(schedule, Partial(of_bridge, schedule), n)).var() for n in (2, 12)]
    assert 0.0 < spread[0] < spread[1] < 1.05 * V
