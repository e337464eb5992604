"""What the builder of a method is given besides its options: the data, a network, an optimizer, a decoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import optax
from jax import Array

from bridgejax._summary import summary
from bridgejax._types import Decoder, Params
from bridgejax.data.columns import Encoding
from bridgejax.data.supervised import Inputs
from bridgejax.geometry.manifolds.coordinates import Coordinates
from bridgejax.methods._arguments import NetworkLike
from bridgejax.methods._spec import Classes


@dataclass(frozen=True)
class DataSpec:
    """What a Method must know of the data.

    Attributes:
        shape: shape of one sample.
        kind: points, table, series, image, manifold or target.
        num_classes: number of classes; 0 without labels.
        shift: subtracted from raw data.
        scale: raw data are divided by it.
        deviation: standard deviation of the standardised data, over all coordinates.
        source: standardised points that a bridge starts from; None: noise.
        encoding: of method constrained, what the columns or pixels are; shape is then that of an encoded sample.
        classes: names of the classes, in the order of their indices; empty without labels.
        columns: names of the columns of a table.
        decimals: of a table, what its columns are rounded to when they are written as text; None: not rounded.
        label_column: name and place of the column of a .csv file that the labels were read from.
        coordinates: of points on a manifold, what the columns of their table are; shape is then that of a point.
        times: of snapshots, increasing; source are rows of the first.
        inputs: of a table with a target, how its columns become inputs; source are those of all training rows.
        target: name of the column of the target.
    """

    shape: tuple[int, ...]
    kind: str
    num_classes: int
    shift: np.ndarray | float
    scale: np.ndarray | float
    deviation: float = 1.0
    source: np.ndarray | Array | None = None
    encoding: Encoding | None = None
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    decimals: tuple[int | None, ...] = ()
    label_column: tuple[str, int] = ("", 0)
    coordinates: Coordinates | None = None
    times: tuple[float, ...] = ()
    inputs: Inputs | None = None
    target: str = ""

    __repr__ = summary


@dataclass(frozen=True)
class Trained:
    """A run that another starts from.

    Attributes:
        options: the record of its method's options.
        params: what it learnt.
    """

    options: Any
    params: Params

    __repr__ = summary


@dataclass(frozen=True)
class Setup:
    """What a builder is given besides the options.

    Attributes:
        data: what is known of the data.
        network: ``network(shape=None, outputs=None, views=1, clock=1.0)``, the network that was asked for; shape of a
            sample (default the data's), shape of the output (default that of a sample), how many arrays it is shown
            side by side along the last axis, and the end of its clock.
        optimizer: ``optimizer(networks=1, rate=None, b1=0.9, b2=0.999)``, Adam whose rate decays over the updates that
            one of so many networks gets; rate: another peak than the one that was asked for.
        ema: decay of the averaged parameters.
        accumulate: micro-batches per update.
        decode: ``decode(key, x, args)``, from what is learnt to the data's own units.
        initial: the run to start from, or None.
    """

    data: DataSpec
    network: Callable[..., NetworkLike]
    optimizer: Callable[..., optax.GradientTransformation]
    ema: float
    accumulate: int
    decode: Decoder
    initial: Trained | None = None

    __repr__ = summary

    @property
    def null(self) -> int | None:
        """The label that stands for none; None without labels."""
        return self.data.num_classes or None

    def classes(self, options: Classes) -> dict[str, Any]:
        """Arguments of a method that learns classes.

        Raises:
            ValueError: guidance without labels.
        """
        if options.guidance != 1.0 and self.null is None:
            raise ValueError(f"guidance needs data with labels, got guidance {options.guidance:g}; leave it at 1")
        if options.condition_dropout != type(options)().condition_dropout and self.null is None:
            raise ValueError("condition_dropout needs data with labels, of which it hides a share; leave it out")
        dropout = options.condition_dropout if self.null is not None else 0.0
        return {"null": self.null, "condition_dropout": dropout, "guidance_scale": options.guidance}

    def common(self) -> dict[str, Any]:
        """Arguments of every method that is one loss: optimizer, ema, accumulate, decode."""
        return {
            "optimizer": self.optimizer(), "ema": self.ema, "accumulate": self.accumulate, "decode": self.decode,
        }  # fmt: skip
