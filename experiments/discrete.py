"""Discrete data: bridges that end on it, against unconstrained bridges that are rounded, and against D3PM.

    python experiments/discrete.py                        all that are found; results/discrete.json
    python experiments/discrete.py --only digits          one of digits, labels, emoji
    python experiments/discrete.py --labels FILE          pyvista's examples/frog_tissues.vti (default: pyvista's own)
    python experiments/discrete.py --emoji FILE           Debian's NotoColorEmoji.ttf (default: Debian's own)
    python experiments/discrete.py --smoke                seconds, nothing written

    digits   1,797 8x8 digits as what they are, integers 0..16; the same MLP for all
    labels   16x16 windows of segmented slices of a frog, 8 categories; the same U-Net for all
    emoji    32x32 colour bitmaps, 256 levels; the same U-Net for both (256 logits a pixel are beyond two cores)

In every case the same width and depth, updates, batch, optimiser, averaging and 100 evaluations a sample; D3PM reads
one-hot pixels and writes logits, as the bridge that predicts a tilt does, so those layers are larger. The bridge and
the unconstrained one both start at the origin with a reference of variance 1, the latter on an even grid and on the one
that shrinks towards T. Every distance is to held-out data, a mean over four sets of samples (emoji: one) as many as
there are held-out data, beside the same between held-out and training data (floor, mean of 20 draws).

A data set that is not found is left out with a sentence. Budget: 30 minutes for all on two cores.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import d3pm
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sources import EMOJI, emoji_bitmaps, frog_crops, frog_labels
from study import Pick, Study, Table, record

import bridgejax as bj
from bridgejax import domains
from bridgejax.evaluation import c2st_accuracy, classifier_features
from bridgejax.networks import functional

STUDY = Study(
    "discrete",
    topic="Domains: discrete, mixed, constrained",
    question="Are bridges onto discrete data better than rounding?",
    answer="On digits the bridge that predicts a tilt is hardest to tell from real data, but it leans on training "
    "rows and its likelihood is poor. On tissue labels it is level with rounding and ahead of D3PM; on emoji "
    "so few updates teach no system much.",
    brief="On digits yes, on labels no; there ahead of D3PM.",
    budget="30 minutes on two cores",
    source="Liu, Wu, Ye & Liu 2022, arXiv 2208.14699 (their data sets differ)",
    floor="held-out against training data",
    picks=(
        Pick(
            "C2ST accuracy",
            {"data": "digits as 17 levels", "system": "bridge on the domain, predict=tilt"},
            "C2ST, digits",
        ),
    ),
    tables=(
        Table(
            rows=("system",),
            where={"part": "digits"},
            title="Digits as 17 levels",
            text="The bound is in bits per coordinate, with its standard error.",
            also=("bits_uniform",),
        ),
        Table(
            rows=("system",),
            where={"part": "labels"},
            title="Tissue labels, 16 x 16, 8 categories",
            also=("bits_uniform",),
        ),
        Table(
            rows=("system",),
            where={"part": "emoji"},
            title="Emoji, 32 x 32, 256 levels",
            also=("bits_uniform",),
        ),
    ),
    timed=("data", "training"),
)
STEPS = 100


class Case(NamedTuple):
    """A data set, its domain, and how samples are judged."""

    name: str
    train: np.ndarray
    held: np.ndarray
    domain: Any
    network: Callable[..., Any]  # of a sample's shape and of what it says
    measures: dict[str, Callable[[np.ndarray, np.ndarray], float]]  # (samples, held) -> distance
    last: float  # deviation at which the bridge lands
    encode: Callable[[np.ndarray], np.ndarray] | None  # data -> category indices, None: no D3PM
    decode: Callable[[np.ndarray], np.ndarray] | None
    categories: int
    bits_over: int  # coordinates of the bound
    rounds: int = 4  # sets of samples
    bounded: int = 256  # held-out rows whose bound is taken


def flat_c2st(samples: np.ndarray, held: np.ndarray) -> float:
    """Accuracy of a classifier told to part samples from held-out data."""
    return c2st_accuracy(samples.reshape(len(samples), -1), held.reshape(len(held), -1))


def adam(updates: int) -> optax.GradientTransformation:
    """The same for all."""
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(2e-3, updates)))


NEAREST = "mean distance to the nearest training row"  # far below the floor: samples are copies


def to_nearest(case: Case, x: np.ndarray) -> float:
    """How far rows are from training rows."""
    flat = [a.reshape(len(a), -1).astype(np.float64) for a in (x, case.train)]
    squares = (flat[0] ** 2).sum(1)[:, None] + (flat[1] ** 2).sum(1) - 2.0 * flat[0] @ flat[1].T
    return float(np.mean(np.sqrt(np.maximum(squares.min(1), 0.0))))


def judge(case: Case, samples: np.ndarray) -> dict[str, list[float]]:
    """Every measure on every set of samples."""
    sets = np.array_split(samples, case.rounds)
    found = {name: [float(measure(s, case.held)) for s in sets] for name, measure in case.measures.items()}
    return {**found, NEAREST: [to_nearest(case, s) for s in sets]}


def floors(case: Case) -> dict[str, float]:
    """The measures of training data; for the nearest training row, of held-out data."""
    random = np.random.default_rng(1)
    draws = [case.train[random.choice(len(case.train), len(case.held), replace=False)] for _ in range(20)]
    found = {name: float(np.mean([m(d, case.held) for d in draws])) for name, m in case.measures.items()}
    return {**found, NEAREST: to_nearest(case, case.held)}


def inside(domain: Any, x: np.ndarray) -> bool:
    """Whether all rows are."""
    return bool(jnp.all(jax.jit(jax.vmap(domain.contains))(jnp.asarray(x))))


def bridge(case: Case, predict: str, updates: int, batch: int, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples of the bridge on the domain and its bound in bits per coordinate on held-out data."""
    shape, schedule = case.train.shape[1:], bj.schedules.brownian(1.0)
    ts = bj.grids.deviation(STEPS, schedule, last=case.last)
    network = case.network(shape, case.domain.tilt_shape(shape) if predict == "tilt" else None)
    method = bj.methods.constrained(
        case.domain, schedule, network, shape=shape, predict=predict, optimizer=adam(updates), ts=ts
    )
    state = bj.fit(method, case.train, jax.random.key(0), steps=updates, batch_size=batch)
    samples = np.asarray(bj.sample(method.process(state), bj.keys(jax.random.key(1), num), micro_batch=256))
    assert inside(case.domain, samples), "a sample outside"
    held = jnp.asarray(case.held[: case.bounded])
    bound = jax.jit(lambda keys, x: jax.lax.map(lambda kx: method.log_prob(state, *kx).value, (keys, x)))
    nats = np.asarray(bound(bj.keys(jax.random.key(2), len(held)), held))
    return samples, -nats / np.log(2) / case.bits_over


def rounded(case: Case, updates: int, batch: int, num: int) -> dict[str, np.ndarray]:
    """Samples of the unconstrained bridge, moved to the nearest point of the domain, by grid."""
    shape, origin = case.train.shape[1:], np.zeros((1, *case.train.shape[1:]), np.float32)
    method = bj.methods.bridge_matching(
        case.network(shape), shape=shape, sigma=1.0, source=origin, optimizer=adam(updates)
    )
    pairs = bj.data.Pairs(origin, case.train, batch)
    state = bj.fit(method, pairs, jax.random.key(0), steps=updates, batch_size=batch)
    shrinking = bj.grids.deviation(STEPS, bj.schedules.brownian(1.0), last=case.last)
    snap, process = jax.jit(jax.vmap(case.domain.snap)), method.process(state)
    keys = bj.keys(jax.random.key(1), num)
    return {
        name: np.asarray(snap(bj.sample(process, keys, ts=ts, micro_batch=256)))
        for name, ts in (("even grid", bj.grids.uniform(STEPS)), ("shrinking grid", shrinking))
    }


def discrete(case: Case, kind: str, updates: int, batch: int, num: int) -> np.ndarray:
    """Samples of a D3PM."""
    assert case.encode is not None
    assert case.decode is not None
    index, k = case.encode(case.train), case.categories
    shape = index.shape[1:]
    wide = (*shape[:-1], shape[-1] * k) if len(shape) == 3 else (*shape, k)
    trunk, params = functional(case.network(wide))

    def apply(params: Any, t: Any, x: Any) -> Any:
        return trunk(params, t, jax.nn.one_hot(x, k).reshape(wide), None).reshape(*shape, k)

    params = d3pm.train(kind, apply, params, index, k, adam(updates), steps=STEPS, updates=updates, batch=batch)
    keys = jax.random.split(jax.random.key(1), num)
    parts = [
        d3pm.sample(kind, apply, params, part, shape, k, STEPS) for part in np.array_split(keys, max(num // 256, 1))
    ]
    return case.decode(np.concatenate([np.asarray(p) for p in parts]))


def measured(case: Case, updates: int, batch: int, keep: str | None = None) -> Iterator[Any]:
    """Every measure of every system."""
    num, floor = case.rounds * len(case.held), floors(case)

    def report(system: str, samples: np.ndarray, began: float, training: str | None = None) -> Iterator[Any]:
        found, seconds = judge(case, samples), time.perf_counter() - began
        if keep is not None:
            np.save(pathlib.Path(keep) / f"{case.name.split()[0]} {system}.npy", samples[: len(case.held)])
        for measure, values in found.items():
            yield record(
                measure, float(np.mean(values)), {"data": case.name, "system": system}, spread=values,
                floor=floor[measure], n=len(case.held), seconds=seconds, training=training or system,
                updates=updates, evaluations=STEPS,
            )  # fmt: skip

    for predict in ("tilt", "end") if case.encode is not None else ("end",):
        began = time.perf_counter()
        samples, bits = bridge(case, predict, updates, batch, num)
        system = f"bridge on the domain, predict={predict}"
        yield from report(system, samples, began)
        yield record(
            "bound on -log2 p of held-out data",
            float(bits.mean()),
            {"data": case.name, "system": system},
            n=len(bits),
            standard_error=float(bits.std() / np.sqrt(len(bits))),
            bits_uniform=float(np.log2(case.categories)),
            updates=updates,
        )
    began = time.perf_counter()
    for grid, snapped in rounded(case, updates, batch, num).items():
        yield from report(f"unconstrained and rounded, {grid}", snapped, began, "unconstrained")
    if case.encode is not None:
        for kind in d3pm.KINDS:
            began = time.perf_counter()
            yield from report(f"D3PM {kind}", discrete(case, kind, updates, batch, num), began)


# the data sets --------------------------------------------------------------------------------------------------------


def digits() -> Case:
    """Integers 0..16 as v / 8 - 1."""
    loaded = bj.data.load("digits")
    x, labels = np.asarray(loaded.x), np.asarray(loaded.labels)
    domain = domains.IntegerGrid(-1.0, 1.0, 0.125)
    assert inside(domain, x), "the digits are levels v / 8 - 1, v = 0 to 16"
    order = np.random.default_rng(0).permutation(len(x))
    held, kept = order[:359], order[359:]
    features = classifier_features(x[kept], labels[kept])

    def frechet(samples: np.ndarray, held: np.ndarray) -> float:
        return bj.metrics.frechet(features.features(samples), features.features(held))

    return Case(
        "digits as 17 levels",
        x[kept],
        x[held],
        domain,
        lambda shape, outputs=None: bj.networks.MLP(shape, outputs=outputs, width=256, depth=4, rngs=nnx.Rngs(0)),
        {"Frechet distance in a classifier's features": frechet, "C2ST accuracy": flat_c2st},
        0.03,
        lambda x: np.rint(8.0 * (x + 1.0)).astype(np.int32),
        lambda i: np.asarray(i / 8.0 - 1.0, np.float32),
        17,
        64,
    )


def neighbours(x: np.ndarray) -> np.ndarray:
    """Frequencies of pairs of tissues side by side, (K, K)."""
    index, k = np.argmax(x, axis=-1), x.shape[-1]
    pairs = np.concatenate(
        [(index[:, :, 1:] * k + index[:, :, :-1]).ravel(), (index[:, 1:] * k + index[:, :-1]).ravel()]
    )
    return np.bincount(pairs, minlength=k * k) / len(pairs)


def labels(path: str | None) -> Case | None:
    """Categories, one-hot."""
    volume = frog_labels(path)
    if volume is None:
        return None
    train, held = frog_crops(volume, every=4)
    held = held[np.random.default_rng(0).permutation(len(held))[:400]]

    def pairs_tv(samples: np.ndarray, held: np.ndarray) -> float:
        return float(np.abs(neighbours(samples) - neighbours(held)).sum() / 2)

    return Case(
        "tissue labels 16x16, 8 categories",
        train,
        held,
        domains.Categorical(8),
        lambda shape, outputs=None: bj.networks.UNet(shape, outputs=outputs, width=16, rngs=nnx.Rngs(0)),
        {"total variation of neighbouring pairs": pairs_tv, "C2ST accuracy": flat_c2st},
        0.1,
        lambda x: np.argmax(x, axis=-1).astype(np.int32)[..., None],
        lambda i: np.eye(8, dtype=np.float32)[i[..., 0]],
        8,
        256,
    )


def emoji(path: str) -> Case | None:
    """256 levels as v / 127.5 - 1."""
    x = emoji_bitmaps(path)
    if x is None:
        return None
    order = np.random.default_rng(0).permutation(len(x))
    held, kept = order[:256], order[256:]

    def energy(samples: np.ndarray, held: np.ndarray) -> float:
        return bj.metrics.energy_distance(samples.reshape(len(samples), -1), held.reshape(len(held), -1))

    return Case(
        "emoji 32x32, 256 levels",
        x[kept],
        x[held],
        domains.IntegerGrid(-1.0, 1.0, 1.0 / 127.5),
        lambda shape, outputs=None: bj.networks.UNet(
            shape, outputs=outputs, width=24, multipliers=(1, 2, 2), rngs=nnx.Rngs(0)
        ),
        {"energy distance": energy, "C2ST accuracy": flat_c2st},
        0.004,
        None,
        None,
        256,
        3072,
        rounds=1,
        bounded=64,
    )


def options(parser: Any) -> None:
    """What only this script has."""
    parser.add_argument("--keep", help="an existing folder for one set of samples of each system, to look at")
    parser.add_argument("--labels", help="frog_tissues.vti")
    parser.add_argument("--emoji", default=EMOJI, help="NotoColorEmoji.ttf")


def part(make: Callable[[Any], Case | None], updates: int, batch: int, given: Any) -> Iterator[Any]:
    """One data set, where it is found."""
    case = make(given)
    if case is None:
        return
    if given.smoke:
        case, updates = case._replace(held=case.held[:16]), 4
    yield from measured(case, updates, batch, given.keep)


if __name__ == "__main__":
    PARTS: dict[str, Any] = {
        "digits": partial(part, lambda given: digits(), 5000, 128),
        "labels": partial(part, lambda given: labels(given.labels), 1500, 32),
        "emoji": partial(part, lambda given: emoji(given.emoji), 1000, 32),
    }
    STUDY.run(__doc__, PARTS, options)
