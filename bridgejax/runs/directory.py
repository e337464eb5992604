"""A run directory as a value: what was learnt, read back as a function.

    config.json      the Config, the data's shape, and the number of steps
    data.npz         shift and scale of the data, points a bridge starts from
    checkpoints/     training states

``load`` needs nothing else: not the data, nor the script that trained it. It builds the method anew by its name, so a
method of another package needs that package, and restores the last checkpoint into it.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
from jax import Array
from jax.tree_util import Partial

from bridgejax._types import Args, Data, Decoder, Json, MethodState, Params, PyTree, State
from bridgejax.data import supervised
from bridgejax.data.archives import headers, read_arrays
from bridgejax.data.columns import from_record
from bridgejax.geometry.manifolds.coordinates import Coordinates
from bridgejax.methods._setup import DataSpec
from bridgejax.runs.build import build, make_decode
from bridgejax.runs.config import Config, replaced, to_record
from bridgejax.runs.record import CHECKPOINTS, CONFIG, FORMAT, config_of, read_config, relative_paths
from bridgejax.runs.run import Run, Units
from bridgejax.training import Method, restore


def write_config(directory: Path, config: Config, data: DataSpec, steps: int, *, typed: Config | None = None) -> None:
    """Write ``config.json`` and ``data.npz``; the JSON last, so that a directory with it is whole.

    Args:
        directory: of the run.
        config: what was asked for, its data named as they are found from here.
        data: what the Method knows of them.
        steps: updates planned.
        typed: the Config as it was typed when the run began, where its data were named otherwise; None: ``config``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    arrays: Json = {name: np.asarray(getattr(data, name)) for name in ("shift", "scale", "deviation")}
    if data.source is not None:
        arrays["source"] = np.asarray(data.source)
    np.savez(directory / "data.npz", **arrays)
    record = {
        "format": FORMAT,
        "steps": steps,
        "config": to_record(config if typed is None else typed),
        "paths": relative_paths(config, directory),
        "data_spec": {
            "shape": list(data.shape),
            "kind": data.kind,
            "num_classes": data.num_classes,
            "classes": list(data.classes),
            "columns": list(data.columns),
            "decimals": list(data.decimals),
            "label_column": list(data.label_column),
            "encoding": None if data.encoding is None else data.encoding.record(),
            "coordinates": None if data.coordinates is None else dataclasses.asdict(data.coordinates),
            "times": list(data.times),
            "inputs": None if data.inputs is None else data.inputs.record(),
            "target": data.target,
        },
    }
    temporary = directory / f"{CONFIG}.tmp"
    temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    temporary.replace(directory / CONFIG)


def read_spec(directory: Path, record: Json) -> DataSpec:
    """The DataSpec of a run."""
    path = directory / "data.npz"
    there = headers(path)
    missing = [name for name in ("shift", "scale", "deviation") if name not in there]
    if missing:
        raise ValueError(f"{path} is not of a run: it has no array {missing[0]!r}; train again in another directory")
    held = read_arrays(path, [*("shift", "scale", "deviation"), *(["source"] if "source" in there else [])])
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
        tuple(spec["classes"]),
        tuple(spec["columns"]),
        tuple(spec["decimals"]),
        tuple(spec["label_column"]),
        None if spec.get("coordinates") is None else Coordinates(**spec["coordinates"]),
        tuple(spec.get("times", ())),
        None if spec.get("inputs") is None else supervised.from_record(spec["inputs"]),
        spec.get("target", ""),
    )


def load(
    run_directory: str | Path,
    method: Method | None = None,
    data: Data = None,
    *,
    step: int | None = None,
    **changes: object,
) -> Run:
    """A trained model as a function again.

    Args:
        run_directory: what ``bridgejax train`` or ``fit(directory=...)`` left.
        method: the Method it was trained with, for runs of ``fit`` with a method of your own.
        data: passed to ``method.init`` for the state's structure, where it needs data.
        step: of the checkpoint, such as ``training.checkpoints.best`` finds; None: the newest that is intact.
        changes: options of the method that only concern sampling, such as ``sample_steps``, ``sampler`` and
            ``guidance``.

    Returns:
        A ``Run``: ``run.sample(keys)`` draws from it, and ``run.log_prob``, ``encode``, ``inpaint`` and the others take
        and give the data's units. With a method of your own they are the units of what ``fit`` was given.

    Raises:
        FileNotFoundError: no run, or no checkpoint, there.
        ValueError: a configuration or checkpoint that does not fit.

    Example:
        >>> import jax, jax.numpy as jnp, numpy as np, optax, tempfile, bridgejax as bj
        >>> def loss(params, keys, batch):
        ...     return jnp.mean((batch - params) ** 2), {}
        >>> def process(params):
        ...     sde = bj.SDE(lambda t, x, args: 0.0 * x)
        ...     return bj.Process(bj.starts.point(params), sde, bj.grids.uniform(1))
        >>> method = bj.gradient_method(loss, process, optax.sgd(0.5), params=jnp.zeros(1))
        >>> data = np.ones((10, 1), np.float32)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     state = bj.fit(method, data, jax.random.key(0), steps=1, batch_size=5, directory=directory)
        ...     run = bj.load(directory, method)
        >>> run.sample(bj.keys(jax.random.key(1), 2)).tolist()
        [[1.0], [1.0]]
    """
    directory = Path(run_directory)
    if method is not None:
        if changes:
            raise ValueError(f"with a method of your own there is no setting {sorted(changes)} to change")
        state = restore(directory / CHECKPOINTS, _structure(method, data), step=step).tree
        return Run(method.process(state), state, {}, params=_params(method, state))
    record = read_config(directory)
    data, config = read_spec(directory, record), _for_sampling(config_of(record), changes)
    method = build(config, data, steps=record["steps"], units="model")
    state = restore(directory / CHECKPOINTS, _structure(method, _rows(config, data)), step=step).tree
    process, spec = method.process(state), config.spec
    decode = Partial(_decoded, process.decode, make_decode(data, "data"))
    begins = "inputs" if spec.supervised else "noise" if data.source is None or not spec.two_ended else ""
    begins = begins or ("pairs" if spec.paired else "rows")
    return Run(
        dataclasses.replace(process, decode=decode),
        state,
        record["config"],
        units=Units(data.shift, data.scale, data.shape, spec.flat, data.encoding, data.coordinates),
        classes=data.classes,
        begins=begins,
        variance=data.deviation**2,
        last=process.decode,
        params=_params(method, state),
        inputs=data.inputs,
        predictor=spec.predictor() if spec.predict else None,
    )


def _params(method: Method, state: MethodState) -> Params:
    """What was learnt; None from a Method of the caller's own that does not hand it out."""
    return None if method.params is Method._field_defaults["params"] else method.params(state)


def _decoded(last: Decoder, decode: Decoder, key: Array, x: State, args: Args) -> PyTree:
    return decode(key, last(key, x, args), args)


def _for_sampling(config: Config, changes: Json) -> Config:
    """The Config with options changed that only concern sampling, and without a run to start from."""
    sampling = [name for name in config.spec.sampling if hasattr(config.options, name)]
    wrong = sorted(set(changes) - set(sampling))
    if wrong:
        may = f"only {', '.join(sampling)} may change" if sampling else "nothing may change"
        raise ValueError(f"{', '.join(wrong)} of method {config.method!r} decided what was learnt; {may}")
    options = replaced(config.options, changes)
    return dataclasses.replace(config, options=options)


def _rows(config: Config, data: DataSpec) -> Data:
    """A few rows of the shape of the run's data, for methods whose state begins at some; None for others."""
    if data.source is None and not config.spec.in_rounds:
        return None
    if not config.spec.two_ended:
        return np.zeros((2, *data.shape), np.float32)
    x = np.asarray(data.source)[:2]
    x = x.reshape(len(x), -1) if config.spec.flat else x
    return {"source": x, "target": x}


def _structure(method: Method, data: Data) -> MethodState:
    """A state of the right structure."""
    try:
        return jax.eval_shape(method.init, jax.random.key(0), data)
    except jax.errors.TracerArrayConversionError:  # its init draws rows of the data on the host
        return method.init(jax.random.key(0), data)
