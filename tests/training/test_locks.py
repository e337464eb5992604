"""One writer in a run directory, and a lock that was left by a process that is no more."""

import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time

import pytest
from fit_problem import B, data, method

from bridgejax.training import InUse, fit
from bridgejax.training.locks import FILE, locked

HOLD = """
import pathlib, sys, time
from bridgejax.training.locks import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(directory):
    """A process that has the lock."""
    command = [sys.executable, "-c", HOLD, directory]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def ended(process, number):
    process.send_signal(number)
    process.wait(timeout=30)
    process.stdout.close()


def test_a_second_writer_is_refused_at_once_and_a_killed_one_is_said(key, tmp_path):
    process = holder(tmp_path / "run")
    arguments = {"steps": 2, "batch_size": B, "directory": tmp_path / "run"}
    try:
        began = time.perf_counter()
        with pytest.raises(InUse, match=f"is being written by process {process.pid} on .* a run has one writer"):
            fit(method(), data(), key, **arguments)
        assert time.perf_counter() - began < 10
    finally:
        ended(process, signal.SIGKILL)
    assert (tmp_path / "run" / FILE).exists()
    with pytest.warns(UserWarning, match=f"is stale: process {process.pid} on .* it is taken over"):
        fit(method(), data(), key, **arguments)
    assert not (tmp_path / "run" / FILE).exists()
    fit(method(), data(), key, **arguments)  # nothing is said of a run that ended by itself


def test_one_thread_may_hold_it_twice_and_another_may_not(tmp_path):
    seen = []

    def other():
        try:
            with locked(tmp_path):
                seen.append("held")
        except InUse as error:
            seen.append(str(error))

    with locked(tmp_path):
        with locked(tmp_path / ".." / tmp_path.name):
            pass
        assert json.loads((tmp_path / FILE).read_text())["process"] == os.getpid()
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert f"process {os.getpid()}" in seen[0]
    assert not (tmp_path / FILE).exists()


def test_an_error_lets_it_go(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    with locked(tmp_path):
        pass


@pytest.mark.parametrize(("age", "stale"), [(10.0, False), (299.0, False), (301.0, True)])
def test_a_lock_of_another_host_lives_as_long_as_it_is_touched(tmp_path, age, stale):
    """A file system that is shared may not carry flock: the time of the file decides."""
    left = {"host": "elsewhere", "process": 7, "since": "2026-01-01 00:00:00"}
    (tmp_path / FILE).write_text(json.dumps(left))
    os.utime(tmp_path / FILE, (time.time() - age,) * 2)
    expected = (
        pytest.warns(UserWarning, match="process 7 on elsewhere") if stale else pytest.raises(InUse, match="on else")
    )
    with expected, locked(tmp_path):
        assert json.loads((tmp_path / FILE).read_text())["host"] == platform.node()


@pytest.mark.filterwarnings("ignore:.*is stale")
def test_without_flock_a_lock_of_this_host_is_one_too(tmp_path, monkeypatch):
    monkeypatch.setattr("bridgejax.training.locks._flock", lambda file: False)
    (tmp_path / FILE).write_text(json.dumps({"host": platform.node(), "process": 7, "since": "now"}))
    with pytest.raises(InUse), locked(tmp_path):
        pass
    os.utime(tmp_path / FILE, (time.time() - 400,) * 2)
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("left", ["", "{", "[]", "null", '{"host": 3}', "\x00" * 100])
def test_a_lock_that_says_nothing_is_taken(tmp_path, left):
    (tmp_path / FILE).write_text(left)
    with locked(tmp_path):
        pass
    assert not (tmp_path / FILE).exists()
