"""What an object says of itself: ``__repr__ = summary`` in a dataclass or NamedTuple.

    arrays      dtype[shape], scalars by value            parameters   counted
    functions   by name, with the numbers they carry      objects      by class, with their plain fields

No values of arrays, no addresses, three lines at most; also for traced arrays, inside ``jit``.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import textwrap
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

_WIDTH, _LINES, _WORD = 110, 3, 48


def _fields(value: Any) -> dict[str, Any] | None:
    """What an object of this library is made of: fields, or public attributes; None for anything else."""
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value) if f.repr}
    if hasattr(value, "_fields"):
        return {name: getattr(value, name) for name in value._fields}
    ours = type(value).__repr__ is summary
    return {name: part for name, part in vars(value).items() if not name.startswith("_")} if ours else None


def _size(value: Any) -> int:
    """How many numbers the arrays in ``value`` hold, one that is in two places counted once."""
    return sum({id(leaf): math.prod(leaf.shape) for leaf in jax.tree.leaves(value) if _is_array(leaf)}.values())


def _is_array(value: Any) -> bool:
    return isinstance(value, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct)


def _is_empty(value: Any) -> bool:
    return isinstance(value, str | tuple | list | dict) and not value


def _carried(value: Any) -> str:
    count = _size(value)
    return f"{count:,} number{'s' * (count != 1)}" if count else ""


def _array(value: Any) -> str:
    known = isinstance(value, np.generic | np.ndarray | jax.Array) and not isinstance(value, Tracer)
    if known and value.shape == () and value.dtype.kind in "biuf" and not _gone(value):
        return f"{value.item():.6g}"
    return f"{value.dtype}[{','.join(map(str, value.shape))}]"


def _gone(value: Any) -> bool:
    """Whether an array's values cannot be read here: donated, or partly on other hosts."""
    return isinstance(value, jax.Array) and (value.is_deleted() or not value.is_fully_addressable)


def function_name(value: Any) -> str:
    """The name of a function without its arguments, however it was bound."""
    while isinstance(value, functools.partial):
        value = value.func
    name = getattr(value, "__qualname__", None)
    return type(value).__name__ if name is None else name.replace(".<locals>", "")


def _short(value: Any) -> str:
    """One part, in a few words."""
    if value is None or isinstance(value, bool | int | float | complex):
        return repr(value)
    if isinstance(value, str):
        return repr(value if len(value) <= _WORD else value[: _WORD - 3] + "...")
    if _is_array(value):
        return _array(value)
    if isinstance(value, tuple | list) and not hasattr(value, "_fields") and len(value) <= 4 and not _size(value):
        inner = ", ".join(map(_short, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' * (len(value) == 1)})"
    fields = _fields(value)
    if fields is None and callable(value) and not isinstance(value, type):
        name, carried = function_name(value), _carried(value)
    elif fields is None:
        name, carried = type(value).__name__, _carried(value)
        if isinstance(value, dict | list | tuple):
            name = f"{name} of {len(value)} "
    else:
        plain = [f"{k}={_short(v)}" for k, v in fields.items() if isinstance(v, str | bool | int | float)]
        name, carried = type(value).__name__, ", ".join(filter(None, [*plain, _carried(value)]))
    return f"{name}({carried})" if carried else name


def summary(self: Any) -> str:
    """``Name(field=..., ...)`` in three lines at most, with the numbers held counted at the end."""
    fields = _fields(self) or {}
    told = {name: value for name, value in fields.items() if not (value is None or _is_empty(value))}
    parts = [f"{name}={_short(value)}" for name, value in told.items()]
    total = _size(list(fields.values()))
    text = f"{type(self).__name__}({', '.join(parts)})" + (f" holding {total:,} numbers" if total > 1 else "")
    return textwrap.fill(
        text, _WIDTH, max_lines=_LINES, subsequent_indent="    ", placeholder=" ...", break_on_hyphens=False
    )
