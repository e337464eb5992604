"""One writer in a run directory: a lock that ends with its process, and says whose it is.

    DIR/writer.lock    {"host": ..., "process": ..., "since": ...}, held with flock while there is a writer, touched
                       every minute, deleted at the end

Where the file is held with flock another writer is at work, and a second one is refused at once. Where it is there and
not held, its writer was killed; of a writer on another host, to which the file system may not carry flock, this is so
when nothing touched the file for five minutes. Such a lock is stale: that is said, and it is taken over.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import pathlib
import platform
import threading
import time
import warnings
from collections.abc import Iterator
from typing import IO

FILE = "writer.lock"
_STALE = 300.0  # seconds without a sign of life
_TOUCHED = 60.0
_held: dict[str, int] = {}  # directories that this process writes in, and by which thread


class InUse(OSError):
    """Another process, or another thread of this one, writes in the run directory."""


@contextlib.contextmanager
def locked(directory: pathlib.Path) -> Iterator[None]:
    """Be the one writer in a directory, which is made; a thread that is it already stays it.

    Raises:
        InUse: another is.
        OSError: the directory cannot be written.
    """
    where, me = os.path.realpath(directory), threading.get_ident()
    if _held.get(where) == me:
        yield
        return
    directory.mkdir(parents=True, exist_ok=True)
    path, over = directory / FILE, threading.Event()

    def touch() -> None:
        while not over.wait(_TOUCHED):
            with contextlib.suppress(OSError):  # the directory may be gone: the next save says so
                os.utime(path)

    with contextlib.closing(_taken(path)):
        _held[where] = me
        threading.Thread(target=touch, name="bridgejax-lock", daemon=True).start()
        try:
            yield
        finally:
            over.set()
            del _held[where]
            with contextlib.suppress(OSError):
                path.unlink()  # before it is let go: who waits for it finds a file of another inode, and looks again


def _taken(path: pathlib.Path) -> IO[str]:
    """The lock as an open file, ours."""
    while True:
        file = open(path, "a+", encoding="utf-8")
        try:
            carried = _flock(file)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                    _claim(file, path, carried=carried)
                    return file
        except BaseException:
            file.close()
            raise
        file.close()  # the one before deleted it as we opened it


def _flock(file: IO[str]) -> bool:
    """Whether the file is ours now; False where the system cannot say.

    Raises:
        InUse: another holds it.
    """
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _in_use(file) from None
    except (ImportError, OSError):  # another system, or a file system without locks
        return False
    return True


def _written(file: IO[str]) -> dict[str, str]:
    """What a writer left in its lock; empty where it left nothing."""
    file.seek(0)
    try:
        said = json.loads(file.read())
        return {name: str(said[name]) for name in ("host", "process", "since")}
    except (ValueError, KeyError, TypeError):
        return {}


def _in_use(file: IO[str]) -> InUse:
    said, directory = _written(file), pathlib.Path(file.name).parent
    who = f" by process {said['process']} on {said['host']} since {said['since']}" if said else ""
    return InUse(
        f"{directory} is being written{who}: a run has one writer; wait for it or stop it, or choose another directory"
    )


def _claim(file: IO[str], path: pathlib.Path, *, carried: bool) -> None:
    """Write our name into the lock that nobody holds, and say so of a stale one."""
    said, quiet = _written(file), time.time() - os.fstat(file.fileno()).st_mtime
    if said:
        here = said["host"] == platform.node()
        if quiet < _STALE and not (here and carried):
            raise _in_use(file)
        warnings.warn(
            f"{path} is stale: process {said['process']} on {said['host']}, which wrote there since {said['since']}, "
            "did not end by itself; it is taken over",
            stacklevel=2,
        )
    since = datetime.datetime.now().isoformat(" ", "seconds")
    file.seek(0)
    file.truncate()
    file.write(json.dumps({"host": platform.node(), "process": os.getpid(), "since": since}) + "\n")
    file.flush()
