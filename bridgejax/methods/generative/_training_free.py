"""Methods whose denoiser is made of the training rows and has no parameters to fit.

``init`` makes the denoiser; ``step`` changes nothing and says its loss on the batch, the mean of
(D(t, x_t) - x_0)^2 as of ``diffusion(predict="x0")``; the process is the reversal of the schedule with it, as for a
trained network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import as_real, check_finite
from bridgejax._numerics import as_wide
from bridgejax._summary import summary
from bridgejax._types import Args, Batch, Data, Decoder, Metrics, Numbers, PyTree
from bridgejax.bridges import interpolants
from bridgejax.methods.generative.diffusion import end_deviation, reversal, sampling_grid
from bridgejax.objectives import matching
from bridgejax.processes import Process, Schedule, starts
from bridgejax.processes._keys import keys, stream
from bridgejax.processes._schedule import check_schedule
from bridgejax.training import Method
from bridgejax.training.method import rows as count_rows


class Denoiser(Protocol):
    """A pytree with E[x_0 | x_t = x], or what stands for it."""

    def denoise(self, schedule: Schedule, t: Array, x: Array) -> Array:
        """Shaped like x."""
        ...


class State(NamedTuple):
    """State of a method without parameters.

    Attributes:
        step: batches seen, int32 scalar.
        model: the denoiser.
    """

    step: Array
    model: Any

    __repr__ = summary


def training_rows(rows: Numbers) -> Array:
    """The rows as an array of floats.

    Raises:
        ValueError: none, or numbers that are not finite.
    """
    points = as_wide(as_real(rows, "rows"))
    check_finite(rows=points)
    if points.ndim < 2 or 0 in points.shape:
        raise ValueError(f"rows must have shape (n, *shape) with at least one row, got {points.shape}")
    return points


def _denoise(schedule: Schedule, model: Denoiser, t: Array, x: Array, args: Args = None) -> Array:
    return model.denoise(schedule, t, x)


def training_free(
    schedule: Schedule,
    points: Array,
    make: Callable[[Array], Denoiser],
    params: Callable[[Any], PyTree],
    *,
    sampler: str,
    ts: Numbers | None,
    decode: Decoder | None,
) -> Method:
    """The Method of a denoiser.

    Args:
        schedule: noise schedule.
        points: (n, *shape) training rows, for the start law.
        make: ``make(key)``, the denoiser.
        params: ``params(denoiser)``, what it holds.
        sampler: "ode" or "sde".
        ts: grid of the process, or None.
        decode: of its samples, or None.
    """
    check_schedule(schedule)
    grid = sampling_grid(schedule, sampler, ts)
    centre = np.mean(np.asarray(points), axis=0)
    deviation = end_deviation(schedule, float(np.std(np.asarray(points) - centre)))
    start = starts.normal(points.shape[1:], deviation, schedule.alpha(schedule.T) * centre)
    loss = matching(interpolants.diffusion(schedule), Partial(_denoise, schedule), "x0")

    def init(key: Array, data: Data) -> State:
        return State(jnp.zeros((), jnp.int32), make(stream(key, "init")))

    def step(state: State, key: Array, batch: Batch) -> tuple[State, Metrics]:
        value, metrics = loss(state.model, keys(key, count_rows(batch)), batch)
        return state._replace(step=state.step + 1), {**metrics, "loss": value}

    def process(state: State) -> Process:
        return reversal(schedule, Partial(_denoise, schedule, state.model), start, grid, sampler, decode)

    return Method(init, step, process, params=lambda state: params(state.model))
