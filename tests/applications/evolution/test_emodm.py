"""EmoDM in pymoo: what is counted, kept, refused."""

import re
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("pymoo")

from pymoo.core.problem import ElementwiseProblem, Problem  # noqa: E402
from pymoo.core.variable import Integer, Real  # noqa: E402
from pymoo.optimize import minimize  # noqa: E402
from pymoo.problems import get_problem  # noqa: E402

from bridgejax.applications.evolution import EmoDM, problems  # noqa: E402
from bridgejax.applications.evolution._model import untrained  # noqa: E402

EVOLVER = untrained(width=8, depth=1)


class Counted(Problem):
    """Counts rows, and refuses to be evaluated outside of its box."""

    def __init__(self, inner):
        self.inner, self.count = inner, 0
        super().__init__(n_var=inner.n_var, n_obj=inner.n_obj, xl=inner.xl, xu=inner.xu)

    def _evaluate(self, x, out, *args, **kwargs):
        assert np.all((x >= self.xl) & (x <= self.xu))
        self.count += len(x)
        self.inner._evaluate(x, out, *args, **kwargs)


@pytest.mark.parametrize(("budget", "rounds"), [(120, [40, 30, 30, 20]), (40, [40]), (41, [40, 1]), (10, [10])])
def test_a_budget_is_kept_and_everything_counted(budget, rounds):
    problem, told = Counted(problems.get("zdt1", 12)), []
    search = EmoDM(EVOLVER, initial=40, batch=30)
    result = minimize(problem, search, ("n_eval", budget), seed=1, callback=lambda a: told.append(a.evaluator.n_eval))
    assert problem.count == result.algorithm.evaluator.n_eval == len(result.pop) == budget
    assert told == np.cumsum(rounds).tolist()
    f = result.pop.get("F")
    beaten = [np.any(np.all(f <= p, 1) & np.any(f < p, 1)) for p in f]
    assert sorted(map(tuple, result.F)) == sorted({tuple(p) for p in f[np.logical_not(beaten)]})
    np.testing.assert_allclose(problem.inner.evaluate(result.X), result.F)


def test_seeds_and_terminations():
    problem = problems.get("dtlz2", 10)
    one, same, other = (minimize(problem, EmoDM(EVOLVER, initial=20), ("n_gen", 3), seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.F, same.F)
    assert not np.array_equal(one.F, other.F)
    assert one.algorithm.evaluator.n_eval == 120
    assert len(minimize(problem, EmoDM(EVOLVER), ("n_gen", 2), seed=1, save_history=True).history) == 2


def test_draws_and_means_in_turn(monkeypatch):
    asked = []

    def propose(self, x, f, w, key, *, mean):
        asked.append((len(x), len(w), mean))
        assert np.abs(x).max() <= 1.0
        return np.zeros((len(w), x.shape[1]))

    monkeypatch.setattr(type(EVOLVER), "propose", propose)
    minimize(problems.get("zdt4", 10), EmoDM(EVOLVER), ("n_eval", 300), seed=1)
    assert asked == [(100, 50, False), (150, 50, True), (200, 50, False), (250, 50, True)]


def test_many_objectives_and_many_variables():
    three = get_problem("dtlz2", n_var=12, n_obj=3)
    assert minimize(three, EmoDM(EVOLVER, initial=20, batch=7), ("n_gen", 2), seed=1).F.shape[1] == 3
    many = problems.shifted(problems.get("lsmop1", 1500), 0)
    assert minimize(many, EmoDM(EVOLVER, initial=20, batch=7), ("n_gen", 2), seed=1).X.shape[1] == 1500


class Broken(Problem):
    def __init__(self, value, first):
        self.value, self.first = value, first
        super().__init__(n_var=4, n_obj=2, xl=0.0, xu=1.0)

    def _evaluate(self, x, out, *args, **kwargs):
        out["F"] = np.stack([x[:, 0], 1 - x[:, 0]], 1)
        if self.first or len(x) == 5:
            out["F"][-1, 1] = self.value


def test_without_pymoo():
    words = "import sys; sys.modules['pymoo'] = None; from bridgejax.applications.evolution import EmoDM"
    told = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True)
    assert told.returncode == 1
    said = told.stderr.splitlines()[-1]
    assert re.fullmatch(r'ImportError: this application needs pymoo.*: pip install "bridgejax\[apps\]"', said)


class Mixed(ElementwiseProblem):
    def __init__(self):
        super().__init__(vars={"a": Real(bounds=(0, 1)), "b": Integer(bounds=(0, 3))}, n_obj=2)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("first", [True, False])
def test_objectives_that_are_not_finite_are_refused(value, first):
    with pytest.raises(ValueError, match=r"^problem gave objectives that are not finite, at 1 of \d+ points; penalise"):
        minimize(Broken(value, first), EmoDM(EVOLVER, initial=8, batch=5), ("n_gen", 2), seed=1)


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (get_problem("welded_beam"), r"^problem must have no constraints, got 4; add them to the objectives"),
        (get_problem("truss2d"), r"^problem must have no constraints, got 1"),
        (Problem(n_var=3, n_obj=2, xl=0, xu=5, vtype=int), r"^problem must have real variables only"),
        (Mixed(), r"^problem must have real variables only"),
        (get_problem("sphere"), r"^problem must have two objectives or more, got 1$"),
        (Problem(n_var=3, n_obj=2), r"^problem must have a finite box"),
    ],
)
def test_problems_that_it_is_not_for(problem, said):
    with pytest.raises(ValueError, match=said):
        minimize(problem, EmoDM(EVOLVER), ("n_gen", 2), seed=1)
