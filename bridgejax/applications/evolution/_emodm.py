"""EmoDM as an algorithm of pymoo: evaluate, learn from what was evaluated where better points lie, evaluate those."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from bridgejax._checks import check_count, describe
from bridgejax.applications._extras import require
from bridgejax.applications.evolution._model import Evolver
from bridgejax.applications.evolution._record import check_objectives, check_problem, from_unit, to_unit
from bridgejax.applications.evolution._seen import simplex

_algorithm: Any = require("pymoo.core.algorithm")
_population: Any = require("pymoo.core.population")


class EmoDM(_algorithm.Algorithm):
    """Multi-objective search by reversed evolution: ``minimize(problem, EmoDM(evolver), ("n_eval", 300), seed=1)``.

        first    ``initial`` points, uniform in the box
        then     ``batch`` candidates, one for each of as many preferences, in turn draws (which explore) and means

    Every point that was evaluated is counted and kept: ``result.pop`` holds them all, ``result.F`` the non-dominated.
    The last round is made smaller where a budget ``("n_eval", N)`` would be exceeded. Terminations, callbacks, displays
    and indicators are pymoo's.

    Args:
        evolver: of ``train_evolver``.
        initial: points before the first candidates, at least 4.
        batch: candidates of a round.
        **options: of ``pymoo.core.algorithm.Algorithm``.

    Raises:
        ValueError: no Evolver; in use, a problem with constraints, other than real variables, fewer than two
            objectives, or objectives that are not finite.

    Example:
        >>> import jax
        >>> from pymoo.algorithms.moo.nsga2 import NSGA2
        >>> from pymoo.optimize import minimize
        >>> from bridgejax.applications.evolution import EmoDM, problems, record, train_evolver
        >>> moved = [problems.shifted(problems.get("zdt1", 8), seed) for seed in range(2)]
        >>> runs = [record(problem, NSGA2(20), ("n_gen", 10), seed=0) for problem in moved]
        >>> evolver = train_evolver(runs, jax.random.key(0), rounds=0, steps=3, width=8)
        >>> unseen = problems.shifted(problems.get("zdt1", 30), seed=9)
        >>> result = minimize(unseen, EmoDM(evolver), ("n_eval", 120), seed=1)
        >>> result.algorithm.evaluator.n_eval
        120
    """

    def __init__(self, evolver: Evolver, *, initial: int = 100, batch: int = 50, **options: Any):
        if not isinstance(evolver, Evolver):
            raise ValueError(f"evolver must be an Evolver, got {describe(evolver)}; see train_evolver")
        self.evolver, self.initial = evolver, check_count("initial", initial, 4)
        self.batch = check_count("batch", batch)
        if "output" not in options:
            options["output"] = require("pymoo.util.display.multi").MultiObjectiveOutput()
        super().__init__(**options)

    def _setup(self, problem: Any, **kwargs: Any) -> None:
        check_problem(problem)

    def _most(self, count: int) -> int:
        """``count``, or what is left of a budget of evaluations."""
        most = getattr(self.termination, "n_max_evals", None)
        return count if most is None else max(1, min(count, int(most - self.evaluator.n_eval)))

    def _points(self, z: np.ndarray) -> Any:
        return _population.Population.new(X=from_unit(self.problem, z))

    def _initialize_infill(self) -> Any:
        count = self._most(self.initial)
        return self._points(self.random_state.uniform(-1.0, 1.0, (count, self.problem.n_var)))

    def _initialize_advance(self, infills: Any = None, **kwargs: Any) -> None:
        check_objectives(infills.get("F"))

    def _infill(self) -> Any:
        count, random = self._most(self.batch), self.random_state
        x, f = to_unit(self.problem, self.pop.get("X").astype(float)), self.pop.get("F")
        key = jax.random.key(int(random.integers(2**31)))
        w = simplex(count, self.problem.n_obj, random)
        mean = bool(self.n_iter % 2 == 1)
        return self._points(self.evolver.propose(x, f, w, key, mean=mean))

    def _advance(self, infills: Any = None, **kwargs: Any) -> None:
        check_objectives(infills.get("F"))
        self.pop = _population.Population.merge(self.pop, infills)
