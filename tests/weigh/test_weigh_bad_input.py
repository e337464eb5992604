"""Bad input to weigh: an error of one sentence that names the argument."""

import numpy as np
import pytest
from bad_input import (
    COUNT,
    DENSITY,
    EULER,
    FLOWING,
    FUNCTION,
    KEY,
    KEY0,
    KEYS,
    LOGS,
    NUMBER,
    PATH,
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
    level,
    log_density,
    refuse_closures,
    refuse_wrong,
)

import bridgejax as bj

# name: (function, a right call, {argument: kinds of wrong})
TABLE = {
    "path_log_ratio": (
        bj.path_log_ratio,
        dict(path=PATH, forward=EULER, backward=EULER),
        {"path": ("other", "paths"), "forward": ("other", "kernels"), "backward": ("other", "kernels")},
    ),
    "log_weights": (
        bj.log_weights,
        dict(process=PROCESS, keys=KEYS, log_density=log_density, forward=None, backward=None, micro_batch=None),
        {
            "process": ("other", "sde", "processes"),
            "keys": ("key", "one key"),
            "log_density": (*FUNCTION, "closure"),
            "forward": ("kernels", "function"),
            "backward": ("kernels", "function"),
            "micro_batch": ("text", "count", "zero count"),
        },
    ),
    "weighted_samples": (
        bj.weighted_samples,
        dict(process=PROCESS, keys=KEYS, log_density=log_density),
        {"process": ("other",), "keys": ("key", "one key"), "log_density": (*FUNCTION, "closure")},
    ),
    "log_prob": (
        bj.log_prob,
        dict(process=FLOWING, key=KEY0, x=X, kind="flow", divergence="exact", ts=None),
        {
            "process": ("other", "processes"),
            "key": KEY,
            "x": ("none", *STATE),
            "kind": ("words",),
            "divergence": ("words",),
            "ts": ("clock - none",),
        },
    ),
    "log_prob, a bound": (
        bj.log_prob,
        dict(process=FLOWING, key=KEY0, x=X, kind="bound", samples=2, t_min=0.1, ts=None),
        {"process": ("other",), "samples": COUNT, "t_min": (*REAL[1:], "negative", "zero"), "ts": ("clock - none",)},
    ),
    "hjb_residual": (
        bj.hjb_residual,
        dict(sde_or_schedule=VP, t=0.5, x=X, log_density=level),
        {
            "sde_or_schedule": ("other",),
            "t": (*NUMBER, "negative"),
            "x": ("none", "text", "objects", "complex", "booleans"),
            "log_density": (*FUNCTION, "closure"),
        },
    ),
    "bits_per_dim": (
        bj.bits_per_dim,
        dict(log_prob=-3.0, size=2, bin_width=1.0),
        {"log_prob": REAL, "size": COUNT, "bin_width": POSITIVE},
    ),
    "weights.systematic": (
        bj.weights.systematic,
        dict(key=KEY0, log_weights=LOGS),
        {"key": KEY, "log_weights": (*REAL, "spoilt", "extra axis", "missing axis")},
    ),
    "weights.flattened": (
        bj.weights.flattened,
        dict(log_weights=LOGS, share=0.5),
        {"log_weights": (*REAL, "spoilt", "extra axis", "missing axis"), "share": POSITIVE},
    ),
    "mcmc.hmc": (
        bj.mcmc.hmc,
        dict(leapfrogs=3, persistence=0.5, difference="line", nodes=5),
        {
            "leapfrogs": COUNT,
            "persistence": (*NUMBER, "negative"),
            "difference": ("words",),
            "nodes": COUNT,
        },
    ),
    "mcmc.annealed": (
        bj.mcmc.annealed,
        dict(density=DENSITY, keys=KEYS, ts=TS, move=bj.mcmc.hmc(), transitions=1, step_sizes=0.1),
        {
            "density": ("other", "sde"),
            "keys": ("key", "one key"),
            "ts": ("clock",),
            "move": ("words",),
            "transitions": COUNT,
            "step_sizes": (*REAL[1:], "not finite", "negative", "zero", "extra axis"),
        },
    ),
    "mcmc.tune": (
        bj.mcmc.tune,
        dict(density=DENSITY, key=KEY0, ts=TS, target=0.8, transitions=2, chains=4, size=0.5),
        {
            "density": ("other", "sde"),
            "key": KEY,
            "ts": ("clock",),
            "target": (*NUMBER, "negative", "zero"),
            "transitions": COUNT,
            "chains": COUNT,
            "size": POSITIVE,
        },
    ),
    "feynman_kac": (
        bj.feynman_kac,
        dict(density=DENSITY, key=KEY0, num=4, ts=TS, weights="rate", threshold=0.5),
        {
            "density": ("other", "sde"),
            "key": KEY,
            "num": COUNT,
            "ts": ("clock",),
            "weights": ("words",),
            "threshold": (*NUMBER, "negative"),
        },
    ),
    "superpose": (
        bj.superpose,
        dict(parts=[DENSITY, DENSITY], keys=KEYS, ts=TS, mode="or", bias=np.zeros(2)),
        {
            "parts": ("other", "sde"),
            "keys": ("key", "one key"),
            "ts": ("clock",),
            "mode": ("word",),
            "bias": (*REAL[1:], "spoilt", "extra axis", "missing axis"),
        },
    ),
    **{
        f"weights.{name}": (
            getattr(bj.weights, name),
            dict(log_weights=LOGS),
            {"log_weights": (*REAL, "spoilt", "extra axis", "missing axis")},
        )
        for name in ("log_z", "log_z_error", "elbo", "eubo", "ess")
    },
    "smc": (
        bj.smc,
        dict(process=PROCESS, key=KEY0, num=4, log_density=log_density),
        {"process": ("other",), "key": KEY, "num": COUNT, "log_density": FUNCTION},
    ),
    "mcmc.mala": (bj.mcmc.mala, dict(difference=None, nodes=5), {"difference": ("text",), "nodes": COUNT}),
    "mcmc.uhmc": (
        bj.mcmc.uhmc,
        dict(leapfrogs=3, persistence=0.5),
        {"leapfrogs": COUNT, "persistence": (*NUMBER, "negative")},
    ),
    "pcn": (
        bj.pcn,
        dict(guided=bj.guide(SDE, bj.Observation(1.0, X)), key=KEY0, x0=X, ts=TS, moves=2, rho=0.9),
        {"guided": ("other",), "key": KEY, "ts": ("clock",), "moves": COUNT, "rho": (*NUMBER, "negative")},
    ),
}
COMPILES = {
    "log_weights",
    "weighted_samples",
    "log_prob",
    "log_prob, a bound",
    "mcmc.annealed",
    "mcmc.tune",
    "feynman_kac",
    "superpose",
}  # run elsewhere


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
