"""Reports on samples whose quality is known: fresh real rows sit at the floor, noise far above, copies are named."""

import json
from functools import partial

import numpy as np
import pytest

from bridgejax import data, metrics
from bridgejax.data import toys
from bridgejax.evaluation import Report, comparisons, evaluate


@pytest.fixture(scope="module")
def digits():
    """Raw images: a perfect model (real rows taken out of the training set), training rows, held-out rows."""
    train, holdout = data.split(data.load("digits"), 0.2, 0)
    order = np.random.default_rng(0).permutation(len(train))
    perfect, rest = order[:359], order[359:]
    raw = train.destandardise(train.x).astype(np.float32)
    return {
        "perfect": raw[perfect],
        "asked": train.labels[perfect],
        "train": raw[rest],
        "holdout": holdout.destandardise(holdout.x).astype(np.float32),
        "labels": (train.labels[rest], holdout.labels),
    }


@pytest.fixture(scope="module")
def perfect(digits):
    return evaluate(
        digits["perfect"],
        digits["train"],
        digits["holdout"],
        labels=digits["labels"],
        sample_labels=digits["asked"],
        classes=[f"digit {k}" for k in range(10)],
        draws=10,
    )


def test_a_perfect_model_sits_at_the_floor(perfect):
    assert perfect.kind == "image"
    assert list(perfect.metrics) == [
        "frechet_features",
        "frechet_pca",
        "class_shares",
        "sliced_w2",
        "precision",
        "coverage",
        "c2st",
        "closer_to_train",
        "near_copies",
        "prefers_train",
        "class_agreement",
    ]
    for name, metric in perfect.metrics.items():
        assert metric.n == 359
        assert abs(metric.value - metric.floor) < 5 * max(metric.floor_std, 0.5 / np.sqrt(359) / 5), name
        if metric.better == "lower":
            assert metric.ratio == pytest.approx(metric.value / metric.floor)
        else:
            assert metric.ratio is None
    test = perfect.metrics["c2st"]
    assert abs(test.value - 0.5) < 4 * test.details["std_error"]
    assert test.details["p_value"] > 0.01
    assert test.details["rows_judged"] == 718
    assert perfect.metrics["class_agreement"].value > 0.95
    assert perfect.classes["classifier_accuracy"] > 0.95
    assert sum(perfect.classes["samples"]) == pytest.approx(1)
    assert max(np.abs(np.subtract(perfect.classes["samples"], perfect.classes["real"]))) < 5 * np.sqrt(2 * 0.09 / 359)


def test_noise_is_far_above_and_copies_are_named(digits):
    rng = np.random.default_rng(0)
    noise = evaluate(16 * rng.random(digits["perfect"].shape), digits["train"], digits["holdout"], draws=5, n=150)
    assert "frechet_features" not in noise.metrics  # no labels, no classifier
    assert "principal components" in noise.features
    for name in ("frechet_pca", "sliced_w2"):
        metric = noise.metrics[name]
        assert metric.value > metric.floor + 20 * metric.floor_std, name
    assert noise.metrics["c2st"].value > 0.99
    assert noise.metrics["closer_to_train"].value < 0.01  # far from everything: no copies

    copies = evaluate(digits["train"][::5], digits["train"], digits["holdout"], draws=5, n=150)
    for name in ("frechet_pca", "sliced_w2"):
        assert copies.metrics[name].ratio < 1.5, name
    assert copies.metrics["closer_to_train"].value == 1
    assert copies.metrics["near_copies"].value == 1
    few = evaluate(digits["perfect"][:50], digits["train"], digits["holdout"], draws=2)
    assert "small for covariances" in " ".join(few.notes)


def test_a_wrong_class_shows_in_the_shares(digits):
    only = digits["train"][digits["labels"][0] < 5]
    report = evaluate(only, digits["train"], digits["holdout"], labels=digits["labels"], draws=3, n=200)
    assert 0.4 < report.metrics["class_shares"].value < 0.6  # half of the mass is elsewhere
    assert report.metrics["frechet_features"].ratio > 3


def test_json_and_table(perfect, tmp_path):
    path = perfect.save(tmp_path / "report.json")
    read = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert read == json.loads(json.dumps(perfect.to_dict()))
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]
    entry = read["metrics"]["frechet_features"]
    assert entry["value"] == perfect.metrics["frechet_features"].value
    assert {"floor", "floor_std", "floor_draws", "n", "what", "better", "ratio", "draws", "std", "details"} < set(entry)
    assert read["floor"].startswith("mean of 10 draws of 359 random ones of the 1079 training rows against the 359")
    table = perfect.table()
    assert str(perfect) == table
    assert all(len(line) <= 100 for line in table.splitlines())
    for name in perfect.metrics:
        assert name in table
    assert "digit 9" in table
    assert "real vs real" in table


def test_points_from_samplers():
    """The floor is that of ``metrics.floor``, five model draws are averaged, and a perfect sampler reaches it."""
    sampler = partial(toys.sample, "moons")
    train = toys.sample("moons", 1, 500)
    report = evaluate(sampler, train, sampler, n=250, draws=20)
    assert report.kind == "points"
    assert list(report.metrics) == [
        "energy",
        "w2",
        "sliced_w2",
        "precision",
        "coverage",
        "mmd",
        "closer_to_train",
        "near_copies",
        "prefers_train",
    ]
    floors = {
        "energy": metrics.energy_distance,
        "w2": metrics.wasserstein2,
        "sliced_w2": metrics.sliced_wasserstein2,
        "mmd": None,
    }
    for name, function in floors.items():
        metric = report.metrics[name]
        assert (metric.n, metric.draws, metric.floor_draws) == (250, 5, 20)
        error = metric.floor_std * np.sqrt(1 / 5 + 1 / 20)
        assert abs(metric.value - metric.floor) < 5 * error, name
        if function is not None:
            direct = metrics.floor(function, sampler, n=250, draws=20, seed=9)
            assert abs(direct.mean - metric.floor) < 5 * np.hypot(direct.std, metric.floor_std) / np.sqrt(20), name
    assert report.num_holdout is None
    assert report.floor == "20 pairs of fresh real samples, n = 250 each"
    shifted = evaluate(lambda seed, n: sampler(seed, n) + 1.0, train, sampler, n=250, draws=5)
    assert shifted.metrics["energy"].value > 10 * shifted.metrics["energy"].floor
    # A shift by (1, 1) costs exactly that much.
    assert shifted.metrics["w2"].value == pytest.approx(np.sqrt(2), abs=0.2)
    assert "±" in shifted.table()


def test_many_samples_make_disjoint_draws_and_the_seed_decides():
    x = toys.sample("moons", 0, 700)
    train, holdout = toys.sample("moons", 1, 300), toys.sample("moons", 2, 200)
    report = evaluate(x, train, holdout, draws=3)
    compared = [report.metrics[name] for name in ("energy", "w2", "sliced_w2", "mmd", "precision", "coverage")]
    assert {m.draws for m in compared} == {3}
    assert {m.n for m in compared} == {200}
    assert report.num_samples == 700
    assert report.to_dict() == evaluate(x, train, holdout, draws=3).to_dict()
    assert report.to_dict()["metrics"] != evaluate(x, train, holdout, draws=3, seed=1).to_dict()["metrics"]


def test_columns_of_a_table_have_units_of_their_own():
    rng = np.random.default_rng(0)
    x, train, holdout = (rng.standard_normal((n, 5)) for n in (100, 200, 100))
    unit = np.array([1, 1e3, 1e-3, 1, 1])
    plain = evaluate(x, train, holdout, draws=3)
    scaled = evaluate(x * unit + 5, train * unit + 5, holdout * unit + 5, draws=3)
    assert plain.kind == "table"
    assert list(plain.metrics)[:5] == ["energy", "frechet_pca", "sliced_w2", "precision", "coverage"]
    for name, metric in plain.metrics.items():
        assert scaled.metrics[name].value == pytest.approx(metric.value, rel=1e-6), name


def test_constant_and_coinciding_rows_are_measured():
    rows = np.repeat(np.eye(4), 30, axis=0) * [1, 1, 0, 0]
    report = evaluate(rows, np.concatenate([rows, rows]), rows, kind="table", draws=2)
    assert report.metrics["energy"].value == 0
    assert report.metrics["mmd"].value == pytest.approx(0, abs=1e-12)
    json.dumps(report.to_dict(), allow_nan=False)


def test_the_source_of_a_bridge_is_recorded():
    source, target = toys.sample("8gaussians", 0, 200), partial(toys.sample, "moons")
    ends = target(1, 200)
    report = evaluate(ends, target(2, 400), target(3, 200), starts=source, draws=2)
    assert report.source["energy_to_target"] > 10 * report.metrics["energy"].value
    assert report.source["w2_to_target"] > report.metrics["w2"].value
    assert report.source["mean_squared_move"] == pytest.approx(np.mean(np.sum((ends - source) ** 2, axis=1)), rel=1e-5)
    law = evaluate(ends, target(2, 400), target(3, 200), source=toys.sample("8gaussians", 1, 300), draws=2)
    assert set(law.source) == {"rows", "n", "energy_to_target", "w2_to_target"}
    assert report.source["w2_to_target"] == pytest.approx(law.source["w2_to_target"], rel=0.2)


GOOD = np.random.default_rng(0).standard_normal((40, 2))
BROKEN = GOOD.copy()
BROKEN[3] = np.nan
LABELS = np.arange(40) % 2


@pytest.mark.fast
@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((GOOD[:0], GOOD, GOOD), {}, "samples is empty"),
        ((BROKEN, GOOD, GOOD), {}, "samples has NaN or infinity in 1 of 40 rows, first in row 3"),
        ((GOOD, GOOD, BROKEN), {}, "real_holdout has NaN"),
        ((GOOD[:, :1], GOOD, GOOD), {}, r"samples has shape \(40, 1\); expected \[n, \*\(2,\)\]"),
        ((GOOD, GOOD, GOOD[:5]), {}, "real_holdout has 5 rows; at least 10"),
        ((GOOD, GOOD, GOOD), {"kind": "picture"}, "kind must be one of"),
        ((GOOD, GOOD, GOOD), {"n": 5}, "n must be an integer >= 10"),
        ((GOOD, GOOD, GOOD), {"draws": 0}, "draws must be an integer >= 1"),
        ((GOOD, GOOD, GOOD), {"seed": -1}, "seed must be an integer >= 0"),
        ((GOOD, GOOD, GOOD), {"kind": "table", "labels": LABELS[:7]}, "labels has shape"),
        ((GOOD, GOOD, GOOD), {"source": GOOD[:, :1]}, "source has shape"),
        ((GOOD, GOOD, GOOD), {"starts": GOOD[:20]}, "starts has 20 rows; expected an array of as many samples"),
        ((GOOD, lambda seed, n: GOOD, GOOD), {}, "real_train must be an array"),
        ((lambda seed, n: GOOD[:3], GOOD, GOOD), {}, "samples, a sampler, returned 3 rows"),
        ((GOOD, GOOD, lambda seed, n: BROKEN), {}, "real_holdout has NaN"),
    ],
)
def test_bad_input(arguments, options, words):
    with pytest.raises(ValueError, match=words):
        evaluate(*arguments, **options)


def test_bad_classes():
    for options, words in (
        ({"classes": ["a"]}, "classes has 1 names, but the labels have 2"),
        ({"sample_labels": LABELS + 5}, "sample_labels runs from 5 to 6"),
    ):
        with pytest.raises(ValueError, match=words):
            evaluate(GOOD, GOOD, GOOD, kind="table", labels=(LABELS, LABELS), draws=1, **options)
    report = evaluate(GOOD, GOOD, GOOD, kind="table", sample_labels=LABELS, draws=1)
    assert isinstance(report, Report)
    assert "sample_labels were not used" in report.notes[0]


def test_deviations_over_draws_are_those_of_a_sample():
    found = comparisons._metric([1.0, 2.0, 6.0], [0.0, 4.0], 10, "a number", "lower")
    assert (found.value, found.floor, found.draws) == (3.0, 2.0, 3)
    assert found.std == pytest.approx(np.sqrt(7.0))
    assert found.floor_std == pytest.approx(np.sqrt(8.0))
