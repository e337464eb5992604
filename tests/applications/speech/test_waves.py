"""Wav files against scipy's, kind by kind, and what is wrong with files said in one sentence."""

import struct

import numpy as np
import pytest
import scipy.io.wavfile

from bridgejax.applications.speech import read_wav, write_wav
from bridgejax.applications.speech._waves import clipped_share, read_folder, resample

WAVE = (0.4 * np.sin(np.arange(801) / 7.0)).astype(np.float32)
STEREO = np.stack([WAVE, -0.5 * WAVE], axis=1)


@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("wave", [WAVE, STEREO])
def test_what_is_written_is_read_by_us_and_by_scipy(tmp_path, wave, bits):
    path = write_wav(tmp_path / "a" / "out.wav", wave, 8000, bits=bits)
    found, rate = read_wav(path)
    assert rate == 8000
    assert found.shape == wave.shape
    assert np.max(np.abs(found - wave)) <= 0.5 / 2 ** (bits - 1) + 1e-7
    rate, theirs = scipy.io.wavfile.read(path)
    full = 2.0**31 if bits == 24 else 2.0**15  # scipy puts 24 bits on top of 32
    assert np.allclose(theirs / full, found, atol=1e-6)
    assert [file.name for file in path.parent.iterdir()] == ["out.wav"]


@pytest.mark.parametrize(
    ("dtype", "full", "middle"), [(np.uint8, 128, 128), (np.int16, 2**15, 0), (np.int32, 2**31, 0), (np.float32, 1, 0)]
)
def test_every_kind_that_scipy_writes(tmp_path, dtype, full, middle):
    scipy.io.wavfile.write(tmp_path / "a.wav", 16000, (STEREO * max(full - 1, 1) + middle).astype(dtype))
    found, rate = read_wav(tmp_path / "a.wav")
    assert rate == 16000
    assert np.max(np.abs(found - STEREO)) < (2.0 / full if full > 1 else 1e-12)


def test_an_extensible_header_and_a_chunk_in_between(tmp_path):
    path = write_wav(tmp_path / "a.wav", WAVE, 8000, bits=24)
    data = path.read_bytes()
    kind = struct.pack("<H", 0xFFFE) + data[22:36] + struct.pack("<HHI", 22, 24, 4) + struct.pack("<H", 1) + b"\0" * 14
    body = b"WAVEfmt " + struct.pack("<I", len(kind)) + kind + b"LIST" + struct.pack("<I", 3) + b"abc\0" + data[36:]
    (tmp_path / "b.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    assert np.array_equal(read_wav(tmp_path / "b.wav")[0], read_wav(path)[0])


def test_files_that_cannot_be_read(tmp_path):
    good = write_wav(tmp_path / "good.wav", WAVE, 8000).read_bytes()
    empty = good[:40] + struct.pack("<I", 0)
    law = good[:20] + struct.pack("<H", 7) + good[22:]
    bad = np.full(10, np.nan, np.float32)
    for name, data, said in (
        ("mp3.wav", b"ID3" + b"\0" * 50, r"is not a wav file; convert it first"),
        ("none.wav", b"", r"is not a wav file"),
        ("cut.wav", good[:30], r"is damaged: it lacks"),
        ("empty.wav", empty, r"holds no samples$"),
        ("law.wav", law, r"holds 16-bit samples of kind 7; expected"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=said) as error:
            read_wav(tmp_path / name)
        assert name in str(error.value)
    scipy.io.wavfile.write(tmp_path / "nan.wav", 8000, bad)
    with pytest.raises(ValueError, match=r"nan\.wav has samples that are not finite \(100\.00% of them\)"):
        read_wav(tmp_path / "nan.wav")
    with pytest.raises(FileNotFoundError, match=r"^there is no file"):
        read_wav(tmp_path / "other.wav")


def test_a_recording_that_was_cut_short_is_read_as_far_as_it_goes(tmp_path):
    path = write_wav(tmp_path / "a.wav", WAVE, 8000)
    path.write_bytes(path.read_bytes()[:-101])
    assert len(read_wav(path)[0]) == 801 - 51


def test_a_failed_write_leaves_the_file_that_was_there(tmp_path):
    path = write_wav(tmp_path / "a.wav", WAVE, 8000)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"^wave has samples that are not finite"):
        write_wav(path, np.array([np.nan]), 8000)
    assert path.read_bytes() == before


def test_a_folder_is_read_at_one_rate_with_one_channel(tmp_path):
    write_wav(tmp_path / "b.wav", WAVE, 4000)
    write_wav(tmp_path / "in" / "a.WAV", STEREO, 8000)
    (tmp_path / "notes.txt").write_text("no wave")
    first, second = read_folder(tmp_path, 8000)
    assert len(first) == 2 * len(WAVE)
    assert np.allclose(second, 0.25 * WAVE, atol=1e-4)
    with pytest.raises(ValueError, match=r"holds no wav files$"):
        read_folder(_empty(tmp_path), 8000)
    with pytest.raises(FileNotFoundError, match=r"^there is no folder"):
        read_folder(tmp_path / "gone", 8000)


def _empty(folder):
    (folder / "nothing").mkdir()
    return folder / "nothing"


def test_an_empty_file_in_a_folder_is_left_out_and_named(tmp_path):
    good = write_wav(tmp_path / "a.wav", WAVE, 8000).read_bytes()
    (tmp_path / "b.wav").write_bytes(good[:40] + struct.pack("<I", 0))
    with pytest.warns(UserWarning, match=r"b\.wav holds no samples; it is left out$"):
        assert len(read_folder(tmp_path, 8000)) == 1


def test_resampling_keeps_a_tone(tmp_path):
    t = np.arange(4000) / 8000
    there = resample(np.sin(2 * np.pi * 440 * t).astype(np.float32), 8000, 11025)
    assert len(there) == 5513
    assert np.max(np.abs(there - np.sin(2 * np.pi * 440 * np.arange(5513) / 11025))[200:-200]) < 2e-3


def test_clipping_is_seen():
    assert clipped_share(WAVE) == 0.0
    assert clipped_share(np.clip(5.0 * WAVE, -1, 1)) > 0.3
    assert clipped_share(np.array([0.0, 1.0, 0.0, -1.0])) == 0.0  # single peaks
