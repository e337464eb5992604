"""Bad input to solve: an error of one sentence that names the argument."""

import diffrax as dfx
import numpy as np
import pytest
from bad_input import (
    BACK,
    COUNT,
    EULER,
    FUNCTION,
    KEY,
    KEY0,
    KEYS,
    NUMBER,
    POSITIVE,
    PROCESS,
    REAL,
    SDE,
    STATE,
    TS,
    VP,
    X,
    arguments,
    closing,
    noise,
    refuse_closures,
    refuse_wrong,
    score,
)

import bridgejax as bj

SIMULATE = {
    "sde": ("sde",),
    "key": KEY,
    "x0": ("none", "text", "objects", "complex", "booleans", "integers"),
    "ts": ("clock",),
    "solver": ("solver",),
    "controller": ("controller",),
}

# name: (function, a right call, {argument: kinds of wrong})
TABLE = {
    "simulate": (bj.simulate, dict(sde=SDE, key=KEY0, x0=X, ts=TS, solver=dfx.Euler(), controller=None), SIMULATE),
    "simulate_path": (
        bj.simulate_path,
        dict(sde=SDE, key=KEY0, x0=X, ts=TS, solver=None, controller=None),
        {**SIMULATE, "controller": ()},
    ),
    "simulate_batch": (
        bj.simulate_batch,
        dict(
            sde=SDE,
            keys=KEYS,
            x0s=np.zeros((3, 2), np.float32),
            ts=TS,
            axes=(None, 0, 0),
            solver=None,
            micro_batch=None,
            mesh=None,
        ),
        {
            "sde": ("sde",),
            "keys": ("key", "one key"),
            "x0s": ("none", *STATE, "extra axis", "missing axis"),
            "ts": ("clock",),
            "axes": ("axes",),
            "solver": ("solver",),
            "micro_batch": ("text", "count", "zero count"),
            "mesh": ("function",),
        },
    ),
    "sample": (
        bj.sample,
        dict(
            process=PROCESS,
            keys=KEYS,
            x=np.zeros((3, 2), np.float32),
            t=0.0,
            direction="forward",
            ts=TS,
            solver=None,
            micro_batch=None,
            mesh=None,
        ),
        {
            "process": ("other", "sde", "processes"),
            "keys": ("key", "one key"),
            "x": (*STATE, "extra axis"),
            "t": (*NUMBER, "negative"),
            "direction": ("word",),
            "ts": ("clock - none",),
            "solver": ("solver",),
            "micro_batch": ("text", "count", "zero count"),
            "mesh": ("function",),
        },
    ),
    "grids.uniform": (
        bj.grids.uniform,
        dict(n=4, T=1.0, start=0.0),
        {"n": COUNT, "T": ("end",), "start": (*NUMBER, "negative")},
    ),
    "grids.quadratic": (bj.grids.quadratic, dict(n=4, T=1.0), {"n": COUNT, "T": ("end",)}),
    "grids.log_snr": (
        bj.grids.log_snr,
        dict(n=4, schedule=VP, log_snr_max=5.0, log_snr_min=-5.0),
        {"n": COUNT, "schedule": ("schedule",), "log_snr_max": NUMBER[1:], "log_snr_min": NUMBER[1:]},
    ),
    "grids.karras": (
        bj.grids.karras,
        dict(n=4, schedule=None, sigma_min=0.01, sigma_max=10.0, rho=7.0),
        {"n": COUNT, "schedule": ("schedule - none",), "sigma_min": POSITIVE, "sigma_max": POSITIVE, "rho": POSITIVE},
    ),
    "ExponentialEuler": (bj.solvers.ExponentialEuler, dict(eta=1.0), {"eta": (*NUMBER, "negative", "bool")}),
    "DPMSolverPP2M": (bj.solvers.DPMSolverPP2M, dict(eta=1.0), {"eta": (*NUMBER, "negative", "bool")}),
    "PredictorCorrector": (bj.solvers.PredictorCorrector, dict(snr=0.16), {"snr": (*POSITIVE, "bool")}),
    "kernels.gaussian": (
        bj.kernels.gaussian,
        dict(mean=score, scale=noise, T=1.0),
        {"mean": (*FUNCTION, "closure"), "scale": (*FUNCTION, "closure"), "T": ("end",)},
    ),
    "kernels.euler": (bj.kernels.euler, dict(sde=SDE), {"sde": ("sde",)}),
    "kernels.exponential": (bj.kernels.exponential, dict(sde=BACK), {"sde": ("sde",)}),
    "kernels.ou": (
        bj.kernels.ou,
        dict(schedule=VP, center=0.0),
        {"schedule": ("schedule",), "center": (*REAL, "not finite", "closure")},
    ),
    "kernels.underdamped": (
        bj.kernels.underdamped,
        dict(force=score, friction=1.0, control=None, T=1.0, direction="backward"),
        {
            "force": (*FUNCTION, "closure"),
            "friction": POSITIVE,
            "control": ("function", "closure"),
            "T": ("end",),
            "direction": ("word",),
        },
    ),
    "kernels.walk": (
        bj.kernels.walk,
        dict(kernel=EULER, key=KEY0, x0=X, ts=TS),
        {"kernel": ("other", "sde"), "key": KEY, "x0": ("none", *STATE), "ts": ("clock",)},
    ),
    "grids.two_sided": (bj.grids.two_sided, dict(n=4, T=1.0), {"n": COUNT, "T": ("end",)}),
    "grids.deviation": (
        bj.grids.deviation,
        dict(n=4, schedule=bj.schedules.brownian(), last=0.03, rho=1.0),
        {"n": COUNT, "schedule": ("schedule",), "last": POSITIVE, "rho": POSITIVE},
    ),
}
COMPILES = {"simulate_batch", "sample"}  # run elsewhere


@pytest.mark.parametrize(("name", "argument"), arguments(TABLE))
def test_a_wrong_argument_is_named(name, argument):
    refuse_wrong(TABLE[name], argument)


@pytest.mark.parametrize("name", [name for name in TABLE if name not in COMPILES])
def test_the_right_call_is_right(name):
    function, right, _ = TABLE[name]
    function(**right)


@pytest.mark.parametrize(("name", "argument"), closing(TABLE))
def test_a_closure_over_an_array_is_told_of_partial(name, argument):
    refuse_closures(TABLE[name], argument)
