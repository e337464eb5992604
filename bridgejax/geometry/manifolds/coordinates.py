"""The columns of a table as points of a manifold, and back: what a file of places, angles or rotations holds.

    sphere   2 columns   latitude, longitude in degrees         3   unit vectors
    torus    d columns   angles, in degrees or in radians
    so3      9 columns   rotation matrices, row after row       4   quaternions (x, y, z, w)    3   rotation vectors

The number of columns decides. Points are float32, the columns float64: a place is then known to a metre.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Numbers
from bridgejax.geometry.manifolds import earth, rotations
from bridgejax.geometry.manifolds._groups import SO
from bridgejax.geometry.manifolds._manifold import Manifold
from bridgejax.geometry.manifolds._vectors import Sphere, Torus

Name = Literal["sphere", "torus", "so3"]
Form = Literal["latitude and longitude", "unit vectors", "angles", "matrices", "quaternions", "rotation vectors"]

_FORMS: dict[str, dict[int, Form]] = {
    "sphere": {2: "latitude and longitude", 3: "unit vectors"},
    "so3": {9: "matrices", 4: "quaternions", 3: "rotation vectors"},
}
_TAKES = {
    "sphere": "2 columns (latitude, longitude in degrees) or 3 (unit vectors)",
    "so3": "9 columns (rotation matrices, row after row), 4 (quaternions x, y, z, w) or 3 (rotation vectors)",
}
_COLUMNS: dict[str, tuple[str, ...]] = {
    "latitude and longitude": ("latitude", "longitude"),
    "unit vectors": ("x", "y", "z"),
    "matrices": tuple(f"r{i}{j}" for i in "123" for j in "123"),
    "quaternions": ("x", "y", "z", "w"),
    "rotation vectors": ("x", "y", "z"),
}
_ENOUGH = 10  # rows from which the range of all of them says something about their unit
_ROUNDING = 1e-3  # how far off a point may be that was written with few decimals
_AROUND = {"degrees": 360.0, "radians": 2.0 * math.pi}


@partial(
    register_dataclass,
    data_fields=(),
    meta_fields=("manifold", "form", "count", "unit", "positive"),
)
@dataclass(frozen=True)
class Coordinates:
    """How the columns of a table stand for points of a manifold.

    Args:
        manifold: sphere, torus or so3.
        form: latitude and longitude, unit vectors; angles; matrices, quaternions, rotation vectors.
        count: number of columns.
        unit: degrees or radians of angles and of latitude and longitude; empty elsewhere.
        positive: whether longitudes and angles are written from 0 to a full turn, not from minus to plus half a turn.

    Example:
        >>> import bridgejax as bj
        >>> places = bj.manifolds.coordinates.Coordinates("sphere", "latitude and longitude", 2, "degrees")
        >>> x = places.to_points([[90.0, 0.0], [0.0, -90.0]])
        >>> x.round(3).tolist(), places.to_columns(x).round(3).tolist()
        ([[-0.0, 0.0, 1.0], [-0.0, -1.0, 0.0]], [[90.0, 0.0], [0.0, -90.0]])
    """

    manifold: Name
    form: Form
    count: int
    unit: str = ""
    positive: bool = False

    __repr__ = summary

    @property
    def space(self) -> Manifold:
        """The manifold itself."""
        return {"sphere": Sphere(2), "torus": Torus(self.count), "so3": SO(3)}[self.manifold]

    @property
    def names(self) -> tuple[str, ...]:
        """Names for columns that have none of their own."""
        return _COLUMNS.get(self.form) or tuple(f"angle {k + 1}" for k in range(self.count))

    @property
    def embedded(self) -> tuple[str, ...]:
        """Names of the numbers of ``space.features``."""
        if self.manifold == "torus":
            return tuple(f"{of} {k + 1}" for of in ("cos of angle", "sin of angle") for k in range(self.count))
        return _COLUMNS["unit vectors" if self.manifold == "sphere" else "matrices"]

    def __str__(self) -> str:
        if self.form == "angles":
            return f"{self.count} angle{'s' * (self.count > 1)} in {self.unit}"
        return {
            "latitude and longitude": "latitude and longitude in degrees",
            "matrices": "rotation matrices, row after row",
            "quaternions": "unit quaternions (x, y, z, w), scalar last",
            "rotation vectors": "rotation vectors in radians",
        }.get(self.form, self.form)

    def to_points(self, columns: Numbers, name: str = "x", *, project: bool = False) -> np.ndarray:
        """Rows of a table as points.

        Args:
            columns: (n, count).
            name: of the table, for messages.
            project: whether vectors, quaternions and matrices that are off the manifold become the nearest point.

        Returns:
            float32 (n, *space.shape).

        Raises:
            ValueError: another number of columns, numbers that are not finite, and rows that are no points: which row,
                what is wrong with it and what to do.
        """
        rows = np.asarray(columns, np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.count:
            raise ValueError(f"{name} must have {self.count} columns, {self}, got shape {rows.shape}")
        if not np.isfinite(rows).all():
            raise ValueError(f"{name} holds numbers that are not finite; leave such rows out")
        if self.form == "latitude and longitude":
            _check_degrees(rows, name)
            points = jax.jit(earth.from_degrees)(rows[:, 0], rows[:, 1])
        elif self.form == "angles":
            _check_angles(rows, name, self.unit)
            around = _AROUND[self.unit]
            points = np.clip((rows - around * np.round(rows / around)) * (2.0 * math.pi / around), -math.pi, math.pi)
            points = np.clip(points.astype(np.float32), *_HALF_TURN)
        elif self.form == "rotation vectors":
            _check_vectors(rows, name)
            points = jax.jit(rotations.from_vector)(rows)
        elif self.form == "matrices":
            points = _matrices(rows, name, project=project)
        else:
            points = _unit(rows, name, self.form, project=project)
            points = jax.jit(rotations.from_quaternion)(points) if self.form == "quaternions" else points
        return np.asarray(points, np.float32)

    def decode(self, x: Array) -> Array:
        """One point as a row, (count,); may be traced."""
        if self.form == "latitude and longitude":
            latitude, longitude = earth.to_degrees(x)
            return jnp.stack([latitude, self._from_zero(longitude)])
        if self.form == "angles":
            return self._from_zero(jnp.rad2deg(x) if self.unit == "degrees" else x)
        if self.form == "quaternions":
            return rotations.to_quaternion(x)
        return rotations.to_vector(x) if self.form == "rotation vectors" else jnp.reshape(x, -1)

    def _from_zero(self, angle: Array) -> Array:
        return jnp.where(angle < 0, angle + _AROUND[self.unit], angle) if self.positive else angle

    def to_columns(self, points: Numbers) -> np.ndarray:
        """Points (n, *space.shape) as rows of a table, float64 (n, count)."""
        return np.asarray(_decoded(self, jnp.asarray(points)), np.float64)


@partial(jax.jit, static_argnums=0)
def _decoded(coordinates: Coordinates, points: Array) -> Array:
    return jax.vmap(coordinates.decode)(points)


_HALF_TURN = (-np.float32(math.pi), np.float32(math.pi))


def read(
    columns: Numbers,
    manifold: Name,
    *,
    angles: str | None = None,
    project: bool = False,
    names: Sequence[str] = (),
    name: str = "x",
) -> tuple[Coordinates, np.ndarray]:
    """What the columns of a table are, by their number, and the points that its rows stand for.

    Args:
        columns: (n, count).
        manifold: sphere, torus or so3.
        angles: degrees or radians, of a torus; None: degrees.
        project: as ``Coordinates.to_points``.
        names: of the columns.
        name: of the table, for messages.

    Returns:
        The Coordinates, and float32 points (n, *space.shape).

    Raises:
        ValueError: a number of columns that the manifold does not have, columns that look exchanged or like another
            unit, and what ``Coordinates.to_points`` raises.
    """
    if manifold not in get_args(Name):
        raise ValueError(f"manifold must be one of {', '.join(get_args(Name))}, got {manifold!r}")
    rows = np.asarray(columns, np.float64)
    rows = rows.reshape(len(rows), -1)
    count = rows.shape[1]
    if manifold == "torus":
        form, unit = "angles", angles or "degrees"
    else:
        form = _FORMS[manifold].get(count)
        unit = "degrees" if form == "latitude and longitude" else ""
        if form is None:
            raise ValueError(
                f"{name} has {count} column{'s' * (count != 1)}, and manifold {manifold} takes {_TAKES[manifold]}; "
                "choose them with --columns"
            )
    given = [text.lower() for text in names]
    if unit and form != "angles" and len(given) == 2 and given[0].startswith("lon") and given[1].startswith("lat"):
        raise ValueError(
            f"{name} has the columns {names[0]}, {names[1]}, and latitude comes first: --columns {names[1]},{names[0]}"
        )
    written = rows[:, 1] if form == "latitude and longitude" else rows
    half = 0.5 * _AROUND[unit] if unit else math.inf
    positive = bool(unit) and written.min() >= 0 and written.max() > half
    if unit == "degrees":
        _check_unit(rows, name, form)
    found = Coordinates(manifold, form, count, unit, bool(positive))
    return found, found.to_points(rows, name, project=project)


# what is wrong with a row -------------------------------------------------------------------------------------------


def _check_degrees(rows: np.ndarray, name: str) -> None:
    """Raise for latitudes and longitudes that are none."""
    latitude, longitude = rows.T
    at = int(np.argmax(np.abs(latitude)))
    if abs(latitude[at]) > 90.0:
        raise ValueError(
            f"{name}: row {at + 1} has latitude {latitude[at]:g}, beyond 90 degrees; latitude comes first: are the "
            "columns exchanged? --columns says in which order they are read"
        )
    at = int(np.argmax(np.abs(longitude - 90.0)))
    if not -180.0 <= longitude[at] <= 360.0:
        raise ValueError(
            f"{name}: row {at + 1} has longitude {longitude[at]:g}; longitudes are degrees east in [-180, 180] or "
            "[0, 360]: take them modulo 360 first"
        )


def _check_angles(rows: np.ndarray, name: str, unit: str) -> None:
    """Raise for angles that look like another unit, or that go around more than once."""
    at = np.unravel_index(int(np.argmax(np.abs(rows))), rows.shape)
    most, row = abs(float(rows[at])), int(at[0]) + 1
    if unit == "radians" and most > 2.0 * math.pi + 1e-6:
        raise ValueError(
            f"{name}: row {row} has the angle {rows[at]:g}, beyond 2 pi: these look like degrees where radians were "
            "said; give --angles degrees"
        )
    if unit == "degrees" and most > 360.0 + 1e-6:
        raise ValueError(
            f"{name}: row {row} has the angle {rows[at]:g}, beyond 360 degrees; take the angles modulo 360 first"
        )


def _check_unit(rows: np.ndarray, name: str, form: str) -> None:
    """Raise where the range of all rows is that of radians and degrees were said."""
    most = np.abs(rows).max(axis=0)
    if len(rows) < _ENOUGH:
        return
    if form == "latitude and longitude" and most[0] <= 0.5 * math.pi and most[1] <= 2.0 * math.pi:
        raise ValueError(
            f"{name}: no latitude is beyond {most[0]:.3g} and no longitude beyond {most[1]:.3g}, which look like "
            "radians; latitude and longitude are read in degrees: multiply them by 180 / pi first"
        )
    if form == "angles" and most.max() <= 2.0 * math.pi:
        raise ValueError(
            f"{name}: no angle is beyond {most.max():.3g}: these look like radians where degrees were said; give "
            "--angles radians (degrees that are all so small: multiply them by pi / 180 first)"
        )


def _check_vectors(rows: np.ndarray, name: str) -> None:
    """Raise for rotation vectors longer than a full turn."""
    length = np.linalg.norm(rows, axis=1)
    at = int(np.argmax(length))
    if length[at] > 2.0 * math.pi + 1e-6:
        raise ValueError(
            f"{name}: row {at + 1} is a rotation vector of length {length[at]:.4g}, beyond 2 pi: these look like "
            "degrees; rotation vectors are read in radians: multiply them by pi / 180 first"
        )


def _unit(rows: np.ndarray, name: str, form: str, *, project: bool) -> np.ndarray:
    """Vectors or quaternions of length 1."""
    one = "quaternion" if form == "quaternions" else "vector"
    length = np.linalg.norm(rows, axis=1)
    at = int(np.argmin(length))
    if length[at] == 0:
        raise ValueError(f"{name}: row {at + 1} is a {one} of norm 0, which has no direction; leave that row out")
    off = np.abs(length - 1.0)
    at = int(np.argmax(off))
    if off[at] > _ROUNDING and not project:
        raise ValueError(
            f"{name}: row {at + 1} is a {one} of norm {length[at]:.4g}, off the sphere by {off[at]:.3g}; --project "
            f"divides every {one} by its norm"
        )
    return rows / length[:, None]


def _matrices(rows: np.ndarray, name: str, *, project: bool) -> Array:
    """Rotation matrices."""
    r = rows.reshape(-1, 3, 3)
    off = np.abs(np.einsum("nji,njk->nik", r, r) - np.eye(3)).max(axis=(1, 2))
    at = int(np.argmax(off))
    if off[at] > _ROUNDING and not project:
        raise ValueError(
            f"{name}: row {at + 1} is no rotation matrix: R^T R is off the identity by {off[at]:.3g}; --project takes "
            "the nearest rotation"
        )
    determinant = np.linalg.det(r)
    at = int(np.argmin(determinant))
    if determinant[at] <= 1e-6:
        what = "a reflection (its negative is a rotation)" if determinant[at] < -1e-6 else "singular"
        raise ValueError(
            f"{name}: row {at + 1} has determinant {determinant[at]:.3g}: it is {what}, and rotations have determinant "
            "1; mend or leave that row out"
        )
    return jax.jit(jax.vmap(SO(3).project))(r)
