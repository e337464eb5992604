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

import argparse
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import lineax
import numpy as np
from jax import Array
from results import cores, save

import bridgejax as bj
from bridgejax import weights
from bridgejax.oracles import diffusions, grid

STEPS = 200
COMMAND = "python experiments/guided.py"


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


def rows_of(name: str, sde: bj.SDE, x0: Array, end: Array, truth: float, n: int, notes: str) -> list[dict[str, Any]]:
    """One row for each proposal."""
    found = []
    for proposal, run in (
        ("guided", lambda: guided(sde, x0, end, None, n)),
        ("Delyon-Hu", lambda: guided(sde, x0, end, driftless(sde, end.reshape(())), n)),
        ("unconditioned", lambda: unconditioned(sde, x0, end, n)),
    ):
        began = time.perf_counter()
        lw = run()
        value, error, share = (float(f(lw)) for f in (weights.log_z, weights.log_z_error, weights.ess))
        found.append(
            {
                "claim": f"{name}, {proposal}: log density, n = {n:,}",
                "source": "truth: grid or closed form",
                "published": round(truth, 4),
                "ours": value,
                "standard_error": error,
                "ess": share,
                "notes": f"{notes}; standard error {error:.2g}, ESS {100 * share:.1f} % of n",
                "cost": f"{STEPS} steps, {time.perf_counter() - began:.0f} s, {cores()}",
                "budget": "5 minutes for all",
                "command": COMMAND,
            }
        )
    return found


def fitzhugh_nagumo(n: int) -> list[dict[str, Any]]:
    """Likelihood of a noisy partial observation."""
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
    return [
        {
            "claim": f"FitzHugh-Nagumo, first coordinate seen, guided: log likelihood, n = {n:,}",
            "source": f"brute force, {16 * n:,} paths, standard error {truth_error:.2g}",
            "published": round(truth, 4),
            "ours": value,
            "standard_error": error,
            "ess": share,
            "notes": f"standard error {error:.2g}, ESS {100 * share:.1f} % of n (brute force {100 * free_share:.1f} %)",
            "cost": f"{STEPS} steps, {time.perf_counter() - began:.0f} s with the brute force, {cores()}",
            "budget": "5 minutes for all",
            "command": COMMAND,
        }
    ]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="64 paths, nothing written")
    smoke = parser.parse_args().smoke
    n = 64 if smoke else 4096
    start, far = jnp.array([-1.0]), 2.0
    (other, tail), mean, sd = well_truth([1.0, far])
    tail_notes = f"{(far - mean) / sd:.1f} standard deviations of x_1 from its mean"
    rows = rows_of("double well -1 -> 1", WELL, start, jnp.array([1.0]), other, n, "the other well")
    rows += rows_of(f"double well -1 -> {far:g}", WELL, start, jnp.array([far]), tail, n, tail_notes)
    cir = float(diffusions.cir_log_prob(1.0, 0.8, 1.4, kappa=1.5, theta=1.0, sigma=0.5))
    rows += rows_of("CIR 0.8 -> 1.4", CIR, jnp.array([0.8]), jnp.array([1.4]), cir, n, "noise depends on the state")
    save("guided", rows + fitzhugh_nagumo(n), smoke=smoke)


if __name__ == "__main__":
    main()
