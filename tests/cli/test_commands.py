"""The command line: what it leaves, how it resumes, and one sentence for everything that can go wrong."""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from PIL import Image

import bridgejax as bj
from bridgejax.cli import expression, main
from bridgejax.data import toys

SMALL = ["--width", "16", "--depth", "1", "--num", "300"]


@pytest.fixture(scope="module")
def moons_run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cli") / "moons"
    assert main(["train", "--data", "moons", "--steps", "20", "--out", str(directory), *SMALL]) == 0
    return directory


def refused(capsys, *arguments):
    """Exit status 1, and the one line on stderr."""
    assert main([str(a) for a in arguments]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bridgejax:")]
    assert len(lines) == 1
    return lines[0]


def test_train_leaves_a_whole_run_directory(digits_run):
    names = {path.name for path in digits_run.iterdir()}
    assert names >= {
        "config.json",
        "metrics.jsonl",
        "checkpoints",
        "samples.npz",
        "samples.png",
        "loss.png",
        "report.json",
    }
    samples = np.load(digits_run / "samples.npz")
    assert samples["x"].shape == (200, 8, 8, 1)
    assert samples["y"].tolist() == [i % 10 for i in range(200)]
    assert (digits_run / "samples.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((digits_run / "report.json").read_text())


def test_a_finished_run_resumes_to_itself(moons_run, capsys):
    before = np.load(moons_run / "samples.npz")["x"]
    assert main(["train", "--out", str(moons_run), "--num", "300"]) == 0
    printed = capsys.readouterr()
    assert "sampling 300 ...\nmeasuring" in printed.err  # on stderr, so that what is printed is the result
    assert "sampling" not in printed.out
    assert "VERDICT: " in printed.out
    np.testing.assert_array_equal(np.load(moons_run / "samples.npz")["x"], before)


def test_sample_is_the_same_for_any_number(moons_run, tmp_path):
    for num in (3, 70):
        assert main(["sample", str(moons_run), "--num", str(num), "--out", str(tmp_path / f"{num}.npz")]) == 0
    few, many = (np.load(tmp_path / f"{num}.npz")["x"] for num in (3, 70))
    np.testing.assert_array_equal(few, many[:3])
    assert (tmp_path / "70.png").exists()


def test_sample_takes_a_label(digits_run, tmp_path, capsys):
    out = tmp_path / "threes.npz"
    assert main(["sample", str(digits_run), "--num", "4", "--label", "3", "--guidance", "2", "--out", str(out)]) == 0
    assert np.load(out)["y"].tolist() == [3, 3, 3, 3]
    message = refused(capsys, "sample", digits_run, "--label", 12)
    assert "label '12' is unknown: this run has labels 0, 1, 2, 3, 4, 5, 6, 7, 8, 9" in message


def test_evaluate_and_list(moons_run, capsys):
    before = {path.name: path.read_bytes() for path in moons_run.iterdir() if path.is_file()}
    assert main(["evaluate", str(moons_run), "--num", "300"]) == 0
    assert "energy" in capsys.readouterr().out
    after = {path.name: path.read_bytes() for path in moons_run.iterdir() if path.is_file()}
    assert {name for name, content in before.items() if after[name] != content} <= {"loss.png"}
    assert set(after) - set(before) >= {"evaluation-2.json", "evaluation-2.png", "evaluation-2.npz"}
    assert main(["list", "--runs", str(moons_run.parent)]) == 0
    text = capsys.readouterr().out
    assert "bridge_matching" in text
    assert "20 of 20 steps" in text


def test_a_bridge_between_two_files(tmp_path):
    for name, law in (("a", "8gaussians"), ("b", "moons")):
        np.save(tmp_path / f"{name}.npy", toys.sample(law, 0, 600))
    out = tmp_path / "run"
    ends = ["--source", str(tmp_path / "a.npy"), "--target", str(tmp_path / "b.npy")]
    assert main(["train", *ends, "--steps", "10", "--out", str(out), "--width", "16", "--num", "100"]) == 0
    assert json.loads((out / "config.json").read_text())["config"]["method"]["name"] == "bridge_matching"
    assert np.load(out / "samples.npz")["x"].shape == (100, 2)


def test_unknown_names_come_with_the_nearest(capsys, tmp_path):
    assert "did you mean 'moons'" in refused(capsys, "train", "--data", "moon", "--out", tmp_path / "r")
    assert "did you mean 'diffusion'" in refused(capsys, "train", "difusion", "--out", tmp_path / "r")
    message = refused(capsys, "train", "pis", "--out", tmp_path / "r")
    assert "is used from Python: it needs a log density, which is a function: bridgejax.methods.pis(log_d" in message
    assert "unknown method 'xyz'. Known: action_matching, augmented_bridge" in refused(capsys, "train", "xyz")
    with pytest.raises(SystemExit):
        main(["train", "--schedule", "cosinus", "--out", str(tmp_path / "r")])
    assert "cosine" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_where_an_error_was_raised_is_shown_on_request(monkeypatch):
    monkeypatch.setenv("BRIDGEJAX_TRACEBACK", "1")
    with pytest.raises(ValueError, match="did you mean 'diffusion'"):
        main(["train", "difusion"])


def _files(folder):
    table = np.random.default_rng(0).standard_normal((20, 2))
    np.save(folder / "nan.npy", np.where(np.arange(20)[:, None] == 3, np.nan, table))
    np.save(folder / "empty.npy", np.zeros((0, 2)))
    np.save(folder / "object.npy", np.array([[1, "a"], [None, 2]], object), allow_pickle=True)
    (folder / "ragged.csv").write_text("1,2\n3\n")
    (folder / "words.csv").write_text("a,b\nred,blue\ngreen,black\n")
    np.save(folder / "five.npy", np.zeros((4, 2, 2, 2, 2)))


@pytest.mark.parametrize("name", ["nan.npy", "empty.npy", "object.npy", "ragged.csv", "words.csv", "absent.npy"])
def test_bad_data_is_one_sentence_and_leaves_nothing(name, tmp_path, capsys):
    _files(tmp_path)
    message = refused(capsys, "train", "--data", tmp_path / name, "--out", tmp_path / "run")
    assert name in message
    assert not (tmp_path / "run").exists()


def test_numbers_out_of_range(capsys, tmp_path, moons_run):
    out = ["--data", "moons", "--out", tmp_path / "run"]
    assert "steps" in refused(capsys, "train", *out, "--steps", -5)
    assert "batch_size" in refused(capsys, "train", *out, "--steps", 5, "--batch-size", 0)
    assert "devices" in refused(capsys, "train", *out, "--steps", 5, "--devices", 99)
    for words in ("data", "data=0", "model=2", "data=2,data=4", "data=2;fsdp=2"):
        assert "mesh must be axes" in refused(capsys, "train", *out, "--steps", 5, "--mesh", words)
    assert "needs 99 devices, and JAX finds 8" in refused(capsys, "train", *out, "--steps", 5, "--mesh", "data=99")
    assert "leave one out" in refused(capsys, "train", *out, "--mesh", "data=4,fsdp=2", "--devices", 4)
    for words in ("now", "node0,2,0", "node0:1234", "node0:1234,2", "node0:1234,2,2", "node0:x,2,0", ":1234,2,0,1"):
        assert "distributed must be auto or HOST:PORT" in refused(capsys, "train", *out, "--distributed", words)
    assert "takes all devices" in refused(capsys, "train", *out, "--distributed", "auto", "--devices", 4)
    assert "num" in refused(capsys, "sample", moons_run, "--num", 0)
    assert "guidance" in refused(capsys, "sample", moons_run, "--guidance", 2)
    assert "both ends" in refused(capsys, "train", "--source", "moons", "--out", tmp_path / "run")


@pytest.mark.parametrize("words", [("--mesh", "data=4, fsdp=2"), ("--mesh", "data=4,fsdp=2", "--devices", "8")])
def test_a_mesh_by_words(words, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("bridgejax.cli.train.fit", lambda *a, mesh, **k: seen.append(mesh))
    for after in ("load", "report_run"):
        monkeypatch.setattr(f"bridgejax.cli.train.{after}", lambda *a: None)
    assert main(["train", "--data", "moons", "--steps", "5", "--out", str(tmp_path / "run"), *words]) == 0
    assert dict(seen[0].shape) == {"data": 4, "fsdp": 2}


def test_weights_alone_are_arrays_by_name(moons_run, tmp_path, capsys):
    from safetensors.numpy import load_file

    assert main(["export", str(moons_run), "--out", str(tmp_path / "w.safetensors")]) == 0
    said, found = capsys.readouterr().out, load_file(tmp_path / "w.safetensors")
    assert f"in {len(found)} arrays" in said
    params = bj.load(moons_run).params
    assert sum(a.size for a in found.values()) == sum(leaf.size for leaf in jax.tree.leaves(params))
    again = bj.networks.load_weights(tmp_path / "w.safetensors", like=params)
    jax.tree.map(np.testing.assert_array_equal, again, params)
    assert "no checkpoint of step 9999999" in refused(capsys, "export", moons_run, "--step", 9999999)
    assert "not a run directory" in refused(capsys, "export", tmp_path)


def test_a_run_of_another_configuration_is_kept(moons_run, capsys):
    before = (moons_run / "config.json").read_text()
    message = refused(capsys, "train", "--data", "spirals", "--out", moons_run)
    assert "'moons'" in message
    assert "'spirals'" in message
    assert "width 16 (now 32)" in refused(capsys, "train", "--width", 32, "--out", moons_run)
    assert (moons_run / "config.json").read_text() == before


def test_no_run_and_somebody_elses_folder(tmp_path, capsys):
    assert "not a run directory" in refused(capsys, "sample", tmp_path)
    assert "not a run directory" in refused(capsys, "evaluate", tmp_path / "absent")
    (tmp_path / "letter.txt").write_text("dear")
    assert "not a run directory" in refused(capsys, "train", "--data", "moons", "--out", tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert "ermission" in refused(capsys, "train", "--data", "moons", "--steps", 5, "--out", tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_the_next_call_resumes(tmp_path, number, code):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "bridgejax", "train", "--data", "moons", "--out", str(out), *SMALL]
    process = subprocess.Popen([*command, "--steps", "100000"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    deadline = time.time() + 120
    while time.time() < deadline and not ((out / "metrics.jsonl").exists() and (out / "metrics.jsonl").stat().st_size):
        time.sleep(0.2)
    process.send_signal(number)
    _, error = process.communicate(timeout=120)
    assert process.returncode == code
    assert b"interrupted after step" in error
    assert b"Traceback" not in error
    done = max(int(path.name) for path in (out / "checkpoints").iterdir() if path.name.isdecimal())
    assert done > 0
    assert main(["train", "--out", str(out), "--steps", str(done + 1)]) == 0


def test_a_file_that_changed_is_no_longer_the_data_of_the_run(tmp_path, capsys):
    """Nothing of the run is touched before that is said."""
    path, out = tmp_path / "a.csv", tmp_path / "run"
    rows = np.random.default_rng(0).normal(size=(60, 2)).round(3)
    np.savetxt(path, rows, fmt="%.3f", delimiter=",")
    assert main(["train", "--data", str(path), "--out", str(out), "--steps", "3", "--num", "20", *SMALL]) == 0
    before = {p: p.read_bytes() for p in (out / "config.json", out / "data.npz")}
    np.savetxt(path, rows + 1.0, fmt="%.3f", delimiter=",")
    again = ["train", "--out", str(out), "--steps", "6", "--num", "20"]
    capsys.readouterr()
    assert main(again) == 1
    assert "is a run of other data" in (said := capsys.readouterr().err)
    assert "(--resume anyway)" in said
    assert {p: p.read_bytes() for p in before} == before
    assert main([*again, "--resume", "anyway"]) == 0


def test_constrained_columns_of_a_users_table(tmp_path, capsys):
    """Types inferred, shown and overridable; every sample a row that could be in the table."""
    random, path, out = np.random.default_rng(0), tmp_path / "people.csv", tmp_path / "run"
    rows = [
        f"{random.integers(18, 60)},{'FM'[random.integers(2)]},{random.normal():.3f},"
        f"{1_700_000_000 + random.integers(50)},{1_700_000_000 + random.integers(2)}"
        for _ in range(300)
    ]
    path.write_text("age,sex,score,seen,batch\n" + "\n".join(rows) + "\n")
    common = ["train", "constrained", "--data", str(path), "--steps", "10", *SMALL]
    assert main([*common, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "age: integer 18 to 59; sex: category of 2 (F, M); score: real; seen: integer 1700000000 to 170000" in shown
    assert "batch: category of 2 (1700000000, 1700000001)" in shown
    x = np.load(out / "samples.npz")["x"]
    assert x.shape == (300, 5)
    assert set(x[:, 3] - 1_700_000_000) <= set(range(50))  # float32's numbers are 128 apart there
    assert len(np.unique(x[:, 3])) > 10
    assert set(x[:, 4]) == {1_700_000_000.0, 1_700_000_001.0}
    assert set(np.unique(x[:, 1])) <= {0.0, 1.0}
    np.testing.assert_array_equal(x[:, 0], np.rint(x[:, 0]))
    assert x[:, 0].min() >= 18
    assert x[:, 0].max() <= 59
    head, *lines = (out / "samples.csv").read_text().splitlines()
    assert head == "age,sex,score,seen,batch"
    cells = [line.replace("F", "0").replace("M", "1").split(",") for line in lines]
    np.testing.assert_array_equal(np.array(cells, float), x)  # the text reads back as the same numbers

    message = refused(capsys, *common, "--domain", "agee=real", "--out", tmp_path / "other")
    assert "names the column 'agee'" in message


# files as people have them -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flowers_run(tmp_path_factory):
    """A table with a header, classes in its middle, decimals, whole numbers and holes, learnt by diffusion."""
    random, folder = np.random.default_rng(0), tmp_path_factory.mktemp("flowers")
    rows = [
        f"{random.normal(5, 1):.1f},{'abc'[random.integers(3)]},{random.integers(1, 90)},{random.normal():.17g}"
        for _ in range(60)
    ]
    (folder / "flowers.csv").write_text(
        "length,kind,petals,score\n" + "\n".join([*rows, "1.5,,3,0.5", "1.5,a,,0.5"]) + "\n"
    )
    arguments = ["train", "diffusion", "--data", str(folder / "flowers.csv"), "--label-column", "kind"]
    assert main([*arguments, "--missing", "drop", "--steps", "3", "--out", str(folder / "run"), *SMALL]) == 0
    return folder / "run"


def test_a_table_comes_back_as_it_was(flowers_run, tmp_path, capsys):
    """Columns by name, classes by name where they were, whole numbers whole, decimals as many as in the data."""
    assert main(["sample", str(flowers_run), "--num", "30", "--out", str(tmp_path / "pictures.png")]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"pictures.png", "pictures.npz", "pictures.csv"}
    assert (tmp_path / "pictures.png").read_bytes().startswith(b"\x89PNG")
    assert "pictures.csv" in capsys.readouterr().out
    for path, num in ((tmp_path / "pictures.csv", 30), (flowers_run / "samples.csv", 300)):
        head, *lines = path.read_text().splitlines()
        assert head == "length,kind,petals,score"
        assert len(lines) == num
        cells = [line.split(",") for line in lines]
        assert [row[1] for row in cells] == ["abc"[k % 3] for k in range(num)]
        assert all(len(row[0].partition(".")[2]) <= 1 and "." not in row[2] for row in cells)
        x = np.load(path.with_suffix(".npz"))["x"]
        written = np.array([[row[0], row[2], row[3]] for row in cells], float)
        assert np.all(np.abs(written - x) <= [0.0501, 0.501, 1e-7])
    spec = json.loads((flowers_run / "config.json").read_text())["data_spec"]
    assert spec["columns"] == ["length", "petals", "score"]
    assert spec["classes"] == ["a", "b", "c"]


def test_how_a_file_was_read_belongs_to_the_run(flowers_run, capsys):
    assert main(["train", "--out", str(flowers_run), "--num", "300"]) == 0
    said = capsys.readouterr().out
    assert "1 of 62 rows of" in said
    assert "have no label: left out" in said
    assert "1 of 61 rows" in said
    message = refused(capsys, "train", "--out", flowers_run, "--missing", "impute")
    assert "missing 'drop' (now 'impute')" in message
    assert main(["evaluate", str(flowers_run), "--num", "300"]) == 0


def test_names_of_files_are_meant(flowers_run, moons_run, tmp_path, capsys):
    assert "ends in '.txt'; samples are written as .npz" in refused(
        capsys, "sample", moons_run, "--out", tmp_path / "a.txt"
    )
    assert "is a folder; name a file in it" in refused(capsys, "sample", moons_run, "--out", tmp_path)
    assert "no table read from a .csv" in refused(capsys, "sample", moons_run, "--out", tmp_path / "a.csv")
    assert main(["sample", str(moons_run), "--num", "20", "--out", str(tmp_path / "plain")]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"plain.npz", "plain.png"}


def test_too_few_rows_or_samples_are_refused_before_training(tmp_path, capsys):
    np.save(tmp_path / "few.npy", np.random.default_rng(0).normal(size=(19, 2)))
    message = refused(capsys, "train", "--data", tmp_path / "few.npy", "--out", tmp_path / "run")
    assert "has 19 rows, too few to learn and to judge from: expected at least 20" in message
    message = refused(capsys, "train", "--data", "moons", "--num", 9, "--out", tmp_path / "run")
    assert "num must be at least 10" in message
    assert not (tmp_path / "run").exists()


def test_a_smallest_file_is_trained_on_and_judged(tmp_path):
    np.save(tmp_path / "few.npy", np.random.default_rng(0).normal(size=(20, 2)))
    out = tmp_path / "run"
    assert main(["train", "--data", str(tmp_path / "few.npy"), "--steps", "2", "--out", str(out), *SMALL]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["num_train"] == report["num_holdout"] == 10


def test_series_are_met_by_a_network_over_time(tmp_path, capsys):
    random = np.random.default_rng(0)
    np.save(tmp_path / "walks.npy", np.cumsum(random.normal(size=(60, 16)), axis=1))
    out, arguments = tmp_path / "run", ["--width", "8", "--depth", "1", "--num", "20", "--sample-steps", "3"]
    command = ["train", "diffusion", "--data", str(tmp_path / "walks.npy"), "--steps", "2", *arguments]
    assert main([*command, "--out", str(out)]) == 0
    assert "series of 16 times and 1 channel(s) (columns without an order: --kind table)" in capsys.readouterr().out
    assert np.load(out / "samples.npz")["x"].shape == (20, 16, 1)
    assert json.loads((out / "config.json").read_text())["data_spec"]["kind"] == "series"


def test_bad_readings(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(30, 2)))
    out = ["--out", tmp_path / "run"]
    assert "moons are made here" in refused(capsys, "train", "--data", "moons", "--missing", "drop", *out)
    message = refused(capsys, "train", "--data", tmp_path / "a.npy", "--label-column", "b", *out)
    assert "which has no label_column (--label-column); it takes missing, kind" in message
    np.save(tmp_path / "far.npy", 1.7e9 + 3600 * np.random.default_rng(0).normal(size=(30, 2)))
    message = refused(capsys, "train", "--data", tmp_path / "far.npy", "--no-standardise", *out)
    assert "runs in float32 in its own units" in message
    assert "has numbers 128 apart; standardise, or subtract a constant" in message
    (tmp_path / "pictures").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "pictures" / "a.png")
    assert "resize must be" in refused(capsys, "train", "--data", tmp_path / "pictures", "--resize", "big", *out)
    message = refused(capsys, "train", "--data", tmp_path / "a.npy", "--network", "temporal", *out)
    assert "network 'temporal' takes series, and these data are points" in message
    assert not (tmp_path / "run").exists()


def test_labels_are_the_users(tmp_path, capsys):
    """Labels 1, 2, 3 at -20, 0, 20: what is asked for is found by its name, and saved by its name."""
    labels = np.arange(300) % 3 + 1
    x = 20.0 * (labels[:, None] - 2) + np.random.default_rng(0).standard_normal((300, 2))
    np.savez(tmp_path / "numbers.npz", x=x, y=labels)
    np.savez(tmp_path / "words.npz", x=x, y=np.array(["low", "middle", "high"])[labels - 1])
    for file, first in (("numbers", "1"), ("words", "low")):
        out = tmp_path / file
        small = ["--steps", "400", "--width", "32", "--depth", "1", "--num", "30", "--learning-rate", "0.01"]
        assert main(["train", "--data", str(tmp_path / f"{file}.npz"), "--out", str(out), *small]) == 0
        assert main(["sample", str(out), "--label", first, "--num", "20", "--out", str(out / "one.npz")]) == 0
        with np.load(out / "one.npz") as one:
            assert set(one["y"].tolist()) == ({1} if first == "1" else {"low"})
            assert np.all(np.median(one["x"], axis=0) < -10)  # index 1 of the sorted labels is another class
        assert "is unknown: this run has labels" in refused(capsys, "sample", out, "--label", "0")


def test_a_run_is_found_from_any_folder_and_holds_no_absolute_path(tmp_path, monkeypatch, capsys):
    (tmp_path / "there").mkdir()
    (tmp_path / "elsewhere").mkdir()
    np.save(tmp_path / "there" / "points.npy", toys.sample("moons", 0, 300))
    monkeypatch.chdir(tmp_path / "there")
    assert main(["train", "flow_matching", "--data", "points.npy", "--steps", "5", *SMALL]) == 0
    run = tmp_path / "there" / "runs" / "points-flow_matching"
    assert str(tmp_path) not in (run / "config.json").read_text()
    monkeypatch.chdir(tmp_path / "elsewhere")
    np.save("points.npy", np.zeros((9, 5)))  # another file of that name
    assert main(["evaluate", str(run), "--num", "50"]) == 0
    assert main(["train", "--out", str(run), "--num", "50"]) == 0
    assert str(tmp_path) not in (run / "config.json").read_text()
    (tmp_path / "there" / "points.npy").rename(tmp_path / "there" / "moved.npy")
    message = refused(capsys, "evaluate", run)
    assert "the data of this run, points.npy, is no longer at" in message
    assert "move both together" in message
    assert main(["sample", str(run), "--num", "3"]) == 0


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"bridgejax {bj.__version__}\n"


# compositions ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def diffusion_run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cli") / "plain"
    arguments = ["train", "diffusion", "--data", "moons", "--steps", "20", "--out", str(directory)]
    assert main([*arguments, *SMALL]) == 0
    return directory


@pytest.mark.slow
@pytest.mark.parametrize("corrector", ["mcmc", "feynman_kac"])
def test_compose_samples_a_product_of_runs(diffusion_run, tmp_path, corrector):
    text, out = f"product({diffusion_run}, power({diffusion_run}, 0.5))", tmp_path / "product.npz"
    arguments = ["--num", "70", "--steps", "20", "--corrector", corrector, "--out", str(out)]
    assert main(["sample", "--compose", text, *arguments]) == 0
    x = np.load(out)["x"]
    assert x.shape == (70, 2)
    assert np.all(np.isfinite(x))
    assert out.with_suffix(".png").exists()


@pytest.mark.fast
def test_the_runs_of_a_composition():
    text = "product(a/run, power(b/run, 0.5), negation(c, a/run, 2), negation(d, e))"
    assert expression.runs_in(text) == ["a/run", "b/run", "c", "d", "e"]
    assert expression.runs_in("mixture(a, product(b, c), 1, 3)") == ["a", "b", "c"]


def test_a_mixture_draws_each_sample_from_one_run(moons_run, tmp_path):
    """Exact for runs of any method and units: here flows from noise to moons, at 0, and to moons at 1000."""
    np.save(tmp_path / "far.npy", 1000.0 + toys.sample("moons", 0, 600))
    far = ["train", "flow_matching", "--data", str(tmp_path / "far.npy"), "--steps", "20"]
    assert main([*far, "--out", str(tmp_path / "far"), *SMALL]) == 0
    near = ["train", "flow_matching", "--data", "moons", "--steps", "20"]
    assert main([*near, "--out", str(tmp_path / "near"), *SMALL]) == 0
    text = f"mixture({tmp_path / 'near'}, {tmp_path / 'far'}, 1, 3)"
    for num in (2000, 50):
        assert main(["sample", "--compose", text, "--num", str(num), "--out", str(tmp_path / f"{num}.npz")]) == 0
    many, few = (np.load(tmp_path / f"{num}.npz")["x"] for num in (2000, 50))
    np.testing.assert_allclose(few, many[:50], atol=1e-3)  # a sample does not depend on how many there are
    share = np.mean(many[:, 0] > 500)
    assert abs(share - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 2000)
    assert main(["sample", str(tmp_path / "far"), "--num", "50", "--out", str(tmp_path / "far.npz")]) == 0
    alone = np.load(tmp_path / "far.npz")["x"]
    from_far = few[:, 0] > 500
    np.testing.assert_allclose(few[from_far], alone[from_far], atol=1e-3)


def test_compositions_that_cannot_be(capsys, digits_run, tmp_path):
    for text, words in (
        (f"produkt({digits_run}, {digits_run})", "did you mean 'product'"),
        (f"product({digits_run}, {digits_run}", "brackets that do not match"),
        (f"product({digits_run}, )", "empty item"),
        (f"power({digits_run}, two)", "power takes a run and a number, got 'two'"),
        (f"guidance({digits_run}, 2)", "guidance takes two runs and a number, got 2 items"),
        (f"power(mixture({digits_run}, {digits_run}), 2)", "put it outermost, as in mixture(product(a, b)"),
        (f"mixture({digits_run})", "mixture takes two runs or more, then no numbers or a positive one for each"),
        (f"mixture({digits_run}, {digits_run}, 1)", "mixture takes two runs or more"),
        (f"product({tmp_path}, {digits_run})", "not a run directory"),
        ("__import__('os').system('true')", "brackets that do not match"),
    ):
        assert words in refused(capsys, "sample", "--compose", text)
    assert "one of the two" in refused(capsys, "sample")
    assert "corrector" in refused(capsys, "sample", "--compose", str(digits_run), "--corrector", "none")


@pytest.mark.slow
def test_compositions_need_one_unit_and_method(capsys, tmp_path, diffusion_run, digits_run):
    message = refused(capsys, "sample", "--compose", f"product({diffusion_run}, {digits_run})")
    assert "another shift" in message
    assert "train both with --no-standardise" in message
    record = json.loads((diffusion_run / "config.json").read_text())
    record["config"]["method"] = {"name": "bridge_matching"}
    (tmp_path / "config.json").write_text(json.dumps(record))
    assert "method diffusion" in refused(capsys, "sample", "--compose", f"product({diffusion_run}, {tmp_path})")
