"""Which picture shows which kind of data, and the paths of a bridge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bridgejax.data import Dataset
from bridgejax.evaluation import plots, trajectories
from bridgejax.geometry.manifolds import rotations
from bridgejax.geometry.manifolds.coordinates import Coordinates
from bridgejax.processes import Process, keys
from bridgejax.runs.config import Config
from bridgejax.runs.data import RunData
from bridgejax.solve import simulate_path

_PATHS = 24
_FILMS = 8
_COARSE, _FINE = 4, 33  # points of a grid: with fewer a path is a jump or two


def beside(
    path: Path,
    samples: np.ndarray,
    labels: np.ndarray | None,
    real: Dataset,
    source: Dataset | None,
    others: Mapping[str, Any] = {},
) -> None:
    """Samples beside real rows.

    Args:
        path: PNG file.
        samples: ``[n, *shape]``, in the data's own units.
        labels: of the samples, or None.
        real: what they should be like.
        source: where a bridge starts.
        others: where several runs were composed, the rows of each by its title, in the place of ``real``.
    """
    truth, classes = real.values, real.labels
    if labels is not None and classes is not None and len(set(np.asarray(labels).tolist())) == 1:
        truth, labels, classes = truth[classes == labels[0]], None, None  # one class: no columns to sort by
    shown = others or truth
    kind: str = real.kind
    if kind == "image":
        plots.image_grid(path, samples, shown, labels=labels, real_labels=classes)
    elif kind == "series":
        trajectories.series(path, samples, shown, channels=real.columns)
    elif kind == "points" and real.shape == (2,):
        plots.scatter(path, samples, shown, None if source is None else source.values, columns=real.columns)
    else:
        plots.marginals(path, samples, shown, columns=real.columns, texts=real.texts)


def points(
    path: Path,
    samples: np.ndarray,
    real: Dataset,
    known: Coordinates,
    *,
    others: Mapping[str, np.ndarray] = {},
    density: Any = None,
    of: str = "model",
) -> None:
    """Samples on a manifold beside real rows: a globe, pairs of angles, or rotation vectors.

    Args:
        path: PNG file.
        samples: rows of a table, (n, columns).
        real: what they should be like.
        known: what the columns are.
        others: where several runs were composed, the rows of each by its title, in the place of ``real``.
        density: for ``plots.globe``; None: not drawn.
        of: what it is the density of.
    """
    if known.manifold == "torus":
        titled = others or real.values
        plots.angle_pairs(path, samples, titled, columns=real.columns, unit=known.unit, positive=known.positive)
        return

    def seen(rows: np.ndarray) -> np.ndarray:
        x = known.to_points(rows, "rows")
        return x if known.manifold == "sphere" else np.asarray(rotations.to_vector(x))

    truth = {title: seen(rows) for title, rows in others.items()} or seen(real.values)
    if known.manifold == "sphere":
        plots.globe(path, seen(samples), truth, density, of=of)
    else:
        plots.rotations(path, seen(samples), truth)


def paths(
    path: Path,
    process: Process,
    data: RunData,
    config: Config,
    starts: Mapping[str, np.ndarray | None],
    given: Callable[[np.ndarray | None, int], Any],
    seed: int,
) -> bool:
    """A bridge with the paths it takes, both ways where it runs both; whether such a picture was drawn.

    Args:
        path: PNG file.
        process: in the model's units.
        data: of both ends.

        config: of the run.
        starts: standardised rows to start from, "forward" and "backward"; None: the process's own start law.
        given: ``given(starts, num)``, the conditions of the paths.
        seed: of the paths.
    """
    assert data.source is not None
    film = data.train.kind == "image"
    if not film and data.train.shape not in ((1,), (2,)):
        return False
    ways = []
    for direction, sde in (("forward", process.dynamics), ("backward", process.backward)):
        x = starts.get(direction)
        if sde is None or sde.kernel is not None or (direction == "backward" and x is None):
            continue
        rows = None if x is None else x[: _FILMS if film else _PATHS]
        num = (_FILMS if film else _PATHS) if rows is None else len(rows)
        if rows is not None and config.spec.flat:
            rows = rows.reshape(num, -1)
        args = given(rows, num)
        every = keys(jax.random.key(seed), num)
        if rows is None:
            rows = jax.vmap(process.start, (0, None if args is None else 0))(every, args)
        grid = process.ts if len(process.ts) >= _COARSE else np.linspace(0.0, process.dynamics.T, _FINE)
        ts = grid if direction == "forward" else sde.T - grid[::-1]
        axes = (0, 0, None if args is None else 0)
        xs = jax.jit(jax.vmap(lambda key, x, args, sde=sde, ts=ts: simulate_path(sde, key, x, ts, args).xs, axes))(
            every, rows, args
        )
        xs = np.asarray(xs)
        ways.append(data.train.destandardise(xs.reshape(*xs.shape[:2], *data.train.shape)))
    if not ways:
        return False
    trajectories.bridge(path, data.source.values, data.holdout.values, *ways)
    return True
