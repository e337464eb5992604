"""The demo, without a screen: a film of a flight, and a flight whose keys are held by nobody."""

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("gymnasium")
pytest.importorskip("Box2D")

from bridgejax.applications.autonomy import load_copilot, save_copilot  # noqa: E402
from bridgejax.applications.autonomy._demo import from_keys, main  # noqa: E402
from bridgejax.applications.autonomy._saved import _untrained  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return save_copilot(tmp_path_factory.mktemp("copilot") / "copilot.safetensors", _untrained((8, 2), 128, 2))


def test_a_film_of_a_pilot_alone_and_with_a_copilot(file, tmp_path, capsys):
    image = pytest.importorskip("PIL.Image")
    words = ["--pilot", "zero", "--limit", "13", "--copilot", str(file), "--record", str(tmp_path / "a" / "flight.gif")]
    assert main(words) == 0
    assert "alone in the air, with the copilot in the air" in capsys.readouterr().out
    with image.open(tmp_path / "a" / "flight.gif") as film:
        assert film.size == (600, 200)
        assert film.n_frames >= 3


@pytest.mark.slow
def test_a_window_without_a_screen(file):
    words = ["--limit", "3", "--copilot", str(file)]
    told = subprocess.run(
        [sys.executable, "-m", "bridgejax.applications.autonomy", *words],
        env={**os.environ, "SDL_VIDEODRIVER": "dummy"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.endswith("ended in the air\n")


def test_arrows_are_engines():
    class Keys:
        K_UP, K_LEFT, K_RIGHT = range(3)

    assert from_keys([0, 0, 0], Keys).tolist() == [-1.0, 0.0]
    assert from_keys([1, 1, 0], Keys).tolist() == [1.0, -1.0]
    assert from_keys([0, 0, 1], Keys).tolist() == [-1.0, 1.0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gamma", "1.5"], "gamma must lie in [0, 1]"),
        (["--updates", "0"], "updates must be an integer >= 1"),
        (["--pilot", "noisy"], "pilot must be one of expert, noisy"),
        (["--record", "x.gif"], "pilot must be one of expert, noisy"),
        (["--pilot", "noisy", "--record", "x.gif", "--copilot", __file__], "is damaged or not a safetensors file"),
    ],
)
def test_wrong_words_cost_one_sentence(words, said, capsys):
    assert main(words) == 1
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_a_copilot_of_another_size_is_refused(file):
    with pytest.raises(ValueError, match="does not fit"):
        load_copilot(file, (6, 2))
    with pytest.raises(ValueError, match=r"^size must be a pair"):
        load_copilot(file, 8)
    same = load_copilot(file, (8, 2))
    assert np.array_equal(same.low, np.zeros(2))
