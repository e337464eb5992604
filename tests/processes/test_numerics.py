"""Safe arithmetic: the value where it exists, 0 elsewhere, and never a NaN gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from compiling import compiled

from bridgejax._numerics import (
    as_time,
    copies,
    gaussian_log_density,
    linear_combination,
    normal_like,
    normal_log_prob,
    on_device,
    safe_divide,
    safe_log,
    safe_sqrt,
)


@pytest.mark.fast
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_safe_functions_at_and_away_from_zero(dtype):
    zero, two = jnp.asarray(0.0, dtype), jnp.asarray(2.0, dtype)
    for f, derivative in (
        (safe_sqrt, 0.5 / np.sqrt(2.0)),
        (safe_log, 0.5),
        (lambda v: safe_divide(3.0, v), -0.75),
    ):
        assert np.isfinite(f(zero))
        assert jax.grad(f)(zero) == 0
        # eps of bfloat16 is 2^-8
        assert float(jax.grad(f)(two)) == pytest.approx(derivative, rel=2**-7 if dtype == jnp.bfloat16 else 1e-6)
    assert safe_sqrt(zero) == 0
    assert safe_divide(jnp.ones(()), zero) == 0
    assert float(safe_log(zero)) == pytest.approx(np.log(1e-30), rel=2**-7)
    assert safe_sqrt(-two) == 0


def test_the_gaussian_log_density_is_that_of_scipy():
    root, offset = np.array([[1.0, 0.0, 0.0], [0.5, 2.0, 0.0], [-1.0, 0.3, 0.1]]), np.array([0.4, -1.0, 2.0])
    squared = np.sum(np.linalg.solve(root, offset) ** 2)
    log_det = 2.0 * np.sum(np.log(np.diag(root)))
    truth = scipy.stats.multivariate_normal(np.zeros(3), root @ root.T).logpdf(offset)
    assert float(gaussian_log_density(squared, log_det, 3)) == pytest.approx(truth, rel=1e-5)
    found = normal_log_prob(jnp.asarray(offset), 0.3, 1.7)
    np.testing.assert_allclose(found, scipy.stats.norm(0.3, np.sqrt(1.7)).logpdf(offset), rtol=1e-6)


@pytest.mark.parametrize("value", [1, 0.5, np.float64(0.5), np.arange(3), [0.0, 1.0]])
def test_times_have_the_default_dtype(value):
    assert as_time(value).dtype == jnp.result_type(float)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_times_are_at_least_float32(dtype):
    assert as_time(dtype(0.5)).dtype == jnp.float32


def test_axpy_keeps_the_dtype_of_the_first_state():
    half, full = {"a": jnp.ones(3, jnp.bfloat16)}, {"a": jnp.full(3, 2.0, jnp.float32)}
    out = linear_combination((jnp.float32(0.5), half), (2.0, full))
    assert out["a"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(out["a"], np.float32), 4.5)
    assert linear_combination((1.0, full), (1.0, half))["a"].dtype == jnp.float32


def test_normal_like_draws_each_leaf_on_its_own(key):
    struct = {
        "a": jax.ShapeDtypeStruct((4000,), jnp.float32),
        "b": jax.ShapeDtypeStruct((4000,), jnp.bfloat16),
    }
    out = normal_like(key, struct)
    assert (out["a"].dtype, out["b"].dtype) == (jnp.float32, jnp.bfloat16)
    a, b = np.asarray(out["a"]), np.asarray(out["b"], np.float32)
    bound = 5 / np.sqrt(4000)
    assert abs(a.mean()) < bound
    assert abs(b.mean()) < bound
    assert abs(np.mean(a * b)) < bound
    assert abs(a.var() - 1) < bound * np.sqrt(2)
    # one array draws exactly jax.random.normal
    np.testing.assert_array_equal(normal_like(key, jnp.zeros(7)), jax.random.normal(key, (7,)))


def test_copies_are_buffers_of_their_own_made_by_one_program():
    leaves = [jnp.zeros(3), jnp.ones((2, 4), jnp.bfloat16), jax.random.key(1, impl="rbg"), jnp.arange(5), jnp.zeros(3)]
    leaves.append(leaves[0])
    with compiled() as names:
        made = copies(leaves)
        copies(leaves)
    assert names.count("_copies") == 1
    assert len(names) == 1
    for new, old in zip(made, leaves, strict=True):
        assert new.dtype == old.dtype
        assert bool(jnp.all(new == old))
    places = [leaf.unsafe_buffer_pointer() for leaf in [*made, *leaves[:-1]] if leaf.dtype != leaves[2].dtype]
    assert len(set(places)) == len(places) == 9


def test_copies_stay_where_they_are_and_can_be_traced():
    devices = jax.devices()
    if len(devices) > 1:
        apart = [jax.device_put(jnp.zeros(3), device) for device in devices[:2]]
        assert [leaf.devices() for leaf in copies(apart)] == [{device} for device in devices[:2]]
    assert copies([]) == []
    np.testing.assert_array_equal(jax.jit(lambda x: copies([x, jnp.ones(2)])[0])(jnp.arange(3)), [0, 1, 2])


@pytest.mark.parametrize(
    "value",
    [np.ones(3), np.ones(4, np.float32), np.arange(7), np.array(True), 2.0, 3, [1.0, 2.0], jnp.ones(2, jnp.bfloat16)],
)
def test_a_host_array_comes_to_the_device_as_jax_has_it_without_a_program(value):
    expected = jnp.asarray(value)
    jax.clear_caches()
    with compiled() as names:
        found = on_device(value)
    assert (found.dtype, found.weak_type) == (expected.dtype, expected.weak_type)
    np.testing.assert_array_equal(found, expected)
    assert names == [] or not isinstance(value, np.ndarray)
