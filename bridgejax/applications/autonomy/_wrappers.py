"""Shared autonomy as wrappers of gymnasium: the pilot's actions go in, the copilot's reach the environment.

Every action has its key, of the seed of the last ``reset(seed=...)`` and of how many actions came since, so an episode
that is reset with a seed is the same each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from bridgejax._checks import describe
from bridgejax.applications._extras import require
from bridgejax.applications.autonomy._copilot import (
    Copilot,
    assist_step,
    assist_steps,
    check_copilot,
    check_function,
    check_gamma,
)

gymnasium: Any = require("gymnasium")

View: TypeAlias = Callable[[Any], np.ndarray]
"""``view(obs)``: what of an observation the copilot may see, without the goal."""


def check_spaces(copilot: Copilot, observations: Any, actions: Any, view: View | None) -> None:
    """Raise unless the copilot was trained on such actions, and where nothing is hidden on such observations."""
    if view is not None:
        check_function(view=view)
    if not isinstance(actions, gymnasium.spaces.Box) or not np.issubdtype(actions.dtype, np.floating):
        raise ValueError(
            f"env must have continuous actions, a Box of floats, got {actions}; a copilot adds noise to actions "
            '(for LunarLander: gymnasium.make("LunarLander-v3", continuous=True))'
        )
    if actions.shape != copilot.low.shape:
        raise ValueError(f"env has actions of shape {actions.shape}, the copilot of {copilot.low.shape}")
    if view is None and observations.shape != copilot.shift.shape:
        raise ValueError(
            f"env has observations of shape {observations.shape}, the copilot saw {copilot.shift.shape}; pass view, a "
            "function that takes from an observation what the copilot may see"
        )


class SharedAutonomy(gymnasium.Wrapper):
    """An environment whose actions are the pilot's, corrected by a copilot before they act.

    Args:
        env: with a Box of actions of one axis.
        copilot: of the same actions.
        gamma: share of the noise schedule, 0 (the pilot alone) to 1 (the copilot alone); an attribute, to be changed at
            any time.
        view: ``view(obs)``, (s,), what the copilot may see; None: the whole observation.

    Attributes:
        applied: (a,), the last action that reached the environment; None after a reset.

    Raises:
        ValueError: an environment of discrete actions, or of other sizes than the copilot's.

    Example:
        >>> import gymnasium, jax, numpy as np
        >>> from bridgejax.applications.autonomy import Demonstrations, SharedAutonomy, train_copilot
        >>> demonstrations = Demonstrations(np.zeros((500, 3)), np.zeros((500, 1)))
        >>> copilot = train_copilot(demonstrations, jax.random.key(0), low=-2, high=2, steps=3, width=8)
        >>> env = SharedAutonomy(gymnasium.make("Pendulum-v1"), copilot.fast(), gamma=0.3)
        >>> obs, info = env.reset(seed=0)
        >>> obs, reward, terminated, truncated, info = env.step(np.array([1.0]))
        >>> obs.shape, env.applied.shape
        ((3,), (1,))
    """

    def __init__(self, env: Any, copilot: Copilot, gamma: float, *, view: View | None = None):
        if not isinstance(env, gymnasium.Env):
            raise ValueError(f"env must be an environment of gymnasium, got {describe(env)}")
        check_spaces(check_copilot(copilot), env.observation_space, env.action_space, view)
        check_gamma(gamma)
        super().__init__(env)
        self.copilot, self.gamma, self.view, self.applied = copilot, gamma, view, None
        self._seed, self._count, self._seen = 0, 0, None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As the environment's; with a seed the copilot's draws begin again too."""
        obs, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._seed, self._count = seed, 0
        self._seen, self.applied = obs, None
        return obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step by the corrected action, which ``info["applied"]`` holds."""
        self.applied = self.action(action)
        self._count += 1
        obs, reward, terminated, truncated, info = self.env.step(self.applied)
        self._seen = obs
        return obs, reward, terminated, truncated, {**info, "applied": self.applied}

    def action(self, action: Any) -> np.ndarray:
        """The corrected action at the last observation, clipped to the environment's box."""
        if self._seen is None:
            raise ValueError("an action needs an observation; call reset() first")
        seen = self._seen if self.view is None else self.view(self._seen)
        seen, action = self.copilot.check(seen, action, self.gamma, ())
        found = np.asarray(assist_step(self.copilot, seen, action, self.gamma, self._seed, self._count))
        return np.clip(found, self.env.action_space.low, self.env.action_space.high)


class VectorSharedAutonomy(gymnasium.vector.VectorWrapper):
    """The same for a vector environment, all actions in one call; environment i of seed s has the draws of seed s + i.

    Args:
        env: a vector environment with a Box of actions of one axis each.
        copilot: of the same actions.
        gamma: as in ``SharedAutonomy``.
        view: ``view(obs)``, (n, s), what the copilot may see of observations (n, ...); None: all of them.

    Raises:
        ValueError: an environment of discrete actions, or of other sizes than the copilot's.

    Example:
        >>> import gymnasium, jax, numpy as np
        >>> from bridgejax.applications.autonomy import Demonstrations, VectorSharedAutonomy, train_copilot
        >>> demonstrations = Demonstrations(np.zeros((500, 3)), np.zeros((500, 1)))
        >>> copilot = train_copilot(demonstrations, jax.random.key(0), low=-2, high=2, steps=3, width=8)
        >>> env = gymnasium.make_vec("Pendulum-v1", num_envs=2, vectorization_mode="sync")
        >>> env = VectorSharedAutonomy(env, copilot.fast(), gamma=0.3)
        >>> obs, info = env.reset(seed=0)
        >>> env.step(np.ones((2, 1)))[0].shape
        (2, 3)
    """

    def __init__(self, env: Any, copilot: Copilot, gamma: float, *, view: View | None = None):
        if not isinstance(env, gymnasium.vector.VectorEnv):
            raise ValueError(
                f"env must be a vector environment of gymnasium, got {describe(env)}; see gymnasium.make_vec"
            )
        check_spaces(check_copilot(copilot), env.single_observation_space, env.single_action_space, view)
        check_gamma(gamma)
        super().__init__(env)
        self.copilot, self.gamma, self.view, self.applied = copilot, gamma, view, None
        self._seeds, self._count, self._seen = np.arange(env.num_envs), 0, None

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """As the environment's; with a seed, or one for each, the copilot's draws begin again too."""
        obs, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._seeds = np.asarray(seed) + (np.arange(self.num_envs) if np.ndim(seed) == 0 else 0)
            self._count = 0
        self._seen, self.applied = obs, None
        return obs, info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """One step of all environments by the corrected actions, which ``applied`` holds."""
        self.applied = self.actions(actions)
        self._count += 1
        self._seen, *rest = self.env.step(self.applied)
        return (self._seen, *rest)

    def actions(self, actions: Any) -> np.ndarray:
        """The corrected actions (n, a) at the last observations, clipped to the environments' box."""
        if self._seen is None:
            raise ValueError("actions need observations; call reset() first")
        seen = self._seen if self.view is None else self.view(self._seen)
        seen, actions = self.copilot.check(seen, actions, self.gamma, (self.num_envs,))
        counts = np.full(self.num_envs, self._count)
        found = np.asarray(assist_steps(self.copilot, seen, actions, self.gamma, self._seeds, counts))
        return np.clip(found, self.env.action_space.low, self.env.action_space.high)
