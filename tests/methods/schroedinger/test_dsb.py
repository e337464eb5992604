"""Iterative proportional fitting against its exact sequence, by exact regressions in the place of a network."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bridgejax as bj
from bridgejax.methods.schroedinger import dsb as rounds

LEGENDRE = np.stack([np.pad(np.polynomial.legendre.leg2poly(np.eye(6)[k]), (0, 5 - k)) for k in range(6)])
STEPS, N = 40, 8000


def drift(params, t, x, args):
    """slope(t) x + shift(t), polynomials of degree 5: linear in its parameters."""
    values = jnp.asarray(LEGENDRE, x.dtype) @ (2.0 * t - 1.0) ** jnp.arange(6)
    return (params["slope"] @ values) * x + params["shift"] @ values


def end(params, t, x, args):
    """The end that this drift heads for."""
    return x + (1.0 - t) * drift(params, t, x, args)


def left(params, t, x, args):
    """What is left to it, over sqrt(1 - t)."""
    return jnp.sqrt(1.0 - t) * drift(params, t, x, args)


PARAMS = {"slope": jnp.zeros(6), "shift": jnp.zeros(6)}


def ends(n, seed=0):
    """N(-0.5, 1) and N(0.5, 1)."""
    draws = np.random.default_rng(seed).normal(size=(2, n, 1)).astype(np.float32)
    return {"source": draws[0] - 0.5, "target": draws[1] + 0.5}


def sequence(method, rounds=4):
    """Covariances of the ends after each half-step, variances and means of the end that is not fitted."""
    data, key = ends(N), jax.random.key(0)
    state, traces = method.init(key, data), []

    @jax.jit
    def step(*arguments):
        traces.append(1)
        return method.step(*arguments)

    every = {name: np.broadcast_to(x[:1], (N * STEPS, 1)) for name, x in data.items()}  # every cached state, once
    found = []
    for k in range(rounds):
        state, _ = step(state, jax.random.fold_in(key, k), every)
        state = method.refresh(state, jax.random.fold_in(key, 10 + k), data)
        clean, dirty = ("source", "target") if k % 2 == 0 else ("target", "source")
        a, b = (np.asarray(state.pairs[name])[:, 0] for name in (clean, dirty))
        found.append((np.cov(a, b)[0, 1] / a.var(), b.var(), b.mean() * (1 if dirty == "target" else -1)))
    assert len(traces) == 1  # a round traces nothing anew
    return np.array(found), state


FIBONACCI, VARIANCES = [1 / 2, 2 / 3, 3 / 5, 5 / 8], [0.75, 10 / 9, 0.96, 65 / 64]


@pytest.mark.parametrize(
    "method",
    [
        bj.methods.dsb((drift, PARAMS), shape=(1,), cache=N, optimizer="exact", ts=bj.grids.uniform(STEPS)),
        *(
            bj.methods.simplified_dsb(
                ({"terminal": end, "residual": left}.get(kind, drift), PARAMS),
                shape=(1,),
                reparameterise=kind,
                cache=N,
                optimizer="exact",
                ts=bj.grids.uniform(STEPS),
            )
            for kind in ("mean", "flow", "terminal", "residual")
        ),
    ],
    ids=["dsb", "mean", "flow", "terminal", "residual"],
)
def test_fibonacci(method):
    """Half-steps 1/2, 2/3, 3/5, 5/8, and the variance of the end that is not yet fitted."""
    found, _ = sequence(method)
    bound = 5 / np.sqrt(N) + 1.0 / STEPS  # samples, and the chain's own O(h)
    np.testing.assert_allclose(found[:, 0], FIBONACCI, atol=bound)
    np.testing.assert_allclose(found[:, 1], VARIANCES, atol=2 * bound)
    assert found[0, 0] < 0.58 < found[1, 0]
    assert found[0, 1] < 0.9 < 1.0 < found[1, 1]


@pytest.mark.parametrize("kind", ["flow", "terminal", "residual"])
def test_another_initial_process_is_forgotten(kind):
    """Goals that point to a path's end bring the plan back to the reference's; mean matching would keep the other."""
    off = {"slope": PARAMS["slope"].at[0].set(-1.0), "shift": PARAMS["shift"].at[0].set(0.5)}
    net = {"terminal": end, "residual": left}.get(kind, drift)
    method = bj.methods.simplified_dsb(
        (net, PARAMS), shape=(1,), reparameterise=kind, cache=N, optimizer="exact", ts=bj.grids.two_sided(STEPS),
        initial=off,
    )  # fmt: skip
    data, key = ends(N), jax.random.key(0)
    state, step = method.init(key, data), jax.jit(method.step)
    first = float(np.cov(*(np.asarray(state.pairs[name])[:, 0] for name in ("source", "target")))[0, 1])
    assert abs(first - 0.618) > 0.15  # the initial process has another plan
    every = {name: np.broadcast_to(x[:1], (N * STEPS, 1)) for name, x in data.items()}
    for k in range(6):
        state, _ = step(state, jax.random.fold_in(key, k), every)
        state = method.refresh(state, jax.random.fold_in(key, 10 + k), data)
    found = float(np.cov(*(np.asarray(state.pairs[name])[:, 0] for name in ("source", "target")))[0, 1])
    assert abs(found - 0.618) < 5 / np.sqrt(N) + 1.0 / STEPS


def test_steps_that_shrink_towards_both_ends_lose_less():
    """Data narrower than the last even step, 0.2 beside sigma sqrt(h) = 0.22; the same number of steps, shrinking."""
    data, key, spread = {name: 0.2 * x for name, x in ends(N).items()}, jax.random.key(0), {}
    every = {name: np.broadcast_to(x[:1], (N * 20, 1)) for name, x in data.items()}
    for name, grid in (("even", bj.grids.uniform(20)), ("default", None)):
        method = bj.methods.simplified_dsb((left, PARAMS), shape=(1,), cache=N, optimizer="exact", ts=grid)
        state, _ = jax.jit(method.step)(method.init(key, data), key, every)
        state = method.refresh(state, key, data)
        spread[name] = float(np.asarray(state.pairs["target"]).var()) / 0.2**2  # the truth is near 1
    error = 5 * 2 * np.sqrt(2 / N)
    assert 1.0 - error < spread["default"] < spread["even"] - 0.3 + error


def test_evaluations_are_counted():
    """Simplified DSB caches with half the evaluations of DSB."""
    calls = []

    def counted(params, t, x, args):
        jax.debug.callback(lambda: calls.append(1))
        return drift(params, t, x, args)

    used = []
    for make in (bj.methods.dsb, lambda *a, **k: bj.methods.simplified_dsb(*a, reparameterise="mean", **k)):
        method = make((counted, PARAMS), shape=(1,), cache=4, ts=bj.grids.uniform(5))
        state = method.init(jax.random.key(0), ends(8))
        jax.effects_barrier()
        calls.clear()
        method.refresh(state, jax.random.key(1), ends(8)).marginal_error.block_until_ready()
        jax.effects_barrier()
        used.append(len(calls))
    assert used == [5 * 2, 5]  # a step, for all paths together


def test_a_half_step_that_diverges_is_refused():
    """The cache of the last good one stays, and its network is trained on."""
    wild = {"slope": 1e3 * jnp.ones(6), "shift": jnp.zeros(6)}
    method = bj.methods.simplified_dsb(
        (drift, wild), reparameterise="flow", shape=(1,), cache=8, ts=bj.grids.uniform(4)
    )
    state = method.init(jax.random.key(0), ends(8))
    after = method.refresh(state, jax.random.key(1), ends(8))
    assert (int(after.rejected), int(after.round)) == (1, 0)
    assert not float(after.marginal_error) < 5.0
    np.testing.assert_array_equal(after.goal, state.goal)


@pytest.mark.slow
def test_a_trained_process_takes_the_place_of_the_first_half_step():
    """A bridge-matching run starts the forward network; paths from it are cached, and both directions run."""
    trained = bj.methods.bridge_matching(
        (left, jax.tree.map(lambda p: p + 0.1, PARAMS)), shape=(1,), sigma=1.0, ema=None
    )
    initial = trained.params(trained.init(jax.random.key(0), None))
    method = bj.methods.simplified_dsb((left, PARAMS), shape=(1,), cache=64, initial=initial, ts=bj.grids.uniform(6))
    state = bj.fit(
        method, bj.data.Pairs(*ends(64).values(), 32), jax.random.key(0), steps=2, refresh_every=2, log_every=2
    )
    assert int(state.round) == 1  # the first half-step is skipped
    np.testing.assert_allclose(state.nets.params["slope"][0] - 0.1, 0.0, atol=1e-7)  # untouched until its round
    process, keys = method.process(state), bj.keys(jax.random.key(1), 64)
    x = bj.sample(process, keys)
    assert np.isfinite(bj.sample(process, keys, x=x, direction="backward")).all()


def test_the_average_simulates():
    for ema in (0.9, None):
        method = make("dsb", cache=8, ts=bj.grids.uniform(4), optimizer=optax.sgd(0.1), ema=ema)
        state = method.init(jax.random.key(0), ends(8))
        for k in range(3):
            state, _ = method.step(state, jax.random.key(k), ends(8))
        raw, average = state.nets.params["slope"][0], state.nets.of(0)["slope"]
        assert bool(jnp.all(raw == average)) == (ema is None)
        x = method.process(state).dynamics.drift(0.3, jnp.ones(1), None)
        np.testing.assert_allclose(x, end(state.nets.of(0), jnp.array(0.3), jnp.ones(1), None), rtol=1e-5)


def make(name="simplified_dsb", **changes):
    given = {"network": (end, PARAMS), "shape": (1,), **changes}
    return getattr(bj.methods, name)(given.pop("network"), **given)


NANS = np.full((9, 1), np.nan, np.float32)
OTHER = {"slope": jnp.zeros(5), "shift": jnp.zeros(6)}
FLOW = bj.methods.bridge_matching((drift, PARAMS), shape=(1,), sigma=0.0, ema=None)
BAD = {
    "sigma": (lambda: make(sigma=0), "sigma must be positive"),
    "dsb sigma": (lambda: make("dsb", sigma=-1.0), "sigma must be positive"),
    "option": (lambda: make(reparameterise="noise"), "reparameterise must be one of"),
    "variance": (lambda: make(variance="std"), "variance must be one of"),
    "cache": (lambda: make(cache=-1), "cache must be an integer"),
    "ema": (lambda: make("dsb", ema=1.0), "ema"),
    "architecture": (lambda: make(initial=OTHER), "another architecture"),
    "mean": (lambda: make(initial=PARAMS, reparameterise="mean"), "initial goes with reparameterise 'residual'"),
    "half a grid": (lambda: make("dsb", ts=[0.0, 0.25, 0.5]), "ts must run from 0 to 1"),
    "grid backwards": (lambda: make(ts=[1.0, 0.5, 0.0]), "ts must increase"),
    "steps": (lambda: make("dsb", ts=20), "ts must hold at least two times"),
    "one-sided": (lambda: make(ts=bj.grids.quadratic(5)), "ts must be symmetric"),
    "source": (lambda: make("dsb", source=np.zeros((9, 2))), "source must have rows of shape"),
    "no source": (lambda: make(source=np.full((9, 1), np.nan)), "source holds numbers that are not finite"),
    "nan": (lambda: make("dsb").init(jax.random.key(0), {**ends(9), "target": NANS}), "target holds numbers that"),
    "prediction": (lambda: make(initial=FLOW.process(FLOW.init(jax.random.key(0), None))), "predict='residual'"),
    "dims": (lambda: make().init(jax.random.key(0), {**ends(9), "source": np.zeros((9, 2))}), "source rows of shape"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_step_of_a_path_has_the_posterior_s_variance_or_the_whole():
    """sigma^2 h (1 - u) / (1 - t), a Brownian bridge's step given its end, or sigma^2 h."""
    ts, sigma, n = jnp.array([0.0, 0.3, 0.6, 0.9]), 0.7, 4096

    def still(t, x, args):
        return 0.0 * x

    for posterior in (True, False):
        walk = jax.vmap(
            lambda key: rounds._walk(still, sigma, key, jnp.zeros(1), ts, posterior=posterior, twice=False)[0]
        )
        moves = np.diff(np.asarray(walk(bj.keys(jax.random.key(0), n)))[:, :, 0], axis=1)
        share = np.array([0.7, 0.4 / 0.7, 0.1 / 0.4]) if posterior else np.ones(3)
        assert np.all(np.abs(moves.var(axis=0) / (sigma**2 * 0.3 * share) - 1) < 5 * np.sqrt(2 / n))
