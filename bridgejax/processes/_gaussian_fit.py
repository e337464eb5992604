"""The Gaussian of a data set: mean and shrunk covariance; with fewer rows than numbers, without a d x d matrix."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from bridgejax._checks import as_real, check_count, check_finite, check_number
from bridgejax._types import Numbers
from bridgejax.processes.gaussians import GaussianLaw, _law


def _rows(data: Numbers) -> np.ndarray:
    data = as_real(data, "data")
    if isinstance(data, Tracer):
        raise ValueError("data must be concrete: fit_gaussian runs on the host; call it outside of jit")
    if data.ndim < 2 or data.size == 0:
        raise ValueError(f"data must have one row per sample, shape (n, *shape), got shape {data.shape}")
    if data.shape[0] < 2:
        raise ValueError("data holds one point, which has no covariance; pass two rows at least, or use gaussian_law")
    rows = np.asarray(data, np.float64)
    check_finite(data=rows)
    return rows


def _spectrum(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, falling, and eigenvectors of centred^T centred / n, without those that are rounding."""
    n, d = centred.shape
    if n > d:
        values, vectors = np.linalg.eigh(centred.T @ centred / n)
        values, vectors = values[::-1], vectors[:, ::-1]
    else:  # n - 1 directions at most: never a d x d matrix
        _, singular, right = np.linalg.svd(centred, full_matrices=False)
        values, vectors = singular**2 / n, right.T
    kept = values > d * np.finfo(np.float64).eps * values[0]
    return values[kept], vectors[:, kept]


def _ledoit_wolf(centred: np.ndarray, values: np.ndarray) -> float:
    """The intensity that minimises an estimate of E |(1 - a) S + a m I - C|^2, in [0, 1]."""
    n, d = centred.shape
    mean, square = values.sum() / d, np.sum(values**2)
    spread = square - d * mean**2  # |S - m I|^2
    fourth = np.sum(np.sum(centred**2, axis=1) ** 2)
    noise = (fourth / n - square) / n  # sum_k |x_k x_k^T - S|^2 / n^2
    return float(min(max(noise, 0.0), spread) / spread) if spread > 1e-12 * square else 0.0


def fit_gaussian(
    data: Numbers, *, labels: Numbers | None = None, rank: int | None = None, shrinkage: float | None = None
) -> GaussianLaw:
    """The Gaussian of a data set: its mean, and its covariance shrunk towards a multiple of the identity.

        (1 - a) S + a (tr S / d) I,     S = sum_i (x_i - mean)(x_i - mean)^T / n

    with the a that data ask for: Ledoit & Wolf 2004, A well-conditioned estimator for large-dimensional covariance
    matrices. It is large where n < d, which would be singular without, and vanishes as n grows. With fewer rows than
    numbers the law is low rank as it stands, and no d x d matrix is formed. With ``rank`` the leading directions are
    kept and the others share their mean variance (Tipping & Bishop 1999, Probabilistic principal component analysis).

    Args:
        data: ``[n, *shape]``, in the units in which a model sees it (standardised, if it standardises).
        labels: ``[n]``, classes 0, 1, ..., K - 1: a law for each, of one rank, stacked on a first axis, as ``teleport``
            takes it. Default: one law of all rows.
        rank: directions to keep; default all of those that data have.
        shrinkage: a in [0, 1] instead.

    Raises:
        ValueError: one row, equal rows, numbers that are not finite, a rank beyond d, a covariance that is singular
            at this shrinkage; a class of fewer than two rows.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> data = np.random.default_rng(0).normal(size=(10, 8, 8))              # ten images of 64 pixels
        >>> law = bj.oracles.fit_gaussian(data)
        >>> law.mean.shape, law.vectors.shape, bool(law.rest > 0.1)
        ((8, 8), (64, 9), True)
    """
    rows = _rows(data)
    if labels is not None:
        return _by_class(rows, labels, rank, shrinkage)
    n, d = rows.shape[0], math.prod(rows.shape[1:])
    if rank is not None and check_count("rank", rank) > d:
        raise ValueError(f"rank must be at most the number of coordinates, {d}, got {rank}")
    if shrinkage is not None:
        check_number(shrinkage=shrinkage)
        if not 0.0 <= shrinkage <= 1.0:
            raise ValueError(f"shrinkage must lie in [0, 1], got {shrinkage}")
    centred = rows.reshape(n, d) - rows.reshape(n, d).mean(0)
    mean = rows.mean(0)
    if not np.abs(centred).max() > 1e-12 * np.abs(rows).max():
        raise ValueError("data do not vary: all rows are equal, and their covariance is 0; pass rows that differ")
    values, vectors = _spectrum(centred)
    a = _ledoit_wolf(centred, values) if shrinkage is None else float(shrinkage)
    level = values.sum() / d
    kept = values.size if rank is None else min(rank, values.size)
    if d > kept:  # the others, the directions without any variance among them, share one
        rest = (1.0 - a) * values[kept:].sum() / (d - kept) + a * level
    else:
        rest = (1.0 - a) * values[-1] + a * level
    if not rest > 1e-12 * values[0]:
        raise ValueError(
            f"data span {values.size} of {d} directions, so that shrinkage = {a:.3g} leaves a singular covariance; "
            "pass shrinkage=0.01, or more rows"
        )
    return _law(mean, vectors[:, :kept], (1.0 - a) * values[:kept] + a * level, rest)


def _by_class(rows: np.ndarray, labels: Numbers, rank: int | None, shrinkage: float | None) -> GaussianLaw:
    """The laws of all classes, stacked."""
    of = np.asarray(as_real(labels, "labels"))
    if of.shape != rows.shape[:1] or of.dtype.kind not in "iu" or of.min() < 0:
        raise ValueError(
            f"labels must be whole numbers >= 0, one for each of {len(rows)} rows, got {of.dtype}{of.shape}"
        )
    counts = np.bincount(of)
    if counts.min() < 2:
        k = int(counts.argmin())
        raise ValueError(f"labels give class {k} {counts[k]} rows, too few for a covariance; two are needed at least")
    parts = [rows[of == k] for k in range(len(counts))]
    laws = [fit_gaussian(part, rank=rank, shrinkage=shrinkage) for part in parts]
    least = min(law.vectors.shape[1] for law in laws)  # one shape for all
    laws = [
        law if law.vectors.shape[1] == least else fit_gaussian(part, rank=least, shrinkage=shrinkage)
        for law, part in zip(laws, parts, strict=True)
    ]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *laws)
