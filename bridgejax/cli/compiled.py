"""Compiled programs outlive a command: JAX's own cache on disk, in the user's cache folder.

    place    BRIDGEJAX_CACHE; else the user's cache folder, bridgejax/programs; in it a folder for each kind of
             processor, since programs for one may not run on another that shares the home directory
    size     at most 1 GB in all; beyond it the oldest files go

Where JAX has been told of a cache (``JAX_COMPILATION_CACHE_DIR``) that one is used as it is, and where it is told to
use none (``JAX_ENABLE_COMPILATION_CACHE=0``) there is none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import sys
from pathlib import Path

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


def keep_programs() -> Path | None:
    """Have JAX keep what it compiles from now on; before anything is compiled.

    Returns:
        The folder; None where JAX was told of another or of none, or where nothing can be written.
    """
    import jax

    if jax.config.jax_compilation_cache_dir or not jax.config.jax_enable_compilation_cache:
        return None
    place = folder()
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        _shrink(place.parent, _MOST)
    except OSError:
        return None  # a home that cannot be written: slower, not wrong
    if not os.access(place, os.W_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(place))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return place
