"""What a reader of a bridge's report must know: which end is which, and its noise with units.

One unit of noise for all: sigma per square root of unit time, epsilon = sigma^2 per unit time, the entropic
regularisation for the cost |x - y|^2 / 2. Both are in the units that the bridge runs in: the data's own, or where data
are standardised those divided by the target's scale, so that along column j sigma is scale_j sigma in the data's units.
"""

from __future__ import annotations

import numpy as np

from bridgejax._types import Json, MethodState
from bridgejax.data.arrays import Dataset
from bridgejax.methods._spec import Noise, noise
from bridgejax.runs.config import Config


def _listed(values: np.ndarray) -> str:
    values = np.unique(np.round(np.atleast_1d(values).ravel(), 12)) if values.size > 4 else np.atleast_1d(values)
    return ", ".join(f"{v:.4g}" for v in values) if len(values) <= 4 else f"{values.min():.4g} to {values.max():.4g}"


def describe(config: Config, data: Dataset, source: str, target: str, *, backward: bool) -> Json:
    """Which end is which, and the noise with its units: JSON values, with the sentences under ``words``."""
    scale, shift = np.asarray(data.scale, np.float64), np.asarray(data.shift, np.float64)
    scaled = bool(np.any(scale != 1.0) or np.any(shift != 0.0))
    options = config.options
    sigma = noise(config.method, options, zero=True) if isinstance(options, Noise) else None
    words = [f"source (time 0): {source}; target (time 1): {target}; samples run forward, from source to target"]
    words.append(
        "the other way: bridgejax sample RUN --direction backward"
        if backward
        else f"method {config.method} has no backward process, from target to source"
    )
    paired = config.keeps_pairs
    words.append("row k of the source belongs to row k of the target" if paired else "rows of the ends are unrelated")
    out: Json = {"source": source, "target": target, "method": config.method}
    out |= {"paired": paired, "backward": backward, "scaled": scaled, "scale": scale.tolist(), "shift": shift.tolist()}
    how = "pixels" if data.kind == "image" else "columns"
    units = f"standardised units ({how} of both ends divided by the target's scale {_listed(scale)})"
    units = units if scaled else "the data's own units (data not scaled)"
    if sigma is None:
        schedule = getattr(options, "schedule", None)
        words.append(f"noise: that of the schedule {schedule}, in {units}" if schedule else f"no noise; in {units}")
        return out | {"sigma": None, "epsilon": None, "units": units, "words": words}
    unit = "sigma {} per square root of unit time, epsilon = sigma^2 = {} per unit time"
    words.append(unit.format(f"{sigma:.4g}", f"{sigma**2:.4g}") + f", in {units}")
    if scaled:
        raw = _listed(sigma * scale), _listed((sigma * scale) ** 2)
        words.append("in the data's own units: " + unit.format(*raw) + (" by column" if scale.size > 1 else ""))
    if config.spec.remark:
        words.append(config.spec.remark)
    return out | {"sigma": sigma, "epsilon": sigma**2, "units": units, "words": words}


def rounds(state: MethodState, words: list[str]) -> Json:
    """Where a training in rounds stands, with a sentence added to ``words``; nothing for one without."""
    if not hasattr(state, "round"):
        return {}
    out = {"round": int(state.round), "rejected": int(state.rejected), "marginal_error": float(state.marginal_error)}
    words.append(
        f"round {out['round']}: paths simulated for it end {float(state.marginal_error):.2g} standard deviations from "
        f"the data{f', and the last {int(state.rejected)} rounds were rejected: too far' if out['rejected'] else ''}"
    )
    return out
