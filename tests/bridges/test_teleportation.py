"""Teleportation: exact for Gaussian data, harmless at high noise for others, and refused where it would be wrong."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from jax.tree_util import Partial

from bridgejax.bridges import control, probability_flow, reverse, teleport
from bridgejax.oracles import fit_gaussian, gaussian_flow, gaussian_law
from bridgejax.processes import Process, mixtures, noising, schedules, starts
from bridgejax.processes._keys import keys
from bridgejax.solve import grids, sample, solvers
from bridgejax.weigh import log_prob

D, N = 3, 16_384
MEAN = np.array([0.5, -1.0, 2.0])
COV = np.array([[2.0, 0.6, -0.3], [0.6, 0.5, 0.1], [-0.3, 0.1, 0.2]])
LAW = gaussian_law(MEAN, COV)
KEYS = keys(jax.random.key(3), N)


def of(schedule, denoiser, ts, shape=(D,), bend=probability_flow, **parts):
    start = starts.normal(shape, scale=float(schedule.sigma(schedule.T)))
    return Process(start, bend(schedule, denoiser=denoiser), ts, **parts)


def gaussian_process(schedule, ts, **parts):
    return of(schedule, gaussian_flow(LAW, schedule).denoiser, ts, **parts)


def largest_z(x, mean=MEAN, cov=COV):
    """The moments of a sample, in their standard errors under N(mean, cov)."""
    x = np.asarray(x, np.float64)
    variances = np.diag(cov)
    of_mean = (x.mean(0) - mean) / np.sqrt(variances / len(x))
    of_cov = (np.cov(x.T) - cov) / np.sqrt((np.outer(variances, variances) + cov**2) / len(x))
    return max(np.abs(of_mean).max(), np.abs(of_cov).max())


@pytest.mark.parametrize("name", ["karras", "ve", "vp", "cosine", "rectified", "sub_vp"])
def test_gaussian_data_from_two_evaluations(name):
    """Teleported to a little noise, two steps are enough; without it they are not."""
    schedule = getattr(schedules, name)()
    ts = grids.log_snr(40, schedule, log_snr_max=9.0)
    t = schedule.T - float(ts[-3])
    fast = teleport(gaussian_process(schedule, ts), LAW, t=t)
    assert fast.ts.shape == (3,)
    np.testing.assert_allclose(fast.ts[0], 0.0)
    np.testing.assert_allclose([fast.dynamics.T, fast.ts[-1]], [t, t], rtol=1e-6)
    assert largest_z(sample(fast, KEYS)) < 5
    slow = gaussian_process(schedule, grids.log_snr(2, schedule))
    assert largest_z(sample(slow, KEYS)) > 20


@pytest.mark.parametrize("solver", [solvers.DPMSolverPP2M(), solvers.Heun(), solvers.UniPC()])
def test_the_rest_is_run_by_any_solver_of_flows(solver):
    schedule = schedules.karras()
    fast = teleport(gaussian_process(schedule, grids.karras(40)), LAW)
    assert largest_z(sample(fast, KEYS, solver=solver)) < 5


def test_the_rest_is_run_by_the_reverse_sde():
    schedule = schedules.vp()
    process = gaussian_process(schedule, grids.log_snr(800, schedule, log_snr_max=9.0), bend=reverse)
    fast = teleport(process, LAW)
    assert fast.dynamics.diffusion is not None
    assert len(fast.ts) < len(process.ts)
    assert largest_z(sample(fast, KEYS)) < 5


def test_every_class_is_moved_by_its_own_law():
    """Two Gaussian classes, from two steps: the moments of each, and the density of the start."""
    schedule = schedules.karras()
    laws = [gaussian_law([-0.3, 0.0], np.array([4.0, 0.25])), gaussian_law([0.2, 0.5], np.array([0.5, 1.0]))]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *laws)

    def denoiser(stacked, t, x, args):
        law = jax.tree.map(lambda leaf: leaf[args], stacked)
        return gaussian_flow(law, schedule).denoiser(t, x, None)

    process = of(schedule, Partial(denoiser, stacked), grids.karras(40), (2,))
    fast = teleport(process, stacked, t=float(np.sort(schedule.T - np.asarray(process.ts))[2]))
    for k, law in enumerate(laws):
        x = sample(fast, KEYS, np.full(N, k))
        assert largest_z(x, np.asarray(law.mean), np.asarray(law.cov())) < 5
        start = np.asarray(fast.start(KEYS[0], k))
        alone = teleport(process, law, t=fast.dynamics.T).start
        np.testing.assert_allclose(start, alone(KEYS[0], None), rtol=1e-5)
        np.testing.assert_allclose(fast.start.log_prob(start, k), alone.log_prob(start, None), rtol=1e-5)
    with pytest.raises(ValueError, match="args must be the class of each sample"):
        sample(fast, KEYS[:2])
    quiet = teleport(process, stacked).dynamics.T  # the class with the largest variance decides
    assert quiet == teleport(process, laws[0]).dynamics.T > teleport(process, laws[1]).dynamics.T


# non-Gaussian data --------------------------------------------------------------------------------------------------

SHARE = 0.5 - 0.5 / 5**0.5  # of the right of two points: skewness 1, excess kurtosis -1
POINTS = mixtures.gaussian_mixture(np.array([[0.0], [1.0]]), 0.0025, weights=[1.0 - SHARE, SHARE])


def divergence_from_gaussian(r, share=SHARE):
    """KL(p_t || N) of two points of unit variance, noised to the signal to noise ratio r, by quadrature."""
    ends = np.array([0.0, 1.0]) / np.sqrt(share * (1 - share))
    weights, scale = np.array([1 - share, share]), 1 / np.sqrt(r)
    centre, deviation = weights @ ends, np.sqrt(1 + 1 / r)

    def integrand(x):
        p = weights @ scipy.stats.norm.pdf(x, ends, scale)
        return p * (np.log(p) - scipy.stats.norm.logpdf(x, centre, deviation))

    return scipy.integrate.quad(integrand, centre - 12 * deviation, centre + 12 * deviation, epsabs=1e-12)[0]


def test_what_the_rule_costs_is_what_its_help_says():
    for r in (0.05, 0.25):
        edgeworth = r**3 / (12 * (1 + r) ** 3) + r**4 / (48 * (1 + r) ** 4)
        np.testing.assert_allclose(divergence_from_gaussian(r), edgeworth, rtol=0.15)
    assert round(divergence_from_gaussian(0.25), 4) == 0.0008
    assert round(divergence_from_gaussian(0.25, 0.5), 5) == 0.00015


@pytest.mark.parametrize("how", ["rule", "large"])
def test_two_components_are_what_they_are_without_teleporting(how):
    """The weight of the right component: off by sampling and by the Gaussian's error in total variation, no more.

    By Pinsker's inequality that error is at most sqrt(KL / 2), and the map from t to data, the same, adds none. In one
    dimension flows keep the order, so with the same noise it is also the share of samples that change sides.
    """
    schedule = schedules.karras()
    denoiser = mixtures.mixture_denoiser(POINTS, schedule)
    law = gaussian_law(POINTS.mean(), POINTS.cov())
    process = of(schedule, denoiser, grids.karras(60), (1,))
    fast = teleport(process, law) if how == "rule" else teleport(process, law, t=10.0)
    r = float(law.leading()) / fast.dynamics.T**2
    assert 0.01 < r <= 0.25 if how == "rule" else r < 0.01
    with_it, without = (np.asarray(sample(one, KEYS))[:, 0] > 0.5 for one in (fast, process))
    bound = np.sqrt(divergence_from_gaussian(r) / 2)
    assert abs(with_it.mean() - SHARE) < 5 * np.sqrt(SHARE * (1 - SHARE) / N) + bound
    assert np.mean(with_it != without) < bound + 5 * np.sqrt(bound / N)


def test_too_far_is_seen():
    """At a tenth of the deviation of the data Gaussian starts lie where there are no data."""
    schedule = schedules.karras()
    process = of(schedule, mixtures.mixture_denoiser(POINTS, schedule), grids.karras(60), (1,))
    law = gaussian_law(POINTS.mean(), POINTS.cov())
    x = np.asarray(sample(teleport(process, law, t=0.04), KEYS))[:, 0]
    assert abs(np.mean(x > 0.5) - SHARE) > 5 * np.sqrt(SHARE * (1 - SHARE) / N)


def test_the_rule_takes_the_last_time_that_is_quiet_enough():
    schedule, ts = schedules.vp(), grids.log_snr(30, schedules.vp())
    process = gaussian_process(schedule, ts)
    times = 1.0 - np.asarray(ts, np.float64)
    largest = np.linalg.eigvalsh(COV)[-1]
    ratios = np.array([largest * float(schedule.alpha(t) ** 2 / schedule.sigma(t) ** 2) for t in times[:-1]])
    for snr in (0.01, 0.25, 2.0):
        fast = teleport(process, LAW, snr=snr)
        expected = times[:-1][ratios <= snr][-1]
        np.testing.assert_allclose(fast.dynamics.T, expected, rtol=1e-6)
        left = times[times < expected - 1e-6]
        np.testing.assert_allclose(expected - np.asarray(fast.ts), np.append(expected, left), atol=1e-6)
    assert teleport(process, LAW).dynamics.T == teleport(process, LAW, snr=0.25).dynamics.T


# density ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bend", [probability_flow, reverse])
def test_log_prob_is_that_of_the_teleported_process(bend):
    """Of Gaussian data the whole is one affine map of N(0, sigma_T^2 I), written here in matrices."""
    schedule = schedules.vp()
    process = gaussian_process(schedule, grids.log_snr(30, schedule), bend=bend)
    fast = teleport(process, LAW)
    values, vectors = np.linalg.eigh(COV)
    alpha, variance = float(schedule.alpha(1.0)), float(schedule.variance(0.0, 1.0))
    root = vectors @ np.diag(np.sqrt(values / (alpha**2 * values + variance))) @ vectors.T
    law = scipy.stats.multivariate_normal(MEAN - root @ (alpha * MEAN), variance * root @ root.T)
    x = MEAN + np.array([1.0, -0.4, 0.3])
    with jax.enable_x64(True):
        found = log_prob(fast, jax.random.key(0), jnp.asarray(x))
    assert found.kind == "exact"
    np.testing.assert_allclose(found.value, law.logpdf(x), atol=2e-4)
    whole = log_prob(process, jax.random.key(0), jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found.value, whole.value, atol=1e-3)


def test_the_start_of_a_teleported_process_has_the_density_of_its_draws():
    fast = teleport(gaussian_process(schedules.karras(), grids.karras(18)), LAW)
    x = jnp.asarray([1.0, -2.0, 3.0])
    sigma, T = fast.dynamics.T, 80.0
    values, vectors = np.linalg.eigh(COV)
    root = vectors @ np.diag(np.sqrt((values + sigma**2) / (values + T**2))) @ vectors.T
    law = scipy.stats.multivariate_normal(MEAN - root @ MEAN, T**2 * root @ root.T)
    np.testing.assert_allclose(fast.start.log_prob(x, None), law.logpdf(x), rtol=1e-5)
    drawn = jax.vmap(lambda key: fast.start(key, None))(KEYS)
    assert largest_z(drawn, law.mean, law.cov) < 5


def test_a_start_without_a_density_has_none_after_teleporting():
    schedule = schedules.karras()
    process = gaussian_process(schedule, grids.karras(18))
    process = dataclasses.replace(process, start=Partial(lambda key, args: 80.0 * jax.random.normal(key, (D,))))
    fast = teleport(process, LAW)
    assert largest_z(sample(dataclasses.replace(fast, ts=grids.uniform(300, fast.dynamics.T)), KEYS)) < 5
    with pytest.raises(ValueError, match="start law of this process has no log_prob"):
        log_prob(fast, jax.random.key(0), jnp.zeros(D))


# what else a process has --------------------------------------------------------------------------------------------


def test_the_backward_run_ends_at_the_time_of_the_start():
    schedule = schedules.vp()
    process = gaussian_process(schedule, grids.log_snr(30, schedule), backward=noising(schedule))
    fast = teleport(process, LAW)
    data = jax.vmap(LAW)(keys(jax.random.key(5), N))
    x = sample(fast, KEYS, x=data, direction="backward")
    t = fast.dynamics.T
    alpha = float(schedule.alpha(t))
    cov = alpha**2 * COV + float(schedule.variance(0.0, t)) * np.eye(D)
    assert largest_z(x, alpha * MEAN, cov) < 5
    other = dataclasses.replace(process, backward=noising(schedules.karras(3.0)))  # on another clock
    assert teleport(other, LAW).backward is None


def test_the_rest_of_a_process_stays():
    schedule = schedules.vp()
    process = gaussian_process(schedule, grids.log_snr(30, schedule), decode=Partial(lambda key, x, args: 2.0 * x))
    stepped = dataclasses.replace(process, dynamics=dataclasses.replace(process.dynamics, terminal_kernel=None))
    fast = teleport(process, LAW)
    assert fast.decode is process.decode
    assert fast.dynamics.terminal_kernel is not None
    assert teleport(stepped, LAW).dynamics.terminal_kernel is None
    assert largest_z(np.asarray(sample(fast, KEYS)) / 2.0) < 5


def test_a_process_that_starts_at_the_gaussian_may_still_hold_data():
    schedule = schedules.brownian()
    flow = gaussian_flow(LAW, schedule)
    sde = probability_flow(schedule, denoiser=flow.denoiser)
    process = Process(LAW.diffuse(schedule, 1.0), sde, grids.log_snr(200, schedule))
    assert largest_z(sample(teleport(process, LAW, t=0.01), KEYS)) < 5


def test_teleporting_by_a_law_fitted_to_data():
    data = np.random.default_rng(0).multivariate_normal(MEAN, COV, size=4000)
    fast = teleport(gaussian_process(schedules.karras(), grids.karras(100)), fit_gaussian(data))
    assert len(fast.ts) < 80
    # the fit is off by its own 1/sqrt(4000), of which what was signal at that time, a fifth, comes through
    assert largest_z(sample(fast, KEYS)) < 5


# refused ------------------------------------------------------------------------------------------------------------

VP = schedules.vp()
RIGHT = gaussian_process(VP, grids.log_snr(30, VP))
HOLDS = gaussian_process(schedules.brownian(), grids.uniform(10))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: teleport(HOLDS, LAW),
            r"^schedule of the process still holds data at its end: .* more noise, or start",
        ),
        (lambda: teleport(RIGHT, LAW, t=1.0), r"^t must be a time inside the schedule, in \(0, 1\), got 1.0"),
        (lambda: teleport(RIGHT, LAW, t=2.0), r"^t must be a time inside the schedule"),
        (lambda: teleport(RIGHT, LAW, snr=1e-6), r"^snr must exceed that at the schedule's end"),
        (lambda: teleport(RIGHT, LAW, snr=1.0, t=0.5), r"^pass snr, from which the time follows, or t"),
        (
            lambda: teleport(gaussian_process(VP, grids.log_snr(2, VP)), LAW, snr=1e-3),
            r"^snr = 0.001 is passed in the first step of the process's grid, .* or the time t itself",
        ),
        (lambda: teleport(gaussian_process(VP, jnp.array([0.0, 0.5])), LAW, t=0.1), r"^t = 0.1 lies beyond the end"),
        (lambda: teleport(gaussian_process(VP, jnp.array([0.5, 1.0])), LAW), r"^ts of the process must be increasing"),
        (
            lambda: teleport(dataclasses.replace(RIGHT, dynamics=control(noising(VP), lambda t, x, args: x)), LAW),
            r"^process must run reverse or probability_flow of a Schedule, .* teleport it before",
        ),
        (
            lambda: sample(teleport(RIGHT, gaussian_law(np.zeros(2), 1.0)), KEYS),
            r"^x must be shaped like the law's mean",
        ),
        (lambda: jax.jit(lambda law: teleport(RIGHT, law).ts)(LAW), r"must be concrete"),
    ],
)
def test_what_cannot_be_teleported_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
