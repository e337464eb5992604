"""What the signatures of every room are written in: names for values, and protocols for functions.

JAX knows no static type of a pytree, so ``State``, ``Args``, ``Params``, ``Batch`` and ``PyTree`` are ``Any`` to a type
checker; each name tells the reader which pytree is meant. The protocols are checked: a function of another arity is an
error. Arguments are positional, so that a user's function may call them what it likes.

One sample each, no batch axis, unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

from jax import Array
from jax.typing import ArrayLike

# values -----------------------------------------------------------------------------------------------------------

Key: TypeAlias = Array
"""A typed PRNG key, ``jax.random.key(seed)``, of shape (); ``bj.keys(key, n)`` is a key array of shape (n,)."""

Scalar: TypeAlias = float | Array
"""A real number: a Python one, or an array of shape ()."""

Time: TypeAlias = float | Array
"""A time on the clock [0, T], at least as precise as float32 whatever the state is; shape () unless said."""

Numbers: TypeAlias = ArrayLike | Sequence[Any]
"""Real numbers in any form that ``jnp.asarray`` takes: a number, an array of NumPy or JAX, nested lists of numbers."""

Shape: TypeAlias = tuple[int, ...]
"""The shape of one sample."""

DType: TypeAlias = Any
"""What JAX takes as a dtype: ``jnp.float32``, a NumPy dtype, a name."""

Grid: TypeAlias = Array
"""Times of shape (n + 1,), increasing, within [0, T]: n steps."""

PyTree: TypeAlias = Any
"""A pytree of arrays whose structure does not matter here: what a loop carries, an optimizer's state."""

State: TypeAlias = Any
"""State x of a process: an array of any shape, or a pytree of them. One sample."""

Args: TypeAlias = Any
"""A sample's own condition (label, observation, start point), a pytree passed unchanged to every function; or None."""

Params: TypeAlias = Any
"""Parameters that are learnt: a pytree of arrays of floating numbers."""

Batch: TypeAlias = Any
"""Many samples: an array, or a pytree of arrays, whose first axis counts them."""

Data: TypeAlias = Any
"""What a method is fitted to: arrays (or pytrees of them), one row a sample, or a data set of ``bridgejax.data``."""

Mask: TypeAlias = Any
"""Booleans shaped like the state: True where a coordinate is known."""

NoiseFactor: TypeAlias = Any
"""G in G dW at one state: a number (all of x), like x (diagonal), or a ``lineax`` operator (dense or rectangular)."""

MethodState: TypeAlias = Any
"""State of a Method: what its ``init`` makes and its ``step`` returns, parameters and optimizer state included."""

Json: TypeAlias = dict[str, Any]
"""What a JSON file holds."""

Metrics: TypeAlias = dict[str, Array]
"""Scalars of one training step by name, "loss" among them where there is one."""


# functions of time and state --------------------------------------------------------------------------------------


class Field(Protocol):
    """``f(t, x, args)``, shaped like x: a drift, score, velocity, denoiser, control or grad log h."""

    def __call__(self, t: Array, x: State, args: Args, /) -> State:
        """The value at time t and state x of one sample."""
        ...


class ScalarField(Protocol):
    """``f(t, x, args)``, a real number: a log density at time t, an energy, a potential."""

    def __call__(self, t: Array, x: State, args: Args, /) -> Array:
        """The value at time t and state x of one sample."""
        ...


class DiffusionFn(Protocol):
    """``diffusion(t, x, args)``, the factor of dW."""

    def __call__(self, t: Array, x: State, args: Args, /) -> NoiseFactor:
        """The factor at time t and state x of one sample."""
        ...


class TimeFn(Protocol):
    """``f(t)``, a coefficient of time: a rate, a noise level, a clock."""

    def __call__(self, t: Array, /) -> Array:
        """The coefficient at time t."""
        ...


class Network(Protocol):
    """``apply(params, t, x, args)``, what ``networks.functional`` makes of a module."""

    def __call__(self, params: Params, t: Array, x: State, args: Args, /) -> State:
        """The output for one sample, shaped like x unless a method says otherwise."""
        ...


class LogDensity(Protocol):
    """``log_density(x)``, the log of a density that need not be normalised, in nats."""

    def __call__(self, x: State, /) -> Array:
        """A real number, or -inf outside of the support."""
        ...


# laws ---------------------------------------------------------------------------------------------------------------


class StartLaw(Protocol):
    """``start(key, args)``, the law of the state at time 0."""

    def __call__(self, key: Key, args: Args, /) -> State:
        """One draw."""
        ...


class Decoder(Protocol):
    """``decode(key, x, args)``, applied to the last state: data in their own units, a prediction."""

    def __call__(self, key: Key, x: State, args: Args, /) -> PyTree:
        """The decoded sample."""
        ...


class TransitionSampler(Protocol):
    """``sample(key, t, u, x, args)``, a draw of x_u given x_t = x, for t < u."""

    def __call__(self, key: Key, t: Array, u: Array, x: State, args: Args, /) -> State:
        """One draw, shaped like x."""
        ...


class TransitionLogProb(Protocol):
    """``log_prob(t, u, x, y, args)``, the log density of x_u = y given x_t = x; nan where that step has none."""

    def __call__(self, t: Array, u: Array, x: State, y: State, args: Args, /) -> Array:
        """A real number."""
        ...


# learning: the parts of a Method; ``ProcessFn`` stands beside Process ------------------------------------------------


class Loss(Protocol):
    """``loss(params, keys, batch) -> (value, metrics)``, the mean over a batch of B samples.

    Sample i uses keys[i] alone, so that the loss does not depend on micro-batches or devices.
    """

    def __call__(self, params: Params, keys: Key, batch: Batch, /) -> tuple[Array, Metrics]:
        """A scalar, and scalars to be recorded."""
        ...


class InitFn(Protocol):
    """``init(key, data) -> state``, the state before the first step of a Method."""

    def __call__(self, key: Key, data: Data, /) -> MethodState:
        """A pytree of arrays."""
        ...


class StepFn(Protocol):
    """``step(state, key, batch) -> (state, metrics)``, one update of a Method.

    The new state has the structure, shapes and dtypes of the old.
    """

    def __call__(self, state: MethodState, key: Key, batch: Batch, /) -> tuple[MethodState, Metrics]:
        """The new state, and what is recorded."""
        ...


class RefreshFn(Protocol):
    """``refresh(state, key, data) -> state``, between the rounds of a Method, outside of the compiled step."""

    def __call__(self, state: MethodState, key: Key, data: Data, /) -> MethodState:
        """The state that the next round starts from."""
        ...
