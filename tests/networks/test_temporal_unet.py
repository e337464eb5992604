"""The temporal U-Net: horizons, its block against the formula, the axis of the normalisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bridgejax.networks import TemporalUNet, functional
from bridgejax.networks.temporal_unet import TemporalBlock


class Part(nnx.Module):
    """A block in the signature of a network: args is the embedding."""

    def __init__(self, part):
        self.part = part

    def __call__(self, t, x, args):
        return self.part(x, args)


def conv(q, x):
    """Convolution over five times padded by two zeros, written as five shifted products."""
    padded = np.pad(x, ((2, 2), (0, 0)))
    return sum(padded[i : i + len(x)] @ q["kernel"][i] for i in range(5)) + q["bias"]


def normal(q, x, groups):
    grouped = x.reshape(len(x), groups, -1)
    mean, variance = grouped.mean(axis=(0, 2), keepdims=True), grouped.var(axis=(0, 2), keepdims=True)
    return ((grouped - mean) / np.sqrt(variance + 1e-6)).reshape(x.shape) * q["scale"] + q["bias"]


def mish(x):
    return x * np.tanh(np.log1p(np.exp(x)))


def test_temporal_block_is_the_formula(drawn):
    """Rows of very different size: a normalisation over the wrong axis would show."""
    apply, params = drawn(lambda: Part(TemporalBlock(4, 8, 6, dtype=jnp.float32, rngs=nnx.Rngs(0))))
    x = np.random.default_rng(0).normal(size=(6, 4)) * np.arange(1, 7)[:, None]
    e = np.random.default_rng(1).normal(size=6)
    out = jax.jit(apply)(params, 0.0, jnp.float32(x), jnp.float32(e))
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["part"])
    h = mish(normal(p["norm1"], conv(p["conv1"], x), 2))
    scale, shift = np.split(e @ p["film"]["linear"]["kernel"] + p["film"]["linear"]["bias"], 2)
    h = mish(normal(p["norm2"], conv(p["conv2"], (1 + scale) * h + shift), 2))
    expected = h + x @ p["project"]["kernel"] + p["project"]["bias"]
    np.testing.assert_allclose(out, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("multipliers", [(1,), (1, 2), (1, 2, 4, 8)])
def test_any_horizon_with_the_same_parameters(multipliers):
    build = lambda: TemporalUNet((8, 3), width=4, multipliers=multipliers, rngs=nnx.Rngs(0))  # noqa: E731
    apply, params = functional(nnx.eval_shape(build))
    for horizon in {2 ** (len(multipliers) - 1), 8, 9, 13, 31, 64}:
        out = jax.eval_shape(apply, params, 0.1, jnp.zeros((horizon, 3)), None)
        assert (out.shape, out.dtype) == ((horizon, 3), jnp.result_type(float))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(shape=(8,)), r"shape = \(8,\): a trajectory is H times of D numbers"),
        (dict(shape=(3, 2), multipliers=(1, 2, 2)), "H = 3: 3 levels .* at least 4; pass at most 2 multipliers"),
        (dict(shape=(8, 2), multipliers=()), "multipliers"),
        (dict(shape=(8, 2), multipliers=(1, 0)), "multipliers = 0"),
        (dict(shape=(8, 2), blocks=0), "blocks = 0"),
    ],
)
def test_refuses_to_be_built(arguments, message):
    with pytest.raises(ValueError, match=message):
        TemporalUNet(rngs=nnx.Rngs(0), **arguments)


def test_refuses_short_trajectories():
    apply, params = functional(nnx.eval_shape(lambda: TemporalUNet((8, 2), rngs=nnx.Rngs(0))))
    with pytest.raises(ValueError, match="H = 7: 4 levels"):
        jax.eval_shape(apply, params, 0.1, jnp.zeros((7, 2)), None)
    with pytest.raises(ValueError, match=r"takes trajectories \(H, 2\): reshape it"):
        jax.eval_shape(apply, params, 0.1, jnp.zeros(7), None)
