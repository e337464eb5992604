"""Samplers that reverse a noising of the target, which need not be sampled for that.

    backward, on its own clock s = T - t:    dx = f(s) x ds + g(s) dW         of a schedule, towards N(0, scale^2)

    name   start           forward                                    guide of the control u
    dis    N(0, scale^2)   dx = [-f x + g u] dt + m g dW              g [(1 - t/T) grad log p_0 + (t/T) grad log rho]
    dds    N(0, scale^2)   dx = [ f x + g u] dt + m g dW              g [grad log rho - grad log p_0]
    gbs    N(0, scale^2)   as dis, and a learnt v: back has the drift f x + g v

grad log rho is taken as smoothed at scale sigma(s). At the optimum dis has u = g grad log p_s and dds u = g grad
log(p_s / p_0); gbs has many optima, all of them with a weight of no variance. (DIS: Berner, Richter & Ullrich 2024,
arXiv 2211.01364; DDS, here in its Euler form: Vargas, Grathwohl & Doucet 2023, arXiv 2302.13834; the general bridge:
Richter & Berner 2024, arXiv 2307.01198.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Unpack

from jax import Array
from jax.tree_util import Partial

from bridgejax._types import Args, DiffusionFn, LogDensity, Network, Params, Scalar
from bridgejax.methods._arguments import NetworkLike, documented
from bridgejax.methods.samplers import _path_sampler as controlled
from bridgejax.methods.samplers._losses import Make
from bridgejax.methods.samplers._path_sampler import SAMPLER, SamplerOptions, smoothed
from bridgejax.processes import Process, Schedule, starts
from bridgejax.training import Method


def _blend(log_density: LogDensity, schedule: Schedule, scale: Scalar, t: Array, x: Array) -> Array:
    share = t / schedule.T
    score = -(1.0 - share) * x / scale**2 + share * smoothed(log_density, schedule, scale, t, x)
    return scale * schedule.diffusion(schedule.T - t) * score


def _tilted(log_density: LogDensity, schedule: Schedule, scale: Scalar, t: Array, x: Array) -> Array:
    score = smoothed(log_density, schedule, scale, t, x) + x / scale**2
    return scale * schedule.diffusion(schedule.T - t) * score


def _against(
    log_density: LogDensity,
    network: NetworkLike | None,
    schedule: Schedule | None,
    scale: Scalar,
    options: SamplerOptions,
    sign: float,
    guide: Callable[..., Array],
) -> tuple[controlled.Noising, controlled.SamplerSpec, Partial]:
    """The noising, the checked options, and the process that runs against it: sign f and the guide say which."""
    noise = controlled.noising(schedule, scale)
    spec = controlled.check_options(log_density, network, noise.grid, options)
    backward = controlled.backward_sde(noise.drift, noise.noise, noise.schedule.T)
    bound = Partial(guide, spec.log_density, noise.schedule, scale)
    start = starts.normal((spec.dim,), scale)
    return noise, spec, controlled.make_process(spec, start, noise.forward(sign), backward, bound)


@documented(SAMPLER)
def dis(
    log_density: LogDensity,
    network: NetworkLike | None = None,
    *,
    schedule: Schedule | None = None,
    scale: float = 1.0,
    **options: Unpack[SamplerOptions],
) -> Method:
    """The time-reversed diffusion sampler: learns to reverse the noising of the target.

    Args:
        schedule: a variance-preserving Schedule on the noising clock; default ``schedules.vp(0.1, 10)``.
        scale: standard deviation of the start, and of the noise: as wide as the target.
        **options: what follows; the default grid has 100 steps that shrink towards the target.

    Returns:
        A Method without data: ``fit(method, bj.data.NoData(512), key, steps=...)``. ``bj.sample`` draws from its
        Process, ``bj.log_weights(process, keys, log_density)`` gives weights for ``bj.weights``.

    Raises:
        ValueError: an unknown loss, a density or network that does not fit dim, a density without a gradient where one
            is needed, a grid that does not run from 0 to T, no schedule.

    Example:
        >>> import bridgejax as bj, jax
        >>> method = bj.methods.dis(lambda x: -(x @ x), dim=2)
        >>> state = jax.eval_shape(method.init, jax.random.key(0), None)
        >>> draw = lambda state, key: bj.sample(method.process(state), bj.keys(key, 5))
        >>> jax.eval_shape(draw, state, jax.random.key(1)).shape  # once fitted: draw(state, key)
        (5, 2)
    """
    _, spec, make = _against(log_density, network, schedule, scale, options, -1.0, _blend)
    return controlled.learn(spec, make, controlled.guided_params(spec))


@documented(SAMPLER)
def dds(
    log_density: LogDensity,
    network: NetworkLike | None = None,
    *,
    schedule: Schedule | None = None,
    scale: float = 1.0,
    **options: Unpack[SamplerOptions],
) -> Method:
    """The denoising diffusion sampler: steers the noising process, which is stationary at its start.

    Args:
        schedule: a variance-preserving Schedule on the noising clock; default ``schedules.vp(0.1, 10)``.
        scale: standard deviation of the start.
        **options: what follows; the default grid has 100 steps that shrink towards the target.

    Returns:
        A Method without data: ``fit(method, bj.data.NoData(512), key, steps=...)``. ``bj.sample`` draws from its
        Process, ``bj.log_weights(process, keys, log_density)`` gives weights for ``bj.weights``.

    Raises:
        ValueError: an unknown loss, a density or network that does not fit dim, a density without a gradient where one
            is needed, a grid that does not run from 0 to T, no schedule.

    Example:
        >>> import bridgejax as bj, jax
        >>> method = bj.methods.dds(lambda x: -(x @ x), dim=2)
        >>> state = jax.eval_shape(method.init, jax.random.key(0), None)
        >>> draw = lambda state, key: bj.sample(method.process(state), bj.keys(key, 5))
        >>> jax.eval_shape(draw, state, jax.random.key(1)).shape  # once fitted: draw(state, key)
        (5, 2)
    """
    _, spec, make = _against(log_density, network, schedule, scale, options, 1.0, _tilted)
    return controlled.learn(spec, make, controlled.guided_params(spec))


def _controlled_backward(
    noise: controlled.Noising, apply: Network, params: Params, s: Array, x: Array, args: Args
) -> Array:
    v = apply(params, noise.schedule.T - s, x, None)
    return noise.drift(s, x, args) + noise.noise(s, x, args) * v


def _both_ways(forward: Make, pushed: Callable[..., Array], noise: DiffusionFn, params: Params, *, T: float) -> Process:
    backward = controlled.backward_sde(Partial(pushed, params["backward"]), noise, T)
    return dataclasses.replace(forward(params), backward=backward)


@documented(SAMPLER)
def gbs(
    log_density: LogDensity,
    network: NetworkLike | None = None,
    backward_network: NetworkLike | None = None,
    *,
    schedule: Schedule | None = None,
    scale: float = 1.0,
    **options: Unpack[SamplerOptions],
) -> Method:
    """The general bridge sampler: both directions are learnt.

    Args:
        backward_network: of the control of the backward process, on the same clock as ``network``.
        schedule: a variance-preserving Schedule on the noising clock; default ``schedules.vp(0.1, 10)``.
        scale: standard deviation of the start.
        **options: what follows; the default grid has 100 steps that shrink towards the target.

    Returns:
        A Method without data: ``fit(method, bj.data.NoData(512), key, steps=...)``. ``bj.sample`` draws from its
        Process, ``bj.log_weights(process, keys, log_density)`` gives weights for ``bj.weights``.

    Raises:
        ValueError: an unknown loss, a density or networks that do not fit dim, a density without a gradient where one
            is needed, a grid that does not run from 0 to T, no schedule.

    Example:
        >>> import bridgejax as bj, jax
        >>> method = bj.methods.gbs(lambda x: -(x @ x), dim=2)
        >>> state = jax.eval_shape(method.init, jax.random.key(0), None)
        >>> draw = lambda state, key: bj.sample(method.process(state), bj.keys(key, 5))
        >>> jax.eval_shape(draw, state, jax.random.key(1)).shape  # once fitted: draw(state, key)
        (5, 2)
    """
    noise, spec, forward = _against(log_density, network, schedule, scale, options, -1.0, _blend)
    apply, params = controlled.check_network(backward_network, spec.dim)
    pushed = Partial(partial(_controlled_backward, noise, apply))
    make = Partial(partial(_both_ways, T=noise.schedule.T), forward, pushed, noise.noise)
    return controlled.learn(spec, make, controlled.guided_params(spec, backward=params))
