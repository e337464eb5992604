"""Deep Gaussian processes on tables: nine UCI sets, five standard splits each, six models at equal processor time.

    python experiments/uci.py --data-dir UCI              all; results/uci.json
    python experiments/uci.py --data-dir UCI --only yacht one set
    python experiments/uci.py --smoke                     a made-up table, seconds, nothing written

    linear      least squares with its residual variance
    sparse GP   one layer, 32 inducing inputs, full Gaussian
    DSVI        two layers as wide as the inputs, 32 inducing inputs each, full Gaussian
    DDVI, DBVI  the same layers, chains of 10 steps around a full Gaussian
    SGHMC       the same layers, stochastic gradient HMC (package blackjax; without it its rows are left out) over the
                inducing values of both layers, hyperparameters by Adam at every sample of the first half; the step is
                the best of three by a tenth of the first split's training rows, which is not counted

Every model but the linear one trains for the same processor seconds (of all threads, compilation left out), in batches
of 128, by Adam at 0.01 with a cosine to zero over that time. Log likelihoods and errors are of test rows and in the
targets' own units, with 64 draws; also without the test rows whose inputs occur in training. Inputs and targets are
standardised by the training rows; columns that are constant there are left out. Budget: 35 minutes on two cores.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import pathlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from study import Study, Table, record

import bridgejax as bj

SETS = {
    "yacht": "yacht",
    "boston": "bostonHousing",
    "energy": "energy",
    "concrete": "concrete",
    "wine": "wine-quality-red",
    "kin8nm": "kin8nm",
    "power": "power-plant",
    "naval": "naval-propulsion-plant",
    "protein": "protein-tertiary-structure",
}
LOGS, ERRORS = "test log likelihood", "test RMSE"
DISTINCT = "test log likelihood without repeated rows"
STUDY = Study(
    "uci",
    topic="Gaussian processes",
    question="On tables, at equal time: what do depth and a diffusion posterior buy a Gaussian process?",
    answer="",
    brief="",
    budget="35 minutes on two cores",
    source="Salimbeni & Deisenroth 2017; Havasi, Hernandez-Lobato & Murillo-Fuentes 2018; Xu, Zeng & Paisley 2024; "
    "Diffusion bridge variational inference for deep Gaussian processes, 2026",
    tables=(
        Table(
            "test log likelihood",
            rows=("data",),
            columns="model",
            text="Nats a row in the targets' own units, mean of five standard splits; higher is better.",
            digits=4,
        ),
        Table("standard error over splits", rows=("data",), columns="model"),
        Table("test RMSE", rows=("data",), columns="model", text="In the targets' own units.", digits=4),
        Table("average rank", rows=("of",), columns="model", text="1 is the best of the models; over the nine sets."),
        Table(
            "test log likelihood without repeated rows",
            rows=("data",),
            columns="model",
            text="Where test rows have inputs that occur in training: without them.",
            digits=4,
        ),
        Table("updates", rows=("data",), columns="model", text="In the same processor time; of SGHMC samples."),
    ),
    timed=("part",),
)
SPLITS, SECONDS, BATCH, INDUCING, DRAWS, CHUNK, RATE = 5, 8.0, 128, 32, 64, 20, 1e-2
DEEP: dict[str, dict[str, Any]] = {
    "sparse GP": dict(posterior="full", layers=1),
    "DSVI": dict(posterior="full", layers=2),
    "DDVI": dict(posterior="ddvi", layers=2),
    "DBVI": dict(posterior="dbvi", layers=2),
}
STEPS = (1e-3, 3e-3, 1e-2)  # of SGHMC, times sqrt(1,000 / rows)
LEAPS, FRICTION = 10, 5.0


class Split(NamedTuple):
    """Standardised rows, the true targets of the test rows, and how to go back."""

    x: np.ndarray
    y: np.ndarray
    at: np.ndarray
    true: np.ndarray
    level: float
    unit: float

    def scores(self, said: Any) -> tuple[np.ndarray, np.ndarray]:
        """Log densities and squared errors of the test rows in the targets' units."""
        error = np.asarray(said.mean[:, 0]) * self.unit + self.level - self.true
        return np.asarray(said.log_prob) - math.log(self.unit), error**2

    @property
    def repeated(self) -> np.ndarray:
        """Which test rows have inputs that occur in training."""
        seen = {row.tobytes() for row in self.x}
        return np.array([row.tobytes() in seen for row in self.at])


def standardised(x: np.ndarray, y: np.ndarray, at: np.ndarray, true: np.ndarray) -> Split:
    """By the training rows."""
    keep = np.ptp(x, axis=0) > 0
    shift, scale, level, unit = x[:, keep].mean(0), x[:, keep].std(0), float(y.mean()), float(y.std())
    wide = ((x[:, keep] - shift) / scale).astype(np.float32), ((y - level) / unit).astype(np.float32)
    return Split(*wide, ((at[:, keep] - shift) / scale).astype(np.float32), true, level, unit)


def standard(folder: pathlib.Path, number: int) -> Split:
    """A standard split of a folder."""
    table = np.loadtxt(folder / "data.txt")
    columns = np.loadtxt(folder / "index_features.txt").astype(int)
    target = int(np.loadtxt(folder / "index_target.txt"))
    train, test = (np.loadtxt(folder / f"index_{part}_{number}.txt").astype(int) for part in ("train", "test"))
    x, y = table[:, columns], table[:, target]
    return standardised(x[train], y[train], x[test], y[test])


def made_up(number: int) -> Split:
    """A table for the smoke run."""
    rng = np.random.default_rng(number)
    x = rng.normal(size=(150, 3))
    y = np.sin(x.sum(1)) + 0.1 * rng.normal(size=150)
    return standardised(x[:120], y[:120], x[120:], y[120:])


# training for a time ------------------------------------------------------------------------------------------------


class Clock(NamedTuple):
    """Updates made, and how many there will be: part of the optimizer's state, so that one program serves all."""

    count: Any
    total: Any


def cosine() -> optax.GradientTransformation:
    """Updates times a cosine that ends at 0 after the clock's total."""

    def update(updates: Any, clock: Clock, params: Any = None) -> tuple[Any, Clock]:
        factor = 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.minimum(clock.count / clock.total, 1.0)))
        return jax.tree.map(lambda leaf: factor * leaf, updates), clock._replace(count=clock.count + 1.0)

    return optax.GradientTransformation(lambda params: Clock(jnp.zeros(()), jnp.ones(())), update)


def adam() -> optax.GradientTransformation:
    """Adam with gradients clipped, by a cosine."""
    return optax.chain(optax.clip_by_global_norm(10.0), optax.adam(RATE), cosine())


def timed(state: Any, total: float) -> Any:
    """The state with this total on its clock."""
    clock = lambda leaf: isinstance(leaf, Clock)  # noqa: E731
    change = lambda leaf: leaf._replace(total=jnp.float32(total)) if clock(leaf) else leaf  # noqa: E731
    return state._replace(opt_state=jax.tree.map(change, state.opt_state, is_leaf=clock))


def drawn(key: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """A batch of rows."""
    rows = jax.random.randint(key, (min(BATCH, x.shape[0]),), 0, x.shape[0])
    return x[rows], y[rows]


def trainer(method: bj.Method) -> Callable[..., Any]:
    """``chunk(state, key, x, y)``: CHUNK updates, compiled once for all splits of a set."""

    @jax.jit
    def chunk(state: Any, key: Any, x: Any, y: Any) -> Any:
        def turn(state: Any, key: Any) -> tuple[Any, None]:
            batch_key, step_key = jax.random.split(key)
            rows, targets = drawn(batch_key, x, y)
            return method.step(state, step_key, {"source": rows, "target": targets})[0], None

        return jax.lax.scan(turn, state, jax.random.split(key, CHUNK))[0]

    return chunk


def chunks_in(run: Callable[[], Any], seconds: float) -> int:
    """How many runs take so many processor seconds, by three of them after a first."""
    jax.block_until_ready(run())
    began = time.process_time()
    for _ in range(3):
        jax.block_until_ready(run())
    return max(4, round(3.0 * seconds / (time.process_time() - began)))


# models -------------------------------------------------------------------------------------------------------------


def linear(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Scores of least squares with its residual variance."""
    design = np.hstack([split.x, np.ones((len(split.x), 1))])
    weights, *_ = np.linalg.lstsq(design, split.y, rcond=None)
    variance = np.sum((split.y - design @ weights) ** 2) / max(1, len(split.y) - design.shape[1])
    error = np.hstack([split.at, np.ones((len(split.at), 1))]) @ weights - (split.true - split.level) / split.unit
    logs = -0.5 * (error**2 / variance + math.log(2.0 * math.pi * variance)) - math.log(split.unit)
    return logs, (error * split.unit) ** 2


def made(how: dict[str, Any], split: Split) -> bj.Method:
    """A deep Gaussian process of a split's rows."""
    width = split.x.shape[1]  # hidden layers keep it: their mean function is the identity, whatever the split
    inducing = INDUCING if len(split.x) >= 4 * INDUCING else len(split.x) // 8
    return bj.methods.deep_gp(split.x, split.y, width=width, inducing=inducing, optimizer=adam(), **how)


def deep(how: dict[str, Any], splits: list[Split], seconds: float) -> tuple[list[Any], float]:
    """Scores on every split, and the mean number of updates."""
    found, counts, method = [], [], made(how, splits[0])
    chunk = trainer(method)
    for number, split in enumerate(splits):
        start, key = made(how, split).init(jax.random.key(number), None), jax.random.key(number)
        count = chunks_in(partial(chunk, start, key, split.x, split.y), seconds)
        state = timed(start, float(count * CHUNK))
        for index in range(count):
            state = jax.block_until_ready(chunk(state, jax.random.fold_in(key, index), split.x, split.y))
        targets = (split.true - split.level) / split.unit
        said = bj.methods.predict(method.process(state), jax.random.key(100 + number), split.at, targets, draws=DRAWS)
        found.append(split.scores(said))
        counts.append(count * CHUNK)
    return found, float(np.mean(counts))


class Chain(NamedTuple):
    """Where stochastic gradient HMC is."""

    v: Any
    params: Any
    opt_state: Any


def sghmc(splits: list[Split], seconds: float) -> tuple[list[Any], float]:
    """Scores on every split, and the mean number of samples."""
    import blackjax

    how = dict(posterior="ddvi", layers=2, steps=1, residual=None)  # its numbers are the inducing values themselves
    method, optimizer = made(how, splits[0]), optax.adam(RATE)
    rows = len(splits[0].x)

    def log_density(v: Any, params: Any, key: Any, x: Any, y: Any) -> Any:
        process = method.process(blank._replace(params=params))
        return bj.methods.log_joint(process, x, y, rows=rows, key=key)(v)

    def gradient(v: Any, batch: Any) -> Any:
        params, key, x, y = batch
        return jax.grad(log_density)(v, params, key, x, y)

    kernel = blackjax.sghmc(gradient, LEAPS, FRICTION)

    @jax.jit
    def chunk(chain: Chain, start: Any, until: Any, step: Any, key: Any, x: Any, y: Any) -> Any:
        def turn(chain: Chain, i: Any) -> tuple[Chain, Any]:
            walk_key, noise_key, batch_key = jax.random.split(jax.random.fold_in(key, i), 3)
            batch = drawn(batch_key, x, y)
            v = kernel.step(walk_key, chain.v, (chain.params, noise_key, *batch), step)
            grads = jax.grad(lambda params: -log_density(v, params, noise_key, *batch) / rows)(chain.params)
            updates, opt_state = optimizer.update(grads, chain.opt_state)
            learning = jnp.where(i < until, 1.0, 0.0)
            params = jax.tree.map(lambda leaf, change: leaf + learning * change, chain.params, updates)
            return Chain(v, params, opt_state), v

        return jax.lax.scan(turn, chain, start + jnp.arange(CHUNK))

    def run(split: Split, step: float, seconds: float, number: int) -> tuple[Chain, Any, int]:
        state = made(how, split).init(jax.random.key(number), None)
        v = 0.01 * jax.random.normal(jax.random.key(7), (width(state),))
        chain, key = Chain(v, state.params, optimizer.init(state.params)), jax.random.key(number)
        count, kept = chunks_in(partial(chunk, chain, 0, 0, step, key, split.x, split.y), seconds), []
        for index in range(count):
            until = count * CHUNK // 2
            chain, path = jax.block_until_ready(chunk(chain, index * CHUNK, until, step, key, split.x, split.y))
            if index * CHUNK >= until:
                kept.append(path)
        paths = jnp.concatenate(kept)
        return chain, paths[jnp.linspace(0, len(paths) - 1, DRAWS).astype(int)], count * CHUNK

    def width(state: Any) -> int:
        return sum(layer["inducing"].shape[0] * n for layer, n in zip(state.params["layers"], outputs, strict=True))

    def said(chain: Chain, ends: Any, split: Split, number: int) -> tuple[np.ndarray, np.ndarray]:
        process = method.process(blank._replace(params=chain.params))
        targets = (split.true - split.level) / split.unit
        told = bj.methods.predict(process, jax.random.key(100 + number), split.at, targets, ends=ends)
        return split.scores(told)

    outputs = [splits[0].x.shape[1], 1]
    blank = method.init(jax.random.key(0), None)
    scale, first = math.sqrt(1000.0 / rows), splits[0]
    held = max(1, len(first.x) // 10)
    order = np.random.default_rng(0).permutation(len(first.x))
    # the rows that choose the step are also in the batches' count of rows, which is that of all
    inner = first._replace(
        x=first.x[order[held:]],
        y=first.y[order[held:]],
        at=first.x[order[:held]],
        true=first.y[order[:held]] * first.unit + first.level,
    )
    trials = {step: said(*run(inner, step * scale, seconds, 0)[:2], inner, 0)[0].mean() for step in STEPS}
    step = max(trials, key=lambda step: np.nan_to_num(trials[step], nan=-np.inf)) * scale
    found, counts = [], []
    for number, split in enumerate(splits):
        chain, ends, count = run(split, step, seconds, number)
        found.append(said(chain, ends, split, number))
        counts.append(count)
    return found, float(np.mean(counts))


# the study ----------------------------------------------------------------------------------------------------------


def measured(name: str, splits: list[Split], seconds: float) -> Iterator[dict[str, Any]]:
    """All models on one set."""
    models: dict[str, Callable[[], tuple[list[Any], float | None]]] = {
        "linear": lambda: ([linear(split) for split in splits], None),
        **{model: partial(deep, how, splits, seconds) for model, how in DEEP.items()},
    }
    if importlib.util.find_spec("blackjax") is None:
        print("SGHMC is left out: install blackjax")
    else:
        models["SGHMC"] = partial(sghmc, splits, seconds)
    repeated = [split.repeated for split in splits]
    for model, run in models.items():
        began = time.perf_counter()
        found, updates = run()
        case, n = {"data": name, "model": model}, len(splits[0].true)
        logs = [float(log.mean()) for log, _ in found]
        errors = [math.sqrt(float(square.mean())) for _, square in found]
        yield record(LOGS, float(np.mean(logs)), case, spread=logs, n=n, began=began)
        if len(splits) > 1:
            spread = float(np.std(logs, ddof=1) / math.sqrt(len(logs)))
            yield record("standard error over splits", spread, case, n=len(logs))
        yield record(ERRORS, float(np.mean(errors)), case, spread=errors, n=n)
        if any(which.any() for which in repeated):
            apart = [float(log[~which].mean()) for (log, _), which in zip(found, repeated, strict=True)]
            left = float(np.mean([(~which).mean() for which in repeated]))
            yield record(DISTINCT, float(np.mean(apart)), case, spread=apart, n=n, share_of_rows=left)
        if updates is not None:
            yield record("updates", updates, case)


def on(name: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A set's part."""
    if options.smoke:
        yield from measured("made up", [made_up(0), made_up(1)], 0.2)
    elif options.data_dir is None:
        print(f"{name}: left out, for --data-dir names no folder of standard splits")
    else:
        folder = pathlib.Path(options.data_dir) / SETS[name]
        yield from measured(name, [standard(folder, number) for number in range(SPLITS)], SECONDS)


def ranks(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Average ranks over the sets, from the records."""
    for metric, sign in ((LOGS, -1.0), (ERRORS, 1.0)):
        table: dict[str, dict[str, float]] = {}
        for row in options.kept:
            if row["metric"] == metric and row["value"] is not None:
                table.setdefault(row["case"]["data"], {})[row["case"]["model"]] = sign * row["value"]
        whole = [row for row in table.values() if len(row) == max(len(other) for other in table.values())]
        for model in whole[0] if whole else ():
            each = [1 + sum(other < row[model] for other in row.values()) for row in whole]
            yield record("average rank", float(np.mean(each)), {"of": metric, "model": model}, spread=each, n=len(each))


def arguments(parser: argparse.ArgumentParser) -> None:
    """Where the tables are."""
    parser.add_argument("--data-dir", default=None, help="folder of standard UCI splits")


if __name__ == "__main__":
    parts: dict[str, Any] = {name: partial(on, name) for name in SETS} | {"ranks": ranks}
    STUDY.run(__doc__, parts, arguments, smoke=("yacht", "ranks"))
