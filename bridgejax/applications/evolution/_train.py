"""Training a model of reversed evolution from recorded runs, in rounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._checks import check_count, describe
from bridgejax.applications._extras import require
from bridgejax.applications.evolution._emodm import EmoDM
from bridgejax.applications.evolution._model import Evolver, evolver_method, shown
from bridgejax.applications.evolution._record import Evolution, to_unit
from bridgejax.applications.evolution._seen import FEATURES, Seen, preferences
from bridgejax.processes._keys import check_one_key, stream
from bridgejax.training import fit

_MEMBERS, _VARIABLES = 16, 40  # of a run that one population is paired with: members of its end, variables of each
_SIZES = (30, 60, 100)  # of the random populations of the first round


def train_evolver(
    runs: Sequence[Evolution],
    key: Array,
    *,
    form: str = "population",
    rounds: int = 1,
    steps: int = 2500,
    batch_size: int = 1024,
    rate: float = 1e-3,
    width: int = 64,
    depth: int = 2,
    **options: Any,
) -> Evolver:
    """A model of where better populations lie, from recorded runs.

    Shift the problems that the runs are of: a model that has always seen one optimum knows nothing else.

    Args:
        runs: of ``record``; their problems are evaluated again in later rounds.
        key: one threefry key.
        form: "population", "entropy" or "none": what the model may see of an evaluated population.
        rounds: how often it is trained again, from the start, with what it gathered itself; only the form "population".
        steps: updates, in every round.
        batch_size: variables per update.
        rate: peak of Adam's learning rate.
        width: of the residual MLP.
        depth: its blocks.
        **options: of ``fit`` (``directory``, ``callbacks``, ...), for the last round.

    Returns:
        An Evolver.

    Raises:
        ValueError: no runs, or something else than runs, an unknown form.

    Example:
        See ``EmoDM``.
    """
    if not isinstance(runs, list | tuple) or not runs or not all(isinstance(run, Evolution) for run in runs):
        raise ValueError(f"runs must be a list of Evolutions, got {describe(runs)}; see record")
    rounds, sees = check_count("rounds", rounds, 0), shown(form)
    steps, batch_size = check_count("steps", steps), check_count("batch_size", batch_size)
    random = np.random.default_rng(np.asarray(jax.random.key_data(stream(check_one_key(key), "evolution"))))
    pairs = [_pairs(run, Seen(*part), random) for run in runs for part in _random_parts(run, random)]
    sizes = {"steps": steps, "rate": rate, "width": width, "depth": depth}
    for k in range(rounds if form == "population" else 0):
        evolver = _fitted(pairs, sees, jax.random.fold_in(key, k), batch_size, sizes, {})
        pairs += [_pairs(run, seen, random) for run in runs for seen in _gathered(evolver, run.problem, random)]
    return _fitted(pairs, sees, key, batch_size, sizes, options)


def _random_parts(run: Evolution, random: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Some of the first population, as a search would have it before its first candidates."""
    x, f = run.xs[-1], run.fs[-1]
    chosen = [random.permutation(len(x))[:size] for size in _SIZES]
    return [(x[k], f[k]) for k in chosen]


def _gathered(evolver: Evolver, problem: Any, random: np.random.Generator) -> list[Seen]:
    """What a search has evaluated before each of its rounds, the first excepted."""
    kept: list[Seen] = []

    def keep(search: Any) -> None:
        if search.n_iter > 1:
            kept.append(Seen(to_unit(problem, search.pop.get("X").astype(float)), search.pop.get("F")))

    initial, batch, count = int(random.choice([50, 100])), int(random.integers(20, 80)), int(random.integers(1, 4))
    search = EmoDM(evolver, initial=initial, batch=batch)
    require("pymoo.optimize").minimize(
        problem, search, ("n_gen", 1 + count), seed=int(random.integers(2**31)), callback=keep
    )
    return kept


def _pairs(run: Evolution, seen: Seen, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Variables (k, 1) of members of the last population, and the conditions (k, FEATURES) that go with them."""
    x, w = run.xs[0], preferences(run.fs[0])
    members = random.choice(len(x), min(_MEMBERS, len(x)), replace=False)
    told, d = seen.told(w[members]), x.shape[1]
    columns = np.stack([random.permutation(d)[:_VARIABLES] for _ in members])
    z = np.take_along_axis(x[members], columns, 1)
    return z.reshape(-1, 1), np.take_along_axis(told, columns[..., None], 1).reshape(-1, FEATURES)


def _fitted(
    pairs: list[tuple[np.ndarray, np.ndarray]],
    sees: np.ndarray,
    key: Array,
    batch_size: int,
    sizes: dict[str, Any],
    options: dict[str, Any],
) -> Evolver:
    z, told = (np.concatenate(part) for part in zip(*pairs, strict=True))
    shift, scale = told.mean(0), told.std(0) + 1e-3
    method, args = evolver_method(**sizes), sees * (told - shift) / scale
    rows = {"x": z.astype(np.float32), "args": args.astype(np.float32)}
    state = fit(method, rows, key, steps=sizes["steps"], batch_size=min(batch_size, len(z)), **options)
    return Evolver(method.process(state), jnp.asarray(shift), jnp.asarray(scale), jnp.asarray(sees))
