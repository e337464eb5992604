"""Gaussian paths between two points, and the control that is optimal among them for a cost of the state.

Between x_0 and x_1 on [0, 1], with the noise sigma of the reference, take laws N(mu(t), gamma(t)^2 I),

    mu cubic spline through knots, mu(0) = x_0, mu(1) = x_1
    gamma = sigma sqrt(t (1 - t)) r,  r = softplus(spline), r(0) = r(1) = 1

They are the marginals of dx = u dt + sigma dW with u = mu' + (gamma' / gamma - sigma^2 / (2 gamma^2)) (x - mu). With
c = r' / r + (1 - r^-2) / (2 t (1 - t)) the singular part is that of the Brownian bridge:

    u = (x_1 - x) / (1 - t) + [mu' - (x_1 - mu) / (1 - t) + c (x - mu)],      y = x + (1 - t) u  is finite,

and y, where the control points to, is x_1 for the straight path with r = 1. Up to a constant (infinite, the same for
all paths with these ends) the action E int |u|^2 / 2 + V dt is

    J = int |mu' - (x_1 - x_0)|^2 / 2 + d gamma^2 c^2 / 2 + E V(t, mu + gamma eps) dt,

finite only because r = 1 at both ends: a path with another local variance there costs infinitely much. V = 0 gives the
Brownian bridge, V = omega^2 |x|^2 / 2 the Ornstein-Uhlenbeck bridge of rate omega. (Liu et al. 2024, arXiv 2310.02233.)

The exact conditional law is the Brownian bridge weighted by exp(-int V dt / sigma^2). Paths X of the control above have
weights w = exp(-int V dt / sigma^2) dBridge/dPath, the second a ratio of discrete kernels; they are normalised over the
candidates, and nothing is divided by the number of times. Along weighted paths the drift needs no derivative of w:

    forward y = x_1 - int_t^1 (1 - s) grad V(s, X_s) ds,     backward y = x_0 - int_0^t s grad V(s, X_s) ds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from bridgejax._numerics import safe_sqrt
from bridgejax._summary import summary
from bridgejax._types import PyTree, Scalar

_ONE = float(np.log(np.expm1(1.0)))  # softplus of it is 1
_FIRST = 1e-4  # y is read at least this far from an end, where its limit is a quotient of zeros

Cost = Callable[[Array, Array, Array | None], Array]


class GaussianPath(NamedTuple):
    """A path: ``mean`` (K, d), its ends among them, and ``width`` (J,), 0 at both ends, at even knots on [0, 1]."""

    mean: Array
    width: Array

    __repr__ = summary

    def reversed(self) -> GaussianPath:
        """The path from x_1 to x_0, on the clock 1 - t."""
        return GaussianPath(self.mean[::-1], self.width[::-1])


@functools.lru_cache(maxsize=64)
def _curvatures(knots: int) -> np.ndarray:
    """(K, K): h^2 times the second derivatives at even knots, from the values, by the "not a knot" condition."""
    if knots < 4:  # a line, or a parabola
        return np.zeros((2, 2)) if knots == 2 else np.tile([1.0, -2.0, 1.0], (3, 1))
    left, right = np.zeros((knots, knots)), np.zeros((knots, knots))
    for i in range(1, knots - 1):
        left[i, i - 1 : i + 2], right[i, i - 1 : i + 2] = (1.0, 4.0, 1.0), (6.0, -12.0, 6.0)
    left[0, :3] = left[-1, -3:] = (1.0, -2.0, 1.0)
    return np.linalg.solve(left, right)


def spline(values: Array, t: Array) -> Array:
    """The cubic spline through ``values`` (K, ...) at even knots on [0, 1]."""
    knots = values.shape[0]
    place = t * (knots - 1)
    k = jnp.clip(place.astype(jnp.int32), 0, knots - 2)
    b = place - k
    a = 1.0 - b
    bend = jnp.tensordot(jnp.asarray(_curvatures(knots), values.dtype), values, 1)
    return a * values[k] + b * values[k + 1] + ((a**3 - a) * bend[k] + (b**3 - b) * bend[k + 1]) / 6.0


def _moving(values: Array, t: Array) -> tuple[Array, Array]:
    return jax.jvp(lambda t: spline(values, t), (t,), (jnp.ones_like(t),))


def _excess(width: Array, t: Array) -> tuple[Array, Array]:
    """r and c."""
    raw, slope = _moving(width, t)
    r = jax.nn.softplus(raw + _ONE)
    return r, jax.nn.sigmoid(raw + _ONE) * slope / r + (1.0 - r**-2) / (2.0 * t * (1.0 - t))


def deviation(path: GaussianPath, sigma: Scalar, t: Array) -> Array:
    """gamma(t)."""
    return sigma * safe_sqrt(t * (1.0 - t)) * jax.nn.softplus(spline(path.width, t) + _ONE)


def straight(x0: Array, x1: Array, mean_knots: int, width_knots: int) -> GaussianPath:
    """The Brownian bridge."""
    share = jnp.linspace(0.0, 1.0, mean_knots).reshape(-1, *(1,) * x0.ndim)
    return GaussianPath((1.0 - share) * x0 + share * x1, jnp.zeros(width_knots))


def points_to(path: GaussianPath, t: Array, x: Array) -> Array:
    """y = x + (1 - t) u(t, x)."""
    t = jnp.clip(t, _FIRST, 1.0 - _FIRST)
    mean, velocity = _moving(path.mean, t)
    return mean + (1.0 - t) * (velocity + _excess(path.width, t)[1] * (x - mean))


def action(cost: Cost, path: GaussianPath, sigma: Scalar, ts: Array, eps: Array, crowd: Array | None = None) -> Array:
    """J by the mean over times ``ts`` (m,) in (0, 1) and noise ``eps`` (m, draws, d); ``crowd`` (m, ...) or None."""
    whole = path.mean[-1] - path.mean[0]

    def at(t: Array, eps: Array, others: Array | None) -> Array:
        mean, velocity = _moving(path.mean, t)
        gamma, (_, c) = deviation(path, sigma, t), _excess(path.width, t)
        felt = jax.vmap(lambda e: cost(t, mean + gamma * e, others))(eps)
        return 0.5 * jnp.sum((velocity - whole) ** 2) + 0.5 * mean.size * (gamma * c) ** 2 + jnp.mean(felt)

    return jnp.mean(jax.vmap(at, (0, 0, None if crowd is None else 0))(ts, eps, crowd))


def optimise(
    cost: Cost,
    paths: GaussianPath,
    sigma: Scalar,
    key: Array,
    *,
    steps: int,
    rate: float,
    times: int = 16,
    draws: int = 4,
    crowd: int = 0,
) -> GaussianPath:
    """Paths of least action: Adam on all knots but the ends, for a batch of paths at once.

    Args:
        cost: V(t, x, others) of one state; others is (crowd, d), where other paths of the batch are at t, or None.
        paths: where to start, leading axis n.
        sigma: of the reference.
        key: for times and noise.
        steps: of Adam, its rate falling to 0 along a cosine.
        rate: of Adam at first, in units of the data.
        times: stratified times a step.
        draws: of the noise at each, in pairs of opposite sign.
        crowd: how many others a state meets; their positions are held fixed in the gradient, as in a mean-field game.
    """
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))
    inner = GaussianPath(paths.mean[:, 1:-1], paths.width[:, 1:-1])

    def whole(inner: GaussianPath) -> GaussianPath:
        edge = jnp.zeros((inner.width.shape[0], 1))
        mean = jnp.concatenate([paths.mean[:, :1], inner.mean, paths.mean[:, -1:]], axis=1)
        return GaussianPath(mean, jnp.concatenate([edge, inner.width, edge], axis=1))

    def loss(inner: GaussianPath, key: Array) -> Array:
        when, noise, who, where = jax.random.split(key, 4)
        full, (num, _, *shape) = whole(inner), paths.mean.shape
        ts = (jnp.arange(times) + jax.random.uniform(when, (times,), minval=0.02, maxval=0.98)) / times
        eps = jax.random.normal(noise, (num, times, (draws + 1) // 2, *shape))
        eps = jnp.concatenate([eps, -eps], axis=2)
        others = None
        if crowd:
            chosen = jax.tree.map(lambda leaf: leaf[jax.random.randint(who, (crowd,), 0, num)], full)
            z = jax.random.normal(where, (times, crowd, *shape))
            place = jax.vmap(lambda p, t, z: spline(p.mean, t) + deviation(p, sigma, t) * z, (0, None, 0))
            others = jax.lax.stop_gradient(jax.vmap(place, (None, 0, 0))(chosen, ts, z))
        return jnp.sum(jax.vmap(lambda p, e: action(cost, p, sigma, ts, e, others))(full, eps))

    def step(carry: PyTree, key: Array) -> tuple[PyTree, None]:
        inner, state = carry
        updates, state = optimizer.update(jax.grad(loss)(inner, key), state, inner)
        return (optax.apply_updates(inner, updates), state), None

    (inner, _), _ = jax.lax.scan(step, (inner, optimizer.init(inner)), jax.random.split(key, steps))
    return whole(inner)


class Weighted(NamedTuple):
    """Candidate paths between two points: states (S, N + 1, d) and normalised weights (S,)."""

    xs: Array
    weights: Array

    __repr__ = summary


def candidates(
    cost: Cost, path: GaussianPath, sigma: Scalar, key: Array, ts: Array, num: int, crowd: Array | None
) -> Weighted:
    """Paths under the control of ``path``, with the weights of the exact conditional law; ``crowd`` (N + 1, ...)."""
    begin, end = path.mean[0], path.mean[-1]
    share = (1.0 - ts[1:]) / (1.0 - ts[:-1])
    scale = sigma * safe_sqrt(jnp.diff(ts) * share)

    def walk(key: Array) -> tuple[Array, Array]:
        def step(x: Array, now: PyTree) -> tuple[Array, tuple[Array, Array]]:
            t, share, scale, eps = now
            push = scale / sigma**2 * (points_to(path, t, x) - end) / (1.0 - t)  # of the mean, in units of scale
            y = share * x + (1.0 - share) * end + scale * (push + eps)
            return y, (y, -jnp.sum(push * eps + 0.5 * push**2))

        noise = jax.random.normal(key, (ts.shape[0] - 1, *begin.shape))
        _, (ys, ratios) = jax.lax.scan(step, begin, (ts[:-1], share, scale, noise))
        return jnp.concatenate([begin[None], ys]), jnp.sum(ratios)

    xs, ratios = jax.vmap(walk)(jax.random.split(key, num))
    felt = jax.vmap(lambda xs: jax.vmap(cost, (0, 0, None if crowd is None else 0))(ts, xs, crowd))(xs)
    spent = jnp.sum(0.5 * (felt[:, 1:] + felt[:, :-1]) * jnp.diff(ts), axis=1)
    return Weighted(xs, jax.nn.softmax(ratios - spent / sigma**2))


def goals(cost: Cost, xs: Array, ts: Array, crowd: Array | None) -> Array:
    """Forward y at every time but the last, (N, d), along one path of the exact conditional law (N + 1, d)."""
    pull = jax.vmap(jax.grad(cost, argnums=1), (0, 0, None if crowd is None else 0))(ts, xs, crowd)
    pull = (1.0 - ts).reshape(-1, *(1,) * (xs.ndim - 1)) * pull
    slices = 0.5 * (pull[1:] + pull[:-1]) * jnp.diff(ts).reshape(-1, *(1,) * (xs.ndim - 1))
    return xs[-1] - jnp.cumsum(slices[::-1], axis=0)[::-1]
