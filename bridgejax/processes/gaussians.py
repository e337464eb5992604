"""Gaussian laws of data: full, diagonal or of low rank, with their diffusion.

    C = U diag(lambda) U^T + rho (I - U U^T),      U of k orthonormal columns, k <= d

Under x_t = alpha x_0 + sigma eps the eigenvectors stay, lambda becomes lambda_t = alpha^2 lambda + sigma^2, and so rho.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from bridgejax._checks import as_real, check_finite, check_like, check_number
from bridgejax._numerics import as_wide, gaussian_log_density, normal_like
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Args, Numbers, Scalar, Time
from bridgejax.processes._schedule import Schedule

__all__ = ["GaussianLaw", "gaussian_law", "low_rank_gaussian"]


def __dir__() -> list[str]:
    return __all__


_times = partial(jnp.matmul, precision="highest")  # accelerators multiply float32 in fewer bits by default


@partial(register_dataclass, data_fields=("mean", "vectors", "values", "rest"), meta_fields=())
@dataclass(frozen=True)
class GaussianLaw:
    """N(mean, U diag(values) U^T + rest (I - U U^T)), of ``gaussian_law``, ``low_rank_gaussian`` or ``fit_gaussian``.

    A start law with a density. A state is shaped like ``mean``, and flattened in C order for the covariance.

    Args:
        mean: ``shape``, of d numbers.
        vectors: U, ``[d, k]``, orthonormal columns.
        values: ``[k]``, the variances along them.
        rest: the variance in every other direction; not read when k = d.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> law = bj.oracles.gaussian_law(jnp.ones(2), jnp.array([[2.0, 1.0], [1.0, 2.0]]))
        >>> print(law.cov().round(4), round(float(law.log_prob(jnp.ones(2))), 4))     # -log(2 pi) - log(3) / 2
        [[2. 1.]
         [1. 2.]] -2.3872
    """

    mean: Array
    vectors: Array
    values: Array
    rest: Array

    __repr__ = summary

    def __call__(self, key: Array, args: Args = None) -> Array:
        """One draw, shaped like ``mean``."""
        scales, rest = jnp.sqrt(self.values), jnp.sqrt(self.rest)
        return self.mean + _scaled(self.vectors, scales, rest, normal_like(key, self.mean))

    def log_prob(self, x: Array, args: Args = None) -> Array:
        """log p(x), a number."""
        offset = as_wide(check_like(x, self.mean, "x", "the law's mean")) - self.mean
        whitened = _scaled(self.vectors, 1.0 / jnp.sqrt(self.values), 1.0 / jnp.sqrt(self.rest), offset)
        log_det = _summed(self.vectors, jnp.log(self.values), jnp.log(self.rest))
        return gaussian_log_density(jnp.sum(whitened**2), log_det, self.mean.size)

    def cov(self) -> Array:
        """Covariance of the flattened state, ``[d, d]``."""
        d = self.mean.size
        columns = jax.vmap(lambda column: _scaled(self.vectors, self.values, self.rest, column))
        return columns(jnp.eye(d, dtype=self.values.dtype))

    def leading(self) -> Array:
        """The largest variance in any direction."""
        return jnp.max(self.values if _is_full(self.vectors) else jnp.append(self.values, self.rest))

    def diffuse(self, schedule: Schedule, t: Time) -> GaussianLaw:
        """The law of x_t = alpha x_0 + sigma eps."""
        alpha, variance = schedule.alpha(t), schedule.variance(0.0, t)
        values, rest = alpha**2 * self.values + variance, alpha**2 * self.rest + variance
        return replace(self, mean=alpha * self.mean, values=values, rest=rest)


def _is_full(vectors: Array) -> bool:
    return vectors.shape[0] == vectors.shape[1]


def _scaled(vectors: Array, values: Array, rest: Array, x: Array) -> Array:
    """U values U^T x + rest (x - U U^T x), for a state x of any shape; nothing of ``rest`` when U is square."""
    flat = jnp.ravel(x)
    along = _times(vectors.T, flat)
    moved = _times(vectors, values * along)
    if not _is_full(vectors):
        moved = moved + rest * (flat - _times(vectors, along))
    return moved.reshape(jnp.shape(x))


def _summed(vectors: Array, values: Array, rest: Array) -> Array:
    """The trace of U values U^T + rest (I - U U^T)."""
    return jnp.sum(values) + (vectors.shape[0] - vectors.shape[1]) * rest


def check_law(law: object, name: str = "law") -> None:
    """Raise a ``ValueError`` unless ``law`` is a GaussianLaw."""
    if not isinstance(law, GaussianLaw):
        raise ValueError(f"{name} must be a GaussianLaw, got {type(law).__name__}; see oracles.fit_gaussian")


_REMEDY = "add a small variance in every direction, or fit the data by oracles.fit_gaussian, which shrinks"


def _check_regular(name: str, least: float, largest: float, d: int, eps: float) -> None:
    """Raise unless the smallest variance is positive and no rounding of the largest."""
    if least < -1e-5 * largest:
        raise ValueError(f"{name} must be positive definite, got the eigenvalue {least:g}")
    if not least > math.sqrt(d) * eps * largest:  # the rounding of a matrix moves its eigenvalues by that
        raise ValueError(f"{name} is singular: the least of its variances is {least:.3g}; {_REMEDY}")


def _wide(value: Numbers, name: str) -> Array | np.ndarray:
    """Real, finite numbers in JAX's default float: on the host, unless they are traced."""
    value = as_real(value, name)
    check_finite(**{name: value})
    wide = jnp.result_type(float)
    return value.astype(wide) if isinstance(value, Tracer) else np.asarray(value, wide)


def _mean(mean: Numbers) -> Array | np.ndarray:
    mean = _wide(mean, "mean")
    if mean.ndim == 0 or mean.size == 0:
        raise ValueError(f"mean must have the shape of a state, one axis at least, got shape {mean.shape}")
    return mean


def gaussian_law(mean: Numbers, covariance: Numbers) -> GaussianLaw:
    """N(mean, covariance), from one eigendecomposition.

    Args:
        mean: ``shape``, of d numbers.
        covariance: a number (times I), variances of the shape of ``mean``, or ``[d, d]`` of the flattened state.

    Raises:
        ValueError: another shape, a covariance that is not symmetric and positive definite.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> law = bj.oracles.gaussian_law(jnp.zeros((4, 4)), 2.0)                # an image of 16 pixels
        >>> law(jax.random.key(0)).shape, law.cov().shape
        ((4, 4), (16, 16))
    """
    mean, covariance = _mean(mean), _wide(covariance, "covariance")
    d, eps = mean.size, float(jnp.finfo(mean.dtype).eps)
    if covariance.shape not in ((), mean.shape, (d, d)):
        raise ValueError(
            f"covariance must be a number, variances of the mean's shape {mean.shape} or a ({d}, {d}) matrix, got "
            f"shape {covariance.shape}"
        )
    matrix = covariance.ndim == 2 and covariance.shape != mean.shape
    if isinstance(covariance, np.ndarray) and matrix:
        size = float(np.abs(covariance).max())
        if not np.allclose(covariance, covariance.T, rtol=0.0, atol=1e-5 * size):
            raise ValueError("covariance must be symmetric, and this matrix differs from its transpose")
    if covariance.ndim == 0:
        values, vectors, rest = np.zeros(0, mean.dtype), np.zeros((d, 0), mean.dtype), covariance
    elif matrix:
        values, vectors = _eigh(covariance)
        rest = values[0]
    else:
        values, vectors, rest = covariance.reshape(-1), np.eye(d, dtype=mean.dtype), covariance.reshape(-1)[0]
    if isinstance(covariance, np.ndarray):
        spectrum = np.asarray(rest if covariance.ndim == 0 else values, np.float64)
        _check_regular("covariance", float(spectrum.min()), float(np.abs(spectrum).max()), d, eps)
    return _law(mean, vectors, values, rest)


def _eigh(matrix: Array | np.ndarray) -> tuple[Array | np.ndarray, Array | np.ndarray]:
    """Eigenvalues, rising, and eigenvectors: in float64 on the host, unless traced."""
    if isinstance(matrix, np.ndarray):
        values, vectors = np.linalg.eigh(np.asarray(matrix, np.float64))
        return values, vectors
    return jnp.linalg.eigh(matrix)


def _law(mean: Numbers, vectors: Numbers, values: Numbers, rest: Numbers) -> GaussianLaw:
    wide = jnp.result_type(float)
    return GaussianLaw(*(jnp.asarray(part, wide) for part in (mean, vectors, values, rest)))


def low_rank_gaussian(mean: Numbers, vectors: Numbers, values: Numbers, rest: Scalar) -> GaussianLaw:
    """N(mean, U diag(values) U^T + rest (I - U U^T)): k leading directions and one variance for all others.

    O(d k) memory and time in what uses it, where a full covariance takes O(d^2).

    Args:
        mean: ``shape``, of d numbers.
        vectors: U, ``[d, k]``, orthonormal columns: the leading eigenvectors of the flattened state's covariance.
        values: ``[k]``, the variances along them, > 0.
        rest: the variance in every other direction, > 0.

    Raises:
        ValueError: shapes that do not fit, columns that are not orthonormal, variances that are not positive.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> law = bj.oracles.low_rank_gaussian(jnp.zeros(2), jnp.array([[1.0], [0.0]]), jnp.array([4.0]), 0.25)
        >>> print(law.cov())
        [[4.   0.  ]
         [0.   0.25]]
    """
    mean, vectors, values = _mean(mean), _wide(vectors, "vectors"), _wide(values, "values")
    check_number(rest=rest)
    others, d = _wide(rest, "rest"), mean.size
    if vectors.ndim != 2 or vectors.shape[0] != d or vectors.shape[1] > d:
        raise ValueError(f"vectors must have shape ({d}, k), k <= {d}, for {d} numbers in mean, got {vectors.shape}")
    if values.shape != vectors.shape[1:]:
        raise ValueError(f"values must have shape {vectors.shape[1:]}, one per column of vectors, got {values.shape}")
    if isinstance(vectors, np.ndarray):
        gap = np.abs(vectors.T @ vectors - np.eye(vectors.shape[1])).max(initial=0.0)
        if gap > 1e-4:
            raise ValueError(f"vectors must have orthonormal columns, these miss it by {gap:.2g}; see numpy.linalg.qr")
    for name, value in (("values", values), ("rest", others)):
        if isinstance(value, np.ndarray) and value.min(initial=1.0) <= 0:
            raise ValueError(f"{name} must be positive, got {value.min():g}: a singular covariance; {_REMEDY}")
    return _law(mean, vectors, values, others)
