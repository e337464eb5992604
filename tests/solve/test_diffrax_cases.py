"""The problems that diffrax tests its solvers with: for its solvers under ours, and for ours inside its own.

Linear ODEs against the matrix exponential, gradients through its adjoints, saving, dense output, events, backward time,
and geometric Brownian motion's strong order. Truths are closed forms.
"""

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import bridgejax as bj

DECAY = dfx.ODETerm(lambda t, y, rate: jax.tree.map(lambda leaf: -rate * leaf, y))
TIGHT = dfx.VeryChord(rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "solver",
    [
        dfx.LeapfrogMidpoint(),
        dfx.ReversibleHeun(),
        dfx.ImplicitEuler(root_finder=TIGHT),
        dfx.Kvaerno3(root_finder=TIGHT),
        bj.solvers.Heun(),
    ],
    ids=lambda solver: type(solver).__name__,
)
def test_orders_on_a_linear_ode(solver, key):
    """Six coupled equations, x(2) = expm(2 A) x(0): solvers with a memory, implicit ones, and ours."""
    rng = np.random.default_rng(0)
    matrix, start = 0.5 * rng.standard_normal((6, 6)), rng.standard_normal(6)
    truth = scipy.linalg.expm(2.0 * matrix) @ start
    with jax.enable_x64(True):
        sde = bj.SDE(lambda t, x, args: jnp.asarray(matrix) @ x, T=2.0)
        ends = [bj.simulate(sde, key, start, np.linspace(0.0, 2.0, n + 1), solver=solver) for n in (16, 32)]
    coarse, fine = (np.abs(np.asarray(x) - truth).sum() for x in ends)
    assert np.log2(coarse / fine) == pytest.approx(solver.order(None), abs=0.2)


def solve(solver, rate, y0, t1=1.0, *, steps=64, **options):
    return dfx.diffeqsolve(DECAY, solver, 0.0, t1, t1 / steps, y0, rate, **options)


@pytest.mark.parametrize(
    "adjoint",
    [dfx.RecursiveCheckpointAdjoint(), dfx.BacksolveAdjoint(), dfx.ForwardMode()],
    ids=lambda adjoint: type(adjoint).__name__,
)
def test_heun_under_adjoints(adjoint):
    """y(1) = y0 e^-a of a pytree, d/da = -y0 e^-a, at the second order's error of h^2 a^3 / 6."""
    y0 = {"a": jnp.asarray(2.0), "b": jnp.ones(2)}

    def total(rate):
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(solve(bj.solvers.Heun(), rate, y0, adjoint=adjoint).ys))

    rate = jnp.float32(0.7)
    derivative = jax.jacfwd(total) if isinstance(adjoint, dfx.ForwardMode) else jax.grad(total)
    assert float(total(rate)) == pytest.approx(4.0 * np.exp(-0.7), abs=1e-4)
    assert float(derivative(rate)) == pytest.approx(-4.0 * np.exp(-0.7), abs=5e-4)


def test_heun_saves_where_it_is_asked():
    """Times between the steps, all steps, dense output: lines between the steps, off by at most h^2 / 8."""
    times, h = jnp.array([0.0, 0.111, 0.5, 1.0]), 1.0 / 64
    saved = dfx.SaveAt(ts=times, dense=True)
    found = solve(bj.solvers.Heun(), 1.0, jnp.ones(()), saveat=saved)
    np.testing.assert_allclose(found.ys, np.exp(-times), atol=h**2 / 8 + 5e-5)
    np.testing.assert_allclose(jax.vmap(found.evaluate)(times), found.ys, atol=1e-6)
    every = solve(bj.solvers.Heun(), 1.0, jnp.ones(()), saveat=dfx.SaveAt(steps=True), max_steps=64)
    factor = 1.0 - h + h**2 / 2
    np.testing.assert_allclose(every.ys, factor ** np.arange(1, 65), rtol=1e-5)


def test_heun_runs_backward_and_stops_at_an_event():
    """y(0) from y(1) with a negative step; y falls to one half at t = ln 2."""
    back = dfx.diffeqsolve(DECAY, bj.solvers.Heun(), 1.0, 0.0, -1.0 / 64, jnp.exp(-1.0), 1.0)
    assert float(back.ys[0]) == pytest.approx(1.0, abs=1e-4)
    event = dfx.Event(lambda t, y, args, **kwargs: y - 0.5, dfx.VeryChord(rtol=1e-5, atol=1e-5))
    stopped = solve(bj.solvers.Heun(), 1.0, jnp.ones(()), 3.0, steps=192, event=event)
    assert float(stopped.ts[0]) == pytest.approx(np.log(2.0), abs=2e-4)
    assert bool(stopped.event_mask)


def test_heun_adapts_inside_a_half_solver():
    """Alone it has no error estimate, and diffrax says so; two half steps beside a whole one are one."""
    controller = dfx.PIDController(rtol=1e-4, atol=1e-6)
    with pytest.raises(RuntimeError, match="error estimates"):
        dfx.diffeqsolve(DECAY, bj.solvers.Heun(), 0.0, 2.0, 0.1, 1.0, 1.0, stepsize_controller=controller)
    half = dfx.HalfSolver(bj.solvers.Heun())
    found = dfx.diffeqsolve(DECAY, half, 0.0, 2.0, 0.1, jnp.ones(()), 1.0, stepsize_controller=controller)
    assert float(found.ys[0]) == pytest.approx(np.exp(-2.0), rel=1e-3)
    assert 2 < int(found.stats["num_accepted_steps"]) < 60


def test_heun_has_strong_order_one_where_noise_commutes(key):
    """dy = a y dt + b y o dW (Stratonovich) has y = exp(a t + b W): one tree of increments on every grid."""
    a, b, n = 0.4, 0.5, 64

    def error(k, steps):
        tree = dfx.VirtualBrownianTree(0.0, 1.0, 2.0**-12, (), k)
        noise = dfx.ControlTerm(lambda t, y, args: b * y, tree)
        terms = dfx.MultiTerm(dfx.ODETerm(lambda t, y, args: a * y), noise)
        found = dfx.diffeqsolve(terms, bj.solvers.Heun(), 0.0, 1.0, 1.0 / steps, jnp.ones(()))
        return found.ys[0] - jnp.exp(a + b * tree.evaluate(0.0, 1.0))

    run = jax.jit(jax.vmap(error, in_axes=(0, None)))
    errors = [float(jnp.sqrt(jnp.mean(run(bj.keys(key, n), float(steps)) ** 2))) for steps in (8, 64)]
    slope = np.log2(errors[0] / errors[1]) / 3
    assert slope == pytest.approx(1.0, abs=0.2), errors


@pytest.mark.parametrize("solver", [bj.solvers.ExponentialEuler(), bj.solvers.UniPC()], ids=lambda s: type(s).__name__)
def test_exponential_solvers_want_a_schedule(solver):
    with pytest.raises(ValueError, match=r"schedule and denoiser.*bridgejax\.simulate"):
        dfx.diffeqsolve(DECAY, solver, 0.0, 1.0, 0.1, jnp.ones(()), 1.0)


@pytest.mark.parametrize(
    ("solver", "noisy", "words"),
    [
        (dfx.KenCarp3(), False, "split into terms of its own"),
        (dfx.SemiImplicitEuler(), False, "split into terms of its own"),
        (dfx.KenCarp3(), True, "split into terms of its own"),
        (dfx.ALIGN(0.1), True, "split into terms of its own"),
        (dfx.HalfSolver(dfx.SlowRK()), False, "SlowRK needs a diffusion"),
        (dfx.StratonovichMilstein(), False, "needs a diffusion"),
        (dfx.Kvaerno3(root_finder=TIGHT), True, "implicit solver, for ODEs"),
        (dfx.Kvaerno3(), False, r"fixed steps have none; pass root_finder=diffrax\.VeryChord"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, dfx.AbstractSolver) else None,
)
def test_solvers_for_other_terms_are_refused(solver, noisy, words, key):
    sde = bj.SDE(lambda t, x, args: -x, (lambda t, x, args: 0.5) if noisy else None)
    with pytest.raises(ValueError, match=words):
        bj.simulate(sde, key, jnp.ones(()), np.linspace(0.0, 1.0, 5), solver=solver)


def test_an_implicit_solver_takes_its_tolerance_from_the_controller(key):
    """A stiff decay, e^-500, with the default root finder: explicit steps would have to be 1/250."""
    sde = bj.SDE(lambda t, x, args: -500.0 * (x - jnp.cos(t)))
    controller = dfx.PIDController(rtol=1e-3, atol=1e-4)
    ts = jnp.array([0.0, 0.01, 1.0])
    x = bj.simulate(sde, key, jnp.zeros(()), ts, solver=dfx.Kvaerno3(), controller=controller)
    want = (500.0**2 * np.cos(1.0) + 500.0 * np.sin(1.0)) / (500.0**2 + 1.0)
    assert float(x) == pytest.approx(want, abs=3e-3)
