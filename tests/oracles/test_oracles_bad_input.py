"""Bad input to oracles: an error of one sentence that names the argument."""

import numpy as np
import pytest
from bad_input import (
    CELLS,
    COUNT,
    COV,
    ELEMENTWISE,
    FUNCTION,
    GAUSSIAN,
    KEY,
    KEY0,
    LAW,
    MEAN,
    MIXTURE,
    NUMBER,
    POINTS,
    POINTS_X,
    POSITIVE,
    REAL,
    SDE,
    TS,
    VP,
    X,
    arguments,
    closing,
    log_density,
    refuse_closures,
    refuse_wrong,
)

import bridgejax as bj
from bridgejax.oracles import diffusions, grid, heat, quantum, targets

EMPIRICAL = bj.oracles.empirical_law(POINTS_X)

# name: (function, a right call, {argument: kinds of wrong})
TABLE = {
    "brownian_log_prob": (
        diffusions.brownian_log_prob,
        dict(t=0.5, x0=0.0, x=1.0, sigma=1.0),
        {"t": ELEMENTWISE, "x0": REAL, "x": REAL, "sigma": ELEMENTWISE},
    ),
    "brownian_bridge": (
        diffusions.brownian_bridge,
        dict(s=0.5, t=1.0, x0=0.0, x1=1.0, sigma=1.0),
        {"s": (*REAL, "not finite", "negative"), "t": ELEMENTWISE, "x0": REAL, "x1": REAL, "sigma": ELEMENTWISE},
    ),
    "ou_log_prob": (
        diffusions.ou_log_prob,
        dict(t=0.5, x0=0.0, x=1.0, beta=1.0, sigma=1.0),
        {"t": ELEMENTWISE, "x0": REAL, "x": REAL, "beta": ELEMENTWISE, "sigma": ELEMENTWISE},
    ),
    "ou_bridge": (
        diffusions.ou_bridge,
        dict(s=0.5, t=1.0, x0=0.0, x1=1.0, beta=1.0, sigma=1.0),
        {
            "s": (*REAL, "not finite", "negative"),
            "t": ELEMENTWISE,
            "x0": REAL,
            "x1": REAL,
            "beta": ELEMENTWISE,
            "sigma": ELEMENTWISE,
        },
    ),
    "log_bessel_i": (
        diffusions.log_bessel_i,
        dict(order=0.5, z=1.0),
        {"order": (*REAL, "nan"), "z": (*REAL, "nan", "negative")},
    ),
    "cir_log_prob": (
        diffusions.cir_log_prob,
        dict(t=0.5, x0=1.0, x=1.0, kappa=1.0, theta=1.0, sigma=1.0),
        {"t": ELEMENTWISE, "x0": REAL, "x": REAL, "kappa": ELEMENTWISE, "theta": ELEMENTWISE, "sigma": ELEMENTWISE},
    ),
    "radial_ou_log_prob": (
        diffusions.radial_ou_log_prob,
        dict(t=0.5, x0=1.0, x=1.0, theta=1.0, beta=1.0, sigma=1.0),
        {"t": ELEMENTWISE, "x0": REAL, "x": REAL, "theta": ELEMENTWISE, "beta": ELEMENTWISE, "sigma": ELEMENTWISE},
    ),
    "cir": (
        diffusions.cir,
        dict(kappa=1.0, theta=1.0, sigma=1.0, T=1.0),
        {"kappa": ELEMENTWISE, "theta": ELEMENTWISE, "sigma": ELEMENTWISE, "T": ("end",)},
    ),
    "radial_ou": (
        diffusions.radial_ou,
        dict(theta=1.0, beta=1.0, sigma=1.0, T=1.0),
        {"theta": ELEMENTWISE, "beta": ELEMENTWISE, "sigma": ELEMENTWISE, "T": ("end",)},
    ),
    "bridge_log_prob": (
        diffusions.bridge_log_prob,
        dict(transition_log_prob=diffusions.brownian_log_prob, s=0.5, t=1.0, x0=0.0, x=0.5, x1=1.0),
        {
            "transition_log_prob": (*FUNCTION, "closure"),
            "s": (*ELEMENTWISE,),
            "t": (*REAL, "nan", "negative", "zero"),
            "x0": REAL,
            "x": REAL,
            "x1": REAL,
        },
    ),
    "entropic_pair": (
        bj.oracles.entropic_pair,
        dict(source=MIXTURE, potential=MIXTURE, epsilon=1.0),
        {"source": ("other",), "potential": ("other",), "epsilon": POSITIVE},
    ),
    "random_entropic_pair": (
        bj.oracles.random_entropic_pair,
        dict(key=KEY0, dim=2, components=2, epsilon=1.0, radius=3.0),
        {"key": KEY, "dim": COUNT, "components": COUNT, "epsilon": POSITIVE, "radius": POSITIVE},
    ),
    "gaussian_bridge": (
        bj.oracles.gaussian_bridge,
        dict(mean0=MEAN, cov0=COV, mean1=MEAN, cov1=COV, epsilon=1.0),
        {
            **{n: (*REAL, "spoilt", "extra axis", "missing axis", "length") for n in ("mean0", "mean1")},
            **{n: (*REAL, "spoilt", "extra axis", "length", "asymmetric", "indefinite") for n in ("cov0", "cov1")},
            "epsilon": POSITIVE,
        },
    ),
    "gaussian_bridge(reference)": (
        bj.oracles.gaussian_bridge,
        dict(mean0=MEAN, cov0=COV, mean1=MEAN, cov1=COV, reference=VP),
        {"reference": ("schedule",)},
    ),
    "static_gaussian_bridge": (
        bj.oracles.static_gaussian_bridge,
        dict(mean0=MEAN, cov0=COV, mean1=MEAN, cov1=COV, phi=np.eye(2), q=COV, shift=np.zeros(2)),
        {
            "phi": (*REAL, "spoilt", "extra axis", "missing axis", "length"),
            "q": (*REAL, "spoilt", "extra axis", "length", "asymmetric", "indefinite"),
            "shift": (*REAL, "spoilt", "extra axis", "length"),
        },
    ),
    "gaussian_law": (
        bj.oracles.gaussian_law,
        dict(mean=MEAN, covariance=COV),
        {
            "mean": (*REAL, "spoilt", "missing axis", "length"),
            "covariance": (*REAL, "spoilt", "extra axis", "length", "asymmetric", "indefinite", "singular"),
        },
    ),
    "gaussian_law(variances)": (
        bj.oracles.gaussian_law,
        dict(mean=MEAN, covariance=np.ones(2)),
        {"covariance": ("spoilt", "length", "indefinite")},
    ),
    "low_rank_gaussian": (
        bj.oracles.low_rank_gaussian,
        dict(mean=MEAN, vectors=np.array([[1.0], [0.0]]), values=np.array([2.0]), rest=0.5),
        {
            "mean": (*REAL, "spoilt", "missing axis", "length"),
            "vectors": (*REAL, "spoilt", "extra axis", "missing axis", "length", "singular"),
            "values": (*REAL, "spoilt", "missing axis", "length", "indefinite"),
            "rest": POSITIVE,
        },
    ),
    "fit_gaussian": (
        bj.oracles.fit_gaussian,
        dict(data=POINTS_X, rank=1, shrinkage=0.1),
        {
            "data": (*POINTS, "points", "one row", "equal rows"),
            "rank": ("text", "count", "zero count"),
            "shrinkage": (*NUMBER[1:], "negative"),
        },
    ),
    "fit_gaussian(labels)": (
        bj.oracles.fit_gaussian,
        dict(data=POINTS_X, labels=np.arange(len(POINTS_X)) % 2, shrinkage=0.1),
        {"labels": (*REAL[1:], "length", "negative", "not finite")},
    ),
    "gaussian_flow": (
        bj.oracles.gaussian_flow,
        dict(law=GAUSSIAN, schedule=VP),
        {"law": ("other",), "schedule": ("schedule",)},
    ),
    "GaussianFlow()": (
        bj.oracles.gaussian_flow(GAUSSIAN, VP),
        dict(s=1.0, t=0.5, x=X),
        {
            "s": (*REAL, "not finite", "negative"),
            "t": (*REAL, "not finite", "negative"),
            "x": ("extra axis", "missing axis", "length"),
        },
    ),
    "empirical_law": (
        bj.oracles.empirical_law,
        dict(points=POINTS_X, weights=np.ones(4), block=2),
        {
            "points": (*REAL, "spoilt", "points"),
            "weights": (*(kind for kind in REAL if kind != "none"), "spoilt", "negative", "extra axis", "length"),
            "block": tuple(kind for kind in COUNT if kind != "none"),
        },
    ),
    **{
        f"EmpiricalLaw.{method}": (
            getattr(EMPIRICAL, method),
            dict(schedule=VP, t=0.5, x=np.zeros(2)),
            {"schedule": ("schedule",), "x": (*REAL, "extra axis", "missing axis", "length")},
        )
        for method in ("denoise", "score", "log_prob", "weights")
    },
    "EmpiricalLaw.denoiser": (EMPIRICAL.denoiser, dict(schedule=VP), {"schedule": ("schedule",)}),
    "speciation_time": (
        bj.oracles.speciation_time,
        dict(schedule=VP, covariance=COV),
        {
            "schedule": ("schedule",),
            "covariance": (*REAL, "spoilt", "extra axis", "length", "asymmetric", "indefinite", "negative", "zero"),
        },
    ),
    "collapse_time": (
        bj.oracles.collapse_time,
        dict(schedule=VP, covariance=COV, n=10),
        {
            "schedule": ("schedule",),
            "covariance": (*REAL, "spoilt", "extra axis", "length", "asymmetric", "indefinite", "negative", "zero"),
            "n": COUNT,
        },
    ),
    "estimate_collapse_time": (
        bj.oracles.estimate_collapse_time,
        dict(key=KEY0, schedule=VP, law=MIXTURE, n=10, draws=16),
        {"key": KEY, "schedule": ("schedule",), "law": ("other",), "n": COUNT, "draws": COUNT},
    ),
    **{
        f"heat.{name}_log_prob": (
            getattr(heat, f"{name}_log_prob"),
            dict(angle=1.0, t=0.5),
            {"angle": (*REAL, "not finite"), "t": ELEMENTWISE},
        )
        for name in ("circle", "rotation", "sphere")
    },
    "heat.sphere_mean": (
        heat.sphere_mean,
        dict(x0=np.array([1.0, 0.0]), t=0.5),
        {"x0": (*REAL, "zero"), "t": (*REAL, "not finite", "negative")},
    ),
    "grid.cells": (grid.cells, dict(low=-1.0, high=1.0, n=4), {"low": NUMBER, "high": NUMBER, "n": COUNT}),
    "grid.point": (
        grid.point,
        dict(x=0.0, xs=CELLS),
        {"x": NUMBER, "xs": (*REAL, "spoilt", "extra axis", "missing axis", "length")},
    ),
    "grid.forward": (
        grid.forward,
        dict(sde=SDE, density0=LAW, xs=CELLS, ts=TS, order=2, substeps=1),
        {
            "sde": ("sde",),
            "density0": (*REAL, "spoilt", "missing axis", "length"),
            "xs": (*REAL, "spoilt", "extra axis", "missing axis", "length"),
            "ts": ("clock",),
            "order": ("word", "count", "zero count"),
            "substeps": COUNT,
        },
    ),
    "grid.backward": (
        grid.backward,
        dict(sde=SDE, terminal=LAW, xs=CELLS, ts=TS, order=2, substeps=1),
        {
            "sde": ("sde",),
            "terminal": (*REAL, "spoilt", "missing axis", "length"),
            "ts": ("clock",),
            "order": ("word",),
            "substeps": COUNT,
        },
    ),
    "grid.bridge_marginals": (
        grid.bridge_marginals,
        dict(p=np.ones((2, 6)), h=np.ones((2, 6)), xs=CELLS),
        {
            "p": (*REAL, "missing axis", "length"),
            "h": (*REAL, "missing axis", "length"),
            "xs": (*REAL, "missing axis", "length"),
        },
    ),
    "grid.grad_log_h": (
        grid.grad_log_h,
        dict(xs=CELLS, ts=np.array([0.0, 1.0]), h=np.ones((2, 6))),
        {"xs": REAL, "ts": REAL, "h": (*REAL, "missing axis", "length")},
    ),
    "targets.double_well": (
        targets.double_well,
        dict(dim=2, wells=2, delta=4.0),
        {"dim": COUNT, "wells": COUNT, "delta": NUMBER},
    ),
    **{
        f"targets.{function.__name__}": (function, dict(dim=2), {"dim": COUNT})
        for function in (targets.funnel, targets.gmm40, targets.many_well)
    },
    "targets.student_t_mixture": (
        targets.student_t_mixture,
        dict(dim=2, components=2, df=2.0),
        {"dim": COUNT, "components": COUNT, "df": POSITIVE},
    ),
    "targets.rings": (
        targets.rings,
        dict(radii=(1.0, 2.0), width=0.1),
        {"radii": (*REAL, "spoilt"), "width": POSITIVE},
    ),
    "targets.log_gaussian_cox": (
        targets.log_gaussian_cox,
        dict(counts=np.ones((2, 2)), variance=1.91, length=0.03),
        {"counts": ("none", "text", "spoilt"), "variance": POSITIVE, "length": POSITIVE},
    ),
    "targets.logistic_regression": (
        targets.logistic_regression,
        dict(features=POINTS_X, labels=np.array([0, 1, 1, 0])),
        {"features": POINTS, "labels": ("none", "text")},
    ),
    "targets.target": (
        targets.target,
        dict(log_density=log_density, dim=2, log_z=0.0),
        {"log_density": FUNCTION, "dim": COUNT, "log_z": NUMBER[1:]},
    ),
    "targets.with_velocity": (
        targets.with_velocity,
        dict(log_density=log_density, dim=2),
        {"log_density": FUNCTION, "dim": COUNT},
    ),
    **{
        f"quantum.{function.__name__}": (function, dict(n=2), {"n": COUNT})
        for function in (
            *(quantum.bures_purity, quantum.bures_third_moment),
            *(quantum.hilbert_schmidt_purity, quantum.hilbert_schmidt_third_moment),
        )
    },
    **{
        f"quantum.{function.__name__}": (function, dict(key=KEY0, n=2), {"key": KEY, "n": COUNT})
        for function in (quantum.bures, quantum.hilbert_schmidt)
    },
    "quantum.thermal_ising": (
        quantum.thermal_ising,
        dict(key=KEY0, qubits=2, beta=1.0, field=1.0),
        {"key": KEY, "qubits": COUNT, "beta": POSITIVE, "field": NUMBER},
    ),
    "quantum.ising_hamiltonian": (
        quantum.ising_hamiltonian,
        dict(couplings=np.ones(1), fields=np.ones(2)),
        {"couplings": (*REAL, "length"), "fields": REAL},
    ),
}
COMPILES = {"random_entropic_pair", "grid.backward"}  # run elsewhere


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
