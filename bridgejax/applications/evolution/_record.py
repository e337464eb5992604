"""Runs of evolution, recorded as populations whose members correspond.

    t = 0 the last population, ..., t = T the first        x_t[k] is what x_{t-1}[k] came from: reversed evolution

What survives is sorted anew in every generation, so rows are matched by a linear assignment on the distance between
consecutive snapshots.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bridgejax._checks import check_count, describe
from bridgejax._summary import summary
from bridgejax.applications._extras import require


class Evolution(NamedTuple):
    """One recorded run.

    Attributes:
        xs: (T + 1, n, D), variables in [-1, 1]; xs[0] is the last population, xs[T] the first.
        fs: (T + 1, n, M), their objectives.
        problem: what was minimised.
    """

    xs: np.ndarray
    fs: np.ndarray
    problem: Any

    __repr__ = summary


def to_unit(problem: Any, x: np.ndarray) -> np.ndarray:
    """Variables in [-1, 1]."""
    return 2.0 * (x - problem.xl) / (problem.xu - problem.xl) - 1.0


def from_unit(problem: Any, z: np.ndarray) -> np.ndarray:
    """Variables in the problem's box, clipped to it: problems do not check theirs."""
    x = problem.xl + 0.5 * (np.asarray(z, float) + 1.0) * (problem.xu - problem.xl)
    return np.clip(x, problem.xl, problem.xu)


def check_problem(problem: Any) -> Any:
    """Raise unless it is a problem of pymoo that the model can be used on.

    Raises:
        ValueError: no problem of pymoo, one objective, constraints, other than real variables, no finite box.
    """
    if not isinstance(problem, require("pymoo.core.problem").Problem):
        raise ValueError(f"problem must be one of pymoo, got {describe(problem)}")
    if problem.n_obj < 2:
        raise ValueError(f"problem must have two objectives or more, got {problem.n_obj}")
    if problem.has_constraints():
        raise ValueError(
            f"problem must have no constraints, got {problem.n_constr}; add them to the objectives as a penalty"
        )
    kinds = problem.vtype
    kinds = [] if kinds is None else list(kinds.values()) if isinstance(kinds, dict) else [kinds]
    if getattr(problem, "vars", None) is not None:
        kinds = [type(v) for v in problem.vars.values()]
    if any(kind is not float and getattr(kind, "__name__", "") != "Real" for kind in kinds):
        raise ValueError(f"problem must have real variables only, got {problem.vtype}")
    low, high = problem.xl, problem.xu
    if low is None or high is None or not np.all(np.isfinite([low, high])) or not np.all(low < high):
        raise ValueError("problem must have a finite box, xl < xu for every variable")
    return problem


def check_objectives(f: np.ndarray) -> np.ndarray:
    """Raise where an objective is not finite: indicators count such a row as the best."""
    bad = int(np.sum(~np.isfinite(f).all(1)))
    if bad:
        raise ValueError(f"problem gave objectives that are not finite, at {bad} of {len(f)} points; penalise them")
    return f


def record(problem: Any, algorithm: Any, termination: Any, seed: int, *, snapshots: int = 8) -> Evolution:
    """Run an algorithm of pymoo and keep populations on the way, evenly in generations.

    Args:
        problem: real variables in a box, no constraints.
        algorithm: of pymoo, with a population; it is copied.
        termination: of pymoo, as ``("n_gen", 200)``.
        seed: of the run.
        snapshots: T + 1, at least 2.

    Returns:
        An Evolution.

    Raises:
        ValueError: a problem that cannot be used, or whose objectives are not finite; a run of one generation.

    Example:
        >>> from pymoo.algorithms.moo.nsga2 import NSGA2
        >>> from bridgejax.applications.evolution import problems, record
        >>> record(problems.get("zdt1"), NSGA2(20), ("n_gen", 10), seed=1, snapshots=3).xs.shape
        (3, 20, 30)
    """
    check_problem(problem)
    snapshots, seed = check_count("snapshots", snapshots, 2), check_count("seed", seed, 0)
    if not isinstance(algorithm, require("pymoo.core.algorithm").Algorithm):
        raise ValueError(f"algorithm must be one of pymoo, got {describe(algorithm)}")
    kept: list[tuple[np.ndarray, np.ndarray]] = []

    def keep(run: Any) -> None:
        kept.append((run.pop.get("X").astype(float), check_objectives(run.pop.get("F"))))

    require("pymoo.optimize").minimize(problem, algorithm, termination, seed=seed, callback=keep)
    if len(kept) < 2:
        raise ValueError(f"algorithm must run for two generations or more, got {len(kept)} under {termination!r}")
    chosen = [kept[k] for k in np.linspace(len(kept) - 1, 0, snapshots).round().astype(int)]
    xs, fs = [to_unit(problem, chosen[0][0])], [chosen[0][1]]
    for x, f in chosen[1:]:
        rows = _ancestors(xs[-1], to_unit(problem, x))
        xs.append(to_unit(problem, x)[rows])
        fs.append(f[rows])
    return Evolution(np.array(xs, np.float32), np.array(fs), problem)


def _ancestors(x: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Rows of ``before``, one for each of x, that are nearest altogether; rows repeat where there are fewer."""
    optimize, distance = require("scipy.optimize"), require("scipy.spatial.distance")
    rows = np.tile(np.arange(len(before)), -(-len(x) // len(before)))
    return rows[optimize.linear_sum_assignment(distance.cdist(x, before[rows], "sqeuclidean"))[1]]
