"""Ensembles of density matrices: moments against closed forms, thermal states against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from bridgejax.oracles import quantum
from bridgejax.processes import keys

ENSEMBLES = {
    "Hilbert-Schmidt": (quantum.hilbert_schmidt, quantum.hilbert_schmidt_purity, quantum.hilbert_schmidt_third_moment),
    "Bures": (quantum.bures, quantum.bures_purity, quantum.bures_third_moment),
}


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("name", ENSEMBLES)
def test_moments(name, n):
    draw, second, third = ENSEMBLES[name]
    states = jax.jit(jax.vmap(lambda k: draw(k, n)))(keys(jax.random.key(n), 20_000))
    np.testing.assert_allclose(np.trace(states, axis1=1, axis2=2), 1.0, atol=1e-5)
    cubes = jnp.einsum("bij,bjk,bki->b", states, states, states).real
    for values, expected in ((quantum.purity(states), second(n)), (cubes, third(n))):
        error = float(jnp.std(values)) / np.sqrt(len(values))
        assert error < 0.01 * expected
        assert abs(float(jnp.mean(values)) - expected) < 5 * error


def test_the_spectrum_of_a_qubit():
    """Hilbert-Schmidt at n = 2: the larger eigenvalue is (1 + r) / 2 with r^3 uniform, a uniform Bloch ball."""
    states = jax.jit(jax.vmap(lambda k: quantum.hilbert_schmidt(k, 2)))(keys(jax.random.key(0), 20_000))
    radius = np.sort(2.0 * np.linalg.eigvalsh(np.asarray(states))[:, 1] - 1.0)
    grid = (np.arange(len(radius)) + 0.5) / len(radius)
    assert np.max(np.abs(radius**3 - grid)) < 1.95 / np.sqrt(len(radius))  # Kolmogorov, level .001


def test_the_hamiltonian_of_two_qubits():
    h = quantum.ising_hamiltonian(jnp.array([2.0]), jnp.array([0.5, -1.0]))
    expected = [[-2, 1, -0.5, 0], [1, 2, 0, -0.5], [-0.5, 0, 2, 1], [0, -0.5, 1, -2]]
    np.testing.assert_allclose(h, expected)


def test_thermal_states():
    """log of the state is -beta H less a number, beyond a temperature where exp alone would overflow."""
    state = np.asarray(quantum.thermal_ising(jax.random.key(3), 3, beta=0.7))
    log = scipy.linalg.logm(state.astype(np.complex128))
    traceless = log - np.trace(log) / 8 * np.eye(8)
    coupling_key, field_key = jax.random.split(jax.random.key(3))
    h = quantum.ising_hamiltonian(jax.random.normal(coupling_key, (3,)), 1.0 + jax.random.normal(field_key, (3,)))
    np.testing.assert_allclose(traceless, -0.7 * np.asarray(h), atol=2e-4)
    assert np.all(np.isfinite(quantum.thermal_ising(jax.random.key(0), 3, beta=200.0)))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: quantum.hilbert_schmidt(jax.random.key(0), 0), "n must be"),
        (lambda: quantum.bures(jax.random.key(0), 0), "n must be"),
        (lambda: quantum.thermal_ising(jax.random.key(0), 1), "qubits must be"),
        (lambda: quantum.thermal_ising(jax.random.key(0), 2, beta=0.0), "beta must be"),
        (lambda: quantum.ising_hamiltonian(jnp.ones(2), jnp.ones(2)), "couplings must have"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
