"""Checkpoints that say when they are broken: orbax below, a SHA-256 per leaf above.

    DIR/300/                committed checkpoint of step 300 (orbax, renamed into place when complete)
    manifest                in its metadata: per leaf path, dtype, shape and SHA-256, and a SHA-256 of the manifest
    DIR/300/SHA256SUMS      the same for its files, as ``sha256sum -c`` reads it

A checkpoint is a flat dictionary of host arrays, so it is read on any number of devices, and whether it fits is
decided by comparing manifests before any array is read. orbax alone loads flipped bits and casts dtypes silently, and
saves no array of size 0; here a mismatch of structure is a ``ValueError`` that names the leaf, and damage falls back to
the checkpoint before, with a warning.

When ``save`` returns, the checkpoint is on disk; ``fit`` has it done in a thread, of a copy of the state, while it goes
on (module ``background``), and whoever asks for a run's checkpoints in the same process waits for that. In a job of
several processes (``jax.distributed``) all of them save and restore together, on a file system that all of them see:
each gathers what it lacks, and the first writes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import warnings
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._checks import check_count, check_path
from bridgejax._types import Json, PyTree
from bridgejax.training import background
from bridgejax.training._orbax import Failed, attempt
from bridgejax.training.hosts import here as whole
from bridgejax.training.sharding import put

__all__ = ["CheckpointError", "Restored", "available_steps", "best", "latest_step", "metadata", "restore", "save"]


def __dir__() -> list[str]:
    return __all__


_FORMAT = 1
_NUMBERS: dict[str, type] = {"bool": bool, "int": int, "float": float}
_GENERATORS = {"key<fry>": "threefry2x32", "key<rbg>": "rbg", "key<urbg>": "unsafe_rbg"}
_SUMS = "SHA256SUMS"
_LEFT_OVER = re.compile(r"\d+\.(orbax-checkpoint-tmp.*|deleted|replaced)")


class CheckpointError(OSError):
    """A checkpoint that cannot be written, or none that can be read."""


class _Damaged(Exception):
    """This checkpoint cannot be used; another one may."""


class Restored(NamedTuple):
    """What ``restore`` found: the step, the tree, and the metadata given to ``save``."""

    step: int
    tree: PyTree
    metadata: Json


def available_steps(directory: str | os.PathLike[str]) -> list[int]:
    """Steps with a committed checkpoint, ascending; empty when there is no such directory."""
    root = check_path("directory", directory)
    background.wait(root)
    try:
        names = os.listdir(root)
    except FileNotFoundError:
        return []
    return sorted(int(name) for name in names if name.isdecimal())


def latest_step(directory: str | os.PathLike[str]) -> int | None:
    """Step of the newest checkpoint, or None."""
    steps = available_steps(directory)
    return steps[-1] if steps else None


def best(directory: str | os.PathLike[str], metric: str) -> tuple[float, int] | None:
    """The lowest value of a metric among the checkpoints of ``fit``, and its step.

    Args:
        directory: with one folder per step, ``RUN/checkpoints``.
        metric: its name; a value is the mean over the steps of the line of metrics that ended at the checkpoint.

    Returns:
        (value, step), of equal values the earliest; None where no checkpoint has such a metric.
    """
    if not isinstance(metric, str):
        raise ValueError(f"metric must be a name, got {type(metric).__name__}")
    found = [(metadata(directory, step).get("metrics", {}).get(metric), step) for step in available_steps(directory)]
    return min(((value, step) for value, step in found if isinstance(value, float | int)), default=None)


def metadata(directory: str | os.PathLike[str], step: int | None = None) -> Json:
    """What was stored beside a checkpoint, the newest; empty where there is none, or none that can be read."""
    root = check_path("directory", directory)
    step = latest_step(root) if step is None else check_count("step", step, 0)
    if step is None:
        return {}
    try:
        custom = attempt(lambda ocp: ocp.metadata(root / str(step)).custom_metadata)
    except (Failed, PermissionError):
        return {}
    return custom.get("user", {}) if isinstance(custom, dict) else {}


def save(
    directory: str | os.PathLike[str],
    step: int,
    tree: PyTree,
    *,
    keep: int | None = 3,
    spared: tuple[int, ...] = (),
    metadata: Json | None = None,
) -> pathlib.Path:
    """Write ``tree`` as the checkpoint of ``step``; it is complete on disk, or not there at all.

    Args:
        directory: holds one folder per step; made when missing.
        step: >= 0. A checkpoint of the same step is replaced.
        tree: a pytree of arrays (of any dtype and size, typed random keys among them) and Python numbers.
        keep: after saving, checkpoints up to this step beyond the newest ``keep`` are deleted; None keeps all.
        spared: steps whose checkpoints stay besides these.
        metadata: a JSON dictionary to store beside it.

    Returns:
        The checkpoint's folder.

    Raises:
        ValueError: a leaf that is no array or number, or bad numbers; in a job of several processes, a tree that is
            not on a mesh of all of them.
        PermissionError: the directory may not be written.
        CheckpointError: the disk is full or fails. Older checkpoints are still there.
    """
    check_count("step", step, 0)
    if keep is not None:
        check_count("keep", keep)
    root = check_path("directory", directory)
    leaves, arrays = _manifest(tree, lambda leaf: jax.device_get(whole(leaf)))
    first = _is_first(tree)
    custom = {"format": _FORMAT, "leaves": leaves, "user": metadata or {}}
    custom["digest"] = _text_digest(custom)
    target, aside = root / str(step), root / f"{step}.replaced"
    try:
        if first:
            root.mkdir(parents=True, exist_ok=True)
            _sweep(root)
            if target.exists():
                target.rename(aside)
        attempt(lambda ocp: ocp.save(target, arrays, custom_metadata=custom))  # all processes call it together
        if not target.is_dir():
            raise OSError("orbax reported no error but wrote nothing")
        if first:
            sums = "".join(f"{_file_digest(target / name)}  {name}\n" for name in _files(target))
            (target / _SUMS).write_text(sums)
            older = [] if keep is None else [s for s in available_steps(root) if s <= step][:-keep]
            for old in [s for s in older if s not in spared]:
                # Renamed first: killed half-way through a deletion, no half-deleted checkpoint stays listed.
                (root / str(old)).rename(root / f"{old}.deleted")
                shutil.rmtree(root / f"{old}.deleted")
    except PermissionError as error:
        raise PermissionError(f"no permission to write checkpoints in {root}; choose another directory") from error
    except (OSError, Failed) as error:
        raise CheckpointError(
            f"could not write checkpoint {step} in {root}: {error}; make room or choose another directory (what was "
            "saved before is kept)"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # tidying up must not hide what went wrong
            if first and aside.exists() and not target.exists():
                aside.rename(target)
            if first:
                _sweep(root)
    return target


def _is_first(tree: PyTree) -> bool:
    """Whether this process is the one that writes."""
    if jax.process_count() == 1:
        return True
    if all(leaf.is_fully_addressable for leaf in jax.tree.leaves(tree) if isinstance(leaf, Array)):
        raise ValueError(
            f"tree is on the devices of this process alone, one of {jax.process_count()} of a job: orbax waits for all "
            "of them; put it on a mesh of all devices, and save and restore in all processes"
        )
    return jax.process_index() == 0


def _sweep(root: pathlib.Path) -> None:
    """Delete what an interrupted save or deletion left."""
    for name in os.listdir(root):
        if _LEFT_OVER.fullmatch(name):
            shutil.rmtree(root / name)


def restore(directory: str | os.PathLike[str], target: PyTree, *, step: int | None = None) -> Restored:
    """Read a checkpoint into the structure, dtypes, shapes and devices of ``target``.

    Args:
        directory: as given to ``save``.
        target: the tree to fill: arrays, ``ShapeDtypeStruct``s and Python numbers. A leaf on devices comes back with
            that sharding, whatever devices it was saved from; a NumPy leaf comes back as NumPy.
        step: which checkpoint; None: the newest that is intact, with a warning for each one skipped.

    Raises:
        FileNotFoundError: there is no checkpoint, or none of that step.
        ValueError: the checkpoint has another structure, dtype or shape; names the first leaf that differs. Or it was
            written by a newer version of this package.
        PermissionError: it may not be read.
        CheckpointError: it is damaged, or (``step=None``) all are.
    """
    root = check_path("directory", directory)
    found = available_steps(root)
    if not found:
        raise FileNotFoundError(f"there is no checkpoint in {root}")
    if step is not None and check_count("step", step, 0) not in found:
        raise FileNotFoundError(f"there is no checkpoint of step {step} in {root}; there are {found}")
    reasons = []
    for candidate in [step] if step is not None else reversed(found):
        try:
            restored = _load(root / str(candidate), target)
        except _Damaged as error:
            reasons.append(f"checkpoint {candidate} is damaged ({error})")
            continue
        if reasons:
            skipped = "; ".join(reasons)
            warnings.warn(f"{skipped}: falling back to checkpoint {candidate} in {root}", stacklevel=2)
        return Restored(candidate, *restored)
    raise CheckpointError(f"no checkpoint in {root} can be loaded: {'; '.join(reasons)}")


def _load(path: pathlib.Path, target: PyTree) -> tuple[PyTree, Json]:
    try:
        _check_files(path)
        custom = attempt(lambda ocp: ocp.metadata(path).custom_metadata)
        _check_format(path, custom)
        if not isinstance(custom, dict) or custom.get("format") != _FORMAT or "digest" not in custom:
            raise _Damaged("it has no manifest")
        if _text_digest({k: v for k, v in custom.items() if k != "digest"}) != custom["digest"]:
            raise _Damaged("its manifest does not match its digest")
        leaves, wanted = _manifest(target, _outline)
        _compare(path, custom["leaves"], leaves)
        arrays = attempt(lambda ocp: ocp.load(path, wanted)) if wanted else {}
    except PermissionError as error:
        raise PermissionError(f"no permission to read the checkpoint {path}") from error
    except Failed as error:
        raise _Damaged(str(error)) from error
    values = []
    for leaf, entry in zip(jax.tree.leaves(target), custom["leaves"], strict=True):
        array = arrays.get(entry["name"], np.zeros(entry["shape"], _outline(leaf).dtype))
        if array.dtype != _outline(leaf).dtype or _digest(array) != entry["sha256"]:
            raise _Damaged(f"leaf {entry['path']} does not match its SHA-256")
        values.append(_like(leaf, array))
    return jax.tree.unflatten(jax.tree.structure(target), values), custom["user"]


def _check_format(path: pathlib.Path, custom: object) -> None:
    """Raise for the format of a newer version: older checkpoints beside it are not what its user wants."""
    there = custom.get("format") if isinstance(custom, dict) else None
    if isinstance(there, int) and there > _FORMAT:
        raise ValueError(
            f"{path} has format {there}, and this version of bridgejax reads formats up to {_FORMAT}: use the version "
            "that wrote it, or a newer one"
        )


def _files(path: pathlib.Path) -> list[str]:
    return sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())


def _file_digest(file: pathlib.Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_files(path: pathlib.Path) -> None:
    """Raise unless the files are those that were written. No list: killed before it was made; the leaves decide."""
    try:
        lines = (path / _SUMS).read_text().splitlines()
    except FileNotFoundError:
        return
    except UnicodeDecodeError as error:
        raise _Damaged(f"{_SUMS} is not text") from error
    for line in lines:
        digest, _, name = line.partition("  ")
        try:
            intact = _file_digest(path / name) == digest
        except PermissionError:
            raise
        except (OSError, ValueError):  # ValueError: damage can make a name no name at all
            raise _Damaged(f"file {name} is missing") from None
        if not intact:
            raise _Damaged(f"file {name} does not match its SHA-256")


def _manifest(tree: PyTree, to_host: Callable[..., np.ndarray]) -> tuple[list[Json], dict[str, np.ndarray]]:
    """One entry per leaf, and the arrays to store; ``to_host`` turns a leaf into an array that has its bits."""
    entries, arrays = [], {}
    for index, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(tree)):
        where = jax.tree_util.keystr(path) or "(the tree itself)"
        dtype = _dtype_name(leaf, where)
        raw = jax.random.key_data(leaf) if dtype.startswith("key<") and isinstance(leaf, jax.Array) else leaf
        array = np.asarray(to_host(raw))
        # Readable for whoever opens the checkpoint with orbax alone; the number keeps it unique.
        name = f"{index:04d}{re.sub(r'[^0-9A-Za-z]+', '_', where)}".rstrip("_")
        entry = {"path": where, "dtype": dtype, "shape": list(np.shape(leaf)), "name": name}
        if to_host is not _outline:
            entry["sha256"] = _digest(array)
        entries.append(entry)
        if array.size:  # orbax refuses arrays of size 0
            arrays[name] = array
    return entries, arrays


def _dtype_name(leaf: Array, where: str) -> str:
    for name, kind in _NUMBERS.items():
        if type(leaf) is kind:
            return name
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or np.dtype("O") == dtype:
        raise ValueError(f"leaf {where} is {type(leaf).__name__}; a checkpoint holds arrays and numbers only")
    return str(dtype) if jnp.issubdtype(dtype, jax.dtypes.prng_key) else np.dtype(dtype).name


def _outline(leaf: Array) -> np.ndarray:
    """An array of a leaf's stored dtype and shape that takes no memory."""
    if type(leaf) in _NUMBERS.values():
        return np.asarray(leaf)
    shape, dtype = tuple(leaf.shape), leaf.dtype
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        data = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(shape, dtype))
        shape, dtype = data.shape, data.dtype
    return np.broadcast_to(np.zeros((), dtype), shape)


def _like(leaf: Array, array: np.ndarray) -> PyTree:
    """The stored array as what ``leaf`` is, where it is."""
    if type(leaf) in _NUMBERS.values():
        return type(leaf)(array.item())
    if isinstance(leaf, (np.ndarray, np.generic)):
        return array
    sharding = getattr(leaf, "sharding", None)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(jax.device_put(array), impl=_GENERATORS[str(leaf.dtype)])
        return key if sharding is None else put(key, sharding)
    return jax.device_put(array) if sharding is None else put(array, sharding)


def _compare(path: pathlib.Path, saved: list[Json], wanted: list[Json]) -> None:
    """Raise at the first leaf that the checkpoint and the target do not share."""
    advice = "go on with the configuration it was made with, or choose another directory"
    here = {entry["path"]: entry for entry in wanted}
    there = {entry["path"]: entry for entry in saved}
    for entry in wanted:
        other = there.get(entry["path"])
        if other is None:
            raise ValueError(f"{path} is of another configuration: it has no leaf {entry['path']}; {advice}")
        if (other["dtype"], other["shape"]) != (entry["dtype"], entry["shape"]):
            raise ValueError(
                f"{path} is of another configuration: leaf {entry['path']} is {other['dtype']}{other['shape']} there "
                f"and {entry['dtype']}{entry['shape']} here; {advice}"
            )
    for entry in saved:
        if entry["path"] not in here:
            raise ValueError(f"{path} is of another configuration: its leaf {entry['path']} is unknown here; {advice}")


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()


def _text_digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
