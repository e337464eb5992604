"""Time reversal: identities by automatic differentiation, then laws of samples with exact scores."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest
from jax.tree_util import Partial

from bridgejax.bridges import predictions, probability_flow, reverse
from bridgejax.processes import SDE, noising, schedules
from bridgejax.processes._keys import keys
from bridgejax.solve import grids, simulate, simulate_batch, solvers

# an asymmetric mixture in one dimension: modes apart by many standard deviations, no symmetry
WEIGHTS = np.array([0.2, 0.5, 0.3])
MEANS = np.array([-3.0, 0.5, 4.0])
SDS = np.array([0.3, 0.5, 0.2])
N = 4096


def mixture_parts(schedule, t, x):
    """log of weight times density of every component of p_t, with its mean and variance."""
    means = schedule.alpha(t) * jnp.float32(MEANS)
    variances = schedule.alpha(t) ** 2 * jnp.float32(SDS) ** 2 + schedule.variance(0.0, t)
    logs = jnp.log(jnp.float32(WEIGHTS)) - 0.5 * (x - means) ** 2 / variances - 0.5 * jnp.log(variances)
    return logs, means, variances


def mixture_score(schedule, t, x, args):
    logs, means, variances = mixture_parts(schedule, t, x)
    return jnp.sum(jax.nn.softmax(logs) * (means - x) / variances)


def mixture_denoiser(schedule, t, x, args):
    """E[x0 | x_t], from each component's conditional mean: no division by sigma^2 or alpha."""
    logs, means, variances = mixture_parts(schedule, t, x)
    inner = jnp.float32(MEANS) + schedule.alpha(t) * jnp.float32(SDS) ** 2 / variances * (x - means)
    return jnp.sum(jax.nn.softmax(logs) * inner)


def mixture_draws(seed, n):
    generator = np.random.default_rng(seed)
    which = generator.choice(3, size=n, p=WEIGHTS)
    return np.float32(MEANS[which] + SDS[which] * generator.normal(size=n))


def noised(schedule, seed):
    """Exact draws of x_T."""
    x0 = mixture_draws(seed, N)
    noise = np.random.default_rng(seed + 1).normal(size=N)
    return jnp.float32(float(schedule.alpha(schedule.T)) * x0 + float(schedule.sigma(schedule.T)) * noise)


def summary(x):
    """Weight, mean and standard deviation of each mode, and their standard errors under the truth."""
    x = np.asarray(x, np.float64)
    cells = [x < -1.5, (x >= -1.5) & (x < 2.6), x >= 2.6]
    got = np.array([[c.mean(), x[c].mean(), x[c].std(ddof=1)] for c in cells])
    counts = N * WEIGHTS
    errors = np.stack([np.sqrt(WEIGHTS * (1 - WEIGHTS) / N), SDS / np.sqrt(counts), SDS / np.sqrt(2 * counts)], 1)
    return got, errors


TRUE = np.stack([WEIGHTS, MEANS, SDS], 1)


def within(fine, coarse):
    """Five standard errors, plus the bias that is left when halving the step changes the estimate by this much.

    For a method of order one the bias of the finer grid is the difference of the two; for order two, a third.
    """
    (got, errors), (before, _) = summary(fine), summary(coarse)
    assert np.all(errors / np.abs(TRUE) < 0.05), "the standard error is too large a share of the value"
    discretisation = np.abs(got - before)
    assert np.all(discretisation <= 0.1 * np.abs(TRUE) + 7 * errors), "the grid is too coarse to say anything"
    np.testing.assert_array_less(np.abs(got - TRUE), 5 * errors + discretisation)


SCHEDULES = {
    "vp": schedules.vp(),
    "sub_vp": schedules.sub_vp(),
    "cosine": schedules.cosine(),
    "ve": schedules.ve(),
    "brownian": schedules.brownian(2.0),
    "ou": schedules.ou(1.5, 2.0),
    "rectified": schedules.rectified(),
    "karras": schedules.karras(),
}


LAWS = [(name, probability_flow) for name in sorted(SCHEDULES)]
LAWS += [(name, reverse) for name in ("cosine", "vp", "rectified", "karras")]


@pytest.mark.parametrize(("name", "bend"), LAWS)
def test_the_mixture_comes_back(name, bend):
    """Default solvers; T = 80 for karras: mode weights, means and standard deviations."""
    schedule = SCHEDULES[name]
    sde = bend(schedule, denoiser=Partial(mixture_denoiser, schedule))
    steps = (64, 128) if bend is reverse else (16, 32)
    start, k = noised(schedule, 3), keys(jax.random.key(7), N)
    coarse, fine = (simulate_batch(sde, k, start, grids.log_snr(n, schedule)) for n in steps)
    within(fine, coarse)


@pytest.mark.parametrize("bend", [reverse, probability_flow])
def test_the_score_routes_and_the_sde_route_agree(bend):
    """Schedule with denoiser, schedule with score and plain SDE with score: one drift, one law."""
    schedule = SCHEDULES["vp"]
    score = Partial(mixture_score, schedule)
    made = {
        "denoiser": bend(schedule, denoiser=Partial(mixture_denoiser, schedule)),
        "score": bend(schedule, score),
        "sde": bend(noising(schedule), score),
    }
    points = [(s, x) for s in (0.0, 0.3, 0.8, 0.99) for x in (-4.0, 0.2, 3.0)]
    s, x = (jnp.float32(v) for v in zip(*points, strict=True))
    drifts = {k: jax.jit(jax.vmap(sde.drift, (0, 0, None)))(s, x, None) for k, sde in made.items()}
    # (alpha D - x) / sigma^2 cancels where sigma is small: 1e-7 |x| / sigma^2 times g^2, sigma^2 = 1.9e-3 at s = 0.99
    for k in ("score", "sde"):
        np.testing.assert_allclose(drifts[k], drifts["denoiser"], rtol=2e-4, atol=2e-3)
    if bend is reverse:
        gs = {k: sde.diffusion(0.4, 1.0, None) for k, sde in made.items()}
        assert gs["denoiser"] == gs["score"] == gs["sde"]
    assert made["denoiser"].semilinear is not None
    assert made["sde"].semilinear is None

    start, k, grid = noised(schedule, 5), keys(jax.random.key(8), 64), grids.log_snr(48, schedule)
    a = simulate_batch(made["denoiser"], k, start[:64], grid)
    b = simulate_batch(made["score"], k, start[:64], grid)
    # a sample that falls between two modes may be torn apart by rounding: most must agree closely
    assert np.mean(np.abs(a - b) < 1e-3) > 0.9


@pytest.mark.parametrize("bend", [reverse, probability_flow])
def test_the_plain_sde_route_lands_too(bend):
    """Euler (or Heun) on -b + Sigma score, on a schedule whose coefficients are finite everywhere."""
    schedule = schedules.ou(1.5, 2.0)
    sde = bend(noising(schedule), Partial(mixture_score, schedule))
    start, k = noised(schedule, 9), keys(jax.random.key(10), N)
    within(*(simulate_batch(sde, k, start, grids.quadratic(n)) for n in (600, 300)))


def test_rectified_by_score():
    """alpha(T) = 0: the score at T is blind to the data, and yet the flow must find the modes' weights."""
    schedule = schedules.rectified()
    sde = probability_flow(schedule, Partial(mixture_score, schedule))
    start, k = noised(schedule, 11), keys(jax.random.key(12), N)
    drift = jax.vmap(sde.drift, (None, 0, None))(0.0, start[:100], None)
    assert np.all(np.abs(np.asarray(drift) - (WEIGHTS @ MEANS - np.asarray(start[:100]))) < 0.02)
    solver = solvers.Heun()
    within(*(simulate_batch(sde, k, start, grids.quadratic(n), solver=solver) for n in (128, 64)))


def test_the_last_interval_ends_at_the_denoised_state(key):
    schedule = schedules.vp()
    for bend in (reverse, probability_flow):
        sde = bend(schedule, denoiser=Partial(mixture_denoiser, schedule))
        out = simulate(sde, key, jnp.float32(0.7), jnp.array([0.0, 1.0]))
        assert float(out) == pytest.approx(float(mixture_denoiser(schedule, 1.0, 0.7, None)), rel=1e-6)
        stepped = simulate(
            dataclasses.replace(sde, terminal_kernel=None), key, jnp.float32(0.7), grids.log_snr(16, schedule)
        )
        assert np.isfinite(stepped)


def test_reversing_an_ode_walks_back(key):
    """diffusion None: nothing is drawn, the score does not matter, and two reversals undo each other."""
    ode = SDE(Partial(lambda a, t, x, args: a * x + t, jnp.float32(-1.0)), T=2.0)
    back = reverse(ode, lambda t, x, args: jnp.nan * x)
    assert back.diffusion is None
    ts = jnp.linspace(0.0, 2.0, 65)
    there = simulate(ode, key, jnp.array([1.0, -2.0]), ts)
    np.testing.assert_allclose(simulate(back, key, there, ts), [1.0, -2.0], atol=2e-3)


# noise that depends on the state ------------------------------------------------------------


def drift(t, x, args):
    return jnp.stack([-x[0] + t * x[1], jnp.sin(x[0]) - x[1]])


def diagonal(t, x, args):
    return jnp.stack([1.0 + 0.5 * jnp.sin(x[0]) * jnp.cos(x[1]), 0.3 + x[1] ** 2 + 0.1 * x[0]])


def dense(t, x, args):
    rows = jnp.stack([jnp.stack([1.0 + x[0] ** 2, 0.4 * x[1], 0.2]), jnp.stack([x[0] * x[1], 0.5, jnp.sin(x[0])])])
    return lineax.MatrixLinearOperator(rows)


def scalar(t, x, args):
    return 0.5 + 0.1 * (x[0] ** 2 + 2 * x[1])


def covariance(diffusion, x):
    g = diffusion(0.0, x, None)
    if isinstance(g, lineax.AbstractLinearOperator):
        return g.as_matrix() @ g.as_matrix().T
    return jnp.diag(jnp.broadcast_to(jnp.square(g), (2,)))


def no_score(t, x, args):
    return jnp.zeros_like(x)


POINTS = jnp.array([[0.3, -0.7], [1.2, 0.4], [-0.5, 0.9]])


def test_divergence_in_closed_form():
    """d_j Sigma_ij by hand, for a diagonal and for a dense rectangular diffusion."""
    for x0, x1 in np.asarray(POINTS, np.float64):
        x = jnp.float32([x0, x1])
        g0, g1 = 1 + 0.5 * np.sin(x0) * np.cos(x1), 0.3 + x1**2 + 0.1 * x0
        want = [2 * g0 * 0.5 * np.cos(x0) * np.cos(x1), 2 * g1 * 2 * x1]
        sde = SDE(no_score, diagonal, noise="state")
        np.testing.assert_allclose(reverse(sde, no_score).drift(0.5, x, None), want, rtol=1e-5, atol=1e-6)
        # G = [[1 + a^2, 0.4 b, 0.2], [a b, 0.5, sin a]]
        s00 = 4 * x0 * (1 + x0**2)
        s01_b = (1 + x0**2) * x0 + 0.2
        s01_a = x1 * (1 + 3 * x0**2) + 0.2 * np.cos(x0)
        s11 = 2 * x0**2 * x1
        sde = SDE(no_score, dense, noise="state")
        got = reverse(sde, no_score).drift(0.5, x, None)
        np.testing.assert_allclose(got, [s00 + s01_b, s01_a + s11], rtol=1e-5, atol=1e-6)


@pytest.mark.fast
@pytest.mark.parametrize("diffusion", [scalar, diagonal, dense])
def test_forward_and_reverse_drifts_balance_the_fokker_planck_current(diffusion):
    """(b + b_reverse) p = div(Sigma p), and half of it for the flow, for any density p: by autodiff of Sigma p."""

    def log_p(x):
        return jnp.logaddexp(-jnp.sum((x - 1.0) ** 2), -0.7 * jnp.sum((x + jnp.array([0.4, 1.0])) ** 2) - 0.3)

    sde = SDE(drift, diffusion, T=2.0, noise="state")
    score = Partial(lambda t, x, args: jax.grad(log_p)(x))
    s = 0.6
    for x in POINTS:
        flux = jax.jacfwd(lambda y: covariance(diffusion, y) * jnp.exp(log_p(y)))(x)
        want = jnp.trace(flux, axis1=1, axis2=2) / jnp.exp(log_p(x))
        forward = drift(2.0 - s, x, None)
        np.testing.assert_allclose(forward + reverse(sde, score).drift(s, x, None), want, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            forward + probability_flow(sde, score).drift(s, x, None), 0.5 * want, rtol=1e-4, atol=1e-5
        )


def test_additive_noise_adds_no_divergence():
    sde = SDE(drift, lambda t, x, args: 0.5 + t, T=1.0)
    x = POINTS[0]
    np.testing.assert_array_equal(reverse(sde, no_score).drift(0.25, x, None), -drift(0.75, x, None))
    assert reverse(SDE(drift, diagonal, noise="state"), no_score).noise == "state"


def test_divergence_on_a_pytree_state():
    def g(t, x, args):
        return {"a": 1.0 + x["a"] * x["b"], "b": jnp.sum(x["a"]) + x["b"] ** 2}

    x = {"a": jnp.array([0.5, -1.0]), "b": jnp.asarray(2.0)}
    zero = Partial(lambda t, x, args: jax.tree.map(jnp.zeros_like, x))
    out = reverse(SDE(zero, g, noise="state"), zero).drift(0.1, x, None)
    np.testing.assert_allclose(out["a"], 2 * (1 + x["a"] * x["b"]) * x["b"], rtol=1e-6)
    assert float(out["b"]) == pytest.approx(2 * (-0.5 + 4.0) * 4.0, rel=1e-6)


MU, VOLATILITY, LOG_MEAN, LOG_SD = 0.3, 0.5, 0.2, 0.4


def lognormal_score(t, x, args):
    mean, variance = LOG_MEAN + (MU - 0.5 * VOLATILITY**2) * t, LOG_SD**2 + VOLATILITY**2 * t
    return -(1.0 + (jnp.log(x) - mean) / variance) / x


@pytest.mark.parametrize("bend", [reverse, probability_flow])
def test_geometric_brownian_motion_is_reversed(bend):
    """dx = mu x dt + v x dW from a lognormal law, back to it: wrong without div Sigma = 2 v^2 x."""
    sde = SDE(lambda t, x, args: MU * x, lambda t, x, args: VOLATILITY * x, noise="state")
    generator = np.random.default_rng(4)
    logs = LOG_MEAN + LOG_SD * generator.normal(size=N)
    logs = logs + (MU - 0.5 * VOLATILITY**2) + VOLATILITY * generator.normal(size=N)
    start, k = jnp.float32(np.exp(logs)), keys(jax.random.key(5), N)
    back = bend(sde, lognormal_score)
    runs = [np.log(np.asarray(simulate_batch(back, k, start, grids.uniform(n)), np.float64)) for n in (100, 50)]
    errors = {"mean": LOG_SD / np.sqrt(N), "sd": LOG_SD / np.sqrt(2 * N)}
    for name, truth in (("mean", LOG_MEAN), ("sd", LOG_SD)):
        fine, coarse = (getattr(np, {"mean": "mean", "sd": "std"}[name])(r) for r in runs)
        assert errors[name] / truth < 0.05
        assert abs(fine - coarse) < 0.05 * truth
        assert abs(fine - truth) <= 5 * errors[name] + abs(fine - coarse)


# ends ------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_drifts_are_finite_at_both_ends_with_gradients(name, dtype):
    if dtype == jnp.bfloat16 and name not in ("vp", "rectified", "karras"):
        pytest.skip("bfloat16 on three schedules")
    schedule = SCHEDULES[name]

    def denoiser(schedule, t, x, args):
        return 0.5 * x

    bent = [bend(schedule, denoiser=Partial(denoiser, schedule)) for bend in (reverse, probability_flow)]
    if name != "rectified":
        network = predictions.convert(schedule, lambda t, x, args: 0.5 * x, "eps", "x0")
        bent += [bend(schedule, denoiser=network) for bend in (reverse, probability_flow)]

    def f(sdes, s, x):
        drifts = [sde.drift(s, x, None) for sde in sdes]
        return sum(jnp.sum(d * jnp.asarray(1e-6, dtype)) for d in drifts), jnp.stack(drifts)

    run = jax.jit(jax.vmap(jax.grad(f, (1, 2), has_aux=True), (None, 0, None)))
    gradients, drifts = run(bent, jnp.array([0.0, schedule.T]), jnp.asarray([1.0, -2.0], dtype))
    assert drifts.dtype == dtype
    for leaf in jax.tree.leaves((gradients, drifts)):
        assert np.all(np.isfinite(np.asarray(leaf, np.float32)))


# bad input ------------------------------------------------------------


def test_bad_input():
    vp, sde = schedules.vp(), noising(schedules.vp())
    for bend, first in itertools.product((reverse, probability_flow), (vp, sde)):
        with pytest.raises(ValueError, match="pass exactly one of score and denoiser"):
            bend(first)
        with pytest.raises(ValueError, match="pass exactly one of score and denoiser"):
            bend(first, no_score, denoiser=no_score)
        with pytest.raises(ValueError, match=r"score must be a function score\(t, x, args\).*got int"):
            bend(first, 3)
    for bend in (reverse, probability_flow):
        with pytest.raises(ValueError, match=r"sde_or_schedule must be an SDE or a Schedule, got str"):
            bend("vp", no_score)
        with pytest.raises(ValueError, match=r"denoiser needs a Schedule.*for an SDE pass its score"):
            bend(sde, denoiser=no_score)
        with pytest.raises(ValueError, match=r"denoiser must be a function denoiser\(t, x, args\).*got int"):
            bend(vp, denoiser=3)
        w = jnp.ones(2)
        with pytest.raises(ValueError, match=r"score closes over JAX arrays"):
            bend(vp, lambda t, x, args: w * x)
