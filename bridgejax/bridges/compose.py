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

A network of energy E gives eps = grad E, so log q_t = -E / sigma_t up to a constant, see ``networks.energy``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial

from bridgejax._checks import as_real, check_finite, check_like, check_number, check_positive, describe
from bridgejax._numerics import as_wide, cast_like, linear_combination, safe_divide
from bridgejax._summary import summary
from bridgejax._types import Args, Field, Numbers, Params, Scalar, ScalarField, Shape, State
from bridgejax.processes.schedules import Schedule, check_schedule
from bridgejax.processes.sde import Process, check_callable, check_process

if TYPE_CHECKING:
    from bridgejax.networks._energy import EnergyApply

__all__ = [
    "Density",
    "density",
    "energy",
    "given",
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


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("schedule", "score_fn", "log_density_fn", "parts", "exponents", "base"),
    meta_fields=("shape", "diffused"),
)
@dataclass(frozen=True)
class Density:
    """A density p_t for every t of a schedule's noising clock; made by the functions of this file.

    Args:
        schedule: the clock, and the noise of every part.
        score_fn: ``score(t, x, args)``; None for a weighted product.
        log_density_fn: ``log_density(t, x, args)`` up to a constant, or None.
        parts: the diffused densities of a weighted product; empty otherwise.
        exponents: b_i, (len(parts),).
        shape: of one sample (static).
        diffused: whether p_t is p_0 diffused, or may be taken as such (static); of a weighted product, its parts count.
        base: what a tilted density is without its factor; None: it has none.
    """

    schedule: Schedule
    score_fn: Field | None
    log_density_fn: ScalarField | None
    shape: tuple[int, ...]
    parts: tuple[Density, ...] = ()
    exponents: Array | None = None
    diffused: bool = True
    base: Density | None = None

    __repr__ = summary

    @property
    def has_energy(self) -> bool:
        """Whether ``log_density`` is known, not only the score."""
        return all(q.has_energy for q in self.parts) if self.parts else self.log_density_fn is not None

    def factors(self) -> tuple[tuple[Density, ...], Array]:
        """The diffused densities q_i and their exponents b_i; of a density that is no product, itself and 1."""
        return (self.parts, self.exponents) if self.exponents is not None else ((self,), jnp.ones(1))

    def log_density(self, t: Array, x: Array, args: Args = None) -> Array:
        """log p_t(x) up to a constant, a number.

        Raises:
            ValueError: only the score is known.
        """
        self._check(x)
        if not self.has_energy:
            raise ValueError("this density has a score but no log_density: compose parts that have one, see energy")
        if self.exponents is not None:
            return sum(b * q.log_density(t, x, args) for b, q in zip(self.exponents, self.parts, strict=True))  # pyright: ignore
        assert self.log_density_fn is not None
        value = jnp.asarray(self.log_density_fn(t, x, args))
        if value.shape != ():
            raise ValueError(f"log_density must return a number for one sample, got shape {value.shape}")
        return value

    def score(self, t: Array, x: Array, args: Args = None) -> Array:
        """grad log p_t(x), shaped like x."""
        self._check(x)
        if self.exponents is not None:
            return linear_combination(
                *((b, q.score(t, x, args)) for b, q in zip(self.exponents, self.parts, strict=True))
            )
        if self.score_fn is None:
            return jax.grad(lambda x: self.log_density(t, x, args))(x)
        return cast_like(check_like(self.score_fn(t, x, args), x, "score"), x)

    def __call__(self, t: Array, x: Array, args: Args = None) -> Array:
        """The score, so that ``bridgejax.reverse(density.schedule, density)`` is the reverse SDE of summed scores."""
        return self.score(t, x, args)

    def _check(self, x: Array) -> None:
        if jnp.shape(x) != self.shape:
            raise ValueError(f"x must have the shape of one sample, {self.shape}, got {jnp.shape(x)}")


def check_density(value: object, name: str = "density") -> Density:
    """Raise a ``ValueError`` unless ``value`` is a Density."""
    if not isinstance(value, Density):
        raise ValueError(f"{name} must be a Density, got {describe(value)}; see bridgejax.compose.density and model")
    return value


# leaves -----------------------------------------------------------------------------------------------------------


def density(
    schedule: Schedule,
    shape: tuple[int, ...],
    *,
    log_density: ScalarField | None = None,
    score: Field | None = None,
) -> Density:
    """A diffused density from its functions.

    Args:
        schedule: noise schedule.
        shape: of one sample.
        log_density: ``log_density(t, x, args)``, log p_t(x) up to a constant (which a mixture, and log Z, need).
        score: ``score(t, x, args)``; None: the gradient of ``log_density``.

    Raises:
        ValueError: neither function given.
    """
    check_schedule(schedule)
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"shape must be a tuple of integers, the shape of one sample, got {describe(shape)}")
    if log_density is None and score is None:
        raise ValueError("pass log_density or score, functions of (t, x, args) with t on the noising clock")
    if log_density is not None:
        log_density = check_callable(log_density, "log_density", "log_density(t, x, args)")
    if score is not None:
        score = check_callable(score, "score", "score(t, x, args)")
    return Density(schedule, score, log_density, shape)


def _score_of_denoiser(schedule: Schedule, denoiser: Field, t: Array, x: Array, args: Args) -> Array:
    """(alpha D - x) / sigma^2; below a thousandth of the clock, where it is 0 / 0, as at that time."""
    t = jnp.maximum(t, 1e-3 * schedule.T)
    over = safe_divide(1.0, schedule.variance(0.0, t))
    return linear_combination((schedule.alpha(t) * over, denoiser(t, x, args)), (-over, x))


def model(process: Process) -> Density:
    """The densities that a trained diffusion model has learnt, by their score alone.

    Args:
        process: of a diffusion model: its SDE is a reversal, or probability flow, made from a Schedule.

    Raises:
        ValueError: a process of another kind, or whose state is not one array.
    """
    check_process(process)
    if process.dynamics.semilinear is None:
        raise ValueError("process must be that of a diffusion model, made from a Schedule; this one has no schedule")
    state = jax.eval_shape(process.start, jax.random.key(0), None)
    if not hasattr(state, "shape"):
        raise ValueError("process must have one array as its state, got a pytree; pass score= to density instead")
    schedule, denoiser = process.dynamics.semilinear
    return Density(schedule, Partial(_score_of_denoiser, schedule, denoiser), None, tuple(state.shape))


def _energy_log(schedule: Schedule, least: Scalar, value: ScalarField, t: Array, x: Array, args: Args) -> Array:
    t = jnp.maximum(t, least)
    return -value(t, x, args) / schedule.sigma(t)


def _energy_score(schedule: Schedule, least: Scalar, eps: Field, t: Array, x: Array, args: Args) -> Array:
    t = jnp.maximum(t, least)
    return -eps(t, x, args) / schedule.sigma(t)


def energy(schedule: Schedule, network: tuple[EnergyApply, Params], shape: Shape, *, least: float = 1e-3) -> Density:
    """The densities of an energy network trained to predict eps: log q_t = -E / sigma_t.

    Args:
        schedule: it was trained on.
        network: ``(apply, params)`` of ``networks.energy``, with trained params.
        shape: of one sample.
        least: noising times below it are read as it: sigma is 0 at 0, and training saw none.

    Raises:
        ValueError: a network without an energy.
    """
    check_schedule(schedule)
    check_number(least=least)
    check_positive(least=least)
    apply, params = network if isinstance(network, tuple) and len(network) == 2 else (network, None)
    if not hasattr(apply, "value"):
        raise ValueError("network must be the pair (apply, params) that networks.energy gives, with its trained params")
    log = Partial(_energy_log, schedule, least, Partial(apply.value, params))
    return density(
        schedule, shape, log_density=log, score=Partial(_energy_score, schedule, least, Partial(apply, params))
    )


def _given(f: Field, condition: Args, t: Array, x: Array, args: Args) -> State:
    return f(t, x, condition)


def given(part: Density, condition: Args) -> Density:
    """A conditional density with its condition (label, observation) fixed: ``args`` of every call is ignored."""
    check_density(part, "part")
    condition = jax.tree.map(jnp.asarray, condition)
    if part.exponents is not None:
        return _weighted([given(q, condition) for q in part.parts], part.exponents)
    log, score = (None if f is None else Partial(_given, f, condition) for f in (part.log_density_fn, part.score_fn))
    base = None if part.base is None else given(part.base, condition)
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
    """
    check_parts(parts)
    b = jnp.ones(len(parts)) if exponents is None else as_wide(as_real(exponents, "exponents"))
    if b.shape != (len(parts),):
        raise ValueError(f"exponents must have shape ({len(parts)},), one for each part, got {b.shape}")
    check_finite(exponents=b)
    return _weighted(parts, b)


def power(part: Density, exponent: Scalar) -> Density:
    """q_t^b: sharpened for b > 1, flattened for b < 1 (an inverse temperature)."""
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
    """
    if density.exponents is not None:
        return replace(density, parts=tuple(passable(q, last) for q in density.parts))
    if density.base is None or not density.has_energy:
        return density
    log = Partial(_passable_log, density, passable(density.base, last), last)
    return replace(density, log_density_fn=log, base=None)
