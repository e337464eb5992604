"""The pages that the documentation is made from: every head of a file that a public name comes from stands on one."""

import re
import runpy
import sys
from pathlib import Path

import bridgejax as bj

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_every_head_with_a_source_is_on_a_page():
    made = runpy.run_path(str(DOCS / "conf.py"))
    text = "\n".join(page.read_text() for page in (DOCS / "api").glob("*.rst"))
    heads = re.findall(r"^\.\. automodule:: (\S+)$", text, re.M)
    assert len(heads) == len(set(heads))
    names = re.findall(r"^\.\. auto(?:class|function):: (\S+)$", text, re.M)
    files = {getattr(resolve(name), "__module__", "") for name in names}
    with_sources = {f for f in files if f.startswith("bridgejax.") and "arXiv" in (sys.modules[f].__doc__ or "")}
    assert len(with_sources) > 50
    assert with_sources <= set(heads)
    linked = made["escaped"]("(Chen et al. 2018, arXiv 1806.07366; Song et al. 2021, arXiv\n2011.13456.)")
    assert linked.count("https://arxiv.org/abs/") == 2


def resolve(name):
    found = sys.modules["bridgejax"]
    for part in name.split(".")[1:]:
        found = getattr(found, part)
    return found


def test_every_name_on_a_page_is_in_the_table_of_contents():
    """Not merely there once something else has imported it."""
    pages = [DOCS.parent / "README.md", *DOCS.rglob("*.md"), *(DOCS.parent / "notebooks").rglob("*.md")]
    names = {name for page in pages for name in re.findall(r"\bbj\.([A-Za-z_]\w*)", page.read_text())}
    assert len(names) > 30
    assert names <= set(bj.__all__)
