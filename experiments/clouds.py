"""Point clouds: a bridge to points on an integer grid against one that may end anywhere.

    python experiments/clouds.py --meshes FOLDER    results/clouds.json
    python experiments/clouds.py --smoke --meshes FOLDER

FOLDER holds OFF meshes; ours are those of Debian's libcgal-demo with more than 300 vertices. A sample is 128 points
drawn evenly over the surface of one of them; 40 draws of each shape to train on, 2 held out, so what is learnt is a
mixture of known shapes with fresh points on each, not a category. The grid has 32 levels an axis. The same network over
updates, start and 100 evaluations for both. Judged against held-out clouds (not on the grid), beside fresh training
clouds of the same number:

    1-NN        accuracy of telling generated from held-out clouds by the nearest in Chamfer distance (0.5: perfect)
    coverage    mean Chamfer distance from a generated cloud to the nearest held-out one
    unevenness  sd / mean of nearest-neighbour distances within a cloud

Budget: 25 minutes on two cores.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from sources import mesh_points
from study import Pick, Study, Table, record

import bridgejax as bj
from bridgejax import domains
from bridgejax.metrics import chamfer, one_nn_accuracy, unevenness

STUDY = Study(
    "clouds",
    topic="Domains: discrete, mixed, constrained",
    question="Do point clouds gain from a bridge onto a grid?",
    answer="A little: its clouds are told from held-out ones less often and their points are more even, but they are "
    "no nearer to held-out clouds, and still far from the floor.",
    brief="A little.",
    budget="25 minutes on two cores",
    source="Liu, Wu, Ye & Liu 2022, arXiv 2208.14699 (their data set differs)",
    floor="fresh training clouds",
    picks=(Pick("1-NN accuracy", {"model": "bridge on a grid of 32 levels"}, "1-NN accuracy"),),
    tables=(Table(rows=("model",), title="Clouds of 128 points", also=("updates", "seconds")),),
    timed=("seconds",),
)
POINTS, LEVELS, UPDATES = 128, 32, 1500


def nearest(x: np.ndarray, held: np.ndarray) -> float:
    """Mean Chamfer distance to the nearest held-out cloud."""
    return float(np.mean([min(chamfer(cloud, other) for other in held) for cloud in x]))


def evenness(x: np.ndarray, held: np.ndarray) -> float:
    """Mean unevenness; held-out clouds are not looked at."""
    return float(np.mean([unevenness(cloud) for cloud in x]))


MEASURES = {
    "1-NN accuracy": one_nn_accuracy,
    "Chamfer distance to the nearest held-out cloud": nearest,
    "unevenness of the points": evenness,
}


def adam(updates: int) -> optax.GradientTransformation:
    """The same for both."""
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(1e-3, updates)))


def samples(train: np.ndarray, updates: int, n: int) -> Iterator[tuple[str, np.ndarray, float]]:
    """Each model, its clouds and its seconds."""
    shape, schedule, keys = train.shape[1:], bj.schedules.brownian(1.0), bj.keys(jax.random.key(1), n)
    grid = domains.IntegerGrid(-1.0, 1.0, 2.0 / (LEVELS - 1))
    snap = jax.jit(jax.vmap(grid.snap))

    def network() -> Any:
        return bj.networks.SetTransformer(shape, width=64, depth=2, expansion=2, rngs=nnx.Rngs(0))

    began = time.perf_counter()
    ts = bj.grids.deviation(100, schedule, last=0.25 * 2.0 / (LEVELS - 1))
    method = bj.methods.constrained(grid, schedule, network(), shape=shape, optimizer=adam(updates), ts=ts)
    state = bj.fit(method, np.asarray(snap(train)), jax.random.key(0), steps=updates, batch_size=32)
    x = bj.sample(method.process(state), keys)
    assert bool(np.all(jax.jit(jax.vmap(grid.contains))(x))), "a point off the grid"
    yield f"bridge on a grid of {LEVELS} levels", np.asarray(x), time.perf_counter() - began

    began, origin = time.perf_counter(), np.zeros((1, *shape), np.float32)
    method = bj.methods.bridge_matching(
        network(), shape=shape, sigma=1.0, source=origin, optimizer=adam(updates), ts=ts
    )
    state = bj.fit(method, bj.data.Pairs(origin, train, 32), jax.random.key(0), steps=updates, batch_size=32)
    free = bj.sample(method.process(state), keys)
    seconds = time.perf_counter() - began
    yield "unconstrained bridge", np.asarray(free), seconds
    yield "unconstrained and rounded", np.asarray(snap(free)), seconds


def measured(options: Any) -> Iterable[Any]:
    """Every measure of every model."""
    train = mesh_points(options.meshes, POINTS, 40)
    held, fresh = (mesh_points(options.meshes, POINTS, 2, seed) for seed in (1, 2))
    if train is None or held is None or fresh is None:
        return
    print(f"{len(train) // 40} shapes, {len(train)} clouds")
    if options.smoke:
        held, fresh = held[:10], fresh[:10]
    floors, updates = (
        {name: measure(fresh, held) for name, measure in MEASURES.items()},
        5 if options.smoke else UPDATES,
    )
    for model, x, seconds in samples(train, updates, len(held)):
        for name, measure in MEASURES.items():
            yield record(
                name, measure(x, held), {"model": model}, n=len(held), floor=floors[name], seconds=seconds,
                updates=updates, why="all points of a cloud share their places with others",
            )  # fmt: skip
        if options.keep is not None:
            np.save(pathlib.Path(options.keep) / f"clouds {model}.npy", x)


def options(parser: Any) -> None:
    """What only this script has."""
    parser.add_argument("--meshes", help="folder of OFF files")
    parser.add_argument("--keep", help="an existing folder for the clouds of each model, to look at")


if __name__ == "__main__":
    STUDY.run(__doc__, {"clouds": measured}, options)
