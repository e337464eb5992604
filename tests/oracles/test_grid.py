"""Grid solutions against closed forms (OU, CIR, stationary laws), duality, and a simulated h-transform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from bridgejax.bridges import doob
from bridgejax.oracles import grid
from bridgejax.processes import SDE, noising, schedules
from bridgejax.processes._keys import keys
from bridgejax.solve import grids, simulate_batch


def one(t, x, args):
    return jnp.ones(())


def well(t, x, args):
    return x - x**3


def multiplicative(t, x, args):
    return 0.5 + 0.3 * jnp.sin(x) ** 2


def cir_drift(t, x, args):
    return 2.0 * (1.0 - x)


def cir_diffusion(t, x, args):
    return 0.6 * jnp.sqrt(jnp.maximum(x, 0.0))


def swinging(t, x, args):
    return jnp.cos(3 * t) - x


WELL = SDE(well, one)
STATE = SDE(well, multiplicative, noise="state")
CIR = SDE(cir_drift, cir_diffusion, noise="state")
MOVING = SDE(swinging, one)
OU = noising(schedules.ou(1.3, 0.8))


def normal(xs, mean, variance):
    return jnp.exp(-0.5 * (xs - mean) ** 2 / variance) / jnp.sqrt(2 * jnp.pi * variance)


def ou_error(n, steps, direction):
    """Largest error of the law of an OU process at T = 1 (forward), or of E[N(X_T)] (backward), in float64."""
    with jax.enable_x64(True):
        xs, ts = grid.cells(-4.0, 4.5, n), np.linspace(0.0, 1.0, steps + 1)
        scale, variance = np.exp(-1.3), 0.8**2 / 2.6 * (1 - np.exp(-2.6))
        if direction == "forward":
            got = grid.forward(OU, normal(xs, 0.7, 0.09), xs, ts)[-1]
            exact = normal(xs, scale * 0.7, scale**2 * 0.09 + variance)
        else:
            got = grid.backward(OU, normal(xs, 0.7, 0.09), xs, ts)[0]
            exact = normal(scale * xs, 0.7, 0.09 + variance)
        return float(jnp.max(jnp.abs(got - exact)[jnp.abs(xs) < 2.0]))  # near the walls the process is another one


@pytest.mark.fast
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_second_order_in_the_cell(direction):
    errors = [ou_error(n, 200, direction) for n in (60, 120)]
    slopes = np.log2(np.divide(errors[:-1], errors[1:]))
    np.testing.assert_allclose(slopes, 2.0, atol=0.15)


@pytest.mark.parametrize(("order", "steps"), [(1, (20, 40)), (2, (10, 20))])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_order_in_the_step(order, steps, direction):
    """Differences of successive halvings, so that the error of the cells cancels."""
    with jax.enable_x64(True):
        xs = grid.cells(-4.0, 4.5, 200)
        run = grid.forward if direction == "forward" else grid.backward
        last = -1 if direction == "forward" else 0
        values = [
            run(OU, normal(xs, 0.7, 0.09), xs, np.linspace(0, 1, k + 1), order=order)[last]
            for k in (*steps, 2 * steps[-1])
        ]
        inner = np.abs(np.asarray(xs)) < 2.0
        gaps = [float(jnp.max(jnp.abs(a - b)[inner])) for a, b in zip(values[:-1], values[1:], strict=True)]
    slopes = np.log2(np.divide(gaps[:-1], gaps[1:]))
    np.testing.assert_allclose(slopes[-1], order, atol=0.25)


@pytest.mark.parametrize("sde", [WELL, STATE, MOVING, OU], ids=["well", "state", "moving", "ou"])
def test_mass_and_duality_hold_to_rounding(sde):
    """sum p is constant, E[1 | x] = 1, and sum p u is constant: the two operators are transposes of each other."""
    with jax.enable_x64(True):
        xs, ts = grid.cells(-3.0, 3.5, 120), np.linspace(0.0, 1.0, 21)
        p = grid.forward(sde, grid.point(-1.0, xs), xs, ts, substeps=2)
        u = grid.backward(sde, jnp.stack([jnp.ones(120), grid.point(0.8, xs)], 1), xs, ts, substeps=2)
        np.testing.assert_allclose(jnp.sum(p, 1) * (xs[1] - xs[0]), 1.0, rtol=1e-12)
        np.testing.assert_allclose(u[..., 0], 1.0, rtol=1e-12)
        pairing = jnp.sum(p * u[..., 1], axis=1)
        np.testing.assert_allclose(pairing, pairing[0], rtol=1e-12)


def test_mass_in_float32():
    """Rounding of two solves of a few hundred rows, 200 times: far below 1e-4."""
    xs = grid.cells(-3.0, 3.0, 300)
    p = grid.forward(WELL, grid.point(-1.0, xs), xs, np.linspace(0, 1, 101), substeps=2)
    np.testing.assert_allclose(jnp.sum(p, 1) * (xs[1] - xs[0]), 1.0, atol=1e-4)


def test_positivity():
    """Order 1 from a point with one huge step; order 2 within its bound on the step."""
    with jax.enable_x64(True):
        xs = grid.cells(-3.0, 3.0, 60)
        assert float(jnp.min(grid.forward(STATE, grid.point(-1.0, xs), xs, [0.0, 1.0], order=1)[1:])) > 0
        steps = 150  # dt |L_ii| <= 1.0 / 0.1^2 / 150 = 0.67, more where the drift is steep; the bound is 2.4
        assert float(jnp.min(grid.forward(WELL, grid.point(-1.0, xs), xs, np.linspace(0, 1, steps + 1))[1:])) >= 0


def test_an_l_stable_step_does_not_ring():
    """From a point with steps far above the bound: an undershoot below 10 % in the first step, none from the second."""
    with jax.enable_x64(True):
        xs = grid.cells(-3.0, 3.0, 300)
        p = grid.forward(WELL, grid.point(-1.0, xs), xs, np.linspace(0, 1, 101))
        assert float(jnp.min(p[1])) > -0.1 * float(jnp.max(p[1]))
        assert float(jnp.min(p[2:])) >= 0.0


@pytest.mark.parametrize("sde", [WELL, STATE], ids=["additive", "state"])
def test_the_stationary_law(sde):
    """p = exp(int 2 b / Sigma) / Sigma: Ito's, not Stratonovich's, when the noise depends on x."""
    with jax.enable_x64(True):
        xs = grid.cells(-2.5, 2.5, 400)
        fine = np.linspace(-2.5, 2.5, 100_001)
        variance = np.asarray(sde.diffusion(0.0, jnp.asarray(fine), None)) ** 2 * np.ones(fine.size)
        slope = 2 * np.asarray(well(0.0, fine, None)) / variance
        log = np.concatenate([[0.0], np.cumsum(0.5 * (slope[1:] + slope[:-1]) * (fine[1] - fine[0]))]) - np.log(
            variance
        )
        exact = np.interp(np.asarray(xs), fine, np.exp(log - log.max()))
        dx = float(xs[1] - xs[0])
        exact /= exact.sum() * dx
        long = SDE(sde.drift, sde.diffusion, T=400.0, noise=sde.noise)
        p = grid.forward(long, grid.point(1.0, xs), xs, [0.0, 400.0], order=1, substeps=20)[-1]
        np.testing.assert_allclose(p, exact, atol=2e-3 * exact.max())


def test_noise_that_vanishes_at_a_wall():
    """CIR: the transition density is a scaled noncentral chi-square."""
    with jax.enable_x64(True):
        xs = grid.cells(0.0, 5.0, 800)
        p = grid.forward(CIR, grid.point(0.7, xs), xs, np.linspace(0.0, 1.0, 201))[-1]
        c = 2 * 2.0 / (0.36 * (1 - np.exp(-2.0)))
        exact = 2 * c * scipy.stats.ncx2.pdf(2 * c * np.asarray(xs), 4 * 2.0 / 0.36, 2 * c * 0.7 * np.exp(-2.0))
        np.testing.assert_allclose(p, exact, atol=1e-3 * exact.max())


def test_a_drift_that_moves_with_time():
    """OU around a moving level: the mean solves m' = cos 3t - m."""
    with jax.enable_x64(True):
        xs = grid.cells(-5.0, 5.0, 400)
        p = grid.forward(MOVING, normal(xs, 0.5, 0.04), xs, np.linspace(0.0, 1.0, 201))[-1]
        exact = 0.5 * np.exp(-1) + (np.cos(3) + 3 * np.sin(3) - np.exp(-1)) / 10
        dx = float(xs[1] - xs[0])
        np.testing.assert_allclose(float(jnp.sum(p * xs) * dx), exact, atol=1e-3)


@pytest.mark.slow
def test_the_brownian_bridge():
    """p h of Brownian motion pinned at 0.6 from -0.4: N((1 - t) x0 + t x1, t (1 - t)); its drift (x1 - x)/(1 - t)."""
    with jax.enable_x64(True):
        sde = noising(schedules.brownian())
        xs, ts = grid.cells(-5.0, 5.0, 500), np.linspace(0.0, 1.0, 201)
        p, h = grid.forward(sde, grid.point(-0.4, xs), xs, ts), grid.backward(sde, grid.point(0.6, xs), xs, ts)
        middle = grid.bridge_marginals(p, h, xs)[80]
        exact = normal(xs, 0.6 * -0.4 + 0.4 * 0.6, 0.24)
        np.testing.assert_allclose(middle, exact, atol=2e-3 * float(exact.max()))
        pull = grid.grad_log_h(xs, ts, h)
        np.testing.assert_allclose(pull(0.4, jnp.float64(0.1), None), (0.6 - 0.1) / 0.6, rtol=5e-3)


def test_the_double_well_bridge():
    """From -1 near +1, conditioned by a Gaussian likelihood: the h-transform's samples follow p h.

    n = 4096 and 100 steps; mean and spread at a time in the middle, 5 standard errors plus the change on halving.
    """
    xs, ts = grid.cells(-3.5, 3.5, 300), np.linspace(0.0, 1.0, 101)
    likelihood = np.exp(-0.5 * (np.asarray(xs) - 1.0) ** 2 / 0.04)
    p, h = grid.forward(WELL, grid.point(-1.0, xs), xs, ts), grid.backward(WELL, likelihood, xs, ts)
    marginals = np.asarray(grid.bridge_marginals(p, h, xs), np.float64)
    dx, centres = float(xs[1] - xs[0]), np.asarray(xs, np.float64)
    np.testing.assert_allclose(marginals.sum(1) * dx, 1.0, rtol=1e-5)
    sde, n = doob(WELL, grid.grad_log_h(xs, ts, h)), 4096
    for end in (50, 100):
        fine, coarse = (
            np.asarray(
                simulate_batch(sde, keys(jax.random.key(4), n), jnp.full(n, -1.0), grids.uniform(k, ts[end])),
                np.float64,
            )
            for k in (100, 50)
        )
        mean = (marginals[end] * centres).sum() * dx
        variance = (marginals[end] * (centres - mean) ** 2).sum() * dx
        fourth = (marginals[end] * (centres - mean) ** 4).sum() * dx
        assert abs(fine.mean() - mean) < 5 * np.sqrt(variance / n) + abs(fine.mean() - coarse.mean())
        error = np.sqrt((fourth - variance**2) / n)
        assert abs(fine.var() - variance) < 5 * error + abs(fine.var() - coarse.var())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sde": SDE(well, None)}, "SDE with noise, got an ODE"),
        ({"sde": 3}, "SDE with noise, got int"),
        ({"xs": np.array([0.0, 1.0])}, "at least 3 cell centres"),
        ({"xs": np.array([0.0, 1.0, 3.0])}, "equal steps"),
        ({"ts": [0.0, 0.0]}, "increasing times"),
        ({"ts": [0.0, 2.0]}, r"clock \[0, 1\]"),
        ({"density0": np.ones(4)}, r"density0 must have shape \[3\]"),
        ({"order": 3}, "order must be 1"),
        ({"substeps": 0}, "substeps must be"),
        ({"sde": SDE(well, lambda t, x, args: 0.0 * x)}, "must not vanish"),
    ],
)
def test_what_is_refused(changes, words):
    arguments = {"sde": WELL, "density0": np.ones(3), "xs": grid.cells(-1.0, 1.0, 3), "ts": [0.0, 1.0]} | changes
    with pytest.raises(ValueError, match=words):
        grid.forward(**arguments)


def test_what_the_helpers_refuse():
    xs = grid.cells(-1.0, 1.0, 4)
    with pytest.raises(ValueError, match="low < high"):
        grid.cells(1.0, 1.0, 4)
    with pytest.raises(ValueError, match="at least 3 cells"):
        grid.cells(0.0, 1.0, 2)
    with pytest.raises(ValueError, match="x must lie between"):
        grid.point(2.0, xs)
    with pytest.raises(ValueError, match="p and h must both"):
        grid.bridge_marginals(jnp.ones((2, 4)), jnp.ones((3, 4)), xs)
    with pytest.raises(ValueError, match="h must have shape"):
        grid.grad_log_h(xs, jnp.arange(3.0), jnp.ones((2, 4)))
