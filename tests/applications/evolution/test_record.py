"""Recorded runs: better and better backwards, and rows that correspond."""

import numpy as np
import pytest

pytest.importorskip("pymoo")

from pymoo.algorithms.moo.nsga2 import NSGA2  # noqa: E402
from pymoo.algorithms.moo.rvea import RVEA  # noqa: E402
from pymoo.util.ref_dirs import get_reference_directions  # noqa: E402

from bridgejax.applications.evolution import problems, record  # noqa: E402
from bridgejax.applications.evolution._record import from_unit, to_unit  # noqa: E402


def test_a_run_backwards():
    problem = problems.shifted(problems.get("zdt4", 10), 2)
    run = record(problem, NSGA2(30), ("n_gen", 40), seed=1, snapshots=5)
    assert run.xs.shape == (5, 30, 10)
    assert run.fs.shape == (5, 30, 2)
    assert np.all(np.abs(run.xs) <= 1.0)
    for x, f in zip(run.xs, run.fs, strict=True):
        np.testing.assert_allclose(problem.evaluate(from_unit(problem, x)), f, rtol=1e-3, atol=1e-6)
    second = run.fs[:, :, 1].mean(1)
    assert np.all(np.diff(second) > 0)  # t = 0 is the last
    assert np.all(run.xs[-1].std(0) > 0.3)  # the first is uniform
    again = record(problem, NSGA2(30), ("n_gen", 40), seed=1, snapshots=5)
    np.testing.assert_array_equal(run.xs, again.xs)


def test_rows_are_matched():
    """No exchange of two rows of a snapshot brings them nearer to the one after it."""
    run = record(problems.get("zdt1", 6), NSGA2(20), ("n_gen", 12), seed=0, snapshots=4)
    for x, before in zip(run.xs[:-1], run.xs[1:], strict=True):
        cost = np.sum((x[:, None] - before[None]) ** 2, -1).astype(float)
        kept = np.add.outer(np.diag(cost), np.diag(cost))
        assert np.all(cost + cost.T >= kept - 1e-5)


def test_a_run_whose_population_changes_its_size():
    directions = get_reference_directions("uniform", 2, n_partitions=15)
    run = record(problems.get("dtlz2", 6), RVEA(directions), ("n_gen", 15), seed=0, snapshots=3)
    assert run.xs.shape[0] == 3
    assert run.xs.shape[:2] == run.fs.shape[:2]


def test_units():
    problem = problems.get("zdt4", 4)
    x = np.random.default_rng(0).uniform(problem.xl, problem.xu, (5, 4))
    np.testing.assert_allclose(from_unit(problem, to_unit(problem, x)), x)
    assert np.all(from_unit(problem, np.full((1, 4), 1.5)) == problem.xu)  # problems do not check their box
