"""Dataclasses as pytrees whose structures are told apart.

``jax.tree_util.register_dataclass`` makes structures that compare equal for *different* classes of as many fields and
equal metadata (seen in jax 0.10 and 0.12): U(2) and SU(2) were one structure. What was compiled for one was then, where
a few bits of two hashes agreed, run for the other, without a word; what was compiled ahead of time always was.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import jax

Class = TypeVar("Class", bound=type)


def register_dataclass(nodetype: Class, data_fields: tuple[str, ...], meta_fields: tuple[str, ...]) -> Class:
    """Register a dataclass as a pytree node, as JAX's function of this name does, of a structure of its own.

    Args:
        nodetype: the dataclass; it is called with all fields by name when a tree is put together.
        data_fields: names of the fields that are children.
        meta_fields: names of the fields that belong to the structure: hashable, comparable with ==.

    Returns:
        The dataclass.
    """
    keys = tuple(jax.tree_util.GetAttrKey(name) for name in data_fields)

    def flatten(node: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        here = node.__dict__  # flattening is a part of every call of a compiled function
        return tuple([here[name] for name in data_fields]), tuple([here[name] for name in meta_fields])

    def flatten_with_keys(node: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        data, meta = flatten(node)
        return tuple(zip(keys, data, strict=True)), meta

    def unflatten(meta: tuple[Any, ...], data: Iterable[Any]) -> Any:
        return nodetype(**dict(zip(data_fields, data, strict=True)), **dict(zip(meta_fields, meta, strict=True)))

    jax.tree_util.register_pytree_with_keys(nodetype, flatten_with_keys, unflatten, flatten)
    return nodetype
