"""Unnormalised densities with a known normalising constant: what a learned sampler is tried on.

    name                 log rho(x)                                                            log Z           modes
    gmm9                 log mean_k N(x; m_k, 0.3 I),  m_k in {-5, 0, 5}^2                     0               9
    gmm40                log mean_k N(x; m_k, I),  m_k uniform in [-40, 40]^d                  0               40
    funnel               log N(x_1; 0, 9) + sum_{i>1} log N(x_i; 0, e^{x_1})                   0               -
    double_well          -sum_{i<=m} (x_i^2 - delta)^2 - sum_{i>m} x_i^2 / 2                   quadrature      2^m
    many_well            sum over d/2 pairs (x, y) of x/2 + 6 x^2 - x^4 - y^2 / 2              quadrature      2^(d/2)
    student_t_mixture    log mean_k prod_i t_df(x_i - m_ki),  m_k uniform in [-10, 10]^d       0               k
    rings                log mean_k N(|x|; r_k, w^2) - log(2 pi |x|),  x in the plane          log Phi terms   k
    seeds                a random-effects logistic regression, see ``oracles.posteriors``      -73.42 (SMC)    -
    logistic_regression  of your own data                                                      unknown         -
    brownian             a random walk, its scales unknown and its middle unobserved           1.18775         -
    log_gaussian_cox     of your own points in the unit square                                 unknown         -

The wells are products, so log Z is a sum of one-dimensional integrals, computed by the trapezoidal rule (which
converges faster than any power of the step for such integrands). (Catalogue: Richter & Berner 2024, arXiv 2307.01198;
many wells: Midgley et al. 2023, arXiv 2208.01893; funnel: Neal 2003.) The means of ``gmm40`` and ``student_t_mixture``
are draws of this library's own (a frozen generator, seed 0), so that numbers published for other draws do not compare.

Exact draws from a well, p(x) ~ exp(-(x^2 - delta)^2 + tilt x), by rejection: propose |x| ~ N(sqrt(delta), 1/(2 delta))
with either sign, and accept with probability exp(-(x^2 - delta)^2 + delta (|x| - sqrt(delta))^2 + tilt x - M), where M
bounds the exponent (M = 0 without tilt, as (|x| + sqrt(delta))^2 >= delta).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import as_real, check_count, check_number, check_positive
from bridgejax._numerics import as_wide, gaussian_log_density, normal_log_prob
from bridgejax._types import Numbers, Scalar
from bridgejax.oracles._posteriors import brownian as brownian
from bridgejax.oracles._posteriors import log_gaussian_cox as log_gaussian_cox
from bridgejax.oracles._posteriors import logistic_regression as logistic_regression
from bridgejax.oracles._posteriors import seeds as seeds
from bridgejax.oracles._target import Target as Target
from bridgejax.oracles._target import target as target
from bridgejax.oracles._target import with_velocity as with_velocity
from bridgejax.processes._keys import stream, streams
from bridgejax.processes.mixtures import GaussianMixture, gaussian_mixture

__all__ = [
    "Target",
    "brownian",
    "double_well",
    "funnel",
    "gmm9",
    "gmm40",
    "log_gaussian_cox",
    "logistic_regression",
    "many_well",
    "rings",
    "seeds",
    "student_t_mixture",
    "target",
    "with_velocity",
]


def __dir__() -> list[str]:
    return __all__


_MAX_LABEL_BITS = 30  # labels are int32


# mixtures -----------------------------------------------------------------------------------------------------------


def _log_prob(mixture: GaussianMixture, x: Array) -> Array:
    return mixture.log_prob(x)


def _draw(mixture: GaussianMixture, key: Array) -> Array:
    return mixture.sample(key)


def _component(mixture: GaussianMixture, x: Array) -> Array:
    return jnp.argmax(mixture.responsibilities(x))


def _of_mixture(means: np.ndarray, variance: float) -> Target:
    mixture = gaussian_mixture(means, variance)
    bound = (Partial(f, mixture) for f in (_log_prob, _draw, _component))
    density, draw, label = bound
    return Target(density, means.shape[1], 0.0, draw, label, means.shape[0])


def gmm9() -> Target:
    """Nine equal Gaussians on the grid {-5, 0, 5}^2, variance 0.3; every coordinate has standard deviation 4.1191.

    Example:
        >>> import bridgejax as bj, jax.numpy as jnp
        >>> target = bj.targets.gmm9()
        >>> target(jnp.ones(target.dim)).shape, target.dim, round(target.log_z, 4)
        ((), 2, 0.0)
    """
    means = np.stack(np.meshgrid([-5.0, 0.0, 5.0], [-5.0, 0.0, 5.0], indexing="ij"), -1).reshape(9, 2)
    return _of_mixture(means, 0.3)


def gmm40(dim: int = 2) -> Target:
    """Forty equal Gaussians of unit variance, their means uniform in [-40, 40]^dim (this library's own draw).

    Example:
        >>> import bridgejax as bj, jax.numpy as jnp
        >>> target = bj.targets.gmm40()
        >>> target(jnp.ones(target.dim)).shape, target.dim, round(target.log_z, 4)
        ((), 2, 0.0)
    """
    dim = check_count("dim", dim)
    return _of_mixture(np.random.RandomState(0).uniform(-40.0, 40.0, (40, dim)), 1.0)


def _student_log_prob(means: Array, df: float, x: Array) -> Array:
    logs = jnp.sum(jax.scipy.stats.t.logpdf(x - means, df), axis=1)
    return jax.nn.logsumexp(logs) - jnp.log(means.shape[0])


def _student_draw(means: Array, df: float, key: Array) -> Array:
    which, noise = streams(key, "target", 2)
    k = jax.random.randint(which, (), 0, means.shape[0])
    return means[k] + jax.random.t(noise, df, means.shape[1:])


def _student_component(means: Array, df: float, x: Array) -> Array:
    return jnp.argmax(jnp.sum(jax.scipy.stats.t.logpdf(x - means, df), axis=1))


def student_t_mixture(dim: int = 50, components: int = 10, df: float = 2.0) -> Target:
    """Equal Student-t's, independent in every coordinate, their means uniform in [-10, 10]^dim (a draw of our own).

    Args:
        dim: of x.
        components: how many.
        df: degrees of freedom; at 2, the default, no variance exists.

    Example:
        >>> import bridgejax as bj, jax.numpy as jnp
        >>> target = bj.targets.student_t_mixture(dim=4)
        >>> target(jnp.ones(target.dim)).shape, target.dim, round(target.log_z, 4)
        ((), 4, 0.0)
    """
    dim, components = check_count("dim", dim), check_count("components", components)
    check_number(df=df)
    check_positive(df=df)
    means = jnp.asarray(np.random.RandomState(0).uniform(-10.0, 10.0, (components, dim)))
    density, draw, label = (Partial(f, means, df) for f in (_student_log_prob, _student_draw, _student_component))
    return Target(density, dim, 0.0, draw, label, components)


# rings --------------------------------------------------------------------------------------------------------------


def _rings_log_prob(radii: Array, width: Scalar, x: Array) -> Array:
    r = jnp.sqrt(jnp.maximum(jnp.sum(x**2), 1e-24))
    logs = normal_log_prob(r, radii, width**2)
    return jax.nn.logsumexp(logs) - jnp.log(radii.shape[0]) - jnp.log(2.0 * jnp.pi * r)


def _rings_draw(radii: Array, width: Scalar, key: Array) -> Array:
    """A radius of a truncated normal, uniform angle."""
    which, noise, turn = streams(key, "target", 3)
    k = jax.random.choice(which, radii.shape[0], p=jax.scipy.stats.norm.cdf(radii / width))
    r = radii[k] + width * jax.random.truncated_normal(noise, -radii[k] / width, jnp.inf)
    angle = jax.random.uniform(turn, maxval=2.0 * jnp.pi)
    return r * jnp.stack([jnp.cos(angle), jnp.sin(angle)])


def _ring(radii: Array, width: Scalar, x: Array) -> Array:
    return jnp.argmin(jnp.abs(jnp.linalg.norm(x) - radii))


def rings(radii: Numbers = (1.0, 3.0, 5.0), width: float = 0.1) -> Target:
    """Equal rings around the origin of the plane: modes that are connected sets, on each a uniform angle.

    Args:
        radii: (k,), positive.
        width: standard deviation of the distance from the origin.

    Raises:
        ValueError: radii that are no positive numbers, or width not positive.

    Example:
        >>> import bridgejax as bj, jax.numpy as jnp
        >>> target = bj.targets.rings()
        >>> target(jnp.ones(target.dim)).shape, target.dim, round(target.log_z, 4)
        ((), 2, 0.0)
    """
    radii = jnp.atleast_1d(as_wide(as_real(radii, "radii")))
    check_number(width=width)
    check_positive(width=width)
    if radii.ndim != 1 or radii.shape[0] == 0 or not bool(jnp.all((radii > 0) & jnp.isfinite(radii))):
        raise ValueError(f"radii must be one or more positive numbers, got {radii}")
    log_z = float(np.log(np.mean(np.asarray(jax.scipy.stats.norm.cdf(radii / width), np.float64))))
    density, draw, label = (Partial(f, radii, width) for f in (_rings_log_prob, _rings_draw, _ring))
    return Target(density, 2, log_z, draw, label, radii.shape[0])


# funnel -------------------------------------------------------------------------------------------------------------


def _funnel_log_prob(x: Array) -> Array:
    neck, rest = x[0], x[1:]
    others = gaussian_log_density(jnp.sum(rest**2) * jnp.exp(-neck), rest.size * neck, rest.size)
    return normal_log_prob(neck, 0.0, 9.0) + others


def _funnel_draw(dim: int, key: Array) -> Array:
    z = jax.random.normal(stream(key, "target"), (dim,))
    neck = 3.0 * z[0]
    return jnp.concatenate([neck[None], jnp.exp(0.5 * neck) * z[1:]])


@lru_cache(maxsize=32)
def _funnel(dim: int) -> Target:
    return Target(Partial(_funnel_log_prob), dim, 0.0, Partial(partial(_funnel_draw, dim)))


def funnel(dim: int = 10) -> Target:
    """Neal's funnel, x_1 ~ N(0, 9) and x_i | x_1 ~ N(0, e^{x_1}); dim >= 2.

    Example:
        >>> import bridgejax as bj, jax.numpy as jnp
        >>> target = bj.targets.funnel(dim=3)
        >>> target(jnp.ones(target.dim)).shape, target.dim, round(target.log_z, 4)
        ((), 3, 0.0)
    """
    return _funnel(check_count("dim", dim, 2))


# wells --------------------------------------------------------------------------------------------------------------


def _well(delta: Scalar, tilt: float, x: Array) -> Array:
    return -((x**2 - delta) ** 2) + tilt * x


def _well_log_z(delta: float, tilt: float) -> float:
    """log of the integral of exp(-(x^2 - delta)^2 + tilt x)."""
    end = np.sqrt(delta) + 6.0  # the exponent is below -1000 there
    x, h = np.linspace(-end, end, 200_001, retstep=True)
    logs = _well(delta, tilt, x)
    return float(logs.max() + np.log(np.sum(np.exp(logs - logs.max())) * h))


def _excess(delta: Scalar, tilt: float, x: Array) -> Array:
    """Log of the acceptance probability, up to M."""
    return _well(delta, tilt, x) + delta * (abs(x) - delta**0.5) ** 2


def _excess_bound(delta: float, tilt: float) -> float:
    if tilt == 0.0:
        return 0.0
    end = np.sqrt(delta) + 6.0
    return float(np.max(_excess(delta, tilt, np.linspace(-end, end, 200_001)))) + 1e-4  # the grid's own error: 1e-7


def _one_well(delta: float, tilt: float, bound: float, key: Array) -> Array:
    def more(carry: tuple[Array, Array, Array]) -> Array:
        return ~carry[2]

    def turn(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        key, noise, sign, coin = jax.random.split(carry[0], 4)
        size = delta**0.5 + jax.random.normal(noise) / (2.0 * delta) ** 0.5
        x = jnp.where(jax.random.bernoulli(sign), size, -size)
        log_u = jnp.log(jax.random.uniform(coin, minval=1e-38))
        return key, x, (size >= 0) & (log_u <= _excess(delta, tilt, x) - bound)

    return jax.lax.while_loop(more, turn, (key, jnp.zeros(()), jnp.zeros((), bool)))[1]


def _wells_draw(wells: Sequence[int], delta: float, tilt: float, bound: float, dim: int, key: Array) -> Array:
    """Coordinates of which those in ``wells`` lie in a well and the others are standard normal."""
    first, rest = streams(key, "target", 2)
    drawn = jax.vmap(partial(_one_well, delta, tilt, bound))(jax.random.split(first, len(wells)))
    return jax.random.normal(rest, (dim,)).at[np.asarray(wells)].set(drawn)


def _wells_log_density(wells: Sequence[int], delta: float, tilt: float, offset: float, x: Array) -> Array:
    at = np.asarray(wells)
    flat = np.setdiff1d(np.arange(x.shape[0]), at)
    return jnp.sum(_well(delta, tilt, x[at]) + offset) - 0.5 * jnp.sum(x[flat] ** 2)


def _signs(wells: Sequence[int], x: Array) -> Array:
    """The pattern of positive wells, read as a binary number."""
    return jnp.sum(jnp.where(x[np.asarray(wells)] > 0, 2 ** np.arange(len(wells)), 0))


@lru_cache(maxsize=32)  # the same functions for the same numbers: nothing is traced again
def _of_wells(wells: tuple[int, ...], delta: float, tilt: float, offset: float, dim: int) -> Target:
    m = len(wells)
    log_z = m * (_well_log_z(delta, tilt) + offset) + (dim - m) * 0.5 * float(np.log(2.0 * np.pi))
    bound = _excess_bound(delta, tilt)
    labelled = m <= _MAX_LABEL_BITS
    return Target(
        Partial(partial(_wells_log_density, wells, delta, tilt, offset)),
        dim,
        log_z,
        Partial(partial(_wells_draw, wells, delta, tilt, bound, dim)),
        Partial(partial(_signs, wells)) if labelled else None,
        2**m if labelled else None,
    )


def double_well(dim: int = 5, wells: int = 5, delta: float = 4.0) -> Target:
    """DW(d, m, delta): ``wells`` coordinates with wells at +-sqrt(delta), the others standard normal (unnormalised).

    ``modes`` is the pattern of signs as a binary number; None above 30 wells. log Z is -0.5410555 for DW(5, 5, 4).

    Args:
        dim: d.
        wells: m, 1 <= m <= d.
        delta: > 0; the barrier between two wells is delta^2.

    Raises:
        ValueError: more wells than coordinates, or a number out of range.

    Example:
        >>> import bridgejax as bj, jax.numpy as jnp
        >>> target = bj.targets.double_well()
        >>> target(jnp.ones(target.dim)).shape, target.dim, round(target.log_z, 4)
        ((), 5, -0.5411)
    """
    dim, wells = check_count("dim", dim), check_count("wells", wells)
    check_number(delta=delta)
    check_positive(delta=delta)
    if wells > dim:
        raise ValueError(f"wells must be at most dim = {dim}, got {wells}")
    return _of_wells(tuple(range(wells)), float(delta), 0.0, 0.0, dim)


def many_well(dim: int = 32) -> Target:
    """Pairs of a tilted double well and a Gaussian; the right well has 0.84431 of the mass. dim is even.

    x/2 + 6 x^2 - x^4 = x/2 - (x^2 - 3)^2 + 9, so it is drawn from as the other wells are; log Z is 164.69568 for 32.

    Raises:
        ValueError: an odd dim.

    Example:
        >>> import bridgejax as bj, jax.numpy as jnp
        >>> target = bj.targets.many_well(dim=4)
        >>> target(jnp.ones(target.dim)).shape, target.dim, round(target.log_z, 4)
        ((), 4, 20.587)
    """
    dim = check_count("dim", dim, 2)
    if dim % 2:
        raise ValueError(f"dim must be even, a many-well is made of pairs, got {dim}")
    return _of_wells(tuple(range(0, dim, 2)), 3.0, 0.5, 9.0, dim)
