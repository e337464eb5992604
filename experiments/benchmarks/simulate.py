"""How fast ``simulate`` is: against code written by hand, against diffrax's ``diffeqsolve``, against torchsde.

Claims (medians of >= 20 interleaved rounds, each beside its A/A control; see harness.py):

    forward     simulate_batch and vmap(simulate), Euler             <= 1.10 x hand-written scan
    gradient    d sum(x_T^2) / d params, Euler and Heun              <= 1.15 x hand-written scan with jax.checkpoint
    solvers     other solvers, forward and gradient                  <= 1.6  x hand-written equivalent
    diffrax     diffeqsolve with UnsafeBrownianPath, toy             >= 3    x our time
    torchsde    sdeint, Euler, toy and mlp                           >= 30   x our time

    python experiments/benchmarks/simulate.py                            all; results/simulate.json
    python experiments/benchmarks/simulate.py --only forward gradient    some of it

The problems and the hand-written code are in problems.py. torchsde draws the whole batch from one generator, which is
less than one key per sample costs, so its ratio is to our disadvantage; it runs where it is installed ([bench]).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import diffrax as dfx
import harness
import jax
import jax.numpy as jnp
import problems
from harness import Pick, Study, Table
from jax import Array
from problems import Problem, Run, ours, squares

import bridgejax.processes as processes
from bridgejax.bridges import probability_flow, reverse
from bridgejax.processes import SDE
from bridgejax.solve import simulate_batch, solvers

STUDY = Study(
    "simulate",
    topic="Solvers and speed",
    question="Is simulate as fast as code by hand?",
    answer="As fast as a hand-written scan, forward and backward; several times as fast as diffeqsolve where the "
    "drift is cheap, and tens to hundreds of times as fast as torchsde.",
    brief="Yes; diffeqsolve and torchsde take longer.",
    budget="10 minutes on two cores",
    floor="baseline against itself",
    picks=(
        Pick(
            "time over the baseline's",
            {"part": "forward", "problem": "toy", "candidate": "simulate_batch"},
            "time ratio",
        ),
    ),
    tables=(
        Table(
            rows=("problem", "solver", "candidate"),
            where={"part": "forward"},
            title="Forward, beside a hand-written scan",
            text="Median (quartiles) of the time over the baseline's, in interleaved rounds.",
            also=("processor_ratio", "ms", "baseline_ms"),
        ),
        Table(
            rows=("problem", "solver", "candidate"),
            where={"part": "gradient"},
            title="Gradient, beside a hand-written scan with jax.checkpoint",
            also=("processor_ratio", "ms", "baseline_ms"),
        ),
        Table(
            rows=("problem", "solver", "pass"),
            where={"part": "solvers"},
            title="Other solvers, beside a hand-written equivalent",
            also=("processor_ratio", "ms", "baseline_ms"),
        ),
        Table(
            rows=("problem", "candidate"),
            where={"part": "diffrax"},
            title="diffrax's diffeqsolve over ours",
            text="A network's matrix products are common to both.",
            also=("processor_ratio", "ms", "baseline_ms"),
        ),
        Table(
            rows=("problem", "candidate"),
            where={"part": "torchsde"},
            title="torchsde over ours",
            also=("processor_ratio", "ms", "baseline_ms"),
        ),
    ),
)


def timed(run: Run, p: Problem) -> Callable[[], Any]:
    """Jitted, with its arguments."""
    compiled = jax.jit(run)
    return lambda: compiled(p.params, p.keys, p.x0s, p.ts)


def forward(p: Problem, options: argparse.Namespace) -> list[dict[str, Any]]:
    """``simulate_batch`` called as users call it, and ``jit(vmap(simulate))``."""
    sde = p.sde(p.params)
    candidates = {
        "simulate_batch": lambda: simulate_batch(sde, p.keys, p.x0s, p.ts, solver=solvers.Euler()),
        "vmap(simulate)": timed(ours(p.sde, solvers.Euler()), p),
    }
    pairs = harness.rounds(options)
    rows = harness.compare(timed(problems.by_hand(p, problems.euler_step), p), candidates, pairs=pairs)
    return harness.record({"problem": p.name, "solver": "euler"}, rows, at_most=dict.fromkeys(candidates, 1.10))


def gradient(p: Problem, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Euler and Heun."""
    records = []
    for name, solver, step in (
        ("euler", solvers.Euler(), problems.euler_step),
        ("heun", solvers.Heun(), problems.heun_step),
    ):
        if options.smoke and name != "euler":
            continue
        hand = timed(squares(problems.by_hand(p, step, remat=True)), p)
        pairs = harness.rounds(options)
        rows = harness.compare(hand, {"grad(simulate)": timed(squares(ours(p.sde, solver)), p)}, pairs=pairs)
        records += harness.record({"problem": p.name, "solver": name}, rows, at_most={"grad(simulate)": 1.15})
    return records


def other_solvers(p: Problem, options: argparse.Namespace) -> list[dict[str, Any]]:
    """diffrax's solvers and the exponential ones, forward and gradient."""
    schedule = processes.schedules.vp(0.1, 8.0)

    def bent(bend: Callable[..., SDE]) -> Callable[[Any], SDE]:
        return lambda params: bend(schedule, denoiser=jax.tree_util.Partial(p.drift, params))

    cases = {
        "dfx.Heun": (p.sde, dfx.Heun(), lambda r: problems.by_hand(p, problems.heun_step, remat=r)),
        "dfx.SEA": (p.sde, dfx.SEA(), lambda r: problems.by_hand(p, problems.sea_step, levy=True, remat=r)),
        "dfx.ShARK": (p.sde, dfx.ShARK(), lambda r: problems.by_hand(p, problems.shark_step, levy=True, remat=r)),
        "ExponentialEuler": (
            bent(reverse),
            solvers.ExponentialEuler(),
            lambda r: problems.ancestral_by_hand(p, schedule, remat=r),
        ),
        "DPMSolverPP2M": (
            bent(probability_flow),
            solvers.DPMSolverPP2M(),
            lambda r: problems.dpm2m_by_hand(p, schedule, remat=r),
        ),
    }
    records = []
    for name, (make, solver, hand) in cases.items():
        mine = ours(make, solver)
        for what, transform, remat in (("forward", lambda f: f, False), ("gradient", squares, True)):
            if options.smoke and (name, what) != ("dfx.ShARK", "forward"):
                continue
            rows = harness.compare(
                timed(transform(hand(remat)), p), {"simulate": timed(transform(mine), p)}, pairs=harness.rounds(options)
            )
            case = {"problem": p.name, "solver": name, "pass": what}
            records += harness.record(case, rows, at_most={"simulate": 1.6})
    return records


def against_diffrax(p: Problem, options: argparse.Namespace) -> list[dict[str, Any]]:
    """``diffeqsolve`` on the same grid, vmapped over the same keys; the baseline is ours."""

    def run(params: Any, keys: Array, x0s: Array, ts: Array) -> Array:
        def one(key: Array, x0: Array) -> Array:
            path = dfx.UnsafeBrownianPath(x0.shape, key)
            terms = dfx.MultiTerm(
                dfx.ODETerm(lambda t, x, args: p.drift(params, t, x, args)),
                dfx.ControlTerm(lambda t, x, args: lx_diagonal(p.sigma, x), path),
            )
            steps = ts.shape[0] - 1
            solution = dfx.diffeqsolve(
                terms, dfx.Euler(), ts[0], ts[-1], 1.0 / steps, x0, max_steps=steps + 1, adjoint=forward_only
            )
            assert solution.ys is not None
            return solution.ys[0]

        return jax.vmap(one)(keys, x0s)

    forward_only = dfx.ForwardMode()  # no checkpoints; UnsafeBrownianPath has no reverse mode at all
    mine = ours(p.sde, solvers.Euler())
    bar = {"diffeqsolve": 3.0} if p.name == "toy" else {}  # a network's matrix products are common to both
    rows = harness.compare(timed(mine, p), {"diffeqsolve": timed(run, p)}, pairs=harness.rounds(options))
    return harness.record({"problem": p.name}, rows, at_least=bar)


def lx_diagonal(sigma: float, x: Array) -> Any:
    """The diffusion as the operator that diffrax's ``ControlTerm`` asks for."""
    import lineax

    return lineax.DiagonalLinearOperator(jnp.full(x.shape, sigma))


def against_torchsde(p: Problem, options: argparse.Namespace) -> list[dict[str, Any]]:
    """``torchsde.sdeint``, Euler, default Brownian motion, no gradient; the baseline is ours."""
    try:
        import torch
        import torchsde
    except ModuleNotFoundError as missing:
        print(f"torchsde: skipped, {missing.name} is not installed (pip install 'bridgejax[bench]')")
        return []

    class Problem(torch.nn.Module):
        noise_type, sde_type = "diagonal", "ito"

        def f(self, t: Any, y: Any) -> Any:
            return drift(t, y)

        def g(self, t: Any, y: Any) -> Any:
            return torch.full_like(y, p.sigma)

    if p.name == "toy":
        theta = float(p.params["theta"])

        def drift(t: Any, y: Any) -> Any:
            return -theta * y

    else:
        layers = []
        for w, b in p.params:
            layer = torch.nn.Linear(*w.shape)
            with torch.no_grad():
                layer.weight.copy_(torch.tensor(jax.device_get(w).T.copy()))
                layer.bias.copy_(torch.tensor(jax.device_get(b).copy()))
            layers += [layer, torch.nn.SiLU()]
        net = torch.nn.Sequential(*layers[:-1])

        def drift(t: Any, y: Any) -> Any:
            return net(torch.cat([t.expand(y.shape[0], 1), y], dim=1))

    y0 = torch.tensor(jax.device_get(p.x0s).copy())
    ts = torch.tensor([float(p.ts[0]), float(p.ts[-1])])
    dt = float(p.ts[-1] - p.ts[0]) / (p.ts.shape[0] - 1)

    def run(threads: int) -> Any:
        torch.set_num_threads(threads)
        with torch.no_grad():
            return torchsde.sdeint(Problem(), y0, ts, method="euler", dt=dt)

    # all cores, as torch does by default, and one, which is faster where the cores are busy
    theirs = {"torchsde": partial(run, os.cpu_count() or 1), "torchsde 1 core": partial(run, 1)}
    rows = harness.compare(timed(ours(p.sde, solvers.Euler()), p), theirs, pairs=harness.rounds(options))
    return harness.record({"problem": p.name}, rows, at_least=dict.fromkeys(theirs, 30.0))


def part(case: Callable[..., list[Any]], options: argparse.Namespace) -> Iterator[Any]:
    """One case on both problems; a small toy in a smoke run."""
    for p in (problems.toy(64, 8),) if options.smoke else (problems.toy(), problems.mlp()):
        yield from case(p, options)


if __name__ == "__main__":
    CASES = {
        "forward": forward,
        "gradient": gradient,
        "solvers": other_solvers,
        "diffrax": against_diffrax,
        "torchsde": against_torchsde,
    }
    STUDY.run(
        __doc__,
        {name: partial(part, case) for name, case in CASES.items()},
        harness.options,
        environment=harness.environment,
    )
