"""Operators on diffused densities against mixtures in closed form; energies against their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import Partial

from bridgejax.bridges import compose, reverse
from bridgejax.methods import diffusion
from bridgejax.networks import MLP, energy
from bridgejax.processes import Process, schedules, starts
from bridgejax.processes.mixtures import gaussian_mixture, mixture_denoiser, mixture_score

VP = schedules.vp()
FIRST = gaussian_mixture([[0.0, 1.0], [1.0, -0.5]], 0.3, [0.4, 0.6])
SECOND = gaussian_mixture([[-1.0, 0.2]], [[0.5, 0.2]])
X, T = jnp.array([0.3, -0.4]), 0.2


def mixture_log(law, schedule, t, x, args):
    return law.diffuse(schedule, t).log_prob(x)


def exact(law, schedule=VP):
    return compose.density(
        schedule,
        law.means.shape[1:],
        log_density=Partial(mixture_log, law, schedule),
        score=mixture_score(law, schedule),
    )


A, B = exact(FIRST), exact(SECOND)
SCORE_ONLY = compose.density(VP, (2,), score=mixture_score(SECOND, VP))


@jax.jit
def both(density, t, x):
    return density.score(t, x), jax.grad(lambda x: density.log_density(t, x))(x), density.log_density(t, x)


def test_products_powers_negations_and_guidance_are_weighted_sums():
    (s1, _, l1), (s2, _, l2) = both(A, T, X), both(B, T, X)
    for density, b1, b2 in (
        (compose.product(A, B), 1.0, 1.0),
        (compose.product(A, B, exponents=[0.3, 1.2]), 0.3, 1.2),
        (compose.negation(A, B, 0.4), 1.4, -0.4),
        (compose.guidance(A, B, 3.0), 3.0, -2.0),
        (compose.power(compose.product(A, compose.power(B, 2.0)), 0.5), 0.5, 1.0),
    ):
        score, gradient, log = both(density, T, X)
        np.testing.assert_allclose(score, b1 * s1 + b2 * s2, rtol=1e-5)
        np.testing.assert_allclose(gradient, score, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(log, b1 * l1 + b2 * l2, rtol=1e-5)
        assert len(density.factors()[0]) == 2


def test_a_mixture_is_the_mixture():
    weights = jnp.concatenate([0.3 * jnp.exp(FIRST.log_weights), 0.7 * jnp.ones(1)])
    means = jnp.concatenate([FIRST.means, SECOND.means])
    variances = jnp.concatenate([FIRST.variances, SECOND.variances])
    whole = gaussian_mixture(means, variances, weights).diffuse(VP, T)
    score, gradient, log = both(compose.mixture(A, B, weights=[3.0, 7.0]), T, X)
    np.testing.assert_allclose(log, whole.log_prob(X), rtol=1e-5)
    np.testing.assert_allclose(score, whole.score(X), rtol=1e-4)
    np.testing.assert_allclose(gradient, whole.score(X), rtol=1e-4)


def test_a_trained_model_is_its_score():
    process = Process(
        starts.normal((2,)), reverse(VP, denoiser=mixture_denoiser(FIRST, VP)), jnp.array([0.0, 0.5, 1.0])
    )
    model = compose.model(process)
    np.testing.assert_allclose(model.score(T, X), FIRST.diffuse(VP, T).score(X), rtol=1e-4)
    np.testing.assert_allclose(model.score(0.005, X), FIRST.diffuse(VP, 0.005).score(X), rtol=1e-3)
    assert not model.has_energy
    assert np.all(np.isfinite(model.score(0.0, X)))


def labelled(t, x, args):
    return x * args


def test_a_condition_is_held():
    density = compose.conditioned(compose.power(compose.density(VP, (2,), score=labelled), 2.0), 3.0)
    np.testing.assert_allclose(density.score(T, X, None), 6.0 * X, rtol=1e-6)


@pytest.mark.parametrize("form", ["denoising", "inner", "norm"])
def test_energies(form):
    """grad E is what the network predicts, for any parameters, and log q = -E / sigma."""
    apply, params = energy(MLP((2,), width=8, depth=1, embedding=8, time_features=4, rngs=nnx.Rngs(0)), form)
    start = {"denoising": 2.0 * X, "inner": 0.0 * X, "norm": X}[form]
    np.testing.assert_allclose(apply(params, T, X, None), start, atol=1e-6)
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    gradient = jax.grad(lambda x: apply.value(params, T, x, None))(X)
    np.testing.assert_allclose(apply(params, T, X, None), gradient, rtol=1e-6)
    density = compose.energy(VP, (apply, params), (2,))
    score, gradient, log = both(density, T, X)
    np.testing.assert_allclose(gradient, score, rtol=1e-5)
    np.testing.assert_allclose(log, -apply.value(params, T, X, None) / VP.sigma(T), rtol=1e-5)
    _, _, early = both(density, 0.01, X)
    np.testing.assert_allclose(early, -apply.value(params, 0.01, X, None) / VP.sigma(0.01), rtol=1e-4)


@pytest.mark.slow
def test_an_energy_network_trains_as_a_diffusion_model():
    network = energy(MLP((2,), width=8, depth=1, embedding=8, time_features=4, rngs=nnx.Rngs(0)))
    method = diffusion(VP, network, shape=(2,), predict="eps")
    batch, key = FIRST.means[jnp.array([0, 1] * 32)], jax.random.key(0)
    state, metrics = jax.jit(method.step)(method.init(key, batch), key, batch)
    assert np.isfinite(metrics["loss"])
    assert metrics["grad_norm"] > 0
    assert not np.allclose(jax.tree.leaves(state.params)[-1], jax.tree.leaves(network[1])[-1])


def test_parts_that_do_not_fit():
    other = exact(SECOND, schedules.vp(0.1, 19.0))
    flat = exact(gaussian_mixture([[0.0]], 1.0))
    for operator in (compose.product, compose.mixture, compose.negation):
        with pytest.raises(ValueError, match="parts must share one noise schedule.*train them on the same"):
            operator(A, other)
        with pytest.raises(ValueError, match=r"parts must have one shape of samples, got \(2,\) and \(1,\)"):
            operator(A, flat)
        with pytest.raises(ValueError, match="parts must be a Density"):
            operator(A, 3)
    with pytest.raises(ValueError, match="mixture needs log_density of every part.*superpose"):
        compose.mixture(A, SCORE_ONLY)
    with pytest.raises(ValueError, match="has a score but no log_density"):
        compose.product(A, SCORE_ONLY).log_density(T, X)
    with pytest.raises(ValueError, match=r"x must have the shape of one sample, \(2,\), got \(3,\)"):
        A.score(T, jnp.zeros(3))
    for wrong in ({"exponents": [1.0]}, {"exponents": [1.0, jnp.nan]}):
        with pytest.raises(ValueError, match="exponents"):
            compose.product(A, B, **wrong)
    with pytest.raises(ValueError, match="parts must hold at least one"):
        compose.product()
    with pytest.raises(ValueError, match="pass log_density or score"):
        compose.density(VP, (2,))
    with pytest.raises(ValueError, match="networks.energy"):
        compose.energy(VP, (labelled, {}), (2,))
    with pytest.raises(ValueError, match="form must be one of"):
        energy(MLP((2,), width=8, depth=1, rngs=nnx.Rngs(0)), "sum")


def tilt(t, x, args):
    return -(1.0 - t) * jnp.sum((1.0 - x) ** 2)


def test_a_tilted_density_is_the_power_of_its_likelihood():
    (s1, _, l1), density = both(A, T, X), compose.tilted(A, tilt, 0.7)
    score, gradient, log = both(density, T, X)
    np.testing.assert_allclose(log, l1 + 0.7 * tilt(T, X, None), rtol=1e-5)
    np.testing.assert_allclose(score, s1 + 0.7 * 2 * (1 - T) * (1 - X), rtol=1e-4)
    np.testing.assert_allclose(gradient, score, rtol=1e-4)
