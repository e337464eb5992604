"""pin, doob, control and clamp: closed forms of the bridge, exact landing, and what is held stays held."""

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest
from interpolant_family import brownian_law, ou_law, pinned_moments, vp_law
from jax.tree_util import Partial

from bridgejax.bridges import clamp, control, doob, pin, probability_flow, reverse
from bridgejax.processes import SDE, noising, schedules
from bridgejax.processes._keys import keys
from bridgejax.solve import grids, simulate, simulate_batch, simulate_path

N = 4096
LAWS = {
    "brownian": (schedules.brownian(0.7, T=2.0), brownian_law(0.7)),
    "ou": (schedules.ou(0.8, 1.2, T=2.0), ou_law(0.8, 1.2)),
    "vp": (schedules.vp(0.2, 6.0), vp_law(0.2, 6.0)),
}
each = pytest.mark.parametrize("name", sorted(LAWS))
X0, X1 = 1.5, -0.6


def paths(sde, n, seed):
    """N paths over a uniform grid of n steps, as float64 of shape (N, n + 1)."""
    ts = grids.uniform(n, sde.T)
    run = jax.jit(jax.vmap(lambda k: simulate_path(sde, k, jnp.float32(X0), ts).xs))
    return np.asarray(run(keys(jax.random.key(seed), N)), np.float64)


@each
def test_moments_of_the_pinned_path(name):
    """Euler with landing at T/4, T/2, 3T/4, against Gaussian conditioning; bias from halving the step."""
    schedule, law = LAWS[name]
    sde = pin(schedule, jnp.float32(X1))
    fine, coarse = paths(sde, 80, 1), paths(sde, 40, 2)
    assert np.all(fine[:, -1] == np.float32(X1))
    for share in (0.25, 0.5, 0.75):
        a, b, variance = pinned_moments(*law, share * schedule.T, schedule.T)
        x, y = fine[:, int(80 * share)], coarse[:, int(40 * share)]
        mean = a * X0 + b * X1
        bias = abs(x.mean() - y.mean())
        assert bias < 0.1 * np.sqrt(variance)
        assert abs(x.mean() - mean) <= 5 * np.sqrt(variance / N) + bias
        bias = abs(x.var() - y.var())
        assert bias < 0.25 * variance
        assert abs(x.var() - variance) <= 5 * variance * np.sqrt(2 / N) + bias


def test_covariance_of_the_brownian_bridge():
    """Cov(X_s, X_t) = sigma^2 s (T - t) / T."""
    x = paths(pin(schedules.brownian(0.7, T=2.0), jnp.float32(X1)), 80, 3)
    for i, j in ((20, 60), (40, 50)):
        s, t = i / 40, j / 40
        want = 0.49 * s * (2 - t) / 2
        spread = np.sqrt((0.49 * s * (2 - s) / 2 * 0.49 * t * (2 - t) / 2 + want**2) / N)
        assert abs(np.cov(x[:, i], x[:, j])[0, 1] - want) <= 5 * spread + 0.02 * want


@each
def test_the_kernel_composes_and_lands(name):
    """Exact steps 0 -> T/3 -> T/2 have the law of 0 -> T/2; the step to T is x1, bit for bit."""
    schedule, law = LAWS[name]
    land = pin(schedule, jnp.float32(X1)).terminal_kernel
    T = schedule.T

    def two_steps(key):
        first, second = jax.random.split(key)
        x = land.sample(first, 0.0, T / 3, jnp.float32(X0), None)
        y = land.sample(second, T / 3, T / 2, x, None)
        return y, land.sample(first, T / 2, T, y, None)

    y, end = jax.jit(jax.vmap(two_steps))(keys(jax.random.key(4), N))
    assert np.all(np.asarray(end) == np.float32(X1))
    a, b, variance = pinned_moments(*law, T / 2, T)
    y = np.asarray(y, np.float64)
    assert abs(y.mean() - a * X0 - b * X1) <= 5 * np.sqrt(variance / N)
    assert abs(y.var() / variance - 1) <= 5 * np.sqrt(2 / N)


@pytest.mark.fast
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("ts", [[0.0, 1.0], [0.0, 0.3, 1.0], [0.5, 0.9, 0.95, 1.0]])
def test_landing_is_exact_on_any_grid(ts, dtype, key):
    x1 = jnp.asarray([0.1, -7.3], dtype)
    for schedule in (schedules.brownian(), schedules.vp(), schedules.ve(), schedules.cosine()):
        out = simulate(pin(schedule, x1), key, jnp.zeros(2, dtype), jnp.array(ts))
        assert out.dtype == dtype
        np.testing.assert_array_equal(np.asarray(out, np.float32), np.asarray(x1, np.float32))


def test_a_traced_grid_lands_like_a_concrete_one(key):
    sde = pin(schedules.brownian(), jnp.float32(X1))
    run = jax.jit(lambda ts: simulate(sde, key, jnp.float32(X0), ts))
    whole, part = jnp.linspace(0.0, 1.0, 9), jnp.linspace(0.0, 0.75, 9)
    assert run(whole) == np.float32(X1)
    assert float(run(part)) == pytest.approx(float(simulate(sde, key, jnp.float32(X0), part[:-1])), abs=1.5)
    assert run(part) != np.float32(X1)


@each
def test_drift_is_the_references_plus_the_pull(name, key):
    """f x + g^2 grad log p(x1 | x) with the reference's own kernel, by automatic differentiation; doob agrees."""
    schedule = LAWS[name][0]
    reference, x1 = noising(schedule), jnp.array([-0.6, 2.0])

    def grad_log_h(schedule, x1, t, x, args):
        return jax.grad(lambda x: noising(schedule).terminal_kernel.log_prob(t, schedule.T, x, x1, args))(x)

    bent = doob(reference, Partial(grad_log_h, schedule, x1))
    x = jnp.array([0.4, -1.0])
    for share in (0.0, 0.3, 0.9, 0.99):
        t = share * schedule.T
        want = reference.drift(t, x, None) + schedule.diffusion_squared(t) * grad_log_h(schedule, x1, t, x, None)
        got = pin(schedule, x1).drift(t, x, None)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(bent.drift(t, x, None), want, rtol=1e-5, atol=1e-6)
    assert bent.terminal_kernel is None
    # the same noise: the two run alike until the landing
    ts = grids.uniform(20, 0.8 * schedule.T)
    both = [simulate(sde, key, x, ts) for sde in (bent, pin(schedule, x1))]
    np.testing.assert_allclose(*both, rtol=1e-4, atol=1e-4)


def test_brownian_bridge_drift_in_closed_form():
    x1, x = jnp.array([1.0, 2.0]), jnp.array([0.5, -1.0])
    for sigma in (0.3, 2.0):
        sde = pin(schedules.brownian(sigma), x1)
        np.testing.assert_allclose(sde.drift(0.9, x, None), (x1 - x) / 0.1, rtol=1e-5)
        assert sde.diffusion(0.9, x, None) == np.float32(sigma)


@each
def test_pin_is_finite_at_both_ends_with_gradients(name, key):
    schedule = LAWS[name][0]

    def f(x1, x, t):
        sde = pin(schedule, x1)
        return jnp.sum(sde.drift(t, x, None) + sde.terminal_kernel.sample(key, t, sde.T, x, None)) + sde.diffusion(
            t, x, None
        )

    x = jnp.array([1.0, -2.0])
    for t in (0.0, schedule.T):
        for leaf in jax.tree.leaves(jax.jit(jax.value_and_grad(f, (0, 1, 2)))(x, 2 * x, jnp.float32(t))):
            assert np.all(np.isfinite(leaf))


def test_gradient_of_a_landed_path_is_that_of_its_end(key):
    ts = grids.uniform(10)
    gradient = jax.grad(lambda x1: simulate(pin(schedules.brownian(), x1), key, jnp.zeros(()), ts))(jnp.float32(2.0))
    assert gradient == 1.0


def test_a_batch_of_bridges(key):
    x1s = jnp.arange(6.0).reshape(3, 2)
    batch = jax.vmap(pin, (None, 0))(schedules.ou(), x1s)
    k = keys(key, 3)
    out = simulate_batch(batch, k, jnp.zeros((3, 2)), grids.uniform(8), axes=(0, 0, None))
    np.testing.assert_array_equal(out, x1s)
    out = simulate_batch(batch, k, jnp.zeros(2), jnp.linspace(0, 0.5, 8), axes=(0, None, None))
    one = [simulate(pin(schedules.ou(), x1s[i]), k[i], jnp.zeros(2), jnp.linspace(0, 0.5, 8)) for i in range(3)]
    np.testing.assert_allclose(out, one, rtol=1e-5, atol=1e-6)


def test_pinned_pytree(key):
    x1 = {"a": jnp.array([1.0, 2.0]), "b": jnp.asarray(-1.0)}
    out = simulate(pin(schedules.vp(), x1), key, jax.tree.map(jnp.zeros_like, x1), grids.uniform(6))
    jax.tree.map(np.testing.assert_array_equal, out, x1)


# control ------------------------------------------------------------


def rectangular(t, x, args):
    return lineax.MatrixLinearOperator(jnp.array([[1.0, 0.5], [0.0, 2.0], [-1.0, 0.3]]))


def test_control_pushes_through_the_noise():
    """u has the shape of the noise: two numbers move three coordinates."""
    sde = SDE(lambda t, x, args: -x, rectangular)
    bent = control(sde, lambda t, x, args: jnp.array([t, -1.0]))
    x = jnp.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(bent.drift(0.5, x, None), [-1 + 0.5 - 0.5, -2 - 2, -3 - 0.5 - 0.3], rtol=1e-6)
    assert bent.diffusion is sde.diffusion
    scalar = control(SDE(lambda t, x, args: -x, lambda t, x, args: 0.5), lambda t, x, args: jnp.ones_like(x))
    np.testing.assert_allclose(scalar.drift(0.0, x, None), -x + 0.5, rtol=1e-6)
    diagonal = control(SDE(lambda t, x, args: -x, lambda t, x, args: x, noise="state"), lambda t, x, args: 2 * x)
    np.testing.assert_allclose(diagonal.drift(0.0, x, None), -x + 2 * x**2, rtol=1e-6)
    assert diagonal.noise == "state"


def test_doob_weighs_by_the_whole_covariance():
    bent = doob(SDE(lambda t, x, args: 0.0 * x, rectangular), lambda t, x, args: x)
    G = np.array([[1.0, 0.5], [0.0, 2.0], [-1.0, 0.3]])
    x = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(bent.drift(0.0, jnp.float32(x), None), G @ G.T @ x, rtol=1e-5)


def test_control_drops_what_no_longer_holds():
    bent = control(reverse(schedules.vp(), lambda t, x, args: -x), lambda t, x, args: 0.0 * x)
    assert bent.terminal_kernel is None
    assert bent.semilinear is None


def test_control_of_a_pytree():
    sde = noising(schedules.ou(1.0, 2.0))
    x = {"a": jnp.ones(2), "b": jnp.asarray(3.0)}
    bent = control(sde, lambda t, x, args: jax.tree.map(jnp.ones_like, x))
    want = jax.tree.map(lambda leaf: -leaf + 2.0, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), bent.drift(0.1, x, None), want)


# clamp ------------------------------------------------------------

MASK = jnp.array([True, False, False])


def coupled(t, x, args):
    return jnp.stack([-x[0] + 5.0, x[0] - x[1], -x[2]])


@pytest.mark.parametrize("diffusion", [lambda t, x, args: 0.5, lambda t, x, args: jnp.array([0.5, 0.5, 0.1])])
def test_held_coordinates_stay_and_the_others_see_them(diffusion, key):
    sde = SDE(coupled, diffusion)
    x0, ts = jnp.array([2.0, 0.0, 1.0]), grids.uniform(40)
    held, free = simulate(clamp(sde, MASK), key, x0, ts), simulate(sde, key, x0, ts)
    assert held[0] == 2.0
    assert free[0] != 2.0
    assert held[2] == free[2]  # uncoupled: the same noise, the same number
    # the second coordinate relaxes to the held value: mean 2 (1 - e^-1), Euler's (1 - (1 - h)^40)
    out = simulate_batch(clamp(sde, MASK), keys(key, N), x0, ts, axes=(None, None, None))
    x = np.asarray(out[:, 1], np.float64)
    sd = 0.5 * np.sqrt((1 - np.exp(-2)) / 2)
    assert abs(x.mean() - 2 * (1 - (1 - 1 / 40) ** 40)) <= 5 * sd * 1.02 / np.sqrt(N)


def test_a_given_value_is_seen_and_landed_on(key):
    value = jnp.array([7.0, 0.0, 0.0])
    sde = clamp(pin(schedules.brownian(), jnp.array([1.0, 2.0, 3.0])), MASK, value)
    out = simulate(sde, key, jnp.zeros(3), grids.uniform(8))
    np.testing.assert_array_equal(out, [7.0, 2.0, 3.0])
    drift = clamp(SDE(coupled), MASK, value).drift(0.0, jnp.array([0.0, 1.0, 1.0]), None)
    np.testing.assert_allclose(drift, [0.0, 6.0, -1.0])
    assert clamp(SDE(coupled), MASK).diffusion is None


def test_clamp_on_a_dense_operator_and_a_pytree(key):
    sde = clamp(SDE(lambda t, x, args: 0.0 * x, rectangular), MASK)
    out = simulate(sde, key, jnp.ones(3), grids.uniform(4))
    assert out[0] == 1.0
    assert np.all(np.asarray(out[1:]) != 1.0)
    x = {"a": jnp.ones(2), "b": jnp.asarray(3.0)}
    mask = {"a": jnp.array([True, False]), "b": True}
    out = simulate(clamp(noising(schedules.vp()), mask), key, x, grids.uniform(4))
    assert out["a"][0] == 1.0
    assert out["b"] == 3.0
    assert out["a"][1] != 1.0


def test_clamped_flow_still_lands(key):
    sde = clamp(probability_flow(schedules.vp(), denoiser=lambda t, x, args: jnp.full_like(x, 4.0)), MASK)
    out = simulate(sde, key, jnp.zeros(3), grids.uniform(5))
    np.testing.assert_allclose(out, [0.0, 4.0, 4.0], rtol=1e-6)


# bad input ------------------------------------------------------------

ODE = SDE(lambda t, x, args: -x)
NOISY = SDE(lambda t, x, args: -x, lambda t, x, args: 1.0)
BAD = [
    (lambda: pin(NOISY, 1.0), r"pin is exact for linear processes only, got an SDE; use guide\(sde, .* or doob"),
    (lambda: pin("vp", 1.0), r"process must be a Schedule or a LinearSDE to pin, got str"),
    (lambda: control(ODE, lambda t, x, args: x), r"control acts through the noise, and this SDE has none"),
    (lambda: doob(ODE, lambda t, x, args: x), r"doob acts through the noise, and this SDE has none"),
    (lambda: control(schedules.vp(), lambda t, x, args: x), r"control bends an SDE, got Schedule"),
    (lambda: control(NOISY, 3), r"u must be a function u\(t, x, args\), got int"),
    (lambda: doob(NOISY, None), r"grad_log_h must be a function grad_log_h\(t, x, args\), got NoneType"),
    (lambda: clamp(schedules.vp(), MASK), r"clamp bends an SDE, got Schedule"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_closures_over_arrays_are_refused():
    w = jnp.ones(2)
    for bend in (control, doob):
        with pytest.raises(ValueError, match="closes over JAX arrays"):
            bend(NOISY, lambda t, x, args: w * x)
