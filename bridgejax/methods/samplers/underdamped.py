"""Underdamped bridges: annealed Hamiltonian dynamics whose velocities are refreshed by learnt kernels.

    pi_t ~ p_0^(1 - beta(t)) rho^beta(t),  beta from 0 to 1 learnt,  p_0 = N(0, scale^2),  v ~ N(0, I) at both ends

    forward    v1 = a v + sqrt(2 g) h u(t, x, v) + sqrt(1 - a^2) noise,  a = e^(-g h);  then one leapfrog step of
               grad log pi over the time h
    back       the leapfrog step undone;  v = a v1 + sqrt(2 g) h w(t, x, v1) + sqrt(1 - a^2) noise

The friction g and every h are learnt too. A leapfrog step keeps volumes and is undone exactly, so the weight of a path
is a ratio of Gaussians of velocities, and E[exp w] = Z whatever was learnt. Training by weights holds the v1 that were
drawn, and x follows the step sizes; that stores one state a step. The default loss is the log derivative: the gradient
of log variance is not that of KL where the backward law and the steps are learnt too, and moved the paths to where w is
flat (log Z of a posterior was low by 0.6 with a standard error of 0.02). With u = w = 0 this is uncorrected Hamiltonian
annealing. u and w are free of each other: no control of the velocity alone makes the pi_t the marginals,
since for that x would have to jump. grad log pi is shortened as in ``samplers._path_sampler``, at the radius h, and the
controls are no longer than 10 sqrt(d / T), T the time of all steps before training.
(Geffner & Domke 2023, arXiv 2208.07698; Blessing, Berner, Richter & Neumann 2025, arXiv 2503.01006.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Unpack

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import check_number, check_positive
from bridgejax._numerics import as_wide
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Args, LogDensity, Network, Params, Scalar, StartLaw, State, TimeFn
from bridgejax.methods._arguments import NetworkLike, documented
from bridgejax.methods.samplers import _losses as sampling
from bridgejax.methods.samplers import _path_sampler as controlled
from bridgejax.methods.samplers._path_sampler import SAMPLER, SamplerOptions
from bridgejax.methods.samplers.cmcd import annealed, share
from bridgejax.oracles._target import with_velocity
from bridgejax.processes import SDE, Process
from bridgejax.processes._schedule import gaussian_log_prob
from bridgejax.solve import grids, kernels
from bridgejax.training import Method

_T = 1.0
_FRICTION, _STEP = 2.0, 0.1  # per 1 / scale of time, and in units of scale


@partial(register_dataclass, data_fields=("scale",), meta_fields=("dim",))
@dataclass(frozen=True)
class PhaseStart:
    """Position N(0, scale^2 I), velocity N(0, I)."""

    dim: int
    scale: Scalar

    __repr__ = summary

    def __call__(self, key: Array, args: Args = None) -> tuple[Array, Array]:
        """A draw (x, v)."""
        x, v = jax.random.normal(key, (2, self.dim))
        return self.scale * x, v

    def log_prob(self, z: tuple[Array, Array], args: Args = None) -> Array:
        """Its log density."""
        return gaussian_log_prob(z[0], 0.0, jnp.asarray(self.scale**2)) + gaussian_log_prob(z[1], 0.0, jnp.ones(()))


def _clock(ts: Array, steps: Array, t: Array) -> Array:
    return jnp.interp(t, ts, jnp.concatenate([jnp.zeros(1), jnp.cumsum(jnp.exp(steps))]))


def _force(log_density: LogDensity, scale: Scalar, ts: Array, params: Params, t: Array, x: Array, args: Args) -> Array:
    radius = jnp.interp(t, ts[1:], jnp.exp(params["clock"]))
    log_pi = Partial(annealed, log_density, scale, share(ts, params["anneal"], t))
    return sampling.guarded(Partial(controlled.score, log_pi, radius), x)


def _level(
    log_density: LogDensity, scale: Scalar, ts: Array, params: Params, t: Array, z: tuple[Array, Array]
) -> Array:
    return annealed(log_density, scale, share(ts, params["anneal"], t), z[0]) - 0.5 * jnp.sum(z[1] ** 2)


def _push(apply: Network, half: int, total: float, params: Params, t: Array, z: State, args: Args) -> Array:
    return controlled.clip_norm(jnp.split(apply(params, t, jnp.concatenate(z), None), 2)[half], total)


def _rate(ts: Array, steps: Array, t: Array) -> Array:
    """Time that passes per unit of the process's clock."""
    k = jnp.clip(jnp.searchsorted(ts, t, side="right") - 1, 0, ts.shape[0] - 2)
    return jnp.exp(steps[k]) / (ts[k + 1] - ts[k])


def _drift(
    force: Callable[..., Array],
    friction: Scalar,
    rate: TimeFn,
    push: Callable[..., Array],
    T: float | None,
    t: Array,
    z: State,
    args: Args,
) -> State:
    """Forward where T is None, else backward, on the clock T - t."""
    x, v = z
    sign, t = (1.0, t) if T is None else (-1.0, T - t)
    pull = sign * force(t, x, args) - friction * v + jnp.sqrt(2.0 * friction) * push(t, z, args)
    return sign * rate(t) * v, rate(t) * pull


def _diffusion(friction: Scalar, rate: TimeFn, T: float | None, t: Array, z: State, args: Args) -> State:
    noise = jnp.sqrt(2.0 * friction * rate(t if T is None else T - t))
    return jnp.zeros_like(z[0]), jnp.full_like(z[1], noise)


def _position(key: Array, z: State, args: Args) -> Array:
    return z[0]


def _process(
    start: StartLaw,
    apply: Network,
    total: float,
    log_density: LogDensity,
    scale: Scalar,
    ts: Array,
    params: Params,
    *,
    stop_gradient: bool,
) -> Process:
    force, friction = Partial(_force, log_density, scale, ts, params), jnp.exp(params["friction"])
    rate, clock = Partial(_rate, ts, params["clock"]), Partial(_clock, ts, params["clock"])
    to, fro = (Partial(partial(_push, apply, half, total), params["network"]) for half in (0, 1))
    step = kernels.underdamped(force, friction, control=to, clock=clock, T=_T, stop_gradient=stop_gradient)
    undo = kernels.underdamped(force, friction, control=fro, clock=clock, T=_T, direction="backward")
    sde, backward = (
        SDE(
            Partial(_drift, force, friction, rate, push, T),
            Partial(_diffusion, friction, rate, T),
            _T,
            kernel=law,
        )
        for push, T, law in ((to, None, step), (fro, _T, undo))
    )
    return Process(start, sde, ts, backward, _position)


@documented(SAMPLER)
def underdamped(
    log_density: LogDensity,
    network: NetworkLike | None = None,
    *,
    scale: float = 1.0,
    friction: float | None = None,
    step: float | None = None,
    **options: Unpack[SamplerOptions],
) -> Method:
    """The underdamped bridge sampler, on states (x, v) and the clock [0, 1].

    Its samples are positions. To weigh them, give the target a velocity:
    ``bj.weighted_samples(process, keys, bj.targets.with_velocity(log_density, dim))``.

    Args:
        network: of both controls: (x, v), 2 dim numbers, to (u, w), 2 dim numbers.
        scale: standard deviation of the start, wide enough for the target.
        friction: g before training, per unit of time; None: 2 / scale.
        step: h before training; None: scale / 10.
        **options: what follows; the default loss is "log_derivative", the default grid has 100 even steps.
            ``exploration_scale`` must be 1, ``replay`` and ``annealing_steps`` 0.

    Returns:
        A Method without data: ``fit(method, bj.data.NoData(512), key, steps=...)``. ``bj.sample`` draws from its
        Process, ``bj.log_weights(process, keys, log_density)`` gives weights for ``bj.weights``.

    Raises:
        ValueError: an unknown loss, a density or network that does not fit dim, a density without a gradient where one
            is needed, a grid that does not run from 0 to T, ``gradient=False``,
            or another value than those above for ``exploration_scale``, ``replay`` or ``annealing_steps``.

    Example:
        >>> import bridgejax as bj, jax
        >>> method = bj.methods.underdamped(lambda x: -(x @ x), dim=2)
        >>> state = jax.eval_shape(method.init, jax.random.key(0), None)
        >>> draw = lambda state, key: bj.sample(method.process(state), bj.keys(key, 5))
        >>> jax.eval_shape(draw, state, jax.random.key(1)).shape  # once fitted: draw(state, key)
        (5, 2)
    """
    check_number(scale=scale)
    check_positive(scale=scale)
    friction, step = _FRICTION / scale if friction is None else friction, _STEP * scale if step is None else step
    check_number(friction=friction, step=step)
    check_positive(friction=friction, step=step)
    if options.get("replay", 0) != 0:
        raise ValueError(
            "replay must be 0: an underdamped step ends where its parameters say, not where a path came by"
        )
    if options.get("annealing_steps", 0) != 0:
        raise ValueError("annealing_steps must be 0: a power of the density of (x, v) would flatten the velocities too")
    if options.get("exploration_scale", 1.0) != 1.0:
        raise ValueError("exploration_scale must be 1: the noise of an underdamped step cannot be scaled by itself")
    options = {"loss": "log_derivative", **options}
    spec = controlled.check_options(log_density, network, grids.uniform(100), options, "underdamped", copies=2)
    stop_gradient, total = spec.loss != "kl", step * (spec.ts.shape[0] - 1)
    make = Partial(
        partial(_process, PhaseStart(spec.dim, scale), spec.apply, total, stop_gradient=stop_gradient),
        spec.log_density, scale, spec.ts,
    )  # fmt: skip
    flat = jnp.zeros(spec.ts.shape[0] - 1)
    params = {
        "network": spec.params,
        "anneal": flat,
        "clock": flat + math.log(step),
        "friction": as_wide(math.log(friction)),
        "log_z": jnp.zeros(()),
    }
    target = with_velocity(spec.log_density, spec.dim)
    levels = Partial(_level, spec.log_density, scale, spec.ts)
    return controlled.learn(spec._replace(log_density=target), make, params, levels)
