"""The examples of the README, and of the guide that goes on from there, run as they stand."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

import bridgejax as bj

ROOT = Path(__file__).resolve().parents[1]
README, LIBRARY = ROOT / "README.md", ROOT / "docs" / "guides" / "library.md"


@pytest.fixture(scope="module")
def blocks():
    text = README.read_text() + LIBRARY.read_text()
    return re.findall(r"```python\n(.*?)```", text, re.S)


def test_there_are_examples(blocks):
    assert len(blocks) == 8


def test_examples_run(blocks, digits_run, tmp_path, monkeypatch, capsys):
    (tmp_path / "runs").mkdir()
    for name in ("digits-diffusion", "a", "b"):
        (tmp_path / "runs" / name).symlink_to(digits_run)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(blocks[0], "README.md block 1", "exec"), names)
    assert capsys.readouterr().out.split() == ["2.01", "0.5", "[1.]"]  # as its comments say
    exec(compile(blocks[1], "README.md block 2", "exec"), names)
    assert names["threes"].shape == names["eights"].shape == (16, 8, 8, 1)
    exec(compile(blocks[2].replace("1000", "8").replace("100", "10"), "README.md block 3", "exec"), names)
    assert names["x"].shape == (8, 8, 8, 1)
    exec(compile(blocks[3].replace("steps=5000", "steps=20"), "README.md block 4", "exec"), names)
    assert names["points"].shape == (1000, 2)
    exec(compile(blocks[4], "README.md block 5", "exec"), names)
    assert capsys.readouterr().out.split("\n")[-4:] == ["(4, 2)"] * 3 + [""]
    exec(compile(blocks[5], "README.md block 6", "exec"), names)
    estimate, truth = map(float, capsys.readouterr().out.split())
    assert abs(truth - math.log(2 * math.pi)) < 1e-5
    assert float(names["bj"].weights.ess(names["log_w"])) > 0.1
    assert abs(estimate - truth) < 5 * float(names["bj"].weights.log_z_error(names["log_w"]))
    # the spring is linear, so the mean of Euler's own recursion is the mean of the samples
    q, v = 0.0, 0.0
    for k in range(10):
        q, v = q + 0.1 * v, v + 0.1 * (-q - v + 2**0.5 * (1 - 0.1 * k))
    position = names["position"]
    assert abs(float(position.mean()) - q) < 5 * float(position.std()) / 4096**0.5
    exec(compile(blocks[6], "README.md block 7", "exec"), names)
    assert capsys.readouterr().out.split() == [
        "0.81",
        "-2.74",
    ]  # as its comments say; -2.7259 by the grid of oracles, s.e. 0.008
    assert np.allclose(names["paths"][:, -1], 1.0, atol=1e-5)
    exec(compile(blocks[7].replace("steps=200", "steps=20"), "README.md block 8", "exec"), names)
    estimate, error, ess, truth = map(float, capsys.readouterr().out.split())
    assert ess > 0.1
    assert abs(estimate - truth) < 5 * error


def test_the_names_in_the_table_are_there():
    text = LIBRARY.read_text()
    table = text[text.index("## What is there") :]
    for code in set(re.findall(r"`([^` ]+)`|`([^`]*{[^`]*)`", table)):
        within, _, several = "".join(code).partition(".{")
        for name in several.rstrip("}").split(", ") if several else [within]:
            found = bj
            for part in f"{within}.{name}".split(".") if several else name.split("."):
                found = getattr(found, part)
