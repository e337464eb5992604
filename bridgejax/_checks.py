"""What the functions of every room ask of the numbers they are given, so that bad input costs one sentence.

Concrete values are looked at; of traced ones only what is known while tracing, shape and dtype. Nothing here is part of
a compiled program.
"""

from __future__ import annotations

import numbers
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from bridgejax._numerics import dtype_of, on_device
from bridgejax._types import Mask, PyTree, Shape, State


def describe(value: object) -> str:
    """What came, in a few words."""
    if isinstance(value, jax.Array | np.ndarray):
        return f"an array of {value.dtype} and shape {value.shape}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{type(value).__name__} {text[:56]} ..."


def is_real(value: Any) -> bool:
    """Whether ``value`` is a real number, an array of them or nested lists of them; traced ones too, booleans not."""
    if isinstance(value, jax.Array):
        dtype = value.dtype
    elif isinstance(value, bool | str | bytes | dict):
        return False
    else:
        try:
            dtype = np.asarray(value).dtype
        except jax.errors.TracerArrayConversionError:  # a list of traced numbers
            return all(is_real(part) for part in value)
        except (TypeError, ValueError):
            return False
    return bool(jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer))


def as_real(value: object, name: str) -> Array:
    """``value`` as an array of real numbers.

    Raises:
        ValueError: it is none.
    """
    if not is_real(value):
        raise ValueError(f"{name} must be a real number or an array of them, got {describe(value)}")
    return on_device(value)


def as_reals(tree: PyTree, name: str, *, finite: bool = False) -> PyTree:
    """A pytree of arrays of floating numbers, at least one; whole numbers become JAX's default float.

    Raises:
        ValueError: no leaf, or one that holds no real numbers; with ``finite``, nan or infinity in a concrete one.
    """
    leaves, treedef = jax.tree.flatten(tree)
    for leaf in leaves or [tree]:
        if not (leaves and is_real(leaf)):
            raise ValueError(f"{name} must be an array of real numbers or a pytree of them, got {describe(leaf)}")
        if finite:
            check_finite(**{name: leaf})
    return jax.tree.unflatten(treedef, [jnp.asarray(leaf, dtype_of(leaf)) for leaf in leaves])


def check_finite(**values: object) -> None:
    """Raise for concrete real numbers that hold nan or infinity."""
    for name, value in values.items():
        if not isinstance(value, Tracer) and not np.all(np.isfinite(np.asarray(value))):
            raise ValueError(f"{name} holds numbers that are not finite, got {describe(value)}")


def check_number(**values: Any) -> None:
    """Raise unless these are single real numbers, finite where concrete."""
    for name, value in values.items():
        if not is_real(value) or np.ndim(value) != 0:
            raise ValueError(f"{name} must be a real number, got {describe(value)}")
        check_finite(**{name: value})


def _signed(values: dict[str, Any], *, zero: bool) -> None:
    for name, value in values.items():
        fits = is_real(value)
        if fits and not isinstance(value, Tracer):
            host = np.asarray(value)
            fits = bool(np.all(np.isfinite(host) & ((host >= 0) if zero else (host > 0))))
        if not fits:
            got = value if np.ndim(value) == 0 and is_real(value) else describe(value)
            raise ValueError(f"{name} must be {'>= 0' if zero else 'positive'} and finite, got {got}")


def check_positive(**values: object) -> None:
    """Raise for what is no real number, and for concrete ones that are not positive and finite."""
    _signed(values, zero=False)


def check_nonnegative(**values: object) -> None:
    """Raise for what is no real number, and for concrete ones that are negative or not finite."""
    _signed(values, zero=True)


def check_count(name: str, value: Any, minimum: int = 1) -> int:
    """The integer ``value``, if it is at least ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < minimum:
        raise ValueError(f"{name} must be an integer >= {minimum}, got {describe(value)}")
    return int(value)


def check_path(name: str, value: object) -> pathlib.Path:
    """The path ``value``, absolute: a number would be a file descriptor to Python, and None the working directory."""
    if not isinstance(value, str | os.PathLike):
        raise ValueError(f"{name} must be a path, got {describe(value)}")
    return pathlib.Path(os.path.abspath(value))


def check_shape(shape: object) -> Shape:
    """The shape of one sample as a tuple; an integer is the length of a vector.

    Raises:
        ValueError: no tuple of integers >= 0.
    """
    sizes = (shape,) if isinstance(shape, int) else shape
    if not isinstance(sizes, tuple | list) or any(isinstance(n, bool) or not isinstance(n, int) for n in sizes):
        raise ValueError(f"shape must be a tuple of integers, the shape of one sample, got {shape!r}")
    if any(n < 0 for n in sizes):
        raise ValueError(f"shape must hold integers >= 0, got {shape!r}")
    return tuple(sizes)


def check_mask(mask: object) -> Mask:
    """A pytree of booleans; integers 0 and 1 will do."""
    leaves = [np.asarray(m) if isinstance(m, list | tuple | bool | int) else m for m in jax.tree.leaves(mask)]
    if not leaves or any(getattr(m, "dtype", np.dtype(object)).kind not in "biu" for m in leaves):
        raise ValueError(f"mask must hold booleans shaped like x, got {describe(mask)}")
    return jax.tree.map(lambda m: jnp.asarray(m, bool), mask)


def shapes(tree: PyTree) -> PyTree:
    """The shapes of the leaves: one tuple for an array, a pytree of them otherwise."""
    return jax.tree.map(jnp.shape, tree)


def check_like(value: State, x: State, name: str, like: str = "x") -> State:
    """Return ``value``, what the user's function ``name`` gave, if it is shaped like ``x``: nothing is broadcast.

    Raises:
        ValueError: another shape or structure.
    """
    if isinstance(value, jax.Array) and isinstance(x, jax.Array) and value.shape == x.shape:
        return value
    same = jax.tree.structure(value) == jax.tree.structure(x)
    if not same or any(jnp.shape(a) != jnp.shape(b) for a, b in zip(*map(jax.tree.leaves, (value, x)), strict=True)):
        raise ValueError(f"{name} must be shaped like {like}, {shapes(x)}, got {_shape_or_kind(value)}")
    return value


def check_broadcasts(value: State, x: State, name: str) -> None:
    """Raise unless the array ``value`` broadcasts to the shape of the array ``x``."""
    ends = zip(jnp.shape(value)[::-1], jnp.shape(x)[::-1], strict=False)
    if jnp.ndim(value) > jnp.ndim(x) or any(a not in (1, b) for a, b in ends):
        raise ValueError(f"{name} must be a number or shaped like x, {jnp.shape(x)}, got {jnp.shape(value)}")


def check_spread(value: State, x: State, name: str) -> None:
    """Raise unless ``value`` has the structure of ``x``, and each of its leaves broadcasts to that of ``x``."""
    if jax.tree.structure(value) != jax.tree.structure(x):
        raise ValueError(f"{name} must be shaped like x, {shapes(x)}, got {shapes(value)}")
    for part, leaf in zip(jax.tree.leaves(value), jax.tree.leaves(x), strict=True):
        check_broadcasts(part, leaf, name)


def _shape_or_kind(value: State) -> str:
    real = all(is_real(leaf) or hasattr(leaf, "shape") for leaf in jax.tree.leaves(value))
    return str(shapes(value)) if real and jax.tree.leaves(value) else describe(value)
