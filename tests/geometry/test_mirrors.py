"""Mirror maps against automatic differentiation: z is the slope of the potential, log_det the slope of z."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bridgejax.geometry import mirrors
from bridgejax.geometry._spectral import exp_hermitian, log_positive, log_sinhc, sinhc


def hermitian(key, n):
    a = jax.random.normal(key, (2, n, n))
    return 0.5 * (a[0] + a[0].T) + 0.5j * (a[1] - a[1].T)


CASES = {
    "Box": (mirrors.Box(jnp.array([-1.0, 0.0, 2.0]), jnp.array([1.0, 5.0, 2.5])), 3),
    "Positive": (mirrors.Positive(), 4),
    "Simplex": (mirrors.Simplex(5), 4),
    "Ball": (mirrors.Ball(2.0), 3),
    "PositiveDefinite": (mirrors.PositiveDefinite(3), 6),
    "DensityMatrix": (mirrors.DensityMatrix(3), 8),
}
by_case = pytest.mark.parametrize("name", CASES)


def tangents(mirror, x):
    """An orthonormal basis of the plane of the set at x, shape (k, *x.shape)."""
    if isinstance(mirror, mirrors.Simplex):
        return np.linalg.svd(np.ones((1, mirror.count)))[2][1:]
    if isinstance(mirror, mirrors.PositiveDefinite | mirrors.DensityMatrix):
        n, found = mirror.n, []
        for i in range(n):
            for j in range(i, n):
                e = np.zeros((n, n), complex)
                if i == j:
                    e[i, i] = 1.0
                    found.append(e)
                    continue
                e[i, j] = e[j, i] = np.sqrt(0.5)
                found.append(e)
                if isinstance(mirror, mirrors.DensityMatrix):
                    e = np.zeros((n, n), complex)
                    e[i, j], e[j, i] = 1j * np.sqrt(0.5), -1j * np.sqrt(0.5)
                    found.append(e)
        found = np.stack(found)
        if isinstance(mirror, mirrors.PositiveDefinite):
            return found.real
        flat = np.concatenate([found.real.reshape(len(found), -1), found.imag.reshape(len(found), -1)], 1)
        one = np.concatenate([np.eye(n).ravel(), np.zeros(n * n)]) / np.sqrt(n)
        kept = flat - np.outer(flat @ one, one)
        q = np.linalg.svd(kept)[2][: n * n - 1]
        return (q[:, : n * n] + 1j * q[:, n * n :]).reshape(-1, n, n)
    return np.eye(x.size).reshape(-1, *x.shape)


@by_case
@pytest.mark.parametrize("seed", [0, 1])
def test_there_and_back(name, seed):
    mirror, dim = CASES[name]
    z = jax.random.normal(jax.random.key(seed), (dim,))
    x = mirror.to_primal(z)
    assert bool(mirror.contains(x))
    assert float(mirror.depth(x)) > 0
    # a floor of 4 n roundings under the eigenvalues of a density matrix
    floor = 48 * np.finfo(np.float32).eps / float(mirror.depth(x)) if name == "DensityMatrix" else 0.0
    np.testing.assert_allclose(mirror.to_dual(x), z, atol=2e-5 + floor)


@by_case
def test_log_det_is_that_of_the_jacobian(name):
    mirror, dim = CASES[name]
    z = jax.random.normal(jax.random.key(2), (dim,))
    x = mirror.to_primal(z)
    basis = jnp.asarray(tangents(mirror, np.asarray(x)), x.dtype)
    assert len(basis) == dim
    columns = [jax.jvp(mirror.to_dual, (x,), (e,))[1] for e in basis]
    expected = np.linalg.slogdet(np.stack(columns))[1]
    np.testing.assert_allclose(mirror.log_det(z), expected, rtol=2e-4, atol=2e-4)
    # and of the way back, whose derivative is taken elsewhere
    jacobian = jax.jacfwd(lambda z: mirror.to_primal(z))(z)
    flat = np.asarray(jacobian).reshape(-1, dim)
    np.testing.assert_allclose(-0.5 * np.linalg.slogdet((flat.conj().T @ flat).real)[1], expected, rtol=2e-4, atol=2e-4)


@by_case
def test_dual_coordinates_are_the_slope_of_the_potential(name):
    """d phi (x)[e] = <z, coordinates of e>, e along the plane: as d z . z of the dual's own basis, so by lengths."""
    mirror, dim = CASES[name]
    z = jax.random.normal(jax.random.key(3), (dim,))
    x = mirror.to_primal(z)
    basis = jnp.asarray(tangents(mirror, np.asarray(x)), x.dtype)
    slopes = jnp.stack([jax.jvp(mirror.potential, (x,), (e,))[1] for e in basis])
    if name in ("Box", "Positive", "Ball"):
        np.testing.assert_allclose(slopes, z, atol=1e-4)
    else:  # another orthonormal basis: an orthogonal matrix between them
        np.testing.assert_allclose(jnp.sum(slopes**2), jnp.sum(z**2), rtol=1e-4)
        hessian = jnp.stack([jax.jvp(mirror.to_dual, (x,), (e,))[1] for e in basis])
        second = jax.vmap(lambda e: jnp.stack([_second(mirror, x, e, f) for f in basis]))(basis)
        np.testing.assert_allclose(hessian @ hessian.T, second @ second.T, rtol=5e-3, atol=5e-3)


def _second(mirror, x, e, f):
    return jax.jvp(lambda y: jax.jvp(mirror.potential, (y,), (e,))[1], (x,), (f,))[1]


def test_the_simplex_dual_is_the_isometric_log_ratio():
    x = jnp.array([0.5, 0.3, 0.2])
    z = mirrors.Simplex(3).to_dual(x)
    expected = [np.log(0.5 / 0.3) / np.sqrt(2), np.log(0.5 * 0.3 / 0.2**2) / np.sqrt(6)]
    np.testing.assert_allclose(z, expected, rtol=1e-5)


def test_a_qubit_is_its_bloch_vector():
    """exp(a Z) / tr = (1 + tanh(a) Z) / 2 for any direction of the Bloch ball."""
    z = jnp.array([0.3, -0.4, 1.2])
    x = mirrors.DensityMatrix(2).to_primal(z)
    length = float(jnp.linalg.norm(z)) / np.sqrt(2.0)
    np.testing.assert_allclose(
        jnp.linalg.eigvalsh(x), [0.5 - 0.5 * np.tanh(length), 0.5 + 0.5 * np.tanh(length)], atol=2e-6
    )


@pytest.mark.parametrize("f", [exp_hermitian, log_positive])
def test_derivatives_where_eigenvalues_meet(f):
    """At a multiple of 1 every direction commutes: the derivative is f'(2) E."""
    e = hermitian(jax.random.key(4), 4)
    slope = np.exp(2.0) if f is exp_hermitian else 0.5
    change = jax.jvp(f, (2.0 * jnp.eye(4, dtype=e.dtype),), (e,))[1]
    np.testing.assert_allclose(change, slope * e, rtol=1e-4, atol=1e-5)


def test_exp_against_the_series():
    a = hermitian(jax.random.key(5), 5)
    np.testing.assert_allclose(exp_hermitian(a), jax.scipy.linalg.expm(a), rtol=1e-4, atol=1e-4)
    with jax.enable_x64(True):  # back again costs as many digits as the eigenvalues of exp a span
        a = jnp.asarray(np.asarray(a), jnp.complex128)
        np.testing.assert_allclose(log_positive(exp_hermitian(a)), a, atol=1e-10)


def test_sinhc_and_its_logarithm():
    x = np.array([0.0, 1e-4, 9.9e-3, 1.01e-2, 0.5, 5.0])
    exact = np.where(x > 0, np.sinh(x) / np.where(x > 0, x, 1.0), 1.0)
    np.testing.assert_allclose(sinhc(jnp.asarray(x)), exact, rtol=2e-6)
    np.testing.assert_allclose(log_sinhc(jnp.asarray(x)), np.log(exact), rtol=2e-3, atol=1e-7)
    np.testing.assert_allclose(log_sinhc(jnp.asarray(200.0)), 200.0 - np.log(400.0), rtol=1e-6)
    assert np.all(np.isfinite(jax.vmap(jax.grad(log_sinhc))(jnp.asarray(x))))


@pytest.mark.parametrize("n", [2, 8])
def test_density_matrices_are_valid_far_out(n):
    """Duals 30 deviations wide: eigenvalues below rounding, none of them negative as stored."""
    mirror = mirrors.DensityMatrix(n)
    z = 30.0 * jax.random.normal(jax.random.key(6), (200, n * n - 1))
    x = np.asarray(jax.jit(jax.vmap(mirror.to_primal))(z))
    assert np.array_equal(x, x.conj().swapaxes(1, 2))
    assert np.abs(np.trace(x, axis1=1, axis2=2) - 1.0).max() <= 1e-6
    assert np.linalg.eigvalsh(x.astype(np.complex128)).min() >= 0.0


def test_standardised_by_data():
    mirror, dim = CASES["Simplex"]
    z = 3.0 + 2.0 * jax.random.normal(jax.random.key(7), (2000, dim))
    x = jax.vmap(mirror.to_primal)(z)
    scaled = mirrors.standardised(mirror, x)
    dual = jax.vmap(scaled.to_dual)(x)
    np.testing.assert_allclose(dual.mean(0), 0.0, atol=1e-4)
    np.testing.assert_allclose(jnp.mean(jnp.var(dual, axis=0)), 1.0, rtol=1e-3)
    np.testing.assert_allclose(jax.vmap(scaled.to_primal)(dual), x, atol=1e-5)
    jacobian = jax.jacfwd(lambda z: scaled.to_primal(z))(dual[0])
    expected = -0.5 * np.linalg.slogdet(jacobian.T @ jacobian)[1]
    np.testing.assert_allclose(scaled.log_det(dual[0]), expected, rtol=1e-3)


def test_a_margin_takes_the_boundary():
    pure = jnp.zeros((2, 2), jnp.complex64).at[0, 0].set(1.0)
    mirror = mirrors.DensityMatrix(2, margin=1e-2)
    np.testing.assert_allclose(mirror.to_primal(mirror.to_dual(pure)), jnp.diag(jnp.array([0.995, 0.005])), atol=1e-5)
    mirrors.check_points(mirror, pure[None])
    zero = jnp.array([[1.0, 0.0, 0.0]])
    assert np.all(np.isfinite(jax.vmap(mirrors.Simplex(3, margin=1e-3).to_dual)(zero)))
    assert np.all(np.isfinite(mirrors.Box(0.0, 1.0, margin=1e-3).to_dual(jnp.array([0.0, 1.0]))))


BAD = {
    "off the plane": (mirrors.Simplex(2), [[0.5, 0.6]], "divide by the sum"),
    "outside": (mirrors.Simplex(2), [[1.2, -0.2]], "lies outside"),
    "boundary": (mirrors.Simplex(2), [[1.0, 0.0]], "margin"),
    "box": (mirrors.Box(0.0, 1.0), [[0.5], [1.5]], "row 1 of points lies outside"),
    "ball": (mirrors.Ball(), [[1.0, 1.0]], "lies outside"),
    "not symmetric": (mirrors.PositiveDefinite(2), [[[1.0, 0.5], [0.0, 1.0]]], "symmetry"),
    "not positive": (mirrors.PositiveDefinite(2), [[[1.0, 0.0], [0.0, -1.0]]], "lies outside"),
    "trace": (mirrors.DensityMatrix(2), [[[1.0, 0.0], [0.0, 1.0]]], "trace"),
    "negative state": (mirrors.DensityMatrix(2), [[[1.5, 0.0], [0.0, -0.5]]], "lies outside"),
    "pure state": (mirrors.DensityMatrix(2), [[[1.0, 0.0], [0.0, 0.0]]], "margin"),
    "nan": (mirrors.Positive(), [[np.nan]], "not finite"),
}


@pytest.mark.parametrize("name", BAD)
def test_points_that_are_refused(name):
    mirror, points, words = BAD[name]
    with pytest.raises(ValueError, match=words):
        mirrors.check_points(mirror, jnp.asarray(points))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mirrors.Simplex(1), "count must be"),
        (lambda: mirrors.DensityMatrix(1), "n must be"),
        (lambda: mirrors.DensityMatrix(2, margin=1.0), "margin must be"),
        (lambda: mirrors.Box(1.0, 0.0), "low must lie below high"),
        (lambda: mirrors.Box(0.0, np.inf), "not finite"),
        (lambda: mirrors.Ball(-1.0), "radius must be"),
        (lambda: mirrors.PositiveDefinite(0), "n must be"),
        (lambda: mirrors.standardised(mirrors.Positive(), jnp.ones((3, 2))), "no spread"),
    ],
)
def test_bad_sets(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_mirror_maps_ride_through_jit_and_vmap():
    low = jnp.arange(3.0)
    boxes = jax.vmap(lambda a: mirrors.Box(a, a + 1.0))(low)
    x = jax.jit(jax.vmap(lambda m, z: m.to_primal(z)))(boxes, jnp.zeros((3, 2)))
    np.testing.assert_allclose(x, low[:, None] + 0.5 * jnp.ones((3, 2)))


def test_examples_run():
    assert doctest.testmod(mirrors).failed == 0
