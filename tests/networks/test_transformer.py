"""The transformer: its block against the formula, patches, positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bridgejax.networks import Transformer, functional
from bridgejax.networks.attention import Mixer, attend
from bridgejax.networks.transformer import from_patches, sincos, to_patches


class Part(nnx.Module):
    """A block in the signature of a network: args is the embedding."""

    def __init__(self, part):
        self.part = part

    def __call__(self, t, x, args):
        return self.part(x, args)


def softmax(u):
    u = np.exp(u - u.max(axis=-1, keepdims=True))
    return u / u.sum(axis=-1, keepdims=True)


def gelu(u):
    return 0.5 * u * (1 + np.tanh(np.sqrt(2 / np.pi) * (u + 0.044715 * u**3)))


def attention(p, x, y, heads):
    """W_out softmax(q kᵀ / sqrt d) v from its definition."""
    q, k, v = x @ p["query"]["kernel"], y @ p["keys"]["kernel"], y @ p["values"]["kernel"]
    d = q.shape[1] // heads
    parts = [slice(i * d, (i + 1) * d) for i in range(heads)]
    mixed = np.concatenate([softmax(q[:, s] @ k[:, s].T / np.sqrt(d)) @ v[:, s] for s in parts], axis=1)
    return mixed @ p["out"]["kernel"] + p["out"]["bias"]


def modulate(p, x, e):
    scale, shift, gate = np.split(e @ p["linear"]["kernel"] + p["linear"]["bias"], 3)
    norm = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-6)
    return (1 + scale) * norm + shift, gate


@pytest.mark.parametrize("inducing", [0, 3])
def test_mixer_is_the_formula(drawn, inducing):
    apply, params = drawn(
        lambda: Part(Mixer(8, 2, 6, expansion=2, inducing=inducing, dtype=jnp.float32, rngs=nnx.Rngs(0)))
    )
    rng = np.random.default_rng(0)
    x, e = rng.normal(size=(5, 8)), rng.normal(size=6)
    out = jax.jit(apply)(params, 0.0, jnp.float32(x), jnp.float32(e))
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["part"])
    h, gate = modulate(p["first"], x, e)
    seen = p["points"] + attention(p["gather"], p["points"], h, 2) if inducing else h
    middle = x + gate * attention(p["attention"], h, seen, 2)
    h, gate = modulate(p["second"], middle, e)
    inner = gelu(h @ p["up"]["kernel"] + p["up"]["bias"])
    expected = middle + gate * (inner @ p["down"]["kernel"] + p["down"]["bias"])
    assert np.abs(expected - x).max() > 0.1
    np.testing.assert_allclose(out, expected, atol=1e-4 * np.abs(expected).max())


def test_attention_leaves_out_who_is_absent():
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(n, 4)), jnp.float32) for n in (3, 5, 5))
    mask = jnp.array([True, False, True, True, False])
    np.testing.assert_allclose(attend(q, k, v, 2, mask), attend(q, k[mask], v[mask], 2), atol=1e-6)
    assert np.all(np.isfinite(attend(q, k, v, 2, jnp.zeros(5, bool))))


@pytest.mark.parametrize(
    ("shape", "patch", "tokens"),
    [
        ((4, 6, 2), 2, (6, 8)),
        ((5, 3, 1), 2, (6, 4)),
        ((7, 3), 3, (3, 9)),
        ((2, 3, 4, 1), 2, (4, 8)),
        ((6, 2), 1, (6, 2)),
    ],
)
def test_patches_come_back(shape, patch, tokens):
    x = jnp.arange(1.0, 1.0 + np.prod(shape)).reshape(shape)
    cut = to_patches(x, patch)
    assert cut.shape == tokens
    np.testing.assert_array_equal(from_patches(cut, patch, shape), x)
    first = x[tuple(slice(patch) for _ in shape[:-1])]
    np.testing.assert_array_equal(np.sort(cut[0])[-first.size :], np.sort(first.ravel()))  # a patch, not a row


def test_second_patch_of_an_image_is_its_neighbour_to_the_right():
    x = jnp.arange(24.0).reshape(4, 6, 1)
    np.testing.assert_array_equal(to_patches(x, 2)[1], [2, 3, 8, 9])


@pytest.mark.parametrize(("grid", "width"), [((9,), 8), ((3, 4), 16), ((2, 2, 2), 13), ((5,), 2)])
def test_positions_tell_every_place_apart(grid, width):
    places = np.asarray(sincos(grid, width))
    assert places.shape == (np.prod(grid), width)
    assert places.dtype == np.float32
    gaps = np.linalg.norm(places[:, None] - places[None], axis=-1) + 9 * np.eye(len(places))
    assert gaps.min() > 0.1


def test_transformer_knows_places(drawn):
    """Permuting the tokens is not permuting the outputs: that is what positions are for."""
    apply, params = drawn(
        lambda: Transformer((4, 2), width=8, depth=1, heads=1, expansion=1, embedding=8, rngs=nnx.Rngs(0))
    )
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2)), jnp.float32)
    out = jax.jit(jax.vmap(apply, (None, None, 0, None)))(params, 0.3, jnp.stack([x, x[::-1]]), None)
    assert np.abs(out[1] - out[0][::-1]).max() > 1e-2


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (28, 28, 1), (9, 11, 3), (4, 4, 4, 2)])
def test_any_size_comes_back_as_it_was(shape):
    module = nnx.eval_shape(lambda: Transformer(shape, patch=4, width=8, depth=1, heads=2, rngs=nnx.Rngs(0)))
    apply, params = functional(module)
    assert jax.eval_shape(apply, params, 0.1, jnp.zeros(shape), None).shape == shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(shape=(8,)), r"shape = \(8,\): a transformer takes tokens"),
        (dict(shape=(8, 2), heads=3), "heads = 3 do not divide width = 128"),
        (dict(shape=(8, 2), heads=0), "heads = 0"),
        (dict(shape=(8, 2), patch=0), "patch = 0"),
        (dict(shape=(8, 2), depth=-1), "depth = -1"),
        (dict(shape=(8, 2), expansion=0), "expansion = 0"),
        (dict(shape=(8, 2), positions="rotary"), "positions = 'rotary'"),
    ],
)
def test_refuses_to_be_built(arguments, message):
    with pytest.raises(ValueError, match=message):
        Transformer(rngs=nnx.Rngs(0), **arguments)


def test_positions_are_the_formula():
    """cos and sin of 10000^(-j/m) i, axis by axis, m = width / 2k."""
    found = np.asarray(sincos((2, 3), 10))
    for n, (row, column) in enumerate(np.ndindex(2, 3)):
        w = np.array([1.0, 0.01])
        want = np.concatenate([f(w * i) for i in (row, column) for f in (np.cos, np.sin)] + [np.zeros(2)])
        np.testing.assert_allclose(found[n], want, atol=1e-6)
