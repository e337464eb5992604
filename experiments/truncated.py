"""Truncated diffusion: does noise save the modes that a GAN loses, and how many evaluations does a sample need?

    python experiments/truncated.py             all; results/truncated.json
    python experiments/truncated.py --smoke     seconds, nothing written

    gaussians   25 Gaussians on a grid, spacing 1 and deviation 0.05, from 20,000 rows: modes of 25 that keep at least a
                fifth of the rows due to them, within 4 deviations of their mean; rows so near any mean; energy distance
                beside its floor. A GAN, the generator alone of a schedule cut where its noise is a twentieth of
                a mode's deviation, against truncated diffusion: the same code, networks, losses and updates, cut where
                modes overlap, and five steps of 2M more. Five seeds each
    digits      8 x 8 digits: Frechet distance to the held-out rows in the features of a classifier. One denoiser for
                all, of the default diffusion: its 1,000-step chain, 2M from noise, 2M from the generator of x_K, and
                from noised rows, as a perfect generator would; MeanFlow of the same size in 1, 2 and 4 evaluations. 2M
                has the best of three grids, by the mean of five seeds, at every number of evaluations. A sampler
                arrives where its mean is within one standard error of that of 2M at 40 evaluations
    needed      from the records of digits: the evaluations after which a sampler arrives
    whole       digits, every way to few evaluations: from noise, teleported (by the rule, and to K, which is the exact
                Gaussian law there) and from the generator, with 2M and UniPC on the best of nine grids of the first
                seed at every number of evaluations; MeanFlow. It arrives where its mean is within one standard error
                of that of 2M on 256 steps from noise
    diffusers   the same denoisers, from noise and from the generator, under the schedulers of diffusers (pip install
                torch diffusers), which know nothing of ours
    labels      digits, three seeds of smaller networks: a generator of its own or the denoiser's network, with labels
                and without, in six evaluations, beside the chain of a diffusion of as many updates
    cost        milliseconds an update without R1, with it at every 16th update and at every one

All five seeds are trained side by side, by vmap over one compiled loop. Budget: 40 minutes on two
cores that do nothing else; these results ran beside other work.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from study import Pick, Study, Table, record
from teleport import diffusers_schedulers, ladders, scheduled

import bridgejax as bj
from bridgejax import solvers
from bridgejax.metrics import energy_distance, floor, frechet
from bridgejax.networks import MLP, Functional, functional
from bridgejax.oracles import fit_gaussian
from bridgejax.solve.grids import _noise_levels, _noising_times
from bridgejax.training import adam

STUDY = Study(
    "truncated",
    topic="Generating",
    question="Do a few steps of diffusion make a GAN keep its modes, and a diffusion model need fewer evaluations?",
    answer="They keep the modes: a GAN loses some in every run, the same networks cut where modes overlap keep all. On "
    "digits, to be as good as today's default sampler where evaluations are free, MeanFlow needs the fewest "
    "evaluations; then come 2M and UniPC teleported by the rule and UniPC from a generator, which tie; then 2M from a "
    "generator; then UniPC and last 2M from noise. Teleported to K, where digits are Gaussian no more, neither solver "
    "arrives. The 2M of diffusers is as far from the data as ours, to the standard error; its UniPC, another variant, "
    "is nearer than ours from noise at most numbers of evaluations, where it saves one, and farther from a generator. "
    "The generator is not perfect: from noised rows the same steps are better than the chain of a thousand. At the "
    "same updates a network of its own generates better than one that denoises too, and labels help every model more "
    "than a thousand steps do.",
    brief="Modes, yes; on digits a generator saves as many evaluations as teleporting, MeanFlow more.",
    budget="40 minutes on two cores that do nothing else; these ran beside other work",
    source="Zheng, He, Chen & Zhou 2023, arXiv 2202.09671; Geng et al. 2025, arXiv 2505.13447",
    picks=(
        Pick("modes kept of 25", {"model": "GAN"}, "modes, GAN"),
        Pick("modes kept of 25", {"model": "truncated diffusion"}, "truncated"),
        Pick("Frechet distance", {"sampler": "MeanFlow", "evaluations": 2}, "digits, MeanFlow, 2 evaluations"),
        Pick("evaluations needed", {"start": "noise", "solver": "UniPC"}, "needed, UniPC from noise"),
        Pick("evaluations needed", {"start": "teleported, by the rule", "solver": "UniPC"}, "teleported"),
    ),
    tables=(
        Table(
            ("modes kept of 25", "rows within 4 deviations of a mode", "energy distance"),
            rows=("model",),
            title="25 Gaussians",
            text="Means of five seeds. A GAN is the generator of nearly clean data alone; truncated diffusion is the "
            "same code with six evaluations a sample. Generator and discriminator have the same size, rates and "
            "penalty in both, not tuned for the GAN; truncated diffusion has a denoiser beside them.",
            also=("seeds_with_25", "updates"),
        ),
        Table(
            "Frechet distance",
            rows=("sampler",),
            columns="evaluations",
            where={"part": "digits"},
            title="Digits: Frechet distance in classifier features",
            text="Means of five seeds, one denoiser a seed for all but MeanFlow. Noised rows are training rows in "
            "part: their samples come near to the floor, which is that of these rows.",
        ),
        Table(
            "Frechet distance",
            rows=("sampler",),
            columns="evaluations",
            where={"part": "digits"},
            show="standard_error",
            title="Digits: standard errors of these means",
        ),
        Table(
            "Frechet distance",
            rows=("sampler",),
            columns="evaluations",
            where={"part": "digits"},
            show="microseconds",
            title="Digits: microseconds a sample",
            text="1,438 samples at a time, compiled before, on a machine that did other work too.",
        ),
        Table(
            "evaluations needed",
            rows=("sampler",),
            where={"part": "needed"},
            title="Digits: evaluations to come within a standard error of 2M at 40",
        ),
        Table(
            "Frechet distance at convergence",
            rows=("sampler",),
            also=("steps", "limit"),
            title="Digits: today's default sampler where evaluations are free",
            text="Limit: its mean plus one standard error over five seeds.",
        ),
        Table(
            "evaluations needed",
            rows=("start", "solver"),
            where={"part": ("whole", "diffusers")},
            also=("level",),
            title="Digits: evaluations to this limit, every start with every solver",
            text="On its best grid each. K is where the noise is as large as the data (sigma = alpha); the rule of "
            "teleport is a signal to noise ratio of 1/4 along the leading direction; level is sigma / alpha there.",
        ),
        Table(
            "Frechet distance",
            rows=("start", "solver"),
            columns="evaluations",
            where={"part": ("whole", "diffusers")},
            title="Digits: Frechet distance, every start with every solver",
            text="Means of five seeds.",
        ),
        Table(
            ("Frechet distance", "share of samples of their class"),
            rows=("model", "labels"),
            where={"part": "labels"},
            also=("standard_error", "evaluations", "updates"),
            title="Digits: one network for denoiser and generator or two, with labels and without",
            text="Means of three seeds, of smaller networks and fewer updates than the models above. Labels are those "
            "of the training rows; whether a sample is of its class is what the classifier of the features says, of "
            "held-out rows in the floor.",
        ),
        Table(
            ("milliseconds an update", "time over that without R1"),
            rows=("penalty",),
            title="What the penalty R1 costs",
            text="Generator, discriminator and denoiser of the 25 Gaussians, one seed; medians of eleven rounds in "
            "turns.",
        ),
    ),
    missed=(
        (
            {"metric": "Frechet distance", "sampler": "truncated, 2M"},
            "The generator: from noised rows of the training set, where a perfect one would start, the same steps of "
            "the same denoiser are better than the chain. Rates, penalty and cut are from a few short pilots.",
        ),
        (
            {"metric": "evaluations needed", "sampler": "truncated, 2M"},
            "The same; and on its best grid 2M from noise needs no more than some ten evaluations for 64 pixels, which "
            "leaves two, a generator and one step, to a method that is to need five times fewer.",
        ),
    ),
    timed=("part", "model", "labels", "start", "solver"),
)
SCHEDULE = bj.schedules.cosine()
SEEDS = 5
SMOKE = 10  # updates of a smoke run


def network(
    shape: tuple[int, ...], seed: int, width: int, outputs: tuple[int, ...] | None = None, **classes: Any
) -> Functional:
    """An MLP of depth 3, or 1 where it is narrow, as in a smoke run."""
    depth = 3 if width > 16 else 1
    return functional(MLP(shape, outputs=outputs, width=width, depth=depth, rngs=nnx.Rngs(seed), **classes))


def falling(rate: float, updates: int, **options: Any) -> optax.GradientTransformation:
    """Adam whose rate falls to a twentieth, with gradients clipped."""
    return adam(rate, steps=updates, warmup=min(100, updates // 10), final=0.05, **options)


def cut(K: float) -> bj.Schedule:
    """The schedule up to K."""
    return replace(SCHEDULE, T=K, zero_terminal_snr=False)


def learn(make: Callable[[int], bj.Method], data: Any, updates: int, batch: int, seeds: int) -> list[Any]:
    """States of one Method from several starts, trained side by side; its counter is one for all (``lazy``)."""
    method, states = make(0), [make(seed).init(jax.random.key(seed), None) for seed in range(seeds)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)._replace(step=states[0].step)
    axes = stacked._replace(**{name: None if name == "step" else 0 for name in stacked._fields})
    rows = len(jax.tree.leaves(data)[0])

    def one(state: Any, key: Array) -> Any:
        pick, draw = jax.random.split(key)
        picked = jax.random.randint(pick, (batch,), 0, rows)
        return method.step(state, draw, jax.tree.map(lambda leaf: leaf[picked], data))[0]

    @jax.jit
    def train(stacked: Any, keys: Array) -> Any:
        def turn(stacked: Any, i: Array) -> tuple[Any, None]:
            now = jax.vmap(jax.random.fold_in, (0, None))(keys, i)
            return jax.vmap(one, (axes, 0), axes)(stacked, now), None

        return jax.lax.scan(turn, stacked, jnp.arange(updates))[0]

    found = jax.block_until_ready(train(stacked, jax.vmap(jax.random.key)(jnp.arange(100, 100 + seeds))))
    return [
        jax.tree.map(lambda leaf, s=s: leaf[s], found._replace(step=jnp.full(seeds, updates))) for s in range(seeds)
    ]


# 25 Gaussians -----------------------------------------------------------------------------------------------------

SPREAD = float(np.sqrt(2.0))  # of the means: data are divided by it
MEANS = np.stack(np.meshgrid(np.arange(-2.0, 3.0), np.arange(-2.0, 3.0)), -1).reshape(-1, 2) / SPREAD
DEVIATION = 0.05 / SPREAD
LEAST = 0.2  # share of the rows due to a mode, from which on it is kept
GAN, TRUNCATED = "GAN", "truncated diffusion"
CUTS = {GAN: 1e-3, TRUNCATED: 0.25}


def gaussian_rows(seed: int, n: int) -> np.ndarray:
    """Rows of the 25 Gaussians."""
    rng = np.random.default_rng(seed)
    return (MEANS[rng.integers(25, size=n)] + DEVIATION * rng.normal(size=(n, 2))).astype(np.float32)


def grid_model(K: float, updates: int, seed: int, **options: Any) -> bj.Method:
    """A generator of x_K, a discriminator and a denoiser of 25 Gaussians."""
    nets = {
        "generator_network": network((2,), 3 * seed, 96),
        "discriminator": network((2,), 3 * seed + 1, 96, (1,)),
        "network": network((2,), 3 * seed + 2, 96),
    }
    if K > CUTS[GAN]:
        options["ts"] = bj.grids.log_snr(5, cut(K), log_snr_max=6.5)
        levels = bj.grids.log_snr(40, cut(K), log_snr_max=9.0)
        options["time_sampler"] = bj.objectives.times.along((K - levels)[::-1])
        options["optimizer"] = falling(2e-3, updates)
    else:  # nothing is denoised
        options |= {"ts": bj.grids.uniform(1, K), "optimizer": optax.set_to_zero()}
    return bj.methods.truncated(
        SCHEDULE,
        nets.pop("network"),
        shape=(2,),
        truncation=K,
        generator_optimizer=falling(5e-4, updates, b1=0.0, b2=0.99),
        discriminator_optimizer=falling(1e-3, updates, b1=0.0, b2=0.99),
        **nets,
        **options,
    )


def modes(x: np.ndarray) -> tuple[int, float]:
    """How many modes keep their rows, and the share of rows near a mode."""
    distances = np.linalg.norm(x[:, None] - MEANS, axis=-1)
    near = distances.min(1) < 4 * DEVIATION
    counts = np.bincount(distances.argmin(1)[near], minlength=25)
    return int(np.sum(counts >= LEAST * len(x) / 25)), float(near.mean())


def gaussians(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Modes of a GAN and of truncated diffusion."""
    updates, n, seeds = (SMOKE, 500, 2) if options.smoke else (5000, 10_000, SEEDS)
    x, few = jnp.asarray(gaussian_rows(0, 20_000)), min(n, 4000)
    real = floor(energy_distance, gaussian_rows, n=few, draws=5).mean
    for model, K in list(CUTS.items())[options.smoke :]:
        began = time.perf_counter()
        method = grid_model(K, updates, 0)
        states = learn(lambda seed, K=K: grid_model(K, updates, seed), x, updates, 256, seeds)
        found = []
        for seed, state in enumerate(states):
            process, keys = method.process(state), bj.keys(jax.random.key(seed), n)
            drawn = (
                bj.sample(process, keys)
                if model == TRUNCATED
                else jax.vmap(lambda k, p=process: p.start(k, None))(keys)
            )
            drawn = np.asarray(drawn)
            distance = energy_distance(drawn[:few], gaussian_rows(1000 + seed, few))
            found.append((*modes(drawn), distance))
        kept, near, distances = zip(*found, strict=True)
        whole, case = sum(k == 25 for k in kept), {"model": model}
        bars = {
            GAN: ("fewer than 25 in three seeds or more", seeds - whole >= 3),
            TRUNCATED: ("25 in every seed", whole == seeds),
        }
        bar, met = bars[model]
        common = {"n": n, "began": began, "updates": updates}
        yield record(
            "modes kept of 25", np.mean(kept), case, spread=kept, bar=bar, met=met, seeds_with_25=whole, **common
        )
        yield record("rows within 4 deviations of a mode", np.mean(near), case, spread=near, **common)
        yield record("energy distance", np.mean(distances), case, spread=distances, floor=real, **{**common, "n": few})


def cost(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Milliseconds an update without the penalty, with it at every 16th update, and at every one, in turns."""
    updates, x = 8 if options.smoke else 400, jnp.asarray(gaussian_rows(0, 20_000))
    kinds = {"none": {"gamma": 0.0}, "every 16th update": {}, "every update": {"r1_every": 1}}
    runs = {}
    for penalty, changes in kinds.items():
        method = grid_model(CUTS[TRUNCATED], updates, 0, **changes)

        @jax.jit
        def run(state: Any, method: bj.Method = method) -> Any:
            turn = lambda state, i: (method.step(state, jax.random.fold_in(jax.random.key(0), i), x[:256])[0], None)  # noqa: E731
            return jax.lax.scan(turn, state, jnp.arange(updates))[0]

        runs[penalty] = run, jax.block_until_ready(run(method.init(jax.random.key(0), None)))
    took: dict[str, list[float]] = {penalty: [] for penalty in kinds}
    for _ in range(2 if options.smoke else 11):
        for penalty, (run, state) in runs.items():
            began = time.perf_counter()
            jax.block_until_ready(run(state))
            took[penalty].append(1e3 * (time.perf_counter() - began) / updates)
    base = np.array(took["none"])
    for penalty, each in took.items():
        case = {"penalty": penalty}
        middle = float(np.median(each))
        yield record("milliseconds an update", middle, case, spread=each, seconds=sum(each) * updates / 1e3, n=updates)
        if penalty != "none":
            yield record("time over that without R1", float(np.median(np.array(each) / base)), case, n=len(each))


# digits -----------------------------------------------------------------------------------------------------------

CUT = 0.5  # where the truncated chain begins
SHORT, LONG = (2, 3, 4, 6), (4, 6, 8, 10, 12, 16, 20, 24, 32, 40)
ENDS = (4.0, 6.0, 10.0)  # log SNR before the last step
CHAIN, NOISE, CUT_2M, MEAN_FLOW = "chain of the denoiser", "2M from noise", "truncated, 2M", "MeanFlow"
PERFECT = "2M from noised rows"  # evaluations: one more, as for a generator


class Digits:
    """Digits, models of them, and how far samples are from held-out rows."""

    def __init__(self, updates: int, seeds: int, width: int):
        self.updates, self.seeds, self.width = updates, seeds, width
        train, held = bj.data.split(bj.data.load("digits"))
        self.x, self.labels, self.shape = jnp.asarray(train.x), jnp.asarray(train.labels, jnp.int32), train.x.shape[1:]
        self.n = len(train.x) if updates > SMOKE else 64
        assert train.labels is not None
        self.map = bj.evaluation.classifier_features(train.x, train.labels)
        self.features, self.held = self.map.features, self.map.features(held.x)
        self.right_of_held = float(np.mean(self.map.predict(held.x) == held.labels))
        self.deviation = float(train.x.std())

    def diffusion(self, seed: int, **classes: Any) -> bj.Method:
        """The default diffusion."""
        return bj.methods.diffusion(
            SCHEDULE,
            network(self.shape, seed, self.width, **classes),
            shape=self.shape,
            predict="velocity",
            time_sampler=bj.objectives.times.low_discrepancy(1e-3, 1.0),
            optimizer=falling(2e-3, self.updates),
            sigma_data=self.deviation,
        )

    def truncated(self, seed: int, denoiser: Any, **options: Any) -> bj.Method:
        """Truncated diffusion; the denoiser is given, and learns if it has an optimizer."""
        classes = options.pop("classes", {})
        if options.get("generator") != "shared":
            options["generator_network"] = network(self.shape, 100 + seed, self.width, **classes)
        return bj.methods.truncated(
            SCHEDULE,
            denoiser,
            discriminator=network(self.shape, 200 + seed, self.width, (1,), **classes),
            shape=self.shape,
            truncation=CUT,
            predict="velocity",
            gamma=0.02,
            generator_optimizer=falling(2e-4, self.updates, b1=0.0, b2=0.99),
            discriminator_optimizer=falling(2e-3, self.updates, b1=0.0, b2=0.99),
            sigma_data=self.deviation,
            **options,
        )

    def mean_flow(self, seed: int) -> bj.Method:
        """MeanFlow."""
        shown = (*self.shape[:-1], 2 * self.shape[-1])
        net = network(shown, 300 + seed, self.width, self.shape)
        return bj.methods.mean_flow(net, shape=self.shape, optimizer=falling(1e-3, self.updates))

    def states(self, make: Callable[[int], bj.Method], data: Any = None) -> list[Any]:
        """States of a method that has learnt, one a seed."""
        return learn(make, self.x if data is None else data, self.updates, 128, self.seeds)

    def learnt(self, make: Callable[[int], bj.Method], data: Any = None) -> list[bj.Process]:
        """Processes of a method, one a seed."""
        method = make(0)
        return [method.process(state) for state in self.states(make, data)]

    @cached_property
    def denoisers(self) -> list[Any]:
        """States of the default diffusion."""
        return self.states(self.diffusion)

    @cached_property
    def diffusions(self) -> list[bj.Process]:
        """From noise, one a seed."""
        method = self.diffusion(0)
        return [method.process(state) for state in self.denoisers]

    @cached_property
    def truncations(self) -> list[bj.Process]:
        """The same denoisers, from generators."""
        method, apply = self.diffusion(0), network(self.shape, 0, self.width).apply

        def make(seed: int) -> bj.Method:
            given = apply, method.params(self.denoisers[seed])
            return self.truncated(seed, given, optimizer=optax.set_to_zero())  # it has learnt

        return self.learnt(make)

    @cached_property
    def mean_flows(self) -> list[bj.Process]:
        """One a seed."""
        return self.learnt(self.mean_flow)

    def distance(self, x: Any) -> float:
        """Frechet distance to the held-out rows."""
        return frechet(self.features(np.asarray(x)), self.held)

    def measure(self, processes: list[bj.Process], ts: Array, x: Array | None = None) -> tuple[list[float], float]:
        """Frechet distance of every seed, and seconds a sample; x: states to start from."""
        keys = bj.keys(jax.random.key(1), self.n)
        drawn, took = [], []
        for k, process in enumerate([processes[0], *processes]):  # the first compiles
            began = time.perf_counter()
            found = np.asarray(bj.sample(process, keys, ts=ts, x=x))
            took.append(time.perf_counter() - began)
            if k:
                drawn.append(self.distance(found))
        return drawn, min(took[1:]) / self.n

    def best(self, processes: list[bj.Process], schedule: bj.Schedule, steps: int) -> tuple[list[float], float, float]:
        """Of the best grid: the distances, seconds a sample, and the log SNR before its last step."""
        found = []
        for end in ENDS[-1:] if steps == 1 or self.updates <= SMOKE else ENDS:
            ts = bj.grids.log_snr(steps, schedule, log_snr_max=end)
            found.append((*self.measure(processes, ts), end))
        return min(found, key=lambda f: float(np.mean(f[0])))


@cache
def bench_of(*, smoke: bool) -> Digits:
    """Digits, with models that are trained once in a run."""
    return Digits(SMOKE, 2, 16) if smoke else Digits(3000, SEEDS, 192)


def denoiser_of(process: bj.Process) -> Any:
    """E[x0 | x_t] of a process made from a schedule."""
    assert process.dynamics.semilinear is not None
    return process.dynamics.semilinear.denoiser


def digits(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Frechet distance against evaluations."""
    bench, began = bench_of(smoke=options.smoke), time.perf_counter()
    real = bench.distance(bench.x)

    def told(sampler: str, evaluations: int, found: list[float], took: float, **also: Any) -> dict[str, Any]:
        error = float(np.std(found, ddof=1) / np.sqrt(len(found)))
        also |= {"standard_error": error, "microseconds": round(1e6 * took, 1)}
        case = {"sampler": sampler, "evaluations": evaluations}
        return record("Frechet distance", np.mean(found), case, spread=found, floor=real, n=bench.n, **also)

    flows = bench.diffusions
    short, long, chain = ((2,), (6,), 20) if options.smoke else (SHORT, LONG, 1000)
    chains = [replace(p, dynamics=bj.reverse(SCHEDULE, denoiser=denoiser_of(p))) for p in flows]
    ancestral, took = bench.measure(chains, bj.grids.log_snr(chain, SCHEDULE))
    yield told(CHAIN, chain, ancestral, took, began=began)
    starts = bench.truncations
    for evaluations in long:
        found, took, end = bench.best(flows, SCHEDULE, evaluations)
        yield told(NOISE, evaluations, found, took, log_snr_end=end)
    noised = bj.simulate_batch(
        bj.noising(cut(CUT)), bj.keys(jax.random.key(2), bench.n), bench.x[: bench.n], jnp.array([0.0, CUT])
    )
    for evaluations in short:
        found, took, end = bench.best(starts, cut(CUT), evaluations - 1)
        noise = float(np.std(np.subtract(found, ancestral), ddof=1) / np.sqrt(len(found)))
        most = evaluations == max(short)
        bar = {"bar": "no worse than the chain's, within two standard errors of the difference"} if most else {}
        met = {"met": np.mean(found) <= np.mean(ancestral) + 2 * noise} if most else {}
        yield told(CUT_2M, evaluations, found, took, log_snr_end=end, **bar, **met)
        ts = bj.grids.log_snr(evaluations - 1, cut(CUT), log_snr_max=end)
        yield told(PERFECT, evaluations, *bench.measure(starts, ts, noised), log_snr_end=end)
    for evaluations in (1,) if options.smoke else (1, 2, 4):
        yield told(MEAN_FLOW, evaluations, *bench.measure(bench.mean_flows, bj.grids.uniform(evaluations)))


# every way to few evaluations ---------------------------------------------------------------------------------------

SOURCE, RULE, GAUSSIAN, GENERATOR = "noise", "teleported, by the rule", "teleported to K", "generator at K"
OURS = {
    "DPM-Solver++ 2M": solvers.DPMSolverPP2M(),
    "UniPC": solvers.UniPC(),
}
TOP = 80.0  # sigma / alpha after the first node from noise, as EDM
STEPS = {SOURCE: (4, 5, 6, 7, 8, 10), RULE: (2, 3, 4, 5, 6), None: (1, 2, 3, 4, 5)}
Draw = Callable[[np.ndarray, int], Any]  # falling noise levels and a seed to samples


class Start(NamedTuple):
    """Where samples begin.

    Attributes:
        processes: one a seed, on the schedule up to there.
        states: to begin from, one batch a seed.
        top: noise level there.
        more: evaluations that it takes.
    """

    processes: list[bj.Process]
    states: list[Array]
    top: float
    more: int = 0


def starts_of(bench: Digits) -> dict[str, Start]:
    """From noise, from the Gaussian of the training rows at two levels, from generators."""
    law, keys = fit_gaussian(bench.x), [bj.keys(jax.random.key(1000 + s), bench.n) for s in range(bench.seeds)]

    def drawn(processes: list[bj.Process]) -> list[Array]:
        return [jax.vmap(p.start, (0, None))(k, None) for p, k in zip(processes, keys, strict=True)]

    fine = [replace(p, ts=bj.grids.log_snr(400, SCHEDULE)) for p in bench.diffusions]
    rule, moved = ([bj.teleport(p, law, **where) for p in fine] for where in ({}, {"t": CUT}))
    cuts, level = bench.truncations, float(_noise_levels(SCHEDULE, CUT))
    return {
        SOURCE: Start(bench.diffusions, drawn(bench.diffusions), TOP),
        RULE: Start(rule, drawn(rule), float(_noise_levels(SCHEDULE, rule[0].dynamics.T))),
        GAUSSIAN: Start(cuts, drawn(moved), level),
        GENERATOR: Start(cuts, drawn(cuts), level, 1),
    }


def times_of(start: Start, levels: np.ndarray) -> np.ndarray:
    """Times of the start's own clock at these noise levels, from 0."""
    T = start.processes[0].dynamics.T
    times = _noising_times(SCHEDULE, -2.0 * np.log(levels[:-1]))
    return np.concatenate([[0.0], T - times[1:], [T]])


def ours(bench: Digits, start: Start, solver: Any) -> Draw:
    """Samples by a solver of this library."""
    keys = bj.keys(jax.random.key(1), bench.n)

    def draw(levels: np.ndarray, s: int) -> Any:
        ts = jnp.asarray(times_of(start, levels), jnp.float32)
        return bj.sample(start.processes[s], keys, ts=ts, solver=solver, x=start.states[s])

    return draw


@jax.jit
def denoised(denoiser: Any, t: Array, x: Array) -> Array:
    """E[x_0 | x_t = x] of a batch."""
    return jax.vmap(denoiser, (None, 0, None))(t, x, None)


def theirs(start: Start, make: Callable[[], Any]) -> Draw:
    """Samples by a scheduler of diffusers, which keeps states as this schedule does: alpha^2 + sigma^2 = 1."""

    def draw(levels: np.ndarray, s: int) -> Any:
        times = dict(zip(levels[:-1].tolist(), _noising_times(SCHEDULE, -2.0 * np.log(levels[:-1])), strict=True))
        denoiser = denoiser_of(start.processes[s])
        clean = lambda level, x: denoised(denoiser, jnp.float32(times[level]), jnp.asarray(x))  # noqa: E731
        return scheduled(make(), clean, start.states[s], levels)

    return draw


def on_best_grid(bench: Digits, draw: Draw, steps: int, top: float, *, few: bool) -> tuple[list[float], str]:
    """Distances of all seeds on the grid that is best on the first, and its name."""
    grids = ladders(steps, top, few=few)
    first = {name: bench.distance(draw(levels, 0)) for name, levels in grids.items()}
    best = min(first, key=lambda name: first[name])
    return [first[best], *(bench.distance(draw(grids[best], s)) for s in range(1, bench.seeds))], best


def told_of(
    found: list[float], start: str, solver: str, evaluations: int, bench: Digits, **also: Any
) -> dict[str, Any]:
    """The distance of a way at a number of evaluations."""
    error = float(np.std(found, ddof=1) / np.sqrt(len(found)))
    case = {"start": start, "solver": solver, "evaluations": evaluations}
    return record("Frechet distance", np.mean(found), case, spread=found, n=bench.n, standard_error=error, **also)


def ways(bench: Digits, draws: dict[tuple[str, str], Draw], found: dict[str, Start], *, smoke: bool) -> Iterator[Any]:
    """Distances by evaluations, and the evaluations after which each way arrives."""
    limit = limit_of(bench, smoke=smoke)
    for (start, solver), draw in draws.items():
        began, reached, last = time.perf_counter(), None, 0
        for steps in (2,) if smoke else STEPS.get(start, STEPS[None]):
            values, grid = on_best_grid(bench, draw, steps, found[start].top, few=smoke)
            last = steps + found[start].more
            yield told_of(values, start, solver, last, bench, grid=grid)
            if reached is None and np.mean(values) <= limit:
                reached = last
        case = {"start": start, "solver": solver}
        why = f"not within {last} evaluations"
        yield record("evaluations needed", reached, case, n=bench.n, began=began, why=why, level=found[start].top)


@cache
def converged(bench: Digits, *, smoke: bool) -> tuple[list[float], int]:
    """Distances of the default sampler where evaluations are free, and their number."""
    steps, start = (8 if smoke else 256), starts_of(bench)[SOURCE]
    ts, keys = bj.grids.log_snr(steps, SCHEDULE), bj.keys(jax.random.key(1), bench.n)
    samples = (bj.sample(p, keys, ts=ts, x=x) for p, x in zip(start.processes, start.states, strict=True))
    return [bench.distance(x) for x in samples], steps


def limit_of(bench: Digits, *, smoke: bool) -> float:
    """A standard error above the mean of the default sampler at convergence."""
    values, _ = converged(bench, smoke=smoke)
    return float(np.mean(values) + np.std(values, ddof=1) / np.sqrt(len(values)))


def whole(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every way to few evaluations, by the solvers of this library, and MeanFlow."""
    bench, began = bench_of(smoke=options.smoke), time.perf_counter()
    values, steps = converged(bench, smoke=options.smoke)
    yield record(
        "Frechet distance at convergence", np.mean(values), {"sampler": NOISE}, spread=values, n=bench.n,
        floor=bench.distance(bench.x), steps=steps, limit=limit_of(bench, smoke=options.smoke), began=began,
    )  # fmt: skip
    found = starts_of(bench)
    names = [(start, name) for start in found for name in OURS]
    if options.smoke:
        names = [(GAUSSIAN, "UniPC")]
    draws = {(start, name): ours(bench, found[start], OURS[name]) for start, name in names}
    yield from ways(bench, draws, found, smoke=options.smoke)
    yield from by_mean_flow(bench, (1,) if options.smoke else (1, 2, 3, 4), limit_of(bench, smoke=options.smoke))


def by_mean_flow(bench: Digits, counts: tuple[int, ...], limit: float) -> Iterator[dict[str, Any]]:
    """MeanFlow in so many evaluations."""
    reached = None
    for evaluations in counts:
        values, _ = bench.measure(bench.mean_flows, bj.grids.uniform(evaluations))
        yield told_of(values, SOURCE, MEAN_FLOW, evaluations, bench)
        if reached is None and np.mean(values) <= limit:
            reached = evaluations
    why = f"not within {max(counts)} evaluations"
    yield record("evaluations needed", reached, {"start": SOURCE, "solver": MEAN_FLOW}, n=bench.n, why=why)


def diffusers(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The same denoisers and starts under the schedulers of diffusers."""
    bench, schedulers = bench_of(smoke=options.smoke), diffusers_schedulers()
    if not schedulers:
        return
    found = starts_of(bench)
    draws = {
        (start, name): theirs(found[start], make)
        for start in (SOURCE, GENERATOR)
        for name, make in schedulers.items()
        if not name.endswith("3M")
    }
    yield from ways(bench, draws, found, smoke=options.smoke)


# labels, and one network for both -------------------------------------------------------------------------------------


def labels(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One network for denoiser and generator or two, with labels and without, in six evaluations."""
    bench = Digits(SMOKE, 2, 16) if options.smoke else Digits(1500, 3, 128)
    real, order = bench.distance(bench.x), np.random.default_rng(0).permutation(len(bench.x))[: bench.n]
    asked = bench.labels[order]
    for labelled in (True,) if options.smoke else (False, True):
        classes = {"num_classes": 10} if labelled else {}
        data = {"x": bench.x, "label": bench.labels} if labelled else bench.x
        args = asked if labelled else None

        def truncated(seed: int, generator: str, classes: Any = classes) -> bj.Method:
            return bench.truncated(
                seed, network(bench.shape, seed, bench.width, **classes), generator=generator, classes=classes,
                optimizer=falling(2e-3, bench.updates),
                time_sampler=bj.objectives.times.low_discrepancy(1e-3 * CUT, CUT),
            )  # fmt: skip

        makers: dict[str, Callable[[int], bj.Method]] = {
            "separate": partial(truncated, generator="separate"),
            "shared": partial(truncated, generator="shared"),
            CHAIN: partial(bench.diffusion, **classes),
        }
        for name in ("shared",) if options.smoke else makers:
            began, processes = time.perf_counter(), bench.learnt(makers[name], data)
            grids = [bj.grids.log_snr(5, cut(CUT), log_snr_max=end) for end in ENDS[: 1 if options.smoke else None]]
            if name == CHAIN:
                processes = [replace(p, dynamics=bj.reverse(SCHEDULE, denoiser=denoiser_of(p))) for p in processes]
                grids = [bj.grids.log_snr(1000, SCHEDULE)]
            every = []
            for ts in grids:
                keys = bj.keys(jax.random.key(1), bench.n)
                drawn = [np.asarray(bj.sample(p, keys, args, ts=ts)) for p in processes]
                right = [float(np.mean(bench.map.predict(x) == asked)) for x in drawn]
                every.append(([bench.distance(x) for x in drawn], right))
            values, right = min(every, key=lambda pair: float(np.mean(pair[0])))
            case = {"model": name, "labels": "yes" if labelled else "no"}
            common = {"n": bench.n, "evaluations": 1000 if name == CHAIN else 6, "updates": bench.updates}
            error = float(np.std(values, ddof=1) / np.sqrt(len(values)))
            yield record(
                "Frechet distance", np.mean(values), case, spread=values, floor=real, began=began,
                standard_error=error, **common,
            )  # fmt: skip
            if labelled:
                yield record(
                    "share of samples of their class", np.mean(right), case, spread=right, floor=bench.right_of_held,
                    **common,
                )  # fmt: skip


def needed(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The fewest evaluations at which a sampler's mean is within a standard error of 2M at the most evaluations."""
    curves: dict[str, dict[int, Any]] = {name: {} for name in (NOISE, CUT_2M, MEAN_FLOW)}
    for found in options.kept:
        if found["part"] == "digits" and found["case"]["sampler"] in curves:
            curves[found["case"]["sampler"]][found["case"]["evaluations"]] = found
    reference = curves[NOISE][max(curves[NOISE])]
    limit = reference["value"] + reference["also"]["standard_error"]
    slow = min(k for k, found in curves[NOISE].items() if found["value"] <= limit)
    for name, curve in curves.items():
        fewest = min((k for k, found in curve.items() if found["value"] <= limit), default=None)
        few = fewest is not None and slow >= 5 * fewest
        bar = {} if name == NOISE else {"bar": "at least five times fewer than 2M from noise", "met": few}
        why = f"not reached in {max(curve)}"
        yield record("evaluations needed", fewest, {"sampler": name}, limit=limit, why=why, **bar)


if __name__ == "__main__":
    STUDY.run(
        __doc__,
        {
            "gaussians": gaussians,
            "digits": digits,
            "needed": needed,
            "whole": whole,
            "diffusers": diffusers,
            "labels": labels,
            "cost": cost,
        },
        smoke=("whole", "labels"),  # the others use the same code
    )
