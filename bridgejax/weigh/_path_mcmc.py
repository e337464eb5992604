"""Guided paths with their weights, and MCMC over them: preconditioned Crank-Nicolson moves on the driving noise.

    Z' = rho Z + sqrt(1 - rho^2) zeta,    accept with probability min(1, exp(log_weight' - log_weight)),

which leaves the smoothing law invariant, for any number of steps, because N(0, I) is invariant under the move and the
weight is the target over the proposal (Beskos et al. 2008; van der Meulen & Schauer 2017, arXiv 1611.03417).
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer

from bridgejax._checks import check_count, check_number
from bridgejax._summary import summary
from bridgejax._types import Args, Numbers, PyTree
from bridgejax.bridges.guided import Bridge, Guided, noise_sizes, weighted_path
from bridgejax.processes._keys import check_one_key, streams
from bridgejax.processes.sde import check_process
from bridgejax.solve._accepted import check_times
from bridgejax.solve._batch import check_batch, map_samples
from bridgejax.solve._simulate import Path


@partial(jax.jit, static_argnames=("num", "micro_batch"))
def _weighted_paths(bridge: Bridge, keys: Array, args: Args, *, num: int, micro_batch: int | None) -> PyTree:
    def one(bridge: Bridge, sample: PyTree) -> tuple[Array, Array]:
        key, args = sample
        assert bridge.guided is not None
        start_key, run_key, _ = streams(key, "process", 3)  # as sample does: the same paths
        return weighted_path(bridge.guided(args).parts, run_key, bridge.start(start_key, args), bridge.ts, args)

    return map_samples(one, bridge, (keys, args), num, micro_batch=micro_batch)


def weighted_paths(bridge: Bridge, keys: Array, args: Args = None, *, micro_batch: int | None = None) -> PyTree:
    """Paths of a bridge that meet its observation, with their log weights.

    Args:
        bridge: the Process of ``methods.conditioned``.
        keys: array of keys, one per path.
        args: the observations (end points), one per path; None where the bridge has one of its own.
        micro_batch: paths per program.

    Returns:
        ``(xs, log_weights)``: (len(keys), len(bridge.ts), d) and (len(keys),). E[exp log_weight] is the Euler chain's
        density at the end point; weighted, the paths are draws of the conditioned law. See ``bridgejax.weights``.

    Raises:
        ValueError: a Process that is no Bridge, or a step whose noise cannot move what is observed.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> brownian = bj.SDE(lambda t, x, args: 0.0 * x, lambda t, x, args: 1.0)
        >>> method = bj.methods.conditioned(brownian, None, start=[0.0], end=[2.0], ts=bj.grids.uniform(10))
        >>> bridge = method.process(method.init(jax.random.key(0), None))
        >>> xs, log_weights = bj.weighted_paths(bridge, bj.keys(jax.random.key(1), 4))
        >>> xs.shape, xs[:, -1, 0].round(4).tolist(), log_weights.shape
        ((4, 11, 1), [2.0, 2.0, 2.0, 2.0], (4,))
    """
    check_process(bridge)
    if not isinstance(bridge, Bridge) or bridge.guided is None:
        raise ValueError(f"bridge must be the Process of methods.conditioned, got {type(bridge).__name__}")
    keys, num = check_batch(keys, (args,), ("args",), (0,), micro_batch, None)
    xs, log_weights = _weighted_paths(bridge, keys, jax.tree.map(jnp.asarray, args), num=num, micro_batch=micro_batch)
    if not isinstance(log_weights, Tracer) and bool(jnp.any(jnp.isnan(log_weights))):
        count = int(jnp.sum(jnp.isnan(log_weights)))
        raise ValueError(
            f"{count} of {num} log weights are nan: the noise of the last step cannot move what is observed exactly "
            "(give the observation noise), or a drift that is not finite"
        )
    return xs, log_weights


class Chain(NamedTuple):
    """A run of ``pcn``.

    Args:
        xs: states along the paths of the chain, (moves, len(ts), d).
        log_weights: their log weights, (moves,).
        accepted: whether each move was accepted, (moves,).
    """

    xs: Array
    log_weights: Array
    accepted: Array

    __repr__ = summary


def pcn(
    guided: Guided, key: Array, x0: Array, ts: Numbers, moves: int, *, rho: float = 0.9, args: Args = None
) -> Chain:
    """A Markov chain of paths that meet the observations, invariant under the smoothing law.

    Args:
        guided: what ``bridgejax.guide`` made.
        key: one key.
        x0: start state, (d,).
        ts: grid that holds the observation times.
        moves: length of the chain.
        rho: how much of the noise a move keeps, in [0, 1); 0 is independence sampling.
        args: the sample's own condition.

    Returns:
        A ``Chain``: paths, their log weights, and which moves were accepted.

    Raises:
        ValueError: rho outside [0, 1), or moves below 1.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> sde = bj.SDE(lambda t, x, args: -jnp.sin(x), lambda t, x, args: 0.5)
        >>> guided = bj.guide(sde, bj.Observation(1.0, jnp.array([1.0]), noise=0.1), start=jnp.zeros(1))
        >>> chain = bj.pcn(guided, jax.random.key(0), jnp.zeros(1), bj.grids.uniform(20), 30)
        >>> chain.xs.shape, chain.accepted.shape
        ((30, 21, 1), (30,))
    """
    if not isinstance(guided, Guided):
        raise ValueError(f"guided must be what bridgejax.guide made, got {type(guided).__name__}")
    check_count("moves", moves)
    check_number(rho=rho)
    if not 0.0 <= rho < 1.0:
        raise ValueError(f"rho must lie in [0, 1), got {rho}")
    times, _ = check_times(guided.sde.T, ts)
    return _pcn(guided, check_one_key(key), jnp.asarray(x0), times, args, jnp.float32(rho), moves)


def _pcn_chain(guided: Guided, key: Array, x0: Array, ts: Array, args: Args, rho: Array, moves: int) -> Chain:
    steps = ts.shape[0] - 1
    sizes = noise_sizes(guided.parts, ts[0], x0, args)
    wide = jnp.promote_types(x0.dtype, jnp.float32)  # rounding would not leave the law of the noise as it is

    def draw(key: Array) -> PyTree:
        keys = jax.random.split(key)
        return tuple(jax.random.normal(k, (steps, n), wide) for k, n in zip(keys, sizes, strict=True))

    def walk(noise: PyTree) -> tuple[Array, Array]:
        def step(x: Array, interval: PyTree) -> tuple[Array, Array]:
            t, u, z, xi = interval
            y = guided.drive(t, u, x, args, z, xi)
            return y, y

        _, rest = jax.lax.scan(step, x0, (ts[:-1], ts[1:], *noise))
        xs = jnp.concatenate([x0[None], rest])
        return xs, guided.log_weight(Path(ts, xs, None), args)

    def move(carry: PyTree, key: Array) -> tuple[PyTree, Chain]:
        noise, _, log_weight = carry
        noise_key, accept_key = jax.random.split(key)
        fresh = draw(noise_key)
        proposed = jax.tree.map(lambda old, new: rho * old + jnp.sqrt(1.0 - rho**2) * new, noise, fresh)
        new_xs, new_weight = walk(proposed)
        accept = jnp.log(jax.random.uniform(accept_key)) < new_weight - log_weight
        carry = jax.tree.map(lambda a, b: jnp.where(accept, a, b), (proposed, new_xs, new_weight), carry)
        return carry, Chain(carry[1], carry[2], accept)

    first_key, rest_key = streams(key, "pcn", 2)
    noise = draw(first_key)
    return jax.lax.scan(move, (noise, *walk(noise)), jax.random.split(rest_key, moves))[1]


_pcn = jax.jit(_pcn_chain, static_argnames="moves")
