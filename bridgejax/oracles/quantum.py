"""Ensembles of density matrices with known laws.

    Hilbert-Schmidt   R = G G* / tr                     E tr R^2 = 2n / (n^2 + 1)
                                                        E tr R^3 = (5n^2 + 1) / ((n^2 + 1)(n^2 + 2))
    Bures             R = (1 + U) G G* (1 + U*) / tr    E tr R^2 = (5n^2 + 1) / (2n (n^2 + 2))
                                                        E tr R^3 = (8n^2 + 7) / ((n^2 + 2)(n^2 + 4))
    thermal           R = exp(-beta H) / tr             H linear in Gaussian couplings: log R is Gaussian

G has independent complex normal entries, U is a Haar unitary (Zyczkowski & Sommers 2001, Induced measures in the space
of mixed quantum states; Sommers & Zyczkowski 2004, Statistical properties of random density matrices; the Bures draw:
Al Osipov, Sommers & Zyczkowski 2010, Random Bures mixed states and the distribution of their purity). Complex matrices
of shape (n, n), one a call.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bridgejax._checks import as_real, check_count, check_number, check_positive
from bridgejax._numerics import as_wide
from bridgejax._types import Key
from bridgejax.geometry._spectral import adjoint, exp_hermitian, hermitian_part
from bridgejax.processes._keys import check_one_key

__all__ = [
    "bures",
    "bures_purity",
    "bures_third_moment",
    "hilbert_schmidt",
    "hilbert_schmidt_purity",
    "hilbert_schmidt_third_moment",
    "ising_hamiltonian",
    "purity",
    "thermal_ising",
]


def __dir__() -> list[str]:
    return __all__


def _ginibre(key: Key, n: int) -> Array:
    real, imaginary = jax.random.normal(key, (2, n, n))
    return jax.lax.complex(real, imaginary)


def _normalised(a: Array) -> Array:
    square = hermitian_part(a @ adjoint(a))
    return square / jnp.trace(square).real


def hilbert_schmidt(key: Key, n: int) -> Array:
    """A state of n levels uniform in the Hilbert-Schmidt measure: G G* / tr(G G*).

    Args:
        key: one key.
        n: levels, >= 1.

    Returns:
        A density matrix, complex, shape (n, n).

    Raises:
        ValueError: n below 1.
    """
    check_count("n", n)
    return _normalised(_ginibre(check_one_key(key), n))


def bures(key: Key, n: int) -> Array:
    """A state of n levels from the Bures measure: (1 + U) G G* (1 + U*) / tr, U Haar.

    Args:
        key: one key.
        n: levels, >= 1.

    Returns:
        A density matrix, complex, shape (n, n).

    Raises:
        ValueError: n below 1.
    """
    check_count("n", n)
    unitary_key, ginibre_key = jax.random.split(check_one_key(key))
    q, r = jnp.linalg.qr(_ginibre(unitary_key, n))
    phases = jnp.diagonal(r) / jnp.abs(jnp.diagonal(r))  # QR fixes the phases of r: undone, q is Haar
    return _normalised((jnp.eye(n) + q * phases) @ _ginibre(ginibre_key, n))


def hilbert_schmidt_purity(n: int) -> float:
    """E tr R^2 = 2n / (n^2 + 1) under the Hilbert-Schmidt measure."""
    check_count("n", n)
    return 2.0 * n / (n**2 + 1.0)


def hilbert_schmidt_third_moment(n: int) -> float:
    """E tr R^3 = (5n^2 + 1) / ((n^2 + 1)(n^2 + 2)) under the Hilbert-Schmidt measure."""
    check_count("n", n)
    return (5.0 * n**2 + 1.0) / ((n**2 + 1.0) * (n**2 + 2.0))


def bures_purity(n: int) -> float:
    """E tr R^2 = (5n^2 + 1) / (2n (n^2 + 2)) under the Bures measure."""
    check_count("n", n)
    return (5.0 * n**2 + 1.0) / (2.0 * n * (n**2 + 2.0))


def bures_third_moment(n: int) -> float:
    """E tr R^3 = (8n^2 + 7) / ((n^2 + 2)(n^2 + 4)) under the Bures measure."""
    check_count("n", n)
    return (8.0 * n**2 + 7.0) / ((n**2 + 2.0) * (n**2 + 4.0))


def purity(state: Array) -> Array:
    """tr R^2 of density matrices, shape (..., n, n) -> (...): 1 for pure states, 1 / n for the maximally mixed one."""
    return jnp.sum(jnp.abs(state) ** 2, axis=(-2, -1))


def ising_hamiltonian(couplings: Array, fields: Array) -> Array:
    """H = - sum_(i<j) J_ij Z_i Z_j - sum_i h_i X_i, Pauli matrices of k qubits.

    Args:
        couplings: J_ij of the pairs (0, 1), (0, 2), ..., (1, 2), ..., shape (k (k - 1) / 2,).
        fields: h_i, shape (k,).

    Returns:
        A real symmetric matrix, shape (2^k, 2^k).

    Raises:
        ValueError: another number of couplings.
    """
    couplings, fields = as_wide(as_real(couplings, "couplings")), as_wide(as_real(fields, "fields"))
    if fields.ndim != 1:
        raise ValueError(f"fields must have one number for each qubit, shape (k,), got shape {fields.shape}")
    pairs, flips = _ising_terms(fields.shape[0])
    if couplings.shape != (len(pairs),):
        raise ValueError(
            f"couplings must have one number a pair of the {fields.shape[0]} qubits, shape ({len(pairs)},), "
            f"got shape {couplings.shape}"
        )
    return -jnp.tensordot(couplings, jnp.asarray(pairs, couplings.dtype), 1) - jnp.tensordot(
        fields, jnp.asarray(flips, fields.dtype), 1
    )


def _ising_terms(qubits: int) -> tuple[np.ndarray, np.ndarray]:
    """Z_i Z_j for every pair, and X_i for every qubit."""
    one, z, x = np.eye(2), np.diag([1.0, -1.0]), np.array([[0.0, 1.0], [1.0, 0.0]])

    def product(factors: dict[int, np.ndarray]) -> np.ndarray:
        out = np.ones((1, 1))
        for i in range(qubits):
            out = np.kron(out, factors.get(i, one))
        return out

    pairs = [product({i: z, j: z}) for i, j in itertools.combinations(range(qubits), 2)]
    size = 2**qubits
    return np.reshape(pairs, (-1, size, size)), np.stack([product({i: x}) for i in range(qubits)])


def thermal_ising(key: Key, qubits: int, beta: float = 1.0, field: float = 1.0) -> Array:
    """The thermal state exp(-beta H) / tr of an Ising model with random couplings in transverse fields.

    J_ij ~ N(0, 1), h_i ~ N(field, 1), independent. log R + log tr exp(-beta H) = -beta H is Gaussian, in a space of
    k (k + 1) / 2 dimensions.

    Args:
        key: one key.
        qubits: k, >= 2.
        beta: inverse temperature, positive.
        field: mean of the transverse fields.

    Returns:
        A density matrix, complex, shape (2^k, 2^k).

    Raises:
        ValueError: too few qubits, a temperature that is not positive.
    """
    check_count("qubits", qubits, 2)
    check_number(beta=beta, field=field)
    check_positive(beta=beta)
    coupling_key, field_key = jax.random.split(check_one_key(key))
    couplings = jax.random.normal(coupling_key, (qubits * (qubits - 1) // 2,))
    log = -beta * ising_hamiltonian(couplings, field + jax.random.normal(field_key, (qubits,)))
    largest = jnp.linalg.eigvalsh(log)[-1]
    weights = exp_hermitian(log - largest * jnp.eye(2**qubits))
    return jax.lax.complex(weights / jnp.trace(weights), jnp.zeros_like(weights))
