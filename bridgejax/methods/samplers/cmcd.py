"""Controlled Monte Carlo diffusions: annealed Langevin dynamics with a control that makes up for the finite time.

    pi_t ~ p_0^(1 - beta(t)) rho^beta(t),  beta from 0 to 1 learnt,      p_0 = N(0, scale^2)

    forward    x + [sigma^2 grad log pi_t(x) / 2 + sigma u(t, x)] dt + sigma sqrt(dt) noise
    back       y + [sigma^2 grad log pi_v(y) / 2 - sigma u(v, y)] dt + sigma sqrt(dt) noise,    v the later time

sigma(t), one positive number a step, is learnt too. Where pi_t are the marginals, the two are each other's reversal.
Without a control (u = 0) this is annealed importance sampling with unadjusted Langevin steps. grad log pi is shortened
at the radius of a step, as in ``samplers._path_sampler``, alike in both directions; u is no longer than 10 sqrt(d).
(Vargas et al. 2024, arXiv 2307.01050.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Unpack

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import check_number, check_positive
from bridgejax._types import Args, Field, LogDensity, Network, Params, Scalar, StartLaw
from bridgejax.methods._arguments import NetworkLike, documented
from bridgejax.methods.samplers import _losses as sampling
from bridgejax.methods.samplers import _path_sampler as controlled
from bridgejax.methods.samplers._path_sampler import SAMPLER, SamplerOptions
from bridgejax.processes import SDE, Process, starts
from bridgejax.processes.noise import constant
from bridgejax.solve import grids
from bridgejax.training import Method

_T = 1.0


def share(ts: Array, logits: Array, t: Array) -> Array:
    """beta(t), its rises the softmax of ``logits``."""
    rises = jnp.cumsum(jax.nn.softmax(logits))
    return jnp.interp(t, ts, jnp.concatenate([jnp.zeros(1), rises]))


def annealed(log_density: LogDensity, scale: Scalar, beta: Array, x: Array) -> Array:
    """log pi, up to a constant; p_0 at beta = 0, wherever rho vanishes."""
    log_rho = log_density(x)
    return jnp.where(beta > 0.0, beta * log_rho, 0.0) - 0.5 * (1.0 - beta) * jnp.sum((x / scale) ** 2)


def level(log_density: LogDensity, scale: Scalar, ts: Array, params: Params, t: Array, x: Array) -> Array:
    """log pi_t, up to a constant."""
    return annealed(log_density, scale, share(ts, params["anneal"], t), x)


def _push(
    apply: Network, sign: float, log_density: LogDensity, scale: Scalar, ts: Array, sigma: Callable[..., Array],
    params: Params, t: Array, x: Array, args: Args,
) -> Array:  # fmt: skip
    """The drift of either direction, t on the forward clock."""
    now = sigma(params["noise"], t, x, args)
    radius = now * jnp.sqrt(_T / (ts.shape[0] - 1))
    force = Partial(controlled.score, Partial(annealed, log_density, scale, share(ts, params["anneal"], t)), radius)
    return 0.5 * now**2 * sampling.guarded(force, x) + sign * now * controlled.clip_norm(
        apply(params["network"], t, x, None), _T
    )


def _backward_mean(drift: Field, s: Array, v: Array, x: Array, args: Args) -> Array:
    return x + (v - s) * drift(s, x, args)


def _process(
    start: StartLaw, ways: tuple[Partial, Partial], sigma: Callable[..., Array], ts: Array, params: Params
) -> Process:
    forward, against = (Partial(way, params) for way in ways)
    noise = Partial(sigma, params["noise"])
    drift, diffusion = (Partial(controlled.flipped, f, _T) for f in (against, noise))
    return Process(start, SDE(forward, noise, _T), ts, controlled.backward_sde(drift, diffusion, _T, _backward_mean))


@documented(SAMPLER)
def cmcd(
    log_density: LogDensity,
    network: NetworkLike | None = None,
    *,
    scale: float = 1.0,
    sigma: float | None = None,
    **options: Unpack[SamplerOptions],
) -> Method:
    """Controlled Monte Carlo diffusions, on the clock [0, 1].

    Args:
        scale: standard deviation of the start, wide enough for the target.
        sigma: noise before training; None: ``scale``.
        **options: what follows; the default grid has 100 even steps.

    Returns:
        A Method without data: ``fit(method, bj.data.NoData(512), key, steps=...)``. ``bj.sample`` draws from its
        Process, ``bj.log_weights(process, keys, log_density)`` gives weights for ``bj.weights``.

    Raises:
        ValueError: an unknown loss, a density or network that does not fit dim, a density without a gradient where one
            is needed, a grid that does not run from 0 to T, ``gradient=False``.

    Example:
        >>> import bridgejax as bj, jax
        >>> method = bj.methods.cmcd(lambda x: -(x @ x), dim=2)
        >>> state = jax.eval_shape(method.init, jax.random.key(0), None)
        >>> draw = lambda state, key: bj.sample(method.process(state), bj.keys(key, 5))
        >>> jax.eval_shape(draw, state, jax.random.key(1)).shape  # once fitted: draw(state, key)
        (5, 2)
    """
    sigma = scale if sigma is None else sigma
    check_number(scale=scale, sigma=sigma)
    check_positive(scale=scale, sigma=sigma)
    spec = controlled.check_options(log_density, network, grids.uniform(100), options, "cmcd")
    noise = Partial(controlled.scaled_diffusion, Partial(constant, sigma), spec.ts)
    ways = tuple(
        Partial(partial(_push, spec.apply, sign), spec.log_density, scale, spec.ts, noise) for sign in (1.0, -1.0)
    )
    make = Partial(_process, starts.normal((spec.dim,), scale), ways, noise, spec.ts)
    params = controlled.first_params(spec, anneal=jnp.zeros(spec.ts.shape[0] - 1))
    return controlled.learn(spec, make, params, Partial(level, spec.log_density, scale, spec.ts))
