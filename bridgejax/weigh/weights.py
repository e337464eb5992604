"""What log weights w_i = log(target / proposal) say, each with its standard error where it has one.

log_z    log mean exp w                  E[exp w] = Z exactly; the log is biased by about -var/(2n)
elbo     mean w over proposal draws      <= log Z
eubo     mean w over target draws        >= log Z
ess      (sum exp w)^2 / (n sum exp 2w)  in (0, 1]: the share of independent draws they are worth
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from bridgejax._checks import as_real, check_number
from bridgejax._types import Numbers, Scalar
from bridgejax.processes._keys import check_one_key, stream

__all__ = ["elbo", "ess", "eubo", "flattened", "log_z", "log_z_error", "systematic"]


def __dir__() -> list[str]:
    return __all__


def _check(log_weights: Numbers) -> Array:
    log_weights = as_real(log_weights, "log_weights")
    if log_weights.ndim != 1 or log_weights.shape[0] == 0:
        raise ValueError(f"log_weights must have shape (n,), n >= 1, got {log_weights.shape}")
    if not isinstance(log_weights, Tracer):
        host = np.asarray(log_weights)
        if np.any(np.isnan(host) | (host == np.inf)):
            raise ValueError("log_weights holds nan or +inf: a path without a density, or a target that overflows")
    return log_weights


def log_z(log_weights: Array) -> Array:
    """log of the mean weight: the normalising constant of the target.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> w = jnp.log(jnp.array([1.0, 2.0, 3.0, 2.0]))
        >>> print(round(float(jnp.exp(bj.weights.log_z(w))), 4))                      # the mean weight
        2.0
    """
    log_weights = _check(log_weights)
    return jax.nn.logsumexp(log_weights) - jnp.log(log_weights.shape[0])


def log_z_error(log_weights: Array) -> Array:
    """Standard error of ``log_z`` to first order: sd(exp w) / (mean(exp w) sqrt(n)).

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> w = jnp.log(jnp.array([1.0, 2.0, 3.0, 2.0]))
        >>> print(round(float(bj.weights.log_z_error(w)), 4))
        0.1768
    """
    log_weights = _check(log_weights)
    relative = jnp.exp(log_weights - log_z(log_weights))
    return jnp.std(relative) / jnp.sqrt(log_weights.shape[0])


def elbo(log_weights: Array) -> Array:
    """Mean log weight of draws of the proposal: a lower bound of log Z.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> w = jnp.log(jnp.array([1.0, 2.0, 3.0, 2.0]))
        >>> bool(bj.weights.elbo(w) < bj.weights.log_z(w))
        True
    """
    return jnp.mean(_check(log_weights))


def eubo(log_weights: Array) -> Array:
    """Mean log weight of draws of the target (paths run backwards from exact samples): an upper bound of log Z.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> w = jnp.log(jnp.array([1.0, 2.0, 3.0, 2.0]))
        >>> print(round(float(bj.weights.eubo(w)), 4))                                # if the draws are the target's
        0.6212
    """
    return jnp.mean(_check(log_weights))


def ess(log_weights: Array) -> Array:
    """Effective sample size as a share of n.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> w = jnp.log(jnp.array([1.0, 2.0, 3.0, 2.0]))
        >>> print(round(float(bj.weights.ess(w)), 4))                                 # 8^2 / (4 * 18)
        0.8889
    """
    log_weights = _check(log_weights)
    log_sum, log_squares = jax.nn.logsumexp(log_weights), jax.nn.logsumexp(2.0 * log_weights)
    return jnp.exp(2.0 * log_sum - log_squares) / log_weights.shape[0]


def flattened(log_weights: Array, share: float = 0.5) -> Array:
    """a log_weights for the largest a in [0, 1] that leaves an ESS of at least ``share`` of the weights above zero.

    Weights to resample by where a few of the true ones would be all: what is drawn has some of the target's law and
    all of the proposal's variety. The ESS falls as a grows; 30 halvings find it.

    Args:
        log_weights: (n,); -inf stays.
        share: of those that are finite, in (0, 1).

    Raises:
        ValueError: log weights that are nan or +inf, a share outside (0, 1).

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> w = jnp.array([0.0, 0.0, 0.0, 50.0])                              # one draw is all
        >>> flat = bj.weights.flattened(w, share=0.5)
        >>> print(round(float(bj.weights.ess(flat)), 3))
        0.5
    """
    log_weights = _check(log_weights)
    check_number(share=share)
    if not 0.0 < share < 1.0:
        raise ValueError(f"share must be in (0, 1), got {share!r}")
    seen = jnp.isfinite(log_weights)
    least = share * jnp.mean(seen)

    def power(a: Scalar) -> Array:
        return jnp.where(seen, a * jnp.where(seen, log_weights, 0.0), -jnp.inf)

    def halve(_: object, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        enough = ess(power(middle)) >= least
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    zero = jnp.zeros((), log_weights.dtype)
    low, _ = jax.lax.fori_loop(0, 30, halve, (zero, zero + 1.0))
    return jnp.where(ess(log_weights) >= least, log_weights, power(low))


def systematic(key: Array, log_weights: Array) -> Array:
    """Systematic resampling: indices (n,) in which row i comes floor or ceil of n w_i / sum w times, that on average.

    One uniform number u: the k-th draw is where the cumulative weight passes (u + k)/n (Kitagawa 1996). All rows share
    the key.

    Args:
        key: one key.
        log_weights: (n,), not all -inf; -inf is never drawn.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> w = jnp.log(jnp.array([1.0, 2.0, 0.0, 1.0]))
        >>> bj.weights.systematic(jax.random.key(0), w).tolist()
        [0, 1, 1, 3]
    """
    key, log_weights = check_one_key(key), _check(log_weights)
    n = log_weights.shape[0]
    cumulative = jnp.cumsum(jax.nn.softmax(log_weights))
    points = (
        (jax.random.uniform(stream(key, "resampling")) + jnp.arange(n)) / n * cumulative[-1]
    )  # rounding leaves the sum beside 1
    last = jnp.max(jnp.where(jnp.isfinite(log_weights), jnp.arange(n), 0))
    return jnp.minimum(jnp.searchsorted(cumulative, points, side="right"), last)
