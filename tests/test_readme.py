"""The README's examples run as they stand."""

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"


@pytest.fixture(scope="module")
def blocks():
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.S)


def test_there_are_examples(blocks):
    assert len(blocks) == 3


def test_examples_run(blocks, digits_run, tmp_path, monkeypatch, capsys):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "digits-diffusion").symlink_to(digits_run)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(blocks[0], "README.md block 1", "exec"), names)
    mean, deviation, *end = capsys.readouterr().out.split()
    # 1000 draws of N(2, 1/4) and 100 steps
    assert abs(float(mean) - 2) < 5 * 0.5 / 1000**0.5 + 0.01
    assert abs(float(deviation) - 0.5) < 5 * 0.5 / 2000**0.5 + 0.02
    assert end == ["[1.]"]
    exec(compile(blocks[1], "README.md block 2", "exec"), names)
    assert names["threes"].shape == names["eights"].shape == (16, 8, 8, 1)
    exec(compile(blocks[2].replace("steps=5000", "steps=20"), "README.md block 3", "exec"), names)
    assert names["points"].shape == (1000, 2)
