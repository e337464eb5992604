"""From what was learnt on a two-ended path to the SDE that walks it, on the path's own (transport) clock.

    with noise      dx = drift dt + g dW,   drift = E[bridge drift | x_t],   g^2 = the bridge's reference
    without noise   dx = velocity dt,       velocity = E[d x_t / dt | x_t]

Both carry a mixture of bridges from its start law to its end law (the Markov projection: same marginals at every
time). With the predicted end E[x1 | x_t] frozen, the last interval ends there; that is the ``terminal_kernel``.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from bridgejax._types import Args, Field, State, TimeFn
from bridgejax.bridges.interpolants import Interpolant
from bridgejax.bridges.predictions import convert
from bridgejax.processes.sde import SDE, Kernel


def _diffusion(reference: TimeFn, t: Array, x: State, args: Args) -> Array:
    return jnp.sqrt(reference(jnp.asarray(t)))


def _predicted_end(end: Field, key: Array, t: Array, u: Array, x: State, args: Args) -> State:
    return end(t, x, args)


def transport(interpolant: Interpolant, network: Field, predict: str) -> SDE:
    """The SDE (or ODE, for a path without noise) from the law of x0 to the law of x1.

    Args:
        interpolant: a two-ended path; with noise it must be the bridge of a reference SDE.
        network: ``network(t, x, args)``, an estimate of E[``predict`` | x_t].
        predict: "x1", "residual", "drift" or, for a path without noise, also "x0" or "velocity".

    Returns:
        An SDE on the transport clock, from x0 at 0 to x1 at 1.

    Raises:
        ValueError: a path with one end, noise without a reference, or a prediction that does not fix the drift.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> x1 = jnp.array([3.0])
        >>> sde = bj.transport(bj.interpolants.brownian(0.5), lambda t, x, args: x1, "x1")
        >>> round(float(bj.simulate(sde, jax.random.key(0), jnp.zeros(1), bj.grids.uniform(10))[0]), 4)
        3.0
    """
    if not isinstance(interpolant, Interpolant):
        raise ValueError(f"interpolant must be an Interpolant, got {type(interpolant).__name__}")
    if interpolant.b is None:
        raise ValueError("transport needs a path with two ends; for a noising schedule use reverse or probability_flow")
    if interpolant.c is None:
        drift, diffusion = convert(interpolant, network, predict, "velocity"), None
    elif interpolant.reference is None:
        raise ValueError("this path has noise but is not the bridge of a reference SDE, so its drift is not known")
    else:
        if predict not in ("x1", "residual", "drift"):
            raise ValueError(f"predict must be 'x1', 'residual' or 'drift' on a path with noise, got {predict!r}")
        drift = convert(interpolant, network, predict, "drift")
        diffusion = Partial(_diffusion, interpolant.reference)
    terminal = Kernel(Partial(_predicted_end, convert(interpolant, network, predict, "x1")), T=interpolant.T)
    return SDE(drift, diffusion, interpolant.T, terminal_kernel=terminal)
