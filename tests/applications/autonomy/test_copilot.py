"""The copilot against the Gaussian case, where all that it does is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import bridgejax as bj
from bridgejax.applications.autonomy import Copilot, Demonstrations, noise_level, train_copilot
from bridgejax.applications.autonomy._copilot import _LOG_SNR_END, action_key
from bridgejax.processes.sde import Semilinear

SLOPE, VARIANCE = 0.5, 0.09  # experts act a ~ N(SLOPE s, VARIANCE)


def denoiser(schedule, t, x, args):
    """E[a | a_t, s], beside the state."""
    alpha, noise, mean = schedule.alpha(t), schedule.variance(0.0, t), SLOPE * x[0]
    return jnp.stack([x[0], mean + alpha * VARIANCE / (alpha**2 * VARIANCE + noise) * (x[1] - alpha * mean)])


def gaussian(**options):
    schedule = bj.schedules.cosine(_LOG_SNR_END)
    parts = Semilinear(schedule, Partial(denoiser, schedule)), *(jnp.full(1, v) for v in (0.0, 1.0, -1.0, 1.0))
    return Copilot(*parts, **options)


def published(steps=50):
    """alpha^2 of the published schedule after each step, and the gamma at which it is reached."""
    beta = 1e-4 + (0.26 - 1e-4) / (1.0 + np.exp(-np.linspace(-6, 6, steps)))
    return np.cumprod(1.0 - beta), np.arange(steps) / (steps - 1)


def test_the_level_is_that_of_the_published_schedule():
    alpha2, gamma = published()
    log_snr = bj.schedules.cosine(_LOG_SNR_END).log_snr(noise_level(gamma[5:]))
    wanted = np.log(alpha2 / (1.0 - alpha2))[5:]
    assert np.max(np.abs(log_snr - wanted)) < 0.2  # a sum of 50 against its integral
    assert abs(float(log_snr[-1] - wanted[-1])) < 1e-2
    assert float(noise_level(0.0)) == 0.0
    assert float(noise_level(1.0)) == 1.0
    assert np.all(np.diff(noise_level(np.linspace(0, 1, 1001))) > 0)


def corrected(copilot, gamma, num=4000, s=0.6, a=-0.4):
    keys = bj.keys(jax.random.key(0), num)
    return np.asarray(copilot.batch(np.full((num, 1), s), np.full((num, 1), a), gamma, keys))[:, 0]


@pytest.mark.parametrize("gamma", [0.2, 0.4, 0.6, 1.0])
def test_a_gaussian_copilot_draws_from_the_posterior(gamma):
    """SDE: a_0 given a_t is N(m + w (a_t / alpha - m), w sigma^2 / alpha^2), and a_t given the pilot's is normal."""
    schedule, m, a = bj.schedules.cosine(_LOG_SNR_END), SLOPE * 0.6, -4.0
    alpha, sigma2 = float(schedule.alpha(noise_level(gamma))), float(schedule.variance(0.0, noise_level(gamma)))
    w = alpha**2 * VARIANCE / (alpha**2 * VARIANCE + sigma2)
    mean, variance = m + w * (a - m), w * sigma2 / alpha**2 * (1.0 + w)
    found = corrected(gaussian(), gamma, a=a)
    assert abs(found.mean() - mean) < 5 * np.sqrt(variance / len(found)) + 0.01 * abs(a - m)
    assert abs(found.var() / variance - 1.0) < 5 * np.sqrt(2 / len(found)) + 0.05  # and 50 steps


@pytest.mark.parametrize(("gamma", "steps"), [(0.2, 4), (0.4, 4), (0.6, 8), (1.0, 16)])
def test_the_fast_form_is_the_flow(gamma, steps):
    """ODE: a_0 = m + sqrt(v / (alpha^2 v + sigma^2)) (a_t - alpha m)."""
    schedule, m, a = bj.schedules.cosine(_LOG_SNR_END), SLOPE * 0.6, -0.4
    alpha, sigma2 = float(schedule.alpha(noise_level(gamma))), float(schedule.variance(0.0, noise_level(gamma)))
    gain = np.sqrt(VARIANCE / (alpha**2 * VARIANCE + sigma2))
    found = corrected(gaussian().fast(steps), gamma)
    assert abs(found.mean() - (m + gain * alpha * (a - m))) < 5 * gain * np.sqrt(sigma2 / len(found)) + 0.02
    assert abs(found.std() / (gain * np.sqrt(sigma2)) - 1.0) < 5 * np.sqrt(0.5 / len(found)) + 0.05


def test_gamma_zero_is_the_pilot():
    assert np.array_equal(corrected(gaussian(), 0.0, num=3), np.float32([-0.4] * 3))


def test_one_is_a_row_of_many_and_a_key_gives_one_action():
    copilot, keys = gaussian(), bj.keys(jax.random.key(1), 8)
    obs, actions = np.linspace(-1, 1, 8)[:, None], np.zeros((8, 1))
    many = copilot.batch(obs, actions, 0.3, keys)
    one = copilot(obs[5], actions[5], 0.3, keys[5])
    np.testing.assert_allclose(many[5], one, atol=1e-5)
    assert len(np.unique(many)) == 8
    assert np.array_equal(many, copilot.batch(obs, actions, 0.3, keys))
    traced = jax.jit(lambda copilot, g: copilot(jnp.zeros(1), jnp.zeros(1), g, keys[0]))  # a pytree, and gamma too
    np.testing.assert_allclose(traced(copilot, 0.3), copilot(np.zeros(1), np.zeros(1), 0.3, keys[0]), atol=1e-5)
    assert action_key(0, 1) != action_key(1, 0)


def test_units_of_states_and_actions():
    """A copilot of shifted states and other bounds is the same copilot."""
    plain, key = gaussian(), jax.random.key(0)
    other = Copilot(plain.semilinear, jnp.full(1, 3.0), jnp.full(1, 2.0), jnp.full(1, 0.0), jnp.full(1, 10.0))
    found = other(np.full(1, 3.0 + 2.0 * 0.6), np.full(1, 5.0 - 5.0 * 0.4), 0.4, key)
    np.testing.assert_allclose((found - 5.0) / 5.0, plain(np.full(1, 0.6), np.full(1, -0.4), 0.4, key), atol=1e-5)


@pytest.mark.slow
def test_what_is_learnt_is_the_experts_conditional_law():
    random = np.random.default_rng(0)
    states = random.normal(2.0, 3.0, (20_000, 1))
    actions = np.clip(0.2 * (states - 2.0) / 3.0 + 0.1 * random.normal(size=states.shape), -1, 1)
    copilot = train_copilot(Demonstrations(states, actions), jax.random.key(0), steps=2000, batch_size=512, width=64)
    for s in (-1.0, 2.0, 5.0):
        found = corrected(copilot, 1.0, 2000, s, 1.0)
        assert abs(found.mean() - 0.2 * (s - 2.0) / 3.0) < 0.03
        assert abs(found.std() - 0.1) < 0.02
