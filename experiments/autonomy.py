"""Shared autonomy: a copilot in LunarLander that does not know where to land.

    python experiments/autonomy.py                    all, results/autonomy.json and docs/shared_autonomy.png
    python experiments/autonomy.py --only latency     milliseconds of one action
    python experiments/autonomy.py --smoke            seconds, nothing written

The pad lies at one of seven places, drawn for each episode, and only the pilot knows which: the terrain is rebuilt
around it, and success is rest on the pad on both legs (``applications.autonomy.lunar``; gymnasium pays for rest
anywhere). Demonstrations are the steps of the successful ones of 900 episodes of the expert, gymnasium's heuristic
aimed at the pad: 8 numbers of state, in which nothing tells the pad, and 2 of action. The copilot is a diffusion over
these rows (``train_copilot``, 8000 updates of 1024 rows, residual MLP of width 128 and two blocks), used in 50 steps
with the state held.

Pilots: the expert; noisy, at every step with probability .6 a uniform action; laggy, with probability .85 its last
action again; zero, which does nothing; random, uniform. gamma is the share of the noise schedule up to which their
actions are noised: 0 is the pilot alone, 1 the copilot alone, which lands on some pad. 200 episodes a cell, the same
starts, pads and errors of the pilot in each row; what is neither success nor crash is floating, most of it at rest
beside the pad. Intervals are Wilson's at 95 %.

Published (To the Noise and Back, arXiv 2302.12244) shares are of another expert, of other errors, and of a pad whose
definition of success differs: the shape may be compared, not the numbers.
Budget: 25 minutes on an idle core; the seconds in the records are those of a core shared with other runs.
"""

from __future__ import annotations

import collections
import multiprocessing
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from study import Pick, Study, Table, installed, record, wilson

STUDY = Study(
    "autonomy",
    topic="Applications",
    question="Can a copilot that knows no goal help a bad pilot to land?",
    answer="Yes: at a small share of noise most crashes of a noisy or late pilot are gone and most of its landings are "
    "on the pad, and the expert hardly notices. Beyond that the copilot lands where it likes, whoever flies.",
    brief="Yes, at a small share of noise; beyond it lands where it likes.",
    budget="25 minutes on an idle core; these were made on a shared one",
    source="To the Noise and Back, arXiv 2302.12244: another expert and another rule of success, none is quoted",
    picks=(
        Pick("crashes avoided", {"pilot": "noisy"}, "crashes avoided, noisy pilot"),
        Pick("latency", {"form": "50 steps"}, "ms an action"),
    ),
    tables=(
        Table(
            ("crashes avoided", "landings gained", "landings lost"),
            rows=("pilot", "metric"),
            title="What the copilot changes",
            text="At the gamma with most successes: crashes less than without the copilot, landings more than with the "
            "pilot alone and than with the copilot alone, whichever lands more; and for the expert the most that is "
            "lost at gamma up to .3.",
            also=("gamma",),
        ),
        Table(
            "success",
            rows=("pilot",),
            columns="gamma",
            where={"form": "50 steps"},
            title="At rest on the pad, by gamma",
        ),
        Table("crash", rows=("pilot",), columns="gamma", where={"form": "50 steps"}, title="Crashed, by gamma"),
        Table("floating", rows=("pilot",), columns="gamma", where={"form": "50 steps"}, title="Floating, by gamma"),
        Table(
            "success",
            rows=("pilot",),
            columns="gamma",
            where={"form": "50 steps"},
            show="interval",
            title="Intervals of the successes at 95 %",
        ),
        Table(
            ("success", "crash", "floating"),
            rows=("pilot", "metric"),
            columns="gamma",
            where={"form": "4 steps"},
            title="The fast form: probability flow in 4 steps",
            text="It keeps more of the pilot's action at the same gamma: all the noise is that of the way up.",
        ),
        Table("latency", rows=("form",), title="Milliseconds of one action, on one core", also=("slowest tenth",)),
        Table(
            "demonstrations", rows=(), title="Demonstrations", also=("successes", "of", "updates", "training seconds")
        ),
    ),
    pictures=("shared_autonomy",),
    timed=("part",),
)
PICTURE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "shared_autonomy.png"
GAMMAS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
FAST_GAMMAS = (0.2, 0.3)
EPISODES, DEMONSTRATED, STEPS, FAST_STEPS = 200, 900, 50, 4
NEEDED = ("autonomy", 'pip install "bridgejax[apps]"', "Box2D", "gymnasium")
OUTCOMES = ("success", "crash", "floating")


def crew() -> dict[str, Any]:
    """The pilots by name."""
    from bridgejax.applications.autonomy import lunar, pilots

    expert = lunar.expert
    return {
        "expert": expert,
        "noisy": pilots.noisy(expert, 0.6),
        "laggy": pilots.laggy(expert, 0.85),
        "zero": pilots.zero,
        "random": pilots.random(),
    }


def taught(*, smoke: bool) -> tuple[Any, dict[str, Any]]:
    """The copilot, and what it learnt from."""
    import jax

    from bridgejax.applications.autonomy import Demonstrations, demonstrate, lunar, train_copilot

    episodes, updates, parts = (4, 3, []) if smoke else (DEMONSTRATED, 8000, [])
    kept: list[int] = []

    def keep(flight: Any) -> bool:
        kept.append(flight.info["outcome"] == "success")
        return bool(kept[-1])

    for first in range(0, episodes, 300):
        seeds = range(10_000 + first, 10_000 + min(first + 300, episodes))
        parts.append(demonstrate(lunar.make, lunar.expert, seeds, keep=keep, goal=lunar.pad))
    rows = Demonstrations(*(np.concatenate(p) for p in zip(*parts, strict=True)))
    began = time.perf_counter()
    copilot = train_copilot(rows, jax.random.key(0), steps=updates)
    told = {"successes": sum(kept), "of": episodes, "updates": updates}
    return copilot, {**told, "rows": len(rows.states), "training seconds": round(time.perf_counter() - began, 1)}


def flights(options: Any) -> Iterator[dict[str, Any]]:
    """Teach, then every pilot at every gamma, in 50 steps and in few."""
    from bridgejax.applications.autonomy import fly, lunar

    if not installed(*NEEDED):
        return
    began = time.perf_counter()
    copilot, told = taught(smoke=options.smoke)
    yield record("demonstrations", told.pop("rows"), {}, began=began, **told)
    seeds = range(2) if options.smoke else range(EPISODES)
    plans = (
        ("50 steps", copilot, (0.0, 0.3, 1.0) if options.smoke else GAMMAS),
        ("4 steps", copilot.fast(FAST_STEPS), (0.3,) if options.smoke else FAST_GAMMAS),
    )
    for form, assistant, gammas in plans:
        for gamma in gammas:
            for name, pilot in crew().items():
                limit = 20 if options.smoke else 1000
                options_of = {"copilot": assistant, "gamma": gamma, "goal": lunar.pad, "limit": limit}
                found = fly(lunar.make, pilot, seeds, **options_of)
                count = collections.Counter(f.info.get("outcome", "floating") for f in found)
                case = {"pilot": name, "form": form, "gamma": gamma}
                rest = sum(f.info.get("rest", False) for f in found) / len(found)
                for outcome in OUTCOMES:
                    value = count[outcome] / len(found)
                    yield record(
                        outcome,
                        value,
                        case,
                        n=len(found),
                        interval=wilson(count[outcome], len(found)),
                        at_rest=rest,
                        steps=float(np.mean([len(f.obs) for f in found])),
                        began=began,
                    )


def verdicts(options: Any) -> Iterator[dict[str, Any]]:
    """The bars, of the flights that are kept."""
    cells = [r for r in options.kept if r["part"] == "flights" and r["case"].get("form") == "50 steps"]
    share = {(r["metric"], r["case"]["pilot"], r["case"]["gamma"]): r["value"] for r in cells}
    measured = sorted({gamma for *_, gamma in share})
    if not measured:
        return
    for name in ("noisy", "laggy"):
        best = max((g for g in measured if ("success", name, g) in share), key=lambda g: share["success", name, g])
        avoided = share["crash", name, 0.0] - share["crash", name, best]
        gained = share["success", name, best] - max(share["success", name, g] for g in (0.0, 1.0))
        judged = name == "noisy"
        yield record(
            "crashes avoided",
            avoided,
            {"pilot": name},
            n=EPISODES,
            bar="at least 0.6" if judged else None,
            met=avoided >= 0.6 if judged else None,
            gamma=best,
        )
        yield record(
            "landings gained",
            gained,
            {"pilot": name},
            n=EPISODES,
            bar="above 0" if judged else None,
            met=gained > 0 if judged else None,
            gamma=best,
        )
    worst = min((g for g in measured if 0 < g <= 0.3), key=lambda g: share["success", "expert", g])
    lost = share["success", "expert", 0.0] - share["success", "expert", worst]
    yield record(
        "landings lost", lost, {"pilot": "expert"}, n=EPISODES, bar="at most 0.2", met=lost <= 0.2, gamma=worst
    )


def timed_calls(steps: int, calls: int) -> list[float]:
    """Milliseconds of each of some calls in a process of one core; the weights do not matter."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before JAX starts its threads
    import jax

    from bridgejax.applications.autonomy import Demonstrations, train_copilot

    random = np.random.default_rng(0)
    rows = Demonstrations(random.normal(size=(64, 8)), random.uniform(-1, 1, (64, 2)))
    copilot = train_copilot(rows, jax.random.key(0), steps=1, batch_size=8)
    copilot = copilot if steps == STEPS else copilot.fast(steps)
    key, spent = jax.random.key(1), []
    for k in range(calls + 1):
        began = time.perf_counter()
        np.asarray(copilot(rows.states[k % 64], rows.actions[k % 64], 0.3, key))
        spent.append(1e3 * (time.perf_counter() - began))
    return spent[1:]  # the first compiles


def latency(options: Any) -> Iterator[dict[str, Any]]:
    """One action, from NumPy to NumPy."""
    if not installed(*NEEDED):
        return
    for form, steps, bar in (("50 steps", STEPS, 5.0), ("4 steps", FAST_STEPS, 1.0)):
        began, calls = time.perf_counter(), 20 if options.smoke else 2000
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            spent = pool.apply(timed_calls, (steps, calls))
        middle = float(np.median(spent))
        yield record(
            "latency",
            middle,
            {"form": form},
            n=calls,
            bar=f"below {bar:g}",
            met=middle < bar,
            began=began,
            **{"slowest tenth": float(np.quantile(spent, 0.9))},
        )


def picture(records: list[dict[str, Any]]) -> None:
    """The trade-off: outcomes over gamma, a line for each pilot."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), sharey=True)
    for axis, outcome in zip(axes, OUTCOMES, strict=True):
        for colour, name in zip(("tab:green", "tab:orange", "tab:blue", "tab:grey", "tab:red"), crew(), strict=True):
            for form, style in (("50 steps", "-"), ("4 steps", ":")):
                found = [r for r in records if r["metric"] == outcome]
                found = [r for r in found if r["case"]["pilot"] == name and r["case"]["form"] == form]
                found.sort(key=lambda r: r["case"]["gamma"])
                if not found:
                    continue
                gamma, value = ([f(r) for r in found] for f in (lambda r: r["case"]["gamma"], lambda r: r["value"]))
                axis.plot(gamma, value, style, color=colour, lw=1.8 if style == "-" else 1.2, label=name)
                if style == "-":
                    low, high = zip(*(r["also"]["interval"] for r in found), strict=True)
                    axis.fill_between(gamma, low, high, color=colour, alpha=0.15, lw=0)
        title = {"success": "at rest on the pad", "crash": "crashed", "floating": "neither"}[outcome]
        axis.set(title=title, xlabel="gamma", xlim=(0, 1), ylim=(0, 1))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("share of episodes")
    handles, labels = axes[0].get_legend_handles_labels()
    once = dict(zip(reversed(labels), reversed(handles), strict=True))
    once = {name: once[name] for name in crew() if name in once}
    axes[1].legend(once.values(), once.keys(), title="pilot (dotted: 4 steps)", fontsize=9, loc="upper right")
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=110, bbox_inches="tight")
    print(PICTURE)


if __name__ == "__main__":
    STUDY.run(__doc__, {"flights": flights, "verdicts": verdicts, "latency": latency}, picture=picture)
