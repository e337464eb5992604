"""A run that stopped, or was killed, and went on is the run that never stopped."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import tracemalloc

import jax
import numpy as np
import pytest
from fit_problem import B, data, method
from jax.sharding import Mesh

from bridgejax.training import fit, latest_step, records, restore

HERE = pathlib.Path(__file__).parent


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def on(devices):
    return None if devices is None else Mesh(np.array(jax.devices()[:devices]), ("data",))


def numbers(directory):
    """The lines of a run without its clock."""
    drop = ("seconds", "steps_per_second")
    return [{k: v for k, v in line.items() if k not in drop} for line in records.read(directory)]


@pytest.mark.parametrize("devices", [None, 1, 8])
def test_twice_n_steps_are_n_and_n(key, tmp_path, devices):
    arguments = {"batch_size": B, "log_every": 5, "mesh": on(devices)}
    once = fit(method(2), data(), key, steps=40, directory=tmp_path / "a", **arguments)
    fit(method(2), data(), key, steps=20, directory=tmp_path / "b", **arguments)
    twice = fit(method(2), data(), key, steps=40, directory=tmp_path / "b", **arguments)
    same(once, twice)
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")
    assert [line["step"] for line in numbers(tmp_path / "b")] == list(range(5, 41, 5))
    same(once, fit(method(2), data(), key, steps=40, **arguments))  # and the directory changes nothing


def test_rounds_resume_where_they_were(key, tmp_path):
    """Stopped at the end of a round, in the middle of one, and after the first step."""

    def refresh(state, k, d):
        return state._replace(params=jax.tree.map(lambda p: p + 0.01 * jax.random.normal(k, p.shape), state.params))

    m = method()._replace(refresh=refresh)
    arguments = {"batch_size": B, "refresh_every": 6}
    once = fit(m, data(), key, steps=20, **arguments)
    for steps in (1, 6, 9, 12, 18, 20):
        twice = fit(m, data(), key, steps=steps, directory=tmp_path, **arguments)
    same(once, twice)


@pytest.mark.parametrize(("first", "second"), [(8, 1), (1, 8), (8, None), (2, 8)])
def test_resumes_on_another_number_of_devices(key, tmp_path, first, second):
    arguments = {"batch_size": B, "directory": tmp_path}
    fit(method(), data(), key, steps=20, mesh=on(first), **arguments)
    state = fit(method(), data(), key, steps=40, mesh=on(second), **arguments)
    once = fit(method(), data(), key, steps=40, batch_size=B)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), state, once)
    assert all(len(leaf.devices()) == (second or 1) for leaf in jax.tree.leaves(state))


def test_metrics_past_the_checkpoint_are_cut(key, tmp_path):
    """As a killed run leaves them: lines beyond the checkpoint, the last one half-written."""
    arguments = {"batch_size": B, "log_every": 5, "checkpoint_every": 10}
    fit(method(), data(), key, steps=10, directory=tmp_path / "a", **arguments)
    seconds = records.read(tmp_path / "a")[-1]["seconds"]
    with open(tmp_path / "a" / "metrics.jsonl", "a") as file:
        file.write('{"step": 15, "loss": 7.0, "seconds": 99.0}\n{"step": 20, "lo')
    fit(method(), data(), key, steps=20, directory=tmp_path / "a", **arguments)
    fit(method(), data(), key, steps=20, directory=tmp_path / "b", **arguments)
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")
    assert seconds <= records.read(tmp_path / "a")[2]["seconds"] < seconds + 60


@pytest.mark.fast
def test_a_file_of_metrics_is_read_up_to_its_first_broken_line(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n{"step": 2}\n\xff\x00\n{"step": 3}\n')
    assert records.read(tmp_path) == [{"step": 1}, {"step": 2}]
    records.truncate(tmp_path, 1)
    records.append(tmp_path, {"step": 2, "loss": float("nan")})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2, "loss": null}\n'
    assert records.read(tmp_path / "nowhere") == []


def test_metrics_are_gone_through_and_cut_in_constant_memory(tmp_path):
    """20,000 lines are 2 MB of text; one at a time they take less than a tenth of it."""
    line = json.dumps({"step": 7, **{f"metric_{k}": 0.123456789 for k in range(4)}})
    (tmp_path / "metrics.jsonl").write_text(20_000 * (line + "\n"))
    tracemalloc.start()
    try:
        assert sum(record["step"] for record in records.lines(tmp_path)) == 140_000
        records.truncate(tmp_path, 7)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 200_000
    assert len(records.read(tmp_path)) == 20_000


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[1])
import jax, fit_problem as p
from orbax.checkpoint import v1
from bridgejax.training import fit
jax.config.update("jax_compilation_cache_dir", sys.argv[3])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

def run():
    fit(p.method(), p.data(), jax.random.key(0), steps=120, batch_size=p.B, log_every=4, checkpoint_every=4,
        directory=sys.argv[2], callbacks=[lambda info: os.write(1, b"%d\\n" % info.step)])

# Importing takes seconds: it is done once, and every run is a fork made before jax has started anything.
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        run()
        os._exit(0)
    os.write(1, b"pid %d\\n" % child)
    os.waitpid(child, 0)
    os.write(1, b"done\\n")
"""


@pytest.mark.slow
def test_killed_again_and_again(key, tmp_path):
    """SIGKILL at random moments, most of them within a save; then the run goes on to the end."""
    rng = np.random.default_rng(0)
    cache = jax.config.jax_compilation_cache_dir or str(tmp_path / "cache")
    environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "ignore"}
    runner = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(HERE), str(tmp_path / "run"), cache],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    stops = []
    try:
        for lines in (2, 1, 3, 1, None):
            runner.stdin.write("\n")
            runner.stdin.flush()
            word, pid = runner.stdout.readline().split()
            assert word == "pid"
            for count, line in enumerate(iter(runner.stdout.readline, "done\n")):
                if count == lines:
                    # The next save begins within the millisecond and takes a tenth of a second.
                    time.sleep(rng.uniform(0, 0.15))
                    os.kill(int(pid), signal.SIGKILL)
                last = int(line)
            stops.append(last)
    finally:
        runner.stdin.close()
        runner.wait(timeout=30)
        runner.stdout.close()
    assert stops[-1] == 120
    assert sorted(stops) == stops
    assert stops[-2] < 120  # it was killed, every time, before the end
    expected = fit(method(), data(), key, steps=120, batch_size=B, log_every=4, directory=tmp_path / "whole")
    step, state, _ = restore(tmp_path / "run" / "checkpoints", expected)
    assert step == latest_step(tmp_path / "whole" / "checkpoints") == 120
    same(state, expected)
    assert numbers(tmp_path / "run") == numbers(tmp_path / "whole")
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir()) == ["112", "116", "120"]
