"""Standardising: an invertible affine map to mean 0, deviation 1 (vectors) or to [-1, 1] (images)."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bridgejax.data import Dataset, from_array, split

RNG = np.random.default_rng(0)


@pytest.mark.fast
def test_vectors_get_mean_0_and_deviation_1():
    raw = RNG.normal([5.0, -3.0, 100.0], [0.1, 2.0, 30.0], (4000, 3))
    data = from_array(raw)
    assert data.kind == "points"
    assert data.shape == (3,)
    assert data.x.dtype == np.float32
    np.testing.assert_allclose(data.x.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(data.x.std(axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(data.destandardise(data.x), raw, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(data.standardise(raw), data.x)


def test_the_map_serves_jax_arrays_and_any_leading_axes():
    data = from_array(RNG.normal(2.0, 3.0, (50, 2)))
    x = jnp.asarray(data.x)
    np.testing.assert_allclose(data.destandardise(x), data.destandardise(data.x), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(data.standardise(data.destandardise(x)), x, atol=1e-5)
    assert data.destandardise(data.x[0]).shape == (2,)
    assert data.destandardise(data.x.reshape(5, 10, 2)).shape == (5, 10, 2)


def test_a_large_offset_loses_no_digits():
    """Time stamps near 1.7e9, one second apart: float32 resolves 128 s there."""
    raw = 1.7e9 + np.arange(100.0)[:, None]
    data = from_array(raw)
    np.testing.assert_allclose(data.destandardise(data.x), raw, atol=1e-4, rtol=0)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3e30, 1e-42])
def test_a_constant_column_keeps_scale_1(value):
    data = from_array(np.stack([np.full(33, value), np.arange(33.0)], axis=1))
    assert data.scale[0] == 1.0
    np.testing.assert_allclose(data.x[:, 0], 0, atol=1e-6 * abs(value))


def test_a_spread_below_float32_counts_as_constant():
    data = from_array(np.array([[0.0], [1e-60]]))
    assert data.scale[0] == 1.0
    assert np.isfinite(data.x).all()


@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.float16, np.bool_]),
        hnp.array_shapes(min_dims=1, max_dims=4, min_side=2, max_side=4),
    )
)
@settings(max_examples=150, deadline=None)
def test_any_numeric_array_gives_a_finite_invertible_data_set_or_one_sentence(raw):
    try:
        data = from_array(raw, name="the-array")
    except ValueError as error:
        said = str(error)
    else:
        said = None
    if said is not None:
        assert said.startswith("the-array")
        assert "\n" not in said
        bad = raw.dtype.kind == "f" and (~np.isfinite(raw)).any()
        huge = raw.dtype == np.float64 and (np.abs(raw) > np.finfo(np.float32).max).any()
        wide = raw.dtype == np.int64 and max(abs(int(v)) for v in raw.ravel()) > 2**53
        assert bad or huge or wide
        return
    assert np.isfinite(data.x).all()
    assert (data.scale > 0).all()
    back = data.destandardise(data.x)
    # float32 rounding of x, in units of scale; the spread of n <= 256 numbers is below n scales.
    bound = 1e-6 * np.broadcast_to(data.scale, back.shape) * np.maximum(np.abs(data.x), 1)
    magnitude = 1e-6 * np.abs(raw.astype(float).reshape(back.shape)) * (data.kind == "image")
    assert (np.abs(back - raw.astype(float).reshape(back.shape)) <= bound + magnitude + 1e-12 * np.abs(back)).all()
    if data.kind == "image":
        assert np.abs(data.x).max() <= 1 + 1e-6


def test_images_go_to_minus_1_and_1():
    raw = RNG.integers(0, 256, (10, 4, 5, 3)).astype(np.uint8)
    raw[0, 0, 0, 0], raw[1, 0, 0, 0] = 0, 255
    data = from_array(raw)
    assert data.kind == "image"
    assert data.shape == (4, 5, 3)
    assert data.shift == 127.5
    assert data.scale == 127.5
    assert data.x.min() == -1
    assert data.x.max() == 1
    np.testing.assert_allclose(data.destandardise(data.x), raw, atol=1e-4)


def test_grey_images_get_a_channel_and_a_given_range_is_kept():
    data = from_array(np.full((3, 4, 4), 2.0), value_range=(0.0, 4.0))
    assert data.shape == (4, 4, 1)
    np.testing.assert_array_equal(data.x, 0)


def test_a_constant_image_set_is_zero():
    np.testing.assert_array_equal(from_array(np.full((3, 4, 4), 7, np.uint8)).x, 0)


def test_long_vectors_are_a_table_and_a_plain_vector_is_a_column():
    assert from_array(RNG.normal(size=(9, 4))).kind == "table"
    assert from_array(RNG.normal(size=9)).shape == (1,)


@pytest.mark.parametrize(
    ("labels", "index", "classes"),
    [
        ([3, 3, 7, 5], [0, 0, 2, 1], ("3", "5", "7")),
        ([1.0, 0.0, 1.0, 1.0], [1, 0, 1, 1], ("0", "1")),
        (["b", "a", "b", "b"], [1, 0, 1, 1], ("a", "b")),
        ([[2], [1], [2], [2]], [1, 0, 1, 1], ("1", "2")),
        ([0, 0, 0, 0], [0, 0, 0, 0], ("0",)),
    ],
)
def test_labels_become_class_indices(labels, index, classes):
    data = from_array(RNG.normal(size=(4, 2)), np.array(labels))
    assert data.labels is not None
    assert data.labels.dtype == np.int32
    np.testing.assert_array_equal(data.labels, index)
    assert data.classes == classes
    assert data.num_classes == len(classes)


GOOD = np.arange(8.0).reshape(4, 2)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros((0, 2)), "0 rows"),
        (np.zeros((1, 2)), "1 row;"),
        (np.zeros((3, 0)), "no numbers"),
        (np.float64(3.0), "single number"),
        (np.array([[1, 2], [3, None]], dtype=object), "dtype object"),
        (np.array([["a"], ["b"]]), "real numbers"),
        (np.ones((3, 2), complex), "real numbers"),
        (np.array(["2020-01-01", "2020-01-02"], dtype="M8[D]"), "real numbers"),
        (np.zeros(3, dtype=[("a", float)]), "real numbers"),
        ([[1.0, 2.0], [3.0]], "ragged"),
        (np.where(np.arange(8).reshape(4, 2) == 5, np.nan, 1.0), r"row 2 \(index \(2, 1\): nan\)"),
        (np.array([[1.0], [np.inf]]), "infinite"),
        (np.array([[1.0], [-1e39]]), r"-1e\+39, which float32 cannot"),
        ([[10**400], [1]], "dtype object"),
        (np.zeros((3, 3, 8, 8)), "moveaxis"),
        (np.zeros((3, 8, 8, 9)), "1 to 4 channels"),
        (np.zeros((3, 2, 2, 2, 2)), r"\[n, h, w\]"),
    ],
)
def test_bad_arrays(x, words):
    with pytest.raises(ValueError, match=words) as caught:
        from_array(x, name="my.npy")
    assert "my.npy" in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.arange(3), r"shape \(3,\)"),
        (np.eye(4), r"shape \(4, 4\)"),
        (np.array([0.5, 1, 2, 3]), "whole numbers"),
        (np.array([np.nan, 1, 2, 3]), "whole numbers"),
        (np.array([np.inf, 1, 2, 3]), "infinite"),
        (np.array([None, 1, 2, 3]), "dtype object"),
        (np.array([1j, 1, 2, 3]), "dtype complex"),
    ],
)
def test_bad_labels(labels, words):
    with pytest.raises(ValueError, match=words) as caught:
        from_array(GOOD, labels, name="my.npz")
    assert "my.npz" in str(caught.value)


def _rows(data: Dataset):
    return {tuple(row) for row in data.x}


@pytest.mark.parametrize(("n", "holdout", "out"), [(100, 0.2, 20), (2, 0.2, 1), (10, 0.999, 9), (3, 0.5, 2)])
def test_split_is_a_partition(n, holdout, out):
    whole = from_array(RNG.normal(size=(n, 2)), np.arange(n) % 2)
    rest, held = split(whole, holdout)
    assert len(held) == out
    assert len(rest) == n - out
    assert _rows(rest) | _rows(held) == _rows(whole)
    assert not _rows(rest) & _rows(held)
    for part in (rest, held):
        assert part.classes == whole.classes
        np.testing.assert_array_equal(part.scale, whole.scale)
        assert part.labels is not None
        lookup = {tuple(row): label for row, label in zip(whole.x, whole.labels, strict=True)}
        assert [lookup[tuple(row)] for row in part.x] == list(part.labels)


def test_split_depends_on_the_seed_only():
    whole = from_array(RNG.normal(size=(50, 2)))
    assert _rows(split(whole, 0.2, 1)[1]) == _rows(split(whole, 0.2, 1)[1])
    assert _rows(split(whole, 0.2, 1)[1]) != _rows(split(whole, 0.2, 2)[1])


@pytest.mark.parametrize("holdout", [0.0, 1.0, -0.1, float("nan")])
def test_split_refuses_other_fractions(holdout):
    with pytest.raises(ValueError, match="holdout"):
        split(from_array(GOOD), holdout)


def test_split_needs_two_samples_and_a_seed():
    _, held = split(from_array(GOOD[:2]), 0.5)
    with pytest.raises(ValueError, match="at least 2"):
        split(held, 0.5)
    with pytest.raises(ValueError, match="seed"):
        split(from_array(GOOD), 0.5, seed=-1)
