"""What is learnt, where it is known: optima of shifted spheres, with and without the population."""

import jax
import numpy as np
import pytest

pytest.importorskip("pymoo")

from bridgejax.applications.evolution import EmoDM, Evolution, problems, train_evolver  # noqa: E402
from bridgejax.applications.evolution._record import to_unit  # noqa: E402


def made(seed, d=8):
    """A shifted DTLZ2 whose last population is the front itself."""
    problem, random = problems.shifted(problems.get("dtlz2", d), seed), np.random.default_rng(seed)
    inner = np.full((100, d), 0.5)
    inner[:, 0] = random.uniform(0, 1, 100)
    xs = [to_unit(problem, problem.moved(inner)), random.uniform(-1, 1, (100, d))]
    fs = [problem.evaluate(problem.xl + 0.5 * (x + 1) * (problem.xu - problem.xl)) for x in xs]
    return Evolution(np.array(xs, np.float32), np.array(fs), problem)


def test_the_population_tells_where_the_optimum_is():
    runs = [made(seed) for seed in range(16)]
    options = {"steps": 150, "batch_size": 256, "width": 16, "depth": 1, "rate": 1e-2}
    ours = train_evolver(runs, jax.random.key(0), rounds=0, **options)
    blind = train_evolver(runs, jax.random.key(0), form="none", **options)
    errors = {"ours": [], "blind": []}
    for seed in range(100, 110):
        unseen = made(seed)
        w = np.array([[0.5, 0.5]])
        distance = np.flatnonzero(unseen.problem.order != 0)
        truth = unseen.xs[0, 0, distance]
        for name, evolver in (("ours", ours), ("blind", blind)):
            found = evolver.propose(unseen.xs[1], unseen.fs[1], w, jax.random.key(1), mean=True)[0, distance]
            errors[name].append(np.mean((found - truth) ** 2))
    assert np.mean(errors["blind"]) > 0.25  # the variance of a uniform optimum is a third
    assert np.mean(errors["ours"]) < 0.5 * np.mean(errors["blind"])


def test_a_later_round_sees_what_the_model_gathered(monkeypatch):
    from bridgejax.applications.evolution import _train

    sizes, sets = [], []
    fitted, pairs = _train._fitted, _train._pairs
    monkeypatch.setattr(_train, "_fitted", lambda rows, *rest: (sizes.append(len(rows)), fitted(rows, *rest))[1])
    monkeypatch.setattr(_train, "_pairs", lambda run, seen, rng: (sets.append(len(seen.x)), pairs(run, seen, rng))[1])
    found = train_evolver([made(0), made(1)], jax.random.key(0), rounds=1, steps=2, batch_size=64, width=8, depth=1)
    assert sizes[0] == 6
    assert sizes[0] < sizes[1] <= 6 + 2 * 3
    assert sets[:6] == [30, 60, 100] * 2
    assert all(size > 50 for size in sets[6:])
    assert EmoDM(found).evolver is found
    sizes.clear()
    train_evolver([made(0)], jax.random.key(0), form="entropy", steps=2, batch_size=64, width=8, depth=1)
    assert sizes == [3]
