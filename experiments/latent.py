"""Latent Schroedinger bridges: where the error comes from, and which dimension its rate follows.

    python experiments/latent.py            results/latent.json
    python experiments/latent.py --only latent-8    one part (errors, latent-d, ambient-d), the others' rows stay
    python experiments/latent.py --smoke    seconds, nothing written

errors    Data: an isometry of a 2-D mixture of eight Gaussians into d = 8, plus noise 0.15 in the other six
          coordinates. Four errors, each replaced by its closed form in turn: the codec (PCA; exact: no noise off the
          plane), the score (MLP; exact: the mixture's), stopping at T = 0.95 (exact: the noise left is not added, by
          measuring against g_T), Euler in 40 steps (exact: draws of g_T). W2 by assignment of n = 2,000 draws with
          fresh data, beside real-versus-real draws of that n (its floor, 10 pairs). Decoded draws lie on a plane and
          have no part of the floor off it, so the codec's error is to be read beside its closed form.
rates     The same mixture in the plane, embedded isometrically in d = 2, 8, 32 (no noise off the plane), n = 100 to
          6,400 training points. Latent: PCA to two dimensions and back; ambient: the same method without codec. T =
          0.99, 60 Euler steps, 1,500 updates of one architecture, sigma = 1. W2 of 2,000 draws with 2,000 fresh data;
          the slope is that of log W2 against log n, also with the floor taken off in squares. Every d has data of its
          own: in latent mode three repeats.

The mean is known in closed form for every law here, but W2 is estimated: no number below the floor means anything.
Budget: 12 CPU minutes on one core.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from results import DIRECTORY, cores, read, save

import bridgejax as bj
from bridgejax.methods.latent_sb import latent_sb
from bridgejax.metrics import wasserstein2
from bridgejax.processes.mixtures import gaussian_mixture, mixture_score

COMMAND = "python experiments/latent.py"
BUDGET = "12 CPU minutes on one core"
SOURCE = "arXiv 2404.13309, which has no experiment"
SPREAD, RADIUS, OFF = 0.15, 1.5, 0.15  # of a component, of the circle they lie on, of the noise off the plane
ANGLES = np.arange(8) * np.pi / 4
MEANS = RADIUS * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
EULER = bj.solvers.Euler()


def row(claim: str, ours: Any, began: float, **more: Any) -> dict[str, Any]:
    """One result."""
    cost = f"{time.perf_counter() - began:.0f} s, {cores()}"
    return {"claim": claim, "ours": ours, "command": COMMAND, "budget": BUDGET, "cost": cost, "source": SOURCE, **more}


def plane(random: np.random.Generator, n: int, variance: float = 0.0) -> np.ndarray:
    """Draws of the mixture, or of the mixture with noise."""
    z = MEANS[random.integers(8, size=n)] + SPREAD * random.normal(size=(n, 2))
    return np.float32(z + np.sqrt(variance) * random.normal(size=(n, 2)))


def isometry(d: int) -> np.ndarray:
    """Two orthonormal columns in d dimensions."""
    return np.float32(np.linalg.qr(np.random.default_rng(d).normal(size=(d, 2)))[0])


def off_plane(basis: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The part of ``noise`` at right angles to the plane."""
    return noise - noise @ basis @ basis.T


def learn(rows: np.ndarray, codec: Any, stop: float, steps: int, seed: int) -> Any:
    """The process of one training."""
    dim = rows.shape[1] if codec is None else 2
    network = bj.networks.MLP((dim,), width=96, depth=2, rngs=nnx.Rngs(seed))
    rate = optax.adam(optax.cosine_decay_schedule(3e-3, steps, 0.02))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), rate)
    method = latent_sb(network, rows=rows, codec=codec, stop=stop, predict="eps", optimizer=optimizer, ema=0.995)
    return method.process(bj.fit(method, bj.data.Batches(rows, 256), jax.random.key(seed), steps=steps))


def run(sde: Any, z: np.ndarray, stop: float, steps: int) -> np.ndarray:
    """Euler from codes plus noise to the time ``stop``."""
    keys = bj.keys(jax.random.key(7), len(z))
    return np.asarray(bj.simulate_batch(sde, keys, jnp.asarray(z), bj.grids.uniform(steps, stop), solver=EULER))


def decode(codec: Any, z: np.ndarray) -> np.ndarray:
    """All of them."""
    return np.asarray(jax.jit(jax.vmap(codec.decode))(jnp.asarray(z)))


# where the error comes from -----------------------------------------------------------------------------------------


def errors(*, smoke: bool) -> list[dict[str, Any]]:
    """W2 with every error on, with each off, and with each alone."""
    began, d, stop, euler = time.perf_counter(), 8, 0.95, 40
    n, training, steps, draws = (200, 500, 30, 2) if smoke else (2000, 20_000, 4000, 10)
    random, basis = np.random.default_rng(0), isometry(d)

    def data(count: int) -> np.ndarray:
        noise = OFF * random.normal(size=(count, d))
        return np.float32(plane(random, count) @ basis.T + off_plane(basis, noise))

    rows = data(training)
    codec, values = bj.methods.pca(rows, 2)
    learnt = learn(rows, codec, stop, steps, 0)
    # the mixture in the codec's coordinates: its plane is the data's but for an angle of order 1 / sqrt(training)
    turned = np.asarray(jax.jit(jax.vmap(codec.encode))(np.float32(MEANS @ basis.T)))
    exact_sde = bj.reverse(
        bj.schedules.brownian(1.0), mixture_score(gaussian_mixture(turned, SPREAD**2), bj.schedules.brownian(1.0))
    )
    encode = jax.jit(jax.vmap(codec.encode))

    def one(*, score: bool, early: bool, step: bool, off: bool) -> float:
        """W2 with errors on or off; ``early`` off compares with data that have the noise left in them."""
        left = 1.0 - stop
        z = np.asarray(encode(jnp.asarray(data(n))))
        if step or score:
            z = run(learnt.sde if score else exact_sde, z + np.float32(random.normal(size=z.shape)), stop,
                    euler if step else 10 * euler)  # fmt: skip
        else:
            z = z + np.float32(np.sqrt(left) * random.normal(size=z.shape))  # a draw of g_T itself
        truth = data(n) if off else np.float32(plane(random, n) @ basis.T)
        if not early:
            truth = truth + np.float32(np.sqrt(left) * random.normal(size=(n, 2))) @ basis.T
        return wasserstein2(decode(codec, z), truth)

    def floor_of(*, early: bool, off: bool) -> float:
        def draw() -> np.ndarray:
            x = data(n) if off else np.float32(plane(random, n) @ basis.T)
            return x if early else x + np.float32(np.sqrt(1.0 - stop) * random.normal(size=(n, 2))) @ basis.T

        return float(np.mean([wasserstein2(draw(), draw()) for _ in range(draws)]))

    floors = {
        pair: floor_of(early=pair[0], off=pair[1])
        for pair in ((True, True), (False, True), (True, False), (False, False))
    }
    bounds = {
        "codec": (float(np.sqrt(values[2:].sum())), "root of the eigenvalues PCA leaves out, exact"),
        "early stopping": (float(np.sqrt((1 - stop) * 2)), "bound sigma sqrt((1 - T) d*), reached by atoms only"),
    }
    on = dict(score=True, early=True, step=True, off=True)
    cases = [("all four errors", on)]
    names = {"codec": "off", "score": "score", "early stopping": "early", "Euler": "step"}
    cases += [(f"all but the {name} error", {**on, key: False}) for name, key in names.items()]
    cases += [(f"the {name} error alone", {k: k == key for k in on}) for name, key in names.items()]
    cases += [("no error (closed forms throughout)", dict.fromkeys(on, False))]
    found = []
    for name, switches in cases:
        spread = [one(**switches) for k in range(1 if smoke else 3)]
        floor = floors[switches["early"], switches["off"]]
        known = next(
            (f"; closed form {v:.3f} ({w})" for k, (v, w) in bounds.items() if name == f"the {k} error alone"), ""
        )
        found.append(
            row(
                f"latent_sb in d = 8, codes of 2: W2 to the data with {name}, n = {n:,}",
                float(np.mean(spread)),
                began,
                floor=floor,
                spread=spread,
                notes=f"excess over the floor in squares {np.sqrt(max(np.mean(spread) ** 2 - floor**2, 0)):.3f}"
                + known,
            )
        )
    return found + euler_rate(exact_sde, codec, basis, smoke=smoke)


def euler_rate(exact_sde: Any, codec: Any, basis: np.ndarray, *, smoke: bool) -> list[dict[str, Any]]:
    """Weak order: the mean squared distance to the nearest component, against draws of g_T."""
    began, stop, n = time.perf_counter(), 0.95, 500 if smoke else 20_000
    random = np.random.default_rng(3)
    centres = np.asarray(jax.jit(jax.vmap(codec.encode))(np.float32(MEANS @ basis.T)))

    def spread(z: np.ndarray) -> np.ndarray:
        return np.min(np.sum((z[:, None] - centres) ** 2, axis=-1), axis=1)

    def codes(count: int, variance: float) -> np.ndarray:
        return np.asarray(jax.jit(jax.vmap(codec.encode))(plane(random, count, variance) @ basis.T))

    truth, z = float(np.mean(spread(codes(20 * n, 1.0 - stop)))), codes(n, 1.0)
    counts = (20, 40, 80, 160)
    parts = [spread(run(exact_sde, z, stop, steps)) / truth for steps in counts]
    gaps = [float(part.mean() - 1.0) for part in parts]
    error = float(parts[-1].std() / np.sqrt(n))
    slope = float(np.polyfit(np.log(counts), np.log(np.abs(gaps)), 1)[0])
    return [
        row(
            "latent_sb, exact drift: slope of the weak error (spread about the means) against Euler steps, 20 to 160",
            slope,
            began,
            published=-1.0,
            spread=gaps,
            met=bool(abs(slope + 1) < 0.3),
            notes=f"order 1 expected, bar +- 0.3; spread: relative gaps at {counts}, standard error {error:.2g}",
        )
    ]


# rates --------------------------------------------------------------------------------------------------------------


def rate(mode: str, d: int, *, smoke: bool) -> list[dict[str, Any]]:
    """W2 against n, for one dimension and mode."""
    began, basis = time.perf_counter(), isometry(d)
    sizes, steps, n = ((100, 400), 20, 200) if smoke else ((100, 400, 1600, 6400), 1500, 2000)
    stop, euler, means, atoms = 0.99, 60, [], []
    random = np.random.default_rng(11)
    floor = float(np.mean([wasserstein2(plane(random, n), plane(random, n)) for _ in range(3 if smoke else 10)]))
    truth, noise = plane(np.random.default_rng(12), n), np.float32(np.random.default_rng(13).normal(size=(n, d)))
    for size in sizes:
        rows = plane(np.random.default_rng([0, d]), size) @ basis.T
        codec = bj.methods.pca(rows, 2)[0] if mode == "latent" else None
        process = learn(rows, codec, stop, steps, 0)
        picks = rows[np.random.default_rng(14).integers(size, size=n)]
        z = picks if codec is None else np.asarray(jax.jit(jax.vmap(codec.encode))(picks))
        z = run(process.sde, z + noise[:, : z.shape[1]], stop, euler)
        means.append(wasserstein2(z if codec is None else decode(codec, z), truth @ basis.T))
        atoms.append(wasserstein2(picks, truth @ basis.T))
    excess = np.sqrt(np.maximum(np.square(means) - floor**2, 1e-12))
    slope, bare = (float(np.polyfit(np.log(sizes), np.log(v), 1)[0]) for v in (means, excess))
    left = float(np.sqrt((1 - stop) * (2 if mode == "latent" else d)))
    numbers = ", ".join(f"{v:.3f}" for v in means), ", ".join(f"{v:.3f}" for v in atoms)
    return [
        row(
            f"latent_sb, {mode} mode, d = {d}: slope of log W2 against log n, n = {sizes[0]} to {sizes[-1]:,}",
            slope,
            began,
            spread=means,
            notes=f"W2 {numbers[0]} at n = {sizes}, one training each; real vs real at {n:,} points {floor:.3f}; "
            f"training points drawn with repetition {numbers[1]}; slope of the excess in squares {bare:.2f}; "
            f"noise left by stopping {left:.3f}",
        )
    ]


def main() -> None:
    """Measure and write."""
    parts: dict[str, Any] = {"errors": errors}
    for mode in ("latent", "ambient"):
        parts |= {f"{mode}-{d}": partial(rate, mode, d) for d in (2, 8, 32)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="seconds, nothing written")
    parser.add_argument("--only", choices=parts, help="one part")
    arguments = parser.parse_args()
    smoke, kept = arguments.smoke, DIRECTORY / "latent.json"
    rows = read(kept)[0] if kept.exists() and not smoke else []
    for name, part in parts.items():
        if arguments.only in (None, name):
            rows = [r for r in rows if r["part"] != name] + [{**r, "part": name} for r in part(smoke=smoke)]
            rows.sort(key=lambda r: list(parts).index(r["part"]))
            save("latent", rows, smoke=smoke)


if __name__ == "__main__":
    main()
