"""Learned samplers: no data, only an unnormalised log density. One engine (objectives/sampling.py), three references.

    dx = [b(t, x) + g(t) u(t, x)] dt + g(t) dW,      u(t, x) = network(t, x) + gate(t) clip(guide(t, x))

    name   starts from      b            back, on its own clock          guide
    pis    a point          0            Brownian bridge to the point    grad log rho
    dis    N(0, scale^2)    -f(T-t) x    dx = f x ds + g dW              g [(1 - t/T) grad log p_0 + (t/T) grad log rho]
    dds    N(0, scale^2)    f(T-t) x     dx = f x ds + g dW              grad log rho

f and g^2 = beta scale^2 belong to a variance-preserving schedule. All steps are Euler steps, so training weighs the
very chain that is sampled and E[exp w] = Z whatever was learnt. A step back takes f and g at the time at which the step
forward took them: with each at its own left end the two variances differ, and the exact control of a Gaussian had an
ELBO gap of 1.56 instead of 0.02 at 25 steps. PIS starts at a point: that start, and the last step
back to it, are certain, have the density 1 with respect to the point and drop out. (Path integral sampler: Zhang &
Chen 2022, arXiv 2111.15141; DIS: Berner, Richter & Ullrich 2024, arXiv 2211.01364; DDS: Vargas, Grathwohl & Doucet
2023, arXiv 2302.13834; one framework and the losses: Richter & Berner 2024, arXiv 2307.01198.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.tree_util import Partial

from bridgejax.bridges import control
from bridgejax.networks import functional
from bridgejax.objectives import sampling
from bridgejax.oracles.targets import check_log_density
from bridgejax.processes import SDE, Kernel, Process, schedules, starts
from bridgejax.processes.checks import check_count, check_number, check_positive, describe
from bridgejax.processes.noise import constant
from bridgejax.processes.numerics import normal_like
from bridgejax.processes.schedules import check_schedule, gaussian_log_prob
from bridgejax.processes.sde import check_callable
from bridgejax.solve import grids
from bridgejax.solve.kernels import gaussian
from bridgejax.solve.simulate import check_times
from bridgejax.training import Method, adam, gradient_method

_KNOTS = 32  # of the gate, a piecewise linear function of time
_CLIP = 100.0  # of every coordinate of the guide


# what is given --------------------------------------------------------------------------------------------------


def _check_gradient(log_density: Any, dim: int, why: str) -> None:
    """Raise where the density has no gradient: it cannot be traced, or is zero though the density varies."""
    remedy = f"{why} needs one; use loss='log_variance' with gradient=False"
    x = 2.0 * jax.random.normal(jax.random.key(0), (16, dim))
    try:
        values, grads = jax.jit(jax.vmap(jax.value_and_grad(log_density)))(x)
    except Exception as error:  # whatever the density raises when differentiated
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"log_density cannot be differentiated ({first}), and {remedy}") from None
    values, grads = np.asarray(values), np.asarray(grads)
    seen = values[np.isfinite(values)]
    if seen.size and np.ptp(seen) > 0 and not np.any(grads):
        raise ValueError(f"log_density is not differentiable (its gradient is 0 where it varies), and {remedy}")


def _check(log_density: Any, dim: Any, network: Any, loss: Any, gradient: Any) -> tuple[Any, int, Any, Any]:
    dim = check_count("dim", getattr(log_density, "dim", None) if dim is None else dim)
    log_density = check_callable(log_density, "log_density", "log_density(x)")
    if not isinstance(loss, str) or loss not in sampling.LOSSES:
        raise ValueError(f"loss must be one of {sampling.LOSSES}, got {describe(loss)}")
    if not isinstance(gradient, bool):
        raise ValueError(f"gradient must be True or False, got {describe(gradient)}")
    check_log_density(log_density, dim)
    if gradient or loss == "kl":
        _check_gradient(log_density, dim, f"loss={loss!r}" if loss == "kl" else "gradient=True")
    apply, params = functional(network)
    x = jax.ShapeDtypeStruct((dim,), jnp.float32)
    out = jax.eval_shape(apply, params, jax.ShapeDtypeStruct((), jnp.float32), x, None)
    if getattr(out, "shape", None) != (dim,):
        got = getattr(out, "shape", type(out).__name__)
        raise ValueError(f"network must return an array of shape ({dim},) for x of that shape, got {got}")
    return log_density, dim, apply, params


# the control ----------------------------------------------------------------------------------------------------


def _score(log_density: Any, x: Array) -> Array:
    grad = jax.grad(log_density)(x)
    return jnp.clip(jnp.where(jnp.isfinite(grad), grad, 0.0), -_CLIP, _CLIP)


def _push(apply: Any, T: float, guide: Any, params: Any, t: Any, x: Array, args: Any) -> Array:
    u = apply(params["network"], t, x, None)
    if guide is None:
        return u
    gate = jnp.interp(t / T, jnp.linspace(0.0, 1.0, _KNOTS), params["gate"])
    return u + gate * sampling.guarded(Partial(guide, t), x)


def _of_target(log_density: Any, t: Any, x: Array) -> Array:
    return _score(log_density, x)


def _blend(log_density: Any, schedule: Any, scale: float, t: Any, x: Array) -> Array:
    share = t / schedule.T
    score = -(1.0 - share) * x / scale**2 + share * _score(log_density, x)
    return scale * schedule.diffusion(schedule.T - t) * score


# the references -------------------------------------------------------------------------------------------------


def _still(t: Any, x: Array, args: Any) -> Array:
    return jnp.zeros_like(x)


@partial(jax.tree_util.register_dataclass, data_fields=("x",), meta_fields=())
@dataclass(frozen=True)
class _Point:
    """A start at a point, with density 1 with respect to it."""

    x: Array

    def __call__(self, key: Array, args: Any = None) -> Array:
        return self.x

    def log_prob(self, x: Array, args: Any = None) -> Array:
        return jnp.zeros(())


def _to_origin(T: float, s: Any, x: Array, args: Any) -> Array:
    return -x / (T - s)


def _pinned(sigma: Any, T: float, s: Any, v: Any, x: Array) -> tuple[Array, Array, Array]:
    """Mean and variance of a Brownian path at T - v, given its x at T - s; whether that is the start itself."""
    t, u = T - v, T - s
    first = t <= 1e-6 * T
    return (t / u) * x, sigma**2 * jnp.where(first, 1.0, t * (u - t) / u), first


def _pinned_sample(sigma: Any, T: float, key: Array, s: Any, v: Any, x: Array, args: Any) -> Array:
    mean, variance, first = _pinned(sigma, T, s, v, x)
    return jnp.where(first, 0.0, mean + jnp.sqrt(variance) * normal_like(key, x))


def _pinned_log_prob(sigma: Any, T: float, s: Any, v: Any, x: Array, y: Array, args: Any) -> Array:
    mean, variance, first = _pinned(sigma, T, s, v, x)
    return jnp.where(first, 0.0, gaussian_log_prob(y, mean, variance))


def _linear(schedule: Any, sign: Any, t: Any, x: Array, args: Any) -> Array:
    return sign * schedule.rate(t) * x


def _noise(schedule: Any, scale: Any, t: Any, x: Any, args: Any) -> Array:
    return scale * schedule.diffusion(t)


def _flipped(f: Any, T: Any, t: Any, x: Any, args: Any) -> Any:
    return f(T - t, x, args)


def _step_mean(drift: Any, t: Any, u: Any, x: Array, args: Any) -> Array:
    return x + (u - t) * drift(u, x, args)


def _step_scale(noise: Any, t: Any, u: Any, x: Any, args: Any) -> Any:
    return jnp.sqrt(u - t) * noise(u, x, args)


def _process(start: Any, reference: SDE, back: SDE, ts: Array, push: Any, params: Any) -> Process:
    return Process(start, control(reference, Partial(push, params)), ts, back)


def _method(
    make: Any, log_density: Any, loss: str, gate: float, params: Any, optimizer: Any, ema: Any, accumulate: int
) -> Method:
    params = {"network": params, "gate": jnp.full(_KNOTS, gate), "log_z": jnp.zeros(())}
    optimizer = adam(schedule="constant") if optimizer is None else optimizer
    objective = Partial(sampling.path_loss, make, log_density, loss)
    return gradient_method(objective, make, optimizer, ema, accumulate, params=params)


def _grid(ts: Any, T: float) -> Array:
    grid = grids.uniform(100, T) if ts is None else check_times(T, ts)[0]
    if float(grid[0]) != 0.0 or abs(float(grid[-1]) - T) > 1e-6 * T:
        raise ValueError(f"ts must run from 0 to T = {T:g}, got {float(grid[0]):g} to {float(grid[-1]):g}")
    return grid


# the methods ----------------------------------------------------------------------------------------------------


def pis(
    log_density: Callable[[Any], Array],
    network: Any,
    *,
    dim: int | None = None,
    loss: str = "log_variance",
    sigma: float = 1.0,
    T: float = 1.0,
    ts: Any = None,
    gradient: bool = True,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = None,
    accumulate: int = 1,
) -> Method:
    """The path integral sampler: Brownian motion from the origin, steered to the target.

    Args:
        log_density: ``log_density(x)``, log rho of one sample (dim,), not necessarily normalised; a Target is one.
        network: a flax.nnx module or ``(apply, params)`` with ``apply(params, t, x, None)`` shaped like x, t in [0, T].
        dim: of x; None: the Target's.
        loss: "kl", "log_variance" or "trajectory_balance".
        sigma: noise of the reference, N(0, sigma^2 T) at its end; as wide as the target.
        T: end of the clock.
        ts: grid from 0 to T, of training and of the process; default 100 even steps.
        gradient: whether the control is shown grad log rho; False needs no gradient (unless loss="kl").
        optimizer: optax transformation; default Adam at 1e-3 with gradients clipped to norm 1.
        ema: decay of the averaged parameters that the process uses; None: none.
        accumulate: micro-batches per update; the variance is then taken within each.

    Returns:
        A Method without data: ``fit(method, bj.data.NoData(512), key, steps=...)``. ``bj.sample`` draws from its
        Process, ``bj.log_weights(process, keys, log_density)`` gives weights for ``bj.weights``.

    Raises:
        ValueError: an unknown loss, a density or network that does not fit dim, a density without a gradient where one
            is needed, a grid that does not run from 0 to T.
    """
    check_number(sigma=sigma)
    check_positive(sigma=sigma, T=T)
    log_density, dim, apply, params = _check(log_density, dim, network, loss, gradient)
    reference = SDE(_still, Partial(constant, sigma), T)
    land = Kernel(Partial(_pinned_sample, sigma, T), Partial(_pinned_log_prob, sigma, T), T)
    back = SDE(Partial(_to_origin, T), Partial(constant, sigma), T, land=land)
    push = Partial(partial(_push, apply, T), Partial(_of_target, log_density) if gradient else None)
    make = Partial(_process, _Point(jnp.zeros(dim)), reference, back, _grid(ts, T), push)
    return _method(make, log_density, loss, 0.01, params, optimizer, ema, accumulate)


def _diffused(
    name: str, log_density: Any, network: Any, dim: Any, loss: str, schedule: Any, scale: Any, ts: Any, gradient: Any,
    optimizer: Any, ema: Any, accumulate: int,
) -> Method:  # fmt: skip
    """DIS and DDS: the same noising back, and a reference with or against it."""
    schedule = schedules.vp(0.1, 10.0) if schedule is None else schedule
    check_schedule(schedule)
    if schedule.vanishes:
        raise ValueError("schedule has infinite coefficients at its end; use schedules.vp")
    check_number(scale=scale)
    check_positive(scale=scale)
    log_density, dim, apply, params = _check(log_density, dim, network, loss, gradient)
    T, sign = schedule.T, -1.0 if name == "dis" else 1.0
    noise = Partial(_noise, schedule, scale)
    drift = Partial(_linear, schedule, 1.0)
    land = gaussian(Partial(_step_mean, drift), Partial(_step_scale, noise), T)
    back = SDE(drift, noise, T, land=land)
    reference = SDE(Partial(_flipped, Partial(_linear, schedule, sign), T), Partial(_flipped, noise, T), T)
    guide = Partial(_blend, log_density, schedule, scale) if name == "dis" else Partial(_of_target, log_density)
    push = Partial(partial(_push, apply, T), guide if gradient else None)
    make = Partial(_process, starts.normal((dim,), scale), reference, back, _grid(ts, T), push)
    return _method(make, log_density, loss, 1.0 if name == "dis" else 0.01, params, optimizer, ema, accumulate)


def dis(
    log_density: Callable[[Any], Array],
    network: Any,
    *,
    dim: int | None = None,
    loss: str = "log_variance",
    schedule: Any = None,
    scale: float = 1.0,
    ts: Any = None,
    gradient: bool = True,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = None,
    accumulate: int = 1,
) -> Method:
    """The time-reversed diffusion sampler: learns to reverse the noising of the target. Arguments as in ``pis``.

    Args:
        log_density: log rho of one sample.
        network: the control's.
        dim: of x.
        loss: one of three.
        schedule: a variance-preserving Schedule on the noising clock; default ``schedules.vp(0.1, 10)``.
        scale: standard deviation of the start, and of the noise: as wide as the target.
        ts: grid from 0 to T.
        gradient: whether the control is shown grad log rho.
        optimizer: optax transformation.
        ema: decay of the average.
        accumulate: micro-batches per update.

    Raises:
        ValueError: as ``pis``, or no schedule.
    """
    return _diffused("dis", log_density, network, dim, loss, schedule, scale, ts, gradient, optimizer, ema, accumulate)


def dds(
    log_density: Callable[[Any], Array],
    network: Any,
    *,
    dim: int | None = None,
    loss: str = "log_variance",
    schedule: Any = None,
    scale: float = 1.0,
    ts: Any = None,
    gradient: bool = True,
    optimizer: optax.GradientTransformation | None = None,
    ema: float | None = None,
    accumulate: int = 1,
) -> Method:
    """The denoising diffusion sampler, in its Euler form: steers the stationary noising process. As ``dis``.

    Args:
        log_density: log rho of one sample.
        network: the control's.
        dim: of x.
        loss: one of three.
        schedule: a variance-preserving Schedule on the noising clock; default ``schedules.vp(0.1, 10)``.
        scale: standard deviation of the start.
        ts: grid from 0 to T.
        gradient: whether the control is shown grad log rho.
        optimizer: optax transformation.
        ema: decay of the average.
        accumulate: micro-batches per update.

    Raises:
        ValueError: as ``pis``, or no schedule.
    """
    return _diffused("dds", log_density, network, dim, loss, schedule, scale, ts, gradient, optimizer, ema, accumulate)
