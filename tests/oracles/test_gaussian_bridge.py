"""The Gaussian Schroedinger bridge against its defining properties, none of which uses the formula that is tested."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridgejax.bridges import doob
from bridgejax.oracles import gaussian_bridge, static_gaussian_bridge
from bridgejax.processes import noising, schedules
from bridgejax.processes._keys import keys
from bridgejax.solve import grids, simulate_batch

RNG = np.random.default_rng(3)


def spd(d, low=0.3):
    a = RNG.normal(size=(d, d))
    return a @ a.T / d + low * np.eye(d)


D = 3
MEAN0, COV0, MEAN1, COV1 = RNG.normal(size=D), spd(D), RNG.normal(size=D) + 1, spd(D)
# S = 1 and S < 1, constant and time-dependent noise, T = 1 and another
REFERENCES = {"brownian": lambda: schedules.brownian(0.8, T=1.5), "vp": lambda: schedules.vp(0.1, 4.0)}


SHARES = np.array([0.0, 0.3, 0.55, 1.0])  # of the clock
POINT = RNG.normal(size=D)


def at(bridge, t):
    """What is checked at one time, by automatic differentiation of the closed forms."""
    x, ref = jnp.asarray(POINT), bridge.reference
    mean, cov, g2 = bridge.mean(t), bridge.cov(t), ref.diffusion_squared(t)

    def hamiltonian(x):
        u, du = bridge.grad_log_h(t, x), jax.jacobian(lambda y: bridge.grad_log_h(t, y))(x)
        return ref.rate(t) * x @ u + 0.5 * g2 * (u @ u + jnp.trace(du))

    gain = jax.jacobian(lambda x: bridge.drift(t, x))(x)
    control, push = jax.jacobian(lambda x: bridge.grad_log_h(t, x))(x), bridge.grad_log_h(t, mean)
    return {
        "mean": mean,
        "cov": cov,
        "mean_rate": jax.jacfwd(bridge.mean)(t) - bridge.drift(t, mean),
        "cov_rate": jax.jacfwd(bridge.cov)(t) - (gain @ cov + cov @ gain.T + g2 * jnp.eye(D)),
        "both": bridge.drift(t, x) + bridge.backward_drift(bridge.T - t, x) - g2 * bridge.score(t, x),
        "score": bridge.score(t, x) - jax.grad(jax.scipy.stats.multivariate_normal.logpdf)(x, mean, cov),
        "harmonic": jax.jacfwd(lambda s: bridge.grad_log_h(s, x))(t) + jax.grad(hamiltonian)(x),
        "power": 0.5 * g2 * (push @ push + jnp.trace(control @ cov @ control.T)),
    }


@functools.cache
def facts(name):
    """The bridge of one reference in float64, ``at`` four times, and its energy integrated by Gauss-Legendre."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    with jax.enable_x64(True):
        bridge = gaussian_bridge(MEAN0, COV0, MEAN1, COV1, reference=REFERENCES[name]())
        ts = bridge.T * np.concatenate([SHARES, 0.5 * (nodes + 1)])
        everything = jax.tree.map(np.asarray, jax.jit(jax.vmap(at, (None, 0)))(bridge, ts))
        n = SHARES.size
        found = {k: v[:n] for k, v in everything.items()}
        ref = bridge.reference
        return found | {
            "integral": 0.5 * bridge.T * np.sum(weights * everything["power"][n:]),
            "energy": float(bridge.energy),
            "coupling": np.asarray(bridge.coupling),
            "S": float(ref.scale(0.0, ref.T)),
            "V": float(ref.variance(0.0, ref.T)),
        }


each = pytest.mark.parametrize("name", list(REFERENCES))


def close(a, b, tol=1e-9):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=tol, atol=tol)


@pytest.mark.fast
@pytest.mark.parametrize(("a", "b", "epsilon"), [(1.0, 1.0, 1.0), (0.3, 2.0, 0.5), (2.0, 0.1, 10.0)])
def test_the_scalar_coupling(a, b, epsilon):
    bridge = gaussian_bridge([0.0], a, [1.0], b, epsilon=epsilon)
    exact = 0.5 * (np.sqrt(4 * a * b + epsilon**2) - epsilon)
    np.testing.assert_allclose(float(bridge.coupling[0, 0]), exact, rtol=2e-6)


@each
def test_the_precision_block_makes_it_the_bridge(name):
    """Among joint laws with these marginals the bridge is the one with Pi_01 = -S / V I (Sinkhorn's form)."""
    f = facts(name)
    joint = np.block([[COV0, f["coupling"]], [f["coupling"].T, COV1]])
    close(np.linalg.inv(joint)[:D, D:], -f["S"] / f["V"] * np.eye(D))


def test_the_static_bridge_of_any_linear_kernel():
    phi, q, shift = RNG.normal(size=(D, D)), spd(D), RNG.normal(size=D)
    with jax.enable_x64(True):
        static = static_gaussian_bridge(MEAN0, COV0, MEAN1, COV1, phi, q, shift)
        joint = np.asarray(static.cov)
        close(joint[:D, :D], COV0)
        close(joint[D:, D:], COV1)
        close(np.linalg.inv(joint)[:D, D:], -phi.T @ np.linalg.inv(q))
        # the energy is the KL between two joint Gaussians
        mean = np.concatenate([MEAN0, phi @ MEAN0 + shift])
        cov = np.block([[COV0, COV0 @ phi.T], [phi @ COV0, phi @ COV0 @ phi.T + q]])
        gap, precision = mean - np.asarray(static.mean), np.linalg.inv(cov)
        logs = np.linalg.slogdet(cov)[1] - np.linalg.slogdet(joint)[1]
        close(static.energy, 0.5 * (np.trace(precision @ joint) - 2 * D + gap @ precision @ gap + logs))


def test_a_rectangular_kernel():
    phi, q = RNG.normal(size=(2, D)), spd(2)
    with jax.enable_x64(True):
        static = static_gaussian_bridge(MEAN0, COV0, MEAN1[:2], COV1[:2, :2], phi, q)
        close(np.linalg.inv(np.asarray(static.cov))[:D, D:], -phi.T @ np.linalg.inv(q))


@each
def test_the_static_and_the_dynamic_bridge_agree(name):
    f = facts(name)
    with jax.enable_x64(True):
        static = static_gaussian_bridge(MEAN0, COV0, MEAN1, COV1, f["S"], f["V"])
        close(static.cov[:D, D:], f["coupling"])
        close(static.energy, f["energy"])


@each
def test_the_marginals_end_at_the_ends(name):
    f = facts(name)
    close(f["mean"][[0, -1]], [MEAN0, MEAN1], 1e-9)
    close(f["cov"][[0, -1]], [COV0, COV1], 1e-9)


@each
def test_the_drift_carries_the_marginals(name):
    """mean' = E drift and cov' = K cov + cov K^T + g^2 I, by differentiation of the closed-form moments."""
    close(facts(name)["mean_rate"], 0.0)
    close(facts(name)["cov_rate"], 0.0)


@each
def test_both_drifts_sum_to_the_score(name):
    """The potentials come from G1 and G0, the score from cov(t): three different matrices."""
    close(facts(name)["both"], 0.0)


@each
def test_the_score_is_the_gradient_of_the_log_density(name):
    close(facts(name)["score"], 0.0)


@each
def test_the_potential_is_harmonic(name):
    """u = grad log h obeys u' + grad(f x . u + g^2 |u|^2 / 2 + g^2 div u / 2) = 0: what makes it a Doob transform."""
    close(facts(name)["harmonic"], 0.0, 1e-7)


@each
def test_the_energy_is_the_integral_of_the_control(name):
    """KL from the static coupling = E int |g grad log h|^2 dt / 2."""
    close(facts(name)["integral"], facts(name)["energy"])


def test_the_energy_of_the_reference_problem():
    """Means -/+ 0.1, unit variances, epsilon = 1: 0.142572, both ways."""
    there = gaussian_bridge([-0.1], 1.0, [0.1], 1.0, epsilon=1.0)
    back = gaussian_bridge([0.1], 1.0, [-0.1], 1.0, epsilon=1.0)
    np.testing.assert_allclose([float(there.energy), float(back.energy)], 0.142572, atol=1e-6)


def test_the_floor_of_euler_steps():
    """Means -/+ 0.1, unit variances, epsilon = 1: what Euler with the exact drift ends at, no learnt model below it.

    The recursion of its moments is exact here; the reference figures are simulated, to about 0.002 and 0.005.
    """
    bridge, times = gaussian_bridge([-0.1], 1.0, [0.1], 1.0, epsilon=1.0), jnp.arange(100) / 100
    slopes = np.asarray(
        jax.jit(jax.vmap(jax.grad(lambda x, t, b: b.drift(t, x[None])[0]), (None, 0, None)))(0.0, times, bridge)
    )
    for steps, variance, covariance in ((20, 1.017, 0.618), (100, 1.002, 0.615)):
        spread, cross = 1.0, 1.0
        for slope in slopes[:: 100 // steps]:
            k = 1.0 + float(slope) / steps
            spread, cross = k**2 * spread + 1.0 / steps, k * cross
        np.testing.assert_allclose(spread, variance, atol=2e-3)
        np.testing.assert_allclose(cross, covariance, atol=5e-3)


def affine(sde, t, u, x, y):
    """A, Q and the mean at x of the kernel log N(y; A x + b, Q), from its derivatives."""

    def log_prob(y, x):
        return sde.terminal_kernel.log_prob(t, u, x, y, None)

    Q = jnp.linalg.inv(-jax.hessian(log_prob)(y, x))
    return Q @ jax.jacobian(jax.grad(log_prob), argnums=1)(y, x), Q, y + Q @ jax.grad(log_prob)(y, x)


@each
def test_exact_transitions_compose(name):
    """The kernels of both directions map marginal to marginal."""
    with jax.enable_x64(True):
        bridge = gaussian_bridge(MEAN0, COV0, MEAN1, COV1, reference=REFERENCES[name]())
        t, u = 0.3 * bridge.T, 0.8 * bridge.T
        moments = jax.jit(lambda b, t: (b.mean(t), b.cov(t)))
        for sde, start, end in ((bridge.sde(), t, u), (bridge.backward(), bridge.T - t, bridge.T - u)):
            (m, c), (n, e) = moments(bridge, start), moments(bridge, end)
            A, Q, mean = jax.jit(affine)(sde, t, u, jnp.asarray(POINT), jnp.asarray(POINT[::-1].copy()))
            close(A @ c @ A.T + Q, e, 1e-7)
            close(mean + A @ (m - POINT), n, 1e-7)


@pytest.mark.parametrize(("name", "direction"), [("brownian", "backward"), ("vp", "forward")])
def test_simulated_ends(name, direction):
    """Euler over the drift, exact last step; n = 4096 and 64 steps, the Euler bias measured by halving the step."""
    bridge = gaussian_bridge(MEAN0, COV0, MEAN1, COV1, reference=REFERENCES[name]())
    forward = direction == "forward"
    sde = bridge.sde() if forward else bridge.backward()
    start, end = ((MEAN0, COV0), (MEAN1, COV1)) if forward else ((MEAN1, COV1), (MEAN0, COV0))
    n = 4096
    x0 = jnp.float32(np.random.default_rng(5).multivariate_normal(*start, size=n))
    fine, coarse = (
        np.asarray(simulate_batch(sde, keys(jax.random.key(1), n), x0, grids.uniform(k, bridge.T)), np.float64)
        for k in (64, 32)
    )
    error = np.sqrt(np.diag(end[1]) / n)
    bias = np.abs(fine.mean(0) - coarse.mean(0))
    np.testing.assert_array_less(np.abs(fine.mean(0) - end[0]), 5 * error + bias)
    spread = np.sqrt((end[1] ** 2 + np.outer(np.diag(end[1]), np.diag(end[1]))) / n)  # s.e. of a Gaussian's covariance
    bias = np.abs(np.cov(fine.T) - np.cov(coarse.T))
    np.testing.assert_array_less(np.abs(np.cov(fine.T) - end[1]), 5 * spread + bias)
    # the coupling tells the bridge from any other process with these marginals
    cross = (x0 - start[0]).T @ (fine - end[0]) / n
    exact = np.asarray(bridge.coupling) if forward else np.asarray(bridge.coupling).T
    spread = np.sqrt((exact**2 + np.outer(np.diag(start[1]), np.diag(end[1]))) / n)
    bias = np.abs((x0 - start[0]).T @ (fine - coarse) / n)
    np.testing.assert_array_less(np.abs(cross - exact), 5 * spread + bias)


def test_one_step_is_exact():
    """ts = [0, T] draws from the exact law of X_T given X_0."""
    bridge = gaussian_bridge(MEAN0, COV0, MEAN1, COV1, epsilon=0.5)
    n = 8192
    x0 = jnp.float32(np.random.default_rng(6).multivariate_normal(MEAN0, COV0, size=n))
    x1 = np.asarray(simulate_batch(bridge.sde(), keys(jax.random.key(2), n), x0, [0.0, 1.0]))
    cross = (x0 - MEAN0).T @ (x1 - MEAN1) / n
    exact = np.asarray(bridge.coupling)
    spread = np.sqrt((exact**2 + np.outer(np.diag(COV0), np.diag(COV1))) / n)
    np.testing.assert_array_less(np.abs(cross - exact), 5 * spread)
    np.testing.assert_array_less(np.abs(np.diag(np.cov(x1.T)) - np.diag(COV1)), 5 * np.diag(COV1) * np.sqrt(2 / n))


def test_it_is_the_doob_transform_of_its_reference():
    bridge = gaussian_bridge(MEAN0, COV0, MEAN1, COV1, reference=schedules.ou(0.7, 0.9))
    bent = doob(noising(bridge.reference), jax.tree_util.Partial(_grad_log_h, bridge))
    x = jnp.float32(RNG.normal(size=D))
    np.testing.assert_allclose(bent.drift(0.4, x, None), bridge.drift(0.4, x), rtol=1e-5, atol=1e-5)


def _grad_log_h(bridge, t, x, args):
    return bridge.grad_log_h(t, x)


@pytest.mark.parametrize("epsilon", [1e-3, 1e3])
def test_values_and_gradients_are_finite_at_both_ends_in_float32(epsilon):
    bridge = gaussian_bridge(MEAN0, COV0, MEAN1, COV1, epsilon=epsilon)

    @jax.jit
    def both(bridge, t, x):
        fields = (bridge.drift, bridge.backward_drift, bridge.score, bridge.grad_log_h, bridge.grad_log_h_backward)
        return [(f(t, x), jax.jacobian(f, argnums=(0, 1))(t, x)) for f in fields]

    for t in (0.0, 1.0):
        chex.assert_tree_all_finite(both(bridge, jnp.float32(t), jnp.float32(POINT)))


def test_float32_is_near_float64():
    ts = np.array([0.0, 0.5, 1.0])
    drifts = jax.jit(jax.vmap(lambda b, t, x: (b.drift(t, x), b.backward_drift(t, x)), (None, 0, None)))
    with jax.enable_x64(True):
        want = np.stack(drifts(gaussian_bridge(MEAN0, COV0, MEAN1, COV1, epsilon=0.1), ts, POINT))
    got = np.stack(drifts(gaussian_bridge(MEAN0, COV0, MEAN1, COV1, epsilon=0.1), np.float32(ts), np.float32(POINT)))
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


def test_start_and_end_points():
    """cov1 = 0 is the pinned reference, cov0 = 0 the start at a point: Brownian bridge drift (x1 - x) / (1 - t)."""
    pinned = gaussian_bridge([0.0], 1.0, [2.0], 0.0, epsilon=0.7)
    np.testing.assert_allclose(pinned.drift(0.25, jnp.array([0.5])), [(2.0 - 0.5) / 0.75], rtol=1e-5)
    x1 = simulate_batch(pinned.sde(), keys(jax.random.key(0), 4), jnp.zeros((4, 1)), grids.uniform(8))
    np.testing.assert_allclose(x1, 2.0, rtol=1e-5)
    started = gaussian_bridge([1.0], 0.0, [1.0], 0.7, epsilon=0.7)  # its own reference: nothing to bend
    np.testing.assert_allclose(started.drift(0.5, jnp.array([0.3])), [0.0], atol=1e-6)
    np.testing.assert_allclose(float(started.energy), 0.0, atol=1e-6)


def test_it_is_a_pytree():
    """A batch of bridges is made under vmap and jit, and differentiated in epsilon."""

    def energy(epsilon):
        return gaussian_bridge(MEAN0, COV0, MEAN1, COV1, epsilon=epsilon).energy

    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(energy)))(jnp.array([0.95, 1.0, 1.05]))
    np.testing.assert_allclose(values[1], energy(1.0), rtol=1e-5)
    np.testing.assert_allclose(slopes[1], (values[2] - values[0]) / 0.1, rtol=2e-2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epsilon": None}, "exactly one of epsilon"),
        ({"reference": schedules.brownian()}, "exactly one of epsilon"),
        ({"epsilon": -1.0}, "epsilon must be positive"),
        ({"epsilon": None, "reference": 3}, "reference must be a Schedule"),
        ({"epsilon": None, "reference": schedules.rectified()}, "forgets its start"),
        ({"mean1": [0.0, 0.0, 0.0]}, "one shape"),
        ({"mean0": 0.0}, "mean0 must be a vector"),
        ({"mean0": [np.nan, 0.0]}, "mean0 must be finite"),
        ({"cov0": np.eye(3)}, "cov0 must be a number"),
        ({"cov1": [[1.0, 0.5], [0.0, 1.0]]}, "cov1 must be finite and symmetric"),
        ({"cov1": [[1.0, 2.0], [2.0, 1.0]]}, "cov1 must be positive semi-definite"),
    ],
)
def test_what_is_refused(changes, words):
    arguments = {"mean0": [0.0, 0.0], "cov0": 1.0, "mean1": [0.0, 0.0], "cov1": 1.0, "epsilon": 1.0} | changes
    if np.size(arguments["mean1"]) == 3:
        arguments["cov1"] = 1.0
    with pytest.raises(ValueError, match=words):
        gaussian_bridge(**arguments)


def test_a_kernel_of_the_wrong_shape():
    with pytest.raises(ValueError, match=r"phi must be a number or have shape \[2, 2\]"):
        static_gaussian_bridge([0.0, 0.0], 1.0, [0.0, 0.0], 1.0, np.eye(3), 1.0)
