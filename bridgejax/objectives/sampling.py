"""Losses of learned samplers: functions of the log weights of simulated paths.

    x_0 ~ p_0,  x_{k+1} ~ F_k(. | x_k),      w = log rho(x_N) - log p_0(x_0) + sum_k [log B_k(x_k | x_{k+1})
                                                                                 - log F_k(x_{k+1} | x_k)]

    "kl"                   -mean w            through the simulation: rho needs a gradient; seeks few modes
    "log_variance"         var w              the path is a constant: rho needs no gradient; zero at the optimum
    "trajectory_balance"   mean (w - c)^2     the same with a learnt constant c, log Z at the optimum

E[exp w] = Z for any number of steps, and log variance does not see Z. (Richter & Berner 2024, arXiv 2307.01198;
Malkin et al. 2022, arXiv 2201.13259.) With the path held fixed the gradient is sum_i c_i grad w_i with numbers c_i, so
it is gathered in a second run over the *same* path, made again from its keys: memory does not grow with the number of
steps, and nothing of the simulation is stored.

The rule for bad densities: a path whose w is nan or infinite has no part in the loss; its share is the metric
"excluded", and in log Z and ESS it counts as a path of weight zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from bridgejax.processes import Process
from bridgejax.processes.sde import Kernel
from bridgejax.solve import kernels

LOSSES = ("kl", "log_variance", "trajectory_balance")


# a density that may be nan ------------------------------------------------------------------------------------------


@jax.custom_vjp
def guarded(f: Callable[[Any], Any], x: Any) -> Any:
    """f(x), with the numbers of its gradient that are not finite set to 0: an excluded path must not spoil others."""
    return f(x)


def _guarded_forward(f: Any, x: Any) -> tuple[Any, Any]:
    return jax.vjp(f, x)


def _guarded_backward(pull: Any, ct: Any) -> tuple[None, Any]:
    (grad,) = pull(ct)
    return None, jnp.where(jnp.isfinite(grad), grad, 0.0)


guarded.defvjp(_guarded_forward, _guarded_backward)


# the engine ---------------------------------------------------------------------------------------------------------


def _laws(process: Process) -> tuple[Kernel, Kernel]:
    """The kernels that ``bj.log_weights`` weighs this process with."""
    back = process.back
    assert back is not None
    return kernels.euler(process.sde), kernels.euler(back) if back.land is None else back.land


def _draw(process: Process, key: Array, k: Any, t: Any, u: Any, x: Any) -> Any:
    return _laws(process)[0].sample(jax.random.fold_in(key, k), t, u, x, None).astype(x.dtype)


def _ratio(process: Process, t: Any, u: Any, x: Any, y: Any) -> Array:
    (forward, backward), T = _laws(process), process.sde.T
    assert forward.log_prob is not None
    assert backward.log_prob is not None
    return backward.log_prob(T - u, T - t, y, x, None) - forward.log_prob(t, u, x, y, None)


def _begin(process: Process, keys: Array) -> tuple[Array, Array, Any]:
    """The keys of the steps, the start states, and the intervals."""
    split = jax.vmap(lambda key: jax.random.split(key, 3))(keys)  # as weighted_samples does: the same paths
    ts = process.ts
    return split[:, 1], jax.vmap(process.start)(split[:, 0]), (jnp.arange(ts.shape[0] - 1), ts[:-1], ts[1:])


def through(make: Callable[[Any], Process], log_density: Any, params: Any, keys: Array) -> Array:
    """w of one path per key, (n,), differentiable through the simulation.

    Args:
        make: ``make(params)``, a Process with a ``back`` and a start law with a ``log_prob``.
        log_density: ``log_density(x)``.
        params: what it is made of.
        keys: (n,).
    """
    process = make(params)
    run_keys, x0, intervals = _begin(process, keys)

    @jax.checkpoint
    def turn(carry: Any, interval: Any) -> tuple[Any, None]:
        def one(key: Array, x: Array) -> tuple[Array, Array]:
            k, t, u = interval
            y = _draw(process, key, k, t, u, x)
            return y, _ratio(process, t, u, x, y)

        y, ratio = jax.vmap(one)(run_keys, carry[0])
        return (y, carry[1] + ratio), None

    (x, total), _ = jax.lax.scan(turn, (x0, jnp.zeros(keys.shape[0])), intervals)
    prior = jax.vmap(process.start.log_prob)(x0)  # pyright: ignore
    return jax.vmap(lambda x: guarded(log_density, x))(x) - prior + total


@jax.custom_vjp
def held(make: Callable[[Any], Process], log_density: Any, params: Any, keys: Array) -> Array:
    """The same numbers with the paths held fixed: memory and gradient as at the head of this file."""
    return through(make, log_density, params, keys)


def _held_forward(make: Any, log_density: Any, params: Any, keys: Array) -> tuple[Array, Any]:
    return through(make, log_density, params, keys), (make, params, keys)


def _held_backward(kept: Any, ct: Array) -> tuple[None, None, Any, None]:
    make, params, keys = kept
    process = make(params)
    run_keys, x0, intervals = _begin(process, keys)
    counted = (ct != 0)[:, None]

    def turn(carry: Any, interval: Any) -> tuple[Any, None]:
        (x, total), (k, t, u) = carry, interval
        y = jax.vmap(lambda key, x: _draw(process, key, k, t, u, x))(run_keys, x)
        # an excluded path may hold nan, and 0 nan = nan: it is moved to the origin
        before, after = jnp.where(counted, x, 0.0), jnp.where(counted, y, 0.0)

        def ratios(params: Any) -> Array:
            return jax.vmap(lambda x, y: _ratio(make(params), t, u, x, y))(before, after)

        (grads,) = jax.vjp(ratios, params)[1](ct)
        return (y, jax.tree.map(jnp.add, total, grads)), None

    zero = jax.tree.map(jnp.zeros_like, params)
    return None, None, jax.lax.scan(turn, (x0, zero), intervals)[0][1], None


held.defvjp(_held_forward, _held_backward)


# the losses ---------------------------------------------------------------------------------------------------------


def path_loss(
    make: Callable[[Any], Process], log_density: Any, loss: str, params: Any, keys: Array, batch: Any = None
) -> tuple[Array, dict[str, Array]]:
    """A loss of ``n = len(keys)`` paths, as ``gradient_method`` wants it once ``make`` ... ``loss`` are bound.

    Args:
        make: ``make(params)``, the Process.
        log_density: log rho of one sample.
        loss: "kl", "log_variance" or "trajectory_balance".
        params: a dictionary; "trajectory_balance" learns its entry "log_z".
        keys: (n,), n >= 2.
        batch: not looked at.

    Returns:
        The loss (nan where fewer than two paths are left), and the metrics elbo, log_z, ess and excluded (a share).
    """
    w = (through if loss == "kl" else held)(make, log_density, params, keys)
    good = jnp.isfinite(w)
    n, count = keys.shape[0], jnp.sum(good)
    w = jnp.where(good, w, 0.0)
    mean = jnp.where(count >= 2, jnp.sum(w) / jnp.maximum(count, 1), jnp.nan)
    if loss == "kl":
        value = -mean
    else:
        centre = mean if loss == "log_variance" else params["log_z"]
        squares = jnp.sum(jnp.where(good, (w - centre) ** 2, 0.0))
        value = squares / (count - 1 if loss == "log_variance" else count)
        value = jnp.where(count >= 2, value, jnp.nan)
    logs = jax.lax.stop_gradient(jnp.where(good, w, -jnp.inf))
    first, second = jax.nn.logsumexp(logs), jax.nn.logsumexp(2.0 * logs)
    metrics = {"elbo": mean, "log_z": first - jnp.log(n), "ess": jnp.exp(2.0 * first - second) / n}
    return value, {**metrics, "excluded": 1.0 - count / n}
