"""A data set: samples standardised once, with the affine map that takes them back.

    x = (raw - shift) / scale,      raw = scale x + shift

    vectors   shift, scale: mean and standard deviation of every column (a constant column has scale 1)
    series    the same of every channel, over all samples and times
    images    shift, scale: middle and half width of the value range [low, high], so that x lies in [-1, 1]

The map is kept in float64, and the samples as they were given beside x: a column of time stamps near 1.7e9 has no
digits left in float32.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import jax
import numpy as np

from bridgejax._checks import check_count
from bridgejax._summary import summary
from bridgejax._types import Batch

Kind = Literal["points", "table", "series", "image", "manifold", "target"]

_LARGEST = float(np.finfo(np.float32).max)
_SMALLEST = float(np.finfo(np.float32).tiny)
MOST_WHOLE = 2**53  # float64 tells every whole number up to here from its neighbours


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Samples of one law, standardised.

    Attributes:
        x: float32 array ``[n, *shape]``, standardised.
        labels: int32 array ``[n]`` of classes 0 ... num_classes - 1, or None.
        name: where the samples come from, for titles and messages.
        kind: ``"points"`` (vectors of at most 3 numbers, which a scatter plot shows), ``"table"`` (longer
            vectors), ``"series"`` (``shape`` is times, channels), ``"image"`` (height, width, channels) or
            ``"manifold"`` (x are points, raw the rows of the table that they were read from) or ``"target"`` (the
            column of a table that is predicted; classes are their indices).
        shift: float64, ``[d]`` for vectors, ``[channels]`` for series and a scalar array for images.
        scale: float64, of the shape of ``shift``, positive.
        classes: names of the classes, empty without labels.
        columns: names of the columns of a table, empty when unknown.
        texts: of columns that hold text, the names of their categories; x then stands for the indices.
        raw: the samples as they were given, ``[n, *shape]`` in their own units and dtype (not copied), or
            None where only x is left.
        notes: sentences on what was done in reading, such as missing values that were filled.
        label_column: name and place of the column of a .csv file that the labels were read from.
    """

    x: np.ndarray
    labels: np.ndarray | None
    name: str
    kind: Kind
    shift: np.ndarray
    scale: np.ndarray
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    texts: dict[int, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    raw: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    label_column: tuple[str, int] = ("", 0)

    @property
    def values(self) -> np.ndarray:
        """The samples in the data's own units ``[n, *shape]``: as they were given, else scale x + shift."""
        return self.destandardise(self.x) if self.raw is None else self.raw

    __repr__ = summary

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.x.shape[1:]

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 without labels."""
        return len(self.classes)

    def __len__(self) -> int:
        return len(self.x)

    def standardise(self, raw: Batch) -> Batch:
        """(raw - shift) / scale for ``[..., *shape]``: float32 for NumPy input, a JAX array for a JAX one."""
        if isinstance(raw, jax.Array):
            return (raw - self.shift) / self.scale
        return ((np.asarray(raw) - self.shift) / self.scale).astype(np.float32)

    def destandardise(self, x: Batch) -> Batch:
        """Scale x + shift for ``[..., *shape]``: float64 for NumPy input, a JAX array for a JAX one."""
        if isinstance(x, jax.Array):
            return x * self.scale + self.shift
        return np.asarray(x) * self.scale + self.shift


def _numbers(x: Batch, what: str) -> np.ndarray:
    """``x`` as a finite array of real numbers that fit into float32, or one sentence."""
    try:
        x = np.asarray(x)
    except ValueError as error:
        raise ValueError(f"{what} is ragged: its rows must have equal length ({error})") from None
    if x.dtype == object:
        raise ValueError(f"{what} has dtype object; expected numbers: save it as a plain numeric array")
    if x.dtype.kind not in "biuf":
        raise ValueError(f"{what} has dtype {x.dtype}; expected real numbers (integer or floating)")
    if x.dtype.kind == "b":
        x = x.astype(np.uint8)
    if x.ndim == 0:
        raise ValueError(f"{what} is a single number; expected an array whose first axis counts the samples")
    if len(x) < 2:
        raise ValueError(f"{what} has {len(x)} row{'s' * (len(x) != 1)}; expected at least 2 samples")
    if x.size == 0:
        raise ValueError(f"{what} has shape {x.shape}, which holds no numbers; expected at least one column")
    good = np.isfinite(x)
    if not good.all():
        at = np.unravel_index(int(np.argmin(good)), x.shape)
        raise ValueError(
            f"{what} has {int((~good).sum())} value(s) that are NaN or infinite, the first in row {int(at[0])}"
            f" (index {tuple(int(i) for i in at)}: {x[at]}); remove or fill them"
        )
    if x.dtype.kind in "iu" and x.dtype.itemsize == 8 and max(-int(x.min()), int(x.max())) > MOST_WHOLE:
        raise ValueError(f"{what} {too_whole(max(int(x.min()), int(x.max()), key=abs))}")
    if x.dtype.kind == "f" and x.dtype.itemsize > 4:  # no integer type reaches 3.4e38
        low, high = float(x.min()), float(x.max())
        if max(-low, high) > _LARGEST:
            worst = low if -low > high else high
            raise ValueError(f"{what} holds {worst:g}, which float32 cannot (largest {_LARGEST:.2g}); rescale it")
    return x


def too_whole(number: int) -> str:
    """What is wrong with a whole number that float64 rounds."""
    return (
        f"holds {number}, a whole number beyond 2**53, where float64 rounds to even ones; leave that column out, or "
        "subtract a constant"
    )


def _class_indices(labels: Batch, n: int, what: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Any labels as int32 indices into the sorted distinct values, and the names of those."""
    labels = np.asarray(labels)
    if labels.shape == (n, 1):
        labels = labels[:, 0]
    if labels.shape != (n,):
        raise ValueError(f"labels of {what} have shape {labels.shape}; expected one per sample, shape ({n},)")
    if labels.dtype.kind not in "biufU":
        raise ValueError(f"labels of {what} have dtype {labels.dtype}; expected whole numbers or text")
    if labels.dtype.kind == "f":
        if not np.array_equal(labels, np.floor(labels)):  # NaN and infinity: NaN is unequal to itself
            raise ValueError(f"labels of {what} are not whole numbers; expected classes, not measurements")
        if not np.isfinite(labels).all():
            raise ValueError(f"labels of {what} have infinite values; expected whole numbers or text")
        labels = labels.astype(np.int64)
    values, index = np.unique(labels, return_inverse=True)
    return index.reshape(n).astype(np.int32), tuple(str(v) for v in values)


_TIMES = 16  # a shorter vector is never taken for a series
_TOGETHER = 0.8  # mean correlation of neighbouring times


def _is_series(x: np.ndarray, columns: Sequence[str]) -> bool:
    """Whether vectors and grey images are series, by the rule of ``from_array``."""
    if x.ndim == 3:
        return x.shape[1] >= max(_TIMES, 4 * x.shape[2])
    if x.ndim != 2 or x.shape[1] < _TIMES or columns:
        return False
    x = x[:10_000].astype(np.float64)
    moving = np.ptp(x, axis=0) > 0
    if moving.mean() < 0.5 or len(x) < 10:
        return False
    z = x[:, moving]
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    return float(np.mean(z[:, 1:] * z[:, :-1])) >= _TOGETHER


def from_array(
    x: Batch,
    labels: Batch = None,
    *,
    name: str = "array",
    value_range: tuple[float, float] | None = None,
    columns: Sequence[str] = (),
    kind: str = "auto",
) -> Dataset:
    """Check and standardise an array of samples.

    The shape says what a sample is, unless ``kind`` does:

        [n], [n, d]      vectors, or series of d times where the numbers go together: at least 16 of them without names,
                         with a mean correlation of neighbours of at least 0.8
        [n, T, C]        series of C channels where they are long and narrow, T >= 16 and T >= 4 C; else grey images
        [n, h, w, c]     images of 1 to 4 channels

    Args:
        x: real numbers, first axis the samples, at least 2 of them.
        labels: one class per sample (whole numbers or text), or None.
        name: used in messages and titles.
        value_range: (low, high) of image values, taken to [-1, 1]; by default the range of the data.
        columns: names of the columns of vectors.
        kind: ``"table"`` (vectors), ``"series"`` ([n, T] or [n, T, C]), ``"image"`` ([n, h, w] or [n, h, w, c]), or
            ``"auto"``, the rule above.

    Returns:
        A Dataset; series have ``shape`` (T, C), grey images (h, w, 1).

    Raises:
        ValueError: for anything else (objects, text, NaN, infinity, fewer than 2 rows, no columns, values
            beyond float32, channels first, labels of another length), in one sentence.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> data = bj.data.from_array(np.arange(20.0).reshape(10, 2))
        >>> data.shape, data.destandardise(data.x[9:]).round(4).tolist()             # data.x is standardised
        ((2,), [[18.0, 19.0]])
    """
    x = _numbers(x, name)
    classes: tuple[str, ...] = ()
    if labels is not None:
        labels, classes = _class_indices(labels, len(x), name)
    ranks = {"auto": (1, 2, 3, 4), "table": (1, 2), "series": (2, 3), "image": (3, 4)}
    if kind not in ranks:
        raise ValueError(f"kind must be one of {', '.join(ranks)}, got {kind!r}")
    if x.ndim not in ranks[kind]:
        takes = {"table": "[n, d] for vectors", "series": "[n, T] or [n, T, C] for series"}
        vectors = "[n, d] for vectors, [n, T, C] for series, [n, h, w] or [n, h, w, c] for images"
        raise ValueError(
            f"{name} has shape {x.shape}; expected "
            f"{takes.get(kind, vectors if kind == 'auto' else '[n, h, w] or [n, h, w, c] for images')}"
        )
    if kind == "series" or (kind == "auto" and _is_series(x, columns)):
        return _standardised(x.reshape(*x.shape[:2], -1), labels, name, "series", classes, ())
    if x.ndim <= 2:
        x = x.reshape(len(x), -1)
        return _standardised(x, labels, name, "points" if x.shape[1] <= 3 else "table", classes, tuple(columns))
    x = x[..., None] if x.ndim == 3 else x
    if not 1 <= x.shape[3] <= 4:
        first = " (channels first? move them last with np.moveaxis(x, 1, -1))" if 1 <= x.shape[1] <= 4 else ""
        raise ValueError(f"{name} has shape {x.shape}; expected images [n, h, w, c] with 1 to 4 channels{first}")
    low, high = value_range or (float(x.min()), float(x.max()))
    middle, half = low / 2 + high / 2, high / 2 - low / 2
    if not math.isfinite(half) or half <= _SMALLEST:
        half = 1.0
    wide = np.float64 if x.dtype.itemsize > 4 else np.float32
    scaled = (np.subtract(x, middle, dtype=wide) / wide(half)).astype(np.float32, copy=False)
    return Dataset(scaled, labels, name, "image", np.asarray(middle), np.asarray(half), classes, raw=x)


def _standardised(
    raw: np.ndarray, labels: Batch, name: str, kind: Kind, classes: tuple[str, ...], columns: tuple[str, ...]
) -> Dataset:
    """By the mean and deviation of the last axis."""
    x = raw.astype(np.float64)
    over = tuple(range(x.ndim - 1))
    shift, scale = x.mean(axis=over), x.std(axis=over)
    # Rounding gives a constant column a deviation near 1e-17, and a spread below float32's smallest normal
    # number would be a division by zero on the device.
    scale = np.where((x.max(axis=over) > x.min(axis=over)) & (scale > _SMALLEST), scale, 1.0)
    x -= shift  # a copy, of which a second one would double the memory that reading takes
    x /= scale
    x = x.astype(np.float32)
    return Dataset(x, labels, name, kind, shift, scale, classes, columns, raw=raw)


def split(dataset: Dataset, holdout: float = 0.2, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Two disjoint parts of a data set, drawn without replacement: (the rest, the held-out part).

    Both keep the order of their rows and the shift and scale of the whole, so that they compare in one unit.

    Args:
        dataset: what to split.
        holdout: the fraction held out, in (0, 1); either part gets at least one sample.
        seed: a non-negative integer; the split is a function of (seed, n, holdout) only.

    Raises:
        ValueError: for a fraction outside (0, 1), fewer than 2 samples, or a negative seed.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> train, holdout = bj.data.split(bj.data.from_array(np.arange(20.0).reshape(10, 2)), 0.2)
        >>> len(train), len(holdout)
        (8, 2)
    """
    if not isinstance(dataset, Dataset):
        raise ValueError(f"dataset must be a Dataset, got {type(dataset).__name__}; make one with data.from_array")
    n = len(dataset)
    if (
        isinstance(holdout, bool)
        or not isinstance(holdout, float | int | np.floating | np.integer)
        or not 0.0 < holdout < 1.0
    ):
        raise ValueError(f"holdout must be a fraction between 0 and 1, got {holdout!r}")
    if n < 2:
        raise ValueError(f"{dataset.name} has {n} sample(s); a split needs at least 2")
    check_count("seed", seed, 0)
    out = min(max(round(n * holdout), 1), n - 1)
    order = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, n]))).permutation(n)
    return take(dataset, np.sort(order[out:])), take(dataset, np.sort(order[:out]))


def take(dataset: Dataset, rows: np.ndarray) -> Dataset:
    """The given rows, with the shift, scale and classes of the whole."""
    labels, raw = (None if part is None else part[rows] for part in (dataset.labels, dataset.raw))
    return dataclasses.replace(dataset, x=dataset.x[rows], labels=labels, raw=raw)
