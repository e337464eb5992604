"""Columns of every kind: inferred, encoded, and exactly themselves after the way back."""

import json

import jax
import numpy as np
import pytest

from bridgejax.data import load
from bridgejax.data.columns import from_record, infer
from bridgejax.methods.recipes import make_domain

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
