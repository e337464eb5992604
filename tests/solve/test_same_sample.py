"""A sample depends on its key and nothing else; a second call compiles nothing; JAX's own transformations work."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec
from jax.tree_util import Partial

import bridgejax as bj

TS = bj.grids.uniform(40)


def pull(theta, t, x, args):
    return -theta * x + jnp.sin(3 * t)


def level(t, x, args):
    return 0.7


def make(theta=1.3):
    return bj.SDE(Partial(pull, jnp.float32(theta)), level)


def starts(num):
    return jnp.linspace(-1, 2, 3 * num, dtype=jnp.float32).reshape(num, 3)


KEYS = bj.keys(jax.random.key(5), 200)
X0 = starts(200)


@pytest.fixture(scope="module")
def expected():
    return np.asarray(bj.simulate_batch(make(), KEYS, X0, TS))


@pytest.mark.fast
@pytest.mark.parametrize("num", [1, 7, 64, 130])
def test_any_batch_size(expected, num):
    np.testing.assert_array_equal(bj.simulate_batch(make(), KEYS[:num], X0[:num], TS), expected[:num])


@pytest.mark.parametrize("micro_batch", [1, 64, 70])
def test_any_micro_batch(expected, micro_batch):
    np.testing.assert_array_equal(bj.simulate_batch(make(), KEYS, X0, TS, micro_batch=micro_batch), expected)


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_any_number_of_devices(expected, devices):
    mesh = Mesh(np.asarray(jax.devices()[:devices]), ("data",))
    np.testing.assert_array_equal(bj.simulate_batch(make(), KEYS, X0, TS, mesh=mesh), expected)


def test_a_mesh_of_explicit_axes_is_converted(expected):
    np.testing.assert_array_equal(
        bj.simulate_batch(make(), KEYS, X0, TS, mesh=jax.make_mesh((8,), ("data",))), expected
    )


def test_a_mesh_takes_what_was_fitted_without_one(key):
    """``fit`` commits its state to one device; x from that device, or from a mesh of another order, comes along."""
    from bridgejax.training import adam, gradient_method

    def process(params):
        return bj.Process(bj.starts.normal((3,)), make(params), TS)

    def loss(params, keys, batch):
        return (params - jnp.mean(batch)) ** 2, {}

    method = gradient_method(loss, process, adam(0.1, steps=3), None, params=jnp.float32(1.3))
    state = bj.fit(method, np.ones((64, 3), np.float32), key, steps=3, batch_size=16)
    assert all(leaf.committed for leaf in jax.tree.leaves(state))  # else this test is about nothing
    fitted, devices = method.process(state), jax.devices()[:4]
    mesh, reverse = (Mesh(np.asarray(order), ("data",)) for order in (devices, devices[::-1]))
    whole = np.asarray(bj.sample(fitted, KEYS))
    spread = bj.sample(fitted, KEYS, mesh=mesh)
    assert spread.devices() == set(devices)
    np.testing.assert_array_equal(spread, whole)
    again = np.asarray(bj.sample(fitted, KEYS, x=jax.device_put(whole, jax.devices()[0])))
    np.testing.assert_array_equal(bj.sample(fitted, KEYS, x=spread, mesh=reverse), again)
    np.testing.assert_array_equal(
        bj.simulate_batch(fitted.dynamics, KEYS, jax.device_put(X0, jax.devices()[0]), TS, mesh=mesh),
        bj.simulate_batch(fitted.dynamics, KEYS, X0, TS),
    )


def test_one_by_one_vmap_and_jit(expected):
    one = jnp.stack([bj.simulate(make(), KEYS[i], X0[i], TS) for i in range(3)])
    np.testing.assert_array_equal(one, expected[:3])
    many = jax.jit(jax.vmap(lambda key, x: bj.simulate(make(), key, x, TS)))(KEYS, X0)
    np.testing.assert_array_equal(many, expected)


def test_pmap(expected):
    got = jax.pmap(jax.vmap(lambda key, x: bj.simulate(make(), key, x, TS)))(KEYS.reshape(8, 25), X0.reshape(8, 25, 3))
    np.testing.assert_array_equal(np.asarray(got).reshape(200, 3), expected)


@pytest.mark.parametrize("solver", [None, bj.solvers.Heun()])
def test_shard_map_with_its_checks_on(expected, solver):
    mesh = Mesh(np.asarray(jax.devices()), ("data",))
    rows = PartitionSpec("data")

    def local(sde, keys, x0):
        return jax.vmap(lambda key, x: bj.simulate(sde, key, x, TS, solver=solver))(keys, x0)

    mapped = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=(PartitionSpec(), rows, rows), out_specs=rows))
    got = np.asarray(mapped(make(), KEYS, X0))
    if solver is None:
        np.testing.assert_array_equal(got, expected)
    else:
        np.testing.assert_allclose(got, bj.simulate_batch(make(), KEYS, X0, TS, solver=solver), atol=1e-6)


@pytest.mark.slow
def test_a_network_is_the_same_to_rounding():
    """Matrix kernels add in another order for other numbers of rows: 4e-7 seen over ten steps, on states of order 1."""
    from flax import nnx

    network = bj.networks.MLP((2,), width=32, depth=2, rngs=nnx.Rngs(0))
    apply, params = bj.networks.functional(network)
    params = jax.tree.map(lambda p: p + 0.05 * jax.random.normal(jax.random.key(1), p.shape), params)
    sde = bj.probability_flow(bj.schedules.cosine(), denoiser=Partial(apply, params))
    process = bj.Process(bj.starts.normal((2,)), sde, bj.grids.log_snr(10, bj.schedules.cosine()))
    whole = np.asarray(bj.sample(process, KEYS))
    mesh = Mesh(np.asarray(jax.devices()), ("data",))
    for options in ({"micro_batch": 64}, {"mesh": mesh}):
        np.testing.assert_allclose(bj.sample(process, KEYS, **options), whole, rtol=0, atol=5e-6)
    few = bj.sample(process, KEYS[:9])
    np.testing.assert_allclose(few, whole[:9], rtol=0, atol=5e-6)
    np.testing.assert_array_equal(bj.sample(process, KEYS[:60])[:9], few)  # both are programs of 64
    np.testing.assert_allclose(
        bj.sample(process, bj.keys(jax.random.key(5), 5, start=100)), whole[100:105], rtol=0, atol=5e-6
    )


# traces ------------------------------------------------------------


class Counting:
    """A drift that counts how often it is traced; equal to itself only, so give one instance to all calls."""

    def __init__(self):
        self.traces = 0

    def __call__(self, theta, t, x, args):
        self.traces += 1
        return -theta * x


@pytest.mark.fast
def test_a_second_call_and_a_second_sde_of_the_kind_trace_nothing():
    drift = Counting()
    first = bj.simulate(bj.SDE(Partial(drift, jnp.float32(1.0)), level), KEYS[0], X0[0], TS)
    traces = drift.traces
    for theta in (1.0, 2.0, 3.0):
        last = bj.simulate(bj.SDE(Partial(drift, jnp.float32(theta)), level), KEYS[1], X0[1], TS)
    assert drift.traces == traces > 0
    assert not np.allclose(first, last)


def test_five_end_points_are_one_trace():
    calls = []

    def run(sde, key):
        calls.append(1)
        return bj.simulate(sde, key, jnp.zeros(2), TS)

    jitted = jax.jit(run)
    for i in range(5):
        end = jnp.array([i, -i], jnp.float32)
        np.testing.assert_array_equal(jitted(bj.pin(bj.schedules.vp(), end), KEYS[i]), end)
    assert len(calls) == 1
    ends = jax.random.normal(jax.random.key(0), (5, 2))
    batch = jax.vmap(bj.pin, (None, 0))(bj.schedules.brownian(0.5), ends)
    got = bj.simulate_batch(batch, KEYS[:5], jnp.zeros((5, 2)), TS, axes=(0, 0, None))
    np.testing.assert_array_equal(got, ends)


# derivatives ------------------------------------------------------------


def test_gradient_of_a_linear_sde_is_its_closed_form():
    """x_N = prod(1 - theta dt) x_0 + ... is a polynomial in theta: compare with finite differences in float64 numpy."""
    path = bj.simulate_path(make(), KEYS[0], X0[0], TS)
    increments, ts = np.asarray(path.noise, np.float64), np.asarray(TS, np.float64)

    def by_hand(theta):
        x = np.asarray(X0[0], np.float64)
        for k in range(len(ts) - 1):
            x = x + (-theta * x + np.sin(3 * ts[k])) * (ts[k + 1] - ts[k]) + 0.7 * increments[k]
        return x.sum()

    grad = jax.grad(lambda sde: bj.simulate(sde, KEYS[0], X0[0], TS).sum())(make()).drift.args[0]
    theta = float(np.float32(1.3))
    np.testing.assert_allclose(grad, (by_hand(theta + 1e-5) - by_hand(theta - 1e-5)) / 2e-5, rtol=2e-5)
    np.testing.assert_allclose(path.xs[-1].sum(), by_hand(theta), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("bend", [bj.reverse, bj.probability_flow])
def test_gradients_through_bent_sdes_are_finite(bend):
    for schedule in (bj.schedules.vp(), bj.schedules.cosine(), bj.schedules.karras(10.0), bj.schedules.rectified()):

        def end(scale, schedule=schedule):
            denoiser = Partial(lambda s, t, x, args: s * x / (1 + t), scale)
            sde = bend(schedule, denoiser=denoiser)
            return bj.simulate(sde, KEYS[0], X0[0], bj.grids.uniform(8, schedule.T)).sum()

        value, slope = jax.value_and_grad(end)(jnp.float32(0.5))
        assert np.isfinite(value)
        assert np.isfinite(slope)
