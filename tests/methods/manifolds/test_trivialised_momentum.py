"""Momentum on groups: the noise against closed forms and Stein's identity, the reversal with an exact score."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bridgejax as bj
from bridgejax import manifolds as mf
from bridgejax.methods.manifolds import trivialised_momentum as tm

BOTH = mf.Product(mf.Torus(1), mf.SO(3))


def within(values, truth, bias=0.0):
    values = np.asarray(values, np.float64)
    error = values.std(0, ddof=1) / math.sqrt(len(values))
    assert np.all(np.abs(values.mean(0) - truth) < 5 * error + bias), (values.mean(0), truth, error)


@pytest.mark.parametrize("known", [True, False])
def test_coefficients_are_those_of_the_sums(known):
    """Against the sums themselves in extended precision, on both sides of the switch to series."""
    h = np.array([0.01, 0.1, 0.29, 0.31, 1.0, 8.0])
    law = tm._from_known if known else tm._from_unknown
    got = np.asarray(jax.vmap(lambda h: jnp.stack(law(h)))(jnp.float32(h)), np.float64)
    x = h.astype(np.longdouble)
    gone = -np.expm1(-x)
    spread = 2 * x - 3 + 4 * np.exp(-x) - np.exp(-2 * x) if known else 2 * (x - 1 + np.exp(-x))
    covariance, total = (gone**2, 1 - np.exp(-2 * x)) if known else (gone, np.ones_like(x))
    means = [gone, np.exp(-x)] if known else [0 * x, 0 * x]
    want = np.stack([*means, spread, covariance, total - covariance**2 / spread], 1).astype(float)
    np.testing.assert_allclose(got, want, rtol=1e-4)


@pytest.mark.parametrize("group", [mf.Torus(2), mf.SO(2), mf.SO(3), mf.U(2), BOTH], ids=repr)
def test_the_target_is_a_score(group):
    """Stein: E <s, f xi> = -E div_xi (f xi) for functions f of g, at 5 s.e.; f = 1 and a function that is odd in g."""
    e = tm.identity(group)
    start = group.uniform(jax.random.key(5))

    def one(key):
        g, xi, residual, rest = tm.noised(group, key, start, jnp.asarray(0.8), 10)
        along = group.inner(e, jax.tree.map(lambda r: -r / rest, residual), xi) + group.dim
        return along, along * jnp.sum(group.features(g)), group.inner(e, xi, xi) / group.dim

    along, weighted, square = jax.jit(jax.vmap(one))(bj.keys(jax.random.key(1), 20_000))
    within(along, 0.0)
    within(weighted, 0.0)
    within(square, 1.0)  # the momentum keeps its law


def test_turns_have_their_law(key):
    """On a circle E cos D = exp(-Var D / 2), one step or many, and E xi sin D = Cov exp(-Var D / 2)."""
    t = 0.8
    spread, covariance = 2 * (t - 1 + math.exp(-t)), 1 - math.exp(-t)
    for group, steps in ((mf.Torus(1), 1), (mf.SO(2), 1), (mf.SO(2), 7)):
        draw = jax.jit(jax.vmap(lambda k, group=group, steps=steps: tm.noised(group, k, tm.identity(group), t, steps)))
        g, xi, _, _ = draw(bj.keys(key, 40_000))
        flat = isinstance(group, mf.Torus)
        angle = g[:, 0] if flat else jnp.arctan2(g[:, 1, 0], g[:, 0, 0])
        speed = xi[:, 0] if flat else xi[:, 1, 0]
        within(jnp.cos(angle), math.exp(-spread / 2))
        within(speed * jnp.sin(angle), covariance * math.exp(-spread / 2))


def exact(T, mean, variance, t, x, args):
    """u of data N(mean, variance) on a circle, as a network: -sqrt(v) (score + xi), by the sum over windings."""
    cosine, sine, xi = x[0], x[1], x[2]
    turned = jnp.arctan2(sine, cosine) - mean + 2 * jnp.pi * jnp.arange(-6, 7)
    t = jnp.maximum(t, tm.FIRST * T)
    step = tm._from_unknown(t)
    total = variance + step.spread
    rest = 1 - step.covariance**2 / total
    share = step.covariance * turned / total
    logits = -0.5 * turned**2 / total - 0.5 * (xi - share) ** 2 / rest
    score = jnp.sum(jax.nn.softmax(logits) * -(xi - share) / rest)
    return -jnp.sqrt(tm._variance(t)) * (score + xi)[None]


@pytest.mark.parametrize("sampler", ["ode", "sde"])
def test_with_the_exact_score_it_ends_at_the_data(sampler, key):
    mean, variance, T = 0.7, 0.25, 8.0
    network = (lambda params, t, x, args: exact(T, mean, variance, t, x, args) + 0.0 * params, jnp.zeros(1))
    ts = tm.root_grid(T, 150)
    method = bj.methods.trivialised_momentum(mf.Torus(1), network, sampler=sampler, ts=ts, ema=None)
    x = bj.sample(method.process(method.init(key, None)), bj.keys(key, 10_000))[:, 0]
    bias = 0.01  # of the steps: 0.004 at twice as many
    within(jnp.cos(x - mean), math.exp(-variance / 2), bias)
    within(jnp.cos(2 * (x - mean)), math.exp(-2 * variance), bias)
    within(jnp.sin(x - mean), 0.0, bias)


@pytest.mark.parametrize("group", [mf.SO(3), mf.SU(2), BOTH], ids=repr)
def test_samples_lie_on_the_group(group, key):
    data = jax.vmap(group.uniform)(bj.keys(key, 16))
    for sampler in tm.SAMPLERS:
        method = bj.methods.trivialised_momentum(group, sampler=sampler, walk=2, ts=tm.root_grid(8.0, 5))
        state = method.init(key, data)
        state, metrics = jax.jit(method.step)(state, key, data)
        assert all(bool(jnp.isfinite(value)) for value in metrics.values())
        process = method.process(state)
        y = jax.vmap(process.start, (0, None))(bj.keys(key, 4), None)
        back = jax.jit(jax.vmap(lambda k, y, p=process: bj.simulate(p.dynamics, k, y, p.ts)))(bj.keys(key, 4), y)
        e, unravel = tm.identity(group), tm.ravel_pytree(tm.identity(group))[1]
        assert bool(jnp.all(jax.vmap(group.contains)(back[0])))
        algebra = jax.vmap(lambda flat, u=unravel: tm.ravel_pytree(group.to_tangent(e, u(flat)))[0])(back[1])
        np.testing.assert_allclose(algebra, back[1], atol=1e-5)  # the momentum stays in the algebra


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bj.methods.trivialised_momentum(mf.Sphere(2)), "manifold must be a group.*Sphere"),
        (lambda: bj.methods.trivialised_momentum(mf.Torus(1), T=0.0), "T must be positive"),
        (lambda: bj.methods.trivialised_momentum(mf.Torus(1), sampler="exact"), "sampler must be one of"),
    ],
)
def test_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
