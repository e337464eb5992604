"""Noise schedules x_t = alpha(t) x0 + sigma(t) eps, from clean data at 0 to noise at T.

Each is a ``Schedule``, which is given by its exact transitions.

    name       alpha(t)            sigma(t)^2                           T     source
    vp         exp(-B/2)           1 - exp(-B), B = int_0^t beta        1     Song et al. 2021, arXiv 2011.13456
    sub_vp     exp(-B/2)           (1 - exp(-B))^2                      1     Song et al. 2021
    cosine     cos(phi t)          sin(phi t)^2                         1     Nichol & Dhariwal 2021, arXiv 2102.09672
    ve         1                   smin^2 ((smax/smin)^(2t) - 1)        1     Song et al. 2021
    brownian   1                   sigma^2 t                            1
    ou         exp(-theta t)       sigma^2 (1 - exp(-2 theta t))/(2 theta)
    rectified  1 - t               t^2                                  1     Liu et al. 2023, arXiv 2209.03003
    karras     1                   t^2                                  80    Karras et al. 2022, arXiv 2206.00364
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import as_real, check_positive
from bridgejax._numerics import safe_divide
from bridgejax._types import Scalar
from bridgejax.processes._schedule import Schedule, is_concrete
from bridgejax.processes.sde import check_end

__all__ = [
    "brownian",
    "cosine",
    "karras",
    "ou",
    "rectified",
    "sub_vp",
    "ve",
    "vp",
]


def __dir__() -> list[str]:
    return __all__


def _beta_integral(low: Scalar, high: Scalar, T: Scalar, s: Array, t: Array) -> Array:
    """int_s^t of the line from ``low`` at 0 to ``high`` at T; the exact difference, factored."""
    return (t - s) * (low + 0.5 * (high - low) * (s + t) / T)


def _vp_scale(low: Scalar, high: Scalar, T: Scalar, s: Array, t: Array) -> Array:
    return jnp.exp(-0.5 * _beta_integral(low, high, T, s, t))


def _vp_variance(low: Scalar, high: Scalar, T: Scalar, s: Array, t: Array) -> Array:
    return -jnp.expm1(-_beta_integral(low, high, T, s, t))


def _vp_log_alpha(low: Scalar, high: Scalar, T: Scalar, t: Array) -> Array:
    return -0.5 * _beta_integral(low, high, T, jnp.zeros_like(t), t)


def vp(beta_min: float = 0.1, beta_max: float = 20.0, T: float = 1.0) -> Schedule:
    """Variance preserving: alpha = exp(-B/2), sigma^2 = 1 - exp(-B), B(t) = int_0^t beta; the limit of DDPM.

    dx = -beta x / 2 dt + sqrt(beta) dW with beta(t) linear from ``beta_min`` at 0 to ``beta_max`` at T. (Song et al.
    2021, Score-based generative modeling through stochastic differential equations, arXiv 2011.13456.)

    Args:
        beta_min: beta(0) > 0, per unit time.
        beta_max: beta(T) > 0, per unit time.
        T: end of the clock.

    Returns:
        A Schedule on [0, T].

    Raises:
        ValueError: a rate or an end that is not positive and finite.

    Example:
        >>> import bridgejax as bj
        >>> print(f"{bj.schedules.vp().alpha(1.0):.4f}")                        # exp(-(0.1 + 20) / 4)
        0.0066
    """
    check_positive(beta_min=beta_min, beta_max=beta_max)
    bound = (beta_min, beta_max, check_end(T))
    return Schedule(Partial(_vp_scale, *bound), Partial(_vp_variance, *bound), Partial(_vp_log_alpha, *bound), T)


def _sub_vp_variance(low: Scalar, high: Scalar, T: Scalar, s: Array, t: Array) -> Array:
    # (1 - e^-Bt)^2 - e^-(Bt-Bs) (1 - e^-Bs)^2 = (1 - e^-(Bt-Bs)) (1 - e^-(Bt+Bs))
    zero = jnp.zeros_like(s)
    total = _beta_integral(low, high, T, zero, s) + _beta_integral(low, high, T, zero, t)
    return jnp.expm1(-_beta_integral(low, high, T, s, t)) * jnp.expm1(-total)


def sub_vp(beta_min: float = 0.1, beta_max: float = 20.0, T: float = 1.0) -> Schedule:
    """Sub-VP: alpha of ``vp`` and sigma = 1 - exp(-B), below that of ``vp`` at every time.

    (Song et al. 2021, Score-based generative modeling through stochastic differential equations, arXiv 2011.13456.)

    Args:
        beta_min: beta(0) > 0, per unit time.
        beta_max: beta(T) > 0, per unit time.
        T: end of the clock.

    Returns:
        A Schedule on [0, T].

    Raises:
        ValueError: a rate or an end that is not positive and finite.

    Example:
        >>> import bridgejax as bj
        >>> bool(bj.schedules.sub_vp().sigma(0.2) < bj.schedules.vp().sigma(0.2))
        True
    """
    check_positive(beta_min=beta_min, beta_max=beta_max)
    bound = (beta_min, beta_max, check_end(T))
    return Schedule(Partial(_vp_scale, *bound), Partial(_sub_vp_variance, *bound), Partial(_vp_log_alpha, *bound), T)


def _cosine_alpha(complement: Scalar, t: Array) -> Array:
    # cos(phi t) as a sine, of the complement pi/2 - phi stored as such: nothing cancels where alpha is small
    return jnp.sin(complement * t + 0.5 * jnp.pi * (1.0 - t))


def _cosine_sigma(complement: Scalar, t: Array) -> Array:
    return jnp.sin((0.5 * jnp.pi - complement) * t)


def _cosine_scale(complement: Scalar, s: Array, t: Array) -> Array:
    return _cosine_alpha(complement, t) / _cosine_alpha(complement, s)


def _cosine_variance(complement: Scalar, s: Array, t: Array) -> Array:
    # 1 - cos(phi t)^2 / cos(phi s)^2 = sin(phi (t - s)) sin(phi (t + s)) / cos(phi s)^2, the second sine expanded
    alpha_s = _cosine_alpha(complement, s)
    both = _cosine_sigma(complement, t) * alpha_s + _cosine_alpha(complement, t) * _cosine_sigma(complement, s)
    return _cosine_sigma(complement, t - s) * both / alpha_s**2


def _cosine_log_alpha(complement: Scalar, t: Array) -> Array:
    # at t = 0 the sine of float32's pi/2 is 1, and its log 0, exactly
    return jnp.log(_cosine_alpha(complement, t))


def cosine(log_snr_end: float = -10.0) -> Schedule:
    """Cosine: alpha = cos(phi t), sigma = sin(phi t), phi < pi/2 set by the log SNR left at T = 1.

    Ending at a finite log SNR replaces the clipping of beta in the original; at t = 0 the data are clean. (Nichol &
    Dhariwal 2021, Improved denoising diffusion probabilistic models, arXiv 2102.09672.)

    Args:
        log_snr_end: log(alpha^2 / sigma^2) at T, in [-80, 0); tan(phi) = exp(-log_snr_end / 2).

    Returns:
        A Schedule on [0, 1].

    Raises:
        ValueError: a log SNR outside of [-80, 0).

    Example:
        >>> import bridgejax as bj
        >>> print(f"{bj.schedules.cosine(log_snr_end=-8.0).log_snr(1.0):.3f}")
        -8.000
    """
    as_real(log_snr_end, "log_snr_end")
    if is_concrete(log_snr_end) and not -80.0 <= log_snr_end < 0.0:
        raise ValueError(f"log_snr_end must lie in [-80, 0), got {log_snr_end}")
    tan = math.exp(0.5 * log_snr_end) if isinstance(log_snr_end, int | float) else jnp.exp(0.5 * log_snr_end)
    complement = math.atan(tan) if isinstance(tan, float) else jnp.arctan(tan)
    return Schedule(
        Partial(_cosine_scale, complement),
        Partial(_cosine_variance, complement),
        Partial(_cosine_log_alpha, complement),
        1.0,
    )


def _one(s: Array, t: Array) -> Array:
    return jnp.ones_like(s * t)


def _zero(t: Array) -> Array:
    return jnp.zeros_like(t)


def _ve_variance(low: Scalar, log_ratio: Scalar, s: Array, t: Array) -> Array:
    return low**2 * jnp.exp(2.0 * s * log_ratio) * jnp.expm1(2.0 * (t - s) * log_ratio)


def ve(sigma_min: float = 0.01, sigma_max: float = 50.0) -> Schedule:
    """Variance exploding: sigma(t)^2 = sigma_min^2 ((sigma_max / sigma_min)^(2t) - 1), alpha = 1, T = 1.

    The variance is the one gained from clean data; the noise floor sigma_min^2 that some codes add at t = 0 is not
    part of the SDE. (Song et al. 2021, Score-based generative modeling through stochastic differential equations,
    arXiv 2011.13456.)

    Args:
        sigma_min: scale of the first noise, > 0, in units of the data.
        sigma_max: scale of the noise at T, > sigma_min, in units of the data.

    Returns:
        A Schedule on [0, 1].

    Raises:
        ValueError: scales that are not positive and increasing.

    Example:
        >>> import bridgejax as bj
        >>> print(f"{bj.schedules.ve(sigma_max=10.0).sigma(1.0):.3f}")         # sqrt(sigma_max^2 - sigma_min^2)
        10.000
    """
    check_positive(sigma_min=sigma_min, sigma_max=sigma_max)
    if is_concrete(sigma_min, sigma_max) and sigma_max <= sigma_min:
        raise ValueError(f"sigma_max must exceed sigma_min = {sigma_min}, got {sigma_max}")
    log_ratio = jnp.log(sigma_max / sigma_min)
    return Schedule(_one, Partial(_ve_variance, sigma_min, log_ratio), _zero, 1.0)


def _brownian_variance(sigma: Scalar, s: Array, t: Array) -> Array:
    return sigma**2 * (t - s)


def brownian(sigma: float = 1.0, T: float = 1.0) -> Schedule:
    """Brownian motion: dx = sigma dW, so alpha = 1 and sigma(t)^2 = sigma^2 t.

    As the reference of a Schroedinger bridge its entropic epsilon is sigma^2.

    Args:
        sigma: noise per square root of time, > 0.
        T: end of the clock.

    Returns:
        A Schedule on [0, T].

    Raises:
        ValueError: sigma or T not positive and finite.

    Example:
        >>> import bridgejax as bj
        >>> print(f"{bj.schedules.brownian(2.0).sigma(0.25):.1f}")            # 2 sqrt(1/4)
        1.0
    """
    check_positive(sigma=sigma)
    return Schedule(_one, Partial(_brownian_variance, sigma), _zero, T)


def _ou_scale(theta: Scalar, s: Array, t: Array) -> Array:
    return jnp.exp(-theta * (t - s))


def _ou_variance(theta: Scalar, sigma: Scalar, s: Array, t: Array) -> Array:
    return -(sigma**2) / (2.0 * theta) * jnp.expm1(-2.0 * theta * (t - s))


def _ou_log_alpha(theta: Scalar, t: Array) -> Array:
    return -theta * t


def ou(theta: float = 1.0, sigma: float = 2.0**0.5, T: float = 1.0) -> Schedule:
    """Ornstein-Uhlenbeck: dx = -theta x dt + sigma dW, which tends to N(0, sigma^2 / (2 theta)).

    Args:
        theta: rate of decay per unit time, > 0.
        sigma: noise per square root of time, > 0.
        T: end of the clock.

    Returns:
        A Schedule on [0, T].

    Raises:
        ValueError: a number that is not positive and finite.

    Example:
        >>> import bridgejax as bj
        >>> print(f"{bj.schedules.ou(theta=2.0).alpha(0.5):.4f}")             # exp(-1)
        0.3679
    """
    check_positive(theta=theta, sigma=sigma)
    return Schedule(Partial(_ou_scale, theta), Partial(_ou_variance, theta, sigma), Partial(_ou_log_alpha, theta), T)


def _rectified_scale(s: Array, t: Array) -> Array:
    return safe_divide(1.0 - t, 1.0 - s)


def _rectified_variance(s: Array, t: Array) -> Array:
    # t^2 - ((1-t)/(1-s))^2 s^2, factored without differences of near numbers; at s = t = 1 it is 0
    return safe_divide((t - s) * (t * (1.0 - s) + s * (1.0 - t)), (1.0 - s) ** 2)


def _rectified_log_alpha(t: Array) -> Array:
    # alpha(1) = 0: below the last float32 before 1 the log goes on as its tangent, so that it and f stay finite at T.
    # (An added 2^-24 would do as well, but XLA folds it into the 1.)
    alpha, last = 1.0 - t, 2.0**-24
    return jnp.where(alpha > last, jnp.log(jnp.maximum(alpha, last)), math.log(last) + alpha / last - 1.0)


def rectified() -> Schedule:
    """Rectified flow's path x_t = (1 - t) x0 + t eps as a schedule, T = 1.

    The signal is gone at T, so the *SDE*'s rate and noise are infinite there: reverse it with an exponential solver
    or as ``probability_flow``, whose velocity stays finite. (Liu, Gong & Liu 2023, Flow straight and fast: learning to
    generate and transfer data with rectified flow, arXiv 2209.03003.)

    Returns:
        A Schedule on [0, 1] with ``zero_terminal_snr``.

    Example:
        >>> import bridgejax as bj
        >>> print(f"{bj.schedules.rectified().sigma(0.25):.2f}")
        0.25
    """
    return Schedule(_rectified_scale, _rectified_variance, _rectified_log_alpha, 1.0, zero_terminal_snr=True)


def _karras_variance(s: Array, t: Array) -> Array:
    return (t - s) * (t + s)


def karras(sigma_max: float = 80.0) -> Schedule:
    """EDM's time: sigma(t) = t, alpha = 1, T = sigma_max.

    (Karras et al. 2022, Elucidating the design space of diffusion-based generative models, arXiv 2206.00364.)

    Args:
        sigma_max: noise at the end of the clock, > 0, in units of the data; 80 for data of standard deviation 0.5.

    Returns:
        A Schedule on [0, sigma_max].

    Raises:
        ValueError: sigma_max not positive and finite.

    Example:
        >>> import bridgejax as bj
        >>> print(f"{bj.schedules.karras().sigma(3.0):.1f}")
        3.0
    """
    check_positive(sigma_max=sigma_max)
    return Schedule(_one, _karras_variance, _zero, sigma_max)
