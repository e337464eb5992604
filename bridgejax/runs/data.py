"""The data sets that a run names: both halves of both ends, in one unit, and the batches made of them."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from bridgejax import couplings
from bridgejax._summary import summary
from bridgejax.data import NAMES, Batches, Dataset, Pairs, Reading, Snapshots, load, split, toys
from bridgejax.data.arrays import from_array, take
from bridgejax.data.batches import Pairing
from bridgejax.data.columns import Encoding, decimals_of, infer, rounded_to
from bridgejax.data.snapshots import SnapshotBatches, read_snapshots, standardised
from bridgejax.data.supervised import Inputs
from bridgejax.geometry.manifolds import coordinates
from bridgejax.geometry.manifolds.coordinates import Coordinates
from bridgejax.methods._setup import DataSpec
from bridgejax.methods._spec import Noise, noise
from bridgejax.methods.generative.constrained import check_data, make_domain
from bridgejax.runs.config import Config
from bridgejax.runs.supervised import load_supervised

_STARTS = 10_000  # rows that a run keeps to start from
LEAST_ROWS = 10  # that a report needs of training rows, held-out rows and samples


@dataclasses.dataclass(frozen=True)
class RunData:
    """The data of a run, in the target's standardised units (or its own); the source's held-out rows where needed.

    Of points on a manifold ``x`` are the points, and ``values`` the rows of their table. Of snapshots in time the
    source is the first, and the others are halves of the last. Of a table with a target the source are the inputs.
    """

    train: Dataset
    holdout: Dataset
    source: Dataset | None
    source_holdout: Dataset | None = None
    encoding: Encoding | None = None
    coordinates: Coordinates | None = None
    snapshots: Snapshots | None = None
    inputs: Inputs | None = None

    __repr__ = summary

    def spec(self, config: Config) -> DataSpec:
        """What the Method must know."""
        train, start = self.train, None
        if self.encoding is not None:
            shape = self.encoding.encoded_shape
            told = {"encoding": self.encoding, "columns": train.columns, "label_column": train.label_column}
            return DataSpec(shape, train.kind, train.num_classes, 0.0, 1.0, classes=train.classes, **told)
        begin = train if config.spec.own_rows else self.source
        if begin is not None:
            start = jnp.asarray(in_any_order(begin.x)[: None if config.spec.all_rows else _STARTS])
        deviation = float(np.std(train.x))
        return DataSpec(
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
            coordinates=self.coordinates,
            times=() if self.snapshots is None else tuple(self.snapshots.times.tolist()),
            inputs=self.inputs,
            target=train.columns[0] if self.inputs is not None else "",
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


def _encoded(data: RunData, encoding: Encoding) -> np.ndarray:
    """Training rows as the bridge to the domain learns them."""
    x = encoding.encode(data.train.values)
    domain = make_domain(encoding)
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


def _held_out(groups: np.ndarray, seed: int) -> np.ndarray:
    """Which rows are held out: those of a fifth of the groups 0, 1, ... (at least 10 of many), whole."""
    count = int(groups.max()) + 1
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, count])))
    least = LEAST_ROWS if count >= 2 * LEAST_ROWS else 1
    return np.isin(groups, random.permutation(count)[: max(round(0.2 * count), least)])


def _on_manifold(config: Config) -> RunData:
    """Points on a manifold, read from a table. Rows that are equal are on one side of the split.

    A catalogue names a place as often as something happened there: a density that learns such places by heart would be
    rewarded without bound on held-out copies of them.
    """
    said, reading = config.data, config.reading
    said.check(config.method)
    if reading.missing == "impute":
        raise ValueError("missing 'impute' fills in medians, which make no point of a manifold; use --missing drop")
    if reading.label_column:
        raise ValueError(
            "label_column is for methods that learn classes; of points on a manifold give --columns to read, and "
            "perhaps --group-column"
        )
    table = load(said.data, **dataclasses.asdict(reading) | {"label_column": said.group_column})
    groups = table.labels if said.group_column else None  # of an archive that has labels they are left out
    rows = np.asarray(table.values, np.float64).reshape(len(table), -1)
    known, points = coordinates.read(
        rows, said.manifold, angles=said.angles, project=said.project, names=table.columns, name=said.data
    )
    distinct, which = np.unique(rows, axis=0, return_inverse=True)
    if len(distinct) < 2 * LEAST_ROWS:
        raise ValueError(
            f"{said.data} has {len(distinct)} distinct rows, too few to learn and to judge from: expected at least "
            f"{2 * LEAST_ROWS}"
        )
    together = which.reshape(-1) if groups is None else groups
    held = _held_out(together, config.seed)
    if min(np.sum(held), np.sum(~held)) < LEAST_ROWS:
        raise ValueError(
            f"{said.data} has {table.num_classes} groups of rows ({said.group_column}), of which a fifth leaves "
            f"{min(np.sum(held), np.sum(~held))} rows on one side: give another --seed, or leave --group-column out"
        )
    kind, ones = "manifold", np.ones(points.shape[1:])
    names = table.columns or known.names
    if groups is not None:
        again = f"; {table.num_classes} groups of rows, each on one side of the split"
    elif len(distinct) < len(rows):
        again = f"; {len(distinct)} of {len(rows)} rows are distinct, and equal rows stay on one side of the split"
    else:
        again = ""
    notes = (*table.notes, f"read as {known}, on {known.space!r}{again}")
    whole = Dataset(points, None, table.name, kind, 0 * ones, ones, columns=names, raw=rows, notes=notes)
    train, holdout = take(whole, np.flatnonzero(~held)), take(whole, np.flatnonzero(held))
    return RunData(train, holdout, None, coordinates=known)


def _in_time(config: Config) -> RunData:
    """Snapshots in one unit, a fifth of the rows of every time held out (at least one), of the last at least 10."""
    said = config.data
    said.check(config.method)
    if config.reading.label_column:
        raise ValueError("label_column is for methods that learn classes; leave it out, or say --time-column")
    whole, names, notes = read_snapshots(said.data, said.time_column, config.reading)
    if min(map(len, whole.arrays)) < 2 or len(whole.arrays[-1]) < 2 * LEAST_ROWS:
        raise ValueError(
            f"{said.data} has {', '.join(str(len(x)) for x in whole.arrays)} rows at its times; expected at least 2 at "
            f"each, and {2 * LEAST_ROWS} at the last, {LEAST_ROWS} to train on and {LEAST_ROWS} held out"
        )
    parts = []
    for k, x in enumerate(whole.arrays):
        least = LEAST_ROWS if k == len(whole) - 1 else 1
        parts.append(split(from_array(x, columns=names, kind="table"), max(0.2, least / len(x)), config.seed + k))
    train = Snapshots(whole.times, tuple(half.values for half, _ in parts))
    scaled, shift, scale = standardised(train)

    def dataset(half: Dataset, time: float) -> Dataset:
        x = ((half.values - shift) / scale).astype(np.float32)
        kind = "points" if x.shape[1] <= 3 else "table"
        name = f"{said.data} at {said.time_column} {time:g}"
        return dataclasses.replace(half, x=x, shift=shift, scale=scale, kind=kind, name=name)

    (first, first_held), (last, held) = parts[0], parts[-1]
    ends = whole.times[0], whole.times[-1]
    many = f"{len(whole)} snapshots of {', '.join(str(len(x)) for x in train.arrays)} training rows"
    last = dataclasses.replace(dataset(last, ends[1]), notes=(*notes, many))
    return RunData(
        last, dataset(held, ends[1]), dataset(first, ends[0]), dataset(first_held, ends[0]), snapshots=scaled
    )


def _starts(source: str, config: Config) -> tuple[Dataset, Dataset | None]:
    """The source and its held-out rows, where the backward process or pairs need them. Pairs are split alike."""
    if config.keeps_pairs:
        return _halves(source, config.seed, config.reading)
    if config.spec.data == "one or two":
        return _read(source, config.seed + 17, config.reading), None
    return _halves(source, config.seed + 17, config.reading)


def _check_rows(source: str, target: str, start: Dataset, train: Dataset, config: Config) -> None:
    if start.shape != train.shape:
        raise ValueError(
            f"source {source!r} has samples of shape {start.shape}, target {target!r} of {train.shape}; "
            f"method {config.method!r} needs one shape at both ends: crop, resize or project them to one"
        )
    if config.keeps_pairs:
        toy = [name for name in (source, target) if name in toys.NAMES]
        if toy:
            raise ValueError(f"{toy[0]!r} is drawn at random and has no row for each of the other end; give two files")
        if len(start) != len(train):
            raise ValueError(
                f"source {source!r} and target {target!r} have different numbers of rows, and row k of one belongs to "
                "row k of the other; give files of one length, or an unpaired method (dsbm, lightsb)"
            )


def load_run_data(config: Config) -> RunData:
    """The data sets that a run names.

    Raises:
        ValueError: one end without the other, or ends that do not fit each other.
    """
    spec, options = config.spec, config.data
    if spec.on_manifold:
        return _on_manifold(config)
    if spec.in_time:
        return _in_time(config)
    if spec.supervised:
        train, holdout, seen, seen_holdout, inputs = load_supervised(config, LEAST_ROWS)
        return RunData(train, holdout, seen, seen_holdout, inputs=inputs)
    data, source, target = (getattr(options, name, "") for name in ("data", "source", "target"))
    standardise = getattr(options, "standardise", True)
    if bool(source) != bool(target) or (spec.data in ("two sets", "pairs") and not source):
        raise ValueError(f"method {config.method!r} needs both ends: give --source and --target")
    names = (source, target) if source else (data,)
    if config.reading.given() and all(name in NAMES for name in names):
        raise ValueError(
            f"{' and '.join(names)} are made here, not read from files; leave {config.reading.flags()} out"
        )
    train, holdout = _halves(target or data, config.seed, config.reading, text=spec.encoded)
    if not spec.labels:
        train, holdout = (dataclasses.replace(half, labels=None, classes=()) for half in (train, holdout))
    if spec.encoded:
        both = np.concatenate([train.values, holdout.values])  # the held-out values are possible ones
        return RunData(train, holdout, None, encoding=infer(both, config.options.domain, train.columns, train.texts))
    if not source:
        train, holdout = (half if standardise else _in_own_units(half) for half in (train, holdout))
        return RunData(train, holdout, None)
    halves = _starts(source, config)
    _check_rows(source, target, halves[0], train, config)
    if not standardise:
        train, holdout = _in_own_units(train), _in_own_units(holdout)
    start, held = (None if half is None else _in_units_of(half, train) for half in halves)
    return RunData(train, holdout, start, held)


def make_batches(data: RunData, config: Config) -> Batches | Pairs | SnapshotBatches:
    """What ``fit`` is given."""
    train = data.train
    if data.snapshots is not None:
        return data.snapshots.batches(config.training.batch_size, config.seed, couplings.exact_ot)
    if data.encoding is not None:
        return Batches(_encoded(data, data.encoding), config.training.batch_size, config.seed, train.labels)
    if not config.spec.two_ended:
        return Batches(train.x, config.training.batch_size, config.seed, train.labels)
    source = data.source.x if data.source is not None else _noise(train, config.seed)
    target = train.x
    if config.spec.flat:
        source, target = (x.reshape(len(x), -1) for x in (source, target))
    return Pairs(source, target, config.training.batch_size, config.seed, _coupling(config), train.labels)


def _coupling(config: Config) -> Pairing:
    kind = "paired" if config.spec.paired else getattr(config.options, "coupling", "independent")
    if kind == "entropic":
        sigma = noise(config.method, config.options, zero=True) if isinstance(config.options, Noise) else 0.0
        if not sigma:
            raise ValueError("coupling 'entropic' needs noise: give a positive sigma or epsilon, or use coupling 'ot'")
        return couplings.EntropicOT(sigma**2)
    return {"ot": couplings.exact_ot, "independent": couplings.independent, "paired": couplings.paired}[kind]


def starts_of(data: RunData, config: Config, direction: str, num: int) -> np.ndarray | None:
    """Held-out rows to start from, in turn, in the data's units; None where the Process has a start law of its own."""
    if direction == "forward" and not config.spec.paired:
        return None
    held = data.source_holdout if direction == "forward" else data.holdout
    return None if held is None else in_turn(held, num)


def in_turn(dataset: Dataset, num: int) -> np.ndarray:
    """``num`` rows in turn, in the data's own units."""
    return in_any_order(dataset.values)[np.arange(num) % len(dataset)]


def _noise(train: Dataset, seed: int) -> np.ndarray:
    """Standard normal points to start from: many more than the data, so that none is learnt by heart."""
    count = max(50_000, len(train)) if train.x[0].size <= 1024 else 4 * len(train)
    return np.random.default_rng(seed).standard_normal((count, *train.shape), np.float32)
