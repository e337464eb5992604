"""Riemannian flow matching: regress on the velocity of a path from a uniform point to a data point.

    geodesic    x_t = exp_(x_0)(t log_(x_0) x_1),          x_0 uniform, x_1 data
    projected   x_t = project((1 - t) z + t x_1),          z normal, so that project(z) is uniform
    learn       min E |v(t, x_t) - d x_t / dt|^2
    sample      dx = v(t, x) dt from the uniform law, by geodesic steps
    likelihood  log p(x) = -log vol - int div v, the Riemannian divergence

The projected path takes no logarithm: on a group one singular value decomposition, whose derivative is elementwise.
(Chen & Lipman 2024, Flow Matching on General Geometries, arXiv 2302.03660, the geodesic path.)
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import Partial

from bridgejax._numerics import linear_combination, normal_like
from bridgejax._types import Args, Batch, Field, Key, Numbers, Params, Scalar, State
from bridgejax.geometry.manifolds import SO, Manifold, Sphere, U
from bridgejax.methods._arguments import NetworkLike
from bridgejax.methods._setup import Setup
from bridgejax.methods.manifolds import RiemannianFlow
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
from bridgejax.processes import SDE, Process, starts
from bridgejax.processes._keys import streams
from bridgejax.solve import grids
from bridgejax.training import Method, adam

PATHS = ("geodesic", "projected")


def geodesic(manifold: Manifold, t: Scalar, x0: State, x1: State) -> tuple[State, State]:
    """The point at t of the geodesic from x0 (0) to x1 (1), and its velocity there."""
    v = manifold.log(x0, x1)
    return jax.jvp(lambda t: manifold.exp(x0, linear_combination((t, v))), (t,), (jnp.ones_like(t),))


def projected_path(manifold: Manifold, t: Scalar, z: State, x1: State) -> tuple[State, State]:
    """The projection of the line from z (0) to x1 (1) at t, and its velocity there."""
    line = linear_combination((1.0 - t, z), (t, x1))
    return jax.jvp(manifold.project, (line,), (linear_combination((1.0, x1), (-1.0, z)),))


def _normal(key: Key, like: Array) -> Array:
    """Normal numbers shaped like a point, of the size of one."""
    z = normal_like(key, like)
    return z * jnp.sqrt(jnp.sum(jnp.square(like)) / z.size)


def riemannian_flow(
    manifold: Manifold,
    network: NetworkLike | None = None,
    *,
    path: str = "geodesic",
    time_sampler: TimeSampler | None = None,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = 0.999,
    accumulate: int = 1,
    ts: Numbers | None = None,
) -> Method:
    """Riemannian flow matching as a Method.

    Args:
        manifold: one of ``bridgejax.manifolds``, of finite volume.
        network: a flax.nnx module or ``(apply, params)``, from ``manifold.features(x)`` to as many numbers as a point
            has, whose tangent part is used; None: an MLP.
        path: "geodesic", or "projected" on ``Sphere``, ``SO`` and ``U``: cheaper on large groups, and without the
            jumps of a logarithm.
        time_sampler: see ``objectives.times``; default uniform on [0, 1].
        optimizer: optax transformation; default Adam at 1e-3 with gradients clipped to norm 1.
        ema: decay of the averaged parameters that the process uses; None: none.
        accumulate: micro-batches per update.
        ts: grid of the process, from 0 (uniform) to 1 (data); default 50 even steps.

    Returns:
        A Method whose data are points of the manifold with a leading axis, or dictionaries ``x``, ``args``.

    Raises:
        ValueError: no manifold or one of infinite volume; points off it; an unknown path, or a projected one elsewhere.
    """
    check_manifold(manifold)
    if path not in PATHS:
        raise ValueError(f"path must be one of {PATHS}, got {path!r}")
    if path == "projected" and not isinstance(manifold, Sphere | SO | U):
        raise ValueError(f"path='projected' is for Sphere, SO and U, got {manifold!r}; use path='geodesic'")
    apply, initial = field_network(manifold, network)
    sampler = times.uniform(0.0, 1.0) if time_sampler is None else time_sampler

    def one(network: Field, key: Key, t: Array, x1: State, args: Args) -> Array:
        if path == "geodesic":
            x, velocity = geodesic(manifold, t, manifold.uniform(key), x1)
        else:
            x, velocity = projected_path(manifold, t, _normal(key, x1), x1)
        return square(manifold, x, field(manifold, network, t, x, args), velocity)

    def loss(params: Params, keys: Array, batch: Batch) -> tuple[Array, dict[str, Array]]:
        x, args = points(manifold, batch)
        parts = streams(keys, "loss", 2)
        return jnp.mean(
            jax.vmap(one, (None, 0, 0, 0, 0))(Partial(apply, params), parts[:, 1], sampler(parts[:, 0]), x, args)
        ), {}

    def process(params: Params) -> Process:
        flow = SDE(Partial(field, manifold, Partial(apply, params)), None, manifold=manifold)
        return Process(starts.uniform(manifold), flow, grids.uniform(50) if ts is None else jnp.asarray(ts))

    optimizer = adam(schedule="constant") if optimizer is None else optimizer
    return manifold_method(manifold, loss, process, optimizer, ema, accumulate, initial)


# by name --------------------------------------------------------------------------------------------------------------


def build(options: RiemannianFlow, setup: Setup) -> Method:
    """``riemannian_flow`` by its options."""
    manifold = manifold_of(setup)
    ts = grids.uniform(options.sample_steps or 50)
    return riemannian_flow(manifold, network_of(setup, manifold), path=options.path, ts=ts, **fitted(setup))
