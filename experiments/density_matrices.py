"""Quantum states that stay quantum states: ensembles with known laws, and diffusion through the mirror map.

    python experiments/density_matrices.py            all; results/density_matrices.json
    python experiments/density_matrices.py --smoke    seconds

    valid       1,000,000 states of an untrained model and of wild dual coordinates: how many are no density matrix,
                by NumPy's eigenvalues in complex128
    ensembles   Hilbert-Schmidt and Bures states: moments of the spectrum at their closed forms, and for one qubit its
                whole law
    learnt      thermal states of 3-qubit Ising models: diffusion on the dual coordinates, against diffusion on the
                entries that is projected afterwards; same network, updates and seeds; three seeds

Budget: 25 minutes on two cores.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from scipy import stats
from study import Pick, Study, Table, record

import bridgejax as bj
from bridgejax import evaluation, methods, metrics, mirrors, networks, schedules
from bridgejax.oracles import quantum

STUDY = Study(
    "density_matrices",
    topic="Domains: discrete, mixed, constrained",
    question="Is every sample of a quantum diffusion model a quantum state?",
    answer="Yes with the mirror map, in the last of a million. Diffusion on the entries makes states with negative "
    "eigenvalues. Projected to the nearest state these have an eigenvalue of 0, which no thermal state has; a "
    "classifier on the entries tells neither model from the data.",
    brief="Always by the mirror map; entries need a projection, and a classifier cannot tell.",
    budget="25 minutes on two cores",
    source="Zyczkowski & Sommers 2001; Sommers & Zyczkowski 2004 (moments of the ensembles)",
    floor="held-out states against held-out states",
    picks=(
        Pick("C2ST accuracy", {"model": "mirror map", "seed": 0}, "C2ST, mirror map"),
        Pick("C2ST accuracy", {"model": "entries, projected", "seed": 0}, "projected"),
    ),
    tables=(
        Table(
            "invalid states",
            rows=("states", "levels"),
            text="A state is invalid if an eigenvalue is negative, its trace off 1 by more than 1e-6, or an entry off "
            "its transpose's conjugate by more than 1e-6.",
            also=("n", "least_eigenvalue", "trace_off_by", "seconds"),
        ),
        Table(
            ("purity, in standard errors", "third moment, in standard errors"),
            rows=("ensemble", "levels"),
            title="Moments of the spectrum",
            text="Deviation of the mean of tr R^2 and of tr R^3 from the closed form.",
        ),
        Table(
            "Kolmogorov-Smirnov p-value of the spectrum",
            rows=("ensemble",),
            text="One qubit: the length r of its Bloch vector has distribution r^3 (Hilbert-Schmidt) or "
            "(2 / pi)(arcsin r - r sqrt(1 - r^2)) (Bures).",
        ),
        Table(
            "C2ST accuracy",
            rows=("model",),
            columns="seed",
            title="Learnt thermal states: C2ST accuracy",
            text="Against held-out states; the floor is another held-out half. Its standard error is about 0.01.",
        ),
        Table("sliced W2", rows=("model",), columns="seed"),
        Table("W1 of the purity", rows=("model",), columns="seed"),
        Table("W1 of the least eigenvalue", rows=("model",), columns="seed"),
        Table(
            "share of invalid states",
            rows=("model",),
            columns="seed",
            text="Before the projection, after which as many have an eigenvalue of 0.",
        ),
    ),
    timed=("part", "states", "levels", "model", "seed"),
)

SLACK = 1e-6


# valid --------------------------------------------------------------------------------------------------------------


def faults(states: np.ndarray) -> tuple[int, float, float]:
    """Invalid states, the least eigenvalue, and by how much a trace is off, in complex128."""
    states = states.astype(np.complex128)
    least = np.linalg.eigvalsh(states)[:, 0]
    trace = np.abs(np.trace(states, axis1=1, axis2=2) - 1.0)
    skew = np.abs(states - states.conj().swapaxes(1, 2)).max((1, 2))
    return int(np.sum((least < 0) | (trace > SLACK) | (skew > SLACK))), float(least.min()), float(trace.max())


def valid(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Invalid states of a million."""
    total, batch = (2000, 1000) if options.smoke else (1_000_000, 20_000)
    for n in (2, 4, 8):
        mirror = mirrors.DensityMatrix(n)
        network = networks.MLP(mirror.dual_shape, width=32, depth=2, rngs=nnx.Rngs(0))
        method = methods.mirrored(methods.diffusion(schedules.cosine(), network, shape=mirror.dual_shape), mirror)
        process = method.process(
            method.init(jax.random.key(0), jax.vmap(mirror.to_primal)(jnp.eye(*mirror.dual_shape)))
        )

        def model(keys: Any, process: Any = process) -> Any:
            return bj.sample(process, keys)

        @jax.jit
        def wild(keys: Any, mirror: Any = mirror) -> Any:
            return jax.vmap(lambda key: mirror.to_primal(20.0 * jax.random.normal(key, mirror.dual_shape)))(keys)

        for states, draw in {"untrained model": model, "wild dual coordinates": wild}.items():
            began, count, least, off = time.perf_counter(), 0, math.inf, 0.0
            for first in range(0, total, batch):
                found = faults(np.asarray(draw(bj.keys(jax.random.key(n), batch, first))))
                count, least, off = count + found[0], min(least, found[1]), max(off, found[2])
            yield record(
                "invalid states", count, {"states": states, "levels": n}, n=total, bar="none", met=count == 0,
                began=began, least_eigenvalue=least, trace_off_by=off,
            )  # fmt: skip


# ensembles ----------------------------------------------------------------------------------------------------------


def bloch_length(states: np.ndarray) -> np.ndarray:
    """Length of the Bloch vector of one qubit: sqrt(2 tr R^2 - 1)."""
    return np.sqrt(np.maximum(2.0 * np.asarray(quantum.purity(states), np.float64) - 1.0, 0.0))


LAWS = {
    "Hilbert-Schmidt": lambda r: r**3,
    "Bures": lambda r: 2.0 / np.pi * (np.arcsin(np.clip(r, 0, 1)) - r * np.sqrt(np.clip(1.0 - r**2, 0, 1))),
}


def ensembles(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Moments, and the spectrum of a qubit."""
    num = 2000 if options.smoke else 200_000
    known = {
        "Hilbert-Schmidt": (
            quantum.hilbert_schmidt,
            quantum.hilbert_schmidt_purity,
            quantum.hilbert_schmidt_third_moment,
        ),
        "Bures": (quantum.bures, quantum.bures_purity, quantum.bures_third_moment),
    }
    for name, (draw, second, third) in known.items():
        for n in (2, 4, 8):
            states = jax.jit(jax.vmap(lambda key, n=n, draw=draw: draw(key, n)))(bj.keys(jax.random.key(n), num))
            eigenvalues = np.linalg.eigvalsh(np.asarray(states, np.complex128))
            for metric, power, want in (("purity", 2, second(n)), ("third moment", 3, third(n))):
                found = np.sum(eigenvalues**power, axis=1)
                off = float((found.mean() - want) / (found.std(ddof=1) / math.sqrt(num)))
                yield record(
                    f"{metric}, in standard errors", off, {"ensemble": name, "levels": n}, n=num, bar="within 5",
                    met=abs(off) < 5, mean=float(found.mean()), truth=want,
                )  # fmt: skip
            if n == 2:
                p = float(stats.kstest(bloch_length(states), LAWS[name]).pvalue)
                yield record(
                    "Kolmogorov-Smirnov p-value of the spectrum", p, {"ensemble": name}, n=num, bar="above 1e-4",
                    met=p > 1e-4,
                )  # fmt: skip


# learnt -------------------------------------------------------------------------------------------------------------

QUBITS, BETA = 3, 0.5
LEVELS = 2**QUBITS


def coordinates(states: Any) -> np.ndarray:
    """Real coordinates in which Euclidean distance is Hilbert-Schmidt distance."""
    states = np.asarray(states, np.complex128)
    above = math.sqrt(2.0) * states[:, *np.triu_indices(LEVELS, 1)]
    return np.concatenate([np.diagonal(states, axis1=1, axis2=2).real, above.real, above.imag], axis=1)


def matrices(x: np.ndarray) -> np.ndarray:
    """The Hermitian matrices of coordinates."""
    pairs = LEVELS * (LEVELS - 1) // 2
    above = (x[:, LEVELS : LEVELS + pairs] + 1j * x[:, LEVELS + pairs :]) / math.sqrt(2.0)
    out = np.zeros((len(x), LEVELS, LEVELS), np.complex128)
    out[:, *np.triu_indices(LEVELS, 1)] = above
    out = out + out.conj().swapaxes(1, 2)
    out[:, np.arange(LEVELS), np.arange(LEVELS)] = x[:, :LEVELS]
    return out


def nearest_states(hermitian: np.ndarray) -> np.ndarray:
    """The nearest density matrices in Hilbert-Schmidt distance: eigenvalues projected to the simplex."""
    values, vectors = np.linalg.eigh(hermitian)
    descending = values[:, ::-1]
    excess = (np.cumsum(descending, axis=1) - 1.0) / np.arange(1, LEVELS + 1)
    last = np.sum(descending > excess, axis=1) - 1
    values = np.maximum(values - excess[np.arange(len(values)), last][:, None], 0.0)
    return (vectors * values[:, None, :]) @ vectors.conj().swapaxes(1, 2)


def train(method: Any, data: Any, seed: int, steps: int, n: int) -> np.ndarray:
    """Samples of a trained method."""
    state = bj.fit(method, data, jax.random.key(seed), steps=steps, batch_size=256)
    return np.asarray(bj.sample(method.process(state), bj.keys(jax.random.key(seed + 100), n)))


def diffusion(shape: tuple[int, ...], seed: int, steps: int) -> Any:
    """The same model for both."""
    network = networks.MLP(shape, width=256, depth=3, rngs=nnx.Rngs(seed))
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, steps))
    return methods.diffusion(schedules.cosine(), network, shape=shape, predict="velocity", optimizer=optimizer)


def through_the_mirror(states: Any, seed: int, steps: int, n: int) -> tuple[np.ndarray, float]:
    """States of a model on the dual coordinates."""
    mirror = mirrors.standardised(mirrors.DensityMatrix(LEVELS), states)
    made = train(methods.mirrored(diffusion((LEVELS**2 - 1,), seed, steps), mirror), states, seed, steps, n)
    return made, faults(made)[0] / n


def projected(states: Any, seed: int, steps: int, n: int) -> tuple[np.ndarray, float]:
    """States of a model on the entries, projected; the share that needed it."""
    x = coordinates(states)
    mean, scale = x.mean(0), math.sqrt(np.mean(x.var(0)))
    x = jnp.asarray((x - mean) / scale, jnp.float32)
    made = matrices(train(diffusion((LEVELS**2,), seed, steps), x, seed, steps, n).astype(np.float64) * scale + mean)
    negative = float(np.mean(np.linalg.eigvalsh(made)[:, 0] < 0))
    return nearest_states(made), negative


def learnt(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Thermal states, learnt twice."""
    steps, n, seeds = (20, 200, 1) if options.smoke else (12_000, 2000, 3)
    draw = jax.jit(jax.vmap(lambda key: quantum.thermal_ising(key, QUBITS, BETA)))
    train_set = draw(bj.keys(jax.random.key(0), 20_000 if not options.smoke else 500))
    real, other = (np.asarray(draw(bj.keys(jax.random.key(k), n))) for k in (1, 2))

    def scores(states: np.ndarray) -> dict[str, float]:
        test = evaluation.c2st(coordinates(real), coordinates(states))
        eigenvalues, truth = (np.linalg.eigvalsh(np.asarray(s, np.complex128)) for s in (states, real))
        return {
            "C2ST accuracy": test.accuracy,
            "sliced W2": metrics.sliced_wasserstein2(coordinates(states), coordinates(real)),
            "W1 of the purity": float(stats.wasserstein_distance((eigenvalues**2).sum(1), (truth**2).sum(1))),
            "W1 of the least eigenvalue": float(stats.wasserstein_distance(eigenvalues[:, 0], truth[:, 0])),
        }

    floors = scores(other)
    for model, make in {"mirror map": through_the_mirror, "entries, projected": projected}.items():
        for seed in range(seeds):
            began = time.perf_counter()
            states, share = make(train_set, seed, steps, n)
            seconds, case = time.perf_counter() - began, {"model": model, "seed": seed}
            for metric, value in scores(states).items():
                yield record(metric, value, case, n=n, floor=floors[metric], seconds=seconds)
            bars = {"bar": "none", "met": share == 0} if model == "mirror map" else {}
            yield record("share of invalid states", share, case, n=n, seconds=seconds, **bars)


if __name__ == "__main__":
    STUDY.run(__doc__, {"valid": valid, "ensembles": ensembles, "learnt": learnt})
