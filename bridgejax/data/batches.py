"""Batches as a pure function of (seed, step), so that a run resumes exactly where it stopped.

The rows of all epochs, each epoch in its own order, form one endless line

    line = pi_0(0), ..., pi_0(n-1), pi_1(0), ..., pi_1(n-1), pi_2(0), ...        pi_e a permutation from
    (seed, e)

and batch ``step`` is its stretch [step B, (step + 1) B). No row is dropped: every row is seen once an epoch,
a batch may end one epoch and begin the next, and a batch larger than the data (B > n) wraps: it holds every
row floor(B/n) times or more.

The permutation of an epoch comes from the counter-based generator Philox (Salmon et al. 2011) with key (seed,
epoch), so no epoch needs the ones before it.
"""

from __future__ import annotations

import collections
import functools
import itertools
import mmap
import operator
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import jax
import numpy as np

from bridgejax._summary import summary
from bridgejax._types import Batch, PyTree
from bridgejax.data.memory import limit

Pairing = Callable[[np.random.Generator, Any, Any], tuple[Any, Any]]

# Philox counters of the independent streams behind one seed.
_FIRST, _SECOND, _COUPLING, _CHUNKS, _WITHIN = range(5)


class HasBatch(Protocol):
    """Anything with ``batch(step)``."""

    def batch(self, step: int) -> Batch:
        """The batch of one step."""
        ...


def _generator(seed: int, index: int, stream: int, part: int = 0) -> np.random.Generator:
    key, counter = np.array([seed, index], np.uint64), np.array([0, 0, part, stream], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def _integer(value: Any, name: str, least: int) -> int:
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = -1
    if number < least or number >= 2**63:
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")
    return number


def _host(tree: PyTree, name: str) -> tuple[Any, int]:
    """The pytree with NumPy leaves, and the length of their common leading axis."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    if not leaves:
        raise ValueError(f"{name} holds no arrays; expected a pytree of arrays with one leading axis")
    lengths = {}
    for path, leaf in leaves:
        shape = np.shape(leaf)
        where = name + jax.tree_util.keystr(path)
        if not shape:
            raise ValueError(f"{where} is a single number; expected an array whose first axis counts the samples")
        lengths.setdefault(shape[0], where)
    if len(lengths) > 1:
        found = ", ".join(f"{where} has {length} rows" for length, where in lengths.items())
        raise ValueError(f"{name} has leaves of different lengths: {found}; expected one leading axis")
    (n,) = lengths
    if n == 0:
        raise ValueError(f"{name} has 0 rows; expected at least one sample")
    return jax.tree.map(np.asarray, tree), n


def _mapped(tree: PyTree) -> list[mmap.mmap]:
    """The files behind arrays of ``np.load(path, mmap_mode="r")`` that are larger than what may be held in memory.

    Their rows are read in no order. Linux reads 128 kB for every page that is missing, and counts a page as memory of
    the process until it is taken away; so it is told of the first, and what a batch has copied is let go of. The files'
    pages stay cached for as long as nobody else needs the memory.
    """
    found = []
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, np.memmap) and leaf.mode == "r" and leaf.nbytes > limit() and hasattr(mmap, "MADV_RANDOM"):
            below: Any = leaf
            while isinstance(below, np.ndarray):
                below = below.base
            if isinstance(below, mmap.mmap):
                below.madvise(mmap.MADV_RANDOM)
                found.append(below)
    return found


class _Rows:
    """The endless line of row numbers 0 ... n - 1 of one stream."""

    def __init__(self, n: int, seed: int, stream: int) -> None:
        self.n = n

        def permutation(epoch: int) -> np.ndarray:
            return _generator(seed, epoch, stream).permutation(n)

        # A memo of a pure function: consecutive batches share one or two epochs.
        self._permutation = functools.lru_cache(maxsize=4)(permutation)

    def stretch(self, start: int, stop: int) -> np.ndarray:
        parts = []
        for epoch in range(start // self.n, (stop - 1) // self.n + 1):
            low, high = max(start - epoch * self.n, 0), min(stop - epoch * self.n, self.n)
            parts.append(self._permutation(epoch)[low:high])
        return np.concatenate(parts)


class Batches:
    """Shuffled batches of one data set, ``batch(step)`` a pure function of (seed, step).

    Args:
        x: an array ``[n, ...]`` or any pytree of arrays with one leading axis n. Rows that belong together
            (both ends of paired data, say) go in together: ``Batches({"source": a, "target": b}, ...)``.
        batch_size: B >= 1; may exceed n, and then a batch wraps around (see the top of this file).
        seed: a non-negative integer.
        labels: one label per row; then batches are ``{"x": ..., "label": ...}``, else they have the structure
            of x.

    Raises:
        ValueError: leaves of different lengths, no rows, a bad batch size or seed.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> batches = bj.data.Batches(np.arange(10.0)[:, None], batch_size=4)
        >>> batches.batch(0).shape                                                   # a pure function of the step
        (4, 1)
    """

    __repr__ = summary

    def __init__(self, x: Batch, batch_size: int, seed: int = 0, labels: Batch = None) -> None:
        self._data, self.n = _host(x if labels is None else {"x": x, "label": labels}, "x")
        self.batch_size = _integer(batch_size, "batch_size", 1)
        self.seed = _integer(seed, "seed", 0)
        self._rows = _Rows(self.n, self.seed, _FIRST)
        self._mapped = _mapped(x)

    @property
    def held(self) -> PyTree:
        """The arrays that batches are drawn from."""
        return self._data

    def rows(self, step: int) -> np.ndarray:
        """The row numbers of batch ``step`` (>= 0): int64 ``[B]``."""
        start = _integer(step, "step", 0) * self.batch_size
        return self._rows.stretch(start, start + self.batch_size)

    def batch(self, step: int) -> Batch:
        """Batch ``step`` (>= 0): leaves ``[B, ...]``, NumPy."""
        rows = self.rows(step)
        batch = jax.tree.map(lambda leaf: leaf[rows], self._data)
        for file in self._mapped:
            file.madvise(mmap.MADV_DONTNEED)  # of a map that is read only nothing is lost
        return batch


class NoData:
    """Batches of nothing, for methods that learn from a density: ``batch_size`` rows without columns.

    Args:
        batch_size: B >= 1, how many paths a step simulates.

    Raises:
        ValueError: a bad batch size.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> bj.data.NoData(4).batch(0).shape                                         # for methods of a density
        (4, 0)
    """

    __repr__ = summary

    def __init__(self, batch_size: int) -> None:
        self.batch_size = _integer(batch_size, "batch_size", 1)

    def batch(self, step: int) -> Batch:
        """``(B, 0)`` zeros."""
        return np.zeros((self.batch_size, 0), np.float32)


class Pairs:
    """Batches of two data sets, matched by a coupling: ``{"source": x0, "target": x1}``.

    Rows of source and target are drawn independently, then (i, j) = coupling(rng, x0, x1) and pair k is
    (x0[i_k], x1[j_k]). ``batch(step)`` is a pure function of (seed, step): the coupling's generator is one of
    its own for every step. A coupling that says ``aligned = True`` (``couplings.paired``) gets the *same*
    rows of both, which must then be of one length.

    Args:
        source: array ``[n, ...]``.
        target: array ``[m, ...]``.
        batch_size: B >= 1; may exceed n or m (wraps, as in ``Batches``).
        seed: a non-negative integer.
        coupling: ``(rng, x0[B], x1[B]) -> (i, j)``, index arrays of one length; None keeps the independent
            draws.
        labels: one label per *target* row; then batches also have ``"label"``.

    Raises:
        ValueError: bad arrays, sizes or seed; aligned data of different lengths; a coupling that returns
            anything but two integer index vectors of one length within [0, B).

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> pairs = bj.data.Pairs(np.zeros((10, 2)), np.ones((8, 2)), batch_size=4)
        >>> batch = pairs.batch(0)
        >>> batch["source"].shape, batch["target"].shape
        ((4, 2), (4, 2))
    """

    __repr__ = summary

    def __init__(
        self,
        source: Batch,
        target: Batch,
        batch_size: int,
        seed: int = 0,
        coupling: Pairing | None = None,
        labels: Batch = None,
    ) -> None:
        self._source, self.n_source = _host(source, "source")
        target_tree = {"target": target} if labels is None else {"target": target, "label": labels}
        self._target, self.n_target = _host(target_tree, "target")
        self.batch_size = _integer(batch_size, "batch_size", 1)
        self.seed = _integer(seed, "seed", 0)
        if coupling is not None and not callable(coupling):
            raise ValueError(f"coupling must be a function (rng, x0, x1) -> (i, j), got {type(coupling).__name__}")
        self.coupling = coupling
        aligned = bool(getattr(coupling, "aligned", False))
        if aligned and self.n_source != self.n_target:
            raise ValueError(
                f"coupling pairs row k of source with row k of target, but they have {self.n_source} and "
                f"{self.n_target} rows; give paired data, or another coupling"
            )
        self._source_rows = _Rows(self.n_source, self.seed, _FIRST)
        self._target_rows = _Rows(self.n_target, self.seed, _FIRST if aligned else _SECOND)

    @property
    def held(self) -> PyTree:
        """The arrays that batches are drawn from."""
        return self._source, self._target

    def batch(self, step: int) -> dict[str, Any]:
        """Batch ``step`` (>= 0): leaves ``[B, ...]``, NumPy."""
        step = _integer(step, "step", 0)
        start, stop = step * self.batch_size, (step + 1) * self.batch_size
        i = self._source_rows.stretch(start, stop)
        j = self._target_rows.stretch(start, stop)
        if self.coupling is not None:
            x0 = jax.tree.map(lambda leaf: leaf[i], self._source)
            x1 = jax.tree.map(lambda leaf: leaf[j], self._target["target"])
            matched = self.coupling(_generator(self.seed, step, _COUPLING), x0, x1)
            a, b = _checked_indices(matched, self.batch_size)
            i, j = i[a], j[b]
        return {
            "source": jax.tree.map(lambda leaf: leaf[i], self._source),
            **jax.tree.map(lambda leaf: leaf[j], self._target),
        }


def _checked_indices(matched: Any, size: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        a, b = (np.asarray(index) for index in matched)
    except (TypeError, ValueError):
        raise ValueError(f"coupling must return two index arrays (i, j), got {type(matched).__name__}") from None
    for name, index in (("i", a), ("j", b)):
        if index.ndim != 1 or index.dtype.kind not in "iu" or len(index) != size:
            raise ValueError(
                f"coupling returned {name} of dtype {index.dtype} and shape {index.shape}; expected {size} integers"
            )
        if index.min() < 0 or index.max() >= size:
            raise ValueError(
                f"coupling returned {name} from {index.min()} to {index.max()}; expected indices in [0, {size})"
            )
    return a, b


def prefetch(batches: HasBatch, start: int, stop: int | None = None, depth: int = 2) -> Iterator[Batch]:
    """Batches start, ..., stop - 1 in order, computed up to ``depth`` ahead in one background thread.

    What ``batches.batch`` raises is raised here, when its turn comes, after the batches before it. Closing
    the iterator (or dropping it, or leaving its loop by an exception) drops what is queued and waits for the
    one batch under way.

    Args:
        batches: anything with ``batch(step)``, safe to call from another thread.
        start: first step, >= 0.
        stop: one past the last step, or None for no end.
        depth: batches ahead, >= 1.

    Raises:
        ValueError: bad numbers, at the call and not at the first batch.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> batches = bj.data.Batches(np.arange(10.0)[:, None], batch_size=4)
        >>> [batch.shape for batch in bj.data.prefetch(batches, 0, 2)]
        [(4, 1), (4, 1)]
    """
    if not callable(getattr(batches, "batch", None)):
        raise ValueError(f"batches must have a method batch(step), as data.Batches has, got {type(batches).__name__}")
    start = _integer(start, "start", 0)
    stop = None if stop is None else _integer(stop, "stop", 0)
    return _prefetched(batches, start, stop, _integer(depth, "depth", 1))


def _prefetched(batches: HasBatch, start: int, stop: int | None, depth: int) -> Iterator[Batch]:
    steps = itertools.count(start) if stop is None else iter(range(start, stop))
    queue: collections.deque[Future] = collections.deque()
    worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bridgejax-prefetch")
    try:
        for step in itertools.islice(steps, depth):
            queue.append(worker.submit(batches.batch, step))
        while queue:
            ready = queue.popleft().result()
            for step in itertools.islice(steps, 1):
                queue.append(worker.submit(batches.batch, step))
            yield ready
    finally:
        worker.shutdown(wait=True, cancel_futures=True)
