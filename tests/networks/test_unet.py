"""The U-Net: sizes, its blocks against their formulas, the axis of the normalisation, one batched convolution."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bridgejax.networks import UNet, functional
from bridgejax.networks.unet import Attention, ResidualBlock, double, group_norm, normalise

SMALL = dict(width=8, multipliers=(1, 2))


class Part(nnx.Module):
    """A part of a network in the signature of a network: args is its second input, if it has one."""

    def __init__(self, part):
        self.part = part

    def __call__(self, t, x, args):
        return self.part(x) if args is None else self.part(x, args)


def noise(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def conv(q, x):
    """3x3 convolution padded by one zero, written as nine shifted products."""
    height, width, _ = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    shifted = (padded[i : i + height, j : j + width] @ q["kernel"][i, j] for i in range(3) for j in range(3))
    return sum(shifted) + q["bias"]


def normal(q, x, groups):
    """Group normalisation of one image from its definition."""
    height, width, channels = x.shape
    grouped = x.reshape(height * width, groups, channels // groups)
    mean = grouped.mean(axis=(0, 2), keepdims=True)
    variance = grouped.var(axis=(0, 2), keepdims=True)
    return ((grouped - mean) / np.sqrt(variance + 1e-6)).reshape(x.shape) * q["scale"] + q["bias"]


def silu(x):
    return x / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("shape", "multipliers"),
    [
        ((1, 1, 1), (1,)),
        ((2, 3, 1), (1, 2)),
        ((7, 9, 2), (1, 2, 2)),
        ((8, 8, 1), (1, 2)),
        ((5, 16, 3), (1, 1, 3)),
        ((28, 28, 1), (1, 2, 4)),
        ((31, 17, 4), (1, 2, 3, 4, 5)),
    ],
)
def test_any_size_comes_back_as_it_was(shape, multipliers):
    module = nnx.eval_shape(lambda: UNet(shape, width=4, multipliers=multipliers, rngs=nnx.Rngs(0)))
    apply, params = functional(module)
    out = jax.eval_shape(apply, params, jnp.float32(0.1), jnp.zeros(shape), None)
    assert (out.shape, out.dtype) == (shape, jnp.result_type(float))  # of the sample


@pytest.mark.fast
def test_starts_as_zero():
    apply, params = functional(UNet((8, 8, 1), rngs=nnx.Rngs(0), **SMALL))
    x = noise(0, (8, 8, 1))
    np.testing.assert_array_equal(jax.jit(apply)(params, 0.3, x, None), np.zeros((8, 8, 1)))


@pytest.mark.slow
def test_odd_size_uses_and_writes_every_pixel(drawn):
    shape = (7, 9, 2)
    apply, params = drawn(lambda: UNet(shape, width=4, multipliers=(1, 1, 2), rngs=nnx.Rngs(0)))
    xs = noise(0, (2, *shape))

    def total(x, weight):
        out = apply(params, 0.3, x, None)
        return jnp.sum(out * weight), out

    run = jax.jit(jax.vmap(jax.grad(total, has_aux=True), (0, None)))
    gradient, out = run(xs, noise(1, shape))
    assert np.abs(gradient).min() > 0  # no pixel is read by nobody
    assert np.abs(out[0] - out[1]).min() > 0  # and none is written without looking


def test_doubling_crops_the_last_row_and_column():
    x = jnp.arange(6.0).reshape(2, 3, 1)
    expected = [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]
    np.testing.assert_array_equal(double(x, (3, 5, 9))[..., 0], expected)


@pytest.mark.fast
def test_group_norm_normalises_within_one_sample():
    norm = group_norm(8, dtype=jnp.float32, rngs=nnx.Rngs(0))
    assert norm.num_groups == 2
    scale = 1.0 + jnp.arange(6.0)[:, None, None] + 10 * jnp.arange(8.0)  # rows and channels of different size
    x = 3.0 + scale * noise(0, (6, 5, 8))
    out = np.asarray(jax.jit(lambda x: normalise(norm, x))(x))
    groups = out.reshape(30, 2, 4)
    np.testing.assert_allclose(groups.mean(axis=(0, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(groups.var(axis=(0, 2)), 1, atol=1e-4)
    rows = out.reshape(6, 5, 2, 4).var(axis=(1, 3))
    assert rows.max() / rows.min() > 1.5  # by rows, the silent mistake, every one of these would be 1
    other = 100 * noise(1, (6, 5, 8))
    batch = jax.jit(jax.vmap(functools.partial(normalise, norm)))(jnp.stack([x, other]))
    np.testing.assert_allclose(batch[0], out, atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (4, 1), (7, 1), (8, 2), (12, 3), (30, 6), (128, 32), (256, 32)]
)
def test_groups_divide_the_channels(channels, groups):
    assert group_norm(channels, dtype=jnp.float32, rngs=nnx.Rngs(0)).num_groups == groups


def test_every_normalisation_sees_one_image_as_a_batch_of_one(monkeypatch):
    seen = []
    original = nnx.GroupNorm.__call__

    def watched(self, x, **options):
        seen.append(x.shape)
        return original(self, x, **options)

    monkeypatch.setattr(nnx.GroupNorm, "__call__", watched)
    network = UNet((6, 5, 1), rngs=nnx.Rngs(0), **SMALL)
    jax.eval_shape(lambda x: network(0.1, x, None), jnp.zeros((6, 5, 1)))
    assert {(len(shape), shape[0]) for shape in seen} == {(4, 1)}
    assert len(seen) == 2 * 4 + 2  # two per residual block, the attention's, the head's


def test_residual_block_is_the_formula(drawn):
    apply, params = drawn(lambda: Part(ResidualBlock(4, 8, 6, dtype=jnp.float32, rngs=nnx.Rngs(0))))
    x = np.random.default_rng(0).normal(size=(5, 3, 4)) * np.arange(1, 6)[:, None, None]
    e = np.random.default_rng(1).normal(size=6)
    out = jax.jit(apply)(params, 0.0, jnp.float32(x), jnp.float32(e))
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["part"])
    h = conv(p["conv1"], silu(normal(p["norm1"], x, 1)))
    scale, shift = np.split(e @ p["film"]["linear"]["kernel"] + p["film"]["linear"]["bias"], 2)
    h = conv(p["conv2"], silu((1 + scale) * normal(p["norm2"], h, 2) + shift))
    expected = h + x @ p["project"]["kernel"] + p["project"]["bias"]
    np.testing.assert_allclose(out, expected, atol=1e-4 * np.abs(expected).max())


def test_attention_is_the_formula(drawn):
    apply, params = drawn(lambda: Part(Attention(8, 2, dtype=jnp.float32, rngs=nnx.Rngs(0))))
    x = np.random.default_rng(0).normal(size=(3, 4, 8))
    out = jax.jit(apply)(params, 0.0, jnp.float32(x), None)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["part"])
    q, k, v = np.split(normal(p["norm"], x, 2).reshape(12, 8) @ p["qkv"]["kernel"], 3, axis=1)
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        weight = np.exp(q[:, head] @ k[:, head].T / np.sqrt(4))
        heads.append(weight / weight.sum(axis=1, keepdims=True) @ v[:, head])
    mixed = np.concatenate(heads, axis=1) @ p["out"]["kernel"] + p["out"]["bias"]
    assert np.abs(mixed).max() > 0.1
    np.testing.assert_allclose(out, x + mixed.reshape(x.shape), atol=1e-4)


def test_vmap_equals_loop(drawn):
    apply, params = drawn(lambda: UNet((7, 5, 1), num_classes=3, rngs=nnx.Rngs(0), **SMALL))
    xs = noise(1, (3, 7, 5, 1))
    ts, labels = jnp.linspace(0.0, 1.0, 3), jnp.array([0, 2, 3])
    batch = jax.jit(jax.vmap(apply, (None, 0, 0, 0)))(params, ts, xs, labels)
    one = jax.jit(apply)
    loop = np.stack([one(params, t, x, label) for t, x, label in zip(ts, xs, labels, strict=True)])
    assert np.abs(loop).max() > 0.1
    np.testing.assert_allclose(batch, loop, atol=1e-5 * max(1, np.abs(loop).max()))


def test_vmap_is_one_batched_convolution_each(drawn):
    apply, params = drawn(lambda: UNet((8, 8, 1), rngs=nnx.Rngs(0), **SMALL))

    def convolutions(function, *inputs):
        text = jax.jit(function).lower(params, *inputs).as_text()
        assert "stablehlo.while" not in text
        return [line for line in text.splitlines() if "stablehlo.convolution" in line]

    single = convolutions(apply, 0.1, jnp.zeros((8, 8, 1)), None)
    batch = convolutions(jax.vmap(apply, (None, 0, 0, None)), jnp.zeros(16), jnp.zeros((16, 8, 8, 1)), None)
    assert len(single) == len(batch) == 1 + 2 * 4 + 1 + 1
    assert all("feature_group_count = 1" in line and "batch_group_count = 1" in line for line in batch)
    assert all("tensor<16x" in line for line in batch)


@pytest.mark.slow
def test_every_parameter_learns(drawn):
    apply, params = drawn(lambda: UNet((6, 6, 2), num_classes=2, attention=2, rngs=nnx.Rngs(0), **SMALL))
    xs = noise(1, (6, 6, 6, 2))

    def loss(params):
        out = jax.vmap(apply, (None, 0, 0, 0))(params, jnp.linspace(0.1, 1.0, 6), xs, jnp.arange(6) % 3)
        return jnp.sum((out - xs) ** 2)

    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(params)):
        assert np.mean(leaf != 0) > 0.95, jax.tree_util.keystr(path)


def test_class_changes_the_output_and_none_is_the_null_class(drawn):
    apply, params = drawn(lambda: UNet((4, 4, 1), num_classes=2, rngs=nnx.Rngs(0), **SMALL))
    run, x = jax.jit(apply), jnp.ones((4, 4, 1))
    out = [run(params, 0.5, x, jnp.int32(label)) for label in range(3)]
    assert min(np.abs(out[i] - out[j]).max() for i in range(3) for j in range(i)) > 1e-3
    np.testing.assert_allclose(run(params, 0.5, x, None), out[2], atol=1e-6)


def test_bfloat16_computes_low_and_keeps_float32_ends(drawn):
    def make(dtype):
        return UNet((6, 6, 1), dtype=dtype, rngs=nnx.Rngs(0), **SMALL)

    low, params = drawn(lambda: make("bfloat16"))
    full, _ = drawn(lambda: make("float32"))
    x = noise(0, (6, 6, 1))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    ours, exact = jax.jit(low)(params, 0.4, x, None), jax.jit(full)(params, 0.4, x, None)
    assert ours.dtype == jnp.float32
    error = np.linalg.norm(ours - exact) / np.linalg.norm(exact)
    assert 1e-4 < error < 0.1
    lowered = jax.jit(low).lower(params, 0.4, x, None).as_text().splitlines()
    inner = [line for line in lowered if "stablehlo.convolution" in line]
    assert [("bf16" in line) for line in inner] == [True] * (len(inner) - 1) + [False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(shape=(8, 8)), r"shape = \(8, 8\).*shape=\(8, 8, 1\)"),
        (dict(shape=(64,)), r"shape = \(64,\).*MLP"),
        (dict(shape=(8, 2, 1), multipliers=(1, 2, 2)), "at most 2 multipliers"),
        (dict(shape=(8, 8, 1), multipliers=()), "multipliers"),
        (dict(shape=(8, 8, 1), multipliers=(1, 0)), "multipliers = 0"),
        (dict(shape=(8, 8, 1), attention=3), "attention = 3 heads do not divide the 64"),
        (dict(shape=(8, 8, 1), attention=-1), "attention = -1"),
        (dict(shape=(8, 8, 1), blocks=0), "blocks = 0"),
        (dict(shape=(8, 8, 1), width=0), "width = 0"),
        (dict(shape=(8, 8, 1), dtype="int8"), "expected a float type"),
    ],
)
def test_refuses_to_be_built(arguments, message):
    with pytest.raises(ValueError, match=message):
        UNet(rngs=nnx.Rngs(0), **arguments)


def test_refuses_a_batch():
    with pytest.raises(ValueError, match=r"jax\.vmap"):
        UNet((4, 4, 1), rngs=nnx.Rngs(0), **SMALL)(0.1, jnp.zeros((2, 4, 4, 1)))
