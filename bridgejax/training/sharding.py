"""Where things live: the state everywhere, the rows of a batch spread over all devices of the mesh.

The step is then one program for the whole mesh (GSPMD): each device computes the gradient of its rows and one
all-reduce averages them. Axes are Auto: ``jax.make_mesh`` makes Explicit ones, under which ``vmap`` over one key per
sample fails, so a user's mesh is rebuilt from its devices and names.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from bridgejax._types import PyTree
from bridgejax.solve._batch import auto_mesh as auto_mesh


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
        mesh: copy to every device of it; None: leaves stay on the devices they are on.
    """

    def copy(leaf: Array) -> jax.Array:
        leaf = jnp.asarray(leaf)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.copy(leaf)
        return jnp.array(leaf, dtype=leaf.dtype, copy=True)

    tree = jax.tree.map(copy, tree)
    home = None if mesh is not None else _home(jax.tree.leaves(tree))

    def put(leaf: jax.Array) -> jax.Array:
        if mesh is not None:
            return jax.device_put(leaf, replicated(mesh))
        return jax.device_put(leaf, leaf.sharding if leaf.committed or home is None else home)

    return jax.tree.map(put, tree)
