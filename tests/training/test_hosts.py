"""One run in two processes of two devices each: the run of one process, whoever is killed, stopped or wrong."""

import itertools
import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from bridgejax.training import checkpoints, latest_step, records

WORKER = pathlib.Path(__file__).with_name("host_worker.py")


def start(folder, processes, task="train", steps=8, devices=2, mesh=None):
    """The processes of one job."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    words = [str(steps), json.dumps(mesh or {"data": processes * devices}), task]
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}
    return [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(folder), address, str(processes), str(me), str(devices), *words],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for me in range(processes)
    ]  # fmt: skip


def run(folder, processes, task="train", **more):
    """What every process of a job found."""
    jobs = start(folder, processes, task, **more)
    said = [job.communicate(timeout=300)[0] for job in jobs]
    assert all(job.returncode == 0 for job in jobs), "\n".join(said)
    return [json.loads((folder / f"{processes}-{me}-{task}.json").read_text()) for me in range(processes)]


def losses(folder):
    return np.array([line["loss"] for line in records.read(folder / "run")])


def folders(tmp_path):
    for number in itertools.count():
        folder = tmp_path / str(number)
        folder.mkdir()
        yield folder


def test_two_processes_are_one(tmp_path):
    """Losses and samples to rounding; both processes hold the same bits, and one process reads them."""
    new = folders(tmp_path)
    two, one = next(new), next(new)
    first, second = run(two, 2)
    (alone,) = run(one, 1, devices=4)
    assert first == second
    assert len(losses(two)) == 4
    np.testing.assert_allclose(losses(two), losses(one), rtol=1e-5)
    np.testing.assert_allclose(first["samples"], alone["samples"], rtol=1e-4, atol=1e-5)
    assert checkpoints.available_steps(two / "run" / "checkpoints") == [4, 8]
    (read,) = run(two, 1, devices=1)
    assert read["digest"] == first["digest"]


@pytest.mark.slow
def test_a_run_moves_between_hosts_in_shards_or_copies(tmp_path):
    """Two processes, one with four devices, two in shards across the hosts, one device: the run that never moved."""
    new = folders(tmp_path)
    moving, still = next(new), next(new)
    run(moving, 2, steps=4)
    run(moving, 1, steps=8, devices=4)
    found = run(moving, 2, steps=12, mesh={"fsdp": 4})
    assert [one["shards"] for one in found] == [[[4, 128]], [[4, 128]]]
    run(moving, 2, steps=16, mesh={"data": 2, "fsdp": 2})
    (last,) = run(moving, 1, steps=20, devices=1)
    (never,) = run(still, 1, steps=20, devices=1)
    np.testing.assert_allclose(losses(moving), losses(still), rtol=1e-5)
    np.testing.assert_allclose(last["whole"], never["whole"], rtol=1e-6)


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_job_which_goes_on_bit_for_bit(tmp_path):
    new = folders(tmp_path)
    killed, whole = next(new), next(new)
    jobs = start(killed, 2, "kill", steps=12)
    said = [job.communicate(timeout=300)[0] for job in jobs]
    assert jobs[1].returncode == -9
    assert jobs[0].returncode not in (0, None), said[0]
    assert checkpoints.latest_step(killed / "run" / "checkpoints") == 4
    assert run(killed, 2, steps=12) == run(whole, 2, steps=12)
    np.testing.assert_array_equal(losses(killed), losses(whole))


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_at_one_step(tmp_path):
    """Sent at the line of step 6, agreed upon at the next."""
    new = folders(tmp_path)
    stopped, whole = next(new), next(new)
    assert [found["stopped"] for found in run(stopped, 2, "stop", steps=12)] == [8, 8]
    assert checkpoints.latest_step(stopped / "run" / "checkpoints") == 8
    assert run(stopped, 2, steps=12) == run(whole, 2, steps=12)


@pytest.mark.slow
def test_the_command_line_in_two_processes(tmp_path):
    """The first speaks, reports and leaves what one process leaves."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    words = ["train", "--data", "moons", "--steps", "20", "--num", "64", "--out", str(tmp_path / "run")]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    jobs = [
        subprocess.Popen(
            [sys.executable, "-m", "bridgejax", *words, "--distributed", f"{address},2,{me}"],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for me in range(2)
    ]  # fmt: skip
    said = [job.communicate(timeout=300)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], "\n".join(said)
    assert "VERDICT" in said[0]
    assert "VERDICT" not in said[1]
    assert "training diffusion" not in said[1]
    assert {"report.json", "samples.npz", "metrics.jsonl"} <= {path.name for path in (tmp_path / "run").iterdir()}
    assert latest_step(tmp_path / "run" / "checkpoints") == 20


@pytest.mark.slow
def test_processes_that_differ_are_told(tmp_path):
    for found in run(tmp_path, 2, "refusals"):
        assert "mesh must have devices of all 2 processes of this job" in found["local"]
        assert "mesh must have devices of all 2 processes of this job" in found["none"]
        assert found["data"] == (
            "the processes of this job differ in data: start all of them with the same words, and give each the same "
            "data in the same order"
        )
        assert "orbax waits for all of them" in found["alone"]
    assert latest_step(tmp_path / "run" / "checkpoints") is None
