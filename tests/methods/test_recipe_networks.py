"""Networks chosen by name: what is built fits the data."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bridgejax.methods import recipes
from bridgejax.networks import TemporalUNet, Transformer, functional

IMAGES = recipes.DataSpec((28, 28, 1), "image", 10, np.zeros(()), np.ones(()))


def build(spec, **options):
    config = recipes.Config(network="transformer", **options)
    return nnx.eval_shape(lambda: recipes.make_network(config, spec))


@pytest.mark.parametrize(
    ("shape", "patch", "tokens"),
    [((8, 8, 1), 2, 16), ((28, 28, 1), 2, 196), ((33, 50, 3), 4, 117), ((4, 256, 1), 2, 256)],
)
def test_transformer_by_name(shape, patch, tokens):
    network = build(dataclasses.replace(IMAGES, shape=shape), depth=2, width=12)
    assert isinstance(network, Transformer)
    assert (network.patch, np.prod(network.grid)) == (patch, tokens)
    apply, params = functional(network)
    assert jax.eval_shape(apply, params, 0.1, jnp.zeros(shape), 3).shape == shape


@pytest.mark.parametrize("width", [1, 7, 10])
def test_any_width_has_heads(width):
    if width == 1:
        with pytest.raises(ValueError, match="width = 1: expected an integer of at least 2"):
            build(IMAGES, width=width)
    else:
        assert build(IMAGES, width=width).width == width


@pytest.mark.parametrize(("shape", "levels"), [((128, 3), 3), ((16, 1), 3), ((3, 2), 2), ((1, 2), 1)])
@pytest.mark.parametrize("views", [1, 2])
def test_series_are_met_by_a_network_over_their_times(shape, levels, views):
    spec = recipes.DataSpec(shape, "series", 4, np.zeros(shape[-1]), np.ones(shape[-1]))
    network = nnx.eval_shape(lambda: recipes.make_network(recipes.Config(width=8), spec, views))
    assert isinstance(network, TemporalUNet)
    assert len(network.down) + 1 == levels
    apply, params = functional(network)
    seen = jnp.zeros((shape[0], views * shape[1]))
    assert jax.eval_shape(apply, params, 0.1, seen, 3).shape == shape
    longer = jnp.zeros((2 * shape[0] + 1, views * shape[1]))
    assert jax.eval_shape(apply, params, 0.1, longer, 3).shape == (2 * shape[0] + 1, shape[1])


def test_a_network_over_times_may_say_more_than_one_number_a_channel():
    network = nnx.eval_shape(lambda: TemporalUNet((8, 2), outputs=(8, 2, 5), width=4, rngs=nnx.Rngs(0)))
    apply, params = functional(network)
    assert jax.eval_shape(apply, params, 0.1, jnp.zeros((8, 2))).shape == (8, 2, 5)
    with pytest.raises(ValueError, match=r"outputs = .4, 2.: expected .8,. first"):
        TemporalUNet((8, 2), outputs=(4, 2), rngs=nnx.Rngs(0))


def test_refusals():
    points = recipes.DataSpec((2,), "points", 0, np.zeros(2), np.ones(2))
    with pytest.raises(ValueError, match="network 'transformer' takes images, and these data are points"):
        build(points)
    with pytest.raises(ValueError, match="network 'temporal' takes series, and these data are image"):
        recipes.make_network(recipes.Config(network="temporal"), IMAGES)
    with pytest.raises(ValueError, match="unknown network 'transfomer'; did you mean 'transformer'"):
        recipes.make_network(recipes.Config(network="transfomer"), points)
