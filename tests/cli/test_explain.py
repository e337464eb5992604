"""``bridgejax explain``: on a run, and on an exact process of Gaussian data, where everything is known."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bridgejax as bj
from bridgejax.cli import explain, main
from bridgejax.data import toys
from bridgejax.oracles import gaussian_flow, gaussian_law

SMALL = ["--width", "16", "--depth", "1", "--num", "100"]


@pytest.fixture(scope="module")
def edm_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    np.save(folder / "data.npy", toys.sample("moons", 0, 300))
    given = ["train", "edm", "--data", str(folder / "data.npy"), "--steps", "20", "--out", str(folder / "run"), *SMALL]
    assert main(given) == 0
    return folder / "run"


def test_a_run_is_explained(edm_run, capsys):
    assert main(["explain", str(edm_run), "--num", "8", "--modes", "2"]) == 0
    printed = capsys.readouterr().out
    assert "share of the learnt score that simpler models explain" in printed
    assert "explain.png" in printed
    found = json.loads((edm_run / "explain.json").read_text())
    assert set(found["explained"]) == {"isotropic", "gaussian", "mixture", "points"}
    assert all(len(shares) == len(found["levels"]) for shares in found["explained"].values())
    assert np.all(np.diff(found["levels"]) > 0)
    assert len(found["emergence"]["model"]) == len(found["variances"]) == 2
    assert (edm_run / "explain.png").read_bytes().startswith(b"\x89PNG")


def test_gaussian_data_explain_themselves():
    """The exact flow of a Gaussian: all four measurements are those of the formula."""
    law = gaussian_law(np.zeros(3), np.array([4.0, 0.5, 0.05]))
    schedule = bj.schedules.karras()
    flow = bj.probability_flow(schedule, denoiser=gaussian_flow(law, schedule).denoiser)
    process = bj.Process(bj.starts.normal((3,), 80.0), flow, bj.grids.karras(80))
    rows = np.asarray(jax.vmap(law)(bj.keys(jax.random.key(0), 4000)))
    found = explain.explanation(process, explain.Rows(rows), explain.Rows(rows[:500]), num=64, modes=2, seed=0)
    np.testing.assert_allclose(found["explained"]["gaussian"], 1.0, atol=0.01)
    np.testing.assert_allclose(found["emergence"]["model"], found["emergence"]["gaussian"], rtol=0.06)
    np.testing.assert_allclose(found["kicks"]["model"], found["kicks"]["gaussian"], rtol=0.06, atol=2e-3)
    np.testing.assert_allclose(*found["trajectory"].values(), atol=1e-3)
    lines = explain.table(found).splitlines()
    assert lines[2].split()[0] == f"{found['levels'][0]:.3g}"
    assert len({len(line) for line in lines[1 : 2 + len(found["levels"])]}) == 1


@pytest.fixture(scope="module")
def labelled_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    x = np.concatenate([toys.sample("moons", 0, 150), toys.sample("moons", 1, 150) + 8.0])
    np.savez(folder / "data.npz", x=x, y=np.repeat([3, 7], 150))
    given = ["train", "edm", "--data", str(folder / "data.npz"), "--steps", "20", "--out", str(folder / "run"), *SMALL]
    assert main(given) == 0
    return folder / "run"


def test_a_run_with_classes_is_told_its_labels_and_says_so(labelled_run, capsys):
    found = {}
    for label in ("", "3", "7"):
        given = ["--label", label] if label else []
        assert main(["explain", str(labelled_run), "--num", "4", "--modes", "1", *given]) == 0
        said = f"the model is told label {label}" if label else "the model is told each row's own label"
        assert said in capsys.readouterr().out
        found[label] = json.loads((labelled_run / "explain.json").read_text())
    assert max(found[""]["variances"]) > 2 * max(found["3"]["variances"])  # the classes lie apart
    assert found["3"]["explained"]["gaussian"] != found["7"]["explained"]["gaussian"]


def test_a_label_reaches_all_that_the_model_is_asked():
    """A denoiser that shrinks by its label explains and moves as one that shrinks by as much and is told nothing."""

    schedule, x = bj.schedules.karras(10.0), np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)

    def explained(own, untold=0):
        def denoiser(t, x, label):
            return x * jnp.array([1.0, 0.3]) / (2.0 + (untold if label is None else label))

        process = bj.Process(
            bj.starts.normal((2,), 10.0),
            bj.probability_flow(schedule, denoiser=denoiser),
            bj.grids.karras(8, sigma_max=10.0),
        )
        rows = explain.Rows(x, own)
        found = explain.explanation(process, rows, rows, num=8, modes=1, seed=0)
        return *found["explained"].values(), found["trajectory"]["model"][:1], *found["kicks"]["model"]

    found = {shrinks: explained(np.full(40, shrinks, np.int32)) for shrinks in (0, 2)}
    for shrinks, told in found.items():
        for one, other in zip(told, explained(None, shrinks), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    for one, other, mixed in zip(*found.values(), explained(np.resize(np.int32([0, 2]), 40)), strict=True):
        assert np.all(np.abs(np.subtract(one, other)) > 1e-6)
        assert np.all(np.abs(np.subtract(one, mixed)) > 1e-6)


def test_a_label_that_is_not_there_is_refused(labelled_run, edm_run, capsys):
    assert main(["explain", str(labelled_run), "--label", "4"]) == 1
    assert "label '4' is unknown: this run has labels 3, 7" in capsys.readouterr().err
    assert main(["explain", str(edm_run), "--label", "4"]) == 1
    assert "label '4' is unknown: this run has no labels" in capsys.readouterr().err


def test_sample_teleports_and_says_what_it_saves(edm_run, tmp_path, capsys):
    out = tmp_path / "fast.npz"
    assert main(["sample", str(edm_run), "--num", "70", "--teleport", "--out", str(out)]) == 0
    said = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("teleported"))
    run, rows = bj.load(edm_run), np.load(edm_run.parent / "data.npy")
    saved = int(said.split(": ")[1].split(" of 18 evaluations")[0])
    assert 5 <= saved <= 12  # data of deviation 1 are Gaussian down to a noise of about 2
    law = bj.oracles.fit_gaussian(run.to_model(rows))
    fast = bj.teleport(run.process, law, snr=0.3)  # of all rows, where the command has four in five
    close = run._replace(process=fast).sample(bj.keys(jax.random.key(1), 70))
    assert np.abs(np.load(out)["x"] - close).max() < 0.2 * rows.std()


def test_teleporting_what_does_not_start_from_noise_is_refused(edm_run, capsys):
    assert main(["sample", str(edm_run), "--teleport", "--direction", "backward"]) == 1
    assert "teleport skips the first steps from noise" in capsys.readouterr().err


def test_what_is_no_run_of_diffusion_is_refused(tmp_path, capsys):
    for name, law in (("a", "8gaussians"), ("b", "moons")):
        np.save(tmp_path / f"{name}.npy", toys.sample(law, 0, 100))
    ends = ["--source", str(tmp_path / "a.npy"), "--target", str(tmp_path / "b.npy")]
    assert main(["train", "bridge_matching", *ends, "--steps", "2", "--out", str(tmp_path / "run"), *SMALL]) == 0
    capsys.readouterr()
    assert main(["explain", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert "method 'bridge_matching' has no denoiser on a noise schedule that starts from noise" in error
    assert not (tmp_path / "run" / "explain.json").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--num", "1"], "num must be at least 2"),
        (["--modes", "0"], "modes must be positive"),
        (["--seed", "-1"], "seed must be 0 or more"),
    ],
)
def test_numbers_that_cannot_be_are_refused(edm_run, capsys, given, message):
    assert main(["explain", str(edm_run), *given]) == 1
    assert message in capsys.readouterr().err


def test_a_run_that_is_not_there_is_refused_before_jax_is_imported(tmp_path):
    code = (
        "import sys; from bridgejax.cli import main; status = main(['explain', sys.argv[1]]); "
        "print(status, 'jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1 False"
    assert "not a run directory" in done.stderr
