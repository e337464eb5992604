"""The path integral sampler: Brownian motion from the origin, steered to the target.

    dx = sigma u dt + m sigma dW,  x_0 = 0        back: the Brownian bridge to the origin

The guide of the control is sigma grad log rho, smoothed at sigma sqrt(T - t). The start and the last step back to it
are certain, have density 1 with respect to the point and drop out. (Zhang & Chen 2022, arXiv 2111.15141.)
"""

from __future__ import annotations

from typing import Unpack

import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import check_number, check_positive
from bridgejax._numerics import normal_like
from bridgejax._types import Args, LogDensity, Scalar
from bridgejax.methods._arguments import NetworkLike, documented
from bridgejax.methods.samplers import _path_sampler as controlled
from bridgejax.methods.samplers._path_sampler import SAMPLER, SamplerOptions
from bridgejax.processes import SDE, Kernel
from bridgejax.processes._schedule import gaussian_log_prob
from bridgejax.processes.noise import constant
from bridgejax.solve import grids
from bridgejax.training import Method


def _to_origin(T: float, s: Array, x: Array, args: Args) -> Array:
    return -x / (T - s)


def _pinned(sigma: Scalar, T: float, s: Array, v: Array, x: Array) -> tuple[Array, Array, Array]:
    """Mean and variance of a Brownian path at T - v, given its x at T - s; whether that is the start itself."""
    t, u = T - v, T - s
    first = t <= 1e-6 * T
    return (t / u) * x, sigma**2 * jnp.where(first, 1.0, t * (u - t) / u), first


def _pinned_sample(sigma: Scalar, T: float, key: Array, s: Array, v: Array, x: Array, args: Args) -> Array:
    mean, variance, first = _pinned(sigma, T, s, v, x)
    return jnp.where(first, 0.0, mean + jnp.sqrt(variance) * normal_like(key, x))


def _pinned_log_prob(sigma: Scalar, T: float, s: Array, v: Array, x: Array, y: Array, args: Args) -> Array:
    mean, variance, first = _pinned(sigma, T, s, v, x)
    return jnp.where(first, 0.0, gaussian_log_prob(y, mean, variance))


def brownian(sigma: Scalar, T: float) -> tuple[SDE, SDE]:
    """Brownian motion from the origin, and its exact reversal."""
    check_number(sigma=sigma)
    check_positive(sigma=sigma, T=T)
    law = Kernel(Partial(_pinned_sample, sigma, T), Partial(_pinned_log_prob, sigma, T), T)
    noise = Partial(constant, sigma)
    backward = SDE(Partial(_to_origin, T), noise, T, terminal_kernel=law, kernel=law)  # its drift is infinite at T
    return SDE(controlled.zero_drift, noise, T), backward


def _guide(log_density: LogDensity, sigma: Scalar, T: float, t: Array, x: Array) -> Array:
    return sigma * controlled.score(log_density, sigma * jnp.sqrt(T - t), x)


@documented(SAMPLER)
def pis(
    log_density: LogDensity,
    network: NetworkLike | None = None,
    *,
    sigma: float = 1.0,
    T: float = 1.0,
    **options: Unpack[SamplerOptions],
) -> Method:
    """The path integral sampler.

    Args:
        sigma: noise of the reference, N(0, sigma^2 T) at its end; as wide as the target.
        T: end of the clock.
        **options: what follows; the default grid has 100 even steps.

    Returns:
        A Method without data: ``fit(method, bj.data.NoData(512), key, steps=...)``. ``bj.sample`` draws from its
        Process, ``bj.log_weights(process, keys, log_density)`` gives weights for ``bj.weights``.

    Raises:
        ValueError: an unknown loss, a density or network that does not fit dim, a density without a gradient where one
            is needed, a grid that does not run from 0 to T.

    Example:
        >>> import bridgejax as bj, jax
        >>> method = bj.methods.pis(lambda x: -(x @ x), dim=2)
        >>> state = jax.eval_shape(method.init, jax.random.key(0), None)
        >>> draw = lambda state, key: bj.sample(method.process(state), bj.keys(key, 5))
        >>> jax.eval_shape(draw, state, jax.random.key(1)).shape  # once fitted: draw(state, key)
        (5, 2)
    """
    reference, backward = brownian(sigma, T)
    spec = controlled.check_options(log_density, network, grids.uniform(100, T), options)
    guide = Partial(_guide, spec.log_density, sigma, T)
    make = controlled.make_process(spec, controlled.Point(jnp.zeros(spec.dim)), reference, backward, guide)
    return controlled.learn(spec, make, controlled.guided_params(spec))
