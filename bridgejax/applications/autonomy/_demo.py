"""The lander to play with: arrows fly, a copilot that does not know the pad corrects.

    python -m bridgejax.applications.autonomy --env LunarLander
    python -m bridgejax.applications.autonomy --pilot noisy --record flight.gif

The first is flown with the arrow keys; 0 to 9 set gamma, escape ends it. The second opens no window: it films the pilot
alone and, beside it, with the copilot.

The first call teaches the copilot, in a minute or two, and keeps it in ``--copilot``.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from typing import Any

import jax
import numpy as np

from bridgejax._checks import check_count
from bridgejax.applications._extras import require
from bridgejax.applications.autonomy._copilot import (
    Copilot,
    Demonstrations,
    check_gamma,
    train_copilot,
)
from bridgejax.applications.autonomy._episodes import demonstrate
from bridgejax.applications.autonomy._saved import load_copilot, save_copilot

HUMAN = "keyboard"
OTHERS = ("expert", "noisy", "laggy", "zero", "random")


def crew() -> dict[str, Any]:
    """The pilots by name, as in experiments/autonomy.py."""
    from bridgejax.applications.autonomy import lunar, pilots

    noisy, laggy = pilots.noisy(lunar.expert, 0.6), pilots.laggy(lunar.expert, 0.85)
    return dict(zip(OTHERS, (lunar.expert, noisy, laggy, pilots.zero, pilots.random()), strict=True))


def taught(file: pathlib.Path, episodes: int, updates: int) -> Copilot:
    """The copilot of the file; made first where there is none."""
    from bridgejax.applications.autonomy import lunar

    if file.exists():
        return load_copilot(file, (8, 2))
    print(f"teaching a copilot: {episodes} flights of the expert, {updates} updates, kept in {file}", flush=True)
    parts = [
        demonstrate(
            lunar.make,
            lunar.expert,
            range(10_000 + first, 10_000 + min(first + 100, episodes)),
            keep=lambda flight: flight.info["outcome"] == "success",
            goal=lunar.pad,
        )
        for first in range(0, episodes, 100)
    ]
    rows = Demonstrations(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    copilot = train_copilot(rows, jax.random.key(0), steps=updates, progress=True)
    save_copilot(file, copilot)
    return copilot


def from_keys(held: Any, pygame: Any) -> np.ndarray:
    """Arrows as an action: up is the main engine, left and right are the side engines."""
    up, side = held[pygame.K_UP], float(held[pygame.K_RIGHT]) - float(held[pygame.K_LEFT])
    return np.array([1.0 if up else -1.0, side], np.float32)


def play(copilot: Copilot, gamma: float, seed: int, limit: int) -> None:
    """One flight by keyboard, in a window; says how it ended."""
    from bridgejax.applications.autonomy import SharedAutonomy, lunar

    pygame = require("pygame")
    env = SharedAutonomy(lunar.make(render_mode="human"), copilot, gamma)
    env.reset(seed=seed)
    told: dict[str, Any] = {}
    for _ in range(limit):
        held = pygame.key.get_pressed()
        digits = [k for k in range(10) if held[pygame.K_0 + k]]
        env.gamma = digits[0] / 10 if digits else env.gamma
        pygame.display.set_caption(f"gamma {env.gamma:.1f}; arrows fly, 0 to 9 set gamma, escape ends")
        *_, terminated, truncated, told = env.step(from_keys(held, pygame))
        if terminated or truncated or held[pygame.K_ESCAPE]:
            break
    env.close()
    print(told.get("outcome", "ended in the air"), flush=True)


def film(copilot: Copilot, pilot: Any, gamma: float, seed: int, limit: int, every: int) -> tuple[list[Any], str]:
    """Every few frames of a flight (h, w, 3), and how it ended."""
    from bridgejax.applications.autonomy import SharedAutonomy, lunar

    env = SharedAutonomy(lunar.make(render_mode="rgb_array"), copilot, gamma)
    obs, info = env.reset(seed=seed)
    goal, previous = np.full((1, 1), info["pad"]), np.full((1, 2), np.nan, np.float32)
    random, frames = np.random.default_rng(seed), []
    for step in range(limit):
        if step % every == 0:
            frames.append(env.render())
        previous = np.asarray(pilot(obs[None], goal, previous, random), np.float32)
        obs, _, terminated, truncated, info = env.step(previous[0])
        if terminated or truncated:
            break
    frames.append(env.render())
    env.close()
    return frames, info.get("outcome", "in the air")


def record(file: pathlib.Path, copilot: Copilot, name: str, gamma: float, seed: int, limit: int) -> list[str]:
    """A GIF of the pilot alone and with the copilot, side by side, in half size; how the two ended."""
    image, draw = require("PIL.Image"), require("PIL.ImageDraw")
    every, pilot = 6, crew()[name]
    films = [film(copilot, pilot, g, seed, limit, every) for g in (0.0, gamma)]
    length = max(len(frames) for frames, _ in films) + 12  # the end stands still
    pictures = []
    for k in range(length):
        panels = []
        for (frames, outcome), caption in zip(films, ("alone", f"gamma {gamma:g}"), strict=True):
            panel = image.fromarray(frames[min(k, len(frames) - 1)]).resize((300, 200))
            said = f"{name}, {caption}" + (f": {outcome}" if k >= len(frames) else "")
            draw.Draw(panel).text((6, 6), said, fill=(200, 0, 0))
            panels.append(np.asarray(panel))
        pictures.append(image.fromarray(np.concatenate(panels, axis=1)).quantize(32))
    file.parent.mkdir(parents=True, exist_ok=True)
    pictures[0].save(file, save_all=True, append_images=pictures[1:], duration=60, loop=0, optimize=True)
    return [outcome for _, outcome in films]


def main(argv: list[str]) -> int:
    """The command; 0, or 1 after a sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m bridgejax.applications.autonomy", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--env", choices=("LunarLander",), default="LunarLander", help="what is flown")
    parser.add_argument("--pilot", choices=(HUMAN, *OTHERS), default=HUMAN, help="who flies")
    parser.add_argument("--gamma", type=float, default=0.2, help="share of the noise, 0 (pilot alone) to 1")
    parser.add_argument("--seed", type=int, default=0, help="of the terrain, the pad and the pilot's errors")
    parser.add_argument("--record", type=pathlib.Path, metavar="FILE.gif", help="film it, without a window")
    parser.add_argument("--copilot", type=pathlib.Path, default=pathlib.Path("copilot-lunar.safetensors"), help="file")
    parser.add_argument("--demonstrations", type=int, default=600, help="flights of the expert that teach it")
    parser.add_argument("--updates", type=int, default=8000, help="updates of the copilot")
    parser.add_argument("--limit", type=int, default=1000, help="steps of a flight")
    given = parser.parse_args(argv)
    try:
        check_gamma(given.gamma)
        for name in ("demonstrations", "updates", "limit"):
            check_count(name, getattr(given, name))
        if (given.pilot == HUMAN) != (given.record is None):
            raise ValueError("pilot must be one of " + ", ".join(OTHERS) + " with --record FILE.gif, and only there")
        copilot = taught(given.copilot, given.demonstrations, given.updates)
        if given.record is None:
            play(copilot, given.gamma, given.seed, given.limit)
        else:
            ended = record(given.record, copilot, given.pilot, given.gamma, given.seed, given.limit)
            print(f"{given.record}: alone {ended[0]}, with the copilot {ended[1]}", flush=True)
    except (ImportError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0
