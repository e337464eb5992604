"""Diffusion by momentum on a Lie group: noise enters the velocity alone, which lives in one flat space, the algebra.

    noise       dG = G xi dt,   d xi = -xi dt + sqrt(2) dW            ends uniform on the group, xi standard normal
    learn       s(t, g, xi) = grad_xi log p_t(g, xi)                  a score in flat space: no kernel, no logarithm
    sample      dG = -G xi du,  d xi = (xi + 2 s) du + sqrt(2) dW     on u = T - t, or by its probability flow
                dG = -G xi du,  d xi = (xi + s) du
    loss        min E v |s + (xi_t - E[xi_t | D, given]) / v|^2,      v = Var[xi_t | D, given]

Over a step of length h from (g, xi_0) the turn D, g_t = g e^D, and xi_t are normal where xi_0 and D commute,

    E D = (1 - e^-h) xi_0,    E xi_t = e^-h xi_0,
    Var D = 2h - 3 + 4 e^-h - e^-2h,    Var xi_t = 1 - e^-2h,    Cov = (1 - e^-h)^2,

and with xi_0 ~ N(0, 1) unknown: Var D = 2 (h - 1 + e^-h), Var xi_t = 1, Cov = 1 - e^-h. On a torus, whose elements all
commute, one step is exact and xi_0 is left out of what is given. On other groups a walk of short steps comes before it,
and the last step, 1 / (2 sqrt n) long, gives the target: its error falls with its length h, its variance is 2 / h.

(Zhu et al. 2024, Trivialized Momentum Facilitates Diffusion Generative Modeling on Lie Groups, arXiv 2405.16381, which
takes implicit score matching where elements do not commute.)
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import lineax
import optax
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from bridgejax._checks import check_count, check_number, check_positive
from bridgejax._numerics import linear_combination
from bridgejax._summary import summary
from bridgejax._types import Args, Batch, Field, Key, NoiseFactor, Numbers, Params, State
from bridgejax.geometry.manifolds import SO, SU, Euclidean, Manifold, Product, Torus, U, complex_of, real_pair
from bridgejax.geometry.manifolds._unitary import mm
from bridgejax.methods._arguments import NetworkLike
from bridgejax.methods._setup import Setup
from bridgejax.methods.manifolds import TrivialisedMomentum
from bridgejax.methods.manifolds._fields import (
    FIRST,
    SAMPLERS,
    check_manifold,
    fitted,
    is_flat,
    manifold_method,
    manifold_of,
    points,
    root_grid,
    shown_waves,
)
from bridgejax.networks import or_mlp
from bridgejax.objectives import times
from bridgejax.objectives.times import TimeSampler
from bridgejax.processes import SDE, Process
from bridgejax.processes._keys import streams
from bridgejax.training import Method, adam

_LAST_STEP = 0.5  # over sqrt n, of a walk where elements do not commute: they nearly do for so short


# the group ------------------------------------------------------------------------------------------------------------


def identity(group: Manifold) -> State:
    """The neutral element.

    Raises:
        ValueError: a manifold that is no group.
    """
    if isinstance(group, Product):
        return tuple(map(identity, group.parts))
    if isinstance(group, Torus):
        return jnp.zeros(group.shape)
    if isinstance(group, SO | U | SU):
        eye = jnp.eye(group.n)
        return eye if isinstance(group, SO) else real_pair(eye)
    raise ValueError(f"manifold must be a group, Torus, SO, U, SU or a Product of them, got {group!r}")


def translate(group: Manifold, g: State, xi: State) -> State:
    """g xi, the tangent vector at g of an element of the algebra."""
    if isinstance(group, Product):
        return tuple(translate(*given) for given in zip(group.parts, g, xi, strict=True))
    if isinstance(group, Torus):
        return xi
    return mm(g, xi) if isinstance(group, SO) else real_pair(mm(complex_of(g), complex_of(xi)))


def turn(group: Manifold, g: State, d: State) -> State:
    """g e^d."""
    return group.exp(g, translate(group, g, d))


# the noise ------------------------------------------------------------------------------------------------------------


class _Step(NamedTuple):
    """The normal law of (D, xi_t) over a step: E D / xi_0, E xi_t / xi_0, Var D, Cov, Var[xi_t | D]."""

    turned: Array
    kept: Array
    spread: Array
    covariance: Array
    rest: Array

    __repr__ = summary


def _from_known(h: Array) -> _Step:
    """Of length h, xi_0 being given; Var D = 2/3 h^3 + ... by its series where h is small."""
    gone = -jnp.expm1(-h)
    series = h**3 * (2 / 3 - h / 2 + 7 * h**2 / 30 - h**3 / 12 + 31 * h**4 / 1260)
    spread = jnp.where(h < 0.3, series, 2.0 * h - 2.0 * gone - gone**2)
    return _Step(gone, jnp.exp(-h), spread, gone**2, -jnp.expm1(-2.0 * h) - gone**4 / spread)


def _from_unknown(h: Array) -> _Step:
    """Of length h, xi_0 being N(0, 1); Var D = h^2 - ... likewise."""
    gone = -jnp.expm1(-h)
    series = h**2 * (1.0 - h / 3 + h**2 / 12 - h**3 / 60 + h**4 / 360)
    spread = jnp.where(h < 0.3, series, 2.0 * (h - gone))
    return _Step(jnp.zeros_like(h), jnp.zeros_like(h), spread, gone, 1.0 - gone**2 / spread)


def _size(group: Manifold) -> int:
    """n, the largest of a product."""
    if isinstance(group, Product):
        return max(map(_size, group.parts))
    return 1 if isinstance(group, Torus) else group.shape[-1]


def _advance(group: Manifold, step: _Step, key: Key, g: State, xi: State) -> tuple[State, State, State]:
    """(g, xi) after a step, and xi - E[xi | D, given]."""
    z, w = (group.tangent_normal(k, identity(group)) for k in jax.random.split(key))
    scale = jnp.sqrt(step.spread)
    residual = linear_combination((jnp.sqrt(step.rest), w))
    d = linear_combination((step.turned, xi), (scale, z))
    after = linear_combination((step.kept, xi), (step.covariance / scale, z), (1.0, residual))
    return turn(group, g, d), after, residual


def noised(group: Manifold, key: Key, g: State, t: Array, walk: int) -> tuple[State, State, State, Array]:
    """A draw of g_t and xi_t; of its last step the residual xi_t - E[xi_t | D, given] and its variance.

    The last step is t long on a torus, elsewhere 1 / (2 sqrt n) at most, after ``walk`` steps up to where it begins.
    """
    start, *keys = jax.random.split(key, walk + 2)
    xi = group.tangent_normal(start, identity(group))
    if is_flat(group):
        step = _from_unknown(t)
    else:
        last = jnp.minimum(t, _LAST_STEP / math.sqrt(_size(group)))
        first = _from_known(jnp.maximum((t - last) / walk, 1e-6))

        def move(state: tuple[State, State], key: Key) -> tuple[tuple[State, State], None]:
            return _advance(group, first, key, *state)[:2], None

        g, xi = jax.lax.scan(move, (g, xi), jnp.stack(keys[1:]))[0]
        step = jax.tree.map(partial(jnp.where, t > last), _from_known(last), _from_unknown(last))
    g, xi, residual = _advance(group, step, keys[0], g, xi)
    return g, xi, residual, step.rest


# the model ------------------------------------------------------------------------------------------------------------


def _features(group: Manifold, g: State, xi: State) -> Array:
    return jnp.concatenate([group.features(g), ravel_pytree(xi)[0]])


def _shown(group: Manifold) -> tuple[int, ...]:
    """Shape of what a network is shown."""
    e = identity(group)
    return jax.eval_shape(partial(_features, group), e, e).shape


def _unit(group: Manifold, network: Field, t: Array, g: State, xi: State, args: Args) -> State:
    """What the network says, as an element of the algebra."""
    e = identity(group)
    out = jnp.ravel(network(t, _features(group, g, xi), args))
    return group.to_tangent(e, ravel_pytree(e)[1](out))


def _variance(t: Array) -> Array:
    """Var[xi_t | D] of one step from an unknown xi_0: 2 t / 3 early, 1 late."""
    return _from_unknown(t).rest


def _score(group: Manifold, network: Field, t: Array, g: State, xi: State, args: Args) -> State:
    """-xi - u / sqrt(v): the network's u vanishes late, when g and xi are independent."""
    u = _unit(group, network, t, g, xi, args)
    return linear_combination((-1.0, xi), (-jax.lax.rsqrt(_variance(t)), u))


def _drift(group: Manifold, network: Field, T: float, share: float, s: Array, y: State, args: Args) -> State:
    g, flat = y
    xi = ravel_pytree(identity(group))[1](flat)
    score = _score(group, network, jnp.maximum(T - s, FIRST * T), g, xi, args)
    pull = linear_combination((1.0, xi), (share, score))
    return translate(group, g, linear_combination((-1.0, xi))), ravel_pytree(pull)[0]


def _shake(group: Manifold, w: State) -> State:
    """Noise of the momentum alone."""
    e = identity(group)
    xi = group.tangent_noise(e, ravel_pytree(e)[1](w[1]))
    return jax.tree.map(jnp.zeros_like, w[0]), math.sqrt(2.0) * ravel_pytree(xi)[0]


def _diffusion(group: Manifold, s: Array, y: State, args: Args) -> NoiseFactor:
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), y)
    return lineax.FunctionLinearOperator(partial(_shake, group), like)


def _start(group: Manifold, key: Key, args: Args) -> State:
    place, momentum = jax.random.split(key)
    return group.uniform(place), ravel_pytree(group.tangent_normal(momentum, identity(group)))[0]


def _decode(key: Key, y: State, args: Args) -> State:
    return y[0]


def _root_times(T: float, keys: Array) -> Array:
    """sqrt(t) uniform: as many early times as late ones."""
    return times.uniform(math.sqrt(FIRST * T), math.sqrt(T))(keys) ** 2


def trivialised_momentum(
    manifold: Manifold,
    network: NetworkLike | None = None,
    *,
    T: float = 8.0,
    walk: int = 10,
    time_sampler: TimeSampler | None = None,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = 0.999,
    accumulate: int = 1,
    sampler: str = "ode",
    ts: Numbers | None = None,
) -> Method:
    """Diffusion by trivialised momentum as a Method.

    Args:
        manifold: a group of ``bridgejax.manifolds``: ``Torus``, ``SO``, ``U``, ``SU`` or a ``Product`` of them.
        network: a flax.nnx module or ``(apply, params)``, from ``manifold.features(g)`` and the numbers of xi, one
            behind the other, to as many numbers as a point has; None: an MLP. Its clock is the noising clock.
        T: end of the noise, in units of the time in which a momentum is forgotten; a mode of a circle is left with
            exp(1 - T) of its size.
        walk: steps before the one that gives the target, which is 1 / (2 sqrt n) long at most; none on a torus.
        time_sampler: see ``objectives.times``; default sqrt(t) uniform on the clock, less its first 2e-3.
        optimizer: optax transformation; default Adam at 1e-3 with gradients clipped to norm 1.
        ema: decay of the averaged parameters that the process uses; None: none.
        accumulate: micro-batches per update.
        sampler: "ode" (probability flow) or "sde" (reverse SDE).
        ts: grid of the process on s = T - t; default 200 steps, finer near the data, up to t = 2e-3 T.

    Returns:
        A Method whose data are points of the group with a leading axis, or dictionaries ``x``, ``args``. Its process
        runs on pairs (g, xi), xi as a vector, and ``decode`` gives g; it has no likelihood of g alone.

    Raises:
        ValueError: a manifold that is no group, points off it, T not positive, an unknown sampler.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> method = bj.methods.trivialised_momentum(bj.manifolds.Torus(1))
        >>> state = method.init(jax.random.key(0), jnp.zeros((4, 1)))
        >>> bj.sample(method.process(state), bj.keys(jax.random.key(1), 3)).shape
        (3, 1)
    """
    check_manifold(manifold)
    e = identity(manifold)
    check_number(T=T)
    check_positive(T=T)
    check_count("walk", walk)
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler must be one of {SAMPLERS}, got {sampler!r}")
    size = ravel_pytree(e)[0].size
    apply, initial = or_mlp(network, _shown(manifold), outputs=(size,), time_scale=1.0 / T)
    sampler_of_times = Partial(_root_times, T) if time_sampler is None else time_sampler

    def one(network: Field, key: Key, t: Array, g: State, args: Args) -> Array:
        g, xi, residual, rest = noised(manifold, key, g, t, walk)
        score = _score(manifold, network, t, g, xi, args)
        missed = linear_combination((1.0, score), (1.0 / rest, residual))
        return _variance(t) * manifold.inner(e, missed, missed) / manifold.dim

    def loss(params: Params, keys: Array, batch: Batch) -> tuple[Array, dict[str, Array]]:
        x, args = points(manifold, batch)
        parts = streams(keys, "loss", 2)
        t = sampler_of_times(parts[:, 0])
        return jnp.mean(jax.vmap(one, (None, 0, 0, 0, 0))(Partial(apply, params), parts[:, 1], t, x, args)), {}

    def process(params: Params) -> Process:
        drift = Partial(_drift, manifold, Partial(apply, params), T, 1.0 if sampler == "ode" else 2.0)
        diffusion = None if sampler == "ode" else Partial(_diffusion, manifold)
        sde = SDE(drift, diffusion, T, manifold=Product(manifold, Euclidean(size)))
        grid = root_grid(T, 200) if ts is None else jnp.asarray(ts)
        return Process(Partial(_start, manifold), sde, grid, None, Partial(_decode))

    optimizer = adam(schedule="constant") if optimizer is None else optimizer
    return manifold_method(manifold, loss, process, optimizer, ema, accumulate, initial)


# by name --------------------------------------------------------------------------------------------------------------


def build(options: TrivialisedMomentum, setup: Setup) -> Method:
    """``trivialised_momentum`` by its options."""
    manifold, T = manifold_of(setup), 8.0
    shown, told = _shown(manifold), (ravel_pytree(identity(manifold))[0].size,)
    network = shown_waves(setup, shown, told, T)
    ts = root_grid(T, options.sample_steps or 200)
    return trivialised_momentum(manifold, network, T=T, sampler=options.sampler, ts=ts, **fitted(setup))
