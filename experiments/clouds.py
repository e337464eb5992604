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

import argparse
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from results import cores, save
from sources import mesh_points

import bridgejax as bj
from bridgejax import domains
from bridgejax.metrics import chamfer, one_nn_accuracy, unevenness

COMMAND = "python experiments/clouds.py --meshes FOLDER"
BUDGET = "25 minutes"
SOURCE = "Liu, Wu, Ye & Liu 2022, arXiv 2208.14699 (their data set differs)"
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


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="seconds, nothing written")
    parser.add_argument("--meshes", help="folder of OFF files")
    parser.add_argument("--keep", help="an existing folder for the clouds of each model, to look at")
    given = parser.parse_args()
    train = mesh_points(given.meshes, POINTS, 40)
    held, fresh = (mesh_points(given.meshes, POINTS, 2, seed) for seed in (1, 2))
    if train is None or held is None or fresh is None:
        return
    print(f"{len(train) // 40} shapes, {len(train)} clouds")
    if given.smoke:
        held, fresh = held[:10], fresh[:10]
    floors, rows = {name: measure(fresh, held) for name, measure in MEASURES.items()}, []
    for model, x, seconds in samples(train, 5 if given.smoke else UPDATES, len(held)):
        common = {"source": SOURCE, "command": COMMAND, "budget": BUDGET}
        common["cost"] = f"{UPDATES} updates, {seconds:.0f} s, {cores()}"
        for name, measure in MEASURES.items():
            claim, ours = f"clouds of {POINTS} points, {model}: {name}, n = {len(held)}", measure(x, held)
            # a cloud whose points all share their places with others has no unevenness
            rows.append(
                {"claim": claim, "ours": ours if np.isfinite(ours) else "none", "floor": floors[name], **common}
            )
        save("clouds", rows, smoke=given.smoke)  # after each, so that a run cut short keeps what it has
        if given.keep is not None:
            np.save(pathlib.Path(given.keep) / f"clouds {model}.npy", x)


if __name__ == "__main__":
    main()
