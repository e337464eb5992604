"""The path bound: log p at the exact score, less by the divergence of path laws at another, whatever the schedule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from bridgejax.bridges import interpolants, probability_flow, reverse
from bridgejax.objectives import implicit
from bridgejax.processes import SDE, Process, keys, schedules, starts
from bridgejax.processes.mixtures import gaussian_mixture, mixture_denoiser
from bridgejax.solve import grids
from bridgejax.weigh import log_prob

COVARIANCES = [[[0.5, 0.2], [0.2, 0.4]], [[0.3, -0.1], [-0.1, 0.6]]]
MIXTURE = gaussian_mixture([[-1.5, 0.5], [1.0, -0.5]], COVARIANCES, [0.3, 0.7])
XS = jnp.array([[0.0, 0.0], [1.2, -0.8], [-1.5, 1.0], [3.0, 2.0]])
SAMPLES = 512


def process_of(law, schedule, denoiser=None, make=reverse):
    denoiser = mixture_denoiser(law, schedule) if denoiser is None else denoiser
    return Process(law.diffuse(schedule, schedule.T), make(schedule, denoiser=denoiser), grids.uniform(4, schedule.T))


@pytest.mark.parametrize(
    ("name", "divergence"), [("vp", "exact"), ("vp", "hutchinson"), ("rectified", "exact"), ("karras", "exact")]
)
def test_a_mixture_s_density_within_3_errors(name, divergence):
    process = process_of(MIXTURE, getattr(schedules, name)())
    found = jax.vmap(lambda x, k: log_prob(process, k, x, kind="bound", samples=SAMPLES, divergence=divergence))(
        XS, keys(jax.random.key(3), len(XS))
    )
    assert found.kind == "bound"
    truth = jax.vmap(MIXTURE.log_prob)(XS)
    assert np.all(np.abs(found.value - truth) < 3 * found.error)
    # a draw errs by about a nat in two dimensions: else agreement would say nothing
    assert np.all(found.error < 4 / np.sqrt(SAMPLES))


def test_gaussian_data_of_the_control_have_no_error():
    """Data N(0, I): the draws are the control itself, so the bound is log p to rounding, from the flow as well."""
    law, schedule = gaussian_mixture([[0.0, 0.0]], 1.0), schedules.cosine()
    found = log_prob(process_of(law, schedule, make=probability_flow), jax.random.key(0), XS[3], kind="bound")
    np.testing.assert_allclose(found.value, law.log_prob(XS[3]), rtol=1e-5)
    assert found.error < 1e-4


SHIFT = jnp.array([0.8, -0.5])


def shifted(law, schedule, t, x, args):
    """The denoiser whose score is off by SHIFT everywhere."""
    return mixture_denoiser(law, schedule)(t, x, args) + schedule.variance(0.0, t) / schedule.alpha(t) * SHIFT


@pytest.mark.parametrize("t_min", [1e-4, 0.1])
def test_another_score_lacks_the_divergence_of_path_laws(t_min):
    """Data N(m, C) under Brownian noise, a score off by c: on average over data the bound lacks |c|^2 sigma^2 T / 2.

    With the last step at 0.1 it lacks, besides, what the Gaussian step there lacks: the divergence of the posterior of
    x_0 from it, v / 2 (l - 1 - log l) along each axis with l the ratio of variances C / (C + sigma^2 t).
    """
    variance, sigma, n = 0.5, 1.2, 1500
    law, schedule = gaussian_mixture([[0.4, -0.2]], variance), schedules.brownian(sigma)
    process = process_of(law, schedule, Partial(shifted, law, schedule))
    x = jax.vmap(law.sample)(keys(jax.random.key(5), n))
    one = lambda x, k: log_prob(process, k, x, kind="bound", samples=2, t_min=t_min).value  # noqa: E731
    lacks = np.asarray(jax.vmap(law.log_prob)(x) - jax.vmap(one)(x, keys(jax.random.key(6), n)), np.float64)
    ratio = variance / (variance + sigma**2 * t_min)
    step = ratio - 1 - np.log(ratio)  # two axes, a half each
    truth, error = 0.5 * float(SHIFT @ SHIFT) * sigma**2 + step, lacks.std() / np.sqrt(n)
    assert error < 0.1 * truth
    assert lacks.mean() > 5 * error
    assert abs(lacks.mean() - truth) < 5 * error


def test_a_last_step_far_from_the_data_is_counted_exactly():
    """At the exact score only what the Gaussian step lacks: alpha is 0.7 there, and far from 1."""
    variance, t_min, n = 0.5, 0.25, 1500
    law, schedule = gaussian_mixture([[0.4, -0.2]], variance), schedules.vp()
    process = process_of(law, schedule)
    x = jax.vmap(law.sample)(keys(jax.random.key(5), n))
    one = lambda x, k: log_prob(process, k, x, kind="bound", samples=2, t_min=t_min).value  # noqa: E731
    lacks = np.asarray(jax.vmap(law.log_prob)(x) - jax.vmap(one)(x, keys(jax.random.key(6), n)), np.float64)
    signal, noise = float(schedule.alpha(t_min)) ** 2 * variance, float(schedule.variance(0.0, t_min))
    ratio, error = signal / (signal + noise), lacks.std() / np.sqrt(n)
    assert error < 0.05  # without log alpha it would be off by 0.7
    assert abs(lacks.mean() - (ratio - 1 - np.log(ratio))) < 5 * error


def test_its_gradient_is_that_of_implicit_matching():
    """In the parameters of a denoiser, on average over data: the bound is implicit score matching with weight g^2."""
    sigma, t_min, n = 1.2, 0.02, 4000
    schedule = schedules.brownian(sigma)
    x = np.float32(np.random.default_rng(0).normal(0.3, 0.7, (n, 1)))

    def score(params, t, x, args):
        return -params[0] * (x - params[1]) / (0.5 + t)

    def denoiser(params, t, x, args):
        return x + sigma**2 * t * score(params, t, x, args)

    def bound(params, x, key):
        process = Process(
            starts.normal((1,), 1.4), reverse(schedule, denoiser=Partial(denoiser, params)), grids.uniform(4)
        )
        return -log_prob(process, key, x, kind="bound", samples=2, t_min=t_min).value

    # the last step counts as int g^2 = sigma^2 t_min at t_min, so uniform times with an atom there
    loss = implicit(
        interpolants.diffusion(schedule), score, divergence="exact", weight=lambda t: sigma**2 + 0.0 * t,
        times=lambda k: jnp.maximum(jax.vmap(jax.random.uniform)(k), t_min),
    )  # fmt: skip
    params = jnp.array([0.5, 0.8])
    k = keys(jax.random.key(1), n)
    ours = jax.jit(jax.vmap(jax.grad(bound), (None, 0, 0)))(params, x, k)
    theirs = jax.jit(jax.vmap(jax.grad(lambda p, k, x: loss(p, k, x)[0]), (None, 0, 0)))(params, k[:, None], x[:, None])
    (a, da), (b, db) = ((np.mean(g, 0), np.std(g, 0) / np.sqrt(n)) for g in (ours, theirs))
    assert np.all(np.hypot(da, db) < 0.1 * np.max(np.abs(b)))
    assert np.all(np.abs(a - b) < 5 * np.hypot(da, db))


def test_pytree_states_are_their_concatenation():
    schedule = schedules.vp()

    def split(flat, t, x, args):
        out = flat(t, jnp.concatenate([x["a"], x["b"]]), args)
        return {"a": out[:1], "b": out[1:]}

    start = starts.Normal({"a": jnp.zeros(1), "b": jnp.zeros(1)}, 1.0)
    tree = Process(
        start, reverse(schedule, denoiser=Partial(split, mixture_denoiser(MIXTURE, schedule))), grids.uniform(4)
    )
    ours = log_prob(tree, jax.random.key(0), {"a": XS[1, :1], "b": XS[1, 1:]}, kind="bound", samples=4)
    joined = Process(starts.normal((2,)), process_of(MIXTURE, schedule).dynamics, grids.uniform(4))
    theirs = log_prob(joined, jax.random.key(0), XS[1], kind="bound", samples=4)
    np.testing.assert_allclose(ours.value, theirs.value, rtol=1e-4)


GOOD = process_of(MIXTURE, schedules.vp())
BAD = {
    "kind": (lambda k: log_prob(GOOD, k, XS[0], kind="elbo"), "kind must be one of"),
    "samples": (lambda k: log_prob(GOOD, k, XS[0], kind="bound", samples=1), "samples must be an integer >= 2"),
    "t_min": (lambda k: log_prob(GOOD, k, XS[0], kind="bound", t_min=1.0), "t_min must be a noising time inside"),
    "ts": (lambda k: log_prob(GOOD, k, XS[0], kind="bound", ts=[0.0, 1.0]), "ts is for kind='flow'"),
    "schedule": (
        lambda k: log_prob(Process(starts.normal((2,)), SDE(lambda t, x, args: x), GOOD.ts), k, XS[0], kind="bound"),
        "kind='bound' needs a process made from a Schedule",
    ),
    "start": (
        lambda k: log_prob(Process(starts.empirical(XS), GOOD.dynamics, GOOD.ts), k, XS[0], kind="bound"),
        "has no log_prob",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, key):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call(key)
