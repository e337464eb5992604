"""Weights: E[exp w] = Z for any number of steps, with kernels that have nothing to do with each other."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest
from jax.tree_util import Partial

from bridgejax.bridges import control, reverse
from bridgejax.processes import SDE, Kernel, Process, noising, schedules, starts
from bridgejax.processes._keys import keys, streams
from bridgejax.processes.mixtures import gaussian_mixture, mixture_denoiser
from bridgejax.solve import Path, grids, kernels, sample, simulate_path, solvers
from bridgejax.weigh import log_weights, path_log_ratio, weighted_samples, weights

LOG_Z = 1.3
MEAN, SD = jnp.array([0.5, -0.3]), 0.8
N = 8192


def log_rho(x):
    """An unnormalised Gaussian with log Z = 1.3."""
    return LOG_Z + jnp.sum(-0.5 * ((x - MEAN) / SD) ** 2 - math.log(SD) - 0.5 * math.log(2 * math.pi))


def check_z(lw, share=0.1):
    """log Z within 5 standard errors, from weights that are worth at least a tenth of their number."""
    assert float(weights.ess(lw)) >= share
    error = float(weights.log_z_error(lw))
    assert error < 0.1
    assert abs(float(weights.log_z(lw)) - LOG_Z) < 5 * error + 1e-4
    assert float(weights.elbo(lw)) < LOG_Z + 5 * float(jnp.std(lw)) / math.sqrt(len(lw))


def to_target(t, x, args):
    return 1.5 * (MEAN - x)


def slightly_back(t, x, args):
    """Roughly the reversal of ``to_target``; only the size of the weights depends on how roughly."""
    return -0.6 * x


def _level(g, t, x, args):
    return g


FORWARD = SDE(to_target, Partial(_level, 1.3))
BACKWARD = SDE(slightly_back, Partial(_level, 1.3))


@pytest.mark.parametrize("steps", [5, 25, 400])
def test_euler_kernels(key, steps):
    """Any two Euler chains; their noise levels differ, so a continuous-time ratio would not even exist."""
    back = SDE(slightly_back, Partial(_level, 1.2)) if steps == 5 else BACKWARD
    check_z(log_weights(Process(starts.normal((2,)), FORWARD, grids.uniform(steps), back), keys(key, N), log_rho))


@pytest.mark.parametrize("steps", [5, 25, 400])
def test_exponential_and_ou_kernels(key, steps):
    """The exact denoiser of the target: nearly constant weights at many steps, unbiased at few."""
    schedule = schedules.vp(0.1, 4.0)
    target = gaussian_mixture(MEAN[None], SD**2)
    sde = reverse(schedule, denoiser=mixture_denoiser(target, schedule))
    process = Process(target.diffuse(schedule, 1.0), sde, grids.uniform(steps, 0.7), noising(schedule))
    law = target.diffuse(schedule, 0.3)
    lw = log_weights(process, keys(key, N), Partial(lambda law, x: LOG_Z + law.log_prob(x), law))
    check_z(lw, 0.1 if steps < 100 else 0.9)


def force(t, z, args):
    return -(1.0 - t) * z + t * (MEAN - z) / SD**2


@pytest.mark.parametrize("steps", [5, 25, 400])
def test_underdamped_kernels(key, steps):
    """Annealing on (x, v): singular noise, compared in the noise."""
    ts = grids.uniform(steps, 4.0)

    def slow(t, x, args):
        return force(t / 4.0, x, args)

    forward = kernels.underdamped(slow, 1.5, T=4.0)
    backward = kernels.underdamped(slow, 1.5, T=4.0, direction="backward")

    def one(k):
        a, b, c = jax.random.split(k, 3)
        start = jax.random.normal(a, (2,)), jax.random.normal(b, (2,))
        path = kernels.walk(forward, c, start, ts)
        x, v = jax.tree.map(lambda leaf: leaf[-1], path.xs)
        first = -0.5 * sum(jnp.sum(z**2) for z in start)
        return (
            log_rho(x) - 0.5 * jnp.sum(v**2) + math.log(2 * math.pi) - first + path_log_ratio(path, forward, backward)
        )

    # log N(x0) log N(v0) = -|.|^2/2 - 2 log 2 pi; log N(v) = -|v|^2/2 - log 2 pi: the constants above
    check_z(jax.jit(jax.vmap(one))(keys(key, N)))


def test_underdamped_backward_undoes_forward(key):
    """B samples the state that F came from, up to the velocity's noise: the position returns exactly."""
    forward = kernels.underdamped(force, 0.7)
    backward = kernels.underdamped(force, 0.7, direction="backward")
    z = (jnp.array([0.3, 1.0]), jnp.array([-0.5, 0.2]))
    y = forward.sample(key, 0.2, 0.3, z, None)
    x, _ = backward.sample(key, 0.7, 0.8, y, None)
    np.testing.assert_allclose(x, z[0], atol=2e-6)
    assert np.isfinite(forward.log_prob(0.2, 0.3, z, y, None))
    assert np.isfinite(backward.log_prob(0.7, 0.8, y, (x, z[1]), None))


def test_path_of_simulate_is_weighed_by_the_same_kernel(key):
    """simulate's Euler path and kernels.euler are one law: the density of its own noise."""
    path = simulate_path(FORWARD, key, jnp.zeros(2), grids.uniform(6), solver=solvers.Euler())
    kernel = kernels.euler(FORWARD)
    for k in range(6):
        t, u = path.ts[k], path.ts[k + 1]
        z = path.noise[k] / jnp.sqrt(u - t)
        want = jnp.sum(-0.5 * z**2 - 0.5 * jnp.log(2 * jnp.pi) - 0.5 * jnp.log(1.69 * (u - t)))
        np.testing.assert_allclose(kernel.log_prob(t, u, path.xs[k], path.xs[k + 1], None), want, rtol=1e-4)
    assert np.isfinite(path_log_ratio(path, kernel, kernels.euler(BACKWARD)))


def test_dense_and_diagonal_noise_agree():
    def dense(t, x, args):
        return lineax.MatrixLinearOperator(jnp.diag(jnp.array([0.5, 2.0])))

    def diagonal(t, x, args):
        return jnp.array([0.5, 2.0])

    x, y = jnp.array([0.1, -0.2]), jnp.array([0.3, 0.4])
    one, two = (kernels.euler(SDE(to_target, g)).log_prob(0.0, 0.1, x, y, None) for g in (dense, diagonal))
    np.testing.assert_allclose(one, two, rtol=1e-5)


def test_a_pytree_state_with_a_coordinate_that_stands_still(key):
    """Position moves with noise, the label beside it does not: it drops out of the ratio."""

    def drift(t, z, args):
        return {"x": -z["x"], "c": jnp.zeros_like(z["c"])}

    def noise(t, z, args):
        return {"x": 0.8, "c": 0.0}

    sde = SDE(drift, noise)
    path = simulate_path(sde, key, {"x": jnp.ones(2), "c": jnp.ones(1)}, grids.uniform(5), solver=solvers.Euler())
    alone = SDE(lambda t, x, args: -x, lambda t, x, args: 0.8)
    want = path_log_ratio(Path(path.ts, path.xs["x"], None), kernels.euler(alone), kernels.euler(alone))
    np.testing.assert_allclose(path_log_ratio(path, kernels.euler(sde), kernels.euler(sde)), want, rtol=1e-5)
    moved = path._replace(xs={**path.xs, "c": path.xs["c"] + jnp.arange(6.0)[:, None]})
    with pytest.raises(ValueError, match="has no density"):
        path_log_ratio(moved, kernels.euler(sde), kernels.euler(sde))


def test_a_noise_free_last_step_raises(key):
    schedule = schedules.vp()
    sde = reverse(schedule, denoiser=mixture_denoiser(gaussian_mixture(MEAN[None], SD**2), schedule))
    ts = grids.log_snr(8, schedule)
    path = simulate_path(sde, key, jnp.ones(2), ts)
    with pytest.raises(ValueError, match=r"step 7 of the path .* has no density"):
        path_log_ratio(path, kernels.exponential(sde), kernels.ou(schedule))
    inside = jax.jit(lambda p: path_log_ratio(p, kernels.exponential(sde), kernels.ou(schedule)))
    assert np.isnan(inside(path))
    process = Process(starts.normal((2,)), sde, ts, noising(schedule))
    with pytest.raises(ValueError, match="log weights are nan"):
        log_weights(process, keys(key, 4), log_rho)


def test_steps_are_weighed_with_the_kernel_of_an_sde_and_never_with_its_terminal_kernel(key):
    """The law of the last interval says nothing of the others; where there is a kernel, it is drawn from too."""
    last = Kernel(lambda key, t, u, x, args: 0.0 * x, lambda t, u, x, y, args: 1e3)
    drift, noise = (lambda t, x, args: -x), (lambda t, x, args: 0.7)
    back, ts, each = SDE(drift, noise, terminal_kernel=last), grids.uniform(6), keys(key, 8)
    process = Process(starts.normal((2,)), SDE(drift, noise), ts, back)
    euler = kernels.euler(back)
    expected = log_weights(process, each, log_rho, backward=euler)
    np.testing.assert_array_equal(log_weights(process, each, log_rho), expected)

    law = kernels.gaussian(lambda t, u, x, args: 0.5 * x, lambda t, u, x, args: 0.3)
    process = Process(starts.normal((2,)), SDE(drift, noise), ts, dataclasses.replace(back, kernel=law))
    w, expected = log_weights(process, each, log_rho), log_weights(process, each, log_rho, backward=law)
    np.testing.assert_array_equal(w, expected)
    walked = jax.vmap(lambda key: kernels.walk(law, streams(key, "process", 3)[1], jnp.ones(2), 1.0 - ts[::-1]).xs[-1])
    found = sample(process, each, x=jnp.ones((8, 2)), direction="backward")
    np.testing.assert_allclose(found, walked(each), rtol=1e-6)


def test_gradient_through_weights(key):
    """d elbo / d drift is finite, and one trace serves every drift of the same structure."""

    def loss(a):
        sde = control(BACKWARD, Partial(lambda a, t, x, args: a * (MEAN - x), a))
        process = Process(starts.normal((2,)), sde, grids.uniform(10), BACKWARD)
        return weights.elbo(log_weights(process, keys(key, 64), log_rho))

    slope = jax.grad(loss)(jnp.float32(1.0))
    step = 1e-2
    numeric = (loss(jnp.float32(1.0 + step)) - loss(jnp.float32(1.0 - step))) / (2 * step)
    np.testing.assert_allclose(slope, numeric, rtol=2e-2)


def test_weights_of_known_numbers():
    lw = jnp.log(jnp.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(weights.log_z(lw), math.log(2.0), rtol=1e-6)
    np.testing.assert_allclose(weights.ess(lw), 36 / (3 * 14), rtol=1e-6)
    np.testing.assert_allclose(weights.elbo(lw), np.mean(np.log([1, 2, 3])), rtol=1e-6)
    np.testing.assert_allclose(weights.log_z_error(lw), np.std([0.5, 1.0, 1.5]) / math.sqrt(3), rtol=1e-6)
    big = jnp.array([1000.0, 1001.0])
    assert np.isfinite(weights.log_z(big))
    np.testing.assert_allclose(weights.ess(jnp.full(5, 88.0)), 1.0, rtol=1e-5)


def test_weighted_samples_do_not_depend_on_the_micro_batch(key):
    process = Process(starts.normal((2,)), FORWARD, grids.uniform(5), BACKWARD)
    x, lw = weighted_samples(process, keys(key, 200), log_rho)
    y, again = weighted_samples(process, keys(key, 200), log_rho, micro_batch=64)
    np.testing.assert_allclose(x, y, atol=1e-6)
    np.testing.assert_allclose(lw, again, atol=1e-4)


GOOD = Process(starts.normal((2,)), FORWARD, grids.uniform(5), BACKWARD)
K = kernels.euler(FORWARD)
ODE = SDE(to_target)
STRAIGHT = Path(jnp.array([0.0, 1.0]), jnp.zeros((2, 2)), None)
BAD = {
    "ode": (lambda k: kernels.euler(ODE), "no noise"),
    "no split": (lambda k: kernels.exponential(FORWARD), "made from a Schedule"),
    "no sde": (lambda k: kernels.euler(3.0), "needs an SDE"),
    "direction": (lambda k: kernels.underdamped(force, direction="sideways"), "direction must be"),
    "clocks": (lambda k: path_log_ratio(STRAIGHT, K, kernels.ou(schedules.karras())), "different clocks"),
    "no kernel": (lambda k: path_log_ratio(STRAIGHT, K, 1.0), "backward must be a Kernel"),
    "no density": (lambda k: path_log_ratio(STRAIGHT, K, Kernel(K.sample)), "backward has no log_prob"),
    "no back": (lambda k: log_weights(Process(GOOD.start, FORWARD, GOOD.ts), keys(k, 2), log_rho), "has no backward"),
    "start": (
        lambda k: log_weights(Process(starts.empirical(jnp.ones((3, 2))), FORWARD, GOOD.ts), keys(k, 2), log_rho),
        "has no log_prob",
    ),
    "process": (lambda k: log_weights(3.0, keys(k, 2), log_rho), "must be a Process"),
    "one key": (lambda k: log_weights(GOOD, k, log_rho), "one per sample"),
    "density": (lambda k: log_weights(GOOD, keys(k, 2), 3.0), "log_density must be a function"),
    "walk": (lambda k: kernels.walk(K, k, jnp.zeros(2), [0.0, 2.0]), "beyond the SDE's clock"),
    "shape": (lambda k: weights.log_z(jnp.ones((2, 2))), r"log_weights must have shape \(n,\)"),
    "empty": (lambda k: weights.ess(jnp.ones(0)), r"log_weights must have shape \(n,\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, key):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call(key)


def still(t, x, args):
    return 0.0 * x


def constant(t, z, args):
    return jnp.array([0.8, -0.5])


def test_the_control_of_an_underdamped_step(key):
    """With no force v1 = a v + sqrt(2 g) h c + sqrt(1 - a^2) z and x1 = x + h v1: at z = 0 the density is its peak."""
    g, h, c = 1.7, 0.2, constant(0.0, None, None)
    x, v, a = jnp.array([0.3, 1.0]), jnp.array([-0.5, 0.2]), math.exp(-1.7 * 0.2)
    v1 = a * v + math.sqrt(2 * g) * h * c
    peak = -math.log(2 * math.pi * (1 - a**2))
    for direction, t, y in (("forward", 0.3, (x + h * v1, v1)), ("backward", 0.5, (x - h * v, v1))):
        kernel = kernels.underdamped(still, g, control=constant, direction=direction)
        np.testing.assert_allclose(kernel.log_prob(t, t + h, (x, v), y, None), peak, rtol=1e-5)
    drawn = kernels.underdamped(still, g, control=constant).sample(key, 0.3, 0.5, (x, v), None)
    np.testing.assert_allclose(drawn[0], x + h * drawn[1], rtol=1e-5)
