"""A kernel density estimate on a sphere, a torus or SO(3): what a learnt density is compared with.

    p(x) = sum_j w_j (1/n) sum_i k_j(x, x_i),      k_j(x, y) = exp(kappa_j (<f(x), f(y)> - <f(y), f(y)>)) / Z(kappa_j)

with f(x) a vector that the point is seen as. This is the von Mises-Fisher kernel, and its kin on other manifolds:

    S^2      f(x) = x                 <.,.> = cos of the angle            Z = 2 pi (1 - e^(-2 kappa)) / kappa
    torus    f(x) = (cos x, sin x)    sum over angles of cos(x_j - y_j)   Z = (2 pi e^(-kappa) I_0(kappa))^d
    SO(3)    f(R) = R                 tr(R^T S) = 1 + 2 cos angle         Z = 8 pi^2 e^(-2 kappa) (I_0 - I_1)(2 kappa)

About 1 / sqrt(kappa) is the width in radians (1 / sqrt(2 kappa) on SO(3)). Densities are with respect to the volume.

The shares w_j of a few widths, and of none (the uniform law), are those at which rows set aside have the largest mean
log density: data that crowd along lines and are sparse elsewhere need narrow kernels and wide ones. Equal rows are set
aside together, as copies among the others would make the narrowest kernel the best.

(Mardia & Jupp 2000, Directional Statistics; Hall, Watson & Cabrera 1987, Kernel density estimation with spherical
data.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import numpy as np

from bridgejax._summary import summary
from bridgejax._types import Numbers
from bridgejax.evaluation.arrays import generator
from bridgejax.geometry.manifolds import SO, Manifold, Sphere, Torus

_KAPPAS = np.array([0.0, *10.0 ** np.arange(0.0, 5.01, 0.5)])  # the uniform law, then 57 to 0.2 degrees
_BLOCK = 2**22  # numbers of a block of kernel values
_ASIDE, _MOST_ASIDE = 0.2, 1000
_ROUNDS = 200  # of expectation and maximisation
_LEAST = 1e-3  # a smaller share is none


@dataclass(frozen=True)
class KernelDensity:
    """A kernel density estimate.

    Attributes:
        manifold: Sphere(2), a Torus or SO(3).
        centers: f of the rows that it is made of, (n, d).
        kappas: concentrations of the kernels; 0: the uniform law.
        shares: their shares, of sum 1.
    """

    manifold: Manifold
    centers: np.ndarray
    kappas: np.ndarray
    shares: np.ndarray

    __repr__ = summary

    @property
    def widths(self) -> np.ndarray:
        """Standard deviation of every kernel along one direction, in degrees; infinite for the uniform law."""
        per = 2.0 if isinstance(self.manifold, SO) else 1.0
        with np.errstate(divide="ignore"):
            return np.rad2deg(1.0 / np.sqrt(per * self.kappas))

    def log_prob(self, x: Numbers) -> np.ndarray:
        """log p of points (m, *shape), float64 (m,), in nats with respect to the volume of the manifold."""
        found = _log_kernels(self.manifold, embed(self.manifold, x), self.centers, self.kappas)
        return np.logaddexp.reduce(found + np.log(self.shares)[:, None], axis=0)


def embed(manifold: Manifold, x: Numbers) -> np.ndarray:
    """f(x) of points (n, *shape): float64 (n, d)."""
    if isinstance(manifold, Torus):
        x = np.asarray(x, np.float64)
        return np.concatenate([np.cos(x), np.sin(x)], axis=1)
    return np.asarray(jax.vmap(manifold.features)(np.asarray(x)), np.float64)


def log_norm(manifold: Manifold, kappa: float) -> float:
    """log Z(kappa)."""
    if kappa == 0.0:
        return manifold.log_volume
    if manifold == Sphere(2):
        return math.log(2.0 * math.pi) + math.log(-math.expm1(-2.0 * kappa) / kappa)
    if isinstance(manifold, Torus):
        return manifold.d * (math.log(2.0 * math.pi) + math.log(_mean_over_angle(kappa, haar=False)))
    if manifold == SO(3):
        return math.log(8.0 * math.pi**2) + math.log(_mean_over_angle(2.0 * kappa, haar=True))
    raise ValueError(f"manifold must be Sphere(2), a Torus or SO(3), got {manifold!r}")


def _mean_over_angle(kappa: float, *, haar: bool) -> float:
    """(1 / pi) int_0^pi w(a) e^(kappa (cos a - 1)) da: w = 1 gives e^(-kappa) I_0, w = 1 - cos a, Haar's law of the
    angle of a rotation, e^(-kappa) (I_0 - I_1). By quadrature, as a difference of Bessel functions has no digits left.
    """
    end = min(math.pi, 40.0 / math.sqrt(kappa)) if kappa > 0 else math.pi
    nodes, weights = np.polynomial.legendre.leggauss(256)
    a = 0.5 * end * (1.0 + nodes)
    versine = 2.0 * np.sin(0.5 * a) ** 2
    values = np.exp(-kappa * versine) * (versine if haar else 1.0)
    return float(0.5 * end * np.sum(weights * values) / math.pi)


def _log_kernels(manifold: Manifold, f: np.ndarray, centers: np.ndarray, kappas: np.ndarray) -> np.ndarray:
    """log (1/n) sum_i k(., c_i) of every row of f, for every kappa: (len(kappas), len(f))."""
    norms = [log_norm(manifold, float(kappa)) for kappa in kappas]
    out = np.empty((len(norms), len(f)))
    rows = max(1, _BLOCK // len(centers))
    lengths = np.sum(centers**2, axis=1)
    for k in range(0, len(f), rows):
        gap = f[k : k + rows] @ centers.T - lengths
        least = gap.max(axis=1, keepdims=True)
        for j, kappa in enumerate(kappas):
            total = np.mean(np.exp(kappa * (gap - least)), axis=1)
            out[j, k : k + rows] = kappa * least[:, 0] + np.log(total) - norms[j]
    return out


def _shares(log_kernels: np.ndarray) -> np.ndarray:
    """The shares w that maximise the mean of log sum_j w_j k_j, by expectation and maximisation: a concave problem."""
    w = np.full(len(log_kernels), 1.0 / len(log_kernels))
    scaled = np.exp(log_kernels - log_kernels.max(axis=0))
    for _ in range(_ROUNDS):
        w = w * np.mean(scaled / (w @ scaled), axis=1)
    return w


def kernel_density(manifold: Manifold, x: Numbers, *, seed: int = 0) -> KernelDensity:
    """A kernel density estimate of points, its widths chosen on a fifth of them.

    Args:
        manifold: Sphere(2), a Torus or SO(3).
        x: points, (n, *manifold.shape), at least 10 that are distinct.
        seed: of the rows that are set aside.

    Returns:
        A ``KernelDensity`` of all the points.

    Raises:
        ValueError: another manifold, or too few points.

    Example:
        >>> import jax, numpy as np, bridgejax as bj
        >>> sphere = bj.manifolds.Sphere(2)
        >>> x, y = (jax.vmap(sphere.uniform)(bj.keys(jax.random.key(seed), 1000)) for seed in (0, 1))
        >>> found = bj.evaluation.kernel_density(sphere, x)
        >>> bool(abs(found.log_prob(y).mean() + np.log(4 * np.pi)) < 0.1)         # the uniform density is 1 / (4 pi)
        True
    """
    log_norm(manifold, 1.0)
    centers = embed(manifold, x)
    distinct, which = np.unique(centers, axis=0, return_inverse=True)
    if len(distinct) < 10:
        raise ValueError(f"x must have at least 10 distinct points, got {len(distinct)}")
    out = generator(seed, 30).permutation(len(distinct))[: max(2, round(_ASIDE * len(distinct)))]
    aside = np.isin(which.reshape(-1), out)
    judge = centers[aside][:: -(-int(aside.sum()) // _MOST_ASIDE)]
    shares = _shares(_log_kernels(manifold, judge, centers[~aside], _KAPPAS))
    kept = shares > _LEAST
    return KernelDensity(manifold, centers, _KAPPAS[kept], shares[kept] / shares[kept].sum())
