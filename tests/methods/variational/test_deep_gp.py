"""Deep Gaussian processes: bounds against the evidence, chains against the laws they should leave, dense algebra."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bridgejax as bj
from bridgejax.gp.covariances import pairwise
from bridgejax.gp.inducing import features
from bridgejax.methods.variational import _posteriors as posteriors
from bridgejax.methods.variational._bounds import estimate
from bridgejax.training import adam

RNG = np.random.default_rng(2)
N, M = 60, 6
X = np.sort(RNG.uniform(-2.0, 2.0, N))[:, None].astype(np.float32)
Y = (np.sin(2.0 * X[:, 0]) + 0.2 * RNG.normal(size=N)).astype(np.float32)
DATA = {"source": jnp.asarray(X), "target": jnp.asarray(Y)}


def made(posterior, layers=1, **options):
    given = dict(inducing=M, covariance=bj.gp.rbf(0.8), likelihood=bj.gp.gaussian(0.3), steps=4)
    return bj.methods.deep_gp(X, Y, posterior=posterior, layers=layers, **{**given, **options})


def first(method):
    return method.process(method.init(jax.random.key(0), None))


def with_params(process, change):
    """The process with changed parameters of its posterior."""
    function = process.decode
    params = {**function.params, "posterior": change(function.params["posterior"])}
    method_process = bj.methods.deep_gp.__globals__["_process"]
    return method_process(function.model, function.posterior, params)


def collapsed(function):
    layer = function.params["layers"][0]
    covariance = bj.gp.Covariance(function.model.layers[0].covariance, layer["covariance"])
    noise = float(jnp.exp(function.params["likelihood"]["log_scale"]))
    return float(bj.gp.collapsed_bound(covariance, layer["inducing"], X, Y, noise))


def best_law(function):
    """The exact posterior of v, mean and root, of one layer with Gaussian noise."""
    layer = function.params["layers"][0]
    apply, z = function.model.layers[0].covariance, layer["inducing"]
    lower = bj.gp.root(pairwise(apply, layer["covariance"], z, z)).lower
    a, _ = features(apply, layer["covariance"], z, lower, jnp.asarray(X))
    square = jnp.exp(2.0 * function.params["likelihood"]["log_scale"])
    inner = jnp.eye(M) + a @ a.T / square
    mean = jnp.linalg.solve(inner, a @ Y) / square
    return mean[:, None], jnp.linalg.cholesky(jnp.linalg.inv(inner))[None]


def at_best(posterior):
    mean, scale = posterior
    return {"mean": mean, "scale": scale}


@pytest.mark.parametrize("posterior", ["mean_field", "full", "ddvi", "dbvi"])
def test_no_bound_is_above_the_collapsed_one(posterior):
    """Before training, and of the full law at its best: there it is that bound."""
    process = first(made(posterior))
    function = process.decode
    if posterior in ("ddvi", "dbvi"):
        w = bj.log_weights(process, bj.keys(jax.random.key(1), 256), bj.methods.log_joint(process, X, Y))
        value, error = float(jnp.mean(w)), float(jnp.std(w)) / 16
    else:
        keys = jax.random.split(jax.random.key(1), N)
        terms = estimate(function.model, function.posterior, N, function.params, keys[0], X, Y[:, None], keys)
        value, error = float(terms.data - terms.kl), 0.0
    assert value < collapsed(function) + 3 * error
    assert value > collapsed(function) - 1e4
    if posterior == "full":
        best = with_params(process, lambda own: [at_best(best_law(function))]).decode
        terms = estimate(best.model, best.posterior, N, best.params, keys[0], X, Y[:, None], keys)
        np.testing.assert_allclose(terms.data - terms.kl, collapsed(function), atol=2e-2)
        assert float(terms.data) > collapsed(function) + 1.0  # without the KL it would be no bound


@pytest.mark.parametrize("posterior", ["ddvi", "dbvi"])
def test_weights_of_a_chain_average_to_the_evidence_whatever_was_learnt(posterior):
    """log E exp(w) is the collapsed bound for a random network, any n and mu, and four steps."""
    process = first(made(posterior))
    best = at_best(best_law(process.decode))

    def change(own):
        keys = iter(jax.random.split(jax.random.key(3), 100))
        shaken = jax.tree.map(lambda leaf: leaf + 0.01 * jax.random.normal(next(keys), leaf.shape), own)
        return {**shaken, "place": [{"mean": best["mean"] + 0.02, "scale": 1.1 * best["scale"]}]}

    changed = with_params(process, change)
    w = bj.log_weights(changed, bj.keys(jax.random.key(1), 4096), bj.methods.log_joint(changed, X, Y))
    assert bj.weights.ess(w) > 0.1
    assert abs(float(bj.weights.log_z(w)) - collapsed(process.decode)) < 5 * float(bj.weights.log_z_error(w))
    assert float(jnp.mean(w)) < float(bj.weights.log_z(w)) - 0.02  # it is not exact all the same


def test_a_walk_is_weighed_by_the_kernels_of_its_process():
    """The very path, made again from its noise, under the laws that ``log_weights`` takes."""
    process = first(made("dbvi", steps=3))

    def change(own):
        keys = iter(jax.random.split(jax.random.key(3), 100))
        return jax.tree.map(lambda leaf: leaf + 0.2 * jax.random.normal(next(keys), leaf.shape), own)

    process, key = with_params(process, change), jax.random.key(1)
    chain = process.decode.posterior.chain(process.decode.params)
    noise = jax.random.normal(key, (4, M))
    x, T = process.start.mean + noise[0], process.dynamics.T
    total = -process.start.log_prob(x)
    for k in range(3):
        mean, scale = chain.forward(k, x)
        y, t, u = mean + scale * noise[k + 1], chain.ts[k], chain.ts[k + 1]
        total += process.backward.kernel.log_prob(T - u, T - t, y, x, None)
        total -= process.dynamics.kernel.log_prob(t, u, x, y, None)
        x = y
    walked = posteriors.walk(chain, key)
    np.testing.assert_allclose(walked.end, x, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(walked.gain, total, rtol=1e-4)


def test_the_loss_is_the_mean_log_weight():
    """One walk of training against two kernels, at a chain far from the prior."""
    process = first(made("dbvi", inducing=3))

    def change(own):
        keys = iter(jax.random.split(jax.random.key(3), 100))
        return jax.tree.map(lambda leaf: leaf + 0.02 * jax.random.normal(next(keys), leaf.shape), own)

    process = with_params(process, change)
    function, count = process.decode, 2048
    w = bj.log_weights(process, bj.keys(jax.random.key(1), count), bj.methods.log_joint(process, X, Y))
    keys = jax.random.split(jax.random.key(2), N)

    def one(key):
        terms = estimate(function.model, function.posterior, N, function.params, key, X, Y[:, None], keys)
        return terms.data - terms.kl

    bounds = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(4), count))
    error = float(jnp.sqrt((jnp.var(w) + jnp.var(bounds)) / count))
    assert abs(float(jnp.mean(bounds) - jnp.mean(w))) < 5 * error


def test_without_a_network_the_chain_leaves_its_reference():
    """N(mu, I) for any number of steps, and by the walk of training as by the sampler."""
    process = first(made("dbvi", steps=3))
    shapes, mu = process.decode.posterior.shapes, jnp.linspace(-1.0, 2.0, M)
    chain = replace(process.decode.posterior.chain(process.decode.params), mean=mu)
    keys = jax.random.split(jax.random.key(1), 20_000)
    ends = jax.vmap(lambda key: posteriors.walk(chain, key).end)(keys)
    np.testing.assert_allclose(ends.mean(0), mu, atol=5 / np.sqrt(20_000))
    np.testing.assert_allclose(np.cov(ends.T), np.eye(shapes.size), atol=5 * np.sqrt(2 / 20_000))
    sampler = posteriors.chain_process(chain, lambda key, w, args: w)
    ends = bj.sample(sampler, bj.keys(jax.random.key(2), 20_000))
    np.testing.assert_allclose(ends.mean(0), mu, atol=5 / np.sqrt(20_000))
    np.testing.assert_allclose(np.cov(ends.T), np.eye(shapes.size), atol=5 * np.sqrt(2 / 20_000))


def test_dbvi_without_its_mean_is_ddvi():
    one, two = first(made("ddvi")), first(made("dbvi"))
    key = jax.random.key(5)
    ends = [posteriors.walk(p.decode.posterior.chain(p.decode.params), key) for p in (one, two)]
    np.testing.assert_array_equal(ends[0].end, ends[1].end)
    np.testing.assert_array_equal(ends[0].gain, ends[1].gain)


def test_gradients_of_parts_average_to_that_of_the_whole():
    method = made("full")
    params, function = method.init(jax.random.key(0), None).params, first(method).decode
    keys = jax.random.split(jax.random.key(1), N)

    def bound(params, x, y, keys):
        terms = estimate(function.model, function.posterior, N, params, keys[0], x, y[:, None], keys)
        return terms.data - terms.kl

    gradient = jax.jit(jax.grad(bound))
    whole = gradient(params, X, Y, keys)
    parts = [gradient(params, X[i : i + 12], Y[i : i + 12], keys[:12]) for i in range(0, N, 12)]
    mean = jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *parts)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(mean), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * float(jnp.max(jnp.abs(a))))


def test_two_layers_are_one_on_the_draws_of_the_other():
    process = first(made("ddvi", layers=2, width=2, skip=True))
    function = process.decode
    v = [jnp.asarray(RNG.normal(size=shape), jnp.float32) for shape in function.posterior.shapes.layers]
    noise = [jnp.asarray(RNG.normal(size=(N, 2)), jnp.float32)]
    mean, variance, _ = function.model.propagate(function.params, v, jnp.asarray(X), noise)
    f = X
    for index, layer in enumerate(function.params["layers"]):
        k = bj.gp.Covariance(function.model.layers[index].covariance, layer["covariance"])
        given = np.hstack([f, X]) if index else f
        inner = np.asarray(bj.gp.gram(k, layer["inducing"]), np.float64)
        lower = np.linalg.cholesky(inner + 100 * np.finfo(np.float32).eps * np.eye(M))
        a = np.linalg.solve(lower, np.asarray(bj.gp.gram(k, layer["inducing"], given), np.float64))
        means, variances = a.T @ np.asarray(v[index]), (1.0 - np.sum(a**2, 0))[:, None]
        if index == 0:
            means = means + given @ np.asarray(function.model.layers[0].mean)
            f = means + np.sqrt(np.maximum(variances, 0.0)) * np.asarray(noise[0])
    np.testing.assert_allclose(mean, means, atol=2e-2)
    np.testing.assert_allclose(variance, np.broadcast_to(variances, variance.shape), atol=2e-2)


def test_predictions_of_the_exact_law_are_those_of_the_sparse_posterior():
    process = first(made("full"))
    law = best_law(process.decode)
    process = with_params(process, lambda own: [at_best(law)])
    function, at = process.decode, np.linspace(-2.0, 2.0, 9, dtype=np.float32)[:, None]
    layer = function.params["layers"][0]
    apply, z = function.model.layers[0].covariance, layer["inducing"]
    lower = bj.gp.root(pairwise(apply, layer["covariance"], z, z)).lower
    a, rest = features(apply, layer["covariance"], z, lower, jnp.asarray(at))
    mean = (a.T @ law[0])[:, 0]
    variance = rest + jnp.sum((law[1][0].T @ a) ** 2, axis=0) + 0.3**2
    targets = jnp.sin(2.0 * at[:, 0])
    said = bj.methods.predict(process, jax.random.key(1), at, targets, draws=4000)
    np.testing.assert_allclose(said.mean[:, 0], mean, atol=5 * float(jnp.sqrt(jnp.max(variance) / 4000)))
    np.testing.assert_allclose(said.variance[:, 0], variance, rtol=5 * np.sqrt(2 / 4000))
    exact = -0.5 * ((targets - mean) ** 2 / variance + jnp.log(2 * jnp.pi * variance))
    np.testing.assert_allclose(said.log_prob, exact, atol=0.05)
    np.testing.assert_allclose(said.cdf[:, 0], jax.scipy.stats.norm.cdf(targets, mean, jnp.sqrt(variance)), atol=0.05)
    levels = (0.05, 0.5, 0.9)
    found = bj.methods.predict(process, jax.random.key(1), at, draws=4000, quantiles=levels).quantiles[..., 0]
    deviations = jnp.sqrt(variance)
    for level, got in zip(levels, found, strict=True):
        wanted = mean + deviations * jax.scipy.stats.norm.ppf(level)
        np.testing.assert_allclose(got, wanted, atol=5 * 2.5 * float(jnp.max(deviations)) / np.sqrt(4000))
    drawn = bj.sample(process, bj.keys(jax.random.key(2), 4000), jnp.full((4000, 1), 0.5))
    spot = int(np.argmin(np.abs(at - 0.5)))
    np.testing.assert_allclose(jnp.mean(drawn), mean[spot], atol=5 * float(jnp.sqrt(variance[spot] / 4000)))
    np.testing.assert_allclose(jnp.var(drawn), variance[spot], rtol=5 * np.sqrt(2 / 4000))


@pytest.mark.slow
@pytest.mark.parametrize(("posterior", "gap"), [("full", 0.1), ("mean_field", 2.0), ("ddvi", 0.5), ("dbvi", 0.5)])
def test_training_comes_close_to_the_collapsed_bound(posterior, gap):
    method = made(posterior, draws=8 if posterior[0] == "d" else 1, optimizer=adam(2e-2, clip=10.0, steps=1500))
    state = bj.fit(method, DATA, jax.random.key(0), steps=1500, batch_size=N)
    process = method.process(state)
    function = process.decode
    if posterior in ("ddvi", "dbvi"):
        w = bj.log_weights(process, bj.keys(jax.random.key(1), 512), bj.methods.log_joint(process, X, Y))
        value = float(jnp.mean(w))
    else:
        value = float(method.step(state, jax.random.key(1), DATA)[1]["bound"])
    assert collapsed(function) - gap < value < collapsed(function) + 0.1


def test_labels_train_by_softmax_and_by_bernoulli():
    labels = (Y > 0).astype(np.int32)
    for likelihood in (bj.gp.softmax(2), bj.gp.bernoulli()):
        method = bj.methods.deep_gp(X, labels, posterior="mean_field", inducing=M, layers=1, likelihood=likelihood)
        data = {"source": jnp.asarray(X), "target": jnp.asarray(labels)}
        state = bj.fit(method, data, jax.random.key(0), steps=60, batch_size=N)
        said = bj.methods.predict(method.process(state), jax.random.key(1), X, labels, draws=16)
        assert float(jnp.mean(said.log_prob)) > np.log(0.5) + 0.1  # better than a coin
        own = said.probabilities[jnp.arange(N), labels]
        np.testing.assert_allclose(jnp.log(own), said.log_prob, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(said.probabilities.sum(axis=1), 1.0, rtol=1e-5)
        with pytest.raises(ValueError, match="targets must be labels 0 .. 1, those that were learnt"):
            bj.methods.predict(method.process(state), jax.random.key(1), X, labels + 1, draws=2)
        with pytest.raises(ValueError, match="quantiles are of numbers"):
            bj.methods.predict(method.process(state), jax.random.key(1), X, draws=2, quantiles=(0.5,))


def test_quantiles_of_heavy_tails_are_those_of_the_draws():
    process = first(made("full", likelihood=bj.gp.student_t(0.5, 3.0)))
    levels = np.array([0.01, 0.5, 0.99])
    said = bj.methods.predict(process, jax.random.key(1), X[:1], draws=2000, quantiles=levels)
    drawn = bj.sample(process, bj.keys(jax.random.key(2), 20_000), jnp.tile(X[:1], (20_000, 1)))
    for level, q in zip(levels, said.quantiles[:, 0, 0], strict=True):
        error = np.sqrt(level * (1 - level) * (1 / 20_000 + 1 / 2000))
        assert abs(float(jnp.mean(drawn <= q)) - level) < 5 * error
    assert float(said.variance[0, 0]) > 0.5**2 * 3  # s^2 nu / (nu - 2)


NEGATIVE = bj.gp.Covariance(lambda params, x, y: 1.0 - params["slope"] * jnp.sum((x - y) ** 2), {"slope": jnp.ones(())})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (dict(residual="diagonal"), "residual must be 'full', 'mean_field' or None, got 'diagonal'"),
        (dict(inducing=61), "inducing must be at most the number of different rows of inputs, 60, got 61"),
        (dict(inputs=np.hstack([X, np.ones_like(X)])), "inputs column 1 has one value for all rows"),
        (dict(targets=Y[:-1]), r"targets must have shape \(60,\) or \(60, p\), got \(59,\)"),
        (dict(likelihood=bj.gp.softmax(3)), "targets must be labels 0 .. 2"),
        (dict(covariance=NEGATIVE), "covariance is not positive definite: at the 6 inducing inputs its least eigenv"),
        (dict(posterior="full", network=(lambda p, t, x, a: x, {})), "network is for posterior 'ddvi' and 'dbvi'"),
        (dict(network=(lambda p, t, x, a: x[:2], jnp.ones(1))), "network must map the 12 inducing values"),
        (dict(rows=59), "rows must be an integer >= 60, got 59"),
    ],
)
def test_what_does_not_fit_is_said(given, words):
    with pytest.raises(ValueError, match=words):
        bj.methods.deep_gp(**{**dict(inputs=X, targets=Y, inducing=M), **given})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"source": X[:50], "target": Y[:50]}, "data has 50 rows and the method was made of 60; make it with rows=50"),
        (bj.data.Pairs(X[:50], Y[:50], 10, 0, bj.couplings.paired), "data has 50 rows and the method was made of 60"),
        (
            bj.data.Passes([DATA]),
            "rows must be given to deep_gp where the data is no dictionary of arrays and no data.Pairs, got Passes",
        ),
        (
            lambda step: DATA,
            "rows must be given to deep_gp where the data is no dictionary of arrays and no data.Pairs, got function",
        ),
    ],
)
def test_a_bound_of_an_unknown_number_of_rows_is_refused(data, words):
    with pytest.raises(ValueError, match=words):
        bj.fit(made("mean_field"), data, jax.random.key(0), steps=1, batch_size=50, progress=False)


def test_a_batch_stands_for_the_rows_that_are_said():
    """A batch of all N rows, as one of k N: k times the log likelihood, the same KL."""
    laws = [made("mean_field", rows=rows) for rows in (None, 3 * N)]
    one, three = (law.step(law.init(jax.random.key(0), None), jax.random.key(1), DATA)[1] for law in laws)
    likelihood = one["bound"] + one["kl"]
    np.testing.assert_allclose(three["bound"], 3.0 * likelihood - three["kl"], rtol=1e-5)
    np.testing.assert_allclose(three["kl"], one["kl"], rtol=1e-6)
    state = bj.fit(laws[1], bj.data.Passes([DATA]), jax.random.key(0), steps=1, batch_size=None, progress=False)
    assert jnp.isfinite(laws[1].step(state, jax.random.key(1), DATA)[1]["bound"])


def test_a_process_of_another_law_has_no_joint_density():
    with pytest.raises(ValueError, match="process must be of methods.deep_gp with posterior 'ddvi' or 'dbvi'"):
        bj.methods.log_joint(first(made("full")), X, Y)
    with pytest.raises(ValueError, match="args must be one input for each sample"):
        bj.sample(first(made("full")), bj.keys(jax.random.key(0), 2))


def test_batches_of_a_joint_density_add_up_to_that_of_all_rows():
    process = first(made("ddvi", residual=None))
    w = jax.random.normal(jax.random.key(3), (M,))
    parts = [bj.methods.log_joint(process, X[k::3], Y[k::3], rows=N)(w) for k in range(3)]
    whole = bj.methods.log_joint(process, X, Y)(w)
    np.testing.assert_allclose(np.mean(parts), whole, rtol=1e-5)
    assert abs(float(parts[0] - whole)) > 1e-3 * abs(float(whole))
    with pytest.raises(ValueError, match="rows must be an integer >= 60, got 59"):
        bj.methods.log_joint(process, X, Y, rows=59)
    with pytest.raises(ValueError, match="as many rows"):
        bj.methods.log_joint(process, X, Y[:-1])


def test_hidden_layers_of_a_joint_density_are_those_of_its_key():
    process, w = first(made("ddvi", layers=2, residual=None)), jnp.ones(2 * M)
    values = [float(bj.methods.log_joint(process, X, Y, key=jax.random.key(k))(w)) for k in (0, 0, 1)]
    assert values[0] == values[1] != values[2]
    assert values[0] == float(bj.methods.log_joint(process, X, Y)(w))


def test_predictions_from_given_inducing_values_are_those_of_the_best_law():
    process = first(made("ddvi", residual=None))
    mean, root = best_law(process.decode)
    noise = jax.random.normal(jax.random.key(0), (4000, M))
    ends = mean[:, 0] + noise @ root[0].T
    given = bj.methods.predict(process, jax.random.key(1), X, Y, ends=ends)
    best = with_params(first(made("full")), lambda own: [at_best((mean, root))])
    exact = bj.methods.predict(best, jax.random.key(1), X, Y, draws=4000)
    assert given.draws.shape == (4000, N, 1)
    np.testing.assert_allclose(given.mean, exact.mean, atol=5 * float(jnp.max(given.draws.std(0))) * np.sqrt(2 / 4000))
    np.testing.assert_allclose(given.log_prob, exact.log_prob, atol=0.05)
    with pytest.raises(ValueError, match=r"ends must have shape \(draws, 6\)"):
        bj.methods.predict(process, jax.random.key(1), X, Y, ends=ends[:, :4])


def test_thousands_of_inducing_values_are_trained_in_steps_of_bounded_size():
    targets = np.tile(Y[:, None], (1, 40))
    method = bj.methods.deep_gp(X, targets, posterior="ddvi", layers=1, inducing=40, steps=10)
    data, losses = {"source": jnp.asarray(X), "target": jnp.asarray(targets)}, []
    state, step = method.init(jax.random.key(0), None), jax.jit(method.step)
    for k in range(6):
        state, metrics = step(state, jax.random.key(k), data)
        losses.append(float(metrics["loss"]))
    assert max(losses) < 10 * losses[0]
