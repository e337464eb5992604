"""``fit`` on the pipelines of others: what stopped and went on is what never stopped, or says that it is not."""

import os
import signal
import subprocess
import sys
import warnings

import grain
import jax
import numpy as np
import pyarrow as pa
import pytest
from fit_problem import B, data, method
from pyarrow import parquet

from bridgejax.data import Passes, Shards
from bridgejax.training import fit, latest_step


class Rows:
    """One row at a time, as ``grain.MapDataset.source`` takes them."""

    def __len__(self):
        return len(data()["y"])

    def __getitem__(self, i):
        return {name: x[i] for name, x in data().items()}


class HuggingFace(Rows):
    def batch(self, batch_size=None, by_column=None):
        raise AssertionError("of another meaning")


class TensorFlow:
    def batch(self, batch_size, drop_remainder=False):
        raise AssertionError("of another meaning")

    def __iter__(self):
        for k in range(0, 6 * B, B):
            yield {name: x[k : k + B] for name, x in data().items()}


def rows():
    return grain.MapDataset.source(Rows()).seed(0).shuffle().repeat().batch(B)


@pytest.fixture(scope="module")
def parquet_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parquet")
    for k in range(2):
        part = {name: list(x[100 * k : 100 * k + 100]) for name, x in data().items()}
        parquet.write_table(pa.table(part), folder / f"{k}.parquet", row_group_size=30)
    return folder


def test_stopped_in_the_middle_of_row_groups(key, tmp_path, parquet_files):
    once = fit(method(), Shards(parquet_files, B, window=2), key, steps=20)
    for steps in (1, 9, 20):
        state = fit(method(), Shards(parquet_files, B, window=2), key, steps=steps, directory=tmp_path)
    same(once, state)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (rows, None),
        (lambda: rows().to_iter_dataset(), B),
        (HuggingFace, B),
        (lambda: Passes(TensorFlow(), replay=True), None),
    ],
)
def test_stopped_in_the_middle(key, tmp_path, make, size):
    once = fit(method(), make(), key, steps=20, batch_size=size)
    fit(method(), make(), key, steps=9, batch_size=size, directory=tmp_path)
    same(once, fit(method(), make(), key, steps=20, batch_size=size, directory=tmp_path))


def test_a_new_pass_is_said(key, tmp_path):
    fit(method(), TensorFlow(), key, steps=9, directory=tmp_path)
    with pytest.warns(UserWarning, match="goes on at step 9 with the iterable's first batch: it is not, bit for bit"):
        fit(method(), TensorFlow(), key, steps=12, directory=tmp_path)
    one = Passes(TensorFlow())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(method(), one, key, steps=9, directory=tmp_path / "b")
        fit(method(), one, key, steps=12, directory=tmp_path / "b")  # it stands where the run stopped


def test_a_table_needs_a_number_of_rows(key):
    with pytest.raises(ValueError, match="batch_size is needed .*as it was before its own batch"):
        fit(method(), HuggingFace(), key, steps=1)
    with pytest.raises(ValueError, match=f"batch_size=5, but batch 0 of the data has {B} rows"):
        fit(method(), rows(), key, steps=1, batch_size=5)


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[1])
import jax, fit_problem as p, test_fit_pipelines as t
from bridgejax.training import fit, latest_step

def kill(info):
    if info.step == 14 and latest_step(sys.argv[2] + "/checkpoints") == 12:  # which waits for it
        os.kill(os.getpid(), 9)

fit(p.method(), t.rows(), jax.random.key(0), steps=20, log_every=2, checkpoint_every=4, directory=sys.argv[2],
    callbacks=[kill])
"""


def test_killed_in_the_middle(key, tmp_path):
    """A grain.MapDataset, in another process: SIGKILL after update 14, the last checkpoint at 12."""
    here = os.path.dirname(__file__)
    done = subprocess.run([sys.executable, "-c", KILLED, here, str(tmp_path)], timeout=300)
    assert done.returncode == -signal.SIGKILL
    assert latest_step(tmp_path / "checkpoints") == 12
    once = fit(method(), rows(), key, steps=20)
    with pytest.warns(UserWarning, match="did not end by itself"):
        state = fit(method(), rows(), key, steps=20, log_every=2, checkpoint_every=4, directory=tmp_path)
    same(once, state)
