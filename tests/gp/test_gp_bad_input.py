"""Bad input to Gaussian processes: an error of one sentence that names the argument."""

import numpy as np
import pytest
from bad_input import COUNT, POINTS_X, POSITIVE, REAL, arguments, refuse_wrong

from bridgejax import gp

RBF = gp.rbf()
SHAPE = {"length": (*REAL, "not finite", "negative", "zero"), "variance": POSITIVE}
REGRESSION = dict(covariance=RBF, x=POINTS_X, y=np.arange(4.0), noise=0.5)
WRONG = {"covariance": ("none", "text"), "x": (*REAL, "spoilt"), "y": (*REAL, "length", "spoilt"), "noise": POSITIVE}

# name: (function, a right call, {argument: kinds of wrong})
TABLE = {
    "rbf": (gp.rbf, dict(length=np.ones(2), variance=1.0), SHAPE),
    "matern32": (gp.matern32, dict(length=np.ones(2), variance=1.0), SHAPE),
    "matern52": (gp.matern52, dict(length=np.ones(2), variance=1.0), SHAPE),
    "gram": (gp.gram, dict(covariance=RBF, x=POINTS_X), {"covariance": ("none", "text"), "x": REAL}),
    "root": (gp.root, dict(matrix=np.eye(2)), {"matrix": REAL}),
    "log_marginal": (gp.log_marginal, REGRESSION, WRONG),
    "collapsed_bound": (gp.collapsed_bound, dict(inducing=POINTS_X[:2], **REGRESSION), {**WRONG, "inducing": REAL}),
    "gaussian": (gp.gaussian, dict(noise=0.1), {"noise": POSITIVE}),
    "student_t": (gp.student_t, dict(noise=0.1, freedom=4.0), {"noise": POSITIVE, "freedom": POSITIVE}),
    "softmax": (gp.softmax, dict(classes=3), {"classes": COUNT}),
}


@pytest.mark.parametrize(("name", "argument"), arguments(TABLE))
def test_a_wrong_argument_is_named(name, argument):
    refuse_wrong(TABLE[name], argument)


@pytest.mark.parametrize("name", TABLE)
def test_the_right_call_is_right(name):
    function, right, _ = TABLE[name]
    function(**right)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: gp.add(), "add needs at least one covariance"),
        (lambda: gp.multiply(RBF, 3.0), "covariance 1 must be a pair"),
        (lambda: gp.softmax(1), "classes must be an integer >= 2"),
        (lambda: gp.gram(RBF, np.zeros(3)), "x must hold points as rows"),
        (lambda: gp.gram(RBF, np.zeros((3, 2)), np.zeros((3, 1))), "y must have points of 2 coordinates"),
        (lambda: gp.root(np.zeros((2, 3))), "matrix must be square"),
        (lambda: gp.rbf(np.ones((2, 2))), "length must be a number or one for each"),
        (
            lambda: gp.collapsed_bound(RBF, np.zeros((2, 3)), POINTS_X, np.zeros(4), 0.1),
            "inducing must have points of 2",
        ),
    ],
)
def test_what_does_not_fit_is_said(call, words):
    with pytest.raises(ValueError, match=words):
        call()
