"""Losses of learned samplers: functions of the log weights of simulated paths.

    x_0 ~ p_0,  x_{k+1} ~ F_k(. | x_k),      w = log rho(x_N) - log p_0(x_0) + sum_k [log B_k(x_k | x_{k+1})
                                                                                 - log F_k(x_{k+1} | x_k)]

    "kl"                   -mean w            through the simulation: rho needs a gradient; seeks few modes
    "log_derivative"       -mean w            its gradient by grad F = F grad log F: rho needs none, v may be learnt
    "log_variance"         var w              the path is a constant: rho needs no gradient; zero at the optimum
    "trajectory_balance"   mean (w - c)^2     the same with a learnt constant c, log Z at the optimum
    "subtrajectory"        sum_s var w_s      log variance of every piece s of the path, where densities pi_t are known
                                              at intermediate t: w_s is w with pi at the ends of the piece for rho, p_0

E[exp w] = Z for any number of steps, and log variance does not see Z. The last three may learn from paths of any law.
"log_derivative" has a form in subtrajectories too, sum_s -mean w_s, whose gradient is that of each one from its own
first state: that this state depends on the earlier ones is left out. Where B is learnt with F, the
gradient of log variance is no longer twice that of KL: it can make w flat by sending paths where rho has no mass, while
the log derivative has B follow the paths by maximum likelihood.
(Richter & Berner 2024, arXiv 2307.01198; Malkin et al. 2022, arXiv 2201.13259; Sanokowski et al. 2025; subtrajectories:
Chen et al. 2025, arXiv 2412.07081.) So half of a batch may be *backward* paths, from terminal states in a buffer:

    x_N = such a state,  x_k ~ B_k(. | x_{k+1}),      w the same function of the path

which is how a mode that was found once is not forgotten. (Sendera et al. 2024, arXiv 2402.05098.) With rho^b, b < 1,
for rho a sampler learns a flatter target first; log Z and ESS are of rho all the same.

With the path a constant (stop-gradient) the gradient is sum_i c_i grad w_i with numbers c_i (and likewise for log F),
so it is gathered in a second run over the *same* path, made again from its keys: memory does not grow with the number
of steps, and nothing of the simulation is stored. For a process with its own kernel (underdamped) the states depend on
the parameters through the deterministic part of a step, so only the drawn velocities are constants, and one state a
step is stored.

The rule for bad densities: a path whose w is nan, infinite or below -1e8 has no part in the loss; its share is the
metric "excluded", and in log Z and ESS it counts as a path of weight zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from bridgejax._numerics import cast_like
from bridgejax._summary import summary
from bridgejax._types import Args, Batch, DiffusionFn, LogDensity, Params, PyTree, State
from bridgejax.processes import SDE, Process
from bridgejax.processes._keys import stream, streams
from bridgejax.processes.sde import Kernel
from bridgejax.solve import kernels

LOSSES = ("kl", "log_derivative", "log_variance", "trajectory_balance", "subtrajectory")
SUBTRAJECTORY_LOSSES = ("subtrajectory", "log_derivative")
OFF_POLICY = ("log_variance", "trajectory_balance", "subtrajectory")
Make = Callable[[Params], Process]
Levels = Callable[[Params, Array, State], Array]  # log pi_t(x) up to a constant
_NEGLIGIBLE = 1e8  # a log weight below minus this is a weight of zero


class Plan(NamedTuple):
    """A batch of a sampler that remembers or is annealed.

    Attributes:
        terminal_states: (n, ...), of which the second half start backward paths; None: all paths run forward.
        power: (n,), b in every row.
    """

    terminal_states: State
    power: Array

    __repr__ = summary


class Logs(NamedTuple):
    """Logarithms along paths, each (n,) but the last.

    Attributes:
        rho: at the end.
        ratio: log B - log F, summed, less log p_0 at the start; log rho + ratio is w.
        forward: (n, s), log F, summed over each piece.
        gains: (n, s), w_s of the subtrajectories.
    """

    rho: Array
    ratio: Array
    forward: Array
    gains: Array

    __repr__ = summary


# a density that may be nan ------------------------------------------------------------------------------------------


@jax.custom_vjp
def guarded(f: Callable[[State], PyTree], x: State) -> PyTree:
    """f(x), with the numbers of its gradients, in f's leaves too, that are not finite set to 0.

    An excluded path must not spoil others.
    """
    return f(x)


def _guarded_forward(f: Callable[[State], PyTree], x: State) -> tuple[PyTree, PyTree]:
    return jax.vjp(lambda f, x: f(x), f, x)


def _guarded_backward(pull: Callable[[PyTree], PyTree], ct: PyTree) -> PyTree:
    def clean(leaf: Array) -> Array:
        return leaf if leaf.dtype == jax.dtypes.float0 else jnp.where(jnp.isfinite(leaf), leaf, 0.0)

    return jax.tree.map(clean, pull(ct))


guarded.defvjp(_guarded_forward, _guarded_backward)


# the engine ---------------------------------------------------------------------------------------------------------


def _laws(process: Process) -> tuple[Kernel, Kernel]:
    """The kernels that ``bj.log_weights`` weighs this process with."""
    backward = process.backward
    assert backward is not None
    forward = kernels.euler(process.dynamics) if process.dynamics.kernel is None else process.dynamics.kernel
    return forward, kernels.euler(backward) if backward.kernel is None else backward.kernel


def _scaled(noise: DiffusionFn, factor: Array, t: Array, x: State, args: Args) -> State:
    return factor * noise(t, x, args)


def _next(process: Process, noise_scale: Array, key: Array, k: Array, t: Array, u: Array, x: State) -> State:
    """x_{k+1}; the noise is that of the law times ``noise_scale``, but for a process with steps of its own."""
    sde, law = process.dynamics, process.dynamics.kernel
    if law is None:
        law = kernels.euler(SDE(sde.drift, Partial(_scaled, sde.diffusion, noise_scale), sde.T, noise=sde.noise))
    return cast_like(law.sample(jax.random.fold_in(key, k), t, u, x, None), x)


def _last(process: Process, noise_scale: Array, key: Array, k: Array, t: Array, u: Array, y: State) -> State:
    """x_k, by the backward law."""
    T, turn = process.dynamics.T, process.ts.shape[0] - 2 - k
    return cast_like(_laws(process)[1].sample(jax.random.fold_in(key, turn), T - u, T - t, y, None), y)


def _logs(
    process: Process, level: tuple[Levels, Params] | None, t: Array, u: Array, x: State, y: State
) -> tuple[Array, Array, Array]:
    """Of a step: log B - log F, log F, and the former with log pi at both ends of the step."""
    (forward, backward), T = _laws(process), process.dynamics.T
    assert forward.log_prob is not None
    assert backward.log_prob is not None
    log_f = forward.log_prob(t, u, x, y, None)
    ratio = backward.log_prob(T - u, T - t, y, x, None) - log_f
    if level is None:
        return ratio, log_f, ratio
    return ratio, log_f, ratio + guarded(Partial(_level, *level, u), y) - guarded(Partial(_level, *level, t), x)


def _begin(process: Process, keys: Array, terminal_states: State) -> tuple[Array, State, PyTree]:
    """The keys of the steps, the states that paths begin with, and the intervals in the order of the way."""
    parts = streams(keys, "process", 3)  # as weighted_samples does: the same paths
    run_keys = stream(parts[:, 1], "steps")
    ts = process.ts
    intervals = (jnp.arange(ts.shape[0] - 1), ts[:-1], ts[1:])
    if terminal_states is None:
        return run_keys, jax.vmap(process.start, (0, None))(parts[:, 0], None), intervals
    return run_keys, terminal_states, jax.tree.map(lambda leaf: leaf[::-1], intervals)


def _level(levels: Levels, params: Params, t: Array, x: State) -> Array:
    """log pi_t(x); a Partial of the Partial ``levels`` would hide its arrays."""
    return levels(params, t, x)


def _piece(k: Array, ts: Array, subtrajectories: Array) -> Array:
    """Where step k counts."""
    return (k * subtrajectories.shape[-1]) // (ts.shape[0] - 1)


def through(
    make: Make, levels: Levels | None, log_density: LogDensity, params: Params, keys: Array, noise_scale: Array,
    subtrajectories: Array, terminal_states: State = None,
) -> Logs:  # fmt: skip
    """The logarithms of one path per key; differentiable through the simulation.

    Args:
        make: ``make(params)``, a Process with a ``backward`` and a start law with a ``log_prob``.
        levels: ``levels(params, t, x)``, log pi_t up to a constant, or None: then w_s has no such terms.
        log_density: ``log_density(x)``.
        params: what it is made of.
        keys: (n,).
        noise_scale: (n,), factors on the noise that is drawn; 1 for paths of the process itself.
        subtrajectories: (s,), zeros: as many subtrajectories.
        terminal_states: (n, ...), from which the paths run backward; None: they run forward.
    """
    process, level = make(params), None if levels is None else (levels, params)
    (run_keys, first, intervals), backward = _begin(process, keys, terminal_states), terminal_states is not None
    draw = _last if backward else _next

    @jax.checkpoint
    def turn(carry: PyTree, interval: PyTree) -> tuple[PyTree, None]:
        def one(key: Array, noise_scale: Array, x: Array) -> tuple[Array, tuple[Array, Array, Array]]:
            y = draw(process, noise_scale, key, k, t, u, x)
            return y, _logs(process, level, t, u, *((y, x) if backward else (x, y)))

        (k, t, u), (x, ratios, log_fs, gains) = interval, carry
        y, (ratio, log_f, gain) = jax.vmap(one)(run_keys, noise_scale, x)
        here = _piece(k, process.ts, subtrajectories)
        return (y, ratios + ratio, log_fs.at[:, here].add(log_f), gains.at[:, here].add(gain)), None

    zero = jnp.zeros(keys.shape[0])
    begin = (first, zero, zero[:, None] + subtrajectories, zero[:, None] + subtrajectories)
    (last, ratio, log_f, gains), _ = jax.lax.scan(turn, begin, intervals)
    x0, x = (last, first) if backward else (first, last)
    prior = jax.vmap(process.start.log_prob)(x0)  # pyright: ignore
    return Logs(jax.vmap(lambda x: guarded(log_density, x))(x), ratio - prior, log_f, gains)


@jax.custom_vjp
def detached(
    make: Make, levels: Levels | None, log_density: LogDensity, params: Params, keys: Array, noise_scale: Array,
    subtrajectories: Array, terminal_states: State = None,
) -> Logs:  # fmt: skip
    """As ``through``, but paths are constants to the gradient (a custom VJP runs them again): memory O(1) in steps."""
    return through(make, levels, log_density, params, keys, noise_scale, subtrajectories, terminal_states)


def _detached_forward(
    make: Make,
    levels: Levels | None,
    log_density: LogDensity,
    params: Params,
    keys: Array,
    noise_scale: Array,
    subtrajectories: Array,
    terminal_states: State,
) -> tuple[Logs, PyTree]:
    kept = (make, levels, params, keys, noise_scale, subtrajectories, terminal_states)
    return through(make, levels, log_density, params, keys, noise_scale, subtrajectories, terminal_states), kept


def _detached_backward(kept: Params, ct: Logs) -> tuple[None, None, None, Params, None, None, None, None]:
    make, levels, params, keys, noise_scale, subtrajectories, terminal_states = kept
    process, backward = make(params), terminal_states is not None
    draw = _last if backward else _next
    run_keys, first, intervals = _begin(process, keys, terminal_states)
    counted = ((ct.ratio != 0)[:, None] | (ct.forward != 0) | (ct.gains != 0)).any(axis=1, keepdims=True)

    def turn(carry: PyTree, interval: PyTree) -> tuple[PyTree, None]:
        (x, total), (k, t, u) = carry, interval
        y = jax.vmap(lambda key, noise_scale, x: draw(process, noise_scale, key, k, t, u, x))(run_keys, noise_scale, x)
        # an excluded path may hold nan, and 0 nan = nan: it is moved to the origin
        before, after = jax.tree.map(lambda leaf: jnp.where(counted, leaf, 0.0), (y, x) if backward else (x, y))

        def logs(params: Params) -> tuple[Array, Array, Array]:
            level = None if levels is None else (levels, params)
            return jax.vmap(lambda x, y: _logs(make(params), level, t, u, x, y))(before, after)

        here = _piece(k, process.ts, subtrajectories)
        (grads,) = jax.vjp(logs, params)[1]((ct.ratio, ct.forward[:, here], ct.gains[:, here]))
        return (y, jax.tree.map(jnp.add, total, grads)), None

    zero = jax.tree.map(jnp.zeros_like, params)
    return None, None, None, jax.lax.scan(turn, (first, zero), intervals)[0][1], None, None, None, None


detached.defvjp(_detached_forward, _detached_backward)


# the losses ---------------------------------------------------------------------------------------------------------


def _value(loss: str, params: Params, w: Array, log_f: Array, good: Array) -> Array:
    """A loss of the weights and log F, (n, s) by subtrajectory, of the valid paths; nan for fewer than two."""
    count = jnp.sum(good)
    if loss == "kl":
        value = -jnp.sum(w) / jnp.maximum(count, 1)
    elif loss == "log_derivative":
        value = jnp.sum(jax.vmap(_log_derivative, (1, 1, None))(w, log_f, good))
    elif loss == "trajectory_balance":
        value = jnp.sum(jnp.where(good, (w[:, 0] - params["log_z"]) ** 2, 0.0)) / count
    else:
        value = jnp.sum(jax.vmap(_variance, (1, None))(w, good))
    return jnp.where(count >= 2, value, jnp.nan)


def _log_derivative(w: Array, log_f: Array, good: Array) -> Array:
    """-mean w of a piece; the gradient of -E[w], from where it begins, is E[(b - w) grad log F] - E[grad log B].

    b is the mean of the other paths' w; b - w is cut off where it is far out, see ``_leverage``.
    """
    count = jnp.sum(good)
    advantage = -_leverage(w, good) * count / (count - 1)
    surrogate = (jnp.sum(advantage * log_f) - jnp.sum(jnp.where(good, w + log_f, 0.0))) / count
    value = -jnp.sum(w) / jnp.maximum(count, 1)
    return jax.lax.stop_gradient(value - surrogate) + surrogate


def _variance(w: Array, good: Array) -> Array:
    """Of the good ones, its gradient by their leverage."""
    count = jnp.sum(good)
    mean = jnp.sum(w) / jnp.maximum(count, 1)
    variance = jnp.sum(jnp.where(good, (w - mean) ** 2, 0.0)) / (count - 1)
    surrogate = 2.0 * jnp.sum(_leverage(w, good) * w) / (count - 1)
    return jax.lax.stop_gradient(variance - surrogate) + surrogate


def _leverage(w: Array, good: Array) -> Array:
    """w - mean, no further from its median than 10 median deviations: what a path's gradient is multiplied by.

    Before training w has tails of thousands of nats, and a batch would learn from one path.
    """
    w = jax.lax.stop_gradient(w)
    middle = jnp.nanmedian(jnp.where(good, w, jnp.nan))
    reach = 10.0 * jnp.nanmedian(jnp.where(good, jnp.abs(w - middle), jnp.nan))
    near = jnp.clip(w, middle - reach, middle + reach)
    mean = jnp.sum(jnp.where(good, near, 0.0)) / jnp.sum(good)
    return jnp.where(good, near - mean, 0.0)


def _both_ways(run: Callable[..., Logs], keys: Array, noise_scale: Array, terminal_states: State, forward: int) -> Logs:
    """The first ``forward`` paths run forward, the others backward from their terminal states."""
    logs = run(keys[:forward], noise_scale[:forward])
    if terminal_states is None:
        return logs
    backward = run(
        keys[forward:],
        noise_scale[forward:],
        terminal_states=jax.tree.map(lambda leaf: leaf[forward:], terminal_states),
    )
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), logs, backward)


def path_loss(
    make: Make, log_density: LogDensity, params: Params, keys: Array, batch: Batch = None, *,
    loss: str, exploration_scale: float = 1.0, levels: Levels | None = None, subtrajectories: int = 1,
) -> tuple[Array, dict[str, Array]]:  # fmt: skip
    """A loss of ``n = len(keys)`` paths, as ``gradient_method`` wants it once ``make`` and ``log_density`` are bound.

    Args:
        make: ``make(params)``, the Process.
        log_density: log rho of one sample.
        params: a dictionary; "trajectory_balance" learns its entry "log_z".
        keys: (n,), n >= 2.
        batch: a ``Plan``; anything else is not looked at, and all paths run forward to rho.
        loss: one of ``LOSSES``.
        exploration_scale: factor on the noise of every second path forward; the metrics are taken from the others. A
            process with its own kernel has no noise to scale.
        levels: ``levels(params, t, x)``, log pi_t up to a constant: the loss is a sum over parts. "subtrajectory"
            needs it, "log_derivative" may have it.
        subtrajectories: how many a path is cut into.

    Returns:
        The loss (nan where fewer than two paths are left), and the metrics elbo, log_z, ess and excluded (a share).
    """
    if subtrajectories > 1 and levels is None:
        raise ValueError("subtrajectories need levels, the densities at their ends")
    n = keys.shape[0]
    terminal_states, power = (batch.terminal_states, batch.power[0]) if isinstance(batch, Plan) else (None, 1.0)
    forward = n if terminal_states is None else n - n // 2
    own = (jnp.arange(n) < forward) & ((jnp.arange(n) % 2 == 0) | (exploration_scale == 1.0))
    noise_scale = jnp.where(own, 1.0, exploration_scale)
    if (loss == "subtrajectory" and levels is None) or (levels is not None and loss not in SUBTRAJECTORY_LOSSES):
        raise ValueError(
            f"levels are for a loss by subtrajectory, {SUBTRAJECTORY_LOSSES}; 'subtrajectory' cannot do without"
        )
    engine = through if loss == "kl" or make(params).dynamics.kernel is not None else detached

    def run(keys: Array, noise_scale: Array, terminal_states: State = None) -> Logs:
        return engine(make, levels, log_density, params, keys, noise_scale, jnp.zeros(subtrajectories), terminal_states)

    logs = _both_ways(run, keys, noise_scale, terminal_states, forward)
    full = logs.rho + logs.ratio
    good = jnp.isfinite(full) & (full > -_NEGLIGIBLE)
    if levels is None:
        w, log_f = (power * logs.rho + logs.ratio)[:, None], jnp.sum(logs.forward, axis=1, keepdims=True)
    else:
        w, log_f = logs.gains, logs.forward
    # the density may be bad at intermediate states, where a loss in subtrajectories evaluates it
    seen = good & jnp.all(jnp.isfinite(w), axis=1)
    full, w, log_f = jnp.where(good, full, 0.0), *(jnp.where(seen[:, None], leaf, 0.0) for leaf in (w, log_f))
    value = _value(loss, params, w, log_f, seen)
    weights = jax.lax.stop_gradient(jnp.where(good & own, full, -jnp.inf))
    first, second = jax.nn.logsumexp(weights), jax.nn.logsumexp(2.0 * weights)
    count = jnp.sum(own)
    metrics = {
        "elbo": jnp.sum(jnp.where(good & own, full, 0.0)) / jnp.maximum(jnp.sum(good & own), 1),
        "log_z": first - jnp.log(count),
        "ess": jnp.exp(2.0 * first - second) / count,
        "excluded": 1.0 - jnp.sum(good) / n,
    }
    return value, metrics
