"""Learned samplers on densities whose constant is known: which loss finds the modes, and what tempered SMC does.

    python experiments/samplers.py                    all targets; results/samplers.json
    python experiments/samplers.py --only gmm9        one of gmm9, double_well, many_well, funnel
    python experiments/samplers.py --seeds 1          one seed of everything
    python experiments/samplers.py --only gmm9 --systems cmcd "pis, kl"    these again, the other rows stay
    python experiments/samplers.py --smoke            one sampler, half a minute to compile, nothing written

PIS and DIS, each with reverse KL and log variance, on every target, medians of three seeds. One seed of DDS with log
variance on every target; of CMCD on 16 pieces of its paths, with log derivative everywhere and log variance
("subtrajectory") on GMM-9 and DW(5,5,4); there also of CMCD on whole paths, of GBS and adjoint sampling, of the
underdamped sampler with log variance and log derivative, and of PIS with log variance of which half of the paths run
back from a buffer of 4,096 ends; on GMM-9 of GBS with log derivative and of PIS with reverse KL that is annealed (half
of the updates on flatter powers of the density). (Log variance in pieces is left out where it fails: on the funnel it
shrinks while the ELBO falls without bound, paths being sent where the density has no mass, and on 32 wells its ELBO
stays below that by log derivative.) The same network (twice as many numbers in and out for the underdamped one),
updates, batch and steps for all.

For each, of 20,000 weighted paths: |log Z error| with its standard error, ELBO, ESS; of paths back from as many exact
samples, the EUBO and the forward ESS, 1 / (E w E 1/w); the fewest modes found in a run (a mode counts with a third of
its true share); the squared energy distance to exact samples beside its floor. A sampler that covers k of n equal modes
and no other reports log Z = log(k/n), which is how a collapse shows.

CMCD + SMC is a CMCD trained in pieces run as the proposal of a population of 20,000 (``bj.smc``, with the annealing
that CMCD learnt), resampled and moved twice by ten leapfrog steps at the ends of its pieces; ten populations. (Looked
at after each of the 50 steps, or with the CMCD trained on whole paths, log Z and the shares of the modes are worse than
without: the density is then not that of the paths on the way.)

Tempered SMC (package blackjax; without it its rows are left out and this says so) goes from the same N(0, scale^2) in
steps chosen for an ESS of 90 %, with five moves of ten leapfrog steps a temperature; ten populations. One population of
20,000 has a standard error of about 0.01, so one run, or three, say little: read the root mean square error. Density
evaluations are counted for all: of a learned sampler, twice a path and step in training and once in the 20,000 paths at
the end.

Budget: 90 minutes on one core. The published runs have 60,000 updates of 2048 paths with 200 steps each.
"""

from __future__ import annotations

import importlib.util
import math
import pathlib
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tempering
from flax import nnx
from jax.tree_util import Partial
from study import Pick, Study, Table, record

import bridgejax as bj
from bridgejax.evaluation import evaluate_sampler, modes_of
from bridgejax.methods.samplers.cmcd import level
from bridgejax.training import adam

STUDY = Study(
    "samplers",
    topic="Sampling a density",
    question="Which loss gets the weights of all modes right?",
    answer="Nearly all find every mode, but by reverse KL samples stay far from exact ones; log variance gets the "
    "weights of the modes right. Tempered SMC is as close with about as many evaluations, and closer on the "
    "funnel.",
    brief="Log variance; tempered SMC does too, at equal cost.",
    budget="90 minutes on one core",
    source="Richter & Berner 2024, arXiv 2307.01198 (60,000 updates of 2048 paths with 200 steps each)",
    picks=(
        Pick(
            "squared energy distance",
            {"target": "gmm9", "sampler": "DIS", "loss": "log_variance"},
            "energy distance, DIS",
        ),
    ),
    tables=(
        Table(
            "log Z error",
            rows=("sampler", "loss"),
            columns="target",
            text="The absolute error of log Z, medians over seeds or populations (smallest to largest).",
        ),
        Table(
            "modes found",
            rows=("sampler", "loss"),
            columns="target",
            text="The fewest in a run, of 9 for gmm9 and 32 for double_well; the other targets have no modes to count.",
        ),
        Table("ESS, share of n", rows=("sampler", "loss"), columns="target"),
        Table("squared energy distance", rows=("sampler", "loss"), columns="target", text="To exact samples."),
        Table("log Z error", rows=("sampler", "loss"), columns="target", show="forward_ESS", title="Forward ESS"),
        Table("log Z error", rows=("sampler", "loss"), columns="target", show="ELBO_off", title="ELBO, from log Z"),
        Table("log Z error", rows=("sampler", "loss"), columns="target", show="EUBO_off", title="EUBO, from log Z"),
        Table(
            "log Z error",
            rows=("sampler", "loss"),
            columns="target",
            show="rms_error",
            where={"sampler": ("CMCD + SMC", "tempered SMC")},
            title="Root mean square error of log Z over populations",
        ),
        Table(
            "log Z error",
            rows=("sampler", "loss"),
            columns="target",
            show="million_evaluations",
            title="Density evaluations, in millions",
        ),
        Table(
            "log Z error",
            rows=("sampler", "loss"),
            columns="target",
            show="seconds_a_run",
            title="Seconds of a run",
            text="Of CMCD + SMC: training and one population.",
        ),
    ),
    pictures=("samplers_gmm9",),
    missed=(
        (
            {"target": "double_well", "sampler": "GBS", "metric": "log Z error"},
            "All 32 modes are found, but so few paths count after weighting (see its ESS) that the error is "
            "about two standard errors of log Z.",
        ),
    ),
    timed=("target", "sampler", "loss"),
)
PATHS = 20_000
# name -> (target, deviation of the start, bar of |log Z error| with log variance, published (sampler, loss) -> |error|)
TARGETS: dict[str, Any] = {
    "gmm9": (
        bj.targets.gmm9, 5.0, 0.05,
        {("pis", "kl"): 1.094, ("pis", "log_variance"): 0.046, ("dis", "kl"): 1.551, ("dis", "log_variance"): 0.056},
    ),
    "double_well": (
        bj.targets.double_well, 2.0, 0.1,
        {("pis", "kl"): 3.567, ("pis", "log_variance"): 0.214, ("dis", "kl"): 1.462, ("dis", "log_variance"): 0.375},
    ),
    "many_well": (bj.targets.many_well, 2.0, None, {}),
    "funnel": (bj.targets.funnel, 3.0, None, {}),
}  # fmt: skip
STEP_SIZES = {"gmm9": 0.4, "double_well": 0.1, "many_well": 0.1, "funnel": 0.2}  # of leapfrogs
GRID = [(name, loss) for name in ("pis", "dis") for loss in ("kl", "log_variance")]
HELD, DERIVED = "log_variance", "log_derivative"
CUTS = 16  # pieces of a path
IN_PIECES = tuple(f"{loss}, {CUTS} pieces" for loss in ("subtrajectory", DERIVED))
TRANSITIONS, RETOUCHES, LEAPS = 5, 2, 10  # HMC moves a temperature, at the end of a piece, and leapfrogs of each
POPULATIONS = 10
ANNEALED, REPLAY = "kl, annealed", "log_variance, replay"
BOTH = [
    ("cmcd", HELD), *(("cmcd", loss) for loss in IN_PIECES), ("dds", HELD), ("underdamped", HELD),
    ("underdamped", DERIVED), ("gbs", HELD), ("adjoint_sampling", "regression"), ("pis", REPLAY),
]  # fmt: skip
MORE = {
    "gmm9": [*BOTH, ("gbs", DERIVED), ("pis", ANNEALED)],
    "double_well": BOTH,
    "many_well": [("dds", HELD), ("cmcd", IN_PIECES[1])],
    "funnel": [("dds", HELD), ("cmcd", IN_PIECES[1])],
}
PICTURES = pathlib.Path(__file__).resolve().parents[1] / "docs"


def network(dim: int, seed: int) -> Any:
    """The same for all."""
    return bj.networks.MLP((dim,), width=64, depth=2, embedding=64, rngs=nnx.Rngs(seed))


def learner(name: str, loss: str, target: Any, scale: float, updates: int, intervals: int, seed: int) -> Any:
    """A sampler, ready to be trained."""
    dim = 2 * target.dim if name == "underdamped" else target.dim
    nets = [network(dim, seed + i) for i in range(2 if name == "gbs" else 1)]
    width = {"sigma": scale} if name in ("pis", "adjoint_sampling") else {"scale": scale}
    grid = (bj.grids.quadratic if name in ("dis", "dds", "gbs") else bj.grids.uniform)(intervals)
    chosen: dict[str, Any] = {} if name == "adjoint_sampling" else {"loss": loss.split(", ")[0]}
    chosen |= {ANNEALED: {"annealing_steps": updates // 2}, REPLAY: {"replay": 4096}}.get(loss, {})
    chosen |= {"subtrajectories": CUTS} if loss in IN_PIECES else {}
    optimizer = adam(3e-3, steps=updates, final=0.02)
    return getattr(bj.methods, name)(target, *nets, ts=grid, optimizer=optimizer, ema=0.99, **width, **chosen)


def distance(x: np.ndarray, exact: np.ndarray) -> float:
    """Squared energy distance of 4,000."""
    return float(bj.metrics.energy_distance(np.asarray(x[:4000]), np.asarray(exact[:4000])))


def judged(target: Any, x: np.ndarray) -> dict[str, Any]:
    """Samples of equal weight, against exact ones."""
    exact = np.asarray(jax.vmap(target.sample)(bj.keys(jax.random.key(100), len(x))))
    # those drawn again by weights stand in the order of their ancestors
    order = np.random.default_rng(0).permutation(len(x))
    return {"modes": modes_of(target, x, exact), "distance": distance(x[order], exact)}


def weighed(name: str, target: Any) -> Any:
    """The density of the states of a sampler."""
    return bj.targets.with_velocity(target) if name == "underdamped" else target


def trained(name: str, loss: str, case: str, sizes: tuple[int, int, int, int], seed: int) -> tuple[dict[str, Any], Any]:
    """One sampler, one seed: what is measured, and process and parameters."""
    (make, scale, _, _), (updates, batch, intervals, paths) = TARGETS[case], sizes
    target, began = make(), time.perf_counter()
    method = learner(name, loss, target, scale, updates, intervals, seed)
    rounds = max(updates // 25, 1) if name == "adjoint_sampling" or loss == REPLAY else None
    state = bj.fit(method, bj.data.NoData(batch), jax.random.key(seed), steps=updates, refresh_every=rounds)
    seconds, process = time.perf_counter() - began, method.process(state)
    report = evaluate_sampler(process, weighed(name, target), jax.random.key(1), num=paths, draws=1)
    assert report.distances is not None
    assert report.eubo is not None
    looks = updates * batch * 2 * intervals if name != "adjoint_sampling" else 25 * 512 * intervals
    if loss == REPLAY and rounds:
        looks += (4096 + updates // rounds * 2048) * intervals
    measured = {
        "log_z": report.log_z,
        "error": report.log_z_error,
        "elbo": report.elbo - target.log_z,
        "eubo": report.eubo - target.log_z,
        "ess": report.ess,
        "forward_ess": report.forward_ess,
        "modes": report.modes,
        "distance": report.distances.metrics["energy"].value,
        "w2": report.distances.metrics["w2"].value,
        "evaluations": looks + paths * intervals,
        "seconds": seconds,
    }
    return measured, (process, method.params(state))


def proposed(learnt: Any, case: str, found: dict[str, Any], particles: int) -> list[dict[str, Any]]:
    """SMC whose proposals are a trained CMCD."""
    (process, params), target, scale = learnt, TARGETS[case][0](), TARGETS[case][1]
    steps = np.arange(process.ts.shape[0])
    ends = np.diff(steps * CUTS // steps[-1]) > 0
    looks = particles * (steps[-1] + CUTS * RETOUCHES * LEAPS)

    def run(seed: int) -> dict[str, Any]:
        began = time.perf_counter()
        run = bj.smc(
            process, jax.random.key(seed), particles, target,
            on_the_way=Partial(level, target, scale, process.ts, params), pieces=CUTS, threshold=1.0,
            move=bj.mcmc.hmc(leapfrogs=LEAPS), transitions=RETOUCHES, step_sizes=STEP_SIZES[case],
        )  # fmt: skip
        rows = bj.weights.systematic(jax.random.key(5), run.log_weights)
        return {
            "log_z": float(run.log_z),
            **judged(target, np.asarray(run.x[rows])),
            "evaluations": found["evaluations"] + int(looks),
            "least_ESS": float(run.ess[ends].min()),
            "seconds": found["seconds"] + time.perf_counter() - began,
        }

    runs = [run(seed) for seed in range(POPULATIONS)]
    least = min(run["least_ESS"] for run in runs)
    return [{**run, "least_ESS": least} for run in runs]


def tempered(case: str, particles: int) -> list[dict[str, Any]]:
    """Adaptively tempered SMC from the same start."""
    if importlib.util.find_spec("blackjax") is None:
        print("tempered SMC is left out: install blackjax")
        return []
    make, scale, _, _ = TARGETS[case]
    target = make()

    def log_prior(x: Any) -> Any:
        return jnp.sum(-0.5 * (x / scale) ** 2 - math.log(scale) - 0.5 * math.log(2 * math.pi))

    how = {"step_size": STEP_SIZES[case], "leapfrogs": LEAPS, "moves": TRANSITIONS}
    init, step = tempering.smc(log_prior, lambda x: target(x) - log_prior(x), target.dim, **how)

    def run(seed: int) -> dict[str, Any]:
        start_key, key, pick = jax.random.split(jax.random.key(seed), 3)
        began, start = time.perf_counter(), scale * jax.random.normal(start_key, (particles, target.dim))
        state, log_z, count = tempering.tempered(step, init(start), key)
        rows = jax.random.choice(pick, particles, (particles,), p=state.weights)
        return {
            "log_z": log_z,
            **judged(target, np.asarray(state.particles[rows])),
            "evaluations": particles * count * TRANSITIONS * LEAPS,
            "temperatures": count,
            "seconds": time.perf_counter() - began,
        }

    return [run(seed) for seed in range(POPULATIONS)]


def rms(errors: Sequence[float]) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(errors))))


def measures(
    target_name: str, title: str, loss: str | None, key: Any, found: Sequence[dict[str, Any]], floor: float, n: int
) -> Iterator[Any]:
    """All measures of one sampler, medians over seeds."""
    target, bar, published = TARGETS[target_name][0](), TARGETS[target_name][2], TARGETS[target_name][3]
    middle = {name: float(np.median([f[name] for f in found])) for name in found[0] if name != "modes"}
    signed, seen = [f["log_z"] - target.log_z for f in found], [f["modes"] for f in found]
    errors, learned = [abs(error) for error in signed], "ess" in middle
    case = {"target": target_name, "sampler": title, **({} if loss is None else {"loss": loss})}
    spent = middle["seconds"] if title == "CMCD + SMC" else sum(f["seconds"] for f in found)  # there trained once
    common = {"n": n, "seconds": spent, "seconds_a_run": round(middle["seconds"], 1)}
    common["million_evaluations"] = round(middle["evaluations"] / 1e6, 1)
    bar = bar if key is not None and key[1] == "log_variance" else None
    if learned:
        also = {"standard_error_of_log_Z": middle["error"], "ELBO_off": middle["elbo"], "EUBO_off": middle["eubo"]}
        also |= {"forward_ESS": middle["forward_ess"], "W2": middle["w2"]}
    else:
        also = {"rms_error": rms(errors), "mean_error": float(np.mean(signed))}
        also |= {name: found[0][name] for name in ("least_ESS", "temperatures") if name in found[0]}
    yield record(
        "log Z error",
        float(np.median(errors)),
        case,
        spread=errors,
        published=published.get(key),
        bar=None if bar is None else f"at most {bar}",
        met=None if bar is None else np.median(errors) <= bar,
        **common,
        **also,
    )
    yield record("squared energy distance", middle["distance"], case, floor=floor, **common)
    if learned:
        yield record("ESS, share of n", middle["ess"], case, **common)
    if seen[0] is not None:
        fewest, of = min(s[0] for s in seen), seen[0][1]
        yield record(
            "modes found",
            fewest,
            case,
            bar=None if bar is None else f"all {of}",
            met=None if bar is None else fewest == of,
            modes=of,
            log_share=math.log(max(fewest, 1) / of),
            **common,
        )


def options(parser: Any) -> None:
    """What only this script has."""
    parser.add_argument("--seeds", type=int, default=3, help="of PIS and DIS; one of the others")
    parser.add_argument("--updates", type=int, default=600, help="of each sampler")
    parser.add_argument("--systems", nargs="+", help="some samplers by name, or name and loss, or tempered")


def part(case: str, given: Any) -> Iterator[Any]:
    """All samplers on one target, or some."""
    sizes = (3, 32, 8, 400) if given.smoke else (given.updates, 256, 50, PATHS)
    target = TARGETS[case][0]()
    one, other = (jax.vmap(target.sample)(bj.keys(jax.random.key(k), 4000)) for k in (100, 101))
    floor = distance(one, other)
    best: tuple[float, str, Any, Any] = (-1.0, "", None, None)
    for name, loss in [("dis", HELD)] if given.smoke else [*GRID, *MORE[case]]:
        if given.systems and not {name, f"{name}, {loss}"} & set(given.systems):
            continue
        seeds = range(given.seeds if (name, loss) in GRID and not given.smoke else 1)
        found, learnt = zip(*(trained(name, loss, case, sizes, seed) for seed in seeds), strict=True)
        # a sampler that lost modes may have a high ESS, but not a high forward ESS
        best = max(best, (found[0]["forward_ess"], f"{name}, {loss}", name, learnt[0][0]), key=lambda b: b[0])
        yield from measures(case, name.upper(), loss, (name, loss), found, floor, sizes[3])
        if loss in IN_PIECES:
            runs = proposed(learnt[0], case, found[0], PATHS)
            yield from measures(case, "CMCD + SMC", loss, None, runs, floor, PATHS)
    if not given.smoke and (not given.systems or "tempered" in given.systems):
        runs = tempered(case, PATHS)
        yield from measures(case, "tempered SMC", None, None, runs, floor, PATHS) if runs else ()
    if not given.smoke and not given.systems:
        _, title, name, process = best
        report = evaluate_sampler(process, weighed(name, target), jax.random.key(3), num=PATHS, weighted=True, draws=1)
        report.plot(PICTURES / f"samplers_{case}.png")
        print(f"the picture is of {title}, drawn again by its weights")


if __name__ == "__main__":
    STUDY.run(__doc__, {case: partial(part, case) for case in TARGETS}, options, smoke=("gmm9",))
