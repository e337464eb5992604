"""What learned samplers share: a reference with a learnt control, and weights instead of data.

    dx = [b(t, x) + g(t) u(t, x)] dt + m(t) g(t) dW,      u(t, x) = network(t, x) + gate(t) guide(t, x)

All steps are Euler steps, and training weighs the very chain that is sampled against the steps of ``backward``, so that
E[exp w] = Z whatever was learnt. Hence the noise of a step is free too: m, one positive number a step, is learnt with
the rest. It is 1 in the limit of small steps; at 50 steps the exact control of two narrow modes has an ELBO gap of 0.21
with m = 1.

Beside a guide the learnt correction is norm-clipped to 10 sqrt(d / T): far from its training points the network is
linear, and without the clip paths of 50 steps overflowed within 20 updates. Without a guide it is not clipped, as a
narrow target asks for controls that grow towards T.

The guide is grad log rho, softly clipped: a density smoothed by noise of deviation r has scores of about sqrt(d)/r,
while the score of narrow modes far away is thousands of times that, and the first updates would overflow.
With s = grad log rho,   guide = s / sqrt(1 + r^2 |s|^2 / 9 d),   which is s where r is small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import check_count, check_number, check_positive, describe
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import (
    Args,
    DiffusionFn,
    Field,
    LogDensity,
    Network,
    Numbers,
    Params,
    PyTree,
    Scalar,
    StartLaw,
    State,
)
from bridgejax.bridges import control
from bridgejax.methods._arguments import NetworkLike, arguments
from bridgejax.methods.samplers import _losses as sampling
from bridgejax.methods.samplers._replay import replayed
from bridgejax.networks import or_mlp
from bridgejax.networks.pure import Functional
from bridgejax.oracles._target import check_log_density
from bridgejax.processes import SDE, Kernel, Process, Schedule, schedules
from bridgejax.processes._schedule import check_schedule
from bridgejax.processes.sde import check_callable
from bridgejax.solve import grids
from bridgejax.solve._accepted import check_times
from bridgejax.solve.kernels import gaussian
from bridgejax.training import Method, adam, gradient_method

_GATE = 0.3  # of the guide before training: at 0.01 PIS lost 31 of 32 modes of wells, at 1 it learnt more slowly
_REACH = 3.0  # of the guide, in standard deviations of what is still to be diffused
_LONGEST = 10.0  # control of a network beside a guide, in deviations of the noise of the whole clock
_LARGEST = 1e6  # number in a score


class SamplerOptions(TypedDict, total=False):
    """Options that every learned sampler takes.

    Args:
        dim: of x; default the Target's.
        loss: "kl", "log_derivative" (default of underdamped), "log_variance" (of the others), "trajectory_balance", or,
            for the samplers that know intermediate densities (cmcd, underdamped), "subtrajectory"; see
            ``samplers._losses``.
        subtrajectories: how many a path is cut into, for "subtrajectory" (default 8) and, where intermediate densities
            are known, "log_derivative" (default 1).
        ts: grid from 0 to T, of training and of the process; default 100 steps.
        gradient: whether the control is shown grad log rho; False needs no gradient (unless loss="kl").
        exploration_scale: factor >= 1 on the noise of every second path of "log_variance", "trajectory_balance" and
            "subtrajectory", which may learn from paths of any law; 1 (default): none. Metrics are taken from the
            others.
        replay: size of a replay buffer of terminal states, from which half of the paths of a batch run backward;
            ``fit`` then wants ``refresh_every``. For the losses that ``exploration_scale`` is for. 0 (default): none.
        annealing_steps: updates over which the target is tempered: the power of rho rises from 0.1 to 1; not with a
            loss by subtrajectory. 0 (default): none.
        optimizer: optax transformation; default Adam at 1e-3 with gradients clipped to norm 1.
        ema: decay of the averaged parameters that the process uses; None (default): none.
        accumulate: micro-batches per update; the variance is then taken within each, and half of each runs backward.
    """

    dim: int | None
    loss: str
    subtrajectories: int
    ts: Numbers | None
    gradient: bool
    exploration_scale: float
    replay: int
    annealing_steps: int
    optimizer: optax.GradientTransformation | None
    ema: float | None
    accumulate: int


SAMPLER = {
    "log_density": "``log_density(x)``, log rho of one sample (dim,), not necessarily normalised; a Target is one. "
    "Where the method needs grad log rho it must be differentiable.",
    "network": "of the control: a flax.nnx module or ``(apply, params)`` with ``apply(params, t, x, None)`` shaped "
    "like x, t in [0, T]; None: ``networks.or_mlp``.",
    **arguments(SamplerOptions.__doc__ or ""),
}


Guide = Callable[[Array, Array], Array]  # guide(t, x)


class SamplerSpec(NamedTuple):
    """What defines a learnt sampler, checked: its density, grid, network and options."""

    log_density: LogDensity
    dim: int
    ts: Array
    apply: Network
    params: Params
    gradient: bool
    loss: str
    subtrajectories: int
    exploration_scale: float
    replay: int
    annealing_steps: int
    training: dict[str, Any]

    __repr__ = summary


def _cut(loss: str, subtrajectories: int) -> bool:
    """Whether the loss is a sum over subtrajectories of a path."""
    return loss == "subtrajectory" or subtrajectories > 1


def _check_gradient(log_density: LogDensity, dim: int, why: str) -> None:
    """Raise where the density has no gradient: it cannot be traced, or is zero though the density varies."""
    remedy = f"{why} needs one; use loss='log_variance' with gradient=False"
    x = 2.0 * jax.random.normal(jax.random.key(0), (16, dim))
    try:
        values, grads = jax.jit(jax.vmap(jax.value_and_grad(log_density)))(x)
    except Exception as error:  # whatever the density raises when differentiated
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"log_density cannot be differentiated ({first}), and {remedy}") from None
    values, grads = np.asarray(values), np.asarray(grads)
    seen = values[np.isfinite(values)]
    if seen.size and np.ptp(seen) > 0 and not np.any(grads):
        raise ValueError(f"log_density is not differentiable (its gradient is 0 where it varies), and {remedy}")


def check_network(network: NetworkLike | None, dim: int) -> Functional:
    """``(apply, params)`` of a network that maps (dim,) to (dim,), an MLP for None, or a ``ValueError``."""
    apply, params = or_mlp(network, (dim,))
    x = jax.ShapeDtypeStruct((dim,), jnp.float32)
    out = jax.eval_shape(apply, params, jax.ShapeDtypeStruct((), jnp.float32), x, None)
    if getattr(out, "shape", None) != (dim,):
        got = getattr(out, "shape", type(out).__name__)
        raise ValueError(f"network must return an array of shape ({dim},) for x of that shape, got {got}")
    return Functional(apply, params)


def check_options(
    log_density: LogDensity,
    network: NetworkLike | None,
    grid: Array,
    options: SamplerOptions,
    needs_gradient: str | None = None,
    *,
    copies: int = 1,
) -> SamplerSpec:
    """The options with their defaults; ``grid`` is that of no ``ts``, and names T.

    Args:
        log_density: of the target.
        network: of the control.
        grid: the default grid.
        options: the rest.
        needs_gradient: name of a sampler that cannot do without grad log rho.
        copies: the network maps that many times dim numbers to as many.

    Raises:
        ValueError: an unknown option or loss, a density or network that does not fit, a density without a gradient
            where one is needed, a grid that does not run from 0 to T, ``exploration_scale`` below 1,
            ``exploration_scale`` or ``replay`` with a loss that needs its own paths, ``subtrajectories`` with a loss
            that has none, or ``annealing_steps`` with them.
    """
    unknown = set(options) - set(SamplerOptions.__annotations__)
    if unknown:
        known = ", ".join(SamplerOptions.__annotations__)
        raise ValueError(f"{sorted(unknown)[0]} is no option of a learned sampler; there are {known}")
    dim = options.get("dim")
    dim = check_count("dim", getattr(log_density, "dim", None) if dim is None else dim)
    log_density = check_callable(log_density, "log_density", "log_density(x)")
    loss, gradient = options.get("loss", "log_variance"), options.get("gradient", True)
    exploration_scale = options.get("exploration_scale", 1.0)
    if not isinstance(loss, str) or loss not in sampling.LOSSES:
        raise ValueError(f"loss must be one of {sampling.LOSSES}, got {describe(loss)}")
    if not isinstance(gradient, bool):
        raise ValueError(f"gradient must be True or False, got {describe(gradient)}")
    if needs_gradient and not gradient:
        raise ValueError(f"{needs_gradient} follows grad log rho, gradient=False leaves nothing to follow; use dis")
    check_number(exploration_scale=exploration_scale)
    if not exploration_scale >= 1.0:
        raise ValueError(f"exploration_scale must be at least 1, the factor on the noise, got {exploration_scale!r}")
    replay, anneal = (check_count(name, options.get(name, 0), 0) for name in ("replay", "annealing_steps"))
    for name, wanted in (("exploration_scale", exploration_scale > 1.0), ("replay", replay > 0)):
        if wanted and loss not in sampling.OFF_POLICY:
            raise ValueError(
                f"{name} needs a loss that may learn from any path, one of {sampling.OFF_POLICY}, got {loss!r}"
            )
    check_log_density(log_density, dim)
    if gradient or loss == "kl":
        _check_gradient(log_density, dim, f"loss={loss!r}" if loss == "kl" else "gradient=True")
    T, ts = float(grid[-1]), options.get("ts")
    ts = grid if ts is None else check_times(T, ts)[0]
    if float(ts[0]) != 0.0 or abs(float(ts[-1]) - T) > 1e-6 * T:
        raise ValueError(f"ts must run from 0 to T = {T:g}, got {float(ts[0]):g} to {float(ts[-1]):g}")
    subtrajectories = check_count(
        "subtrajectories", options.get("subtrajectories", 8 if loss == "subtrajectory" else 1)
    )
    if "subtrajectories" in options and loss not in sampling.SUBTRAJECTORY_LOSSES:
        raise ValueError(f"subtrajectories are for a loss in {sampling.SUBTRAJECTORY_LOSSES}, got loss={loss!r}")
    if subtrajectories >= ts.shape[0]:
        raise ValueError(
            f"subtrajectories must be at most the number of steps, {ts.shape[0] - 1}, got {subtrajectories}"
        )
    if anneal and _cut(loss, subtrajectories):
        raise ValueError(
            "annealing_steps is not for a loss in subtrajectories, whose last density is rho itself; leave it at 0"
        )
    apply, params = check_network(network, copies * dim)
    training: dict[str, Any] = {k: v for k, v in options.items() if k in ("optimizer", "ema", "accumulate")}
    return SamplerSpec(
        log_density,
        dim,
        ts,
        apply,
        params,
        gradient,
        loss,
        subtrajectories,
        exploration_scale,
        replay,
        anneal,
        training,
    )


# the control ----------------------------------------------------------------------------------------------------


def score(log_density: LogDensity, radius: Scalar, x: Array) -> Array:
    """grad log rho, shortened as at the head of this file; numbers that are not finite are 0."""
    grad = jax.grad(log_density)(x)
    grad = jnp.clip(jnp.where(jnp.isfinite(grad), grad, 0.0), -_LARGEST, _LARGEST)
    return grad / jnp.sqrt(1.0 + jnp.sum((radius * grad) ** 2) / (_REACH**2 * x.size))


def clip_norm(u: Array, T: Scalar) -> Array:
    """u, no longer than 10 sqrt(d / T): ten deviations of the noise of the whole clock."""
    return u / jnp.sqrt(jnp.maximum(1.0, T * jnp.sum(u**2) / (_LONGEST**2 * u.size)))


def _push(apply: Network, ts: Array, guide: Guide | None, params: Params, t: Array, x: Array, args: Args) -> Array:
    u = apply(params["network"], t, x, None)
    if guide is None:
        return u
    return clip_norm(u, ts[-1]) + jnp.interp(t, ts, params["gate"]) * sampling.guarded(Partial(guide, t), x)


def push(spec: SamplerSpec, guide: Guide | None) -> Partial:
    """``push(params, t, x, args)``, the control u; ``guide(t, x)`` is left out where no gradient is wanted."""
    return Partial(partial(_push, spec.apply), spec.ts, guide if spec.gradient else None)


def scaled_diffusion(noise: DiffusionFn, ts: Array, logs: Array, t: Array, x: State, args: Args) -> State:
    """m(t) g(t, x)."""
    return jnp.exp(jnp.interp(t, ts, logs)) * noise(t, x, args)


def _process(
    start: StartLaw, reference: SDE, backward: SDE, ts: Array, push: Callable[..., Array], params: Params
) -> Process:
    noise = Partial(scaled_diffusion, reference.diffusion, ts, params["noise"])
    return Process(start, replace(control(reference, Partial(push, params)), diffusion=noise), ts, backward)


def make_process(spec: SamplerSpec, start: StartLaw, reference: SDE, backward: SDE, guide: Guide | None) -> Partial:
    """``make(params)``: the reference with the learnt control and noise."""
    return Partial(_process, start, reference, backward, spec.ts, push(spec, guide))


def first_params(spec: SamplerSpec, **more: PyTree) -> Params:
    """Parameters before training."""
    return {"network": spec.params, "noise": jnp.zeros(spec.ts.shape), "log_z": jnp.zeros(()), **more}


def guided_params(spec: SamplerSpec, **more: PyTree) -> Params:
    """The same with the gate of the guide, where there is one."""
    gate = {"gate": jnp.full(spec.ts.shape, _GATE)} if spec.gradient else {}
    return first_params(spec, **gate, **more)


def learn(spec: SamplerSpec, make: sampling.Make, params: Params, levels: sampling.Levels | None = None) -> Method:
    """The Method that minimises the loss of the paths of ``make(params)``; ``levels(params, t, x)`` is log pi."""
    cut = _cut(spec.loss, spec.subtrajectories)
    if cut and levels is None:
        raise ValueError("a loss in subtrajectories needs intermediate densities, which only cmcd and underdamped have")
    training = dict(spec.training)
    optimizer = training.pop("optimizer", None)
    optimizer = adam(schedule="constant") if optimizer is None else optimizer
    loss = partial(
        sampling.path_loss,
        loss=spec.loss,
        exploration_scale=spec.exploration_scale,
        subtrajectories=spec.subtrajectories,
    )
    objective = Partial(loss, make, spec.log_density, levels=levels if cut else None)
    method = gradient_method(objective, make, optimizer, params=params, **training)
    if not (spec.replay or spec.annealing_steps):
        return method
    return replayed(method, spec.log_density, spec.replay, spec.annealing_steps)


# references -----------------------------------------------------------------------------------------------------


@partial(register_dataclass, data_fields=("x",), meta_fields=())
@dataclass(frozen=True)
class Point:
    """A start at a point, with density 1 with respect to it: only for a ``backward`` whose last step is certain too."""

    x: Array

    __repr__ = summary

    def __call__(self, key: Array, args: Args = None) -> Array:
        """The point."""
        return self.x

    def log_prob(self, x: Array, args: Args = None) -> Array:
        """0."""
        return jnp.zeros(())


def zero_drift(t: Array, x: Array, args: Args) -> Array:
    """The drift of Brownian motion."""
    return jnp.zeros_like(x)


def _linear(schedule: Schedule, sign: Scalar, t: Array, x: Array, args: Args) -> Array:
    return sign * schedule.rate(t) * x


def _noise(schedule: Schedule, scale: Scalar, t: Array, x: State, args: Args) -> Array:
    return scale * schedule.diffusion(t)


def flipped(f: Field, T: Scalar, t: Array, x: State, args: Args) -> State:
    """f on the other clock."""
    return f(T - t, x, args)


def step_mean(drift: Field, s: Array, v: Array, x: Array, args: Args) -> Array:
    """Mean of a step back whose coefficients are taken where the step forward took them.

    With each at its own left end the two variances differ, and the exact control of a Gaussian had an ELBO gap of 1.56
    instead of 0.02 at 25 steps.
    """
    return x + (v - s) * drift(v, x, args)


def step_scale(noise: DiffusionFn, s: Array, v: Array, x: State, args: Args) -> State:
    """Its standard deviation."""
    return jnp.sqrt(v - s) * noise(v, x, args)


def backward_sde(drift: Field, noise: DiffusionFn, T: float, mean: Callable[..., Array] = step_mean) -> SDE:
    """An SDE on the clock that runs backward, whose steps have that law."""
    law: Kernel = gaussian(Partial(mean, drift), Partial(step_scale, noise), T)
    return SDE(drift, noise, T, kernel=law)


class Noising(NamedTuple):
    """dx = f x ds + g dW from the target to N(0, scale^2), and what runs against it."""

    schedule: Schedule
    scale: Scalar
    drift: Field
    noise: DiffusionFn

    __repr__ = summary

    def forward(self, sign: float) -> SDE:
        """dx = sign f(T - t) x dt + g(T - t) dW."""
        T = self.schedule.T
        drift = Partial(flipped, Partial(_linear, self.schedule, sign), T)
        return SDE(drift, Partial(flipped, self.noise, T), T)

    @property
    def grid(self) -> Array:
        """100 steps that shrink towards the target, whose modes may be narrow."""
        return grids.quadratic(100, self.schedule.T)


def noising(schedule: Schedule | None, scale: Scalar) -> Noising:
    """The noising of a variance-preserving schedule (None: beta from 0.1 to 10), widened to ``scale``."""
    schedule = schedules.vp(0.1, 10.0) if schedule is None else schedule
    check_schedule(schedule)
    if schedule.zero_terminal_snr:
        raise ValueError("schedule has infinite coefficients at its end; use schedules.vp")
    check_number(scale=scale)
    check_positive(scale=scale)
    return Noising(schedule, scale, Partial(_linear, schedule, 1.0), Partial(_noise, schedule, scale))


def smoothed(log_density: LogDensity, schedule: Schedule, scale: Scalar, t: Array, x: Array) -> Array:
    """grad log rho as far as the density noised up to T - t can have it."""
    return score(log_density, scale * schedule.sigma(schedule.T - t), x)
