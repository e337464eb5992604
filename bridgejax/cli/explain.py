"""``bridgejax explain``: what a diffusion run does between noise and data, beside what it would on Gaussian data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._types import Field, Json
from bridgejax.cli.arguments import Explain
from bridgejax.cli.results import say
from bridgejax.data import Dataset
from bridgejax.evaluation import (
    emergence_levels,
    explained_score,
    kick_response,
    plots,
    simple_denoisers,
    trajectory_dimension,
)
from bridgejax.evaluation.explanation import flow_of
from bridgejax.oracles import fit_gaussian, gaussian_flow
from bridgejax.processes import SDE, Process, Schedule, keys
from bridgejax.runs import Run
from bridgejax.runs import load as load_run
from bridgejax.runs.data import load_run_data
from bridgejax.runs.record import located, read_config
from bridgejax.runs.run import indices
from bridgejax.solve import simulate_path
from bridgejax.solve.grids import _noise_levels, _noising_times

_LEVELS, _DIRECTIONS, _KICKED, _KICKS, _COMPONENTS = 10, 8, 4, 3, 3
_RANGE = 0.05, 20.0  # noise levels, in deviations of the data
_ROWS = 2000  # held-out rows that are noised
_KICK_PATHS = 16


class Rows(NamedTuple):
    """Rows in the model's units, ``[n, *shape]``, and their classes, ``[n]``, or None."""

    x: np.ndarray
    labels: np.ndarray | None = None


def check_explains(run: Run, method: str) -> Process:
    """The process of a run that starts from noise and has a denoiser.

    Raises:
        ValueError: another run.
    """
    vectors = run.units.encoding is None and run.units.coordinates is None
    if getattr(run.process.dynamics, "semilinear", None) is None or run.begins != "noise" or not vectors:
        raise ValueError(
            f"method {method!r} has no denoiser on a noise schedule that starts from noise: this is for runs of "
            "diffusion and edm"
        )
    return run.process


def explain(command: Explain) -> None:
    """Measure, print, draw."""
    directory = Path(command.run)
    config = located(read_config(directory), directory)
    run = load_run(directory)
    process, data = check_explains(run, config.method), load_run_data(config)
    train, held = (_rows(run, half, command.label) for half in (data.train, data.holdout))
    say(f"explaining {directory} ...")
    found = explanation(process, train, held, num=command.num, modes=command.modes, seed=command.seed)
    found["labels"] = _told(data.train, command.label)
    path = directory / "explain.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    plots.explanation(directory / "explain.png", found)
    print(table(found))
    print(f"  {path}\n  {directory / 'explain.png'}")


def _rows(run: Run, half: Dataset, label: str) -> Rows:
    """Rows in the model's units with their classes; with a label those that have it, two at least.

    Raises:
        ValueError: a label that the run does not have, or fewer than two rows with it.
    """
    x = np.asarray(run.to_model(half.values))
    if not label:
        return Rows(x, half.labels)
    picked = half.labels == indices(label, run.classes, 1)[0]
    if np.sum(picked) < 2:
        raise ValueError(f"label {label!r} has {np.sum(picked)} of {len(x)} rows, and two are needed; leave it out")
    return Rows(x[picked], half.labels[picked])  # pyright: ignore[reportOptionalSubscript]


def _told(train: Dataset, label: str) -> str:
    """What the model was told, in words."""
    if train.labels is None:
        return ""
    if label:
        return f"the model is told label {label}; rows and simpler models are of this label alone"
    return "the model is told each row's own label, of which the simpler models know nothing; see --label"


def explanation(process: Process, train: Rows, held: Rows, *, num: int, modes: int, seed: int) -> Json:
    """The four measurements, in the model's units, as numbers that JSON holds."""
    flow, schedule, denoiser = flow_of(process, "explain")
    labels = None if train.labels is None else jnp.asarray(np.resize(train.labels, num), jnp.int32)
    own = None if held.labels is None else jnp.asarray(held.labels[:_ROWS], jnp.int32)
    few = None if labels is None else labels[:_KICK_PATHS]
    law = fit_gaussian(train.x)
    order = np.argsort(-np.asarray(law.values))[:_DIRECTIONS]
    u, values = np.asarray(law.vectors)[:, order], np.asarray(law.values, np.float64)[order]
    every, key = keys(jax.random.key(seed), num), jax.random.key(seed)
    ts = np.asarray(process.ts, np.float64)
    times = (schedule.T - ts[:-1])[::-1]  # rising
    picked = _picked(schedule, times, float(train.x.std()))
    models = simple_denoisers(train.x, schedule, modes=min(modes, len(train.x)))
    shares = explained_score(denoiser, schedule, models, held.x[:_ROWS], picked, key, args=own)
    x0 = jax.vmap(process.start, (0, None if labels is None else 0))(every, labels)
    xs, denoised = _paths(flow, denoiser, every, x0, jnp.asarray(ts, jnp.result_type(float)), labels)
    levels = np.append(_noise_levels(schedule, times)[::-1], 0.0)
    exact = jax.vmap(jax.vmap(gaussian_flow(law, schedule), (None, 0, None)), (None, None, 0))
    straight = exact(schedule.T, jnp.asarray(schedule.T - ts, jnp.result_type(float)), x0)
    emerged = emergence_levels(np.concatenate([denoised, xs[:, -1:]], axis=1), levels, u)
    kicked = picked[np.unique(np.linspace(1, len(picked) - 2, _KICKS).round().astype(int))]  # inside of the grid
    spread = np.unique(np.linspace(0, len(values) - 1, _KICKED).round().astype(int))
    some = u[:, spread], values[spread]
    response = kick_response(process, every[:_KICK_PATHS], some[0], kicked, args=few)
    return {
        "paths": num,
        "rows": len(held.x[:_ROWS]),
        "levels": _noise_levels(schedule, picked).tolist(),
        "explained": {name: share.tolist() for name, share in shares.items()},
        "trajectory": {
            "model": trajectory_dimension(xs, most=_COMPONENTS).tolist(),
            "gaussian": trajectory_dimension(straight, most=_COMPONENTS).tolist(),
        },
        "variances": values.tolist(),
        "emergence": {"model": [_number(s) for s in emerged], "gaussian": np.sqrt(3.0 * values).tolist()},
        "kicks": {
            "levels": _noise_levels(schedule, kicked).tolist(),
            "variances": some[1].tolist(),
            "model": response.tolist(),
            "gaussian": _responses(schedule, kicked, some[1]).tolist(),
        },
    }


def _picked(schedule: Schedule, times: np.ndarray, deviation: float) -> np.ndarray:
    """Rising noising times, their noise levels even in logarithm around the deviation of the data."""
    low, high = _noise_levels(schedule, times[[0, -1]])
    low, high = max(low, _RANGE[0] * deviation), min(high, _RANGE[1] * deviation)
    if not low < high:
        return times
    log_snr = -2.0 * np.log(np.geomspace(low, high, _LEVELS))
    return np.clip(_noising_times(schedule, log_snr), times[0], times[-1])


@jax.jit
def _paths(flow: SDE, denoiser: Field, every: Array, x0: Array, ts: Array, labels: Array | None) -> tuple[Array, Array]:
    """States at all times, and denoised states at all but the last."""

    def one(key: Array, x: Array, label: Array | None) -> tuple[Array, Array]:
        xs = simulate_path(flow, key, x, ts, label).xs
        return xs, jax.lax.map(lambda pair: denoiser(pair[0], pair[1], label), (flow.T - ts[:-1], xs[:-1]))

    return jax.vmap(one, (0, 0, None if labels is None else 0))(every, x0, labels)


def _responses(schedule: Schedule, times: np.ndarray, values: np.ndarray) -> np.ndarray:
    """sqrt(lambda / (alpha^2 lambda + sigma^2)), ``[times, variances]``."""
    alpha, sigma = (np.array([float(f(t)) for t in times])[:, None] for f in (schedule.alpha, schedule.sigma))
    return np.sqrt(values / (alpha**2 * values + sigma**2))


def _number(value: float) -> float | None:
    """None for what JSON has no word for: there from the start, or never."""
    return float(value) if np.isfinite(value) else None


def _cell(share: float) -> str:
    return f"{'< -10':>11}" if share < -10 else f"{share:11.4f}"


def table(found: Json) -> str:
    """The measurements in lines of text."""
    lines = [found["labels"]] if found.get("labels") else []
    lines += ["share of the learnt score that simpler models explain, on held-out rows (1: all of it)"]
    lines.append(f"  {'noise level':12}" + "".join(f"{name:>11}" for name in found["explained"]))
    for k, level in enumerate(found["levels"]):
        lines.append(f"  {level:<12.3g}" + "".join(_cell(shares[k]) for shares in found["explained"].values()))
    words = ("one", "two", "three")
    lines.append("share of a path's variance in its principal components, model (Gaussian)")
    for k, word in enumerate(words):
        ours, exact = (found["trajectory"][name][k] for name in ("model", "gaussian"))
        lines.append(f"  {word:12}{ours:11.5f} ({exact:.5f})")
    lines.append("noise level at which half of a principal feature has emerged, model (Gaussian, sqrt(3 variance))")
    for variance, ours, exact in zip(found["variances"], *found["emergence"].values(), strict=True):
        lines.append(f"  variance {variance:<9.3g}{'-' if ours is None else format(ours, '.3g'):>5} ({exact:.3g})")
    lines.append("share of a kick that is left in the sample, model (Gaussian): noise level, then by variance")
    lines.append(f"  {'':12}" + "".join(f"{v:>16.3g}" for v in found["kicks"]["variances"]))
    for level, ours, exact in zip(*(found["kicks"][name] for name in ("levels", "model", "gaussian")), strict=True):
        cells = (f"{a:.3f} ({b:.3f})" for a, b in zip(ours, exact, strict=True))
        lines.append(f"  {level:<12.3g}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)
