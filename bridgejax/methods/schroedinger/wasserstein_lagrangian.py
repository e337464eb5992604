"""Wasserstein Lagrangian flows: the path between snapshots is learnt too, as the one of least action.

    min over paths q with the snapshots as marginals, max over potentials s, of

    S(s, q) = E_(q_K) s(t_K) - E_(q_0) s(t_0) - int E_(q_t)[ ds/dt + |grad s|^2 / 2 + noise^2 Delta s / 2 - V(t, x) ] dt

    path       x_t = (1 - u) x_k + u x_(k+1) + u (1 - u) net(t, x_k, x_(k+1))    at the snapshots the rows themselves
    process    dx = grad s(t, x) dt + noise dW  from rows of the first snapshot

For a path that is held, max over s is Action Matching. Without noise and V the least action is that of optimal
transport from snapshot to snapshot, with noise that of the Schroedinger bridge, and V(t, x) is a running cost beside
|velocity|^2 / 2: a potential energy, taken from it. (Neklyudov, Brekelmans, Tong, Atanackovic, Liu & Makhzani 2024, A
computational framework for solving Wasserstein Lagrangian flows, arXiv 2310.10649.)

Both networks take their step at once: the gradient of the path's is reversed, so that one optimizer serves and a run
accumulates, averages, spreads over devices and resumes as any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import check_number, check_positive
from bridgejax._types import Batch, Metrics, Network, Numbers, Params, PyTree, Shape
from bridgejax.methods._arguments import TRAINING, NetworkLike, documented
from bridgejax.methods._setup import Setup
from bridgejax.methods.schroedinger import WassersteinLagrangian
from bridgejax.methods.schroedinger._snapshots import (
    SNAPSHOTS,
    Clock,
    Row,
    action,
    begin_at,
    between,
    build_from,
    check_clock,
    check_noise,
    divergence_of,
    drawn_noise,
    grid_of,
    moved,
    potential_of,
    process_from,
    rows_of,
    value_of,
)
from bridgejax.networks import or_mlp
from bridgejax.processes import Process
from bridgejax.processes._keys import streams
from bridgejax.training import Method, adam, gradient_method

RunningCost = Callable[[Array, Array], Array]


@jax.custom_vjp
def _reversed(tree: PyTree) -> PyTree:
    """The identity, whose gradient has the other sign."""
    return tree


_reversed.defvjp(lambda tree: (tree, None), lambda _, g: (jax.tree.map(jnp.negative, g),))


def path_at(interpolant: Network, clock: Clock, params: Params, row: Row, share: Array) -> Array:
    """The mean of the path at this share of a row's gap."""
    ends, t = jnp.concatenate([row.source, row.target], axis=-1), row.start + share * (row.end - row.start)
    line = (1.0 - share) * row.source + share * row.target
    return line + share * (1.0 - share) * interpolant(params, clock.unit(t), ends, None).reshape(line.shape)


def _loss(
    networks: tuple[Network, Network], shape: Shape, clock: Clock, noise: float, how: str, cost: RunningCost | None,
    params: Params, keys: Array, batch: Batch,
) -> tuple[Array, Metrics]:  # fmt: skip
    """-S, which the potential lessens and, its gradient reversed, the path raises."""
    apply, interpolant = networks
    potential = partial(value_of, apply, clock, params["potential"])
    path = _reversed(params["path"])

    def one(row: Row, parts: Array) -> Array:
        share = jax.random.uniform(parts[0], (), row.start.dtype)
        mean = partial(path_at, interpolant, clock, path, row)
        place = between(row, share, noise, drawn_noise(parts[1], row), mean)
        found = action(potential, row, place, clock, noise, how, parts[2], growth=False)
        return found if cost is None else found - row.weight * jnp.asarray(cost(place.t, place.x)).reshape(())

    rows = rows_of(batch, shape, "wasserstein_lagrangian")
    rows = rows._replace(mass=jnp.ones_like(rows.mass))
    return jnp.mean(jax.vmap(one)(rows, streams(keys, "loss", 3))), {}


def _slower(optimizer: optax.GradientTransformation, rate: float) -> optax.GradientTransformation:
    """The updates of the path's network times ``rate``."""

    def scaled(updates: PyTree, _: PyTree) -> PyTree:
        return {**updates, "path": jax.tree.map(lambda u: rate * u, updates["path"])}

    return optax.chain(optimizer, optax.stateless(scaled))


@documented(SNAPSHOTS, TRAINING)
def wasserstein_lagrangian(
    network: NetworkLike | None = None,
    interpolant: NetworkLike | None = None,
    *,
    shape: tuple[int, ...],
    times: Numbers = (0.0, 1.0),
    noise: float = 0.0,
    cost: RunningCost | None = None,
    path_rate: float = 0.3,
    source: Numbers | None = None,
    source_weights: Numbers | None = None,
    divergence: str | None = None,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = 0.999,
    accumulate: int = 1,
    ts: Numbers | None = None,
) -> Method:
    """Wasserstein Lagrangian flow as a Method: the path of least action through samples at several times.

    (Neklyudov, Brekelmans, Tong, Atanackovic, Liu & Makhzani 2024, A computational framework for solving Wasserstein
    Lagrangian flows, arXiv 2310.10649.)

    Args:
        network: of the potential s, a flax.nnx module or ``(apply, params)`` that returns one number, and is smooth
            (None: an MLP); it sees the clock from 0 to 1.
        interpolant: of the path, of two rows side by side along the last axis to the shape of one (None: an MLP).
        noise: of the reference, per square root of unit time: 0 for optimal transport, else the Schroedinger bridge.
        cost: ``cost(t, x)``, a running cost beside |velocity|^2 / 2, in the unit of the snapshots' times; None: none.
        path_rate: updates of the path's network as a share of the potential's.

    Returns:
        A Method whose data are ``data.Snapshots``, or batches of it; weights of rows are shares alone. Rows are best
        paired at random (``Snapshots.batches(n, coupling=couplings.independent)``) where a cost turns paths away from
        straight lines, else by optimal transport, as ``fit`` does.

    Raises:
        ValueError: times that do not increase, negative noise, a cost that is no function, a network that returns more
            than a number; at trace time batches that are not of snapshots.

    Example:
        >>> import bridgejax as bj, jax
        >>> method = bj.methods.wasserstein_lagrangian(shape=(2,), times=[0.0, 1.0, 3.0])
        >>> state = jax.eval_shape(method.init, jax.random.key(0), None)
        >>> draw = lambda state, key: bj.sample(bj.stop(method.process(state), 2.0), bj.keys(key, 5))
        >>> jax.eval_shape(draw, state, jax.random.key(1)).shape  # once fitted, at time 2: draw(state, key)
        (5, 2)
    """
    check_noise(noise)
    check_number(path_rate=path_rate)
    check_positive(path_rate=path_rate)
    if cost is not None and not callable(cost):
        raise ValueError(f"cost must be a function cost(t, x), or None, got {type(cost).__name__}")
    clock = check_clock(times)
    shape, start = begin_at(source, source_weights, shape)
    if not shape:
        raise ValueError("shape must have an axis, along which two rows are shown side by side; use (1,) for numbers")
    apply, params = potential_of(network, shape)
    along, path = or_mlp(interpolant, (*shape[:-1], 2 * shape[-1]), outputs=shape)
    grid, how = grid_of(ts, clock), divergence_of(divergence, math.prod(shape))

    def process(params: Params) -> Process:
        potential = Partial(partial(value_of, apply, clock), params["potential"])
        return process_from(start, moved(potential, clock, noise, growth=False), grid, growth=False)

    loss = partial(_loss, (apply, along), shape, clock, noise, how, cost)
    optimizer = _slower(optimizer or adam(schedule="constant"), path_rate)
    both = {"potential": params, "path": path}
    return gradient_method(loss, process, optimizer, ema, accumulate, params=both)


# by name --------------------------------------------------------------------------------------------------------------


def build(options: WassersteinLagrangian, setup: Setup) -> Method:
    """``wasserstein_lagrangian`` by its options."""
    networks = [setup.network(outputs=(1,)), setup.network(views=2)]
    return build_from(wasserstein_lagrangian, networks, options, setup)
