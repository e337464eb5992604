"""Truncated diffusion: exact networks give the law of the data, each optimizer moves its own network, runs resume."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import bridgejax as bj

SCHEDULE, S = bj.schedules.cosine(), 0.5
K = 0.4
ROWS = np.float32(np.random.default_rng(0).normal(size=(256, 2)) * S)
CUT = dataclasses.replace(SCHEDULE, T=K, zero_terminal_snr=False)
STILL = optax.set_to_zero()


def exact(params, t, x, args):
    """E[eps | x_t] of N(0, S^2 I), and beyond K nothing: G(z) is then the law of x_K."""
    alpha, sigma = SCHEDULE.alpha(jnp.minimum(t, K)), SCHEDULE.sigma(jnp.minimum(t, K))
    return jnp.where(t > K, 0.0, sigma * x / (alpha**2 * S**2 + sigma**2)) + 0.0 * params


def plane(params, t, x, args):
    """D(x) = w.x: its gradient is w."""
    return params @ x


def bend(params, t, x, args):
    return params["w"] * jnp.tanh(x) + params["b"]


def small(seed=0.1):
    return bend, {"w": jnp.full(2, seed), "b": jnp.full(2, seed)}


def mlp():
    return bj.networks.MLP((2,), width=8, depth=1, num_classes=3, rngs=nnx.Rngs(0))


def make(**changes):
    given = dict(
        network=small(), generator_network=small(0.2), discriminator=(plane, jnp.array([0.3, -0.2])), shape=(2,),
        truncation=K, sigma_data=S, ema=None,
    )  # fmt: skip
    given |= changes
    if given.get("generator") == "shared":
        del given["generator_network"]
    return bj.methods.truncated(given.pop("schedule", SCHEDULE), given.pop("network"), **given)


@pytest.mark.parametrize("sampler", ["ode", "sde"])
def test_exact_networks_give_the_law_of_the_data(sampler):
    ts = bj.grids.log_snr(40 if sampler == "ode" else 80, CUT)
    method = make(network=(exact, jnp.zeros(())), generator="shared", sampler=sampler, ts=ts)
    process = method.process(method.init(jax.random.key(0), None))
    n = 20_000
    x = np.asarray(bj.sample(process, bj.keys(jax.random.key(1), n)), np.float64)
    np.testing.assert_allclose(x.mean(0), 0.0, atol=5 * S / np.sqrt(n))
    np.testing.assert_allclose(x.std(0), S, atol=5 * S / np.sqrt(2 * n) + 0.005)
    back = bj.sample(process, bj.keys(jax.random.key(2), n), x=jnp.asarray(x, jnp.float32), direction="backward")
    variance = float((SCHEDULE.alpha(K) * S) ** 2 + SCHEDULE.sigma(K) ** 2)
    np.testing.assert_allclose(np.asarray(back).var(0), variance, rtol=5 * np.sqrt(2 / n) + 0.02)


def test_any_solver_runs_it_and_its_density_is_refused():
    method = make(network=(exact, jnp.zeros(())), generator="shared")
    process, keys = method.process(method.init(jax.random.key(0), None)), bj.keys(jax.random.key(1), 64)
    assert len(process.ts) == 6
    assert float(process.ts[-1]) == pytest.approx(K)
    fine = bj.grids.log_snr(60, CUT)
    first = bj.sample(process, keys, ts=fine)
    other = bj.sample(process, keys, ts=fine, solver=bj.solvers.Heun())
    np.testing.assert_allclose(other, first, atol=0.02)
    with pytest.raises(ValueError, match="start law of this process has no log_prob"):
        bj.log_prob(process, jax.random.key(0), jnp.zeros(2))


def test_by_default_half_of_the_truncated_state_is_noise():
    method = make(truncation=None)
    T = method.process(method.init(jax.random.key(0), None)).dynamics.T
    assert float(SCHEDULE.alpha(T)) * S == pytest.approx(float(SCHEDULE.sigma(T)), rel=1e-5)


def moved(method, steps=1):
    state = method.init(jax.random.key(0), ROWS)
    for k in range(steps):
        state, metrics = jax.jit(method.step)(state, jax.random.fold_in(jax.random.key(1), k), ROWS)
    return state, metrics


def names_moved(live, **changes):
    optimizers = {
        "denoiser": "optimizer",
        "generator": "generator_optimizer",
        "discriminator": "discriminator_optimizer",
    }
    given = {optimizers[role]: optax.sgd(0.1) if role == live else STILL for role in optimizers}
    method = make(**given, **changes)
    before, (after, _) = method.init(jax.random.key(0), ROWS).params, moved(method)
    changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), before, after.params)
    return {name for name, leaves in changed.items() if any(jax.tree.leaves(leaves))}


@pytest.mark.parametrize("role", ["denoiser", "generator", "discriminator"])
def test_an_optimizer_moves_its_own_network(role):
    assert names_moved(role) == {role}
    assert names_moved(role, generator="shared") == {"denoiser" if role == "generator" else role}


def test_gradients_are_those_of_each_loss_alone():
    """A plane tells x_K from G(z): its gradient, and that of a shift of all G(z), by hand."""
    n, w, rate = 40_000, np.array([0.3, -0.2]), 1.0
    rows = jnp.asarray(np.random.default_rng(3).normal(size=(n, 2)) * S + [1.0, 0.0], jnp.float32)
    zero = (bend, {"w": jnp.zeros(2), "b": jnp.zeros(2)})
    method = make(
        generator_network=zero, gamma=0.0, generator_optimizer=optax.sgd(rate), discriminator_optimizer=optax.sgd(rate)
    )
    state, metrics = jax.jit(method.step)(method.init(jax.random.key(0), rows), jax.random.key(1), rows)
    alpha, sigma = float(SCHEDULE.alpha(K)), float(SCHEDULE.sigma(K))
    s = np.sqrt(alpha**2 * S**2 + sigma**2)
    z = np.random.default_rng(4).normal(size=(400_000, 2)) * s
    real, fake = (z + [alpha, 0.0]), z
    sig = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    d_grad = -(sig(-real @ w)[:, None] * real).mean(0) + (sig(fake @ w)[:, None] * fake).mean(0)
    g_grad = -(sig(-fake @ w)).mean() * w
    np.testing.assert_allclose(state.params["discriminator"], w - rate * d_grad, atol=5 * 2 * s / np.sqrt(n))
    np.testing.assert_allclose(state.params["generator"]["b"], -rate * g_grad, atol=5 * 0.1 / np.sqrt(n))
    np.testing.assert_allclose(metrics["generator"], np.logaddexp(0, -fake @ w).mean(), atol=5 * 0.3 / np.sqrt(n))


@pytest.mark.parametrize("every", [1, 4])
def test_the_penalty_comes_seldom_and_in_full(every):
    """R1 of a plane is gamma |w|^2 / 2 whatever the data: one update of sgd takes every * gamma * w more."""
    w, gamma = np.array([0.3, -0.2]), 0.5
    still = dict(optimizer=STILL, generator_optimizer=STILL, discriminator_optimizer=optax.sgd(0.1), r1_every=every)
    with_r1, without = (moved(make(gamma=g, **still))[0].params["discriminator"] for g in (gamma, 0.0))
    np.testing.assert_allclose(without - with_r1, 0.1 * every * gamma * w, rtol=1e-4)
    # at the second update it is there again only if every is 1
    method = make(gamma=gamma, **still)
    start = method.init(jax.random.key(0), ROWS)._replace(step=jnp.ones((), jnp.int32))
    plain = make(gamma=0.0, **still)
    after, other = (jax.jit(m.step)(start, jax.random.key(1), ROWS)[0].params["discriminator"] for m in (method, plain))
    np.testing.assert_allclose(other - after, 0.1 * gamma * w if every == 1 else 0.0, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("generator", ["separate", "shared"])
def test_a_run_resumes_bit_for_bit(generator, tmp_path):
    """With averages, penalties at every second update, labels that are hidden at times, and micro-batches."""
    data = {"x": ROWS, "label": np.arange(256, dtype=np.int32) % 3}
    networks = {name: mlp() for name in ("network", "generator_network", "discriminator")}
    method = make(**networks, generator=generator, r1_every=2, null=3, condition_dropout=0.2, accumulate=2, ema=0.9)
    arguments = dict(batch_size=32)
    once = bj.fit(method, data, jax.random.key(0), steps=6, **arguments)
    bj.fit(method, data, jax.random.key(0), steps=3, directory=tmp_path, **arguments)
    twice = bj.fit(method, data, jax.random.key(0), steps=6, directory=tmp_path, **arguments)
    jax.tree.map(np.testing.assert_array_equal, once, twice)
    assert int(once.step) == 6
    assert set(once.params) == ({"denoiser", "discriminator"} | ({"generator"} if generator == "separate" else set()))
    x = bj.sample(method.process(once), bj.keys(jax.random.key(1), 9), jnp.arange(9) % 4)  # the null label too
    assert np.isfinite(np.asarray(x)).all()


def test_conditions_reach_the_generator():
    def told(params, t, x, args):
        return params + args * jnp.ones(2)

    method = make(generator_network=(told, jnp.zeros(2)))
    process = method.process(method.init(jax.random.key(0), None))
    z = process.start(jax.random.key(0), jnp.float32(0.0))
    np.testing.assert_allclose(process.start(jax.random.key(0), jnp.float32(3.0)) - z, 3.0, rtol=1e-6)


@pytest.mark.slow
def test_two_modes_of_unequal_weight_are_learnt():
    """A quarter at -1 and the rest at 1, in six evaluations."""
    n = 20_000
    side = np.where(np.random.default_rng(0).random(n) < 0.25, -1.0, 1.0)
    x = np.float32(side[:, None] + 0.05 * np.random.default_rng(1).normal(size=(n, 1)))
    method = bj.methods.truncated(SCHEDULE, shape=(1,), sigma_data=float(x.std()))
    state = bj.fit(method, x, jax.random.key(0), steps=1500, batch_size=256)
    found = np.asarray(bj.sample(method.process(state), bj.keys(jax.random.key(1), 4000)))
    assert abs((found < 0).mean() - 0.25) < 0.05
    assert (np.abs(np.abs(found) - 1.0) < 0.25).mean() > 0.97


def step_on(batch):
    method = make()
    return method.step(method.init(jax.random.key(0), None), jax.random.key(1), batch)


BAD = {
    "schedule": (lambda: make(schedule="cosine"), "schedule must be a Schedule"),
    "at 0": (lambda: make(truncation=0.0), r"truncation must be a time inside the schedule, in \(0, T\)"),
    "at T": (lambda: make(truncation=1.0), "truncation must be a time inside the schedule"),
    "beyond": (lambda: make(truncation=1.5), "truncation must be a time inside the schedule"),
    "traced": (lambda: jax.jit(lambda t: make(truncation=t))(0.3), "must be concrete"),
    "no noise": (lambda: make(truncation=1e-4), "leaves a log SNR of"),
    "never as noisy": (lambda: make(schedule=bj.schedules.brownian(0.1), truncation=None), "never holds as much noise"),
    "generator": (lambda: make(generator="gan"), "generator must be one of"),
    "two networks": (
        lambda: bj.methods.truncated(SCHEDULE, shape=(2,), generator="shared", generator_network=small()),
        "leave it out",
    ),
    "sampler": (lambda: make(sampler="euler"), "sampler must be one of"),
    "gamma": (lambda: make(gamma=-1.0), "gamma must be >= 0"),
    "r1_every": (lambda: make(r1_every=0), "r1_every must be an integer >= 1"),
    "optimizer": (lambda: make(generator_optimizer="adam"), "generator_optimizer must be an optax transformation"),
    "ema": (lambda: make(ema=2.0), "ema must be a decay"),
    "guidance": (lambda: make(guidance_scale=2.0), "guidance_scale needs null"),
    "pairs": (lambda: step_on({"source": ROWS, "target": ROWS}), "data alone"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()
