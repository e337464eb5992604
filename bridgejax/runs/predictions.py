"""What a run of a table with a target says of rows, in the units of the data.

mean, quantiles    scale model + shift         deviation    scale model         log density    log model - log scale
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np
from jax import Array

from bridgejax._types import Numbers
from bridgejax.evaluation.predictive import Forecast

if TYPE_CHECKING:
    from bridgejax.runs.run import Run

_TOGETHER = 2048  # rows of one program


def target_indices(target: Numbers, classes: tuple[str, ...]) -> np.ndarray:
    """Classes by name as indices, float64; a ``ValueError`` for one that was not learnt."""
    given = np.asarray(target).reshape(-1)
    names = [f"{v:g}" if isinstance(v, float) else str(v) for v in given.tolist()]
    places = {name: float(k) for k, name in enumerate(classes)}
    unknown = next((name for name in names if name not in places), None)
    if unknown is not None:
        raise ValueError(f"target {unknown!r} is no class of this run, which learnt {', '.join(classes)}")
    return np.array([places[name] for name in names])


def predicted(
    run: Run,
    key: Array,
    rows: Numbers,
    target: Numbers | None = None,
    *,
    draws: int = 128,
    quantiles: Sequence[float] = (),
) -> Forecast:
    """See ``Run.predict``."""
    if run.inputs is None:
        raise ValueError("this run has no target to predict: it draws samples, run.sample(keys)")
    x, known = run.inputs.encode(rows), None
    if target is not None:
        known = target_indices(target, run.classes) if run.classes else np.asarray(target, np.float64).reshape(-1)
        if len(known) != len(x):
            raise ValueError(f"target must have {len(x)} values, one for each row, got {len(known)}")
    return predicted_at(run, key, x, known, draws, quantiles)


def predicted_at(
    run: Run, key: Array, x: np.ndarray, known: np.ndarray | None, draws: int, quantiles: Sequence[float] = ()
) -> Forecast:
    """The same of inputs as the model sees them, and targets in the data's units (classes as indices)."""
    assert run.predictor is not None
    shift, scale = np.ravel(run.units.shift)[0], np.ravel(run.units.scale)[0]
    y = None if known is None else ((known - shift) / scale).astype(np.float32)[:, None]
    process = dataclasses.replace(run.process, decode=run.last)
    size, parts = min(_TOGETHER, len(x)), []
    for begin in range(0, len(x), size):
        at = np.minimum(np.arange(begin, begin + size), len(x) - 1)  # the last rows again: one program for all
        said = run.predictor(
            process, key, x[at], None if y is None else y[at], draws=draws, quantiles=() if run.classes else quantiles
        )
        kept = said._replace(draws=None, error=None)
        parts.append(jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), kept))

    def whole(name: str, axis: int = 0) -> np.ndarray | None:
        found = [getattr(part, name) for part in parts]
        return None if found[0] is None else np.take(np.concatenate(found, axis=axis), np.arange(len(x)), axis=axis)

    log_prob, cdf = whole("log_prob"), whole("cdf")
    if run.classes:
        return Forecast(probabilities=whole("probabilities"), log_prob=log_prob)
    mean, variance, levels = whole("mean"), whole("variance"), whole("quantiles", 1)
    assert mean is not None
    assert variance is not None
    return Forecast(
        mean=mean[:, 0] * scale + shift,
        deviation=np.sqrt(variance[:, 0]) * scale,
        quantiles=None if levels is None else levels[..., 0] * scale + shift,
        log_prob=None if log_prob is None else log_prob - np.log(scale),
        cdf=None if cdf is None else cdf[:, 0],
    )
