"""Bad input to bridges: an error of one sentence that names the argument."""

import jax.numpy as jnp
import numpy as np
import pytest
from bad_input import (
    BACK,
    BROWNIAN,
    DENSITY,
    FLOWING,
    FUNCTION,
    GAUSSIAN,
    LINE,
    LINEAR,
    NOISY,
    NUMBER,
    POSITIVE,
    PROCESS,
    REAL,
    SDE,
    TS,
    VP,
    XBRIDGE,
    X,
    arguments,
    closing,
    level,
    positive_rate,
    refuse_closures,
    refuse_wrong,
    score,
)

import bridgejax as bj

ENERGY = (lambda params, t, x, args: params * x, jnp.ones(()))

# name: (function, a right call, {argument: kinds of wrong})
TABLE = {
    "reverse": (
        bj.reverse,
        dict(sde_or_schedule=SDE, score=score),
        {"sde_or_schedule": ("other",), "score": (*FUNCTION, "closure")},
    ),
    "reverse(denoiser)": (bj.reverse, dict(sde_or_schedule=VP, denoiser=score), {"denoiser": (*FUNCTION, "closure")}),
    "probability_flow": (
        bj.probability_flow,
        dict(sde_or_schedule=SDE, score=score),
        {"sde_or_schedule": ("other",), "score": (*FUNCTION, "closure")},
    ),
    "probability_flow(denoiser)": (
        bj.probability_flow,
        dict(sde_or_schedule=VP, denoiser=score),
        {"denoiser": (*FUNCTION, "closure")},
    ),
    "pin": (bj.pin, dict(process=VP, x1=X), {"process": ("other",), "x1": (*REAL, "spoilt")}),
    "pin(linear)": (
        bj.pin,
        dict(process=LINEAR, x1=X),
        {"x1": (*REAL, "spoilt", "extra axis", "missing axis", "length")},
    ),
    "doob": (bj.doob, dict(sde=SDE, grad_log_h=score), {"sde": ("sde",), "grad_log_h": (*FUNCTION, "closure")}),
    "control": (bj.control, dict(sde=SDE, u=score), {"sde": ("sde",), "u": (*FUNCTION, "closure")}),
    "clamp": (
        bj.clamp,
        dict(sde=SDE, mask=np.array([True, False]), value=X),
        {"sde": ("sde",), "mask": ("mask",), "value": (*REAL[1:], "spoilt")},
    ),
    "stop": (bj.stop, dict(process=PROCESS, t=0.5), {"process": ("other",), "t": (*NUMBER, "negative", "zero")}),
    "teleport": (
        bj.teleport,
        dict(process=FLOWING, law=GAUSSIAN, snr=0.25),
        {"process": ("other", "sde", "processes"), "law": ("other",), "snr": (*POSITIVE[1:],)},
    ),
    "teleport(t)": (
        bj.teleport,
        dict(process=FLOWING, law=GAUSSIAN, t=0.5),
        {"t": (*NUMBER[1:], "negative", "zero")},
    ),
    "transport": (
        bj.transport,
        dict(interpolant=LINE, network=score, predict="velocity"),
        {"interpolant": ("other",), "network": (*FUNCTION, "closure"), "predict": ("word",)},
    ),
    "compose.density": (
        bj.compose.density,
        dict(schedule=VP, shape=(2,), score=score),
        {"schedule": ("schedule",), "shape": ("shape",), "score": ("function", "closure")},
    ),
    "compose.model": (
        bj.compose.model,
        dict(process=bj.Process(bj.starts.normal((2,)), BACK, jnp.array(TS))),
        {"process": ("other", "sde")},
    ),
    "compose.power": (bj.compose.power, dict(part=DENSITY, exponent=2.0), {"part": ("other",), "exponent": POSITIVE}),
    "compose.negation": (
        bj.compose.negation,
        dict(part=DENSITY, without=DENSITY, strength=1.0),
        {"strength": POSITIVE},
    ),
    "compose.guidance": (
        bj.compose.guidance,
        dict(conditional=DENSITY, unconditional=DENSITY, scale=2.0),
        {"scale": NUMBER},
    ),
    "compose.tilted": (
        bj.compose.tilted,
        dict(part=DENSITY, log_factor=level, scale=2.0),
        {"part": ("other",), "log_factor": ("function", "closure"), "scale": NUMBER},
    ),
    "interpolants.diffusion": (bj.interpolants.diffusion, dict(schedule=VP), {"schedule": ("schedule",)}),
    "interpolants.bridge": (bj.interpolants.bridge, dict(schedule=VP), {"schedule": ("schedule",)}),
    "interpolants.brownian": (bj.interpolants.brownian, dict(sigma=1.0), {"sigma": POSITIVE}),
    "Interpolant()": (
        NOISY,
        dict(t=0.5, x0=X, eps=X),
        {"t": REAL, "x0": REAL, "eps": (*REAL, "extra axis", "missing axis", "length")},
    ),
    "Interpolant() two ends": (
        BROWNIAN,
        dict(t=0.5, x0=X, x1=X, eps=X),
        {"x1": (*REAL, "extra axis", "missing axis", "length")},
    ),
    "Interpolant.velocity": (
        BROWNIAN.velocity,
        dict(t=0.5, x0=X, x1=X, eps=X),
        {"t": REAL, "x0": REAL, "x1": (*REAL, "length"), "eps": (*REAL, "length")},
    ),
    "predictions.solve": (
        bj.predictions.solve,
        dict(t=0.5, x=X, interpolant=NOISY, known={"eps": X}, to="score", g=1.0),
        {
            "t": REAL,
            "x": REAL,
            "interpolant": ("other",),
            "known": ("none", "text", "objects", "knowns"),
            "to": ("word",),
            "g": (*POSITIVE[1:-2], "negative"),
        },
    ),
    "predictions.convert": (
        bj.predictions.convert,
        dict(path=VP, network=score, kind="eps", to="x0"),
        {"path": ("other",), "network": (*FUNCTION, "closure"), "kind": ("word",), "to": ("word",)},
    ),
    "x_bridges.pinned": (
        bj.x_bridges.pinned,
        dict(schedule=bj.schedules.brownian(), start=X, start_std=0.3),
        {"schedule": ("schedule",), "start": (*REAL, "spoilt"), "start_std": (*NUMBER, "negative")},
    ),
    "x_bridges.reversal": (bj.x_bridges.reversal, dict(schedule=VP), {"schedule": ("schedule",)}),
    "x_bridges.forced": (
        bj.x_bridges.forced,
        dict(alpha=positive_rate, sigma=positive_rate, start=X, start_std=0.3, T=1.0),
        {"alpha": FUNCTION, "sigma": FUNCTION, "start": REAL, "start_std": (*NUMBER, "negative"), "T": POSITIVE},
    ),
    "x_bridges.added": (
        bj.x_bridges.added,
        dict(bridge=XBRIDGE, f=score),
        {"bridge": ("other",), "f": (*FUNCTION, "closure")},
    ),
    "x_bridges.projection": (
        bj.x_bridges.projection,
        dict(bridge=XBRIDGE, points=np.ones((3, 2)), weights=np.ones(3)),
        {"bridge": ("other",), "points": REAL, "weights": (*REAL[1:], "spoilt", "length")},
    ),
    "guidance.classifier_free": (
        bj.guidance.classifier_free,
        dict(f=score, scale=2.0, null=0),
        {"f": (*FUNCTION, "closure"), "scale": NUMBER},
    ),
    "guidance.posterior": (
        bj.guidance.posterior,
        dict(
            sde=BACK, operator=np.ones((1, 2)), value=np.ones(1), noise=0.1, method="dps", data_variance=1.0, scale=1.0
        ),
        {
            "sde": ("sde",),
            "operator": (*REAL, "spoilt", "extra axis", "missing axis", "closure"),
            "value": (*REAL, "spoilt", "length"),
            "noise": POSITIVE,
            "method": ("word",),
            "data_variance": POSITIVE,
            "scale": NUMBER,
        },
    ),
    "guidance.inpaint": (
        bj.guidance.inpaint,
        dict(sde=BACK, mask=np.array([True, False]), value=X, noise=0.0, data_variance=1.0),
        {
            "sde": ("sde",),
            "mask": ("mask", "length"),
            "value": (*REAL, "spoilt", "extra axis", "missing axis", "length"),
            "noise": (*NUMBER, "negative"),
            "data_variance": POSITIVE,
        },
    ),
    "guidance.hold": (
        bj.guidance.hold,
        dict(sde=BACK, mask=np.array([True, False]), value=X),
        {"sde": ("sde",), "mask": ("mask",), "value": (*REAL, "spoilt", "closure")},
    ),
    "constrain": (
        bj.constrain,
        dict(schedule=VP, domain=bj.domains.Box(0.0, 1.0), f=score),
        {"schedule": ("schedule",), "domain": ("other",), "f": ("function", "closure")},
    ),
    "guide": (
        bj.guide,
        dict(sde=SDE, observations=bj.Observation(1.0, X)),
        {"sde": ("sde",), "observations": ("other",)},
    ),
    "compose.energy": (
        bj.compose.energy,
        dict(schedule=VP, network=bj.networks.energy(ENERGY), shape=(2,), least=1e-3),
        {"schedule": ("schedule",), "network": FUNCTION, "shape": ("shape",), "least": POSITIVE},
    ),
    "compose.passable": (
        bj.compose.passable,
        dict(density=bj.compose.tilted(DENSITY, level), last=0.1),
        {"density": ("other",), "last": (*NUMBER, "negative")},
    ),
}


@pytest.mark.parametrize(("name", "argument"), arguments(TABLE))
def test_a_wrong_argument_is_named(name, argument):
    refuse_wrong(TABLE[name], argument)


@pytest.mark.parametrize("name", [name for name in TABLE])
def test_the_right_call_is_right(name):
    function, right, _ = TABLE[name]
    function(**right)


@pytest.mark.parametrize(("name", "argument"), closing(TABLE))
def test_a_closure_over_an_array_is_told_of_partial(name, argument):
    refuse_closures(TABLE[name], argument)
