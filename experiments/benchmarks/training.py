"""How fast training is: against a step written by hand, and against torchcfm on its own two-dimensional example.

Claims (medians of >= 20 interleaved rounds, each beside its A/A control; see harness.py):

    step        bridge_matching's step (Adam, EMA, norms, metrics)      <= 1.10 x a hand-written JAX step (Adam, EMA)
    torchcfm    flow matching 8gaussians -> moons, batch 256,
                independent coupling                                    >= 3    x our time
                exact minibatch optimal transport                       >= 1    x our time

    python experiments/benchmarks/training.py --torchcfm-dir DIR

Both sides train the same network, 3-64-64-64-2 with SELU as in the example, on batches of 256.

step: the batches are NumPy arrays made beforehand; both steps are jitted with their state donated, fold the step's
number into a key inside, and draw with one key per sample. Ours also computes the gradient's norm, warms its average
up and returns metrics. fit: the whole loop of ``fit`` against a bare Python loop around the hand-written step, both
making their batches as they go (no bar: what the loop's services cost).

torchcfm: the loop of examples/2D_tutorials/Flow_matching_tutorial.ipynb is read out of a copy of
github.com/atong01/conditional-flow-matching given by ``--torchcfm-dir`` and timed as it is, drawing its data as it
does (and "step": the same with the data drawn beforehand); ours is ``fit`` on ``Pairs`` of finite sets of 20,000
points, which are data as a user has them. torchcfm has no average; ours keeps one. It needs torch, POT, matplotlib and
torchdyn's data sets (pip install pot; pip install --no-deps torchdyn).
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import pathlib
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import harness
import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
from harness import Pick, Study, Table
from jax import Array

from bridgejax import couplings
from bridgejax.data import Pairs, toys
from bridgejax.methods import bridge_matching
from bridgejax.training import Method, fit

STUDY = Study(
    "training",
    topic="Solvers and speed",
    question="Is training as fast as a step by hand?",
    answer="As fast as by hand, EMA and metrics included; several times as fast as torchcfm's own example on its own "
    "problem, and faster with exact minibatch transport.",
    brief="Yes; torchcfm takes several times as long.",
    budget="10 minutes on two cores",
    floor="baseline against itself",
    picks=(Pick("time over the baseline's", {"candidate": "Method.step"}, "time ratio"),),
    tables=(
        Table(
            rows=("case", "candidate"),
            where={"part": "step"},
            title="Ours, over a step by hand in a bare loop",
            text="Median (quartiles) of interleaved rounds.",
            also=("steps", "processor_ratio", "ms", "baseline_ms"),
        ),
        Table(
            rows=("case", "candidate"),
            where={"part": "torchcfm"},
            title="torchcfm over ours",
            also=("steps", "processor_ratio", "ms", "baseline_ms"),
        ),
    ),
)
BATCH = 256
RATE, DECAY = 1e-3, 0.999
NOTEBOOK = "examples/2D_tutorials/Flow_matching_tutorial.ipynb"


def apply(params: Any, t: Array, x: Array, args: Any) -> Array:
    """The example's network: three hidden layers of SELU on (x, t)."""
    h = jnp.concatenate([x, jnp.reshape(t, (1,))])
    for w, b in params[:-1]:
        h = jax.nn.selu(h @ w + b)
    w, b = params[-1]
    return h @ w + b


def start() -> Any:
    """Parameters to start from."""
    return problems.mlp_params((3, 64, 64, 64, 2))


def method() -> Method:
    """Flow matching as users write it."""
    return bridge_matching((apply, start()), shape=(2,), sigma=0.0, optimizer=optax.adam(RATE), ema=DECAY)


def data(coupling: Any = None) -> Pairs:
    """8gaussians and moons, 20,000 points each."""
    return Pairs(toys.sample("8gaussians", 0, 20_000), toys.sample("moons", 1, 20_000), BATCH, coupling=coupling)


# the step ----------------------------------------------------------------------------------------------------------


def hand_written() -> tuple[Any, Callable[..., Any]]:
    """``(state, step)`` of flow matching with Adam and an average, in plain JAX."""
    optimizer = optax.adam(RATE)

    def one(params: Any, key: Array, x0: Array, x1: Array) -> Array:
        t = jax.random.uniform(key, minval=1e-3, maxval=1.0 - 1e-3)
        error = apply(params, t, (1.0 - t) * x0 + t * x1, None) - (x1 - x0)
        return jnp.mean(error**2)

    def loss(params: Any, keys: Array, batch: Any) -> Array:
        return jnp.mean(jax.vmap(one, (None, 0, 0, 0))(params, keys, batch["source"], batch["target"]))

    def step(state: Any, key: Array, i: Any, batch: Any) -> tuple[Any, Array]:
        params, opt_state, average = state
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, i), jnp.arange(BATCH))
        value, grads = jax.value_and_grad(loss)(params, keys, batch)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        average = jax.tree.map(lambda e, p: DECAY * e + (1.0 - DECAY) * p, average, params)
        return (params, opt_state, average), value

    params = start()
    return (params, optimizer.init(params), jax.tree.map(jnp.copy, params)), jax.jit(step, donate_argnums=0)


def ours() -> tuple[Any, Callable[..., Any]]:
    """``(state, step)`` of the Method, jitted as ``fit`` does."""
    learner = method()

    def step(state: Any, key: Array, i: Any, batch: Any) -> Any:
        return learner.step(state, jax.random.fold_in(key, i), batch)

    return learner.init(jax.random.key(0), None), jax.jit(step, donate_argnums=0)


def running(state: Any, step: Callable[..., Any], batches: list[Any]) -> Callable[[], Any]:
    """A call takes one step per batch, going on from where the last call ended."""
    holder, key = [state], jax.random.key(1)

    def run() -> Any:
        out = None
        for i, batch in enumerate(batches):
            holder[0], out = step(holder[0], key, np.int32(i), batch)
        return holder[0], out

    return run


def looping(steps: int, pairs: Pairs) -> Callable[[], Any]:
    """The hand-written step in a bare loop that makes its batches, from fresh parameters."""
    _, step = hand_written()

    def run() -> Any:
        state, _ = hand_written()
        for i in range(steps):
            state, _ = step(state, jax.random.key(1), np.int32(i), pairs.batch(i))
        return state

    return run


def fitting(steps: int, pairs: Pairs) -> Callable[[], Any]:
    """``fit`` from fresh parameters."""
    learner = method()
    return lambda: fit(learner, pairs, jax.random.key(1), steps=steps)


def steps(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The step alone, and the whole loop."""
    count = 10 if options.smoke else 100
    batches = [data().batch(i) for i in range(count)]
    rows = harness.compare(
        running(*hand_written(), batches), {"Method.step": running(*ours(), batches)}, pairs=harness.rounds(options)
    )
    records = harness.record({"case": "step", "steps": count}, rows, at_most={"Method.step": 1.10})
    if not options.smoke:
        rows = harness.compare(looping(500, data()), {"fit": fitting(500, data())}, pairs=options.pairs)
        records += harness.record({"case": "fit", "steps": 500}, rows)
    return records


# torchcfm ----------------------------------------------------------------------------------------------------------


def example(directory: pathlib.Path, *, transport: bool) -> tuple[dict[str, Any], Callable[[], None]]:
    """The notebook's names and one turn of its training loop, without the report it prints every 5,000 turns."""
    cells = [
        "".join(line for line in cell["source"] if not line.startswith("%"))
        for cell in json.loads((directory / NOTEBOOK).read_text())["cells"]
        if cell["cell_type"] == "code"
    ]
    space: dict[str, Any] = {}
    exec("import time, torch\nfrom torchcfm.conditional_flow_matching import *", space)
    exec("from torchcfm.models.models import *\nfrom torchcfm.utils import sample_8gaussians, sample_moons", space)
    trees = [ast.parse(cell) for cell in cells]
    for tree in trees:
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        exec(compile(ast.Module(functions, []), NOTEBOOK, "exec"), space)
    for cell, tree in zip(cells, trees, strict=True):
        loops = [node for node in tree.body if isinstance(node, ast.For)]
        if len(loops) != 1 or "optimizer.step()" not in cell or ("OTPlanSampler" in cell) != transport:
            continue
        before = [node for node in tree.body if not isinstance(node, ast.For)]
        exec(compile(ast.Module(before, []), NOTEBOOK, "exec"), space)
        turn = ast.parse("def turn(): pass").body[0]
        assert isinstance(turn, ast.FunctionDef)
        turn.body = [node for node in loops[0].body if not isinstance(node, ast.If)]
        exec(compile(ast.fix_missing_locations(ast.Module([turn], [])), NOTEBOOK, "exec"), space)
        return space, space["turn"]
    raise ValueError(f"{NOTEBOOK} has no training loop {'with' if transport else 'without'} OTPlanSampler")


def against_torchcfm(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The example as it is, and its step with the data drawn beforehand; the baseline is ours."""
    directory = options.torchcfm_dir
    if directory is None:
        print("torchcfm: skipped, no --torchcfm-dir")
        return []
    sys.path.insert(0, str(directory))
    try:
        example(directory, transport=False)
    except ModuleNotFoundError as missing:
        print(f"torchcfm: skipped, {missing.name} is not installed (see the head of this file)")
        return []

    count, records = (5 if options.smoke else 100), []
    for name, transport, bar in (("independent", False, 3.0), ("exact OT", True, 1.0)):
        space, turn = example(directory, transport=transport)
        pairs = data(couplings.exact_ot if transport else None)
        theirs = in_threads(turn, count)
        rows = harness.compare(fitting(count, pairs), theirs, pairs=harness.rounds(options))
        case = {"case": name, "steps": count}
        records += harness.record(case, rows, at_least=dict.fromkeys(theirs, bar))
        if not transport:
            drawn = {what: space[what](BATCH) for what in ("sample_8gaussians", "sample_moons")}
            space.update({what: lambda n, x=x: x for what, x in drawn.items()})
            batches = [data().batch(i) for i in range(count)]
            rows = harness.compare(running(*ours(), batches), in_threads(turn, count), pairs=harness.rounds(options))
            records += harness.record({"case": "step alone", "steps": count}, rows)
    return records


def in_threads(turn: Callable[[], None], count: int) -> dict[str, Callable[[], None]]:
    """``count`` turns on all cores, as torch does by default, and on one, which is faster where the cores are busy."""
    import torch

    def run(threads: int) -> None:
        torch.set_num_threads(threads)
        for _ in range(count):
            turn()

    return {"torchcfm": partial(run, os.cpu_count() or 1), "torchcfm 1 core": partial(run, 1)}


def more(parser: argparse.ArgumentParser) -> None:
    """What only this benchmark has."""
    parser.add_argument("--torchcfm-dir", type=pathlib.Path, help="a copy of torchcfm's repository")


if __name__ == "__main__":
    STUDY.run(
        __doc__,
        {"step": steps, "torchcfm": against_torchcfm},
        harness.options,
        more,
        environment=harness.environment,
    )
