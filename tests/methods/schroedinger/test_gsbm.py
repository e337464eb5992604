"""Generalised bridge matching: paths against harmonic bridges, normalised weights, rounds to the exact bridge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bridgejax as bj
from bridgejax.methods.schroedinger import _gaussian_paths as gp
from bridgejax.objectives import times
from bridgejax.oracles import diffusions, gaussian_bridge

LEGENDRE = np.stack([np.pad(np.polynomial.legendre.leg2poly(np.eye(6)[k]), (0, 5 - k)) for k in range(6)])
OMEGA = 2.0
TS = jnp.linspace(0.05, 0.95, 19)


def linear(params, t, x, args):
    """sqrt(1 - t) (slope(t) x + shift(t)), polynomials of degree 5 in time: linear in its parameters."""
    values = jnp.asarray(LEGENDRE, x.dtype) @ (2.0 * t - 1.0) ** jnp.arange(6)
    return jnp.sqrt(1.0 - t) * ((params["slope"] @ values) * x + params["shift"] @ values)


NET = (linear, {"slope": jnp.zeros(6), "shift": jnp.zeros(6)})


def nothing(t, x, others):
    return 0.0 * jnp.sum(x)


def harmonic(t, x, others):
    return 0.5 * OMEGA**2 * jnp.sum(x**2)


def test_splines_are_cubic_and_exact_on_cubics():
    for knots, degree in ((2, 1), (3, 2), (4, 3), (9, 3)):
        values = jnp.linspace(0.0, 1.0, knots) ** degree
        np.testing.assert_allclose(jax.vmap(lambda t: gp.spline(values, t))(TS), TS**degree, atol=2e-6)


SOLVE = jax.jit(
    lambda key, paths, omega, sigma: gp.optimise(
        lambda t, x, others: 0.5 * omega**2 * jnp.sum(x**2), paths, sigma, key, steps=300, rate=0.1, draws=8
    )
)


def test_paths_of_least_action():
    """V = 0: the Brownian bridge, exactly; V = omega^2 |x|^2 / 2: the Ornstein-Uhlenbeck bridge of rate omega."""
    sigma, x0, x1 = 0.7, jnp.array([1.0, -0.5]), jnp.array([-2.0, 1.0])
    one = jax.tree.map(lambda leaf: leaf[None], gp.straight(x0, x1, 9, 9))
    still = SOLVE(jax.random.key(0), one, 0.0, sigma)
    np.testing.assert_array_less(jnp.abs(still.mean - one.mean), 1e-5)
    np.testing.assert_array_less(jnp.abs(still.width), 1e-5)
    found = jax.tree.map(lambda leaf: leaf[0], SOLVE(jax.random.key(0), one, OMEGA, sigma))
    mean, variance = jax.vmap(lambda t: diffusions.ou_bridge(t, 1.0, x0, x1, OMEGA, sigma))(TS)
    np.testing.assert_allclose(jax.vmap(lambda t: gp.spline(found.mean, t))(TS), mean, atol=0.03)
    ratio = jax.vmap(lambda t: gp.deviation(found, sigma, t))(TS) / jnp.sqrt(variance.reshape(len(TS), -1)[:, 0])
    np.testing.assert_allclose(ratio, 1.0, atol=0.03)
    plain = sigma * jnp.sqrt(TS * (1 - TS))
    assert float(jnp.max(plain / (ratio * jnp.sqrt(variance.reshape(len(TS), -1)[:, 0])))) > 1.12
    # where the control points to: x + (1 - t) u, u the drift of the OU bridge
    t, x = 0.4, jnp.array([0.3, 0.2])
    rest = 1.0 - t
    u = OMEGA * (x1 - x * np.cosh(OMEGA * rest)) / np.sinh(OMEGA * rest)
    np.testing.assert_allclose(gp.points_to(found, jnp.asarray(t), x), x + rest * u, atol=0.1)
    np.testing.assert_allclose(gp.points_to(still_one(still), jnp.asarray(t), x), x1, atol=1e-4)


def still_one(paths):
    return jax.tree.map(lambda leaf: leaf[0], paths)


def test_weights_of_paths_are_those_of_the_exact_conditional_law():
    """From straight paths, to the law of the harmonic bridge; a weight tempered by the number of times would not."""
    sigma, x0, x1, n = 1.0, jnp.array([1.0]), jnp.array([1.0]), 20_000
    path, ts = gp.straight(x0, x1, 9, 9), bj.grids.uniform(40)
    mean, variance = (v.reshape(()) for v in diffusions.ou_bridge(0.5, 1.0, x0, x1, OMEGA, sigma))
    bent = path._replace(width=jnp.asarray([0.0, 0.1, 0.2, 0.0, -0.1, 0.1, 0.2, 0.1, 0.0]))
    run = jax.jit(lambda path: gp.candidates(harmonic, path, sigma, jax.random.key(0), ts, n, None))
    for proposal in (path, bent):
        xs, w = run(proposal)
        middle, ess = xs[:, 20, 0], 1.0 / float(jnp.sum(w**2))
        assert ess > 0.1 * n
        found = jnp.sum(w * middle)
        error = 5.0 * float(jnp.sqrt(variance / ess))
        np.testing.assert_allclose(found, mean, atol=error + 2e-3)
        spread = jnp.sum(w * (middle - found) ** 2)
        np.testing.assert_allclose(spread, variance, atol=5.0 * float(variance) * np.sqrt(2 / ess) + 2e-3)
        assert abs(float(middle.mean()) - float(mean)) > 3 * error  # what equal weights, or tempered ones, would give
    # their drift at t = 0.5 is that of the bridge, E[y | x] = x + (1 - t) u(x): regress y on x
    y = jax.jit(jax.vmap(lambda one: gp.goals(harmonic, one, ts, None)))(xs)[:, 20, 0]
    slope = jnp.sum(w * (middle - found) * y) / spread
    np.testing.assert_allclose(slope, 1.0 - 0.5 * OMEGA / np.tanh(0.5 * OMEGA), atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("resample", [0, 16])
def test_rounds_find_the_bridge_of_the_harmonic_reference(resample):
    """Between Gaussians with V = omega^2 x^2 / 2 the optimum is the bridge of an OU reference."""
    n, sigma = 1500, 1.0
    draws = np.random.default_rng(0).normal(size=(2, 20_000, 1)).astype(np.float32)
    data = {"source": draws[0] - 0.5, "target": draws[1] + 0.5}
    method = bj.methods.gsbm(
        NET, harmonic, shape=(1,), sigma=sigma, cache=n, optimizer="exact", ema=None, path_steps=100, path_rate=0.1,
        resample=resample, time_sampler=times.low_discrepancy(0.0, 1.0), ts=bj.grids.uniform(50),
    )  # fmt: skip
    traces, key = [], jax.random.key(0)

    @jax.jit
    def step(*arguments):
        traces.append(1)
        return method.step(*arguments)

    state = method.init(key, data)
    for k in range(4):
        for j in range(2):
            state, _ = step(state, jax.random.fold_in(key, 10 * k + j), data)
        state = method.refresh(state, jax.random.fold_in(key, 100 + k), data)
    assert len(traces) == 1
    truth = gaussian_bridge([-0.5], 1.0, [0.5], 1.0, reference=bj.schedules.ou(OMEGA, sigma))
    blind = gaussian_bridge([-0.5], 1.0, [0.5], 1.0, epsilon=sigma**2)
    process, x0 = method.process(state), jnp.asarray(data["source"][:n])
    ts = bj.grids.uniform(100)
    walk = jax.jit(jax.vmap(lambda key, x: bj.simulate_path(process.dynamics, key, x, ts).xs))
    xs = walk(bj.keys(jax.random.key(1), n), x0)[:, :, 0]
    error = 5 / np.sqrt(n)
    middle = float(truth.cov(0.5)[0, 0])
    assert abs(float(xs[:, 50].var()) - middle) < 1.5 * error * middle + 0.03
    assert float(blind.cov(0.5)[0, 0]) > middle + 0.25
    assert abs(float(xs[:, -1].mean()) - 0.5) < error + 0.03
    assert abs(float(xs[:, -1].var()) - 1.0) < 1.5 * error + 0.04
    found = float(jnp.cov(xs[:, 0], xs[:, -1])[0, 1])
    assert abs(found - float(truth.coupling[0, 0])) < error + 0.04


@pytest.mark.slow
def test_a_crowd_keeps_its_distance_and_a_round_that_fails_is_refused():
    def crowded(t, x, others):
        return 20.0 * jnp.mean(jnp.exp(-2.0 * jnp.sum((others - x) ** 2, axis=-1)))

    draws = np.random.default_rng(0).normal(size=(2, 256, 2)).astype(np.float32)
    data = {"source": 0.1 * draws[0], "target": 0.1 * draws[1] + np.array([3.0, 0.0], np.float32)}
    net = (lambda p, t, x, args: x + p["a"], {"a": jnp.zeros(2)})
    spread = {}
    for crowd, cost in ((0, nothing), (32, crowded)):
        method = bj.methods.gsbm(
            net, cost, shape=(2,), sigma=0.2, crowd=crowd, cache=128, max_marginal_error=1e-6, ts=bj.grids.uniform(8)
        )
        state = method.init(jax.random.key(0), data)
        spread[crowd] = float(state.paths.mean[:, 4].std(axis=0).mean())  # in the middle, of each coordinate
        after = method.refresh(state, jax.random.key(1), data)
        assert int(after.rejected) == 1
        np.testing.assert_array_equal(after.pairs["source"], state.pairs["source"])
    assert spread[32] > 1.5 * spread[0]


def make(cost=nothing, **changes):
    given = {"network": NET, "shape": (1,), "cache": 8, "path_steps": 1, **changes}
    return bj.methods.gsbm(given.pop("network"), cost, **given)


ENDS = {"source": np.zeros((9, 1)), "target": np.zeros((9, 2))}
BAD = {
    "cost": (lambda: make(cost=3.0), "cost must be a function"),
    "vector": (lambda: make(cost=lambda t, x, others: x), "cost must return one number"),
    "sigma": (lambda: make(sigma=0.0), "sigma must be positive"),
    "knots": (lambda: make(knots=1), "knots must be an integer >= 2"),
    "width_knots": (lambda: make(width_knots=1), "width_knots must be an integer >= 2"),
    "path_steps": (lambda: make(path_steps=0), "path_steps must be an integer"),
    "path_rate": (lambda: make(path_rate=0.0), "path_rate must be positive"),
    "resample": (lambda: make(resample=-1), "resample must be an integer >= 0"),
    "crowd": (lambda: make(crowd=1.5), "crowd must be an integer"),
    "half a grid": (lambda: make(ts=[0.0, 0.25, 0.5]), "ts must run from 0 to 1"),
    "one-sided": (lambda: make(ts=bj.grids.quadratic(5), resample=4), "ts must be symmetric"),
    "source": (lambda: make(source=np.zeros((9, 2))), "source must have rows of shape"),
    "max_marginal_error": (lambda: make(max_marginal_error=-1.0), "max_marginal_error must be positive"),
    "ema": (lambda: make(ema=2.0), "ema must be a decay"),
    "dims": (lambda: make().init(jax.random.key(0), ENDS), "target rows of shape"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_weight_is_the_ratio_of_two_gaussian_chains():
    """Brownian bridge over proposal, step by step in float64: a path whose width moves has pushes that differ.

    The proposal's step goes to the bridge's mean and to (u - t) (1 - u) / (1 - t)^2 of the way from x_1 to y.
    """
    sigma, ts = 0.8, bj.grids.uniform(12)
    path = gp.straight(jnp.array([1.0]), jnp.array([-0.5]), 5, 5)
    path = gp.GaussianPath(path.mean.at[2].add(0.7), jnp.array([0.0, 0.6, 1.0, 0.5, 0.0]))
    xs, weights = gp.candidates(harmonic, path, sigma, jax.random.key(0), ts, 16, None)
    t, u, x, y = np.asarray(ts[:-1]), np.asarray(ts[1:]), xs[:, :-1, 0], np.asarray(xs[:, 1:, 0], np.float64)
    ahead = jax.vmap(jax.vmap(lambda t, x: gp.points_to(path, t, x[None])[0]), (None, 0))(ts[:-1], x)

    def log_density(goal):
        mean = x + (-0.5 - x) * (u - t) / (1 - t) + (goal + 0.5) * (u - t) * (1 - u) / (1 - t) ** 2
        variance = sigma**2 * (u - t) * np.maximum(1 - u, 1e-12) / (1 - t)
        return np.sum((-0.5 * (y - mean) ** 2 / variance)[:, :-1], axis=1)  # the last step is certain on both sides

    cost = np.trapezoid(0.5 * OMEGA**2 * np.asarray(xs[:, :, 0], np.float64) ** 2, np.asarray(ts), axis=1)
    want = np.exp(log_density(-0.5) - log_density(np.asarray(ahead, np.float64)) - cost / sigma**2)
    assert want.std() / want.mean() > 0.3
    np.testing.assert_allclose(weights, want / want.sum(), rtol=2e-3)


def test_a_path_of_moving_width_points_where_its_marginals_say():
    """x + (1 - t) u, u = mu' + (gamma'/gamma - sigma^2 / (2 gamma^2)) (x - mu), derivatives by autodiff of the path."""
    sigma, t, x = 0.8, jnp.float32(0.35), jnp.array([0.4])
    path = gp.GaussianPath(jnp.array([[1.0], [0.2], [0.9], [-0.5]]), jnp.array([0.0, 0.6, 1.0, 0.5, 0.0]))
    mean, velocity = jax.jvp(lambda t: gp.spline(path.mean, t), (t,), (jnp.float32(1.0),))
    gamma, slope = jax.value_and_grad(lambda t: gp.deviation(path, sigma, t))(t)
    u = velocity + (slope / gamma - sigma**2 / (2 * gamma**2)) * (x - mean)
    np.testing.assert_allclose(gp.points_to(path, t, x), x + (1 - t) * u, rtol=1e-4)


def test_equal_candidates_are_worth_their_number():
    state = make(resample=4, cache=4, path_rate=1e-9, ts=bj.grids.uniform(4)).init(
        jax.random.key(0), {"source": np.zeros((9, 1), np.float32), "target": np.ones((9, 1), np.float32)}
    )
    assert float(state.ess) == pytest.approx(1.0, abs=1e-4)
