"""Gaussian data under a schedule: every marginal, the denoiser and the probability flow in closed form.

    C = U diag(lambda) U^T + rho (I - U U^T),      U of k orthonormal columns, k <= d

Under x_t = alpha x_0 + sigma eps the eigenvectors stay, lambda becomes lambda_t = alpha^2 lambda + sigma^2, and so rho.
The probability flow carries every coordinate c of x - alpha mean along an eigenvector by the ratio of its standard
deviations, and moves from any time s to any time t at once:

    flow       x_t = alpha_t mean + psi (x_s - alpha_s mean),     psi = sqrt(lambda_t / lambda_s)   in each eigenspace
    log det    sum_k log psi_k + (d - k) log psi_rho
    denoiser   E[x_0 | x_t = x] = mean + xi (x - alpha mean),     xi = alpha lambda / lambda_t

It is the most likely thing a network learns first: at high noise any data look Gaussian. (Wang & Vastola 2024, The
unreasonable effectiveness of Gaussian score approximation for diffusion models and its applications, arXiv 2412.09726.)
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
from jax.tree_util import Partial

from bridgejax._checks import as_real, check_count, check_finite, check_like, check_number
from bridgejax._numerics import as_wide, dtype_of, gaussian_log_density, normal_like
from bridgejax._summary import summary
from bridgejax._types import Args, Field, Numbers, Scalar, Time
from bridgejax.processes._schedule import Schedule, check_schedule, is_concrete

__all__ = [
    "GaussianFlow",
    "GaussianLaw",
    "fit_gaussian",
    "gaussian_flow",
    "gaussian_law",
    "low_rank_gaussian",
]


def __dir__() -> list[str]:
    return __all__


_times = partial(jnp.matmul, precision="highest")  # accelerators multiply float32 in fewer bits by default


# the law ----------------------------------------------------------------------------------------------------------


@partial(jax.tree_util.register_dataclass, data_fields=("mean", "vectors", "values", "rest"), meta_fields=())
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


# fitted to data ---------------------------------------------------------------------------------------------------


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


def fit_gaussian(data: Numbers, *, rank: int | None = None, shrinkage: float | None = None) -> GaussianLaw:
    """The Gaussian of a data set: its mean, and its covariance shrunk towards a multiple of the identity.

        (1 - a) S + a (tr S / d) I,     S = sum_i (x_i - mean)(x_i - mean)^T / n

    with the a that data ask for: Ledoit & Wolf 2004, A well-conditioned estimator for large-dimensional covariance
    matrices. It is large where n < d, which would be singular without, and vanishes as n grows. With fewer rows than
    numbers the law is low rank as it stands, and no d x d matrix is formed. With ``rank`` the leading directions are
    kept and the others share their mean variance (Tipping & Bishop 1999, Probabilistic principal component analysis).

    Args:
        data: ``[n, *shape]``, in the units in which a model sees it (standardised, if it standardises).
        rank: directions to keep; default all of those that data have.
        shrinkage: a in [0, 1] instead.

    Raises:
        ValueError: one row, equal rows, numbers that are not finite, a rank beyond d, a covariance that is singular
            at this shrinkage.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> data = np.random.default_rng(0).normal(size=(10, 8, 8))              # ten images of 64 pixels
        >>> law = bj.oracles.fit_gaussian(data)
        >>> law.mean.shape, law.vectors.shape, bool(law.rest > 0.1)
        ((8, 8), (64, 9), True)
    """
    rows = _rows(data)
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


# its flow ---------------------------------------------------------------------------------------------------------


def _check_time(t: Time, schedule: Schedule, name: str) -> None:
    t = as_real(t, name)
    slack = 1e-6 * schedule.T
    if is_concrete(t) and not np.all((np.asarray(t) >= -slack) & (np.asarray(t) <= schedule.T + slack)):
        raise ValueError(f"{name} must be a time of the schedule, in [0, {schedule.T:g}], got {t}")


@partial(jax.tree_util.register_dataclass, data_fields=("law", "schedule"), meta_fields=())
@dataclass(frozen=True)
class GaussianFlow:
    """The exact probability flow of Gaussian data; made by ``gaussian_flow``. A pytree; times are noising times.

    Args:
        law: the data's, at time 0.
        schedule: how it is noised.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> flow = bj.oracles.gaussian_flow(bj.oracles.gaussian_law(jnp.zeros(1), 1.0), bj.schedules.karras())
        >>> print(flow(3.0, 0.0, jnp.sqrt(jnp.array([10.0]))))                 # its deviation was sqrt(1 + 3^2)
        [1.]
    """

    law: GaussianLaw
    schedule: Schedule

    __repr__ = summary

    def __call__(self, s: Time, t: Time, x: Array) -> Array:
        """The state at time t of the flow that is at ``x`` at time s, before or after t; shaped like x."""
        a, b = self._laws(s, t)
        offset = as_wide(check_like(x, self.law.mean, "x", "the law's mean")) - a.mean
        moved = _scaled(self.law.vectors, jnp.sqrt(b.values / a.values), jnp.sqrt(b.rest / a.rest), offset)
        return (b.mean + moved).astype(dtype_of(x))

    def log_det(self, s: Time, t: Time) -> Array:
        """log |det dx_t/dx_s|, a number: the flow is affine, so it depends on the times alone."""
        a, b = self._laws(s, t)
        return 0.5 * _summed(self.law.vectors, jnp.log(b.values / a.values), jnp.log(b.rest / a.rest))

    @property
    def denoiser(self) -> Field:
        """``denoiser(t, x, args) = E[x_0 | x_t = x]``, for ``reverse`` and ``probability_flow``."""
        return Partial(_denoiser, self)

    @property
    def score(self) -> Field:
        """``score(t, x, args) = grad log p_t(x)``."""
        return Partial(_score, self)

    def _laws(self, s: Time, t: Time) -> tuple[GaussianLaw, GaussianLaw]:
        _check_time(s, self.schedule, "s")
        _check_time(t, self.schedule, "t")
        return self.law.diffuse(self.schedule, s), self.law.diffuse(self.schedule, t)


def _denoiser(flow: GaussianFlow, t: Array, x: Array, args: Args = None) -> Array:
    law, noised, alpha = flow.law, flow.law.diffuse(flow.schedule, t), flow.schedule.alpha(t)
    offset = as_wide(check_like(x, law.mean, "x", "the law's mean")) - noised.mean
    gains = alpha * law.values / noised.values, alpha * law.rest / noised.rest
    return (law.mean + _scaled(law.vectors, *gains, offset)).astype(dtype_of(x))


def _score(flow: GaussianFlow, t: Array, x: Array, args: Args = None) -> Array:
    noised = flow.law.diffuse(flow.schedule, t)
    offset = as_wide(check_like(x, noised.mean, "x", "the law's mean")) - noised.mean
    return -_scaled(noised.vectors, 1.0 / noised.values, 1.0 / noised.rest, offset).astype(dtype_of(x))


def gaussian_flow(law: GaussianLaw, schedule: Schedule) -> GaussianFlow:
    """The exact probability flow of data N(mean, C) under any Schedule, from any time s to any time t at once.

        x_t = alpha_t mean + ((alpha_t^2 C + sigma_t^2 I) (alpha_s^2 C + sigma_s^2 I)^-1)^(1/2) (x_s - alpha_s mean)

    One product with the eigenvectors and one back; vmappable over states and times. (Wang & Vastola 2024, The
    unreasonable effectiveness of Gaussian score approximation for diffusion models and its applications, arXiv
    2412.09726.)

    Args:
        law: of the data, by ``gaussian_law``, ``low_rank_gaussian`` or ``fit_gaussian``.
        schedule: any Schedule; times run from data at 0 to noise at T.

    Returns:
        A ``GaussianFlow``: ``flow(s, t, x)``, ``flow.log_det(s, t)``, ``flow.denoiser``, ``flow.score``.

    Raises:
        ValueError: another kind of law or schedule; when called, times outside of the schedule or a state of another
            shape.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> law = bj.oracles.gaussian_law(jnp.zeros(2), jnp.array([4.0, 0.25]))
        >>> flow = bj.oracles.gaussian_flow(law, bj.schedules.vp())
        >>> print(flow(1.0, 0.0, jnp.ones(2)).round(2))                        # noise of size one becomes data
        [2.  0.5]
    """
    check_law(law)
    check_schedule(schedule)
    return GaussianFlow(law, schedule)
