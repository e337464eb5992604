"""Riemannian score matching: noise by Brownian motion on the manifold, learn the score, reverse.

    noise       dX = g(t) dB,    I(t) = int_0^t g^2:    the heat kernel p(I, x_0, x)
    learn       s(t, x) = grad log p_t(x) = E[grad log p(I, x_0, x) | x]
    sample      dX = g^2 s ds + g dB from the uniform law, on s = T - t, or its probability flow (exact likelihood)

    heat_kernel   min E v |s - grad log p(I, x_0, x_t)|^2            torus, S^2, SO(3): both series of the kernel
    varadhan      min E v |s - log_(x_t) x_0 / I|^2                  its limit I -> 0, on any manifold; biased beyond
    implicit      min E v (|s|^2 / 2 + div s), Hutchinson's estimate on any manifold, no kernel

with v = 1 - e^-I, and the network sqrt(v) s. (De Bortoli et al. 2022, Riemannian Score-Based Generative Modelling,
arXiv 2202.02763.)
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import check_count
from bridgejax._numerics import linear_combination
from bridgejax._types import Args, Batch, Field, Numbers, Params, Scalar, State
from bridgejax.bridges._reverse import probability_flow, reverse
from bridgejax.geometry.manifolds import SO, Manifold, Product, Sphere, Torus
from bridgejax.methods._arguments import NetworkLike
from bridgejax.methods._setup import Setup
from bridgejax.methods.manifolds import RiemannianScore
from bridgejax.methods.manifolds._fields import (
    FIRST,
    SAMPLERS,
    brownian_walk,
    check_manifold,
    field,
    field_network,
    fitted,
    manifold_method,
    manifold_of,
    network_of,
    points,
    root_grid,
    square,
    zero_drift,
)
from bridgejax.objectives import times
from bridgejax.objectives.times import TimeSampler
from bridgejax.oracles import heat
from bridgejax.processes import SDE, Process, Schedule, schedules, starts
from bridgejax.processes._keys import streams
from bridgejax.processes._schedule import schedule_diffusion
from bridgejax.training import Method, adam
from bridgejax.weigh._divergence import divergence

TARGETS = ("heat_kernel", "varadhan", "implicit")
_NEAR = 1e-3  # angle below which the slope of log p over the angle is that at this angle
_KERNELS = {Sphere(2): heat.sphere_log_prob, SO(3): heat.rotation_log_prob}


def has_kernel(manifold: Manifold) -> bool:
    """Whether the heat kernel is known."""
    if isinstance(manifold, Product):
        return all(map(has_kernel, manifold.parts))
    return isinstance(manifold, Torus) or manifold in _KERNELS


def kernel_score(manifold: Manifold, x: State, x0: State, variance: Scalar) -> State:
    """grad_x log p(variance, x0, x) of the heat kernel, where it is known."""
    if isinstance(manifold, Product):
        return tuple(kernel_score(part, a, b, variance) for part, a, b in zip(manifold.parts, x, x0, strict=True))
    if isinstance(manifold, Torus):
        return jax.vmap(jax.grad(heat.circle_log_prob), (0, None))(manifold.log(x0, x), variance)
    towards = manifold.log(x, x0)
    angle = jnp.maximum(jnp.sqrt(jnp.maximum(manifold.inner(x, towards, towards), 1e-20)), _NEAR)
    slope = jax.grad(_KERNELS[manifold])(angle, variance)
    return -slope / angle * towards


def varadhan_score(manifold: Manifold, x: State, x0: State, variance: Scalar) -> State:
    """log_x x0 / variance: grad log p to leading order for small variance."""
    return linear_combination((1.0 / variance, manifold.log(x, x0)))


def _weight(schedule: Schedule, t: Scalar) -> Array:
    return -jnp.expm1(-schedule.variance(0.0, t))


def _score(manifold: Manifold, schedule: Schedule, network: Field, t: Array, x: State, args: Args) -> State:
    t = jnp.maximum(t, FIRST * schedule.T)
    return linear_combination((jax.lax.rsqrt(_weight(schedule, t)), field(manifold, network, t, x, args)))


def riemannian_score(
    manifold: Manifold,
    network: NetworkLike | None = None,
    *,
    target: str | None = None,
    schedule: Schedule | None = None,
    walk: int = 10,
    time_sampler: TimeSampler | None = None,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = 0.999,
    accumulate: int = 1,
    sampler: str = "ode",
    ts: Numbers | None = None,
) -> Method:
    """Riemannian score matching as a Method.

    Args:
        manifold: one of ``bridgejax.manifolds``, of finite volume.
        network: a flax.nnx module or ``(apply, params)``, from ``manifold.features(x)`` to as many numbers as a point
            has, whose tangent part is used; None: an MLP. Its clock is the noising clock.
        target: what the network regresses on: "heat_kernel", the score of Brownian motion's density; "varadhan", its
            small-time limit log_x(x0) / variance; "implicit", by divergences; None: the kernel where it is known, else
            implicit. Varadhan's is biased where noise is not small beside the manifold: on a cap of S^2 with
            E cos = 0.741 its samples have 0.934.
        schedule: of the noise, with alpha = 1; default ``schedules.karras(10**0.5)``, I = t^2 up to 10.
        walk: steps of the random walk that draws x_t; one on a torus, where it is exact.
        time_sampler: see ``objectives.times``; default uniform on the clock, less its first 2e-3.
        optimizer: optax transformation; default Adam at 1e-3 with gradients clipped to norm 1.
        ema: decay of the averaged parameters that the process uses; None: none.
        accumulate: micro-batches per update.
        sampler: "ode" (probability flow, which has a ``log_prob``) or "sde" (reverse SDE).
        ts: grid of the process on s = T - t; default 100 steps, finer near the data, up to t = 2e-3 T.

    Returns:
        A Method whose data are points of the manifold with a leading axis, or dictionaries ``x``, ``args``.

    Raises:
        ValueError: no manifold or one of infinite volume, points off it, an unknown target or sampler, a heat kernel
            that is not known, a schedule whose alpha is not 1.
    """
    check_manifold(manifold)
    target = ("heat_kernel" if has_kernel(manifold) else "implicit") if target is None else target
    if target not in TARGETS:
        raise ValueError(f"target must be one of {TARGETS} or None, got {target!r}")
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler must be one of {SAMPLERS}, got {sampler!r}")
    if target == "heat_kernel" and not has_kernel(manifold):
        raise ValueError(f"the heat kernel of {manifold!r} is not known here; use target='varadhan' or 'implicit'")
    check_count("walk", walk)
    schedule = schedules.karras(math.sqrt(10.0)) if schedule is None else schedule
    if not isinstance(schedule, Schedule) or abs(float(schedule.alpha(schedule.T)) - 1.0) > 1e-6:
        raise ValueError("schedule must have alpha = 1, Brownian motion with a clock: schedules.karras, ve or brownian")
    T, first = schedule.T, FIRST * schedule.T
    apply, initial = field_network(manifold, network, T)
    sampler_of_times = times.uniform(first, T) if time_sampler is None else time_sampler

    def one(network: Field, keys: Array, t: Array, x0: State, args: Args) -> Array:
        variance, v = schedule.variance(0.0, t), _weight(schedule, t)
        x = brownian_walk(manifold, keys[0], x0, variance, walk)
        if target == "implicit":
            probe = jax.tree.map(lambda leaf: jax.random.rademacher(keys[1], leaf.shape, leaf.dtype), x)
            found, trace = divergence(lambda x: field(manifold, network, t, x, args), x, probe, manifold)
            return 0.5 * square(manifold, x, found) + jnp.sqrt(v) * trace / manifold.dim
        wanted = (kernel_score if target == "heat_kernel" else varadhan_score)(manifold, x, x0, variance)
        found = field(manifold, network, t, x, args)
        return square(manifold, x, found, linear_combination((jnp.sqrt(v), wanted)))

    def loss(params: Params, keys: Array, batch: Batch) -> tuple[Array, dict[str, Array]]:
        x, args = points(manifold, batch)
        parts = streams(keys, "loss", 3)
        t = sampler_of_times(parts[:, 0])
        return jnp.mean(jax.vmap(one, (None, 0, 0, 0, 0))(Partial(apply, params), parts[:, 1:], t, x, args)), {}

    def process(params: Params) -> Process:
        noising = SDE(zero_drift, Partial(schedule_diffusion, schedule), T, manifold=manifold)
        score = Partial(_score, manifold, schedule, Partial(apply, params))
        sde = (probability_flow if sampler == "ode" else reverse)(noising, score)
        grid = root_grid(T, 100) if ts is None else jnp.asarray(ts)
        return Process(starts.uniform(manifold), sde, grid, noising)

    optimizer = adam(schedule="constant") if optimizer is None else optimizer
    return manifold_method(manifold, loss, process, optimizer, ema, accumulate, initial)


# by name --------------------------------------------------------------------------------------------------------------


def build(options: RiemannianScore, setup: Setup) -> Method:
    """``riemannian_score`` by its options."""
    manifold, schedule = manifold_of(setup), schedules.karras(math.sqrt(10.0))
    return riemannian_score(
        manifold,
        network_of(setup, manifold, schedule.T),
        target=options.target,
        schedule=schedule,
        sampler=options.sampler,
        ts=root_grid(schedule.T, options.sample_steps or 100),
        **fitted(setup),
    )
