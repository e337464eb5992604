"""Guided proposals: any SDE conditioned on noisy, partial and exact observations at several times, with exact weights.

    dx = b dt + G dW,  a = G G^T,       observed v_i = L_i x_(s_i) + R_i eps_i,  s_1 < ... < s_n

Take a linear auxiliary SDE; given x_t = x its later observations are jointly Gaussian, N(M x + mu, Q), and

    r(t, x) = M^T Q^-1 (v - M x - mu) = grad log (auxiliary likelihood of the observations after t)

guides the nonlinear one (Schauer, van der Meulen & van Zanten 2017, arXiv 1311.3606). On a grid that holds the
observation times a step from t to u is drawn from

    y ~ N(x + (b + a r) h, a h),   r from the observations after u;   given v_i as well where u = s_i,

a Gaussian conditioned on a Gaussian, so exact observations are met exactly. The ratio of the Euler chain's own step to
this one needs no inverse of a, and holds for hypo-elliptic SDEs too:

    log w += -r^T (y - x - b h) + h r^T a r / 2   [ + log N(v_i; L_i (x + (b + a r) h), L_i a L_i^T h + R_i^2) ]

E[exp log_weight] is the Euler chain's likelihood of the observations, whatever the auxiliary; a better one only makes
the weights more even. With exp log_weight the paths are draws of the smoothing law.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import lineax
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial

from bridgejax.processes.linear import LinearSDE, gaussian_solve, gaussian_vector_log_prob
from bridgejax.processes.sde import SDE, Kernel

_SAME_TIME = 1e-5  # relative to T


@partial(jax.tree_util.register_dataclass, data_fields=("value", "operator", "noise"), meta_fields=("time",))
@dataclass(frozen=True)
class Observation:
    """v = L x_time + noise eps.

    Args:
        time: when, a Python number in (0, T] (static).
        value: v, (p,).
        operator: L, (p, d); None: the whole state.
        noise: standard deviation, a number or (p,); 0: exact.
    """

    time: float
    value: Any
    operator: Any = None
    noise: Any = 0.0


def _matrix(g: Any, x: Array) -> Array:
    """G as a matrix, (d, number of noises)."""
    if isinstance(g, lineax.AbstractLinearOperator):
        return g.as_matrix()
    return jnp.diag(jnp.broadcast_to(jnp.asarray(g, x.dtype), x.shape))


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("times", "values", "operators", "covs", "M", "mu", "Q", "auxiliary"),
    meta_fields=("padded",),
)
@dataclass(frozen=True)
class _Messages:
    """Joint laws of the observations i, ..., n given the state at s_i, padded to one shape.

    times (n,), values (n, p), operators (n, p, d), covs (n, p, p); M (n, np, d), mu (n, np), Q (n, np, np), with rows
    of earlier observations switched off (M = 0, Q = 1).
    """

    times: Array
    values: Array
    operators: Array
    covs: Array
    M: Array
    mu: Array
    Q: Array
    auxiliary: LinearSDE
    padded: tuple[int, ...]  # rows of padding of every observation

    def guide(self, t: Any, after: Any, x: Array) -> Array:
        """r(t, x) from the observations later than ``after``; 0 where there are none."""
        count, size = self.times.shape[0], self.values.shape[1]
        later = self.times > after
        first = jnp.minimum(jnp.sum(~later), count - 1)
        phi, shift, cov = self.auxiliary.transition(t, jnp.maximum(self.times[first], t))
        M = self.M[first] @ phi
        Q = self.M[first] @ cov @ self.M[first].T + self.Q[first]
        residual = self.values.reshape(-1) - self.M[first] @ shift - self.mu[first] - M @ x
        residual = jnp.where(jnp.repeat(jnp.arange(count) >= first, size), residual, 0.0)
        any_later = jnp.any(later)
        Q = jnp.where(any_later, Q, jnp.eye(Q.shape[0], dtype=Q.dtype))
        return jnp.where(any_later, M.T @ gaussian_solve(Q, residual), 0.0)

    def at(self, u: Any, T: float) -> tuple[Array, Array, Array, Array, Array]:
        """Whether u is an observation time, and v, L, R^2 and the padding there."""
        hit = jnp.abs(self.times - u) <= _SAME_TIME * T
        i = jnp.argmax(hit)
        padding = jnp.asarray(self.padded, self.values.dtype)[i]
        return jnp.any(hit), self.values[i], self.operators[i], self.covs[i], padding


def _messages(observations: Sequence[Observation], auxiliary: LinearSDE, d: int) -> _Messages:
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
    times = jnp.asarray([o.time for o in observations], jnp.float32)
    return _Messages(times, values, operators, covs, M, mu, Q, auxiliary, tuple(p - size for size in sizes))


def _guided_drift(sde: SDE, messages: _Messages, t: Array, x: Array, args: Any) -> Array:
    assert sde.diffusion is not None
    G = _matrix(sde.diffusion(t, x, args), x)
    r = messages.guide(t, t + _SAME_TIME * sde.T, x)
    return sde.drift(t, x, args) + (G @ (G.T @ r)).astype(x.dtype)


def _step_law(sde: SDE, messages: _Messages, t: Any, u: Any, x: Array, args: Any) -> tuple[Array, Array, Array, Array]:
    """The Euler mean, G sqrt(h), r and the guided mean of the step."""
    assert sde.diffusion is not None
    h = u - t
    root = jnp.sqrt(h) * _matrix(sde.diffusion(t, x, args), x)
    plain = x + h * sde.drift(t, x, args)
    r = messages.guide(t, u + _SAME_TIME * sde.T, x)
    return plain, root, r, plain + root @ (root.T @ r)


def drive(sde: SDE, messages: _Messages, t: Any, u: Any, x: Array, args: Any, z: Array, xi: Array) -> Array:
    """The guided step as a function of its noise: z (that of the SDE) and xi (p,)."""
    _, root, _, mean = _step_law(sde, messages, t, u, x, args)
    y = mean + root @ z
    hit, value, operator, cov, _ = messages.at(u, sde.T)
    across = operator @ root
    inner = across @ across.T + cov
    drawn = operator @ y + jnp.sqrt(jnp.diag(cov)) * xi
    moved = y + root @ (across.T @ gaussian_solve(inner, value - drawn))
    return jnp.where(hit, moved, y).astype(x.dtype)


def noise_sizes(sde: SDE, messages: _Messages, t: Any, x: Array, args: Any) -> tuple[int, int]:
    """Numbers of noise in z and xi."""
    assert sde.diffusion is not None
    diffusion = sde.diffusion
    return jax.eval_shape(lambda t, x: _matrix(diffusion(t, x, args), x), t, x).shape[1], messages.values.shape[1]


def _sample(sde: SDE, messages: _Messages, key: Array, t: Any, u: Any, x: Array, args: Any) -> Array:
    z_size, xi_size = noise_sizes(sde, messages, t, x, args)
    z_key, xi_key = jax.random.split(key)
    z, xi = jax.random.normal(z_key, (z_size,), x.dtype), jax.random.normal(xi_key, (xi_size,), x.dtype)
    return drive(sde, messages, t, u, x, args, z, xi)


def _step_log_weight(sde: SDE, messages: _Messages, t: Any, u: Any, x: Array, y: Array, args: Any) -> Array:
    plain, root, r, mean = _step_law(sde, messages, t, u, x, args)
    pushed = root.T @ r
    log_weight = -r @ (y - plain) + 0.5 * pushed @ pushed
    hit, value, operator, cov, padding = messages.at(u, sde.T)
    across = operator @ root
    inner = jnp.where(hit, across @ across.T + cov, jnp.eye(cov.shape[0], dtype=cov.dtype))
    seen = gaussian_vector_log_prob(value, operator @ mean, inner) + 0.5 * padding * jnp.log(2.0 * jnp.pi)
    return log_weight + jnp.where(hit, seen, 0.0)  # nan: an exact observation of what this step's noise cannot move


def _log_weight(sde: SDE, messages: _Messages, path: Any, args: Any = None) -> Array:
    def step(total: Array, interval: Any) -> tuple[Array, None]:
        t, u, x, y = interval
        return total + _step_log_weight(sde, messages, t, u, x, y, args), None

    start = jnp.zeros(()) + 0.0 * jnp.sum(path.xs[0])
    return jax.lax.scan(step, start, (path.ts[:-1], path.ts[1:], path.xs[:-1], path.xs[1:]))[0]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("sde", "kernel", "log_weight", "plain", "messages"),
    meta_fields=(),
)
@dataclass(frozen=True)
class Guided:
    """What ``guide`` makes.

    Args:
        sde: drift b + a r; its last interval is conditioned on an observation at T.
        kernel: the guided step; ``kernels.walk(guided.kernel, key, x0, ts)`` draws a path that meets the observations.
        log_weight: ``log_weight(path, args=None)`` of such a path; ``vmap`` it for many.
        plain: the SDE that was guided.
        messages: what the auxiliary knows of the observations.
    """

    sde: SDE
    kernel: Kernel
    log_weight: Any
    plain: SDE
    messages: Any

    def drive(self, t: Any, u: Any, x: Array, args: Any, z: Array, xi: Array) -> Array:
        """The guided step as a function of standard normal noise, for moves on the noise (pCN)."""
        return drive(self.plain, self.messages, t, u, x, args, z, xi)


def linearised(sde: SDE, time: float, x: Array, args: Any = None) -> LinearSDE:
    """The SDE linearised at (time, x): A = db/dx, b - A x, G, all constant. The default auxiliary."""
    if sde.diffusion is None:
        raise ValueError("guide acts through the noise, and this SDE has none (diffusion=None)")
    A = jax.jacfwd(lambda x: sde.drift(time, x, args))(x)
    return LinearSDE(A, sde.drift(time, x, args) - A @ x, _matrix(sde.diffusion(time, x, args), x), sde.T)


def _check(sde: Any, observations: Any) -> int:
    """Dimension of the state; raises for what cannot be guided."""
    if not isinstance(sde, SDE):
        raise ValueError(f"guide bends an SDE, got {type(sde).__name__}; for a Schedule or LinearSDE see pin")
    if sde.diffusion is None:
        raise ValueError("guide acts through the noise, and this SDE has none (diffusion=None)")
    if not observations or not all(isinstance(o, Observation) for o in observations):
        raise ValueError("observations must be a list of at least one Observation(time, value, operator, noise)")
    before = 0.0
    for o in observations:
        if not before < o.time <= sde.T * (1.0 + _SAME_TIME):
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


def guide(
    sde: SDE, observations: Sequence[Observation], auxiliary: LinearSDE | None = None, args: Any = None
) -> Guided:
    """Condition any SDE on observations: a proposal that meets them, and the log weight that makes it exact.

    Args:
        sde: any SDE with states of shape (d,); its noise may depend on the state and may be degenerate.
        observations: in the order of their times; exact ones (noise 0) are met exactly.
        auxiliary: a LinearSDE on the same clock; default: ``sde`` linearised at its last observation (unobserved
            coordinates at 0). For an exact observation its noise should agree with the SDE's there.
        args: condition at which the default auxiliary is linearised.

    Returns:
        ``Guided(sde, kernel, log_weight)``. The grid must hold the observation times.

    Raises:
        ValueError: no noise, times out of order or beyond T, shapes that do not fit, an exact observation of
            dependent rows.
    """
    d = _check(sde, observations)
    if auxiliary is None:
        last = observations[-1]
        value = jnp.ravel(jnp.asarray(last.value, jnp.float32))
        at = value if last.operator is None else jnp.linalg.pinv(jnp.asarray(last.operator, jnp.float32)) @ value
        auxiliary = linearised(sde, last.time, at, args)
    if not isinstance(auxiliary, LinearSDE):
        raise ValueError(f"auxiliary must be a LinearSDE, got {type(auxiliary).__name__}; see bridgejax.linear")
    size = jax.eval_shape(lambda: auxiliary.coefficients(0.0))[1].shape[0]
    if size != d:
        raise ValueError(f"auxiliary has states of shape ({size},), the observations speak of ({d},)")
    messages = _messages(observations, auxiliary, d)
    kernel = Kernel(Partial(_sample, sde, messages), T=sde.T)
    bent = replace(sde, drift=Partial(_guided_drift, sde, messages), land=None, split=None)
    if observations[-1].time >= sde.T * (1.0 - _SAME_TIME):
        bent = replace(bent, land=kernel)
    return Guided(bent, kernel, Partial(_log_weight, sde, messages), sde, messages)
