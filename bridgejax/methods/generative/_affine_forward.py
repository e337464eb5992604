"""A forward process with an affine score in its drift: exact laws, its reversal, and the step that improves it.

    forward      dx = [f x + g^2 u] dt + g dW,   u(t, x) = A(t) x + b(t),      x_t | x_0 ~ N(Phi x_0 + m, S)
    backward     dx = [-f x - g^2 u + g^2 s] ds + g dW on the clock T - t,     s(t, x) = grad log p_t(x)
    update       (A, b) <- (A, b) + eta ((A, b)* - (A, b)) where (A, b)* minimises, over paths of the backward process,
                     J = E int g^2 [ |u|^2 / 2 + u . (s - u_old) + div u ] dt,      div u = tr A

With q_t the law of the backward paths, J + const = E int g^2 |u - (grad log q_t - s + u_old)|^2 / 2 dt: the half-step
of iterative proportional fitting projected on affine functions. J is quadratic in (A, b), so the update is a gradient
step in the metric of its Hessian. A and b are linear in time between K even knots. (Deng et al. 2024, arXiv
2405.04795, whose A is c(t) times a constant matrix, without b.)

Phi, m and S come from one integrator (``linear.LinearSDE``), so that mean and covariance belong to one process at every
t, whether or not A(s) and A(t) commute. The bias b is what data that are not centred need.

What damps is eta. A factor zeta on div u instead moves the fixed point: it is then where the forward covariance is
1 / zeta times the backward one, so that the end of the forward process misses the prior.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from bridgejax._numerics import dtype_of, safe_divide
from bridgejax._summary import summary
from bridgejax._types import Args, Field
from bridgejax.bridges._reverse import probability_flow, reverse
from bridgejax.processes._schedule import Schedule, schedule_diffusion
from bridgejax.processes.linear import Gaussian, LinearSDE, factor
from bridgejax.processes.sde import SDE, Kernel

PANELS = 4  # Magnus panels from one knot to the next


class Forward(NamedTuple):
    """The forward process: A and b at K even knots, and the law of x at each of them given x_0.

    Attributes:
        slope: (K, d, d), A.
        shift: (K, d), b.
        law: phi (K, d, d), shift (K, d), cov (K, d, d).
    """

    slope: Array
    shift: Array
    law: Gaussian

    __repr__ = summary


# the forward process --------------------------------------------------------------------------------------------------


def _place(knots: int, T: float, t: Array) -> tuple[Array, Array]:
    """The knot before t, and how far t is from it in units of their distance."""
    place = jnp.asarray(t) / T * (knots - 1)
    k = jnp.clip(place.astype(jnp.int32), 0, knots - 2)
    return k, place - k


def _at(values: Array, T: float, t: Array) -> Array:
    k, share = _place(values.shape[0], T, t)
    return values[k] + share * (values[k + 1] - values[k])


def _matrix(schedule: Schedule, slope: Array, t: Array) -> Array:
    return schedule.rate(t) * jnp.eye(slope.shape[-1]) + schedule.diffusion_squared(t) * _at(slope, schedule.T, t)


def _vector(schedule: Schedule, shift: Array, t: Array) -> Array:
    return schedule.diffusion_squared(t) * _at(shift, schedule.T, t)


def _root(schedule: Schedule, shift: Array, t: Array) -> Array:
    return schedule.diffusion(t) * jnp.eye(shift.shape[-1])


def linear_sde(schedule: Schedule, slope: Array, shift: Array, panels: int = PANELS) -> LinearSDE:
    """dx = [f x + g^2 (A x + b)] dt + g dW, A and b linear between even knots: slope (K, d, d), shift (K, d)."""
    A, b, L = Partial(_matrix, schedule, slope), Partial(_vector, schedule, shift), Partial(_root, schedule, shift)
    return LinearSDE(A, b, L, schedule.T, panels)


def _then(first: Gaussian, second: Gaussian) -> Gaussian:
    cov = second.phi @ first.cov @ second.phi.T + second.cov
    return Gaussian(second.phi @ first.phi, second.phi @ first.shift + second.shift, cov)


def make_forward(schedule: Schedule, slope: Array, shift: Array) -> Forward:
    """A forward process from its values at the knots, with its law there."""
    linear, d = linear_sde(schedule, slope, shift), slope.shape[-1]
    ts = jnp.linspace(0.0, schedule.T, slope.shape[0])

    def interval(so_far: Gaussian, ends: tuple[Array, Array]) -> tuple[Gaussian, Gaussian]:
        law = _then(so_far, linear.transition(*ends))
        return law, law

    clean = Gaussian(jnp.eye(d), jnp.zeros(d), jnp.zeros((d, d)))
    _, laws = jax.lax.scan(interval, clean, (ts[:-1], ts[1:]))
    return Forward(slope, shift, jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), clean, laws))


def law(schedule: Schedule, forward: Forward, t: Array) -> Gaussian:
    """(Phi, m, S) of x_t given x_0, exact at every t: from the knot before it."""
    k, _ = _place(forward.shift.shape[0], schedule.T, t)
    before = jax.tree.map(lambda leaf: leaf[k], forward.law)
    knot = k * (schedule.T / (forward.shift.shape[0] - 1))
    return _then(before, linear_sde(schedule, forward.slope, forward.shift).transition(knot, t))


# the backward process -------------------------------------------------------------------------------------------------


def noise(cov: Array, eps: Array) -> Array:
    """L eps."""
    scale, chol = factor(cov)
    return scale * (chol @ eps)


def minus_score(cov: Array, eps: Array) -> Array:
    """L^-T eps."""
    scale, chol = factor(cov)
    return safe_divide(jax.scipy.linalg.solve_triangular(chol, eps, trans=1, lower=True), scale)


def score_of_eps(schedule: Schedule, forward: Forward, network: Field, t: Array, x: Array, args: Args) -> Array:
    """-L^-T eps, from a network that predicts eps."""
    return -minus_score(law(schedule, forward, t).cov, network(t, x, args))


def _terminal_sample(
    schedule: Schedule, forward: Forward, score: Field, key: Array, s: Array, v: Array, x: Array, args: Args
) -> Array:
    """E[x_0 | x_t] = Phi^-1 (x - m + S s)."""
    t = schedule.T - jnp.asarray(s)
    phi, shift, cov = law(schedule, forward, t)
    return jnp.linalg.solve(phi, x - shift + cov @ score(t, x, args))


def _forward_drift(linear: LinearSDE, t: Array, x: Array, args: Args) -> Array:
    A, b, _ = linear.coefficients(t)
    return (A @ x + b).astype(dtype_of(x))


def forward_sde(schedule: Schedule, forward: Forward) -> SDE:
    """Data to prior, on the noising clock; with ``ts=[0, T]`` one exact step."""
    linear = linear_sde(schedule, forward.slope, forward.shift, PANELS * (forward.shift.shape[0] - 1))
    law = linear.sde().terminal_kernel  # exact for any step
    drift, diffusion = Partial(_forward_drift, linear), Partial(schedule_diffusion, schedule)
    return SDE(drift, diffusion, schedule.T, terminal_kernel=law, kernel=law)


def backward_sde(schedule: Schedule, forward: Forward, score: Field, sampler: str = "sde") -> SDE:
    """Prior to data, as an SDE or ("ode") as its probability flow; its last step ends at E[x_0 | x_t]."""
    made = (reverse if sampler == "sde" else probability_flow)(forward_sde(schedule, forward), score)
    return dataclasses.replace(
        made, terminal_kernel=Kernel(Partial(_terminal_sample, schedule, forward, score), T=schedule.T)
    )


# the update of A and b ------------------------------------------------------------------------------------------------


def variational_update(
    schedule: Schedule, forward: Forward, score: Field, ts: Array, xs: Array, args: Args, gain: Array
) -> tuple[Array, Array]:
    """One step of the stochastic approximation, from paths of the backward process.

    Args:
        schedule: the reference.
        forward: the old A and b.
        score: ``score(t, x, args)`` of the backward process.
        ts: (m + 1,), times of the paths on the noising clock, in either direction; the last is not used.
        xs: (n, m, d), the paths.
        args: conditions of the paths, or None.
        gain: eta.

    Returns:
        New slope (K, d, d) and shift (K, d).
    """
    (knots, d), weight = forward.shift.shape, jnp.abs(jnp.diff(ts)) * jax.vmap(schedule.diffusion_squared)(ts[:-1])

    def moments(t: Array, x: Array) -> tuple[Array, Array]:
        """E y y^T and the gradient E (s - u) y^T + (I, 0) at u = 0, for y = (x, 1)."""
        pull = jax.vmap(score, (None, 0, 0))(t, x, args)
        pull = pull - x @ _at(forward.slope, schedule.T, t).T - _at(forward.shift, schedule.T, t)
        y = jnp.concatenate([x, jnp.ones((x.shape[0], 1))], axis=1)
        return y.T @ y / x.shape[0], pull.T @ y / x.shape[0] + jnp.eye(d, d + 1)

    second, slope_of_j = jax.lax.map(lambda one: moments(*one), (ts[:-1], jnp.moveaxis(xs, 1, 0)))
    k, share = jax.vmap(lambda t: _place(knots, schedule.T, t))(ts[:-1])
    hats = jax.nn.one_hot(k, knots) * (1.0 - share)[:, None] + jax.nn.one_hot(k + 1, knots) * share[:, None]
    size = knots * (d + 1)
    hessian = jnp.einsum("j,jk,jl,jab->kalb", weight, hats, hats, second).reshape(size, size)
    linear = jnp.einsum("j,jk,joa->kao", weight, hats, slope_of_j).reshape(size, d)
    old = jnp.concatenate([jnp.swapaxes(forward.slope, 1, 2), forward.shift[:, None]], axis=1).reshape(size, d)
    ridge = 1e-6 * jnp.trace(hessian) / size * jnp.eye(size)  # what the paths say nothing about stays
    new = (old - gain * jnp.linalg.solve(hessian + ridge, hessian @ old + linear)).reshape(knots, d + 1, d)
    return jnp.swapaxes(new[:, :d], 1, 2), new[:, d]
