"""Posteriors as targets: densities that come with data, and a constant that only long runs know.

    seeds                 tau ~ Gamma(0.01, rate 0.01),  a ~ N(0, 10^2 I_4),  b_i ~ N(0, 1/tau),
                          r_i ~ Binomial(n_i, logit^-1(a_0 + a_1 s_i + a_2 e_i + a_3 s_i e_i + b_i)),   i = 1 ... 21
                          x = (log tau, a, b), 26 numbers; s the variety, e the root extract. Germination of Orobanche
                          seeds, Crowder 1978 (the example of the BUGS manual).
    logistic_regression   w ~ N(0, I),  y_i ~ Bernoulli(logit^-1(w_0 + w . standardised features_i))
    brownian              log a, log b ~ N(0, 2^2),  z_1 ~ N(0, a^2),  z_i ~ N(z_{i-1}, a^2),  y_i ~ N(z_i, b^2) for
                          i = 1 ... 10 and 21 ... 30;  x = (log a, log b, z), 32 numbers. Data of the inference gym
                          (Sountsov et al. 2020), drawn there with a = 0.1, b = 0.15.
    log_gaussian_cox      f = m + L w,  w ~ N(0, I),  L L^T = K,  K_ij = v exp(-|c_i - c_j| / l),  c_i the centres of
                          the cells of the unit square; the points fall as a Poisson process of intensity e^f,
                          log likelihood sum_i n_i f_i - A e^{f_i}, A the area of a cell; x = w
                          (Moller, Syversveen & Waagepetersen 1998)

log Z is the log marginal likelihood, every constant kept, but for the Cox process that of the points with respect to a
Poisson process of rate 1, less 1. For seeds it is the mean of long tempered SMC runs, -73.42 with a standard error of
0.07, no exact number; for brownian the path integrates out, and a and b by quadrature: 1.18775.
"""

from __future__ import annotations

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import gammaln
from jax.tree_util import Partial

from bridgejax._checks import as_real, check_number, check_positive
from bridgejax._numerics import gaussian_log_density
from bridgejax._types import Numbers, Scalar
from bridgejax.oracles._target import Target

_GERMINATED = (10, 23, 23, 26, 17, 5, 53, 55, 32, 46, 10, 8, 10, 8, 23, 0, 3, 22, 15, 32, 3)
_SOWN = (39, 62, 81, 51, 39, 6, 74, 72, 51, 79, 13, 16, 30, 28, 45, 4, 12, 41, 30, 51, 7)
_VARIETY = (0,) * 11 + (1,) * 10
_EXTRACT = (0,) * 5 + (1,) * 6 + (0,) * 5 + (1,) * 5


def _log_normal(x: Array, sd: Scalar) -> Array:
    return jnp.sum(gaussian_log_density((x / sd) ** 2, 2.0 * jnp.log(sd)))


def _seeds_log_density(r: Array, n: Array, design: Array, x: Array) -> Array:
    log_tau, a, b = x[0], x[1:5], x[5:]
    shape = rate = 0.01
    # the density of log tau: tau times that of tau
    log_prior = shape * log_tau - rate * jnp.exp(log_tau) + shape * jnp.log(rate) - gammaln(shape)
    log_prior += _log_normal(a, 10.0) + _log_normal(b, jnp.exp(-0.5 * log_tau))
    logits = design @ a + b
    ways = gammaln(n + 1.0) - gammaln(r + 1.0) - gammaln(n - r + 1.0)
    return log_prior + jnp.sum(ways + r * jax.nn.log_sigmoid(logits) + (n - r) * jax.nn.log_sigmoid(-logits))


@lru_cache(maxsize=1)
def seeds() -> Target:
    """The posterior of the seeds data, 26 numbers; log_z = -73.42 +- 0.07 by SMC."""
    r, n, s, e = (np.array(v, np.float64) for v in (_GERMINATED, _SOWN, _VARIETY, _EXTRACT))
    design = np.stack([np.ones_like(s), s, e, s * e], axis=1)
    return Target(Partial(_seeds_log_density, r, n, design), 26, -73.42)


def _logistic_log_density(features: Array, signs: Array, x: Array) -> Array:
    return _log_normal(x, 1.0) + jnp.sum(jax.nn.log_sigmoid(signs * (x[0] + features @ x[1:])))


def logistic_regression(features: Numbers, labels: Numbers) -> Target:
    """The posterior of a Bayesian logistic regression with standard normal weights, the intercept first.

    Args:
        features: (n, k), standardised here; a constant column becomes zero.
        labels: (n,), 0 or 1 (or False and True).

    Returns:
        A Target of dim = k + 1 without log_z.

    Raises:
        ValueError: features that are no finite table, labels that are not as many zeros and ones.
    """
    table, given = np.asarray(as_real(features, "features")), np.asarray(labels)
    if table.ndim != 2 or 0 in table.shape or not np.all(np.isfinite(table)):
        raise ValueError(f"features must be a table (n, k) of finite numbers, got shape {table.shape}")
    if given.shape != table.shape[:1] or not np.all((given == 0) | (given == 1)):
        raise ValueError(f"labels must be {len(table)} zeros and ones, one for each row, got shape {given.shape}")
    spread = table.std(axis=0)
    scaled = (table - table.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return Target(Partial(_logistic_log_density, scaled, 2.0 * given - 1.0), table.shape[1] + 1)


# a random walk of which the middle is not seen ----------------------------------------------------------------------

_WALK = (
    0.21592641, 0.118771404, -0.07945447, 0.037677474, -0.27885845, -0.1484156, -0.3250906, -0.22957903, -0.44110894,
    -0.09830782, -0.8786016, -0.83736074, -0.7384849, -0.8939254, -0.7774566, -0.70238715, -0.87771565, -0.51853573,
    -0.6948214, -0.6202789,
)  # fmt: skip
_SEEN = (*range(10), *range(20, 30))


def _brownian_log_density(y: Array, x: Array) -> Array:
    log_a, log_b, z = x[0], x[1], x[2:]
    steps = jnp.diff(z, prepend=0.0)
    prior = _log_normal(x[:2], 2.0) + _log_normal(steps, jnp.exp(log_a))
    return prior + _log_normal(y - z[np.asarray(_SEEN)], jnp.exp(log_b))


@lru_cache(maxsize=1)
def brownian() -> Target:
    """A Brownian motion of unknown scales with its middle unobserved, 32 numbers; log_z = 1.18775."""
    return Target(Partial(_brownian_log_density, np.asarray(_WALK)), 32, 1.18775)


# points in the unit square -------------------------------------------------------------------------------------------


def _cox_log_density(counts: Array, root: Array, mean: Scalar, x: Array) -> Array:
    f = mean + root @ x
    return _log_normal(x, 1.0) + jnp.sum(counts * f - jnp.exp(f) / counts.size)


def log_gaussian_cox(
    counts: Numbers, *, mean: float | None = None, variance: float = 1.91, length: float = 1 / 33
) -> Target:
    """The posterior of a log-Gaussian Cox process on a square grid, in white coordinates; its intensity is e^(m + L x).

    Args:
        counts: (m, m), points in each cell of the unit square.
        mean: m; None: log of the number of points less variance / 2, which expects as many as there are.
        variance: v.
        length: l, in sides of the square.

    Returns:
        A Target of dim = m^2 without log_z.

    Raises:
        ValueError: counts that are no square table of whole numbers, variance or length not positive, no mean and no
            point.
    """
    table = np.asarray(as_real(counts, "counts"), np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not table.size:
        raise ValueError(f"counts must be a square table (m, m), got shape {table.shape}")
    if not np.all(np.isfinite(table)) or np.any(table < 0) or np.any(table != np.rint(table)):
        raise ValueError("counts must be whole numbers, 0 or more")
    check_number(variance=variance, length=length)
    check_positive(variance=variance, length=length)
    if mean is None and table.sum() == 0:
        raise ValueError("counts hold no point: give the mean of the log intensity")
    mean = float(np.log(table.sum()) - variance / 2) if mean is None else mean
    check_number(mean=mean)
    at = (np.arange(len(table)) + 0.5) / len(table)
    centres = np.stack(np.meshgrid(at, at, indexing="ij"), -1).reshape(-1, 2)
    squares = ((centres[:, None] - centres[None]) ** 2).sum(-1)
    root = np.linalg.cholesky(variance * np.exp(-np.sqrt(squares) / length) + 1e-10 * np.eye(table.size))
    bound = (table.ravel(), root, mean)
    return Target(Partial(_cox_log_density, *bound), table.size)
