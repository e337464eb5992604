"""simulate: exact laws of its schemes, its noise, its landing, and any kind of state."""

import dataclasses
import importlib
import logging

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest
from jax.tree_util import Partial

from bridgejax.bridges import pin
from bridgejax.processes import SDE, Kernel, keys, noising, schedules
from bridgejax.solve import grids, simulate, simulate_batch, simulate_path

N = 4096
THETA, SIGMA = 1.3, 0.7


def pull(theta, t, x, args):
    return -theta * x


def constant(sigma, t, x, args):
    return sigma


def ou():
    return SDE(Partial(pull, jnp.float32(THETA)), Partial(constant, jnp.float32(SIGMA)))


def module():
    """The module that draws the noise of a grid."""
    return importlib.import_module("bridgejax.solve._fixed_grid")


# laws ------------------------------------------------------------


@pytest.mark.fast
def test_mean_and_variance_of_euler_on_ou(key):
    """Euler's own law is Gaussian: mean (1 - theta h)^n x0, variance sigma^2 h sum_k (1 - theta h)^2k. No bias left."""
    ts = jnp.array([0.0, 0.1, 0.15, 0.4, 0.6, 1.0])
    out = np.asarray(simulate_batch(ou(), keys(key, N), jnp.float32(2.0), ts, axes=(None, None, None)), np.float64)
    mean, variance = 2.0, 0.0
    for h in np.diff(np.asarray(ts, np.float64)):
        mean, variance = (1 - THETA * h) * mean, (1 - THETA * h) ** 2 * variance + SIGMA**2 * h
    assert abs(out.mean() - mean) <= 5 * np.sqrt(variance / N)
    assert abs(out.var(ddof=1) / variance - 1) <= 5 * np.sqrt(2 / (N - 1))


def test_euler_is_a_hand_written_loop_on_the_recorded_noise(key):
    """To rounding: two programs fuse multiply and add differently."""
    sde, ts, x0 = ou(), grids.uniform(50), jnp.array([1.0, -2.0, 0.3])
    path = simulate_path(sde, key, x0, ts)
    assert path.noise.shape == (50, 3)
    assert path.xs.shape == (51, 3)

    @jax.jit
    def by_hand(x0, ts, noise):
        def step(x, interval):
            t0, t1, w = interval
            x = x + (-jnp.float32(THETA) * x * (t1 - t0) + jnp.float32(SIGMA) * w)
            return x, x

        return jax.lax.scan(step, x0, (ts[:-1], ts[1:], noise))[1]

    np.testing.assert_allclose(path.xs[1:], by_hand(x0, ts, path.noise), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(path.xs[0], x0)
    np.testing.assert_allclose(path.xs[-1], simulate(sde, key, x0, ts), rtol=0, atol=1e-6)  # two programs
    np.testing.assert_array_equal(path.ts, ts)


def test_the_recorded_noise_is_white(key):
    """Increments of 4,096 paths: variance h, no correlation over steps, blocks, coordinates or samples."""
    ts = jnp.concatenate([jnp.linspace(0, 0.5, 34), jnp.array([0.8, 1.0])])
    run = jax.jit(jax.vmap(lambda k: simulate_path(ou(), k, jnp.zeros(2), ts).noise))
    noise = np.asarray(run(keys(key, N)), np.float64)
    z = noise / np.sqrt(np.diff(np.asarray(ts)))[None, :, None]
    assert np.all(np.abs(z.mean(0)) < 5.5 / np.sqrt(N))  # 70 means at once
    assert np.all(np.abs(z.var(0) - 1) < 5.5 * np.sqrt(2 / N))
    flat = z.reshape(N, -1)
    correlation = flat.T @ flat / N - np.eye(flat.shape[1])
    assert np.all(np.abs(correlation) < 6.5 * np.sqrt(2 / N))
    assert abs(np.mean(z[1:] * z[:-1])) < 5 / np.sqrt(z.size)


# noise in blocks ------------------------------------------------------------


def counted(steps):
    """A fresh drift each time, so that each call is traced anew."""
    return SDE(lambda t, x, args: jax.tree.map(lambda v: -v + steps, x), Partial(constant, jnp.float32(SIGMA)))


@pytest.mark.parametrize("steps", [33, 64, 100])
@pytest.mark.parametrize("state", ["array", "pytree"])
def test_streamed_noise_is_the_noise_drawn_up_front(steps, state, key, monkeypatch):
    x0 = jnp.ones(3) if state == "array" else {"a": jnp.ones((2, 2)), "b": jnp.asarray(0.5)}
    ts, drawn = grids.uniform(steps, 0.9), []
    up_front = simulate_path(counted(0.25), key, x0, ts)
    inner = module().draw_noise
    monkeypatch.setattr(module(), "_UP_FRONT", 0)
    monkeypatch.setattr(module(), "draw_noise", lambda *args: drawn.append(1) or inner(*args))
    streamed = simulate_path(counted(0.25), key, x0, ts)
    assert not drawn, "this run was meant to stream"
    # the same normals; two programs may fuse sqrt(dt) z differently
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-6), streamed, up_front)


def test_a_large_state_streams_and_its_gradient_agrees(monkeypatch):
    """Above 2^11 numbers; the gradient through blocks is that through one scan."""
    x0, ts, key = jnp.full(600, 0.5), grids.uniform(40, 0.9), jax.random.key(3)

    def loss(x0):
        return jnp.sum(simulate(counted(0.125), key, x0, ts) ** 2)

    streamed = jax.value_and_grad(loss)(x0)
    monkeypatch.setattr(module(), "_UP_FRONT", 1 << 20)
    up_front = jax.value_and_grad(loss)(x0)
    np.testing.assert_allclose(streamed[0], up_front[0], rtol=1e-6)
    np.testing.assert_allclose(streamed[1], up_front[1], rtol=1e-5)


def test_memory_is_bounded_by_the_state_not_by_a_threshold():
    """Noise of 82 numbers took .65 GB where that of 81 took 2.3, drawn up front for all samples of a program."""

    def held(dim):
        run = jax.jit(lambda keys, x0s: simulate_batch(counted(0.5), keys, x0s, grids.uniform(200, 0.9)))
        program = run.lower(keys(jax.random.key(0), 500), jnp.zeros((500, dim))).compile()
        return program.memory_analysis().temp_size_in_bytes

    small, below, above = (held(dim) for dim in (10, 81, 82))
    assert below < 1.1 * above
    assert small < above


def test_a_longer_grid_begins_with_the_shorter_one(key):
    """The same key on ts[:k]: the same path so far, across block boundaries."""
    ts = grids.uniform(70, 0.7)
    long = simulate_path(ou(), key, jnp.ones(2), ts)
    for k in (2, 32, 33, 34, 65):
        short = simulate_path(ou(), key, jnp.ones(2), ts[:k])
        np.testing.assert_allclose(short.noise, long.noise[: k - 1], rtol=0, atol=1e-6)
        np.testing.assert_allclose(short.xs, long.xs[:k], rtol=0, atol=2e-6)


def test_landing_does_not_disturb_the_noise_before_it(key):
    sde = noising(schedules.ou(THETA, SIGMA))
    ts = grids.uniform(10)
    a = simulate_path(sde, key, jnp.ones(2), ts)
    b = simulate_path(dataclasses.replace(sde, terminal_kernel=None), key, jnp.ones(2), ts)
    np.testing.assert_array_equal(a.xs[:-1], b.xs[:-1])
    assert a.noise.shape == (9, 2)
    assert b.noise.shape == (10, 2)


# landing ------------------------------------------------------------


def at_end(key, t, u, x, args):
    return 100.0 * t + u + 0 * x


@pytest.mark.fast
def test_the_last_interval_is_the_kernels(key):
    """It is asked for (ts[-2], ts[-1]) and only where the grid ends at T."""
    sde = SDE(lambda t, x, args: 0 * x, T=2.0, terminal_kernel=Kernel(at_end))
    assert simulate(sde, key, 0.0, jnp.array([0.0, 2.0])) == 2.0
    assert simulate(sde, key, 0.0, jnp.array([0.0, 0.5, 2.0])) == 52.0
    assert simulate(sde, key, 0.0, jnp.array([0.0, 0.5, 1.9])) == 0.0
    path = simulate_path(sde, key, 0.0, jnp.array([0.0, 0.5, 2.0]))
    np.testing.assert_array_equal(path.xs, [0.0, 0.0, 52.0])


@pytest.mark.parametrize("T", [0.3, 0.7, 1.0, 80.0])
def test_T_is_met_whatever_float32_makes_of_it(T, key):
    sde = SDE(lambda t, x, args: 0 * x, T=T, terminal_kernel=Kernel(lambda key, t, u, x, args: x + 1))
    for ts in (np.linspace(0, T, 7), jnp.linspace(0, T, 7), [0.0, T], jnp.float32([0, T * (1 - 1e-7)])):
        assert simulate(sde, key, 0.0, ts) == 1.0
        assert jax.jit(lambda ts: simulate(sde, key, 0.0, ts))(jnp.asarray(ts, jnp.float32)) == 1.0


def test_one_step_noising_is_exact(key):
    """ts = [0, T] draws from q(x_T | x_0)."""
    schedule = schedules.vp(0.1, 4.0)
    x0 = jnp.float32(3.0)
    out = simulate_batch(noising(schedule), keys(key, N), x0, [0.0, 1.0], axes=(None, None, None))
    out = np.asarray(out, np.float64)
    mean, variance = 3 * np.exp(-0.5 * 2.05), -np.expm1(-2.05)
    assert abs(out.mean() - mean) <= 5 * np.sqrt(variance / N)
    assert abs(out.var() / variance - 1) <= 5 * np.sqrt(2 / N)


def test_singular_terms_are_not_evaluated_at_the_end(key):
    def singular(t, x, args):
        return jnp.where(t < 1.0, x / jnp.where(t < 1.0, 1.0 - t, 1.0), jnp.nan)

    sde = SDE(
        singular,
        lambda t, x, args: jnp.where(t < 1.0, 1.0, jnp.nan),
        terminal_kernel=Kernel(lambda k, t, u, x, args: x),
    )
    assert np.isfinite(simulate(sde, key, jnp.float32(0.5), grids.uniform(8)))
    assert np.isfinite(jax.grad(lambda x: simulate(sde, key, x, grids.uniform(8)))(jnp.float32(0.5)))


# states ------------------------------------------------------------


def test_pytree_states(key):
    x0 = {"a": jnp.ones((2, 3)), "b": (jnp.asarray(2.0), jnp.zeros(4, jnp.bfloat16))}
    sde = SDE(lambda t, x, args: jax.tree.map(lambda v: -v, x), Partial(constant, jnp.float32(0.5)))
    path = simulate_path(sde, key, x0, grids.uniform(5))
    assert jax.tree.structure(path.xs) == jax.tree.structure(x0)
    for many, one in zip(jax.tree.leaves(path.xs), jax.tree.leaves(x0), strict=True):
        assert many.shape == (6, *one.shape)
        assert many.dtype == one.dtype
    assert jax.tree.structure(path.noise) == jax.tree.structure(x0)
    diagonal = SDE(sde.drift, lambda t, x, args: jax.tree.map(lambda v: 0.1 * jnp.ones_like(v), x))
    jax.tree.map(lambda a, b: a.shape == b.shape, simulate(diagonal, key, x0, grids.uniform(5)), x0)


G = np.array([[1.0, 0.5], [0.0, 2.0], [-1.0, 0.3]])


def dense(g, t, x, args):
    return lineax.MatrixLinearOperator(g)


def test_a_rectangular_diffusion(key):
    """Three coordinates driven by two Brownian motions: covariance G G^T T, and of rank two."""
    sde = SDE(lambda t, x, args: 0.0 * x, Partial(dense, jnp.float32(G)))
    out = simulate_batch(sde, keys(key, N), jnp.zeros(3), grids.uniform(4), axes=(None, None, None))
    out = np.asarray(out, np.float64)
    covariance = G @ G.T
    spread = np.sqrt((np.outer(np.diag(covariance), np.diag(covariance)) + covariance**2) / N)
    assert np.all(np.abs(out.T @ out / N - covariance) <= 5 * spread)
    assert np.linalg.svd(out, compute_uv=False)[2] < 1e-3
    path = simulate_path(sde, key, jnp.zeros(3), grids.uniform(4))
    assert path.noise.shape == (4, 2)
    np.testing.assert_allclose(path.xs[-1], G @ np.asarray(path.noise).sum(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_states_keep_their_dtype_and_the_times_of_their_grid(dtype, key):
    seen = []

    def drift(t, x, args):
        seen.append((t.dtype, x.dtype))
        return -x

    sde = SDE(drift, lambda t, x, args: jnp.float32(0.5))
    x0, ts = jnp.ones(64, dtype), grids.uniform(20)
    out = simulate_batch(sde, keys(key, 128), x0, ts, axes=(None, None, None))
    assert out.dtype == dtype
    assert ts.dtype == jnp.result_type(float)
    assert set(seen) == {(ts.dtype, jnp.dtype(dtype))}
    out = np.asarray(out, np.float64)
    variance = 0.25 * (1 - 0.95**40) / (1 - 0.95**2) / 20
    # 20 roundings of at most 2^-9 each
    assert abs(out.mean() - 0.95**20) <= 5 * np.sqrt(variance / out.size) + 20 * 2**-9 * 0.6
    assert abs(out.var() / variance - 1) < 5 * np.sqrt(2 / out.size) + 0.05
    # a grid given in bfloat16 is refused where its times have merged, not silently run with steps of nothing
    with pytest.raises(ValueError, match="ts must increase"):
        simulate(sde, key, x0, jnp.linspace(0, 1, 1001, dtype=jnp.bfloat16))


def test_args_reach_every_part(key):
    def drift(t, x, args):
        return args["pull"] * (args["to"] - x)

    sde = SDE(
        drift, lambda t, x, args: args["noise"], terminal_kernel=Kernel(lambda k, t, u, x, args: x + args["shift"])
    )
    args = {"pull": 2.0, "to": jnp.array([1.0, -1.0]), "noise": 0.0, "shift": 10.0}
    out = simulate(sde, key, jnp.zeros(2), grids.uniform(200), args)
    np.testing.assert_allclose(out, args["to"] * (1 - np.exp(-2)) + 10, atol=2e-2)
    many = jax.tree.map(lambda v: jnp.stack([jnp.asarray(v, jnp.float32)] * 3), args)
    many["shift"] = jnp.array([0.0, 1.0, 2.0])
    out = simulate_batch(sde, keys(key, 3), jnp.zeros((3, 2)), grids.uniform(8), many)
    np.testing.assert_allclose(out[1] - out[0], 1.0, rtol=1e-6)


def test_an_ode_draws_no_noise(key):
    sde = SDE(lambda t, x, args: -x)
    path = simulate_path(sde, key, jnp.ones(2), grids.uniform(64))
    assert path.noise is None
    np.testing.assert_allclose(path.xs[-1], np.exp(-1.0), rtol=1e-4)
    np.testing.assert_array_equal(path.xs[-1], simulate(sde, jax.random.key(99), jnp.ones(2), grids.uniform(64)))
    text = jax.jit(lambda x: simulate(sde, key, x, grids.uniform(64))).lower(jnp.ones(2)).as_text()
    assert "threefry" not in text


def test_a_grid_need_not_begin_at_zero(key):
    """Only the SDE's clock counts: dx = t dt over [1, 2]."""
    sde = SDE(lambda t, x, args: t + 0 * x, T=3.0)
    assert float(simulate(sde, key, jnp.float32(0), jnp.linspace(1.0, 2.0, 9))) == pytest.approx(1.5, rel=1e-6)


# through jax ------------------------------------------------------------


def test_gradients_in_every_argument(key):
    """x0, parameters, grid and end point of OU and of its pin: against finite differences of the same path."""

    def f(theta, sigma, x0, x1, t):
        ts = jnp.array([0.0, 0.2, 0.0, 0.9]).at[2].set(t)
        a = simulate(SDE(Partial(pull, theta), Partial(constant, sigma)), key, x0, ts)
        b = simulate(pin(schedules.ou(theta, sigma), x1), key, x0, ts)
        return a + 2 * b

    point = tuple(jnp.float32(v) for v in (1.3, 0.7, 0.5, -1.0, 0.5))
    f = jax.jit(f)
    gradient = jax.grad(f, tuple(range(5)))(*point)
    for i, slope in enumerate(gradient):
        h = 1e-2
        ends = [f(*(v + sign * h * (j == i) for j, v in enumerate(point))) for sign in (1, -1)]
        assert float(slope) == pytest.approx(float(ends[0] - ends[1]) / (2 * h), rel=2e-2, abs=2e-3)
        assert slope != 0


def test_forward_mode_too(key):
    value, slope = jax.jvp(
        lambda x: simulate(ou(), key, x, grids.uniform(10)), (jnp.float32(1.0),), (jnp.float32(1.0),)
    )
    assert float(slope) == pytest.approx((1 - THETA / 10) ** 10, rel=1e-5)
    assert np.isfinite(value)


def test_vmap_over_grids_keys_and_sdes(key):
    ts = jnp.stack([jnp.linspace(0, 1, 9), jnp.linspace(0, 0.5, 9)])
    sde = pin(schedules.brownian(), jnp.float32(2.0))
    out = jax.jit(jax.vmap(lambda ts: simulate(sde, key, jnp.float32(0), ts)))(ts)
    assert out[0] == 2.0
    want = simulate(sde, key, jnp.float32(0), ts[1])
    assert float(out[1]) == pytest.approx(float(want), abs=2.0)
    assert out[1] != 2.0


def test_float64_when_it_is_switched_on(key):
    with jax.enable_x64(True):
        out = simulate(SDE(lambda t, x, args: -x), key, jnp.ones(2), np.linspace(0, 1, 2001))
        assert out.dtype == jnp.float64
        np.testing.assert_allclose(out, np.exp(-1), rtol=1e-7)
        path = simulate_path(pin(schedules.brownian(), jnp.float64(2.0)), key, jnp.float64(0), np.linspace(0, 1, 9))
        assert path.noise.dtype == jnp.float64
        assert path.xs[-1] == 2.0


def test_five_fresh_pins_and_any_number_of_calls_are_one_trace(key):
    """Through the library's own jit, without one of the user's."""
    traces = []

    def drift(x1, t, x, args):
        traces.append(1)
        return x1 - x

    for i in range(5):
        simulate(SDE(Partial(drift, jnp.float32(i))), key, jnp.zeros(2), grids.uniform(7))
    first = len(traces)
    for i in range(5):
        simulate(SDE(Partial(drift, jnp.float32(-i))), keys(key, 5)[i], jnp.full(2, float(i)), grids.uniform(7, 0.9))
    once = len(traces)
    assert once == 2 * first  # the second grid does not end at T: another program, traced once


def test_five_fresh_pins_compile_once(key, caplog):
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for i in range(5):
            simulate(pin(schedules.sub_vp(), jnp.full(2, float(i))), key, jnp.zeros(2), grids.uniform(7))
    assert sum("_run_jit" in r.getMessage() and "Finished tracing" in r.getMessage() for r in caplog.records) == 1
