"""LightSB and LightSB-M against an entropic plan that is known: exact conditional moments, both directions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bridgejax as bj
from bridgejax.methods._ends import draw_ends
from bridgejax.methods.schroedinger._potentials import conditional
from bridgejax.metrics import conditional_bw2_uvp, frechet_gaussian
from bridgejax.oracles import entropic_pair
from bridgejax.processes.mixtures import gaussian_mixture

EPSILON, N = 0.5, 20_000
PAIR = entropic_pair(
    gaussian_mixture(np.zeros((1, 2)), 1.0),
    gaussian_mixture(np.array([[-2.0, 0.0], [1.0, 1.5], [1.5, -1.0]]), np.array([[0.2, 0.6], [0.4, 0.3], [0.9, 0.1]])),
    EPSILON,
)


@pytest.fixture(scope="module")
def data():
    """Both ends, in different orders: no pair is given away."""
    x0, x1 = jax.jit(jax.vmap(PAIR.sample))(bj.keys(jax.random.key(0), N))
    return np.asarray(x0), np.asarray(x1)[np.random.default_rng(0).permutation(N)]


def moments(law, x):
    found = law(x)
    return found.mean(), found.cov()


@pytest.mark.slow
@pytest.mark.parametrize(("make", "bar"), [(bj.methods.lightsb, 0.3), (bj.methods.lightsb_m, 1.0)])
def test_the_plan_is_found(data, make, bar):
    """cBW2-UVP by exact moments of both plans, in per cent; the independent plan scores 10 times more, and misses."""
    steps = 800
    method = make(
        epsilon=EPSILON,
        dim=2,
        components=8,
        source=data[0][:400],
        ema=0.99,
        optimizer=optax.adam(optax.cosine_decay_schedule(2e-2, steps)),
        ts=bj.grids.uniform(16),
    )
    state = bj.fit(method, bj.data.Pairs(*data, 512), jax.random.key(1), steps=steps)
    process = method.process(state)
    x0s = jnp.asarray(data[0][:64])
    potential = method.params(state)
    ours = jax.jit(jax.vmap(lambda x: moments(lambda x: conditional(potential, EPSILON, 0.0, x), x)))(x0s)
    truth = jax.jit(jax.vmap(lambda x: moments(lambda x: PAIR.conditional(0.0, x), x)))(x0s)
    total = float(data[1].var(axis=0).sum())
    score = 100 * np.mean([frechet_gaussian(*four) for four in zip(*ours, *truth)]) / total
    blind = conditional_bw2_uvp(np.broadcast_to(data[1][:1000], (64, 1000, 2)), *truth, total)
    assert score < bar
    assert blind > 10 * score
    if make is bj.methods.lightsb:  # simulated, in steps and in one, and back again
        starts, keys = jnp.repeat(x0s, 128, axis=0), bj.keys(jax.random.key(2), 64 * 128)
        walked, exact = (
            conditional_bw2_uvp(
                bj.simulate_batch(process.dynamics, keys, starts, ts).reshape(64, 128, 2), *truth, total
            )
            for ts in (process.ts, [0.0, 1.0])
        )
        floor = 100 * 7 / 4 / 128  # 25 (d + 5) / n, at most
        assert exact < score + floor
        assert walked < score + 2 * floor
        back = bj.sample(process, keys[:400], x=jnp.asarray(data[1][:400]), direction="backward")
        floor = bj.metrics.wasserstein2(data[0][:400], data[0][-400:])
        assert bj.metrics.wasserstein2(back, data[0][-400:]) < 2 * floor
        assert np.isin(np.asarray(back[:, 0]), data[0][:400, 0]).all()  # on rows of the source


@pytest.mark.parametrize("make", [bj.methods.lightsb, bj.methods.lightsb_m])
def test_the_bridge_moves_with_the_data(data, make):
    """Both ends 1,024 further on, and the target 512 more: the same plan, both ways, where digits of float32 allow."""
    near = [np.round(256 * x[:2048]) / 256 for x in data]  # so that the moves are exact
    moves, found = (np.float32([1024.0, 1536.0]), np.float32([0.0, 0.0])), []
    for first, last in moves:
        x0, x1 = near[0] + first, near[1] + last
        method = make(epsilon=EPSILON, dim=2, components=4, source=x0[:64], ts=[0.0, 0.5, 1.0])
        state = bj.fit(method, bj.data.Pairs(x0, x1, 256), jax.random.key(1), steps=40)
        process, keys = method.process(state), bj.keys(jax.random.key(2), 64)
        ahead = bj.sample(process, keys, x=jnp.asarray(x0[:64]))
        found.append((ahead - last, bj.sample(process, keys, x=jnp.asarray(x1[:64]), direction="backward") - first))
    np.testing.assert_allclose(found[0][0], found[1][0], atol=0.02)
    assert np.mean(np.abs(found[0][1] - found[1][1]).max(axis=1) < 0.01) > 0.9  # a row drawn at a tie may be another


def test_draw_ends_takes_data_in_every_form(data):
    key = jax.random.key(0)
    pairs = bj.data.Pairs(*data, 100)
    for form in ({"source": data[0], "target": data[1][:50]}, pairs, pairs.batch):
        x0, x1 = draw_ends(form, key, 250, (2,))
        assert x0.shape == x1.shape == (250, 2)
        np.testing.assert_array_equal(x0, draw_ends(form, key, 250, (2,))[0])
    assert np.isin(np.asarray(x1), data[1]).all()


def make(**changes):
    return bj.methods.lightsb(**{"epsilon": 1.0, "dim": 2, "components": 3, **changes})


BAD = {
    "epsilon": (lambda: make(epsilon=0.0), "epsilon must be positive"),
    "text": (lambda: make(epsilon="1"), "epsilon must be a real number"),
    "m": (lambda: bj.methods.lightsb_m(epsilon=-1.0, dim=2), "epsilon must be positive"),
    "dim": (lambda: make(dim=0), "dim must be an integer >= 1"),
    "components": (lambda: make(components=2.5), "components must be an integer"),
    "source": (lambda: make(source=np.zeros((5, 3))), r"source must have rows of shape \(2,\)"),
    "half a grid": (lambda: make(ts=[0.0, 0.5]), "ts must run from 0 to 1"),
    "nan": (
        lambda: make().init(jax.random.key(0), {n: np.full((9, 2), np.nan) for n in ("source", "target")}),
        "finite",
    ),
    "optimizer": (lambda: make(optimizer="adam"), "optax transformation"),
    "dims": (
        lambda: make().init(jax.random.key(0), {"source": np.zeros((9, 2)), "target": np.zeros((9, 3))}),
        "target rows of shape",
    ),
    "one end": (lambda: make().init(jax.random.key(0), {"x": np.zeros((9, 2))}), "needs source and target"),
    "labels": (
        lambda: make().init(
            jax.random.key(0), {"source": np.zeros((9, 2)), "target": np.zeros((9, 2)), "label": np.zeros(9)}
        ),
        "without condition",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_components_start_with_equal_shares_at_the_mean_source():
    """The potential's variance V is a quantiser cell's, K^(-2/d) of the target's; the plan's is (1/eps + 1/V)^-1."""
    random, components = np.random.default_rng(0), 16
    data = {"source": 1e-3 * random.normal(size=(2000, 2)) + 1.0, "target": 2.0 * random.normal(size=(2000, 2)) - 3.0}
    method = bj.methods.lightsb(epsilon=EPSILON, dim=2, components=components, ema=None)
    state = method.init(jax.random.key(0), {k: v.astype(np.float32) for k, v in data.items()})
    law = conditional(method.params(state), EPSILON, 0.0, jnp.ones(2))
    np.testing.assert_allclose(np.exp(law.log_weights), 1 / components, rtol=0.01)
    wanted = 1 / (1 / EPSILON + components / 4.0)
    np.testing.assert_allclose(law.variances, wanted, rtol=5 * np.sqrt(2 / 1024))


def test_the_divergence_is_flat_at_the_truth():
    """One component: r and S of the pair with a Gaussian potential; gradients of the mean vanish there."""
    pair = entropic_pair(gaussian_mixture([[0.3]], 0.8), gaussian_mixture([[1.0]], 0.6), EPSILON)
    x0, x1 = jax.jit(jax.vmap(pair.sample))(bj.keys(jax.random.key(0), N))
    method = bj.methods.lightsb(epsilon=EPSILON, dim=1, components=1, ema=None)
    spread = 1 / (1 / EPSILON + 1 / 0.6)
    rows, norms = {"source": x0, "target": x1}, []
    state, step = method.init(jax.random.key(1), rows), jax.jit(method.step)
    for off in (0.0, 0.2):
        truth = {
            "beta": jnp.zeros(1),
            "r": jnp.array([[spread / 0.6 + off]]),
            "log_s": jnp.log(jnp.array([[spread / EPSILON]])),
            "centres": jnp.zeros((2, 1)),
        }
        norms.append(
            float(step(state._replace(params={**state.params, **truth}), jax.random.key(2), rows)[1]["grad_norm"])
        )
    assert norms[0] < 5 * 3.0 / np.sqrt(N)
    assert norms[1] > 3 * norms[0]
