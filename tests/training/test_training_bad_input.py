"""Bad input to training: an error of one sentence that names the argument."""

import pathlib
import tempfile

import optax
import pytest
from bad_input import (
    COUNT,
    FUNCTION,
    KEY,
    KEY0,
    METHOD,
    NUMBER,
    PARAMS,
    POINTS_X,
    POSITIVE,
    PROCESS,
    arguments,
    loss,
    refuse_wrong,
)

import bridgejax as bj

FOLDER = pathlib.Path(tempfile.mkdtemp())
bj.training.save(FOLDER, 1, {"x": PARAMS})
bj.training.records.append(FOLDER, {"step": 1})
PLACE = {"directory": ("none", "directory")}
RATE = dict(lr=0.1, steps=4, warmup=1, schedule="cosine", final=0.1)
RATES = {
    "lr": POSITIVE,
    "steps": COUNT,
    "warmup": COUNT[:-1],
    "schedule": ("word",),
    "final": (*NUMBER, "negative"),
}

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
    "optimizers.learning_rate": (bj.training.optimizers.learning_rate, RATE, RATES),
    "adam": (
        bj.training.adam,
        dict(**RATE, clip=1.0, weight_decay=0.1, b1=0.9, b2=0.99, eps=1e-8),
        {
            **RATES,
            "clip": POSITIVE[1:],
            **{name: (*NUMBER, "negative") for name in ("weight_decay", "b1", "b2", "eps")},
        },
    ),
    "optimizers.in_float32": (
        bj.training.optimizers.in_float32,
        dict(optimizer=optax.sgd(0.1)),
        {"optimizer": ("other",)},
    ),
    "latest_step": (bj.training.latest_step, dict(directory=FOLDER), PLACE),
    "checkpoints.available_steps": (bj.training.checkpoints.available_steps, dict(directory=FOLDER), PLACE),
    "checkpoints.best": (
        bj.training.checkpoints.best,
        dict(directory=FOLDER, metric="loss"),
        {**PLACE, "metric": ("none", "directory")},
    ),
    "checkpoints.metadata": (
        bj.training.checkpoints.metadata,
        dict(directory=FOLDER, step=1),
        {**PLACE, "step": COUNT[1:-1]},
    ),
    "save": (
        bj.training.save,
        dict(directory=FOLDER, step=1, tree={"x": PARAMS}, keep=1),
        {**PLACE, "step": COUNT[:-1], "keep": COUNT[1:]},
    ),
    "restore": (
        bj.training.restore,
        dict(directory=FOLDER, target={"x": PARAMS}, step=1),
        {**PLACE, "step": COUNT[1:-1]},
    ),
    "records.read": (bj.training.records.read, dict(directory=FOLDER), PLACE),
    "records.lines": (bj.training.records.lines, dict(directory=FOLDER), PLACE),
    "records.append": (bj.training.records.append, dict(directory=FOLDER, line={"step": 1}), PLACE),
    "records.truncate": (bj.training.records.truncate, dict(directory=FOLDER, step=1), {**PLACE, "step": COUNT[:-1]}),
}
COMPILES = {"fit"}  # run elsewhere


@pytest.mark.parametrize(("name", "argument"), arguments(TABLE))
def test_a_wrong_argument_is_named(name, argument):
    refuse_wrong(TABLE[name], argument)


@pytest.mark.parametrize("name", [name for name in TABLE if name not in COMPILES])
def test_the_right_call_is_right(name):
    function, right, _ = TABLE[name]
    function(**right)
