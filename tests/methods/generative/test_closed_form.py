"""Closed-form diffusion: against dense NumPy, where its samples end, what a run keeps, and the ends of time."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bridgejax as bj
from bridgejax.cli import main
from bridgejax.methods import closed_form

COSINE = bj.schedules.cosine()
ROWS = np.random.default_rng(3).normal(size=(9, 2, 3)).astype(np.float32)
KEY = jax.random.key(5)


def denoiser(method, state=None):
    state = method.init(KEY, None) if state is None else state
    return jax.jit(method.process(state).dynamics.semilinear.denoiser)


def dense(x, alpha, sigma, rows=ROWS):
    """E[x_0 | x_t] in float64, all at once."""
    logs = -np.sum((np.float64(x) - alpha * np.float64(rows)) ** 2, axis=(1, 2)) / (2 * sigma**2)
    weights = np.exp(logs - logs.max())
    return np.tensordot(weights / weights.sum(), rows, 1)


def apart(x, rows=ROWS):
    """Distance of each sample to its nearest row."""
    return np.linalg.norm(np.asarray(x).reshape(len(x), 1, -1) - rows.reshape(1, len(rows), -1), axis=-1).min(axis=1)


@pytest.mark.fast
@pytest.mark.parametrize("t", [0.05, 0.5, 0.9])
def test_the_smoothed_denoiser_is_the_mean_over_its_kicks(t):
    method = closed_form(COSINE, rows=ROWS, smoothing=0.7, draws=4)
    state, x = method.init(KEY, None), np.random.default_rng(0).normal(size=(2, 3))
    kicks, alpha, sigma = np.asarray(state.model.kicks), float(COSINE.alpha(t)), float(COSINE.sigma(t))
    assert kicks.shape == (4, 2, 3)
    assert len(np.unique(kicks)) == 24
    want = np.mean([dense(x + kick, alpha, sigma) for kick in kicks], axis=0)
    np.testing.assert_allclose(denoiser(method, state)(t, jnp.asarray(x), None), want, rtol=1e-4, atol=1e-5)


def test_kicks_have_the_deviation_that_was_asked_for():
    kicks = closed_form(COSINE, rows=ROWS, smoothing=0.3, draws=500).init(KEY, None).model.kicks
    assert abs(float(jnp.std(kicks)) / 0.3 - 1) < 5 / np.sqrt(2 * kicks.size)


@pytest.mark.parametrize("t", [0.5, 0.8])
def test_without_smoothing_it_is_the_exact_law_and_little_smoothing_is_near(t):
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3)), jnp.float32)
    exact = bj.oracles.empirical_law(ROWS).denoise(COSINE, t, x)
    np.testing.assert_array_equal(denoiser(closed_form(COSINE, rows=ROWS))(t, x, None), exact)
    errors = [
        float(jnp.max(jnp.abs(denoiser(closed_form(COSINE, rows=ROWS, smoothing=s))(t, x, None) - exact)))
        for s in (1e-1, 1e-3)
    ]
    assert 1e-3 < errors[0]
    assert errors[1] < 0.03 * errors[0]


@pytest.mark.parametrize("sampler", ["ode", "sde"])
def test_every_sample_is_a_row_and_with_smoothing_a_mean_of_rows(sampler):
    """The support of the exact reversal is the data, and of the smoothed one the means of M of them."""
    drawn = {}
    for smoothing in (0.0, 1.5):
        method = closed_form(COSINE, rows=ROWS, smoothing=smoothing, draws=3, sampler=sampler)
        drawn[smoothing] = bj.sample(method.process(method.init(KEY, None)), bj.keys(KEY, 60))
    assert apart(drawn[0.0]).max() < 1e-3
    assert apart(drawn[1.5]).max() > 0.1
    i = np.indices((9, 9, 9)).reshape(3, -1)
    assert apart(drawn[1.5], ROWS[i].mean(axis=0)).max() < 1e-2


@pytest.mark.parametrize("smoothing", [0.0, 0.5])
def test_finite_values_and_slopes_at_both_ends(smoothing):
    say = denoiser(closed_form(COSINE, rows=ROWS, smoothing=smoothing, draws=2))
    slopes = jax.jit(jax.value_and_grad(lambda t, x: jnp.sum(say(t, x, None) ** 2), argnums=(0, 1)))
    for t in (0.0, 1e-6, 1.0):
        chex.assert_tree_all_finite(slopes(jnp.asarray(t, float), jnp.asarray(ROWS[2] + 0.1)))


def test_a_step_says_the_loss_and_changes_nothing(tmp_path):
    """On its own rows, of n far apart: 0 but at high noise; and a run is read back without its data."""
    method = closed_form(COSINE, rows=10 * ROWS)
    state = bj.fit(method, 10 * ROWS, KEY, steps=1, batch_size=9, directory=tmp_path)
    assert int(state.step) == 1
    chex.assert_trees_all_equal(state.model, method.init(KEY, None).model)
    after, metrics = method.step(state, KEY, jnp.asarray(10 * ROWS))
    assert 0 <= float(metrics["loss"]) < 30
    assert float(method.step(state, KEY, jnp.asarray(10 * ROWS + 5))[1]["loss"]) > 20  # rows it has not seen
    chex.assert_trees_all_equal(after.model, state.model)
    run = bj.load(tmp_path, method)
    chex.assert_trees_all_equal(run.params, {"rows": jnp.asarray(10 * ROWS)})


def test_the_start_has_the_mean_of_the_rows():
    """Where the schedule keeps signal: a path of variance 0.5 around rows at 100."""
    schedule = bj.schedules.ve(sigma_max=5.0)
    start = (
        closed_form(schedule, rows=100.0 + 0.1 * ROWS).process(closed_form(schedule, rows=ROWS).init(KEY, None)).start
    )
    np.testing.assert_allclose(start.mean, 100.0 + 0.1 * ROWS.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(start.scale, 5.0, rtol=1e-2)


def test_float64_rows_are_float64_to_the_end():
    with jax.enable_x64(True):
        method = closed_form(bj.schedules.vp(), rows=np.float64(ROWS), smoothing=0.1, draws=2)
        x = bj.sample(method.process(method.init(KEY, None)), bj.keys(KEY, 2))
        assert x.dtype == jnp.float64


def test_a_run_by_words_keeps_every_row(tmp_path):
    """More rows than a bridge keeps to start from, and all samples among them, when read back too."""
    rows = np.random.default_rng(0).normal(size=(14_000, 1))
    np.save(tmp_path / "x.npy", rows)
    out, data = str(tmp_path / "run"), str(tmp_path / "x.npy")
    assert main(["train", "closed_form", "--data", data, "--num", "10", "--batch-size", "16", "--out", out]) == 0
    run = bj.load(out, sample_steps=30)
    held = run.to_data(run.params["rows"])
    assert len(held) == 11_200
    assert apart(held[:50], rows[:, None]).max() < 1e-4
    assert apart(run.sample(bj.keys(KEY, 20)), rows[:, None]).max() < 1e-3
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1
