"""Bad input to objectives: an error of one sentence that names the argument."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_input import (
    COUNT,
    FUNCTION,
    KEYS,
    NOISY,
    NUMBER,
    PARAMS,
    POSITIVE,
    REAL,
    TS,
    VP,
    XBRIDGE,
    arguments,
    few,
    network,
    refuse_wrong,
)
from hypothesis import given
from hypothesis import strategies as st

import bridgejax as bj
from bridgejax.objectives import times, weightings

RANGE = {"low": (*NUMBER, "negative"), "high": (*NUMBER, "negative", "zero")}

LOGITS = np.arange(3.0)


def told(x, args):
    return x


def nothing():
    return jnp.zeros(())


# name: (function, a right call, {argument: kinds of wrong})
TABLE = {
    "times.uniform": (times.uniform, dict(low=0.1, high=1.0), RANGE),
    "times.low_discrepancy": (times.low_discrepancy, dict(low=0.1, high=1.0), RANGE),
    "times.logit_normal": (
        times.logit_normal,
        dict(mean=0.0, std=1.0, low=0.1, high=1.0),
        {**RANGE, "mean": NUMBER, "std": POSITIVE},
    ),
    "times.log_normal": (
        times.log_normal,
        dict(mean=0.0, std=1.0, low=0.1, high=1.0),
        {**RANGE, "mean": NUMBER, "std": POSITIVE},
    ),
    "times.importance": (
        times.importance,
        dict(density=VP, low=0.1, high=1.0, num=4, draw=None),
        {
            "density": FUNCTION,
            "low": (*NUMBER[1:], "negative", "zero"),
            "high": (*NUMBER[1:], "negative", "zero"),
            "num": COUNT,
            "draw": ("function",),
        },
    ),
    "weightings.weight": (
        weightings.weight,
        dict(schedule=VP, predict="eps", weighting="edm", sigma_data=1.0),
        {"schedule": ("schedule",), "predict": ("word",), "weighting": ("words",), "sigma_data": POSITIVE},
    ),
    "matching": (
        bj.objectives.matching,
        dict(interpolant=NOISY, apply=network, predict="eps", times=None, weight=None, condition_dropout=0.1, null=0),
        {
            "interpolant": ("other",),
            "apply": FUNCTION,
            "predict": ("word",),
            "times": ("function",),
            "weight": ("function",),
            "condition_dropout": (*NUMBER, "negative"),
            "null": ("none",),
        },
    ),
    "bridge_loss": (
        bj.objectives.bridge_loss,
        dict(bridge=XBRIDGE, apply=network, times=None, weight=None),
        {"bridge": ("other",), "apply": FUNCTION, "times": ("function",), "weight": ("function",)},
    ),
    "implicit": (
        bj.objectives.implicit,
        dict(
            interpolant=NOISY,
            apply=network,
            divergence="exact",
            probes=1,
            times=None,
            weight=None,
            condition_dropout=0.1,
            null=0,
        ),
        {
            "interpolant": ("function",),
            "apply": FUNCTION,
            "divergence": ("words",),
            "probes": COUNT,
            "times": ("function",),
            "weight": ("function",),
            "condition_dropout": (*NUMBER, "negative"),
            "null": ("none",),
        },
    ),
    "generator_loss": (bj.objectives.generator_loss, dict(fake=LOGITS), {"fake": REAL}),
    "discriminator_loss": (
        bj.objectives.discriminator_loss,
        dict(real=LOGITS, fake=LOGITS),
        {"real": REAL, "fake": REAL},
    ),
    "r1_penalty": (
        bj.objectives.r1_penalty,
        dict(discriminator=told, x=LOGITS, gamma=1.0),
        {"discriminator": FUNCTION, "gamma": (*NUMBER, "negative")},
    ),
    "lazy": (
        bj.objectives.lazy,
        dict(function=nothing, step=3, every=2),
        {"function": FUNCTION, "step": REAL, "every": COUNT},
    ),
    "times.along": (bj.objectives.times.along, dict(ts=TS), {"ts": REAL}),
}
COMPILES = {"times.importance"}  # run elsewhere


@pytest.mark.parametrize(("name", "argument"), arguments(TABLE))
def test_a_wrong_argument_is_named(name, argument):
    refuse_wrong(TABLE[name], argument)


@pytest.mark.parametrize("name", [name for name in TABLE if name not in COMPILES])
def test_the_right_call_is_right(name):
    function, right, _ = TABLE[name]
    function(**right)


def column(params, t, x, args):
    return x[:, None]


@few
@given(predict=st.sampled_from(["x0", "eps", "score", "velocity"]))
def test_a_loss_does_not_broadcast(predict):
    with pytest.raises(ValueError, match=r"what apply returns must be shaped like its target, \(2,\), got \(2, 1\)"):
        jax.eval_shape(bj.objectives.matching(NOISY, column, predict), PARAMS, KEYS, jnp.zeros((3, 2)))
