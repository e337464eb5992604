"""MeanFlow on Gaussian data, whose average velocity is known: identity, loss, gradient, and samples in any steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bridgejax as bj
from bridgejax.methods.generative.mean_flow import _average

MEAN, S = np.array([1.0, -0.5]), 0.4


def deviation(t, s):
    return jnp.sqrt(((1.0 - t) * s) ** 2 + t**2)


def average(params, t, shown, args):
    """u(r, t, z) for data N(mean, s^2 I): (z_t - z_r) / (t - r), z_r = (1 - r) mean + sd_r / sd_t (z_t - (1 - t) mean).

    (sd_t - sd_r) / (t - r) is written with t - r divided out, so that it is the velocity at r = t.
    """
    z, h, s = shown[:2], shown[2], params["s"]
    r, mean = t - h, jnp.float32(MEAN)
    at, before = deviation(t, s), deviation(r, s)
    slope = ((1.0 + s**2) * (t + r) - 2.0 * s**2) / (at + before)  # (sd_t - sd_r) / (t - r)
    return -mean + slope / at * (z - (1.0 - t) * mean) + params["shift"]


def exact(s=S):
    return average, {"s": jnp.float32(s), "shift": jnp.zeros(2)}


def velocity(t, z):
    return _average(jax.tree_util.Partial(*exact()), t, t, z, None)


@pytest.mark.parametrize(("r", "t"), [(0.0, 1.0), (0.2, 0.9), (0.5, 0.55), (0.3, 0.3)])
def test_the_average_velocity_satisfies_its_identity(r, t):
    """u = v - (t - r) (v . grad u + d_t u), and v is E[eps - x | z_t], by Gaussian conditioning."""
    r, t, z = jnp.asarray(r, float), jnp.asarray(t, float), jnp.array([0.3, 0.8])
    v = velocity(t, z)
    cov = t - (1.0 - t) * S**2
    np.testing.assert_allclose(v, -MEAN + cov / deviation(t, S) ** 2 * (z - (1 - t) * MEAN), rtol=1e-5)
    net = jax.tree_util.Partial(*exact())
    u, slope = jax.jvp(lambda z, t: _average(net, r, t, z, None), (z, t), (v, jnp.ones(())))
    np.testing.assert_allclose(u, v - (t - r) * slope, atol=2e-5)


def test_the_exact_field_of_a_point_has_no_loss():
    """For one point x the velocity eps - x is known from z_t, so that the loss is zero, and of no other field."""
    rows, key = jnp.tile(jnp.float32(MEAN), (256, 1)), jax.random.key(0)
    method = bj.methods.mean_flow(exact(0.0), shape=(2,), apart=0.7, ema=None)
    step = jax.jit(method.step)
    state = method.init(key, rows)
    assert float(step(state, key, rows)[1]["loss"]) < 1e-8
    wrong = state._replace(params={"s": jnp.float32(0.0), "shift": jnp.array([0.1, 0.0])})
    assert float(step(wrong, key, rows)[1]["loss"]) == pytest.approx(0.005, rel=1e-3)
    assert float(step(wrong, key, rows)[1]["error"]) == pytest.approx(0.005, rel=1e-3)


def test_the_exact_field_is_stationary():
    """Of Gaussian data the loss is not zero, but its gradient along a shift and along s is, on average."""
    rows = jnp.float32(MEAN + S * np.random.default_rng(1).normal(size=(40, 2000, 2)))
    method = bj.methods.mean_flow(exact(), shape=(2,), apart=0.7, ema=None, optimizer=optax.sgd(1.0))
    start = method.init(jax.random.key(0), rows)

    @jax.jit
    def gradients(start):
        """The mean gradient and its standard error, from 40 batches."""
        each = jax.vmap(lambda key, x: method.step(start, key, x)[0].params)(bj.keys(jax.random.key(2), 40), rows)
        each = jax.tree.map(lambda before, after: before - after, start.params, each)
        return jax.tree.map(lambda g: (g.mean(0), g.std(0) / np.sqrt(40)), each)

    for mean, error in gradients(start).values():
        assert np.all(np.abs(mean) < 5 * error)
    wrong = start._replace(params={"s": jnp.float32(S + 0.1), "shift": jnp.array([0.2, 0.0])})
    found = gradients(wrong)
    assert abs(found["s"][0]) > 10 * found["s"][1]
    assert float(found["shift"][0][0]) == pytest.approx(0.2, abs=0.03)  # a mean of squares over two coordinates


def test_the_robust_weight_divides_by_the_error():
    rows = jnp.tile(jnp.float32(MEAN), (64, 1))
    shifted = (average, {"s": jnp.float32(0.0), "shift": jnp.array([0.1, 0.0])})
    method = bj.methods.mean_flow(shifted, shape=(2,), apart=0.0, robust=1.0, ema=None)
    metrics = jax.jit(method.step)(method.init(jax.random.key(0), rows), jax.random.key(0), rows)[1]
    assert float(metrics["loss"]) == pytest.approx(0.01 / 0.011, rel=1e-3)


def test_samples_are_the_same_in_any_number_of_steps():
    method = bj.methods.mean_flow(exact(), shape=(2,))
    process, n = method.process(method.init(jax.random.key(0), None)), 4000
    keys = bj.keys(jax.random.key(1), n)
    one = np.asarray(bj.sample(process, keys, ts=bj.grids.uniform(1)))
    np.testing.assert_allclose(one.mean(0), MEAN, atol=5 * S / np.sqrt(n))
    np.testing.assert_allclose(one.std(0), S, atol=5 * S / np.sqrt(2 * n))
    np.testing.assert_allclose(bj.sample(process, keys), one, atol=1e-5)
    np.testing.assert_allclose(bj.sample(process, keys, ts=[0.0, 0.1, 0.7, 0.8, 1.0]), one, atol=1e-5)
    found = bj.log_prob(process, jax.random.key(0), jnp.asarray(MEAN, jnp.float32))
    assert float(found.value) == pytest.approx(-np.log(2 * np.pi * S**2), abs=1e-3)


def test_labels_are_told():
    data = {"x": np.float32(np.zeros((64, 2))), "label": np.arange(64, dtype=np.int32) % 3}
    method = bj.methods.mean_flow(shape=(2,), null=3)
    state = jax.eval_shape(method.step, method.init(jax.random.key(0), data), jax.random.key(0), data)[0]
    draw = lambda state: bj.sample(method.process(state), bj.keys(jax.random.key(0), 3), jnp.arange(3))  # noqa: E731
    assert jax.eval_shape(draw, state).shape == (3, 2)


BAD = {
    "shape": (lambda: bj.methods.mean_flow(shape=()), "shape must have an axis"),
    "apart": (lambda: bj.methods.mean_flow(shape=(2,), apart=1.5), "apart must be a share"),
    "robust": (lambda: bj.methods.mean_flow(shape=(2,), robust=-1.0), "robust must be >= 0"),
    "times": (lambda: bj.methods.mean_flow(shape=(2,), time_sampler=0.5), "time_sampler must be a function"),
    "pairs": (lambda: on({"source": np.zeros((4, 2)), "target": np.zeros((4, 2))}), "data alone"),
    "output": (
        lambda: on(np.zeros((4, 2)), network=(lambda p, t, x, a: p * x, jnp.ones(4))),
        "must be shaped like a sample",
    ),
}


def on(batch, **changes):
    method = bj.methods.mean_flow(**{"network": exact(), "shape": (2,), **changes})
    return method.step(method.init(jax.random.key(0), None), jax.random.key(0), batch)


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()
