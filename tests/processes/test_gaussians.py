"""Gaussian data under every schedule: the closed forms against solved flows, matrix algebra and other packages."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.tree_util import Partial
from sklearn.covariance import ledoit_wolf

from bridgejax.bridges import probability_flow
from bridgejax.oracles import fit_gaussian, gaussian_flow, gaussian_law, low_rank_gaussian
from bridgejax.processes import mixtures, schedules
from bridgejax.processes._keys import keys
from bridgejax.solve import grids, simulate

RNG = np.random.default_rng(7)
D, N = 3, 20_000
MEAN = np.array([0.5, -1.0, 2.0])
COV = np.array([[2.0, 0.6, -0.3], [0.6, 0.5, 0.1], [-0.3, 0.1, 0.2]])
POINT = RNG.normal(size=D)
SCHEDULES = sorted(schedules.__all__)


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def made(name):
    return getattr(schedules, name)()


def noised(schedule, t):
    """Scale and covariance of x_t, without the eigendecomposition that is tested."""
    alpha = schedule.alpha(t)
    return alpha, alpha**2 * jnp.asarray(COV) + schedule.variance(0.0, t) * jnp.eye(D)


def exact_score(schedule, t, x, args):
    alpha, cov = noised(schedule, t)
    return jnp.linalg.solve(cov, alpha * MEAN - x)


def exact_denoiser(schedule, t, x, args):
    alpha, cov = noised(schedule, t)
    return MEAN + alpha * jnp.asarray(COV) @ jnp.linalg.solve(cov, x - alpha * MEAN)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_flow_is_what_a_fine_solve_finds(name):
    schedule = made(name)
    if schedule.zero_terminal_snr:  # the score says nothing about data at T
        flow = probability_flow(schedule, denoiser=Partial(exact_denoiser, schedule))
    else:
        flow = probability_flow(schedule, score=Partial(exact_score, schedule))
    ts = grids.log_snr(400, schedule, log_snr_max=4.0)[:-1]
    start = schedule.alpha(schedule.T) * MEAN + schedule.sigma(schedule.T) * POINT
    solved = simulate(flow, jax.random.key(0), start, ts, solver=dfx.Tsit5())
    found = gaussian_flow(gaussian_law(MEAN, COV), schedule)(schedule.T, schedule.T - ts[-1], start)
    assert found.dtype == jnp.float64
    assert np.abs(found - start).max() > 0.1  # it has gone somewhere
    np.testing.assert_allclose(found, solved, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_flow_is_a_semigroup_with_inverses(name):
    schedule = made(name)
    flow, x = gaussian_flow(gaussian_law(MEAN, COV), schedule), jnp.asarray(POINT)
    for shares in ((1.0, 0.4, 0.0), (0.0, 0.7, 0.3), (0.2, 0.9, 1.0)):
        s, t, u = (share * schedule.T for share in shares)
        np.testing.assert_allclose(flow(t, u, flow(s, t, x)), flow(s, u, x), rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(flow(u, s, flow(s, u, x)), x, rtol=1e-8, atol=1e-9)
        np.testing.assert_array_less(np.abs(flow(s, s, x) - x), 1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_flow_carries_each_marginal_to_the_other(name):
    """An affine map of N(m_s, C_s): its matrix A has A C_s A^T = C_t, and it takes the mean to the mean."""
    schedule = made(name)
    flow = gaussian_flow(gaussian_law(MEAN, COV), schedule)
    s, t = schedule.T, 0.3 * schedule.T
    (alpha_s, cov_s), (alpha_t, cov_t) = noised(schedule, s), noised(schedule, t)
    matrix = jax.jacobian(lambda x: flow(s, t, x))(jnp.asarray(POINT))
    np.testing.assert_allclose(matrix @ cov_s @ matrix.T, cov_t, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(flow(s, t, alpha_s * MEAN), alpha_t * MEAN, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(flow.log_det(s, t), jnp.linalg.slogdet(matrix)[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_denoiser_and_the_score_are_those_of_matrix_algebra(name):
    schedule, x = made(name), jnp.asarray(POINT)
    flow = gaussian_flow(gaussian_law(MEAN, COV), schedule)
    for share in (0.01, 0.5, 1.0):
        t = share * schedule.T
        np.testing.assert_allclose(flow.denoiser(t, x), exact_denoiser(schedule, t, x, None), rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(flow.score(t, x), exact_score(schedule, t, x, None), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(flow.denoiser(0.0, x), x, rtol=1e-12)  # clean data stay what they are
    mixture = mixtures.mixture_denoiser(mixtures.gaussian_mixture(MEAN[None], COV[None]), schedule)
    np.testing.assert_allclose(flow.denoiser(0.4 * schedule.T, x), mixture(0.4 * schedule.T, x), rtol=1e-8, atol=1e-8)


def test_the_low_rank_form_is_the_full_one():
    d, k = 6, 2
    vectors = np.linalg.qr(RNG.normal(size=(d, k)))[0]
    values, rest, mean, x = np.array([5.0, 0.1]), 0.7, RNG.normal(size=d), RNG.normal(size=d)
    cov = vectors @ np.diag(values) @ vectors.T + rest * (np.eye(d) - vectors @ vectors.T)
    low, full = low_rank_gaussian(mean, vectors, values, rest), gaussian_law(mean, cov)
    np.testing.assert_allclose(low.cov(), cov, atol=1e-12)
    np.testing.assert_allclose(low.leading(), 5.0)
    np.testing.assert_allclose(low.log_prob(jnp.asarray(x)), full.log_prob(jnp.asarray(x)), rtol=1e-10)
    for name in SCHEDULES:
        schedule = made(name)
        pair = [gaussian_flow(law, schedule) for law in (low, full)]
        for s, t in ((1.0, 0.2), (0.0, 1.0)):
            s, t = s * schedule.T, t * schedule.T
            small, whole = (flow(s, t, jnp.asarray(x)) for flow in pair)
            np.testing.assert_allclose(small, whole, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(*(flow.log_det(s, t) for flow in pair), rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(*(flow.denoiser(t, jnp.asarray(x)) for flow in pair), rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(
                *(flow.score(t + 0.1 * s, jnp.asarray(x)) for flow in pair), rtol=1e-9, atol=1e-9
            )


@pytest.mark.parametrize("covariance", [0.49, np.array([2.0, 0.5, 0.1])], ids=["a number", "variances"])
def test_a_number_and_variances_are_diagonal_covariances(covariance):
    matrix = np.diag(np.broadcast_to(covariance, (D,)))
    schedule, x = made("vp"), jnp.asarray(POINT)
    law, full = gaussian_law(MEAN, covariance), gaussian_law(MEAN, matrix)
    np.testing.assert_allclose(law.cov(), matrix, atol=1e-12)
    np.testing.assert_allclose(law.leading(), matrix.max())
    here, there = (gaussian_flow(one, schedule)(1.0, 0.1, x) for one in (law, full))
    np.testing.assert_allclose(here, there, rtol=1e-10)


def test_draws_and_density_are_those_of_the_normal_law():
    law = gaussian_law(MEAN, COV)
    x = np.asarray(jax.vmap(law)(keys(jax.random.key(1), N)))
    variances = np.diag(COV)
    assert np.all(np.abs(x.mean(0) - MEAN) < 5 * np.sqrt(variances / N))
    spread = np.sqrt((np.outer(variances, variances) + COV**2) / N)  # of the entries of a sample covariance
    assert np.all(np.abs(np.cov(x.T) - COV) < 5 * spread)
    truth = scipy.stats.multivariate_normal(MEAN, COV).logpdf(POINT)
    np.testing.assert_allclose(law.log_prob(jnp.asarray(POINT)), truth, rtol=1e-10)
    alpha, cov = noised(made("ou"), 0.5)
    later = law.diffuse(made("ou"), 0.5)
    np.testing.assert_allclose(later.cov(), cov, rtol=1e-10)
    np.testing.assert_allclose(later.mean, alpha * MEAN, rtol=1e-12)


def test_a_flow_is_a_pytree_for_jit_and_vmap_over_states_times_and_laws():
    schedule = made("karras")
    flow = gaussian_flow(gaussian_law(MEAN, COV), schedule)
    xs, ts = jnp.asarray(RNG.normal(size=(4, D))), jnp.array([0.0, 1.0, 5.0, 80.0])
    mapped = jax.jit(jax.vmap(lambda flow, t, x: flow(80.0, t, x), (None, 0, 0)))(flow, ts, xs)
    one_by_one = jnp.stack([flow(80.0, t, x) for t, x in zip(ts, xs, strict=True)])
    np.testing.assert_allclose(mapped, one_by_one, rtol=1e-10)

    def from_covariance(cov):
        return gaussian_flow(gaussian_law(MEAN, cov), schedule)(80.0, 1.0, xs[0])

    covs = jnp.stack([jnp.asarray(COV), 2.0 * jnp.asarray(COV)])
    np.testing.assert_allclose(jax.vmap(from_covariance)(covs)[1], from_covariance(2.0 * COV), rtol=1e-9)


def test_states_of_any_shape_keep_shape_and_dtype():
    shape = (2, 2)
    matrix = np.diag([1.0, 2.0, 3.0, 4.0]) + 0.1
    law = gaussian_law(np.zeros(shape), matrix)
    flow, x = gaussian_flow(law, made("vp")), RNG.normal(size=shape)
    flat = gaussian_flow(gaussian_law(np.zeros(4), matrix), made("vp"))
    moved = flow(1.0, 0.1, jnp.asarray(x))
    np.testing.assert_allclose(moved.ravel(), flat(1.0, 0.1, jnp.asarray(x.ravel())), rtol=1e-12)
    single = jnp.asarray(x, jnp.float32)
    assert flow(1.0, 0.1, single).dtype == flow.denoiser(0.1, single).dtype == jnp.float32
    assert law(jax.random.key(0)).shape == moved.shape == shape


# fitted to data -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2 * 12, 8, 200], ids=["n > d", "n < d", "n >> d"])
def test_shrinkage_is_that_of_ledoit_and_wolf(n):
    d = 12
    data = RNG.normal(size=(n, d)) @ np.diag(np.linspace(0.2, 3.0, d)) + 1.0
    truth, _ = ledoit_wolf(data)
    law = fit_gaussian(data)
    np.testing.assert_allclose(law.cov(), truth, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(law.mean, data.mean(0), rtol=1e-12)
    assert law.vectors.shape == (d, min(n - 1, d))


def test_a_given_shrinkage_and_a_rank():
    data = RNG.normal(size=(50, 5)) * np.array([3.0, 2.0, 1.0, 0.5, 0.2])
    S = np.cov(data.T, bias=True)
    values, vectors = np.linalg.eigh(S)
    np.testing.assert_allclose(fit_gaussian(data, shrinkage=0.0).cov(), S, atol=1e-10)
    shrunk = 0.7 * S + 0.3 * np.trace(S) / 5 * np.eye(5)
    np.testing.assert_allclose(fit_gaussian(data, shrinkage=0.3).cov(), shrunk, atol=1e-10)
    law = fit_gaussian(data, shrinkage=0.0, rank=2)
    lead = vectors[:, -2:]
    probabilistic = lead @ np.diag(values[-2:]) @ lead.T + values[:3].mean() * (np.eye(5) - lead @ lead.T)
    np.testing.assert_allclose(law.cov(), probabilistic, atol=1e-10)
    np.testing.assert_allclose(jnp.trace(law.cov()), np.trace(S), rtol=1e-10)
    both = fit_gaussian(data[:3], shrinkage=0.3, rank=1)  # fewer rows than numbers, and fewer directions than rows
    np.testing.assert_allclose(jnp.trace(both.cov()), np.trace(np.cov(data[:3].T, bias=True)), rtol=1e-10)


def test_a_pixel_that_never_changes_leaves_a_regular_covariance():
    data = np.concatenate([RNG.normal(size=(40, 3)), np.ones((40, 1))], 1)
    law = fit_gaussian(data)
    assert float(np.linalg.eigvalsh(law.cov())[0]) > 0
    with pytest.raises(ValueError, match=r"data span 3 of 4 .* singular covariance; pass shrinkage=0.01"):
        fit_gaussian(data, shrinkage=0.0)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: fit_gaussian(np.ones((1, 3))), r"data holds one point, .* pass two rows"),
        (lambda: fit_gaussian(np.ones((4, 3))), r"data do not vary.* pass rows that differ"),
        (lambda: fit_gaussian(RNG.normal(size=(2, 3))), r"data span 1 of 3 .* pass shrinkage=0.01"),
        (lambda: fit_gaussian(RNG.normal(size=(5, 3)), rank=4), r"rank must be at most the number of coordinates, 3"),
        (lambda: fit_gaussian(RNG.normal(size=(5, 3)), shrinkage=1.5), r"shrinkage must lie in \[0, 1\], got 1.5"),
        (lambda: gaussian_law(np.zeros(2), np.ones((2, 2))), r"covariance is singular: .*fit_gaussian, which shrinks"),
        (lambda: gaussian_law(np.zeros(2), 0.0), r"covariance is singular"),
        (
            lambda: low_rank_gaussian(np.zeros(2), np.array([[1.0], [0.0]]), np.ones(1), 0.0),
            r"rest must be positive",
        ),
        (
            lambda: gaussian_flow(gaussian_law(np.zeros(2), 1.0), made("vp"))(1.0, 1.5, jnp.zeros(2)),
            r"^t must be a time",
        ),
        (lambda: gaussian_flow(gaussian_law(np.zeros(2), 1.0), made("vp")).log_det(-0.5, 1.0), r"^s must be a time"),
    ],
)
def test_what_has_no_gaussian_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_a_law_for_each_class_is_the_law_of_its_rows():
    """Stacked, of one rank: a class of few rows spans few directions, and the others keep as many."""
    rng = np.random.default_rng(0)
    labels = np.repeat([1, 0, 2], [4, 30, 20])
    data = rng.normal(size=(54, 6)) + 3.0 * labels[:, None]
    stacked = fit_gaussian(data, labels=labels)
    assert stacked.vectors.shape == (3, 6, 3)
    for k in range(3):
        law, alone = jax.tree.map(lambda leaf, k=k: leaf[k], stacked), fit_gaussian(data[labels == k], rank=3)
        np.testing.assert_allclose(law.mean, data[labels == k].mean(0), rtol=1e-5)
        np.testing.assert_allclose(law.cov(), alone.cov(), atol=1e-5)
    with pytest.raises(ValueError, match="labels give class 1 1 rows, too few for a covariance"):
        fit_gaussian(data, labels=np.append(np.zeros(53, int), 1))
