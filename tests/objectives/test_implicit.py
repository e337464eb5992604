"""Implicit score matching on Gaussians: minimum, minimiser and denoising matching, all in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridgejax.bridges import interpolants
from bridgejax.objectives import implicit, matching, times
from bridgejax.objectives._implicit import DIVERGENCES, energy
from bridgejax.processes import keys, schedules

MEAN = np.array([0.7, -0.3, 1.1])
COVARIANCE = np.array([[1.0, 0.5, 0.1], [0.5, 0.8, -0.2], [0.1, -0.2, 0.4]])  # no symmetry to hide behind
PRECISION = np.linalg.inv(COVARIANCE)
N = 8000


def data(n=N, seed=0):
    return np.float32(np.random.default_rng(seed).multivariate_normal(MEAN, COVARIANCE, n))


def linear(params, t, x, args):
    """s(x) = b - A x, the score of a Gaussian for A its precision and b = A mean."""
    return params["b"] - params["A"] @ x


EXACT = {"A": jnp.float32(PRECISION), "b": jnp.float32(PRECISION @ MEAN)}


def rows(x):
    """One (key, sample) at a time, each a batch of one."""
    return keys(jax.random.key(1), len(x))[:, None], x[:, None]


def mean_and_error(values):
    values = np.asarray(values, np.float64)
    return values.mean(0), values.std(0) / np.sqrt(len(values))


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_gaussian_minimum_and_stationarity(divergence):
    """At the score the loss is -E|grad log p|^2 / 2 = -tr(precision) / 2 and its gradient is zero."""
    loss = implicit(None, linear, divergence=divergence)
    per_row = jax.vmap(jax.value_and_grad(lambda p, k, x: loss(p, k, x)[0]), (None, 0, 0))
    values, gradients = jax.jit(per_row)(EXACT, *rows(data()))
    mean, error = mean_and_error(values)
    assert error < 0.06 * 0.5 * np.trace(PRECISION)  # else agreement would say nothing
    assert abs(mean + 0.5 * np.trace(PRECISION)) < 5 * error
    for name in EXACT:
        mean, error = mean_and_error(gradients[name])
        assert np.all(np.abs(mean) < 5 * error + 1e-6)
    wrong = {"A": EXACT["A"] + 0.3 * jnp.eye(3), "b": EXACT["b"] + 0.5}  # the same test notices a wrong score
    _, gradients = jax.jit(per_row)(wrong, *rows(data()))
    mean, error = mean_and_error(gradients["A"])
    assert np.any(np.abs(mean) > 10 * error)


def test_the_minimiser_is_the_closed_form():
    """For a linear score the loss is quadratic in A and b; one Newton step ends at the sample's own precision."""
    x = data(2000)
    loss = implicit(None, lambda p, t, x, args: p[9:] - p[:9].reshape(3, 3) @ x, divergence="exact")
    value = lambda p: loss(p, keys(jax.random.key(0), len(x)), x)[0]  # noqa: E731
    gradient, hessian = jax.jit(lambda p: (jax.grad(value)(p), jax.hessian(value)(p)))(jnp.zeros(12))
    found = np.linalg.solve(np.asarray(hessian, np.float64), -np.asarray(gradient, np.float64))
    wanted = np.linalg.inv(np.cov(x.T.astype(np.float64), bias=True))
    # float32 sums of 2000 terms: a relative 1e-5 in the Hessian, times its condition number of about 50
    np.testing.assert_allclose(found[:9].reshape(3, 3), wanted, rtol=1e-3, atol=1e-3 * wanted.max())
    np.testing.assert_allclose(found[9:], wanted @ x.mean(0), rtol=2e-3, atol=2e-3)


def smooth(params, t, x, args):
    """A nonlinear field with a full Jacobian."""
    return jnp.tanh(params @ x + t) * x[::-1] + jnp.sin(x[0] * x[1])


def test_probes_are_unbiased_and_more_of_them_have_less_variance():
    params, x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)), jnp.float32), jnp.float32([0.3, -1.0, 0.8])
    score = lambda y: smooth(params, 0.2, y, None)  # noqa: E731
    cases = [(kind, probes) for kind in ("hutchinson", "sliced") for probes in (1, 8)]

    @jax.jit
    def everything(k):
        drawn = [jax.vmap(lambda key, c=c: energy(score, x, c[0], key, c[1]))(k) for c in cases]
        return drawn, energy(score, x, "exact"), jax.jacfwd(score)(x), score(x)

    many, by_ours, jacobian, value = everything(keys(jax.random.key(2), 4000))
    jacobian, value = np.asarray(jacobian, np.float64), np.asarray(value, np.float64)
    exact = 0.5 * value @ value + np.trace(jacobian)
    np.testing.assert_allclose(by_ours, exact, rtol=1e-5)
    for values in many:
        mean, error = mean_and_error(values)
        assert abs(mean - exact) < 5 * error + 1e-5
    spread = dict(zip(cases, (np.var(values) for values in many), strict=True))
    for kind in ("hutchinson", "sliced"):
        # independent probes: a ratio of exactly 8, whose estimate from 4000 draws errs by a few per cent
        assert 6.5 < spread[kind, 1] / spread[kind, 8] < 9.8
    # signs: the variance of v . J v is that of the off-diagonal of J + J^T
    off = jacobian + jacobian.T - np.diag(2 * np.diag(jacobian))
    np.testing.assert_allclose(spread["hutchinson", 1], 0.5 * np.sum(off**2), rtol=0.12)


def test_half_of_denoising_matching_less_a_constant():
    """d/2 times the denoising loss less the implicit one is the same number for every network: d E[1/sigma^2] / 2."""
    schedule = schedules.vp()
    path = interpolants.diffusion(schedule)
    span = times.uniform(0.3, 1.0)  # noise enough that E 1/sigma^4 is small
    denoising = matching(path, smooth, "score", times=span)
    ours = [implicit(path, smooth, divergence=kind, times=span) for kind in ("exact", "hutchinson")]

    def gaps(params, k, x):
        return jnp.stack([1.5 * denoising(params, k, x)[0] - loss(params, k, x)[0] for loss in ours])

    params = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 3)), jnp.float32)
    found = jax.jit(jax.vmap(jax.vmap(gaps, (None, 0, 0)), (0, None, None)))(params, *rows(data()))
    t = jnp.linspace(0.3, 1.0, 2001)
    truth = 1.5 * np.mean(1 / np.asarray(jax.vmap(lambda u: schedule.variance(0.0, u))(t), np.float64))
    for network in found:
        mean, error = mean_and_error(network)
        assert np.all(error < 0.05 * truth)
        assert np.all(np.abs(mean - truth) < 5 * error)


def test_pytree_states_are_their_concatenation():
    def tree(params, t, x, args):
        out = smooth(params, t, jnp.concatenate([x["a"], x["b"].reshape(-1)]), args)
        return {"a": out[:2], "b": out[2:].reshape(1, 1)}

    x = data(16)
    params = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)), jnp.float32)
    batch = {"x": {"a": x[:, :2], "b": x[:, 2:, None]}}

    @jax.jit
    def both(k):
        losses = [(implicit(None, tree, divergence=d), implicit(None, smooth, divergence=d)) for d in DIVERGENCES]
        return [(ours(params, k, batch)[0], flat(params, k, x)[0]) for ours, flat in losses]

    for ours, flat in both(keys(jax.random.key(0), 16)):
        np.testing.assert_allclose(ours, flat, rtol=1e-5)


def test_paths_without_noise_have_an_implicit_score_too():
    """Between N(-1, 0.5) and N(1, 0.2), on straight lines: p_t is Gaussian, and its score is stationary."""
    rng = np.random.default_rng(0)
    batch = {
        "source": np.float32(-1 + np.sqrt(0.5) * rng.standard_normal((N, 1, 1))),
        "target": np.float32(1 + np.sqrt(0.2) * rng.standard_normal((N, 1, 1))),
    }

    def apply(params, t, x, args):
        return -(1 + params[0]) * (x - (2 * t - 1)) / ((1 - t) ** 2 * 0.5 + t**2 * 0.2) + params[1]

    loss = implicit(interpolants.linear(), apply, divergence="exact")
    gradient = jax.vmap(jax.grad(lambda p, k, b: loss(p, k, b)[0]), (None, 0, 0))
    mean, error = mean_and_error(jax.jit(gradient)(jnp.zeros(2), keys(jax.random.key(1), N)[:, None], batch))
    assert np.all(np.abs(mean) < 5 * error)
    assert np.all(error < 0.1)  # of terms of size 3


def test_samples_are_their_own_keys_and_conditions_are_dropped():
    loss = implicit(None, smooth, probes=2)
    value = lambda k, x: loss(jnp.eye(3), k, x)[0]  # noqa: E731
    both = jax.jit(lambda k, x: (value(k, x), jax.vmap(value)(k.reshape(2, 16), x.reshape(2, 16, 3))))
    whole, halves = both(keys(jax.random.key(0), 32), data(32))
    np.testing.assert_allclose(whole, np.mean(halves), rtol=1e-5)

    def seen(params, t, x, args):  # |s|^2 / 2 is the label over 2, the divergence 0
        return jnp.sqrt(args.astype(jnp.float32)) * jnp.float32([1.0, 0.0, 0.0]) + 0 * x

    dropped = implicit(None, seen, condition_dropout=0.3, null=0)
    batch = {"x": data(), "label": np.full(N, 2, np.int32)}
    share = jax.jit(lambda k, b: dropped(None, k, b)[0])(keys(jax.random.key(1), N), batch)
    assert abs(share - 0.7) < 5 * np.sqrt(0.21 / N)


def test_refusals():
    path = interpolants.diffusion(schedules.vp())
    with pytest.raises(ValueError, match="divergence must be one of.*'exakt'"):
        implicit(path, linear, divergence="exakt")
    with pytest.raises(ValueError, match="probes must be an integer of at least 1, got 0"):
        implicit(path, linear, probes=0)
    with pytest.raises(ValueError, match="interpolant must be an Interpolant, or None"):
        implicit(schedules.vp(), linear)
    with pytest.raises(ValueError, match="times and weight belong to a path"):
        implicit(None, linear, weight=jnp.ones_like)
    with pytest.raises(ValueError, match="condition_dropout must lie in"):
        implicit(None, linear, condition_dropout=1.0)
    with pytest.raises(ValueError, match="needs batches with x"):
        implicit(None, linear)(EXACT, keys(jax.random.key(0), 2), {"source": data(2), "target": data(2)})
    with pytest.raises(ValueError, match=r"apply returned the shapes \(\); a score has .* \(3,\)"):
        implicit(None, lambda p, t, x, a: x.sum())(None, keys(jax.random.key(0), 2), data(2))
