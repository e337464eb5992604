"""Sparse Gaussian processes by M inducing values u = L v, whitened: v ~ N(0, I), L L^T = K_ZZ + j I.

    f(x) | v  ~  N(a(x)^T v,  k(x, x) - |a(x)|^2),        a(x) = L^-1 k(Z, x)

With v ~ N(m, S S^T) in its place the mean is a^T m and the variance gains |S^T a|^2. The jitter j belongs to the model:
u are values observed with noise of variance j, so that every bound below is one for any j. It starts at 100 roundings
of the mean variance, and is raised tenfold until the factorisation is finite.

    collapsed bound     log N(y; 0, A^T A + s^2 I) - sum_i (k(x_i, x_i) - |a(x_i)|^2) / (2 s^2)     <= log p(y)

is the largest value of the ELBO over all laws of v, Gaussian or not, for a Gaussian likelihood of noise s. (Titsias
2009, Variational learning of inducing variables in sparse Gaussian processes.)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer
from jax.scipy.linalg import solve_triangular

from bridgejax._checks import as_real, check_finite, check_number, check_positive
from bridgejax._numerics import as_wide, gaussian_log_density
from bridgejax._summary import summary
from bridgejax._types import Numbers, Params, Scalar
from bridgejax.gp.covariances import Covariance, CovarianceFn, _points, check_covariance, diagonal, pairwise

__all__ = ["Root", "collapsed_bound", "log_marginal", "root"]


def __dir__() -> list[str]:
    return __all__


_ROUNDINGS = 100.0
_LARGEST = 1.0  # share of the mean variance: a matrix that asks for more is no covariance


class Root(NamedTuple):
    """A factorised covariance matrix.

    Attributes:
        lower: L, ``[M, M]``, L L^T = K + jitter v I with v the mean of K's diagonal.
        jitter: what was added, as a share of v, a number.
    """

    lower: Array
    jitter: Array

    __repr__ = summary


def root(matrix: Array) -> Root:
    """The Cholesky factor of a covariance matrix with the least jitter, of a tenfold ladder, that leaves it finite.

    Differentiable; under ``jit`` and ``vmap`` too. How much it took is in the result.

    Args:
        matrix: ``[M, M]``, symmetric and positive semi-definite.

    Raises:
        ValueError: no square matrix.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> found = bj.gp.root(jnp.ones((3, 3)))                       # three values that are one
        >>> bool(jnp.isfinite(found.lower).all()), bool(found.jitter < 1e-3)
        (True, True)
    """
    matrix = as_wide(as_real(matrix, "matrix"))
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"matrix must be square, got shape {matrix.shape}")
    level = jax.lax.stop_gradient(jnp.mean(jnp.diagonal(matrix)))
    held, eye = jax.lax.stop_gradient(matrix), jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    first = jnp.asarray(_ROUNDINGS * jnp.finfo(matrix.dtype).eps, matrix.dtype)

    def fails(carry: tuple[Array, Array]) -> Array:
        jitter, finite = carry
        return jnp.logical_not(finite) & (jitter < _LARGEST)

    def again(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        return 10.0 * carry[0], finite(10.0 * carry[0])

    def finite(jitter: Array) -> Array:
        return jnp.all(jnp.isfinite(jnp.linalg.cholesky(held + jitter * level * eye)))

    jitter, _ = jax.lax.while_loop(fails, again, (first, finite(first)))
    return Root(jnp.linalg.cholesky(matrix + jitter * level * eye), jitter)


def features(apply: CovarianceFn, params: Params, inducing: Array, lower: Array, x: Array) -> tuple[Array, Array]:
    """a(x), (M, n), and k(x, x) - |a(x)|^2, (n,), positive."""
    a = solve_triangular(lower, pairwise(apply, params, inducing, x), lower=True)
    own = diagonal(apply, params, x)
    least = jnp.finfo(own.dtype).eps * jax.lax.stop_gradient(own)
    return a, jnp.maximum(own - jnp.sum(a**2, axis=0), least)


def _regression(
    x: Numbers, y: Numbers, noise: Scalar, covariance: Covariance
) -> tuple[Array, Array, Array, Covariance]:
    covariance, x = check_covariance(covariance), _points(x, "x")
    y = as_wide(as_real(y, "y"))
    if y.shape != (x.shape[0],):
        raise ValueError(f"y must have shape ({x.shape[0]},), one value per row of x, got {y.shape}")
    check_finite(x=x, y=y)
    check_number(noise=noise)
    check_positive(noise=noise)
    return x, y, jnp.asarray(noise, y.dtype) ** 2, covariance


def log_marginal(covariance: Covariance, x: Numbers, y: Numbers, noise: Scalar) -> Array:
    """log N(y; 0, K_XX + noise^2 I), a number: the exact evidence of Gaussian process regression.

    Args:
        covariance: of the function.
        x: inputs, ``[n, d]``.
        y: targets, ``[n]``.
        noise: standard deviation s of the observations, > 0.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, no noise; a matrix that cannot be factorised in
            the precision of y, as with noise^2 below about 1e-7 n of the variance in float32.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> print(round(float(bj.gp.log_marginal(bj.gp.rbf(), jnp.zeros((1, 1)), jnp.zeros(1), 1.0)), 4))
        -1.2655
    """
    x, y, variance, covariance = _regression(x, y, noise, covariance)
    matrix = pairwise(*covariance, x, x) + variance * jnp.eye(len(y), dtype=y.dtype)
    lower = jnp.linalg.cholesky(matrix)
    if not isinstance(lower, Tracer) and not bool(jnp.isfinite(lower[-1, -1])):
        raise ValueError(
            f"covariance with noise={float(noise):.3g} is not positive definite in {matrix.dtype} at these {len(y)} "
            "inputs; take more noise, or float64 (jax_enable_x64)"
        )
    whitened = solve_triangular(lower, y, lower=True)
    return gaussian_log_density(jnp.sum(whitened**2), 2.0 * jnp.sum(jnp.log(jnp.diagonal(lower))), len(y))


def collapsed_bound(covariance: Covariance, inducing: Numbers, x: Numbers, y: Numbers, noise: Scalar) -> Array:
    """Titsias' bound on ``log_marginal``: the largest ELBO of a sparse Gaussian process over all laws of u, a number.

    O(n M^2) time and O(n M) memory; no n x n matrix.

    Args:
        covariance: of the function.
        inducing: Z, ``[M, d]``.
        x: inputs, ``[n, d]``.
        y: targets, ``[n]``.
        noise: standard deviation s of the observations, > 0.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, no noise.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> x, y = jnp.linspace(0, 1, 20)[:, None], jnp.sin(jnp.linspace(0, 6, 20))
        >>> bound = bj.gp.collapsed_bound(bj.gp.rbf(0.2), x[::4], x, y, 0.1)
        >>> bool(bound < bj.gp.log_marginal(bj.gp.rbf(0.2), x, y, 0.1))
        True
    """
    x, y, variance, covariance = _regression(x, y, noise, covariance)
    inducing = _points(inducing, "inducing")
    if inducing.shape[1] != x.shape[1]:
        raise ValueError(f"inducing must have points of {x.shape[1]} coordinates as x has, got shape {inducing.shape}")
    apply, params = covariance
    lower = root(pairwise(apply, params, inducing, inducing)).lower
    a, rest = features(apply, params, inducing, lower, x)
    lower, _, left = regression(a, y, jnp.sqrt(variance))
    log_det = 2.0 * jnp.sum(jnp.log(jnp.abs(jnp.diagonal(lower)))) + len(y) * jnp.log(variance)
    return gaussian_log_density(left, log_det, len(y)) - 0.5 * jnp.sum(rest) / variance


class Regression(NamedTuple):
    """The law of v given y = A^T v + s eps, v ~ N(0, I): N(B^-1 A y / s^2, B^-1) with B = I + A A^T / s^2.

    Attributes:
        lower: L, ``[M, M]``, L L^T = B; its diagonal may be negative.
        projected: L^-1 A y / s^2, ``[M]``.
        left: y^T (A^T A + s^2 I)^-1 y, a number.
    """

    lower: Array
    projected: Array
    left: Array

    __repr__ = summary


def regression(a: Array, y: Array, noise: Scalar) -> Regression:
    """See ``Regression``; by the QR factors of [[I, 0], [A^T / s, y / s]].

    B is never formed: its condition is the square of theirs, and with thousands of rows and little noise more than
    float32 can hold.
    """
    size = a.shape[0]
    prior = jnp.eye(size, size + 1, dtype=a.dtype)
    # a row that keeps the last column independent of the others where y = 0; it adds eps to what is left
    last = jnp.zeros((1, size + 1), a.dtype).at[0, size].set(math.sqrt(jnp.finfo(a.dtype).eps))
    upper = jnp.linalg.qr(jnp.concatenate([prior, jnp.column_stack([a.T, y]) / noise, last]), mode="r")
    return Regression(upper[:size, :size].T, upper[:size, size], upper[size, size] ** 2)


class Normal(NamedTuple):
    """A Gaussian law of the whitened values of one layer.

    Attributes:
        mean: (M, D).
        scale: (M, D), deviations of independent values; or (D, M, M), lower triangular.
    """

    mean: Array
    scale: Array

    __repr__ = summary

    def spread(self, a: Array) -> Array:
        """|S^T a|^2 for features (M, n): (n, D)."""
        if self.scale.ndim == 2:
            return jnp.einsum("mn,md->nd", a**2, self.scale**2, precision="highest")
        moved = jnp.einsum("mn,dmk->nkd", a, jnp.tril(self.scale), precision="highest")
        return jnp.sum(moved**2, axis=1)

    def draw(self, noise: Array) -> Array:
        """mean + S noise, (M, D)."""
        if self.scale.ndim == 2:
            return self.mean + self.scale * noise
        return self.mean + jnp.einsum("dmk,kd->md", jnp.tril(self.scale), noise, precision="highest")

    def log_det(self) -> Array:
        """log |det S| of all values together."""
        diagonals = self.scale if self.scale.ndim == 2 else jnp.diagonal(self.scale, axis1=1, axis2=2)
        return jnp.sum(jnp.log(jnp.abs(diagonals)))

    def kl(self) -> Array:
        """KL to N(0, I), a number."""
        scale = self.scale if self.scale.ndim == 2 else jnp.tril(self.scale)
        squares = jnp.sum(self.mean**2) + jnp.sum(scale**2)
        return 0.5 * (squares - math.prod(self.mean.shape)) - self.log_det()
