"""The guides: their code runs, and they name every method there is."""

import re
from pathlib import Path

import jax
import pytest

import bridgejax as bj
from bridgejax.runs.registry import specs

GUIDES = Path(__file__).resolve().parents[1] / "docs" / "guides"


def test_the_method_of_the_guide_is_trained_and_can_be_named(monkeypatch):
    first, second = re.findall(r"```python\n(.*?)```", (GUIDES / "write_a_method.md").read_text(), re.S)
    names = {"__name__": "guide"}
    exec(compile(first, "write_a_method.md, block 1", "exec"), names)
    assert names["points"].shape == (100, 2)
    exec(compile(second, "write_a_method.md, block 2", "exec"), names)
    assert names["SPEC"].options().sample_steps == 50
    assert isinstance(names["SPEC"], bj.methods.MethodSpec)


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
