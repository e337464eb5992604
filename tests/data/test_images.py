"""Folders of images in batches: the numbers of ``load``, every image once an epoch, decoded when they are asked for."""

import numpy as np
import pytest
from PIL import Image

import bridgejax as bj
from bridgejax.data import Batches, Images, load

RNG = np.random.default_rng(0)


def save(folder, num=11, shape=(5, 6, 3), first=0):
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(first, first + num):
        Image.fromarray(RNG.integers(0, 256, shape, np.uint8)).save(folder / f"{k:03d}.png")
    return folder


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 3)])
def test_batches_are_those_of_the_folder_read_whole(tmp_path, shape):
    images, whole = Images(save(tmp_path, shape=shape), 4, seed=3), load(tmp_path)
    assert len(images) == 11
    assert images.classes == ()
    rows = Batches(np.arange(11), 4, seed=3)
    for step in (0, 2, 7, 2):  # the last of an epoch and the first of the next among them
        batch = images.batch(step)
        assert batch.dtype == np.float32
        np.testing.assert_allclose(batch, whole.x[rows.batch(step)], atol=1e-6)


def test_subfolders_are_classes(tmp_path):
    save(tmp_path / "cat", 3), save(tmp_path / "ape", 4)
    images, whole = Images(tmp_path, 7), load(tmp_path)
    assert images.classes == whole.classes == ("ape", "cat")
    batch, rows = images.batch(0), Batches(np.arange(7), 7).batch(0)
    np.testing.assert_array_equal(batch["label"], whole.labels[rows])
    np.testing.assert_allclose(batch["x"], whole.x[rows], atol=1e-6)


def test_one_image_in_colour_makes_all_of_them_so(tmp_path):
    save(tmp_path, 5, (4, 4)), save(tmp_path, 1, (4, 4, 3), first=5)
    batch = Images(tmp_path, 6).batch(0)
    assert batch.shape == (6, 4, 4, 3)
    coloured = np.ptp(batch, axis=-1).max(axis=(1, 2)) > 0
    assert coloured.sum() == 1


def test_sizes_are_brought_to_one_and_batches_converted(tmp_path):
    save(tmp_path, 3, (8, 12, 3)), save(tmp_path, 3, (9, 9, 3), first=3)
    images = Images(tmp_path, 4, resize=6, crop="4x5", convert=lambda x: {"x": x[:, :, ::-1]})
    whole = load(tmp_path, resize="6", crop="4x5")
    rows = Batches(np.arange(6), 4).batch(1)
    np.testing.assert_allclose(images.batch(1)["x"], whole.x[rows][:, :, ::-1], atol=1e-6)
    with pytest.raises(ValueError, match=r"holds images of different sizes: 00\d.png is 9 x 9, 000.png is 8 x 12"):
        Images(tmp_path, 6).batch(0)


def test_what_is_no_folder_of_images_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        Images(tmp_path / "nothing", 2)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file is no folder; expected one that holds images"):
        Images(tmp_path / "file", 2)
    save(tmp_path / "a", 2), (tmp_path / "b").mkdir()
    (tmp_path / "file").unlink()
    with pytest.raises(ValueError, match="b holds no images"):
        Images(tmp_path, 2)
    (tmp_path / "a" / "001.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    with pytest.raises(ValueError, match=r"001.png is no readable image"):
        Images(tmp_path / "a", 2)


def test_only_the_headers_are_read_before_a_batch(tmp_path, monkeypatch):
    """The data of a file is damaged behind its header: that is said when the image's turn comes, with its name."""
    save(tmp_path, 6, (40, 40, 3))
    broken = tmp_path / "004.png"
    broken.write_bytes(broken.read_bytes()[:60])
    images = Images(tmp_path, 1)
    turn = next(step for step in range(6) if Batches(np.arange(6), 1).rows(step)[0] == 4)
    for step in {*range(6)} - {turn}:
        assert images.batch(step).shape == (1, 40, 40, 3)
    with pytest.raises(ValueError, match=r"004.png is no readable image"):
        images.batch(turn)
    monkeypatch.setenv("BRIDGEJAX_MAX_MEMORY", "20kB")
    with pytest.raises(ValueError, match=r"000.png declares 40 x 40 pixels, which takes about 38.4 kB of memory"):
        Images(tmp_path, 1)


def test_it_trains(tmp_path, key):
    images = Images(save(tmp_path, 8, (2, 2)), 4)
    method = bj.methods.edm(shape=(2, 2, 1))
    state = bj.fit(method, images, key, steps=2)
    again = bj.fit(method, images, key, steps=2)
    assert str(state) == str(again)
