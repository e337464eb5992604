"""What a person at a terminal or in a notebook sees of ``fit``: a bar, or without tqdm a line every ten seconds.

Made before training, so that compiling is seen to be work. A step costs a comparison of clocks; nothing is read back
from the devices for it: the loss that is shown is that of the last line of the metrics.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import jax

SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_DRAWINGS = 0.1


def wanted(progress: object) -> bool:
    """Whether to show anything: as told, else at a terminal or in a notebook, not under pytest, in one process of many.

    Raises:
        ValueError: neither a bool nor None.
    """
    if progress is not None and not isinstance(progress, bool):
        raise ValueError(f"progress must be True, False or None (at a terminal or in a notebook), got {progress!r}")
    if progress is not None:
        return progress
    if "PYTEST_CURRENT_TEST" in os.environ or jax.process_index() > 0:
        return False
    return _at_terminal() or _in_notebook()


def _at_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _in_notebook() -> bool:
    shell: Any = sys.modules.get("IPython")  # a notebook has imported it
    return getattr(shell.get_ipython(), "kernel", None) is not None if shell is not None else False


class Progress:
    """The progress of one ``fit`` on stderr; with ``shown`` false it does nothing.

    Args:
        start: updates made before.
        steps: updates asked for.
        shown: whether to show anything.
    """

    def __init__(self, start: int, steps: int, *, shown: bool) -> None:
        self._steps, self._shown, self._bar = steps, shown and steps > start, None
        self._next = time.perf_counter()
        if not self._shown:
            return
        try:
            from tqdm import tqdm
        except ImportError:
            print("compiling", file=sys.stderr, flush=True)
            self._next += SECONDS_BETWEEN_LINES
            return
        often = 0.1 if _at_terminal() or _in_notebook() else SECONDS_BETWEEN_LINES
        self._bar = tqdm(
            total=steps, initial=start, desc="compiling", unit="step", dynamic_ncols=True, mininterval=often
        )

    def step(self, done: int) -> None:
        """``done`` updates are made, or on their way."""
        if self._bar is None:
            return
        now = time.perf_counter()
        if now >= self._next:
            self._bar.update(done - self._bar.n)
            self._next = now + _SECONDS_BETWEEN_DRAWINGS

    def line(self, done: int, metrics: dict[str, float], speed: float, eta: float) -> None:
        """A line of the metrics."""
        if not self._shown:
            return
        loss = f"loss {metrics['loss']:.4g}" if "loss" in metrics else ""
        if self._bar is not None:
            self._bar.set_description("training", refresh=False)
            self._bar.set_postfix_str(loss, refresh=False)
            self._bar.update(done - self._bar.n)
        elif time.perf_counter() >= self._next or done == self._steps:
            words = (f"step {done} of {self._steps}", loss, f"{speed:.3g} steps/s", f"{eta:.0f} s left")
            print(", ".join(filter(None, words)), file=sys.stderr, flush=True)
            self._next = time.perf_counter() + SECONDS_BETWEEN_LINES

    def close(self) -> None:
        """Leave what is shown as it stands."""
        if self._bar is not None:
            self._bar.close()
