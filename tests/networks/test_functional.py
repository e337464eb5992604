"""functional: a module as one pure function, traced once, under every transformation; and what it refuses."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bridgejax.networks import MLP, UNet, count_params, functional


def noise(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def small(seed=0):
    return MLP((3,), width=8, depth=2, num_classes=4, rngs=nnx.Rngs(seed))


class Frozen(nnx.Module):
    """One trained matrix behind fixed random features and a key, none of which may be trained or lost."""

    def __init__(self, seed, features=5):
        self.random = nnx.Variable(jax.random.normal(nnx.Rngs(seed).noise(), (3, features)))
        self.raw = np.arange(features, dtype=np.float32)
        self.count = nnx.Param(jnp.arange(2))
        self.stream = nnx.Rngs(seed)
        self.out = nnx.Linear(features, 3, rngs=nnx.Rngs(0))

    def __call__(self, t, x, args):
        return self.out(jnp.cos(x @ self.random[...] + self.raw * t))


class Dropout(nnx.Module):
    def __init__(self):
        self.linear = nnx.Linear(3, 3, rngs=nnx.Rngs(0))
        self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(1))

    def __call__(self, t, x, args):
        return self.dropout(self.linear(x))


class Batch(nnx.Module):
    def __init__(self):
        self.linear = nnx.Linear(3, 3, rngs=nnx.Rngs(0))
        self.norm = nnx.BatchNorm(3, rngs=nnx.Rngs(1))

    def __call__(self, t, x, args):
        return self.norm(self.linear(x)[None])[0]


class Shared(nnx.Module):
    def __init__(self):
        self.first = nnx.Linear(3, 3, rngs=nnx.Rngs(0))
        self.second = self.first


class Chain(nnx.Module):
    """Twelve layers in a list: their order must survive names that sort as text (10 before 2)."""

    def __init__(self):
        self.layers = nnx.List([nnx.Linear(1, 1, rngs=nnx.Rngs(i)) for i in range(12)])

    def __call__(self, t, x, args):
        for layer in self.layers:
            x = jnp.tanh(layer(x))
        return x


@pytest.mark.fast
def test_is_the_module_and_params_are_plain():
    module = small()
    apply, params = functional(module)
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    x = jnp.array([0.1, -0.5, 2.0])
    nnx.update(module, jax.tree.map(lambda leaf: leaf + 0.1, nnx.state(module, nnx.Param)))
    np.testing.assert_allclose(apply(params, 0.3, x, jnp.int32(1)), module(0.3, x, jnp.int32(1)), rtol=1e-5)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        assert isinstance(leaf, jax.Array)
        assert leaf.dtype == jnp.float32
        assert all(isinstance(part, jax.tree_util.DictKey) and isinstance(part.key, str) for part in path)


def test_lists_longer_than_ten_keep_their_order():
    module = Chain()
    apply, params = functional(module)
    x = jnp.array([0.7])
    np.testing.assert_allclose(apply(params, 0.0, x, None), module(0.0, x, None), rtol=1e-6)
    assert apply(params, 0.0, x, None) != 0
    np.testing.assert_array_equal(params["layers"]["10"]["kernel"], module.layers[10].kernel[...])


def test_params_are_copies():
    module = small()
    _, params = functional(module)
    jax.jit(lambda params: jax.tree.map(lambda leaf: leaf * 2, params), donate_argnums=0)(params)
    assert params["first"]["kernel"].is_deleted()
    assert not module.first.kernel[...].is_deleted()
    functional(module)


@pytest.mark.fast
@pytest.mark.parametrize("make", [small, Frozen])
def test_two_calls_are_one_trace(make):
    traces = []

    @jax.jit
    def run(network, x):
        traces.append(None)
        return network(0.5, x, None)

    pairs = [functional(make(0)), functional(make(0))]
    for apply, params in pairs:
        run(jax.tree_util.Partial(apply, jax.tree.map(lambda leaf: leaf + len(traces), params)), jnp.ones(3))
    assert len(traces) == 1
    (first, _), (second, _) = pairs
    assert first == second
    assert hash(first) == hash(second)


def test_other_architecture_or_constants_are_another_function():
    applies = [functional(module)[0] for module in (small(), Frozen(0), Frozen(1), Frozen(0, 6), Chain())]
    for i, first in enumerate(applies):
        for second in applies[:i]:
            assert first != second
    wider, _ = functional(MLP((3,), width=9, depth=2, num_classes=4, rngs=nnx.Rngs(0)))
    assert wider != applies[0]


def test_untrained_state_is_folded_in():
    module = Frozen(0)
    apply, params = functional(module)
    assert sorted(params) == ["out"]
    assert count_params(params) == 5 * 3 + 3
    x = jnp.array([0.1, 0.2, 0.3])
    np.testing.assert_allclose(jax.jit(apply)(params, 0.5, x, None), module(0.5, x, None), rtol=1e-5)
    gradient = jax.grad(lambda params: jnp.sum(apply(params, 0.5, x, None) ** 2))(params)
    assert jax.tree.structure(gradient) == jax.tree.structure(params)


def test_original_module_can_change_without_changing_apply():
    module = Frozen(0)
    apply, params = functional(module)
    before = apply(params, 0.5, jnp.ones(3), None)
    module.random[...] = jnp.zeros((3, 5))
    module.raw[:] = 7.0
    np.testing.assert_array_equal(apply(params, 0.5, jnp.ones(3), None), before)


def test_built_inside_jit():
    @jax.jit
    def initial(key):
        return functional(MLP((3,), width=8, depth=1, rngs=nnx.Rngs(key)))[1]

    assert count_params(initial(jax.random.key(0))) == count_params(jax.eval_shape(initial, jax.random.key(0)))
    with pytest.raises(ValueError, match="outside jit"):
        jax.jit(lambda seed: functional(Frozen(jax.random.key(seed)))[1])(0)


@pytest.mark.fast
def test_jit_vmap_grad_pmap_and_shard_map_agree():
    apply, params = functional(small())
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    devices = jax.devices()
    n = 4 * len(devices)
    xs = noise(0, (n, 3))
    ts, labels = jnp.linspace(0, 1, n), jnp.arange(n) % 5
    batched = jax.vmap(apply, (None, 0, 0, 0))
    expected = jax.jit(batched)(params, ts, xs, labels)
    assert np.abs(expected).min() > 0

    mesh = Mesh(np.array(devices), ("data",))
    one, split = PartitionSpec(), PartitionSpec("data")
    sharded = jax.shard_map(batched, mesh=mesh, in_specs=(one, split, split, split), out_specs=split)
    np.testing.assert_allclose(jax.jit(sharded)(params, ts, xs, labels), expected, rtol=1e-5, atol=1e-5)

    placed = jax.device_put((ts, xs, labels), NamedSharding(mesh, split))
    replicated = jax.device_put(params, NamedSharding(mesh, one))
    np.testing.assert_allclose(jax.jit(batched)(replicated, *placed), expected, rtol=1e-5, atol=1e-5)

    def cut(leaf):
        return leaf.reshape(len(devices), -1, *leaf.shape[1:])

    mapped = jax.pmap(batched, in_axes=(None, 0, 0, 0))(params, cut(ts), cut(xs), cut(labels))
    np.testing.assert_allclose(mapped.reshape(n, 3), expected, rtol=1e-5, atol=1e-5)

    slope = jax.jit(jax.vmap(jax.grad(lambda t, x: apply(params, t, x, None).sum())))(ts, xs)
    step = 1e-2
    total = jax.jit(jax.vmap(lambda t, x: apply(params, t, x, None).sum()))
    difference = (total(ts + step, xs) - total(ts - step, xs)) / (2 * step)
    assert np.abs(slope).max() > 0.1
    np.testing.assert_allclose(slope, difference, atol=0.1 * np.abs(slope).max())


def test_frozen_state_follows_the_mesh():
    apply, params = functional(Frozen(0))
    mesh = Mesh(np.array(jax.devices()), ("data",))
    xs = jnp.ones((2 * mesh.size, 3))
    split = PartitionSpec("data")
    batched = jax.vmap(apply, (None, None, 0, None))
    sharded = jax.shard_map(
        lambda params, xs: batched(params, 0.5, xs, None), mesh=mesh, in_specs=(PartitionSpec(), split), out_specs=split
    )
    expected = batched(params, 0.5, xs, None)
    np.testing.assert_allclose(jax.jit(sharded)(params, xs), expected, rtol=1e-5)


def test_unet_params_round_trip():
    module = UNet((4, 4, 1), width=4, rngs=nnx.Rngs(0))
    apply, params = functional(module)
    assert count_params(params) == count_params(nnx.state(module, nnx.Param))
    assert jax.tree.structure(functional(module)[1]) == jax.tree.structure(params)
    assert functional(module)[0] == apply


@pytest.mark.parametrize("make", [Dropout, Batch])
def test_a_call_that_changes_the_module_is_refused(make):
    apply, params = functional(make())
    with pytest.raises(ValueError, match="changed its own state"):
        jax.jit(apply)(params, 0.0, jnp.ones(3, jnp.float32), None)
    quiet = nnx.view(make(), **({"deterministic": True} if make is Dropout else {"use_running_average": True}))
    apply, params = functional(quiet)
    np.testing.assert_allclose(apply(params, 0.0, jnp.ones(3), None), quiet.linear(jnp.ones(3)), rtol=1e-4)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Shared(), "shared references"),
        (nnx.Dropout(0.1), "no nnx.Param"),
        (lambda t, x, args: x, "pair"),
        ((1, 2), "pair"),
        ((abs, {}, {}), "pair"),
        (linen.Dense(3), "pair"),
    ],
)
def test_refuses(module, message):
    with pytest.raises(ValueError, match=message):
        functional(module)


def test_a_pair_passes_unchanged():
    def apply(params, t, x, args):
        return params["w"] * x + t

    params = {"w": 2.0}
    same, kept = functional((apply, params))
    assert same is apply
    assert kept is params


def test_linen_and_equinox_as_the_head_of_the_file_says():
    class Net(linen.Module):
        @linen.compact
        def __call__(self, t, x, args):
            return linen.Dense(3)(x) * t

    net, x = Net(), jnp.ones(3)
    params = net.init(jax.random.key(0), 0.5, x, None)["params"]
    apply, params = functional((lambda params, t, x, args: net.apply({"params": params}, t, x, args), params))
    assert jax.jit(apply)(params, 0.5, x, None).shape == (3,)

    class Field(eqx.Module):
        linear: eqx.nn.Linear

        def __call__(self, t, x, args):
            return self.linear(x) * t

    field = Field(eqx.nn.Linear(3, 3, key=jax.random.key(0)))
    params, static = eqx.partition(field, eqx.is_inexact_array)
    apply, params = functional((lambda params, t, x, args: eqx.combine(params, static)(t, x, args), params))
    np.testing.assert_allclose(jax.jit(apply)(params, 0.5, x, None), field(0.5, x, None), rtol=1e-6)
    assert count_params(params) == 12


def test_count_params():
    tree = {"a": jnp.zeros((2, 3)), "b": [jnp.zeros(()), jax.ShapeDtypeStruct((4,), jnp.float32)], "c": None}
    assert count_params(tree) == 11
