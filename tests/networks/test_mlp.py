"""The residual MLP against its own formula in numpy, and its shapes, precision, gradients and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bridgejax.networks import MLP, count_params, fourier_features, functional

SMALL = dict(width=16, depth=2)


def noise(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def silu(x):
    return x / (1 + np.exp(-x))


def test_is_the_formula(drawn):
    apply, params = drawn(lambda: MLP((3,), num_classes=2, rngs=nnx.Rngs(0), **SMALL))
    x, t = np.array([0.3, -1.2, 0.5]), 0.4
    out = jax.jit(apply)(params, t, jnp.float32(x), jnp.int32(1))
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def linear(q, u):
        return u @ q["kernel"] + q["bias"]

    def film(q, u, e):
        scale, shift = np.split(linear(q["linear"], e), 2)
        return (1 + scale) * u + shift

    q = p["embedding"]
    e = linear(q["first"], np.asarray(fourier_features(t), np.float64)) + q["classes"][1]
    e = silu(linear(q["second"], silu(e)))
    h = linear(p["first"], x)
    for i in ("0", "1"):
        q = p["blocks"][i]
        h = h + linear(q["down"], silu(linear(q["up"], film(q["film"], h, e))))
    expected = linear(p["last"], film(p["film"], h, e))
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(out, expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())


@pytest.mark.fast
@pytest.mark.parametrize("shape", [(), (1,), (2,), (4, 3), (7, 9, 2)])
def test_starts_as_zero_in_every_shape(shape):
    apply, params = functional(MLP(shape, rngs=nnx.Rngs(0), **SMALL))
    x = noise(0, shape)
    out = jax.jit(apply)(params, 0.3, x, None)
    assert out.shape == shape
    assert out.dtype == jnp.float32
    np.testing.assert_array_equal(out, np.zeros(shape))


def test_number_of_parameters():
    width, depth, size, embedding = 16, 2, 12, 16
    _, params = functional(nnx.eval_shape(lambda: MLP((4, 3), rngs=nnx.Rngs(0), **SMALL)))

    def linear(a, b):
        return a * b + b

    block = 2 * linear(width, width) + linear(embedding, 2 * width)
    ends = linear(size, width) + linear(width, size) + linear(embedding, 2 * width)
    assert count_params(params) == ends + depth * block + linear(64, embedding) + linear(embedding, embedding)


@pytest.mark.fast
def test_vmap_equals_loop(drawn):
    apply, params = drawn(lambda: MLP((5,), num_classes=3, rngs=nnx.Rngs(0), **SMALL))
    xs = noise(1, (6, 5))
    ts = jnp.linspace(0.0, 1.0, 6)
    labels = jnp.arange(6) % 4
    batch = jax.jit(jax.vmap(apply, (None, 0, 0, 0)))(params, ts, xs, labels)
    one = jax.jit(apply)
    loop = np.stack([one(params, t, x, label) for t, x, label in zip(ts, xs, labels, strict=True)])
    np.testing.assert_allclose(batch, loop, rtol=1e-4, atol=1e-5 * np.abs(loop).max())


@pytest.mark.parametrize("options", [dict(num_classes=3), dict(cond_dim=4)])
def test_every_parameter_learns(options, drawn):
    apply, params = drawn(lambda: MLP((5,), rngs=nnx.Rngs(0), **options, **SMALL))
    n = 16
    xs = noise(1, (n, 5))
    args = jnp.arange(n) % 4 if "num_classes" in options else noise(2, (n, 4))

    def loss(params):
        out = jax.vmap(apply, (None, 0, 0, 0))(params, jnp.linspace(0.1, 1.0, n), xs, args)
        return jnp.sum((out - xs) ** 2)

    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(params)):
        assert np.mean(leaf != 0) > 0.99, jax.tree_util.keystr(path)


def test_class_changes_the_output_and_none_is_the_null_class(drawn):
    apply, params = drawn(lambda: MLP((5,), num_classes=3, rngs=nnx.Rngs(0), **SMALL))
    x, run = jnp.ones(5), jax.jit(apply)
    out = [run(params, 0.5, x, jnp.int32(label)) for label in range(4)]
    assert min(np.abs(out[i] - out[j]).max() for i in range(4) for j in range(i)) > 1e-2
    np.testing.assert_allclose(run(params, 0.5, x, None), out[3], atol=1e-5)


def test_bfloat16_computes_low_and_keeps_float32_ends(drawn):
    def make(dtype):
        return MLP((8,), width=32, depth=2, dtype=dtype, rngs=nnx.Rngs(0))

    low, params = drawn(lambda: make("bfloat16"))
    full, _ = drawn(lambda: make(jnp.float32))
    x = noise(0, (8,))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    ours, exact = jax.jit(low)(params, 0.4, x, None), jax.jit(full)(params, 0.4, x, None)
    assert ours.dtype == jnp.float32
    error = np.linalg.norm(ours - exact) / np.linalg.norm(exact)
    assert 1e-5 < error < 0.05  # not zero: it did compute in bfloat16
    gradient = jax.jit(jax.grad(lambda params: jnp.sum(low(params, 0.4, x, None) ** 2)))(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype("float32")}
    assert jax.eval_shape(low, params, 0.4, x.astype(jnp.bfloat16), None).dtype == jnp.float32
    lowered = jax.jit(low).lower(params, 0.4, x, None).as_text()
    assert sum("dot_general" in line and "bf16" in line for line in lowered.splitlines()) == 1 + 2 * 3 + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(shape=5), r"write \(5,\)"),
        (dict(shape=(0, 3)), r"shape = \(0, 3\)"),
        (dict(shape=(2.5,)), r"shape = \(2\.5,\)"),
        (dict(shape=(2,), width=1), "width = 1"),
        (dict(shape=(2,), depth=-1), "depth = -1"),
        (dict(shape=(2,), width="wide"), "width = 'wide'"),
        (dict(shape=(2,), dtype="float23"), "float23.*bfloat16"),
        (dict(shape=(2,), dtype=jnp.int32), "expected a float type"),
        (dict(shape=(2,), dtype=None), "expected a float type"),
    ],
)
def test_refuses_to_be_built(arguments, message):
    with pytest.raises(ValueError, match=message):
        MLP(rngs=nnx.Rngs(0), **arguments)


def test_float64_needs_64_bit_jax():
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64"):
        MLP((2,), dtype="float64", rngs=nnx.Rngs(0))
    with jax.enable_x64(True):
        assert MLP((2,), dtype="float64", rngs=nnx.Rngs(0), **SMALL).dtype == np.float64


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (jnp.zeros((4, 3)), r"jax\.vmap"),
        (jnp.zeros(4), r"x has shape \(4,\).*built for \(3,\).*shape=\(4,\)"),
        (jnp.zeros(3, jnp.int32), "int32"),
    ],
)
def test_refuses_a_sample(x, message):
    network = MLP((3,), rngs=nnx.Rngs(0), **SMALL)
    with pytest.raises(ValueError, match=message):
        network(0.5, x, None)
    with pytest.raises(ValueError, match="one real number"):
        network(jnp.zeros(4), jnp.zeros(3), None)
