"""What the speed of ``simulate`` rests on, without a clock: compiled programs beside those of hand-written code.

The hand-written problems are the benchmarks' own (experiments/benchmarks/problems.py), at fewer samples.
"""

import functools
import importlib.util
import pathlib
import re
import sys

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import compiled

from bridgejax.bridges import pin, probability_flow, reverse
from bridgejax.processes import SDE, keys, schedules
from bridgejax.solve import simulate, simulate_batch, simulate_path, solvers

STEPS = 100
PROBLEMS = pathlib.Path(__file__).parents[2] / "experiments" / "benchmarks" / "problems.py"
if not PROBLEMS.exists():
    pytest.skip("the benchmarks are not beside these tests", allow_module_level=True)


def _load():
    spec = importlib.util.spec_from_file_location("benchmark_problems", PROBLEMS)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


P = _load()
VP = schedules.vp(0.1, 8.0)
# solver, its hand-written step, whether it wants Levy areas
SOLVERS = {
    "Euler": (solvers.Euler(), P.euler_step, False),
    "Heun": (solvers.Heun(), P.heun_step, False),
    "dfx.Heun": (dfx.Heun(), P.heun_step, False),
    "dfx.SEA": (dfx.SEA(), P.sea_step, True),
    "dfx.ShARK": (dfx.ShARK(), P.shark_step, True),
}


def _compile(run, p):
    return jax.jit(lambda params, keys, x0s: run(params, keys, x0s, p.ts)).lower(p.params, p.keys, p.x0s).compile()


@functools.cache
def _pair(name, gradient):
    """Ours and hand-written, compiled: the network as drift, 256 samples."""
    p, (solver, step, levy) = P.mlp(256, STEPS, 64), SOLVERS[name]
    wrap = P.squares if gradient else (lambda run: run)
    mine = _compile(wrap(P.ours(p.sde, solver)), p)
    hand = _compile(wrap(P.by_hand(p, step, levy=levy, remat=gradient)), p)
    return mine, hand


# compiled text ------------------------------------------------------------

FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast")  # no work at run time


def _computations(text):
    found, name = {}, None
    for line in text.splitlines():
        head = re.match(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$", line)
        if head and not line.startswith(" "):
            name = head.group(1)
            found[name] = []
        elif name and " = " in line:
            found[name].append(line)
    return found


def _operation(line):
    return re.search(r"(?:^|[\s})\]])([a-z][a-z\-]*)\(", line.split(" = ", 1)[1]).group(1)


def _loops(text):
    """``(trips, operations of the body)`` of every while loop whose trip count is known."""
    computations = _computations(text)
    loops = []
    for lines in computations.values():
        for line in lines:
            if _operation(line) == "while":
                body = re.search(r"body=%?([\w.\-]+)", line).group(1)
                trips = re.search(r'"known_trip_count":\{"n":"(\d+)"', line)
                operations = [_operation(inner) for inner in computations[body]]
                loops.append((int(trips.group(1)) if trips else None, [o for o in operations if o not in FREE]))
    return loops


def _step_work(compiled):
    """Operations in the bodies of the loops over steps, forward and backward: what runs STEPS times."""
    bodies = [body for trips, body in _loops(compiled.as_text()) if trips == STEPS]
    assert bodies, "no loop over the steps was found: has the text of compiled programs changed?"
    return sum(len(body) for body in bodies)


# random numbers, in the traced program ------------------------------------------------------------


def _drawn(jaxpr, times=1):
    """Numbers drawn and keys derived by a jaxpr, loops counted as often as they run."""
    bits = derived = 0
    for eqn in jaxpr.eqns:
        size = sum(int(np.prod(v.aval.shape)) for v in eqn.outvars)
        bits += times * size if eqn.primitive.name == "random_bits" else 0
        derived += times * size if eqn.primitive.name in ("random_fold_in", "random_split") else 0
        turns = eqn.params["length"] if eqn.primitive.name == "scan" else 1
        for value in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda v: hasattr(v, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                more = _drawn(inner, times * turns)
                bits, derived = bits + more[0], derived + more[1]
    return bits, derived


def _numbers(run, p):
    return _drawn(jax.make_jaxpr(run)(p.params, p.keys, p.x0s, p.ts).jaxpr)


@pytest.mark.parametrize("name", SOLVERS)
def test_as_many_random_numbers_as_by_hand(name):
    p, (solver, step, levy) = P.toy(5, STEPS), SOLVERS[name]
    hand, _ = _numbers(P.by_hand(p, step, levy=levy), p)
    mine, derived = _numbers(P.ours(p.sde, solver), p)
    assert hand == 5 * STEPS * 2 * (2 if levy else 1)
    assert mine == hand
    blocks = -(-STEPS // 32)
    assert derived <= 5 * (1 + blocks) * (2 if levy else 1)  # a key of W's own and one per block, and so of H


def test_an_ode_draws_nothing():
    p = P.toy(5, STEPS)
    assert _numbers(P.ours(lambda params: SDE(lambda t, x, args: -x, None)), p)[0] == 0
    denoiser = jax.tree_util.Partial(P.ou_drift, p.params)
    assert _numbers(P.ours(lambda params: probability_flow(VP, denoiser=denoiser)), p)[0] == 0


def test_streamed_noise_is_as_many_numbers_and_a_block_of_memory():
    n, steps = 4096, 256
    sde, ts = SDE(lambda t, x, args: -x, lambda t, x, args: 1.0), jnp.linspace(0.0, 1.0, steps + 1)

    def run(key, x0):
        return simulate(sde, key, x0, ts, solver=solvers.Euler())

    x0, key = jnp.zeros(n), jax.random.key(0)
    assert _drawn(jax.make_jaxpr(run)(key, x0).jaxpr)[0] == n * steps
    temp = jax.jit(run).lower(key, x0).compile().memory_analysis().temp_size_in_bytes
    assert temp < 8 * 32 * n * 4  # a few blocks of 32 steps; all noise at once would be 256 steps and its bits
    back = jax.grad(lambda x0, key: jnp.sum(run(key, x0) ** 2))
    temp = jax.jit(back).lower(x0, key).compile().memory_analysis().temp_size_in_bytes
    assert temp < 12 * 32 * n * 4


# work per step ------------------------------------------------------------


@pytest.mark.parametrize("gradient", [False, True], ids=["forward", "gradient"])
@pytest.mark.parametrize("name", SOLVERS)
def test_a_step_compiles_to_what_it_is_by_hand(name, gradient):
    mine, hand = _pair(name, gradient)
    slack = 4 if SOLVERS[name][2] else 1  # Levy solvers correct for noise that depends on time
    assert _step_work(mine) <= _step_work(hand) + slack
    dots = [text.as_text().count(" dot(") for text in (mine, hand)]
    assert dots[0] == dots[1] > 0  # as many evaluations of the network
    # beyond the loops written by hand: the derivation of the role's key, of its blocks' and the last, shorter block; of
    # W, and of H
    loops = [len(_loops(text.as_text())) for text in (mine, hand)]
    assert loops[0] <= loops[1] + (6 if SOLVERS[name][2] else 3)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_gradient_needs_the_memory_of_a_rematerialised_scan(name):
    temp = [c.memory_analysis().temp_size_in_bytes for c in _pair(name, True)]
    assert temp[0] <= 1.2 * temp[1]
    assert temp[0] < 256 * STEPS * 64 * 4  # less than one hidden layer of all steps: nothing of the network is kept


@pytest.mark.parametrize(
    ("bend", "solver", "hand"),
    [
        (reverse, solvers.ExponentialEuler(), P.ancestral_by_hand),
        (probability_flow, solvers.DPMSolverPP2M(), P.dpm2m_by_hand),
    ],
)
def test_exponential_solvers_evaluate_the_network_as_often_as_by_hand(bend, solver, hand):
    p = P.mlp(64, STEPS, 32)

    def make(params):
        return bend(VP, denoiser=jax.tree_util.Partial(p.drift, params))

    mine = _compile(P.squares(P.ours(make, solver)), p)
    by_hand = _compile(P.squares(hand(p, VP, remat=True)), p)
    dots = [c.as_text().count(" dot(") for c in (mine, by_hand)]
    assert dots[0] == dots[1] > 0
    assert mine.cost_analysis()["flops"] <= 1.15 * by_hand.cost_analysis()["flops"]
    assert mine.memory_analysis().temp_size_in_bytes <= 1.2 * by_hand.memory_analysis().temp_size_in_bytes


# traces ------------------------------------------------------------

_TRACES = []


def _counting_drift(theta, t, x, args):
    _TRACES.append(None)
    return -theta * x


def _one(t, x, args):
    return 1.0


def _counted(theta):
    return SDE(jax.tree_util.Partial(_counting_drift, jnp.float32(theta)), _one)


def _traces(calls):
    """How often the drift was traced in each call."""
    counts = []
    for call in calls:
        _TRACES.clear()
        jax.block_until_ready(call())
        counts.append(len(_TRACES))
    return counts


def test_a_second_call_traces_nothing():
    ts, x0 = jnp.linspace(0.0, 1.0, 7), jnp.ones(3)  # a shape and a grid that no other test uses

    def calls(run):
        return [lambda k=k: run(_counted(1.0 + k), jax.random.key(k), x0 + k) for k in range(4)]

    for run in (
        lambda sde, key, x: simulate(sde, key, x, ts),
        lambda sde, key, x: simulate(sde, key, x, np.asarray(ts) * 0.5, solver=solvers.Heun()),
        lambda sde, key, x: simulate_path(sde, key, x, ts).xs,
        lambda sde, key, x: simulate_batch(sde, keys(key, 70), jnp.tile(x, (70, 1)), ts, micro_batch=64),
    ):
        first, *later = _traces(calls(run))
        assert first > 0
        assert later == [0, 0, 0]


def test_five_end_points_are_one_program():
    ts, counts = jnp.linspace(0.0, 1.0, 6), []
    for end in range(5):
        sde = pin(schedules.brownian(1.0), jnp.full(61, float(end)))  # a shape that no other test compiles
        with compiled() as names:
            jax.block_until_ready(simulate(sde, jax.random.key(end), jnp.zeros(61), ts))
        counts.append(names.count("_run_jit"))
    assert counts == [1, 0, 0, 0, 0]
