"""Latent Schroedinger bridges: where the error comes from, and which dimension its rate follows.

    python experiments/latent.py            results/latent.json
    python experiments/latent.py --only latent-8    one part (errors, latent-d, ambient-d), the others' rows stay
    python experiments/latent.py --smoke    seconds, nothing written

Errors. Data: an isometry of a 2-D mixture of eight Gaussians into d = 8, plus noise 0.15 in the other six
coordinates. Four errors, each replaced by its closed form in turn: the codec (PCA; exact: no noise off the plane), the
score (MLP; exact: the mixture's), stopping at T = 0.95 (exact: the noise left is not added, by measuring against g_T),
Euler in 40 steps (exact: draws of g_T). W2 by assignment of n = 2,000 draws with fresh data, beside real-versus-real
draws of that n (its floor, 10 pairs). Decoded draws lie on a plane and have no part of the floor off it, so the codec's
error is to be read beside its closed form.

Rates. The same mixture in the plane, embedded isometrically in d = 2, 8, 32 (no noise off the plane), n = 100 to 6,400
training points. Latent: PCA to two dimensions and back; ambient: the same method without codec. T = 0.99, 60 Euler
steps, 1,500 updates of one architecture, sigma = 1. W2 of 2,000 draws with 2,000 fresh data; the slope is that of log
W2 against log n, also with the floor taken off in squares. Every d has data of its own: in latent mode three repeats.

The mean is known in closed form for every law here, but W2 is estimated: no number below the floor means anything.
Budget: 12 CPU minutes on one core.
"""

from __future__ import annotations

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
from bridgejax.methods.generative.latent_sb import latent_sb
from bridgejax.metrics import wasserstein2
from bridgejax.processes.mixtures import gaussian_mixture, mixture_score

STUDY = Study(
    "latent",
    topic="Schrödinger bridges",
    question="Where does a latent bridge's error come from?",
    answer="Most of it is the codec's and the early stop's, little is the score's or Euler's. In latent mode the rate "
    "does not depend on the ambient dimension; without a codec it is lost as the dimension grows.",
    brief="From codec and early stopping; the rate follows the latent dimension.",
    budget="12 minutes on one core",
    source="Jiao et al. 2024, arXiv 2404.13309, which has no experiment",
    picks=(Pick("W2 to the data", {"errors": "all four errors"}, "W2"),),
    tables=(
        Table(
            "W2 to the data",
            rows=("errors",),
            title="W2 to the data, errors on and off",
            text="d = 8, codes of 2. The excess is over the floor, in squares. Known: of the codec the root of the "
            "eigenvalues that PCA leaves out, exact; of early stopping the bound sigma sqrt((1 - T) d), which "
            "only atoms reach.",
            also=("excess", "known"),
        ),
        Table(
            "slope of the weak error",
            rows=("drift",),
            title="Slope of the weak error in the number of Euler steps",
            text="The spread about the means, against draws of g_T: relative gaps at these numbers of steps, with "
            "the standard error of the last.",
            also=("steps", "relative_gaps", "gap_error"),
            published="theory",
        ),
        Table(
            "slope of log W2 in log n",
            rows=("mode", "d"),
            text="W2 of one training at every number n of training points, and that of training points drawn with "
            "repetition; the floor of W2; the slope of the excess over the floor in squares; the noise left by "
            "stopping.",
            also=("training_points", "W2", "W2_of_training_points", "W2_floor", "excess_slope", "noise_left"),
        ),
    ),
    timed=("part",),
)
SPREAD, RADIUS, OFF = 0.15, 1.5, 0.15  # of a component, of the circle they lie on, of the noise off the plane
ANGLES = np.arange(8) * np.pi / 4
MEANS = RADIUS * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
SLACK = 0.3  # of the weak order
EULER = bj.solvers.Euler()


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


def errors(options: Any) -> Iterator[Any]:
    """W2 with every error on, with each off, and with each alone."""
    smoke = options.smoke
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
            z = run(learnt.dynamics if score else exact_sde, z + np.float32(random.normal(size=z.shape)), stop,
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
        "the codec error alone": float(np.sqrt(values[2:].sum())),  # eigenvalues that PCA leaves out, exact
        "the early stopping error alone": float(np.sqrt((1 - stop) * 2)),  # bound, reached by atoms only
    }
    on = dict(score=True, early=True, step=True, off=True)
    cases = [("all four errors", on)]
    names = {"codec": "off", "score": "score", "early stopping": "early", "Euler": "step"}
    cases += [(f"all but the {name} error", {**on, key: False}) for name, key in names.items()]
    cases += [(f"the {name} error alone", {k: k == key for k in on}) for name, key in names.items()]
    cases += [("no error (closed forms throughout)", dict.fromkeys(on, False))]
    for name, switches in cases:
        spread = [one(**switches) for k in range(1 if smoke else 3)]
        floor = floors[switches["early"], switches["off"]]
        yield record(
            "W2 to the data",
            float(np.mean(spread)),
            {"errors": name},
            spread=spread,
            floor=floor,
            n=n,
            began=began,
            excess=float(np.sqrt(max(np.mean(spread) ** 2 - floor**2, 0))),
            known=bounds.get(name),
        )
    yield euler_rate(exact_sde, codec, basis, smoke=smoke)


def euler_rate(exact_sde: Any, codec: Any, basis: np.ndarray, *, smoke: bool) -> dict[str, Any]:
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
    return record(
        "slope of the weak error",
        slope,
        {"drift": "exact"},
        n=n,
        published=-1.0,
        bar=f"-1 within {SLACK}",
        met=abs(slope + 1) < SLACK,
        began=began,
        steps=list(counts),
        relative_gaps=gaps,
        gap_error=error,
    )


# rates --------------------------------------------------------------------------------------------------------------


def rate(mode: str, d: int, options: Any) -> Iterator[Any]:
    """W2 against n, for one dimension and mode."""
    smoke = options.smoke
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
        z = run(process.dynamics, z + noise[:, : z.shape[1]], stop, euler)
        means.append(wasserstein2(z if codec is None else decode(codec, z), truth @ basis.T))
        atoms.append(wasserstein2(picks, truth @ basis.T))
    excess = np.sqrt(np.maximum(np.square(means) - floor**2, 1e-12))
    slope, bare = (float(np.polyfit(np.log(sizes), np.log(v), 1)[0]) for v in (means, excess))
    left = float(np.sqrt((1 - stop) * (2 if mode == "latent" else d)))
    yield record(
        "slope of log W2 in log n",
        slope,
        {"mode": mode, "d": d},
        n=n,
        began=began,
        training_points=list(sizes),
        W2=means,
        W2_of_training_points=atoms,
        W2_floor=floor,
        excess_slope=bare,
        noise_left=left,
    )


if __name__ == "__main__":
    STUDY.run(
        __doc__,
        {
            "errors": errors,
            **{f"{mode}-{d}": partial(rate, mode, d) for mode in ("latent", "ambient") for d in (2, 8, 32)},
        },
    )
