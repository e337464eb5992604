"""How much memory the reading of one file may take: compared with what its headers declare, before any is allocated.

    limit    what was asked for: load(max_memory=), --max-memory, or the variable BRIDGEJAX_MAX_MEMORY;
             else half of the memory of this machine, or of the share of it that the process was given

Pools of pyarrow's threads come on top: up to 30 MB, whatever the size of the file. No JAX.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

VARIABLE = "BRIDGEJAX_MAX_MEMORY"
PARTS = "keep fewer rows or columns of it, read it in parts from Python (data.Shards)"
_SHARE = 0.5
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_asked: ContextVar[int | None] = ContextVar("asked", default=None)


def bytes_of(size: str | int, name: str = "max_memory") -> int:
    """A size as it is typed, 4GB, 500 MB, 1.5GiB or a number of bytes, as bytes.

    Raises:
        ValueError: for anything else, and for 0.
    """
    found = re.fullmatch(r"\s*(\d{1,18}(?:\.\d*)?)\s*([kmgt]?i?)b?\s*", str(size).lower())
    if isinstance(size, bool) or found is None or found[2] not in _UNITS or float(found[1]) <= 0:
        raise ValueError(f"{name} must be a size such as 4GB or 500MB, got {size!r:.60}")
    return int(float(found[1]) * _UNITS[found[2]])


def shown(size: float) -> str:
    """Bytes as a reader likes them: 6.7 GB."""
    for unit, least in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= least:
            return f"{size / least:.{1 if size < 100 * least else 0}f} {unit}"
    return f"{size:.0f} bytes"


def _of_machine() -> int:
    """Bytes of memory that this process can have at most."""
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not every system says
        whole = 8 * 2**30
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # no such file, or the word max
            whole = min(whole, int(Path(file).read_text()))
    return whole


def limit() -> int:
    """Bytes that the reading of one file may take."""
    asked = _asked.get()
    if asked is not None:
        return asked
    said = os.environ.get(VARIABLE, "")
    return bytes_of(said, VARIABLE) if said else int(_SHARE * _of_machine())


@contextlib.contextmanager
def at_most(size: str | int) -> Iterator[None]:
    """Within it the reading of one file may take this much; the empty text changes nothing.

    Raises:
        ValueError: text that is no size.
    """
    before = _asked.set(_asked.get() if size == "" else bytes_of(size))
    try:
        yield
    finally:
        _asked.reset(before)


def check_memory(need: float, what: str, remedy: str = "keep fewer rows or columns of it") -> None:
    """Raise a ``ValueError`` where reading takes more bytes than it may."""
    most = limit()
    if need > most:
        raise ValueError(
            f"{what}, which takes about {shown(need)} of memory to read, and {shown(most)} may be used: {remedy}, or "
            f"allow more, --max-memory {shown(1.1 * need).replace(' ', '')}"
        )
