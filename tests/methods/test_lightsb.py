"""LightSB and LightSB-M against an entropic plan that is known: exact conditional moments, both directions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bridgejax as bj
from bridgejax.bridges.potentials import conditional
from bridgejax.methods.rounds import draw_ends
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
    law = process.sde.land.sample.args  # the potential and epsilon, as learnt
    ours = jax.jit(jax.vmap(lambda x: moments(lambda x: conditional(law[0], law[1], 0.0, x), x)))(x0s)
    truth = jax.jit(jax.vmap(lambda x: moments(lambda x: PAIR.conditional(0.0, x), x)))(x0s)
    total = float(data[1].var(axis=0).sum())
    score = 100 * np.mean([frechet_gaussian(*four) for four in zip(*ours, *truth)]) / total
    blind = conditional_bw2_uvp(np.broadcast_to(data[1][:1000], (64, 1000, 2)), *truth, total)
    assert score < bar
    assert blind > 10 * score
    if make is bj.methods.lightsb:  # simulated, in steps and in one, and back again
        starts, keys = jnp.repeat(x0s, 128, axis=0), bj.keys(jax.random.key(2), 64 * 128)
        walked, exact = (
            conditional_bw2_uvp(bj.simulate_batch(process.sde, keys, starts, ts).reshape(64, 128, 2), *truth, total)
            for ts in (process.ts, [0.0, 1.0])
        )
        floor = 100 * 7 / 4 / 128  # 25 (d + 5) / n, at most
        assert exact < score + floor
        assert walked < score + 2 * floor
        back = bj.sample(process, keys[:400], x=jnp.asarray(data[1][:400]), direction="backward")
        floor = bj.metrics.wasserstein2(data[0][:400], data[0][-400:])
        assert bj.metrics.wasserstein2(back, data[0][-400:]) < 2 * floor
        assert np.isin(np.asarray(back[:, 0]), data[0][:400, 0]).all()  # on rows of the source


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
