"""Kernel densities on manifolds against closed forms: they integrate to 1, and have the law's own mean."""

import math

import jax
import numpy as np
import pytest

import bridgejax as bj
from bridgejax.evaluation import KernelDensity, kernel_density
from bridgejax.evaluation.kernel_density import embed, log_norm

SPHERE, ROTATIONS = bj.manifolds.Sphere(2), bj.manifolds.SO(3)


def density(manifold, centers, kappas, shares=(1.0,)):
    return KernelDensity(manifold, embed(manifold, centers), np.asarray(kappas), np.asarray(shares))


def on_sphere(n=200):
    """Points and weights of a quadrature: Gauss-Legendre in z, even angles; exact for smooth functions."""
    z, weights = np.polynomial.legendre.leggauss(n)
    a = 2 * np.pi * (np.arange(n) + 0.5) / n
    z, a = (part.ravel() for part in np.meshgrid(z, a, indexing="ij"))
    level = np.sqrt(1 - z**2)
    return np.stack([level * np.cos(a), level * np.sin(a), z], axis=1), np.repeat(weights, n) * 2 * np.pi / n


@pytest.mark.parametrize("kappa", [0.0, 0.3, 10.0, 1000.0])
def test_a_sphere_kernel_integrates_to_one_with_the_mean_of_von_mises_fisher(kappa):
    """E cos = coth kappa - 1 / kappa."""
    x, weights = on_sphere()
    centre = np.array([[0.6, 0.0, 0.8]])
    p = np.exp(density(SPHERE, centre, [kappa]).log_prob(x)) * weights
    assert p.sum() == pytest.approx(1.0, abs=1e-9)
    mean = 1 / math.tanh(kappa) - 1 / kappa if kappa else 0.0
    assert p @ (x @ centre[0]) == pytest.approx(mean, abs=1e-7)


def test_a_mixture_of_kernels_is_their_mean():
    x, weights = on_sphere()
    centres = np.eye(3)
    found = density(SPHERE, centres, [0.0, 5.0, 50.0], [0.2, 0.5, 0.3])
    p = np.exp(found.log_prob(x))
    assert p @ weights == pytest.approx(1.0, abs=1e-9)
    by_hand = 0.2 / (4 * np.pi) + sum(
        share / 3 * kappa / (2 * np.pi * -np.expm1(-2 * kappa)) * np.exp(kappa * (x @ centre - 1))
        for share, kappa in ((0.5, 5.0), (0.3, 50.0))
        for centre in centres
    )
    np.testing.assert_allclose(p, by_hand, rtol=1e-9)


@pytest.mark.parametrize("kappa", [0.3, 30.0])
def test_a_torus_kernel_integrates_to_one(kappa):
    a = 2 * np.pi * (np.arange(60) + 0.5) / 60 - np.pi
    x = np.stack([part.ravel() for part in np.meshgrid(a, a)], axis=1)
    p = np.exp(density(bj.manifolds.Torus(2), [[3.0, -1.0]], [kappa]).log_prob(x))
    assert p.sum() * (2 * np.pi / 60) ** 2 == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("kappa", [0.3, 30.0, 1e5])
def test_a_rotation_kernel_integrates_to_one(kappa):
    """Over the angle from the centre, whose volume is 8 pi (1 - cos a) da."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    end = min(np.pi, 30 / np.sqrt(kappa))
    a = 0.5 * end * (1 + nodes)
    turns = np.asarray(bj.manifolds.rotations.from_vector(np.stack([0 * a, 0 * a, a], axis=1)))
    exact = np.exp(2 * kappa * (np.cos(a) - 1) - log_norm(ROTATIONS, kappa))
    volume = 0.5 * end * weights * 8 * np.pi * 2 * np.sin(a / 2) ** 2
    assert exact @ volume == pytest.approx(1.0, abs=1e-9)
    p = np.exp(density(ROTATIONS, np.eye(3)[None], [kappa]).log_prob(turns))
    if kappa < 1e3:  # turns are float32
        np.testing.assert_allclose(p, exact, rtol=1e-3)


def test_the_norm_of_no_concentration_is_the_volume():
    for manifold in (SPHERE, ROTATIONS, bj.manifolds.Torus(3)):
        assert log_norm(manifold, 1e-9) == pytest.approx(manifold.log_volume, abs=1e-6)
    with pytest.raises(ValueError, match=r"manifold must be Sphere\(2\), a Torus or SO\(3\)"):
        kernel_density(bj.manifolds.U(2), np.zeros((20, 2, 2, 2)))
    with pytest.raises(ValueError, match="at least 10 distinct points, got 1"):
        kernel_density(SPHERE, np.tile([[0.0, 0.0, 1.0]], (50, 1)))


def _von_mises_fisher(kappa, n, seed):
    random = np.random.default_rng(seed)
    z = 1 + np.log(random.uniform(np.exp(-2 * kappa), 1, n)) / kappa
    a = random.uniform(0, 2 * np.pi, n)
    return np.stack([np.sqrt(1 - z**2) * np.cos(a), np.sqrt(1 - z**2) * np.sin(a), z], axis=1)


def test_it_comes_near_the_law_and_its_entropy():
    """The entropy of the law, log(2 pi (1 - e^-2k) / k) + k (1 - E cos), is what no density beats."""
    kappa, train, fresh = 20.0, _von_mises_fisher(20.0, 4000, 0), _von_mises_fisher(20.0, 2000, 1)
    entropy = log_norm(SPHERE, kappa) + kappa * (1 - (1 / math.tanh(kappa) - 1 / kappa))
    found = -kernel_density(SPHERE, train).log_prob(fresh)
    assert -5 * found.std() / math.sqrt(2000) < found.mean() - entropy < 0.05


def test_copies_do_not_choose_the_width():
    """Each point ten times: the narrowest kernel would be the best for copies, and is the worst for fresh points."""
    once, fresh = _von_mises_fisher(5.0, 300, 0), _von_mises_fisher(5.0, 300, 1)
    copied = kernel_density(SPHERE, np.repeat(once, 10, axis=0))
    assert copied.kappas.max() < 1e3
    assert -copied.log_prob(fresh).mean() < SPHERE.log_volume


def test_rotations_are_seen_by_their_entries():
    x = jax.vmap(ROTATIONS.uniform)(bj.keys(jax.random.key(0), 5))
    seen = embed(ROTATIONS, x)
    np.testing.assert_allclose(seen @ seen.T, np.einsum("nij,mij->nm", x, x), rtol=1e-5, atol=1e-5)
