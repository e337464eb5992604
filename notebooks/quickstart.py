# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # bridgejax in ten minutes
#
# Runs on CPU, GPU or TPU, in Colab or anywhere else. bridgejax is on no package index: where it is not installed, the
# first cell installs it from a wheel that lies beside this notebook (`python -m build --wheel` in a checkout makes one;
# on Colab, upload it), or from the checkout that the notebook lies in. It does so **beside the jax that the runtime
# already has**: on Colab that jax is matched to the accelerator, so it is pinned before pip may touch anything.

# %%
import importlib.util
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

if importlib.util.find_spec("bridgejax") is None:  # it is on no package index: a wheel beside this, or a checkout
    wheels, folders = sorted(Path.cwd().glob("bridgejax-*.whl")), Path.cwd().parents
    found = wheels + [folder for folder in folders if (folder / "bridgejax" / "__init__.py").exists()]
    assert found, "put a wheel of bridgejax (python -m build --wheel) beside this notebook, or open it in its checkout"
    kept = {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"].lower().startswith("jax")}
    Path("constraints.txt").write_text("".join(f"{name}=={version}\n" for name, version in kept.items()))
    command = [sys.executable, "-m", "pip", "install", "-q", "-c", "constraints.txt", f"{found[0]}[run]"]
    subprocess.run(command, check=True)

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx
from jax.tree_util import Partial

import bridgejax as bj

version = tuple(int(part) for part in jax.__version__.split(".")[:2])
assert version >= (0, 10), f"bridgejax needs jax 0.10 or newer, this runtime has {jax.__version__}"
print(jax.__version__, jax.devices())

# %% [markdown]
# ## Make an SDE, and bend it
#
# A schedule gives `x_t = alpha(t) x0 + sigma(t) eps`, with data at `t = 0`. `noising` is its SDE; `reverse` makes of an
# SDE and a score a **new SDE on the clock s = T - t** that starts at noise and ends at data. For a mixture of two
# Gaussians the score is known in closed form, so there is nothing to train yet.

# %%
schedule = bj.schedules.cosine()
weights, means, variance = jnp.array([0.3, 0.7]), jnp.array([-1.0, 1.5]), 0.05


def mixture_log_density(x, t):
    a, v = schedule.alpha(t), schedule.alpha(t) ** 2 * variance + schedule.variance(0.0, t)
    return jax.nn.logsumexp(jnp.log(weights) - 0.5 * (x - a * means) ** 2 / v - 0.5 * jnp.log(2 * jnp.pi * v))


def score(t, x, args):
    return jax.grad(mixture_log_density)(x, t)


backward = bj.reverse(schedule, score)
keys = bj.keys(jax.random.key(0), 512)
noise = jax.vmap(jax.random.normal)(keys)
grid = bj.grids.log_snr(100, schedule)
paths = jax.vmap(lambda key, x0: bj.simulate_path(backward, key, x0, grid).xs)(keys, noise)

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), width_ratios=(2, 1), sharey=True)
left.plot(grid, paths[:60].T, lw=0.5, color="tab:blue", alpha=0.6)
left.set(xlabel="s  (noise to data)", ylabel="x", title="the reversal of a mixture")
levels = jnp.linspace(-2.2, 2.7, 300)
right.hist(paths[:, -1], bins=50, density=True, orientation="horizontal", color="tab:blue", alpha=0.5, label="samples")
right.plot(jnp.exp(jax.vmap(lambda x: mixture_log_density(x, 0.0))(levels)), levels, "k", lw=1, label="truth")
right.legend()
plt.show()
print("share on the right:", float((paths[:, -1] > 0.3).mean()), "truth: 0.7")

# %% [markdown]
# `pin` conditions the SDE to end at a point, exactly; a batch of bridges is a `vmap`, in one trace.

# %%
ends = jnp.array([-2.0, 0.0, 2.0])
bridges = jax.vmap(bj.pin, (None, 0))(bj.schedules.brownian(1.0), ends)
grid01 = bj.grids.uniform(200)
three = jax.vmap(lambda sde, key: bj.simulate_path(sde, key, jnp.float32(0.0), grid01).xs)(bridges, keys[:3])
plt.figure(figsize=(5, 2.6))
plt.plot(grid01, three.T)
plt.title("three Brownian bridges")
plt.show()
print(three[:, -1])

# %% [markdown]
# ## Learn a process
#
# A `Method` learns a `Process`: `fit` runs it, `process` hands the model back as a function. Here, diffusion on the two
# moons.

# %%
data = bj.data.load("moons")
network = bj.networks.MLP((2,), width=64, depth=3, rngs=nnx.Rngs(0))
method = bj.methods.diffusion(schedule, network, shape=(2,))
state = bj.fit(method, data.x, jax.random.key(0), steps=1500, batch_size=256, progress=False)
process = method.process(state)
x = bj.sample(process, bj.keys(jax.random.key(1), 2000))

fig, axes = plt.subplots(1, 2, figsize=(6, 3), sharex=True, sharey=True)
for axis, points, title in ((axes[0], x, "sampled"), (axes[1], data.x[:2000], "real")):
    axis.plot(points[:, 0], points[:, 1], ".", ms=2, alpha=0.5)
    axis.set(title=title, aspect="equal")
plt.show()
real = np.asarray(bj.data.load("moons", seed=1, num=2000).x)
floor = bj.metrics.floor(bj.metrics.energy_distance, data.x, n=2000)
print("squared energy distance:", bj.metrics.energy_distance(np.asarray(x), real), "floor:", floor.mean)

# %% [markdown]
# ## A bridge between two data sets
#
# With pairs from minibatch optimal transport; `sigma` is the bridge's noise per square root of unit time.

# %%
source = bj.data.load("8gaussians")
network = bj.networks.MLP((2,), width=64, depth=3, rngs=nnx.Rngs(1))
method = bj.methods.bridge_matching(network, shape=(2,), sigma=0.2, source=source.x)
pairs = bj.data.Pairs(source.x, data.x, 128, coupling=bj.couplings.exact_ot)
state = bj.fit(method, pairs, jax.random.key(0), steps=800, batch_size=128, progress=False)
process = method.process(state)
start = jnp.asarray(source.x[:60])
walks = jax.vmap(lambda key, x0: bj.simulate_path(process.dynamics, key, x0, process.ts).xs)(keys[:60], start)
plt.figure(figsize=(4.2, 4))
plt.plot(walks[:, :, 0].T, walks[:, :, 1].T, lw=0.5, color="0.7")
plt.plot(start[:, 0], start[:, 1], ".", label="source")
plt.plot(walks[:, -1, 0], walks[:, -1, 1], ".", label="end")
plt.legend()
plt.gca().set_aspect("equal")
plt.show()

# %% [markdown]
# ## Any network, any solver
#
# A network is a pair `(apply, params)`; an SDE takes any diffrax solver; everything is a pytree.

# %%
import diffrax


def ou(theta, t, x, args):
    return -theta * x


def unit(t, x, args):
    return 1.0


sde = bj.SDE(Partial(ou, jnp.float32(2.0)), unit, T=1.0)
end = bj.simulate(sde, jax.random.key(0), jnp.ones(3), bj.grids.uniform(50), solver=diffrax.SEA())
slope = jax.grad(lambda sde: bj.simulate(sde, jax.random.key(0), jnp.ones(3), bj.grids.uniform(50)).sum())(sde)
print(end, slope.drift.args[0])
