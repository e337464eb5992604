"""One run on several hosts: the processes of ``jax.distributed``, which all run the same loop on one mesh.

Every process makes the same state and the same batches, and puts on its own devices the part that is theirs; only what
XLA sums crosses the network. What a clock or a signal decides on one host, all of them decide together, at the lines of
the metrics. The first process writes the run directory, on a file system that all of them see.

Without a mesh over the devices of several processes, all of this is nothing: ``several`` is False.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from bridgejax._types import Json, PyTree


def _multihost() -> Any:
    from jax.experimental import multihost_utils

    return multihost_utils


class Hosts:
    """The processes that a mesh spans.

    Args:
        mesh: devices, or None.

    Raises:
        ValueError: a mesh over some processes of several, or none in a job of several.
    """

    def __init__(self, mesh: Mesh | None) -> None:
        there = {jax.process_index()} if mesh is None else {device.process_index for device in mesh.devices.flat}
        self.several = len(there) > 1
        self.first = jax.process_index() == 0
        if len(there) != jax.process_count():
            raise ValueError(
                f"mesh must have devices of all {jax.process_count()} processes of this job, got devices of "
                f"{sorted(there)}: jax.make_mesh((jax.device_count(),), ('data',)); for runs of their own, start the "
                "processes without jax.distributed"
            )

    def agree(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag, true if it is so for any process. All processes call it, as often as each other."""
        if not self.several:
            return flags
        return tuple(np.any(_multihost().process_allgather(np.array(flags)), axis=0).tolist())

    def wait(self) -> None:
        """Until all processes are here."""
        if self.several:
            _multihost().sync_global_devices("bridgejax")

    def check_same(self, settings: Json) -> None:
        """Raise a ``ValueError``, in every process, unless all of them have the same settings."""
        if not self.several:
            return
        words = [json.dumps(value, sort_keys=True).encode() for value in settings.values()]
        mine = np.array([list(hashlib.sha256(word).digest()) for word in words], np.uint8)
        other = _multihost().process_allgather(mine) != mine
        found = np.argwhere(np.any(other, axis=2))
        if len(found):
            names = sorted({list(settings)[index] for _, index in found})
            raise ValueError(
                f"the processes of this job differ in {', '.join(names)}: start all of them with the same words, and "
                "give each the same data in the same order"
            )


def here(tree: PyTree) -> PyTree:
    """A tree whose arrays are whole in this process: those of a mesh over several processes are gathered.

    All processes call it with the same tree.
    """

    def whole(leaf: PyTree) -> PyTree:
        if not isinstance(leaf, Array) or leaf.is_fully_addressable:
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(whole(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        if leaf.is_fully_replicated:
            return jnp.asarray(np.asarray(leaf))
        return jnp.asarray(_multihost().process_allgather(leaf, tiled=True))

    return jax.tree.map(whole, tree)
