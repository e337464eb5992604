"""Bridges that end in a set: that they do, and that a trained one has the law of its data (images: discrete.py).

    python experiments/constrained.py            all; results/constrained.json
    python experiments/constrained.py --smoke    seconds

    violations   1,000,000 samples in every domain under a wild drift (20 sin 7x, 12 steps): how many lie outside
    finite sets  K = 4 and K = 16 random points in the plane, unequal weights, small MLP: total variation at n = 50,000
                 to the target, beside its floor (mean of 20 draws of the target)

The start is the origin and the reference a Brownian motion. Budget: 10 minutes on two cores.
"""

from __future__ import annotations

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
from bridgejax import domains

STUDY = Study(
    "constrained",
    topic="Domains: discrete, mixed, constrained",
    question="Do constrained bridges stay in their set, with the right law?",
    answer="It never leaves the set, not even under a wild drift. Trained by its tilt it comes near the data's law; "
    "trained by its end it does so on a few points only.",
    brief="Always in the set; with the law if trained by tilt.",
    budget="10 minutes on two cores",
    source="Liu, Wu, Ye & Liu 2022, arXiv 2208.14699 (their data sets differ)",
    floor="draws of the target",
    picks=(Pick("total variation to the target", {"points": 16, "predict": "tilt"}, "total variation"),),
    tables=(
        Table("samples outside", rows=("domain",), also=("n", "seconds")),
        Table("total variation to the target", rows=("points",), columns="predict", text="Of a trained bridge."),
    ),
    missed=(
        (
            {"points": 16, "predict": "end"},
            "The network that predicts the end has two outputs for sixteen shares; with an output for every "
            "point (tilt) the bar is met.",
        ),
    ),
)


# violations ---------------------------------------------------------------------------------------------------------

SLACK = 0.015
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
    "Simplex": (domains.Simplex(4), (4,)),
    "Product": (TABLE, (7,)),
}


def wild(t: Array, x: Array, args: Any) -> Array:
    """A drift that no training would leave behind."""
    return 20.0 * jnp.sin(7.0 * x)


def violations(options: Any) -> Iterator[Any]:
    """Samples outside, of n."""
    n = 1000 if options.smoke else 1_000_000
    batch = min(n, 50_000)
    for name, (domain, shape) in DOMAINS.items():
        began = time.perf_counter()
        sde, starts = bj.constrain(bj.schedules.brownian(1.0), domain, wild), jnp.zeros((batch, *shape))
        outside = 0
        inside = jax.jit(jax.vmap(domain.contains))
        for first in range(0, n, batch):
            x = bj.simulate_batch(sde, bj.keys(jax.random.key(0), batch, first), starts, bj.grids.uniform(12))
            outside += int(jnp.sum(~inside(x)))
        yield record(
            "samples outside", outside, {"domain": name}, n=n, bar="none", met=outside == 0, began=began
        )  # fmt: skip


# finite sets --------------------------------------------------------------------------------------------------------


def finite_set(k: int, predict: str, steps: int, n: int) -> dict[str, Any]:
    """Total variation of a trained bridge to k weighted points."""
    began, random = time.perf_counter(), np.random.default_rng(k)
    points = np.float32(random.normal(size=(k, 2)))
    weights = random.dirichlet(np.full(k, 2.0))
    data = points[random.choice(k, 50_000, p=weights)]
    method = bj.methods.constrained(
        domains.FinitePoints(jnp.asarray(points)),
        bj.schedules.brownian(1.0),
        bj.networks.MLP((2,), outputs=(k,) if predict == "tilt" else None, width=128, depth=3, rngs=nnx.Rngs(0)),
        shape=(2,),
        predict=predict,
        optimizer=optax.adam(optax.cosine_decay_schedule(2e-3, steps)),
    )
    state = bj.fit(method, data, jax.random.key(0), steps=steps, batch_size=512)
    x = np.asarray(bj.sample(method.process(state), bj.keys(jax.random.key(1), n)))

    def distance(x: np.ndarray) -> float:
        hits = np.all(x[:, None, :] == points[None], axis=-1)
        assert np.all(hits.sum(1) == 1), "a sample is no point of the set"
        return float(np.abs(hits.mean(0) - weights).sum() / 2)

    floor = float(np.mean([distance(points[random.choice(k, n, p=weights)]) for _ in range(20)]))
    value = distance(x)
    return record(
        "total variation to the target",
        value,
        {"points": k, "predict": predict},
        n=n,
        floor=floor,
        bar=f"at most floor + {SLACK}",
        met=value <= floor + SLACK,
        began=began,
        updates=steps,
        evaluations=100,
    )


def finite_sets(options: Any) -> Iterator[Any]:
    """Both sizes, both predictions."""
    for k in (4, 16):
        for predict in ("tilt", "end"):
            yield finite_set(k, predict, 20 if options.smoke else 5000, 1000 if options.smoke else 50_000)


if __name__ == "__main__":
    STUDY.run(__doc__, {"violations": violations, "finite sets": finite_sets})
