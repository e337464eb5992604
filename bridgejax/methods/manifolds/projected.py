"""Projected diffusion: diffuse in flat space, project, and learn the drift and covariance of the projected reversal.

    train     z = alpha psi(x) + sigma eps,  y = phi(z)
              min E e^(-l) |m_theta(t, y) - m|^2 + E [l_theta + c e^(-l_theta)]
    sample    y from projected noise, then   y <- exp_y((g^2 / sigma) m_theta h + g sqrt(e^(l_theta) h) xi)

m and c are the drift and covariance of the projected reverse process at z, closed forms (``_lifts``); the second loss
has its least value at e^l = E[c | y], a mean, not that of a root or a gap; the first takes the e^l learnt so far as a
weight, which leaves its minimiser E[m | y] what it is. A process with the drift and the covariance
E[. | y] has the marginals of the projection (Gyongy 1986), so no heat kernel is needed, and no derivative of an
eigendecomposition.

(Mangoubi, He & Vishnoi 2025, arXiv 2505.21640.) Against the code that comes with it: the score's coefficient is g^2 and
not twice that; the start is the law at T, so a schedule that keeps signal is refused; noise matrices have the diagonal
variance that makes their eigenvectors Haar; phases and signs of columns are kept.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import check_number, check_positive
from bridgejax._numerics import linear_combination
from bridgejax._types import Args, Batch, Field, Key, NoiseFactor, Numbers, Params, State
from bridgejax.geometry.manifolds import Manifold
from bridgejax.methods._arguments import NetworkLike
from bridgejax.methods._setup import Setup
from bridgejax.methods.manifolds import Projected
from bridgejax.methods.manifolds._fields import (
    check_manifold,
    fitted,
    manifold_method,
    manifold_of,
    points,
    shown_waves,
)
from bridgejax.methods.manifolds._lifts import Lift, lift_of, normal_of
from bridgejax.networks import or_mlp
from bridgejax.objectives import times
from bridgejax.objectives.times import TimeSampler
from bridgejax.processes import SDE, Process, Schedule, schedules
from bridgejax.processes._keys import streams
from bridgejax.solve import grids
from bridgejax.training import Method, adam

_SIGNAL = 1e-3  # of alpha(T)^2: what of the data's variance is left at T
_LOG_RANGE = 15.0
_LAST = 9.2  # log SNR at the last step, a deviation of 0.01


def _read(lift: Lift, network: Field, t: Array, y: State, args: Args) -> tuple[Array, Array]:
    """m and log c."""
    out = jnp.ravel(network(t, lift.features(y), args))
    size = lift.sizes[0]
    return out[:size], jnp.clip(out[size:], -_LOG_RANGE, _LOG_RANGE)


def _drift(lift: Lift, schedule: Schedule, network: Field, s: Array, y: State, args: Args) -> State:
    t = schedule.T - s
    m = _read(lift, network, t, y, args)[0]
    return linear_combination((schedule.diffusion_squared(t) / schedule.sigma(t), lift.drift(y, m)))


def _diffusion(lift: Lift, schedule: Schedule, network: Field, s: Array, y: State, args: Args) -> NoiseFactor:
    t = schedule.T - s
    return lift.diffusion(y, schedule.diffusion(t), jnp.exp(_read(lift, network, t, y, args)[1]))


def _shapes(lift: Lift) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of what a network is shown, and of what it says: m and log c."""
    shown = jax.eval_shape(lambda key: lift.features(normal_of(lift, key)), jax.random.key(0)).shape
    return shown, (sum(lift.sizes),)


def _grid(steps: int, schedule: Schedule) -> Array:
    return grids.log_snr(steps, schedule, log_snr_max=_LAST)


def _start(lift: Lift, key: Key, args: Args) -> State:
    return normal_of(lift, key)


def _decode(lift: Lift, key: Key, y: State, args: Args) -> State:
    return lift.decode(y)


def projected(
    manifold: Manifold,
    network: NetworkLike | None = None,
    *,
    schedule: Schedule | None = None,
    floor: float = 0.1,
    spacing: float = 1.0,
    reference: Numbers | None = None,
    time_sampler: TimeSampler | None = None,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = 0.999,
    accumulate: int = 1,
    ts: Numbers | None = None,
) -> Method:
    """Projected diffusion as a Method.

    Args:
        manifold: a ``Torus``, ``Sphere``, ``SO`` or ``U`` of ``bridgejax.manifolds``.
        network: a flax.nnx module or ``(apply, params)``, from the features of a state to m and log c; None: an MLP.
            Its clock is the noising clock.
        schedule: of the flat noise, with little signal left at T; default ``schedules.vp()``.
        floor: gaps between eigenvalues (lengths, on a sphere) below ``floor * sigma(t)`` count as that; the share of
            them is the metric ``clipped``. SO(n) and the circle need it, since their covariances have no mean.
        spacing: of the eigenvalues that a matrix of a group is given.
        reference: a point of the group; phases and signs of columns are counted from its columns. The nearest point to
            the mean of the data serves best where they have a middle; None: the identity.
        time_sampler: see ``objectives.times``; default uniform on [1e-3 T, T].
        optimizer: optax transformation; default Adam at 1e-3 with gradients clipped to norm 1.
        ema: decay of the averaged parameters that the process uses; None: none.
        accumulate: micro-batches per update.
        ts: grid of the process; default 200 steps even in log SNR, up to sigma = 0.01.

    Returns:
        A Method whose data are points of the manifold with a leading axis, or dictionaries ``x``, ``args``. Its process
        runs on frames and phases on U(n) and SO(n), and ``decode`` gives matrices.

    Raises:
        ValueError: another manifold, points off it, a schedule that keeps signal at T, floor or spacing not positive.
    """
    check_manifold(manifold)
    check_number(floor=floor, spacing=spacing)
    check_positive(floor=floor, spacing=spacing)
    lift = lift_of(manifold, float(spacing), reference)
    schedule = schedules.vp() if schedule is None else schedule
    if not isinstance(schedule, Schedule) or float(schedule.alpha(schedule.T)) ** 2 > _SIGNAL:
        raise ValueError(
            "schedule must be a Schedule that ends in noise, alpha(T)^2 <= 1e-3, for the start is noise projected; "
            "use schedules.vp() or cosine()"
        )
    spreads, (shown, told) = lift.sizes[1], _shapes(lift)
    apply, initial = or_mlp(network, shown, outputs=told, time_scale=1.0 / schedule.T)
    sampler = times.uniform(1e-3 * schedule.T, schedule.T) if time_sampler is None else time_sampler
    grid = _grid(200, schedule) if ts is None else jnp.asarray(ts)

    def one(network: Field, key: Key, t: Array, x: State, args: Args) -> tuple[Array, Array, Array]:
        sigma = schedule.sigma(t)
        eps = lift.noise(key)
        z = jax.tree.map(lambda a, b: schedule.alpha(t) * a + sigma * b, lift.up(x), eps)
        ratio = -schedule.rate(t) * sigma / schedule.diffusion_squared(t)
        made = lift.targets(z, eps, ratio, floor * sigma)
        m, log_c = _read(lift, network, t, made.y, args)
        spread = jnp.sum(log_c + made.c * jnp.exp(-log_c)) / max(spreads, 1)
        weights = jax.lax.stop_gradient(lift.weights(log_c))  # a function of t and y: the best m stays E[m | y]
        return jnp.sum(weights * (m - made.m) ** 2) / manifold.dim, spread, made.clipped

    def loss(params: Params, keys: Array, batch: Batch) -> tuple[Array, dict[str, Array]]:
        x, args = points(manifold, batch)
        parts = streams(keys, "loss", 2)
        terms = jax.vmap(one, (None, 0, 0, 0, 0))(Partial(apply, params), parts[:, 1], sampler(parts[:, 0]), x, args)
        drift, spread, clipped = (jnp.mean(term) for term in terms)
        return drift + spread, {"drift": drift, "spread": spread, "clipped": clipped}

    def process(params: Params) -> Process:
        bound = lift, schedule, Partial(apply, params)
        noise = "state" if spreads else "additive"
        sde = SDE(Partial(_drift, *bound), Partial(_diffusion, *bound), schedule.T, noise, manifold=lift.state)
        return Process(Partial(_start, lift), sde, grid, None, Partial(_decode, lift))

    optimizer = adam(schedule="constant") if optimizer is None else optimizer
    return manifold_method(manifold, loss, process, optimizer, ema, accumulate, initial)


# by name --------------------------------------------------------------------------------------------------------------


SCHEDULES = {"vp": schedules.vp, "cosine": schedules.cosine}


def build(options: Projected, setup: Setup) -> Method:
    """``projected`` by its options."""
    manifold, schedule = manifold_of(setup), SCHEDULES[options.schedule]()
    shown, told = _shapes(lift_of(manifold))
    network = shown_waves(setup, shown, told, schedule.T)
    ts = _grid(options.sample_steps or 200, schedule)
    return projected(manifold, network, schedule=schedule, ts=ts, **fitted(setup))
