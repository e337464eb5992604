"""Pictures: the right size, the right side, crisp pixels, and no crash on short or broken records."""

import json

import numpy as np
import pytest
from PIL import Image

from bridgejax.data import toys
from bridgejax.evaluation import plots


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
    smooth = plots._running_mean(line, 5)
    np.testing.assert_allclose(smooth[5:-5], line[5:-5])
    assert smooth[0] == 0
    assert smooth[-1] == np.mean(line[-6:])


def test_history_is_in_order_and_keeps_the_last_of_a_step(tmp_path):
    path = record(
        tmp_path / "m.jsonl", ['{"step": 20, "loss": 2}', '{"step": 10, "loss": 1}', '{"step": 20, "loss": 3}']
    )
    steps, values = plots._history(path, "loss")
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
