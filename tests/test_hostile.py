"""What comes from outside is data: no code in a file is run, no connection is made, nothing ends but in a sentence.

The long fuzz is ``python tests/data/fuzz_loaders.py --minutes 30``; its first files are run here.
"""

import ast
import pathlib
import random
import subprocess
import sys

import pytest

import bridgejax
from bridgejax.cli import main

PACKAGE = pathlib.Path(bridgejax.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {
    *("pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"),
    *("urllib", "http", "requests", "httpx", "aiohttp", "socket", "ssl", "ftplib", "smtplib", "telnetlib", "xmlrpc"),
    *("subprocess", "ctypes", "cffi", "runpy", "code", "codeop"),
}
CALLS = {"eval", "exec", "compile", "__import__", "execfile"}
METHODS = {"extractall", "unpack_archive", "system", "popen", "execv", "spawnv", "urlopen", "unsafe_load", "full_load"}
LOADERS = {("np", "load"), ("numpy", "load"), ("jnp", "load"), ("yaml", "load"), ("torch", "load"), ("joblib", "load")}


def found_in(source):
    """What of the above a file uses: (line, what)."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").split(".")[0]} if node.level == 0 else set()
        else:
            names = set()
        yield from ((node.lineno, name) for name in names & MODULES)
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in CALLS:
            yield node.lineno, node.func.id
        if isinstance(node.func, ast.Attribute):
            owner = getattr(node.func.value, "id", "")
            if node.func.attr in METHODS or (owner == "os" and node.func.attr.startswith(("exec", "spawn", "fork"))):
                yield node.lineno, node.func.attr
            safe = any(k.arg == "allow_pickle" and getattr(k.value, "value", 1) is False for k in node.keywords)
            if (owner, node.func.attr) in LOADERS and not safe:
                yield node.lineno, f"{owner}.load"
        if any(k.arg == "allow_pickle" and getattr(k.value, "value", 1) is not False for k in node.keywords):
            yield node.lineno, "allow_pickle"


@pytest.mark.fast
def test_nothing_is_unpickled_run_extracted_or_fetched():
    uses = {f"{path.relative_to(PACKAGE)}:{line} {what}" for path in FILES for line, what in found_in(path.read_text())}
    assert uses == set()
    assert len(FILES) > 100


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from urllib.request import urlopen",
        "import socket as s",
        "eval('1')",
        "exec(code)",
        "__import__('os')",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "read(path, allow_pickle=flag)",
        "archive.extractall(folder)",
        "yaml.load(text)",
        "os.system('ls')",
        "os.execvp('ls', [])",
    ],
)
def test_each_would_be_found(source):
    assert list(found_in(source))


@pytest.mark.parametrize("source", ["jax.eval_shape(f)", "np.load(path, allow_pickle=False)", "from . import socket"])
def test_what_only_looks_like_it(source):
    assert not list(found_in(source))


@pytest.mark.parametrize("seed", [0, 1])
def test_damaged_files_are_a_data_set_or_one_sentence(tmp_path, seed):
    """A few hundred files; with an audit hook that forbids code and connections, and a bound on memory."""
    script = pathlib.Path(__file__).parent / "data" / "fuzz_loaders.py"
    command = [sys.executable, script, "--most", "250", "--minutes", "1", "--seed", str(seed), "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


WORDS = (
    *("train", "sample", "predict", "evaluate", "explain", "config", "diffusion", "dsbm", "constrained", "dsvi"),
    *("--data", "--source", "--target", "--out", "--steps", "--width", "--label-column", "--columns", "--missing"),
    *("--config", "--seed", "--num", "--compose", "--quantiles", "--max-memory", "--crop", "--manifold", "--predict"),
    *("", "-1", "0", "1e999", "nan", "moons", "nowhere.csv", "../..", "/", "\0", "\ud800", "é", "%s%n", "{0}", "--"),
    *("product(nowhere,", "power(a,2)", "'; ls", "$(ls)", "9" * 5000, "A" * 5000, "-h", "4GB", "drop", "=", "--data="),
)


@pytest.mark.parametrize("seed", range(80))
def test_any_words_are_carried_out_or_refused_in_a_sentence(seed, tmp_path, capsys, monkeypatch):
    """The data are always missing, so nothing is trained."""
    monkeypatch.chdir(tmp_path)
    dice = random.Random(seed)
    words = [dice.choice(WORDS[:6]), *(dice.choice(WORDS) for _ in range(dice.randint(0, 6)))]
    if words[0] == "train":
        words += ["--data", "nowhere.csv"]
    try:
        status = main(words)
    except SystemExit as stop:  # of the parser: help, or an argument that is none
        status = stop.code
    said = capsys.readouterr()
    assert status in (0, 1, 2)
    assert "Traceback" not in said.err
    assert status == 0 or said.err.strip() or said.out.strip()
    assert list(tmp_path.iterdir()) == []
