"""Teleportation: the first part of a process, where any data look Gaussian, in one matrix product.

At high noise the score is that of N(mean, C), mean and covariance of the data, so the probability flow from T to a time
t is affine and known (``oracles.gaussian_flow``). The start is moved by it, and what is left of the grid is solved as
before. The result is a Process of the schedule cut at t:

    start      x_t = flow(T, t, z), z ~ start;    log p_t(x) = log p_start(flow(t, T, x)) + log det d flow(t, T)/dx
    dynamics   the same denoiser, on the clock from t to data
    backward   from data to time t

(Wang & Vastola 2024, The unreasonable effectiveness of Gaussian score approximation for diffusion models and its
applications, arXiv 2412.09726.)

How far? With r = alpha^2 lambda / sigma^2 the signal to noise ratio along a direction, data of skewness k3 and excess
kurtosis k4 along it have there the marginal of the Gaussian but for a Kullback-Leibler divergence of

    k3^2 r^3 / (12 (1 + r)^3) + k4^2 r^4 / (48 (1 + r)^4)   nats

(the first terms of Edgeworth's series: cumulants add, and noise has none beyond the second). Two points of skewness 1
are off by 0.0008 nats at r = 1/4, two of equal weight by 0.00015. The rule: the last time of the grid at which r is at
most 1/4 along the direction where it is largest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial

from bridgejax._checks import check_number, check_positive
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Args, StartLaw, State
from bridgejax.bridges._reverse import probability_flow, reverse
from bridgejax.processes._gaussian_flow import GaussianFlow
from bridgejax.processes._schedule import Schedule
from bridgejax.processes.gaussians import GaussianLaw, check_law
from bridgejax.processes.sde import SDE, Kernel, Process, check_flat, check_process

_SNR = 0.25  # of the leading direction, up to which data count as Gaussian
_HOLDS = 0.1  # of the leading direction at T, beyond which a start of pure noise is another law


@partial(register_dataclass, data_fields=("start", "flow"), meta_fields=("t",))
@dataclass(frozen=True)
class _Moved:
    """The law of flow(T, t, z), z from ``start``, which has a density."""

    start: StartLaw
    flow: GaussianFlow
    t: float

    __repr__ = summary

    def __call__(self, key: Array, args: Args = None) -> State:
        """A draw."""
        return _move(self.start, self.flow, self.t, key, args)

    def log_prob(self, x: State, args: Args = None) -> Array:
        """Its log density."""
        T = self.flow.schedule.T
        flow = _of(self.flow, args)
        return self.start.log_prob(flow(self.t, T, x), args) + flow.log_det(self.t, T)  # pyright: ignore


def _move(start: StartLaw, flow: GaussianFlow, t: float, key: Array, args: Args) -> State:
    return _of(flow, args)(flow.schedule.T, t, start(key, args))


def _by_class(law: GaussianLaw) -> bool:
    """Whether the law is one for each class, stacked on a first axis."""
    return jnp.ndim(law.vectors) == 3


def _of(flow: GaussianFlow, args: Args) -> GaussianFlow:
    """The flow of a sample's own class."""
    if not _by_class(flow.law):
        return flow
    if args is None or jnp.shape(args) or not jnp.issubdtype(jnp.result_type(args), jnp.integer):
        raise ValueError(
            "args must be the class of each sample, a whole number, as the process was teleported by a law for each "
            "class; give labels, or teleport by one law of all rows"
        )
    return replace(flow, law=jax.tree.map(lambda leaf: leaf[args], flow.law))


def _snr(law: GaussianLaw, schedule: Schedule, t: np.ndarray) -> np.ndarray:
    """Signal to noise ratio along the leading direction at these times, on the host."""
    with jax.ensure_compile_time_eval():
        log_snr = jax.vmap(schedule.log_snr)(jnp.asarray(t, jnp.result_type(float)))
        leading = jnp.max(jax.vmap(GaussianLaw.leading)(law)) if _by_class(law) else law.leading()
        return float(leading) * np.exp(np.asarray(log_snr, np.float64))


def _chosen(law: GaussianLaw, schedule: Schedule, times: np.ndarray, most: float) -> float:
    """The last of the noising times, which fall, up to which data count as Gaussian."""
    quiet = times[1:-1] if times[-1] <= 0 else times[1:]
    fits = quiet[_snr(law, schedule, quiet) <= most] if quiet.size else quiet
    if not fits.size:
        raise ValueError(
            f"snr = {most:g} is passed in the first step of the process's grid, so there is no step to skip; pass a "
            "larger snr, a grid with more steps at high noise, or the time t itself"
        )
    return float(fits[-1])


def _cut_backward(backward: SDE | None, schedule: Schedule, t: float) -> SDE | None:
    """The SDE from data, up to noising time t; None where its clock is another."""
    if backward is None or backward.T != schedule.T:
        return None
    kernel = None if backward.kernel is None else Kernel(backward.kernel.sample, backward.kernel.log_prob, t)
    return replace(backward, T=t, kernel=kernel, terminal_kernel=kernel)


def teleport(process: Process, law: GaussianLaw, *, snr: float | None = None, t: float | None = None) -> Process:
    """Skip the first steps of a process: its start is moved to a time t by the Gaussian probability flow, exactly.

        x_t = alpha_t mean + ((alpha_t^2 C + sigma_t^2 I) (alpha_T^2 C + sigma_T^2 I)^-1)^(1/2) (x_T - alpha_T mean)

    For Gaussian data this is no approximation; for others it is one that holds at high noise, and saves the evaluations
    of the steps that it skips. The rest of the grid is run by any solver, for the flow and for the reverse SDE; the
    density of the new start includes the determinant of the map, so that ``log_prob`` is that of the new process.

    Without t it is the last time of the grid at which the signal to noise ratio along the leading direction,
    alpha^2 lambda_max / sigma^2, is at most ``snr``. At 1/4 data of two points with skewness 1 are off by 0.0008 nats,
    which grows with the third power of it. (Wang & Vastola 2024, The unreasonable effectiveness of Gaussian score
    approximation for diffusion models and its applications, arXiv 2412.09726; the rule is ours.)

    Args:
        process: one that runs ``reverse`` or ``probability_flow`` of a Schedule, from noise; its grid is concrete and
            begins at 0.
        law: the Gaussian of the data in the model's units, before ``decode``: ``oracles.fit_gaussian(data)``. With
            ``fit_gaussian(data, labels=labels)`` a sample is moved by that of its class, ``args``, and the time is
            that of the class with the largest variance.
        snr: the largest signal to noise ratio along the leading direction to skip to; default 0.25.
        t: instead of the rule, the time to skip to on the noising clock, in (0, T).

    Returns:
        A Process of the schedule cut at t: its clock is [0, t], its grid what is left of the old one.

    Raises:
        ValueError: a process not made from a Schedule, a schedule whose end still holds data, a level outside of the
            schedule, a grid without a step to skip, both of snr and t.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> schedule, law = bj.schedules.karras(), bj.oracles.gaussian_law(jnp.zeros(2), 1.0)
        >>> sde = bj.probability_flow(schedule, denoiser=bj.oracles.gaussian_flow(law, schedule).denoiser)
        >>> process = bj.Process(bj.starts.normal((2,), 80.0), sde, bj.grids.karras(18))
        >>> fast = bj.teleport(process, law)
        >>> len(process.ts) - 1, len(fast.ts) - 1, round(fast.dynamics.T, 2)     # steps, and the noise to start at
        (18, 10, 3.26)
    """
    check_process(process)
    check_law(law)
    sde = process.dynamics
    check_flat(sde, "teleport")
    if sde.semilinear is None:
        raise ValueError(
            "process must run reverse or probability_flow of a Schedule, and this one has no semilinear form; teleport "
            "it before what drops it (control, doob, clamp, guide)"
        )
    if snr is not None and t is not None:
        raise ValueError("pass snr, from which the time follows, or t, and not both")
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((law, process.ts, sde.semilinear.schedule))):
        raise ValueError("teleport chooses a time, which is part of the type: law, grid and schedule must be concrete")
    schedule, denoiser = sde.semilinear
    ts = np.asarray(process.ts, np.float64)
    if ts.ndim != 1 or ts.size < 2 or abs(ts[0]) > 1e-6 * schedule.T or np.any(np.diff(ts) <= 0):
        raise ValueError("ts of the process must be increasing times from 0 on, two at least; see bridgejax.grids")
    end = float(_snr(law, schedule, np.array([schedule.T]))[0])
    if end > _HOLDS and not isinstance(process.start, GaussianLaw):
        raise ValueError(
            f"schedule of the process still holds data at its end: the signal to noise ratio along the law's leading "
            f"direction is {end:.3g}, and a start of noise needs {_HOLDS:g} at most; end with more noise, "
            "or start at law.diffuse(schedule, schedule.T)"
        )
    if t is not None:
        check_number(t=t)
        if not 0.0 < t < schedule.T:
            raise ValueError(f"t must be a time inside the schedule, in (0, {schedule.T:g}), got {t}")
        time = float(t)
    else:
        most = _SNR if snr is None else snr
        check_number(snr=most)
        check_positive(snr=most)
        if not most > end:
            raise ValueError(f"snr must exceed that at the schedule's end, {end:.3g}, got {most:g}")
        time = _chosen(law, schedule, schedule.T - ts, float(most))
    cut = replace(schedule, T=time, zero_terminal_snr=False)
    dynamics = (probability_flow if sde.diffusion is None else reverse)(cut, denoiser=denoiser)
    if sde.terminal_kernel is None:
        dynamics = replace(dynamics, terminal_kernel=None)
    flow = GaussianFlow(law, schedule)
    dense = hasattr(process.start, "log_prob")
    start = _Moved(process.start, flow, time) if dense else Partial(_move, process.start, flow, time)
    return Process(
        start, dynamics, _rest(ts, schedule.T, time), _cut_backward(process.backward, schedule, time), process.decode
    )


def _rest(ts: np.ndarray, T: float, t: float) -> Array:
    """What is left of the grid, on the clock that begins at noising time t."""
    later = ts[ts > (T - t) + 1e-6 * t] - (T - t)
    if not later.size:
        raise ValueError(
            f"t = {t:g} lies beyond the end of the process's grid, noising time {T - ts[-1]:g}; pass a larger t"
        )
    if ts[-1] >= T * (1.0 - 1e-6):
        later[-1] = t
    return jnp.asarray(np.append(0.0, later), jnp.result_type(float))
