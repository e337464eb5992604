"""A process stopped on its way."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from bridgejax._checks import check_number
from bridgejax.processes.sde import Process, check_process


def stop(process: Process, t: float) -> Process:
    """The process up to time t of its clock: what ``sample`` draws is then its state there.

    The steps before t stay, and the last one ends at t; nothing is decoded differently. Of a process through snapshots
    in time (``methods.action_matching``) these are samples at a time between them.

    Args:
        process: any.
        t: a time on its grid's range, after its beginning.

    Returns:
        A Process whose grid ends at t.

    Raises:
        ValueError: a time that its grid does not reach.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> process = bj.Process(bj.starts.point(jnp.ones(1)), bj.SDE(lambda t, x, args: -x), bj.grids.uniform(10))
        >>> print(bj.stop(process, 0.25).ts)
        [0.   0.1  0.2  0.25]
    """
    check_process(process)
    check_number(t=t)
    if isinstance(t, Tracer) or isinstance(process.ts, Tracer):
        raise ValueError("t decides how many steps are left, so it and the grid of the process must be concrete")
    grid = np.asarray(process.ts)
    if not grid[0] < float(t) <= grid[-1] * (1.0 + 1e-6):
        raise ValueError(f"t must lie on the grid of the process, in ({grid[0]:g}, {grid[-1]:g}], got {t}")
    before = grid[grid < float(t) - 1e-6 * (grid[-1] - grid[0])]
    return replace(process, ts=jnp.asarray(np.append(before, min(float(t), grid[-1])), process.ts.dtype))
