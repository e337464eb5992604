"""Panels of angles and of rotations: sizes, sides, and marks of the user's own unit."""

import numpy as np
import pytest
from PIL import Image

from bridgejax.evaluation import _angles, plots


def read(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


@pytest.mark.parametrize(("n", "d", "width"), [(50, 2, 460), (1500, 2, 460), (50, 4, 840), (30, 9, 1620)])
def test_pairs_of_angles_above_and_below(tmp_path, n, d, width):
    x = np.random.default_rng(0).normal(0, 40, (n, d)).clip(-180, 180)
    picture = read(plots.angle_pairs(tmp_path / "a.png", x, x[: n // 2 + 1] if n < 1000 else x))
    assert picture.shape == (600, width, 3)
    blue = (picture[..., 2] - picture[..., 0] > 60).any(axis=1)
    assert blue[:300].sum() > 20  # generated above
    assert blue[320:].sum() == 0


def test_a_cell_is_where_its_angles_are(tmp_path):
    """All at (90, -90): one dark cell right of the middle and below it."""
    x = np.tile([[92.0, -92.0]], (1000, 1))
    picture = read(plots.angle_pairs(tmp_path / "a.png", x, np.zeros((1000, 2))))
    rows, columns = np.nonzero(picture[30:280, :, 2] - picture[30:280, :, 0] > 100)
    assert np.ptp(rows) < 8
    assert columns.mean() > 250
    assert rows.mean() > 130


def test_the_marks_are_the_users(tmp_path):
    assert _angles._marks(-180.0, 360.0, "degrees")[1] == ["-180°", "-90°", "0°", "90°", "180°"]
    assert _angles._marks(0.0, 2 * np.pi, "radians")[1] == ["0", "0.5π", "π", "1.5π", "2π"]
    assert _angles._marks(-np.pi, 2 * np.pi, "radians")[1] == ["-π", "-0.5π", "0", "0.5π", "π"]
    x = np.random.default_rng(0).uniform(0, 2 * np.pi, (40, 1))
    assert read(plots.angle_pairs(tmp_path / "one.png", x, x, unit="radians", positive=True)).shape == (400, 600, 3)
    with pytest.raises(ValueError, match="real has 1 numbers per sample, expected 2"):
        plots.angle_pairs(tmp_path / "a.png", np.zeros((5, 2)), x)


def test_rotations_have_three_views_and_their_angles(tmp_path):
    v = np.random.default_rng(0).normal(0, 0.5, (60, 3))
    assert read(plots.rotations(tmp_path / "r.png", v, v[:20])).shape == (640, 1240, 3)
    assert read(plots.rotations(tmp_path / "r.png", v, {"a": v, "b": v})).shape == (940, 1240, 3)
