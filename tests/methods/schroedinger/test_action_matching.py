"""Action Matching on Gaussian paths, where the potential is a polynomial: minimum, minimiser and process."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bridgejax as bj
from bridgejax.methods.schroedinger._snapshots import check_clock
from bridgejax.methods.schroedinger.action_matching import _loss

FIRST, LAST = 2.0, 4.0  # a clock that does not begin at 0 nor last a unit
CLOCK = check_clock([FIRST, LAST])
SPEED, KAPPA, N = 0.8, 0.3, 60_000


def polynomial(params, u, x, args):
    """x, x^2, each times 1, u, u^2, and 1, u."""
    powers = jnp.stack([jnp.ones(()), u, u**2])
    return params @ jnp.concatenate([powers[:2], powers * x[0], powers * x[0] ** 2])


def path(noise, unbalanced):
    """Mean, deviation and mass at time t, and the truth: grad s* = b0 + b1 (x - mean) and its least action."""
    if unbalanced:  # s* = rate + b (x - mean), b = speed / (1 + variance)
        variance, rate = 0.6, 0.25
        slope = SPEED / (1 + variance)
        mass = (np.exp(2 * rate) - 1) / rate
        action = -0.5 * mass * (slope**2 * (1 + variance) + rate**2)
        return lambda t: (SPEED * (t - FIRST), variance**0.5 + 0 * t, np.exp(rate * (t - FIRST))), (slope, 0.0), action
    if noise:  # constant deviation: the noise is undone
        deviation = 0.7
        action = -0.5 * 2 * (SPEED**2 + 0.25 * noise**4 / deviation**2)
        return (
            lambda t: (SPEED * (t - FIRST), deviation + 0 * t, 1 + 0 * t),
            (SPEED, -0.5 * noise**2 / deviation**2),
            action,
        )
    # deviation exp(-kappa t): velocity m' - kappa (x - m)
    action = -0.5 * (2 * SPEED**2 + KAPPA * (1 - np.exp(-4 * KAPPA)) / 2)
    return lambda t: (SPEED * (t - FIRST), np.exp(-KAPPA * (t - FIRST)), 1 + 0 * t), (SPEED, -KAPPA), action


def batch_of(law, seed):
    """Rows that stand at times of their own, evenly spread: source and target are one."""
    rng = np.random.default_rng(seed)
    t = FIRST + (LAST - FIRST) * (np.arange(N) + rng.uniform(size=N)) / N
    z = rng.normal(size=(3, N))
    at = [mean + deviation * eps for (mean, deviation, _), eps in zip((law(t), law(FIRST), law(LAST)), z, strict=True)]
    x, first, last = (np.asarray(part, np.float32)[:, None] for part in at)
    mass = np.stack([law(t)[2], law(t)[2], np.full(N, law(LAST)[2])], axis=1)
    time = np.float32(t)
    weight = np.full(N, LAST - FIRST, np.float32)
    return {"source": x, "target": x, "start": time, "end": time, "weight": weight, "first": first, "last": last,
            "mass": np.float32(mass)}  # fmt: skip


CASES = {"plain": (0.0, False), "entropic": (0.9, False), "unbalanced": (0.0, True)}


@pytest.mark.parametrize("name", CASES)
def test_the_least_action_and_its_gradient_field(name):
    noise, unbalanced = CASES[name]
    law, (b0, b1), truth = path(noise, unbalanced)
    loss = partial(_loss, polynomial, (1,), CLOCK, noise, "exact", growth=unbalanced)
    value = lambda p, batch: loss(p, bj.keys(jax.random.key(0), N), batch)[0]  # noqa: E731
    derivatives = jax.jit(lambda p, batch: (value(p, batch), jax.grad(value)(p, batch), jax.hessian(value)(p, batch)))
    _, gradient, hessian = (np.asarray(part, np.float64) for part in derivatives(jnp.zeros(8), batch_of(law, 1)))
    used = np.ones(8, bool) if unbalanced else np.arange(8) >= 2  # the constant of s has no part in a plain action
    found = np.zeros(8)
    found[used] = np.linalg.solve(hessian[np.ix_(used, used)] + 1e-7 * np.eye(used.sum()), -gradient[used])
    found = jnp.asarray(found, jnp.float32)
    least = float(derivatives(found, batch_of(law, 2))[0])  # of rows it has not seen
    assert abs(least - truth) < 0.01 * abs(truth)
    potential = lambda t, x: polynomial(found, CLOCK.unit(t), x, None)  # noqa: E731
    for t in (2.3, 3.0, 3.7):
        mean, deviation, _ = law(t)
        for y in (-1.0, 0.5, 1.0):
            slope = float(jax.grad(potential, argnums=1)(t, jnp.array([mean + deviation * y], jnp.float32))[0])
            assert abs(slope - (b0 + b1 * deviation * y)) < 0.05


@pytest.mark.parametrize(("noise", "growth"), [(0.0, False), (1.5, False), (1.5, True)])
def test_along_their_paths_rows_have_the_same_action(noise, growth):
    """The two forms of the loss, of pairs that turn and grow, at a polynomial that is not the best."""
    rng, n = np.random.default_rng(0), 20_000
    x = rng.normal(size=(n, 1)).astype(np.float32)
    y = np.float32(0.5 - 0.8 * x + 0.3 * rng.normal(size=x.shape))
    times = {"start": np.full(n, FIRST, np.float32), "end": np.full(n, LAST, np.float32)}
    along = {"source": x, "target": y, "weight": np.full(n, LAST - FIRST, np.float32), **times}
    along["mass"] = np.tile(np.float32([1.0, 1.7, 1.7]), (n, 1))
    apart = {**along, "first": x[rng.permutation(n)], "last": y[rng.permutation(n)]}
    loss = partial(_loss, polynomial, (1,), CLOCK, noise, "exact", growth=growth)
    params = jnp.asarray(0.1 * rng.normal(size=8), jnp.float32)
    one = jax.jit(jax.vmap(jax.grad(lambda p, k, b: loss(p, k, b)[0]), (None, 0, 0)))
    found = []
    for batch in (along, apart):
        rows = jax.tree.map(lambda leaf: leaf[:, None], batch)
        g = np.asarray(one(params, bj.keys(jax.random.key(len(batch)), n)[:, None], rows), np.float64)
        found.append((g.mean(0), g.std(0) / np.sqrt(n)))
    (a, da), (b, db) = found
    used = np.arange(8) >= (0 if growth else 2)
    assert np.all(np.abs(a - b)[used] < 5 * np.hypot(da, db)[used])
    assert np.max(np.abs(a)) > 20 * np.max(da)  # else agreement would say nothing


def told(law, b0, b1, unbalanced):
    """The exact potential as a network."""

    def network(params, u, x, args):
        t = FIRST + u * (LAST - FIRST)
        y = x[0] - SPEED * (t - FIRST)
        return b0 * y + 0.5 * b1 * y**2 + (0.25 if unbalanced else 0.0) + 0.0 * params

    return network, jnp.zeros(())


@pytest.mark.parametrize("name", CASES)
def test_the_process_runs_through_the_laws(name):
    noise, unbalanced = CASES[name]
    law, (b0, b1), _ = path(noise, unbalanced)
    n, (mean, deviation, _) = 4000, law(FIRST)
    rows = mean + deviation * np.random.default_rng(0).normal(size=(20_000, 1))
    method = bj.methods.action_matching(
        told(law, b0, b1, unbalanced),
        shape=(1,),
        times=[FIRST, 2.5, LAST],
        noise=noise,
        unbalanced=unbalanced,
        source=rows,
    )
    process = method.process(method.init(jax.random.key(0), None))
    for t in (0.9, LAST - FIRST):
        out = bj.sample(bj.stop(process, t), bj.keys(jax.random.key(1), n))
        mean, deviation, mass = law(FIRST + t)
        x, w = (np.asarray(out["x"][:, 0]), np.exp(np.asarray(out["log_weight"]))) if unbalanced else (
            np.asarray(out[:, 0]), np.ones(n))  # fmt: skip
        for values, truth in ((w, mass), (w * x, mass * mean), (w * x**2, mass * (mean**2 + deviation**2))):
            error = values.std() / np.sqrt(n) + 0.01  # of a hundred steps
            assert abs(values.mean() - truth) < 5 * error


def test_rows_of_the_first_snapshot_by_their_weights():
    rows, weights = np.array([[1.0], [2.0], [3.0]]), [0.0, 3.0, 1.0]
    method = bj.methods.action_matching(
        (lambda p, t, x, args: 0.0 * p * x.sum(), jnp.zeros(())), shape=(1,), source=rows, source_weights=weights
    )
    x = np.asarray(bj.sample(method.process(method.init(jax.random.key(0), None)), bj.keys(jax.random.key(0), 2000)))
    assert abs(np.mean(x == 2.0) - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 2000)
    assert not np.any(x == 1.0)


def test_fit_takes_snapshots_as_they_are():
    data = bj.data.Snapshots([0.0, 1.0, 2.0], [np.random.default_rng(k).normal(k, 1.0, (40, 2)) for k in range(3)])
    method = bj.methods.action_matching(shape=(2,), times=data.times, source=data.arrays[0])
    state = bj.fit(method, data, jax.random.key(0), steps=2, batch_size=8)
    assert int(state.step) == 2
    with pytest.raises(ValueError, match="batch_size is needed to draw batches from Snapshots"):
        bj.fit(method, data, jax.random.key(0), steps=2)
    with pytest.raises(ValueError, match="action_matching learns from snapshots in time"):
        bj.fit(method, np.zeros((8, 2), np.float32), jax.random.key(0), steps=2, batch_size=8)
    other = bj.methods.action_matching(shape=(3,), times=data.times)
    with pytest.raises(ValueError, match=r"source rows of shape \(2,\), and action_matching was made for \(3,\)"):
        bj.fit(other, data, jax.random.key(0), steps=2, batch_size=8)


BAD = {
    "times": (dict(times=[1.0, 0.0]), "times must be at least two finite times that increase"),
    "noise": (dict(noise=-1.0), "noise must be >= 0"),
    "unbalanced": (dict(unbalanced=1), "unbalanced must be True or False"),
    "divergence": (dict(divergence="guess"), "divergence must be one of"),
    "source": (dict(source=np.zeros((4, 3))), "source must have rows of shape"),
    "weights": (dict(source=np.zeros((4, 2)), source_weights=-np.ones(4)), "source_weights must be >= 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    changes, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        bj.methods.action_matching(shape=(2,), **changes)
