"""Implicit score matching: the score of a law from its samples alone, without a target to regress on.

    J(theta) = E_t w(t) E_x [ |s|^2 / 2 + div s ],      s = net_theta(t, x),   x ~ p_t

is 1/2 E |s - grad log p_t|^2 less a constant, by parts (Hyvarinen 2005), so its minimiser is the score and its minimum
-1/2 E |grad log p_t|^2. It needs neither noise nor a Gaussian path: p_t may be the data themselves. With noise it is
half of denoising matching less a constant, |s|^2 being a sum over coordinates here and a mean in ``matching``:

    J = (d/2) L_denoising - const.

The divergence of s, with J_s its Jacobian and v independent signs, so that E v v^T = I:

    exact         sum_i e_i . J_s e_i                          d directional derivatives, d numbers in x
    hutchinson    v . J_s v,            beside |s|^2 / 2       one per probe; Song et al. 2019, arXiv 1905.07088, "VR"
    sliced        v . J_s v,            beside (v . s)^2 / 2   one per probe; the same paper, equation 7

All three have the same mean. Sliced matching looks along v alone; its variance is larger, and it is here for those who
compare. The derivative of s is differentiated again in training: a network with kinks (relu) has none there.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from bridgejax._numerics import normal_like
from bridgejax._types import Args, Batch, Loss, Metrics, Network, Params, State
from bridgejax.bridges.interpolants import Interpolant
from bridgejax.objectives._matching import (
    check_dropout,
    check_functions,
    default_times,
    drop_condition,
    ends,
    time_weight,
)
from bridgejax.objectives.times import TimeSampler
from bridgejax.processes._keys import streams
from bridgejax.weigh._divergence import DIVERGENCES, energy


def implicit(
    interpolant: Interpolant | None,
    apply: Network,
    *,
    divergence: str = "hutchinson",
    probes: int = 1,
    times: TimeSampler | None = None,
    weight: Callable[[Array], Array] | None = None,
    condition_dropout: float = 0.0,
    null: Args = None,
) -> Loss:
    """The implicit loss of a score network ``apply(params, t, x, args)``, as ``loss(params, keys, batch)``.

    The sum over all coordinates of |s|^2 / 2 + div s, averaged over the batch; it may be negative. States are arrays
    or pytrees of them.

    Args:
        interpolant: the path whose marginals' scores are learnt, with or without noise; None: the data themselves,
            at t = 0.
        apply: the network, for one sample: s(t, x), in units of 1/x.
        divergence: "exact" (d derivatives a sample; for small d), "hutchinson" or "sliced".
        probes: random directions a sample, for the latter two.
        times: how t is drawn; default that of ``matching``.
        weight: w(t); default 1. sigma^2 keeps the noise levels comparable.
        condition_dropout: share of samples that see ``null`` instead of their condition.
        null: the empty condition, shaped like ``args`` of one sample.

    Returns:
        A function of ``params``, ``keys`` (one per sample) and a batch, the mean loss and a dictionary, as ``matching``
        gives.

    Raises:
        ValueError: an unknown ``divergence``, fewer than one probe, times or weight without a path; a batch without the
            ends that the path needs; at trace time, a network whose output is not shaped like x.
    """
    if interpolant is not None and not isinstance(interpolant, Interpolant):
        raise ValueError(f"interpolant must be an Interpolant, or None for the data, got {type(interpolant).__name__}")
    check_functions(apply, times, weight)
    if not isinstance(divergence, str) or divergence not in DIVERGENCES:
        raise ValueError(f"divergence must be one of {DIVERGENCES}, got {divergence!r}")
    if isinstance(probes, bool) or not isinstance(probes, int) or probes < 1:
        raise ValueError(f"probes must be an integer of at least 1, got {probes!r}")
    if interpolant is None and not (times is None and weight is None):
        raise ValueError("times and weight belong to a path, and interpolant = None has none: leave them out")
    check_dropout(condition_dropout, null)
    if interpolant is not None:
        times = default_times(interpolant) if times is None else times
        weight = time_weight(times, weight)

    noisy = interpolant is not None and interpolant.c is not None
    dropping = condition_dropout > 0
    draws = 2 + noisy + dropping  # time, probes, and perhaps eps and the dropout

    def one(params: Params, spare: Array, t: Array, x0: State, x1: State, args: Args) -> Array:
        x = x0 if interpolant is None else interpolant(t, x0, x1, normal_like(spare[1], x0) if noisy else None)
        if args is not None and dropping:
            args = drop_condition(spare[-1], args, condition_dropout, null)
        value = energy(lambda y: apply(params, t, y, args), x, divergence, spare[0], probes)
        return value if weight is None else weight(t) * value

    def loss(params: Params, keys: Array, batch: Batch) -> tuple[Array, Metrics]:
        x0, x1, args = ends(interpolant, batch)
        parts = streams(keys, "loss", draws)
        t = jnp.zeros(len(keys)) if times is None else times(parts[:, 0])
        losses = jax.vmap(one, (None, 0, 0, 0, 0, 0))(params, parts[:, 1:], t, x0, x1, args)
        return jnp.mean(losses), {}

    return loss
