"""Gaussian mixtures, exact at every noise level: the law most tests of a diffusion model want to start from.

    p(x) = sum_k w_k N(x; m_k, C_k),      C_k = R_k diag(v_k) R_k^T

Under x_t = alpha x_0 + sigma eps a mixture stays one, N(alpha m_k, alpha^2 C_k + sigma^2 I), with the same rotations.
With r_k(x) the posterior weight of component k at x_t = x,

    score       grad log p_t   = sum_k r_k (alpha^2 C_k + sigma^2 I)^-1 (alpha m_k - x)
    denoiser    E[x_0 | x_t=x] = sum_k r_k [m_k + alpha C_k (alpha^2 C_k + sigma^2 I)^-1 (x - alpha m_k)]

(no division by alpha or sigma, so both ends of time are safe). Given y = A x_0 + s eps' it stays a mixture as well,

    C_k' = C_k - C_k A^T S_k^-1 A C_k,   m_k' = m_k + C_k A^T S_k^-1 (y - A m_k),   w_k' ~ w_k N(y; A m_k, S_k),

with S_k = A C_k A^T + s^2 I: the exact posterior of a linear inverse problem.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial

from bridgejax._checks import as_real, check_finite, check_number, check_positive
from bridgejax._numerics import TINY, as_wide, dtype_of, normal_like, normal_log_prob, safe_divide, safe_sqrt
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Args, Field, Numbers, Scalar, Time
from bridgejax.processes._keys import streams
from bridgejax.processes._schedule import Schedule, check_schedule

__all__ = [
    "GaussianMixture",
    "condition",
    "gaussian_mixture",
    "mixture_denoiser",
    "mixture_score",
]


def __dir__() -> list[str]:
    return __all__


@partial(register_dataclass, data_fields=("log_weights", "means", "variances", "rotations"), meta_fields=())
@dataclass(frozen=True)
class GaussianMixture:
    """sum_k w_k N(m_k, R_k diag(v_k) R_k^T); made by ``gaussian_mixture``.

    Args:
        log_weights: (K,), normalised.
        means: (K, *shape).
        variances: (K, *shape); zero makes a component a point.
        rotations: (K, d, d) with eigenvectors as columns, for shape (d,); None: axis-aligned.

    Example:
        >>> import jax, bridgejax as bj
        >>> law = bj.mixtures.gaussian_mixture([[-1.0], [1.0]], 0.25)
        >>> type(law) is bj.GaussianMixture, law.sample(jax.random.key(0)).shape
        (True, (1,))
        >>> law.mean().tolist(), law.cov().tolist()  # means of variance 1 and components of variance 0.25
        ([0.0], [[1.25]])
    """

    log_weights: Array
    means: Array
    variances: Array
    rotations: Array | None = None

    __repr__ = summary

    def sample(self, key: Array) -> Array:
        """One draw, of shape ``shape``."""
        which, noise = streams(key, "mixture", 2)
        k = jax.random.categorical(which, as_wide(self.log_weights))
        z = safe_sqrt(self.variances[k]) * normal_like(noise, self.means[k])
        return self.means[k] + (z if self.rotations is None else self.rotations[k] @ z)

    def __call__(self, key: Array, args: Args = None) -> Array:
        """One draw: a mixture is a start law."""
        return self.sample(key)

    def log_prob(self, x: Array, args: Args = None) -> Array:
        """log p(x), a number."""
        return jax.nn.logsumexp(self._log_parts(x)[0])

    def responsibilities(self, x: Array) -> Array:
        """Posterior weight of every component at x, (K,)."""
        return jax.nn.softmax(self._log_parts(x)[0])

    def score(self, x: Array) -> Array:
        """grad log p(x)."""
        logs, offsets, variances = self._log_parts(x)
        return -self._mixed(jax.nn.softmax(logs), offsets / variances)

    def mean(self) -> Array:
        """E[x]."""
        return jnp.tensordot(jnp.exp(self.log_weights), self.means, 1)

    def cov(self) -> Array:
        """Covariance of the flattened state, (d, d)."""
        weights, count = jnp.exp(self.log_weights), self.means.shape[0]
        centred = (self.means - self.mean()).reshape(count, -1)
        inner = jax.vmap(jnp.diag)(self.variances.reshape(count, -1))
        if self.rotations is not None:
            inner = self.rotations @ inner @ jnp.swapaxes(self.rotations, 1, 2)
        return jnp.einsum("k,ki,kj->ij", weights, centred, centred) + jnp.einsum("k,kij->ij", weights, inner)

    def diffuse(self, schedule: Schedule, t: Time) -> GaussianMixture:
        """The law of x_t = alpha x_0 + sigma eps."""
        alpha, variance = schedule.alpha(t), schedule.variance(0.0, t)
        return replace(self, means=alpha * self.means, variances=alpha**2 * self.variances + variance)

    def _log_parts(self, x: Array) -> tuple[Array, Array, Array]:
        """log w_k N(x; m_k, C_k), the offsets x - m_k in the eigenbasis, and the (floored) variances."""
        axes = tuple(range(1, self.means.ndim))
        variances = jnp.maximum(self.variances, TINY)
        offsets = x - self.means
        if self.rotations is not None:
            offsets = jnp.einsum("kij,ki->kj", self.rotations, offsets, precision="highest")
        return self.log_weights + jnp.sum(normal_log_prob(offsets, 0.0, variances), axis=axes), offsets, variances

    def _mixed(self, weights: Array, vectors: Array) -> Array:
        """sum_k weights_k R_k vectors_k."""
        if self.rotations is not None:
            vectors = jnp.einsum("kij,kj->ki", self.rotations, vectors, precision="highest")
        return jnp.tensordot(weights, vectors, 1, precision="highest")


def gaussian_mixture(means: Numbers, covariances: Numbers = 0.0, weights: Numbers | None = None) -> GaussianMixture:
    """A Gaussian mixture.

    Args:
        means: (K, *shape).
        covariances: a number (the variance of all), (K,) (one variance each), (K, *shape) (diagonals), or (K, d, d)
            (matrices, for shape (d,)). Zero: points.
        weights: (K,), positive, made to sum to 1; default equal.

    Raises:
        ValueError: shapes that do not fit, weights that are not positive, a covariance that is not symmetric and
            positive semi-definite.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> mixture = bj.mixtures.gaussian_mixture([[-2.0], [2.0]], 0.25, weights=[1.0, 3.0])
        >>> print(mixture.mean())
        [1.]
    """
    means = as_wide(as_real(means, "means"))
    check_finite(means=means)
    if means.ndim < 1 or means.shape[0] == 0:
        raise ValueError(f"means must have shape (K, *shape) with K >= 1, got {means.shape}")
    count, shape = means.shape[0], means.shape[1:]
    log_weights = normalised_log_weights(weights, means, "mean", "component")
    covariances = as_real(covariances, "covariances").astype(means.dtype)
    check_finite(covariances=covariances)
    if covariances.shape in ((), (count,)):
        spread = covariances.reshape(-1, *(1,) * len(shape))
        return GaussianMixture(log_weights, means, _checked(jnp.broadcast_to(spread, means.shape)))
    if covariances.shape == means.shape:
        return GaussianMixture(log_weights, means, _checked(covariances))
    if len(shape) == 1 and covariances.shape == (count, *shape, *shape):
        concrete = not isinstance(covariances, Tracer)
        if concrete and not np.allclose(covariances, np.swapaxes(covariances, 1, 2), rtol=1e-4, atol=1e-6):
            raise ValueError("covariances must be symmetric matrices")
        variances, rotations = jnp.linalg.eigh(covariances)
        slack = 1e-5 * jnp.max(variances, axis=1, keepdims=True)  # rounding of a singular covariance
        variances = jnp.where(jnp.abs(variances) <= slack, jnp.maximum(variances, 0.0), variances)
        return GaussianMixture(log_weights, means, _checked(variances), rotations)
    raise ValueError(
        f"covariances must be a number, ({count},), {means.shape} or matrices ({count}, d, d) for means of shape "
        f"{means.shape}, got {covariances.shape}"
    )


def normalised_log_weights(weights: Numbers | None, of: Array, each: str, part: str) -> Array:
    """The logs of weights that sum to 1, one for each row of ``of`` and in its dtype; equal ones for None."""
    count = of.shape[0]
    weights = jnp.ones(count, of.dtype) if weights is None else as_real(weights, "weights").astype(of.dtype)
    if weights.shape != (count,):
        raise ValueError(f"weights must have shape ({count},), one per {each}, got {weights.shape}")
    if not isinstance(weights, Tracer) and not np.all((np.asarray(weights) > 0) & np.isfinite(weights)):
        raise ValueError(f"weights must be positive and finite; leave a {part} out instead of giving it none")
    return jnp.log(weights) - jnp.log(jnp.sum(weights))


def _checked(variances: Array) -> Array:
    if not isinstance(variances, Tracer) and not np.all(np.asarray(variances) >= 0):
        raise ValueError("covariances must be positive semi-definite, got a negative variance")
    return variances


def check_mixture(mixture: object, name: str = "mixture") -> None:
    """Raise a ``ValueError`` unless ``mixture`` is a GaussianMixture."""
    if not isinstance(mixture, GaussianMixture):
        raise ValueError(f"{name} must be a GaussianMixture, got {type(mixture).__name__}; see gaussian_mixture")


def _score(mixture: GaussianMixture, schedule: Schedule, t: Array, x: Array, args: Args = None) -> Array:
    return mixture.diffuse(schedule, t).score(x).astype(dtype_of(x))


def _denoiser(mixture: GaussianMixture, schedule: Schedule, t: Array, x: Array, args: Args = None) -> Array:
    alpha = schedule.alpha(t)
    noised = mixture.diffuse(schedule, t)
    logs, offsets, _ = noised._log_parts(x)
    inner = alpha * safe_divide(mixture.variances, noised.variances) * offsets
    weights = jax.nn.softmax(logs)
    mean = jnp.tensordot(weights, mixture.means, 1, precision="highest")
    return (mean + mixture._mixed(weights, inner)).astype(dtype_of(x))


def mixture_score(mixture: GaussianMixture, schedule: Schedule) -> Field:
    """``score(t, x, args) = grad log p_t(x)`` for data from ``mixture``, t on the noising clock; for ``reverse``.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> score = bj.mixtures.mixture_score(bj.mixtures.gaussian_mixture([[0.0]], 1.0), bj.schedules.vp())
        >>> round(float(score(0.5, jnp.array([2.0]), None)[0]), 4)                   # N(0, 1) stays N(0, 1)
        -2.0
    """
    check_mixture(mixture)
    check_schedule(schedule)
    return Partial(_score, mixture, schedule)


def mixture_denoiser(mixture: GaussianMixture, schedule: Schedule) -> Field:
    """``denoiser(t, x, args) = E[x_0 | x_t = x]``, exact and finite at both ends of time; for ``reverse``.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> denoiser = bj.mixtures.mixture_denoiser(bj.mixtures.gaussian_mixture([[3.0]], 0.0), bj.schedules.vp())
        >>> print(denoiser(0.5, jnp.array([2.0]), None))                             # all data are at 3
        [3.]
    """
    check_mixture(mixture)
    check_schedule(schedule)
    return Partial(_denoiser, mixture, schedule)


def condition(mixture: GaussianMixture, operator: Numbers, value: Numbers, noise: Scalar) -> GaussianMixture:
    """The law of x given y = A x + noise eps: the exact posterior of a linear inverse problem.

    Args:
        mixture: law of x, shape (d,).
        operator: A, (m, d).
        value: y, (m,).
        noise: standard deviation of the observation, > 0.

    Raises:
        ValueError: shapes that do not fit, or noise that is not positive.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> prior = bj.mixtures.gaussian_mixture([[0.0, 0.0]], 1.0)
        >>> print(bj.mixtures.condition(prior, [[1.0, 0.0]], [2.0], 1.0).mean())     # y = x_1 + noise was 2
        [1. 0.]
    """
    check_mixture(mixture)
    operator, value = (as_real(v, n).astype(mixture.means.dtype) for v, n in ((operator, "operator"), (value, "value")))
    check_finite(operator=operator, value=value)
    if mixture.means.ndim != 2:
        raise ValueError(f"condition needs vectors, means of shape (K, d), got {mixture.means.shape}")
    if operator.shape != (*value.shape, mixture.means.shape[1]) or value.ndim != 1:
        raise ValueError(
            f"operator must be (m, {mixture.means.shape[1]}) for a value of (m,), "
            f"got {operator.shape} and {value.shape}"
        )
    check_number(noise=noise)
    check_positive(noise=noise)

    def one(log_weight: Array, mean: Array, variances: Array, rotation: Array) -> tuple[Array, Array, Array]:
        cov = (rotation * variances) @ rotation.T
        across = operator @ cov
        inner = across @ operator.T + noise**2 * jnp.eye(value.size, dtype=cov.dtype)
        gain = jnp.linalg.solve(inner, across).T
        residual = value - operator @ mean
        left = jnp.eye(mean.size, dtype=cov.dtype) - gain @ operator
        after = left @ cov @ left.T + noise**2 * gain @ gain.T  # Joseph's form: symmetric, no difference of near ones
        log_weight = log_weight - 0.5 * residual @ jnp.linalg.solve(inner, residual)
        return log_weight - 0.5 * jnp.linalg.slogdet(inner)[1], mean + gain @ residual, after

    axes = jnp.broadcast_to(jnp.eye(mixture.means.shape[1]), (*mixture.means.shape, mixture.means.shape[1]))
    rotations = axes if mixture.rotations is None else mixture.rotations
    log_weights, means, covs = jax.vmap(one)(mixture.log_weights, mixture.means, mixture.variances, rotations)
    variances, rotations = jnp.linalg.eigh(covs)
    return GaussianMixture(jax.nn.log_softmax(log_weights), means, jnp.maximum(variances, 0.0), rotations)
