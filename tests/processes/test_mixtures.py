"""Exact mixtures: densities integrate, scores and denoisers by automatic differentiation, posteriors by Bayes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridgejax.processes import mixtures, schedules
from bridgejax.processes._keys import keys

FULL = mixtures.gaussian_mixture(
    [[-2.0, 1.0], [1.5, 0.5], [0.0, -2.0]],
    [[[0.5, 0.3], [0.3, 0.4]], [[0.2, 0.0], [0.0, 0.6]], [[0.3, -0.2], [-0.2, 0.3]]],
    [0.2, 0.5, 0.3],
)
ALL = {
    "vp": schedules.vp(),
    "sub_vp": schedules.sub_vp(),
    "cosine": schedules.cosine(),
    "ve": schedules.ve(),
    "brownian": schedules.brownian(0.7),
    "ou": schedules.ou(),
    "rectified": schedules.rectified(),
    "karras": schedules.karras(),
}


def dense_log_prob(mixture, covs, x):
    parts = [
        jnp.log(w) + jax.scipy.stats.multivariate_normal.logpdf(x, m, c)
        for w, m, c in zip(jnp.exp(mixture.log_weights), mixture.means, covs, strict=True)
    ]
    return jax.nn.logsumexp(jnp.stack(parts))


def covs_of(mixture):
    return (mixture.rotations * mixture.variances[:, None, :]) @ jnp.swapaxes(mixture.rotations, 1, 2)


def test_log_prob_is_the_density():
    for x in jnp.array([[0.3, -0.4], [-2.5, 1.2], [5.0, 5.0]]):
        np.testing.assert_allclose(FULL.log_prob(x), dense_log_prob(FULL, covs_of(FULL), x), rtol=2e-5)


@pytest.mark.parametrize("name", ALL)
def test_score_and_denoiser_of_the_noised_law(name):
    """The score is the gradient of log p_t and the denoiser is Tweedie's, at inner times."""
    schedule = ALL[name]
    for share in (0.05, 0.5, 0.95):
        t = share * schedule.T
        spread = float(jnp.sqrt(schedule.alpha(t) ** 2 + schedule.variance(0.0, t)))
        x = spread * jnp.array([0.7, -0.4])
        truth = jax.grad(FULL.diffuse(schedule, t).log_prob)(x)
        score = mixtures.mixture_score(FULL, schedule)(t, x, None)
        np.testing.assert_allclose(score, truth, rtol=1e-4, atol=1e-5 / spread)
        denoised = mixtures.mixture_denoiser(FULL, schedule)(t, x, None)
        tweedie = (x + schedule.variance(0.0, t) * truth) / schedule.alpha(t)
        # rounding of x and of the score, divided by alpha
        bound = 2e-5 * spread / float(schedule.alpha(t)) + 1e-4
        np.testing.assert_allclose(denoised, tweedie, atol=bound)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), list(itertools.product(ALL, (jnp.float32, jnp.bfloat16))))
def test_finite_at_both_ends(name, dtype):
    """Values and gradients at 0 and T, also for points (no variance at all)."""
    schedule = ALL[name]
    points = mixtures.gaussian_mixture([[-1.0, 0.0], [1.0, 2.0]])
    for mixture, t in itertools.product((FULL, points), (0.0, schedule.T)):
        x = jnp.array([0.25, 0.5], dtype)
        f = mixtures.mixture_denoiser(mixture, schedule)
        value, slope = f(t, x, None), jax.jacfwd(lambda x: f(t, x, None).astype(jnp.float32))(x)
        assert value.dtype == dtype
        assert np.all(np.isfinite(np.asarray(value, np.float32)))
        assert np.all(np.isfinite(np.asarray(slope, np.float32)))
    at_zero = mixtures.mixture_denoiser(FULL, schedule)(0.0, jnp.array([0.25, 0.5]), None)
    np.testing.assert_allclose(at_zero, [0.25, 0.5], atol=1e-6)


def test_draws_have_its_moments(key):
    n = 40_000
    draws = np.asarray(jax.vmap(FULL.sample)(keys(key, n)))
    mean, cov = np.asarray(FULL.mean()), np.asarray(FULL.cov())
    assert np.all(np.abs(draws.mean(0) - mean) < 5 * np.sqrt(np.diag(cov) / n))
    centred = draws - mean
    products = np.einsum("ni,nj->nij", centred, centred)
    assert np.all(np.abs(products.mean(0) - cov) < 5 * products.std(0) / np.sqrt(n))


def test_images_and_scalars_too(key):
    images = mixtures.gaussian_mixture(jnp.stack([jnp.zeros((4, 4, 1)), jnp.ones((4, 4, 1))]), [0.1, 0.2])
    assert images.sample(key).shape == (4, 4, 1)
    assert images.score(jnp.ones((4, 4, 1))).shape == (4, 4, 1)
    line = mixtures.gaussian_mixture([-1.0, 2.0], 0.25, [1.0, 3.0])
    total = jnp.trapezoid(jnp.exp(jax.vmap(line.log_prob)(jnp.linspace(-8, 9, 2001))), dx=17 / 2000)
    np.testing.assert_allclose(total, 1.0, atol=1e-5)
    np.testing.assert_allclose(line.mean(), 1.25, rtol=1e-6)


@pytest.mark.slow
def test_condition_is_bayes():
    """log p(x) + log N(y; A x, s^2) - log p(x | y) does not depend on x."""
    a, y, s = jnp.array([[1.0, -0.5]]), jnp.array([0.8]), 0.3
    after = mixtures.condition(FULL, a, y, s)
    xs = jax.random.normal(jax.random.key(3), (20, 2))
    joint = jax.vmap(lambda x: FULL.log_prob(x) - 0.5 * jnp.sum((y - a @ x) ** 2) / s**2)(xs)
    gap = joint - jax.vmap(after.log_prob)(xs)
    np.testing.assert_allclose(gap, gap[0], atol=2e-4 * float(jnp.max(jnp.abs(joint))))


BAD = {
    "weights": (lambda: mixtures.gaussian_mixture([[0.0], [1.0]], 1.0, [1.0]), "weights must have shape"),
    "no weight": (lambda: mixtures.gaussian_mixture([[0.0], [1.0]], 1.0, [1.0, 0.0]), "weights must be positive"),
    "negative": (lambda: mixtures.gaussian_mixture([[0.0], [1.0]], -1.0), "negative variance"),
    "shape": (lambda: mixtures.gaussian_mixture([[0.0, 1.0]], jnp.ones((1, 3))), "covariances must be"),
    "lopsided": (lambda: mixtures.gaussian_mixture([[0.0, 1.0]], [[[1.0, 0.5], [0.0, 1.0]]]), "symmetric"),
    "indefinite": (lambda: mixtures.gaussian_mixture([[0.0, 1.0]], [[[1.0, 2.0], [2.0, 1.0]]]), "semi-definite"),
    "empty": (lambda: mixtures.gaussian_mixture(jnp.zeros((0, 2))), "K >= 1"),
    "operator": (lambda: mixtures.condition(FULL, jnp.ones((1, 3)), jnp.ones(1), 1.0), "operator must be"),
    "noise": (lambda: mixtures.condition(FULL, jnp.ones((1, 2)), jnp.ones(1), 0.0), "noise must be positive"),
    "no mixture": (lambda: mixtures.mixture_score(3.0, schedules.vp()), "must be a GaussianMixture"),
    "no schedule": (lambda: mixtures.mixture_score(FULL, 3.0), "must be a Schedule"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_the_weights_of_a_conditioned_mixture_are_bayes():
    """w_k N(y; A m_k, A C_k A^T + s^2), normalised: components of different spread have different determinants."""
    law = mixtures.gaussian_mixture([[0.0, 1.0], [0.5, -0.5]], [0.1, 2.0], [0.4, 0.6])
    after = mixtures.condition(law, [[1.0, -0.5]], [0.8], 0.3)
    spread = 1.25 * np.array([0.1, 2.0]) + 0.3**2
    joint = np.array([0.4, 0.6]) * np.exp(-0.5 * (0.8 - np.array([-0.5, 0.75])) ** 2 / spread) / np.sqrt(spread)
    np.testing.assert_allclose(np.exp(after.log_weights), joint / joint.sum(), rtol=1e-5)
