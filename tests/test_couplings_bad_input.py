"""Bad input to couplings: an error of one sentence that names the argument."""

import numpy as np
import pytest
from bad_input import POINTS, POINTS_X, POINTS_Y, POSITIVE, arguments, refuse_wrong

from bridgejax import couplings

RNG = np.random.default_rng(0)

# name: (function, a right call, {argument: kinds of wrong})
TABLE = {
    "couplings.independent": (
        couplings.independent,
        dict(rng=RNG, x0=POINTS_X, x1=POINTS_Y),
        {"rng": ("other",), "x0": ("none", "text", "length0"), "x1": ("none", "text", "length0")},
    ),
    "couplings.paired": (
        couplings.paired,
        dict(rng=RNG, x0=POINTS_X, x1=POINTS_Y),
        {"x0": ("none", "text", "length0"), "x1": ("none", "text", "length0")},
    ),
    "couplings.assignment": (
        couplings.assignment,
        dict(x0=POINTS_X, x1=POINTS_Y),
        {"x0": (*POINTS[:2], "complex", "spoilt", "length"), "x1": (*POINTS[:2], "complex", "spoilt", "length")},
    ),
    "couplings.exact_ot": (
        couplings.exact_ot,
        dict(rng=RNG, x0=POINTS_X, x1=POINTS_Y),
        {"x0": (*POINTS[:2], "complex", "spoilt", "length")},
    ),
    "couplings.sinkhorn": (
        couplings.sinkhorn,
        dict(x0=POINTS_X, x1=POINTS_Y, epsilon=1.0),
        {"x0": (*POINTS[:2], "complex", "spoilt", "length"), "epsilon": POSITIVE},
    ),
    "couplings.EntropicOT": (couplings.EntropicOT, dict(epsilon=1.0), {"epsilon": POSITIVE}),
    "couplings.EntropicOT()": (
        couplings.EntropicOT(1.0),
        dict(rng=RNG, x0=POINTS_X, x1=POINTS_Y),
        {"rng": ("other",), "x1": (*POINTS[:2], "complex", "spoilt", "length")},
    ),
}


@pytest.mark.parametrize(("name", "argument"), arguments(TABLE))
def test_a_wrong_argument_is_named(name, argument):
    refuse_wrong(TABLE[name], argument)


@pytest.mark.parametrize("name", [name for name in TABLE])
def test_the_right_call_is_right(name):
    function, right, _ = TABLE[name]
    function(**right)
