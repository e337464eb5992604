"""Tables: cells as the csv module has them, decimal commas, thousands, parquet, columns that are no measurements."""

import csv
import datetime
import decimal
import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from bridgejax.data import Reading, load
from bridgejax.data.sheets import is_missing, read_sheet

RNG = np.random.default_rng(0)


def written(path, text):
    path.write_bytes(text.encode())
    return path


# --- text -----------------------------------------------------------------------------------------------------

CELLS = st.one_of(
    st.sampled_from(["1", "-2.5", "+3", "1e5", ".5", "7.", "nan", "NaN", "inf", "NA", "n/a", "null", "None", "?", "x"]),
    st.text("ab1 .,-\"'é", max_size=5),
    st.floats(-1e300, 1e300).map(repr),
)


@given(
    rows=st.integers(1, 4).flatmap(lambda w: st.lists(st.lists(CELLS, min_size=w, max_size=w), min_size=1, max_size=6)),
    separator=st.sampled_from(",;\t"),
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
)
@settings(max_examples=150, deadline=None)
def test_cells_are_those_of_the_csv_module(tmp_path_factory, rows, separator, ending):
    """Python's csv module is the reference: texts, numbers (float), and what is missing."""
    rows = [["first"] * len(rows[0]), *rows]
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator=ending, quoting=csv.QUOTE_ALL).writerows(rows)
    path = written(tmp_path_factory.mktemp("csv") / "a.csv", text.getvalue())
    sheet = read_sheet(path, Reading())
    if separator != ("," if len(rows[0]) == 1 else separator):
        return  # a single column has no separator to find
    assert (sheet.rows, sheet.width, sheet.first) == (len(rows) - 1, len(rows[0]), ("first",) * len(rows[0]))
    for k in range(sheet.width):
        cells = sheet.column(k)
        for row in range(sheet.rows):
            cell = rows[row + 1][k].strip()
            assert cells.cell(row) == cell
            assert cells.missing[row] == is_missing(cell)
            assert cells.empty[row] == (cell == "")
            try:
                number = float(cell)
            except ValueError:
                number = None
            if not is_missing(cell):
                assert cells.number[row] == (number is not None)
            if number is not None:
                np.testing.assert_equal(cells.values[row], number)


@pytest.mark.parametrize("quote", ["", '"'])
def test_rows_longer_than_a_block(tmp_path, quote):
    words = [2_000_000 * "x", "short", 3_000_000 * "y"]
    text = "a,word\n" + "".join(f"{k}.5,{quote}{word}{quote}\n" for k, word in enumerate(words))
    data = load(written(tmp_path / "a.csv", text), text=True)
    assert data.texts == {1: ("short", words[0], words[2])}
    np.testing.assert_array_equal(data.values, [[0.5, 1], [1.5, 0], [2.5, 2]])


def test_many_columns(tmp_path):
    x = RNG.normal(size=(12, 3000)).round(4)
    text = "\n".join(",".join(map(str, row)) for row in x)
    np.testing.assert_array_equal(load(written(tmp_path / "a.csv", text), kind="table").values, x)
    with pytest.raises(ValueError, match=r"has 65537 columns, too many for a table as text; write it with np.save"):
        load(written(tmp_path / "a.csv", ",".join(["1.5"] * 65_537)))


def test_lines_are_named_across_notes_blank_lines_and_quotes(tmp_path):
    text = '# note\na,b\n\n1,2\n  \n"3\n",4\n# more\n5,x\n'
    with pytest.raises(ValueError, match=r"line 9, column 'b' holds 'x', which is not a number"):
        load(written(tmp_path / "a.csv", text))
    with pytest.raises(ValueError, match="ragged: line 9 has 3 cells, line 2 has 2"):
        load(written(tmp_path / "a.csv", text.replace("5,x", "5,6,7")))


GERMAN = "a;b\n1,5;1.234,5\n-2,25;12\n3;-1.234.567,25\n"
ENGLISH = 'a,b\n1.5,"1,234.5"\n-2.25,12\n3,"-1,234,567.25"\n'
SWISS = "a;b\n1.5;1'234.5\n-2.25;12\n3;-1'234'567.25\n"
FRENCH = "a;b\n1,5;1 234,5\n-2,25;12\n3;-1 234 567,25\n"
NUMBERS = [[1.5, 1234.5], [-2.25, 12], [3, -1234567.25]]


@pytest.mark.parametrize(
    ("text", "how"),
    [
        (GERMAN, {"decimal": "comma", "thousands": "point"}),
        (ENGLISH, {"thousands": "comma"}),
        (SWISS, {"thousands": "apostrophe"}),
        (FRENCH, {"decimal": "comma", "thousands": "space"}),
    ],
)
def test_decimal_commas_and_thousands(tmp_path, text, how):
    path = written(tmp_path / "a.csv", text)
    np.testing.assert_array_equal(load(path, **how).values, NUMBERS)
    with pytest.raises(
        ValueError, match=r"line 2, column 'b' holds .*--decimal comma\), marks of thousands with --thou"
    ):
        load(path, decimal=how.get("decimal", "point"))


@pytest.mark.parametrize(
    ("text", "how", "words"),
    [
        ("a;b\n1,5;2\n2,5;3\n", {}, r"line 2, column 'a' holds '1,5'.*\(--decimal comma\)"),
        ("a;b\n1.5;2\n2.5;3\n", {"decimal": "comma"}, "line 2, column 'a' holds '1.5', which is not a number"),
        ('a,b\n"12,34",2\n3,4\n', {"thousands": "comma"}, "line 2, column 'a' holds '12,34'"),
        ('a,b\n"1234,567",2\n3,4\n', {"thousands": "comma"}, "holds '1234,567'"),
        ("a,b\n1,2\n3,4\n", {"decimal": "comma", "thousands": "comma"}, "parted by 'comma', and so are decimals"),
        ("a,b\n1,2\n3,4\n", {"decimal": "dot"}, "decimal must be one of point, comma, got 'dot'"),
        ("a,b\n1,2\n3,4\n", {"thousands": "dot"}, "thousands must be one of none, comma"),
    ],
)
def test_numbers_that_are_none(tmp_path, text, how, words):
    with pytest.raises(ValueError, match=words):
        load(written(tmp_path / "a.csv", text), **how)


def test_columns_of_one_name(tmp_path):
    path = written(tmp_path / "a.csv", "a,b,a\n1,2,3\n4,5,7\n")
    with pytest.raises(ValueError, match=r"two columns named 'a', 1 and 3: rename one, or say by their numbers"):
        load(path)
    with pytest.raises(ValueError, match="2 columns named 'a'; name it by its number"):
        load(path, columns="a")
    with pytest.raises(ValueError, match="2 columns named 'a'; rename that of the labels"):
        load(path, label_column="a")
    np.testing.assert_array_equal(load(path, columns="2-3").values, [[2, 3], [5, 7]])


# --- columns that are no measurements -------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 1, 17])
def test_an_index_of_rows_is_named(tmp_path, start):
    rows = "".join(f"{k + start},{a:.3f},{b:.3f}\n" for k, (a, b) in enumerate(RNG.normal(size=(30, 2))))
    said = load(written(tmp_path / "a.csv", "no,x,y\n" + rows)).notes
    assert len(said) == 1
    assert f"column 'no' of {tmp_path}/a.csv counts {start}, {start + 1}, ..., {start + 29}, as an index" in said[0]
    assert "--columns 2-3" in said[0]
    assert load(tmp_path / "a.csv", columns="2-3").notes == ()


def test_identifiers_are_named_and_those_beyond_float64_refused(tmp_path):
    ids = RNG.choice(10**12, 40, replace=False) + 10**12
    path = written(tmp_path / "a.csv", "\n".join(map(str, ids)))
    assert "column 1" in load(path).notes[0]
    assert "holds 40 different whole numbers of up to 13 digits, as identifiers or times" in load(path).notes[0]
    written(path, "id\n" + "\n".join(str(1234567890123456789 + 7919 * k) for k in range(40)))
    with pytest.raises(ValueError, match="line 2, column 'id' holds 1234567890123456789, a whole number beyond 2"):
        load(path)
    written(path, "id\n" + "\n".join(str((2**60) + 2**20 * k) for k in range(40)))  # which float64 holds, all
    assert "up to 19 digits" in load(path).notes[0]


def test_measurements_are_not_taken_for_names_of_rows(tmp_path):
    for rows in (RNG.normal(size=(50, 2)), RNG.integers(0, 50, (50, 2)), np.arange(100).reshape(50, 2) * 0.25):
        text = "a,b\n" + "\n".join(",".join(map(str, row)) for row in rows.tolist())
        assert load(written(tmp_path / "a.csv", text)).notes == ()


# --- parquet --------------------------------------------------------------------------------------------------


def _parquet(path, **columns):
    parquet.write_table(pa.table(columns), path)
    return path


def test_parquet_is_the_table_as_text(tmp_path):
    x, words = RNG.normal(size=30), RNG.choice(["red", "green"], 30)
    whole = RNG.integers(0, 9, 30)
    path = _parquet(tmp_path / "a.parquet", x=x, n=whole, flag=whole > 4, small=x.astype(np.float32), colour=words)
    data = load(path, text=True)
    assert data.columns == ("x", "n", "flag", "small", "colour")
    assert data.texts == {4: ("green", "red")}
    expected = np.stack([x, whole, whole > 4, x.astype(np.float32), words == "red"], axis=1)
    np.testing.assert_array_equal(data.values, expected.astype(float))
    labelled = load(path, label_column="colour", columns="x,n")
    assert labelled.classes == ("green", "red")
    text = "\n".join(["x,colour", *(f"{a!r},{b}" for a, b in zip(x.tolist(), words.tolist(), strict=True))])
    read = load(written(tmp_path / "a.csv", text), text=True)
    np.testing.assert_array_equal(load(path, text=True, columns="x,colour").values, read.values)


def test_parquet_missing_values_and_types(tmp_path):
    x = [1.5, None, 2.5, float("nan")]
    days = [datetime.date(2026, 1, k + 1) for k in range(4)]
    path = _parquet(tmp_path / "a.parquet", x=x, n=[1, None, 3, 4], word=["a", None, "b", "a"], day=days)
    with pytest.raises(ValueError, match=r"row 2, column 'x' .*missing='drop'"):
        load(path, columns="x")
    np.testing.assert_array_equal(load(path, columns="x,n", missing="impute").values[:, 1], [1, 3, 3, 4])
    with pytest.raises(ValueError, match=r"row 2, column 'word' is empty"):
        load(path, columns="word", text=True)
    with pytest.raises(ValueError, match=r"column 'day' holds date32.*; expected numbers or text: leave it out"):
        load(path, columns="day")
    with pytest.raises(ValueError, match=r"which has no header \(--header\)"):
        load(path, header="yes")
    _parquet(path, n=pa.array([2**60 + 1, 5]), m=pa.array([decimal.Decimal("1.25"), decimal.Decimal("2.5")]))
    np.testing.assert_array_equal(load(path, columns="m").values[:, 0], [1.25, 2.5])
    with pytest.raises(ValueError, match=r"row 1, column 'n' holds 1152921504606846977, a whole number beyond"):
        load(path)


def test_parquet_that_declares_too_much_is_refused(tmp_path):
    """Fifty thousand rows of one long word are 10 kB in the file."""
    path = _parquet(tmp_path / "a.parquet", word=pa.array(["x" * 1000] * 50_000))
    assert path.stat().st_size < 20_000
    with pytest.raises(ValueError, match="declares 50000 rows of 1 columns, which takes about 2.0 MB of memory"):
        load(path, text=True, max_memory="1MB")
    with pytest.raises(ValueError, match="column 'word' holds texts of up to 1000 bytes, which takes about 52.0 MB"):
        load(path, text=True, max_memory="10MB")


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_parquet_file_is_one_sentence(tmp_path_factory, data):
    good = bytearray(_parquet(tmp_path_factory.mktemp("p") / "a.parquet", x=np.arange(20.0)).read_bytes())
    if data.draw(st.booleans()):
        good = good[: data.draw(st.integers(1, len(good) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 8))):
            good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("p") / "b.parquet"
    path.write_bytes(bytes(good))
    said = "b.parquet"
    try:
        assert np.isfinite(load(path).x).all()
    except ValueError as error:
        said = str(error)
    assert "b.parquet" in said
    assert len(said) < 700
