"""Methods on convex sets: valid samples, and densities against the logistic normal."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bridgejax as bj
from bridgejax import mirrors
from bridgejax.methods import mirrored

SIMPLEX = mirrors.Simplex(3)


def exact(sigma, shape):
    """A Method that knows the diffused N(0, sigma^2 I): nothing to learn."""
    schedule = bj.schedules.cosine()

    def denoiser(params, t, x, args):
        variance = schedule.alpha(t) ** 2 * sigma**2 + schedule.sigma(t) ** 2
        return params * schedule.alpha(t) * sigma**2 / variance * x

    def process(params):
        flow = bj.probability_flow(schedule, denoiser=jax.tree_util.Partial(denoiser, params))
        return bj.Process(bj.starts.normal(shape), flow, bj.grids.log_snr(40, schedule))

    def loss(params, keys, batch):
        seen.append(batch)
        return jnp.mean((params - 1.0) ** 2), {}

    seen = []
    return bj.gradient_method(loss, process, optax.sgd(0.1), params=jnp.ones(())), seen


def test_density_is_the_logistic_normal():
    method, _ = exact(0.7, (2,))
    on_simplex = mirrored(method, SIMPLEX)
    state = on_simplex.init(jax.random.key(0), jnp.full((4, 3), 1 / 3))
    x = jnp.array([0.6, 0.3, 0.1])
    found = on_simplex.log_prob(state, jax.random.key(1), x)
    centred = np.log(x) - np.mean(np.log(x))
    normal = -0.5 * np.sum(centred**2) / 0.49 - np.log(2 * np.pi * 0.49)
    np.testing.assert_allclose(found, normal - np.sum(np.log(x)) - np.log(3.0), atol=2e-3)


def test_samples_follow_the_law_and_stay_inside():
    method, _ = exact(0.7, (3,))
    states = mirrors.DensityMatrix(2)
    on_states = mirrored(method, states)
    state = on_states.init(jax.random.key(0), jnp.full((4, 2, 2), 0.5 * jnp.eye(2, dtype=jnp.complex64)))
    x = bj.sample(on_states.process(state), bj.keys(jax.random.key(1), 2000))
    assert x.shape == (2000, 2, 2)
    assert np.iscomplexobj(x)
    assert bool(jnp.all(jax.vmap(states.contains)(x)))
    dual = np.asarray(jax.vmap(states.to_dual)(x))
    assert np.all(np.abs(dual.mean(0)) < 5 * 0.7 / np.sqrt(2000))
    np.testing.assert_allclose(dual.var(0), 0.49, rtol=5 * np.sqrt(2 / 2000))


def test_fit_maps_every_batch_and_leaves_labels():
    method, seen = exact(1.0, (2,))
    data = {"x": np.asarray(jax.random.dirichlet(jax.random.key(0), jnp.ones(3), (64,))), "label": np.arange(64) % 2}
    bj.fit(mirrored(method, SIMPLEX), data, jax.random.key(1), steps=2, batch_size=16, progress=False)
    assert seen[-1]["x"].shape == (16, 2)
    assert seen[-1]["label"].shape == (16,)


def test_complex_data_are_fitted_and_two_ends_mapped():
    states = mirrors.DensityMatrix(2)
    rows = jax.vmap(lambda k: bj.oracles.quantum.hilbert_schmidt(k, 2))(bj.keys(jax.random.key(0), 64))
    method = mirrored(bj.methods.bridge_matching(shape=states.dual_shape, sigma=0.5), states)
    data = {"source": rows, "target": rows[::-1]}
    state = bj.fit(method, data, jax.random.key(1), steps=2, batch_size=16, progress=False)
    x = bj.sample(method.process(state), bj.keys(jax.random.key(2), 8))
    assert bool(jnp.all(jax.vmap(states.contains)(x)))


def test_rounds_see_dual_coordinates():
    seen = {}

    def refresh(state, key, data):
        seen["data"] = data
        return state

    inner = exact(1.0, (2,))[0]._replace(refresh=refresh)
    mirrored(inner, SIMPLEX).refresh(None, None, jnp.full((4, 3), 1 / 3))
    np.testing.assert_allclose(seen["data"], jnp.zeros((4, 2)), atol=1e-6)
    assert mirrored(exact(1.0, (2,))[0], SIMPLEX).refresh is None


def test_bad_input():
    method, _ = exact(1.0, (2,))
    with pytest.raises(ValueError, match="method must be"):
        mirrored("diffusion", SIMPLEX)
    with pytest.raises(ValueError, match="mirror must be a mirror map"):
        mirrored(method, bj.domains.Reals())
    with pytest.raises(ValueError, match="row 0 of x lies on the boundary"):
        mirrored(method, SIMPLEX).init(jax.random.key(0), {"x": jnp.array([[1.0, 0.0, 0.0]])})
