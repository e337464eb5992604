"""Bad input to networks: an error of one sentence that names the argument."""

import jax.numpy as jnp
import numpy as np
import pytest
from bad_input import (
    COUNT,
    FUNCTION,
    PARAMS,
    POSITIVE,
    REAL,
    arguments,
    network,
    of_time,
    read_out,
    refuse_wrong,
)
from flax import nnx

import bridgejax as bj
from bridgejax.networks import MLP, Embedding, SetTransformer, TemporalUNet, Transformer, UNet


def network_of(cls, shape, **more):
    sizes = {"shape": (*COUNT, "shape"), "width": COUNT, "num_classes": COUNT[1:], "cond_dim": COUNT[1:]}
    common = {
        "embedding": COUNT[1:],
        "time_features": COUNT,
        "time_scale": POSITIVE,
        "dtype": ("text", "objects", "none"),
    }
    kinds = {**sizes, **common, "rngs": ("other",), **more}
    kinds["shape"] = ("none", "shape")
    right = dict(
        shape=shape, width=8, embedding=8, time_features=8, time_scale=1.0, dtype=jnp.float32, rngs=nnx.Rngs(0)
    )
    return (cls, {**right, **{n: v for n, v in NETWORK_VALUES.items() if n in more}}, kinds)


NETWORK_VALUES = dict(
    depth=1, heads=2, multipliers=(1, 2), blocks=1, patch=1, expansion=2, attention=1, positions="sincos", inducing=0
)
LEVELS = ("none", "text", "objects", "levels")
DEPTH = ("none", "text", "count")

# name: (function, a right call, {argument: kinds of wrong})
PAIR = (lambda params, t, x, args: params * x, jnp.ones(()))
TABLE = {
    "MLP": network_of(MLP, (2,), depth=DEPTH),
    "UNet": network_of(UNet, (4, 4, 1), multipliers=LEVELS, blocks=COUNT, attention=DEPTH),
    "TemporalUNet": network_of(TemporalUNet, (4, 2), multipliers=LEVELS, blocks=COUNT),
    "Transformer": network_of(
        Transformer, (4, 2), patch=COUNT, depth=DEPTH, heads=COUNT, expansion=COUNT, positions=("word",)
    ),
    "SetTransformer": network_of(SetTransformer, (4, 2), depth=DEPTH, heads=COUNT, expansion=COUNT, inducing=DEPTH),
    "Embedding": (
        Embedding,
        dict(size=4, num_classes=None, cond_dim=None, time_features=8, time_scale=1.0, rngs=nnx.Rngs(0)),
        {
            "size": COUNT,
            "num_classes": COUNT[1:],
            "cond_dim": COUNT[1:],
            "time_features": COUNT,
            "time_scale": POSITIVE,
            "rngs": ("other",),
        },
    ),
    "fourier_features": (
        bj.networks.fourier_features,
        dict(t=0.5, num=8, low=0.5, high=64.0),
        {"t": REAL[:4], "num": COUNT, "low": POSITIVE, "high": POSITIVE},
    ),
    "functional": (bj.networks.functional, dict(module=(network, PARAMS)), {"module": ("other",)}),
    "networks.hold": (
        bj.networks.hold,
        dict(network=(network, PARAMS), mask=np.array([True, False]), value=read_out, condition=None),
        {"network": ("other",), "mask": ("mask",), "value": FUNCTION, "condition": ("function",)},
    ),
    "precondition": (
        bj.networks.precondition,
        dict(apply=network, alpha=of_time, sigma=of_time, sigma_data=0.5, noise=None),
        {"apply": FUNCTION, "alpha": FUNCTION, "sigma": FUNCTION, "sigma_data": POSITIVE, "noise": ("function",)},
    ),
    "edm_precondition": (
        bj.networks.edm_precondition,
        dict(apply=network, sigma_data=0.5),
        {"apply": FUNCTION, "sigma_data": POSITIVE},
    ),
    "coefficients": (
        bj.networks.coefficients,
        dict(alpha=1.0, sigma=0.5, sigma_data=0.5),
        {"alpha": REAL, "sigma": REAL, "sigma_data": REAL},
    ),
    "or_mlp": (bj.networks.or_mlp, dict(network=None, shape=(2,)), {"shape": ("shape",)}),
    "energy": (
        bj.networks.energy,
        dict(network=PAIR, form="norm"),
        {"network": ("none", "function"), "form": ("word",)},
    ),
}
COMPILES = {"UNet", "TemporalUNet", "Transformer", "SetTransformer"}  # run elsewhere


@pytest.mark.parametrize(("name", "argument"), arguments(TABLE))
def test_a_wrong_argument_is_named(name, argument):
    refuse_wrong(TABLE[name], argument)


@pytest.mark.parametrize("name", [name for name in TABLE if name not in COMPILES])
def test_the_right_call_is_right(name):
    function, right, _ = TABLE[name]
    function(**right)
