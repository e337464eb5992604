"""Bad input to metrics: an error of one sentence that names the argument."""

import numpy as np
import pytest
from bad_input import (
    COUNT,
    COV,
    FUNCTION,
    MEAN,
    POINTS,
    POINTS_X,
    POINTS_Y,
    POSITIVE,
    arguments,
    metric,
    refuse_wrong,
)

import bridgejax as bj

BAD_POINTS = (*POINTS, "points")
PAIR = {"x": (*BAD_POINTS, "dimension"), "y": (*BAD_POINTS, "dimension")}

# name: (function, a right call, {argument: kinds of wrong})
OF_TWO = dict(x=POINTS_X, real=POINTS_Y, k=2)
SAMPLES = (*POINTS, "points", "dimension")
TABLE = {
    **{
        name: (getattr(bj.metrics, name), dict(x=POINTS_X, y=POINTS_Y), PAIR)
        for name in ("wasserstein2", "frechet", "energy_distance", "median_bandwidth")
    },
    "mmd": (
        bj.metrics.mmd,
        dict(x=POINTS_X, y=POINTS_Y, bandwidths=[1.0, 2.0]),
        {**PAIR, "bandwidths": (*POINTS[1:], "zero", "negative", "extra axis")},
    ),
    "sliced_wasserstein2": (
        bj.metrics.sliced_wasserstein2,
        dict(x=POINTS_X, y=POINTS_Y, num_projections=4, seed=0),
        {**PAIR, "num_projections": COUNT, "seed": ("none", "text", "count")},
    ),
    "frechet_gaussian": (
        bj.metrics.frechet_gaussian,
        dict(mean1=MEAN, cov1=COV, mean2=MEAN, cov2=COV),
        {
            **{n: (*POINTS, "extra axis", "missing axis", "length") for n in ("mean2",)},
            "mean1": POINTS,
            **{
                n: (*POINTS, "extra axis", "missing axis", "length", "asymmetric", "indefinite")
                for n in ("cov1", "cov2")
            },
        },
    ),
    "bw2_uvp": (
        bj.metrics.bw2_uvp,
        dict(x=POINTS_X, mean=MEAN, cov=COV),
        {
            "x": BAD_POINTS,
            "mean": (*POINTS, "extra axis", "length"),
            "cov": (*POINTS, "extra axis", "missing axis", "length", "asymmetric", "indefinite"),
        },
    ),
    "conditional_bw2_uvp": (
        bj.metrics.conditional_bw2_uvp,
        dict(samples=POINTS_X.reshape(1, 4, 2), means=MEAN[None], covs=COV[None], total_variance=1.0),
        {
            "samples": (*POINTS, "missing axis"),
            "means": (*POINTS, "missing axis", "length"),
            "covs": (*POINTS, "missing axis", "length"),
            "total_variance": (*POSITIVE[1:],),
        },
    ),
    "floor": (
        bj.metrics.floor,
        dict(metric=metric, real=POINTS_X, n=2, draws=2, seed=0),
        {
            "metric": FUNCTION,
            "real": (*POINTS[:-1], "points"),
            "n": COUNT,
            "draws": COUNT,
            "seed": ("none", "text", "count"),
        },
    ),
    "mode_coverage": (
        bj.metrics.mode_coverage,
        dict(assignments=np.eye(2), least=0.1, weights=np.array([0.5, 0.5])),
        {
            "assignments": (*POINTS, "extra axis", "missing axis"),
            "least": POSITIVE,
            "weights": (*POINTS[1:], "extra axis", "missing axis", "length"),
        },
    ),
    "entropic_mode_coverage": (
        bj.metrics.entropic_mode_coverage,
        dict(assignments=np.eye(2)),
        {"assignments": (*POINTS, "extra axis", "missing axis")},
    ),
    **{
        name: (getattr(bj.metrics, name), dict(x=POINTS_X, y=POINTS_Y), {"x": SAMPLES, "y": SAMPLES})
        for name in ("chamfer", "one_nn_accuracy")
    },
    "unevenness": (bj.metrics.unevenness, dict(x=POINTS_X), {"x": (*POINTS, "points")}),
    **{
        name: (
            getattr(bj.metrics, name),
            dict(x=POINTS_X, real=POINTS_Y, k=2),
            {"x": SAMPLES, "real": SAMPLES, "k": COUNT},
        )
        for name in ("precision", "recall", "density", "coverage")
    },
}


@pytest.mark.parametrize(("name", "argument"), arguments(TABLE))
def test_a_wrong_argument_is_named(name, argument):
    refuse_wrong(TABLE[name], argument)


@pytest.mark.parametrize("name", [name for name in TABLE])
def test_the_right_call_is_right(name):
    function, right, _ = TABLE[name]
    function(**right)
