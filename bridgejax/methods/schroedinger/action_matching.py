"""Action Matching: the gradient field that moves a population from snapshot to snapshot.

    rows       neighbours x_k ~ p(t_k), x_(k+1) ~ p(t_(k+1)), paired within a batch (optimal transport)
    path       x_t = (1 - u) x_k + u x_(k+1),  u = (t - t_k) / (t_(k+1) - t_k);  with noise on a Brownian bridge
    minimise   E s(t_0, first) - E s(t_K, last) + int E[ ds/dt + |grad s|^2 / 2 ] dt
               = int E[ |grad s|^2 / 2 - grad s . x' ] dt,  by parts along the paths
    process    dx = grad s(t, x) dt  from rows of the first snapshot

The minimum is -int E |grad s*|^2 / 2 dt, where grad s* is the only gradient field with the path's marginals, that of
the least kinetic energy. (Neklyudov, Brekelmans, Severo & Makhzani 2023, arXiv 2210.06662.) Entropic:
noise^2 Delta s / 2 more within the first integral, and dx = grad s dt + noise dW. Unbalanced: s^2 / 2 more, and a row's
weight grows by d log w = s dt.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import Partial

from bridgejax._types import Batch, Metrics, Network, Numbers, Params, Shape
from bridgejax.methods._arguments import TRAINING, NetworkLike, documented
from bridgejax.methods._setup import Setup
from bridgejax.methods.schroedinger import ActionMatching
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
from bridgejax.processes import Process
from bridgejax.processes._keys import streams
from bridgejax.training import Method, adam, gradient_method


def _loss(
    apply: Network,
    shape: Shape,
    clock: Clock,
    noise: float,
    how: str,
    params: Params,
    keys: Array,
    batch: Batch,
    *,
    growth: bool,
) -> tuple[Array, Metrics]:
    """The mean action; row i draws from keys[i] alone."""
    potential = partial(value_of, apply, clock, params)

    def one(row: Row, parts: Array) -> Array:
        share = jax.random.uniform(parts[0], (), row.start.dtype)
        place = between(row, share, noise, drawn_noise(parts[1], row))
        return action(potential, row, place, clock, noise, how, parts[2], growth=growth)

    rows = rows_of(batch, shape, "action_matching")
    rows = rows if growth else rows._replace(mass=jnp.ones_like(rows.mass))
    return jnp.mean(jax.vmap(one)(rows, streams(keys, "loss", 3))), {}


@documented(SNAPSHOTS, TRAINING)
def action_matching(
    network: NetworkLike | None = None,
    *,
    shape: tuple[int, ...],
    times: Numbers = (0.0, 1.0),
    noise: float = 0.0,
    unbalanced: bool = False,
    source: Numbers | None = None,
    source_weights: Numbers | None = None,
    divergence: str | None = None,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = 0.999,
    accumulate: int = 1,
    ts: Numbers | None = None,
) -> Method:
    """Action Matching as a Method: from samples at several times to a process that runs through them.

    ``bj.stop(process, t)`` is the process up to a time between the snapshots. (Neklyudov, Brekelmans, Severo & Makhzani
    2023, Action matching: learning stochastic dynamics from samples, arXiv 2210.06662.)

    Args:
        network: of the potential s, a flax.nnx module or ``(apply, params)`` that returns one number, and is smooth
            (None: an MLP); it sees the clock from 0 to 1.
        noise: sigma of the entropic form, per square root of unit time; then paths between snapshots are Brownian
            bridges and the process is an SDE. 0: an ODE.
        unbalanced: whether mass may grow and vanish; the states of the process are then ``{"x", "log_weight"}``.

    Returns:
        A Method whose data are ``data.Snapshots``, or batches of it.

    Raises:
        ValueError: times that do not increase, negative noise, a network that returns more than a number; at trace time
            batches that are not of snapshots.

    Example:
        >>> import bridgejax as bj, jax, numpy as np
        >>> rows = np.random.default_rng(0).normal(size=(3, 40, 2)).astype(np.float32)
        >>> data = bj.data.Snapshots([0.0, 1.0, 3.0], [rows[0], rows[1] + 1.0, rows[2] + 3.0])
        >>> method = bj.methods.action_matching(shape=(2,), times=data.times, source=data.arrays[0])
        >>> state = jax.eval_shape(method.init, jax.random.key(0), None)
        >>> draw = lambda state, key: bj.sample(bj.stop(method.process(state), 2.0), bj.keys(key, 5))
        >>> jax.eval_shape(draw, state, jax.random.key(1)).shape  # once fitted, at time 2: draw(state, key)
        (5, 2)
    """
    check_noise(noise)
    if not isinstance(unbalanced, bool):
        raise ValueError(f"unbalanced must be True or False, got {unbalanced!r}")
    clock = check_clock(times)
    shape, start = begin_at(source, source_weights, shape)
    apply, params = potential_of(network, shape)
    grid, how = grid_of(ts, clock), divergence_of(divergence, math.prod(shape))

    def process(params: Params) -> Process:
        potential = Partial(partial(value_of, apply, clock), params)
        return process_from(start, moved(potential, clock, noise, growth=unbalanced), grid, growth=unbalanced)

    loss = partial(_loss, apply, shape, clock, noise, how, growth=unbalanced)
    return gradient_method(loss, process, optimizer or adam(schedule="constant"), ema, accumulate, params=params)


# by name --------------------------------------------------------------------------------------------------------------


def build(options: ActionMatching, setup: Setup) -> Method:
    """``action_matching`` by its options."""
    return build_from(action_matching, [setup.network(outputs=(1,))], options, setup)
