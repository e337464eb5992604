"""The action principle: its identities to machine precision, and a population between snapshots.

    python experiments/action.py            all; results/action.json
    python experiments/action.py --smoke    seconds

    exact       the residual of the Hamilton-Jacobi-Bellman equation in float64, the path bound against log p and the
                divergence of path laws, gradients of implicit and denoising matching, least action of Gaussian paths
    snapshots   a simulated population that branches, in five dimensions, seen at five times: W1 at each middle time,
                left out of what is learnt, for random pairs, optimal transport and a Schroedinger bridge of neighbours
                (lightsb, 20 Gaussians), Action Matching and Wasserstein Lagrangian flows; three seeds

No package at hand ships a real time-resolved set offline (scanpy's and scvelo's are downloads), so the population is
simulated: its law at every time is known by simulating more of it, which is the floor.

Budget: 10 minutes on two cores.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.tree_util import Partial
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from study import Pick, Study, Table, record

import bridgejax as bj
from bridgejax import couplings, methods, mixtures, networks, objectives, schedules
from bridgejax.methods.schroedinger._snapshots import check_clock
from bridgejax.methods.schroedinger.action_matching import _loss
from bridgejax.training import adam

STUDY = Study(
    "action",
    topic="Schrödinger bridges",
    question="What does the action principle give, exactly, and between snapshots of a population?",
    answer="Its identities hold to rounding and to Monte Carlo error. Between snapshots nothing that is learnt comes "
    "nearer to the population than optimal transport of neighbours, which needs no learning. Action Matching and "
    "Wasserstein Lagrangian flows tie with it where they have noise, and are a little further off in every seed where "
    "they have none. The population's paths curve and these are straight between the snapshots that are left, so all "
    "stay far above the floor. At the first middle time, before it branches, random pairs are the nearest.",
    brief="Identities hold to rounding; learnt paths are as near as optimal transport of neighbours.",
    budget="10 minutes on two cores",
    source="Premkumar 2023, arXiv 2310.04490; Neklyudov et al. 2023, arXiv 2210.06662 (Action Matching) and 2024, "
    "arXiv 2310.10649 (Wasserstein Lagrangian flows)",
    floor="as many fresh rows of the population at that time",
    picks=(
        Pick("W1, mean over times", {"way": "optimal transport of neighbours"}, "W1, optimal transport"),
        Pick("W1, mean over times", {"way": "action matching"}, "action matching"),
        Pick("W1, mean over times", {"way": "Wasserstein Lagrangian flow, transport"}, "WLF"),
    ),
    tables=(
        Table(
            "largest HJB residual",
            rows=("of",),
            columns="schedule",
            title="Residual of the Hamilton-Jacobi-Bellman equation",
            text="Largest over states and times, of a mixture in the plane, in float64; per unit of the clock.",
        ),
        Table(
            "bound less log p, in standard errors",
            rows=("law", "schedule"),
            title="The path bound at the exact score",
            text="Mean over states of the bound less log p, over its standard error; and the largest of one state.",
            also=("largest", "nats_off", "draw_sd"),
        ),
        Table(
            "lack of the bound less the divergence of path laws, in standard errors",
            rows=("score off by",),
            title="The path bound at another score",
            text="Brownian noise, a score off by a constant vector c: the bound lacks |c|^2 sigma^2 T / 2 on average.",
            also=("lack", "divergence"),
        ),
        Table(
            "largest difference of gradients, in standard errors",
            rows=("divergence",),
            title="Implicit against denoising matching",
            text="Of the gradients in 17 parameters of one nonlinear score network, vp noise.",
            also=("n",),
        ),
        Table(
            "least action, relative error",
            rows=("kind",),
            title="Action Matching on Gaussian paths",
            text="The loss at its minimiser, on rows it has not seen, against its closed form.",
            also=("value_found", "closed_form"),
        ),
        Table(
            "W1",
            rows=("way",),
            columns="left out",
            title="W1 at a time left out",
            text="Mean over seeds; in the unit of the data, whose coordinates have deviations of 0.1 to 1.3.",
        ),
        Table("W1, mean over times", rows=("way",), also=("seconds",), title="The same over the three times"),
    ),
    timed=("part", "way", "left out", "schedule", "law", "kind"),
)

MIXTURE = {
    "means": [[-1.5, 0.5], [1.0, -0.5]],
    "covariances": [[[0.5, 0.2], [0.2, 0.4]], [[0.3, -0.1], [-0.1, 0.6]]],
    "weights": [0.3, 0.7],
}


# exact --------------------------------------------------------------------------------------------------------------


def log_density(law: Any, schedule: Any, t: Any, x: Any, args: Any) -> Any:
    """Log of the diffused law."""
    return law.diffuse(schedule, t).log_prob(x)


def residuals(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Largest residual over states and times."""
    n = 50 if options.smoke else 2000
    with jax.enable_x64(True):
        law, rng = mixtures.gaussian_mixture(**MIXTURE), np.random.default_rng(0)
        for name in ("vp",) if options.smoke else ("vp", "cosine", "rectified", "karras"):
            schedule = getattr(schedules, name)()
            times = schedule.T * rng.uniform(0.02, 0.95, n)
            x = 2.0 * rng.normal(size=(n, 2)) * np.asarray(1.0 + 0.1 * jax.vmap(schedule.sigma)(times))[:, None]
            given = {
                "log density": {"log_density": Partial(log_density, law, schedule)},
                "score": {"score": mixtures.mixture_score(law, schedule)},
            }
            for of, how in given.items():
                found = jax.jit(jax.vmap(lambda t, x, s=schedule, how=how: bj.hjb_residual(s, t, x, **how)))(times, x)
                worst = float(jnp.max(jnp.abs(found)))
                yield record(
                    "largest HJB residual", worst, {"of": of, "schedule": name}, n=n, bar="below 1e-6", met=worst < 1e-6
                )


def process_of(law: Any, schedule: Any, denoiser: Any = None) -> Any:
    """The reverse SDE from the exact noised law."""
    denoiser = mixtures.mixture_denoiser(law, schedule) if denoiser is None else denoiser
    sde = bj.reverse(schedule, denoiser=denoiser)
    return bj.Process(law.diffuse(schedule, schedule.T), sde, bj.grids.uniform(4, schedule.T))


def shifted(law: Any, schedule: Any, shift: Any, t: Any, x: Any, args: Any) -> Any:
    """The denoiser whose score is off by a constant."""
    return mixtures.mixture_denoiser(law, schedule)(t, x, args) + schedule.variance(0.0, t) / schedule.alpha(t) * shift


def bounds(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Equality at the exact score, and what another one lacks."""
    states, samples = (4, 16) if options.smoke else (64, 1024)
    laws = {
        "mixture, 2-D": mixtures.gaussian_mixture(**MIXTURE),
        "Gaussian, 8-D": mixtures.gaussian_mixture(np.linspace(-1, 1, 8)[None], np.linspace(0.2, 2.0, 8)[None]),
    }
    for name in ("vp",) if options.smoke else ("vp", "rectified", "karras"):
        schedule = getattr(schedules, name)()
        for law_name, law in list(laws.items())[: 1 if options.smoke else 2]:
            process, began = process_of(law, schedule), time.perf_counter()
            x = jax.vmap(law.sample)(bj.keys(jax.random.key(0), states))
            one = partial(bj.log_prob, process, kind="bound", samples=samples)
            found = jax.vmap(one)(bj.keys(jax.random.key(1), states), x)
            off = np.asarray(found.value - jax.vmap(law.log_prob)(x), np.float64)
            error = np.asarray(found.error, np.float64)
            mean = off.mean() / (np.sqrt(np.sum(error**2)) / states)
            yield record(
                "bound less log p, in standard errors", mean, {"law": law_name, "schedule": name}, n=states * samples,
                bar="within 3", met=abs(mean) < 3, began=began, largest=float(np.max(np.abs(off / error))),
                nats_off=float(off.mean()), draw_sd=float(np.mean(error) * math.sqrt(samples)),
            )  # fmt: skip
    law, schedule, sigma = laws["mixture, 2-D"], schedules.brownian(1.2), 1.2
    n = 100 if options.smoke else 20_000
    for size in (0.3,) if options.smoke else (0.1, 0.3, 1.0):
        shift = size * jnp.array([0.8, -0.6])
        process = process_of(law, schedule, Partial(shifted, law, schedule, shift))
        x = jax.vmap(law.sample)(bj.keys(jax.random.key(2), n))
        one = lambda k, x, process=process: bj.log_prob(process, k, x, kind="bound", samples=4).value  # noqa: E731
        lack = np.asarray(jax.vmap(law.log_prob)(x) - jax.vmap(one)(bj.keys(jax.random.key(3), n), x), np.float64)
        truth, error = 0.5 * size**2 * sigma**2, lack.std() / math.sqrt(n)
        off = (lack.mean() - truth) / error
        yield record(
            "lack of the bound less the divergence of path laws, in standard errors", off, {"score off by": size}, n=n,
            bar="within 5", met=abs(off) < 5, lack=float(lack.mean()), divergence=truth,
        )  # fmt: skip


def nonlinear(params: Any, t: Any, x: Any, args: Any) -> Any:
    """A score network of 17 parameters."""
    hidden = jnp.tanh(params[:6].reshape(3, 2) @ x + params[6:9] * t + params[9:12])
    return params[12:].reshape(5)[:2] * hidden[:2] + params[14:16] * hidden[2] - params[16] * x


def gradients(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Of d / 2 times denoising matching, and of implicit matching, on the same times."""
    n = 500 if options.smoke else 100_000
    law, path = mixtures.gaussian_mixture(**MIXTURE), bj.interpolants.diffusion(schedules.vp())
    x = jax.vmap(law.sample)(bj.keys(jax.random.key(0), n))[:, None]
    span, params = objectives.times.uniform(0.2, 1.0), 0.5 * jax.random.normal(jax.random.key(9), (17,))

    def of(loss: Any, key: Any) -> tuple[np.ndarray, np.ndarray]:
        rows = jax.jit(jax.vmap(jax.grad(lambda p, k, x: loss(p, k, x)[0]), (None, 0, 0)))
        found = np.asarray(rows(params, bj.keys(key, n)[:, None], x), np.float64)
        return found.mean(0), found.std(0) / math.sqrt(n)

    mean, error = of(objectives.matching(path, nonlinear, "score", times=span), jax.random.key(1))  # d / 2 = 1
    for divergence in ("exact",) if options.smoke else ("exact", "hutchinson", "sliced"):
        other, spread = of(objectives.implicit(path, nonlinear, divergence=divergence, times=span), jax.random.key(2))
        off = float(np.max(np.abs(mean - other) / np.hypot(error, spread)))
        yield record(
            "largest difference of gradients, in standard errors", off, {"divergence": divergence}, n=n, bar="within 5",
            met=off < 5,
        )  # fmt: skip


SPEED, KAPPA, NOISE, RATE, DURATION = 0.8, 0.3, 0.9, 0.25, 2.0


def polynomial(params: Any, u: Any, x: Any, args: Any) -> Any:
    """1, u, and x, x^2, each times 1, u, u^2: it holds the exact potentials."""
    powers = jnp.stack([jnp.ones(()), u, u**2])
    return params @ jnp.concatenate([powers[:2], powers * x[0], powers * x[0] ** 2])


def gaussian_paths() -> dict[str, tuple[Callable[[Any], Any], float]]:
    """Mean, deviation and mass at a time, and the least action."""
    growth, variance = (math.exp(RATE * DURATION) - 1) / RATE, 0.6
    return {
        "plain": (
            lambda t: (SPEED * t, np.exp(-KAPPA * t), 1 + 0 * t),
            -0.5 * (DURATION * SPEED**2 + KAPPA * (1 - math.exp(-2 * KAPPA * DURATION)) / 2),
        ),
        "entropic": (
            lambda t: (SPEED * t, 0.7 + 0 * t, 1 + 0 * t),
            -0.5 * DURATION * (SPEED**2 + 0.25 * NOISE**4 / 0.49),
        ),
        "unbalanced": (
            lambda t: (SPEED * t, variance**0.5 + 0 * t, np.exp(RATE * t)),
            -0.5 * growth * (SPEED**2 / (1 + variance) + RATE**2),
        ),
    }


def optima(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The loss is quadratic in the coefficients of a polynomial potential: one Newton step ends at its least value."""
    n = 2000 if options.smoke else 400_000
    for kind, (law, truth) in list(gaussian_paths().items())[: 1 if options.smoke else 3]:
        noise, growth = (NOISE if kind == "entropic" else 0.0), kind == "unbalanced"
        loss = partial(_loss, polynomial, (1,), check_clock([0.0, DURATION]), noise, "exact", growth=growth)

        def batch(seed: int, law: Any = law) -> Any:
            rng = np.random.default_rng(seed)
            t, z = DURATION * (np.arange(n) + rng.uniform(size=n)) / n, rng.normal(size=(3, n))
            at = [law(t), law(np.zeros(n)), law(np.full(n, DURATION))]
            x, first, last = (np.asarray(m + s * e, np.float32)[:, None] for (m, s, _), e in zip(at, z, strict=True))
            mass = np.stack([at[0][2], at[0][2], at[2][2]], axis=1)
            times = {"start": np.float32(t), "end": np.float32(t), "weight": np.full(n, DURATION, np.float32)}
            return {"source": x, "target": x, "first": first, "last": last, "mass": np.float32(mass), **times}

        value = lambda p, b, loss=loss: loss(p, bj.keys(jax.random.key(0), n), b)[0]  # noqa: E731
        derivatives = jax.jit(lambda p, b, v=value: (v(p, b), jax.grad(v)(p, b), jax.hessian(v)(p, b)))
        _, slope, curvature = (np.asarray(part, np.float64) for part in derivatives(jnp.zeros(8), batch(1)))
        used = np.arange(8) >= (0 if growth else 2)
        found = np.zeros(8)
        found[used] = np.linalg.solve(curvature[np.ix_(used, used)] + 1e-7 * np.eye(used.sum()), -slope[used])
        least = float(derivatives(jnp.asarray(found, jnp.float32), batch(2))[0])
        off = abs(least / truth - 1)
        yield record(
            "least action, relative error", off, {"kind": kind}, n=n, bar="at most 1 %", met=off <= 0.01,
            value_found=least, closed_form=truth,
        )  # fmt: skip


def exact(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """All identities."""
    for part in (residuals, bounds, gradients, optima):
        yield from part(options)


# snapshots ----------------------------------------------------------------------------------------------------------

TIMES, DIMENSION, DIFFUSION = np.arange(5.0), 5, 0.2


def drift(x: np.ndarray) -> np.ndarray:
    """A cell moves along the first axis, its second decides for a branch, its third for another on the upper one, and
    the last two turn on the way.
    """
    a, b, c, d, e = x.T
    fork = np.tanh(2.0 * a - 0.6)
    return np.stack(
        [
            0.9 + 0.2 * np.tanh(b) - 0.15 * a,
            2.5 * fork * b - 1.5 * b**3,
            2.5 * np.tanh(2.0 * a - 3.0) * c * (b > 0) - 1.5 * c**3 - c * (b <= 0),
            -1.0 * (d - 1.5 * np.sin(1.5 * a)) + 0.6 * e,
            -1.0 * e - 0.6 * (d - np.cos(a)),
        ],
        axis=1,
    )


def population(n: int, seed: int) -> list[np.ndarray]:
    """Rows at every time, of other cells each time, by steps of 0.01."""
    rng, step = np.random.default_rng(seed), 0.01
    x = np.array([-0.3, 0.0, 0.0, 0.0, 0.5]) + 0.25 * rng.normal(size=(n * len(TIMES), DIMENSION))
    out = [x[:n].copy()]
    for k in range(round(TIMES[-1] / step)):
        x = x + step * drift(x) + DIFFUSION * math.sqrt(step) * rng.normal(size=x.shape)
        if (k + 1) % round(1 / step) == 0:
            place = len(out)
            out.append(x[place * n : (place + 1) * n].copy())
    return out


def w1(x: np.ndarray, y: np.ndarray) -> float:
    """Exact 1-Wasserstein distance of two samples of one size."""
    cost = cdist(x, y)
    return float(cost[linear_sum_assignment(cost)].mean())


def at_middle(rng: np.random.Generator, x0: np.ndarray, x1: np.ndarray, noise: float = 0.0) -> np.ndarray:
    """Half way between rows of neighbours two units apart, on Brownian bridges where there is noise."""
    return 0.5 * (x0 + x1) + noise * math.sqrt(0.5) * rng.normal(size=x0.shape)


def random_pairs(data: Any, k: int, seed: int, options: argparse.Namespace) -> np.ndarray:
    """Half way between neighbours paired at random."""
    rng = np.random.default_rng(seed)
    return at_middle(rng, data.arrays[k - 1], rng.permutation(data.arrays[k]))


def transported(data: Any, k: int, seed: int, options: argparse.Namespace) -> np.ndarray:
    """Half way along the optimal plan of neighbours: displacement interpolation."""
    rng = np.random.default_rng(seed)
    i, j = couplings.exact_ot(rng, data.arrays[k - 1], data.arrays[k])
    return at_middle(rng, data.arrays[k - 1][i], data.arrays[k][j])


def bridged(data: Any, k: int, seed: int, options: argparse.Namespace) -> np.ndarray:
    """Half way along the Schroedinger bridge of neighbours with the population's own noise, by lightsb."""
    x0, x1 = (np.asarray(data.arrays[j], np.float32) for j in (k - 1, k))
    gap = data.times[k] - data.times[k - 1]
    method = methods.lightsb(
        epsilon=DIFFUSION**2 * gap, dim=DIMENSION, components=20, source=x0, optimizer=adam(1e-2, steps=options.updates)
    )
    pairs = bj.data.Pairs(x0, x1, 256, seed)
    state = bj.fit(method, pairs, jax.random.key(seed), steps=options.updates, batch_size=256)
    end = bj.sample(method.process(state), bj.keys(jax.random.key(seed + 7), len(x0)), x=jnp.asarray(x0))
    return at_middle(np.random.default_rng(seed), x0, np.asarray(end), DIFFUSION)


def networks_of(seed: int, depth: int) -> tuple[Any, Any]:
    """A potential and an interpolant."""
    small = {"width": 64, "depth": depth}
    return (
        networks.MLP((DIMENSION,), outputs=(1,), rngs=nnx.Rngs(seed), **small),
        networks.MLP((2 * DIMENSION,), outputs=(DIMENSION,), rngs=nnx.Rngs(seed + 1), **small),
    )


def learnt(make: Callable[..., Any], data: Any, k: int, seed: int, options: argparse.Namespace) -> np.ndarray:
    """The state at the time left out of a process fitted to all other snapshots."""
    method = make(
        shape=(DIMENSION,), times=data.times, source=data.arrays[0], divergence="hutchinson", ema=0.99,
        optimizer=adam(2e-3, steps=options.updates), ts=bj.grids.uniform(80, TIMES[-1]),
    )  # fmt: skip
    state = bj.fit(method, data, jax.random.key(seed), steps=options.updates, batch_size=256)
    process = bj.stop(method.process(state), float(TIMES[k]))
    return np.asarray(bj.sample(process, bj.keys(jax.random.key(seed + 9), len(data.arrays[0]))))


def ways(seed: int, depth: int = 3) -> dict[str, Callable[..., np.ndarray]]:
    """Every way to the time between."""
    potential, path = networks_of(seed, depth)
    am, wlf = methods.action_matching, methods.wasserstein_lagrangian
    return {
        "random pairs of neighbours": random_pairs,
        "optimal transport of neighbours": transported,
        "Schroedinger bridge of neighbours": bridged,
        "action matching": partial(learnt, partial(am, potential)),
        "action matching, with noise": partial(learnt, partial(am, potential, noise=DIFFUSION)),
        "Wasserstein Lagrangian flow, transport": partial(learnt, partial(wlf, potential, path)),
        "Wasserstein Lagrangian flow, bridge": partial(learnt, partial(wlf, potential, path, noise=DIFFUSION)),
    }


def snapshots(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """W1 at each middle time, left out."""
    n, options.updates, seeds = (40, 5, 1) if options.smoke else (500, 1000, 3)
    middle = (2,) if options.smoke else (1, 2, 3)
    sets = [
        (
            bj.data.Snapshots(TIMES, [np.float32(x) for x in population(n, s)]),
            population(n, 100 + s),
            population(n, 200 + s),
        )
        for s in range(seeds)
    ]
    floors = {k: float(np.mean([w1(a[k], b[k]) for _, a, b in sets])) for k in middle}
    smoke = ("optimal transport of neighbours", "action matching")
    for way in smoke if options.smoke else ways(0):
        every, began = [], time.perf_counter()
        for k in middle:
            start = time.perf_counter()
            spread = [
                w1(ways(seed, 1 if options.smoke else 3)[way](data.without(k), k, seed, options), fresh[k])
                for seed, (data, fresh, _) in enumerate(sets)
            ]
            every.append(spread)
            yield record(
                "W1", float(np.mean(spread)), {"way": way, "left out": f"time {TIMES[k]:g}"}, spread=spread, n=n,
                floor=floors[k], began=start,
            )  # fmt: skip
        means = np.mean(every, axis=0).tolist()
        yield record(
            "W1, mean over times", float(np.mean(means)), {"way": way}, spread=means, n=n,
            floor=float(np.mean(list(floors.values()))), began=began,
        )  # fmt: skip


if __name__ == "__main__":
    STUDY.run(__doc__, {"exact": exact, "snapshots": snapshots})
