"""What explains a model, on Gaussian data, where everything has a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bridgejax as bj
from bridgejax import evaluation, grids, schedules
from bridgejax.oracles import gaussian_flow, gaussian_law
from bridgejax.solve import simulate_path

MEAN, VALUES = np.array([0.5, -1.0, 2.0]), np.array([4.0, 0.5, 0.05])
ROTATION = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
LAW = gaussian_law(MEAN, ROTATION @ np.diag(VALUES) @ ROTATION.T)
SCHEDULES = {"karras": (schedules.karras(), grids.karras), "vp": (schedules.vp(), None)}
NUM = 64


def of(name, steps=120):
    """The exact probability flow of the law from its exact start."""
    schedule, _ = SCHEDULES[name]
    ts = grids.karras(steps) if name == "karras" else grids.log_snr(steps, schedule)
    flow = bj.probability_flow(schedule, denoiser=gaussian_flow(LAW, schedule).denoiser)
    return bj.Process(LAW.diffuse(schedule, schedule.T), flow, ts)


def paths_of(process):
    """States, denoised states and noise levels of the paths, without the last time."""
    keys, schedule = bj.keys(jax.random.key(0), NUM), process.dynamics.semilinear.schedule
    x0 = jax.vmap(process.start)(keys)
    path = jax.vmap(lambda key, x: simulate_path(process.dynamics, key, x, process.ts))(keys, x0)
    times = schedule.T - path.ts[0][:-1]
    denoise = jax.vmap(jax.vmap(process.dynamics.semilinear.denoiser, (0, 0, None)), (None, 0, None))
    levels = np.exp(-0.5 * np.asarray(jax.vmap(schedule.log_snr)(times), np.float64))
    return np.asarray(path.xs), np.asarray(denoise(times, path.xs[:, :-1], None)), levels


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_dimension_of_gaussian_paths_is_that_of_the_closed_form(name):
    """With x_t = alpha mean + sum_k psi_k c_k u_k known, the whole path is, and so are its singular values."""
    process = of(name)
    schedule, T = process.dynamics.semilinear.schedule, process.dynamics.T
    xs = paths_of(process)[0]
    times = T - np.asarray(process.ts, np.float64)
    alpha = np.array([float(schedule.alpha(t)) for t in times])
    deviation = np.sqrt(
        alpha[:, None] ** 2 * VALUES + np.array([float(schedule.sigma(t)) ** 2 for t in times])[:, None]
    )
    c = (xs[:, 0] - alpha[0] * MEAN) @ ROTATION / deviation[0]
    shares = []
    for row in c:
        exact = alpha[:, None] * MEAN + (deviation * row) @ ROTATION.T
        squares = np.linalg.svd(exact - exact.mean(0), compute_uv=False) ** 2
        shares.append(np.cumsum(squares) / squares.sum())
    found = evaluation.trajectory_dimension(xs, most=4)
    np.testing.assert_allclose(found[:3], np.mean(shares, axis=0), atol=2e-3)
    np.testing.assert_allclose(found[3], 1.0, rtol=1e-12)
    assert found[0] < 0.99999


def test_isotropic_data_around_zero_move_on_straight_lines():
    c = np.random.default_rng(1).normal(size=(5, 1, 7))
    levels = np.geomspace(80, 0.01, 30)[None, :, None]
    np.testing.assert_allclose(evaluation.trajectory_dimension(np.sqrt(1 + levels**2) * c, most=2), 1.0, rtol=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_features_emerge_at_the_square_root_of_three_variances(name):
    _, denoised, levels = paths_of(of(name))
    assert levels[-1] < 0.02
    found = evaluation.emergence_levels(denoised, levels, ROTATION)
    np.testing.assert_allclose(found, np.sqrt(3 * VALUES), rtol=0.02)


def test_what_is_there_from_the_start_emerges_at_infinity():
    """... and what is not there at the end has no level; a last level of 0 is interpolated to."""
    denoised = np.random.default_rng(0).normal(size=(4, 1, 2)) * np.array([1.0, 0.0]) * np.ones((1, 3, 1))
    found = evaluation.emergence_levels(denoised, [2.0, 1.0, 0.0], np.eye(2))
    assert found[0] == np.inf
    assert np.isnan(found[1])
    rising = denoised * np.array([0.0, 0.25, 1.0])[None, :, None]
    np.testing.assert_allclose(evaluation.emergence_levels(rising, [2.0, 0.9, 0.0], np.eye(2))[0], 0.6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_kick_ends_as_the_closed_form_says(name):
    process, schedule = of(name), SCHEDULES[name][0]
    times = np.array([8.0, 0.7]) if name == "karras" else np.array([0.8, 0.3])
    found = evaluation.kick_response(process, bj.keys(jax.random.key(1), 3), ROTATION, times)
    alpha, sigma = (np.array([float(f(t)) for t in times])[:, None] for f in (schedule.alpha, schedule.sigma))
    np.testing.assert_allclose(found, np.sqrt(VALUES / (alpha**2 * VALUES + sigma**2)), rtol=0.02, atol=2e-3)


def exact_share(schedule, t, of_model):
    """Share of the score of LAW that N(MEAN, model) explains: both scores are linear in x_t, whose law is known."""
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    whole = alpha**2 * VALUES + sigma**2
    model = alpha**2 * of_model + sigma**2
    return 1 - np.sum((1 / model - 1 / whole) ** 2 * whole) / np.sum(1 / whole)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_share_explained_is_that_of_the_closed_form(name):
    """The isotropic Gaussian of Gaussian data; the Gaussian itself explains all, on any rows."""
    n, schedule = 8000, SCHEDULES[name][0]
    rows = jax.vmap(LAW)(bj.keys(jax.random.key(2), n))
    times = [0.3, 2.0] if name == "karras" else [0.1, 0.5]
    ball = gaussian_law(MEAN, VALUES.mean())
    truth = gaussian_flow(LAW, schedule).denoiser
    models = {"gaussian": truth, "isotropic": gaussian_flow(ball, schedule).denoiser}
    found = evaluation.explained_score(truth, schedule, models, rows, times, jax.random.key(3))
    np.testing.assert_allclose(found["gaussian"], 1.0, atol=1e-6)
    expected = [exact_share(schedule, t, VALUES.mean()) for t in times]
    assert min(expected) < 0.8
    # a ratio of two means of sums of squares of three Gaussians, either with a relative error below sqrt(2 / n)
    np.testing.assert_allclose(found["isotropic"], expected, atol=5 * 2 * np.sqrt(2 / n))


def test_conditions_reach_the_learnt_denoiser_only():
    def learnt(t, x, args):
        return jnp.full_like(x, args)

    def model(t, x, args):
        assert args is None
        return jnp.full_like(x, 2.0)

    given = [schedules.karras(), {"two": model}, np.zeros((64, 2)), [1.0], jax.random.key(0)]
    found = [evaluation.explained_score(learnt, *given, args=np.full(64, k))["two"] for k in (2.0, 1.0)]
    np.testing.assert_allclose(found[0], 1.0)
    assert found[1] < 0.9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluation.trajectory_dimension(np.zeros((2, 3, 1))), "2 of 2 paths stand still"),
        (lambda: evaluation.emergence_levels(np.zeros((1, 3, 1)), [2.0, 1.0, 0.5], np.eye(1)), "denoised holds one"),
        (lambda: evaluation.emergence_levels(np.zeros((2, 3, 1)), [1.0, 2.0, 3.0], np.eye(1)), "levels must be 3 fall"),
        (lambda: evaluation.emergence_levels(np.zeros((2, 3, 1)), [2.0, 1.0, 0.5], 2 * np.eye(1)), "length 1"),
        (lambda: evaluation.kick_response(of("vp", 3), bj.keys(jax.random.key(0), 2), ROTATION, 1.5), "times must be"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_process_without_a_denoiser_is_refused():
    process = bj.Process(bj.starts.normal((2,)), bj.SDE(lambda t, x, args: -x), bj.grids.uniform(3))
    with pytest.raises(ValueError, match="kick_response needs a process that runs reverse or probability_flow"):
        evaluation.kick_response(process, bj.keys(jax.random.key(0), 2), np.eye(2), [0.5])
