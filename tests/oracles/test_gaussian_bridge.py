"""The Gaussian Schroedinger bridge against its defining properties, none of which uses the formula that is tested."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridgejax.bridges import doob
from bridgejax.oracles import gaussian_bridge, static_gaussian_bridge
from bridgejax.processes import noising, schedules
from bridgejax.processes.keys import keys
from bridgejax.solve import grids, simulate_batch

RNG = np.random.default_rng(3)


def spd(d, low=0.3):
    a = RNG.normal(size=(d, d))
    return a @ a.T / d + low * np.eye(d)


D = 3
MEAN0, COV0, MEAN1, COV1 = RNG.normal(size=D), spd(D), RNG.normal(size=D) + 1, spd(D)
# S = 1 and S < 1, constant and time-dependent noise, T = 1 and another
REFERENCES = {"brownian": lambda: schedules.brownian(0.8, T=1.5), "vp": lambda: schedules.vp(0.1, 4.0)}


@pytest.fixture(params=list(REFERENCES))
def bridge64(request):
    """A bridge in float64, with x64 left on for the test."""
    with jax.enable_x64(True):
        yield gaussian_bridge(MEAN0, COV0, MEAN1, COV1, reference=REFERENCES[request.param]())


def close(a, b, tol=1e-9):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=tol, atol=tol)


@pytest.mark.fast
@pytest.mark.parametrize(("a", "b", "epsilon"), [(1.0, 1.0, 1.0), (0.3, 2.0, 0.5), (2.0, 0.1, 10.0)])
def test_the_scalar_coupling(a, b, epsilon):
    bridge = gaussian_bridge([0.0], a, [1.0], b, epsilon=epsilon)
    exact = 0.5 * (np.sqrt(4 * a * b + epsilon**2) - epsilon)
    np.testing.assert_allclose(float(bridge.coupling[0, 0]), exact, rtol=2e-6)


def test_the_precision_block_makes_it_the_bridge(bridge64):
    """Among joint laws with these marginals the bridge is the one with Pi_01 = -S / V I (Sinkhorn's form)."""
    ref = bridge64.reference
    S, V = float(ref.scale(0.0, ref.T)), float(ref.variance(0.0, ref.T))
    joint = np.block([[COV0, np.asarray(bridge64.coupling)], [np.asarray(bridge64.coupling).T, COV1]])
    close(np.linalg.inv(joint)[:D, D:], -S / V * np.eye(D))


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


def test_the_static_and_the_dynamic_bridge_agree(bridge64):
    ref = bridge64.reference
    S, V = ref.scale(0.0, ref.T), ref.variance(0.0, ref.T)
    static = static_gaussian_bridge(MEAN0, COV0, MEAN1, COV1, S, V)
    close(static.cov[:D, D:], bridge64.coupling)
    close(static.energy, bridge64.energy)


def test_the_marginals_end_at_the_ends(bridge64):
    for t, mean, cov in ((0.0, MEAN0, COV0), (bridge64.T, MEAN1, COV1)):
        close(bridge64.mean(t), mean, 1e-6)  # S_TT of a schedule is 1 to float rounding
        close(bridge64.cov(t), cov, 1e-6)


@pytest.mark.parametrize("share", [0.0, 0.55, 0.999])
def test_the_drift_carries_the_marginals(bridge64, share):
    """mean' = E drift and cov' = K cov + cov K^T + g^2 I, by differentiation of the closed-form moments."""
    t = jnp.float64(share * bridge64.T)
    gain = jax.jacobian(lambda x: bridge64.drift(t, x))(jnp.zeros(D))
    cov, g2 = bridge64.cov(t), bridge64.reference.diffusion_squared(t)
    close(bridge64.drift(t, bridge64.mean(t)), jax.jacfwd(bridge64.mean)(t), 1e-7)
    close(gain @ cov + cov @ gain.T + g2 * jnp.eye(D), jax.jacfwd(bridge64.cov)(t), 1e-7)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_both_drifts_sum_to_the_score(bridge64, share):
    """The potentials come from G1 and G0, the score from cov(t): three different matrices."""
    t, x = share * bridge64.T, RNG.normal(size=D)
    both = bridge64.drift(t, x) + bridge64.back_drift(bridge64.T - t, x)
    close(both, bridge64.reference.diffusion_squared(t) * bridge64.score(t, x), 1e-6)


def test_the_score_is_the_gradient_of_the_log_density(bridge64):
    t, x = 0.37 * bridge64.T, jnp.asarray(RNG.normal(size=D))

    def log_density(x):
        return jax.scipy.stats.multivariate_normal.logpdf(x, bridge64.mean(t), bridge64.cov(t))

    close(bridge64.score(t, x), jax.grad(log_density)(x))


def test_the_potential_is_harmonic(bridge64):
    """u = grad log h obeys u' + grad(f x . u + g^2 |u|^2 / 2 + g^2 div u / 2) = 0: what makes it a Doob transform."""
    t, x = jnp.float64(0.4 * bridge64.T), jnp.asarray(RNG.normal(size=D))
    ref = bridge64.reference

    def hamiltonian(x):
        u, du = bridge64.grad_log_h(t, x), jax.jacobian(lambda y: bridge64.grad_log_h(t, y))(x)
        return ref.rate(t) * x @ u + 0.5 * ref.diffusion_squared(t) * (u @ u + jnp.trace(du))

    rate = jax.jacfwd(lambda s: bridge64.grad_log_h(s, x))(t)
    close(rate + jax.grad(hamiltonian)(x), np.zeros(D), 1e-7)


def test_the_energy_is_the_integral_of_the_control(bridge64):
    """KL from the static coupling = E int |g grad log h|^2 dt / 2, by Gauss-Legendre in time."""
    nodes, weights = np.polynomial.legendre.leggauss(40)

    def power(t):
        slope = jax.jacobian(lambda x: bridge64.grad_log_h(t, x))(jnp.zeros(D))
        mean = bridge64.grad_log_h(t, bridge64.mean(t))
        return (
            0.5 * bridge64.reference.diffusion_squared(t) * (mean @ mean + jnp.trace(slope @ bridge64.cov(t) @ slope.T))
        )

    values = jax.vmap(power)(0.5 * bridge64.T * (nodes + 1))
    close(0.5 * bridge64.T * np.sum(weights * np.asarray(values)), bridge64.energy, 1e-7)


def test_the_energy_of_the_reference_problem():
    """Means -/+ 0.1, unit variances, epsilon = 1: 0.142572, both ways."""
    there = gaussian_bridge([-0.1], 1.0, [0.1], 1.0, epsilon=1.0)
    back = gaussian_bridge([0.1], 1.0, [-0.1], 1.0, epsilon=1.0)
    np.testing.assert_allclose([float(there.energy), float(back.energy)], 0.142572, atol=1e-6)


def test_exact_transitions_compose(bridge64):
    """The kernel of the forward SDE maps marginal to marginal, and its log density is that of the samples' law."""
    t, u = 0.3 * bridge64.T, 0.8 * bridge64.T
    for sde, m, c, n, e in (
        (bridge64.sde(), bridge64.mean(t), bridge64.cov(t), bridge64.mean(u), bridge64.cov(u)),
        (bridge64.back(), *(f(bridge64.T - s) for s in (t, u) for f in (bridge64.mean, bridge64.cov))),
    ):
        log_prob = sde.land.log_prob
        # log N(y; A x + b, Q): curvature in y, and the mixed derivative, give Q and A
        x, y = jnp.asarray(RNG.normal(size=D)), jnp.asarray(RNG.normal(size=D))
        precision = -jax.hessian(lambda y: log_prob(t, u, x, y, None))(y)
        mixed = jax.jacobian(jax.grad(lambda y, x: log_prob(t, u, x, y, None)), argnums=1)(y, x)
        Q = jnp.linalg.inv(precision)
        A = Q @ mixed
        mean = y + Q @ jax.grad(lambda y: log_prob(t, u, x, y, None))(y)  # the mode of the Gaussian in y
        close(A @ c @ A.T + Q, e, 1e-7)
        close(mean + A @ (m - x), n, 1e-7)


@pytest.mark.parametrize(("name", "direction"), [("brownian", "backward"), ("vp", "forward")])
def test_simulated_ends(name, direction):
    """Euler over the drift, exact last step; n = 4096 and 64 steps, the Euler bias measured by halving the step."""
    bridge = gaussian_bridge(MEAN0, COV0, MEAN1, COV1, reference=REFERENCES[name]())
    forward = direction == "forward"
    sde = bridge.sde() if forward else bridge.back()
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
    x = jnp.float32(RNG.normal(size=D))
    for f in (bridge.drift, bridge.back_drift, bridge.score, bridge.grad_log_h, bridge.grad_log_h_back):
        for t in (0.0, 1.0):
            chex.assert_tree_all_finite((f(t, x), jax.jacobian(f, argnums=1)(jnp.float32(t), x)))


def test_float32_is_near_float64():
    with jax.enable_x64(True):
        exact = gaussian_bridge(MEAN0, COV0, MEAN1, COV1, epsilon=0.1)
        x = RNG.normal(size=D)
        want = [np.asarray(f(t, x)) for f in (exact.drift, exact.back_drift) for t in (0.0, 0.5, 1.0)]
    bridge = gaussian_bridge(MEAN0, COV0, MEAN1, COV1, epsilon=0.1)
    got = [np.asarray(f(t, jnp.float32(x))) for f in (bridge.drift, bridge.back_drift) for t in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


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
    """One trace serves many bridges; a batch of them is made and run under vmap."""
    epsilons = jnp.array([0.1, 1.0, 10.0])
    batch = jax.vmap(lambda e: gaussian_bridge(MEAN0, COV0, MEAN1, COV1, epsilon=e))(epsilons)
    one = gaussian_bridge(MEAN0, COV0, MEAN1, COV1, epsilon=1.0)
    energies = jax.jit(jax.vmap(lambda b: b.energy))(batch)
    np.testing.assert_allclose(energies[1], one.energy, rtol=1e-5)
    slope = jax.grad(lambda e: gaussian_bridge(MEAN0, COV0, MEAN1, COV1, epsilon=e).energy)(1.0)
    step = [float(gaussian_bridge(MEAN0, COV0, MEAN1, COV1, epsilon=1.0 + s).energy) for s in (0.05, -0.05)]
    np.testing.assert_allclose(slope, (step[0] - step[1]) / 0.1, rtol=2e-2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epsilon": None}, "exactly one of epsilon"),
        ({"reference": schedules.brownian()}, "exactly one of epsilon"),
        ({"epsilon": -1.0}, "epsilon must be a positive"),
        ({"epsilon": None, "reference": 3}, "schedule must be a Schedule"),
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
