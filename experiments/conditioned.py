"""Conditioned nonlinear SDEs: what learning adds to the guide, Euler's error, and parameters from partial observations.

    python experiments/conditioned.py            results/conditioned.json
    python experiments/conditioned.py --smoke    64 paths, 3 updates

Double well dx = (x - x^3) dt + dW from -1 to 1 and to 2, three standard deviations of x_1 away. For every proposal, on
n = 4,096 paths of 200 even steps: ESS (share of n); the log density beside the Euler chain's, by quadrature; the gap
log p - E log weight in nats, which is KL(proposal || conditioned chain); the drift's error, the root mean square of
r + c - grad log h over t <= 0.95 weighted by the bridge's marginals on a grid; and W1 of the unweighted midpoint to the
grid's marginal. Then: auxiliaries and grids; the error of the Euler chain's log density against N, and the estimate
against the chain; FitzHugh-Nagumo's coupling from noisy observations of its first coordinate. Budget: 15 minutes on two
cores.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import optax
from flax import nnx
from guided import CIR, WELL, driftless, unconditioned
from jax import Array
from jax.tree_util import Partial
from study import Pick, Study, Table, record

import bridgejax as bj
from bridgejax import weights
from bridgejax.bridges.guided import weighted_path
from bridgejax.oracles import diffusions, grid
from bridgejax.training import NonFiniteLoss

STUDY = Study(
    "conditioned",
    topic="Conditioned processes",
    question="What does learning add to a guided SDE?",
    answer="Nearly all of what the guide misses: most paths count after weighting, also far in the tail. Learning "
    "from forward paths helps less there, and from adjoint paths it may not even start.",
    brief="Nearly all that the guide misses.",
    budget="15 minutes on two cores",
    picks=(
        Pick("log density", {"end": 2.0, "proposal": "learnt, guided"}, "ESS", show="ess"),
        Pick("log density", {"end": 2.0, "proposal": "guide"}, "guide", show="ess"),
    ),
    tables=(
        Table(
            "log density",
            rows=("end", "proposal"),
            title="Double well from -1",
            text="The log density of the end with its standard error, beside the Euler chain's own; the ESS as a "
            "share of n; the gap in nats; the error of the drift beside the guide's; W1 of the midpoint beside "
            "that of draws of the grid's marginal.",
            also=("ess", "gap", "drift_error", "guide_drift_error", "midpoint_W1", "midpoint_W1_floor", "seconds"),
            published="the chain's",
            digits=4,
        ),
        Table(
            "ESS",
            rows=("process", "auxiliary"),
            columns="grid",
            title="ESS by auxiliary and grid, share of n",
            text="200 steps. Averaged along the line is the default of ``guide(..., start=)``.",
        ),
        Table(
            "order in the number of steps",
            rows=("process",),
            title="Order of the Euler chain's log density in the number of steps",
            text="The errors of the chain at 20, 40, 80 and 160 steps; the estimate by guided paths at 20 and 80 "
            "steps: how many standard errors it is from the chain at most, and its least ESS.",
            also=("errors", "standard_errors_off", "least_ESS"),
            published="theory",
        ),
        Table(
            "coupling",
            rows=("process",),
            title="FitzHugh-Nagumo's coupling from noisy observations of its first coordinate",
            text="By Newton's method on the guided log likelihood from 1; the interval is at 95 % by the observed "
            "information.",
            also=("interval", "ess", "series", "observations", "paths"),
            published="the true one",
        ),
    ),
    missed=(
        (
            {"proposal": "learnt, adjoint"},
            "Every adjoint path from this end explodes: its drift is -b = x^3 - x, so that the first loss is "
            "not finite.",
        ),
    ),
)
STEPS = 200
TS = bj.grids.uniform(STEPS)
CELLS = grid.cells(-4.0, 4.0, 1600)
TIMES = jnp.linspace(0.0, 1.0, 201)


def chain_log_p(sde: bj.SDE, x0: float, v: float, steps: int, low: float = -6.0, high: float = 6.0) -> float:
    """log density of the Euler chain at v, by quadrature in float64 on 1,500 points."""
    xs, h = np.linspace(low, high, 1500), 1.0 / steps
    drift = np.asarray(jax.vmap(lambda x: sde.drift(0.0, x, None))(jnp.asarray(xs)), float)
    g = np.broadcast_to(np.asarray(jax.vmap(lambda x: sde.diffusion(0.0, x, None))(jnp.asarray(xs)), float), xs.shape)

    def density(y: Any, mean: Any, scale: Any) -> Any:
        return np.exp(-0.5 * ((y - mean) / scale) ** 2) / (scale * np.sqrt(2 * np.pi))

    mean, scale, dx = xs + h * drift, g * np.sqrt(h), xs[1] - xs[0]
    kernel = density(xs[:, None], mean, scale) * dx
    at = jnp.asarray(x0)
    first = float(sde.drift(0.0, at, None)), float(sde.diffusion(0.0, at, None))  # pyright: ignore
    p = density(xs, x0 + h * first[0], first[1] * np.sqrt(h))
    for _ in range(steps - 2):
        p = kernel @ p
    return float(np.log(np.sum(p * density(v, mean, scale)) * dx))


# the double well ----------------------------------------------------------------------------------------------------


def truth_of(v: float) -> tuple[Array, Array]:
    """grad log h and the bridge's marginals at TIMES on CELLS."""
    h = grid.backward(WELL, grid.point(v, CELLS), CELLS, TIMES, substeps=4)
    p = grid.forward(WELL, grid.point(-1.0, CELLS), CELLS, TIMES, substeps=4)
    slope = jnp.gradient(jnp.log(jnp.maximum(h, 1e-30)), CELLS[1] - CELLS[0], axis=1)
    return slope, grid.bridge_marginals(p, h, CELLS)


def drift_error(guided: Any, control: Any, slope: Array, marginals: Array) -> float:
    """Root mean square of r + c - grad log h, over every tenth time up to 0.95."""
    index = jnp.arange(0, 191, 10)

    def found(t: Array) -> Array:
        def at(x: Array) -> Array:
            c = 0.0 if control is None else control(t, x, None)
            return (guided.parts.messages.guide(t, x) + c)[0]

        return jax.vmap(at)(CELLS[:, None])

    squares = (jax.jit(jax.vmap(found))(TIMES[index]) - slope[index]) ** 2
    weight = marginals[index] * (CELLS[1] - CELLS[0])
    return float(jnp.sqrt(jnp.mean(jnp.sum(jnp.where(weight > 1e-9, squares * weight, 0.0), axis=1))))


def wasserstein(x: Array, marginal: Array) -> float:
    """W1 of a sample to a density on CELLS: the integral of the difference of the distribution functions."""
    width = float(CELLS[1] - CELLS[0])
    empirical = np.searchsorted(np.sort(np.asarray(x)), np.asarray(CELLS), side="right") / len(x)
    return float(np.sum(np.abs(empirical - np.cumsum(np.asarray(marginal)) * width)) * width)


@partial(jax.jit, static_argnames="n")
def run(parts: Any, x0: Array, ts: Array, n: int) -> tuple[Array, Array]:
    return jax.vmap(lambda key: weighted_path(parts, key, x0, ts))(bj.keys(jax.random.key(0), n))


def learnt(kind: str, v: Array, updates: int) -> tuple[Any, Any, dict[str, float]]:
    """(guided, control, what training said at its end)."""
    net = bj.networks.MLP((1,), width=32, depth=2, time_features=16, rngs=nnx.Rngs(0))
    method = bj.methods.conditioned(
        WELL,
        net,
        start=jnp.array([-1.0]),
        end=v,
        kind=kind,
        ts=bj.grids.quadratic(50),
        ema=0.99,
        optimizer=optax.adam(optax.cosine_decay_schedule(3e-3, updates)),
    )
    said: dict[str, float] = {}
    ends = jnp.tile(v, (128, 1))
    state = bj.fit(
        method, ends, jax.random.key(0), steps=updates, batch_size=128, callbacks=[lambda i: said.update(i.metrics)]
    )
    guided = method.process(state).guided(None)  # pyright: ignore[reportAttributeAccessIssue]
    return guided, guided.parts.control, {f"training_{k}": float(x) for k, x in said.items() if k != "grad_norm"}


def wells(options: Any) -> Iterator[Any]:
    n, updates = (64, 3) if options.smoke else (4096, 400)
    x0 = jnp.array([-1.0])
    bar = "drift better than the guide's, density within 5 standard errors, ESS at least 10 %"
    for end in (1.0, 2.0):
        v = jnp.array([end])
        chain, (slope, marginals) = chain_log_p(WELL, -1.0, end, STEPS), truth_of(end)
        lw = unconditioned(WELL, x0, v, n)
        case = {"end": end, "proposal": "unconditioned"}
        yield record(
            "log density", float(weights.log_z(lw)), case, n=n, published=round(chain, 4),
            standard_error=float(weights.log_z_error(lw)), ess=float(weights.ess(lw)),
        )  # fmt: skip
        plain = bj.guide(WELL, [bj.Observation(1.0, v)], start=x0)
        floor_draws = jax.random.choice(jax.random.key(9), CELLS, (n,), p=marginals[100] / jnp.sum(marginals[100]))
        floor = wasserstein(floor_draws, marginals[100])
        before = drift_error(plain, None, slope, marginals)
        for name in ("Delyon-Hu", "guide", "guided", "forward", "adjoint"):
            began, said = time.perf_counter(), {}
            learning = name not in ("Delyon-Hu", "guide")
            case = {"end": end, "proposal": f"learnt, {name}" if learning else name}
            if name == "Delyon-Hu":
                guided, control = bj.guide(WELL, [bj.Observation(1.0, v)], driftless(WELL, v[0])), None
            elif name == "guide":
                guided, control = plain, None
            else:
                try:
                    guided, control, said = learnt(name, v, updates)
                except NonFiniteLoss as error:
                    why = f"failed: {str(error).split(';')[0]}"
                    yield record("log density", None, case, n=n, bar=bar, met=False, why=why)
                    continue
            spent = time.perf_counter() - began
            xs, lw = run(guided.parts, x0, TS, n)
            error = drift_error(guided, control, slope, marginals)
            value, se, share = (float(f(lw)) for f in (weights.log_z, weights.log_z_error, weights.ess))
            w1, elbo = wasserstein(xs[:, 100, 0], marginals[100]), float(weights.elbo(lw))
            yield record(
                "log density",
                value,
                case,
                n=n,
                published=round(chain, 4),
                bar=bar if learning else None,
                met=error < before and abs(value - chain) < 5 * se and share >= 0.1 if learning else None,
                seconds=spent if learning else None,
                standard_error=se,
                ess=share,
                gap=chain - elbo,
                drift_error=error,
                guide_drift_error=before,
                midpoint_W1=w1,
                midpoint_W1_floor=floor,
                updates=updates if learning else None,
                batch=128 if learning else None,
                **said,
            )


# auxiliaries and grids ----------------------------------------------------------------------------------------------


def auxiliaries(options: Any) -> Iterator[Any]:
    n = 64 if options.smoke else 4096
    cases = (("double well -1 -> 1", WELL, -1.0, 1.0), ("double well -1 -> 2", WELL, -1.0, 2.0), ("CIR", CIR, 0.8, 1.4))
    for name, sde, start, end in cases:
        x0, v = jnp.array([start]), jnp.array([end])
        seen = [bj.Observation(1.0, v)]
        for auxiliary, guided in (
            ("linearised at the end", bj.guide(sde, seen)),
            ("driftless", bj.guide(sde, seen, driftless(sde, v[0]))),
            ("averaged along the line", bj.guide(sde, seen, start=x0)),
        ):
            for on, ts in (("even", TS), ("t (2 - t/T)", bj.grids.quadratic(STEPS))):
                share = weights.ess(run(guided.parts, x0, ts, n)[1])
                yield record("ESS", float(share), {"process": name, "auxiliary": auxiliary, "grid": on}, n=n)


# Euler's own error --------------------------------------------------------------------------------------------------


def steady(t: Array, x: Array, args: Any) -> Array:
    """b = 0.7."""
    return 0.7 * jnp.ones_like(x)


def back_to_zero(t: Array, x: Array, args: Any) -> Array:
    """b = -2 x."""
    return -2.0 * x


def unit(t: Array, x: Array, args: Any) -> float:
    """G = 1."""
    return 1.0


def orders(options: Any) -> Iterator[Any]:
    n = 64 if options.smoke else 4096
    u = grid.backward(WELL, grid.point(1.0, CELLS), CELLS, TIMES, substeps=4)[0]
    well = float(jnp.log(jnp.interp(-1.0, CELLS, u)))
    radial = float(diffusions.radial_ou_log_prob(1.0, 1.5, 1.0, theta=4.0, beta=1.0, sigma=1.0))
    cases = (
        ("Brownian motion with drift", bj.SDE(steady, unit), 0.0, 1.0, -0.5 * 0.09 - 0.5 * np.log(2 * np.pi), -6.0),
        ("OU", bj.SDE(back_to_zero, unit), 1.0, 1.0, float(diffusions.ou_log_prob(1.0, 1.0, 1.0, beta=2.0)), -6.0),
        ("radial OU", diffusions.radial_ou(4.0, 1.0, 1.0), 1.5, 1.0, radial, 0.2),
        ("CIR", CIR, 0.8, 1.4, float(diffusions.cir_log_prob(1.0, 0.8, 1.4, kappa=1.5, theta=1.0, sigma=0.5)), 0.02),
        ("double well", WELL, -1.0, 1.0, well, -6.0),
    )
    counts = (20, 40, 80, 160)
    for name, sde, x0, v, truth, low in cases:
        chains = [chain_log_p(sde, x0, v, k, low=low) for k in counts]
        errors = np.abs(np.array(chains) - truth)
        exact = bool(errors.max() < 1e-5)
        slope = None if exact else float(np.polyfit(np.log(counts), np.log(errors), 1)[0])
        worst, least = 0.0, 1.0
        for k, chain in zip(counts[:3:2], chains[:3:2], strict=True):
            start, end = jnp.array([x0]), jnp.array([v])
            guided = bj.guide(sde, [bj.Observation(1.0, end)], start=start)
            lw = run(guided.parts, start, bj.grids.uniform(k), n)[1]
            se = float(weights.log_z_error(lw)) + 1e-5  # float32 rounding of weights that are all equal
            worst, least = max(worst, abs(float(weights.log_z(lw)) - chain) / se), min(least, float(weights.ess(lw)))
        yield record(
            "order in the number of steps",
            None if slope is None else -slope,
            {"process": name},
            n=n,
            published=None if exact else 1.0,
            bar="1 within 0.15, the estimate within 5 standard errors of the chain, ESS at least 10 %",
            met=(exact or abs(slope + 1.0) < 0.15) and worst < 5 and least >= 0.1,  # pyright: ignore
            why="exact for every number",
            errors=errors,
            steps=list(counts),
            standard_errors_off=worst,
            least_ESS=least,
        )


# parameters ---------------------------------------------------------------------------------------------------------


def nagumo(gamma: Array, t: Array, x: Array, args: Any) -> Array:
    """FitzHugh-Nagumo with coupling gamma."""
    return jnp.array([(x[0] - x[0] ** 3 - x[1]) / 0.5, gamma * x[0] - x[1] + 0.8])


def second_only(t: Array, x: Array, args: Any) -> lineax.AbstractLinearOperator:
    """One noise, two coordinates."""
    return lineax.MatrixLinearOperator(jnp.array([[0.0], [0.4]], jnp.float32))


def parameters(options: Any) -> Iterator[Any]:
    """gamma = 1.5 from noisy observations of the first coordinate, by Newton on the guided log likelihood."""
    series, n = (2, 8) if options.smoke else (10, 100)
    began, truth, horizon, seen, noise = time.perf_counter(), 1.5, 2.0, 5, 0.1
    ts, x0 = bj.grids.uniform(80, horizon), jnp.array([-0.5, -0.6])
    real = bj.SDE(Partial(nagumo, jnp.float32(truth)), second_only, horizon)
    free = bj.kernels.euler(real)
    xs = jax.vmap(lambda key: bj.kernels.walk(free, key, x0, ts).xs[16::16, 0])(bj.keys(jax.random.key(7), series))
    data = xs + noise * jax.random.normal(jax.random.key(8), xs.shape)

    def log_weights(gamma: Array, values: Array, key: Array) -> Array:
        sde = bj.SDE(Partial(nagumo, gamma), second_only, horizon)
        times = [horizon * (k + 1) / seen for k in range(seen)]
        observed = [bj.Observation(t, values[k : k + 1], jnp.array([[1.0, 0.0]]), noise) for k, t in enumerate(times)]
        guided = bj.guide(sde, observed, start=x0)
        return jax.vmap(lambda key: weighted_path(guided.parts, key, x0, ts)[1])(bj.keys(key, n))

    def log_likelihood(gamma: Array) -> tuple[Array, Array]:
        lw = jax.vmap(log_weights, (None, 0, 0))(gamma, data, bj.keys(jax.random.key(11), series))
        return jnp.sum(jax.nn.logsumexp(lw, axis=1) - jnp.log(n)), jnp.mean(jax.vmap(weights.ess)(lw))

    slope = jax.jit(jax.grad(log_likelihood, has_aux=True))
    gamma, step = 1.0, 0.05
    information, ess = 1.0, 0.0
    for _ in range(5):
        (up, ess), (down, _) = slope(jnp.float32(gamma + step)), slope(jnp.float32(gamma - step))
        information = max(float(down - up) / (2 * step), 1.0)
        gamma += float(np.clip(0.5 * float(up + down) / information, -0.5, 0.5))
    error = information**-0.5
    yield record(
        "coupling",
        gamma,
        {"process": "FitzHugh-Nagumo"},
        published=truth,
        bar="the interval holds the truth",
        met=abs(gamma - truth) < 1.96 * error,
        began=began,
        standard_error=error,
        interval=[gamma - 1.96 * error, gamma + 1.96 * error],
        ess=float(ess),
        series=series,
        observations=seen,
        paths=n,
    )


if __name__ == "__main__":
    STUDY.run(__doc__, {"orders": orders, "parameters": parameters, "auxiliaries": auxiliaries, "wells": wells})
