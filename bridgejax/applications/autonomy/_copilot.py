"""The copilot: a diffusion over rows (state, action) that corrects an action as far as its noise reaches.

    forward    a_t = alpha a_pilot + sigma eps                      t = noise_level(gamma)
    reverse    from a_t to t = 0, given the state                   guidance.hold: the state block stays as it is
    out        the action block; gamma = 0 is the pilot's action itself, at gamma = 1 hardly a trace of it is left

What is near an expert's action comes back changed little, what is far goes to the experts' actions that are nearest in
noise: the copilot knows no goal, and keeps the pilot's where experts pursue several. Training needs demonstrations
only. (Yoneda, Sun, Yang, Stadie & Walter 2023, To the Noise and Back: diffusion for shared autonomy, arXiv 2302.12244.)

gamma is the share of their noise schedule, 50 steps whose beta rises as a sigmoid, in the limit of many steps:

    -log alpha^2 = B(gamma) = c (softplus(12 gamma - 6) - softplus(-6)),        alpha(1)^2 = 6.45e-4 as theirs

The clock is another one, that of ``schedules.cosine``, on which velocities are learnt well: only sigma / alpha counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial

from bridgejax._checks import check_count, check_number, describe, is_real
from bridgejax._numerics import normal_like
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Args, Numbers, Scalar
from bridgejax.bridges import guidance
from bridgejax.bridges._reverse import probability_flow, reverse
from bridgejax.methods import diffusion
from bridgejax.networks import MLP, hold
from bridgejax.objectives import times
from bridgejax.processes import schedules
from bridgejax.processes._keys import check_key, check_one_key, stream, streams
from bridgejax.processes.sde import SDE, Semilinear
from bridgejax.solve import grids, simulate
from bridgejax.training import Method, adam, fit

SIGNAL = 6.45e-4  # alpha(1)^2 of the published schedule
_LOG_SNR_END = math.log(SIGNAL) - math.log1p(-SIGNAL)
_RATE = -math.log(SIGNAL) / 6.0  # softplus(6) - softplus(-6) = 6


def noise_level(gamma: Scalar) -> Array:
    """The time t of ``schedules.cosine`` whose noise is that of the share gamma of the published schedule.

    Args:
        gamma: in [0, 1]; an array is taken number by number.

    Returns:
        t in [0, 1], increasing in gamma.

    Example:
        >>> from bridgejax.applications.autonomy import noise_level
        >>> [f"{noise_level(gamma):.3f}" for gamma in (0.0, 0.3, 0.5, 1.0)]
        ['0.000', '0.206', '0.554', '1.000']
    """
    integral = _RATE * (jax.nn.softplus(12.0 * jnp.asarray(gamma) - 6.0) - jax.nn.softplus(-6.0))
    angle = jnp.arctan2(jnp.sqrt(-jnp.expm1(-integral)), jnp.exp(-0.5 * integral))
    return jnp.minimum(angle / math.atan(math.exp(-0.5 * _LOG_SNR_END)), 1.0)


# demonstrations -------------------------------------------------------------------------------------------------------


class Demonstrations(NamedTuple):
    """What experts saw, without the goal, and what they did.

    Attributes:
        states: (n, s), what the copilot will be shown.
        actions: (n, a), as the environment takes them.
    """

    states: np.ndarray
    actions: np.ndarray

    __repr__ = summary


def _matrix(value: Any, name: str) -> np.ndarray:
    if not is_real(value) or np.ndim(value) != 2 or 0 in np.shape(value):
        raise ValueError(f"demonstrations.{name} must be an array (n, {name[0]}) of numbers, got {describe(value)}")
    array = np.asarray(value, np.float32)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"demonstrations.{name} holds numbers that are not finite; leave out those rows")
    return array


def check_demonstrations(found: Any) -> Demonstrations:
    """The demonstrations as arrays of float32.

    Raises:
        ValueError: no pair of matrices with one row a step each, or numbers that are not finite.
    """
    if not isinstance(found, tuple) or len(found) != 2:
        raise ValueError(f"demonstrations must be a pair Demonstrations(states, actions), got {describe(found)}")
    states, actions = _matrix(found[0], "states"), _matrix(found[1], "actions")
    if len(states) != len(actions):
        raise ValueError(f"demonstrations have one action a state, got {len(states)} states and {len(actions)} actions")
    return Demonstrations(states, actions)


def check_bounds(low: Any, high: Any, size: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest action, of one shape: (size,), or what is given.

    Raises:
        ValueError: not finite, not increasing, or as many as neither one nor ``size``.
    """
    fits = [value for value in (low, high) if is_real(value) and np.ndim(value) == 1]
    count = size if size is not None else np.size(fits[0]) if fits else 1
    for name, value in (("low", low), ("high", high)):
        if not is_real(value) or np.shape(value) not in ((), (count,)) or not np.all(np.isfinite(np.asarray(value))):
            raise ValueError(f"{name} must be one finite number, or one for each action, got {describe(value)}")
    low, high = (np.asarray(value, np.float32) for value in (low, high))
    if not np.all(low < high):
        raise ValueError(f"low must be below high for every action, got {low.tolist()} and {high.tolist()}")
    shape = np.broadcast_shapes(low.shape, high.shape) if size is None else (size,)
    return np.broadcast_to(low, shape), np.broadcast_to(high, shape)


# the copilot ----------------------------------------------------------------------------------------------------------


def known(args: Args) -> Args:
    """What is held: the state block of the row that is every sample's condition."""
    return args


@partial(
    register_dataclass,
    data_fields=("semilinear", "shift", "scale", "low", "high"),
    meta_fields=("steps", "sampler"),
)
@dataclass(frozen=True)
class Copilot:
    """``copilot(obs, action, gamma, key) -> action``: a jitted pure function, and a pytree.

    Attributes:
        semilinear: the schedule, and the denoiser E[row | noised row], of rows (state, action) in the copilot's units;
            its ``args`` are the row whose state block is known.
        shift: (s,), subtracted from states.
        scale: (s,), states are then divided by it.
        low: (a,), the actions that are -1 in the copilot's units.
        high: (a,), those that are 1. Nothing is clipped.
        steps: steps of the reversal, from the level of gamma to 0, however large gamma is (static).
        sampler: "sde", the reversal; "ode", the probability flow by DPM-Solver++ (static).

    Example:
        >>> import jax, numpy as np
        >>> from bridgejax.applications.autonomy import Demonstrations, train_copilot
        >>> states = np.random.default_rng(0).uniform(-1, 1, (500, 1))
        >>> copilot = train_copilot(Demonstrations(states, -states), jax.random.key(0), steps=3, width=8)
        >>> copilot(states[0], np.ones(1), 0.3, jax.random.key(1)).shape
        (1,)
        >>> print(copilot.fast(4)(states[0], np.ones(1), 0.0, jax.random.key(1)))           # gamma 0: the pilot's own
        [1.]
    """

    semilinear: Semilinear
    shift: Array
    scale: Array
    low: Array
    high: Array
    steps: int = 50
    sampler: str = "sde"

    __repr__ = summary

    def __call__(self, obs: Numbers, action: Numbers, gamma: Scalar, key: Array) -> Array:
        """The corrected action.

        Args:
            obs: (s,), what the copilot may see.
            action: (a,), the pilot's.
            gamma: share of the noise schedule, in [0, 1].
            key: one threefry key.

        Returns:
            An action (a,) of float32; it may lie outside of the environment's bounds.

        Raises:
            ValueError: an observation or an action of another shape or with nan, gamma outside of [0, 1].
        """
        obs, action = self.check(obs, action, gamma, ())
        return _assist_one(self, obs, action, gamma, check_one_key(key))

    def batch(self, obs: Numbers, actions: Numbers, gamma: Scalar, keys: Array) -> Array:
        """The same for many, one key each: (n, s), (n, a), one gamma, (n,) keys -> (n, a)."""
        keys = check_key(keys, "keys")
        if keys.ndim != 1 or keys.shape[0] == 0:
            raise ValueError(f"keys must be an array of keys, one per row, got shape {keys.shape}; see bridgejax.keys")
        obs, actions = self.check(obs, actions, gamma, keys.shape)
        return _assist_many(self, obs, actions, gamma, keys)

    def fast(self, steps: int = 4) -> Copilot:
        """The same copilot in few steps: the probability flow, whose noise is the forward one alone."""
        return replace(self, steps=check_count("steps", steps), sampler="ode")

    def check(self, obs: Any, action: Any, gamma: Any, lead: tuple[int, ...]) -> tuple[Any, Any]:
        """Observations and actions as arrays, with ``lead`` before their last axis.

        Raises:
            ValueError: what does not fit this copilot.
        """
        found = []
        for name, value, like in (("obs", obs, self.shift), ("action", action, self.low)):
            wanted = (*lead, *like.shape)
            if not is_real(value) or np.shape(value) != wanted:
                raise ValueError(
                    f"{name} must hold numbers of shape {wanted}, as in the copilot's demonstrations, got "
                    f"{describe(value)}"
                )
            if not isinstance(value, Tracer):
                value = np.asarray(value, np.float32)
                if not np.all(np.isfinite(value)):
                    raise ValueError(f"{name} holds numbers that are not finite")
            found.append(value)
        check_gamma(gamma)
        return found[0], found[1]


def check_function(**functions: Any) -> None:
    """Raise unless these are functions."""
    for name, function in functions.items():
        if not callable(function):
            raise ValueError(f"{name} must be a function, got {describe(function)}")


def check_copilot(copilot: Any) -> Copilot:
    """Raise unless it is a Copilot."""
    if not isinstance(copilot, Copilot):
        raise ValueError(f"copilot must be a Copilot, got {describe(copilot)}; see train_copilot")
    return copilot


def check_gamma(gamma: Any) -> None:
    """Raise unless gamma is a number in [0, 1]."""
    check_number(gamma=gamma)
    if not isinstance(gamma, Tracer) and not 0.0 <= float(gamma) <= 1.0:
        raise ValueError(f"gamma must lie in [0, 1], from the pilot alone to the copilot alone, got {gamma}")


def _dynamics(copilot: Copilot, row: Array) -> SDE:
    """The reversal, or its probability flow, with the state block of ``row`` held."""
    schedule, denoiser = copilot.semilinear
    make = reverse if copilot.sampler == "sde" else probability_flow
    return guidance.hold(make(schedule, denoiser=denoiser), np.arange(row.size) < copilot.shift.size, Partial(known))


def _assist(copilot: Copilot, obs: Array, action: Array, gamma: Array, key: Array) -> Array:
    """Noise the action up to gamma, denoise it with the state held."""
    noise_key, run_key = streams(key, "copilot", 2)
    middle, half = 0.5 * (copilot.high + copilot.low), 0.5 * (copilot.high - copilot.low)
    row = jnp.concatenate([(obs - copilot.shift) / copilot.scale, (action - middle) / half])
    sde, schedule = _dynamics(copilot, row), copilot.semilinear.schedule
    levels = noise_level(gamma * (1.0 - jnp.arange(copilot.steps + 1) / copilot.steps))
    noised = schedule.alpha(levels[0]) * row + schedule.sigma(levels[0]) * normal_like(noise_key, row)
    found = simulate(sde, run_key, noised, schedule.T - levels, row)[copilot.shift.size :]
    return jnp.where(gamma > 0.0, middle + half * found, action)


_assist_one = jax.jit(_assist)
_assist_many = jax.jit(jax.vmap(_assist, (None, 0, 0, None, 0)))


def action_key(seed: Array, step: Array) -> Array:
    """The key of one action: of an episode's seed and of how many actions came before."""
    return jax.random.fold_in(stream(jax.random.key(seed), "copilot"), step)


def _assist_step(copilot: Copilot, obs: Array, action: Array, gamma: Array, seed: Array, step: Array) -> Array:
    return _assist(copilot, obs, action, gamma, action_key(seed, step))


assist_step = jax.jit(_assist_step)
assist_steps = jax.jit(jax.vmap(_assist_step, (None, 0, 0, None, 0, 0)))


# training -------------------------------------------------------------------------------------------------------------


def _levels(keys: Array) -> Array:
    """Training times: gamma uniform."""
    return noise_level(times.low_discrepancy(1e-3, 1.0)(keys))


def copilot_method(size: tuple[int, int], *, steps: int, rate: float, width: int, depth: int) -> Method:
    """``diffusion`` of rows (state, action), of which a network sees clean states and predicts actions.

    Args:
        size: (s, a), numbers of a state and of an action.
        steps: updates that Adam's rate decays over.
        rate: its peak.
        width: of the network's residual stream.
        depth: its blocks.
    """
    total = sum(size)
    network = MLP((total,), width=width, depth=depth, rngs=nnx.Rngs(0))
    held = hold(network, np.arange(total) < size[0], known)
    return diffusion(
        schedules.cosine(_LOG_SNR_END),
        held,
        shape=(total,),
        predict="velocity",
        time_sampler=Partial(_levels),
        optimizer=adam(rate, steps=steps),
        sampler="sde",
        ts=grids.uniform(50),
    )


def train_copilot(
    demonstrations: Demonstrations,
    key: Array,
    *,
    steps: int = 8000,
    batch_size: int = 1024,
    low: Numbers = -1.0,
    high: Numbers = 1.0,
    rate: float = 1e-3,
    width: int = 128,
    depth: int = 2,
    **options: Any,
) -> Copilot:
    """A copilot from demonstrations, whose gamma are trained evenly.

    Args:
        demonstrations: states without the goal, and the experts' actions.
        key: one threefry key.
        steps: updates.
        batch_size: rows per update.
        low: least action, one number or (a,): ``env.action_space.low``.
        high: greatest action.
        rate: peak of Adam's learning rate.
        width: of the residual MLP.
        depth: its blocks; an action costs about 50 (2 depth + 1) width² multiplications.
        **options: of ``fit`` (``directory``, ``callbacks``, ...).

    Returns:
        A Copilot of 50 steps; ``fast`` makes one of few.

    Raises:
        ValueError: demonstrations that are no pair of finite matrices, an action outside of its bounds.

    Example:
        >>> import jax, numpy as np
        >>> from bridgejax.applications.autonomy import Demonstrations, train_copilot
        >>> demonstrations = Demonstrations(np.zeros((500, 8)), np.zeros((500, 2)))
        >>> train_copilot(demonstrations, jax.random.key(0), steps=3, width=8).low.shape
        (2,)
    """
    states, actions = check_demonstrations(demonstrations)
    low, high = check_bounds(low, high, actions.shape[1])
    outside = np.any((actions < low - 1e-4 * (high - low)) | (actions > high + 1e-4 * (high - low)))
    if outside:
        raise ValueError(
            f"demonstrations.actions must lie in [low, high], got {actions.min(0).tolist()} to "
            f"{actions.max(0).tolist()}; pass low=env.action_space.low, high=env.action_space.high"
        )
    shift, scale = states.mean(0), states.std(0)
    scale = np.where(scale > 1e-6 * (np.abs(shift) + 1e-6), scale, 1.0).astype(np.float32)
    units = (2.0 * actions - high - low) / (high - low)
    rows = np.concatenate([(states - shift) / scale, units], axis=1).astype(np.float32)
    method = copilot_method((states.shape[1], actions.shape[1]), steps=steps, rate=rate, width=width, depth=depth)
    state = fit(method, {"x": rows, "args": rows}, key, steps=steps, batch_size=min(batch_size, len(rows)), **options)
    semilinear = method.process(state).dynamics.semilinear
    assert semilinear is not None
    shift, scale, low, high = (jnp.asarray(v, jnp.float32) for v in (shift, scale, low, high))
    return Copilot(semilinear, shift, scale, low, high)
