"""Schroedinger bridges whose potential is a Gaussian mixture: drift, transitions and plan are closed forms.

Reference: Brownian motion with variance epsilon per unit time on [0, 1], that is sigma = sqrt(epsilon) and the entropic
plan of cost |x - y|^2 / 2 with regularisation epsilon. The plan given x is

    pi(y | x) ~ exp(<x, y> / epsilon) sum_k alpha_k N(y; r_k, epsilon S_k)

(Korotin, Gushchin & Burnaev 2024, arXiv 2310.01174). The Brownian kernel from t integrated against it leaves, with
D_k = t S_k + 1 - t (between 1 and S_k: no singularity at either end) and up to a constant,

    phi_t(x)    = sum_k w_k(t, x),
    log w_k     = log alpha_k + sum_i { [(S_k - 1) x^2 + 2 r_k x - t r_k^2] / (2 epsilon D_k) - log(D_k) / 2 }_i
    drift       = epsilon grad log phi_t = sum_k p_k [(S_k - 1) x + r_k] / D_k,           p_k = w_k / sum_j w_j
    x_u | x_t   ~ sum_k p_k N([D_k(u) x + (u - t) r_k] / D_k(t), epsilon (u - t) D_k(u) / D_k(t))

for diagonal S_k. S_k = Q_k diag(s_k) Q_k^T has the same lines in its own axes, for Q_k^T x and Q_k^T r_k. ``cayley``
makes such Q of any numbers: (I - A) (I + A)^-1 with A skew; whichever axes a matrix has, some order and signs of them
are of this form.

The last line, at u = 1, is the plan; it is also the terminal kernel. With the source an empirical law,
sum_i delta(x_i) / n, the time reversal is closed form as well: x_0 given x_t is x_i with weight
N(x_t; x_i, epsilon t) / phi_0(x_i).

Far from 0 these cancel: r_k = E[y | x] - S_k x and the weights hold squares of where the data lie. Moving the source by
c_0 and the target by c_1 leaves the plan of their potential as it is, so with ``centres`` x stands for x_t - c_t,
c_t = (1 - t) c_0 + t c_1, in all lines, and the drift gains c_1 - c_0.

(The drift is sometimes printed with N(h; 0, A) where the integral of exp(h y - y A y / 2) belongs; the two differ by a
function of t and x, and so does their gradient.)
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from bridgejax._numerics import as_time, dtype_of, safe_divide
from bridgejax._summary import summary
from bridgejax._types import Args, Scalar, Time
from bridgejax.processes import SDE, GaussianMixture, Kernel


def _dot(a: Array, b: Array) -> Array:
    return jnp.dot(a, b, precision="highest")


class Potential(NamedTuple):
    """The adjusted Schroedinger potential sum_k alpha_k N(r_k, epsilon S_k): what is learnt.

    Attributes:
        log_alpha: (K,).
        r: (K, d).
        log_s: (K, d), logarithm of the eigenvalues of S_k, without unit.
        axes: (K, d, d), eigenvectors of S_k as columns; None: those of the coordinates.
        centres: (2, d), c_0 and c_1, what source and target are counted from; None: the origin.
    """

    log_alpha: Array
    r: Array
    log_s: Array
    axes: Array | None = None
    centres: Array | None = None

    __repr__ = summary


class _Parts(NamedTuple):
    """log w_k(t, x), (K,); in every component's own axes S_k, D_k(t), r_k, (K, d), and x, (K, d) or (d,)."""

    logs: Array
    S: Array
    D: Array
    r: Array
    x: Array


def cayley(numbers: Array) -> Array:
    """Orthogonal matrices (I - A) (I + A)^-1, with A - the skew matrices of the entries below the diagonal.

    Args:
        numbers: (K, d, d); 0 gives the identity.
    """
    below = jnp.tril(numbers, -1)
    A, one = below - jnp.swapaxes(below, 1, 2), jnp.eye(numbers.shape[-1], dtype=numbers.dtype)
    return jnp.linalg.solve(one + A, jnp.broadcast_to(one, A.shape) - A)  # the two factors commute


def _back(potential: Potential, vectors: Array) -> Array:
    """Vectors (K, d) of the components' own axes in coordinates."""
    if potential.axes is None:
        return vectors
    return jnp.einsum("kij,kj->ki", potential.axes, vectors, precision="highest")


def _centre(potential: Potential, t: Time) -> Array | float:
    """c_t."""
    return 0.0 if potential.centres is None else (1.0 - t) * potential.centres[0] + t * potential.centres[1]


def _move(potential: Potential) -> Array | float:
    """c_1 - c_0."""
    return 0.0 if potential.centres is None else potential.centres[1] - potential.centres[0]


def _parts(potential: Potential, epsilon: Scalar, t: Time, x: Array) -> _Parts:
    t, (log_alpha, r, log_s, axes, _) = as_time(t), potential
    x = x - _centre(potential, t)
    S = jnp.exp(log_s)
    D, dot = t * S + (1.0 - t), _dot
    if axes is not None:
        x = jnp.einsum("kij,i->kj", axes, x, precision="highest")
        r = jnp.einsum("kij,ki->kj", axes, r, precision="highest")
        dot = partial(jnp.einsum, "ki,ki->k", precision="highest")
    squares = dot((S - 1.0) / D, x * x) + 2.0 * dot(r / D, x) - t * jnp.sum(r * r / D, axis=1)
    return _Parts(log_alpha + squares / (2.0 * epsilon) - 0.5 * jnp.sum(jnp.log(D), axis=1), S, D, r, x)


def log_weights(potential: Potential, epsilon: Scalar, t: Time, x: Array) -> Array:
    """log w_k(t, x), (K,): how much of component k is ahead of x at time t, up to a common constant."""
    return _parts(potential, epsilon, t, x).logs


def log_potential(potential: Potential, epsilon: Scalar, t: Time, x: Array) -> Array:
    """log phi_t(x), up to a constant: the forward potential of the bridge.

    Args:
        potential: the mixture.
        epsilon: variance of the reference per unit time.
        t: time on the transport clock, in [0, 1].
        x: (d,).
    """
    return jax.nn.logsumexp(log_weights(potential, epsilon, t, x))


def drift(potential: Potential, epsilon: Scalar, t: Time, x: Array) -> Array:
    """epsilon grad log phi_t(x), (d,); finite at both ends of time."""
    logs, S, D, r, own = _parts(potential, epsilon, t, x)
    pulls = _back(potential, ((S - 1.0) * own + r) / D)
    return _move(potential) + jnp.tensordot(jax.nn.softmax(logs), pulls, 1, precision="highest")


def conditional(potential: Potential, epsilon: Scalar, t: Time, x: Array, u: Time = 1.0) -> GaussianMixture:
    """The law of x_u given x_t = x, t < u; ``conditional(potential, epsilon, 0.0, x)`` is the plan."""
    t, u = as_time(t), as_time(u)
    logs, S, D, r, own = _parts(potential, epsilon, t, x)
    later = u * S + (1.0 - u)
    means = _centre(potential, u) + _back(potential, (later * own + (u - t) * r) / D)
    return GaussianMixture(jax.nn.log_softmax(logs), means, epsilon * (u - t) * later / D, potential.axes)


def _drift(potential: Potential, epsilon: Scalar, t: Time, x: Array, args: Args) -> Array:
    return jnp.asarray(drift(potential, epsilon, t, x), dtype_of(x))


def _diffusion(epsilon: Scalar, t: Time, x: Array, args: Args) -> Array:
    return jnp.sqrt(epsilon)


def _sample(potential: Potential, epsilon: Scalar, key: Array, t: Time, u: Time, x: Array, args: Args) -> Array:
    return jnp.asarray(conditional(potential, epsilon, t, x, u).sample(key), dtype_of(x))


def _log_prob(potential: Potential, epsilon: Scalar, t: Time, u: Time, x: Array, y: Array, args: Args) -> Array:
    return conditional(potential, epsilon, t, x, u).log_prob(y)


def bridge(potential: Potential, epsilon: Scalar) -> SDE:
    """The SDE from source to target; ``simulate`` with ts = [0, 1] draws from the plan itself."""
    epsilon = jnp.asarray(epsilon, potential.r.dtype)
    terminal = Kernel(Partial(_sample, potential, epsilon), Partial(_log_prob, potential, epsilon))
    return SDE(Partial(_drift, potential, epsilon), Partial(_diffusion, epsilon), terminal_kernel=terminal)


# its reversal for an empirical source -------------------------------------------------------------------------------


def _source_logits(points: Array, move: Array | float, logs: Array, epsilon: Scalar, t: Time, x: Array) -> Array:
    """log P(x_0 = x_i | x_t = x) up to a constant; finite at t = 0 as well, where nothing is asked."""
    gaps = jnp.sum((x - as_time(t) * move - points) ** 2, axis=-1)
    return -safe_divide(gaps, 2.0 * epsilon * as_time(t)) - logs


def _backward_drift(
    points: Array, move: Array | float, logs: Array, epsilon: Scalar, s: Array, x: Array, args: Args
) -> Array:
    t = 1.0 - as_time(s)
    weights = jax.nn.softmax(_source_logits(points, move, logs, epsilon, t, x))
    return jnp.asarray(safe_divide(jnp.tensordot(weights, points, 1, precision="highest") - x, t), dtype_of(x))


def _backward_sample(
    points: Array,
    move: Array | float,
    logs: Array,
    epsilon: Scalar,
    key: Array,
    s: Array,
    v: Array,
    x: Array,
    args: Args,
) -> Array:
    which, noise = jax.random.split(key)
    t, left = 1.0 - as_time(s), 1.0 - as_time(v)  # from time t down to the time left
    end = points[jax.random.categorical(which, _source_logits(points, move, logs, epsilon, t, x))]
    share = safe_divide(left, t)
    spread = jnp.sqrt(epsilon * left * (1.0 - share))
    return jnp.asarray(end + share * (x - end) + spread * jax.random.normal(noise, x.shape), dtype_of(x))


def reversal(potential: Potential, epsilon: Scalar, source: Array) -> SDE:
    """The bridge from the rows of ``source`` run backwards, on its own clock s = 1 - t; exact, and ends at a row.

    O(n d) a step for n rows.
    """
    epsilon = jnp.asarray(epsilon, potential.r.dtype)
    logs = jax.vmap(log_potential, (None, None, None, 0))(potential, epsilon, 0.0, source)
    bound = (source, _move(potential), logs, epsilon)
    return SDE(
        Partial(_backward_drift, *bound),
        Partial(_diffusion, epsilon),
        terminal_kernel=Kernel(Partial(_backward_sample, *bound)),
    )
