"""Models without training, each exact for data that are what it supposes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bridgejax as bj
from bridgejax.evaluation import simple_denoisers
from bridgejax.oracles import fit_gaussian, gaussian_flow

SCHEDULE = bj.schedules.vp()
MEANS = np.array([[-6.0, 0.0], [6.0, 1.0], [0.0, 8.0]])


def clusters(n=600, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=n)
    return MEANS[labels] + rng.normal(size=(n, 2)) * [1.0, 0.3], labels


def test_far_clusters_are_found_and_mixed_exactly():
    """The mixture of the Gaussians of the true clusters, with the same fit."""
    rows, labels = clusters()
    mixture = simple_denoisers(rows, SCHEDULE, modes=3)["mixture"]
    laws = [fit_gaussian(rows[labels == k]) for k in range(3)]
    exact = bj.mixtures.gaussian_mixture(
        np.stack([law.mean for law in laws]), np.stack([law.cov() for law in laws]), np.bincount(labels)
    )
    denoiser = bj.mixtures.mixture_denoiser(exact, SCHEDULE)
    x = jax.random.normal(jax.random.key(0), (50, 2)) * 3
    for t in (0.05, 0.4, 1.0):
        found = jax.vmap(mixture, (None, 0, None))(t, x, None)
        expected = jax.vmap(denoiser, (None, 0, None))(t, x, None)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_one_mode_is_the_gaussian():
    rows, _ = clusters()
    models = simple_denoisers(rows, SCHEDULE, modes=1)
    x = jnp.array([1.0, -2.0])
    np.testing.assert_allclose(models["mixture"](0.3, x, None), models["gaussian"](0.3, x, None), rtol=1e-5)
    np.testing.assert_allclose(
        models["gaussian"](0.3, x, None), gaussian_flow(fit_gaussian(rows), SCHEDULE).denoiser(0.3, x)
    )


def test_the_ball_has_the_mean_variance():
    rows, _ = clusters()
    schedule = bj.schedules.karras()
    v = rows.var(0).mean()
    x = np.array([3.0, -1.0])
    expected = rows.mean(0) + v / (v + 4.0) * (x - rows.mean(0))
    np.testing.assert_allclose(
        simple_denoisers(rows, schedule)["isotropic"](2.0, jnp.asarray(x), None), expected, rtol=1e-5
    )


def test_points_are_the_first_rows():
    rows, _ = clusters()
    points = simple_denoisers(rows, bj.schedules.karras(), most_points=5)["points"]
    near = points(1e-3, jnp.asarray(rows[4]), None)
    np.testing.assert_allclose(near, rows[4], rtol=1e-5)
    other = points(1e-3, jnp.asarray(rows[5]), None)
    assert np.min(np.linalg.norm(rows[:5] - np.asarray(other), axis=1)) < 1e-4


@pytest.mark.parametrize("modes", [2, 40])
def test_images_and_more_clusters_than_there_are(modes):
    """Clusters of one row, equal rows and fewer rows than numbers: all finite."""
    rows = np.repeat(np.random.default_rng(0).normal(size=(10, 4, 4, 1)), 5, axis=0)
    for model in simple_denoisers(rows, SCHEDULE, modes=modes).values():
        found = model(0.2, jnp.ones((4, 4, 1)), None)
        assert found.shape == (4, 4, 1)
        assert np.isfinite(found).all()


def test_more_modes_than_rows_are_refused():
    with pytest.raises(ValueError, match="modes must be at most the number of rows, 5, got 6"):
        simple_denoisers(np.eye(5), SCHEDULE, modes=6)
