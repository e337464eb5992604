"""log p(x) of a Process by the instantaneous change of variables along its probability flow.

    dx = v(s, x) ds  from the start law (s = 0) to data (s = T),      d log p_s(x_s) / ds = -div v(s, x_s)
    log p(x) = log p_start(x_0) - int_0^T div v(s, x_s) ds,           x_T = x, solved from T back to 0

(Chen et al. 2018, arXiv 1806.07366; Song et al. 2021, arXiv 2011.13456.) Time runs forward in the solve: the clock is
t = T - s. A flow made from a Schedule is infinite-valued at clean data, t = 0, in its denoiser form; the solve begins
1e-6 of the clock later, where p_t and p differ by that order. div v is the trace of the Jacobian, by one
Jacobian-vector product per coordinate ("exact"), or by Hutchinson's estimate z . (dv/dx) z with one Rademacher z per
sample, kept along the path ("hutchinson", unbiased for log p).

On a manifold the density is with respect to its volume, and the divergence is that of the tangent part of v: the trace
of P (dv/dx) P, P the projection onto the tangent space. The flow is solved in the coordinates of the manifold, with v
read at the nearest point of it, so that a solver with an error estimate may choose the steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import diffrax as dfx
import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import as_real, check_count, check_number, check_positive
from bridgejax._numerics import cast_like, linear_combination
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Args, Numbers, PyTree, State
from bridgejax.bridges._reverse import probability_flow
from bridgejax.processes._keys import check_one_key, streams
from bridgejax.processes.sde import SDE, Process, check_process
from bridgejax.solve._accepted import check_start
from bridgejax.solve._simulate import simulate
from bridgejax.weigh._divergence import divergence
from bridgejax.weigh._path_bound import path_bound

_OFFSET = 1e-6
_LAST_STEP = 1e-4  # of the clock: where the last step of a bound is
_EXACT_UP_TO = 64  # coordinates up to which the exact divergence is the default
DIVERGENCES = ("exact", "hutchinson")
KINDS = ("flow", "bound")


@partial(register_dataclass, data_fields=("value", "error"), meta_fields=("kind",))
@dataclass(frozen=True)
class LogProb:
    """A log density and what it is.

    Args:
        value: log p(x), in nats.
        kind: "exact" (to the solver's tolerance), "hutchinson" (unbiased, with noise) or "bound" (at most
            log p, in the mean over draws).
        error: standard error of the draws of a bound; None where there is none.
    """

    value: Array
    kind: str
    error: Array | None = None

    __repr__ = summary


def _augmented(flow: SDE, probe: State, t: Array, state: PyTree, args: Args) -> PyTree:
    """(x, int div) on the clock t = T - s, from data to the start law."""
    s = jnp.maximum(flow.T - t, 0.0)
    x, manifold = state[0], flow.manifold
    if manifold is None:
        velocity, trace = divergence(lambda x: flow.drift(s, x, args), x, probe)
    else:
        nearest = cast_like(manifold.project(x), x)
        velocity, trace = divergence(lambda x: manifold.to_tangent(x, flow.drift(s, x, args)), nearest, probe, manifold)
    return linear_combination((-1.0, velocity)), trace


def flow_of(sde: SDE) -> SDE:
    """The ODE with the marginals of ``sde``.

    Raises:
        ValueError: an SDE with noise that was not made from a Schedule.
    """
    if sde.diffusion is None:
        return sde
    if sde.semilinear is None:
        raise ValueError(
            "log_prob needs a flow: this process runs an SDE that was not made from a Schedule; "
            "build the process with probability_flow"
        )
    return probability_flow(sde.semilinear.schedule, denoiser=sde.semilinear.denoiser)


def _check_bound(
    process: Process, solver: object, controller: object, ts: object, samples: int, t_min: float | None
) -> float:
    """The time below which the last step is, if the process has a bound."""
    sde = process.dynamics
    if sde.semilinear is None:
        raise ValueError(
            "kind='bound' needs a process made from a Schedule, by reverse or probability_flow, and this one is not"
        )
    for name, value in (("solver", solver), ("controller", controller), ("ts", ts)):
        if value is not None:
            raise ValueError(f"{name} is for kind='flow': a bound draws its own times and solves nothing; leave it out")
    check_count("samples", samples, 2)
    if t_min is None:
        return _LAST_STEP * sde.T
    check_number(t_min=t_min)
    if not 0.0 < t_min < sde.T:
        raise ValueError(f"t_min must be a noising time inside the clock, in (0, {sde.T:g}), got {t_min}")
    return t_min


def log_prob(
    process: Process,
    key: Array,
    x: State,
    args: Args = None,
    *,
    kind: str = "flow",
    divergence: str | None = None,
    solver: dfx.AbstractSolver | None = None,
    controller: dfx.AbstractAdaptiveStepSizeController | None = None,
    ts: Numbers | None = None,
    samples: int = 32,
    t_min: float | None = None,
) -> LogProb:
    """log p(x) of one sample under the process's flow, or a lower bound of it under its SDE; ``vmap`` it for many.

    ``x`` is the state at T, before ``decode``: of a trained run in the model's units, data standardised (those of
    ``Run.log_prob`` are the data's). Nats for the density of that state; see ``bits_per_dim``.

    ``kind="bound"`` needs no solve. Its value is unbiased for a lower bound of log p of the *reverse SDE*, also where
    the process runs the flow, whose last step, below ``t_min``, is a Gaussian around the denoised state:

        -log p(x) <= E[ int g^2 (|s|^2 / 2 + div s) - div f dt - log pi(X_T) | X_0 = x ]

    with equality at the exact score; what it lacks is the divergence of path laws, E int g^2 |s - grad log p|^2 / 2 dt.
    It has a gradient in the process's parameters. (Huang, Lim & Courville 2021, A variational perspective on
    diffusion-based generative models and score matching, arXiv 2106.02808.)

    Args:
        process: a flow, or a reverse SDE made from a Schedule (its flow is used); its start must have a ``log_prob``.
        key: one key, used by Hutchinson's estimate and by a bound only.
        x: one sample.
        args: its condition.
        kind: "flow", or "bound" for a process made from a Schedule.
        divergence: "exact" or "hutchinson"; default exact up to 64 coordinates.
        solver: diffrax ODE solver; default Tsit5.
        controller: step size control; default PIDController(rtol=1e-5, atol=1e-5). Not used with ``ts``.
        ts: a fixed grid on the clock T - s from data (0) to the start law (T), instead of an adaptive solve.
        samples: of a bound, independent draws, at least 2, of 17 evaluations of the denoiser each.
        t_min: of a bound, the noising time below which the last step is; default 1e-4 of the clock. For the exact
            score the bound lacks terms of order sigma^4 there.

    Returns:
        A ``LogProb``: ``value``, a number in nats, and ``kind``, "exact", "hutchinson" or "bound"; of a bound
        ``error``, its standard error over the draws.

    Raises:
        ValueError: a start law without a density, an SDE without a flow, an unknown kind or divergence; a bound of a
            process not made from a Schedule, or with a solver, controller or ts.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> schedule, data = bj.schedules.ou(), bj.mixtures.gaussian_mixture([[0.0]], 1.0)
        >>> flow = bj.probability_flow(schedule, denoiser=bj.mixtures.mixture_denoiser(data, schedule))
        >>> process = bj.Process(bj.starts.normal((1,)), flow, bj.grids.uniform(10))
        >>> found = bj.log_prob(process, jax.random.key(0), jnp.zeros(1))
        >>> found.kind, round(float(found.value), 3)                           # log N(0; 0, 1)
        ('exact', -0.919)
        >>> bound = bj.log_prob(process, jax.random.key(0), jnp.zeros(1), kind="bound")
        >>> bound.kind, round(float(bound.value), 3)                           # the score is exact: no gap
        ('bound', -0.919)
    """
    check_process(process)
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
    if not hasattr(process.start, "log_prob"):
        raise ValueError("the start law of this process has no log_prob; use starts.normal or a GaussianMixture")
    bound = kind == "bound"
    flow = process.dynamics if bound else flow_of(process.dynamics)
    x = check_start(flow, x, "x")
    size = sum(leaf.size for leaf in jax.tree.leaves(x))
    how = divergence if divergence is not None else ("exact" if size <= _EXACT_UP_TO else "hutchinson")
    if how not in DIVERGENCES:
        raise ValueError(f"divergence must be one of {DIVERGENCES}, got {how!r}")
    key = check_one_key(key)
    if bound:
        t_min = _check_bound(process, solver, controller, ts, samples, t_min)
        value, error = path_bound(process, key, x, args, t_min, divergence=how, samples=samples)
        return LogProb(value, kind, error)
    probe = None
    if how == "hutchinson":
        leaves, treedef = jax.tree.flatten(x)
        drawn = [
            jax.random.rademacher(k, leaf.shape, leaf.dtype)
            for k, leaf in zip(streams(key, "log_prob", len(leaves)), leaves, strict=True)
        ]
        probe = jax.tree.unflatten(treedef, drawn)
    encoder = SDE(Partial(_augmented, flow, probe), None, flow.T)
    if ts is None:
        first = _OFFSET * flow.T if flow.terminal_kernel is not None else 0.0
        ts = jnp.asarray([first, first + 1e-3 * flow.T, flow.T], jnp.result_type(float))
        controller = dfx.PIDController(rtol=1e-5, atol=1e-5) if controller is None else controller
        solver = dfx.Tsit5() if solver is None else solver
    else:
        controller = None
    start, integral = simulate(encoder, key, (x, jnp.zeros(())), ts, args, solver=solver, controller=controller)
    start = start if flow.manifold is None else flow.manifold.project(start)
    # d log p / ds = -div v with s falling: log p(x) = log p_start + int_0^T (-div) dt' written on t = T - s
    return LogProb(process.start.log_prob(start, args) - integral, how)  # pyright: ignore


def bits_per_dim(log_prob: Numbers | LogProb, size: int, *, bin_width: float = 1.0) -> Array:
    """-log p in bits per coordinate of data that were dequantised uniformly in bins.

    log_prob / (-size log 2) - log2(bin_width): data made of {0, ..., 255} as x / 127.5 - 1, in [-1, 1],
    have bins of 2/255; of (x + u) / 128 - 1, u uniform in [0, 1], of 2/256.

    Args:
        log_prob: log density in nats, of any shape; a LogProb too.
        size: coordinates of one sample.
        bin_width: width of a bin in the units in which ``log_prob`` is a density.

    Returns:
        Bits per coordinate, shaped like ``log_prob``.

    Example:
        >>> import math, bridgejax as bj
        >>> print(bj.bits_per_dim(-3 * math.log(256.0), 3))                # uniform on 256 bins of width 1
        8.0
    """
    check_count("size", size)
    check_number(bin_width=bin_width)
    check_positive(bin_width=bin_width)
    value = as_real(log_prob.value if isinstance(log_prob, LogProb) else log_prob, "log_prob")
    return -value / (size * math.log(2.0)) - math.log2(bin_width)
