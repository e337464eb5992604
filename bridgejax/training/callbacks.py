"""Callbacks of ``fit``: the metrics to a tracker, and pictures of samples while it trains.

    bj.fit(..., callbacks=[callbacks.tensorboard("logs"), callbacks.pictures(method, "pictures", key, every=1000)])

Each is called with an ``Info`` at every line of the metrics (``log_every``). Of several processes the first one writes.
A run that goes on from a checkpoint repeats the lines after it.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import Array

from bridgejax._checks import check_count, check_path
from bridgejax.processes._keys import check_one_key, keys
from bridgejax.solve import sample
from bridgejax.training._fit import Info
from bridgejax.training.method import Method

__all__ = ["pictures", "tensorboard", "wandb"]


def __dir__() -> list[str]:
    return __all__


def _numbers(info: Info) -> dict[str, float]:
    return {**info.metrics, "steps_per_second": info.steps_per_second}


def tensorboard(directory: str | os.PathLike[str]) -> Callable[[Info], None]:
    """The metrics and the speed as scalars for TensorBoard, on disk after every line.

    Args:
        directory: where the event files go; runs in folders beside each other are compared.

    Returns:
        A callback of ``fit``.

    Raises:
        ImportError: TensorBoard is not installed.
        ValueError: no path.

    Example:
        >>> import bridgejax as bj
        >>> from bridgejax.training import callbacks
        >>> watch = callbacks.tensorboard("logs/first")  # doctest: +SKIP
        >>> bj.fit(method, data, key, steps=1000, batch_size=64, callbacks=[watch])  # doctest: +SKIP
    """
    place = check_path("directory", directory)
    try:
        from tensorboard.summary import Writer  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError("this callback needs TensorBoard: pip install 'bridgejax[track]'") from None
    writer: list[Any] = []

    def write(info: Info) -> None:
        if jax.process_index() > 0:
            return
        if not writer:
            writer.append(Writer(str(place)))
        for name, value in _numbers(info).items():
            writer[0].add_scalar(name, value, info.step)
        writer[0].flush()

    return write


def wandb(**options: Any) -> Callable[[Info], None]:
    """The metrics and the speed to Weights & Biases: a run of its own, begun at the first line, finished at the last.

    Args:
        options: of ``wandb.init``, such as ``project``, ``name``, ``config``, ``mode="offline"``; ``id`` with
            ``resume="allow"`` goes on with the curves of a run that goes on.

    Returns:
        A callback of ``fit``.

    Raises:
        ImportError: the library is not installed.

    Example:
        >>> import bridgejax as bj
        >>> from bridgejax.training import callbacks
        >>> watch = callbacks.wandb(project="digits", mode="offline")  # doctest: +SKIP
        >>> bj.fit(method, data, key, steps=1000, batch_size=64, callbacks=[watch])  # doctest: +SKIP
    """
    try:
        import wandb as library  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError("this callback needs Weights & Biases: pip install 'bridgejax[track]'") from None
    run: list[Any] = []

    def write(info: Info) -> None:
        if jax.process_index() > 0:
            return
        if not run:
            run.append(library.init(**options))
        run[0].log(_numbers(info), step=info.step)
        if info.step == info.steps:
            run.pop().finish()

    return write


def pictures(
    method: Method,
    directory: str | os.PathLike[str],
    key: Array,
    *,
    every: int,
    num: int = 64,
    draw: Callable[[pathlib.Path, np.ndarray], object] | None = None,
) -> Callable[[Info], None]:
    """Samples of what was learnt so far, as ``step_1000.png``, ...: from the same noise each time, so they compare.

    Args:
        method: that is trained; its ``process(state)`` is sampled without conditions.
        directory: where the pictures go.
        key: one key, of the noise.
        every: steps between pictures: one is made at the first line of the metrics that reaches a multiple, and at the
            end.
        num: how many samples.
        draw: ``draw(path, samples)`` writes the picture of an array ``[num, ...]``. None: images ``[h, w, c]`` of 1, 3
            or 4 channels in [-1, 1] side by side, and the first two columns of vectors as points.

    Returns:
        A callback of ``fit``.

    Raises:
        ValueError: no method, no path, no key or no count; when called: samples that are neither images nor vectors.
        ImportError: matplotlib is not installed, and ``draw`` is None.

    Example:
        >>> import jax, jax.numpy as jnp, numpy as np, optax, pathlib, tempfile, bridgejax as bj
        >>> from bridgejax.training import callbacks
        >>> def process(params):
        ...     sde = bj.SDE(lambda t, x, args: 0.0 * x)
        ...     start = jax.tree_util.Partial(lambda mean, key, args: mean + jax.random.normal(key, (2,)), params)
        ...     return bj.Process(start, sde, bj.grids.uniform(1))
        >>> loss = lambda params, keys, batch: (jnp.mean((batch - params) ** 2), {})
        >>> method = bj.gradient_method(loss, process, optax.sgd(0.1), params=jnp.zeros(2))
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> watch = callbacks.pictures(method, folder, jax.random.key(1), every=4)
        >>> options = dict(steps=8, batch_size=3, log_every=2, callbacks=[watch])
        >>> _ = bj.fit(method, np.ones((9, 2)), jax.random.key(0), **options)
        >>> sorted(path.name for path in folder.iterdir())
        ['step_4.png', 'step_8.png']
    """
    if not callable(getattr(method, "process", None)):
        raise ValueError(f"method must be a Method with process(state), got {type(method).__name__}")
    place, noise = check_path("directory", directory), keys(check_one_key(key), check_count("num", num))
    check_count("every", every)
    if draw is not None and not callable(draw):
        raise ValueError(f"draw must be a function of a path and samples, got {type(draw).__name__}")
    draw, drawn = draw or _drawing(), [0]

    def write(info: Info) -> None:
        if info.step // every <= drawn[0] and info.step != info.steps:
            return
        drawn[0] = info.step // every
        samples = np.asarray(sample(method.process(info.state()), noise))
        if jax.process_index() == 0:
            place.mkdir(parents=True, exist_ok=True)
            draw(place / f"step_{info.step}.png", samples)

    return write


def _drawing() -> Callable[[pathlib.Path, np.ndarray], None]:
    try:
        from matplotlib.figure import Figure
        from matplotlib.image import imsave
    except ImportError:
        raise ImportError("pictures need matplotlib: pip install 'bridgejax[run]', or pass draw=") from None

    def draw(path: pathlib.Path, samples: np.ndarray) -> None:
        if samples.ndim == 4 and samples.shape[3] in (1, 3, 4):
            imsave(path, tiled(samples))
        elif samples.ndim == 2 and samples.shape[1] >= 2:
            figure = Figure(figsize=(5, 5))
            axes = figure.add_subplot(aspect="equal")
            axes.plot(samples[:, 0], samples[:, 1], ".", markersize=3)
            figure.savefig(path)
        else:
            raise ValueError(
                f"samples have shape {samples.shape}; expected images [num, h, w, c] of 1, 3 or 4 channels or vectors "
                "[num, d] with d >= 2: pass draw=, a function (path, samples)"
            )

    return draw


def tiled(images: np.ndarray) -> np.ndarray:
    """Images ``[n, h, w, c]`` in [-1, 1] as one of bytes: rows of ceil(sqrt(n)) of them, grey as three channels."""
    n, h, w, c = images.shape
    across = int(np.ceil(np.sqrt(n)))
    down = -(-n // across)
    bytes_of = np.clip(np.nan_to_num(127.5 * (images.astype(np.float32) + 1)), 0, 255).round().astype(np.uint8)
    page = np.zeros((down * across, h, w, c), np.uint8)
    page[:n] = bytes_of
    page = page.reshape(down, across, h, w, c).swapaxes(1, 2).reshape(down * h, across * w, c)
    return np.repeat(page, 3, axis=2) if c == 1 else page
