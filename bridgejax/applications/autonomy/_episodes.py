"""Episodes of a pilot with a copilot, many at once: environments step in turn, pilot and copilot act on all together.

Episode i depends on its seed alone, but for the pilot's errors, which are drawn for all episodes at every step: the
same for every copilot and every gamma, so that cells of a table are paired. Episodes that are over fall out of the
batch, which is padded to a power of two: few shapes are compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from bridgejax._checks import check_count, describe
from bridgejax._summary import summary
from bridgejax.applications.autonomy._copilot import (
    Copilot,
    Demonstrations,
    assist_steps,
    check_copilot,
    check_function,
    check_gamma,
)
from bridgejax.applications.autonomy.pilots import Pilot


class Flight(NamedTuple):
    """One episode.

    Attributes:
        seed: it was reset with.
        obs: (n, s), what was seen before each action.
        actions: (n, a), what the pilot did.
        applied: (n, a), what reached the environment.
        reward: their sum.
        terminated: whether the environment ended it, and not its limit of steps.
        info: what the environment said last.
    """

    seed: int
    obs: np.ndarray
    actions: np.ndarray
    applied: np.ndarray
    reward: float
    terminated: bool
    info: dict[str, Any]

    __repr__ = summary


def _no_goal(info: dict[str, Any]) -> np.ndarray:
    return np.zeros(0)


def _copilots(
    copilot: Copilot, obs: np.ndarray, actions: np.ndarray, gamma: float, seeds: np.ndarray, step: int
) -> np.ndarray:
    """The corrected actions of n episodes, padded to a power of two."""
    rows = np.zeros(max(8, 1 << (len(seeds) - 1).bit_length()), int)
    rows[: len(seeds)] = np.arange(len(seeds))
    steps = np.full(len(rows), step)
    return np.asarray(assist_steps(copilot, obs[rows], actions[rows], gamma, seeds[rows], steps))[: len(seeds)]


def fly(
    make: Callable[[], Any],
    pilot: Pilot,
    seeds: Sequence[int],
    *,
    copilot: Copilot | None = None,
    gamma: float = 0.0,
    goal: Callable[[dict[str, Any]], Any] = _no_goal,
    view: Callable[[np.ndarray], np.ndarray] | None = None,
    limit: int = 1000,
) -> list[Flight]:
    """Episodes, one for each seed.

    Args:
        make: ``make()``, an environment of gymnasium with one axis of observations and a Box of actions; one is made
            for each seed.
        pilot: ``pilot(obs, goal, previous, random)``, see ``pilots``.
        seeds: the environments are reset with, each in its own.
        copilot: who corrects the actions; None: nobody.
        gamma: share of the noise schedule.
        goal: ``goal(info)``, what only the pilot knows, of what ``reset`` says; numbers.
        view: ``view(obs)``, what the copilot may see of observations (n, s); None: all.
        limit: steps after which an episode ends in any case.

    Returns:
        Flights in the order of the seeds.

    Raises:
        ValueError: no seeds, a pilot that is no function or gives actions of another shape, gamma outside of [0, 1].

    Example:
        >>> import gymnasium
        >>> from bridgejax.applications.autonomy import fly, pilots
        >>> flights = fly(lambda: gymnasium.make("Pendulum-v1"), pilots.random(low=-2, high=2), [0, 1], limit=5)
        >>> [flight.obs.shape for flight in flights]
        [(5, 3), (5, 3)]
    """
    check_function(make=make, pilot=pilot, goal=goal)
    if copilot is not None:
        check_copilot(copilot)
    check_gamma(gamma)
    check_count("limit", limit)
    given = np.asarray(seeds)
    if given.ndim != 1 or not len(given) or not np.issubdtype(given.dtype, np.integer):
        raise ValueError(f"seeds must be whole numbers, one an episode, got {describe(seeds)}")
    envs, random = [make() for _ in given], np.random.default_rng(int(given[0]))
    started = [env.reset(seed=int(seed)) for env, seed in zip(envs, given, strict=True)]
    obs, goals = np.stack([o for o, _ in started]), np.stack([np.ravel(goal(i)) for _, i in started])
    low, high = envs[0].action_space.low, envs[0].action_space.high
    previous = np.full((len(seeds), *low.shape), np.nan, np.float32)
    infos: list[Any] = [info for _, info in started]
    rewards, terminated, lengths = np.zeros(len(seeds)), np.zeros(len(seeds), bool), np.zeros(len(seeds), int)
    kept: tuple[list[np.ndarray], ...] = ([], [], [])
    active = np.arange(len(seeds))
    for step in range(limit):
        actions = np.asarray(pilot(obs, goals, previous, random), np.float32)
        if actions.shape != previous.shape:
            raise ValueError(f"pilot must give actions of shape {previous.shape}, got {describe(actions)}")
        applied = actions.copy()
        if copilot is not None and gamma > 0.0:
            seen = obs[active] if view is None else view(obs[active])
            applied[active] = _copilots(copilot, seen, actions[active], gamma, given[active], step)
        applied = np.clip(applied, low, high)
        for store, value in zip(kept, (obs.copy(), actions, applied), strict=True):
            store.append(value)
        over = []
        for i in active:
            obs[i], reward, terminated[i], truncated, infos[i] = envs[i].step(applied[i])
            rewards[i] += float(reward)
            lengths[i] = step + 1
            if terminated[i] or truncated:
                over.append(i)
        previous = actions
        active = np.setdiff1d(active, over)
        if not len(active):
            break
    for env in envs:
        env.close()
    trails = [np.stack(store, axis=1) for store in kept]

    def flight(i: int) -> Flight:
        seen, pilots, applied = (trail[i, : lengths[i]] for trail in trails)
        return Flight(int(given[i]), seen, pilots, applied, float(rewards[i]), bool(terminated[i]), infos[i])

    return [flight(i) for i in range(len(given))]


def demonstrate(
    make: Callable[[], Any],
    expert: Pilot,
    seeds: Sequence[int],
    *,
    keep: Callable[[Flight], bool],
    goal: Callable[[dict[str, Any]], Any] = _no_goal,
    view: Callable[[np.ndarray], np.ndarray] | None = None,
    limit: int = 1000,
) -> Demonstrations:
    """Demonstrations of an expert: states without the goal and actions, of the episodes that are kept.

    Args:
        make: as in ``fly``.
        expert: the pilot who knows the goal.
        seeds: of episodes.
        keep: ``keep(flight)``, whether an episode succeeded.
        goal: as in ``fly``.
        view: what the copilot will see; it must not hold the goal.
        limit: as in ``fly``.

    Returns:
        All steps of the kept episodes, one row each.

    Raises:
        ValueError: no episode that is kept; as ``fly``.

    Example:
        >>> import gymnasium
        >>> from bridgejax.applications.autonomy import demonstrate, pilots
        >>> make = lambda: gymnasium.make("Pendulum-v1")
        >>> demonstrate(make, pilots.zero, [0, 1], keep=lambda flight: True, limit=5).states.shape
        (10, 3)
    """
    check_function(expert=expert, keep=keep)
    flights = fly(make, expert, seeds, goal=goal, limit=limit)
    good = [flight for flight in flights if keep(flight)]
    if not good:
        raise ValueError(f"none of {len(flights)} episodes was kept; is the expert one, and keep right?")
    states = np.concatenate([flight.obs if view is None else view(flight.obs) for flight in good])
    return Demonstrations(states.astype(np.float32), np.concatenate([flight.applied for flight in good]))
