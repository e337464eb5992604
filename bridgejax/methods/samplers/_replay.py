"""What a learned sampler remembers, and how it is led to its target: a buffer of ends, a power of the density.

replay    half of a batch are paths back from ends in the buffer (``samplers._losses``). The ends are those of
          the sampler as it was, drawn by their weights, which are flattened to an ESS of a half so that no few of
          them take all places; a round replaces the older half of the buffer
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
    ends: PyTree

    __repr__ = summary


def _draw(process: Process, log_density: LogDensity, key: Array, num: int) -> tuple[PyTree, Array]:
    """Ends, resampled, and whether there is any; one whose weight is nan or infinite is never drawn."""
    run, pick = jax.random.split(key)
    ends, log_w = weighted_samples(process, keys(run, num), log_density, exclude=True)
    chosen = weights.systematic(pick, weights.flattened(log_w))
    return jax.tree.map(lambda leaf: leaf[chosen], ends), jnp.any(jnp.isfinite(log_w))


def replayed(method: Method, log_density: LogDensity, cache: int, anneal: int) -> Method:
    """A gradient method of ``path_loss`` with a buffer of ``cache`` ends (0: none) and ``anneal`` tempered updates."""

    def init(key: Array, data: Data) -> State:
        inner = method.init(key, data)
        if not cache:
            return State(inner, None)
        ends, some = _draw(method.process(inner), log_density, stream(key, "init"), cache)
        if not isinstance(some, Tracer) and not bool(some):
            raise ValueError(f"none of {cache} paths ends where the density is finite: start wider, or mend it")
        return State(inner, ends)

    def step(state: State, key: Array, batch: Batch) -> tuple[State, dict[str, Array]]:
        n, ends = rows(batch), None
        if cache:
            pick, key = streams(key, "step", 2)
            chosen = jax.random.randint(pick, (n,), 0, cache)
            ends = jax.tree.map(lambda leaf: leaf[chosen], state.ends)
        done = state.inner.step / anneal if anneal else 1.0
        power = jnp.minimum(1.0, _FLATTEST + (1.0 - _FLATTEST) * done)
        inner, metrics = method.step(state.inner, key, Plan(ends, jnp.full(n, power)))
        return State(inner, state.ends), {**metrics, "power": power}

    def refresh(state: State, key: Array, data: Data) -> State:
        """The older half goes, unless nothing would come in its place."""
        new, some = _draw(process(state), log_density, stream(key, "refresh"), cache - cache // 2)

        def renewed(old: Array, new: Array) -> Array:
            return jnp.where(some, jnp.concatenate([old[len(new) :], new]), old)

        return State(state.inner, jax.tree.map(renewed, state.ends, new))

    def process(state: State) -> Process:
        return method.process(state.inner)

    def params(state: State) -> Params:
        return method.params(state.inner)

    return Method(init, step, process, refresh if cache else None, params=params)
