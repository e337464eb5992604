"""Bad input to tests of two samples and feature maps: an error of one sentence that names the argument."""

import numpy as np
import pytest
from bad_input import COUNT, POINTS, arguments, refuse_wrong

from bridgejax import evaluation, manifolds

X = np.arange(24.0).reshape(12, 2)
TORUS, ANGLES = manifolds.Torus(1), np.linspace(-3.0, 3.0, 12)[:, None]
SEED = ("text", "count")

# name: (function, a right call, {argument: kinds of wrong})
TABLE = {
    "c2st": (
        evaluation.c2st,
        dict(x=X, y=X + 1.0, folds=2, max_points=10, permutations=2, seed=0),
        {"x": POINTS, "y": POINTS, "folds": COUNT, "max_points": COUNT, "permutations": COUNT, "seed": SEED},
    ),
    "c2st_accuracy": (
        evaluation.c2st_accuracy,
        dict(x=X, y=X + 1.0, folds=2, max_points=10, seed=0),
        {"x": POINTS, "y": POINTS, "folds": COUNT, "max_points": COUNT, "seed": SEED},
    ),
    "pca_features": (evaluation.pca_features, dict(x=X, max_dim=2), {"x": POINTS, "max_dim": COUNT}),
    "evaluate_on_manifold": (
        evaluation.evaluate_on_manifold,
        dict(manifold=TORUS, samples=ANGLES, real_train=ANGLES, real_holdout=ANGLES, most=4),
        {"manifold": ("other",), "most": COUNT},
    ),
    "kernel_density": (evaluation.kernel_density, dict(manifold=TORUS, x=ANGLES), {"manifold": ("other",)}),
    "identity_features": (evaluation.identity_features, dict(x=X), {"x": POINTS}),
}


@pytest.mark.parametrize(("name", "argument"), arguments(TABLE))
def test_bad_input_is_refused_by_name(name, argument):
    refuse_wrong(TABLE[name], argument)
