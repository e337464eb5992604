"""Compiled programs outlive a command: JAX's own cache on disk, in the user's cache folder.

    place    BRIDGEJAX_CACHE; else the user's cache folder, bridgejax/programs; in it a folder for each kind of
             processor, since programs for one may not run on another that shares the home directory
    size     at most 1 GB in all; beyond it the oldest files go
    killed   a process that was killed may have left a program half written, which JAX would find unreadable for ever
             and never replace: what was written since such a process began is dropped

Where JAX has been told of a cache (``JAX_COMPILATION_CACHE_DIR``) that one is used as it is, and where it is told to
use none (``JAX_ENABLE_COMPILATION_CACHE=0``) there is none.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

__all__ = ["VARIABLE", "folder", "keep_programs"]

VARIABLE = "BRIDGEJAX_CACHE"
_MOST = 10**9


def folder() -> Path:
    """Where the programs for this processor are kept."""
    return _place() / _processor()


def _place() -> Path:
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given)
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "bridgejax" / "programs"


def _processor() -> str:
    """A name of what the processor can do."""
    told = platform.machine() + platform.processor()
    with contextlib.suppress(OSError):  # Linux alone has it
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        told += next((line for line in lines if re.match(r"(flags|Features)\s*:", line)), "")
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def _shrink(place: Path, most: int) -> None:
    """Remove the oldest files until half of ``most`` is left, where there is more."""
    found = []
    for file in place.rglob("*"):
        with contextlib.suppress(OSError):  # another process removed it
            if file.is_file():
                found.append((file.stat().st_mtime, file.stat().st_size, file))
    total = sum(size for _, size, _ in found)
    if total <= most:
        return
    for _, size, file in sorted(found):
        file.unlink(missing_ok=True)
        total -= size
        if total <= most // 2:
            return


def _drop_half_written(place: Path) -> None:
    """Remove programs as new as the mark of a process that ended without removing it, and the mark."""
    for mark in place.glob("*.writing"):
        if not _is_running(int(mark.stem)):
            with contextlib.suppress(OSError):  # another process does the same
                since = mark.stat().st_mtime_ns
                for program in place.glob("*-cache"):
                    if program.stat().st_mtime_ns >= since:
                        program.unlink(missing_ok=True)
                mark.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    if sys.platform == "win32":
        return True  # cannot be asked without a signal
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def keep_programs() -> Path | None:
    """Have JAX keep what it compiles from now on; before anything is compiled.

    Returns:
        The folder; None where JAX was told of another or of none, or where nothing can be written.
    """
    import jax

    told: Any = jax.config  # its attributes are made when it is
    if told.jax_compilation_cache_dir or not told.jax_enable_compilation_cache:
        return None
    place = folder()
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        _shrink(place.parent, _MOST)
        _drop_half_written(place)
        mark = place / f"{os.getpid()}.writing"
        mark.touch()
    except OSError:
        return None  # a home that cannot be written: slower, not wrong
    atexit.register(mark.unlink, missing_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(place))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return place
