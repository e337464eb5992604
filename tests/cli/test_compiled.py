"""What the command line compiles is kept: where, how much of it, and when not."""

import os
import subprocess
import sys

import pytest

from bridgejax.cli import compiled

WORDS = "import jax, jax.numpy as jnp; from bridgejax.cli.compiled import keep_programs; print(keep_programs()); "
WORDS += "jax.jit(lambda x: jnp.sin(x) + 1)(jnp.ones(3)); print(jax.config.jax_compilation_cache_dir)"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("BRIDGEJAX_CACHE", str(tmp_path / "programs"))
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "programs"


def said(**more):
    done = subprocess.run(
        [sys.executable, "-c", WORDS], env={**os.environ, **more}, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_what_is_compiled_is_kept_in_the_folder(place):
    assert said() == [str(compiled.folder())] * 2
    kept = {file.name: file.stat().st_mtime_ns for file in compiled.folder().iterdir()}
    assert any("lambda" in name for name in kept)
    assert os.name == "nt" or compiled.folder().stat().st_mode & 0o077 == 0  # programs that only their owner may change
    said()
    assert {file.name: file.stat().st_mtime_ns for file in compiled.folder().iterdir()} == kept  # nothing anew


def test_what_a_killed_process_wrote_is_compiled_anew(place):
    said()
    (program,) = (file for file in compiled.folder().iterdir() if "lambda" in file.name)
    old, whole = program.with_name("older-cache"), program.stat().st_size
    old.write_bytes(b"")
    os.utime(old, (1, 1))
    program.write_bytes(b"")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    mark = compiled.folder() / f"{dead.pid}.writing"
    mark.touch()
    os.utime(mark, (2, 2))
    said()
    assert program.stat().st_size == whole
    assert old.exists()
    assert not list(compiled.folder().glob("*.writing"))


def test_programs_of_a_process_that_runs_stay(place):
    compiled.folder().mkdir(parents=True)
    mark = compiled.folder() / f"{os.getpid()}.writing"
    mark.touch()
    (compiled.folder() / "newer-cache").write_bytes(b"")
    compiled._drop_half_written(compiled.folder())
    assert mark.exists()
    assert (compiled.folder() / "newer-cache").exists()


def test_a_cache_of_the_user_is_left_alone(place, tmp_path):
    assert said(JAX_COMPILATION_CACHE_DIR=str(tmp_path / "own")) == ["None", str(tmp_path / "own")]
    assert said(JAX_ENABLE_COMPILATION_CACHE="0") == ["None", "None"]
    assert not place.exists()


def test_a_folder_that_cannot_be_made_is_no_error(place):
    place.write_text("a file")
    assert said() == ["None", "None"]


@pytest.mark.parametrize(("word", "asked"), [("--cache", True), ("--no-cache", False)])
def test_the_command_line_asks_for_it(word, asked, monkeypatch, tmp_path):
    from bridgejax.cli import listing, main

    calls = []
    monkeypatch.setattr(compiled, "keep_programs", lambda: calls.append("kept"))
    monkeypatch.setitem(main.__globals__["DO"], "train", ("bridgejax.cli.listing", "nothing"))
    monkeypatch.setattr(listing, "nothing", lambda command: calls.append("ran"), raising=False)
    assert main(["train", "--out", str(tmp_path / "run"), word]) == 0
    assert calls == (["kept", "ran"] if asked else ["ran"])


def test_the_oldest_files_go(tmp_path):
    files = [tmp_path / str(k) / "program" for k in range(10)]
    for k, file in enumerate(files):
        file.parent.mkdir()
        file.write_bytes(bytes(100))
        os.utime(file, (k, k))
    compiled._shrink(tmp_path, 1000)
    assert all(file.exists() for file in files)
    compiled._shrink(tmp_path, 999)
    assert [file.exists() for file in files] == [False] * 6 + [True] * 4  # the newest that fit in half of it


def test_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("BRIDGEJAX_CACHE", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiled.folder().parent == tmp_path / "bridgejax" / "programs"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert compiled.folder().parent == tmp_path / ".cache" / "bridgejax" / "programs"
