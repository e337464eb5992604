"""Deep Gaussian processes on nine UCI tables, every model given the same processor time.

    python experiments/uci.py --data FOLDER           all sets; results/uci.json
    python experiments/uci.py --data FOLDER --only yacht
    python experiments/uci.py --data FOLDER --only yacht ranks --add
                                                      the splits that the records lack, of a set of less than 1,000
                                                      rows: every model with the updates that it made in its time before
    python experiments/uci.py --smoke                 seconds, on rows made up

FOLDER holds the sets in the form of Hernandez-Lobato & Adams 2015 (data.txt, index_train_0.txt, ...), which are not
part of this repository. The first five splits of every set; with --add all twenty of those of less than 1,000 rows.
Inputs and targets standardised by the training rows, constant columns left out.

    linear      least squares
    sparse GP   64 inducing inputs, collapsed bound of at most 20,000 rows, 400 updates, which take 2 to 25 s
    DSVI        two hidden layers, a full Gaussian of every layer's inducing values
    DDVI, DBVI  the same layers, a chain of five steps added to that Gaussian
    SGHMC       the same layers, inducing values by stochastic gradient HMC (blackjax), hyperparameters by Adam at the
                current draw during the first half; 64 draws of the second half

The last four have 64 inducing inputs a layer, batches of 256 rows and so many processor seconds a split, compilation
and prediction not counted; Adam at 0.01, which follows a cosine of the time to 0. The projection of inputs to layers of
width 8 is that of a set's first split. Budget: 50 minutes on one core, with
--add 45 more.
"""

from __future__ import annotations

import argparse
import math
import pathlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from study import Pick, Study, Table, record

import bridgejax as bj
from bridgejax.cli.supervised import occurring
from bridgejax.evaluation import Forecast, baselines

STUDY = Study(
    "uci",
    topic="Gaussian processes",
    question="Is a deep Gaussian process better than a simple model of a table, and which posterior, at equal time?",
    answer="In ten processor seconds no deep model is better than the sparse Gaussian process over the nine tables: it "
    "and DSVI tie for the best average rank. DSVI is better on kin8nm and yacht, the sparse one on naval, power and "
    "protein. The chains of DDVI and DBVI are ahead of DSVI on no table by more than a standard error and behind on "
    "most; between the two the amortised mean of DBVI makes no difference of one sign. SGHMC is the best of all on "
    "concrete and, within a standard error, on Boston, and behind on kin8nm, naval, protein and yacht, where its "
    "hyperparameters or its draws have not arrived. All twenty splits of the three small tables say what the first "
    "five said. All of this is of short training: the published tables are of hours.",
    brief="At ten seconds the sparse Gaussian process and DSVI tie; chains are behind.",
    budget="50 minutes on one core, and 45 for the splits of --add",
    source="Salimbeni & Deisenroth 2017; Xu, Zeng & Paisley 2024; Havasi, Hernandez-Lobato & Murillo-Fuentes 2018",
    picks=(
        Pick("average rank by log likelihood", {"model": "sparse GP"}, "average rank, sparse GP"),
        Pick("average rank by log likelihood", {"model": "DSVI"}, "DSVI"),
        Pick("average rank by log likelihood", {"model": "DBVI"}, "DBVI"),
    ),
    tables=(
        Table(
            ("average rank by log likelihood", "average rank by RMSE"),
            rows=("model",),
            text="Of the models below in every split; mean over the splits of a set, then over the sets. 1 is best.",
        ),
        Table(
            "test log likelihood",
            rows=("data",),
            columns="model",
            text="Nats a row, in the units of the targets; mean of the splits.",
        ),
        Table("RMSE", rows=("data",), columns="model", text="In the units of the targets; mean of the splits."),
        Table("RMSE", rows=("data",), columns="model", show="updates", title="Updates", text="Mean of the splits."),
        Table(
            "test log likelihood without repeated rows",
            rows=("data",),
            columns="model",
            text="Sets where more than a hundredth of the held-out rows have inputs of a training row.",
        ),
    ),
    timed=("data", "model"),
    one_core=True,
)
SPLITS, SECONDS = 5, 10.0
SMALL, ALL = 1000, 20  # sets of fewer rows have all their splits
INDUCING, BATCH, RATE, STEPS, CHUNK, DRAWS = 64, 256, 0.01, 5, 10, 64
LAWS: dict[str, dict[str, Any]] = {
    "DSVI": {"posterior": "full"},
    "DDVI": {"posterior": "ddvi", "steps": STEPS},
    "DBVI": {"posterior": "dbvi", "steps": STEPS},
}
SGHMC = "SGHMC"
STEP = 0.1  # of SGHMC, over the root of the number of rows
SETS = (
    "bostonHousing", "concrete", "energy", "kin8nm", "naval-propulsion-plant", "power-plant",
    "protein-tertiary-structure", "wine-quality-red", "yacht",
)  # fmt: skip


# data ---------------------------------------------------------------------------------------------------------------


class Split(NamedTuple):
    """Standardised training rows, held-out rows, and the target's units.

    Attributes:
        x: training inputs.
        y: training targets.
        at: held-out inputs.
        truth: held-out targets, in their units.
        shift: of the targets.
        scale: of the targets.
        fresh: which held-out rows are none of the training rows.
    """

    x: np.ndarray
    y: np.ndarray
    at: np.ndarray
    truth: np.ndarray
    shift: float
    scale: float
    fresh: np.ndarray


def split_of(rows: np.ndarray, train: np.ndarray, test: np.ndarray) -> Split:
    """The last column is the target."""
    x, y = rows[train, :-1], rows[train, -1]
    live = x.std(0) > 1e-9 * (1.0 + np.abs(x).max(0))
    middle, spread = x[:, live].mean(0), x[:, live].std(0)
    inputs, at = ((rows[part][:, :-1][:, live] - middle) / spread for part in (train, test))
    shift, scale = float(y.mean()), float(y.std())
    again, _ = occurring(inputs, at)
    small = np.float32
    return Split(inputs.astype(small), ((y - shift) / scale).astype(small), at.astype(small), rows[test, -1], shift,
                 scale, ~again)  # fmt: skip


def splits_of(folder: pathlib.Path | None, name: str, *, add: bool) -> list[Split]:
    """The first splits of a set, or all of a small one; without a folder, one of rows made up."""
    if folder is None:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(120, 3))
        rows = np.column_stack([x, np.sin(x[:, 0]) + 0.1 * rng.normal(size=120)])
        return [split_of(rows, np.arange(100), np.arange(100, 120))]
    at = folder / name
    if not (at / "data.txt").is_file():
        raise SystemExit(f"--data {folder} holds no {name}/data.txt")
    read = partial(np.loadtxt, dtype=int, ndmin=1)
    table = np.loadtxt(at / "data.txt")
    columns = np.append(read(at / "index_features.txt"), read(at / "index_target.txt"))
    index = lambda part, k: read(at / f"index_{part}_{k}.txt")  # noqa: E731
    count = ALL if add and len(table) < SMALL else SPLITS
    return [split_of(table[:, columns], index("train", k), index("test", k)) for k in range(count)]


# models -------------------------------------------------------------------------------------------------------------


class Learner(NamedTuple):
    """A model that learns by chunks of updates.

    Attributes:
        chunk: ``chunk(state, key, x, y, rate, late)`` to a state after so many updates; late: in the second half.
        first: ``first(split)``, a state.
        forecast: ``forecast(states, key, at, y)`` to a ``Prediction``, of the states of the second half.
    """

    chunk: Callable[..., Any]
    first: Callable[[Split], Any]
    forecast: Callable[..., Any]


def model_of(split: Split, optimizer: Any, **law: Any) -> bj.Method:
    """Two hidden layers."""
    inducing = min(INDUCING, len(np.unique(split.x, axis=0)) // 2)
    return bj.methods.deep_gp(split.x, split.y, layers=3, inducing=inducing, optimizer=optimizer, **law)


def picked(key: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """A batch."""
    rows = jax.random.randint(key, (min(BATCH, len(x)),), 0, len(x))
    return x[rows], y[rows]


def adam() -> Any:
    """With a rate that is a leaf of its state."""
    return optax.chain(optax.clip_by_global_norm(10.0), optax.inject_hyperparams(optax.adam)(learning_rate=RATE))


def at_rate(state: Any, rate: Array) -> Any:
    """The state of ``adam`` at this rate."""
    told = lambda path, leaf: rate.astype(leaf.dtype) if "learning_rate" in jax.tree_util.keystr(path) else leaf  # noqa: E731
    return jax.tree_util.tree_map_with_path(told, state)


def variational(split: Split, law: dict[str, Any]) -> Learner:
    """By a bound; of the shapes of a split."""
    method = model_of(split, adam(), **law)

    def chunk(state: Any, key: Array, x: Array, y: Array, rate: Array, late: Array) -> Any:
        def turn(state: Any, key: Array) -> tuple[Any, None]:
            pick, draw = jax.random.split(key)
            source, target = picked(pick, x, y)
            return method.step(state, draw, {"source": source, "target": target})[0], None

        return jax.lax.scan(turn, at_rate(state, rate), jax.random.split(key, CHUNK))[0]

    def first(split: Split) -> Any:
        return model_of(split, adam(), **law).init(jax.random.key(0), None)

    def forecast(states: list[Any], key: Array, at: Array, y: Array) -> Any:
        return bj.methods.predict(method.process(states[-1]), key, at, y, draws=DRAWS)

    return Learner(chunk, first, forecast)


def sampling(split: Split) -> Learner:
    """By stochastic gradient HMC of the inducing values; the state is (parameters, values, Adam's state)."""
    law = {"posterior": "ddvi", "steps": 1, "residual": None}
    method, optimizer, rows = model_of(split, adam(), **law), adam(), len(split.x)
    template = method.init(jax.random.key(0), None)

    def log_joint(params: Any, w: Array, batch: tuple[Array, Array, Array]) -> Array:
        key, x, y = batch
        process = method.process(template._replace(params=params))
        return bj.methods.log_joint(process, x, y, rows=rows, key=key)(w)

    def chunk(state: Any, key: Array, x: Array, y: Array, rate: Array, late: Array) -> Any:
        def turn(state: Any, key: Array) -> tuple[Any, None]:
            params, w, opt_state = state
            pick, hidden, move = jax.random.split(key, 3)
            batch = hidden, *picked(pick, x, y)
            sampler = blackjax.sghmc(lambda w, batch: jax.grad(log_joint, 1)(params, w, batch), 5)
            w = sampler.step(move, w, batch, STEP / math.sqrt(rows))
            grads = jax.grad(lambda params: -log_joint(params, w, batch) / rows)(params)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            moved = optax.apply_updates(params, updates)
            return (jax.tree.map(partial(jnp.where, late), params, moved), w, opt_state), None

        params, w, opt_state = state
        return jax.lax.scan(turn, (params, w, at_rate(opt_state, rate)), jax.random.split(key, CHUNK))[0]

    def first(split: Split) -> Any:
        params = model_of(split, adam(), **law).init(jax.random.key(0), None).params
        process = method.process(template._replace(params=params))
        size = process.decode.posterior.shapes.size  # pyright: ignore
        return params, jnp.zeros(size), optimizer.init(params)

    def forecast(states: list[Any], key: Array, at: Array, y: Array) -> Any:
        params = states[-1][0]
        spread = np.linspace(0, len(states) - 1, DRAWS).round().astype(int)
        ends = jnp.stack([states[k][1] for k in spread])
        return bj.methods.predict(method.process(template._replace(params=params)), key, at, y, ends=ends)

    return Learner(chunk, first, forecast)


def learnt(learner: Learner, compiled: Any, split: Split, seconds: float, planned: int | None) -> tuple[list[Any], int]:
    """States of the second half of the planned updates, or of so many processor seconds, and the updates."""
    state, x, y, updates, kept = learner.first(split), jnp.asarray(split.x), jnp.asarray(split.y), 0, []
    jax.block_until_ready((state, x, y))
    key, began = jax.random.key(1), time.process_time()
    passed = lambda: (time.process_time() - began) / seconds if planned is None else updates / planned  # noqa: E731
    while (share := passed()) < 1.0 or not kept:
        rate = RATE * min(1.0, (updates + CHUNK) / 100) * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))
        late = share >= 0.5
        given = jax.random.fold_in(key, updates), x, y, jnp.float32(rate), jnp.asarray(late)
        state = jax.block_until_ready(compiled(state, *given))
        updates += CHUNK
        if late:
            kept.append(state)
    return kept, updates


# the table ----------------------------------------------------------------------------------------------------------


def said_by(learner: Learner, states: list[Any], split: Split) -> Forecast:
    """In the units of the targets."""
    y = (split.truth - split.shift) / split.scale
    found = learner.forecast(states, jax.random.key(2), jnp.asarray(split.at), jnp.asarray(y, jnp.float32))
    mean = np.asarray(found.mean)[:, 0] * split.scale + split.shift
    return Forecast(mean, np.ones_like(mean), np.asarray(found.log_prob) - math.log(split.scale))


def simple(name: str, split: Split) -> Forecast:
    """The models that take no time."""
    given = split.x, split.y, split.at, split.truth, split.shift, split.scale
    return baselines.linear(*given) if name == "linear" else baselines.sparse_gp(*given, INDUCING)[0]


def models(
    splits: list[Split], seconds: float, planned: dict[str, int]
) -> Iterator[tuple[str, list[Forecast], list[int]]]:
    """What every model says of every split, and its updates."""
    for name in ("linear", "sparse GP"):
        yield name, [simple(name, split) for split in splits], []
    for name in (*LAWS, SGHMC):
        learner = sampling(splits[0]) if name == SGHMC else variational(splits[0], LAWS[name])
        x, y = jnp.asarray(splits[0].x), jnp.asarray(splits[0].y)
        given = jax.random.key(0), x, y, jnp.float32(RATE), jnp.asarray(False)
        compiled = jax.jit(learner.chunk).lower(learner.first(splits[0]), *given).compile()
        said, updates = [], []
        for split in splits:
            states, count = learnt(learner, compiled, split, seconds, planned.get(name))
            said.append(said_by(learner, states, split))
            updates.append(count)
        yield name, said, updates


def table(name: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One set; with --add the splits beside those of the records."""
    splits = splits_of(None if options.smoke else options.data, name, add=options.add)
    least = min(len(split.x) for split in splits)  # splits of one size share a program
    splits = [split._replace(x=split.x[:least], y=split.y[:least]) for split in splits]
    repeated = 1.0 - float(np.mean(np.concatenate([split.fresh for split in splits])))
    before = {(r["metric"], r["case"]["model"]): r for r in options.kept if options.add and r["part"] == name}
    planned = {model: r["also"]["updates"] for (metric, model), r in before.items() if "updates" in r.get("also", {})}
    new = splits[min((len(r["spread"]) for r in before.values()), default=0) :]
    if not new:
        return
    began, n = time.perf_counter(), sum(len(split.at) for split in splits)
    for model, said, updates in models(new, 0.5 if options.smoke else options.seconds, planned):
        case = {"data": name, "model": model}
        errors = [float(np.sqrt(np.mean((f.mean - s.truth) ** 2))) for f, s in zip(said, new, strict=True)]
        found = {"test log likelihood": [float(np.mean(f.log_prob)) for f in said], "RMSE": errors}
        more: dict[str, Any] = {"updates": round(float(np.mean(updates)))} if updates else {}
        for metric, values in found.items():
            whole = [*(before[metric, model]["spread"][: len(splits) - len(new)] if before else ()), *values]
            error = float(np.std(whole, ddof=1) / math.sqrt(len(whole))) if len(whole) > 1 else None
            yield record(metric, np.mean(whole), case, spread=whole, n=n, began=began, standard_error=error, **more)
        if repeated > 0.01:
            fresh = [float(np.mean(np.asarray(f.log_prob)[s.fresh])) for f, s in zip(said, new, strict=True)]
            yield record(
                "test log likelihood without repeated rows", np.mean(fresh), case, spread=fresh, n=n,
                share_repeated=round(repeated, 4),
            )  # fmt: skip
        began = time.perf_counter()


def places_of(values: np.ndarray) -> np.ndarray:
    """Ranks down each column, ties shared; 1 is the least."""
    less, same = values[None] < values[:, None], values[None] == values[:, None]
    return 1.0 + less.sum(1) + 0.5 * (same.sum(1) - 1)


def ranks(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Average ranks over the splits of a set, and of these over the sets."""
    for metric, better, word in (("test log likelihood", -1.0, "log likelihood"), ("RMSE", 1.0, "RMSE")):
        sets: dict[str, dict[str, list[float]]] = {}
        for r in options.kept:
            if r["metric"] == metric:
                sets.setdefault(r["case"]["data"], {})[r["case"]["model"]] = r["spread"]
        places = {name: places_of(better * np.array(list(found.values()))).mean(1) for name, found in sets.items()}
        for k, model in enumerate(next(iter(sets.values()))):
            row = np.array([mean[k] for mean in places.values()])
            error = float(row.std(ddof=1) / math.sqrt(row.size)) if row.size > 1 else None
            yield record(f"average rank by {word}", row.mean(), {"model": model}, n=row.size, standard_error=error)


def more(parser: argparse.ArgumentParser) -> None:
    """Where the sets are, and how long each model has."""
    parser.add_argument("--data", type=pathlib.Path, help="folder of the UCI sets")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="processor seconds of a split")
    parser.add_argument("--add", action="store_true", help="only the splits that the records lack")


if __name__ == "__main__":
    PARTS = {name: partial(table, name) for name in SETS}
    STUDY.run(__doc__, {**PARTS, "ranks": ranks}, more, smoke=("yacht",))
