"""Targets: every log Z against quadrature or its published digits, exact draws against integrals of the density."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bridgejax as bj

KEYS = bj.keys(jax.random.key(0), 4_000)


def integral(target, u, jacobian, x):
    """log of the sum over a grid in two dimensions: nodes u, coordinates x(u, v) of shape (n, n, 2), dx/du."""
    values = jax.jit(jax.vmap(target))(jnp.asarray(x.reshape(-1, 2), jnp.float32))
    h = u[1] - u[0]
    return float(np.log(np.sum(np.exp(np.float64(values)) * jacobian.ravel()) * h**2))


def plane(u):
    return np.stack(np.meshgrid(u, u, indexing="ij"), -1)


@pytest.mark.parametrize(("make", "end", "h"), [(bj.targets.gmm9, 10.0, 0.1), (bj.targets.gmm40, 48.0, 0.5)])
def test_mixtures_integrate_to_one(make, end, h):
    u = np.arange(-end, end, h)
    x = plane(u)
    assert integral(make(), u, np.ones(x.shape[:2]), x) == pytest.approx(make().log_z, abs=1e-4)


def test_heavy_tails_and_the_funnel_integrate_to_one_in_their_own_coordinates():
    u = np.linspace(-12.0, 12.0, 481)
    p, s = plane(u), plane(np.sinh(u))
    mixture = bj.targets.student_t_mixture(2, 3)
    assert integral(mixture, u, np.prod(np.cosh(p), -1), s) == pytest.approx(0.0, abs=1e-3)  # 5e-4 lies outside
    # x_2 = e^(x_1 / 2) z makes the funnel a Gaussian of standard deviations 3 and 1
    x = np.stack([p[..., 0], np.exp(p[..., 0] / 2) * p[..., 1]], -1)
    assert integral(bj.targets.funnel(2), u, np.exp(p[..., 0] / 2), x) == pytest.approx(math.log(math.erf(4 / 2**0.5)),
                                                                                      abs=1e-4)  # fmt: skip


def test_the_log_z_of_wells():
    assert bj.targets.double_well(5, 5, 4.0).log_z == pytest.approx(-0.5410555, abs=1e-6)
    assert bj.targets.double_well(50, 5, 2.0).log_z == pytest.approx(42.8172427, abs=1e-6)
    assert bj.targets.many_well(32).log_z == pytest.approx(164.69568, abs=1e-5)
    u = np.arange(-6.0, 6.0, 0.05)
    x = plane(u)
    for target in (bj.targets.double_well(2, 1, 2.5), bj.targets.many_well(2)):
        assert integral(target, u, np.ones(x.shape[:2]), x) == pytest.approx(target.log_z, abs=1e-4)


def close(values, truth):
    values = np.float64(values)
    assert abs(values.mean() - truth) < 5 * values.std() / math.sqrt(len(values))


def test_draws_of_wells_have_the_moments_of_the_density():
    target = bj.targets.many_well(2)
    x = np.asarray(jax.jit(jax.vmap(target.sample))(KEYS))
    u = np.linspace(-6.0, 6.0, 4001)
    density = np.exp(-(u**4) + 6 * u**2 + u / 2)
    for f in (np.square, lambda v: v**4, lambda v: v > 0, np.sin):
        close(f(x[:, 0]), np.sum(f(u) * density) / np.sum(density))
    close(x[:, 0] > 0, 0.84431)
    close(x[:, 1] ** 2, 1.0)


def test_draws_of_the_funnel():
    f = np.asarray(jax.jit(jax.vmap(bj.targets.funnel().sample))(KEYS))
    close(f[:, 0] ** 2, 9.0)
    close(f[:, 7] ** 2 * np.exp(-f[:, 0]), 1.0)


def test_nine_modes_and_their_spread():
    target = bj.targets.gmm9()
    means = target.log_density.args[0].means
    assert sorted(np.asarray(jax.vmap(target.modes)(means))) == list(range(9))
    assert np.allclose(target.log_density.args[0].cov(), (50 / 3 + 0.3) * np.eye(2), atol=1e-4)


def test_labels_of_sign_patterns_and_pytrees():
    target = bj.targets.double_well(5, 5, 4.0)
    assert target.num_modes == 32
    assert int(target.modes(jnp.array([2.0, -2.0, 2.0, -2.0, 2.0]))) == 1 + 4 + 16
    assert bj.targets.double_well(40, 40, 2.0).modes is None
    again = jax.tree.map(lambda leaf: leaf, bj.targets.gmm9())
    assert (again.dim, again.log_z, again.num_modes) == (2, 0.0, 9)


def test_a_target_of_ones_own():
    own = bj.targets.target(lambda x: -0.5 * jnp.sum(x**2), 3, log_z=1.5 * math.log(2 * math.pi))
    assert float(own(jnp.zeros(3))) == 0.0
    for density, match in ((lambda x: x, "one real number"), (3, "must be a function"),
                           (lambda x: x[:, 0].sum(), "does not take an x of shape")):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            bj.targets.target(density, 3)
    for call, match in (
        (lambda: bj.targets.double_well(2, 3), "at most dim"),
        (lambda: bj.targets.double_well(2, 2, -1.0), "delta"),
        (lambda: bj.targets.many_well(3), "even"),
        (lambda: bj.targets.funnel(1), "dim"),
        (lambda: bj.targets.gmm40(0), "dim"),
        (lambda: bj.targets.student_t_mixture(2, 2, float("nan")), "df"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
