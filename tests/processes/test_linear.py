"""LinearSDE: exact transitions against independent truths (SciPy's expm in float64, an ODE in small steps)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax.tree_util import Partial

from bridgejax.bridges import pin
from bridgejax.processes import LinearSDE, linear, noising, schedules
from bridgejax.processes._keys import keys
from bridgejax.solve import grids, simulate, simulate_batch

A = np.array([[-0.5, 1.3, 0.2], [-0.9, -0.8, 0.6], [0.4, -0.3, -1.1]])  # not symmetric, not normal
B = np.array([0.3, -0.2, 0.5])
L = np.array([[0.7, 0.0], [0.2, 0.5], [-0.3, 0.9]])  # 2 noises for 3 coordinates, does not commute with A


def matrix_fraction(a, b, s, h):
    """Phi, m, V by one exponential of the block matrix, float64."""
    d = len(b)
    block = np.zeros((2 * d + 1, 2 * d + 1))
    block[:d, :d], block[:d, d : 2 * d], block[d : 2 * d, d : 2 * d] = a, s, -a.T
    phi = scipy.linalg.expm(a * h)
    e = scipy.linalg.expm(block * h)
    shift = scipy.linalg.expm(np.block([[a, b[:, None]], [np.zeros((1, d + 1))]]) * h)[:d, d]
    return phi, shift, e[:d, d : 2 * d] @ phi.T


@pytest.mark.parametrize("h", [1e-3, 0.1, 1.0, 8.0])
def test_constant_coefficients(h):
    truth = matrix_fraction(A, B, L @ L.T, h)
    ours = LinearSDE(A, B, L, T=10.0).transition(1.0, 1.0 + h)
    step = float(np.float32(1.0 + h) - np.float32(1.0))  # the step float32 sees
    truth = matrix_fraction(A, B, L @ L.T, step)
    for got, want in zip(ours, truth, strict=True):
        # phi is built as 1 + E, so where it has decayed its rounding is that of the 1
        np.testing.assert_allclose(got, want, rtol=3e-6, atol=max(2e-7, 3e-6 * np.abs(want).max()))


@pytest.mark.parametrize("friction", [1.0, 150.0, 300.0, 3e3])
def test_stiff_coefficients(friction):
    """|A| h far beyond 1, against float64; what is slow beside the fastest rate has |A| h roundings."""
    ours = linear.langevin(friction=friction, T=1.0)
    truth = matrix_fraction_in_halves(*(np.asarray(v, np.float64) for v in (ours.A, ours.b, ours.L @ ours.L.T)), 1.0)
    for got, want in zip(ours.transition(0.0, 1.0), truth, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7 * friction)


def matrix_fraction_in_halves(a, b, s, h, doublings=14):
    """The block exponential of a short step, doubled: its growing block overflows nothing."""
    phi, shift, cov = matrix_fraction(a, b, s, h / 2**doublings)
    for _ in range(doublings):
        phi, shift, cov = phi @ phi, phi @ shift + shift, phi @ cov @ phi.T + cov
    return phi, shift, cov


def test_stiff_pins_and_refusals():
    """A pinned stiff oscillator has a finite drift; beyond the bound, a sentence."""
    pinned = pin(linear.langevin(friction=300.0), jnp.zeros(2))
    drift = pinned.drift(0.5, jnp.array([0.1, 0.5]), None)
    assert np.isfinite(np.asarray(drift)).all()
    with pytest.raises(ValueError, match="A has rates up to 1e.06 over a clock of 1"):
        LinearSDE([[-1e6]], [0.0], [[1.0]])
    beyond = jax.jit(lambda a: LinearSDE(a, jnp.zeros(1), jnp.ones((1, 1))).transition(0.0, 1.0).cov)
    assert np.isnan(beyond(jnp.float32([[-1e6]])))


@pytest.mark.parametrize("h", [1e-3, 1e-2, 1.0])
def test_every_entry_keeps_its_relative_precision(h):
    """A position driven through its velocity: variances h^3/3, h^2/2, h, from 3e-10 up, in float32."""
    ours = LinearSDE([[0.0, 1.0], [0.0, 0.0]], [0.0, 0.0], [[0.0], [1.0]]).transition(0.0, h)
    np.testing.assert_allclose(ours.cov, [[h**3 / 3, h**2 / 2], [h**2 / 2, h]], rtol=2e-6)


def moving(scale, t):
    return scale * (jnp.asarray(A, jnp.float32) + jnp.sin(3.0 * t) * jnp.asarray([[0, 1, 0], [0, 0, 1], [1, 0, 0.0]]))


def moving_noise(t):
    return jnp.asarray(L, jnp.float32) * (1.0 + t)


def test_coefficients_that_move_and_do_not_commute():
    """Against the moment ODEs in float64 with tiny steps, and fourth order in the panels."""

    def a_np(t):
        return A + np.sin(3.0 * t) * np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0.0]])

    def rhs(t, state):
        phi, m, v = state
        a, s = a_np(t), (L @ L.T) * (1.0 + t) ** 2
        return a @ phi, a @ m + B, a @ v + v @ a.T + s

    state = (np.eye(3), np.zeros(3), np.zeros((3, 3)))
    n = 400
    for k in range(n):
        t, h = k / n, 1.0 / n
        k1 = rhs(t, state)
        k2 = rhs(t + h / 2, [s + h / 2 * d for s, d in zip(state, k1, strict=True)])
        k3 = rhs(t + h / 2, [s + h / 2 * d for s, d in zip(state, k2, strict=True)])
        k4 = rhs(t + h, [s + h * d for s, d in zip(state, k3, strict=True)])
        parts = zip(state, k1, k2, k3, k4, strict=True)
        state = tuple(s + h / 6 * (p + 2 * q + 2 * r + w) for s, p, q, r, w in parts)

    def error(panels):
        with jax.enable_x64(True):
            sde = LinearSDE(Partial(moving, jnp.float64(1.0)), B, moving_noise, panels=panels)
            # times in float64 keep the panels' error above rounding
            got = sde.transition(jnp.float64(0.0), jnp.float64(1.0))
            return max(float(np.abs(g - s).max()) for g, s in zip(got, state, strict=True))

    coarse, fine = error(4), error(8)
    assert coarse < 2e-3
    assert np.log2(coarse / fine) > 3.7
    single = LinearSDE(Partial(moving, jnp.float32(1.0)), B, moving_noise).transition(0.0, 1.0)
    for got, want in zip(single, state, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_agrees_with_a_schedule():
    """The same process as scalars and as matrices: OU."""
    schedule, matrices = schedules.ou(0.7, 0.9), LinearSDE(-0.7 * np.eye(2), np.zeros(2), 0.9 * np.eye(2))
    for t, u in ((0.0, 0.3), (0.2, 1.0)):
        phi, shift, cov = matrices.transition(t, u)
        np.testing.assert_allclose(phi, schedule.scale(t, u) * np.eye(2), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(cov, schedule.variance(t, u) * np.eye(2), rtol=2e-6, atol=1e-7)
        np.testing.assert_array_equal(shift, np.zeros(2))


def check_moments(draws, mean, cov):
    n = len(draws)
    draws = np.asarray(draws, np.float64)
    sd = np.sqrt(np.diag(cov))
    assert np.all(np.abs(draws.mean(0) - mean) < 5 * sd / np.sqrt(n) + 1e-6)
    centred = draws - mean
    products = np.einsum("ni,nj->nij", centred, centred)
    # the s.e. of a covariance of Gaussians, from the truth
    se = np.sqrt((np.outer(sd**2, sd**2) + cov**2) / n)
    assert np.all(np.abs(products.mean(0) - cov) < 5 * se + 1e-6)


def test_one_step_lands_with_the_exact_law(key):
    """ts = [0, T] is one-step exact sampling; many Euler steps agree to their own order."""
    sde, n = LinearSDE(A, B, L), 20_000
    x0 = jnp.array([1.0, -1.0, 0.5])
    mean, cov = (np.asarray(v) for v in sde.marginal(x0, jnp.zeros((3, 3)), 1.0))
    run = sde.sde()
    starts = jnp.broadcast_to(x0, (n, 3))
    check_moments(simulate_batch(run, keys(key, n), starts, [0.0, 1.0]), mean, cov)
    euler = np.asarray(simulate_batch(run, keys(key, 4000, 10**6), starts[:4000], grids.uniform(100)))
    assert np.all(np.abs(euler.mean(0) - mean) < 5 * np.sqrt(np.diag(cov) / 4000) + 0.02)


def pinned_truth(t, x0, x1):
    """Mean and covariance of x_t given x_0 and x_1, by conditioning the joint Gaussian in float64."""
    phi, m, v = matrix_fraction(A, B, L @ L.T, t)
    phi2, m2, v2 = matrix_fraction(A, B, L @ L.T, 1.0 - t)
    mean, end = phi @ x0 + m, phi2 @ (phi @ x0 + m) + m2
    across, total = v @ phi2.T, phi2 @ v @ phi2.T + v2
    gain = across @ np.linalg.inv(total)
    return mean + gain @ (x1 - end), v - gain @ across.T


@pytest.mark.parametrize("steps", ["one", "many"])
def test_pinned_moments_of_a_non_commuting_process(key, steps):
    """x_0.6 of the pinned process: by its exact law in one step, and by Euler steps of its drift."""
    x0, x1 = np.array([1.0, -1.0, 0.5]), np.array([-0.4, 0.8, 0.3])
    mean, cov = pinned_truth(0.6, x0, x1)
    bridge = pin(LinearSDE(A, B, L), x1)
    if steps == "one":
        n = 20_000
        draw = jax.vmap(lambda k: bridge.terminal_kernel.sample(k, 0.0, 0.6, jnp.float32(x0), None))
        return check_moments(draw(keys(key, n)), mean, cov)
    n = 4000
    run = simulate_batch(bridge, keys(key, n), jnp.broadcast_to(jnp.float32(x0), (n, 3)), grids.uniform(60, 0.6))
    bound = 5 * np.sqrt(np.diag(cov) / n) + 0.02  # Euler's own error: halving the step halves it
    assert np.all(np.abs(np.asarray(run).mean(0) - mean) < bound)
    assert np.all(np.abs(np.cov(np.asarray(run).T) - cov) < 0.03)


def test_pinned_process_lands_exactly_and_traces_once(key):
    sde = LinearSDE(A, B, L)
    x1 = jnp.array([[0.1, 0.2, 0.3], [-1.0, 2.0, 0.7]])
    bridges = jax.vmap(pin, (None, 0))(sde, x1)
    for ts in ([0.0, 1.0], grids.uniform(20)):
        out = simulate_batch(bridges, keys(key, 2), jnp.zeros((2, 3)), ts, axes=(0, 0, 0))
        np.testing.assert_array_equal(out, x1)


def test_pinned_log_prob_is_the_density():
    x0, x1 = np.array([1.0, -1.0, 0.5]), np.array([-0.4, 0.8, 0.3])
    mean, cov = pinned_truth(0.6, x0, x1)
    bridge = pin(LinearSDE(A, B, L), x1)
    y = mean + np.array([0.2, -0.1, 0.3])
    got = bridge.terminal_kernel.log_prob(0.0, 0.6, jnp.float32(x0), jnp.float32(y), None)
    want = scipy.stats.multivariate_normal(mean, cov).logpdf(y)
    np.testing.assert_allclose(got, want, rtol=1e-3)
    assert np.isnan(bridge.terminal_kernel.log_prob(0.0, 1.0, jnp.float32(x0), jnp.float32(x1), None))


def test_hypoelliptic_bridge_stays_finite(key):
    """One noise, two coordinates: the pull is stiff near T, and the bridge still lands."""
    oscillator = linear.langevin(0.5, 2.0, 1.0)
    out = simulate(pin(oscillator, jnp.array([0.5, -0.5])), key, jnp.zeros(2), grids.uniform(200))
    np.testing.assert_array_equal(out, [0.5, -0.5])


def test_langevin_keeps_its_stationary_law():
    mean, cov = linear.langevin(0.7, 2.0, 1.5, T=3.0).marginal(jnp.zeros(2), jnp.diag(jnp.array([1.5 / 4.0, 1.5])), 2.7)
    np.testing.assert_allclose(cov, [[1.5 / 4.0, 0.0], [0.0, 1.5]], atol=3e-6)
    np.testing.assert_array_equal(mean, [0.0, 0.0])


@pytest.mark.parametrize(("dtype", "t"), list(itertools.product((jnp.float32, jnp.bfloat16), (0.0, 1.0))))
def test_finite_at_the_ends(dtype, t):
    sde, x = LinearSDE(A, B, L), jnp.ones(3, dtype)
    for run in (sde.sde(), pin(sde, jnp.zeros(3))):
        value, slope = run.drift(t, x, None), jax.jacfwd(lambda x: run.drift(t, x, None).astype(jnp.float32))(x)
        assert value.dtype == dtype
        assert np.all(np.isfinite(np.asarray(value, np.float32)))
        assert np.all(np.isfinite(np.asarray(slope, np.float32)))


def test_gradients_of_the_transition():
    """d/dA of the covariance by automatic and numerical differentiation."""

    def total(a):
        return jnp.sum(LinearSDE(a, B, L).transition(0.0, 1.0).cov)

    slope = jax.grad(total)(jnp.float32(A))
    step = np.zeros((3, 3))
    step[1, 2] = 1e-2
    numeric = (total(jnp.float32(A + step)) - total(jnp.float32(A - step))) / 2e-2
    np.testing.assert_allclose(slope[1, 2], numeric, rtol=2e-3)


BAD = {
    "not square": (lambda: LinearSDE(np.ones((2, 3)), np.zeros(2), np.eye(2)), "must have shapes"),
    "b": (lambda: LinearSDE(np.eye(2), np.zeros(3), np.eye(2)), "must have shapes"),
    "L": (lambda: LinearSDE(np.eye(2), np.zeros(2), np.ones(2)), "must have shapes"),
    "nan": (lambda: LinearSDE(np.full((2, 2), np.nan), np.zeros(2), np.eye(2)), "A holds numbers that are not finite"),
    "T": (lambda: LinearSDE(np.eye(2), np.zeros(2), np.eye(2), T=0.0), "T must be a positive"),
    "panels": (lambda: LinearSDE(np.eye(2), np.zeros(2), np.eye(2), panels=0), "panels must be an integer >= 1"),
    "end": (lambda: pin(LinearSDE(np.eye(2), np.zeros(2), np.eye(2)), jnp.zeros(3)), r"states of shape \(2,\)"),
    "state": (
        lambda: simulate(LinearSDE(np.eye(2), np.zeros(2), np.eye(2)).sde(), jax.random.key(0), jnp.zeros(3), [0, 0.5]),
        r"states of shape \(2,\)",
    ),
    "sde": (lambda: pin(noising(schedules.vp()), jnp.zeros(3)), "pin is exact for linear processes only"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_damped_oscillator_has_the_frequency_asked_for():
    """Without noise of its own q swings as e^(-g t / 2) (cos r t + g sin(r t) / 2r), r^2 = w^2 - g^2 / 4."""
    g, w, t = 0.4, 3.0, 0.7
    phi = np.asarray(linear.langevin(g, w).transition(0.0, t).phi)
    r = np.sqrt(w**2 - g**2 / 4)
    np.testing.assert_allclose(phi[0, 0], np.exp(-g * t / 2) * (np.cos(r * t) + g / (2 * r) * np.sin(r * t)), rtol=1e-4)
    np.testing.assert_allclose(phi[0, 1], np.exp(-g * t / 2) * np.sin(r * t) / r, rtol=1e-4)
