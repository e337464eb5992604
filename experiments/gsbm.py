"""Generalised Schroedinger bridge matching: round obstacles, and apart, at what cost.

    python experiments/gsbm.py            results/gsbm.json, docs/gsbm.png
    python experiments/gsbm.py --smoke    seconds, nothing written

A crowd walks from N((-3, 0), 0.3^2 I) to N((3, 0), 0.3^2 I) in unit time with noise sigma = 0.5 by the gap, 1 wide,
between two round obstacles of radius 1 at (0, 1.5) and (0, -1.5). V is 300 times a sigmoid of 20 (1 - distance to the
centre), for both; in the second problem members of the crowd (32 others) also feel each other, by the mean of
20 exp(-|x - y|^2 / (2 0.3^2)).

Total cost E int |u|^2 / 2 + V dt of 1,000 simulated paths of 100 steps, beside that of the bridge that does not know V
(the same code and network with V = 0, which is DSBM), and W2 of their ends to 1,000 points of the target. The singular
part of |u|^2 is in both. Budget: 10 minutes on one core.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from study import Pick, Study, Table, record

import bridgejax as bj
from bridgejax.metrics import floor, wasserstein2

STUDY = Study(
    "gsbm",
    topic="Schrödinger bridges",
    question="Do generalised bridges avoid obstacles at less cost?",
    answer="Yes: the total cost falls far below that of the bridge that does not know the obstacles, and both end as "
    "near to the target.",
    brief="Yes.",
    budget="10 minutes on one core",
    picks=(
        Pick("total cost", {"problem": "a gap", "model": "gsbm"}, "cost"),
        Pick("total cost", {"problem": "a gap", "model": "blind to V (DSBM)"}, "blind (DSBM)"),
    ),
    tables=(
        Table(
            "total cost",
            rows=("problem", "model"),
            text="E int (u^2 / 2 + V) dt with its standard error, and the part of V in it; the gap of the last "
            "round, and rounds that were refused.",
            also=("cost_of_V", "gap", "rounds_refused"),
        ),
        Table("W2 of the ends to the target", rows=("problem",), columns="model"),
    ),
    pictures=("gsbm",),
    timed=("problem",),
)
PICTURE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "gsbm.png"
SIGMA, SPREAD, CROWD = 0.5, 0.3, 32
WALLS = np.array([[0.0, 1.5, 1.0], [0.0, -1.5, 1.0]], np.float32)


def inside(walls: np.ndarray, x: Array) -> Array:
    """300 times the sigmoid of 20 (radius - distance), over all obstacles."""
    gaps = walls[:, 2] - jnp.sqrt(jnp.sum((x - walls[:, :2]) ** 2, axis=1) + 1e-6)
    return 300.0 * jnp.sum(jax.nn.sigmoid(20.0 * gaps))


def blind(t: Array, x: Array, others: Any) -> Array:
    """V = 0."""
    return 0.0 * jnp.sum(x)


def gap(t: Array, x: Array, others: Any) -> Array:
    """The two walls."""
    return inside(WALLS, x)


def crowded(t: Array, x: Array, others: Any) -> Array:
    """The walls, and a crowd."""
    return inside(WALLS, x) + 20.0 * jnp.mean(jnp.exp(-jnp.sum((others - x) ** 2, axis=1) / (2 * 0.3**2)))


PROBLEMS = {"a gap": (gap, 0), "a crowd in a gap": (crowded, CROWD)}


def ends(seed: int, n: int) -> dict[str, np.ndarray]:
    """Both ends, independent."""
    draws = SPREAD * np.random.default_rng(seed).normal(size=(2, n, 2)).astype(np.float32)
    return {"source": draws[0] - np.float32([3, 0]), "target": draws[1] + np.float32([3, 0])}


def learn(cost: Any, crowd: int, steps: int, rounds: int, cache: int, path_steps: int) -> tuple[bj.Process, Any]:
    """A trained process and its state."""
    data = ends(1, 10_000)
    network = bj.networks.MLP((2,), width=128, depth=3, rngs=nnx.Rngs(0))
    method = bj.methods.gsbm(
        network,
        cost,
        shape=(2,),
        sigma=SIGMA,
        source=data["source"],
        cache=cache,
        crowd=crowd,
        path_steps=path_steps,
        knots=15,
        max_marginal_error=2.0,
        optimizer=optax.chain(
            optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(2e-3, steps // 2))
        ),
    )
    state = bj.fit(method, data, jax.random.key(0), steps=steps, batch_size=256, refresh_every=steps // rounds)
    return method.process(state), state


def simulated(process: bj.Process, x0: Array) -> tuple[Array, Array]:
    """Paths (n, 101, 2) of 100 steps, and |u|^2 / 2 at the beginning of every step but the last."""
    ts = bj.grids.uniform(100)

    def one(key: Array, x: Array) -> tuple[Array, Array]:
        xs = bj.simulate_path(process.dynamics, key, x, ts).xs
        us = jax.vmap(process.dynamics.drift, (0, 0, None))(ts[:-2], xs[:-2], None)
        return xs, 0.5 * jnp.sum(us**2, axis=1)

    return jax.jit(jax.vmap(one))(bj.keys(jax.random.key(5), x0.shape[0]), x0)


def costs(cost: Any, crowd: int, xs: Array, kinetic: Array) -> tuple[float, float, float]:
    """E int |u|^2 / 2 dt over the steps but the last, E int V dt, and the standard error of their sum."""
    ts = bj.grids.uniform(100)
    others = jnp.swapaxes(xs[:CROWD], 0, 1) if crowd else None
    felt = jax.jit(jax.vmap(jax.vmap(cost, (0, 0, 0 if crowd else None)), (None, 0, None)))(ts, xs, others)
    moved, state = jnp.sum(kinetic, axis=1) / 100, jnp.sum(0.5 * (felt[:, 1:] + felt[:, :-1]), axis=1) / 100
    error = float(jnp.std(moved + state)) / np.sqrt(len(xs))
    return float(moved.mean()), float(state.mean()), error


def picture(panels: dict[str, tuple[Array, np.ndarray]]) -> None:
    """Paths round the obstacles."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(panels), figsize=(3.4 * len(panels), 3.0), sharey=True)
    for ax, (title, (xs, walls)) in zip(axes, panels.items(), strict=True):
        for x, y, radius in walls:
            ax.add_patch(plt.Circle((x, y), radius, color="0.75", zorder=0))
        for path in np.asarray(xs[:40]):
            ax.plot(path[:, 0], path[:, 1], lw=0.6, alpha=0.6, color="tab:blue")
        ax.plot(*np.asarray(xs[:200, 0]).T, ".", ms=2, color="tab:green")
        ax.plot(*np.asarray(xs[:200, -1]).T, ".", ms=2, color="tab:red")
        ax.set(title=title, xlim=(-4, 4), ylim=(-2.6, 2.6), aspect="equal")
        ax.title.set_fontsize(9)
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=110)


def crowds(options: Any) -> Iterator[Any]:
    """Every problem, gsbm beside DSBM."""
    smoke = options.smoke
    size = (8, 4, 256, 2) if smoke else (2000, 6, 512, 200)
    n = 64 if smoke else 1000
    problems = dict(list(PROBLEMS.items())[:1]) if smoke else PROBLEMS
    test = ends(2, n)
    real = floor(wasserstein2, ends(3, 4 * n)["target"], n=n, draws=2).mean
    process, state = learn(blind, 0, *size)
    base, kinetic = simulated(process, jnp.asarray(test["source"]))
    base_w2 = wasserstein2(np.asarray(base[:, -1]), test["target"])
    panels = {"V = 0": (base, WALLS)}
    for title, (cost, crowd) in problems.items():
        began = time.perf_counter()
        process, state = learn(cost, crowd, *size)
        xs, own = simulated(process, jnp.asarray(test["source"]))
        panels[title] = (xs, WALLS)
        moved, felt, error = costs(cost, crowd, xs, own)
        old_moved, old_felt, old_error = costs(cost, crowd, base, kinetic)
        common: dict[str, Any] = {"n": n, "began": began, "updates": size[0]}
        known, blind_case = ({"problem": title, "model": model} for model in ("gsbm", "blind to V (DSBM)"))
        yield record(
            "total cost",
            moved + felt,
            known,
            bar="below the bridge blind to V, by more than 5 standard errors",
            met=old_moved + old_felt - moved - felt > 5 * np.hypot(error, old_error),
            standard_error=error,
            cost_of_V=felt,
            gap=float(state.marginal_error),
            rounds_refused=int(state.rejected),
            **common,
        )
        yield record(
            "total cost", old_moved + old_felt, blind_case, standard_error=old_error, cost_of_V=old_felt, **common
        )
        for case, w2 in ((known, wasserstein2(np.asarray(xs[:, -1]), test["target"])), (blind_case, base_w2)):
            yield record("W2 of the ends to the target", w2, case, floor=real, **common)
    if not smoke:
        picture(panels)


if __name__ == "__main__":
    STUDY.run(__doc__, {"crowds": crowds})
