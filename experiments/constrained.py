"""Bridges that end in a set, against unconstrained bridges that are rounded afterwards.

    python experiments/constrained.py            all; results/constrained.json
    python experiments/constrained.py --smoke    seconds

    violations   1,000,000 samples in every domain under a wild drift (20 sin 7x, 12 steps): how many lie outside
    finite sets  K = 4 and K = 16 random points in the plane, unequal weights, small MLP: total variation at n = 50,000
                 to the target, beside its floor (mean of 20 draws of the target)
    digits       the 8x8 digits as what they are, integers 0..16: a bridge on the integer grid, and the same network,
                 steps, start and noise as an unconstrained Brownian bridge whose samples are rounded; Frechet distance
                 in the features of a classifier and C2ST accuracy against held-out digits (n = 359), beside the
                 training rows' own; the bound on -log p in bits per pixel

The start is the origin and the reference a Brownian motion in both. Budget: 15 minutes on two cores.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from results import save

import bridgejax as bj
from bridgejax import domains
from bridgejax.evaluation import c2st_accuracy, classifier_features

COMMAND = "python experiments/constrained.py"
BUDGET = "15 minutes for all"
SOURCE = "Liu, Wu, Ye & Liu 2022, arXiv 2208.14699 (their data sets differ)"


def row(claim: str, ours: float, began: float, **more: Any) -> dict[str, Any]:
    """One result."""
    cost = f"{more.pop('what', '')}{time.perf_counter() - began:.0f} s, 2 CPU cores"
    return {"claim": claim, "ours": ours, "command": COMMAND, "budget": BUDGET, "cost": cost, **more}


# violations ---------------------------------------------------------------------------------------------------------

TABLE = domains.Product(
    [domains.Reals(), domains.Box(-1.0, 0.5), domains.IntegerGrid(0, 4), domains.Categorical(3), domains.HalfLine()],
    [1, 1, 1, 3, 1],
)
DOMAINS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "Box": (domains.Box(-1.0, 0.5), (3,)),
    "HalfLine": (domains.HalfLine(), (3,)),
    "IntegerGrid": (domains.IntegerGrid(0, 16), (3,)),
    "Categorical": (domains.Categorical(5), (5,)),
    "FinitePoints": (
        domains.FinitePoints(jnp.asarray(np.random.default_rng(0).normal(size=(16, 2)), jnp.float32)),
        (2,),
    ),
    "Sphere": (domains.Sphere(), (3,)),
    "Product": (TABLE, (7,)),
}


def wild(t: Array, x: Array, args: Any) -> Array:
    """A drift that no training would leave behind."""
    return 20.0 * jnp.sin(7.0 * x)


def violations(n: int) -> list[dict[str, Any]]:
    """Samples outside, of n."""
    rows, batch = [], min(n, 50_000)
    for name, (domain, shape) in DOMAINS.items():
        began = time.perf_counter()
        sde, starts = bj.constrain(bj.schedules.brownian(1.0), domain, wild), jnp.zeros((batch, *shape))
        outside = 0
        inside = jax.jit(jax.vmap(domain.contains))
        for first in range(0, n, batch):
            x = bj.simulate_batch(sde, bj.keys(jax.random.key(0), batch, first), starts, bj.grids.uniform(12))
            outside += int(jnp.sum(~inside(x)))
        claim = f"samples outside {name}, of {n:,}"
        rows.append(row(claim, outside, began, met=outside == 0, source="bar: none"))
    return rows


# finite sets --------------------------------------------------------------------------------------------------------


def finite_set(k: int, steps: int, n: int) -> dict[str, Any]:
    """Total variation of a trained bridge to k weighted points."""
    began, random = time.perf_counter(), np.random.default_rng(k)
    points = np.float32(random.normal(size=(k, 2)))
    weights = random.dirichlet(np.full(k, 2.0))
    data = points[random.choice(k, 50_000, p=weights)]
    method = bj.methods.constrained(
        domains.FinitePoints(jnp.asarray(points)),
        bj.schedules.brownian(1.0),
        bj.networks.MLP((2,), width=128, depth=3, rngs=nnx.Rngs(0)),
        shape=(2,),
        optimizer=optax.adam(optax.cosine_decay_schedule(2e-3, steps)),
        ts=bj.grids.uniform(100),
    )
    state = bj.fit(method, data, jax.random.key(0), steps=steps, batch_size=512)
    x = np.asarray(bj.sample(method.process(state), bj.keys(jax.random.key(1), n)))

    def distance(x: np.ndarray) -> float:
        hits = np.all(x[:, None, :] == points[None], axis=-1)
        assert np.all(hits.sum(1) == 1), "a sample is no point of the set"
        return float(np.abs(hits.mean(0) - weights).sum() / 2)

    floor = float(np.mean([distance(points[random.choice(k, n, p=weights)]) for _ in range(20)]))
    value = distance(x)
    return row(
        f"total variation to {k} weighted points, n = {n:,} (bar: floor + 0.015)",
        value,
        began,
        floor=floor,
        met=value <= floor + 0.015,
        what=f"{steps} steps, 100 evaluations, ",
        source=SOURCE,
    )


# digits -------------------------------------------------------------------------------------------------------------

SHAPE = (8, 8, 1)
LEVELS = domains.IntegerGrid(-1.0, 1.0, 0.125)  # 0..16 as v / 8 - 1


def network() -> Any:
    """The same for both."""
    return bj.networks.MLP(SHAPE, width=256, depth=4, rngs=nnx.Rngs(0))


def adam(steps: int) -> optax.GradientTransformation:
    """The same for both."""
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(2e-3, steps)))


def digits(steps: int, sigma: float) -> list[dict[str, Any]]:
    """Integer bridges beside unconstrained ones that are rounded."""
    loaded = bj.data.load("digits")
    x = np.asarray(loaded.x)
    assert bool(jnp.all(jax.vmap(LEVELS.contains)(jnp.asarray(x)))), "the digits are levels v / 8 - 1, v = 0 to 16"
    order = np.random.default_rng(0).permutation(len(x))
    held, kept = order[:359], order[359:]
    train, holdout = x[kept], x[held]
    features = classifier_features(train, np.asarray(loaded.labels)[kept])
    schedule, ts = bj.schedules.brownian(sigma), bj.grids.uniform(100)

    def measures(samples: np.ndarray) -> tuple[float, float]:
        distance = bj.metrics.frechet(features.features(samples), features.features(holdout))
        return float(distance), c2st_accuracy(samples.reshape(len(samples), -1), holdout.reshape(len(holdout), -1))

    generator = np.random.default_rng(1)
    real = [measures(train[generator.choice(len(train), len(holdout), replace=False)]) for _ in range(20)]
    floor = np.mean(real, axis=0)
    rows = []

    began = time.perf_counter()
    method = bj.methods.constrained(LEVELS, schedule, network(), shape=SHAPE, optimizer=adam(steps), ts=ts)
    state = bj.fit(method, train, jax.random.key(0), steps=steps, batch_size=128)
    keys = bj.keys(jax.random.key(1), len(holdout))
    samples = np.asarray(bj.sample(method.process(state), keys))
    assert bool(jnp.all(jax.vmap(LEVELS.contains)(jnp.asarray(samples)))), "a sample off the grid"
    bound = jax.jit(jax.vmap(lambda k, x: method.log_prob(state, k, x)))
    bits = np.asarray(bj.bits_per_dim(bound(keys, jnp.asarray(holdout)), 64))
    found = {"bridge on the integer grid": (measures(samples), began)}

    began = time.perf_counter()
    method = bj.methods.bridge_matching(
        network(), shape=SHAPE, sigma=sigma, source=np.zeros((1, *SHAPE), np.float32), optimizer=adam(steps), ts=ts
    )
    pairs = bj.data.Pairs(np.zeros((1, *SHAPE), np.float32), train, 128)
    state = bj.fit(method, pairs, jax.random.key(0), steps=steps, batch_size=128)
    free = np.asarray(bj.sample(method.process(state), keys))
    rounded = np.asarray(jax.vmap(LEVELS.snap)(jnp.asarray(free)))
    found["unconstrained bridge, rounded"] = (measures(rounded), began)

    for name, ((distance, accuracy), when) in found.items():
        more = {"what": f"{steps} steps, 100 evaluations, ", "source": SOURCE}
        rows.append(row(f"digits as 17 levels, {name}: Frechet in features", distance, when, floor=floor[0], **more))
        rows.append(row(f"digits as 17 levels, {name}: C2ST accuracy", accuracy, when, floor=floor[1], **more))
    rows.append(
        row(
            "digits as 17 levels, bridge on the integer grid: bound on -log2 p of held-out digits",
            float(bits.mean()),
            began,
            unit="bits/pixel",
            notes=f"standard error {bits.std() / np.sqrt(len(bits)):.2g}; uniform over 17 levels is {np.log2(17):.3f}",
            source=SOURCE,
        )
    )
    return rows


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="seconds, nothing written")
    smoke = parser.parse_args().smoke
    rows = violations(1000 if smoke else 1_000_000)
    rows += [finite_set(k, 20 if smoke else 5000, 1000 if smoke else 50_000) for k in (4, 16)]
    rows += digits(20 if smoke else 5000, 1.0)
    save("constrained", rows, smoke=smoke)


if __name__ == "__main__":
    main()
