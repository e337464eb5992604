"""Sphinx: the API from the docstrings, the tutorials from the notebooks as committed. No network, no computation.

Pages that are made from something else are written at every build into api/ and tutorials/, which git ignores.
"""

import inspect
import re
import shutil
import sys
import types
from importlib import import_module
from pathlib import Path

import bridgejax

HERE = Path(__file__).parent

project = "bridgejax"
author = "the bridgejax authors"
copyright = author
version = release = bridgejax.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["_build", "jupyter_execute"]
html_theme = "furo"
html_title = "bridgejax"
html_copy_source = False
default_role = "code"

nb_execution_mode = "off"  # the tests execute them
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say shapes and roles
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False


# pages that are made -----------------------------------------------------------------------------------------------

ROOMS = {
    "processes": "make: SDEs, schedules, mixtures",
    "bridges": "bend: SDE to SDE",
    "geometry": "domains and manifolds",
    "solve": "run: solvers, grids, simulation",
    "weigh": "weigh: path weights, likelihood, populations, MCMC",
    "objectives": "learn: losses",
    "networks": "learn: networks",
    "training": "learn: fit, checkpoints",
    "methods": "learn: systems",
    "runs": "a run from words: load",
    "data": "data sets and batches",
    "couplings": "pairing two samples",
    "metrics": "distances between samples",
    "evaluation": "reports with floors",
    "gp": "Gaussian processes",
    "oracles": "closed-form truths",
    "applications.autonomy": "a copilot from demonstrations",
    "applications.evolution": "multi-objective search in pymoo",
    "applications.speech": "speech enhancement of wav files",
}


def copy_notebooks():
    """The notebooks live beside the tests that run them."""
    folder = HERE / "tutorials"
    folder.mkdir(exist_ok=True)
    for notebook in sorted((HERE.parent / "notebooks").glob("*.ipynb")):
        shutil.copyfile(notebook, folder / notebook.name)


def directive(where, name, value):
    """The autodoc directive of one public name."""
    kind = "class" if inspect.isclass(value) else "function" if callable(value) else "data"
    lines = [f".. auto{kind}:: {where}.{name}"]
    if kind == "class" and not issubclass(value, BaseException):
        fields = ", ".join(getattr(value, "_fields", ()))  # of a NamedTuple: said in its docstring
        lines += ["   :members:"] + ([f"   :exclude-members: {fields}"] if fields else [])
    return [*lines, ""]


def table_of_contents(module):
    """The text that lists what a module hands on: the stub of one that imports names when they are first used."""
    stub = Path(module.__file__).with_suffix(".pyi")
    return stub.read_text(encoding="utf-8") if stub.exists() else inspect.getsource(module)


def public(module):
    """The names that a module hands on or defines: of our own, in the order of the file."""
    exports = re.findall(r" as (\w+)$", table_of_contents(module), re.M)
    handed_on = {name: getattr(module, name) for name in exports if hasattr(module, name)}
    for name, value in {**handed_on, **vars(module)}.items():
        if name.startswith("_"):
            continue
        if isinstance(value, types.ModuleType):
            if name in exports and value.__name__.startswith("bridgejax."):
                yield name, value
        elif name in exports or getattr(value, "__module__", None) == module.__name__:
            yield name, value


def section(title, mark):
    """A heading."""
    return [title, mark * len(title), ""]


def api_pages():
    """One page for what ``import bridgejax`` gives, in the order of its table of contents, then one per room.

    The head of a file, its mathematics and sources, stands before the first name that the file defines.
    """
    folder = HERE / "api"
    folder.mkdir(exist_ok=True)
    seen, shown = set(), set()

    def head(name):
        """The docstring of a module, once."""
        if name not in shown and sys.modules[name].__doc__:
            shown.add(name)
            yield from (f".. automodule:: {name}", "   :no-index:", "")  # a file may have its function's name

    def entries(module, where, names):
        for name, value in names:
            if isinstance(value, types.ModuleType) or id(value) in seen or not callable(value):
                continue
            seen.add(id(value))
            file = getattr(value, "__module__", "")
            if file.startswith("bridgejax.") and file not in shown:
                yield from (f".. rubric:: {file}", "", *head(file))
            yield from directive(where, name, value)

    page = [*section("bridgejax", "="), "``import bridgejax as bj``", ""]
    heading, names = None, dict(public(bridgejax))
    for line in table_of_contents(bridgejax).splitlines():
        if re.fullmatch(r"# \w+", line):
            heading = line[2:]
            page += section(heading, "-")
        elif heading and (found := re.search(r"from (\S+) import (\w+) as \w+$", line)):
            name = found[2]
            if isinstance(names[name], types.ModuleType):
                room = names[name].__name__.split(".")[1]
                page += [f"``bj.{name}``: :doc:`{room}`", ""]
            else:
                page += entries(bridgejax, "bridgejax", [(name, names[name])])
    (folder / "bridgejax.rst").write_text("\n".join(page))

    for room, title in ROOMS.items():
        module = import_module(f"bridgejax.{room}")
        names = list(public(module))
        inner = [(name, value) for name, value in names if isinstance(value, types.ModuleType)]
        page = [*section(f"{room}: {title.split(': ')[-1]}", "="), *head(module.__name__)]
        top = [name for name, value in names if callable(value) and getattr(bridgejax, name, None) is value]
        page += ["See also: " + ", ".join(f":py:obj:`bridgejax.{name}`" for name in top) + ".", ""] if top else []
        page += entries(module, module.__name__, names)
        for name, value in inner:
            page += [*section(f"{room}.{name}", "-"), *head(value.__name__)]
            page += entries(value, value.__name__, public(value))
        (folder / f"{room}.rst").write_text("\n".join(page))


copy_notebooks()
api_pages()


# docstrings: plain text with formulas, to reStructuredText ------------------------------------------------------------

SECTION = re.compile(r"(Args|Returns|Raises|Yields|Attributes|Note|Example):$")


def plain_text(app, what, name, obj, options, lines):
    """Indented formulas become literal blocks; outside of them nothing but backticks is markup."""
    made, running, in_section = [], [], False

    def end_of_text():
        made.extend(escaped("\n".join(running)).split("\n"))
        running.clear()

    literal = False
    for line in lines:
        in_section = in_section or bool(SECTION.match(line))
        indented = line.startswith(" ") and not in_section
        if indented and not literal:
            end_of_text()
            made.extend(["", "::", ""])
        elif literal and line and not indented:
            literal = False
            made.append("")
        literal = literal or indented
        (made if literal else running).append(line)
    end_of_text()
    lines[:] = made


def escaped(text):
    """Without the marks that reStructuredText would read: emphasis, substitutions, references."""
    pieces = re.split(r"(``.*?``|`[^`]*`)", text, flags=re.S)  # text, code, text, ...
    for k, piece in enumerate(pieces):
        if k % 2 == 0:
            pieces[k] = re.sub(r"([*|]|_(?!\w))", r"\\\1", piece)
        elif re.match(r"\w", pieces[k + 1]):
            pieces[k] = piece + "\\ "  # `Array`s
    return re.sub(r"arXiv\s+(\d{4}\.\d{4,5})", r"`arXiv \1 <https://arxiv.org/abs/\1>`__", "".join(pieces))


def setup(app):
    """Before napoleon, which runs at the default priority."""
    app.connect("autodoc-process-docstring", plain_text, priority=400)
