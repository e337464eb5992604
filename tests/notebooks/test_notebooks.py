"""The notebooks run from top to bottom, and their two forms say the same."""

import importlib.util
import subprocess
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(ROOT.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_script_and_the_notebook_agree(path):
    notebook, script = nbformat.read(path, as_version=4), jupytext.read(path.with_suffix(".py"))
    assert [(c.cell_type, c.source) for c in notebook.cells] == [(c.cell_type, c.source) for c in script.cells]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_committed_as_executed(path):
    """The documentation renders what is committed, so every picture must be in it."""
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert all(c.execution_count for c in cells)
    assert not any(o.output_type == "error" or o.get("name") == "stderr" for c in cells for o in c.outputs)
    shown = sum("image/png" in o.get("data", {}) for c in cells for o in c.outputs)
    assert shown == sum(c.source.count("plt.show()") for c in cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_installs_from_a_wheel_or_the_checkout(path, tmp_path, monkeypatch):
    """A name that a package index does not have, or gives to somebody else, is never asked for."""
    first = next(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code")
    install, asked = first[: first.index("import jax\n")], []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda command, check: asked.append(command))
    folder = tmp_path / "checkout" / "notebooks"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    with pytest.raises(AssertionError, match="put a wheel of bridgejax"):
        exec(install, {})
    (tmp_path / "checkout" / "bridgejax").mkdir()
    (tmp_path / "checkout" / "bridgejax" / "__init__.py").touch()
    exec(install, {})
    (folder / "bridgejax-0.1.0-py3-none-any.whl").touch()
    exec(install, {})
    assert [command[-1] for command in asked] == [
        f"{tmp_path}/checkout[run]", f"{folder}/bridgejax-0.1.0-py3-none-any.whl[run]"
    ]  # fmt: skip


RUNS = [pytest.param(path, marks=pytest.mark.slow) for path in NOTEBOOKS]


@pytest.mark.filterwarnings("default")  # the kernel's own libraries
@pytest.mark.parametrize("path", RUNS, ids=[path.stem for path in NOTEBOOKS])
def test_it_runs(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=400, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    if path.stem == "quickstart":  # the tutorials hold their own numbers to their truths, by assertions
        check_quickstart("".join(o.get("text", "") for c in notebook.cells if c.cell_type == "code" for o in c.outputs))


def check_quickstart(text):
    share = float(text.split("share on the right:")[1].split()[0])
    # 512 draws of a Bernoulli(0.7), five standard errors and the discretisation
    assert abs(share - 0.7) < 5 * (0.21 / 512) ** 0.5 + 0.01
    distance, floor = (float(text.split(word)[1].split()[0]) for word in ("energy distance:", "floor:"))
    assert 0 < distance < 10 * floor
