"""Every kernel at its stationary law, the published slips shown wrong, and annealed chains on a Gaussian product."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from bridgejax.bridges import compose
from bridgejax.processes import schedules
from bridgejax.processes._keys import keys
from bridgejax.processes.mixtures import gaussian_mixture, mixture_score
from bridgejax.solve import grids
from bridgejax.weigh import mcmc

CHAINS, MOVES = 8192, 100
VP = schedules.vp()
GRID = np.linspace(-4.0, 4.0, 100_001)
WELLS = np.exp(-2 * (GRID**2 - 1) ** 2)
TRUTH = {"normal": (1.0, 3.0), "wells": tuple(float(np.sum(WELLS * GRID**k) / np.sum(WELLS)) for k in (2, 4))}


def target(wells, x):
    """N(0, 1), or exp(-2 (x^2 - 1)^2)."""
    return jnp.where(wells, -2.0 * jnp.sum((x**2 - 1.0) ** 2), -0.5 * jnp.sum(x**2))


def moments(kernel, move, normal, wells, by_score=False):
    """{law: (mean, standard error) of x^2 and x^4}, with the step sizes ``normal`` and ``wells``."""

    def one(key, law, size):
        log_density = Partial(target, law)
        score, known = jax.grad(log_density), None if by_score else log_density
        key, start, momentum = jax.random.split(key, 3)
        x = jnp.where(law, jnp.sign(jax.random.normal(start, (1,))), jax.random.normal(start, (1,)))
        chain = mcmc.start_chain(score, known, x, jax.random.normal(momentum, (1,)))

        def turn(chain, key):
            chain, _ = kernel(move, score, known, key, chain, size)
            return chain, jnp.stack([chain.x[0] ** 2, chain.x[0] ** 4])

        return jnp.mean(jax.lax.scan(turn, chain, jax.random.split(key, MOVES))[1][MOVES // 2 :], axis=0)

    law = jnp.arange(2 * CHAINS) >= CHAINS
    sizes = jnp.where(law, wells, normal)
    values = np.asarray(jax.jit(jax.vmap(one))(keys(jax.random.key(1), 2 * CHAINS), law, sizes), np.float64)
    found = {"normal": values[:CHAINS], "wells": values[CHAINS:]}
    return {name: (v.mean(axis=0), v.std(axis=0) / np.sqrt(CHAINS)) for name, v in found.items()}


def deviations(found, name):
    mean, error = found[name]
    assert np.all(error < 0.03 * np.array(TRUTH[name]))
    return (mean - np.array(TRUTH[name])) / error


@pytest.mark.parametrize("move", [mcmc.mala(), mcmc.hmc(leapfrogs=2, persistence=0.9)])
def test_adjusted_moves_leave_their_target_invariant(move):
    found = moments(mcmc.step, move, 0.8, 0.35)
    for name in TRUTH:
        assert np.all(np.abs(deviations(found, name)) < 5), (name, found[name])


@pytest.mark.parametrize(
    "move", [mcmc.ula(), pytest.param(mcmc.uhmc(leapfrogs=3, persistence=0.5), marks=pytest.mark.slow)]
)
def test_unadjusted_moves_have_the_variance_of_their_step(move):
    """Leapfrog conserves x^2 (1 - e^2/4) + v^2 of N(0, 1): its variance is 1 / (1 - e^2/4), 1.19 at e = 0.8."""
    mean, error = moments(mcmc.step, move, 0.8, 0.1)["normal"]
    assert abs(mean[0] - 1.0 / (1.0 - 0.16)) < 5 * error[0]
    assert abs(mean[0] - 1.0) > 20 * error[0]


def wrong_mala(move, score, log_density, key, chain, size):
    """Exponents -|.|^2 / (2 h^2) in place of -|.|^2 / (4 h), as published."""
    h = 0.5 * size**2
    noise_key, accept_key = jax.random.split(key)
    y = chain.x + h * chain.score + jnp.sqrt(2.0 * h) * jax.random.normal(noise_key, chain.x.shape)
    new = mcmc.start_chain(score, log_density, y, chain.v)
    there, back = (jnp.sum((a - b - h * s) ** 2) for a, b, s in ((y, chain.x, chain.score), (chain.x, y, new.score)))
    accept = jnp.log(jax.random.uniform(accept_key)) < new.log_density - chain.log_density + (there - back) / (2 * h**2)
    return jax.tree.map(lambda a, b: jnp.where(accept, a, b), new, chain), None


def test_the_published_exponent_is_wrong():
    mean, error = moments(wrong_mala, None, 0.6**0.5, 0.35)["normal"]
    assert mean[0] > 1.5
    assert mean[0] > 1.0 + 20 * error[0]


def no_flip(move, score, log_density, key, chain, size):
    after, outcome = mcmc.step(move, score, log_density, key, chain, size)
    stayed = jnp.all(after.x == chain.x)
    return after._replace(v=jnp.where(stayed, -after.v, after.v)), outcome


def test_without_the_flip_the_law_is_another():
    found = moments(no_flip, mcmc.hmc(leapfrogs=1, persistence=0.9), 0.8, 0.4)
    assert abs(deviations(found, "wells")[0]) > 10


def test_one_leapfrog_step_is_mala():
    """Acceptance by momenta equals that by the Gaussian proposal densities with 4 h."""
    h, size, key = 0.08, 0.4, jax.random.key(3)
    log_density = Partial(target, True)
    chain = mcmc.start_chain(jax.grad(log_density), log_density, jnp.array([0.7]), jnp.zeros(1))
    v = jax.random.normal(jax.random.split(key)[0], (1,))
    y = chain.x + h * chain.score + size * v
    there, back = y - chain.x - h * chain.score, chain.x - y - h * jax.grad(log_density)(y)
    gain = log_density(y) - chain.log_density + float(there[0] ** 2 - back[0] ** 2) / (4 * h)
    outcome = mcmc.step(mcmc.mala(), jax.grad(log_density), log_density, key, chain, jnp.asarray(size))[1]
    np.testing.assert_allclose(outcome.acceptance, min(1.0, np.exp(gain)), rtol=1e-4)


@pytest.mark.slow
def test_a_line_integral_stands_for_the_density():
    """Exact for N(0, 1); on two wells to the trapezoidal rule's error, which 65 nodes make invisible."""
    found = moments(mcmc.step, mcmc.hmc(leapfrogs=1, persistence=0.5, nodes=65), 0.8, 0.3, by_score=True)
    for name in TRUTH:
        assert np.all(np.abs(deviations(found, name)) < 5), (name, found[name])


def test_along_the_path_the_acceptance_is_told_by_the_scores():
    log_density, size = Partial(target, True), 0.3
    score = jax.grad(log_density)
    chain = mcmc.start_chain(score, None, jnp.array([0.6]), jnp.array([1.0]))
    move = mcmc.hmc(difference="path")
    step = jax.jit(jax.vmap(lambda key: mcmc.step(move, score, None, key, chain, jnp.float32(size))))
    after, outcome = step(keys(jax.random.key(0), 32))
    moved = np.asarray(after.x[:, 0] != chain.x[0])
    expected = np.exp(np.minimum(0.0, -(size**2) * (after.score[:, 0] ** 2 - chain.score[0] ** 2) / 8))[moved]
    assert expected.min() < 0.9
    np.testing.assert_allclose(outcome.acceptance[moved], expected, rtol=1e-4)


# annealed -------------------------------------------------------------------------------------------------------------


def mixture_log(law, schedule, t, x, args):
    return law.diffuse(schedule, t).log_prob(x)


def gaussian(mean, variance, energy=True):
    law = gaussian_mixture(jnp.array([mean]), variance)
    log_density = Partial(mixture_log, law, VP) if energy else None
    return compose.density(VP, law.means.shape[1:], log_density=log_density, score=mixture_score(law, VP))


LEVELS = grids.log_snr(12, VP)


@pytest.mark.parametrize("energy", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_annealed_chains_sample_the_product(energy):
    """N(-2, 1) N(2, 1/4) is N(1.2, 0.2), where summed scores end at mean 0.869 and variance 0.145."""
    density = compose.product(gaussian([-2.0], 1.0, energy), gaussian([2.0], 0.25, energy))
    some = keys(jax.random.key(2), 4096)
    found = mcmc.annealed(density, some, LEVELS, transitions=6, reverse_steps=not energy)
    x = np.asarray(found.x, np.float64)
    assert abs(x.mean() - 1.2) < 5 * np.sqrt(0.2 / len(x))
    assert abs(x.var() - 0.2) < 5 * 0.2 * np.sqrt(2 / len(x))
    assert bool(found.valid.all())
    assert int(found.refused) == 0
    assert np.all((found.acceptance > 0.6) & (found.acceptance < 0.95)), found.acceptance  # tuned to 0.8
    if energy:  # one key per chain: in another order they are the same chains
        again = mcmc.annealed(density, some[::-1], LEVELS, transitions=6, step_sizes=found.step_sizes)
        np.testing.assert_array_equal(again.x[::-1], found.x)


def half_line(bad, t, x, args):
    return jnp.where(x[0] < 0.0, bad, -0.5 * jnp.sum(x**2))


def slope(t, x, args):
    return -x


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_points_where_the_density_is_not_finite_are_excluded_and_counted(bad):
    density = compose.density(VP, (1,), log_density=Partial(half_line, bad), score=slope)
    found = mcmc.annealed(density, keys(jax.random.key(0), 2048), LEVELS, step_sizes=0.5)
    assert int(found.refused) > 0
    assert bool(found.valid.all())
    assert float(found.x.min()) >= 0.0
    mean, sd = np.sqrt(2 / np.pi), np.sqrt(1 - 2 / np.pi)
    assert abs(float(found.x.mean()) - mean) < 5 * sd / np.sqrt(2048)


def nowhere(t, x, args):
    return jnp.nan * jnp.sum(x)


def test_what_annealed_refuses():
    density, some = gaussian([0.0], 1.0), keys(jax.random.key(0), 4)
    with pytest.raises(ValueError, match=r"none of the 4 chains ends where the density is finite \(\d+ proposals"):
        mcmc.annealed(compose.density(VP, (1,), log_density=nowhere), some, LEVELS, step_sizes=0.1)
    with pytest.raises(ValueError, match="density must be a Density"):
        mcmc.annealed(slope, some, LEVELS)
    with pytest.raises(ValueError, match="move must be made by mcmc"):
        mcmc.annealed(density, some, LEVELS, move="hmc")
    with pytest.raises(ValueError, match=r"step_sizes must be a number or \(13,\)"):
        mcmc.annealed(density, some, LEVELS, step_sizes=jnp.ones(3))
    with pytest.raises(ValueError, match="step_sizes must be positive"):
        mcmc.annealed(density, some, LEVELS, step_sizes=-1.0)
    with pytest.raises(ValueError, match="difference='energy'"):
        mcmc.annealed(gaussian([0.0], 1.0, energy=False), some, LEVELS, move=mcmc.hmc(difference="energy"))
    with pytest.raises(ValueError, match="target must lie in"):
        mcmc.tune(density, jax.random.key(0), LEVELS, target=1.5)
    with pytest.raises(ValueError, match="persistence must lie in"):
        mcmc.hmc(persistence=1.0)
    with pytest.raises(ValueError, match="leapfrogs must be an integer"):
        mcmc.uhmc(leapfrogs=0)
    with pytest.raises(ValueError, match="difference must be None or one of"):
        mcmc.mala(difference="score")


def test_a_reverse_step_between_levels_is_that_of_ddpm():
    """For a point mass the step is the exact posterior: N(0, sigma_t^2) becomes N(0, sigma_u^2); moves hardly move."""
    schedule, law = schedules.brownian(1.7), gaussian_mixture(jnp.zeros((1, 1)), 0.0)
    density = compose.density(schedule, (1,), score=mixture_score(law, schedule))
    ts = jnp.array([0.0, 0.6, 0.8])
    found = mcmc.annealed(
        density, keys(jax.random.key(4), 4096), ts, move=mcmc.ula(), transitions=1, step_sizes=1e-4, reverse_steps=True
    )
    spread = 1.7**2 * 0.2
    assert abs(float(found.x.var()) / spread - 1.0) < 5 * np.sqrt(2 / 4096)


def test_the_trapezoid_of_a_line_is_exact_for_a_gaussian():
    """Acceptance by 2, 3 and 6 scores on the line is that by the density."""
    log_density, key, size = Partial(target, False), jax.random.key(1), jnp.float32(1.5)
    score = jax.grad(log_density)
    start = jnp.array([0.1]), jnp.array([0.4])
    _, known = mcmc.step(mcmc.mala(), score, log_density, key, mcmc.start_chain(score, log_density, *start), size)
    assert 0.05 < float(known.acceptance) < 0.95
    for nodes in (2, 3, 6):
        move = mcmc.mala(difference="line", nodes=nodes)
        found = mcmc.step(move, score, None, key, mcmc.start_chain(score, None, *start), size)[1]
        np.testing.assert_allclose(found.acceptance, known.acceptance, rtol=1e-5)


def test_a_refreshed_momentum_keeps_its_law():
    """c v + sqrt(1 - c^2) xi: mean 0.6 v and variance 0.64, at a step of no length."""
    score = jax.grad(Partial(target, False))
    chain = mcmc.start_chain(score, None, jnp.array([0.5]), jnp.array([2.0]))
    move = mcmc.uhmc(leapfrogs=1, persistence=0.6)
    v = jax.vmap(lambda k: mcmc.step(move, score, None, k, chain, jnp.float32(1e-6))[0].v[0])(
        keys(jax.random.key(2), 4096)
    )
    assert abs(float(v.mean()) - 1.2) < 5 * 0.8 / 64
    assert abs(float(v.var()) / 0.64 - 1) < 5 * np.sqrt(2 / 4096)


def test_evaluations_are_the_scores_that_a_chain_asks_for():
    """Counted while nothing is compiled: two levels of three moves by a line of four nodes."""
    asked = []

    def counted(t, x, args):
        asked.append(1)
        return -x

    move = mcmc.mala(nodes=4)
    with jax.disable_jit():
        chain = mcmc.start_chain(lambda x: counted(0.0, x, None), None, jnp.zeros(1), jnp.ones(1))
        mcmc.step(move, lambda x: counted(0.0, x, None), None, jax.random.key(0), chain, jnp.float32(0.1))
    density = compose.density(VP, (1,), score=slope)
    found = mcmc.annealed(
        density, keys(jax.random.key(0), 2), jnp.array([0.0, 1.0]), move=move, transitions=3, step_sizes=0.1
    )
    assert found.evaluations == 2 * (1 + 3 * (len(asked) - 1))
