"""Truncated diffusion on colour patches, and the schedulers of diffusers there: evaluations needed by every start.

    python experiments/truncated_colour.py               all; results/truncated_colour.json
    python experiments/truncated_colour.py --smoke       seconds, nothing written

    ours        from a generator at the noise level K, and from the Gaussian of the data there
    diffusers   the same network under the schedulers of diffusers (pip install torch diffusers), from noise, teleported
                by the rule, from a generator

Data, network, reference and the choice of grids are those of teleport.py, part colour, which has our solvers from noise
and teleported. The generator learns the law of x_K by truncated diffusion's adversarial loss, with a network of the
denoiser's kind; its evaluation is counted. It starts as a ball of the data's mean variance, as the library's own does,
or as the Gaussian that is fitted to the data (teleportation and truncation in one), and learns what that lacks.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from study import Pick, Study, Table, record
from teleport import NOISE, OURS, RULE, Draw, Task, colour_task, diffusers_schedulers, needed, ours, reference, theirs
from teleport import starts as starts_of

import bridgejax as bj
from bridgejax.networks import functional
from bridgejax.oracles import GaussianLaw, fit_gaussian
from bridgejax.processes.gaussians import _scaled

STUDY = Study(
    "truncated_colour",
    topic="Generating",
    question="Does a generator of noised colour patches save evaluations, and is another library's solver better?",
    answer="No. The Gaussian of the patches is so good a start, down to a noise of four times their deviation, that "
    "three evaluations do from there without any generator. One that begins as that Gaussian and learns what it lacks "
    "is a little nearer to the data after as many steps, within about a standard error, and costs the evaluation that "
    "it saves; one that begins as a ball learns nothing usable in as many updates. The 2M of diffusers needs as many "
    "evaluations as ours from every start; its UniPC, of third order where ours is of second, needs four from noise "
    "where ours needs six.",
    brief="No: three evaluations do from the Gaussian, and four with a generator.",
    budget="40 minutes on two cores",
    source="Zheng, He, Chen & Zhou 2023, arXiv 2202.09671",
    floor="held-out rows against training rows",
    picks=(
        Pick("evaluations needed", {"start": "teleported to K", "solver": "UniPC"}, "needed, teleported to K"),
        Pick("evaluations needed", {"start": "generator, from the Gaussian", "solver": "UniPC"}, "a generator at K"),
    ),
    tables=(
        Table(
            "evaluations needed",
            rows=("start", "solver"),
            also=("level",),
            text="On the best grid each; a generator's own evaluation is counted.",
        ),
        Table(
            "Frechet distance",
            rows=("start", "solver"),
            columns="evaluations",
            title="Frechet distance by evaluations",
            text="Means of five seeds.",
        ),
        Table("times fewer evaluations than from noise", rows=("start", "solver")),
        Table("Frechet distance at convergence", rows=("data", "build"), also=("standard_error", "steps")),
    ),
    missed=(
        (
            {"metric": "times fewer evaluations than from noise"},
            "From noise four or five evaluations do, a fifth of which is one: a generator and no step at all. Three "
            "steps are needed from K too, and the generator is an evaluation more.",
        ),
    ),
    timed=("part", "start", "solver"),
)
K = 2.5  # the level: four deviations of the data
BALL, GAUSSIAN, TELEPORTED = "generator, from a ball", "generator, from the Gaussian", "teleported to K"
UPDATES, BATCH, GAMMA = 1000, 64, 5.0
SOLVERS = ("DPM-Solver++ 2M", "UniPC")
STEPS = {NOISE: (4, 5, 6, 7), RULE: (3, 4, 5, 6), None: (1, 2, 3, 4)}


class Start(NamedTuple):
    """Where samples begin.

    Attributes:
        process: from there.
        level: of the noise.
        more: evaluations that it takes.
    """

    process: bj.Process
    level: float
    more: int = 0


def generator(task: Task, law: GaussianLaw | None, updates: int) -> Any:
    """The law of a generator that has learnt x_K, from a ball (None) or from the Gaussian ``law`` of x_K."""
    shape, deviation = task.train.shape[1:], float(task.train.std())
    scale, width, depth = math.hypot(deviation, K), *((128, 3) if updates > SMOKE else (32, 1))

    def network(seed: int) -> Any:
        rngs = nnx.Rngs(seed)
        return functional(bj.networks.Transformer(shape, patch=8, width=width, depth=depth, heads=4, rngs=rngs))

    net, judge = network(1), network(2)

    def generate(params: Any, t: Any, z: Any, args: Any) -> Any:
        """What is added to scale z."""
        learnt = deviation * net.apply(params, t, z / scale, args)
        if law is None:
            return learnt
        drawn = law.mean + _scaled(law.vectors, jnp.sqrt(law.values), jnp.sqrt(law.rest), z)
        return learnt + drawn - scale * z

    def odds(params: Any, t: Any, x: Any, args: Any) -> Any:
        return 10.0 * jnp.mean(judge.apply(params, t, x / scale, args))

    method = bj.methods.truncated(
        bj.schedules.karras(sigma_max=task.sigma_max),
        (lambda params, t, x, args: params * x, jnp.zeros(())),  # the denoiser is the task's own
        shape=shape,
        truncation=K,
        predict="x0",
        generator_network=(generate, net.params),
        discriminator=(odds, judge.params),
        gamma=GAMMA,
        optimizer=optax.set_to_zero(),
        generator_optimizer=optax.adam(3e-5, b1=0.0, b2=0.99),
        discriminator_optimizer=optax.adam(3e-4, b1=0.0, b2=0.99),
        sigma_data=deviation,
        ts=np.array([0.0, K]),
    )
    state = bj.fit(method, task.train, jax.random.key(0), steps=updates, batch_size=BATCH, progress=False)
    return method.process(state).start


SMOKE = 2  # updates of a smoke run


@cache
def bench(*, smoke: bool) -> tuple[Task, dict[str, Start], float, list[Any]]:
    """The network, its starts, the limit that samples are to reach, and the record of it."""
    task, began = colour_task(smoke=smoke), time.perf_counter()
    limit, told = reference(task, "bridgejax", smoke=smoke)
    law, found = fit_gaussian(task.train), starts_of(task)
    fine = dataclasses.replace(task.process, ts=bj.grids.karras(4096, sigma_max=task.sigma_max))
    cut = bj.teleport(fine, law, t=K)
    starts = {name: Start(found[name][1], found[name][0]) for name in (NOISE, RULE)}
    starts[TELEPORTED] = Start(cut, K)
    at = law.diffuse(bj.schedules.karras(sigma_max=task.sigma_max), K)
    for name, base in {BALL: None, GAUSSIAN: at}.items():
        learnt = generator(task, base, SMOKE if smoke else UPDATES)
        starts[name] = Start(dataclasses.replace(cut, start=learnt), K, 1)
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
    return task, starts, limit, [told]


def measured(
    task: Task, limit: float, starts: dict[str, Start], draws: dict[tuple[str, str], Draw], *, smoke: bool
) -> Iterator[Any]:
    """Distances by evaluations, and the evaluations after which each way arrives."""
    for (name, solver), draw in draws.items():
        began, start, reached, last = time.perf_counter(), starts[name], None, 0
        steps = (2,) if smoke else STEPS.get(name, STEPS[None])
        for budget, values, grid in needed(task, draw, start.level, 1, limit, steps):
            last, mean = budget + start.more, float(np.mean(values))
            case = {"start": name, "solver": solver, "evaluations": last}
            error = float(np.std(values, ddof=1) / math.sqrt(len(values)))
            yield record("Frechet distance", mean, case, spread=values, n=task.n, grid=grid, standard_error=error)
            if mean <= limit:
                reached = last
        case, why = {"start": name, "solver": solver}, f"not within {last}"
        yield record("evaluations needed", reached, case, n=task.n, began=began, level=start.level, why=why)


def by_ours(options: Any) -> Iterator[Any]:
    """Our solvers, from level K."""
    task, starts, limit, told = bench(smoke=options.smoke)
    yield from told
    names = [GAUSSIAN] if options.smoke else [TELEPORTED, BALL, GAUSSIAN]
    draws = {(name, s): ours(task, starts[name].process, OURS[s][0]) for name in names for s in SOLVERS}
    yield from measured(task, limit, starts, draws, smoke=options.smoke)


def diffusers(options: Any) -> Iterator[Any]:
    """Schedulers of diffusers."""
    makers = {name: make for name, make in diffusers_schedulers().items() if not name.endswith("3M")}
    if not makers:
        return
    task, starts, limit, _ = bench(smoke=options.smoke)
    names = [GAUSSIAN] if options.smoke else [NOISE, RULE, GAUSSIAN]
    draws = {(name, s): theirs(task, starts[name].process, make) for name in names for s, make in makers.items()}
    yield from measured(task, limit, starts, draws, smoke=options.smoke)


def saved(options: Any) -> Iterator[Any]:
    """How many times fewer evaluations than from noise a generator needs, by one solver."""
    found = {
        (r["case"]["start"], r["case"]["solver"]): r["value"]
        for r in options.kept
        if r["metric"] == "evaluations needed"
    }
    for solver in ("diffusers DPM-Solver++ 2M", "diffusers UniPC"):
        times = found[NOISE, solver] / found[GAUSSIAN, solver]
        case = {"start": GAUSSIAN, "solver": solver}
        yield record("times fewer evaluations than from noise", times, case, bar="at least 5", met=times >= 5.0)


if __name__ == "__main__":
    STUDY.run(__doc__, {"ours": by_ours, "diffusers": diffusers, "saved": saved}, smoke=("ours",))
