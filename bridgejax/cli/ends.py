"""The data sets that a run names: both halves of both ends, in one unit, and the batches made of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bridgejax import couplings
from bridgejax.data import NAMES, Batches, Dataset, Pairs, Reading, load, split, toys
from bridgejax.data.columns import Encoding, decimals_of, infer, rounded_to
from bridgejax.methods import bridge_recipes, recipes
from bridgejax.methods.constrained import check_data

_STARTS = 10_000  # rows that a run keeps to start from
LEAST_ROWS = 10  # that a report needs of training rows, held-out rows and samples


@dataclasses.dataclass(frozen=True)
class Ends:
    """The data of a run, in the target's standardised units (or its own); the source's held-out rows where needed."""

    train: Dataset
    holdout: Dataset
    source: Dataset | None
    source_holdout: Dataset | None = None
    encoding: Encoding | None = None

    def spec(self, config: recipes.Config) -> recipes.DataSpec:
        """What the Method must know."""
        train, start = self.train, None
        if self.encoding is not None:
            shape = self.encoding.encoded_shape
            told = {"encoding": self.encoding, "columns": train.columns, "label_column": train.label_column}
            return recipes.DataSpec(shape, train.kind, train.num_classes, 0.0, 1.0, classes=train.classes, **told)
        begin = train if config.method in recipes.OWN_ROWS else self.source
        if begin is not None:
            start = jnp.asarray(in_any_order(begin.x)[:_STARTS])
        deviation = float(np.std(train.x))
        return recipes.DataSpec(
            train.shape,
            train.kind,
            train.num_classes,
            train.shift,
            train.scale,
            deviation,
            start,
            classes=train.classes,
            columns=train.columns,
            decimals=_decimals(train),
            label_column=train.label_column,
        )


def _decimals(train: Dataset) -> tuple[int | None, ...]:
    """What the columns of a table are rounded to as text."""
    if train.values.ndim != 2:
        return ()
    spread = train.values.std(axis=0)
    return tuple(rounded_to(v, s) if s > 0 else decimals_of(v) for v, s in zip(train.values.T, spread, strict=True))


def in_any_order(x: np.ndarray) -> np.ndarray:
    """The rows in an order of their own, always the same: the first of them are like all, however a file is sorted."""
    return x[np.random.default_rng(len(x)).permutation(len(x))]


def _encoded(ends: Ends, encoding: Encoding) -> np.ndarray:
    """Training rows as the bridge to the domain learns them."""
    x = encoding.encode(ends.train.values)
    domain = recipes.make_domain(encoding)
    x = np.asarray(jax.jit(jax.vmap(domain.snap))(x))  # by rounding only
    check_data(domain, x)
    return x


def _in_units_of(dataset: Dataset, unit: Dataset) -> Dataset:
    return dataclasses.replace(dataset, x=unit.standardise(dataset.values), shift=unit.shift, scale=unit.scale)


def _in_own_units(dataset: Dataset) -> Dataset:
    """The data as they are, where float32 can hold them.

    Raises:
        ValueError: a column so far from 0 that float32 rounds away a thousandth of its spread.
    """
    values = dataset.values.reshape(-1, dataset.shape[-1]).astype(np.float64)
    spread, apart = values.std(axis=0), np.spacing(np.abs(values).max(axis=0).astype(np.float32))
    k = int(np.argmax(np.where(spread > 0, apart / np.where(spread > 0, spread, 1.0), 0.0)))
    if apart[k] > 1e-3 * spread[k] > 0:
        name = repr(dataset.columns[k]) if dataset.columns else str(k + 1)
        raise ValueError(
            f"without standardise {dataset.name} runs in float32 in its own units, where column {name} (up to "
            f"{np.abs(values[:, k]).max():.6g}, spread {spread[k]:.3g}) has numbers {apart[k]:.3g} apart; standardise, "
            "or subtract a constant from it"
        )
    x = np.float32(dataset.values)
    return dataclasses.replace(dataset, x=x, shift=np.zeros_like(dataset.shift), scale=np.ones_like(dataset.scale))


def _halves(name: str, seed: int, reading: Reading, *, text: bool = False) -> tuple[Dataset, Dataset]:
    """Training and held-out samples: fresh draws of a toy, a split of anything else that holds out 20 % (at least 10).

    Raises:
        ValueError: too few rows for both halves.
    """
    if name in toys.NAMES:
        train = load(name, seed=seed)
        return train, _in_units_of(load(name, seed=seed + 1_000_003), train)
    whole = _read(name, seed, reading, text=text)
    if len(whole) < 2 * LEAST_ROWS:
        raise ValueError(
            f"{name} has {len(whole)} rows, too few to learn and to judge from: expected at least {2 * LEAST_ROWS}, "
            f"{LEAST_ROWS} to train on and {LEAST_ROWS} held out"
        )
    return split(whole, max(0.2, LEAST_ROWS / len(whole)), seed)


def _read(name: str, seed: int, reading: Reading, *, text: bool = False) -> Dataset:
    """A set by its name, which nothing can be said of, or a file."""
    return load(name, seed=seed, text=text, **({} if name in NAMES else dataclasses.asdict(reading)))


def _starts(source: str, config: recipes.Config, reading: Reading) -> tuple[Dataset, Dataset | None]:
    """The source and, where a method needs them, its held-out rows. Paired ends are split alike, row by row."""
    if config.coupling == "paired":
        return _halves(source, config.seed, reading)
    if config.method in recipes.MATCHING:
        return _read(source, config.seed + 17, reading), None
    return _halves(source, config.seed + 17, reading)


def _check_rows(source: str, target: str, start: Dataset, train: Dataset, config: recipes.Config) -> None:
    if start.shape != train.shape:
        raise ValueError(
            f"source {source!r} has samples of shape {start.shape}, target {target!r} of {train.shape}; "
            f"method {config.method!r} needs one shape at both ends: crop, resize or project them to one"
        )
    if config.coupling == "paired":
        toy = [name for name in (source, target) if name in toys.NAMES]
        if toy:
            raise ValueError(f"{toy[0]!r} is drawn at random and has no row for each of the other end; give two files")
        if len(start) != len(train):
            raise ValueError(
                f"source {source!r} and target {target!r} have different numbers of rows, and row k of one belongs to "
                "row k of the other; give files of one length, or an unpaired method (dsbm, lightsb)"
            )


def read_ends(data: str, source: str, target: str, config: recipes.Config, reading: Reading | None = None) -> Ends:
    """The data sets a run names, for a Config that is settled; ``reading`` holds for those that are files.

    Raises:
        ValueError: one end without the other, or ends that do not fit each other.
    """
    reading = reading or Reading()
    bridge = bridge_recipes.BRIDGES.get(config.method)
    if bool(source) != bool(target) or (bridge is not None and not source):
        need = f"method {config.method!r}" if bridge is not None else "a bridge"
        raise ValueError(f"{need} needs both ends: give --source and --target")
    if source and config.method not in recipes.TWO_ENDED:
        raise ValueError(
            f"method {config.method!r} starts from noise and takes no source; use one of {', '.join(recipes.TWO_ENDED)}"
        )
    domain = config.domain if config.method == "constrained" else None
    names = (source, target) if source else (data,)
    if reading.given() and all(name in NAMES for name in names):
        raise ValueError(f"{' and '.join(names)} are made here, not read from files; leave {reading.flags()} out")
    train, holdout = _halves(target or data, config.seed, reading, text=domain is not None)
    if config.method in bridge_recipes.ALONE or bridge is not None:  # one bridge for all classes
        train, holdout = (dataclasses.replace(half, labels=None, classes=()) for half in (train, holdout))
    if not source:
        if domain is None:
            train, holdout = (half if config.standardise else _in_own_units(half) for half in (train, holdout))
            return Ends(train, holdout, None)
        both = np.concatenate([train.values, holdout.values])  # the held-out values are possible ones
        return Ends(train, holdout, None, encoding=infer(both, domain, train.columns, train.texts))
    halves = _starts(source, config, reading)
    _check_rows(source, target, halves[0], train, config)
    if not config.standardise:
        train, holdout = _in_own_units(train), _in_own_units(holdout)
    start, held = (None if half is None else _in_units_of(half, train) for half in halves)
    return Ends(train, holdout, start, held)


def make_batches(ends: Ends, config: recipes.Config) -> Any:
    """What ``fit`` is given, for a Config that is settled."""
    train = ends.train
    if ends.encoding is not None:
        return Batches(_encoded(ends, ends.encoding), config.batch_size, config.seed, train.labels)
    if config.method not in recipes.TWO_ENDED:
        return Batches(train.x, config.batch_size, config.seed, train.labels)
    source = ends.source.x if ends.source is not None else _noise(train, config.seed)
    target = train.x
    if config.method in recipes.FLAT:
        source, target = (x.reshape(len(x), -1) for x in (source, target))
    return Pairs(source, target, config.batch_size, config.seed, _coupling(config), train.labels)


def _coupling(config: recipes.Config) -> Any:
    if config.coupling == "entropic":
        if not config.epsilon:
            raise ValueError("coupling 'entropic' needs noise: give a positive sigma or epsilon, or use coupling 'ot'")
        return couplings.EntropicOT(config.epsilon)
    return {"ot": couplings.exact_ot, "independent": couplings.independent, "paired": couplings.paired}[config.coupling]


def _noise(train: Dataset, seed: int) -> np.ndarray:
    """Standard normal points to start from: many more than the data, so that none is learnt by heart."""
    count = max(50_000, len(train)) if train.x[0].size <= 1024 else 4 * len(train)
    return np.random.default_rng(seed).standard_normal((count, *train.shape), np.float32)
