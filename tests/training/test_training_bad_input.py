"""Bad input to training: an error of one sentence that names the argument."""

import optax
import pytest
from bad_input import (
    COUNT,
    FUNCTION,
    KEY,
    KEY0,
    METHOD,
    PARAMS,
    POINTS_X,
    PROCESS,
    arguments,
    loss,
    refuse_wrong,
)

import bridgejax as bj

# name: (function, a right call, {argument: kinds of wrong})
TABLE = {
    "gradient_method": (
        bj.gradient_method,
        dict(loss=loss, process=lambda params: PROCESS, optimizer=optax.sgd(0.1), ema=0.9, accumulate=1, params=PARAMS),
        {
            "loss": FUNCTION,
            "process": FUNCTION,
            "optimizer": ("other",),
            "ema": ("text", "objects", "nan", "negative", "zero", "bool"),
            "accumulate": COUNT,
            "params": ("none", "text"),
        },
    ),
    "fit": (
        bj.fit,
        dict(
            method=METHOD,
            data=POINTS_X,
            key=KEY0,
            steps=1,
            batch_size=2,
            refresh_every=None,
            mesh=None,
            directory=None,
            callbacks=(),
            checkpoint_every=None,
            log_every=1,
            keep=1,
            best=None,
        ),
        {
            "method": ("other",),
            "data": ("none", "text"),
            "key": KEY,
            "steps": COUNT,
            "batch_size": COUNT,
            "refresh_every": COUNT[1:],
            "mesh": ("function",),
            "directory": ("directory",),
            "callbacks": ("none", "function"),
            "checkpoint_every": COUNT[1:],
            "log_every": COUNT,
            "keep": COUNT,
        },
    ),
}
COMPILES = {"fit"}  # run elsewhere


@pytest.mark.parametrize(("name", "argument"), arguments(TABLE))
def test_a_wrong_argument_is_named(name, argument):
    refuse_wrong(TABLE[name], argument)


@pytest.mark.parametrize("name", [name for name in TABLE if name not in COMPILES])
def test_the_right_call_is_right(name):
    function, right, _ = TABLE[name]
    function(**right)
