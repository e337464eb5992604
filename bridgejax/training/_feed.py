"""Batches on their way to the training loop: whatever form the data came in, checked and put on the devices."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from typing import NamedTuple, Protocol

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding

from bridgejax import couplings
from bridgejax._types import Batch, Data, DType, PyTree, Shape
from bridgejax.data import Batches, Passes, Snapshots, prefetch
from bridgejax.data.passes import Table, is_pipeline, is_table
from bridgejax.training.method import rows
from bridgejax.training.sharding import over_rows, put

HANDING_OVER = 1e-4  # seconds that a batch from another thread costs this one


class Source(Protocol):
    """Where batches come from."""

    def batch(self, step: int, /) -> Batch:
        """The batch of that step, a pure function of it."""
        ...


def as_source(data: Data, batch_size: int | None, key: Array) -> Source:
    """An object with ``batch(step)``, whatever form the data came in."""
    if hasattr(data, "batch") and not is_pipeline(data):
        return data
    if is_table(data):
        if batch_size is None:
            raise ValueError(
                "batch_size is needed to draw batches from a data set of rows; pass the number of rows per update, and "
                "the data set as it was before its own batch(...)"
            )
        return Table(data, batch_size, _seed(key))
    if isinstance(data, Snapshots):
        if batch_size is None:
            raise ValueError("batch_size is needed to draw batches from Snapshots; pass the number of rows per update")
        return data.batches(batch_size, _seed(key), couplings.exact_ot)
    if callable(data):
        return _Function(data)
    if hasattr(data, "__next__") or is_pipeline(data) or _is_loader(data):
        return Passes(data)
    for path, leaf in jax.tree_util.tree_leaves_with_path(data):
        if not isinstance(leaf, (np.ndarray, Array)) or leaf.dtype.kind in "OSU":
            kind = f"an array of {leaf.dtype}" if isinstance(leaf, np.ndarray) else type(leaf).__name__
            raise ValueError(
                f"data{jax.tree_util.keystr(path)} is {kind}; data must be a numeric array, a pytree of them, "
                "an object with batch(step), a function of the step or an iterable of batches (a torch tensor: "
                ".numpy(); a torch Dataset: a DataLoader of it, or grain.MapDataset.source(dataset))"
            )
    if not jax.tree.leaves(data):
        raise ValueError(f"data holds no arrays, got {type(data).__name__}; expected a pytree of arrays")
    size = rows(data)
    if batch_size is None:
        raise ValueError("batch_size is needed to draw batches from arrays; pass the number of rows per update")
    if batch_size > size:
        raise ValueError(
            f"batch_size={batch_size} is larger than the data, {size} rows; pass at most {size}, "
            "or data.Batches(data, batch_size), which repeats rows within a batch"
        )
    return Batches(data, batch_size, seed=_seed(key))


def _seed(key: Array) -> int:
    return int(np.asarray(jax.random.key_data(key)).ravel()[-1])


def _is_loader(data: Data) -> bool:
    """Whether to go through it for its batches: an iterable that is no pytree of arrays, no array and no text."""
    leaf = jax.tree.structure(data) == jax.tree.structure(0)
    return leaf and hasattr(data, "__iter__") and not hasattr(data, "dtype") and not isinstance(data, str | bytes)


class _Function(NamedTuple):
    make: Callable[[int], Batch]

    def batch(self, step: int) -> Batch:
        return self.make(step)


class Feed:
    """Batches checked against the first one and put on the mesh; may run in the prefetching thread."""

    def __init__(self, batches: Source, batch_size: int | None, mesh: Mesh | None) -> None:
        self.size = getattr(batches, "batch_size", None) if batch_size is None else batch_size
        self._batches, self._first = batches, None
        self._sharding: NamedSharding | None = None if mesh is None else over_rows(mesh)
        self._devices = 1 if mesh is None else mesh.size
        if self.size is not None and self.size % self._devices:
            raise ValueError(self._uneven(self.size))

    def _uneven(self, size: int) -> str:
        return f"batch_size={size} does not divide over {self._devices} devices; pass a multiple of {self._devices}"

    def batch(self, step: int) -> Batch:
        batch = self._batches.batch(step)
        for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
            if not hasattr(leaf, "dtype") or not hasattr(leaf, "shape"):
                raise ValueError(
                    f"batch{jax.tree_util.keystr(path)} of the data is a {type(leaf).__name__}; expected arrays"
                )
        shape = [(path, np.shape(x), x.dtype) for path, x in jax.tree_util.tree_leaves_with_path(batch)]
        if self._first is None:
            size = rows(batch)
            if self.size is not None and size != self.size:
                raise ValueError(f"batch_size={self.size}, but batch {step} of the data has {size} rows")
            if size % self._devices:
                raise ValueError(self._uneven(size))
            self._first = shape
        elif shape != self._first:
            raise ValueError(
                f"batch {step} differs from the first in its leaves, shapes or dtypes, which would compile the step "
                f"again: {_shapes(shape)}, expected {_shapes(self._first)}"
            )
        sharding = self._sharding
        if sharding is None or sharding.is_fully_addressable:
            return batch if sharding is None else jax.device_put(batch, sharding)
        return jax.tree.map(lambda leaf: put(leaf, sharding), batch)


def _shapes(leaves: list[tuple[PyTree, Shape, DType]]) -> str:
    return ", ".join(f"batch{jax.tree_util.keystr(path)} {dtype}{list(shape)}" for path, shape, dtype in leaves)


def batches_from(feed: Feed, start: int, steps: int) -> Generator[Batch]:
    """The batches start, ..., steps - 1: from a thread, unless making one is quicker than handing one over."""
    first, cost = [], math.inf
    for step in range(start, min(start + 2, steps)):  # two: the first may fill caches
        began = time.perf_counter()
        first.append(feed.batch(step))
        cost = min(cost, time.perf_counter() - began)
    yield from first
    at = start + len(first)
    yield from map(feed.batch, range(at, steps)) if cost < HANDING_OVER else prefetch(feed, at, steps)
