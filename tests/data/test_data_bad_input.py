"""Bad input to batches and splits: an error of one sentence that names the argument."""

import pathlib
import tempfile

import numpy as np
import pytest
from bad_input import COUNT, POINTS_X, POSITIVE, arguments, refuse_wrong
from PIL import Image

from bridgejax import data

SEED = ("text", "count")
FILE = pathlib.Path(tempfile.mkdtemp()) / "rows.npy"
np.save(FILE, np.asarray(POINTS_X))
PICTURES = pathlib.Path(tempfile.mkdtemp())
Image.fromarray(np.zeros((4, 4), np.uint8)).save(PICTURES / "a.png")

# name: (function, a right call, {argument: kinds of wrong})
TABLE = {
    "Batches": (
        data.Batches,
        dict(x=POINTS_X, batch_size=2, seed=0),
        {"x": ("text", "none"), "batch_size": COUNT, "seed": SEED},
    ),
    "Images": (
        data.Images,
        dict(folder=PICTURES, batch_size=2, seed=0),
        {
            **{"folder": ("none", "directory"), "batch_size": COUNT, "seed": SEED, "convert": ("function",)},
            **{name: ("none", "not finite", "negative") for name in ("resize", "crop")},
        },
    ),
    "NoData": (data.NoData, dict(batch_size=2), {"batch_size": COUNT}),
    "Pairs": (
        data.Pairs,
        dict(source=POINTS_X, target=POINTS_X, batch_size=2, seed=0),
        {
            **{"source": ("text", "none"), "target": ("text", "none"), "batch_size": COUNT, "seed": SEED},
            "coupling": ("function",),
        },
    ),
    "Passes": (
        data.Passes,
        dict(iterable=[POINTS_X]),
        {"iterable": ("none",), "convert": ("function",), "replay": ("text",)},
    ),
    "Shards": (
        data.Shards,
        dict(paths=FILE, batch_size=2, seed=0, window=8),
        {
            **{"paths": ("none",), "batch_size": COUNT, "seed": SEED, "window": COUNT},
            **{"columns": ("function",), "convert": ("function",)},
        },
    ),
    "split": (
        data.split,
        dict(dataset=data.from_array(POINTS_X), holdout=0.2, seed=0),
        {"dataset": ("other",), "holdout": POSITIVE, "seed": SEED},
    ),
    "Snapshots": (
        data.Snapshots,
        dict(times=[0.0, 1.0], arrays=[POINTS_X, POINTS_X], weights=[np.ones(4), np.ones(4)]),
        {
            "times": ("none", "snapshot times"),
            "arrays": ("none", "text", "spoilt", "snapshots"),
            "weights": ("text", "negative", "spoilt"),
        },
    ),
    "prefetch": (
        data.prefetch,
        dict(batches=data.Batches(POINTS_X, 2), start=0, stop=2, depth=2),
        {"batches": ("other",), "start": SEED, "depth": COUNT},
    ),
}


@pytest.mark.parametrize(("name", "argument"), arguments(TABLE))
def test_bad_input_is_refused_by_name(name, argument):
    refuse_wrong(TABLE[name], argument)
