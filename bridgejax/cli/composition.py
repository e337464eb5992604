"""``bridgejax sample --compose``: trained diffusion models combined by an expression (see ``cli.expression``).

The runs must share shape, schedule and the units of their data. A
mixture is exact: each sample is drawn from one of its parts, and runs alone, of any method and units, sample as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bridgejax._types import Args, Json
from bridgejax.bridges import compose
from bridgejax.cli.expression import CORRECTORS, Expression, mixed, number, numbers_of, parse
from bridgejax.processes import keys
from bridgejax.runs import Run, load
from bridgejax.runs.record import read_config
from bridgejax.runs.registry import nearest
from bridgejax.solve import grids
from bridgejax.weigh import feynman_kac, mcmc, weights

OPERATORS: dict[str, tuple[Callable[..., compose.Density], str]] = {
    "product": (compose.product, "runs"),
    "power": (compose.power, "a run and a number"),
    "negation": (compose.negation, "two runs and perhaps a number"),
    "guidance": (compose.guidance, "two runs and a number"),
}


def build(tree: Expression, read: Callable[[str], compose.Density]) -> compose.Density:
    """The Density of a parsed expression.

    Raises:
        ValueError: items that an operator does not take.
    """
    if isinstance(tree, str):
        return read(tree)
    name, items = tree
    if name == "mixture":
        raise ValueError(
            "compose: a mixture inside another operator needs densities, and runs have scores alone; put it outermost, "
            "as in mixture(product(a, b), c)"
        )
    function, takes = OPERATORS[name]
    count = numbers_of(name, items)
    densities, numbers = items[: len(items) - count], items[len(items) - count :]
    wanted = {"product": len(densities) >= 1, "power": len(densities) == 1}.get(name, len(densities) == 2)
    if not wanted:
        raise ValueError(f"compose: {name} takes {takes}, got {len(items)} items")
    return function(
        *(build(item, read) for item in densities), *(number(item, f"{name} takes {takes}") for item in numbers)
    )


def sample(text: str, num: int, seed: int, labels: Callable[[Any], Any], corrector: str, steps: int) -> Any:
    """Samples of an expression in the data's units, their labels, and its first part.

    Args:
        text: the expression.
        num: how many.
        seed: of the samples.
        labels: ``labels(classes)``, the class of every sample or None.
        corrector: "mcmc" (annealed HMC from scores; one key a sample) or "feynman_kac" (a population, resampled).
        steps: noise levels, and of a run alone sampler steps; 0: 100, and the run's own.

    Raises:
        ValueError: runs of other classes or shapes; in one density, of other methods, units or schedules.
    """
    nearest(corrector, CORRECTORS, "corrector")
    parts = mixed(parse(text))
    found: list[_Part] = []
    for tree, _ in parts:
        found.append(_alone(tree, steps) if isinstance(tree, str) and len(parts) > 1 else _combined(tree))
        first, last = found[0], found[-1]
        for what, one, other in (
            ("equally named classes", first.run.classes, last.run.classes),
            ("samples of one shape", first.run.units.shape, last.run.units.shape),
            ("points in one kind of coordinates", first.run.units.coordinates, last.run.units.coordinates),
        ):
            if one != other:
                raise ValueError(f"compose needs {what}, and {first.path} and {last.path} have {one} and {other}")
    args = labels(found[0].run.classes)
    every = keys(jax.random.key(seed), num)
    edges = np.cumsum([share for _, share in parts])[:-1]
    which = np.searchsorted(edges, np.random.default_rng(seed).random(num), side="right")
    samples, rows = [], []
    for k, part in enumerate(found):
        own = np.flatnonzero(which == k)
        if own.size:
            x, kept = _draw(part, every[own], None if args is None else args[own], corrector, steps)
            samples.append(x)
            rows.append(own[kept])
    order = np.argsort(np.concatenate(rows))
    chosen = np.concatenate(rows)[order]
    return np.concatenate(samples)[order], None if args is None else args[chosen], found[0]


class _Part(NamedTuple):
    """A run that samples itself (no density), or a density, with the first run in it."""

    path: str
    run: Run
    record: Json
    density: compose.Density | None


def _alone(path: str, steps: int) -> _Part:
    record = read_config(Path(path))
    changes: Json = {"sample_steps": steps} if steps else {}
    run = load(path, **changes)
    if run.begins == "pairs":
        raise ValueError(
            f"compose takes runs that sample by themselves, and {path} wants the rows its samples belong to"
        )
    return _Part(path, run, record, None)


def _combined(tree: Expression) -> _Part:
    found: list[_Part] = []

    def read(path: str) -> compose.Density:
        record = read_config(Path(path))
        if record["config"]["method"]["name"] != "diffusion":
            raise ValueError(f"compose takes runs of method diffusion, and {path} is of {record['config']['method']!r}")
        part = _Part(path, load(path), record, None)
        if found:
            first = found[0]
            for what in ("shift", "scale"):
                one, other = (np.asarray(getattr(p.run.units, what)) for p in (first, part))
                if not np.array_equal(one, other):
                    raise ValueError(
                        f"compose needs runs in one unit, and {first.path} and {path} standardise their data "
                        f"differently (another {what}), so that noise of one level is another noise in each; train "
                        "both with --no-standardise, or on pixels of one range (a mixture takes runs as they are)"
                    )
            if first.run.classes != part.run.classes:
                raise ValueError(f"compose needs equally named classes, and {first.path} and {path} differ")
        found.append(part)
        return compose.model(part.run.process)

    density = build(tree, read)
    return found[0]._replace(density=density)


def _draw(
    part: _Part, every: jax.Array, args: Args, corrector: str, steps: int
) -> tuple[np.ndarray | jax.Array, np.ndarray]:
    """Samples of one part, in the data's units, one a key, and which of the keys they are of."""
    num, density = len(every), part.density
    if density is None:
        names = None if args is None else [part.run.classes[k] for k in args]
        return part.run.sample(every, names, micro_batch=1024), np.arange(num)
    ts = grids.log_snr(steps or 100, density.schedule)[:-1]  # up to the least noise the models have learnt
    key = every[0]  # each of what follows draws from a stream of its own
    conditions = None if args is None else jnp.asarray(args)
    if corrector == "mcmc":
        move = mcmc.hmc(leapfrogs=2, nodes=3)
        sizes = mcmc.tune(density, key, ts, conditions, move=move, transitions=4)
        result = mcmc.annealed(density, every, ts, conditions, move=move, transitions=3, step_sizes=sizes,
                               reverse_steps=not density.schedule.zero_terminal_snr, micro_batch=1024)  # fmt: skip
        x, kept = result.x[result.valid], np.flatnonzero(np.asarray(result.valid))
        lost = num - len(kept)
        print(f"annealed HMC: acceptance {float(result.acceptance.mean()):.2f}, {lost} chains left out as not finite")
    else:
        if args is not None and len(set(args.tolist())) > 1:
            raise ValueError("corrector feynman_kac samples one population: choose one class with --label")
        one = None if conditions is None else conditions[0]
        population = feynman_kac(density, key, num, ts, one)
        x = population.x[weights.systematic(key, population.log_weights)]
        kept = np.arange(num)
        print(
            f"Feynman-Kac: {int(population.resampled.sum())} resamplings, least ESS {float(population.ess.min()):.2f}"
        )
    return part.run.to_data(x), kept
