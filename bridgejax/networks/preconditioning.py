"""Preconditioning: a network whose inputs and targets have variance one at every noise level.

For x_t = alpha x_0 + sigma eps, with x_0 of variance sigma_d² per component and eps ~ N(0, I), the denoiser is

    D(t, x) = c_skip x + c_out F(c_noise, c_in x),            D ≈ E[x_0 | x_t = x]

    v       = alpha² sigma_d² + sigma²                        variance of x_t
    c_in    = 1 / sqrt(v)                                     so that c_in x_t has variance one
    c_skip  = alpha sigma_d² / v                              the best linear denoiser
    c_out   = sigma sigma_d / sqrt(v)                         its error, so that F's target has variance one
    c_noise = log(sigma / alpha) / 4                          the noise level the network is told

F's target is (x_0 - c_skip x_t) / c_out. Of all c_skip this one makes c_out smallest, so F's errors are amplified
least; at sigma = 0 the denoiser is the identity (divided by alpha) whatever F says. With alpha = 1 and t = sigma these
are the EDM coefficients of Karras, Aittala, Aila and Laine (2022, arXiv 2206.00364, table 1 and appendix B.6); the
same argument gives them for any alpha.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bridgejax._summary import summary
from bridgejax._types import Args, Network, Numbers, Params, Scalar, State, TimeFn
from bridgejax.networks._checks import check_positive, check_real, check_time

Array = jax.Array

_WIDEST = 10.0  # |log(sigma / alpha)| is held below this: EDM's own levels span -6.2 to 4.4


class Coefficients(NamedTuple):
    """c_skip, c_out, c_in and c_noise at one noise level, arrays of float32 or wider."""

    skip: Array
    out: Array
    input: Array
    noise: Array

    __repr__ = summary


def coefficients(alpha: Scalar, sigma: Scalar, sigma_data: Scalar = 0.5) -> Coefficients:
    """The preconditioning at signal level alpha and noise level sigma; any broadcastable shapes.

    Finite with finite gradients for alpha = 0 (pure noise) and for sigma = 0 (clean data): the noise level told to
    the network is held to |log(sigma / alpha)| <= 10, beyond which the sample no longer changes visibly.

    Args:
        alpha: signal level, at least 0.
        sigma: noise level, at least 0, in units of x; not both zero.
        sigma_data: standard deviation of the data, positive, in units of x.

    Returns:
        The four coefficients.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> found = bj.networks.coefficients(1.0, 0.5, sigma_data=0.5)
        >>> round(float(found.skip), 4)  # sigma_data^2 / (sigma_data^2 + sigma^2)
        0.5
    """
    alpha, sigma, sigma_data = (
        check_real("alpha", alpha),
        check_real("sigma", sigma),
        check_real("sigma_data", sigma_data),
    )
    total = jnp.sqrt((alpha * sigma_data) ** 2 + sigma**2)
    tiny = math.exp(-_WIDEST)
    noise = jnp.log(jnp.maximum(sigma, tiny * alpha)) - jnp.log(jnp.maximum(alpha, tiny * sigma))
    return Coefficients(
        skip=alpha * (sigma_data / total) ** 2,
        out=sigma * (sigma_data / total),
        input=1 / total,
        noise=noise / 4,
    )


@dataclass(frozen=True)
class Precondition:
    """The denoiser D(params, t, x, args) = c_skip x + c_out F(params, c_noise, c_in x, args) as an `apply`.

    Two with equal fields are equal and hash alike, so `jax.tree_util.Partial(denoiser, params)` is traced once. The
    fields are static: build it outside jit, with module-level functions or the methods of one schedule object.

    Attributes:
        apply: the network, apply(params, t, x, args).
        alpha: t -> signal level.
        sigma: t -> noise level.
        sigma_data: standard deviation of the data.
        noise: t -> what the network is told in place of the time; None is log(sigma / alpha) / 4.
    """

    apply: Network
    alpha: TimeFn
    sigma: TimeFn
    sigma_data: float = 0.5
    noise: TimeFn | None = None

    __repr__ = summary

    def coefficients(self, t: Array) -> Coefficients:
        """c_skip, c_out, c_in and c_noise at time t, shape ()."""
        t = check_time(t)
        found = coefficients(self.alpha(t), self.sigma(t), self.sigma_data)
        return found if self.noise is None else found._replace(noise=self.noise(t))

    def __call__(self, params: Params, t: Array, x: State, args: Args = None) -> Array:
        """The denoised sample, of x's shape, float32 or wider.

        Args:
            params: parameters of the network.
            t: time, shape (); for `edm_precondition` the noise level sigma.
            x: noisy sample.
            args: condition of the sample, passed on unchanged.
        """
        c = self.coefficients(t)
        x = _at_least_float32(x)
        return c.skip * x + c.out * self.apply(params, c.noise, c.input * x, args)


def precondition(
    apply: Network,
    alpha: TimeFn,
    sigma: TimeFn,
    *,
    sigma_data: float = 0.5,
    noise: TimeFn | None = None,
) -> Precondition:
    """A network as the denoiser of any schedule x_t = alpha(t) x_0 + sigma(t) eps.

    D(t, x) = c_skip x + c_out F(c_noise, c_in x), with coefficients as in the head of this file.

    Args:
        apply: the network F, apply(params, t, x, args).
        alpha: t -> signal level >= 0, such as a schedule's `alpha`.
        sigma: t -> noise level >= 0, such as a schedule's `sigma`.
        sigma_data: standard deviation of the data per component; 1 for standardised data.
        noise: t -> scalar told to the network in place of log(sigma / alpha) / 4, for a clock of your own.

    Returns:
        The denoiser, an apply(params, t, x, args).

    Raises:
        ValueError: something that must be a function is not, or sigma_data is not positive.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> noisy = bj.schedules.karras()
        >>> apply = bj.networks.precondition(lambda params, t, x, args: params * x, noisy.alpha, noisy.sigma)
        >>> round(float(apply(0.0, 0.5, jnp.ones(1))[0]), 4)                         # the skip connection alone
        0.5
    """
    for name, function in (("apply", apply), ("alpha", alpha), ("sigma", sigma), ("noise", noise)):
        if not callable(function) and not (name == "noise" and function is None):
            raise ValueError(f"{name} = {function!r}: expected a function; a module becomes one by functional(module).")
    return Precondition(apply, alpha, sigma, check_positive("sigma_data", sigma_data), noise)


def edm_precondition(apply: Network, sigma_data: float = 0.5) -> Precondition:
    """EDM's denoiser on the clock t = sigma (Karras et al. 2022, arXiv 2206.00364, table 1).

    D(sigma, x) = c_skip x + c_out F(log(sigma) / 4, c_in x), for x = x_0 + sigma eps.

    Args:
        apply: the network F, apply(params, t, x, args).
        sigma_data: standard deviation of the data per component; 1 for standardised data.

    Returns:
        The denoiser, an apply(params, sigma, x, args).

    Raises:
        ValueError: apply is not a function, or sigma_data is not positive.

    (Karras et al. 2022, Elucidating the design space of diffusion-based generative models, arXiv 2206.00364.)

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> apply = bj.networks.edm_precondition(lambda params, t, x, args: params * x)
        >>> round(float(apply(0.0, 0.5, jnp.ones(1))[0]), 4)                         # the skip connection alone
        0.5
    """
    return precondition(apply, jnp.ones_like, _identity, sigma_data=sigma_data)


def _identity(t: Array) -> Array:
    return t


def _at_least_float32(value: Numbers) -> Array:
    value = jnp.asarray(value)
    return value.astype(jnp.promote_types(value.dtype, jnp.float32))
