"""Couplings: how a batch of sources and a batch of targets are matched into pairs.

    independent   pairs (x0_k, x1_pi(k)), pi uniform                        the product law
    paired        pairs (x0_k, x1_k)                                        data that come in pairs
    exact_ot      pi = argmin over permutations of sum_k |x0_k - x1_pi(k)|^2
    EntropicOT    pairs drawn from P = argmin sum_ij P_ij |x0_i - x1_j|^2 / 2 - epsilon H(P), marginals 1/B

Minibatch optimal transport: Tong et al. 2024, arXiv 2302.00482; Pooladian et al. 2023, arXiv 2304.14772. The
batch law it samples tends to the optimal plan as the batch grows, and is biased towards the product law for
small ones.

A ``Coupling`` is ``(rng, x0[B], x1[B]) -> (i, j)``: pair k is (x0[i_k], x1[j_k]). It runs on the host, in
NumPy and SciPy, where an exact assignment is some five times faster than on the device (n = 256), and off the
training thread (``data.prefetch``).
"""

from __future__ import annotations

import warnings
from typing import Protocol

import numpy as np

from bridgejax._summary import summary
from bridgejax._types import Batch

__all__ = [
    "Coupling",
    "EntropicOT",
    "assignment",
    "exact_ot",
    "independent",
    "paired",
    "sinkhorn",
]


def __dir__() -> list[str]:
    return __all__


_FAR_OFF = 0.1  # error of a row sum, relatively, from which a plan that did not converge says so


class Coupling(Protocol):
    """``(rng, x0[B], x1[B]) -> (i, j)``, two index arrays of length B.

    An attribute ``aligned = True`` asks ``data.Pairs`` to draw the same rows of both ends.
    """

    def __call__(self, rng: np.random.Generator, x0: Batch, x1: Batch) -> tuple[np.ndarray, np.ndarray]:
        """The pairs of one batch."""
        ...


def _size(x0: Batch, x1: Batch) -> int:
    """The common batch size."""
    for name, x in (("x0", x0), ("x1", x1)):
        if isinstance(x, str) or x is None or (isinstance(x, list) and any(isinstance(row, str) for row in x)):
            raise ValueError(f"{name} must be a batch [B, ...] of numbers, got {type(x).__name__}")
        if not np.ndim(x):
            raise ValueError(f"{name} is a single number; expected a batch [B, ...]")
    if len(x0) != len(x1):
        raise ValueError(f"x0 and x1 must have one batch size, got {len(x0)} and {len(x1)}")
    if not len(x0):
        raise ValueError("x0 and x1 are empty batches; expected at least one sample")
    return len(x0)


def independent(rng: np.random.Generator, x0: Batch, x1: Batch) -> tuple[np.ndarray, np.ndarray]:
    """A uniformly random matching, independent of the values. O(B).

    Args:
        rng: shuffles the targets, so that batches drawn in step are independent too.
        x0: ``[B, ...]``.
        x1: ``[B, ...]``.

    Returns:
        (i, j), i = 0 ... B - 1 and j a permutation.

    Raises:
        ValueError: different batch sizes.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> i, j = bj.couplings.independent(np.random.default_rng(0), np.zeros((3, 2)), np.ones((3, 2)))
        >>> len(i), len(j)
        (3, 3)
    """
    size = _size(x0, x1)
    return np.arange(size), _generator(rng).permutation(size)


def _generator(rng: object) -> np.random.Generator:
    if not isinstance(rng, np.random.Generator):
        raise ValueError(
            f"rng must be a numpy.random.Generator, got {type(rng).__name__}; see numpy.random.default_rng"
        )
    return rng


class _Paired:
    """Sample k with sample k."""

    aligned = True

    __repr__ = summary

    def __call__(self, rng: np.random.Generator, x0: Batch, x1: Batch) -> tuple[np.ndarray, np.ndarray]:
        """I = j = 0 ... B - 1; ``rng`` is not used."""
        rows = np.arange(_size(x0, x1))
        return rows, rows


#: Keep the pairs of the data; ``data.Pairs`` then draws the same rows of both ends.
paired = _Paired()


def assignment(x0: Batch, x1: Batch) -> np.ndarray:
    """The permutation pi that minimises sum_k |x0_k - x1_pi(k)|^2, exactly. O(B^3) at worst, B^2 numbers of memory.

    SciPy's shortest augmenting paths (Crouse 2016); about 10 ms at B = 256 on one core. Ties go to any of the
    optima.

    Args:
        x0: ``[B, ...]``, flattened to points.
        x1: ``[B, ...]``, of the same sample size.

    Returns:
        Integer array ``[B]``, a permutation of 0 ... B - 1.

    Raises:
        ValueError: different batch or sample sizes, NaN or infinity.

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> bj.couplings.assignment(np.array([[0.0], [5.0]]), np.array([[6.0], [1.0]])).tolist()
        [1, 0]
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    return linear_sum_assignment(cdist(*_points(x0, x1), "sqeuclidean"))[1]


def _points(x0: Batch, x1: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Both batches as finite points of one dimension, float64."""
    size = _size(x0, x1)
    for name, x in (("x0", x0), ("x1", x1)):
        if np.asarray(x).dtype.kind not in "biufV":  # V: bfloat16
            raise ValueError(f"{name} must hold real numbers, got dtype {np.asarray(x).dtype}")
    x0, x1 = (np.asarray(x).reshape(size, -1).astype(np.float64) for x in (x0, x1))
    if x0.shape != x1.shape:
        raise ValueError(
            "x0 and x1 must have samples of one size for a cost |x0 - x1|^2, "
            f"got {x0.shape[1]} and {x1.shape[1]} numbers"
        )
    for name, x in (("x0", x0), ("x1", x1)):
        if not np.isfinite(x).all():
            raise ValueError(f"{name} holds NaN or infinity, for which no transport cost exists")
    return x0, x1


def exact_ot(rng: np.random.Generator, x0: Batch, x1: Batch) -> tuple[np.ndarray, np.ndarray]:
    """The optimal matching of the batch for the squared Euclidean cost, see ``assignment``.

    Args:
        rng: not used.
        x0: ``[B, ...]``.
        x1: ``[B, ...]``, of the same sample size.

    Returns:
        (i, j), i = 0 ... B - 1 and j a permutation.

    Raises:
        ValueError: different batch or sample sizes, NaN or infinity.

    (Tong et al. 2024, Improving and generalizing flow-based generative models with minibatch optimal transport, arXiv
    2302.00482.)

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> x0, x1 = np.array([[0.0], [5.0]]), np.array([[6.0], [1.0]])
        >>> i, j = bj.couplings.exact_ot(np.random.default_rng(0), x0, x1)
        >>> x0[i].ravel().tolist(), x1[j].ravel().tolist()
        ([0.0, 5.0], [1.0, 6.0])
    """
    return np.arange(_size(x0, x1)), assignment(x0, x1)


def sinkhorn(x0: Batch, x1: Batch, epsilon: float, *, tolerance: float = 1e-3, iterations: int = 5000) -> np.ndarray:
    """The entropic plan of two batches for the cost |x - y|^2 / 2: P_ij = exp((f_i + g_j - c_ij) / epsilon).

    Sinkhorn's scalings of a kernel that absorbs the potentials every 20 turns, so that a small epsilon neither
    underflows nor costs a logarithm of a sum at each; coarse to fine where epsilon is small for the batch (Schmitzer
    2019, arXiv 1610.06519). O(B^2) a turn.

    Args:
        x0: ``[B, ...]``, flattened to points.
        x1: ``[B, ...]``, of the same sample size.
        epsilon: regularisation for the *halved* squared distance, in squared units of the data: sigma^2 of the
            Brownian reference. Codes that take |x - y|^2 want twice as much.
        tolerance: largest relative error of a row sum.
        iterations: at most so many at the full epsilon, after 280 at most that are coarser; where they do not do (far
            clusters at a small epsilon), rows are further off than the tolerance.

    Returns:
        ``[B, B]``, float64, columns summing to 1 / B and rows within the tolerance if the iterations reach it; a
        ``RuntimeWarning`` says so where a row is off by more than a tenth.

    Raises:
        ValueError: epsilon not positive, different batch or sample sizes, NaN or infinity.

    (Cuturi 2013, Sinkhorn distances: lightspeed computation of optimal transport, arXiv 1306.0895.)

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> plan = bj.couplings.sinkhorn(np.array([[0.0], [5.0]]), np.array([[6.0], [1.0]]), epsilon=1.0)
        >>> plan.round(2).tolist()                                                   # rows of x0, columns of x1
        [[0.0, 0.5], [0.5, 0.0]]
    """
    from scipy.spatial.distance import cdist

    if not (
        isinstance(epsilon, int | float | np.floating | np.integer)
        and not isinstance(epsilon, bool)
        and 0 < epsilon < np.inf
    ):
        raise ValueError(f"epsilon must be a positive finite number, got {epsilon!r}")
    cost = 0.5 * cdist(*_points(x0, x1), "sqeuclidean") / epsilon
    f = cost.min(axis=1)
    f, g, done = _turns(cost, f, (cost - f[:, None]).min(axis=0), 2, tolerance)
    if not done:  # near equals outbid each other in small steps; in larger ones of a coarser problem they come to terms
        for scale in (64.0, 32.0, 16.0, 8.0, 4.0, 2.0):
            f, g, _ = _turns(cost / scale, f / scale, g / scale, 2, tolerance)
            f, g = scale * f, scale * g
        f, g, done = _turns(cost, f, g, max(1, iterations // 20), tolerance)
    plan = np.exp(f[:, None] + g - cost)
    error = 0.0 if done else np.abs(len(plan) * plan.sum(axis=1) - 1.0).max()
    if error > _FAR_OFF:
        warnings.warn(
            f"sinkhorn: after {iterations} iterations a row of the plan is off by {error:.0%} of its mass; epsilon = "
            f"{epsilon:g} is small for costs up to {epsilon * cost.max():.3g}: use a larger one, or exact_ot",
            RuntimeWarning,
            stacklevel=2,
        )
    return plan


def _turns(
    cost: np.ndarray, f: np.ndarray, g: np.ndarray, rounds: int, tolerance: float
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Potentials after ``rounds`` of 20 scalings, over-relaxed while that helps, and whether the rows are right.

    (Thibault, Chizat, Dossal & Papadakis 2021, arXiv 1711.01851.)
    """
    size, relax, error = len(cost), 1.0, np.inf
    for _ in range(rounds):
        kernel = np.exp(f[:, None] + g - cost)
        u, v = np.ones(size), np.ones(size)
        for _ in range(20):
            u = u ** (1.0 - relax) / (size * np.maximum(kernel @ v, 1e-300)) ** relax
            v = v ** (1.0 - relax) / (size * np.maximum(u @ kernel, 1e-300)) ** relax
        v = 1.0 / (size * np.maximum(u @ kernel, 1e-300))  # the columns are exact in the end
        f, g = f + np.log(u), g + np.log(v)
        last, error = error, np.abs(size * u * (kernel @ v) - 1.0).max()
        if error < tolerance:
            return f, g, True
        relax = 1.5 if error < last else 1.0
    return f, g, False


class EntropicOT:
    """Pairs drawn from the entropic plan of the batch: row i of x0 once, with j from P(. | i).

    Minibatch version of the static Schroedinger bridge (Tong et al. 2024, arXiv 2307.03672).

    Args:
        epsilon: sigma^2 of the bridge, see ``sinkhorn``.

    Raises:
        ValueError: epsilon not positive.

    (Cuturi 2013, Sinkhorn distances: lightspeed computation of optimal transport, arXiv 1306.0895.)

    Example:
        >>> import numpy as np, bridgejax as bj
        >>> coupling = bj.couplings.EntropicOT(epsilon=1.0)
        >>> i, j = coupling(np.random.default_rng(0), np.array([[0.0], [9.0]]), np.array([[9.0], [0.0]]))
        >>> bool(np.all(np.array([0.0, 9.0])[i] == np.array([9.0, 0.0])[j]))
        True
    """

    __repr__ = summary

    def __init__(self, epsilon: float) -> None:
        self.epsilon = epsilon
        sinkhorn(np.zeros((1, 1)), np.zeros((1, 1)), epsilon)  # refuses a bad epsilon here

    def __call__(self, rng: np.random.Generator, x0: Batch, x1: Batch) -> tuple[np.ndarray, np.ndarray]:
        """The pairs of one batch."""
        rises = np.cumsum(sinkhorn(x0, x1, self.epsilon), axis=1)
        j = (rises < _generator(rng).random((len(rises), 1)) * rises[:, -1:]).sum(axis=1)
        return np.arange(len(j)), j
