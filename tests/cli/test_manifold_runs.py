"""Points on a manifold by words: a run from a file of places, its report in the file's units, and what is refused."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import nnx

import bridgejax as bj
from bridgejax.cli import main, on_manifold
from bridgejax.methods._setup import DataSpec
from bridgejax.runs import directory as runs
from bridgejax.runs.build import build, make_network
from bridgejax.runs.config import configure
from bridgejax.runs.data import load_run_data
from bridgejax.runs.registry import specs

METHODS = sorted(name for name, spec in specs().items() if spec.on_manifold)
SMALL = ["--width", "8", "--depth", "1", "--batch-size", "16", "--num", "60"]


def refused(capsys, *arguments):
    """Exit status 1, and the one line on stderr."""
    assert main([str(a) for a in arguments]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bridgejax:")]
    assert len(lines) == 1
    return lines[0]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Places with a header, comments and copies; angles beside text; rotations."""
    folder, random = tmp_path_factory.mktemp("points"), np.random.default_rng(0)
    places = np.round(np.stack([random.normal(-20, 8, 150), random.normal(179, 9, 150) % 360], axis=1), 2)
    lines = [f"{a},{b}" for a, b in [*places, *places[:30]]]
    (folder / "quakes.csv").write_text("# of a catalogue\nlat,lon\n" + "\r\n".join(lines) + "\r\n")
    angles = np.round(random.uniform(-180, 180, (80, 3)), 3)
    rows = [f"{k // 7}abc\tG\t" + "\t".join(map(str, row)) for k, row in enumerate(angles)]
    (folder / "angles.tsv").write_text("\n".join(rows) + "\n")
    q = random.normal(size=(60, 4))
    np.save(folder / "turns.npy", q / np.linalg.norm(q, axis=1, keepdims=True))
    return folder


@pytest.fixture(scope="module")
def run(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "quakes"
    words = ["train", "--manifold", "sphere", "--data", str(files / "quakes.csv"), "--steps", "5", "--out", str(out)]
    assert main([*words, "--sample-steps", "5", *SMALL]) == 0
    return out


def test_a_newcomer_gets_a_run_in_the_files_own_units(run, files, tmp_path, capsys):
    assert json.loads((run / "config.json").read_text())["config"]["method"]["name"] == "riemannian_flow"
    names = {path.name for path in run.iterdir()}
    assert names >= {"samples.npz", "samples.csv", "samples.png", "report.json", "loss.png"}
    found = json.loads((run / "report.json").read_text())["likelihood"]
    assert found["uniform"] == pytest.approx(np.log(4 * np.pi))
    assert np.isfinite(found["model"])
    assert found["kernel"] < found["uniform"]
    assert main(["sample", str(run), "--num", "12", "--out", str(tmp_path / "some.npz")]) == 0
    x = np.load(tmp_path / "some.npz")["x"]
    assert x.shape == (12, 2)
    assert np.all(np.abs(x[:, 0]) <= 90)
    assert np.all((x[:, 1] >= 0) & (x[:, 1] <= 360))  # as the file has them
    head, *lines = (tmp_path / "some.csv").read_text().splitlines()
    assert head == "lat,lon"
    assert np.allclose([list(map(float, line.split(","))) for line in lines], x, atol=0.0051)
    np.testing.assert_allclose(np.load(run / "samples.npz")["x"].shape, (60, 2))
    assert (tmp_path / "some.png").exists()
    assert main(["train", "--out", str(run), "--num", "60"]) == 0  # a finished run: said and drawn again
    said = capsys.readouterr().out
    assert "read as latitude and longitude in degrees, on Sphere(d=2); 150 of 180 rows are distinct" in said
    assert "held-out rows, nats (lower is better): model" in " ".join(said.split())


def test_from_python_a_run_samples_and_scores_rows(run):
    loaded = bj.load(run)
    rows = loaded.sample(bj.keys(jax.random.key(0), 6))
    assert rows.shape == (6, 2)
    assert rows.dtype == np.float64
    x = loaded.to_model(rows)
    assert x.shape == (6, 3)
    np.testing.assert_allclose(loaded.to_data(x), rows, atol=1e-4)
    every = bj.keys(jax.random.key(1), 6)
    found = loaded.log_prob(every, rows)
    np.testing.assert_allclose(found.value, loaded.log_prob(every, x, units="model").value, atol=1e-3)
    drawn = bj.sample(loaded.process, bj.keys(jax.random.key(0), 6))
    np.testing.assert_allclose(drawn, rows, atol=1e-3)  # the process decodes on the device
    with pytest.raises(ValueError, match="hold knows coordinates of vectors, and this run has points on a manifold"):
        loaded.hold([True, False, False], [1.0, 0.0, 0.0])


def test_the_density_on_the_map_has_mass_one(run):
    """Over the uniform density, in rows of cells whose area is as the cosine of their latitude."""
    loaded = bj.load(run)
    known = loaded.units.coordinates
    rows = loaded.sample(bj.keys(jax.random.key(0), 60))
    latitudes, longitudes, values = on_manifold.density_map(loaded, known, rows)
    assert values.shape == (len(latitudes), len(longitudes))
    weights = np.cos(np.deg2rad(latitudes))
    assert weights @ values.mean(axis=1) / weights.sum() == pytest.approx(1.0, abs=5e-3)
    at = on_manifold.log_density(loaded, known.to_points([[latitudes[30], longitudes[50]]]))
    assert np.exp(at[0]) * 4 * np.pi == pytest.approx(values[30, 50], rel=0.02)  # adaptive steps against twenty
    assert on_manifold.density_map(loaded, dataclasses.replace(known, manifold="torus"), rows) is None


def test_the_map_of_a_model_without_a_density_is_of_its_samples(run, monkeypatch):
    """Here around 10 S 100 W, in the file's own way of writing it."""
    loaded = bj.load(run)
    monkeypatch.setattr(on_manifold, "has_density", lambda run: False)
    rows = np.random.default_rng(0).normal([-10.0, 260.0], 3.0, (300, 2))
    latitudes, longitudes, values = on_manifold.density_map(loaded, loaded.units.coordinates, rows)
    up, along = np.unravel_index(np.argmax(values), values.shape)
    assert abs(latitudes[up] + 10) < 5
    assert abs(longitudes[along] + 100) < 5
    weights = np.cos(np.deg2rad(latitudes))
    assert weights @ values.mean(axis=1) / weights.sum() == pytest.approx(1.0, abs=0.02)


def test_equal_rows_are_on_one_side_of_the_split(files):
    config = configure("riemannian_flow", manifold="sphere", data=str(files / "quakes.csv"))
    data = load_run_data(config)
    assert len(data.train) + len(data.holdout) == 180
    train, holdout = ({tuple(row) for row in half.values} for half in (data.train, data.holdout))
    assert not train & holdout
    assert len(holdout) == 30
    assert data.spec(config).decimals == (2, 2)


def test_labels_of_an_archive_are_left_out(tmp_path):
    """Two classes are not two groups of which one is held out."""
    q = np.random.default_rng(0).normal(size=(60, 4))
    np.savez(tmp_path / "turns.npz", x=q, y=np.arange(60) % 2)
    words = {"manifold": "so3", "data": str(tmp_path / "turns.npz"), "project": True}
    data = load_run_data(configure("riemannian_flow", **words))
    assert (len(data.train), len(data.holdout)) == (48, 12)
    assert data.train.labels is None


def test_groups_of_rows_are_on_one_side_of_the_split(files):
    """The first column of the angles names twelve structures of seven rows (the last of three)."""
    words = {"manifold": "torus", "data": str(files / "angles.tsv"), "columns": "3-5"}
    data = load_run_data(configure("riemannian_flow", group_column="1", **words))
    assert len(data.train) + len(data.holdout) == 80
    assert len(data.holdout) in (10, 14)  # two of twelve
    assert "12 groups of rows, each on one side" in data.train.notes[-1]
    lines = [line.split("\t") for line in (files / "angles.tsv").read_text().splitlines()]
    group = {tuple(map(float, line[2:])): line[0] for line in lines}
    train, holdout = ({group[tuple(row)] for row in half.values} for half in (data.train, data.holdout))
    assert not train & holdout
    assert len(train | holdout) == 12


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("manifold", "file", "more", "said", "shape", "count"),
    [
        ("torus", "angles.tsv", {"columns": "3-5"}, "3 angles in degrees", (3,), 3),
        ("so3", "turns.npy", {}, "unit quaternions", (3, 3), 4),
    ],
)
def test_every_method_learns_and_writes_back_by_shapes(
    method, manifold, file, more, said, shape, count, files, tmp_path
):
    config = configure(method, manifold=manifold, data=str(files / file), width=8, depth=1, batch_size=8, **more)
    data = load_run_data(config)
    assert f"read as {said}" in data.train.notes[-1]
    spec = data.spec(config)
    assert spec.shape == shape
    runs.write_config(tmp_path, config, spec, 3)
    record = runs.read_config(tmp_path)
    assert runs.read_spec(tmp_path, record).coordinates == data.coordinates
    made = build(config, spec, steps=3, units="model")
    state = jax.eval_shape(made.init, jax.random.key(0), None)
    after, metrics = jax.eval_shape(made.step, state, jax.random.key(0), data.train.x[:8])
    assert metrics["loss"].shape == ()
    assert jax.tree.structure(after) == jax.tree.structure(state)
    decode = runs.make_decode(spec, "data")

    def draw(state):
        process = made.process(state)
        return decode(jax.random.key(1), bj.sample(process, bj.keys(jax.random.key(1), 1))[0], None)

    assert jax.eval_shape(draw, state).shape == (count,)


def test_settings_of_the_methods_are_heard(files):
    common = {"manifold": "so3", "data": str(files / "turns.npy"), "width": 8, "depth": 1}
    spec = load_run_data(configure("projected", **common)).spec(configure("projected", **common))

    def process(method, **settings):
        made = build(configure(method, **common, **settings), spec, steps=3)
        return jax.eval_shape(lambda key: made.process(made.init(key, None)), jax.random.key(0))

    for method in METHODS:
        assert process(method, sample_steps=7).ts.shape == (8,)
    assert process("riemannian_score", sampler="sde").dynamics.diffusion is not None
    assert process("riemannian_score").dynamics.diffusion is None
    plain = configure("riemannian_flow", manifold="so3", data=common["data"])
    network = nnx.eval_shape(lambda: make_network(plain.network, spec, 0, shape=(9,), outputs=(9,)))
    assert (network.width, network.depth) == (256, 4)
    with pytest.raises(ValueError, match="sigma"):
        process("manifold_bridge", sigma=-1.0)
    with pytest.raises(ValueError, match="data must be points on a manifold: give --manifold"):
        build(configure("projected"), DataSpec((2,), "points", 0, np.zeros(2), np.ones(2)), steps=2)


def test_words_that_do_not_go_together(files, tmp_path, capsys):
    quakes, out = files / "quakes.csv", ["--out", tmp_path / "run"]
    for words, said in (
        (["riemannian_flow", "--data", quakes], "say which, --manifold sphere, torus or so3"),
        (["riemannian_flow", "--manifold", "sphere"], "needs a file of points on the sphere, --data"),
        (["--manifold", "so3", "--data", files / "turns.npy", "--group-column", "1"], "is not: give a .csv file"),
        (["--manifold", "sphere", "--data", "moons"], "'moons' is a set of points in the plane or of images"),
        (["diffusion", "--manifold", "sphere", "--data", quakes], "leave --manifold out, or use one of riem"),
        (["--manifold", "sphere", "--data", quakes, "--angles", "radians"], "of a sphere latitude and longitude are"),
        (["--manifold", "torus", "--data", quakes, "--project"], "angles are wrapped anyway: leave --project out"),
        (["--manifold", "sphere", "--data", quakes, "--missing", "impute"], "use --missing drop"),
        (["--manifold", "sphere", "--data", quakes, "--label-column", "lat"], "and perhaps --group-column"),
        (["--manifold", "so3", "--data", quakes], "has 2 columns, and manifold so3 takes 9 columns"),
        (["--manifold", "sphere", "--data", quakes, "--columns", "lon,lat"], "latitude comes first: --columns lat,lon"),
        (["--manifold", "torus", "--data", files / "angles.tsv"], "--columns says which are read"),
        (["--manifold", "torus", "--data", files / "angles.tsv", "--columns", "3-9"], "numbers from 1 to 5, as in 3-9"),
    ):
        assert said in refused(capsys, "train", *words, *out), words
    (tmp_path / "few.csv").write_text("1.5,2.5\n" * 50 + "2.5,99.5\n")
    assert "has 2 distinct rows, too few" in refused(
        capsys, "train", "--manifold", "sphere", "--data", tmp_path / "few.csv", "--header", "no", *out
    )
    (tmp_path / "hole.csv").write_text("1,2\n3,\n" * 30)
    assert "missing='drop'" in refused(capsys, "train", "--manifold", "sphere", "--data", tmp_path / "hole.csv", *out)
    assert not (tmp_path / "run").exists()
