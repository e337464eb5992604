"""Schroedinger bridges in the plane: 8gaussians -> moons and a standard normal -> 8gaussians, W2 at the end.

    python experiments/planar.py                  all, results/planar.json and docs/planar.png
    python experiments/planar.py --only dsbm      one method: its rows of the file, the others stay
    python experiments/planar.py --only dsbm --task 1     and one task, counted from 0
    python experiments/planar.py --picture        the picture alone, of the draws that runs left in the temporary folder
    python experiments/planar.py --smoke          seconds, nothing written

sigma = 1 per square root of unit time in the data's own units (epsilon = 1), fresh source points, exact W2 by
assignment of n = 2,000 draws with 2,000 fresh target points, mean of 3; the floor is the mean over 6 pairs of
real samples of that n. dsb steps shrink towards both ends. Published: [SF]2M, Tong et al. 2024 (arXiv 2307.03672);
DSBM, and DSB as run there, Shi et al. 2023 (arXiv 2303.16852). Our notes on those tables give the numbers, but not n,
sigma or the steps, so they compare only as far as the protocols agree: W2 at another n has another floor. Where our
floor is above a published figure (8gaussians: the shares of eight far modes vary) no model can reach it at our n, and
none is judged. Seconds are on shared cores. Budget: 12 CPU minutes on one core.
"""

from __future__ import annotations

import pathlib
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from study import Pick, Study, Table, record

import bridgejax as bj
from bridgejax import couplings
from bridgejax.data import toys
from bridgejax.metrics import wasserstein2

STUDY = Study(
    "planar",
    topic="Schrödinger bridges",
    question="Do bridges in the plane end where they should?",
    answer="All but dsb end near the floor on both tasks, dsb on one; sf2m ends far below the published figure where "
    "that can be reached at our number of points.",
    brief="Yes, but dsb on one task of two.",
    budget="12 minutes on one core",
    source="[SF]2M, Tong et al. 2024, arXiv 2307.03672; DSBM (0.315 to 0.338) and DSB, Shi et al. 2023, arXiv "
    "2303.16852",
    picks=(Pick("W2", {"method": "sf2m", "task": "8gaussians -> moons"}, "W2, sf2m"),),
    tables=(
        Table(
            "W2",
            rows=("method",),
            where={"task": "8gaussians -> moons"},
            title="W2 of 8gaussians -> moons",
            text="The excess is over the floor, in squares; NFE are evaluations a sample.",
            also=("excess", "NFE", "updates", "seconds_per_update", "seconds"),
        ),
        Table(
            "W2",
            rows=("method",),
            where={"task": "normal -> 8gaussians"},
            title="W2 of normal -> 8gaussians",
            text="Where the floor is above the published figure, that was measured with more points, and none is "
            "judged.",
            also=("excess", "NFE", "updates", "seconds_per_update", "seconds"),
        ),
    ),
    pictures=("planar",),
)
TASKS = {"8gaussians -> moons": ("8gaussians", "moons"), "normal -> 8gaussians": ("normal", "8gaussians")}
PUBLISHED = {
    ("sf2m", "8gaussians -> moons"): 0.726,
    ("sf2m", "normal -> 8gaussians"): 0.275,
    ("dsbm", "normal -> 8gaussians"): 0.338,
    ("dsb", "normal -> 8gaussians"): 0.411,
}
METHODS = ("lightsb", "lightsb_m", "dsbm", "sf2m", "dsb")
NFE = {"lightsb": 1, "lightsb_m": 1, "dsbm": 100, "sf2m": 100, "dsb": 40}
KEPT = pathlib.Path(tempfile.gettempdir()) / "bridgejax-planar"
PICTURE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "planar.png"


def law(name: str, seed: int, n: int) -> np.ndarray:
    """Draws of one end."""
    if name == "normal":
        return np.random.default_rng([seed, 5]).standard_normal((n, 2)).astype(np.float32)
    return toys.sample(name, seed, n)


def make(name: str, source: np.ndarray, steps: int) -> tuple[Any, Any, int | None, Any]:
    """Method, coupling, steps of a round and whether it has a network."""
    updates = steps // 2 if name in ("dsbm", "dsb") else steps  # of each network
    rate = optax.cosine_decay_schedule(1e-2 if name.startswith("light") else 2e-3, updates, 0.05)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    options: dict[str, Any] = {"source": source[:4000], "optimizer": optimizer}
    ts = (bj.grids.two_sided if name == "dsb" else bj.grids.uniform)(NFE[name])  # the defaults, but for their number
    if name.startswith("light"):
        light = getattr(bj.methods, name)(epsilon=1.0, dim=2, components=100, ema=0.99, ts=ts, **options)
        return light, couplings.exact_ot if name == "lightsb_m" else None, None, 256
    network = bj.networks.MLP((2,), width=96, depth=2, rngs=nnx.Rngs(0))
    options |= {"shape": (2,), "sigma": 1.0, "ts": ts, "ema": 0.995}
    if name == "sf2m":
        return bj.methods.sf2m(network, **options), couplings.EntropicOT(1.0), None, 128
    if name == "dsbm":
        return bj.methods.dsbm(network, cache=4096, **options), couplings.independent, steps // 10, 256
    return bj.methods.dsb(network, cache=8192, **options), couplings.independent, steps // 12, 512


def measure(name: str, task: str, *, smoke: bool) -> dict[str, Any]:
    """Train one method on one task; W2 of its ends."""
    first, last = TASKS[task]
    n, repeats, floors = (200, 1, 2) if smoke else (2000, 3, 6)
    steps = 24 if smoke else {"lightsb": 4000, "lightsb_m": 2000, "dsbm": 4000, "sf2m": 2000, "dsb": 6000}[name]
    began, speeds = time.perf_counter(), []
    source, target = law(first, 1, 20_000), law(last, 2, 20_000)
    method, coupling, every, size = make(name, source, steps)
    pairs = bj.data.Pairs(source, target, size, coupling=coupling)
    state = bj.fit(
        method,
        pairs,
        jax.random.key(0),
        steps=steps,
        refresh_every=every,
        callbacks=(lambda info: speeds.append(info.steps_per_second),),
    )
    process, seconds = method.process(state), time.perf_counter() - began
    values, found, starts = [], np.zeros((0, 2)), np.zeros((0, 2))
    for k in range(repeats):
        starts = law(first, 100 + k, n)
        found = np.asarray(bj.sample(process, bj.keys(jax.random.key(k), n), x=jnp.asarray(starts)))
        values.append(wasserstein2(found, law(last, 200 + k, n)))
    floor = float(np.mean([wasserstein2(law(last, 300 + k, n), law(last, 400 + k, n)) for k in range(floors)]))
    published = PUBLISHED.get((name, task))
    if not smoke:
        KEPT.mkdir(exist_ok=True)
        np.savez(KEPT / f"{name}-{first}.npz", starts=starts[:1000], ends=found[:1000])
    speed = float(np.median(speeds[1:])) if len(speeds) > 1 else float("nan")
    value = float(np.mean(values))
    judged = published is not None and floor <= published
    return record(
        "W2",
        value,
        {"method": name, "task": task},
        spread=values,
        floor=floor,
        published=published,
        bar="at most the published figure" if judged else None,
        met=value <= published if judged else None,  # pyright: ignore[reportOperatorIssue]
        n=n,
        seconds=seconds,
        excess=float(np.sqrt(max(value**2 - floor**2, 0.0))),
        NFE=NFE[name],
        updates=steps,
        batch=size,
        seconds_per_update=1 / speed if np.isfinite(speed) and speed > 0 else None,
    )


def picture(rows: list[dict[str, Any]]) -> None:
    """Sources, ends and a few couplings of every method; its W2 beside the floor."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(METHODS) + 1, figsize=(2.2 * (len(METHODS) + 1), 5.6), squeeze=False)
    for i, (task, (first, last)) in enumerate(TASKS.items()):
        real = law(last, 999, 1000)
        axes[i, 0].scatter(*law(first, 998, 1000).T, s=1, c="0.7")
        axes[i, 0].scatter(*real.T, s=1, c="tab:orange")
        axes[i, 0].set_title(f"{first} (grey)\n-> {last}", fontsize=8)
        for j, name in enumerate(METHODS, 1):
            path, axis = KEPT / f"{name}-{first}.npz", axes[i, j]
            row = next((r for r in rows if r["case"] == {"method": name, "task": task}), None)
            if not path.exists() or row is None:
                axis.set_title(f"{name}\nnot run", fontsize=8)
                continue
            kept = np.load(path)
            for a, b in zip(kept["starts"][:40], kept["ends"][:40], strict=True):
                axis.plot(*np.stack([a, b]).T, c="0.8", lw=0.5, zorder=0)
            axis.scatter(*kept["ends"].T, s=1, c="tab:blue")
            axis.set_title(f"{name}, NFE {NFE[name]}\nW2 {row['value']:.2f} (real {row['floor']:.2f})", fontsize=8)
    for axis in axes.ravel():
        axis.set_xlim(-8, 8), axis.set_ylim(-8, 8), axis.set_aspect("equal"), axis.set_xticks([]), axis.set_yticks([])
    figure.tight_layout(h_pad=2.0)
    figure.savefig(PICTURE, dpi=110)
    print(PICTURE)


def tasks(name: str, options: Any) -> Iterator[Any]:
    """Both tasks of one method, or one of them."""
    for k, task in enumerate(TASKS):
        if options.task in (None, k):
            yield measure(name, task, smoke=options.smoke)


def options(parser: Any) -> None:
    """What only this script has."""
    parser.add_argument("--task", type=int, choices=range(len(TASKS)), help="one task")


if __name__ == "__main__":
    STUDY.run(__doc__, {name: partial(tasks, name) for name in METHODS}, options, picture=picture)
