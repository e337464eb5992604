"""The guides: their code runs, and they name every method there is."""

import re
import sys
import types
from pathlib import Path

import jax
import pytest

import bridgejax as bj
from bridgejax.cli.main import main
from bridgejax.runs import registry
from bridgejax.runs.registry import specs

GUIDES = Path(__file__).resolve().parents[1] / "docs" / "guides"


class Entry:
    """What importlib.metadata gives for an entry point."""

    def __init__(self, found):
        self.value, self.load = "my_package.flows:SPEC", lambda: found


def written(monkeypatch):
    """The names of write_a_method.md, a module of its reader's, after each of its blocks."""
    guide = types.ModuleType("my_package.flows")
    monkeypatch.setitem(sys.modules, guide.__name__, guide)
    for k, block in enumerate(re.findall(r"```python\n(.*?)```", (GUIDES / "write_a_method.md").read_text(), re.S)):
        exec(compile(block, f"write_a_method.md, block {k + 1}", "exec"), guide.__dict__)
        yield guide


def test_what_the_guide_writes_is_trained_tested_and_can_be_typed(monkeypatch, tmp_path, capsys):
    blocks = written(monkeypatch)
    assert next(blocks).points.shape == (100, 2)
    *_, guide = blocks  # its own asserts: the law of the method's samples, the domain's, and where bridges end
    assert guide.points.shape == (100, 2)
    monkeypatch.setattr(registry.metadata, "entry_points", lambda group: [Entry(guide.SPEC)])
    registry.specs.cache_clear()
    out, other = str(tmp_path / "run"), str(tmp_path / "other")
    try:
        words = ["--data", "moons", "--steps", "4", "--num", "20", "--width", "8", "--depth", "1"]
        assert main(["train", "straight_flow", *words, "--out", out, "--sample-steps", "7"]) == 0
        assert main(["train", "straight_flow", *words, "--out", other, "--accumulate", "3"]) == 1  # heard: 128 / 3
        assert "accumulate=3 micro-batches do not divide" in capsys.readouterr().err
        assert main(["sample", out, "--num", "2", "--steps", "3"]) == 0
        run, coarse = bj.load(out), bj.load(out, sample_steps=3)
    finally:
        registry.specs.cache_clear()
    assert (run.process.ts.size, coarse.process.ts.size) == (8, 4)


def test_every_method_is_in_the_table_of_choices():
    text = (GUIDES / "choose_a_method.md").read_text()
    for name in specs():
        assert f"`{name}`\\*" in text, name  # a star: it can be typed
    for name in ("gsbm", "dis", "pis", "dds", "cmcd", "underdamped", "conditioned"):
        assert f"`{name}`" in text
        assert f"`{name}`\\*" not in text


@pytest.mark.parametrize("page", sorted(path.name for path in GUIDES.glob("*.md")))
def test_what_the_guides_name_is_there(page):
    """``bj.x.y`` in code is an attribute."""
    for dotted in re.findall(r"\bbj\.([\w.]*\w)", (GUIDES / page).read_text()):
        found = bj
        for part in dotted.split("."):
            found = getattr(found, part)


def test_tables_of_solvers_and_grids_name_what_there_is():
    text = (GUIDES / "solvers_and_grids.md").read_text()
    for name in re.findall(r"grids\.(\w+)", text):
        assert callable(getattr(bj.grids, name))
    for name in ("DPMSolverPP2M", "DPMSolverPP3M", "UniPC", "Heun", "ExponentialEuler", "PredictorCorrector", "Euler"):
        assert f"`{name}(" in text
        assert hasattr(bj.solvers, name)
    assert jax.numpy.all(jax.numpy.diff(bj.grids.karras(18)) > 0)
