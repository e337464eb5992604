"""One key per sample: keys(key, num, start)[i] = fold_in(stream(key, "samples"), start + i), threefry only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridgejax.processes._keys import ROLES, check_key, keys, stream, streams


def data(k):
    return np.asarray(jax.random.key_data(k))


@pytest.mark.fast
def test_keys_are_fold_in_of_the_global_index(key):
    made = keys(key, 5, start=3)
    assert made.shape == (5,)
    for i in range(5):
        np.testing.assert_array_equal(data(made[i]), data(jax.random.fold_in(stream(key, "samples"), 3 + i)))


@pytest.mark.fast
def test_no_role_meets_another_or_an_index(key):
    """Constants, their 2^16 parts and all indices that split, a counter or a block of noise may use, in one uint32."""
    constants = np.array(sorted(ROLES.values()), np.uint64)
    assert constants[0] >= 2**31
    assert np.diff(constants).min() >= 2**16
    assert constants[-1] + 2**16 <= 2**32
    parts = data(streams(key, "process", 3))
    np.testing.assert_array_equal(parts[0], data(stream(key, "process")))
    many = jax.random.split(key, 6).reshape(2, 3)
    np.testing.assert_array_equal(data(streams(many, "loss", 4)[1, 2]), data(streams(many[1, 2], "loss", 4)))
    np.testing.assert_array_equal(data(stream(many, "loss")), data(streams(many, "loss", 4)[..., 0]))
    with pytest.raises(ValueError, match="num must be at most 65536"):
        streams(key, "loss", 2**16 + 1)


def test_keys_are_not_those_of_split(key):
    mine, split = data(keys(key, 100)), data(jax.random.split(key, 100))
    assert not (mine[:, None] == split[None]).all(-1).any()


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
        check_key(jnp.zeros(2, jnp.float32), "keys")
