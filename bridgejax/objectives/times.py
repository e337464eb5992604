"""How training times are drawn: a TimeSampler maps one key per sample to one time per sample.

    uniform            t ~ U[low, high]
    low_discrepancy    t_i = low + (high - low) ((u + i/B) mod 1)   one u for the batch        Kingma et al. 2021
    logit_normal       t = high sigmoid(m + s z)                    mass in the middle         Esser et al. 2024
    log_normal         t = exp(m + s z)                             EDM, where t is sigma      Karras et al. 2022
    importance         density p(t) given, t = P^-1(u)              g^2 / sigma^2 and others   Song et al. 2021
    along              equally often between any two of the times given                        a sampler's own grid

Each keeps its density positive on the whole interval, so the minimiser is the same; only the variance of the gradient
and the weight on each noise level change (and can be undone by the loss's own weighting).

``importance`` alone changes the variance and nothing else: it has a ``correction(t)``, the uniform density over its
own, that the losses multiply into w(t):

    E_(t ~ p) [correction(t) w(t) L(t)]  =  E_(t ~ U[low, high]) [w(t) L(t)].

A sampler of your own that has a method ``correction`` is treated alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial

from bridgejax._checks import as_real, check_nonnegative, check_number, check_positive
from bridgejax._numerics import safe_divide
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Numbers, Scalar
from bridgejax.processes._schedule import Schedule
from bridgejax.processes.sde import bind

__all__ = [
    "Importance",
    "TimeSampler",
    "along",
    "correction",
    "importance",
    "log_normal",
    "logit_normal",
    "low_discrepancy",
    "uniform",
]


def __dir__() -> list[str]:
    return __all__


TimeSampler = Callable[[Array], Array]


def _check_range(low: float, high: float) -> None:
    check_number(low=low, high=high)
    check_nonnegative(low=low, high=high)
    if not (isinstance(low, Tracer) or isinstance(high, Tracer)) and not low < high:
        raise ValueError(f"low must be below high, got low = {low}, high = {high}")


def _check_normal(mean: Scalar, std: Scalar) -> None:
    check_number(mean=mean, std=std)
    check_positive(std=std)


def _uniform(low: Scalar, high: Scalar, keys: Array) -> Array:
    return jax.vmap(lambda key: jax.random.uniform(key, minval=low, maxval=high))(keys)


def uniform(low: float = 1e-3, high: float = 1.0) -> TimeSampler:
    """t uniform on [low, high], independently for every sample."""
    _check_range(low, high)
    return Partial(_uniform, low, high)


def _low_discrepancy(low: Scalar, high: Scalar, keys: Array) -> Array:
    shift = jax.random.uniform(keys[0])
    return low + (high - low) * jnp.mod(shift + jnp.arange(keys.shape[0]) / keys.shape[0], 1.0)


def low_discrepancy(low: float = 1e-3, high: float = 1.0) -> TimeSampler:
    """One uniform shift of an even grid over the batch: every t is uniform, the batch mean varies far less.

    The grid belongs to the batch that one program sees: with accumulated micro-batches each has its own.
    Kingma, Salimans, Poole & Ho 2021, arXiv 2107.00630.
    """
    _check_range(low, high)
    return Partial(_low_discrepancy, low, high)


def _logit_normal(mean: Scalar, std: Scalar, low: Scalar, high: Scalar, keys: Array) -> Array:
    z = jax.vmap(jax.random.normal)(keys)
    return jnp.clip(high * jax.nn.sigmoid(mean + std * z), low, high)


def logit_normal(mean: float = 0.0, std: float = 1.0, low: float = 1e-3, high: float = 1.0) -> TimeSampler:
    """T sigmoid(mean + std z), clipped to [low, high]. Esser et al. 2024, arXiv 2403.03206."""
    _check_range(low, high)
    _check_normal(mean, std)
    return Partial(_logit_normal, mean, std, low, high)


def _log_normal(mean: Scalar, std: Scalar, low: Scalar, high: Scalar, keys: Array) -> Array:
    z = jax.vmap(jax.random.normal)(keys)
    return jnp.clip(jnp.exp(mean + std * z), low, high)


def log_normal(mean: float = -1.2, std: float = 1.2, low: float = 2e-3, high: float = 80.0) -> TimeSampler:
    """EDM's noise levels, exp(mean + std z), clipped to [low, high]. Karras et al. 2022, arXiv 2206.00364."""
    _check_range(low, high)
    _check_normal(mean, std)
    return Partial(_log_normal, mean, std, low, high)


def correction(times: TimeSampler) -> Callable[[Array], Array] | None:
    """The factor on the loss that undoes a sampler's density; None where the density is meant."""
    return getattr(times, "correction", None)


@partial(register_dataclass, data_fields=("quantiles", "draw"), meta_fields=())
@dataclass(frozen=True, eq=False)  # compared and hashed as an object, so that jit takes it for a function
class Importance:
    """t with the density that ``importance`` was given; a pytree, made by it.

    Between quantiles that hold equal mass the density is even: p(t) = 1 / (n (q_(k+1) - q_k)) for q_k <= t < q_(k+1).
    It is exactly this density that is drawn and corrected for, so no error of the table makes the loss wrong.

    Attributes:
        quantiles: q_0 = low < q_1 < ... < q_n = high, shape (n + 1,).
        draw: sampler of u on [0, 1].
    """

    quantiles: Array
    draw: TimeSampler

    __repr__ = summary

    def __post_init__(self) -> None:
        object.__setattr__(self, "draw", bind(self.draw, "draw"))

    def __call__(self, keys: Array) -> Array:
        """One time per key, shape (B,)."""
        cells = self.quantiles.shape[0] - 1
        place = jnp.clip(self.draw(keys), 0.0, 1.0) * cells
        left = jnp.minimum(place.astype(jnp.int32), cells - 1)
        low, high = self.quantiles[left], self.quantiles[left + 1]
        return low + (place - left) * (high - low)

    def correction(self, t: Array) -> Array:
        """1 / ((high - low) p(t)), the factor that makes a mean over these times one over uniform times."""
        cells = self.quantiles.shape[0] - 1
        left = jnp.clip(jnp.searchsorted(self.quantiles, t, side="right") - 1, 0, cells - 1)
        width = self.quantiles[left + 1] - self.quantiles[left]
        return cells * width / (self.quantiles[-1] - self.quantiles[0])


def importance(
    density: Schedule | Callable[[Array], Array],
    low: float | None = None,
    high: float | None = None,
    *,
    num: int = 1024,
    draw: TimeSampler | None = None,
) -> Importance:
    """Times drawn where the loss is large, and the weight that keeps the loss what it was.

    The loss is that of uniform times on [low, high] with the same w(t), by a mean of smaller variance where density is
    close to w(t) L(t). A Schedule stands for g(t)^2 / sigma(t)^2, which is what likelihood weighting asks of a
    predicted eps: ``diffusion(..., weighting="likelihood", time_sampler=times.importance(schedule))``. Song, Durkan,
    Murray & Ermon 2021, arXiv 2101.09258, section 4.3. Made on the host, by quantiles.

    Args:
        density: a Schedule, or a function t -> number >= 0 of any scale, such as a loss's own weight.
        low: smallest time; default 1e-3 of the largest. Above 0 for a Schedule, whose density is infinite at 0.
        high: largest time; default the Schedule's T, or 1.
        num: cells of equal mass.
        draw: sampler of u on [0, 1]; default uniform. ``low_discrepancy(0.0, 1.0)`` spreads a batch evenly.

    Returns:
        A time sampler with a ``correction(t)``, which ``matching`` and ``implicit`` apply by themselves.

    Raises:
        ValueError: an empty range or one the Schedule does not have, a density that is negative, not finite or zero
            everywhere, or cells that float32 cannot tell apart.
    """
    own = isinstance(density, Schedule)
    if not own and not callable(density):
        raise ValueError(f"density must be a Schedule or a function of t, got {type(density).__name__}")
    check_number(low=0.0 if low is None else low, high=0.0 if high is None else high)
    if isinstance(num, bool) or not isinstance(num, int) or num < 1:
        raise ValueError(f"num, the number of cells, must be a positive integer, got {num!r}")
    high = (density.T if own else 1.0) if high is None else float(high)
    low = 1e-3 * high if low is None else float(low)
    _check_range(low, high)
    if draw is not None and not callable(draw):
        raise ValueError(f"draw must be a time sampler on [0, 1], keys -> times, got {type(draw).__name__}")
    if own and not (low > 0 and high <= density.T):
        raise ValueError(f"low and high must lie in (0, T = {density.T:g}] of the schedule, got {low} and {high}")
    rate = partial(_noise_rate, density) if own else density
    return Importance(_quantiles(rate, low, high, num), uniform(0.0, 1.0) if draw is None else draw)


def _along(spread: Importance, keys: Array) -> Array:
    return spread(keys)


def along(ts: Numbers) -> TimeSampler:
    """Times spread as a grid spreads its steps: equally often between any two neighbours, evenly over the batch.

    No correction: where the grid is fine the loss weighs more.

    Args:
        ts: increasing times, (n + 1,), concrete.

    Raises:
        ValueError: fewer than two times, or times that do not increase.
    """
    grid = np.asarray(as_real(ts, "ts"), jnp.result_type(float))
    if grid.ndim != 1 or len(grid) < 2 or not np.all(np.diff(grid) > 0):
        raise ValueError(f"ts must be at least two increasing times, got shape {grid.shape}")
    return Partial(_along, Importance(jnp.asarray(grid), low_discrepancy(0.0, 1.0)))


def _noise_rate(schedule: Schedule, t: Array) -> Array:
    return safe_divide(schedule.diffusion_squared(t), schedule.variance(0.0, t))


def _quantiles(density: Callable[[Array], Array], low: float, high: float, num: int) -> Array:
    """The ends of ``num`` cells of equal mass, by the trapezoid rule on 16,384 cells, even in t and in log t."""
    t = np.linspace(low, high, 8193)
    if low > 0:
        t = np.unique(np.append(t, np.clip(np.geomspace(low, high, 8193), low, high)))
    with jax.ensure_compile_time_eval():
        values = np.asarray(jax.vmap(density)(jnp.asarray(t, jnp.result_type(float))), np.float64)
    if values.shape != t.shape or not np.all(np.isfinite(values)) or values.min() < 0 or values.max() <= 0:
        raise ValueError(
            f"density must be one finite number >= 0 at every t in [{low:g}, {high:g}] and not zero everywhere, got "
            f"shape {values.shape[1:]} and values from {values.min():g} to {values.max():g}"
        )
    mass = np.append(0.0, np.cumsum(0.5 * (values[1:] + values[:-1]) * np.diff(t)))
    rounded = np.interp(np.linspace(0.0, mass[-1], num + 1), mass, t).astype(jnp.result_type(float))
    rounded[0], rounded[-1] = low, high
    if np.any(np.diff(rounded) <= 0):
        raise ValueError(f"{num} cells of equal mass have equal ends in {rounded.dtype}; use a smaller num")
    return jnp.asarray(rounded)
