"""Targets: every log Z against quadrature or its published digits, exact draws against integrals of the density."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import bridgejax as bj
from bridgejax.oracles import _posteriors as posteriors

KEYS = bj.keys(jax.random.key(0), 4_000)


def integral(target, u, jacobian, x):
    """log of the sum over a grid in two dimensions: nodes u, coordinates x(u, v) of shape (n, n, 2), dx/du."""
    values = jax.jit(jax.vmap(target))(jnp.asarray(x.reshape(-1, 2), jnp.float32))
    h = u[1] - u[0]
    return float(np.log(np.sum(np.exp(np.float64(values)) * jacobian.ravel()) * h**2))


def plane(u):
    return np.stack(np.meshgrid(u, u, indexing="ij"), -1)


@pytest.mark.parametrize(("make", "end", "h"), [(bj.targets.gmm9, 10.0, 0.1), (bj.targets.gmm40, 48.0, 0.5)])
def test_mixtures_integrate_to_one(make, end, h):
    u = np.arange(-end, end, h)
    x = plane(u)
    assert integral(make(), u, np.ones(x.shape[:2]), x) == pytest.approx(make().log_z, abs=1e-4)


def test_heavy_tails_and_the_funnel_integrate_to_one_in_their_own_coordinates():
    u = np.linspace(-12.0, 12.0, 481)
    p, s = plane(u), plane(np.sinh(u))
    mixture = bj.targets.student_t_mixture(2, 3)
    assert integral(mixture, u, np.prod(np.cosh(p), -1), s) == pytest.approx(0.0, abs=1e-3)  # 5e-4 lies outside
    # x_2 = e^(x_1 / 2) z makes the funnel a Gaussian of standard deviations 3 and 1
    x = np.stack([p[..., 0], np.exp(p[..., 0] / 2) * p[..., 1]], -1)
    assert integral(bj.targets.funnel(2), u, np.exp(p[..., 0] / 2), x) == pytest.approx(math.log(math.erf(4 / 2**0.5)),
                                                                                      abs=1e-4)  # fmt: skip


def test_the_density_of_the_funnel_is_that_of_its_gaussians():
    """x_1 ~ N(0, 9), and the others N(0, e^(x_1)) given it."""
    x = np.array([2.5, 0.5, -3.0])
    truth = scipy.stats.norm(0.0, 3.0).logpdf(x[0]) + scipy.stats.norm(0.0, np.exp(x[0] / 2)).logpdf(x[1:]).sum()
    assert float(bj.targets.funnel(3)(jnp.asarray(x))) == pytest.approx(truth, rel=1e-5)


def test_the_log_z_of_wells():
    assert bj.targets.double_well(5, 5, 4.0).log_z == pytest.approx(-0.5410555, abs=1e-6)
    assert bj.targets.double_well(50, 5, 2.0).log_z == pytest.approx(42.8172427, abs=1e-6)
    assert bj.targets.many_well(32).log_z == pytest.approx(164.69568, abs=1e-5)
    u = np.arange(-6.0, 6.0, 0.05)
    x = plane(u)
    for target in (bj.targets.double_well(2, 1, 2.5), bj.targets.many_well(2)):
        assert integral(target, u, np.ones(x.shape[:2]), x) == pytest.approx(target.log_z, abs=1e-4)


def close(values, truth):
    values = np.float64(values)
    assert abs(values.mean() - truth) < 5 * values.std() / math.sqrt(len(values))


def test_draws_of_wells_have_the_moments_of_the_density():
    target = bj.targets.many_well(2)
    x = np.asarray(jax.jit(jax.vmap(target.sample))(KEYS))
    u = np.linspace(-6.0, 6.0, 4001)
    density = np.exp(-(u**4) + 6 * u**2 + u / 2)
    for f in (np.square, lambda v: v**4, lambda v: v > 0, np.sin):
        close(f(x[:, 0]), np.sum(f(u) * density) / np.sum(density))
    close(x[:, 0] > 0, 0.84431)
    close(x[:, 1] ** 2, 1.0)


def test_draws_of_the_funnel():
    f = np.asarray(jax.jit(jax.vmap(bj.targets.funnel().sample))(KEYS))
    close(f[:, 0] ** 2, 9.0)
    # a wrong width has a moment of so heavy a tail that five standard errors hide it
    assert scipy.stats.kstest(f[:, 7] * np.exp(-0.5 * f[:, 0]), "norm").pvalue > 1e-6


def test_nine_modes_and_their_spread():
    target = bj.targets.gmm9()
    means = target.log_density.args[0].means
    assert sorted(np.asarray(jax.vmap(target.modes)(means))) == list(range(9))
    assert np.allclose(target.log_density.args[0].cov(), (50 / 3 + 0.3) * np.eye(2), atol=1e-4)


def test_labels_of_sign_patterns_and_pytrees():
    target = bj.targets.double_well(5, 5, 4.0)
    assert target.num_modes == 32
    assert int(target.modes(jnp.array([2.0, -2.0, 2.0, -2.0, 2.0]))) == 1 + 4 + 16
    assert bj.targets.double_well(40, 40, 2.0).modes is None
    again = jax.tree.map(lambda leaf: leaf, bj.targets.gmm9())
    assert (again.dim, again.log_z, again.num_modes) == (2, 0.0, 9)


def test_a_target_of_ones_own():
    own = bj.targets.target(lambda x: -0.5 * jnp.sum(x**2), 3, log_z=1.5 * math.log(2 * math.pi))
    assert float(own(jnp.zeros(3))) == 0.0
    for density, match in ((lambda x: x, "one real number"), (3, "must be a function"),
                           (lambda x: x[:, 0].sum(), "does not take an x of shape")):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            bj.targets.target(density, 3)
    for call, match in (
        (lambda: bj.targets.double_well(2, 3), "at most dim"),
        (lambda: bj.targets.double_well(2, 2, -1.0), "delta"),
        (lambda: bj.targets.many_well(3), "even"),
        (lambda: bj.targets.funnel(1), "dim"),
        (lambda: bj.targets.gmm40(0), "dim"),
        (lambda: bj.targets.student_t_mixture(2, 2, float("nan")), "df"),
    ):
        with pytest.raises(ValueError, match=match):
            call()


def test_rings_integrate_to_their_constant_and_are_drawn_from():
    target = bj.targets.rings((0.3, 2.0), 0.2)
    r = np.linspace(1e-4, 4.0, 8001)  # in polar coordinates the density times r is a mixture of normals, cut off at 0
    values = jax.jit(jax.vmap(target))(jnp.asarray(np.stack([r, 0.0 * r], 1), jnp.float32))
    mass = np.sum(np.exp(np.float64(values)) * 2 * np.pi * r) * (r[1] - r[0])
    assert math.log(mass) == pytest.approx(target.log_z, abs=1e-3)
    x = np.asarray(jax.jit(jax.vmap(target.sample))(KEYS))
    share = float(jnp.mean(jax.vmap(target.modes)(x)))
    wanted = 1.0 / (1.0 + scipy.stats.norm.cdf(1.5))  # of the outer ring, but for the 1e-5 that lie nearer to the inner
    assert share == pytest.approx(wanted, abs=5 * math.sqrt(0.25 / len(x)))
    inner = np.linalg.norm(x[np.linalg.norm(x, axis=1) < 1.15], axis=1)
    assert scipy.stats.kstest(inner, scipy.stats.truncnorm(-1.5, np.inf, loc=0.3, scale=0.2).cdf).pvalue > 1e-6
    assert np.abs(np.mean(x / np.linalg.norm(x, axis=1, keepdims=True), axis=0)).max() < 5 * math.sqrt(0.5 / len(x))


def test_posteriors_are_prior_times_likelihood():
    random = np.random.default_rng(0)
    x = random.normal(size=26)
    r, n, s, e = (np.array(getattr(posteriors, name)) for name in ("_GERMINATED", "_SOWN", "_VARIETY", "_EXTRACT"))
    tau, a, b = math.exp(x[0]), x[1:5], x[5:]
    p = scipy.special.expit(a[0] + a[1] * s + a[2] * e + a[3] * s * e + b)
    wanted = scipy.stats.gamma.logpdf(tau, 0.01, scale=100.0) + x[0] + scipy.stats.norm.logpdf(a, scale=10.0).sum()
    wanted += scipy.stats.norm.logpdf(b, scale=tau**-0.5).sum() + scipy.stats.binom.logpmf(r, n, p).sum()
    assert float(bj.targets.seeds()(jnp.asarray(x, jnp.float32))) == pytest.approx(wanted, rel=1e-5)
    features, labels, w = random.normal(3.0, 2.0, (30, 2)), random.integers(0, 2, 30), random.normal(size=3)
    p = scipy.special.expit(w[0] + (features - features.mean(0)) / features.std(0) @ w[1:])
    wanted = scipy.stats.norm.logpdf(w).sum() + scipy.stats.bernoulli.logpmf(labels, p).sum()
    target = bj.targets.logistic_regression(features, labels)
    assert float(target(jnp.asarray(w, jnp.float32))) == pytest.approx(wanted, rel=1e-5)
    for bad, match in (
        ((features[0], labels), "features must be"),
        ((features, labels[:3]), "labels must be 30 zeros"),
    ):
        with pytest.raises(ValueError, match=match):
            bj.targets.logistic_regression(*bad)
    with pytest.raises(ValueError, match="radii must be"):
        bj.targets.rings((1.0, -2.0))


def test_a_random_walk_with_its_middle_unobserved():
    random = np.random.default_rng(1)
    x = random.normal(size=32)
    y, seen = np.array(posteriors._WALK), np.array(posteriors._SEEN)
    a, b, z = math.exp(x[0]), math.exp(x[1]), x[2:]
    norm = scipy.stats.norm.logpdf
    wanted = norm(x[:2], scale=2.0).sum() + norm(np.diff(z, prepend=0.0), scale=a).sum() + norm(y, z[seen], b).sum()
    target = bj.targets.brownian()
    assert float(target(jnp.asarray(x, jnp.float32))) == pytest.approx(wanted, rel=1e-5)
    # given a and b, y is normal with the covariance of the walk and of the noise; those two by quadrature
    logs = np.linspace(-6.0, 1.0, 141)
    walk = np.minimum.outer(seen, seen) + 1.0
    a, b = (np.exp(g).reshape(-1, 1, 1) for g in np.meshgrid(logs, logs, indexing="ij"))
    covariance = a**2 * walk + b**2 * np.eye(20)
    quadratic = (y * np.linalg.solve(covariance, np.broadcast_to(y[:, None], (len(a), 20, 1)))[..., 0]).sum(1)
    given = -0.5 * (quadratic + np.linalg.slogdet(covariance)[1] + 20 * math.log(2 * math.pi))
    prior = norm(np.log(a), scale=2.0).ravel() + norm(np.log(b), scale=2.0).ravel()
    step = logs[1] - logs[0]
    assert scipy.special.logsumexp(given + prior) + 2 * math.log(step) == pytest.approx(target.log_z, abs=1e-3)


def test_points_of_a_cox_process():
    counts, w = np.array([[3, 0], [1, 2]]), np.random.default_rng(2).normal(size=4)
    target = bj.targets.log_gaussian_cox(counts, mean=1.0, variance=0.5, length=0.4)
    centres = np.array([(0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)])
    kernel = 0.5 * np.exp(-np.linalg.norm(centres[:, None] - centres, axis=-1) / 0.4)
    root = np.linalg.cholesky(kernel)
    f = 1.0 + root @ w
    # as a density of f, which the volume of the map from w takes back
    prior = scipy.stats.multivariate_normal(np.ones(4), kernel).logpdf(f) + np.linalg.slogdet(root)[1]
    points = scipy.stats.poisson.logpmf(counts.ravel(), np.exp(f) / 4) + scipy.special.gammaln(counts.ravel() + 1)
    wanted = prior + points.sum() - counts.sum() * math.log(0.25)  # a Poisson process of rate 1 has 1/4 in each cell
    assert float(target(jnp.asarray(w, jnp.float32))) == pytest.approx(wanted, rel=1e-5)
    assert target.dim == 4
    for bad, match in (
        ({"counts": counts[0]}, "counts must be a square table"),
        ({"counts": counts + 0.5}, "counts must be whole numbers"),
        ({"counts": 0 * counts}, "counts hold no point"),
        ({"counts": counts, "length": 0.0}, "length must be positive"),
    ):
        with pytest.raises(ValueError, match=match):
            bj.targets.log_gaussian_cox(**bad)


def test_a_cox_process_expects_as_many_points_as_there_are():
    """E sum e^f / cells = e^(m + v/2) = n: the default mean is log n - v/2."""
    counts, w = np.array([[3, 0], [1, 2]]), jnp.array([0.3, -1.0, 0.5, 0.8])
    found, wanted = (
        bj.targets.log_gaussian_cox(counts, mean=mean, variance=0.5)(w) for mean in (None, math.log(6) - 0.25)
    )
    assert float(found) == pytest.approx(float(wanted), rel=1e-6)


def test_a_target_with_velocities_has_the_same_constant():
    target = bj.targets.with_velocity(bj.targets.funnel(3))
    x, v = jnp.array([0.5, 1.0, -0.3]), jnp.array([0.2, -1.4, 0.7])
    want = float(bj.targets.funnel(3)(x)) + scipy.stats.norm.logpdf(v).sum()
    assert float(target((x, v))) == pytest.approx(want, rel=1e-5)


def test_rings_of_another_width_are_drawn_as_wide():
    target = bj.targets.rings((2.0,), 0.3)
    x = np.asarray(jax.vmap(target.sample)(bj.keys(jax.random.key(1), 4096)), np.float64)
    r = np.linalg.norm(x, axis=1)
    assert abs(r.mean() - 2.0) < 5 * 0.3 / 64
    assert abs(r.std() / 0.3 - 1) < 5 / math.sqrt(2 * 4096)
