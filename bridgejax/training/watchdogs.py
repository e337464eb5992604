"""What stops a run that has gone wrong: numbers that are not finite, a loss that has exploded.

    loss, grad_norm    of every step, looked at with the next line of the metrics: not finite
    loss               the mean of a line: a million times the least |mean| of the lines before, and of 1
    parameters         ``method.params(state)``, before a state is saved and at the end: a leaf that is not finite and
                       was at the start

Each is an error of its own that names the step; no state is saved from then on, so that the newest checkpoint is good.
"""

from __future__ import annotations

import math
import pathlib

import jax
import numpy as np

from bridgejax._types import MethodState, PyTree
from bridgejax.training import checkpoints
from bridgejax.training.hosts import here
from bridgejax.training.method import Method

CHECKPOINTS = "checkpoints"
WATCHED = ("loss", "grad_norm")  # metrics that must stay finite
EXPLODED = 1e6  # times the least loss of a line, which no method that learns comes back from


class _Stopped(FloatingPointError):
    """The run has gone wrong.

    Attributes:
        step: updates made when it was seen.
        checkpoint: step of the last good checkpoint, or None.
    """

    def __init__(self, step: int, what: str, remedy: str, directory: pathlib.Path | None) -> None:
        good = None if directory is None else checkpoints.latest_step(directory / CHECKPOINTS)
        kept = "no checkpoint was saved before" if good is None else f"the last good checkpoint, step {good}, is kept"
        if good is not None:
            kept += f" in {directory}"
        super().__init__(f"{what} at step {step}; {kept}. {remedy}")
        self.step, self.checkpoint = step, good


class NonFiniteLoss(_Stopped):
    """The loss, or the norm of its gradient, is not finite.

    Attributes:
        step: the first step (counted from 1) that it happened at.
        metric: "loss" or "grad_norm".
        value: what it was.
        checkpoint: step of the last good checkpoint, or None.
    """

    def __init__(self, step: int, metric: str, value: float, directory: pathlib.Path | None) -> None:
        remedy = "Lower the learning rate, clip gradients or check the scale of the data"
        super().__init__(step, f"{metric} is {value}", remedy, directory)
        self.metric, self.value = metric, value


class LossExplosion(_Stopped):
    """The loss is finite, and a million times what it was.

    Attributes:
        step: the last of the steps whose mean loss it is.
        value: this mean.
        least: the least of the lines before, in absolute value.
        checkpoint: step of the last good checkpoint, or None.
    """

    def __init__(self, step: int, value: float, least: float, directory: pathlib.Path | None) -> None:
        what = f"loss has exploded: {value:.3g}, after {least:.3g},"
        remedy = "Lower the learning rate, clip gradients or go on from the checkpoint with another seed"
        super().__init__(step, what, remedy, directory)
        self.value, self.least = value, least


class NonFiniteParameters(_Stopped):
    """A parameter is not finite, though the losses that led to it were.

    Attributes:
        step: updates made.
        leaf: which, as a path.
        checkpoint: step of the last good checkpoint, or None.
    """

    def __init__(self, step: int, leaf: str, directory: pathlib.Path | None) -> None:
        remedy = "Lower the learning rate, clip gradients or compute in float32"
        super().__init__(step, f"parameter {leaf} is not finite", remedy, directory)
        self.leaf = leaf


class LossWatch:
    """Raises where the mean loss of a line has exploded."""

    def __init__(self, directory: pathlib.Path | None) -> None:
        self._directory, self._least = directory, math.inf

    def note(self, loss: object) -> None:
        """Take note of the mean loss of a line, None where it has none."""
        if isinstance(loss, float | int):
            self._least = min(self._least, abs(loss))

    def look(self, step: int, loss: float | None) -> None:
        """Look at the mean loss up to a step; None from a method without one."""
        if loss is not None and abs(loss) > EXPLODED * max(1.0, self._least):
            raise LossExplosion(step, loss, self._least, self._directory)
        self.note(loss)


class ParameterWatch:
    """Raises where what was learnt is not finite."""

    def __init__(self, method: Method, directory: pathlib.Path | None) -> None:
        known = method.params is not Method._field_defaults["params"]
        self._directory, self._params = directory, method.params if known else None
        self._from_the_start: set[str] = set()

    def begin(self, state: MethodState) -> None:
        """Take note of what a method has that is not finite from the start, such as the logarithm of no weight."""
        self._from_the_start = set(self._not_finite(state))

    def look(self, step: int, state: MethodState) -> None:
        """Look at a state that is about to be saved, or handed over."""
        for leaf in self._not_finite(state):
            if leaf not in self._from_the_start:
                raise NonFiniteParameters(step, leaf, self._directory)

    def _not_finite(self, state: MethodState) -> list[str]:
        return [] if self._params is None else _not_finite(self._params(state))


def _not_finite(tree: PyTree) -> list[str]:
    found = jax.tree_util.tree_leaves_with_path(jax.device_get(here(tree)))
    arrays = [(jax.tree_util.keystr(path), np.asarray(leaf)) for path, leaf in found]
    return [name for name, leaf in arrays if leaf.dtype.kind in "fcV" and not np.isfinite(leaf).all()]
