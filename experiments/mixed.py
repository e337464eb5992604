"""Tables with real, integer and categorical columns: a bridge on their domain, against rounding and a Gaussian copula.

    python experiments/mixed.py --table FILE --target price --drop ""     results/mixed.json
    python experiments/mixed.py --smoke                                    seconds, nothing written

FILE is a .csv; ours is ggplot2's diamonds (53,940 rows: 6 columns with one or two decimals, the price in whole dollars,
three categories of 5, 7 and 8), as the package pydataset carries it; without FILE the experiment says so and stops.
20,000 rows to train, 5,000 held out. Each model gives 20,000 rows, and is judged by

    classifier   accuracy of gradient boosted trees that part its rows from held-out ones, on halves they did not see
                 (0.5: they cannot)
    target       R^2 on held-out rows of boosted trees that predict log(1 + target) and were trained on its rows alone
    marginals    mean over columns of the Kolmogorov-Smirnov distance, of the total variation for categories

The bridge takes the columns' types from their values (``data.columns.infer``). Rounding is the same network, steps and
start as an unconstrained bridge on the same one-hot and standardised numbers, whose samples are moved to the nearest
point of the domain; the copula takes every column to a normal by its ranks (categories in order of their names, spread
evenly over their share) and has the correlation of those. Budget: 10 minutes on two cores.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from study import Pick, Study, Table, record

import bridgejax as bj
from bridgejax.data.columns import GRIDS, Encoding, infer
from bridgejax.methods.generative.constrained import make_domain

STUDY = Study(
    "mixed",
    topic="Domains: discrete, mixed, constrained",
    question="Does a bridge on a table's domain make better rows?",
    answer="Not clearly. Rows of both bridges are told from real ones equally often, and more often than a Gaussian "
    "copula's, which has every column right by itself; but what is trained on the bridge's rows predicts best.",
    brief="Not clearly: a copula's are harder to tell from real ones.",
    budget="10 minutes on two cores",
    source="Liu, Wu, Ye & Liu 2022, arXiv 2208.14699 (their data set differs)",
    floor="the training rows themselves",
    picks=(Pick("accuracy of a classifier against held-out rows", {"model": "bridge on the domain"}, "C2ST"),),
    tables=(Table(rows=("model",), title="Rows of a mixed table", also=("columns", "seconds")),),
    timed=("model",),
)


def classifier(samples: np.ndarray, held: np.ndarray) -> float:
    """Accuracy on unseen halves."""
    n = min(len(samples), len(held))
    rows, truth = np.concatenate([samples[:n], held[:n]]), np.repeat([0, 1], n)
    order = np.random.default_rng(0).permutation(2 * n)
    one, two = order[:n], order[n:]
    trees = HistGradientBoostingClassifier(random_state=0).fit(rows[one], truth[one])
    return float(trees.score(rows[two], truth[two]))


def transfer(samples: np.ndarray, held: np.ndarray, target: int) -> float:
    """R^2 on held-out rows of what was trained on samples."""
    others = [k for k in range(held.shape[1]) if k != target]
    trees = HistGradientBoostingRegressor(random_state=0)
    trees.fit(samples[:, others], np.log1p(np.maximum(samples[:, target], 0.0)))
    return float(trees.score(held[:, others], np.log1p(held[:, target])))


def marginals(encoding: Encoding, samples: np.ndarray, held: np.ndarray) -> float:
    """Mean distance of the columns' laws."""
    found = []
    for k, column in enumerate(encoding.columns):
        if column.kind == "category":
            shares = [(s[:, k, None] == np.asarray(column.values)).mean(0) for s in (samples, held)]
            found.append(np.abs(shares[0] - shares[1]).sum() / 2)
        else:
            found.append(stats.ks_2samp(samples[:, k], held[:, k]).statistic)  # pyright: ignore
    return float(np.mean(found))


def copula(train: np.ndarray, n: int) -> np.ndarray:
    """n rows of a Gaussian copula with the training rows' own margins."""
    random = np.random.default_rng(0)
    ranks = np.stack([stats.rankdata(c + 1e-9 * random.random(len(c)), "ordinal") for c in train.T], axis=1)
    correlation = np.corrcoef(stats.norm.ppf((ranks - 0.5) / len(train)).T)
    u = stats.norm.cdf(random.multivariate_normal(np.zeros(train.shape[1]), correlation, n, method="cholesky"))
    place = np.minimum((u * len(train)).astype(int), len(train) - 1)
    return np.stack([np.sort(c)[p] for c, p in zip(train.T, place.T, strict=True)], axis=1)


def adam(updates: int) -> optax.GradientTransformation:
    """The same for both."""
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(2e-3, updates)))


def in_print(rows: Any) -> np.ndarray:
    """Rows as they would be written: a float32's last digits tell nothing of a model."""
    return np.round(np.asarray(rows, np.float64), 4)


def bridges(encoding: Encoding, train: np.ndarray, updates: int, n: int) -> dict[str, tuple[np.ndarray, float]]:
    """Rows of the bridge on the domain and of the unconstrained one, with their seconds."""
    domain, schedule = make_domain(encoding), bj.schedules.brownian(1.0)
    x = np.asarray(jax.jit(jax.vmap(domain.snap))(encoding.encode(train)))
    shape, keys, decode = encoding.encoded_shape, bj.keys(jax.random.key(1), n), jax.jit(jax.vmap(encoding.decode))
    spacing = min((c.step / c.scale for c in encoding.columns if c.kind in GRIDS), default=1.0)
    ts = bj.grids.deviation(100, schedule, last=max(1e-3, min(0.03, spacing / 4)))

    def network() -> Any:
        return bj.networks.MLP(shape, width=256, depth=4, rngs=nnx.Rngs(0))

    found, began, batch = {}, time.perf_counter(), min(512, len(x))
    method = bj.methods.constrained(domain, schedule, network(), shape=shape, optimizer=adam(updates), ts=ts)
    state = bj.fit(method, x, jax.random.key(0), steps=updates, batch_size=batch)
    rows = bj.sample(method.process(state), keys)
    inside = np.asarray(jax.jit(jax.vmap(domain.contains))(rows))
    assert inside.all(), "a row outside"
    found["bridge on the domain"] = (in_print(decode(rows)), time.perf_counter() - began)

    began, origin = time.perf_counter(), np.zeros((1, *shape), np.float32)
    method = bj.methods.bridge_matching(
        network(), shape=shape, sigma=1.0, source=origin, optimizer=adam(updates), ts=bj.grids.uniform(100)
    )
    state = bj.fit(
        method,
        bj.data.Pairs(origin, x, min(512, len(x))),
        jax.random.key(0),
        steps=updates,
        batch_size=min(512, len(x)),
    )
    rows = jax.jit(jax.vmap(domain.snap))(bj.sample(method.process(state), keys))
    found["unconstrained and rounded"] = (in_print(decode(rows)), time.perf_counter() - began)
    return found


def table(
    path: str | None, drop: list[str], *, smoke: bool
) -> tuple[np.ndarray, list[str], dict[int, tuple[str, ...]]]:
    """Rows, names and the categories of text columns; a made-up table for --smoke."""
    if path is None and smoke:
        random = np.random.default_rng(0)
        size = random.gamma(2.0, 1.0, 600)
        raw = np.stack([size, np.rint(300 * size), random.integers(0, 3, 600)], axis=1)
        return raw, ["size", "price", "sort"], {2: ("a", "b", "c")}
    if path is None or not pathlib.Path(path).exists():
        raise SystemExit("no table: give --table FILE, for example diamonds.csv out of the package pydataset")
    data = bj.data.load(path, text=True)
    kept = [k for k, name in enumerate(data.columns) if name not in drop]
    raw = data.destandardise(data.x)[:, kept]
    raw = np.where(np.abs(raw - np.rint(raw)) < 1e-5 * data.scale[kept], np.rint(raw), np.round(raw, 4))
    return raw, [data.columns[k] for k in kept], {i: data.texts[k] for i, k in enumerate(kept) if k in data.texts}


def options(parser: Any) -> None:
    """What only this script has."""
    parser.add_argument("--table")
    parser.add_argument("--target", default="price")
    parser.add_argument("--drop", action="append", default=[])


def models(given: Any) -> Iterator[Any]:
    """Every measure of every model."""
    raw, names, texts = table(given.table, given.drop, smoke=given.smoke)
    encoding, target = infer(raw, "auto", names, texts), names.index(given.target)
    print(encoding)
    order = np.random.default_rng(0).permutation(len(raw))
    held, train = raw[order[: min(5000, len(raw) // 4)]], raw[order[min(5000, len(raw) // 4) :][:20_000]]
    updates, n = (10, 200) if given.smoke else (5000, len(train))

    found = bridges(encoding, train, updates, n)
    began = time.perf_counter()
    found["Gaussian copula"] = (copula(train, n), time.perf_counter() - began)
    measures = {
        "accuracy of a classifier against held-out rows": lambda s: classifier(s, held),
        f"R^2 of log {given.target} on held-out rows, trained on samples": lambda s: transfer(s, held, target),
        "mean distance of the columns": lambda s: marginals(encoding, s, held),
    }
    floor = {name: measure(train) for name, measure in measures.items()}
    for model, (samples, seconds) in found.items():
        for name, measure in measures.items():
            yield record(
                name, measure(samples), {"model": model}, n=n, floor=floor[name], seconds=seconds, columns=len(names)
            )


if __name__ == "__main__":
    STUDY.run(__doc__, {"mixed": models}, options)
