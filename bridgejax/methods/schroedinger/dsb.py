"""Diffusion Schroedinger bridges by iterative proportional fitting: DSB and its simplified form.

Reference: Brownian motion with sigma^2 = epsilon per unit time on a grid 0 = t_0 < ... < t_N = 1. Half-steps exchange
one marginal: the next process is the time reversal of the last, started at the other end's data. Each direction has a
drift b(s, x) on its own clock s and takes Euler steps x + h b + sigma sqrt(h) xi. With y_0, ..., y_N a path of the
*other* direction read backwards, h = s_(k+1) - s_k, its drift is the regression, at (s_k, y_k), on

    mean (dsb)           (y_(k+1) - y_k) / h + f(y_(k+1)) - f(y_k)       f the other drift at its time 1 - s_(k+1)
    mean (simplified)    (y_(k+1) - y_k) / h                             the same up to O(h), one evaluation less
    flow                 (y_N - y_k) / (1 - s_k)
    terminal             y_N,  and b = (net - y_k) / (1 - s_k)
    residual             (y_N - y_k) / sqrt(1 - s_k),  and b = net / sqrt(1 - s_k): what ``bridge_matching`` predicts

with weight h for the mean, whose goals have variance sigma^2 / h, and 1 for the others.

(De Bortoli, Thornton, Heng & Doucet 2021, arXiv 2106.01357; Tang et al. 2024, arXiv 2403.14623, who print flow and
terminal with the variance of the posterior, sigma^2 h (1 - s - h) / (1 - s), and run sigma^2 h. The first neglects
that the end is uncertain, which costs O(h log 1/h) of the marginals' variance.)

    round 0     reference paths from the target        trains the network source -> target: a diffusion model
    round 1     forward paths from the source          trains target -> source;  and so on

Between two N(., 1) with sigma = 1 the covariance of the ends is 1/2, 2/3, 3/5, 5/8, ... -> 0.618: Fibonacci's numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import Partial

from bridgejax._numerics import linear_combination, normal_like, safe_divide, safe_sqrt
from bridgejax._summary import summary
from bridgejax._types import (
    Args,
    Batch,
    Data,
    Field,
    InitFn,
    Network,
    Numbers,
    Params,
    RefreshFn,
    Scalar,
    Shape,
    StartLaw,
)
from bridgejax.methods._alternating import (
    Pair,
    Regression,
    accept_round,
    cache_size,
    check_average,
    check_rounds,
    marginal_error,
    params_of,
    regression,
    start_pair,
    update_pair,
)
from bridgejax.methods._arguments import BRIDGE, ROUNDS, NetworkLike, arguments, documented
from bridgejax.methods._ends import check_ends, draw_ends, finished, start_law, whole_grid
from bridgejax.methods._setup import Setup, Trained
from bridgejax.methods._spec import noise
from bridgejax.methods.schroedinger import Bridge, BridgeMatching, FlowMatching, SimplifiedDSB
from bridgejax.networks import or_mlp
from bridgejax.objectives._matching import squared_error
from bridgejax.processes import SDE, Kernel, Process, keys
from bridgejax.processes._keys import stream, streams
from bridgejax.processes.noise import constant
from bridgejax.solve import grids
from bridgejax.training import Method

PARAMETERISATIONS = ("residual", "terminal", "flow", "mean")
VARIANCES = ("step", "posterior")
_PREDICTED = {"residual": "residual", "terminal": "x1", "flow": "drift"}  # the same, as bridge_matching calls it


class State(NamedTuple):
    """State of both methods.

    Attributes:
        step: updates made.
        round: half-steps begun before this one.
        rejected: refreshes in a row whose simulated ends missed the data, so that the last good half-step went on.
        nets: both networks, source -> target and target -> source.
        accepted: parameters of both at the last good refresh.
        x: (cache, N, *shape), where the network that is trained looks.
        goal: (cache, N, *shape), what it should say there.
        pairs: ``source`` and ``target`` (cache, *shape), the ends of the cached paths.
        marginal_error: how far the simulated end is from the data, see ``_alternating.marginal_error``.
    """

    step: Array
    round: Array
    rejected: Array
    nets: Pair
    accepted: Params
    x: Array
    goal: Array
    pairs: dict[str, Array]
    marginal_error: Array

    __repr__ = summary


# one direction ------------------------------------------------------------------------------------------------------


def _drift_of_end(network: Field, s: Array, x: Array, args: Args) -> Array:
    return linear_combination((safe_divide(1.0, 1.0 - s), network(s, x, args)), (-safe_divide(1.0, 1.0 - s), x))


def _drift_of_residual(network: Field, s: Array, x: Array, args: Args) -> Array:
    return linear_combination((safe_divide(1.0, safe_sqrt(1.0 - s)), network(s, x, args)))


def _no_drift(network: Field, s: Array, x: Array, args: Args) -> Array:
    return jnp.zeros_like(x)


def _terminal_sample(drift: Field, key: Array, s: Array, v: Array, x: Array, args: Args) -> Array:
    return linear_combination((1.0, x), (v - s, drift(s, x, args)))


def _walk(
    drift: Field, sigma: Scalar, key: Array, x: Array, ts: Array, *, posterior: bool, twice: bool
) -> tuple[Array, Array]:
    """States (N + 1, *shape), and f(t_k, x_k) - f(t_k, x_(k+1)) where asked (``twice``), else zeros."""

    def step(x: Array, k: Array) -> tuple[Array, tuple[Array, Array]]:
        t, h = ts[k], ts[k + 1] - ts[k]
        share = safe_divide(1.0 - ts[k + 1], 1.0 - t) if posterior else 1.0
        f = drift(t, x, None)
        y = linear_combination(
            (1.0, x), (h, f), (sigma * safe_sqrt(h * share), normal_like(jax.random.fold_in(key, k), x))
        )
        return y, (y, f - drift(t, y, None) if twice else jnp.zeros_like(x))

    _, (ys, gaps) = jax.lax.scan(step, x, jnp.arange(ts.shape[0] - 1))
    return jnp.concatenate([x[None], ys]), gaps


@dataclass(frozen=True)
class _Chain:
    """What a direction regresses on, along which chains, and how it is fitted."""

    kind: str
    posterior: bool
    twice: bool
    sigma: float
    shape: Shape
    cache: int
    grid: Array
    apply: Network
    learn: Regression
    ema: float | None

    @property
    def clock(self) -> Array:
        """The trained direction's clock along a path of the other."""
        return 1.0 - self.grid[::-1]

    @property
    def steps(self) -> int:
        """Of a path."""
        return self.grid.shape[0] - 1

    def drift(self, state: State, direction: int) -> Field:
        """That of a direction as learnt."""
        net = Partial(self.apply, state.nets.of(direction))
        read = {"terminal": _drift_of_end, "residual": _drift_of_residual}.get(self.kind)
        return net if read is None else Partial(read, net)


Look = Callable[[Field, Array, Array], tuple[Array, Array, Array]]


def _look(chain: _Chain, drift: Field, key: Array, begin: Array) -> tuple[Array, Array, Array]:
    """Regression pairs of paths from ``begin``: network inputs (times, x_k), regression targets, terminal states."""
    own, kind = chain.clock, chain.kind
    walk = partial(_walk, drift, chain.sigma, posterior=chain.posterior, twice=chain.twice)
    xs, gaps = jax.vmap(lambda k, x: walk(k, x, chain.grid))(keys(key, chain.cache), begin)
    ys, end = xs[:, ::-1], xs[:, -1]
    s = own[:-1].reshape(-1, *(1,) * len(chain.shape))
    if kind == "terminal":
        goal = jnp.broadcast_to(ys[:, -1:], ys[:, :-1].shape)
    elif kind == "flow":
        goal = (ys[:, -1:] - ys[:, :-1]) / (1.0 - s)
    elif kind == "residual":
        goal = (ys[:, -1:] - ys[:, :-1]) / jnp.sqrt(1.0 - s)
    else:
        goal = jnp.diff(ys, axis=1) / jnp.diff(own).reshape(s.shape) + gaps[:, ::-1]
    return ys[:, :-1], goal, end


# rounds ---------------------------------------------------------------------------------------------------------------


def _init(chain: _Chain, look: Look, first: tuple[Params, Params], key: Array, data: Data) -> State:
    """Round 0: paths of the reference from the target."""
    rows, run = streams(key, "init", 3)[:2]
    x0, x1 = draw_ends(data, rows, chain.cache, chain.shape)
    x, goal, end = look(Partial(_no_drift, None), run, x1)
    zero, pairs = jnp.zeros((), jnp.int32), {"source": end, "target": x1}
    nets = start_pair(chain.learn, *first, chain.ema)
    return State(zero, zero, zero, nets, nets.both(), x, goal, pairs, marginal_error(end, x0, x1))


def _init_after(init: InitFn, refresh: RefreshFn, key: Array, data: Data) -> State:
    """Round 1: the network source -> target is trained already."""
    return refresh(init(key, data), streams(key, "init", 3)[2], data)


def _loss(chain: _Chain, k: Array, x: Array, goal: Array, params: Params) -> Array:
    # goals of one step have variance sigma^2 / h: so weighted, errors add up as the divergence of paths does
    own = chain.clock
    weight = jnp.diff(own) * chain.steps if chain.kind == "mean" else jnp.ones(chain.steps)
    errors = jax.vmap(lambda s, x, g: squared_error(chain.apply(params, s, x, None), g))(own[k], x, goal)
    return jnp.mean(weight[k] * errors)


def _step(chain: _Chain, state: State, key: Array, batch: Batch) -> tuple[State, dict[str, Array]]:
    count, cache, steps = jnp.arange(check_ends(batch, chain.shape)[0].shape[0]), chain.cache, chain.steps
    shift = jax.random.randint(stream(key, "step"), (2,), 0, cache * steps)
    i, k = (shift[0] + count) % cache, (shift[1] + count + count // cache) % steps  # distinct, even in k
    loss = partial(_loss, chain, k, state.x[i, k], state.goal[i, k])
    nets, metrics = update_pair(chain.learn, state.nets, state.round % 2, loss, chain.ema)
    metrics |= {"round": state.round, "rejected": state.rejected, "marginal_error": state.marginal_error}
    return state._replace(step=state.step + 1, nets=nets), metrics


def _refresh(chain: _Chain, look: Look, max_marginal_error: float, state: State, key: Array, data: Data) -> State:
    rows, run = streams(key, "refresh", 2)
    x0, x1 = draw_ends(data, rows, chain.cache, chain.shape)
    d = int(state.round) % 2  # the direction just trained runs now
    begin, truth = (x0, x1) if d == 0 else (x1, x0)
    x, goal, end = look(chain.drift(state, d), run, begin)
    pairs = {"source": begin, "target": end} if d == 0 else {"source": end, "target": begin}
    new = state._replace(round=state.round + 1, x=x, goal=goal, pairs=pairs)
    return accept_round((end, truth, begin), max_marginal_error, lambda: new, state, chain.learn, chain.ema)


def _process(chain: _Chain, start: StartLaw, state: State) -> Process:
    sdes = [
        SDE(b, Partial(constant, chain.sigma), terminal_kernel=Kernel(Partial(_terminal_sample, b)))
        for b in (chain.drift(state, d) for d in (0, 1))
    ]
    return Process(start, sdes[0], chain.grid, sdes[1])


class _Options(NamedTuple):
    """What both methods take."""

    network: NetworkLike | None
    shape: Shape
    sigma: float
    source: Numbers | None
    cache: int
    max_marginal_error: float
    optimizer: optax.GradientTransformation | Literal["exact"] | None
    ema: float | None
    ts: Numbers | None


def _method(options: _Options, kind: str, *, posterior: bool, twice: bool, initial: Params | None = None) -> Method:
    check_rounds(options.sigma, options.cache, options.max_marginal_error)
    ema = check_average(options.optimizer, options.ema)
    apply, fresh = or_mlp(options.network, options.shape)
    learn = regression(options.optimizer)
    grid = whole_grid(options.ts, grids.two_sided(20), symmetric=True)
    shape, start = start_law(options.source, options.shape)
    first = fresh if initial is None else _initial(initial, fresh, kind)
    chain = _Chain(kind, posterior, twice, options.sigma, shape, options.cache, grid, apply, learn, ema)
    look = jax.jit(partial(_look, chain))
    init = partial(_init, chain, look, (first, fresh))
    refresh = partial(_refresh, chain, look, options.max_marginal_error)
    init = init if initial is None else partial(_init_after, init, refresh)
    return Method(init, partial(_step, chain), partial(_process, chain, start), refresh, params=params_of)


def _initial(initial: Params, fresh: Params, kind: str) -> Params:
    """The parameters to start from, if they fit the network."""
    if isinstance(initial, Process):
        raise ValueError(
            f"initial must be the parameters of a bridge_matching network with predict={_PREDICTED[kind]!r}, "
            f"method.params(state) or load(directory).params, to start a network with reparameterise={kind!r}; got a "
            "Process"
        )
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (initial, fresh)]
    if jax.tree.structure(initial) != jax.tree.structure(fresh) or shapes[0] != shapes[1]:
        raise ValueError("initial has parameters of another architecture than network; make network as that run did")
    return jax.tree.map(jnp.asarray, initial)


# the two ------------------------------------------------------------------------------------------------------------


@documented(BRIDGE, ROUNDS)
def dsb(
    network: NetworkLike | None = None,
    *,
    shape: tuple[int, ...],
    sigma: float = 1.0,
    source: Numbers | None = None,
    cache: int = 4096,
    max_marginal_error: float = 5.0,
    optimizer: optax.GradientTransformation | Literal["exact"] | None = None,
    ema: float | None = 0.999,
    ts: Numbers | None = None,
) -> Method:
    """Iterative proportional fitting by mean matching, as a Method with rounds.

    Args:
        network: a flax.nnx module or ``(apply, params)`` (None: ``networks.or_mlp``), the drift on its direction's
            own clock; both directions start from its parameters.
        sigma: noise per square root of unit time; epsilon = sigma^2 is the entropic regularisation for the cost
            |x - y|^2 / 2, in squared units of the data. (Codes with step noise sqrt(2 gamma): sigma^2 = 2 sum gamma.)
        cache: paths simulated in a round; cache * (steps of ts) states are kept twice.
        ts: grid of the chain, from 0 to 1 and symmetric; default ``grids.two_sided(20)``. A chain is Gaussian given its
            last state but one, so the last step, sigma sqrt(h), must be small beside the structure of the data.

    Returns:
        A Method whose data are dictionaries ``source``, ``target`` (``data.Pairs``); pass ``refresh_every`` to ``fit``.
        The rows of a batch only say how many cached states an update takes. Metrics: "loss", "grad_norm", "round",
        "rejected", "marginal_error". A round evaluates the network twice a step and path.

    Raises:
        ValueError: sigma not positive, sizes or decay out of range, a grid that is not whole or symmetric;
            at trace time rows of another shape.
        Diverged: by ``fit``, when rounds end far from the data and come no closer; its ``state`` has the networks of
            the last good one.
    """
    options = _Options(network, shape, sigma, source, cache, max_marginal_error, optimizer, ema, ts)
    return _method(options, "mean", posterior=False, twice=True)


@documented(arguments(dsb.__doc__ or ""))
def simplified_dsb(
    network: NetworkLike | None = None,
    *,
    shape: tuple[int, ...],
    reparameterise: str = "residual",
    variance: str = "step",
    initial: Params | None = None,
    sigma: float = 1.0,
    source: Numbers | None = None,
    cache: int = 4096,
    max_marginal_error: float = 5.0,
    optimizer: optax.GradientTransformation | Literal["exact"] | None = None,
    ema: float | None = 0.999,
    ts: Numbers | None = None,
) -> Method:
    """Simplified DSB: the same half-steps with half the evaluations, and targets of a diffusion or flow model.

    Args:
        network: a flax.nnx module or ``(apply, params)`` (None: ``networks.or_mlp``), on its direction's own clock;
            ``reparameterise`` says what it predicts. Both directions start from its parameters.
        reparameterise: "residual" (end less state, over sqrt(1 - s)), "terminal" (the end), "flow" (the mean
            velocity to it) or "mean" (the drift).
        variance: of a cached step given the predicted end, "step" (sigma^2 h) or "posterior".
        initial: parameters that the network source -> target starts from, in place of round 0: those of
            ``bridge_matching`` (``method.params(state)`` or ``bridgejax.load(directory).params``) with
            predict="residual" for "residual", "x1" for "terminal", "drift" for "flow"; of the same architecture. Its
            noise and coupling may be
            others: goals that point to a path's end bring the plan back to sigma's, in a few half-steps. "mean" takes
            none: it only reverses, and would end at the bridge of the initial process in place of the reference.

    Returns:
        A Method whose data are dictionaries ``source``, ``target`` (``data.Pairs``); pass ``refresh_every`` to ``fit``.
        The rows of a batch only say how many cached states an update takes. Metrics: "loss", "grad_norm", "round",
        "rejected", "marginal_error". A round evaluates the network once a step and path.

    Raises:
        ValueError: an unknown option, an ``initial`` that does not fit, sigma not positive, sizes or decay out of
            range, a grid that is not whole or symmetric; at trace time rows of another shape.
        Diverged: by ``fit``, when rounds end far from the data and come no closer; its ``state`` has the networks of
            the last good one.
    """
    for name, value, known in (
        ("reparameterise", reparameterise, PARAMETERISATIONS),
        ("variance", variance, VARIANCES),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {known}, got {value!r}")
    if initial is not None and reparameterise == "mean":
        raise ValueError(
            "initial goes with reparameterise 'residual', 'terminal' or 'flow': mean matching only reverses paths, and "
            "would keep the plan of the initial process in place of the bridge's"
        )
    options = _Options(network, shape, sigma, source, cache, max_marginal_error, optimizer, ema, ts)
    return _method(options, reparameterise, posterior=variance == "posterior", twice=False, initial=initial)


# by name --------------------------------------------------------------------------------------------------------------


def _proportional(options: Bridge, setup: Setup, name: str) -> dict[str, Any]:
    data, ts = setup.data, grids.two_sided(options.sample_steps or 20)
    return {
        "shape": data.shape,
        "sigma": noise(name, options),
        "source": data.source,
        "cache": cache_size(data.shape, 2 * (len(ts) - 1)),
        "optimizer": setup.optimizer(networks=2),
        "ema": setup.ema,
        "ts": ts,
    }


def build(options: Bridge, setup: Setup) -> Method:
    """``dsb`` by its options."""
    return finished(dsb(setup.network(), **_proportional(options, setup, "dsb")), setup.decode)


def _of_run(initial: Trained, kind: str) -> Params:
    """Parameters of the run to start from, if its network predicts what this one is to predict."""
    given, wanted = initial.options, _PREDICTED.get(kind)
    predicts = getattr(given, "predict", None)
    if isinstance(given, BridgeMatching) and predicts is None:
        predicts = "velocity" if noise("bridge_matching", given, zero=True) == 0 else "residual"
    if wanted is not None and not (isinstance(given, BridgeMatching | FlowMatching) and predicts == wanted):
        raise ValueError(
            f"initial must be a run of bridge_matching with predict={wanted!r}, to start one of simplified_dsb with "
            f"predict={kind!r}"
        )
    return initial.params


def build_simplified(options: SimplifiedDSB, setup: Setup) -> Method:
    """``simplified_dsb`` by its options."""
    arguments = _proportional(options, setup, "simplified_dsb")
    initial = None if setup.initial is None else _of_run(setup.initial, options.predict)
    method = simplified_dsb(setup.network(), reparameterise=options.predict, initial=initial, **arguments)
    return finished(method, setup.decode)
