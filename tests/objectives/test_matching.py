"""The regressions' minimisers against closed forms, on Gaussians with no symmetry."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridgejax.bridges import interpolants, predictions
from bridgejax.objectives import matching, weightings
from bridgejax.objectives._matching import default_times
from bridgejax.objectives.times import uniform
from bridgejax.processes import keys, schedules

MEAN, VAR = 0.7, 0.3  # law of the data
N = 20_000

SCHEDULES = {
    "vp": schedules.vp(),
    "cosine": schedules.cosine(),
    "rectified": schedules.rectified(),
    "karras": schedules.karras(5.0),
}


def gaussian_denoiser(schedule, t, x):
    """E[x0 | x_t = x] for x0 ~ N(MEAN, VAR)."""
    a, s2 = schedule.alpha(t), schedule.variance(0.0, t)
    return MEAN + a * VAR / (a**2 * VAR + s2) * (x - a * MEAN)


def data(n=N, seed=0):
    return np.float32(MEAN + np.sqrt(VAR) * np.random.default_rng(seed).standard_normal((n, 1)))


def gradient_at(apply, interpolant, predict, batch, weight=None, high=None):
    """Mean and standard error of the gradient in the offsets (a, b) of apply + a + b x at zero."""
    t_max = interpolant.T if high is None else high
    loss = matching(interpolant, apply, predict, times=uniform(0.05 * t_max, 0.95 * t_max), weight=weight)
    rows = keys(jax.random.key(1), len(jax.tree.leaves(batch)[0]))
    one = jax.vmap(jax.grad(lambda p, k, b: loss(p, k[None], jax.tree.map(lambda v: v[None], b))[0]), (None, 0, 0))
    gradients = np.asarray(jax.jit(one)(jnp.zeros(2), rows, batch), np.float64)
    return gradients.mean(0), gradients.std(0) / np.sqrt(len(gradients))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("predict", ["x0", "eps", "score", "velocity"])
def test_the_conditional_expectation_is_stationary(name, predict):
    schedule = SCHEDULES[name]
    path = interpolants.diffusion(schedule)

    def apply(params, t, x, args):
        exact = predictions.solve(t, x, path, {"x0": gaussian_denoiser(schedule, t, x)}, predict)
        return exact + params[0] + params[1] * x

    weight = weightings.weight(schedule, predict, "eps")
    mean, error = gradient_at(apply, path, predict, data(), weight)
    assert np.all(np.abs(mean) < 5 * error)

    def shifted(params, t, x, args):  # the same test must notice a wrong network
        return apply(params, t, x, args) + 0.4

    mean, error = gradient_at(shifted, path, predict, data(), weight)
    assert np.any(np.abs(mean) > 10 * error)


@pytest.mark.parametrize("sigma", [0.0, 0.8])
def test_bridge_regressions_have_the_markov_projection_as_minimiser(sigma):
    """Independent ends N(-1, 0.5), N(MEAN, VAR): E[x1 | x_t] is linear with a closed form."""
    path = interpolants.brownian(sigma) if sigma else interpolants.linear()
    source = np.float32(-1 + np.sqrt(0.5) * np.random.default_rng(1).standard_normal((N, 1)))

    def end(t, x):
        mean = (1 - t) * -1 + t * MEAN
        variance = (1 - t) ** 2 * 0.5 + t**2 * VAR + sigma**2 * t * (1 - t)
        return MEAN + t * VAR / variance * (x - mean)

    for predict in ("x1", "drift") if sigma else ("x1", "velocity"):

        def apply(params, t, x, args, predict=predict):
            exact = end(t, x) if predict == "x1" else (end(t, x) - x) / (1 - t)
            return exact + params[0] + params[1] * x

        mean, error = gradient_at(apply, path, predict, {"source": source, "target": data()})
        assert np.all(np.abs(mean) < 5 * error)


def test_the_minimum_is_the_irreducible_error():
    """At the optimum the eps loss is E Var[eps | x_t] = E_t alpha^2 VAR / (alpha^2 VAR + sigma^2)."""
    schedule = SCHEDULES["vp"]
    path = interpolants.diffusion(schedule)

    def apply(params, t, x, args):
        return predictions.solve(t, x, path, {"x0": gaussian_denoiser(schedule, t, x)}, "eps")

    loss = matching(path, apply, "eps", times=uniform(0.05, 1.0))
    parts = [float(loss(None, keys(jax.random.key(i), N // 10), data(N // 10, seed=i))[0]) for i in range(10)]
    t = np.linspace(0.05, 1.0, 20_001)
    a2 = np.asarray(jax.vmap(schedule.alpha)(jnp.asarray(t, jnp.float32)), np.float64) ** 2
    truth = np.mean(a2 * VAR / (a2 * VAR + 1 - a2))
    assert abs(np.mean(parts) - truth) < 5 * np.std(parts, ddof=1) / np.sqrt(10)


@pytest.mark.parametrize(("predict", "weighting"), [*itertools.product(["x0", "eps", "velocity"], repeat=2)])
def test_weightings_translate_errors(predict, weighting):
    """weight(predict -> w) |d predict|^2 is |d w|^2 for the same change of x0 at fixed x_t."""
    schedule = SCHEDULES["vp"]
    path = interpolants.diffusion(schedule)
    t, x = jnp.float32(0.37), jnp.float32(0.4)

    def change(name):
        return jax.grad(lambda x0: predictions.solve(t, x, path, {"x0": x0}, name))(0.2) if name != "x0" else 1.0

    weight = weightings.weight(schedule, predict, weighting)(t)
    np.testing.assert_allclose(weight * change(predict) ** 2, change(weighting) ** 2, rtol=2e-4)


def test_named_weightings_have_their_formulas():
    schedule = SCHEDULES["vp"]
    t = jnp.asarray([0.01, 0.2, 0.9])
    snr = jnp.exp(jax.vmap(schedule.log_snr)(t))
    at = lambda name: jax.vmap(weightings.weight(schedule, "x0", name, sigma_data=0.5))(t)  # noqa: E731
    np.testing.assert_allclose(at("eps"), snr, rtol=1e-4)
    np.testing.assert_allclose(at("min_snr"), np.minimum(snr, 5.0), rtol=1e-4)
    np.testing.assert_allclose(at("edm"), snr + 4.0, rtol=1e-4)
    g2, s2 = jax.vmap(schedule.diffusion_squared)(t), jax.vmap(lambda u: schedule.variance(0.0, u))(t)
    np.testing.assert_allclose(at("likelihood"), 0.5 * g2 * snr / s2, rtol=1e-4)


def test_micro_batches_add_up():
    path = interpolants.diffusion(SCHEDULES["vp"])

    def apply(params, t, x, args):
        return params * x + t

    loss = jax.jit(matching(path, apply, "eps"))
    all_keys, x = keys(jax.random.key(2), 96), data(96)
    whole = loss(0.5, all_keys, x)[0]
    parts = [loss(0.5, all_keys[i : i + 32], x[i : i + 32])[0] for i in (0, 32, 64)]
    np.testing.assert_allclose(whole, np.mean(parts), rtol=1e-6)


def test_condition_dropout_hides_the_stated_share():
    path = interpolants.diffusion(SCHEDULES["vp"])
    n, rate = 4000, 0.3

    def apply(params, t, x, args):  # 1 where the condition is hidden
        return params * (args == 10) + 0 * x

    loss = matching(path, apply, "eps", condition_dropout=rate, null=10)
    batch = {"x": data(n), "label": np.full(n, 3, np.int32)}
    # d/dp (p 1_hidden - eps)^2 at p = 0 is -2 eps 1_hidden; the second derivative is 2 * share hidden
    second = jax.grad(jax.grad(lambda p: loss(p, keys(jax.random.key(4), n), batch)[0]))(0.0)
    assert abs(second / 2 - rate) < 5 * np.sqrt(rate * (1 - rate) / n)


def test_bad_input():
    path, schedule = interpolants.diffusion(SCHEDULES["vp"]), SCHEDULES["vp"]
    one = keys(jax.random.key(0), 1)
    with pytest.raises(ValueError, match="predict must be one of"):
        matching(path, lambda p, t, x, a: x, "noise")
    with pytest.raises(ValueError, match=r"condition_dropout must lie in \[0, 1\)"):
        matching(path, lambda p, t, x, a: x, "eps", condition_dropout=1.0, null=0)
    with pytest.raises(ValueError, match="needs null"):
        matching(path, lambda p, t, x, a: x, "eps", condition_dropout=0.1)
    loss = matching(interpolants.brownian(), lambda p, t, x, a: x, "x1")
    with pytest.raises(ValueError, match="source and target"):
        loss(None, one, data(1))
    with pytest.raises(ValueError, match="a batch has x, or source and target"):
        loss(None, one, {"y": data(1)})
    with pytest.raises(ValueError, match="no quantity of this path"):
        matching(interpolants.linear(), lambda p, t, x, a: x, "score")(
            None, one, {"source": data(1), "target": data(1)}
        )
    with pytest.raises(ValueError, match="weighting must be one of"):
        weightings.weight(schedule, "eps", "snr")
    with pytest.raises(ValueError, match="predict must be one of"):
        weightings.weight(schedule, "drift")


def test_the_default_times_leave_out_a_thousandth_at_each_end():
    """At the noisy end of a path with one end, nothing."""
    for path, high in ((interpolants.diffusion(schedules.karras(4.0)), 4.0), (interpolants.brownian(), 1 - 1e-3)):
        t = np.asarray(default_times(path)(keys(jax.random.key(0), 4096)), np.float64)
        low = 1e-3 * path.T
        assert low <= t.min() < low + 5 * path.T / 4096
        assert high - 5 * path.T / 4096 < t.max() <= high * (1 + 1e-6)
