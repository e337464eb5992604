"""Measurements: exact where theory says exact, and the bias of the approximations shown beside the closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridgejax.bridges import guidance, probability_flow, reverse
from bridgejax.processes import SDE, mixtures, schedules
from bridgejax.processes._keys import keys
from bridgejax.solve import grids, simulate, simulate_batch

SCHEDULE = schedules.vp(0.1, 10.0)
A, Y, S = jnp.array([[1.0, 0.5]]), jnp.array([1.2]), 0.4
N = 4096


def reversal(law, make=reverse):
    return make(SCHEDULE, denoiser=mixtures.mixture_denoiser(law, SCHEDULE))


def draws(sde, key, steps=150):
    x0 = jax.random.normal(jax.random.fold_in(key, 1), (N, 2)) * float(SCHEDULE.sigma(1.0))
    return np.asarray(simulate_batch(sde, keys(key, N), x0, grids.log_snr(steps, SCHEDULE, log_snr_max=7.0)))


@pytest.mark.slow
@pytest.mark.parametrize("make", [reverse, probability_flow])
def test_pigdm_is_exact_for_isotropic_gaussian_data(make, key):
    """N(m, v I): the guided denoiser is E[x0 | x_t, y], at every time, and its samples have the posterior's moments."""
    v = 0.8
    law = mixtures.gaussian_mixture([[0.5, -0.3]], v)
    truth = mixtures.condition(law, A, Y, S)
    bent = guidance.posterior(reversal(law, make), A, Y, S, data_variance=v)
    # E[x0 | x_t, y] is the denoiser of the posterior law
    for t in (0.02, 0.4, 0.97):
        x = jnp.array([0.7, -1.1])
        want = mixtures.mixture_denoiser(truth, SCHEDULE)(t, x, None)
        np.testing.assert_allclose(bent.semilinear.denoiser(t, x, None), want, atol=2e-5)
    x = draws(bent, key)
    mean, cov = np.asarray(truth.mean()), np.asarray(truth.cov())
    assert np.all(np.abs(x.mean(0) - mean) < 5 * np.sqrt(np.diag(cov) / N) + 0.02)
    assert np.all(np.abs(np.cov(x.T) - cov) < 5 * np.sqrt(2 / N) * np.outer(*[np.sqrt(np.diag(cov))] * 2) + 0.02)


@pytest.mark.slow
def test_a_mixture_and_the_bias_of_dps(key):
    """The posterior law's own denoiser reaches the truth; DPS and PiGDM do not, and by this much."""
    law = mixtures.gaussian_mixture([[-1.5, 0.5], [1.5, 0.5], [0.0, -1.5]], 0.15, [0.3, 0.3, 0.4])
    truth = mixtures.condition(law, A, Y, S)
    weights = np.exp(np.asarray(truth.log_weights))
    assert weights.max() < 0.999
    v = float(np.trace(np.asarray(law.cov())) / 2)
    runs = {
        "exact": reversal(truth),
        "pigdm": guidance.posterior(reversal(law), A, Y, S, data_variance=v),
        "dps": guidance.posterior(reversal(law), A, Y, S, method="dps"),
    }
    mean, cov = np.asarray(truth.mean()), np.asarray(truth.cov())
    off = {}
    for name, sde in runs.items():
        x = draws(sde, key, 120)
        off[name] = np.max(np.abs(x.mean(0) - mean) / np.sqrt(np.diag(cov) / N)), np.trace(np.cov(x.T)) / np.trace(cov)
    assert off["exact"][0] < 5 + 0.02 / np.sqrt(np.diag(cov).min() / N)
    assert abs(off["exact"][1] - 1) < 0.1
    # both are off by more than noise: that is the finding (experiments/inverse.py has the table), not a tolerance
    assert off["dps"][0] > 5, off
    assert off["pigdm"][1] > 1.5, off


def test_inpaint_is_exact_for_independent_coordinates_and_holds_what_is_known(key):
    law = mixtures.gaussian_mixture([[0.5, -0.3]], 0.8)
    mask, value = jnp.array([True, False]), jnp.array([1.3, 9.9])
    bent = guidance.inpaint(reversal(law), mask, value, data_variance=0.8)
    x = draws(bent, key, 60)
    np.testing.assert_array_equal(x[:, 0], np.asarray(1.3, x.dtype))
    assert abs(x[:, 1].mean() + 0.3) < 5 * np.sqrt(0.8 / N) + 0.02
    assert abs(x[:, 1].var() - 0.8) < 5 * 0.8 * np.sqrt(2 / N) + 0.03


def test_inpaint_of_correlated_coordinates(key):
    """Known x, unknown y, correlation 0.8: PiGDM's isotropic guess is an approximation, and the mean shows its size."""
    cov = np.array([[1.0, 0.8], [0.8, 1.0]])
    law = mixtures.gaussian_mixture([[0.0, 0.0]], cov[None])
    bent = guidance.inpaint(reversal(law), jnp.array([True, False]), jnp.array([1.0, 0.0]))
    x = draws(bent, key, 100)
    np.testing.assert_array_equal(x[:, 0], np.float32(1.0))
    assert 0.4 < x[:, 1].mean() < 1.0  # truth 0.8
    noisy = guidance.inpaint(reversal(law), jnp.array([True, False]), jnp.array([1.0, 0.0]), noise=0.3)
    assert 0.0 < draws(noisy, key, 60)[:, 0].std() < 0.5


def test_operator_as_a_function_and_pytree_states(key):
    """A function that is A x gives what the matrix gives; states may be pytrees."""
    law = mixtures.gaussian_mixture([[0.5, -0.3]], 0.8)
    as_matrix = guidance.posterior(reversal(law), A, Y, S)
    as_function = guidance.posterior(reversal(law), lambda x: x[0] + 0.5 * x[1], Y, S)
    x = jnp.array([0.7, -1.1])
    np.testing.assert_allclose(
        as_function.semilinear.denoiser(0.4, x, None), as_matrix.semilinear.denoiser(0.4, x, None), rtol=1e-5
    )

    def tree_denoiser(t, x, args):
        d = mixtures.mixture_denoiser(law, SCHEDULE)(t, jnp.stack([x["a"], x["b"]]), None)
        return {"a": d[0], "b": d[1]}

    tree = reverse(SCHEDULE, denoiser=jax.tree_util.Partial(tree_denoiser))
    bent = guidance.posterior(tree, lambda x: x["a"] + 0.5 * x["b"], Y, S)
    got = bent.semilinear.denoiser(0.4, {"a": x[0], "b": x[1]}, None)
    np.testing.assert_allclose(jnp.stack([got["a"], got["b"]]), as_matrix.semilinear.denoiser(0.4, x, None), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vp", "rectified", "karras", "cosine"])
def test_finite_at_the_ends(name, key):
    """Values and gradients of the guided denoiser at 0 and T, and a whole run."""
    schedule = getattr(schedules, name)()
    law = mixtures.gaussian_mixture([[0.5, -0.3], [-1.0, 1.0]], 0.3)
    sde = probability_flow(schedule, denoiser=mixtures.mixture_denoiser(law, schedule))
    for bent in (guidance.posterior(sde, A, Y, S), guidance.inpaint(sde, jnp.array([True, False]), jnp.ones(2))):
        for t in (0.0, schedule.T):
            f = jax.jit(lambda x, t=t, bent=bent: bent.semilinear.denoiser(t, x, None))
            assert np.all(np.isfinite(f(jnp.ones(2))))
            assert np.all(np.isfinite(jax.jit(jax.jacfwd(f))(jnp.ones(2))))
        x0 = float(schedule.sigma(schedule.T)) * jnp.ones(2)
        assert np.all(np.isfinite(simulate(bent, key, x0, grids.log_snr(10, schedule))))


SDE_ = SDE(lambda t, x, args: -x, lambda t, x, args: 1.0)
LAW = mixtures.gaussian_mixture([[0.0, 0.0]], 1.0)
BAD = {
    "no semilinear form": (lambda: guidance.posterior(SDE_, A, Y, S), "an SDE without a semilinear form"),
    "no sde": (lambda: guidance.inpaint(3.0, jnp.ones(2, bool), jnp.ones(2)), "got float"),
    "method": (lambda: guidance.posterior(reversal(LAW), A, Y, S, method="exact"), "method must be one of"),
    "noise": (lambda: guidance.posterior(reversal(LAW), A, Y, 0.0), "noise must be positive"),
    "variance": (lambda: guidance.posterior(reversal(LAW), A, Y, S, data_variance=-1.0), "data_variance must be"),
    "operator": (lambda: guidance.posterior(reversal(LAW), A, jnp.ones(2), S), r"operator must be a matrix \(m, d\)"),
    "mask": (lambda: guidance.inpaint(reversal(LAW), jnp.ones(2, bool), jnp.ones(3)), "one shape"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("t", [0.02, 0.4, 0.97])
def test_inpainting_with_noise_is_bayes_for_isotropic_data(t):
    """N(m, v I) with the first coordinate measured: the guided denoiser is E[x0 | x_t, y]."""
    law = mixtures.gaussian_mixture([[0.5, -0.3]], 0.8)
    truth = mixtures.condition(law, jnp.array([[1.0, 0.0]]), jnp.array([1.3]), S)
    sde = reversal(law)
    inpainted = guidance.inpaint(sde, jnp.array([True, False]), jnp.array([1.3, 9.9]), noise=S, data_variance=0.8)
    posterior = guidance.posterior(sde, jnp.array([[1.0, 0.0]]), jnp.array([1.3]), S, data_variance=0.8)
    x = jnp.array([0.7, -1.1])
    want = mixtures.mixture_denoiser(truth, SCHEDULE)(t, x, None)
    for bent in (inpainted, posterior):
        np.testing.assert_allclose(bent.semilinear.denoiser(t, x, None), want, atol=2e-5)


def test_dps_is_the_gradient_of_the_measurement_s_likelihood():
    """D + (sigma^2 / alpha) grad log N(y; A D(x), s^2), the gradient by differences of D in closed form."""
    law, x, t = mixtures.gaussian_mixture([[0.5, -0.3]], 0.8), jnp.array([0.7, -1.1]), 0.4
    bent = guidance.posterior(reversal(law), A, Y, S, method="dps")
    alpha, variance = float(SCHEDULE.alpha(t)), float(SCHEDULE.variance(0.0, t))
    slope = alpha * 0.8 / (alpha**2 * 0.8 + variance)
    denoised = np.array([0.5, -0.3]) + slope * (np.asarray(x) - alpha * np.array([0.5, -0.3]))
    pull = slope * np.array([1.0, 0.5]) * (1.2 - denoised @ [1.0, 0.5]) / S**2
    np.testing.assert_allclose(bent.semilinear.denoiser(t, x, None), denoised + variance / alpha * pull, rtol=1e-4)
