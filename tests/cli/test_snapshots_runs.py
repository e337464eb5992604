"""Snapshots in time from a table: what the command reads, what it refuses, and a run that is read back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bridgejax as bj
from bridgejax.cli import main
from bridgejax.runs.build import build
from bridgejax.runs.config import configure
from bridgejax.runs.data import load_run_data, make_batches
from bridgejax.runs.registry import specs

IN_TIME = sorted(name for name, spec in specs().items() if spec.in_time)
TIMES = (0.0, 1.0, 2.5)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path, random = tmp_path_factory.mktemp("time") / "cells.csv", np.random.default_rng(0)
    rows = [f"{random.normal(3 + t):.4f},{t:g},{random.normal(-t, 0.2):.4f}" for t in TIMES for _ in range(50)]
    path.write_text("a,day,b\n" + "\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("name", IN_TIME)
def test_every_method_fits_what_a_table_holds(name, table):
    """By shapes alone: nothing is compiled."""
    config = configure(name, data=str(table), time_column="day", batch_size=8, width=8, depth=1)
    data = load_run_data(config)
    spec, batches = data.spec(config), make_batches(data, config)
    assert spec.times == TIMES
    assert spec.columns == ("a", "b")
    assert len(data.train) == len(data.source) == 40
    assert len(data.holdout) == 10
    every = np.concatenate(data.snapshots.arrays)
    np.testing.assert_allclose(every.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(data.train.destandardise(data.train.x), data.train.values, rtol=1e-5)
    method = build(config, spec, steps=4)
    state = jax.eval_shape(method.init, jax.random.key(0), None)
    after, metrics = jax.eval_shape(method.step, state, jax.random.key(0), batches.batch(0))
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    assert metrics["loss"].shape == ()
    drawn = jax.eval_shape(
        lambda s, k: bj.sample(bj.stop(method.process(s), 1.5), bj.keys(k, 3)), state, jax.random.key(0)
    )
    assert drawn.shape == (3, 2)


@pytest.mark.slow
def test_a_run_is_made_and_read_back(table, tmp_path):
    out = tmp_path / "run"
    words = ["--data", str(table), "--time-column", "day", "--batch-size", "16", "--steps", "3", "--num", "12"]
    assert main(["train", "action_matching", *words, "--width", "8", "--depth", "1", "--out", str(out)]) == 0
    run = bj.load(out, sample_steps=5)
    drawn = run.sample(bj.keys(jax.random.key(0), 4))
    assert drawn.shape == (4, 2)
    assert run.process.dynamics.T == 2.5
    assert (out / "samples.csv").exists()


REFUSED = {
    "no data": ([], "needs a file of snapshots in time, --data FILE.csv, and none was given"),
    "a toy": (["--data", "moons"], "'moons' has no times"),
    "no column": (["--data", "TABLE"], "time_column 'time' is no column of"),
    "a measurement": (["--data", "TABLE", "--time-column", "a"], "a snapshot is many rows of one time"),
    "noise": (["--data", "TABLE", "--time-column", "day", "--noise", "-1"], "noise must be >= 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name, table, tmp_path, capsys):
    words, message = REFUSED[name]
    words = [str(table) if word == "TABLE" else word for word in words]
    assert main(["train", "action_matching", *words, "--out", str(tmp_path / "run")]) == 1
    assert message in capsys.readouterr().err
