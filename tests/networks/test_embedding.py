"""Time features and conditioning: the formula, its resolution, the null class, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bridgejax.networks import Embedding, fourier_features
from bridgejax.networks.layers import lecun_normal


@pytest.mark.fast
def test_features_are_the_formula():
    t = 0.37
    frequencies = np.array([0.5 * (64 / 0.5) ** (k / 7) for k in range(8)])
    expected = np.concatenate([np.cos(frequencies * t), np.sin(frequencies * t)])
    np.testing.assert_allclose(fourier_features(t, 16), expected, atol=3e-6)  # 64 t in float32: 2e-6


def test_features_tell_close_and_distant_times_apart():
    features = jax.jit(jax.vmap(lambda t: fourier_features(t)))(jnp.linspace(0.0, 12.0, 481))
    distance = np.linalg.norm(features[:, None] - features[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    assert distance.min() > 0.5  # 0.025 apart anywhere in [0, 12]; two unrelated times are 8 apart


def test_features_of_a_bfloat16_time_are_float32():
    t = jnp.bfloat16(0.7)
    features = fourier_features(t)
    assert features.dtype == jnp.float32
    np.testing.assert_array_equal(features, fourier_features(jnp.float32(t)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(t=jnp.zeros(3)), "one real number"),
        (dict(t=0.0, num=7), "even number"),
        (dict(t=0.0, num=2), "num = 2"),
        (dict(t=0.0, low=2.0, high=1.0), "0 < low < high"),
    ],
)
def test_features_refuse(arguments, message):
    with pytest.raises(ValueError, match=message):
        fourier_features(**arguments)


def test_embedding_is_float32_and_sees_times_that_bfloat16_merges():
    embedding = Embedding(16, rngs=nnx.Rngs(0))
    times = jnp.float32([0.9, 0.9002])
    assert times.astype(jnp.bfloat16)[0] == times.astype(jnp.bfloat16)[1]
    first, second = embedding(times[0]), embedding(times[1])
    assert first.dtype == jnp.float32
    assert np.abs(first - second).max() > 1e-4


def test_time_scale_multiplies_the_time():
    wide, narrow = Embedding(8, time_scale=10.0, rngs=nnx.Rngs(0)), Embedding(8, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(wide(0.25), narrow(2.5))
    assert np.abs(wide(0.25) - narrow(0.25)).max() > 1e-3


@pytest.mark.fast
def test_null_class_is_none_and_the_last_label():
    embedding = Embedding(16, num_classes=3, rngs=nnx.Rngs(0))
    rows = [embedding(0.5, label) for label in range(4)]
    np.testing.assert_array_equal(embedding(0.5, None), rows[3])
    for i in range(4):
        for j in range(i):
            assert np.abs(rows[i] - rows[j]).max() > 1e-2
    np.testing.assert_array_equal(embedding(0.5, np.int64(2)), rows[2])
    np.testing.assert_array_equal(embedding(0.5, jnp.uint8(2)), rows[2])


def test_traced_label_out_of_range_is_nan_and_never_another_class():
    embedding = Embedding(16, num_classes=3, rngs=nnx.Rngs(0))
    out = jax.jit(jax.vmap(lambda label: embedding(0.5, label)))(jnp.array([-1, 0, 3, 4]))
    np.testing.assert_array_equal(np.isnan(out).any(axis=1), [True, False, False, True])


@pytest.mark.parametrize("label", [jnp.float32(1), 1.0, True, jnp.array([1]), "one"])
def test_label_of_another_type_is_refused(label):
    embedding = Embedding(16, num_classes=3, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"integer class label|args is of type str"):
        embedding(0.5, label)


@pytest.mark.parametrize("label", [-1, 4, np.int32(7), jnp.int32(-2)])
def test_known_label_out_of_range_is_refused(label):
    embedding = Embedding(16, num_classes=3, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"class label in 0\.\.3"):
        embedding(0.5, label)


def test_condition_of_any_shape_and_none_is_zero():
    embedding = Embedding(16, cond_dim=6, rngs=nnx.Rngs(0))
    value = jnp.arange(6.0)
    np.testing.assert_array_equal(embedding(0.5, value), embedding(0.5, value.reshape(2, 3)))
    np.testing.assert_array_equal(embedding(0.5, None), embedding(0.5, jnp.zeros(6)))
    assert np.abs(embedding(0.5, value) - embedding(0.5, None)).max() > 1e-2


@pytest.mark.parametrize("value", [jnp.zeros(5), jnp.zeros(6, jnp.int32), 1])
def test_condition_of_another_size_or_type_is_refused(value):
    with pytest.raises(ValueError, match="float array of 6 numbers"):
        Embedding(16, cond_dim=6, rngs=nnx.Rngs(0))(0.5, value)


def test_unconditional_network_refuses_a_condition():
    with pytest.raises(ValueError, match="takes no condition"):
        Embedding(16, rngs=nnx.Rngs(0))(0.5, jnp.int32(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(num_classes=3, cond_dim=2), "expected one of them"),
        (dict(num_classes=0), "num_classes = 0"),
        (dict(cond_dim=2.0), "cond_dim = 2.0"),
        (dict(time_scale=0.0), "time_scale"),
        (dict(time_features=5), "even number"),
    ],
)
def test_embedding_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        Embedding(16, rngs=nnx.Rngs(0), **options)


def test_the_spread_of_first_parameters():
    """Kernels have variance 1 / fan_in, and the time's own part of the sum that of a class: one half."""
    kernel = lecun_normal(jax.random.key(0), (3, 3, 16, 64))
    assert abs(float(kernel.var()) * 3 * 3 * 16 - 1) < 5 * np.sqrt(2 / kernel.size)
    embedding = Embedding(512, num_classes=31, time_features=64, rngs=nnx.Rngs(0))
    classes = np.asarray(embedding.classes[...])
    assert abs(classes.var() / 0.5 - 1) < 5 * np.sqrt(2 / classes.size)
    times = np.asarray(embedding.first(fourier_features(0.7, 64)))
    assert abs(times.var() / 0.5 - 1) < 5 * np.sqrt(2 / times.size)
