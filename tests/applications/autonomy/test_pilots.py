"""Pilots: how often they err, and that their errors do not depend on what they see."""

import numpy as np

from bridgejax.applications.autonomy import pilots

NEVER = np.full((4000, 2), np.nan, np.float32)


def right(obs, goal, previous, random):
    return np.full((len(obs), 2), 9.0)


def act(pilot, previous=NEVER, seed=0):
    return pilot(np.zeros((4000, 3)), np.zeros((4000, 1)), previous, np.random.default_rng(seed))


def test_a_noisy_pilot_errs_at_its_rate():
    found = act(pilots.noisy(right, 0.3, low=[-1.0, 0.0], high=[0.0, 4.0]))
    errs = found[:, 0] != 9.0
    assert abs(errs.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 4000)
    assert np.array_equal(errs, found[:, 1] != 9.0)
    assert np.all((found[errs] >= [-1.0, 0.0]) & (found[errs] <= [0.0, 4.0]))
    assert np.all(np.abs(found[errs].mean(0) - [-0.5, 2.0]) < 5 * np.array([1.0, 4.0]) / np.sqrt(12 * errs.sum()))


def test_a_laggy_pilot_repeats_at_its_rate_but_not_at_first():
    pilot = pilots.laggy(right, 0.85)
    assert np.all(act(pilot) == 9.0)
    found = act(pilot, np.zeros((4000, 2), np.float32))
    assert abs((found[:, 0] == 0.0).mean() - 0.85) < 5 * np.sqrt(0.85 * 0.15 / 4000)


def test_zero_and_random():
    assert np.all(act(pilots.zero) == 0.0)
    found = act(pilots.random(high=3.0))
    assert np.all((found >= -1.0) & (found <= 3.0))
    assert abs(found.mean() - 1.0) < 5 * 4.0 / np.sqrt(12 * found.size)


def test_errors_do_not_depend_on_what_is_seen():
    for pilot in (pilots.noisy(right), pilots.laggy(right), pilots.random()):
        one, other = np.random.default_rng(3), np.random.default_rng(3)
        pilot(np.zeros((5, 3)), np.zeros((5, 1)), NEVER[:5], one)
        pilot(np.ones((5, 3)), np.ones((5, 1)), np.zeros((5, 2)), other)
        assert one.random() == other.random()
