"""Bridges between a user's two data sets: every method, both directions, which end is which, and what is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import bridgejax as bj
from bridgejax.cli import main
from bridgejax.methods._setup import DataSpec
from bridgejax.runs import directory as runs
from bridgejax.runs.about import describe
from bridgejax.runs.build import build
from bridgejax.runs.config import configure
from bridgejax.runs.data import load_run_data
from bridgejax.runs.registry import specs

TINY = ["--batch-size", "16", "--steps", "10", "--num", "12"]
LIGHT = ["--components", "3"]
NETWORK = ["--width", "8", "--depth", "1"]
WITH_BACK = {"dsbm", "sf2m", "dsb", "simplified_dsb", "lightsb", "lightsb_m", "bdbm"}
BRIDGES = {name: spec for name, spec in specs().items() if spec.data in ("two sets", "pairs")}
PAIRED = {"augmented_bridge", "i2sb", "ddbm", "bdbm"}


def test_the_paired_methods():
    assert {name for name, bridge in BRIDGES.items() if bridge.paired} == PAIRED


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """a and b: rows that correspond, b = rotated a; i and j: images, j the negative of i."""
    folder, random = tmp_path_factory.mktemp("ends"), np.random.default_rng(0)
    a = random.normal(size=(60, 2)) * [1.0, 3.0] + [5.0, 0.0]
    i = random.integers(0, 256, (60, 4, 4)).astype(np.uint8)
    for name, x in {"a": a, "b": a @ [[0, 1], [-1, 0]], "three": a[:, [0, 1, 1]], "short": a[:50], "i": i}.items():
        np.save(folder / f"{name}.npy", x)
    np.save(folder / "j.npy", 255 - i)
    return folder


def refused(capsys, *arguments):
    """Exit status 1, and the one line on stderr."""
    assert main([str(a) for a in arguments]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bridgejax:")]
    assert len(lines) == 1
    return lines[0]


def unknown(capsys, *arguments):
    """Exit status 2, and what is said of words that the parser does not have, in one line."""
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    assert stop.value.code == 2
    return " ".join(capsys.readouterr().err.replace("│", " ").split())


def train(files, name, out, *more, ends=("a", "b"), to=main):
    both = ["--source", str(files / f"{ends[0]}.npy"), "--target", str(files / f"{ends[1]}.npy")]
    size = LIGHT if name.startswith("lightsb") else NETWORK
    return to(["train", name, *both, *TINY, *size, "--out", str(out), *more])


@pytest.mark.parametrize(
    ("name", "shape"), [*((name, (2,)) for name in sorted(BRIDGES)), ("lightsb", (8, 8, 1)), ("bdbm", (8, 8, 1))]
)
def test_every_method_fits_arrays_and_images_and_runs_its_ways(name, shape):
    """By shapes alone: nothing is compiled. The command itself is run below, by the slow tests for every method."""
    source = np.zeros((6, *shape), np.float32) + np.arange(6).reshape(6, *(1,) * len(shape))
    kind = "points" if len(shape) == 1 else "image"
    spec = DataSpec(shape, kind, 0, np.zeros(()), np.ones(()), 1.0, source)
    size: dict = {"components": 3} if not specs()[name].network else {"width": 8, "depth": 1, "network": "mlp"}
    config = configure(name, batch_size=4, **size)
    method = build(config, spec, steps=4)
    rows = runs._rows(config, spec)
    state = runs._structure(method, rows)
    after, metrics = jax.eval_shape(
        method.step, state, jax.random.key(0), {n: x[[0, 1, 1, 0]] for n, x in rows.items()}
    )
    assert metrics["loss"].shape == ()
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)

    def run(state, x, back):
        process = method.process(state)
        args = x if name in PAIRED else None
        sde = process.backward if back else process.dynamics
        begin = process.start(jax.random.key(1), args)
        end = bj.simulate(sde, jax.random.key(0), begin, process.ts, args)
        return end if back else process.decode(jax.random.key(2), end, args)

    start = jnp.asarray(source[0])
    assert jax.eval_shape(lambda s, x: run(s, x, False), state, start).shape == shape
    assert (jax.eval_shape(method.process, state).backward is not None) == (name in WITH_BACK)
    if name in WITH_BACK:
        assert jax.eval_shape(lambda s, x: run(s, x, True), state, start).size == np.prod(shape)


# the command --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def light_run(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("light") / "run"
    assert train(files, "lightsb", out, "--epsilon", "0.25") == 0
    return out


def test_a_bridge_is_drawn_with_its_paths_both_ways(light_run):
    with Image.open(light_run / "paths.png") as picture:
        assert picture.size == (1000, 560)


def test_the_report_says_which_end_is_which_and_the_noise_with_units(light_run, files):
    bridge = json.loads((light_run / "report.json").read_text())["bridge"]
    assert (bridge["source"], bridge["target"]) == (str(files / "a.npy"), str(files / "b.npy"))
    assert (bridge["sigma"], bridge["epsilon"], bridge["scaled"]) == (0.5, 0.25, True)
    scale = np.load(files / "b.npy").std(axis=0)
    np.testing.assert_allclose(bridge["scale"], scale)
    raw = ", ".join(f"{v:.4g}" for v in (0.5 * scale) ** 2)
    assert any(f"epsilon = sigma^2 = {raw} per unit time by column" in line for line in bridge["words"])
    assert json.loads((light_run / "report-backward.json").read_text())["metrics"]["energy"]["floor"] > 0


def test_units_are_the_datas_own_without_standardising(files):
    spec = DataSpec((2,), "points", 0, np.zeros(2), np.ones(2), 1.0, np.zeros((2, 2)))
    config = configure("dsbm", epsilon=0.1, standardise=False)
    bridge = describe(config, spec, "a", "b", backward=True)
    assert not bridge["scaled"]
    assert bridge["epsilon"] == pytest.approx(0.1)
    assert any("data not scaled" in line for line in bridge["words"])


def test_both_directions_are_sampled(light_run, files, tmp_path):
    """Landing backward is on a row of the source, whatever was learnt: the units must be right for that."""
    out = tmp_path / "back.npz"
    assert main(["sample", str(light_run), "--direction", "backward", "--num", "5", "--out", str(out)]) == 0
    back = np.load(out)["x"]
    gaps = np.abs(back[:, None] - np.load(files / "a.npy")[None]).max(-1).min(1)
    assert gaps.max() < 1e-4
    given = ["--start", str(files / "short.npy"), "--out", str(tmp_path / "x.npz"), "--num", "3"]
    assert main(["sample", str(light_run), *given]) == 0
    assert np.isfinite(np.load(tmp_path / "x.npz")["x"]).all()
    assert (tmp_path / "x.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("ends", [("a", "b"), ("i", "j")], ids=["points", "images"])
@pytest.mark.parametrize("name", sorted(BRIDGES))
def test_train_and_sample_both_ways(name, ends, files, tmp_path, capsys):
    out, shape = tmp_path / "run", (2,) if ends[0] == "a" else (4, 4, 1)
    assert train(files, name, out, ends=ends) == 0
    assert np.load(out / "samples.npz")["x"].shape == (12, *shape)
    report = json.loads((out / "report.json").read_text())
    assert report["bridge"]["backward"] == (name in WITH_BACK)
    assert ("rmse_to_own_target" in report["bridge"]) == (name in PAIRED)
    before = (out / "samples.npz").read_bytes()
    assert main(["train", "--out", str(out), "--num", "12"]) == 0
    assert (out / "samples.npz").read_bytes() == before
    back = ["sample", str(out), "--direction", "backward", "--num", "3"]
    if name not in WITH_BACK:
        assert "has no backward process" in refused(capsys, *back)
        return
    assert main(back) == 0
    assert np.load(out / "samples-backward-1.npz")["x"].shape == (3, *shape)
    assert (out / "samples-backward-1.png").exists()


@pytest.mark.slow
def test_simplified_dsb_starts_from_a_bridge_matching_run(files, tmp_path, capsys):
    assert train(files, "bridge_matching", tmp_path / "first") == 0
    initial = ["--initial", str(tmp_path / "first")]
    assert train(files, "simplified_dsb", tmp_path / "second", *initial) == 0
    bridge = json.loads((tmp_path / "second" / "report.json").read_text())["bridge"]
    assert bridge["round"] == 10  # that of the run, and one at every update but the first
    assert any(line.startswith("round 10: paths simulated for it end") for line in bridge["words"])
    turned = train(
        files, "simplified_dsb", tmp_path / "third", *initial, ends=("b", "a"), to=lambda a: refused(capsys, *a)
    )
    assert "give a run between the same ends, in the same order" in turned
    wide = [*initial, "--width", "16"]
    message = train(files, "simplified_dsb", tmp_path / "third", *wide, to=lambda a: refused(capsys, *a))
    assert "another architecture than network; make network as that run did" in message
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize(("name", "more"), [("vsdm", []), ("latent_sb", []), ("latent_sb", ["--latent", "1"])])
def test_one_data_set_alone(name, more, files, tmp_path):
    out = tmp_path / "run"
    assert main(["train", name, "--data", str(files / "a.npy"), *TINY, *NETWORK, *more, "--out", str(out)]) == 0
    x = np.load(out / "samples.npz")["x"]
    assert x.shape == (12, 2)
    assert main(["sample", str(out), "--num", "12", "--seed", "1"]) == 0
    np.testing.assert_array_equal(np.load(out / "samples-1.npz")["x"], x)  # read back, rows and codec too
    if more:  # one principal component: samples lie on a line
        line = np.linalg.svd(x - x.mean(axis=0), compute_uv=False)
        assert line[1] < 1e-4 * line[0]


def test_a_sorted_file_is_started_from_everywhere(tmp_path):
    """The rows that a bridge keeps to start from are like all rows, whatever the order of the file."""
    x = np.sort(np.random.default_rng(0).normal(size=(20_000, 1)), axis=0)
    np.save(tmp_path / "x.npy", x)
    path = str(tmp_path / "x.npy")
    config = configure("lightsb", components=3, source=path, target=path)
    spec = load_run_data(config).spec(config)
    method = build(config, spec, steps=4)
    start = method.process(runs._structure(method, runs._rows(config, spec))).start.args[0]
    for rows in (spec.source, start):
        assert abs(np.mean(rows)) < 5 / np.sqrt(len(rows))
        assert abs(np.std(rows) - 1.0) < 5 / np.sqrt(2 * len(rows))


# what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("dsbm", ["--sigma", "0"], "sigma must be positive for method 'dsbm', got 0"),
        ("sf2m", ["--epsilon", "-1"], "epsilon must be positive for method 'sf2m', got -1"),
        ("bdbm", ["--sigma", "nan"], "sigma must be positive"),
        ("lightsb", ["--sigma", "1", "--epsilon", "2"], "contradict each other, epsilon being sigma^2 = 1; give one"),
        ("simplified_dsb", ["--initial", "nowhere"], "nowhere is not a run directory"),
        ("dsbm", ["--steps-per-round", "-3"], "steps_per_round must be at least 1, got -3"),
        ("lightsb", ["--components", "0"], "components must be at least 1"),
        (
            "gsbm",
            [],
            "'gsbm' is used from Python: it needs a cost, which is a function",
        ),
        ("simplified_dsb", ["--initial", "nowhere", "--predict", "mean"], "nowhere is not a run directory"),
        ("augmented_bridge", ["--network", "transformer"], "takes images"),
    ],
)
def test_settings_that_do_not_fit(name, more, words, files, tmp_path, capsys):
    assert words in train(files, name, tmp_path / "run", *more, to=lambda a: refused(capsys, *a))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("ddbm", ["--sigma", "1"]),
        ("ddbm", ["--schedule", "cosine"]),
        ("i2sb", ["--coupling", "ot"]),
        ("dsbm", ["--coupling", "sinkhorn"]),
        ("dsbm", ["--coupling", "paired"]),
        ("dsbm", ["--predict", "eps"]),
        ("dsbm", ["--sampler", "ode"]),
        ("simplified_dsb", ["--predict", "eps"]),
        ("dsbm", ["--initial", "run"]),
        ("sf2m", ["--steps-per-round", "5"]),
        ("dsbm", ["--schedule", "vp"]),
        ("bdbm", ["--components", "4"]),
        ("i2sb", ["--domain", "sphere"]),
        ("flow_matching", ["--sigma", "1"]),
        ("dsb", ["--accumulate", "2"]),
        ("dsb", ["--condition-dropout", "0.5"]),
    ],
)
def test_words_that_a_method_does_not_have_are_unknown_to_its_parser(name, more, files, tmp_path, capsys):
    message = train(files, name, tmp_path / "run", *more, to=lambda a: unknown(capsys, *a))
    assert more[0] in message
    assert f"bridgejax train {name} --help" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["vsdm", "diffusion", "constrained"])
def test_a_method_of_one_set_takes_no_source(name, files, tmp_path, capsys):
    assert "--source" in train(files, name, tmp_path / "run", to=lambda a: unknown(capsys, *a))


def test_ends_that_do_not_fit(files, tmp_path, capsys):
    def message(name, *ends):
        return train(files, name, tmp_path / "run", ends=ends, to=lambda a: refused(capsys, *a))

    assert "needs one shape at both ends: crop, resize or project" in message("dsbm", "three", "b")
    assert "different numbers of rows" in message("bdbm", "short", "b")
    assert "does not exist" in message("lightsb", "absent", "b")
    out = ["--out", tmp_path / "run"]
    assert "'dsb' needs both ends: give --source and --target" in refused(capsys, "train", "dsb", *out)
    target = ["--target", files / "b.npy"]
    assert "needs both ends" in refused(capsys, "train", "i2sb", *target, *out)
    toys = ["--source", "moons", "--target", "8gaussians"]
    assert "'moons' is drawn at random" in refused(capsys, "train", "ddbm", *toys, *out)
    assert not (tmp_path / "run").exists()


def test_samples_that_cannot_be_asked_for(light_run, files, capsys):
    assert "did you mean 'backward'" in refused(capsys, "sample", light_run, "--direction", "backwards")
    assert "samples of shape (3,), this run (2,)" in refused(
        capsys, "sample", light_run, "--start", files / "three.npy"
    )


def test_a_chain_is_sampled_with_its_own_steps(tmp_path):
    spec = DataSpec((2,), "points", 0, np.zeros(2), np.ones(2), 1.0, np.zeros((4, 2), np.float32))
    runs.write_config(tmp_path, configure("dsb"), spec, 1)
    with pytest.raises(ValueError, match="sample_steps of method 'dsb' decided what was learnt; nothing may change"):
        bj.load(tmp_path, sample_steps=5)
