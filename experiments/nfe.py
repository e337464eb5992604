"""Quality against the number of evaluations, on an exact mixture score: every fast solver on its own best grid.

    python experiments/nfe.py            all solvers; results/nfe.json
    python experiments/nfe.py --smoke    two solvers, one budget

Twenty Gaussians on a spiral in the plane (vp, exact denoiser), so nothing is learnt and all error is the solver's.

    flows      RMS distance of the end points to those of a 2,000-step solve from the same 2,048 starts
    samplers   squared energy distance (V-statistic) of 4,096 draws to 4,096 exact ones, beside its floor: mean of 10
               real-real draws

Each solver chooses among the grids log_snr (ending at log SNR 4, 6, 8, 10), karras (rho 3, 5, 7), quadratic and
uniform at every budget; the grid chosen is printed, for a comparison on one common grid is one of grids, not solvers.
NFE counts evaluations of the denoiser, the landing step's included. Budget: 15 minutes on two cores.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from study import Pick, Study, Table, record

import bridgejax as bj
from bridgejax import grids, solvers

STUDY = Study(
    "nfe",
    topic="Solvers and speed",
    question="Which solver is best for how many evaluations?",
    answer="For the flow UniPC at few evaluations and DPM-Solver++ (2M) at more; for sampling 2M as an SDE, with "
    "Euler-Maruyama on its best grid hardly behind.",
    brief="UniPC at few, DPM-Solver++ (2M) at more.",
    budget="15 minutes on two cores",
    floor="exact against exact draws",
    picks=(
        Pick(
            "RMS error of the flow's end points",
            {"solver": "DPMSolverPP2M", "evaluations": 24},
            "error, 2M, 24 evaluations",
        ),
    ),
    tables=(
        Table("RMS error of the flow's end points", rows=("solver",), columns="evaluations"),
        Table("squared energy distance of draws", rows=("solver",), columns="evaluations"),
        Table(rows=("solver",), columns="evaluations", show="grid", title="The grid that was best"),
    ),
    timed=("solver",),
)
SCHEDULE = bj.schedules.vp()
BUDGETS = (5, 8, 10, 16, 24)
STARTS, DRAWS = 2048, 4096


def spiral() -> bj.GaussianMixture:
    """Twenty modes of unequal weight."""
    k = np.arange(20)
    radius, angle = 0.15 + 0.1 * k, 0.55 * k
    means = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return bj.mixtures.gaussian_mixture(means, 0.003 + 0.0005 * k, 1.0 + (k % 3))


LAW = spiral()
DENOISER = bj.mixtures.mixture_denoiser(LAW, SCHEDULE)
FLOW = bj.probability_flow(SCHEDULE, denoiser=DENOISER)
REVERSE = bj.reverse(SCHEDULE, denoiser=DENOISER)

# evaluations in a step, and in the landing step
FLOWS = {
    "Euler": (solvers.Euler(), 1),
    "Heun (EDM)": (solvers.Heun(), 2),
    "ExponentialEuler (DDIM)": (solvers.ExponentialEuler(), 1),
    "DPMSolverPP2M": (solvers.DPMSolverPP2M(), 1),
    "DPMSolverPP3M": (solvers.DPMSolverPP3M(), 1),
    "UniPC": (solvers.UniPC(), 1),
}
SAMPLERS = {
    "Euler-Maruyama": (solvers.Euler(), 1),
    "ExponentialEuler (DDPM)": (solvers.ExponentialEuler(), 1),
    "ExponentialEuler, eta = 1/2": (solvers.ExponentialEuler(eta=0.5), 1),
    "DPMSolverPP2M (SDE)": (solvers.DPMSolverPP2M(), 1),
    "PredictorCorrector": (solvers.PredictorCorrector(), 2),
}


def candidates(steps: int) -> dict[str, Array]:
    """Grids of so many steps, by name."""
    found = {f"log_snr to {end}": grids.log_snr(steps, SCHEDULE, log_snr_max=end) for end in (4, 6, 8, 10)}
    found |= {f"karras rho {rho}": grids.karras(steps, SCHEDULE, rho=rho) for rho in (3, 5, 7)}
    return found | {"quadratic": grids.quadratic(steps), "uniform": grids.uniform(steps)}


def steps_of(budget: int, per_step: int) -> int:
    """Steps, the last one landing at one evaluation, within the budget."""
    return (budget - 1) // per_step + 1


def flow_error(solver: Any, ts: Array, keys: Array, x0: Array, truth: Array) -> float:
    """RMS distance of end points."""
    x = bj.simulate_batch(FLOW, keys, x0, ts, solver=solver)
    return float(jnp.sqrt(jnp.mean(jnp.sum((x - truth) ** 2, axis=1))))


def sampler_error(solver: Any, ts: Array, keys: Array, x0: Array, real: Array) -> float:
    """Squared energy distance to exact draws."""
    x = bj.simulate_batch(REVERSE, keys, x0, ts, solver=solver)
    return bj.metrics.energy_distance(x, real)


def best(measure: Any, solver: Any, steps: int, *data: Any) -> tuple[float, str]:
    """The smallest error over the grids, and its grid."""
    found = {name: measure(solver, ts, *data) for name, ts in candidates(steps).items()}
    found = {name: value for name, value in found.items() if np.isfinite(value)}
    name = min(found, key=lambda n: found[n])
    return found[name], name


def measured(
    metric: str,
    measure: Any,
    family: dict[str, Any],
    budgets: tuple[int, ...],
    data: tuple[Any, ...],
    floor: Any = None,
) -> Iterator[Any]:
    """The error of every solver at every budget, with the grid chosen there."""
    for name, (solver, per_step) in family.items():
        began = time.perf_counter()
        found = [best(measure, solver, steps_of(budget, per_step), *data) for budget in budgets]
        seconds = time.perf_counter() - began
        for budget, (value, grid) in zip(budgets, found, strict=True):
            case = {"solver": name, "evaluations": budget}
            yield record(metric, value, case, n=len(data[1]), floor=floor, seconds=seconds, grid=grid)


def flows(options: Any) -> Iterator[Any]:
    """Solvers of the flow."""
    starts, budgets = (128, (10,)) if options.smoke else (STARTS, BUDGETS)
    key = jax.random.key(0)
    prior = LAW.diffuse(SCHEDULE, SCHEDULE.T)
    x0 = jax.vmap(prior.sample)(bj.keys(key, starts))
    truth = bj.simulate_batch(FLOW, bj.keys(key, starts), x0, grids.log_snr(2000, SCHEDULE))
    family = {k: v for k, v in FLOWS.items() if not options.smoke or k == "UniPC"}
    data = (bj.keys(key, starts), x0, truth)
    yield from measured("RMS error of the flow's end points", flow_error, family, budgets, data)


def samplers(options: Any) -> Iterator[Any]:
    """Solvers of the reverse SDE."""
    draws, budgets = (256, (10,)) if options.smoke else (DRAWS, BUDGETS)
    prior = LAW.diffuse(SCHEDULE, SCHEDULE.T)
    real = [jax.vmap(LAW.sample)(bj.keys(jax.random.key(1 + k), draws)) for k in range(11)]
    floor = float(np.mean([bj.metrics.energy_distance(real[0], other) for other in real[1:]]))
    x0 = jax.vmap(prior.sample)(bj.keys(jax.random.key(99), draws))
    data = (bj.keys(jax.random.key(98), draws), x0, real[0])
    family = {k: v for k, v in SAMPLERS.items() if not options.smoke or "2M" in k}
    yield from measured("squared energy distance of draws", sampler_error, family, budgets, data, floor)


if __name__ == "__main__":
    STUDY.run(__doc__, {"flows": flows, "samplers": samplers})
