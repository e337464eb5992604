"""The runs that kills.py ends: small problems of six methods, each life of a run a fork of one process.

    echo '{"method": "edm", "directory": "RUN", "steps": 40}' | python experiments/reliability/lives.py CACHE

For every line of JSON on stdin a child is forked before JAX has started anything, so that importing is paid for once;
it says "pid P", then the step of every line of its metrics, and the process says "done STATUS" at its end. With
"beside", another run directory, the child compares both instead: status 0 where the last checkpoints agree bit for bit.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import bridgejax as bj

BATCH, EVERY, ROUND = 16, 2, 6  # rows; updates of a checkpoint and line; of a round
ROWS = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)


def _density(x: jax.Array) -> jax.Array:
    return -0.5 * jnp.sum((x - 1.0) ** 2)


def _pairs(coupling: Any) -> bj.data.Pairs:
    return bj.data.Pairs(ROWS, ROWS[::-1] + 1, BATCH, 0, coupling)


def problem(name: str) -> tuple[bj.Method, Any, int | None]:
    """A method, its data, and the updates of a round."""
    methods, ts = bj.methods, bj.grids.uniform(4)
    if name == "edm":
        return methods.edm(shape=(2,)), ROWS, None
    if name == "i2sb":
        return methods.i2sb(shape=(2,)), _pairs(bj.couplings.paired), None
    if name == "lightsb":
        return methods.lightsb(epsilon=1.0, dim=2, components=3), _pairs(bj.couplings.independent), None
    if name == "riemannian_flow":
        points = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
        return methods.riemannian_flow(bj.manifolds.Sphere(1)), points, None
    if name == "dsbm":
        return methods.dsbm(shape=(2,), cache=BATCH, ts=ts), _pairs(bj.couplings.independent), ROUND
    if name == "pis, replay":
        return methods.pis(_density, dim=2, replay=32, ts=ts), ROWS[:, :0], ROUND
    raise ValueError(f"unknown method {name!r}")


def train(job: dict[str, Any]) -> None:
    """Train to the end; a checkpoint that would have to be skipped is an error."""
    warnings.filterwarnings("error", message=".*is damaged")
    method, data, rounds = problem(job["method"])
    bj.fit(
        method,
        data,
        jax.random.key(job.get("seed", 0)),
        steps=job["steps"],
        batch_size=BATCH,
        refresh_every=rounds,
        log_every=EVERY,
        checkpoint_every=EVERY,
        directory=job["directory"],
        callbacks=[lambda info: os.write(1, b"%d\n" % info.step)],
    )


def compare(job: dict[str, Any]) -> None:
    """Raise unless both runs ended in the same state, with the same lines of metrics."""
    method, data, _ = problem(job["method"])
    target = method.init(jax.random.key(0), data)
    states, lines = [], []
    for directory in (job["directory"], job["beside"]):
        found = bj.training.restore(os.path.join(directory, "checkpoints"), target, step=job["steps"])
        numbers = bj.training.records.read(directory)
        lines.append([{k: v for k, v in line.items() if "second" not in k} for line in numbers])
        states.append([np.asarray(leaf) for leaf in jax.tree.leaves(_bits(found.tree))])
    for one, other in zip(*states, strict=True):
        np.testing.assert_array_equal(one.view(np.uint8), other.view(np.uint8))
    assert lines[0] == lines[1], "metrics differ"
    assert [line["step"] for line in lines[0]] == list(range(EVERY, job["steps"] + 1, EVERY))


def _bits(tree: Any) -> Any:
    """Keys as their numbers, scalars as arrays: what can be compared bit by bit."""

    def bits(leaf: jax.Array) -> jax.Array:
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jnp.atleast_1d(jax.random.key_data(leaf) if is_key else leaf)

    return jax.tree.map(bits, tree)


def main() -> None:
    """Serve."""
    jax.config.update("jax_compilation_cache_dir", sys.argv[1])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                (compare if "beside" in job else train)(job)
                status = 0
            finally:
                os._exit(status)
        os.write(1, b"pid %d\n" % child)
        os.write(1, b"done %d\n" % os.waitpid(child, 0)[1])


if __name__ == "__main__":
    main()
