"""Waves to images: scipy's transform, the compression's formula, and the exact way back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from bridgejax.applications.speech import Codec


def noise(num, seed=0):
    return np.random.default_rng(seed).normal(size=num).astype(np.float32)


@pytest.mark.parametrize("num", [1, 63, 64, 253, 254, 1000, 1001])
@pytest.mark.parametrize("codec", [Codec(), Codec(64, 32, 1.0, 1.0), Codec(30, 7, 0.3, 2.0)])
def test_the_way_back_is_exact(codec, num):
    wave = noise(num)
    image = codec.encode(wave)
    assert image.shape == (codec.bins, codec.frames(num), 2)
    assert np.max(np.abs(codec.decode(image, num) - wave)) < 2e-5


def test_jaxs_arrays_give_the_same():
    wave, codec = noise(300), Codec(64, 32)
    image = jax.jit(codec.encode)(jnp.asarray(wave))
    assert np.allclose(image, codec.encode(wave), atol=1e-5)
    assert np.allclose(jax.jit(lambda i: codec.decode(i, 300))(image), wave, atol=1e-5)


def test_the_linear_transform_is_scipys():
    wave, codec = noise(2000), Codec(64, 32, 1.0, 1.0)
    found = np.asarray(codec.encode(wave))
    window = scipy.signal.get_window("hann", 64)  # periodic
    transform = scipy.signal.ShortTimeFFT(window, 32, 1.0, fft_mode="onesided")
    frames = np.stack([np.fft.rfft(np.pad(wave, 32)[32 * k : 32 * k + 64] * window) for k in range(found.shape[1] - 1)])
    assert np.allclose(found[:, :-1, 0] + 1j * found[:, :-1, 1], frames.T, atol=1e-4)
    # ShortTimeFFT counts phases from the middle of a window
    assert np.allclose(
        np.abs(transform.stft(wave, p0=0, p1=60)), np.hypot(*found[:, :60].transpose(2, 0, 1)), atol=1e-4
    )


def test_the_compression_keeps_the_phase_and_takes_the_root():
    wave = noise(1000)
    plain, codec = np.asarray(Codec(exponent=1.0, factor=1.0).encode(wave)), Codec(exponent=0.5, factor=0.33)
    plain, found = (v[..., 0] + 1j * v[..., 1] for v in (plain, np.asarray(codec.encode(wave))))
    assert np.allclose(np.abs(found), 0.33 * np.sqrt(np.abs(plain)), atol=1e-5)
    assert np.max(np.abs(np.angle(found * np.conj(plain)))[np.abs(plain) > 0.1]) < 1e-3


def test_windows_within_a_wave_are_those_of_the_padded_one():
    codec, wave = Codec(), noise(Codec().samples(9))
    assert codec.analyse(wave).shape == (128, 9, 2)
    padded = np.concatenate([noise(codec.hop * 2, 1), wave])
    assert np.allclose(codec.analyse(padded)[:, 2:], codec.analyse(wave), atol=1e-5)


def test_gradients_are_finite_in_silence():
    codec = Codec(64, 32)
    slope = jax.jit(jax.grad(lambda w: jnp.sum(codec.decode(codec.encode(w), 200) ** 2)))
    for wave in (np.zeros(200, np.float32), np.concatenate([np.zeros(100, np.float32), noise(100)])):
        assert np.all(np.isfinite(slope(jnp.asarray(wave))))
    slope = jax.jit(jax.grad(lambda image: jnp.sum(codec.decode(image, 200))))
    assert np.all(np.isfinite(slope(jnp.zeros((33, codec.frames(200), 2)))))
