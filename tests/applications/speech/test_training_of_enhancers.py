"""Mixtures at the ratio asked for, spreads, and what learns when."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridgejax.applications.speech import Codec, NetworkSize, Settings, enhance, load_enhancer, save_enhancer, si_sdr
from bridgejax.applications.speech import train_enhancer as train
from bridgejax.applications.speech._training import measured, mixture, stretches

SIZE, CODEC = NetworkSize(width=8, multipliers=(1,), patch=(4, 2)), Codec(62, 16)
RANDOM, T = np.random.default_rng(0), np.arange(12000)
CLEAN = [np.sin(T / period) * (0.6 + 0.4 * np.sin(T / 400)) for period in (5.0, 7.0)]
NOISE = [RANDOM.normal(size=12000)]


def settings(method):
    return Settings(method, 8000, CODEC, SIZE, 16)


def taught(method, **options):
    return train(CLEAN, NOISE, jax.random.key(0), settings=settings(method), crop=16, **options)


@pytest.fixture(scope="module")
def predictor():
    return taught("predictor", steps=40, rate=1e-2, snr=(0.0, 5.0))


def test_a_mixture_has_the_ratio_asked_for():
    codec = Codec(exponent=1.0, factor=1.0)
    clean, noise = (RANDOM.normal(size=codec.samples(200)) for _ in range(2))
    images = mixture(codec, (6.0, 6.0), jax.random.key(0), jnp.asarray(clean), jnp.asarray(noise))
    x, n = images[0], images[1] - images[0]
    assert 10 * np.log10(np.mean(x**2) / np.mean(n**2)) == pytest.approx(6.0, abs=0.2)
    levels = [mixture(codec, (0.0, 9.0), jax.random.key(k), jnp.asarray(clean), jnp.asarray(noise)) for k in range(40)]
    loudest = [float(jnp.max(jnp.abs(codec.synthesise(noisy)[200:-200]))) for _, noisy in levels]
    assert 0.15 < min(loudest) < 0.5 < max(loudest) < 1.02


def test_a_silent_mixture_stays_finite():
    zero = jnp.zeros(Codec().samples(4))
    assert not any(np.any(v) for v in mixture(Codec(), (0.0, 0.0), jax.random.key(0), zero, zero))


def test_stretches_cover_a_wave_at_unit_power_and_short_ones_stand_in_silence():
    rows = stretches([5.0 * np.ones(100, np.float32), np.ones(10, np.float32)], 40)
    assert rows.shape == (5, 40)
    assert np.allclose(rows[:4], 1.0)
    assert np.allclose(rows[4], np.pad(np.ones(10), 15))


def test_the_spread_is_that_of_its_definition():
    clean = RANDOM.normal(size=(400, 4, 4, 2))
    centre = 0.5 * clean + 0.3 * RANDOM.normal(size=clean.shape)
    found = measured(jnp.asarray(clean), jnp.asarray(centre), jnp.asarray(centre))
    wanted = (1.0, np.sqrt(0.34), np.sqrt(0.34), 0.5 / np.sqrt(0.34), np.sqrt(0.34))
    assert np.allclose(found, wanted, atol=0.03)


@pytest.mark.optimised
def test_training_takes_noise_away(predictor):
    noisy = CLEAN[0] + NOISE[0] * np.std(CLEAN[0])
    assert si_sdr(CLEAN[0], enhance(predictor, noisy, 8000)) > si_sdr(CLEAN[0], noisy) + 4.0


@pytest.mark.parametrize(("method", "joint"), [("storm", False), ("storm", True), ("bridge_storm", False)])
def test_a_predictor_learns_only_where_it_is_asked_to(predictor, method, joint):
    enhancer = taught(method, steps=2, predictor=predictor, joint=joint)
    before, after = (jax.tree.leaves(v.params) for v in (predictor, enhancer.predictor))
    assert any(np.any(a != b) for a, b in zip(before, after, strict=True)) == joint
    assert any(np.any(leaf) for leaf in jax.tree.leaves(enhancer.params))


def test_training_is_reproducible_and_saved_runs_are_the_same(predictor, tmp_path):
    first, second = (taught("bridge_storm", steps=2, predictor=predictor) for _ in range(2))
    same = load_enhancer(save_enhancer(tmp_path / "run", first))
    assert same.settings == first.settings
    assert jax.tree.structure(same) == jax.tree.structure(first)
    for other in (second, same):
        assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(other), strict=True))
    wave = NOISE[0][:3000]
    assert np.array_equal(enhance(first, wave, 8000), enhance(same, wave, 8000))


def test_runs_that_are_damaged_or_of_other_numbers(predictor, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no enhancer \(enhancer\.json\); see save_enhancer$"):
        load_enhancer(tmp_path)
    run = save_enhancer(tmp_path / "run", predictor)
    words = (run / "enhancer.json").read_text()
    (run / "enhancer.json").write_text(words.replace('"width": 8', '"width": 16'))
    with pytest.raises(ValueError, match=r"enhancer\.safetensors does not fit"):
        load_enhancer(run)
    for wrong in (words[:-20], "[]", '{"method": "bridge"}'):
        (run / "enhancer.json").write_text(wrong)
        with pytest.raises(ValueError, match=r"enhancer\.json is damaged or of another version"):
            load_enhancer(run)


def test_predictors_and_ratios_that_do_not_fit(predictor):
    with pytest.raises(ValueError, match=r"^predictor must be a trained Enhancer of method 'predictor' for 'storm'"):
        taught("storm")
    with pytest.raises(ValueError, match=r"^predictor is for \('storm', 'bridge_storm'\)"):
        taught("bridge", predictor=predictor)
    with pytest.raises(ValueError, match=r"^joint is for"):
        taught("sgmse", joint=True)
    for snr in ((5.0, 0.0), (0.0,), 3.0, ("a", "b"), (0.0, np.inf)):
        with pytest.raises(ValueError, match=r"^snr (must|holds)"):
            taught("bridge", snr=snr)
    with pytest.raises(ValueError, match=r"^clean holds silence only"):
        train([np.zeros(5000)], NOISE, jax.random.key(0))
    with pytest.raises(ValueError, match=r"^noise must be a folder of wav files or a list of waves"):
        train(CLEAN, [], jax.random.key(0))
    with pytest.raises(ValueError, match=r"^clean\[1\] has samples that are not finite"):
        train([CLEAN[0], np.array([np.nan])], NOISE, jax.random.key(0))
