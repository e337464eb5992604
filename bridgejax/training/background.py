"""Saves that go on while training does: one at a time in a directory, and seen only when they are done.

A run's ``Saver`` hands its saves to one thread. Whoever in this process asks what is in the directory waits for the one
under way (``wait``), so that a directory reads as if saves took no time.
"""

from __future__ import annotations

import concurrent.futures
import pathlib
import threading
from collections.abc import Callable

_THREAD = "bridgejax-save"
_UNDER_WAY: dict[pathlib.Path, concurrent.futures.Future[object]] = {}


class Saver:
    """Saves in the folder ``root``, by one thread for all: threads that come and go leave memory in pieces behind."""

    def __init__(self, root: pathlib.Path) -> None:
        self._root = root
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self._save: concurrent.futures.Future[object] | None = None

    def begin(self, action: Callable[[], object]) -> None:
        """Run ``action``, which writes in the folder, once the save before it is done.

        Raises:
            Exception: what went wrong with the save before.
        """
        self.settle()
        self._pool = self._pool or concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix=_THREAD)
        self._save = _UNDER_WAY[self._root] = self._pool.submit(action)

    def settle(self, *, at_once: bool = False) -> None:
        """Wait for the save under way; ``at_once``: only look whether it is done.

        Raises:
            Exception: what went wrong with it, once.
        """
        save = self._save
        if save is None or (at_once and not save.done()):
            return
        concurrent.futures.wait([save])
        self._save = None
        del _UNDER_WAY[self._root]
        save.result()

    def close(self) -> None:
        """Wait for the save under way, and let the thread go.

        Raises:
            Exception: what went wrong with it.
        """
        try:
            self.settle()
        finally:
            if self._pool is not None:
                self._pool.shutdown()


def wait(root: pathlib.Path) -> None:
    """Until no save is under way in ``root``; at once in the thread of that save."""
    save = _UNDER_WAY.get(root)
    if save is not None and not threading.current_thread().name.startswith(_THREAD):
        concurrent.futures.wait([save])
