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
# # Bend it
#
# A transform takes an SDE and returns an SDE: run backwards, made deterministic, pinned at its end, conditioned on an
# event, pushed, held, or given a measurement. This notebook applies each to a problem whose answer is known, and holds
# it to that answer.

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
from bridgejax.oracles import grid

version = tuple(int(part) for part in jax.__version__.split(".")[:2])
assert version >= (0, 10), f"bridgejax needs jax 0.10 or newer, this runtime has {jax.__version__}"
plt.rcParams.update({"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False})


def check(what, got, truth, error):
    """Print a number beside its truth, and stop if they differ by more than ``error``."""
    print(f"{what:44s}{float(got):9.4f}   truth{float(truth):9.4f}   allowed {float(error):.2g}")
    assert abs(got - truth) <= error, what


# %% [markdown]
# ## Reverse, and the probability flow
#
# `reverse` makes of a noising process the SDE that starts at noise and ends at data, on a clock of its own that runs
# forward; `probability_flow` the ODE with the same marginals. Both need the score, or the denoiser $E[x_0 \mid x_t]$. A
# network would learn it; for a Gaussian mixture it is known, so nothing here is approximate but the steps. The distance
# of the samples to the data is printed beside its floor, the same distance between two draws of the data.

# %%
key = jax.random.key(0)
n_samples = 4096
keys = bj.keys(key, n_samples)
law = bj.mixtures.gaussian_mixture([[-1.5, 0.5], [1.5, 0.5], [0.0, -1.5]], 0.08, [0.2, 0.3, 0.5])
schedule = bj.schedules.vp(0.1, 10.0)
denoiser = bj.mixtures.mixture_denoiser(law, schedule)
back = bj.reverse(schedule, denoiser=denoiser)
flow = bj.probability_flow(schedule, denoiser=denoiser)

noise = jax.vmap(law.diffuse(schedule, schedule.T).sample)(bj.keys(jax.random.key(1), n_samples))
by_sde = bj.simulate_batch(back, keys, noise, bj.grids.log_snr(64, schedule))
by_flow = bj.simulate_batch(flow, keys, noise, bj.grids.log_snr(32, schedule))
data = [np.asarray(jax.vmap(law.sample)(bj.keys(jax.random.key(k), n_samples))) for k in range(10, 15)]


def distance(a, b):
    """Squared energy distance of the first 2,000 samples of each."""
    return bj.metrics.energy_distance(a[:2000], b[:2000])


floors = [distance(data[0], other) for other in data[1:]]
print(f"squared energy distance to the data, floor: {np.mean(floors):.2e} (up to {max(floors):.2e})")
for name, x in (("reverse SDE, 64 steps", by_sde), ("probability flow, 32 steps", by_flow)):
    print(f"{name:30s}{distance(np.asarray(x), data[0]):.2e}")
    assert distance(np.asarray(x), data[0]) < 3 * max(floors)
    shares = jax.vmap(law.responsibilities)(x).mean(0)
    for k, weight in enumerate((0.2, 0.3, 0.5)):
        check(f"{name}: weight {k}", shares[k], weight, 5 * (weight * (1 - weight) / n_samples) ** 0.5 + 0.005)

fig, axes = plt.subplots(1, 3, figsize=(9, 3), sharex=True, sharey=True)
for axis, x, title in zip(axes, (data[0], by_sde, by_flow), ("data", "reverse SDE", "probability flow"), strict=True):
    axis.plot(*np.asarray(x)[:1500].T, ".", ms=1.5, alpha=0.5)
    axis.set(title=title, aspect="equal")
plt.show()

# %% [markdown]
# ## Pin
#
# `pin` conditions a linear process to end at a point, exactly: a Brownian bridge, or a spring whose position **and**
# velocity are prescribed at the end although only its velocity has noise. A batch of bridges is a `vmap`.

# %%
ends = jnp.linspace(-2.0, 2.0, 64)
bridges = jax.vmap(bj.pin, (None, 0))(bj.schedules.brownian(1.0), ends)
landed = jax.vmap(lambda sde, k: bj.simulate(sde, k, jnp.float32(0.0), bj.grids.uniform(32)))(bridges, keys[:64])
assert (landed == ends).all()
print("64 Brownian bridges end where they should, to the last bit")

spring = bj.linear.langevin(friction=0.5, frequency=3.0, temperature=1.0, T=2.0)
goal = jnp.array([1.0, 0.0])
pinned = bj.pin(spring, goal)
pinned_start = jnp.array([-1.0, 0.0])
# `land` is the exact law of any later state given an earlier one, so this walk is exact on any grid
jump = jax.vmap(lambda k: bj.kernels.walk(pinned.terminal_kernel, k, pinned_start, bj.grids.uniform(64, 2.0)).xs)(keys)
assert (jump[:, -1] == goal).all()
half = jump[:, 32]
# given both ends the state in the middle is Gaussian: condition the joint law of the middle and the end
near, far = spring.transition(0.0, 1.0), spring.transition(1.0, 2.0)
gain = near.cov @ far.phi.T @ jnp.linalg.inv(far.phi @ near.cov @ far.phi.T + far.cov)
middle = near.phi @ pinned_start
middle = middle + gain @ (goal - far.phi @ middle)
spread = near.cov - gain @ far.phi @ near.cov
for i, name in enumerate(("position", "velocity")):
    variance = spread[i, i]
    check(f"pinned spring, mean {name} half-way", half[:, i].mean(), middle[i], 5 * (variance / n_samples) ** 0.5)
    check(f"pinned spring, var of {name} half-way", half[:, i].var(), variance, 5 * variance * (2 / n_samples) ** 0.5)

# %% [markdown]
# ## Condition on an event: doob
#
# Any SDE, any event: with $h(t, x) = P(\text{event} \mid x_t = x)$, adding $\Sigma \nabla \log h$ to the drift gives
# the process given the event. For a double well no formula knows $h$, but on the line a grid does: `oracles.grid`
# solves Kolmogorov's backward equation for $h$ and Fokker–Planck's for the density. The event: a particle in the left
# well is in the right one at time T. Left to itself it rarely is.


# %%
def two_wells(t, x, args):
    return 4.0 * (x - x**3)


def level(sigma, t, x, args):
    return sigma


T = 2.0
wells = bj.SDE(two_wells, Partial(level, 0.8), T=T)
xs = grid.cells(-2.5, 2.5, 500)
times = bj.grids.quadratic(384, T)  # steps that shrink towards T, where the event has a sharp edge
event = (xs > 0.5).astype(float)
h = grid.backward(wells, event, xs, times, substeps=2)
p = grid.forward(wells, grid.point(-1.0, xs), xs, times, substeps=2)
h0 = jnp.interp(-1.0, xs, h[0])
check("h at the start = mass of the event at T", jnp.sum(p[-1] * event) * (xs[1] - xs[0]), h0, 1e-4)

crossing = bj.doob(wells, grid.grad_log_h(xs, times, h))
exact = grid.bridge_marginals(p, h, xs)
starts = jnp.full(n_samples, -1.0)
paths = jax.vmap(lambda k: bj.simulate_path(crossing, k, jnp.float32(-1.0), times).xs)(keys)
free = bj.simulate_batch(wells, keys, starts, bj.grids.uniform(128, T))
check("without bending: share that crosses", (free > 0.5).mean(), h0, 5 * (h0 * (1 - h0) / n_samples) ** 0.5 + 0.002)
print("bent: share that crosses", float((paths[:, -1] > 0.5).mean()), "  should be: 1")
assert (paths[:, -1] > 0.5).mean() > 0.99
for k in (60, 120, 200):
    for what, f in (("mean", lambda x: x), ("mean of x^2", lambda x: x**2)):
        truth = jnp.sum(f(xs) * exact[k]) * (xs[1] - xs[0])
        check(
            f"given the event: {what} at t = {times[k]:.2f}",
            f(paths[:, k]).mean(),
            truth,
            5 * f(paths[:, k]).std() / 64 + 0.01,
        )

# %% [markdown]
# The same bend is a control, $u = \sigma \nabla \log h$, and a cheap one: the energy $E\int \tfrac12 |u|^2 dt$ that it
# spends is exactly $-\log P(\text{event})$, the least that any control must.


# %%
def steer(pull, t, x, args):
    return 0.8 * pull(t, x, args)


u = Partial(steer, grid.grad_log_h(xs, times, h))
controlled = bj.control(wells, u)
for t, x in ((0.3, -0.9), (1.5, 0.2)):
    np.testing.assert_allclose(
        controlled.drift(t, jnp.float32(x), None), crossing.drift(t, jnp.float32(x), None), rtol=1e-5
    )
energy = jax.vmap(
    lambda path: jnp.sum(0.5 * jax.vmap(u, (0, 0, None))(times[:-1], path[:-1], None) ** 2 * jnp.diff(times))
)(paths[:1000])
check("energy of the control", energy.mean(), -jnp.log(h0), 5 * energy.std() / 1000**0.5 + 0.05)

fig, axes = plt.subplots(1, 2, figsize=(9.5, 3))
axes[0].plot(bj.grids.uniform(64, 2.0), jump[:20, :, 0].T, lw=0.5, color="tab:blue", alpha=0.7)
axes[0].plot(2.0, 1.0, "o", color="tab:orange", label="position 1, velocity 0")
axes[0].set(title="a spring pinned at both ends", xlabel="t", ylabel="position")
axes[0].legend(fontsize=8)
shown = jnp.minimum(exact, 2.0).T
axes[1].pcolormesh(times, xs, shown, cmap="Greys", shading="auto", rasterized=True)
axes[1].plot(times, paths[:15].T, lw=0.5, color="tab:blue", alpha=0.8)
axes[1].set(title="double well given the crossing: paths on the exact law", xlabel="t", ylabel="x", ylim=(-2, 2))
plt.tight_layout()
plt.show()

# %% [markdown]
# ## Hold coordinates: clamp
#
# `clamp` holds coordinates of the state and lets the others move given them. A Langevin process whose stationary law
# is a correlated Gaussian, with its first coordinate held at 1.2, settles into the conditional law of the second.

# %%
covariance = jnp.array([[1.0, 0.8], [0.8, 1.0]])


def downhill(precision, t, x, args):
    return -precision @ x


langevin = bj.SDE(Partial(downhill, jnp.linalg.inv(covariance)), Partial(level, 2.0**0.5), T=4.0)
held = bj.clamp(langevin, jnp.array([True, False]), jnp.array([1.2, 0.0]))
x = bj.simulate_batch(held, keys, jnp.tile(jnp.array([1.2, 0.0]), (n_samples, 1)), bj.grids.uniform(256, 4.0))
assert (x[:, 0] == jnp.float32(1.2)).all()
check("mean of the free coordinate", x[:, 1].mean(), 0.8 * 1.2, 5 * 0.6 / n_samples**0.5 + 0.005)
check("variance of the free coordinate", x[:, 1].var(), 0.36, 5 * 0.36 * (2 / n_samples) ** 0.5 + 0.01)

# %% [markdown]
# ## Condition on a measurement: guidance.posterior
#
# Given $y = A x_0 + s\varepsilon$, what was $x_0$? `guidance.posterior` bends the reversal by an approximate likelihood
# and needs nothing but the denoiser. It is an approximation, and here one can see of what size: for a mixture the
# posterior is a mixture again (`mixtures.condition`), with an exact denoiser of its own. That one reaches the floor;
# PiGDM and DPS, the two approximations, do not.

# %%
A, y, s = jnp.array([[1.0, 0.5]]), jnp.array([0.9]), 0.4
truth = bj.mixtures.condition(law, A, y, s)
exact_posterior = bj.reverse(schedule, denoiser=bj.mixtures.mixture_denoiser(truth, schedule))
variance = float(jnp.trace(law.cov())) / 2
bent = {
    "exact posterior": exact_posterior,
    "PiGDM": bj.guidance.posterior(back, A, y, s, data_variance=variance),
    "DPS": bj.guidance.posterior(back, A, y, s, method="dps"),
}
ts = bj.grids.log_snr(128, schedule, log_snr_max=8.0)
standard = jax.random.normal(jax.random.key(2), (2000, 2))
samples = {name: np.asarray(bj.simulate_batch(sde, keys[:2000], standard, ts)) for name, sde in bent.items()}
draws = [np.asarray(jax.vmap(truth.sample)(bj.keys(jax.random.key(k), n_samples))) for k in range(20, 25)]
floors = [distance(draws[0], other) for other in draws[1:]]
far = {name: distance(x, draws[0]) for name, x in samples.items()}
print(f"squared energy distance to the posterior, floor: {np.mean(floors):.2e} (up to {max(floors):.2e})")
for name, x in samples.items():
    ratio, mean = np.trace(np.cov(x.T)) / jnp.trace(truth.cov()), x.mean(0).round(3)
    print(f"{name:18s}{far[name]:.2e}   mean {mean} for {truth.mean().round(3)}   variance ratio {ratio:.2f}")
assert far["exact posterior"] < 3 * max(floors)
assert min(far["PiGDM"], far["DPS"]) > 3 * max(floors)

fig, axes = plt.subplots(1, 4, figsize=(10, 2.9), sharex=True, sharey=True)
for axis, (name, x) in zip(axes, {"prior": data[0], **samples}.items(), strict=True):
    axis.plot(*x[:1500].T, ".", ms=1.5, alpha=0.4)
    line = jnp.linspace(-2.5, 2.5, 2)
    axis.plot(line, (y[0] - A[0, 0] * line) / A[0, 1], color="tab:orange", lw=1)
    axis.plot(*truth.mean(), "k+", ms=10)
    axis.set(title=name, xlim=(-2.6, 2.6), ylim=(-2.6, 2.0))
plt.tight_layout()
plt.show()

# %% [markdown]
# The line is where $A x = y$, the cross the exact posterior mean. Next: [weigh it](weigh_it.ipynb), where a simulated
# path becomes a number; before: [your first SDE](first_sde.ipynb).
