"""States in shards: the axis ``fsdp`` of a mesh, from one step to a run that goes on elsewhere."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit_problem import B, data
from jax.sharding import Mesh, PartitionSpec
from test_gradient_method import compiled_on

from bridgejax.training import adam, fit, gradient_method, restore
from bridgejax.training.sharding import over_shards

WIDTH = 512  # w1 is (3, 512) and w2 (512, 8): both are cut along their longest dimension, the vectors are not


def parameters():
    k1, k2 = jax.random.split(jax.random.key(7))
    return {
        "w1": jax.random.normal(k1, (3, WIDTH)) / 2,
        "b1": jnp.zeros(WIDTH),
        "w2": jax.random.normal(k2, (WIDTH, 8)) / 32,
        "w3": jnp.ones(8) / 3,
    }


def loss(params, keys, batch):
    noise = jax.vmap(jax.random.normal)(keys)
    hidden = jnp.tanh(jnp.tanh(batch["x"] @ params["w1"] + params["b1"]) @ params["w2"])
    return jnp.mean((hidden @ params["w3"] - batch["y"] - 0.1 * noise) ** 2), {}


def method(accumulate=1):
    return gradient_method(loss, lambda p: p, adam(0.003, schedule="constant"), 0.9, accumulate, params=parameters())


METHOD = method()
CUT = {".params['w1']", ".params['w2']", ".ema['w1']", ".ema['w2']"}  # and the moments of both


def mesh(**axes):
    count = int(np.prod(list(axes.values())))
    return Mesh(np.array(jax.devices()[:count]).reshape(*axes.values()), tuple(axes))


MESHES = {
    "none": None,
    "8": mesh(data=8),
    "2": mesh(data=2),
    "4x2": mesh(data=4, fsdp=2),
    "1x8": mesh(fsdp=8),
    "1x2": mesh(data=1, fsdp=2),
}


def curve(where, steps, made=METHOD, **options):
    losses = []
    options = {"batch_size": B, "log_every": 1, "callbacks": [lambda i: losses.append(i.metrics["loss"])], **options}
    return fit(made, data(), jax.random.key(0), steps=steps, mesh=MESHES[where], **options), np.array(losses)


def shards(state):
    """The leaves that are cut, and into how many."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if not leaf.sharding.is_fully_replicated:
            found[jax.tree_util.keystr(path)] = leaf.size // int(np.prod(leaf.sharding.shard_shape(leaf.shape)))
    return found


@pytest.mark.fast
@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((64, 32), ("fsdp",)),
        ((32, 64), (None, "fsdp")),
        ((63, 64, 65), (None, "fsdp")),  # the longest does not divide
        ((64, 64), ("fsdp",)),
        ((63, 65), ()),
        ((1023,), ()),
        ((1024,), ("fsdp",)),
        ((), ()),
    ],
)
def test_the_longest_dimension_that_divides_is_cut(shape, spec):
    assert over_shards(mesh(data=4, fsdp=2), jax.ShapeDtypeStruct(shape, jnp.float32)).spec == PartitionSpec(*spec)
    assert over_shards(mesh(data=8), jax.ShapeDtypeStruct(shape, jnp.float32)).spec == PartitionSpec()


def test_keys_are_on_every_device():
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2048))
    assert over_shards(mesh(fsdp=8), keys).spec == PartitionSpec()


@pytest.mark.parametrize(("where", "parts"), [("4x2", 2), ("1x8", 8)])
def test_parameters_moments_and_average_are_held_in_shards(where, parts):
    found = shards(curve(where, 3)[0])
    assert set(found) > CUT
    assert len(found) == 8  # w1 and w2: parameters, two moments, average
    assert set(found.values()) == {parts}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_shards_take_the_steps_of_one_device(accumulate):
    alone, losses = curve("none", 20)
    state, others = curve("4x2", 20, method(accumulate))
    # the tolerances of the same test of copies
    np.testing.assert_allclose(others, losses, rtol=2e-6, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), state, alone)


@pytest.mark.optimised
def test_a_step_gathers_parameters_and_nothing_else():
    """Two leaves are cut: two gatherings, none of them of a moment or an average, which are as large."""
    batch = {name: x[:B] for name, x in data().items()}
    text = compiled_on(MESHES["4x2"], METHOD, batch, jax.random.key(0)).as_text()
    assert re.search(r" all-gather(?:-start)?\(", text)
    assert len(re.findall(r" all-gather(?:-start)?\(", text)) <= 2
    assert not re.search(r"all-to-all|collective-permute|infeed|outfeed|send\(|recv\(", text)
    one = compiled_on(MESHES["8"], METHOD, batch, jax.random.key(0)).memory_analysis()
    two = compiled_on(MESHES["4x2"], METHOD, batch, jax.random.key(0)).memory_analysis()
    cut = 4 * (3 * WIDTH + 8 * WIDTH) * 4  # bytes of the eight leaves
    assert one.argument_size_in_bytes - two.argument_size_in_bytes == cut // 2


@pytest.mark.parametrize("first", ["4x2", "8"])
def test_saved_on_eight_devices_goes_on_anywhere(first, tmp_path):
    """The same parameters bit for bit on 2, 1 and 8 devices, in shards or copies; the loss curve goes on."""
    _, whole = curve("none", 12)
    saved, before = curve(first, 8, directory=tmp_path)
    for second in ("2", "none", "8", "4x2", "1x8", "1x2"):
        found, none = curve(second, 8, directory=tmp_path)
        assert not len(none)
        jax.tree.map(np.testing.assert_array_equal, found, saved)
        assert all(len(leaf.devices()) == (MESHES[second] or mesh(data=1)).size for leaf in jax.tree.leaves(found))
        assert bool(shards(found)) == ("x" in second)
    for steps, second in zip((9, 10, 11, 12), ("2", "none", "1x8", "4x2"), strict=True):
        _, more = curve(second, steps, directory=tmp_path, keep=9)
        before = np.append(before, more)
    np.testing.assert_allclose(before, whole, rtol=2e-6, atol=1e-6)
    target = jax.eval_shape(lambda: METHOD.init(jax.random.key(0), None))
    jax.tree.map(np.testing.assert_array_equal, restore(tmp_path / "checkpoints", target, step=8).tree, saved)
