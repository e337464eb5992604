"""Networks chosen by name: what is built fits the data."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bridgejax as bj
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


SPEC = recipes.DataSpec((2,), "points", 0, np.zeros(2), np.ones(2))
LABELLED = dataclasses.replace(SPEC, num_classes=2, classes=("a", "b"))
ROWS = dataclasses.replace(LABELLED, source=np.zeros((4, 2), np.float32))


@pytest.mark.parametrize(
    ("spec", "method", "setting"),
    [
        (SPEC, "flow_matching", {"sampler": "nonsense"}),
        (SPEC, "bridge_matching", {"sampler": "sde"}),
        (SPEC, "edm", {"predict": "velocity"}),
        (SPEC, "edm", {"coupling": "entropic"}),
        (SPEC, "diffusion", {"coupling": "paired"}),
        (SPEC, "diffusion", {"coupling": "ot"}),
        (SPEC, "diffusion", {"epsilon": 0.1}),
        (SPEC, "diffusion", {"latent": 2}),
        (SPEC, "vsdm", {"accumulate": 4}),
        (LABELLED, "vsdm", {"guidance": 2.0}),
        (ROWS, "dsb", {"condition_dropout": 0.5}),
        (ROWS, "lightsb", {"condition_dropout": 0.5}),
        (ROWS, "lightsb", {"precision": "bfloat16"}),
        (SPEC, "constrained", {"standardise": False}),
    ],
)
def test_a_setting_that_nothing_reads_is_refused_by_name(spec, method, setting):
    name = next(iter(setting))
    flag = name.replace("_", "-")
    size: dict = {"components": 2} if method == "lightsb" else {"width": 8, "depth": 1}
    with pytest.raises(ValueError, match=f"method '{method}' has no --(no-)?{flag}"):
        recipes.build(recipes.Config(method=method, **size, **setting), spec, steps=2)


def test_every_method_is_nameable_or_said_to_be_for_python():
    """Those that take a density, a cost or an SDE cannot be trained by words."""
    for name in ("pis", "dis", "dds", "gbs", "cmcd", "underdamped", "adjoint_sampling", "conditioned", "gsbm"):
        with pytest.raises(ValueError, match=rf"is for Python, not for the command line: bridgejax.methods.{name}\("):
            recipes.settle(recipes.Config(method=name))
    methods = {name for name in vars(bj.methods) if inspect.isfunction(getattr(bj.methods, name))}
    for name in methods - set(recipes.BUILDERS):
        with pytest.raises(ValueError, match="is for Python"):
            recipes.settle(recipes.Config(method=name))


def test_labels_needed_for_a_share_of_them():
    with pytest.raises(ValueError, match="condition_dropout needs data with labels"):
        recipes.build(recipes.Config(condition_dropout=0.5, width=8, depth=1), SPEC, steps=2)


def test_a_schedule_whose_least_noise_float32_cannot_time():
    """200 steps of brownian(10) to a log SNR of 10 are shorter than float32 can tell apart: the grid ends above."""
    recipes.build(recipes.Config(schedule="brownian", sampler="sde", width=8, depth=1), SPEC, steps=2)
    schedule = bj.schedules.brownian(10.0)
    ts = bj.grids.log_snr(200, schedule)
    assert np.all(np.diff(ts) > 0)
    assert float(schedule.log_snr(1.0 - ts[-2])) == pytest.approx(9.0, abs=0.1)
    assert float(schedule.log_snr(1.0 - bj.grids.log_snr(20, schedule)[-2])) == pytest.approx(10.0, abs=0.2)
