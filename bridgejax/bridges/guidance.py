"""Guidance: bend what a model predicts, or condition its reversal on a measurement.

    classifier-free   D_w(t, x, c) = D(t, x, null) + w (D(t, x, c) - D(t, x, null))

(Ho & Salimans 2022, arXiv 2207.12598.) w = 1 is the conditional model, w = 0 the unconditional one, w > 1 overshoots.
Linear in the prediction, so it may be applied to a denoiser, a score or a velocity alike. The guided field is in
general no diffusion's score: it sharpens, it does not sample p(x | c)^w.

    posterior         D_y(t, x) = D(t, x) + (sigma^2/alpha) grad_x log N(y; A D(t, x), r_t^2 A A^T + s^2 I)

for y = A x_0 + s eps: the denoiser given y, with p(x_0 | x_t) taken as N(D, r_t^2 I).

    DPS               r_t = 0 (Chung et al. 2023, arXiv 2209.14687): too sure of D, so its posterior is too narrow
    PiGDM             r_t^2 = v sigma^2 / (alpha^2 v + sigma^2), v the variance of the data (Song, Vahdat, Mardani
                      & Kautz 2023, ICLR): exact where the data are N(m, v I), an approximation elsewhere
    inpaint           PiGDM with A = the known coordinates, which end at their values exactly

None of them samples p(x_0 | y) of a general law. ``mixtures.condition`` has the exact answer for Gaussian mixtures, to
see by how much.

    hold              D_v(t, x) = m v + (1 - m) D(t, m v + (1 - m) x)          m a mask, v the known coordinates

The held coordinates of the state are v diffused, as everywhere else, but D is shown v itself. But for D, a step acts
on coordinates one by one: the free ones are, number for number, those of a sampler that puts v into the state again
after each step (as Diffuser does: Janner et al. 2022, arXiv 2205.09991). This is exact for a D that was trained to see
v (``networks.hold``), and where free and held coordinates are independent; a D that saw them noisy takes v for a noisy
value, and p(x_0 | v) is missed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from bridgejax._checks import (
    as_real,
    as_reals,
    check_finite,
    check_like,
    check_mask,
    check_nonnegative,
    check_number,
    check_positive,
    check_spread,
)
from bridgejax._numerics import dtype_of, linear_combination, safe_divide
from bridgejax._types import Args, Field, Mask, Scalar, State
from bridgejax.bridges._reverse import probability_flow, reverse
from bridgejax.bridges.transforms import with_known_values
from bridgejax.processes._schedule import Schedule
from bridgejax.processes.sde import SDE, Kernel, Semilinear, check_callable

__all__ = [
    "classifier_free",
    "hold",
    "inpaint",
    "posterior",
]


def __dir__() -> list[str]:
    return __all__


METHODS = ("dps", "pigdm")

Operator: TypeAlias = Callable[[State], State] | Array
"""A measurement A: a matrix (m, d) on the flattened state, or a differentiable function of the state."""


def _classifier_free(f: Field, scale: Scalar, null: Args, t: Array, x: State, args: Args) -> State:
    if args is None:
        return f(t, x, None)
    check_like(null, args, "null", "args")
    null = jax.tree.map(lambda n, leaf: jnp.asarray(n, leaf.dtype), null, args)
    return linear_combination((1.0 - scale, f(t, x, null)), (scale, f(t, x, args)))


def classifier_free(f: Field, scale: float, null: Args) -> Field:
    """``f(t, x, args)`` (denoiser, score or velocity) guided by its own unconditional value.

    Args:
        f: conditional prediction trained with condition dropout.
        scale: w above.
        null: the condition that stands for none, shaped like ``args``.

    (Ho & Salimans 2022, Classifier-free diffusion guidance, arXiv 2207.12598.)

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> guided = bj.guidance.classifier_free(lambda t, x, label: label * x, 3.0, null=jnp.zeros(()))
        >>> print(guided(0.5, jnp.ones(1), jnp.ones(())))                                # null + 3 (conditional - null)
        [3.]
    """
    check_number(scale=scale)
    return Partial(_classifier_free, check_callable(f, "f", "f(t, x, args)"), scale, null)


# measurements -------------------------------------------------------------------------------------------------------


def _spread(schedule: Schedule, variance: Scalar, t: Array) -> Array:
    """r_t^2, the variance of x_0 given x_t."""
    noise = schedule.variance(0.0, t)
    return safe_divide(variance * noise, schedule.alpha(t) ** 2 * variance + noise)


def _measured(operator: Operator, x: State) -> Array:
    if callable(operator):
        return ravel_pytree(operator(x))[0]
    flat = ravel_pytree(x)[0]
    if operator.shape[1] != flat.size:
        raise ValueError(f"operator must be (m, {flat.size}) for a state of {flat.size} numbers, got {operator.shape}")
    return operator @ flat


def _posterior(
    semilinear: Semilinear,
    operator: Operator,
    value: Array,
    noise: Scalar,
    variance: Scalar,
    scale: Scalar,
    t: Array,
    x: State,
    args: Args,
) -> State:
    """D_y. ``variance`` None: DPS."""
    schedule, denoiser = semilinear
    denoised, pull_back = jax.vjp(lambda x: denoiser(t, x, args), x)
    measured, back = jax.vjp(lambda d: _measured(operator, d), denoised)
    check_like(measured, value, "operator(x)", "value")
    residual = value.astype(measured.dtype) - measured
    if variance is None:
        weighted = residual / noise**2
    else:
        # A A^T from rows A^T e_i: one transpose a measurement
        rows = jax.vmap(lambda e: ravel_pytree(back(e)[0])[0])(jnp.eye(residual.size, dtype=residual.dtype))
        inner = _spread(schedule, variance, t) * rows @ rows.T + noise**2 * jnp.eye(residual.size)
        weighted = jnp.linalg.solve(inner.astype(residual.dtype), residual)
    gradient = pull_back(back(weighted)[0])[0]
    share = scale * safe_divide(schedule.variance(0.0, t), schedule.alpha(t))
    return linear_combination((1.0, denoised), (share, gradient))


def _rebuilt(sde: SDE, denoiser: Field) -> SDE:
    assert sde.semilinear is not None
    make = probability_flow if sde.diffusion is None else reverse
    return make(sde.semilinear.schedule, denoiser=denoiser)


def _require_semilinear(sde: object, name: str) -> None:
    if not isinstance(sde, SDE) or sde.semilinear is None:
        raise ValueError(
            f"guidance.{name} bends an sde that is a reversal made from a Schedule (reverse or probability_flow), got "
            + (f"{type(sde).__name__}" if not isinstance(sde, SDE) else "an SDE without a semilinear form")
        )


def posterior(
    sde: SDE,
    operator: Operator,
    value: State,
    noise: Scalar,
    *,
    method: str = "pigdm",
    data_variance: Scalar = 1.0,
    scale: Scalar = 1.0,
) -> SDE:
    """The reversal conditioned on y = A x_0 + noise eps, approximately: an inverse problem without training.

    Args:
        sde: what ``reverse`` or ``probability_flow`` made from a Schedule.
        operator: A, a matrix (m, d) on the flattened state, or a differentiable function of the state; one that is not
            linear is linearised at D.
        value: y, of m numbers, A acting on states in the model's units (``Run.posterior`` takes the data's).
        noise: standard deviation s of the measurement, > 0. A small one makes DPS stiff where sigma is large.
        method: "pigdm" or "dps".
        data_variance: v above ("pigdm" only).
        scale: factor on the pull; 1 is the approximation stated.

    Raises:
        ValueError: an SDE not made from a Schedule, an unknown method, noise that is not positive.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> sde = bj.reverse(bj.schedules.vp(), denoiser=lambda t, x, args: 0.5 * x)
        >>> bent = bj.guidance.posterior(sde, lambda x: x[:1], jnp.array([5.0]), noise=0.1)
        >>> bent.drift(0.5, jnp.ones(2), None).shape
        (2,)
    """
    _require_semilinear(sde, "posterior")
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")
    check_number(noise=noise, data_variance=data_variance, scale=scale)
    check_positive(noise=noise, data_variance=data_variance)
    value = as_real(value, "value")
    check_finite(value=value)
    if callable(operator):
        operator = check_callable(operator, "operator", "operator(x)")
    else:
        operator = as_real(operator, "operator")
        check_finite(operator=operator)
        if operator.ndim != 2 or operator.shape[0] != jnp.size(value):
            raise ValueError(
                f"operator must be a matrix (m, d) for a value of m = {jnp.size(value)} numbers, got {operator.shape}"
            )
    variance = None if method == "dps" else data_variance
    value = jnp.ravel(value)
    return _rebuilt(sde, Partial(_posterior, sde.semilinear, operator, value, noise, variance, scale))


def _inpainted(
    semilinear: Semilinear, mask: Mask, value: State, noise: Scalar, variance: Scalar, t: Array, x: State, args: Args
) -> State:
    """D_y for A = the masked coordinates: A A^T is the identity there, so the solve is a division."""
    schedule, denoiser = semilinear
    check_spread(mask, x, "mask")
    denoised, pull_back = jax.vjp(lambda x: denoiser(t, x, args), x)
    inner = _spread(schedule, variance, t) + noise**2
    weighted = jax.tree.map(
        lambda m, y, d: jnp.where(m, safe_divide(y.astype(d.dtype) - d, inner), 0.0).astype(d.dtype),
        mask,
        value,
        denoised,
    )
    share = safe_divide(schedule.variance(0.0, t), schedule.alpha(t))
    return linear_combination((1.0, denoised), (share, pull_back(weighted)[0]))


def _terminal_sample_known(
    terminal: Kernel, mask: Mask, value: State, key: Array, t: Array, u: Array, x: State, args: Args
) -> State:
    drawn = terminal.sample(key, t, u, x, args)
    return jax.tree.map(lambda m, y, leaf: jnp.where(m, y.astype(dtype_of(leaf)), leaf), mask, value, drawn)


def inpaint(sde: SDE, mask: Mask, value: State, *, noise: Scalar = 0.0, data_variance: Scalar = 1.0) -> SDE:
    """The reversal given the coordinates of clean data where ``mask`` is True, approximately (PiGDM).

    Args:
        sde: what ``reverse`` or ``probability_flow`` made from a Schedule.
        mask: booleans shaped like x, True where data are known.
        value: shaped like x; what is known, in the model's units, where a run standardised its data (``Run.inpaint``
            takes the data's).
        noise: standard deviation of what is known; 0: the known coordinates end at ``value`` exactly.
        data_variance: variance of the data.

    Raises:
        ValueError: an SDE not made from a Schedule, a mask and a value of different shapes.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> sde = bj.reverse(bj.schedules.vp(), denoiser=lambda t, x, args: 0.0 * x)
        >>> bent = bj.guidance.inpaint(sde, jnp.array([True, False]), jnp.array([5.0, 0.0]))
        >>> bent.drift(0.5, jnp.ones(2), None).shape
        (2,)
    """
    _require_semilinear(sde, "inpaint")
    check_number(noise=noise, data_variance=data_variance)
    check_nonnegative(noise=noise)
    check_positive(data_variance=data_variance)
    mask, value = check_mask(mask), as_reals(value, "value", finite=True)
    if jax.tree.map(jnp.shape, mask) != jax.tree.map(jnp.shape, value):
        raise ValueError(
            f"mask and value must have one shape, got {jax.tree.map(jnp.shape, mask)} and "
            f"{jax.tree.map(jnp.shape, value)}"
        )
    exact = not isinstance(noise, Tracer) and float(noise) == 0.0
    bent = _rebuilt(sde, Partial(_inpainted, sde.semilinear, mask, value, noise, data_variance))
    if not exact:
        return bent
    assert bent.terminal_kernel is not None
    return replace(
        bent, terminal_kernel=Kernel(Partial(_terminal_sample_known, bent.terminal_kernel, mask, value), T=bent.T)
    )


def _known(value: State, x: State, args: Args) -> State:
    """v, shaped like x: given, or read off the sample's own condition."""
    found = value(args) if callable(value) else value
    check_spread(found, x, "what value(args) returns" if callable(value) else "value")
    return found


def _inpainted_inputs(denoiser: Field, mask: Mask, value: State, t: Array, x: State, args: Args) -> State:
    """D_v."""
    known = _known(value, x, args)
    return with_known_values(
        mask, known, check_like(denoiser(t, with_known_values(mask, known, x), args), x, "denoiser")
    )


def hold(sde: SDE, mask: Mask, value: State) -> SDE:
    """The reversal with known coordinates held: the network sees their values at every step, and they end at them.

    Args:
        sde: what ``reverse`` or ``probability_flow`` made from a Schedule, and so what ``diffusion``, ``i2sb`` and
            other Methods' processes run. For others see ``clamp``, which holds what the start state has.
        mask: booleans shaped like x, True where coordinates are known.
        value: shaped like x, or ``value(args)``: each sample's own; in the model's units (see ``Run.hold``).

    Returns:
        An SDE for every solver that took ``sde``: ``dataclasses.replace(process, dynamics=hold(process.dynamics, mask,
        value))``. A grid that ends at T ends at ``value`` exactly.

    Raises:
        ValueError: an SDE not made from a Schedule, a mask or values of another shape.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> sde = bj.reverse(bj.schedules.vp(), denoiser=lambda t, x, args: 0.0 * x)
        >>> held = bj.guidance.hold(sde, jnp.array([True, False]), jnp.array([5.0, 0.0]))
        >>> print(held.semilinear.denoiser(0.5, jnp.ones(2), None))
        [5. 0.]
    """
    _require_semilinear(sde, "hold")
    mask = check_mask(mask)
    if callable(value):
        value = check_callable(value, "value", "value(args)")
    else:
        value = as_reals(value, "value", finite=True)
    assert sde.semilinear is not None
    return _rebuilt(sde, Partial(_inpainted_inputs, sde.semilinear.denoiser, mask, value))
