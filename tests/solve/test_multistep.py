"""Multistep and stochastic exponential solvers: exactness where theory says exact, orders, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridgejax.bridges import probability_flow, reverse
from bridgejax.processes import SDE, schedules
from bridgejax.processes._keys import keys
from bridgejax.processes.mixtures import gaussian_mixture, mixture_denoiser
from bridgejax.solve import grids, simulate, simulate_batch, solvers
from bridgejax.solve._solvers.one_step import exponential_step

SCHEDULE = schedules.vp(0.1, 8.0)
LAW = gaussian_mixture([[-1.0, 0.3], [1.5, -0.5]], 0.3, [0.4, 0.6])
FLOW = probability_flow(SCHEDULE, denoiser=mixture_denoiser(LAW, SCHEDULE))
REVERSE = reverse(SCHEDULE, denoiser=mixture_denoiser(LAW, SCHEDULE))
X0 = jnp.array([0.6, -0.4])


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 1.7])
@pytest.mark.parametrize("name", ["vp", "cosine", "karras", "rectified"])
def test_two_half_steps_are_one_step_when_d_is_frozen(name, eta):
    """Path by path: z of the full step is made of the halves' noise, weighted as one Brownian path in its own clock."""
    schedule = getattr(schedules, name)()
    t, m, u = (float(schedule.T) * share for share in (0.8, 0.55, 0.3))
    x, d = jnp.array([1.3, -0.2]), jnp.array([0.4, 0.9])
    z1, z2 = jnp.array([0.7, -1.1]), jnp.array([0.2, 0.5])
    halves = exponential_step(schedule, m, u, exponential_step(schedule, t, m, x, d, z1, eta), d, z2, eta)

    # in exact arithmetic x_u - (part linear in x, D) = sigma_u [e^{-eta h2} sqrt(1-e^{-2 eta h1}) z1 + sqrt(...) z2]
    h1, h2 = (0.5 * float(schedule.log_snr(b) - schedule.log_snr(a)) for a, b in ((t, m), (m, u)))
    if eta:
        a, b = np.exp(-eta * h2) * np.sqrt(-np.expm1(-2 * eta * h1)), np.sqrt(-np.expm1(-2 * eta * h2))
        whole = (a * z1 + b * z2) / np.hypot(a, b)
        np.testing.assert_allclose(np.hypot(a, b), np.sqrt(-np.expm1(-2 * eta * (h1 + h2))), rtol=1e-6)
    else:
        whole = z1
    full = exponential_step(schedule, t, u, x, d, whole, eta)
    np.testing.assert_allclose(full, halves, rtol=3e-5, atol=3e-5 * float(schedule.sigma(u)))


def test_eta_zero_is_ddim(key):
    """On the reverse SDE, with noise drawn and not used: the flow's own steps, to rounding."""
    ts = grids.log_snr(12, SCHEDULE)
    ddim = simulate(FLOW, key, X0, ts, solver=solvers.ExponentialEuler())
    for solver in (solvers.ExponentialEuler(eta=0.0),):
        np.testing.assert_allclose(simulate(REVERSE, key, X0, ts, solver=solver), ddim, atol=2e-6)
    second = simulate(FLOW, key, X0, ts, solver=solvers.DPMSolverPP2M())
    np.testing.assert_allclose(simulate(REVERSE, key, X0, ts, solver=solvers.DPMSolverPP2M(eta=0.0)), second, atol=2e-6)


def test_eta_one_by_the_general_formula():
    """eta = 1 has a branch of its own; the general one agrees."""
    args = (SCHEDULE, 0.8, 0.5, X0, jnp.array([0.4, 0.9]), jnp.array([0.7, -1.1]))
    np.testing.assert_allclose(exponential_step(*args, 1.0), exponential_step(*args, 1.0 + 1e-7), rtol=1e-5)


@pytest.mark.parametrize("solver", [solvers.DPMSolverPP3M(), solvers.UniPC()], ids=["3M", "UniPC"])
def test_third_order(solver):
    """Halving the step divides the error by about eight (experiments/orders.py has the table)."""
    with jax.enable_x64(True):
        law = gaussian_mixture(jnp.array([[-1.0], [1.5]]), 0.3, [0.4, 0.6])
        flow = probability_flow(SCHEDULE, denoiser=mixture_denoiser(law, SCHEDULE))

        def final(steps):
            ts = jnp.linspace(0.0, 0.9, steps + 1)
            return float(simulate(flow, jax.random.key(0), jnp.array([0.6]), ts, solver=solver)[0])

        truth = final(1024)
        errors = [abs(final(n) - truth) for n in (32, 64, 128)]
    slopes = np.diff(-np.log2(errors))
    assert np.all(slopes > 2.85), slopes


@pytest.mark.parametrize("name", ["DPMSolverPP2M", "DPMSolverPP3M", "UniPC"])
def test_few_steps_beat_ddim(name, key):
    """From 64 starts to clean data at 12 evaluations, against a fine solve."""
    k, starts = keys(key, 64), jax.random.normal(key, (64, 2))
    truth = simulate_batch(FLOW, k, starts, grids.log_snr(400, SCHEDULE))
    ts = grids.log_snr(12, SCHEDULE, log_snr_max=8.0)

    def error(solver):
        return float(jnp.sqrt(jnp.mean((simulate_batch(FLOW, k, starts, ts, solver=solver) - truth) ** 2)))

    assert error(getattr(solvers, name)()) < 0.5 * error(solvers.ExponentialEuler())


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver",
    [solvers.ExponentialEuler(eta=0.5), solvers.DPMSolverPP2M(), solvers.PredictorCorrector()],
    ids=["eta", "2M", "PC"],
)
def test_stochastic_solvers_keep_the_law(solver, key):
    """Mode weights and moments of the mixture, from 150 steps of the reverse SDE (weak order 1: 0.1 off at 60)."""
    n = 8192
    start = LAW.diffuse(SCHEDULE, 1.0)
    x0 = jax.vmap(start.sample)(keys(key, n, n))
    ts = grids.log_snr(150, SCHEDULE, log_snr_max=6.0)
    x = np.asarray(simulate_batch(REVERSE, keys(key, n), x0, ts, solver=solver))
    right = x[:, 0] > 0.25  # the valley; each mode's mass beyond it is small and known
    from math import erf, sqrt

    def beyond(mean):
        return 0.5 * (1 - erf((0.25 - mean) / sqrt(2 * 0.3)))

    share = 0.4 * beyond(-1.0) + 0.6 * beyond(1.5)
    assert abs(right.mean() - share) < 5 * sqrt(share * (1 - share) / n) + 0.01
    mean, cov = np.asarray(LAW.mean()), np.asarray(LAW.cov())
    assert np.all(np.abs(x.mean(0) - mean) < 5 * np.sqrt(np.diag(cov) / n) + 0.02)
    centred = x - x.mean(0)
    error = np.einsum("ni,nj->nij", centred, centred).std(0) / sqrt(n)
    assert np.all(np.abs(np.cov(x.T) - cov) < 5 * error + 0.04)


def test_corrector_alone_keeps_the_marginal(key):
    """One step of (nearly) no length: what the corrector adds leaves N(0, .) as it is, to snr^2."""
    law = gaussian_mixture([[0.0]], 1.0)
    sde = reverse(SCHEDULE, denoiser=mixture_denoiser(law, SCHEDULE))
    n, snr = 20_000, 0.16
    x0 = jax.random.normal(key, (n, 1))  # vp keeps unit variance
    x = simulate_batch(sde, keys(key, n), x0, [0.3, 0.3001], solver=solvers.PredictorCorrector(snr=snr))
    variance = float(jnp.var(x))
    # x' = (1 - 2 r^2 s^2) x + 2 r s z at p = N(0, 1): variance (1 - 2 r^2 s^2)^2 + 4 r^2 s^2 = 1 + 4 r^4 s^4
    assert abs(variance - 1.0) < 5 * np.sqrt(2 / n) + 4 * snr**4
    assert float(jnp.mean(jnp.abs(x - x0))) > 0.1  # it moved


@pytest.mark.slow
def test_gradients_are_finite(key):
    """Through every solver and the landing step, in float32 and bfloat16."""
    ts = grids.log_snr(6, SCHEDULE)
    cases = [(FLOW, solvers.DPMSolverPP3M()), (FLOW, solvers.UniPC()), (REVERSE, solvers.PredictorCorrector())]
    cases += [(REVERSE, solvers.ExponentialEuler(eta=0.5)), (REVERSE, solvers.DPMSolverPP2M())]
    for (sde, solver), dtype in zip(cases, [jnp.float32, jnp.bfloat16] * 3, strict=False):
        x = X0.astype(dtype)
        value, slope = jax.value_and_grad(
            lambda x, sde=sde, solver=solver: jnp.sum(simulate(sde, key, x, ts, solver=solver).astype(jnp.float32) ** 2)
        )(x)
        assert np.isfinite(value)
        assert np.all(np.isfinite(np.asarray(slope, np.float32)))


BAD = {
    "3M on an SDE": (lambda k: simulate(REVERSE, k, X0, [0, 0.5], solver=solvers.DPMSolverPP3M()), "probability flow"),
    "UniPC on an SDE": (lambda k: simulate(REVERSE, k, X0, [0, 0.5], solver=solvers.UniPC()), "probability flow"),
    "PC on an ODE": (lambda k: simulate(FLOW, k, X0, [0, 0.5], solver=solvers.PredictorCorrector()), "needs the noise"),
    "no split": (
        lambda k: simulate(SDE(lambda t, x, args: -x), k, X0, [0, 0.5], solver=solvers.UniPC()),
        "made from a Schedule",
    ),
    "eta": (lambda k: solvers.ExponentialEuler(eta=-1.0), "eta, the share"),
    "eta 2M": (lambda k: solvers.DPMSolverPP2M(eta=float("nan")), "eta, the share"),
    "snr": (lambda k: solvers.PredictorCorrector(snr=0.0), "snr must be"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, key):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call(key)
