"""SI-SDR against its closed form."""

import numpy as np
import pytest

from bridgejax.applications.speech import si_sdr

RANDOM = np.random.default_rng(0)
CLEAN = RANDOM.normal(size=1000)


def orthogonal():
    noise = RANDOM.normal(size=1000)
    noise -= noise @ CLEAN / (CLEAN @ CLEAN) * CLEAN
    return noise / np.linalg.norm(noise) * np.linalg.norm(CLEAN)


@pytest.mark.parametrize("decibels", [-20.0, 0.0, 7.0, 30.0])
@pytest.mark.parametrize("scale", [1.0, -3.0, 1e-3])
def test_orthogonal_noise_gives_the_snr_whatever_the_scale(decibels, scale):
    noisy = scale * (CLEAN + 10 ** (-decibels / 20) * orthogonal())
    assert si_sdr(CLEAN, noisy) == pytest.approx(decibels, abs=1e-3)


def test_multiples_and_silence():
    assert si_sdr(CLEAN, 2.0 * CLEAN) > 100.0
    assert si_sdr(np.array([1.0, 0.0]), np.array([2.0, 0.0])) == np.inf
    assert si_sdr(CLEAN, np.zeros(1000)) == -np.inf


def test_the_reference_comes_first():
    noisy = CLEAN + 0.5
    assert si_sdr(CLEAN, noisy) == pytest.approx(si_sdr(noisy, CLEAN))  # the angle between them, either way
    with pytest.raises(ValueError, match=r"^clean is silent"):
        si_sdr(np.zeros(10), np.ones(10))
    with pytest.raises(ValueError, match=r"^clean and estimate must have one length, got 1000 and 999"):
        si_sdr(CLEAN, CLEAN[1:])
