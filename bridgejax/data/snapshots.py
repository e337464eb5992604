"""Snapshots: samples of one population at several times, of other individuals each time.

    times  t_0 < t_1 < ... < t_K,      arrays  x_k ~ p(t_k), (n_k, *shape),      weights  w_k >= 0 of their rows

A batch is made of neighbours. The B rows are shared out over the K gaps by their lengths, c_k each; rows of t_k and
t_(k+1) are drawn and paired within the gap by a coupling, and row i counts (t_(k+1) - t_k) B / c_k, so that the
mean over the batch of row weight times f is the integral of f over time. Rows are
drawn in proportion to their weights, whose sum is the mass of the population at that time.

Between the times there must be something, however close they are: an integral of ds/dt by values at fixed times alone
has no least value, for a potential may fall at all of them and rise in between.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from bridgejax._checks import check_count, describe, is_real
from bridgejax._summary import summary
from bridgejax._types import Numbers
from bridgejax.data.archives import headers, read_arrays
from bridgejax.data.batches import _COUPLING, Pairing, _checked_indices, _generator, _integer, _Rows
from bridgejax.data.loading import load
from bridgejax.data.named import mode_of, path_of
from bridgejax.data.reading import Reading
from bridgejax.data.tables import listed


def _times(times: Numbers) -> np.ndarray:
    if not is_real(times) or np.ndim(times) != 1:
        raise ValueError(f"times must be a list of real numbers, one for each snapshot, got {describe(times)}")
    found = np.asarray(times, np.float64)
    if len(found) < 2:
        raise ValueError(f"times has {len(found)} of them; snapshots need two at least, the first and the last")
    if not np.all(np.isfinite(found)):
        raise ValueError(f"times must be finite, got {found.tolist()}")
    steps = np.diff(found)
    if np.any(steps <= 0):
        k = int(np.argmax(steps <= 0))
        what = "repeats" if steps[k] == 0 else "is followed by an earlier time,"
        then = "join the rows of one time" if steps[k] == 0 else "sort the snapshots by time"
        raise ValueError(f"times must increase, and {found[k]:g} {what} {found[k + 1]:g} (places {k}, {k + 1}); {then}")
    return found


def _array(x: Numbers, k: int, time: float) -> np.ndarray:
    where = f"arrays[{k}], of time {time:g},"
    if not is_real(x):
        raise ValueError(f"{where} must hold real numbers, got {describe(x)}")
    found = np.asarray(x)
    if found.ndim == 0 or found.shape[0] == 0 or found.size == 0:
        raise ValueError(f"{where} has shape {found.shape}; expected (rows, *shape) with one row at least")
    if found.dtype.kind != "f":
        found = found.astype(np.float32)
    if not np.all(np.isfinite(found)):
        raise ValueError(f"{where} holds numbers that are not finite; leave such rows out")
    return found


def _weights(w: Numbers, k: int, rows: int) -> np.ndarray:
    if not is_real(w) or np.shape(w) != (rows,):
        raise ValueError(f"weights[{k}] must be {rows} real numbers, one for each row, got {describe(w)}")
    found = np.asarray(w, np.float64)
    if not (np.all(np.isfinite(found)) and np.all(found >= 0) and found.sum() > 0):
        raise ValueError(f"weights[{k}] must be finite, >= 0 and not all 0, got a least one of {found.min():g}")
    return found


@dataclass(frozen=True, eq=False, init=False)
class Snapshots:
    """Samples at several times, without a row that belongs to another.

    Args:
        times: increasing, (K + 1,), two at least, in any unit.
        arrays: of each time an array of samples, (n_k, *shape).
        weights: of each time one number >= 0 for each row, or None: rows count alike. Their sum at a time is the mass
            there, which only unbalanced methods see beyond shares.

    Raises:
        ValueError: times that do not increase, are repeated or fewer than two; arrays that are empty, not finite, of
            different shapes or another number than the times; weights that are negative or do not fit.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> rng = np.random.default_rng(0)
        >>> data = bj.data.Snapshots([0.0, 1.0, 3.0], [rng.normal(k, 1.0, (50, 2)) for k in range(3)])
        >>> len(data), data.shape, data.batches(8).batch(0)["source"].shape
        (3, (2,), (8, 2))
    """

    times: np.ndarray
    arrays: tuple[np.ndarray, ...]
    weights: tuple[np.ndarray, ...] | None

    __repr__ = summary

    def __init__(self, times: Numbers, arrays: Sequence[Numbers], weights: Sequence[Numbers] | None = None) -> None:
        found = _times(times)
        for name, given in (("arrays", arrays), ("weights", weights)):
            if name == "weights" and given is None:
                continue
            if isinstance(given, str | bytes | dict) or not hasattr(given, "__len__") or len(given) != len(found):  # pyright: ignore
                raise ValueError(
                    f"{name} must be a list with one array for each of {len(found)} times, got {describe(given)}"
                )
        rows = tuple(_array(x, k, found[k]) for k, x in enumerate(arrays))
        for k, x in enumerate(rows):
            if x.shape[1:] != rows[0].shape[1:]:
                raise ValueError(
                    f"arrays must hold samples of one shape; those of time {found[0]:g} have {rows[0].shape[1:]}, "
                    f"of time {found[k]:g} {x.shape[1:]}"
                )
        object.__setattr__(self, "times", found)
        object.__setattr__(self, "arrays", rows)
        mass = None
        if weights is not None:
            mass = tuple(_weights(w, k, len(x)) for k, (w, x) in enumerate(zip(weights, rows, strict=True)))
        object.__setattr__(self, "weights", mass)

    @staticmethod
    def from_rows(x: Numbers, time: Numbers, weights: Numbers | None = None) -> Snapshots:
        """Rows in any order, each with its time: equal times are one snapshot.

        Args:
            x: (n, *shape).
            time: (n,).
            weights: (n,), or None.

        Raises:
            ValueError: another number of times or weights than rows, and what ``Snapshots`` raises.
        """
        rows, when = _array(x, 0, 0.0), np.asarray(time)
        if not is_real(time) or when.shape != (len(rows),):
            raise ValueError(f"time must be {len(rows)} real numbers, one for each row of x, got {describe(time)}")
        mass = None if weights is None else _weights(weights, 0, len(rows))
        times = np.unique(when)
        return Snapshots(
            times,
            tuple(rows[when == t] for t in times),
            None if mass is None else tuple(mass[when == t] for t in times),
        )

    def __len__(self) -> int:
        return len(self.times)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.arrays[0].shape[1:]

    @property
    def masses(self) -> np.ndarray:
        """The mass at every time over that at the first, (K + 1,); 1 without weights."""
        if self.weights is None:
            return np.ones(len(self))
        total = np.array([w.sum() for w in self.weights])
        return total / total[0]

    def without(self, k: int) -> Snapshots:
        """All but snapshot k, which is kept to judge by.

        Raises:
            ValueError: no such snapshot, or fewer than two left.
        """
        k = check_count("k", k, 0)
        if k >= len(self):
            raise ValueError(f"k must be a snapshot, 0 to {len(self) - 1}, got {k}")
        keep = [j for j in range(len(self)) if j != k]
        weights = None if self.weights is None else tuple(self.weights[j] for j in keep)
        return Snapshots(self.times[keep], tuple(self.arrays[j] for j in keep), weights)

    def batches(self, batch_size: int, seed: int = 0, coupling: Pairing | None = None) -> SnapshotBatches:
        """Batches of neighbours, as ``fit`` takes them: a pure function of (seed, step).

        Args:
            batch_size: B, at least one row a gap.
            seed: a non-negative integer.
            coupling: ``(rng, x0, x1) -> (i, j)`` of ``bridgejax.couplings``, used gap by gap; None: rows are paired at
                random.

        Raises:
            ValueError: fewer rows than gaps, a coupling that is no function.
        """
        return SnapshotBatches(self, batch_size, seed, coupling)


def _shared(total: int, lengths: np.ndarray) -> np.ndarray:
    """``total`` rows over gaps by their lengths, one each at least."""
    wanted = total * lengths / lengths.sum()
    counts = np.maximum(np.floor(wanted).astype(int), 1)
    while counts.sum() < total:
        counts[int(np.argmax(wanted - counts))] += 1
    while counts.sum() > total:
        counts[int(np.argmax(np.where(counts > 1, counts - wanted, -math.inf)))] -= 1
    return counts


class SnapshotBatches:
    """Batches of ``Snapshots``; made by its ``batches``.

    A batch has ``source`` and ``target`` (B, *shape), ``start`` and ``end``, their times (B,), ``weight`` (B,), what a
    row counts in an integral over time, and where there are weights ``mass`` (B, 3): at start, at end and at the last
    time, over that at the first.
    """

    __repr__ = summary

    def __init__(self, snapshots: Snapshots, batch_size: int, seed: int = 0, coupling: Pairing | None = None) -> None:
        self.snapshots = snapshots
        self.batch_size = _integer(batch_size, "batch_size", 1)
        self.seed = _integer(seed, "seed", 0)
        if coupling is not None and not callable(coupling):
            raise ValueError(f"coupling must be a function (rng, x0, x1) -> (i, j), got {type(coupling).__name__}")
        self.coupling = coupling
        gaps, times = np.diff(snapshots.times), snapshots.times
        if self.batch_size < len(gaps):
            raise ValueError(
                f"batch_size must be at least the number of gaps between the times, {len(gaps)}, got {self.batch_size}"
            )
        self.counts = _shared(self.batch_size, gaps)
        wide = jax.dtypes.canonicalize_dtype(np.float64)
        self._fixed: dict[str, np.ndarray] = {
            "start": np.repeat(times[:-1], self.counts).astype(wide),
            "end": np.repeat(times[1:], self.counts).astype(wide),
            "weight": np.repeat(gaps * self.batch_size / self.counts, self.counts).astype(wide),
        }
        if snapshots.weights is not None:
            m = snapshots.masses
            ends = np.stack([m[:-1], m[1:], np.full(len(gaps), m[-1])], axis=1)
            self._fixed["mass"] = np.repeat(ends, self.counts, axis=0).astype(wide)
        # a stream of rows for every place that draws: gap k from t_k and from t_(k+1)
        self._streams: dict[tuple[str, int], _Rows] = {}

    def _rows(self, step: int, place: str, index: int, k: int, count: int) -> np.ndarray:
        """``count`` rows of snapshot k, for one place of the batch."""
        number = 2 * index + (place == "target")
        weights = self.snapshots.weights
        if weights is not None:
            w = weights[k]
            return _generator(self.seed, step, 16 + number).choice(len(w), count, p=w / w.sum())
        stream = self._streams.setdefault((place, index), _Rows(len(self.snapshots.arrays[k]), self.seed, 16 + number))
        return stream.stretch(step * count, (step + 1) * count)

    def batch(self, step: int) -> dict[str, Any]:
        """Batch ``step`` (>= 0), NumPy."""
        step = _integer(step, "step", 0)
        arrays = self.snapshots.arrays
        source: list[np.ndarray] = []
        target: list[np.ndarray] = []
        for k, count in enumerate(self.counts):
            x0 = arrays[k][self._rows(step, "source", k, k, int(count))]
            x1 = arrays[k + 1][self._rows(step, "target", k, k + 1, int(count))]
            if self.coupling is not None:
                matched = self.coupling(_generator(self.seed, step * len(self.counts) + k, _COUPLING), x0, x1)
                i, j = _checked_indices(matched, int(count))
                x0, x1 = x0[i], x1[j]
            source.append(x0)
            target.append(x1)
        return {"source": np.concatenate(source), "target": np.concatenate(target), **self._fixed}


def standardised(snapshots: Snapshots) -> tuple[Snapshots, np.ndarray, np.ndarray]:
    """The snapshots in one unit, by the mean and deviation of the rows of all times: (snapshots, shift, scale)."""
    every = np.concatenate([np.asarray(x, np.float64) for x in snapshots.arrays])
    shift, scale = every.mean(axis=0), every.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    scaled: Sequence[np.ndarray] = [((x - shift) / scale).astype(np.float32) for x in snapshots.arrays]
    return Snapshots(snapshots.times, tuple(scaled), snapshots.weights), shift, scale


def read_snapshots(path: str, time_column: str, reading: Reading) -> tuple[Snapshots, tuple[str, ...], tuple[str, ...]]:
    """Rows of a table, each with its time in a column, or a .npz file with ``x`` and ``times``.

    Args:
        path: the file.
        time_column: of a table, by name or number from 1.
        reading: how it is read; ``columns`` are those of a sample.

    Returns:
        The snapshots, the names of the columns of a sample, and what was done in reading.

    Raises:
        ValueError: no such column, no column beside it, one time alone, and what ``data.load`` raises.
    """
    place = path_of(path)
    if place.suffix.lower() == ".npz":
        mode_of(place)
        there = headers(place)
        missing = [name for name in ("x", "times") if name not in there]
        if missing:
            raise ValueError(f"{path} has no array {missing[0]!r}; snapshots are rows x and their times")
        held = read_arrays(place, ("x", "times"))
        return Snapshots.from_rows(held["x"], held["times"]), (), ()
    chosen = reading.columns
    columns = f"{chosen},{time_column}" if chosen else ""
    table = load(path, **dataclasses.asdict(dataclasses.replace(reading, columns=columns, kind="table")))
    values, names = np.asarray(table.values), table.columns
    if chosen:
        at = values.shape[1] - 1
    elif time_column in names:
        at = names.index(time_column)
    elif time_column.isdecimal() and 1 <= int(time_column) <= values.shape[1]:
        at = int(time_column) - 1
    else:
        there = listed(names) if names else f"{values.shape[1]}, without a header: name one by its number"
        raise ValueError(f"time_column {time_column!r:.100} is no column of {path}; its columns: {there}")
    if values.shape[1] < 2:
        raise ValueError(f"{path} has no column beside the times {time_column!r}; expected at least one")
    keep = [k for k in range(values.shape[1]) if k != at]
    times = values[:, at]
    if len(np.unique(times)) < 2:
        raise ValueError(f"{path} has one time alone, {times[0]:g}, in column {time_column!r}; expected at least two")
    if len(np.unique(times)) > len(times) // 2:
        raise ValueError(
            f"{path} has {len(np.unique(times))} times for {len(times)} rows in column {time_column!r}; a snapshot is "
            "many rows of one time: round the times, or name another column"
        )
    return Snapshots.from_rows(values[:, keep], times), tuple(names[k] for k in keep) if names else (), table.notes
