"""Posteriors as targets: densities that come with data, and a constant that only long runs know.

    seeds                 tau ~ Gamma(0.01, rate 0.01),  a ~ N(0, 10^2 I_4),  b_i ~ N(0, 1/tau),
                          r_i ~ Binomial(n_i, logit^-1(a_0 + a_1 s_i + a_2 e_i + a_3 s_i e_i + b_i)),   i = 1 ... 21
                          x = (log tau, a, b), 26 numbers; s the variety, e the root extract. Germination of Orobanche
                          seeds, Crowder 1978 (the example of the BUGS manual).
    logistic_regression   w ~ N(0, I),  y_i ~ Bernoulli(logit^-1(w_0 + w . standardised features_i))

log Z is the log marginal likelihood, every constant kept. For seeds it is the mean of long tempered SMC runs, -73.42
with a standard error of 0.07; it is no exact number.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import gammaln
from jax.tree_util import Partial

from bridgejax.oracles.target import Target
from bridgejax.processes.checks import as_real

_GERMINATED = (10, 23, 23, 26, 17, 5, 53, 55, 32, 46, 10, 8, 10, 8, 23, 0, 3, 22, 15, 32, 3)
_SOWN = (39, 62, 81, 51, 39, 6, 74, 72, 51, 79, 13, 16, 30, 28, 45, 4, 12, 41, 30, 51, 7)
_VARIETY = (0,) * 11 + (1,) * 10
_EXTRACT = (0,) * 5 + (1,) * 6 + (0,) * 5 + (1,) * 5


def _log_normal(x: Array, sd: Any) -> Array:
    return jnp.sum(-0.5 * (x / sd) ** 2 - jnp.log(sd) - 0.5 * jnp.log(2.0 * jnp.pi))


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
    r, n, s, e = (jnp.asarray(np.array(v, np.float32)) for v in (_GERMINATED, _SOWN, _VARIETY, _EXTRACT))
    design = jnp.stack([jnp.ones_like(s), s, e, s * e], axis=1)
    return Target(Partial(_seeds_log_density, r, n, design), 26, -73.42)


def _logistic_log_density(features: Array, signs: Array, x: Array) -> Array:
    return _log_normal(x, 1.0) + jnp.sum(jax.nn.log_sigmoid(signs * (x[0] + features @ x[1:])))


def logistic_regression(features: Any, labels: Any) -> Target:
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
    signs = jnp.asarray(2.0 * given - 1.0, jnp.float32)
    return Target(Partial(_logistic_log_density, jnp.asarray(scaled, jnp.float32), signs), table.shape[1] + 1)
