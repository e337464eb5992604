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
    cost        milliseconds an update without R1, with it at every 16th update and at every one

All five seeds are trained side by side, by vmap over one compiled loop. Budget: 20 minutes on two cores.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from study import Pick, Study, Table, record

import bridgejax as bj
from bridgejax.metrics import energy_distance, floor, frechet
from bridgejax.networks import MLP, Functional, functional
from bridgejax.training import adam

STUDY = Study(
    "truncated",
    topic="Generating",
    question="Do a few steps of diffusion make a GAN keep its modes, and a diffusion model need fewer evaluations?",
    answer="They keep the modes: a GAN loses some in every run, the same networks cut where modes overlap keep all. On "
    "digits truncated diffusion is better than 2M from noise where both have few evaluations, but its generator, which "
    "is not perfect, keeps it from the chain of a thousand steps; from noised rows the same steps are better than it. "
    "MeanFlow, one network and no adversary, is as good as the chain in two evaluations.",
    brief="Modes, yes; on digits it saves a few evaluations, and MeanFlow more.",
    budget="20 minutes on two cores",
    source="Zheng, He, Chen & Zhou 2023, arXiv 2202.09671; Geng et al. 2025, arXiv 2505.13447",
    picks=(
        Pick("modes kept of 25", {"model": "GAN"}, "modes, GAN"),
        Pick("modes kept of 25", {"model": "truncated diffusion"}, "truncated"),
        Pick("Frechet distance", {"sampler": "MeanFlow", "evaluations": 2}, "digits, MeanFlow, 2 evaluations"),
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
            title="Digits: Frechet distance in classifier features",
            text="Means of five seeds, one denoiser a seed for all but MeanFlow. Noised rows are training rows in "
            "part: their samples come near to the floor, which is that of these rows.",
        ),
        Table(
            "Frechet distance",
            rows=("sampler",),
            columns="evaluations",
            show="standard_error",
            title="Digits: standard errors of these means",
        ),
        Table(
            "Frechet distance",
            rows=("sampler",),
            columns="evaluations",
            show="microseconds",
            title="Digits: microseconds a sample",
            text="1,438 samples at a time, compiled before, on a machine that did other work too.",
        ),
        Table(
            "evaluations needed",
            rows=("sampler",),
            title="Digits: evaluations to come within a standard error of 2M at 40",
        ),
        Table(
            "milliseconds an update",
            rows=("penalty",),
            title="What the penalty R1 costs",
            text="Generator, discriminator and denoiser of the 25 Gaussians, one seed.",
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
    timed=("part", "model"),
)
SCHEDULE = bj.schedules.cosine()
SEEDS = 5
SMOKE = 10  # updates of a smoke run


def network(shape: tuple[int, ...], seed: int, width: int, outputs: tuple[int, ...] | None = None) -> Functional:
    """An MLP of depth 3."""
    return functional(MLP(shape, outputs=outputs, width=width, depth=3, rngs=nnx.Rngs(seed)))


def falling(rate: float, updates: int, **options: Any) -> optax.GradientTransformation:
    """Adam whose rate falls to a twentieth, with gradients clipped."""
    return adam(rate, steps=updates, warmup=min(100, updates // 10), final=0.05, **options)


def cut(K: float) -> bj.Schedule:
    """The schedule up to K."""
    return replace(SCHEDULE, T=K, zero_terminal_snr=False)


def learn(make: Callable[[int], bj.Method], x: Array, updates: int, batch: int, seeds: int) -> list[Any]:
    """States of one Method from several starts, trained side by side; its counter is one for all (``lazy``)."""
    method, states = make(0), [make(seed).init(jax.random.key(seed), None) for seed in range(seeds)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)._replace(step=states[0].step)
    axes = stacked._replace(**{name: None if name == "step" else 0 for name in stacked._fields})

    def one(state: Any, key: Array) -> Any:
        pick, draw = jax.random.split(key)
        return method.step(state, draw, x[jax.random.randint(pick, (batch,), 0, len(x))])[0]

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
    """Milliseconds an update without the penalty, with it at every 16th update, and at every one."""
    updates, x = 8 if options.smoke else 400, jnp.asarray(gaussian_rows(0, 20_000))
    kinds = {"none": {"gamma": 0.0}, "every 16th update": {}, "every update": {"r1_every": 1}}
    for penalty, changes in kinds.items():
        method = grid_model(CUTS[TRUNCATED], updates, 0, **changes)

        @jax.jit
        def run(state: Any, method: bj.Method = method) -> Any:
            turn = lambda state, i: (method.step(state, jax.random.fold_in(jax.random.key(0), i), x[:256])[0], None)  # noqa: E731
            return jax.lax.scan(turn, state, jnp.arange(updates))[0]

        state = jax.block_until_ready(run(method.init(jax.random.key(0), None)))
        began = time.perf_counter()
        jax.block_until_ready(run(state))
        took = time.perf_counter() - began
        yield record("milliseconds an update", 1e3 * took / updates, {"penalty": penalty}, seconds=took, n=updates)


# digits -----------------------------------------------------------------------------------------------------------

CUT = 0.5  # where the truncated chain begins
SHORT, LONG = (2, 3, 4, 6), (4, 6, 8, 10, 12, 16, 20, 24, 32, 40)
ENDS = (4.0, 6.0, 10.0)  # log SNR before the last step
CHAIN, NOISE, CUT_2M, MEAN_FLOW = "chain of the denoiser", "2M from noise", "truncated, 2M", "MeanFlow"
PERFECT = "2M from noised rows"  # evaluations: one more, as for a generator


class Digits:
    """Digits, trained models of them, and how far samples are from held-out rows."""

    def __init__(self, updates: int, seeds: int, width: int):
        self.updates, self.seeds = updates, seeds
        train, held = bj.data.split(bj.data.load("digits"))
        self.x, self.shape = jnp.asarray(train.x), train.x.shape[1:]
        self.n = len(train.x) if updates > SMOKE else 64
        assert train.labels is not None
        self.features = bj.evaluation.classifier_features(train.x, train.labels).features
        self.held = self.features(held.x)
        deviation = float(train.x.std())

        def diffusion(seed: int) -> bj.Method:
            return bj.methods.diffusion(
                SCHEDULE,
                network(self.shape, seed, width),
                shape=self.shape,
                predict="velocity",
                time_sampler=bj.objectives.times.low_discrepancy(1e-3, 1.0),
                optimizer=falling(2e-3, self.updates),
                sigma_data=deviation,
            )

        self.diffusion = diffusion(0)
        self.denoisers = learn(diffusion, self.x, self.updates, 128, self.seeds)
        apply = network(self.shape, 0, width).apply

        def truncated(seed: int) -> bj.Method:
            return bj.methods.truncated(
                SCHEDULE,
                (apply, self.diffusion.params(self.denoisers[seed])),
                generator_network=network(self.shape, 100 + seed, width),
                discriminator=network(self.shape, 200 + seed, width, (1,)),
                shape=self.shape,
                truncation=CUT,
                predict="velocity",
                gamma=0.02,
                optimizer=optax.set_to_zero(),  # it has learnt
                generator_optimizer=falling(2e-4, self.updates, b1=0.0, b2=0.99),
                discriminator_optimizer=falling(2e-3, self.updates, b1=0.0, b2=0.99),
                sigma_data=deviation,
            )

        self.truncated = truncated(0)
        self.generators = learn(truncated, self.x, self.updates, 128, self.seeds)

        def mean_flow(seed: int) -> bj.Method:
            shown = (*self.shape[:-1], 2 * self.shape[-1])
            net = network(shown, 300 + seed, width, self.shape)
            return bj.methods.mean_flow(net, shape=self.shape, optimizer=falling(1e-3, self.updates))

        self.mean_flow = mean_flow(0)
        self.flows = learn(mean_flow, self.x, self.updates, 128, self.seeds)

    def measure(self, processes: list[bj.Process], ts: Array, x: Array | None = None) -> tuple[list[float], float]:
        """Frechet distance of every seed, and seconds a sample; x: states to start from."""
        keys = bj.keys(jax.random.key(1), self.n)
        drawn, took = [], []
        for k, process in enumerate([processes[0], *processes]):  # the first compiles
            began = time.perf_counter()
            found = np.asarray(bj.sample(process, keys, ts=ts, x=x))
            took.append(time.perf_counter() - began)
            if k:
                drawn.append(frechet(self.features(found), self.held))
        return drawn, min(took[1:]) / self.n

    def best(self, processes: list[bj.Process], schedule: bj.Schedule, steps: int) -> tuple[list[float], float, float]:
        """Of the best grid: the distances, seconds a sample, and the log SNR before its last step."""
        found = []
        for end in ENDS[-1:] if steps == 1 or self.updates <= SMOKE else ENDS:
            ts = bj.grids.log_snr(steps, schedule, log_snr_max=end)
            found.append((*self.measure(processes, ts), end))
        return min(found, key=lambda f: float(np.mean(f[0])))


def denoiser_of(process: bj.Process) -> Any:
    """E[x0 | x_t] of a process made from a schedule."""
    assert process.dynamics.semilinear is not None
    return process.dynamics.semilinear.denoiser


def digits(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Frechet distance against evaluations."""
    began = time.perf_counter()
    bench = Digits(SMOKE, 2, 16) if options.smoke else Digits(3000, SEEDS, 192)
    real = frechet(bench.features(bench.x), bench.held)
    print(f"trained in {time.perf_counter() - began:.0f} s", flush=True)

    def told(sampler: str, evaluations: int, found: list[float], took: float, **also: Any) -> dict[str, Any]:
        error = float(np.std(found, ddof=1) / np.sqrt(len(found)))
        also |= {"standard_error": error, "microseconds": round(1e6 * took, 1)}
        case = {"sampler": sampler, "evaluations": evaluations}
        return record("Frechet distance", np.mean(found), case, spread=found, floor=real, n=bench.n, **also)

    flows = [bench.diffusion.process(state) for state in bench.denoisers]
    short, long, chain = ((2,), (6,), 20) if options.smoke else (SHORT, LONG, 1000)
    chains = [replace(p, dynamics=bj.reverse(SCHEDULE, denoiser=denoiser_of(p))) for p in flows]
    ancestral, took = bench.measure(chains, bj.grids.log_snr(chain, SCHEDULE))
    yield told(CHAIN, chain, ancestral, took)
    starts = [bench.truncated.process(state) for state in bench.generators]
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
        processes = [bench.mean_flow.process(state) for state in bench.flows]
        yield told(MEAN_FLOW, evaluations, *bench.measure(processes, bj.grids.uniform(evaluations)))


def needed(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The fewest evaluations at which a sampler's mean is within a standard error of 2M at the most evaluations."""
    curves: dict[str, dict[int, Any]] = {name: {} for name in (NOISE, CUT_2M, MEAN_FLOW)}
    for found in options.kept:
        if found["metric"] == "Frechet distance" and found["case"]["sampler"] in curves:
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
        {"gaussians": gaussians, "digits": digits, "needed": needed, "cost": cost},
        smoke=("gaussians", "digits"),
    )
