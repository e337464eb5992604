"""Frechet distance between two Gaussians, and between the Gaussians fitted to two samples.

    F(N(m1, C1), N(m2, C2)) = |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^(1/2) C2 C1^(1/2))^(1/2)) = W2^2

(Dowson & Landau 1982), *squared*, as in the FID of Heusel et al. 2017 (arXiv 1706.08500). The product inside
is symmetric and positive semi-definite, so its root is taken by ``eigh`` in float64; the root of the
unsymmetric C1 C2 that is often used instead can turn complex by rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bridgejax.metrics.points import two_samples


def _root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric square root of a positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def frechet_gaussian(mean1: Any, cov1: Any, mean2: Any, cov2: Any) -> float:
    """Squared Frechet (2-Wasserstein) distance between N(mean1, cov1) and N(mean2, cov2). O(d^3) time.

    Args:
        mean1: ``[d]``.
        cov1: ``[d, d]``, symmetric positive semi-definite (may be singular).
        mean2: ``[d]``.
        cov2: ``[d, d]``.

    Returns:
        The squared distance, >= 0, in squared units of the data.

    Raises:
        ValueError: for other shapes, or covariances that are not symmetric.
    """
    mean1, cov1, mean2, cov2 = (np.asarray(a, np.float64) for a in (mean1, cov1, mean2, cov2))
    d = mean1.size
    for name, array, shape in (
        ("mean1", mean1, (d,)),
        ("cov1", cov1, (d, d)),
        ("mean2", mean2, (d,)),
        ("cov2", cov2, (d, d)),
    ):
        if array.shape != shape or not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite with shape {shape}, got shape {array.shape}")
        if array.ndim == 2 and not np.allclose(array, array.T, rtol=1e-6, atol=1e-9 * np.abs(array).max()):
            raise ValueError(f"{name} must be symmetric; it differs from its transpose")
    root = _root(cov1)
    inner = np.linalg.eigvalsh(root @ cov2 @ root)
    spread = np.trace(cov1) + np.trace(cov2) - 2 * np.sqrt(np.maximum(inner, 0.0)).sum()
    return max(float(np.sum((mean1 - mean2) ** 2) + spread), 0.0)


def frechet(x: Any, y: Any) -> float:
    """Squared Frechet distance between the Gaussians fitted to two samples (mean and unbiased covariance).

    It sees the first two moments only. Biased upwards: for two samples of one law it falls like 1/n, and with
    n <= d the covariances are singular and it says little; print it beside its ``floor``. O((n + m) d^2 +
    d^3) time, sizes may differ.

    Args:
        x: ``[n, ...]``, flattened to points, n >= 2.
        y: ``[m, ...]``, m >= 2.

    Returns:
        The squared distance, >= 0, in squared units of the data.

    Raises:
        ValueError: for different dimensions, fewer than 2 points, NaN or infinity.
    """
    x, y = two_samples(x, y)
    for name, sample in (("x", x), ("y", y)):
        if len(sample) < 2:
            raise ValueError(f"{name} has {len(sample)} point; a covariance needs at least 2")
    return frechet_gaussian(
        x.mean(axis=0),
        np.cov(x, rowvar=False).reshape(x.shape[1], -1),
        y.mean(axis=0),
        np.cov(y, rowvar=False).reshape(y.shape[1], -1),
    )
