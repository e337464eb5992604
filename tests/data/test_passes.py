"""Pipelines of others, and what of them is the same when a run goes on."""

import warnings

import grain
import numpy as np
import pytest

from bridgejax.data import Batches, NoData, Passes
from bridgejax.data.passes import Table, is_pipeline, is_table

X = np.arange(24.0, dtype=np.float32).reshape(12, 2)


class TensorFlow:
    """What a tf.data.Dataset looks like: it has a length and can be gone through, and not be indexed."""

    def __init__(self, items):
        self.items = items

    def batch(self, batch_size, drop_remainder=False, num_parallel_calls=None):
        return TensorFlow([np.stack(self.items[k : k + batch_size]) for k in range(0, len(self.items), batch_size)])

    def __iter__(self):
        return iter(self.items)

    def __len__(self):
        return len(self.items)


class HuggingFace:
    """What a datasets.Dataset looks like: rows by their numbers."""

    def __init__(self, columns, lists=()):
        self.columns, self.lists = columns, lists

    def batch(self, batch_size=None, by_column=None, drop_last_batch=False):
        raise AssertionError("of another meaning")

    def __getitem__(self, rows):
        assert all(type(row) is int for row in rows)
        return {k: x[rows].tolist() if k in self.lists else x[rows] for k, x in self.columns.items()}

    def __iter__(self):
        return iter([{k: x[i] for k, x in self.columns.items()} for i in range(len(self))])

    def __len__(self):
        return len(next(iter(self.columns.values())))


def mapped(batch_size=4, epochs=None):
    return grain.MapDataset.source(X).seed(3).shuffle().repeat(epochs).batch(batch_size, drop_remainder=True)


def drawn(passes, steps):
    return [passes.batch(step) for step in steps]


def test_whose_batch_takes_a_size():
    class Ours:
        def batch(self, step):
            return X

    pipelines = TensorFlow(X), HuggingFace({"x": X}), mapped(), mapped().to_iter_dataset()
    assert all(map(is_pipeline, pipelines))
    assert not any(map(is_pipeline, (Ours(), Batches(X, 4), NoData(4), X, [X], iter([X]), None)))
    assert [is_table(data) for data in pipelines] == [False, True, False, False]


def test_random_access_gives_the_batch_of_any_step():
    """An epoch is every row once, the next has another order, and no step needs those before it."""
    passes = Passes(mapped())
    batches = drawn(passes, range(9))
    for epoch in range(3):
        rows = np.concatenate(batches[3 * epoch : 3 * epoch + 3])
        np.testing.assert_array_equal(rows[np.argsort(rows[:, 0])], X)
    assert not np.array_equal(batches[0], batches[3])
    np.testing.assert_array_equal(Passes(mapped()).batch(7), batches[7])
    without_repeat = grain.MapDataset.source(X).seed(3).shuffle().batch(4)
    np.testing.assert_array_equal(Passes(without_repeat).batch(7), batches[7])
    np.testing.assert_array_equal(Passes([X[:4], X[4:8], X[8:]]).batch(8), X[8:])
    np.testing.assert_array_equal(Passes((X[:4], X[4:8])).batch(7), X[4:8])


@pytest.mark.parametrize("make", [lambda: mapped().to_iter_dataset(), lambda: mapped(epochs=1).to_iter_dataset()])
def test_what_has_a_state_is_replayed(make):
    """Also over the end of a pass, and back to an earlier step."""
    whole = drawn(Passes(make()), range(8))
    later = Passes(make())
    np.testing.assert_array_equal(drawn(later, (5, 6, 7)), whole[5:])
    np.testing.assert_array_equal(drawn(later, (1, 2)), whole[1:3])


def test_a_loader_of_grain_is_replayed():
    def make():
        sampler = grain.samplers.IndexSampler(len(X), shuffle=True, seed=1, num_epochs=2)
        return Passes(grain.DataLoader(data_source=X, sampler=sampler, operations=[grain.transforms.Batch(4)]))

    np.testing.assert_array_equal(make().batch(4), drawn(make(), range(5))[4])


def test_other_iterables_begin_a_new_pass_and_say_so():
    items = TensorFlow(X).batch(4)
    passes = Passes(items)
    with pytest.warns(UserWarning, match="goes on at step 2 with the iterable's first batch: it is not.*replay=True"):
        np.testing.assert_array_equal(passes.batch(2), X[:4])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(passes.batch(3), X[4:8])  # in order: said once
        np.testing.assert_array_equal(Passes(items, replay=True).batch(2), X[8:])
        np.testing.assert_array_equal(Passes(items, replay=True).batch(4), X[4:8])
        np.testing.assert_array_equal(Passes(items).batch(0), X[:4])
    with pytest.warns(UserWarning, match="step 5 with the iterable's first batch"):
        Passes(mapped().to_iter_dataset(), replay=False).batch(5)


def test_an_iterator_stands_where_its_user_put_it():
    """It may have been set to a state already: nothing is drawn from it in advance, unless asked for."""
    iterator = iter(mapped().to_iter_dataset())
    second = drawn(Passes(mapped()), range(2))[1]
    next(iterator)
    with pytest.warns(UserWarning, match="step 1"):
        np.testing.assert_array_equal(Passes(iterator).batch(1), second)
    np.testing.assert_array_equal(Passes(iter(mapped().to_iter_dataset()), replay=True).batch(1), second)


def test_rows_of_a_table_are_those_of_batches():
    table = Table(HuggingFace({"x": X, "label": np.arange(12)}), 5, seed=4)
    same = Batches({"x": X, "label": np.arange(12)}, 5, seed=4)
    for step in (0, 1, 2, 30):
        for name, column in table.batch(step).items():
            np.testing.assert_array_equal(column, same.batch(step)[name])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            HuggingFace({"x": X, "y": X}, lists=("y",)),
            r"column 'y' of the data comes as a list; .*with_format\('numpy'\)",
        ),
        (HuggingFace({"s": np.array(["a"] * 12)}), "column 's' of the data comes as an array of <U1; .*select_columns"),
    ],
)
def test_tables_of_no_numbers(data, message):
    with pytest.raises(ValueError, match=message):
        Table(data, 4, seed=0).batch(0)


def test_what_passes_refuse():
    with pytest.raises(ValueError, match="data has 0 rows"):
        Table(HuggingFace({"x": X[:0]}), 4, seed=0)
    with pytest.raises(ValueError, match="replay must be True, False or None, got 'yes'"):
        Passes([X], replay="yes")
    uneven = Passes(grain.MapDataset.source(X).batch(5))
    uneven.batch(0)
    with pytest.raises(ValueError, match="last batch of a pass has 2 rows and the others 5.*drop_remainder=True"):
        uneven.batch(2)
