"""Finite data, exactly: what a diffusion model is that has learnt its n training points and nothing else.

The empirical law sum_i w_i delta(x_i) becomes, under x_t = alpha x_0 + sigma eps, a mixture of n Gaussians of one
width:

    p_t(x)          = sum_i w_i N(x; alpha x_i, sigma^2 I)
    w_i(x, t)       = w_i exp(-|x - alpha x_i|^2 / (2 sigma^2)) / sum_j ...       P(x_0 = x_i | x_t = x)
    E[x_0 | x_t=x]  = sum_i w_i(x, t) x_i,        grad log p_t(x) = (alpha E[x_0 | x_t = x] - x) / sigma^2

The exact reverse SDE from x at time t ends at x_i with probability w_i(x, t), and the probability flow ends at one of
the points: an exact score returns the data and nothing new ("Generative diffusion models from a PDE perspective", Cao,
Johnston, Laurent, Le & Motsch 2025, arXiv 2501.17054).

Sums over the points are taken block by block: for n points in d dimensions and a batch of B states no array of n B d
numbers is ever held. The mean of the points is subtracted first, and what is squared are differences, so that data far
from 0 lose no more digits than their own rounding. Exponents are taken relative to the nearest point: at sigma = 0 the
denoiser is that point, and gradients are finite.

Two times of "Dynamical regimes of diffusion models" (Biroli, Bonnaire, de Bortoli & Mezard 2024, arXiv 2402.18491). On
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

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial

from bridgejax._checks import as_real, check_count, check_finite, check_nonnegative
from bridgejax._numerics import TINY, as_wide, dtype_of, gaussian_log_density, normal_like
from bridgejax._summary import summary
from bridgejax._types import Args, Field, Numbers, Time
from bridgejax.oracles.gaussian import _covariance
from bridgejax.processes._keys import check_one_key, streams
from bridgejax.processes._schedule import Schedule, check_schedule
from bridgejax.processes.mixtures import GaussianMixture
from bridgejax.solve.grids import _end_of, _noising_times

_FAR = 800.0  # exp(-800) = 0 in float64
_NONE = -1e30  # log of a weight that is none, finite in float32
_BLOCK = 2**15  # numbers of the points looked at together


# the law ----------------------------------------------------------------------------------------------------------


@partial(jax.tree_util.register_dataclass, data_fields=("points", "log_weights", "centre"), meta_fields=("block",))
@dataclass(frozen=True)
class EmpiricalLaw:
    """sum_i w_i delta(x_i), and its exact diffusion; made by ``empirical_law``.

    Every method is for one state ``x`` of the points' shape; ``vmap`` over many.

    Args:
        points: (n, *shape).
        log_weights: (n,), normalised.
        centre: the mean of the points, of ``shape``.
        block: how many points are looked at together (static).
    """

    points: Array
    log_weights: Array
    centre: Array
    block: int

    __repr__ = summary

    def mean(self) -> Array:
        """E[x_0], of ``shape``."""
        return self.centre

    def denoise(self, schedule: Schedule, t: Time, x: Array, args: Args = None) -> Array:
        """E[x_0 | x_t = x], shaped like x; at t = 0 the nearest point."""
        return (self.centre + _pass(self, *_at(self, schedule, t, x))[1]).astype(dtype_of(x))

    def score(self, schedule: Schedule, t: Time, x: Array, args: Args = None) -> Array:
        """grad log p_t(x), shaped like x; 0 at sigma = 0, where there is none."""
        alpha, variance, offset = _at(self, schedule, t, x)
        pull = alpha * _pass(self, alpha, variance, offset)[1] - offset
        positive = variance > TINY
        return jnp.where(positive, pull / jnp.where(positive, variance, 1.0), 0.0).astype(dtype_of(x))

    def log_prob(self, schedule: Schedule, t: Time, x: Array, args: Args = None) -> Array:
        """log p_t(x), a number; nan at sigma = 0, where there is no density."""
        return _pass(self, *_at(self, schedule, t, x))[0]

    def weights(self, schedule: Schedule, t: Time, x: Array, args: Args = None) -> Array:
        """P(x_0 = x_i | x_t = x) for every i, (n,): where the reverse SDE from x at t lands."""
        alpha, variance, offset = _at(self, schedule, t, x)

        def squared(point: Array) -> Array:
            return jnp.sum((offset - alpha * (point - self.centre)) ** 2)

        distances = jax.lax.map(squared, self.points, batch_size=self.block)
        least = jax.lax.stop_gradient(jnp.min(distances))
        return jax.nn.softmax(self.log_weights + _penalty(distances - least, variance))

    def denoiser(self, schedule: Schedule) -> Field:
        """``denoiser(t, x, args)`` of this law for ``reverse``, ``probability_flow`` and whatever takes a Field."""
        check_schedule(schedule)
        return Partial(_denoise, self, schedule)


def _denoise(law: EmpiricalLaw, schedule: Schedule, t: Array, x: Array, args: Args = None) -> Array:
    return law.denoise(schedule, t, x)


def empirical_law(points: Numbers, weights: Numbers | None = None, *, block: int | None = None) -> EmpiricalLaw:
    """The empirical law of a data set, and with it the exact denoiser, score and landing probabilities.

    Time n d for each state; memory as in the module's text, so that n is bounded by the data themselves.

    Args:
        points: (n, *shape), of any shape.
        weights: (n,), positive, made to sum to 1; default equal.
        block: how many points are looked at together; default about 32,000 numbers.

    Raises:
        ValueError: no points, numbers that are not finite, or weights that are not n positive numbers.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> law, vp = bj.oracles.empirical_law([[-1.0], [1.0], [2.0]]), bj.schedules.vp()
        >>> print(law.weights(vp, 0.3, jnp.array([0.9])).round(2))       # where the way back from 0.9 at t = 0.3 ends
        [0.07 0.47 0.45]
        >>> back = bj.reverse(vp, denoiser=law.denoiser(vp))
        >>> x = bj.simulate(back, jax.random.key(0), jnp.array([0.9]), bj.grids.log_snr(50, vp))
        >>> float(x[0].round(4)) in (-1.0, 1.0, 2.0)
        True
    """
    points = as_wide(as_real(points, "points"))
    check_finite(points=points)
    if points.ndim < 1 or points.shape[0] == 0:
        raise ValueError(f"points must have shape (n, *shape) with n >= 1, got {points.shape}")
    count = points.shape[0]
    weights = jnp.ones(count, points.dtype) if weights is None else as_real(weights, "weights").astype(points.dtype)
    if weights.shape != (count,):
        raise ValueError(f"weights must have shape ({count},), one per point, got {weights.shape}")
    if not isinstance(weights, Tracer) and not np.all((np.asarray(weights) > 0) & np.isfinite(weights)):
        raise ValueError("weights must be positive and finite; leave a point out instead of giving it none")
    log_weights = jnp.log(weights) - jnp.log(jnp.sum(weights))
    # in two steps: what the first sum rounds away far from 0 is found in the second
    near = points - jnp.mean(points, axis=0)
    centre = jnp.mean(points, axis=0) + jnp.tensordot(jnp.exp(log_weights), near, 1, precision="highest")
    size = max(16, _BLOCK // max(1, points[0].size)) if block is None else check_count("block", block)
    return EmpiricalLaw(points, log_weights, centre, min(size, count))


def _at(law: EmpiricalLaw, schedule: Schedule, t: Time, x: Array) -> tuple[Array, Array, Array]:
    """alpha, sigma^2 and x - alpha centre, which is small where the data are far from 0."""
    check_schedule(schedule)
    x = as_wide(as_real(x, "x"))
    if x.shape != law.points.shape[1:]:
        raise ValueError(
            f"x must have the shape of one point, {law.points.shape[1:]}, got {x.shape}; for many use jax.vmap"
        )
    alpha, variance = schedule.alpha(t), schedule.variance(0.0, t)
    return alpha, variance, x - alpha * law.centre


def _penalty(beyond: Array, variance: Array) -> Array:
    """-beyond / (2 variance) for beyond >= 0, also at variance 0 and beyond infinity; finite in value and gradient."""
    positive = variance > TINY
    near = beyond <= 2.0 * _FAR * jnp.where(positive, variance, 0.0)
    sigma = jnp.sqrt(jnp.where(positive, variance, 1.0))  # divided by twice: 1 / variance^2 is beyond float32
    return jnp.where(near, -0.5 * (jnp.where(near, beyond, 0.0) / sigma) / sigma, _NONE)


def _pass(
    law: EmpiricalLaw, alpha: Array, variance: Array, offset: Array, without: Array | int = -1
) -> tuple[Array, Array]:
    """log p_t(x), without the point of that index, and E[x_0 | x_t = x] - centre; one pass over blocks of points.

    ``offset`` is x - alpha centre.

    The running sums are relative to the least squared distance so far and, of what is left, to the largest exponent.
    """
    count, size = law.points.shape[0], law.block
    dtype = jnp.result_type(offset, law.points, alpha, variance)
    alpha, variance = jnp.asarray(alpha, dtype), jnp.asarray(variance, dtype)
    sums = tuple(range(1, law.points.ndim))

    def body(carry: tuple[Array, Array, Array, Array], begin: Array) -> tuple[tuple[Array, Array, Array, Array], None]:
        least, top, total, mean = carry
        start = jnp.minimum(begin, count - size)  # the last block reaches back, and counts what it has seen as nothing
        points = jax.lax.dynamic_slice_in_dim(law.points, start, size) - law.centre
        index = start + jnp.arange(size)
        counted = (index >= begin) & (index != without)
        distances = jnp.where(counted, jnp.sum((offset - alpha * points) ** 2, axis=sums), jnp.inf)
        nearest = jax.lax.stop_gradient(jnp.minimum(least, jnp.min(distances)))
        logs = jax.lax.dynamic_slice_in_dim(law.log_weights, start, size) + _penalty(distances - nearest, variance)
        logs = jnp.where(counted, logs, -jnp.inf)
        before = top + _penalty(least - nearest, variance)
        highest = jax.lax.stop_gradient(jnp.maximum(before, jnp.max(logs)))
        kept, weights = jnp.exp(before - highest), jnp.exp(logs - highest)
        total = kept * total + jnp.sum(weights)
        mean = kept * mean + jnp.tensordot(weights, points, 1, precision="highest")
        return (nearest, highest, total, mean), None

    number = partial(jnp.asarray, dtype=dtype)
    first = (number(jnp.inf), number(_NONE), number(0.0), jnp.zeros(law.points.shape[1:], dtype))
    begins = jnp.arange(0, count, size)
    (least, top, total, mean), _ = jax.lax.scan(jax.checkpoint(body), first, begins)
    positive = variance > TINY
    sigma = jnp.sqrt(jnp.where(positive, variance, 1.0))
    nearest = gaussian_log_density(least / sigma / sigma, 2.0 * offset.size * jnp.log(sigma), offset.size)
    log_mean = jnp.log(total) + top + nearest
    return jnp.where(positive, log_mean, jnp.nan), mean / total


# two times --------------------------------------------------------------------------------------------------------


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
