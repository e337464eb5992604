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
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import as_real, check_count, check_finite
from bridgejax._numerics import NONE, TINY, as_wide, dtype_of, gaussian_log_density, penalty
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Args, Field, Numbers, Time
from bridgejax.processes._schedule import Schedule, check_schedule
from bridgejax.processes.mixtures import normalised_log_weights

_BLOCK = 2**15  # numbers of the points looked at together


@partial(register_dataclass, data_fields=("points", "log_weights", "centre"), meta_fields=("block",))
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
        return jax.nn.softmax(self.log_weights + penalty(distances - least, variance))

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
    log_weights = normalised_log_weights(weights, points, "point", "point")
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
        logs = jax.lax.dynamic_slice_in_dim(law.log_weights, start, size) + penalty(distances - nearest, variance)
        logs = jnp.where(counted, logs, -jnp.inf)
        before = top + penalty(least - nearest, variance)
        highest = jax.lax.stop_gradient(jnp.maximum(before, jnp.max(logs)))
        kept, weights = jnp.exp(before - highest), jnp.exp(logs - highest)
        total = kept * total + jnp.sum(weights)
        mean = kept * mean + jnp.tensordot(weights, points, 1, precision="highest")
        return (nearest, highest, total, mean), None

    number = partial(jnp.asarray, dtype=dtype)
    first = (number(jnp.inf), number(NONE), number(0.0), jnp.zeros(law.points.shape[1:], dtype))
    begins = jnp.arange(0, count, size)
    (least, top, total, mean), _ = jax.lax.scan(jax.checkpoint(body), first, begins)
    positive = variance > TINY
    sigma = jnp.sqrt(jnp.where(positive, variance, 1.0))
    nearest = gaussian_log_density(least / sigma / sigma, 2.0 * offset.size * jnp.log(sigma), offset.size)
    log_mean = jnp.log(total) + top + nearest
    return jnp.where(positive, log_mean, jnp.nan), mean / total
