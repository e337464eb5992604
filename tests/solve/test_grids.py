"""Grids: n steps from 0 to T, strictly increasing as stored, at the noise levels their formulas say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridgejax.processes import schedules
from bridgejax.solve import grids

SCHEDULES = {
    "vp": schedules.vp(),
    "cosine": schedules.cosine(),
    "sub_vp": schedules.sub_vp(),
    "ve": schedules.ve(),
    "rectified": schedules.rectified(),
    "karras": schedules.karras(),
    "ou": schedules.ou(1.0, T=3.0),
}
each = pytest.mark.parametrize("name", sorted(SCHEDULES))


def proper(ts, n, T):
    assert ts.shape == (n + 1,)
    assert ts.dtype == jnp.result_type(float)
    assert ts[0] == 0
    assert float(ts[-1]) == pytest.approx(T, rel=1e-7)
    assert np.all(np.diff(np.asarray(ts)) > 0)


@pytest.mark.fast
@pytest.mark.parametrize("n", [1, 2, 7, 1000])
def test_uniform_and_quadratic(n):
    for T in (0.3, 1.0, 80.0):
        proper(grids.uniform(n, T), n, T)
        proper(grids.quadratic(n, T), n, T)
        proper(grids.two_sided(n, T), n, T)
        np.testing.assert_allclose(grids.two_sided(n, T) + grids.two_sided(n, T)[::-1], T, rtol=1e-6)
    np.testing.assert_allclose(grids.uniform(4, 2.0, start=1.0), [1.0, 1.25, 1.5, 1.75, 2.0])
    np.testing.assert_allclose(1.0 - grids.quadratic(4), [1.0, 0.5625, 0.25, 0.0625, 0.0])


@each
@pytest.mark.parametrize("n", [1, 2, 20])
def test_log_snr_steps_are_even(name, n):
    schedule = SCHEDULES[name]
    ts = grids.log_snr(n, schedule)
    proper(ts, n, schedule.T)
    if n > 2:
        levels = np.asarray(schedule.log_snr(schedule.T - ts[1:-1]), np.float64)
        assert levels[-1] == pytest.approx(10.0, abs=0.05)
        steps = np.diff(levels)
        # float32 times near T resolve noise levels to 6e-8 T / t
        np.testing.assert_allclose(steps, steps.mean(), atol=0.03)
        if not schedule.zero_terminal_snr:
            assert levels[0] - float(schedule.log_snr(schedule.T)) == pytest.approx(steps.mean(), abs=0.03)


def test_karras_is_edms_ladder():
    """Karras et al. 2022, eq. 5 with rho = 7, sigma from 80 to 0.002."""
    n = 18
    ts = grids.karras(n)
    proper(ts, n, 80.0)
    i = np.arange(n)
    want = (80 ** (1 / 7) + i / (n - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(80.0 - np.asarray(ts, np.float64)[:-1], want, rtol=1e-5, atol=8e-6)
    np.testing.assert_allclose(grids.karras(n, schedules.karras()), ts, rtol=1e-5)


@each
def test_karras_on_other_schedules_steps_in_sigma_over_alpha(name):
    schedule = SCHEDULES[name]
    ts = grids.karras(12, schedule, sigma_min=0.01)
    proper(ts, 12, schedule.T)
    ratio = np.exp(-0.5 * np.asarray(schedule.log_snr(schedule.T - ts[1:-1]), np.float64)) ** (1 / 7)
    np.testing.assert_allclose(np.diff(ratio), np.diff(ratio).mean(), rtol=0.02)
    assert ratio[-1] ** 7 == pytest.approx(0.01, rel=0.02)


def test_options_of_log_snr():
    schedule = schedules.vp()
    ts = grids.log_snr(11, schedule, log_snr_max=5.0, log_snr_min=-5.0)
    levels = schedule.log_snr(schedule.T - ts[1:-1])
    np.testing.assert_allclose(levels, np.linspace(-4.0, 5.0, 10), atol=2e-3)
    assert ts[0] == 0


BAD = [
    (lambda: grids.uniform(0), r"n, the number of steps, must be a positive integer, got 0"),
    (lambda: grids.uniform(-3), r"must be a positive integer, got -3"),
    (lambda: grids.uniform(2.5), r"must be a positive integer, got 2.5"),
    (lambda: grids.quadratic("ten"), r"must be a positive integer, got 'ten'"),
    (lambda: grids.log_snr(0, schedules.vp()), r"must be a positive integer, got 0"),
    (lambda: grids.karras(0), r"must be a positive integer, got 0"),
    (lambda: grids.uniform(4, 1.0, start=2.0), r"start must lie before T = 1, got 2"),
    (lambda: grids.uniform(4, float("nan")), r"T must be a positive finite number, got nan"),
    (lambda: grids.quadratic(4, -1.0), r"T must be a positive finite number, got -1"),
    (
        lambda: grids.uniform(4, 1.0, start=1.0 - float(jnp.finfo(float).eps)),  # two numbers lie between
        rf"a grid of 4 steps has equal neighbours in {jnp.result_type(float)}; use fewer steps",
    ),
    (
        lambda: grids.log_snr(4, schedules.vp(), log_snr_max=-20.0),
        r"log_snr_max must exceed the schedule's lowest log SNR",
    ),
    (lambda: grids.karras(4, sigma_min=100.0), r"sigma_min must lie in \(0, 80\), got 100"),
    (lambda: grids.karras(4, sigma_min=0.0), r"sigma_min must lie in \(0, 80\), got 0"),
    (lambda: grids.karras(4, rho=0.0), r"rho must be positive, got 0"),
    (lambda: grids.log_snr(4, "vp"), r"schedule must be a Schedule, got str"),
    (lambda: grids.karras(4, "vp"), r"schedule must be a Schedule, got str"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_steps_that_float32_cannot_tell_apart_are_refused_there_only():
    with jax.enable_x64(False), pytest.raises(ValueError, match="100000 steps has equal neighbours in float32"):
        grids.quadratic(10**5)
    with jax.enable_x64(True):
        assert np.all(np.diff(grids.quadratic(10**5)) > 0)


@pytest.mark.parametrize("name", ["brownian", "ou"])
def test_the_deviation_left_falls_evenly(name):
    schedule = {"brownian": schedules.brownian(0.7, T=2.0), "ou": SCHEDULES["ou"]}[name]
    ts = grids.deviation(9, schedule, last=0.05)
    proper(ts, 9, schedule.T)
    left = [float(jnp.sqrt(schedule.variance(t, schedule.T))) for t in ts[:-1]]
    np.testing.assert_allclose(left, np.linspace(left[0], 0.05, 9), rtol=1e-3)
    proper(grids.deviation(1, schedule), 1, schedule.T)
    with pytest.raises(ValueError, match="last must lie between"):
        grids.deviation(5, schedule, last=50.0)


def test_a_deviation_grid_crowds_by_its_power():
    schedule = schedules.brownian(0.7, T=2.0)
    ts = grids.deviation(9, schedule, last=0.05, rho=3.0)
    left = (0.7 * np.sqrt(2.0 - np.asarray(ts, np.float64)[:-1])) ** (1 / 3)
    np.testing.assert_allclose(left, np.linspace((0.7 * 2**0.5) ** (1 / 3), 0.05 ** (1 / 3), 9), rtol=1e-3)


def test_a_schedule_without_signal_takes_its_first_step_to_minus_twelve():
    schedule = schedules.rectified()
    levels = np.asarray(schedule.log_snr(1.0 - grids.log_snr(12, schedule)[1:-1]), np.float64)
    np.testing.assert_allclose(levels, np.linspace(-12.0, 10.0, 12)[1:], atol=0.03)


@pytest.mark.parametrize("name", ["vp", "cosine", "ve", "karras"])
def test_noise_levels_are_sigma_over_alpha_and_times_at_a_log_snr_their_inverse(name):
    schedule = getattr(schedules, name)()
    times = schedule.T * np.array([0.1, 0.5, 0.9])
    levels = grids._noise_levels(schedule, times)
    expected = [float(schedule.sigma(t)) / float(schedule.alpha(t)) for t in times]
    np.testing.assert_allclose(levels, expected, rtol=1e-4)
    np.testing.assert_allclose(grids._noising_times(schedule, -2.0 * np.log(levels)), times, rtol=1e-3)
    assert grids._noise_levels(schedule, times[1]).shape == ()
