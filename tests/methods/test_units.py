"""A Run in its data's units. The model is exact, so every value has a closed form and nothing is trained.

Model units: N(MEAN, SPREAD^2 I), noised by a schedule. Data: N(scale MEAN + shift, (scale SPREAD)^2).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import bridgejax as bj
from bridgejax.runs.run import Units, indices

SCHEDULE = bj.schedules.vp()
MEAN, SPREAD = 0.3, 0.5
SHIFT, SCALE = np.array([1000.0, -3.0]), np.array([20.0, 0.01])
CENTRE, DEVIATION = SCALE * MEAN + SHIFT, SCALE * SPREAD


def _denoised(params, t, x, args):
    """E[x_0 | x_t], and for class c of N(MEAN + c, SPREAD^2 I)."""
    mean = MEAN + (0.0 if args is None else args)
    alpha, variance = SCHEDULE.alpha(t), SCHEDULE.variance(0.0, t)
    gain = alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + variance)
    return mean + gain * (x - alpha * mean) + 0.0 * params


def _finish(shift, scale, key, x, args):
    return x * scale + shift


def make_run(shift=SHIFT, scale=SCALE, shape=(2,), **facts):
    decode = Partial(_finish, jnp.float32(shift), jnp.float32(scale))
    method = bj.methods.diffusion(
        SCHEDULE, (_denoised, jnp.zeros(())), shape=shape, predict="x0", decode=decode, ema=None
    )
    process = method.process(method.init(jax.random.key(0), None))
    start = bj.starts.normal(shape, jnp.sqrt(SCHEDULE.alpha(1.0) ** 2 * SPREAD**2 + SCHEDULE.variance(0.0, 1.0)),
                             SCHEDULE.alpha(1.0) * MEAN)  # fmt: skip
    process = dataclasses.replace(process, start=start)
    return bj.Run(process, None, {}, Units(shift, scale, shape), variance=SPREAD**2, **facts)


RUN = make_run()
KEYS = bj.keys(jax.random.key(1), 2000)


def gaussian(x, mean, deviation):
    terms = -0.5 * ((x - mean) / deviation) ** 2 - np.log(deviation) - 0.5 * np.log(2 * np.pi)
    return np.sum(terms.reshape(len(x), -1), axis=1)


def test_log_prob_is_a_density_in_the_datas_units():
    x = CENTRE + DEVIATION * np.random.default_rng(0).standard_normal((5, 2))
    raw, standardised = RUN.log_prob(KEYS[:5], x), RUN.log_prob(KEYS[:5], RUN.to_model(x), units="model")
    np.testing.assert_allclose(raw.value, gaussian(x, CENTRE, DEVIATION), atol=2e-3)
    np.testing.assert_allclose(standardised.value, gaussian((x - SHIFT) / SCALE, MEAN, SPREAD), atol=2e-3)
    np.testing.assert_allclose(raw.value, standardised.value - np.log(SCALE).sum(), atol=1e-5)
    assert raw.kind == "exact"


def test_one_scale_for_all_pixels_counts_once_for_each():
    run = make_run(np.asarray(8.0), np.asarray(8.0), (2, 2, 1))
    x = 8.0 * (1 + MEAN + SPREAD * np.random.default_rng(0).standard_normal((3, 2, 2, 1)))
    np.testing.assert_allclose(run.log_prob(KEYS[:3], x).value, gaussian(x, 8 + 8 * MEAN, 8 * SPREAD), atol=2e-3)


def test_samples_and_codes():
    x = np.asarray(RUN.sample(KEYS))
    np.testing.assert_allclose(x, bj.sample(RUN.process, KEYS), rtol=1e-6)
    assert x.dtype == np.float64  # the digits of a large shift are kept on the host
    assert np.all(np.abs(x.mean(axis=0) - CENTRE) < 5 * DEVIATION / np.sqrt(2000))
    assert np.all(np.abs(x.std(axis=0) / DEVIATION - 1) < 5 / np.sqrt(4000) + 0.01)
    z = np.asarray(RUN.sample(KEYS, units="model"))
    np.testing.assert_allclose(RUN.to_data(z), x, rtol=1e-6)
    # the flow of a Gaussian is affine: its own mean to the start's, its own deviation to the start's
    codes = RUN.encode(KEYS[:9], x[:9])
    start = RUN.process.start
    np.testing.assert_allclose(codes, start.mean + start.scale * (z[:9] - MEAN) / SPREAD, atol=0.02)
    np.testing.assert_allclose(RUN.encode(KEYS[:9], RUN.to_model(x[:9]), units="model"), codes, atol=1e-3)
    again = RUN.sample(KEYS[:9], x=codes)
    np.testing.assert_allclose((again - x[:9]) / DEVIATION, 0.0, atol=0.05)


def test_known_values_are_in_the_datas_units():
    mask, known = np.array([True, False]), np.array([1009.0, 0.0])
    for run in (RUN.inpaint(mask, known), RUN.hold(mask, known), RUN.hold(mask, lambda args: jnp.array([1009.0, 0.0]))):
        x = np.asarray(run.sample(KEYS))
        np.testing.assert_allclose(x[:, 0], 1009.0, rtol=1e-6)
        assert abs(x[:, 1].mean() - CENTRE[1]) < 5 * DEVIATION[1] / np.sqrt(2000)
        assert abs(x[:, 1].std() / DEVIATION[1] - 1) < 5 / np.sqrt(4000) + 0.01
    same = RUN.inpaint(mask, (known - SHIFT) / SCALE, units="model").sample(KEYS)
    np.testing.assert_allclose(same, RUN.inpaint(mask, known).sample(KEYS), rtol=1e-6)
    with pytest.raises(ValueError, match="no back"):
        run.encode(KEYS[:2], x[:2])
    with pytest.raises(ValueError, match="noise is one number .* units='model'"):
        RUN.inpaint(mask, known, noise=0.1)


@pytest.mark.parametrize("how", ["matrix", "function"])
def test_a_measurement_of_data(how):
    """y = x_0 + s eps of a Gaussian: the mean and variance of x_0 given y, which PiGDM has exactly."""
    y, noise = 1015.0, 8.0
    operator = jnp.array([[1.0, 0.0]]) if how == "matrix" else lambda x: x[:1]
    x = np.asarray(RUN.posterior(operator, jnp.array([y]), noise).sample(KEYS, ts=bj.grids.log_snr(200, SCHEDULE)))
    gain = DEVIATION[0] ** 2 / (DEVIATION[0] ** 2 + noise**2)
    deviation = np.sqrt(gain) * noise
    assert abs(x[:, 0].mean() - (CENTRE[0] + gain * (y - CENTRE[0]))) < 5 * deviation / np.sqrt(2000) + 0.05
    assert abs(x[:, 0].std() / deviation - 1) < 5 / np.sqrt(4000) + 0.02


def test_labels_are_the_datas_own():
    run = make_run(classes=("1", "2", "ten"))
    assert indices(["ten", 1], run.classes, 2).tolist() == [2, 0]
    means = [np.asarray(run.sample(KEYS, label)).mean(axis=0) for label in (1, np.int64(2), "ten")]
    for k, mean in enumerate(means):
        assert np.all(np.abs(mean - (CENTRE + k * SCALE)) < 5 * DEVIATION / np.sqrt(2000))
    x = CENTRE + SCALE + np.zeros((2, 2))
    np.testing.assert_allclose(run.log_prob(KEYS[:2], x, 2).value, gaussian(x, CENTRE + SCALE, DEVIATION), atol=2e-3)
    for label, words in ((0, "label '0' is unknown: this run has labels 1, 2, ten"), (["1"] * 3, "for each of 2000")):
        with pytest.raises(ValueError, match=words):
            run.sample(KEYS, label)
    with pytest.raises(ValueError, match="this run has no labels"):
        RUN.sample(KEYS, 1)
    with pytest.raises(ValueError, match="units must be one of"):
        RUN.sample(KEYS, units="raw", x=np.zeros((2000, 2)))


def test_rows_of_a_source_are_in_the_datas_units():
    """A bridge whose drift is 0 leaves its rows where they are, in either direction."""
    still = bj.SDE(lambda t, x, args: jnp.zeros_like(x))
    decode = Partial(_finish, jnp.float32(SHIFT), jnp.float32(SCALE))
    process = bj.Process(bj.starts.point(jnp.zeros(2)), still, bj.grids.uniform(2), still, decode)
    run = bj.Run(process, None, {}, Units(SHIFT, SCALE, (2,)), begins="rows")
    rows = CENTRE + DEVIATION * np.random.default_rng(0).standard_normal((4, 2))
    np.testing.assert_allclose(run.sample(KEYS[:4], x=rows), rows, rtol=1e-5)
    np.testing.assert_allclose(run.encode(KEYS[:4], rows), rows, rtol=1e-5)
    paired = run._replace(begins="pairs")
    np.testing.assert_allclose(paired.sample(KEYS[:4], x=rows), rows, rtol=1e-5)
    with pytest.raises(ValueError, match="give rows x"):
        paired.sample(KEYS[:4])
