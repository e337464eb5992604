"""Matching x-bridges: regress a drift on those of diffusions that end at the data.

    L(theta) = E_t E_{X ~ data} E_{Z_t ~ Q^X} w(t) |s_theta(t, Z_t) - b(t, Z_t | X)|^2

With w = 1 / (2 g^2) and t uniform it is, up to a constant, KL(mixture of bridges || model), which bounds that of the
ends (Liu, Wu, Ye & Liu 2022, arXiv 2208.14699). The minimiser is the Markov projection, ``x_bridges.projection``.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from bridgejax._types import Args, Batch, Loss, Metrics, Network, Params
from bridgejax.bridges.x_bridges import XBridge, check_bridge
from bridgejax.objectives._matching import check_functions, ends, squared_error, time_weight
from bridgejax.objectives.times import TimeSampler, uniform
from bridgejax.processes._keys import streams


def bridge_loss(
    bridge: XBridge,
    apply: Network,
    *,
    times: TimeSampler | None = None,
    weight: Callable[[Array], Array] | None = None,
) -> Loss:
    """The matching loss of a drift ``apply(params, t, z, args)`` as ``loss(params, keys, batch) -> (mean, metrics)``.

    Args:
        bridge: an XBridge with a closed marginal, from which the states are drawn.
        apply: the drift to learn, for one sample.
        times: how t is drawn; default uniform on [0, (1 - 1e-3) T], as b(t, z | x) grows without bound at T.
        weight: w(t); default 1.

    Returns:
        A function of ``params``, ``keys`` (one per sample) and a batch of data (an array, or ``x`` and ``args``).

    Raises:
        ValueError: a bridge with an extra drift, whose states cannot be drawn; a batch with a source.
    """
    check_bridge(bridge)
    if bridge.marginal_fn is None:
        raise ValueError("bridge must have a closed marginal to draw states from; one with an extra drift has none")
    check_functions(apply, times, weight)
    times = uniform(0.0, (1.0 - 1e-3) * bridge.T) if times is None else times
    weight = time_weight(times, weight)

    def one(params: Params, key: Array, t: Array, x: Array, args: Args) -> Array:
        z = bridge.draw(key, t, x)
        error = squared_error(apply(params, t, z, args), bridge.drift(t, z, x))
        return error if weight is None else weight(t) * error

    def loss(params: Params, keys: Array, batch: Batch) -> tuple[Array, Metrics]:
        x, _, args = ends(None, batch)
        parts = streams(keys, "loss", 2)
        losses = jax.vmap(one, (None, 0, 0, 0, 0))(params, parts[:, 1], times(parts[:, 0]), x, args)
        return jnp.mean(losses), {}

    return loss
