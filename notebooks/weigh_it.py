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
# # Weigh it
#
# A simulated path can be given a number: how much more, or less, likely it is under another law than under the one that
# made it. With two step kernels, a forward one $F$ that simulates and any backward one $B$,
#
# $$ w = \log\rho(x_N) - \log p_0(x_0) + \sum_k \log B(x_k \mid x_{k+1}) - \log F(x_{k+1} \mid x_k),
#    \qquad E[e^w] = Z = \int \rho, $$
#
# exactly, **for any number of steps**, because everything but $\rho$ telescopes to a probability density. From these
# numbers come normalising constants, evidence bounds, effective sample sizes and corrected averages. This notebook
# checks each against a known truth, and ends with a state of position and velocity.

# %% tags=["hide-input"]
import dataclasses
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
# ## The law of a step
#
# A `Kernel` is the law of one step: `sample(key, t, u, x, args)` and `log_prob(t, u, x, y, args)`. Of an SDE there is
# the Euler kernel; of one made from a schedule the exponential one; of the noising process itself the exact one,
# `kernels.ou`. The target here is a mixture of two Gaussians times $e^{1.3}$, so $\log Z = 1.3$. The sampler is the
# reversal of a noising process, with the target's exact score: only its finite steps are wrong.

# %%
LOG_Z = 1.3
mixture = bj.mixtures.gaussian_mixture([[-1.0], [1.5]], 0.25, [0.4, 0.6])


def unnormalised(mixture, x):
    return LOG_Z + mixture.log_prob(x)


log_rho = Partial(unnormalised, mixture)
T = 2.0
schedule = bj.schedules.ou(1.0, 2.0**0.5, T)  # dx = -x dt + sqrt(2) dW
target_score = bj.mixtures.mixture_score(mixture, schedule)
sampler = bj.reverse(schedule, target_score)
start = bj.starts.normal((1,))
forward, backward = bj.kernels.euler(sampler), bj.kernels.ou(schedule)

key = jax.random.key(0)
x, y, t, u = jnp.array([0.3]), jnp.array([0.1]), 0.5, 0.7
mean, variance = x + (u - t) * sampler.drift(t, x, None), 2.0 * (u - t)
by_hand = (-0.5 * (y - mean) ** 2 / variance - 0.5 * jnp.log(2 * jnp.pi * variance))[0]
check("Euler kernel: log density of a step", forward.log_prob(t, u, x, y, None), by_hand, 1e-5)

# %% [markdown]
# ## E[exp w] = Z, at any number of steps
#
# `log_weights` runs a process and weighs its paths; `weights.log_z` is the log of the mean of $e^w$, `weights.elbo` the
# mean of $w$, a lower bound. At 8 steps the samples are poor, and the estimate of Z is right all the same.
#
# The usual alternative takes the weight of the continuous-time paths (Girsanov) and discretises its integrals. That is
# a different number: it is right only in the limit, and nothing in a run says how far away the limit is.

# %%
n_paths = 8192
keys = bj.keys(key, n_paths)


@jax.jit
def girsanov(keys, ts):
    """The continuous-time weight of the same Euler paths, its integrals as sums over the grid."""
    euler_only = dataclasses.replace(sampler, terminal_kernel=None)  # every step an Euler step, the last one too

    def one(key):
        start_key, run_key = jax.random.split(key)
        path = bj.simulate_path(euler_only, run_key, start(start_key), ts, solver=bj.solvers.Euler())
        dt = jnp.diff(path.ts)[:, None]
        score = jax.vmap(target_score)(T - ts[:-1], path.xs[:-1])
        integrals = -jnp.sum(2.0**0.5 * score * path.noise) - jnp.sum(score**2 * dt) + T
        return log_rho(path.xs[-1]) - start.log_prob(path.xs[0]) + integrals

    return jax.vmap(one)(keys)


steps = (8, 16, 32)
rows = []
for n in steps:
    process = bj.Process(start, sampler, bj.grids.uniform(n, T), backward=bj.noising(schedule))
    w = bj.log_weights(process, keys, log_rho, forward=forward, backward=backward)
    error = bj.weights.log_z_error(w)
    check(f"{n:3d} steps: log Z", bj.weights.log_z(w), LOG_Z, 5 * error)
    assert bj.weights.elbo(w) < LOG_Z
    assert bj.weights.ess(w) > 0.1
    wrong = girsanov(keys, process.ts)
    row = [f(w) for f in (bj.weights.log_z, bj.weights.log_z_error, bj.weights.elbo, bj.weights.ess)]
    rows.append([*row, bj.weights.log_z(wrong), bj.weights.log_z_error(wrong)])
z, error, elbo, ess, wrong, wrong_error = np.array(rows).T
print("ELBO:                  ", elbo.round(3), "all below 1.3")
print("share of effective samples:", ess.round(2))
print("discretised Girsanov:  ", wrong.round(3))
assert wrong[0] - LOG_Z > 10 * wrong_error[0]  # its expectation is not Z

plt.figure(figsize=(5.5, 3))
plt.axhline(LOG_Z, color="k", lw=1, label="truth")
plt.errorbar(steps, z, 5 * error, fmt="o-", ms=4, capsize=3, label="ratio of kernels, ± 5 s.e.")
plt.errorbar(steps, wrong, 5 * wrong_error, fmt="s--", ms=4, capsize=3, label="discretised Girsanov")
plt.plot(steps, elbo, ".:", color="tab:green", label="ELBO")
plt.gca().set(xscale="log", xticks=steps, xticklabels=steps, xlabel="steps", ylabel="log Z")
plt.minorticks_off()
plt.legend(fontsize=8)
plt.show()

# %% [markdown]
# The same paths the other way, drawn from the target by the backward kernel, give an upper bound, the EUBO: $\log Z$
# lies between. `path_log_ratio` takes any path, wherever it came from.


# %%
def from_target(key, ts):
    """A path of the backward kernel from an exact draw of the target, written on the forward clock."""
    draw_key, walk_key = jax.random.split(key)
    path = bj.kernels.walk(backward, walk_key, mixture.sample(draw_key), T - ts[::-1])
    turned = bj.Path(T - path.ts[::-1], path.xs[::-1], None)
    ratio = bj.path_log_ratio(turned, forward, backward)
    return log_rho(turned.xs[-1]) - start.log_prob(turned.xs[0]) + ratio


ts = bj.grids.uniform(16, T)
upper = bj.weights.eubo(jax.vmap(from_target, (0, None))(keys, ts))
print(f"ELBO {elbo[1]:.3f}  <  log Z {LOG_Z}  <  EUBO {upper:.3f}")
assert elbo[1] < LOG_Z < upper

# %% [markdown]
# ## Correct the samples
#
# `weighted_samples` returns the samples beside their weights. Eight steps give visibly wrong samples; weighted, they
# have the target's law.

# %%
process = bj.Process(start, sampler, bj.grids.uniform(8, T), backward=bj.noising(schedule))
x, w = bj.weighted_samples(process, keys, log_rho, forward=forward, backward=backward)
share = jax.nn.softmax(w)
right = x[:, 0] > 0.25
truth = 0.4 * jax.scipy.stats.norm.sf(0.25, -1.0, 0.5) + 0.6 * jax.scipy.stats.norm.sf(0.25, 1.5, 0.5)
square = mixture.cov()[0, 0] + mixture.mean()[0] ** 2
for what, f, true in (("P(x > 0.25)", right, truth), ("E[x^2]", x[:, 0] ** 2, square)):
    got = jnp.sum(share * f)
    check(f"weighted: {what}", got, true, 5 * jnp.sqrt(jnp.sum(share**2 * (f - got) ** 2)))
    print(f"{'unweighted:':44s}{f.mean():9.4f}")

line = jnp.linspace(-4.0, 4.5, 400)
density = jnp.exp(jax.vmap(mixture.log_prob)(line[:, None]))
fig, axes = plt.subplots(1, 2, figsize=(7.5, 2.5), sharey=True)
for axis, weight, title in ((axes[0], None, "8 Euler steps"), (axes[1], share, "the same samples, weighted")):
    axis.hist(x[:, 0], bins=70, range=(-4, 4.5), weights=weight, density=True, color="tab:blue", alpha=0.5)
    axis.plot(line, density, "k", lw=1, label="target")
    axis.set(title=title)
axes[0].legend()
plt.show()

# %% [markdown]
# ## Why a noise-free last step raises
#
# The exponential solver's last step, into clean data, is a point: it has no density, so the path has no weight. Left
# out, the sum would be a finite number, and wrong. bridgejax raises and names the step. End the grid just before it:
# $E[e^w] = Z$ holds there too, whatever the last noise level is.

# %%
exponential = bj.kernels.exponential(sampler)
grid = bj.grids.log_snr(12, schedule, log_snr_max=2.0)
path = bj.simulate_path(sampler, key, jnp.zeros(1), grid)
try:
    bj.path_log_ratio(path, exponential, backward)
except ValueError as problem:
    print("ValueError:", problem)
else:
    raise AssertionError("a step without a density must raise")

process = bj.Process(start, sampler, grid[:-1], backward=bj.noising(schedule))  # exponential and ou are the defaults
w = bj.log_weights(process, keys, log_rho)
check("11 exponential steps: log Z", bj.weights.log_z(w), LOG_Z, 5 * bj.weights.log_z_error(w))
print("share of effective samples:", float(bj.weights.ess(w)))
assert bj.weights.ess(w) > 0.1

# %% [markdown]
# ## The density of a flow
#
# A probability flow is invertible, so its density is exact: `log_prob` solves it from a sample back to the start law,
# with the divergence along. It says how it got its value: "exact", or "hutchinson" for the random estimate that high
# dimensions need. With a mixture's exact denoiser nothing is learnt, and the truth is the mixture's own density.

# %%
plane = bj.mixtures.gaussian_mixture(
    [[-1.5, 0.5], [1.0, -0.5]], [[[0.5, 0.2], [0.2, 0.4]], [[0.3, -0.1], [-0.1, 0.6]]], [0.3, 0.7]
)
vp = bj.schedules.vp()
flow = bj.probability_flow(vp, denoiser=bj.mixtures.mixture_denoiser(plane, vp))
flow_process = bj.Process(plane.diffuse(vp, vp.T), flow, bj.grids.uniform(10))
where = jnp.stack([jnp.linspace(-4.0, 4.0, 25), jnp.linspace(1.2, -1.2, 25)], axis=1)
got = jax.jit(jax.vmap(lambda x: bj.log_prob(flow_process, key, x)))(where)
want = jax.vmap(plane.log_prob)(where)
check("log_prob: largest error, nats", jnp.abs(got.value - want).max(), 0.0, 1e-3)
print("kind:", got.kind)

probes = bj.keys(key, 256)
guess = jax.jit(jax.vmap(lambda k: bj.log_prob(flow_process, k, where[6], divergence="hutchinson")))(probes)
check("Hutchinson, mean of 256 probes", guess.value.mean(), want[6], 5 * guess.value.std() / 16 + 1e-3)
# uniform noise on 256 grey levels has 8 bits; scaled to [-1, 1] its density is 1/2 per coordinate, a level 2/256 wide
check("bits per dimension of grey noise", bj.bits_per_dim(-64 * jnp.log(2.0), 64, bin_width=2 / 256), 8.0, 1e-5)

plt.figure(figsize=(5, 2.6))
fine = jnp.stack([jnp.linspace(-4.0, 4.0, 300), jnp.linspace(1.2, -1.2, 300)], axis=1)
plt.plot(fine[:, 0], jax.vmap(plane.log_prob)(fine), "k", lw=1, label="closed form")
plt.plot(where[:, 0], got.value, ".", ms=7, color="tab:blue", label="log_prob of the flow")
plt.gca().set(xlabel="along a line through the plane", ylabel="log p")
plt.legend()
plt.show()

# %% [markdown]
# ## Position and velocity: make, bend, run, weigh
#
# **Make.** A particle on a line with friction and kicks, its force turned in time from a spring at 0 into a double well
# around 1.5. The state is the pair (position, velocity), and only the velocity has noise.

# %%
T, friction = 3.0, 1.5


def log_well(q):
    return -2.0 * ((q - 1.5) ** 2 - 1.0) ** 2


def force(t, q, args):
    """The gradient of a log density on its way from exp(-q^2/2) to exp(log_well(q))."""
    return (1 - t / T) * -q + t / T * jax.grad(log_well)(q)


def drift(t, z, args):
    q, v = z
    return v, force(t, q, args) - friction * v


def kicks(t, z, args):
    return 0.0, (2.0 * friction) ** 0.5


particle = bj.SDE(drift, kicks, T=T)

# %% [markdown]
# **Bend.** `control` adds a push through the noise: here to the right, of strength `c`, and fading with time.


# %%
def push(c, t, z, args):
    return c * (1 - t / T) * jnp.ones_like(z[1])


def push_both(c, t, z, args):  # shaped like the noise: nothing for the position, the push for the velocity
    return jnp.zeros_like(z[0]), push(c, t, z, args)


pushed = bj.control(particle, Partial(push_both, jnp.float32(1.0)))

# %% [markdown]
# **Run.** With any solver, or with the step kernel made for such pairs, `kernels.underdamped`: kick the velocity, then
# take one leapfrog step. These are two discretisations of one SDE, so their moments agree.

# %%
rest = bj.starts.Normal((jnp.float32(0.0), jnp.float32(0.0)), 1.0)
fine = bj.grids.uniform(128, T)
z0 = jax.vmap(lambda k: rest(k))(bj.keys(jax.random.key(1), n_paths))
q, v = bj.simulate_batch(pushed, keys, z0, fine, solver=bj.solvers.Heun())
kernel = bj.kernels.underdamped(force, friction, control=Partial(push, jnp.float32(1.0)), T=T)
last = jax.vmap(lambda k, z: jax.tree.map(lambda leaf: leaf[-1], bj.kernels.walk(kernel, k, z, fine).xs))(keys, z0)
for name, a, b in (("E[q]", q, last[0]), ("E[q^2]", q**2, last[0] ** 2), ("E[v^2]", v**2, last[1] ** 2)):
    check(f"{name}: kernel beside solver", b.mean(), a.mean(), 5 * jnp.hypot(a.std(), b.std()) / n_paths**0.5 + 0.02)

# %% [markdown]
# **Weigh.** The position has no noise of its own, so no step has a density on the plane; the ratio of two steps
# exists all the same, because a leapfrog step can be undone exactly. $Z$ is one integral on the line times
# $\sqrt{2\pi}$ for the velocity. The push changes how much the samples are worth, and not the answer.

# %%
wide = jnp.linspace(-2.0, 5.0, 4001)
well = jnp.exp(jax.vmap(log_well)(wide))
well_mass = jnp.trapezoid(well, wide)
log_z = jnp.log(well_mass) + 0.5 * jnp.log(2 * jnp.pi)
process = bj.Process(rest, particle, bj.grids.uniform(16, T))


def log_density(z):
    return log_well(z[0]) - 0.5 * z[1] ** 2


def weigh(c, keys):
    there = bj.kernels.underdamped(force, friction, control=Partial(push, c), T=T)
    back = bj.kernels.underdamped(force, friction, T=T, direction="backward")
    return bj.weighted_samples(process, keys, log_density, forward=there, backward=back)


strengths = jnp.linspace(0.0, 1.2, 6)
results = [weigh(c, keys) for c in strengths]
wanted = bj.weights.log_z, bj.weights.log_z_error, bj.weights.ess
zs, errors, ess = (np.array([f(w) for _, w in results]) for f in wanted)
for c, z, error in zip(strengths, zs, errors, strict=True):
    check(f"16 steps, push {c:.2f}: log Z", z, log_z, 5 * error)
print("share of effective samples:", ess.round(2))
assert ess.min() > 0.1

best = int(ess.argmax())
assert 0 < best < len(strengths) - 1  # neither no push nor the hardest
(q, _), w = results[best]
share = jax.nn.softmax(w)
mean_q = jnp.trapezoid(wide * well, wide) / well_mass
check("weighted E[q]", jnp.sum(share * q), mean_q, 5 * jnp.sqrt(jnp.sum(share**2 * (q - mean_q) ** 2)))

fig, axes = plt.subplots(1, 3, figsize=(10, 2.7))
axes[0].axhline(log_z, color="k", lw=1, label="log Z, by quadrature")
axes[0].errorbar(strengths, zs, 5 * errors, fmt="o", ms=4, capsize=3, label="weights, ± 5 s.e.")
axes[0].plot(strengths, ess, "s--", ms=4, color="tab:green", label="share of effective samples")
axes[0].set(xlabel="strength of the push", ylim=(0, 1.8))
axes[0].legend(fontsize=7, loc="center right")
for axis, (z, _), weight, title in (
    (axes[1], results[0], None, "no push, unweighted"),
    (axes[2], results[best], share, "best push, weighted"),
):
    axis.hist(z[0], bins=70, range=(-1.5, 3.5), weights=weight, density=True, color="tab:blue", alpha=0.5)
    axis.plot(wide, well / well_mass, "k", lw=1, label="double well")
    axis.set(title=title, xlabel="position", xlim=(-1.5, 3.5))
axes[1].legend(fontsize=7)
plt.tight_layout()
plt.show()

# %% [markdown]
# Weights are differentiable, so the push can also be learnt: this is the gradient of the ELBO, beside a difference of
# two runs with the same keys. It is how samplers of unnormalised densities are trained.

# %%
few = keys[:1024]
bound = jax.jit(lambda c: bj.weights.elbo(weigh(c, few)[1]))
slope = jax.grad(bound)(jnp.float32(0.5))
check("d ELBO / d push", slope, (bound(jnp.float32(0.502)) - bound(jnp.float32(0.498))) / 0.004, 0.03 * abs(slope))

# %% [markdown]
# Back to [your first SDE](first_sde.ipynb), or [bend it](bend_it.ipynb).
