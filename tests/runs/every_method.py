"""A small problem for every method of the library: those that can be named, by words; those for Python, by hand.

``NAMES`` walks the registry, so that a method that is added is tried too, or missed by name.
"""

import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import bridgejax as bj
from bridgejax.runs import registry
from bridgejax.runs.build import build
from bridgejax.runs.config import Config, configure
from bridgejax.runs.data import load_run_data, make_batches

BATCH, ROUND = 16, 2
NAMES = [*registry.specs(), *registry.IN_PYTHON]
SMALL = {"batch_size": BATCH, "width": 8, "depth": 1, "inducing": 4, "sample_steps": 4, "components": 3, "ema": 0.9}
OWN = {"score_machine": {"image": "1x2"}}  # words that a method needs besides


class Problem(NamedTuple):
    """What ``fit`` is given, and what ``sample`` is told besides keys."""

    method: bj.Method
    data: object
    rounds: int | None = None
    args: np.ndarray | None = None
    x: np.ndarray | None = None


def _files(folder: pathlib.Path) -> dict[str, dict[str, str]]:
    """The words for the data of each form; the files are made."""
    random = np.random.default_rng(0)
    for end in ("source", "target"):
        np.save(folder / f"{end}.npy", random.normal(size=(60, 2)))
    places = [f"{a:.2f},{b:.2f}" for a, b in random.normal((-20, 120), 8, (60, 2))]
    (folder / "places.csv").write_text("lat,lon\n" + "\n".join(places) + "\n")
    angles = [f"{a:.2f},{b:.2f}" for a, b in random.normal(0, 60, (60, 2))]
    (folder / "angles.csv").write_text("phi,psi\n" + "\n".join(angles) + "\n")
    cells = [f"{random.normal(t):.4f},{t},{random.normal(-t):.4f}" for t in (0, 1, 2) for _ in range(50)]
    (folder / "cells.csv").write_text("a,day,b\n" + "\n".join(cells) + "\n")
    table = [f"{a:.4f},{b:.4f},{a - b * b:.4f}" for a, b in random.normal(size=(60, 2))]
    (folder / "table.csv").write_text("a,b,c\n" + "\n".join(table) + "\n")
    ends = {end: str(folder / f"{end}.npy") for end in ("source", "target")}
    return {
        "one set": {"data": "moons"},
        "one or two": ends,
        "two sets": ends,
        "pairs": ends,
        "manifold": {"data": str(folder / "places.csv"), "manifold": "sphere"},
        "torus": {"data": str(folder / "angles.csv"), "manifold": "torus"},
        "snapshots": {"data": str(folder / "cells.csv"), "time_column": "day"},
        "supervised": {"data": str(folder / "table.csv"), "predict": "c"},
    }


def _by_words(name: str, folder: pathlib.Path, settings: dict[str, object]) -> Problem:
    spec = registry.spec_of(name)
    words = _files(folder)["torus" if name == "trivialised_momentum" else spec.data] | OWN.get(name, {})
    default = configure(name)
    records = (default.options, default.network, default.training)
    small = {key: value for key, value in SMALL.items() if any(hasattr(record, key) for record in records)}
    config = configure(name, **(small | words | settings))
    return of_config(config)


def of_config(config: Config) -> Problem:
    """The problem that a Config describes."""
    spec, data = config.spec, load_run_data(config)
    method, batches = build(config, data.spec(config), steps=10), make_batches(data, config)
    told = batches.batch(0)["source"] if spec.paired else None
    return Problem(method, batches, ROUND if spec.in_rounds else None, told, None if spec.supervised else told)


def _density(x):
    return -0.5 * jnp.sum((x - 1.0) ** 2)


def _decay():
    return bj.SDE(lambda t, x, args: -x, lambda t, x, args: 1.0)


def _in_python(name: str) -> Problem:
    M, ts, random = bj.methods, bj.grids.uniform(4), np.random.default_rng(0)
    rows = random.normal(size=(64, 2)).astype(np.float32)
    if name == "gsbm":
        method = M.gsbm(None, lambda t, x, others: jnp.sum(x**2), shape=(2,), cache=BATCH, path_steps=1, ts=ts)
        return Problem(method, bj.data.Pairs(rows, rows[::-1] + 1, BATCH, 0), ROUND)
    if name == "deep_gp":
        targets = np.sin(rows[:, 0])
        method = M.deep_gp(rows, targets, inducing=4, steps=10)
        return Problem(method, bj.data.Pairs(rows, targets[:, None], BATCH, 0, bj.couplings.paired), args=rows[:BATCH])
    if name == "conditioned":
        return Problem(M.conditioned(_decay(), None, start=jnp.zeros(2), end=jnp.ones(2), ts=ts), rows[:, :0])
    method = getattr(M, name)(_density, None, dim=2, ts=ts)
    return Problem(method, rows[:, :0], ROUND if method.refresh is not None else None)


def problem(name: str, folder: pathlib.Path, **settings: object) -> Problem:
    """The problem of a method; settings replace those of its Config."""
    return _in_python(name) if name in registry.IN_PYTHON else _by_words(name, folder, settings)


def run(made: Problem, steps: int = 5, **options: object):
    """``fit`` on a problem: the state, and the loss of every step."""
    losses = []
    state = bj.fit(
        made.method,
        made.data,
        jax.random.key(0),
        steps=steps,
        batch_size=BATCH,
        refresh_every=made.rounds,
        log_every=1,
        callbacks=[lambda info: losses.append(info.metrics["loss"])],
        **options,
    )
    return state, np.array(losses)


def draw(made: Problem, state, **options: object):
    """Sixteen samples of a state."""
    return bj.sample(made.method.process(state), bj.keys(jax.random.key(1), BATCH), made.args, x=made.x, **options)
