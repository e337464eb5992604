"""Waves of any length, rate and number of channels through an enhancer.

    resample to the enhancer's rate;  y / max |y|;  image;  windows of ``frames`` that share a quarter
    each window: a draw of the enhancer's process
    fade from window to window, frame by frame;  wave;  times max |y|;  resample back;  the length that came

Channels are enhanced one by one with the same noise: two equal channels stay equal.
"""

from __future__ import annotations

import jax
import numpy as np
from jax import Array

from bridgejax._checks import check_count, describe
from bridgejax._types import Numbers
from bridgejax.applications.speech._enhancer import OVERLAP, STEPS, Enhancer, check_rate
from bridgejax.applications.speech._processes import SAMPLERS
from bridgejax.applications.speech._waves import check_wave, resample
from bridgejax.processes import Process
from bridgejax.processes._keys import keys, streams
from bridgejax.solve import simulate


@jax.jit
def enhance_window(enhancer: Enhancer, process: Process, noisy: Array, key: Array) -> Array:
    """A clean image (bins, frames, 2) drawn for a noisy one by the enhancer's process."""
    args = enhancer.given(noisy)
    start_key, run_key, decode_key = streams(key, "process", 3)
    x = simulate(process.dynamics, run_key, process.start(start_key, args), process.ts, args)
    return process.decode(decode_key, x, args)


def window_starts(frames: int, window: int) -> list[int]:
    """First frames of windows that cover ``frames`` and share a quarter with the next."""
    stride = window - window // OVERLAP
    return list(range(0, max(frames - window // OVERLAP, 1), stride))


def fade(window: int) -> np.ndarray:
    """The weight of a window's frames: up over a quarter, 1, down over a quarter; sums to 1 where windows overlap."""
    shared = window // OVERLAP
    up = (np.arange(shared) + 0.5) / shared
    return np.concatenate([up, np.ones(window - 2 * shared), up[::-1]])


def _enhance_image(enhancer: Enhancer, process: Process, noisy: np.ndarray, key: Array) -> np.ndarray:
    window, frames = enhancer.settings.frames, noisy.shape[1]
    starts, weight = window_starts(frames, window), fade(window)[None, :, None]
    padded = np.pad(noisy, ((0, 0), (0, starts[-1] + window - frames), (0, 0)))
    total, weights = np.zeros_like(padded), np.zeros((1, padded.shape[1], 1))
    for start, window_key in zip(starts, keys(key, len(starts)), strict=True):
        there = slice(start, start + window)
        drawn = enhance_window(enhancer, process, padded[:, there], window_key)
        total[:, there] += weight * np.asarray(drawn)
        weights[:, there] += weight
    return (total / weights)[:, :frames]


def _enhance_channel(enhancer: Enhancer, process: Process, wave: np.ndarray, key: Array) -> np.ndarray:
    loudest, codec = np.max(np.abs(wave)), enhancer.settings.codec
    if loudest == 0.0:
        return wave  # silence is clean
    clean = _enhance_image(enhancer, process, codec.encode(wave / loudest), key)
    return loudest * codec.decode(clean, len(wave))


def enhance(
    enhancer: Enhancer,
    waveform: Numbers,
    rate: int,
    *,
    steps: int | None = None,
    sampler: str = "sde",
    seed: int = 0,
) -> np.ndarray:
    """A cleaner wave.

    Args:
        enhancer: a trained one.
        waveform: (n,) or (n, channels) of floats, of any length. Silence comes back as it is.
        rate: its samples a second. At more than the enhancer's, what lies above half of the latter is lost.
        steps: evaluations of the network a window; None: 1 (predictor), 4 (bridges), 15 (storm) or 30 (sgmse).
        sampler: of ``sgmse`` and ``storm``: "sde" or "ode".
        seed: of the noise.

    Returns:
        A wave of the same shape, float32.

    Raises:
        ValueError: an empty wave, whole numbers, NaN, a rate or a number of steps that cannot be.

    Example:
        See ``train_enhancer``.
    """
    if not isinstance(enhancer, Enhancer):
        raise ValueError(f"enhancer must be an Enhancer, got {describe(enhancer)}; see train_enhancer, load_enhancer")
    wave, rate, settings = check_wave(waveform), check_rate(rate), enhancer.settings
    steps = STEPS[settings.method] if steps is None else check_count("steps", steps)
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler must be one of {SAMPLERS}, got {sampler!r}")
    columns = resample(wave.reshape(len(wave), -1), rate, settings.rate)
    key = jax.random.key(check_count("seed", seed, 0))
    process = enhancer.process(settings.frames, steps, sampler)
    done = [_enhance_channel(enhancer, process, column, key) for column in columns.T]
    back = resample(np.stack(done, axis=1), settings.rate, rate)
    back = np.pad(back, ((0, max(len(wave) - len(back), 0)), (0, 0)))[: len(wave)]
    return back.reshape(wave.shape).astype(np.float32)
