"""Learnt h-transforms: each loss least at the truth, the adjoint's weight against the grid, weights that are exact."""

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import bridgejax as bj
from bridgejax.bridges.guided import linearised
from bridgejax.methods.conditioning import _losses as conditioning
from bridgejax.oracles import grid

START, STEPS = jnp.array([0.6]), 40
BETA, SIGMA = 1.5, 0.7
BROWNIAN = bj.linear.LinearSDE(np.zeros((1, 1)), np.zeros(1), SIGMA * np.eye(1))


def pull(t, x, args):
    return -BETA * x


def level(t, x, args):
    return SIGMA


OU = bj.SDE(pull, level)


def h_slope(t, x, v):
    """grad log h of OU: the Gaussian of the later Euler steps."""
    f = 1 - BETA / STEPS
    k = STEPS * (1 - t)
    return f**k * (v - f**k * x) / (SIGMA**2 / STEPS * (1 - f ** (2 * k)) / (1 - f**2))


def correction(params, t, x, args):
    """params times what the driftless guide lacks; args None: a score network, absent."""
    if args is None:
        return jnp.zeros_like(x) * params
    return params * (h_slope(t, x, args) - (args - x) / (SIGMA**2 * (1 - t)))


def free_score(params, t, x, args):
    """Both networks of kind "forward" at once: the score's correction where args is None."""
    if args is not None:
        return correction(params, t, x, args)
    f = 1 - BETA / STEPS
    k = STEPS * t
    score = (f**k * START - x) / (SIGMA**2 / STEPS * (1 - f ** (2 * k)) / (1 - f**2))
    return params * (score - (START - x) / (SIGMA**2 * t))


def best_scale(kind, apply):
    """Where the loss is least among multiples of the true correction: a parabola through its slopes at 0 and 1."""
    ends = jnp.tile(jnp.array([[-0.5], [0.2], [0.9], [1.4]]), (128, 1))
    method = bj.methods.conditioned(
        OU,
        (apply, jnp.float32(0.0)),
        start=START,
        kind=kind,
        auxiliary=BROWNIAN,
        ema=None,
        ts=bj.grids.uniform(STEPS),
        optimizer=optax.sgd(1.0),
    )
    state = method.init(jax.random.key(0), None)

    @jax.jit
    def moved(scale, key):
        at = state._replace(params=jax.tree.map(lambda leaf: scale + 0.0 * leaf, state.params))
        after = method.step(at, key, ends)[0]
        return jnp.stack([leaf - scale for leaf in jax.tree.leaves(after.params)])

    at0, at1 = (np.stack([moved(scale, key) for key in bj.keys(jax.random.key(1), 16)], 1) for scale in (0.0, 1.0))
    return at0.mean(1) / (at0.mean(1) - at1.mean(1)), at1.std(1) / 4.0 / np.abs(at0.mean(1) - at1.mean(1))


@pytest.mark.parametrize(("kind", "apply"), [("guided", correction), ("forward", free_score), ("adjoint", correction)])
def test_each_loss_is_least_at_the_truth(kind, apply):
    found, error = best_scale(kind, apply)
    assert np.all(error < 0.05), error
    # 1/40: the guide is the continuous one, and the backward paths of "forward" have a step's bias
    assert np.all(np.abs(found - 1.0) < 5 * error + 0.03), (found, error)


@pytest.mark.slow
def test_the_gap_is_zero_at_the_truth_and_positive_off_it():
    """loss + log p of the Euler chain, in nats: KL(guided || conditioned)."""
    v, gaps = jnp.array([1.4]), []
    net = (Partial(fixed_correction, v), jnp.float32(0.0))
    method = bj.methods.conditioned(OU, net, start=START, end=v, auxiliary=BROWNIAN, ts=bj.grids.uniform(STEPS))
    state = method.init(jax.random.key(0), None)
    step = jax.jit(
        lambda scale: method.step(state._replace(params=scale), jax.random.key(2), jnp.tile(v, (1024, 1)))[1]
    )
    for scale in (0.0, 1.0):
        metrics = step(scale)
        gaps.append(float(metrics["loss"]) + euler_log_p(1.4))
        assert abs(float(metrics["kl"]) - gaps[-1]) < 0.05
    assert gaps[0] > 0.05
    assert abs(gaps[1]) < 0.02


def fixed_correction(v, params, t, x, args):
    assert args is None
    return correction(params, t, x, v)


def euler_log_p(v):
    f = 1 - BETA / STEPS
    mean, var = f**STEPS * float(START[0]), SIGMA**2 / STEPS * (1 - f ** (2 * STEPS)) / (1 - f**2)
    return -0.5 * (v - mean) ** 2 / var - 0.5 * np.log(2 * np.pi * var)


def well(t, x, args):
    return x - x**3


def one(t, x, args):
    return 1.0


@pytest.mark.slow
def test_the_adjoint_needs_its_weight():
    """Double well, v = 1, t = 0: mean of grad log h under a bump at 0 and at 1, true and without the weight."""
    sde, ts, v = bj.SDE(well, one), bj.grids.uniform(60), jnp.array([1.0])
    method_start = jnp.array([-1.0])
    sketch = conditioning.Sketch(sde, method_start, ts, None, (1,))
    paths = jax.jit(jax.vmap(lambda key: conditioning.adjoint_path(sketch, key, v)))
    xs, log_weights = paths(bj.keys(jax.random.key(3), 40_000))
    x, tube = np.asarray(xs[:, 0, 0]), -0.5 * np.asarray(xs[:, 0, 0] + 1.0) ** 2
    weight = np.exp(np.asarray(log_weights[:, 0]) - tube)
    cells = grid.cells(-4.0, 4.0, 800)
    h = np.asarray(grid.backward(sde, grid.point(1.0, cells), cells, ts, substeps=4)[0])
    s = np.gradient(np.log(h), np.asarray(cells))
    for centre, quoted in ((0.0, 1.35), (1.0, 0.26)):
        bump = np.exp(-0.5 * ((np.asarray(cells) - centre) / 0.4) ** 2)
        want = np.sum(s * h * bump) / np.sum(h * bump)
        assert abs(np.interp(centre, cells, s) - quoted) < 0.02
        near = np.exp(-0.5 * ((x - centre) / 0.4) ** 2) * (np.abs(x) < 4)
        # int f' h = - int f grad log h h, with f the bump
        slope = near * (x - centre) / 0.16
        estimates = []
        for w in (weight, np.ones_like(weight)):
            w = np.where(np.abs(x) < 4, w, 0.0)
            value = np.sum(w * slope) / np.sum(w * near)
            error = np.sqrt(np.sum((w * (slope - value * near)) ** 2)) / np.sum(w * near)
            estimates.append((value, error))
        (weighted, error), (unweighted, unweighted_error) = estimates
        assert error < 0.1
        assert abs(weighted - want) < 5 * error + 0.03, (centre, weighted, want, error)
        assert abs(unweighted - want) > 5 * unweighted_error + 0.3, (centre, unweighted, want)


def rooty(t, x, args):
    return 0.5 * jnp.sqrt(jnp.maximum(x, 1e-6))


def revert(t, x, args):
    return 1.5 * (1.0 - x)


@pytest.mark.slow
def test_the_adjoint_of_noise_that_depends_on_the_state():
    """CIR: total weighted mass of h near the line, int h(0, x) exp(-d^2/2) dx, and its mean, against the grid."""
    sde, ts, v = bj.SDE(revert, rooty, noise="state"), bj.grids.uniform(60, 1.0), jnp.array([1.2])
    sketch = conditioning.Sketch(sde, jnp.array([0.8]), ts, None, (1,))
    n = 20_000
    xs, lw = jax.jit(jax.vmap(lambda key: conditioning.adjoint_path(sketch, key, v)))(bj.keys(jax.random.key(4), n))
    cells = grid.cells(0.01, 6.0, 1200)
    h = np.asarray(grid.backward(sde, grid.point(1.2, cells), cells, ts, substeps=4)[0])
    width = float(cells[1] - cells[0])
    tube = np.exp(-0.5 * (np.asarray(cells) - 0.8) ** 2 / (0.25 * 1.2))
    w, x = np.exp(np.asarray(lw[:, 0])), np.asarray(xs[:, 0, 0])
    mass = np.sum(h * tube) * width
    assert abs(w.mean() - mass) < 5 * w.std() / np.sqrt(n) + 0.03 * mass, (w.mean(), mass)
    mean = np.sum(h * tube * np.asarray(cells)) * width / mass
    error = np.std(w * (x - mean)) / np.sqrt(n) / mass
    assert abs(np.sum(w * x) / np.sum(w) - mean) < 5 * error + 0.02, (np.sum(w * x) / np.sum(w), mean)


def zero(params, t, x, args):
    return params * jnp.zeros_like(x)


NET = (zero, jnp.float32(0.0))


@pytest.mark.slow
def test_weighted_paths_and_sample_meet_every_end():
    """An untrained bridge over many ends: the ends are met, the weights average to the Euler chain's density."""
    method = bj.methods.conditioned(
        OU, NET, start=START, kind="forward", auxiliary=BROWNIAN, ts=bj.grids.uniform(STEPS)
    )
    bridge = method.process(method.init(jax.random.key(0), None))
    ends = jnp.repeat(jnp.array([[-0.5], [1.4]]), 2000, axis=0)
    xs, lw = bj.weighted_paths(bridge, bj.keys(jax.random.key(5), 4000), ends)
    np.testing.assert_allclose(xs[:, -1], ends, atol=1e-6)
    for half, v in ((lw[:2000], -0.5), (lw[2000:], 1.4)):
        assert float(bj.weights.ess(half)) > 0.1
        assert abs(float(bj.weights.log_z(half)) - euler_log_p(v)) < 5 * float(bj.weights.log_z_error(half))
    np.testing.assert_allclose(bj.sample(bridge, bj.keys(jax.random.key(6), 64), ends[:64]), ends[:64], atol=1e-6)
    back = bj.sample(bridge, bj.keys(jax.random.key(6), 64), direction="backward", x=ends[:64])
    np.testing.assert_allclose(back, jnp.broadcast_to(START, (64, 1)))


def two_from_one(t, x, args):
    return lineax.MatrixLinearOperator(jnp.array([[0.0], [0.4]], jnp.float32))


def still(t, x, args):
    return -x


THIN = bj.SDE(still, two_from_one)
BAD = {
    "kind": (dict(kind="reverse"), "kind must be one of"),
    "start": (dict(start=jnp.zeros((1, 1))), r"start must have shape \(d,\)"),
    "end": (dict(end=jnp.zeros(2)), r"end must have shape \(1,\)"),
    "nan": (dict(end=jnp.array([jnp.nan])), "not finite"),
    "operator": (dict(kind="adjoint", operator=jnp.eye(1)), "whole end point"),
    "rank": (dict(start=jnp.zeros(2), operator=jnp.ones((2, 2))), "rank below"),
    "shape": (dict(start=jnp.zeros(2), operator=jnp.ones((1, 3))), r"start must have shape \(3,\)"),
    "singular": (dict(sde=THIN, start=jnp.zeros(2), kind="forward"), "has rank 1 for 2 coordinates"),
    "grid": (dict(ts=[0.0, 0.4, 0.8]), "ts must run from 0 to T"),
    "ode": (dict(sde=bj.SDE(pull)), "has none"),
    "sde": (dict(sde=3), "must be a bridgejax SDE"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    options, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        bj.methods.conditioned(**{"sde": OU, "network": NET, "start": START, **options})


def test_data_of_another_shape_and_a_process_that_is_no_bridge():
    method = bj.methods.conditioned(OU, NET, start=START)
    with pytest.raises(ValueError, match="data must be an array of end points"):
        method.step(method.init(jax.random.key(0), None), jax.random.key(0), jnp.zeros((4, 2)))
    process = bj.Process(bj.starts.normal((1,)), OU, bj.grids.uniform(3))
    with pytest.raises(ValueError, match="bridge must be the Process of"):
        bj.weighted_paths(process, bj.keys(jax.random.key(0), 2))


def first_until_late(t, x, args):
    return lineax.MatrixLinearOperator(jnp.diag(jnp.stack([jnp.where(t < 0.95, 1.0, 0.0), 0.4 + 0.0 * t])))


def test_an_exact_end_that_no_noise_reaches_is_told():
    options = dict(start=jnp.zeros(2), end=jnp.ones(2), auxiliary=linearised(bj.SDE(still, one), 1.0, jnp.zeros(2)))
    with pytest.raises(ValueError, match="give the observation noise > 0"):
        bj.methods.conditioned(THIN, NET, **options)
    method = bj.methods.conditioned(bj.SDE(still, first_until_late), NET, **options)
    with pytest.raises(ValueError, match="noise of the last step cannot move"):
        bj.weighted_paths(method.process(method.init(jax.random.key(0), None)), bj.keys(jax.random.key(0), 2))


@pytest.mark.parametrize("kind", ["guided", "forward", "adjoint"])
def test_a_fixed_end_needs_no_data(kind):
    """Every row is the end: as training on that end repeated, bit for bit."""
    network = (lambda params, t, x, args: params * x, jnp.float32(0.1))
    method = bj.methods.conditioned(
        OU, network, start=START, end=jnp.array([0.2]), kind=kind, ts=bj.grids.uniform(4), ema=None
    )
    state, repeated = (
        bj.fit(method, data, jax.random.key(0), steps=2)
        for data in (bj.data.NoData(8), bj.data.Batches(jnp.full((8, 1), 0.2), 8))
    )
    jax.tree.map(np.testing.assert_array_equal, state, repeated)
    assert all(np.all(leaf != 0.1) for leaf in jax.tree.leaves(state.params))


def test_without_a_fixed_end_data_are_needed():
    method = bj.methods.conditioned(OU, NET, start=START)
    with pytest.raises(ValueError, match="NoData is for a method with end="):
        bj.fit(method, bj.data.NoData(8), jax.random.key(0), steps=1)


def sketch(sde, steps=8):
    return conditioning.Sketch(sde, START, bj.grids.uniform(steps), None, (1,))


def test_the_weights_of_adjoint_paths_are_those_of_the_chain():
    """Their mean is int P(v | x) dx over the chain's starts, (1 - beta h)^-8: a Gaussian of a linear map of x."""
    sde, end = bj.SDE(Partial(lambda t, x, args: -0.5 * x), level), jnp.array([0.5])
    given, n = sketch(sde), 4096
    xs, logs = jax.jit(jax.vmap(lambda key: conditioning.adjoint_path(given, key, end)))(bj.keys(jax.random.key(0), n))
    away = xs[:, 0, 0] - START[0]  # the tube's own factor, exp(-d^2 / 2), is taken out again
    weights = np.exp(np.asarray(logs[:, 0] + 0.5 * away**2 / SIGMA**2, np.float64))
    assert abs(weights.mean() - (1 - 0.5 / 8) ** -8) < 5 * weights.std() / np.sqrt(n)


def test_backward_paths_of_brownian_motion_are_its_bridge():
    """Without a correction the score is exact: at mid-time mean and variance of the Brownian bridge, in eight steps."""
    sde, end, n = bj.SDE(Partial(lambda t, x, args: 0.0 * x), level), jnp.array([0.9]), 4096
    given = sketch(sde)
    score = Partial(conditioning.score, given, Partial(lambda t, x, args: 0.0 * x))
    back = bj.reverse(sde, score)
    xs, kept = jax.jit(jax.vmap(lambda key: conditioning.backward_path(given, back, key, end)))(
        bj.keys(jax.random.key(0), n)
    )
    assert bool(kept.all())
    middle, variance = np.asarray(xs[:, 4, 0]), SIGMA**2 / 4
    assert abs(middle.mean() - 0.75) < 5 * np.sqrt(variance / n)
    assert abs(middle.var() / variance - 1) < 5 * np.sqrt(2 / n)


def test_weights_average_to_the_density_whatever_the_control_pushes():
    """A constant control of 1.5 beside the guide, towards one end."""
    net = (lambda params, t, x, args: params + 0.0 * x, jnp.array([1.5]))
    method = bj.methods.conditioned(
        OU, net, start=START, kind="forward", auxiliary=BROWNIAN, ema=None, ts=bj.grids.uniform(STEPS)
    )
    bridge = method.process(method.init(jax.random.key(0), None))
    _, lw = bj.weighted_paths(bridge, bj.keys(jax.random.key(5), 2000), jnp.full((2000, 1), -0.5))
    assert float(bj.weights.ess(lw)) > 0.1
    assert abs(float(bj.weights.log_z(lw)) - euler_log_p(-0.5)) < 5 * float(bj.weights.log_z_error(lw))
