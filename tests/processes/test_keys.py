"""One key per sample: keys(key, num, start)[i] = fold_in(key, start + i), threefry only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridgejax.processes.keys import check_key, keys


def data(k):
    return np.asarray(jax.random.key_data(k))


@pytest.mark.fast
def test_keys_are_fold_in_of_the_global_index(key):
    made = keys(key, 5, start=3)
    assert made.shape == (5,)
    for i in range(5):
        np.testing.assert_array_equal(data(made[i]), data(jax.random.fold_in(key, 3 + i)))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(0, 16))
def test_two_runs_continue_one(seed, cut):
    key = jax.random.key(seed)
    both = np.concatenate([data(keys(key, cut)), data(keys(key, 16 - cut, start=cut))])
    np.testing.assert_array_equal(both, data(keys(key, 16)))


def test_keys_under_jit_with_a_traced_start(key):
    made = jax.jit(lambda k, start: keys(k, 4, start))(key, 7)
    np.testing.assert_array_equal(data(made), data(keys(key, 4, 7)))


def test_large_start_does_not_wrap_into_small_indices(key):
    high = data(keys(key, 2, start=2**32 - 2))
    assert not (high[:, None] == data(keys(key, 8))[None]).all(-1).any()


def test_raw_keys_are_wrapped():
    raw = jax.random.PRNGKey(3)
    np.testing.assert_array_equal(data(check_key(raw)), np.asarray(raw))
    np.testing.assert_array_equal(data(keys(raw, 3)), data(keys(jax.random.key(3), 3)))


def test_none_of_zero(key):
    assert keys(key, 0).shape == (0,)


def test_negative_num(key):
    with pytest.raises(ValueError, match=r"num must be an integer >= 0, got -1"):
        keys(key, -1)


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_rbg_is_refused(impl):
    with pytest.raises(ValueError, match=r"key uses the generator .*rbg.*impl='threefry2x32'"):
        keys(jax.random.key(0, impl=impl), 2)


@pytest.mark.parametrize("wrong", [0, None, "seed"])
def test_not_a_key(wrong):
    with pytest.raises(ValueError, match=rf"key must be a JAX random key, got {type(wrong).__name__}.*jax.random.key"):
        check_key(wrong)


def test_an_array_that_is_no_key():
    with pytest.raises(ValueError, match=r"keys must be a JAX random key, got an array of float32 and shape \(2,\)"):
        check_key(jnp.zeros(2), "keys")
