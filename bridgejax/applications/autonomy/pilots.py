"""Pilots that err in known ways, as policies of many episodes at once.

    pilot(obs, goal, previous, random) -> actions        (n, s), (n, g), (n, a), a NumPy Generator -> (n, a)

``previous`` is what the pilot did last, nan before the first action. A pilot keeps nothing, and draws the same numbers
whatever it sees, so that one seed gives one sequence of errors with any copilot. ``expert`` is the environment's own;
the others are made of it and of the box of actions (as in Yoneda et al. 2023, arXiv 2302.12244):

    noisy     with probability rate a uniform action, else the expert's
    laggy     with probability rate the previous action again, else the expert's
    zero      the action 0
    random    a uniform action
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from jax.tree_util import Partial

from bridgejax._checks import check_number
from bridgejax.applications.autonomy._copilot import check_bounds, check_function

__all__ = ["Pilot", "laggy", "noisy", "random", "zero"]


def __dir__() -> list[str]:
    return __all__


Pilot: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
"""``pilot(obs, goal, previous, random) -> actions``, see above."""


def _check_rate(rate: Any) -> float:
    check_number(rate=rate)
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"rate must lie in [0, 1], a probability per step, got {rate}")
    return float(rate)


def _uniform(previous: np.ndarray, random: np.random.Generator, low: Any, high: Any) -> np.ndarray:
    return random.uniform(low, high, previous.shape).astype(np.float32)


def _noisy(
    expert: Pilot,
    rate: float,
    low: Any,
    high: Any,
    obs: np.ndarray,
    goal: np.ndarray,
    previous: np.ndarray,
    random: np.random.Generator,
) -> np.ndarray:
    errs, errors = random.random(len(obs)) < rate, _uniform(previous, random, low, high)
    return np.where(errs[:, None], errors, expert(obs, goal, previous, random))


def noisy(expert: Pilot, rate: float = 0.6, *, low: Any = -1.0, high: Any = 1.0) -> Pilot:
    """A pilot who acts at random now and then.

    Args:
        expert: what is done otherwise.
        rate: probability of a uniform action, at every step.
        low: least action, one number or (a,).
        high: greatest action.

    Returns:
        A pilot.

    Raises:
        ValueError: an expert that is no function, a rate outside of [0, 1], bounds that do not increase.

    Example:
        >>> import numpy as np
        >>> from bridgejax.applications.autonomy import pilots
        >>> pilot = pilots.noisy(lambda obs, goal, previous, random: goal - obs, rate=0.0)
        >>> print(pilot(np.zeros((1, 2)), np.ones((1, 2)), np.full((1, 2), np.nan), np.random.default_rng(0)))
        [[1. 1.]]
    """
    check_function(expert=expert)
    return Partial(_noisy, expert, _check_rate(rate), *check_bounds(low, high))


def _laggy(
    expert: Pilot,
    rate: float,
    obs: np.ndarray,
    goal: np.ndarray,
    previous: np.ndarray,
    random: np.random.Generator,
) -> np.ndarray:
    again = (random.random(len(obs)) < rate) & np.isfinite(previous).all(1)
    return np.where(again[:, None], previous, expert(obs, goal, previous, random))


def laggy(expert: Pilot, rate: float = 0.85) -> Pilot:
    """A pilot who is late: repeats the last action most of the time.

    Args:
        expert: what is done otherwise.
        rate: probability of repeating, at every step; a mean delay of rate / (1 - rate) steps.

    Returns:
        A pilot.

    Raises:
        ValueError: an expert that is no function, a rate outside of [0, 1].

    Example:
        >>> import numpy as np
        >>> from bridgejax.applications.autonomy import pilots
        >>> pilot = pilots.laggy(lambda obs, goal, previous, random: goal - obs, rate=1.0)
        >>> print(pilot(np.zeros((1, 2)), np.ones((1, 2)), np.full((1, 2), 0.5), np.random.default_rng(0)))
        [[0.5 0.5]]
    """
    check_function(expert=expert)
    return Partial(_laggy, expert, _check_rate(rate))


def zero(obs: np.ndarray, goal: np.ndarray, previous: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A pilot who does nothing: the action 0.

    Args:
        obs: (n, s).
        goal: (n, g).
        previous: (n, a).
        random: not used.

    Returns:
        Zeros (n, a).

    Example:
        >>> import numpy as np
        >>> from bridgejax.applications.autonomy import pilots
        >>> print(pilots.zero(np.zeros((1, 8)), np.zeros((1, 1)), np.full((1, 2), np.nan), None))
        [[0. 0.]]
    """
    return np.zeros(previous.shape, np.float32)


def _random(
    low: Any, high: Any, obs: np.ndarray, goal: np.ndarray, previous: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    return _uniform(previous, random, low, high)


def random(*, low: Any = -1.0, high: Any = 1.0) -> Pilot:
    """A pilot who acts at random: uniform in the box of actions.

    Args:
        low: least action, one number or (a,).
        high: greatest action.

    Returns:
        A pilot.

    Raises:
        ValueError: bounds that are not finite or not increasing.

    Example:
        >>> import numpy as np
        >>> from bridgejax.applications.autonomy import pilots
        >>> pilot = pilots.random(low=0.0, high=2.0)
        >>> pilot(np.zeros((5, 8)), np.zeros((5, 1)), np.full((5, 2), np.nan), np.random.default_rng(0)).shape
        (5, 2)
    """
    return Partial(_random, *check_bounds(low, high))
