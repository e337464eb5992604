"""Diffused densities q_t for every t of a schedule's noising clock, each known up to a constant, and their leaves.

A leaf is made from functions, from a trained diffusion model by its score, or from an energy network: a network of
energy E gives eps = grad E, so log q_t = -E / sigma_t up to a constant, see ``networks.energy``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import check_like, check_number, check_positive, describe
from bridgejax._numerics import cast_like, linear_combination, safe_divide
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Args, Field, Params, Scalar, ScalarField, Shape
from bridgejax.processes._schedule import Schedule, check_schedule
from bridgejax.processes.sde import Process, check_callable, check_process

if TYPE_CHECKING:
    from bridgejax.networks._energy import EnergyApply


@partial(
    register_dataclass,
    data_fields=("schedule", "score_fn", "log_density_fn", "parts", "exponents", "base"),
    meta_fields=("shape", "diffused"),
)
@dataclass(frozen=True)
class Density:
    """A density p_t for every t of a schedule's noising clock; made by the functions of ``bridgejax.compose``.

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

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> density = bj.compose.density(bj.schedules.vp(), (1,), log_density=lambda t, x, args: -0.5 * jnp.sum(x**2))
        >>> print(density.score(0.5, jnp.array([2.0]), None))                        # by automatic differentiation
        [-2.]
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

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> sde = bj.reverse(bj.schedules.vp(), score=lambda t, x, args: -x)
        >>> process = bj.Process(bj.starts.normal((1,)), sde, bj.grids.uniform(4))
        >>> round(float(bj.compose.model(process).score(0.5, jnp.array([2.0]), None)[0]), 4)
        -2.0
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

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> network = bj.networks.energy((lambda params, t, x, args: params * x, jnp.ones(())))
        >>> density = bj.compose.energy(bj.schedules.vp(), network, (1,))
        >>> density.log_density(0.5, jnp.array([2.0]), None).shape
        ()
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
