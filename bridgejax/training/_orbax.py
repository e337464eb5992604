"""orbax, imported when first used, with its many troubles as one short exception."""

from __future__ import annotations

import contextlib
import gc
import logging
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from bridgejax._types import PyTree

_ONE_AT_A_TIME = threading.RLock()  # what is changed below belongs to the process


class Failed(Exception):
    """orbax could not do what it was asked."""


def attempt(action: Callable[[Any], Any]) -> PyTree:
    """``action(ocp)`` with the orbax v1 module, imported when first used; its troubles as one short exception.

    orbax raises ValueError, OSError and others for one and the same full disk, and logs the tracebacks of its threads.

    Raises:
        PermissionError: when that is at the root of it.
        Failed: for everything else.
    """
    from orbax.checkpoint import v1 as ocp

    context = ocp.Context()
    # Made in the background, a directory that cannot be made leaves threads that wait for it for ten minutes, and the
    # interpreter waits for them when it exits.
    context.asynchronous.create_directories_asynchronously = False
    with _ONE_AT_A_TIME, _unheard(), context:
        try:
            return action(ocp)
        except Exception as error:
            failed = error
        with warnings.catch_warnings():  # not around the action: what a thread restores, another may have changed
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            failure = _failure(failed)
            del failed
            gc.collect()  # what orbax left unfinished complains when it is collected, or when it finishes: now
            time.sleep(0.1)
    raise failure


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Without the log lines of orbax, and the complaints of reads and writes whose event loop it closed on them."""
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels, hook = [logger.level for logger in loggers], sys.unraisablehook

    def filtered(unraisable: sys.UnraisableHookArgs) -> None:
        if "Event loop is closed" not in str(unraisable.exc_value):
            hook(unraisable)

    try:
        sys.unraisablehook = filtered
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        sys.unraisablehook = hook
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _failure(error: BaseException) -> Exception:
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, PermissionError) or "PERMISSION_DENIED" in str(link):
            return PermissionError(str(link))
        link = link.__cause__ or link.__context__
    text = " ".join(str(error).split(" [")[0].split()) or type(error).__name__  # "[": tensorstore's own details
    if "at local file" in text:  # what the system said comes last, after which part of which file of which format
        text = text.rsplit(": ", 1)[-1]
    return Failed(text if len(text) <= 240 else f"{text[:80]} ... {text[-150:]}")
