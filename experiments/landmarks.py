"""Stochastic landmarks: a circle that moves at random, conditioned to become an ellipse.

    python experiments/landmarks.py            results/landmarks.json, docs/landmarks.png
    python experiments/landmarks.py --smoke    8 paths

Points x_1 ... x_n of a shape move with noise that near points share (Kunita flow: the plane itself is moved smoothly),

    dx_i = sigma sum_j k(x_i, x_j) dW_j,    k(x, y) = exp(-|x - y|^2 / (2 width^2)),

2n = 32 coordinates, noise that depends on all of them. ``bridgejax.guide`` conditions it on its last shape; weighted,
the paths are draws of the conditioned flow. The picture: one path, its shapes in between, and what the weights say of
the shape at half time. The last shape is seen with noise 0.03, since landmarks that came close share their noise, and
a singular step meets no exact end. Budget: 3 minutes on two cores.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import lineax
import numpy as np
from jax import Array
from study import Pick, Study, Table, record

import bridgejax as bj
from bridgejax import weights
from bridgejax.bridges.guided import weighted_path

STUDY = Study(
    "landmarks",
    topic="Conditioned processes",
    question="Can a flow of landmarks be conditioned on a shape?",
    answer="Yes, by the guide without training. After weighting only a few in a hundred paths count, which is enough "
    "to see the conditioned flow.",
    brief="Yes, without training, at a low ESS.",
    budget="3 minutes on two cores",
    picks=(Pick("ESS, per cent of n", label="ESS in per cent"),),
    tables=(
        Table(
            "ESS, per cent of n",
            rows=("landmarks",),
            title="A circle that becomes an ellipse",
            text="The effective sample size of guided paths; how far from the ellipse a coordinate ends at most; "
            "the log density of the ellipse with its standard error; the gap between the log density and the "
            "bound, in nats.",
            also=("farthest", "log_density", "log_density_error", "gap", "steps"),
        ),
    ),
    pictures=("landmarks",),
)
PICTURE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "landmarks.png"
COUNT, WIDTH, SIGMA, STEPS, NOISE = 16, 0.3, 0.25, 50, 0.03


def still(t: Array, x: Array, args: Any) -> Array:
    """b = 0."""
    return jnp.zeros_like(x)


def kunita(t: Array, x: Array, args: Any) -> lineax.AbstractLinearOperator:
    """sigma k(x_i, x_j), the same for both coordinates."""
    points = x.reshape(-1, 2)
    squares = jnp.sum((points[:, None] - points) ** 2, axis=-1)
    return lineax.MatrixLinearOperator(jnp.kron(SIGMA * jnp.exp(-0.5 * squares / WIDTH**2), jnp.eye(2, dtype=x.dtype)))


FLOW = bj.SDE(still, kunita, noise="state")


def ring(across: float, along: float, turn: float, shift: tuple[float, float]) -> Array:
    """Points of an ellipse, flat, (2 COUNT,)."""
    angle = 2.0 * jnp.pi * jnp.arange(COUNT) / COUNT
    c, s = jnp.cos(turn), jnp.sin(turn)
    flat = jnp.stack([along * jnp.cos(angle), across * jnp.sin(angle)], axis=-1)
    return (flat @ jnp.array([[c, s], [-s, c]]) + jnp.array(shift)).reshape(-1)


@partial(jax.jit, static_argnames="n")
def run(parts: Any, x0: Array, ts: Array, n: int) -> tuple[Array, Array]:
    # eight at a time: on two cores XLA's batched factorisations of hundreds of 32 x 32 matrices came to a standstill
    keys = bj.keys(jax.random.key(0), n)
    return jax.lax.map(lambda key: weighted_path(parts, key, x0, ts), keys, batch_size=8)


def picture(xs: np.ndarray, share: np.ndarray, path: pathlib.Path) -> None:
    """xs (n, STEPS + 1, COUNT, 2); share (n,) adds up to 1."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    def closed(points: np.ndarray) -> np.ndarray:
        return np.concatenate([points, points[:1]])

    figure, axes = plt.subplots(1, 3, figsize=(12, 4.2), sharex=True, sharey=True, constrained_layout=True)
    best, colours = xs[np.argmax(share)], plt.get_cmap("viridis")(np.linspace(0.0, 0.9, 6))
    for i in range(COUNT):
        axes[0].plot(*best[:, i].T, color="0.6", lw=0.8)
    axes[0].set_title("one path: every landmark")
    for colour, k in zip(colours, np.linspace(0, STEPS, 6).astype(int), strict=True):
        axes[1].plot(*closed(best[k]).T, color=colour, lw=1.5, label=f"t = {k / STEPS:.1f}")
    axes[1].set_title("its shapes in between")
    axes[1].legend(fontsize=8, loc="lower right", framealpha=1.0)
    chosen = np.random.default_rng(0).choice(len(xs), 40, p=share)
    for k in chosen:
        axes[2].plot(*closed(xs[k, STEPS // 2]).T, color="tab:blue", lw=0.6, alpha=0.35)
    mean = np.tensordot(share, xs[:, STEPS // 2], 1)
    axes[2].plot(*closed(mean).T, color="black", lw=1.8, label="weighted mean")
    axes[2].set_title("half time: 40 draws by weight")
    axes[2].legend(fontsize=8, loc="lower right", framealpha=1.0)
    for axis in axes:
        axis.plot(*closed(xs[0, 0]).T, "o--", color="tab:green", ms=3, lw=0.8)
        axis.plot(*closed(xs[0, -1]).T, "s--", color="tab:red", ms=3, lw=0.8)
        axis.set_aspect("equal")
    figure.suptitle("from the circle (green) to the ellipse (red)")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def ellipse(options: Any) -> Iterator[Any]:
    """Measure and draw."""
    n, began = 8 if options.smoke else 256, time.perf_counter()
    x0, end = ring(1.0, 1.0, 0.0, (0.0, 0.0)), ring(0.75, 1.3, 0.5, (0.5, 0.2))
    guided = bj.guide(FLOW, [bj.Observation(1.0, end, noise=NOISE)], start=x0)
    xs, lw = run(guided.parts, x0, bj.grids.uniform(STEPS), n)
    missed, ess = float(jnp.max(jnp.abs(xs[:, -1] - end))), float(weights.ess(lw))
    share = np.asarray(jax.nn.softmax(lw), np.float64)
    yield record(
        "ESS, per cent of n",
        100 * ess,
        {"landmarks": COUNT},
        n=n,
        began=began,
        gap=float(weights.log_z(lw) - weights.elbo(lw)),
        noise=NOISE,
        farthest=missed,
        log_density=float(weights.log_z(lw)),
        log_density_error=float(weights.log_z_error(lw)),
        steps=STEPS,
    )
    if not options.smoke:
        ordered = np.asarray(xs).reshape(n, STEPS + 1, COUNT, 2)
        picture(ordered, share / share.sum(), PICTURE)


if __name__ == "__main__":
    STUDY.run(__doc__, {"landmarks": ellipse})
