"""The model with a denoiser in closed form: draws are draws, means are means, and one model serves every D."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

pytest.importorskip("pymoo")

import bridgejax as bj  # noqa: E402
from bridgejax.applications.evolution import load_evolver, save_evolver  # noqa: E402
from bridgejax.applications.evolution._model import Evolver, shown, untrained  # noqa: E402
from bridgejax.applications.evolution._seen import ENTROPY, FEATURES  # noqa: E402
from bridgejax.methods.generative.diffusion import reversal  # noqa: E402
from bridgejax.processes import schedules, starts  # noqa: E402

DEVIATION = 0.1


def denoiser(schedule, t, x, args):
    """E[z | z_t, c] of z ~ N(c_0, 0.1^2)."""
    alpha, noise = schedule.alpha(t), schedule.variance(0.0, t)
    gain = alpha * DEVIATION**2 / (alpha**2 * DEVIATION**2 + noise)
    return args[:1] + gain * (x - alpha * args[:1])


def gaussian():
    schedule = schedules.cosine()
    grid = bj.grids.log_snr(8, schedule)
    process = reversal(schedule, Partial(denoiser, schedule), starts.normal((1,), 1.0), grid, "ode", None)
    unit = jnp.ones(FEATURES)
    return Evolver(process, 0.0 * unit, 2.0 * unit, unit)


def conditions(lead, value):
    told = np.zeros((*lead, FEATURES), np.float32)
    told[..., 0] = 2.0 * value  # conditions are divided by 2
    return told


def test_draws_and_means():
    told = conditions((60, 100), 0.3)
    found = gaussian()._denoise(told, jax.random.key(0), mean=False)
    assert found.shape == (60, 100)
    assert abs(found.mean() - 0.3) < 5 * DEVIATION / np.sqrt(found.size) + 5e-3
    assert abs(found.std() / DEVIATION - 1) < 5 * np.sqrt(0.5 / found.size) + 0.05
    assert len(np.unique(found)) > 0.9 * found.size  # chunks have keys of their own
    np.testing.assert_allclose(gaussian()._denoise(told, jax.random.key(0), mean=True), 0.3, atol=1e-3)


def test_the_box_and_any_number_of_variables():
    values = np.linspace(-0.9, 0.9, 5000)
    found = gaussian()._denoise(conditions((1, 5000), values), jax.random.key(1), mean=True)
    np.testing.assert_allclose(found[0], values, atol=1e-3)
    assert np.abs(gaussian()._denoise(conditions((2, 9), 1.0), jax.random.key(1), mean=False)).max() == 1.0


def test_a_form_sees_its_conditions():
    assert shown("population").all()
    assert not shown("none").any()
    assert np.flatnonzero(shown("entropy")).tolist() == [ENTROPY]
    blind = dataclasses.replace(gaussian(), sees=jnp.asarray(shown("none")))
    np.testing.assert_allclose(blind._denoise(conditions((1, 4), 0.7), jax.random.key(0), mean=True), 0.0, atol=1e-3)


def test_proposals_are_of_the_population():
    random = np.random.default_rng(0)
    x, evolver = random.uniform(-1, 1, (30, 6)), untrained(width=8, depth=1)
    f = np.stack([x[:, 0], x[:, 1]], 1)
    w, key = np.array([[0.0, 1.0], [1.0, 0.0]]), jax.random.key(3)
    found = evolver.propose(x, f, w, key)
    assert found.shape == (2, 6)
    np.testing.assert_array_equal(found, evolver.propose(x, f, w, key))
    assert not np.allclose(found, evolver.propose(x, f, w, jax.random.key(4)))


def test_a_file(tmp_path):
    evolver = dataclasses.replace(untrained(width=8, depth=1, form="entropy"), shift=jnp.arange(36.0))
    path = save_evolver(tmp_path / "evolver.safetensors", evolver)
    same = load_evolver(path, width=8, depth=1)
    np.testing.assert_array_equal(same.shift, evolver.shift)
    np.testing.assert_array_equal(same.sees, evolver.sees)
    with pytest.raises(ValueError, match="does not fit"):
        load_evolver(path, width=9, depth=1)
