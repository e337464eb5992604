"""What Gaussian theory does for a diffusion model: it explains its score, and skips its first steps.

    python experiments/teleport.py                       all; results/teleport.json
    python experiments/teleport.py --only flow           one part
    python experiments/teleport.py --smoke               seconds, nothing written

    flow        gaussian_flow against an adaptive solve in float64, all eight schedules, full covariance in 5 dimensions
    explained   the score of an EDM network trained on digits: the share that simpler models explain on held-out rows,
                and how many dimensions its paths take
    ends        what starting later costs in Frechet distance where evaluations do not: 256 steps from every start
    digits      evaluations needed for the Frechet distance of today's default sampler at convergence, by solver, each
                on its best grid, from noise and teleported
    colour      the same on 32 x 32 colour bitmaps
    diffusers   the digits network under the schedulers of diffusers (pip install torch diffusers), which know nothing
                of ours: DPM-Solver++ (2M, 3M) and UniPC, from both starts

Needed: the reference is the Frechet distance to the training rows of the default solver (DPM-Solver++ 2M) on 256 steps
(colour: 64) of the Karras grid, its mean over five sampling seeds on one network. A solver has reached it at the fewest
evaluations at which its mean over the same seeds is at most that plus one standard error. Every solver chooses its grid
anew at each number of evaluations: spacing (sigma^(1/3), sigma^(1/7), log sigma) and last level; the two best on the
first seed are measured on all five. What is teleported starts at the level where the leading direction has a signal to
noise ratio of 1/4, the rule of bridgejax.teleport, and has the same choice of grids. "isotropic" starts at this level
from N(mean, (v + sigma^2) I): what leaving out the high noise saves alone.

Colour bitmaps: 32 x 32 patches of the two photographs that scikit-learn ships (a temple and a flower), halved in size,
mirrored at random. Budget: 60 minutes on two cores.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from study import Pick, Study, Table, installed, record

import bridgejax as bj
from bridgejax import evaluation, schedules, solvers
from bridgejax.metrics import frechet
from bridgejax.oracles import fit_gaussian, gaussian_flow, gaussian_law

STUDY = Study(
    "teleport",
    topic="Solvers and speed",
    question="How much of a diffusion model is the Gaussian of its data, and how many evaluations does that save?",
    answer="At high noise all of it, and at middle noise the Gaussian explains more of the learnt score than the "
    "training points do. Teleporting past the high noise saves the best solver a third of its evaluations on digits. "
    "Most of that is the noise left out: a ball of the mean variance, started at the same level, serves UniPC as well "
    "and DPM-Solver++ nearly so, but ends farther from the data. Teleporting is for few evaluations: where they are "
    "free its samples are a little farther from the data than those from noise, and from later starts farther still. "
    "On colour patches five evaluations do from noise, four from the rule's start or a ball there, three from later "
    "starts; a few steps on the best grid come as near to the data there as many do, for the network is far from "
    "perfect.",
    brief="At high noise all of it; skipping it saves a third on digits, a fifth on colour patches.",
    budget="60 minutes on two cores",
    source="Wang & Vastola 2023, 2024 (arXiv 2303.02490, 2412.09726)",
    floor="held-out rows against training rows",
    picks=(
        Pick("share of the score explained", {"model": "gaussian", "sigma": 5.0}, "explained at sigma 5"),
        Pick("share of evaluations saved", {"data": "digits", "build": "bridgejax"}, "evaluations saved"),
    ),
    tables=(
        Table(
            "largest error of the flow",
            rows=("schedule",),
            text="From T to a thousandth of it, relative to the deviation of the state there.",
        ),
        Table(
            "share of the score explained",
            rows=("model",),
            columns="sigma",
            text="1 - E|s_model - s|^2 / E|s|^2 on held-out digits, s the score of a trained network. Negative: worse "
            "than no score at all.",
            digits=4,
        ),
        Table(
            "share of a path's variance left",
            rows=("paths",),
            columns="components",
            text="By so many principal components of its own: the network's paths from noise to digits, and the "
            "Gaussian's.",
        ),
        Table(
            "evaluations needed",
            rows=("data", "solver"),
            columns="start",
            text="Teleported: from a signal to noise ratio of 1/4 along the leading direction, or of 1 or 4. "
            "Isotropic: from a ball of the data's mean variance at the level of 1/4.",
        ),
        Table("share of evaluations saved", rows=("data", "build"), also=("level", "best_solver", "best_teleported")),
        Table(
            "Frechet distance at convergence",
            rows=("data", "build"),
            also=("standard_error", "steps"),
            title="The reference",
        ),
        Table("Frechet distance after 256 steps", rows=("data", "start"), also=("level",)),
        Table(
            "Frechet distance",
            rows=("data", "start", "solver"),
            columns="evaluations",
            title="Frechet distance by evaluations",
            text="On the best grid, mean of five seeds, up to where the reference is reached.",
        ),
    ),
    missed=(
        (
            {"metric": "share of evaluations saved", "data": "colour"},
            "From noise the best solver needs five evaluations, of which a quarter is more than one: the rule saves "
            "one, a fifth. Starting later saves two; the noise left out is all of it, for a ball saves as much.",
        ),
    ),
    timed=("part", "data", "start", "solver", "schedule", "paths"),
)
SEEDS = 5
REFERENCE = {"digits": 256, "colour": 64}  # steps of the default solver
SNR = 0.25
MOST = (*range(3, 17), 18, 20, 24, 28, 32)

# flow ---------------------------------------------------------------------------------------------------------------

EIGHT: dict[str, Callable[[], bj.schedules.Schedule]] = {
    "vp": schedules.vp,
    "cosine": schedules.cosine,
    "ve": schedules.ve,
    "sub_vp": schedules.sub_vp,
    "brownian": lambda: schedules.brownian(10.0),
    "ou": lambda: schedules.ou(T=4.0),
    "rectified": schedules.rectified,
    "karras": schedules.karras,
}


def flow(options: Any) -> Iterator[Any]:
    """The closed form against an adaptive solve."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    try:
        yield from _flow(*((2, ("vp",)) if options.smoke else (16, tuple(EIGHT))))
    finally:
        jax.config.update("jax_enable_x64", before)


def _flow(n: int, names: tuple[str, ...]) -> Iterator[Any]:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(5, 5))
    law = gaussian_law(rng.normal(size=5), a @ a.T + 0.01 * np.eye(5))
    controller = diffrax.PIDController(rtol=1e-9, atol=1e-9)
    for name in names:
        began, schedule = time.perf_counter(), EIGHT[name]()
        exact, end = gaussian_flow(law, schedule), 1e-3 * schedule.T
        sde = bj.probability_flow(schedule, denoiser=exact.denoiser)
        x = jax.vmap(law.diffuse(schedule, schedule.T))(bj.keys(jax.random.key(1), n))
        ts = jnp.array([0.0, schedule.T - end])

        def solve(x: Array, sde: Any = sde, ts: Any = ts) -> Array:
            return bj.simulate(sde, jax.random.key(0), x, ts, solver=diffrax.Dopri8(), controller=controller)

        found = jax.vmap(solve)(x)
        expected = jax.vmap(lambda x, exact=exact, T=schedule.T, end=end: exact(T, end, x))(x)
        deviation = math.sqrt(float(law.diffuse(schedule, end).leading()))
        worst = float(jnp.max(jnp.abs(found - expected))) / deviation
        yield record(
            "largest error of the flow", worst, {"schedule": name}, n=n, bar="at most 1e-5", met=worst <= 1e-5,
            began=began,
        )  # fmt: skip


# networks -----------------------------------------------------------------------------------------------------------


class Task(NamedTuple):
    """A network, the data that it learnt, and where samples are compared.

    Attributes:
        name: of the data.
        process: the model's, on the Karras schedule.
        train: rows.
        holdout: rows.
        features: of the Frechet distance.
        n: samples of each seed.
        sigma_max: the noise level where it starts.
    """

    name: str
    process: bj.Process
    train: np.ndarray
    holdout: np.ndarray
    features: evaluation.FeatureMap
    n: int
    sigma_max: float

    def distance(self, x: Any) -> float:
        """Frechet distance to the training rows."""
        return frechet(self.features.features(np.asarray(x)), self.features.features(self.train))


def trained(
    name: str, network: Any, x: np.ndarray, steps: int, batch: int, n: int, sigma_max: float, levels: Any = None
) -> Task:
    """An EDM network of rows, a fifth of which is held out; levels: of noise in training, None: EDM's own."""
    order = np.random.default_rng(0).permutation(len(x))
    held = len(x) // 5
    train, holdout = x[order[held:]], x[order[:held]]
    rate = optax.warmup_cosine_decay_schedule(0.0, 1e-3, min(200, steps // 2), steps)
    method = bj.methods.edm(
        network,
        shape=x.shape[1:],
        sigma_data=float(train.std()),
        sigma_max=sigma_max,
        time_sampler=levels,
        optimizer=optax.adam(rate),
    )
    began = time.perf_counter()
    state = bj.fit(method, train, jax.random.key(0), steps=steps, batch_size=batch)
    print(f"{name}: {len(train)} rows, {steps} updates in {time.perf_counter() - began:.0f} s", flush=True)
    features = evaluation.pca_features(train)
    return Task(name, method.process(state), train, holdout, features, n, sigma_max)


@cache
def digits_task(*, smoke: bool) -> Task:
    """Handwritten digits, 8 x 8."""
    x = np.asarray(bj.data.load("digits").x, np.float32)
    network = bj.networks.MLP(x.shape[1:], width=192, depth=3, rngs=nnx.Rngs(0))
    return trained("digits", network, x, 20 if smoke else 4000, 128, 100 if smoke else 2000, 80.0)


def patches(n: int) -> np.ndarray:
    """Colour patches of two photographs on [-1, 1], (n, 32, 32, 3)."""
    from sklearn.datasets import load_sample_images

    rng, found = np.random.default_rng(0), []
    for image in load_sample_images().images:
        half = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2].astype(np.float32)
        half = half.reshape(half.shape[0] // 2, 2, half.shape[1] // 2, 2, 3).mean((1, 3)) / 127.5 - 1.0
        for _ in range(n // 2):
            i, j = (rng.integers(size - 32 + 1) for size in half.shape[:2])
            patch = half[i : i + 32, j : j + 32]
            found.append(patch[:, ::-1] if rng.random() < 0.5 else patch)
    return np.stack(found)


@cache
def colour_task(*, smoke: bool) -> Task:
    """Colour bitmaps, 32 x 32."""
    x = patches(100 if smoke else 8000)
    network = bj.networks.Transformer(
        x.shape[1:], patch=8, width=32 if smoke else 128, depth=1 if smoke else 3, heads=4, rngs=nnx.Rngs(0)
    )
    # the whole patch is bright or dark: a variance of about 1,000 along one direction, which noise of 80 leaves visible
    # and which is decided at levels of ten and more, where EDM's own choice of levels hardly trains
    levels = bj.objectives.times.log_normal(1.0, 1.8, high=200.0)
    return trained("colour", network, x, 4 if smoke else 4000, 64, 64 if smoke else 400, 200.0, levels)


# explained ----------------------------------------------------------------------------------------------------------

SIGMAS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def explained(options: Any) -> Iterator[Any]:
    """What the learnt score is, and how straight its paths are."""
    task, began = digits_task(smoke=options.smoke), time.perf_counter()
    schedule, denoiser = task.process.dynamics.semilinear
    models = evaluation.simple_denoisers(task.train, schedule)
    found = evaluation.explained_score(denoiser, schedule, models, task.holdout, SIGMAS, jax.random.key(1))
    for name, shares in found.items():
        for k, sigma in enumerate(SIGMAS):
            bar: dict[str, Any] = {}
            if name == "gaussian":
                rises = k == 0 or shares[k] >= shares[k - 1]
                words, met = "no less than at the level below", rises
                if sigma in (0.2, 0.5):
                    words, met = f"{words}, and more than the points", rises and shares[k] > found["points"][k]
                if sigma == 5.0:
                    words, met = f"{words}, and at least 0.99", rises and shares[k] >= 0.99
                bar = {"bar": words, "met": bool(met)}
            case = {"model": name, "sigma": sigma}
            yield record("share of the score explained", shares[k], case, n=len(task.holdout), began=began, **bar)
    law = fit_gaussian(task.train)
    gaussian = bj.probability_flow(schedule, denoiser=gaussian_flow(law, schedule).denoiser)
    every = bj.keys(jax.random.key(2), 16 if options.smoke else 256)
    for name, sde in {"network": task.process.dynamics, "Gaussian": gaussian}.items():
        began = time.perf_counter()

        def path(key: Array, sde: Any = sde) -> Array:
            return bj.simulate_path(sde, key, task.process.start(key, None), task.process.ts).xs

        shares = evaluation.trajectory_dimension(jax.jit(jax.vmap(path))(every), most=3)
        for k, share in enumerate(shares):
            case = {"paths": name, "components": k + 1}
            yield record("share of a path's variance left", 1.0 - share, case, n=len(every), began=began)


# evaluations needed -------------------------------------------------------------------------------------------------

OURS: dict[str, tuple[Any, int]] = {  # and evaluations of a step
    "DDIM": (solvers.ExponentialEuler(), 1),
    "DPM-Solver++ 2M": (solvers.DPMSolverPP2M(), 1),
    "DPM-Solver++ 3M": (solvers.DPMSolverPP3M(), 1),
    "UniPC": (solvers.UniPC(), 1),
    "Heun": (solvers.Heun(), 2),
}
NOISE, RULE = "noise", "teleported"
ABLATIONS = ("DPM-Solver++ 2M", "UniPC")  # that are also run from other starts
SPACINGS: tuple[float, ...] = (3.0, 7.0, math.inf)
LAST = (0.02, 0.1, 0.3)

Draw = Callable[[np.ndarray, Array], Any]  # noise levels and keys to samples


def ladder(n: int, top: float, rho: float, last: float) -> np.ndarray:
    """n falling noise levels from ``top`` to ``last``, even in sigma^(1/rho), and 0."""
    to, back = (np.log, np.exp) if math.isinf(rho) else (lambda s: s ** (1 / rho), lambda u: u**rho)
    return np.append(back(np.linspace(to(top), to(last), n)), 0.0)


def ladders(n: int, top: float, *, few: bool = False) -> dict[str, np.ndarray]:
    """The grids of n steps to choose from, by name; few: the first alone."""
    if n == 1:
        return {"one step": np.array([top, 0.0])}
    return {
        f"{'log' if math.isinf(rho) else f'rho {rho:g}'}, to {last:g}": ladder(n, top, rho, last)
        for rho in SPACINGS[: 1 if few else None]
        for last in LAST[: 1 if few else None]
    }


def starts(task: Task) -> dict[str, tuple[float, bj.Process]]:
    """Processes and the noise levels where they start."""
    law = fit_gaussian(task.train)
    fine = dataclasses.replace(task.process, ts=bj.grids.karras(4096, sigma_max=task.sigma_max))
    found = {NOISE: (task.sigma_max, task.process)}
    for name, snr in {RULE: SNR, "teleported, ratio 1": 1.0, "teleported, ratio 4": 4.0}.items():
        fast = bj.teleport(fine, law, snr=snr)
        found[name] = (fast.dynamics.T, fast)
    level, fast = found[RULE]
    ball = gaussian_law(task.train.mean(0), float(task.train.var(0).mean()) + level**2)
    found["isotropic"] = (level, dataclasses.replace(fast, start=ball))
    return found


def ours(task: Task, process: bj.Process, solver: Any) -> Draw:
    """Samples by a solver of this library."""

    def draw(levels: np.ndarray, keys: Array) -> Any:
        return bj.sample(process, keys, ts=process.dynamics.T - levels, solver=solver)

    return draw


def seeds_of(task: Task) -> list[Array]:
    """Keys of the five sampling seeds."""
    return [bj.keys(jax.random.key(100 + k), task.n) for k in range(SEEDS)]


def needed(
    task: Task, draw: Draw, top: float, per_step: int, target: float, budgets: tuple[int, ...]
) -> Iterator[tuple[int, list[float], str]]:
    """Evaluations, the distance of every seed on the best grid, and that grid, until the target is reached."""
    keys = seeds_of(task)
    for budget in budgets:
        if (budget + 1) % per_step:
            continue
        steps = (budget + 1) // per_step if per_step == 2 else budget
        first = {name: (task.distance(draw(g, keys[0])), g) for name, g in ladders(steps, top).items()}
        finalists = sorted(first, key=lambda name: first[name][0])[:2]
        found = {
            name: [first[name][0], *(task.distance(draw(first[name][1], k)) for k in keys[1:])] for name in finalists
        }
        best = min(found, key=lambda name: float(np.mean(found[name])))
        yield budget, found[best], best
        if np.mean(found[best]) <= target:
            return


def reference(task: Task, build: str, *, smoke: bool) -> tuple[float, Any]:
    """The target, and the record of the reference."""
    steps, began = (8 if smoke else REFERENCE[task.name]), time.perf_counter()
    grid = bj.grids.karras(steps, sigma_max=task.sigma_max)
    values = [task.distance(bj.sample(task.process, keys, ts=grid)) for keys in seeds_of(task)]
    error = float(np.std(values, ddof=1) / math.sqrt(SEEDS))
    found = record(
        "Frechet distance at convergence", float(np.mean(values)), {"data": task.name, "build": build}, n=task.n,
        spread=values, floor=task.distance(task.holdout), began=began, standard_error=error, steps=steps,
    )  # fmt: skip
    return float(np.mean(values)) + error, found


def compared(task: Task, build: str, draws: dict[tuple[str, str], tuple[float, Draw, int]], *, smoke: bool) -> Any:
    """Evaluations needed by every solver from every start, and what teleporting saves the best."""
    target, found = reference(task, build, smoke=smoke)
    yield found
    least: dict[str, tuple[float, str]] = {}
    for (start, solver), (top, draw, per_step) in draws.items():
        began, reached, last = time.perf_counter(), None, None
        for budget, values, grid in needed(task, draw, top, per_step, target, (3,) if smoke else MOST):
            last, mean = budget, float(np.mean(values))
            case = {"data": task.name, "start": start, "solver": solver, "evaluations": budget}
            yield record("Frechet distance", mean, case, spread=values, n=task.n, grid=grid)
            if mean <= target:
                reached = budget
        case = {"data": task.name, "start": start, "solver": solver}
        why = None if reached else f"not within {last} evaluations"
        yield record("evaluations needed", reached, case, n=task.n, began=began, level=top, why=why)
        if reached and reached < least.get(start, (math.inf, ""))[0]:
            least[start] = reached, solver
    if NOISE in least and RULE in least:
        saved = 1.0 - least[RULE][0] / least[NOISE][0]
        yield record(
            "share of evaluations saved", saved, {"data": task.name, "build": build}, bar="at least 0.25",
            met=saved >= 0.25, level=draws[RULE, least[RULE][1]][0],
            best_solver=f"{least[NOISE][1]}, {least[NOISE][0]}", best_teleported=f"{least[RULE][1]}, {least[RULE][0]}",
        )  # fmt: skip


def of_ours(task: Task, chosen: tuple[str, ...], *, smoke: bool) -> Any:
    """Solvers of this library."""
    draws = {}
    for start, (top, process) in starts(task).items():
        for name in chosen:
            solver, per_step = OURS[name]
            if start in (NOISE, RULE) or (name in ABLATIONS and not smoke):
                draws[start, name] = top, ours(task, process, solver), per_step
    return compared(task, "bridgejax", draws, smoke=smoke)


def digits(options: Any) -> Iterator[Any]:
    """Handwritten digits."""
    chosen = ("Heun",) if options.smoke else tuple(OURS)
    yield from of_ours(digits_task(smoke=options.smoke), chosen, smoke=options.smoke)


def colour(options: Any) -> Iterator[Any]:
    """Colour bitmaps: solvers that were near the best on digits."""
    chosen = ("UniPC",) if options.smoke else ABLATIONS
    yield from of_ours(colour_task(smoke=options.smoke), chosen, smoke=options.smoke)


def ends(options: Any) -> Iterator[Any]:
    """What starting later costs where evaluations do not."""
    task, steps = digits_task(smoke=options.smoke), 8 if options.smoke else 256
    for start, (top, process) in starts(task).items():
        began, grid = time.perf_counter(), bj.grids.karras(steps, sigma_max=top)
        values = [task.distance(bj.sample(process, keys, ts=grid)) for keys in seeds_of(task)]
        case = {"data": task.name, "start": start}
        yield record(
            "Frechet distance after 256 steps", float(np.mean(values)), case, spread=values, n=task.n, began=began,
            level=top,
        )  # fmt: skip


# an independent implementation --------------------------------------------------------------------------------------


def diffusers_schedulers() -> dict[str, Callable[[], Any]]:
    """Makers of the schedulers of diffusers, by name; none where it is not installed."""
    if not installed("diffusers", "pip install torch diffusers", "diffusers", "torch"):
        return {}
    from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler

    same = {"prediction_type": "sample", "lower_order_final": True, "final_sigmas_type": "zero"}
    return {
        "diffusers DPM-Solver++ 2M": lambda: DPMSolverMultistepScheduler(solver_order=2, **same),
        "diffusers DPM-Solver++ 3M": lambda: DPMSolverMultistepScheduler(solver_order=3, **same),
        "diffusers UniPC": lambda: UniPCMultistepScheduler(solver_order=3, **same),
    }


def scheduled(scheduler: Any, denoise: Callable[[float, np.ndarray], Any], x: Any, levels: np.ndarray) -> np.ndarray:
    """The ends of a scheduler of diffusers, from states alpha x_0 + sigma eps with alpha = 1 / sqrt(1 + level^2).

    Args:
        scheduler: a fresh one.
        denoise: ``denoise(level, x) = E[x_0 | x]``.
        x: states at the first level.
        levels: sigma / alpha, falling to 0.
    """
    import torch

    scheduler.set_timesteps(len(levels) - 1)
    scheduler.sigmas = torch.tensor(np.asarray(levels, np.float32))
    scheduler.timesteps = torch.arange(len(levels) - 1)
    x = torch.tensor(np.asarray(x))
    for k, level in enumerate(levels[:-1]):
        clean = torch.tensor(np.asarray(denoise(float(level), x.numpy())))
        x = scheduler.step(clean, scheduler.timesteps[k], x).prev_sample
    return x.numpy()


def theirs(task: Task, process: bj.Process, make: Callable[[], Any]) -> Draw:
    """Samples by a scheduler of diffusers."""
    denoiser = jax.jit(jax.vmap(task.process.dynamics.semilinear.denoiser, (None, 0, None)))
    begin = jax.jit(jax.vmap(lambda key: process.start(key, None)))

    def clean(level: float, x: np.ndarray) -> Any:
        return denoiser(np.float32(level), jnp.asarray(x) * math.sqrt(1.0 + level**2), None)

    def draw(levels: np.ndarray, keys: Array) -> Any:
        # bj.sample folds the key in before it draws the start, so these are other draws of the same law
        x = np.asarray(begin(keys)) / np.float32(math.sqrt(1.0 + levels[0] ** 2))
        return scheduled(make(), clean, x, levels)

    return draw


def diffusers(options: Any) -> Iterator[Any]:
    """Schedulers of diffusers."""
    schedulers = diffusers_schedulers()
    if not schedulers:
        return
    task = digits_task(smoke=options.smoke)
    found = starts(task)
    draws = {
        (start, name): (found[start][0], theirs(task, found[start][1], make), 1)
        for start in (NOISE, RULE)
        for name, make in schedulers.items()
    }
    yield from compared(task, "diffusers", draws, smoke=options.smoke)


if __name__ == "__main__":
    parts = {"flow": flow, "explained": explained, "ends": ends, "digits": digits, "diffusers": diffusers}
    parts["colour"] = colour
    STUDY.run(__doc__, parts, smoke=("flow", "explained", "digits"))  # the others are the same with other data
