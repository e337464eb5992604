"""Variational Schroedinger diffusion: a linear forward score, and simulation-free training of the backward one.

A Schroedinger bridge from data (0) to N(0, I) at T bends a Schedule dx = f x dt + g dW by the gradient of a potential.
Restrict that gradient to u(t, x) = A(t) x + b(t), and the forward process stays Gaussian given its start:

    train        s = grad log p_t from draws x_t = Phi x_0 + m + L eps, S = L L^T: net -> eps, s = -L^-T net; no path
                 is simulated
    refresh      simulate the backward process from N(0, I) and move (A, b) by eta_k = gain / k^decay of the way to the
                 minimiser of J over its paths: a Robbins-Monro recursion; J and the laws in ``_affine_forward``

(Deng et al. 2024, arXiv 2405.04795.) For Gaussian data the fixed point is the bridge itself; for others the best affine
approximation of it that one forward process can have. gain = 0 is diffusion on the schedule, score matching and all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import check_count, check_nonnegative, check_number, check_positive
from bridgejax._numerics import normal_like
from bridgejax._summary import summary
from bridgejax._types import Args, Batch, Data, Field, Network, Numbers, Params, PyTree, Shape, StartLaw
from bridgejax.methods._alternating import Regression, cache_size, check_average, marginal_error, regression, within
from bridgejax.methods._arguments import ROUNDS, NetworkLike, documented
from bridgejax.methods._ends import finished, gather
from bridgejax.methods._setup import Setup
from bridgejax.methods.generative import VSDM
from bridgejax.methods.generative._affine_forward import (
    Forward,
    backward_sde,
    forward_sde,
    law,
    make_forward,
    minus_score,
    noise,
    score_of_eps,
    variational_update,
)
from bridgejax.methods.generative.diffusion import encoding
from bridgejax.networks import or_mlp
from bridgejax.objectives import times
from bridgejax.objectives._matching import squared_error, unpack
from bridgejax.objectives.times import TimeSampler
from bridgejax.processes import Process, Schedule, keys, schedules, starts
from bridgejax.processes._keys import streams
from bridgejax.processes._schedule import check_schedule
from bridgejax.processes.linear import Gaussian
from bridgejax.solve import grids, simulate_path
from bridgejax.training import Method
from bridgejax.training import ema as averaging
from bridgejax.training.method import averaged, global_norm

PREDICTIONS = ("eps", "score")
SAMPLERS = ("sde", "ode")
_LEVELS = 512  # noise levels that a round trains on


class State(NamedTuple):
    """State of ``vsdm``.

    Attributes:
        step: updates made.
        round: refreshes made.
        rejected: rounds whose update of A and b was not made, because their paths missed the data.
        params: of the network.
        opt_state: of the optimizer.
        ema: moving average of params in float32, or None.
        forward: the variational forward process.
        levels: times that this round trains on, (levels,).
        law: of x at these times given x_0.
        marginal_error: how far the last simulation ended from the data, see ``_alternating.marginal_error``.
        prior_error: how far the forward process ends from N(0, I): sqrt((|m|^2 + |S^(1/2) - I|^2) / d).
    """

    step: Array
    round: Array
    rejected: Array
    params: Params
    opt_state: PyTree
    ema: Params
    forward: Forward
    levels: Array
    law: Gaussian
    marginal_error: Array
    prior_error: Array

    __repr__ = summary


def _params(state: State) -> dict[str, Params]:
    return {"network": averaged(state), "forward": state.forward}


def _draw(data: Data, key: Array, num: int, shape: tuple[int, ...]) -> tuple[Array, Args]:
    """``num`` rows of the data and their conditions."""
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    rows = gather(data, random, num, lambda batch: _rows(batch, shape))
    rows = jax.tree.map(np.asarray, _rows(data, shape)) if rows is None else rows
    pick = random.integers(len(rows[0]), size=num)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[pick]), rows)


def _axis(args: Args) -> int | None:
    return None if args is None else 0


def _rows(batch: Batch, shape: tuple[int, ...]) -> tuple[Array, Args]:
    x, x1, args = unpack(batch)
    if x1 is not None:
        raise ValueError("vsdm learns data from N(0, I): give x (data alone), not source and target")
    if jnp.shape(x)[1:] != shape:
        raise ValueError(f"data has rows of shape {jnp.shape(x)[1:]}, and this method was made for {shape}")
    return x, args


@dataclass(frozen=True)
class _Model:
    """The network, how it is fitted, and the process that it belongs to."""

    apply: Network
    initial: Params
    learn: Regression
    ema: float | None
    predict: str
    schedule: Schedule
    shape: Shape
    knots: int
    cache: int
    draw_times: TimeSampler
    start: StartLaw
    grid: Array

    def score(self, params: Params, forward: Forward) -> Field:
        """grad log p_t, on the noising clock."""
        net = Partial(self.apply, params)
        return net if self.predict == "score" else Partial(score_of_eps, self.schedule, forward, net)


# training on fixed A and b --------------------------------------------------------------------------------------------


def _renew(model: _Model, key: Array, slope: Array, shift: Array, x: Array) -> dict[str, PyTree]:
    """The parts of the state that follow from A and b: laws, the levels of a round, the end for data ``x``."""
    forward, levels = make_forward(model.schedule, slope, shift), model.draw_times(keys(key, _LEVELS))
    phi, shift, cov = jax.tree.map(lambda leaf: leaf[-1], forward.law)
    centre, (d,) = x.mean(axis=0), model.shape
    spread = phi @ ((x - centre).T @ (x - centre) / x.shape[0]) @ phi.T + cov
    squares = jnp.sum((phi @ centre + shift) ** 2) + jnp.sum((jnp.sqrt(jnp.linalg.eigvalsh(spread)) - 1.0) ** 2)
    at_levels = jax.vmap(lambda t: law(model.schedule, forward, t))(levels)
    return {"forward": forward, "levels": levels, "law": at_levels, "prior_error": jnp.sqrt(squares / d)}


def _init(model: _Model, renew: Callable[..., dict[str, PyTree]], key: Array, data: Data) -> State:
    rows, drawn = streams(key, "init", 2)
    params = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), model.initial)
    zero, average = jnp.zeros((), jnp.int32), None if model.ema is None else averaging.start(params)
    (d,), knots, x = model.shape, model.knots, _draw(data, rows, model.cache, model.shape)[0]
    new = renew(drawn, jnp.zeros((knots, d, d)), jnp.zeros((knots, d)), x)
    return State(zero, zero, zero, params, model.learn.init(params), average, marginal_error=jnp.zeros(()), **new)


def _error(model: _Model, params: Params, t: Array, at: Gaussian, key: Array, x0: Array, args: Args) -> Array:
    """The loss of one sample at one level."""
    eps = normal_like(key, x0)
    said = model.apply(params, t, at.phi @ x0 + at.shift + noise(at.cov, eps), args)
    if model.predict == "eps":
        return squared_error(said, eps)
    return jnp.trace(at.cov) / x0.size * squared_error(said, -minus_score(at.cov, eps))


def _step(model: _Model, state: State, key: Array, batch: Batch) -> tuple[State, dict[str, Array]]:
    x0, args = _rows(batch, model.shape)
    pick, draw = streams(key, "step", 2)
    i = (jax.random.randint(pick, (), 0, _LEVELS) + jnp.arange(x0.shape[0])) % _LEVELS
    at = state.levels[i], jax.tree.map(lambda leaf: leaf[i], state.law)
    errors = jax.vmap(partial(_error, model), (None, 0, 0, 0, 0, _axis(args)))

    def loss(params: Params) -> Array:
        return jnp.mean(errors(params, *at, keys(draw, x0.shape[0]), x0, args))

    params, opt_state, value, gradient = model.learn.update(loss, state.params, state.opt_state)
    average = None if model.ema is None else averaging.update(state.ema, params, model.ema, state.step)
    norm = global_norm(gradient)
    metrics = {"loss": value, "grad_norm": norm, "round": state.round, "rejected": state.rejected}
    metrics |= {"marginal_error": state.marginal_error, "prior_error": state.prior_error}
    return state._replace(step=state.step + 1, params=params, opt_state=opt_state, ema=average), metrics


# a round: A and b move ------------------------------------------------------------------------------------------------


def _look(
    model: _Model, rates: tuple[float, float], max_marginal_error: float, solver: diffrax.AbstractSolver | None,
    state: State, key: Array, x: Array, args: Args,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """Paths from the prior: A and b moved by them, how far they end from the data ``x``, whether to accept."""
    (begin, run), (gain, decay) = jax.random.split(key), rates
    pull = model.score(averaged(state), state.forward)
    sde = backward_sde(model.schedule, state.forward, pull)
    walk = jax.vmap(lambda k, z, a: simulate_path(sde, k, z, model.grid, a, solver=solver).xs, (0, 0, _axis(args)))
    xs = walk(keys(run, model.cache), jax.vmap(lambda k: model.start(k, None))(keys(begin, model.cache)), args)
    error, eta = marginal_error(xs[:, -1], x, xs[:, 0]), gain / (state.round + 1.0) ** decay
    clock = model.schedule.T - model.grid
    moved = variational_update(model.schedule, state.forward, pull, clock, xs[:, :-1], args, eta)
    good = within(error, max_marginal_error) & jnp.all(jnp.isfinite(moved[0])) & jnp.all(jnp.isfinite(moved[1]))
    slope, shift = (jnp.where(good, a, b) for a, b in zip(moved, state.forward[:2], strict=True))
    return slope, shift, error, good


def _refresh(
    model: _Model, renew: Callable[..., dict[str, PyTree]], look: Callable[..., tuple[Array, Array, Array, Array]],
    state: State, key: Array, data: Data,
) -> State:  # fmt: skip
    rows, run, drawn = streams(key, "refresh", 3)
    x, args = _draw(data, rows, model.cache, model.shape)
    slope, shift, error, good = look(state, run, x, args)
    counts = {"round": state.round + 1, "rejected": state.rejected + ~good}
    return state._replace(marginal_error=error, **counts, **renew(drawn, slope, shift, x))


def _process(model: _Model, sampler: str, state: State) -> Process:
    sde = backward_sde(model.schedule, state.forward, model.score(averaged(state), state.forward), sampler)
    backward = forward_sde(model.schedule, state.forward) if sampler == "sde" else encoding(sde)
    return Process(model.start, sde, model.grid, backward)


# the method -----------------------------------------------------------------------------------------------------------


@documented(ROUNDS)
def vsdm(
    network: NetworkLike | None = None,
    *,
    shape: tuple[int, ...],
    schedule: Schedule | None = None,
    predict: str = "eps",
    knots: int = 9,
    gain: float = 1.0,
    decay: float = 0.6,
    max_marginal_error: float = 1.0,
    cache: int = 4096,
    time_sampler: TimeSampler | None = None,
    optimizer: optax.GradientTransformation | Literal["exact"] | None = None,
    ema: float | None = 0.999,
    sampler: str = "sde",
    ts: Numbers | None = None,
    solver: diffrax.AbstractSolver | None = None,
) -> Method:
    """Variational Schroedinger diffusion as a Method with rounds.

    Args:
        network: a flax.nnx module or ``(apply, params)`` (None: ``networks.or_mlp``) with ``apply(params, t, x,
            args)``, t on the noising clock.
        shape: shape (d,) of one sample.
        schedule: the reference, a Schedule with alpha(T) > 0; default ``schedules.vp(0.1, 10)``. A(t) is a d x d matrix
            per unit of g^2 dt.
        predict: what the network's output means, "eps" or "score".
        knots: of A and b in time, at least 2.
        gain: eta of the first round, in [0, 1]; 0: A = 0, diffusion on the schedule alone.
        decay: eta of round k is gain / k^decay.
        max_marginal_error: a round whose paths end further from the data than this, in the data's standard deviations,
            leaves A and b as they were in the last good one.
        time_sampler: see ``objectives.times``; default even on [1e-3 T, T]. A round trains on 512 times drawn by it.
        optimizer: optax transformation (default Adam at 1e-3, gradients clipped to norm 1), or "exact" for a network
            that is linear in its parameters: the solution of the least-squares problem of each batch.
        sampler: "sde" (the backward SDE) or "ode" (its probability flow), of the process; rounds run the SDE.
        ts: grid of the process and of the rounds, on the clock from prior to data; default 100 steps even in log SNR.

    Returns:
        A Method whose data are arrays (n, d), or dictionaries ``x`` and ``args`` (or ``label``); pass
        ``refresh_every`` to ``fit``. Rounds compile nothing anew. Metrics: "loss", "grad_norm", "round", "rejected"
        (rounds without an update), "marginal_error" (how far the last simulation ended from the data, in their standard
        deviations) and "prior_error" (how far the forward process ends from N(0, I)).

    Raises:
        ValueError: a schedule without signal at T, options out of range; at trace time rows of another
            shape.
    """
    schedule = schedules.vp(0.1, 10.0) if schedule is None else schedule
    check_schedule(schedule)
    if schedule.zero_terminal_snr:
        raise ValueError("schedule must have alpha(T) > 0; this one forgets its start, so no bridge is left to learn")
    if not (isinstance(shape, tuple) and len(shape) == 1):
        raise ValueError(f"shape must be (d,), since A is a d x d matrix, got {shape!r}; flatten the data")
    for name, value, known in (("predict", predict, PREDICTIONS), ("sampler", sampler, SAMPLERS)):
        if value not in known:
            raise ValueError(f"{name} must be one of {known}, got {value!r}")
    check_count("knots", knots, 2)
    check_count("cache", cache)
    check_number(gain=gain, decay=decay, max_marginal_error=max_marginal_error)
    check_nonnegative(gain=gain, decay=decay)
    check_positive(max_marginal_error=max_marginal_error)
    if gain > 1.0:
        raise ValueError(f"gain must lie in [0, 1], the share of the way that an update goes, got {gain}")
    apply, initial = or_mlp(network, shape)
    model = _Model(
        apply=apply,
        initial=initial,
        learn=regression(optimizer),
        ema=check_average(optimizer, ema),
        predict=predict,
        schedule=schedule,
        shape=shape,
        knots=knots,
        cache=cache,
        draw_times=times.low_discrepancy(1e-3 * schedule.T, schedule.T) if time_sampler is None else time_sampler,
        start=starts.normal(shape),
        grid=grids.log_snr(100, schedule) if ts is None else jnp.asarray(ts),
    )
    renew = jax.jit(partial(_renew, model))
    look = jax.jit(partial(_look, model, (gain, decay), max_marginal_error, solver))
    return Method(
        partial(_init, model, renew),
        partial(_step, model),
        partial(_process, model, sampler),
        partial(_refresh, model, renew, look),
        params=_params,
    )


def build(options: VSDM, setup: Setup) -> Method:
    """``vsdm`` by its options, on the schedule vp(0.1, 10)."""
    shape, steps = setup.data.shape, options.sample_steps or 100
    if len(shape) != 1:
        raise ValueError(f"method 'vsdm' learns vectors, its forward drift being a matrix; flatten samples of {shape}")
    schedule = schedules.vp(0.1, 10.0)
    method = vsdm(
        setup.network(),
        shape=shape,
        schedule=schedule,
        predict=options.predict,
        sampler=options.sampler,
        cache=cache_size(shape, steps),
        optimizer=setup.optimizer(),
        ema=setup.ema,
        ts=grids.log_snr(steps, schedule),
    )
    return finished(method, setup.decode)
