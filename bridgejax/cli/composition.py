"""``bridgejax sample --compose``: trained diffusion models combined by a small expression, and its samples.

    expression = NAME "(" item {"," item} ")"        item = expression | number | path of a run directory

    product(a, b, ...)    power(a, exponent)    negation(a, b, strength)    guidance(conditional, unconditional, scale)

Names are looked up in a table; nothing is evaluated. The runs must share shape, schedule and the units of their data.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bridgejax.bridges import compose
from bridgejax.methods import runs
from bridgejax.methods.recipes import nearest
from bridgejax.processes import keys
from bridgejax.processes.keys import streams
from bridgejax.solve import feynman_kac, grids, mcmc, weights

OPERATORS: dict[str, tuple[Callable[..., compose.Density], str]] = {
    "product": (compose.product, "runs"),
    "power": (compose.power, "a run and a number"),
    "negation": (compose.negation, "two runs and perhaps a number"),
    "guidance": (compose.guidance, "two runs and a number"),
}
NUMBERS = {"product": 0, "power": 1, "negation": 1, "guidance": 1}  # how many items at the end are numbers
CORRECTORS = ("mcmc", "feynman_kac")


def _split(text: str) -> list[str]:
    """Items between commas that are in no bracket."""
    items, depth, start = [], 0, 0
    for k, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            items.append(text[start:k])
            start = k + 1
    return [item.strip() for item in (*items, text[start:])]


def parse(text: str) -> Any:
    """A run's path, or (name, items) with items parsed in turn.

    Raises:
        ValueError: brackets that do not match, an unknown name, an empty item.
    """
    text = text.strip()
    if "(" not in text and ")" not in text:
        if not text:
            raise ValueError("compose has an empty item; write for example product(runs/a, runs/b)")
        return text
    name, _, rest = text.partition("(")
    depth = 0
    for k, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth < 0 or (depth == 0 and k >= len(name) and k < len(text) - 1):
            raise ValueError(f"compose has brackets that do not match in {text!r}; write product(runs/a, runs/b)")
    if depth != 0:
        raise ValueError(f"compose has brackets that do not match in {text!r}; write product(runs/a, runs/b)")
    if name.strip() == "mixture":
        raise ValueError("compose cannot mix runs, whose models have scores and no densities; draw from each in turn")
    return nearest(name.strip(), OPERATORS, "operator of compose"), [parse(item) for item in _split(rest[:-1])]


def runs_in(text: str) -> list[str]:
    """The run directories of an expression, each once, in order."""

    def leaves(tree: Any) -> list[str]:
        if not isinstance(tree, str):
            name, items = tree
            count = NUMBERS[name] if name != "negation" or len(items) == 3 else 0
            return [leaf for item in items[: len(items) - count] for leaf in leaves(item)]
        return [tree]

    return list(dict.fromkeys(leaves(parse(text))))


def _number(item: Any, name: str) -> float:
    try:
        return float(item)
    except (TypeError, ValueError):
        raise ValueError(f"compose: {name} takes {OPERATORS[name][1]}, got {item!r} where a number belongs") from None


def build(tree: Any, read: Callable[[str], compose.Density]) -> compose.Density:
    """The Density of a parsed expression.

    Raises:
        ValueError: items that an operator does not take.
    """
    if isinstance(tree, str):
        return read(tree)
    name, items = tree
    function, takes = OPERATORS[name]
    count = NUMBERS[name] if name != "negation" or len(items) == 3 else 0
    densities, numbers = items[: len(items) - count], items[len(items) - count :]
    wanted = {"product": len(densities) >= 1, "power": len(densities) == 1}.get(name, len(densities) == 2)
    if not wanted:
        raise ValueError(f"compose: {name} takes {takes}, got {len(items)} items")
    return function(*(build(item, read) for item in densities), *(_number(item, name) for item in numbers))


def sample(text: str, num: int, seed: int, labels: Callable[[int], Any], corrector: str, steps: int) -> Any:
    """Samples of an expression, with the record and the labels of its first run.

    Args:
        text: the expression.
        num: how many.
        seed: of the samples.
        labels: ``labels(number of classes)``, conditions or None.
        corrector: "mcmc" (annealed HMC from scores; one key a sample) or "feynman_kac" (a population, resampled).
        steps: noise levels; 0: 100.

    Raises:
        ValueError: runs of other methods, units, shapes or schedules.
    """
    nearest(corrector, CORRECTORS, "corrector")
    found: list[tuple[str, Any, Any]] = []

    def read(path: str) -> compose.Density:
        record = runs.read_config(Path(path))
        if record["config"]["method"] != "diffusion":
            raise ValueError(f"compose takes runs of method diffusion, and {path} is of {record['config']['method']!r}")
        run = runs.load(path, units="model")
        spec = runs.read_spec(Path(path), record)
        if found:
            first, other, _ = found[0]
            for what in ("shift", "scale"):
                if not np.array_equal(np.asarray(getattr(other, what)), np.asarray(getattr(spec, what))):
                    raise ValueError(
                        f"compose needs runs in one unit, and {first} and {path} standardise their data differently "
                        f"(another {what}); train them on data of one mean and scale, or one range of pixels"
                    )
            if other.num_classes != spec.num_classes:
                raise ValueError(f"compose needs runs of equally many classes, and {first} and {path} differ")
        found.append((path, spec, (run, record)))
        return compose.model(run.process)

    density = build(parse(text), read)
    (run, record), spec = found[0][2], found[0][1]
    args = labels(spec.num_classes)
    ts = grids.log_snr(steps or 100, density.schedule)[:-1]  # up to the least noise the models have learnt
    key = jax.random.key(seed)  # each of what follows draws from a stream of its own
    every = keys(key, num)
    conditions = None if args is None else jnp.asarray(args)
    if corrector == "mcmc":
        move = mcmc.hmc(leapfrogs=2, nodes=3)
        sizes = mcmc.tune(density, key, ts, conditions, move=move, transitions=4)
        result = mcmc.annealed(density, every, ts, conditions, move=move, transitions=3, step_sizes=sizes,
                               reverse_steps=not density.schedule.vanishes, micro_batch=1024)  # fmt: skip
        x, lost = result.x[result.valid], int(jnp.sum(~result.valid))
        args = None if args is None else np.asarray(args)[np.asarray(result.valid)]
        print(f"annealed HMC: acceptance {float(result.acceptance.mean()):.2f}, {lost} chains left out as not finite")
    else:
        if args is not None and len(set(np.asarray(args).tolist())) > 1:
            raise ValueError("corrector feynman_kac samples one population: choose one class with --label")
        one = None if conditions is None else conditions[0]
        population = feynman_kac(density, key, num, ts, one)
        x = population.x[weights.systematic(key, population.log_weights)]
        print(
            f"Feynman-Kac: {int(population.resampled.sum())} resamplings, least ESS {float(population.ess.min()):.2f}"
        )
    finished = jax.vmap(run.process.finish, (0, 0, None))(streams(every, "process", 3)[: len(x), 2], x, None)
    return spec.decode(np.asarray(finished)), args, record
