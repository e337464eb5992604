"""What an evaluated population tells of each variable: the conditions of the model.

Objectives are replaced by normal scores of their ranks, r_j = Phi^{-1}((rank - 1/2) / n). An additive model of them,
one function of each variable, is fitted by kernel regression whose kernel is the distance in l_1,

    r_j = sum_i e_ij(x_i) + noise,        K(x, x') = 1 - |x - x'|_1 / (2 D),       alpha_j = (K + s_j^2 1)^{-1} r_j

(a Brownian prior on every function, s_j by the marginal likelihood), so that for every variable the posterior mean is

    e_ij(u) = const - sum_k alpha_kj |u - x_ki| / (2 D).

A preference w on the simplex names a point of the front, f proportional to w between ideal and nadir. What the model
sees of variable i under w is the same for any number D of variables and M of objectives:

    sqrt(D) sum_j v_j e_ij,  sqrt(D) sum_j w_j e_ij,  sqrt(D) sd_j e_ij      on 9 points, v_j = (1 - w_j) / (M - 1)
    mean and deviation of the best under w, the best one, mean and deviation of all
    D a_i of the mutual-entropy attention, the noise, n / D, |w|^2
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bridgejax.applications._extras import require

distance: Any = require("scipy.spatial.distance")
special: Any = require("scipy.special")

GRID = np.linspace(-1.0, 1.0, 9, dtype=np.float32)
NOISES = np.array([1e-4, 1e-3, 1e-2, 0.05, 0.2, 1.0, 5.0])
FEATURES = 3 * len(GRID) + 9
ENTROPY = FEATURES - 4  # the place of D a_i
_FLOOR = 0.1  # of a preference


def scores(f: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranks in (0, 1) and their normal scores, by objective."""
    order = np.argsort(np.argsort(f, axis=0, kind="stable"), axis=0)
    ranks = (order + 0.5) / len(f)
    return ranks, special.ndtri(ranks)


def attention(x: np.ndarray, f: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Mutual-entropy attention a = softmax_i(sum_j I(x_i; f_j) / temperature), by histograms of sqrt(n) bins."""
    bins = max(2, int(np.sqrt(len(x))))
    ranks = scores(f)[0]
    rows = np.minimum((0.5 * (x + 1.0) * bins).astype(int), bins - 1)
    columns = np.minimum((ranks * bins).astype(int), bins - 1)
    told = np.zeros(x.shape[1])
    hot = np.eye(bins, dtype=np.float32)
    for j in range(f.shape[1]):
        joint = np.stack([hot[columns[:, j]].T @ (rows == b) for b in range(bins)], 1) / len(x)  # (column, row, D)
        for law, sign in ((joint.sum(0), 1.0), (joint.sum(1), 1.0), (joint.reshape(-1, x.shape[1]), -1.0)):
            told -= sign * np.sum(law * np.log(np.where(law > 0, law, 1.0)), 0)
    return special.softmax(told / temperature)


class Seen:
    """An evaluated population, fitted.

    Args:
        x: (n, D) in [-1, 1].
        f: (n, M).
    """

    def __init__(self, x: np.ndarray, f: np.ndarray):
        self.x, self.f = np.asarray(x, np.float32), np.asarray(f, float)
        self.ranks, r = scores(self.f)
        n, d = self.x.shape
        values, vectors = np.linalg.eigh(1.0 - distance.cdist(self.x, self.x, "cityblock") / (2.0 * d))
        r = r - r.mean(0)
        seen = vectors.T @ r
        total = np.maximum(values, 0.0)[:, None, None] + NOISES[:, None]  # (n, noise, 1)
        scale = np.mean(seen[:, None] ** 2 / total, 0)
        fit = -0.5 * n * np.log(scale) - 0.5 * np.sum(np.log(total), 0)
        chosen = np.argmax(fit, 0)
        alpha = vectors @ (seen / total[:, chosen, 0])
        self.noise = np.log10(NOISES[chosen])
        curves = -np.stack([np.abs(u - self.x).T @ alpha for u in GRID], -1) / (2.0 * d)  # (D, M, grid)
        self.curves = (np.sqrt(d) * (curves - curves.mean(-1, keepdims=True))).transpose(1, 0, 2).astype(np.float32)
        self.weights = d * attention(self.x, self.f)
        self.all = np.stack([self.x.mean(0), self.x.std(0)], -1)

    def told(self, w: np.ndarray) -> np.ndarray:
        """The conditions (L, D, FEATURES) under preferences (L, M)."""
        (n, d), m = self.x.shape, w.shape[1]
        v = (1.0 - w) / (m - 1)
        curves = [np.einsum("lj,jib->lib", u.astype(np.float32), self.curves) for u in (v, w)]
        curves.append(np.broadcast_to(self.curves.std(0), curves[0].shape))
        cost = np.max(self.ranks[None] / (w[:, None] + _FLOOR), -1) + 0.05 * self.ranks.sum(1)
        order = np.argsort(np.argsort(cost, 1), 1)
        best = np.exp(-order / max(2.0, 0.03 * n))
        best = (best / best.sum(1, keepdims=True)).astype(np.float32)
        mean = best @ self.x
        spread = np.sqrt(np.maximum(best @ self.x**2 - mean**2, 0.0))
        first = self.x[np.argmin(cost, 1)]
        common = np.concatenate([np.tile([self.noise.mean(), np.log(n / d)], (len(w), 1)), np.sum(w**2, 1)[:, None]], 1)
        parts = [
            *curves,
            np.stack([mean, spread, first], -1),
            np.broadcast_to(self.all, (len(w), d, 2)),
            np.broadcast_to(self.weights[:, None], (len(w), d, 1)),
            np.broadcast_to(common[:, None], (len(w), d, 3)),
        ]
        return np.concatenate(parts, -1, dtype=np.float32)


def preferences(f: np.ndarray) -> np.ndarray:
    """Of a front: where each point lies between ideal and nadir, summing to 1."""
    low, high = f.min(0), f.max(0)
    share = (f - low) / np.where(high > low, high - low, 1.0) + 1e-6
    return share / share.sum(1, keepdims=True)


def simplex(count: int, m: int, random: Any) -> np.ndarray:
    """Preferences spread over the simplex: even for two objectives, uniform at random for more."""
    if m == 2:
        first = np.linspace(0.0, 1.0, count) if count > 1 else np.array([0.5])
        return np.stack([first, 1.0 - first], 1)
    corners = np.eye(m)[: min(m, count)]
    return np.concatenate([corners, random.dirichlet(np.ones(m), count - len(corners))])
