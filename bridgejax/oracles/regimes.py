"""Two times of finite data: when its classes part on the way back from noise, and when its single points do.

From "Dynamical regimes of diffusion models" (Biroli, Bonnaire, de Bortoli & Mezard 2024, arXiv 2402.18491). On
the way back from noise first the classes of the data part (speciation), then each path is caught by a single point
(collapse). Both depend on the schedule through its signal-to-noise ratio u = alpha^2 / sigma^2 only.

    speciation    u Lambda = 1,  Lambda the largest eigenvalue of the covariance of the data. Exact for two points +-m,
                  Lambda = |m|^2: p_t has one mode while u Lambda < 1 and two afterwards. OU: t = log(1 + Lambda) / 2
    collapse      I(x_0; x_t) = log n: the excess entropy I - log n, of p_t over n balls of noise that do not meet, is 0

For a Gaussian law with eigenvalues lambda_k of its covariance

    I = 1/2 sum_k log(1 + lambda_k u),        isotropic in d dimensions: u = (n^(2/d) - 1) / lambda

and no law of this covariance has a larger I, so that its u is this one or more. For n given points, whose law is not
known, p_t is replaced by what the other n - 1 points make of it: with x_t made from x_i,

    E log [ w_i(x_t, t) / (1 - w_i(x_t, t)) ] = 0

where the left side is E[log N(x_t; alpha x_i, sigma^2) - log p_t(x_t)] - log(n - 1), p_t of the others. The log of a
mean over points is below the log of the true density on average (Jensen), so I comes out too large and the
time as well.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from bridgejax._checks import as_real, check_count, check_nonnegative
from bridgejax._numerics import gaussian_log_density, normal_like
from bridgejax._summary import summary
from bridgejax._types import Numbers
from bridgejax.oracles.finite import EmpiricalLaw, _pass
from bridgejax.oracles.gaussian import _covariance
from bridgejax.processes._keys import check_one_key, streams
from bridgejax.processes._schedule import Schedule, check_schedule
from bridgejax.processes.mixtures import GaussianMixture
from bridgejax.solve.grids import _end_of, _noising_times


def _spectrum(covariance: Numbers | EmpiricalLaw, name: str = "covariance") -> np.ndarray:
    """Eigenvalues of the covariance, float64, at least one positive."""
    if isinstance(covariance, EmpiricalLaw):
        if isinstance(covariance.points, Tracer):
            raise ValueError(f"{name} must be concrete: the time is found outside of compiled functions")
        weights = np.exp(np.asarray(covariance.log_weights, np.float64))
        offsets = np.asarray(covariance.points, np.float64) - np.asarray(covariance.centre, np.float64)
        rows = np.sqrt(weights)[:, None] * offsets.reshape(len(weights), -1)
        values = np.linalg.eigvalsh(rows.T @ rows if rows.shape[0] > rows.shape[1] else rows @ rows.T)
    else:
        values = as_real(covariance, "covariance")
        if isinstance(values, Tracer):
            raise ValueError(f"{name} must be concrete: the time is found outside of compiled functions")
        if values.ndim > 2 or values.size == 0:
            raise ValueError(f"covariance must be a number, [d] variances or a [d, d] matrix, got shape {values.shape}")
        if values.ndim == 2:
            values = np.linalg.eigvalsh(np.asarray(_covariance(values, len(values), "covariance"), np.float64))
        else:
            check_nonnegative(covariance=values)
            values = np.atleast_1d(np.asarray(values, np.float64))
    values = np.maximum(values, 0.0)
    if not values.max() > 0:
        raise ValueError(f"{name} must have a positive eigenvalue: what lies in one point is not told apart")
    return values


def _time_of(schedule: Schedule, log_snr: float, what: str) -> float:
    """The time at which log(alpha^2 / sigma^2) has this value."""
    end = _end_of(schedule)
    if not log_snr > end:
        raise ValueError(
            f"schedule ends at log(alpha^2/sigma^2) = {end:.3g} and the {what} is at {log_snr:.3g}, beyond it; "
            "take one with more noise at its end"
        )
    return float(_noising_times(schedule, np.array([log_snr]))[0])


def speciation_time(schedule: Schedule, covariance: Numbers | EmpiricalLaw) -> float:
    """The time at which the noise is as large as the data's first principal component: alpha^2 Lambda = sigma^2.

    On the noising clock: below it the classes along that component are told apart, above it not. For data at two points
    exactly where the one mode of p_t becomes two; where the classes have a width of their own, later on the way back.

    Args:
        schedule: its parameters must be concrete.
        covariance: a number, ``[d]`` variances, a ``[d, d]`` matrix, or an ``EmpiricalLaw``, whose own is taken.

    Raises:
        ValueError: no covariance, one without a positive eigenvalue, or a time beyond the schedule's end.

    Example:
        >>> import bridgejax as bj
        >>> t = bj.oracles.speciation_time(bj.schedules.ou(T=5.0), [15.0, 1.0])      # log(1 + 15) / 2
        >>> round(t, 4)
        1.3863
    """
    check_schedule(schedule)
    return _time_of(schedule, -float(np.log(_spectrum(covariance).max())), "speciation")


def _count_of(law: object, n: int | None) -> int:
    if n is None:
        if not isinstance(law, EmpiricalLaw):
            raise ValueError("n must say how many points there are, got None; only an EmpiricalLaw knows its own")
        n = law.points.shape[0]
    return check_count("n", n, 2)


def collapse_time(schedule: Schedule, covariance: Numbers | EmpiricalLaw, n: int | None = None) -> float:
    """The time at which n points of a Gaussian law are told apart: sum_k log(1 + lambda_k u) / 2 = log n.

    u = alpha^2 / sigma^2. On the noising clock: below it the exact score of n points leads to one of them. For a law
    that is not Gaussian but has this covariance I(x_0; x_t) = log n at this time or below; see
    ``estimate_collapse_time``.

    Args:
        schedule: its parameters must be concrete.
        covariance: ``[d]`` variances, a ``[d, d]`` matrix, a number (d = 1), or an ``EmpiricalLaw``, for its own.
        n: how many points, >= 2; default those of the ``EmpiricalLaw``.

    Raises:
        ValueError: no covariance, one without a positive eigenvalue, n below 2, or a time beyond the schedule's end.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> t = bj.oracles.collapse_time(bj.schedules.ou(T=5.0), jnp.ones(20), n=1000)
        >>> round(t, 4)                                                    # log(1 + 1 / (1000^(1/10) - 1)) / 2
        0.3478
    """
    check_schedule(schedule)
    count = _count_of(covariance, n)
    return _time_of(schedule, _gaussian_log_snr(_spectrum(covariance), count), "collapse")


def _gaussian_log_snr(values: np.ndarray, n: int) -> float:
    """log u with sum_k log(1 + lambda_k u) / 2 = log n, by bisection between all of it in one direction and in all."""
    values = values[values > 1e-12 * values.max()]
    low = np.log(np.expm1(2.0 * np.log(n) / len(values))) - np.log(values.max())
    high = np.log(np.expm1(2.0 * np.log(n))) - np.log(values.max())
    for _ in range(100):
        middle = 0.5 * (low + high)
        if 0.5 * np.sum(np.log1p(values * np.exp(middle))) < np.log(n):
            low = middle
        else:
            high = middle
    return float(0.5 * (low + high))


class CollapseTime(NamedTuple):
    """A collapse time by Monte Carlo.

    Attributes:
        time: on the noising clock.
        error: its standard error, of the draws.
    """

    time: float
    error: float

    __repr__ = summary


def estimate_collapse_time(
    key: Array, schedule: Schedule, law: GaussianMixture | EmpiricalLaw, n: int | None = None, *, draws: int = 1024
) -> CollapseTime:
    """The collapse time by Monte Carlo, of data or of a mixture: where the mean excess entropy of the draws is 0.

    Of a mixture: n points drawn from it; the excess entropy E[log N(x_t; alpha x_0, sigma^2) - log p_t(x_t)] - log n
    has no bias. Of an ``EmpiricalLaw``: these points themselves, by the odds of each against all others,
    E log [w_i(x_t, t) / (1 - w_i(x_t, t))] = 0 for x_t made from x_i, which comes out too large, by about 8 % for
    1,000 standard normal points in 20 dimensions (see the module's text). All times use the same draws.

    Args:
        key: one key.
        schedule: its parameters must be concrete.
        law: a ``GaussianMixture`` or an ``EmpiricalLaw`` of at least two points.
        n: how many points, for a mixture.
        draws: how many pairs of x_0 and noise; the cost is 43 n d draws.

    Raises:
        ValueError: n for data or none for a mixture, one point, points that are copies of each other, or a time beyond
            the schedule's end.

    Example:
        >>> import jax, bridgejax as bj
        >>> ou, law = bj.schedules.ou(T=5.0), bj.mixtures.gaussian_mixture([[0.0] * 20], 1.0)
        >>> found = bj.oracles.estimate_collapse_time(jax.random.key(0), ou, law, n=1000)
        >>> abs(found.time - 0.3478) < 5 * found.error
        True
    """
    key, draws = check_one_key(key), check_count("draws", draws, 2)
    check_schedule(schedule)
    if isinstance(law, EmpiricalLaw):
        if n is not None:
            raise ValueError(f"n must be None for an EmpiricalLaw, which knows how many points it has, got {n}")
        if law.points.shape[0] < 2:
            raise ValueError("law must have at least two points, got one: there is nothing to tell apart")
        log_n, bound = 0.0, _gaussian_log_snr(_spectrum(law, "law"), law.points.shape[0])
    elif isinstance(law, GaussianMixture):
        count = _count_of(law, n)
        values = np.maximum(np.linalg.eigvalsh(np.asarray(law.cov(), np.float64)), 0.0)
        if not values.max() > 0:
            raise ValueError("law must have a positive variance, got a single point")
        log_n, bound = float(np.log(count)), _gaussian_log_snr(values, count)
    else:
        raise ValueError(f"law must be a GaussianMixture or an EmpiricalLaw, got {type(law).__name__}")
    first, second = streams(key, "collapse", 2)
    log_snr, error, left = _crossing(law, first, second, log_n, bound, draws)
    if not float(left) > 0:
        raise ValueError("law holds points that are copies of each other, so that no noise level tells them apart")
    time = _time_of(schedule, float(log_snr), "collapse")
    with jax.ensure_compile_time_eval():
        slope = float(jax.grad(schedule.log_snr)(jnp.asarray(time, jnp.result_type(float))))
    return CollapseTime(time, float(error) / abs(slope))


def _excess(law: GaussianMixture | EmpiricalLaw, log_snr: Array, key: Array, noise_key: Array) -> Array:
    """One draw of log N(x_t; alpha x_0, sigma^2) - log p_t(x_t), alpha^2 = u and sigma = 1; of data less log(n - 1)."""
    alpha = jnp.exp(0.5 * log_snr)
    if isinstance(law, EmpiricalLaw):
        i = jax.random.categorical(key, law.log_weights)
        noise = normal_like(noise_key, law.centre)
        # seen from x_i, x_t is the noise: nothing of the size of alpha x_i is taken from anything
        others = _pass(replace(law, centre=law.points[i]), alpha, jnp.ones_like(alpha), noise, i)[0]
        own = law.log_weights[i] + gaussian_log_density(jnp.sum(noise**2), 0.0, noise.size)
        return own - others
    x0, noise = law.sample(key), normal_like(noise_key, law.means[0])
    noised = replace(law, means=alpha * law.means, variances=alpha**2 * law.variances + 1.0)
    return gaussian_log_density(jnp.sum(noise**2), 0.0, noise.size) - noised.log_prob(alpha * x0 + noise)


@partial(jax.jit, static_argnames="draws")
def _crossing(
    law: GaussianMixture | EmpiricalLaw, first: Array, second: Array, log_n: float, bound: float, draws: int
) -> tuple[Array, Array, Array]:
    """log u where the mean excess is 0, its standard error, and the mean excess at the end of the search."""
    keys = jax.vmap(partial(jax.random.fold_in, first))(jnp.arange(draws))
    noise_keys = jax.vmap(partial(jax.random.fold_in, second))(jnp.arange(draws))

    def excess(log_snr: Array) -> Array:
        return jax.vmap(partial(_excess, law, log_snr))(keys, noise_keys) - log_n

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        below = jnp.mean(excess(middle)) < 0
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    reach = jnp.asarray(bound, jnp.result_type(float))
    low, high = jax.lax.fori_loop(0, 40, halve, (reach - 10.0, reach + 40.0))
    at = 0.5 * (low + high)
    step = 0.05
    slope = jnp.mean(excess(at + step) - excess(at - step)) / (2.0 * step)
    error = jnp.std(excess(at), ddof=1) / jnp.sqrt(draws) / jnp.abs(slope)
    return at, error, jnp.mean(excess(reach + 40.0))
