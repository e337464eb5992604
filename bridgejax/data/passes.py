"""Batches that others make: what of them is the same again when a run goes on.

    random access    batch(step) = items[step]: a ``grain.MapDataset``, a list          exact, at once
    replay           the batches before the step are drawn once more and dropped        exact, if their order is
    a new pass       the iterable begins where it begins                                not exact: a warning says so

An order is the same in every process where the iterable says so (the iterators of grain have ``get_state``), or where
its user does (``replay=True``: a torch DataLoader with a generator that is seeded, a ``tf.data`` pipeline with a seed).
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from bridgejax._summary import summary
from bridgejax._types import Batch
from bridgejax.data.batches import _FIRST, _host, _integer, _Rows


def is_pipeline(data: Any) -> bool:
    """Whether ``data.batch(batch_size)`` puts rows together, as in grain, tf.data and datasets; ours take a step."""
    if not callable(getattr(data, "batch", None)):
        return False
    try:
        first = next(iter(inspect.signature(data.batch).parameters), "")
    except (TypeError, ValueError):  # of a function that is not written in Python
        return False
    return first == "batch_size"


def is_table(data: Any) -> bool:
    """Whether rows are looked up by their numbers: a Hugging Face ``datasets.Dataset``."""
    return is_pipeline(data) and hasattr(data, "__getitem__") and hasattr(data, "__len__") and not _is_map(data)


def _is_map(data: Any) -> bool:
    """Whether it is a ``grain.MapDataset``, whose item i is a function of i for every i >= 0."""
    grain = sys.modules.get("grain")  # who has one has imported it
    return grain is not None and isinstance(data, grain.MapDataset)


class Passes:
    """Batches of an iterable, gone through again and again: a torch DataLoader, a grain data set, a list of batches.

    Tensors become NumPy arrays. What ``convert`` makes of an item is the batch; without it an item of one array is that
    array, one of two whose second is a vector of whole numbers is ``{"x": ..., "label": ...}``, and a dictionary or an
    array stays itself. All batches must have equally many rows (DataLoader: ``drop_last=True``), or the step would
    compile again. The order is the iterable's own. A list and a ``grain.MapDataset`` have random access, and a run that
    is resumed goes on exactly; of anything else see ``replay``.

    Args:
        iterable: anything that can be gone through more than once, of batches with one leading axis.
        convert: ``item -> batch``; for example ``lambda b: {"source": b[0], "target": b[1]}``.
        replay: whether a run that goes on at step k first draws k batches and drops them. It is exact then, if the
            order is the same in every process, for the time that the reading takes. None: where the iterators have
            ``get_state``, as those of grain. False: a new pass begins there, and a warning says so.

    Raises:
        ValueError: no iterable, or a DataLoader whose last batch is smaller; when asked for a batch: no batches, an
            iterator that has ended, rows that differ, items whose parts have no names.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> passes = bj.data.Passes([np.zeros((4, 2)), np.ones((4, 2))])
        >>> [float(passes.batch(step).mean()) for step in range(3)]
        [0.0, 1.0, 0.0]
    """

    __repr__ = summary

    def __init__(
        self, iterable: Any, convert: Callable[[Any], Any] | None = None, *, replay: bool | None = None
    ) -> None:
        if not hasattr(iterable, "__iter__"):
            raise ValueError(f"iterable must be gone through with for, got {type(iterable).__name__}")
        if convert is not None and not callable(convert):
            raise ValueError(f"convert must be a function of an item, got {type(convert).__name__}")
        if replay not in (None, True, False):
            raise ValueError(f"replay must be True, False or None, got {replay!r:.60}")
        self._iterable, self._convert, self._replay = iterable, convert or _named, replay
        size, rows = getattr(iterable, "batch_size", None), getattr(iterable, "dataset", None)
        self.batch_size = size if isinstance(size, int) else None
        if self.batch_size and getattr(iterable, "drop_last", None) is False and hasattr(rows, "__len__"):
            if len(rows) % self.batch_size:  # pyright: ignore[reportArgumentType]
                raise ValueError(_smaller(len(rows) % self.batch_size, self.batch_size))  # pyright: ignore[reportArgumentType]
        self._iterator, self._at, self._drawn, self._rows = None, 0, 0, 0

    def batch(self, step: int) -> Batch:
        """The batch of that step with random access, else the next one; steps are asked for in their order."""
        step = _integer(step, "step", 0)
        if _is_map(self._iterable):
            item = self._iterable[step]
        elif isinstance(self._iterable, list | tuple) and self._iterable:
            item = self._iterable[step % len(self._iterable)]
        else:
            if step != self._at:
                self._turn_to(step)
            item, self._at = self._next(step), step + 1
        batch = jax.tree.map(_array, self._convert(item))
        _, rows = _host(batch, "batch")
        self._rows = self._rows or rows
        if rows < self._rows:
            raise ValueError(_smaller(rows, self._rows))
        return batch

    def _next(self, step: int) -> Any:
        """The next item, of a new pass where this one has ended."""
        if self._iterator is None:
            self._iterator = iter(self._iterable)
        item = next(self._iterator, _END)
        if item is _END:
            again = iter(self._iterable)
            once = again is self._iterator or again is self._iterable
            self._iterator, item = again, next(again, _END)
            if item is _END:
                remedy = (
                    "an iterator runs once: pass what it was made from" if once else "it must give some in every pass"
                )
                raise ValueError(f"the iterable has no batch for step {step}, after {self._drawn} of them; {remedy}")
        self._drawn += 1
        return item

    def _turn_to(self, step: int) -> None:
        """Stand before the batch of that step, or say that it is another one."""
        fresh = iter(self._iterable) if self._iterator is None or step < self._at else self._iterator
        replay = hasattr(fresh, "get_state") and fresh is not self._iterable if self._replay is None else self._replay
        if replay:
            if fresh is not self._iterator:
                self._iterator, self._at = fresh, 0
            for before in range(self._at, step):
                self._next(before)
        elif step:
            warnings.warn(
                f"the run goes on at step {step} with the iterable's {'next batch' if self._drawn else 'first batch'}: "
                "it is not, bit for bit, the run that never stopped; where the order is the same in every process, "
                "data.Passes(loader, replay=True) draws the batches before it once more",
                stacklevel=2,
            )


_END = object()


def _smaller(rows: int, size: int) -> str:
    return (
        f"the last batch of a pass has {rows} rows and the others {size}, which would compile the step again; make the "
        "DataLoader with drop_last=True (grain: drop_remainder=True)"
    )


def _array(leaf: Any) -> np.ndarray:
    """A tensor of torch, or anything like an array, as NumPy."""
    return leaf.detach().cpu().numpy() if hasattr(leaf, "detach") else np.asarray(leaf)


def _named(item: Any) -> Any:
    """A batch of an item whose parts have no names."""
    if not isinstance(item, list | tuple) or hasattr(item, "_fields"):
        return item
    parts = [_array(part) for part in item if np.ndim(part) or hasattr(part, "detach")]
    if len(parts) == len(item) == 1:
        return parts[0]
    if len(parts) == len(item) == 2 and parts[1].ndim == 1 and parts[1].dtype.kind in "iu":
        return {"x": parts[0], "label": parts[1]}
    shapes = ", ".join(str(part.shape) for part in parts)
    raise ValueError(
        f"the iterable gives batches of {len(item)} parts without names (shapes {shapes}); say what they are: "
        "data.Passes(loader, lambda b: {'source': b[0], 'target': b[1]})"
    )


class Table:
    """Shuffled batches of rows that are looked up by number, ``table[[3, 1]]``, in the order of ``Batches``."""

    __repr__ = summary

    def __init__(self, table: Any, batch_size: int, seed: int) -> None:
        self._table, self.batch_size, self.n = table, _integer(batch_size, "batch_size", 1), len(table)
        if self.n == 0:
            raise ValueError("data has 0 rows; expected at least one sample")
        self._rows = _Rows(self.n, seed, _FIRST)

    def batch(self, step: int) -> Batch:
        """Batch ``step`` (>= 0): the columns, leaves ``[B, ...]``."""
        start = step * self.batch_size
        columns = self._table[self._rows.stretch(start, start + self.batch_size).tolist()]
        found = {name: column if isinstance(column, list) else _array(column) for name, column in columns.items()}
        for name, column in found.items():
            if isinstance(column, list) or column.dtype.kind not in "biufc":
                came = "a list" if isinstance(column, list) else f"an array of {column.dtype}"
                raise ValueError(
                    f"column {name!r} of the data comes as {came}; ask for arrays, data.with_format('numpy'), and keep "
                    "columns of numbers of one shape, data.select_columns([...])"
                )
        return found
