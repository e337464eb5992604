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
# # Your first SDE
#
# bridgejax has one noun, the SDE
#
# $$ dx = \text{drift}(t, x, \text{args})\, dt + \text{diffusion}(t, x, \text{args})\, dW, \qquad 0 \le t \le T, $$
#
# written as two pure functions of **one** sample. This notebook makes one by hand and one from a schedule, runs both,
# and ends with a state that is not an array but a position and a velocity. Every number is printed beside its truth,
# and an assertion compares the two.
#
# It runs on CPU, GPU or TPU, in Colab or anywhere else. The first cell installs bridgejax **beside the jax that the
# runtime already has**, which is pinned before pip may touch anything.

# %% tags=["hide-input"]
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
from jax.tree_util import Partial

import bridgejax as bj

version = tuple(int(part) for part in jax.__version__.split(".")[:2])
assert version >= (0, 10), f"bridgejax needs jax 0.10 or newer, this runtime has {jax.__version__}"
plt.rcParams.update({"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False})


def check(what, got, truth, error):
    """Print a number beside its truth, and stop if they differ by more than ``error``."""
    print(f"{what:44s}{float(got):9.4f}   truth{float(truth):9.4f}   allowed {float(error):.2g}")
    assert abs(got - truth) <= error, what


# %% [markdown]
# ## By hand
#
# An Ornstein–Uhlenbeck process: a pull towards a level, and noise. What a function needs beside `t, x, args` is bound
# to it with `jax.tree_util.Partial`, so the numbers are leaves of the SDE and not hidden in a closure. That is what
# later lets `jit`, `vmap` and `grad` see them.


# %%
def pull(rate, level, t, x, args):
    return rate * (level - x)


def shake(sigma, t, x, args):
    return sigma


rate, level, sigma, T, x0 = 1.5, 1.0, 0.8, 2.0, -1.0
sde = bj.SDE(Partial(pull, rate, level), Partial(shake, sigma), T=T)

key = jax.random.key(0)
grid = bj.grids.uniform(64, T)
x_end = bj.simulate(sde, key, jnp.float32(x0), grid)
path = bj.simulate_path(sde, key, jnp.float32(x0), grid)
print("one end point:", x_end, "   the path's last state:", path.xs[-1])
assert x_end == path.xs[-1]

# %% [markdown]
# A call sees one sample; `vmap` makes many. The law of this process is known, $x_t \sim N(m_t, v_t)$ with
# $m_t = \ell + (x_0 - \ell)e^{-rt}$ and $v_t = \frac{\sigma^2}{2r}(1 - e^{-2rt})$.


# %%
def exact_mean(t):
    return level + (x0 - level) * jnp.exp(-rate * t)


def exact_variance(t):
    return -(sigma**2) / (2 * rate) * jnp.expm1(-2 * rate * t)


many = jax.vmap(lambda k: bj.simulate_path(sde, k, jnp.float32(x0), grid).xs)(bj.keys(key, 60))
middle, half = exact_mean(grid), 2 * jnp.sqrt(exact_variance(grid))
plt.figure(figsize=(6, 2.8))
plt.plot(grid, many.T, lw=0.4, color="tab:blue", alpha=0.6)
plt.plot(grid, middle, "k", lw=1.5, label="exact mean")
plt.fill_between(grid, middle - half, middle + half, color="k", alpha=0.12, label="exact mean ± 2 sd")
plt.gca().set(xlabel="t", ylabel="x", title="60 simulated paths and the exact law")
plt.legend()
plt.show()
inside = jnp.mean(jnp.abs(many[:, 1:] - middle[1:]) < half[1:], axis=1)  # of each path, its points in the band
check("share of the points inside the band", inside.mean(), 0.9545, 5 * inside.std() / 60**0.5 + 0.01)

# %% [markdown]
# `simulate_batch` is that `vmap` with one key per sample (and micro-batches and devices, if asked). Euler's scheme on
# `n` steps has a law of its own here, mean $\ell + (x_0-\ell)(1-rh)^n$ and a variance that is a geometric sum, so the
# simulation can be held to it within 5 standard errors, and the distance to the SDE's law is then known exactly.

# %%
n_samples = 8192
keys = bj.keys(key, n_samples)
starts = jnp.full(n_samples, x0)


def euler_law(n):
    a = 1 - rate * T / n
    return level + (x0 - level) * a**n, sigma**2 * T / n * (1 - a ** (2 * n)) / (1 - a**2)


ends = {}
for n in (4, 16, 64):
    x = ends[n] = bj.simulate_batch(sde, keys, starts, bj.grids.uniform(n, T))
    mean, variance = euler_law(n)
    check(f"{n:3d} steps: mean", x.mean(), mean, 5 * (variance / n_samples) ** 0.5)
    check(f"{n:3d} steps: variance", x.var(), variance, 5 * variance * (2 / n_samples) ** 0.5)
print(f"{'the SDE itself':44s}mean {exact_mean(T):.4f}, variance {exact_variance(T):.4f}")

# %% [markdown]
# ## From a schedule: the last step is exact
#
# A schedule is a pair of functions, $x_t = \alpha_t x_0 + \sigma_t \varepsilon$; `noising` is its SDE. This one is the
# same process as above. Made from a schedule, an SDE also knows the exact law of its last interval, `land`, and
# `simulate` uses it: with the grid `[0, T]` one step draws from the exact law.

# %%
schedule = bj.schedules.ou(rate, sigma, T)
made = bj.noising(schedule, center=level)
for t, x in ((0.0, jnp.float32(0.3)), (1.7, jnp.float32(-2.0))):
    np.testing.assert_allclose(made.drift(t, x, None), sde.drift(t, x, None), rtol=1e-6)
    np.testing.assert_allclose(made.diffusion(t, x, None), sde.diffusion(t, x, None), rtol=1e-6)

scale, variance = bj.transition(schedule, 0.0, T)  # x_T | x_0 ~ N(scale x_0, variance), around the center
check("transition: variance", variance, exact_variance(T), 1e-6)
ends[1] = bj.simulate_batch(made, keys, starts, jnp.array([0.0, T]))
check("one exact step: mean", ends[1].mean(), exact_mean(T), 5 * (variance / n_samples) ** 0.5)
check("one exact step: variance", ends[1].var(), variance, 5 * variance * (2 / n_samples) ** 0.5)

levels = jnp.linspace(-1.0, 3.0, 300)
density = jnp.exp(-0.5 * (levels - exact_mean(T)) ** 2 / variance) / jnp.sqrt(2 * jnp.pi * variance)
fig, axes = plt.subplots(1, 3, figsize=(9, 2.5), sharey=True)
for axis, (n, title) in zip(axes, ((4, "Euler, 4 steps"), (64, "Euler, 64 steps"), (1, "1 exact step")), strict=True):
    axis.hist(ends[n], bins=60, density=True, range=(-1, 3), color="tab:blue", alpha=0.5)
    axis.plot(levels, density, "k", lw=1)
    axis.set(title=title, xlabel="$x_T$")
plt.show()

# %% [markdown]
# ## Keys
#
# One key per sample: `bj.keys(key, num, start)` gives sample `i` of a run its own key, whatever the batch is that it is
# computed in. Sample 105 of a run of 8,192 is the same number in a batch of 10, and alone. These are not the keys of
# `jax.random.split(key, num)`, and every function folds in a constant of its own, so one seed may serve them all.

# %%
ten = bj.simulate_batch(sde, bj.keys(key, 10, start=100), starts[:10], grid)
alone = bj.simulate(sde, bj.keys(key, 1, start=105)[0], starts[0], grid)
print(ends[64][105], ten[5], alone)
assert ends[64][105] == ten[5] == alone

# %% [markdown]
# ## Grids
#
# A grid is any increasing array of times within `[0, T]`; `bj.grids` has the usual ones. It need not be even. With a
# process whose transitions are known, `kernels.walk` is exact on any grid: here the covariance of two times, from two
# steps of different length. A grid that leaves the clock, or runs backwards, is refused before anything runs.

# %%
uneven = jnp.array([0.0, 0.3, 0.9, T])
walks = jax.vmap(lambda k: bj.kernels.walk(bj.kernels.ou(schedule, level), k, jnp.float32(x0), uneven).xs)(keys)
covariance = exact_variance(0.3) * jnp.exp(-rate * (0.9 - 0.3))
spread = jnp.sqrt((exact_variance(0.3) * exact_variance(0.9) + covariance**2) / n_samples)
check("covariance of x at t = 0.3 and t = 0.9", jnp.cov(walks[:, 1], walks[:, 2])[0, 1], covariance, 5 * spread)

refused = []
for bad in (jnp.array([0.0, 3.0]), jnp.array([2.0, 1.0, 0.0])):
    try:
        bj.simulate(sde, key, jnp.float32(x0), bad)
    except ValueError as error:
        refused.append(str(error))
        print("ValueError:", error)
assert len(refused) == 2

# %% [markdown]
# ## jit, vmap, grad
#
# An SDE is a pytree. A batch of SDEs is a `vmap` over its leaves; `simulate` compiles once for all that share a
# structure; and a gradient with respect to an SDE is an SDE-shaped tree of gradients.

# %%
traced = []


def counted_pull(rate, t, x, args):
    traced.append(1)  # runs when JAX traces the function, not when the compiled program runs
    return -rate * x


family = [bj.SDE(Partial(counted_pull, jnp.float32(r)), Partial(shake, sigma), T=T) for r in (0.5, 1.0, 2.0, 4.0)]
bj.simulate(family[0], key, jnp.float32(1.0), grid)
after_first = len(traced)
one_by_one = [bj.simulate(one, key, jnp.float32(1.0), grid) for one in family]
assert len(traced) == after_first  # four SDEs, one program
batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *family)
at_once = jax.vmap(lambda one: bj.simulate(one, key, jnp.float32(1.0), grid))(batch)
np.testing.assert_allclose(at_once, one_by_one, rtol=1e-5)
print("four pulls, one by one:", np.array(one_by_one), "  by vmap:", at_once)


def end(sde, key):
    return bj.simulate(sde, key, jnp.float32(x0), grid)


slopes = jax.vmap(jax.grad(end), (None, 0))(sde, keys)  # one gradient per sample: an SDE with a leading axis
slope = slopes.drift.args[0]
n = 64
truth = -(x0 - level) * T * (1 - rate * T / n) ** (n - 1)  # of Euler's mean; the SDE's is -T (x0 - level) exp(-rate T)
check("d E[x_T] / d rate", slope.mean(), truth, 5 * slope.std() / n_samples**0.5)
print(f"{'of the SDE itself':44s}{-T * (x0 - level) * np.exp(-rate * T):9.4f}")

# %% [markdown]
# ## Noise that depends on the state
#
# Noise is Itô. Where it depends on `x`, say so with `noise="state"`: a solver that would converge to another process,
# the Stratonovich one, is then refused. For $dx = \mu x\,dt + s x\,dW$ the mean is $e^{\mu t}$; Stratonovich's would be
# $e^{(\mu + s^2/2) t}$, here 1.88 times as large.


# %%
def proportional(rate, t, x, args):
    return rate * x


growth = bj.SDE(Partial(proportional, 0.2), Partial(proportional, 0.8), T=2.0, noise="state")
x = bj.simulate_batch(growth, keys, jnp.ones(n_samples), grid)
euler_mean = (1 + 0.2 * 2.0 / 64) ** 64
check("mean of the geometric Brownian motion", x.mean(), euler_mean, 5 * x.std() / n_samples**0.5)
print(f"{'of the SDE itself':44s}{np.exp(0.4):9.4f}")
try:
    bj.simulate(growth, key, jnp.float32(1.0), grid, solver=bj.solvers.Heun())
except ValueError as error:
    print("ValueError:", error)
else:
    raise AssertionError("Heun must be refused")

# %% [markdown]
# ## A state of your own: position and velocity
#
# A state is an array of any shape, or a tree of them. A damped spring is driven through its velocity only:
#
# $$ dq = v\, dt, \qquad dv = (-\omega^2 q - \gamma v)\, dt + \sqrt{2\gamma}\, dW. $$
#
# The diffusion is a tree like the state, with no noise in the position. Because this one is linear,
# `bj.linear.langevin` has its exact transition to compare with.


# %%
def spring(frequency, friction, t, z, args):
    return {"q": z["v"], "v": -(frequency**2) * z["q"] - friction * z["v"]}


def kicks(friction, t, z, args):
    return {"q": 0.0, "v": jnp.sqrt(2 * friction)}


frequency, friction, T = 2.0, 0.4, 4.0
oscillator = bj.SDE(Partial(spring, frequency, friction), Partial(kicks, friction), T=T)
z0 = {"q": jnp.full(n_samples, 3.0), "v": jnp.zeros(n_samples)}
ts = bj.grids.uniform(256, T)
z = bj.simulate_batch(oscillator, keys, z0, ts, solver=bj.solvers.Heun())

phi, shift, cov = bj.linear.langevin(friction, frequency, T=T).transition(0.0, T)
mean = phi @ jnp.array([3.0, 0.0]) + shift
got = jnp.stack([z["q"], z["v"]])
step_error = 0.01  # Heun is of order 2, and a step is 1/64
for i, name in enumerate("qv"):
    check(f"mean of {name} at T", got[i].mean(), mean[i], 5 * jnp.sqrt(cov[i, i] / n_samples) + step_error)
    check(f"variance of {name} at T", got[i].var(), cov[i, i], 5 * cov[i, i] * (2 / n_samples) ** 0.5 + step_error)
allowed = 5 * jnp.sqrt((cov[0, 0] * cov[1, 1] + cov[0, 1] ** 2) / n_samples) + step_error
check("covariance of q and v at T", jnp.cov(got)[0, 1], cov[0, 1], allowed)

# %% [markdown]
# Nothing above used that the spring is linear, only the comparison did. A pendulum is the same three lines with
# $\sin q$ for $q$. Left alone long enough it forgets where it started: velocities become $N(0, 1)$ and the angle
# follows $e^{\omega^2 \cos q}$, so $E[\cos q] = I_1(\omega^2) / I_0(\omega^2)$.


# %%
def pendulum(frequency, friction, t, z, args):
    return {"q": z["v"], "v": -(frequency**2) * jnp.sin(z["q"]) - friction * z["v"]}


frequency, friction, T = 1.0, 1.0, 12.0
swing = bj.SDE(Partial(pendulum, frequency, friction), Partial(kicks, friction), T=T)
ts = bj.grids.uniform(256, T)
z = bj.simulate_batch(swing, keys, z0, ts, solver=bj.solvers.Heun())
angles, speeds = jnp.linspace(-jnp.pi, jnp.pi, 200), jnp.linspace(-4.0, 4.0, 200)
law = jnp.exp(frequency**2 * (jnp.cos(angles) - 1)) / (2 * jnp.pi * jax.scipy.special.i0e(frequency**2))
truth = jax.scipy.special.i1e(frequency**2) / jax.scipy.special.i0e(frequency**2)
check("variance of the velocity", z["v"].var(), 1.0, 5 * (2 / n_samples) ** 0.5 + 0.01)
check("mean of cos q", jnp.cos(z["q"]).mean(), truth, 5 * jnp.cos(z["q"]).std() / n_samples**0.5 + 0.01)

first = jax.tree.map(lambda leaf: leaf[0], z0)
fig, axes = plt.subplots(1, 3, figsize=(10, 3))
orbits = jax.vmap(lambda k: bj.simulate_path(oscillator, k, first, bj.grids.uniform(256, 4.0)).xs)(keys[:25])
axes[0].plot(orbits["q"].T, orbits["v"].T, lw=0.3, color="tab:blue", alpha=0.7)
circle = jnp.stack([jnp.cos(angles), jnp.sin(angles)])
ellipse = mean[:, None] + 2 * jnp.linalg.cholesky(cov) @ circle
axes[0].plot(orbits["q"][:, -1], orbits["v"][:, -1], ".", color="tab:orange", label="at T")
axes[0].plot(*ellipse, "k", lw=1, label="exact 2 sd at T")
axes[0].set(title="damped spring, 25 paths", xlabel="position q", ylabel="velocity v")
axes[0].legend(fontsize=7)
wrapped = jnp.mod(z["q"] + jnp.pi, 2 * jnp.pi) - jnp.pi
for axis, values, grid_, density, title in (
    (axes[1], wrapped, angles, law, "pendulum: angle at T"),
    (axes[2], z["v"], speeds, jnp.exp(-0.5 * speeds**2) / jnp.sqrt(2 * jnp.pi), "pendulum: velocity at T"),
):
    axis.hist(values, bins=50, density=True, color="tab:blue", alpha=0.5)
    axis.plot(grid_, density, "k", lw=1, label="stationary law")
    axis.set(title=title)
    axis.legend(fontsize=7)
plt.tight_layout()
plt.show()

# %% [markdown]
# Next: [bend it](bend_it.ipynb), where an SDE becomes another SDE, and [weigh it](weigh_it.ipynb), where a simulated
# path becomes a number.
