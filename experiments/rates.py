"""The error of a learnt bridge, made visible: in the number of Euler steps and in the number of data.

    python experiments/rates.py            all; results/rates.json
    python experiments/rates.py --smoke    seconds

Theorem (Liu, Wu, Ye & Liu 2022, arXiv 2208.14699): with n data and steps of size eps the generated law P obeys
sqrt(KL(data || P)) = O(sqrt(log(1/eps) + 1) (n^(-1/4) + eps^(1/2))). An upper bound: faster is allowed.

The problem has a closed form: 4 points x_k on the line, unequal weights pi, Brownian motion on [0, 1] from the origin.

    f*(t, z) = (E_pi - E_1) / (1 - t),    E_p = sum_k x_k w_k,    w_k ~ p_k exp(x_k^2 / 2 - (z - x_k)^2 / (2 (1 - t)))

(E_1 with p_k exp(x_k^2 / 2) = 1, the reference's own). A chain of N uniform steps lands with f frozen over the last
one, as ``bj.constrain`` does. No sampling noise: the density of the chain goes through its steps on a grid (pushed
along the drift with cubic weights, then convolved with the step's Gaussian), so KL is a number, not an estimate.

    steps     N = 4 ... 256 with f*, and with f = 0, where the reference's own law is the truth and one step is exact;
              the slope on 12 random problems
    data      weights from n data (counts + 1/2), and f by least squares on n bridge states (one for each datum, t
              uniform on the grid) over 5 features, f* for pi (so that the truth lies in the span) and for four other
              weights; 16 replicates, N = 64, KL to the law of f* with as many steps, so that n alone is seen, and
              to the data's
    check     the frequencies of bj.simulate_batch against the propagated law, N = 8

Budget: 5 minutes on two cores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jax import Array
from study import Pick, Study, Table, record

import bridgejax as bj

STUDY = Study(
    "rates",
    topic="Domains: discrete, mixed, constrained",
    question="Does the error fall with steps and data as theory says?",
    answer="Faster than the bound in both: nearly as 1 / N in the number of steps, and in the number of data for both "
    "estimators.",
    brief="Faster than the bounds (exponents -1/2 and -1/4).",
    budget="5 minutes on two cores",
    source="Liu, Wu, Ye & Liu 2022, arXiv 2208.14699 (the bound's exponents)",
    picks=(
        Pick("slope in the number of steps", {"drift": "f*"}, "slope in steps"),
        Pick("slope in the number of data", {"drift": "least squares, 5 features"}, "in data"),
    ),
    tables=(
        Table(
            "slope in the number of steps",
            rows=("drift",),
            title="Slope of sqrt(KL) in the number of steps",
            text="Mean over random problems (smallest to largest), half its interval at 95 %, and the same over the "
            "last four numbers of steps; geometric means of sqrt(KL) at every number; what half the cell "
            "changes.",
            also=("half_interval", "late_slope", "late_half_interval", "steps", "root_KL", "half_cell"),
        ),
        Table(
            "slope in the number of data",
            rows=("drift",),
            title="Slope of sqrt(KL) in the number of data",
            text="To the law of f*, over replicates; and to the data's own law, from which the steps alone keep a "
            "distance.",
            also=(
                "half_interval",
                "data",
                "root_KL",
                "data_law_slope",
                "data_law_half_interval",
                "data_law_root_KL",
                "left_by_steps",
            ),
        ),
        Table(
            "KL of one step",
            rows=("drift",),
            text="To the reference's own law: one step, ts = [0, T], is exact.",
        ),
        Table(
            "largest deviation of a frequency, in standard errors",
            rows=("steps",),
            text="simulate_batch against the propagated law. The data's own weights are further away: that is the "
            "error of the steps.",
            also=("weights_away",),
        ),
    ),
    timed=("part", "drift"),
)
K = 4
STEPS = (4, 8, 16, 32, 64, 128, 256)
FINE = 64  # steps where the number of data varies
Drift = Callable[[float, np.ndarray], np.ndarray]


def problem(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points at least 0.4 apart, and weights of at least 0.08."""
    random = np.random.default_rng(seed)
    while True:
        points, weights = np.sort(random.normal(size=K)), random.dirichlet(np.full(K, 2.0))
        if np.diff(points).min() > 0.4 and weights.min() > 0.08:
            return points, weights


def reference(points: np.ndarray) -> np.ndarray:
    """The law of the end of Brownian motion given that it is one of the points."""
    mass = np.exp(-0.5 * points**2)
    return mass / mass.sum()


def expected(points: np.ndarray, tilt: np.ndarray, t: float | np.ndarray, z: np.ndarray) -> np.ndarray:
    """E[x_T | z_t = z], weights exp(tilt_k - (z - x_k)^2 / (2 (1 - t)))."""
    logs = tilt - 0.5 * (z[:, None] - points) ** 2 / (1.0 - np.asarray(t).reshape(-1, 1))
    mass = np.exp(logs - logs.max(1, keepdims=True))
    return mass @ points / mass.sum(1)


def best(points: np.ndarray, weights: np.ndarray, t: float | np.ndarray, z: np.ndarray) -> np.ndarray:
    """f*(t, z)."""
    tilt = np.log(weights) + 0.5 * points**2
    return (expected(points, tilt, t, z) - expected(points, np.zeros(K), t, z)) / (1.0 - t)


def zero(t: float, z: np.ndarray) -> np.ndarray:
    """No drift on top of the reference's."""
    return np.zeros_like(z)


def landed(points: np.ndarray, f: Drift, steps: int, cells: int = 8192) -> np.ndarray:
    """P(x_T = x_k) of the chain of ``steps`` uniform steps, the last one a landing."""
    h, reach = 1.0 / steps, 4.0 + np.abs(points).max()
    x = np.linspace(-reach, reach, cells, endpoint=False)
    dx = x[1] - x[0]
    density = np.zeros(cells)
    smear = np.exp(-0.5 * h * (2.0 * np.pi * np.fft.rfftfreq(cells, dx)) ** 2)
    for j in range(steps - 1):
        t = j * h
        z = np.zeros(1) if j == 0 else x
        mass = np.ones(1) if j == 0 else density
        at = z + h * ((expected(points, np.zeros(K), t, z) - z) / (1.0 - t) + f(t, z))
        place = np.clip((at + reach) / dx, 1, cells - 3)
        left = np.floor(place).astype(int)
        s = place - left
        cubic = (-s * (s - 1) * (s - 2) / 6, (s + 1) * (s - 1) * (s - 2) / 2, -(s + 1) * s * (s - 2) / 2)
        pushed = np.zeros(cells)
        for shift, weight in zip((-1, 0, 1, 2), (*cubic, (s + 1) * s * (s - 1) / 6), strict=True):
            pushed += np.bincount(left + shift, weight * mass, cells)
        density = np.fft.irfft(np.fft.rfft(pushed) * smear, cells)
    z = np.zeros(1) if steps == 1 else x
    mass = np.ones(1) if steps == 1 else density
    t, left_over = 1.0 - h, h
    logs = -0.5 * (points - (z + left_over * f(t, z))[:, None]) ** 2 / left_over
    chances = np.exp(logs - logs.max(1, keepdims=True))
    law = mass @ (chances / chances.sum(1, keepdims=True))
    assert abs(law.sum() - 1.0) < 1e-9
    return law / law.sum()


def kl(p: np.ndarray, q: np.ndarray) -> float:
    """KL(p || q) as a sum of terms that are positive, so that small ones keep their digits."""
    r = q / p - 1.0
    return float(np.sum(p * (r - np.log1p(r))))


def slope(x: Any, roots: np.ndarray) -> float:
    """Of log sqrt(KL) in log x."""
    return float(np.polyfit(np.log(x), np.log(roots), 1)[0])


def half_interval(values: list[float]) -> float:
    """Half the 95 % interval of the mean of the replicates' slopes."""
    return float(scipy.stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))


def curve(roots: np.ndarray) -> list[float]:
    """Geometric means over replicates."""
    return [float(np.exp(np.mean(np.log(r)))) for r in roots.T]


# the number of steps ------------------------------------------------------------------------------------------------


def in_steps(options: Any) -> Iterator[dict[str, Any]]:
    """Slopes of sqrt(KL) in the number of steps."""
    problems = 2 if options.smoke else 12
    for name in ("f*", "f = 0"):
        began, all_roots, one_step, halved = time.perf_counter(), [], [], 0.0
        for seed in range(problems):
            points, weights = problem(seed)
            target = weights if name == "f*" else reference(points)
            f = (lambda t, z, p=points, w=weights: best(p, w, t, z)) if name == "f*" else zero
            all_roots.append([kl(target, landed(points, f, n)) ** 0.5 for n in STEPS])
            one_step.append(kl(target, landed(points, f, 1)))
            if seed == 0:
                finer = [kl(target, landed(points, f, n, 16384)) ** 0.5 for n in (STEPS[0], STEPS[-1])]
                halved = max(abs(a / b - 1.0) for a, b in zip(finer, (all_roots[0][0], all_roots[0][-1]), strict=True))
        roots = np.asarray(all_roots)
        slopes = [slope(STEPS, r) for r in roots]
        late = [slope(STEPS[-4:], r[-4:]) for r in roots]
        yield record(
            "slope in the number of steps",
            round(float(np.mean(slopes)), 4),
            {"drift": name},
            spread=slopes,
            bar="below the bound's -1/2",
            met=np.mean(slopes) < -0.5,
            began=began,
            half_interval=half_interval(slopes),
            late_slope=float(np.mean(late)),
            late_half_interval=half_interval(late),
            steps=list(STEPS),
            root_KL=curve(roots),
            half_cell=halved,
        )
        if name == "f = 0":
            worst, least = float(max(one_step)), 1e-15
            yield record(
                "KL of one step", worst, {"drift": name}, bar=f"below {least}", met=worst < least, began=began
            )  # fmt: skip


# the number of data -------------------------------------------------------------------------------------------------


def features(points: np.ndarray, weights: np.ndarray) -> list[np.ndarray]:
    """Weights of the five features: the truth and four others."""
    return [weights, *np.random.default_rng(1).dirichlet(np.full(K, 2.0), 4)]


def fitted(points: np.ndarray, spans: list[np.ndarray], data: np.ndarray, random: np.random.Generator) -> Drift:
    """f as a sum of features, by least squares on the residual (x - E_1) / (1 - t) at one bridge state a datum."""
    t = random.integers(0, FINE, len(data)) / FINE
    z = t * data + np.sqrt(t * (1.0 - t)) * random.normal(size=len(data))
    residual = (data - expected(points, np.zeros(K), t, z)) / (1.0 - t)
    values = np.stack([best(points, w, t, z) for w in spans], axis=1)
    theta = np.linalg.lstsq(values, residual, rcond=None)[0]
    return lambda t, z: sum((a * best(points, w, t, z) for a, w in zip(theta, spans, strict=True)), np.zeros_like(z))


def in_data(options: Any) -> Iterator[dict[str, Any]]:
    """Slopes of sqrt(KL) in the number of data."""
    sizes, replicates = ((64, 256), 2) if options.smoke else ((16, 64, 256, 1024, 4096), 16)
    points, weights = problem(0)
    exact = landed(points, lambda t, z: best(points, weights, t, z), FINE, 4096)
    floor, spans = kl(weights, exact) ** 0.5, features(points, weights)
    for name in ("plug-in weights", "least squares, 5 features"):
        began, all_roots, all_own = time.perf_counter(), [], []
        for replicate in range(replicates):
            random, roots, own = np.random.default_rng([2, replicate]), [], []
            for n in sizes:
                data = random.choice(K, n, p=weights)
                if name == "plug-in weights":
                    counted = (np.bincount(data, minlength=K) + 0.5) / (n + 0.5 * K)
                    f: Drift = lambda t, z, w=counted: best(points, w, t, z)  # noqa: E731
                else:
                    f = fitted(points, spans, points[data], random)
                law = landed(points, f, FINE, 4096)
                roots.append(kl(weights, law) ** 0.5)
                own.append(kl(exact, law) ** 0.5)
            all_roots.append(roots)
            all_own.append(own)
        slopes, own = [slope(sizes, r) for r in all_roots], [slope(sizes, r) for r in all_own]
        yield record(
            "slope in the number of data",
            round(float(np.mean(own)), 4),
            {"drift": name},
            spread=own,
            bar="below the bound's -1/4",
            met=np.mean(own) < -0.25,
            began=began,
            half_interval=half_interval(own),
            data=list(sizes),
            root_KL=curve(np.asarray(all_own)),
            data_law_slope=float(np.mean(slopes)),
            data_law_half_interval=half_interval(slopes),
            data_law_root_KL=curve(np.asarray(all_roots)),
            left_by_steps=floor,
            steps=FINE,
        )


# the propagated law is that of the library's chain ------------------------------------------------------------------


def learnt(points: Array, tilt: Array, t: Array, z: Array, args: Any) -> Array:
    """f* as a network would be given to ``constrain``."""
    logs = -0.5 * (z - points) ** 2 / (1.0 - t)
    ends = jax.nn.softmax(logs + tilt) @ points - jax.nn.softmax(logs) @ points
    return (ends / (1.0 - t))[None]


def check(options: Any) -> Iterator[dict[str, Any]]:
    """The largest difference of a frequency, in its standard errors."""
    n = 20_000 if options.smoke else 1_000_000
    began, (points, weights), steps = time.perf_counter(), problem(0), 8
    law = landed(points, lambda t, z: best(points, weights, t, z), steps)
    table, tilt = jnp.float32(points), jnp.float32(np.log(weights) + 0.5 * points**2)
    domain = bj.domains.FinitePoints(table[:, None])
    sde = bj.constrain(bj.schedules.brownian(1.0), domain, jax.tree_util.Partial(learnt, table, tilt))
    batch = min(n, 100_000)
    counts = np.zeros(K)
    for first in range(0, n, batch):
        many = bj.keys(jax.random.key(0), batch, first)
        x = np.asarray(bj.simulate_batch(sde, many, jnp.zeros((batch, 1)), bj.grids.uniform(steps)))
        counts += np.sum(x == np.asarray(table), axis=0)
    assert counts.sum() == n, "a sample is no point of the set"
    gap = np.abs(counts / n - law) / np.sqrt(law * (1 - law) / n)
    away = np.abs(weights - law) / np.sqrt(law * (1 - law) / n)
    yield record(
        "largest deviation of a frequency, in standard errors",
        float(gap.max()),
        {"steps": steps},
        n=n,
        bar="below 5",
        met=gap.max() < 5,
        began=began,
        weights_away=float(away.max()),
    )


if __name__ == "__main__":
    STUDY.run(__doc__, {"check": check, "steps": in_steps, "data": in_data})
