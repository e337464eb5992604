"""What the commands do: read, build, fit, sample, measure, draw, say where the files are."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from bridgejax import couplings
from bridgejax.cli.arguments import Evaluate, List, Sample, Train
from bridgejax.cli.progress import Bar
from bridgejax.data import NAMES, Batches, Dataset, Pairs, load, split, toys
from bridgejax.data.columns import Encoding, infer
from bridgejax.evaluation import plots, report
from bridgejax.methods import recipes, runs
from bridgejax.methods.constrained import check_data
from bridgejax.processes import Process, keys
from bridgejax.solve import sample as draw
from bridgejax.training import fit, latest_step
from bridgejax.training.fit import CHECKPOINTS

STEPS = {"points": 8000, "table": 8000, "image": 5000}
SAMPLES = {"points": 4000, "table": 4000, "image": 360}


# data ---------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Ends:
    """The data of a run, both halves in the target's standardised units."""

    train: Dataset
    holdout: Dataset
    source: Dataset | None
    encoding: Encoding | None = None

    def spec(self) -> recipes.DataSpec:
        """What the Method must know."""
        train, start = self.train, None
        if self.encoding is not None:
            shape = self.encoding.encoded_shape
            return recipes.DataSpec(shape, train.kind, train.num_classes, 0.0, 1.0, encoding=self.encoding)
        if self.source is not None:
            start = jnp.asarray(self.source.x[:10_000])
        deviation = float(np.std(train.x))
        return recipes.DataSpec(train.shape, train.kind, train.num_classes, train.shift, train.scale, deviation, start)


def _raw(dataset: Dataset) -> np.ndarray:
    """The data in their own units, whole numbers whole again: the standardised ones are rounded to float32."""
    raw = dataset.destandardise(dataset.x)
    whole = np.rint(raw)
    return np.where(np.abs(raw - whole) <= 1e-5 * dataset.scale, whole, raw)


def _encoded(ends: Ends, encoding: Encoding) -> np.ndarray:
    """Training rows as the bridge to the domain learns them."""
    x = encoding.encode(_raw(ends.train))
    domain = recipes.make_domain(encoding)
    x = np.asarray(jax.jit(jax.vmap(domain.snap))(x))  # by rounding only
    check_data(domain, x)
    return x


def _in_units_of(dataset: Dataset, unit: Dataset) -> Dataset:
    raw = dataset.destandardise(dataset.x)
    return dataclasses.replace(dataset, x=unit.standardise(raw), shift=unit.shift, scale=unit.scale)


def _halves(name: str, seed: int, *, text: bool = False) -> tuple[Dataset, Dataset]:
    """Training and held-out samples: fresh draws of a toy, a 20 % split of anything else."""
    if name in toys.NAMES:
        train = load(name, seed=seed)
        return train, _in_units_of(load(name, seed=seed + 1_000_003), train)
    return split(load(name, seed=seed, text=text), 0.2, seed)


def read_ends(data: str, source: str, target: str, seed: int, coupling: str = "ot", domain: str | None = None) -> Ends:
    """The data sets a run names. Paired ends are split alike, row by row. A domain: that of method constrained.

    Raises:
        ValueError: one end without the other, or ends of different shapes.
    """
    if bool(source) != bool(target):
        raise ValueError("a bridge needs both ends: give --source and --target")
    train, holdout = _halves(target or data, seed, text=domain is not None)
    if not source:
        if domain is None:
            return Ends(train, holdout, None)
        both = np.concatenate([_raw(train), _raw(holdout)])  # the held-out values are possible ones
        return Ends(train, holdout, None, infer(both, domain, train.columns, train.texts))
    start = _halves(source, seed)[0] if coupling == "paired" else load(source, seed=seed + 17)
    if start.shape != train.shape:
        raise ValueError(
            f"source {source!r} has samples of shape {start.shape}, target {target!r} of {train.shape}; "
            "a bridge needs one shape at both ends"
        )
    return Ends(train, holdout, _in_units_of(start, train))


def _batches(ends: Ends, config: recipes.Config) -> Any:
    train = ends.train
    if ends.encoding is not None:
        return Batches(_encoded(ends, ends.encoding), config.batch_size, config.seed, train.labels)
    if config.method not in recipes.TWO_ENDED:
        return Batches(train.x, config.batch_size, config.seed, train.labels)
    pairing = {"ot": couplings.exact_ot, "independent": couplings.independent, "paired": couplings.paired}
    coupling = pairing[recipes.nearest(config.coupling, pairing, "coupling")]
    source = ends.source.x if ends.source is not None else _noise(train, config.seed)
    return Pairs(source, train.x, config.batch_size, config.seed, coupling, train.labels)


def _noise(train: Dataset, seed: int) -> np.ndarray:
    """Standard normal points to start from: many more than the data, so that none is learnt by heart."""
    count = max(50_000, len(train)) if train.x[0].size <= 1024 else 4 * len(train)
    return np.random.default_rng(seed).standard_normal((count, *train.shape), np.float32)


# train --------------------------------------------------------------------------------------------------------------


def _resolve(command: Train, directory: Path) -> tuple[Train, bool]:
    """The command with an existing run's settings filled in; whether there is such a run.

    Raises:
        ValueError: a setting given that differs from the run's.
    """
    if not (directory / "config.json").exists():
        if directory.exists() and any(directory.iterdir()):
            raise ValueError(f"{directory} exists and is not a run directory; choose another --out")
        return command, False
    record = runs.read_config(directory)
    given, default, recorded = dataclasses.asdict(command.config), recipes.Config(), record["config"]
    differing = [
        f"{name} {recorded.get(name)!r} (now {value!r})"
        for name, value in given.items()
        if value != getattr(default, name) and value != recorded.get(name)
    ]
    for name in ("data", "source", "target"):
        value = getattr(command, name)
        if value != getattr(Train(), name) and value != record[name]:
            differing.append(f"{name} {record[name]!r} (now {value!r})")
    if differing:
        raise ValueError(
            f"{directory} holds a run with {', '.join(differing)}; choose another --out, or resume it with --out alone"
        )
    return dataclasses.replace(
        command,
        data=record["data"],
        source=record["source"],
        target=record["target"],
        steps=command.steps or record["steps"],
        config=runs.read_run_config(record),
    ), True


def _domain(config: recipes.Config) -> str | None:
    return config.domain if config.method == "constrained" else None


def _mesh(devices: int, batch_size: int) -> Mesh | None:
    if devices < 0 or devices > jax.device_count():
        raise ValueError(f"devices must lie between 0 and {jax.device_count()}, got {devices}")
    count = devices or max(d for d in range(1, jax.device_count() + 1) if batch_size % d == 0)
    return None if count == 1 else Mesh(np.asarray(jax.devices()[:count]), ("data",))


def train(command: Train) -> None:
    """``bridgejax train``."""
    if command.source and command.config.method == "diffusion":
        command = dataclasses.replace(command, config=dataclasses.replace(command.config, method="bridge_matching"))
    recipes.nearest(command.config.method, recipes.BUILDERS, "method")
    name = f"{command.source}-{command.target}" if command.source else command.data
    directory = Path(command.out or Path("runs") / f"{Path(name).stem}-{command.config.method}")
    command, existing = _resolve(command, directory)
    config = command.config
    if command.steps < 0:
        raise ValueError(f"steps must be positive, got {command.steps}")
    ends = read_ends(command.data, command.source, command.target, config.seed, config.coupling, _domain(config))
    steps = command.steps or STEPS[ends.train.kind]
    spec = ends.spec()
    method = recipes.build(config, spec, steps=steps)
    about = {"data": command.data, "source": command.source, "target": command.target, "steps": steps}
    batches, mesh = _batches(ends, config), _mesh(command.devices, config.batch_size)
    runs.write_config(directory, config, spec, about)  # only now: what is refused leaves nothing behind
    where = f"{'resuming' if existing else 'training'} {config.method} on {ends.train.name}"
    print(f"{where}: {len(ends.train)} samples of shape {ends.train.shape}, {steps} steps -> {directory}")
    if ends.encoding is not None:
        print(f"  {ends.encoding}\n  (other kinds: --domain 'column=kind,...')")
    bar = Bar(steps)
    try:
        fit(
            method,
            batches,
            jax.random.key(config.seed),
            steps=steps,
            batch_size=config.batch_size,
            mesh=mesh,
            directory=directory,
            callbacks=(bar,),
        )
    finally:
        bar.close()
    finish(directory, ends, command.num or SAMPLES[ends.train.kind], seed=1)


def finish(directory: Path, ends: Ends, num: int, seed: int) -> None:
    """Sample, measure, draw, and say where everything is."""
    run = runs.load(directory)
    labels = _labels(ends.train, num)
    samples = _sampled(run.process, seed, num, labels)
    _save_samples(directory / "samples.npz", samples, labels)
    _save_table(directory / "samples.csv", samples, ends.encoding)
    holdout, train = ends.holdout, ends.train
    result = report.evaluate(
        samples,
        train.destandardise(train.x),
        holdout.destandardise(holdout.x),
        kind=train.kind,
        labels=None if train.labels is None else (train.labels, holdout.labels),
        sample_labels=labels,
        classes=train.classes,
        source=None if ends.source is None else ends.source.destandardise(ends.source.x),
        seed=seed,
    )
    result.save(directory / "report.json")
    _picture(directory / "samples.png", samples, labels, holdout, ends.source)
    plots.loss_curve(directory / "loss.png", directory / "metrics.jsonl")
    print(result.table())
    for file in ("samples.png", "loss.png", "samples.npz", "samples.csv", "report.json"):
        if (directory / file).exists():
            print(f"  {directory / file}")


def _labels(train: Dataset, num: int) -> np.ndarray | None:
    """Classes in turn, for class-conditional data."""
    return None if train.labels is None else np.arange(num, dtype=np.int32) % train.num_classes


def _sampled(process: Process, seed: int, num: int, labels: Any) -> np.ndarray:
    samples = np.asarray(draw(process, keys(jax.random.key(seed), num), labels, micro_batch=1024))
    bad = ~np.isfinite(samples.reshape(num, -1)).all(axis=1)
    if bad.any():
        raise ArithmeticError(f"{bad.sum()} of {num} samples are not finite; use more sampler steps or train longer")
    return samples


def _save_samples(path: Path, samples: np.ndarray, labels: Any) -> None:
    if labels is None:
        np.savez(path, x=samples)
    else:
        np.savez(path, x=samples, y=np.asarray(labels))


def _save_table(path: Path, samples: np.ndarray, encoding: Encoding | None) -> None:
    """Samples of a table with its columns' names and categories."""
    if encoding is None or not encoding.columns or len(encoding.shape) != 1:
        return
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(column.name for column in encoding.columns)
        writer.writerows(encoding.texts_of(samples))


def _picture(path: Path, samples: np.ndarray, labels: Any, real: Dataset, source: Dataset | None) -> None:
    truth, classes = real.destandardise(real.x), real.labels
    if labels is not None and classes is not None and len(set(labels.tolist())) == 1:
        truth, labels, classes = truth[classes == labels[0]], None, None  # one class: no columns to sort by
    if real.kind == "image":
        plots.image_grid(path, samples, truth, labels=labels, real_labels=classes)
    elif real.kind == "points" and real.shape == (2,):
        plots.scatter(path, samples, truth, None if source is None else source.destandardise(source.x))
    else:
        plots.marginals(path, samples, truth)


# sample, evaluate, list ---------------------------------------------------------------------------------------------


def sample(command: Sample) -> None:
    """``bridgejax sample``."""
    if command.num < 1:
        raise ValueError(f"num must be positive, got {command.num}")
    directory = Path(command.run)
    record = runs.read_config(directory)
    changed: dict[str, Any] = {
        name: value
        for name, value in (
            ("guidance", command.guidance),
            ("sample_steps", command.steps),
            ("sampler", command.sampler),
        )
        if value
    }
    run = runs.load(directory, **changed)
    classes = record["data_spec"]["num_classes"]
    if command.label >= classes:
        known = f"labels 0 to {classes - 1}" if classes else "no labels"
        raise ValueError(f"label {command.label} is unknown: this run has {known}")
    labels = None
    if classes:
        labels = np.arange(command.num, dtype=np.int32) % classes
        labels = labels if command.label < 0 else np.full(command.num, command.label, np.int32)
    samples = _sampled(run.process, command.seed, command.num, labels)
    path = Path(command.out) if command.out else directory / f"samples-{command.seed}.npz"
    path = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    _save_samples(path, samples, labels)
    print(f"{command.num} samples of shape {samples.shape[1:]}\n  {path}")
    ends = _ends_of(record)
    if ends is not None:
        _picture(path.with_suffix(".png"), samples, labels, ends.holdout, ends.source)
        print(f"  {path.with_suffix('.png')}")


def _recorded_ends(record: dict[str, Any]) -> Ends:
    config = record["config"]
    domain = config["domain"] if config["method"] == "constrained" else None
    return read_ends(record["data"], record["source"], record["target"], config["seed"], config["coupling"], domain)


def _ends_of(record: dict[str, Any]) -> Ends | None:
    """The run's data, or None where they are no longer there."""
    try:
        return _recorded_ends(record)
    except FileNotFoundError as error:
        print(f"no picture beside the data: {error}")
        return None


def evaluate(command: Evaluate) -> None:
    """``bridgejax evaluate``."""
    directory = Path(command.run)
    record = runs.read_config(directory)
    ends = _recorded_ends(record)
    finish(directory, ends, command.num or SAMPLES[ends.train.kind], command.seed)


def listing(command: List) -> None:
    """``bridgejax list``."""
    print("methods")
    for name, (_, words) in recipes.BUILDERS.items():
        print(f"  {name:16} {words}")
    print("data\n  " + ", ".join(NAMES) + "; or a .npy, .npz or .csv file, or a folder of images")
    print("schedules\n  " + ", ".join(recipes.SCHEDULES))
    root = Path(command.runs)
    found = sorted(path.parent for path in root.glob("*/config.json")) if root.is_dir() else []
    print(f"runs in {root}" if found else f"no runs in {root}")
    for directory in found:
        record = runs.read_config(directory)
        ends = f"{record['source']} -> {record['target']}" if record["source"] else record["data"]
        done = latest_step(directory / CHECKPOINTS)
        print(f"  {directory.name:28} {record['config']['method']:16} {ends:28} {done or 0} of {record['steps']} steps")


RUN: dict[type, Callable[[Any], None]] = {Train: train, Sample: sample, Evaluate: evaluate, List: listing}
