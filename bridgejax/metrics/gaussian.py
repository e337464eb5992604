"""Frechet distance between two Gaussians, between the Gaussians fitted to two samples, and as a share of variance.

    F(N(m1, C1), N(m2, C2)) = |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^(1/2) C2 C1^(1/2))^(1/2)) = W2^2

(Dowson & Landau 1982), *squared*, as in the FID of Heusel et al. 2017 (arXiv 1706.08500). The product inside
is symmetric and positive semi-definite, so its root is taken by ``eigh`` in float64; the root of the
unsymmetric C1 C2 that is often used instead can turn complex by rounding.

The unexplained variance percentage of the entropic optimal transport benchmark (Gushchin et al. 2023)
is that distance relative to the target's total variance, of marginals or of the laws given x0:

    BW2-UVP  = 100 F(fit of x, N(m, C)) / tr C
    cBW2-UVP = 100 mean_i F(fit of x given x0_i, N(m_i, C_i)) / tr Cov Y
"""

from __future__ import annotations

import numpy as np

from bridgejax._types import Batch, Numbers
from bridgejax.metrics.points import numbers, points, real, two_samples


def _root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric square root of a positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def frechet_gaussian(mean1: Numbers, cov1: Numbers, mean2: Numbers, cov2: Numbers) -> float:
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

    (Dowson & Landau 1982, The Frechet distance between multivariate normal distributions, JMVA 12.)

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> round(bj.metrics.frechet_gaussian([0.0], [[1.0]], [2.0], [[4.0]]), 6)    # 2^2 + (2 - 1)^2
        5.0
    """
    mean1, cov1 = numbers(mean1, "mean1"), numbers(cov1, "cov1")
    mean2, cov2 = numbers(mean2, "mean2"), numbers(cov2, "cov2")
    d = mean1.size
    for name, array, shape in (
        ("mean1", mean1, (d,)),
        ("cov1", cov1, (d, d)),
        ("mean2", mean2, (d,)),
        ("cov2", cov2, (d, d)),
    ):
        if array.shape != shape or not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite with shape {shape}, got shape {array.shape}")
        # a product of float32 matrices is symmetric to rounding only
        if array.ndim == 2 and not np.allclose(array, array.T, rtol=0.0, atol=1e-5 * np.abs(array).max()):
            raise ValueError(f"{name} must be symmetric; it differs from its transpose")
        if array.ndim == 2 and np.linalg.eigvalsh(array).min() < -1e-5 * np.abs(array).max():
            raise ValueError(f"{name} must be positive semi-definite; it has a negative eigenvalue")
    cov1, cov2 = 0.5 * (cov1 + cov1.T), 0.5 * (cov2 + cov2.T)
    root = _root(cov1)
    inner = np.linalg.eigvalsh(root @ cov2 @ root)
    spread = np.trace(cov1) + np.trace(cov2) - 2 * np.sqrt(np.maximum(inner, 0.0)).sum()
    return max(float(np.sum((mean1 - mean2) ** 2) + spread), 0.0)


def frechet(x: Batch, y: Batch) -> float:
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

    (Heusel et al. 2017, GANs trained by a two time-scale update rule converge to a local Nash equilibrium, arXiv
    1706.08500.)

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> x = np.random.default_rng(0).normal(size=(200, 2))
        >>> round(bj.metrics.frechet(x, x + 2.0), 3)                                 # |shift|^2
        8.0
    """
    x, y = two_samples(x, y)
    _check_fit(x, "x")
    _check_fit(y, "y")
    return frechet_gaussian(*_fit(x), *_fit(y))


def bw2_uvp(x: Batch, mean: Numbers, cov: Numbers) -> float:
    """BW2-UVP of a sample against known moments, in per cent: 100 F / tr cov, 0 for equal moments.

    100 is what a point mass at ``mean`` scores. A perfect model's expected score is 25 (d + 5) / n to leading order for
    cov = I: print that beside it. O(n d^2 + d^3) time.

    Args:
        x: ``[n, ...]``, flattened to points, n >= 2.
        mean: ``[d]``, of the target.
        cov: ``[d, d]``, of the target, with a positive trace.

    Returns:
        The percentage, >= 0.

    Raises:
        ValueError: as ``frechet_gaussian``, fewer than 2 points, or a target without variance.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> x = np.random.default_rng(0).normal(size=(200, 2))
        >>> bj.metrics.bw2_uvp(x, np.zeros(2), np.eye(2)) < 5.0                      # per cent
        True
    """
    x = points(x, "x")
    _check_fit(x, "x")
    mean, cov = numbers(mean, "mean"), numbers(cov, "cov")
    d = x.shape[1]
    if mean.shape != (d,) or cov.shape != (d, d):
        raise ValueError(
            f"mean and cov must have shapes ({d},) and ({d}, {d}), as x has, got {mean.shape} and {cov.shape}"
        )
    if not np.isfinite(mean).all():
        raise ValueError("mean must be finite, got NaN or infinity")
    total = _check_total(float(np.trace(cov)), "the trace of cov")
    return 100.0 * frechet_gaussian(*_fit(x), mean, cov) / total


def conditional_bw2_uvp(samples: Batch, means: Numbers, covs: Numbers, total_variance: float | None = None) -> float:
    """cBW2-UVP of conditional samples against known conditional moments, in per cent.

    Right marginals with a wrong coupling score 0 under ``bw2_uvp`` and not here.

    Args:
        samples: ``[m, n, ...]``: n draws of x1 for each of m starts x0, n >= 2.
        means: ``[m, d]``, the true E[x1 | x0].
        covs: ``[m, d, d]``, the true Cov[x1 | x0].
        total_variance: tr Cov x1. By default that of the given conditional moments, tr(mean of covs + Cov of means),
            which is right when the starts are draws of x0.

    Returns:
        The percentage, >= 0.

    Raises:
        ValueError: other shapes, fewer than 2 draws per start, NaN or infinity, or no variance.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> samples = np.random.default_rng(0).normal(size=(2, 200, 1)) + np.array([0.0, 3.0])[:, None, None]
        >>> bj.metrics.conditional_bw2_uvp(samples, [[0.0], [3.0]], np.ones((2, 1, 1))) < 5.0
        True
    """
    samples, means, covs = numbers(samples, "samples"), numbers(means, "means"), numbers(covs, "covs")
    if not np.isfinite(means).all() or not np.isfinite(covs).all():
        raise ValueError("means and covs must be finite, got NaN or infinity")
    m, d = means.shape if means.ndim == 2 else (0, 0)
    if m == 0 or covs.shape != (m, d, d):
        raise ValueError(f"means and covs must have shapes [m, d] and [m, d, d], got {means.shape} and {covs.shape}")
    if samples.ndim < 2 or samples.shape[0] != m or samples[0, 0].size != d:
        raise ValueError(f"samples must hold {m} sets of points of {d} numbers, got shape {samples.shape}")
    if total_variance is None:
        total_variance = float(np.trace(covs, axis1=1, axis2=2).mean() + means.var(axis=0).sum())
    _check_total(real(total_variance, "total_variance"), "total_variance")
    distances = []
    for x, mean, cov in zip(samples, means, covs, strict=True):
        x = points(x, "samples")
        _check_fit(x, "samples")
        distances.append(frechet_gaussian(*_fit(x), mean, cov))
    return 100.0 * float(np.mean(distances)) / total_variance


def _fit(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased covariance."""
    return x.mean(axis=0), np.cov(x, rowvar=False).reshape(x.shape[1], -1)


def _check_fit(x: np.ndarray, name: str) -> None:
    if len(x) < 2:
        raise ValueError(f"{name} has {len(x)} point; a covariance needs at least 2")


def _check_total(value: float, name: str) -> float:
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive and finite, got {value}")
    return value
