"""Saves that go on while training does."""

import pathlib
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridgejax.training import (
    CheckpointError,
    Method,
    NonFiniteLoss,
    background,
    checkpoints,
    fit,
    latest_step,
    restore,
)

TIME = 60.0  # seconds after which a test that hangs has failed


class Slow:
    """``checkpoints.save`` that begins when it is told to, and may fail."""

    def __init__(self, monkeypatch, error=None):
        self.go, self.begun, self.threads, self.error = threading.Event(), [], [], error
        real = checkpoints.save

        def save(root, step, *args, **options):
            self.begun.append(step)
            self.threads.append(threading.current_thread().name)
            assert self.go.wait(TIME)
            if self.error is not None:
                raise self.error
            return real(root, step, *args, **options)

        monkeypatch.setattr(checkpoints, "save", save)


def counting(bad_at=None):
    """Adds one to an array that every step donates; its key changes with it."""

    def step(state, key, batch):
        new = {"x": state["x"] + 1, "key": jax.random.split(state["key"])[0]}
        loss = jnp.float32(1) if bad_at is None else jnp.where(new["x"][0] >= bad_at, jnp.nan, 1.0)
        return new, {"loss": loss}

    return Method(lambda k, d: {"x": jnp.zeros(5), "key": jax.random.key(3, impl="rbg")}, step, lambda s: s)


def run(directory, steps, batch=None, of=None, **options):
    batch = batch or (lambda step: np.ones((2, 1), np.float32))
    options = {"log_every": 1, "checkpoint_every": 2} | options
    return fit(of or counting(), batch, jax.random.key(0), steps=steps, directory=directory, **options)


def test_training_goes_on_and_the_state_of_the_step_is_what_is_saved(tmp_path, monkeypatch):
    """The first save, of step 2, begins to write after step 3; were training to wait for it, neither would end."""
    slow, begun = Slow(monkeypatch), []

    def look(info):
        begun.append(list(slow.begun))
        if info.step == 3:
            slow.go.set()

    state = run(tmp_path, 5, callbacks=[look])
    assert begun[2] == [2]
    assert slow.begun == [2, 4, 5]
    assert slow.threads == ["bridgejax-save_0"] * 2 + ["MainThread"]
    for step in (2, 4, 5):
        found = restore(tmp_path / "checkpoints", state, step=step).tree
        np.testing.assert_array_equal(found["x"], np.full(5, step))
        key = jax.random.key(3, impl="rbg")
        for _ in range(step):
            key = jax.random.split(key)[0]
        assert found["key"] == key
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("bridgejax-save")]


def test_whoever_asks_for_checkpoints_waits_for_the_one_under_way(tmp_path, monkeypatch):
    slow = Slow(monkeypatch)
    threading.Timer(0.3, slow.go.set).start()
    found = []
    run(tmp_path, 4, callbacks=[lambda info: found.append(latest_step(tmp_path / "checkpoints"))])
    assert found == [None, 2, 2, 4]


def test_a_save_that_fails_ends_the_training_at_the_next_line(tmp_path, monkeypatch):
    slow = Slow(monkeypatch, CheckpointError("the disk is full"))
    seen = []

    def look(info):
        seen.append(info.step)
        if info.step == 7:
            slow.go.set()
            background.wait(tmp_path / "checkpoints")

    with pytest.raises(CheckpointError, match="the disk is full"):
        run(tmp_path, 50, checkpoint_every=7, callbacks=[look])
    assert seen == list(range(1, 8))
    slow.error = None
    assert int(run(tmp_path, 5)["x"][0]) == 5  # it is not raised twice


def test_a_save_that_fails_at_the_end_is_an_error_too(tmp_path, monkeypatch):
    slow = Slow(monkeypatch, CheckpointError("the disk is full"))
    threading.Timer(0.3, slow.go.set).start()

    def end(info):
        if info.step == 3:
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):  # what happened first; the save, of step 2, is waited for
        run(tmp_path, 9, callbacks=[end])
    assert slow.go.is_set()
    with pytest.raises(CheckpointError, match="the disk is full"):
        run(tmp_path, 3)


def test_a_run_that_goes_wrong_names_the_checkpoint_that_was_being_written(tmp_path, monkeypatch):
    slow = Slow(monkeypatch)
    threading.Timer(0.3, slow.go.set).start()
    with pytest.raises(NonFiniteLoss, match=r"at step 3; the last good checkpoint, step 2, is kept") as caught:
        run(tmp_path, 9, of=counting(bad_at=3))
    assert caught.value.checkpoint == 2


def test_one_at_a_time_in_a_folder_and_folders_apart():
    (one, other), order, go = map(background.Saver, map(pathlib.Path, ("/a", "/b"))), [], threading.Event()
    one.begin(lambda: (go.wait(TIME), order.append("one")))
    other.begin(lambda: order.append("other"))
    other.close()
    one.settle(at_once=True)
    background.Saver(pathlib.Path("/a")).close()  # of a run that saves nothing: it has nothing to wait for
    assert order == ["other"]
    go.set()
    one.begin(lambda: order.append("again"))
    background.wait(pathlib.Path("/a"))
    assert order == ["other", "one", "again"]
    one.close()
    assert background._UNDER_WAY == {}
