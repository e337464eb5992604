"""Waves to images and back: the short-time Fourier transform with compressed magnitudes, and its exact inverse.

    X(f, k) = sum_n w(n) x(k hop + n) exp(-2 pi i f n / size)          w: periodic Hann, f = 0 .. size / 2
    S       = factor |X|^exponent exp(i angle X)                       so that soft sounds count too

An image holds the real and the imaginary part of S as two channels, (bins, frames, 2). Back: undo the compression, then
the least-squares inverse sum_k w x_k / sum_k w^2, exact wherever a window covers. ``factor`` 0.33 and ``exponent`` 0.5
are those of Lemercier et al. 2023 (StoRM, arXiv 2212.11851); their windows of 510 samples at 16 kHz are 254 at 8 kHz.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._checks import check_count, check_number, describe, is_real
from bridgejax._summary import summary
from bridgejax._types import DType, Numbers


@dataclass(frozen=True)
class Codec:
    """Waves (n,) to images (bins, frames, 2) and back; NumPy's arrays in NumPy, JAX's in JAX.

    Attributes:
        size: samples of a window, even.
        hop: samples between windows, at most half of ``size``.
        exponent: of the compressed magnitude, in (0, 1]; 1 is the linear transform.
        factor: its scale.

    Raises:
        ValueError: a number out of its range.

    Example:
        >>> import numpy as np
        >>> from bridgejax.applications.speech import Codec
        >>> codec, wave = Codec(), np.sin(np.arange(4000.0) / 5.0).astype(np.float32)
        >>> image = codec.encode(wave)
        >>> image.shape, bool(abs(codec.decode(image, 4000) - wave).max() < 1e-5)
        ((128, 64, 2), True)
    """

    size: int = 254
    hop: int = 64
    exponent: float = 0.5
    factor: float = 0.33

    __repr__ = summary

    def __post_init__(self) -> None:
        check_count("size", self.size, 4)
        check_count("hop", self.hop)
        if self.size % 2 or 2 * self.hop > self.size:
            raise ValueError(f"size must be even and hop at most half of it, got size {self.size} and hop {self.hop}")
        check_number(exponent=self.exponent, factor=self.factor)
        if not 0.0 < self.exponent <= 1.0 or not self.factor > 0.0:
            raise ValueError(f"exponent must lie in (0, 1], factor above 0, got {self.exponent} and {self.factor}")

    @property
    def bins(self) -> int:
        """Rows of an image."""
        return self.size // 2 + 1

    def frames(self, num: int) -> int:
        """Columns of the image of ``num`` samples."""
        return -(-num // self.hop) + 1

    def samples(self, frames: int) -> int:
        """Samples that ``frames`` whole windows cover, see ``analyse``."""
        return self.size + (frames - 1) * self.hop

    def encode(self, wave: Numbers) -> Any:
        """The image of a wave (n,) of any length, silence added around it: (bins, frames(n), 2)."""
        if not is_real(wave) or np.ndim(wave) != 1 or np.size(wave) == 0:
            raise ValueError(f"wave must be an array (n,) of numbers, got {describe(wave)}")
        xp, half, missing = _library(wave), self.size // 2, -np.size(wave) % self.hop
        return self.analyse(xp.pad(xp.asarray(wave), (half, half + missing)))

    def decode(self, image: Numbers, num: int) -> Any:
        """The first ``num`` samples of the wave of an image."""
        found, half = self._check(image), self.size // 2
        check_count("num", num)
        if self.frames(num) != found.shape[1]:
            raise ValueError(f"num = {num} samples are {self.frames(num)} frames, and this image has {found.shape[1]}")
        return self.synthesise(found)[half : half + num]

    def analyse(self, wave: Any) -> Any:
        """The image of a wave of ``samples(frames)`` samples, by windows that lie within it."""
        xp = _library(wave)
        places = self._places((wave.shape[0] - self.size) // self.hop + 1)
        spectrum = xp.fft.rfft(wave[places] * self._window(wave.dtype)).T
        parts = xp.stack([spectrum.real, spectrum.imag], axis=-1)
        return self.factor * _magnitudes(xp, parts, self.exponent)

    def synthesise(self, image: Any) -> Any:
        """The wave of an image, ``samples(frames)`` samples; 0 where no window reaches."""
        xp, image = _library(image), self._check(image)
        parts = _magnitudes(xp, image / self.factor, 1.0 / self.exponent)
        window, places = self._window(parts.dtype), self._places(image.shape[1])
        pieces = xp.fft.irfft((parts[..., 0] + 1j * parts[..., 1]).T, self.size) * window
        weight = np.zeros(self.samples(image.shape[1]), window.dtype)
        np.add.at(weight, places, np.broadcast_to(window**2, places.shape))
        if xp is np:
            total = np.zeros_like(weight)
            np.add.at(total, places, pieces)
        else:
            total = jnp.zeros(weight.shape, weight.dtype).at[places].add(pieces)
        covered = weight > 1e-8
        return xp.where(covered, total / np.where(covered, weight, 1.0), 0.0)

    def _places(self, frames: int) -> np.ndarray:
        return self.hop * np.arange(frames)[:, None] + np.arange(self.size)

    def _window(self, dtype: DType) -> np.ndarray:
        window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(self.size) / self.size)
        return window.astype(dtype)

    def _check(self, image: Numbers) -> Any:
        if not is_real(image) or np.ndim(image) != 3 or np.shape(image)[0] != self.bins or np.shape(image)[2] != 2:
            raise ValueError(f"image must hold numbers of shape ({self.bins}, frames, 2), got {describe(image)}")
        return _library(image).asarray(image)


def _library(x: Any) -> Any:
    """NumPy for arrays of the host, which compiles nothing; JAX for its own."""
    return jnp if isinstance(x, Array) else np


def _magnitudes(xp: Any, parts: Any, exponent: float) -> Any:
    """Complex numbers with their magnitudes to a power, and their phases; 0 stays 0."""
    squared = xp.sum(parts**2, axis=-1, keepdims=True)
    heard = squared > 0.0
    return parts * xp.where(heard, xp.where(heard, squared, 1.0) ** (0.5 * exponent - 0.5), 0.0)
