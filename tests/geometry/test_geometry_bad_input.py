"""Bad input to domains, manifolds and mirror maps: an error of one sentence that names the argument."""

import numpy as np
import pytest
from bad_input import COUNT, NUMBER, REAL, arguments, refuse_wrong

from bridgejax import domains, manifolds, mirrors

SIZE = ("text", "count", "zero count", "none")
MARGIN = {"margin": (*NUMBER, "negative")}
LINES = np.array([0.0, 1.0, 2.0])

# name: (function, a right call, {argument: kinds of wrong})
TABLE = {
    "domains.HalfLine": (domains.HalfLine, dict(low=0.0), {"low": REAL}),
    "domains.IntegerGrid": (
        domains.IntegerGrid,
        dict(low=0.0, high=3.0, spacing=1.0),
        {"low": NUMBER, "high": NUMBER, "spacing": (*NUMBER, "negative", "zero")},
    ),
    "domains.Categorical": (domains.Categorical, dict(count=3), {"count": SIZE}),
    "domains.Simplex": (domains.Simplex, dict(count=3), {"count": SIZE}),
    "domains.Product": (
        domains.Product,
        dict(parts=[domains.Reals(), domains.Sphere()], sizes=[2, 3]),
        {"sizes": ("text", "shape")},
    ),
    "domains.bessel_ratio": (domains.bessel_ratio, dict(d=3, kappa=1.0), {"d": COUNT, "kappa": REAL}),
    "manifolds.Euclidean": (manifolds.Euclidean, dict(d=2), {"d": SIZE}),
    "manifolds.Torus": (manifolds.Torus, dict(d=2), {"d": SIZE}),
    "manifolds.Sphere": (manifolds.Sphere, dict(d=2), {"d": SIZE}),
    "manifolds.SO": (manifolds.SO, dict(n=3), {"n": SIZE}),
    "manifolds.U": (manifolds.U, dict(n=2), {"n": SIZE}),
    "manifolds.SU": (manifolds.SU, dict(n=2), {"n": SIZE}),
    "mirrors.Box": (
        mirrors.Box,
        dict(low=0.0, high=1.0, margin=0.0),
        MARGIN,
    ),
    "mirrors.Ball": (mirrors.Ball, dict(radius=1.0, margin=0.0), MARGIN),
    "mirrors.Simplex": (mirrors.Simplex, dict(count=3, margin=0.0), {"count": SIZE, **MARGIN}),
    "mirrors.PositiveDefinite": (mirrors.PositiveDefinite, dict(n=2), {"n": SIZE}),
    "mirrors.DensityMatrix": (mirrors.DensityMatrix, dict(n=2, margin=0.0), {"n": SIZE, **MARGIN}),
    "mirrors.check_points": (
        mirrors.check_points,
        dict(mirror=mirrors.Positive(), points=1.0 + LINES[:, None]),
        {"mirror": ("other",), "points": ("text", "spoilt")},
    ),
    "mirrors.standardised": (
        mirrors.standardised,
        dict(mirror=mirrors.Positive(), points=1.0 + LINES[:, None]),
        {"mirror": ("other",), "points": ("text", "spoilt")},
    ),
}


@pytest.mark.parametrize(("name", "argument"), arguments(TABLE))
def test_bad_input_is_refused_by_name(name, argument):
    refuse_wrong(TABLE[name], argument)
