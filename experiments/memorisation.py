"""What a diffusion model that knew its training rows exactly would do, when it would do it, and what networks do.

    python experiments/memorisation.py            all; results/memorisation.json and docs/memorisation.png
    python experiments/memorisation.py --smoke    seconds

    landing   200 points in the plane: 40,000 paths of the exact reverse SDE from one state, how many end on each point
              against w_i, its posterior weight there
    flow      where 4,000 paths of the exact probability flow of these points end
    times     digits and printed letters, 8 x 8 pixels: speciation and collapse, as predicted from the spectrum or by
              Monte Carlo and as seen on the exact law of the rows
    models    digits: what share of samples copies a training row, of the exact denoiser, its smoothing, score machines
              of patches and a small convolutional network; and which of these the network resembles
    halves    two networks of disjoint halves of the digits, 20 to 800 rows each, and the exact scores of the same rows:
              from the same noise, are their samples nearer to each other or to their rows? Two splits

What is seen. Classes: two reverse paths that part at x_t end in one class with probability sum_c P(c | x_t)^2, its mean
over x_t rescaled to 0 at T and 1 at clean data; speciation is seen where this is a half. Points: the time of a path
from noise at which the weight of the point it ends on passes a half for the last time; collapse is seen at its median.

Budget: 30 minutes on two cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from glyphs import letters
from study import Pick, Study, Table, record

import bridgejax as bj
from bridgejax import methods, networks, schedules
from bridgejax.evaluation import memorised, two_halves
from bridgejax.oracles import collapse_time, empirical_law, estimate_collapse_time, speciation_time
from bridgejax.solve.grids import _noise_levels, _noising_times
from bridgejax.training import adam

STUDY = Study(
    "memorisation",
    topic="Generating",
    question="What does a model do that knows its training rows exactly, and do networks do that?",
    answer="The exact score returns training rows, each as often as its posterior weight says; a little smoothing does "
    "not change that. Classes part, and rows are told apart, near the noise levels that the data predict. A trained "
    "network copies no more than held-out rows do; patch machines without any training do not copy either, and what "
    "the network says is nearer to them than to the exact score at every noise level where these differ. Networks of "
    "disjoint halves draw different digits from the same noise where they have few rows, and nearly the same ones, "
    "nearer to each other than to any row, where they have some hundreds; exact scores return rows at every size.",
    brief="Exact scores copy, at predicted noise levels; networks and patch machines do not.",
    budget="30 minutes on two cores",
    source="Cao, Johnston, Laurent, Le & Motsch 2025; Biroli, Bonnaire, de Bortoli & Mezard 2024; Kamb & Ganguli 2024; "
    "Scarvelis, Saez de Ocariz Borde & Solomon 2023",
    floor="held-out rows in the place of samples",
    picks=(
        Pick("memorisation fraction", {"model": "exact"}, "copies, exact score"),
        Pick("memorisation fraction", {"model": "network"}, "network"),
    ),
    tables=(
        Table(
            "largest deviation, in standard errors",
            rows=("steps",),
            title="Where reverse paths land",
            text="Of the shares of 40,000 paths from the posterior weights w_i; points with fewer than 10 paths "
            "expected are pooled. The number of steps shows what is left of the discretisation.",
            also=("n", "points_counted", "chi2_p_value", "furthest_from_a_point"),
        ),
        Table(
            "share of probability flows that end on a point",
            rows=("steps",),
            also=("n", "points_reached", "furthest_from_a_point"),
        ),
        Table(
            ("speciation", "collapse", "collapse, Gaussian of this covariance"),
            rows=("data",),
            title="Two times, as seen on the exact law; published is the prediction",
            text="As noise levels sigma / alpha, in units of the pixels' half range. Predicted: speciation at the "
            "square root of the largest eigenvalue of the covariance; collapse where the rows have even odds against "
            "all others, by Monte Carlo, which is known to come out too large; and where the mutual information of a "
            "Gaussian of this covariance is log n.",
            also=("n",),
        ),
        Table(
            "memorisation fraction",
            rows=("model",),
            title="Share of samples with d1/d2 < 1/3",
            text="To the two nearest training rows. The floor is the share of held-out rows. Also the medians of d1/d2 "
            "and of d1, of samples and of held-out rows: the network is a small one after a minute of training, and "
            "its samples are further from the rows than held-out rows are.",
            also=("n", "median_ratio", "nearest_row", "nearest_row_of_held_out"),
        ),
        Table(
            "r2 with the network",
            rows=("noise_level",),
            columns="model",
            title="Which denoiser the network resembles",
            text="Median over held-out rows, noised, of the squared correlation of the pixels of two denoised images.",
        ),
        Table(
            "r2 of samples with the network",
            rows=("model",),
            text="Samples of the probability flow in 20 steps from the same noise, median. Published: 0.94 to 0.96 for "
            "convolutional networks and calibrated equivariant machines on 28 x 28 and 32 x 32 pixels.",
        ),
        Table(
            "pairs nearer to each other than to their rows",
            rows=("model", "rows of a half"),
            also=("median_between", "median_to_own", "median_unrelated"),
            title="Two halves: pairs from the same noise that are nearer to each other than to the rows of either",
            text="Means of two splits. Also the median distances of a pair, of samples to the nearest of their own "
            "model's rows, and of samples from unrelated noise.",
        ),
        Table(
            ("correlation of pairs", "copies of own rows"),
            rows=("model", "rows of a half"),
            title="Two halves: correlation of the pairs' pixels, and share of samples that copy a row (d1/d2 < 1/3)",
        ),
    ),
    pictures=("memorisation", "two_halves"),
    missed=(
        (
            {"metric": "pairs nearer to each other than to their rows", "model": "network"},
            "By less than its Monte Carlo error. The networks are small and briefly trained, and return few of their "
            "rows exactly even where these are few: see the share of copies.",
        ),
    ),
    timed=("part", "data", "model", "steps", "rows of a half"),
)
DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"
PICTURE, HALVES = DOCS / "memorisation.png", DOCS / "two_halves.png"


# landing ------------------------------------------------------------------------------------------------------------


def landing(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Where paths of the exact reversal end."""
    from scipy import stats

    paths = 400 if options.smoke else 40_000
    rng = np.random.default_rng(0)
    points, weights = rng.normal(size=(200, 2)).astype(np.float32), rng.uniform(0.2, 1.0, 200)
    schedule = schedules.ou(T=1.0)
    law, x = empirical_law(points, weights), jnp.array([0.4, -0.2])
    exact = np.asarray(law.weights(schedule, 1.0, x), np.float64)
    exact /= exact.sum()
    for steps in (20, 40) if options.smoke else (400, 1600):
        began, grid = time.perf_counter(), bj.grids.log_snr(steps, schedule)
        back, keys = bj.reverse(schedule, denoiser=law.denoiser(schedule)), bj.keys(jax.random.key(1), paths)
        ends = bj.simulate_batch(back, keys, jnp.broadcast_to(x, (paths, 2)), grid, micro_batch=4000)
        gap, count = _ends_on(np.asarray(ends), points)
        large = exact * paths >= (1 if options.smoke else 10)
        found, want = (np.append(p[large], p[~large].sum()) for p in (count, exact * paths))
        found, want = found[want > 0], want[want > 0]
        z = np.abs(found - want) / np.sqrt(want * (1 - want / paths))
        fine = steps == 1600
        yield record(
            "largest deviation, in standard errors", float(z.max()), {"steps": steps}, n=paths,
            bar="at most 5" if fine else None, met=z.max() <= 5 if fine else None, began=began,
            points_counted=int(large.sum()), furthest_from_a_point=float(gap),
            chi2_p_value=float(stats.chisquare(found, want * found.sum() / want.sum()).pvalue),
        )  # fmt: skip


def flow(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Where paths of the exact probability flow end."""
    flows, steps, began = 50 if options.smoke else 4000, 400, time.perf_counter()
    points = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    schedule = schedules.karras(20.0)  # time is the noise level, which float32 resolves to the end
    ode = bj.probability_flow(schedule, denoiser=empirical_law(points).denoiser(schedule))
    starts = 20.0 * jax.random.normal(jax.random.key(2), (flows, 2))
    grid = bj.grids.karras(steps, sigma_min=1e-4, sigma_max=20.0)
    ends = np.asarray(bj.simulate_batch(ode, bj.keys(jax.random.key(3), flows), starts, grid))
    gaps = np.linalg.norm(ends[:, None] - points, axis=-1).min(axis=1)
    yield record(
        "share of probability flows that end on a point", float(np.mean(gaps < 1e-3)), {"steps": steps}, n=flows,
        bar="all", met=np.all(gaps < 1e-3), began=began, points_reached=int(np.sum(_ends_on(ends, points)[1] > 0)),
        furthest_from_a_point=float(gaps.max()),
    )  # fmt: skip


def _ends_on(ends: np.ndarray, points: np.ndarray) -> tuple[float, np.ndarray]:
    """The furthest end from its nearest point, and how many ends each point has."""
    count, gap = np.zeros(len(points)), 0.0
    for block in np.array_split(ends, max(1, len(ends) // 4000)):
        distances = np.linalg.norm(block[:, None] - points, axis=-1)
        gap = max(gap, float(distances.min(axis=1).max()))
        count += np.bincount(distances.argmin(axis=1), minlength=len(points))
    return gap, count


# times --------------------------------------------------------------------------------------------------------------


def sets(*, smoke: bool) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Rows [n, 64] and their classes; letters as many as digits."""
    digits = bj.data.load("digits")
    chars, labels = letters(60 if smoke else 1797, 1, held=False)
    cut = slice(0, 60 if smoke else None)
    return {
        "digits": (digits.x.reshape(-1, 64)[cut], np.asarray(digits.labels)[cut]),
        "letters": (chars.reshape(-1, 64), labels),
    }


def curves(law: Any, labels: np.ndarray, schedule: Any, ts: np.ndarray, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """At each time, over x_t of the rows: the chance that two reverse paths end in one class, and in the row itself."""
    classes = jax.nn.one_hot(labels, 10, dtype=law.points.dtype)
    rows = jax.random.randint(jax.random.key(4), (draws,), 0, len(law.points))
    eps = jax.random.normal(jax.random.key(5), (draws, *law.points.shape[1:]), law.points.dtype)

    @jax.jit
    def at(t: Any) -> Any:
        def one(i: Any, e: Any) -> Any:
            x = schedule.alpha(t) * law.points[i] + schedule.sigma(t) * e
            w = law.weights(schedule, t, x)
            return jnp.sum((w @ classes) ** 2), w[i]

        return jax.tree.map(jnp.mean, jax.lax.map(lambda pair: one(*pair), (rows, eps), batch_size=64))

    found = np.asarray([at(jnp.asarray(t, jnp.float32)) for t in ts])
    return found[:, 0], found[:, 1]


def commitment(law: Any, schedule: Any, paths: int, steps: int) -> np.ndarray:
    """Of reverse paths from noise: the last time at which the weight of the point they end on is below a half."""
    grid = bj.grids.log_snr(steps, schedule)
    back = bj.reverse(schedule, denoiser=law.denoiser(schedule))

    def one(key: Any) -> Any:
        start, run = jax.random.split(key)
        xs = bj.simulate_path(back, run, jax.random.normal(start, law.points.shape[1:]), grid).xs
        end = jnp.argmin(jnp.sum((law.points - xs[-1]) ** 2, axis=1))
        held = jax.lax.map(lambda pair: law.weights(schedule, schedule.T - pair[0], pair[1])[end], (grid[:-1], xs[:-1]))
        return jnp.max(jnp.where(held < 0.5, jnp.arange(len(held)), -1))

    last = np.asarray(jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=16))(bj.keys(jax.random.key(6), paths)))
    return np.asarray(schedule.T - grid)[last + 1]


def crossing(ts: np.ndarray, falling: np.ndarray, value: float) -> float:
    """The first time at which a falling curve is at this value, between two of the times."""
    k = int(np.argmax(falling < value))
    share = (falling[k - 1] - value) / (falling[k - 1] - falling[k])
    return float(ts[k - 1] + share * (ts[k] - ts[k - 1]))


def times(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Speciation and collapse, predicted and seen."""
    schedule, drawn = schedules.ou(T=6.0), {}
    draws, paths, steps = (32, 4, 30) if options.smoke else (1024, 256, 400)
    for name, (rows, labels) in sets(smoke=options.smoke).items():
        began, law = time.perf_counter(), empirical_law(np.unique(rows, axis=0))
        order = np.unique(rows, axis=0, return_index=True)[1]
        ts = schedule.T * np.linspace(0.02, 1.0, 12 if options.smoke else 60) ** 2
        together, own = curves(law, labels[order], schedule, ts, draws)
        shares = np.bincount(labels, minlength=10) / len(labels)
        least = float(np.sum(shares**2))
        classes = (together - least) / (1.0 - least)
        caught = np.median(commitment(law, schedule, paths, steps))
        estimate = estimate_collapse_time(jax.random.key(7), schedule, law, draws=draws)
        foretold = {
            "speciation": (crossing(ts, classes, 0.5), speciation_time(schedule, law)),
            "collapse": (float(caught), estimate.time),
            "collapse, Gaussian of this covariance": (float(caught), collapse_time(schedule, law)),
        }
        for what, (seen, predicted) in foretold.items():
            found, told = float(_noise_levels(schedule, seen)), float(_noise_levels(schedule, predicted))
            asked = not what.endswith("covariance")
            yield record(
                what, found, {"data": name}, n=len(law.points), published=told, began=began,
                bar="within a factor of 2 of the prediction" if asked else None,
                met=0.5 < found / told < 2 if asked else None,
            )  # fmt: skip
        drawn[name] = (
            _noise_levels(schedule, ts),
            classes,
            own,
            {k: tuple(_noise_levels(schedule, v)) for k, v in foretold.items()},
        )
    if not options.smoke:
        picture(drawn)


def picture(drawn: dict[str, Any]) -> None:
    """A panel for each data set: both curves over the noise level, and the times."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(drawn), figsize=(11, 4.2), sharey=True)
    for axis, (name, (levels, classes, own, foretold)) in zip(axes, drawn.items(), strict=True):
        axis.semilogx(levels, classes, color="tab:blue", label="two paths that part here end in one class (0 to 1)")
        axis.semilogx(levels, own, color="tab:red", label="a path ends on the row it was made from")
        for what, colour in (("speciation", "tab:blue"), ("collapse", "tab:red")):
            seen, predicted = foretold[what]
            axis.axvline(seen, color=colour, lw=1, label=f"{what}, seen")
            axis.axvline(predicted, color=colour, lw=1, ls="--", label=f"{what}, predicted")
        gaussian = foretold["collapse, Gaussian of this covariance"][1]
        axis.axvline(gaussian, color="tab:red", lw=1, ls=":", label="collapse of a Gaussian of this covariance")
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("noise level sigma / alpha")
        axis.set_xlim(0.05, 50)
    figure.tight_layout(rect=(0.0, 0.13, 1.0, 1.0))
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=7.5, ncols=3, loc="lower center", frameon=False)
    figure.savefig(PICTURE, dpi=110)
    plt.close(figure)
    print(PICTURE)


# models -------------------------------------------------------------------------------------------------------------

LEVELS = (0.1, 0.3, 0.6, 1.0, 2.0, 5.0)


def makers(rows: np.ndarray, updates: int, width: int, patch: tuple[int, ...] | None) -> dict[str, Any]:
    """Methods by name, and how many updates each gets."""
    schedule = schedules.cosine()
    cnn = networks.UNet((8, 8, 1), width=width, multipliers=(1,), attention=0, rngs=nnx.Rngs(0))
    learnt = methods.diffusion(
        schedule, cnn, shape=(8, 8, 1), predict="velocity", sigma_data=float(rows.std()),
        optimizer=optax.adam(optax.cosine_decay_schedule(2e-3, updates)),
    )  # fmt: skip
    found = {
        "exact": (methods.closed_form(schedule, rows=rows), 1),
        "smoothed by 0.3": (methods.closed_form(schedule, rows=rows, smoothing=0.3, draws=8), 1),
        "smoothed by 1": (methods.closed_form(schedule, rows=rows, smoothing=1.0, draws=8), 1),
        "local patches": (methods.score_machine(schedule, rows=rows, kind="local", patch=patch), 1),
        "equivariant patches": (methods.score_machine(schedule, rows=rows, kind="equivariant", patch=patch), 1),
        "network": (learnt, updates),
    }
    few = ("exact", "equivariant patches", "network")
    return found if patch is None else {name: found[name] for name in few}


MACHINES = ("exact", "smoothed by 0.3", "smoothed by 1", "local patches", "equivariant patches")


def r2(a: np.ndarray, b: np.ndarray) -> float:
    """Squared correlation of the pixels of each pair of images, the median."""
    a, b = (x.reshape(len(x), -1) - x.reshape(len(x), -1).mean(axis=1, keepdims=True) for x in (a, b))
    lengths = np.sum(a**2, axis=1) * np.sum(b**2, axis=1)
    return float(np.median(np.sum(a * b, axis=1) ** 2 / np.where(lengths > 0, lengths, 1.0)))


def models(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What copies, and what a network resembles."""
    train, held = bj.data.split(bj.data.load("digits"), 0.2, 0)
    rows, control = train.x, held.x
    num, updates, width, asked = (12, 20, 8, 8) if options.smoke else (200, 2000, 16, 100)
    rows = rows[:60] if options.smoke else rows
    schedule, samples, denoised = schedules.cosine(), {}, {}
    at = [float(t) for t in _noising_times(schedule, -2.0 * np.log(np.asarray(LEVELS)))]
    eps = jax.random.normal(jax.random.key(2), (asked, 8, 8, 1))
    for name, (method, steps) in makers(rows, updates, width, (3, 15) if options.smoke else None).items():
        began = time.perf_counter()
        state = method.init(jax.random.key(0), None)
        if steps > 1:
            state = bj.fit(
                method, rows, jax.random.key(0), steps=steps, batch_size=32 if options.smoke else 64, progress=False
            )
        process = method.process(state)
        process = dataclasses.replace(process, ts=bj.grids.log_snr(5 if options.smoke else 20, schedule))
        x = np.asarray(bj.sample(process, bj.keys(jax.random.key(1), num), micro_batch=64))
        found = memorised(x, rows, control)
        bars: dict[str, Any] = {}
        if name == "exact":
            bars = {"bar": "1", "met": found.fraction == 1}
        elif not name.startswith("smoothed"):
            bars = {"bar": "at most 3 standard errors above held-out rows", "met": found.z <= 3}
        yield record(
            "memorisation fraction", found.fraction, {"model": name}, n=num, floor=found.control, began=began, **bars,
            median_ratio=float(np.median(found.ratio)), nearest_row=float(np.median(found.distances[:, 0])),
            nearest_row_of_held_out=float(np.median(found.control_distances[:, 0])),
        )  # fmt: skip
        samples[name], say = x, process.dynamics.semilinear.denoiser
        many = jax.jit(lambda t, z, say=say: jax.lax.map(lambda one: say(t, one, None), z, batch_size=50))
        noised = [schedule.alpha(t) * control[:asked] + schedule.sigma(t) * eps for t in at]
        denoised[name] = [np.asarray(many(jnp.asarray(t, jnp.float32), z)) for t, z in zip(at, noised, strict=True)]
    machines = [name for name in MACHINES if name in samples]
    for name in machines:
        for k, noise in enumerate(LEVELS):
            yield record(
                "r2 with the network", r2(denoised[name][k], denoised["network"][k]),
                {"model": name, "noise_level": noise}, n=asked,
            )  # fmt: skip
    against = r2(samples["exact"], samples["network"])
    for name in machines:
        value, machine = r2(samples[name], samples["network"]), name.endswith("patches")
        yield record(
            "r2 of samples with the network", value, {"model": name}, n=num,
            bar="above that of the exact score" if machine else None, met=value > against if machine else None,
        )  # fmt: skip


# halves -------------------------------------------------------------------------------------------------------------

SIZES = (20, 100, 400, 800)  # rows of a half


def trained(halves: np.ndarray, updates: int, width: int) -> list[Any]:
    """Processes of networks, one for each half ``[k, n, 8, 8, 1]``, each of its own start, trained side by side."""

    def make(seed: int) -> bj.Method:
        net = networks.MLP((8, 8, 1), width=width, depth=3, rngs=nnx.Rngs(seed))
        return methods.diffusion(
            schedules.cosine(), net, shape=(8, 8, 1), predict="velocity", sigma_data=float(halves.std()),
            time_sampler=bj.objectives.times.low_discrepancy(1e-3, 1.0),
            optimizer=adam(2e-3, steps=updates, final=0.05),
        )  # fmt: skip

    method, starts = make(0), [make(seed).init(jax.random.key(0), None) for seed in range(len(halves))]

    @jax.jit
    @jax.vmap
    def learn(start: Any, rows: Any, key: Any) -> Any:
        def turn(state: Any, key: Any) -> tuple[Any, None]:
            pick, draw = jax.random.split(key)
            batch = rows[jax.random.randint(pick, (64,), 0, len(rows))]
            return method.step(state, draw, batch)[0], None

        return jax.lax.scan(turn, start, jax.random.split(key, updates))[0]

    keys = jax.vmap(jax.random.key)(jnp.arange(len(halves)))
    states = learn(jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts), jnp.asarray(halves), keys)
    return [method.process(jax.tree.map(lambda leaf, k=k: leaf[k], states)) for k in range(len(halves))]


def exact_of(halves: np.ndarray) -> list[Any]:
    """Processes of the exact scores."""
    made = (methods.closed_form(schedules.cosine(), rows=half) for half in halves)
    return [method.process(method.init(jax.random.key(0), None)) for method in made]


def halves(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Do two models that have no row in common draw the same?"""
    x = np.unique(bj.data.load("digits").x, axis=0).astype(np.float32)
    sizes, splits, num, updates, width = ((8,), 1, 6, 5, 8) if options.smoke else (SIZES, 2, 200, 2500, 160)
    keys, ts = bj.keys(jax.random.key(5), num), bj.grids.log_snr(5 if options.smoke else 20, schedules.cosine())
    shown = {}
    for n in sizes:
        orders = [np.random.default_rng(s).permutation(len(x)) for s in range(splits)]
        parts = np.stack([x[order[k * n : (k + 1) * n]] for order in orders for k in (0, 1)])
        for model, make in {"exact": exact_of, "network": lambda p: trained(p, updates, width)}.items():
            began = time.perf_counter()
            drawn = [np.asarray(bj.sample(process, keys, ts=ts)) for process in make(parts)]
            pairs = [(drawn[k], drawn[k + 1], parts[k], parts[k + 1]) for k in range(0, len(parts), 2)]
            found = [two_halves(*pair) for pair in pairs]
            unseen = parts[np.arange(len(parts)) ^ 1]  # the other half's
            copied = [memorised(*three) for three in zip(drawn, parts, unseen, strict=True)]
            case, also = {"model": model, "rows of a half": n}, {}
            also = {
                f"median_{name}": float(np.median([getattr(f, name) for f in found]))
                for name in ("between", "to_own", "unrelated")
            }
            agree, bar = [f.agree for f in found], None
            if model == "exact" or n == sizes[0]:
                bar, met = "at most 0.05", np.mean(agree) <= 0.05
            elif n == sizes[-1]:
                bar, met = "at least 0.5", np.mean(agree) >= 0.5
            yield record(
                "pairs nearer to each other than to their rows", np.mean(agree), case, spread=agree, n=num, bar=bar,
                met=None if bar is None else met, began=began, **also,
            )  # fmt: skip
            alike = [f.correlation for f in found]
            yield record("correlation of pairs", np.mean(alike), case, spread=alike, n=num)
            copies = [c.fraction for c in copied]
            control = float(np.mean([c.control for c in copied]))
            yield record("copies of own rows", np.mean(copies), case, spread=copies, n=num, floor=control)
            shown[model, n] = pairs[0]
    if not options.smoke:
        picture_of_halves(shown["network", sizes[0]], shown["network", sizes[-1]])


def picture_of_halves(few: Any, many: Any) -> None:
    """Samples of both networks from the same noise between the training rows nearest to each."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 2.4))
    for axis, (a, b, a_rows, b_rows) in zip(axes, (few, many), strict=True):
        lines = [nearest_rows(a[:12], a_rows), a[:12], b[:12], nearest_rows(b[:12], b_rows)]
        tiles = np.block([[np.pad(i.reshape(8, 8), 1, constant_values=1.0) for i in line] for line in lines])
        axis.imshow(tiles, cmap="gray", vmin=-1.0, vmax=1.0)
        axis.set_title(f"{len(a_rows)} rows each", fontsize=10)
        names = ["nearest row of one", "one network", "the other", "nearest row of the other"]
        axis.set_yticks(10 * np.arange(4) + 4.5, names if axis is axes[0] else [""] * 4, fontsize=9)
        axis.set_xticks([])
    figure.tight_layout()
    figure.savefig(HALVES, dpi=110)
    plt.close(figure)
    print(HALVES)


def nearest_rows(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The row nearest to each sample."""
    gaps = np.linalg.norm(x.reshape(len(x), 1, -1) - rows.reshape(1, len(rows), -1), axis=-1)
    return rows[gaps.argmin(axis=1)]


if __name__ == "__main__":
    STUDY.run(__doc__, {"landing": landing, "flow": flow, "times": times, "models": models, "halves": halves})
