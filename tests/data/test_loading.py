"""``load`` reads what it says it reads, and says in one sentence what is wrong with everything else."""

import io
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bridgejax.data import NAMES, load, named, toys

RNG = np.random.default_rng(0)
X = RNG.normal(3.0, 2.0, (20, 2)).astype(np.float32)


def raw(data):
    return data.destandardise(data.x)


def save_images(folder, pictures, suffix=".png"):
    folder.mkdir(parents=True, exist_ok=True)
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{i:03d}{suffix}")


# --- names --------------------------------------------------------------------------------------------------


@pytest.mark.fast
@pytest.mark.parametrize("name", toys.NAMES)
def test_toys_are_the_raw_draw_standardised(name):
    data = load(name, seed=5, num=400)
    assert data.name == name
    assert data.kind == "points"
    np.testing.assert_allclose(raw(data), toys.sample(name, 5, 400), atol=1e-5)
    np.testing.assert_allclose(data.x.std(axis=0), 1, atol=1e-5)


def test_toys_have_ten_thousand_points_by_default():
    assert len(load("moons")) == 10_000


def test_digits():
    data = load("digits")
    assert data.x.shape == (1797, 8, 8, 1)
    assert data.kind == "image"
    assert data.num_classes == 10
    assert data.classes == tuple("0123456789")
    assert data.x.min() == -1
    assert data.x.max() == 1
    from sklearn.datasets import load_digits

    bunch, target = load_digits(return_X_y=True)
    np.testing.assert_allclose(raw(data).reshape(1797, 64), bunch, atol=1e-6)
    np.testing.assert_array_equal(data.labels, target)


def test_num_draws_rows_without_replacement_by_seed():
    whole, part = load("digits"), load("digits", num=500, seed=1)
    assert len(np.unique(part.x.reshape(500, -1), axis=0)) == 500
    assert {r.tobytes() for r in part.x} <= {r.tobytes() for r in whole.x}
    np.testing.assert_array_equal(part.x, load("digits", num=500, seed=1).x)
    assert not np.array_equal(part.x, load("digits", num=500, seed=2).x)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("moon", "moons"),
        ("Moons", "moons"),
        ("8gaussian", "8gaussians"),
        ("swiss_roll", "swissroll"),
        ("digit", "digits"),
    ],
)
def test_an_unknown_name_names_the_nearest(name, near):
    with pytest.raises(ValueError, match=f"did you mean '{near}'"):
        load(name)


@pytest.mark.parametrize("name", ["", " ", "qqqqqq", "x" * 5000])
def test_an_unknown_name_lists_what_there_is(name):
    with pytest.raises(ValueError, match="Data sets: moons") as caught:
        load(name)
    assert len(str(caught.value)) < 500
    assert all(known in str(caught.value) for known in NAMES)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num": 1}, "num must be an integer >= 2"),
        ({"num": 2.5}, "num must"),
        ({"num": True}, "num must"),
        ({"seed": -1}, "seed must"),
        ({"seed": "a"}, "seed must"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        load("moons", **arguments)


def test_more_rows_than_there_are():
    with pytest.raises(ValueError, match="num is 1798, but digits has 1797"):
        load("digits", num=1798)
    with pytest.raises(ValueError, match="name or a path"):
        load(3)  # type: ignore[arg-type]


# --- arrays -------------------------------------------------------------------------------------------------


@pytest.mark.fast
def test_npy(tmp_path):
    np.save(tmp_path / "a.npy", X)
    data = load(tmp_path / "a.npy")
    assert data.labels is None
    np.testing.assert_allclose(raw(data), X, atol=1e-5)
    np.testing.assert_array_equal(load(str(tmp_path / "a.npy")).x, data.x)


@pytest.mark.parametrize("arrays", [{"x": X, "other": X[:3]}, {"samples": X}])
@pytest.mark.parametrize("labels", [None, "y", "labels"])
def test_npz(tmp_path, arrays, labels):
    y = np.arange(20) % 3
    np.savez(tmp_path / "a.npz", **arrays, **({labels: y} if labels else {}))
    data = load(tmp_path / "a.npz")
    np.testing.assert_allclose(raw(data), X, atol=1e-5)
    if labels:
        np.testing.assert_array_equal(data.labels, y)
    else:
        assert data.labels is None


def test_a_relative_path_a_home_path_and_a_file_named_like_a_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    np.save("a.npy", X)
    save_images(tmp_path / "moons", np.zeros((3, 4, 4), np.uint8))
    assert len(load("a.npy")) == 20
    assert len(load("~/a.npy")) == 20
    assert load("moons", num=10).kind == "points"
    assert load("./moons").kind == "image"


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, "holds nothing"),
        ({"a": X, "b": X}, "holds 'a', 'b'; expected the samples under the name 'x'"),
        ({"labels": X}, "expected the samples"),
        ({"x": X, "y": np.arange(19)}, r"expected one per sample, shape \(20,\)"),
        ({"x": X, "y": np.arange(20), "labels": np.arange(20)}, "both 'y' and 'labels'"),
        ({"x": np.array([1, "a", None], dtype=object)}, "never unpickled"),
        ({"x": X, "y": np.array(["a"] * 19 + [None], dtype=object)}, "never unpickled"),
    ],
)
def test_bad_npz(tmp_path, arrays, words):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=words) as caught:
        load(tmp_path / "a.npz")
    assert "a.npz" in str(caught.value)


class Trap:
    """Unpickling this would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_nothing_is_ever_unpickled(tmp_path, suffix):
    trap = np.array([Trap(tmp_path / "sprung")] * 3, dtype=object)
    for content in (pickle.dumps(trap), _numpy_bytes(trap, suffix)):
        (tmp_path / f"a{suffix}").write_bytes(content)
        with pytest.raises(ValueError, match="never unpickled"):
            load(tmp_path / f"a{suffix}")
    assert not (tmp_path / "sprung").exists()


def _numpy_bytes(array, suffix):
    buffer = io.BytesIO()
    if suffix == ".npy":
        np.save(buffer, array, allow_pickle=True)
    else:
        np.savez(buffer, x=array)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@given(data=st.data())
@settings(max_examples=120, deadline=None)
def test_a_damaged_array_file_is_one_sentence(suffix, data):
    """Cut short, or with bytes changed: a ValueError that names the file, or (harmless damage) a finite data set."""
    good = bytearray(_numpy_bytes(X, suffix))
    if data.draw(st.booleans(), label="truncate"):
        good = good[: data.draw(st.integers(0, len(good) - 1), label="length")]
    else:
        for _ in range(data.draw(st.integers(1, 8), label="changes")):
            good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    _only_value_errors(bytes(good), suffix)


def _only_value_errors(content, suffix):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"damaged{suffix}"
        path.write_bytes(content)
        loaded, said = _load_or_sentence(path)
    if loaded is None:
        assert f"damaged{suffix}" in said
    else:
        assert np.isfinite(loaded.x).all()


def _load_or_sentence(path):
    """The data set, or the sentence of the ValueError; any other exception fails the test."""
    try:
        return load(path), ""
    except ValueError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 700
    return None, said


# --- csv ----------------------------------------------------------------------------------------------------


@given(
    rows=st.lists(
        st.lists(st.floats(-1e30, 1e30, allow_subnormal=False), min_size=3, max_size=3), min_size=2, max_size=8
    ),
    separator=st.sampled_from([",", ";", "\t"]),
    header=st.sampled_from(["", "a{0}b{0}c\n", "# note\n", "# note, two\n\nx y{0}{0}z\n", '\ufeffa{0}b{0}"c\nd"\n']),
    ending=st.sampled_from(["\n", "\r\n"]),
)
@settings(max_examples=80, deadline=None)
def test_csv_round_trip(rows, separator, header, ending):
    text = header.format(separator) + "\n".join(separator.join(repr(v) for v in row) for row in rows) + "\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_bytes(text.replace("\n", ending).encode())
        data = load(path)
    assert len(data) == len(rows)
    assert data.columns[:1] == (() if "{0}" not in header else ("x y",) if "x y" in header else ("a",))
    # x is float32: its rounding in units of the column's deviation; below 1.2e-38 a spread counts as none.
    atol = 3e-7 * data.scale * np.abs(data.x).max() + 1.2e-37
    assert (np.abs(raw(data) - rows) <= atol + 1e-9 * np.abs(rows)).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n\n", "0 rows"),
        ("# only a note\n", "0 rows"),
        ("a,b\n", "0 rows under its header"),
        ("a,b\n1,2\n", "1 row"),
        ("1,2\n", "1 row"),
        ("1,2\n3\n", "ragged: line 2 has 1 cells, line 1 has 2"),
        ("# note\n\na,b\n1,2\n3,4,5\n", "ragged: line 5 has 3 cells, line 3 has 2"),
        ("a,b\n1,2\n3,x\n", "line 3, column 'b' holds 'x', which is not a number"),
        ("1,2\n3,x\n", "line 2, column 2 holds 'x'"),
        ("1,b\n3,4\n", "line 1, column 2 holds 'b'"),
        ("a,b\nc,d\n1,2\n", "line 2, column 'a' holds 'c'"),
        ("a,b\n1,\n3,4\n", "line 2, column 'b' is empty"),
        ("a,b\n,\n3,4\n", "line 2, column 'a' is empty"),
        ("a,b\n1,nan\n3,4\n", "holds 'nan', which is not a finite"),
        ("a,b\n1,-Inf\n3,4\n", "not a finite"),
        ("a,b\n1,1e999\n3,4\n", "not a finite"),
        ("a,b\n1,1e39\n3,4\n", "float32 cannot"),
        ("a,b\n1,1_000\n3,4\n", "holds '1_000'"),
        ("a;b\n1,5;2,5\n3;4\n", "column 'a' holds '1,5'"),
        ("a,b\n1,\x00\n3,4\n", "column 'b' holds|readable"),
        ("a\n" + '"' + "x" * 200_000 + '"\n', "readable csv|not a number|0 rows"),
    ],
)
def test_bad_csv(tmp_path, text, words):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        load(tmp_path / "a.csv")
    assert "a.csv" in str(caught.value)


def test_csv_in_another_encoding(tmp_path):
    (tmp_path / "a.csv").write_bytes("hö,b\n1,2\n3,4\n".encode("latin-1"))
    with pytest.raises(ValueError, match="save it as UTF-8"):
        load(tmp_path / "a.csv")


@given(st.one_of(st.binary(max_size=200), st.text("0123456789.,;\t-+eE#\"'\n\rnaif_ ", max_size=200).map(str.encode)))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_data_set_or_one_sentence(content):
    _only_value_errors(content, ".csv")


# --- images -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".PNG"])
def test_a_folder_of_grey_images(tmp_path, suffix):
    pictures = RNG.integers(0, 256, (6, 5, 4)).astype(np.uint8)
    save_images(tmp_path / "a", pictures, suffix)
    (tmp_path / "a" / "README.txt").write_text("not an image")
    (tmp_path / "a" / ".hidden.png").write_text("not an image")
    data = load(tmp_path / "a")
    assert data.kind == "image"
    assert data.shape == (5, 4, 1)
    assert data.labels is None
    np.testing.assert_allclose(raw(data)[..., 0], pictures, atol=1e-4)


def test_classes_are_subfolders_and_colour_wins_over_grey(tmp_path):
    cats = RNG.integers(0, 256, (3, 4, 4, 3)).astype(np.uint8)
    dogs = RNG.integers(0, 256, (2, 4, 4)).astype(np.uint8)
    save_images(tmp_path / "dog", dogs)
    save_images(tmp_path / "cat", cats)
    (tmp_path / ".cache").mkdir()
    data = load(tmp_path)
    assert data.classes == ("cat", "dog")
    np.testing.assert_array_equal(data.labels, [0, 0, 0, 1, 1])
    np.testing.assert_allclose(raw(data)[:3], cats, atol=1e-4)
    np.testing.assert_allclose(raw(data)[3:], np.repeat(dogs[..., None], 3, -1), atol=1e-4)


def test_a_black_folder_keeps_the_range_of_8_bits(tmp_path):
    save_images(tmp_path, np.zeros((2, 4, 4), np.uint8))
    np.testing.assert_array_equal(load(tmp_path).x, -1)


def test_jpeg_palette_and_alpha(tmp_path):
    rgb = np.full((8, 8, 3), (200, 100, 50), np.uint8)
    Image.fromarray(rgb).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(rgb).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "b.png")
    Image.fromarray(np.dstack([rgb, np.full((8, 8), 9, np.uint8)])).save(tmp_path / "c.png")
    values = raw(load(tmp_path))
    assert values.shape == (3, 8, 8, 3)
    np.testing.assert_allclose(values, np.broadcast_to(rgb, values.shape), atol=4)  # jpeg is lossy


def test_the_orientation_tag_is_obeyed(tmp_path):
    picture = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4) * 20)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate 90 degrees clockwise to view
    for name in ("a.png", "b.png"):
        picture.save(tmp_path / name, exif=exif)
    np.testing.assert_allclose(raw(load(tmp_path))[0, ..., 0], np.rot90(np.asarray(picture), -1), atol=1e-4)


def test_images_of_different_sizes(tmp_path):
    save_images(tmp_path, [np.zeros((4, 4), np.uint8), np.zeros((4, 6), np.uint8)])
    with pytest.raises(ValueError, match="001.png is 4 x 6, 000.png is 4 x 4"):
        load(tmp_path)


def test_bad_folders(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no images"):
        load(tmp_path / "empty")
    save_images(tmp_path / "mixed", np.zeros((2, 4, 4), np.uint8))
    save_images(tmp_path / "mixed" / "cat", np.zeros((2, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="images \\(000.png, ...\\) and subfolders \\(cat, ...\\)"):
        load(tmp_path / "mixed")
    save_images(tmp_path / "bare" / "cat", np.zeros((2, 4, 4), np.uint8))
    (tmp_path / "bare" / "dog").mkdir()
    with pytest.raises(ValueError, match="dog holds no images"):
        load(tmp_path / "bare")
    save_images(tmp_path / "one", np.zeros((1, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="1 row"):
        load(tmp_path / "one")
    save_images(tmp_path / "deep", np.zeros((2, 4, 4), np.uint16))
    with pytest.raises(ValueError, match="000.png is no readable image.*8 bits"):
        load(tmp_path / "deep")


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_image_is_one_sentence(data):
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (6, 6, 3)).astype(np.uint8)).save(buffer, "PNG")
    content = buffer.getvalue()[: data.draw(st.integers(0, len(buffer.getvalue()) - 1))]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.png").write_bytes(buffer.getvalue())
        (Path(folder) / "b.png").write_bytes(content)
        loaded, said = _load_or_sentence(folder)
    if loaded is None:
        assert "b.png is no readable image" in said
    else:  # all pixels were there, only the end mark was not
        assert loaded.shape == (6, 6, 3)


# --- what is not there, and what may not be read ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["no.npy", "no/such.csv", "no/folder", "no.png"])
def test_missing(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="does not exist; expected a .npy, .npz, .csv, .tsv, .parquet file or"):
        load(f"{tmp_path}/{name}")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load(tmp_path / name)


def test_a_path_through_a_file_is_missing(tmp_path):
    np.save(tmp_path / "a.npy", X)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load(tmp_path / "a.npy" / "b.npy")


def test_other_types(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.xlsx").write_text("x")
    (tmp_path / "noext").write_text("x")
    for name, words in (("a.png", "give the folder"), ("a.xlsx", "'.xlsx'"), ("noext", "(none)")):
        with pytest.raises(ValueError, match=words):
            load(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ValueError, match="neither a file nor a folder"):
        load(tmp_path / "pipe.csv")


@pytest.mark.parametrize("path", ["/tmp/a\0b.npy", "/" + "a" * 300 + ".npy"])
def test_impossible_paths(path):
    with pytest.raises(ValueError, match="no usable path"):
        load(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv"])
def test_empty_files(tmp_path, suffix):
    (tmp_path / f"a{suffix}").touch()
    with pytest.raises(ValueError, match="is empty"):
        load(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("what", ["a.npy", "a.csv", "folder"])
def test_no_permission(tmp_path, what, monkeypatch):
    """Root may read everything, so the refusal is the operating system's only for others."""
    path = tmp_path / what
    if what == "folder":
        save_images(path, np.zeros((2, 4, 4), np.uint8))
    else:
        path.write_text("1,2\n3,4\n")
    path.chmod(0)
    if os.access(path, os.R_OK):

        def refuse(*args, **kwargs):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr("builtins.open", refuse)
        monkeypatch.setattr(Path, "iterdir", refuse)
    try:
        with pytest.raises(PermissionError, match=f"{what} may not be read"):
            load(path)
    finally:
        path.chmod(0o700)


def test_no_permission_for_the_parent(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(PermissionError, match="a.npy may not be read"):
        load(tmp_path / "a.npy")


def test_importing_pulls_in_no_extra():
    code = (
        "import sys, bridgejax.data, bridgejax.metrics, bridgejax.couplings\n"
        "print([m for m in ('sklearn', 'PIL', 'matplotlib', 'scipy.optimize._lsap', 'tqdm') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_table_of_names_is_what_can_be_drawn():
    assert named.TOYS == tuple(toys._TOYS)
    assert NAMES == (*toys.NAMES, "digits")


def test_what_is_lost_of_images_is_said_or_refused(tmp_path):
    rgb = RNG.integers(0, 256, (4, 4, 3)).astype(np.uint8)
    alpha = Image.fromarray(np.dstack([rgb, np.full((4, 4), 9, np.uint8)]))
    for k, picture in enumerate((Image.fromarray(rgb), alpha, alpha.convert("LA"))):
        (tmp_path / "a").mkdir(exist_ok=True)
        picture.save(tmp_path / "a" / f"{k}.png")
    assert load(tmp_path / "a").notes[0].startswith("2 of 3 images of")
    assert "transparency (alpha), which is dropped" in load(tmp_path / "a").notes[0]
    save_images(tmp_path / "b", [rgb, rgb])
    assert load(tmp_path / "b").notes == ()
    (tmp_path / "c").mkdir()
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in 257 * rgb.astype(int))
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts]
    (tmp_path / "c" / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    with pytest.raises(ValueError, match="deep.png is no readable image.*more than 8 bits a channel"):
        load(tmp_path / "c")
    (tmp_path / "d").mkdir()
    Image.fromarray(rgb).save(tmp_path / "d" / "a.eps")  # of which pillow makes pixels by starting a program
    (tmp_path / "d" / "a.eps").rename(tmp_path / "d" / "a.png")
    with pytest.raises(ValueError, match="a.png is no readable image"):
        load(tmp_path / "d")
