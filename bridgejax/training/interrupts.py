"""Ctrl-C and SIGTERM as a question that a loop asks, instead of an exception in the middle of a step."""

from __future__ import annotations

import contextlib
import pathlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from bridgejax._types import MethodState


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop (Ctrl-C or SIGTERM), finished its step and saved.

    Attributes:
        step: updates made.
        signal: its number: of SIGINT (Ctrl-C, as a callback may raise it too) or of SIGTERM.
        directory: run directory in which the same call goes on, or None when nothing is saved.
        state: the state at that step.
    """

    def __init__(
        self, step: int, directory: pathlib.Path | None, state: MethodState, number: int = signal.SIGINT
    ) -> None:
        if directory is None:
            where = "nothing is saved without a directory; this exception's .state has it"
        else:
            where = f"saved in {directory}; the same call goes on from there"
        super().__init__(f"interrupted after step {step}: {where}")
        self.step, self.directory, self.state, self.signal = step, directory, state, number


class StopRequest:
    """True once somebody asked to stop, by the signal of this number."""

    def __init__(self) -> None:
        self.asked, self.number = False, int(signal.SIGINT)

    def __bool__(self) -> bool:
        return self.asked


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Catch SIGINT and SIGTERM inside the ``with``; the handlers of before come back at its end.

    The first signal sets the request. It also puts the old handlers back, so that a second Ctrl-C stops at once. Only
    the main thread can handle signals: elsewhere the request is never set from here.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            # None: installed by other than Python, and Python cannot put it back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def ask(number: int, frame: FrameType | None) -> None:
        request.asked, request.number = True, number
        restore()

    for number in before:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        restore()
