"""Bad input to evolutionary search: an error of one sentence that names the argument."""

import jax
import numpy as np
import pytest
from bad_input import COUNT, KEY, arguments, refuse_wrong

pytest.importorskip("pymoo")

from pymoo.algorithms.moo.nsga2 import NSGA2  # noqa: E402
from pymoo.problems import get_problem  # noqa: E402

from bridgejax.applications.evolution import (  # noqa: E402
    EmoDM,
    Evolution,
    problems,
    record,
    save_evolver,
    train_evolver,
)
from bridgejax.applications.evolution._model import untrained  # noqa: E402

EVOLVER, KEY0, ZDT = untrained(width=8, depth=1), jax.random.key(0), problems.get("zdt1", 5)
X = np.random.default_rng(0).uniform(-1, 1, (6, 5)).astype(np.float32)
RUN = Evolution(np.stack([X, X]), np.stack([X[:, :2], X[:, :2]]), ZDT)
MATRIX = ("none", "text", "objects", "complex", "booleans", "spoilt", "extra axis", "missing axis")


def save(evolver):
    if evolver is not EVOLVER:
        save_evolver("nowhere.safetensors", evolver)


TABLE = {
    "problems.LSMOP": (
        problems.LSMOP,
        dict(number=1, n_var=100, n_obj=2),
        {"number": ("none", "text", "negative"), "n_var": COUNT, "n_obj": COUNT},
    ),
    "problems.get": (problems.get, dict(name="zdt1", n_var=5), {"name": ("word",), "n_var": COUNT}),
    "problems.shifted": (
        problems.shifted,
        dict(problem=ZDT, seed=1, rotate=False, position=1, optimum=0.5),
        {
            "problem": ("other",),
            "seed": ("count",),
            "rotate": ("text",),
            "position": ("count",),
            "optimum": ("text", "complex", "negative", "not finite"),
        },
    ),
    "problems.front": (problems.front, dict(problem=ZDT, points=10), {"problem": ("other",), "points": COUNT}),
    "record": (
        record,
        dict(problem=ZDT, algorithm=NSGA2(4), termination=("n_gen", 2), seed=1, snapshots=2),
        {"problem": ("other",), "algorithm": ("other",), "seed": ("count",), "snapshots": COUNT},
    ),
    "train_evolver": (
        train_evolver,
        dict(runs=[RUN], key=KEY0, form="none", rounds=0, steps=1, batch_size=4, width=8, depth=1),
        {
            "runs": ("other",),
            "key": KEY,
            "form": ("word",),
            "rounds": ("count",),
            "steps": COUNT,
            "batch_size": COUNT,
            "width": COUNT,
        },
    ),
    "Evolver.propose": (
        EVOLVER.propose,
        dict(x=X, f=X[:, :2], w=np.array([[0.5, 0.5]]), key=KEY0),
        {"x": MATRIX, "f": MATRIX, "w": MATRIX, "key": KEY},
    ),
    "EmoDM": (
        EmoDM,
        dict(evolver=EVOLVER, initial=5, batch=5),
        {"evolver": ("other",), "initial": COUNT, "batch": COUNT},
    ),
    "save_evolver": (save, dict(evolver=EVOLVER), {"evolver": ("other",)}),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_right_call_is_right(name):
    function, right, _ = TABLE[name]
    function(**right)


@pytest.mark.parametrize(("name", "argument"), arguments(TABLE))
def test_wrong_arguments_cost_one_sentence(name, argument):
    refuse_wrong(TABLE[name], argument)


def test_problems_whose_optimum_is_not_known():
    for problem in (problems.get("wfg8", 24), get_problem("kursawe")):
        with pytest.raises(ValueError, match=r"^problem must be of ZDT, DTLZ, LSMOP or WFG1-7.*pass position= and opt"):
            problems.shifted(problem, 0)
    with pytest.raises(ValueError, match=r"^problem must be one of pymoo without constraints"):
        problems.shifted(get_problem("welded_beam"), 0)
    with pytest.raises(ValueError, match=r"^name must be one of zdt1-4, zdt6, .* got 'zdt5'"):
        problems.get("zdt5")
    with pytest.raises(ValueError, match=r"^n_var must be larger for LSMOP3"):
        problems.LSMOP(3, 20)
    with pytest.raises(ValueError, match=r"^problem must be of ZDT, DTLZ, WFG or LSMOP with two objectives"):
        problems.front(get_problem("dtlz2", n_obj=3))


def test_runs_that_are_none():
    with pytest.raises(ValueError, match=r"^algorithm must run for two generations or more, got 1 under"):
        record(ZDT, NSGA2(4), ("n_gen", 1), seed=1)
    with pytest.raises(ValueError, match=r"^problem must have no constraints, got 4"):
        record(get_problem("welded_beam"), NSGA2(4), ("n_gen", 2), seed=1)
    with pytest.raises(ValueError, match=r"^runs must be a list of Evolutions"):
        train_evolver([], KEY0)


def test_populations_that_do_not_fit():
    w = np.array([[0.5, 0.5]])
    with pytest.raises(ValueError, match=r"^x, f and w must be"):
        EVOLVER.propose(X, X[:3, :2], w, KEY0)
    with pytest.raises(ValueError, match=r"^x must lie in \[-1, 1\]"):
        EVOLVER.propose(3 * X, X[:, :2], w, KEY0)
    with pytest.raises(ValueError, match=r"^w must be rows"):
        EVOLVER.propose(X, X[:, :2], 2 * w, KEY0)
