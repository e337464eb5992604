"""Unpaired Schroedinger bridges between two sets of real pictures: handwritten digits <-> printed letters, both ways.

    python experiments/glyphs.py                  all; results/glyphs.json and docs/glyphs.png
    python experiments/glyphs.py --only dsbm      one method: its rows of the file, the others stay
    python experiments/glyphs.py --picture        the picture alone, of what runs left in the temporary folder
    python experiments/glyphs.py --smoke          seconds, nothing written

Claim: nobody says which letter belongs to a digit; a bridge must make real letters of digits and real digits of letters
it has not seen, and move pixels little, as it starts from the reference that moves them least.

Data: scikit-learn's 1,797 scanned digits, 8 x 8 pixels on [-1, 1], each the count of ink in blocks of 4 x 4 of a
32 x 32 bitmap; two in three train, one is held out. Letters A to J of 22 fonts (DejaVu, STIX and Computer Modern, as
Matplotlib ships them), turned, slanted, stretched, moved and made bolder at random, scanned the same way: bitmap of
32 x 32, ink counted in blocks. One (font, letter) pair in four never trains, and these are the letters sent; what
outputs are compared with are new scans of the other pairs, the law that was to be learnt. Letters of unseen pairs are
another law than those, so that not even the true bridge sends them to the law of digits: new scans of seen pairs are
sent back as well, and the C2ST of their digits is in the table.

Methods: dsbm (two networks, rounds of Markovian fitting after a start from independent pairs), sf2m (one flow and one
score network for both ways, entropic OT of the batches) and lightsb (no network). Reference dX = sigma dW, sigma = 0.5,
about the standard deviation of a pixel. Measured on held-out sources against held-out targets, each beside what real
pictures get ("floor"):

    C2ST          accuracy of a classifier between outputs and held-out targets, 0.5: cannot be told apart; outputs are
                  rounded to the counts 0 to 16 that scans are, before this and all else (also given: as they are)
    recognised    share of outputs that a perceptron trained on the training rows puts in one class with p > 0.9
    cost          mean |x_1 - x_0|^2 / 64, beside random pairs and the best matching of held-out with held-out pictures
    class map     share of outputs in the class that most of their source's class went to; chance: labels shuffled

Floors of the C2ST lie below 0.5, as both sets have equally many of every pair, or share one pool. dsbm and sf2m update
networks equally often: dsbm one at a time, sf2m two. lightsb starts its components at means of training letters and
its way back draws training digits: how near outputs are to training rows is noted. Published: none, the pairs of data
are ours. Budget: 25 minutes on one core.
"""

from __future__ import annotations

import pathlib
import tempfile
import time
import warnings
from collections.abc import Iterator
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from scipy.ndimage import affine_transform, gaussian_filter
from study import Pick, Study, Table, record

import bridgejax as bj
from bridgejax import couplings
from bridgejax.evaluation import c2st
from bridgejax.evaluation.memorisation import nearest
from bridgejax.metrics import energy_distance

STUDY = Study(
    "glyphs",
    topic="Schrödinger bridges",
    question="Can bridges turn digits into letters, and back?",
    answer="Largely: most of dsbm's letters are recognised, and a classifier tells them from real ones little better "
    "than chance. The way back, from unseen fonts, is harder; lightsb's digits are training rows.",
    brief="Largely; back from unseen fonts is harder.",
    budget="25 minutes on one core",
    floor="real pictures",
    picks=(Pick("C2ST accuracy", {"method": "dsbm", "way": "digits -> letters"}, "C2ST, dsbm"),),
    tables=(
        Table(
            "C2ST accuracy",
            rows=("way", "method"),
            title="C2ST accuracy against held-out targets",
            text="Beside it: outputs that are not rounded to counts; the energy distance, and that of training "
            "rows; and, of the way back, new scans of letters whose pair was seen.",
            also=("not_rounded", "energy", "energy_floor", "seen_pairs", "seen_pairs_energy"),
        ),
        Table(
            "share recognised",
            rows=("way", "method"),
            title="Share recognised with p > 0.9",
            text="Also how many held-out targets the judge names right; how many of ten classes the outputs are in; "
            "how many outputs are distinct; the distance to the nearest training row, and that of held-out "
            "targets.",
            also=("judge_right", "classes_reached", "distinct", "nearest", "nearest_floor"),
        ),
        Table(
            "transport cost",
            rows=("way", "method"),
            title="Transport cost, mean squared move of a pixel",
            text="The floor is the best matching of held-out with held-out pictures. Class map and mutual "
            "information (in nats) beside those of the matching and of chance.",
            also=(
                "random_pairs",
                "class_map",
                "class_map_matched",
                "class_map_chance",
                "information",
                "information_matched",
                "information_chance",
            ),
        ),
        Table(
            "C2ST accuracy",
            rows=("way",),
            columns="method",
            show="seconds_per_update",
            title="Seconds of an update",
        ),
    ),
    pictures=("glyphs",),
    timed=("method",),
)
FONTS = (
    *("DejaVuSans" + style for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *("DejaVuSansMono" + style for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *("DejaVuSerif" + style for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *("STIXGeneral" + style for style in ("", "Bol", "Italic", "BolIta")),
    *("cmr10", "cmb10", "cmss10", "cmti10", "cmmi10", "cmtt10"),
)
LETTERS = "ABCDEFGHIJ"
WAYS = ("digits -> letters", "letters -> digits")
METHODS = ("dsbm", "sf2m", "lightsb")
SHAPE, SIGMA, NFE = (8, 8, 1), 0.5, 30
KEPT = pathlib.Path(tempfile.gettempdir()) / "bridgejax-glyphs"
PICTURE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "glyphs.png"


# data ---------------------------------------------------------------------------------------------------------------


def outline(font: str, letter: str) -> np.ndarray:
    """A large glyph, cut to its ink."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    face = ImageFont.truetype(str(pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf", font + ".ttf")), 96)
    image = Image.new("L", (192, 192))
    ImageDraw.Draw(image).text((96, 96), letter, font=face, fill=255, anchor="mm")
    ink = np.asarray(image) / 255.0
    rows, columns = np.flatnonzero(ink.max(1) > 0.5), np.flatnonzero(ink.max(0) > 0.5)
    return np.pad(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 8)


def scan(glyph: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A bitmap of 32 x 32 of the glyph, deformed at random, and the ink of its blocks of 4 x 4: (8, 8) on [-1, 1]."""
    middle, (high, wide) = (np.array(glyph.shape) - 1) / 2, np.array(glyph.shape) - 16
    tall = rng.uniform(27, 32)
    broad = min(tall * wide / high * rng.uniform(0.85, 1.1), rng.uniform(26, 31))
    angle, slant = np.deg2rad(rng.uniform(-8, 8)), rng.uniform(-0.15, 0.15)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    back = np.diag([high / tall, wide / broad]) @ np.array([[1, 0], [slant, 1]]) @ turn
    offset = middle - back @ (15.5 + rng.uniform(-1, 1, 2))
    blurred, affine = gaussian_filter(glyph, 2.5), np.column_stack([back, offset])
    soft = affine_transform(blurred, affine, output_shape=(32, 32), order=1)
    return (soft > rng.uniform(0.2, 0.45)).reshape(8, 4, 8, 4).sum((1, 3)) / 8.0 - 1.0


def letters(n: int, seed: int, *, held: bool) -> tuple[np.ndarray, np.ndarray]:
    """n letters, equally often every (font, letter) pair of this side of the split, and which letters they are."""
    rng = np.random.default_rng(seed)
    pairs = [(i, k) for i in range(len(FONTS)) for k in range(10) if ((i + k) % 4 == 0) == held]
    glyphs = {(i, k): outline(FONTS[i], LETTERS[k]) for i, k in pairs}
    drawn = [pairs[j] for j in rng.permutation(np.arange(n) % len(pairs))]
    x = np.stack([scan(glyphs[pair], rng) for pair in drawn]).astype(np.float32)
    return x[..., None], np.array([k for _, k in drawn])


class Side(NamedTuple):
    """Rows of one end and their classes: for training, held out to be sent, held out to be compared with."""

    train: np.ndarray
    labels: np.ndarray
    held: np.ndarray
    classes: np.ndarray
    target: np.ndarray
    target_classes: np.ndarray


def ends(count: int, held: int = 599) -> tuple[Side, Side]:
    """Digits and letters; ``count`` letters train, ``held`` rows of each are held out."""
    data = bj.data.load("digits")
    x, y = np.asarray(data.x), np.asarray(data.labels)
    order = np.random.default_rng(0).permutation(len(x))
    train, rest = order[599:], order[:held]
    seen, unseen, new = (letters(n, seed, held=seed == 2) for seed, n in ((1, count), (2, held), (3, held)))
    return Side(x[train], y[train], *2 * (x[rest], y[rest])), Side(*seen, *unseen, *new)


# methods ------------------------------------------------------------------------------------------------------------


def make(name: str, source: np.ndarray, steps: int, width: int, sigma: float) -> tuple[Any, Any, int | None, int]:
    """Method, coupling, steps of a round and rows of a batch."""
    updates = steps // 2 if name == "dsbm" else steps  # of each network
    rate = optax.warmup_cosine_decay_schedule(0.0, 1e-2 if name == "lightsb" else 2e-3, steps // 20 + 1, updates)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    options: dict[str, Any] = {"optimizer": optimizer, "ema": 0.99}
    if name == "lightsb":
        flat = source.reshape(len(source), -1)
        return bj.methods.lightsb(
            epsilon=sigma**2, dim=64, components=500, source=flat, ts=[0.0, 1.0], **options
        ), None, None, 256  # fmt: skip
    network = bj.networks.UNet(SHAPE, width=width, multipliers=(1, 2) if width > 8 else (1,), rngs=nnx.Rngs(0))
    options |= {"shape": SHAPE, "sigma": sigma, "source": source, "ts": bj.grids.uniform(NFE)}
    if name == "sf2m":
        return bj.methods.sf2m(network, **options), couplings.EntropicOT(sigma**2), None, 64
    return bj.methods.dsbm(network, cache=min(2048, 16 * steps), **options), couplings.independent, steps // 5, 64


def fitted(name: str, digits: Side, chars: Side, steps: int, width: int, sigma: float) -> tuple[Any, float, float]:
    """The process, seconds to fit and of an update, of this process on its core."""
    method, coupling, every, size = make(name, digits.train, steps, width, sigma)
    a, b = (x.reshape(len(x), -1) if name == "lightsb" else x for x in (digits.train, chars.train))
    pairs, began = bj.data.Pairs(a, b, size, coupling=coupling), time.process_time()
    clock = [(0, began)]
    state = bj.fit(method, pairs, jax.random.key(0), steps=steps, refresh_every=every, log_every=10,
                   callbacks=(lambda info: clock.append((info.step, time.process_time())),))  # fmt: skip
    process = jax.block_until_ready(method.process(state))
    counts, seconds = np.diff(np.array(clock), axis=0).T
    return process, time.process_time() - began, float(np.median(seconds / counts))


def sent(process: Any, x: np.ndarray, way: int, seed: int) -> np.ndarray:
    """Where held-out rows go, before rounding."""
    flat = process.start(jax.random.key(0), None).ndim == 1
    start = jnp.asarray(x.reshape(len(x), -1) if flat else x)
    direction = ("forward", "backward")[way]
    out = bj.sample(process, bj.keys(jax.random.key(seed), len(x)), x=start, direction=direction)
    return np.asarray(out).reshape(-1, *SHAPE)


# measures -----------------------------------------------------------------------------------------------------------


class Judge:
    """Perceptrons that know the classes of both ends, trained on training rows."""

    def __init__(self, sides: tuple[Side, Side]) -> None:
        from sklearn.neural_network import MLPClassifier

        made = [MLPClassifier((256,), random_state=0, max_iter=60, tol=0.0) for _ in sides]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it stops by count
            for one, side in zip(made, sides, strict=True):
                one.fit(side.train.reshape(-1, 64), side.labels)
        self.found = made

    def __call__(self, x: np.ndarray, end: int) -> tuple[np.ndarray, float]:
        """Classes, and the share of rows with p > 0.9."""
        p = np.asarray(self.found[end].predict_proba(x.reshape(-1, 64)))
        return p.argmax(1), float(np.mean(p.max(1) > 0.9))


def consistency(classes: np.ndarray, images: np.ndarray) -> tuple[float, float]:
    """Share of rows in the class that most of their own class went to, and the mutual information in nats."""
    table = np.zeros((10, 10))
    np.add.at(table, (classes, images), 1.0 / len(classes))
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True)
    ratio = np.where(table > 0, table, 1.0) / np.where(table > 0, expected, 1.0)
    return float(table.max(1).sum()), float(np.sum(table * np.log(ratio)))


def cost(x: np.ndarray, y: np.ndarray) -> float:
    """Mean square of what pixels move by."""
    return float(np.mean((x - y) ** 2))


def near(x: np.ndarray, train: np.ndarray) -> float:
    """Mean distance to the nearest training row."""
    return float(nearest(x.reshape(-1, 64), train.reshape(-1, 64)).mean())


def counts(x: np.ndarray) -> np.ndarray:
    """The nearest picture that a scan can be: ink of 0 to 16 in every block."""
    return np.clip(np.round(8 * (x + 1)), 0, 16) / 8 - 1


def measured(raw: np.ndarray, way: int, sides: tuple[Side, Side], judge: Judge) -> dict[str, float]:
    """All measures of one way."""
    here, there, rng = sides[way], sides[1 - way], np.random.default_rng(3)
    target, out = there.target, counts(raw)
    floor = there.train[rng.permutation(len(there.train))[: len(target)]]
    best = couplings.assignment(here.held, target)
    images, recognised = judge(out, 1 - way)
    truth, real = judge(target, 1 - way)
    right, information = consistency(here.classes, images)
    shuffled = [consistency(rng.permutation(here.classes), images) for _ in range(20)]
    matched = consistency(here.classes, there.target_classes[best])
    return {
        "c2st": c2st(out, target).accuracy,
        "c2st_raw": c2st(raw, target).accuracy,
        "c2st_floor": c2st(floor, target).accuracy,
        "energy": energy_distance(out, target),
        "energy_floor": energy_distance(floor, target),
        "nearest": near(out, there.train),
        "nearest_floor": near(target, there.train),
        "distinct": float(len(np.unique(out.reshape(len(out), -1), axis=0))),
        "recognised": recognised,
        "recognised_floor": real,
        "judge": float(np.mean(truth == there.target_classes)),
        "cost": cost(out, here.held),
        "cost_random": cost(rng.permutation(target), here.held),
        "cost_matched": cost(target[best], here.held),
        "class_map": right,
        "class_map_chance": float(np.mean([s[0] for s in shuffled])),
        "class_map_matched": matched[0],
        "information": information,
        "information_chance": float(np.mean([s[1] for s in shuffled])),
        "information_matched": matched[1],
        "classes_reached": float(len(np.unique(images))),
    }


def compared(name: str, way: int, m: dict[str, float], common: dict[str, Any]) -> Iterator[Any]:
    """Three records of one method and way."""
    case = {"method": name, "way": WAYS[way]}
    yield record(
        "C2ST accuracy", m["c2st"], case, floor=m["c2st_floor"], not_rounded=m["c2st_raw"], energy=m["energy"],
        energy_floor=m["energy_floor"], seen_pairs=m.get("c2st_seen"), seen_pairs_energy=m.get("energy_seen"), **common,
    )  # fmt: skip
    yield record(
        "share recognised", m["recognised"], case, floor=m["recognised_floor"], judge_right=m["judge"],
        classes_reached=int(m["classes_reached"]), distinct=int(m["distinct"]), nearest=m["nearest"],
        nearest_floor=m["nearest_floor"], **common,
    )  # fmt: skip
    yield record(
        "transport cost", m["cost"], case, floor=m["cost_matched"], random_pairs=m["cost_random"],
        class_map=m["class_map"], class_map_matched=m["class_map_matched"], class_map_chance=m["class_map_chance"],
        information=m["information"], information_matched=m["information_matched"],
        information_chance=m["information_chance"], **common,
    )  # fmt: skip


# picture ------------------------------------------------------------------------------------------------------------


def mosaic(rows: list[np.ndarray]) -> np.ndarray:
    """Rows of pictures, white lines between them."""
    canvas = np.ones((9 * len(rows) - 1, 9 * len(rows[0]) - 1))
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            canvas[9 * i : 9 * i + 8, 9 * j : 9 * j + 8] = image[..., 0]
    return canvas


def picture(records: list[dict[str, Any]]) -> None:
    """Two held-out rows of every class, where they go, and where they go with other noise."""
    import matplotlib.pyplot as plt

    sides = ends(4080)
    figure, axes = plt.subplots(len(METHODS) + 1, 2, figsize=(16, 5.5), height_ratios=(3, 3, 3, 2))
    for way, side in enumerate(sides):
        chosen = np.concatenate([np.flatnonzero(side.classes == k)[:2] for k in range(10)])
        best = couplings.assignment(side.held, sides[1 - way].target)
        for i, name in enumerate((*METHODS, "matching")):
            path, axis = KEPT / f"{name}-{way}.npy", axes[i, way]
            lines, names = [side.held[chosen]], ["held out"]
            m = {r["metric"]: r for r in records if (r["part"], r["case"]["way"]) == (name, WAYS[way])}
            title = f"{name}, {WAYS[way]}"
            if name == "matching":
                lines, names = [*lines, sides[1 - way].target[best][chosen]], [*names, "matched"]
                title = "best matching of held-out with held-out pictures"
            elif path.exists():
                lines, names = [*lines, *np.load(path)[:, chosen]], [*names, "sent to", "again"]
            if m:
                told, seen, moved = (m[k] for k in ("C2ST accuracy", "share recognised", "transport cost"))
                title += (
                    f": C2ST {told['value']:.2f} (real {told['floor']:.2f}), recognised {seen['value']:.2f} "
                    f"({seen['floor']:.2f}), cost {moved['value']:.2f} (matching {moved['floor']:.2f})"
                )
            axis.imshow(mosaic(lines), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
            axis.set_title(title, fontsize=8.5)
            axis.set_xticks([])
            axis.set_yticks(9 * np.arange(len(lines)) + 3.5, names, fontsize=8)
            axis.tick_params(length=0)
            for spine in axis.spines.values():
                spine.set_visible(False)
    figure.tight_layout(h_pad=0.6)
    figure.savefig(PICTURE, dpi=120)
    plt.close(figure)
    print(PICTURE)


# all ----------------------------------------------------------------------------------------------------------------


def run(
    name: str, sides: tuple[Side, Side], judge: Judge, steps: int, width: int, sigma: float = SIGMA
) -> tuple[list[dict[str, Any]], list[np.ndarray]]:
    """Rows of one method, and its outputs, (2, n, 8, 8, 1) of each way."""
    process, seconds, update = fitted(name, *sides, steps, width, sigma)
    found, outputs = [], []
    for way in range(2):
        began = time.process_time()
        out = np.stack([sent(process, sides[way].held, way, seed) for seed in (5, 6)])
        took, size, nfe = time.process_time() - began, 256 if name == "lightsb" else 64, 1 if name == "lightsb" else NFE
        common = {
            "n": len(sides[way].held), "seconds": seconds, "seconds_per_update": update, "updates": steps,
            "batch": size, "NFE": nfe, "sigma": sigma, "sampling_seconds": round(took, 1),
        }  # fmt: skip
        m = measured(out[0], way, sides, judge)
        if way:
            again = counts(sent(process, sides[1].target, 1, 7))
            m["c2st_seen"] = c2st(again, sides[0].target).accuracy
            m["energy_seen"] = energy_distance(again, sides[0].target)
        found += compared(name, way, m, common)
        outputs.append(out)
    return found, outputs


@cache
def prepared(*, smoke: bool) -> tuple[Any, Any]:
    """Both sides and the judge, once for all methods."""
    sides = ends(200, 60) if smoke else ends(4080)
    return sides, Judge(sides)


def part(name: str, options: Any) -> list[Any]:
    """One method, its outputs left for the picture."""
    sides, judge = prepared(smoke=options.smoke)
    steps = 12 if options.smoke else {"dsbm": 5000, "sf2m": 2500, "lightsb": 4000}[name]
    found, outputs = run(name, sides, judge, steps, 8 if options.smoke else 32)
    if not options.smoke:
        KEPT.mkdir(exist_ok=True)
        for way, out in enumerate(outputs):
            np.save(KEPT / f"{name}-{way}.npy", counts(out))
    return found


if __name__ == "__main__":
    STUDY.run(__doc__, {name: partial(part, name) for name in METHODS}, picture=picture)
