"""The probability simplex {y >= 0, sum y = 1} in R^K, and the Gaussian restricted to it.

The restricted Gaussian is that of K independent half-normals given their sum, so that one integral holds everything.
In units of the noise, x = y / sqrt(v), g = mean / sqrt(v), B = 1 / sqrt(v), and with the truncated moments

    E_n(t) = int_0^inf x^n exp(-x^2/2 + t x) dx,      m(t) = E_1 / E_0,      h(t) = 1 / E_0 = m(t) - t,

the Laplace transform of a sum is a product, and its inverse an integral along a line in the complex plane:

    Z  ~ 1/(2 pi i) int  prod_k E_0(g_k - q)  exp(q B)  dq,        E[x_k] = < m(g_k - q) >,
    Cov(x_k, x_l) = Cov< m(g_k - q), m(g_l - q) > + 1[k = l] < m'(g_k - q) >,

where <.> is the mean under the (complex) integrand. There is no elementary form for K > 2, but the line may be bent:
it is led through the saddle, the real tilt q* at which the tilted half-normals have means that add up to B, and opens
to the left as a hyperbola near the path of steepest descent. There the integrand falls off like a Gaussian whatever K
and v, and the trapezoidal rule with 32 nodes (Trefethen & Weideman 2014, SIAM Review 56(3)) errs by at most 3e-8 in
E[y] and 5e-8 in log Z, in float64 against 1000 nodes for K = 2 to 256 and v = 1e-6 to 1e6. The error of Cov(x), and so
of dE/dmean, is small beside 1 (about 1e-5 at worst), not beside the covariance itself where v >> 1. The cost is O(K).

Everything is relative to the Euclidean projection p of the mean, y = p + sqrt(v) (x - b), b = p / sqrt(v), so nothing
cancels as v vanishes: there the law is p itself. As v grows it is the uniform law.

E_n has no stable elementary form either: on Re t <= 0 it is a Laguerre series, exact at infinity,

    E_n(t) = sum_j d_j z^j / (a - t)^(n+1),    z = (t + a) / (t - a),      a = 5, 24 terms: 1e-7,

and on Re t > 0 the whole Gaussian integral less that of -t.

Draws are exact, by rejection: all coordinates but the one of greatest variance from the tilted half-normals, that one
from the sum, accepted with its own tilted density over the greatest. About one in sqrt(K) to 2.5 sqrt(K) is accepted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import PyTree
from bridgejax.geometry._domain import TINY, dtype_of, floored, in_float32

_A, _TERMS = 5.0, 24
_NODES, _STEP = 32, 0.2
_SLOPE = 0.7  # of the hyperbola's arms: below 1, where exp(t^2 / 2) grows
_WIDEST = 2.0  # where they open at the latest, in standard deviations
_ROOT = math.sqrt(2.0 * math.pi)
_PROPOSALS = 8
_TAIL = -5.0  # standard deviations from where half-normals are drawn by rejection


def _series(n: int) -> np.ndarray:
    """d_j = (2 a)^(n+1) int x^n exp(-x^2/2 - a x) L_j^(n)(2 a x) dx, by Gauss-Legendre in float64."""
    x, w = np.polynomial.legendre.leggauss(400)
    x, w = 7.0 * (1.0 + x), 7.0 * w
    mass, before, now = w * x**n * np.exp(-0.5 * x**2 - _A * x), np.zeros_like(x), np.ones_like(x)
    found = []
    for j in range(_TERMS):
        found.append((2.0 * _A) ** (n + 1) * np.sum(mass * now))
        before, now = now, ((2 * j + 1 + n - 2.0 * _A * x) * now - (j + n) * before) / (j + 1)
    return np.asarray(found)


_SERIES = np.stack([_series(n) for n in range(3)])


def _left(t: Array) -> tuple[Array, Array, Array]:
    """E_0, E_1, E_2 where Re t <= 0."""
    z, inverse = (t + _A) / (t - _A), 1.0 / (_A - t)

    def horner(sums: PyTree, d: Array) -> PyTree:
        return tuple(total * z + value for total, value in zip(sums, d, strict=True)), None

    zeros = (jnp.zeros_like(z),) * 3
    sums, _ = jax.lax.scan(horner, zeros, jnp.asarray(_SERIES.T[::-1], z.dtype))
    return sums[0] * inverse, sums[1] * inverse**2, sums[2] * inverse**3


class _Moments(NamedTuple):
    """Of the half-normal tilted by t, real or complex: E_0 = exp(exponent) scaled."""

    exponent: Array
    scaled: Array
    mean: Array
    hazard: Array
    variance: Array


def _moments(t: Array) -> _Moments:
    right = jnp.real(t) > 0
    e0, e1, e2 = _left(jnp.where(right, -t, t))
    square = 0.5 * t * t
    # either exp(t^2/2) or exp(-t^2/2) is small: the scaled form is used where it is the latter
    bulk = right & (jnp.real(square) > 0)
    whole = _ROOT * jnp.exp(jnp.where(bulk, -square, jnp.where(right, square, 0.0)))
    whole = jnp.where(right, whole, 0.0)
    small = whole / _ROOT  # exp(-t^2/2) in the bulk
    scaled = jnp.where(bulk, _ROOT - small * e0, jnp.where(right, whole - e0, e0))
    hazard = jnp.where(bulk, small / scaled, 1.0 / scaled)
    mean = jnp.where(bulk, t + hazard, jnp.where(right, whole * t + e1, e1) / scaled)
    second = jnp.where(right, whole * (1.0 + t * t) - e2, e2) / scaled
    variance = jnp.where(bulk, 1.0 - hazard * (t + hazard), second - mean**2)
    return _Moments(jnp.where(bulk, square, 0.0), scaled, mean, hazard, variance)


def project(x: Array) -> tuple[Array, Array]:
    """``(p, slack)``: the nearest point of the simplex to every row, and max(threshold - x, 0) where p = 0.

    p = max(x - threshold, 0) (Held, Wolfe & Crowder 1974).
    """
    x = x - jnp.max(x, axis=-1, keepdims=True)
    ordered = -jnp.sort(-x, axis=-1)
    count = jnp.arange(1, x.shape[-1] + 1, dtype=x.dtype)
    thresholds = (jnp.cumsum(ordered, axis=-1) - 1.0) / count
    last = jnp.sum(ordered > thresholds, axis=-1, keepdims=True) - 1
    gap = x - jnp.take_along_axis(thresholds, last, axis=-1)
    p = jnp.maximum(gap, 0.0)
    return p / jnp.sum(p, axis=-1, keepdims=True), jnp.maximum(-gap, 0.0)


class _Tilt(NamedTuple):
    """The saddle: p, b = p / sqrt(v), a <= 0 (below the threshold, units of the noise), q*, moments at g - q*."""

    p: Array
    a: Array
    b: Array
    q: Array
    at: _Moments


def _excess(a: Array, b: Array, q: Array, at: _Moments) -> Array:
    """Mean of x - b under the tilt q; where p > 0 the large b never enters."""
    far = (b > 0) & (jnp.real(at.exponent) > 0)
    return jnp.where(far, at.hazard - q + a, at.mean - b)


def _tilt(mean: Array, variance: Array) -> _Tilt:
    """The tilt by Newton from below: the sum of means is convex and falls, so the steps never pass the root."""
    sd = jnp.sqrt(variance)
    p, slack = project(mean)
    a, b = -slack / sd, p / sd
    active = jnp.sum(b > 0)
    start = jnp.maximum(0.79 * active * sd - 1.0, 0.0)  # m(-s) > 0.79 / (1 + s)

    def newton(_: PyTree, q: Array) -> Array:
        at = _moments(a + b - q)
        # after rounding the step may be a little too long or point back; both are harmless
        return jnp.maximum(q + jnp.sum(_excess(a, b, q, at)) / jnp.sum(at.variance), 0.0)

    q = jax.lax.fori_loop(0, 20, newton, start)
    return _Tilt(p, a, b, q, _moments(a + b - q))


class _Contour(NamedTuple):
    """Normalised complex weights of the nodes, shape (nodes, 1), excesses and variances there, shape (nodes, K)."""

    weights: Array
    excess: Array
    hazard: Array
    variance: Array
    lost: Array  # 1 - variance, to its last digit
    log_integral: Array


def _contour(tilt: _Tilt) -> _Contour:
    p, a, b, q, at = tilt
    spread = jnp.sqrt(jnp.sum(at.variance))
    # skewness of the tilted sum, roughly: it only places the nodes
    third = jnp.sum(2.0 * at.variance**2 * jnp.clip(1.0 - at.variance, 0.0, 1.0) / at.mean)
    width = jnp.minimum(3.0 * _SLOPE * spread**3 / jnp.maximum(third, TINY), _WIDEST)
    tau = _STEP * jnp.arange(_NODES, dtype=p.dtype)[:, None] / width
    sinh, cosh_less_1 = jnp.sinh(tau), 2.0 * jnp.sinh(0.5 * tau) ** 2
    delta = jax.lax.complex(-_SLOPE * cosh_less_1, sinh) * width / spread
    speed = jax.lax.complex(-_SLOPE * sinh, 1.0 + cosh_less_1)
    there = _moments(a + b - q - delta)
    # log of E_0(t - delta) exp(m delta) / E_0(t); in the bulk t^2 / 2 is taken out by hand
    gauss = 0.5 * delta * delta + at.hazard * delta
    other = there.exponent - at.exponent + at.mean * delta
    exponent = jnp.where((jnp.real(there.exponent) != 0) & (at.exponent > 0), gauss, other)
    alive = jnp.real(exponent) > -80.0
    factor = jnp.where(alive, jnp.exp(jnp.where(alive, exponent, 0.0)) * there.scaled / at.scaled, 0.0)
    mass = jnp.prod(factor, axis=-1, keepdims=True) * speed / 1j
    mass = mass.at[0].multiply(0.5)  # the other half of the line is the conjugate
    total = jnp.sum(jnp.real(mass))
    far = (b > 0) & (jnp.real(there.exponent) != 0)
    excess = jnp.where(far, there.hazard - q - delta + a, there.mean - b)
    log_integral = jnp.log(total * _STEP / jnp.pi) - jnp.log(spread)
    return _Contour(mass / total, excess, there.hazard, there.variance, there.hazard * there.mean, log_integral)


def _averages(tilt: _Tilt, line: _Contour) -> tuple[Array, Array, Array]:
    """Mean excess, Cov(x), and the part of 2 v dE/dv that comes with p."""
    w = line.weights
    mean = jnp.sum(jnp.real(w * line.excess), axis=0)
    weighed = w * (line.excess - mean)
    hazard = jnp.where(tilt.b > 0, line.hazard, 0.0)
    with jax.default_matmul_precision("highest"):

        def across(values: Array) -> Array:
            return jnp.real(weighed).T @ jnp.real(values) - jnp.imag(weighed).T @ jnp.imag(values)

        covariance = across(line.excess - mean) + jnp.diag(jnp.sum(jnp.real(w * line.variance), axis=0))
        rest = tilt.p * jnp.sum(jnp.real(w * line.lost), axis=0) - across(hazard) @ tilt.p
    return mean, covariance, rest


@jax.custom_jvp
def _expectation(mean: Array, variance: Array) -> Array:
    tilt = _tilt(mean, variance)
    line = _contour(tilt)
    y = tilt.p + jnp.sqrt(variance) * jnp.sum(jnp.real(line.weights * line.excess), axis=0)
    y = jnp.maximum(y, 0.0)
    return y / jnp.sum(y)


@_expectation.defjvp
def _expectation_jvp(primals: PyTree, tangents: PyTree) -> PyTree:
    """dE/dmean = Cov / variance; dE/dvariance by the same integral, the parts of order 1 / variance taken together."""
    mean, variance = primals
    d_mean, d_variance = tangents
    tilt = _tilt(mean, variance)
    excess, covariance, rest = _averages(tilt, _contour(tilt))
    by_variance = 0.5 * (rest / variance + (excess - covariance @ tilt.a) / jnp.sqrt(variance))
    return _expectation(mean, variance), covariance @ d_mean + by_variance * d_variance


@jax.custom_jvp
def _log_density(y: Array, mean: Array, variance: Array) -> Array:
    """Of the first K - 1 coordinates."""
    tilt = _tilt(mean, variance)
    _, a, b, q, at = tilt
    u = (y - tilt.p) / jnp.sqrt(variance)
    masses = jnp.where(at.exponent > 0, 0.5 * q**2, -0.5 * b**2 + q * b) + jnp.log(at.scaled)
    # where p = 0: log E_0 alone, and a^2 / 2 is common to both sides
    masses = jnp.where(b > 0, masses, at.exponent + jnp.log(at.scaled))
    half_dimension = 0.5 * (y.shape[0] - 1)
    log_mass = jnp.sum(masses) + _contour(tilt).log_integral + half_dimension * jnp.log(variance)
    return -jnp.sum(u * (0.5 * u - a)) - log_mass


@_log_density.defjvp
def _log_density_jvp(primals: PyTree, tangents: PyTree) -> PyTree:
    """An exponential family: y - E in the mean, |y - mean|^2 less its expectation in the variance."""
    y, mean, variance = primals
    d_y, d_mean, d_variance = tangents
    tilt = _tilt(mean, variance)
    excess, covariance, _ = _averages(tilt, _contour(tilt))
    u, sd = (y - tilt.p) / jnp.sqrt(variance), jnp.sqrt(variance)
    gap = u - excess
    by_variance = 0.5 * (jnp.sum(gap * (u + excess - 2.0 * tilt.a)) - jnp.trace(covariance)) / variance
    slope = (jnp.sum(gap * d_mean) - jnp.sum((u - tilt.a) * d_y)) / sd
    return _log_density(y, mean, variance), slope + by_variance * d_variance


# draws --------------------------------------------------------------------------------------------------------------


def _half_normals(u: Array, v: Array, tilt: _Tilt) -> tuple[Array, Array]:
    """x - b of every tilted half-normal from uniform u and v, shape (num, K), and the log of the share to keep."""
    t = tilt.a + tilt.b - tilt.q
    tail = t < _TAIL
    noise = -jax.scipy.special.ndtri(jnp.maximum(u * jax.scipy.special.ndtr(jnp.where(tail, 0.0, t)), TINY))
    near = jnp.where(t > 0, noise - tilt.q + tilt.a, jnp.maximum(noise + t, 0.0) - tilt.b)
    # beyond: x^2 + 2 |t| x = 2 E gives the density exp(-x^2/2 + t x) (x - t), kept with |t| / (x - t) (Marsaglia 1964)
    twice = -2.0 * jnp.log(v)
    root = jnp.sqrt(jnp.where(tail, t, 1.0) ** 2 + twice)
    x = twice / (root - jnp.where(tail, t, -1.0))
    keep = jnp.where(tail, jnp.log(jnp.where(tail, -t, 1.0) / root), 0.0)
    return jnp.where(tail, x - tilt.b, near), keep


def _draw(key: Array, mean: Array, variance: Array) -> Array:
    tilt = _tilt(mean, variance)
    free = jnp.argmax(tilt.at.variance)
    others = jnp.arange(mean.shape[0]) != free
    a, b, q = tilt.a[free], tilt.b[free], tilt.q
    t = a + b - q

    def propose(carry: PyTree) -> PyTree:
        k, i, _, _ = carry
        shape, dtype = (3, _PROPOSALS, mean.shape[0]), mean.dtype  # one call: compiling dominates
        random = jax.random.uniform(jax.random.fold_in(k, i), shape, dtype, minval=jnp.finfo(dtype).tiny)
        u, keep = _half_normals(random[0], random[1], tilt)
        u = jnp.where(others, u, 0.0)
        rest = -jnp.sum(u, axis=1)
        x = rest + b
        log_share = jnp.where(t > 0, -0.5 * (rest + q - a) ** 2, -0.5 * x**2 + t * x)
        log_share = jnp.where(x >= 0, log_share, -jnp.inf) + jnp.sum(jnp.where(others, keep, 0.0), axis=1)
        taken = jnp.log(random[2, :, 0]) < log_share
        first = jnp.argmax(taken)
        return k, i + 1, jnp.where(taken[first], u[first], 0.0), taken[first]

    start = (key, jnp.zeros((), jnp.int32), jnp.zeros_like(mean), jnp.zeros((), bool))
    u = jax.lax.while_loop(lambda carry: ~carry[3] & (carry[1] < 1000), propose, start)[2]
    y = jnp.where(others, jnp.maximum(tilt.p + jnp.sqrt(variance) * u, 0.0), 0.0)
    total = jnp.sum(y)
    y = y / jnp.maximum(total, 1.0)  # rounding only
    return jnp.where(others, y, jnp.maximum(1.0 - total, 0.0))


# the domain ---------------------------------------------------------------------------------------------------------


@partial(register_dataclass, data_fields=(), meta_fields=("count",))
@dataclass(frozen=True)
class Simplex:
    """Probabilities: y >= 0 and sum y = 1 along the last axis, ``count`` of them; one simplex per location.

    Membership in floating point: no entry below 0 and the sum within (count + 4) eps of 1, eps of x's dtype (1.2e-7 in
    float32), which is what adding ``count`` numbers rounds to.

    Args:
        count: K, entries of a probability vector.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> [round(x, 4) for x in bj.domains.Simplex(3).snap(jnp.array([0.5, 0.7, -1.0])).tolist()]
        [0.4, 0.6, 0.0]
    """

    count: int

    __repr__ = summary

    def __post_init__(self) -> None:
        if not isinstance(self.count, int) or isinstance(self.count, bool) or self.count < 2:
            raise ValueError(f"count must be an integer >= 2, the entries of a probability vector, got {self.count!r}")

    def _rows(self, x: Array) -> Array:
        if x.shape[-1:] != (self.count,):
            raise ValueError(f"a Simplex({self.count}) state has a last axis of {self.count}, got shape {x.shape}")
        return jnp.asarray(x).reshape(-1, self.count).astype(jnp.promote_types(x.dtype, jnp.float32))

    def contains(self, x: Array) -> Array:
        """Whether every location is a probability vector, to the rounding of its sum."""
        rows = self._rows(x)
        gap = jnp.abs(jnp.sum(rows, axis=-1) - 1.0)
        return jnp.all(rows >= 0) & jnp.all(gap <= (self.count + 4) * jnp.finfo(dtype_of(x)).eps)

    def snap(self, x: Array) -> Array:
        """The Euclidean projection of every location."""
        return project(self._rows(x))[0].reshape(x.shape).astype(dtype_of(x))

    @in_float32
    def expectation(self, mean: Array, variance: Array) -> Array:
        """Mean of the restricted Gaussian."""
        rows = self._rows(mean)
        v = floored(variance).astype(rows.dtype)
        return jax.vmap(_expectation, (0, None))(rows, v).reshape(mean.shape).astype(mean.dtype)

    @in_float32
    def sample(self, key: Array, mean: Array, variance: Array) -> Array:
        """By rejection from tilted half-normals: exact."""
        rows = self._rows(mean)
        v = floored(variance).astype(rows.dtype)
        drawn = jax.vmap(_draw, (0, 0, None))(jax.random.split(key, len(rows)), rows, v)
        return drawn.reshape(mean.shape).astype(mean.dtype)

    def log_prob(self, y: Array, mean: Array, variance: Array) -> Array:
        """Sum over locations of the log density of the first K - 1 entries (as Dirichlet's); -inf outside.

        In float32 it errs by up to 12 eps |y - p| / v, eps = 6e-8, p the projection of the mean: one to three times
        what rounding y itself does, and 1e-6 of the value where y is far. At v = 1e-5 that is 3e-2 of 5e4, and 7e-5 for
        a draw.
        """
        rows = self._rows(mean)
        v = floored(variance).astype(rows.dtype)
        logs = jax.vmap(_log_density, (0, 0, None))(self._rows(y), rows, v)
        return jnp.where(self.contains(y), jnp.sum(logs), -jnp.inf)
