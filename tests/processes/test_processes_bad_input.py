"""Bad input to processes: an error of one sentence that names the argument."""

import numpy as np
import pytest
from bad_input import (
    COUNT,
    ELEMENTWISE,
    KEY,
    KEY0,
    MIXTURE,
    NUMBER,
    POINTS_X,
    POSITIVE,
    REAL,
    SDE,
    TS,
    VP,
    arguments,
    closing,
    drift,
    noise,
    of_time,
    refuse_closures,
    refuse_wrong,
)

import bridgejax as bj

# name: (function, a right call, {argument: kinds of wrong})
TABLE = {
    "SDE": (
        bj.SDE,
        dict(drift=drift, diffusion=noise, T=1.0, noise="state"),
        {"drift": ("closure",), "diffusion": ("closure",), "T": ("end",), "noise": ("word",)},
    ),
    "Kernel": (
        bj.Kernel,
        dict(sample=drift, log_prob=None, T=1.0),
        {"sample": ("closure",), "log_prob": ("closure",), "T": ("end",)},
    ),
    "Process": (
        bj.Process,
        dict(start=drift, dynamics=SDE, ts=TS, decode=drift),
        {"start": ("closure",), "decode": ("closure",)},
    ),
    "Schedule": (
        bj.Schedule,
        dict(scale_fn=of_time, variance_fn=of_time, log_alpha_fn=of_time, T=1.0),
        {"scale_fn": ("closure",), "variance_fn": ("closure",), "log_alpha_fn": ("closure",), "T": ("end",)},
    ),
    "Interpolant": (
        bj.Interpolant,
        dict(a=of_time, b=None, c=None, T=1.0, reference=None),
        {"a": ("closure",), "b": ("closure",), "c": ("closure",), "reference": ("closure",), "T": ("end",)},
    ),
    "keys": (
        bj.keys,
        dict(key=KEY0, num=3, start=0),
        {"key": KEY, "num": ("none", "text", "count"), "start": ("none", "text", "count", "complex")},
    ),
    "schedules.vp": (
        bj.schedules.vp,
        dict(beta_min=0.1, beta_max=20.0, T=1.0),
        {"beta_min": ELEMENTWISE, "beta_max": ELEMENTWISE, "T": ("end",)},
    ),
    "schedules.sub_vp": (
        bj.schedules.sub_vp,
        dict(beta_min=0.1, beta_max=20.0, T=1.0),
        {"beta_min": ELEMENTWISE, "beta_max": ELEMENTWISE, "T": ("end",)},
    ),
    "schedules.cosine": (bj.schedules.cosine, dict(log_snr_end=-10.0), {"log_snr_end": (*REAL, "not finite", "zero")}),
    "schedules.ve": (
        bj.schedules.ve,
        dict(sigma_min=0.01, sigma_max=50.0),
        {"sigma_min": ELEMENTWISE, "sigma_max": ELEMENTWISE},
    ),
    "schedules.brownian": (bj.schedules.brownian, dict(sigma=1.0, T=1.0), {"sigma": ELEMENTWISE, "T": ("end",)}),
    "schedules.ou": (
        bj.schedules.ou,
        dict(theta=1.0, sigma=1.0, T=1.0),
        {"theta": ELEMENTWISE, "sigma": ELEMENTWISE, "T": ("end",)},
    ),
    "schedules.karras": (bj.schedules.karras, dict(sigma_max=80.0), {"sigma_max": ELEMENTWISE}),
    "noising": (
        bj.noising,
        dict(schedule=VP, center=0.0),
        {"schedule": ("schedule",), "center": (*REAL, "not finite", "closure")},
    ),
    "transition": (
        bj.transition,
        dict(schedule=VP, s=0.2, t=0.5),
        {
            "schedule": ("schedule",),
            "s": (*REAL, "not finite", "negative"),
            "t": (*REAL, "not finite", "negative", "zero"),
        },
    ),
    "starts.normal": (
        bj.starts.normal,
        dict(shape=(2,), scale=1.0, mean=0.0),
        {"shape": ("shape",), "scale": (*NUMBER, "negative"), "mean": (*NUMBER[:-1],)},
    ),
    "starts.point": (bj.starts.point, dict(x=POINTS_X), {"x": REAL}),
    "starts.empirical": (bj.starts.empirical, dict(points=POINTS_X), {"points": REAL}),
    "LinearSDE": (
        bj.linear.LinearSDE,
        dict(A=-np.eye(2), b=np.zeros(2), L=np.eye(2), T=1.0, panels=8),
        {
            "A": (*REAL, "spoilt", "extra axis", "missing axis", "length", "closure"),
            "b": (*REAL, "spoilt", "extra axis", "missing axis", "length", "closure"),
            "L": (*REAL, "spoilt", "extra axis", "missing axis", "closure"),
            "T": ("end",),
            "panels": COUNT,
        },
    ),
    "linear.langevin": (
        bj.linear.langevin,
        dict(friction=1.0, frequency=1.0, temperature=1.0, T=1.0),
        {"friction": POSITIVE, "frequency": NUMBER, "temperature": POSITIVE, "T": ("end",)},
    ),
    "gaussian_mixture": (
        bj.mixtures.gaussian_mixture,
        dict(means=np.zeros((3, 2)), covariances=0.5, weights=np.ones(3)),
        {
            "means": (*REAL, "spoilt"),
            "covariances": (*REAL, "not finite", "negative", "extra axis"),
            "weights": (*REAL[1:], "spoilt", "zero", "negative", "extra axis", "missing axis", "length"),
        },
    ),
    "mixture_score": (
        bj.mixtures.mixture_score,
        dict(mixture=MIXTURE, schedule=VP),
        {"mixture": ("other",), "schedule": ("schedule",)},
    ),
    "mixture_denoiser": (
        bj.mixtures.mixture_denoiser,
        dict(mixture=MIXTURE, schedule=VP),
        {"mixture": ("other",), "schedule": ("schedule",)},
    ),
    "mixtures.condition": (
        bj.mixtures.condition,
        dict(mixture=MIXTURE, operator=np.ones((1, 2)), value=np.ones(1), noise=0.1),
        {
            "mixture": ("other",),
            "operator": (*REAL, "spoilt", "extra axis", "missing axis", "length"),
            "value": (*REAL, "spoilt", "extra axis", "missing axis", "length"),
            "noise": POSITIVE,
        },
    ),
    "starts.uniform": (bj.starts.uniform, dict(manifold=bj.manifolds.Sphere(2)), {"manifold": ("other",)}),
}
COMPILES = {"mixtures.condition"}  # run elsewhere


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
