"""What the columns of a table, or the pixels of an image, are: which values they take, and numbers to learn on.

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
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

KINDS = ("real", "positive", "bounded", "integer", "decimal", "category")
GRIDS = ("integer", "decimal")
WHOLE = ("sphere", "simplex")
MOST_CATEGORIES = 256


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

    @property
    def size(self) -> int:
        """Numbers it is learnt on."""
        return len(self.values) if self.kind == "category" else 1

    def encode(self, v: np.ndarray) -> np.ndarray:
        """(...,) -> (..., size) float32."""
        if self.kind == "category":
            return np.asarray(np.asarray(v)[..., None] == np.asarray(self.values), np.float32)
        return np.asarray((np.asarray(v, np.float64) - self.shift) / self.scale, np.float32)[..., None]

    def decode(self, x: Array) -> Array:
        """(..., size) -> (...,)."""
        if self.kind == "category":
            return jnp.asarray(self.values, jnp.float32)[jnp.argmax(x, axis=-1)]
        v = x[..., 0] * self.scale + self.shift
        if self.kind in GRIDS:
            return jnp.rint(v / self.step) * self.step
        return v if self.kind == "real" else jnp.clip(v, self.low, self.high if self.kind == "bounded" else None)

    def __str__(self) -> str:
        if self.kind == "category":
            shown = self.texts or tuple(f"{v:g}" for v in self.values)
            return f"{self.name}: category of {len(shown)} ({', '.join(shown[:4])}{', ...' * (len(shown) > 4)})"
        ends = "" if self.kind in ("real", "positive") else f" {self.low:g} to {self.high:g}"
        return f"{self.name}: {self.kind}{ends}" + f" by {self.step:g}" * (self.kind == "decimal")


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

    def decode(self, x: Array) -> Array:
        """One sample back, (*encoded_shape) -> (*shape)."""
        if self.whole:
            return x
        if len(self.shape) == 1:
            blocks = jnp.split(x, np.cumsum([c.size for c in self.columns])[:-1].tolist())
            return jnp.stack([c.decode(b) for c, b in zip(self.columns, blocks, strict=True)])
        return self.columns[0].decode(x.reshape(*self.shape, self.columns[0].size))

    def texts_of(self, raw: np.ndarray) -> list[list[str]]:
        """Rows of a table as text, categories by name."""
        cells = []
        for column, v in zip(self.columns, np.asarray(raw).T, strict=True):
            names = dict(zip(column.values, column.texts, strict=False))
            cells.append([names.get(float(u)) or f"{u:.7g}" for u in v])
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
_MOST_LEVELS = 4096  # of a decimal column that nobody asked for


def _step(v: np.ndarray) -> float | None:
    """The longest of 0.1, 0.01 and 0.001 that all values are multiples of, to float32's rounding; None: of none."""
    size = float(np.max(np.abs(v)))
    for step in (0.1, 0.01, 0.001):
        off = np.abs(v - np.rint(v / step) * step)
        if np.all(off <= 4.0 * np.finfo(np.float32).eps * size) and off.max() < 0.25 * step:
            return step
    return None


def _kind_of(v: np.ndarray, texts: Sequence[str]) -> str:
    distinct = len(np.unique(v))
    if texts or distinct <= 2:
        return "category"
    if np.array_equal(v, np.rint(v)):
        return "integer"
    step = _step(v) if distinct <= _DISTINCT * len(v) else None
    if step is not None and np.ptp(v) <= _MOST_LEVELS * step:
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
        raise ValueError(f"{name} holds {v[v != np.rint(v)][0]:g}, which is no integer; make it real or bounded")
    step = _step(v) if kind == "decimal" else 1.0
    if step is None:
        raise ValueError(f"{name} has values that are no multiples of 0.1, 0.01 or 0.001, or too large for float32 to "
                         "tell; make it real or bounded")  # fmt: skip
    if kind == "positive" and low < 0:
        raise ValueError(f"{name} holds {low:g}, which is not positive; make it real or bounded")
    shift, scale = (0.5 * (low + high), 0.5 * (high - low)) if image else (float(v.mean()), float(v.std()))
    if high == low:
        raise ValueError(f"{name} is constant ({low:g}); leave it out")
    low, high = (round(end / step) * step if kind in GRIDS else end for end in (low, high))
    return Column(name, kind, 0.0 if kind == "positive" else low, high, shift, scale, step=step)


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

    Text and two-valued columns are categories, whole numbers integers between their ends, numbers with one to three
    decimals of which each occurs four times on average decimal, other non-negative columns positive, the rest real.
    Pixels that are whole numbers are integers, others bounded.

    Args:
        raw: (n, columns), or images (n, height, width, channels).
        domain: "auto"; a kind for all; "column=kind,..." for some; "sphere" or "simplex" for the whole vector.
        names: of the columns; default 1, 2, ...
        texts: names of the categories of text columns, by column; ``raw`` then holds their indices.

    Raises:
        ValueError: an unknown kind or column, or values that the kind does not take.
    """
    raw, texts = np.asarray(raw), texts or {}
    if domain in WHOLE:
        size = np.abs((raw**2).sum(-1) - 1.0) if domain == "sphere" else np.abs(raw.sum(-1) - 1.0)
        bad = (size > 1e-3) | ((raw < -1e-6).any(-1) if domain == "simplex" else False)
        if raw.ndim != 2 or raw.shape[1] < 2 or bad.any():
            where = "" if raw.ndim != 2 else f", such as row {int(np.argmax(bad))}"
            raise ValueError(f"domain {domain!r} takes vectors on the unit {domain}; these are not{where}")
        return Encoding((), raw.shape[1:], domain)
    if raw.ndim == 4:
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
