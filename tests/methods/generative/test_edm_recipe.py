"""The ``edm`` preset against Karras, Aittala, Aila & Laine 2022 (arXiv 2206.00364), table 1 and appendix B.6.

The preset is a closed box: its loss is read off ``step``. For data N(0, sd^2) the network's input c_in x and its target
F* = (x0 - c_skip x) / c_out are independent standard normals at every noise level, so with a network that answers F

    loss = E |F - F*|^2 per dimension = 1 + E F^2,

and each choice of F measures one part of the recipe: F = 0 the weight and c_out, F = c_in x the input, F of the noise
told to it the law of the noise levels.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import bridgejax as bj
from bridgejax.networks import edm_precondition
from bridgejax.objectives import times, weightings

SD, D, BATCH, REPEATS = 0.7, 3, 4096, 20


def table(sigma, sd):
    """Table 1, column "Ours": c_skip, c_out, c_in, c_noise and the loss weight of section 5, in float64."""
    total = sigma**2 + sd**2
    return (
        sd**2 / total,
        sigma * sd / np.sqrt(total),
        1 / np.sqrt(total),
        np.log(sigma) / 4,
        total / (sigma * sd) ** 2,
    )


def answer(params, t, x, args):
    """F = a x + b + c t + d 1(t < e): t is c_noise, x is c_in times the noisy sample."""
    a, b, c, d, e = params
    return a * x + b + c * t + d * (t < e)


@pytest.fixture(scope="module")
def loss():
    """a, b, c, d, e -> mean loss of the preset's own step, and its standard error over independent batches."""
    method = bj.methods.edm((answer, jnp.zeros(5)), shape=(D,), sigma_data=SD, ema=None)
    state = method.init(jax.random.key(0), None)
    x = SD * np.random.default_rng(0).standard_normal((REPEATS, BATCH, D), np.float32)
    step = jax.jit(lambda state, keys: jax.lax.map(lambda kx: method.step(state, *kx)[1]["loss"], (keys, x)))

    def measure(*params):
        values = step(state._replace(params=jnp.float32(params)), bj.keys(jax.random.key(1), REPEATS))
        values = np.asarray(values, np.float64)
        return values.mean(), values.std(ddof=1) / np.sqrt(REPEATS)

    return measure


@pytest.mark.parametrize("sd", [0.5, 1.7])
def test_coefficients_and_weight_are_the_tables(sd):
    sigma = np.geomspace(0.002, 80.0, 25)
    denoiser = edm_precondition(answer, sd)
    skip, out, inside, noise = jax.vmap(denoiser.coefficients)(jnp.float32(sigma))
    weight = jax.vmap(weightings.weight(bj.schedules.karras(), "x0", "edm", sd))(jnp.float32(sigma))
    # float32: each is a handful of roundings of 6e-8; the log of a rounded sigma is off by 6e-8 absolutely
    for found, wanted in zip((skip, out, inside, noise, weight), table(np.float64(np.float32(sigma)), sd), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=2e-7)


def test_grid_is_rho_seven_from_eighty_to_two_thousandths():
    method = bj.methods.edm((answer, jnp.zeros(5)), shape=(D,))
    process = method.process(method.init(jax.random.key(0), None))
    i = np.arange(18)
    sigma = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7  # equation 5
    # the clock runs from noise to data, s = 80 - sigma; float32 near 80 is spaced by 8e-6
    np.testing.assert_allclose(80.0 - np.asarray(process.ts, np.float64), np.append(sigma, 0.0), atol=8e-6)
    start = jax.vmap(lambda key: process.start(key, None))(bj.keys(jax.random.key(0), 4000))
    assert abs(np.std(start) / 80.0 - 1) < 5 / np.sqrt(2 * 12_000)


def test_the_defaults_are_the_papers():
    """sigma_data = 0.5 and ln sigma ~ N(-1.2, 1.2^2); clipped at [0.002, 80], where 2 draws in 100,000 lie outside."""
    denoiser = edm_precondition(answer)
    assert denoiser.sigma_data == 0.5
    draws = np.asarray(times.log_normal()(bj.keys(jax.random.key(2), 20_000)), np.float64)
    assert np.sqrt(20_000) * stats.kstest(np.log(draws), stats.norm(-1.2, 1.2).cdf).statistic < 2.6
    outside = stats.norm.cdf(np.log(0.002), -1.2, 1.2) + stats.norm.sf(np.log(80.0), -1.2, 1.2)
    assert outside < 2e-5


def test_loss_at_initialisation_is_one_per_dimension(loss):
    """F = 0: lambda c_out^2 E F*^2 = 1, whatever the noise."""
    mean, error = loss(0, 0, 0, 0, 0)
    assert error < 0.005  # sqrt(2 / (20 * 4096 * 3)) is 0.003
    assert abs(mean - 1.0) < 5 * error


@pytest.mark.parametrize("gain", [1.0, -1.0])
def test_input_has_variance_one_and_tells_nothing_linear_of_the_target(loss, gain):
    """F = +-c_in x: 1 + E (c_in x)^2 -+ 2 E c_in x F*; both signs, so that neither part hides the other."""
    mean, error = loss(gain, 0, 0, 0, 0)
    assert error < 0.01
    assert abs(mean - 2.0) < 5 * error


def test_noise_told_is_a_quarter_of_log_sigma(loss):
    """F = c (c_noise + 0.3): c^2 Var = c^2 (1.2/4)^2, and F = 2 c_noise: 4 (0.3^2 + 0.3^2)."""
    mean, error = loss(0, 1.2, 4, 0, 0)
    assert abs(mean - (1 + 16 * 0.09)) < 5 * error
    mean, error = loss(0, 0, 2, 0, 0)
    assert error < 0.01
    assert abs(mean - (1 + 4 * 0.18)) < 5 * error


@pytest.mark.parametrize("z", [-1.5, -0.4, 0.3, 1.2])
def test_noise_levels_are_log_normal(loss, z):
    """F = 2 at levels below a quantile: the loss grows by 4 P(ln sigma < -1.2 + 1.2 z)."""
    mean, error = loss(0, 0, 0, 2, (-1.2 + 1.2 * z) / 4)
    assert error < 0.02
    assert abs(mean - 1 - 4 * stats.norm.cdf(z)) < 5 * error


@pytest.mark.parametrize("sigma", [0.002, 0.05, 0.7, 6.0, 80.0])
def test_input_and_target_are_standard_normal_at_every_noise_level(sigma):
    rng = np.random.default_rng(0)
    n = 40_000
    x0, eps = SD * rng.standard_normal(n), rng.standard_normal(n)
    c = [np.float64(v) for v in edm_precondition(answer, SD).coefficients(np.float32(sigma))]
    x = x0 + np.float64(np.float32(sigma)) * eps
    inside, target = c[2] * x, (x0 - c[0] * x) / c[1]
    five = 5 * np.sqrt(2 / n)  # of the variance of n normals; of their covariance 5 / sqrt(n)
    # at sigma = 0.002 the target subtracts c_skip x from x0, off by 6e-8 of it and divided by 0.002: 3e-5
    assert abs(np.mean(inside**2) - 1) < five
    assert abs(np.mean(target**2) - 1) < five + 1e-3
    assert abs(np.mean(inside * target)) < 5 / np.sqrt(n) + 1e-3


def test_an_untrained_network_samples_the_gaussian_that_has_the_datas_deviation():
    """F = 0 is the best linear denoiser: the preset's flow then ends in N(0, sd^2), up to the error of its 18 steps."""
    method = bj.methods.edm((answer, jnp.zeros(5)), shape=(D,), sigma_data=SD)
    process = method.process(method.init(jax.random.key(0), None))
    x = np.asarray(bj.sample(process, bj.keys(jax.random.key(3), 4000), solver=bj.solvers.Heun()))
    fine = bj.sample(process, bj.keys(jax.random.key(3), 4000), ts=bj.grids.karras(72), solver=bj.solvers.Heun())
    bound = abs(np.std(x) - np.std(fine)) * 4 / 3  # halving twice leaves a sixteenth of a second-order error
    assert abs(np.std(x) - SD) < 5 * SD / np.sqrt(2 * 12_000) + bound


def test_what_edm_fixes_cannot_be_changed_and_its_noise_levels_can():
    network = (answer, jnp.zeros(5))
    with pytest.raises(TypeError, match="unexpected keyword argument 'predict'"):
        bj.methods.edm(network, shape=(D,), predict="eps", weighting="x0")
    with pytest.raises(ValueError, match="sigma_data"):
        bj.methods.edm(network, shape=(D,), sigma_data=0.0)
    assert bj.methods.edm(network, shape=(D,), time_sampler=times.log_normal(-0.4, 1.0)) is not None
