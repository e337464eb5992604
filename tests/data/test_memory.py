"""Reading is refused by what headers declare, before anything is allocated, and takes no more than was said."""

import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from bridgejax.cli import main
from bridgejax.data import load, memory
from bridgejax.data.reading import Reading
from bridgejax.data.snapshots import read_snapshots


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GB", 4_000_000_000), ("1.5 gib", 3 * 2**29), ("500 MB", 500_000_000), ("2k", 2000), (123, 123), ("7b", 7)],
)
def test_sizes(text, size):
    assert memory.bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0", "4GBs", "1e9", "4iB", "9" * 40, True, None, "nan"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="max_memory must be a size such as 4GB"):
        memory.bytes_of(text)


def test_the_limit_is_what_was_asked_for_then_the_variable_then_half_of_the_machine(monkeypatch):
    monkeypatch.delenv(memory.VARIABLE, raising=False)
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < memory.limit() <= physical / 2
    monkeypatch.setenv(memory.VARIABLE, "3MB")
    assert memory.limit() == 3_000_000
    with memory.at_most("2MB"):
        assert memory.limit() == 2_000_000
        with memory.at_most(""):
            assert memory.limit() == 2_000_000
    assert memory.limit() == 3_000_000
    monkeypatch.setenv(memory.VARIABLE, "lots")
    with pytest.raises(ValueError, match=f"{memory.VARIABLE} must be a size"):
        memory.limit()


def _npy(path):
    np.save(path, np.zeros((200_000, 10)))


def _npz(path):
    np.savez_compressed(path, x=np.zeros((200_000, 10)), y=np.arange(200_000) % 3)


def _images(path):
    path.mkdir()
    for k in range(3):
        Image.new("L", (2000, 2000)).save(path / f"{k}.png")


def _csv(path):
    path.write_text("1.5,2\n" * 400_000)


FILES = {"a.npy": _npy, "a.npz": _npz, "images": _images, "a.csv": _csv}


@pytest.mark.parametrize("name", FILES)
def test_what_declares_too_much_is_refused_with_its_size_before_it_is_read(tmp_path, name):
    FILES[name](tmp_path / name)
    (tmp_path / "small.csv").write_text("1.5,2\n" * 9)
    load(tmp_path / "small.csv")  # imports what reads tables, once in a process: not what is measured
    tracemalloc.start()
    try:
        with pytest.raises(
            ValueError, match=r"takes about [\d.]+ MB of memory to read, and 2.0 MB may be used"
        ) as caught:
            load(tmp_path / name, max_memory="2MB")
        assert tracemalloc.get_traced_memory()[1] < 1_500_000
    finally:
        tracemalloc.stop()
    assert "--max-memory" in str(caught.value)
    assert name in str(caught.value)
    assert len(load(tmp_path / name, max_memory="1GB")) >= 3


@pytest.mark.parametrize("name", FILES)
def test_reading_takes_no_more_than_was_said(tmp_path, name):
    """The peak of a process of its own, beside what the libraries take for a small file of the kind.

    The memory pools of pyarrow's threads take up to 30 MB more, whatever the size of the file.
    """
    FILES[name](tmp_path / name)
    code = (
        "import sys, numpy as np\n"
        "from bridgejax.data import load, memory\n"
        "said = []\n"
        "memory_check = memory.check_memory\n"
        "def peak(): return 1024 * int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
        "from bridgejax.data import archives, files, images, sheets\n"
        "def noted(need, *rest): said.append(need); memory_check(need, *rest)\n"
        "for module in (archives, files, images, sheets): module.check_memory = noted\n"
        "load('moons', num=10); load(sys.argv[1]); before = peak(); said.clear()\n"
        "load(sys.argv[2])\n"
        "print(peak() - before, max(said))"
    )
    small = tmp_path / f"small-{name}"
    if name == "images":
        small.mkdir()
        for k in range(3):
            Image.new("L", (8, 8)).save(small / f"{k}.png")
    elif name == "a.npz":
        np.savez_compressed(small, x=np.eye(3))
    elif name == "a.npy":
        np.save(small, np.eye(3))
    else:
        small.write_text("a,b\n1.5,2\n2.5,3\n")
    done = subprocess.run(
        [sys.executable, "-c", code, small, tmp_path / name], capture_output=True, text=True, check=True
    )
    took, said = map(float, done.stdout.split())
    assert took < said + (30e6 if name == "a.csv" else 2e6)


def test_members_that_are_not_used_cost_nothing(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.eye(9), other=np.zeros(10_000_000))
    tracemalloc.start()
    try:
        assert len(load(tmp_path / "a.npz", max_memory="1MB")) == 9
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_snapshots_and_one_image_among_small_ones(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((100_000, 2)), times=np.arange(100_000) % 3)
    with memory.at_most("1MB"), pytest.raises(ValueError, match=r"x \(an array of shape.*1.0 MB may be used"):
        read_snapshots(str(tmp_path / "a.npz"), "time", Reading())
    for k, side in enumerate((8, 3000)):
        Image.new("RGB", (side, side)).save(tmp_path / f"{k}.png")
    with pytest.raises(ValueError, match="1.png declares 3000 x 3000 pixels, which takes about 216 MB"):
        load(tmp_path, max_memory="100MB", resize="8")


def test_the_command_line_takes_a_limit(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.zeros((1000, 2)))
    out = str(tmp_path / "run")
    assert main(["train", "--data", str(tmp_path / "a.npy"), "--max-memory", "20kB", "--out", out]) == 1
    assert "20.0 kB may be used" in capsys.readouterr().err
    assert not os.path.exists(out)
    assert main(["train", "--data", str(tmp_path / "a.npy"), "--max-memory", "some", "--out", out]) == 1
    assert "max_memory must be a size" in capsys.readouterr().err


def test_settings_that_stand_for_gigabytes(tmp_path, capsys):
    """Nine aliases of ten aliases each are 10^9 words when they are printed."""
    lines = ["a0: &a0 [lol]"] + [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 10)]
    for text, words in (("\n".join(lines), "has an alias"), ("[" * 5000, "nested too deeply|parsing|expected")):
        (tmp_path / "c.yaml").write_text(text)
        assert main(["train", "--config", str(tmp_path / "c.yaml")]) == 1
        said = capsys.readouterr().err
        assert any(word in said for word in words.split("|")), said[:200]
