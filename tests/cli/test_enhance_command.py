"""``bridgejax enhance``, with an untrained predictor: what comes out is the wave by a known factor."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.io.wavfile

from bridgejax.applications.speech import Codec, Enhancer, NetworkSize, Settings, read_wav, save_enhancer, write_wav
from bridgejax.applications.speech._enhancer import Spread
from bridgejax.applications.speech._network import network
from bridgejax.cli import main

WAVE = (0.5 * np.sin(np.arange(700) / 5.0) * np.hanning(700)).astype(np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    settings = Settings("predictor", 8000, Codec(32, 8), NetworkSize(4, (1,), patch=(1, 2)), 16)
    one = jnp.ones(())
    enhancer = Enhancer(settings, network(settings.size, 1, 17, 16).params, Spread(one, one, one, 0.6 * one, one))
    return save_enhancer(tmp_path_factory.mktemp("runs") / "speech", enhancer)


def refused(capsys, *arguments):
    assert main(["enhance", *(str(a) for a in arguments)]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bridgejax:")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("bits", [16, 24])
def test_a_file_comes_out_at_its_own_rate(run, tmp_path, capsys, bits):
    noisy = write_wav(tmp_path / "a.wav", np.stack([WAVE, -WAVE], axis=1), 8000, bits=bits)
    assert main(["enhance", str(noisy), "--run", str(run), "--bits", str(bits)]) == 0
    found, rate = read_wav(tmp_path / "a-clean.wav")
    assert rate == 8000
    assert np.max(np.abs(found - 0.36 * np.stack([WAVE, -WAVE], axis=1))) < 2e-4
    assert "0.09 s at 8000 Hz, 2 channels" in capsys.readouterr().out


def test_what_is_seen_is_said(run, tmp_path, capsys):
    for name, wave, rate, said in (
        ("silent", np.zeros(100), 8000, "it is silent"),
        ("clipped", np.clip(4.0 * WAVE, -1.0, 1.0), 8000, "of its samples are clipped"),
        ("fast", WAVE, 16000, "the enhancer works at 8000 Hz: what lies above 4000 Hz is lost"),
        ("short", WAVE[:3], 8000, "0.00 s at 8000 Hz"),
    ):
        noisy, out = write_wav(tmp_path / f"{name}.wav", wave, rate), tmp_path / "out" / f"{name}.wav"
        assert main(["enhance", str(noisy), "--run", str(run), "--out", str(out)]) == 0
        assert said in capsys.readouterr().out
        found, its_rate = read_wav(out)
        assert (len(found), its_rate) == (len(wave), rate)


def test_files_and_runs_that_cannot_be(run, tmp_path, capsys):
    noisy = write_wav(tmp_path / "a.wav", WAVE, 8000)
    assert "there is no file" in refused(capsys, tmp_path / "gone.wav", "--run", run)
    assert "holds no enhancer (enhancer.json); train one" in refused(capsys, noisy, "--run", tmp_path)
    assert "enhance reads and writes wav files" in refused(capsys, noisy, "--run", run, "--out", "clean.mp3")
    assert "steps must be positive, got 0" in refused(capsys, noisy, "--run", run, "--steps", "0")
    assert "seed must be 0 or more" in refused(capsys, noisy, "--run", run, "--seed", "-1")
    (tmp_path / "b.wav").write_bytes(b"ID3 and so on, no wave")
    assert "is not a wav file; convert it first" in refused(capsys, tmp_path / "b.wav", "--run", run)
    scipy.io.wavfile.write(tmp_path / "c.wav", 8000, np.full(50, np.nan, np.float32))
    assert "samples that are not finite" in refused(capsys, tmp_path / "c.wav", "--run", run)
    scipy.io.wavfile.write(tmp_path / "d.wav", 8000, np.zeros(0, np.int16))
    assert "holds no samples" in refused(capsys, tmp_path / "d.wav", "--run", run)
    assert {path.name for path in tmp_path.iterdir()} == {"a.wav", "b.wav", "c.wav", "d.wav"}
