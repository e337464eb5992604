"""LunarLander with a pad that moves, and an expert who knows where it is.

gymnasium's pad is in neither the physics, nor the reward, nor the rule of success: moved flags change nothing, and rest
anywhere pays 100. Here the terrain is rebuilt around a pad of two chunks of the ground's ten, at one of seven places;
the shaping pulls towards it; and ``info`` says how an episode ended:

    success     at rest on the pad, on both legs
    crash       the body touched the ground, or the lander left the screen to a side
    floating    neither: at rest off the pad, or still in the air at the limit of steps

An observation is gymnasium's: nothing in it tells where the pad is. ``info["pad"]``, in the units of obs[0], does.
"""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np

from bridgejax._checks import describe
from bridgejax.applications._extras import require

gymnasium: Any = require("gymnasium")

__all__ = ["OUTCOMES", "PADS", "PadLander", "expert", "make", "pad"]


def __dir__() -> list[str]:
    return __all__


OUTCOMES = ("success", "crash", "floating")
PADS = range(2, 9)  # chunks of the ground; at 1 and 9 a flag would stand at the edge of the screen, which ends episodes
_CHUNKS = 11


class PadLander(gymnasium.Wrapper):
    """LunarLander whose pad lies around another chunk of the ground in each episode.

    The terrain and the pad are of a random stream of their own, so that the environment's other draws are those of
    gymnasium. ``reset(options={"pad": 3})`` chooses the chunk, 2 to 8; gymnasium's is 5.

    Args:
        env: ``gymnasium.make("LunarLander-v3", continuous=True)``.

    Raises:
        ValueError: another environment, or one of discrete actions; a pad outside of 2 to 8.

    Example:
        >>> from bridgejax.applications.autonomy import lunar
        >>> env = lunar.make()
        >>> obs, info = env.reset(seed=0, options={"pad": 5})
        >>> obs.shape, float(info["pad"])
        ((8,), 0.0)
    """

    def __init__(self, env: Any):
        spec = getattr(env.unwrapped, "spec", None)
        if spec is None or not spec.id.startswith("LunarLander") or not getattr(env.unwrapped, "continuous", False):
            raise ValueError(
                f'env must be gymnasium.make("LunarLander-v3", continuous=True), got {env}; see lunar.make()'
            )
        super().__init__(env)
        self._random = np.random.default_rng()
        self._pad, self._last = 0.0, np.zeros(8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, Any]:
        """As gymnasium's, with the terrain built again around a pad; ``info["pad"]`` is its middle."""
        obs, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._random = np.random.default_rng([seed, 1])
        drawn = int(self._random.integers(PADS.start, PADS.stop))
        chosen = (options or {}).get("pad", drawn)
        if isinstance(chosen, bool) or chosen not in PADS:
            raise ValueError(f"options['pad'] must be a chunk from {PADS[0]} to {PADS[-1]}, got {describe(chosen)}")
        self._build(int(chosen))
        self._last = obs
        return obs, {**info, "pad": self._pad}

    def _build(self, chunk: int) -> None:
        """The ground, flat around the chunk's left end and high as gymnasium's pad there."""
        box2d, lander = require("Box2D.b2"), self.unwrapped
        module = require("gymnasium.envs.box2d.lunar_lander")
        width, height = module.VIEWPORT_W / module.SCALE, module.VIEWPORT_H / module.SCALE
        x = width / (_CHUNKS - 1) * np.arange(_CHUNKS)
        rough = self._random.uniform(0.0, height / 2, _CHUNKS + 1)
        rough[chunk - 2 : chunk + 3] = height / 4
        y = [0.33 * (rough[i - 1] + rough[i] + rough[i + 1]) for i in range(_CHUNKS)]
        points = [(float(a), float(b)) for a, b in zip(x, y, strict=True)]
        lander.world.DestroyBody(lander.moon)
        lander.moon = lander.world.CreateStaticBody(shapes=box2d.edgeShape(vertices=[(0, 0), (width, 0)]))
        lander.moon.color1 = lander.moon.color2 = (0.0, 0.0, 0.0)
        lander.sky_polys = []
        for p, q in itertools.pairwise(points):
            lander.moon.CreateEdgeFixture(vertices=[p, q], density=0, friction=0.1)
            lander.sky_polys.append([p, q, (q[0], height), (p[0], height)])
        lander.helipad_x1, lander.helipad_x2 = points[chunk - 1][0], points[chunk + 1][0]
        self._pad = float((x[chunk] - width / 2) / (width / 2))

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """As gymnasium's, with the shaping towards this pad; ``info["outcome"]`` when it ends."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        if not terminated:  # the last reward is 100 or -100
            reward += _pull(obs, self._pad) - _pull(obs, 0.0) - _pull(self._last, self._pad) + _pull(self._last, 0.0)
        self._last = obs
        lander = self.unwrapped
        on_pad = bool(lander.helipad_x1 <= lander.lander.position.x <= lander.helipad_x2)
        if terminated or truncated:
            rest = terminated and not lander.lander.awake
            landed = rest and on_pad and bool(obs[6]) and bool(obs[7])
            info = {**info, "outcome": OUTCOMES[0 if landed else 1 if terminated and not rest else 2], "rest": rest}
        return obs, float(reward), terminated, truncated, {**info, "pad": self._pad, "on_pad": on_pad}


def _pull(obs: np.ndarray, pad: float) -> float:
    """The part of the shaping that knows a place."""
    return -100.0 * float(np.hypot(obs[0] - pad, obs[1]))


def make(**options: Any) -> PadLander:
    """LunarLander with a pad that moves.

    Args:
        **options: of ``gymnasium.make``, ``render_mode`` for example.

    Returns:
        A PadLander of 1000 steps at most.

    Raises:
        ImportError: Box2D is not installed.

    Example:
        >>> from bridgejax.applications.autonomy import lunar
        >>> lunar.make().action_space.shape
        (2,)
    """
    require("Box2D")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the libraries that it imports
        return PadLander(gymnasium.make("LunarLander-v3", continuous=True, **options))


def pad(info: dict[str, Any]) -> float:
    """The goal, of what ``reset`` says: the pad's middle in the units of obs[0].

    Args:
        info: of ``reset`` or ``step``.

    Returns:
        A number in [-0.6, 0.6].

    Example:
        >>> from bridgejax.applications.autonomy import lunar
        >>> lunar.pad({"pad": 0.2})
        0.2
    """
    return info["pad"]


def expert(obs: np.ndarray, goal: np.ndarray, previous: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """gymnasium's heuristic, aimed at the pad, and higher while it is away from it.

        angle wanted    clip((x - p) / 2 + vx, -0.4, 0.4)
        height wanted   0.55 |x - p| + 0.5 clip(|x - p| / 0.15 - 0.5, 0, 1)

    Without the second term it scrapes the ground beside pads that lie to a side.

    Args:
        obs: (n, 8).
        goal: (n, 1), the pad's middle.
        previous: not used.
        random: not used.

    Returns:
        Actions (n, 2) in [-1, 1].

    Example:
        >>> import numpy as np
        >>> from bridgejax.applications.autonomy import lunar
        >>> lunar.expert(np.zeros((3, 8)), np.zeros((3, 1)), None, None).shape
        (3, 2)
    """
    x, y, vx, vy, angle, turn = obs[:, :6].T
    away = x - goal[:, 0]
    wanted = 0.55 * np.abs(away) + 0.5 * np.clip(np.abs(away) / 0.15 - 0.5, 0.0, 1.0)
    tilt = (np.clip(0.5 * away + vx, -0.4, 0.4) - angle) * 0.5 - turn
    hover = (wanted - y) * 0.5 - 0.5 * vy
    contact = (obs[:, 6] > 0) | (obs[:, 7] > 0)
    tilt, hover = np.where(contact, 0.0, tilt), np.where(contact, -0.5 * vy, hover)
    return np.clip(np.stack([20.0 * hover - 1.0, -20.0 * tilt], axis=1), -1.0, 1.0).astype(np.float32)
