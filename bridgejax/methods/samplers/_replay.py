"""Replay buffer of terminal states and tempering of the target for learned samplers.

replay    half of a batch are backward paths from the buffer (``samplers._losses``). Its states are samples of the
          process at the last refreshes, resampled by their weights, which are flattened to an ESS of a half so that a
          few of them do not fill the buffer; a refresh replaces the older half
anneal    update k of the first n learns rho^b,     b = 0.1 + 0.9 k / n
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer

from bridgejax._summary import summary
from bridgejax._types import Batch, Data, LogDensity, MethodState, Params, PyTree
from bridgejax.methods.samplers._losses import Plan
from bridgejax.processes import Process
from bridgejax.processes._keys import keys, stream, streams
from bridgejax.training import Method
from bridgejax.training.method import rows
from bridgejax.weigh import weights
from bridgejax.weigh._path_weights import weighted_samples

_FLATTEST = 0.1  # the power that annealing begins with


class State(NamedTuple):
    """The state of the method that learns, and the buffer, (n, ...), or None."""

    inner: MethodState
    terminal_states: PyTree

    __repr__ = summary


def _draw(process: Process, log_density: LogDensity, key: Array, num: int) -> tuple[PyTree, Array]:
    """Ends, resampled, and whether there is any; one whose weight is nan or infinite is never drawn."""
    run, pick = jax.random.split(key)
    terminal_states, log_w = weighted_samples(process, keys(run, num), log_density, exclude=True)
    chosen = weights.systematic(pick, weights.flattened(log_w))
    return jax.tree.map(lambda leaf: leaf[chosen], terminal_states), jnp.any(jnp.isfinite(log_w))


def replayed(method: Method, log_density: LogDensity, cache: int, anneal: int) -> Method:
    """A gradient method of ``path_loss`` with ``cache`` buffered states (0: none) and ``anneal`` tempered updates."""

    def init(key: Array, data: Data) -> State:
        inner = method.init(key, data)
        if not cache:
            return State(inner, None)
        terminal_states, some = _draw(method.process(inner), log_density, stream(key, "init"), cache)
        if not isinstance(some, Tracer) and not bool(some):
            raise ValueError(f"none of {cache} paths ends where the density is finite: start wider, or mend it")
        return State(inner, terminal_states)

    def step(state: State, key: Array, batch: Batch) -> tuple[State, dict[str, Array]]:
        n, terminal_states = rows(batch), None
        if cache:
            pick, key = streams(key, "step", 2)
            chosen = jax.random.randint(pick, (n,), 0, cache)
            terminal_states = jax.tree.map(lambda leaf: leaf[chosen], state.terminal_states)
        done = state.inner.step / anneal if anneal else 1.0
        power = jnp.minimum(1.0, _FLATTEST + (1.0 - _FLATTEST) * done)
        inner, metrics = method.step(state.inner, key, Plan(terminal_states, jnp.full(n, power)))
        return State(inner, state.terminal_states), {**metrics, "power": power}

    def refresh(state: State, key: Array, data: Data) -> State:
        """The older half goes, unless nothing would come in its place."""
        new, some = _draw(process(state), log_density, stream(key, "refresh"), cache - cache // 2)

        def renewed(old: Array, new: Array) -> Array:
            return jnp.where(some, jnp.concatenate([old[len(new) :], new]), old)

        return State(state.inner, jax.tree.map(renewed, state.terminal_states, new))

    def process(state: State) -> Process:
        return method.process(state.inner)

    def params(state: State) -> Params:
        return method.params(state.inner)

    return Method(init, step, process, refresh if cache else None, params=params)
