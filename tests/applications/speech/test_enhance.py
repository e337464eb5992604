"""Any length, rate and number of channels, by an enhancer whose answer is known.

An untrained network says 0, and its predictor then is the best linear guess, a factor r of the noisy image: with the
compression's root that is the wave times r^2, through windows, fades, resampling and all.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridgejax.applications.speech import Codec, Enhancer, NetworkSize, Settings, enhance, si_sdr
from bridgejax.applications.speech._enhance import fade, window_starts
from bridgejax.applications.speech._enhancer import Spread
from bridgejax.applications.speech._network import network

CODEC = Codec(32, 8)
SIZE = NetworkSize(width=4, multipliers=(1,), patch=(1, 2))


def untrained(method="predictor", frames=16, correlation=0.6, residual=0.5, **options):
    settings = Settings(method, 1000, CODEC, SIZE, frames)
    params = network(SIZE, settings.views, CODEC.bins, frames).params
    one = jnp.ones(())
    return Enhancer(settings, params, Spread(one, one, one, correlation * one, residual * one), **options)


def noise(num, channels=None):
    return np.random.default_rng(0).normal(size=num if channels is None else (num, channels)).astype(np.float32)


@pytest.mark.parametrize("num", [1, 7, 31, 100, 128, 999, 1000])
def test_every_length_comes_back_by_its_factor(num):
    wave = noise(num)
    assert np.max(np.abs(enhance(untrained(), wave, 1000) - 0.36 * wave)) < 1e-4


def test_channels_are_enhanced_one_by_one_and_equal_ones_stay_equal():
    wave, enhancer = noise(300, 2), untrained("bridge")
    both = enhance(enhancer, wave, 1000)
    assert both.shape == (300, 2)
    assert np.allclose(both[:, 1], enhance(enhancer, wave[:, 1], 1000), atol=1e-6)
    twin = enhance(enhancer, np.stack([wave[:, 0]] * 2, axis=1), 1000)
    assert np.array_equal(twin[:, 0], twin[:, 1])


@pytest.mark.parametrize("rate", [500, 2000, 1500, 4410])
def test_other_rates_go_there_and_back(rate):
    t = np.arange(rate * 2 + 1) / rate
    wave = (np.sin(2 * np.pi * 60 * t) * np.hanning(len(t))).astype(np.float32)
    found = enhance(untrained(), wave, rate)
    assert found.shape == wave.shape
    assert si_sdr(wave, found) > 35.0
    assert np.std(found) / np.std(wave) == pytest.approx(0.36, abs=0.01)


def test_loudness_goes_through():
    wave, enhancer = noise(300), untrained("bridge")
    assert np.allclose(enhance(enhancer, 1e-3 * wave, 1000), 1e-3 * enhance(enhancer, wave, 1000), atol=1e-7)


def test_silence_comes_back_silent_and_so_does_a_silent_channel():
    assert not np.any(enhance(untrained("sgmse"), np.zeros(100), 1000, steps=2))
    wave = noise(100, 2) * np.array([1.0, 0.0])
    found = enhance(untrained(), wave, 1000)
    assert np.any(found[:, 0])
    assert not np.any(found[:, 1])


def test_windows_cover_everything_and_fades_sum_to_one():
    for frames in (1, 5, 16, 17, 28, 29, 100):
        starts, total = window_starts(frames, 16), np.zeros(400)
        for start in starts:
            total[start : start + 16] += fade(16)
        assert starts[-1] + 16 >= frames
        assert starts[-1] == 0 or starts[-2] + 16 < frames  # no window too many
        assert np.allclose(total[4 : starts[-1] + 12], 1.0)


@pytest.mark.parametrize("method", ["bridge", "sgmse", "storm", "bridge_storm"])
def test_draws_depend_on_the_seed_alone(method):
    options = {"predictor": untrained()} if "storm" in method else {}
    enhancer, wave = untrained(method, **options), noise(200)
    first, again, other = (enhance(enhancer, wave, 1000, steps=3, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert np.any(first != other)
    assert np.all(np.isfinite(first))


def test_the_probability_flow_is_another_draw():
    wave = noise(200)
    sde, ode = (enhance(untrained("sgmse"), wave, 1000, steps=5, sampler=name) for name in ("sde", "ode"))
    assert np.any(sde != ode)


def test_the_centre_is_the_predictors_estimate():
    image = jnp.asarray(jax.random.normal(jax.random.key(0), (CODEC.bins, 16, 2)))
    enhancer = untrained("bridge_storm", predictor=untrained(correlation=0.5))
    assert np.allclose(enhancer.given(image).centre, 0.5 * image)
    assert np.allclose(enhancer.estimate(image), 0.6 * 0.5 * image, atol=1e-6)  # its own best guess, of the estimate
