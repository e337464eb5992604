"""Pictures of series and of paths: panels for each side and channel, paths from start to end, sentences."""

import numpy as np
import pytest
from PIL import Image

from bridgejax.evaluation import trajectories

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(50, 2))
PATHS = RNG.normal(size=(4, 9, 2))


def size(path):
    with Image.open(path) as picture:
        return picture.size


def test_series_have_a_row_for_each_channel_and_a_column_for_each_side(tmp_path):
    one, three = RNG.normal(size=(30, 16)), RNG.normal(size=(30, 16, 3))
    assert size(trajectories.series(tmp_path / "1.png", one, one)) == (880, 320)
    assert size(trajectories.series(tmp_path / "3.png", three, three, channels=("a", "b", "c"))) == (880, 760)
    assert size(trajectories.series(tmp_path / "r.png", one, {"a": one, "b": one[:5]})) == (1320, 320)


def test_bridges_are_drawn_in_the_plane_on_the_line_and_as_films(tmp_path):
    assert size(trajectories.bridge(tmp_path / "1.png", POINTS, POINTS, PATHS)) == (500, 560)
    assert size(trajectories.bridge(tmp_path / "2.png", POINTS, POINTS, PATHS, PATHS)) == (1000, 560)
    line = trajectories.bridge(
        tmp_path / "l.png", POINTS[:, :1], POINTS[:, :1], PATHS[..., :1], times=np.linspace(0, 1, 9)
    )
    assert size(line) == (500, 560)
    images, films = RNG.random((5, 8, 8, 1)), RNG.random((4, 9, 8, 8, 1))
    width, height = size(trajectories.bridge(tmp_path / "f.png", images, images, films))
    assert width == pytest.approx(6 * 60 + 4 + 32, abs=2)
    assert height == pytest.approx(4 * 60 + 4 + 60, abs=2)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p: trajectories.series(p, np.zeros((3, 4)), np.zeros((3, 5))), r"expected \(5, 1\), as the real ones"),
        (lambda p: trajectories.series(p, np.zeros(3), np.zeros((3, 5))), r"expected series \[n, T\]"),
        (lambda p: trajectories.series(p, np.zeros((3, 5)), np.zeros((3, 5)), times=[0.0]), "times has shape"),
        (lambda p: trajectories.bridge(p, POINTS, POINTS, PATHS[..., :1]), r"expected \[k, T, \*\(2,\)\]"),
        (lambda p: trajectories.bridge(p, POINTS, POINTS, PATHS * np.nan), "NaN or infinity"),
        (
            lambda p: trajectories.bridge(p, np.zeros((3, 5)), np.zeros((3, 5)), np.zeros((2, 4, 5))),
            "one or two numbers and of images",
        ),
    ],
)
def test_bad_input_writes_nothing(tmp_path, call, words):
    with pytest.raises(ValueError, match=words):
        call(tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []
