"""What can be said of a file: its labels, its header, missing values, sizes, and what a sample is."""

import numpy as np
import pytest
from PIL import Image

from bridgejax.data import Reading, from_array, load
from bridgejax.data.tables import text_of, write_csv

RNG = np.random.default_rng(0)
FLOWERS = "length,species,width\n5.1,setosa,0.2\n6.3,virginica,1.8\n4.9,setosa,0.4\n"


def written(path, text):
    path.write_text(text)
    return path


# --- labels -------------------------------------------------------------------------------------------------


@pytest.mark.fast
def test_a_column_of_labels_by_name(tmp_path):
    data = load(written(tmp_path / "a.csv", FLOWERS), label_column="species")
    assert data.columns == ("length", "width")
    assert data.classes == ("setosa", "virginica")
    np.testing.assert_array_equal(data.labels, [0, 1, 0])
    np.testing.assert_array_equal(data.values, [[5.1, 0.2], [6.3, 1.8], [4.9, 0.4]])
    write_csv(
        tmp_path / "b.csv",
        [list(map(text_of, row)) for row in data.values],
        data.columns,
        [data.classes[k] for k in data.labels],
        data.label_column,
    )
    assert (tmp_path / "b.csv").read_text() == FLOWERS


def test_a_column_of_labels_by_number_and_numbers_as_labels(tmp_path):
    data = load(written(tmp_path / "a.csv", "5.1,3,0.2\n6.3,1,1.8\n4.9,3,0.4\n"), label_column="2")
    assert data.classes == ("1", "3")
    np.testing.assert_array_equal(data.labels, [1, 0, 1])
    assert data.shape == (2,)


@pytest.mark.parametrize(
    ("text", "how", "words"),
    [
        (
            FLOWERS,
            {"label_column": "kind"},
            "no column 'kind' for the labels; its columns: 'length', 'species', 'width'",
        ),
        ("1.5,2\n3.5,4\n", {"label_column": "3"}, "no column '3' for the labels; its columns: 2, without a header"),
        ("a\nx\ny\n", {"label_column": "a"}, "no column beside the labels"),
        ("a,b\n1,x\n2,\n3,y\n", {"label_column": "b"}, "line 3 has no label in column 'b'; missing='drop'"),
        ("a,b\n1,0.5\n2,1.5\n", {"label_column": "b"}, "are not whole numbers"),
        (FLOWERS, {}, "line 2, column 'species' holds 'setosa', which is not a number.*--label-column"),
        (FLOWERS, {"resize": "8"}, r"is a .csv file, which has no resize \(--resize\)"),
    ],
)
def test_bad_labels(tmp_path, text, how, words):
    with pytest.raises(ValueError, match=words):
        load(written(tmp_path / "a.csv", text), **how)


# --- missing values -----------------------------------------------------------------------------------------

HOLES = "age,sex,city\n30,F,1.5\n,M,2.5\n50,F,NA\n40,,3.5\n20,F,nan\n"


def test_missing_values_are_refused_dropped_or_filled_and_said(tmp_path):
    path = written(tmp_path / "a.csv", HOLES)
    with pytest.raises(ValueError, match="line 3, column 'age' is empty.*--missing drop"):
        load(path, text=True)
    dropped = load(written(tmp_path / "b.csv", HOLES + "60,M,4.5\n"), text=True, missing="drop")
    np.testing.assert_array_equal(dropped.values, [[30, 0, 1.5], [60, 1, 4.5]])
    assert "4 of 6 rows" in dropped.notes[0]
    filled = load(path, text=True, missing="impute")
    np.testing.assert_array_equal(filled.values[:, 0], [30, 30, 50, 40, 20])  # the lower of the two middle ones
    np.testing.assert_array_equal(filled.values[:, 1], [0, 1, 0, 0, 0])
    np.testing.assert_array_equal(filled.values[:, 2], [1.5, 2.5, 2.5, 3.5, 2.5])
    assert "4 missing values" in filled.notes[0]
    assert "age with 30 (1), sex with F (1), city with 2.5 (2)" in filled.notes[0]
    assert load(written(tmp_path / "c.csv", FLOWERS), label_column="species", missing="drop").notes == ()


def test_a_word_for_missing_in_a_column_of_numbers_is_no_category(tmp_path):
    """One NA made a category of every number of its column; among words it is one of them."""
    path = written(tmp_path / "a.csv", "age,school\n31,None\n40,high\nNA,None\n")
    with pytest.raises(ValueError, match="line 4, column 'age' holds 'NA', which is not a number; missing='drop'"):
        load(path, text=True)
    path.write_text(path.read_text().replace("NA,", "22,"))
    assert load(path, text=True).texts == {1: ("None", "high")}


def test_rows_without_a_label_are_dropped(tmp_path):
    data = load(written(tmp_path / "a.csv", "a,b\n1,x\n2,\n,y\n4,y\n"), label_column="b", missing="impute")
    np.testing.assert_array_equal(data.labels, [0, 1, 1])
    np.testing.assert_array_equal(data.values[:, 0], [1, 1, 4])
    assert "1 of 4 rows of" in data.notes[0]


def test_missing_values_of_arrays(tmp_path):
    x = RNG.normal(size=(30, 3))
    x[4, 1] = x[7, 2] = np.nan
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(30) % 3)
    with pytest.raises(ValueError, match="2 value.*missing='drop'"):
        load(tmp_path / "a.npz")
    dropped = load(tmp_path / "a.npz", missing="drop")
    np.testing.assert_array_equal(dropped.values, np.delete(x, [4, 7], axis=0))
    np.testing.assert_array_equal(dropped.labels, np.delete(np.arange(30) % 3, [4, 7]))
    filled = load(tmp_path / "a.npz", missing="impute")
    assert filled.values[4, 1] == np.sort(np.delete(x[:, 1], 4))[14]
    np.save(tmp_path / "b.npy", np.where(RNG.random((20, 4, 4)) < 0.01, np.nan, 1.0))
    with pytest.raises(ValueError, match="impute' fills the columns of a table"):
        load(tmp_path / "b.npy", missing="impute", kind="image")
    np.save(tmp_path / "c.npy", np.where(np.arange(20) == 3, np.inf, 1.0))
    with pytest.raises(ValueError, match="NaN or infinite"):
        load(tmp_path / "c.npy", missing="drop")


@pytest.mark.parametrize(
    ("text", "how", "words"),
    [
        ("a,b\n1,\n2,\n", {"missing": "drop"}, "column 'b' holds no value at all"),
        ("a,b\n1,\n,2\n", {"missing": "drop"}, "0 rows; expected at least 2"),
        ("a,b\n1,2\n3,inf\n", {"missing": "impute"}, "holds 'inf', which is not a finite number"),
        ("a,b\n1,2\n3,4\n", {"missing": "skip"}, "missing must be one of refuse, drop, impute, got 'skip'"),
        ("a,b\n1,2\n3,4\n", {"mising": "drop"}, "load has no argument 'mising'; of a file it takes label_column"),
        ("a,b\n1,9007199254740993\n3,4\n", {}, "line 2, column 'b' holds 9007199254740993, a whole number beyond 2"),
    ],
)
def test_bad_values(tmp_path, text, how, words):
    with pytest.raises(ValueError, match=words):
        load(written(tmp_path / "a.csv", text), **how)


def test_what_is_said_of_a_file_is_refused_of_a_set_made_here():
    with pytest.raises(ValueError, match="'moons' is made here, not read from a file; leave missing out"):
        load("moons", missing="drop")


# --- which columns --------------------------------------------------------------------------------------------

CATALOGUE = "id,lat,lon,kind\nus1,10.5,20.5,a\nus2,,30.5,b\nus3,12.5,40.5,a\n"


@pytest.mark.parametrize(
    ("columns", "kept", "names"),
    [
        ("lon", [2], ("lon",)),
        ("3", [2], ("lon",)),
        ("lon, lat", [2, 1], ("lon", "lat")),
        ("2-3", [1, 2], ("lat", "lon")),
    ],
)
def test_columns_by_name_or_number_in_the_order_said(tmp_path, columns, kept, names):
    """Text and holes elsewhere do not matter."""
    data = load(written(tmp_path / "a.csv", CATALOGUE.replace("us2,,", "us2,11.5,")), columns=columns)
    table = np.array([[0, 10.5, 20.5], [0, 11.5, 30.5], [0, 12.5, 40.5]])
    np.testing.assert_array_equal(data.values, table[:, kept])
    assert data.columns == names
    np.testing.assert_array_equal(load(written(tmp_path / "a.csv", CATALOGUE), columns="lon").values, table[:, [2]])


def test_columns_beside_labels_and_between_tabs(tmp_path):
    data = load(written(tmp_path / "a.tsv", CATALOGUE.replace(",", "\t")), columns="lon", label_column="kind")
    assert data.labels.tolist() == [0, 1, 0]
    assert data.columns == ("lon",)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ("long", r"no column 'long' \(columns 'long'\); its columns: 'id', 'lat', 'lon', 'kind', or numbers"),
        ("2-9", "no column '2-9'"),
        ("0", "no column '0'"),
        ("3-2", "no column '3-2'"),
        ("lat,2", "names a column of .* twice"),
        ("lon,kind", "or that of the labels"),
        (3, "columns must be text such as 'lat,lon' or '3-9', got 3"),
    ],
)
def test_columns_that_are_none(tmp_path, columns, words):
    with pytest.raises(ValueError, match=words):
        load(written(tmp_path / "a.csv", CATALOGUE), columns=columns, label_column="kind")


# --- the header ---------------------------------------------------------------------------------------------


def _lines(rows):
    return "\n".join(",".join(map(str, row)) for row in rows) + "\n"


MEASURED = RNG.normal(10.0, 3.0, (40, 4)).round(3)
DOUBTFUL = {
    "counted columns": (_lines([range(4), *MEASURED]), "it counts 0, 1, ..., 3"),
    "years": (_lines([range(2001, 2005), *RNG.integers(0, 9, (40, 4))]), "it counts 2001, 2002"),
    "far away": (_lines([(10_000, 20_000), *MEASURED[:, :2]]), "it is far from all other rows"),
    "whole above decimals": (_lines([(12, 7, 9), *(MEASURED[:, :3] + 0.0001)]), "its numbers are whole"),
    "a word above numbers": (_lines([("age", 2020), *MEASURED[:, :2]]), "'age' stands above numbers only"),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_a_header_that_could_be_a_row_is_asked_about(tmp_path, name):
    text, why = DOUBTFUL[name]
    path = written(tmp_path / "a.csv", text)
    with pytest.raises(ValueError, match=f"line 1 .* may be a header or a row, as {why}.*--header yes"):
        load(path)
    named = load(path, header="yes")
    assert len(named) == 40
    assert named.columns == tuple(text.splitlines()[0].split(","))
    if "word" not in name:
        assert len(load(path, header="no")) == 41


def test_words_without_a_header(tmp_path):
    path = written(tmp_path / "a.csv", "red,blue\ngreen,black\nred,black\n")
    with pytest.raises(ValueError, match="as 'red' occurs again below it"):
        load(path, text=True)
    assert load(path, text=True, header="no").texts == {0: ("green", "red"), 1: ("black", "blue")}


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_ordinary_rows_are_not_doubted(tmp_path, width):
    rng = np.random.default_rng(width)
    for k in range(40):
        x = [rng.normal(size=(30, width)), rng.integers(0, 50, (30, width)), np.cumsum(rng.random((30, width)), axis=0)]
        for rows in x:
            assert len(load(written(tmp_path / "a.csv", _lines(rows.tolist())), kind="table")) == 30, k


# --- what a sample is ---------------------------------------------------------------------------------------


def _waves(n, t):
    phase, rate = RNG.uniform(0, 6, (n, 1)), RNG.uniform(0.05, 0.2, (n, 1))
    return np.sin(phase + rate * np.arange(t)) + 0.1 * RNG.normal(size=(n, t))


@pytest.mark.fast
def test_series_are_told_by_a_rule():
    walk, waves = np.cumsum(RNG.normal(size=(200, 50)), axis=1), _waves(200, 32)
    for x in (walk, waves):
        data = from_array(x)
        assert data.kind == "series"
        assert data.shape == (x.shape[1], 1)
        assert data.shift.shape == data.scale.shape == (1,)
        np.testing.assert_allclose(data.destandardise(data.x)[..., 0], x, atol=1e-5)
        assert from_array(x, kind="table").kind == "table"
        assert from_array(x, columns=[f"c{k}" for k in range(x.shape[1])]).kind == "table"
    assert from_array(RNG.normal(size=(200, 32))).kind == "table"
    assert from_array(waves[:, :15]).kind == "table"
    channels = np.stack([waves, 100 + 5 * waves], axis=-1)
    data = from_array(channels)
    assert data.kind == "series"
    assert data.shape == (32, 2)
    np.testing.assert_allclose(data.x.mean(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(data.x.std(axis=(0, 1)), 1, atol=1e-5)
    assert from_array(RNG.random((20, 28, 28))).kind == "image"
    assert from_array(RNG.random((20, 12, 6)), kind="series").shape == (12, 6)
    assert from_array(channels, kind="image").shape == (32, 2, 1)


def test_digits_as_vectors_are_a_table():
    assert from_array(load("digits").values.reshape(-1, 64)).kind == "table"


@pytest.mark.parametrize(
    ("shape", "kind", "words"),
    [
        ((9, 4, 4), "table", r"expected \[n, d\] for vectors"),
        ((9,), "series", r"expected \[n, T\] or \[n, T, C\] for series"),
        ((9, 4), "image", r"expected \[n, h, w\] or \[n, h, w, c\] for images"),
        ((9, 4), "film", "kind must be one of auto, table, series, image, got 'film'"),
        ((9, 4, 2, 2, 2), "auto", r"expected \[n, d\] for vectors, \[n, T, C\] for series, \[n, h, w\]"),
    ],
)
def test_bad_kinds(shape, kind, words):
    with pytest.raises(ValueError, match=words):
        from_array(np.zeros(shape), kind=kind)


# --- images of many sizes -----------------------------------------------------------------------------------


def _folder(path, *sizes):
    for k, (h, w) in enumerate(sizes):
        (path / f"class {k % 2}").mkdir(parents=True, exist_ok=True)
        ramp = np.linspace(0, 255, h)[:, None] * np.ones(w)
        Image.fromarray(ramp.astype(np.uint8)).save(path / f"class {k % 2}" / f"{k}.png")
    return path


def test_images_of_many_sizes_are_brought_to_one(tmp_path):
    folder = _folder(tmp_path, (12, 20), (16, 8), (30, 30))
    with pytest.raises(ValueError, match=r"1.png is 16 x 8.*resize=8, crop=8 \(--resize 8 --crop 8\)|different sizes"):
        load(folder)
    with pytest.raises(ValueError, match=r"different sizes.*height x width, resized.*--resize 8 --crop 8"):
        load(folder, resize="8")
    both = load(folder, resize="8", crop="8")
    assert both.shape == (8, 8, 1)
    assert both.classes == ("class 0", "class 1")
    np.testing.assert_array_equal(both.labels, [0, 0, 1])
    square = both.values[1, ..., 0].astype(
        float
    )  # the 30 x 30 one: a ramp from 0 to 255, each pixel a mean of its part
    np.testing.assert_allclose(
        square, (np.linspace(0, 255, 30).reshape(-1, 30)[0] @ _means(30, 8))[:, None] * np.ones(8), atol=6
    )
    assert load(folder, resize=(10, 6)).shape == (10, 6, 1)
    assert load(folder, resize="10x6", crop="4x6").shape == (4, 6, 1)
    np.testing.assert_array_equal(load(folder, crop="8").values[1], load(folder, crop="8x8").values[1])
    middle = load(folder, crop="8").values[1, :, 0, 0]
    np.testing.assert_array_equal(middle, np.linspace(0, 255, 30).astype(np.uint8)[11:19])


def _means(n, m):
    """Weights (n, m) of the mean over each of m equal parts of n pixels."""
    edges = np.linspace(0, n, m + 1)
    rows = np.arange(n)[:, None]
    overlap = np.minimum(rows + 1, edges[1:]) - np.maximum(rows, edges[:-1])
    return np.clip(overlap, 0, 1) * m / n


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"crop": "10"}, "too small for crop 10x10; crop less, or resize first .--resize 10"),
        ({"resize": "ten"}, "resize must be a number of pixels such as 64, or HEIGHTxWIDTH such as 48x64, got 'ten'"),
        ({"crop": "0"}, "crop must be a number of pixels"),
        ({"crop": "3x4x5"}, "crop must be"),
        ({"missing": "drop"}, "is a folder of images, which has no missing"),
        ({"resize": "8", "crop": "8", "kind": "table"}, "expected .n, d. for vectors"),
    ],
)
def test_bad_sizes(tmp_path, how, words):
    with pytest.raises(ValueError, match=words):
        load(_folder(tmp_path, (12, 20), (16, 8)), **how)


def test_a_reading_says_what_was_given():
    assert Reading().given() == []
    assert Reading(resize=(8, 6), missing="drop").given() == ["missing", "resize"]
    assert Reading(resize=(8, 6)).resize == "8x6"
