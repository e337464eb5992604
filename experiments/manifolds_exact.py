"""Manifolds before anything is learnt: Haar measure, Brownian motion and projected targets against closed forms.

    python experiments/manifolds_exact.py            all; results/manifolds_exact.json
    python experiments/manifolds_exact.py --smoke    seconds

    haar      E|U_n1|^4 = 2 / (n (n + 1)), or 3 / (n (n + 2)) for SO(n), and E|tr U|^2 = 1 (not SO(2)); n = 2, ..., 10
    walk      E X_t of Brownian motion at t = 0.8, against e^(-rate t / 2), by both geodesic solvers and their steps
    target    the projected drift against central differences of eigh, float64
    stay      the defect after 1,000 steps in float32

Deviations are in standard errors of the mean, for walks beside the bias itself. Budget: 5 minutes on two cores.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from study import Study, Table, record

import bridgejax as bj
from bridgejax import manifolds as mf
from bridgejax.methods.manifolds import _lifts

STUDY = Study(
    "manifolds_exact",
    topic="Domains: discrete, mixed, constrained",
    question="Are Haar measure, geodesic walks and projected targets right on manifolds?",
    answer="Yes: moments within their standard errors for every size, walks at the closed forms, with few steps where "
    "the scheme is of second order, and the closed-form targets equal differences of the eigendecomposition.",
    brief="Moments, walks and targets at their closed forms.",
    budget="5 minutes on two cores",
    source="Mangoubi, He & Vishnoi 2025, arXiv 2505.21640 (the targets)",
    tables=(
        Table(
            ("fourth moment of an entry, in standard errors", "squared trace, in standard errors"),
            rows=("group", "n"),
            title="Haar measure",
            text="Deviation from the closed form.",
        ),
        Table(
            "error of the mean of Brownian motion",
            rows=("manifold", "solver", "steps"),
            text="E f(X_t) less e^(-rate t / 2) at t = 0.8, f the first eigenfunction (on S2 the second); its standard "
            "error beside it.",
            also=("standard_error", "truth"),
        ),
        Table(
            "relative error of the projected target",
            rows=("group",),
            text="Against central differences of the eigenvectors, phases aligned.",
        ),
        Table(
            "defect after 1,000 steps",
            rows=("manifold",),
            text="The largest entry of x* x - 1, or | |x| - 1 |, of 256 walks with a drift, float32.",
        ),
    ),
)


def still(t: Any, x: Any, args: Any) -> Any:
    """No drift."""
    return jnp.zeros_like(x)


def swirl(t: Any, x: Any, args: Any) -> Any:
    """Some drift."""
    return jnp.sin(3.0 * x + t)


def unit(t: Any, x: Any, args: Any) -> float:
    """Unit noise."""
    return 1.0


def draws(manifold: Any, num: int, seed: int) -> Any:
    """Uniform points."""
    return jax.jit(jax.vmap(manifold.uniform))(bj.keys(jax.random.key(seed), num))


def standard_errors(values: Any, truth: float) -> float:
    """The mean's deviation from the truth in standard errors."""
    values = np.asarray(values, np.float64)
    return float((values.mean() - truth) / (values.std(ddof=1) / math.sqrt(len(values))))


def haar(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Moments of every sampler."""
    num, most = (2000, 3) if options.smoke else (40_000, 10)
    for n in range(2, most + 1):
        for manifold in (mf.SO(n), mf.U(n), mf.SU(n)):
            group, x = type(manifold).__name__, draws(manifold, num, n)
            u = x if group == "SO" else mf.complex_of(x)
            truth = 3.0 / (n * (n + 2)) if group == "SO" else 2.0 / (n * (n + 1))
            found = {"fourth moment of an entry, in standard errors": (jnp.abs(u[:, -1, 0]) ** 4, truth)}
            if n > 2 or group != "SO":
                found["squared trace, in standard errors"] = (jnp.abs(jnp.trace(u, axis1=1, axis2=2)) ** 2, 1.0)
            for metric, (values, want) in found.items():
                value = standard_errors(values, want)
                yield record(metric, value, {"group": group, "n": n}, n=num, bar="within 5", met=abs(value) < 5)


def walk(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Brownian motion by both solvers."""
    num, t = (2000 if options.smoke else 40_000), 0.8
    pole = jnp.array([0.0, 0.0, 1.0])
    cases = (
        ("S1", mf.Torus(1), jnp.zeros(1), lambda x: jnp.cos(x[:, 0]), 1.0),
        ("S2", mf.Sphere(2), pole, lambda x: 1.5 * x[:, 2] ** 2 - 0.5, 6.0),
        ("S3", mf.Sphere(3), jnp.array([0.0, 0.0, 0.0, 1.0]), lambda x: x[:, 3], 3.0),
        ("SO(3)", mf.SO(3), jnp.eye(3), lambda x: jnp.trace(x, axis1=1, axis2=2) / 3, 2.0),
        ("U(3)", mf.U(3), mf.real_pair(jnp.eye(3)), lambda x: jnp.trace(x[:, 0], axis1=1, axis2=2) / 3, 3.0),
    )
    solvers = {"GeodesicEuler": bj.solvers.GeodesicEuler(), "GeodesicMidpoint": bj.solvers.GeodesicMidpoint()}
    for name, manifold, x0, f, rate in cases:
        sde, truth = bj.SDE(still, unit, t, manifold=manifold), math.exp(-0.5 * rate * t)
        for solver, made in solvers.items():
            for steps in (4, 16, 64):
                ts, keys = bj.grids.uniform(steps, t), bj.keys(jax.random.key(steps), num)
                x = bj.simulate_batch(sde, keys, x0, ts, axes=(None, None, 0), solver=made)
                values = np.asarray(f(x), np.float64)
                error, spread = values.mean() - truth, values.std(ddof=1) / math.sqrt(num)
                last = steps == 64 or (steps == 16 and solver == "GeodesicMidpoint")
                case = {"manifold": name, "solver": solver, "steps": steps}
                more = {"standard_error": spread, "truth": truth}
                if last:  # bias of order 1: a twelfth of the curvature's share of a step
                    room = 5 * spread + 0.25 * rate * t * t / 64 * truth
                    more |= {"bar": "within 5 s.e. and the bias of 64 Euler steps", "met": abs(error) < room}
                yield record("error of the mean of Brownian motion", error, case, n=num, **more)


def target(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Closed-form targets against differences."""
    with jax.enable_x64(True):
        for manifold in (mf.U(2), mf.U(5), mf.U(10), mf.SO(3), mf.SO(6), mf.SO(10)):
            lift = _lifts.lift_of(manifold)
            wide = [jax.tree.map(lambda a: a.astype(jnp.result_type(a, jnp.float64)), v) for v in
                    (lift.up(manifold.uniform(jax.random.key(3))), lift.noise(jax.random.key(1)))]  # fmt: skip
            z = jax.tree.map(lambda a, b: 0.8 * a + 0.3 * b, *wide)
            u, h = np.asarray(lift._eigen(z[0])[1]), 1e-5
            sides = []
            for sign in (1.0, -1.0):
                v = np.asarray(lift._eigen(z[0] - sign * h * wide[1][0])[1])
                overlap = np.sum(np.conj(u) * v, axis=0)
                sides.append(v * np.conj(overlap / np.abs(overlap)))
            want = (sides[0] - sides[1]) / (2 * h)
            m = lift.targets(z, wide[1], 0.0, 1e-9).m
            k = np.asarray(lift._matrix(m[: m.size - lift.angles].reshape(manifold.shape)))
            error = float(np.linalg.norm(u @ k - want) / np.linalg.norm(want))
            group = f"{type(manifold).__name__}({manifold.n})"
            yield record(
                "relative error of the projected target", error, {"group": group}, bar="at most 1e-5", met=error < 1e-5
            )


def stay(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """On the manifold after many steps."""
    for manifold in (mf.Sphere(2), mf.SO(3), mf.SO(10), mf.U(10), mf.SU(5)):
        sde, num = bj.SDE(swirl, unit, manifold=manifold), 8 if options.smoke else 256
        steps = 10 if options.smoke else 1000
        ends = bj.simulate_batch(sde, bj.keys(jax.random.key(1), num), draws(manifold, num, 0), bj.grids.uniform(steps))
        defect = float(jnp.max(jax.vmap(manifold.defect)(ends)))
        sizes = "".join(str(part) for part in (getattr(manifold, "n", None) or manifold.d,))
        case = {"manifold": f"{type(manifold).__name__}({sizes})"}
        yield record("defect after 1,000 steps", defect, case, n=num, bar="at most 1e-5", met=defect < 1e-5)


if __name__ == "__main__":
    STUDY.run(__doc__, {"haar": haar, "walk": walk, "target": target, "stay": stay})
