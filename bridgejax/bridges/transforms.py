"""SDE -> SDE: add a drift, condition by an h-transform, hold coordinates.

    control   dx = [b + G u] dt + G dW                  u(t, x, args), shaped like the noise
    doob      dx = [b + Sigma grad log h] dt + G dW     h(t, x) = P(event | x_t = x): the law given the event
    clamp     coordinates held at a value, the others free

``pin`` (pinned.py) is doob's transform in closed form.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import lineax
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import as_reals, check_like, check_mask, check_spread
from bridgejax._numerics import dtype_of, linear_combination
from bridgejax._types import Args, Field, Mask, NoiseFactor, State, TransitionSampler
from bridgejax.processes.noise import covariance_times, times_noise
from bridgejax.processes.sde import SDE, Kernel, check_callable, check_flat


def _require_noise(sde: SDE, what: str) -> None:
    if not isinstance(sde, SDE):
        raise ValueError(f"{what} bends an SDE, got {type(sde).__name__}")
    if sde.diffusion is None:
        raise ValueError(f"{what} acts through the noise, and this SDE has none (diffusion=None)")


def _controlled_drift(sde: SDE, u: Field, t: Array, x: State, args: Args) -> State:
    assert sde.diffusion is not None
    g, push = sde.diffusion(t, x, args), jax.tree.map(jnp.asarray, u(t, x, args))
    noise = g.in_structure() if isinstance(g, lineax.AbstractLinearOperator) else x
    check_like(push, noise, "u", "the noise")
    return linear_combination((1.0, sde.drift(t, x, args)), (1.0, times_noise(g, push)))


def control(sde: SDE, u: Field) -> SDE:
    """dx = [b + G u] dt + G dW; ``u(t, x, args)`` has the shape of the noise.

    The exact last law (``terminal_kernel``) and the semilinear form of ``sde`` no longer hold and are dropped.

    Args:
        sde: any SDE with noise.
        u: the control, in units of the noise.

    Returns:
        An SDE.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> sde = bj.SDE(lambda t, x, args: -x, lambda t, x, args: 2.0)
        >>> pushed = bj.control(sde, lambda t, x, args: jnp.ones(1))
        >>> float(pushed.drift(0.0, jnp.array([3.0]), None)[0])            # -3 + 2 * 1
        -1.0
    """
    _require_noise(sde, "control")
    u = check_callable(u, "u", "u(t, x, args)")
    return replace(sde, drift=Partial(_controlled_drift, sde, u), terminal_kernel=None, semilinear=None, kernel=None)


def _doob_drift(sde: SDE, grad_log_h: Field, t: Array, x: State, args: Args) -> State:
    assert sde.diffusion is not None
    pull = covariance_times(sde.diffusion(t, x, args), check_like(grad_log_h(t, x, args), x, "grad_log_h"))
    return linear_combination((1.0, sde.drift(t, x, args)), (1.0, pull))


def doob(sde: SDE, grad_log_h: Field) -> SDE:
    """Doob's h-transform: dx = [b + Sigma grad log h(t, x)] dt + G dW.

    Args:
        sde: any SDE with noise.
        grad_log_h: ``grad_log_h(t, x, args)``, the gradient in x of the log of a positive h with
            dh/dt + b . grad h + tr(Sigma Hess h) / 2 = 0.

    Returns:
        An SDE.

    Example:
        >>> import jax.numpy as jnp, bridgejax as bj
        >>> brownian = bj.SDE(lambda t, x, args: 0.0 * x, lambda t, x, args: 1.0)
        >>> bridge = bj.doob(brownian, lambda t, x, args: (2.0 - x) / (1.0 - t))     # h = N(2; x, 1 - t): ends at 2
        >>> float(bridge.drift(0.5, jnp.array([1.0]), None)[0])
        2.0
    """
    _require_noise(sde, "doob")
    grad_log_h = check_callable(grad_log_h, "grad_log_h", "grad_log_h(t, x, args)")
    return replace(sde, drift=Partial(_doob_drift, sde, grad_log_h), terminal_kernel=None, semilinear=None, kernel=None)


def _masked_drift(sde: SDE, mask: Mask, t: Array, x: State, args: Args) -> State:
    check_spread(mask, x, "mask")
    return jax.tree.map(lambda m, d: jnp.where(m, jnp.zeros_like(d), d), mask, sde.drift(t, x, args))


def _masked_diffusion(sde: SDE, mask: Mask, t: Array, x: State, args: Args) -> NoiseFactor:
    assert sde.diffusion is not None
    check_spread(mask, x, "mask")
    g = sde.diffusion(t, x, args)
    if isinstance(g, lineax.AbstractLinearOperator):
        rows = jnp.where(jnp.ravel(mask)[:, None], 0.0, g.as_matrix())
        return lineax.MatrixLinearOperator(rows)
    if jax.tree.structure(g) != jax.tree.structure(x):
        g = jax.tree.map(lambda leaf: jnp.full(leaf.shape, g, dtype_of(leaf)), x)
    return jax.tree.map(lambda m, leaf: jnp.where(m, jnp.zeros_like(leaf), leaf), mask, g)


def _masked_terminal_sample(
    terminal: Kernel, mask: Mask, key: Array, t: Array, u: Array, x: State, args: Args
) -> State:
    moved = terminal.sample(key, t, u, x, args)
    return jax.tree.map(lambda m, old, new: jnp.where(m, old, new), mask, x, moved)


def clamp(sde: SDE, mask: Mask, value: State = None) -> SDE:
    """Hold the coordinates where ``mask`` is True at ``value``, and let the others move given them.

    The held coordinates neither drift nor diffuse, and the free ones see ``value`` there; start at a state that holds
    it too. This fixes coordinates of the *state*; it does not condition the free ones on a noisy observation.

    Args:
        sde: any SDE.
        mask: booleans shaped like x.
        value: what to hold, shaped like x; None: whatever the start state has there.

    Returns:
        An SDE on states of the same shape.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> sde = bj.SDE(lambda t, x, args: -x, lambda t, x, args: 1.0)
        >>> clamped = bj.clamp(sde, jnp.array([True, False]))
        >>> x = bj.simulate(clamped, jax.random.key(0), jnp.array([5.0, 0.0]), bj.grids.uniform(10))
        >>> float(x[0])
        5.0
    """
    if not isinstance(sde, SDE):
        raise ValueError(f"clamp bends an SDE, got {type(sde).__name__}")
    check_flat(sde, "clamp")
    mask = check_mask(mask)
    clamped = sde if value is None else _with_value(sde, mask, value)
    diffusion = None if sde.diffusion is None else Partial(_masked_diffusion, clamped, mask)
    terminal = None
    if clamped.terminal_kernel is not None:
        sample = Partial(_masked_terminal_sample, clamped.terminal_kernel, mask)
        terminal = Kernel(sample if value is None else Partial(_with_known_values_after, sample, mask, value), T=sde.T)
    return replace(
        sde,
        drift=Partial(_masked_drift, clamped, mask),
        diffusion=diffusion,
        terminal_kernel=terminal,
        semilinear=None,
        kernel=None,
    )


def with_known_values(mask: Mask, value: State, x: State) -> State:
    """x with ``value`` where ``mask`` is True."""
    check_spread(mask, x, "mask")
    check_spread(value, x, "value")
    return jax.tree.map(lambda m, v, leaf: jnp.where(m, jnp.asarray(v, dtype_of(leaf)), leaf), mask, value, x)


def _with_known_values_after(
    sample: TransitionSampler, mask: Mask, value: State, key: Array, t: Array, u: Array, x: State, args: Args
) -> State:
    return with_known_values(mask, value, sample(key, t, u, with_known_values(mask, value, x), args))


def _at_known_values(f: Field, mask: Mask, value: State, t: Array, x: State, args: Args) -> State:
    return f(t, with_known_values(mask, value, x), args)


def _with_value(sde: SDE, mask: Mask, value: State) -> SDE:
    value = as_reals(value, "value", finite=True)
    diffusion = None if sde.diffusion is None else Partial(_at_known_values, sde.diffusion, mask, value)
    return replace(sde, drift=Partial(_at_known_values, sde.drift, mask, value), diffusion=diffusion)
