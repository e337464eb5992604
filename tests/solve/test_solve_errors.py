"""Bad input to simulate, simulate_batch and sample: one sentence with the argument, what came and the remedy."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridgejax.bridges import compose, probability_flow, reverse
from bridgejax.processes import SDE, Process, keys, noising, schedules
from bridgejax.solve import grids, sample, simulate, simulate_batch, simulate_path, solvers

KEY, X0, TS = jax.random.key(0), jnp.zeros(2), jnp.linspace(0.0, 1.0, 5)
FLOAT = jnp.result_type(float)
SDE_ = SDE(lambda t, x, args: -x, lambda t, x, args: 1.0)
STATE = SDE(lambda t, x, args: -x, lambda t, x, args: x, noise="state")
RECTIFIED = reverse(schedules.rectified(), denoiser=lambda t, x, args: x)
FLOW = probability_flow(schedules.vp(), denoiser=lambda t, x, args: x)


def run(sde=SDE_, key=KEY, x0=X0, ts=TS, **options):
    return simulate(sde, key, x0, ts, **options)


# grids ------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.0, 1.0, width=32), min_size=2, max_size=12))
def test_any_grid_that_does_not_increase_is_refused(ts):
    steps = np.diff(np.asarray(ts, FLOAT))
    if np.all(steps > 0):
        return
    with pytest.raises(ValueError, match=rf"ts must increase, in {FLOAT} too: ts\[\d+\] = .*bridgejax.reverse"):
        run(ts=ts)


def test_the_first_fall_is_named():
    with pytest.raises(ValueError, match=r"ts\[2\] = 0.6\d*, ts\[3\] = 0.4\d*; time runs forward"):
        run(ts=np.float64([0.0, 0.3, 0.6, 0.4, 0.2]).astype(np.float64))


BAD_GRIDS = [
    (jnp.array([0.0]), r"ts must hold at least two times in one axis, got shape \(1,\)"),
    ([], r"at least two times in one axis, got shape \(0,\)"),
    (0.5, r"at least two times in one axis, got shape \(\)"),
    (jnp.zeros((2, 2)), r"at least two times in one axis, got shape \(2, 2\)"),
    (TS[::-1], r"ts must increase"),
    ([0.0, 0.5, 0.5, 1.0], r"ts must increase"),
    (np.array([0.0, 0.5, 0.5 + jnp.finfo(FLOAT).eps / 8, 1.0]), rf"ts must increase, in {FLOAT} too"),
    ([0.0, float("nan"), 1.0], r"ts holds times that are not finite"),
    ([0.0, float("inf")], r"ts holds times that are not finite"),
    ([-0.5, 0.5], r"ts runs over \[-0.5, 0.5\], beyond the SDE's clock \[0, 1\]"),
    ([0.0, 1.5], r"ts runs over \[0, 1.5\], beyond the SDE's clock \[0, 1\]"),
]


@pytest.mark.fast
@pytest.mark.parametrize(("ts", "message"), BAD_GRIDS)
def test_bad_grids(ts, message):
    k = keys(KEY, 3)
    process = Process(lambda key, args: X0, SDE_, TS)
    for call in (
        lambda: run(ts=ts),
        lambda: simulate_path(SDE_, KEY, X0, ts),
        lambda: simulate_batch(SDE_, k, jnp.zeros((3, 2)), ts),
        lambda: sample(process, k, ts=ts),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_traced_grid_of_one_point_is_refused_while_tracing():
    with pytest.raises(ValueError, match="at least two times"):
        jax.jit(lambda ts: run(ts=ts))(jnp.zeros(1))


# the other arguments ------------------------------------------------------------

BAD = [
    (lambda: run(sde=3), r"sde must be a bridgejax SDE, got int"),
    (lambda: run(sde=schedules.vp()), r"sde must be a bridgejax SDE, got Schedule"),
    (lambda: run(sde=SDE("drift")), r"drift must be a function drift\(t, x, args\), got str"),
    (lambda: run(sde=SDE(lambda t, x, args: x, 0.5)), r"diffusion must be a function .*or None for an ODE, got float"),
    (lambda: run(key=0), r"key must be a JAX random key, got int; pass jax.random.key\(seed\)"),
    (lambda: run(key=keys(KEY, 3)), r"key must be one key, got shape \(3,\); simulate_batch takes one key per sample"),
    (lambda: run(key=jax.random.key(0, impl="rbg")), r"key uses the generator .*needs threefry"),
    (lambda: run(x0=jnp.zeros(2, jnp.int32)), r"x0 must be floating point, got int32; use x0.astype"),
    (lambda: run(x0={"a": X0, "b": jnp.array(True)}), r"x0 must be floating point, got bool"),
    (lambda: run(x0=()), r"x0 holds no array"),
    (lambda: run(solver="euler"), r"solver must be a diffrax solver such as bridgejax.solvers.Euler\(\), got 'euler'"),
    (lambda: run(solver=solvers.Euler), r"solver must be a diffrax solver"),
    (lambda: run(solver=solvers.ExponentialEuler()), r"ExponentialEuler needs an SDE made from a Schedule .*use Euler"),
    (
        lambda: run(sde=reverse(schedules.vp(), denoiser=lambda t, x, args: x), solver=solvers.DPMSolverPP3M()),
        r"DPMSolverPP3M solves the probability flow; for a reverse SDE use ExponentialEuler",
    ),
    (
        lambda: run(controller=dfx.PIDController(rtol=1e-3, atol=1e-3)),
        r"adaptive solve of an SDE needs a solver.*ShARK",
    ),
    (
        lambda: run(controller=0.1, solver=dfx.ShARK()),
        r"controller must be an adaptive diffrax step size controller.*0.1",
    ),
    (
        lambda: run(controller=dfx.ConstantStepSize(), solver=dfx.ShARK()),
        r"controller must be an adaptive.*fixed steps are",
    ),
    (
        lambda: run(solver=dfx.HalfSolver(solvers.ExponentialEuler())),
        r"ExponentialEuler needs an SDE made from a Schedule",
    ),
    (
        lambda: run(sde=reverse(schedules.vp(), denoiser=lambda t, x, args: x), solver=dfx.HalfSolver(solvers.UniPC())),
        r"UniPC solves the probability flow; for a reverse SDE use ExponentialEuler",
    ),
    (
        lambda: run(
            sde=reverse(schedules.vp(), denoiser=lambda t, x, args: x),
            solver=dfx.HalfSolver(solvers.PredictorCorrector()),
            controller=dfx.PIDController(rtol=1e-3, atol=1e-3),
        ),
        r"PredictorCorrector cannot be solved adaptively",
    ),
    (lambda: run(solver=dfx.HalfSolver(dfx.Euler())), r"noise inside a step.*adaptive solve"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.fast
@pytest.mark.parametrize(
    "solver", [solvers.Heun(), dfx.Heun(), dfx.Tsit5(), dfx.Dopri5(), dfx.ReversibleHeun(), dfx.SPaRK(), dfx.ShARK()]
)
def test_only_ito_solvers_take_noise_that_depends_on_x(solver):
    message = rf"{type(solver).__name__} converges to the Stratonovich solution.*use Euler\(\) or diffrax.ItoMilstein"
    with pytest.raises(ValueError, match=message):
        run(sde=STATE, solver=solver)
    with pytest.raises(ValueError, match=message):
        run(sde=STATE, solver=solver, controller=dfx.PIDController(rtol=1e-3, atol=1e-3))
    with pytest.raises(ValueError, match=message):
        simulate_batch(STATE, keys(KEY, 2), jnp.zeros((2, 2)), TS, solver=solver)
    back = reverse(STATE, lambda t, x, args: 0 * x)
    with pytest.raises(ValueError, match=message):
        run(sde=back, solver=solver)


@pytest.mark.parametrize("solver", [solvers.Euler(), solvers.Heun(), dfx.Heun(), dfx.ShARK()])
def test_the_reverse_sde_of_a_vanishing_schedule_takes_exponential_solvers_only(solver):
    with pytest.raises(ValueError, match=r"no signal left at T.*use ExponentialEuler\(\), or probability_flow"):
        run(sde=RECTIFIED, solver=solver)
    assert np.all(np.isfinite(run(sde=RECTIFIED)))
    flow = probability_flow(schedules.rectified(), denoiser=lambda t, x, args: x)
    if not isinstance(solver, dfx.ShARK):
        assert np.all(np.isfinite(run(sde=flow, solver=solver)))


def test_bad_batches():
    k, x = keys(KEY, 3), jnp.zeros((3, 2))
    for call, message in (
        (
            lambda: simulate_batch(SDE_, KEY, x, TS),
            r"keys must be an array of keys.*got shape \(\); see bridgejax.keys",
        ),
        (
            lambda: simulate_batch(SDE_, k[:0], x, TS),
            r"keys must be an array of keys, one per sample, got shape \(0,\)",
        ),
        (lambda: simulate_batch(SDE_, k, x[:2], TS), r"x0s must have one row per key \(3\), got shape \(2, 2\)"),
        (lambda: simulate_batch(SDE_, k, jnp.zeros(()), TS), r"x0s must have one row per key \(3\), got shape \(\)"),
        (
            lambda: simulate_batch(SDE_, k, x, TS, jnp.zeros(2)),
            r"args must have one row per key \(3\).*axes=None shares",
        ),
        (lambda: simulate_batch(SDE_, k, x, TS, axes=(None, 1, 0)), r"axes must hold 0 or None for each of"),
        (lambda: simulate_batch(SDE_, k, x, TS, axes=(None, 0)), r"axes must hold 0 or None for each of"),
        (lambda: simulate_batch(SDE_, k, x, TS, micro_batch=0), r"micro_batch must be an integer >= 1, got 0"),
        (lambda: simulate_batch(SDE_, k, x.astype(int), TS), r"x0s must be floating point"),
        (lambda: simulate_batch(SDE_, k, x, TS, mesh="cpu"), r"mesh must be a jax.sharding.Mesh, got str"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


PROCESS = Process(lambda key, args: X0, SDE_, TS, backward=noising(schedules.vp()))
ONE_WAY = Process(lambda key, args: X0, SDE_, TS)


def test_bad_sampling():
    k, x = keys(KEY, 3), jnp.zeros((3, 2))
    for call, message in (
        (lambda: sample(SDE_, k), r"process must be a Process, got SDE; a Run holds one as .process"),
        (
            lambda: sample(compose.density(schedules.vp(), (2,), score=lambda t, x, args: -x), k),
            r"got a Density.*mcmc\.annealed.*feynman_kac.*superpose",
        ),
        (
            lambda: sample(PROCESS, k, direction="reverse", x=x),
            r"direction must be 'forward' or 'backward', got 'reverse'",
        ),
        (lambda: sample(PROCESS, k, t=0.5), r"t says where on the clock x stands: pass x as well"),
        (lambda: sample(ONE_WAY, k, direction="backward", x=x), r"has no backward: it runs in one direction only"),
        (lambda: sample(PROCESS, k, direction="backward"), r"direction='backward' starts at data: pass x"),
        (lambda: sample(PROCESS, k, x=x, t=1.0), r"t = 1 is not before the end of the process's grid, 1"),
        (lambda: sample(PROCESS, k, x=x, t=-0.5), "t must be >= 0 and finite, got -0.5"),
        (lambda: sample(PROCESS, KEY), r"keys must be an array of keys"),
        (lambda: sample(PROCESS, k, x=x[:2]), r"x must have one row per key \(3\), got shape \(2, 2\)"),
        (lambda: sample(PROCESS, k, jnp.zeros(5)), r"args must have one row per key \(3\), got shape \(5,\)"),
        (lambda: sample(PROCESS, k, x=x.astype(jnp.int32)), r"must be floating point, got int32"),
        (
            lambda: jax.jit(lambda p: sample(p, k, x=x, t=0.5))(PROCESS),
            r"needs a concrete grid; call sample outside jit",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_errors_come_while_tracing_too():
    with pytest.raises(ValueError, match="Stratonovich"):
        jax.jit(lambda x: simulate(STATE, KEY, x, TS, solver=dfx.Heun()))(X0)
    with pytest.raises(ValueError, match="floating point"):
        jax.eval_shape(lambda x: simulate(SDE_, KEY, x, TS), jax.ShapeDtypeStruct((2,), jnp.int32))
    assert grids.uniform(2).shape == (3,)
