"""A run directory as a value: what was learnt, read back as a function.

    config.json      the Config, the data's shape, and the number of steps
    data.npz         shift and scale of the data, points a bridge starts from
    checkpoints/     training states

``load`` needs nothing else: not the data, not the code that trained it.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.tree_util import Partial

from bridgejax.data.columns import from_record
from bridgejax.methods import bridge_recipes
from bridgejax.methods.recipes import FLAT, TWO_ENDED, Config, DataSpec, build, make_finish, settle
from bridgejax.methods.trained import Run as Run
from bridgejax.methods.trained import Units
from bridgejax.training import Method, latest_step, restore
from bridgejax.training.fit import CHECKPOINTS

FORMAT = 1


def write_config(directory: Path, config: Config, data: DataSpec, about: dict[str, Any]) -> None:
    """Write ``config.json`` and ``data.npz``; the JSON last, so that a directory with it is whole."""
    directory.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {name: np.asarray(getattr(data, name)) for name in ("shift", "scale", "deviation")}
    if data.source is not None:
        arrays["source"] = np.asarray(data.source)
    np.savez(directory / "data.npz", **arrays)
    record = {
        "format": FORMAT,
        **about,
        "config": dataclasses.asdict(config),
        "data_spec": {
            "shape": list(data.shape),
            "kind": data.kind,
            "num_classes": data.num_classes,
            "classes": list(data.classes),
            "columns": list(data.columns),
            "decimals": list(data.decimals),
            "label_column": list(data.label_column),
            "encoding": None if data.encoding is None else data.encoding.record(),
        },
    }
    temporary = directory / "config.json.tmp"
    temporary.write_text(json.dumps(record, indent=2) + "\n")
    temporary.replace(directory / "config.json")


def read_config(directory: str | Path) -> dict[str, Any]:
    """The record in ``config.json``.

    Raises:
        FileNotFoundError: no run there.
        ValueError: a file that is not a run's configuration.
    """
    path = Path(directory) / "config.json"
    if not path.is_file():
        own = latest_step(Path(directory) / CHECKPOINTS) is not None
        remedy = f'; it has checkpoints of fit: load("{Path(directory)}", method) reads them' if own else ""
        raise FileNotFoundError(f"{Path(directory)} is not a run directory: it has no config.json{remedy}")
    try:
        record = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not a run's configuration ({error})") from error
    missing = sorted({"config", "data_spec", "steps"} - set(record)) if isinstance(record, dict) else ["everything"]
    if missing:
        raise ValueError(f"{path} is not a run's configuration: it lacks {', '.join(missing)}")
    return record


def read_spec(directory: Path, record: dict[str, Any]) -> DataSpec:
    """The DataSpec of a run."""
    with np.load(directory / "data.npz", allow_pickle=False) as arrays:
        held = {name: arrays[name] for name in arrays.files}
    spec = record["data_spec"]
    return DataSpec(
        tuple(spec["shape"]),
        spec["kind"],
        spec["num_classes"],
        held["shift"],
        held["scale"],
        float(held["deviation"]),
        held.get("source"),
        None if spec.get("encoding") is None else from_record(spec["encoding"]),
        tuple(spec.get("classes") or map(str, range(spec["num_classes"]))),
        tuple(spec.get("columns", ())),
        tuple(spec.get("decimals", ())),
        tuple(spec.get("label_column", ("", 0))),
    )


def read_run_config(record: dict[str, Any]) -> Config:
    """The Config of a record, refusing fields this version does not know."""
    known = {field.name for field in dataclasses.fields(Config)}
    unknown = sorted(set(record["config"]) - known)
    if unknown:
        raise ValueError(f"config.json has settings this version of bridgejax does not know: {', '.join(unknown)}")
    return Config(**record["config"])


def load(run_directory: str | Path, method: Method | None = None, data: Any = None, **changes: Any) -> Run:
    """A trained model as a function again.

    Args:
        run_directory: what ``bridgejax train`` or ``fit(directory=...)`` left.
        method: the Method it was trained with, for runs of ``fit`` with a method of your own.
        data: passed to ``method.init`` for the state's structure, where it needs data.
        changes: settings of the Config that only concern sampling: ``guidance``, ``sampler``, ``sample_steps``.

    Returns:
        A ``Run``: ``run.sample(keys)`` draws from it, and ``run.log_prob``, ``encode``, ``inpaint`` and the others take
        and give the data's units. With a method of your own they are the units of what ``fit`` was given.

    Raises:
        FileNotFoundError: no run, or no checkpoint, there.
        ValueError: a configuration or checkpoint that does not fit.
    """
    directory = Path(run_directory)
    record: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    if method is None:
        record = read_config(directory)
        spec = read_spec(directory, record)
        config = settle(dataclasses.replace(read_run_config(record), initial="", **_sampling_only(record, changes)))
        method = build(config, spec, steps=record["steps"], units="model", given=changes)
        data, facts = _shapes(config, spec), _facts(config, spec)
    elif changes:
        raise ValueError(f"with a method of your own there is no setting {sorted(changes)} to change")
    target = _structure(method, data)
    state = restore(directory / CHECKPOINTS, target).tree
    process = method.process(state)
    if facts:
        last = process.finish
        finish = Partial(_decoded, last, make_finish(spec, "data"))
        process, facts["last"] = dataclasses.replace(process, finish=finish), last
    return Run(process, state, record.get("config", {}), **facts)


def _decoded(last: Any, finish: Any, key: Array, x: Any, args: Any) -> Any:
    return finish(key, last(key, x, args), args)


def _facts(config: Config, spec: DataSpec) -> dict[str, Any]:
    """What a Run says of its data."""
    begins = "noise"
    if spec.source is not None and config.method in TWO_ENDED:
        begins = "mates" if config.coupling == "paired" and config.method in bridge_recipes.BRIDGES else "rows"
    units = Units(spec.shift, spec.scale, spec.shape, config.method in FLAT, spec.encoding)
    return {"units": units, "classes": spec.classes, "begins": begins, "variance": spec.deviation**2}


def _shapes(config: Config, spec: DataSpec) -> Any:
    """Ends of the shape of the run's data, or None for runs that start from noise."""
    if config.method in bridge_recipes.ALONE:
        return np.zeros((2, *spec.shape), np.float32)
    if spec.source is None:
        return None
    x = np.asarray(spec.source)[:2]
    x = x.reshape(len(x), -1) if config.method in FLAT else x
    return {"source": x, "target": x}


def _structure(method: Method, data: Any) -> Any:
    """A state of the right structure."""
    try:
        return jax.eval_shape(method.init, jax.random.key(0), data)
    except jax.errors.TracerArrayConversionError:  # its init draws rows of the data on the host
        return method.init(jax.random.key(0), data)


def _sampling_only(record: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    wrong = sorted(set(changes) - {"guidance", "sampler", "sample_steps"})
    if wrong:
        raise ValueError(
            f"{', '.join(wrong)} decided what was learnt; only guidance, sampler and sample_steps may change"
        )
    name = record["config"].get("method")
    for setting, learnt in (("sampler", ("i2sb",)), ("sample_steps", ("dsb", "simplified_dsb"))):
        if setting in changes and name in learnt:
            raise ValueError(f"method {name!r} learnt its {setting.replace('_', ' ')}; leave it as it is")
    return changes
