"""Linear SDEs with matrices, and their exact Gaussian transitions.

    dx = (A(t) x + b(t)) dt + L(t) dW,      x_u | x_t ~ N(Phi x_t + m, V)

For constant coefficients over a step h, with S = L L^T and D(X) = A X + X A^T,

    Phi = sum_k (A h)^k / k!,    m = sum_k h^(k+1) A^k b / (k+1)!,    V = sum_k h^(k+1) D^k(S) / (k+1)!

summed for h / 2^k with |A| h / 2^k <= 1 and doubled k times: E = Phi - I obeys E <- 2 E + E^2, m <- m + Phi m,
V <- V + Phi V Phi^T. This is the matrix-fraction exponential exp([[A, S], [0, -A^T]] h) without its growing block, and
every entry of V keeps its relative precision, also the h^3/3 of a position that is driven through its velocity. What is
slow beside the fastest rate has |A| h roundings (as it has in A itself), so k is at most 16: beyond |A| h = 65,536 the
law is nan, and a constant A with more over [0, T] is refused.

Coefficients that depend on time and need not commute are averaged over panels by the fourth-order Magnus expansion:
with values 1, 2 at the two Gauss points of a panel of length h and k = sqrt(3) h / 12,

    A = (A1 + A2)/2 + k (A2 A1 - A1 A2),    b = (b1 + b2)/2 + k (A2 b1 - A1 b2),
    S = (S1 + S2)/2 + k (A2 S1 + S1 A2^T - A1 S2 - S2 A1^T).

(Blanes, Casas, Oteo & Ros 2009, arXiv 0810.5488; the commutator of the matrix fractions, block by block.)
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial

from bridgejax._checks import as_real, check_count, check_number, check_positive
from bridgejax._numerics import as_time, as_wide, dtype_of, gaussian_log_density, normal_like, safe_divide, safe_sqrt
from bridgejax._summary import summary
from bridgejax._types import Args, PyTree, State, Time
from bridgejax.processes.sde import SDE, Kernel, bind, check_end

__all__ = [
    "Gaussian",
    "LinearSDE",
    "langevin",
]


def __dir__() -> list[str]:
    return __all__


_TERMS, _DOUBLINGS = 14, 16


class Gaussian(NamedTuple):
    """The law N(phi x + shift, cov) of one step."""

    phi: Array
    shift: Array
    cov: Array

    __repr__ = summary


def _constant_step(A: Array, b: Array, S: Array, h: Array) -> Gaussian:
    """The transition over ``h`` with constant coefficients."""
    rate = jax.lax.stop_gradient(jnp.max(jnp.sum(jnp.abs(A * h), axis=0)))
    doublings = jnp.ceil(jnp.log2(jnp.clip(rate, 1.0, 2.0**_DOUBLINGS))).astype(jnp.int32)
    h = jnp.where(rate <= 2.0**_DOUBLINGS, h, jnp.nan) / jnp.left_shift(1, doublings).astype(A.dtype)
    a_h = A * h

    def term(carry: PyTree, k: Array) -> tuple[PyTree, None]:
        """One more term of the three series."""
        sums, (power, shift, cov) = carry
        pushed = a_h @ cov
        terms = a_h @ power / (k + 1.0), a_h @ shift / (k + 1.0), (pushed + pushed.T) / (k + 1.0)
        return (jax.tree.map(jnp.add, sums, terms), terms), None

    def double(sums: PyTree, k: Array) -> tuple[PyTree, None]:
        rest, shift, cov = sums
        pushed = rest @ cov
        more = 2.0 * rest + rest @ rest, 2.0 * shift + rest @ shift, 2.0 * cov + pushed + pushed.T + pushed @ rest.T
        return jax.tree.map(lambda new, old: jnp.where(k < doublings, new, old), more, sums), None

    first = a_h, b * h, S * h
    ks = jnp.arange(1, _TERMS + 1, dtype=A.dtype)
    (sums, _), _ = jax.lax.scan(term, (first, first), ks)
    (rest, shift, cov), _ = jax.lax.scan(double, sums, jnp.arange(_DOUBLINGS))
    return Gaussian(jnp.eye(A.shape[0], dtype=A.dtype) + rest, shift, cov)


def _then(first: Gaussian, second: Gaussian) -> Gaussian:
    """The law of both steps, one after the other."""
    cov = second.phi @ first.cov @ second.phi.T + second.cov
    return Gaussian(second.phi @ first.phi, second.phi @ first.shift + second.shift, cov)


@dataclass(frozen=True)
class LinearSDE:
    """dx = (A x + b) dt + L dW on [0, T], for a state of shape (d,). A pytree.

    Args:
        A: (d, d), or a function of t.
        b: (d,), or a function of t.
        L: (d, m), or a function of t.
        T: end of the clock (static).
        panels: Magnus panels per transition where a coefficient depends on time (static); the error falls with their
            fourth power.

    Raises:
        ValueError: shapes that do not fit, entries that are not finite, a function that closes over arrays, a constant
            A with |A| T beyond 65,536.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> ou = bj.linear.LinearSDE([[-1.0]], [0.0], [[1.0]])                       # dx = -x dt + dW
        >>> law = ou.transition(0.0, 1.0)
        >>> round(float(law.phi[0, 0]), 4), round(float(law.cov[0, 0]), 4)           # e^-1 and (1 - e^-2) / 2
        (0.3679, 0.4323)
    """

    A: Any  # numbers or a function of time; an array or a function once made
    b: Any
    L: Any
    T: float = 1.0
    panels: int = 32

    __repr__ = summary

    def __post_init__(self) -> None:
        object.__setattr__(self, "T", check_end(self.T))
        object.__setattr__(self, "panels", check_count("panels", self.panels))
        for name in ("A", "b", "L"):
            value = getattr(self, name)
            if callable(value):
                object.__setattr__(self, name, bind(value, name))
                continue
            value = as_wide(as_real(value, name))
            object.__setattr__(self, name, value)
            if not isinstance(value, Tracer) and not np.all(np.isfinite(value)):
                raise ValueError(f"{name} holds numbers that are not finite")
        A, b, L = jax.eval_shape(self.coefficients, 0.0)
        d = b.shape[0] if b.ndim == 1 else -1
        if A.shape != (d, d) or L.ndim != 2 or L.shape[0] != d:
            raise ValueError(f"A, b, L must have shapes (d, d), (d,), (d, m), got {A.shape}, {b.shape}, {L.shape}")
        if not callable(self.A) and not isinstance(self.A, Tracer):
            rate = float(np.max(np.sum(np.abs(np.asarray(self.A, np.float64)), axis=0))) * self.T
            if rate > 2.0**_DOUBLINGS:
                raise ValueError(
                    f"A has rates up to {rate / self.T:.3g} over a clock of {self.T:g}: more than {2**_DOUBLINGS:,} "
                    "times faster than the clock, where float32 knows nothing of what is slow; use a shorter T, or "
                    "leave out the fast part, which is in equilibrium"
                )

    def coefficients(self, t: Time) -> tuple[Array, Array, Array]:
        """``(A, b, L)`` at time t."""
        t = as_time(t)
        return tuple(f(t) if callable(f) else f for f in (self.A, self.b, self.L))  # pyright: ignore[reportReturnType]

    def transition(self, t: Time, u: Time) -> Gaussian:
        """``(phi, shift, cov)`` of x_u | x_t ~ N(phi x_t + shift, cov), t <= u."""
        with jax.default_matmul_precision("highest"):  # an exact law, also where TF32 is the default
            return self._transition(as_time(t), as_time(u))

    def _transition(self, t: Array, u: Array) -> Gaussian:
        if not any(callable(v) for v in (self.A, self.b, self.L)):
            return _constant_step(self.A, self.b, self.L @ self.L.T, u - t)
        h = (u - t) / self.panels
        offset = math.sqrt(3.0) / 6.0

        def panel(so_far: Gaussian, k: Array) -> tuple[Gaussian, None]:
            middle = t + (k + 0.5) * h
            A1, b1, L1 = self.coefficients(middle - offset * h)
            A2, b2, L2 = self.coefficients(middle + offset * h)
            S1, S2, c = L1 @ L1.T, L2 @ L2.T, math.sqrt(3.0) / 12.0 * h
            cross = A2 @ S1 - A1 @ S2
            A = 0.5 * (A1 + A2) + c * (A2 @ A1 - A1 @ A2)
            b = 0.5 * (b1 + b2) + c * (A2 @ b1 - A1 @ b2)
            S = 0.5 * (S1 + S2) + c * (cross + cross.T)
            return _then(so_far, _constant_step(A, b, S, h)), None

        A, b, L = self.coefficients(t)
        dtype = jnp.result_type(A, b, L, h)
        identity = Gaussian(jnp.eye(b.size, dtype=dtype), jnp.zeros_like(b, dtype), jnp.zeros_like(L @ L.T, dtype))
        # the carry must vary over a mesh wherever the times do
        identity = jax.tree.map(lambda leaf: leaf + 0.0 * h, identity)
        return jax.lax.scan(panel, identity, jnp.arange(self.panels, dtype=h.dtype))[0]

    def marginal(self, mean: Array, cov: Array, t: Time) -> tuple[Array, Array]:
        """``(mean, cov)`` of x_t for x_0 ~ N(mean, cov)."""
        phi, shift, added = self.transition(0.0, t)
        return phi @ mean + shift, phi @ cov @ phi.T + added

    def sde(self) -> SDE:
        """As an SDE; its last interval is exact (``terminal_kernel``), so ``ts=[0, T]`` is one-step exact sampling."""
        terminal = Kernel(Partial(_sample, self), Partial(_log_prob, self), self.T)
        return SDE(Partial(_drift, self), Partial(linear_diffusion, self), self.T, terminal_kernel=terminal)


def _flatten(linear: LinearSDE) -> tuple[tuple[PyTree, ...], tuple[Hashable, ...]]:
    return (linear.A, linear.b, linear.L), (linear.T, linear.panels)


def _unflatten(static: tuple[Hashable, ...], leaves: tuple[PyTree, ...]) -> LinearSDE:
    """Without the checks: JAX rebuilds with placeholders, and ``vmap`` makes batches of coefficients."""
    linear = object.__new__(LinearSDE)
    for name, value in zip(("A", "b", "L", "T", "panels"), (*leaves, *static), strict=True):
        object.__setattr__(linear, name, value)
    return linear


jax.tree_util.register_pytree_node(LinearSDE, _flatten, _unflatten)


def check_vector(linear: LinearSDE, x: State, name: str = "x") -> None:
    """Raise a ``ValueError`` unless x is a vector of the SDE's dimension."""
    d = jax.eval_shape(lambda: linear.coefficients(0.0))[1].shape[0]
    if jnp.shape(x) != (d,):
        raise ValueError(f"this LinearSDE has states of shape ({d},), got {name} of shape {jnp.shape(x)}")


def _drift(linear: LinearSDE, t: Array, x: Array, args: Args) -> Array:
    check_vector(linear, x)
    A, b, _ = linear.coefficients(t)
    return (A @ x + b).astype(dtype_of(x))


def linear_diffusion(linear: LinearSDE, t: Array, x: Array, args: Args) -> lineax.AbstractLinearOperator:
    """L(t) as an operator."""
    check_vector(linear, x)
    return lineax.MatrixLinearOperator(linear.coefficients(t)[2].astype(dtype_of(x)))


def factor(cov: Array, jitter: float = 0.0) -> tuple[Array, Array]:
    """``(scale, chol)`` with cov = diag(scale) chol chol^T diag(scale).

    The correlation matrix is factored, not the covariance: a position driven through its velocity has variance h^3
    beside h, but the correlation of the two does not depend on h. A coordinate without noise has scale 0.
    """
    scale = safe_sqrt(jnp.diag(cov))
    inverse = safe_divide(1.0, scale)
    filled = jnp.diag(jnp.where(scale > 0, jitter, 1.0).astype(cov.dtype))
    return scale, jnp.linalg.cholesky(cov * inverse[:, None] * inverse + filled)


def gaussian_draw(key: Array, cov: Array) -> Array:
    """A draw of N(0, cov); coordinates without noise stay 0. A singular correlation is allowed."""
    rounding = 4.0 * cov.shape[0] * float(jnp.finfo(cov.dtype).eps)
    scale, chol = factor(cov, rounding)
    return scale * (chol @ normal_like(key, scale))


def gaussian_solve(cov: Array, v: Array) -> Array:
    """cov^-1 v; coordinates without variance give 0."""
    scale, chol = factor(cov)
    inverse = safe_divide(1.0, scale)
    return inverse * jax.scipy.linalg.cho_solve((chol, True), inverse * v)


def gaussian_vector_log_prob(y: Array, mean: Array, cov: Array) -> Array:
    """log N(y; mean, cov); nan where cov is singular, to rounding: there is no density."""
    scale, chol = factor(cov)
    # a pivot of the correlation that is rounding: the rank is deficient, and there is no density either
    pivots = jnp.diag(chol) ** 2 > 4.0 * cov.shape[0] * float(jnp.finfo(cov.dtype).eps)
    z = jax.scipy.linalg.solve_triangular(chol, safe_divide(y - mean, scale), lower=True)
    log_det = 2.0 * jnp.sum(jnp.log(jnp.diag(chol)) + jnp.log(scale))
    log_prob = gaussian_log_density(jnp.sum(z**2), log_det, y.size)
    return jnp.where(jnp.all((scale > 0) & pivots), log_prob, jnp.nan)


def _sample(linear: LinearSDE, key: Array, t: Array, u: Array, x: Array, args: Args) -> Array:
    phi, shift, cov = linear.transition(t, u)
    return (phi @ x + shift + gaussian_draw(key, cov)).astype(dtype_of(x))


def _log_prob(linear: LinearSDE, t: Array, u: Array, x: Array, y: Array, args: Args) -> Array:
    phi, shift, cov = linear.transition(t, u)
    return gaussian_vector_log_prob(y, phi @ x + shift, cov)


def langevin(friction: float = 1.0, frequency: float = 1.0, temperature: float = 1.0, T: float = 1.0) -> LinearSDE:
    """The damped oscillator on (position, velocity): dq = v dt, dv = (-w^2 q - g v) dt + sqrt(2 g T) dW.

    Args:
        friction: g, per unit time.
        frequency: w, radians per unit time.
        temperature: stationary variance of v.
        T: end of the clock.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> ou = bj.linear.langevin(friction=2.0)
        >>> print(ou.transition(0.0, 1.0).phi.shape)                                 # of position and velocity
        (2, 2)
    """
    check_number(friction=friction, frequency=frequency, temperature=temperature)
    check_positive(friction=friction, temperature=temperature)
    A = jnp.array([[0.0, 1.0], [-(frequency**2), -friction]])
    return LinearSDE(A, jnp.zeros(2), jnp.array([[0.0], [jnp.sqrt(2.0 * friction * temperature)]]), T)
