"""What a run was asked for, as plain data: a method with its own options, a network, a training record and the data.

    method    {name, its options}          network   {network, width, depth, precision}
    training  {batch_size, ...}            data      {data, source, target, ...}

``to_record`` and ``from_record`` turn a Config into JSON or YAML and back. A setting that the method does not have is
refused by name, since its record has no such field; so is a value of another type or outside the choices.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from bridgejax.data.named import NAMES, TABLES
from bridgejax.data.reading import Reading
from bridgejax.methods._spec import InRounds, MethodSpec, NetworkOptions, Once, Training
from bridgejax.runs.registry import spec_of

if TYPE_CHECKING:
    from bridgejax._types import Json


@dataclass(frozen=True)
class Standardise:
    """The units of the data.

    Attributes:
        standardise: run in standardised units; without it in the data's own, so that sigma and epsilon are theirs.
    """

    standardise: bool = True


@dataclass(frozen=True)
class EncodedSet:
    """What is learnt.

    Attributes:
        data: what to learn: moons, checkerboard, spirals, swissroll, 8gaussians, pinwheel, digits, or a path to a
            .npy, .npz, .csv or .parquet file or a folder of images.
    """

    data: str = "digits"


@dataclass(frozen=True)
class OneSet(Standardise, EncodedSet):
    """What is learnt."""


@dataclass(frozen=True)
class TwoSets(Standardise):
    """What is learnt.

    Attributes:
        source: the data set that the bridge starts from (time 0): moons, checkerboard, spirals, swissroll, 8gaussians,
            pinwheel, digits, or a path to a .npy, .npz, .csv or .parquet file or a folder of images.
        target: the one it ends in (time 1); for methods of pairs row k belongs to row k of source.
    """

    source: str = ""
    target: str = ""


@dataclass(frozen=True)
class OneOrTwo(TwoSets, EncodedSet):
    """What is learnt: one data set, from noise, or the way from a source to a target."""


@dataclass(frozen=True)
class OnManifold:
    """What is learnt.

    Attributes:
        data: a .csv, .tsv, .parquet, .npy or .npz file whose rows are points of the manifold.
        manifold: sphere (2 columns: latitude, longitude in degrees; 3: unit vectors), torus (a column an angle) or so3
            (9 columns: rotation matrices, row after row; 4: quaternions x, y, z, w; 3: rotation vectors in radians).
        angles: unit of the angles of a torus: degrees (as if nothing is said) or radians.
        project: take the nearest point for rows that are off the manifold by more than rounding.
        group_column: column of a table, by name or number from 1, whose equal values stay on one side of the split
            into training and held-out rows: the structure, subject or day that rows were measured in; empty: none.
    """

    data: str = ""
    manifold: Literal["sphere", "torus", "so3"] | None = None
    angles: Literal["degrees", "radians"] | None = None
    project: bool = False
    group_column: str = ""

    def check(self, method: str) -> None:
        """Raise a ``ValueError`` for what a look at the words alone finds wrong, for a method of this name."""
        if self.manifold is None:
            raise ValueError(
                f"method {method!r} learns points on a manifold: say which, --manifold sphere, torus or so3"
            )
        if not self.data or self.data in NAMES:
            what = f"{self.data!r} is a set of points in the plane or of images" if self.data else "none was given"
            raise ValueError(
                f"method {method!r} needs a file of points on the {self.manifold}, --data FILE.csv, and {what}"
            )
        if self.angles is not None and self.manifold != "torus":
            has = "latitude and longitude are degrees" if self.manifold == "sphere" else "rotation vectors are radians"
            raise ValueError(
                f"angles {self.angles!r} is for --manifold torus; of a {self.manifold} {has}: leave --angles out"
            )
        if self.group_column and not self.data.lower().endswith(TABLES):
            raise ValueError(
                f"group_column names a column of a table, which {self.data} is not: give a {TABLES[0]} file"
            )
        if self.project and self.manifold == "torus":
            raise ValueError("project is for spheres and rotations; angles are wrapped anyway: leave --project out")


@dataclass(frozen=True)
class InTime:
    """What is learnt.

    Attributes:
        data: a .csv, .tsv or .parquet file of rows, each with its time in a column of its own, or a .npz file with
            rows x and times.
        time_column: the column of the times of a table, by its name or its number from 1.
    """

    data: str = ""
    time_column: str = "time"

    def check(self, method: str) -> None:
        """Raise a ``ValueError`` for what a look at the words alone finds wrong, for a method of this name."""
        if not self.data or self.data in NAMES:
            what = f"{self.data!r} has no times" if self.data else "none was given"
            raise ValueError(f"method {method!r} needs a file of snapshots in time, --data FILE.csv, and {what}")
        if not self.time_column:
            raise ValueError(f"time_column must name the column of times in {self.data}, and it is empty")


@dataclass(frozen=True)
class WithTarget:
    """What is learnt.

    Attributes:
        data: a .csv, .tsv or .parquet file; a fifth of its rows is held out to judge by.
        predict: the column to predict, by its name or its number from 1; the others are what it is predicted from
            (--columns: those alone), columns of text as categories.
        task: regression (the target is numbers), classes, or auto: classes where it holds text or two values.
    """

    data: str = ""
    predict: str = ""
    task: Literal["auto", "regression", "classes"] = "auto"

    def check(self, method: str) -> None:
        """Raise a ``ValueError`` for what a look at the words alone finds wrong, for a method of this name."""
        if not self.data or self.data in NAMES:
            what = f"{self.data!r} has no target" if self.data else "none was given"
            words = "--data FILE.csv --predict COLUMN"
            raise ValueError(f"method {method!r} needs a table with a column to predict, {words}, and {what}")
        if not self.data.lower().endswith(TABLES):
            raise ValueError(
                f"method {method!r} reads a table, --data FILE.csv, got {self.data!r}; from arrays: "
                "bridgejax.methods.deep_gp(inputs, targets)"
            )
        if not self.predict:
            raise ValueError(f"method {method!r} predicts one column of {self.data}: say which, --predict COLUMN")


DATA: dict[str, type] = {
    "one set": OneSet,
    "two sets": TwoSets,
    "pairs": TwoSets,
    "one or two": OneOrTwo,
    "manifold": OnManifold,
    "snapshots": InTime,
    "supervised": WithTarget,
}


@dataclass(frozen=True)
class Config:
    """Everything that decides what is learnt.

    Attributes:
        method: its name.
        options: a record of its own options, ``MethodSpec.options``.
        network: the network; None where the method has none.
        training: how it is fitted.
        data: what it is fitted to.
        reading: how its files are read.
        seed: decides everything random.
    """

    method: str
    options: Any
    network: NetworkOptions | None
    training: Training | InRounds | Once
    data: Any
    reading: Reading = dataclasses.field(default_factory=Reading)
    seed: int = 0

    @property
    def spec(self) -> MethodSpec:
        """The method's spec."""
        return spec_of(self.method)

    @property
    def keeps_pairs(self) -> bool:
        """Whether row k of the source belongs to row k of the target."""
        return self.spec.paired or getattr(self.options, "coupling", "") == "paired"


def default(method: str) -> Config:
    """The Config of a method with nothing said.

    Raises:
        ValueError: an unknown method.
    """
    spec = spec_of(method)
    data = EncodedSet() if spec.encoded else DATA[spec.data]()
    return Config(method, spec.options(), NetworkOptions() if spec.network else None, spec.training, data)


def configure(method: str, seed: int = 0, **settings: object) -> Config:
    """A Config by flat settings: each goes to the record that has it.

    Args:
        method: its name.
        seed: decides everything random.
        **settings: options of the method, of its network, training and data, by name.

    Raises:
        ValueError: an unknown method, a setting that it does not have (with the nearest that it has), a value of
            another type or outside the choices.
    """
    config = dataclasses.replace(default(method), seed=_checked(int, seed, "seed"))
    known = {field: part for part, record in _records(config) for field in _fields(record)}
    changes: dict[str, Json] = {}
    for name, value in settings.items():
        if name not in known:
            raise ValueError(_unknown(method, name, known))
        changes.setdefault(known[name], {})[name] = value
    parts = {part: replaced(getattr(config, part), given) for part, given in changes.items()}
    return dataclasses.replace(config, **parts)


def to_record(config: Config) -> Json:
    """The Config as JSON values."""
    parts = {part: dataclasses.asdict(record) for part, record in _records(config)}
    return {"method": {"name": config.method, **parts.pop("options")}, **parts, "seed": config.seed}


def from_record(record: object) -> Config:
    """The inverse of ``to_record``; what is left out has its default.

    Raises:
        ValueError: no method, an unknown part or setting, a value of another type or outside the choices.
    """
    if not isinstance(record, dict) or not isinstance(record.get("method"), dict | str):
        raise ValueError("a configuration must be a mapping with method: {name: ...}, network, training and data")
    method = {"name": record["method"]} if isinstance(record["method"], str) else dict(record["method"])
    if "name" not in method:
        raise ValueError("method must have a name, as in method: {name: diffusion}")
    config = default(_checked(str, method.pop("name"), "method"))
    parts = {"options": method, **{part: value for part, value in record.items() if part not in ("method", "seed")}}
    known = dict(_records(config))
    made: Json = {}
    for part, given in parts.items():
        if part not in known:
            raise ValueError(_unknown(config.method, part, ("method", *(k for k in known if k != "options"), "seed")))
        given = {} if given is None else given
        if not isinstance(given, dict):
            raise ValueError(f"{part} must be a mapping of settings, got {given!r:.60}")
        wrong = [name for name in given if name not in _fields(known[part])]
        if wrong:
            raise ValueError(_unknown(config.method, str(wrong[0]), _fields(known[part])))
        made[part] = replaced(known[part], given)
    return dataclasses.replace(config, **made, seed=_checked(int, record.get("seed", 0), "seed"))


def _records(config: Config) -> list[tuple[str, Any]]:
    names = ("options", "network", "training", "data", "reading")
    return [(part, getattr(config, part)) for part in names if getattr(config, part) is not None]


def _fields(record: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(record))


def _unknown(method: str, name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"method {method!r} has no setting {name!r}; {hint}it has {', '.join(sorted(known))}"


def replaced(record: Any, given: Json) -> Any:
    """A record with some of its fields replaced, each of the kind that the field takes; else a ``ValueError``."""
    hints = typing.get_type_hints(type(record))
    return dataclasses.replace(record, **{name: _checked(hints[name], value, name) for name, value in given.items()})


def _checked(kind: Any, value: object, name: str) -> Any:
    """The value if it is of the kind, whole numbers for floats taken; raise a ``ValueError`` that says what may be."""
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    choices: list[str] = []
    for one in kinds:
        if get_origin(one) is Literal:
            choices += [repr(choice) for choice in get_args(one)]
            if value in get_args(one):
                return value
        elif one is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        elif one is type(None) and value is None:
            return None
        elif isinstance(value, one) and not (one is int and isinstance(value, bool)):
            return value
        else:
            choices.append("None" if one is type(None) else f"a {one.__name__}")
    raise ValueError(f"{name} must be {' or '.join(dict.fromkeys(choices))}, got {value!r}")
