"""The residual of the Hamilton-Jacobi-Bellman equation is 0 for laws known at every time, and is not for others."""

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest
from jax.scipy.stats import multivariate_normal
from jax.tree_util import Partial

from bridgejax.processes import SDE, noising, schedules
from bridgejax.processes.mixtures import gaussian_mixture, mixture_score
from bridgejax.weigh import hjb_residual

T, X = 0.3, np.array([[0.7, -0.4], [-1.1, 0.2], [2.5, 1.5]])


def mixture():
    covariances = [[[0.5, 0.2], [0.2, 0.4]], [[0.3, -0.1], [-0.1, 0.6]]]
    return gaussian_mixture([[-1.5, 0.5], [1.0, -0.5]], covariances, [0.3, 0.7])


@pytest.mark.parametrize("name", ["vp", "rectified"])
def test_a_mixture_to_1e_6_in_float64(name):
    with jax.enable_x64(True):
        schedule, law = getattr(schedules, name)(), mixture()
        log_density = Partial(lambda law, t, x, args: law.diffuse(schedule, t).log_prob(x), law)
        potential = Partial(lambda law, t, x, args: -law.diffuse(schedule, t).log_prob(x), law)
        given = [
            (schedule, {"log_density": log_density}),
            (noising(schedule), {"potential": potential}),
            (schedule, {"score": mixture_score(law, schedule)}),
        ]

        @jax.jit
        def residuals(x):
            return [jax.vmap(lambda x, s=s, g=g: hjb_residual(s, T, x, **g))(x) for s, g in given]

        found = residuals(X)
        assert [f.shape for f in found] == [(3,), (3,), (3, 2)]
        assert all(f.dtype == jnp.float64 for f in found)
        assert max(float(jnp.max(jnp.abs(f))) for f in found) < 1e-9


def test_the_residual_of_what_is_wrong():
    """Constant: for dX = g dW and V = |x|^2 / 2 at every time, g^2 (d - |x|^2) / 2; the score's is its gradient."""
    brownian, x = schedules.brownian(1.5), jnp.asarray(X[0])
    frozen = lambda t, x, args: 0.5 * jnp.sum(x**2)  # noqa: E731
    residual = hjb_residual(brownian, T, x, potential=frozen)
    np.testing.assert_allclose(residual, 0.5 * 1.5**2 * (2 - float(x @ x)), rtol=1e-5)
    np.testing.assert_allclose(hjb_residual(brownian, T, x, score=lambda t, x, args: -x), -(1.5**2) * x, rtol=1e-5)
    # in time alone: -dV/dt, and with the sign of V
    np.testing.assert_allclose(hjb_residual(brownian, T, x, potential=lambda t, x, args: 3.0 * t), -3.0, rtol=1e-5)
    np.testing.assert_allclose(hjb_residual(brownian, T, x, log_density=lambda t, x, args: 3.0 * t), 3.0, rtol=1e-5)


def test_noise_that_is_a_matrix_or_depends_on_the_state():
    """A turning, leaning Ornstein-Uhlenbeck process by its covariance, and geometric Brownian motion, log-normal."""
    with jax.enable_x64(True):
        L, C = jnp.array([[1.0, 0.0], [0.6, 0.5]]), jnp.array([[2.0, 0.3], [0.3, 0.5]])
        ou = SDE(lambda t, x, args: -x, lambda t, x, args: lineax.MatrixLinearOperator(args))

        def gaussian(L, C, t, x, args):
            cov = jnp.exp(-2 * t) * C - 0.5 * jnp.expm1(-2 * t) * L @ L.T
            return multivariate_normal.logpdf(x, jnp.zeros(2), cov)

        found = jax.jit(lambda x: hjb_residual(ou, T, x, L, log_density=Partial(gaussian, L, C)))(X[0])
        assert abs(found) < 1e-9

        drift, sigma, spread = 0.4, 0.7, 0.3
        growth = SDE(lambda t, x, args: drift * x, lambda t, x, args: sigma * x, noise="state")

        def log_normal(t, x, args):
            mean, variance = (drift - sigma**2 / 2) * t, spread + sigma**2 * t
            return jnp.sum(-0.5 * (jnp.log(x) - mean) ** 2 / variance - 0.5 * jnp.log(variance) - jnp.log(x))

        found = jax.jit(lambda x: hjb_residual(growth, T, x, log_density=log_normal))(np.array([1.7]))
        assert abs(found) < 1e-9


def test_what_returns_no_number_is_told():
    with pytest.raises(ValueError, match="log_density must return a number"):
        hjb_residual(schedules.vp(), T, jnp.ones(2), log_density=lambda t, x, args: x)
    with pytest.raises(ValueError, match="score must be shaped like x"):
        hjb_residual(schedules.vp(), T, jnp.ones(2), score=lambda t, x, args: x[:1])
    with pytest.raises(ValueError, match="pass one of log_density, potential and score, got none"):
        hjb_residual(schedules.vp(), T, jnp.ones(2))
