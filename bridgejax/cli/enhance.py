"""``bridgejax enhance``: a noisy wav file in, a cleaner one out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bridgejax.applications.speech import enhance as enhance_wave
from bridgejax.applications.speech import load_enhancer, read_wav, write_wav
from bridgejax.applications.speech._waves import clipped_share
from bridgejax.cli.arguments import Enhance


def enhance(command: Enhance) -> None:
    """Read, enhance, write at the file's own rate, and say what was seen."""
    wave, rate = read_wav(command.noisy)
    enhancer = load_enhancer(command.run)
    own = enhancer.settings.rate
    channels = 1 if wave.ndim == 1 else wave.shape[1]
    print(f"{command.noisy}: {len(wave) / rate:.2f} s at {rate} Hz, {channels} channel{'s' * (channels > 1)}")
    if not np.any(wave):
        print("  it is silent, and comes out as it is")
    if clipped_share(wave) > 1e-3:
        print(f"  {clipped_share(wave):.1%} of its samples are clipped, which is not undone")
    if rate > own:
        print(f"  the enhancer works at {own} Hz: what lies above {own // 2} Hz is lost")
    found = enhance_wave(enhancer, wave, rate, steps=command.steps, sampler=command.sampler, seed=command.seed)
    loudest = float(np.max(np.abs(found)))
    if loudest > 1.0:
        print(f"  it is {loudest:.2f} of full scale, and made quieter by that")
        found = found / loudest
    noisy = Path(command.noisy)
    out = Path(command.out) if command.out else noisy.with_name(f"{noisy.stem}-clean.wav")
    print(f"  {write_wav(out, found, rate, bits=command.bits)}")
