"""Weights on the squared error, as a function of time.

With x_t fixed, an error in one prediction is an error in every other. Written on the error of x0,

    |d eps| = (alpha/sigma) |d x0|    |d score| = (alpha/sigma^2) |d x0|    |d velocity| = |alpha' - alpha r| |d x0|,

r = d log sigma/dt, so a weighting and a prediction can be chosen apart: the loss is w(t) |d x0|^2 whatever the network
predicts.

    x0           1
    eps          SNR = alpha^2/sigma^2                   the "simple" loss of Ho et al. 2020, arXiv 2006.11239
    velocity     (alpha' - alpha r)^2                    flow matching
    score        alpha^2/sigma^4
    likelihood   g^2 alpha^2 / (2 sigma^4)               the bound on -log p of Song et al. 2021, arXiv 2101.09258
    min_snr      min(SNR, 5)                             Hang et al. 2023, arXiv 2303.09556
    edm          1/sigma~^2 + 1/sigma_data^2, sigma~ = sigma/alpha      Karras et al. 2022, arXiv 2206.00364
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax.numpy as jnp
from jax import Array

from bridgejax._checks import check_number, check_positive
from bridgejax._numerics import safe_divide
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Scalar
from bridgejax.processes._schedule import Schedule, check_schedule

__all__ = ["Weight", "weight"]


def __dir__() -> list[str]:
    return __all__


MIN_SNR = 5.0
PREDICTIONS = ("x0", "eps", "score", "velocity")
WEIGHTINGS = ("x0", "eps", "score", "velocity", "likelihood", "min_snr", "edm")


def _snr(schedule: Schedule, t: Array) -> Array:
    return safe_divide(schedule.alpha(t) ** 2, schedule.variance(0.0, t))


def _on_x0(name: str, schedule: Schedule, sigma_data: Scalar, t: Array) -> Array:
    """Weight on |d x0|^2 that amounts to weight 1 on |d name|^2, or the named weighting itself."""
    variance = schedule.variance(0.0, t)
    if name == "x0":
        return jnp.ones_like(variance)
    if name == "eps":
        return _snr(schedule, t)
    if name == "score":
        return safe_divide(_snr(schedule, t), variance)
    if name == "velocity":
        return (schedule.alpha_dot(t) - schedule.alpha(t) * schedule.dlog_sigma(t)) ** 2
    if name == "likelihood":
        return 0.5 * schedule.diffusion_squared(t) * safe_divide(_snr(schedule, t), variance)
    if name == "min_snr":
        return jnp.minimum(_snr(schedule, t), MIN_SNR)
    return _snr(schedule, t) + 1.0 / sigma_data**2


@partial(register_dataclass, data_fields=("schedule", "sigma_data"), meta_fields=("weighting", "predict"))
@dataclass(frozen=True)
class Weight:
    """w(t) on the squared error of ``predict``; a pytree, made by ``weight``."""

    schedule: Schedule
    sigma_data: Scalar
    weighting: str
    predict: str

    __repr__ = summary

    def __call__(self, t: Array) -> Array:
        """The weight at noising time t."""
        if self.weighting == self.predict:
            return jnp.ones_like(t)
        wanted = _on_x0(self.weighting, self.schedule, self.sigma_data, t)
        return safe_divide(wanted, _on_x0(self.predict, self.schedule, self.sigma_data, t))


def weight(schedule: Schedule, predict: str, weighting: str | None = None, sigma_data: float = 1.0) -> Weight:
    """w(t) for the squared error of a network that predicts ``predict``.

    Args:
        schedule: the noise schedule.
        predict: one of x0, eps, score, velocity.
        weighting: one of the names above; None: weight 1 on the network's own output.
        sigma_data: standard deviation of the data, for "edm".

    Raises:
        ValueError: an unknown prediction or weighting.
    """
    check_schedule(schedule)
    check_number(sigma_data=sigma_data)
    check_positive(sigma_data=sigma_data)
    if not isinstance(predict, str) or predict not in PREDICTIONS:
        raise ValueError(f"predict must be one of {PREDICTIONS}, got {predict!r}")
    weighting = predict if weighting is None else weighting
    if not isinstance(weighting, str) or weighting not in WEIGHTINGS:
        raise ValueError(f"weighting must be one of {WEIGHTINGS}, got {weighting!r}")
    return Weight(schedule, sigma_data, weighting, predict)
