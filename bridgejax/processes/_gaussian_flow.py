"""Gaussian data under a schedule: every marginal, the denoiser and the probability flow in closed form.

The probability flow carries every coordinate c of x - alpha mean along an eigenvector of the data's covariance (see
``gaussians``) by the ratio of its standard deviations, and moves from any time s to any time t at once:

    flow       x_t = alpha_t mean + psi (x_s - alpha_s mean),     psi = sqrt(lambda_t / lambda_s)   in each eigenspace
    log det    sum_k log psi_k + (d - k) log psi_rho
    denoiser   E[x_0 | x_t = x] = mean + xi (x - alpha mean),     xi = alpha lambda / lambda_t

It is the most likely thing a network learns first: at high noise any data look Gaussian. (Wang & Vastola 2024, The
unreasonable effectiveness of Gaussian score approximation for diffusion models and its applications, arXiv 2412.09726.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import as_real, check_like
from bridgejax._numerics import as_wide, dtype_of
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Args, Field, Time
from bridgejax.processes._schedule import Schedule, check_schedule, is_concrete
from bridgejax.processes.gaussians import GaussianLaw, _scaled, _summed, check_law


def _check_time(t: Time, schedule: Schedule, name: str) -> None:
    t = as_real(t, name)
    slack = 1e-6 * schedule.T
    if is_concrete(t) and not np.all((np.asarray(t) >= -slack) & (np.asarray(t) <= schedule.T + slack)):
        raise ValueError(f"{name} must be a time of the schedule, in [0, {schedule.T:g}], got {t}")


@partial(register_dataclass, data_fields=("law", "schedule"), meta_fields=())
@dataclass(frozen=True)
class GaussianFlow:
    """The exact probability flow of Gaussian data; made by ``gaussian_flow``. A pytree; times are noising times.

    Args:
        law: the data's, at time 0.
        schedule: how it is noised.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> flow = bj.oracles.gaussian_flow(bj.oracles.gaussian_law(jnp.zeros(1), 1.0), bj.schedules.karras())
        >>> print(flow(3.0, 0.0, jnp.sqrt(jnp.array([10.0]))))                 # its deviation was sqrt(1 + 3^2)
        [1.]
    """

    law: GaussianLaw
    schedule: Schedule

    __repr__ = summary

    def __call__(self, s: Time, t: Time, x: Array) -> Array:
        """The state at time t of the flow that is at ``x`` at time s, before or after t; shaped like x."""
        a, b = self._laws(s, t)
        offset = as_wide(check_like(x, self.law.mean, "x", "the law's mean")) - a.mean
        moved = _scaled(self.law.vectors, jnp.sqrt(b.values / a.values), jnp.sqrt(b.rest / a.rest), offset)
        return (b.mean + moved).astype(dtype_of(x))

    def log_det(self, s: Time, t: Time) -> Array:
        """log |det dx_t/dx_s|, a number: the flow is affine, so it depends on the times alone."""
        a, b = self._laws(s, t)
        return 0.5 * _summed(self.law.vectors, jnp.log(b.values / a.values), jnp.log(b.rest / a.rest))

    @property
    def denoiser(self) -> Field:
        """``denoiser(t, x, args) = E[x_0 | x_t = x]``, for ``reverse`` and ``probability_flow``."""
        return Partial(_denoiser, self)

    @property
    def score(self) -> Field:
        """``score(t, x, args) = grad log p_t(x)``."""
        return Partial(_score, self)

    def _laws(self, s: Time, t: Time) -> tuple[GaussianLaw, GaussianLaw]:
        _check_time(s, self.schedule, "s")
        _check_time(t, self.schedule, "t")
        return self.law.diffuse(self.schedule, s), self.law.diffuse(self.schedule, t)


def _denoiser(flow: GaussianFlow, t: Array, x: Array, args: Args = None) -> Array:
    law, noised, alpha = flow.law, flow.law.diffuse(flow.schedule, t), flow.schedule.alpha(t)
    offset = as_wide(check_like(x, law.mean, "x", "the law's mean")) - noised.mean
    gains = alpha * law.values / noised.values, alpha * law.rest / noised.rest
    return (law.mean + _scaled(law.vectors, *gains, offset)).astype(dtype_of(x))


def _score(flow: GaussianFlow, t: Array, x: Array, args: Args = None) -> Array:
    noised = flow.law.diffuse(flow.schedule, t)
    offset = as_wide(check_like(x, noised.mean, "x", "the law's mean")) - noised.mean
    return -_scaled(noised.vectors, 1.0 / noised.values, 1.0 / noised.rest, offset).astype(dtype_of(x))


def gaussian_flow(law: GaussianLaw, schedule: Schedule) -> GaussianFlow:
    """The exact probability flow of data N(mean, C) under any Schedule, from any time s to any time t at once.

        x_t = alpha_t mean + ((alpha_t^2 C + sigma_t^2 I) (alpha_s^2 C + sigma_s^2 I)^-1)^(1/2) (x_s - alpha_s mean)

    One product with the eigenvectors and one back; vmappable over states and times. (Wang & Vastola 2024, The
    unreasonable effectiveness of Gaussian score approximation for diffusion models and its applications, arXiv
    2412.09726.)

    Args:
        law: of the data, by ``gaussian_law``, ``low_rank_gaussian`` or ``fit_gaussian``.
        schedule: any Schedule; times run from data at 0 to noise at T.

    Returns:
        A ``GaussianFlow``: ``flow(s, t, x)``, ``flow.log_det(s, t)``, ``flow.denoiser``, ``flow.score``.

    Raises:
        ValueError: another kind of law or schedule; when called, times outside of the schedule or a state of another
            shape.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> law = bj.oracles.gaussian_law(jnp.zeros(2), jnp.array([4.0, 0.25]))
        >>> flow = bj.oracles.gaussian_flow(law, bj.schedules.vp())
        >>> print(flow(1.0, 0.0, jnp.ones(2)).round(2))                        # noise of size one becomes data
        [2.  0.5]
    """
    check_law(law)
    check_schedule(schedule)
    return GaussianFlow(law, schedule)
