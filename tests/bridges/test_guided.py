"""Guided proposals: weights that average to the Euler chain's own likelihood, against Kalman, grid and closed forms."""

import math

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest
from jax.tree_util import Partial

from bridgejax.bridges import Observation, guide
from bridgejax.oracles import diffusions
from bridgejax.processes import SDE, LinearSDE, noising, schedules
from bridgejax.processes._keys import keys
from bridgejax.solve import grids, kernels, simulate
from bridgejax.weigh import pcn, weights

N = 4096


def run(guided, x0, ts, key, n=N):
    """Paths and log weights of n draws."""

    def one(k):
        path = kernels.walk(guided.kernel, k, x0, ts)
        return path.xs, guided.log_weight(path)

    return jax.jit(jax.vmap(one))(keys(key, n))


def check(lw, want, share=0.1, slack=0.0):
    assert float(weights.ess(lw)) >= share
    error = float(weights.log_z_error(lw))
    assert error < 0.05
    assert abs(float(weights.log_z(lw)) - want) < 5 * error + slack, (float(weights.log_z(lw)), want, error)


def ou_drift(theta, t, x, args):
    return -theta * x


def constant(g, t, x, args):
    return g


def ou(theta=1.3, sigma=0.8):
    return SDE(Partial(ou_drift, jnp.float32(theta)), Partial(constant, jnp.float32(sigma)))


def euler_ou(theta, sigma, x0, v, n):
    """log density of the Euler chain of OU at v: a Gaussian by recursion."""
    h, mean, var = 1.0 / n, x0, 0.0
    for _ in range(n):
        mean, var = mean * (1 - theta * h), var * (1 - theta * h) ** 2 + sigma**2 * h
    return -0.5 * (v - mean) ** 2 / var - 0.5 * math.log(2 * math.pi * var)


@pytest.mark.parametrize("auxiliary", ["default", "brownian"])
@pytest.mark.parametrize("steps", [5, 40])
def test_an_exact_end_point_of_ou(auxiliary, steps, key):
    """The Euler chain's own density, whatever the auxiliary; and the end is met exactly."""
    brownian = LinearSDE(np.zeros((1, 1)), np.zeros(1), 0.8 * np.eye(1))
    guided = guide(ou(), [Observation(1.0, jnp.array([-0.7]))], None if auxiliary == "default" else brownian)
    xs, lw = run(guided, jnp.array([0.9]), grids.uniform(steps), key)
    np.testing.assert_allclose(xs[:, -1, 0], -0.7, atol=1e-6)
    check(lw, euler_ou(1.3, 0.8, 0.9, -0.7, steps))


def kalman(A, b, Q, x0, observations, n):
    """log likelihood of the Euler chain of a linear SDE, exact: predict and update."""
    mean, cov, total, h = np.array(x0), np.zeros((len(x0), len(x0))), 0.0, 1.0 / n
    F = np.eye(len(x0)) + h * A
    for k in range(1, n + 1):
        mean, cov = F @ mean + h * b, F @ cov @ F.T + h * Q
        for time, v, L, r in observations:
            if round(time * n) == k:
                S = L @ cov @ L.T + r**2 * np.eye(len(v))
                gap = v - L @ mean
                total += -0.5 * gap @ np.linalg.solve(S, gap) - 0.5 * np.linalg.slogdet(2 * np.pi * S)[1]
                gain = cov @ L.T @ np.linalg.inv(S)
                mean, cov = mean + gain @ gap, cov - gain @ L @ cov
    return total


A = np.array([[-0.5, 1.3], [-0.9, -0.8]])
B = np.array([0.3, -0.2])
G = np.array([[0.7, 0.1], [0.2, 0.6]])
SEEN = [
    (0.25, np.array([0.6]), np.array([[1.0, 0.5]]), 0.3),
    (0.5, np.array([0.2, -0.4]), np.eye(2), 0.0),
    (1.0, np.array([-0.3]), np.array([[0.0, 1.0]]), 0.2),
]


def linear_drift(a, b, t, x, args):
    return a @ x + b


def dense(g, t, x, args):
    return lineax.MatrixLinearOperator(g)


def test_several_observations_partial_exact_and_noisy(key):
    """A smoother: the Kalman filter's likelihood of the Euler chain, from a wrong auxiliary."""
    sde = SDE(Partial(linear_drift, jnp.float32(A), jnp.float32(B)), Partial(dense, jnp.float32(G)))
    observations = [Observation(t, jnp.float32(v), jnp.float32(L), r) for t, v, L, r in SEEN]
    wrong = LinearSDE(0.5 * A, np.zeros(2), G)
    xs, lw = run(guide(sde, observations, wrong), jnp.array([0.5, 0.0]), grids.uniform(40), key)
    np.testing.assert_allclose(xs[:, 20], np.broadcast_to(SEEN[1][1], (N, 2)), atol=1e-5)
    check(lw, kalman(A, B, G @ G.T, [0.5, 0.0], SEEN, 40))


def well(t, x, args):
    return x - x**3


@pytest.mark.slow
def test_double_well_against_the_grid(key):
    """log p(-1 -> 1, T = 1) = -2.7259 by the grid (tests/oracles), up to the Euler chain's own O(1/N)."""
    guided = guide(SDE(well, Partial(constant, 1.0)), [Observation(1.0, jnp.array([1.0]))])
    _, lw = run(guided, jnp.array([-1.0]), grids.uniform(100), key, 16_384)
    check(lw, -2.7259, slack=0.02)


def drifting(t, x, args):
    return jnp.full_like(x, 0.7)


def test_a_bridge_guided_by_itself_has_equal_weights(key):
    """Brownian motion with drift: every step is the bridge's own, every weight the density, at any grid."""
    guided = guide(SDE(drifting, Partial(constant, 0.8)), [Observation(1.0, jnp.array([1.0]))], start=jnp.zeros(1))
    _, lw = run(guided, jnp.array([-0.4]), grids.quadratic(20), key, 64)
    np.testing.assert_allclose(lw, -0.5 * (0.7 / 0.8) ** 2 - 0.5 * math.log(2 * math.pi * 0.64), atol=2e-4)


@pytest.mark.slow
def test_the_start_makes_a_better_auxiliary(key):
    """Double well -1 -> 2: ESS 1.5 % linearised at the end, 15 % averaged along the line."""
    end, x0 = [Observation(1.0, jnp.array([2.0]))], jnp.array([-1.0])
    aware = guide(SDE(well, Partial(constant, 1.0)), end, start=x0)
    _, lw = run(aware, x0, grids.uniform(100), key)
    assert float(weights.ess(lw)) > 0.08
    check(lw, -8.2318, share=0.08, slack=0.2)  # the Euler chain's own bias this far out: 0.1 at 200 steps


def cir_drift(t, x, args):
    return 1.5 * (1.0 - x)


def cir_noise(t, x, args):
    return 0.5 * jnp.sqrt(jnp.maximum(x, 1e-6))


def test_noise_that_depends_on_the_state(key):
    """CIR's transition density; the auxiliary has the noise of the end point."""
    sde = SDE(cir_drift, cir_noise, noise="state")
    guided = guide(sde, [Observation(1.0, jnp.array([1.4]))])
    _, lw = run(guided, jnp.array([0.8]), grids.uniform(100), key)
    want = float(diffusions.cir_log_prob(1.0, 0.8, 1.4, kappa=1.5, theta=1.0, sigma=0.5))
    check(lw, want, slack=0.02)


def nagumo(t, x, args):
    return jnp.array([(x[0] - x[0] ** 3 - x[1]) / 0.5, 1.5 * x[0] - x[1] + 0.8])


def one_sided(t, x, args):
    return lineax.MatrixLinearOperator(jnp.array([[0.0], [0.4]], jnp.float32))


def test_hypoelliptic_and_partially_observed(key):
    """FitzHugh-Nagumo: noise in the second coordinate, the first seen with noise. Brute force is the truth."""
    sde, x0, ts = SDE(nagumo, one_sided, 1.0), jnp.array([-0.5, -0.6]), grids.uniform(50)
    seen = Observation(1.0, jnp.array([-0.2]), jnp.array([[1.0, 0.0]]), 0.1)
    _, lw = run(guide(sde, [seen]), x0, ts, key)

    def forward(k):
        x = kernels.walk(kernels.euler(sde), k, x0, ts).xs[-1]
        return -0.5 * ((x[0] + 0.2) / 0.1) ** 2 - 0.5 * jnp.log(2 * jnp.pi * 0.01)

    brute = jax.jit(jax.vmap(forward))(keys(key, 65_536, N))
    error = math.hypot(float(weights.log_z_error(lw)), float(weights.log_z_error(brute)))
    assert float(weights.ess(lw)) > max(0.1, 2 * float(weights.ess(brute)))
    assert error < 0.1
    assert abs(float(weights.log_z(lw)) - float(weights.log_z(brute))) < 5 * error


def test_gradient_of_the_likelihood(key):
    """d log p / d theta of the Euler chain of OU, by differentiating the estimate."""

    def estimate(theta):
        sde = SDE(Partial(ou_drift, theta), Partial(constant, jnp.float32(0.8)))
        guided = guide(sde, [Observation(1.0, jnp.array([-0.7]))], LinearSDE([[-1.3]], [0.0], [[0.8]]))

        def one(k):
            return guided.log_weight(kernels.walk(guided.kernel, k, jnp.array([0.9]), grids.uniform(20)))

        return weights.log_z(jax.vmap(one)(keys(key, 2048)))

    slope = float(jax.jit(jax.grad(estimate))(jnp.float32(1.3)))
    want = (euler_ou(1.301, 0.8, 0.9, -0.7, 20) - euler_ou(1.299, 0.8, 0.9, -0.7, 20)) / 0.002
    assert abs(slope - want) < 0.05 * abs(want) + 0.02


def test_pcn_samples_the_smoothing_law(key):
    """OU bridge at t = 1/2 under a poor auxiliary: mean and variance of the chain against the Euler chain's bridge."""
    brownian = LinearSDE(np.zeros((1, 1)), np.zeros(1), 0.8 * np.eye(1))
    guided = guide(ou(), [Observation(1.0, jnp.array([-0.7]))], brownian)
    ts = grids.uniform(20)
    chains = jax.vmap(lambda k: pcn(guided, k, jnp.array([0.9]), ts, 400, rho=0.5))(keys(key, 32))
    assert 0.2 < float(jnp.mean(chains.accepted)) <= 1.0
    middle = np.asarray(chains.xs)[:, 100:, 10, 0]  # 32 independent chains, without their beginnings
    h, theta, q = 0.05, 1.3, 0.64
    f = 1 - theta * h
    m1, v1 = 0.9 * f**10, q * h * (1 - f**20) / (1 - f**2)
    gain = v1 * f**10 / (v1 * f**20 + v1)
    mean, var = m1 + gain * (-0.7 - m1 * f**10), v1 - gain * f**10 * v1
    by_chain = middle.mean(1)
    assert abs(by_chain.mean() - mean) < 5 * by_chain.std(ddof=1) / math.sqrt(32)
    second = ((middle - mean) ** 2).mean(1)
    assert abs(second.mean() - var) < 5 * second.std(ddof=1) / math.sqrt(32)


def test_its_sde_runs_and_lands(key):
    guided = guide(SDE(well, Partial(constant, 1.0)), [Observation(1.0, jnp.array([1.0]))])
    np.testing.assert_allclose(simulate(guided.sde, key, jnp.array([-1.0]), grids.uniform(30)), [1.0], atol=1e-6)


def thin(scale, t, x, args):
    return lineax.MatrixLinearOperator(jnp.array([[0.0], [0.4]], jnp.float32) * scale(t, x))


def test_one_observation_is_a_list_of_one(key):
    end = Observation(1.0, jnp.array([-0.7]))
    one, several = (guide(ou(), seen, start=jnp.array([0.9])) for seen in (end, [end]))
    xs, lw = run(one, jnp.array([0.9]), grids.uniform(5), key, 8)
    want = run(several, jnp.array([0.9]), grids.uniform(5), key, 8)
    np.testing.assert_array_equal(xs, want[0])
    np.testing.assert_array_equal(lw, want[1])


FIRST, SECOND = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]])


@pytest.mark.parametrize("operator", [FIRST, None])
@pytest.mark.parametrize("auxiliary", [None, LinearSDE(-np.eye(2), np.zeros(2), np.eye(2))])
def test_an_exact_observation_that_no_noise_moves_is_refused(operator, auxiliary):
    """FitzHugh-Nagumo, its first coordinate seen exactly: every log weight would be nan."""
    seen = Observation(0.5, jnp.zeros(2 if operator is None else 1), operator)
    with pytest.raises(ValueError, match="exact observation at time 0.5 .* give the observation noise > 0"):
        guide(SDE(nagumo, one_sided), [seen, Observation(1.0, jnp.zeros(1), SECOND)], auxiliary)
    noisy = Observation(1.0, jnp.zeros(2), None, jnp.array([0.1, 0.0]))
    guide(SDE(nagumo, one_sided), [Observation(0.5, jnp.zeros(1), SECOND), noisy], auxiliary)


def conditional(t, x, args):
    return args["level"]


NOT_KNOWN = {
    "vanishes at T": (Partial(thin, lambda t, x: 1.0 - t), None, "additive"),
    "vanishes at the end": (Partial(thin, lambda t, x: x[1]), None, "state"),
    "nan below the end": (Partial(thin, lambda t, x: jnp.sqrt(x[1])), None, "state"),
    "wants a condition": (conditional, LinearSDE(-np.eye(2), np.zeros(2), np.eye(2)), "additive"),
}


@pytest.mark.parametrize("name", NOT_KNOWN)
def test_noise_that_may_move_it_is_not_refused(name):
    diffusion, auxiliary, noise = NOT_KNOWN[name]
    auxiliary = LinearSDE(-np.eye(2), np.zeros(2), np.eye(2)) if auxiliary is None else auxiliary
    guide(SDE(nagumo, diffusion, noise=noise), [Observation(1.0, jnp.zeros(1), SECOND)], auxiliary)


def test_a_guide_made_while_tracing_is_not_refused():
    seen = [Observation(1.0, jnp.zeros(1), FIRST)]
    auxiliary = LinearSDE(-np.eye(2), np.zeros(2), np.eye(2))
    jax.eval_shape(lambda: guide(SDE(nagumo, one_sided), seen, auxiliary).parts.messages.values)


SDE1 = ou()
END = Observation(1.0, jnp.array([0.0]))
BAD = {
    "schedule": (lambda: guide(schedules.vp(), [END]), "guide bends an SDE"),
    "ode": (lambda: guide(SDE(well), [END]), "no noise|has none"),
    "none": (lambda: guide(SDE1, []), "at least one Observation"),
    "order": (lambda: guide(SDE1, [END, Observation(0.5, jnp.array([0.0]))]), "must increase"),
    "late": (lambda: guide(SDE1, [Observation(1.5, jnp.array([0.0]))]), "must increase within"),
    "sizes": (lambda: guide(SDE1, [Observation(0.5, jnp.zeros(2)), END]), "different sizes"),
    "operator": (lambda: guide(SDE1, [Observation(1.0, jnp.zeros(2), jnp.ones((1, 1)))]), "operator must have shape"),
    "noise": (lambda: guide(SDE1, [Observation(1.0, jnp.zeros(1), None, -1.0)]), "noise must be >= 0"),
    "value": (lambda: guide(SDE1, [Observation(1.0, jnp.array([jnp.nan]))]), "not finite"),
    "rank": (lambda: guide(SDE1, [Observation(1.0, jnp.zeros(2), jnp.ones((2, 2)))]), "rank below"),
    "auxiliary": (lambda: guide(SDE1, [END], noising(schedules.vp())), "must be a LinearSDE"),
    "dimension": (lambda: guide(SDE1, [END], LinearSDE(np.eye(2), np.zeros(2), np.eye(2))), r"states of shape \(2,\)"),
    "start": (lambda: guide(SDE1, [END], start=jnp.zeros(2)), r"start must have shape \(1,\)"),
    "control": (lambda: guide(SDE1, [END], control=3), "control must be a function"),
    "rho": (lambda: pcn(guide(SDE1, [END]), jax.random.key(0), jnp.ones(1), [0, 1.0], 5, rho=1.0), "rho must lie"),
    "pcn": (lambda: pcn(SDE1, jax.random.key(0), jnp.ones(1), [0, 1.0], 5), "bridgejax.guide made"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()
