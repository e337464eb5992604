"""The latent Schroedinger bridge against closed forms: two points, Gaussians, principal components, a linear VAE."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bridgejax as bj
from bridgejax.methods.generative import autoencoder
from bridgejax.methods.generative.latent_sb import IDENTITY, latent_sb, potential_process
from bridgejax.processes.mixtures import gaussian_mixture, mixture_score

BROWNIAN = bj.schedules.brownian(1.0)
POINTS = jnp.array([[-1.0], [1.0]])


def two_points(ts):
    score = mixture_score(gaussian_mixture(POINTS), BROWNIAN)
    return potential_process(score, IDENTITY, POINTS, 1.0, ts)


def test_the_drift_of_two_points():
    """(tanh(x / (1 - t)) - x) / (1 - t)."""
    t, x = (g.ravel() for g in jnp.meshgrid(jnp.linspace(0.0, 0.99, 12), jnp.linspace(-2.5, 2.5, 11)))
    found = jax.jit(jax.vmap(two_points(jnp.linspace(0, 1, 3)).dynamics.drift, (0, 0, None)))(t, x[:, None], None)[:, 0]
    np.testing.assert_allclose(found, (jnp.tanh(x / (1 - t)) - x) / (1 - t), rtol=2e-4, atol=2e-4)


def test_euler_lands_on_the_two_points():
    """To t = 0.999, where sqrt(0.001) of noise is left: |x| = 1 to that, signs balanced."""
    n, stop = 4000, 0.999
    ts = 1.0 - jnp.geomspace(1.0, 1.0 - stop, 200)
    x = np.asarray(bj.sample(two_points(ts), bj.keys(jax.random.key(0), n), solver=bj.solvers.Euler()))[:, 0]
    assert abs((x > 0).mean() - 0.5) < 5 * 0.5 / np.sqrt(n)
    spread = np.sqrt(1.0 - stop)
    assert abs(np.abs(x).mean() - 1.0) < 5 * spread / np.sqrt(n) + 1e-3
    # h / (1 - t) = 3.4 % a step multiplies the variance left by 1 / (1 - 0.034 / 2) at most
    assert abs((np.abs(x) - 1.0).std() / spread - 1.0) < 5 / np.sqrt(2 * n) + 0.02


# codecs -------------------------------------------------------------------------------------------------------------


def plane(n, d=6, seed=0):
    random = np.random.default_rng(seed)
    basis = np.linalg.qr(random.normal(size=(d, 2)))[0]
    return np.float32(random.normal(size=(n, 2)) * [2.0, 0.7] @ basis.T + 3.0)


def test_pca_makes_the_round_trip_on_a_plane_and_leaves_its_eigenvalues_elsewhere():
    x = plane(200)
    codec, values = autoencoder.pca(x, 2)
    z = jax.vmap(codec.encode)(x)
    np.testing.assert_allclose(jax.vmap(codec.decode)(z), x, atol=1e-5)
    gaps = [np.linalg.norm(v[:, None] - v[None], axis=-1) for v in (x, np.asarray(z))]
    np.testing.assert_allclose(*gaps, atol=1e-4)  # an isometry
    noisy = x + 0.3 * np.float32(np.random.default_rng(1).normal(size=x.shape))
    codec, values = autoencoder.pca(noisy.reshape(200, 2, 3), 2)
    back = jax.vmap(lambda v: codec.decode(codec.encode(v)))(noisy.reshape(200, 2, 3))
    left = float(np.mean(np.sum((back.reshape(200, -1) - noisy) ** 2, axis=1)))
    assert left == pytest.approx(float(values[2:].sum()), rel=1e-4)
    assert left > 0.2


W, TAU = np.float32([[1.5, 0.0], [0.0, 0.6], [0.8, 0.0]]), 0.6  # columns at right angles: independent posteriors


def linear_encoder(params, t, x, args):
    log_var = jnp.broadcast_to(params["log_var"], (2,))
    return jnp.stack([params["gain"] @ x, log_var])


def linear_decoder(params, t, z, args):
    return params @ z


def test_the_bound_of_a_linear_autoencoder_is_its_likelihood():
    """With the posterior for q the bound is -log N(x; 0, W W^T + tau^2 I); with another q it is more."""
    precision = np.diag(W.T @ W) / TAU**2 + 1.0
    exact = {"gain": jnp.asarray(W.T / TAU**2 / precision[:, None]), "log_var": -jnp.log(jnp.asarray(precision))}
    n = 4000
    cov = W @ W.T + TAU**2 * np.eye(3)
    x = np.float32(np.random.default_rng(0).multivariate_normal(np.zeros(3), cov, n))
    true = 0.5 * np.einsum("ni,ij,nj->n", x, np.linalg.inv(cov), x).mean()
    true += 0.5 * np.linalg.slogdet(2 * np.pi * cov)[1]

    def bound(encoder, **options):
        method = autoencoder.vae(
            (linear_encoder, encoder), (linear_decoder, jnp.asarray(W)), shape=(3,), latent=2, noise=TAU, **options
        )
        state = method.init(jax.random.key(0), None)
        return method, jax.jit(method.step)(state, jax.random.key(1), x)

    method, (state, metrics) = bound(exact)
    error = 5 * np.sqrt(3 / 2 / n) + 5e-3  # the code's noise alone: the rows are those of the truth
    assert abs(float(metrics["loss"]) - true) < error
    _, (_, worse) = bound({**exact, "log_var": jnp.zeros(2)})
    assert float(worse["loss"]) > true + 10 * error
    _, (_, heavier) = bound(exact, beta=2.0)
    assert float(heavier["loss"] - metrics["loss"]) == pytest.approx(float(metrics["kl"]), rel=1e-4)
    # E |x - D(z)|^2 of the posterior: the residual of its mean and tr W Cov(z | x) W^T
    gap = x - x @ np.asarray(exact["gain"]).T @ W.T
    squares = (np.sum(gap**2, axis=1).mean() + np.trace(W @ np.diag(1 / precision) @ W.T)) / 3
    assert float(metrics["rmse"]) == pytest.approx(np.sqrt(squares), rel=5 * np.sqrt(2 / 3 / n))
    codec = autoencoder.codec((linear_encoder, exact), (linear_decoder, jnp.asarray(W)), state)
    assert codec.decode(codec.encode(x[0])).shape == (3,)


# the method ---------------------------------------------------------------------------------------------------------

MEAN, COV = np.float32([0.5, -1.0]), np.float32([1.2, 0.4])


def gaussian_score(params, s, z, args):
    """Of N(MEAN, diag COV) * N(0, s), right for params = 1."""
    return params * (MEAN - z) / (COV + s)


def test_gaussian_data_have_the_marginals_of_the_closed_form():
    """PCA codes of a Gaussian on a plane in d = 6: the sample at T is N(mean, C + (1 - T) P), P onto the plane."""
    random, n, stop = np.random.default_rng(0), 8000, 0.6
    basis = np.float32(np.linalg.qr(random.normal(size=(6, 2)))[0])
    rows = np.float32((MEAN + np.sqrt(COV) * random.normal(size=(20_000, 2))) @ basis.T)
    given = autoencoder.Codec(lambda x: jnp.asarray(basis.T) @ x, lambda z: jnp.asarray(basis) @ z)
    method = latent_sb((gaussian_score, jnp.ones(())), rows=rows, codec=given, stop=stop, ts=bj.grids.uniform(80, stop))
    process = method.process(method.init(jax.random.key(0), None))
    x = np.asarray(bj.sample(process, bj.keys(jax.random.key(1), n), solver=bj.solvers.Euler())) @ basis
    variance = COV + (1.0 - stop)
    error = 5 * np.sqrt(variance / n) + 5 * np.sqrt(COV / 20_000)
    assert np.all(np.abs(x.mean(axis=0) - MEAN) < error)
    # Euler: h / (C + 1 - t) <= 0.0075 / 0.8 of the variance at most; and rows have a variance of their own
    bound = 5 * np.sqrt(2 / n) + 5 * np.sqrt(2 / 20_000) + 0.02
    assert np.all(np.abs(x.var(axis=0) / variance - 1.0) < bound)
    assert np.all(np.abs(x.var(axis=0) / COV - 1.0) > bound)  # the noise that stopping early leaves is seen


def test_the_true_score_is_where_the_loss_is_flat():
    random, n = np.random.default_rng(1), 20_000
    rows = np.float32(MEAN + np.sqrt(COV) * random.normal(size=(n, 2)))
    norms = []
    for value in (1.0, 1.3):
        method = latent_sb((gaussian_score, jnp.asarray(value)), rows=rows, stop=0.9, ema=None)
        state = method.init(jax.random.key(0), None)
        norms.append(float(jax.jit(method.step)(state, jax.random.key(2), rows)[1]["grad_norm"]))
    # d loss = 2 mean_i s_i (s_i - target_i): its parts have a root mean square below 2 * 1 * 3.2
    assert norms[0] < 5 * 6.4 / np.sqrt(n)
    assert norms[1] > 2 * norms[0]


def make(**changes):
    given = {"network": (gaussian_score, jnp.ones(())), "rows": plane(8, 2), **changes}
    return latent_sb(given.pop("network"), **given)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sigma": 0.0}, "sigma"),
        ({"stop": 1.0}, "stop must lie between 0 and 1"),
        ({"stop": "late"}, "stop"),
        ({"predict": "x1"}, "predict must be one of"),
        ({"codec": "pca"}, "codec must be a Codec"),
        ({"rows": np.zeros((0, 2))}, "at least one row"),
        ({"rows": np.full((3, 2), np.nan)}, "rows"),
        ({"ts": jnp.linspace(0.0, 1.0, 5)}, "ts must end at stop = 0.99 or before"),
    ],
)
def test_bad_input(changes, words):
    with pytest.raises(ValueError, match=words):
        make(**changes)


def test_bad_codecs():
    with pytest.raises(ValueError, match="dim = 3 is more than 2"):
        autoencoder.pca(plane(9, 2), 3)
    with pytest.raises(ValueError, match="n >= 2 rows"):
        autoencoder.pca(np.zeros((1, 2)), 1)
    net = (linear_decoder, jnp.asarray(W))
    with pytest.raises(ValueError, match="noise"):
        autoencoder.vae(net, net, shape=(3,), latent=2, noise=0.0)
    method = autoencoder.vae(net, net, shape=(3,), latent=2)
    with pytest.raises(ValueError, match="rows of shape"):
        method.step(method.init(jax.random.key(0), None), jax.random.key(1), np.zeros((4, 2), np.float32))
    with pytest.raises(ValueError, match="shape must"):
        autoencoder.vae(net, net, shape="three", latent=2)
    with pytest.raises(ValueError, match="latent"):
        autoencoder.vae(net, net, shape=(3,), latent=0)
    with pytest.raises(ValueError, match="x must"):
        autoencoder.pca("rows", 1)
    with pytest.raises(ValueError, match="state must be what fit returned for methods.vae"):
        autoencoder.codec(net, net, make().init(jax.random.key(0), None))
    state = make().init(jax.random.key(0), None)
    with pytest.raises(ValueError, match="a batch has rows of shape"):
        make().step(state, jax.random.key(1), np.zeros((4, 3), np.float32))


@pytest.mark.slow
def test_a_trained_autoencoder_and_bridge_give_back_a_plane():
    """A VAE of MLPs on a plane in d = 6, then the bridge on its codes: samples lie near the plane."""
    x, random = plane(2000), nnx.Rngs(0)
    encoder = bj.networks.MLP((6,), outputs=(2, 2), width=32, depth=1, rngs=random)
    decoder = bj.networks.MLP((2,), outputs=(6,), width=32, depth=1, rngs=random)
    method = bj.methods.vae(encoder, decoder, shape=(6,), latent=2, noise=0.2, ema=0.99)
    state = bj.fit(method, x, jax.random.key(0), steps=2500, batch_size=128)
    assert bj.sample(method.process(state), bj.keys(jax.random.key(3), 8)).shape == (8, 6)
    codec = bj.methods.codec(encoder, decoder, state)
    back = np.asarray(jax.vmap(lambda v: codec.decode(codec.encode(v)))(x))
    assert np.sqrt(np.mean((back - x) ** 2)) < 0.2
    network = bj.networks.MLP((2,), width=32, depth=1, rngs=nnx.Rngs(1))
    learn = latent_sb(network, rows=x, codec=codec, predict="eps", ema=0.99)
    process = learn.process(bj.fit(learn, x, jax.random.key(1), steps=1500, batch_size=128))
    y = np.asarray(bj.sample(process, bj.keys(jax.random.key(2), 1000)))
    exact, _ = bj.methods.pca(x, 2)
    off = y - np.asarray(jax.vmap(lambda v: exact.decode(exact.encode(v)))(y))
    assert np.sqrt(np.mean(off**2)) < 0.2
    np.testing.assert_allclose(y.mean(0), x.mean(0), atol=0.3)


def test_all_noise_levels_to_the_stop_are_trained_on():
    """Codes at 0 and a score of 0: the loss is the mean of 1/s over [1 - T, 1], log(1 / (1 - T)) / T."""
    rows = np.zeros((20_000, 2), np.float32)
    method = latent_sb((lambda p, s, z, args: 0.0 * p * z, jnp.ones(())), rows=rows[:4], stop=0.9, ema=None)
    found = jax.jit(method.step)(method.init(jax.random.key(0), None), jax.random.key(1), rows)[1]["loss"]
    # E (|eps|^2 / 2)^2 = 2 for two coordinates, E 1/s^2 = (10 - 1) / 0.9
    assert abs(float(found) - np.log(10.0) / 0.9) < 5 * np.sqrt(2.0 * 10.0 / 20_000)


def test_the_noise_that_codes_start_with():
    """Rows at 0: the start is N(0, sigma^2 I)."""
    method = make(rows=np.zeros((4, 2)), sigma=1.7)
    start = method.process(method.init(jax.random.key(0), None)).start
    x = jax.vmap(lambda key: start(key, None))(bj.keys(jax.random.key(1), 2048))
    assert abs(float(x.var()) / 1.7**2 - 1) < 5 * np.sqrt(2 / 4096)
