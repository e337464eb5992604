"""Composing models of images: digits of 8 x 8 pixels, and a classifier that saw other rows to judge the samples.

    python experiments/compose_digits.py            results/compose_digits.json, docs/composition_digits.png
    python experiments/compose_digits.py --smoke    seconds; nothing written

Data: scikit-learn's digits, each row turned by up to 15 degrees, 16 times. Two rows in three train the models, the
third trains the judge. One energy network, E(t, x, c) with log q_t(x | c) = -E / sigma_t, has learnt every class c, two
sets of classes and all digits together; a second network, trained apart on noisy digits of all classes, says whether
one is heavy at the top (mean of the upper half minus mean of the lower half above 0.12 on [-1, 1]).

    sets        in {3, 5, 8} and in {0, 6, 8}:    q(x | A) q(x | B) / q(x)   = q(x | 8)
    property    an 8 and heavy at the top:        q(x | 8) p(heavy | x)      = the 8s that are
    cubed       the same, asked for thrice:       q(x | 8) p(heavy | x)^3    = the same
    either      a 0 or a 1:                       q(x | 0)/2 + q(x | 1)/2

at clean data, where classes are apart and p(heavy | x) is 0 or 1; at noise the left hand sides are other paths. The
exact answers are rows picked by rejection from the digits that the models were trained on. All is compared at one
noise level, sigma = 0.1 where pixels run over [-1, 1]: there every sampler ends and there the picked rows are noised,
so that no last denoising step flatters anyone. Every sampler has about the same number of evaluations of the composed
score.

    share              samples that the judge finds right in all respects; real rows get less than 1 too
    energy distance    to picked rows; the floor is another draw of picked rows
    Frechet distance   on the judge's features

Feynman-Kac by exact weights is told every error of a step and every disagreement of the energies of two levels, "rates"
suppose the parts to be diffused densities; of the property there is no such thing. A population that descends from few
ancestors may be right in every share and far in distance. Steps are tuned by a pilot of 32 chains, whose evaluations
are counted apart. Budget: 12 minutes on one core.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from jax.tree_util import Partial
from scipy.ndimage import rotate
from study import Pick, Study, Table, record

import bridgejax as bj
from bridgejax import compose, mcmc
from bridgejax.evaluation import features
from bridgejax.networks import MLP
from bridgejax.training import adam

STUDY = Study(
    "compose_digits",
    topic="Composing models",
    question="Can learnt energies of images be composed?",
    answer="Two sets, yes: annealed HMC finds nearly as many right digits as real rows give, the reverse SDE far "
    "fewer. A class and a property, no better than the reverse SDE. Feynman-Kac populations have the shares "
    "right but descend from few ancestors.",
    brief="Two sets, by annealed HMC; class and property hardly.",
    budget="12 minutes on one core",
    floor="picked rows",
    picks=(
        Pick(
            "share found right",
            {"composition": "in {3, 5, 8} and in {0, 6, 8}", "sampler": "HMC"},
            "right digits, HMC",
        ),
    ),
    tables=(
        Table(
            "share found right",
            rows=("sampler",),
            columns="composition",
            text="Share of samples that the judge finds right in all respects.",
        ),
        Table(
            "share found right",
            rows=("sampler",),
            columns="composition",
            show="energy_distance",
            title="Energy distance to picked rows",
        ),
        Table(
            "share found right",
            rows=("composition", "sampler"),
            title="All statistics",
            text="With the same for another draw of picked rows (floor). Pilot: evaluations that tuned the steps, "
            "as a share; acceptance of unadjusted moves: had it been asked; distinct: samples after the last "
            "resampling.",
            also=(
                "energy_distance",
                "energy_floor",
                "Frechet_distance",
                "Frechet_floor",
                "pilot",
                "moves",
                "acceptance",
                "least_ESS",
                "resamplings",
                "distinct",
            ),
        ),
        Table(
            "share of 0s",
            rows=("sampler",),
            title="A 0 or a 1: share of 0s",
            also=("ones", "others", "energy_distance", "energy_floor"),
            published="exact",
        ),
        Table(
            ("the judge's accuracy", "the second network's accuracy"),
            rows=("metric",),
            columns="rows",
            title="Can the judges be trusted?",
            text="The judge on the rows that the models were trained on, noised; the second network (heavy or not) "
            "at the last level on rows that it never saw.",
        ),
    ),
    pictures=("composition_digits",),
)
SCHEDULE, PIXELS = bj.schedules.cosine(), (64,)
LAST = 0.064  # noising time of the last level
LEAST = float(SCHEDULE.sigma(LAST))  # 0.1
FIRST, SECOND, EVERY = 10, 11, 12  # labels of the sets, after those of the classes
SETS = {FIRST: (3, 5, 8), SECOND: (0, 6, 8), EVERY: tuple(range(10))}
HEAVY = 0.12
PICTURE = Path(__file__).resolve().parent.parent / "docs" / "composition_digits.png"


# data ---------------------------------------------------------------------------------------------------------------


def turned(x: np.ndarray, copies: int, rng: np.random.Generator) -> np.ndarray:
    """Every row ``copies`` times, each turned by its own angle: (copies n, 64)."""
    angles = rng.uniform(-15.0, 15.0, (copies, len(x)))
    found = [
        rotate(image, angle, reshape=False, order=1, mode="constant", cval=-1.0)
        for line in angles
        for image, angle in zip(x, line, strict=True)
    ]
    return np.stack(found).reshape(-1, 64).astype(np.float32)


def heavy(x: np.ndarray) -> np.ndarray:
    """Whether the upper half is brighter than the lower by more than ``HEAVY``."""
    return x[:, :32].mean(1) - x[:, 32:].mean(1) > HEAVY


def noised(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Clean rows at the last level."""
    alpha = float(SCHEDULE.alpha(LAST))
    return (alpha * x + LEAST * rng.standard_normal(x.shape)).astype(np.float32)


# models -------------------------------------------------------------------------------------------------------------


def trained_energy(x: np.ndarray, y: np.ndarray, steps: int, width: int) -> Any:
    """An energy network of every class and set, a Density whose args is the label."""
    rows = [(np.flatnonzero(y == k), k) for k in range(10)]
    rows += [(np.flatnonzero(np.isin(y, members)), label) for label, members in SETS.items()]
    # every label as often as every other: classes 10 rows, sets by chance as many
    rng = np.random.default_rng(1)
    size = 4 * len(x) // 10
    picked = np.concatenate([rng.choice(where, size) for where, _ in rows])
    labels = np.repeat(np.array([label for _, label in rows], np.int32), size)
    network = bj.networks.energy(MLP(PIXELS, width=width, depth=2, embedding=64, num_classes=13, rngs=nnx.Rngs(1)))
    optimizer = adam(2e-3, steps=steps, warmup=steps // 20)
    method = bj.methods.diffusion(
        SCHEDULE, network, shape=PIXELS, predict="eps", optimizer=optimizer, ema=0.998,
        time_sampler=bj.objectives.times.low_discrepancy(0.8 * LAST, 1.0),
    )  # fmt: skip
    batches = bj.data.Batches({"x": x[picked], "label": labels}, 256, 1)
    state = bj.fit(method, batches, jax.random.key(1), steps=steps, batch_size=256)
    learnt = compose.energy(SCHEDULE, (network[0], method.params(state)), PIXELS, least=LAST)
    return learnt


def weighted_log(learnt: Any, labels: Array, exponents: Array, t: Array, x: Array, args: Any) -> Array:
    """sum_i b_i log q_t(x | c_i)."""
    return exponents @ jax.vmap(lambda c: learnt.log_density(t, x, c))(labels)


def weighted(learnt: Any, labels: list[int], exponents: list[float]) -> compose.Density:
    """``compose.product`` of conditional densities, but one network serves all parts: it is compiled once, for a batch
    of labels, where compose.product would compile it for every part."""
    bound = (learnt, jnp.array(labels, jnp.int32), jnp.array(exponents, jnp.float32))
    return compose.density(SCHEDULE, PIXELS, log_density=Partial(weighted_log, *bound))


def log_heavy(apply: Any, params: Any, t: Array, x: Array, args: Any) -> Array:
    """log p(heavy | x_t) of the second network."""
    return jax.nn.log_sigmoid(apply(params, t, x, None)[0])


def trained_classifier(x: np.ndarray, steps: int, width: int) -> Any:
    """A classifier of noisy digits, by its cross-entropy at random noise levels: log p(heavy | x_t)."""
    apply, params = bj.networks.functional(
        MLP(PIXELS, outputs=(1,), width=width, depth=2, embedding=64, rngs=nnx.Rngs(2))
    )
    truth, data = jnp.asarray(heavy(x), jnp.float32), jnp.asarray(x)
    optimizer = optax.adamw(optax.cosine_decay_schedule(2e-3, steps), weight_decay=1e-2)

    def loss(params: Any, key: Array) -> Array:
        row_key, time_key, noise_key = jax.random.split(key, 3)
        rows = jax.random.randint(row_key, (256,), 0, len(data))
        t = jax.random.uniform(time_key, (256,), minval=0.8 * LAST)
        noise = jax.random.normal(noise_key, (256, 64))
        xt = jax.vmap(SCHEDULE.alpha)(t)[:, None] * data[rows] + jax.vmap(SCHEDULE.sigma)(t)[:, None] * noise
        logits = jax.vmap(lambda t, x: apply(params, t, x, None)[0])(t, xt)
        return optax.sigmoid_binary_cross_entropy(logits, truth[rows]).mean()

    @jax.jit
    def descend(params: Any) -> Any:
        def step(carry: Any, key: Array) -> Any:
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params, key), state, params)
            return (optax.apply_updates(params, updates), state), None

        keys = jax.random.split(jax.random.key(3), steps)
        return jax.lax.scan(step, (params, optimizer.init(params)), keys)[0][0]

    return Partial(log_heavy, Partial(apply), descend(params))


# samplers -------------------------------------------------------------------------------------------------------------


def levels(count: int) -> Array:
    """``count`` levels even in log SNR, from noise to sigma = ``LEAST``."""
    return bj.grids.log_snr(count, SCHEDULE, log_snr_max=float(SCHEDULE.log_snr(LAST)))[:-1]


def reverse(density: Any, n: int, evaluations: int) -> tuple[np.ndarray, int]:
    """The reverse SDE of the composed score."""
    start = bj.starts.normal(PIXELS, SCHEDULE.sigma(SCHEDULE.T))
    process = bj.Process(start, bj.reverse(SCHEDULE, density), levels(evaluations + 1))
    return np.asarray(bj.sample(process, bj.keys(jax.random.key(7), n))), evaluations


def tuned(density: Any, ts: Array, move: Any, target: float) -> Array:
    """Step sizes. A pilot is adjusted whatever the move: one program for ULA and MALA, one for U-HMC and HMC."""
    pilot = mcmc.mala() if move.leapfrogs == 1 else mcmc.hmc()
    return mcmc.tune(density, jax.random.key(8), ts, move=pilot, target=target, transitions=8, chains=32)


def annealed(
    density: Any, n: int, evaluations: int, *, move: Any, count: int, target: float
) -> tuple[np.ndarray, int, dict[str, Any]]:
    """Chains through ``count`` levels, a reverse step before the moves of each."""
    ts = levels(count)
    sizes = tuned(density, ts, move, target)
    transitions = max(1, (evaluations // count - 2) // move.leapfrogs)
    found = mcmc.annealed(
        density, bj.keys(jax.random.key(7), n), ts, move=move, transitions=transitions, step_sizes=sizes,
        reverse_steps=True,
    )  # fmt: skip
    accepted = np.asarray(found.acceptance)
    pilot = 32 * count * (1 + 8 * move.leapfrogs) / (n * found.evaluations)
    also = {
        "pilot": pilot,
        "moves": transitions,
        "leapfrogs": move.leapfrogs,
        "levels": count,
        "acceptance": float(accepted.mean()),
        "refused": int(found.refused),
    }
    return np.asarray(found.x), found.evaluations, also


def population(
    density: Any, n: int, evaluations: int, count: int, move: Any = None, rule: str = "exact"
) -> tuple[np.ndarray, int, dict[str, Any]]:
    """A Feynman-Kac population, resampled at the end."""
    each = 1 if move is None else 2 + move.leapfrogs
    ts = levels(evaluations // each + 1)
    sizes = None
    if move is not None:
        coarse = levels(count)
        sizes = jnp.exp(jnp.interp(ts, coarse, jnp.log(tuned(density, coarse, move, 0.8))))
    found = bj.feynman_kac(density, jax.random.key(7), n, ts, weights=rule, move=move, step_sizes=sizes)
    rows = np.asarray(bj.weights.systematic(jax.random.key(6), found.log_weights))
    distinct = len(np.unique(np.asarray(found.x)[rows], axis=0))
    also = {"least_ESS": float(jnp.min(found.ess)), "resamplings": int(found.resampled.sum()), "distinct": distinct}
    return np.asarray(found.x)[rows], each * (len(ts) - 1), also


def superposed(parts: Any, n: int, evaluations: int) -> tuple[np.ndarray, int]:
    """Superposition OR, from scores."""
    found = bj.superpose(parts, bj.keys(jax.random.key(7), n), levels(evaluations + 1), mode="or")
    return np.asarray(found.x), evaluations


NAMES = ("reverse SDE", "ULA", "MALA", "U-HMC", "HMC", "Feynman-Kac", "Feynman-Kac with HMC")
RATES = (*NAMES, "Feynman-Kac, rates")
FEW = ("reverse SDE", "HMC", "Feynman-Kac")


def samplers(density: Any, n: int, evaluations: int, count: int, product: Any) -> dict[str, Any]:
    """What is compared. ``product``: of diffused densities, by ``compose.product``, for "rate" weights."""

    def chains(move: Any, target: float) -> Any:
        return lambda: annealed(density, n, evaluations, move=move, count=count, target=target)

    return {
        "reverse SDE": lambda: reverse(density, n, evaluations),
        "ULA": chains(mcmc.ula(), 0.9),
        "MALA": chains(mcmc.mala(), 0.6),
        "U-HMC": chains(mcmc.uhmc(), 0.9),
        "HMC": chains(mcmc.hmc(), 0.8),
        "Feynman-Kac, rates": lambda: population(product, n, evaluations, count, rule="rate"),
        "Feynman-Kac": lambda: population(density, n, evaluations, count),
        "Feynman-Kac with HMC": lambda: population(density, n, evaluations, count, mcmc.hmc()),
    }


# measures -------------------------------------------------------------------------------------------------------------


class Judge:
    """A classifier of digits at the last level, trained on rows that no model saw."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.found = features.classifier_features(noised(x, np.random.default_rng(4)), y)
        self.alpha = float(SCHEDULE.alpha(LAST))

    def classes(self, x: np.ndarray) -> np.ndarray:
        """The class of every sample."""
        assert self.found.predict is not None
        return self.found.predict(x)

    def heavy(self, x: np.ndarray) -> np.ndarray:
        """The property, measured and not guessed."""
        return heavy(x / self.alpha)


def judged(case: Any, found: Any, began: float, right: Any, judge: Judge, picked: np.ndarray) -> dict[str, Any]:
    """Shares and distances of one sampler. ``picked``: two draws of the exact answer, (2, n, 64)."""
    x, evaluations, *also = found
    exact, again = picked
    finite = np.all(np.isfinite(x), axis=1)
    x = x[finite]
    share, real = float(np.mean(right(x))), float(np.mean(right(exact)))
    feature = judge.found.features
    distance, floor = bj.metrics.energy_distance(x, exact), bj.metrics.energy_distance(again, exact)
    frechet, least = (bj.metrics.frechet(feature(z), feature(exact)) for z in (x, again))
    smooth = (share * len(x) + 1) / (len(x) + 2)  # so that none right of n is not taken for certainty
    error = math.sqrt(smooth * (1 - smooth) / len(x))
    return record(
        "share found right",
        round(share, 4),
        case,
        n=len(finite),
        floor=round(real, 4),
        began=began,
        standard_error=error,
        energy_distance=distance,
        energy_floor=floor,
        Frechet_distance=frechet,
        Frechet_floor=least,
        evaluations=evaluations,
        not_finite=int(np.sum(~finite)),
        **(also[0] if also else {}),
    )


def picture(drawn: dict[str, dict[str, np.ndarray]], columns: int = 14) -> None:
    """A panel for each composition, a row for each method: samples evenly spaced, as copies are neighbours."""
    import matplotlib.pyplot as plt

    tall = max(len(rows) for rows in drawn.values())
    figure, axes = plt.subplots(1, len(drawn), figsize=(6.6 * len(drawn), 0.42 * tall + 0.6), squeeze=False)
    for axis, (title, rows) in zip(axes[0], drawn.items(), strict=True):
        mosaic = np.full((9 * len(rows) - 1, 9 * columns - 1), np.nan)
        for i, x in enumerate(rows.values()):
            for j, image in enumerate(x[np.linspace(0, len(x) - 1, columns).astype(int)]):
                mosaic[9 * i : 9 * i + 8, 9 * j : 9 * j + 8] = image.reshape(8, 8)
        axis.imshow(mosaic, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        axis.set_title(title, fontsize=10)
        axis.set_xticks([])
        axis.set_yticks(9 * np.arange(len(rows)) + 3.5, list(rows), fontsize=8)
        axis.tick_params(length=0)
        for spine in axis.spines.values():
            spine.set_visible(False)
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=90)
    plt.close(figure)


# all ------------------------------------------------------------------------------------------------------------------


def measure(n: int, evaluations: int, count: int, steps: int, width: int, copies: int, only: Any = None) -> Any:
    """Every record; returns the samples. ``only``: samplers of each composition, None for all."""
    began, rng = time.perf_counter(), np.random.default_rng(0)
    data = bj.data.load("digits")
    x, y = np.asarray(data.x).reshape(-1, 8, 8), np.asarray(data.labels)
    first = rng.permutation(len(x)) % 3 > 0
    train, labels = turned(x[first], copies, rng), np.tile(y[first], copies)
    judge = Judge(turned(x[~first], copies, rng), np.tile(y[~first], copies))
    seen = noised(train[: len(y[first])], rng)
    accuracy = float(np.mean(judge.classes(seen) == y[first]))
    yield record(
        "the judge's accuracy", round(accuracy, 4), {"rows": "the models', noised"}, n=len(seen), began=began,
        models_rows=int(np.sum(first)), judges_rows=int(np.sum(~first)),
    )  # fmt: skip

    began = time.perf_counter()
    q = trained_energy(train, labels, steps, width)
    eight = compose.conditioned(q, jnp.int32(8))
    is_heavy = trained_classifier(train, steps // 2, width // 2)
    held = noised(turned(x[~first], 1, rng), rng)
    said = np.asarray(jax.jit(jax.vmap(is_heavy, (None, 0, None)))(LAST, jnp.asarray(held), None)) > math.log(0.5)
    yield record(
        "the second network's accuracy", round(float(np.mean(said == judge.heavy(held))), 4), {"rows": "never seen"},
        n=len(held), began=began, updates=[steps, steps // 2], batch=256,
    )  # fmt: skip

    def pick(where: np.ndarray) -> np.ndarray:
        """Two draws of n rows, noised."""
        rows = np.flatnonzero(where)
        return np.stack([noised(train[rng.choice(rows, n)], rng) for _ in range(2)])

    eights = pick(labels == 8)
    heavy_eights = pick((labels == 8) & heavy(train))
    both = pick((labels == 0) | (labels == 1))

    def is_eight(x: np.ndarray) -> np.ndarray:
        return judge.classes(x) == 8

    def is_heavy_eight(x: np.ndarray) -> np.ndarray:
        return is_eight(x) & judge.heavy(x)

    labels_of, exponents = [FIRST, SECOND, EVERY], [1.0, 1.0, -1.0]
    sets = weighted(q, labels_of, exponents)
    product = compose.product(*(compose.conditioned(q, jnp.int32(label)) for label in labels_of), exponents=exponents)
    drawn: dict[str, dict[str, np.ndarray]] = {}
    for title, density, right, picked, chosen in (
        ("an 8, one model", compose.tilted(eight, is_heavy, 0.0), is_eight, eights, FEW),
        ("an 8, heavy at the top", compose.tilted(eight, is_heavy, 1.0), is_heavy_eight, heavy_eights, NAMES),
        ("an 8, heavy at the top, cubed", compose.tilted(eight, is_heavy, 3.0), is_heavy_eight, heavy_eights, FEW),
        ("in {3, 5, 8} and in {0, 6, 8}", sets, is_eight, eights, RATES),
    ):
        if only is not None and title not in only:
            continue
        drawn[title] = {"picked rows": picked[0]}
        runs = samplers(density, n, evaluations, count, product)
        for name in chosen if only is None else only[title]:
            began = time.perf_counter()
            found = runs[name]()
            yield judged({"composition": title, "sampler": name}, found, began, right, judge, picked)
            drawn[title][name] = found[0]

    parts = [compose.conditioned(q, jnp.int32(label)) for label in (0, 1)]
    title, mixed = "a 0 or a 1", compose.mixture(*parts)
    for name, run in {
        "reverse SDE of the energies' mixture": lambda: reverse(mixed, n, evaluations),
        "superposition OR, from scores": lambda: superposed(parts, n, evaluations),
    }.items():
        if only is not None and title not in only:
            continue
        began = time.perf_counter()
        found = run()
        classes = judge.classes(found[0])
        zeros, ones = float(np.mean(classes == 0)), float(np.mean(classes == 1))
        distance, floor = (bj.metrics.energy_distance(z, both[0]) for z in (found[0], both[1]))
        yield record(
            "share of 0s", round(zeros, 4), {"composition": title, "sampler": name}, n=n, published=0.5, began=began,
            standard_error=0.5 / n**0.5, ones=ones, others=1 - zeros - ones, energy_distance=distance,
            energy_floor=floor, evaluations=found[1],
        )  # fmt: skip
    return drawn


def compositions(options: Any) -> Iterator[Any]:
    """All of it, or one tiny sampler."""
    if options.smoke:
        yield from measure(16, 24, 4, 20, 16, 1, {"an 8, heavy at the top": ("Feynman-Kac",)})
        return
    drawn = yield from measure(300, 400, 20, 5000, 192, 16)
    picture({title: rows for title, rows in drawn.items() if len(rows) > len(NAMES)})


if __name__ == "__main__":
    STUDY.run(__doc__, {"compositions": compositions})
