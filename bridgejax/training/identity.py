"""What a run is of, as digests that a later call compares: its data, and the program of its steps.

data       SHA-256 of shapes, dtypes and numbers; of arrays beyond 256 MB of 4096 rows in equal steps. None of what is
made as it is asked for: a function of the step, an iterable
program    SHA-256 of what JAX traces of a step, without its numbers: another loss, prediction or network is another
program, another learning rate or number of steps is not
versions   of JAX and of this package, on which the program depends too
"""

from __future__ import annotations

import hashlib
import pathlib
import re
from typing import Any

import jax
import numpy as np
from jax import Array

import bridgejax
from bridgejax._types import Data
from bridgejax.data import Batches, Pairs, Snapshots
from bridgejax.training.checkpoints import metadata

_WHOLE = 2**28  # bytes of an array that are looked at, all of them
_ROWS = 4096  # of a larger one
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_LITERAL = re.compile(r"(?<![\w.])-?(?:\d+\.?\d*(?:e[+-]?\d+)?|inf|nan)(?=:(?:f|bf|i|u)\d+\[\])")
_LAYOUT = re.compile(r"[\s;]+")  # lines are broken by the lengths of numbers


def data_digest(data: Data) -> str | None:
    """Of what ``fit`` is given; None where that cannot be said without making all of it."""
    held = _held(data)
    leaves = jax.tree_util.tree_leaves_with_path(held)
    if not leaves or not all(isinstance(leaf, np.ndarray | Array) for _, leaf in leaves):
        return None
    digest = hashlib.sha256()
    for path, leaf in leaves:
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype}{list(leaf.shape)}".encode())
        if leaf.nbytes > _WHOLE:
            leaf = leaf[np.linspace(0, len(leaf) - 1, _ROWS).astype(int)]
        digest.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _held(data: Data) -> Any:
    """The arrays in it."""
    snapshots = data if isinstance(data, Snapshots) else getattr(data, "snapshots", None)
    if isinstance(snapshots, Snapshots):
        return snapshots.times, snapshots.arrays, snapshots.weights
    if isinstance(data, Batches | Pairs):
        return data.held
    made = hasattr(data, "batch") or hasattr(data, "__next__") or callable(data)
    return None if made else data


def program_digest(traced: Any) -> str:
    """Of what a step computes, ``jax.jit(step).trace(...)``, for the devices that it is traced for."""
    text = _LAYOUT.sub(" ", _LITERAL.sub("#", _ADDRESS.sub("", str(traced.jaxpr.jaxpr))))
    return hashlib.sha256(text.encode()).hexdigest()


def versions() -> str:
    """Of what makes the program."""
    return f"jax {jax.__version__}, bridgejax {bridgejax.__version__}"


_DIFFERS = {
    "data": "of other data: the numbers are not those it was begun with",
    "program": "of another method: its steps compute something else (another loss, prediction, network or option)",
}


def check_identity(
    directory: pathlib.Path,
    there: dict[str, Any],
    here: dict[str, Any],
    names: tuple[str, ...],
    *,
    anyway: bool = False,
) -> None:
    """Raise a ``ValueError`` where a run was of other data or another program, unless the caller knows better."""
    for name in names:
        if there.get(name) and here.get(name) and there[name] != here[name] and not anyway:
            raise ValueError(
                f"{directory} is a run {_DIFFERS[name]}; give the same to go on exactly, choose another directory, "
                "or go on all the same with resume='anyway' (--resume anyway)"
            )


def check_same_data(directory: pathlib.Path, data: Data) -> None:
    """Raise a ``ValueError`` where the run in a directory learnt from other data, before anything is written there.

    Args:
        directory: with ``checkpoints/``.
        data: what ``fit`` would be given.
    """
    there = metadata(directory / "checkpoints")
    if there.get("data"):
        check_identity(directory, there, {"data": data_digest(data)}, ("data",))
