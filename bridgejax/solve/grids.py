"""Time grids on the generative clock s = T - t, from noise (0) to data (T): arrays of n + 1 times.

    uniform     s_k = T k / n
    two_sided   s_k = T (1 - cos(pi k / n)) / 2                           fine near both ends
    quadratic   t_k = T (1 - k/n)^2                                       fine near data
    karras      sigma_k = (smax^(1/rho) + k/n' (smin^(1/rho) - smax^(1/rho)))^rho, then 0    Karras et al. 2022
    log_snr     equal steps in log SNR from the schedule's end to ``log_snr_max``, then 0    Lu et al. 2022
    deviation   sqrt V(t_k, T)^(1/rho) even, down to ``last``, then T     for bridges to a set

``karras`` and ``log_snr`` end with the step from the last noise level to clean data. Grids are made on the
host in float64 (a grid is data, not something to trace) and rounded once, to JAX's default: float32, or float64 under
``jax_enable_x64``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from bridgejax._checks import check_nonnegative, check_number, check_positive
from bridgejax._numerics import on_device
from bridgejax.processes._schedule import Schedule, check_schedule
from bridgejax.processes.sde import check_end

__all__ = ["deviation", "karras", "log_snr", "quadratic", "two_sided", "uniform"]


def __dir__() -> list[str]:
    return __all__


_LOG_SNR_MAX = 10.0


def _check_steps(n: int) -> None:
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ValueError(f"n, the number of steps, must be a positive integer, got {n!r}")


def _strictly_increasing(ts: np.ndarray, n: int) -> Array:
    rounded = ts.astype(jnp.result_type(float))
    if np.any(np.diff(rounded) <= 0):
        raise ValueError(
            f"a grid of {n} steps has equal neighbours in {rounded.dtype}; use fewer steps, or end with more noise"
        )
    return on_device(rounded)


def uniform(n: int, T: float = 1.0, start: float = 0.0) -> Array:
    """``n`` equal steps from ``start`` to ``T``.

    Example:
        >>> import bridgejax as bj
        >>> bj.grids.uniform(4, T=2.0).tolist()
        [0.0, 0.5, 1.0, 1.5, 2.0]
    """
    _check_steps(n)
    T = check_end(T)
    check_number(start=start)
    check_nonnegative(start=start)
    if not start < T:
        raise ValueError(f"start must lie before T = {T:g}, got {start}")
    return _strictly_increasing(np.linspace(start, T, n + 1), n)


def two_sided(n: int, T: float = 1.0) -> Array:
    """``n`` steps shrinking towards both ends, T (1 - cos(pi k / n)) / 2: for chains that end at either.

    Example:
        >>> import bridgejax as bj
        >>> [round(t, 3) for t in bj.grids.two_sided(4).tolist()]
        [0.0, 0.146, 0.5, 0.854, 1.0]
    """
    _check_steps(n)
    T = check_end(T)
    return _strictly_increasing(0.5 * T * (1.0 - np.cos(np.pi * np.linspace(0.0, 1.0, n + 1))), n)


def quadratic(n: int, T: float = 1.0) -> Array:
    """``n`` steps shrinking linearly towards data: noising times T (1 - k/n)^2.

    Example:
        >>> import bridgejax as bj
        >>> bj.grids.quadratic(4).tolist()
        [0.0, 0.4375, 0.75, 0.9375, 1.0]
    """
    _check_steps(n)
    T = check_end(T)
    return _strictly_increasing(T - T * (1.0 - np.linspace(0.0, 1.0, n + 1)) ** 2, n)


def _times_at(falling: Callable[[np.ndarray], np.ndarray], values: np.ndarray, T: float) -> np.ndarray:
    """Times in [0, T] at which a falling function of times has these values, by bisection."""
    low, high = np.zeros_like(values), np.full_like(values, T)
    for _ in range(60):
        middle = 0.5 * (low + high)
        above = falling(middle) > values
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return 0.5 * (low + high)


_compiled_log_snr = jax.jit(lambda schedule, times: jax.vmap(schedule.log_snr)(times))
_compiled_deviation_left = jax.jit(
    lambda schedule, times: jnp.sqrt(jax.vmap(lambda t: schedule.variance(t, schedule.T))(times))
)


def _on_host(compiled: Callable[[Schedule, Any], Array], schedule: Schedule, times: np.ndarray) -> np.ndarray:
    """A function of times by one program, where each of its operations would be one; now, also while JAX traces."""
    given = np.asarray(times, jnp.result_type(float))
    found = compiled(schedule, given)
    if isinstance(found, Tracer):
        with jax.ensure_compile_time_eval():
            found = compiled(schedule, given)
    return np.asarray(found)


def _log_snr_at(schedule: Schedule, times: np.ndarray) -> np.ndarray:
    return _on_host(_compiled_log_snr, schedule, times)


def _noising_times(schedule: Schedule, log_snr: np.ndarray) -> np.ndarray:
    """Noising times at which the schedule has these log SNR, on the host."""
    return _times_at(partial(_log_snr_at, schedule), log_snr, schedule.T)


def _noise_levels(schedule: Schedule, times: float | np.ndarray) -> np.ndarray:
    """Sigma / alpha at noising times, float64 on the host."""
    return np.exp(-0.5 * _log_snr_at(schedule, np.atleast_1d(times)).astype(np.float64)).reshape(np.shape(times))


def _end_of(schedule: Schedule) -> float:
    return float(_log_snr_at(schedule, np.atleast_1d(schedule.T))[0])


def log_snr(n: int, schedule: Schedule, *, log_snr_max: float | None = None, log_snr_min: float | None = None) -> Array:
    """``n - 1`` equal steps in log SNR and a last one into clean data.

    Args:
        n: number of steps (evaluations of the denoiser).
        schedule: the schedule; its parameters must be concrete.
        log_snr_max: log SNR before the last step; default 10, a noise level of 0.7 % of the data, or the next whole
            number below at which float32 tells the times apart (9 for 200 steps of ``schedules.brownian(10)``).
        log_snr_min: where the even steps begin; default the schedule's own end, but at least -12: a schedule with no
            signal left takes its first step from T to there.

    Example:
        >>> import bridgejax as bj
        >>> [round(t, 2) for t in bj.grids.log_snr(4, bj.schedules.vp(), log_snr_max=4.0).tolist()]
        [0.0, 0.27, 0.67, 0.96, 1.0]
    """
    _check_steps(n)
    check_schedule(schedule)
    highest = _LOG_SNR_MAX if log_snr_max is None else log_snr_max
    check_number(log_snr_max=highest, log_snr_min=0.0 if log_snr_min is None else log_snr_min)
    if n == 1:
        return uniform(1, schedule.T)
    end = _end_of(schedule)
    lowest = max(end, -12.0) if log_snr_min is None else log_snr_min
    if not lowest < highest:
        raise ValueError(f"log_snr_max must exceed the schedule's lowest log SNR {lowest:.3g}, got {highest}")

    def up_to(highest: float) -> np.ndarray:
        times = _noising_times(schedule, np.linspace(lowest, highest, n))
        times[0] = schedule.T
        return schedule.T - np.append(times, 0.0)

    grid = up_to(highest)
    while log_snr_max is None and highest - 1.0 > max(lowest, 0.0) and np.any(np.diff(grid.astype(np.float32)) <= 0):
        highest -= 1.0
        grid = up_to(highest)
    return _strictly_increasing(grid, n)


def karras(
    n: int, schedule: Schedule | None = None, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> Array:
    """EDM's grid: ``n - 1`` steps in sigma^(1/rho) and a last one into clean data.

    Args:
        n: number of steps.
        schedule: where the grid is used; None: ``schedules.karras(sigma_max)``, on which time is sigma. For others the
            noise-to-signal ratio sigma/alpha takes sigma's place and ``sigma_max`` is the schedule's own.
        sigma_min: noise-to-signal ratio before the last step.
        sigma_max: T of the Karras schedule, when ``schedule`` is None.
        rho: how far the steps crowd towards data.

    Example:
        >>> import bridgejax as bj
        >>> [round(80.0 - t, 3) for t in bj.grids.karras(4).tolist()]          # the noise levels
        [80.0, 9.723, 0.47, 0.002, 0.0]
    """
    _check_steps(n)
    check_number(rho=rho, sigma_min=sigma_min, sigma_max=sigma_max)
    if not rho > 0:
        raise ValueError(f"rho must be positive, got {rho}")
    check_positive(sigma_max=sigma_max)
    if schedule is not None:
        check_schedule(schedule)
        sigma_max = float(np.exp(-0.5 * max(_end_of(schedule), -12.0)))
    if n == 1:
        return uniform(1, sigma_max if schedule is None else schedule.T)
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"sigma_min must lie in (0, {sigma_max:.4g}), got {sigma_min}")
    ladder = np.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), n) ** rho
    times, end = (
        (ladder, sigma_max) if schedule is None else (_noising_times(schedule, -2 * np.log(ladder)), schedule.T)
    )
    times[0] = end
    return _strictly_increasing(end - np.append(times, 0.0), n)


def deviation(n: int, schedule: Schedule, *, last: float = 0.03, rho: float = 1.0) -> Array:
    """``n - 1`` steps over which the deviation left to the end, sd(x_T | x_t), falls evenly, and a last step.

    For references that run from a start (0) to data (T), see ``constrain``: whatever happens at one scale of the data,
    such as the spacing of a grid of levels, gets steps of that scale.

    Args:
        n: number of steps.
        schedule: the reference; its parameters must be concrete.
        last: deviation of x_T before the last step, in units of the data: a quarter of the spacing of levels or less.
        rho: even in the deviation to the power 1/rho; more crowds the steps towards T.

    Raises:
        ValueError: a deviation that is not between 0 and the schedule's whole one.

    Example:
        >>> import bridgejax as bj
        >>> [round(t, 4) for t in bj.grids.deviation(4, bj.schedules.brownian(), last=0.1).tolist()]
        [0.0, 0.51, 0.84, 0.99, 1.0]
    """
    _check_steps(n)
    check_schedule(schedule)
    check_number(last=last, rho=rho)
    check_positive(rho=rho)

    left = partial(_on_host, _compiled_deviation_left, schedule)
    whole = float(left(np.zeros(1))[0])
    if not 0 < last < whole:
        raise ValueError(f"last must lie between 0 and the schedule's whole deviation {whole:.4g}, got {last}")
    if n == 1:
        return uniform(1, schedule.T)
    times = _times_at(left, np.linspace(whole ** (1 / rho), last ** (1 / rho), n) ** rho, schedule.T)
    times[0] = 0.0
    return _strictly_increasing(np.append(times, schedule.T), n)
