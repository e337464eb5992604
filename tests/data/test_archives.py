"""NumPy's files are read by their headers, and what is not as they declare is refused."""

import io
import struct
import zipfile

import numpy as np
import pytest

from bridgejax.data import load
from bridgejax.data.archives import headers, read_arrays

X = np.random.default_rng(0).normal(size=(20, 2))


def _bytes(x, version=None):
    file = io.BytesIO()
    np.lib.format.write_array(file, x, version)
    return file.getvalue()


def _declared(text, version=b"\x01\x00"):
    return b"\x93NUMPY" + version + struct.pack("<H" if version[0] == 1 else "<I", len(text)) + text


@pytest.mark.fast
def test_headers_say_what_there_is(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=X.astype(np.float32), y=np.arange(20))
    found = headers(tmp_path / "a.npz")
    assert {name: (h.shape, str(h.dtype)) for name, h in found.items()} == {
        "x": ((20, 2), "float32"),
        "y": ((20,), "int64"),
    }
    assert found["x"].need() == 40 * (4 + 24)
    np.testing.assert_array_equal(read_arrays(tmp_path / "a.npz", ["y"])["y"], np.arange(20))
    (tmp_path / "b.npy").write_bytes(_bytes(np.asfortranarray(X), (2, 0)))
    np.testing.assert_array_equal(read_arrays(tmp_path / "b.npy", ["x"])["x"], X)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (_bytes(X) + b"more", "has 4 bytes after its array, which nobody would read"),
        (_bytes(X) + _bytes(X), "of several arrays in one file make a .npz file with np.savez"),
        (_bytes(X)[:-1], "is cut short: it has 447 bytes, and its header declares 448"),
        (_declared(b" " * 200_000, b"\x02\x00"), "has a header of 200000 bytes"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "has a header of 4294967295 bytes"),
        (_declared(b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 2)}\n"), r"has the shape \(-1, 2\)"),
        (_declared(b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999,)}\n"), "is cut short"),
        (_declared(b"{'descr': '<U0', 'fortran_order': False, 'shape': (99999999999,)}\n"), "GB of memory to read"),
        (_declared(b"{'descr': 'O', 'fortran_order': False, 'shape': (2,)}\n"), "never unpickled"),
        (_declared(b"__import__('os').system('true')\n"), "is damaged or no NumPy file"),
        (_declared(b"(" * 9000 + b"\n"), "is damaged or no NumPy file"),
        (_bytes(np.zeros(3, [("é", "f4")]), (3, 0)), "has named fields"),
        (b"\x93NUMPY\x01", "no NumPy file"),
    ],
)
def test_what_is_not_as_declared(tmp_path, content, words):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        load(tmp_path / "a.npy")
    assert "a.npy" in str(caught.value)


def _zipped(path, *members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("x.npy", _bytes(X)), ("x.npy", _bytes(X + 1))], "holds two arrays named 'x'"),
        ([("x.npy", _bytes(X)), ("x", _bytes(X + 1))], "holds two arrays named 'x'"),
        ([("x.npy", _bytes(X) + b"more")], "has 4 bytes after its array"),
        ([("x.npy", _bytes(X)[:-8])], "its member 'x' has 440 bytes"),
        ([("x.txt", b"words")], "holds nothing"),
        ([("x.npy", _declared(b" " * 200_000, b"\x02\x00"))], "its member 'x' has a header of 200000 bytes"),
    ],
)
def test_archives_that_are_not_as_declared(tmp_path, members, words):
    with pytest.raises(ValueError, match=words):
        load(_zipped(tmp_path / "a.npz", *members))


def test_a_directory_of_members_that_lies(tmp_path):
    """The sizes in the directory of an archive are only claims: no more is unpacked than they say, and less is said."""
    content = _zipped(tmp_path / "a.npz", ("x.npy", _bytes(np.zeros((1000, 2))))).read_bytes()
    true = struct.pack("<I", len(_bytes(np.zeros((1000, 2)))))
    for claim in (448, 2**31 - 1):
        (tmp_path / "b.npz").write_bytes(content.replace(true, struct.pack("<I", claim)))
        with pytest.raises(ValueError, match="b.npz"):
            load(tmp_path / "b.npz")


def test_members_that_are_no_arrays_are_passed_over(tmp_path):
    path = _zipped(tmp_path / "a.npz", ("README.txt", b"words"), ("samples.npy", _bytes(X)), ("empty", b""))
    np.testing.assert_array_equal(load(path).values, X)
    with pytest.raises(ValueError, match="holds 'a', 'b'; expected the samples under the name 'x'"):
        load(_zipped(tmp_path / "b.npz", ("a.npy", _bytes(X)), ("b.npy", _bytes(X))))
