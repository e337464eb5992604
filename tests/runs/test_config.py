"""What a run was asked for: settings belong to records, and the network that is built fits the data."""

import dataclasses
import inspect
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bridgejax as bj
from bridgejax.methods._setup import DataSpec
from bridgejax.methods._spec import MethodSpec
from bridgejax.networks import TemporalUNet, Transformer, functional
from bridgejax.runs import config as configs
from bridgejax.runs import registry
from bridgejax.runs.build import build, make_network
from bridgejax.runs.config import configure
from bridgejax.runs.directory import write_config

IMAGES = DataSpec((28, 28, 1), "image", 10, np.zeros(()), np.ones(()))


def made(spec, network="auto", views=1, **options):
    config = configure("diffusion", network=network, **options)
    return nnx.eval_shape(lambda: make_network(config.network, spec, 0, views=views))


@pytest.mark.parametrize(
    ("shape", "patch", "tokens"),
    [((8, 8, 1), 2, 16), ((28, 28, 1), 2, 196), ((33, 50, 3), 4, 117), ((4, 256, 1), 2, 256)],
)
def test_transformer_by_name(shape, patch, tokens):
    network = made(dataclasses.replace(IMAGES, shape=shape), network="transformer", depth=2, width=12)
    assert isinstance(network, Transformer)
    assert (network.patch, np.prod(network.grid)) == (patch, tokens)
    apply, params = functional(network)
    assert jax.eval_shape(apply, params, 0.1, jnp.zeros(shape), 3).shape == shape


@pytest.mark.parametrize("width", [1, 7, 10])
def test_any_width_has_heads(width):
    if width == 1:
        with pytest.raises(ValueError, match="width = 1: expected an integer of at least 2"):
            made(IMAGES, "transformer", width=width)
    else:
        assert made(IMAGES, "transformer", width=width).width == width


@pytest.mark.parametrize(("shape", "levels"), [((128, 3), 3), ((16, 1), 3), ((3, 2), 2), ((1, 2), 1)])
@pytest.mark.parametrize("views", [1, 2])
def test_series_are_met_by_a_network_over_their_times(shape, levels, views):
    spec = DataSpec(shape, "series", 4, np.zeros(shape[-1]), np.ones(shape[-1]))
    network = made(spec, views=views, width=8)
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
    points = DataSpec((2,), "points", 0, np.zeros(2), np.ones(2))
    with pytest.raises(ValueError, match="network 'transformer' takes images, and these data are points"):
        made(points, "transformer")
    with pytest.raises(ValueError, match="network 'temporal' takes series, and these data are image"):
        made(IMAGES, "temporal")
    with pytest.raises(ValueError, match="network must be 'auto' or 'mlp' or 'unet'"):
        configure("diffusion", network="transfomer")


SPEC = DataSpec((2,), "points", 0, np.zeros(2), np.ones(2))


@pytest.mark.parametrize(
    ("method", "setting"),
    [
        ("flow_matching", {"sampler": "nonsense"}),
        ("flow_matching", {"sigma": 1.0}),
        ("bridge_matching", {"sampler": "sde"}),
        ("edm", {"predict": "velocity"}),
        ("edm", {"coupling": "entropic"}),
        ("diffusion", {"coupling": "paired"}),
        ("diffusion", {"coupling": "ot"}),
        ("diffusion", {"epsilon": 0.1}),
        ("diffusion", {"latent": 2}),
        ("diffusion", {"source": "moons"}),
        ("vsdm", {"accumulate": 4}),
        ("vsdm", {"guidance": 2.0}),
        ("dsb", {"condition_dropout": 0.5}),
        ("dsb", {"data": "moons"}),
        ("lightsb", {"condition_dropout": 0.5}),
        ("lightsb", {"precision": "bfloat16"}),
        ("i2sb", {"coupling": "ot"}),
        ("ddbm", {"sigma": 1.0}),
        ("constrained", {"standardise": False}),
    ],
)
def test_a_setting_that_a_method_does_not_have_is_refused_by_name(method, setting):
    with pytest.raises(ValueError, match=f"method '{method}' has no setting '{next(iter(setting))}'; "):
        configure(method, **setting)


def test_every_method_is_nameable_or_said_to_be_for_python():
    """Those that take a density, a cost or an SDE cannot be trained by words."""
    for name in (
        "pis",
        "dis",
        "dds",
        "gbs",
        "cmcd",
        "underdamped",
        "adjoint_sampling",
        "conditioned",
        "gsbm",
        "deep_gp",
    ):
        with pytest.raises(ValueError, match=rf"is used from Python: it needs .*bridgejax.methods.{name}\("):
            registry.spec_of(name)
    parts = {
        "codec",
        "pca",
        "vae",
        "last_step",
        "mirrored",
        "predict",
        "log_joint",
    }  # parts of methods, or made of others
    methods = {name for name in dir(bj.methods) if inspect.isfunction(getattr(bj.methods, name))} - parts
    assert methods <= set(registry.specs()) | set(registry.IN_PYTHON)


@pytest.mark.parametrize("name", sorted(registry.specs()))
def test_a_config_is_a_record_and_back(name):
    config = configs.default(name)
    assert configs.from_record(json.loads(json.dumps(configs.to_record(config)))) == config
    assert configs.from_record({"method": name}) == config
    seeded = configure(name, seed=3, batch_size=7)
    assert configs.from_record(configs.to_record(seeded)) == seeded
    assert config.spec.when
    assert set(config.spec.sampling) <= {field.name for field in dataclasses.fields(config.options)}


def test_records_that_are_none():
    for record, words in (
        ({}, "must be a mapping with method"),
        ({"method": {"sigma": 1}}, "method must have a name"),
        ({"method": "edm", "trainin": {}}, "no setting 'trainin'; did you mean 'training'"),
        ({"method": {"name": "edm", "sampler": "x"}}, "sampler must be 'ode' or 'sde', got 'x'"),
        ({"method": "edm", "training": {"batch_size": "many"}}, "batch_size must be a int, got 'many'"),
        ({"method": "edm", "training": 3}, "training must be a mapping of settings"),
        ({"method": "edm", "seed": True}, "seed must be a int, got True"),
    ):
        with pytest.raises(ValueError, match=words):
            configs.from_record(record)


class Entry:
    """What importlib.metadata gives for an entry point."""

    def __init__(self, found):
        self.value, self.load = "package:SPEC", lambda: found


def test_a_method_of_another_package_is_named_by_an_entry_point(monkeypatch):
    """A toy from outside: known by name, configured and built, with nothing of ours changed."""
    outside = MethodSpec("toy", "a toy", "To see that it can be named.", "one set", Toy, f"{__name__}:build_toy")
    monkeypatch.setattr(registry.metadata, "entry_points", lambda group: [Entry(outside)])
    registry.specs.cache_clear()
    try:
        config = configure("toy", sample_steps=3, width=8, depth=1)
        method = build(config, SPEC, steps=2)
        assert method.process(method.init(jax.random.key(0), None)).ts.shape == (4,)
        with pytest.raises(ValueError, match="'toy' has no setting 'sigma'"):
            configure("toy", sigma=1.0)
        taken = dataclasses.replace(outside, name="edm")
        monkeypatch.setattr(registry.metadata, "entry_points", lambda group: [Entry(taken)])
        registry.specs.cache_clear()
        with pytest.raises(ValueError, match="names 'edm', a name that is taken"):
            registry.specs()
        monkeypatch.setattr(registry.metadata, "entry_points", lambda group: [Entry(3)])
        with pytest.raises(ValueError, match="must be a MethodSpec, got 3"):
            registry.specs()
    finally:
        registry.specs.cache_clear()


def test_a_method_from_outside_whose_steps_cannot_be_chosen_refuses_others(monkeypatch, tmp_path):
    """What a spec lets change by default need not be among the options of the method."""

    @dataclasses.dataclass(frozen=True)
    class Nothing:
        """Options of a method that has none."""

    spec = MethodSpec("toy", "a toy", "To see what it refuses.", "one set", Nothing, f"{__name__}:build_toy")
    monkeypatch.setattr(registry.metadata, "entry_points", lambda group: [Entry(spec)])
    registry.specs.cache_clear()
    try:
        write_config(tmp_path, configure("toy", width=8, depth=1), SPEC, 1)
        with pytest.raises(ValueError, match="sample_steps of method 'toy' .* nothing may change"):
            bj.load(tmp_path, sample_steps=3)
    finally:
        registry.specs.cache_clear()


@dataclasses.dataclass(frozen=True)
class Toy:
    """Options of a method from outside."""

    sample_steps: int = 5


def build_toy(options, setup):
    return bj.methods.bridge_matching(
        setup.network(), shape=setup.data.shape, sigma=0.0, ts=bj.grids.uniform(options.sample_steps)
    )


def test_labels_needed_for_a_share_of_them():
    with pytest.raises(ValueError, match="condition_dropout needs data with labels"):
        build(configure("diffusion", condition_dropout=0.5, width=8, depth=1), SPEC, steps=2)


def test_a_schedule_whose_least_noise_float32_cannot_time():
    """200 steps of brownian(10) to a log SNR of 10 are shorter than float32 can tell apart: the grid ends above."""
    build(configure("diffusion", schedule="brownian", sampler="sde", width=8, depth=1), SPEC, steps=2)
    schedule = bj.schedules.brownian(10.0)
    ts = bj.grids.log_snr(200, schedule)
    assert np.all(np.diff(ts) > 0)
    assert float(schedule.log_snr(1.0 - ts[-2])) == pytest.approx(9.0, abs=0.1)
    assert float(schedule.log_snr(1.0 - bj.grids.log_snr(20, schedule)[-2])) == pytest.approx(10.0, abs=0.2)
