"""Generalised Schroedinger bridge matching: transport between two data sets with a running cost of the state.

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

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import check_count, check_number, check_positive
from bridgejax._numerics import normal_like
from bridgejax._summary import summary
from bridgejax._types import Batch, Data, Network, Numbers, Params, PyTree, Shape, StartLaw
from bridgejax.bridges import interpolants, predictions
from bridgejax.bridges._transport import transport
from bridgejax.bridges.interpolants import Interpolant
from bridgejax.methods._alternating import (
    Pair,
    Regression,
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
        rejected: refreshes in a row whose simulated ends missed the data, so that the last good round went on.
        nets: both networks.
        accepted: parameters of both at the last good refresh.
        pairs: ``source`` and ``target`` (cache, *shape), the coupling of this round.
        paths: one for every pair.
        x: (cache, N, *shape), paths of the exact conditional law in the direction that is trained next; empty without
            ``resample``.
        goal: where they point.
        ess: effective share of the candidates, mean over pairs; 1 without ``resample``.
        marginal_error: how far the simulated end of the pairs is from the data, see ``_alternating.marginal_error``.
    """

    step: Array
    round: Array
    rejected: Array
    nets: Pair
    accepted: Params
    pairs: dict[str, Array]
    paths: GaussianPath
    x: Array
    goal: Array
    ess: Array
    marginal_error: Array

    __repr__ = summary


def _check_cost(cost: Cost, shape: tuple[int, ...], crowd: int) -> None:
    if not callable(cost):
        raise ValueError(f"cost must be a function V(t, x, others), got {type(cost).__name__}")
    others = jax.ShapeDtypeStruct((crowd, *shape), jnp.float32) if crowd else None
    x, t = jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct((), jnp.float32)
    found = jax.eval_shape(cost, t, x, others)
    if jnp.shape(found) != ():
        raise ValueError(f"cost must return one number for one state, got shape {jnp.shape(found)}; sum over it")


@dataclass(frozen=True)
class _Problem:
    """What is to be solved, and by what numbers."""

    cost: Cost
    sigma: float
    shape: Shape
    cache: int
    knots: tuple[int, int]
    path_steps: int
    path_rate: float
    resample: int
    crowd: int
    grid: Array
    draw_times: TimeSampler


class _Model(NamedTuple):
    """The networks, how they are fitted, and the bridge that their output belongs to."""

    apply: Network
    initial: Params
    learn: Regression
    ema: float | None
    bridge: Interpolant

    def sde(self, state: State, direction: int) -> SDE:
        """A direction as learnt."""
        return transport(self.bridge, Partial(self.apply, state.nets.of(direction)), "residual")


Solve = Callable[[Array, Array, Array, Array], tuple[GaussianPath, Array, Array, Array]]


# conditional: the paths between the ends ------------------------------------------------------------------------------


def _flip(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[::-1], tree)


def _backward_cost(cost: Cost, s: Array, x: Array, others: Array | None) -> Array:
    return cost(1.0 - s, x, others)


def _solve(
    problem: _Problem, key: Array, x0: Array, x1: Array, direction: Array
) -> tuple[GaussianPath, Array, Array, Array]:
    """Paths of a round and, resampled, states and goals of the direction that is trained in it."""
    best, draw, pick, who, where = jax.random.split(key, 5)
    paths = jax.vmap(lambda a, b: straight(a, b, *problem.knots))(x0, x1)
    paths = optimise(
        problem.cost, paths, problem.sigma, best,
        steps=problem.path_steps, rate=problem.path_rate, crowd=problem.crowd,
    )  # fmt: skip
    if not problem.resample:
        return paths, jnp.zeros((0,)), jnp.zeros((0,)), jnp.ones(())
    others = _crowd(problem, paths, who, where) if problem.crowd else None
    one = partial(_resampled, problem, direction, others)
    x, goal, ess = jax.vmap(one)(paths, keys(draw, problem.cache), keys(pick, problem.cache))
    return paths, x, goal, ess.mean()


def _crowd(problem: _Problem, paths: GaussianPath, who: Array, where: Array) -> Array:
    """Where others are at the times of the grid, (N + 1, crowd, *shape)."""
    chosen = jax.tree.map(lambda leaf: leaf[jax.random.randint(who, (problem.crowd,), 0, problem.cache)], paths)
    z = jax.random.normal(where, (problem.grid.shape[0], problem.crowd, *problem.shape))
    place = jax.vmap(lambda p, t, z: spline(p.mean, t) + deviation(p, problem.sigma, t) * z, (0, None, 0))
    return jax.vmap(place, (None, 0, 0))(chosen, problem.grid, z)


def _resampled(
    problem: _Problem, direction: Array, others: Array | None, path: GaussianPath, draw: Array, pick: Array
) -> tuple[Array, Array, Array]:
    """A path of the exact conditional law in the order of a direction, its goals, and the candidates' ESS."""
    cost, grid, resample = problem.cost, problem.grid, problem.resample
    xs, weights = candidates(cost, path, problem.sigma, draw, grid, resample, others)
    kept = xs[jax.random.categorical(pick, jnp.log(weights))]
    back = goals(partial(_backward_cost, cost), _flip(kept), 1.0 - grid[::-1], _flip(others))
    ahead, turned = goals(cost, kept, grid, others), direction == 1
    chosen = jnp.where(turned, _flip(kept), kept)[:-1], jnp.where(turned, back, ahead)
    return *chosen, 1.0 / (resample * jnp.sum(weights**2))


# Markov: the regression -----------------------------------------------------------------------------------------------


def _init(problem: _Problem, model: _Model, solve: Solve, key: Array, data: Data) -> State:
    rows, best = streams(key, "init", 2)
    x0, x1 = draw_ends(data, rows, problem.cache, problem.shape)
    zero, nets = jnp.zeros((), jnp.int32), start_pair(model.learn, model.initial, model.initial, model.ema)
    paths, x, goal, ess = solve(best, x0, x1, zero)
    pairs, error = {"source": x0, "target": x1}, jnp.zeros(())
    return State(zero, zero, zero, nets, nets.both(), pairs, paths, x, goal, ess, error)


def _sampled(
    problem: _Problem, state: State, i: Array, direction: Array, key: Array, size: int
) -> tuple[Array, Array, Array]:
    """Times, states and goals from the Gaussian paths ``i``."""
    parts = streams(keys(key, size), "loss", 2)
    t = problem.draw_times(parts[:, 0])

    def one(path: GaussianPath, t: Array, key: Array) -> tuple[Array, Array]:
        back = path.reversed()
        path = jax.tree.map(lambda a, b: jnp.where(direction == 1, b, a), path, back)
        x = spline(path.mean, t) + deviation(path, problem.sigma, t) * normal_like(key, path.mean[0])
        return x, points_to(path, t, x)

    return t, *jax.vmap(one)(jax.tree.map(lambda leaf: leaf[i], state.paths), t, parts[:, 1])


def _cached(problem: _Problem, state: State, i: Array, direction: Array, shift: Array) -> tuple[Array, Array, Array]:
    """Times, states and goals from the resampled paths ``i``, at times that begin at ``shift``."""
    grid, count = problem.grid, jnp.arange(i.shape[0])
    k = (shift + count + count // problem.cache) % (grid.shape[0] - 1)
    clock = jnp.where(direction == 1, 1.0 - grid[::-1], grid)
    return clock[k], state.x[i, k], state.goal[i, k]


def _loss(model: _Model, t: Array, x: Array, goal: Array, params: Params) -> Array:
    def one(t: Array, x: Array, y: Array) -> Array:
        left = predictions.solve(t, x, model.bridge, {"x1": y}, "residual")
        return squared_error(model.apply(params, t, x, None), left)

    return jnp.mean(jax.vmap(one)(t, x, goal))


def _step(problem: _Problem, model: _Model, state: State, key: Array, batch: Batch) -> tuple[State, dict[str, Array]]:
    size = check_ends(batch, problem.shape)[0].shape[0]
    draw, key = streams(key, "step", 2)
    shift = jax.random.randint(draw, (2,), 0, 2**20)
    i = (shift[0] + jnp.arange(size)) % problem.cache
    if problem.resample:
        d = state.round % 2
        t, x, goal = _cached(problem, state, i, d, shift[1])
    else:
        d = jnp.where(state.round == 0, state.step, state.round + 1) % 2
        t, x, goal = _sampled(problem, state, i, d, key, size)
    nets, metrics = update_pair(model.learn, state.nets, d, partial(_loss, model, t, x, goal), model.ema)
    metrics |= {
        "ess": state.ess,
        "round": state.round,
        "rejected": state.rejected,
        "marginal_error": state.marginal_error,
    }
    return state._replace(step=state.step + 1, nets=nets), metrics


# ends: a round --------------------------------------------------------------------------------------------------------


def _refresh(
    problem: _Problem, model: _Model, solve: Solve, max_marginal_error: float, solver: diffrax.AbstractSolver | None,
    state: State, key: Array, data: Data,
) -> State:  # fmt: skip
    rows, run, best = streams(key, "refresh", 3)
    x0, x1 = draw_ends(data, rows, problem.cache, problem.shape)
    # the coming round is odd and trains forward, from pairs simulated backward; resampling, round 0 trained forward
    backward = (int(state.round) % 2 == 0) != bool(problem.resample)
    begin, truth = (x1, x0) if backward else (x0, x1)
    end = simulate_batch(
        model.sde(state, int(backward)), keys(run, problem.cache), begin, problem.grid, solver=solver
    )  # fmt: skip
    pairs = {"source": end, "target": begin} if backward else {"source": begin, "target": end}

    def new() -> State:
        coming = jnp.asarray(0 if backward else 1, jnp.int32)
        paths, x, goal, ess = solve(best, pairs["source"], pairs["target"], coming)
        return state._replace(round=state.round + 1, pairs=pairs, paths=paths, x=x, goal=goal, ess=ess)

    return accept_round((end, truth, begin), max_marginal_error, new, state, model.learn, model.ema)


def _process(problem: _Problem, model: _Model, start: StartLaw, state: State) -> Process:
    return Process(start, model.sde(state, 0), problem.grid, model.sde(state, 1))


# the method -----------------------------------------------------------------------------------------------------------


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
        "grad_norm", "round", "rejected", "marginal_error", "ess".

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
    check_number(path_rate=path_rate, max_marginal_error=max_marginal_error)
    check_positive(path_rate=path_rate, max_marginal_error=max_marginal_error)
    shape, start = start_law(source, shape)
    _check_cost(cost, shape, crowd)
    ema = check_average(optimizer, ema)
    apply, initial = or_mlp(network, shape)
    problem = _Problem(
        cost=cost,
        sigma=sigma,
        shape=shape,
        cache=cache,
        knots=(knots, width_knots),
        path_steps=path_steps,
        path_rate=path_rate,
        resample=resample,
        crowd=crowd,
        grid=whole_grid(ts, grids.uniform(100), symmetric=bool(resample)),
        draw_times=times.uniform(1e-3, 1.0 - 1e-3) if time_sampler is None else time_sampler,
    )
    model = _Model(apply, initial, regression(optimizer), ema, interpolants.brownian(sigma))
    solve = jax.jit(partial(_solve, problem))
    return Method(
        partial(_init, problem, model, solve),
        partial(_step, problem, model),
        partial(_process, problem, model, start),
        partial(_refresh, problem, model, solve, max_marginal_error, solver),
        params=params_of,
    )
