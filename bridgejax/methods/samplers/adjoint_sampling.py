"""Adjoint sampling: regression onto the gradient at the end, many updates for one look at the density.

    dX = sigma u dt + sigma dW,  X_0 = 0,  t in [0, T];    nu = sigma^2 T,    g(x) = log N(x; 0, nu I) - log rho(x)

    u*(t, x) = -sigma E[grad g(X_T) | X_t = x]        minimised by   E |u(t, X_t) + sigma grad g(X_T)|^2

X_T comes from a buffer of terminal states of earlier versions of the process, with their gradients; X_t is drawn from
the Brownian bridge to it, X_t ~ N(t/T X_T, sigma^2 t (T - t)/T), since at the optimum the path given its end is that of
the reference. No path
is differentiated, and rho is looked at once for each end in the buffer. What it learns is weighed as ``pis`` is. It
seeks modes: where no end has been, it learns nothing. (Havens et al. 2025, arXiv 2504.11713.)
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import check_count
from bridgejax._numerics import normal_like
from bridgejax._summary import summary
from bridgejax._types import Batch, Data, LogDensity, MethodState, Network, Numbers, Params, Scalar
from bridgejax.methods._arguments import TRAINING, NetworkLike, documented
from bridgejax.methods.samplers import _path_sampler as controlled
from bridgejax.methods.samplers._path_sampler import SAMPLER
from bridgejax.methods.samplers.pis import brownian
from bridgejax.processes import Process
from bridgejax.processes._keys import keys, stream, streams
from bridgejax.solve import grids
from bridgejax.solve._batch import sample
from bridgejax.training import Method, adam, gradient_method
from bridgejax.training.method import rows


class State(NamedTuple):
    """Parameters, and the terminal states of paths with the gradients there."""

    inner: MethodState
    terminal_states: Array
    gradients: Array

    __repr__ = summary


def _loss(
    apply: Network, sigma: Scalar, T: float, params: Params, sample_keys: Array, batch: Batch
) -> tuple[Array, dict[str, Array]]:
    def one(key: Array, end: Array, gradient: Array) -> Array:
        time_key, noise_key = streams(key, "loss", 2)
        t = T * jax.random.uniform(time_key)
        x = (t / T) * end + sigma * jnp.sqrt(t * (T - t) / T) * normal_like(noise_key, end)
        target = sigma * (gradient + end / (sigma**2 * T))  # -sigma grad g
        return jnp.mean((apply(params["network"], t, x, None) - target) ** 2)

    return jnp.mean(jax.vmap(one)(sample_keys, batch["end"], batch["gradient"])), {}


@jax.jit
def _gradients(log_density: LogDensity, radius: Scalar, terminal_states: Array) -> Array:
    return jax.vmap(Partial(controlled.score, log_density, radius))(terminal_states)


@documented(SAMPLER, TRAINING)
def adjoint_sampling(
    log_density: LogDensity,
    network: NetworkLike | None = None,
    *,
    dim: int | None = None,
    sigma: float = 1.0,
    T: float = 1.0,
    ts: Numbers | None = None,
    cache: int = 1024,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = None,
    accumulate: int = 1,
) -> Method:
    """Adjoint sampling.

    Args:
        sigma: noise of the reference, N(0, sigma^2 T) at its end; as wide as the target.
        T: end of the clock.
        ts: grid from 0 to T; default 100 even steps.
        cache: terminal states in the buffer, half of them new in a round.

    Returns:
        A Method without data: ``fit(method, bj.data.NoData(512), key, steps=..., refresh_every=...)``, the latter the
        updates between rounds. ``bj.sample`` draws from its Process, ``bj.log_weights(process, keys, log_density)``
        gives weights for ``bj.weights``.

    Raises:
        ValueError: a density without a gradient, or one or a network that does not fit dim; a grid that does not run
            from 0 to T.
    """
    check_count("cache", cache, 2)
    reference, backward = brownian(sigma, T)
    options: controlled.SamplerOptions = {"dim": dim, "ts": ts}
    spec = controlled.check_options(log_density, network, grids.uniform(100, T), options, "adjoint_sampling")
    radius = sigma * (T / (spec.ts.shape[0] - 1)) ** 0.5
    start = controlled.Point(jnp.zeros(spec.dim))
    make = controlled.make_process(spec._replace(gradient=False), start, reference, backward, None)
    first = {"network": spec.params, "noise": jnp.zeros(spec.ts.shape)}
    optimizer = adam(schedule="constant") if optimizer is None else optimizer
    objective = Partial(partial(_loss, spec.apply), sigma, T)
    inner = gradient_method(objective, make, optimizer, ema, accumulate, params=first)

    def init(key: Array, data: Data) -> State:
        terminal_states = sigma * jnp.sqrt(T) * jax.random.normal(stream(key, "init"), (cache, spec.dim))
        return State(inner.init(key, data), terminal_states, _gradients(spec.log_density, radius, terminal_states))

    def step(state: State, key: Array, batch: Batch) -> tuple[State, dict[str, Array]]:
        pick, key = streams(key, "step", 2)
        chosen = jax.random.randint(pick, (rows(batch),), 0, cache)
        new, metrics = inner.step(
            state.inner, key, {"end": state.terminal_states[chosen], "gradient": state.gradients[chosen]}
        )
        return state._replace(inner=new), metrics

    def refresh(state: State, key: Array, data: Data) -> State:
        """Half of the buffer is replaced, the older half."""
        half = cache // 2
        new = sample(process(state), keys(stream(key, "refresh"), half))
        terminal_states = jnp.concatenate([state.terminal_states[half:], new])
        return State(state.inner, terminal_states, _gradients(spec.log_density, radius, terminal_states))

    def process(state: State) -> Process:
        return inner.process(state.inner)

    def params(state: State) -> Params:
        return inner.params(state.inner)

    return Method(init, step, process, refresh, params=params)
