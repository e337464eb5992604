"""Variational Schroedinger diffusion against plain variance-preserving diffusion, at equal beta.

    python experiments/vsdm.py                   results/vsdm.json
    python experiments/vsdm.py --only forecast   one part (toys, forecast), the others' rows stay
    python experiments/vsdm.py --smoke           seconds, nothing written
    python experiments/vsdm.py --series FILE     another series: .npy, .csv or .txt, times in rows, channels in columns

    toys      spirals with y times 8, checkerboard with x times 6, standard deviation 1 before the stretch: probability
              flows of A = 0 (no rounds: the same code, network, updates) and of the learnt A at beta 0.1 -> 10, means
              of three trainings. W2 to 1,000 held-out points, in units of the data, at 8 and 20 evaluations of the
              network, and how straight 100-step paths are: by the clock, E int |dx/dt - (x_1 - x_0)|^2 dt over
              E |x_1 - x_0|^2, t in [0, 1], and whatever the clock, E length / E |x_1 - x_0| - 1
    forecast  probabilistic forecast of a real series: the next 6 values of all channels given the last 12, each channel
              standardised on the training part (the first 70 %). CRPS, in these units, the mean over values and windows
              of E|X - y| - E|X - X'|/2 from 64 draws, on windows of the last 25 %, by the SDE in 20 steps. Ours: 3,177
              monthly sunspot numbers (R's datasets::sunspot.month, carried by the package pydataset), one a line.
              Without --series: the four EEG channels shipped with matplotlib, where it has them; its 542 windows are
              too few for these networks, which then forecast worse than draws of the training windows

Budget: 25 minutes on one core.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from study import Pick, Study, Table, record

import bridgejax as bj
from bridgejax.metrics import floor, wasserstein2

STUDY = Study(
    "vsdm",
    topic="Schrödinger bridges",
    question="Does variational diffusion beat plain diffusion?",
    answer="At few evaluations, yes: W2 of stretched sets is lower. Its paths are not straighter, and a forecast of "
    "sunspots is no better.",
    brief="At few evaluations; its paths are not straighter.",
    budget="25 minutes on one core",
    picks=(
        Pick("W2 at 8 evaluations", {"set": "spirals, y x 8", "model": "learnt A"}, "W2"),
        Pick("W2 at 8 evaluations", {"set": "spirals, y x 8", "model": "A = 0"}, "plain"),
    ),
    tables=(
        Table("W2 at 8 evaluations", rows=("set",), columns="model", text="Means of three trainings."),
        Table("W2 at 20 evaluations", rows=("set",), columns="model"),
        Table(
            "curvature by the clock",
            rows=("set",),
            columns="model",
            text="E int (dx/dt - (x_1 - x_0))^2 dt over E (x_1 - x_0)^2: 0 for straight paths of even speed.",
        ),
        Table(
            "curvature whatever the clock",
            rows=("set",),
            columns="model",
            text="E length over E distance of the ends, less 1: 0 for straight paths.",
        ),
        Table(
            "W2 at 8 evaluations",
            rows=("set",),
            columns="model",
            show="prior_gap",
            title="How far from N(0, I) the forward processes end",
        ),
        Table(
            "CRPS",
            rows=("series", "model"),
            title="CRPS of a forecast: the next 6 values of the last 12",
            text="In standard deviations of the series; draws of the training windows are a forecast that knows "
            "nothing.",
            also=("prior_gap", "windows", "test_windows", "updates", "seconds"),
        ),
    ),
    missed=(
        (
            {"metric": ("curvature by the clock", "curvature whatever the clock")},
            "The learnt A makes the forward process end nearer to N(0, I), which lowers W2; it does not make "
            "paths straight, and bends them more.",
        ),
        (
            {"metric": "CRPS"},
            "One training each, and nearly equal: one standardised series has nearly one scale, and A = 0 ends "
            "nearer to N(0, I) already.",
        ),
    ),
    timed=("part", "set", "model"),
)
SCHEDULE = bj.schedules.vp(0.1, 10.0)
TOYS = {"spirals, y x 8": ("spirals", (1.0, 8.0)), "checkerboard, x x 6": ("checkerboard", (6.0, 1.0))}
EVALUATIONS = (8, 20)
PAST, FUTURE = 12, 6
SEEDS = 3


def grid(n: int) -> Array:
    """n steps from prior to data, shrinking towards the data."""
    return bj.grids.quadratic(n)


def plane(name: str, stretch: tuple[float, float], seed: int, n: int) -> np.ndarray:
    """Points of a toy with unit deviation, stretched."""
    x = bj.data.toys.sample(name, seed, n)
    scale = bj.data.toys.sample(name, 0, 20_000).std()
    return (x / scale * np.asarray(stretch)).astype(np.float32)


def make(network: nnx.Module, steps: int, **options: Any) -> bj.Method:
    """A VSDM."""
    optimizer = optax.adam(optax.cosine_decay_schedule(2e-3, steps))
    return bj.methods.vsdm(network, schedule=SCHEDULE, optimizer=optimizer, ts=grid(50), **options)


def learn(method: bj.Method, data: Any, steps: int, rounds: int, seed: int = 1) -> Any:
    """A trained state; without rounds A stays 0, which is plain VP by the same code."""
    refresh_every = steps // rounds if rounds else steps
    return bj.fit(method, data, jax.random.key(seed), steps=steps, batch_size=256, refresh_every=refresh_every)


def bends(process: bj.Process, n: int) -> tuple[float, float]:
    """How far 100-step paths are from straight: by the clock, and whatever the clock. Both are 0 for straight ones."""
    ts = grid(100)

    def one(key: Array) -> Array:
        return bj.simulate_path(process.dynamics, key, process.start(key, None), ts).xs

    xs = jax.jit(jax.vmap(one))(bj.keys(jax.random.key(3), n))
    steps, whole, h = jnp.diff(xs, axis=1), xs[:, -1:] - xs[:, :1], jnp.diff(ts)[:, None]
    length, distance = (jnp.linalg.norm(v, axis=-1).sum() for v in (steps, whole))
    return float(jnp.sum((steps / h - whole) ** 2 * h) / jnp.sum(whole**2)), float(length / distance) - 1.0


def judge(process: bj.Process, held: np.ndarray) -> dict[str, float]:
    """W2 at few evaluations, and how far from straight the paths are."""
    n, found = len(held), {}
    for evaluations in EVALUATIONS:
        x = bj.sample(process, bj.keys(jax.random.key(2), n), ts=grid(evaluations), solver=bj.solvers.Euler())
        found[f"W2 at {evaluations} evaluations"] = wasserstein2(np.asarray(x), held)
    clock, excess = bends(process, n)
    found["curvature by the clock"] = clock
    found["curvature whatever the clock"] = excess
    return found


def toys(options: Any) -> Iterator[dict[str, Any]]:
    """W2 at few evaluations and straightness, A = 0 beside the learnt A."""
    titles, steps, n, seeds = ([next(iter(TOYS))], 12, 64, 1) if options.smoke else (list(TOYS), 4000, 1000, SEEDS)
    network = bj.networks.MLP((2,), width=128, depth=3, rngs=nnx.Rngs(0))
    method = make(network, steps, shape=(2,), sampler="ode", cache=2048)
    for title in titles:
        name, stretch = TOYS[title]
        train, held = plane(name, stretch, 1, 20_000), plane(name, stretch, 2, n)
        real = floor(wasserstein2, plane(name, stretch, 3, 4 * n), n=n, draws=8).mean
        plain: dict[str, Any] = {}
        for kind, rounds in (("A = 0", 0), ("learnt A", 12)):
            began, found, gaps = time.perf_counter(), [], []
            for seed in range(1, 1 + seeds):
                state = learn(method, train, steps, rounds, seed)
                found.append(judge(method.process(state), held))
                gaps.append(float(state.prior_error))
                print(title, kind, found[-1], flush=True)
            seconds, learnt = time.perf_counter() - began, rounds > 0
            for what in found[0]:
                each = [one[what] for one in found]
                ours = float(np.mean(each))
                yield record(
                    what,
                    ours,
                    {"set": title, "model": kind},
                    spread=each,
                    floor=real if what.startswith("W2") else None,
                    bar="below A = 0" if learnt else None,
                    met=ours < plain[what] if learnt else None,
                    n=n,
                    seconds=seconds,
                    prior_gap=float(np.mean(gaps)),
                    updates=steps,
                )
                plain.setdefault(what, ours)


def series(path: str | None) -> tuple[np.ndarray, str] | None:
    """A real series, (times, channels), and what it is."""
    if path is not None:
        file = pathlib.Path(path)
        comma = "," if file.suffix == ".csv" else None
        x = np.load(file) if file.suffix == ".npy" else np.loadtxt(file, delimiter=comma)
        return x.reshape(len(x), -1).astype(np.float32), file.name
    try:
        from matplotlib import cbook

        with cbook.get_sample_data("eeg.dat") as file:
            return np.frombuffer(file.read(), np.float64).reshape(-1, 4).astype(np.float32), "EEG, 4 channels"
    except (ImportError, FileNotFoundError):
        return None


def crps(draws: np.ndarray, truth: np.ndarray) -> float:
    """Mean over values of E|X - y| - E|X - X'|/2, X' another draw: (windows, draws, values), (windows, values)."""
    m = draws.shape[1]
    ordered = np.sort(draws, axis=1)
    ranks = (2.0 * np.arange(m) - m + 1.0)[:, None]  # sum over pairs of |X_i - X_j| / 2
    spread = (ranks * ordered).sum(axis=1) / (m * (m - 1))
    return float(np.mean(np.abs(draws - truth[:, None]).mean(axis=1) - spread))


def forecast(options: Any) -> Iterator[dict[str, Any]]:
    """CRPS of the learnt A beside A = 0 and beside draws of the windows' climatology."""
    found, (steps, n) = series(options.series), (800, 64)
    if found is None:
        print("no series: give --series FILE, or install matplotlib with its sample data")
        return
    x, name = found
    first, channels = int(0.7 * len(x)), x.shape[1]
    x = (x - x[:first].mean(axis=0)) / x[:first].std(axis=0)
    cut = np.lib.stride_tricks.sliding_window_view(x, PAST + FUTURE, axis=0).transpose(0, 2, 1)
    windows = {"args": cut[:, :PAST].reshape(len(cut), -1), "x": cut[:, PAST:].reshape(len(cut), -1)}
    last = int(0.75 * len(x))
    train = {name: np.ascontiguousarray(v[: first - PAST - FUTURE]) for name, v in windows.items()}
    test = {name: np.ascontiguousarray(v[last::2]) for name, v in windows.items()}
    dim, draws = FUTURE * channels, n
    scores, model = [], Conditional(dim, PAST * channels, nnx.Rngs(0))
    method = make(model, steps, shape=(dim,), cache=1024)
    for rounds in (0, 6):
        began = time.perf_counter()
        state = learn(method, train, steps, rounds)
        process, count = method.process(state), len(test["x"])
        args = jnp.repeat(jnp.asarray(test["args"]), draws, axis=0)
        y = bj.sample(process, bj.keys(jax.random.key(4), count * draws), args, ts=grid(20))
        seconds = time.perf_counter() - began
        scores.append((crps(np.asarray(y).reshape(count, draws, dim), test["x"]), float(state.prior_error)))
    random = np.random.default_rng(0)
    climate = train["x"][random.integers(len(train["x"]), size=(len(test["x"]), draws))]
    shared = {"seconds": seconds, "updates": steps, "windows": len(train["x"]), "test_windows": len(test["x"])}
    (plain, gap_plain), (ours, gap) = scores
    cases = {
        model: {"series": name, "model": model} for model in ("learnt A", "A = 0", "draws of the training windows")
    }
    learnt, zero, drawn = cases.values()
    yield record("CRPS", ours, learnt, bar="below A = 0", met=ours < plain, prior_gap=gap, **shared)
    yield record("CRPS", plain, zero, prior_gap=gap_plain, **shared)
    yield record("CRPS", crps(climate, test["x"]), drawn, windows=len(train["x"]), test_windows=len(test["x"]))


class Conditional(nnx.Module):
    """An MLP of state, condition and time."""

    def __init__(self, dim: int, condition: int, rngs: nnx.Rngs) -> None:
        self.dim, self.body = dim, bj.networks.MLP((dim + condition,), width=128, depth=3, rngs=rngs)

    def __call__(self, t: Array, x: Array, args: Any = None) -> Array:
        given = jnp.zeros(self.body.shape[0] - self.dim) if args is None else args
        return self.body(t, jnp.concatenate([x, given]))[: self.dim]


def options(parser: Any) -> None:
    """What only this script has."""
    parser.add_argument("--series", help="a series to forecast, see above")


if __name__ == "__main__":
    STUDY.run(__doc__, {"toys": toys, "forecast": forecast}, options, smoke=("toys",))
