"""Batches of files that do not fit into memory: every row once an epoch, the same batch whenever it is asked for."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from bridgejax.data import Shards, shards

N = 60


def write(folder, kind, sizes=(20, 12, 28)):
    """Row i of all is (2 i, 2 i + 1); row groups of 8."""
    x = np.arange(2 * N, dtype=np.float32).reshape(N, 2)
    for k, stop in enumerate(np.cumsum(sizes)):
        part, ids, path = x[stop - sizes[k] : stop], np.arange(stop - sizes[k], stop), folder / f"{k}{kind}"
        if kind == ".npy":
            np.save(path, part)
        elif kind == ".npz":
            np.savez(path, x=part, id=ids)
        else:
            columns = {"x": pa.array(list(part), pa.list_(pa.float32())), "id": ids, "name": ["a"] * len(part)}
            parquet.write_table(pa.table(columns), path, row_group_size=8)
    return folder


def shards_of(folder, kind, batch_size, seed=0, **options):
    columns = ("x", "id") if kind == ".parquet" else None
    return Shards(write(folder, kind), batch_size, seed, columns=columns, **options)


def ids(batch):
    """The numbers of rows, and that all columns are of the same ones."""
    x = batch["x"] if isinstance(batch, dict) else batch
    rows = (x[:, 0] / 2).astype(int)
    np.testing.assert_array_equal(x, np.stack([2.0 * rows, 2.0 * rows + 1], axis=1))
    if isinstance(batch, dict):
        np.testing.assert_array_equal(batch["id"], rows)
    assert x.dtype == np.float32
    return rows


@pytest.fixture(params=[".npy", ".npz", ".parquet"])
def kind(request, monkeypatch):
    monkeypatch.setattr(shards, "_CHUNK", 5 * 8)  # rows of 8 bytes: five are read at once
    return request.param


def test_every_row_once_an_epoch_in_another_order(tmp_path, kind):
    data = shards_of(tmp_path, kind, 12, window=2)
    assert len(data) == N
    epochs = [np.concatenate([ids(data.batch(5 * e + k)) for k in range(5)]) for e in range(3)]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(N))
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[1], epochs[2])


def test_a_batch_is_a_function_of_its_step(tmp_path, kind):
    """Asked for in any order, by another process (a new object), in stretches of any length."""
    data = shards_of(tmp_path, kind, 7, window=2)
    line = np.concatenate([ids(data.batch(step)) for step in range(30)])
    for step in (29, 3, 11, 0):
        np.testing.assert_array_equal(ids(shards_of(tmp_path, kind, 7, window=2).batch(step)), line[7 * step :][:7])
    wide = shards_of(tmp_path, kind, 130, window=2)  # more than two epochs in a batch
    np.testing.assert_array_equal(ids(wide.batch(0)), line[:130])
    assert not np.array_equal(ids(shards_of(tmp_path, kind, 7, seed=1, window=2).batch(0)), line[:7])


def test_a_window_mixes_its_chunks_and_no_others(tmp_path):
    """Row groups of 8, 8, 4, 8, 4, 8, 8, 8, 4 rows, three at a time."""
    data = shards_of(tmp_path, ".parquet", N, window=3)
    line, ends = ids(data.batch(0)), np.array([8, 16, 20, 28, 32, 40, 48, 56, 60])
    order, edges = data._ordered(0)
    assert sorted(order) == list(range(9))
    assert len(edges) == 4
    group = np.searchsorted(ends, line, side="right")
    for w in range(3):
        mixed = group[edges[w] : edges[w + 1]]
        assert set(mixed) == set(order[3 * w : 3 * w + 3])
        assert np.count_nonzero(np.diff(mixed)) > 6  # two, if the chunks stood one after another
    assert not np.array_equal(order, data._ordered(1)[0])


def test_windows_of_an_epoch_are_shuffled_each_in_its_own_way(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_CHUNK", 4 * 8)
    data = shards_of(tmp_path, ".npy", 4, window=1)  # every chunk has four rows
    ways = {tuple(ids(data.batch(step)) % 4) for step in range(15)}
    assert len(ways) > 5


def test_all_windows_together_are_a_permutation_without_pattern(tmp_path):
    """One window over everything: neighbours in the file come together as often as by chance."""
    apart, epochs = [], 200
    data = shards_of(tmp_path, ".npy", N, window=100)
    for epoch in range(epochs):
        line = ids(data.batch(epoch))
        apart.append(np.mean(np.abs(np.diff(line)) == 1))
    error = np.std(apart) / epochs**0.5
    assert abs(np.mean(apart) - 2 / N) < 5 * error
    assert error < 0.1 * 2 / N


def test_names_of_columns_and_what_they_become(tmp_path):
    folder = write(tmp_path, ".parquet")
    batch = Shards(folder, 4, columns=["id"]).batch(0)
    assert list(batch) == ["id"]
    assert Shards(folder, 4, columns=["x"], convert=lambda b: b["x"] / 2).batch(0).shape == (4, 2)
    one = Shards(folder / "1.parquet", 4, columns=("id",))
    assert len(one) == 12
    two = Shards([folder / "1.parquet", str(folder / "0.parquet")], 4, columns=("id",))
    assert len(two) == 32
    (tmp_path / "n").mkdir()
    assert isinstance(Shards(write(tmp_path / "n", ".npz"), 4, columns=["x"]).batch(0), np.ndarray)


def save(path, **columns):
    parquet.write_table(pa.table(columns), path, row_group_size=8)


@pytest.mark.parametrize(
    ("make", "columns", "message"),
    [
        (lambda f: None, None, "holds no such files; expected .npy, .npz, .parquet files"),
        (lambda f: (np.save(f / "a", np.ones(3)), np.savez(f / "b", x=np.ones(3))), None, "kinds .npy, .npz; expected"),
        (
            lambda f: (np.save(f / "a", np.ones((3, 2))), np.save(f / "b", np.ones((3, 1)))),
            None,
            r"b.npy holds rows of float64\[1\], and .*a.npy of float64\[2\]; expected the same",
        ),
        (lambda f: np.save(f / "a", np.array(["a", "b"])), None, "dtype <U1; expected numbers whose first axis"),
        (lambda f: np.save(f / "a", np.array(3.0)), None, r"shape \(\) and dtype float64; expected numbers whose"),
        (lambda f: np.save(f / "a", np.ones((0, 2))), None, "a.npy holds 0 rows"),
        (lambda f: np.savez(f / "a", x=np.ones(3), y=np.ones(2)), None, r"x \(an array of shape \(3,\).*of one number"),
        (lambda f: save(f / "a.parquet", x=[1.0], s=["a"]), None, "column 's' holds string; .*columns="),
        (lambda f: save(f / "a.parquet", x=[1.0]), ["y"], "has no column 'y'; it has x"),
        (lambda f: save(f / "a.parquet", x=[1.0, None]), None, "row group 0: column 'x' has 1 missing values"),
        (
            lambda f: save(f / "a.parquet", x=[[1.0], [1.0, 2.0]]),
            None,
            "lists of 1 to 2 numbers; expected lists of one",
        ),
        (
            lambda f: save(f / "a.parquet", x=[[1.0]] * 8 + [[1.0, 2.0]] * 8),
            None,
            r"x float64\[[12]\], and .*expected the",
        ),
        (lambda f: (f / "a.parquet").write_bytes(b"PAR1" * 9), None, "a.parquet is damaged or no parquet file"),
    ],
)
def test_files_that_cannot_be_trained_on(tmp_path, make, columns, message):
    make(tmp_path)
    with pytest.raises(ValueError, match=message):
        Shards(tmp_path, 4, columns=columns).batch(0)


def test_windows_beyond_the_memory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("BRIDGEJAX_MAX_MEMORY", "1kB")
    np.save(tmp_path / "a", np.ones((200, 2)))
    with pytest.raises(ValueError, match="a window of 8 parts of .*a.npy.* takes about 3.2 kB .*lower window"):
        Shards(tmp_path, 4)


MEASURED = """
import pathlib, sys
from bridgejax.data import Shards

def most():  # of this process alone: getrusage begins with what its parent had
    text = pathlib.Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("VmHWM"))

data = Shards(sys.argv[1], 512, window=int(sys.argv[2]))
before = most()
total = sum(float(data.batch(step).sum()) for step in range(len(data) // 512))
print(total, most() - before)
"""


def test_memory_is_that_of_a_window(tmp_path):
    """256 MB of .npy files, an epoch: two chunks of 16 MB and the one being read."""
    for k in range(4):
        np.save(tmp_path / str(k), np.full((2**14, 1024), k, np.float32))
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path), "2"], capture_output=True, text=True, check=True, timeout=300
    )
    total, megabytes = map(float, done.stdout.split())
    assert total == 2**24 * (0 + 1 + 2 + 3)
    assert 32 < megabytes < 120
