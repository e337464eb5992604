"""What is measured and drawn of a run on a manifold: likelihoods, and the density on a map of the globe."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bridgejax.evaluation import Report, evaluate_on_manifold, kernel_density
from bridgejax.geometry.manifolds import earth
from bridgejax.geometry.manifolds.coordinates import Coordinates
from bridgejax.processes import keys
from bridgejax.runs import Run
from bridgejax.runs.data import RunData
from bridgejax.solve import grids, solvers
from bridgejax.weigh import log_prob

_TOGETHER = 512
_CELL = 2.5  # degrees, of the map
_STEPS = 20  # of the flow, for a picture


def has_density(run: Run) -> bool:
    """Whether the model is a flow from a law with a density."""
    return run.process.dynamics.diffusion is None and hasattr(run.process.start, "log_prob")


def log_density(run: Run, points: np.ndarray, **options: Any) -> np.ndarray:
    """log p of points, in nats with respect to the volume of the manifold; options are those of ``log_prob``."""
    one = jax.jit(jax.vmap(lambda key, x: log_prob(run.process, key, x, **options).value))
    short = -len(points) % _TOGETHER
    filled = np.concatenate([points, np.repeat(points[:1], short, axis=0)])
    every = keys(jax.random.key(0), _TOGETHER)  # of no consequence: the divergence is exact
    parts = [one(every, filled[k : k + _TOGETHER]) for k in range(0, len(filled), _TOGETHER)]
    return np.concatenate([np.asarray(part, np.float64) for part in parts])[: len(points)]


def evaluated(run: Run, data: RunData, samples: np.ndarray, seed: int) -> Report:
    """The report on samples, which are rows of a table as the data are."""
    known = data.coordinates
    assert known is not None
    return evaluate_on_manifold(
        known.space,
        known.to_points(samples, "samples"),
        data.train.x,
        data.holdout.x,
        log_prob=partial(log_density, run) if has_density(run) else None,
        names=known.embedded,
        seed=seed,
    )


def density_map(run: Run, known: Coordinates, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Latitudes, longitudes and the density over the uniform one on their grid; None where there is no globe.

    It is the model's own where that is known, else a kernel density estimate of its samples, rows of a table.
    """
    if known.manifold != "sphere":
        return None
    latitudes = np.arange(-90.0 + 0.5 * _CELL, 90.0, _CELL)
    longitudes = np.arange(-180.0 + 0.5 * _CELL, 180.0, _CELL)
    up, along = (part.reshape(-1) for part in np.meshgrid(latitudes, longitudes, indexing="ij"))
    places = np.asarray(earth.from_degrees(up, along))
    if has_density(run):
        ts = grids.uniform(_STEPS) * run.process.dynamics.T
        found = log_density(run, places, ts=jnp.asarray(ts), solver=solvers.Heun())
    else:
        found = kernel_density(known.space, known.to_points(samples, "samples")).log_prob(places)
    values = np.exp(found + known.space.log_volume)
    return latitudes, longitudes, values.reshape(len(latitudes), len(longitudes))
