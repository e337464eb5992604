"""A nonlinear SDE conditioned on its end, by a learnt correction of the guide: grad log h = r + network.

    dx = [b + a (r(t, x; v) + network(t, x, v))] dt + G dW,    x_0 = start,  x_T = v,       a = G G^T

r is the guide of a linear auxiliary (bridges/guided.py), singular at T as grad log h is, so that the network learns
what is smooth. Three ways to learn it, one signature (objectives/conditioning.py has the losses):

    kind        learns from                      suits                         does not suit
    "guided"    its own paths, by reverse KL     rare ends, partial or noisy   several routes to the end (mode-seeking)
                                                 observations, any noise
    "forward"   free paths, then backward ones   likely ends                   rare ends: training never visits them
    "adjoint"   weighted adjoint paths from v    short times, likely ends      ends from which -b explodes (fit stops),
                                                                               long times: uneven weights

(Neural guided bridges: Yang, van der Meulen & Sommer 2025, arXiv 2502.11909; Heng et al., arXiv 2111.07243; Baker et
al., arXiv 2407.15455.) Whatever the network has learnt, ``weighted_paths`` of the Process are exact once weighted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.tree_util import Partial
from jax.typing import ArrayLike

from bridgejax._checks import as_real, check_finite, is_real
from bridgejax._numerics import as_time, as_wide
from bridgejax._types import Args, Batch, Decoder, Field, Metrics, Network, Numbers, Params, State
from bridgejax.bridges import Observation, guide, reverse
from bridgejax.bridges.guided import Bridge, Guided, dense_diffusion
from bridgejax.methods._arguments import TRAINING, NetworkLike, documented
from bridgejax.methods.conditioning import _losses as conditioning
from bridgejax.methods.conditioning._losses import Sketch
from bridgejax.networks import or_mlp
from bridgejax.processes import SDE, Kernel, LinearSDE, Process, starts
from bridgejax.processes.sde import check_flat, check_sde
from bridgejax.solve import grids
from bridgejax.solve._accepted import check_times
from bridgejax.training import Method, adam, gradient_method

KINDS = ("guided", "forward", "adjoint")


def _unconditional(f: Field, t: Array, x: Array, args: Args) -> State:
    """A part of the user's SDE, which is not shown the end point."""
    return f(t, x, None)


def _guided(
    sde: SDE,
    start: Array,
    seen: tuple[Array | None, ArrayLike],
    auxiliary: LinearSDE | None,
    fixed: Array | None,
    control: Field,
    end: Array | None,
) -> Guided:
    operator, noise = seen
    observation = Observation(sde.T, end if fixed is None else fixed, operator, noise)
    return guide(sde, [observation], auxiliary, start=start, control=control)


def _with_control(guided: Guided, control: Field, end: Array | None) -> Guided:
    return guided.controlled(control)


def _without_args(apply: Network, params: Params, t: Array, x: Array, args: Args) -> State:
    """The network for a fixed end point: called with ``args=None``."""
    return apply(params, t, x, None)


def _loss(
    objective: Callable[..., tuple[Array, Metrics]],
    sketch: Sketch,
    apply: Network,
    fixed: Array | None,
    params: Params,
    keys: Array,
    batch: Batch,
) -> tuple[Array, Metrics]:
    wanted = sketch.seen if fixed is None else fixed.shape
    nothing = fixed is not None and is_real(batch) and jnp.shape(batch)[1:] == (0,)  # NoData
    if not nothing and (not is_real(batch) or jnp.shape(batch)[1:] != wanted):
        remedy = "; data.NoData is for a method with end=" if fixed is None else ", or data.NoData(batch_size)"
        raise ValueError(
            f"data must be an array of end points (n, {wanted[0]}), got {jax.tree.map(jnp.shape, batch)}{remedy}"
        )
    if fixed is None:
        return objective(sketch, apply, params, keys, batch)
    one = None if objective is conditioning.reverse_kl else jnp.broadcast_to(fixed, (keys.shape[0], *fixed.shape))
    return objective(sketch, apply, params, keys, one)


def _drift(make: Callable[..., Guided], control: Field, t: Array, x: Array, args: Args) -> Array:
    return make(control, args).sde.drift(t, x, args)


def _terminal_sample(
    make: Callable[..., Guided], control: Field, key: Array, t: Array, u: Array, x: Array, args: Args
) -> Array:
    return make(control, args).kernel.sample(key, t, u, x, args)


def _arrive(start: Array, key: Array, t: Array, u: Array, x: Array, args: Args) -> Array:
    return start


def _refuse_singular(sde: SDE, start: Array, kind: str) -> None:
    assert sde.diffusion is not None
    G = np.asarray(dense_diffusion(sde.diffusion(as_time(0.0), start, None), start))
    if np.linalg.matrix_rank(G) < start.size:
        raise ValueError(
            f"kind={kind!r} needs the inverse of sigma sigma^T, and the diffusion of sde has rank "
            f"{np.linalg.matrix_rank(G)} for {start.size} coordinates at the start; use kind='guided'"
        )


def _check(sde: SDE, start: Numbers, kind: str, operator: Numbers | None, noise: ArrayLike) -> Array:
    """The start, if these fit."""
    check_sde(sde)
    check_flat(sde, "conditioned")
    if sde.diffusion is None:
        raise ValueError("conditioning acts through the noise, and this sde has none (diffusion=None)")
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
    start = as_real(start, "start")
    check_finite(start=start)
    if start.ndim != 1 or start.size == 0:
        raise ValueError(f"start must have shape (d,), got {start.shape}")
    start = as_wide(start)
    if kind == "guided":
        return start
    if operator is not None or np.any(np.asarray(noise) != 0):
        raise ValueError(f"kind={kind!r} conditions on the whole end point; for operator or noise use kind='guided'")
    _refuse_singular(sde, start, kind)
    return start


@documented(TRAINING)
def conditioned(
    sde: SDE,
    network: NetworkLike | None,
    *,
    start: Numbers,
    end: Numbers | None = None,
    kind: str = "guided",
    operator: Numbers | None = None,
    noise: ArrayLike = 0.0,
    auxiliary: LinearSDE | None = None,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = 0.999,
    accumulate: int = 1,
    ts: Numbers | None = None,
    decode: Decoder | None = None,
) -> Method:
    """An SDE conditioned on its end, as a Method.

    Args:
        sde: any SDE with states of shape (d,); it is called with ``args=None``.
        network: a flax.nnx module or ``(apply, params)`` (None: ``networks.or_mlp``) with ``apply(params, t, x,
            args)`` shaped like x; args is the end point, or None where ``end`` is fixed. kind="forward" trains two
            copies of it.
        start: x_0, (d,).
        end: what is observed at T, (d,), or (p,) with an operator; None: every end point, the network's condition.
        kind: "guided", "forward" or "adjoint".
        operator: L of an observation v = L x_T + noise eps, (p, d); None: the whole state. Only kind="guided".
        noise: its standard deviation, a number or (p,); 0: exact. Only kind="guided".
        auxiliary: the guide's LinearSDE; default as in ``guide``, told the start.
        ts: grid from 0 to T, of training and of the process; default 100 even steps.

    Returns:
        A Method. Its data are end points (n, d) from the law over which the network is to hold; with ``end`` given,
        ``bj.data.NoData(batch_size)``, or that end repeated. Its Process is a ``Bridge`` whose ``args`` are the end
        points: ``weighted_paths(process, keys, ends)``, or ``sample``. For kind="forward" its ``backward`` runs
        from the end point to the start.

    Raises:
        ValueError: an unknown kind, a start, end or operator that do not fit, a diffusion without inverse where one
            is needed, an exact end that the noise does not move, a grid that does not run from 0 to T.
    """
    start = _check(sde, start, kind, operator, noise)
    grid = grids.uniform(100, sde.T) if ts is None else check_times(sde.T, ts)[0]
    if float(grid[0]) != 0.0 or abs(float(grid[-1]) - sde.T) > 1e-6 * sde.T or grid.size < 3:
        raise ValueError(f"ts must run from 0 to T = {sde.T:g} in two steps or more, got {float(grid[0]):g} to "
                         f"{float(grid[-1]):g} in {grid.size - 1}")  # fmt: skip
    plain = replace(
        sde,
        drift=Partial(_unconditional, sde.drift),
        diffusion=Partial(_unconditional, sde.diffusion),
        terminal_kernel=None,
        semilinear=None,
        kernel=None,
    )
    seen_shape = start.shape if operator is None else (np.shape(operator)[0],)
    fixed = None if end is None else as_real(end, "end").astype(start.dtype)
    if fixed is not None and fixed.shape != seen_shape:
        raise ValueError(f"end must have shape {seen_shape}, got {fixed.shape}")
    operator = None if operator is None else as_real(operator, "operator")
    make = Partial(_guided, plain, start, (operator, noise), auxiliary, fixed)
    trial = make(None, jnp.zeros(seen_shape) if fixed is None else None)  # guide checks the rest
    if fixed is not None:  # made once: everything about the end is known
        make = Partial(_with_control, trial)
    sketch = Sketch(plain, start, grid, make, seen_shape)
    apply, params = or_mlp(network, start.shape, seen=None if fixed is not None else seen_shape)
    apply = apply if fixed is None else Partial(_without_args, apply)
    loss = Partial(_loss, getattr(conditioning, "reverse_kl" if kind == "guided" else kind), sketch, apply, fixed)

    def process(params: Params) -> Process:
        control = Partial(apply, params["control"] if kind == "forward" else params)
        bent = replace(
            plain,
            drift=Partial(_drift, make, control),
            terminal_kernel=Kernel(Partial(_terminal_sample, make, control), T=sde.T),
        )
        backward = None
        if kind == "forward":
            backward = reverse(plain, Partial(conditioning.score, sketch, Partial(apply, params["score"])))
            backward = replace(backward, terminal_kernel=Kernel(Partial(_arrive, start), T=sde.T))
        begin, proposal = starts.point(start), Partial(make, control)
        if decode is None:
            return Bridge(begin, bent, grid, backward, guided=proposal)
        return Bridge(begin, bent, grid, backward, decode, guided=proposal)

    params = {"score": params, "control": params} if kind == "forward" else params
    optimizer = adam(schedule="constant") if optimizer is None else optimizer
    return gradient_method(loss, process, optimizer, ema, accumulate, params=params)
