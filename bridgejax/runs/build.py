"""From a Config and what is known of the data to a Method."""

from __future__ import annotations

import math
from functools import partial

import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array
from jax.tree_util import Partial

from bridgejax import networks
from bridgejax._types import Args, Decoder, Json, State
from bridgejax.data.columns import Encoding
from bridgejax.geometry.manifolds.coordinates import Coordinates
from bridgejax.methods._setup import DataSpec, Setup, Trained
from bridgejax.methods._spec import InRounds, NetworkOptions, Once, Training
from bridgejax.runs.config import Config
from bridgejax.runs.registry import nearest
from bridgejax.training import Method, adam

FOR_KIND = {"unet": "image", "transformer": "image", "temporal": "series"}  # what a network takes; an mlp takes all
MOST_TOKENS = 256  # of a transformer, whose attention costs their square


def _patch(shape: tuple[int, ...]) -> int:
    """The smallest power of two, from 2 on, that cuts an image into few enough patches."""
    patch = 2
    while math.prod(-(-side // patch) for side in shape[:2]) > MOST_TOKENS:
        patch *= 2
    return patch


def make_network(
    options: NetworkOptions | None,
    data: DataSpec,
    seed: int,
    shape: tuple[int, ...] | None = None,
    outputs: tuple[int, ...] | None = None,
    views: int = 1,
    clock: float = 1.0,
) -> nnx.Module:
    """The network that was asked for.

    Args:
        options: kind and size.
        data: what it is to learn.
        seed: of its first parameters.
        shape: of a sample; None: the data's.
        outputs: shape of what it says; None: that of a sample.
        views: how many arrays it is shown, side by side along the last axis.
        clock: end of its clock; the features of time are made for about one unit.

    Raises:
        ValueError: a network that does not take these data.
    """
    assert options is not None  # a method without a network asks for none
    sample_kind = data.kind if shape is None else "table"
    shape = data.shape if shape is None else shape
    kind = options.network
    if kind == "auto":
        large = sample_kind == "image" and min(shape[:2]) >= 16
        kind = "temporal" if sample_kind == "series" else "unet" if large else "mlp"
    if sample_kind != FOR_KIND.get(kind, sample_kind):
        takes = FOR_KIND[kind] + "s" * (FOR_KIND[kind] == "image")
        raise ValueError(f"network {kind!r} takes {takes}, and these data are {sample_kind}; use network 'mlp'")
    for name in ("width", "depth"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    outputs = shape if views > 1 and outputs is None else outputs
    shown = (*shape[:-1], views * shape[-1])
    common: Json = {
        "num_classes": data.num_classes or None,
        "time_scale": 1.0 / clock,
        "dtype": jnp.dtype(options.precision),
        "rngs": nnx.Rngs(seed),
    }
    if kind == "transformer":
        if views > 1:
            raise ValueError("network 'transformer' has no place for a source: use unet or mlp for pairs")
        if outputs is not None:
            raise ValueError("network 'transformer' says one number a pixel: use predict 'end', or network unet or mlp")
        width = options.width or 128
        heads = next(heads for heads in (4, 2, 1) if width % heads == 0)
        depth = options.depth or 4
        return networks.Transformer(shape, patch=_patch(shape), width=width, depth=depth, heads=heads, **common)
    if kind == "unet":
        multipliers = tuple(min(2**level, 4) for level in range(options.depth or 2))
        return networks.UNet(shown, outputs=outputs, width=options.width or 32, multipliers=multipliers, **common)
    if kind == "temporal":
        multipliers = tuple(2**level for level in range(options.depth or min(3, shape[0].bit_length())))
        width = options.width or 16  # 1.6 GFLOP an update of 128 series of 64 times; twice the width costs four times
        return networks.TemporalUNet(shown, outputs=outputs, width=width, multipliers=multipliers, blocks=1, **common)
    size = math.prod(shape)
    small = 8 if data.kind != "manifold" else 0  # numbers up to which a law is simple; fault lines are not
    width = options.width or (128 if size <= small else 256 if size <= 128 else 512)
    return networks.MLP(shown, outputs=outputs, width=width, depth=options.depth or 4, **common)


def make_optimizer(
    training: Training | InRounds | Once,
    steps: int,
    networks: int = 1,
    *,
    rate: float | None = None,
    b1: float = 0.9,
    b2: float = 0.999,
) -> optax.GradientTransformation:
    """Adam as asked for.

    Args:
        training: what was asked for.
        steps: updates planned.
        networks: how many share the updates, so that a rate decays over what one of them gets.
        rate: another peak of the rate.
        b1: decay of the first moment.
        b2: decay of the second moment.
    """
    assert not isinstance(training, Once)  # a method without parameters asks for none
    updates = max(steps // networks, 1)
    return adam(
        training.learning_rate if rate is None else rate,
        b1=b1,
        b2=b2,
        steps=updates,
        final=0.05 if updates < steps else 0.0,  # rounds do not share them out evenly
        warmup=min(training.warmup, updates // 10),
        schedule=training.decay,
        clip=training.clip,
        weight_decay=training.weight_decay,
    )


def _destandardise(shift: Array, scale: Array, key: Array, x: State, args: Args) -> Array:
    return x * scale.astype(x.dtype) + shift.astype(x.dtype)


def _decode(encoding: Encoding, key: Array, x: State, args: Args) -> Array:
    return encoding.decode(x)


def _to_columns(coordinates: Coordinates, key: Array, x: State, args: Args) -> Array:
    return coordinates.decode(x)


def _same(key: Array, x: State, args: Args) -> State:
    return x


def make_decode(data: DataSpec, units: str) -> Decoder:
    """What becomes of a sample: the data's units, or the model's, to be decoded on the host (``Units.to_data``)."""
    if nearest(units, ("data", "model"), "units") == "model":
        return Partial(_same)
    if data.encoding is not None:
        return Partial(_decode, data.encoding)
    if data.coordinates is not None:
        return Partial(_to_columns, data.coordinates)
    return Partial(_destandardise, *(jnp.asarray(part, float) for part in (data.shift, data.scale)))


def build(config: Config, data: DataSpec, *, steps: int, initial: Trained | None = None, units: str = "data") -> Method:
    """The Method of a Config.

    Args:
        config: what to learn.
        data: what it is learnt on.
        steps: updates planned, the length of the learning-rate schedule.
        initial: a run to start from, for methods that take one.
        units: of what its Process samples: "data", decoded on the device in its precision, or "model".

    Raises:
        ValueError: data that the method does not take, or values that do not go together.
    """
    spec = config.spec
    if data.source is None and (spec.own_rows or spec.data in ("two sets", "pairs", "snapshots", "supervised")):
        need = "rows of the data as the spec's source" if spec.own_rows else "a source and a target"
        raise ValueError(f"method {config.method!r} needs {need}")
    if data.source is not None and not (spec.own_rows or spec.two_ended):
        raise ValueError(f"method {config.method!r} starts from noise and takes no source")
    least = {"sample_steps": 1, "steps_per_round": 1, "components": 1, "latent": 1, "batch_size": 1, "accumulate": 1}
    for record in (config.options, config.training):
        for name in least:
            value = getattr(record, name, None)
            if value is not None and value < least[name]:
                raise ValueError(f"{name} must be at least {least[name]}, got {value}")
    setup = Setup(
        data=data,
        network=partial(make_network, config.network, data, config.seed),
        optimizer=partial(make_optimizer, config.training, steps),
        ema=getattr(config.training, "ema", 0.0),
        accumulate=getattr(config.training, "accumulate", 1),
        decode=make_decode(data, units),
        initial=initial,
    )
    return spec.make(config.options, setup)
