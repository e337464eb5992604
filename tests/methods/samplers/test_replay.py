"""Backward paths from a buffer of terminal states, and targets that are sharpened while a sampler learns."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.tree_util import Partial

import bridgejax as bj
from bridgejax.methods.samplers import _losses as sampling
from bridgejax.processes._keys import streams

LOG_Z, MEAN = 0.7, jnp.array([1.0, -0.5])
KEYS = bj.keys(jax.random.key(0), 64)
ENDS = MEAN + jax.random.normal(jax.random.key(7), (64, 2))
NET = {"a": jnp.array(-0.1), "b": jnp.array([0.2, 0.1])}
FULL = jnp.ones(64)


def log_rho(mean, x):
    """exp(LOG_Z) N(mean, I)."""
    return LOG_Z - jnp.sum(0.5 * (x - mean) ** 2 + 0.5 * math.log(2 * math.pi))


RHO = Partial(log_rho, MEAN)


def affine(params, t, x, args):
    return params["b"] + params["a"] * x


def made(name, density=RHO, **options):
    """A sampler, its parameters and ``make(params)``."""
    method = getattr(bj.methods, name)(density, (affine, NET), dim=2, ts=bj.grids.uniform(8), **options)
    state = method.init(KEYS[0], None)
    inner = getattr(state, "inner", state)

    def make(params):
        learnt = inner._replace(params=params)
        return method.process(state._replace(inner=learnt) if hasattr(state, "inner") else learnt)

    return method, inner.params, Partial(make)


def by_hand(make, params, keys, ends):
    """w of paths back, their states held, through the stored run."""
    fixed, process = make(jax.lax.stop_gradient(params)), make(params)
    forward, back = bj.kernels.euler(process.dynamics), process.backward.kernel

    def one(key, end):
        run = streams(key, "process", 3)[1]
        xs = bj.kernels.walk(fixed.backward.kernel, run, end, 1.0 - fixed.ts[::-1]).xs[::-1]
        ts = fixed.ts
        ratio = sum(
            back.log_prob(1.0 - ts[k + 1], 1.0 - ts[k], xs[k + 1], xs[k], None)
            - forward.log_prob(ts[k], ts[k + 1], xs[k], xs[k + 1], None)
            for k in range(8)
        )
        return RHO(end) - fixed.start.log_prob(xs[0]) + ratio

    return jax.vmap(one)(keys, ends)


@pytest.mark.parametrize("name", ["pis", pytest.param("cmcd", marks=pytest.mark.slow)])
def test_paths_back_have_the_weights_of_the_core_and_the_gradient_of_the_stored_run(name):
    _, params, make = made(name)
    zeros, ones = jnp.zeros(1), jnp.ones(64)

    def detached(params):
        logs = sampling.detached(make, None, RHO, params, KEYS, ones, zeros, ENDS)
        return logs.rho + logs.ratio

    w, pull = jax.vjp(jax.jit(detached), params)
    assert np.allclose(w, bj.log_weights(make(params), KEYS, RHO, terminal_states=ENDS), rtol=1e-4, atol=1e-4)
    expected, other = jax.vjp(lambda p: by_hand(make, p, KEYS, ENDS), params)
    assert np.allclose(w, expected, rtol=1e-4, atol=1e-4)
    ct = jnp.cos(jnp.arange(64.0))
    for found, wanted in zip(jax.tree.leaves(pull(ct)), jax.tree.leaves(other(ct)), strict=True):
        assert np.allclose(found, wanted, rtol=1e-2, atol=1e-3 * (1.0 + float(jnp.max(jnp.abs(wanted)))))


def test_a_loss_of_both_ways_is_the_variance_of_their_weights():
    _, params, make = made("pis")
    value, metrics = sampling.path_loss(make, RHO, params, KEYS, sampling.Plan(ENDS, FULL), loss="log_variance")
    forward = bj.log_weights(make(params), KEYS[:32], RHO)
    back = bj.log_weights(make(params), KEYS[32:], RHO, terminal_states=ENDS[32:])
    assert float(value) == pytest.approx(float(jnp.var(jnp.concatenate([forward, back]), ddof=1)), rel=1e-3)
    assert float(metrics["log_z"]) == pytest.approx(float(bj.weights.log_z(forward)), abs=1e-4)  # of its own paths


def test_the_exact_control_has_no_loss_on_paths_back_from_anywhere():
    exact = {"a": jnp.zeros(()), "b": MEAN}  # see test_samplers: u = m / (sigma T)
    method = bj.methods.pis(RHO, (affine, exact), dim=2, gradient=False, ts=bj.grids.uniform(8), replay=16)
    state = method.init(KEYS[0], None)
    state = state._replace(terminal_states=state.terminal_states + 3.0)
    _, metrics = jax.jit(method.step)(state, KEYS[1], np.zeros((64, 0)))
    assert float(metrics["loss"]) < 1e-8
    assert float(metrics["ess"]) == pytest.approx(1.0, abs=1e-4)
    _, wrong = jax.jit(method.step)(state._replace(inner=state.inner._replace(params=shifted(state))), KEYS[1], BATCH)
    assert float(wrong["loss"]) > 0.1


BATCH = np.zeros((64, 0))


def shifted(state):
    params = state.inner.params
    return {**params, "network": {**params["network"], "b": MEAN + 0.5}}


def test_a_round_replaces_the_older_half_by_ends_drawn_by_their_weights():
    method = bj.methods.pis(RHO, (affine, NET), dim=2, gradient=False, ts=bj.grids.uniform(8), replay=4096)
    state = method.init(KEYS[0], None)
    shapes = jax.eval_shape(method.init, KEYS[0], None)  # as a run that is loaded asks
    assert jax.tree.map(jnp.shape, shapes.terminal_states) == jnp.shape(state.terminal_states)
    new = method.refresh(state, KEYS[1], None)
    dead = state._replace(
        inner=state.inner._replace(params=jax.tree.map(lambda leaf: leaf + jnp.nan, params_of(state)))
    )
    kept = method.refresh(dead, KEYS[1], None)  # nothing comes in
    assert np.array_equal(kept.terminal_states, state.terminal_states)
    assert np.array_equal(new.terminal_states[:2048], state.terminal_states[2048:])
    process = method.process(state)
    plain, w = bj.weighted_samples(process, KEYS, RHO)
    drawn = state.terminal_states.mean(0)  # nearer to the target's mean than what the sampler draws
    assert np.linalg.norm(drawn - MEAN) < np.linalg.norm(bj.sample(process, bj.keys(KEYS[2], 4096)).mean(0) - MEAN)
    assert len(np.unique(np.asarray(state.terminal_states), axis=0)) > 0.4 * 4096
    assert plain.shape == (64, 2)
    assert np.all(np.isfinite(w))


def params_of(state):
    return state.inner.params


def test_weights_are_flattened_to_the_share_asked_for():
    w = 5.0 * jax.random.normal(KEYS[0], (2000,))
    flat = bj.weights.flattened(w, 0.5)
    assert float(bj.weights.ess(flat)) == pytest.approx(0.5, abs=1e-3)
    assert np.ptp(np.asarray(flat / w)) < 1e-5  # a power
    assert np.array_equal(bj.weights.flattened(0.1 * w), 0.1 * w)  # wide enough as they are
    gone = bj.weights.flattened(w.at[:1500].set(-jnp.inf))  # of the quarter that is left, a half
    assert float(bj.weights.ess(gone)) == pytest.approx(0.125, abs=1e-3)
    assert not np.any(np.isfinite(np.asarray(gone[:1500])))
    for share, match in ((1.0, "share must be in"), ("a", "share must be a real number")):
        with pytest.raises(ValueError, match=match):
            bj.weights.flattened(w, share)


def test_annealing_learns_powers_of_the_density_and_reports_on_the_density():
    method = bj.methods.pis(RHO, (affine, NET), dim=2, gradient=False, ts=bj.grids.uniform(8), annealing_steps=9)
    state, step = method.init(KEYS[0], None), jax.jit(method.step)
    plain, params, make = made("pis", gradient=False)
    assert plain.refresh is None
    assert method.refresh is None
    powers = []
    for k in range(12):
        log_z = bj.weights.log_z(bj.log_weights(method.process(state), bj.keys(KEYS[k], 64), RHO))
        state, metrics = step(state, KEYS[k], BATCH)
        powers.append(float(metrics["power"]))
        assert float(metrics["log_z"]) == pytest.approx(float(log_z), abs=1e-3)
    assert np.allclose(powers, np.minimum(0.1 + 0.1 * np.arange(12), 1.0))

    some, of = (
        sampling.path_loss(make, density, params, KEYS, batch, loss="log_variance")[0]
        for density, batch in ((RHO, sampling.Plan(None, 0.4 * FULL)), (Partial(lambda x: 0.4 * RHO(x)), None))
    )
    assert float(some) == pytest.approx(float(of), rel=1e-3)


def two_modes(x):
    """Two narrow modes of equal mass, log Z = 0."""
    return jax.nn.logsumexp(jnp.array([-8.0 * (x[0] - 2.0) ** 2, -8.0 * (x[0] + 2.0) ** 2])) - math.log(
        2.0 * math.sqrt(math.pi / 8.0)
    )


def share_on_the_left(replay):
    """Of a sampler whose control begins with a strong pull to the right, after 300 updates."""
    apply, params = bj.networks.functional(bj.networks.MLP((1,), width=32, depth=2, embedding=16, rngs=nnx.Rngs(0)))

    def pulled(params, t, x, args):
        return 3.0 + apply(params, t, x, args)

    method = bj.methods.pis(
        two_modes, (pulled, params), dim=1, gradient=False, ts=bj.grids.uniform(20), replay=replay,
        optimizer=optax.adam(3e-3),
    )  # fmt: skip
    state, step = method.init(KEYS[0], None), jax.jit(method.step)
    if replay:  # both modes were found once
        state = state._replace(
            terminal_states=2.0 * jnp.sign(state.terminal_states - jnp.median(state.terminal_states))
        )
    for k in range(300):
        state, _ = step(state, jax.random.fold_in(KEYS[0], k), BATCH)
    x = bj.sample(method.process(state), bj.keys(KEYS[1], 1000))
    return float(jnp.mean(x < 0.0))


@pytest.mark.slow
def test_a_mode_in_the_buffer_is_learnt_by_a_sampler_that_does_not_go_there():
    assert share_on_the_left(0) < 0.01
    assert 0.3 < share_on_the_left(256) < 0.7


def nowhere(x):
    return -jnp.inf * jnp.sum(x**2)


def test_bad_input_costs_one_sentence():
    for options, match in (
        ({"replay": -1}, "replay must be an integer >= 0"),
        ({"annealing_steps": 2.5}, "annealing_steps must be an integer >= 0"),
        ({"replay": 8, "loss": "kl"}, "replay needs a loss that may learn from any path"),
    ):
        with pytest.raises(ValueError, match=match):
            bj.methods.pis(RHO, (affine, NET), dim=2, **options)
    with pytest.raises(ValueError, match="annealing_steps is not for"):
        bj.methods.cmcd(RHO, (affine, NET), dim=2, annealing_steps=5, loss="subtrajectory")
    for option in ("replay", "annealing_steps"):
        with pytest.raises(ValueError, match=f"{option} must be 0"):
            bj.methods.underdamped(RHO, (affine, {"a": NET["a"], "b": jnp.zeros(4)}), dim=2, **{option: 8})
    empty = bj.methods.pis(Partial(nowhere), (affine, NET), dim=2, replay=8, gradient=False)
    with pytest.raises(ValueError, match="none of 8 paths ends where the density is finite"):
        empty.init(KEYS[0], None)
    method = bj.methods.pis(RHO, (affine, NET), dim=2, replay=8)
    with pytest.raises(ValueError, match="pass refresh_every"):
        bj.fit(method, bj.data.NoData(8), KEYS[0], steps=1)
