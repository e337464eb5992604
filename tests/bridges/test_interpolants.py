"""Paths x_t = a x0 + b x1 + c eps: ends, derivatives, and the laws they are supposed to be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interpolant_family import FAMILY, NAMES, TWO_ENDED, brownian_law, ou_law, pinned_moments, ve_law, vp_law

from bridgejax.bridges import Interpolant, interpolants, pin
from bridgejax.processes import schedules

each = pytest.mark.parametrize("name", NAMES)
X0, X1, EPS = jnp.array([1.5, -2.0]), jnp.array([0.3, 4.0]), jnp.array([-1.0, 0.6])


@jax.jit
def everything(path, t, x0, x1, eps):
    """x_t, the library's velocity and forward-mode dx_t/dt at one time."""
    value, derivative = jax.jvp(lambda t: path(t, x0, x1, eps), (t,), (jnp.ones_like(t),))
    return value, path.velocity(t, x0, x1, eps), derivative


@pytest.mark.fast
@each
def test_ends(name):
    path = FAMILY[name]
    start = everything(path, jnp.float32(0), X0, X1, EPS)[0]
    end = everything(path, jnp.float32(path.T), X0, X1, EPS)[0]
    if name.endswith("_reversed"):
        assert path.T == FAMILY[name.removesuffix("_reversed")].T
    np.testing.assert_allclose(start, X0, rtol=1e-6, atol=1e-6)
    if path.b is not None:
        np.testing.assert_allclose(end, X1, rtol=1e-6, atol=1e-6)
    if path.c is not None:
        assert path.c(jnp.float32(0)) == 0


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    share=st.floats(1 / 64, 63 / 64, width=32),
    values=st.lists(st.floats(-10, 10, width=32), min_size=6, max_size=6),
)
def test_velocity_is_the_derivative(name, share, values):
    path = FAMILY[name]
    x0, x1, eps = jnp.array(values, jnp.float32).reshape(3, 2)
    _, velocity, derivative = everything(path, jnp.float32(share * path.T), x0, x1, eps)
    np.testing.assert_allclose(velocity, derivative, rtol=1e-5, atol=1e-5 * (1 + np.abs(derivative).max()))


def test_velocity_in_closed_form():
    t = jnp.float32(0.3)
    np.testing.assert_allclose(interpolants.linear().velocity(t, X0, X1), X1 - X0, rtol=1e-6)
    want = 0.5 * np.pi * (np.cos(0.15 * np.pi) * X1 - np.sin(0.15 * np.pi) * X0)
    np.testing.assert_allclose(interpolants.trigonometric().velocity(t, X0, X1), want, rtol=1e-5)
    # x1 - x0 + (1 - 2t) / (2 t (1 - t)) (x - mu), x - mu = sigma sqrt(t (1 - t)) eps
    want = X1 - X0 + 0.7 * (1 - 0.6) / (2 * np.sqrt(0.21)) * EPS
    np.testing.assert_allclose(interpolants.brownian(0.7).velocity(t, X0, X1, EPS), want, rtol=1e-5)


LAWS = {
    "bridge_vp": (schedules.vp(0.2, 3.0), vp_law(0.2, 3.0)),
    "bridge_ou": (schedules.ou(0.8, 1.2, T=2.0), ou_law(0.8, 1.2)),
    "bridge_ve": (schedules.ve(0.1, 2.0), ve_law(0.1, 2.0)),
    "brownian": (schedules.brownian(0.7), brownian_law(0.7)),
}


@pytest.mark.parametrize("name", sorted(LAWS))
def test_bridges_condition_the_reference_on_both_ends(name):
    """a, b, c^2 against Gaussian conditioning in float64."""
    path, (schedule, law) = FAMILY[name], LAWS[name]
    shares = np.array([1e-4, 0.02, 0.3, 0.5, 0.81, 0.97, 0.9999])
    t = np.float32(schedule.T * shares)
    a, b, variance = pinned_moments(*law, t.astype(np.float64), schedule.T)
    got = jax.jit(jax.vmap(lambda p, t: (p.a(t), p.b(t), p.c(t)), (None, 0)))(path, t)
    # float64 truth by conditioning loses digits near T, float32's T - t too: 1e-7 / 1e-4
    np.testing.assert_allclose(got[0], a, rtol=3e-5, atol=1e-9)
    np.testing.assert_allclose(got[1], b, rtol=3e-5, atol=1e-9)
    np.testing.assert_allclose(got[2], np.sqrt(variance), rtol=3e-5)


@pytest.mark.parametrize("name", sorted(LAWS))
def test_bridges_are_pins_exact_law(name):
    """pin's kernel from (0, x0) is the interpolant's Gaussian: read off the log density's derivatives."""
    path, (schedule, _) = FAMILY[name], LAWS[name]
    x0, x1 = jnp.float32(1.5), jnp.float32(-0.4)

    @jax.jit
    def moments(schedule, path, t):
        def log_prob(y):
            return pin(schedule, x1).terminal_kernel.log_prob(0.0, t, x0, y, None)

        slope, curvature = jax.grad(log_prob)(0.0), jax.grad(jax.grad(log_prob))(0.0)
        return -slope / curvature, -1.0 / curvature, path.a(t) * x0 + path.b(t) * x1, path.c(t) ** 2

    for t in (0.1, 0.5, 0.9):
        mean, variance, path_mean, path_variance = moments(schedule, path, schedule.T * t)
        assert float(mean) == pytest.approx(float(path_mean), rel=1e-5, abs=1e-6)
        assert float(variance) == pytest.approx(float(path_variance), rel=1e-5)


def test_the_bridge_of_brownian_motion_is_the_brownian_interpolant():
    a, b = interpolants.bridge(schedules.brownian(0.7)), interpolants.brownian(0.7)
    for t in (0.0, 0.2, 0.5, 0.99, 1.0):
        np.testing.assert_allclose(a(t, X0, X1, EPS), b(t, X0, X1, EPS), rtol=1e-6, atol=1e-6)
        assert float(a.reference(jnp.float32(t))) == pytest.approx(float(b.reference(jnp.float32(t))), rel=1e-6)


def test_the_rectified_bridge_is_plain_diffusion():
    """No signal reaches T, so x1 says nothing before T (the SNR_T -> 0 limit of a bridge)."""
    bridged, plain = interpolants.bridge(schedules.rectified()), interpolants.diffusion(schedules.rectified())
    for t in (0.1, 0.6, 0.9):
        np.testing.assert_allclose(bridged(t, X0, X1, EPS), plain(t, X0, None, EPS), rtol=2e-6)


@pytest.mark.parametrize("name", TWO_ENDED)
def test_reversed_walks_the_other_way(name):
    path = FAMILY[name]
    back, again = path.reversed(), path.reversed().reversed()
    t = jnp.float32(0.37 * path.T)
    for got, want in (
        (back(t, X1, X0, EPS), path(path.T - t, X0, X1, EPS)),
        (back.velocity(t, X1, X0, EPS), -path.velocity(path.T - t, X0, X1, EPS)),
        (again(t, X0, X1, EPS), path(t, X0, X1, EPS)),
    ):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    if path.reference is not None:
        assert float(back.reference(t)) == pytest.approx(float(path.reference(path.T - t)), rel=1e-6)


@pytest.mark.fast
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@each
def test_finite_at_both_ends_with_gradients(name, dtype):
    path = FAMILY[name]
    x0, x1, eps = (v.astype(dtype) for v in (X0, X1, EPS))

    def f(path, t, x0, x1, eps):
        both = jnp.stack([path(t, x0, x1, eps), path.velocity(t, x0, x1, eps)])
        return jnp.sum(both.astype(jnp.float32) * 1e-8), both  # 1e-8: rectified's rates are near float32's largest

    run = jax.jit(jax.vmap(jax.value_and_grad(f, (0, 1, 2, 3, 4), has_aux=True), (None, 0, None, None, None)))
    (_, both), gradients = run(jax.tree.map(jnp.float32, path), jnp.array([0.0, path.T]), x0, x1, eps)
    assert both.dtype == dtype
    for leaf in jax.tree.leaves((both, gradients)):
        assert np.all(np.isfinite(np.asarray(leaf, np.float32)))


def test_pytree_states_and_vmap():
    path = interpolants.brownian(0.5)
    x0, x1, eps = ({"a": v, "b": v[0]} for v in (X0, X1, EPS))
    out = jax.vmap(path, (0, None, None, None))(jnp.array([0.2, 0.8]), x0, x1, eps)
    assert out["a"].shape == (2, 2)
    np.testing.assert_allclose(out["a"][:, 0], out["b"], rtol=1e-6)
    batch = jax.vmap(interpolants.brownian)(jnp.array([0.5, 1.0]))
    np.testing.assert_allclose(jax.vmap(lambda p: p.c(jnp.float32(0.5)))(batch), [0.25, 0.5])


# bad input ----------------------------------------------------------------------------------------------------


def test_missing_ends_and_noise():
    with pytest.raises(ValueError, match="needs x1"):
        interpolants.linear()(0.5, X0)
    with pytest.raises(ValueError, match="needs x1"):
        interpolants.linear().velocity(0.5, X0)
    with pytest.raises(ValueError, match="needs eps"):
        interpolants.brownian()(0.5, X0, X1)
    with pytest.raises(ValueError, match="needs eps"):
        interpolants.diffusion(schedules.vp()).velocity(0.5, X0)


def test_a_path_with_one_end_cannot_be_reversed():
    with pytest.raises(ValueError, match=r"no x1 to start from; bridgejax.reverse"):
        interpolants.diffusion(schedules.vp()).reversed()


def test_bad_parameters():
    with pytest.raises(ValueError, match="sigma must be positive and finite, got 0"):
        interpolants.brownian(0.0)
    with pytest.raises(ValueError, match=r"schedule must be a Schedule, got float"):
        interpolants.bridge(1.0)
    with pytest.raises(ValueError, match=r"schedule must be a Schedule, got NoneType"):
        interpolants.diffusion(None)
    a = jnp.ones(())
    with pytest.raises(ValueError, match=r"a closes over JAX arrays"):
        Interpolant(lambda t: a * t)
    with pytest.raises(ValueError, match=r"T must be a positive finite number, got 0"):
        Interpolant(lambda t: 1 - t, T=0)
