"""Heat kernels against the other series in float64, their heat equations, total mass, and random walks."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from bridgejax.oracles import heat

TIMES = [0.02, 0.5, 1.9, 2.1, 6.2, 6.4, 20.0]
X = np.linspace(0.0, np.pi, 41)
DEGREES = np.arange(200)


def circle_waves(x, t):
    n = np.arange(1, 80)[:, None]
    return (1 + 2 * np.sum(np.exp(-(n**2) * t / 2) * np.cos(n * x), 0)) / (2 * np.pi)


def rotation_waves(x, t):
    n = 2 * DEGREES[:, None] + 1
    x = np.maximum(x, 1e-9)
    return np.sum(n * np.exp(-(n**2 - 1) * t / 8) * np.sin(n * x / 2) / np.sin(x / 2), 0) / (8 * np.pi**2)


def sphere_waves(x, t):
    n = DEGREES[:, None]
    return np.sum(
        (2 * n + 1) / (4 * np.pi) * np.exp(-n * (n + 1) * t / 2) * scipy.special.eval_legendre(n, np.cos(x)), 0
    )


KERNELS = {
    "circle": (heat.circle_log_prob, circle_waves, lambda x: 2 * np.ones_like(x)),
    "rotation": (heat.rotation_log_prob, rotation_waves, lambda x: 8 * np.pi * (1 - np.cos(x))),
    "sphere": (heat.sphere_log_prob, sphere_waves, lambda x: 2 * np.pi * np.sin(x)),
}
each = pytest.mark.parametrize("name", list(KERNELS))


@pytest.mark.fast
@each
@pytest.mark.parametrize("t", TIMES)
def test_the_series_of_eigenfunctions(name, t):
    """Long sums in float64, on both sides of the switches; where they have lost their digits, to absolute rounding."""
    log_prob, waves, _ = KERNELS[name]
    with jax.enable_x64(True):
        got = np.exp(np.asarray(log_prob(X, t)))
    np.testing.assert_allclose(got, waves(X, t), rtol=1e-8, atol=1e-11)


@each
@pytest.mark.parametrize("t", [1e-3, 0.1, 1.0, 3.0])
def test_total_mass(name, t):
    log_prob, _, area = KERNELS[name]
    with jax.enable_x64(True):
        nodes, weights = np.polynomial.legendre.leggauss(200)
        end = min(np.pi, 12 * np.sqrt(t))
        x, w = 0.5 * end * (nodes + 1), 0.5 * end * weights
        total = np.sum(w * area(x) * np.exp(np.asarray(log_prob(x, t))))
    np.testing.assert_allclose(total, 1.0, rtol=1e-9)


@each
def test_the_heat_equation_holds_in_the_tails(name):
    """d log p / dt = (l'' + l'^2 + (log area)' l') / 2 with l = log p: relative accuracy where p is 1e-30."""
    log_prob, _, _ = KERNELS[name]
    with jax.enable_x64(True):
        x, t = jnp.array([0.7, 2.5, 3.0, 1.0]), jnp.array([0.05, 0.05, 1.0, 2.5])
        turn = {"circle": 0.0 * x, "rotation": jnp.sin(x) / (1 - jnp.cos(x)), "sphere": 1 / jnp.tan(x)}[name]

        def both_sides(x, t, turn):
            slope, h = jax.grad(log_prob), 1e-4
            value, curvature = slope(x, t), (slope(x + h, t) - slope(x - h, t)) / (2 * h)
            return jax.grad(log_prob, argnums=1)(x, t), 0.5 * (curvature + value**2 + turn * value)

        left, right = jax.jit(jax.vmap(both_sides))(x, t, turn)
        np.testing.assert_allclose(left, right, rtol=1e-5)  # the difference quotient's own error is about 1e-7


@each
def test_float32_agrees_with_float64(name):
    log_prob = KERNELS[name][0]
    for t in (1e-3, 0.3, 2.5):
        got = np.asarray(log_prob(np.float32(X), t))
        with jax.enable_x64(True):
            exact = np.asarray(log_prob(X, t))
        np.testing.assert_allclose(got, exact, rtol=3e-6, atol=2e-5)


@each
def test_values_and_gradients_are_finite(name):
    """At the start, at the cut locus, across it, at very short and very long times."""
    x, t = (
        a.ravel()
        for a in jnp.meshgrid(
            jnp.float32([0, 1e-6, 1.0, 3.1415925, np.pi, 4.0, -7.0]), jnp.float32([1e-4, 1.0, 2.0, 100.0])
        )
    )
    chex.assert_tree_all_finite(jax.jit(jax.vmap(jax.value_and_grad(KERNELS[name][0], argnums=(0, 1))))(x, t))


@each
def test_it_is_even_and_periodic(name):
    log_prob = KERNELS[name][0]
    np.testing.assert_allclose(
        log_prob(np.array([-0.5, 0.5 + 2 * np.pi, 2 * np.pi - 0.5]), 0.3), log_prob(0.5, 0.3) * np.ones(3), rtol=1e-5
    )


def test_the_mean_on_the_sphere():
    """E cos = e^-t on S^2 from the kernel, and a walk on S^3: t = 0.4 in 200 geodesic steps, n = 20000."""
    with jax.enable_x64(True):
        nodes, weights = np.polynomial.legendre.leggauss(200)
        x, w = 0.5 * np.pi * (nodes + 1), 0.5 * np.pi * weights
        density = 2 * np.pi * np.sin(x) * np.exp(np.asarray(heat.sphere_log_prob(x, 0.4)))
    np.testing.assert_allclose(
        np.sum(w * np.cos(x) * density), heat.sphere_mean(np.array([0.0, 0.0, 1.0]), 0.4)[2], rtol=1e-6
    )
    rng, n, steps = np.random.default_rng(0), 20_000, 200
    point = np.tile([1.0, 0.0, 0.0, 0.0], (n, 1))
    for _ in range(steps):
        v = rng.normal(size=(n, 4)) * np.sqrt(0.4 / steps)
        v -= np.sum(v * point, 1, keepdims=True) * point
        length = np.linalg.norm(v, axis=1, keepdims=True)
        point = np.cos(length) * point + np.sin(length) * v / length
    error = point[:, 0].std() / np.sqrt(n)
    exact = float(heat.sphere_mean(np.array([1.0, 0.0, 0.0, 0.0]), 0.4)[0])
    np.testing.assert_allclose(exact, np.exp(-0.6), rtol=1e-6)
    assert (
        abs(point[:, 0].mean() - exact) < 5 * error + 0.4 / steps
    )  # the walk's own error is of first order in the step


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: heat.circle_log_prob(0.0, 0.0), "t must be positive"),
        (lambda: heat.sphere_log_prob(0.0, -1.0), "t must be positive"),
        (lambda: heat.sphere_mean(1.0, 1.0), "x0 must be a point"),
        (lambda: heat.sphere_mean([1.0, 0.0], -1.0), "t must be >= 0"),
    ],
)
def test_what_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
