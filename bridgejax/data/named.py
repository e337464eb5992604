"""What can be loaded, by name or by path: the table of names, and a look at a path before anything is read. No JAX."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

TOYS: tuple[str, ...] = ("moons", "checkerboard", "spirals", "swissroll", "8gaussians", "pinwheel")
NAMES: tuple[str, ...] = (*TOYS, "digits")
TEXTS: tuple[str, ...] = (".csv", ".tsv")
TABLES: tuple[str, ...] = (*TEXTS, ".parquet")
SUFFIXES: tuple[str, ...] = (".npy", ".npz", *TABLES)
IMAGE_SUFFIXES: tuple[str, ...] = (".png", ".jpg", ".jpeg")


def check_source(name_or_path: str) -> None:
    """Look at what is to be loaded: a name of the table, or a path where something is.

    Raises:
        ValueError: neither a name nor a path (naming the nearest), or no usable path.
        FileNotFoundError: a path where nothing is.
        PermissionError: a path that may not be looked at.
    """
    if name_or_path not in NAMES:
        mode_of(path_of(name_or_path))


def path_of(name_or_path: str | os.PathLike[str]) -> Path:
    """The path meant by what is no name of the table.

    Raises:
        ValueError: neither a name nor a path.
    """
    text = os.fspath(name_or_path)
    path = Path(os.path.expanduser(text))
    looks_like_path = (
        not isinstance(name_or_path, str)
        or os.sep in text
        or "/" in text
        or path.suffix.lower() in (*SUFFIXES, *IMAGE_SUFFIXES)
        or (text.strip() and os.path.lexists(path))  # the empty text is no name for the working directory
    )
    if looks_like_path:
        return path
    near = difflib.get_close_matches(text.lower(), NAMES, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(
        f"{text!r:.100} is neither a data set nor a file here; {hint}Data sets: {', '.join(NAMES)}; or a path to a "
        f"{', '.join(SUFFIXES)} file or a folder of images"
    )


def mode_of(path: Path) -> int:
    """The mode of a file or folder, as ``os.stat`` has it.

    Raises:
        FileNotFoundError: nothing is there.
        PermissionError: it may not be looked at.
        ValueError: no usable path.
    """
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{path} does not exist; expected a {expected()}") from None
    except PermissionError:
        raise PermissionError(f"{path} may not be read: permission denied; check it and its folder") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path!s:.200} is no usable path ({error}); expected a {expected()}") from None


def expected() -> str:
    """What a path may name."""
    return f"{', '.join(SUFFIXES)} file or a folder of png/jpg images"
