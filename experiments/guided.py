"""Conditioned nonlinear SDEs: guided proposals against the truth, and against what people did before.

    python experiments/guided.py            results/guided.json
    python experiments/guided.py --smoke    64 paths

Log density at an end point by importance sampling of the Euler chain, n = 4,096 paths of 200 steps, beside the
effective sample size (share of n) and the truth: a grid (oracles.grid) for the double well dx = (x - x^3) dt + dW from
-1, to the other well (1) and to an end in the far tail (2), the closed form for CIR.

    guided        the SDE linearised at its end, through ``bridgejax.guide``
    Delyon-Hu     drift b + (v - x)/(T - t), the guide with a driftless auxiliary
    unconditioned Euler paths as they come, the last step's density at the end (Pedersen)

FitzHugh-Nagumo (noise in the second coordinate only, the first seen with noise 0.1) has no closed form; brute force
with 65,536 unconditioned paths stands for the truth, with its standard error. Budget: 5 minutes on two cores.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import lineax
import numpy as np
from jax import Array
from study import Pick, Study, Table, record

import bridgejax as bj
from bridgejax import weights
from bridgejax.oracles import diffusions, grid

STEPS = 200
STUDY = Study(
    "guided",
    topic="Conditioned processes",
    question="How efficient are guided proposals?",
    answer="Right estimates from many times as many effective paths as without a guide. Linearised at its end it "
    "wastes most of them in the double well, where an auxiliary without drift does better.",
    brief="Many times as efficient as unconditioned paths.",
    budget="5 minutes on two cores",
    picks=(
        Pick("log density", {"process": "CIR 0.8 -> 1.4", "proposal": "guided"}, "ESS, CIR", show="ess"),
        Pick(
            "log density",
            {"process": "CIR 0.8 -> 1.4", "proposal": "unconditioned"},
            "unconditioned",
            show="ess",
        ),
    ),
    tables=(
        Table(
            "log density",
            rows=("process",),
            columns="proposal",
            text="The log density of the end with its standard error, beside the exact one (grid or closed form). "
            "In the double well from -1 to 1 the end is in the other well, to 2 it is far in the tail; the "
            "noise of CIR depends on the state.",
            published="exact",
        ),
        Table("log density", rows=("process",), columns="proposal", show="ess", title="ESS, share of n"),
        Table(
            "log likelihood",
            rows=("process",),
            columns="proposal",
            text="FitzHugh-Nagumo, its first coordinate seen with noise, beside brute force with its standard error.",
            also=("ess", "brute_force_error", "brute_force_paths", "brute_force_ess"),
            published="brute force",
        ),
    ),
    timed=("process", "seconds"),
)


def well(t: Array, x: Array, args: Any) -> Array:
    """b = x - x^3."""
    return x - x**3


def one(t: Array, x: Array, args: Any) -> float:
    """G = 1."""
    return 1.0


def cir_drift(t: Array, x: Array, args: Any) -> Array:
    """b = 1.5 (1 - x)."""
    return 1.5 * (1.0 - x)


def cir_noise(t: Array, x: Array, args: Any) -> Array:
    """G = 0.5 sqrt(x)."""
    return 0.5 * jnp.sqrt(jnp.maximum(x, 1e-6))


def nagumo(t: Array, x: Array, args: Any) -> Array:
    """FitzHugh-Nagumo."""
    return jnp.array([(x[0] - x[0] ** 3 - x[1]) / 0.5, 1.5 * x[0] - x[1] + 0.8])


def second_only(t: Array, x: Array, args: Any) -> lineax.AbstractLinearOperator:
    """One noise, two coordinates."""
    return lineax.MatrixLinearOperator(jnp.array([[0.0], [0.4]], jnp.float32))


WELL = bj.SDE(well, one)
CIR = bj.SDE(cir_drift, cir_noise, noise="state")
FHN = bj.SDE(nagumo, second_only)
TS = bj.grids.uniform(STEPS)


def well_truth(ends: list[float]) -> tuple[list[float], float, float]:
    """log p(-1 -> v) on a grid for every v, and the mean and standard deviation of x_1."""
    xs = grid.cells(-5.0, 5.0, 2000)
    p = grid.forward(WELL, grid.point(-1.0, xs), xs, jnp.linspace(0.0, 1.0, 401), substeps=2)[-1]
    width = float(xs[1] - xs[0])
    mean = float(jnp.sum(p * xs) * width)
    return (
        [float(jnp.log(jnp.interp(v, xs, p))) for v in ends],
        mean,
        float(jnp.sqrt(jnp.sum(p * (xs - mean) ** 2) * width)),
    )


def guided(sde: bj.SDE, x0: Array, end: Array, auxiliary: Any, n: int) -> Array:
    """Log weights of guided paths."""
    bent = bj.guide(sde, [bj.Observation(1.0, end)], auxiliary)

    def path(key: Array) -> Array:
        return bent.log_weight(bj.kernels.walk(bent.kernel, key, x0, TS))

    return jax.jit(jax.vmap(path))(bj.keys(jax.random.key(0), n))


def unconditioned(sde: bj.SDE, x0: Array, end: Array, n: int) -> Array:
    """Log density of the last Euler step at the end, of free paths."""
    kernel = bj.kernels.euler(sde)

    def path(key: Array) -> Array:
        before = bj.kernels.walk(kernel, key, x0, TS[:-1]).xs[-1]
        return kernel.log_prob(TS[-2], TS[-1], before, end, None)  # pyright: ignore

    return jax.jit(jax.vmap(path))(bj.keys(jax.random.key(1), n))


def driftless(sde: bj.SDE, end: Array) -> Any:
    """The auxiliary of Delyon and Hu: no drift, the noise of the end point."""
    scale = float(sde.diffusion(1.0, end, None))  # pyright: ignore
    return bj.linear.LinearSDE(np.zeros((1, 1)), np.zeros(1), scale * np.eye(1))


def proposals(name: str, sde: bj.SDE, x0: Array, end: Array, truth: float, n: int, **also: float) -> Iterator[Any]:
    """Every proposal of one process."""
    for proposal, run in (
        ("guided", lambda: guided(sde, x0, end, None, n)),
        ("Delyon-Hu", lambda: guided(sde, x0, end, driftless(sde, end.reshape(())), n)),
        ("unconditioned", lambda: unconditioned(sde, x0, end, n)),
    ):
        began = time.perf_counter()
        lw = run()
        value, error, share = (float(f(lw)) for f in (weights.log_z, weights.log_z_error, weights.ess))
        yield record(
            "log density",
            value,
            {"process": name, "proposal": proposal},
            n=n,
            published=round(truth, 4),
            began=began,
            standard_error=error,
            ess=share,
            steps=STEPS,
            **also,
        )


def fitzhugh_nagumo(options: Any) -> Iterator[Any]:
    """Likelihood of a noisy partial observation."""
    n = 64 if options.smoke else 4096
    began, x0 = time.perf_counter(), jnp.array([-0.5, -0.6])
    seen = bj.Observation(1.0, jnp.array([-0.2]), jnp.array([[1.0, 0.0]]), 0.1)
    bent, kernel = bj.guide(FHN, [seen]), bj.kernels.euler(FHN)

    def proposal(key: Array) -> Array:
        return bent.log_weight(bj.kernels.walk(bent.kernel, key, x0, TS))

    def free(key: Array) -> Array:
        x = bj.kernels.walk(kernel, key, x0, TS).xs[-1]
        return -0.5 * ((x[0] + 0.2) / 0.1) ** 2 - 0.5 * math.log(2 * math.pi * 0.01)

    lw = jax.jit(jax.vmap(proposal))(bj.keys(jax.random.key(0), n))
    brute = jax.jit(jax.vmap(free))(bj.keys(jax.random.key(1), 16 * n))
    value, error, share = (float(f(lw)) for f in (weights.log_z, weights.log_z_error, weights.ess))
    truth, truth_error, free_share = (float(f(brute)) for f in (weights.log_z, weights.log_z_error, weights.ess))
    yield record(
        "log likelihood",
        value,
        {"process": "FitzHugh-Nagumo", "proposal": "guided"},
        n=n,
        published=round(truth, 4),
        began=began,
        standard_error=error,
        ess=share,
        brute_force_error=truth_error,
        brute_force_paths=16 * n,
        brute_force_ess=free_share,
        steps=STEPS,
    )


def densities(options: Any) -> Iterator[Any]:
    """Two ends of the double well, and CIR."""
    n, start, far = 64 if options.smoke else 4096, jnp.array([-1.0]), 2.0
    (other, tail), mean, sd = well_truth([1.0, far])
    away = round((far - mean) / sd, 1)
    yield from proposals("double well -1 -> 1", WELL, start, jnp.array([1.0]), other, n)
    yield from proposals(f"double well -1 -> {far:g}", WELL, start, jnp.array([far]), tail, n, deviations_away=away)
    cir = float(diffusions.cir_log_prob(1.0, 0.8, 1.4, kappa=1.5, theta=1.0, sigma=0.5))
    yield from proposals("CIR 0.8 -> 1.4", CIR, jnp.array([0.8]), jnp.array([1.4]), cir, n)


if __name__ == "__main__":
    STUDY.run(__doc__, {"densities": densities, "partial observation": fitzhugh_nagumo})
