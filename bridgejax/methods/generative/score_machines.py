"""Score machines: what a convolutional network that has learnt its training images by heart, patch by patch, would say.

For a pixel p let Omega_p(x) be the patch of K x K pixels around it, cut off at the border. The mean of the pixel in the
middle of training patches, by how well they fit:

    D(t, x)_p = sum_(i, q) w_iq x_iq,      w = softmax_(i, q) ( -|Omega_p(x) - alpha Omega_q(x_i)|^2 / (2 sigma^2) )

    local          q = p: patches of the same place of all images i
    equivariant    all q of the same class as p: q's patch is cut off at the border as p's is (inside, all the inside)

Each is the least-squares denoiser under a constraint, that D_p depends on the patch around p only, and on it in the
same way wherever it lies; borders break the second ("An analytic theory of creativity in convolutional diffusion
models", Kamb & Ganguli 2024, arXiv 2412.20292). Without the constraint, K >= 2 max(h, w) - 1, both are the exact
denoiser of the rows, ``closed_form``. Samples are mosaics of patches: new images from a handful of old ones.

The size K falls with the noise: ``patch=None`` takes at each of a dozen noise levels, even in log SNR, the size that
denoises rows best that were left out for this purpose, and then uses all rows. Training images are visited block by
block: no array of n images times a batch is held.

Squared distances: of ``local`` by differences, summed over the patch by two products with banded matrices of ones; of
``equivariant`` as alpha^2 |b|^2 - 2 alpha a b in one product for every class, with the channels' means taken off first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._checks import check_count
from bridgejax._numerics import as_wide, dtype_of, normal_like, penalty
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Decoder, Numbers, PyTree, Time
from bridgejax.methods._arguments import TRAINING, documented
from bridgejax.methods._setup import Setup
from bridgejax.methods.generative import ScoreMachine
from bridgejax.methods.generative._training_free import training_free, training_rows
from bridgejax.methods.generative.diffusion import SCHEDULES
from bridgejax.processes import Schedule
from bridgejax.processes._schedule import check_schedule
from bridgejax.solve import grids
from bridgejax.training import Method

Sums: TypeAlias = tuple[Array, Array, Array]

KINDS = ("local", "equivariant")
_BLOCK = 2**15  # numbers of distances held at once for a state
_LEVELS = 12  # of noise, each with a patch size of its own
_LEFT_OUT = 100  # rows that sizes are chosen on, at most
_SIDES = (3, 5, 7, 11, 17, 25, 37)  # tried where smaller than what covers the image


# the patches ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _classes(height: int, width: int, patch: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Pixels whose patches are cut off alike: arrays [groups, pixels] with pixels > 1, and all others [pixels]."""
    k = patch // 2

    def lines(length: int) -> dict[int, list[list[int]]]:
        found: dict[tuple[int, int], list[int]] = {}
        for r in range(length):
            found.setdefault((max(k - r, 0), max(r + k - length + 1, 0)), []).append(r)
        by_size: dict[int, list[list[int]]] = {}
        for group in found.values():
            by_size.setdefault(len(group), []).append(group)
        return by_size

    groups, alone = [], np.zeros(0, int)
    for down in lines(height).values():
        for across in lines(width).values():
            places = np.asarray([[r * width + c for r in a for c in b] for a in down for b in across])
            if places.shape[1] > 1:
                groups.append(places)
            else:
                alone = np.concatenate([alone, places[:, 0]])
    return groups, alone


def _band(length: int, patch: int, dtype: np.dtype) -> np.ndarray:
    """1 where two lines are in one patch."""
    lines = np.arange(length)
    return (np.abs(lines[:, None] - lines) <= patch // 2).astype(dtype)


def _cut(images: Array, places: np.ndarray, patch: int) -> Array:
    """Patches around these pixels, [..., *places.shape, patch^2 channels], 0 beyond the border."""
    k, width = patch // 2, images.shape[-2]
    padded = jnp.pad(images, [(0, 0)] * (images.ndim - 3) + [(k, k), (k, k), (0, 0)])
    down, across = (part.ravel() for part in np.indices((patch, patch)))
    found = padded[..., (places // width)[..., None] + down, (places % width)[..., None] + across, :]
    return found.reshape(*found.shape[:-2], -1)


def _absorb(sums: Sums, distances: Array, values: Array, variance: Array) -> Sums:
    """Running sums over patches: least distance [g, q], total weight [g, q] and weighted values [g, q, c].

    ``distances`` are [m, g, k, q], of the patches k of m images, ``values`` [m, g, k, c].
    """
    least, total, mean = sums
    nearest = jax.lax.stop_gradient(jnp.minimum(least, jnp.min(distances, axis=(0, 2))))
    weights = jnp.exp(penalty(distances - nearest[:, None], variance))
    kept = jnp.exp(penalty(least - nearest, variance))
    total = kept * total + jnp.sum(weights, axis=(0, 2))
    mean = kept[..., None] * mean + jnp.einsum("mgkq,mgkc->gqc", weights, values, precision="highest")
    return nearest, total, mean


def patch_means(images: Array, centre: Array, alpha: Array, variance: Array, x: Array, patch: int, kind: str) -> Array:
    """D(t, x) of one image x [h, w, c], from images [n, h, w, c] with means ``centre`` [c]."""
    count, height, width, channels = images.shape
    pixels = height * width
    groups, alone = _classes(height, width, patch) if kind == "equivariant" else ([], np.arange(pixels))
    size = min(count, max(1, _BLOCK // max(pixels, sum(g.size * g.shape[1] for g in groups))))
    dtype = jnp.result_type(x, images, alpha, variance)
    alpha, variance = jnp.asarray(alpha, dtype), jnp.asarray(variance, dtype)
    z = x - alpha * centre
    down, across = (_band(side, patch, np.dtype(dtype)) for side in (height, width))
    asked = [_cut(z, group, patch) for group in groups]

    def body(sums: list[Sums], begin: Array) -> tuple[list[Sums], None]:
        start = jnp.minimum(begin, count - size)  # the last block reaches back, and counts what it has seen as nothing
        block = jax.lax.dynamic_slice_in_dim(images, start, size) - centre
        unseen = jnp.where(start + jnp.arange(size) >= begin, 0.0, jnp.inf).astype(dtype)[:, None, None, None]
        flat, new = block.reshape(size, pixels, channels), []
        for places, query, old in zip(groups, asked, sums, strict=False):
            keys = _cut(block, places, patch)
            fit = jnp.einsum("gqf,mgkf->mgkq", query, keys, precision="highest")
            squares = jnp.sum(keys**2, axis=-1)[..., None]
            new.append(_absorb(old, alpha * (alpha * squares - 2.0 * fit) + unseen, flat[:, places], variance))
        if len(alone):
            squares = jnp.sum((z - alpha * block) ** 2, axis=-1)
            inside = jnp.einsum("rs,mst,tu->mru", down, squares, across, precision="highest").reshape(size, pixels)
            new.append(_absorb(sums[-1], inside[:, alone, None, None] + unseen, flat[:, alone, None], variance))
        return new, None

    parts = [*groups, *([alone[:, None]] if len(alone) else [])]
    first = [
        (jnp.full(p.shape, jnp.inf, dtype), jnp.zeros(p.shape, dtype), jnp.zeros((*p.shape, channels), dtype))
        for p in parts
    ]
    sums, _ = jax.lax.scan(jax.checkpoint(body), first, jnp.arange(0, count, size))
    found = jnp.concatenate([(mean / total[..., None]).reshape(-1, channels) for _, total, mean in sums])
    order = np.argsort(np.concatenate([part.ravel() for part in parts]))
    return centre + found[order].reshape(height, width, channels)


# the machine ----------------------------------------------------------------------------------------------------------


@partial(
    register_dataclass,
    data_fields=("images", "centre", "times", "choice"),
    meta_fields=("patches", "kind"),
)
@dataclass(frozen=True)
class _Machine:
    """A score machine.

    Args:
        images: (n, h, w, c).
        centre: (c,), their means.
        times: (levels - 1,), rising noising times between the levels.
        choice: (levels,), int32, which of ``patches`` each level takes.
        patches: sizes, odd.
        kind: local or equivariant.
    """

    images: Array
    centre: Array
    times: Array
    choice: Array
    patches: tuple[int, ...]
    kind: str

    __repr__ = summary

    def at(self, schedule: Schedule, t: Time, x: Array, which: Array) -> Array:
        """D(t, x) by the patch of this index."""
        alpha, variance = schedule.alpha(t), schedule.variance(0.0, t)
        image = as_wide(x).reshape(self.images.shape[1:])
        given = self.images, self.centre, alpha, variance, image
        branches = [partial(patch_means, patch=patch, kind=self.kind) for patch in self.patches]
        found = branches[0](*given) if len(branches) == 1 else jax.lax.switch(which, branches, *given)
        return found.reshape(x.shape).astype(dtype_of(x))

    def denoise(self, schedule: Schedule, t: Array, x: Array) -> Array:
        """D(t, x), shaped like x."""
        if math.prod(x.shape) != math.prod(self.images.shape[1:]):
            raise ValueError(f"x must be one image of shape {self.images.shape[1:]}, got shape {x.shape}")
        return self.at(schedule, t, x, self.choice[jnp.searchsorted(self.times, t)])


def _held(machine: _Machine) -> PyTree:
    sizes = jnp.asarray(machine.patches, jnp.int32)[machine.choice]
    return {"rows": machine.images, "times": machine.times, "patches": sizes}


def _calibrated(machine: _Machine, schedule: Schedule, levels: np.ndarray, key: Array) -> Array:
    """The best of the sizes at each level: rows that are left out, noised and denoised by the others."""
    count = machine.images.shape[0]
    order, noise = jax.random.split(key)
    rows = machine.images[jax.random.permutation(order, count)]
    left = min(max(1, count // 10), _LEFT_OUT)
    held, rest = rows[:left], replace(machine, images=rows[left:])
    eps = normal_like(noise, held)

    def error(t: Array, which: int) -> Array:
        x = schedule.alpha(t) * held + jnp.sqrt(schedule.variance(0.0, t)) * eps
        one = replace(rest, patches=rest.patches[which : which + 1])
        return jnp.mean(
            (jax.lax.map(lambda x: one.at(schedule, t, x, jnp.zeros((), int)), x, batch_size=16) - held) ** 2
        )

    errors = [jax.lax.map(partial(error, which=which), jnp.asarray(levels)) for which in range(len(rest.patches))]
    return jnp.argmin(jnp.stack(errors), axis=0).astype(jnp.int32)


def _sizes(patch: int | Sequence[int] | None, height: int, width: int, rows: int) -> tuple[int, ...]:
    whole = 2 * max(height, width) - 1
    if patch is None:
        sizes: tuple[int, ...] = (*(side for side in _SIDES if side < whole), whole)
    else:
        sizes = (patch,) if isinstance(patch, int) else tuple(patch) if isinstance(patch, Sequence) else ()
    if not sizes or any(isinstance(s, bool) or not isinstance(s, int) or s < 1 or s % 2 == 0 for s in sizes):
        raise ValueError(f"patch must be an odd integer, the side of a patch, several of them, or None, got {patch!r}")
    if len(sizes) > 1 and rows < 2:
        raise ValueError("rows must be at least 2 for patch sizes to be chosen on one left out, got 1; give one patch")
    return sizes


def _image_shape(points: Array, image: tuple[int, ...] | None) -> tuple[int, int, int]:
    if image is not None and not (isinstance(image, tuple | list) and all(type(side) is int for side in image)):
        raise ValueError(f"image must be a tuple (height, width) or (height, width, channels), got {image!r}")
    shape = points.shape[1:] if image is None else tuple(image)
    if len(shape) not in (2, 3):
        what = "image" if image is not None else "rows"
        raise ValueError(
            f"{what} must be of images (height, width) or (height, width, channels), got {shape}; "
            "give image= for rows that are flat"
        )
    if math.prod(shape) != math.prod(points.shape[1:]):
        raise ValueError(f"image must have as many numbers as a row of shape {points.shape[1:]}, got {shape}")
    height, width, channels = (*shape, 1)[:3]
    return height, width, channels


@documented(TRAINING)
def score_machine(
    schedule: Schedule,
    *,
    rows: Numbers,
    kind: str = "equivariant",
    patch: int | Sequence[int] | None = None,
    image: tuple[int, ...] | None = None,
    sampler: str = "ode",
    ts: Numbers | None = None,
    decode: Decoder | None = None,
) -> Method:
    """A local or equivariant score machine as a Method that needs no training.

    An evaluation of the equivariant one costs n times the pixels squared times a patch, of the local one n times the
    pixels.

    Args:
        schedule: noise schedule.
        rows: (n, *shape) training images in the units the process runs in.
        kind: "local" (patches of the same place) or "equivariant" (patches of all places).
        patch: side of a patch, odd; or several sides, of which ``init`` chooses one for every noise level by the
            error on rows that it leaves out; None: several up to the whole image.
        image: (height, width) or (height, width, channels), for rows that are flat.
        sampler: "ode" (probability flow) or "sde" (reverse SDE).
        ts: grid of the process; default 40 steps (ode) or 200 (sde) even in log SNR.

    Returns:
        A Method that is ready after ``init``, whose data may be None; ``fit`` for a step says its loss on a batch.
        ``params(state)`` has the chosen sizes, "patches", with the noising times between them, "times".

    Raises:
        ValueError: rows that are no images or not finite, a patch without a middle, an unknown kind or sampler.

    Example:
        >>> import jax, numpy as np, bridgejax as bj
        >>> rows = np.random.default_rng(0).choice([-1.0, 1.0], (3, 4, 4))
        >>> method = bj.methods.score_machine(bj.schedules.cosine(), rows=rows, kind="local", patch=1)
        >>> state = method.init(jax.random.key(0), None)
        >>> x = bj.sample(method.process(state), bj.keys(jax.random.key(1), 2))    # each pixel of one of three rows
        >>> bool((abs(abs(x) - 1) < 1e-3).all())
        True
    """
    points = training_rows(rows)
    height, width, channels = _image_shape(points, image)
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
    sizes = _sizes(patch, height, width, points.shape[0])
    check_schedule(schedule)
    count = _LEVELS if len(sizes) > 1 else 1
    levels = schedule.T - np.asarray(grids.log_snr(max(count, 2), schedule))[:count]

    def make(key: Array) -> _Machine:
        images = points.reshape(-1, height, width, channels)
        levels_up = levels[::-1].copy()
        between = jnp.asarray(0.5 * (levels_up[1:] + levels_up[:-1]))
        first = jnp.zeros(count, jnp.int32)
        machine = _Machine(images, jnp.mean(images, axis=(0, 1, 2)), between, first, sizes, kind)
        if len(sizes) == 1:
            return machine
        return replace(machine, choice=jax.jit(_calibrated)(machine, schedule, jnp.asarray(levels_up), key))

    return training_free(schedule, points, make, _held, sampler=sampler, ts=ts, decode=decode)


def build(options: ScoreMachine, setup: Setup) -> Method:
    """``score_machine`` by its options."""
    schedule, rows = SCHEDULES[options.schedule](), setup.data.source
    assert rows is not None
    image = None
    if options.image:
        sides = options.image.lower().split("x")
        if not all(side.isdecimal() for side in sides):
            raise ValueError(f"image must be HEIGHTxWIDTH or HEIGHTxWIDTHxCHANNELS, such as 8x8, got {options.image!r}")
        image = tuple(int(side) for side in sides)
    elif setup.data.kind != "image":
        raise ValueError(
            f"score_machine learns images, and these data are {setup.data.kind}; of flat images say --image 8x8"
        )
    if options.patch is not None:
        check_count("patch", options.patch)
    return score_machine(
        schedule,
        rows=rows,
        kind=options.machine,
        patch=options.patch,
        image=image,
        sampler=options.sampler,
        ts=grids.log_snr(options.sample_steps or (40 if options.sampler == "ode" else 200), schedule),
        decode=setup.decode,
    )
