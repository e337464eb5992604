"""What methods of snapshots in time share: how their batches are read, the terms of the action, the process.

For a potential s(t, x) and a path of laws q_t of mass m(t), from t_0 to t_K,

    A(s, q) = m_0 E_(q_0) s(t_0) - m_K E_(q_K) s(t_K)
              + int m E_(q_t)[ ds/dt + |grad s|^2 / 2 + sigma^2 Delta s / 2 + s^2 / 2 ] dt

(the third term with noise, the last where mass may grow). By parts it is int E |grad s - grad s*|^2 / 2 dt less a
constant, where grad s* is the gradient field that moves q,

    dq/dt = -div(q grad s*) + sigma^2 Delta q / 2 + s* q,          min A = -int m E[ |grad s*|^2 + s*^2 ] / 2 dt.

Where rows run on paths of their own, x_t = mean(t) + c(t) eps from one snapshot's row to the next one's, the terms that
differentiate in time are known along them, d(m s)/dt = m' s + m (ds/dt + grad s . x'), and E[grad s . eps] is
c E[Delta s]:

    A(s, q) = int E[ m ( |grad s|^2 / 2 - grad s . mean' + (sigma^2 / 2 - c c') Delta s + s^2 / 2 ) - m' s ] dt,

the same number with less variance near its least: without noise it is flow matching with a gradient field. The first
form is that of rows which are independent draws at times of their own, with others of the two ends.

A potential sees the clock from 0 to 1, whatever the unit of the snapshots' times; A and s are in that unit: s in data
squared over time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial

from bridgejax._checks import as_real, check_finite, check_nonnegative, check_number, check_shape, describe
from bridgejax._numerics import as_wide, normal_like, safe_divide
from bridgejax._summary import summary
from bridgejax._types import Args, Batch, Numbers, Scalar, Shape, StartLaw, State
from bridgejax.methods._arguments import NetworkLike
from bridgejax.methods._ends import finished, start_law
from bridgejax.methods._setup import Setup
from bridgejax.methods.schroedinger import ActionMatching, WassersteinLagrangian
from bridgejax.networks import or_mlp
from bridgejax.networks.pure import Functional
from bridgejax.processes import SDE, Process
from bridgejax.processes.noise import constant
from bridgejax.solve import grids
from bridgejax.solve._accepted import check_times
from bridgejax.training import Method
from bridgejax.weigh._divergence import divergence

Potential = Callable[[Array, State], Array]
DIVERGENCES = ("exact", "hutchinson")
SNAPSHOTS = {
    "shape": "shape of one sample.",
    "times": "of the snapshots, increasing (``Snapshots.times``); the first and the last count.",
    "source": "rows of the first snapshot that the process starts from; None: standard normal.",
    "source_weights": "of these rows, or None: alike.",
    "divergence": 'of the Laplacian that noise brings: "exact" or "hutchinson"; None: exact up to 16 coordinates.',
    "ts": "grid of the process, on a clock that begins at the first snapshot, in its unit; default 100 even steps.",
}

_EXACT_UP_TO = 16  # coordinates up to which the Laplacian is exact by default


@dataclass(frozen=True)
class Clock:
    """The times of the first and the last snapshot."""

    first: float
    last: float

    __repr__ = summary

    @property
    def duration(self) -> float:
        """Of the process, whose clock begins at the first snapshot."""
        return self.last - self.first

    def unit(self, t: Array) -> Array:
        """A time of the snapshots as a network sees it, 0 to 1."""
        return (t - self.first) / self.duration


def check_clock(times: Numbers) -> Clock:
    """The clock of increasing times, of which the first and the last count.

    Raises:
        ValueError: fewer than two, not finite, or not increasing.
    """
    if isinstance(times, Tracer) or np.ndim(times) != 1:
        raise ValueError(f"times must be the times of the snapshots, two at least, got {describe(times)}")
    host = np.asarray(as_real(times, "times"), np.float64)
    if len(host) < 2 or not np.all(np.isfinite(host)) or np.any(np.diff(host) <= 0):
        raise ValueError(f"times must be at least two finite times that increase, got {host.tolist()}")
    return Clock(float(host[0]), float(host[-1]))


def check_noise(noise: Scalar, name: str = "noise") -> None:
    """Raise unless the noise is a number >= 0."""
    check_number(**{name: noise})
    check_nonnegative(**{name: noise})


def divergence_of(divergence: str | None, size: int) -> str:
    """How the Laplacian is found, by the dimension where nothing is said.

    Raises:
        ValueError: another word.
    """
    if divergence is None:
        return "exact" if size <= _EXACT_UP_TO else "hutchinson"
    if not isinstance(divergence, str) or divergence not in DIVERGENCES:
        raise ValueError(f"divergence must be one of {DIVERGENCES}, got {divergence!r}")
    return divergence


# batches --------------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One row of a batch, see ``SnapshotBatches``; without first and last it counts by parts along its path."""

    source: State
    target: State
    start: Array
    end: Array
    weight: Array
    mass: Array
    first: State = None
    last: State = None

    __repr__ = summary


def rows_of(batch: Batch, shape: Shape, name: str) -> Row:
    """The rows of a batch, with a mass.

    Raises:
        ValueError: batches of something else, or of samples of another shape.
    """
    needed = ("source", "target", "start", "end", "weight")
    missing = [k for k in needed if k not in batch] if isinstance(batch, dict) else needed
    if missing:
        raise ValueError(
            f"{name} learns from snapshots in time, data.Snapshots or batches of it; this batch has no {missing[0]!r}"
        )
    ends = [part for part in ("first", "last") if part in batch]
    if len(ends) == 1:
        raise ValueError(f"a batch has {ends[0]} and not the other end; give rows of both, first and last, or of none")
    for part in ("source", "target", *ends):
        if jnp.shape(batch[part])[1:] != shape:
            raise ValueError(
                f"a batch has {part} rows of shape {jnp.shape(batch[part])[1:]}, and {name} was made for {shape}"
            )
    mass = batch.get("mass", jnp.ones((len(batch["start"]), 3)))
    return Row(**{k: as_wide(jnp.asarray(batch[k])) for k in (*needed, *ends)}, mass=mass)


class Place(NamedTuple):
    """Where a row is: time, state, mass, and the slopes in time of the mean, of c^2 / 2 and of the mass."""

    t: Array
    x: State
    mass: Array
    velocity: State
    spreading: Array
    growth: Array

    __repr__ = summary


def between(row: Row, share: Array, noise: Scalar, eps: State, mean: Callable[[Array], State] | None = None) -> Place:
    """At this share of a row's gap: on a line or on ``mean(share)``, with noise on a Brownian bridge about it."""
    gap = row.end - row.start
    line = (lambda u: (1 - u) * row.source + u * row.target) if mean is None else mean
    x, slope = jax.jvp(line, (share,), (jnp.ones_like(share),))
    spread = noise * jnp.sqrt(jnp.maximum(share * (1.0 - share) * gap, 0.0))
    low, high = row.mass[0], row.mass[1]
    per_time = safe_divide(1.0, gap)  # rows that stand at one time have no path
    return Place(
        row.start + share * gap, x + spread * eps, (1 - share) * low + share * high, per_time * slope,
        0.5 * noise**2 * (1.0 - 2.0 * share), per_time * (high - low),
    )  # fmt: skip


# the action -----------------------------------------------------------------------------------------------------------


def action(
    potential: Potential, row: Row, place: Place, clock: Clock, noise: Scalar, how: str, key: Array, *, growth: bool
) -> Array:
    """What a row adds to the mean action, in the first form where it has both ends, else in the second."""
    t, x, by_parts = place.t, place.x, row.first is None
    gradient, laplacian = jax.grad(potential, argnums=1)(t, x), jnp.zeros(())
    if noise != 0:
        probe = None if how == "exact" else jax.random.rademacher(key, x.shape, x.dtype)
        gradient, laplacian = divergence(lambda y: jax.grad(potential, argnums=1)(t, y), x, probe)
    inside = 0.5 * jnp.sum(gradient**2) + 0.5 * noise**2 * laplacian
    value = potential(t, x) if growth else jnp.zeros(())
    inside += 0.5 * value**2
    if by_parts:
        inside -= jnp.sum(gradient * place.velocity) + place.spreading * laplacian
        return row.weight * (place.mass * inside - place.growth * value)
    inside += jax.grad(potential, argnums=0)(t, x)
    start, end = (jnp.asarray(t, row.start.dtype) for t in (clock.first, clock.last))
    return potential(start, row.first) - row.mass[2] * potential(end, row.last) + row.weight * place.mass * inside


def drawn_noise(key: Array, row: Row) -> State:
    """Eps shaped like a state of the row."""
    return normal_like(key, row.source)


def potential_of(network: object, shape: Shape) -> Functional:
    """The network of a potential: one number for one state."""
    return or_mlp(network, shape, outputs=(1,))


def value_of(apply: Callable[..., Array], clock: Clock, params: object, t: Array, x: State, args: Args = None) -> Array:
    """s(t, x), t in the snapshots' unit."""
    found = jnp.asarray(apply(params, clock.unit(t), x, args))
    if found.size != 1:
        raise ValueError(f"network must return one number, the potential at one state, got shape {found.shape}")
    return found.reshape(())


# the process ----------------------------------------------------------------------------------------------------------


def _weighted_row(points: Array, log_weights: Array, key: Array, args: Args) -> State:
    return points[jax.random.categorical(key, log_weights)]


def begin_at(source: Numbers | None, weights: Numbers | None, shape: Shape) -> tuple[Shape, StartLaw]:
    """Rows of the first snapshot, by their weights; None: standard normal.

    Raises:
        ValueError: rows of another shape, weights that are negative or do not fit.
    """
    shape, start = start_law(source, check_shape(shape))
    if weights is None:
        return shape, start
    rows = 0 if source is None else len(as_real(source, "source"))
    found = as_real(weights, "source_weights")
    check_finite(source_weights=found)
    check_nonnegative(source_weights=found)
    if found.shape != (rows,) or not bool(jnp.any(found > 0)):
        raise ValueError(
            f"source_weights must be {rows} numbers, one for each row of source and not all 0, got {describe(weights)}"
        )
    return shape, Partial(_weighted_row, as_wide(as_real(source, "source")), jnp.log(found))


def _with_weight(start: StartLaw, key: Array, args: Args) -> State:
    return {"x": start(key, args), "log_weight": jnp.zeros(())}


def _drift(potential: Potential, first: float, t: Array, x: State, args: Args) -> State:
    return jax.grad(potential, argnums=1)(t + first, x, args)


def _growing(potential: Potential, first: float, t: Array, x: State, args: Args) -> State:
    value, gradient = jax.value_and_grad(potential, argnums=1)(t + first, x["x"], args)
    return {"x": gradient, "log_weight": value.astype(x["log_weight"].dtype)}


def _noise_of_weighted(noise: Scalar, t: Array, x: State, args: Args) -> State:
    return {"x": jnp.full_like(x["x"], noise), "log_weight": jnp.zeros_like(x["log_weight"])}


def moved(potential: Partial, clock: Clock, noise: float, *, growth: bool) -> SDE:
    """dx = grad s dt + noise dW on [0, t_K - t_0], with d log w = s dt where mass grows."""
    if growth:
        diffusion = None if noise == 0 else Partial(_noise_of_weighted, noise)
        return SDE(Partial(_growing, potential, clock.first), diffusion, clock.duration)
    diffusion = None if noise == 0 else Partial(constant, noise)
    return SDE(Partial(_drift, potential, clock.first), diffusion, clock.duration)


def grid_of(ts: Numbers | None, clock: Clock) -> Array:
    """``ts``, or 100 even steps, on the clock that begins at the first snapshot.

    Raises:
        ValueError: times that do not increase within [0, t_K - t_0].
    """
    return grids.uniform(100, clock.duration) if ts is None else check_times(clock.duration, ts)[0]


def process_from(start: StartLaw, sde: SDE, grid: Array, *, growth: bool) -> Process:
    """From the first snapshot to the last."""
    return Process(Partial(_with_weight, start) if growth else start, sde, grid)


# by name --------------------------------------------------------------------------------------------------------------


def build_from(
    make: Callable[..., Method],
    networks: list[NetworkLike],
    options: ActionMatching | WassersteinLagrangian,
    setup: Setup,
) -> Method:
    """A method of snapshots by its options."""
    told = setup.common()
    decode = told.pop("decode")
    method = make(
        *networks,
        shape=setup.data.shape,
        times=setup.data.times,
        noise=options.noise,
        source=setup.data.source,
        ts=grids.uniform(options.sample_steps or 100, check_clock(setup.data.times).duration),
        **told,
    )
    return finished(method, decode)
