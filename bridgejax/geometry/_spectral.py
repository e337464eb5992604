"""Functions of Hermitian matrices, differentiable where eigenvalues meet.

    f(A) = U f(L) U*,   A = U L U*
    d f(A)[E] = U (f[L] o U* E U) U*,     f[a, b] = (f(a) - f(b)) / (a - b), f'(a) where they meet

(Daleckii & Krein 1965; Higham 2008, Functions of Matrices, theorem 3.11.) The derivatives of eigenvectors, infinite
where eigenvalues meet, are never taken.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

_NEAR = 1e-2  # half a difference below which sinh(x) / x is a series


def adjoint(a: Array) -> Array:
    """A*, the conjugate transpose of the last two axes."""
    return jnp.conj(jnp.swapaxes(a, -1, -2))


def hermitian_part(a: Array) -> Array:
    """(A + A*) / 2."""
    return 0.5 * (a + adjoint(a))


def sinhc(x: Array) -> Array:
    """sinh(x) / x, 1 at 0, with its derivatives."""
    near = jnp.abs(x) < _NEAR
    safe = jnp.where(near, 1.0, x)
    return jnp.where(near, 1.0 + x**2 / 6.0 * (1.0 + x**2 / 20.0), jnp.sinh(safe) / safe)


def log_sinhc(x: Array) -> Array:
    """log(sinh(x) / x), 0 at 0, without overflow."""
    x = jnp.abs(x)
    near = x < _NEAR
    safe = jnp.where(near, 1.0, x)
    return jnp.where(near, x**2 / 6.0 - x**4 / 180.0, safe + jnp.log(-jnp.expm1(-2.0 * safe) / (2.0 * safe)))


def _assembled(values: Array, vectors: Array) -> Array:
    return hermitian_part((vectors * values[..., None, :]) @ adjoint(vectors))


def _rotated(vectors: Array, a: Array) -> Array:
    return adjoint(vectors) @ a @ vectors


@jax.custom_jvp
def exp_hermitian(a: Array) -> Array:
    """exp(A) of a Hermitian (or symmetric) matrix, shape (n, n), Hermitian to the last bit."""
    values, vectors = jnp.linalg.eigh(a)
    return _assembled(jnp.exp(values), vectors)


@exp_hermitian.defjvp
def _exp_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    values, vectors = jnp.linalg.eigh(primals[0])
    half = 0.5 * (values[:, None] - values[None, :])
    divided = jnp.exp(0.5 * (values[:, None] + values[None, :])) * sinhc(half)
    change = vectors @ (divided * _rotated(vectors, tangents[0])) @ adjoint(vectors)
    return _assembled(jnp.exp(values), vectors), hermitian_part(change)


@jax.custom_jvp
def log_positive(a: Array) -> Array:
    """log(A) of a positive definite Hermitian (or symmetric) matrix, shape (n, n); nan where it is not positive."""
    values, vectors = jnp.linalg.eigh(a)
    return _assembled(jnp.log(values), vectors)


@log_positive.defjvp
def _log_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    values, vectors = jnp.linalg.eigh(primals[0])
    logs = jnp.log(values)
    half = 0.5 * (logs[:, None] - logs[None, :])
    divided = jnp.exp(-0.5 * (logs[:, None] + logs[None, :])) / sinhc(half)
    change = vectors @ (divided * _rotated(vectors, tangents[0])) @ adjoint(vectors)
    return _assembled(logs, vectors), hermitian_part(change)


def log_det_of_log(logs: Array, *, complex_entries: bool) -> Array:
    """log |det d log(A)| on Hermitian (complex) or symmetric (real) matrices, from the logarithms of A's eigenvalues.

    The derivative is diagonal in the eigenbasis: 1 / l_i on the diagonal, and (log l_i - log l_j) / (l_i - l_j) for
    every pair i < j, once for real and twice for complex entries.

    Args:
        logs: log of the eigenvalues, shape (n,).
        complex_entries: whether the matrices are complex.
    """
    i, j = jnp.triu_indices(logs.shape[0], 1)
    pairs = -0.5 * (logs[i] + logs[j]) - log_sinhc(0.5 * (logs[i] - logs[j]))
    return -jnp.sum(logs) + (2.0 if complex_entries else 1.0) * jnp.sum(pairs)
