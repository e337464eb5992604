"""``load``: a name or a path -> Dataset. The one place that knows what can be loaded."""

from __future__ import annotations

import dataclasses
import os

import numpy as np

from bridgejax.data import files, toys
from bridgejax.data.arrays import Dataset, from_array, take
from bridgejax.data.memory import at_most
from bridgejax.data.named import NAMES, path_of
from bridgejax.data.reading import Reading

_TOY_SIZE = 10_000


def load(
    name_or_path: str | os.PathLike[str],
    *,
    seed: int = 0,
    num: int | None = None,
    text: bool = False,
    max_memory: str | int = "",
    **reading: str,
) -> Dataset:
    """A named set, or the user's own data, standardised.

    Args:
        name_or_path: one of ``NAMES`` (the planar toys and ``digits``), or a path: a ``.npy``, ``.npz``, ``.csv``,
            ``.tsv`` or ``.parquet`` file or a folder of images (see ``bridgejax.data.files``). A name wins over a file
            of that name in the working directory; write ``./moons`` for the latter.
        seed: draws the toys, and the subset when ``num`` is smaller than a file; a non-negative integer.
        num: number of samples, >= 2. Toys are drawn at this size (10,000 by default); of anything else this
            many rows are drawn without replacement (all by default).
        text: whether columns of a table may hold text, which is read as categories.
        max_memory: what the reading may take, as in ``"4GB"`` or a number of bytes; by default the variable
            ``BRIDGEJAX_MAX_MEMORY`` of the environment, else half of this machine's memory. A file whose headers
            declare more is refused before it is read.
        reading: fields of ``data.Reading``, how a file or folder is read: ``label_column``, ``missing``, ``header``,
            ``decimal``, ``thousands``, ``kind``, ``resize``, ``crop``.

    Returns:
        A Dataset. Vectors and series are standardised by the mean and deviation of columns and channels, images to
        [-1, 1].

    Raises:
        ValueError: unknown name (naming the nearest), or data that cannot be used, in one sentence.
        FileNotFoundError: a path where nothing is.
        PermissionError: a path that may not be read.
        ImportError: ``digits`` without scikit-learn, images without pillow, tables without pyarrow.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> data = bj.data.load("moons", num=100)
        >>> data.shape, len(data)
        ((2,), 100)
    """
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise ValueError(f"name_or_path must be a name or a path, got {type(name_or_path).__name__}")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed must be an integer >= 0, got {seed!r}")
    if num is not None and (isinstance(num, bool) or not isinstance(num, (int, np.integer)) or num < 2):
        raise ValueError(f"num must be an integer >= 2, got {num!r}")
    known = [field.name for field in dataclasses.fields(Reading)]
    unknown = sorted(set(reading) - set(known))
    if unknown:
        raise ValueError(f"load has no argument {unknown[0]!r}; of a file it takes {', '.join(known)}")
    how = Reading(**reading)  # pyright: ignore[reportArgumentType]
    if name_or_path in NAMES and how.given():
        raise ValueError(f"{name_or_path!r} is made here, not read from a file; leave {', '.join(how.given())} out")
    if name_or_path in toys.NAMES:
        name = str(name_or_path)
        return from_array(toys.sample(name, seed, _TOY_SIZE if num is None else num), name=name)
    with at_most(max_memory):
        dataset = _digits() if name_or_path == "digits" else files.read(path_of(name_or_path), how, text=text)
    if num is None:
        return dataset
    if num > len(dataset):
        raise ValueError(f"num is {num}, but {dataset.name} has {len(dataset)} samples; leave num out to use them all")
    order = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 1]))).permutation(len(dataset))
    return take(dataset, np.sort(order[:num]))


def _digits() -> Dataset:
    """The 1,797 scanned digits of scikit-learn: 8 x 8 x 1, values 0 to 16, ten classes (Alpaydin & Kaynak 1998)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError("the set 'digits' comes with scikit-learn: pip install 'bridgejax[run]'") from None
    x, labels = load_digits(return_X_y=True)
    return from_array(np.reshape(x, (-1, 8, 8)), labels, name="digits", value_range=(0.0, 16.0))
