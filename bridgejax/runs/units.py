"""The map between the units of the data and those of the model, see ``runs.run``."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._summary import summary
from bridgejax._types import Numbers
from bridgejax.data.columns import Encoding
from bridgejax.geometry.manifolds.coordinates import Coordinates

UNITS = ("data", "model")


class Units(NamedTuple):
    """The map between the units of the data and those of the model, where states are about 1.

    Attributes:
        shift: subtracted from data, a number for each coordinate or one for all.
        scale: data are divided by it, positive, of the shape of ``shift``.
        shape: of one sample; None: as the state of the model.
        flat: whether the model's states are samples made flat.
        encoding: of data that are not scaled but encoded column by column (method ``constrained``); None elsewhere.
        coordinates: of points on a manifold, what the columns of their table are; None elsewhere.
    """

    shift: np.ndarray | float = 0.0
    scale: np.ndarray | float = 1.0
    shape: tuple[int, ...] | None = None
    flat: bool = False
    encoding: Encoding | None = None
    coordinates: Coordinates | None = None

    __repr__ = summary

    def to_model(self, x: Numbers) -> Array:
        """Samples (n, *shape) as states of the model: (x - shift) / scale, computed in float64."""
        if self.coordinates is not None:
            return jnp.asarray(self.coordinates.to_points(x))
        if self.encoding is not None:
            return jnp.asarray(self.encoding.encode(np.asarray(x)))
        kind = getattr(x, "dtype", jnp.float32)
        kind = kind if jnp.issubdtype(kind, jnp.floating) else jnp.float32
        z = (np.asarray(x, np.float64) - self.shift) / self.scale
        z = jnp.asarray(z, jax.dtypes.canonicalize_dtype(kind))
        return z.reshape(z.shape[0], -1) if self.flat else z

    def to_data(self, z: Numbers) -> np.ndarray:
        """States of the model as samples (n, *shape): scale z + shift, on the host.

        Vectors are float64, as times near 1.7e9 have no digits left in float32; images are float32.
        """
        z = np.asarray(z)
        if self.coordinates is not None:
            return self.coordinates.to_columns(z)
        if self.encoding is not None:
            x = self.encoding.decode(z)
        else:
            z = z.reshape(len(z), *self.shape) if self.flat and self.shape else z
            x = np.asarray(z, np.float64) * self.scale + self.shift
        return x if x.ndim == 2 else x.astype(np.float32)

    def one_scale(self, what: str) -> float:
        """The scale, where all coordinates have the same; else a ``ValueError`` about ``what``."""
        scale = np.unique(np.asarray(self.scale))
        if self.encoding is not None or len(scale) > 1:
            raise ValueError(
                f"{what} is one number for all coordinates, whose scales differ in this run; "
                "give everything in the model's units, with units='model' and to_model"
            )
        return float(scale[0])
