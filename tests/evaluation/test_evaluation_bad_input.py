"""Bad input to tests of two samples and feature maps: an error of one sentence that names the argument."""

import numpy as np
import pytest
from bad_input import COUNT, FLOWING, FUNCTION, KEY, KEY0, KEYS, POINTS, POSITIVE, VP, arguments, refuse_wrong, score

from bridgejax import evaluation, manifolds

X = np.arange(24.0).reshape(12, 2)
PATHS = np.random.default_rng(0).normal(size=(4, 3, 2))
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
    "trajectory_dimension": (
        evaluation.trajectory_dimension,
        dict(states=PATHS, most=2),
        {"states": POINTS[1:], "most": COUNT},
    ),
    "emergence_levels": (
        evaluation.emergence_levels,
        dict(denoised=PATHS, levels=np.array([2.0, 1.0, 0.5]), directions=np.eye(2)),
        {"denoised": POINTS[1:], "levels": (*POINTS[1:], "length"), "directions": (*POINTS[1:], "extra axis")},
    ),
    "kick_response": (
        evaluation.kick_response,
        dict(process=FLOWING, keys=KEYS, directions=np.eye(2), times=[0.75], size=0.1),
        {
            "process": ("other", "sde"),
            "keys": ("key", "one key"),
            "directions": (*POINTS[1:], "extra axis"),
            "times": (*POINTS[1:], "negative"),
            "size": POSITIVE[1:],
        },
    ),
    "explained_score": (
        evaluation.explained_score,
        dict(denoiser=score, schedule=VP, models={"own": score}, rows=X, times=[0.5], key=KEY0),
        {
            "denoiser": FUNCTION,
            "schedule": ("schedule",),
            "models": ("other",),
            "rows": POINTS,
            "times": (*POINTS[1:], "negative"),
            "key": KEY,
        },
    ),
    "simple_denoisers": (
        evaluation.simple_denoisers,
        dict(rows=X, schedule=VP, modes=2, most_points=5, seed=0),
        {"rows": POINTS, "schedule": ("schedule",), "modes": COUNT, "most_points": COUNT, "seed": SEED},
    ),
    "memorised": (
        evaluation.memorised,
        dict(samples=X, train=X, holdout=X, threshold=0.3),
        {"samples": POINTS, "train": POINTS, "holdout": POINTS, "threshold": POSITIVE},
    ),
    "two_halves": (
        evaluation.two_halves,
        dict(one=X, other=X, one_rows=X, other_rows=X + 100.0),
        {"one": POINTS, "other": POINTS, "one_rows": POINTS, "other_rows": POINTS},
    ),
    "identity_features": (evaluation.identity_features, dict(x=X), {"x": POINTS}),
}


@pytest.mark.parametrize(("name", "argument"), arguments(TABLE))
def test_bad_input_is_refused_by_name(name, argument):
    refuse_wrong(TABLE[name], argument)
