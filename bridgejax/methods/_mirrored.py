"""Any Method on a convex set: it runs on the dual coordinates of a mirror map, and its samples are mapped back.

    z = grad phi(x)        the method's data             x = grad phi*(z)        its samples, inside the set
    log p(x) = log p(z) + log |det dz / dx|

See ``geometry.mirrors`` for the maps and their source.
"""

from __future__ import annotations

import dataclasses

import jax
from jax import Array
from jax.tree_util import Partial

from bridgejax._types import Args, Batch, Data, Key, MethodState, State
from bridgejax.geometry._mirror_map import check_mirror
from bridgejax.geometry.mirrors import MirrorMap, check_points
from bridgejax.processes import Process
from bridgejax.training import Method
from bridgejax.weigh import log_prob

_ENDS = ("x", "source", "target")


def _mapped(batch: Batch, f: Partial) -> Batch:
    """The points of a batch through ``f(points, name)``; its labels as they are."""
    if not isinstance(batch, dict):
        return f(batch, "data")
    return {name: f(value, name) if name in _ENDS else value for name, value in batch.items()}


def _to_dual(mirror: MirrorMap, points: Batch, name: str) -> Array:
    return jax.vmap(mirror.to_dual)(points)


def _checked_to_dual(mirror: MirrorMap, points: Batch, name: str) -> Array:
    return jax.vmap(mirror.to_dual)(check_points(mirror, points, name))


def _decode(decode: Partial, mirror: MirrorMap, key: Key, z: State, args: Args) -> State:
    return mirror.to_primal(decode(key, z, args))


def mirrored(method: Method, mirror: MirrorMap) -> Method:
    """A Method whose data and samples lie in a convex set, from one on the set's dual coordinates.

    Both ends of a bridge are mapped, so both must lie in the set. ``shape`` of the inner method is that of the dual
    coordinates, ``mirror.dual_shape``; methods that expect data of deviation 1 want ``mirrors.standardised``.

    Args:
        method: any Method; its data are the dual coordinates.
        mirror: a mirror map of ``geometry.mirrors``, or a user's own.

    Returns:
        A Method with the states of ``method``. Its data are rows in the set, or dictionaries with ``x``, or ``source``
        and ``target``; labels pass through. ``method.log_prob(state, key, x, args)`` is the log density of one point of
        the set, in orthonormal coordinates of its plane, where the inner method has a density or a flow. A process
        itself runs, and is weighed, in dual coordinates: ``mirror.to_dual(x)`` encodes.

    Raises:
        ValueError: no Method or no mirror map; at ``init`` rows outside the set or on its boundary.

    >>> from bridgejax import methods, mirrors, schedules
    >>> states = mirrors.DensityMatrix(2)
    >>> method = methods.mirrored(methods.diffusion(schedules.cosine(), shape=states.dual_shape), states)
    """
    if not isinstance(method, Method):
        raise ValueError(f"method must be a bridgejax Method, got {type(method).__name__}")
    check_mirror(mirror)
    to_dual, checked = Partial(_to_dual, mirror), Partial(_checked_to_dual, mirror)

    def init(key: Key, data: Data) -> MethodState:
        return method.init(key, _mapped(data, checked))

    def step(state: MethodState, key: Key, batch: Batch) -> tuple[MethodState, dict[str, Array]]:
        return method.step(state, key, _mapped(batch, to_dual))

    def process(state: MethodState) -> Process:
        inner = method.process(state)
        return dataclasses.replace(inner, decode=Partial(_decode, inner.decode, mirror))

    def refresh(state: MethodState, key: Key, data: Data) -> MethodState:
        assert method.refresh is not None
        return method.refresh(state, key, _mapped(data, to_dual))

    def density(state: MethodState, key: Key, x: State, args: Args = None) -> Array:
        z = mirror.to_dual(x)
        if method.log_prob is not None:
            value = method.log_prob(state, key, z, args)
        else:
            value = log_prob(method.process(state), key, z, args).value
        return value + mirror.log_det(z)

    return Method(init, step, process, None if method.refresh is None else refresh, density, method.params)
