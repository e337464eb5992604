"""Problems that moved: the front is where it was, and LSMOP is what its definition says."""

import numpy as np
import pytest

pytest.importorskip("pymoo")

from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting  # noqa: E402
from scipy.spatial.distance import cdist  # noqa: E402

from bridgejax.applications.evolution import problems  # noqa: E402
from bridgejax.applications.evolution.problems import _BASIS, _rosenbrock  # noqa: E402

NAMES = [*(f"zdt{k}" for k in (1, 2, 3, 4, 6)), *(f"dtlz{k}" for k in range(1, 8)), *(f"wfg{k}" for k in range(1, 8))]
NAMES += [f"lsmop{k}" for k in range(1, 10)]


def pareto_set(problem, random, points=2000):
    """Optimal points of the problem itself, by its definition."""
    d, name = problem.n_var, type(problem).__name__
    if name == "LSMOP":
        rank, place = np.arange(2, d + 1) / d, random.uniform(0, 1, (points, 1))
        slope = 1.0 + (rank if problem.number < 5 else np.cos(0.5 * np.pi * rank))
        y, first = np.zeros(d - 1), 0
        for k, size in enumerate(problem.sizes):  # Rosenbrock's least value is at 1, the others' at 0
            if _BASIS[problem.number][k % 2] is _rosenbrock:
                y[first : first + 5 * size] = 1.0
            first += 5 * size
        return np.concatenate([place, (10.0 * place + y) / slope], 1)
    k = problem.k if name.startswith("WFG") else 1
    best = {"ZDT4": 0.0, "WFG": 0.35}.get(name if name == "ZDT4" else name[:3], 0.0)
    best = 0.5 if name.startswith("DTLZ") and name[-1] in "12345" else best
    x = np.full((points, d), best)
    x[:, :k] = random.uniform(0, 1, (points, k)) ** (0.05 if name == "DTLZ4" else 1.0)
    return x * problem.xu if name.startswith("WFG") else x


@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "wfg1"])
def test_the_front_is_reached_at_the_moved_optimum_and_nowhere_passed(name, rotate):
    random = np.random.default_rng(0)
    inner = problems.get(name, 100 if name.startswith("lsmop") else 24)
    problem = problems.shifted(inner, 3, rotate=rotate)
    x = problem.moved(pareto_set(inner, random))
    assert np.all((x >= problem.xl - 1e-9) & (x <= problem.xu + 1e-9))
    x = np.clip(x, problem.xl, problem.xu)
    front, f = problems.front(problem), problem.evaluate(x)
    scale = np.ptp(front, axis=0)
    survivors = f[NonDominatedSorting().do(f, only_non_dominated_front=True)]
    gaps = cdist(survivors / scale, front / scale).min(1)
    assert np.median(gaps) < 2e-3
    assert np.max(gaps) < 0.02  # 1000 points; the ends of disconnected parts
    away = problem.evaluate(random.uniform(problem.xl, problem.xu, (500, problem.n_var)))
    for p in away:  # nothing lies below
        assert not np.any(np.all(p < front - 2e-3 * scale, 1))
    moved = problems.shifted(inner, 4).evaluate(x)
    assert np.median(np.abs(moved - f)) > 1e-3


def test_the_front_of_wfg1():
    """Its distance is y^0.02, 0.07 and not 0 for a rounding error of 0.35: f less that distance is on the front."""
    inner = problems.get("wfg1", 24)
    x = np.tile(0.35 * inner.xu, (2000, 1))
    x[:, :4] = np.linspace(0, 1, 2000)[:, None] ** 50 * inner.xu[:4]
    front, f = problems.front(inner), inner.evaluate(x)
    f = f - f[:, 0].min()
    survivors = f[NonDominatedSorting().do(f, only_non_dominated_front=True)]
    assert cdist(survivors, front).min(1).max() < 0.01
    assert cdist(survivors, front).min(0).mean() < 0.01


def test_a_seed_is_a_move_and_variables_are_out_of_order():
    inner, random = problems.get("zdt1", 12), np.random.default_rng(1)
    x = random.uniform(0, 1, (50, 12))
    one, same, other = (problems.shifted(inner, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.evaluate(x), same.evaluate(x))
    assert not np.allclose(one.evaluate(x), other.evaluate(x))
    assert sorted(one.order) == list(range(12))
    f1 = one.evaluate(x)[:, 0]
    np.testing.assert_allclose(f1, x[:, np.flatnonzero(one.order == 0)[0]])


def test_a_rotation_keeps_lengths_and_mixes_variables():
    problem = problems.shifted(problems.get("dtlz2", 24), 0, rotate=True)
    for turn in problem.turns:
        np.testing.assert_allclose(turn @ turn.T, np.eye(len(turn)), atol=1e-12)
    assert [len(turn) for turn in problem.turns] == [10, 10, 3]
    x = problem.moved(np.full((1, 24), 0.5))
    step = np.zeros((1, 24))
    step[0, np.flatnonzero(problem.order == 7)[0]] = 1e-3
    assert np.sum(np.abs(problem.own(x + step) - problem.own(x)) > 1e-6) == 10


def test_another_problem_with_a_known_optimum():
    from pymoo.problems import get_problem

    inner = get_problem("zdt1", n_var=5)
    problem = problems.shifted(inner, 1, position=1, optimum=0.0)
    np.testing.assert_allclose(problem.evaluate(problem.moved(np.array([[0.25, 0, 0, 0, 0]]))), [[0.25, 0.5]])


def test_lsmop_by_its_definition():
    """At x_1 = 0 and x_i = 1: y_i = 1 + i / D, in 5 parts of 5 and 5 of 14."""
    first, second = np.arange(2, 27) / 100, np.arange(27, 97) / 100
    x = np.r_[0.0, np.ones(99)][None]
    problem = problems.LSMOP(1, 100)
    assert problem.sizes.tolist() == [5, 14]
    np.testing.assert_allclose(problem.evaluate(x), [[0.0, 1 + np.mean((1 + second) ** 2)]])
    one, two = (np.mean((1 + np.cos(0.5 * np.pi * i)) ** 2) for i in (first, second))
    np.testing.assert_allclose(problems.LSMOP(5, 100).evaluate(x), [[1 + one + two, 0.0]])
    ackley = [1 + np.cos(0.5 * np.pi * i) for i in second.reshape(5, 14)]
    ackley = [
        20 - 20 * np.exp(-0.2 * np.sqrt(np.mean(y**2))) + np.e - np.exp(np.mean(np.cos(2 * np.pi * y))) for y in ackley
    ]
    np.testing.assert_allclose(problems.LSMOP(9, 100).evaluate(x), [[0.0, 2 * (2 + one + np.sum(ackley) / 14 / 5)]])
    three = problems.LSMOP(2, 300, 3)
    assert three.evaluate(np.random.default_rng(0).uniform(0, 1, (4, 300))).shape == (4, 3)


def test_the_basis_functions_vanish_at_their_optima_and_are_the_usual_ones():
    zero, one, two = np.zeros((1, 6)), np.ones((1, 6)), np.full((1, 6), 2.0)
    for basis in {b for pair in _BASIS.values() for b in pair}:
        np.testing.assert_allclose(basis(one if basis is _rosenbrock else zero), 0.0, atol=1e-12)
        assert basis(two)[0] > 0
    at_two = {b.__name__: b(two)[0] for pair in _BASIS.values() for b in pair}
    assert at_two["_sphere"] == at_two["_rastrigin"] == 24.0
    assert at_two["_schwefel"] == 2.0
    assert at_two["_rosenbrock"] == 5 * (100 * 4 + 1)
    np.testing.assert_allclose(at_two["_ackley"], 20 - 20 * np.exp(-0.4))
    np.testing.assert_allclose(at_two["_griewank"], 1 + 24 / 4000 - np.prod(np.cos(2 / np.sqrt(np.arange(1, 7)))))


@pytest.mark.parametrize("name", ["zdt3", "wfg2", "dtlz7", "wfg1", "zdt6"])
def test_fronts_are_even_and_not_dominated(name):
    front = problems.front(problems.get(name, 24), 500)
    assert 400 < len(front) <= 500
    assert np.all(np.diff(front[:, 0]) > 0)
    assert np.all(np.diff(front[:, 1]) < 0)
    steps = np.linalg.norm(np.diff(front, axis=0), axis=1)
    assert np.sum(steps > 3 * np.median(steps)) < 6  # gaps between parts
