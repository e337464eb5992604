"""Solvers: orders on exactly known flows, exact laws with frozen denoisers, diffrax's solvers under our scan."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from bridgejax.bridges import probability_flow, reverse
from bridgejax.processes import SDE, keys, noising, schedules
from bridgejax.solve import grids, simulate, simulate_batch, simulate_path, solvers

N = 4096
MEAN, SD = 1.2, 0.6


def gaussian_denoiser(schedule, t, x, args):
    """E[x0 | x_t] for data N(MEAN, SD^2)."""
    a, v = schedule.alpha(t), schedule.variance(0.0, t)
    return MEAN + a * SD**2 / (a**2 * SD**2 + v) * (x - a * MEAN)


def law(schedule, s):
    """Mean and deviation of the noised data at s on the generative clock."""
    a, v = schedule.alpha(schedule.T - s), schedule.variance(0.0, schedule.T - s)
    return a * MEAN, jnp.sqrt(a**2 * SD**2 + v)


def flow(schedule, s, u, x):
    """The probability flow of Gaussian data keeps standardised values: exact from s to u on the generative clock."""
    (m0, s0), (m1, s1) = law(schedule, s), law(schedule, u)
    return m1 + s1 / s0 * (x - m0)


SCHEDULES = {"vp": schedules.vp(0.1, 8.0), "cosine": schedules.cosine(-6.0), "karras": schedules.karras(10.0)}


def slopes(errors):
    return np.log2(np.asarray(errors[:-1]) / np.asarray(errors[1:]))


@pytest.mark.parametrize(
    ("solver", "order"),
    [(solvers.Euler(), 1), (solvers.Heun(), 2), (solvers.ExponentialEuler(), 1), (solvers.DPMSolverPP2M(), 2)],
    ids=lambda v: type(v).__name__ if isinstance(v, dfx.AbstractSolver) else str(v),
)
@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_orders_on_an_exact_probability_flow(name, solver, order, key):
    """Error at an inner time, halving the step, in float64: no landing helps and no rounding hides the order."""
    schedule = SCHEDULES[name]
    sde = probability_flow(schedule, denoiser=Partial(gaussian_denoiser, schedule))
    end, x = 0.8 * schedule.T, 2.5
    errors = []
    with jax.enable_x64(True):
        truth = float(flow(schedule, jnp.float64(0), jnp.float64(end), x))
        for n in (64, 128, 256):
            out = simulate(sde, key, jnp.float64(x), np.linspace(0, end, n + 1), solver=solver)
            errors.append(abs(float(out) - truth))
    assert min(slopes(errors)) > order - 0.15, errors
    assert max(slopes(errors)) < order + 0.5, errors


def test_strong_order_of_euler_on_additive_noise(key):
    """OU on one Brownian path, coarsened: E|X_n - X_2n| halves with the step (strong order 1 for additive noise)."""
    sde = SDE(lambda t, x, args: -jnp.sin(2 * x), lambda t, x, args: 0.7)
    fine = grids.uniform(256)

    @jax.jit
    def ends(key):
        noise = simulate_path(sde, key, jnp.float32(1.0), fine).noise

        def run(coarsening):
            w = noise.reshape(-1, coarsening).sum(1)
            h = coarsening / 256
            return jax.lax.scan(lambda x, w: (x - jnp.sin(2 * x) * h + 0.7 * w, None), jnp.float32(1.0), w)[0]

        return jnp.stack([run(1), run(4), run(8), run(16)])

    x = np.asarray(jax.vmap(ends)(keys(key, 1024)))
    errors = np.abs(x[:, 1:] - x[:, :1]).mean(0)[::-1]
    assert min(slopes(errors)) > 0.85


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_exponential_euler_is_exact_for_a_point_mass(name, key):
    """D constant: three coarse steps have exactly the law N(alpha m, sigma^2) at every time, and land on m."""
    schedule = SCHEDULES[name]
    sde = reverse(schedule, denoiser=lambda t, x, args: jnp.full_like(x, MEAN))
    ts = jnp.array([0.0, 0.3, 0.45, 0.9, 1.0]) * schedule.T
    x_T = schedule.alpha(schedule.T) * MEAN + schedule.sigma(schedule.T) * jax.random.normal(jax.random.key(3), (N,))
    run = jax.jit(jax.vmap(lambda k, x: simulate_path(sde, k, x, ts).xs))
    xs = np.asarray(run(keys(key, N), x_T), np.float64)
    for k in (1, 2, 3):
        t = float(schedule.T - ts[k])
        mean, sd = float(schedule.alpha(t)) * MEAN, float(schedule.sigma(t))
        assert abs(xs[:, k].mean() - mean) <= 5 * sd / np.sqrt(N)
        assert abs(xs[:, k].std() / sd - 1) <= 5 / np.sqrt(2 * N)
    np.testing.assert_allclose(xs[:, 4], MEAN, rtol=1e-6)


def test_ddim_is_exact_for_a_point_mass(key):
    schedule = SCHEDULES["vp"]
    sde = probability_flow(schedule, denoiser=lambda t, x, args: jnp.full_like(x, MEAN))
    ts = jnp.array([0.0, 0.37, 0.9])
    x = jnp.float32(0.4)
    a, s = schedule.alpha(1.0), schedule.sigma(1.0)
    b, r = schedule.alpha(0.1), schedule.sigma(0.1)
    want = b * MEAN + r / s * (x - a * MEAN)
    for solver in (solvers.ExponentialEuler(), solvers.DPMSolverPP2M()):
        assert float(simulate(sde, key, x, ts, solver=solver)) == pytest.approx(float(want), rel=1e-5)


@pytest.mark.parametrize("solver", [solvers.ExponentialEuler(), solvers.DPMSolverPP2M()])
def test_a_grid_into_clean_data_without_landing(solver, key):
    """The last step to sigma = 0 is DDIM onto the denoised state, whatever came before: the same as landing."""
    import dataclasses

    schedule = SCHEDULES["vp"]
    sde = probability_flow(schedule, denoiser=Partial(gaussian_denoiser, schedule))
    ts = grids.log_snr(24, schedule)
    landed = simulate(sde, key, jnp.float32(2.5), ts, solver=solver)
    stepped = simulate(dataclasses.replace(sde, terminal_kernel=None), key, jnp.float32(2.5), ts, solver=solver)
    assert float(landed) == pytest.approx(float(stepped), rel=1e-5)


@pytest.mark.parametrize("bend", [reverse, probability_flow])
def test_gradients_through_the_exponential_solvers(bend, key):
    schedule = SCHEDULES["vp"]

    def denoiser(w, t, x, args):
        return w * x

    def loss(w, x):
        return jnp.sum(
            simulate(bend(schedule, denoiser=Partial(denoiser, w)), key, x, grids.log_snr(12, schedule)) ** 2
        )

    gradient = jax.jit(jax.grad(loss, (0, 1)))(jnp.float32(0.5), jnp.array([1.0, -2.0]))
    h = 1e-3
    f = jax.jit(loss)
    slope = (f(0.5 + h, jnp.array([1.0, -2.0])) - f(0.5 - h, jnp.array([1.0, -2.0]))) / (2 * h)
    assert float(gradient[0]) == pytest.approx(float(slope), rel=1e-2)
    assert np.all(np.isfinite(gradient[1]))


def test_default_solvers(key):
    def used(sde):
        from bridgejax.solve._accepted import default_solver

        return type(default_solver(sde))

    vp = schedules.vp()
    assert used(SDE(lambda t, x, args: x)) is solvers.Heun
    assert used(noising(vp)) is solvers.Euler
    assert used(reverse(vp, denoiser=lambda t, x, args: x)) is solvers.ExponentialEuler
    assert used(probability_flow(vp, denoiser=lambda t, x, args: x)) is solvers.DPMSolverPP2M


# diffrax's solvers under our scan ------------------------------------------------------------

THETA, SIGMA = 1.0, 0.8


def ou(theta):
    return SDE(Partial(lambda a, t, x, args: -a * x, theta), lambda t, x, args: SIGMA)


ADDITIVE = [dfx.Euler(), dfx.Heun(), dfx.SEA(), dfx.ShARK(), dfx.SRA1(), dfx.ItoMilstein(), dfx.ReversibleHeun()]
ADDITIVE += [solvers.Heun(), dfx.SPaRK(), dfx.Tsit5()]
name_of = lambda solver: type(solver).__module__.split(".")[0] + "." + type(solver).__name__  # noqa: E731


@pytest.mark.parametrize("solver", ADDITIVE, ids=name_of)
def test_diffrax_solvers_on_ou_and_their_gradients(solver, key):
    """Mean, variance and d mean / d theta of OU at T = 1; bias at most Euler's, which is known exactly."""
    ts, k = grids.uniform(20), keys(key, N)

    @jax.jit
    def both(theta):
        run = lambda theta: simulate_batch(ou(theta), k, jnp.float32(2.0), ts, axes=(None, None, None), solver=solver)  # noqa: E731
        x, slope = jax.jvp(run, (theta,), (jnp.float32(1.0),)) if isinstance(solver, dfx.Euler) else (run(theta), None)
        gradient = jax.grad(lambda theta: jnp.mean(run(theta)))(theta)
        return x, gradient

    x, gradient = both(jnp.float32(THETA))
    x = np.asarray(x, np.float64)
    h, n = 1 / 20, 20
    mean, variance = 2 * np.exp(-THETA), SIGMA**2 * (1 - np.exp(-2 * THETA)) / 2
    euler_mean, euler_variance = 2 * (1 - h) ** n, SIGMA**2 * h * (1 - (1 - h) ** (2 * n)) / (1 - (1 - h) ** 2)
    assert abs(x.mean() - mean) <= 5 * np.sqrt(variance / N) + abs(euler_mean - mean)
    assert abs(x.var() - variance) <= 5 * variance * np.sqrt(2 / N) + abs(euler_variance - variance)
    # d mean / d theta = -mean; its noise is d x / d theta = -int x, of standard deviation below sigma
    euler_slope = -2 * (1 - h) ** (n - 1)
    assert abs(float(gradient) + mean) <= 5 * SIGMA / np.sqrt(N) + abs(euler_slope + mean)


@pytest.mark.parametrize("solver", [dfx.Euler(), dfx.ItoMilstein()], ids=name_of)
def test_ito_solvers_on_state_noise_find_the_ito_mean(solver, key):
    """dx = m x dt + v x dW: E x_T = e^m (Ito); Stratonovich would be e^(m + v^2/2)."""
    sde = SDE(lambda t, x, args: 0.1 * x, lambda t, x, args: 0.6 * x, noise="state")
    x = simulate_batch(sde, keys(key, 4 * N), jnp.float32(1.0), grids.uniform(32), axes=(None,) * 3, solver=solver)
    x = np.asarray(x, np.float64)
    sd = np.exp(0.1) * np.sqrt(np.exp(0.36) - 1)
    tolerance = 5 * sd / np.sqrt(4 * N) + abs(np.exp(0.1) - (1 + 0.1 / 32) ** 32)
    assert abs(x.mean() - np.exp(0.1)) <= tolerance
    assert np.exp(0.28) - np.exp(0.1) > 5 * tolerance, "the two conventions must be told apart"


@pytest.mark.parametrize("solver", [dfx.Heun(), dfx.Tsit5(), dfx.Dopri5(), solvers.Heun()], ids=name_of)
def test_diffrax_solvers_on_an_ode(solver, key):
    sde = SDE(Partial(lambda a, t, x, args: -a * x + jnp.sin(t), jnp.float32(1.0)))
    want = 2.5 * np.exp(-1) + 0.5 * (np.sin(1) - np.cos(1))
    out, gradient = jax.value_and_grad(lambda x: simulate(sde, key, x, grids.uniform(16), solver=solver))(
        jnp.float32(2.0)
    )
    assert float(out) == pytest.approx(want, abs=1e-3)
    assert float(gradient) == pytest.approx(np.exp(-1), rel=1e-3)


# adaptive ------------------------------------------------------------

PID = dfx.PIDController(rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_adaptive_ode(key):
    sde = SDE(lambda t, x, args: -x + jnp.sin(t))
    want = 2.5 * np.exp(-1) + 0.5 * (np.sin(1) - np.cos(1))
    for solver in (None, dfx.Dopri5()):
        out = simulate(sde, key, jnp.float32(2.0), jnp.array([0.0, 0.1, 1.0]), solver=solver, controller=PID)
        assert float(out) == pytest.approx(want, abs=2e-4)
    path = simulate_path(sde, key, jnp.float32(2.0), grids.uniform(8), controller=PID)
    assert path.xs.shape == (9,)
    assert path.noise is None
    exact = 2.5 * np.exp(-np.asarray(path.ts)) + 0.5 * (np.sin(path.ts) - np.cos(path.ts))
    np.testing.assert_allclose(path.xs, exact, atol=2e-4)
    slope = jax.grad(lambda x: simulate(sde, key, x, jnp.array([0.0, 0.1, 1.0]), controller=PID))(jnp.float32(2.0))
    assert float(slope) == pytest.approx(np.exp(-1), rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("solver", [dfx.ShARK(), dfx.HalfSolver(dfx.ItoMilstein())], ids=["ShARK", "Half(ItoMilstein)"])
def test_adaptive_sde(solver, key):
    """Law of OU from steps chosen on a Brownian tree."""
    controller = dfx.PIDController(rtol=1e-2, atol=1e-2)
    n = 1024
    run = jax.jit(
        jax.vmap(
            lambda k: simulate(
                ou(jnp.float32(THETA)),
                k,
                jnp.float32(2.0),
                jnp.array([0.0, 0.05, 0.8]),
                solver=solver,
                controller=controller,
            )
        )
    )
    x = np.asarray(run(keys(key, n)), np.float64)
    mean, variance = 2 * np.exp(-0.8), SIGMA**2 * (1 - np.exp(-1.6)) / 2
    assert abs(x.mean() - mean) <= 5 * np.sqrt(variance / n) + 0.02
    assert abs(x.var() / variance - 1) <= 5 * np.sqrt(2 / n) + 0.05


WIDE = dfx.PIDController(rtol=1e-2, atol=1e-2)
ADAPTIVE = [
    pytest.param(SDE(lambda t, x, args: 0 * x, lambda t, x, args: 1.0), 0.0, dfx.ShARK(), id="additive"),
    pytest.param(
        SDE(lambda t, x, args: 0.125 * x, lambda t, x, args: 0.5 * x, noise="state"),  # log X = W / 2
        1.0,
        dfx.HalfSolver(dfx.ItoMilstein()),
        marks=pytest.mark.slow,
        id="state",
    ),
]


@pytest.mark.parametrize(("sde", "x0", "solver"), ADAPTIVE)
def test_saved_states_of_an_adaptive_solve_are_draws(sde, x0, solver, key):
    """Var W(t) = t and increments are independent, also where the controller would take one step over them all."""
    n, ts = 4096, jnp.linspace(0.0, 1.0, 6)
    run = jax.jit(
        jax.vmap(lambda k: (
            simulate_path(sde, k, jnp.float32(x0), ts, solver=solver, controller=WIDE),
            simulate(sde, k, jnp.float32(x0), ts, solver=solver, controller=WIDE),
        ))
    )  # fmt: skip
    path, last = run(keys(key, n))
    np.testing.assert_allclose(path.xs[:, -1], last, rtol=1e-5, atol=1e-6)
    w = np.asarray(path.xs if x0 == 0 else 2 * jnp.log(path.xs), np.float64)
    np.testing.assert_allclose(w[:, 1:].var(axis=0) / np.asarray(ts[1:]), 1.0, atol=5 * np.sqrt(2 / n))
    correlation = np.corrcoef(np.diff(w, axis=1).T) - np.eye(5)
    assert np.abs(correlation).max() <= 5 / np.sqrt(n)
    # the noise of the path is what drove it
    driven = np.asarray(path.noise, np.float64)
    assert np.abs(np.diff(w, axis=1) - driven).max() <= (1e-6 if x0 == 0 else 0.3)
    assert np.std(np.diff(w, axis=1) - driven) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noisy", "solver"),
    [
        (True, solvers.ExponentialEuler()),
        (True, solvers.DPMSolverPP2M()),
        (False, solvers.ExponentialEuler()),
        (False, solvers.DPMSolverPP2M()),
        (False, solvers.DPMSolverPP3M()),
        (False, solvers.UniPC()),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, dfx.AbstractSolver) else "reverse" if v else "flow",
)
def test_half_solvers_of_our_own(solver, noisy, key):
    """Diffrax's wrapper around a solver of ours, adaptively: the Gaussian's law at the end."""
    schedule = SCHEDULES["vp"]
    sde = (reverse if noisy else probability_flow)(schedule, denoiser=Partial(gaussian_denoiser, schedule))
    n, ts, pid = 2048, jnp.array([0.0, 0.01, 0.9]), dfx.PIDController(rtol=1e-3, atol=1e-3)

    def one(k):
        mean, sd = law(schedule, 0.0)
        x0 = mean + sd * jax.random.normal(jax.random.fold_in(k, 7))
        return simulate(sde, k, x0, ts, solver=dfx.HalfSolver(solver), controller=pid)

    x = np.asarray(jax.jit(jax.vmap(one))(keys(key, n)), np.float64)
    mean, sd = map(float, law(schedule, 0.9))
    assert abs(x.mean() - mean) <= 5 * sd / np.sqrt(n) + 0.01
    assert abs(x.std() / sd - 1) <= 5 / np.sqrt(2 * n) + 0.02


@pytest.mark.slow
def test_adaptive_solves_land(key):
    """The flow's velocity is singular at clean data: the last interval is the land's, not the controller's."""
    schedule = SCHEDULES["vp"]
    sde = probability_flow(schedule, denoiser=Partial(gaussian_denoiser, schedule))
    ts = jnp.array([0.0, 0.01, 0.9999, 1.0])
    out = simulate(sde, key, jnp.float32(2.5), ts, solver=dfx.Tsit5(), controller=PID)
    want = flow(schedule, jnp.float32(0), jnp.float32(1), 2.5)
    assert float(out) == pytest.approx(float(want), abs=3e-3)
    path = simulate_path(sde, key, jnp.float32(2.5), ts, solver=dfx.Tsit5(), controller=PID)
    assert path.xs.shape == (4,)
    np.testing.assert_allclose(path.xs[-1], out, rtol=1e-6)  # two programs


@pytest.mark.slow
def test_adaptive_pytrees(key):
    x0 = {"a": jnp.ones(2), "b": jnp.asarray(3.0)}
    sde = SDE(lambda t, x, args: jax.tree.map(lambda v: -v, x))
    out = simulate(sde, key, x0, jnp.array([0.0, 0.1, 1.0]), controller=PID)
    np.testing.assert_allclose(out["a"], np.exp(-1.0), rtol=1e-3)
    noisy = SDE(sde.drift, lambda t, x, args: 0.5)
    out = simulate(noisy, key, x0, jnp.array([0.0, 0.1, 1.0]), solver=dfx.ShARK(), controller=PID)
    assert jax.tree.structure(out) == jax.tree.structure(x0)
