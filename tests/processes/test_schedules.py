"""Schedules against their closed forms in float64, their own derivatives, and Monte-Carlo moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bridgejax.processes import noising, schedules, transition
from bridgejax.processes._keys import keys
from bridgejax.processes._schedule import gaussian_log_prob

# Truths in float64, written independently of the library: alpha, sigma^2, f, g^2 of time.
LOW, HIGH = 0.1, 20.0
BETA = (lambda t: LOW + (HIGH - LOW) * t, lambda t: LOW * t + 0.5 * (HIGH - LOW) * t**2)
PHI = np.arctan(np.exp(5.0))
RATIO = np.log(50.0 / 0.01)
THETA, SIGMA = 1.3, 0.7


def _cosine(delta):
    """cos and sin of phi t for phi = pi/2 - delta, phi given by its small complement."""
    return lambda t: np.sin(delta * t + 0.5 * np.pi * (1 - t)), lambda t: np.sin((0.5 * np.pi - delta) * t)


TRUTH = {
    "vp": (
        schedules.vp(),
        lambda t: np.exp(-0.5 * BETA[1](t)),
        lambda t: -np.expm1(-BETA[1](t)),
        lambda t: -0.5 * BETA[0](t),
        lambda t: BETA[0](t),
    ),
    "sub_vp": (
        schedules.sub_vp(),
        lambda t: np.exp(-0.5 * BETA[1](t)),
        lambda t: np.expm1(-BETA[1](t)) ** 2,
        lambda t: -0.5 * BETA[0](t),
        lambda t: -BETA[0](t) * np.expm1(-2 * BETA[1](t)),
    ),
    "cosine": (
        schedules.cosine(),
        lambda t: np.cos(PHI * t),
        lambda t: np.sin(PHI * t) ** 2,
        lambda t: -PHI * np.tan(PHI * t),
        lambda t: 2 * PHI * np.tan(PHI * t),
    ),
    "ve": (
        schedules.ve(),
        lambda t: np.ones_like(t),
        lambda t: 1e-4 * np.expm1(2 * RATIO * t),
        lambda t: np.zeros_like(t),
        lambda t: 1e-4 * 2 * RATIO * np.exp(2 * RATIO * t),
    ),
    "brownian": (
        schedules.brownian(SIGMA, T=2.0),
        lambda t: np.ones_like(t),
        lambda t: SIGMA**2 * t,
        lambda t: np.zeros_like(t),
        lambda t: np.full_like(t, SIGMA**2),
    ),
    "ou": (
        schedules.ou(THETA, SIGMA, T=3.0),
        lambda t: np.exp(-THETA * t),
        lambda t: -(SIGMA**2) / (2 * THETA) * np.expm1(-2 * THETA * t),
        lambda t: np.full_like(t, -THETA),
        lambda t: np.full_like(t, SIGMA**2),
    ),
    "rectified": (
        schedules.rectified(),
        lambda t: 1 - t,
        lambda t: t**2,
        lambda t: -1 / (1 - t),
        lambda t: 2 * t / (1 - t),
    ),
    "karras": (
        schedules.karras(),
        lambda t: np.ones_like(t),
        lambda t: t**2,
        lambda t: np.zeros_like(t),
        lambda t: 2 * t,
    ),
}
NAMES = sorted(TRUTH)
each = pytest.mark.parametrize("name", NAMES)


METHODS = (
    "alpha",
    "sigma",
    "log_alpha",
    "log_snr",
    "rate",
    "diffusion_squared",
    "diffusion",
    "alpha_dot",
    "dlog_sigma",
)
WIDTH = 64  # every test evaluates 64 times at once, so that each schedule is compiled once for the whole file


@jax.jit
def _marginals(schedule, times):
    return jax.vmap(lambda s, t: {m: getattr(s, m)(t) for m in METHODS}, (None, 0))(schedule, times)


@jax.jit
def _transitions(schedule, s, t):
    return jax.vmap(transition, (None, 0, 0))(schedule, s, t)


def _padded(times):
    times = np.atleast_1d(np.asarray(times, np.float32))
    return np.concatenate([times, np.full(WIDTH - times.size, times[-1])]), times.size


def marginals(schedule, times):
    """Every function of one time, at many times."""
    padded, n = _padded(times)
    return {name: np.asarray(value)[:n] for name, value in _marginals(schedule, padded).items()}


def transitions(schedule, s, t):
    """scale and variance between many pairs of times."""
    s, t = np.broadcast_arrays(np.float32(s), np.float32(t))
    (s, n), (t, _) = _padded(s), _padded(t)
    return tuple(np.asarray(value, np.float64)[:n] for value in _transitions(schedule, s, t))


def inner(name, n=60):
    """Times strictly inside the clock, down to 1e-4 of it and up to 1e-3 of its end."""
    end = TRUTH[name][0].T
    times = np.concatenate([np.geomspace(1e-4, 0.1, n // 2), np.linspace(0.1, 0.999, n - n // 2)])
    return (end * times).astype(np.float32)


# against closed forms ---------------------------------------------------------------------------------------------


@pytest.mark.fast
@each
def test_values_match_closed_forms(name):
    schedule, alpha, variance, f, g2 = TRUTH[name]
    t = inner(name)
    exact, got = t.astype(np.float64), marginals(schedule, t)
    # a handful of float32 roundings; where log alpha is large, exp multiplies the relative one by it
    rtol = 2e-6 + 3e-7 * np.abs(np.log(alpha(exact)))
    for method, want in (
        ("alpha", alpha(exact)),
        ("sigma", np.sqrt(variance(exact))),
        ("diffusion_squared", g2(exact)),
        ("diffusion", np.sqrt(g2(exact))),
    ):
        assert np.all(np.abs(got[method] - want) <= rtol * np.abs(want)), method
    np.testing.assert_allclose(transitions(schedule, 0.0, t)[1], variance(exact), rtol=rtol.max())
    # the derivative of cos at 0 and of 1 - t at 1 cancel: bounded by eps times the largest term
    np.testing.assert_allclose(got["rate"], f(exact), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got["log_alpha"], np.log(alpha(exact)), rtol=2e-6, atol=2e-7)
    log_snr = 2 * np.log(alpha(exact)) - np.log(variance(exact))
    np.testing.assert_allclose(got["log_snr"], log_snr, rtol=2e-6, atol=4e-6)


@each
def test_small_increments_are_exact_where_subtraction_is_not(name):
    """variance(s, t) for t - s down to one float32 spacing, against float64."""
    schedule, alpha, variance, _, _ = TRUTH[name]
    s = np.float32(0.4 * schedule.T)
    steps = (schedule.T * np.geomspace(1e-6, 0.3, 40)).astype(np.float32)
    t = np.unique(np.concatenate([[np.nextafter(s, np.float32(100))], s + steps]).astype(np.float32))
    S, E = np.float64(s), t.astype(np.float64)
    want = variance(E) - (alpha(E) / alpha(S)) ** 2 * variance(S)
    # float64's own cancellation error in the truth
    slack = 4e-16 * variance(E) / want
    scale, got = transitions(schedule, s, t)
    assert np.all(np.abs(got / want - 1) <= 4e-6 + slack)
    np.testing.assert_allclose(scale, alpha(E) / alpha(S), rtol=3e-6)

    before, after = marginals(schedule, s), marginals(schedule, t)
    naive = after["sigma"] ** 2 - (after["alpha"] / before["alpha"]) ** 2 * before["sigma"] ** 2
    assert np.max(np.abs(naive / want - 1)) > 1e-4, "the problem is too easy to tell the two apart"


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    times=st.lists(st.floats(0.0, 1.0, width=32, allow_subnormal=False), min_size=3, max_size=3, unique=True),
)
def test_transitions_compose(name, times):
    """x_s -> x_u -> x_t has the law of x_s -> x_t (Chapman-Kolmogorov)."""
    schedule = TRUTH[name][0]
    s, u, t = sorted(np.float32(v * schedule.T) for v in times)
    assume(s < u < t)
    assume(t < schedule.T or not schedule.zero_terminal_snr)
    scale, variance = transitions(schedule, [s, u, s], [u, t, t])
    assert scale[2] == pytest.approx(scale[0] * scale[1], rel=2e-5, abs=1e-37)
    assert variance[2] == pytest.approx(scale[1] ** 2 * variance[0] + variance[1], rel=2e-5, abs=1e-37)


@each
def test_a_transition_over_no_time_is_the_identity(name):
    schedule = TRUTH[name][0]
    t = schedule.T * np.array([0.0, 0.2, 0.7, 1.0 if not schedule.zero_terminal_snr else 0.9])
    scale, variance = transitions(schedule, t, t)
    assert np.all(scale == 1)
    assert np.all(variance == 0)
    assert np.all(transitions(schedule, t[:-1], t[1:])[1] > 0)


@pytest.mark.parametrize("end", [-5.0, -10.0, -20.0, -40.0, -80.0])
def test_cosine_reaches_its_log_snr(end):
    """alpha(1) = cos(phi) is small: it must not come from the cosine of a number near pi/2."""
    schedule = schedules.cosine(end)
    alpha, sigma = _cosine(np.arctan(np.exp(0.5 * end)))
    t = np.float32(1 - np.geomspace(1e-6, 1, 30))
    got = marginals(schedule, np.append(t, 1.0))
    assert float(got["log_snr"][-1]) == pytest.approx(end, rel=1e-5)
    np.testing.assert_allclose(got["alpha"][:-1], alpha(np.float64(t)), rtol=3e-6)
    np.testing.assert_allclose(got["sigma"][:-1], sigma(np.float64(t)), rtol=3e-6, atol=1e-12)
    s = np.float32(0.9375)
    late = t[t > s]
    A, B = alpha(np.float64(s)), alpha(np.float64(late))
    np.testing.assert_allclose(transitions(schedule, s, late)[1], (A**2 - B**2) / A**2, rtol=1e-5)


# derivatives and ends -----------------------------------------------------------------------------------------------


@each
def test_rates_are_derivatives_of_the_marginals(name):
    """d sigma^2/dt = 2 f sigma^2 + g^2; alpha_dot = f alpha; dlog_sigma = d log sigma/dt; by finite differences."""
    schedule, alpha, variance, _, _ = TRUTH[name]
    t = np.float32(schedule.T * np.array([0.05, 0.31, 0.77]))
    x, h = np.float64(t), 1e-5 * schedule.T
    d_alpha = (alpha(x + h) - alpha(x - h)) / (2 * h)
    d_variance = (variance(x + h) - variance(x - h)) / (2 * h)
    got = marginals(schedule, t)
    np.testing.assert_allclose(got["alpha_dot"], d_alpha, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got["dlog_sigma"], 0.5 * d_variance / variance(x), rtol=1e-5)
    sum_of_both = 2 * np.float64(got["rate"]) * variance(x) + got["diffusion_squared"]
    assert np.all(np.abs(sum_of_both - d_variance) <= 1e-5 * (d_variance + got["diffusion_squared"]))


@each
def test_log_snr_falls(name):
    schedule = TRUTH[name][0]
    t = schedule.T * np.concatenate([[0.0], np.geomspace(1e-6, 1e-2, 20), np.linspace(0.011, 1.0, 43)])
    assert np.all(np.diff(marginals(schedule, t)["log_snr"]) < 0)


@pytest.mark.fast
@each
def test_values_and_gradients_are_finite_at_both_ends(name):
    schedule = TRUTH[name][0]
    end = np.float32(schedule.T)
    times = np.asarray([0.0, 1e-7 * end, 0.5 * end, np.nextafter(end, np.float32(0)), end], np.float32)
    names = (*METHODS, "scale", "variance", "none")

    def everything(schedule, t):
        own = [getattr(schedule, method)(t) for method in METHODS]
        pairs = [schedule.scale(t, schedule.T), schedule.variance(t, schedule.T), schedule.variance(t, t)]
        return jnp.stack([*own, *pairs])

    @jax.jit
    def run(schedule, times):
        both = jax.jacrev(everything, argnums=(0, 1))
        return jax.vmap(everything, (None, 0))(schedule, times), jax.vmap(both, (None, 0))(schedule, times)

    parameters = jax.tree.map(jnp.float32, schedule)
    for leaf in jax.tree.leaves(run(parameters, times)):
        bad = ~np.isfinite(leaf)
        assert not bad.any(), [(times[i], names[j]) for i, j in np.argwhere(bad)]


@each
def test_clean_data_at_zero(name):
    at = marginals(TRUTH[name][0], 0.0)
    assert (at["alpha"], at["sigma"], at["log_alpha"]) == (1, 0, 0)


def test_only_rectified_vanishes():
    assert [name for name in NAMES if TRUTH[name][0].zero_terminal_snr] == ["rectified"]
    assert schedules.rectified().alpha(1.0) == 0


def test_parameters_may_be_traced_and_batched():
    def end(low):
        return schedules.vp(low, 10.0).sigma(1.0)

    lows = jnp.array([0.1, 1.0, 5.0])
    want = np.sqrt(-np.expm1(-0.5 * (np.array([0.1, 1.0, 5.0]) + 10.0)))
    np.testing.assert_allclose(jax.jit(jax.vmap(end))(lows), want, rtol=1e-6)
    # d sigma / d low at T = 1: e^-B / (4 sigma), B = (low + 10) / 2
    want_slope = np.exp(-0.5 * (0.1 + 10.0)) / (4 * want[0])
    assert float(jax.grad(end)(0.1)) == pytest.approx(want_slope, rel=1e-4)
    assert np.isfinite(jax.jit(lambda v: schedules.cosine(v).log_snr(1.0))(-12.0))
    assert np.isfinite(jax.jit(lambda a, b: schedules.ve(a, b).sigma(1.0))(0.1, 3.0))


# the SDE ------------------------------------------------------------------------------------------------------------


@each
def test_noising_drift_and_diffusion(name):
    schedule, _, _, f, g2 = TRUTH[name]
    sde = noising(schedule, center=2.0)
    t, x = np.float32(0.3 * schedule.T), jnp.array([1.0, -4.0])
    np.testing.assert_allclose(sde.drift(t, x, None), f(np.float64(t)) * (np.asarray(x) - 2.0), rtol=1e-5, atol=1e-6)
    assert float(sde.diffusion(t, x, None)) ** 2 == pytest.approx(g2(np.float64(t)), rel=1e-5)
    assert sde.T == schedule.T
    assert sde.noise == "additive"


LOW_PRECISION = ("vp", "rectified", "karras")
each_and_low = pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, jnp.float32) for name in NAMES] + [(name, jnp.bfloat16) for name in LOW_PRECISION],
)


@each_and_low
def test_the_kernel_samples_and_scores_the_transition(name, dtype, key):
    """Mean and variance of 4,000 draws of x_u given x_t, five standard errors; log_prob against its formula."""
    schedule, alpha, variance, _, _ = TRUTH[name]
    n, center = 4000, 0.5
    t, u = np.float32(0.3 * schedule.T), np.float32(0.8 * schedule.T)
    x = jnp.asarray([1.5, -2.0], dtype)
    land = noising(schedule, center).terminal_kernel
    draws = jax.jit(jax.vmap(land.sample, (0, None, None, None, None)))(keys(key, n), t, u, x, None)
    assert draws.dtype == dtype
    draws = np.asarray(draws, np.float64)
    scale = alpha(np.float64(u)) / alpha(np.float64(t))
    V = variance(np.float64(u)) - scale**2 * variance(np.float64(t))
    mean = scale * np.asarray(x, np.float64) + (1 - scale) * center
    # a bfloat16 draw is rounded by at most 2^-9 of itself; where V is far below mean^2 that rounding is the spread
    rounding = 2**-9 * (np.abs(mean) + 4 * np.sqrt(V)) if dtype == jnp.bfloat16 else 0.0 * mean
    assert np.all(np.abs(draws.mean(0) - mean) <= 5 * np.sqrt(V / n) + rounding)
    spread = 5 * np.sqrt(2 / (n - 1)) * V + rounding * (2 * np.sqrt(V) + rounding)
    assert np.all(np.abs(draws.var(0, ddof=1) - V) <= spread)
    y = jnp.asarray([0.7, 0.1], jnp.float32)
    log_prob = jax.jit(land.log_prob)(t, u, x, y, None)
    want = np.sum(-0.5 * (np.asarray(y, np.float64) - mean) ** 2 / V - 0.5 * np.log(2 * np.pi * V))
    tol = 1e-4 if dtype == jnp.float32 else 2e-2
    assert float(log_prob) == pytest.approx(want, rel=tol, abs=tol * np.max(mean**2 / V + 1))


def test_center_may_be_a_function_of_args_or_a_pytree():
    sde = noising(schedules.ou(1.0), center=lambda args: args["y"])
    drift = sde.drift(0.5, jnp.zeros(2), {"y": jnp.array([1.0, -2.0])})
    np.testing.assert_allclose(drift, [1.0, -2.0], rtol=1e-6)
    state = {"a": jnp.zeros(2), "b": jnp.zeros(())}
    sde = noising(schedules.ou(1.0), center={"a": jnp.array([1.0, 2.0]), "b": 3.0})
    drift = sde.drift(0.5, state, None)
    np.testing.assert_allclose(drift["a"], [1.0, 2.0], rtol=1e-6)
    np.testing.assert_allclose(drift["b"], 3.0, rtol=1e-6)


@each_and_low
def test_noising_is_finite_at_the_ends_with_gradients(name, dtype, key):
    schedule = TRUTH[name][0]
    sde = noising(schedule)
    x = jnp.asarray([1.0, -3.0], dtype)

    def f(sde, t, x):
        landed = sde.terminal_kernel.sample(key, t, sde.T, x, None)
        return jnp.sum(sde.drift(t, x, None) * 1e-10) + sde.diffusion(t, x, None) + jnp.sum(landed)

    both = jax.value_and_grad(f, argnums=(0, 1, 2))
    everything = jax.jit(jax.vmap(both, (None, 0, None)))(jax.tree.map(jnp.float32, sde), jnp.array([0.0, sde.T]), x)
    for leaf in jax.tree.leaves(everything):
        assert np.all(np.isfinite(np.asarray(leaf, np.float32)))


def test_log_prob_of_a_pytree_sums_over_leaves():
    y = {"a": jnp.array([1.0, 2.0]), "b": jnp.asarray(3.0)}
    mean = jax.tree.map(jnp.zeros_like, y)
    want = -0.5 * (1 + 4 + 9) / 2.0 - 1.5 * np.log(2 * np.pi * 2.0)
    assert float(gaussian_log_prob(y, mean, jnp.asarray(2.0))) == pytest.approx(want, rel=1e-6)


# bad input ----------------------------------------------------------------------------------------------------------

BAD = [
    (lambda: schedules.vp(beta_min=0.0), r"beta_min must be positive and finite, got 0"),
    (lambda: schedules.vp(beta_max=float("nan")), r"beta_max must be positive and finite, got nan"),
    (lambda: schedules.sub_vp(beta_max=-1), r"beta_max must be positive and finite, got -1"),
    (lambda: schedules.ve(sigma_min=-1.0), r"sigma_min must be positive"),
    (lambda: schedules.ve(1.0, 0.5), r"sigma_max must exceed sigma_min = 1.0, got 0.5"),
    (lambda: schedules.brownian(np.float32(-2)), r"sigma must be positive and finite, got -2"),
    (lambda: schedules.brownian(jnp.float32(0)), r"sigma must be positive and finite, got 0"),
    (lambda: schedules.ou(theta=0.0), r"theta must be positive"),
    (lambda: schedules.karras(-80.0), r"sigma_max must be positive"),
    (lambda: schedules.cosine(1.0), r"log_snr_end must lie in \[-80, 0\), got 1.0"),
    (lambda: schedules.cosine(float("nan")), r"log_snr_end must lie in"),
    (lambda: schedules.cosine(jnp.float32(-100.0)), r"log_snr_end must lie in"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_bad_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_longer_clock_has_the_same_line_of_beta():
    """From 0.1 to 20 over [0, 2]: the integral is 20.1 in all, and a quarter of the way (0.1 + 19.9 / 8) / 2."""
    schedule = schedules.vp(T=2.0)
    np.testing.assert_allclose(schedule.log_alpha(2.0), -0.5 * 20.1, rtol=1e-6)
    np.testing.assert_allclose(schedule.variance(0.0, 0.5), 1 - np.exp(-0.5 * (0.1 + 0.5 * 19.9 / 4)), rtol=1e-5)
