"""The order of every solver, measured: slope of the error over the finest four of its levels.

    python experiments/orders.py            all solvers; results/orders.json
    python experiments/orders.py --smoke    two solvers

Everything is in float64 and uses a solver's own ``step`` with noise given from outside, so that levels share a path:

    ode       |x_N - x(T)| on the probability flow of an exact two-component mixture (vp), against a far finer solve
    strong    RMS |x_N - x(T)|, n = 1,000 Brownian paths; a coarse step has W = W1 + W2, H = (H1 + H2)/2 + (W1 - W2)/4
    weak      error of the mean and of the variance by exact recursion: on a linear SDE with additive noise x_N is
              linear in (x_0, W_k, H_k), whose coefficients automatic differentiation gives; with multiplicative noise
              E[x_N^2] = E[step(1, W)^2]^N E[x_0^2], the expectation by Gauss-Hermite quadrature. No sampling at all.

    additive    strong: dx = (sin x - x) dt + (1 + t)/2 dW;  weak: the reverse SDE of Gaussian data (vp), or OU
    diagonal    dx = x/2 dt + 0.7 x dW (geometric Brownian motion, exact solution)
    general     dx = B1 x dW1 + B2 x dW2 in two dimensions, B1 B2 != B2 B1, against a far finer solve

The bar: slope >= order - 0.15. Budget: 5 minutes on two cores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax
import numpy as np
from jax import Array
from study import Pick, Study, Table, record

import bridgejax as bj
from bridgejax import solvers
from bridgejax.processes.sde import SDE
from bridgejax.solve._solvers.terms import StepIncrement, make_terms

STUDY = Study(
    "orders",
    topic="Solvers and speed",
    question="Do solvers converge at the order they state?",
    answer="Yes, all of them: on ODEs, in the strong sense and in the weak sense.",
    brief="All of them.",
    budget="5 minutes on two cores",
    picks=(Pick("order", {"solver": "DPMSolverPP2M", "error": "ode"}, "order of 2M", published="stated"),),
    tables=(
        Table(
            "order",
            rows=("error", "solver"),
            text="The slope over the finest four levels, and the error at the finest.",
            also=("finest_error", "finest_steps"),
            published="stated",
        ),
    ),
)
SLACK = 0.15
PATHS = 1000


def run(sde: SDE, solver: Any, x0: Array, ts: Array, w: Any = None, h: Any = None) -> Array:
    """``solver`` over the grid with the given increments W_k and Levy areas H_k."""
    levy = isinstance(solver, dfx.AbstractSRK | solvers.PredictorCorrector)
    areas = h if levy else None
    first = [None if v is None else v[0] for v in (w, areas)]
    state = solver.init(make_terms(sde, StepIncrement(ts[0], ts[1], *first)), ts[0], ts[1], x0, None)

    def step(carry: Any, interval: Any) -> Any:
        x, state = carry
        t0, t1, w, h = interval
        y, _, _, state, _ = solver.step(make_terms(sde, StepIncrement(t0, t1, w, h)), t0, t1, x, None, state, False)
        return (y, state), None

    return jax.lax.scan(step, (x0, state), (ts[:-1], ts[1:], w, areas))[0][0]


def halve(w: Array, h: Array) -> tuple[Array, Array]:
    """Increments and areas over steps twice as long."""
    w1, w2, h1, h2 = w[0::2], w[1::2], h[0::2], h[1::2]
    return w1 + w2, 0.5 * (h1 + h2) + 0.25 * (w1 - w2)


def slope(steps: list[int], errors: list[float]) -> float:
    """Fitted order on the finest four levels."""
    x, y = np.log(np.asarray(steps[-4:], float)), np.log(np.asarray(errors[-4:], float))
    return float(-np.polyfit(x, y, 1)[0])


# ordinary differential equations ------------------------------------------------------------------------------------

SCHEDULE_ARGS = (0.1, 8.0)
END = 0.9  # of the generative clock: before the landing step


def mixture_flow() -> SDE:
    """The probability flow of an exact mixture."""
    law = bj.mixtures.gaussian_mixture(jnp.array([[-1.0], [1.5]]), 0.3, [0.4, 0.6])
    schedule = bj.schedules.vp(*SCHEDULE_ARGS)
    return bj.probability_flow(schedule, denoiser=bj.mixtures.mixture_denoiser(law, schedule))


def ode_errors(solver: Any, levels: list[int]) -> list[float]:
    """Against the third-order solve on 16 times the finest grid."""
    flow, x0 = mixture_flow(), jnp.array([0.6])

    def final(solver: Any, steps: int) -> Array:
        return jax.jit(partial(run, flow, solver))(x0, jnp.linspace(0.0, END, steps + 1))

    truth = final(dfx.Tsit5(scan_kind="lax"), 2048)
    return [float(jnp.abs(final(solver, n) - truth)[0]) for n in levels]


# strong orders ------------------------------------------------------------------------------------------------------


def additive() -> SDE:
    """Nonlinear drift, noise that depends on time only."""
    return SDE(lambda t, x, args: jnp.sin(x) - x, lambda t, x, args: 0.5 * (1.0 + t))


def diagonal() -> SDE:
    """Geometric Brownian motion."""
    return SDE(lambda t, x, args: 0.5 * x, lambda t, x, args: 0.7 * x, noise="state")


def _general_noise(t: Array, x: Array, args: Any) -> lineax.AbstractLinearOperator:
    b1, b2 = jnp.array([[0.0, 0.5], [0.0, 0.0]]), jnp.array([[0.0, 0.0], [0.7, 0.2]])
    return lineax.MatrixLinearOperator(jnp.stack([b1 @ x, b2 @ x], axis=1))


def general() -> SDE:
    """Two noises whose vector fields do not commute."""
    return SDE(lambda t, x, args: -0.3 * x, _general_noise, noise="state")


def ancestral() -> SDE:
    """The reverse SDE of an exact mixture."""
    law = bj.mixtures.gaussian_mixture(jnp.array([[-1.0], [1.5]]), 0.3, [0.4, 0.6])
    schedule = bj.schedules.vp(*SCHEDULE_ARGS)
    return bj.reverse(schedule, denoiser=bj.mixtures.mixture_denoiser(law, schedule))


def strong_errors(make: Callable[[], SDE], solver: Any, levels: list[int], reference: Any, end: float) -> list[float]:
    """RMS over paths, against ``reference`` on 16 times the finest grid."""
    sde = make()
    x0 = jnp.ones(2) if make is general else jnp.ones(1)
    finest = 16 * levels[-1]
    dt = end / finest
    kw, kh = jax.random.split(jax.random.key(7))
    w = jnp.sqrt(dt) * jax.random.normal(kw, (finest, PATHS, x0.size))
    h = jnp.sqrt(dt / 12.0) * jax.random.normal(kh, (finest, PATHS, x0.size))

    def final(solver: Any, w: Array, h: Array) -> Array:
        ts = jnp.linspace(0.0, end, w.shape[0] + 1)
        return jax.jit(jax.vmap(lambda w, h: run(sde, solver, x0, ts, w, h), (1, 1)))(w, h)

    if make is diagonal:
        truth = jnp.exp((0.5 - 0.5 * 0.49) * end + 0.7 * jnp.sum(w, axis=0))
    else:
        truth = final(reference, w, h)
    errors = {}
    while w.shape[0] > levels[0]:
        w, h = halve(w, h)
        if w.shape[0] in levels:
            gap = final(solver, w, h) - truth
            errors[w.shape[0]] = float(jnp.sqrt(jnp.mean(jnp.sum(gap**2, axis=1))))
    return [errors[n] for n in levels]


# weak orders --------------------------------------------------------------------------------------------------------


def linear_moments(sde: SDE, solver: Any, steps: int, end: float, m0: float, v0: float) -> tuple[float, float]:
    """Exact mean and variance of x_N for a linear SDE with additive noise, x_0 ~ N(m0, v0)."""
    ts = jnp.linspace(0.0, end, steps + 1)
    zero = jnp.zeros((steps, 1))

    def final(x0: Array, w: Array, h: Array) -> Array:
        return run(sde, solver, x0, ts, w, h)[0]

    value, (ax, aw, ah) = jax.jit(jax.value_and_grad(final, argnums=(0, 1, 2)))(jnp.array([m0]), zero, zero)
    dt = end / steps
    return float(value), float(jnp.sum(ax**2) * v0 + dt * jnp.sum(aw**2) + dt / 12.0 * jnp.sum(ah**2))


def weak_additive_errors(solver: Any, levels: list[int], *, scheduled: bool) -> list[float]:
    """|variance error| + |mean error|: reverse SDE of Gaussian data for exponential solvers, else OU."""
    if scheduled:
        m, v = 0.7, 0.4
        law = bj.mixtures.gaussian_mixture(jnp.array([[m]]), v)
        schedule = bj.schedules.vp(*SCHEDULE_ARGS)
        sde = bj.reverse(schedule, denoiser=bj.mixtures.mixture_denoiser(law, schedule))
        start, goal = law.diffuse(schedule, 1.0), law.diffuse(schedule, 1.0 - END)
        moments = [(float(g.means[0, 0]), float(g.variances[0, 0])) for g in (start, goal)]
        end = END
    else:
        sde = SDE(lambda t, x, args: -1.3 * x, lambda t, x, args: 0.9)
        decay = float(np.exp(-1.3))
        moments, end = [(1.0, 0.5), (decay, 0.5 * decay**2 + 0.81 / 2.6 * (1.0 - decay**2))], 1.0
    (m0, v0), (m1, v1) = moments
    found = [linear_moments(sde, solver, n, end, m0, v0) for n in levels]
    return [abs(m - m1) + abs(v - v1) for m, v in found]


def weak_diagonal_errors(solver: Any, levels: list[int]) -> list[float]:
    """First and second moment of geometric Brownian motion, by quadrature over one step."""
    sde, end = diagonal(), 1.0
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    weights = jnp.asarray(weights / weights.sum())
    truth = np.exp(0.5 * end), np.exp((2 * 0.5 + 0.49) * end)

    def factors(steps: int) -> tuple[float, float]:
        dt = end / steps
        one = jax.jit(jax.vmap(lambda w: run(sde, solver, jnp.ones(1), jnp.array([0.0, dt]), w[None, None], None)[0]))
        x = one(jnp.sqrt(dt) * jnp.asarray(nodes))
        return float(jnp.sum(weights * x)) ** steps, float(jnp.sum(weights * x**2)) ** steps

    return [sum(abs(a - b) for a, b in zip(factors(n), truth, strict=True)) for n in levels]


# the table ----------------------------------------------------------------------------------------------------------

FINE = [16, 32, 64, 128, 256]
COARSE = [8, 16, 32, 64]


def cases() -> list[tuple[str, str, float, Callable[[], tuple[list[int], list[float]]]]]:
    """(solver, kind, order, measurement)."""

    def ode(solver: Any, levels: list[int]) -> Callable[[], tuple[list[int], list[float]]]:
        return lambda: (levels, ode_errors(solver, levels))

    def strong(make: Any, solver: Any, reference: Any, end: float = 1.0) -> Callable[[], tuple[list[int], list[float]]]:
        return lambda: (FINE, strong_errors(make, solver, FINE, reference, end))

    def weak(solver: Any, *, scheduled: bool) -> Callable[[], tuple[list[int], list[float]]]:
        return lambda: (FINE, weak_additive_errors(solver, FINE, scheduled=scheduled))

    s, shark, ito = solvers, dfx.ShARK(), dfx.ItoMilstein()
    return [
        ("Euler", "ode", 1.0, ode(s.Euler(), FINE)),
        ("Heun", "ode", 2.0, ode(s.Heun(), FINE)),
        ("diffrax.Tsit5", "ode", 5.0, ode(dfx.Tsit5(scan_kind="lax"), COARSE)),
        ("ExponentialEuler (DDIM)", "ode", 1.0, ode(s.ExponentialEuler(), FINE)),
        ("DPMSolverPP2M", "ode", 2.0, ode(s.DPMSolverPP2M(), FINE)),
        ("DPMSolverPP3M", "ode", 3.0, ode(s.DPMSolverPP3M(), FINE)),
        ("UniPC", "ode", 3.0, ode(s.UniPC(), FINE)),
        ("Euler", "strong, additive noise", 1.0, strong(additive, s.Euler(), shark)),
        ("Heun", "strong, additive noise", 1.0, strong(additive, s.Heun(), shark)),
        ("diffrax.SEA", "strong, additive noise", 1.0, strong(additive, dfx.SEA(), shark)),
        ("diffrax.ShARK", "strong, additive noise", 1.5, strong(additive, shark, shark)),
        ("ExponentialEuler", "strong, reverse SDE", 1.0, strong(ancestral, s.ExponentialEuler(), shark, END)),
        ("DPMSolverPP2M (SDE)", "strong, reverse SDE", 1.0, strong(ancestral, s.DPMSolverPP2M(), shark, END)),
        ("Euler", "strong, diagonal noise", 0.5, strong(diagonal, s.Euler(), None)),
        ("diffrax.ItoMilstein", "strong, diagonal noise", 1.0, strong(diagonal, ito, None)),
        ("Euler", "strong, general noise", 0.5, strong(general, s.Euler(), s.Euler())),
        ("Euler", "weak, additive noise", 1.0, weak(s.Euler(), scheduled=False)),
        ("Heun", "weak, additive noise", 2.0, weak(s.Heun(), scheduled=False)),
        ("diffrax.SEA", "weak, additive noise", 1.0, weak(dfx.SEA(), scheduled=False)),
        ("diffrax.ShARK", "weak, additive noise", 2.0, weak(shark, scheduled=False)),
        ("ExponentialEuler", "weak, reverse SDE", 1.0, weak(s.ExponentialEuler(), scheduled=True)),
        ("ExponentialEuler, eta = 1/2", "weak, reverse SDE", 1.0, weak(s.ExponentialEuler(eta=0.5), scheduled=True)),
        ("DPMSolverPP2M (SDE)", "weak, reverse SDE", 1.0, weak(s.DPMSolverPP2M(), scheduled=True)),
        ("Euler", "weak, diagonal noise", 1.0, lambda: (FINE, weak_diagonal_errors(s.Euler(), FINE))),
        ("diffrax.ItoMilstein", "weak, diagonal noise", 1.0, lambda: (FINE, weak_diagonal_errors(ito, FINE))),
    ]


def measure(name: str, kind: str, order: float, find: Callable[[], tuple[list[int], list[float]]]) -> dict[str, Any]:
    """One row of the table."""
    began = time.perf_counter()
    with jax.enable_x64(True):
        levels, errors = find()
    found = slope(levels, errors)
    return record(
        "order",
        round(found, 3),
        {"solver": name, "error": kind},
        published=order,
        bar=f"at least the stated order - {SLACK}",
        met=found >= order - SLACK,
        began=began,
        finest_error=errors[-1],
        finest_steps=levels[-1],
        levels=levels,
        errors=errors,
    )


def part(kind: str, options: Any) -> Iterator[Any]:
    """All solvers in one sense; two of them in a smoke run."""
    for case in cases():
        if case[1].startswith(kind) and (not options.smoke or case[0] in ("UniPC", "diffrax.ItoMilstein")):
            yield measure(*case)


if __name__ == "__main__":
    STUDY.run(__doc__, {k: partial(part, k) for k in ("ode", "strong", "weak")}, smoke=("ode", "weak"))
