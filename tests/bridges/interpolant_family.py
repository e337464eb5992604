"""The interpolants that the tests of this folder run over, and float64 truths for their references."""

import numpy as np

from bridgejax.bridges import interpolants
from bridgejax.processes import schedules

FAMILY = {
    "diffusion_vp": interpolants.diffusion(schedules.vp()),
    "diffusion_rectified": interpolants.diffusion(schedules.rectified()),
    "diffusion_karras": interpolants.diffusion(schedules.karras()),
    "bridge_vp": interpolants.bridge(schedules.vp(0.2, 3.0)),
    "bridge_ou": interpolants.bridge(schedules.ou(0.8, 1.2, T=2.0)),
    "bridge_ve": interpolants.bridge(schedules.ve(0.1, 2.0)),
    "brownian": interpolants.brownian(0.7),
    "brownian_reversed": interpolants.brownian(0.7).reversed(),
    "bridge_ou_reversed": interpolants.bridge(schedules.ou(0.8, 1.2, T=2.0)).reversed(),
    "linear": interpolants.linear(),
    "trigonometric": interpolants.trigonometric(),
}
NAMES = sorted(FAMILY)
TWO_ENDED = [name for name in NAMES if FAMILY[name].b is not None]


def pinned_moments(alpha, variance, t, T):
    """Coefficients of x0 and x1 and the variance of x_t given both, by conditioning the joint Gaussian of (x_t, x_T).

    ``alpha`` and ``variance`` are float64 functions of (s, t): scale and variance of x_t given x_s.
    """
    covariance = alpha(t, T) * variance(0.0, t)
    total = variance(0.0, T)
    gain = covariance / total
    return alpha(0.0, t) - gain * alpha(0.0, T), gain, variance(0.0, t) - gain * covariance


def vp_law(low, high, T=1.0):
    def integral(s, t):
        return (t - s) * (low + 0.5 * (high - low) * (s + t) / T)

    return lambda s, t: np.exp(-0.5 * integral(s, t)), lambda s, t: -np.expm1(-integral(s, t))


def ou_law(theta, sigma):
    def variance(s, t):
        return sigma**2 / (2 * theta) * -np.expm1(-2 * theta * (t - s))

    return lambda s, t: np.exp(-theta * (t - s)), variance


def brownian_law(sigma):
    return lambda s, t: np.ones_like(t - s), lambda s, t: sigma**2 * (t - s)


def ve_law(low, high):
    ratio = np.log(high / low)
    return lambda s, t: np.ones_like(t - s), lambda s, t: low**2 * (np.exp(2 * ratio * t) - np.exp(2 * ratio * s))
