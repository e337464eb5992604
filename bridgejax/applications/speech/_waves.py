"""Waves as arrays and as wav files: reading, checking, resampling, writing."""

from __future__ import annotations

import math
import os
import secrets
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from bridgejax._checks import check_count, describe
from bridgejax.applications._extras import require

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
CLIPPED = 0.999  # of full scale


def check_wave(wave: Any, name: str = "waveform", *, channels: bool = True) -> np.ndarray:
    """The wave as float32, (n,) or (n, channels).

    Raises:
        ValueError: no such array, no samples, or samples that are not finite.
    """
    array = np.asarray(wave) if not isinstance(wave, str | bytes) else np.zeros(())
    ranks = (1, 2) if channels else (1,)
    if array.dtype.kind not in "fiu" or array.ndim not in ranks:
        shape = "(n,) or (n, channels)" if channels else "(n,)"
        raise ValueError(f"{name} must be an array {shape} of numbers, got {describe(wave)}")
    if array.size == 0:
        raise ValueError(f"{name} is empty; give at least one sample")
    if not np.all(np.isfinite(array)):
        share = np.mean(~np.isfinite(array))
        raise ValueError(f"{name} has samples that are not finite ({share:.2%} of them); cut or repair them first")
    if array.dtype.kind in "iu":
        raise ValueError(f"{name} holds whole numbers ({array.dtype}); divide by its full scale, as read_wav does")
    return array.astype(np.float32)


def resample(wave: np.ndarray, rate: int, to: int) -> np.ndarray:
    """The wave (n, ...) at another rate, by polyphase filtering: ceil(n to / rate) samples."""
    if rate == to:
        return wave
    common = math.gcd(rate, to)
    return require("scipy.signal").resample_poly(wave, to // common, rate // common, axis=0).astype(np.float32)


def clipped_share(wave: np.ndarray) -> float:
    """Share of the samples that lie at full scale, next to another that does: the mark of clipping."""
    full = np.abs(wave) >= CLIPPED
    beside = np.zeros_like(full)
    beside[1:] |= full[:-1]
    beside[:-1] |= full[1:]
    return float(np.mean(full & beside))


class Empty(ValueError):
    """A file without samples."""


# files ----------------------------------------------------------------------------------------------------------------


def _chunks(data: bytes, path: Path) -> dict[bytes, bytes]:
    """The chunks of a RIFF file; a ``data`` chunk that ends early is taken as far as it goes."""
    if len(data) < 12 or data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise ValueError(f"{path} is not a wav file; convert it first, for example: sox in.mp3 out.wav")
    found, at = {}, 12
    while at + 8 <= len(data):
        name, length = data[at : at + 4], struct.unpack("<I", data[at + 4 : at + 8])[0]
        found.setdefault(name, data[at + 8 : at + 8 + length])
        at += 8 + length + length % 2
    if b"fmt " not in found or b"data" not in found or len(found[b"fmt "]) < 16:
        raise ValueError(f"{path} is damaged: it lacks its format or its samples")
    return found


def _samples(raw: bytes, kind: int, bits: int) -> np.ndarray | None:
    """Samples in [-1, 1], None for a kind that is not known."""
    raw = raw[: len(raw) - len(raw) % max(bits // 8, 1)]
    if kind == FLOAT and bits in (32, 64):
        return np.frombuffer(raw, f"<f{bits // 8}").astype(np.float32)
    if kind == PCM and bits == 8:
        return (np.frombuffer(raw, np.uint8).astype(np.float32) - 128.0) / 128.0
    if kind == PCM and bits in (16, 32):
        return (np.frombuffer(raw, f"<i{bits // 8}") / 2.0 ** (bits - 1)).astype(np.float32)
    if kind == PCM and bits == 24:
        parts = np.frombuffer(raw, np.uint8).reshape(-1, 3).astype(np.int32)
        whole = parts[:, 0] | parts[:, 1] << 8 | parts[:, 2] << 16
        return ((whole ^ 0x800000) - 0x800000).astype(np.float32) / 2.0**23
    return None


def read_wav(path: str | os.PathLike[str]) -> tuple[np.ndarray, int]:
    """Read a wav file of 8, 16, 24 or 32 bit whole numbers, or of 32 or 64 bit floats.

    Args:
        path: the file.

    Returns:
        ``(wave, rate)``: float32 in [-1, 1], (n,) or (n, channels), and samples a second.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another format, a damaged file, no samples, or samples that are not finite.

    Example:
        >>> import numpy as np, pathlib, tempfile
        >>> from bridgejax.applications.speech import read_wav, write_wav
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_wav(pathlib.Path(folder) / "tone.wav", np.sin(np.arange(800) / 5), 8000)
        ...     wave, rate = read_wav(path)
        ...
        >>> wave.shape, rate
        ((800,), 8000)
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    chunks = _chunks(path.read_bytes(), path)
    kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", chunks[b"fmt "][:16])
    if kind == EXTENSIBLE and len(chunks[b"fmt "]) >= 26:
        kind = struct.unpack("<H", chunks[b"fmt "][24:26])[0]
    samples = _samples(chunks[b"data"], kind, bits)
    if samples is None or channels < 1 or rate < 1:
        raise ValueError(f"{path} holds {bits}-bit samples of kind {kind}; expected whole numbers or floats")
    if samples.size < channels:
        raise Empty(f"{path} holds no samples")
    wave = samples[: samples.size - samples.size % channels].reshape(-1, channels)
    return check_wave(wave[:, 0] if channels == 1 else wave, str(path)), rate


def write_wav(path: str | os.PathLike[str], wave: Any, rate: int, *, bits: int = 16) -> Path:
    """Write a wav file, complete or not at all.

    Args:
        path: the file; folders are made, an existing file is replaced.
        wave: (n,) or (n, channels), in [-1, 1]; what lies outside is clipped.
        rate: samples a second.
        bits: 16 or 24, whole numbers.

    Returns:
        The path.

    Raises:
        ValueError: no such array, or samples that are not finite.

    Example:
        See ``read_wav``.
    """
    wave = check_wave(wave, "wave")
    check_count("rate", rate)
    if bits not in (16, 24):
        raise ValueError(f"bits must be 16 or 24, got {bits!r}")
    full = 2 ** (bits - 1)
    whole = np.clip(np.round(wave.astype(np.float64) * full), -full, full - 1).astype("<i4")
    raw = whole.astype("<i2").tobytes() if bits == 16 else whole.reshape(-1, 1).view(np.uint8)[:, :3].tobytes()
    channels = 1 if wave.ndim == 1 else wave.shape[1]
    block = channels * bits // 8
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, PCM, channels, rate, rate * block, block, bits)
    body = b"WAVE" + head + b"data" + struct.pack("<I", len(raw)) + raw + b"\0" * (len(raw) % 2)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read_folder(folder: str | os.PathLike[str], rate: int) -> list[np.ndarray]:
    """Every wav file below a folder, in the order of names, at ``rate``, channels averaged; empty ones are left out.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no wav file in it, or one that cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".wav" and path.is_file())
    if not paths:
        raise ValueError(f"{folder} holds no wav files")
    waves = []
    for path in paths:
        try:
            wave, found = read_wav(path)
        except Empty as error:
            warnings.warn(f"{error}; it is left out", stacklevel=2)
            continue
        waves.append(resample(wave if wave.ndim == 1 else wave.mean(axis=1), found, rate))
    return waves
