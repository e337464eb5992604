"""Weights as safetensors: there and back bit by bit, read and written by the library itself, mismatches named."""

import json
import struct
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx

from bridgejax.networks import MLP, functional, load_weights, save_weights

safetensors_numpy = pytest.importorskip("safetensors.numpy")


def tree():
    rng = np.random.default_rng(0)
    return {
        "blocks": [
            {"kernel": jnp.asarray(rng.normal(size=(3, 2)), jnp.float32)},
            {"kernel": np.zeros((0, 4), np.float16)},
        ],
        "low": jnp.asarray(rng.normal(size=(5,)), jnp.bfloat16),
        "count": np.int32(7),
        "on": jnp.array([True, False]),
        "turned": np.asfortranarray(rng.normal(size=(2, 3)).astype(np.float32)),
    }


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_there_and_back(tmp_path):
    path = save_weights(tmp_path / "new" / "w.safetensors", tree())
    loaded = load_weights(str(path), tree())
    assert_same(loaded, tree())
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(loaded))
    assert_same(load_weights(path, jax.eval_shape(tree)), tree())
    save_weights(path, {"a": jnp.ones(2)})  # replaced whole
    assert_same(load_weights(path, {"a": jnp.zeros(2)}), {"a": jnp.ones(2)})
    assert [p.name for p in path.parent.iterdir()] == ["w.safetensors"]  # nothing left beside it


def test_a_network_is_the_same_function_again(tmp_path):
    build = lambda seed: MLP((3,), width=8, depth=1, rngs=nnx.Rngs(seed))  # noqa: E731
    apply, params = functional(build(0))
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    save_weights(tmp_path / "mlp.safetensors", params)
    again, like = functional(nnx.eval_shape(lambda: build(1)))
    loaded = load_weights(tmp_path / "mlp.safetensors", like)
    x = jnp.arange(3.0)
    np.testing.assert_array_equal(again(loaded, 0.3, x, None), apply(params, 0.3, x, None))


def test_the_library_reads_what_we_write_and_we_read_what_it_writes(tmp_path):
    from safetensors import safe_open

    path = save_weights(tmp_path / "ours.safetensors", tree())
    with safe_open(path, framework="np") as file:
        assert set(file.keys()) == {"blocks.0.kernel", "blocks.1.kernel", "low", "count", "on", "turned"}
        assert file.get_slice("low").get_dtype() == "BF16"
        np.testing.assert_array_equal(file.get_tensor("blocks.0.kernel"), tree()["blocks"][0]["kernel"])
        np.testing.assert_array_equal(file.get_tensor("turned"), tree()["turned"])
    theirs = {"a.b": np.arange(6, dtype=np.float32).reshape(2, 3), "a.c": np.ones(4, ml_dtypes.bfloat16)}
    safetensors_numpy.save_file(theirs, tmp_path / "theirs.safetensors")
    like = {"a": {"b": jnp.zeros((2, 3), jnp.float32), "c": jnp.zeros(4, jnp.bfloat16)}}
    assert_same(load_weights(tmp_path / "theirs.safetensors", like), {"a": {"b": theirs["a.b"], "c": theirs["a.c"]}})


def test_the_format_is_the_published_one(tmp_path):
    """Eight bytes of length, a JSON header, the numbers: read here without the library."""
    data = save_weights(tmp_path / "w.safetensors", {"low": jnp.asarray([1.5, -2.0], jnp.bfloat16)}).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    assert header["low"] == {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}
    assert np.frombuffer(data[8 + length :], ml_dtypes.bfloat16).tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"a": jnp.zeros(2)}, r"It holds 'b.c', which is not expected\."),
        ({"a": jnp.zeros(2), "b": {"c": jnp.zeros(()), "d": jnp.zeros(1)}}, r"It lacks 'b.d'\."),
        ({"a": jnp.zeros(3), "b": {"c": jnp.zeros(())}}, r"'a' has shape \(2,\), expected \(3,\)\."),
        ({"a": jnp.zeros(2, jnp.bfloat16), "b": {"c": jnp.zeros(())}}, r"'a' has dtype float\d\d, expected bfloat16"),
        ({}, "like is a dict without leaves"),
        ({"a": 1.0, "b": {"c": 2.0}}, "like has a float at 'a'"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, like, message):
    path = save_weights(tmp_path / "w.safetensors", {"a": jnp.zeros(2), "b": {"c": jnp.zeros(())}})
    with pytest.raises(ValueError, match=message):
        load_weights(path, like)


def test_many_mismatches_are_counted(tmp_path):
    path = save_weights(tmp_path / "w.safetensors", {str(i): jnp.zeros(i + 1) for i in range(8)})
    with pytest.raises(ValueError, match=r"'4' has shape \(5,\), expected \(9,\)\. And 3 more\."):
        load_weights(path, {str(i): jnp.zeros(9) for i in range(9) if i < 8} | {"7": jnp.zeros(9)})


def test_numbers_of_64_bits_are_not_cut(tmp_path):
    path = save_weights(tmp_path / "w.safetensors", {"a": np.zeros(2)})
    with jax.enable_x64(False), pytest.raises(ValueError, match="float64, which needs 64-bit JAX"):
        load_weights(path, {"a": np.zeros(2)})
    with jax.enable_x64(True):
        assert load_weights(path, {"a": np.zeros(2)})["a"].dtype == np.float64


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "params is a dict without leaves"),
        (jnp.zeros(2), "named ''.*put it into a dictionary"),
        ({"a": {"b": jnp.zeros(1)}, "a.b": jnp.zeros(1)}, "named 'a.b'.*rename a key"),
        ({"__metadata__": jnp.zeros(1)}, "__metadata__"),
        ({"a": 1.0}, "a leaf of float at 'a'"),
        ({"a": np.array(["text"])}, "a leaf of dtype <U4 at 'a'"),
        ({"key": jax.random.key(0)}, r"dtype key<fry> at 'key'"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, params, message):
    with pytest.raises(ValueError, match=message):
        save_weights(tmp_path / "w.safetensors", params)
    assert list(tmp_path.iterdir()) == []


def test_damage_and_absence(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file of weights"):
        load_weights(tmp_path / "none.safetensors", {"a": jnp.zeros(2)})
    path = save_weights(tmp_path / "w.safetensors", {"a": jnp.zeros(2)})
    whole = path.read_bytes()
    for damaged in (b"", whole[:-3], b"PK\x03\x04" + whole, whole[:8] + b"x" + whole[9:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged or not a safetensors file"):
            load_weights(path, {"a": jnp.zeros(2)})


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = save_weights(tmp_path / "w.safetensors", {"a": jnp.ones(2)})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_weights(path, {"a": jnp.zeros(2)})
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
    assert_same(load_weights(path, {"a": jnp.zeros(2)}), {"a": jnp.ones(2)})


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r'pip install "bridgejax\[run\]"'):
        save_weights(tmp_path / "w", {"a": jnp.zeros(1)})
    with pytest.raises(ImportError, match=r'pip install "bridgejax\[run\]"'):
        load_weights(tmp_path / "w", {"a": jnp.zeros(1)})
