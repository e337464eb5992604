"""sample: start, run, finish; from a partly noised state; backward; on another grid; the same sample always."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from bridgejax.bridges import pin, probability_flow, reverse
from bridgejax.processes import SDE, Process, keys, noising, schedules
from bridgejax.solve import grids, sample, simulate, simulate_batch, solvers

N = 4096
MEAN, SD = 1.2, 0.6
VP = schedules.vp(0.1, 8.0)


def denoiser(t, x, args):
    a, v = VP.alpha(t), VP.variance(0.0, t)
    return MEAN + a * SD**2 / (a**2 * SD**2 + v) * (x - a * MEAN)


def start(key, args):
    return VP.alpha(1.0) * MEAN + jnp.sqrt(VP.alpha(1.0) ** 2 * SD**2 + VP.variance(0.0, 1.0)) * jax.random.normal(key)


def shifted(key, x, args):
    return 10.0 + x


GRID = grids.log_snr(128, VP)
PROCESS = Process(start, reverse(VP, denoiser=denoiser), GRID, backward=noising(VP))


def moments(x, mean, sd, bias=0.0):
    x = np.asarray(x, np.float64)
    assert abs(x.mean() - mean) <= 5 * sd / np.sqrt(x.size) + bias
    assert abs(x.std() - sd) <= 5 * sd / np.sqrt(2 * x.size) + bias


def test_samples_have_the_data_law(key):
    fine = sample(PROCESS, keys(key, N))
    coarse = sample(PROCESS, keys(key, N), ts=grids.log_snr(64, VP))
    bias = abs(float(jnp.std(fine) - jnp.std(coarse))) + abs(float(jnp.mean(fine) - jnp.mean(coarse)))
    assert bias < 0.1 * SD
    moments(fine, MEAN, SD, bias)


@pytest.mark.fast
def test_finish_has_the_last_word_and_its_own_key(key):
    process = Process(start, PROCESS.dynamics, GRID, decode=shifted)
    np.testing.assert_allclose(sample(process, keys(key, 5)), 10.0 + sample(PROCESS, keys(key, 5)), rtol=1e-6)
    noisy = Process(start, PROCESS.dynamics, GRID, decode=lambda key, x, args: jax.random.normal(key))
    a, b = sample(noisy, keys(key, 500)), sample(PROCESS, keys(key, 500))
    assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(500)


def test_from_a_partly_noised_state(key):
    """x0 noised to t, then generated from there: the data law again; x stands at s = T - t on the clock."""
    s = 0.6
    t = 1.0 - s
    x0 = MEAN + SD * np.random.default_rng(0).normal(size=N)
    x = VP.alpha(t) * x0 + VP.sigma(t) * np.random.default_rng(1).normal(size=N)
    fine, coarse = (sample(PROCESS, keys(key, N), x=jnp.float32(x), t=s, ts=grids.log_snr(n, VP)) for n in (128, 64))
    bias = abs(float(jnp.std(fine) - jnp.std(coarse))) + abs(float(jnp.mean(fine) - jnp.mean(coarse)))
    assert bias < 0.1 * SD
    moments(fine, MEAN, SD, bias)
    # it starts at t itself, not at the next grid point
    ode = Process(start, SDE(lambda t, x, args: 1.0 + 0 * x), jnp.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(sample(ode, keys(key, 2), x=jnp.zeros(2), t=0.3), 0.7, rtol=1e-6)


def test_backward_runs_the_other_process(key):
    """From data to noise with the exact kernel; finish is not applied to states."""
    x0 = jnp.full(N, 3.0)
    process = Process(start, PROCESS.dynamics, GRID, backward=noising(VP), decode=shifted)
    out = sample(process, keys(key, N), x=x0, direction="backward", ts=[0.0, 1.0])
    mean, sd = 3 * float(VP.alpha(1.0)), float(VP.sigma(1.0))
    moments(out, mean, sd)
    # on its own clock the default grid is the generative one, reversed
    flow = probability_flow(VP, denoiser=denoiser)
    ramp = Process(start, flow, jnp.array([0.0, 0.25, 1.0]), backward=SDE(lambda t, x, args: t + 0 * x))
    out = sample(ramp, keys(key, 1), x=jnp.zeros(1), direction="backward", solver=solvers.Euler())
    np.testing.assert_allclose(out, 0.75 * 0 + 0.25 * 0.75, rtol=1e-6)


def test_args_are_each_samples_own(key):
    def conditional(t, x, args):
        return jnp.full_like(x, args["to"])

    process = Process(
        lambda key, args: args["to"] + jax.random.normal(key, (2,)),
        probability_flow(VP, denoiser=conditional),
        GRID,
        decode=lambda key, x, args: x * args["scale"],
    )
    args = {"to": np.arange(4.0, dtype=np.float32), "scale": [1.0, 2.0, 3.0, 4.0]}
    args["scale"] = np.float32(args["scale"])
    out = sample(process, keys(key, 4), args)
    np.testing.assert_allclose(out, (np.arange(4.0) * [1, 2, 3, 4])[:, None] * np.ones(2), rtol=1e-5)


def test_any_solver_and_grid(key):
    flow = Process(start, probability_flow(VP, denoiser=denoiser), GRID)
    outs = [
        sample(flow, keys(key, 16), solver=solver, ts=ts)
        for solver in (None, solvers.ExponentialEuler(), solvers.Heun())
        for ts in (None, grids.karras(64, VP, sigma_min=0.005))
    ]
    for out in outs[1:]:
        np.testing.assert_allclose(out, outs[0], atol=0.05)


def test_a_process_is_a_pytree_that_jit_takes(key):
    k = keys(key, 70)
    eager = sample(PROCESS, k)
    jitted = jax.jit(sample)(PROCESS, k)
    np.testing.assert_allclose(jitted, eager, rtol=1e-5, atol=1e-5)
    doubled = jax.jit(lambda p, k, x: sample(p, k, x=x))(PROCESS, k, jnp.zeros(70))
    assert doubled.shape == (70,)


def test_pytree_states_and_empty_args(key):
    x1 = {"a": jnp.ones(2), "b": jnp.asarray(2.0)}
    origin = lambda key, args: {"a": jnp.zeros(2), "b": jnp.zeros(())}  # noqa: E731
    process = Process(origin, pin(schedules.brownian(), x1), grids.uniform(4))
    out = sample(process, keys(key, 3))
    np.testing.assert_array_equal(out["a"], np.ones((3, 2)))
    np.testing.assert_array_equal(out["b"], [2.0, 2.0, 2.0])


def test_gradient_of_a_loss_on_samples(key):
    """d/dw of the mean sample of dx = w dt is T; through simulate_batch and sample alike."""

    def drift(w, t, x, args):
        return w + 0 * x

    def loss(w, run):
        sde = SDE(Partial(drift, w), lambda t, x, args: 0.3)
        return jnp.mean(run(sde))

    k, ts = keys(key, 10), grids.uniform(5, 0.5)
    by_batch = jax.grad(loss)(jnp.float32(2.0), lambda sde: simulate_batch(sde, k, jnp.zeros(10), ts))
    by_sample = jax.grad(loss)(jnp.float32(2.0), lambda sde: sample(Process(start, sde, ts), k))
    by_one = jax.grad(loss)(jnp.float32(2.0), lambda sde: simulate(sde, key, jnp.zeros(3), ts))
    np.testing.assert_allclose([by_batch, by_sample, by_one], 0.5, rtol=1e-5)
