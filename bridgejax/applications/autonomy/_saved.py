"""A trained copilot as one safetensors file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bridgejax._checks import check_count, describe
from bridgejax.applications._extras import require
from bridgejax.applications.autonomy._copilot import Copilot, check_copilot, copilot_method
from bridgejax.networks import load_weights, save_weights


def _arrays(copilot: Copilot) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(copilot) if isinstance(leaf, jax.Array | np.ndarray)]


def _untrained(size: tuple[int, int], width: int, depth: int) -> Copilot:
    """A copilot of these sizes, whose numbers do not matter."""
    method = copilot_method(size, steps=1, rate=1e-3, width=width, depth=depth)
    semilinear = method.process(method.init(jax.random.key(0), None)).dynamics.semilinear
    assert semilinear is not None
    state, action = (jnp.zeros(count, jnp.float32) for count in size)
    return Copilot(semilinear, state, state, action, action)


def save_copilot(path: str | os.PathLike[str], copilot: Copilot) -> Path:
    """Write what ``train_copilot`` gave, complete or not at all.

    Args:
        path: the file, customarily NAME.safetensors.
        copilot: a Copilot.

    Returns:
        The path.

    Raises:
        ValueError: no Copilot.
        ImportError: safetensors is not installed.

    Example:
        >>> import jax, numpy as np, pathlib, tempfile
        >>> from bridgejax.applications.autonomy import Demonstrations, load_copilot, save_copilot, train_copilot
        >>> rows = Demonstrations(np.zeros((500, 8)), np.zeros((500, 2)))
        >>> copilot = train_copilot(rows, jax.random.key(0), steps=3, width=8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save_copilot(pathlib.Path(folder) / "copilot.safetensors", copilot)
        ...     same = load_copilot(path, (8, 2), width=8)
        ...
        >>> given = np.zeros(8), np.zeros(2), 0.3, jax.random.key(1)
        >>> bool((same(*given) == copilot(*given)).all())
        True
    """
    require("safetensors")
    return save_weights(path, {"copilot": _arrays(check_copilot(copilot))})


def load_copilot(path: str | os.PathLike[str], size: tuple[int, int], *, width: int = 128, depth: int = 2) -> Copilot:
    """Read what ``save_copilot`` wrote.

    Args:
        path: the file.
        size: (s, a), numbers of a state and of an action.
        width: as it was trained with.
        depth: as it was trained with.

    Returns:
        A Copilot of 50 steps.

    Raises:
        ValueError: sizes that are not those of the file, or a file of something else.
        ImportError: safetensors is not installed.

    Example:
        See ``save_copilot``.
    """
    require("safetensors")
    if not isinstance(size, tuple) or len(size) != 2:
        raise ValueError(f"size must be a pair (numbers of a state, numbers of an action), got {describe(size)}")
    size = check_count("size", size[0]), check_count("size", size[1])
    empty = _untrained(size, check_count("width", width, 2), check_count("depth", depth))
    found = iter(load_weights(path, like={"copilot": _arrays(empty)})["copilot"])
    leaves, structure = jax.tree.flatten(empty)
    filled = [jnp.asarray(next(found)) if isinstance(leaf, jax.Array | np.ndarray) else leaf for leaf in leaves]
    return jax.tree.unflatten(structure, filled)
