"""Learnt bridges to a set: the optimum in closed form, the bound, and a trained network's law."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.tree_util import Partial

import bridgejax as bj
from bridgejax import domains
from bridgejax.methods.generative.constrained import check_data

POINTS = jnp.array([[0.0, 1.0], [1.5, -0.5], [-1.0, -1.0], [0.3, 0.2]])
TARGET = np.array([0.1, 0.2, 0.55, 0.15])
SCHEDULE = bj.schedules.brownian(0.9)


def optimal(params, t, x, args):
    """f* of the target weights; params multiplies it, so 1 is optimal and 0 the reference."""
    tilt = jnp.log(jnp.float32(TARGET)) + 0.5 * jnp.sum(POINTS**2, axis=1) / 0.81
    variance = jnp.maximum(0.81 * (1.0 - t), 1e-12)
    logits = -0.5 * jnp.sum((POINTS - x) ** 2, axis=1) / variance
    wanted, plain = (jax.nn.softmax(v) @ POINTS for v in (logits + tilt, logits))
    return params * 0.9 / variance * (wanted - plain)


def data(n, seed=0):
    return np.asarray(POINTS)[np.random.default_rng(seed).choice(4, n, p=TARGET)]


def shares(x):
    return np.all(np.asarray(x)[:, None, :] == np.asarray(POINTS)[None], axis=-1).mean(0)


def test_the_loss_is_least_at_the_closed_form():
    """Zero gradient at 1 within 5 s.e., and off it not."""
    losses = {}
    for scale in (0.0, 1.0):
        method = bj.methods.constrained(
            domains.FinitePoints(POINTS),
            SCHEDULE,
            (optimal, jnp.float32(scale)),
            shape=(2,),
            predict="residual",
            optimizer=optax.sgd(1.0),
            ema=None,
        )
        state, moved = method.init(jax.random.key(0), None), []
        step = jax.jit(method.step)
        for k in range(20):
            after, metrics = step(state, jax.random.key(k), jnp.asarray(data(1000, k)))
            moved.append(float(after.params - state.params))
            losses.setdefault(scale, []).append(float(metrics["loss"]))
        error = np.std(moved) / np.sqrt(20)
        if scale == 1.0:
            assert abs(np.mean(moved)) < 5 * error
        else:
            assert np.mean(moved) > 10 * error
    assert np.mean(losses[1.0]) < np.mean(losses[0.0])


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_the_bound_is_tight_where_it_should_be(scale):
    """f = 0: -log of the reference's law; f = f*: -log of the target, averaged over the data (a fixed start)."""
    method = bj.methods.constrained(
        domains.FinitePoints(POINTS),
        SCHEDULE,
        (optimal, jnp.float32(scale)),
        shape=(2,),
        predict="residual",
        ema=None,
        ts=bj.grids.uniform(50),
    )
    state, n = method.init(jax.random.key(0), None), 4000
    logits = -0.5 * np.sum(np.asarray(POINTS) ** 2, axis=1) / 0.81
    law = TARGET if scale else np.exp(logits) / np.exp(logits).sum()
    bound = jax.jit(jax.vmap(lambda k, x: method.log_prob(state, k, x), (0, None)))
    found = [bound(bj.keys(jax.random.key(k), n), x) for k, x in enumerate(POINTS)]
    assert found[0].kind == "bound"
    means = np.array([float(jnp.mean(f.value)) for f in found])
    errors = np.array([float(jnp.std(f.value)) for f in found]) / np.sqrt(n)
    assert np.all(errors < 0.05)
    # the landing holds f over its interval: an error of its order, here below 0.01 nats
    assert abs(np.sum(law * (means - np.log(law)))) < 5 * np.sqrt(np.sum((law * errors) ** 2)) + 0.01 * scale
    assert np.all(means < np.log(law) + 5 * errors + 0.02 * scale)  # a lower bound of log p for every point


def expected_end(params, t, x, args):
    """The F whose end is E[x_T | x_t] under the target weights, from a start at 0."""
    variance = jnp.maximum(0.81 * (1.0 - t), 1e-12)
    return optimal(params, t, x, args) * jnp.sqrt(variance * (1.0 + variance)) / 0.9


@pytest.mark.slow
def test_a_network_that_predicts_the_end():
    """The same drift as the control it stands for; the loss is least there; the law is the target's."""
    ends = bj.methods.constrained(
        domains.FinitePoints(POINTS), SCHEDULE, (expected_end, jnp.float32(1.0)), shape=(2,), ema=None
    )
    controls = bj.methods.constrained(
        domains.FinitePoints(POINTS), SCHEDULE, (optimal, jnp.float32(1.0)), shape=(2,), predict="residual", ema=None
    )
    one, two = (m.process(m.init(jax.random.key(0), None)) for m in (ends, controls))
    for t in (0.0, 0.4, 0.9):
        x = jnp.array([0.2, -0.6])
        np.testing.assert_allclose(one.dynamics.drift(t, x, None), two.dynamics.drift(t, x, None), rtol=1e-3, atol=1e-3)
    n = 20_000
    got = shares(bj.sample(one, bj.keys(jax.random.key(1), n)))
    assert np.abs(got - TARGET).sum() / 2 < 5 * np.sqrt(np.sum(TARGET * (1 - TARGET)) / n) + 0.01
    assert np.isfinite(
        ends.step(ends.init(jax.random.key(0), None), jax.random.key(0), jnp.asarray(data(64)))[1]["loss"]
    )


def weights_of_the_target(params, t, x, args):
    """The best tilt of one table of points is a constant."""
    return jnp.log(jnp.float32(TARGET)) + params * 0.5 * jnp.sum(POINTS**2, axis=1) / 0.81


@pytest.mark.slow
def test_a_constant_tilt_is_the_target():
    """From a start at 0: the same drift as the control it stands for, and a bound that is tight for every point."""
    tilted = bj.methods.constrained(
        domains.FinitePoints(POINTS),
        SCHEDULE,
        (weights_of_the_target, jnp.float32(1.0)),
        shape=(2,),
        predict="tilt",
        ema=None,
        ts=bj.grids.uniform(50),
    )
    state = tilted.init(jax.random.key(0), None)
    process = tilted.process(state)
    control = bj.constrain(SCHEDULE, domains.FinitePoints(POINTS), Partial(optimal, jnp.float32(1.0)))
    for t in (0.0, 0.4, 0.9):
        x = jnp.array([0.2, -0.6])
        np.testing.assert_allclose(process.dynamics.drift(t, x, None), control.drift(t, x, None), rtol=1e-3, atol=1e-3)
    n = 4000
    bound = jax.jit(jax.vmap(lambda k, x: tilted.log_prob(state, k, x), (0, None)))
    for point, weight in zip(POINTS, TARGET, strict=True):
        values = np.asarray(bound(bj.keys(jax.random.key(1), n), point).value)
        # for one point it lies below; weighed by the target the gaps add up to nothing but the last interval's
        assert values.mean() < np.log(weight) + 5 * values.std() / np.sqrt(n) + 0.02
    loss = tilted.step(state, jax.random.key(0), jnp.asarray(data(64)))[1]["loss"]
    assert 0.0 < float(loss) < np.log(4.0)


@pytest.mark.parametrize("domain", [domains.IntegerGrid(-1, 1, 0.5), domains.Categorical(3)], ids=["levels", "labels"])
def test_tilted_laws_are_the_weighed_ones(domain):
    """P(k) of the tilted law against P(k) exp(tilt_k) / sum; mean and draws agree with it."""
    count = 5 if isinstance(domain, domains.Levels) else 3
    tilt, mean, v = jnp.linspace(-1.0, 2.0, count) ** 2, jnp.array([0.3, -0.2, 0.1][: 1 if count == 5 else 3]), 0.3
    tilt = tilt if count == 3 else tilt[None]
    assert domain.tilt_shape(mean.shape) == tilt.shape
    values = np.asarray(domain.levels)[:, None] if count == 5 else np.eye(3)
    log_prob = jax.jit(jax.vmap(lambda y, tilt: domain.log_prob(y, mean, v, tilt), (0, None)))
    plain = np.exp(log_prob(jnp.asarray(values, jnp.float32), jnp.zeros(tilt.shape)))
    wanted = plain * np.exp(np.asarray(tilt).ravel())
    wanted /= wanted.sum()
    np.testing.assert_allclose(np.exp(log_prob(jnp.asarray(values, jnp.float32), tilt)), wanted, rtol=1e-5)
    np.testing.assert_allclose(domain.expectation(mean, v, tilt), wanted @ values, rtol=1e-5)
    n = 20_000
    draws = jax.jit(jax.vmap(lambda k: domain.sample(k, mean, v, tilt)))(bj.keys(jax.random.key(0), n))
    got = np.all(np.asarray(draws)[:, None] == values[None], axis=-1).mean(0)
    assert np.all(np.abs(got - wanted) < 5 * np.sqrt(wanted * (1 - wanted) / n) + 1e-6)


@pytest.fixture(scope="module")
def trained():
    method = bj.methods.constrained(
        domains.FinitePoints(POINTS),
        SCHEDULE,
        bj.networks.MLP((2,), outputs=(4,), width=32, depth=1, rngs=nnx.Rngs(0)),
        shape=(2,),
        predict="tilt",
        ema=0.99,
        optimizer=optax.adam(optax.cosine_decay_schedule(3e-3, 400)),
        ts=bj.grids.deviation(60, SCHEDULE),
    )
    return method.process(bj.fit(method, data(20_000), jax.random.key(0), steps=400, batch_size=512))


def test_a_trained_network_has_the_law(trained):
    """Total variation at most the sampling floor + 0.015."""
    n = 20_000
    x = bj.sample(trained, bj.keys(jax.random.key(1), n))
    got = shares(x)
    np.testing.assert_allclose(got.sum(), 1.0, rtol=1e-6)  # every sample is a point, exactly
    floor = np.mean([np.abs(shares(data(n, s)) - TARGET).sum() / 2 for s in range(1, 21)])
    assert np.abs(got - TARGET).sum() / 2 < floor + 0.015


TABLE = domains.Product([domains.Reals(), domains.Box(0.0, 1.0), domains.Categorical(3)], [1, 1, 3])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("domain", "shape", "weighting"),
    [(TABLE, (5,), None), (domains.IntegerGrid(-1, 1, 0.125), (4, 4, 1), "drift")],
    ids=["mixed columns", "levels"],
)
def test_other_shapes_train_and_stay_inside(domain, shape, weighting):
    """One step, and not a sample outside."""
    net = (lambda w, t, x, args: jnp.tanh(w * x), jnp.float32(0.5))
    predict = "end" if weighting is None else "residual"
    method = bj.methods.constrained(
        domain, None, net, shape=shape, predict=predict, weighting=weighting, ts=bj.grids.uniform(5)
    )
    rows = jax.jit(jax.vmap(domain.snap))(jax.random.normal(jax.random.key(0), (64, *shape)))
    check_data(domain, rows)
    state = bj.fit(method, np.asarray(rows), jax.random.key(1), steps=2, batch_size=32)
    x = bj.sample(method.process(state), bj.keys(jax.random.key(2), 64))
    assert bool(jnp.all(jax.vmap(domain.contains)(x)))


NET = (lambda params, t, x, args: params * x, jnp.float32(0.1))


def make(**changes):
    given = {"domain": domains.Box(-1.0, 1.0), "schedule": SCHEDULE, "network": NET, "shape": (2,), **changes}
    return bj.methods.constrained(given.pop("domain"), given.pop("schedule"), given.pop("network"), **given)


BAD = {
    "weighting": (lambda: make(weighting="none"), "weighting must be one of"),
    "predict": (lambda: make(predict="eps"), "predict must be one of"),
    "both": (lambda: make(predict="end", weighting="drift"), "weighting belongs to"),
    "tilt": (lambda: make(predict="tilt"), "a tilt needs a finite set"),
    "start": (lambda: make(start=np.zeros(3)), "start must be a number or have shape"),
    "shape": (lambda: make(domain=domains.Categorical(4)), "last axis of 4"),
    "one step": (lambda: make(ts=jnp.array([0.0, 1.0])), "at least two steps"),
    "ts": (lambda: make(ts=bj.grids.uniform(5, 0.5)), "ts must end at T"),
    "schedule": (lambda: make(schedule=bj.schedules.rectified()), "forgets its start"),
    "domain": (lambda: make(domain="box"), "domain must have the methods"),
    "data": (lambda: check_data(domains.Box(0.0, 1.0), np.array([[0.5], [1.5]])), "row 1 first"),
    "pairs": (
        lambda: make().step(
            make().init(jax.random.key(0), None),
            jax.random.key(0),
            {"source": jnp.ones((4, 2)), "target": jnp.ones((4, 2))},
        ),
        "start at one point",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_the_last_step_is_a_step_and_no_clamp():
    """Onto a box: no coordinate on an edge, and a move of the size that the reference itself makes."""
    box = domains.Box(-0.3, 0.4)
    process = bj.Process(bj.starts.point(jnp.zeros(2)), bj.constrain(SCHEDULE, box), bj.grids.uniform(20))
    keys = bj.keys(jax.random.key(0), 2000)
    found = bj.methods.last_step(SCHEDULE, box, process, keys)
    assert found["edges"] == 0.0
    assert 0.5 < found["move"] / found["deviation"] < 1.2  # a clamp moves next to nothing, a jump far more
    np.testing.assert_allclose(found["deviation"], 0.9 * np.sqrt(1 / 20), rtol=1e-5)
