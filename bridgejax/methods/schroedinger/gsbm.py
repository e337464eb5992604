"""Generalised Schroedinger bridge matching: transport between two data sets with a cost of the state on the way.

    min  E int_0^1 |u|^2 / 2 + V(t, X) dt,   dX = u dt + sigma dW,  both marginals given

The optimum is Markov *and* a mixture, over its own coupling of the ends, of the conditional optima between two points,
so alternate (Liu et al. 2024, arXiv 2310.02233):

    conditional   for every pair of ends the control of least action, among Gaussian paths (``_gaussian_paths``),
                  or, with ``resample``, paths of the exact conditional law by weighting and resampling those
    Markov        regress a network on where that control points, y = x + (1 - t) u;    drift (net - x) / (1 - t)
    ends          x_0 or x_1 from the data, the other simulated by the network trained last

The two directions take turns as in ``dsbm``, whose every step this is for V = 0, where y = x_1. Costs are in units of
|u|^2 / 2: data squared over time squared; sigma^2 per unit time is the entropic epsilon.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import check_count, check_positive
from bridgejax._numerics import normal_like
from bridgejax._summary import summary
from bridgejax._types import Batch, Data, Numbers, Params
from bridgejax.bridges import interpolants, predictions
from bridgejax.bridges._transport import transport
from bridgejax.methods._alternating import (
    Pair,
    accept_round,
    check_average,
    params_of,
    regression,
    start_pair,
    update_pair,
)
from bridgejax.methods._arguments import BRIDGE, ROUNDS, NetworkLike, documented
from bridgejax.methods._ends import check_ends, check_sigma, draw_ends, start_law, whole_grid
from bridgejax.methods.schroedinger._gaussian_paths import (
    Cost,
    GaussianPath,
    candidates,
    deviation,
    goals,
    optimise,
    points_to,
    spline,
    straight,
)
from bridgejax.networks import or_mlp
from bridgejax.objectives import times
from bridgejax.objectives._matching import squared_error
from bridgejax.objectives.times import TimeSampler
from bridgejax.processes import SDE, Process, keys
from bridgejax.processes._keys import streams
from bridgejax.solve import grids, simulate_batch
from bridgejax.training import Method


class State(NamedTuple):
    """State of ``gsbm``.

    Attributes:
        step: updates made.
        round: refreshes made.
        refused: refreshes in a row whose simulated ends missed the data, so that the last good round went on.
        nets: both networks.
        kept: parameters of both at the last good refresh.
        pairs: ``source`` and ``target`` (cache, *shape), the coupling of this round.
        paths: one for every pair.
        x: (cache, N, *shape), paths of the exact conditional law on the way that is trained next; empty without
            ``resample``.
        goal: where they point.
        ess: effective share of the candidates, mean over pairs; 1 without ``resample``.
        gap: how far the simulated end of the pairs is from the data, see ``_alternating.marginal_error``.
    """

    step: Array
    round: Array
    refused: Array
    nets: Pair
    kept: Params
    pairs: dict[str, Array]
    paths: GaussianPath
    x: Array
    goal: Array
    ess: Array
    gap: Array

    __repr__ = summary


def _check_cost(cost: Cost, shape: tuple[int, ...], crowd: int) -> None:
    if not callable(cost):
        raise ValueError(f"cost must be a function V(t, x, others), got {type(cost).__name__}")
    others = jax.ShapeDtypeStruct((crowd, *shape), jnp.float32) if crowd else None
    x, t = jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct((), jnp.float32)
    found = jax.eval_shape(cost, t, x, others)
    if jnp.shape(found) != ():
        raise ValueError(f"cost must return one number for one state, got shape {jnp.shape(found)}; sum over it")


@documented(BRIDGE, ROUNDS)
def gsbm(
    network: NetworkLike | None,
    cost: Cost,
    *,
    shape: tuple[int, ...],
    sigma: float = 1.0,
    source: Numbers | None = None,
    knots: int = 9,
    width_knots: int = 9,
    path_steps: int = 200,
    path_rate: float = 0.05,
    resample: int = 0,
    crowd: int = 0,
    max_marginal_error: float = 1.0,
    cache: int = 2048,
    time_sampler: TimeSampler | None = None,
    optimizer: optax.GradientTransformation | Literal["exact"] | None = None,
    ema: float | None = 0.999,
    ts: Numbers | None = None,
    solver: diffrax.AbstractSolver | None = None,
) -> Method:
    """Generalised Schroedinger bridge matching as a Method with rounds.

    Args:
        network: a flax.nnx module or ``(apply, params)`` (None: ``networks.or_mlp``); both directions start from its
            parameters. It predicts sqrt(1 - t) times the drift of its own direction, on its own clock from 0 to 1.
        cost: V(t, x, others), one number for one state, differentiable; t on the clock from source (0) to target (1).
            others is None, or (crowd, *shape), where other members of the crowd are at t.
        knots: of a path's mean, its ends among them, at least 2.
        width_knots: of its width, likewise.
        path_steps: Adam steps for the paths of a round.
        path_rate: their first rate, in units of the data.
        resample: candidates per pair, weighted to the exact conditional law, of which one is kept; 0: the Gaussian path
            itself.
        crowd: how many others a state meets; 0 for a cost of the own state alone.
        cache: pairs of a round.
        time_sampler: see ``objectives.times``; default uniform on [1e-3, 1 - 1e-3]. Not used with ``resample``.
        ts: grid of the process, of the rounds and of the candidates, from 0 to 1, with ``resample`` symmetric; default
            100 even steps.

    Returns:
        A Method whose data are dictionaries ``source``, ``target`` (``data.Pairs``); pass ``refresh_every`` to ``fit``.
        The rows of a batch only say how many pairs an update takes. Rounds compile nothing anew. Metrics: "loss",
        "grad_norm", "round", "refused", "gap", "ess".

    Raises:
        ValueError: a cost that is no function or no scalar, sigma not positive, sizes out of range, a grid
            that is not whole or symmetric; at trace time rows of another shape.
        Diverged: by ``fit``, when rounds end far from the data and come no closer; its ``state`` has the networks of
            the last good one.
    """
    check_sigma(sigma)
    for name, value, least in (("knots", knots, 2), ("width_knots", width_knots, 2), ("path_steps", path_steps, 1)):
        check_count(name, value, least)
    for name, value, least in (("resample", resample, 0), ("crowd", crowd, 0), ("cache", cache, 1)):
        check_count(name, value, least)
    check_positive(path_rate=path_rate, max_marginal_error=max_marginal_error)
    shape, start = start_law(source, shape)
    _check_cost(cost, shape, crowd)
    ema = check_average(optimizer, ema)
    apply, initial = or_mlp(network, shape)
    learn, bridge = regression(optimizer), interpolants.brownian(sigma)
    draw_times = times.uniform(1e-3, 1.0 - 1e-3) if time_sampler is None else time_sampler
    grid = whole_grid(ts, grids.uniform(100), symmetric=bool(resample))

    def sde(state: State, direction: int | Array) -> SDE:
        return transport(bridge, Partial(apply, state.nets.of(direction)), "residual")

    @jax.jit
    def solve(key: Array, x0: Array, x1: Array, direction: Array) -> tuple[GaussianPath, Array, Array, Array]:
        """Paths of a round and, resampled, states and goals of the direction that is trained in it."""
        best, draw, pick, who, where = jax.random.split(key, 5)
        paths = jax.vmap(lambda a, b: straight(a, b, knots, width_knots))(x0, x1)
        paths = optimise(cost, paths, sigma, best, steps=path_steps, rate=path_rate, crowd=crowd)
        if not resample:
            return paths, jnp.zeros((0,)), jnp.zeros((0,)), jnp.ones(())
        others = None
        if crowd:
            chosen = jax.tree.map(lambda leaf: leaf[jax.random.randint(who, (crowd,), 0, cache)], paths)
            z = jax.random.normal(where, (grid.shape[0], crowd, *shape))
            place = jax.vmap(lambda p, t, z: spline(p.mean, t) + deviation(p, sigma, t) * z, (0, None, 0))
            others = jax.vmap(place, (None, 0, 0))(chosen, grid, z)

        def one(path: GaussianPath, draw: Array, pick: Array) -> tuple[Array, Array, Array]:
            xs, weights = candidates(cost, path, sigma, draw, grid, resample, others)
            kept = xs[jax.random.categorical(pick, jnp.log(weights))]
            flip = lambda tree: jax.tree.map(lambda leaf: leaf[::-1], tree)  # noqa: E731
            back = goals(lambda s, x, o: cost(1.0 - s, x, o), flip(kept), 1.0 - grid[::-1], flip(others))
            ahead, turned = goals(cost, kept, grid, others), direction == 1
            chosen = jnp.where(turned, flip(kept), kept)[:-1], jnp.where(turned, back, ahead)
            return *chosen, 1.0 / (resample * jnp.sum(weights**2))

        x, goal, ess = jax.vmap(one)(paths, keys(draw, cache), keys(pick, cache))
        return paths, x, goal, ess.mean()

    def init(key: Array, data: Data) -> State:
        rows, best = streams(key, "init", 2)
        x0, x1 = draw_ends(data, rows, cache, shape)
        zero, nets = jnp.zeros((), jnp.int32), start_pair(learn, initial, initial, ema)
        paths, x, goal, ess = solve(best, x0, x1, zero)
        pairs, gap = {"source": x0, "target": x1}, jnp.zeros(())
        return State(zero, zero, zero, nets, nets.both(), pairs, paths, x, goal, ess, gap)

    def sampled(state: State, i: Array, direction: Array, key: Array, size: int) -> tuple[Array, Array, Array]:
        """Times, states and goals from the Gaussian paths ``i``."""
        parts = streams(keys(key, size), "loss", 2)
        t = draw_times(parts[:, 0])

        def one(path: GaussianPath, t: Array, key: Array) -> tuple[Array, Array]:
            back = path.reversed()
            path = jax.tree.map(lambda a, b: jnp.where(direction == 1, b, a), path, back)
            x = spline(path.mean, t) + deviation(path, sigma, t) * normal_like(key, path.mean[0])
            return x, points_to(path, t, x)

        return t, *jax.vmap(one)(jax.tree.map(lambda leaf: leaf[i], state.paths), t, parts[:, 1])

    def step(state: State, key: Array, batch: Batch) -> tuple[State, dict[str, Array]]:
        size = check_ends(batch, shape)[0].shape[0]
        draw, key = streams(key, "step", 2)
        shift = jax.random.randint(draw, (2,), 0, 2**20)
        i = (shift[0] + jnp.arange(size)) % cache
        d = state.round % 2 if resample else jnp.where(state.round == 0, state.step, state.round + 1) % 2
        if resample:
            k = (shift[1] + jnp.arange(size) + jnp.arange(size) // cache) % (grid.shape[0] - 1)
            clock = jnp.where(d == 1, 1.0 - grid[::-1], grid)
            t, x, goal = clock[k], state.x[i, k], state.goal[i, k]
        else:
            t, x, goal = sampled(state, i, d, key, size)

        def loss(params: Params) -> Array:
            def one(t: Array, x: Array, y: Array) -> Array:
                left = predictions.solve(t, x, bridge, {"x1": y}, "residual")
                return squared_error(apply(params, t, x, None), left)

            return jnp.mean(jax.vmap(one)(t, x, goal))

        nets, metrics = update_pair(learn, state.nets, d, loss, ema)
        metrics |= {"ess": state.ess, "round": state.round, "refused": state.refused, "gap": state.gap}
        return state._replace(step=state.step + 1, nets=nets), metrics

    def refresh(state: State, key: Array, data: Data) -> State:
        rows, run, best = streams(key, "refresh", 3)
        x0, x1 = draw_ends(data, rows, cache, shape)
        # the coming round is odd and trains forward, from pairs simulated backward; resampling, round 0 trained forward
        backward = (int(state.round) % 2 == 0) != bool(resample)
        begin, truth = (x1, x0) if backward else (x0, x1)
        end = simulate_batch(sde(state, int(backward)), keys(run, cache), begin, grid, solver=solver)
        pairs = {"source": end, "target": begin} if backward else {"source": begin, "target": end}

        def new() -> State:
            coming = jnp.asarray(0 if backward else 1, jnp.int32)
            paths, x, goal, ess = solve(best, pairs["source"], pairs["target"], coming)
            return state._replace(round=state.round + 1, pairs=pairs, paths=paths, x=x, goal=goal, ess=ess)

        return accept_round((end, truth, begin), max_marginal_error, new, state, learn, ema)

    def process(state: State) -> Process:
        return Process(start, sde(state, 0), grid, sde(state, 1))

    return Method(init, step, process, refresh, params=params_of)
