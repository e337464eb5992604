"""How good are samples on a manifold, and how likely are rows that the model has not seen?

Distances, shares and copies are those of ``evaluate``, of points as vectors: unit vectors, cosines and sines of angles,
entries of rotation matrices. Beside them stands the mean of -log p over held-out rows, in nats, of the model, of a
kernel density estimate of the training rows, and of the uniform law, each with respect to the volume of the manifold.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from bridgejax._checks import check_count
from bridgejax._types import Json, Numbers
from bridgejax.evaluation.arrays import generator
from bridgejax.evaluation.kernel_density import embed, kernel_density, log_norm
from bridgejax.evaluation.records import Report
from bridgejax.evaluation.report import evaluate
from bridgejax.geometry.manifolds import Manifold


def evaluate_on_manifold(
    manifold: Manifold,
    samples: Numbers,
    real_train: Numbers,
    real_holdout: Numbers,
    *,
    log_prob: Callable[[np.ndarray], Numbers] | None = None,
    names: Sequence[str] = (),
    most: int = 1000,
    seed: int = 0,
) -> Report:
    """A report on samples on a manifold, with the likelihood of held-out rows.

    Args:
        manifold: Sphere(2), a Torus or SO(3).
        samples: points, (m, *manifold.shape).
        real_train: points that the model was trained on.
        real_holdout: points of the same law that it was not trained on.
        log_prob: ``log_prob(x)``, the model's log density of points with respect to the volume; None: it has none.
        names: of the numbers of ``manifold.features``, for the verdict.
        most: held-out rows whose likelihood is taken, chosen at random.
        seed: of the distances, a non-negative integer; the rows and the kernels of the likelihood are always the same.

    Returns:
        A ``Report`` with ``likelihood``: ``model`` (None without ``log_prob``), ``kernel`` and ``uniform``, mean -log p
        in nats, their standard errors, and the kernels' concentrations and shares.

    Raises:
        ValueError: another manifold, ``most`` below 1, and what ``evaluate`` raises.
    """
    log_norm(manifold, 1.0)  # refuses another manifold
    check_count("most", most)
    seen = [embed(manifold, x) for x in (samples, real_train, real_holdout)]
    report = evaluate(*seen, kind="points", columns=names, seed=seed)
    holdout = np.asarray(real_holdout)
    rows = np.sort(generator(0, 31).permutation(len(holdout))[:most])
    found = likelihood(manifold, np.asarray(real_train), holdout[rows], log_prob)
    return dataclasses.replace(report, likelihood=found)


def likelihood(
    manifold: Manifold,
    train: np.ndarray,
    holdout: np.ndarray,
    log_prob: Callable[[np.ndarray], Numbers] | None,
) -> Json:
    """The record of a report: JSON values, with the sentences under ``words``."""
    kernel = kernel_density(manifold, train)
    of_kernel = -kernel.log_prob(holdout)
    of_model = None if log_prob is None else -np.asarray(log_prob(holdout), np.float64)
    out: Json = {
        "rows": len(holdout),
        "model": None if of_model is None else float(of_model.mean()),
        "model_error": None if of_model is None else _error(of_model),
        "kernel": float(of_kernel.mean()),
        "kernel_error": _error(of_kernel),
        "kappas": kernel.kappas.tolist(),
        "shares": kernel.shares.tolist(),
        "uniform": manifold.log_volume,
    }
    words = [
        f"-log p of {len(holdout)} held-out rows, nats (lower is better): "
        + (f"model {_number(of_model)}, " if of_model is not None else "")
        + f"kernel density estimate {_number(of_kernel)}, uniform {manifold.log_volume:.3f}"
    ]
    if of_model is None:
        words.append("the model samples by an SDE and has no density of its own (riemannian_flow has)")
    else:
        gap = of_model - of_kernel
        out |= {"gap": float(gap.mean()), "gap_error": _error(gap)}
        better = "better" if gap.mean() < 0 else "worse"
        clear = abs(gap.mean()) > 2 * _error(gap)
        rest = "" if clear else ", within two standard errors"
        if clear and gap.mean() > 0:
            rest = "; more steps of training or a wider network may help"
        words.append(f"model against kernel, row by row: {_number(gap)}: {better} than the kernel{rest}")
    widths = [
        f"{share:.0%} {'uniform' if not kappa else f'{width:.2g}'}"
        for kappa, share, width in zip(kernel.kappas, kernel.shares, kernel.widths, strict=True)
        if share >= 0.01
    ]
    words.append(
        f"kernels: von Mises-Fisher, of widths in degrees ({', '.join(widths)}) chosen on a fifth of the training rows"
    )
    return out | {"words": words}


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def _number(values: np.ndarray) -> str:
    return f"{values.mean():.3f} ± {_error(values):.3f}"
