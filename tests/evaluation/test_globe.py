"""The globe: coasts where they are, equal areas, the map cut where the data are not."""

import numpy as np
import pytest
from PIL import Image

from bridgejax.evaluation import _globe, plots


def places(latitude, longitude):
    lat, lon = np.deg2rad(latitude), np.deg2rad(longitude)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def read(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


@pytest.mark.parametrize(
    ("latitude", "longitude"), [(-34.8, 20.0), (36.0, -5.6), (-55.9, -67.3), (8.1, 77.5), (66.1, -169.7)]
)
@pytest.mark.parametrize("centre", [0.0, 150.0])
def test_capes_lie_on_the_coast(latitude, longitude, centre):
    """Agulhas, Gibraltar, Horn, Comorin, the Bering Strait: to a degree or so, wherever the map is cut."""
    along, up = (np.rad2deg(part) for part in _globe.coastlines(centre))
    east = np.abs(_globe._around(along + centre - longitude)) * np.cos(np.deg2rad(latitude))
    assert np.nanmin(np.hypot(east, up - latitude)) < 1.5
    assert np.nanmax(np.abs(np.diff(along))) < 180.0  # no line across the map


def test_the_map_is_cut_where_fewer_rows_are():
    assert _globe._centre(places(np.zeros(50), np.linspace(-60, 60, 50))) == 0.0
    assert _globe._centre(places(np.zeros(50), np.linspace(150, 210, 50))) == 150.0
    x, y = _globe._place(places(np.array([10.0]), np.array([-170.0])), 150.0)
    np.testing.assert_allclose(np.rad2deg([x[0], y[0]]), [40.0, 10.0])
    names = [_globe._east(v) for v in (0, 60, 180, 210, -120)]
    assert names == ["0°", "60°E", "180°", "150°W", "120°W"]


def test_a_globe_shows_density_samples_and_real_rows(tmp_path):
    random = np.random.default_rng(0)
    x = places(random.normal(0, 10, 300), random.normal(20, 10, 300))
    two = read(plots.globe(tmp_path / "two.png", x, x[:50]))
    assert two.shape == (350, 1120, 3)
    blue = (two[..., 2] - two[..., 0] > 60).any(axis=0)
    assert blue[:560].sum() > 20  # samples on the left
    assert blue[560:].sum() == 0
    latitudes, longitudes = np.arange(-85.0, 90.0, 10.0), np.arange(-175.0, 180.0, 10.0)
    hot = np.where((latitudes > 0)[:, None] & (longitudes < 0), 100.0, 0.01)  # the north-west
    picture = read(plots.globe(tmp_path / "map.png", x, x[:50], (latitudes, longitudes, hot)))
    assert picture.shape == (910, 1120, 3)
    dark = (picture[..., 1] < 60) & (picture[..., 0] > 80)  # the dark end of the colours
    north_west, others = dark[60:250, 150:550].mean(), dark[280:450, 150:1000].mean()
    assert north_west > 0.5 > 0.02 > others


def test_several_real_sides_have_a_map_each(tmp_path):
    x = places(np.zeros(20), np.linspace(-20, 20, 20))
    assert read(plots.globe(tmp_path / "g.png", x, {"a": x, "b": x})).shape == (350, 1680, 3)
    with pytest.raises(ValueError, match="samples has 2 numbers per sample, expected 3"):
        plots.globe(tmp_path / "g.png", x[:, :2], x)
