"""Six laws in the plane, drawn independently and identically, in the raw coordinates of the literature.

    moons         3 m - 1;  m = (cos a, sin a) or (1 - cos a, 1/2 - sin a), each with probability 1/2, a ~ U(0, pi),
                  plus the *same* number u ~ U(0, 0.2) on both coordinates of m
    8gaussians    N(5 (cos k pi/4, sin k pi/4), sqrt(0.1) I), k uniform in 0...7: standard deviation 0.1^(1/4) = 0.562
    checkerboard  uniform on the eight dark 2 x 2 squares of [-4, 4]^2
    spirals       +- (u - r cos r, v + r sin r)/3 + 0.1 N(0, I),  r = 3 pi sqrt(U(0, 1)),  u, v ~ U(0, 1/2)
    swissroll     (t cos t + e, t sin t + e')/5,  t = (3 pi/2)(1 + 2 U(0, 1)),  e, e' ~ N(0, 1)
    pinwheel      2 R(-a) z,  z ~ N((1, 0), diag(0.3, 0.1)^2),  a = 2 pi k/5 + exp(z_1)/4,  k uniform in 0...4

moons and 8gaussians are the pair of the torchcfm examples (Tong et al. 2024, arXiv 2302.00482 and
2307.03672), written out as that code draws them: its moons noise is uniform and shared by both coordinates,
and the ``sqrt(0.1)`` of its 8gaussians is a covariance. torchcfm spaces the angles of its moons evenly and
takes exactly half the points from either moon; here every point is independent, so that two halves of a
sample are independent too. The other four are the FFJORD toy sets (Grathwohl et al. 2019, arXiv 1810.01367).
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from bridgejax.data.named import TOYS

_Draw = Callable[[np.random.Generator, np.random.Generator, int], np.ndarray]


def _moons(uniform: np.random.Generator, normal: np.random.Generator, n: int) -> np.ndarray:
    u = uniform.random((n, 3))
    outer, angle = u[:, 0] < 0.5, np.pi * u[:, 1]
    x = np.where(outer, np.cos(angle), 1 - np.cos(angle))
    y = np.where(outer, np.sin(angle), 0.5 - np.sin(angle))
    return 3 * (np.stack([x, y], axis=1) + 0.2 * u[:, 2:]) - 1


def _eight_gaussians(uniform: np.random.Generator, normal: np.random.Generator, n: int) -> np.ndarray:
    angle = np.floor(8 * uniform.random(n)) * np.pi / 4
    return 5 * np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.1**0.25 * normal.standard_normal((n, 2))


def _checkerboard(uniform: np.random.Generator, normal: np.random.Generator, n: int) -> np.ndarray:
    u = uniform.random((n, 3))
    x = 4 * u[:, 0] - 2
    y = u[:, 1] - 2 * (u[:, 2] < 0.5) + np.floor(x) % 2
    return 2 * np.stack([x, y], axis=1)


def _spirals(uniform: np.random.Generator, normal: np.random.Generator, n: int) -> np.ndarray:
    u = uniform.random((n, 4))
    r = 3 * np.pi * np.sqrt(u[:, 0])
    arm = np.stack([u[:, 1] / 2 - r * np.cos(r), u[:, 2] / 2 + r * np.sin(r)], axis=1) / 3
    return np.where(u[:, 3:] < 0.5, arm, -arm) + 0.1 * normal.standard_normal((n, 2))


def _swissroll(uniform: np.random.Generator, normal: np.random.Generator, n: int) -> np.ndarray:
    t = 1.5 * np.pi * (1 + 2 * uniform.random(n))
    return (np.stack([t * np.cos(t), t * np.sin(t)], axis=1) + normal.standard_normal((n, 2))) / 5


def _pinwheel(uniform: np.random.Generator, normal: np.random.Generator, n: int) -> np.ndarray:
    z = np.array([1.0, 0.0]) + np.array([0.3, 0.1]) * normal.standard_normal((n, 2))
    a = 2 * np.pi * np.floor(5 * uniform.random(n)) / 5 + 0.25 * np.exp(z[:, 0])
    c, s = np.cos(a), np.sin(a)
    return 2 * np.stack([c * z[:, 0] + s * z[:, 1], c * z[:, 1] - s * z[:, 0]], axis=1)


_TOYS: dict[str, _Draw] = {
    "moons": _moons,
    "checkerboard": _checkerboard,
    "spirals": _spirals,
    "swissroll": _swissroll,
    "8gaussians": _eight_gaussians,
    "pinwheel": _pinwheel,
}

NAMES: tuple[str, ...] = TOYS


def _entropy(seed: int | jax.Array) -> list[int]:
    """The words of an integer seed or of one JAX key."""
    if isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key):
        if seed.shape:
            raise ValueError(f"seed must be one key, got a key array of shape {seed.shape}; pass one of its keys")
        return [int(word) for word in np.asarray(jax.random.key_data(seed)).ravel()]
    try:
        value = operator.index(seed)
    except TypeError:
        raise ValueError(f"seed must be an integer or a JAX key, got {type(seed).__name__}") from None
    if value < 0:
        raise ValueError(f"seed must be >= 0, got {value}")
    return [value]


def sample(name: str, seed: int | jax.Array, n: int) -> np.ndarray:
    """``n`` independent points of a toy law, in raw coordinates.

    The same (name, seed) always gives the same stream, whatever n is: the first m of n points are the m
    points. The name enters the seed, so two laws drawn with one seed are independent of each other.

    Args:
        name: one of ``toys.NAMES``.
        seed: a non-negative integer, or one JAX key.
        n: number of points, >= 1.

    Returns:
        float32 array of shape ``(n, 2)``.

    Raises:
        ValueError: for an unknown name (naming the nearest), a bad seed or a bad n.
    """
    if name not in _TOYS:
        near = difflib.get_close_matches(str(name), NAMES, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"name {name!r} is not a toy set; {hint}There are: {', '.join(NAMES)}")
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"n must be an integer >= 1, got {n!r}")
    # Two streams, since a normal takes a varying number of words: mixing them would tie every point to n.
    streams = np.random.SeedSequence([*_entropy(seed), *name.encode()]).spawn(2)
    uniform, normal = (np.random.Generator(np.random.Philox(stream)) for stream in streams)
    return _TOYS[name](uniform, normal, int(n)).astype(np.float32)
