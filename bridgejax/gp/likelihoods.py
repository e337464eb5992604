"""What is observed of the values f of a Gaussian process: y ~ p(y | f), f ~ N(m, v) at each row.

    gaussian     N(y; f, s^2)                              one target or several, s for each
    student_t    t_nu(y; f, s)                             nu = 4 at the start
    bernoulli    y in {0, 1}, P(1) = logistic(f)
    softmax      y in 0..C-1, P(y) = softmax(f)_y          C values of f

    expected(params, y, m, v, noise)      E log p(y | f)            of an ELBO
    predictive(params, y, m, v, noise)    log E p(y | f)            of a held-out row
    cdf(params, y, m, v)                  E P(Y <= y | f)           of its quantiles; numbers only

In closed form where there is one (gaussian), by 20 points of Gauss-Hermite quadrature (student_t, bernoulli), and by
the draw f = m + sqrt(v) noise for softmax, without bias in the first and of one draw in the second.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import betainc, gammaln, logsumexp
from jax.scipy.stats import norm

from bridgejax._checks import check_count, check_number, check_positive
from bridgejax._numerics import normal_log_prob
from bridgejax._summary import summary
from bridgejax._types import Params

__all__ = ["Likelihood", "bernoulli", "gaussian", "softmax", "student_t"]


def __dir__() -> list[str]:
    return __all__


_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(20)
_LOG_WEIGHTS = np.log(_WEIGHTS / _WEIGHTS.sum())
Averaged = Callable[[Params, Array, Array, Array, Array], Array]


class Likelihood(NamedTuple):
    """A likelihood of one row, as ``gaussian``, ``student_t``, ``bernoulli`` and ``softmax`` make it.

    Attributes:
        expected: ``expected(params, y, mean, variance, noise)``, E log p(y | f), a number.
        predictive: the same for log E p(y | f).
        draw: ``draw(params, key, f)``, a y.
        outputs: how many values f has; None: as many as the target has numbers.
        params: what is trained.
        labels: whether y is a class, a whole number from 0.
        noise: ``noise(params)``, the variance of y given f, which adds to that of f; None of classes.
        cdf: ``cdf(params, y, mean, variance)``, E P(Y <= y | f) of every target; None of classes.
    """

    expected: Averaged
    predictive: Averaged
    draw: Callable[[Params, Array, Array], Array]
    outputs: int | None
    params: Params
    labels: bool = False
    noise: Callable[[Params], Array] | None = None
    cdf: Callable[[Params, Array, Array, Array], Array] | None = None

    __repr__ = summary


def _log_scale(noise: float) -> Params:
    check_number(noise=noise)
    check_positive(noise=noise)
    return {"log_scale": jnp.asarray(np.log(noise), jnp.result_type(float))}


def _gaussian_noise(params: Params) -> Array:
    return jnp.exp(2.0 * params["log_scale"])


def _gaussian_cdf(params: Params, y: Array, mean: Array, variance: Array) -> Array:
    return norm.cdf(y, mean, jnp.sqrt(variance + _gaussian_noise(params)))


def _gaussian_expected(params: Params, y: Array, mean: Array, variance: Array, noise: Array) -> Array:
    square = _gaussian_noise(params)
    return jnp.sum(normal_log_prob(y, mean, square) - 0.5 * variance / square)


def _gaussian_predictive(params: Params, y: Array, mean: Array, variance: Array, noise: Array) -> Array:
    return jnp.sum(normal_log_prob(y, mean, variance + _gaussian_noise(params)))


def _gaussian_draw(params: Params, key: Array, f: Array) -> Array:
    return f + jnp.exp(params["log_scale"]) * jax.random.normal(key, f.shape, f.dtype)


def gaussian(noise: float = 0.3) -> Likelihood:
    """y ~ N(f, s^2), one s for all targets.

    Args:
        noise: s at the start, in units of the targets.

    Raises:
        ValueError: not a positive number.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> one = bj.gp.gaussian(noise=1.0)
        >>> y, mean, variance = jnp.zeros(1), jnp.zeros(1), jnp.zeros(1)
        >>> print(round(float(one.expected(one.params, y, mean, variance, None)), 4))       # -log(2 pi) / 2
        -0.9189
    """
    laws = _gaussian_expected, _gaussian_predictive, _gaussian_draw
    return Likelihood(*laws, None, _log_scale(noise), noise=_gaussian_noise, cdf=_gaussian_cdf)


def _at_nodes(log_prob: Callable[..., Array], params: Params, y: Array, mean: Array, variance: Array) -> Array:
    """log p(y | f) at the nodes, (20, outputs)."""
    f = mean + jnp.sqrt(variance) * jnp.asarray(_NODES, mean.dtype)[:, None]
    return log_prob(params, y, f)


def _quadrature_expected(
    log_prob: Callable[..., Array], params: Params, y: Array, mean: Array, variance: Array, noise: Array
) -> Array:
    weights = jnp.asarray(_WEIGHTS / _WEIGHTS.sum(), mean.dtype)
    return jnp.sum(weights @ _at_nodes(log_prob, params, y, mean, variance))


def _quadrature_predictive(
    log_prob: Callable[..., Array], params: Params, y: Array, mean: Array, variance: Array, noise: Array
) -> Array:
    logs = _at_nodes(log_prob, params, y, mean, variance)
    return jnp.sum(logsumexp(logs + jnp.asarray(_LOG_WEIGHTS, mean.dtype)[:, None], axis=0))


def _by_quadrature(log_prob: Callable[..., Array]) -> tuple[Averaged, Averaged]:
    return partial(_quadrature_expected, log_prob), partial(_quadrature_predictive, log_prob)


def _bernoulli_log_prob(params: Params, y: Array, f: Array) -> Array:
    return -jax.nn.softplus(jnp.where(y > 0.5, -f, f))


_BERNOULLI = _by_quadrature(_bernoulli_log_prob)


def _bernoulli_draw(params: Params, key: Array, f: Array) -> Array:
    return jax.random.bernoulli(key, jax.nn.sigmoid(f)).astype(f.dtype)


def bernoulli() -> Likelihood:
    """y in {0, 1} with P(y = 1 | f) = 1 / (1 + exp(-f)).

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> coin = bj.gp.bernoulli()
        >>> print(round(float(coin.predictive(coin.params, jnp.ones(1), jnp.zeros(1), jnp.ones(1), None)), 4))
        -0.6931
    """
    return Likelihood(*_BERNOULLI, _bernoulli_draw, None, {})


def _student_log_prob(params: Params, y: Array, f: Array) -> Array:
    nu, scale = jnp.exp(params["log_freedom"]), jnp.exp(params["log_scale"])
    constant = gammaln(0.5 * (nu + 1.0)) - gammaln(0.5 * nu) - 0.5 * jnp.log(nu * jnp.pi) - params["log_scale"]
    return constant - 0.5 * (nu + 1.0) * jnp.log1p(((y - f) / scale) ** 2 / nu)


_STUDENT = _by_quadrature(_student_log_prob)


def _student_noise(params: Params) -> Array:
    """s^2 nu / (nu - 2); infinite where nu is at most 2."""
    nu, square = jnp.exp(params["log_freedom"]), jnp.exp(2.0 * params["log_scale"])
    return jnp.where(nu > 2.0, square * nu / jnp.where(nu > 2.0, nu - 2.0, 1.0), jnp.inf)


def _student_cdf(params: Params, y: Array, mean: Array, variance: Array) -> Array:
    """Half the incomplete beta function I(nu / (nu + r^2); nu / 2, 1 / 2) below f, 1 less it above."""
    nu, scale = jnp.exp(params["log_freedom"]), jnp.exp(params["log_scale"])
    nodes = jnp.asarray(_NODES, mean.dtype).reshape(-1, *(1,) * jnp.ndim(mean))
    weights = jnp.asarray(_WEIGHTS / _WEIGHTS.sum(), mean.dtype)
    r = (y - mean - jnp.sqrt(variance) * nodes) / scale
    half = 0.5 * betainc(0.5 * nu, jnp.asarray(0.5, mean.dtype), nu / (nu + r**2))
    return jnp.tensordot(weights, jnp.where(r < 0, half, 1.0 - half), axes=1)


def _student_draw(params: Params, key: Array, f: Array) -> Array:
    return f + jnp.exp(params["log_scale"]) * jax.random.t(key, jnp.exp(params["log_freedom"]), f.shape, f.dtype)


def student_t(noise: float = 0.3, freedom: float = 4.0) -> Likelihood:
    """y ~ f + s t_nu: for targets with outliers.

    Args:
        noise: s at the start.
        freedom: nu at the start.

    Raises:
        ValueError: not positive numbers.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> heavy = bj.gp.student_t(noise=1.0, freedom=1.0)
        >>> y, mean, variance = jnp.zeros(1), jnp.zeros(1), jnp.zeros(1)
        >>> print(round(float(heavy.expected(heavy.params, y, mean, variance, None)), 4))        # -log(pi)
        -1.1447
    """
    check_number(freedom=freedom)
    check_positive(freedom=freedom)
    params = {**_log_scale(noise), "log_freedom": jnp.asarray(np.log(freedom), jnp.result_type(float))}
    return Likelihood(*_STUDENT, _student_draw, None, params, noise=_student_noise, cdf=_student_cdf)


def _softmax_drawn(params: Params, y: Array, mean: Array, variance: Array, noise: Array) -> Array:
    f = mean + jnp.sqrt(variance) * noise
    return jax.nn.log_softmax(f)[jnp.reshape(y, ()).astype(jnp.int32)]


def _softmax_draw(params: Params, key: Array, f: Array) -> Array:
    return jax.random.categorical(key, f)


def softmax(classes: int) -> Likelihood:
    """Classes y in 0..classes - 1 with P(y | f) = exp(f_y) / sum_c exp(f_c).

    Args:
        classes: how many, >= 2.

    Raises:
        ValueError: fewer than two.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> three = bj.gp.softmax(3)
        >>> print(round(float(three.expected(three.params, jnp.array(2), jnp.zeros(3), jnp.zeros(3), jnp.zeros(3))), 4))
        -1.0986
    """
    classes = check_count("classes", classes, 2)
    return Likelihood(_softmax_drawn, _softmax_drawn, _softmax_draw, classes, {}, True)
