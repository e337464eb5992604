"""Runge-Kutta steps written out from tableaus: diffrax's own step is the truth."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest

from bridgejax.processes import SDE, keys
from bridgejax.solve import simulate, solvers
from bridgejax.solve._solvers.tableaus import unrolled_rk_step
from bridgejax.solve._solvers.terms import StepIncrement, make_terms

DIFFUSIONS = {
    "scalar": lambda t, x, args: jnp.asarray(0.7),
    "of time": lambda t, x, args: 1.0 + t,
    "diagonal": lambda t, x, args: jnp.array([1.0, 0.3, 2.0]) * (1.0 + t**2),
    "operator": lambda t, x, args: lineax.MatrixLinearOperator(jnp.diag(1.0 + t * jnp.ones(3)).at[0, 2].set(0.4)),
}
ODE = (dfx.Heun, dfx.Midpoint, dfx.Ralston, dfx.Bosh3, dfx.Tsit5, dfx.Dopri5, dfx.Dopri8)
ADDITIVE = (dfx.SEA, dfx.ShARK, dfx.SRA1)
GENERAL = (dfx.SlowRK, dfx.GeneralShARK, dfx.SPaRK)


def _drift(t, x, args):
    return jnp.sin(3.0 * x + t) - x[::-1]


def _both(solver, sde):
    t0, t1 = jnp.float32(0.1), jnp.float32(0.35)
    w, h, x = jnp.array([0.3, -0.2, 0.5]), jnp.array([0.1, 0.05, -0.2]), jnp.array([0.4, -1.0, 2.0])
    terms = make_terms(sde, StepIncrement(t0, t1, w, h))
    theirs = solver.step(terms, t0, t1, x, None, solver.init(terms, t0, t1, x, None), False)[0]
    mine = unrolled_rk_step(solver)(terms, t0, t1, x, None)
    assert float(jnp.max(jnp.abs(mine - x))) > 0.05  # a step was made
    return mine, theirs


@pytest.mark.parametrize("diffusion", DIFFUSIONS)
@pytest.mark.parametrize("solver", [*ODE, *ADDITIVE, *GENERAL])
def test_a_step_is_diffraxs(solver, diffusion):
    mine, theirs = _both(solver(), SDE(_drift, DIFFUSIONS[diffusion]))
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=2e-6)


@pytest.mark.parametrize("solver", [*ODE, *GENERAL])
def test_a_step_with_noise_that_depends_on_x_is_diffraxs(solver):
    mine, theirs = _both(solver(), SDE(_drift, lambda t, x, args: 1.0 + 0.3 * x, noise="state"))
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=2e-6)


def test_only_explicit_runge_kutta_solvers_are_written_out():
    class Mine(dfx.Heun):
        def step(self, *args, **kwargs):
            return super().step(*args, **kwargs)

    for solver in (dfx.Euler(), solvers.Heun(), dfx.Kvaerno3(), dfx.ItoMilstein(), dfx.ReversibleHeun(), Mine()):
        assert unrolled_rk_step(solver) is None


def test_additive_solvers_refuse_noise_that_depends_on_x():
    sde = SDE(_drift, lambda t, x, args: x)  # declared additive, wrongly
    with pytest.raises(ValueError, match="depends on x, and its SDE says noise='additive'"):
        simulate(sde, jax.random.key(0), jnp.ones(3), jnp.linspace(0.0, 1.0, 4), solver=dfx.ShARK())


@pytest.mark.parametrize(("solver", "order"), [(dfx.Heun, 2), (dfx.Bosh3, 3)])
def test_order_of_odes(solver, order):
    """x' = -x on [0, 4]; halving the step divides the error by 2^order, asymptotically."""
    sde = SDE(lambda t, x, args: -x, None, T=4.0)

    def error(n):
        x = simulate(sde, jax.random.key(0), jnp.ones(()), jnp.linspace(0.0, 4.0, n + 1), solver=solver())
        return abs(float(x) - np.exp(-4.0))

    assert abs(np.log2(error(16) / error(32)) - order) < 0.4


def test_shark_and_euler_differ_by_eulers_error_on_the_same_path():
    """dx = -x dt + dW, x_0 = 0: to leading order exact - Euler at T = 1 is

    dt int ((r - 1)/2 e^-r dW - e^-r dH), r = 1 - t, of variance dt^2 (int (r - 1)^2 e^-2r dr / 4 + int e^-2r dr / 12).
    """
    sde, ts = SDE(lambda t, x, args: -x, lambda t, x, args: 1.0), jnp.linspace(0.0, 1.0, 33)
    many = keys(jax.random.key(1), 512)
    euler, shark = (
        np.asarray(jax.vmap(lambda k, s=solver: simulate(sde, k, jnp.zeros(()), ts, solver=s))(many))
        for solver in (dfx.Euler(), dfx.ShARK())
    )
    long = (1.0 - np.exp(-2.0)) / 2.0
    expected = np.sqrt((long / 2.0) / 4.0 + long / 12.0) / 32.0
    gap = np.sqrt(np.mean((euler - shark) ** 2))
    assert abs(gap / expected - 1.0) < 5.0 / np.sqrt(2 * 512) + 1 / 32  # 5 s.e. and the next order in dt
