"""From a noisy image to a clean one: what runs between them, given a denoiser.

On the noising clock t, from clean (0) to degraded (1), of complex images whose noise has variance 1/2 in each part:

    about a centre   dX = gamma (C - X) dt + g dW           X_1 = C + sigma_1 Z             SGMSE+, StoRM
                     sigma_t^2 = s^2 L / (gamma + L) (exp(2 L t) - exp(-2 gamma t)),    L = log(s_max / s), s = s_min
    bridge           X_t = (1 - r) X_0 + r C + sqrt(r (1 - r)) sigma_1 Z,  r = sigma_t^2 / sigma_1^2,  X_1 = C
                     sigma_t^2 = c (k^(2t) - 1) / (2 log k)

The centre C is the noisy image Y or a predictor's estimate of the clean one. X - C, of the first, is the noising SDE
of a schedule without a centre: it is what is denoised, so that all of the library's solvers serve. E[X_1] is
C + exp(-gamma) (X_0 - C), and the start C + sigma_1 Z leaves the second term out, as the papers do. A bridge starts at
C itself, and one evaluation of its denoiser at t = 1 is the whole of a predictor.

(Richter, Welker, Lemercier, Lay & Gerkmann 2023, Speech enhancement and dereverberation with diffusion-based generative
models, arXiv 2208.05830; Lemercier, Richter, Welker & Gerkmann 2023, StoRM, arXiv 2212.11851; Jukić, Korostik, Balam &
Ginsburg 2024, Schrödinger bridge for generative speech enhancement, arXiv 2407.16074.)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import check_count, check_number, check_positive
from bridgejax._numerics import normal_like
from bridgejax._summary import summary
from bridgejax._types import Field, Scalar, State
from bridgejax.bridges._reverse import probability_flow, reverse
from bridgejax.methods.paired.augmented_bridge import end_conditioned
from bridgejax.processes import Process, Schedule, schedules
from bridgejax.processes._schedule import check_schedule
from bridgejax.solve import grids

SAMPLERS = ("sde", "ode")


class Given(NamedTuple):
    """What a sample is conditioned on, the ``args`` of its process.

    Attributes:
        noisy: image of the noisy wave.
        centre: image that the process is about, or starts at.
    """

    noisy: State
    centre: State

    __repr__ = summary


def _scale(gamma: Scalar, s: Array, t: Array) -> Array:
    return jnp.exp(-gamma * (t - s))


def _variance(gamma: Scalar, low: Scalar, log_ratio: Scalar, s: Array, t: Array) -> Array:
    rate, step = gamma + log_ratio, t - s
    growth = jnp.exp(2.0 * log_ratio * s - 2.0 * gamma * step) * jnp.expm1(2.0 * rate * step)
    return 0.5 * low**2 * log_ratio / rate * growth


def _log_alpha(gamma: Scalar, t: Array) -> Array:
    return -gamma * t


def ouve(gamma: float = 1.5, sigma_min: float = 0.05, sigma_max: float = 0.5) -> Schedule:
    """Ornstein-Uhlenbeck pull with exploding noise, for one part of a complex number: half of the variance.

        dx = -gamma x dt + g(t) dW,     g(t)^2 = sigma_min^2 (sigma_max / sigma_min)^(2t) log(sigma_max / sigma_min)

    With a centre: ``noising(ouve(), center=...)``.

    Args:
        gamma: rate of the pull, > 0.
        sigma_min: least noise, > 0, of a complex number.
        sigma_max: greatest, > sigma_min.

    Returns:
        A Schedule on [0, 1].

    Raises:
        ValueError: numbers out of their range.

    Example:
        >>> from bridgejax.applications.speech import ouve
        >>> print(f"{ouve().alpha(1.0):.3f} {2 * ouve().variance(0.0, 1.0):.3f}")
        0.223 0.151
    """
    check_number(gamma=gamma, sigma_min=sigma_min, sigma_max=sigma_max)
    check_positive(gamma=gamma, sigma_min=sigma_min)
    if not sigma_max > sigma_min:
        raise ValueError(f"sigma_max must exceed sigma_min = {sigma_min}, got {sigma_max}")
    variance = Partial(_variance, gamma, sigma_min, math.log(sigma_max / sigma_min))
    return Schedule(Partial(_scale, gamma), variance, Partial(_log_alpha, gamma))


def exploding(c: float = 0.4, k: float = 2.6) -> Schedule:
    """The bridge's reference for one part of a complex number: variance c (k^(2t) - 1) / (4 log k).

    Args:
        c: square of the diffusion of a complex number at 0, > 0.
        k: its growth over the clock, > 1.

    Returns:
        A Schedule on [0, 1], ``schedules.ve``.

    Raises:
        ValueError: numbers out of their range.

    Example:
        >>> from bridgejax.applications.speech import exploding
        >>> print(f"{2 * exploding().variance(0.0, 1.0):.3f}")
        1.206
    """
    check_number(c=c, k=k)
    check_positive(c=c)
    if not k > 1.0:
        raise ValueError(f"k must exceed 1, got {k}")
    low = math.sqrt(c / (4.0 * math.log(k)))
    return schedules.ve(low, k * low)


# processes ------------------------------------------------------------------------------------------------------------


def _noise_about(schedule: Schedule, key: Array, args: Given) -> State:
    return schedule.sigma(schedule.T) * normal_like(key, args.centre)


def _add_centre(key: Array, x: State, args: Given) -> State:
    return x + args.centre


def _at_centre(key: Array, args: Given) -> State:
    return args.centre


def _check(sampler: str, steps: int, least: int = 1) -> int:
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler must be one of {SAMPLERS}, got {sampler!r}")
    return check_count("steps", steps, least)


def about_centre(schedule: Schedule, denoiser: Field, steps: int = 15, sampler: str = "sde") -> Process:
    """Noise about the centre, taken away: what SGMSE+ (centre Y) and StoRM (the estimate) draw.

    Args:
        schedule: of X - C, ``ouve()``.
        denoiser: ``denoiser(t, x, args)``, E[X_0 - C | X_t - C = x] given ``args``, a ``Given``.
        steps: evaluations of the denoiser.
        sampler: "sde", the reversal; "ode", its probability flow.

    Returns:
        A Process whose draws are clean images.

    Raises:
        ValueError: an unknown sampler, no steps.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> from bridgejax.applications.speech import Given, about_centre, ouve
        >>> noisy = jnp.ones((2, 4, 3, 2))                                     # two images
        >>> process = about_centre(ouve(), lambda t, x, args: 0.0 * x, steps=5)  # clean is the centre, it says
        >>> float(bj.sample(process, bj.keys(jax.random.key(0), 2), Given(noisy, noisy)).mean())
        1.0
    """
    make = reverse if _check(sampler, steps) >= 1 and sampler == "sde" else probability_flow
    start = Partial(_noise_about, schedule)
    return Process(start, make(schedule, denoiser=denoiser), levels(steps, schedule), decode=Partial(_add_centre))


def bridge_from(schedule: Schedule, denoiser: Field, steps: int = 4) -> Process:
    """The bridge from the centre: a Schrödinger bridge whose network predicts the clean image.

    Args:
        schedule: the reference, ``exploding()``.
        denoiser: ``denoiser(t, x, args)``, E[X_0 | X_t = x] given ``args``, a ``Given``.
        steps: evaluations of the denoiser; with 1 it is a predictor.

    Returns:
        A Process whose draws are clean images.

    Raises:
        ValueError: no steps.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> from bridgejax.applications.speech import Given, bridge_from, exploding
        >>> noisy = jnp.ones((2, 4, 3, 2))                                     # two images
        >>> process = bridge_from(exploding(), lambda t, x, args: 0.5 * args.noisy)
        >>> float(bj.sample(process, bj.keys(jax.random.key(0), 2), Given(noisy, noisy)).mean())
        0.5
    """
    check_schedule(schedule)
    grid = levels(_check("sde", steps), end_conditioned(schedule))
    return Process(Partial(_at_centre), reverse(schedule, denoiser=denoiser), grid)


def levels(steps: int, schedule: Schedule) -> Array:
    """A grid even in the log signal-to-noise ratio, from -4 or the schedule's own least to 7, then to clean data."""
    return grids.log_snr(steps, schedule, log_snr_min=None if not schedule.zero_terminal_snr else -4.0, log_snr_max=7.0)
