"""Adversarial losses on two Gaussians: their values at the best discriminator, R1 in closed form, lazy penalties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from bridgejax.objectives import discriminator_loss, generator_loss, lazy, r1_penalty

P, Q = norm(0.7, 0.5), norm(-0.3, 0.8)  # data, generated
GRID = np.linspace(-8.0, 8.0, 40_001)
N = 100_000


def integral(values):
    return np.trapezoid(values, GRID)


def best(x):
    """log p/q."""
    return P.logpdf(x) - Q.logpdf(x)


def divergence():
    """The Jensen-Shannon divergence of P and Q, in nats."""
    p, q = P.pdf(GRID), Q.pdf(GRID)
    log_m = np.logaddexp(P.logpdf(GRID), Q.logpdf(GRID)) - np.log(2.0)
    return 0.5 * integral(p * (P.logpdf(GRID) - log_m)) + 0.5 * integral(q * (Q.logpdf(GRID) - log_m))


def draws(law, seed):
    return law.rvs(N, random_state=seed)


def test_the_best_discriminator_measures_the_divergence():
    real, fake = best(draws(P, 0)), best(draws(Q, 1))
    parts = np.logaddexp(0.0, -real), np.logaddexp(0.0, fake)
    error = np.sqrt(sum(part.var() for part in parts) / N)
    truth = 2 * np.log(2.0) - 2 * divergence()
    assert error < 0.01 * divergence()
    assert abs(float(discriminator_loss(jnp.asarray(real), jnp.asarray(fake))) - truth) < 5 * error
    for wrong in (lambda d: d + 0.5, lambda d: 2.0 * d):  # and no other has a smaller loss
        assert float(discriminator_loss(*map(jnp.asarray, (wrong(real), wrong(fake))))) > truth + 5 * error


def test_the_generator_is_told_of_fakes_that_are_seen():
    fake = best(draws(Q, 2))
    truth = integral(Q.pdf(GRID) * np.logaddexp(0.0, -best(GRID)))
    error = np.logaddexp(0.0, -fake).std() / np.sqrt(N)
    assert abs(float(generator_loss(jnp.asarray(fake))) - truth) < 5 * error
    slope = jax.grad(lambda logit: generator_loss(logit[None]))(jnp.float32(-20.0))  # D is sure of it
    assert float(slope) == pytest.approx(-1.0, abs=1e-6)


RNG = np.random.default_rng(0)
A, B, X = RNG.normal(size=3), RNG.normal(size=(3, 3)), RNG.normal(size=(50, 3))


def quadratic(params, x, args):
    """D = a.x + x.B x / 2, whose gradient is a + (B + B^T) x / 2."""
    return params["a"] @ x + 0.5 * x @ params["b"] @ x + (0.0 if args is None else args * x[0])


def test_r1_and_its_gradient_are_those_of_a_quadratic():
    params = {"a": jnp.float32(A), "b": jnp.float32(B)}

    def penalty(params):
        return r1_penalty(lambda x, args: quadratic(params, x, args), jnp.float32(X), gamma=0.6)

    value, gradient = jax.value_and_grad(penalty)(params)
    slopes = A + X @ (B + B.T) / 2
    np.testing.assert_allclose(value, 0.3 * np.mean(np.sum(slopes**2, axis=1)), rtol=1e-5)
    np.testing.assert_allclose(gradient["a"], 0.6 * slopes.mean(0), rtol=1e-5)
    outer = slopes[:, :, None] * X[:, None, :]
    np.testing.assert_allclose(gradient["b"], 0.3 * (outer + outer.swapaxes(1, 2)).mean(0), rtol=1e-4, atol=1e-6)


def test_r1_knows_conditions_and_states_of_several_arrays():
    args = jnp.arange(50.0)
    found = r1_penalty(lambda x, a: a * x["u"] + 2.0 * jnp.sum(x["v"]), {"u": args, "v": jnp.ones((50, 3))}, args)
    assert float(found) == pytest.approx(0.5 * (np.mean(np.arange(50.0) ** 2) + 12.0), rel=1e-6)


def test_r1_is_one_product_for_the_batch():
    """No array of it has the size of all pairs of samples, as a Jacobian of the batch would."""
    x = jnp.zeros((50, 3))
    jaxpr = jax.make_jaxpr(lambda x: r1_penalty(lambda y, args: jnp.sum(jnp.sin(y)), x))(x)
    assert max(np.prod(v.aval.shape) for e in jaxpr.jaxpr.eqns for v in e.outvars) <= x.size


def test_a_lazy_penalty_has_the_mean_of_a_plain_one_and_runs_seldom():
    ran = []

    def penalty(t):
        jax.debug.callback(lambda: ran.append(1))
        return {"a": jnp.stack([1.5, 2.0]) * jnp.cos(0.0 * t), "b": 3.0}

    steps = jnp.arange(32)
    found = jax.jit(lambda: jax.lax.map(lambda step: lazy(lambda: penalty(step), step, 16), steps))()
    jax.effects_barrier()
    np.testing.assert_allclose(found["a"].mean(0), [1.5, 2.0], rtol=1e-6)
    np.testing.assert_allclose(found["b"].mean(), 3.0, rtol=1e-6)
    assert len(ran) == 2
    assert np.flatnonzero(np.asarray(found["b"])).tolist() == [0, 16]


BAD = {
    "none": (lambda: generator_loss(jnp.zeros(0)), "fake must hold"),
    "booleans": (lambda: discriminator_loss(jnp.ones(2, bool), jnp.ones(2)), "real must be a real number"),
    "shape": (lambda: r1_penalty(lambda x, args: x, jnp.ones((4, 2))), r"one number for a sample, got shape \(2,\)"),
    "step": (lambda: lazy(lambda: jnp.ones(()), 0.5, 4), "step must be an integer"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()
