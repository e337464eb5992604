"""A table with a target at the command line: runs, their reports in the data's units, new rows, and what is refused."""

import csv
import json

import jax
import numpy as np
import pytest

import bridgejax as bj
from bridgejax.cli import main
from bridgejax.runs.build import build
from bridgejax.runs.config import configure
from bridgejax.runs.data import load_run_data, make_batches
from bridgejax.runs.registry import specs

SUPERVISED = sorted(name for name, spec in specs().items() if spec.supervised)
SMALL = ["--inducing", "6", "--batch-size", "16", "--num", "16"]


def written(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A smooth target of two numbers and a category; in metres, so that units are seen. Every 9th row occurs twice."""
    path, random = tmp_path_factory.mktemp("tables"), np.random.default_rng(0)
    lines = []
    for k in range(90):
        a, b, c = random.normal(), random.normal(), "xyz"[k % 3]
        y = 1000 + 50 * (np.sin(a) + 0.5 * b + (c == "x")) + random.normal()
        lines += [f"{a:.4f},{b:.4f},{c},{y:.3f}"] * (2 if k % 9 == 0 else 1)
    (path / "table.csv").write_text("a,b,c,height\n" + "\n".join(lines) + "\n")
    rows = [line.rsplit(",", 1) for line in lines]
    grades = [f"{start},{'tall' if float(y) > 1020 else 'small'}" for start, y in rows]
    (path / "grades.csv").write_text("a,b,c,grade\n" + "\n".join(grades) + "\n")
    (path / "new.csv").write_text("c,b,a\nx,0.1,0.2\nz,-0.5,1.0\n")
    return path


@pytest.mark.parametrize("name", SUPERVISED)
@pytest.mark.parametrize(("file", "target"), [("table", "height"), ("grades", "grade")])
def test_every_method_fits_what_a_table_holds(name, file, target, folder):
    """By shapes alone: nothing is compiled."""
    config = configure(name, data=str(folder / f"{file}.csv"), predict=target, batch_size=8, inducing=5)
    data = load_run_data(config)
    spec, batches = data.spec(config), make_batches(data, config)
    assert spec.target == target
    assert spec.source.shape == (80, 5)  # two numbers, three categories
    assert (len(data.train), len(data.holdout)) == (80, 20)
    np.testing.assert_allclose(data.source.x.mean(axis=0), 0.0, atol=1e-5)
    if file == "table":
        np.testing.assert_allclose([data.train.x.mean(), data.train.x.std()], [0.0, 1.0], atol=1e-5)
        np.testing.assert_allclose(data.train.destandardise(data.train.x), data.train.values, rtol=1e-5)
    else:
        assert spec.classes == ("small", "tall")
    batch = batches.batch(0)
    assert (batch["source"].shape, batch["target"].shape) == ((8, 5), (8, 1))
    order = {row.tobytes(): y for row, y in zip(data.source.x, data.train.x, strict=True)}
    np.testing.assert_array_equal(batch["target"], [order[row.tobytes()] for row in batch["source"]])
    method = build(config, spec, steps=4)
    state = jax.eval_shape(method.init, jax.random.key(0), None)
    after, metrics = jax.eval_shape(method.step, state, jax.random.key(0), batch)
    assert jax.tree.map(np.shape, after) == jax.tree.map(np.shape, state)
    assert metrics["loss"].shape == ()


@pytest.fixture(scope="module")
def run(folder):
    out = folder / "run"
    words = ["--data", str(folder / "table.csv"), "--predict", "height", "--steps", "40", "--learning-rate", "0.03"]
    assert main(["train", "dsvi", *words, *SMALL, "--layers", "1", "--out", str(out)]) == 0
    return out


def test_a_run_leaves_a_report_in_the_units_of_the_data(run, folder, capsys):
    report = json.loads((run / "report.json").read_text())
    assert report["target"] == "height"
    assert set(report["scores"]) == {"dsvi", "sparse GP", "linear", "constant"}
    spread = report["scores"]["constant"]["rmse"]
    assert 20 < spread < 80
    assert report["scores"]["linear"]["rmse"] < spread
    assert report["scores"]["sparse GP"]["rmse"] < report["scores"]["linear"]["rmse"] < 30
    assert report["scores"]["constant"]["nll"] > 4.0  # log(2 pi e 40^2) / 2 is 5.1: nats of metres
    rows = written(run / "predictions.csv")
    assert len(rows) == report["rows"] == 20
    error = [float(row["height mean"]) - float(row["true height"]) for row in rows]
    np.testing.assert_allclose(np.sqrt(np.mean(np.square(error))), report["scores"]["dsvi"]["rmse"], rtol=1e-3)
    assert all(float(row["height 5%"]) < float(row["height 50%"]) < float(row["height 95%"]) for row in rows)
    assert report["repeated"] > 0
    assert report["scores_without"] is not None
    table = [line.rsplit(",", 1)[0] for line in (folder / "table.csv").read_text().splitlines()[1:]]
    assert report["repeated"] <= sum(table.count(row) > 1 for row in table)
    assert (run / "predictions.png").exists()
    behind = any(gain["nats"] < -2 * gain["error"] for gain in report["gains"].values())
    assert ("train longer" in report["notes"][0]) == behind
    assert main(["evaluate", str(run), "--num", "16"]) == 0
    printed = capsys.readouterr().out
    assert "VERDICT: " in printed
    assert "without" in printed
    again = json.loads((run / "evaluation-2.json").read_text())
    assert again["scores"]["linear"] == report["scores"]["linear"]


def test_a_run_is_a_function_of_rows(run, folder):
    loaded, key = bj.load(run), jax.random.key(0)
    assert loaded.inputs.names == ("a", "b", "c")
    said = loaded.predict(key, [[0.2, 0.1, "x"], [1.0, -0.5, "z"]], draws=512, quantiles=(0.1, 0.5, 0.9))
    drawn = loaded.sample(bj.keys(key, 4000), x=np.tile(np.array([[0.2, 0.1, "x"]], object), (4000, 1)))
    assert drawn.shape == (4000, 1)
    assert abs(drawn.mean() - said.mean[0]) < 5 * said.deviation[0] / np.sqrt(500)
    np.testing.assert_allclose(drawn.std(), said.deviation[0], rtol=5 / np.sqrt(500))
    np.testing.assert_allclose(np.quantile(drawn, 0.9), said.quantiles[2, 0], atol=0.3 * said.deviation[0])
    target = said.mean + 0.3 * said.deviation
    one = loaded.predict(key, [[0.2, 0.1, "x"], [1.0, -0.5, "z"]], target, draws=512)
    step = 1e-2 * said.deviation  # the density is the slope of the distribution
    ends = [loaded.predict(key, [[0.2, 0.1, "x"], [1.0, -0.5, "z"]], target + e, draws=512).cdf for e in (-step, step)]
    np.testing.assert_allclose(np.exp(one.log_prob), (ends[1] - ends[0]) / (2 * step), rtol=2e-2)
    with pytest.raises(ValueError, match="give rows x to begin with"):
        loaded.sample(bj.keys(key, 2))
    with pytest.raises(ValueError, match="target must have 1 values"):
        loaded.predict(key, [[0.2, 0.1, "x"]], [1.0, 2.0])


def test_new_rows_are_predicted(run, folder, capsys, tmp_path):
    out = tmp_path / "said.csv"
    words = ["predict", str(run), "--data", str(folder / "new.csv"), "--out", str(out), "--draws", "64"]
    assert main([*words, "--quantiles", "0.1,0.9"]) == 0
    rows = written(out)
    assert list(rows[0]) == ["a", "b", "c", "height mean", "height sd", "height 10%", "height 90%"]
    assert [row["c"] for row in rows] == ["x", "z"]
    assert all(800 < float(row["height mean"]) < 1200 for row in rows)
    capsys.readouterr()
    assert main(["predict", str(run), "--data", str(folder / "table.csv"), "--draws", "16"]) == 0
    printed = capsys.readouterr().out
    assert "RMSE" in printed  # the target is there
    assert "rows whose inputs occur among the training rows" in printed
    assert (run / "predictions-table.csv").exists()


def test_a_run_resumes_and_trains_on_several_devices(folder, tmp_path):
    words = ["--data", str(folder / "table.csv"), "--predict", "height", "--inducing", "4", "--batch-size", "16"]
    short = ["--num", "10", "--layers", "1"]
    for name, devices in (("one", "1"), ("two", "2")):
        out = str(tmp_path / name)
        assert main(["train", "dsvi", *words, *short, "--steps", "4", "--devices", devices, "--out", out]) == 0
    one, two = (bj.load(tmp_path / name).params for name in ("one", "two"))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    assert main(["train", "--out", str(tmp_path / "one"), "--steps", "6", "--num", "10"]) == 0
    assert int(bj.load(tmp_path / "one").state.step) == 6


@pytest.mark.slow
@pytest.mark.parametrize("name", SUPERVISED)
def test_classes_are_learnt_and_predicted(name, folder, tmp_path, capsys):
    out = tmp_path / name
    words = ["--data", str(folder / "grades.csv"), "--predict", "grade", "--steps", "30", *SMALL, "--layers", "1"]
    assert main(["train", name, *words, "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["classes"] == ["small", "tall"]
    assert report["scores"]["sparse GP"]["accuracy"] > report["scores"]["constant"]["accuracy"]
    assert main(["predict", str(out), "--data", str(folder / "new.csv"), "--draws", "8"]) == 0
    rows = written(out / "predictions-new.csv")
    assert {row["grade likeliest"] for row in rows} <= {"small", "tall"}
    np.testing.assert_allclose([float(row["P(small)"]) + float(row["P(tall)"]) for row in rows], 1.0, rtol=1e-4)
    wrong = (folder / "grades.csv").read_text().replace("tall", "huge")
    (tmp_path / "wrong.csv").write_text(wrong)
    assert main(["predict", str(out), "--data", str(tmp_path / "wrong.csv"), "--draws", "8"]) == 1
    assert "target 'huge' is no class of this run, which learnt small, tall" in capsys.readouterr().err


REFUSED = {
    "no data": ([], "needs a table with a column to predict, --data FILE.csv --predict COLUMN, and none was given"),
    "a toy": (["--data", "moons"], "'moons' has no target"),
    "an array": (["--data", "x.npy"], "reads a table, --data FILE.csv, got 'x.npy'"),
    "no target": (["--data", "TABLE"], "say which, --predict COLUMN"),
    "another name": (["--data", "TABLE", "--predict", "heigth"], "did you mean 'height'?"),
    "many inducing": (["--data", "TABLE", "--predict", "height", "--inducing", "81"], "different rows of inputs"),
    "text": (["--data", "GRADES", "--predict", "grade", "--task", "regression"], "use --task classes"),
    "a label": (
        ["--data", "TABLE", "--predict", "height", "--label-column", "c"],
        "the column to predict is --predict",
    ),
    "no layers": (["--data", "TABLE", "--predict", "height", "--layers", "0"], "layers must be"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name, folder, tmp_path, capsys):
    words, message = REFUSED[name]
    files = {"TABLE": str(folder / "table.csv"), "GRADES": str(folder / "grades.csv")}
    assert main(["train", "dsvi", *(files.get(word, word) for word in words), "--out", str(tmp_path / "run")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_the_other_commands_refuse(run, folder, tmp_path, capsys):
    (tmp_path / "few.csv").write_text("a,b\n1,2\n3,4\n")
    (tmp_path / "other.csv").write_text("a,b,c\n1,2,w\n3,4,x\n")
    (tmp_path / "gap.csv").write_text("a,b,c\n1,,x\n3,4,x\n")
    (tmp_path / "short.csv").write_text("a,height\n" + "\n".join(f"{k},{k}" for k in range(19)) + "\n")
    for words, message in (
        (["sample", run], "predicts a target given the other columns of a row: bridgejax predict"),
        (["evaluate", run, "--memorisation"], "draws no rows that could be copies"),
        (["predict", run], "predict needs a file of rows, --data FILE.csv"),
        (["predict", run, "--data", tmp_path / "absent.csv"], "does not exist"),
        (["predict", run, "--data", tmp_path / "few.csv"], "has no column 'c', which the run learnt from"),
        (
            ["predict", run, "--data", tmp_path / "other.csv"],
            "column 'c' holds 'w', which no training row has: x, y, z",
        ),
        (["predict", run, "--data", tmp_path / "gap.csv"], "line 2, column 'b' is empty"),
        (
            ["predict", run, "--data", tmp_path / "gap.csv", "--missing", "impute"],
            "leave such rows out (--missing drop)",
        ),
        (["predict", run, "--data", folder / "new.csv", "--quantiles", "5,95"], "levels between 0 and 1 such as"),
        (["predict", run, "--data", folder / "new.csv", "--draws", "1"], "draws must be at least 2"),
        (["train", "dsvi", "--data", tmp_path / "short.csv", "--predict", "height"], "has 19 rows, too few to learn"),
    ):
        assert main([str(word) for word in words]) == 1, words
        assert message in capsys.readouterr().err, words
