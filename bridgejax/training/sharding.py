"""Where things live: the rows of a batch spread over all devices of the mesh, the state on each, or in shards.

The step is then one program for the whole mesh (GSPMD): each device computes the gradient of its rows and one
all-reduce averages them. Axes are Auto: ``jax.make_mesh`` makes Explicit ones, under which ``vmap`` over one key per
sample fails, so a user's mesh is rebuilt from its devices and names.

An axis named ``fsdp`` of F devices holds the state in F shards (fully sharded data parallel): every array of at least
1024 numbers, parameters, moments of the optimizer and averages alike, is cut along its longest dimension that F
divides. Parameters are gathered for the gradient and given back, and each device updates its own shard.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from bridgejax._numerics import copies
from bridgejax._types import PyTree, Shape
from bridgejax.solve._batch import auto_mesh as auto_mesh
from bridgejax.solve._batch import put as put

FSDP = "fsdp"  # the axis of a mesh that cuts the state
_LEAST = 1024  # numbers of an array that is cut; smaller ones cost more to gather than to hold


def replicated(mesh: Mesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def over_rows(mesh: Mesh) -> NamedSharding:
    """The leading axis spread over all devices, whatever axis of the mesh they are on."""
    return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def context_axes() -> tuple[tuple[str, ...], int]:
    """Names of the Auto axes of the mesh of this trace (``jax.set_mesh``) and how many devices they have.

    ``((), 1)`` without a mesh, and inside ``shard_map`` or under Explicit axes, where the caller has taken over.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or any(kind != AxisType.Auto for kind in mesh.axis_types):
        return (), 1
    return tuple(mesh.axis_names), mesh.size


def _is_key(leaf: PyTree) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _cut(shape: Shape, devices: int) -> PartitionSpec:
    """The longest dimension that so many devices divide, cut over the axis ``fsdp``; no cut of a small array."""
    lengths = [length if length % devices == 0 else 0 for length in shape]
    if devices == 1 or math.prod(shape) < _LEAST or not any(lengths):
        return PartitionSpec()
    longest = lengths.index(max(lengths))
    return PartitionSpec(*(FSDP if axis == longest else None for axis in range(longest + 1)))


def _spec(leaf: Array, axes: Mapping[str, int]) -> PartitionSpec:
    """Where an array of a state lives on a mesh of these axes."""
    return PartitionSpec() if _is_key(leaf) else _cut(leaf.shape, axes.get(FSDP, 1))


def over_shards(mesh: Mesh, leaf: Array) -> NamedSharding:
    """The place of an array of a state: a copy on every device, or a shard of it over those of the axis ``fsdp``."""
    return NamedSharding(mesh, _spec(leaf, mesh.shape))


def settled(tree: PyTree) -> PyTree:
    """Within a step: the arrays of a state where ``over_shards`` has them on the mesh of this trace."""
    if not context_axes()[0]:
        return tree
    axes = jax.sharding.get_abstract_mesh().shape
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, _spec(leaf, axes)), tree)


def in_shards() -> bool:
    """Whether the mesh of this trace holds states in shards."""
    return FSDP in context_axes()[0]


def gathered(tree: PyTree) -> PyTree:
    """Within a step: parameters, whole on every device."""
    return jax.lax.with_sharding_constraint(tree, PartitionSpec()) if in_shards() else tree


def sharded(tree: PyTree) -> PyTree:
    """Within a step: a gradient, cut as its parameters are."""
    return settled(tree) if in_shards() else tree


def _home(leaves: list[jax.Array]) -> Sharding | None:
    """Where uncommitted arrays belong: beside the first one that the user put somewhere."""
    for leaf in leaves:
        if leaf.committed:
            shared = leaf.sharding
            return (
                replicated(auto_mesh(shared.mesh))
                if isinstance(shared, NamedSharding) and isinstance(shared.mesh, Mesh)
                else shared
            )
    return None


def own(tree: PyTree, mesh: Mesh | None = None) -> PyTree:
    """Copies of all leaves in fresh buffers, committed to their devices: safe to donate, stable to trace.

    ``fit`` donates the state to every step. Buffers shared with the caller's parameters, or between two leaves, would
    be deleted under them; weakly typed or uncommitted leaves would compile the step a second time.

    Args:
        tree: a pytree of arrays and numbers.
        mesh: copy to every device of it, or to its axis ``fsdp`` in shards; None: leaves stay on the devices they are
            on.
    """

    leaves, structure = jax.tree.flatten(tree)
    leaves = [leaf if _is_key(leaf) else jnp.asarray(leaf, jnp.result_type(leaf)) for leaf in leaves]
    leaves = copies(leaves)
    home = None if mesh is not None else _home(leaves)

    def place(leaf: jax.Array) -> jax.Array:
        if mesh is not None:
            return put(leaf, over_shards(mesh, leaf))
        return put(leaf, leaf.sharding if leaf.committed or home is None else home)

    return structure.unflatten(map(place, leaves))
