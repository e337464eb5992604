"""Preconditioning against the published table, its limits, and unit variances by Monte Carlo."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridgejax.networks import coefficients, edm_precondition, precondition


def ones(params, t, x, args):
    return jnp.ones_like(x)


def told(params, t, x, args):
    """A network that returns what it is told, to look at it."""
    return jnp.full_like(x, t)


def affine(params, t, x, args):
    return params * x + t


def cosine(t):
    return jnp.cos(jnp.pi * t / 2)


def sine(t):
    return jnp.sin(jnp.pi * t / 2)


def falling(t):
    return 1 - t


def identity(t):
    return t


@pytest.mark.fast
@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
def test_edm_is_the_published_table(sigma_data):
    sigma = np.geomspace(0.002, 80.0, 23)
    total = sigma**2 + sigma_data**2
    found = jax.vmap(edm_precondition(ones, sigma_data).coefficients)(jnp.float32(sigma))
    np.testing.assert_allclose(found.skip, sigma_data**2 / total, rtol=1e-5)
    np.testing.assert_allclose(found.out, sigma * sigma_data / np.sqrt(total), rtol=1e-5)
    np.testing.assert_allclose(found.input, 1 / np.sqrt(total), rtol=1e-5)
    np.testing.assert_allclose(found.noise, np.log(sigma) / 4, rtol=1e-5, atol=1e-6)


def test_denoiser_is_the_formula():
    sigma, x, params = 0.7, jnp.array([0.3, -2.0]), jnp.array([1.5, 0.2])
    c = coefficients(1.0, sigma, 0.5)
    expected = c.skip * x + c.out * (params * (c.input * x) + np.log(sigma) / 4)
    np.testing.assert_allclose(edm_precondition(affine)(params, sigma, x), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "denoiser",
    [
        edm_precondition(ones),
        edm_precondition(ones, 1.0),
        precondition(ones, cosine, sine),
        precondition(ones, falling, identity, sigma_data=2.0),
    ],
)
def test_no_noise_is_the_identity(denoiser):
    x = jnp.array([0.4, -3.0, 0.0])
    np.testing.assert_allclose(denoiser({}, 0.0, x), x, rtol=1e-6)
    small = denoiser({}, 1e-4, x) - x
    assert 0 < np.abs(small).max() < 1e-3


@pytest.mark.parametrize("t", [0.0, 1e-8, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_finite_with_finite_gradients_at_both_ends(t, dtype):
    denoiser = precondition(affine, falling, identity)
    x = jnp.ones(3, dtype)

    def total(params, t, x):
        return jnp.sum(denoiser(params, t, x))

    params = jnp.ones(3, jnp.float32)
    value, gradients = jax.value_and_grad(total, (0, 1, 2))(params, jnp.float32(t), x)
    assert np.isfinite(value)
    for gradient in gradients:
        assert np.all(np.isfinite(gradient))
    for wide in (False, True):  # sigma_data, a Python number, widens nothing
        with jax.enable_x64(wide):
            assert jax.eval_shape(denoiser, params, jnp.float32(t), x).dtype == jnp.float32


def test_pure_noise_leaves_all_to_the_network():
    denoiser = precondition(ones, falling, identity, sigma_data=0.7)
    np.testing.assert_allclose(denoiser({}, 1.0, jnp.array([5.0, -1.0])), [0.7, 0.7], rtol=1e-6)


def test_noise_level_is_held_and_can_be_replaced():
    x = jnp.zeros(2)
    level = jax.vmap(precondition(told, falling, identity).coefficients)(jnp.float32([0.0, 0.5, 1.0])).noise
    np.testing.assert_allclose(level, [-2.5, 0.0, 2.5], atol=1e-6)
    own = precondition(told, falling, identity, noise=identity)
    out = own.coefficients(0.25).out
    np.testing.assert_allclose(own({}, 0.25, x), 0.25 * out, rtol=1e-6)


@pytest.mark.parametrize(
    ("alpha", "sigma", "sigma_data"),
    [(1.0, 0.05, 0.5), (1.0, 8.0, 0.5), (0.6, 0.8, 1.0), (0.9, 0.2, 2.0), (0.0, 1.0, 1.0)],
)
def test_inputs_and_targets_have_variance_one(alpha, sigma, sigma_data):
    n = 40_000
    rng = np.random.default_rng(3)
    x0 = sigma_data * (rng.exponential(size=n) - 1)  # skewed: only second moments may matter
    x = alpha * x0 + sigma * rng.normal(size=n)
    c = [float(v) for v in coefficients(alpha, sigma, sigma_data)]
    inputs = c[2] * x
    target = (x0 - c[0] * x) / c[1]
    for values in (inputs**2, target**2):
        error = values.std() / np.sqrt(n)
        assert error < 0.03
        assert abs(values.mean() - 1) < 5 * error
    # c_skip is the best linear denoiser: what is left is uncorrelated with the input.
    product = inputs * target
    assert abs(product.mean()) < 5 * product.std() / np.sqrt(n)


def test_equal_denoisers_are_traced_once():
    traces = []

    @jax.jit
    def run(denoiser, x):
        traces.append(None)
        return denoiser(0.5, x, None)

    for params in (jnp.ones(2), jnp.zeros(2)):
        run(jax.tree_util.Partial(edm_precondition(affine), params), jnp.ones(2))
        run(jax.tree_util.Partial(precondition(affine, falling, identity), params), jnp.ones(2))
    assert len(traces) == 2
    assert edm_precondition(affine) != edm_precondition(affine, 1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: edm_precondition({"w": 1}), "apply = .*functional"),
        (lambda: edm_precondition(ones, 0.0), "sigma_data = 0.0"),
        (lambda: precondition(ones, 1.0, identity), "alpha = 1.0"),
        (lambda: precondition(ones, falling, identity, noise=2), "noise = 2"),
        (lambda: edm_precondition(ones)({}, jnp.ones(3), jnp.ones(3)), "one real number"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()
