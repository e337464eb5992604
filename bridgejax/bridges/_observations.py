"""Observations of an SDE and what a linear auxiliary SDE knows of them: a backward information filter.

    v_i = L_i x_(s_i) + R_i eps_i,  s_1 < ... < s_n

Given x_t = x the observations from t on are jointly Gaussian under the auxiliary, v ~ N(M x + mu, Q), with M, mu, Q
carried backwards from observation to observation by its exact transitions; their score in x,

    r(t, x) = M^T Q^-1 (v - M x - mu) = grad log (auxiliary likelihood of the observations after t),

is the guide of ``bridgejax.guide`` (Schauer, van der Meulen & van Zanten 2017, arXiv 1311.3606).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import lineax
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from bridgejax._numerics import dtype_of, gaussian_log_density, safe_divide
from bridgejax._pytrees import register_dataclass
from bridgejax._summary import summary
from bridgejax._types import Args, NoiseFactor, Scalar, State, Time
from bridgejax.processes.linear import LinearSDE, factor, gaussian_solve
from bridgejax.processes.sde import SDE, check_flat

SAME_TIME = 1e-5  # relative to T


@partial(register_dataclass, data_fields=("value", "operator", "noise"), meta_fields=("time",))
@dataclass(frozen=True)
class Observation:
    """v = L x_time + noise eps.

    Args:
        time: when, a Python number in (0, T] (static).
        value: v, (p,).
        operator: L, (p, d); None: the whole state.
        noise: standard deviation, a number or (p,); 0: exact, for an SDE whose own noise moves L x at that time.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> position = bj.Observation(1.0, jnp.array([2.0]), operator=jnp.array([[1.0, 0.0]]), noise=0.1)
        >>> guided = bj.guide(bj.linear.langevin().sde(), position)
        >>> x0, ts = jnp.zeros(2), bj.grids.uniform(10)
        >>> path = bj.kernels.walk(guided.kernel, jax.random.key(0), x0, ts)
        >>> bool(abs(path.xs[-1, 0] - 2.0) < 1.0)
        True
    """

    time: float
    value: State
    operator: ArrayLike | None = None
    noise: ArrayLike = 0.0

    __repr__ = summary


def dense_diffusion(g: NoiseFactor, x: Array) -> Array:
    """G as a matrix, (d, number of noises)."""
    if isinstance(g, lineax.AbstractLinearOperator):
        return g.as_matrix()
    return jnp.diag(jnp.broadcast_to(jnp.asarray(g, dtype_of(x)), x.shape))


class Message(NamedTuple):
    """v ~ N(M x + mu, Q) from a time on, rows of other observations and of padding masked (M = 0, Q = 1).

    M (np, d); Q (np, np); known = v - mu (np,); here (np,) marks the rows of an observation at the time itself.
    """

    M: Array
    Q: Array
    known: Array
    here: Array
    __repr__ = summary

    def later(self) -> Message:
        """Without the observation at the time itself, whose noise is independent of the others."""
        off = self.here
        Q = jnp.where(off | off[:, None], jnp.eye(off.size, dtype=self.Q.dtype), self.Q)
        return Message(jnp.where(off[:, None], 0.0, self.M), Q, jnp.where(off, 0.0, self.known), jnp.zeros_like(off))


@partial(
    register_dataclass,
    data_fields=("times", "values", "M", "mu", "Q", "auxiliary"),
    meta_fields=("padded", "last"),
)
@dataclass(frozen=True)
class BackwardFilter:
    """Joint laws of the observations i, ..., n given the state at s_i, padded to one shape.

    times (n,), values (n, p); M (n, np, d), mu (n, np), Q (n, np, np). Rows of earlier observations are masked: M = 0,
    Q = 1, so that they contribute nothing.
    """

    times: Array
    values: Array
    M: Array
    mu: Array
    Q: Array
    auxiliary: LinearSDE
    padded: tuple[int, ...]  # rows of padding of every observation
    last: float  # time of the last
    __repr__ = summary

    def since(self, t: Time) -> Message:
        """The observations at t and later, given x_t."""
        (count, size), slack = self.values.shape, SAME_TIME * self.auxiliary.T
        passed = jnp.sum(self.times < t - slack)
        first = jnp.minimum(passed, count - 1)
        hit = jnp.abs(self.times[first] - t) <= slack
        phi, shift, cov = self.auxiliary.transition(t, jnp.where(hit, t, jnp.maximum(self.times[first], t)))
        rows = jnp.arange(count * size)
        padding = (jnp.asarray(self.padded)[:, None] >= size - jnp.arange(size)).reshape(-1)
        active = (rows // size >= passed) & ~padding
        M, Q = self.M[first] @ phi, self.M[first] @ cov @ self.M[first].T + self.Q[first]
        return Message(
            jnp.where(active[:, None], M, 0.0),
            jnp.where(active & active[:, None], Q, jnp.eye(rows.size, dtype=Q.dtype)),
            jnp.where(active, self.values.reshape(-1) - self.M[first] @ shift - self.mu[first], 0.0),
            active & hit & (rows // size == first),
        )

    def guide(self, t: Time, x: Array) -> Array:
        """r(t, x) from the observations later than t; 0 where there are none."""
        message = self.since(t).later()
        return message.M.T @ gaussian_solve(message.Q, message.known - message.M @ x)


def log_normal(residual: Array, cov: Array, dim: Scalar) -> Array:
    """log N(residual; 0, cov), of which ``dim`` coordinates count: padded rows are 0 with variance 1."""
    scale, chol = factor(cov)
    z = jax.scipy.linalg.solve_triangular(chol, safe_divide(residual, scale), lower=True)
    return gaussian_log_density(jnp.sum(z**2), 2.0 * jnp.sum(jnp.log(jnp.diag(chol)) + jnp.log(scale)), dim)


def backward_filter(observations: Sequence[Observation], auxiliary: LinearSDE, d: int) -> BackwardFilter:
    """The filter of observations in the order of their times, of states of shape (d,)."""
    n, sizes = len(observations), [jnp.size(o.value) for o in observations]
    p = max(sizes)
    values, operators, covs = jnp.zeros((n, p)), jnp.zeros((n, p, d)), jnp.tile(jnp.eye(p), (n, 1, 1))
    for i, (o, size) in enumerate(zip(observations, sizes, strict=True)):
        operator = jnp.eye(d) if o.operator is None else jnp.asarray(o.operator)
        values = values.at[i, :size].set(jnp.ravel(jnp.asarray(o.value)))
        operators = operators.at[i, :size].set(operator)
        variance = jnp.broadcast_to(jnp.square(jnp.asarray(o.noise, values.dtype)), (size,))
        covs = covs.at[i, :size, :size].set(jnp.diag(variance))
    M, mu, Q = jnp.zeros((n * p, d)), jnp.zeros(n * p), jnp.eye(n * p)
    found = []
    for i in reversed(range(n)):
        if i + 1 < n:
            phi, shift, cov = auxiliary.transition(observations[i].time, observations[i + 1].time)
            M, mu, Q = M @ phi, mu + M @ shift, Q + M @ cov @ M.T
        rows = slice(i * p, (i + 1) * p)
        M, Q = M.at[rows].set(operators[i]), Q.at[rows, rows].set(covs[i])
        found.append((M, mu, Q))
    M, mu, Q = (jnp.stack(parts[::-1]) for parts in zip(*found, strict=True))
    times = jnp.asarray([o.time for o in observations], jnp.result_type(float))
    return BackwardFilter(times, values, M, mu, Q, auxiliary, tuple(p - size for size in sizes), observations[-1].time)


def states_observed(observations: Sequence[Observation], x: Array) -> Array:
    """A state for every observation, (n, d): the one nearest to the last, ``x`` at first, that agrees with it."""
    found = []
    for o in observations:
        value = jnp.ravel(jnp.asarray(o.value, dtype_of(x)))
        L = jnp.eye(x.size, dtype=dtype_of(x)) if o.operator is None else jnp.asarray(o.operator, dtype_of(x))
        x = x + jnp.linalg.pinv(L) @ (value - L @ x)
        found.append(x)
    return jnp.stack(found)


def check_observations(sde: object, observations: Sequence[Observation]) -> int:
    """Dimension of the state; raises for what cannot be guided."""
    if not isinstance(sde, SDE):
        raise ValueError(f"guide bends an SDE, got {type(sde).__name__}; for a Schedule or LinearSDE see pin")
    check_flat(sde, "guide")
    if sde.diffusion is None:
        raise ValueError("guide acts through the noise, and this SDE has none (diffusion=None)")
    listed = isinstance(observations, Sequence) and len(observations) > 0
    if not listed or not all(isinstance(o, Observation) for o in observations):
        raise ValueError("observations must be a list of at least one Observation(time, value, operator, noise)")
    before = 0.0
    for o in observations:
        if not before < o.time <= sde.T * (1.0 + SAME_TIME):
            raise ValueError(
                f"observation times must increase within (0, T = {sde.T:g}], got {o.time} after {before:g}"
            )
        before = o.time
    whole = [jnp.size(o.value) for o in observations if o.operator is None]
    shaped = [jnp.shape(o.operator)[-1] for o in observations if o.operator is not None]
    sizes = {*whole, *shaped}
    if len(sizes) != 1:
        raise ValueError(f"the observations speak of states of different sizes: {sorted(sizes)}")
    (d,) = sizes
    for o in observations:
        _check_operator(o, d)
    return d


def _check_operator(o: Observation, d: int) -> None:
    p = jnp.size(o.value)
    if o.operator is not None and jnp.shape(o.operator) != (p, d):
        raise ValueError(f"operator must have shape ({p}, {d}) for a value of {p} numbers, got {jnp.shape(o.operator)}")
    concrete = not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((o.operator, o.noise, o.value)))
    if not concrete:
        return
    noise = np.asarray(o.noise)
    if not (np.all(np.isfinite(noise)) and np.all(noise >= 0)) or noise.shape not in ((), (p,)):
        raise ValueError(f"noise must be >= 0, a number or ({p},), got {o.noise}")
    if not np.all(np.isfinite(np.asarray(o.value))):
        raise ValueError("value of an observation holds numbers that are not finite")
    if o.operator is not None and np.any(noise == 0) and np.linalg.matrix_rank(np.asarray(o.operator)) < p:
        raise ValueError(
            f"operator of the exact observation at time {o.time:g} has rank below its {p} rows, so its value cannot be "
            "met; leave out dependent rows or give them noise"
        )


def _exact_rows(o: Observation, d: int) -> np.ndarray:
    """The rows of L that are seen without noise."""
    p = jnp.size(o.value)
    L = np.eye(d) if o.operator is None else np.asarray(o.operator, np.float64)
    return L[np.broadcast_to(np.asarray(o.noise) == 0, (p,))]


def check_reached(sde: SDE, observations: Sequence[Observation], d: int, args: Args) -> None:
    """Raise where an exact observation sees what no noise moves, as far as that is known before the paths are.

    L G must lack rank at every state tried: the one nearest to what is observed and one to either side of it, at the
    time itself and half-way to it from the observation before.
    """
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((sde, observations, args))):
        return
    assert sde.diffusion is not None
    aside, before = 1.0 + np.random.default_rng(0).random(d, np.float32), 0.0
    for o, end in zip(observations, states_observed(observations, jnp.zeros(d)), strict=True):
        L, ranks = _exact_rows(o, d), []
        for t in (0.5 * (before + o.time), o.time):
            for x in (end, end + aside, end - aside):
                try:
                    G = dense_diffusion(sde.diffusion(jnp.asarray(t, dtype_of(x)), x, args), x)
                except (TypeError, ValueError, AttributeError):
                    return  # the diffusion wants the condition of a sample, or is told of its shape later
                if isinstance(G, Tracer):
                    return
                across = L @ np.asarray(G, np.float64)
                size = np.linalg.norm(across, axis=1, keepdims=True)
                if np.all(np.isfinite(across)):
                    ranks.append(np.linalg.matrix_rank(across / np.where(size > 0, size, 1.0), tol=1e-4))
        if ranks and max(ranks) < len(L):
            raise ValueError(
                f"the noise of sde cannot move what the exact observation at time {o.time:g} sees (its operator times "
                f"the diffusion has rank {max(ranks)} for {len(L)} exact numbers), so its value has no density; give "
                "the observation noise > 0"
            )
        before = o.time
