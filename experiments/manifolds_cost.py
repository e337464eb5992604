"""What a training step of projected diffusion costs on U(n), beside a Euclidean one and beside derivatives of eigh.

    python experiments/manifolds_cost.py            all; results/manifolds_cost.json
    python experiments/manifolds_cost.py --smoke    seconds

    arithmetic   the targets alone (an eigendecomposition and elementwise division), batch 32, n = 8, ..., 64, and the
                 slope of log time in log d, d = n^2, over rounds
    step         a whole update at n = 32 (d = 1024) and 40: projected diffusion, and diffusion of as many numbers in
                 flat space, with the same kind of network (an MLP of width 512 and depth 4), batch 32
    autodiff     drift and covariance of the same projection at n = 32 by the Jacobian of jnp.linalg.eigh, batch 1

All are timed in turn, round after round, after a warm-up. A time is the least of its rounds, what a busy machine adds
being no part of it; five groups of rounds, each with its own least times, give the interval. Budget: 8 minutes on two
cores.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from study import Pick, Study, Table, record

import bridgejax as bj
from bridgejax import manifolds as mf
from bridgejax.methods.manifolds import _lifts

STUDY = Study(
    "manifolds_cost",
    topic="Domains: discrete, mixed, constrained",
    question="Does diffusion on U(n) cost what a Euclidean step costs?",
    answer="The targets add one eigendecomposition, which the networks outweigh; derivatives of an eigendecomposition "
    "cost far more.",
    brief="One eigendecomposition beside the network.",
    budget="8 minutes on two cores",
    source="Mangoubi, He & Vishnoi 2025, arXiv 2505.21640 (the exponent)",
    picks=(Pick("time of an update over a Euclidean one", {"n": 32}, "over Euclidean, n = 32"),),
    tables=(
        Table(
            "slope of the targets' time in d",
            rows=("sizes",),
            title="Arithmetic of the targets",
            text="Of a line through log time against log n^2, with the smallest and largest of five groups of rounds.",
            also=("smallest", "largest"),
        ),
        Table("seconds of the targets", rows=("n",), text="Batch 32."),
        Table(
            "time of an update over a Euclidean one",
            rows=("n",),
            text="Ratio of the least times.",
            also=("projected_seconds", "euclidean_seconds"),
        ),
        Table(
            "time by automatic differentiation over the closed form",
            rows=("n",),
            text="Drift and covariance of one sample.",
            also=("automatic_seconds", "closed_seconds"),
        ),
    ),
    timed=("part",),
)
BATCH = 32


def timed(calls: dict[Any, Callable[[], Any]], rounds: int) -> dict[Any, np.ndarray]:
    """Seconds of every call in every round, taken in turn."""
    for call in calls.values():
        jax.block_until_ready(call())
    found: dict[Any, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            jax.block_until_ready(call())
            found[name].append(time.perf_counter() - began)
    return {name: np.array(values) for name, values in found.items()}


def groups(values: np.ndarray) -> np.ndarray:
    """The least time of each of five groups of rounds."""
    return np.array([part.min() for part in np.array_split(values, min(5, len(values)))])


def drawn(n: int, batch: int) -> tuple[Any, Any, Any]:
    """A lift of U(n), and z and eps of a batch."""
    lift = _lifts.lift_of(mf.U(n))
    x = jax.jit(jax.vmap(mf.U(n).uniform))(bj.keys(jax.random.key(0), batch))
    eps = jax.vmap(lift.noise)(bj.keys(jax.random.key(1), batch))
    return lift, jax.tree.map(lambda a, b: 0.8 * a + 0.3 * b, jax.vmap(lift.up)(x), eps), eps


def arithmetic(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The targets alone."""
    sizes, rounds = ((4, 8), 2) if options.smoke else ((8, 16, 24, 32, 48, 64), 40)
    calls = {}
    for n in sizes:
        lift, z, eps = drawn(n, BATCH)
        f = jax.jit(jax.vmap(lambda z, e, lift=lift: lift.targets(z, e, 0.1, 1e-3)))
        calls[n] = lambda f=f, z=z, eps=eps: f(z, eps)
    found = timed(calls, rounds)
    for n in sizes:
        yield record(
            "seconds of the targets", float(found[n].min()), {"n": n}, spread=groups(found[n]).tolist(), n=BATCH
        )
    logs = np.log(np.array(sizes, float) ** 2)

    def slope(times: list[float]) -> float:
        return float(np.polyfit(logs, np.log(times), 1)[0])

    parts = [groups(found[n]) for n in sizes]
    slopes = [slope(list(times)) for times in zip(*parts, strict=True)]
    middle = slope([found[n].min() for n in sizes])
    yield record(
        "slope of the targets' time in d", middle, {"sizes": " ".join(map(str, sizes))}, spread=slopes, published=1.19,
        bar="at most 1.25", met=middle <= 1.25, smallest=min(slopes), largest=max(slopes),
    )  # fmt: skip


def update(method: bj.Method, data: Any) -> Callable[[], Any]:
    """One jitted update, called again and again from the same state."""
    state = method.init(jax.random.key(0), data)
    step = jax.jit(method.step)
    return lambda: step(state, jax.random.key(1), data)


def step(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Whole updates."""
    sizes, rounds = ((4,), 2) if options.smoke else ((32, 40), 25)
    for n in sizes:
        flat, shown = 2 * n * n, 2 * n * n + 2 * n
        data = jax.vmap(mf.U(n).uniform)(bj.keys(jax.random.key(0), BATCH))
        network = bj.networks.MLP((shown,), outputs=(3 * n * n + n,), width=512, depth=4, rngs=nnx.Rngs(0))
        plain = bj.networks.MLP((flat,), width=512, depth=4, rngs=nnx.Rngs(0))
        calls = {
            "projected": update(bj.methods.projected(mf.U(n), network), data),
            "euclidean": update(bj.methods.diffusion(bj.schedules.vp(), plain, shape=(flat,)), data.reshape(BATCH, -1)),
        }
        found = timed(calls, rounds)
        ratios = groups(found["projected"]) / groups(found["euclidean"])
        value = float(found["projected"].min() / found["euclidean"].min())
        seconds = {f"{name}_seconds": float(values.min()) for name, values in found.items()}
        yield record(
            "time of an update over a Euclidean one", value, {"n": n}, spread=ratios.tolist(), published=3.0, n=BATCH,
            bar="at most 2", met=value <= 2, **seconds,
        )  # fmt: skip


def autodiff(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The same by the Jacobian of eigh."""
    n, rounds = (4, 2) if options.smoke else (32, 10)
    lift, z, eps = drawn(n, 1)
    rows, columns = np.triu_indices(n, 1)

    def hermitian(v: Any) -> Any:
        """The Hermitian matrix of n^2 coordinates in an orthonormal basis."""
        upper = (
            jnp.zeros((n, n), jnp.complex64)
            .at[rows, columns]
            .set(jax.lax.complex(v[n : n + len(rows)], v[n + len(rows) :]) / jnp.sqrt(2.0))
        )
        return jnp.diag(v[:n]).astype(jnp.complex64) + upper + jnp.conj(upper.T)

    def coordinates(h: Any) -> Any:
        off = h[rows, columns] * jnp.sqrt(2.0)
        return jnp.concatenate([jnp.diagonal(h).real, off.real, off.imag])

    def by_jacobian(z: Any, eps: Any) -> Any:
        v, e = coordinates(z), coordinates(eps)
        u = jnp.linalg.eigh(z)[1]
        jacobian = jax.jacfwd(lambda v: jnp.linalg.eigh(hermitian(v))[1])(v)  # (n, n, n^2)
        moving = jnp.einsum("ja,jib->aib", jnp.conj(u), jacobian)
        return -moving @ e, jnp.sum(jnp.abs(moving) ** 2, axis=-1)

    automatic, closed = jax.jit(by_jacobian), jax.jit(lambda z, e: lift.targets(z, e, 0.1, 1e-9))
    one = jax.tree.map(lambda leaf: leaf[0], (z, eps))
    drift, spread = automatic(one[0][0], one[1][0])
    made = closed(*one)
    k = np.abs(np.asarray(mf.complex_of(made.m[: 2 * n * n].reshape(2, n, n))))[::-1, ::-1]
    off = ~np.eye(n, dtype=bool)
    np.testing.assert_allclose(np.abs(np.asarray(drift))[off], k[off], rtol=2e-2, atol=1e-3 * k.max())  # the same thing
    variances = np.asarray(made.c).reshape(n, n)[::-1, ::-1]
    np.testing.assert_allclose(np.asarray(spread)[off], variances[off], rtol=2e-2)
    calls = {"automatic": lambda: automatic(one[0][0], one[1][0]), "closed": lambda: closed(*one)}
    found = timed(calls, rounds)
    ratios = groups(found["automatic"]) / groups(found["closed"])
    value = float(found["automatic"].min() / found["closed"].min())
    seconds = {f"{name}_seconds": float(values.min()) for name, values in found.items()}
    yield record(
        "time by automatic differentiation over the closed form", value, {"n": n}, spread=ratios.tolist(), n=1,
        bar="at least 10", met=value >= 10, **seconds,
    )  # fmt: skip


if __name__ == "__main__":
    STUDY.run(__doc__, {"arithmetic": arithmetic, "step": step, "autodiff": autodiff})
