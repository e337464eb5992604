"""A table with a target: how its columns are encoded, how its target is read, and what is refused."""

import numpy as np
import pytest

from bridgejax.data import Reading
from bridgejax.data.supervised import from_record, learn_inputs, read_rows, read_supervised

TABLE = "length,colour,kind,y\n" + "\n".join(
    f"{0.5 * k},{('red', 'green', 'blue')[k % 3]},{'ab'[k % 2]},{k * k}" for k in range(12)
)


def written(path, text):
    path.write_text(text + "\n")
    return path


def read(tmp_path, text=TABLE, target="y", task="auto", **how):
    return read_supervised(written(tmp_path / "table.csv", text), target, Reading(**how), task)


def test_numbers_are_scaled_and_texts_are_one_column_each(tmp_path):
    table = read(tmp_path)
    assert (table.names, table.name, table.classes) == (("length", "colour", "kind"), "y", ())
    np.testing.assert_array_equal(table.target, np.arange(12.0) ** 2)
    train = np.arange(9)
    inputs = learn_inputs(table.rows[train], table.names, impute=False)
    assert inputs.texts == ((), ("blue", "green", "red"), ("a", "b"))
    x = inputs.encode(table.rows)
    assert x.shape == (12, 1 + 3 + 1)  # two texts are one column
    np.testing.assert_allclose(x[train].mean(axis=0), 0.0, atol=1e-6)
    np.testing.assert_allclose(x[train].std(axis=0), 1.0, atol=1e-5)
    lengths = 0.5 * np.arange(12)
    np.testing.assert_allclose(x[:, 0], (lengths - lengths[train].mean()) / lengths[train].std(), rtol=1e-5)
    assert (x[:, 3] > 0).tolist() == [k % 3 == 0 for k in range(12)]  # red
    assert (x[:, 4] > 0).tolist() == [k % 2 == 1 for k in range(12)]  # b
    codes = inputs.numbers(table.rows)
    np.testing.assert_array_equal(inputs.encode(codes), x)  # categories as indices
    again = from_record(inputs.record())
    np.testing.assert_array_equal(again.encode(table.rows), x)
    assert again.texts == inputs.texts


def test_missing_values_are_those_of_the_training_rows(tmp_path):
    text = TABLE.replace("1.0,blue", ",").replace("5.0,green", ",green")
    table = read(tmp_path, text, missing="impute")
    inputs = learn_inputs(table.rows[:9], table.names, impute=True)
    assert inputs.fill == (2.0, 1.0, 0.0)  # the lower median of 8 lengths; green, the first of the commonest
    filled = inputs.numbers(table.rows)
    assert filled[2, 0] == 2.0
    assert filled[10, 0] == 2.0
    with pytest.raises(ValueError, match="line 4, column 'length' is empty.*--missing drop"):
        read(tmp_path, text)
    assert len(read(tmp_path, text, missing="drop").target) == 10
    bare = learn_inputs(read(tmp_path).rows, table.names, impute=False)
    with pytest.raises(ValueError, match="row 2 has nan in column 'length'"):
        bare.numbers(table.rows)


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (("yes", "no"), "auto", ("no", "yes")),
        (("0", "1"), "auto", ("0", "1")),
        (("0", "1"), "regression", ()),
        (("5", "6", "7"), "auto", ()),
        (("5", "6", "7"), "classes", ("5", "6", "7")),
        (("0.5", "1.5"), "auto", ("0.5", "1.5")),
    ],
)
def test_a_target_is_classes_or_numbers(tmp_path, values, task, classes):
    text = "x,y\n" + "\n".join(f"{k},{values[k % len(values)]}" for k in range(12))
    table = read(tmp_path, text, task=task)
    assert table.classes == classes
    names = [values[k % len(values)] for k in range(12)]
    expected = [classes.index(name) for name in names] if classes else [float(name) for name in names]
    np.testing.assert_array_equal(table.target, expected)
    assert table.notes[-1].startswith("predicts y: ")


REFUSED = {
    "target": (dict(target="yy"), r"no column 'yy' for the target; did you mean 'y'\? Its columns: 'length'"),
    "one value": (dict(text="x,y\n1,2\n2,2\n3,2"), "target 'y' is 2.0 in all 3 rows: there is nothing to predict"),
    "one class": (dict(text="x,y\n1,a\n2,a\n3,a"), "target 'y' is a in all 3 rows"),
    "text": (
        dict(text="x,y\n1,2\n2,b\n3,4", task="regression"),
        "holds 'b', which is not a number; use --task classes",
    ),
    "numbers": (
        dict(task="classes"),
        "has 12 different values in 12 rows, too many for classes; use --task regression",
    ),
    "constant": (
        dict(text="a,b,c,y\n1,0,2,1\n2,0,1,5\n3,0,2,9"),
        "column 'b' has one value in all rows, of which nothing can be learnt; leave it out: --columns 1,3$",
    ),
    "names": (
        dict(text="a,b,y\n" + "\n".join(f"{k},name{k},{k % 3}" for k in range(9))),
        "column 'b' holds 9 different texts in 9 rows, of which nothing can be learnt; leave it out: --columns 1$",
    ),
    "no target": (dict(text="x,y\n1,2\n2,\n3,4"), "line 3 has no target in column 'y'; missing='drop'"),
    "infinite": (dict(text="x,y\n1,2\n2,inf\n3,4"), "target 'y' has values that are not finite"),
    "alone": (dict(text="y\n1\n2\n3"), "no column beside the target 'y'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name, tmp_path):
    how, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        read(tmp_path, **how)


def test_new_rows_are_found_by_the_names_of_their_columns(tmp_path):
    table = read(tmp_path)
    inputs = learn_inputs(table.rows, table.names, impute=False)
    text = "kind,extra,colour,length\nb,,red,0.5\na,7,green,1"
    rows, truth, notes = read_rows(written(tmp_path / "new.csv", text), inputs, "y", Reading())
    assert (rows.tolist(), truth, notes) == ([[0.5, "red", "b"], [1.0, "green", "a"]], None, ())
    assert inputs.numbers(rows).tolist() == [[0.5, 2.0, 1.0], [1.0, 1.0, 0.0]]
    rows, truth, _ = read_rows(written(tmp_path / "whole.csv", TABLE), inputs, "y", Reading())
    np.testing.assert_array_equal(truth, table.target)
    np.testing.assert_array_equal(inputs.encode(rows), inputs.encode(table.rows))
    blank = "length,colour,kind,y\n1,red,a,\n2,blue,b,"  # to be filled in: no target
    assert read_rows(written(tmp_path / "blank.csv", blank), inputs, "y", Reading())[1] is None
    for text, words in (
        (
            "kind,color,length\nb,red,1\na,red,2",
            "no column 'colour', which the run learnt from; did you rename it 'color'",
        ),
        ("kind,colour,length\nb,bleu,1\na,red,2", "holds 'bleu', which no training row has; did you mean 'blue'"),
        ("kind,colour,length\nb,1,1\na,2,2", "column 'colour' holds '1', which no training row has: blue, green, red"),
        ("kind,colour,length\nb,red,long\na,red,2", "column 'length' holds numbers"),
    ):
        with pytest.raises(ValueError, match=words):
            inputs.encode(read_rows(written(tmp_path / "new.csv", text), inputs, "y", Reading())[0])
    with pytest.raises(
        ValueError, match=r"rows must have shape \(n, 3\), the columns length, colour, kind, got \(1, 2\)"
    ):
        inputs.encode(np.zeros((1, 2)))
    with pytest.raises(ValueError, match="column 'kind' has categories 0 .. 1, got 2"):
        inputs.encode(np.array([[0.0, 1.0, 2.0]]))


def test_a_file_without_a_header_is_read_by_numbers(tmp_path):
    text = "\n".join(f"{k},{k % 4},{k * k / 7}" for k in range(12))
    table = read(tmp_path, text, target="2", task="regression", header="no")
    assert (table.names, table.name) == (("1", "3"), "2")
    inputs = learn_inputs(table.rows, table.names, impute=False)
    path = written(tmp_path / "two.csv", "1,2.5\n3,4.5")
    rows, truth, _ = read_rows(path, inputs, "2", Reading(header="no"))  # as many columns as inputs
    assert (rows.tolist(), truth) == ([[1.0, 2.5], [3.0, 4.5]], None)
    rows, truth, _ = read_rows(written(tmp_path / "three.csv", "1,9,2.5\n3,8,4.5"), inputs, "2", Reading(header="no"))
    assert (rows.tolist(), truth.tolist()) == ([[1.0, 2.5], [3.0, 4.5]], [9.0, 8.0])
    with pytest.raises(ValueError, match="has 1 columns without a header, and the run learnt from columns 1, 3"):
        read_rows(written(tmp_path / "one.csv", "1\n2"), inputs, "2", Reading(header="no"))


def test_a_column_that_is_constant_in_the_training_rows(tmp_path):
    table = read(tmp_path)
    with pytest.raises(ValueError, match="column 'kind' has one value in all training rows"):
        learn_inputs(table.rows[::2], table.names, impute=False)
    inputs = learn_inputs(table.rows[[0, 1, 3, 4]], table.names, impute=False)
    assert inputs.texts[1] == ("green", "red")
    codes = inputs.numbers(table.rows, strict=False)
    assert (codes[:, 1] == -1).tolist() == [k % 3 == 2 for k in range(12)]  # a blue one is neither
