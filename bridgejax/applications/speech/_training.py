"""Training an enhancer from clean waves and noise, mixed anew in every batch.

rows     stretches of clean waves and of noise, each wave at unit power
mixture  y = x + 10^(-SNR / 20) n,    SNR uniform, x and n drawn independently
level    both times g / max |y|,      g log-uniform on [1/4, 1]: a window is seldom where its file is loudest
images   X, Y by the codec, and the method's loss
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._checks import check_count, check_number, describe
from bridgejax._types import Metrics, Params
from bridgejax.applications.speech._codec import Codec
from bridgejax.applications.speech._enhancer import (
    GUIDED,
    Enhancer,
    Settings,
    Spread,
    denoiser_of,
    schedule_of,
    with_params,
)
from bridgejax.applications.speech._network import network
from bridgejax.applications.speech._processes import Given
from bridgejax.applications.speech._waves import check_wave, read_folder
from bridgejax.bridges import interpolants
from bridgejax.data import Pairs
from bridgejax.networks import coefficients
from bridgejax.objectives import matching, times
from bridgejax.processes import Process
from bridgejax.processes._keys import streams
from bridgejax.training import Method, adam, fit, gradient_method

Waves = str | os.PathLike[str] | Sequence[np.ndarray]

# data -----------------------------------------------------------------------------------------------------------------


def as_waves(waves: Waves, rate: int, name: str) -> list[np.ndarray]:
    """Waves (n,) of float32: a folder's wav files at ``rate``, or what was given.

    Raises:
        ValueError: no waves, silent ones only, or a wave with NaN.
    """
    if isinstance(waves, str | os.PathLike):
        found = read_folder(waves, rate)
    elif isinstance(waves, list | tuple) and waves:
        found = [check_wave(wave, f"{name}[{i}]", channels=False) for i, wave in enumerate(waves)]
    else:
        raise ValueError(f"{name} must be a folder of wav files or a list of waves (n,), got {describe(waves)}")
    heard = [np.asarray(wave, np.float32) for wave in found if np.any(wave)]
    if not heard:
        raise ValueError(f"{name} holds silence only; give waves with sound")
    return heard


def stretches(waves: list[np.ndarray], samples: int) -> np.ndarray:
    """Rows (n, samples) that begin every half row, of each wave at unit power; short waves stand in silence."""
    rows = []
    for wave in waves:
        wave = wave / np.sqrt(np.mean(wave**2))
        missing = max(samples - len(wave), 0)
        wave = np.pad(wave, (missing // 2, missing - missing // 2))
        rows += [wave[start : start + samples] for start in range(0, len(wave) - samples + 1, samples // 2)]
    return np.stack(rows).astype(np.float32)


def mixture(codec: Codec, snr: tuple[float, float], key: Array, clean: Array, noise: Array) -> tuple[Array, Array]:
    """Images ``(X, Y)`` of a clean stretch and of its mixture with a stretch of noise."""
    snr_key, level_key = jax.random.split(key)
    decibels = jax.random.uniform(snr_key, minval=snr[0], maxval=snr[1])
    noisy = clean + 10.0 ** (-decibels / 20.0) * noise
    loudest = jnp.max(jnp.abs(noisy))
    level = 0.25 ** jax.random.uniform(level_key) / jnp.where(loudest > 0.0, loudest, 1.0)
    return codec.analyse(level * clean), codec.analyse(level * noisy)


def measured(clean: Array, noisy: Array, centre: Array) -> Spread:
    """Spread of images whose leading axis is samples."""

    def deviation(x: Array) -> Array:
        return jnp.sqrt(jnp.mean(x**2))

    s0, s1 = deviation(clean), deviation(centre)
    correlation = jnp.clip(jnp.mean(clean * centre) / (s0 * s1), -0.99, 0.99)
    return Spread(s0, deviation(noisy), s1, correlation, jnp.maximum(deviation(clean - centre), 0.01 * s0))


# the method -----------------------------------------------------------------------------------------------------------


def _predictor_loss(settings: Settings, spread: Spread, params: Params, clean: Array, noisy: Array) -> Array:
    """|D(Y) - X|^2 / s^2, mean over the batch."""
    denoiser = denoiser_of(settings, params, spread, clean.shape[2])
    said = jax.vmap(lambda y: denoiser(jnp.ones(()), y, Given(y, y)))(noisy)
    return jnp.mean((said - clean) ** 2) / spread.clean**2


def _matching_loss(settings: Settings, spread: Spread, frames: int) -> Callable[..., tuple[Array, Metrics]]:
    """``loss(params, keys, clean, given)`` of a method that runs a process."""
    schedule = schedule_of(settings.method)

    def apply(params: Params, t: Array, x: Array, args: Given) -> Array:
        return denoiser_of(settings, params, spread, frames)(t, x, args)

    if settings.method in ("sgmse", "storm"):
        path, sampler = interpolants.diffusion(schedule), times.low_discrepancy(0.03, 1.0)

        def weight(t: Array) -> Array:
            return 1.0 / coefficients(schedule.alpha(t), schedule.sigma(t), spread.residual).out ** 2
    else:
        path, sampler = interpolants.bridge(schedule), times.low_discrepancy(1e-3, 1.0 - 1e-3)

        def weight(t: Array) -> Array:
            return jnp.ones_like(t) / spread.clean**2

    match = matching(path, apply, "x0", times=sampler, weight=weight)

    def loss(params: Params, keys: Array, clean: Array, given: Given) -> tuple[Array, Metrics]:
        if settings.method in ("sgmse", "storm"):
            return match(params, keys, {"x": clean - given.centre, "args": given})
        return match(params, keys, {"source": clean, "target": given.centre, "args": given})

    return loss


def enhancer_method(
    untrained: Enhancer, frames: int, *, snr: tuple[float, float], joint: bool, steps: int, rate: float
) -> Method:
    """The Method whose data are rows ``source`` (noise) and ``target`` (clean); its process is the enhancer's.

    Args:
        untrained: an enhancer; its parameters are where training begins.
        frames: of a training crop.
        snr: least and greatest, in decibels.
        joint: whether a predictor learns too.
        steps: updates that Adam's rate decays over.
        rate: its peak.
    """
    settings, spread, predictor = untrained.settings, untrained.spread, untrained.predictor
    codec = settings.codec
    match = None if settings.method == "predictor" else _matching_loss(settings, spread, frames)

    def loss(params: Params, keys: Array, batch: Any) -> tuple[Array, Metrics]:
        mixed = streams(keys, "speech", 1)[:, 0]
        clean, noisy = jax.vmap(lambda k, x, n: mixture(codec, snr, k, x, n))(mixed, batch["target"], batch["source"])
        if match is None:
            return _predictor_loss(settings, spread, params["denoiser"], clean, noisy), {}
        enhancer = with_params(untrained, params if joint else jax.lax.stop_gradient(params))
        value, metrics = match(params["denoiser"], keys, clean, jax.vmap(enhancer.given)(noisy))
        if not joint or predictor is None:
            return value, metrics
        first = _predictor_loss(predictor.settings, predictor.spread, params["predictor"], clean, noisy)
        return 0.5 * value + 0.5 * first, {**metrics, "predictor": first}

    def process(params: Params) -> Process:
        return with_params(untrained, params).process(frames, 1)

    params = {"denoiser": untrained.params}
    if predictor is not None:
        params["predictor"] = predictor.params
    optimizer = adam(rate, steps=steps, warmup=min(100, steps // 10), schedule="cosine", final=0.05)
    return gradient_method(loss, process, optimizer, 0.99, params=params)


def _check_training(method: str, predictor: Enhancer | None, snr: tuple[float, float], *, joint: bool) -> None:
    if method in GUIDED:
        if not isinstance(predictor, Enhancer) or predictor.settings.method != "predictor":
            raise ValueError(
                f"predictor must be a trained Enhancer of method 'predictor' for {method!r}, got {describe(predictor)}"
            )
    elif predictor is not None:
        raise ValueError(f"predictor is for {GUIDED}, whose centre is its estimate; got one for method {method!r}")
    if joint and method not in GUIDED:
        raise ValueError(f"joint is for {GUIDED}, which have a predictor to train; got method {method!r}")
    if not isinstance(snr, tuple) or len(snr) != 2:
        raise ValueError(f"snr must be a pair (least, greatest) in decibels, got {describe(snr)}")
    for bound in snr:
        check_number(snr=bound)
    if not -100.0 <= snr[0] <= snr[1] <= 100.0:
        raise ValueError(f"snr must be increasing and within [-100, 100] decibels, got {snr}")


def train_enhancer(
    clean: Waves,
    noise: Waves,
    key: Array,
    *,
    settings: Settings | None = None,
    steps: int = 5000,
    batch_size: int = 8,
    crop: int = 64,
    snr: tuple[float, float] = (-5.0, 15.0),
    predictor: Enhancer | None = None,
    joint: bool = False,
    rate: float = 1e-3,
    **options: Any,
) -> Enhancer:
    """An enhancer from clean speech and noise.

    Args:
        clean: a folder of wav files, or waves (n,) at ``settings.rate``.
        noise: the same; babble, music, machines: what shall be taken away.
        key: one threefry key.
        settings: method, rate and sizes; None: ``Settings()``, a bridge at 8 kHz.
        steps: updates.
        batch_size: mixtures per update.
        crop: frames of a mixture.
        snr: least and greatest signal-to-noise ratio of a mixture, of the powers of the two files, in decibels.
        predictor: of ``storm`` and ``bridge_storm``: a trained enhancer of method "predictor".
        joint: whether that one goes on learning, from the losses of both.
        rate: peak of Adam's learning rate.
        **options: of ``fit`` (``directory``, ``callbacks``, ...).

    Returns:
        An Enhancer.

    Raises:
        ValueError: folders without sound, a predictor that is missing or not wanted, numbers out of range.

    Example:
        >>> import jax, numpy as np
        >>> from bridgejax.applications.speech import NetworkSize, Settings, enhance, train_enhancer
        >>> draw = np.random.default_rng(0)
        >>> clean, noise = [np.sin(np.arange(9000) / 9.0)], [draw.normal(size=9000)]
        >>> settings = Settings(size=NetworkSize(width=8, multipliers=(1,)), frames=16)
        >>> enhancer = train_enhancer(clean, noise, jax.random.key(0), settings=settings, steps=2, crop=16)
        >>> enhance(enhancer, clean[0] + noise[0], 8000).shape
        (9000,)
    """
    settings = Settings() if settings is None else settings
    _check_training(settings.method, predictor, snr, joint=joint)
    check_count("crop", crop, 2)
    samples = settings.codec.samples(crop)
    rows = {
        name: stretches(as_waves(waves, settings.rate, name), samples)
        for name, waves in (("noise", noise), ("clean", clean))
    }
    made_key, fit_key = streams(key, "speech", 2)
    made = network(
        settings.size, settings.views, settings.codec.bins, crop, int(jax.random.bits(made_key, dtype=jnp.uint32) >> 1)
    )
    pairs = Pairs(rows["noise"], rows["clean"], batch_size=check_count("batch_size", batch_size), coupling=None)
    untrained = Enhancer(settings, made.params, _spread(settings, pairs, snr, predictor, made_key), predictor)
    method = enhancer_method(untrained, crop, snr=snr, joint=joint, steps=check_count("steps", steps), rate=rate)
    state = fit(method, pairs, fit_key, steps=steps, batch_size=batch_size, **options)
    return with_params(untrained, method.params(state))


def _spread(
    settings: Settings, pairs: Pairs, snr: tuple[float, float], predictor: Enhancer | None, key: Array
) -> Spread:
    """The spread of 64 mixtures or more."""
    first = [pairs.batch(step) for step in range(math.ceil(64 / pairs.batch_size))]
    noise, clean = (jnp.concatenate([batch[end] for batch in first]) for end in ("source", "target"))

    @jax.jit
    def measure(predictor: Enhancer | None) -> Spread:
        mix = jax.vmap(lambda k, x, n: mixture(settings.codec, snr, k, x, n))
        clean_images, noisy = mix(jax.random.split(key, len(clean)), clean, noise)
        centre = noisy if predictor is None else jax.vmap(predictor.estimate)(noisy)
        return measured(clean_images, noisy, centre)

    return measure(predictor)
