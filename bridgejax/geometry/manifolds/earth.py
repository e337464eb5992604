"""Latitude and longitude in degrees as unit vectors, and back.

(x, y, z) = (cos lat cos lon, cos lat sin lon, sin lat):  z points to the north pole, x to 0 N 0 E
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from bridgejax._checks import as_real, check_finite
from bridgejax._numerics import as_wide, safe_sqrt
from bridgejax._types import Numbers


def from_degrees(latitude: Numbers, longitude: Numbers) -> Array:
    """Unit vectors of places on a globe.

    Args:
        latitude: degrees north, in [-90, 90].
        longitude: degrees east, in [-180, 360].

    Returns:
        (..., 3), with the leading axes of the broadcast arguments.

    Raises:
        ValueError: values beyond the range.
    """
    latitude, longitude = as_wide(as_real(latitude, "latitude")), as_wide(as_real(longitude, "longitude"))
    check_finite(latitude=latitude, longitude=longitude)
    for name, value, low, high in (("latitude", latitude, -90.0, 90.0), ("longitude", longitude, -180.0, 360.0)):
        if not isinstance(value, Tracer) and value.size and not np.all((value >= low) & (value <= high)):
            worst = float(value.reshape(-1)[np.argmax(np.abs(np.asarray(value)))])
            raise ValueError(
                f"{name} must be degrees in [{low:g}, {high:g}], got {worst:g}; are the columns exchanged "
                "(latitude comes first), or is this another unit?"
            )
    lat, lon = jnp.deg2rad(latitude), jnp.deg2rad(longitude)
    lat, lon = jnp.broadcast_arrays(lat, lon)
    return jnp.stack([jnp.cos(lat) * jnp.cos(lon), jnp.cos(lat) * jnp.sin(lon), jnp.sin(lat)], axis=-1)


def to_degrees(x: Numbers) -> tuple[Array, Array]:
    """Latitude and longitude, in degrees, of unit vectors.

    Args:
        x: (..., 3).

    Returns:
        Latitude in [-90, 90] and longitude in [-180, 180], each of the leading axes of x; 0 E at the poles.

    Raises:
        ValueError: another last axis.
    """
    x = as_wide(as_real(x, "x"))
    if x.ndim < 1 or x.shape[-1] != 3:
        raise ValueError(f"x must have a last axis of 3, unit vectors of space, got shape {x.shape}")
    level = safe_sqrt(x[..., 0] ** 2 + x[..., 1] ** 2)
    pole = level == 0
    longitude = jnp.arctan2(jnp.where(pole, 0.0, x[..., 1]), jnp.where(pole, 1.0, x[..., 0]))
    return jnp.rad2deg(jnp.arctan2(x[..., 2], level)), jnp.rad2deg(longitude)
