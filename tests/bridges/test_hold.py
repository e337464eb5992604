"""Held coordinates in sampling (guidance.hold) and training (networks.hold): Gaussians conditioned in closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import bridgejax as bj
from bridgejax.bridges import guidance, interpolants, probability_flow, reverse
from bridgejax.networks import hold
from bridgejax.objectives import matching
from bridgejax.processes import SDE, schedules
from bridgejax.processes._keys import keys
from bridgejax.solve import grids, simulate_batch, simulate_path, solvers
from bridgejax.solve._solvers.one_step import exponential_step

VP = schedules.vp(0.1, 10.0)
MEAN = jnp.array([0.5, -0.3, 0.2])
COV = jnp.array([[1.0, 0.6, -0.3], [0.6, 0.8, 0.1], [-0.3, 0.1, 0.5]])
MASK = jnp.array([True, False, False])
N = 4096


def gaussian(mean, axes, t, x, args):
    """E[x_0 | x_t] of a Gaussian whose covariance has these eigenvalues and eigenvectors."""
    alpha, (values, vectors) = VP.alpha(t), axes
    gain = alpha * values / (alpha**2 * values + VP.variance(0.0, t))
    return mean + vectors @ (gain * (vectors.T @ (x - alpha * mean)))


def given_first(t, x, args):
    """E[x_0 | x_0[0] = x[0], x_t[1:] = x[1:]]: what a network learns that is shown the first coordinate."""
    return jnp.concatenate([x[:1], gaussian(conditional(x[0])[0], LEFT, t, x[1:], args)])


def conditional(v):
    """Mean and covariance of the last two coordinates given the first."""
    gain = COV[1:, 0] / COV[0, 0]
    return MEAN[1:] + gain * (v - MEAN[0]), COV[1:, 1:] - jnp.outer(gain, COV[0, 1:])


WHOLE, LEFT = jnp.linalg.eigh(COV), jnp.linalg.eigh(conditional(0.0)[1])


def same(args):
    return args


def rest_is_none(params, t, x, args):
    assert args is None
    return params["w"] @ x + params["b"]


@functools.cache
def grid(steps):
    return grids.log_snr(steps, VP, log_snr_max=7.0)


def process(denoiser, make=reverse, steps=40):
    return bj.Process(bj.starts.normal((3,)), make(VP, denoiser=denoiser), grid(steps))


def held_process(denoiser, make=reverse):
    plain = process(denoiser, make)
    return bj.Process(plain.start, guidance.hold(plain.dynamics, MASK, same), plain.ts)


@pytest.mark.parametrize("solver", [None, solvers.Euler()])
def test_free_coordinates_are_those_of_putting_the_values_back_after_every_step(key, solver):
    value, x0 = jnp.array([1.7, 9.0, 9.0]), jnp.array([0.3, -1.0, 0.4])
    plain = process(Partial(gaussian, MEAN, WHOLE), steps=12)
    path = jax.jit(
        lambda: simulate_path(guidance.hold(plain.dynamics, MASK, value), key, x0, plain.ts, solver=solver)
    )()
    x, free = x0, []
    for t, u, w in zip(plain.ts[:-2], plain.ts[1:-1], path.noise, strict=True):
        x = jnp.where(MASK, value, x)  # put back
        if solver is None:
            denoised = plain.dynamics.semilinear.denoiser(1.0 - t, x, None)
            x = exponential_step(VP, 1.0 - t, 1.0 - u, x, denoised, w / jnp.sqrt(u - t), 1.0)
        else:
            x = x + (u - t) * plain.dynamics.drift(t, x, None) + plain.dynamics.diffusion(t, x, None) * w
        free.append(x)
    np.testing.assert_allclose(path.xs[1:-1, 1:], jnp.stack(free)[:, 1:], rtol=2e-5, atol=2e-6)
    landed = plain.dynamics.semilinear.denoiser(1.0 - plain.ts[-2], jnp.where(MASK, value, x), None)
    np.testing.assert_allclose(path.xs[-1, 1:], landed[1:], rtol=2e-5, atol=2e-6)
    assert path.xs[-1, 0] == value[0]


@pytest.mark.parametrize("make", [reverse, probability_flow])
def test_a_denoiser_that_saw_the_values_gives_the_conditional_law(key, make):
    """Each sample has its own value. Residuals from the conditional mean: no trend, the conditional covariance."""
    given = jnp.zeros((N, 3)).at[:, 0].set(jnp.linspace(-2.0, 2.0, N))
    x = bj.sample(held_process(given_first, make=make), keys(key, N), given, solver=solvers.DPMSolverPP2M())
    np.testing.assert_array_equal(x[:, 0], given[:, 0])
    residual = np.asarray(x[:, 1:] - jax.vmap(lambda v: conditional(v)[0])(given[:, 0]), np.float64)
    cov = np.asarray(conditional(0.0)[1], np.float64)
    sd = np.sqrt(np.diag(cov))
    assert np.all(np.abs(residual.mean(0)) < 5 * sd / np.sqrt(N) + 2e-3)
    slope = residual.T @ np.asarray(given[:, 0], np.float64) / np.sum(np.asarray(given[:, 0], np.float64) ** 2)
    assert np.all(np.abs(slope) < 5 * sd / np.sqrt(N * 4 / 3) + 2e-3)
    assert np.all(np.abs(np.cov(residual.T) - cov) < 5 * np.sqrt(2 / N) * np.outer(sd, sd) + 5e-3)


def test_without_training_it_is_exact_for_independent_coordinates_and_not_for_others(key):
    given = jnp.zeros((N, 3)).at[:, 0].set(2.0)
    independent = COV * jnp.outer(MASK, MASK) + COV * jnp.outer(~MASK, ~MASK)
    for cov, exact in ((independent, True), (COV, False)):
        denoiser = Partial(gaussian, MEAN, jnp.linalg.eigh(cov))
        x = bj.sample(held_process(denoiser), keys(key, N), given)
        np.testing.assert_array_equal(x[:, 0], given[:, 0])
        if exact:  # the same numbers as without
            free = bj.sample(process(denoiser), keys(key, N))
            np.testing.assert_allclose(x[:, 1:], free[:, 1:], rtol=1e-5, atol=1e-5)
        else:
            off = np.abs(np.asarray(x[:, 1:].mean(0) - conditional(2.0)[0])) * np.sqrt(N / np.diag(conditional(0.0)[1]))
            assert off.max() > 5


def test_the_loss_has_its_minimum_at_the_conditional_mean_and_no_gradient_where_held(key):
    """At one time a linear network can be E[x_0 | free x_t, v]: there the gradient is zero, within 5 s.e."""
    t = 0.35
    mean, cov = conditional(0.0)
    alpha, total = VP.alpha(t), VP.alpha(t) ** 2 * cov + VP.variance(0.0, t) * jnp.eye(2)
    gain = alpha * jnp.linalg.solve(total, cov).T
    trend = (jnp.eye(2) - alpha * gain) @ (COV[1:, 0] / COV[0, 0])
    best = {
        "w": jnp.zeros((3, 3)).at[1:, 0].set(trend).at[1:, 1:].set(gain),
        "b": jnp.zeros(3).at[1:].set((jnp.eye(2) - alpha * gain) @ mean),
    }
    apply, _ = hold((rest_is_none, best), MASK, same)
    loss = matching(interpolants.diffusion(VP), apply, "x0", times=Partial(lambda ks: jnp.full(ks.shape, t)))
    x = MEAN + jax.random.normal(key, (N, 3)) @ jnp.linalg.cholesky(COV).T

    def gradient(params, k, row):
        return jax.grad(lambda p: loss(p, k[None], {"x": row[None], "args": row[None]})[0])(params)

    def scores(params):
        found = jax.jit(jax.vmap(gradient, (None, 0, 0)))(params, keys(key, N), x)
        assert not np.any(found["w"][:, 0])
        assert not np.any(found["b"][:, 0])
        return [np.sqrt(N) * np.abs(g[:, 1:].mean(0)) / g[:, 1:].std(0) for g in (found["w"], found["b"])]

    assert max(z.max() for z in scores(best)) < 5
    whole = alpha * jnp.linalg.solve(alpha**2 * COV + VP.variance(0.0, t) * jnp.eye(3), COV).T
    seen = {"w": whole, "b": (jnp.eye(3) - alpha * whole) @ MEAN}  # the denoiser that sees x_t noisy throughout
    assert max(z.max() for z in scores(seen)) > 5


def test_fresh_values_masks_and_pairs_are_traced_once(key):
    traces, before = [], 0

    def counted(t, x, args):
        traces.append(0)
        return 0.5 * x

    sde = reverse(VP, denoiser=counted)
    for shift in range(3):
        mask, value = jnp.roll(MASK, shift), jnp.full(3, 1.0 + shift)
        x = simulate_batch(
            guidance.hold(sde, mask, value), keys(key, 4), jnp.zeros(3), grids.uniform(3), axes=(None,) * 3
        )
        np.testing.assert_array_equal(x[:, shift], 1.0 + shift)
        before = before or len(traces)
    assert len(traces) == before
    many = jax.vmap(lambda v: guidance.hold(sde, MASK, v))(jnp.arange(6.0).reshape(2, 3))
    x = simulate_batch(many, keys(key, 2), jnp.zeros(3), grids.uniform(3), axes=(0, None, None))
    np.testing.assert_array_equal(x[:, 0], [0.0, 3.0])
    first, second = (hold((rest_is_none, 0), np.asarray(MASK), same)[0] for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    assert first != hold((rest_is_none, 0), ~np.asarray(MASK), same)[0]


def told_label(params, t, x, args):
    return jax.tree.map(lambda leaf: args * jnp.ones_like(leaf), x)


def held_part(args):
    return args["held"]


def label_part(args):
    return args["label"]


def test_pytrees_and_a_condition_of_the_networks_own():
    x = {"a": jnp.zeros(2), "b": jnp.zeros((2, 2))}
    mask = {"a": np.array([True, False]), "b": np.zeros((2, 2), bool)}
    apply, _ = hold((told_label, None), mask, held_part, label_part)
    out = apply(None, 0.1, x, {"held": jax.tree.map(jnp.ones_like, x), "label": 3.0})
    np.testing.assert_array_equal(out["a"], [0.0, 3.0])
    np.testing.assert_array_equal(out["b"], np.full((2, 2), 3.0))
    sde = guidance.hold(reverse(VP, denoiser=lambda t, x, args: x), mask, held_part)
    seen = sde.semilinear.denoiser(0.1, x, {"held": jax.tree.map(jnp.ones_like, x)})
    np.testing.assert_array_equal(seen["a"], [1.0, 0.0])


def test_a_paired_bridge_holds_both_ends(key):
    """i2sb, untrained: the free coordinates move, the held ones end where the source has them."""
    pair = hold((rest_is_none, {"w": 0.1 * jnp.eye(3), "b": jnp.zeros(3)}), np.asarray(MASK), same)
    method = bj.methods.i2sb(
        pair, shape=(3,), conditional=True, ts=grids.uniform(4), time_sampler=bj.objectives.times.uniform()
    )
    data = {"source": np.ones((4, 3), np.float32), "target": np.ones((4, 3), np.float32)}
    learnt = method.process(method.init(key, data))
    sources = jnp.arange(12.0).reshape(4, 3)
    x = bj.sample(
        bj.Process(learnt.start, guidance.hold(learnt.dynamics, MASK, same), learnt.ts), keys(key, 4), sources
    )
    np.testing.assert_array_equal(x[:, 0], sources[:, 0])
    assert np.all(np.asarray(x[:, 1:]) != sources[:, 1:])


BACK = reverse(VP, denoiser=lambda t, x, args: x)
BAD = [
    (lambda: guidance.hold(SDE(lambda t, x, args: x), MASK, same), "hold bends an sde that is a reversal"),
    (lambda: guidance.hold(BACK, "all", same), "mask must hold booleans"),
    (lambda: guidance.hold(BACK, MASK, "now"), "value must be an array"),
    (lambda: guidance.hold(BACK, MASK[:2], same).drift(0.1, MEAN, MEAN), "mask"),
    (lambda: guidance.hold(BACK, MASK, same).drift(0.1, MEAN, jnp.ones(2)), r"what value\(args\) returns"),
    (lambda: hold((rest_is_none, 0), 0.5, same), "mask must hold concrete booleans"),
    (lambda: hold((rest_is_none, 0), MASK, MEAN), r"value must be a function value\(args\)"),
    (lambda: hold((rest_is_none, 0), MASK, same, 3), r"condition must be a function condition\(args\)"),
    (lambda: hold((rest_is_none, 0), MASK, same)[0](0, 0.1, MEAN, jnp.ones(2)), r"what value\(args\) returns"),
    (lambda: hold((rest_is_none, 0), MASK[:2], same)[0](0, 0.1, MEAN, MEAN), "mask must be shaped like x"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
