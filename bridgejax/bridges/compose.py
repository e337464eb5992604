"""Composition: operators on diffused densities, each known up to a constant at every noise level t.

    product      log p_t = sum_i b_i log q_i,t                       score  sum_i b_i s_i
    power        log p_t = b log q_t                                 score  b s                 (annealing)
    negation     log p_t = (1 + a) log q_1,t - a log q_2,t
    guidance     log p_t = (1 - g) log q_null,t + g log q_cond,t     classifier-free guidance
    mixture      log p_t = log sum_i w_i q_i,t                       score  sum_i r_i s_i,      r_i ~ w_i q_i,t
    tilted       log p_t = log q_t + b log h_t                       score  s + b grad log h_t  (classifier guidance)

A mixture of diffused densities is one again, if its parts are normalised alike; it needs their log densities, scores do
not say how much each part weighs at x. A tilted one is diffused if b = 1 and h_t(x) = p(y | x_t = x) in the law of q
itself: not for a classifier of other data. The others are weighted products, and those are *not* diffused: noise does
not commute with products, so their scores are exact scores of a path of densities that the reverse SDE does not follow.
(n experts N(m_i, 1): its variance ends at 1/(2n - 1), the product's is 1/n.) Hence the corrections: ``mcmc.annealed``,
which samples every p_t in turn, and ``feynman_kac``, which weighs. (Du et al. 2023, Reduce, reuse, recycle.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial

from bridgejax._checks import as_real, check_finite, check_nonnegative, check_number, check_positive
from bridgejax._numerics import as_wide, linear_combination
from bridgejax._types import Args, Field, Numbers, Scalar, ScalarField, State
from bridgejax.bridges._density import Density, check_density, density, energy, model
from bridgejax.processes.sde import check_callable

__all__ = [
    "Density",
    "conditioned",
    "density",
    "energy",
    "guidance",
    "mixture",
    "model",
    "negation",
    "passable",
    "power",
    "product",
    "tilted",
]


def __dir__() -> list[str]:
    return __all__


def _conditioned(f: Field, condition: Args, t: Array, x: Array, args: Args) -> State:
    return f(t, x, condition)


def conditioned(part: Density, condition: Args) -> Density:
    """A conditional density with its condition (label, observation) fixed: ``args`` of every call is ignored.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> log_density = lambda t, x, args: -0.5 * jnp.sum((x - args) ** 2)         # N(args, 1) at any t
        >>> density = bj.compose.density(bj.schedules.vp(), (1,), log_density=log_density)
        >>> print(bj.compose.conditioned(density, 1.0).score(0.5, jnp.array([2.0]), None))
        [-1.]
    """
    check_density(part, "part")
    condition = jax.tree.map(jnp.asarray, condition)
    if part.exponents is not None:
        return _weighted([conditioned(q, condition) for q in part.parts], part.exponents)
    log, score = (
        None if f is None else Partial(_conditioned, f, condition) for f in (part.log_density_fn, part.score_fn)
    )
    base = None if part.base is None else conditioned(part.base, condition)
    return Density(part.schedule, score, log, part.shape, diffused=part.diffused, base=base)


# operators --------------------------------------------------------------------------------------------------------


def _same(a: object, b: object) -> bool:
    """Whether two schedules are the same function: one structure, equal numbers."""
    first, second = jax.tree.flatten(a), jax.tree.flatten(b)
    if first[1] != second[1]:
        return False
    pairs = list(zip(first[0], second[0], strict=True))
    return any(isinstance(v, Tracer) for pair in pairs for v in pair) or all(np.array_equal(u, v) for u, v in pairs)


def check_parts(parts: tuple[Density, ...]) -> tuple[Density, ...]:
    """Raise a ``ValueError`` unless ``parts`` are densities, at least one, of one shape and one schedule."""
    if not parts:
        raise ValueError("parts must hold at least one Density, got none")
    for part in parts:
        check_density(part, "parts")
        if part.shape != parts[0].shape:
            raise ValueError(
                f"parts must have one shape of samples, got {parts[0].shape} and {part.shape}; train them on data of "
                "one shape"
            )
        if not _same(part.schedule, parts[0].schedule):
            raise ValueError(
                "parts must share one noise schedule with equal constants, or their noise levels differ at equal t; "
                "train them on the same schedule"
            )
    return parts


def _weighted(parts: Sequence[Density], exponents: Array) -> Density:
    """prod_i p_i^b_i, with products among the p_i opened."""
    flat, weights = [], []
    for part, b in zip(parts, exponents, strict=True):
        inner, own = part.factors()
        flat += inner
        weights.append(b * own)
    first = flat[0]
    return Density(first.schedule, None, None, first.shape, tuple(flat), jnp.concatenate(weights))


def product(*parts: Density, exponents: Numbers | None = None) -> Density:
    """prod_i q_i,t^b_i at every noise level.

    Args:
        parts: densities of one schedule and one shape.
        exponents: b_i, (len(parts),); default 1 each.

    Raises:
        ValueError: parts of different schedules or shapes.

    (Du et al. 2023, Reduce, reuse, recycle: compositional generation with energy-based diffusion models and MCMC,
    arXiv 2302.11552.)

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> log_density = lambda t, x, args: -0.5 * jnp.sum((x - args) ** 2)         # N(args, 1) at any t
        >>> density = bj.compose.density(bj.schedules.vp(), (1,), log_density=log_density)
        >>> both = bj.compose.product(bj.compose.conditioned(density, 0.0), bj.compose.conditioned(density, 2.0))
        >>> print(both.score(0.5, jnp.array([1.0]), None))                           # N(0, 1) N(2, 1) has its mode at 1
        [0.]
    """
    check_parts(parts)
    b = jnp.ones(len(parts)) if exponents is None else as_wide(as_real(exponents, "exponents"))
    if b.shape != (len(parts),):
        raise ValueError(f"exponents must have shape ({len(parts)},), one for each part, got {b.shape}")
    check_finite(exponents=b)
    return _weighted(parts, b)


def power(part: Density, exponent: Scalar) -> Density:
    """q_t^b: sharpened for b > 1, flattened for b < 1 (an inverse temperature).

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> log_density = lambda t, x, args: -0.5 * jnp.sum((x - args) ** 2)         # N(args, 1) at any t
        >>> density = bj.compose.density(bj.schedules.vp(), (1,), log_density=log_density)
        >>> print(bj.compose.power(bj.compose.conditioned(density, 0.0), 3.0).score(0.5, jnp.array([1.0]), None))
        [-3.]
    """
    check_number(exponent=exponent)
    check_positive(exponent=exponent)
    check_density(part, "part")
    return product(part, exponents=jnp.reshape(exponent, (1,)))


def negation(part: Density, without: Density, strength: Scalar = 1.0) -> Density:
    """q_1,t^(1 + a) / q_2,t^a: the first, away from the second.

    Args:
        part: q_1.
        without: q_2.
        strength: a > 0.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> log_density = lambda t, x, args: -0.5 * jnp.sum((x - args) ** 2)         # N(args, 1) at any t
        >>> density = bj.compose.density(bj.schedules.vp(), (1,), log_density=log_density)
        >>> part, without = bj.compose.conditioned(density, 0.0), bj.compose.conditioned(density, 2.0)
        >>> print(bj.compose.negation(part, without).score(0.5, jnp.array([1.0]), None))
        [-3.]
    """
    check_number(strength=strength)
    check_positive(strength=strength)
    return product(part, without, exponents=jnp.stack([1.0 + jnp.asarray(strength), -jnp.asarray(strength)]))


def guidance(conditional: Density, unconditional: Density, scale: Scalar) -> Density:
    """q_null,t^(1 - g) q_cond,t^g: what classifier-free guidance of scale g claims to sample.

    Args:
        conditional: q_cond.
        unconditional: q_null.
        scale: g.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> log_density = lambda t, x, args: -0.5 * jnp.sum((x - args) ** 2)         # N(args, 1) at any t
        >>> density = bj.compose.density(bj.schedules.vp(), (1,), log_density=log_density)
        >>> conditional, unconditional = bj.compose.conditioned(density, 2.0), bj.compose.conditioned(density, 0.0)
        >>> print(bj.compose.guidance(conditional, unconditional, 3.0).score(0.5, jnp.array([1.0]), None))
        [5.]
    """
    check_number(scale=scale)
    return product(conditional, unconditional, exponents=jnp.stack([jnp.asarray(scale), 1.0 - jnp.asarray(scale)]))


def _mixture_log(parts: Sequence[Density], log_weights: Array, t: Array, x: Array, args: Args) -> Array:
    return jax.nn.logsumexp(log_weights + jnp.stack([q.log_density(t, x, args) for q in parts]))


def _mixture_score(parts: Sequence[Density], log_weights: Array, t: Array, x: Array, args: Args) -> Array:
    shares = jax.nn.softmax(log_weights + jnp.stack([q.log_density(t, x, args) for q in parts]))
    return linear_combination(*((r, q.score(t, x, args)) for r, q in zip(shares, parts, strict=True)))


def mixture(*parts: Density, weights: Numbers | None = None) -> Density:
    """sum_i w_i q_i,t, taking the log densities as normalised: a constant in one of them is a factor on its weight.

    Args:
        parts: densities of one schedule and one shape, all with a log density.
        weights: w_i > 0, (len(parts),); default equal. Made to sum to 1.

    Raises:
        ValueError: parts of different schedules or shapes, or one that has only a score.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> log_density = lambda t, x, args: -0.5 * jnp.sum((x - args) ** 2)         # N(args, 1) at any t
        >>> density = bj.compose.density(bj.schedules.vp(), (1,), log_density=log_density)
        >>> either = bj.compose.mixture(bj.compose.conditioned(density, 0.0), bj.compose.conditioned(density, 2.0))
        >>> print(either.score(0.5, jnp.array([1.0]), None))                         # between the two modes
        [0.]
    """
    check_parts(parts)
    if not all(q.has_energy for q in parts):
        raise ValueError(
            "mixture needs log_density of every part, as scores do not say how much each weighs at x; use energy "
            "networks (networks.energy) or superpose(mode='or'), which tracks the densities along a path"
        )
    w = jnp.ones(len(parts)) if weights is None else as_real(weights, "weights")
    if w.shape != (len(parts),):
        raise ValueError(f"weights must have shape ({len(parts)},), one for each part, got {w.shape}")
    check_positive(weights=w)
    bound = (parts, jnp.log(w / jnp.sum(w)))
    diffused = all(f.diffused for q in parts for f in q.factors()[0])
    closed = any(q.base is not None for q in parts)
    base = mixture(*(q if q.base is None else q.base for q in parts), weights=weights) if closed else None
    return Density(
        parts[0].schedule, Partial(_mixture_score, *bound), Partial(_mixture_log, *bound), parts[0].shape,
        diffused=diffused, base=base,
    )  # fmt: skip


def _tilted_log(part: Density, log_factor: ScalarField, scale: Scalar, t: Array, x: Array, args: Args) -> Array:
    return part.log_density(t, x, args) + scale * log_factor(t, x, args)


def _tilted_score(part: Density, log_factor: ScalarField, scale: Scalar, t: Array, x: Array, args: Args) -> Array:
    def number(x: Array) -> Array:
        value = jnp.asarray(log_factor(t, x, args))
        if value.shape != ():
            raise ValueError(f"log_factor must return a number for one sample, got shape {value.shape}")
        return value

    return linear_combination((1.0, part.score(t, x, args)), (scale, jax.grad(number)(x)))


def tilted(part: Density, log_factor: ScalarField, scale: Scalar = 1.0) -> Density:
    """q_t h_t^b with h_t a likelihood, no density: classifier guidance (Dhariwal & Nichol 2021, arXiv 2105.05233).

    Args:
        part: q.
        log_factor: ``log_factor(t, x, args)``, log h_t(x), a number: of a classifier of noisy samples, its log
            probability of the class wanted.
        scale: b.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> log_density = lambda t, x, args: -0.5 * jnp.sum((x - args) ** 2)         # N(args, 1) at any t
        >>> density = bj.compose.density(bj.schedules.vp(), (1,), log_density=log_density)
        >>> tilted = bj.compose.tilted(bj.compose.conditioned(density, 0.0), lambda t, x, args: 3.0 * jnp.sum(x))
        >>> print(tilted.score(0.5, jnp.array([3.0]), None))                         # N(0, 1) e^(3 x) is N(3, 1)
        [0.]
    """
    check_density(part, "part")
    check_number(scale=scale)
    bound = (part, check_callable(log_factor, "log_factor", "log_factor(t, x, args)"), scale)
    log = Partial(_tilted_log, *bound) if part.has_energy else None
    return Density(part.schedule, Partial(_tilted_score, *bound), log, part.shape, diffused=False, base=part)


def _passable_log(density: Density, base: Density, last: Scalar, t: Array, x: Array, args: Args) -> Array:
    log = density.log_density(t, x, args)
    return jnp.where((log == -jnp.inf) & (t > last), base.log_density(t, x, args), log)


def passable(density: Density, last: Scalar) -> Density:
    """The density with its tilts' zeros taken away at times later than ``last``: what a path of densities may not have.

    A factor h_t that is 0 somewhere (a constraint) would end every path that passes there, also one that noise brings
    back. On the way the untilted density stands in for it; at ``last`` and before, on the noising clock, h counts.

    Args:
        density: any density.
        last: a time on the noising clock, >= 0.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> log_density = lambda t, x, args: -0.5 * jnp.sum((x - args) ** 2)         # N(args, 1) at any t
        >>> density = bj.compose.density(bj.schedules.vp(), (1,), log_density=log_density)
        >>> half = lambda t, x, args: jnp.where(x[0] > 0, 0.0, -jnp.inf)
        >>> tilted = bj.compose.tilted(bj.compose.conditioned(density, 0.0), half)
        >>> passable = bj.compose.passable(tilted, 0.1)
        >>> [float(q.log_density(0.5, -jnp.ones(1), None)) for q in (tilted, passable)]
        [-inf, -0.5]
    """
    check_density(density, "density")
    check_number(last=last)
    check_nonnegative(last=last)
    if density.exponents is not None:
        return replace(density, parts=tuple(passable(q, last) for q in density.parts))
    if density.base is None or not density.has_energy:
        return density
    log = Partial(_passable_log, density, passable(density.base, last), last)
    return replace(density, log_density_fn=log, base=None)
