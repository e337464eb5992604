"""A 2-D U-Net that looks at several images of one sound and says what the clean one is, in complex gains.

    out = added + sum_j gain_j * view_j          complex, bin by bin; added and gains by the U-Net, 0 at the start

Views are images of variance about one: the state, the noisy image, and the estimate where there is one. A gain is what
a mask is in speech enhancement: little of the clean image has to be made by the network itself. It sees blocks of
``patch`` neighbouring bins and frames as channels, which makes a step cheap on a CPU, and the frequency of each row.
The parameters do not depend on the number of frames: train on short crops, use on any length.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from bridgejax._checks import check_count, describe
from bridgejax._summary import summary
from bridgejax._types import Params
from bridgejax.networks import Functional, UNet, functional
from bridgejax.networks.pure import Apply


def _check_sizes(name: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, tuple) or not value:
        raise ValueError(f"{name} must be a tuple of positive integers, got {describe(value)}")
    return tuple(check_count(name, part) for part in value)


@dataclass(frozen=True)
class NetworkSize:
    """How large a U-Net is, and how fine it looks.

    Attributes:
        width: channels of the finest level.
        multipliers: channels of each level in units of it.
        blocks: residual blocks per level and direction.
        attention: heads at the lowest level, 0 for none.
        patch: bins and frames that are folded into channels.
    """

    width: int = 48
    multipliers: tuple[int, ...] = (1, 2, 2)
    blocks: int = 1
    attention: int = 0
    patch: tuple[int, int] = (4, 2)

    __repr__ = summary

    def __post_init__(self) -> None:
        check_count("width", self.width)
        check_count("blocks", self.blocks)
        check_count("attention", self.attention, 0)
        object.__setattr__(self, "multipliers", _check_sizes("multipliers", self.multipliers))
        object.__setattr__(self, "patch", _check_sizes("patch", self.patch))
        if len(self.patch) != 2:
            raise ValueError(f"patch must be a pair (bins, frames), got {self.patch}")


def fold(image: Array, patch: tuple[int, int]) -> Array:
    """(F, T, c) as (F / p, T / q, p q c): every block of p bins and q frames is one pixel."""
    (p, q), (bins, frames, channels) = patch, image.shape
    blocks = image.reshape(bins // p, p, frames // q, q, channels).transpose(0, 2, 1, 3, 4)
    return blocks.reshape(bins // p, frames // q, p * q * channels)


def unfold(image: Array, patch: tuple[int, int]) -> Array:
    """The inverse of ``fold``."""
    (p, q), (rows, columns, channels) = patch, image.shape
    blocks = image.reshape(rows, columns, p, q, channels // (p * q)).transpose(0, 2, 1, 3, 4)
    return blocks.reshape(rows * p, columns * q, channels // (p * q))


def times(a: Array, b: Array) -> Array:
    """The product of complex numbers whose parts stand on the last axis."""
    real = a[..., 0] * b[..., 0] - a[..., 1] * b[..., 1]
    return jnp.stack([real, a[..., 0] * b[..., 1] + a[..., 1] * b[..., 0]], axis=-1)


@dataclass(frozen=True)
class Gains:
    """``apply(params, t, views, args)`` of a U-Net that was built for images of this shape.

    Attributes:
        unet: its own apply.
        patch: as in ``NetworkSize``.
        views: how many of the images it is given it looks at, the first ones.
    """

    unet: Apply
    patch: tuple[int, int]
    views: int

    __repr__ = summary

    def __call__(self, params: Params, t: Array, views: tuple[Array, ...], args: None = None) -> Array:
        """An image (bins, frames, 2) from views (bins, frames, 2)."""
        views = views[: self.views]
        bins, frames, _ = views[0].shape
        height = jnp.broadcast_to(jnp.linspace(-1.0, 1.0, bins)[:, None, None], (bins, frames, 1))
        seen = fold(jnp.concatenate([*views, height.astype(views[0].dtype)], axis=-1), self.patch)
        said = unfold(self.unet(params, t, seen, None), self.patch)
        added, *gains = jnp.split(said, 1 + len(views), axis=-1)
        return sum((times(g, view) for g, view in zip(gains, views, strict=True)), start=added)


@functools.lru_cache(maxsize=32)
def gains(size: NetworkSize, views: int, bins: int, frames: int) -> Apply:
    """The apply of ``network``, made once; also inside jit."""
    with jax.ensure_compile_time_eval():
        return network(size, views, bins, frames).apply


def network(size: NetworkSize, views: int, bins: int, frames: int, seed: int = 0) -> Functional:
    """A network for ``views`` images (bins, frames, 2); its parameters serve any number of frames.

    Args:
        size: its size.
        views: how many images it sees.
        bins: their rows.
        frames: their columns.
        seed: of its first parameters.

    Raises:
        ValueError: bins or frames that the patch does not divide, or too few of them for its levels.
    """
    p, q = size.patch
    if bins % p or frames % q:
        raise ValueError(f"patch {size.patch} must divide the {bins} bins and {frames} frames of an image")
    rows, columns = bins // p, frames // q
    unet = UNet(
        (rows, columns, p * q * (2 * views + 1)),
        outputs=(rows, columns, p * q * 2 * (1 + views)),
        width=size.width,
        multipliers=size.multipliers,
        blocks=size.blocks,
        attention=size.attention,
        rngs=nnx.Rngs(seed),
    )
    apply, params = functional(unet)
    return Functional(Gains(apply, size.patch, views), params)
