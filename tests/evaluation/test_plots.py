"""Pictures: the right size, the right side, crisp pixels, and no crash on short or broken records."""

import json

import numpy as np
import pytest
from PIL import Image

from bridgejax.data import toys
from bridgejax.evaluation import _columns, _figures, _image_grids, _loss_curves, plots


def read(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


def spread(picture):
    """Share of pixels that are not white."""
    return np.mean((picture < 250).any(axis=-1))


def test_image_grid_shows_both_sides_crisply(tmp_path):
    rng = np.random.default_rng(0)
    samples, real = np.full((80, 8, 8, 1), 16.0), 16.0 * rng.integers(0, 2, (90, 8, 8, 1))
    picture = read(plots.image_grid(tmp_path / "new" / "grid.png", samples, real))
    height, width, _ = picture.shape
    assert 350 < height < 900
    assert 900 < width < 1600
    left, right = picture[60:-30, 30 : width // 2 - 40], picture[60:-30, width // 2 + 40 : -30]
    black = (left.max(axis=-1) == 0).mean(), (right.max(axis=-1) == 0).mean()
    assert black[0] == 0  # generated: all white
    assert abs(black[1] - 0.5 * np.mean(right.max(axis=-1) - right.min(axis=-1) == 0)) < 0.1  # real: half black
    greys = right[right.max(axis=-1) == right.min(axis=-1)]
    assert set(np.unique(greys)) == {0, 255}  # no interpolated pixel


def test_image_grid_orders_classes_by_column(tmp_path):
    """Image k of class k has brightness k: with labels the columns brighten from left to right."""
    labels = np.random.default_rng(0).integers(0, 5, 60)
    x = np.broadcast_to(labels[:, None, None, None], (60, 6, 6, 3)).astype(float)
    picture = read(plots.image_grid(tmp_path / "g.png", x, x, labels=labels, real_labels=labels, rows=3))
    row = picture[70, : picture.shape[1] // 2]
    grey = row[(row.max(axis=-1) == row.min(axis=-1))][:, 0]
    steps = [v for v, before in zip(grey[1:], grey[:-1], strict=True) if v != before]
    levels = [v for v in steps if v in {0, 64, 128, 191, 255}]
    assert [v for v in levels if v not in (0, 255)] == [64, 128, 191]


@pytest.mark.parametrize("shape", [(3, 5, 7), (12, 32, 32, 3), (4, 64, 64, 1), (15, 3, 3, 2), (2, 9, 9, 4)])
def test_image_grid_takes_any_small_size(tmp_path, shape):
    x = np.random.default_rng(0).random(shape)
    picture = read(plots.image_grid(tmp_path / "g.png", x, np.concatenate([x, x])))
    assert spread(picture) > 0.2


@pytest.mark.parametrize(("n", "wide", "tall"), [(1, 1, 1), (7, 7, 1), (13, 10, 1), (36, 10, 3)])
def test_image_grid_of_few_samples_has_no_white_cells(tmp_path, n, wide, tall):
    """Black images: every white pixel is paper, none within the two frames, which are of one size."""
    picture = read(
        plots.image_grid(tmp_path / "g.png", np.zeros((n, 8, 8)), np.arange(2 * 5120).reshape(160, 8, 8) % 9)
    )
    width, height = wide * (8 * 7 + 4) + 4, tall * (8 * 7 + 4) + 4
    blue = (picture[..., 2] > 180) & (picture[..., 0] < 60)
    rows, columns = np.flatnonzero(blue[50:].any(axis=1)) + 50, np.flatnonzero(blue[50:].any(axis=0))
    inside = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert (inside.min(axis=-1) < 200).all()
    assert abs(inside.shape[1] - width) < 8
    assert abs(inside.shape[0] - height) < 8


def test_image_grid_by_class_shows_the_classes_of_both_sides_only(tmp_path):
    """Samples of classes 0 and 2, two each, beside real images of 0, 1, 2: two columns of two, all filled."""
    order = _image_grids._by_class([np.zeros((4, 2, 2, 1))] * 2, ([2, 0, 0, 2], [0, 1, 2, 1]), 10, 8)
    np.testing.assert_array_equal(order[0], [[1, 0]])
    np.testing.assert_array_equal(order[1], [[0, 2]])
    with pytest.raises(ValueError, match="no class in common"):
        _image_grids._by_class([np.zeros((1, 2, 2, 1))] * 2, ([0], [1]), 10, 8)


def test_several_real_sides_have_panels_of_their_own(tmp_path):
    x = toys.sample("moons", 0, 200)
    assert read(plots.scatter(tmp_path / "s.png", x, {"run a": x, "run b": x + 1})).shape == (470, 1320, 3)
    images = np.random.default_rng(0).random((20, 8, 8))
    one = read(plots.image_grid(tmp_path / "1.png", images, images)).shape[1]
    assert read(plots.image_grid(tmp_path / "2.png", images, {"a": images, "b": images})).shape[1] > 1.4 * one
    plots.marginals(tmp_path / "m.png", x, {"run a": x, "run b": x + 1})
    with pytest.raises(ValueError, match="empty mapping"):
        plots.scatter(tmp_path / "e.png", x, {})


@pytest.mark.fast
def test_a_column_of_few_whole_numbers_is_drawn_as_bars():
    """By its values: three categories have bars at 0, 1, 2 with their names, ages bins of whole width, others 40."""
    rng = np.random.default_rng(0)
    words = _columns._axis(rng.integers(0, 3, 500).astype(float), ("red", "white", "rose"))
    np.testing.assert_array_equal(words.values, [0, 1, 2])
    assert words.texts == ("red", "white", "rose")
    np.testing.assert_array_equal(_columns._axis(rng.integers(4, 9, 500).astype(float), ()).values, [4, 5, 6, 7, 8])
    ages = _columns._axis(rng.integers(17, 91, 5000).astype(float), ())
    assert ages.values is None
    assert set(np.diff(ages.edges)) == {np.ceil((ages.ends[1] - ages.ends[0]) / 40)}
    assert set(ages.edges % 1) == {0.5}
    assert len(_columns._axis(rng.normal(size=500), ()).edges) == 41
    assert _columns._axis(np.array([0.0, 1000.0] * 9), ()).values is None  # two values far apart: no room for bars


def test_bars_have_the_height_of_their_shares(tmp_path):
    """Real 3 : 1, generated 1 : 3, as two pairs of bars."""
    from matplotlib.figure import Figure

    real, samples = np.repeat([0.0, 1.0], [75, 25]), np.repeat([0.0, 1.0], [25, 75])
    axes = Figure().subplots()
    _columns._bars(axes, [(real, _figures.REAL)], samples, _columns._axis(real, ("no", "yes")))
    assert [bar.get_height() for bar in axes.patches] == [0.75, 0.25, 0.25, 0.75]
    centres = [bar.get_x() + bar.get_width() / 2 for bar in axes.patches]
    np.testing.assert_allclose(centres, [-0.21, 0.79, 0.21, 1.21])


@pytest.mark.parametrize("with_source", [False, True], ids=["two panels", "three panels"])
def test_scatter(tmp_path, with_source):
    x, y = toys.sample("moons", 0, 500), toys.sample("moons", 1, 5000)
    source = toys.sample("8gaussians", 0, 700) if with_source else None
    picture = read(plots.scatter(tmp_path / "s.png", x, y, source))
    assert picture.shape == (470, 440 * (2 + with_source), 3)
    blue = (picture[..., 2] - picture[..., 0] > 60).mean(axis=(0,))
    width = picture.shape[1] // (2 + with_source)
    panel = int(with_source)
    assert blue[panel * width : (panel + 1) * width].sum() > 20 * blue[(panel + 1) * width :].sum()
    far = plots.scatter(tmp_path / "far.png", x + 100, y)  # nothing of it is on the axes of the real points
    assert (read(far)[60:, :440, 2] - read(far)[60:, :440, 0] > 60).sum() == 0


@pytest.mark.parametrize("d", [1, 2, 7])
def test_marginals(tmp_path, d):
    rng = np.random.default_rng(0)
    picture = read(plots.marginals(tmp_path / "m.png", rng.random((100, d)), rng.random((300, d)), columns=("age",)))
    side = max(230 * min(d, 4), 420)
    assert picture.shape == (side + 50, side, 3)
    assert spread(picture) > 0.02


def test_marginals_of_constant_columns(tmp_path):
    plots.marginals(tmp_path / "c.png", np.zeros((5, 2)), np.zeros((5, 2)))


def test_marginals_of_samples_beside_the_real_ones(tmp_path):
    """A product of two models may lie outside the first one's table: an empty histogram, not a warning of 0 / 0."""
    x = np.random.default_rng(0).random((50, 3))
    plots.marginals(tmp_path / "far.png", x + [0.0, 100.0, 0.0], x)
    plots.marginals(tmp_path / "all.png", x + 100.0, x)


def record(path, lines):
    path.write_text("".join(line + "\n" for line in lines))
    return path


@pytest.mark.parametrize(
    "lines",
    [
        [json.dumps({"step": k, "loss": 2.0 * np.exp(-k / 30) + 0.1}) for k in range(1, 200)],
        [json.dumps({"step": k, "loss": -1.0 - k}) for k in range(1, 200)],
        ['{"step": 1, "loss": 0.5}'],
        ['{"step": 1, "loss": 0.5}', '{"step": 2, "loss": null}', "[]", '{"step": 3, "lo'],
        [],
        ['{"step": 1, "grad_norm": 2.0}', '{"step": true, "loss": "x"}', '{"step": 2, "loss": NaN}'],
    ],
    ids=["many", "negative", "one", "broken", "none", "no loss"],
)
def test_loss_curve(tmp_path, lines):
    path = plots.loss_curve(tmp_path / "loss.png", record(tmp_path / "metrics.jsonl", lines))
    picture = read(path)
    assert picture.shape == (420, 720, 3)
    assert spread(picture) > 0.005


def test_running_mean_neither_lags_nor_leaves_the_range():
    line = np.arange(100.0)
    smooth = _loss_curves._running_mean(line, 5)
    np.testing.assert_allclose(smooth[5:-5], line[5:-5])
    assert smooth[0] == 0
    assert smooth[-1] == np.mean(line[-6:])


def test_history_is_in_order_and_keeps_the_last_of_a_step(tmp_path):
    path = record(
        tmp_path / "m.jsonl", ['{"step": 20, "loss": 2}', '{"step": 10, "loss": 1}', '{"step": 20, "loss": 3}']
    )
    steps, values = _loss_curves._history(path, "loss")
    np.testing.assert_array_equal(steps, [10, 20])
    np.testing.assert_array_equal(values, [1, 3])


@pytest.mark.fast
@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda p: plots.image_grid(p, np.zeros((0, 8, 8)), np.zeros((3, 8, 8))), ValueError, "samples is empty"),
        (lambda p: plots.image_grid(p, np.full((3, 8, 8), np.nan), np.zeros((3, 8, 8))), ValueError, "NaN or infinity"),
        (lambda p: plots.image_grid(p, np.zeros((3, 4, 4)), np.zeros((3, 8, 8))), ValueError, "images of one shape"),
        (lambda p: plots.image_grid(p, np.zeros((3, 4)), np.zeros((3, 4))), ValueError, "expected images"),
        (
            lambda p: plots.image_grid(p, np.zeros((3, 4, 4)), np.zeros((3, 4, 4)), labels=[0], real_labels=[0, 1, 2]),
            ValueError,
            "expected one class per image",
        ),
        (lambda p: plots.scatter(p, np.zeros((3, 3)), np.zeros((3, 2))), ValueError, "draw others with marginals"),
        (lambda p: plots.marginals(p, np.zeros((3, 3)), np.zeros((3, 2))), ValueError, "expected 2"),
        (lambda p: plots.loss_curve(p, p.with_name("nothing.jsonl")), FileNotFoundError, "nothing.jsonl"),
    ],
)
def test_bad_input_writes_nothing(tmp_path, call, error, words):
    with pytest.raises(error, match=words):
        call(tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []
