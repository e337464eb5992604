"""Models that need no training: what a learnt denoiser is compared with.

    isotropic   N(mean, v I),  v the mean variance of the coordinates
    gaussian    N(mean, C),  C the shrunk covariance of the rows (``oracles.fit_gaussian``)
    mixture     sum_k w_k N(m_k, C_k),  one low-rank Gaussian for each of the clusters of k-means
    points      the rows themselves (``oracles.empirical_law``): the minimiser of the training loss

Each is exact for its law at every noise level. With r_k the posterior weight of a cluster, that of a mixture is

    E[x_0 | x_t = x] = sum_k r_k E_k[x_0 | x_t = x],     r_k ~ w_k N(x; alpha m_k, alpha^2 C_k + sigma^2 I)
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from bridgejax._checks import check_count
from bridgejax._types import Args, Field, Numbers
from bridgejax.evaluation.arrays import flat, generator
from bridgejax.oracles import GaussianLaw, empirical_law, fit_gaussian, gaussian_flow, gaussian_law
from bridgejax.processes import Schedule
from bridgejax.processes._schedule import check_schedule

_RANK = 64  # directions that a cluster keeps
_ROUNDS = 30  # of Lloyd's algorithm
_LEAST = 2  # rows of a cluster, below which it has no covariance


def simple_denoisers(
    rows: Numbers, schedule: Schedule, *, modes: int = 10, most_points: int = 20_000, seed: int = 0
) -> dict[str, Field]:
    """Denoisers ``E[x_0 | x_t = x]`` of the isotropic Gaussian, the Gaussian, a mixture and the points of a data set.

    They are what a network may have learnt, from little to all: mean and spread, directions, clusters, the rows.
    (Wang & Vastola 2024, The unreasonable effectiveness of Gaussian score approximation for diffusion models and its
    applications, arXiv 2412.09726.)

    Args:
        rows: ``[n, *shape]``, training rows in the model's units.
        schedule: how they are noised.
        modes: clusters of the mixture, each a Gaussian of at most 64 directions; those of a single row are given to
            their neighbours.
        most_points: rows that ``points`` keeps, the first ones.
        seed: of the clusters, a non-negative integer.

    Returns:
        ``isotropic``, ``gaussian``, ``mixture`` and ``points``, each ``denoiser(t, x, args)``.

    Raises:
        ValueError: rows that do not vary, fewer than two, NaN or infinity; more modes than rows.

    Example:
        >>> import numpy as np, jax.numpy as jnp, bridgejax as bj
        >>> rows = np.random.default_rng(0).normal(size=(200, 2))
        >>> models = bj.evaluation.simple_denoisers(rows, bj.schedules.vp(), modes=3)
        >>> {name: model(0.5, jnp.ones(2), None).shape for name, model in models.items()}
        {'isotropic': (2,), 'gaussian': (2,), 'mixture': (2,), 'points': (2,)}
    """
    check_schedule(schedule)
    check_count("modes", modes)
    check_count("most_points", most_points)
    check_count("seed", seed, 0)
    x = flat(rows, "rows")
    if modes > len(x):
        raise ValueError(f"modes must be at most the number of rows, {len(x)}, got {modes}")
    shaped = x.reshape(np.shape(rows))
    laws, weights = _clusters(shaped, modes, seed)
    law = fit_gaussian(shaped)
    ball = gaussian_law(shaped.mean(0), float(x.var(0).mean()))
    return {
        "isotropic": gaussian_flow(ball, schedule).denoiser,
        "gaussian": gaussian_flow(law, schedule).denoiser,
        "mixture": Partial(_mixed, laws, jnp.log(jnp.asarray(weights, law.mean.dtype)), schedule),
        "points": empirical_law(shaped[:most_points]).denoiser(schedule),
    }


def _clusters(rows: np.ndarray, modes: int, seed: int) -> tuple[GaussianLaw, np.ndarray]:
    """Gaussians of the clusters of k-means, stacked on a first axis, and their shares of the rows."""
    x = rows.reshape(len(rows), -1)
    labels = _k_means(x, modes, seed)
    parts = [rows[labels == k] for k in range(labels.max() + 1)]
    parts = [part for part in parts if np.ptp(part, axis=0).max() > 0] or [rows]  # equal rows have no covariance
    spanned = [_spanned(part) for part in parts]
    rank = min(_RANK, *spanned)
    # rows on a line have nothing that Ledoit and Wolf's rule could learn the shrinkage from
    laws = [fit_gaussian(x, rank=rank, shrinkage=0.01 if k == 1 else None) for x, k in zip(parts, spanned, strict=True)]
    sizes = np.array([len(part) for part in parts], np.float64)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *laws), sizes / sizes.sum()


def _k_means(x: np.ndarray, modes: int, seed: int) -> np.ndarray:
    """The cluster of each row, by Lloyd's algorithm from centres that are drawn far apart; none is of a single row."""
    from scipy.spatial.distance import cdist

    rng = generator(seed, 40)
    centres = x[rng.integers(len(x), size=1)]
    while len(centres) < modes:
        far = cdist(x, centres, "sqeuclidean").min(axis=1)
        if not far.sum() > 0:
            break
        centres = np.concatenate([centres, x[rng.choice(len(x), size=1, p=far / far.sum())]])
    for _ in range(_ROUNDS):
        labels = cdist(x, centres, "sqeuclidean").argmin(axis=1)
        counts = np.bincount(labels, minlength=len(centres))
        kept = [k for k in range(len(centres)) if counts[k] >= _LEAST] or [int(counts.argmax())]
        centres = np.stack([x[labels == k].mean(axis=0) for k in kept])
    return np.unique(cdist(x, centres, "sqeuclidean").argmin(axis=1), return_inverse=True)[1]


def _spanned(rows: np.ndarray) -> int:
    """Directions that the rows span."""
    return int(np.linalg.matrix_rank((rows - rows.mean(axis=0)).reshape(len(rows), -1)))


def _mixed(laws: GaussianLaw, log_weights: Array, schedule: Schedule, t: Array, x: Array, args: Args = None) -> Array:
    """E[x_0 | x_t = x] of a mixture of stacked Gaussians."""

    def one(law: GaussianLaw) -> tuple[Array, Array]:
        return law.diffuse(schedule, t).log_prob(x), gaussian_flow(law, schedule).denoiser(t, x, None)

    logs, means = jax.vmap(one)(laws)
    return jnp.tensordot(jax.nn.softmax(log_weights + logs), means, 1).astype(means.dtype)
