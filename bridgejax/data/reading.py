"""How a file or a folder is read: what the user can say where the file does not."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

Missing = Literal["refuse", "drop", "impute"]
Header = Literal["auto", "yes", "no"]
Kind = Literal["auto", "table", "series", "image"]
Decimal = Literal["point", "comma"]
Thousands = Literal["none", "comma", "point", "space", "apostrophe"]
MARKS = {"none": "", "comma": ",", "point": ".", "space": " ", "apostrophe": "'"}


@dataclasses.dataclass(frozen=True)
class Reading:
    """How a file or a folder is read.

    Attributes:
        label_column: column of a table (.csv, .tsv, .parquet) that holds the class of each row: its name, or its number
            (from 1) where there is none; empty: rows have no classes.
        columns: columns of a table to read, in this order, by their names or numbers (from 1): lat,lon or 3-9;
            empty: all but that of the labels.
        missing: what becomes of missing values (empty cells, NA, n/a, nan, null, none, ?, and NaN in arrays): refuse
            them; drop such rows; or impute, which puts in the median of the column (the commonest text). How many there
            were is said. Rows without a label are dropped.
        header: whether the first row of a .csv file names its columns: yes, no, or auto (it does when none of its cells
            is a number; a first row that could be either is refused).
        decimal: what stands before decimals in a .csv file: point, or comma as in 1,5 (parted by semicolons or tabs).
        thousands: what parts thousands there, in groups of three: none, comma as in 1,234.5, point as in 1.234,5, space
            or apostrophe.
        kind: what a sample is: table (columns that have units of their own), series (times in order, (T,) or (T, C)
            with C channels), image, or auto, by the shape: see ``from_array``.
        resize: size of images, scaled with a bicubic filter: one number is the shorter side, the longer follows; or
            HEIGHTxWIDTH, which may stretch them.
        crop: the middle of images after that, HEIGHTxWIDTH or one number for a square.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> bj.data.Reading(missing="drop", header="yes").given()
        ['missing', 'header']
    """

    label_column: str = ""
    columns: str = ""
    missing: Missing = "refuse"
    header: Header = "auto"
    decimal: Decimal = "point"
    thousands: Thousands = "none"
    kind: Kind = "auto"
    resize: str = ""
    crop: str = ""

    def __post_init__(self) -> None:
        named = {"missing": Missing, "header": Header, "decimal": Decimal, "thousands": Thousands, "kind": Kind}
        for name, kinds in named.items():
            value = getattr(self, name)
            if value not in get_args(kinds):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kinds))}, got {value!r}")
        if self.decimal == self.thousands:
            raise ValueError(f"thousands are parted by {self.thousands!r}, and so are decimals; say one of the two")
        if not isinstance(self.label_column, str):
            raise ValueError(f"label_column must be the name of a column, got {self.label_column!r}")
        if not isinstance(self.columns, str):
            raise ValueError(f"columns must be text such as 'lat,lon' or '3-9', got {self.columns!r}")
        for name in ("resize", "crop"):
            object.__setattr__(self, name, _text(getattr(self, name)))

    def given(self) -> list[str]:
        """The names of what is not as by default."""
        return [field.name for field in dataclasses.fields(self) if getattr(self, field.name) != field.default]

    def flags(self) -> str:
        """The same as they are typed."""
        return ", ".join("--" + name.replace("_", "-") for name in self.given())


def _text(value: object) -> str:
    """A size as it is typed: 64, (48, 64) and "48x64" all serve."""
    return "x".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def size(text: str, name: str) -> tuple[int, ...]:
    """() for the empty text, (S,) or (height, width).

    Raises:
        ValueError: for any other text.
    """
    parts = text.lower().split("x") if text else []
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() and 0 < int(part) <= 65_536 for part in parts):
        raise ValueError(f"{name} must be a number of pixels such as 64, or HEIGHTxWIDTH such as 48x64, got {text!r}")
    return tuple(map(int, parts))
