"""A module as a pure function and its parameters.

    module(t, x, args)  =  apply(params, t, x, args),        (apply, params) = functional(module)

params is a nested dict of trainable float arrays and nothing else: optimise, average, shard and save it like any
other. apply is one fixed function: it holds the architecture and whatever the module keeps that is not trained.
Two of them are equal when these are, so `jax.tree_util.Partial(apply, params)` with fresh parameters is not traced
again.

Networks that are not flax.nnx modules are written as the pair themselves, with `apply` defined once at module level:

    # a plain function
    def apply(params, t, x, args): return jnp.tanh(x @ params["w"]) + params["b"] * t

    # Linen, with a module net that is called as net(t, x, args)
    def apply(params, t, x, args): return net.apply({"params": params}, t, x, args)
    params = net.init(key, t, x, args)["params"]

    # Equinox, with a module net that is called as net(t, x, args)
    params, static = eqx.partition(net, eqx.is_inexact_array)
    def apply(params, t, x, args): return eqx.combine(params, static)(t, x, args)
"""

import hashlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.core import Tracer

from bridgejax._numerics import copies
from bridgejax._summary import summary
from bridgejax._types import Args, Params, State

Apply = Callable[[Any, Any, Any, Any], Any]
"""apply(params, t, x, args) -> an array like x, for one sample."""


class Functional(NamedTuple):
    """A network as the pair that ``functional`` makes.

    Attributes:
        apply: ``apply(params, t, x, args)``, an array like x.
        params: what is trained, a pytree of arrays.
    """

    apply: Apply
    params: Params

    __repr__ = summary


def functional(module: Any) -> Functional:
    """Splits a flax.nnx module, called as module(t, x, args), into (apply, params).

    The module is split once, in nnx's tree mode, and not touched again. `nnx.Param`s of floating type become params;
    everything else that is an array (frozen features, running statistics, random keys) is folded into apply as a
    constant. Constants are part of the compiled program: keep a large frozen backbone in params and mask its
    gradient instead. A pair (apply, params) is returned as it is, so callers accept both.

    Args:
        module: an `nnx.Module`, or a pair (apply, params) of your own (Linen, Equinox, plain functions: see the head
            of this file).

    Returns:
        apply(params, t, x, args) -> array like x for one sample, hashable and equal for equal architectures; and
        params, nested dicts with string keys and float arrays.

    Raises:
        ValueError: not a module nor a pair; shared parameters (tree mode has none); no parameters; arrays that are
            not parameters while this is traced. At the first call: the module changed its own state, as dropout or
            batch normalisation in training mode do.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> from flax import nnx
        >>> apply, params = bj.networks.functional(bj.networks.MLP((2,), width=8, depth=1, rngs=nnx.Rngs(0)))
        >>> jax.eval_shape(apply, params, 0.5, jnp.zeros(2), None).shape
        (2,)
    """
    if isinstance(module, tuple):
        if len(module) == 2 and callable(module[0]):
            return Functional(*module)
        raise ValueError("module is a tuple but not a pair (apply, params) with apply(params, t, x, args) first.")
    if not isinstance(module, nnx.Module):
        raise ValueError(
            f"module is of type {type(module).__name__}, expected a flax.nnx Module or a pair (apply, params); a Linen "
            "or Equinox network or a plain function is passed as such a pair."
        )
    graphdef, trained, frozen = nnx.split(module, _is_trained, ..., graph=False)
    leaves, treedef = jax.tree.flatten(trained)
    paths = tuple(tuple(str(part) for part in path) for path, _ in nnx.to_flat_state(trained))
    if not leaves:
        raise ValueError(f"module {type(module).__name__} has no nnx.Param of floating type: nothing to train.")
    # Copied: a training loop donates its parameters' buffers, and the module may be split again for a second one.
    if all(isinstance(leaf, jax.Array) for leaf in leaves):  # none of the shapes of jax.eval_shape
        leaves = copies(leaves)
    apply = _ModuleApply(type(module).__name__, graphdef, treedef, paths, _Frozen(frozen))
    return Functional(apply, _nest(paths, leaves))


def count_params(params: Params) -> int:
    """Number of numbers in a pytree of arrays (or of `jax.ShapeDtypeStruct`s).

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> bj.networks.count_params({"w": jnp.zeros((3, 2)), "b": jnp.zeros(2)})
        8
    """
    return sum(math.prod(jnp.shape(leaf)) for leaf in jax.tree.leaves(params))


class _Frozen:
    """Untrained state, compared by value: what makes two applies of one architecture equal."""

    def __init__(self, state: Any):
        leaves, self.treedef = jax.tree.flatten(state)
        if any(isinstance(leaf, Tracer) for leaf in leaves):
            raise ValueError(
                "module has arrays that are not trainable parameters, and functional(module) is being traced: call "
                "it outside jit, grad and vmap, where its constants have values."
            )
        # Kept as numpy, which belongs to no device and so follows the program to any mesh.
        self.leaves = [leaf if not _is_array(leaf) or _is_key(leaf) else np.array(leaf) for leaf in leaves]
        self.identity = (self.treedef, tuple(_fingerprint(leaf) for leaf in leaves))

    def state(self) -> Any:
        # Handed out as JAX arrays: a module that counts `+= 1` would write into a numpy array in place.
        leaves = [jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf for leaf in self.leaves]
        return jax.tree.unflatten(self.treedef, leaves)


class _ModuleApply:
    """apply(params, t, x, args) of one nnx architecture."""

    def __init__(
        self, name: str, graphdef: Any, treedef: Any, paths: tuple[tuple[str, ...], ...], frozen: _Frozen
    ) -> None:
        self.__qualname__ = name  # as a function's: what summaries call it
        self._graphdef = graphdef
        self._treedef = treedef
        self._paths = paths
        self._frozen = frozen
        self._identity = (graphdef, treedef, paths, frozen.identity)
        self._hash = hash(self._identity)  # hashed at every dispatch of a jitted function that holds it

    def __call__(self, params: Params, t: Array, x: State, args: Args = None) -> State:
        trained = jax.tree.unflatten(self._treedef, [_at(params, path) for path in self._paths])
        frozen = self._frozen.state()
        before = _flat(frozen)  # listed first: the merged module shares the state's variables
        module = nnx.merge(self._graphdef, trained, frozen)
        out = module(t, x, args)
        _check_pure(module, before)
        return out

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, _ModuleApply) and self._hash == other._hash and self._identity == other._identity

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"{self.__qualname__} as apply(params, t, x, args)"


def _is_trained(path: object, value: object) -> bool:
    del path
    return isinstance(value, nnx.Param) and jnp.issubdtype(value.get_value().dtype, jnp.inexact)


def _check_pure(module: nnx.Module, before: list[tuple[str, Any]]) -> None:
    # The merged module is thrown away, and with it a random count or a running mean that it advanced: the next call
    # would draw the same dropout mask without a word.
    after = dict(_flat(nnx.split(module, _is_trained, ..., graph=False)[2]))
    for path, leaf in before:
        if after.get(path) is not leaf:
            raise ValueError(
                f"module changed its own state at {path} during a call, but apply(params, t, x, args) must be a pure "
                "function: switch dropout and batch statistics off first, as "
                "nnx.view(module, deterministic=True, use_running_average=True) does."
            )


def _is_array(leaf: object) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def _is_key(leaf: object) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _fingerprint(leaf: Any) -> tuple[object, ...]:
    if _is_key(leaf):
        return (str(leaf.dtype), *_fingerprint(jax.random.key_data(leaf)))
    if _is_array(leaf):
        value = np.asarray(leaf)
        return value.shape, str(value.dtype), hashlib.sha256(value.tobytes()).hexdigest()
    return type(leaf), leaf


def _flat(state: Any) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(state)]


def _nest(paths: tuple[tuple[str, ...], ...], leaves: list[Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, leaf in zip(paths, leaves, strict=True):
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = leaf
    return tree


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        tree = tree[part]
    return tree
