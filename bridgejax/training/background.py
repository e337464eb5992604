"""Saves that go on while training does: one at a time in a directory, and seen only when they are done.

``begin`` hands a save to a thread. Whoever in this process asks what is in the directory waits for it (``wait``), so
that a directory reads as if saves took no time; ``settle`` also raises what went wrong.
"""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Callable

_UNDER_WAY: dict[pathlib.Path, _Save] = {}


class _Save(threading.Thread):
    """A save, and how it ended."""

    def __init__(self, action: Callable[[], object]) -> None:
        super().__init__(name="bridgejax-save")
        self._action: Callable[[], object] | None = action
        self.error: BaseException | None = None

    def run(self) -> None:
        assert self._action is not None
        try:
            self._action()
        except BaseException as error:  # raised by ``settle``, in the thread that trains
            self.error = error
        self._action = None  # and the state with it


def begin(root: pathlib.Path, action: Callable[[], object]) -> None:
    """Run ``action``, which writes in the folder ``root``, in a thread, once the save before it is done.

    Raises:
        Exception: what went wrong with the save before.
    """
    settle(root)
    save = _UNDER_WAY[root] = _Save(action)
    save.start()


def wait(root: pathlib.Path) -> None:
    """Until no save is under way in ``root``; at once in the thread of that save."""
    save = _UNDER_WAY.get(root)
    if save is not None and save is not threading.current_thread():
        save.join()


def settle(root: pathlib.Path, *, at_once: bool = False) -> None:
    """Wait for the save under way in ``root``; ``at_once``: only look whether it is done.

    Raises:
        Exception: what went wrong with it, once.
    """
    save = _UNDER_WAY.get(root)
    if save is None or (at_once and save.is_alive()):
        return
    save.join()
    del _UNDER_WAY[root]
    if save.error is not None:
        raise save.error
