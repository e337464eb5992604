"""The verdict on samples whose quality is known: exact, strays, copies, a missing mode, a shift; and its arithmetic."""

import json

import numpy as np
import pytest

from bridgejax import metrics
from bridgejax.data import toys
from bridgejax.evaluation import evaluate
from bridgejax.evaluation.records import Metric
from bridgejax.evaluation.verdict import conclude, worst_column

N = 600


def judged(samples, seed=0, law="moons"):
    return evaluate(samples, toys.sample(law, 10 + seed, 2 * N), toys.sample(law, 20 + seed, N), columns=("left", "up"))


def exact(seed=0, law="moons"):
    return toys.sample(law, 30 + seed, N)


@pytest.mark.parametrize("seed", range(6))
def test_exact_draws_are_like_real(seed):
    verdict = judged(exact(seed), seed).verdict
    assert (verdict.grade, verdict.told_apart_by, verdict.real_rows) == ("like real", (), None)
    assert (verdict.strays, verdict.missing, verdict.copies) == (0.0, 0.0, False)
    assert verdict.words[0] == f"like real ({N} samples: every distance at its floor)"
    assert verdict.words[1].startswith("no strays seen (at most ")
    assert verdict.words[-1] == "copies rows: no"


def test_three_per_cent_of_uniform_strays_are_counted(tmp_path):
    """Distances do not see them; their number is found but for those that fell on the moons."""
    x, real = exact(), toys.sample("moons", 1, 5000)
    k, low, high = round(0.03 * N), real.min(axis=0), real.max(axis=0)
    x[:k] = np.random.default_rng(0).uniform(low - 0.3, high + 0.3, (k, 2))
    off = np.mean(np.linalg.norm(x[:k, None] - real[None], axis=-1).min(axis=1) > 0.1)
    report = judged(x)
    assert report.verdict.grade == "close to real"
    assert report.verdict.told_apart_by == ()
    assert report.verdict.strays == pytest.approx(0.03 * off, abs=0.008)
    assert report.verdict.missing == 0.0
    assert " % strays (no data near)" in " ".join(report.table().split())
    read = json.loads(report.save(tmp_path / "report.json").read_text())
    assert read["verdict"]["strays"] == report.verdict.strays
    assert read["metrics"]["precision"]["z"] > 4


def test_copies_of_training_rows_are_said():
    train = toys.sample("moons", 10, 2 * N)
    verdict = judged(train[:N]).verdict
    assert (verdict.grade, verdict.copies) == ("like real", True)
    assert "copies rows: yes (100% of the samples lie as near to a training row as " in verdict.words[-1]
    some = exact()
    some[: N // 5] = train[: N // 5]
    assert judged(some).verdict.copies
    near = exact()
    near[: N // 5] = train[: N // 5] + 1e-3
    assert judged(near).verdict.copies


def test_a_missing_mode_is_missing_data_and_no_strays():
    x = exact(law="8gaussians")
    angle = np.arctan2(x[:, 1], x[:, 0])
    there = np.abs(angle) > np.pi / 8  # without the mode on the right, an eighth of the law
    verdict = judged(x[there], law="8gaussians").verdict
    assert verdict.grade == "unlike real"
    assert verdict.strays == 0.0
    assert verdict.missing == pytest.approx(1 / 8, abs=0.05)
    assert not verdict.copies


def test_a_shift_names_its_column_and_a_narrow_model_is_no_copier():
    x = exact()
    moved = judged(x + [0.0, 0.4 * x[:, 1].std()]).verdict
    assert moved.grade == "unlike real"
    assert moved.real_rows < 100
    (shift,) = (words for words in moved.words if words.startswith("up: mean off by +"))
    assert float(shift.split()[4]) == pytest.approx(0.4, abs=5 * np.sqrt(1 / N + 1 / (3 * N)))
    # nearer to everything, training and held-out rows alike
    wide = np.random.default_rng(0).normal(size=(5, N, 8))
    narrow = evaluate(0.5 * wide[0], np.concatenate(wide[1:3]), wide[3])
    assert narrow.metrics["near_copies"].z > 4
    assert narrow.verdict.copies is False
    assert "times the real one" in " ".join(narrow.verdict.words)


def test_a_small_table_that_is_learnt_by_heart():
    """142 rows and 36 held out, as of scikit-learn's wines: copies with a little noise are told, fresh rows not."""
    rng = np.random.default_rng(1)
    train, holdout, fresh = (rng.normal(size=(n, 13)) for n in (142, 36, 500))
    copies = train[rng.integers(142, size=500)] + 0.1 * rng.normal(size=(500, 13))
    assert evaluate(copies, train, holdout).verdict.copies
    verdict = evaluate(fresh, train, holdout).verdict
    assert (verdict.grade, verdict.copies) == ("like real", False)


def test_without_a_spread_there_is_no_verdict():
    report = evaluate(exact(), toys.sample("moons", 1, N), toys.sample("moons", 2, N), draws=3, n=100)
    assert report.verdict.grade is None
    assert "floors of fewer than 10 draws" in report.table()
    assert {m.error for m in report.metrics.values()} == {None}


def test_a_distance_as_a_number_of_real_rows():
    """A sample of n' rows, repeated to n, has the energy distance of n' real rows: n / (2 r - 1) returns n'."""
    rng = np.random.default_rng(0)
    n, few, draws = 400, 50, 300
    values, floors = [], []
    for _ in range(draws):
        real, other, some = (rng.normal(size=(k, 2)) for k in (n, n, few))
        values.append(metrics.energy_distance(np.repeat(some, n // few, axis=0), real))
        floors.append(metrics.energy_distance(other, real))
    value, floor = np.mean(values), np.mean(floors)
    line = Metric(value, None, 1, floor, floor / 10, 20, n, "", "lower", error=floor / 10)
    spread = np.std(values) / value / np.sqrt(draws)
    assert conclude({"energy": line}).real_rows == pytest.approx(few, rel=5 * 1.1 * spread)


@pytest.mark.fast
def test_standard_errors_by_hand():
    line = {"std": None, "draws": 1, "floor_std": 1.0, "floor_draws": 20, "n": 10, "what": ""}
    assert Metric(value=0.9, floor=0.97, better="higher", error=0.01, **line).z == pytest.approx(7)
    assert Metric(value=0.7, floor=0.5, better="0.5", error=0.05, **line).z == pytest.approx(4)
    assert Metric(value=4.0, floor=1.0, better="lower", error=0.5, **line).z == pytest.approx(4)
    assert Metric(value=1.0, floor=0.0, better="lower", error=0.0, **line).z == np.inf
    assert Metric(value=0.0, floor=0.0, better="lower", error=0.0, **line).z == 0.0
    assert Metric(value=1.0, floor=1.0, better="lower", **line).z is None


@pytest.mark.fast
def test_the_worst_column():
    x = np.random.default_rng(0).normal(size=(400, 3))
    assert worst_column(x[:200], x[200:]) is None
    moved = x[:200] * [1.0, 1.0, 2.0] + [0.5, 0.0, 0.0]
    worst = worst_column(moved, x[200:], ("a", "b"))
    assert worst.name == "column 3"
    assert worst.spread == pytest.approx(moved[:, 2].std() / x[200:, 2].std())
    # of a normal column the standard error of log(s1 / s2) is sqrt((1/n + 1/m) / 2)
    assert worst.z_spread == pytest.approx(np.log(worst.spread) / np.sqrt(1 / 200), rel=0.3)
    assert worst_column(np.zeros((20, 2)), np.zeros((30, 2))) is None


def test_the_standard_error_of_a_comparison_is_that_of_fresh_draws():
    """Floor draws of n of N rows share the N rows and one held-out set: over fresh ones, (value - floor) / error has
    mean 0 and deviation 1 for a statistic that is a mean."""
    from bridgejax.evaluation import comparisons, draws

    rng = np.random.default_rng(0)
    mean = comparisons.Comparison(lambda x, y: float(x.mean() - y.mean()), "", "0", 10**6)
    z = []
    for k in range(300):
        train, holdout, samples = (rng.normal(size=(m, 1)) for m in (150, 100, 100))
        plan = draws.draw(samples, train, holdout, lambda x, _: x, 100, 20, k)
        z.append(comparisons.measure(mean, plan, 100, 20).z)
    assert np.mean(z) == pytest.approx(0, abs=5 / np.sqrt(300))
    assert np.std(z) == pytest.approx(1, abs=5 / np.sqrt(2 * 300))
