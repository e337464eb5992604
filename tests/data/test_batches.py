"""Batches are a pure function of (seed, step), cover every row once an epoch, and survive a background thread."""

import gc
import os
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridgejax import couplings
from bridgejax.data import Batches, Pairs, prefetch

SIZES = {"n": st.integers(1, 40), "size": st.integers(1, 60), "seed": st.integers(0, 2**40)}


# --- Batches ------------------------------------------------------------------------------------------------


@pytest.mark.fast
@given(**SIZES, steps=st.lists(st.integers(0, 10**9), max_size=6))
@settings(max_examples=60, deadline=None)
def test_a_batch_depends_on_seed_and_step_only(n, size, seed, steps):
    """A fresh object, asked for one step, gives what an old one gave after any other steps."""
    used = Batches(np.arange(n), size, seed)
    for step in [*steps, 7]:
        batch = used.batch(step)
        assert batch.shape == (size,)
        np.testing.assert_array_equal(batch, Batches(np.arange(n), size, seed).batch(step))


@given(**SIZES)
@settings(max_examples=60, deadline=None)
def test_every_row_comes_once_an_epoch(n, size, seed):
    batches = Batches(np.arange(n), size, seed)
    line = np.concatenate([batches.batch(step) for step in range(3 * n)])  # 3 * size whole epochs
    for epoch in line.reshape(3 * size, n):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(n))


def test_a_batch_larger_than_the_data_wraps():
    counts = np.bincount(Batches(np.arange(5), 12, seed=3).batch(0), minlength=5)
    assert counts.sum() == 12
    assert counts.min() >= 2  # floor(12 / 5)
    assert counts.max() <= 3


def test_epochs_and_seeds_have_orders_of_their_own():
    one, two = Batches(np.arange(100), 100, seed=0), Batches(np.arange(100), 100, seed=1)
    orders = [b.batch(step) for b in (one, two) for step in range(4)]
    assert len({order.tobytes() for order in orders}) == 8
    first = np.array([Batches(np.arange(4), 1, seed).batch(0)[0] for seed in range(2000)])
    np.testing.assert_allclose(np.bincount(first), 500, atol=5 * np.sqrt(2000 * 3) / 4)


def test_any_pytree_moves_together():
    tree = {"a": np.arange(30), "b": (jnp.arange(30) * 2, np.arange(90).reshape(30, 3).astype(np.float16))}
    batch = Batches(tree, 7).batch(2)
    assert jax.tree.structure(batch) == jax.tree.structure(tree)
    np.testing.assert_array_equal(batch["b"][0], 2 * batch["a"])
    np.testing.assert_array_equal(batch["b"][1][:, 0], 3 * batch["a"])
    assert batch["b"][1].dtype == np.float16
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(batch))


def test_labels_stay_with_their_rows_and_do_not_change_the_order():
    x = np.arange(30)
    batch = Batches(x, 7, seed=2, labels=x % 3).batch(5)
    assert set(batch) == {"x", "label"}
    np.testing.assert_array_equal(batch["label"], batch["x"] % 3)
    np.testing.assert_array_equal(batch["x"], Batches(x, 7, seed=2).batch(5))


def test_a_batch_is_a_copy():
    x = np.arange(10)
    Batches(x, 10).batch(0)[:] = -1
    np.testing.assert_array_equal(x, np.arange(10))


@pytest.mark.parametrize(
    ("x", "size", "seed", "words"),
    [
        (np.arange(4), 0, 0, "batch_size must be an integer >= 1, got 0"),
        (np.arange(4), 2.0, 0, "batch_size"),
        (np.arange(4), True, 0, "batch_size"),
        (np.arange(4), 2, -1, "seed"),
        (np.arange(4), 2, 2**64, "seed"),
        (np.zeros((0, 2)), 2, 0, "0 rows"),
        ({}, 2, 0, "no arrays"),
        (None, 2, 0, "no arrays"),
        (np.float32(1), 2, 0, "single number"),
        ({"a": np.arange(3), "b": np.arange(4)}, 2, 0, r"x\['a'\] has 3 rows, x\['b'\] has 4"),
    ],
)
def test_bad_batches(x, size, seed, words):
    with pytest.raises(ValueError, match=words):
        Batches(x, size, seed)


def test_bad_labels_and_steps():
    with pytest.raises(ValueError, match="different lengths"):
        Batches(np.arange(4), 2, labels=np.arange(3))
    for step in (-1, 1.5, "a"):
        with pytest.raises(ValueError, match="step"):
            Batches(np.arange(4), 2).batch(step)


# --- Pairs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coupling", [None, couplings.independent, couplings.exact_ot, couplings.paired])
def test_pairs_are_a_function_of_seed_and_step(coupling):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 2)), rng.normal(size=(50, 2))
    used = Pairs(x, y, 8, seed=3, coupling=coupling)
    for step in (9, 0, 4, 9):
        a, b = used.batch(step), Pairs(x, y, 8, seed=3, coupling=coupling).batch(step)
        assert set(a) == {"source", "target"}
        np.testing.assert_array_equal(a["source"], b["source"])
        np.testing.assert_array_equal(a["target"], b["target"])
    assert not np.array_equal(used.batch(0)["source"], used.batch(1)["source"])


@pytest.mark.parametrize("coupling", [None, couplings.independent])
def test_both_ends_are_drawn_independently_even_from_sets_of_one_size(coupling):
    """Were both ends drawn in one order, source and target rows would agree; independent ones do 1 time in n."""
    n, steps = 64, 500
    pairs = Pairs(np.arange(n), np.arange(n), 16, coupling=coupling)
    batches = [pairs.batch(step) for step in range(steps)]
    source = np.concatenate([b["source"] for b in batches])
    target = np.concatenate([b["target"] for b in batches])
    assert np.sum(source == target) == pytest.approx(steps * 16 / n, abs=5 * np.sqrt(steps * 16 / n))
    assert abs(np.corrcoef(source, target)[0, 1]) < 5 / np.sqrt(steps * 16)
    for rows in (source, target):  # 125 whole epochs
        np.testing.assert_array_equal(np.bincount(rows), steps * 16 // n)


def test_paired_data_stay_paired():
    x = np.arange(37)
    pairs = Pairs(x, x * 10, 5, coupling=couplings.paired)
    for step in range(20):
        batch = pairs.batch(step)
        np.testing.assert_array_equal(batch["target"], 10 * batch["source"])
    with pytest.raises(ValueError, match="37 and 36 rows"):
        Pairs(x, x[1:], 5, coupling=couplings.paired)


def test_the_coupling_matches_and_labels_follow_the_target():
    x, y = np.arange(40.0)[:, None], np.arange(100.0)[:, None] * 3
    free = Pairs(x, y, 16, seed=1, labels=np.arange(100))
    tied = Pairs(x, y, 16, seed=1, labels=np.arange(100), coupling=couplings.exact_ot)
    for step in range(10):
        a, b = free.batch(step), tied.batch(step)
        np.testing.assert_array_equal(np.sort(a["target"], axis=0), np.sort(b["target"], axis=0))
        np.testing.assert_array_equal(b["target"][:, 0], 3 * b["label"])
        order = np.lexsort((b["target"][:, 0], b["source"][:, 0]))  # a batch across two epochs may repeat a row
        assert (np.diff(b["target"][order, 0]) >= 0).all()  # the optimal plan on the line is monotone


def test_a_coupling_gets_a_generator_of_its_own_each_step_and_may_repeat_rows():
    seen = []

    def resample(rng, x0, x1):
        rows = rng.integers(0, len(x0), len(x0))
        seen.append(rows.tobytes())
        return rows, rows[::-1]

    pairs = Pairs(np.arange(40), np.arange(40), 16, coupling=resample)
    for step in (0, 1, 2, 1):
        assert pairs.batch(step)["source"].shape == (16,)
    assert len(set(seen)) == 3
    assert seen[1] == seen[3]


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, r"two index arrays \(i, j\)"),
        ((np.arange(4),), r"two index arrays \(i, j\)"),
        ((np.arange(4), np.arange(3)), "returned j of dtype .* expected 4 integers"),
        ((np.arange(4.0), np.arange(4)), "returned i of dtype float64"),
        ((np.arange(4), np.arange(4) - 1), "returned j from -1 to 2"),
        ((np.arange(4) + 1, np.arange(4)), "returned i from 1 to 4"),
    ],
)
def test_bad_couplings(returned, words):
    pairs = Pairs(np.arange(9), np.arange(9), 4, coupling=lambda rng, x0, x1: returned)
    with pytest.raises(ValueError, match=words):
        pairs.batch(0)


def test_bad_pairs():
    with pytest.raises(ValueError, match="source has 0 rows"):
        Pairs(np.zeros((0, 2)), np.zeros((3, 2)), 2)
    with pytest.raises(ValueError, match="target has leaves of different lengths"):
        Pairs(np.zeros((3, 2)), np.zeros((3, 2)), 2, labels=np.zeros(4))
    with pytest.raises(ValueError, match="batch_size"):
        Pairs(np.zeros((3, 2)), np.zeros((3, 2)), 0)


# --- prefetch -----------------------------------------------------------------------------------------------


class Recorder:
    """Batches that remember which steps were computed, and where."""

    def __init__(self, fail_at=None):
        self.steps, self.threads, self.fail_at = [], set(), fail_at

    def batch(self, step):
        self.threads.add(threading.get_ident())
        self.steps.append(step)
        if step == self.fail_at:
            raise ZeroDivisionError(f"step {step}")
        return step


def _workers():
    return [t for t in threading.enumerate() if t.name.startswith("bridgejax-prefetch")]


def _wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)
    return condition()


@pytest.mark.fast
def test_prefetch_gives_the_batches_in_order_from_one_other_thread():
    x = np.arange(100)
    batches = Batches(x, 7)
    for step, batch in enumerate(prefetch(batches, 3, 20), start=3):
        np.testing.assert_array_equal(batch, batches.batch(step))
    assert step == 19
    recorder = Recorder()
    assert list(prefetch(recorder, 0, 50, depth=5)) == list(range(50))
    assert recorder.steps == list(range(50))
    assert len(recorder.threads) == 1
    assert threading.get_ident() not in recorder.threads
    assert not _workers()


def test_prefetch_works_ahead_and_no_further_than_depth():
    recorder = Recorder()
    stream = prefetch(recorder, 0, None, depth=3)
    assert recorder.steps == []  # nothing starts before the first batch is asked for
    assert next(stream) == 0
    assert _wait_until(lambda: recorder.steps == [0, 1, 2, 3])
    time.sleep(0.02)
    assert recorder.steps == [0, 1, 2, 3]
    assert next(stream) == 1
    assert _wait_until(lambda: recorder.steps == [0, 1, 2, 3, 4])
    stream.close()
    assert not _workers()


def test_prefetch_raises_when_the_turn_of_the_failing_batch_comes():
    stream = prefetch(Recorder(fail_at=3), 0, 100, depth=4)
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError, match="step 3"):
        next(stream)
    assert not _workers()
    with pytest.raises(StopIteration):
        next(stream)


@pytest.mark.parametrize("leave", ["close", "drop", "raise"])
def test_prefetch_ends_its_thread(leave):
    recorder = Recorder()
    stream = prefetch(recorder, 0, None)
    next(stream)
    assert len(_workers()) == 1
    if leave == "close":
        stream.close()
    elif leave == "raise":
        with pytest.raises(KeyboardInterrupt):
            stream.throw(KeyboardInterrupt())
    del stream
    gc.collect()
    assert not _workers()
    assert len(recorder.steps) <= 3


def test_closing_waits_for_the_batch_under_way_and_drops_the_queue():
    begun, release, done = threading.Event(), threading.Event(), []

    class Slow:
        def batch(self, step):
            if step == 1:
                begun.set()
                assert release.wait(10)
            done.append(step)
            return step

    stream = prefetch(Slow(), 0, None, depth=5)
    assert next(stream) == 0
    assert begun.wait(10)
    threading.Timer(0.05, release.set).start()
    stream.close()
    assert done == [0, 1]


def test_prefetch_of_nothing():
    assert list(prefetch(Recorder(), 5, 5)) == []
    assert list(prefetch(Recorder(), 5, 2)) == []


@pytest.mark.parametrize(
    "arguments", [{"start": -1}, {"start": 0, "stop": -1}, {"start": 0, "depth": 0}, {"start": 0.5}]
)
def test_prefetch_checks_its_numbers_at_the_call(arguments):
    with pytest.raises(ValueError, match="must be an integer"):
        prefetch(Recorder(), **arguments)


MAPPED = """
import sys, numpy as np
from bridgejax.data import Batches

def resident():
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("RssFile"))

batches = Batches(np.load(sys.argv[1], mmap_mode="r"), 64)
batches.batch(0)
before = resident()
total = sum(float(batches.batch(step)[:, 0].sum()) for step in range(256))
print(total, resident() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux says what is resident")
def test_rows_of_a_mapped_file_do_not_stay(tmp_path, monkeypatch):
    """Every row of 128 MB, of a file that is larger than what may be held: next to none of it is resident after."""
    x = np.zeros((2**14, 2048), np.float32)
    x[:, 0] = np.arange(2**14)
    np.save(tmp_path / "x.npy", x)
    monkeypatch.setenv("BRIDGEJAX_MAX_MEMORY", "1MB")
    done = subprocess.run([sys.executable, "-c", MAPPED, str(tmp_path / "x.npy")], capture_output=True, text=True)
    total, grown = map(float, done.stdout.split())
    assert total == 2**13 * (2**14 - 1)
    assert grown < 10


def test_a_map_that_can_be_written_is_left_alone(tmp_path, monkeypatch):
    """What was changed in a private copy would be lost."""
    monkeypatch.setenv("BRIDGEJAX_MAX_MEMORY", "1kB")
    x = np.arange(2000.0).reshape(1000, 2)
    np.save(tmp_path / "x.npy", x)
    private = np.load(tmp_path / "x.npy", mmap_mode="c")
    private[:] += 1
    batches, expected = Batches(private, 10), Batches(x + 1, 10)
    for step in range(200):
        np.testing.assert_array_equal(batches.batch(step), expected.batch(step))
    named = Batches({"x": np.load(tmp_path / "x.npy", mmap_mode="r")}, 10)
    np.testing.assert_array_equal(named.batch(3)["x"] + 1, expected.batch(3))
