"""Paired bridges: the law of the target given its source, on a task whose posteriors are known.

    python experiments/paired.py            results/paired.json
    python experiments/paired.py --smoke    a few steps and samples, nothing written

Target x_0 a mixture of three Gaussians (variance 0.04) in the plane, source y = R x_0 + 0.5 eps, R a quarter turn.
Every law of x_0 given y is a mixture in closed form. Measured at 8 sources: the conditional means' root mean square
error and the covariances' relative error |C - C'| / |C'| (Frobenius), each beside its floor, the same for as many exact
draws; and z, the largest deviation of a mean or a second moment in standard errors (48 of them: about 2.5 by chance).

    oracle     the networks replaced by the exact conditional expectations: what the samplers alone get wrong
    trained    MLP of width 64, batch 256
    plain      bridge matching (exact drift, and trained): right marginals, the pairs forgotten

Budget: 6 minutes on two cores.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from study import Pick, Study, Table, record

import bridgejax as bj
from bridgejax import couplings, mixtures
from bridgejax.methods.paired.ddbm import pair_coefficients
from bridgejax.networks import MLP
from bridgejax.training import adam

STUDY = Study(
    "paired",
    topic="Conditioned processes",
    question="Which paired bridges keep the law given the source?",
    answer="Those that see the source: the augmented bridge, DDBM, I2SB given the source, and BDBM. Plain bridge "
    "matching, and I2SB as published, forget the pairs.",
    brief="Those that see the source.",
    budget="6 minutes on two cores",
    floor="exact draws",
    picks=(
        Pick(
            "mean given the source, rms error",
            {"method": "augmented", "network": "trained"},
            "error of the mean, augmented",
        ),
    ),
    tables=(
        Table(
            rows=("method",),
            where={"network": "exact"},
            title="Exact networks: what the samplers alone get wrong",
            also=("sampler", "seconds"),
        ),
        Table(
            rows=("method",),
            where={"network": "trained"},
            title="Trained networks (MLP of width 64)",
            also=("updates", "seconds"),
        ),
    ),
    timed=("method", "network"),
)
MEANS = np.array([[1.0, 0.3], [-0.6, 0.9], [-0.3, -1.2]], np.float32)
WEIGHTS, V, S, SIGMA = np.array([0.5, 0.3, 0.2], np.float32), 0.04, 0.5, 0.8
R = np.array([[0.0, -1.0], [1.0, 0.0]], np.float32)
MIXTURE = mixtures.gaussian_mixture(MEANS, V, WEIGHTS)
SECOND = bj.solvers.DPMSolverPP2M(eta=1.0)


def pairs(key: Array, n: int) -> tuple[Array, Array]:
    """Sources and targets, (n, 2) each."""
    first, second = jax.random.split(key)
    x0 = jax.vmap(MIXTURE)(jax.random.split(first, n))
    return x0 @ R.T + S * jax.random.normal(second, x0.shape), x0


def mean_given(precision: Any, pull: Array) -> Array:
    """Mean of a density proportional to p(x_0) exp(-precision |x_0|^2 / 2 + pull . x_0)."""
    total, h = 1.0 / V + precision, MEANS / V + pull
    r = jax.nn.softmax(jnp.log(WEIGHTS) + jnp.sum(h**2, 1) / (2.0 * total) - jnp.sum(MEANS**2, 1) / (2.0 * V))
    return r @ h / total


def end_given_source(params: Any, t: Array, x: Array, args: Any) -> Array:
    """E[target | x_t, source] of the Brownian bridge."""
    far = SIGMA**2 * (1.0 - t)
    return mean_given(1.0 / S**2 + t / far, R.T @ args / S**2 + (x - (1.0 - t) * args) / far) + params


def end_alone(params: Any, t: Array, x: Array, args: Any) -> Array:
    """E[target | x_t]: plain bridge matching."""
    a = t * np.eye(2) + (1.0 - t) * R
    noise = (1.0 - t) ** 2 * S**2 + SIGMA**2 * t * (1.0 - t)
    return mean_given((t**2 + (1.0 - t) ** 2) / noise, a.T @ x / noise) + params


def raw_vp(params: Any, noise: Array, x: Array, args: Any) -> Array:
    """DDBM's F whose denoiser is exact, on vp(0.1, 2.1); the time is read off the noise level."""
    schedule = bj.schedules.vp(0.1, 2.1)
    info = jnp.exp(-8.0 * noise)
    t = 0.5 * (jnp.sqrt(0.01 + 4.0 * jnp.log1p(1.0 / (info + 1.0 / jnp.expm1(1.1)))) - 0.1)
    k, b = pair_coefficients(schedule, t), bj.interpolants.bridge(schedule).b(t)  # pyright: ignore
    x = x / k.input
    pull = schedule.alpha(t) / schedule.variance(0.0, t) * (x - b * args)
    return (mean_given(1.0 / S**2 + info, R.T @ args / S**2 + pull) - k.skip * x) / k.out + params


def measure(case: Any, x: Array, sources: Array, seconds: float, **also: Any) -> Iterator[Any]:
    """Three measures of samples (m, n, 2) at m sources."""
    laws = [mixtures.condition(MIXTURE, R, y, S) for y in sources]
    n = x.shape[1]
    draws = [jax.vmap(law)(bj.keys(jax.random.key(9), n)) for law in laws]
    found, floor = (errors(sample, laws) for sample in (np.asarray(x, np.float64), np.asarray(draws, np.float64)))
    names = ("mean given the source, rms error", "covariance given the source, relative error", "largest z")
    for name, value, least in zip(names, found, floor, strict=True):
        yield record(name, value, case, floor=least, n=n, seconds=seconds, sources=len(laws), **also)


def errors(x: np.ndarray, laws: list[Any]) -> tuple[float, float, float]:
    """Root mean square error of the means, mean relative error of the covariances, largest z."""
    gaps, shares, zs = [], [], []
    for rows, law in zip(x, laws, strict=True):
        mean, cov = np.asarray(law.mean(), np.float64), np.asarray(law.cov(), np.float64)
        centred = rows - mean
        products = (centred[:, :, None] * centred[:, None, :]).reshape(len(rows), -1)[:, [0, 1, 3]]
        gaps.append(np.mean(centred.mean(0) ** 2))
        shares.append(np.linalg.norm(np.cov(rows.T) - cov) / np.linalg.norm(cov))
        second = (products.mean(0) - cov.ravel()[[0, 1, 3]]) / products.std(0)
        off = np.concatenate([centred.mean(0) / rows.std(0), second])
        zs.append(np.abs(off).max() * np.sqrt(len(rows)))
    return float(np.sqrt(np.mean(gaps))), float(np.mean(shares)), float(np.max(zs))


def run(case: Any, method: Any, data: Any, sources: Array, n: int, steps: int, options: Any, **also: Any) -> Any:
    """Train where there are steps, sample, measure."""
    began = time.perf_counter()
    key = jax.random.key(1)
    if steps:
        state = bj.fit(method, data, key, steps=steps)
        also |= {"updates": steps, "batch": 256}
    else:
        state = method.init(key, data)
    rows = jnp.repeat(sources, n, axis=0)
    given = {"args": None, "x": rows} if case["method"].startswith("plain") else {"args": rows}
    x = bj.sample(method.process(state), bj.keys(jax.random.key(2), len(rows)), **given, **options)
    return measure(case, x.reshape(len(sources), n, 2), sources, time.perf_counter() - began, **also)


def network(cond_dim: int | None) -> MLP:
    """A small MLP."""
    return MLP((2,), width=64, depth=2, cond_dim=cond_dim, rngs=nnx.Rngs(0))


def task(options: Any) -> tuple[Any, Array, int, int]:
    """Pairs to learn from, sources to judge at, draws at each, steps."""
    smoke, key = options.smoke, jax.random.key(0)
    n, steps = (64, 10) if smoke else (4096, 2000)
    source, target = (np.asarray(part) for part in pairs(key, 512 if smoke else 50_000))
    sources = pairs(jax.random.key(7), 8)[0]
    return bj.data.Pairs(source, target, 256, coupling=couplings.paired), sources, n, steps


BROWNIAN: dict[str, Any] = {"shape": (2,), "sigma": SIGMA}


def exact(options: Any) -> Iterator[Any]:
    """The networks replaced by the exact conditional expectations."""
    data, sources, n, _ = task(options)
    zero, second = jnp.zeros(2), {"solver": SECOND}
    methods, brownian = bj.methods, BROWNIAN
    augmented = methods.augmented_bridge((end_given_source, zero), predict="x1", **brownian)
    plain = methods.bridge_matching((end_alone, zero), predict="x1", **brownian)
    flow = methods.ddbm((raw_vp, zero), shape=(2,), sampler="ode")
    cases = [
        ("augmented", augmented, second, "100 steps of second order"),
        ("augmented, default solver", augmented, {}, "100 steps of first order"),
        ("DDBM vp", methods.ddbm((raw_vp, zero), shape=(2,)), second, "100 steps of second order"),
        ("DDBM vp ODE", flow, {}, "80 steps of Heun"),
        ("plain bridge matching", plain, {}, "100 Euler steps"),
    ]
    for name, method, solver, sampler in cases[2:3] if options.smoke else cases:
        yield from run({"method": name, "network": "exact"}, method, data, sources, n, 0, solver, sampler=sampler)


def trained(options: Any) -> Iterator[Any]:
    """Small networks."""
    data, sources, n, steps = task(options)
    methods, brownian, second = bj.methods, BROWNIAN, {"solver": SECOND}
    training = {"optimizer": adam(3e-3, steps=steps), "ema": 0.99}
    cases = [
        ("augmented", methods.augmented_bridge(network(2), **brownian, **training), second),
        ("DDBM vp", methods.ddbm(network(2), shape=(2,), **training), second),
        ("I2SB given the source", methods.i2sb(network(2), conditional=True, **brownian, **training), second),
        ("I2SB as published", methods.i2sb(network(None), **brownian, **training), second),
        ("BDBM forward", methods.bdbm(network(4), **brownian, **training), second),
        ("plain bridge matching", methods.bridge_matching(network(None), **brownian, **training), {}),
    ]
    for name, method, solver in cases[1:2] if options.smoke else cases:
        yield from run({"method": name, "network": "trained"}, method, data, sources, n, steps, solver)


if __name__ == "__main__":
    STUDY.run(__doc__, {"exact": exact, "trained": trained})
