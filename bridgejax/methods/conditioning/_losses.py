"""Losses that learn to condition an SDE on its end: the control c with r + c = grad log h, r the guide of ``guide``.

    h(t, x) = p(x_T = v | x_t = x),      dX = b dt + G dW,  a = G G^T,  conditioned: dX = [b + a grad log h] dt + G dW

Write P(y | x) for the Euler step of the SDE and h_k for its density of reaching v from step k. Since
h_k(x) = int P(y | x) h_(k+1)(y) dy and p_(k+1)(y) = int p_k(x) P(y | x) dx, the gradients are conditional means:

    grad log h_k(x)     = E[ grad_x log P(x_(k+1) | x) | x_k = x ]            over paths with the law given x_T = v
    grad log p_(k+1)(y) = E[ grad_y log P(y | x_k) | x_(k+1) = y ]            over free paths

``reverse_kl``    -E log weight of the guided paths, gradients through the simulated chain. It is at least -log p(v) of
                  the Euler chain, and the difference is KL(guided paths || conditioned paths).
``forward``       second line: the score of p from free paths of x_0; with it the SDE is run backwards from v, steps of
                  variance h t/(t + h), and arrives at x_0; those paths, weight 1, give the control by the first line.
                  (Heng, De Bortoli, Doucet & Thornton 2025, arXiv 2111.07243.)
``adjoint``       first line over paths of the adjoint dY = (-b + div a) ds + G dW from Y_0 = v, s = T - t, weighted by
                  prod P(x_(j+1) | x_j) / B(x_j | x_(j+1)) over the steps j >= k, B the adjoint's Euler step. This is
                  exp int (-div b + sum_ij d_i d_j a_ij / 2) ds to first order: the adjoint's generator has a potential,
                  and without the weight the result is wrong wherever div b is not constant. (Baker, Schauer & Sommer
                  2025, arXiv 2407.15455, whose published code leaves it out.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from bridgejax._numerics import as_time, normal_like
from bridgejax._summary import summary
from bridgejax._types import Args, Field, Network, Params, PyTree, State
from bridgejax.bridges import reverse
from bridgejax.bridges.guided import Guided, dense_diffusion, weighted_path
from bridgejax.processes._keys import stream, streams
from bridgejax.processes.noise import times_noise
from bridgejax.processes.sde import SDE
from bridgejax.solve import kernels
from bridgejax.weigh import weights

_FAR = 50.0  # squared distance from the tube at which an adjoint path is given up


class Sketch(NamedTuple):
    """What is conditioned: ``guided(control, end)`` makes the proposal; ts is its grid, ``seen`` the end's shape."""

    sde: SDE
    start: Array
    ts: Array
    guided: Callable[..., Guided]
    seen: tuple[int, ...]

    __repr__ = summary


def _push(sde: SDE, t: Array, x: Array, v: Array) -> Array:
    """G^T v."""
    assert sde.diffusion is not None
    return dense_diffusion(sde.diffusion(t, x, None), x).T @ v


def _log_step(sde: SDE, t: Array, u: Array, x: Array, y: Array) -> Array:
    """log P(y | x)."""
    log_prob = kernels.euler(sde).log_prob
    assert log_prob is not None
    return log_prob(t, u, x, y, None)


def _tube(sketch: Sketch, end: Array) -> Callable[[Array, Array], Array]:
    """d^2 of (t, x): squared distance from the straight line x_0 -> v at t, in units of G sqrt(T) at the end."""
    sde, start = sketch.sde, sketch.start
    assert sde.diffusion is not None
    G = dense_diffusion(sde.diffusion(as_time(sde.T), end, None), end)

    def far(t: Array, x: Array) -> Array:
        away = x - start - (end - start) * t / sde.T
        return away @ jnp.linalg.solve(G @ G.T * sde.T, away)

    return far


# reverse KL ---------------------------------------------------------------------------------------------------------


def reverse_kl(
    sketch: Sketch, apply: Network, params: Params, keys: Array, ends: State
) -> tuple[Array, dict[str, Array]]:
    """Mean of -log weight; for one end point also KL(guided || conditioned paths) and the effective sample size."""

    def one(key: Array, end: Array | None) -> Array:
        guided = sketch.guided(Partial(apply, params), end)
        return weighted_path(guided.parts, key, sketch.start, sketch.ts, end)[1]

    log_weights = jax.vmap(one, (0, None if ends is None else 0))(keys, ends)
    loss = -jnp.mean(log_weights)
    if ends is not None:
        return loss, {}
    return loss, {"kl": weights.log_z(log_weights) + loss, "ess": weights.ess(log_weights)}


# regression on the gradient of a step -------------------------------------------------------------------------------


def control_errors(sketch: Sketch, guided: Guided, control: Field, xs: Array, end: Array | None) -> Array:
    """h |G^T (r + c - grad log P)|^2 at the states before each step but the last, (n - 1,)."""

    def error(t: Array, u: Array, x: Array, y: Array) -> Array:
        wanted = jax.grad(lambda x: _log_step(sketch.sde, t, u, x, y))(x)
        found = jax.lax.stop_gradient(guided.parts.messages.guide(t, x)) + control(t, x, end)
        return (u - t) * jnp.sum(_push(sketch.sde, t, x, found - wanted) ** 2)

    ts = sketch.ts
    return jax.vmap(error)(ts[:-2], ts[1:-1], xs[:-2], xs[1:-1])


# forward ------------------------------------------------------------------------------------------------------------


def score(sketch: Sketch, network: Field, t: Array, x: Array, args: Args) -> Array:
    """grad log p_t(x) = a(0, x_0)^-1 (x_0 - x) / t + network: the first term is its singular part."""
    assert sketch.sde.diffusion is not None
    G = dense_diffusion(sketch.sde.diffusion(as_time(0.0), sketch.start, None), x)
    return jnp.linalg.solve(G @ G.T, sketch.start - x) / t + network(t, x, None)


def _score_loss(sketch: Sketch, network: Field, key: Array) -> Array:
    xs, ts = kernels.walk(kernels.euler(sketch.sde), key, sketch.start, sketch.ts).xs, sketch.ts

    def error(t: Array, u: Array, x: Array, y: Array) -> Array:
        wanted = jax.grad(lambda y: _log_step(sketch.sde, t, u, x, y))(y)
        return (u - t) * jnp.sum(_push(sketch.sde, u, y, score(sketch, network, u, y, None) - wanted) ** 2)

    return jnp.mean(jax.vmap(error)(ts[:-1], ts[1:], xs[:-1], xs[1:]))


def backward_path(sketch: Sketch, backward: SDE, key: Array, end: Array) -> tuple[Array, Array]:
    """States (n + 1, d), in the order of time, of ``backward`` from the end to x_0, and which of them to believe.

    While the score is raw an inward drift, reversed, may carry a path away for good: it stops where d^2 (see
    ``adjoint_path``) exceeds 50, and is not believed before that time.
    """
    T, ts, far, key = sketch.sde.T, sketch.ts, _tube(sketch, end), stream(key, "steps")
    assert backward.diffusion is not None

    def step(carry: PyTree, interval: PyTree) -> tuple[PyTree, Any]:
        y, lost = carry
        k, t, u = interval
        noise = normal_like(jax.random.fold_in(key, k), noise_like(sketch.sde, y))
        drawn = times_noise(backward.diffusion(T - u, y, None), noise)  # pyright: ignore[reportOptionalCall]
        x = y + (u - t) * backward.drift(T - u, y, None) + jnp.sqrt((u - t) * t / u) * drawn
        x = jnp.where(t > 0, x, sketch.start)
        lost = lost | ~(far(t, x) < _FAR)
        x = jnp.where(lost, y, x)
        return (x, lost), (x, ~lost)

    steps = (jnp.arange(ts.size - 1), ts[:-1], ts[1:])
    _, (xs, kept) = jax.lax.scan(step, (end, jnp.zeros((), bool)), steps, reverse=True)
    return jnp.concatenate([xs, end[None]]), jnp.append(kept, True)


def noise_like(sde: SDE, x: Array) -> jax.ShapeDtypeStruct:
    """Shape of the noise at x."""
    assert sde.diffusion is not None
    diffusion = sde.diffusion
    m = jax.eval_shape(lambda x: dense_diffusion(diffusion(as_time(0.0), x, None), x), x).shape[1]
    return jax.ShapeDtypeStruct((m,), x.dtype)


def forward(sketch: Sketch, apply: Network, params: Params, keys: Array, ends: Array) -> tuple[Array, dict[str, Array]]:
    """Both passes at once; ``params`` = {"score", "control"}, and the second pass sends no gradient into the first."""
    free, bound = streams(keys, "loss", 2).T
    backward = reverse(sketch.sde, Partial(score, sketch, Partial(apply, jax.lax.stop_gradient(params["score"]))))

    def one(key: Array, end: Array) -> tuple[Array, Array]:
        xs, kept = jax.lax.stop_gradient(backward_path(sketch, backward, key, end))
        errors = control_errors(sketch, sketch.guided(None, end), Partial(apply, params["control"]), xs, end)
        return jnp.where(kept[: errors.size], errors, 0.0), ~kept[0]

    first = jnp.mean(jax.vmap(lambda key: _score_loss(sketch, Partial(apply, params["score"]), key))(free))
    errors, lost = jax.vmap(one)(bound, ends)
    second, lost = jnp.mean(errors), jnp.mean(lost)
    return first + second, {"score": first, "control": second, "lost": lost}


# adjoint ------------------------------------------------------------------------------------------------------------


def _nothing(t: Array, x: Array, args: Args) -> Array:
    return jnp.zeros_like(x)


def adjoint_path(sketch: Sketch, key: Array, end: Array) -> tuple[Array, Array]:
    """``(xs, log_weights)`` of one adjoint path: states (n + 1, d) in the order of time, the log weight at each.

    The weights carry one more factor, exp(-d^2/2) with d the distance from the straight line x_0 -> v in units of
    G sqrt(T). A weight that depends on (t, x, v) alone changes no conditional mean; it says where it is to be accurate,
    and keeps the paths of an explosive -b from outweighing all others: one that leaves d^2 < 50 is given up.
    """
    sde, ts = sketch.sde, sketch.ts
    assert sde.diffusion is not None
    backward = reverse(sde, _nothing)  # drift -b + div a
    assert backward.diffusion is not None
    far, key = _tube(sketch, end), stream(key, "steps")

    def step(carry: PyTree, interval: PyTree) -> tuple[PyTree, Any]:
        y, total = carry
        k, t, u = interval
        noise = normal_like(jax.random.fold_in(key, k), noise_like(sde, y))
        drawn = times_noise(backward.diffusion(sde.T - u, y, None), noise)  # pyright: ignore[reportOptionalCall]
        x = y + (u - t) * backward.drift(sde.T - u, y, None) + jnp.sqrt(u - t) * drawn
        lost = ~(far(t, x) < _FAR)
        x = jnp.where(lost, y, x)
        ratio = _log_step(sde, t, u, x, y) - _log_step(backward, sde.T - u, sde.T - t, y, x)
        total = jnp.where(lost, -jnp.inf, total + ratio)
        return (x, total), (x, total - 0.5 * far(t, x))

    steps = (jnp.arange(ts.size - 1), ts[:-1], ts[1:])
    _, (xs, log_weights) = jax.lax.scan(step, (end, jnp.zeros(())), steps, reverse=True)
    return jnp.concatenate([xs, end[None]]), jnp.append(log_weights, 0.0)


def adjoint(sketch: Sketch, apply: Network, params: Params, keys: Array, ends: Array) -> tuple[Array, dict[str, Array]]:
    """The weighted regression; "ess" is the weights' share at mid-time, "lost" the share of paths given up by t = 0.

    Where all are given up, as when -b explodes from v, there is nothing to learn from: the loss is nan, ``fit`` stops.
    """
    xs, log_weights = jax.lax.stop_gradient(jax.vmap(lambda key, end: adjoint_path(sketch, key, end))(keys, ends))

    def one(xs: Array, end: Array) -> Array:
        return control_errors(sketch, sketch.guided(None, end), Partial(apply, params), xs, end)

    errors = jax.vmap(one)(xs, ends)
    share = jax.nn.softmax(log_weights[:, : errors.shape[1]], axis=0)
    ess = 1.0 / (jnp.sum(share[:, errors.shape[1] // 2] ** 2) * share.shape[0])
    lost = jnp.mean(jnp.isneginf(log_weights[:, 0]))
    loss = jnp.mean(jnp.sum(jnp.where(share > 0, share * errors, 0.0), axis=0))
    return jnp.where(lost < 1, loss, jnp.nan), {"ess": ess, "lost": lost}
