import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

from bridgejax.processes._keys import keys
from bridgejax.training import State, adam, ema, gradient_method
from bridgejax.training._fit import _stepper
from bridgejax.training.sharding import auto_mesh, over_rows, own

D = 3


def linear(params, sample_keys, batch):
    """Noisy linear regression: every row has its own noise, drawn from its own key."""
    noise = jax.vmap(lambda k: jax.random.normal(k, (), jnp.float32))(sample_keys)
    error = batch["x"] @ params["w"] + params["b"] - batch["y"] - 0.1 * noise
    return jnp.mean(error**2), {"bias": jnp.mean(error)}


@pytest.fixture
def params():
    return {"w": jnp.arange(1.0, D + 1, dtype=jnp.float32), "b": jnp.float32(0.5)}


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((32, D)).astype(np.float32)
    return {"x": x, "y": (x @ np.array([1.0, -2.0, 0.5]) + 3).astype(np.float32)}


def make(params, **kwargs):
    kwargs.setdefault("optimizer", optax.sgd(0.1))
    return gradient_method(linear, lambda p: p, params=params, **kwargs)


@pytest.mark.fast
def test_step_is_the_gradient_step_written_out(params, batch, key):
    method = make(params)
    state = method.init(key, None)
    new, metrics = jax.jit(method.step)(state, key, batch)
    noise = np.asarray(jax.vmap(lambda k: jax.random.normal(k, (), jnp.float32))(keys(key, 32)))
    error = batch["x"] @ np.asarray(params["w"]) + 0.5 - batch["y"] - 0.1 * noise
    gw, gb = 2 * (error[:, None] * batch["x"]).mean(0), 2 * error.mean()
    np.testing.assert_allclose(new.params["w"], params["w"] - 0.1 * gw, rtol=1e-5)
    np.testing.assert_allclose(new.params["b"], 0.5 - 0.1 * gb, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], (error**2).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["bias"], error.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], np.sqrt((gw**2).sum() + gb**2), rtol=1e-5)
    assert int(new.step) == 1
    assert isinstance(new, State)


def test_init_copies_the_parameters_and_shares_no_buffer(params, key):
    state = make(params, ema=0.9).init(key, None)
    leaves = [*jax.tree.leaves(params), *jax.tree.leaves(state.params), *jax.tree.leaves(state.ema)]
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)
    jax.jit(lambda s: s, donate_argnums=0)(state)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("accumulate", [2, 4, 32])
def test_accumulation_is_the_full_batch_gradient(params, batch, key, accumulate):
    one, many = make(params), make(params, accumulate=accumulate)
    state = one.init(key, None)
    full, m_full = jax.jit(one.step)(state, key, batch)
    cut, m_cut = jax.jit(many.step)(state, key, batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6), full, cut)
    for name in m_full:
        np.testing.assert_allclose(m_full[name], m_cut[name], rtol=1e-5, atol=1e-6)


def test_accumulation_holds_the_memory_of_one_micro_batch(key):
    params = {"w": jnp.ones((64, 64))}

    def deep(p, ks, x):
        for _ in range(6):
            x = jnp.tanh(x @ p["w"])
        return jnp.mean(x**2), {}

    x = np.ones((4096, 64), np.float32)
    temp = {}
    for a in (1, 16):
        method = gradient_method(deep, lambda p: p, optax.sgd(0.1), None, a, params=params)
        compiled = jax.jit(method.step).lower(method.init(key, None), key, x).compile()
        temp[a] = compiled.memory_analysis().temp_size_in_bytes
    assert temp[16] < temp[1] / 8


def test_batch_that_does_not_divide_is_named(params, batch, key):
    method = make(params, accumulate=5)
    with pytest.raises(ValueError, match="accumulate=5 .* batch of 32; pass a batch_size that is a multiple of 5"):
        method.step(method.init(key, None), key, batch)


def test_bfloat16_compute_leaves_float32_parameters(params, batch, key):
    def half(p, ks, b):
        p = jax.tree.map(lambda a: a.astype(jnp.bfloat16), p)
        value, _ = linear(p, ks, jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), b))
        return value.astype(jnp.bfloat16), {}

    for accumulate in (1, 4):
        method = gradient_method(half, lambda p: p, adam(0.1, steps=10), 0.9, accumulate, params=params)
        state = method.init(key, None)
        new, metrics = jax.jit(method.step)(state, key, batch)
        assert re.search(r"bf16\[\d+\] = dot_general", str(jax.make_jaxpr(method.step)(state, key, batch)))
        assert jax.tree.map(lambda a: a.dtype, new) == jax.tree.map(lambda a: a.dtype, state)
        assert new.params["w"].dtype == jnp.float32
        assert metrics["loss"].dtype == jnp.float32
        assert not np.array_equal(new.params["w"], params["w"])


# The average ---------------------------------------------------------------------------------------------------------


@pytest.mark.fast
def test_average_closed_form():
    """For p_n = n the recursion written out with Python floats, and its weights, which sum to one."""
    decay, value, weights = 0.7, 0.0, np.array([1.0])
    average = ema.start({"p": jnp.float32(0.0)})
    for n in range(40):
        d = min(decay, (1 + n) / (10 + n))
        value = d * value + (1 - d) * (n + 1)
        weights = np.append(d * weights, 1 - d)
        average = ema.update(average, {"p": jnp.float32(n + 1)}, decay, n)
    np.testing.assert_allclose(average["p"], value, rtol=1e-6)
    np.testing.assert_allclose(value, weights @ np.arange(41), rtol=1e-12)
    np.testing.assert_allclose(weights.sum(), 1.0, rtol=1e-12)
    # Long after the warm-up a line is followed at the lag of a geometric average, decay / (1 - decay).
    np.testing.assert_allclose(40 - value, decay / (1 - decay), rtol=1e-3)
    assert float(ema.effective_decay(0.999, 0)) == pytest.approx(0.1)
    assert float(ema.effective_decay(0.999, 10**6)) == pytest.approx(0.999)


def test_process_gets_the_average_in_the_parameters_dtype(batch, key):
    params = {"w": jnp.ones(D, jnp.bfloat16), "b": jnp.bfloat16(0)}
    method = make(params, ema=0.9)
    state = method.init(key, None)
    assert state.ema["w"].dtype == jnp.float32
    new, _ = jax.jit(method.step)(state, key, batch)
    learnt = method.process(new)
    assert learnt["w"].dtype == jnp.bfloat16
    expected = 0.1 * np.ones(D) + 0.9 * np.asarray(new.params["w"], np.float32)  # d_0 = 1/10
    # The compiler may average the parameters before it rounds them to bfloat16 (half a unit of 2^-8).
    np.testing.assert_allclose(new.ema["w"], expected, rtol=2**-8)
    np.testing.assert_array_equal(learnt["w"], new.ema["w"].astype(jnp.bfloat16))
    assert make(params).process(make(params).init(key, None))["w"].dtype == jnp.bfloat16


def test_average_of_bfloat16_moves_where_bfloat16_would_not():
    average = ema.start({"p": jnp.bfloat16(1.0)})
    for n in range(10000, 10010):
        average = ema.update(average, {"p": jnp.bfloat16(1.125)}, 0.9999, n)
    # (1 + n) / (10 + n) = 0.9991 is still below the decay here.
    weights = np.prod([(1 + n) / (10 + n) for n in range(10000, 10010)])
    np.testing.assert_allclose(float(average["p"]) - 1.0, 0.125 * (1 - weights), rtol=1e-3)


# Meshes --------------------------------------------------------------------------------------------------------------


def all_reduces(text):
    """How many all-reduce instructions a compiled program runs, whatever they carry."""
    return len(re.findall(r"= [^=]*? all-reduce(?:-start)?\(", text))


def loop_bodies(text):
    return [text.split(f"%{name} (", 1)[1].split("\n}", 1)[0] for name in re.findall(r"body=%?([\w.-]+)", text)]


def compiled_on(mesh, method, batch, key):
    mesh = auto_mesh(mesh)
    state, key = own((method.init(key, None), key), mesh)
    batch = jax.device_put(batch, over_rows(mesh))
    with jax.set_mesh(mesh):
        return _stepper(method.step).lower(state, key, np.int32(0), batch).compile()


@pytest.fixture(params=[(8,), (4, 2)], ids=["8", "4x2"])
def mesh(request):
    names = ("data", "model")[: len(request.param)]
    return Mesh(np.array(jax.devices()[:8]).reshape(request.param), names)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_one_all_reduce_and_nothing_else_crosses_devices(mesh, params, batch, key, accumulate):
    method = make(params, ema=0.9, accumulate=accumulate, optimizer=adam(0.1, steps=10))
    text = compiled_on(mesh, method, batch, key).as_text()
    assert all_reduces(text) == 1
    assert not re.search(r"all-gather|all-to-all|collective-permute|reduce-scatter|infeed|outfeed|send\(|recv\(", text)
    assert not any("all-reduce" in body for body in loop_bodies(text))


def test_partitioner_alone_would_reduce_in_every_turn(params, batch, key):
    """The control of the test above: the count does see an all-reduce inside a loop."""
    mesh = auto_mesh(Mesh(np.array(jax.devices()[:8]), ("data",)))

    def naive(params, sample_keys, batch):
        cut = jax.tree.map(lambda a: a.reshape(4, 8, *a.shape[1:]), (sample_keys, batch))
        total, _ = jax.lax.scan(
            lambda g, kb: (jax.tree.map(jnp.add, g, jax.grad(lambda p: linear(p, *kb)[0])(params)), None),
            jax.tree.map(jnp.zeros_like, params),
            cut,
        )
        return total

    put = jax.device_put(batch, over_rows(mesh))
    with jax.set_mesh(mesh):
        text = jax.jit(naive).lower(own(params, mesh), keys(key, 32), put).compile().as_text()
    assert any("all-reduce" in body for body in loop_bodies(text))


@pytest.mark.parametrize("accumulate", [1, 4])
def test_mesh_takes_the_same_step(mesh, params, batch, key, accumulate):
    method = make(params, ema=0.9, accumulate=accumulate)
    alone, m_alone = jax.jit(method.step)(method.init(key, None), jax.random.fold_in(key, 0), batch)
    state, report = compiled_on(mesh, method, batch, key)(
        *own((method.init(key, None), key), auto_mesh(mesh)), np.int32(0), jax.device_put(batch, over_rows(mesh))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), alone, state)
    together = dict(zip(report.names, np.asarray(report.values), strict=True))
    for name, value in m_alone.items():
        np.testing.assert_allclose(together[name], value, rtol=1e-5, atol=1e-6)
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state))


def test_batch_that_does_not_divide_over_micro_batches_of_a_mesh(params, batch, key):
    method = make(params, accumulate=8)
    with pytest.raises(ValueError, match="accumulate=8 micro-batches on each of 8 devices .* multiple of 64"):
        compiled_on(Mesh(np.array(jax.devices()[:8]), ("data",)), method, batch, key)


def test_inside_a_users_shard_map_the_caller_averages(params, batch, key):
    """Under manual axes the method leaves communication alone: each device steps on its own rows."""
    mesh = auto_mesh(Mesh(np.array(jax.devices()[:8]), ("data",)))
    method = make(params, accumulate=2)
    state = method.init(key, None)
    P = jax.sharding.PartitionSpec

    def local(state, batch):
        return jax.tree.map(lambda a: a[None], method.step(state, key, batch)[0].params)

    f = jax.shard_map(local, mesh=mesh, in_specs=(P(), P("data")), out_specs=P("data"), check_vma=False)
    out = jax.jit(f)(state, batch)
    mine, _ = method.step(state, key, jax.tree.map(lambda a: a[4:8], batch))
    np.testing.assert_allclose(out["w"][1], mine.params["w"], rtol=1e-5)


# Errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.fast
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"ema": 1.0}, "ema must be a decay between 0 and 1, got 1.0"),
        ({"ema": -0.1}, "ema must be a decay"),
        ({"accumulate": 0}, "accumulate must be an integer >= 1"),
        ({"params": {}}, "params must be a pytree of arrays"),
    ],
)
def test_bad_arguments(params, kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**{"params": params, **kwargs})


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda p, k, b: jnp.sum(p["w"]), "loss must return"),
        (lambda p, k, b: (p["w"], {}), r"scalar, the mean over the batch; got shape \(3,\)"),
        (lambda p, k, b: (jnp.sum(p["w"]), {"m": p["w"]}), r"metric 'm' .* shape \(3,\)"),
    ],
)
def test_losses_of_the_wrong_form(params, batch, key, loss, message):
    method = gradient_method(loss, lambda p: p, optax.sgd(0.1), params=params)
    with pytest.raises(ValueError, match=message):
        jax.jit(method.step)(method.init(key, None), key, batch)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({}, "holds no arrays"),
        ({"x": np.ones((4, 3)), "y": np.ones(5)}, r"batch\['x'\] has 4 rows, batch\['y'\] has 5 rows"),
        ({"x": np.float32(1)}, r"batch\['x'\] is a single number"),
    ],
)
def test_batches_of_the_wrong_form(params, key, bad, message):
    method = make(params)
    with pytest.raises(ValueError, match=message):
        method.step(method.init(key, None), key, bad)


def test_optimizer_that_wants_the_value_gets_it(params, batch, key):
    optimizer = optax.chain(optax.sgd(0.0), optax.contrib.reduce_on_plateau(patience=1, factor=0.5))
    method = make(params, optimizer=optimizer)
    state = method.init(key, None)
    step = jax.jit(method.step)
    for _ in range(5):  # the same loss again and again: a plateau
        state, _ = step(state, key, batch)
    assert float(state.opt_state[1].scale) < 1.0
