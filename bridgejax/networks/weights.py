"""Weights in and out as one safetensors file: flat names, plain arrays, nothing that could be executed.

    {"blocks": [{"up": {"kernel": W}}]}     <->     "blocks.0.up.kernel": W

A file holds a length, a JSON header of names, types and shapes, and the numbers (github.com/huggingface/safetensors).
Torch, MLX, numpy and others read it. It is for weights that travel; to go on training, use checkpoints, which hold the
optimizer's state too.

Reading is checked against a tree of the shapes expected, leaf by leaf, before anything is made of it: weights that
almost fit are an error and never a cast.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bridgejax._types import Params, PyTree

_TYPES = {
    "BOOL": "bool",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
}
_MOST = 5  # mismatches told at once


def save_weights(path: str | os.PathLike[str], params: Params) -> Path:
    """Write a pytree of arrays as one safetensors file, complete or not at all.

    Args:
        path: the file, customarily NAME.safetensors. Folders are made, an existing file is replaced.
        params: nested dictionaries, lists or other pytrees of arrays, such as ``functional(module)`` gives. Types are
            kept, bfloat16 among them.

    Returns:
        The path.

    Raises:
        ValueError: no leaves, a leaf that is no array of numbers, or two leaves whose names coincide.
        ImportError: safetensors is not installed.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj, pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = bj.networks.save_weights(pathlib.Path(folder) / "w.safetensors", {"w": jnp.ones(2)})
        ...     print(path.name, bj.networks.load_weights(path, like={"w": jnp.zeros(2)}))
        ...
        w.safetensors {'w': Array([1., 1.], dtype=float32)}
    """
    from_library = _library()
    arrays = {name: _numbers(name, leaf) for name, leaf in _named(params, "params").items()}
    data = from_library.numpy.save(arrays)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    return path


def load_weights(path: str | os.PathLike[str], like: Params) -> Params:
    """The arrays of a safetensors file, as a pytree like ``like``.

    Args:
        path: a file by ``save_weights``, or any safetensors file with these names.
        like: pytree of arrays or ``jax.ShapeDtypeStruct``s; its structure, shapes and types must be the file's.

    Returns:
        ``like`` with the file's arrays as JAX arrays.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or no safetensors file, or a leaf is missing, is not expected, or has another
            shape or type: it is named.
        ImportError: safetensors is not installed.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj, pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = bj.networks.save_weights(pathlib.Path(folder) / "w.safetensors", {"w": jnp.ones(2)})
        ...     print(bj.networks.load_weights(path, like={"w": jnp.zeros(2)}))
        ...
        {'w': Array([1., 1.], dtype=float32)}
    """
    from_library = _library()
    path = Path(path)
    wanted = _named(like, "like")
    for name, leaf in wanted.items():
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            raise ValueError(f"like has a {type(leaf).__name__} at {name!r}; expected an array or a ShapeDtypeStruct.")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of weights at {path}")
    try:
        found = dict(from_library.deserialize(path.read_bytes()))
    except from_library.SafetensorError as error:
        raise ValueError(f"{path} is damaged or not a safetensors file ({error}).") from error
    wrong = _mismatches(found, wanted)
    if wrong:
        more = f" And {len(wrong) - _MOST} more." if len(wrong) > _MOST else ""
        raise ValueError(f"{path} does not fit: {' '.join(wrong[:_MOST])}{more}")
    leaves = [jnp.asarray(_array(found[name])) for name in wanted]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _library() -> Any:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError:
        raise ImportError('weights as safetensors need their extra: pip install "bridgejax[run]"') from None
    return safetensors


def _part(key: Any) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def _named(tree: PyTree, argument: str) -> dict[str, Any]:
    """Leaves by name, in the tree's own order."""
    named: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = ".".join(_part(key) for key in path)
        if name in named or name in ("", "__metadata__"):
            remedy = "rename a key" if name else "put it into a dictionary"
            raise ValueError(f"{argument} has a leaf named {name!r}, which is taken or cannot be a name: {remedy}.")
        named[name] = leaf
    if not named:
        raise ValueError(f"{argument} is a {type(tree).__name__} without leaves; expected a pytree of arrays.")
    return named


def _numbers(name: str, leaf: Any) -> np.ndarray:
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic) or str(leaf.dtype) not in _TYPES.values():
        what = f"dtype {leaf.dtype}" if hasattr(leaf, "dtype") else type(leaf).__name__
        raise ValueError(f"params has a leaf of {what} at {name!r}; expected an array of numbers.")
    return np.asarray(jax.device_get(leaf), order="C")


def _mismatches(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """One sentence for every leaf that does not fit."""
    wrong = [f"It lacks {name!r}." for name in wanted if name not in found]
    wrong += [f"It holds {name!r}, which is not expected." for name in sorted(found) if name not in wanted]
    for name in wanted:
        if name in found:
            shape, dtype = tuple(found[name]["shape"]), _TYPES.get(found[name]["dtype"], found[name]["dtype"])
            if shape != tuple(wanted[name].shape):
                wrong.append(f"{name!r} has shape {shape}, expected {tuple(wanted[name].shape)}.")
            elif dtype != str(wanted[name].dtype):
                wrong.append(f"{name!r} has dtype {dtype}, expected {wanted[name].dtype}.")
            elif jax.dtypes.canonicalize_dtype(dtype) != dtype:
                wrong.append(f"{name!r} has dtype {dtype}, which needs 64-bit JAX: set jax_enable_x64.")
    return wrong


def _array(entry: dict[str, Any]) -> np.ndarray:
    # jnp.dtype knows bfloat16, which numpy alone does not; copied, as the bytes belong to the file's buffer
    dtype = jnp.dtype(_TYPES[entry["dtype"]])
    return np.frombuffer(entry["data"], dtype).reshape(entry["shape"]).copy()
