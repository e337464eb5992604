"""The two ends of a bridge: its source and target rows, its start law, its grid and its noise, checked at one door.

draw_ends      n rows of source and target, from whatever form the data come in
check_ends     a batch's source and target rows, of one shape
start_law      rows of the source, or standard normal
whole_grid     times from one end (0) to the other (1)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from bridgejax._checks import as_real, check_finite, check_number, check_positive
from bridgejax._numerics import as_wide, dtype_of
from bridgejax._types import Batch, Data, Decoder, MethodState, Numbers, Scalar, Shape, StartLaw
from bridgejax.objectives._matching import unpack
from bridgejax.processes import Process, starts
from bridgejax.solve._accepted import check_times
from bridgejax.training import Method

_SLACK = 1e-5  # of a grid's times


def start_law(source: Numbers | None, shape: Shape) -> tuple[Shape, StartLaw]:
    """The shape of a sample, and the law that a process starts from: rows of ``source``; None: standard normal.

    Raises:
        ValueError: what is no shape, or rows of another one or with numbers that are not finite.
    """
    normal = starts.normal(shape)
    shape = normal.mean.shape
    if source is None:
        return shape, normal
    points = as_wide(as_real(source, "source"))
    check_finite(source=points)
    if points.shape[1:] != shape:
        raise ValueError(f"source must have rows of shape {shape}, that of a sample, got {points.shape[1:]}")
    return shape, starts.empirical(points)


def whole_grid(ts: Numbers | None, default: Array, *, symmetric: bool = False) -> Array:
    """``ts``, or the default, as a grid of the clock from one end's data (0) to the other's (1).

    Raises:
        ValueError: times that do not increase from 0 to 1; ``symmetric``: a grid that is another one read backwards.
    """
    if ts is None:
        return default
    grid, _ = check_times(1.0, ts)
    if not isinstance(grid, Tracer):
        host = np.asarray(grid, np.float64)
        if max(abs(host[0]), abs(host[-1] - 1.0)) > _SLACK:
            raise ValueError(f"ts must run from 0 to 1, from source to target, got {host[0]:g} to {host[-1]:g}")
        if symmetric and np.max(np.abs(host + host[::-1] - 1.0)) > _SLACK:
            raise ValueError(
                "ts must be symmetric, ts[k] = 1 - ts[N - k]: a direction learns at the times that the other visits; "
                "use grids.uniform or grids.two_sided"
            )
    return grid


def check_ends(batch: Batch, shape: tuple[int, ...], what: str = "a batch") -> tuple[Array, Array]:
    """``(x0, x1)`` of a batch with source and target rows of one shape; whole numbers as floating ones.

    Raises:
        ValueError: data alone, or rows of another shape.
    """
    x0, x1, args = unpack(batch)
    if x1 is None:
        raise ValueError(f"{what} needs source and target (data.Pairs makes such batches), got data alone")
    if args is not None:
        raise ValueError(f"{what} has labels, and this method learns one bridge without condition; leave them out")
    for name, x in (("source", x0), ("target", x1)):
        if jnp.shape(x)[1:] != shape:
            raise ValueError(
                f"{what} has {name} rows of shape {jnp.shape(x)[1:]}, and this method was made for {shape}; "
                "source and target must have one dimension"
            )
    return jnp.asarray(x0, dtype_of(x0)), jnp.asarray(x1, dtype_of(x1))


def gather(data: Data, random: np.random.Generator, num: int, read: Callable[[Batch], Batch]) -> Batch | None:
    """At least ``num`` rows from batches, as ``read`` takes them from each; None where ``data`` has no batches.

    Args:
        data: an object with ``batch(step)``, a function of the step, or arrays.
        random: decides at which step to begin.
        num: how many rows.
        read: what of a batch to keep, arrays with a leading axis.
    """
    get = getattr(data, "batch", data if callable(data) else None)
    if get is None:
        return None
    parts, found, step = [], 0, int(random.integers(2**20))
    while found < num:
        parts.append(read(get(step)))
        found, step = found + len(jax.tree.leaves(parts[-1])[0]), step + 1
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def draw_ends(data: Data, key: Array, num: int, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """``num`` rows of source and of target.

    Args:
        data: arrays ``{"source", "target"}`` (rows are then drawn independently), an object with ``batch(step)``
            (its batches, coupling included), or a function of the step.
        key: decides which rows.
        num: how many.
        shape: shape of a row.

    Raises:
        ValueError: as ``check_ends``, and for rows that are not finite.
    """
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    rows = gather(data, random, num, lambda batch: check_ends(batch, shape))
    if rows is None:
        x0, x1 = (np.asarray(x) for x in check_ends(data, shape, "data"))
        rows = tuple(x[random.integers(len(x), size=num)] for x in (x0, x1))
    check_finite(source=rows[0][:num], target=rows[1][:num])
    return jnp.asarray(rows[0][:num]), jnp.asarray(rows[1][:num])


def check_sigma(sigma: Scalar) -> None:
    """Raise a ``ValueError`` unless ``sigma`` is a positive number."""
    check_number(sigma=sigma)
    check_positive(sigma=sigma)


def finished(method: Method, decode: Decoder) -> Method:
    """The Method with ``decode`` in its Process."""

    def process(state: MethodState) -> Process:
        return dataclasses.replace(method.process(state), decode=decode)

    return method._replace(process=process)
