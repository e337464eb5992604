"""Diffusion Schroedinger bridge matching: iterative Markovian fitting with two networks.

Reference: Brownian motion with sigma^2 = epsilon per unit time on [0, 1]. Its bridge of given marginals is the one law
that is Markov *and* a mixture of Brownian bridges, so project on the two in turn (Shi, De Bortoli, Campbell & Doucet
2023, arXiv 2303.16852; Peluchetti 2023, arXiv 2304.00917):

    Markov        x_t = (1 - t) x_0 + t x_1 + sigma sqrt(t (1 - t)) eps,
                  regress on (x_1 - x_t) / sqrt(1 - t), that is sqrt(1 - t) times the        forward drift
                  the same with the ends exchanged, on the clock s = 1 - t:                  backward drift
    reciprocal    (x_0, x_1) <- the ends of simulated paths

    round 0       the coupling of the batches; both networks, in turn
    round 1       x_1 from the data, x_0 simulated backward; trains the forward network
    round 2       x_0 from the data, x_1 simulated forward;  trains the backward network;  and so on

A network is always trained with true data where it ends, so that the error of one marginal is not handed on. Between
two N(., 1) with sigma = 1 the covariance of the ends is 0, 0.5463, 0.6111, 0.6174 -> 0.6180.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import Partial

from bridgejax._summary import summary
from bridgejax._types import Batch, Data, Numbers, Params
from bridgejax.bridges import interpolants
from bridgejax.bridges._transport import transport
from bridgejax.methods._alternating import (
    Pair,
    accept_round,
    cache_size,
    check_average,
    check_rounds,
    params_of,
    regression,
    start_pair,
    update_pair,
)
from bridgejax.methods._arguments import BRIDGE, ROUNDS, NetworkLike, documented
from bridgejax.methods._ends import check_ends, draw_ends, finished, start_law, whole_grid
from bridgejax.methods._setup import Setup
from bridgejax.methods._spec import noise
from bridgejax.methods.schroedinger import Bridge
from bridgejax.networks import or_mlp
from bridgejax.objectives import matching
from bridgejax.objectives.times import TimeSampler
from bridgejax.processes import SDE, Process, keys
from bridgejax.processes._keys import stream, streams
from bridgejax.solve import grids, simulate_batch
from bridgejax.training import Method


class State(NamedTuple):
    """State of ``dsbm``.

    Attributes:
        step: updates made.
        round: refreshes made.
        rejected: refreshes in a row whose simulated ends missed the data, so that the last good round went on.
        nets: both networks.
        accepted: parameters of both at the last good refresh.
        pairs: ``source`` and ``target`` (cache, *shape), the coupling of this round.
        marginal_error: how far the simulated end of the pairs is from the data, see ``_alternating.marginal_error``.
    """

    step: Array
    round: Array
    rejected: Array
    nets: Pair
    accepted: Params
    pairs: dict[str, Array]
    marginal_error: Array

    __repr__ = summary


def _flip(first: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """(a, b) where ``first``, else (b, a)."""
    return jnp.where(first, a, b), jnp.where(first, b, a)


@documented(BRIDGE, ROUNDS)
def dsbm(
    network: NetworkLike | None = None,
    *,
    shape: tuple[int, ...],
    sigma: float = 1.0,
    source: Numbers | None = None,
    cache: int = 4096,
    max_marginal_error: float = 5.0,
    time_sampler: TimeSampler | None = None,
    optimizer: optax.GradientTransformation | Literal["exact"] | None = None,
    ema: float | None = 0.999,
    ts: Numbers | None = None,
    solver: diffrax.AbstractSolver | None = None,
) -> Method:
    """Iterative Markovian fitting as a Method with rounds.

    Args:
        network: a flax.nnx module or ``(apply, params)`` (None: ``networks.or_mlp``); both directions start from its
            parameters. It predicts the residual (x_1 - x_t) / sqrt(1 - t) of its own direction, on its own clock
            from 0 to 1.
        cache: pairs simulated in a round. What they teach is no better than c draws tell: of Gaussians in d dimensions,
            off by a KL of d (d + 3) / 4c.
        time_sampler: see ``objectives.times``; default uniform on [1e-3, 1 - 1e-3].
        ts: grid of the process and of the rounds, from 0 to 1; default 100 even steps. ``grids.two_sided`` where sigma
            sqrt(h) of these is not small beside the structure of the data.

    Returns:
        A Method whose data are dictionaries ``source``, ``target`` (``data.Pairs``); pass ``refresh_every`` to ``fit``.
        The batches' coupling is that of round 0: independent, or minibatch optimal transport. Rounds compile nothing
        anew. Metrics: "loss", "grad_norm", "round", "rejected", "marginal_error" (of the last simulation,
        in units of the data's standard deviation).

    Raises:
        ValueError: sigma not positive, sizes or decay out of range, a grid that is not whole; at trace time
            rows of another shape.
        Diverged: by ``fit``, when rounds end far from the data and come no closer; its ``state`` has the networks of
            the last good one.
    """
    check_rounds(sigma, cache, max_marginal_error)
    apply, initial = or_mlp(network, shape)
    path = interpolants.brownian(sigma)
    learn, loss = regression(optimizer), matching(path, apply, "residual", times=time_sampler)
    grid = whole_grid(ts, grids.uniform(100))
    shape, start = start_law(source, shape)
    ema = check_average(optimizer, ema)

    def sde(state: State, direction: int | Array) -> SDE:
        return transport(path, Partial(apply, state.nets.of(direction)), "residual")

    def init(key: Array, data: Data) -> State:
        x0, x1 = draw_ends(data, stream(key, "init"), cache, shape)
        zero, nets = jnp.zeros((), jnp.int32), start_pair(learn, initial, initial, ema)
        return State(zero, zero, zero, nets, nets.both(), {"source": x0, "target": x1}, jnp.zeros(()))

    def step(state: State, key: Array, batch: Batch) -> tuple[State, dict[str, Array]]:
        given = check_ends(batch, shape)
        size = given[0].shape[0]
        draw, key = streams(key, "step", 2)
        rows = (jax.random.randint(draw, (), 0, cache) + jnp.arange(size)) % cache
        first = state.round == 0
        x0, x1 = (jnp.where(first, a, state.pairs[n][rows]) for n, a in zip(("source", "target"), given, strict=True))
        d = jnp.where(first, state.step, state.round + 1) % 2
        begin, end = _flip(d == 0, x0, x1)
        sample_keys, ends = keys(key, size), {"source": begin, "target": end}
        nets, metrics = update_pair(learn, state.nets, d, lambda p: loss(p, sample_keys, ends)[0], ema)
        metrics |= {"round": state.round, "rejected": state.rejected, "marginal_error": state.marginal_error}
        return state._replace(step=state.step + 1, nets=nets), metrics

    def refresh(state: State, key: Array, data: Data) -> State:
        rows, run = streams(key, "refresh", 2)
        x0, x1 = draw_ends(data, rows, cache, shape)
        backward = int(state.round) % 2 == 0  # the coming round is odd
        begin, truth = (x1, x0) if backward else (x0, x1)
        end = simulate_batch(sde(state, int(backward)), keys(run, cache), begin, grid, solver=solver)
        x0, x1 = (end, begin) if backward else (begin, end)
        new = state._replace(round=state.round + 1, pairs={"source": x0, "target": x1})
        return accept_round((end, truth, begin), max_marginal_error, lambda: new, state, learn, ema)

    def process(state: State) -> Process:
        return Process(start, sde(state, 0), grid, sde(state, 1))

    return Method(init, step, process, refresh, params=params_of)


def build(options: Bridge, setup: Setup) -> Method:
    """``dsbm`` by its options."""
    data = setup.data
    method = dsbm(
        setup.network(),
        shape=data.shape,
        sigma=noise("dsbm", options),
        source=data.source,
        cache=cache_size(data.shape, 1),
        optimizer=setup.optimizer(networks=2),
        ema=setup.ema,
        ts=grids.uniform(options.sample_steps or 100),
    )
    return finished(method, setup.decode)
