"""Snapshots: what is refused, and batches of neighbours that integrate over time and draw rows by their weights."""

import numpy as np
import pytest

from bridgejax import couplings
from bridgejax.data import Snapshots
from bridgejax.data.reading import Reading
from bridgejax.data.snapshots import read_snapshots, standardised

RNG = np.random.default_rng(0)
TIMES = [1.0, 2.0, 5.0]
ARRAYS = [np.full((7, 2), k, np.float32) + np.float32(1e-3) * np.arange(14).reshape(7, 2) for k in range(3)]
DATA = Snapshots(TIMES, ARRAYS)


@pytest.mark.parametrize("size", [2, 8, 13])
def test_the_mean_of_weight_times_f_is_the_integral_of_f(size):
    """Of a function that is constant within each gap, exactly, however the rows are shared out."""
    batch = DATA.batches(size).batch(0)
    f = np.where(batch["start"] < 1.5, 3.0, -2.0)
    np.testing.assert_allclose(np.mean(batch["weight"] * f), 3.0 * 1.0 - 2.0 * 3.0, rtol=1e-6)
    assert all(len(leaf) == size for leaf in batch.values())


def test_rows_are_of_their_times_and_paired_within_their_gap():
    data = Snapshots(TIMES, [RNG.normal(10 * k, 1.0, (640, 1)) for k in range(3)])
    batches = data.batches(32, seed=3, coupling=couplings.exact_ot)
    batch = batches.batch(5)
    for name, time in (("source", batch["start"]), ("target", batch["end"])):
        assert np.all(np.abs(batch[name][:, 0] - 10 * np.searchsorted(TIMES, time)) < 6)
    for start in (1.0, 2.0):  # optimal in one dimension: in one order
        rows = batch["start"] == start
        assert np.all(np.argsort(batch["source"][rows, 0]) == np.argsort(batch["target"][rows, 0]))
    again = data.batches(32, seed=3, coupling=couplings.exact_ot).batch(5)
    assert all(np.array_equal(batch[name], again[name]) for name in batch)


def test_every_row_comes_once_an_epoch():
    batches = DATA.batches(8)  # 2 rows of the first gap, 6 of the second
    assert batches.counts.tolist() == [2, 6]
    seen = np.concatenate([batches.batch(step)["target"][2:] for step in range(7)])
    assert sorted(np.unique(seen[:, 0], return_counts=True)[1].tolist()) == [6] * 7


def test_weights_are_shares_of_rows_and_the_mass_of_a_time():
    weights = [np.ones(7), np.arange(7.0), np.full(7, 3.0)]
    data = Snapshots(TIMES, ARRAYS, weights)
    np.testing.assert_allclose(data.masses, [1.0, 3.0, 3.0])
    batches = data.batches(700)
    drawn = batches.batch(0)
    rows = np.concatenate([batches.batch(step)["target"][drawn["start"] == 1.0] for step in range(20)])
    share = np.array([np.mean(rows[:, 0] == ARRAYS[1][k, 0]) for k in range(7)])
    truth = np.arange(7) / 21
    assert share[0] == 0
    assert np.all(np.abs(share - truth) < 5 * np.sqrt(truth * (1 - truth) / len(rows)) + 1e-9)
    np.testing.assert_allclose(
        drawn["mass"][drawn["start"] == 1.0], [[1.0, 3.0, 3.0]] * int(np.sum(drawn["start"] == 1))
    )


def test_rows_with_their_times_are_snapshots_and_one_is_left_out():
    order = RNG.permutation(21)
    data = Snapshots.from_rows(np.concatenate(ARRAYS)[order], np.repeat(TIMES, 7)[order])
    np.testing.assert_array_equal(data.times, TIMES)
    assert all(np.array_equal(np.sort(a, 0), b) for a, b in zip(data.arrays, ARRAYS, strict=True))
    left = data.without(1)
    assert left.times.tolist() == [1.0, 5.0]
    scaled, shift, scale = standardised(data)
    every = np.concatenate(scaled.arrays)
    np.testing.assert_allclose(every.mean(0), 0.0, atol=1e-6)
    np.testing.assert_allclose(every.std(0), 1.0, rtol=1e-5)
    np.testing.assert_allclose(scaled.arrays[1] * scale + shift, data.arrays[1], rtol=1e-4)


def test_reading(tmp_path):
    path = tmp_path / "cells.csv"
    rows = [f"{a[0]:.3f},{t},{a[1]:.3f}" for t, x in zip(TIMES, ARRAYS, strict=True) for a in x]
    path.write_text("gene a,day,gene b\n" + "\n".join(rows) + "\n")
    data, names, _ = read_snapshots(str(path), "day", Reading())
    assert names == ("gene a", "gene b")
    np.testing.assert_allclose(data.arrays[2], ARRAYS[2], atol=1e-3)
    only, names, _ = read_snapshots(str(path), "day", Reading(columns="gene b"))
    assert names == ("gene b",)
    assert only.shape == (1,)
    np.savez(tmp_path / "cells.npz", x=np.concatenate(ARRAYS), times=np.repeat(TIMES, 7))
    again, _, _ = read_snapshots(str(tmp_path / "cells.npz"), "day", Reading())
    np.testing.assert_array_equal(again.times, TIMES)
    with pytest.raises(ValueError, match="time_column 'hour' is no column of"):
        read_snapshots(str(path), "hour", Reading())
    with pytest.raises(ValueError, match="21 times for 21 rows in column 'gene a'"):
        read_snapshots(str(path), "gene a", Reading())
    np.savez(tmp_path / "wrong.npz", x=np.zeros((4, 2)))
    with pytest.raises(ValueError, match="has no array 'times'"):
        read_snapshots(str(tmp_path / "wrong.npz"), "day", Reading())


BAD = {
    "unordered": (lambda: Snapshots([0.0, 2.0, 1.0], ARRAYS), "times must increase, and 2 is followed by an earlier"),
    "repeated": (lambda: Snapshots([0.0, 1.0, 1.0], ARRAYS), "times must increase, and 1 repeats 1"),
    "one": (lambda: Snapshots([0.0], ARRAYS[:1]), "two at least"),
    "count": (lambda: Snapshots(TIMES, ARRAYS[:2]), "arrays must be a list with one array for each of 3 times"),
    "dimension": (
        lambda: Snapshots(TIMES, [*ARRAYS[:2], np.zeros((7, 3))]),
        r"of time 1 have \(2,\), of time 5 \(3,\)",
    ),
    "empty": (lambda: Snapshots(TIMES, [*ARRAYS[:2], np.zeros((0, 2))]), r"arrays\[2\], of time 5, has shape \(0, 2\)"),
    "nan": (lambda: Snapshots(TIMES, [*ARRAYS[:2], np.full((7, 2), np.nan)]), "numbers that are not finite"),
    "negative": (lambda: Snapshots(TIMES, ARRAYS, [-np.ones(7)] * 3), r"weights\[0\] must be finite, >= 0"),
    "nothing": (lambda: Snapshots(TIMES, ARRAYS, [np.zeros(7)] * 3), "not all 0"),
    "weights": (lambda: Snapshots(TIMES, ARRAYS, [np.ones(3)] * 3), r"weights\[0\] must be 7 real numbers"),
    "batch": (lambda: DATA.batches(1), "batch_size must be at least the number of gaps between the times, 2"),
    "without": (lambda: DATA.without(3), "k must be a snapshot, 0 to 2, got 3"),
    "rows": (lambda: Snapshots.from_rows(np.zeros((4, 2)), np.zeros(3)), "time must be 4 real numbers"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()
