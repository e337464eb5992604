"""A mixture of bridges on a manifold: learn where the process that is pulled to its end points is going.

    bridge      dX = log_X(x_1) / (1 - t) dt + sigma dB,    X_0 uniform,  x_1 data
    learn       m(t, x) = E[log_X(x_1) | X_t = x]
    sample      dX = m(t, X) / (1 - t) dt + sigma dB, whose marginals are the mixture's; the last step ends at exp_X(m)

(Jo & Hwang 2024, Generative Modeling on Manifolds Through Mixture of Riemannian Diffusion Processes, arXiv 2310.07216.)
X_t is drawn by walking the bridge from 0 to t, as many steps for every sample.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import check_count, check_number, check_positive
from bridgejax._numerics import linear_combination
from bridgejax._types import Args, Batch, Field, Key, Numbers, Params, Scalar, State
from bridgejax.geometry.manifolds import Manifold
from bridgejax.methods._arguments import NetworkLike
from bridgejax.methods._setup import Setup
from bridgejax.methods.manifolds import ManifoldBridge
from bridgejax.methods.manifolds._fields import (
    check_manifold,
    field,
    field_network,
    fitted,
    manifold_method,
    manifold_of,
    network_of,
    points,
    square,
)
from bridgejax.objectives import times
from bridgejax.objectives.times import TimeSampler
from bridgejax.processes import SDE, Kernel, Process, starts
from bridgejax.processes._keys import streams
from bridgejax.processes.noise import constant
from bridgejax.solve import grids
from bridgejax.training import Method, adam


def bridge_walk(manifold: Manifold, key: Key, x0: State, x1: State, t: Scalar, sigma: Scalar, steps: int) -> State:
    """The bridge from x0 to x1 at time t, by geodesic steps that take its pull exactly: (1 - u) / (1 - s) is left."""
    ends = t * jnp.linspace(0.0, 1.0, steps + 1)

    def step(x: State, given: tuple[Key, Array, Array]) -> tuple[State, None]:
        k, s, u = given
        pull, spread = (u - s) / (1.0 - s), sigma * jnp.sqrt((u - s) * (1.0 - u) / (1.0 - s))
        v = linear_combination((pull, manifold.log(x, x1)), (spread, manifold.tangent_normal(k, x)))
        return manifold.exp(x, v), None

    return jax.lax.scan(step, x0, (jax.random.split(key, steps), ends[:-1], ends[1:]))[0]


def _drift(manifold: Manifold, network: Field, t: Array, x: State, args: Args) -> State:
    return linear_combination((1.0 / (1.0 - t), field(manifold, network, t, x, args)))


def _terminal_sample(manifold: Manifold, network: Field, key: Key, t: Array, u: Array, x: State, args: Args) -> State:
    return manifold.exp(x, field(manifold, network, t, x, args))


def manifold_bridge(
    manifold: Manifold,
    network: NetworkLike | None = None,
    *,
    sigma: float = 1.0,
    walk: int = 15,
    time_sampler: TimeSampler | None = None,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = 0.999,
    accumulate: int = 1,
    ts: Numbers | None = None,
) -> Method:
    """A mixture of manifold bridges as a Method.

    Args:
        manifold: one of ``bridgejax.manifolds``, of finite volume.
        network: a flax.nnx module or ``(apply, params)``, from ``manifold.features(x)`` to as many numbers as a point
            has, whose tangent part is used; None: an MLP.
        sigma: noise of the bridges per square root of unit time, in units of distance.
        walk: steps with which a bridge is walked to the time at which it is matched.
        time_sampler: see ``objectives.times``; default uniform on [0, 1 - 1e-3].
        optimizer: optax transformation; default Adam at 1e-3 with gradients clipped to norm 1.
        ema: decay of the averaged parameters that the process uses; None: none.
        accumulate: micro-batches per update.
        ts: grid of the process, from 0 (uniform) to 1 (data); default 100 even steps.

    Returns:
        A Method whose data are points of the manifold with a leading axis, or dictionaries ``x``, ``args``.

    Raises:
        ValueError: no manifold or one of infinite volume, points off it, sigma not positive.
    """
    check_manifold(manifold)
    check_number(sigma=sigma)
    check_positive(sigma=sigma)
    check_count("walk", walk)
    apply, initial = field_network(manifold, network)
    sampler = times.uniform(0.0, 1.0 - 1e-3) if time_sampler is None else time_sampler

    def one(network: Field, keys: Array, t: Array, x1: State, args: Args) -> Array:
        x = bridge_walk(manifold, keys[1], manifold.uniform(keys[0]), x1, t, sigma, walk)
        return square(manifold, x, field(manifold, network, t, x, args), manifold.log(x, x1))

    def loss(params: Params, keys: Array, batch: Batch) -> tuple[Array, dict[str, Array]]:
        x, args = points(manifold, batch)
        parts = streams(keys, "loss", 3)
        return jnp.mean(
            jax.vmap(one, (None, 0, 0, 0, 0))(Partial(apply, params), parts[:, 1:], sampler(parts[:, 0]), x, args)
        ), {}

    def process(params: Params) -> Process:
        bound = manifold, Partial(apply, params)
        terminal = Kernel(Partial(_terminal_sample, *bound))
        diffusion = Partial(constant, jnp.asarray(sigma, float))
        sde = SDE(Partial(_drift, *bound), diffusion, terminal_kernel=terminal, manifold=manifold)
        return Process(starts.uniform(manifold), sde, grids.uniform(100) if ts is None else jnp.asarray(ts))

    optimizer = adam(schedule="constant") if optimizer is None else optimizer
    return manifold_method(manifold, loss, process, optimizer, ema, accumulate, initial)


# by name --------------------------------------------------------------------------------------------------------------


def build(options: ManifoldBridge, setup: Setup) -> Method:
    """``manifold_bridge`` by its options."""
    manifold = manifold_of(setup)
    ts = grids.uniform(options.sample_steps or 100)
    return manifold_bridge(manifold, network_of(setup, manifold), sigma=options.sigma, ts=ts, **fitted(setup))
