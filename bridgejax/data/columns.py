"""Column types of tables, and pixel types of images: their possible values, and their encoding to learn on.

    kind        values                    learnt on                              back
    real        all                       (v - shift) / scale                    scale x + shift
    positive    v >= 0                    the same                               max(., 0)
    bounded     low <= v <= high          the same                               clipped to rounding
    integer     low, low + 1, ..., high   the same                               the nearest integer
    decimal     the same in steps of      the same                               the nearest of them
                0.1, 0.01 or 0.001
    category    values[0], values[1], ..  one-hot, as many numbers as values     values[argmax]

A table has one column of these for each of its own, an image one for all its pixels and channels; "sphere" and
"simplex" are of a whole vector and stay as they are. The way back only removes float32's rounding: a model on the
domain that goes with the columns (``methods.recipes``) takes no other values.

Digits. What is learnt on is float32 near 0, and holds a column to scale / 2^24; the column itself may hold more, near
1.7e9 for times in seconds. So NumPy arrays are encoded and decoded in float64 on the host, and whole numbers, decimals
and categories come back exactly (whole numbers beyond 2^53 are refused). The other columns are rounded to the decimals
that the data have, and to those that float32 can tell apart. JAX arrays are decoded in their own precision.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bridgejax._types import Batch
from bridgejax.data.tables import text_of

KINDS = ("real", "positive", "bounded", "integer", "decimal", "category")
GRIDS = ("integer", "decimal")
WHOLE = ("sphere", "simplex")
MOST_CATEGORIES = 256
MOST_LEVELS = 2**20  # of an integer or decimal column: its domain holds them all


@dataclasses.dataclass(frozen=True)
class Column:
    """One column, or all pixels of an image.

    Attributes:
        name: for messages.
        kind: one of ``KINDS``.
        low: smallest value; of a positive column 0.
        high: largest value, among the data where it is no bound.
        shift: subtracted.
        scale: divided by.
        values: of a category, in order.
        texts: their names, where they are text; then values are 0, 1, ...
        step: of an integer or decimal column.
        decimals: of the other columns of numbers, what they are rounded to on the host; None: not rounded.
    """

    name: str
    kind: str
    low: float
    high: float
    shift: float = 0.0
    scale: float = 1.0
    values: tuple[float, ...] = ()
    texts: tuple[str, ...] = ()
    step: float = 1.0
    decimals: int | None = None

    @property
    def size(self) -> int:
        """Numbers it is learnt on."""
        return len(self.values) if self.kind == "category" else 1

    def encode(self, v: np.ndarray) -> np.ndarray:
        """(...,) -> (..., size) float32."""
        if self.kind == "category":
            return np.asarray(np.asarray(v)[..., None] == np.asarray(self.values), np.float32)
        return np.asarray((np.asarray(v, np.float64) - self.shift) / self.scale, np.float32)[..., None]

    def decode(self, x: Batch) -> Batch:
        """(..., size) -> (...,): float64 for NumPy input, a JAX array for a JAX one."""
        host = not isinstance(x, jax.Array)
        xp: Any = np if host else jnp
        if self.kind == "category":
            chosen = xp.argmax(x, axis=-1)
            return np.asarray(self.values)[chosen] if host else jnp.asarray(self.values, x.dtype)[chosen]
        v = (np.asarray(x, np.float64) if host else x)[..., 0] * self.scale + self.shift
        if self.kind in GRIDS:
            return self.snap(v)
        if host and self.decimals is not None:
            v = np.round(v, self.decimals)
        return v if self.kind == "real" else xp.clip(v, self.low, self.high if self.kind == "bounded" else None)

    def snap(self, v: Batch) -> Batch:
        """The nearest level of an integer or decimal column: 7 / 10 is the number written 0.7, and 7 * 0.1 is not."""
        if isinstance(v, jax.Array):
            return jnp.rint(v / self.step) / round(1.0 / self.step)
        return np.rint(np.asarray(v, np.float64) / self.step) / round(1.0 / self.step)

    def __str__(self) -> str:
        if self.kind == "category":
            shown = self.texts or tuple(map(text_of, self.values))
            return f"{self.name}: category of {len(shown)} ({', '.join(shown[:4])}{', ...' * (len(shown) > 4)})"
        ends = "" if self.kind in ("real", "positive") else f" {text_of(self.low)} to {text_of(self.high)}"
        step = f" by {self.step:g}" if self.kind == "decimal" else ""
        return f"{self.name}: {self.kind}{ends}{step}{', rounded to whole numbers' if self.decimals == 0 else ''}"


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Encoding:
    """Raw samples to what is learnt, and back.

    Attributes:
        columns: one for each column of a table; one for all pixels of an image; none for a whole vector.
        shape: of one raw sample.
        whole: one of ``WHOLE``, or empty.
    """

    columns: tuple[Column, ...]
    shape: tuple[int, ...]
    whole: str = ""

    @property
    def encoded_shape(self) -> tuple[int, ...]:
        """Shape of one sample as learnt; a one-channel image of categories has them as channels."""
        if self.whole:
            return self.shape
        if len(self.shape) == 1:
            return (sum(column.size for column in self.columns),)
        size = self.columns[0].size
        return self.shape if size == 1 else (*self.shape[:-1], self.shape[-1] * size)

    def encode(self, raw: np.ndarray) -> np.ndarray:
        """(n, *shape) -> (n, *encoded_shape), float32."""
        if self.whole:
            return np.asarray(raw, np.float32)
        if len(self.shape) == 1:
            return np.concatenate([c.encode(raw[:, k]) for k, c in enumerate(self.columns)], axis=1)
        return self.columns[0].encode(raw).reshape(len(raw), *self.encoded_shape)

    def decode(self, x: Batch) -> Batch:
        """Samples back, (..., *encoded_shape) -> (..., *shape): float64 for NumPy input, a JAX array for a JAX one."""
        if self.whole:
            return x
        if len(self.shape) == 1:
            stops = np.cumsum([c.size for c in self.columns]).tolist()
            parts = [c.decode(x[..., stop - c.size : stop]) for c, stop in zip(self.columns, stops, strict=True)]
            return (jnp if isinstance(x, jax.Array) else np).stack(parts, axis=-1)
        size = self.columns[0].size
        return self.columns[0].decode(x.reshape(*x.shape[: x.ndim - len(self.encoded_shape)], *self.shape, size))

    def texts_of(self, raw: np.ndarray) -> list[list[str]]:
        """Rows of a table as text that reads back as the same numbers, categories by name."""
        cells = []
        for column, v in zip(self.columns, np.asarray(raw).T, strict=True):
            names = dict(zip(column.values, column.texts, strict=False))
            if column.kind in GRIDS:  # a level that was decoded on a device is rounded to its precision
                v = column.snap(v)
            cells.append([names.get(float(u)) or text_of(u) for u in v])
        return [list(row) for row in zip(*cells, strict=True)]

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        return "; ".join(map(str, self.columns)) or f"points of the unit {self.whole}"


def from_record(record: dict[str, Any]) -> Encoding:
    """What ``record`` wrote."""
    columns = tuple(
        Column(**{**c, "values": tuple(c["values"]), "texts": tuple(c["texts"])}) for c in record["columns"]
    )
    return Encoding(columns, tuple(record["shape"]), record["whole"])


_DISTINCT = 0.25  # of the rows: a decimal column has at most as many distinct values; a measurement has more
_MOST_DECIMAL = 4096  # levels of a decimal column that nobody asked for
_MOST_INTEGER = 2**16  # levels of an integer column that nobody asked for


def decimals_of(v: np.ndarray) -> int | None:
    """The fewest decimals, at most 9, that all values are written with, to their own rounding; None: more."""
    size, single = float(np.max(np.abs(v))), np.array_equal(v, v.astype(np.float32))
    rounding = 4.0 * float(np.finfo(np.float32 if single else np.float64).eps) * size
    for decimals in range(10):
        off = np.abs(v - np.rint(v * 10**decimals) / 10**decimals)
        if np.all(off <= rounding) and off.max() < 0.25 * 0.1**decimals:
            return decimals
    return None


def rounded_to(v: np.ndarray, scale: float) -> int | None:
    """Decimals to round a learnt column to: those of the data, or those that float32 tells apart on this scale."""
    told, found = max(0, math.ceil(-math.log10(scale / 2**24))), decimals_of(v)
    fewest = told if found is None else min(told, found)
    return fewest if fewest <= 15 else None


def _kind_of(v: np.ndarray, texts: Sequence[str]) -> str:
    distinct = len(np.unique(v))
    if texts or distinct <= 2:
        return "category"
    decimals, span = decimals_of(v), float(np.ptp(v))
    if decimals == 0:
        return "integer" if span <= _MOST_INTEGER else "bounded"
    if decimals in (1, 2, 3) and distinct <= _DISTINCT * len(v) and span <= _MOST_DECIMAL * 0.1**decimals:
        return "decimal"
    return "positive" if v.min() >= 0 else "real"


def _column(name: str, kind: str, v: np.ndarray, texts: Sequence[str], *, image: bool = False) -> Column:
    low, high = float(v.min()), float(v.max())
    if texts and kind != "category":
        raise ValueError(f"{name} holds text such as {texts[0]!r}, so it is a category, not {kind}")
    if kind == "category":
        values = np.arange(len(texts)) if texts else np.unique(v)
        if not 2 <= len(values) <= MOST_CATEGORIES:
            raise ValueError(f"{name} has {len(values)} distinct values; a category has 2 to {MOST_CATEGORIES}")
        return Column(name, kind, low, high, values=tuple(map(float, values)), texts=tuple(texts))
    if kind == "integer" and not np.array_equal(v, np.rint(v)):
        raise ValueError(f"{name} holds {text_of(v[v != np.rint(v)][0])}, which is no integer; make it real or bounded")
    decimals = {"integer": 0, "decimal": decimals_of(v)}.get(kind, 0)
    if decimals is None or decimals > 3:
        raise ValueError(f"{name} has values that are no multiples of 0.1, 0.01 or 0.001, or too large for float32 to "
                         "tell; make it real or bounded")  # fmt: skip
    step = 10.0**-decimals if kind != "decimal" or decimals else 0.1
    if kind in GRIDS and high - low > MOST_LEVELS * step:
        raise ValueError(
            f"{name} has {(high - low) / step:.0f} levels, from {text_of(low)} to {text_of(high)}; at most "
            f"{MOST_LEVELS} are possible: make it bounded, which is rounded to the data's decimals"
        )
    if kind == "positive" and low < 0:
        raise ValueError(f"{name} holds {text_of(low)}, which is not positive; make it real or bounded")
    shift, scale = (0.5 * (low + high), 0.5 * (high - low)) if image else (float(v.mean()), float(v.std()))
    if not scale > float(np.finfo(np.float32).tiny):
        raise ValueError(f"{name} is constant ({text_of(low)}); leave it out")
    if kind in GRIDS:
        low, high = (round(end / step) / round(1.0 / step) for end in (low, high))
        return Column(name, kind, low, high, shift, scale, step=step)
    low = 0.0 if kind == "positive" else low
    return Column(name, kind, low, high, shift, scale, decimals=None if image else rounded_to(v, scale))


def _asked(domain: str, names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """A text of kinds and name=kind, parted by commas, as (the kind for the rest, {name: kind})."""
    rest, named = "", {}
    for part in filter(None, (p.strip() for p in domain.split(","))):
        name, _, kind = part.rpartition("=")
        if kind not in KINDS and not (kind == "auto" and not name):
            raise ValueError(f"domain {part!r} is not understood: write a kind ({', '.join(KINDS)}) or column=kind")
        if name and name not in names:
            raise ValueError(f"domain names the column {name!r}, which is not there; columns: {', '.join(names)}")
        if name:
            named[name] = kind
        else:
            rest = "" if kind == "auto" else kind
    return rest, named


def infer(
    raw: np.ndarray, domain: str = "auto", names: Sequence[str] = (), texts: dict[int, tuple[str, ...]] | None = None
) -> Encoding:
    """The columns of a table or the pixels of an image, by their values, unless told.

    Text and two-valued columns are categories, whole numbers integers between their ends (bounded and rounded where
    they span more than 65,536), numbers with one to three decimals of which each occurs four times on average decimal,
    other non-negative columns positive, the rest real. Pixels that are whole numbers are integers, others bounded.

    Args:
        raw: (n, columns), images (n, height, width, channels) or series (n, times, channels).
        domain: "auto"; a kind for all; "column=kind,..." for some; "sphere" or "simplex" for the whole vector.
        names: of the columns; default 1, 2, ...
        texts: names of the categories of text columns, by column; ``raw`` then holds their indices.

    Raises:
        ValueError: an unknown kind or column, or values that the kind does not take.
    """
    raw, texts = np.asarray(raw, np.float64), texts or {}
    if domain in WHOLE:
        size = np.abs((raw**2).sum(-1) - 1.0) if domain == "sphere" else np.abs(raw.sum(-1) - 1.0)
        bad = (size > 1e-3) | ((raw < -1e-6).any(-1) if domain == "simplex" else False)
        if raw.ndim != 2 or raw.shape[1] < 2 or bad.any():
            where = "" if raw.ndim != 2 else f", such as row {int(np.argmax(bad))}"
            raise ValueError(f"domain {domain!r} takes vectors on the unit {domain}; these are not{where}")
        return Encoding((), raw.shape[1:], domain)
    if raw.ndim > 2:
        rest, _ = _asked(domain, ())
        kind = rest or ("integer" if np.array_equal(raw, np.rint(raw)) else "bounded")
        return Encoding((_column("pixels", kind, raw, (), image=True),), raw.shape[1:])
    names = tuple(names) or tuple(f"{k + 1}" for k in range(raw.shape[1]))
    rest, named = _asked(domain, names)
    columns = []
    for k, name in enumerate(names):
        v, text = raw[:, k], texts.get(k, ())
        kind = named.get(name) or (rest if rest and not text else _kind_of(v, text))
        columns.append(_column(name, kind, v, text))
    return Encoding(tuple(columns), raw.shape[1:])
