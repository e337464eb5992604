"""One seed, one stream: whatever is given one key draws from keys that nothing else draws from.

``jax.random`` is made to report the key of every draw, also under jit, scan and vmap; then every function is run with
the same key.
"""

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.tree_util import Partial

import bridgejax as bj
from bridgejax.bridges import compose
from bridgejax.methods.conditioning import _losses as conditioning
from bridgejax.methods.generative.constrained import last_step
from bridgejax.oracles import entropic
from bridgejax.processes.mixtures import gaussian_mixture, mixture_score

DRAWS = (
    "bernoulli beta bits categorical choice exponential gamma normal permutation rademacher randint t "
    "truncated_normal uniform"
).split()


@pytest.fixture
def drawn(monkeypatch):
    """``drawn(f)``: the keys that ``f()`` draws from, one pair of words a draw."""
    seen, inside = [], []

    def spy(draw):
        def reporting(key, *args, **kwargs):
            if inside:  # one draw made of others
                return draw(key, *args, **kwargs)
            data = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
            jax.debug.callback(lambda words: seen.extend(map(tuple, np.reshape(words, (-1, 2)).tolist())), data)
            inside.append(draw)
            try:
                return draw(key, *args, **kwargs)
            finally:
                inside.pop()

        return reporting

    for name in DRAWS:
        monkeypatch.setattr(jax.random, name, spy(getattr(jax.random, name)))

    def run(f):
        seen.clear()
        jax.block_until_ready(f())
        jax.effects_barrier()
        return list(seen)

    jax.clear_caches()  # what was compiled before reports nothing
    yield run
    jax.clear_caches()


def words(keys):
    return set(map(tuple, np.reshape(np.asarray(jax.random.key_data(keys)), (-1, 2)).tolist()))


def force(t, x, args):
    return -x


OU = bj.SDE(force, lambda t, x, args: 1.0)
VP = bj.schedules.vp()
LAW = gaussian_mixture(jnp.array([[1.0], [-1.0]]), 0.5)
GRID, LEVELS = bj.grids.uniform(3), bj.grids.uniform(3, 0.9)
SAMPLER = bj.methods.dds(lambda x: -0.5 * jnp.sum(x**2), (lambda p, t, x, a: p * x, jnp.ones(1)), dim=1, ts=GRID)
SAMPLER = SAMPLER.process(SAMPLER.init(jax.random.key(9), None))
DENSITY = compose.density(
    VP, (1,), score=mixture_score(LAW, VP),
    log_density=Partial(lambda law, t, x, args: law.diffuse(VP, t).log_prob(x), LAW),
)  # fmt: skip
FLOW = bj.Process(bj.starts.normal((1,)), bj.probability_flow(VP, Partial(mixture_score(LAW, VP))), GRID)
REVERSED = bj.Process(bj.starts.normal((1,)), bj.reverse(VP, mixture_score(LAW, VP)), GRID, decode=lambda k, x, a: x)
LEVELS4 = bj.domains.IntegerGrid(0, 3)
BOX = bj.Process(bj.starts.point(jnp.zeros(2)), bj.constrain(bj.schedules.brownian(1.0), LEVELS4), GRID)
PAIRS = {"source": np.zeros((8, 1), np.float32), "target": np.ones((8, 1), np.float32)}


PINNED = bj.pin(VP, jnp.ones(1))


def learnt(params, t, x, args):
    return params * x


def rounds(name, **options):
    optimizer = optax.sgd(0.1)
    return getattr(bj.methods, name)(
        (learnt, jnp.ones(())), shape=(1,), cache=4, ts=GRID, optimizer=optimizer, **options
    )


def through_rounds(method, key):
    """What ``fit`` does with a method, all with one key."""
    state = method.init(key, PAIRS)
    state, _ = method.step(state, key, PAIRS)
    return method.refresh(state, key, PAIRS)


def reverse_kl(keys):
    sketch = conditioning.Sketch(OU, jnp.zeros(1), GRID, lambda control, end: GUIDED, (1,))
    return conditioning.reverse_kl(sketch, learnt, jnp.ones(()), keys, None)


GUIDED = bj.guide(OU, bj.Observation(1.0, jnp.ones(1)), start=jnp.zeros(1))
VIEW = bj.interpolants.diffusion(VP)
MATCHING = bj.objectives.matching(VIEW, learnt, "eps", condition_dropout=0.5, null=jnp.zeros(()))
IMPLICIT = bj.objectives.implicit(VIEW, learnt, divergence="hutchinson")
BATCH = {"x": jnp.ones((3, 1)), "args": jnp.ones(3)}

ONE_KEY = {
    "simulate": lambda key: bj.simulate(PINNED, key, jnp.zeros(1), bj.grids.uniform(40), solver=dfx.ShARK()),
    "walk": lambda key: bj.kernels.walk(bj.kernels.euler(OU), key, jnp.zeros(1), GRID).xs,
    "smc": lambda key: bj.smc(
        SAMPLER, key, 4, lambda x: -0.5 * jnp.sum(x**2), threshold=1.0, move=bj.mcmc.hmc(), step_sizes=0.1
    ),  # fmt: skip
    "feynman_kac": lambda key: bj.feynman_kac(DENSITY, key, 4, LEVELS, move=bj.mcmc.hmc(), step_sizes=0.1),
    "tune": lambda key: bj.mcmc.tune(DENSITY, key, LEVELS, chains=3, transitions=2),
    "pcn": lambda key: bj.pcn(GUIDED, key, jnp.zeros(1), GRID, 3),
    "systematic": lambda key: bj.weights.systematic(key, jnp.zeros(4)),
    "log_prob": lambda key: bj.log_prob(FLOW, key, jnp.zeros(1), divergence="hutchinson", ts=GRID * 0.9).value,
    "fit": lambda key: (
        bj.fit(
            bj.methods.diffusion(VP, (learnt, jnp.ones(())), shape=(1,)),
            np.ones((8, 1), np.float32),
            key,
            steps=3,
            batch_size=2,
        ).params
    ),  # fmt: skip
    "dsbm": lambda key: through_rounds(rounds("dsbm"), key).nets,
    "network": lambda key: nnx.state(bj.networks.MLP((1,), width=8, depth=2, rngs=nnx.Rngs(0))),
    "mixture": LAW.sample,
    "target": bj.targets.funnel(3).sample,
    "phase": bj.targets.with_velocity(bj.targets.funnel(3)).sample,
    "plan": lambda key: entropic.random_entropic_pair(key, 2, components=2).source.means,
}

KEY_PER_SAMPLE = {
    "simulate_batch": lambda keys: bj.simulate_batch(OU, keys, jnp.zeros((3, 1)), GRID),
    "sample": lambda keys: (
        bj.sample(REVERSED, keys),
        bj.weighted_samples(SAMPLER, keys, lambda x: -0.5 * jnp.sum(x**2)),
        last_step(bj.schedules.brownian(1.0), LEVELS4, BOX, keys),
    ),
    "superpose": lambda keys: bj.superpose([DENSITY, DENSITY], keys, LEVELS, mode="or"),
    "annealed": lambda keys: bj.mcmc.annealed(DENSITY, keys, LEVELS, step_sizes=0.1, transitions=2, reverse_steps=True),
    "losses": lambda keys: (MATCHING(jnp.ones(()), keys, BATCH), IMPLICIT(jnp.ones(()), keys, BATCH)),
    "guided": reverse_kl,
}


def test_no_two_functions_draw_from_one_key(drawn, key):
    per_sample = bj.keys(key, 3)
    used = {name: set(drawn(lambda f=f: f(key))) for name, f in ONE_KEY.items()}
    used |= {name: set(drawn(lambda f=f: f(per_sample))) for name, f in KEY_PER_SAMPLE.items()}
    # what a caller may draw from beside them: the key, its children, a counter as that of nnx.Rngs, keys of samples
    used["caller"] = words(key[None]) | words(jax.random.split(key, 64)) | words(jax.vmap(key_of_rngs)(jnp.arange(64)))
    used["samples"] = words(per_sample) | words(jax.vmap(lambda k: jax.random.split(k, 64))(per_sample))
    assert all(used.values()), {name: len(found) for name, found in used.items()}
    used["network"] -= used["caller"]  # which it is one of
    names = list(used)
    shared = [(a, b) for i, a in enumerate(names) for b in names[:i] if used[a] & used[b]]
    assert not shared


def key_of_rngs(i):
    return jax.random.fold_in(jax.random.key(0), i)


@pytest.mark.parametrize("name", ["simulate", "walk", "smc", "feynman_kac", "tune", "pcn", "log_prob", "phase"])
def test_no_function_draws_twice_from_a_key(name, drawn, key):
    found = drawn(lambda: ONE_KEY[name](key))
    assert len(found) == len(set(found))


def test_the_diagnosed_last_step_is_that_of_sample(drawn, key):
    keys = bj.keys(key, 3)
    looked = drawn(lambda: last_step(bj.schedules.brownian(1.0), LEVELS4, BOX, keys))
    sampled = drawn(lambda: bj.sample(BOX, keys))
    assert set(looked) == set(sampled)  # a batch is padded, by samples that are thrown away
    assert len(set(looked)) == 6  # noise and last step


@pytest.mark.fast
def test_the_first_weights_of_a_network_are_not_the_first_sample(key):
    """They were: fold_in(key, 0) both."""
    weights = np.asarray(nnx.Linear(1, 1000, rngs=nnx.Rngs(0)).kernel).ravel()
    first = np.asarray(jax.random.normal(bj.keys(key, 1)[0], (1000,)))
    ranks = [np.argsort(np.argsort(x)) for x in (weights, first)]
    assert abs(np.corrcoef(*ranks)[0, 1]) < 5 / np.sqrt(1000)
