"""Iterative Markovian fitting against its exact sequence; [SF]2M against the Gaussian bridge; entropic couplings."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bridgejax as bj
from bridgejax import couplings
from bridgejax.methods import _alternating as rounds
from bridgejax.objectives import times

LEGENDRE = np.stack([np.pad(np.polynomial.legendre.leg2poly(np.eye(6)[k]), (0, 5 - k)) for k in range(6)])


def linear(params, t, x, args):
    """sqrt(1 - t) (slope(t) x + shift(t)), polynomials of degree 5 in time: linear in its parameters."""
    values = jnp.asarray(LEGENDRE, x.dtype) @ (2.0 * t - 1.0) ** jnp.arange(6)
    return jnp.sqrt(1.0 - t) * ((params["slope"] @ values) * x + params["shift"] @ values)


def plain(params, t, x, args):
    """slope(t) x + shift(t)."""
    return linear(params, t, x, args) / jnp.sqrt(1.0 - jnp.minimum(t, 0.999))


NET = (linear, {"slope": jnp.zeros(6), "shift": jnp.zeros(6)})


def ends(n, seed=0):
    """N(-0.5, 1) and N(0.5, 1), independent."""
    draws = np.random.default_rng(seed).normal(size=(2, n, 1)).astype(np.float32)
    return {"source": draws[0] - 0.5, "target": draws[1] + 0.5}


def covariance(pairs, clean):
    """Cov(x_0, x_1) by regression on the end that is N(., 1): s.e. sqrt((1 - c^2) / n)."""
    dirty = "source" if clean == "target" else "target"
    a, b = (np.asarray(pairs[name])[:, 0] for name in (clean, dirty))
    return float(np.cov(a, b)[0, 1] / a.var())


def test_the_sequence_of_markovian_fitting():
    """0.5463, 0.6111, 0.6174, 0.6180 with a regressor solved in closed form, by the code that trains networks."""
    n = 60_000
    data = ends(n)
    method = bj.methods.dsbm(
        NET,
        shape=(1,),
        cache=n,
        optimizer="exact",
        ema=None,
        time_sampler=times.low_discrepancy(0.0, 1.0),
        ts=bj.grids.uniform(64),
    )
    traces, key = [], jax.random.key(0)
    state = method.init(key, data)

    @jax.jit
    def step(*arguments):
        traces.append(1)
        return method.step(*arguments)

    state, _ = step(state, jax.random.fold_in(key, 100), data)  # forward
    found, gaps = [], []
    for k in range(4):
        state, metrics = step(state, jax.random.fold_in(key, k), data)
        state = method.refresh(state, jax.random.fold_in(key, 10 + k), data)
        assert int(state.round) == k + 1
        found.append(covariance(state.pairs, "target" if k % 2 == 0 else "source"))
        gaps.append(float(state.marginal_error))
    # about 1.4 / sqrt(n) over four seeds, the regression included; 100 steps cost 0.005 at n = 10^6, so 64 some 0.008
    bound = 5 * 1.4 / np.sqrt(n) + 0.008
    np.testing.assert_allclose(found, [0.5463, 0.6111, 0.6174, 0.6180], atol=bound)
    assert found[0] < 0.585 < min(found[1:])
    assert max(gaps) < 0.05
    assert len(traces) == 1  # not one more in any round


def test_a_round_that_diverges_is_refused():
    """A network whose drift explodes: the pairs of the last good round stay, and the round is not begun."""
    params = {"slope": 1e3 * jnp.ones(6), "shift": jnp.zeros(6)}
    method = bj.methods.dsbm((linear, params), shape=(1,), cache=32, ts=bj.grids.uniform(4))
    good = bj.methods.dsbm(NET, shape=(1,), cache=32, ts=bj.grids.uniform(4))
    for way, refused in ((method, 1), (good, 0)):
        state = way.init(jax.random.key(0), ends(32))
        after = way.refresh(state, jax.random.key(1), ends(32))
        assert (int(after.rejected), int(after.round)) == (refused, 1 - refused)
        assert (float(after.marginal_error) < 5.0) == (refused == 0)
        same = np.array_equal(after.pairs["source"], state.pairs["source"])
        assert same == (refused == 1)


def leaps(after):
    """Nothing for this many updates, then a change at each too large for its paths, too small for ``LossExplosion``."""
    leap = lambda count: lambda g: jnp.full_like(g, jnp.where(count < after, 0.0, 1e2))  # noqa: E731
    return optax.GradientTransformation(
        lambda params: jnp.zeros((), jnp.int32),
        lambda updates, count, params=None: (jax.tree.map(leap(count), updates), count + 1),
    )


def test_rounds_that_do_not_come_back_end_the_training(tmp_path):
    """The third refusal in a row, no closer, stops; what was learnt up to the last good refresh is what is left."""
    method = bj.methods.dsbm(
        NET, shape=(1,), cache=32, ts=bj.grids.uniform(4), ema=None, optimizer=leaps(after=2), max_marginal_error=3.0
    )
    data = bj.data.Pairs(*ends(64).values(), 16)
    options = {"refresh_every": 2, "log_every": 1, "directory": tmp_path}
    with pytest.raises(bj.training.Diverged, match="after round 1 simulated paths end .* third time in a row") as stop:
        bj.fit(method, data, jax.random.key(0), steps=40, **options)
    state = stop.value.state
    assert (int(state.round), int(state.rejected)) == (1, 0)
    np.testing.assert_array_equal(state.nets.params["slope"], 0.0)  # as they were at the refresh before the leaps
    x = bj.sample(method.process(state), bj.keys(jax.random.key(1), 8))
    assert np.isfinite(x).all()
    at = bj.training.latest_step(tmp_path / "checkpoints")
    found = bj.fit(method, data, jax.random.key(0), steps=at + 1, **options)
    assert int(found.step) == int(state.step) + 1
    np.testing.assert_array_equal(found.nets.params["slope"], 0.0)


def test_far_ends_that_come_closer_go_on():
    """A target far away is refused until the network has learnt the way: slow is not diverged."""
    far = {"source": ends(64)["source"], "target": ends(64)["target"] + 30.0}
    crawl = optax.sgd(0.01)
    method = bj.methods.dsbm(NET, shape=(1,), cache=64, ts=bj.grids.uniform(8), ema=None, optimizer=crawl)
    data = bj.data.Pairs(far["source"], far["target"], 64)
    state = bj.fit(method, data, jax.random.key(0), steps=16, refresh_every=2, log_every=1)
    assert int(state.rejected) >= 3
    assert 5.0 < float(state.marginal_error) < 2.0 * 30.0


def test_an_end_without_variance_is_near():
    """Points all alike: how near is asked in terms of the way there, not of a spread that is nought."""
    x = ends(256)["source"]
    net = (lambda p, t, x, args: (5.0 - x) / jnp.sqrt(1.0 - t) * p["a"], {"a": jnp.ones(())})
    method = bj.methods.dsbm(net, shape=(1,), cache=256, sigma=0.1, ts=bj.grids.uniform(100))
    state = method.init(jax.random.key(0), {"source": x, "target": np.full_like(x, 5.0)})
    state = state._replace(round=jnp.asarray(1, jnp.int32))
    after = method.refresh(state, jax.random.key(1), {"source": x, "target": np.full_like(x, 5.0)})
    assert int(after.rejected) == 0
    assert float(after.marginal_error) < 1.0


@pytest.mark.slow
def test_one_round_of_a_network_keeps_the_other():
    method = bj.methods.dsbm(NET, shape=(1,), cache=64, ts=bj.grids.uniform(4))
    x = list(ends(64).values())
    state = bj.fit(method, bj.data.Pairs(*x, 32), jax.random.key(0), steps=8, refresh_every=4, log_every=4)
    assert state.nets.counts.tolist() == [2 + 4, 2]  # in turn, then forward only
    process = method.process(state)
    keys = bj.keys(jax.random.key(1), 64)
    assert bj.sample(process, keys, x=jnp.asarray(x[1]), direction="backward").shape == (64, 1)
    assert bj.sample(process, keys).shape == (64, 1)


def test_the_noise_of_sf2m_is_chosen_when_sampling():
    """Between the two Gaussians: every g keeps the marginals; g = sigma has the bridge's covariance, g = 0 has 1."""
    data, steps = ends(20_000), 250
    coupled = bj.data.Pairs(data["source"], data["target"], 128, coupling=couplings.EntropicOT(1.0))
    options = dict(shape=(1,), ema=0.95, ts=bj.grids.uniform(50), source=data["source"])
    optimizer = optax.adam(optax.cosine_decay_schedule(5e-2, steps))
    method = bj.methods.sf2m((plain, NET[1]), optimizer=optimizer, **options)
    state = bj.fit(method, coupled, jax.random.key(0), steps=steps)
    other = bj.methods.sf2m((plain, NET[1]), noise=0.0, **options)
    n = 8000
    x0, keys = jnp.asarray(ends(n, 1)["source"]), bj.keys(jax.random.key(1), n)
    error = 5 / np.sqrt(n) + 0.05  # and what 250 steps leave
    for process, cov in ((method.process(state), 0.618), (other.process(state), 1.0)):
        x1 = bj.sample(process, keys, x=x0)
        assert abs(float(x1.mean()) - 0.5) < error
        assert abs(float(x1.std()) - 1.0) < error
        assert abs(covariance({"source": x0, "target": x1}, "source") - cov) < error
    back = bj.sample(method.process(state), keys, x=jnp.asarray(ends(n, 2)["target"]), direction="backward")
    assert abs(float(back.mean()) + 0.5) < error
    assert abs(float(back.std()) - 1.0) < error


@pytest.mark.parametrize("epsilon", [1e-2, 0.3, 1e4])
def test_sinkhorn(epsilon):
    """Marginals, the form exp((f + g - c) / epsilon), and both limits."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(2, 40, 2))
    plan = couplings.sinkhorn(x, y, epsilon)
    np.testing.assert_allclose(plan.sum(0), 1 / 40, rtol=1e-9)
    np.testing.assert_allclose(plan.sum(1), 1 / 40, rtol=2e-3)
    cost = 0.5 * ((x[:, None] - y[None]) ** 2).sum(-1)
    if epsilon == 0.3:
        free = np.log(plan) + cost / epsilon
        free -= free.mean(0) + free.mean(1)[:, None] - free.mean()
        np.testing.assert_allclose(free, 0.0, atol=1e-8)
    if epsilon == 1e-2:
        best = cost[np.arange(40), couplings.assignment(x, y)].mean()
        assert abs((plan * cost).sum() / best - 1) < 0.1
    if epsilon == 1e4:
        np.testing.assert_allclose(plan, 1 / 1600, rtol=1e-2)
    i, j = couplings.EntropicOT(epsilon)(random, x, y)
    assert i.tolist() == list(range(40))
    assert 0 <= j.min() <= j.max() < 40


def test_entropic_draws_have_the_law_of_the_plan():
    random = np.random.default_rng(1)
    x, y = random.normal(size=(2, 6, 1))
    plan, coupling, n = couplings.sinkhorn(x, y, 0.5), couplings.EntropicOT(0.5), 2000
    counts = np.zeros((6, 6))
    for _ in range(n):
        np.add.at(counts, coupling(random, x, y), 1)
    given = plan / plan.sum(1, keepdims=True)
    assert np.all(np.abs(counts / n - given) < 5 * np.sqrt(given * (1 - given) / n) + 1e-3)


def make(name="dsbm", **changes):
    given = {"network": NET, "shape": (1,), **changes}
    return getattr(bj.methods, name)(given.pop("network"), **given)


BAD = {
    "sigma": (lambda: make(sigma=0.0), "sigma must be positive"),
    "sf2m": (lambda: make("sf2m", sigma=-1.0), "sigma must be positive"),
    "noise": (lambda: make("sf2m", noise=-1.0), "noise must be >= 0"),
    "optimizer": (lambda: make(optimizer="newton"), "optax transformation or 'exact'"),
    "ema": (lambda: make(ema=2.0), "ema must be a decay"),
    "half a grid": (lambda: make(ts=[0.0, 0.25, 0.5]), "ts must run from 0 to 1"),
    "sf2m grid": (lambda: make("sf2m", ts=bj.grids.uniform(9, start=0.1)), "ts must run from 0 to 1"),
    "source": (lambda: make("sf2m", source=np.zeros((9, 2))), "source must have rows of shape"),
    "nan": (lambda: make().init(jax.random.key(0), {**ends(9), "source": np.full((9, 1), np.inf)}), "not finite"),
    "shape": (lambda: make(shape="two"), "shape must be a tuple of integers"),
    "cache": (lambda: make(cache=0), "cache must be an integer"),
    "dims": (lambda: make().init(jax.random.key(0), {**ends(9), "target": np.zeros((9, 2))}), "target rows of shape"),
    "epsilon": (lambda: couplings.EntropicOT(0.0), "epsilon must be a positive"),
    "rounds": (lambda: bj.fit(make(), ends(9), jax.random.key(0), steps=2, batch_size=4), "works in rounds"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_sf2m_lands_on_the_ends_that_its_heads_know():
    """With x_1 - x_0 and eps as they were drawn, x_t = (1 - t) x_0 + t x_1 + c eps leads to x_1 and back to x_0."""
    x0, x1, eps, t, sigma = *np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32), 0.3, 0.7
    told = (lambda params, t, x, args: params + 0.0 * x, jnp.zeros(2))
    method = bj.methods.sf2m(told, shape=(2,), sigma=sigma, ema=None)
    state = method.init(jax.random.key(0), None)
    process = method.process(state._replace(params={"displacement": jnp.asarray(x1 - x0), "eps": jnp.asarray(eps)}))
    x = jnp.asarray((1 - t) * x0 + t * x1 + sigma * np.sqrt(t * (1 - t)) * eps)
    np.testing.assert_allclose(
        process.dynamics.terminal_kernel.sample(jax.random.key(1), t, 1.0, x, None), x1, atol=1e-5
    )
    np.testing.assert_allclose(
        process.backward.terminal_kernel.sample(jax.random.key(1), 1 - t, 1.0, x, None), x0, atol=1e-5
    )


def test_the_gap_of_a_round_by_hand():
    x, truth, begin = np.array([[1.0], [3.0]]), np.array([[0.0], [4.0]]), np.zeros((2, 1))
    assert float(rounds.marginal_error(*map(jnp.asarray, (x, truth, begin)))) == pytest.approx(1.0 / 2.0)
    far = truth + np.array([[3.0]])  # means 5 and 2, deviations 2 and 1
    assert float(rounds.marginal_error(*map(jnp.asarray, (x, far, begin)))) == pytest.approx(np.sqrt(9 + 1) / 2.0)
    point = np.full((2, 1), 100.0)  # no spread of its own: a hundredth of the way
    assert float(rounds.marginal_error(*map(jnp.asarray, (x, point, begin)))) == pytest.approx(np.sqrt(98**2 + 1) / 1.0)


def test_the_drift_of_sf2m_has_half_of_the_noise_chosen():
    """displacement + (c' - g^2 / (2 c)) eps, and backward -displacement - (c' + g^2 / (2 c)) eps."""
    t, sigma, g = 0.3, 0.7, 0.4
    told = (lambda params, t, x, args: params + 0.0 * x, jnp.zeros(1))
    method = bj.methods.sf2m(told, shape=(1,), sigma=sigma, noise=g, ema=None)
    state = method.init(jax.random.key(0), None)
    process = method.process(state._replace(params={"displacement": jnp.array([1.1]), "eps": jnp.array([-0.6])}))
    c, slope = sigma * np.sqrt(t * (1 - t)), sigma * (1 - 2 * t) / (2 * np.sqrt(t * (1 - t)))
    x = jnp.zeros(1)
    np.testing.assert_allclose(process.dynamics.drift(t, x, None), [1.1 - 0.6 * (slope - g**2 / (2 * c))], rtol=1e-5)
    np.testing.assert_allclose(
        process.backward.drift(1 - t, x, None), [-1.1 + 0.6 * (slope + g**2 / (2 * c))], rtol=1e-5
    )
