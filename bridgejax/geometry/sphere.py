"""The unit sphere: the normal restricted to it is von Mises-Fisher.

    density  exp(kappa cos(angle to the mean)) / Z_d(kappa),   kappa = |mean| / variance
    mean     A_d(kappa) mean / |mean|,                         A_d = I_{d/2} / I_{d/2-1}

(Mardia & Jupp 2000, Directional Statistics.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from bridgejax._checks import as_real, check_count
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import PyTree
from bridgejax.geometry._domain import TINY, dtype_of, floored, in_float32

_FAR = 200.0  # kappa from where the expansion alone errs by less than float32 shows
_LEVELS = 10


def _expansion(d: int, square: Array) -> tuple[Array, Array, Array]:
    """A_d = kappa / (m + s) (1 - less), m = (d - 1) / 2, s^2 = m^2 + kappa^2, to order 1/s^2. Returns m, s, less."""
    m = jnp.asarray(0.5 * (d - 1.0), square.dtype)
    s = jnp.sqrt(m**2 + square)
    p = m / s
    return m, s, 0.5 * p / s * (1.0 - 0.25 * (5.0 * p - 4.0) * (p + 1.0) / s)


def _ratio_over_kappa(d: int, square: Array) -> Array:
    """A_d(kappa) / kappa = 1 / (d + kappa^2 A_(d + 2) / kappa): ten levels down from the expansion, smooth at 0."""
    m, s, less = _expansion(d + 2 * _LEVELS, square)
    below = (m + s) / (1.0 - less)
    for level in range(_LEVELS - 1, -1, -1):
        below = d + 2.0 * level + square / below
    return 1.0 / below


def _ratio_far(d: int, kappa: Array) -> Array:
    """The expansion through 1 - kappa / (m + s) as a sum of positive terms: its slope in kappa does not cancel."""
    m, s, less = _expansion(d, kappa**2)
    leading = 1.0 - m * (1.0 + m / (s + kappa)) / (m + s)
    return leading - leading * less


def bessel_ratio(d: int, kappa: Array) -> Array:
    """A_d(kappa) = I_{d/2}(kappa) / I_{d/2-1}(kappa), the mean of cos(angle) of von Mises-Fisher on the sphere in R^d.

    An expansion of the Riccati equation A' = 1 - A^2 - (d - 1) A / kappa that is uniform in d and kappa (the ratio of
    those of DLMF, 10.41); below kappa = 200 it is taken ten levels of Gauss's continued fraction further up. Within
    1e-6 in float32.

    Args:
        d: dimension of the space, >= 1.
        kappa: concentration, in [0, 1e15].

    Raises:
        ValueError: d below 1, kappa no real numbers.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> round(float(bj.domains.bessel_ratio(3, 2.0)), 4)                         # coth 2 - 1/2
        0.5373
    """
    check_count("d", d)
    kappa = as_real(kappa, "kappa")
    near = kappa < _FAR
    low = jnp.where(near, kappa, 0.0)
    return jnp.where(near, low * _ratio_over_kappa(d, low**2), _ratio_far(d, jnp.where(near, _FAR, kappa)))


@partial(register_dataclass, data_fields=(), meta_fields=())
@dataclass(frozen=True)
class Sphere:
    """|x| = 1 in R^d, d >= 2. The normal restricted to it is von Mises-Fisher, kappa = |mean| / variance.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> [round(x, 4) for x in bj.domains.Sphere().snap(jnp.array([3.0, 4.0])).tolist()]
        [0.6, 0.8]
    """

    __repr__ = summary

    def contains(self, x: Array) -> Array:
        """Whether |x| = 1 to rounding."""
        return jnp.abs(jnp.sum(x**2) - 1.0) < 32.0 * jnp.finfo(dtype_of(x)).eps

    def snap(self, x: Array) -> Array:
        """x / |x|; the first axis for x = 0."""
        norm = jnp.sqrt(jnp.sum(x**2))
        return jnp.where(norm > 0, x / jnp.where(norm > 0, norm, 1.0), jnp.zeros_like(x).at[0].set(1.0))

    def _direction(self, mean: Array, variance: Array) -> tuple[Array, Array]:
        square = jnp.sum(mean**2)
        norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
        direction = jnp.where(norm > 0, mean / jnp.where(norm > 0, norm, 1.0), 0.0)
        return direction, jnp.minimum(norm / floored(variance), 1e15)

    @in_float32
    def expectation(self, mean: Array, variance: Array) -> Array:
        """A_d(kappa) times the direction of the mean."""
        d, (direction, kappa) = mean.shape[0], self._direction(mean, variance)
        near = kappa < _FAR
        scaled = jnp.where(near, mean / jnp.where(near, floored(variance), 1.0), 0.0)  # kappa direction, smooth at 0
        inner = scaled * _ratio_over_kappa(d, jnp.sum(scaled**2))
        return jnp.where(near, inner, direction * _ratio_far(d, jnp.where(near, _FAR, kappa)))

    @in_float32
    def sample(self, key: Array, mean: Array, variance: Array) -> Array:
        """Wood's rejection sampler (1994) for the cosine, a uniform direction across it."""
        d = mean.shape[0]
        direction, kappa = self._direction(mean, variance)
        cosine_key, across_key = jax.random.split(key)
        n = d - 1.0
        b = n / (jnp.sqrt(4.0 * kappa**2 + n**2) + 2.0 * kappa)
        x0 = (1.0 - b) / (1.0 + b)
        c = kappa * x0 + n * jnp.log1p(-(x0**2) + TINY)

        def propose(carry: PyTree) -> PyTree:
            k, i, _, _ = carry
            beta_key, uniform_key = jax.random.split(jax.random.fold_in(k, i))
            z = jax.random.beta(beta_key, 0.5 * n, 0.5 * n, dtype=mean.dtype)
            # 1 - w directly: near 1 the cosine itself has no digits left
            gap = 2.0 * b * z / (1.0 - (1.0 - b) * z)
            w = 1.0 - gap
            log_ratio = kappa * w + n * jnp.log1p(-x0 * w) - c
            return k, i + 1, gap, jnp.log(jax.random.uniform(uniform_key, (), mean.dtype)) < log_ratio

        start = (cosine_key, jnp.zeros((), jnp.int32), jnp.ones((), mean.dtype), jnp.zeros((), bool))
        gap = jax.lax.while_loop(lambda carry: ~carry[3] & (carry[1] < 1000), propose, start)[2]
        pole = jnp.where(kappa > 0, direction, jnp.zeros_like(mean).at[0].set(1.0))
        noise = jax.random.normal(across_key, mean.shape, mean.dtype)
        across = noise - jnp.dot(noise, pole) * pole
        y = (1.0 - gap) * pole + jnp.sqrt(jnp.maximum(gap * (2.0 - gap), 0.0)) * across / jnp.sqrt(jnp.sum(across**2))
        return y / jnp.sqrt(jnp.sum(y**2))

    def log_prob(self, y: Array, mean: Array, variance: Array) -> Array:
        """von Mises-Fisher with respect to the surface measure; for d = 3 (others need log I_nu).

        Raises:
            ValueError: another dimension.
        """
        if mean.shape[0] != 3:
            raise ValueError(f"the density on the sphere is given for d = 3, got d = {mean.shape[0]}")
        direction, kappa = self._direction(mean, variance)
        safe = jnp.maximum(kappa, 1e-6)
        # log kappa / (2 pi (e^k - e^-k)) + kappa cos, all relative to cos = 1
        gap = 0.5 * jnp.sum((y - direction) ** 2)
        log_norm = jnp.log(safe) - math.log(2.0 * math.pi) - jnp.log(-jnp.expm1(-2.0 * safe))
        return jnp.where(kappa > 1e-6, log_norm - kappa * gap, -math.log(4.0 * math.pi))
