"""Columns of every kind: inferred, encoded, and exactly themselves after the way back."""

import json

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridgejax.data import load
from bridgejax.data.columns import decimals_of, from_record, infer
from bridgejax.methods.generative.constrained import make_domain

RANDOM = np.random.default_rng(0)
N = 200
TABLE = np.stack(
    [
        RANDOM.normal(-3.0, 2.0, N),
        RANDOM.gamma(2.0, 3.0, N),
        RANDOM.integers(17, 91, N),
        RANDOM.integers(0, 3, N),
        RANDOM.choice([2.0, 5.0], N),
        RANDOM.uniform(0.2, 0.9, N),
    ],
    axis=1,
)
NAMES = ("height", "income", "age", "sort", "flag", "share")
TEXTS = {3: ("a", "b", "c")}


@pytest.mark.fast
def test_kinds_are_inferred_and_can_be_told():
    found = infer(TABLE, "auto", NAMES, TEXTS)
    assert [c.kind for c in found.columns] == ["real", "positive", "integer", "category", "category", "positive"]
    told = infer(TABLE, "share=bounded,age=real", NAMES, TEXTS)
    assert [c.kind for c in told.columns][2] == "real"
    assert told.columns[5].kind == "bounded"
    assert "age: integer 17 to 90" in str(found)
    assert "sort: category of 3 (a, b, c)" in str(found)
    assert found.encoded_shape == (1 + 1 + 1 + 3 + 2 + 1,)


@pytest.mark.fast
def test_there_and_back():
    encoding = from_record(json.loads(json.dumps(infer(TABLE, "share=bounded", NAMES, TEXTS).record())))
    x = encoding.encode(TABLE)
    assert x.shape == (N, *encoding.encoded_shape)
    back = np.asarray(jax.jit(jax.vmap(encoding.decode))(x))
    np.testing.assert_array_equal(back[:, 2:5], TABLE[:, 2:5])  # integers and categories: exactly
    np.testing.assert_allclose(back, TABLE, rtol=1e-5, atol=1e-5)
    rows = encoding.texts_of(back)
    assert rows[0][3] == "abc"[int(TABLE[0, 3])]
    assert rows[0][2] == f"{TABLE[0, 2]:g}"


def test_numbers_with_few_decimals_are_a_grid():
    few, many = RANDOM.integers(-30, 31, 400) / 100, np.round(RANDOM.normal(0.0, 30.0, 400), 2)
    raw = np.stack([few, many], axis=1).astype(np.float32)  # as a file is read, rounding and all
    found = infer(raw, "auto", ("a", "b"))
    assert [c.kind for c in found.columns] == ["decimal", "real"]  # b hardly ever takes a value twice
    assert "a: decimal -0.3 to 0.3 by 0.01" in str(found)
    assert infer(raw, "b=decimal", ("a", "b")).columns[1].step == 0.01
    back = np.asarray(jax.jit(jax.vmap(found.decode))(found.encode(raw)))
    assert found.texts_of(back)[0][0] == f"{few[0]:g}"
    np.testing.assert_allclose(back[:, 0], few, atol=1e-7)
    snapped = jax.jit(jax.vmap(make_domain(found).snap))(found.encode(raw))
    np.testing.assert_allclose(snapped, found.encode(raw), atol=1e-5)  # float32's rounding, not a level
    again = from_record(json.loads(json.dumps(found.record())))
    assert again == found


def test_decimals_are_told_from_small_and_from_many_numbers():
    small = RANDOM.choice([1e-4, 2e-4, 5e-4, 7e-4], 400).astype(np.float32)
    large = RANDOM.choice(np.round(RANDOM.uniform(10.0, 9999.0, 40), 2), 400).astype(np.float32)
    wide = RANDOM.choice([0.25, 12.5, 250000.5], 400)
    few = RANDOM.choice([20.25, 12.5, 35.5], 400)
    kinds = infer(np.stack([small, large, wide, few], axis=1), "auto", ("small", "large", "wide", "few")).columns
    assert [c.kind for c in kinds] == ["positive", "positive", "positive", "decimal"]
    assert infer(large[:, None], "decimal").columns[0].step == 0.01


OFFSETS = {"id": 2.0**24 + 1, "time": 1.7e9, "large": 2.0**45 + 1, "none": 0.0}


@pytest.mark.fast
@given(
    seed=st.integers(0, 10**6),
    offset=st.sampled_from(sorted(OFFSETS)),
    span=st.sampled_from([2, 3, 500, 60_000, 3_000_000]),
    places=st.integers(0, 4),
)
@settings(max_examples=60, deadline=None)
def test_every_digit_of_a_table_comes_back(seed, offset, span, places):
    """Ids, times, large categories and decimals far from 0, through the float32 learnt on and through text."""
    random, n = np.random.default_rng(seed), 300
    whole = OFFSETS[offset] + random.integers(0, span, n)
    # (k / 10^places is the number that those digits are written for)
    parts = (10**places * min(OFFSETS[offset], 2.0**30) + random.integers(0, 100, n)) / 10**places
    two = OFFSETS[offset] + random.integers(0, 2, n)
    two[:2] = OFFSETS[offset], OFFSETS[offset] + 1
    table = np.stack([whole, parts, two, random.normal(0.0, 3.0, n)], axis=1)
    found = infer(table, "auto", ("whole", "parts", "two", "real"))
    assert from_record(json.loads(json.dumps(found.record()))) == found
    back = found.decode(found.encode(table))
    assert back.dtype == np.float64
    np.testing.assert_array_equal(back[:, :3], table[:, :3])
    np.testing.assert_allclose(back[:, 3], table[:, 3], atol=3.0 * 10 * 2.0**-23)
    np.testing.assert_array_equal(np.array(found.texts_of(table), float), table)
    np.testing.assert_array_equal(np.array(found.texts_of(back), float), back)
    assert found.texts_of(table)[0][0] == f"{int(whole[0])}"


def test_decimals_are_counted_in_the_precision_of_the_data():
    """Three decimals at 150,000 are steps of .001 in float64; float32's numbers are 1/64 apart there."""
    v = 150_000 + RANDOM.integers(0, 1000, 200) / 1000
    v[:2] = 150_000.023, 150_000.123
    assert decimals_of(v) == 3
    assert decimals_of(v.astype(np.float32).astype(np.float64)) == 6  # multiples of 1/64
    assert decimals_of(150_000 + RANDOM.integers(0, 4, 200) / 10) == 1
    assert decimals_of(np.array([1.5e9, 3.0, 1e15])) == 0
    assert decimals_of(RANDOM.normal(size=200)) is None


def test_learnt_columns_are_rounded_to_the_decimals_of_the_data():
    price = np.round(RANDOM.gamma(2.0, 500.0, 400), 2)
    second = 1_700_000_000 + RANDOM.integers(0, 10**7, 400)
    found = infer(np.stack([price, second, RANDOM.normal(size=400)], axis=1), "auto", ("price", "second", "real"))
    assert [c.kind for c in found.columns] == ["positive", "bounded", "real"]
    assert "second: bounded" in str(found)
    assert "rounded to whole numbers" in str(found)
    x = RANDOM.normal(size=(50, 3)).astype(np.float32)
    back = found.decode(x)
    np.testing.assert_array_equal(back[:, 0], np.round(back[:, 0], 2))
    np.testing.assert_array_equal(back[:, 1], np.rint(back[:, 1]))
    assert len(np.unique(back[:, 1])) > 40  # and not multiples of 128
    places = [len(text.partition(".")[2]) for _, _, text in found.texts_of(back)]
    assert max(places) == 8  # what float32 tells apart on a scale of 1
    with pytest.raises(ValueError, match="second has .* levels, from 17000.* to 17.*; at most 1048576 are possible"):
        infer(second[:, None], "second=integer", ("second",))


@pytest.mark.parametrize("domain", ["auto", "category", "bounded"])
def test_images(domain):
    raw = RANDOM.integers(0, 5, (20, 4, 3, 2)).astype(float)
    encoding = infer(raw, domain)
    assert encoding.columns[0].kind == {"auto": "integer"}.get(domain, domain)
    x = encoding.encode(raw)
    assert x.shape[1:] == encoding.encoded_shape == ((4, 3, 10) if domain == "category" else (4, 3, 2))
    np.testing.assert_allclose(jax.vmap(encoding.decode)(x), raw, atol=1e-6)


BAD = {
    "kind": ("integers", "is not understood"),
    "column": ("weight=real", "names the column 'weight'"),
    "integer": ("height=integer", "which is no integer"),
    "decimal": ("height=decimal", "no multiples of 0.1, 0.01 or 0.001"),
    "positive": ("height=positive", "which is not positive"),
    "category": ("age=category,height=category", "distinct values|height has"),
    "text": ("sort=real", "holds text such as 'a'"),
    "sphere": ("sphere", "unit sphere"),
    "simplex": ("simplex", "unit simplex"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_domains(name):
    domain, message = BAD[name]
    table = np.repeat(TABLE, 2, axis=0)
    table[:, 0] += RANDOM.normal(size=2 * N)
    with pytest.raises(ValueError, match=message):
        infer(table, domain, NAMES, TEXTS)


def test_text_columns_of_a_file(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text("age,sex,height\n31,F,1.7\n40,M,1.8\n22,F,1.6\n")
    data = load(path, text=True)
    assert data.columns == ("age", "sex", "height")
    assert data.texts == {1: ("F", "M")}
    np.testing.assert_allclose(data.destandardise(data.x)[:, 1], [0, 1, 0], atol=1e-6)
    with pytest.raises(ValueError, match="holds 'F', which is not a number.*constrained"):
        load(path)
    path.write_text("age,sex\n31,F\n40,\n")
    with pytest.raises(ValueError, match="line 3, column 'sex' is empty"):
        load(path, text=True)
