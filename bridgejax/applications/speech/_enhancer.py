"""The enhancer: one denoiser network, and what it is run in.

    method             centre C      runs
    predictor          -             once: D(Y), an estimate of the clean image
    sgmse              Y             noise about the centre, taken away            (SGMSE+)
    storm              predictor     the same                                      (StoRM)
    bridge             Y             a bridge from the centre to the clean image
    bridge_storm       predictor     the same

Denoisers are preconditioned: what the network sees, and what it must say, has variance about one at every noise level
(``networks.coefficients``; ``ddbm``'s for bridges, of which the predictor is the one at t = 1). Losses:

    predictor          |D - X|^2 / s^2
    about a centre     |D - X|^2 / c_out(t)^2        t uniform on [0.03, 1]
    bridge             |D - X|^2 / s^2               t uniform on [0.001, 0.999]
    joint              half of it, and half of the predictor's, which then learns from both      (StoRM, a = 1/2)

The papers regress sigma_t score, which has the same minimiser; their network is 100 times this one's size.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import check_count, check_positive
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Field, Params
from bridgejax.applications.speech._codec import Codec
from bridgejax.applications.speech._network import NetworkSize, gains
from bridgejax.applications.speech._processes import Given, about_centre, bridge_from, exploding, ouve
from bridgejax.methods.paired.ddbm import pair_coefficients
from bridgejax.networks import coefficients
from bridgejax.processes import Process, Schedule

METHODS = ("predictor", "sgmse", "storm", "bridge", "bridge_storm")
GUIDED = ("storm", "bridge_storm")
STEPS = {"predictor": 1, "sgmse": 30, "storm": 15, "bridge": 4, "bridge_storm": 4}
OVERLAP = 4  # windows of enhancement share a quarter


class Spread(NamedTuple):
    """Standard deviations of the parts of images in training, which set the scale of what networks see.

    Attributes:
        clean: of X.
        noisy: of Y.
        centre: of C.
        correlation: of X and C.
        residual: of X - C.
    """

    clean: Array
    noisy: Array
    centre: Array
    correlation: Array
    residual: Array

    __repr__ = summary


@dataclass(frozen=True)
class Settings:
    """What an enhancer is, apart from its numbers.

    Attributes:
        method: one of ``METHODS``.
        rate: samples a second that it works at.
        codec: waves to images.
        size: of its network.
        frames: of the windows it is run on; training crops may be shorter.
    """

    method: str = "bridge"
    rate: int = 8000
    codec: Codec = field(default_factory=Codec)
    size: NetworkSize = field(default_factory=NetworkSize)
    frames: int = 128

    __repr__ = summary

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {METHODS}, got {self.method!r}")
        check_count("rate", self.rate, 100)
        check_count("frames", self.frames, 2 * OVERLAP)
        network_shape(self, self.frames)

    @property
    def views(self) -> int:
        """How many images its network sees: the state, the noisy one, the estimate."""
        return 1 if self.method == "predictor" else 3 if self.method in GUIDED else 2


def network_shape(settings: Settings, frames: int) -> tuple[int, int]:
    """``(rows, columns)`` of the U-Net's images.

    Raises:
        ValueError: a patch that does not divide them.
    """
    (p, q), bins = settings.size.patch, settings.codec.bins
    if bins % p or frames % q:
        raise ValueError(f"patch {(p, q)} must divide the {bins} bins and {frames} frames of an image")
    return bins // p, frames // q


@functools.cache
def schedule_of(method: str) -> Schedule:
    """The noise of a method."""
    with jax.ensure_compile_time_eval():
        return ouve() if method in ("sgmse", "storm") else exploding()


def _of_residual(schedule: Schedule, spread: Spread, network: Field, t: Array, x: Array, args: Given) -> Array:
    """E[X - C | X_t - C = x], preconditioned."""
    k = coefficients(schedule.alpha(t), schedule.sigma(t), spread.residual)
    views = (k.input * x, args.noisy / spread.noisy, args.centre / spread.centre)
    return k.skip * x + k.out * network(k.noise, views, None)


def _of_bridge(schedule: Schedule, spread: Spread, network: Field, t: Array, x: Array, args: Given) -> Array:
    """E[X | X_t = x], preconditioned."""
    k = pair_coefficients(schedule, t, (spread.clean, spread.centre, spread.correlation))
    views = (k.input * x, args.noisy / spread.noisy, args.centre / spread.centre)
    return k.skip * x + k.out * network(k.noise, views, None)


def denoiser_of(settings: Settings, params: Params, spread: Spread, frames: int) -> Partial:
    """``denoiser(t, x, args)`` for images of this many frames."""
    apply = gains(settings.size, settings.views, settings.codec.bins, frames)
    made = _of_residual if settings.method in ("sgmse", "storm") else _of_bridge
    return Partial(made, schedule_of(settings.method), spread, Partial(apply, params))


@partial(register_dataclass, data_fields=("params", "spread", "predictor"), meta_fields=("settings",))
@dataclass(frozen=True)
class Enhancer:
    """A trained enhancer, a pytree; ``enhance`` uses it.

    Attributes:
        settings: what it is (static).
        params: of its network.
        spread: scale of its images.
        predictor: the one whose estimate is its centre, for ``storm`` and ``bridge_storm``.
    """

    settings: Settings
    params: Params
    spread: Spread
    predictor: Enhancer | None = None

    __repr__ = summary

    def denoiser(self, frames: int) -> Partial:
        """Its ``denoiser(t, x, args)`` for images of this many frames."""
        return denoiser_of(self.settings, self.params, self.spread, frames)

    def given(self, noisy: Array) -> Given:
        """The condition of an image: itself, and the centre."""
        centre = noisy if self.predictor is None else self.predictor.estimate(noisy)
        return Given(noisy, centre)

    def estimate(self, noisy: Array) -> Array:
        """What one evaluation at t = 1 says of the clean image; for ``predictor``, ``bridge`` and ``bridge_storm``."""
        args = self.given(noisy)
        return self.denoiser(noisy.shape[1])(jnp.ones(()), args.centre, args)

    def process(self, frames: int, steps: int, sampler: str = "sde") -> Process:
        """What it draws from; ``args`` are ``given(noisy)``."""
        method, denoiser = self.settings.method, self.denoiser(frames)
        if method == "predictor":
            return bridge_from(schedule_of(method), denoiser, 1)
        if method in ("sgmse", "storm"):
            return about_centre(schedule_of(method), denoiser, steps, sampler)
        return bridge_from(schedule_of(method), denoiser, steps)


def with_params(enhancer: Enhancer, params: dict[str, Params]) -> Enhancer:
    """The same with these parameters, its predictor's among them."""
    inner = None if enhancer.predictor is None else replace(enhancer.predictor, params=params["predictor"])
    return replace(enhancer, params=params["denoiser"], predictor=inner)


def check_rate(rate: object) -> int:
    """Samples a second, a positive whole number."""
    check_positive(rate=rate)
    return check_count("rate", int(rate) if isinstance(rate, float) and rate.is_integer() else rate)
