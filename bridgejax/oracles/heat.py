"""Heat kernels: densities of Brownian motion (generator Delta / 2) at time t, by the distance from its start.

    circle    sum_k N(x + 2 pi k; 0, t)  =  (1 + 2 sum_n e^(-n^2 t/2) cos n x) / (2 pi)
    SO(3)     sum_l (2l + 1) e^(-l(l+1) t/2) sin((2l+1) x/2) / sin(x/2) / (8 pi^2)
              =  e^(t/8) (2 pi t)^(-3/2) sum_k ((x_k/2) / sin(x_k/2)) e^(-x_k^2 / (2t)),        x_k = x + 2 pi k
    sphere    sum_l (2l + 1) / (4 pi) e^(-l(l+1) t/2) P_l(cos x)                                (S^2)

Each has a series that is short for large t (eigenfunctions) and one that is short for small t (images); both are used,
so every density keeps its relative accuracy in the tails, where the first series alone cancels to nothing. On SO(3) the
images k and -k are taken together, which leaves no 0 / 0 at x = 0:

    1 + sum_(k>0) (-1)^k e^(-2 pi^2 k^2 / t) (2 cosh a_k - (8 pi^2 k^2 / t) sinh(a_k) / a_k),     a_k = 2 pi k x / t,

times e^(t/8 - x^2/(2t)) (2 pi t)^(-3/2) (x/2) / sin(x/2). The sphere has no such series, but by the Mehler-Dirichlet
formula for P_l its kernel is a mean of that of SO(3),

    K_sphere(x) = 2 sqrt 2 int_x^pi K_SO3(y) sin(y/2) / sqrt(cos x - cos y) dy,

whose integrand is positive; with y^2 = x^2 + (pi^2 - x^2) z^2 it is smooth up to both ends and taken by Gauss-Legendre.

On the sphere of R^D Brownian motion has the mean E[X_t | x0] = e^(-(D - 1) t/2) x0.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._checks import as_real, check_finite, check_nonnegative, check_positive
from bridgejax._numerics import as_time, gaussian_log_density, normal_log_prob
from bridgejax._types import Numbers

__all__ = ["circle_log_prob", "rotation_log_prob", "sphere_log_prob", "sphere_mean"]


def __dir__() -> list[str]:
    return __all__


_CIRCLE_SWITCH = 2.0 * np.pi  # both series decay alike here: e^(-pi n^2)
_ROTATION_SWITCH = 2.0
_NODES, _WEIGHTS = (0.5 * (1.0 + np.polynomial.legendre.leggauss(64)[0]), 0.5 * np.polynomial.legendre.leggauss(64)[1])
_FAR = 42.0  # e^-42 = 6e-19: where the integrand of the sphere is cut


def _inputs(angle: Numbers, t: Numbers) -> tuple[Array, Array]:
    check_positive(t=t)
    x, t = (as_time(value * 1.0) for value in (as_real(angle, "angle"), as_real(t, "t")))
    check_finite(angle=x)
    x, t = jnp.broadcast_arrays(x - 2.0 * jnp.pi * jnp.round(x / (2.0 * jnp.pi)), t)
    return x, t


def circle_log_prob(angle: Numbers, t: Numbers) -> Array:
    """log density at ``angle`` of Brownian motion on the circle after time t, from angle 0 (the wrapped normal).

    With respect to length, total 2 pi. Elementwise over broadcast arrays; any real angle.

    Raises:
        ValueError: t not positive.
    """
    return _circle(*_inputs(angle, t))


@jax.jit
def _circle(x: Array, t: Array) -> Array:
    early, late = jnp.minimum(t, _CIRCLE_SWITCH), jnp.maximum(t, _CIRCLE_SWITCH)
    images = x[..., None] + 2.0 * jnp.pi * jnp.arange(-4.0, 5.0)
    near = jax.nn.logsumexp(normal_log_prob(images, 0.0, early[..., None]), axis=-1)
    n = jnp.arange(1.0, 5.0)
    waves = jnp.sum(jnp.exp(-0.5 * n**2 * late[..., None]) * jnp.cos(n * x[..., None]), axis=-1)
    return jnp.where(t < _CIRCLE_SWITCH, near, jnp.log1p(2.0 * waves) - jnp.log(2.0 * jnp.pi))


def _sinc(x: Array) -> Array:
    """sin(x) / x."""
    small = jnp.abs(x) < 1e-2
    safe = jnp.where(small, 1.0, x)
    return jnp.where(small, 1.0 - x**2 / 6.0 + x**4 / 120.0, jnp.sin(safe) / safe)


def _mean_decay(z: Array) -> Array:
    """(1 - e^-z) / z for z >= 0."""
    small = z < 1e-4
    safe = jnp.where(small, 1.0, z)
    return jnp.where(small, 1.0 - 0.5 * z + z**2 / 6.0, -jnp.expm1(-safe) / safe)


def _rotation_images(x: Array, t: Array) -> Array:
    """log of the SO(3) kernel by images, 0 <= x <= pi, t <= 2."""
    total = jnp.ones_like(x)
    for k in (1.0, 2.0, 3.0):
        # cosh and sinh with their e^a taken into the Gaussian: the exponent is never positive
        size = jnp.exp(-2.0 * jnp.pi * k * (jnp.pi * k - x) / t)
        twice = 4.0 * jnp.pi * k * x / t
        pair = 1.0 + jnp.exp(-twice) - 8.0 * (jnp.pi * k) ** 2 / t * _mean_decay(twice)
        total = total + (-1.0) ** k * size * pair
    flat = gaussian_log_density(x**2 / t, 3.0 * jnp.log(t), 3.0)
    return t / 8.0 + flat - jnp.log(_sinc(0.5 * x)) + jnp.log(total)


def _rotation_waves(x: Array, t: Array) -> Array:
    """log of the SO(3) kernel by characters, 1 + 2 sum_(m <= l) cos m x, t >= 2."""
    total = character = jnp.ones_like(x)
    for degree in range(1, 8):
        character = character + 2.0 * jnp.cos(degree * x)
        total = total + (2 * degree + 1) * jnp.exp(-0.5 * degree * (degree + 1) * t) * character
    return jnp.log(total) - jnp.log(8.0 * jnp.pi**2)


@jax.jit
def _rotation(x: Array, t: Array) -> Array:
    near = _rotation_images(x, jnp.minimum(t, _ROTATION_SWITCH))
    return jnp.where(t < _ROTATION_SWITCH, near, _rotation_waves(x, jnp.maximum(t, _ROTATION_SWITCH)))


def rotation_log_prob(angle: Numbers, t: Numbers) -> Array:
    """log density on SO(3) of Brownian motion after time t, at a rotation by ``angle`` from its start.

    The metric is that of the angle (half the squared Frobenius norm); with respect to its volume, total 8 pi^2. The
    angle itself has this density times 8 pi (1 - cos angle) on [0, pi]. Elementwise over broadcast arrays.

    Raises:
        ValueError: t not positive.
    """
    x, t = _inputs(angle, t)
    return _rotation(jnp.abs(x), t)


def sphere_log_prob(angle: Numbers, t: Numbers) -> Array:
    """log density on the unit sphere S^2 of Brownian motion after time t, at ``angle`` from its start.

    With respect to area, total 4 pi; the angle itself has this density times 2 pi sin angle on [0, pi]. A quadrature
    of 64 nodes, relative error below 1e-9 in float64. Elementwise over broadcast arrays.

    Raises:
        ValueError: t not positive.
    """
    return _sphere(*_inputs(angle, t))


@jax.jit
def _sphere(x: Array, t: Array) -> Array:
    x, t = jnp.abs(x)[..., None], t[..., None]
    left = jnp.pi - x
    room = left * (jnp.pi + x)  # pi^2 - x^2
    most = 2.0 * _FAR * t
    end = jnp.sqrt(jnp.where(room > most, most / jnp.where(room > most, room, 1.0), 1.0))
    z = end * jnp.asarray(_NODES, x.dtype)
    y = jnp.sqrt(x**2 + room * z**2)
    gone = left * (jnp.pi + x) * z**2 / (y + x)  # y - x, without the difference
    # 2 sin((x + y) / 2) / (pi - x), by whichever of sin(a) = sin(pi - a) keeps its digits
    far = x + y > jnp.pi
    share = 2.0 - (jnp.pi + x) * z**2 / (y + x)
    direct = 2.0 * jnp.sin(0.5 * (x + y)) / jnp.where(far, 1.0, left)
    other = jnp.where(far, share * _sinc(0.5 * left * share), direct)
    smooth = 0.5 * _sinc(0.5 * y) * jnp.sqrt((jnp.pi + x) * (y + x) / (other * _sinc(0.5 * gone)))
    logs = _rotation(jnp.minimum(y, jnp.pi), t) + jnp.log(4.0 * end * jnp.asarray(_WEIGHTS, x.dtype) * smooth)
    return jax.nn.logsumexp(logs, axis=-1)


def sphere_mean(x0: Numbers, t: Numbers) -> Array:
    """E[X_t | X_0 = x0] = e^(-(D - 1) t/2) x0 on the unit sphere of R^D, for x0 of shape ``(..., D)``.

    Raises:
        ValueError: x0 a number, or t negative.
    """
    x0 = as_real(x0, "x0")
    check_nonnegative(t=t)
    if np.ndim(x0) == 0:
        raise ValueError("x0 must be a point of R^D, an array of shape (..., D), got a number")
    t = as_time(jnp.asarray(t) * 1.0)
    return jnp.exp(-0.5 * (x0.shape[-1] - 1) * t) * x0
