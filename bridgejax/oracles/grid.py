"""The truth on the line: densities and conditional expectations of a one-dimensional SDE, on a grid of cells.

For dx = b dt + g dW (Ito, Sigma = g^2, noise that depends on x included) on an interval with reflecting walls,

    forward   dp/dt = -d/dx J,    J = b p - (1/2) d/dx (Sigma p),    J = 0 at the walls      (Fokker-Planck)
    backward  -du/dt = b du/dx + (1/2) Sigma d^2u/dx^2,    u(t, x) = E[f(X_T) | X_t = x]     (Kolmogorov)

The flux through a face is the exact flux of the problem with b / Sigma frozen there (Scharfetter & Gummel 1969),

    J = (B(-w) Sigma_i p_i - B(w) Sigma_j p_j) / (2 dx),      w = 2 dx b / Sigma at the face,   B(z) = z / (e^z - 1),

so the discrete process is a Markov chain that jumps to neighbouring cells, for every dx and every drift: rates are
never negative, mass is conserved, and the backward operator L is exactly the transpose of the forward one. Time steps:

    order 1   R = (I - dt L)^-1                                            positive for every dt
    order 2   R = (I - a dt L)^-2 (I + (1 - 2a) dt L),  a = 1 - 1/sqrt(2)  positive for dt |L_ii| <= 1 / (1 - 2a) = 2.4

(implicit Euler; the L-stable SDIRK method of Alexander 1977), L at the middle of the step. Both damp what the step does
not resolve at once, where Crank-Nicolson rings on: from a point, order 2 with steps ten times its bound undershoots by
8 % of the peak in the first step and by nothing from the second on. Forward and backward take the same steps,
transposed: sum_i p_i u_i is constant in time to rounding.

The h-transform of the SDE by h = u is ``doob(sde, grad_log_h(xs, ts, u))``, its marginals are p u / sum(p u).
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial

from bridgejax._checks import as_real, check_count, check_finite, check_number
from bridgejax._numerics import TINY, as_time
from bridgejax._types import Args, Numbers, Scalar, Time
from bridgejax.processes.noise import covariance_times
from bridgejax.processes.sde import SDE, check_flat, check_sde

__all__ = ["backward", "bridge_marginals", "cells", "forward", "grad_log_h", "point"]


def __dir__() -> list[str]:
    return __all__


_A = 1.0 - math.sqrt(0.5)


# the grid ---------------------------------------------------------------------------------------------------------


def cells(low: float, high: float, n: int) -> Array:
    """Centres of ``n`` equal cells that fill [low, high], shape ``(n,)``."""
    check_number(low=low, high=high)
    n = check_count("n", n, 0)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"low and high must be finite with low < high, got {low} and {high}")
    if n < 3:
        raise ValueError(f"n must be at least 3 cells, got {n}")
    width = (high - low) / n
    return jnp.asarray(low + width * (np.arange(n) + 0.5), jnp.result_type(float))


def point(x: Scalar, xs: Array) -> Array:
    """Density of a unit mass at ``x`` on the cells ``xs``, ``(n,)``: shared by two cells so that its mean is x.

    As a start it gives the transition density; as the terminal value of ``backward``, the density of X_T at x.

    Raises:
        ValueError: x outside the cells.
    """
    check_number(x=x)
    xs = _check_cells(xs)
    dx = xs[1] - xs[0]
    if not (isinstance(x, Tracer) or isinstance(xs, Tracer)) and not bool(xs[0] <= x <= xs[-1]):
        raise ValueError(f"x must lie between the first and the last cell centre, got {x}")
    return jnp.maximum(1.0 - jnp.abs(xs - x) / dx, 0.0) / dx


def _check_cells(xs: Numbers) -> Array:
    xs = as_real(xs, "xs").astype(jnp.result_type(float))
    if xs.ndim != 1 or xs.size < 3:
        raise ValueError(f"xs must hold at least 3 cell centres in one axis, got shape {xs.shape}; see grid.cells")
    if isinstance(xs, Tracer):
        return xs
    check_finite(xs=xs)
    gaps = np.diff(np.asarray(xs, np.float64))
    # rounding of the centres themselves, relative to their size
    slack = 8 * float(jnp.finfo(xs.dtype).eps) * float(np.abs(np.asarray(xs)).max())
    if not (np.all(gaps > 0) and np.ptp(gaps) <= slack + 1e-6 * float(gaps.mean())):
        raise ValueError("xs must increase in equal steps; see grid.cells")
    return xs


def _check_times(sde: SDE, ts: Numbers) -> Array:
    ts = as_time(as_real(ts, "ts").astype(jnp.result_type(float)))
    host = np.asarray(ts, np.float64)
    if host.ndim != 1 or host.size < 2 or not np.all(np.diff(host) > 0):
        raise ValueError(f"ts must hold at least two increasing times in one axis, got shape {host.shape}")
    if host[0] < 0 or host[-1] > sde.T * (1 + 1e-6):
        raise ValueError(f"ts must lie within the SDE's clock [0, {sde.T:g}], got {host[0]:g} to {host[-1]:g}")
    return ts


# the chain --------------------------------------------------------------------------------------------------------


def _scalar(value: Numbers) -> Array:
    return jnp.reshape(jnp.asarray(value), ())


def _variances(sde: SDE, t: Array, xs: Array, args: Args) -> Array:
    assert sde.diffusion is not None
    diffusion = sde.diffusion
    return jax.vmap(lambda x: _scalar(covariance_times(diffusion(t, x, args), jnp.ones_like(x))))(xs)


def _bernoulli(z: Array) -> Array:
    """z / (e^z - 1), 1 at 0."""
    small = z == 0
    return jnp.where(small, 1.0, z / jnp.where(small, 1.0, jnp.expm1(z)))


def _rates(sde: SDE, xs: Array, t: Array, args: Args) -> tuple[Array, Array]:
    """Rates of the jumps i -> i + 1 and i + 1 -> i, through each of the n - 1 inner faces."""
    dx, faces = (xs[-1] - xs[0]) / (xs.size - 1), 0.5 * (xs[1:] + xs[:-1])
    drift = jax.vmap(lambda x: _scalar(sde.drift(t, x, args)))(faces)
    w = 2.0 * dx * drift / _variances(sde, t, faces, args)
    half = 0.5 * _variances(sde, t, xs, args) / dx**2
    return _bernoulli(-w) * half[:-1], _bernoulli(w) * half[1:]


def _bands(rates: tuple[Array, Array], *, transpose: bool) -> tuple[Array, Array, Array]:
    """Lower, main and upper diagonal of L (acts on expectations), or of its transpose (acts on densities)."""
    right, left = rates
    main = -jnp.pad(right, (0, 1)) - jnp.pad(left, (1, 0))
    below, above = (right, left) if transpose else (left, right)
    return jnp.pad(below, (1, 0)), main, jnp.pad(above, (0, 1))


def _apply(bands: tuple[Array, Array, Array], scale: Array, v: Array) -> Array:
    """(I + scale L) v for v of shape ``(n, k)``."""
    lower, main, upper = (band[:, None] for band in bands)
    return v + scale * (lower * jnp.roll(v, 1, axis=0) + main * v + upper * jnp.roll(v, -1, axis=0))


def _solve(bands: tuple[Array, Array, Array], scale: Array, v: Array) -> Array:
    """(I - scale L)^-1 v."""
    lower, main, upper = bands
    return jax.lax.linalg.tridiagonal_solve(-scale * lower, 1.0 - scale * main, -scale * upper, v)


def _step(bands: tuple[Array, Array, Array], dt: Array, v: Array, order: int) -> Array:
    if order == 1:
        return _solve(bands, dt, v)
    return _solve(bands, _A * dt, _solve(bands, _A * dt, _apply(bands, (1.0 - 2.0 * _A) * dt, v)))


@partial(jax.jit, static_argnames=("order", "substeps", "transpose"))
def _march(
    sde: SDE, start: Array, xs: Array, ts: Array, args: Args, *, order: int, substeps: int, transpose: bool
) -> Array:
    """States at the ends of the intervals of ``ts``, in the order in which they are taken (forward: transposed)."""

    def interval(v: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        first, last = ends
        dt = (last - first) / substeps

        def substep(k: Array, v: Array) -> Array:
            bands = _bands(_rates(sde, xs, first + (k + 0.5) * dt, args), transpose=transpose)
            return _step(bands, jnp.abs(dt).astype(v.dtype), v, order)

        v = jax.lax.fori_loop(0, substeps, substep, v)
        return v, v

    ends = (ts[:-1], ts[1:]) if transpose else (ts[:0:-1], ts[-2::-1])
    return jax.lax.scan(interval, start, ends)[1]


@jax.jit
def _least_variance(sde: SDE, xs: Array, ts: Array, args: Args) -> Array:
    """The least Sigma on the faces, in the first interval."""
    return jnp.min(_variances(sde, 0.5 * (ts[0] + ts[1]), 0.5 * (xs[1:] + xs[:-1]), args))


def _run(
    sde: object,
    values: Numbers,
    name: str,
    xs: Numbers,
    ts: Numbers,
    args: Args,
    *,
    order: int,
    substeps: int,
    transpose: bool,
) -> Array:
    if not isinstance(sde, SDE) or sde.diffusion is None:
        raise ValueError(
            f"sde must be an SDE with noise, got {'an ODE' if isinstance(sde, SDE) else type(sde).__name__}"
        )
    if isinstance(order, bool) or not isinstance(order, int) or order not in (1, 2):
        raise ValueError(f"order must be 1 (positive for every step) or 2, got {order!r}")
    substeps = check_count("substeps", substeps)
    check_sde(sde)
    check_flat(sde, "a grid of cells")
    xs, ts = _check_cells(xs), _check_times(sde, ts)
    values = as_real(values, name).astype(xs.dtype)
    check_finite(**{name: values})
    if values.ndim not in (1, 2) or values.shape[0] != xs.size:
        raise ValueError(f"{name} must have shape [{xs.size}] or [{xs.size}, k], got shape {values.shape}")
    smallest = _least_variance(sde, xs, ts, args)
    if not isinstance(smallest, Tracer) and not smallest > 0:
        raise ValueError(f"the diffusion of sde must not vanish between the cells, got g^2 = {float(smallest):g}")
    start = values.reshape(xs.size, -1)
    states = _march(sde, start, xs, ts, args, order=order, substeps=substeps, transpose=transpose)
    path = jnp.concatenate([start[None], states])
    return (path if transpose else path[::-1]).reshape(ts.size, *values.shape)


def forward(
    sde: SDE, density0: Numbers, xs: Numbers, ts: Numbers, args: Args = None, *, order: int = 2, substeps: int = 1
) -> Array:
    """Densities at the times ``ts`` of the SDE started with ``density0`` at ``ts[0]``, walls reflecting.

    Second order in the cell width, and of the given order in the step. Mass is conserved to rounding. Order 2 is
    positive to within its own error (exactly so for steps below 2.4 / |L_ii|, |L_ii| about Sigma / dx^2).

    Args:
        sde: a one-dimensional SDE; drift and diffusion are called with x of shape ``()``.
        density0: ``[n]`` values at the cell centres, or ``[n, k]`` for k densities at once; see ``point``.
        xs: ``[n]`` cell centres in equal steps, see ``cells``.
        ts: increasing times within [0, T].
        args: passed to the SDE.
        order: 2, or 1 (implicit Euler) for positivity whatever the step.
        substeps: equal steps per interval of ``ts``.

    Returns:
        ``[len(ts), n]`` or ``[len(ts), n, k]``; the first is density0.

    Raises:
        ValueError: an ODE, cells that are not equal, times outside the clock, or wrong shapes.
    """
    return _run(sde, density0, "density0", xs, ts, args, order=order, substeps=substeps, transpose=True)


def backward(
    sde: SDE, terminal: Numbers, xs: Numbers, ts: Numbers, args: Args = None, *, order: int = 2, substeps: int = 1
) -> Array:
    """u(t, x) = E[f(X_T) | X_t = x] at the times ``ts``, with f = ``terminal`` at ``ts[-1]``.

    With the same grid and steps as ``forward`` the two are exactly adjoint.

    Args:
        sde: a one-dimensional SDE.
        terminal: ``[n]`` values of f at the cell centres (an indicator, a likelihood, ``point``), or ``[n, k]``.
        xs: as in ``forward``.
        ts: as in ``forward``.
        args: passed to the SDE.
        order: as in ``forward``.
        substeps: as in ``forward``.

    Returns:
        ``[len(ts), n]`` or ``[len(ts), n, k]``; the last is terminal.

    Raises:
        ValueError: as ``forward``.
    """
    return _run(sde, terminal, "terminal", xs, ts, args, order=order, substeps=substeps, transpose=False)


# conditioning -----------------------------------------------------------------------------------------------------


def bridge_marginals(p: Array, h: Array, xs: Array) -> Array:
    """Densities p h / int p h of the SDE conditioned by h, ``[len(ts), n]``, from ``forward`` and ``backward``."""
    p, h, xs = as_real(p, "p"), as_real(h, "h"), as_real(xs, "xs")
    if p.shape != h.shape or p.shape[-1:] != xs.shape:
        raise ValueError(
            f"p and h must both have shape [len(ts), n] for n cells xs, got {p.shape}, {h.shape}, {xs.shape}"
        )
    joint = p * h
    return joint / (jnp.sum(joint, axis=-1, keepdims=True) * (xs[1] - xs[0]))


def _interpolate(xs: Array, ts: Array, table: Array, t: Time, x: Array, args: Args) -> Array:
    """Bilinear in (t, x), constant beyond the ends."""
    i = jnp.clip(jnp.searchsorted(ts, t, side="right") - 1, 0, ts.size - 2)
    j = jnp.clip(((x - xs[0]) / (xs[1] - xs[0])).astype(jnp.int32), 0, xs.size - 2)
    late = jnp.clip((t - ts[i]) / (ts[i + 1] - ts[i]), 0.0, 1.0)
    right = jnp.clip((x - xs[j]) / (xs[j + 1] - xs[j]), 0.0, 1.0)
    low, high = (table[i + k, j] * (1.0 - right) + table[i + k, j + 1] * right for k in (0, 1))
    return jnp.asarray(low * (1.0 - late) + high * late, x.dtype)


def grad_log_h(xs: Array, ts: Array, h: Array) -> Partial:
    """``grad_log_h(t, x, args)`` for ``doob``, from the values h that ``backward`` gave, ``[len(ts), n]``.

    Central differences of log h at the cell centres, bilinear in between, constant outside. Where h is below 1e-30 it
    is flat: far tails of h, which no grid resolves, pull nowhere. With a ``point`` as terminal value the last two
    intervals are not resolved either: let ``ts`` grow denser towards its end. x is a scalar or any array (elementwise).
    """
    xs, ts, h = as_real(xs, "xs"), as_real(ts, "ts"), as_real(h, "h")
    if h.shape != (ts.size, xs.size):
        raise ValueError(f"h must have shape [{ts.size}, {xs.size}], one row per time, got {h.shape}")
    slope = jnp.gradient(jnp.log(jnp.maximum(h, TINY)), xs[1] - xs[0], axis=1)
    return Partial(_interpolate, xs, ts, slope)
