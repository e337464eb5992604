"""Bridges that end in a set: exact laws on problems without symmetry, and not one sample outside."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from jax.tree_util import Partial

from bridgejax import methods
from bridgejax.bridges import constrain, constrained
from bridgejax.geometry import domains
from bridgejax.processes import noising, schedules
from bridgejax.processes._keys import keys
from bridgejax.solve import grids, simulate, simulate_batch

N = 20_000
POINTS = jnp.array([[0.0, 1.0], [1.5, -0.5], [-1.0, -1.0], [0.3, 0.2]])
START = jnp.array([0.4, -0.3])
BROWNIAN = schedules.brownian(0.9)


def law(schedule, start=START, points=POINTS, weights=None):
    """P(e_k) ~ pi_k N(e_k; S z0, V)."""
    scale, variance = float(schedule.scale(0.0, 1.0)), float(schedule.variance(0.0, 1.0))
    logits = -0.5 * np.sum((np.asarray(points) - scale * np.asarray(start)) ** 2, axis=1) / variance
    return scipy.special.softmax(logits + (0.0 if weights is None else np.log(weights)))


def shares(x, points=POINTS):
    hits = np.all(np.asarray(x)[:, None, :] == np.asarray(points)[None], axis=-1)
    assert np.all(hits.sum(1) == 1)  # every sample is a point, exactly
    return hits.mean(0)


def run(sde, ts, key, n=N):
    return simulate_batch(sde, keys(key, n), jnp.broadcast_to(START, (n, 2)), ts)


@pytest.mark.parametrize("name", ["brownian", "ou"])
def test_one_step_is_exact_on_an_unsymmetric_set(name, key):
    schedule = BROWNIAN if name == "brownian" else schedules.ou(0.8, 1.1)
    got, want = shares(run(constrain(schedule, domains.FinitePoints(POINTS)), [0.0, 1.0], key)), law(schedule)
    assert np.all(np.abs(got - want) < 5 * np.sqrt(want * (1 - want) / N))


def test_many_steps_converge_to_the_same_law(key):
    """The Euler chain is off at 4 steps and right at 64: O(1/N)."""
    sde, want = constrain(BROWNIAN, domains.FinitePoints(POINTS)), law(BROWNIAN)
    gaps = [np.abs(shares(run(sde, grids.uniform(n), key)) - want).sum() / 2 for n in (4, 64)]
    noise = 5 * np.sqrt(np.sum(want * (1 - want)) / N)
    assert gaps[1] < noise + 0.01
    assert gaps[0] < 0.15


def optimal(weights, schedule, t, x, args):
    """f for target weights pi: the pull to the tilted set less the pull to the set, over g."""
    tilt = jnp.log(weights) + 0.5 * jnp.sum(
        (POINTS - schedule.scale(0.0, 1.0) * START) ** 2, axis=1
    ) / schedule.variance(0.0, 1.0)
    scale, variance = schedule.scale(t, 1.0), jnp.maximum(schedule.variance(t, 1.0), 1e-12)
    logits = -0.5 * jnp.sum((POINTS - scale * x) ** 2, axis=1) / variance
    wanted, plain = (jax.nn.softmax(v) @ POINTS for v in (logits + tilt, logits))
    return schedule.diffusion(t) * scale / variance * (wanted - plain)


def test_the_closed_form_control_gives_the_target_weights(key):
    target = np.array([0.1, 0.2, 0.55, 0.15])
    f = Partial(optimal, jnp.float32(target), BROWNIAN)
    got = shares(run(constrain(BROWNIAN, domains.FinitePoints(POINTS), f), grids.uniform(100), key))
    assert np.abs(got - target).sum() / 2 < 5 * np.sqrt(np.sum(target * (1 - target)) / N) + 0.01


@pytest.mark.parametrize("steps", [1, 50])
def test_truncated_normal_on_an_off_centre_box(steps, key):
    box = domains.Box(jnp.array([0.3, -2.0]), jnp.array([1.0, -0.4]))
    x = np.asarray(run(constrain(BROWNIAN, box), grids.uniform(steps), key), np.float64)
    assert bool(jnp.all(jax.vmap(box.contains)(jnp.float32(x))))
    for k, (low, high) in enumerate(((0.3, 1.0), (-2.0, -0.4))):
        z0 = float(START[k])
        truth = scipy.stats.truncnorm((low - z0) / 0.9, (high - z0) / 0.9, loc=z0, scale=0.9)
        if steps == 1:
            assert scipy.stats.kstest(x[:, k], truth.cdf).pvalue > 1e-6
        error = truth.std() / np.sqrt(N)
        assert abs(x[:, k].mean() - truth.mean()) < 5 * error + (0.0 if steps == 1 else 0.005)
        # a clamp in disguise would pile mass on the edges
        assert np.mean((x[:, k] == np.float32(low)) | (x[:, k] == np.float32(high))) < 1e-3


def test_drift_is_the_gradient_of_log_h():
    """eta = g^2 grad log P(end in the box | x), by differentiating SciPy's probability."""
    schedule, box = schedules.ou(0.8, 1.1), domains.Box(0.3, 1.0)
    sde, free = constrain(schedule, box), noising(schedule)
    for t, x in ((0.2, -0.5), (0.7, 0.6), (0.9, 1.4)):
        scale, sd = float(schedule.scale(t, 1.0)), float(np.sqrt(schedule.variance(t, 1.0)))

        def log_h(x, scale=scale, sd=sd):
            return np.log(np.diff(scipy.special.ndtr((np.array([0.3, 1.0]) - scale * x) / sd))[0])

        slope = (log_h(x + 1e-4) - log_h(x - 1e-4)) / 2e-4
        got = sde.drift(t, jnp.float32([x]), None) - free.drift(t, jnp.float32([x]), None)
        np.testing.assert_allclose(got[0], float(schedule.diffusion_squared(t)) * slope, rtol=2e-3, atol=1e-3)


def test_the_bound_is_the_likelihood_of_the_reference(key):
    """f = 0: int |residual|^2 / 2 - log landing averages to -log P(e_k), for every point."""
    domain, want, n = domains.FinitePoints(POINTS), law(BROWNIAN), 16_000
    last = 0.98

    def one(k, end):
        draw, noise, again = jax.random.split(k, 3)
        t = last * jax.random.uniform(draw)
        share, variance = t, 0.81 * t * (1 - t)
        z = START + share * (end - START) + jnp.sqrt(variance) * jax.random.normal(noise, (2,))
        r = constrained.residual(BROWNIAN, domain, t, z, end)
        z = START + last * (end - START) + jnp.sqrt(0.81 * last * (1 - last)) * jax.random.normal(again, (2,))
        return 0.5 * last * jnp.sum(r**2) - constrain(BROWNIAN, domain).terminal_kernel.log_prob(
            last, 1.0, z, end, None
        )

    for k, end in enumerate(POINTS):
        values = np.asarray(jax.jit(jax.vmap(one, (0, None)))(keys(key, n, k * n), end))
        error = values.std() / np.sqrt(n)
        assert error < 0.1
        assert abs(values.mean() + np.log(want[k])) < 5 * error


EVERY = {
    "box": (domains.Box(-1.0, 0.5), (3,)),
    "half": (domains.HalfLine(), (3,)),
    "grid": (domains.IntegerGrid(0, 4), (4, 4, 1)),
    "categorical": (domains.Categorical(4), (3, 4)),
    "points": (domains.FinitePoints(POINTS), (2,)),
    "sphere": (domains.Sphere(), (3,)),
    "product": (domains.Product([domains.Reals(), domains.Box(0.0, 1.0), domains.Categorical(3)], [1, 2, 3]), (6,)),
}


def wild(t, x, args):
    """A drift that no training would leave behind."""
    return 20.0 * jnp.sin(7.0 * x)


@pytest.mark.parametrize("name", EVERY)
def test_no_sample_outside_whatever_the_drift(name, key):
    domain, shape = EVERY[name]
    sde = constrain(schedules.brownian(1.0), domain, wild)
    x = simulate_batch(sde, keys(key, 2000), jnp.zeros((2000, *shape)), grids.uniform(12))
    assert int(jnp.sum(~jax.vmap(domain.contains)(x))) == 0
    value = simulate(sde, key, jnp.zeros(shape), [0.0, 1.0])
    assert bool(domain.contains(value))


@pytest.mark.parametrize("name", EVERY)
def test_finite_at_both_ends(name):
    domain, shape = EVERY[name]
    sde = constrain(schedules.brownian(1.0), domain)
    for t in (0.0, 1.0 - 1e-6, 1.0):
        f = jax.jit(lambda x, t=t: sde.drift(t, x, None))
        assert np.all(np.isfinite(f(0.3 * jnp.ones(shape))))
        assert np.all(np.isfinite(jax.jit(jax.jacfwd(f))(0.3 * jnp.ones(shape))))


class Plain(domains.Reals):
    """The methods, but no pytree."""


BAD = {
    "pytree": (lambda: constrain(BROWNIAN, Plain()), "must be a pytree"),
    "tilt": (lambda: constrain(BROWNIAN, domains.Box(0, 1), tilt=lambda t, x, args: x), "a tilt needs a finite set"),
    "schedule": (lambda: constrain(3.0, domains.Box(0, 1)), "must be a Schedule"),
    "zero_terminal_snr": (lambda: constrain(schedules.rectified(), domains.Box(0, 1)), "forgets its start"),
    "domain": (lambda: constrain(BROWNIAN, "box"), "domain must have the methods"),
    "f": (lambda: constrain(BROWNIAN, domains.Box(0, 1), 3.0), "f must be a function"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


def to_end(schedule, end, t, x, args):
    return constrained.residual(schedule, domains.Reals(), t, x, end)


def test_a_control_towards_one_end_lands_around_it():
    """f = g S (y - S x) / V, held over the last interval, moves the mean S x of the landing to y; V stays."""
    schedule, end, x, t = schedules.ou(1.4, 0.9), jnp.array([0.8, -1.0]), jnp.array([0.3, 0.5]), 0.4
    land = constrain(schedule, domains.Reals(), Partial(to_end, schedule, end)).terminal_kernel
    y, variance = jnp.array([1.1, 0.2]), float(schedule.variance(t, 1.0))
    want = scipy.stats.norm.logpdf(y, end, np.sqrt(variance)).sum()
    np.testing.assert_allclose(land.log_prob(t, 1.0, x, y, None), want, rtol=1e-5)


def test_a_network_that_predicts_the_end_pushes_by_what_is_left_to_say():
    """g f = g^2 S c F / V with c^2 = V / (1 + V), on top of the reference's own drift."""
    schedule, t, x, said = schedules.ou(1.4, 0.9), 0.4, jnp.array([0.3, 0.5]), jnp.array([0.7, -1.2])
    method = methods.constrained(
        domains.Reals(), schedule, (lambda params, t, x, args: params + 0.0 * x, said), shape=(2,), ema=None
    )
    sde = method.process(method.init(jax.random.key(0), None)).dynamics
    scale, variance = np.exp(-1.4 * 0.6), 0.9**2 / 2.8 * (1 - np.exp(-2.8 * 0.6))
    push = 0.9**2 * scale * np.sqrt(variance / (1 + variance)) / variance
    np.testing.assert_allclose(sde.drift(t, x, None), -1.4 * x + push * said, rtol=1e-4)
