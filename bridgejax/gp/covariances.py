"""Covariance functions of Gaussian processes, as pure functions of two points.

    rbf         v exp(-r^2 / 2)
    matern32    v (1 + sqrt(3) r) exp(-sqrt(3) r)
    matern52    v (1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r)          r^2 = sum_k (x_k - y_k)^2 / l_k^2

A covariance is a pair ``(apply, params)``, as a network is: ``apply(params, x, y)`` is the number k(x, y) for two
points of shape (d,). So any function is one, those of other packages too; lengths and variances are kept as logarithms.
(Rasmussen & Williams 2006, Gaussian Processes for Machine Learning, chapter 4.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._checks import as_real, check_positive, describe
from bridgejax._numerics import as_wide, safe_sqrt
from bridgejax._summary import summary
from bridgejax._types import Numbers, Params

__all__ = ["Covariance", "add", "gram", "matern32", "matern52", "multiply", "rbf"]


def __dir__() -> list[str]:
    return __all__


CovarianceFn = Callable[[Params, Array, Array], Array]
"""``apply(params, x, y)``, the number k(x, y) for two points of shape (d,)."""


class Covariance(NamedTuple):
    """A covariance function.

    Attributes:
        apply: ``apply(params, x, y) -> number``, symmetric in the points and positive definite.
        params: what is trained, a pytree of arrays.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> linear = bj.gp.Covariance(lambda params, x, y: params["slope"] ** 2 * x @ y, {"slope": jnp.ones(())})
        >>> print(bj.gp.gram(linear, jnp.array([[1.0], [2.0]])))
        [[1. 2.]
         [2. 4.]]
    """

    apply: CovarianceFn
    params: Params

    __repr__ = summary


def check_covariance(covariance: object, name: str = "covariance") -> Covariance:
    """The pair as a ``Covariance``, or a ``ValueError``."""
    if not (isinstance(covariance, tuple) and len(covariance) == 2 and callable(covariance[0])):
        raise ValueError(
            f"{name} must be a pair (apply, params) with apply(params, x, y) for two points, as gp.rbf() makes it, got "
            f"{describe(covariance)}"
        )
    return Covariance(*covariance)


def _squared(params: Params, x: Array, y: Array) -> Array:
    return jnp.sum(((x - y) * jnp.exp(-params["log_length"])) ** 2)


def _rbf(params: Params, x: Array, y: Array) -> Array:
    return jnp.exp(params["log_variance"] - 0.5 * _squared(params, x, y))


def _matern32(params: Params, x: Array, y: Array) -> Array:
    r = safe_sqrt(3.0 * _squared(params, x, y))
    return (1.0 + r) * jnp.exp(params["log_variance"] - r)


def _matern52(params: Params, x: Array, y: Array) -> Array:
    squared = 5.0 * _squared(params, x, y)
    r = safe_sqrt(squared)
    return (1.0 + r + squared / 3.0) * jnp.exp(params["log_variance"] - r)


def _stationary(apply: CovarianceFn, length: Numbers, variance: Numbers) -> Covariance:
    length, variance = as_real(length, "length"), as_real(variance, "variance")
    check_positive(length=length, variance=variance)
    if length.ndim > 1 or variance.ndim > 0:
        raise ValueError(
            f"length must be a number or one for each of d coordinates, and variance a number, got shapes "
            f"{length.shape} and {variance.shape}"
        )
    wide = jnp.result_type(float)
    logs = {"log_length": np.log(np.asarray(length)), "log_variance": np.log(np.asarray(variance))}
    return Covariance(apply, {name: jnp.asarray(value, wide) for name, value in logs.items()})


def rbf(length: Numbers = 1.0, variance: Numbers = 1.0) -> Covariance:
    """v exp(-r^2 / 2), r^2 = sum_k (x_k - y_k)^2 / l_k^2: smooth functions; the default.

    Args:
        length: l, a number or ``[d]``, one for every coordinate (automatic relevance determination).
        variance: v.

    Raises:
        ValueError: lengths or a variance that are not positive, or of another shape.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> k = bj.gp.rbf(length=2.0)
        >>> print(round(float(k.apply(k.params, jnp.zeros(1), jnp.array([2.0]))), 4))          # exp(-1 / 2)
        0.6065
    """
    return _stationary(_rbf, length, variance)


def matern32(length: Numbers = 1.0, variance: Numbers = 1.0) -> Covariance:
    """v (1 + sqrt(3) r) exp(-sqrt(3) r): functions with one derivative.

    Args:
        length: l, a number or ``[d]``.
        variance: v.

    Raises:
        ValueError: lengths or a variance that are not positive, or of another shape.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> k = bj.gp.matern32()
        >>> print(round(float(k.apply(k.params, jnp.zeros(1), jnp.ones(1))), 4))               # (1 + 3^.5) exp(-3^.5)
        0.4834
    """
    return _stationary(_matern32, length, variance)


def matern52(length: Numbers = 1.0, variance: Numbers = 1.0) -> Covariance:
    """v (1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r): functions with two derivatives.

    Args:
        length: l, a number or ``[d]``.
        variance: v.

    Raises:
        ValueError: lengths or a variance that are not positive, or of another shape.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> k = bj.gp.matern52()
        >>> print(round(float(k.apply(k.params, jnp.zeros(1), jnp.ones(1))), 4))
        0.524
    """
    return _stationary(_matern52, length, variance)


def _sum(parts: tuple[CovarianceFn, ...], params: Params, x: Array, y: Array) -> Array:
    return sum((apply(p, x, y) for apply, p in zip(parts, params, strict=True)), jnp.zeros((), x.dtype))


def _product(parts: tuple[CovarianceFn, ...], params: Params, x: Array, y: Array) -> Array:
    value = jnp.ones((), x.dtype)
    for apply, p in zip(parts, params, strict=True):
        value = value * apply(p, x, y)
    return value


def _combined(join: Callable[..., Array], covariances: tuple[Covariance, ...], name: str) -> Covariance:
    if not covariances:
        raise ValueError(f"{name} needs at least one covariance, got none")
    checked = [check_covariance(c, f"covariance {i}") for i, c in enumerate(covariances)]
    return Covariance(partial(join, tuple(c.apply for c in checked)), [c.params for c in checked])


def add(*covariances: Covariance) -> Covariance:
    """k_1 + k_2 + ...: the covariance of a sum of independent functions.

    Raises:
        ValueError: none, or one that is no pair.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> k = bj.gp.add(bj.gp.rbf(), bj.gp.rbf(variance=2.0))
        >>> print(k.apply(k.params, jnp.zeros(1), jnp.zeros(1)))
        3.0
    """
    return _combined(_sum, covariances, "add")


def multiply(*covariances: Covariance) -> Covariance:
    """k_1 k_2 ...: the covariance of a product of independent functions of mean 0.

    Raises:
        ValueError: none, or one that is no pair.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> k = bj.gp.multiply(bj.gp.rbf(variance=3.0), bj.gp.matern32(variance=2.0))
        >>> print(round(float(k.apply(k.params, jnp.zeros(1), jnp.zeros(1))), 4))
        6.0
    """
    return _combined(_product, covariances, "multiply")


def gram(covariance: Covariance, x: Numbers, y: Numbers | None = None) -> Array:
    """k(x_i, y_j), ``[n, m]``, of points ``x`` ``[n, d]`` and ``y`` ``[m, d]`` (default x).

    Raises:
        ValueError: no covariance, or points that are not ``[n, d]``.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> bj.gp.gram(bj.gp.rbf(), jnp.zeros((3, 2)), jnp.zeros((5, 2))).shape
        (3, 5)
    """
    covariance = check_covariance(covariance)
    x = _points(x, "x")
    y = x if y is None else _points(y, "y")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"y must have points of {x.shape[1]} coordinates as x has, got shape {y.shape}")
    return pairwise(covariance.apply, covariance.params, x, y)


def _points(value: Numbers, name: str) -> Array:
    points = as_wide(as_real(value, name))
    if points.ndim != 2:
        raise ValueError(f"{name} must hold points as rows, shape (n, d), got shape {points.shape}")
    return points


def pairwise(apply: CovarianceFn, params: Params, x: Array, y: Array) -> Array:
    """k(x_i, y_j), (n, m), unchecked."""
    return jax.vmap(lambda a: jax.vmap(lambda b: apply(params, a, b))(y))(x)


def diagonal(apply: CovarianceFn, params: Params, x: Array) -> Array:
    """k(x_i, x_i), (n,)."""
    return jax.vmap(lambda a: apply(params, a, a))(x)
