"""One process of a job of several, started by test_hosts: FOLDER ADDRESS PROCESSES PROCESS DEVICES STEPS MESH TASK."""

import hashlib
import json
import os
import signal
import sys

import jax
import numpy as np

FOLDER, ADDRESS, PROCESSES, PROCESS, DEVICES, STEPS, MESH, TASK = sys.argv[1:]
ME = int(PROCESS)
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={DEVICES}"
if int(PROCESSES) > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(ADDRESS, int(PROCESSES), ME, shutdown_timeout_seconds=10)

import optax  # noqa: E402

import bridgejax as bj  # noqa: E402
from bridgejax.training.hosts import here  # noqa: E402

axes = json.loads(MESH)
everywhere = jax.make_mesh(tuple(axes.values()), tuple(axes))
x = np.random.default_rng(0).normal(size=(96, 4)).astype(np.float32)


def loss(params, keys, batch):
    noisy = batch + jax.vmap(lambda key: jax.random.normal(key, (4,)))(keys)
    return ((jax.nn.tanh(noisy @ params["in"]) @ params["out"] - batch) ** 2).mean(), {}


def process(params):
    sde = bj.SDE(lambda t, x, args: -x, lambda t, x, args: 1.0)
    return bj.Process(lambda key, args: jax.random.normal(key, (4,)), sde, bj.grids.uniform(4))


random = np.random.default_rng(1)
first = {"in": random.normal(size=(4, 512)).astype(np.float32), "out": np.zeros((512, 4), np.float32)}
method = bj.gradient_method(loss, process, optax.adam(1e-3), params=first)
options = {"steps": int(STEPS), "batch_size": 8, "log_every": 2, "checkpoint_every": 4, "directory": FOLDER + "/run"}


def signalled(info):
    """The signal that the second process alone is sent."""
    if ME == 1 and info.step == 6:
        os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGTERM}[TASK])


def digest(params):
    return hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params))).hexdigest()


def train(mesh=everywhere, data=x, **more):
    state = bj.fit(method, data, jax.random.key(0), mesh=mesh, **options | more)
    params = here(method.params(state))
    drawn = bj.sample(method.process(state), bj.keys(jax.random.key(2), 8), mesh=everywhere)
    return {
        "digest": digest(params),
        "whole": sum(float(np.abs(leaf).sum()) for leaf in jax.tree.leaves(params)),
        "samples": np.asarray(here(drawn)).tolist(),
        "shards": sorted({shard.data.shape for shard in state.params["in"].addressable_shards}),
    }


def refused(**more):
    try:
        return train(**more)
    except ValueError as error:
        return str(error)


if TASK == "refusals":
    local = jax.make_mesh((2,), ("data",), devices=jax.local_devices())
    found = {
        "local": refused(mesh=local),
        "none": refused(mesh=None),
        "data": refused(data=x + ME),
        "alone": "",
    }
    try:
        bj.training.checkpoints.save(FOLDER + "/alone", 0, {"a": np.zeros(3)})
    except ValueError as error:
        found["alone"] = str(error)
else:
    try:
        found = train(callbacks=[signalled] if TASK in ("kill", "stop") else [])
    except bj.training.Interrupted as stop:
        found = {"stopped": stop.step, "signal": stop.signal}
with open(f"{FOLDER}/{PROCESSES}-{PROCESS}-{TASK}.json", "w") as file:
    json.dump(found, file)
