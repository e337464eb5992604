"""What the methods of this wing share: networks that are tangent fields, losses in the metric, Brownian motion."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from bridgejax._numerics import linear_combination
from bridgejax._summary import summary
from bridgejax._types import Args, Batch, Data, Field, Key, Loss, MethodState, Network, Params, Scalar, State
from bridgejax.geometry.manifolds import Euclidean, Manifold, Product, Torus
from bridgejax.methods._arguments import NetworkLike
from bridgejax.methods._setup import Setup
from bridgejax.networks import Functional, functional, or_mlp
from bridgejax.objectives._matching import unpack
from bridgejax.processes import Process
from bridgejax.training import Method, gradient_method

_OCTAVES = 4  # of the waves that a network is shown
SAMPLERS = ("ode", "sde")
FIRST = 2e-3  # share of the noising clock that is left out at the data: 6e-3 of a radian by default in riemannian_score


def check_manifold(manifold: object) -> None:
    """Raise a ``ValueError`` unless it is a manifold of finite volume, which a uniform start needs."""
    if not isinstance(manifold, Manifold):
        raise ValueError(f"manifold must be one of bridgejax.manifolds, got {type(manifold).__name__}")
    if not math.isfinite(manifold.log_volume):
        raise ValueError(f"manifold must have a finite volume, got {manifold!r}; in R^d: methods.diffusion")


def point_like(manifold: Manifold) -> State:
    """Zeros shaped like a point."""
    if isinstance(manifold, Product):
        return tuple(map(point_like, manifold.parts))
    return jnp.zeros(manifold.shape)


def field_network(manifold: Manifold, network: NetworkLike | None, clock: float = 1.0) -> Functional:
    """The network of a tangent field: from ``manifold.features(x)`` to as many numbers as a point has."""
    like = point_like(manifold)
    features = jax.eval_shape(manifold.features, like).shape
    return or_mlp(network, features, outputs=(ravel_pytree(like)[0].size,), time_scale=1.0 / clock)


def field(manifold: Manifold, network: Field, t: Array, x: State, args: Args) -> State:
    """The tangent vector at x that the network says."""
    unravel = ravel_pytree(x)[1]
    return manifold.to_tangent(x, unravel(jnp.ravel(network(t, manifold.features(x), args))))


def square(manifold: Manifold, x: State, u: State, v: State | None = None) -> Array:
    """|u - v|^2 at x over the dimension."""
    difference = u if v is None else linear_combination((1.0, u), (-1.0, v))
    return manifold.inner(x, difference, difference) / manifold.dim


def points(manifold: Manifold, batch: Batch) -> tuple[State, Args]:
    """Points and conditions of a batch; its shapes and, where concrete, its points are checked."""
    x, other, args = unpack(batch)
    if other is not None:
        raise ValueError("batch has source and target; a method of one set on a manifold takes x")
    return manifold.check(x, "batch"), args


def manifold_method(
    manifold: Manifold,
    loss: Loss,
    process: Callable[[Params], Process],
    optimizer: optax.GradientTransformation,
    ema: float | None,
    accumulate: int,
    params: Params,
) -> Method:
    """``gradient_method``, with data looked at once, in ``init``: a compiled step cannot look at its batches."""
    method = gradient_method(loss, process, optimizer, ema, accumulate, params=params)

    def init(key: Key, data: Data) -> MethodState:
        if hasattr(data, "shape") or isinstance(data, dict | tuple):
            points(manifold, data)
        return method.init(key, data)

    return method._replace(init=init)


def brownian_step(manifold: Manifold, key: Key, x: State, variance: Scalar) -> State:
    """A step of Brownian motion of this variance, shortened by the curvature to be of weak order 2."""
    v = manifold.tangent_normal(key, x)
    root = jnp.sqrt(jnp.maximum(variance, 0.0))
    return manifold.exp(x, linear_combination((root, v), (-root * variance / 12.0, manifold.ricci(x, v))))


def is_flat(manifold: Manifold) -> bool:
    """Whether one step of Brownian motion is exact however long it is."""
    parts = manifold.parts if isinstance(manifold, Product) else (manifold,)
    return all(isinstance(part, Torus | Euclidean) for part in parts)


def brownian_walk(manifold: Manifold, key: Key, x: State, variance: Scalar, steps: int) -> State:
    """Brownian motion from x after time ``variance``, in ``steps`` equal steps; in one where the manifold is flat."""
    if is_flat(manifold):
        return brownian_step(manifold, key, x, variance)

    def step(x: State, k: Key) -> tuple[State, None]:
        return brownian_step(manifold, k, x, variance / steps), None

    return jax.lax.scan(step, x, jax.random.split(key, steps))[0]


def zero_drift(t: Scalar, x: State, args: Args) -> State:
    """No drift."""
    return jax.tree.map(jnp.zeros_like, x)


def root_grid(T: float, steps: int) -> Array:
    """Times of a process on s = T - t, finer near the data, up to the first time that was learnt."""
    return T - jnp.linspace(math.sqrt(T), math.sqrt(FIRST * T), steps + 1) ** 2


# by name --------------------------------------------------------------------------------------------------------------


def manifold_of(setup: Setup) -> Manifold:
    """The manifold that the data lie on.

    Raises:
        ValueError: data that are no points on a manifold.
    """
    if setup.data.coordinates is None:
        raise ValueError("data must be points on a manifold: give --manifold sphere, torus or so3")
    return setup.data.coordinates.space


def waves(x: Array) -> Array:
    """x, and sin and cos of pi 2^k x for k < 4, (9 d,): without them an MLP is slow to learn what is narrow.

    (Tancik et al. 2020, Fourier Features Let Networks Learn High Frequency Functions, arXiv 2006.10739.) On the
    earthquakes of the guide they take -log p of held-out rows from 0.31 to 0.02.
    """
    phases = (math.pi * 2.0 ** jnp.arange(_OCTAVES, dtype=x.dtype)[:, None] * x).reshape(-1)
    return jnp.concatenate([x, jnp.sin(phases), jnp.cos(phases)])


@dataclass(frozen=True)
class OnWaves:
    """A network, ``apply(params, t, waves(x), args)``, as a function of x."""

    apply: Network

    __repr__ = summary

    def __call__(self, params: Params, t: Array, x: Array, args: Args) -> Array:
        """What the network says."""
        return self.apply(params, t, waves(x), args)


def shown_waves(setup: Setup, shown: tuple[int, ...], told: tuple[int, ...], clock: float) -> NetworkLike:
    """The network that was asked for, from numbers of shape ``shown`` and their waves to shape ``told``."""
    size = (1 + 2 * _OCTAVES) * math.prod(shown)
    apply, params = functional(setup.network(shape=(size,), outputs=told, clock=clock))
    return OnWaves(apply), params


def network_of(setup: Setup, manifold: Manifold, clock: float = 1.0) -> NetworkLike:
    """The network that was asked for, as a tangent field."""
    like = point_like(manifold)
    features = jax.eval_shape(manifold.features, like).shape
    return shown_waves(setup, features, (ravel_pytree(like)[0].size,), clock)


def fitted(setup: Setup) -> dict[str, Any]:
    """Arguments of every method here: optimizer, ema, accumulate."""
    return {"optimizer": setup.optimizer(), "ema": setup.ema, "accumulate": setup.accumulate}
